"""Late data: judged in their own time, inside the neighbourhood that is stored around them (design rule 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from governance.incidents.finding import Finding
from infra.texts import Text
from infra.times import DAY_MS
from ingest.rejudge import corrections
from ingest.rejudge.corrections import Correction, Senders
from ingest.rejudge.late_events import PastEvents, StationMoves, StoredReadings
from ingest.rules.engine import RuleInput
from ingest.state.series_history import SeriesHistory, accepted, accepted_before, merge, rejudge_windows, stored_status
from ingest.storage.port import ReadingStore, Window
from sensors.maintenance import Marks
from sensors.quality import QualityResult
from sensors.quality.detectors.cross_parameter import CONCERNED, cross_check, with_cross_check
from sensors.quality.detectors.daily_pattern import DAILY
from sensors.quality.detectors.point_tests import LONGEST_BURST
from sensors.quality.state import KEEP
from sensors.reading import Batch, Bools, Bytes, Flag, Ints, Places, QualityTest, pack


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """``packed`` and ``new`` (n,) belong to the late rows handed in: their flags, and whether their key is new.

    ``again`` are stored readings whose flag changed because of them. ``stations`` must be remembered anew. Of the
    ``findings``, the ``lasting`` ones change what is firing. ``corrected`` are those that had another value before.
    """

    packed: Ints
    new: Bools
    again: Batch
    reflag_packed: Ints
    stations: tuple[int, ...]
    findings: tuple[Finding, ...]
    lasting: tuple[Finding, ...]
    corrected: tuple[Correction, ...] = ()


_NOTHING = LateVerdict(np.empty(0, np.int64), np.empty(0, np.bool_), Batch.empty(), np.empty(0, np.int64), (), (), ())


def rejudge_late(
    batch: Batch,
    series: Ints,
    history: SeriesHistory,
    store: ReadingStore,
    marks: Marks,
    now_ms: int,
    beside: tuple[Batch, Ints],
    events: PastEvents,
    senders: Senders,
) -> LateVerdict:
    """Judge readings that are older than what their series already has; sorted by (series, at), each key once.

    ``beside`` are readings that came with them and are not late, with their verdicts: witnesses of the cross-checks and
    of events. ``events`` are those of the past; ``senders`` say who sent each message.

    What rested on a value that is another one now is withdrawn, unless it stands on the others.
    """
    if not len(batch):
        return _NOTHING
    packed, new = np.empty(len(batch), np.int64), np.ones(len(batch), np.bool_)
    disturbed = [g for g in _groups(batch, series) if _compare(batch, g, history, store, packed, new)]
    around = [_neighbourhood(batch, g, history, store) for g in disturbed]
    corrected = [_corrected(batch, g, n.stored, senders, history) for g, n in zip(disturbed, around, strict=True)]
    verdicts: list[Ints] = []
    if around:
        # by the thresholds in force, and without learning: what a series learned is of its own time
        memory = history.memory.taken(np.array([g.series for g in disturbed]))
        memory.forget_recent()
        windows, statuses = [n.merged for n in around], [n.status for n in around]
        told = rejudge_windows(windows, statuses, memory, history.registry.catalogue, learn=False)
        verdicts = np.split(pack(told.flag, told.tests), np.cumsum([len(w) for w in windows])[:-1])
        verdicts = [
            _still_contradicted(n, verdict, batch.at[g.rows])
            for g, n, verdict in zip(disturbed, around, verdicts, strict=True)
        ]
        verdicts = [_still_doubted(n, verdict) for n, verdict in zip(around, verdicts, strict=True)]
        verdicts = [
            marks.apply_marks(np.full(len(n.merged), g.station), n.merged.parameter, n.merged.at, verdict)
            for g, n, verdict in zip(disturbed, around, verdicts, strict=True)
        ]
    again = _cross(batch, disturbed, around, verdicts, beside, history, store)
    findings: list[Finding] = []
    lasting: list[Finding] = []
    if around and history.checks.rules.events:
        work = _Work(batch, disturbed, around, corrected, told, verdicts, StoredReadings(beside, history, store, marks))
        for found, left in work.events(events):
            findings += found
            lasting += left
    for g, n, changed, verdict in zip(disturbed, around, corrected, verdicts, strict=True):
        late = batch.at[g.rows]
        packed[g.rows] = verdict[np.searchsorted(n.merged.at, late)]
        affected = _affected(n.merged, verdict, late, int(history.newest[g.series]))
        again += _changed(n.stored, n.merged, verdict, affected, late, g.station)
        judged = replace(n.merged, packed=_settled(n.stored, n.merged, verdict, affected))
        before, after = _shown(n.stored), _shown(judged)
        found, left = history.checks.late(g.series, before, after, now_ms)
        findings += found
        lasting += left
        if changed:
            why = partial(_why, changed, history)
            look = partial(_look, g, n.stored, judged, history, store)
            found, left = history.checks.withdrawn_by_review(g.series, look, why, now_ms)
            findings += found
            lasting += left
    moved = Batch.of([a[0] for a in again], [a[1] for a in again], [a[2] for a in again], [0.0] * len(again))
    return LateVerdict(
        packed,
        new,
        moved,
        np.array([a[3] for a in again], np.int64),
        tuple(sorted({g.station for g in disturbed})),
        tuple(findings),
        tuple(lasting),
        tuple(one for some in corrected for one in some),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """The late rows of one series."""

    station: int
    series: int
    parameter: int
    rows: Places


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """What is stored around the late readings of a series, and the same with them laid in."""

    stored: Window
    merged: Window
    status: Bytes


_OF_DAYS: Final = sum(int(test) for test in DAILY)

_NOTHING_SAID = np.frombuffer(b"NS", np.uint8)
"""HJ 212 data flags by which the device vouches for a reading."""


@dataclass(frozen=True, slots=True)
class _Work:
    """All that is known of the late readings of a batch, to be asked for events."""

    batch: Batch
    disturbed: Sequence[_Group]
    around: Sequence[_Neighbourhood]
    corrected: Sequence[Sequence[Correction]]
    told: QualityResult
    verdicts: Sequence[Ints]
    stored: StoredReadings

    def events(self, past: PastEvents) -> Iterator[tuple[list[Finding], list[Finding]]]:
        """The sudden changes that the late readings show (:mod:`ingest.rejudge.late_events`), down the river."""
        parameters = self.stored.history.registry.catalogue.parameters
        mine: dict[int, list[int]] = {}
        for i, g in enumerate(self.disturbed):
            if parameters[g.parameter].event:
                mine.setdefault(g.station, []).append(i)
        for station in past.downwards(mine):
            yield self._events(station, mine[station], past)
        for station, around, reason in past.downstream_findings(mine):
            yield self.stored.use_stored_verdicts(station, around, past, reason)

    def _events(self, station: int, tells: Sequence[int], past: PastEvents) -> tuple[list[Finding], list[Finding]]:
        late = np.unique(np.concatenate([self.batch.at[self.disturbed[i].rows] for i in tells]))
        starts = np.cumsum([0, *(len(n.merged) for n in self.around)])
        parts = []
        for i in tells:
            n, rows = self.around[i].merged, slice(int(starts[i]), int(starts[i + 1]))
            parts.append(StationMoves.of(self.told, rows, n, self.verdicts[i]))
        disturbed = {g.parameter for g in self.disturbed if g.station == station}
        others = self.stored.said(station, late, disturbed)

        def without() -> StationMoves:
            windows = [self.around[i].stored for i in tells]
            series = np.array([self.disturbed[i].series for i in tells])
            return StationMoves.together([self.stored.judged(station, series, windows), others])

        changed = [one for i in tells for one in self.corrected[i]]
        why = partial(_why, changed, self.stored.history) if changed else None
        return past.judge(station, late, StationMoves.together([*parts, others]), without, self.stored.said, why)


def _groups(batch: Batch, series: Ints) -> list[_Group]:
    """The batch by series, in its own order."""
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    return [
        _Group(int(batch.station[rows[0]]), int(series[rows[0]]), int(batch.parameter[rows[0]]), rows)
        for rows in np.split(np.arange(len(series)), starts[1:])
    ]


def _compare(batch: Batch, g: _Group, history: SeriesHistory, store: ReadingStore, packed: Ints, new: Bools) -> bool:
    """Fill ``packed`` and ``new`` where the very same reading is stored already; true if anything else is left."""
    at = batch.at[g.rows]
    there = _window(g, int(at[0]), int(at[-1]), history, store)
    known = np.isin(at, there.at)
    place = np.searchsorted(there.at, at[known])
    same = there.value[place] == batch.value[g.rows[known]]
    said = (there.packed[place] >> 4) & (QualityTest.DEVICE_STATUS | QualityTest.OVER_RANGE) != 0
    same &= said == ~np.isin(batch.status[g.rows[known]], _NOTHING_SAID)
    new[g.rows[known]] = False
    packed[g.rows[known]] = there.packed[place]
    return not (known.all() and same.all())


def _corrected(batch: Batch, g: _Group, stored: Window, senders: Senders, history: SeriesHistory) -> list[Correction]:
    """The late readings whose value was another one."""
    known = g.rows[np.isin(batch.at[g.rows], stored.at)]
    was = stored.value[np.searchsorted(stored.at, batch.at[known])]
    return corrections.corrections_of(batch, known, was.tolist(), senders, history.registry)


def _why(corrected: Sequence[Correction], history: SeriesHistory, first_ms: int, last_ms: int) -> Text | None:
    """Who corrected readings from one instant to another."""
    return corrections.reason(
        [one for one in corrected if first_ms <= one.at_ms <= last_ms], history.registry.catalogue
    )


def _look(
    g: _Group, stored: Window, judged: Window, history: SeriesHistory, store: ReadingStore, first_ms: int | None
) -> tuple[RuleInput, RuleInput]:
    """The stored readings and those with the late ones laid in, from an instant on at least."""
    start_ms = int(judged.at[0])
    if first_ms is not None and first_ms < start_ms:
        earlier = _window(g, first_ms, start_ms - 1, history, store)
        stored, judged = earlier.join(stored), earlier.join(judged)
    return _shown(stored), _shown(judged)


def _neighbourhood(batch: Batch, g: _Group, history: SeriesHistory, store: ReadingStore) -> _Neighbourhood:
    """By time, and for slow or dead sensors by number: as many readings as the tests compare with."""
    at, reach = batch.at[g.rows], history.lookback_ms[g.parameter]
    start, end = int(at[0]) - reach, int(at[-1]) + reach
    stored = _window(g, start, end, history, store)
    while end < history.newest[g.series] and int((accepted(stored) & (stored.at > at[-1])).sum()) <= KEEP:
        end += 4 * (end - int(at[-1]))
        stored = _window(g, start, end, history, store)
    registry = history.registry
    key, name = registry.stations[g.station].key, registry.catalogue.parameters[g.parameter].key
    stored = accepted_before(store, key, name, start).join(stored)
    merged = merge(stored, batch.parameter[g.rows], at, batch.value[g.rows].tolist())
    status = np.full(len(merged), ord("N"), np.uint8)
    status[np.searchsorted(merged.at, stored.at)] = stored_status(stored)
    status[np.searchsorted(merged.at, at)] = batch.status[g.rows]
    return _Neighbourhood(stored, merged, status)


def _still_contradicted(n: _Neighbourhood, verdict: Ints, late: Ints) -> Ints:
    """What other parameters said of the stored readings around the late ones; the series alone does not tell it."""
    contradicted = n.stored.at[(n.stored.packed >> 4 & QualityTest.CROSS_CHECK) != 0]
    return with_cross_check(verdict, np.isin(n.merged.at, np.setdiff1d(contradicted, late)))


def _still_doubted(n: _Neighbourhood, verdict: Ints) -> Ints:
    """What was said of the days of the stored readings; it is of the late ones of those days, too."""
    bits = n.stored.packed >> 4 & _OF_DAYS
    if not bits.any():
        return verdict
    days, which = np.unique(n.stored.at // DAY_MS, return_inverse=True)
    of_day = np.zeros(len(days), np.int64)
    np.bitwise_or.at(of_day, which, bits)
    place = np.minimum(np.searchsorted(days, n.merged.at // DAY_MS), len(days) - 1)
    mine = np.where((days[place] == n.merged.at // DAY_MS) & (verdict & 15 < Flag.BAD), of_day[place], 0)
    return np.asarray(
        np.where(mine > 0, np.maximum(verdict & 15, int(Flag.SUSPECT)) | (verdict >> 4 | mine) << 4, verdict)
    )


def _cross(
    batch: Batch,
    disturbed: Sequence[_Group],
    around: Sequence[_Neighbourhood],
    verdicts: Sequence[Ints],
    beside: tuple[Batch, Ints],
    history: SeriesHistory,
    store: ReadingStore,
) -> list[tuple[int, int, int, int]]:
    """Lay the cross-checks at the late instants into the ``verdicts``; returns (station, parameter, at, packed) of the
    readings of other series that are stored and have another verdict now."""
    catalogue = history.registry.catalogue
    concerned = [key for key in CONCERNED if key in catalogue]
    numbers = {catalogue.index[key] for key in concerned}
    again: list[tuple[int, int, int, int]] = []
    for station in sorted({g.station for g in disturbed if g.parameter in numbers}):
        mine = [i for i, g in enumerate(disturbed) if g.station == station and g.parameter in numbers]
        late = np.unique(np.concatenate([batch.at[disturbed[i].rows] for i in mine]))
        stored = store.window(history.registry.stations[station].key, int(late[0]), int(late[-1]), concerned)
        live, live_packed = beside
        with_them = np.flatnonzero((live.station == station) & np.isin(live.at, late))
        columns = [(stored.parameter, stored.at, stored.value, stored.packed, np.full(len(stored), _STORED))]
        columns += [
            (
                live.parameter[with_them],
                live.at[with_them],
                live.value[with_them],
                live_packed[with_them],
                np.full(len(with_them), _LIVE),
            )
        ]
        for i in mine:
            merged = around[i].merged
            columns.append((merged.parameter, merged.at, merged.value, verdicts[i], np.full(len(merged), i)))
        parameter, at, value, packed, owner = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((np.arange(len(at)), at, parameter))
        order = order[np.isin(at[order], late)]
        last = np.append((np.diff(parameter[order]) != 0) | (np.diff(at[order]) != 0), True)
        rows = order[last]
        who = np.full(len(rows), station)
        told = cross_check(who, parameter[rows], at[rows], value[rows], packed[rows], catalogue)
        for k in np.flatnonzero(told != packed[rows]).tolist():
            row = rows[k]
            if owner[row] >= 0:
                merged = around[owner[row]].merged
                verdicts[owner[row]][np.searchsorted(merged.at, at[row])] = told[k]
            elif owner[row] == _STORED:
                again.append((station, int(parameter[row]), int(at[row]), int(told[k])))
    return again


_STORED: Final = -1
_LIVE: Final = -2


def _window(g: _Group, start_ms: int, end_ms: int, history: SeriesHistory, store: ReadingStore) -> Window:
    registry = history.registry
    name = registry.catalogue.parameters[g.parameter].key
    return store.window(registry.stations[g.station].key, start_ms, end_ms, [name])


def _affected(merged: Window, verdict: Ints, late: Ints, newest_ms: int) -> Bools:
    """From the accepted readings on that a burst may have before it ends with the first late one: before that, the
    window's own beginning is in the way.

    As many at the end of a window that ends before its series does lack their successors and are left alone, too: bad
    ones after them succeed nobody.
    """
    affected = np.asarray(merged.at >= late.min())
    before = np.flatnonzero(accepted(merged) & ~affected)
    affected[before[-LONGEST_BURST:]] = True
    if merged.at[-1] < newest_ms:
        ends = np.flatnonzero((verdict & 15 < Flag.BAD) & ~np.isin(merged.at, late))
        affected[ends[-LONGEST_BURST:]] = False
    return affected


def _settled(have: Window, merged: Window, verdict: Ints, affected: Bools) -> Ints:
    """The flags in force after the late data: recomputed where they can matter, as stored elsewhere."""
    settled = verdict.copy()
    settled[~affected] = have.packed[np.searchsorted(have.at, merged.at[~affected])]
    return settled


def _changed(
    have: Window, merged: Window, verdict: Ints, affected: Bools, late: Ints, station: int
) -> list[tuple[int, int, int, int]]:
    """(station, parameter, at, packed) of stored readings whose verdict is another one now."""
    place = np.searchsorted(merged.at, have.at)
    told = affected[place] & ~np.isin(have.at, late) & (verdict[place] != have.packed)
    rows = np.flatnonzero(told)
    return [(station, int(have.parameter[i]), int(have.at[i]), int(verdict[place[i]])) for i in rows.tolist()]


def _shown(window: Window) -> RuleInput:
    return RuleInput.of(window.at, window.value, window.packed)
