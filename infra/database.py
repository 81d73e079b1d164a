"""The relational database: engine, transactions, and translation of its errors.

SQLite by default, with write-ahead log and ``synchronous=FULL``: a commit survives a power cut, not only kill -9.
PostgreSQL where several processes or machines work.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import say

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SYNCHRONOUS = "FULL"
"""How SQLite syncs; only tests, whose files are thrown away, set it to OFF."""
BUSY_TIMEOUT_MS = 15_000
"""How long a writer waits for another one, on either database."""

SCHEMA_LOCK = 0x7269_7665_7201
"""The advisory lock of whoever changes the schema, PostgreSQL: one number for all our programs."""


class Database:
    """Hands out connections. ``write()`` is one transaction and one writer at a time; ``read()`` sees a snapshot.

    ``url`` is SQLAlchemy's (``sqlite:///file``) or libpq's (``postgresql://user@host/name``); raises ConfigurationError
    for any other. Connects when first used.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options, on_connect = _sqlite_options(), _on_connect_sqlite
        if not self.is_sqlite:
            from infra import postgres  # with its driver

            options, on_connect = postgres.options(self.url), postgres.on_connect
        self.engine = sa.create_engine(self.url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "do_connect", _set_private_mode)
        else:
            event.listen(self.engine, "first_connect", postgres.check_encoding, insert=True)
        self._writer = threading.Lock()  # SQLite's own waiting is unfair: threads of one process queue here instead
        event.listen(self.engine, "connect", on_connect)
        self._snapshot = threading.local()
        self._reader = self.engine
        if not self.is_sqlite:
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    session_number = 0
    """Grows where a sole writer had to begin its session anew."""

    def ready(self) -> None:
        """Allow a sole writer (:class:`infra.sole_writer.SoleWriter`) to write; any other may always."""

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises StorageUnavailable when the database cannot be reached, is locked for too long or has no room, and when
        PostgreSQL asks for the transaction to be tried again (a deadlock); nothing has been written then.
        """
        with translated():
            if self.is_sqlite:
                with self._writer, self.engine.connect() as connection:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    with _finish(connection):
                        yield connection
            else:
                with self.engine.begin() as connection:
                    yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection with one snapshot of the database for all its statements."""
        opened = getattr(self._snapshot, "connection", None)
        if opened is not None:
            with translated():
                yield opened
            return
        with translated(), self._reader.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """The reads of this thread within it share one connection and one snapshot, which does not see later writes."""
        with self.read() as connection:
            outer = getattr(self._snapshot, "connection", None)
            self._snapshot.connection = connection
            try:
                yield
            finally:
                self._snapshot.connection = outer

    @contextmanager
    def alter(self) -> Iterator[sa.Connection]:
        """A write transaction that changes the schema: one at a time among all processes, for as long as it takes."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def __str__(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)


class Joined(Database):
    """A database whose transactions are parts of one that is open: what raises is undone alone, the rest stands."""

    def __init__(self, whole: Database, connection: sa.Connection) -> None:
        self.url, self.is_sqlite, self.engine = whole.url, whole.is_sqlite, whole.engine
        self._connection = connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self._connection.begin_nested():
            yield self._connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        yield self._connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield


def lock_inserts(connection: sa.Connection, table: sa.Table) -> None:
    """Lock a table against inserts of others until the end of the transaction.

    For tables whose growing numbers are followed: PostgreSQL gives a number before the commit, so that without this a
    reader could see 6 before 5 and never look back. On SQLite every write transaction is alone.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f'LOCK TABLE "{table.name}" IN SHARE ROW EXCLUSIVE MODE')


SQLITE_ROWS_PER_STATEMENT = (512, 64, 8, 1)
"""Rows of one statement on SQLite. Few sizes, so that prepared statements are used again."""
MAX_VALUES_PER_STATEMENT = 32_000
"""Values of one statement; SQLite takes 32,766."""


