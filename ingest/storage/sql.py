"""The reading store in SQLite or PostgreSQL: one wide row for each (station, time).

Incidents, quarantine and ledger are in the same database, so that a batch is one transaction (docs/decisions/0001). A
parameter has two columns, added when it first appears: the value, and ``{key}_q`` with flag and tests, NULL for a plain
good reading. SQL is written once, with ``?`` for a value; :class:`Dialect` holds the differences.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import sqlalchemy as sa

from infra.database import Database, execute, fetch_all, insert_many
from ingest.storage.port import Latest, Series, Window
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Batch, Flag, Floats, Ints

_UNUSABLE = int(Flag.SUSPECT)
"""Flags from here on mark unusable readings."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """SQL that differs between the databases."""

    create: tuple[str, ...]
    columns: str
    """Selects the columns of ``reading`` in their order."""
    value_column: str
    mark_column: str
    all_tests: str
    """Aggregates the distinct tests of a group as comma-separated text, from the column ``{mark}``."""


SQLITE = Dialect(
    create=(
        """CREATE TABLE IF NOT EXISTS reading (
            station INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (station, at)) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS reading_series (
            station INTEGER NOT NULL, parameter TEXT NOT NULL, PRIMARY KEY (station, parameter)) WITHOUT ROWID""",
    ),
    columns="SELECT name FROM pragma_table_info('reading') ORDER BY cid",
    value_column="ADD COLUMN {name} REAL",
    mark_column="ADD COLUMN {name} INTEGER",
    all_tests="group_concat(DISTINCT {mark} >> 4)",
)
POSTGRESQL = Dialect(
    create=(
        """CREATE TABLE IF NOT EXISTS reading (
            station INTEGER NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (station, at))""",
        """CREATE TABLE IF NOT EXISTS reading_series (
            station INTEGER NOT NULL, parameter TEXT NOT NULL, PRIMARY KEY (station, parameter))""",
    ),
    columns="""SELECT attname FROM pg_attribute
        WHERE attrelid = to_regclass('reading') AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
    # another process may add the same column at this moment
    value_column="ADD COLUMN IF NOT EXISTS {name} DOUBLE PRECISION",
    mark_column="ADD COLUMN IF NOT EXISTS {name} INTEGER",
    all_tests="string_agg(DISTINCT ({mark} >> 4)::text, ',')",
)


