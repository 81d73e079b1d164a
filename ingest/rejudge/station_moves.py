"""What the sensors of a station show over a stretch of stored readings, as the event detector takes it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from ingest.state.series_history import (
    MIN_LOOKBACK_S,
    SeriesHistory,
    accepted_before,
    merge,
    retest_windows,
    stored_status,
)
from ingest.storage.port import ReadingStore, Window
from sensors.maintenance import Marks
from sensors.quality import QualityResult
from sensors.reading import Batch, Bytes, Codes, Floats, Ints, QualityTest, pack

REACH_MS: Final = int(1000 * MIN_LOOKBACK_S)
"""How far around changed readings instants are judged: the medians of the last hours, and six hours of calm."""


@dataclass(frozen=True, slots=True)
class StationMoves:
    """Readings of a station with the results of their quality tests: (n,) columns."""

    parameter: Codes
    at: Ints
    value: Floats
    move: Floats
    course: Bytes
    tests: Ints

    @classmethod
    def of(cls, verdict: QualityResult, rows: slice, window: Window, packed: Ints) -> "StationMoves":
        """Of a window, whose verdicts are the ``rows``; ``packed`` are its flags with the marks of people laid over.

        Readings that a reviewer called bad are left out.
        """
        all_ = cls(window.parameter, window.at, window.value, verdict.move[rows], verdict.course[rows], packed >> 4)
        valid = np.flatnonzero(all_.tests & QualityTest.REVIEWED_BAD == 0)
        return cls(*(getattr(all_, name)[valid] for name in cls.__slots__))

    @classmethod
    def together(cls, parts: Sequence["StationMoves"]) -> "StationMoves":
        """All of these; empty of none."""
        if not parts:
            none = np.empty(0, np.int64)
            return cls(none, none, np.empty(0), np.empty(0), np.empty(0, np.uint8), none)
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__slots__))


NO_READINGS: Final = Batch.empty(), np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class StoredReadings:
    """Stored readings under the ``marks`` of people, with the readings ``beside`` that are not stored yet.

    ``beside`` are live readings and their verdicts (packed).
    """

    history: SeriesHistory
    store: ReadingStore
    marks: Marks
    beside: tuple[Batch, Ints] = NO_READINGS

    def window(self, station: int, parameter: int, first_ms: int, last_ms: int) -> Window:
        """The stored readings of a series, both ends included."""
        registry = self.history.registry
        name = registry.catalogue.parameters[parameter].key
        return self.store.window(registry.stations[station].key, first_ms, last_ms, [name])

    def marked(self, station: int, window: Window, packed: Ints) -> Ints:
        """Verdicts of a window of a station with the marks laid over."""
        return self.marks.apply_marks(np.full(len(window), station), window.parameter, window.at, packed)

    def moves(self, station: int, around: Ints, without: Collection[int] = ()) -> StationMoves:
        """What the station shows around the first and the last of these instants, but for some parameters."""
        history, parameters = self.history, self.history.registry.catalogue.parameters
        of_events = [p for p, one in enumerate(parameters) if one.event and p not in without]
        series = history.of(np.full(len(of_events), station), np.array(of_events, np.int64))
        windows, numbers = [], []
        live, key = self.beside[0], history.registry.stations[station].key
        first_ms, last_ms = int(around[0]) - REACH_MS, int(around[-1]) + REACH_MS
        for parameter, number in zip(of_events, series.tolist(), strict=True):
            if number < 0:
                continue
            name = parameters[parameter].key
            stored = self.store.window(key, first_ms, last_ms, [name])
            stored = accepted_before(partial(self.store.before, key), name, first_ms).join(stored)
            rows = np.flatnonzero((live.station == station) & (live.parameter == parameter) & (live.at <= last_ms))
            merged = merge(stored, live.parameter[rows], live.at[rows], live.value[rows].tolist())
            if len(merged):
                windows.append(merged)
                numbers.append(number)
        return self.moves_of(station, np.array(numbers, np.int64), windows)

    def moves_of(self, station: int, series: Ints, windows: Sequence[Window]) -> StationMoves:
        """What windows of readings show, one a series; readings that a reviewer called bad are left out."""
        valid = [self._not_called_bad(station, window) for window in windows]
        filled = [i for i, window in enumerate(valid) if len(window)]
        if not filled:
            return StationMoves.together([])
        windows, series = [valid[i] for i in filled], series[filled]
        memory = self.history.memory.taken(series)
        memory.clear_recent()
        statuses = [stored_status(w) for w in windows]
        verdict = retest_windows(windows, statuses, memory, self.history.registry.catalogue, learn=False)
        starts = np.cumsum([0, *(len(w) for w in windows)])
        parts = []
        for w, first, last in zip(windows, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            rows = slice(first, last)
            packed = self.marked(station, w, pack(verdict.flag[rows], verdict.tests[rows]))
            parts.append(StationMoves.of(verdict, rows, w, packed))
        return StationMoves.together(parts)

    def _not_called_bad(self, station: int, window: Window) -> Window:
        packed = self.marked(station, window, window.packed)
        return window.take(np.flatnonzero(packed >> 4 & QualityTest.REVIEWED_BAD == 0))
