"""A PostgreSQL database with one writer of a kind, guarded by an advisory lock of its session."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from infra.database import Database, translated
from infra.errors import SessionRenewed, StorageUnavailable
from infra.texts import say

RELEASE_TIMEOUT_S = 5.0
"""How long to wait for the lock after a lost session: the server frees it only after it has ended the session."""


class SoleWriter(Database):
    """A PostgreSQL database to which at most one process at a time writes as the holder of an advisory lock.

    Every write transaction runs in the one session that holds the lock: a session that is gone takes its transaction
    with it, so that of two processes which both believe they are the writer only one can commit. That needs no lease,
    no clock and no further statement. Programs of another kind write through :class:`Database` as before.
    """

    def __init__(self, url: str | sa.URL, lock: int) -> None:
        super().__init__(url)
        self._lock = lock
        self._session: sa.Connection | None = None
        self._announced = 0
        self._lost_at: float | None = None
        self.superseded = False
        """Another session has the lock after ours was lost; for good."""

    def acquire(self) -> bool:
        """Take the lock if it is free; whether we hold it. Raises StorageUnavailable."""
        with self._writer, translated():
            taken = self._acquire()
            self._announced = self.session_number
            return taken

    def ready(self) -> None:
        """Hold the lock and allow writing; whoever remembers what is stored calls this and then reads it again.

        Raises StorageUnavailable when the server cannot be asked, still holds the lock of our lost session, or has
        given it to another.
        """
        with self._writer, translated():
            if not self._holds():
                raise StorageUnavailable(say("store.other_writer"))
            self._announced = self.session_number

    def confirm(self) -> bool:
        """Whether we still hold the lock; for times when nothing is written.

        A session that was lost is begun anew. Raises StorageUnavailable when the server cannot be asked, or still holds
        the lock of our lost session.
        """
        if not self._writer.acquire(blocking=False):
            return not self.superseded  # a transaction is on its way, and it will find out itself
        try:
            with translated():
                return self._holds()
        finally:
            self._writer.release()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction in the session that holds the lock.

        Raises StorageUnavailable after a session was lost, and SessionRenewed from then until :meth:`ready`: what the
        caller remembers may be older than what another writer did meanwhile, and must be read again first.
        """
        with self._writer, translated():
            if self._session is None:
                self._renew()
            session = self._session
            if session is None:
                raise StorageUnavailable(say("store.other_writer"))
            if self._announced != self.session_number:
                raise SessionRenewed(say("store.session_lost"))
            try:
                with session.begin():
                    yield session
            finally:
                if _is_lost(session):
                    self._drop()

    def close(self) -> None:
        self._drop()
        super().close()

    def _acquire(self) -> bool:
        session = self.engine.connect()
        session.detach()  # closing it must end the session: a pool would keep it, and the lock with it
        taken = bool(session.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._lock})").scalar_one())
        session.rollback()  # the lock belongs to the session and stays
        if taken:
            self._session = session
            self.session_number += 1
        else:
            session.close()
        return taken

    def _holds(self) -> bool:
        """Ask the server whether the session is there, and begin a new one if not; False once another has the lock."""
        if self._session is not None:
            try:
                self._session.exec_driver_sql("SELECT 1")
                self._session.rollback()
            except DBAPIError:
                self._drop()
        if self._session is None:
            self._renew()
        return not self.superseded

    def _renew(self) -> None:
        if self.superseded:
            return
        if self._acquire():
            self._lost_at = None
            return
        self._lost_at = self._lost_at or time.monotonic()
        self.superseded = time.monotonic() - self._lost_at > RELEASE_TIMEOUT_S
        if not self.superseded:
            raise StorageUnavailable(say("store.lock_taken"))

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.invalidate()
            session.close()


def _is_lost(session: sa.Connection) -> bool:
    """Whether a session's connection is of no use any more."""
    if session.invalidated or session.closed:
        return True
    driver: Any = session.connection.dbapi_connection  # a detached one has no record to ask for its driver connection
    return driver is None or bool(driver.closed)
