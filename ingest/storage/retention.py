"""What leaves the database: whole months older than it is to keep, once the long-term store is proven to have them.

A month goes in three steps, and a kill between or within them loses and doubles nothing:

1. each station's readings of the month are laid into the long-term store, which reads them back and compares;
2. the *edge* moves to the month's end: from now on readers ask the long-term store too (they ask the database first and
   read the edge afterwards, so that what leaves meanwhile is not missed);
3. the readings are deleted, a few at a time. Each transaction compares what it deletes with what the long-term store
   holds and takes itself back when anything differs: late data or another verdict stay for the next round.

What the checks look back on and what is shown as the latest stays, however old it is: a station that was silent for a
year still has a last reading, and its tests something to compare with.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
import structlog

from infra.database import Database
from infra.errors import ConfigurationError, WaterError
from infra.periodic import PeriodicWorker
from infra.texts import sentence
from infra.times import DAY_MS
from ingest.storage.archive import EMPTY, ParquetArchive, bounds, matching, month_of, same
from ingest.storage.port import LongTerm, Window
from ingest.storage.tables import station as station_table
from ingest.storage.tables import storage_edge
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Floats

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LEAST_DAYS = 8
"""The database keeps at least a week and a day: what the shipped rules and the console look back on."""
LOOKBACK_MS = LEAST_DAYS * DAY_MS
STAYING = 32
"""So many of the newest readings of a series stay, and as many of its accepted and of its usable ones."""
ROWS_AT_ONCE = 1000
"""Instants deleted in one transaction: ingest waits behind one for a few milliseconds."""
ROUND_S = 6 * 3600.0
"""A round looks for months that have become old enough and for late data of older ones; most rounds find neither."""

_BELOW = (16, 4, 3)  # flags below this: any, accepted, usable
_RANGE = "FROM reading WHERE station = :station AND at >= :start AND at < :end"

Interval = tuple[int, int]
"""[start, end) in ms UTC."""


class Keeper(Protocol):
    """A long-term store as the one who deletes sees it."""

    def alone(self) -> AbstractContextManager[None]:
        """Held during a round; raises Refused while another process has it, where two must not."""

    def keep(self, station: str, month: str, readings: Window) -> bool:
        """True once it durably holds these readings with these values and flags, and all others it had of the month."""

    def held(self, station: str, month: str) -> Window:
        """What it holds of the month, for comparison."""

    def alike(self, ours: Window, held: Window) -> bool:
        """Whether what it holds is as good as ours."""


class ArchiveKeeper:
    """The Parquet archive: it is given what it does not have."""

    def __init__(self, archive: ParquetArchive) -> None:
        self._archive = archive

    def alone(self) -> AbstractContextManager[None]:
        return self._archive.alone()

    def keep(self, station: str, month: str, readings: Window) -> bool:
        self._archive.add(station, month, readings)
        return True

    def held(self, station: str, month: str) -> Window:
        start, end = bounds(month)
        return self._archive.window(station, start, end - 1)

    def alike(self, ours: Window, held: Window) -> bool:
        return same(ours, held)


class ServerKeeper:
    """A time-series server that is fed through the spool: it is asked, never given.

    What still waits in the spool, or what the server refused, it does not have, and the database keeps it.
    """

    def __init__(self, server: LongTerm) -> None:
        self._server = server

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()

    def keep(self, station: str, month: str, readings: Window) -> bool:
        return self.alike(readings, matching(self.held(station, month), readings))

    def held(self, station: str, month: str) -> Window:
        start, end = bounds(month)
        return self._server.window(station, start, end - 1)

    def alike(self, ours: Window, held: Window) -> bool:
        return same(ours, held)


@dataclass(frozen=True, slots=True)
class Moved:
    """What a round did: ``readings`` that left the database, out of ``months``; ``refused`` (station, month) the
    long-term store does not vouch for; and the edge after it (None: nothing ever left)."""

    months: tuple[str, ...]
    readings: int
    refused: tuple[tuple[str, str], ...]
    edge_ms: int | None


def edge(connection: sa.Connection) -> int | None:
    """Readings before this (ms UTC) are in the long-term store; None as long as nothing has left the database."""
    found = connection.execute(sa.select(storage_edge.c.edge_ms)).scalar()
    return None if found is None else int(found)


def due(keep_days: int, now_ms: int) -> int:
    """The edge by a number of days: the beginning of the month in which the oldest day to keep lies."""
    return bounds(month_of(now_ms - keep_days * DAY_MS))[0]


def check(keep_days: int, rules_lookback_s: float) -> None:
    """Refuse to keep less than the checks look back on; raises ConfigurationError with the reason."""
    least = max(LEAST_DAYS, 1 + int(-(-rules_lookback_s // 86_400)))
    if keep_days < least:
        raise ConfigurationError(sentence("archive.too_few", keep_days=keep_days, least=least))


def move_out(
    database: Database,
    catalogue: Catalogue,
    keeper: Keeper,
    edge_ms: int,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda _share: None,
    pause_share: float = 1.0,
) -> Moved:
    """Move the readings observed before ``edge_ms`` (the first instant of a month) out of the database.

    Parameters
    ----------
    stopped : callable
        Asked between transactions; what is not done then is done by the next round.
    progress : callable
        Told the share that is done, 0 to 1.
    pause_share : float
        After each deletion the database is left alone for this many times as long as it took.
    """
    if bounds(month_of(edge_ms))[0] != edge_ms:
        raise ValueError("the edge is the first instant of a month")
    round_ = _Round(database, catalogue, keeper, stopped, pause_share)
    with keeper.alone():
        first = month = _oldest(database, 0, edge_ms)
        while first is not None and month is not None and not stopped():
            begun, (start, end) = bounds(first)[0], bounds(month)
            progress((start - begun) / (edge_ms - begun))
            if round_.keep(month):
                _move_edge(database, end)
                progress(((start + end) / 2 - begun) / (edge_ms - begun))
                round_.let_go(month)
            month = _oldest(database, end, edge_ms)
    with database.read() as connection:
        return Moved(tuple(round_.months), round_.readings, tuple(round_.refused), edge(connection))


class _Round:
    """One round of moving out: what a month needs, and what has been done so far."""

    def __init__(
        self, database: Database, catalogue: Catalogue, keeper: Keeper, stopped: Callable[[], bool], pause_share: float
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._keeper = keeper
        self._stopped = stopped
        self._pause_share = pause_share
        self._vouched: list[tuple[int, str]] = []
        self.months: list[str] = []
        self.readings = 0
        self.refused: list[tuple[str, str]] = []

    def keep(self, month: str) -> bool:
        """Have the long-term store hold the month; false when that was not finished."""
        self._vouched = []
        for id_, key in _stations(self._database, month):
            if self._stopped():
                return False
            with self._database.read() as connection:
                found = _window(_ask(connection, f"SELECT * {_RANGE}", id_, bounds(month)), self._catalogue)
            if self._keeper.keep(key, month, found):
                self._vouched.append((id_, key))
            else:
                self.refused.append((key, month))
        return True

    def let_go(self, month: str) -> None:
        """Delete what is held of the month, but for what stays."""
        before = self.readings
        for id_, key in self._vouched:
            held = self._keeper.held(key, month)
            with self._database.read() as connection:
                leaving = _without(bounds(month), _staying(connection, id_, bounds(month)[1]))
            for part in (part for interval in leaving for part in _parts(self._database, id_, interval)):
                if self._stopped():
                    return
                began = time.monotonic()
                self.readings += self._delete(id_, key, part, held)
                time.sleep(self._pause_share * (time.monotonic() - began))
        if self.readings > before:
            self.months.append(month)

    def _delete(self, station: int, key: str, part: Interval, held: Window) -> int:
        """Delete an interval if the database says that it deleted what is held, nothing otherwise."""
        try:
            with self._database.write() as connection:
                answer = _ask(connection, f"DELETE {_RANGE} RETURNING *", station, part)
                deleted = _window(answer, self._catalogue)
                if not self._keeper.alike(deleted, matching(held, deleted)):
                    raise _Differs
                return len(deleted)
        except _Differs:
            log.info("readings changed while their month was moved out: the next round moves them", station=key)
            return 0


class _Differs(Exception):
    """What was about to be deleted is not what the long-term store has."""


class Retention(PeriodicWorker):
    """A thread that moves out what has become old enough; one for a database."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        keeper: Keeper,
        *,
        keep_days: int,
        clock_ms: Callable[[], int],
        round_s: float = ROUND_S,
    ) -> None:
        super().__init__("retention")
        self._database = database
        self._catalogue = catalogue
        self._keeper = keeper
        self._keep_days = keep_days
        self._clock_ms = clock_ms
        self._round_s = round_s
        self.last_round_ms: int | None = None
        self.last_error = ""

    def next_round(self) -> float:
        try:
            moved = move_out(
                self._database,
                self._catalogue,
                self._keeper,
                due(self._keep_days, self._clock_ms()),
                stopped=self._stopping.is_set,
            )
        except WaterError as error:
            self._tell(str(error))
        except Exception:
            log.exception("a round of retention failed")
            self.last_error = "a round failed; the log has the details"
        else:
            self.last_round_ms, self.last_error = self._clock_ms(), ""
            if moved.readings:
                log.info("readings moved out of the database", months=moved.months, readings=moved.readings)
            if moved.refused:
                station, month = moved.refused[0]
                self._tell(f"the long-term store lacks readings of {station} in {month}: they stay in the database")
        return self._round_s

    def _tell(self, trouble: str) -> None:
        if trouble != self.last_error:
            log.warning("retention waits", error=trouble)
        self.last_error = trouble


