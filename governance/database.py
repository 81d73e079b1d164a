"""The one relational database: engine, transactions, and the translation of its errors.

SQLite by default, with write-ahead log and ``synchronous=FULL``: a commit survives a power cut, not only kill -9
(docs/decisions/0002). PostgreSQL where several workers run.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sensors.errors import StorageUnavailable

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BUSY_TIMEOUT_MS = 15_000


class Database:
    """Hands out connections. ``write()`` is one transaction and one writer at a time; ``read()`` sees a snapshot."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
            options["pool_size"] = 16
            options["max_overflow"] = 32
        self.engine = sa.create_engine(self.url, **options)
        self._writer = threading.Lock()  # SQLite's own waiting is unfair: threads of one process queue here instead
        if self.is_sqlite:
            event.listen(self.engine, "connect", _on_connect)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises StorageUnavailable when the database cannot be reached, is locked for too long or has no room.
        """
        try:
            if self.is_sqlite:
                with self._writer, self.engine.connect() as connection:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    with _finish(connection):
                        yield connection
            else:
                with self.engine.begin() as connection:
                    yield connection
        except (DBAPIError, PoolTimeout) as error:
            raise _translated(error) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database."""
        try:
            with self.engine.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
        except (DBAPIError, PoolTimeout) as error:
            raise _translated(error) from error

    def close(self) -> None:
        self.engine.dispose()


AT_ONCE = (512, 64, 8, 1)
"""Rows of one statement. Few sizes, so that prepared statements are used again."""


def insert_many(connection: sa.Connection, into: str, rows: Sequence[Sequence[Any]], otherwise: str = "") -> None:
    """Insert rows in a few large statements, straight to the driver.

    ``into`` is the statement up to VALUES, ``otherwise`` what follows the values (``ON CONFLICT …``). For the hot path:
    SQLAlchemy's bookkeeping for each row costs several times what the row does, and a driver that inserts row by row
    gives up the interpreter as often, which other busy threads make it queue for.

    Raises StorageUnavailable when the database cannot take it.
    """
    if not rows:
        return
    dialect = connection.dialect
    mark = "?" if dialect.paramstyle == "qmark" else "%s"
    row = f"({', '.join([mark] * len(rows[0]))})"
    cursor = connection.connection.cursor()
    try:
        done = 0
        for size in AT_ONCE:
            while len(rows) - done >= size:
                sql = f"{into} VALUES {', '.join([row] * size)} {otherwise}"
                cursor.execute(sql, list(chain.from_iterable(rows[done : done + size])))
                done += size
    except dialect.loaded_dbapi.OperationalError as error:
        raise StorageUnavailable(f"the database answers: {error}") from error
    finally:
        cursor.close()


@contextmanager
def _finish(connection: sa.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _on_connect(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None  # we say BEGIN ourselves: the driver's own habit defers it and locks too late
    cursor = dbapi.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def _translated(error: DBAPIError | PoolTimeout) -> Exception:
    """Operational trouble becomes StorageUnavailable; a broken constraint or a wrong statement stays what it is."""
    if isinstance(error, PoolTimeout):
        return StorageUnavailable("all connections to the database are busy")
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated:
        return StorageUnavailable(f"the database answers: {error.orig}")
    return error
