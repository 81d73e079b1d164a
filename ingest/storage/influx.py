"""The reading store in InfluxDB, by InfluxQL: 1.x and 3.x have it, 2.x with the mapping that ``setup influx`` makes.

Names of measurements and fields: :mod:`ingest.storage.schema`; the connection: :mod:`ingest.storage.timeseries`. A
reading exists where its value and its flag exist. A point's reach is a tag and so part of its key: where a station
moved to another reach, a later flag of an older reading stands under the new reach and the value under the old one.
Such rows are merged here into one row for each time, preferring the station's present reach, which was written last.
Thinning is done by the server, except for buckets with points of several reaches or flags without a value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from infra.texts import say
from ingest.storage import lineprotocol, schema
from ingest.storage.influxql import LATEST_MS, Table, between, identifier, text
from ingest.storage.port import Latest, Series, Window, thin
from ingest.storage.timeseries import ServerError, TimeSeriesServer
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Batch, Flag, Floats, Ints

MAX_NAMED_STATIONS = 64
"""Stations named in a WHERE clause; beyond it all stations are queried and the others dropped."""

_Number = TypeVar("_Number", np.float64, np.int64)

_WATER = identifier(schema.WATER)
_STATION = identifier(schema.STATION)
_REACH = identifier(schema.REACH)


FOREVER_MS = 2**53
"""Beyond any time (ms)."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Points of one station under one reach, ascending in time.

    ``at`` (n,) ms; ``cells`` (n, 3 k) value, flag and tests of each of k parameters, NaN where there is none;
    ``truncated`` whether the server was told to stop before the end.
    """

    reach: str
    at: Ints
    cells: Floats
    truncated: bool = False


class InfluxReadings:
    """A :class:`~ingest.storage.port.ReadingStore` in an InfluxDB database or bucket.

    Parameters
    ----------
    reach_of : callable
        The reach a station belongs to now, "" for none: written with its points, and preferred where there are several.
    """

    def __init__(
        self, server: TimeSeriesServer, catalogue: Catalogue, reach_of: Callable[[str], str] = lambda station: ""
    ) -> None:
        self._server = server
        self._catalogue = catalogue
        self._reach_of = reach_of

    @property
    def recent_store(self) -> Self:
        return self

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()  # the server has none

    def forget(self) -> None:
        """Nothing is remembered that a failed transaction could spoil."""

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        """Durable when it returns, independent of the transaction of ``connection``."""
        self._send(lineprotocol.encode(stations, self._reaches(stations), batch, packed, self._catalogue))

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        self._send(lineprotocol.encode_reflag(stations, self._reaches(stations), batch, packed, self._catalogue))

    def _reaches(self, stations: Sequence[str]) -> list[str]:
        return [self._reach_of(station) for station in stations]

    def _send(self, lines: Sequence[bytes]) -> None:
        if refused := self._server.send(lines):
            counts = {"refused": len(refused), "lines": len(lines)}
            values = {"server": self._server.name, "reason": refused[0].reason, **counts}
            raise ServerError(say("time_series_server.points_refused", **values))

    # -- reading -------------------------------------------------------------------------------------------------------

    def _rows(
        self,
        station: str,
        keys: Sequence[str] | None,
        first_ms: int,
        last_ms: int,
        limit: int | None = None,
        *,
        newest_first: bool = False,
    ) -> tuple[Sequence[str], list[_Rows]]:
        """The parameters found (of ``keys``) and the station's points, first <= time <= last, for each reach.

        With a limit the server may stop after so many points of a reach, counted from the newest if asked to.
        """
        fields = "*::field" if keys is None else _fields(keys)
        order = "DESC" if newest_first else "ASC"
        (tables,) = self._server.influxql(
            f"SELECT {fields} FROM {_WATER} WHERE {_station_is(station)} AND {between(first_ms, last_ms)}"
            f" GROUP BY {_REACH} ORDER BY time {order}{'' if limit is None else f' LIMIT {limit}'}"
        )
        if keys is None:
            columns = {column for table in tables for column in table.columns}
            keys = [p.key for p in self._catalogue.parameters if p.key in columns]
        return keys, [_part(table, keys, limit, newest_first) for table in tables]

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        keys = None if parameters is None else [key for key in parameters if key in self._catalogue]
        if start_ms > end_ms or keys == []:
            return Window.empty()
        return self._window(station, *self._rows(station, keys, start_ms, end_ms))

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        return self._limited(station, parameter, -FOREVER_MS, at_ms - 1, limit, newest_first=True)

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        found = self._limited(station, parameter, start_ms, end_ms - 1, limit, newest_first=False)
        ones = np.ones(len(found), np.int64)
        return Series(found.at, found.value, found.value, found.value, ones, found.packed, None)

    def _limited(
        self, station: str, parameter: str, first_ms: int, last_ms: int, limit: int, *, newest_first: bool
    ) -> Window:
        """The first ``limit`` readings of a range, or the last ones.

        Asks for more points where the first ones do not make enough readings (verdicts alone, several reaches).
        """
        if parameter not in self._catalogue or last_ms < first_ms or limit < 1:
            return Window.empty()
        points = limit
        while True:
            keys, rows = self._rows(station, [parameter], first_ms, last_ms, points, newest_first=newest_first)
            whole = _complete(rows, newest_first=newest_first)
            found = self._window(station, keys, whole)
            if len(found) >= limit or not any(part.truncated for part in rows):
                within_limit = slice(-limit, None) if newest_first else slice(limit)
                return found.take(np.arange(len(found))[within_limit])
            points *= 4

    def _latest_by_readings(self, station: str, parameter: str) -> Latest | None:
        """The newest usable reading of a series, found from its readings."""
        points = 1
        while True:
            found = self.before(station, parameter, FOREVER_MS, points)
            if not len(found):
                return None
            newest = _newest_usable(station, parameter, found)
            if newest.at_ms is not None or len(found) < points:
                return newest
            points *= 16

    def _window(self, station: str, keys: Sequence[str], rows: Sequence[_Rows]) -> Window:
        """Rows of all reaches as one window, sorted by (parameter, at)."""
        rows = [part for part in rows if len(part.at)]
        if not rows or not keys:
            return Window.empty()
        at, cells = _merged(sorted(rows, key=lambda part: (part.reach == self._reach_of(station), part.reach)))
        codes = np.array([self._catalogue.index[key] for key in keys], np.int32)
        order = np.argsort(codes)
        value, flag, tests = (cells[:, i::3][:, order] for i in range(3))
        column, row = np.nonzero(~np.isnan(value.T) & ~np.isnan(flag.T))
        packed = _packed(flag[row, column], tests[row, column])
        return Window(codes[order[column]], at[row], value[row, column], packed)

    def newest(self, station: str) -> Mapping[str, int]:
        return {row.parameter: row.newest_at_ms for row in self.latest([station])}

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        """One request with two statements for each parameter, for any number of stations."""
        keys = self._keys()
        if not keys or stations == []:
            return []
        only = _only(stations)
        statements = []
        for key in keys:
            select = f"SELECT {_fields([key])} FROM {_WATER}"
            last = f"GROUP BY {_STATION}, {_REACH} ORDER BY time DESC LIMIT 1"
            flag = identifier(schema.flag(key))
            statements.append(f"{select}{_where(only)} {last}")
            statements.append(f"{select}{_where([f'{flag} < {int(Flag.SUSPECT)}', *only])} {last}")
        answers = self._server.influxql(*statements)
        wanted = None if stations is None else set(stations)
        found = []
        for key, newest, usable in zip(keys, answers[::2], answers[1::2], strict=True):
            found += [row for row in self._latest_rows(key, newest, usable) if wanted is None or row.station in wanted]
        return sorted(found, key=lambda row: (row.station, row.parameter))

    def _latest_rows(self, key: str, newest: Sequence[Table], usable: Sequence[Table]) -> Iterable[Latest]:
        last = _by_station(newest)
        good = _by_station(usable)
        for station, rows in last.items():
            candidates = good.get(station, [])
            plain = len(rows) == 1 and all(not np.isnan(row[1:3]).any() for row in rows + candidates)
            if not plain:  # several reaches, or a verdict without a reading
                if (one := self._latest_by_readings(station, key)) is not None:
                    yield one
            elif not candidates:
                yield Latest(station, key, None, None, PLAIN, int(rows[0][0]))
            else:
                (row,) = candidates
                packed = int(_packed(row[2:3], row[3:4])[0])
                yield Latest(station, key, int(row[0]), float(row[1]), packed, int(rows[0][0]))

    # -- readings counted together -----------------------------------------------------------------------------------

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        if parameter not in self._catalogue or end_ms <= start_ms:
            return thin(Window.empty(), start_ms, bucket_ms)
        if bucket_ms >= LATEST_MS:
            return thin(self.window(station, start_ms, end_ms - 1, [parameter]), start_ms, bucket_ms)
        value, flag, tests = (identifier(name) for name in _names(parameter))
        range_ = f"FROM {_WATER} WHERE {_station_is(station)} AND {between(start_ms, end_ms - 1)}"
        by = f"GROUP BY time({bucket_ms}ms, {start_ms % bucket_ms}ms), {_REACH} fill(none)"
        usable, verdicts, raised = self._server.influxql(
            f"SELECT mean({value}), min({value}), max({value}), count({value}) {range_}"
            f" AND {flag} < {int(Flag.SUSPECT)} {by}",
            f"SELECT max({flag}) AS worst, count({value}) AS readings, count({flag}) AS verdicts {range_} {by}",
            f"SELECT distinct({tests}) {range_} AND {flag} > {int(Flag.GOOD)} {by}",
        )
        buckets = _Buckets(verdicts, usable, raised)
        if not len(buckets.unclear):
            return buckets.series(bucket_ms)
        first, last = int(buckets.unclear[0]), int(buckets.unclear[-1]) + bucket_ms - 1
        here = thin(self.window(station, first, min(last, end_ms - 1), [parameter]), start_ms, bucket_ms)
        return _replaced(buckets.series(bucket_ms), here, first, last)

    def count(self, stations: Sequence[str] | None = None, before_ms: int | None = None) -> Mapping[str, int]:
        keys = self._keys()
        if not keys or stations == []:
            return {}
        counts = ", ".join(f"count({identifier(key)}) AS {identifier(key)}" for key in keys)
        earlier = between(-FOREVER_MS, FOREVER_MS if before_ms is None else before_ms - 1)
        (tables,) = self._server.influxql(
            f"SELECT {counts} FROM {_WATER}{_where([earlier, *_only(stations)])} GROUP BY {_STATION}, {_REACH}"
        )
        wanted = None if stations is None else set(stations)
        found: dict[str, int] = {}
        several: set[str] = set()
        for table in tables:
            station = table.tags[schema.STATION]
            if wanted is None or station in wanted:
                if station in found:
                    several.add(station)
                found[station] = found.get(station, 0) + int(np.nansum(np.array(table.rows, np.float64)[:, 1:]))
        for station in several:
            found[station] = self._count_once(station, keys, earlier)
        return {station: number for station, number in found.items() if number}

    def _count_once(self, station: str, keys: Sequence[str], range_: str) -> int:
        """The readings of a station that was in several reaches, each time once."""
        statements = [
            f"SELECT count(one) FROM (SELECT last({identifier(key)}) AS one FROM {_WATER}"
            f" WHERE {_station_is(station)} AND {range_} GROUP BY time(1ms) fill(none))"
            for key in keys
        ]
        counted = [table for tables in self._server.influxql(*statements) for table in tables]
        return int(_stacked(counted, 2)[:, 1].sum())

    def _keys(self) -> list[str]:
        """The parameters of which the server has a field."""
        (tables,) = self._server.influxql(f"SHOW FIELD KEYS FROM {_WATER}")
        existing = {row[0] for table in tables for row in table.rows}
        return [p.key for p in self._catalogue.parameters if p.key in existing]


class _Buckets:
    """The answers to the three queries of a thinned series, by bucket."""

    def __init__(self, verdicts: Sequence[Table], usable: Sequence[Table], raised: Sequence[Table]) -> None:
        rows = _stacked(verdicts, 4)
        at = rows[:, 0].astype(np.int64)
        self._at = np.unique(at)
        self._places = {int(ms): i for i, ms in enumerate(self._at)}
        self._flag = np.zeros(len(self._at), np.int64)
        self._flag[self._where(at)] = np.nan_to_num(rows[:, 1]).astype(np.int64)
        self._numbers = np.full((len(self._at), 4), np.nan)
        self._numbers[:, 3] = 0.0
        good = _stacked(usable, 5)
        self._numbers[self._where(good[:, 0])] = good[:, 1:]
        self._tests = np.zeros(len(self._at), np.int64)
        marks = _stacked(raised, 2)
        np.bitwise_or.at(self._tests, self._where(marks[:, 0]), marks[:, 1].astype(np.int64))
        reaches = np.zeros(len(self._at), np.int64)
        np.add.at(reaches, self._where(at), 1)
        lonely = np.zeros(len(self._at), np.bool_)
        lonely[self._where(at[np.nan_to_num(rows[:, 2]) != np.nan_to_num(rows[:, 3])])] = True
        self.unclear = self._at[(reaches > 1) | lonely]

    def _where(self, at: Floats | Ints) -> Ints:
        return np.array([self._places[int(ms)] for ms in at], np.int64)

    def series(self, bucket_ms: int) -> Series:
        mean, low, high, count = self._numbers.T
        return Series(self._at, mean, low, high, count.astype(np.int64), self._flag | self._tests << 4, bucket_ms)


def _replaced(series: Series, part: Series, first_ms: int, last_ms: int) -> Series:
    """A thinned series with the buckets of a stretch replaced."""
    head, tail = series.at < first_ms, series.at > last_ms

    def joined(a: NDArray[_Number], b: NDArray[_Number]) -> NDArray[_Number]:
        return np.concatenate([a[head], b, a[tail]])

    return Series(
        joined(series.at, part.at),
        joined(series.value, part.value),
        joined(series.low, part.low),
        joined(series.high, part.high),
        joined(series.count, part.count),
        joined(series.packed, part.packed),
        series.bucket_ms,
    )


# -- merging rows of several reaches ----------------------------------------------------------------------------------


def _newest_usable(station: str, parameter: str, readings: Window) -> Latest:
    """The newest usable reading of a series, given its newest readings (at least one)."""
    newest = int(readings.at[-1])
    usable = np.flatnonzero((readings.packed & 15) < Flag.SUSPECT)
    if not len(usable):
        return Latest(station, parameter, None, None, PLAIN, newest)
    row = usable[-1]
    at, value, packed = int(readings.at[row]), float(readings.value[row]), int(readings.packed[row])
    return Latest(station, parameter, at, value, packed, newest)


def _packed(flag: Floats, tests: Floats) -> Ints:
    """Flags and tests packed; a good reading has no tests, whatever an earlier flag left there."""
    bits = np.where((flag == Flag.GOOD) | np.isnan(tests), 0, tests).astype(np.int64)
    return flag.astype(np.int64) | bits << 4


def _complete(rows: Sequence[_Rows], *, newest_first: bool) -> list[_Rows]:
    """The rows within the time of which every reach's points are complete."""
    cut = [part for part in rows if part.truncated and len(part.at)]
    if not cut:
        return list(rows)
    if newest_first:
        edge = max(int(part.at[0]) for part in cut)
        complete = [part.at >= edge for part in rows]
    else:
        edge = min(int(part.at[-1]) for part in cut)
        complete = [part.at <= edge for part in rows]
    return [_Rows(part.reach, part.at[mask], part.cells[mask]) for part, mask in zip(rows, complete, strict=True)]


