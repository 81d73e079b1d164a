"""Databases for the tests: with all tables, at the price of copying a file; and readings in them."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from governance.audit.trail import Verified
from governance.verification import comparison
from infra.database import Database
from riverchief import migrations
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Floats, Ints

COMPILED: dict[Any, Any] = {}
"""The statements that SQLAlchemy compiled, of all engines of this process."""


class _CompilesOnce:
    """A dialect that equals its like, so that an engine finds what another one compiled.

    SQLAlchemy keeps compiled statements by engine. Every test has an engine of its own, so that compiling took a third
    of a short test.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def engine_created(cls, engine: sa.Engine) -> None:
        engine.update_execution_options(compiled_cache=COMPILED)


class _Sqlite(_CompilesOnce, SQLiteDialect_pysqlite):
    supports_statement_cache = True


class _Postgresql(_CompilesOnce, PGDialect_psycopg):
    supports_statement_cache = True


def compile_once() -> None:
    """Share compiled statements among all engines that are made from now on."""
    registry.register("sqlite", __name__, _Sqlite.__name__)
    registry.register("postgresql.psycopg", __name__, _Postgresql.__name__)


def with_tables(database: Database) -> Database:
    """The database, with all tables as a site has them.

    A file that is not there yet becomes a copy of one that was migrated once in this process, which is thirty times
    quicker than migrating it; any other database is migrated, unless it has its tables.
    """
    file = Path(database.url.database or "")
    if database.is_sqlite and not file.exists():
        shutil.copyfile(_migrated(), file)
    elif not sa.inspect(database.engine).has_table("station"):
        migrations.upgrade(database)
    return database


def unguarded(database: Database, *statements: str) -> None:
    """Statements of somebody who owns the database: its triggers do not run."""
    with database.write() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        else:
            query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for name in connection.exec_driver_sql(query).scalars().all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)


def cases_are_in_the_trail(database: Database) -> None:
    """Every case and person is what the trail says: whatever a test did, it did through the program."""
    found = Verified()
    with database.read() as connection:
        comparison.compare(connection, found)
    assert found.faults == []


def stored(
    database: Database,
    store: Any,
    names: Sequence[str],
    series: Mapping[tuple[int, str], tuple[Sequence[int] | Ints, Sequence[float] | Floats]],
    mark: int = PLAIN,
) -> None:
    """Readings written in one transaction, past all checks: (place of the station, parameter) → times and values."""
    known = catalogue()
    lengths = [len(at) for at, _ in series.values()]
    batch = Batch.of(
        np.repeat([station for station, _ in series], lengths).tolist(),
        np.repeat([known.index[parameter] for _, parameter in series], lengths).tolist(),
        np.concatenate([at for at, _ in series.values()]).tolist(),
        np.concatenate([values for _, values in series.values()]).tolist(),
    )
    with database.write() as connection:
        store.write(connection, names, batch, np.full(len(batch), mark, np.int64))


@functools.cache
def _migrated() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="riverchief-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database(f"sqlite:///{folder / 'river.db'}")
    migrations.upgrade(database)
    database.close()  # the last connection folds the write-ahead log into the file
    return folder / "river.db"