class SqlReadings:
    """A :class:`~ingest.storage.port.ReadingStore` in ``database``; several processes may hold one each."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._dialect = SQLITE if database.is_sqlite else POSTGRESQL
        self._catalogue = catalogue
        self._ids: dict[str, int] = {}
        self._cached_stations: list[str] = []
        self._cached_ids = np.empty(0, np.int64)
        self._columns: tuple[str, ...] = ()
        self._committed: tuple[str, ...] = ()
        self._known: dict[str, set[int]] = {}
        with database.alter() as connection:
            for statement in self._dialect.create:
                connection.exec_driver_sql(statement)
        self.forget()

    @property
    def recent_store(self) -> "SqlReadings":
        return self

    def forget(self) -> None:
        """Reload what is cached of the database; called after a failed transaction."""
        with self._database.read() as connection:
            self._columns = self.parameters(connection)
            rows = _query(connection, "SELECT station, parameter FROM reading_series")
            self._known = {}
            for station, parameter in rows:
                self._known.setdefault(parameter, set()).add(station)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        if not len(batch):
            return
        rows, keys = self._rows(connection, stations, batch, packed)
        self._add_columns_and_series(connection, rows, keys)
        into, otherwise = _upsert(keys)
        if self._database.is_sqlite:
            insert_many(connection, into, rows.tolist(), otherwise)  # which stores NaN as NULL
        else:
            from infra.postgres import Doubles  # with the driver

            columns = [Doubles(column) for column in rows.T]
            execute(connection, f"{into} {_unnested(len(keys))} {otherwise}", columns)

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        if not len(batch):
            return
        ids = self._station_ids(connection, stations)
        for code in np.unique(batch.parameter):
            key = self._catalogue.parameters[code].key
            rows = np.flatnonzero(batch.parameter == code)
            marks = [None if mark == PLAIN else mark for mark in packed[rows].tolist()]
            values = zip(marks, ids[batch.station[rows]].tolist(), batch.at[rows].tolist(), strict=True)
            sql = f'UPDATE reading SET "{key}_q" = ? WHERE station = ? AND at = ?'
            connection.exec_driver_sql(_with_paramstyle(connection, sql), list(values))

    def _rows(
        self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints
    ) -> tuple[Floats, list[str]]:
        """The batch as wide rows [station, at, values …, marks …]; a double holds ms and ids exactly."""
        ids = self._station_ids(connection, stations)[batch.station]
        order = np.lexsort((batch.at, ids))
        ids, at = ids[order], batch.at[order]
        first = np.empty(len(at), np.bool_)
        first[0] = True
        first[1:] = (ids[1:] != ids[:-1]) | (at[1:] != at[:-1])
        row = np.cumsum(first) - 1
        codes, column = np.unique(batch.parameter[order], return_inverse=True)
        width = len(codes)
        rows = np.full((int(row[-1]) + 1, 2 + 2 * width), np.nan)
        rows[:, 0], rows[:, 1] = ids[first], at[first]
        rows[row, 2 + column] = batch.value[order]
        marks = packed[order]
        marked = marks != PLAIN
        rows[row[marked], 2 + width + column[marked]] = marks[marked]
        return rows, [self._catalogue.parameters[code].key for code in codes]

    def _add_columns_and_series(self, connection: sa.Connection, rows: Floats, keys: Sequence[str]) -> None:
        """Add the columns and series that appear for the first time."""
        self.make_columns(connection, keys)
        for i, key in enumerate(keys):
            columns = self._known.setdefault(key, set())
            new = set(rows[~np.isnan(rows[:, 2 + i]), 0].astype(np.int64).tolist()) - columns
            if new:
                series = [(station, key) for station in sorted(new)]
                insert_many(connection, "INSERT INTO reading_series", series, "ON CONFLICT DO NOTHING")
                columns |= new

    def make_columns(self, connection: sa.Connection, keys: Sequence[str]) -> None:
        """Add columns for parameters that have none."""
        for key in keys:
            if key not in self._columns:
                value = self._dialect.value_column.format(name=f'"{key}"')
                mark = self._dialect.mark_column.format(name=f'"{key}_q"')
                connection.exec_driver_sql(f"ALTER TABLE reading {value}")
                connection.exec_driver_sql(f"ALTER TABLE reading {mark}")
                self._columns = (*self._columns, key)

    def _station_ids(self, connection: sa.Connection, stations: Sequence[str]) -> Ints:
        """(stations,) ids by registry position, -1 for an unknown station; cached, since every batch has the same
        stations."""
        if stations != self._cached_stations or (self._cached_ids < 0).any():
            if any(key not in self._ids for key in stations):
                self._ids = dict(tuple(row) for row in _query(connection, "SELECT key, id FROM station"))
            self._cached_stations = list(stations)
            self._cached_ids = np.array([self._ids.get(key, -1) for key in stations], np.int64)
        return self._cached_ids

    # -- reading -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[None]:
        return self._database.snapshot()

    def newest(self, station: str) -> Mapping[str, int]:
        with self._database.read() as connection:
            id_ = self._id(connection, station)
            found = _query(connection, "SELECT parameter FROM reading_series WHERE station = ?", id_).fetchall()
            keys = self._known_of(parameter for (parameter,) in found)
            if not keys:
                return {}
            newest = (
                f'(SELECT at FROM reading WHERE station = ? AND "{key}" IS NOT NULL ORDER BY at DESC LIMIT 1)'
                for key in keys
            )
            row = _query(connection, f"SELECT {', '.join(newest)}", *[id_] * len(keys)).fetchone()
        return {key: int(at) for key, at in zip(keys, row, strict=True) if at is not None}

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        with self._database.read() as connection:
            keys = self._known_of(self._readable(connection, parameters), parameters)
            if not keys:
                return Window.empty()
            sql = f"SELECT at, {_pairs(keys)} FROM reading WHERE station = ? AND at BETWEEN ? AND ? ORDER BY at"
            rows = _rows(connection, sql, self._id(connection, station), start_ms, end_ms)
        return self._to_window(rows, keys)

    def stretch(self, connection: sa.Connection, station: str, start_ms: int, end_ms: int, limit: int) -> Window:
        """The readings of the oldest ``limit`` instants of [start, end), locked until the transaction ends."""
        keys = self._known_of(self.parameters(connection))
        if not keys:
            return Window.empty()
        any_ = " OR ".join(f'"{key}" IS NOT NULL' for key in keys)
        sql = (
            f"SELECT at, {_pairs(keys)} FROM reading WHERE station = ? AND at >= ? AND at < ? AND ({any_}) "
            f"ORDER BY at LIMIT ?{'' if self._database.is_sqlite else ' FOR SHARE'}"  # SQLite has one writer at a time
        )
        rows = _rows(connection, sql, self._id(connection, station), start_ms, end_ms, limit)
        return self._to_window(rows, keys)

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        with self._database.read() as connection:
            if parameter not in self._known_of(self._readable(connection, [parameter])):
                return Window.empty()
            sql = (
                f"SELECT at, {_pairs([parameter])} FROM reading "
                f'WHERE station = ? AND at < ? AND "{parameter}" IS NOT NULL ORDER BY at DESC LIMIT ?'
            )
            rows = _rows(connection, sql, self._id(connection, station), at_ms, limit)
        return self._to_window(rows[::-1], [parameter])

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        """By the newest row of each station; only what that leaves open is searched for, series by series."""
        with self._database.read() as connection:
            keys = sorted(self._known_of(self.parameters(connection)))
            ids = None if stations is None else self._ids_of(connection, stations)
            if not keys or ids == []:
                return []
            found: list[Latest] = []
            names: dict[int, str] = {}
            missing: dict[str, list[int]] = {}
            rows = _query(connection, _newest_rows(keys, ids), *(ids or ())).fetchall()
            for id_, name, at, *cells in sorted(rows, key=itemgetter(1)):
                names[id_] = name
                for key, value, mark in zip(keys, cells[::2], cells[1::2], strict=True):
                    if value is None or (mark is not None and mark & 15 >= _UNUSABLE):
                        missing.setdefault(key, []).append(id_)
                    else:
                        found.append(Latest(name, key, at, value, PLAIN if mark is None else mark, at))
            if missing:
                found += self._searched(connection, names, missing)
                found.sort(key=attrgetter("station", "parameter"))
        return found

    def _searched(
        self, connection: sa.Connection, names: Mapping[int, str], missing: Mapping[str, Sequence[int]]
    ) -> list[Latest]:
        """The newest of those series that exist, each searched for by itself."""
        found = []
        for parameter, ids in missing.items():
            for id_, newest, at, value, mark in _query(connection, _latest(parameter, ids), *ids):
                if newest is not None:
                    packed = PLAIN if mark is None else mark
                    found.append(Latest(names[id_], parameter, at, value, packed, newest))
        return found

    def _ids_of(self, connection: sa.Connection, stations: Sequence[str]) -> list[int]:
        wanted = set(stations)
        return [id_ for key, id_ in _query(connection, "SELECT key, id FROM station") if key in wanted]

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        with self._database.read() as connection:
            if parameter not in self.parameters(connection):
                return _series([], None)
            sql = f'SELECT at, "{parameter}", "{parameter}_q" FROM reading {_range(parameter)} ORDER BY at LIMIT ?'
            rows = _rows(connection, sql, self._id(connection, station), start_ms, end_ms, limit)
        return _series([(at, v, v, v, 1, PLAIN if q is None else q) for at, v, q in rows], None)

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        with self._database.read() as connection:
            if parameter not in self.parameters(connection):
                return _series([], bucket_ms)
            sql = _thinned(parameter, self._dialect, _range(parameter))
            id_ = self._id(connection, station)
            rows = _query(connection, sql, start_ms, bucket_ms, id_, start_ms, end_ms).fetchall()
        return _series(
            [
                (start_ms + b * bucket_ms, mean, low, high, n, _merged(flag, t))
                for b, mean, low, high, n, flag, t in rows
            ],
            bucket_ms,
        )

    def count(self, stations: Sequence[str] | None = None) -> Mapping[str, int]:
        with self._database.read() as connection:
            keys = self.parameters(connection)
            names = {id_: key for key, id_ in _query(connection, "SELECT key, id FROM station")}
            if not keys:
                return {}
            cells = " + ".join(f'count("{key}")' for key in keys)
            rows = _query(connection, f"SELECT station, {cells} FROM reading GROUP BY station").fetchall()
        return {names[id_]: n for id_, n in rows if id_ in names and (stations is None or names[id_] in stations)}

    def parameters(self, connection: sa.Connection) -> tuple[str, ...]:
        """The parameters that have columns; read each time, since another process may have added one."""
        names = [name for (name,) in _query(connection, self._dialect.columns)]
        return tuple(name for name in names[2:] if not name.endswith("_q"))

    def _readable(self, connection: sa.Connection, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The parameters that have columns, read only where not all of the wanted ones had some before.

        ``connection`` reads only and has not read yet: a column that was committed stays.
        """
        if wanted is None or not set(wanted) <= set(self._committed):
            self._committed = self.parameters(connection)
        return self._committed

    def _known_of(self, keys: Iterable[str], wanted: Sequence[str] | None = None) -> list[str]:
        """Those in the catalogue: a newer version may have stored parameters that this one does not know."""
        return [key for key in keys if key in self._catalogue and (wanted is None or key in wanted)]

    def _id(self, connection: sa.Connection, station: str) -> int:
        if station not in self._ids:
            row = _query(connection, "SELECT id FROM station WHERE key = ?", station).fetchone()
            if row is None:
                return -1
            self._ids[station] = int(row[0])
        return self._ids[station]

    def _to_window(self, rows: Sequence[Any], keys: Sequence[str]) -> Window:
        """Wide rows (at, value, mark, value, mark …) to a window sorted by (parameter, at)."""
        if not rows:
            return Window.empty()
        wide = np.array(rows, np.float64)
        at = wide[:, 0].astype(np.int64)
        value, mark = wide[:, 1::2], wide[:, 2::2]
        codes = np.array([self._catalogue.index[key] for key in keys], np.int32)
        order = np.argsort(codes)
        column, row = np.nonzero(~np.isnan(value[:, order].T))
        marks = mark[row, order[column]]
        packed = np.where(np.isnan(marks), PLAIN, marks).astype(np.int64)
        return Window(codes[order[column]], at[row], value[row, order[column]], packed)


