"""End the process when one of its threads has died or hangs for good.

Compose and systemd restart what has ended, not what is unwell.
"""

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
    """Checks that the threads of all ``parts`` run and go on, and calls ``leave`` once when one does not."""

    def __init__(self, parts: Callable[[], Mapping[str, HasThread]], leave: Callable[[], None] = terminate) -> None:
        super().__init__("watchdog")
        self._parts = parts
        self._leave = leave
        self.dead = ""
        """The part that died; empty while all are alive."""
        self.hung = ""
        """The part that will not go on by itself (``restart_after_s``); empty while there is none."""

    def hanging(self) -> list[str]:
        """The parts that have been at one round for too long."""
        return [name for name, part in self._parts().items() if isinstance(part, PeriodicWorker) and part.hangs]

    def next_round(self) -> float:
        if not self.dead and not self.hung:
            parts = self._parts().items()
            self.dead = next((name for name, part in parts if not part.alive), "")
            stuck = (name for name, part in parts if isinstance(part, PeriodicWorker) and part.needs_restart)
            self.hung = next(stuck, "")
            if self.dead or self.hung:
                log.error("a part of this process has died or hangs; the process ends", part=self.dead or self.hung)
                self._leave()
        return EVERY_S
