"""A thread that repeats one round of work until it is stopped."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import structlog

from infra.errors import StorageUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class PeriodicWorker(ABC):
    """Runs ``next_round`` until it is stopped; may be started again afterwards."""

    last_error = ""
    """Why the last round failed; empty where it did not."""
    longest_round_s = 900.0
    """A round that takes longer hangs."""

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
        since = self._round_since
        return since is not None and time.monotonic() - since > self.longest_round_s

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