# -- the database's side -----------------------------------------------------------------------------------------------


def _oldest(database: Database, start_ms: int, end_ms: int) -> str | None:
    """The first month with readings in [start, end)."""
    first = None
    with database.read() as connection:
        for (id_,) in connection.execute(sa.select(station_table.c.id)).fetchall():
            until = end_ms if first is None else first
            found = _ask(connection, f"SELECT min(at) {_RANGE}", id_, (start_ms, until)).scalar()
            first = first if found is None else int(found)
    return None if first is None else month_of(first)


def _stations(database: Database, month: str) -> list[tuple[int, str]]:
    """Stations with readings in the month: id and key."""
    with database.read() as connection:
        rows = connection.execute(sa.select(station_table.c.id, station_table.c.key).order_by(station_table.c.id))
        return [
            (int(id_), key)
            for id_, key in rows.fetchall()
            if _ask(connection, f"SELECT 1 {_RANGE} LIMIT 1", id_, bounds(month)).scalar() is not None
        ]


def _parts(database: Database, station: int, interval: Interval) -> Iterator[Interval]:
    """An interval in parts of ROWS_AT_ONCE instants."""
    start, end = interval
    while start < end:
        with database.read() as connection:
            following = _ask(
                connection, f"SELECT at {_RANGE} ORDER BY at LIMIT 1 OFFSET {ROWS_AT_ONCE}", station, (start, end)
            )
            until = int(following.scalar() or end)
        yield start, until
        start = until


