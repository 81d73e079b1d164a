"""A thread that repeats one round of work until it is stopped."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import structlog

from infra.errors import StorageUnavailable

RESTART_AFTER_S = 1800.0
"""For rounds whose steps all have time limits of seconds: our choice, twice the time after which they are named."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class PeriodicWorker(ABC):
    """Runs ``next_round`` until it is stopped; may be started again afterwards."""

    last_error = ""
    """Why the last round failed; empty where it did not."""
    longest_round_s = 900.0
    """A round that takes longer hangs."""
    restart_after_s = math.inf
    """A round that takes longer ends the process, which its supervisor starts again; never, for rounds without a bound
    such as those of retention, backtests and forecasts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._round_since: float | None = None

    def start(self) -> None:
        """Begin, also after a stop; does nothing when it already runs."""
        if self.alive:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> bool:
        """Begin nothing new and finish what is under way; False when that took longer."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    def wake(self) -> None:
        """The next round is now; cheap, never blocks."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def hangs(self) -> bool:
        """Whether the present round has taken too long."""
        return self._present_round_s() > self.longest_round_s

    @property
    def needs_restart(self) -> bool:
        """Whether the present round has taken so long that only another process will go on."""
        return self._present_round_s() > self.restart_after_s

    def _present_round_s(self) -> float:
        """For how long the present round has lasted; 0 between two rounds."""
        since = self._round_since
        return 0.0 if since is None else time.monotonic() - since

    @abstractmethod
    def next_round(self) -> float:
        """One round; seconds until the next, 0 for at once. Must outlive whatever goes wrong in it."""

    @contextmanager
    def outlive(self, work: str) -> Iterator[None]:
        """Log an error of the block and keep it in ``last_error``; ``work`` names in the plural what was to be done."""
        try:
            yield
        except StorageUnavailable as error:
            self.last_error = str(error)
            log.warning(f"{work} wait for the database", error=str(error))
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"
            log.exception(f"a round of {work} failed")

    def open(self) -> AbstractContextManager[None]:
        """Context that is open while the rounds run; nothing, unless overridden."""
        return _nothing()

    def _run(self) -> None:
        with self.open():
            while not self._stopping.is_set():
                self._woken.clear()
                self._round_since = time.monotonic()
                wait_s = self.next_round()
                self._round_since = None
                if wait_s and not self._stopping.is_set():
                    self._woken.wait(wait_s)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
