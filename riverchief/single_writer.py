"""Allow one ingest at a time on a database: each keeps the last reading of every series in memory.

On SQLite a lock on a file beside the database says who; the system takes it from a process that dies. On PostgreSQL it
is an advisory lock of the session through which the ingest writes (:class:`infra.sole_writer.SoleWriter`): whoever
loses the session cannot commit any more, so that even an ingest that woke from a long sleep does no harm.

An ingest that finds another one at work on PostgreSQL stands by and takes over when that one ends, however it ends.
What was not acknowledged is delivered to it again.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import structlog

from infra import file_lock
from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable
from infra.sole_writer import SoleWriter
from infra.texts import Text, both, say
from riverchief.signals import on_signal

log = structlog.get_logger(__name__)

INGEST_LOCK = 0x7269_7665_7202
"""The advisory lock of the ingest: one number for all our programs, in each database a lock of its own."""

ASK_EVERY_S = 1.0
"""How often a standby ingest tries to take the lock."""

CONFIRM_EVERY_S = 2.0
"""How often an ingest makes sure of its lock while nothing is written."""

UNSURE_AFTER_S = 60.0
"""After so long without an answer the server has given up our session too, and another ingest may be at work: from then
on both would take the broker's session from each other without end, and one of them has to go."""


@contextmanager
def exclusive_ingest(url: str, *, wait: bool = False) -> Iterator[SoleWriter | None]:
    """Keep other ingests away from a database while this lasts.

    Yields the database through which the ingest must write; None on SQLite, where any connection will do. With ``wait``
    a PostgreSQL ingest stands by while another one works; SIGTERM then ends the process.

    Raises ConfigurationError while another ingest works and nothing is waited for, and StorageUnavailable at the end
    when the lock was lost to another ingest, or may have been: the process has been asked to leave then, and whoever
    watches over it should start it again.
    """
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        with _file_locked(address):
            yield None
        return
    writer = SoleWriter(url, INGEST_LOCK)
    try:
        if wait:
            _stand_by(writer)
        elif not writer.acquire():
            raise ConfigurationError(say("ingest.taken_stop", writer=writer))
        monitor = LockMonitor(writer)
        monitor.start()
        try:
            yield writer
        finally:
            monitor.end()
        if monitor.reason:
            raise StorageUnavailable(monitor.reason)
    finally:
        writer.close()


@contextmanager
def shared_ingest(url: str) -> Iterator[None]:
    """Keep an ingest away that takes the whole database for itself; the workers of a cluster share it.

    Raises ConfigurationError while there is one.
    """
    database = Database(url)
    try:
        with database.read() as connection:
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock_shared({INGEST_LOCK})").scalar_one():
                raise ConfigurationError(say("ingest.taken_stop", writer=database))
            connection.commit()  # the lock belongs to the session and stays as long as this connection is not returned
            yield
    finally:
        database.close()


class LockMonitor:
    """Confirms the lock periodically, and ends the process when it is lost."""

    def __init__(self, writer: SoleWriter) -> None:
        self._writer = writer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self.reason: Text | None = None

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        sure_at = time.monotonic()
        while not self.reason and not self._ended.wait(CONFIRM_EVERY_S):
            try:
                if self._writer.confirm():
                    sure_at = time.monotonic()
                else:
                    self.reason = say("ingest.lock_lost", writer=self._writer)
            except StorageUnavailable as error:
                if time.monotonic() - sure_at > UNSURE_AFTER_S:
                    values = {"writer": self._writer, "seconds": f"{UNSURE_AFTER_S:g}", "error": error.text}
                    self.reason = say("ingest.lock_unsure", **values)
        if self.reason:
            log.error(both(self.reason))
            os.kill(os.getpid(), signal.SIGTERM)


def _stand_by(writer: SoleWriter) -> None:
    """Wait until we hold the lock; SIGTERM meanwhile ends the process."""
    stop_requested = threading.Event()
    with on_signal(lambda *_: stop_requested.set()):
        if writer.acquire():
            return
        log.warning("another ingest works on this database; standing by to take over", database=str(writer))
        while not stop_requested.wait(ASK_EVERY_S):
            try:
                if writer.acquire():
                    log.warning("the other ingest has ended; taking over", database=str(writer))
                    return
            except StorageUnavailable as error:
                log.warning("standing by, the database does not answer", error=str(error))
    raise SystemExit(0)


@contextmanager
def _file_locked(address: sa.URL) -> Iterator[None]:
    if not address.database or address.database == ":memory:":  # nobody else can reach it
        yield
        return
    folder = Path(address.database).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ingest.lock").open("a") as handle:
        if not file_lock.lock(handle):
            raise ConfigurationError(say("ingest.taken", folder=folder))
        yield
