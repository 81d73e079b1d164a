"""Cross-check live readings of one station at one instant against each other, and against remembered ones.

The test itself: :mod:`sensors.quality.detectors.cross_parameter`. Late readings: :mod:`ingest.rejudge.late_readings`.
"""

from dataclasses import replace

import numpy as np

from infra.times import TIME_BITS
from ingest.state.series_history import SeriesHistory
from ingest.work import CrossCheckNotes, SortedBatch, Work
from sensors.quality import QualityResult
from sensors.quality.detectors.cross_parameter import CHECKED_PARAMETERS, cross_check
from sensors.reading import Batch, Ints, Places, QualityTest, distinct, pack, unpack


class CrossCheck:
    """Reads ``sorted``, ``live`` and ``late``; writes ``live``, ``cross_notes`` and ``packed``."""

    name = "cross_check"

    def run(self, work: Work) -> None:
        sorted_, late_packed = work.sorted, work.late.packed
        work.live, work.cross_notes = cross_check_live(sorted_, late_packed, work.live, work.site.history)
        work.packed = np.empty(len(sorted_.batch), np.int64)
        work.packed[sorted_.live] = pack(work.live.flag, work.live.tests)
        work.packed[sorted_.late] = late_packed


def cross_check_live(
    readings: SortedBatch, late_packed: Ints, verdict: QualityResult, history: SeriesHistory
) -> tuple[QualityResult, CrossCheckNotes]:
    """The live ``verdict`` with that of the cross-check, and the notes to be remembered of it once it is stored.

    The late readings, with their verdicts ``late_packed``, are compared with and not judged here. A remembered reading
    that is contradicted now is re-flagged like a spike is.
    """
    batch, live, late = readings.batch, readings.live, readings.late
    packed = np.empty(len(batch), np.int64)
    packed[live], packed[late] = pack(verdict.flag, verdict.tests), late_packed
    old, column = _remembered(batch, live, history)
    memory = history.memory
    old_at, old_packed = memory.at[old, column], memory.packed[old, column]
    again = (verdict.reflag_series.astype(np.int64) << TIME_BITS) | verdict.reflag_at
    key = (old << TIME_BITS) | old_at
    for i in np.flatnonzero(np.isin(key, again)).tolist():  # re-flagged by this very batch
        old_packed[i] = verdict.reflag_packed[np.flatnonzero(again == key[i])[-1]]
    before = np.concatenate([packed, old_packed])
    checked = cross_check(
        np.concatenate([batch.station, history.station[old]]),
        np.concatenate([batch.parameter, history.parameter[old]]),
        np.concatenate([batch.at, old_at]),
        np.concatenate([batch.value, memory.value[old, column]]),
        before,
        history.registry.catalogue,
    )
    live_packed, theirs = checked[: len(batch)][live], checked[len(batch) :]
    new = live[live_packed != packed[live]]
    moved = np.flatnonzero((theirs != old_packed) & (theirs >> 4 & QualityTest.CROSS_CHECK != 0))
    if not len(new) and not len(moved):
        none = np.empty(0, np.int64)
        return verdict, CrossCheckNotes(none, none, none)
    unmoved = ~np.isin(again, key[moved])
    flag, tests = unpack(live_packed)
    noted = CrossCheckNotes(
        np.concatenate([readings.series[new], old[moved]]),
        np.concatenate([batch.at[new], old_at[moved]]),
        np.concatenate([checked[new], theirs[moved]]),
    )
    return replace(
        verdict,
        flag=flag,
        tests=tests,
        reflag_series=np.concatenate([verdict.reflag_series[unmoved], old[moved]]),
        reflag_at=np.concatenate([verdict.reflag_at[unmoved], old_at[moved]]),
        reflag_packed=np.concatenate([verdict.reflag_packed[unmoved], theirs[moved]]),
    ), noted


def _remembered(batch: Batch, live: Places, history: SeriesHistory) -> tuple[Ints, Ints]:
    """(series, column) in memory of earlier readings at the instants of these that could contradict them."""
    catalogue, memory = history.registry.catalogue, history.memory
    numbers = np.array([catalogue.index[key] for key in CHECKED_PARAMETERS if key in catalogue])
    rows = live[np.isin(batch.parameter[live], numbers)]
    instants = distinct((batch.station[rows].astype(np.int64) << TIME_BITS) | batch.at[rows])
    station, at = instants >> TIME_BITS, instants & ((1 << TIME_BITS) - 1)
    series = history.of(np.repeat(station, len(numbers)), np.tile(numbers, len(station)))
    when = np.repeat(at, len(numbers))
    some = np.flatnonzero(series >= 0)
    some = some[history.newest[series[some]] >= when[some]]
    row, column = np.nonzero(memory.at[series[some]] == when[some][:, None])
    return series[some][row], column