def wide_tables(parameters: Iterable[str]) -> tuple[sa.Table, sa.Table]:
    """The two tables with these parameters as SQLAlchemy tables, in a metadata of their own."""
    apart = sa.MetaData()
    cells = [(sa.Column(key, sa.Double), sa.Column(f"{key}_q", sa.Integer)) for key in parameters]
    key = (sa.Column("station", sa.Integer, primary_key=True), sa.Column("at", sa.BigInteger, primary_key=True))
    reading = sa.Table("reading", apart, *key, *(column for pair in cells for column in pair))
    named = (sa.Column("station", sa.Integer, primary_key=True), sa.Column("parameter", sa.Text, primary_key=True))
    return reading, sa.Table("reading_series", apart, *named)


def _range(parameter: str) -> str:
    return f'WHERE station = ? AND at >= ? AND at < ? AND "{parameter}" IS NOT NULL'


def _pairs(keys: Iterable[str]) -> str:
    return ", ".join(f'"{key}", "{key}_q"' for key in keys)


def _upsert(keys: Sequence[str]) -> tuple[str, str]:
    """An upsert statement before and after its values.

    Absent values change nothing: a row may arrive in parts (five parameters now, ammonia later).
    """
    columns = [f'"{key}"' for key in keys] + [f'"{key}_q"' for key in keys]
    sets = [f'"{key}" = coalesce(excluded."{key}", reading."{key}")' for key in keys]
    sets += [f'"{k}_q" = CASE WHEN excluded."{k}" IS NULL THEN reading."{k}_q" ELSE excluded."{k}_q" END' for k in keys]
    into = f"INSERT INTO reading (station, at, {', '.join(columns)})"
    return into, f"ON CONFLICT (station, at) DO UPDATE SET {', '.join(sets)}"


