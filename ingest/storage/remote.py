"""What reading stores in a time-series server have in common: writing, and making windows of what the server has.

A reading is there when its value and its flag are. A point's reach is a tag and so part of its identity: where a
station has moved to another reach, a later verdict on an older reading stands under the new reach and the value under
the old one. Such rows are laid over each other here, the reach the station has today on top, since what was written
last was written under it; one row comes out for each time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import sqlalchemy as sa

from ingest.storage import lineprotocol
from ingest.storage.port import Latest, Series, Window
from ingest.storage.timeseries import ServerTrouble, TimeSeriesServer
from sensors.parameters import Catalogue
from sensors.reading import PLAIN, Batch, Flag, Floats, Ints

EMPTY = Window(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

FOREVER_MS = 2**53
"""Later than anything."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Points of one station under one reach, ascending in time.

    ``at`` (n,) ms; ``cells`` (n, 3 k) value, flag and tests of each of k parameters, NaN where there is none;
    ``truncated`` whether the server was told to stop before the end.
    """

    reach: str
    at: Ints
    cells: Floats
    truncated: bool = False


class RemoteReadings(ABC):
    """The parts of a :class:`~ingest.storage.port.ReadingStore` that do not depend on the server's language.

    Parameters
    ----------
    reach_of : callable
        The reach a station belongs to now, "" for none: written with its points, and on top where there are several.
    """

    def __init__(
        self, server: TimeSeriesServer, catalogue: Catalogue, reach_of: Callable[[str], str] = lambda station: ""
    ) -> None:
        self._server = server
        self._catalogue = catalogue
        self._reach_of = reach_of

    @property
    def at_hand(self) -> Self:
        return self

    def forget(self) -> None:  # noqa: B027 - nothing is remembered
        """Nothing is remembered that a failed transaction could spoil."""

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        """Durable when it returns, whatever becomes of the transaction of ``connection``."""
        self._send(lineprotocol.encode(stations, self._reaches(stations), batch, packed, self._catalogue))

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        self._send(lineprotocol.encode_reflag(stations, self._reaches(stations), batch, packed, self._catalogue))

    def _reaches(self, stations: Sequence[str]) -> list[str]:
        return [self._reach_of(station) for station in stations]

    def _send(self, lines: Sequence[bytes]) -> None:
        if refused := self._server.send(lines):
            raise ServerTrouble(
                f"{self._server.name} refuses {len(refused)} of {len(lines)} points: {refused[0].reason}"
            )

    # -- reading -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _rows(
        self,
        station: str,
        keys: Sequence[str] | None,
        first_ms: int,
        last_ms: int,
        limit: int | None = None,
        *,
        newest_first: bool = False,
    ) -> tuple[Sequence[str], list[Rows]]:
        """The parameters found (at most ``keys``) and the station's points, first <= time <= last, for each reach.

        With a limit the server may stop after so many points of a reach, counted from the newest if asked to.
        """

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        keys = None if parameters is None else [key for key in parameters if key in self._catalogue]
        if start_ms > end_ms or keys == []:
            return EMPTY
        return self._window(station, *self._rows(station, keys, start_ms, end_ms))

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        return self._some(station, parameter, -FOREVER_MS, at_ms - 1, limit, newest_first=True)

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        found = self._some(station, parameter, start_ms, end_ms - 1, limit, newest_first=False)
        ones = np.ones(len(found), np.int64)
        return Series(found.at, found.value, found.value, found.value, ones, found.packed, None)

    def _some(
        self, station: str, parameter: str, first_ms: int, last_ms: int, limit: int, *, newest_first: bool
    ) -> Window:
        """The first ``limit`` readings of a range, or the last ones.

        Asks for more points where the first ones do not make enough readings (verdicts alone, several reaches).
        """
        if parameter not in self._catalogue or last_ms < first_ms or limit < 1:
            return EMPTY
        points = limit
        while True:
            keys, rows = self._rows(station, [parameter], first_ms, last_ms, points, newest_first=newest_first)
            whole = _whole(rows, newest_first=newest_first)
            found = self._window(station, keys, whole)
            if len(found) >= limit or not any(part.truncated for part in rows):
                kept = slice(-limit, None) if newest_first else slice(limit)
                return found.take(np.arange(len(found))[kept])
            points *= 4

    def _latest_of(self, station: str, parameter: str) -> Latest | None:
        """The newest usable reading of one series, looked for reading by reading."""
        points = 1
        while True:
            found = self.before(station, parameter, FOREVER_MS, points)
            if not len(found):
                return None
            newest = newest_usable(station, parameter, found)
            if newest.at_ms is not None or len(found) < points:
                return newest
            points *= 16

    def _window(self, station: str, keys: Sequence[str], rows: Sequence[Rows]) -> Window:
        """Rows of all reaches as one window, sorted by (parameter, at)."""
        rows = [part for part in rows if len(part.at)]
        if not rows or not keys:
            return EMPTY
        at, cells = _laid_over(sorted(rows, key=lambda part: (part.reach == self._reach_of(station), part.reach)))
        codes = np.array([self._catalogue.index[key] for key in keys], np.int32)
        order = np.argsort(codes)
        value, flag, tests = (cells[:, i::3][:, order] for i in range(3))
        column, row = np.nonzero(~np.isnan(value.T) & ~np.isnan(flag.T))
        packed = packed_of(flag[row, column], tests[row, column])
        return Window(codes[order[column]], at[row], value[row, column], packed)


def newest_usable(station: str, parameter: str, readings: Window) -> Latest:
    """What there is to say of the newest readings of one series; at least one is needed."""
    newest = int(readings.at[-1])
    usable = np.flatnonzero((readings.packed & 15) < Flag.SUSPECT)
    if not len(usable):
        return Latest(station, parameter, None, None, PLAIN, newest)
    row = usable[-1]
    at, value, packed = int(readings.at[row]), float(readings.value[row]), int(readings.packed[row])
    return Latest(station, parameter, at, value, packed, newest)


def packed_of(flag: Floats, tests: Floats) -> Ints:
    """Flag and tests as the stores keep them; a good reading has no tests, whatever stands there from before."""
    bits = np.where((flag == Flag.GOOD) | np.isnan(tests), 0, tests).astype(np.int64)
    return flag.astype(np.int64) | bits << 4


def _whole(rows: Sequence[Rows], *, newest_first: bool) -> list[Rows]:
    """The stretch of time of which every reach's points are here."""
    cut = [part for part in rows if part.truncated and len(part.at)]
    if not cut:
        return list(rows)
    if newest_first:
        edge = max(int(part.at[0]) for part in cut)
        kept = [part.at >= edge for part in rows]
    else:
        edge = min(int(part.at[-1]) for part in cut)
        kept = [part.at <= edge for part in rows]
    return [Rows(part.reach, part.at[mask], part.cells[mask]) for part, mask in zip(rows, kept, strict=True)]


def _laid_over(rows: Sequence[Rows]) -> tuple[Ints, Floats]:
    """One row a time; a later part's cells cover an earlier one's, its empty cells do not."""
    if len(rows) == 1:
        return rows[0].at, rows[0].cells
    at = np.unique(np.concatenate([part.at for part in rows]))
    cells = np.full((len(at), rows[0].cells.shape[1]), np.nan)
    for part in rows:
        places = np.searchsorted(at, part.at)
        cells[places] = np.where(np.isnan(part.cells), cells[places], part.cells)
    return at, cells