def _merged(rows: Sequence[_Rows]) -> tuple[Ints, Floats]:
    """One row for each time; the cells of a later part replace those of an earlier one, except where empty."""
    if len(rows) == 1:
        return rows[0].at, rows[0].cells
    at = np.unique(np.concatenate([part.at for part in rows]))
    cells = np.full((len(at), rows[0].cells.shape[1]), np.nan)
    for part in rows:
        places = np.searchsorted(at, part.at)
        cells[places] = np.where(np.isnan(part.cells), cells[places], part.cells)
    return at, cells


# -- InfluxQL ----------------------------------------------------------------------------------------------------


def _names(key: str) -> tuple[str, str, str]:
    return key, schema.flag(key), schema.tests(key)


def _fields(keys: Sequence[str]) -> str:
    return ", ".join(identifier(name) for key in keys for name in _names(key))


def _station_is(station: str) -> str:
    return f"{_STATION} = {text(station)}"


def _only(stations: Sequence[str] | None) -> list[str]:
    if stations is None or len(stations) > MAX_NAMED_STATIONS:
        return []
    return [f"({' OR '.join(map(_station_is, stations))})"]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _part(table: Table, keys: Sequence[str], limit: int | None, newest_first: bool) -> _Rows:
    wide = np.array(table.rows, np.float64)
    wide = wide[::-1] if newest_first else wide
    cells = np.full((len(wide), 3 * len(keys)), np.nan)
    columns = {name: i for i, name in enumerate(table.columns)}
    for i, name in enumerate(name for key in keys for name in _names(key)):
        if name in columns:
            cells[:, i] = wide[:, columns[name]]
    truncated = limit is not None and len(wide) >= limit
    return _Rows(table.tags.get(schema.REACH, ""), wide[:, 0].astype(np.int64), cells, truncated)


def _by_station(tables: Sequence[Table]) -> dict[str, list[Floats]]:
    """Station → a row (time, value, flag, tests) for each reach."""
    found: dict[str, list[Floats]] = {}
    for table in tables:
        found.setdefault(table.tags[schema.STATION], []).append(np.array(table.rows[0], np.float64))
    return found


def _stacked(tables: Sequence[Table], width: int) -> Floats:
    rows = [row for table in tables for row in table.rows]
    return np.array(rows, np.float64) if rows else np.empty((0, width))
