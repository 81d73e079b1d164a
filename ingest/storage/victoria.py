"""The reading store in VictoriaMetrics: the same line protocol, read by exports and MetricsQL.

What differs from InfluxDB, measured on 1.79:

- A number keeps about twelve digits, shared with its neighbours: what a sensor sends comes back exactly, a value like
  1/3 does not, minus zero is zero, and the tiniest numbers are 0. Text is not stored.
- Nothing is overwritten. What is sent again stands beside the first at the same time. We read the largest, so that of
  two verdicts the worse counts; with ``-dedup.minScrapeInterval=1ms``, which ``setup influx`` asks for, one is kept:
  the largest in newer versions, any in 1.79. A corrected value or a lifted suspicion may therefore not show.
- A verdict joins its reading only here: MetricsQL cannot leave out the single readings that another series calls bad,
  so that series are thinned by us and not by the server.
- What was just written is seen after a moment; :meth:`TimeSeriesServer.flush` ends the wait.
- Points older than the retention of the command line, or more than two days ahead, are dropped without a word.

The bucket of the settings is the label ``db``.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import numpy as np

from ingest.storage import schema, victoriaql
from ingest.storage.port import Latest, Series, thin
from ingest.storage.remote import FOREVER_MS, RemoteReadings, Rows, newest_usable
from ingest.storage.victoriaql import Track

NAMED = 100
"""So many stations are named in a selector; beyond it all are asked for and the others left aside."""

FIRST_MS = 946_684_800_000
"""No reading is older than the year 2000."""

AHEAD_MS = 3 * 86_400_000
"""No reading is further ahead of now: the server takes two days."""

LOOK_MS = 3_600_000
"""How far a first look goes; each further look goes eight times as far."""


class VictoriaReadings(RemoteReadings):
    """A :class:`~ingest.storage.port.ReadingStore` in VictoriaMetrics."""

    def _send(self, lines: Sequence[bytes]) -> None:
        """Written and to be seen by whoever asks next."""
        super()._send(lines)
        if lines:
            self._server.flush()

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
        """All points of the range, or those of a stretch of it that holds enough of them."""
        asked = self._all() if keys is None else keys
        first, last = max(first_ms, FIRST_MS), min(last_ms, _horizon_ms())
        if first > last:
            return asked, []
        for stretch_ms in _ever_further():
            near, far = first, last
            if limit is not None and newest_first:
                near = max(first, last - stretch_ms)
            elif limit is not None:
                far = min(last, first + stretch_ms)
            rows = _by_reach(self._tracks(asked, near, far, [station]).get(station, []), asked)
            whole = (near, far) == (first, last)
            if whole or limit is None or sum(len(part.at) for part in rows) >= limit:
                break
        return asked, [Rows(part.reach, part.at, part.cells, truncated=not whole) for part in rows]

    def newest(self, station: str) -> Mapping[str, int]:
        return {row.parameter: row.newest_at_ms for row in self.latest([station])}

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        """A few looks back, each further than the last, until every series has shown a usable reading."""
        missing = self._series(stations)
        found: list[Latest] = []
        last = _horizon_ms()
        for stretch_ms in _ever_further():
            first = max(FIRST_MS, last - AHEAD_MS - stretch_ms)
            asked = sorted({station for station, _ in missing})
            for station, tracks in self._tracks(self._all(), first, last, asked).items():
                readings = self._window(station, self._all(), _by_reach(tracks, self._all()))
                for code in np.unique(readings.parameter):
                    key = self._catalogue.parameters[code].key
                    one = readings.take(np.flatnonzero(readings.parameter == code))
                    row = newest_usable(station, key, one)
                    if (station, key) in missing and (row.at_ms is not None or first == FIRST_MS):
                        found.append(row)
                        missing.discard((station, key))
            if not missing or first == FIRST_MS:
                break
        return sorted(found, key=lambda row: (row.station, row.parameter))

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        return thin(self.window(station, start_ms, end_ms - 1, [parameter]), start_ms, bucket_ms)

    def count(self, stations: Sequence[str] | None = None, before_ms: int | None = None) -> Mapping[str, int]:
        last = min(FOREVER_MS if before_ms is None else before_ms - 1, _horizon_ms())
        values = self._selector(self._all(), stations)
        by = f"sum by ({schema.STATION}, {schema.REACH})"
        counted = self._server.metricsql(f"{by} (count_over_time({values}[{(last - FIRST_MS) // 1000 + 1}s]))", last)
        wanted = None if stations is None else set(stations)
        found: dict[str, int] = {}
        several: set[str] = set()
        for labels, number in counted:
            station = labels.get(schema.STATION, "")
            if wanted is None or station in wanted:
                if station in found:
                    several.add(station)
                found[station] = found.get(station, 0) + int(number)
        return found | {station: len(self.window(station, FIRST_MS, last)) for station in several}

    # -- asking ------------------------------------------------------------------------------------------------------

    def _all(self) -> list[str]:
        return [p.key for p in self._catalogue.parameters]

    def _selector(self, fields: Iterable[str], stations: Sequence[str] | None) -> str:
        tags = {"db": self._server.settings.bucket}
        choice = {} if stations is None or len(stations) > NAMED else {schema.STATION: stations}
        return victoriaql.selector(schema.WATER, fields, tags, choice)

    def _series(self, stations: Sequence[str] | None) -> set[tuple[str, str]]:
        """(station, parameter) of which the server has values."""
        wanted = None if stations is None else set(stations)
        found = set()
        for labels in self._server.series(self._selector(self._all(), stations), FIRST_MS, _horizon_ms()):
            station = labels.get(schema.STATION, "")
            if wanted is None or station in wanted:
                found.add((station, labels.get("__name__", "").removeprefix(f"{schema.WATER}_")))
        return found

    def _tracks(
        self, keys: Sequence[str], first_ms: int, last_ms: int, stations: Sequence[str]
    ) -> dict[str, list[Track]]:
        """Values, flags and tests of these parameters, by station."""
        if not stations:
            return {}
        fields = [name for key in keys for name in (key, schema.flag(key), schema.tests(key))]
        found: dict[str, list[Track]] = {}
        for track in self._server.export([self._selector(fields, stations)], first_ms, last_ms):
            found.setdefault(track.tags.get(schema.STATION, ""), []).append(track)
        return found


def _horizon_ms() -> int:
    return time.time_ns() // 1_000_000 + AHEAD_MS


def _ever_further() -> Iterator[int]:
    return (LOOK_MS * 8**look for look in count())


def _by_reach(tracks: Sequence[Track], keys: Sequence[str]) -> list[Rows]:
    """The tracks of one station side by side, for each reach; of several values at one time the largest."""
    columns = {
        f"{schema.WATER}_{name}": i
        for i, name in enumerate(name for key in keys for name in (key, schema.flag(key), schema.tests(key)))
    }
    by_reach: dict[str, list[Track]] = {}
    for track in tracks:
        by_reach.setdefault(track.tags.get(schema.REACH, ""), []).append(track)
    rows = []
    for reach, parts in by_reach.items():
        at = np.unique(np.concatenate([np.array(part.at, np.int64) for part in parts]))
        cells = np.full((len(at), len(columns)), np.nan)
        for part in parts:
            np.fmax.at(cells[:, columns[part.name]], np.searchsorted(at, part.at), part.value)
        rows.append(Rows(reach, at, cells))
    return rows
