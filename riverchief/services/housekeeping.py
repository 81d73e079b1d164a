"""Run the jobs that one worker of a database does for all, while this process holds their lock.

Two of a kind would do no lasting harm, but a later value could be overtaken by an earlier one on its way to the
time-series server. So they run in the process that holds a lock, a file's on SQLite, the database's own on PostgreSQL;
another worker takes over when that process ends.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import sqlalchemy as sa
import structlog

from infra import file_lock
from infra.errors import StorageUnavailable
from infra.periodic import PeriodicWorker
from infra.sole_writer import SoleWriter

log = structlog.get_logger(__name__)

LOCK = 0x7269_7665_7203
"""The advisory lock of the housekeeping; the ingest's is another."""
ASK_EVERY_S = 2.0


class Job(Protocol):
    """A thread that can be started again after it was stopped."""

    def start(self) -> None: ...

    def stop(self, timeout_s: float = ...) -> bool: ...

    @property
    def alive(self) -> bool: ...


class _FileLock:
    """A lock on a file beside the SQLite database; the system takes it from a process that dies."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: IO[str] | None = None

    def acquire(self) -> bool:
        handle = self._file.open("a")
        if not file_lock.lock(handle):
            handle.close()
            return False
        self._handle = handle
        return True

    def confirm(self) -> bool:
        return True

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()


class Housekeeping(PeriodicWorker):
    """Runs ``jobs`` while this process holds the lock."""

    def __init__(self, url: str, jobs: Sequence[Job]) -> None:
        super().__init__("housekeeping")
        self._url = sa.make_url(url)
        self.jobs = jobs
        self._lock = self._fresh()
        self._waiting = False
        self.active = False
        """Whether the jobs run in this process."""

    def _fresh(self) -> "_FileLock | SoleWriter":
        if self._url.get_backend_name() == "sqlite":
            return _FileLock(Path(self._url.database or "riverchief.db").parent / "worker.lock")
        return SoleWriter(self._url, LOCK)

    @contextmanager
    def open(self) -> Iterator[None]:
        """In the end the jobs are stopped and the lock is let go."""
        yield
        self._end()
        with suppress(StorageUnavailable):
            self._lock.close()

    def next_round(self) -> float:
        try:
            if self.active and not self._lock.confirm():
                log.warning("another worker keeps house now", database=str(self._url))
                self._end()
                self._lock.close()
                self._lock = self._fresh()
            elif not self.active and self._lock.acquire():
                self._begin(self._waiting)
            elif not self.active and not self._waiting:
                self._waiting = True
                log.info("another worker keeps house; standing by to take over", database=str(self._url))
        except StorageUnavailable as error:
            log.warning("the lock of the housekeeping cannot be asked for", error=str(error))
        except Exception:
            log.exception("the housekeeping failed and is tried again")
        return ASK_EVERY_S

    def _begin(self, waited: bool) -> None:
        if waited:
            log.warning("the other worker has ended; keeping house from now on", database=str(self._url))
        for job in self.jobs:
            job.start()
        self.active = True

    def _end(self) -> None:
        if self.active:
            self.active = False
            # all are told before any is waited for: an end takes as long as the slowest, not as all of them
            with ThreadPoolExecutor(max(1, len(self.jobs))) as ending:
                list(ending.map(lambda job: job.stop(10), self.jobs))
