"""End the process when one of its threads has died: compose and systemd restart what has ended, not what is unwell."""

import os
import signal
from collections.abc import Callable, Mapping

import structlog

from infra.periodic import PeriodicWorker
from riverchief.service import HasThread

log = structlog.get_logger(__name__)

EVERY_S = 1.0


def terminate() -> None:
    """End this process as SIGTERM does."""
    os.kill(os.getpid(), signal.SIGTERM)


class Watchdog(PeriodicWorker):
    """Checks that the threads of all ``parts`` run, and calls ``leave`` once when one does not."""

    def __init__(self, parts: Callable[[], Mapping[str, HasThread]], leave: Callable[[], None] = terminate) -> None:
        super().__init__("watchdog")
        self._parts = parts
        self._leave = leave
        self.dead = ""
        """The part that died; empty while all are alive."""

    def hanging(self) -> list[str]:
        """The parts that have been at one round for too long."""
        return [name for name, part in self._parts().items() if isinstance(part, PeriodicWorker) and part.hangs]

    def next_round(self) -> float:
        if not self.dead:
            self.dead = next((name for name, part in self._parts().items() if not part.alive), "")
            if self.dead:
                log.error("a part of this process has died; the process ends", part=self.dead)
                self._leave()
        return EVERY_S
