"""Judge late readings in their own time, within the readings that are stored around them.

A late reading that differs from a stored one corrects it; what rested on the old value is withdrawn unless it stands on
other readings.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from infra.texts import Text
from infra.times import DAY_MS
from ingest.rejudge import corrections
from ingest.rejudge.corrections import Correction, Senders
from ingest.rejudge.difference import Difference, EventChange, Rejudgement, SeriesChange, Verdict, compare
from ingest.rejudge.past_events import PastEvents
from ingest.rejudge.station_moves import StationMoves, StoredReadings
from ingest.rules.engine import RuleInput
from ingest.state.series_history import accepted, accepted_before, merge, retest_windows, stored_status
from ingest.storage.port import Window
from sensors.parameters import Catalogue
from sensors.quality import QualityResult
from sensors.quality.detectors.cross_parameter import CHECKED_PARAMETERS, cross_check, with_cross_check
from sensors.quality.detectors.daily_pattern import DAILY_TESTS
from sensors.quality.detectors.point_tests import LONGEST_BURST
from sensors.quality.state import REMEMBERED_READINGS
from sensors.reading import Batch, Bools, Bytes, Flag, Ints, Places, QualityTest, pack


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """Verdicts of late readings, and what they change.

    ``packed`` and ``new`` (n,) belong to the late rows handed in: their verdicts, and whether their key is new.
    ``corrected`` are those that had another value before.
    """

    packed: Ints
    new: Bools
    rejudgement: Rejudgement
    corrected: tuple[Correction, ...] = ()


_UNCHANGED: Final = Rejudgement.of([], [], Difference())


def rejudge_late(
    batch: Batch, series: Ints, stored: StoredReadings, past_events: PastEvents, senders: Senders, now_ms: int
) -> LateVerdict:
    """Judge readings that are older than what their series already has; sorted by (series, at), each key once.

    The readings beside the ``stored`` ones came in the same batch and are live: the cross-check and the event detector
    take them into account. ``past_events`` are the events of the past; ``senders`` tell who sent each message.
    """
    packed, new = np.empty(len(batch), np.int64), np.ones(len(batch), np.bool_)
    changed = [
        _late_series(batch, rows, int(series[rows[0]]), stored, senders)
        for rows in _rows_by_series(series)
        if not _fill_stored(batch, rows, stored, packed, new)
    ]
    if not changed:
        return LateVerdict(packed, new, _UNCHANGED)
    judged = _judge(changed, stored)
    reflagged = _cross_check(changed, stored)
    rule_changes: list[SeriesChange] = []
    for one in changed:
        packed[one.rows] = one.verdict[np.searchsorted(one.merged.at, one.late)]
        affected = _affected(one, int(stored.history.newest[one.series]))
        reflagged += _reflagged(one, affected)
        after = replace(one.merged, packed=_settled(one, affected))
        why = partial(_reason_text, one.corrected, stored.history.registry.catalogue) if one.corrected else None
        rule_changes.append(SeriesChange(one.series, partial(_read_window, one, after, stored), why))
    difference = compare(rule_changes, _event_changes(changed, judged, stored), stored, past_events, now_ms)
    return LateVerdict(
        packed,
        new,
        Rejudgement.of(reflagged, (one.station for one in changed), difference),
        tuple(c for one in changed for c in one.corrected),
    )


@dataclass(slots=True)
class _LateSeries:
    """The late readings of one series: their ``rows`` in the batch, instants and corrections, what is ``stored`` around
    them, and the same with them ``merged`` in.

    ``status`` is what the device said of the merged readings, ``verdict`` (packed) what the tests say.
    """

    station: int
    series: int
    parameter: int
    rows: Places
    late: Ints
    corrected: Sequence[Correction]
    stored: Window
    merged: Window
    status: Bytes
    verdict: Ints = field(init=False)


_DAILY_TESTS: Final = sum(int(test) for test in DAILY_TESTS)

_VOUCHED: Final = np.frombuffer(b"NS", np.uint8)
"""HJ 212 data flags by which the device vouches for a reading."""


# -- the readings around the late ones -------------------------------------------------------------------------------


def _rows_by_series(series: Ints) -> list[Places]:
    """The rows of each series, in the order of the batch."""
    if not len(series):
        return []
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    return np.split(np.arange(len(series)), starts[1:])


def _fill_stored(batch: Batch, rows: Places, stored: StoredReadings, packed: Ints, new: Bools) -> bool:
    """Fill ``packed`` and ``new`` where the very same reading is stored; true if that holds for all rows."""
    at = batch.at[rows]
    window = stored.window(int(batch.station[rows[0]]), int(batch.parameter[rows[0]]), int(at[0]), int(at[-1]))
    is_stored = np.isin(at, window.at)
    place = np.searchsorted(window.at, at[is_stored])
    same = window.value[place] == batch.value[rows[is_stored]]
    doubted = (window.packed[place] >> 4) & (QualityTest.DEVICE_STATUS | QualityTest.OVER_RANGE) != 0
    same &= doubted == ~np.isin(batch.status[rows[is_stored]], _VOUCHED)
    new[rows[is_stored]] = False
    packed[rows[is_stored]] = window.packed[place]
    return bool(is_stored.all() and same.all())


def _late_series(batch: Batch, rows: Places, series: int, stored: StoredReadings, senders: Senders) -> _LateSeries:
    """The late readings of one series with those around them.

    The stretch is chosen by time, and for slow or dead sensors by number: as many readings as the tests compare with.
    """
    history = stored.history
    station, parameter = int(batch.station[rows[0]]), int(batch.parameter[rows[0]])
    at, reach_ms = batch.at[rows], history.lookback_ms[parameter]
    start, end = int(at[0]) - reach_ms, int(at[-1]) + reach_ms
    around = stored.window(station, parameter, start, end)
    while end < history.newest[series] and int((accepted(around) & (around.at > at[-1])).sum()) <= REMEMBERED_READINGS:
        end += 4 * (end - int(at[-1]))
        around = stored.window(station, parameter, start, end)
    registry = history.registry
    key, name = registry.stations[station].key, registry.catalogue.parameters[parameter].key
    around = accepted_before(partial(stored.store.before, key), name, start).join(around)
    merged = merge(around, batch.parameter[rows], at, batch.value[rows].tolist())
    status = np.full(len(merged), ord("N"), np.uint8)
    status[np.searchsorted(merged.at, around.at)] = stored_status(around)
    status[np.searchsorted(merged.at, at)] = batch.status[rows]
    repeated = rows[np.isin(at, around.at)]
    was = around.value[np.searchsorted(around.at, batch.at[repeated])]
    corrected = corrections.corrections_of(batch, repeated, was.tolist(), senders, registry)
    return _LateSeries(station, series, parameter, rows, at, corrected, around, merged, status)


# -- verdicts --------------------------------------------------------------------------------------------------------


def _judge(changed: Sequence[_LateSeries], stored: StoredReadings) -> QualityResult:
    """Fill the verdicts of the merged windows; returns the results of the tests, one window after the other.

    Thresholds are those in force, and nothing is learned: what a series learned belongs to its own time.
    """
    memory = stored.history.memory.taken(np.array([one.series for one in changed]))
    memory.clear_recent()
    windows, statuses = [one.merged for one in changed], [one.status for one in changed]
    judged = retest_windows(windows, statuses, memory, stored.history.registry.catalogue, learn=False)
    verdicts = np.split(pack(judged.flag, judged.tests), _starts(changed)[1:-1])
    for one, verdict in zip(changed, verdicts, strict=True):
        settled = _with_daily_tests(one, _with_cross_check(one, verdict))
        one.verdict = stored.marked(one.station, one.merged, settled)
    return judged


def _starts(changed: Sequence[_LateSeries]) -> Ints:
    """Where each merged window begins in the results of the tests, and where the last one ends."""
    return np.cumsum([0, *(len(one.merged) for one in changed)])


def _with_cross_check(one: _LateSeries, verdict: Ints) -> Ints:
    """Keep the cross-check flags of stored readings, which the series alone cannot give."""
    contradicted = one.stored.at[(one.stored.packed >> 4 & QualityTest.CROSS_CHECK) != 0]
    return with_cross_check(verdict, np.isin(one.merged.at, np.setdiff1d(contradicted, one.late)))


def _with_daily_tests(one: _LateSeries, verdict: Ints) -> Ints:
    """Keep the flags of daily tests; they hold for the late readings of those days, too."""
    bits = one.stored.packed >> 4 & _DAILY_TESTS
    if not bits.any():
        return verdict
    days, which = np.unique(one.stored.at // DAY_MS, return_inverse=True)
    of_day = np.zeros(len(days), np.int64)
    np.bitwise_or.at(of_day, which, bits)
    merged_days = one.merged.at // DAY_MS
    place = np.minimum(np.searchsorted(days, merged_days), len(days) - 1)
    tests = np.where((days[place] == merged_days) & (verdict & 15 < Flag.BAD), of_day[place], 0)
    suspect = np.maximum(verdict & 15, int(Flag.SUSPECT)) | (verdict >> 4 | tests) << 4
    return np.asarray(np.where(tests > 0, suspect, verdict))


def _cross_check(changed: Sequence[_LateSeries], stored: StoredReadings) -> list[Verdict]:
    """Lay the cross-check at the late instants into the verdicts; the stored readings of other series that have another
    verdict now."""
    catalogue = stored.history.registry.catalogue
    concerned = [key for key in CHECKED_PARAMETERS if key in catalogue]
    numbers = {catalogue.index[key] for key in concerned}
    checked = [one for one in changed if one.parameter in numbers]
    reflagged: list[Verdict] = []
    for station in sorted({one.station for one in checked}):
        here = [one for one in checked if one.station == station]
        reflagged += _cross_check_station(station, here, concerned, stored)
    return reflagged


_STORED: Final = -1
_LIVE: Final = -2


def _cross_check_station(
    station: int, changed: Sequence[_LateSeries], concerned: Sequence[str], stored: StoredReadings
) -> list[Verdict]:
    registry, late = stored.history.registry, np.unique(np.concatenate([one.late for one in changed]))
    window = stored.store.window(registry.stations[station].key, int(late[0]), int(late[-1]), concerned)
    live, live_packed = stored.beside
    rows = np.flatnonzero((live.station == station) & np.isin(live.at, late))
    columns = [
        (window.parameter, window.at, window.value, window.packed, np.full(len(window), _STORED)),
        (live.parameter[rows], live.at[rows], live.value[rows], live_packed[rows], np.full(len(rows), _LIVE)),
    ]
    for i, one in enumerate(changed):
        w = one.merged
        columns.append((w.parameter, w.at, w.value, one.verdict, np.full(len(w), i)))
    parameter, at, value, packed, owner = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((np.arange(len(at)), at, parameter))
    order = order[np.isin(at[order], late)]
    last = np.append((np.diff(parameter[order]) != 0) | (np.diff(at[order]) != 0), True)
    rows = order[last]
    verdict = cross_check(
        np.full(len(rows), station), parameter[rows], at[rows], value[rows], packed[rows], registry.catalogue
    )
    reflagged: list[Verdict] = []
    for k in np.flatnonzero(verdict != packed[rows]).tolist():
        row = rows[k]
        if owner[row] >= 0:
            one = changed[owner[row]]
            one.verdict[np.searchsorted(one.merged.at, at[row])] = verdict[k]
        elif owner[row] == _STORED:
            reflagged.append((station, int(parameter[row]), int(at[row]), int(verdict[k])))
    return reflagged


def _affected(one: _LateSeries, newest_ms: int) -> Bools:
    """The merged readings whose verdict may be another one: from as many accepted readings before the first late one as
    a burst may have.

    Before them the beginning of the window is in the way. At the end of a window that ends before its series does as
    many lack their successors and are left out, too.
    """
    merged, verdict = one.merged, one.verdict
    affected = np.asarray(merged.at >= one.late.min())
    before = np.flatnonzero(accepted(merged) & ~affected)
    affected[before[-LONGEST_BURST:]] = True
    if merged.at[-1] < newest_ms:
        ends = np.flatnonzero((verdict & 15 < Flag.BAD) & ~np.isin(merged.at, one.late))
        affected[ends[-LONGEST_BURST:]] = False
    return affected


def _settled(one: _LateSeries, affected: Bools) -> Ints:
    """The verdicts in force afterwards: new where affected, as stored elsewhere."""
    settled = one.verdict.copy()
    settled[~affected] = one.stored.packed[np.searchsorted(one.stored.at, one.merged.at[~affected])]
    return settled


def _reflagged(one: _LateSeries, affected: Bools) -> list[Verdict]:
    """The stored readings of the series whose verdict is another one now."""
    stored, place = one.stored, np.searchsorted(one.merged.at, one.stored.at)
    changed = affected[place] & ~np.isin(stored.at, one.late) & (one.verdict[place] != stored.packed)
    return [
        (one.station, int(stored.parameter[i]), int(stored.at[i]), int(one.verdict[place[i]]))
        for i in np.flatnonzero(changed).tolist()
    ]


# -- before and after ------------------------------------------------------------------------------------------------


def _read_window(
    one: _LateSeries, after: Window, stored: StoredReadings, first_ms: int | None
) -> tuple[RuleInput, RuleInput]:
    """The stored readings and those with the late ones merged in, from an instant on at least."""
    before, start_ms = one.stored, int(after.at[0])
    if first_ms is not None and first_ms < start_ms:
        earlier = stored.window(one.station, one.parameter, first_ms, start_ms - 1)
        before, after = earlier.join(before), earlier.join(after)
    return RuleInput.of(before.at, before.value, before.packed), RuleInput.of(after.at, after.value, after.packed)


def _reason_text(corrected: Iterable[Correction], catalogue: Catalogue, first_ms: int, last_ms: int) -> Text | None:
    """Who corrected readings from one instant to another."""
    return corrections.reason([one for one in corrected if first_ms <= one.at_ms <= last_ms], catalogue)


def _event_changes(
    changed: Sequence[_LateSeries], judged: QualityResult, stored: StoredReadings
) -> dict[int, Callable[[], list[EventChange]]]:
    """By station what the event detector sees without and with the late readings; made when it is asked for."""
    parameters = stored.history.registry.catalogue.parameters
    starts = _starts(changed)
    rows_of: dict[int, list[tuple[_LateSeries, slice]]] = {}
    for one, first, last in zip(changed, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if parameters[one.parameter].event:
            rows_of.setdefault(one.station, []).append((one, slice(first, last)))
    without = {s: {one.parameter for one in changed if one.station == s} for s in rows_of}
    return {s: partial(_event_change, s, rows, without[s], judged, stored) for s, rows in rows_of.items()}


def _event_change(
    station: int,
    changed: Sequence[tuple[_LateSeries, slice]],
    parameters: set[int],
    judged: QualityResult,
    stored: StoredReadings,
) -> list[EventChange]:
    late = np.unique(np.concatenate([one.late for one, _ in changed]))
    parts = [StationMoves.of(judged, rows, one.merged, one.verdict) for one, rows in changed]
    others = stored.moves(station, late, parameters)

    def before() -> StationMoves:
        series = np.array([one.series for one, _ in changed])
        return StationMoves.together([stored.moves_of(station, series, [one.stored for one, _ in changed]), others])

    corrected = [c for one, _ in changed for c in one.corrected]
    why = partial(_reason_text, corrected, stored.history.registry.catalogue) if corrected else None
    return [EventChange(late, before, StationMoves.together([*parts, others]), why)]