def insert_many(connection: sa.Connection, into: str, rows: Sequence[Sequence[Any]], otherwise: str = "") -> None:
    """Insert rows in a few large statements, straight to the driver.

    ``into`` is the statement up to VALUES, ``otherwise`` what follows the values (``ON CONFLICT …``); a column holds
    text, numbers, bytes or truth, and None. For the hot path: SQLAlchemy's bookkeeping for each row costs several times
    what the row does, and a driver that inserts row by row gives up the interpreter as often, which other busy threads
    make it queue for. PostgreSQL is given one array a column, because reading a list of values takes it far longer.

    Raises StorageUnavailable when the database cannot take it.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        columns = list(zip(*rows, strict=True))
        kinds = [_array_of(column) for column in columns]
        names = ", ".join(f"c{i}" if kind else "NULL" for i, kind in enumerate(kinds))
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds if kind)
        given = ", ".join(f"c{i}" for i, kind in enumerate(kinds) if kind)
        values = [list(column) for column, kind in zip(columns, kinds, strict=True) if kind]
        execute(connection, f"{into} SELECT {names} FROM unnest({arrays}) AS given({given}) {otherwise}", values)
        return
    row = f"({', '.join('?' * len(rows[0]))})"
    most = MAX_VALUES_PER_STATEMENT // len(rows[0])
    done = 0
    for size in SQLITE_ROWS_PER_STATEMENT:
        while size <= most and len(rows) - done >= size:
            sql = f"{into} VALUES {', '.join([row] * size)} {otherwise}"
            execute(connection, sql, list(chain.from_iterable(rows[done : done + size])))
            done += size


def execute(connection: sa.Connection, sql: str, values: Sequence[Any]) -> None:
    """A statement without an answer, straight to the driver and in its own spelling. Raises StorageUnavailable."""
    cursor = connection.connection.cursor()
    try:
        with _driver_errors(connection):
            cursor.execute(sql, values)
    finally:
        cursor.close()


def fetch_all(connection: sa.Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows of a query in the driver's spelling as plain tuples: a third of the time that SQLAlchemy's rows take.

    Raises StorageUnavailable.
    """
    result = connection.exec_driver_sql(sql, tuple(values))
    with _driver_errors(connection), result:
        return list(result.cursor.fetchall()) if result.cursor is not None else []


@contextmanager
def _driver_errors(connection: sa.Connection) -> Iterator[None]:
    """Translate errors of the driver that pass to StorageUnavailable."""
    try:
        yield
    except connection.dialect.loaded_dbapi.Error as error:
        if _passes(error):
            raise StorageUnavailable(say("store.database", error=error)) from error
        raise


_POSTGRES_TYPES = {str: "text", bool: "boolean", int: "bigint", float: "double precision", bytes: "bytea"}


def _array_of(column: Sequence[Any]) -> str | None:
    """The PostgreSQL type of a column's values; None when it holds nothing but None."""
    first = next((value for value in column if value is not None), None)
    return next((name for kind, name in _POSTGRES_TYPES.items() if isinstance(first, kind)), None)


@contextmanager
def translated() -> Iterator[None]:
    """Translate operational errors to StorageUnavailable; constraint and statement errors pass unchanged."""
    try:
        yield
    except PoolTimeout as error:
        raise StorageUnavailable(say("store.busy")) from error
    except DBAPIError as error:
        if error.connection_invalidated or (error.orig is not None and _passes(error.orig)):
            raise StorageUnavailable(say("store.database", error=error.orig)) from error
        raise


def _passes(error: BaseException) -> bool:
    """Whether a driver's error is about the state of the database, not about the statement."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & _TRANSIENT_ERRORS) or (getattr(error, "sqlstate", None) or "").startswith(_TRANSIENT_STATES)


_TRANSIENT_ERRORS = {"OperationalError", "InterfaceError"}
"""As every driver names them (PEP 249): among them a deadlock, serialisation, a timeout, a server that ends."""
_TRANSIENT_STATES = ("25",)
"""After a failover the old server is read only (25006); a transaction that idled too long was ended (25P03)."""


@contextmanager
def _finish(connection: sa.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _checked(url: str | sa.URL) -> sa.URL:
    """The URL with the driver we use; its password is in no message."""
    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(say("database.no_url")) from None
    backend = made.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return made.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return made
    raise ConfigurationError(say("database.backend", backend=backend))


def _sqlite_options() -> dict[str, Any]:
    return {
        "connect_args": {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
        "pool_size": 16,
        "max_overflow": 32,
    }


def _set_private_mode(_dialect: Any, _record: Any, arguments: Sequence[Any], _options: Any) -> None:
    """The file, which holds passwords of loggers and citizens' contacts, and the log beside it are the owner's alone.

    SQLite gives the files beside it the mode of the database. A file that is there is never opened here: closing it
    would end SQLite's locks on it in this process, and another process would remove the log that is being written.
    """
    file = str(arguments[0])
    if file in ("", ":memory:") or file.startswith("file:"):
        return
    with suppress(OSError):  # SQLite reports an unusable path when it opens it
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    for name in (file, f"{file}-wal", f"{file}-shm"):
        with suppress(OSError):
            os.chmod(name, 0o600)


def _on_connect_sqlite(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None  # we say BEGIN ourselves: the driver's own habit defers it and locks too late
    cursor = dbapi.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()
