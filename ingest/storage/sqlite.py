"""The embedded reading store: one wide row for each (station, time) in the same SQLite file as everything else.

Being in the same file, a batch's readings, incidents, quarantine and ledger are one transaction (docs/decisions/0002).
A parameter has two columns, added when it first appears: the value, and ``{key}_q`` with flag and tests, NULL for a
plain good reading, so that ordinary rows stay small.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from governance.database import Database, insert_many
from ingest.storage.port import Latest, Series, Window
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Batch, Floats, Ints

_CREATE = """
CREATE TABLE IF NOT EXISTS reading (
    station INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (station, at)
) WITHOUT ROWID
"""
_CREATE_SERIES = """
CREATE TABLE IF NOT EXISTS reading_series (
    station INTEGER NOT NULL, parameter TEXT NOT NULL, PRIMARY KEY (station, parameter)
) WITHOUT ROWID
"""
_EMPTY = Window(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))


class SqliteReadings:
    """A :class:`~ingest.storage.port.ReadingStore` in the file of ``database``."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        self._ids: dict[str, int] = {}
        self._columns: tuple[str, ...] = ()
        self._known: dict[str, set[int]] = {}
        with database.write() as connection:
            connection.exec_driver_sql(_CREATE)
            connection.exec_driver_sql(_CREATE_SERIES)
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered of the file; used after a transaction that failed half way."""
        with self._database.read() as connection:
            self._columns = _columns(connection)
            rows = connection.exec_driver_sql("SELECT station, parameter FROM reading_series")
            self._known = {}
            for station, parameter in rows:
                self._known.setdefault(parameter, set()).add(station)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        if not len(batch):
            return
        rows, keys = self._rows(connection, stations, batch, packed)
        self._make_room(connection, rows, keys)
        insert_many(connection, *_upsert(keys, rows.tolist()))

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        if not len(batch):
            return
        ids = self._station_ids(connection, stations)
        for code in np.unique(batch.parameter):
            key = self._catalogue.parameters[code].key
            rows = np.flatnonzero(batch.parameter == code)
            marks = np.where(packed[rows] == PLAIN, np.nan, packed[rows])
            values = np.column_stack([marks, ids[batch.station[rows]], batch.at[rows]])
            sql = f'UPDATE reading SET "{key}_q" = ? WHERE station = ? AND at = ?'
            connection.exec_driver_sql(sql, [tuple(row) for row in values.tolist()])

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

    def _make_room(self, connection: sa.Connection, rows: Floats, keys: Sequence[str]) -> None:
        """Columns and series that appear for the first time."""
        for key in keys:
            if key not in self._columns:
                connection.exec_driver_sql(f'ALTER TABLE reading ADD COLUMN "{key}" REAL')
                connection.exec_driver_sql(f'ALTER TABLE reading ADD COLUMN "{key}_q" INTEGER')
                self._columns = (*self._columns, key)
        for i, key in enumerate(keys):
            known = self._known.setdefault(key, set())
            new = set(rows[~np.isnan(rows[:, 2 + i]), 0].astype(np.int64).tolist()) - known
            if new:
                series = [(station, key) for station in sorted(new)]
                insert_many(connection, "INSERT OR IGNORE INTO reading_series", series)
                known |= new

    def _station_ids(self, connection: sa.Connection, stations: Sequence[str]) -> Ints:
        """(len(stations),) ids by registry position, -1 for a station that is not in the file."""
        if len(self._ids) < len(stations) or any(key not in self._ids for key in stations):
            self._ids = dict(_query(connection, "SELECT key, id FROM station").fetchall())
        return np.array([self._ids.get(key, -1) for key in stations], np.int64)

    # -- reading -----------------------------------------------------------------------------------------------------

    def newest(self, station: str) -> Mapping[str, int]:
        with self._database.read() as connection:
            id_ = self._id(connection, station)
            keys = [p for (p,) in _query(connection, "SELECT parameter FROM reading_series WHERE station = ?", id_)]
            newest = {}
            for key in keys:
                sql = f'SELECT at FROM reading WHERE station = ? AND "{key}" IS NOT NULL ORDER BY at DESC LIMIT 1'
                if row := _query(connection, sql, id_).fetchone():
                    newest[key] = int(row[0])
            return newest

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        with self._database.read() as connection:
            keys = [key for key in _columns(connection) if parameters is None or key in parameters]
            if not keys:
                return _EMPTY
            sql = f"SELECT at, {_pairs(keys)} FROM reading WHERE station = ? AND at BETWEEN ? AND ? ORDER BY at"
            rows = _query(connection, sql, self._id(connection, station), start_ms, end_ms).fetchall()
        return self._melt(rows, keys)

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        with self._database.read() as connection:
            if parameter not in _columns(connection):
                return _EMPTY
            sql = (
                f"SELECT at, {_pairs([parameter])} FROM reading "
                f'WHERE station = ? AND at < ? AND "{parameter}" IS NOT NULL ORDER BY at DESC LIMIT ?'
            )
            rows = _query(connection, sql, self._id(connection, station), at_ms, limit).fetchall()
        return self._melt(rows[::-1], [parameter])

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        with self._database.read() as connection:
            wanted = None if stations is None else set(stations)
            names = {id_: key for key, id_ in connection.exec_driver_sql("SELECT key, id FROM station")}
            found = []
            series = connection.exec_driver_sql("SELECT station, parameter FROM reading_series").fetchall()
            for parameter in sorted({p for _, p in series}):
                if wanted is None:
                    only, arguments = "", []
                else:
                    arguments = [id_ for id_, key in names.items() if key in wanted]
                    only = f" AND s.station IN ({','.join('?' * len(arguments))})"
                for id_, newest, at, value, mark in _query(connection, _latest(parameter, only), *arguments):
                    if id_ in names and newest is not None:
                        found.append(Latest(names[id_], parameter, at, value, PLAIN if mark is None else mark, newest))
        return sorted(found, key=lambda row: (row.station, row.parameter))

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        with self._database.read() as connection:
            if parameter not in _columns(connection):
                return _series([], None)
            sql = f'SELECT at, "{parameter}", "{parameter}_q" FROM reading {_range(parameter)} ORDER BY at LIMIT ?'
            rows = _query(connection, sql, self._id(connection, station), start_ms, end_ms, limit).fetchall()
        return _series([(at, v, v, v, 1, PLAIN if q is None else q) for at, v, q in rows], None)

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        with self._database.read() as connection:
            if parameter not in _columns(connection):
                return _series([], bucket_ms)
            sql = _thinned(parameter, _range(parameter))
            id_ = self._id(connection, station)
            rows = _query(connection, sql, start_ms, bucket_ms, id_, start_ms, end_ms).fetchall()
        return _series(
            [
                (start_ms + b * bucket_ms, mean, low, high, n, _merged(flag, t))
                for b, mean, low, high, n, flag, t in rows
            ],
            bucket_ms,
        )

    def gaps(
        self, station: str, parameter: str, start_ms: int, end_ms: int, longer_than_ms: int
    ) -> list[tuple[int, int]]:
        at = self.window(station, start_ms, end_ms, [parameter]).at
        edges = np.concatenate([[start_ms], at, [end_ms]])
        wide = np.flatnonzero(np.diff(edges) > longer_than_ms)
        return [(int(edges[i]), int(edges[i + 1])) for i in wide]

    def count(self, stations: Sequence[str] | None = None) -> Mapping[str, int]:
        with self._database.read() as connection:
            keys = _columns(connection)
            names = {id_: key for key, id_ in connection.exec_driver_sql("SELECT key, id FROM station")}
            if not keys:
                return {}
            cells = " + ".join(f'count("{key}")' for key in keys)
            rows = connection.exec_driver_sql(f"SELECT station, {cells} FROM reading GROUP BY station").fetchall()
        return {names[id_]: n for id_, n in rows if id_ in names and (stations is None or names[id_] in stations)}

    def _id(self, connection: sa.Connection, station: str) -> int:
        if station not in self._ids:
            row = _query(connection, "SELECT id FROM station WHERE key = ?", station).fetchone()
            if row is None:
                return -1
            self._ids[station] = int(row[0])
        return self._ids[station]

    def _melt(self, rows: Sequence[Any], keys: Sequence[str]) -> Window:
        """Wide rows (at, value, mark, value, mark …) to a window sorted by (parameter, at)."""
        if not rows:
            return _EMPTY
        wide = np.array([tuple(row) for row in rows], np.float64)
        at = wide[:, 0].astype(np.int64)
        value, mark = wide[:, 1::2], wide[:, 2::2]
        codes = np.array([self._catalogue.index[key] for key in keys], np.int32)
        order = np.argsort(codes)
        column, row = np.nonzero(~np.isnan(value[:, order].T))
        marks = mark[row, order[column]]
        packed = np.where(np.isnan(marks), PLAIN, marks).astype(np.int64)
        return Window(codes[order[column]], at[row], value[row, order[column]], packed)


def _columns(connection: sa.Connection) -> tuple[str, ...]:
    names = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(reading)")]
    return tuple(name for name in names[2:] if not name.endswith("_q"))


def _range(parameter: str) -> str:
    return f'WHERE station = ? AND at >= ? AND at < ? AND "{parameter}" IS NOT NULL'


def _pairs(keys: Iterable[str]) -> str:
    return ", ".join(f'"{key}", "{key}_q"' for key in keys)


def _upsert(keys: Sequence[str], rows: list[list[float]]) -> tuple[str, list[list[float]], str]:
    """Absent values leave what is stored alone: a row may arrive in parts (five parameters now, ammonia later)."""
    columns = [f'"{key}"' for key in keys] + [f'"{key}_q"' for key in keys]
    sets = [f'"{key}" = coalesce(excluded."{key}", "{key}")' for key in keys]
    sets += [f'"{k}_q" = CASE WHEN excluded."{k}" IS NULL THEN "{k}_q" ELSE excluded."{k}_q" END' for k in keys]
    into = f"INSERT INTO reading (station, at, {', '.join(columns)})"
    return into, rows, f"ON CONFLICT (station, at) DO UPDATE SET {', '.join(sets)}"


def _latest(parameter: str, only: str) -> str:
    present = f'r.station = s.station AND r."{parameter}" IS NOT NULL'
    usable = f'{present} AND (r."{parameter}_q" IS NULL OR (r."{parameter}_q" & 15) < 3)'
    return (
        f"WITH found AS (SELECT s.station,"
        f" (SELECT at FROM reading r WHERE {present} ORDER BY at DESC LIMIT 1) AS newest,"
        f" (SELECT at FROM reading r WHERE {usable} ORDER BY at DESC LIMIT 1) AS at"
        f" FROM reading_series s WHERE s.parameter = '{parameter}'{only}) "
        f'SELECT f.station, f.newest, f.at, r."{parameter}", r."{parameter}_q" '
        f"FROM found f LEFT JOIN reading r ON r.station = f.station AND r.at = f.at"
    )


def _thinned(parameter: str, where: str) -> str:
    usable = f'CASE WHEN "{parameter}_q" IS NULL OR ("{parameter}_q" & 15) < 3 THEN "{parameter}" END'
    flag = f'max(coalesce("{parameter}_q", {PLAIN}) & 15)'
    tests = f'group_concat(DISTINCT "{parameter}_q" >> 4)'
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


def _query(connection: sa.Connection, sql: str, *arguments: Any) -> Any:
    return connection.exec_driver_sql(sql, tuple(arguments))