def _unnested(width: int) -> str:
    """Rows from one array for each column, for PostgreSQL: the statement has few parameters for any number of rows.

    Measured for 2,000 rows of 6 parameters: 10 ms, as fast as COPY into a temporary table (9 ms) without the catalogue
    entries that a temporary table leaves behind; a list of values in the statement takes 90 ms.
    """
    names = [f"c{i}" for i in range(2 + 2 * width)]
    values = [f"nullif({name}, 'NaN')" for name in names[2 : 2 + width]]
    marks = [f"nullif({name}, 'NaN')::integer" for name in names[2 + width :]]
    chosen = ", ".join(["c0::integer", "c1::bigint", *values, *marks])
    return f"SELECT {chosen} FROM unnest({', '.join(['%b'] * len(names))}) AS given({', '.join(names)})"


def _newest_rows(keys: Sequence[str], ids: Sequence[int] | None) -> str:
    """The newest row of each station, or of these: (id, key, at, value, mark, value, mark …)."""
    cells = ", ".join(f'r."{key}", r."{key}_q"' for key in keys)
    only = "" if ids is None else f" AND s.id IN ({_marks(ids)})"
    return (
        f"SELECT s.id, s.key, r.at, {cells} FROM station s CROSS JOIN reading r"  # SQLite keeps the order of this join
        f" WHERE r.station = s.id AND r.at = (SELECT max(at) FROM reading n WHERE n.station = s.id){only}"
    )


