"""Base class of the threads that write to the time-series server: one at a time, with back-off while it is away."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.periodic import RESTART_AFTER_S, PeriodicWorker
from infra.times import DAY_MS
from ingest.storage.timeseries import ServerError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

POLL_S = 0.5
"""Pause after a round with nothing to send."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
DENIED_PAUSE_S = 30.0
"""Shortest pause after a refused login or a missing bucket."""

EXPIRY_MARGIN_MS = 3_600_000
"""Points that the server would expire within this time are not sent: a slow request would be refused."""


def kept_since(days: int, now_ms: int) -> int:
    """The earliest time (ms UTC) to send to a bucket with this retention; 0 days keep for ever."""
    return now_ms - days * DAY_MS + EXPIRY_MARGIN_MS if days else -(2**53)


@dataclass(frozen=True, slots=True)
class SendingState:
    """Progress of a thread; ``error`` is empty after a successful round."""

    error: str = ""
    sent_rows: int = 0
    refused_lines: int = 0


class SendingWorker(PeriodicWorker):
    """Rounds of :meth:`send`.

    Parameters
    ----------
    lock : PostgreSQL advisory lock held during a round, since a worker that lost its session may not know yet that
        another one runs
    poll_s, backoff_s : pauses after a round with nothing to send, and after one, two … failures
    """

    restart_after_s = RESTART_AFTER_S

    def __init__(self, name: str, database: Database, lock: int, *, poll_s: float, backoff_s: Sequence[float]) -> None:
        super().__init__(name)
        self._database = database
        self._lock = lock
        self._poll_s = poll_s
        self._backoff_s = backoff_s
        self._failures = 0
        self.state = SendingState()

    @abstractmethod
    def send(self) -> int:
        """Send the oldest waiting data; how much, 0 for none. Raises StorageUnavailable."""

    def next_round(self) -> float:
        try:
            sent = self.round()
        except StorageUnavailable as error:
            wait_s = self._backoff_s[min(self._failures, len(self._backoff_s) - 1)]
            if isinstance(error, ServerError):
                wait_s = max(wait_s, error.retry_after_s or 0.0, DENIED_PAUSE_S if error.needs_intervention else 0.0)
            return self._failed(str(error), wait_s)
        except Exception as error:
            log.exception("sending to the time-series server failed", part=self._name)
            return self._failed(f"{type(error).__name__}: {error}", self._backoff_s[-1])
        if self._failures:
            log.info("the time-series server takes points again", part=self._name, after_failures=self._failures)
        self._failures = 0
        return 0.0 if sent else self._poll_s

    def _failed(self, error: str, wait_s: float) -> float:
        if error != self.state.error or self._failures % 20 == 0:
            log.warning("points wait for the time-series server", part=self._name, error=error, next_try_s=wait_s)
        self._failures += 1
        self.state = replace(self.state, error=error)
        return wait_s

    def round(self) -> int:
        """One round; how much was sent, 0 also where another process holds the lock.

        Raises StorageUnavailable; the data stay queued.
        """
        with self._exclusive() as locked:
            sent = self.send() if locked else 0
        self.state = replace(self.state, error="")
        return sent

    @contextmanager
    def _exclusive(self) -> Iterator[bool]:
        """Whether the lock of the database was taken, for the duration of the context."""
        if self._database.is_sqlite:  # one machine; its single-writer lock ends with the process
            yield True
            return
        with self._database.read() as connection:
            yield bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({self._lock})").scalar_one())
