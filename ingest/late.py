"""Late data: judged in their own time, inside the neighbourhood that is stored around them (design rule 4)."""

from dataclasses import dataclass, replace

import numpy as np

from governance.finding import Finding
from ingest.checks.engine import usable
from ingest.history import History, accepted, accepted_before, judge_again, merge, stored_status
from ingest.storage.port import ReadingStore, Window
from sensors.quality.memory import KEEP
from sensors.reading import Batch, Bools, Bytes, Flag, Floats, Ints, Places, QualityTest, pack
from sensors.upkeep import Marks


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """``packed`` and ``new`` (n,) belong to the late rows handed in: their flags, and whether their key is new.

    ``again`` are stored readings whose flag changed because of them. ``stations`` must be remembered anew. Of the
    ``findings``, the ``lasting`` ones leave a condition firing.
    """

    packed: Ints
    new: Bools
    again: Batch
    again_packed: Ints
    stations: tuple[int, ...]
    findings: tuple[Finding, ...]
    lasting: tuple[Finding, ...]


_NOTHING = LateVerdict(np.empty(0, np.int64), np.empty(0, np.bool_), Batch.empty(), np.empty(0, np.int64), (), (), ())


def judge(batch: Batch, series: Ints, history: History, store: ReadingStore, marks: Marks, now_ms: int) -> LateVerdict:
    """Judge readings that are older than what their series already has; sorted by (series, at), each key once."""
    if not len(batch):
        return _NOTHING
    packed, new = np.empty(len(batch), np.int64), np.ones(len(batch), np.bool_)
    disturbed = [g for g in _groups(batch, series) if _compare(batch, g, history, store, packed, new)]
    around = [_neighbourhood(batch, g, history, store) for g in disturbed]
    verdicts: list[Ints] = []
    if around:
        # by the thresholds in force, and without learning: what a series learned is of its own time
        memory = history.memory.taken(np.array([g.series for g in disturbed]))
        memory.forget_recent()
        windows, statuses = [n.merged for n in around], [n.status for n in around]
        told = judge_again(windows, statuses, memory, history.registry.catalogue, learn=False)
        verdicts = np.split(pack(told.flag, told.tests), np.cumsum([len(w) for w in windows])[:-1])
        verdicts = [
            marks.lay(np.full(len(n.merged), g.station), n.merged.parameter, n.merged.at, verdict)
            for g, n, verdict in zip(disturbed, around, verdicts, strict=True)
        ]
    again: list[tuple[int, int, int, int]] = []
    findings: list[Finding] = []
    lasting: list[Finding] = []
    for g, n, verdict in zip(disturbed, around, verdicts, strict=True):
        late = batch.at[g.rows]
        packed[g.rows] = verdict[np.searchsorted(n.merged.at, late)]
        affected = _affected(n.merged, verdict, late, int(history.newest[g.series]))
        again += _changed(n.stored, n.merged, verdict, affected, late, g.station)
        judged = replace(n.merged, packed=_settled(n.stored, n.merged, verdict, affected))
        found, left = history.checks.late(g.series, _usable(n.stored), _usable(judged), now_ms)
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


_NOTHING_SAID = np.frombuffer(b"NS", np.uint8)
"""HJ 212 data flags by which the device vouches for a reading."""


def _groups(batch: Batch, series: Ints) -> list[_Group]:
    """The batch by series, in its own order."""
    starts = np.flatnonzero(np.diff(series, prepend=-1))
    return [
        _Group(int(batch.station[rows[0]]), int(series[rows[0]]), int(batch.parameter[rows[0]]), rows)
        for rows in np.split(np.arange(len(series)), starts[1:])
    ]


def _compare(batch: Batch, g: _Group, history: History, store: ReadingStore, packed: Ints, new: Bools) -> bool:
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


def _neighbourhood(batch: Batch, g: _Group, history: History, store: ReadingStore) -> _Neighbourhood:
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


def _window(g: _Group, start_ms: int, end_ms: int, history: History, store: ReadingStore) -> Window:
    registry = history.registry
    name = registry.catalogue.parameters[g.parameter].key
    return store.window(registry.stations[g.station].key, start_ms, end_ms, [name])


def _affected(merged: Window, verdict: Ints, late: Ints, newest_ms: int) -> Bools:
    """From the two accepted readings before the first late one on: before that, the window's own beginning is in the
    way.

    The last two accepted readings of a window that ends before its series does lack their successors and are left
    alone, too: bad ones after them succeed nobody.
    """
    affected = np.asarray(merged.at >= late.min())
    before = np.flatnonzero(accepted(merged) & ~affected)
    affected[before[-2:]] = True
    if merged.at[-1] < newest_ms:
        ends = np.flatnonzero((verdict & 15 < Flag.BAD) & ~np.isin(merged.at, late))
        affected[ends[-2:]] = False
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


def _usable(window: Window) -> tuple[Ints, Floats]:
    good = usable(window.packed)
    return window.at[good], window.value[good]