def _staying(connection: sa.Connection, station: int, end_ms: int) -> list[Interval]:
    """Intervals before ``end_ms`` that stay: each series' look-back, and its newest readings one by one."""
    series = sa.text("SELECT parameter FROM reading_series WHERE station = :station")
    intervals: list[Interval] = []
    for (parameter,) in connection.execute(series, {"station": station}).fetchall():
        for below in _BELOW:
            newest = connection.execute(
                sa.text(
                    f'SELECT at FROM reading WHERE station = :station AND "{parameter}" IS NOT NULL '
                    f'AND (coalesce("{parameter}_q", {PLAIN}) & 15) < :below ORDER BY at DESC LIMIT {STAYING}'
                ),
                {"station": station, "below": below},
            ).fetchall()
            intervals += [(int(at), int(at) + 1) for (at,) in newest if at < end_ms]
            if newest:
                intervals.append((int(newest[0][0]) - LOOKBACK_MS, int(newest[0][0]) + 1))
    return [(start, end) for start, end in intervals if start < end_ms]


def _without(whole: Interval, holes: list[Interval]) -> Iterator[Interval]:
    """What is left of an interval."""
    start = whole[0]
    for hole_start, hole_end in sorted(holes):
        if start < min(hole_start, whole[1]):
            yield start, min(hole_start, whole[1])
        start = max(start, hole_end)
    if start < whole[1]:
        yield start, whole[1]


def _move_edge(database: Database, edge_ms: int) -> None:
    """The edge only ever moves forward."""
    with database.write() as connection:
        known = edge(connection)
        if known is None:
            connection.execute(sa.insert(storage_edge).values(id=1, edge_ms=edge_ms))
        elif known < edge_ms:
            connection.execute(sa.update(storage_edge).values(edge_ms=edge_ms))


def _ask(connection: sa.Connection, sql: str, station: int, interval: Interval) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(sql), {"station": station, "start": interval[0], "end": interval[1]})


def _window(result: sa.CursorResult[Any], catalogue: Catalogue) -> Window:
    """Whole wide rows as readings sorted by (parameter, at); raises ConfigurationError for a parameter nobody knows."""
    names = list(result.keys())
    rows = result.fetchall()
    if not rows:
        return EMPTY
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    at = np.array(columns["at"], np.int64)
    order = np.argsort(at)
    pieces = []
    for key in (name for name in names if f"{name}_q" in columns):
        value = _floats(columns[key])[order]
        there = np.flatnonzero(~np.isnan(value))
        if not len(there):
            continue
        if key not in catalogue:
            raise ConfigurationError(sentence("archive.database_parameter", key=key))
        mark = _floats(columns[f"{key}_q"])[order][there]
        packed = np.where(np.isnan(mark), PLAIN, mark).astype(np.int64)
        code = catalogue.index[key]
        pieces.append((code, Window(np.full(len(there), code, np.int32), at[order][there], value[there], packed)))
    whole = EMPTY
    for _, piece in sorted(pieces, key=lambda p: p[0]):
        whole = whole.join(piece)
    return whole


def _floats(column: tuple[Any, ...]) -> Floats:
    """A column of numbers and NULL, NULL as NaN."""
    return np.array(column, np.float64)
