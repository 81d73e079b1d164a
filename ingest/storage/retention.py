"""Move old months of readings out of the database, once the long-term store is proven to hold them.

A month moves in three steps, and a kill at any point loses and duplicates nothing:

1. each station's readings of the month are merged into the long-term store, which reads them back and compares;
2. the *edge* moves to the month's end: from then on readers use the long-term store too (they read the database before
   the edge, so that readings that leave meanwhile are not missed);
3. the readings are deleted, a few at a time. Each transaction compares the deleted readings with those of the long-term
   store and rolls back where they differ: late data and changed flags stay for the next round.

The look-back of rules and quality tests, and the newest readings of every series, stay in the database however old they
are.
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
from infra.texts import say
from infra.times import DAY_MS
from ingest.storage.archive import ParquetArchive, are_equal, month_bounds_ms, month_of, select_matching
from ingest.storage.port import LongTermStore, Window
from ingest.storage.tables import station as station_table
from ingest.storage.tables import storage_boundary
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Floats

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MIN_KEEP_DAYS = 8
"""The look-back of the shipped rules and the console: a week and a day."""
LOOKBACK_MS = MIN_KEEP_DAYS * DAY_MS
KEEP_NEWEST = 32
"""Newest readings of a series that stay; as many accepted and as many usable ones."""
INSTANTS_PER_TRANSACTION = 1000
"""Instants deleted in one transaction, which ingest waits for a few milliseconds."""
INTERVAL_S = 6 * 3600.0
"""Interval between rounds; a round looks for months that became old enough and for late data of older ones."""

_BELOW = (16, 4, 3)  # flags below this: any, accepted, usable
_RANGE = "FROM reading WHERE station = :station AND at >= :start AND at < :end"

Interval = tuple[int, int]
"""[start, end) in ms UTC."""


class Keeper(Protocol):
    """A long-term store that readings are moved into before they are deleted here."""

    def alone(self) -> AbstractContextManager[None]:
        """A lock held during a round; raises Refused where another process holds it."""

    def keep(self, station: str, month: str, readings: Window) -> bool:
        """Make it hold these readings durably, beside those it had of the month; false where it does not."""

    def held(self, station: str, month: str) -> Window:
        """What it holds of the month."""


class ArchiveKeeper:
    """The Parquet archive: missing readings are written to it."""

    def __init__(self, archive: ParquetArchive) -> None:
        self._archive = archive

    def alone(self) -> AbstractContextManager[None]:
        return self._archive.alone()

    def keep(self, station: str, month: str, readings: Window) -> bool:
        self._archive.add(station, month, readings)
        return True

    def held(self, station: str, month: str) -> Window:
        start, end = month_bounds_ms(month)
        return self._archive.window(station, start, end - 1)


class ServerKeeper:
    """A time-series server, which gets readings through the spool: it is only read here.

    Readings that still wait in the spool, or that the server refused, stay in the database.
    """

    def __init__(self, server: LongTermStore) -> None:
        self._server = server

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()

    def keep(self, station: str, month: str, readings: Window) -> bool:
        return are_equal(readings, select_matching(self.held(station, month), readings))

    def held(self, station: str, month: str) -> Window:
        start, end = month_bounds_ms(month)
        return self._server.window(station, start, end - 1)


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a round: the number of readings moved out and their months; ``refused`` (station, month) that the
    long-term store does not hold; the edge (ms) after it (None: nothing ever left)."""

    months: tuple[str, ...]
    readings: int
    refused: tuple[tuple[str, str], ...]
    boundary_ms: int | None


def read_boundary_ms(connection: sa.Connection) -> int | None:
    """The edge: readings before this (ms UTC) are in the long-term store; None where nothing has left the database."""
    found = connection.execute(sa.select(storage_boundary.c.boundary_ms)).scalar()
    return None if found is None else int(found)


def edge_for_days(keep_days: int, now_ms: int) -> int:
    """The edge for a number of days to keep: the beginning of the month that contains the oldest day."""
    return month_bounds_ms(month_of(now_ms - keep_days * DAY_MS))[0]


