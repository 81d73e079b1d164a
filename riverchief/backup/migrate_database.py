"""Copy a site's database into another one: SQLite to PostgreSQL and back.

The source is read in one snapshot and the target filled in one transaction. Before that is committed every row is read
back from the target and compared with what the source gave. So the target holds all or nothing, and a copy that was
interrupted is simply begun again.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from infra.database import Database, insert_many, metadata
from infra.errors import ConfigurationError, WaterError
from infra.texts import say
from ingest.storage.sql import SqlReadings, wide_tables
from riverchief import migrations
from riverchief.single_writer import exclusive_ingest
from sensors.parameters import Catalogue

ROWS_PER_BLOCK = 5_000
"""Rows held in memory."""


class CopyMismatch(WaterError):
    """The copied rows differ from the source; nothing has been kept."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was copied: rows by table, and the texts in which a NUL character was written as ``\\x00`` (PostgreSQL)."""

    rows: dict[str, int]
    readings: int
    mended: int
    seconds: float


def migrate(source: str, target: str, catalogue: Catalogue, progress: Callable[[float], None]) -> Migrated:
    """Copy everything a site has from one database into another that is empty.

    ``progress`` is told the share done, 0 to 1. No ingest may work on either meanwhile; stop the other parts too, for
    what they write after the start is not copied.

    Raises ConfigurationError when an address cannot be used, an ingest is at work, the target holds anything, or a row
    does not fit into it; CopyMismatch when the comparison fails. The target is then as it was, but for empty tables.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        databases = [Database(address) for address in (source, target)]
        for database in databases:
            stack.callback(database.close)
        old, new = databases
        if old.url == new.url:
            raise ConfigurationError(say("migrate.itself", old=old))
        if old.is_sqlite and not Path(old.url.database or "").is_file():
            raise ConfigurationError(say("migrate.none", database=old.url.database))
        for database in databases:
            stack.enter_context(exclusive_ingest(database.url.render_as_string(hide_password=False)))
        _require_empty(new)
        for database in databases:
            migrations.upgrade(database)
        stores = [SqlReadings(database, catalogue) for database in databases]
        reading, writing = stack.enter_context(old.read()), stack.enter_context(new.alter())
        _lift_statement_timeout(reading)
        parameters = stores[0].parameters(reading)
        stores[1].make_columns(writing, parameters)
        copy = _Copy(reading, writing, progress)
        tables = [*metadata.sorted_tables, *wide_tables(parameters)]
        rows = copy.tables(tables)
        for table in metadata.sorted_tables:
            _continue_ids(table, reading, writing)
        readings = sum(stores[0].count().values())
    progress(1.0)
    return Migrated(rows, readings, copy.mended, time.monotonic() - began)


class _Copy:
    """Copies rows: reads, escapes NUL for PostgreSQL, writes, reads back and compares."""

    def __init__(self, source: sa.Connection, target: sa.Connection, progress: Callable[[float], None]) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._knows_nul = target.dialect.name == "sqlite"
        self._done = 0
        self.mended = 0

    def tables(self, tables: Sequence[sa.Table]) -> dict[str, int]:
        """Copy the tables in this order, then compare each; the number of rows by table."""
        counts = {table: _count(self._source, table) for table in tables}
        total = 2 * max(1, sum(counts.values()))
        sums = {}
        for table in tables:
            sums[table] = self._copied(table, total)
        for table in tables:
            read_back = _Sum()
            for rows in _blocks(self._target, table):
                read_back.add(rows)
                self._report_progress(len(rows), total)
            if read_back != sums[table]:
                raise CopyMismatch(say("migrate.differs", name=table.name, read=sums[table].rows, there=read_back.rows))
        return {table.name: sums[table].rows for table in tables}

    def _copied(self, table: sa.Table, total: int) -> "_Sum":
        given = _Sum()
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        straight = table.metadata is not metadata  # readings: very many rows of plain numbers and text
        for rows in _blocks(self._source, table):
            mended = [tuple(self._without_nul(value) for value in row) for row in rows]
            given.add(mended)
            try:
                if straight:
                    insert_many(self._target, f'INSERT INTO "{table.name}" ({names})', mended)
                else:
                    keys = table.columns.keys()
                    self._target.execute(sa.insert(table), [dict(zip(keys, row, strict=True)) for row in mended])
            except (DataError, IntegrityError) as error:
                raise ConfigurationError(say("migrate.no_fit", name=table.name, error=error.orig)) from error
            self._report_progress(len(rows), total)
        return given

    def _without_nul(self, value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            return None  # as SQLite stores it
        if not self._knows_nul and isinstance(value, str) and "\x00" in value:
            self.mended += 1
            return value.replace("\x00", "\\x00")
        return value

    def _report_progress(self, rows: int, total: int) -> None:
        self._done += rows
        self._progress(min(1.0, self._done / total))


class _Sum:
    """A sum of the rows of a table that does not ask for their order, for two databases sort text differently."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        self.rows += len(rows)
        for row in rows:
            digest = hashlib.blake2b(repr([_spelled(value) for value in row]).encode("utf-8", "surrogatepass"))
            self._sum = (self._sum + int.from_bytes(digest.digest()[:32])) % 2**256

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sum) and (self.rows, self._sum) == (other.rows, other._sum)

    __hash__ = None  # type: ignore[assignment]


def _spelled(value: Any) -> Any:
    """A value in the one way both databases give it back."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _blocks(connection: sa.Connection, table: sa.Table) -> Iterator[Sequence[Sequence[Any]]]:
    """All rows, a block at a time, never all in memory."""
    found = connection.execute(sa.select(table).execution_options(yield_per=ROWS_PER_BLOCK))
    for block in found.partitions():
        yield [tuple(row) for row in block]


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _require_empty(database: Database) -> None:
    """Raise ConfigurationError when a table of ours holds a row."""
    ours = [table.name for table in (*metadata.sorted_tables, *wide_tables(()))]
    existing = set(sa.inspect(database.engine).get_table_names())
    with database.read() as connection:
        for name in ours:
            if name in existing and connection.exec_driver_sql(f'SELECT 1 FROM "{name}" LIMIT 1').first() is not None:
                raise ConfigurationError(say("migrate.not_empty", database=database, name=name))


def _lift_statement_timeout(connection: sa.Connection) -> None:
    """Lift the time limit of statements."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _continue_ids(table: sa.Table, source: sa.Connection, target: sa.Connection) -> None:
    """Continue the id sequence of the source, so that no number is issued twice, not even of a deleted row."""
    column = table.autoincrement_column
    if column is None or column.name != "id":
        return
    last = _last_number(table, source)
    if target.dialect.name == "postgresql":
        if last:
            target.exec_driver_sql(f"SELECT setval('{table.name}_id_seq', {last})")
    elif table.dialect_options["sqlite"]["autoincrement"]:
        target.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
        target.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))


def _last_number(table: sa.Table, source: sa.Connection) -> int:
    highest = int(source.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one())
    if source.dialect.name == "postgresql":
        given = source.exec_driver_sql(f"SELECT last_value, is_called FROM {table.name}_id_seq").one()
        return max(highest, given.last_value if given.is_called else 0)
    if table.dialect_options["sqlite"]["autoincrement"]:
        seq = source.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).scalar()
        return max(highest, seq or 0)
    return highest