def _latest(parameter: str, ids: Sequence[int]) -> str:
    present = f'r.station = s.station AND r."{parameter}" IS NOT NULL'
    usable = f'{present} AND (r."{parameter}_q" IS NULL OR (r."{parameter}_q" & 15) < 3)'
    return (
        f"WITH found AS (SELECT s.station,"
        f" (SELECT at FROM reading r WHERE {present} ORDER BY at DESC LIMIT 1) AS newest,"
        f" (SELECT at FROM reading r WHERE {usable} ORDER BY at DESC LIMIT 1) AS at"
        f" FROM reading_series s WHERE s.parameter = '{parameter}' AND s.station IN ({_marks(ids)})) "
        f'SELECT f.station, f.newest, f.at, r."{parameter}", r."{parameter}_q" '
        f"FROM found f LEFT JOIN reading r ON r.station = f.station AND r.at = f.at"
    )


def _marks(ids: Sequence[int]) -> str:
    return ",".join("?" * len(ids))


def _thinned(parameter: str, dialect: Dialect, where: str) -> str:
    usable = f'CASE WHEN "{parameter}_q" IS NULL OR ("{parameter}_q" & 15) < 3 THEN "{parameter}" END'
    flag = f'max(coalesce("{parameter}_q", {PLAIN}) & 15)'
    tests = dialect.all_tests.format(mark=f'"{parameter}_q"')
    return (
        f"SELECT (at - ?) / ? AS bucket, avg({usable}), min({usable}), max({usable}), count({usable}), {flag}, {tests} "
        f"FROM reading {where} GROUP BY bucket ORDER BY bucket"
    )


def _merged(flag: int, tests: str | None) -> int:
    bits = 0
    for one in (tests or "").split(","):
        bits |= int(one or 0)
    return int(flag) | bits << 4


def _series(rows: Sequence[tuple[Any, ...]], bucket_ms: int | None) -> Series:
    at, value, low, high, count, packed = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 6
    return Series(
        np.array(at, np.int64),
        np.array(value, np.float64),
        np.array(low, np.float64),
        np.array(high, np.float64),
        np.array(count, np.int64),
        np.array(packed, np.int64),
        bucket_ms,
    )


def _rows(connection: sa.Connection, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """All rows of a query, for those that read many."""
    return fetch_all(connection, _with_paramstyle(connection, sql), arguments)


def _query(connection: sa.Connection, sql: str, *arguments: Any) -> Any:
    return connection.exec_driver_sql(_with_paramstyle(connection, sql), tuple(arguments))


def _with_paramstyle(connection: sa.Connection, sql: str) -> str:
    """The statement with the driver's placeholder."""
    return sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s")