def check_keep_days(keep_days: int, rules_lookback_s: float) -> None:
    """Check that the look-back of the rules is kept; raises ConfigurationError where it is not."""
    min_days = max(MIN_KEEP_DAYS, 1 + int(-(-rules_lookback_s // 86_400)))
    if keep_days < min_days:
        raise ConfigurationError(say("archive.too_few", keep_days=keep_days, least=min_days))


def move_out(
    database: Database,
    catalogue: Catalogue,
    keeper: Keeper,
    boundary_ms: int,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda _share: None,
    pause_share: float = 1.0,
) -> Moved:
    """Move the readings observed before ``edge_ms`` (the first instant of a month) out of the database.

    Parameters
    ----------
    stopped : callable
        Checked between transactions; the next round does the rest.
    progress : callable
        Called with the share that is done, 0 to 1.
    pause_share : float
        Pause after each deletion, as a multiple of its duration.
    """
    if month_bounds_ms(month_of(boundary_ms))[0] != boundary_ms:
        raise ValueError("the edge is the first instant of a month")
    round_ = _Round(database, catalogue, keeper, stopped, pause_share)
    with keeper.alone():
        first = month = _oldest(database, 0, boundary_ms)
        while first is not None and month is not None and not stopped():
            begun, (start, end) = month_bounds_ms(first)[0], month_bounds_ms(month)
            progress((start - begun) / (boundary_ms - begun))
            if round_.keep(month):
                _move_boundary(database, end)
                progress(((start + end) / 2 - begun) / (boundary_ms - begun))
                round_.delete(month)
            month = _oldest(database, end, boundary_ms)
    with database.read() as connection:
        return Moved(tuple(round_.months), round_.readings, tuple(round_.refused), read_boundary_ms(connection))


class _Round:
    """The state of one round."""

    def __init__(
        self, database: Database, catalogue: Catalogue, keeper: Keeper, stopped: Callable[[], bool], pause_share: float
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._keeper = keeper
        self._stopped = stopped
        self._pause_share = pause_share
        self._confirmed: list[tuple[int, str]] = []
        self.months: list[str] = []
        self.readings = 0
        self.refused: list[tuple[str, str]] = []

    def keep(self, month: str) -> bool:
        """Make the long-term store hold the month; false where that was stopped."""
        self._confirmed = []
        for id_, key in _stations(self._database, month):
            if self._stopped():
                return False
            with self._database.read() as connection:
                found = _window(_ask(connection, f"SELECT * {_RANGE}", id_, month_bounds_ms(month)), self._catalogue)
            if self._keeper.keep(key, month, found):
                self._confirmed.append((id_, key))
            else:
                self.refused.append((key, month))
        return True

    def delete(self, month: str) -> None:
        """Delete the readings of the month that the long-term store holds, except those that stay."""
        before = self.readings
        for id_, key in self._confirmed:
            held = self._keeper.held(key, month)
            with self._database.read() as connection:
                leaving = _without(month_bounds_ms(month), _staying(connection, id_, month_bounds_ms(month)[1]))
            for part in (part for interval in leaving for part in _parts(self._database, id_, interval)):
                if self._stopped():
                    return
                began = time.monotonic()
                self.readings += self._delete(id_, key, part, held)
                time.sleep(self._pause_share * (time.monotonic() - began))
        if self.readings > before:
            self.months.append(month)

    def _delete(self, station: int, key: str, part: Interval, held: Window) -> int:
        """Delete an interval if its readings are those held, else nothing; the number deleted."""
        try:
            with self._database.write() as connection:
                answer = _ask(connection, f"DELETE {_RANGE} RETURNING *", station, part)
                deleted = _window(answer, self._catalogue)
                if not are_equal(deleted, select_matching(held, deleted)):
                    raise _Differs
                return len(deleted)
        except _Differs:
            log.info("readings changed while their month was moved out: the next round moves them", station=key)
            return 0


class _Differs(Exception):
    """The deleted readings are not those of the long-term store."""


class Retention(PeriodicWorker):
    """A thread that moves old months out; one for each database."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        keeper: Keeper,
        *,
        keep_days: int,
        clock_ms: Callable[[], int],
        round_s: float = INTERVAL_S,
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
                edge_for_days(self._keep_days, self._clock_ms()),
                stopped=self._stopping.is_set,
            )
        except WaterError as error:
            self._warn_once(str(error))
        except Exception:
            log.exception("a round of retention failed")
            self.last_error = "a round failed; the log has the details"
        else:
            self.last_round_ms, self.last_error = self._clock_ms(), ""
            if moved.readings:
                log.info("readings moved out of the database", months=moved.months, readings=moved.readings)
            if moved.refused:
                station, month = moved.refused[0]
                self._warn_once(
                    f"the long-term store lacks readings of {station} in {month}: they stay in the database"
                )
        return self._round_s

    def _warn_once(self, trouble: str) -> None:
        if trouble != self.last_error:
            log.warning("retention waits", error=trouble)
        self.last_error = trouble


# -- database ----------------------------------------------------------------------------------------------------------


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
            if _ask(connection, f"SELECT 1 {_RANGE} LIMIT 1", id_, month_bounds_ms(month)).scalar() is not None
        ]


def _parts(database: Database, station: int, interval: Interval) -> Iterator[Interval]:
    """An interval in parts of ROWS_AT_ONCE instants."""
    start, end = interval
    while start < end:
        with database.read() as connection:
            following = _ask(
                connection,
                f"SELECT at {_RANGE} ORDER BY at LIMIT 1 OFFSET {INSTANTS_PER_TRANSACTION}",
                station,
                (start, end),
            )
            until = int(following.scalar() or end)
        yield start, until
        start = until


def _staying(connection: sa.Connection, station: int, end_ms: int) -> list[Interval]:
    """The intervals before ``end_ms`` that stay: each series' look-back, and its newest readings."""
    series = sa.text("SELECT parameter FROM reading_series WHERE station = :station")
    intervals: list[Interval] = []
    for (parameter,) in connection.execute(series, {"station": station}).fetchall():
        for below in _BELOW:
            newest = connection.execute(
                sa.text(
                    f'SELECT at FROM reading WHERE station = :station AND "{parameter}" IS NOT NULL '
                    f'AND (coalesce("{parameter}_q", {PLAIN}) & 15) < :below ORDER BY at DESC LIMIT {KEEP_NEWEST}'
                ),
                {"station": station, "below": below},
            ).fetchall()
            intervals += [(int(at), int(at) + 1) for (at,) in newest if at < end_ms]
            if newest:
                intervals.append((int(newest[0][0]) - LOOKBACK_MS, int(newest[0][0]) + 1))
    return [(start, end) for start, end in intervals if start < end_ms]


def _without(whole: Interval, holes: list[Interval]) -> Iterator[Interval]:
    """An interval without the holes."""
    start = whole[0]
    for hole_start, hole_end in sorted(holes):
        if start < min(hole_start, whole[1]):
            yield start, min(hole_start, whole[1])
        start = max(start, hole_end)
    if start < whole[1]:
        yield start, whole[1]


def _move_boundary(database: Database, boundary_ms: int) -> None:
    """Move the edge; it never moves back."""
    with database.write() as connection:
        stored_ms = read_boundary_ms(connection)
        if stored_ms is None:
            connection.execute(sa.insert(storage_boundary).values(id=1, boundary_ms=boundary_ms))
        elif stored_ms < boundary_ms:
            connection.execute(sa.update(storage_boundary).values(boundary_ms=boundary_ms))


def _ask(connection: sa.Connection, sql: str, station: int, interval: Interval) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(sql), {"station": station, "start": interval[0], "end": interval[1]})


def _window(result: sa.CursorResult[Any], catalogue: Catalogue) -> Window:
    """Whole wide rows as readings sorted by (parameter, at); raises ConfigurationError for an unknown
    parameter."""
    names = list(result.keys())
    rows = result.fetchall()
    if not rows:
        return Window.empty()
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    at = np.array(columns["at"], np.int64)
    order = np.argsort(at)
    pieces = []
    for key in (name for name in names if f"{name}_q" in columns):
        value = _floats(columns[key])[order]
        present = np.flatnonzero(~np.isnan(value))
        if not len(present):
            continue
        if key not in catalogue:
            raise ConfigurationError(say("archive.database_parameter", key=key))
        mark = _floats(columns[f"{key}_q"])[order][present]
        packed = np.where(np.isnan(mark), PLAIN, mark).astype(np.int64)
        code = catalogue.index[key]
        pieces.append((code, Window(np.full(len(present), code, np.int32), at[order][present], value[present], packed)))
    whole = Window.empty()
    for _, piece in sorted(pieces, key=lambda p: p[0]):
        whole = whole.join(piece)
    return whole


def _floats(column: tuple[Any, ...]) -> Floats:
    """A column of numbers and NULL, NULL as NaN."""
    return np.array(column, np.float64)
