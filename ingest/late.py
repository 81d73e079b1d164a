"""Late data: judged in their own time, inside the neighbourhood that is stored around them (design rule 4)."""

from dataclasses import dataclass

import numpy as np

from governance.finding import Finding
from ingest.checks.engine import usable
from ingest.history import History, merge
from ingest.storage.port import ReadingStore, Window
from sensors.quality import Tail, assess
from sensors.reading import Batch, Bools, Flag, Floats, Ints, QualityTest, pack


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


def judge(batch: Batch, series: Ints, history: History, store: ReadingStore, now_ms: int) -> LateVerdict:
    """Judge readings that are older than what their series already has; sorted by (series, at), each key once."""
    n = len(batch)
    if not n:
        return _NOTHING
    packed, new = np.empty(n, np.int64), np.ones(n, np.bool_)
    again: list[tuple[int, int, int, int]] = []
    changed: list[int] = []
    findings: list[Finding] = []
    lasting: list[Finding] = []
    for station in np.unique(batch.station).tolist():
        rows = np.flatnonzero(batch.station == station)
        key = history.registry.stations[station].key
        for s in np.unique(series[rows]).tolist():
            mine = rows[series[rows] == s]
            parameter = int(batch.parameter[mine[0]])
            around = history.lookback_ms[parameter]
            name = history.registry.catalogue.parameters[parameter].key
            have = store.window(key, int(batch.at[mine[0]]) - around, int(batch.at[mine[-1]]) + around, [name])
            place = np.searchsorted(have.at, batch.at[mine])
            there = np.isin(batch.at[mine], have.at)
            new[mine] = ~there
            same = there.copy()
            same[there] = have.value[place[there]] == batch.value[mine[there]]
            packed[mine[same]] = have.packed[place[same]]
            if same.all():
                continue  # a redelivery: nothing is different now
            changed.append(station)
            merged = merge(have, batch.parameter[mine], batch.at[mine], batch.value[mine].tolist())
            verdict = _assess(have, merged, batch, mine, history)
            packed[mine] = verdict[np.searchsorted(merged.at, batch.at[mine])]
            again += _changed(have, merged, verdict, batch.at[mine], station)
            judged = Window(merged.parameter, merged.at, merged.value, _settled(have, merged, verdict, batch.at[mine]))
            found, left = history.checks.late(s, _usable(have), _usable(judged), now_ms)
            findings += found
            lasting += left
    moved = Batch.of([a[0] for a in again], [a[1] for a in again], [a[2] for a in again], [0.0] * len(again))
    return LateVerdict(
        packed,
        new,
        moved,
        np.array([a[3] for a in again], np.int64),
        tuple(sorted(set(changed))),
        tuple(findings),
        tuple(lasting),
    )


def _assess(have: Window, merged: Window, batch: Batch, mine: Ints, history: History) -> Ints:
    status = np.full(len(merged), ord("N"), np.uint8)
    excluded = ((have.packed >> 4) & QualityTest.DEVICE_STATUS != 0) & ((have.packed & 15) == Flag.BAD)
    status[np.searchsorted(merged.at, have.at[excluded])] = ord("D")
    status[np.searchsorted(merged.at, batch.at[mine])] = batch.status[mine]
    one = np.zeros(len(merged), np.int32)
    verdict = assess(one, merged.parameter, merged.at, merged.value, status, Tail(1), history.registry.catalogue)
    return pack(verdict.flag, verdict.tests)


def _affected(merged: Window, late: Ints) -> Bools:
    """From the reading just before the first late one on: before that, the window's own beginning is in the way."""
    first = int(np.searchsorted(merged.at, late.min()))
    affected = np.zeros(len(merged), np.bool_)
    affected[max(first - 1, 0) :] = True
    return affected


def _settled(have: Window, merged: Window, verdict: Ints, late: Ints) -> Ints:
    """The flags in force after the late data: recomputed where they can matter, as stored elsewhere."""
    settled = verdict.copy()
    before = ~_affected(merged, late)
    place = np.searchsorted(have.at, merged.at[before])
    settled[before] = have.packed[place]
    return settled


def _changed(have: Window, merged: Window, verdict: Ints, late: Ints, station: int) -> list[tuple[int, int, int, int]]:
    """(station, parameter, at, packed) of stored readings whose verdict is another one now."""
    place = np.searchsorted(merged.at, have.at)
    told = _affected(merged, late)[place] & ~np.isin(have.at, late)
    # what the device itself said of a reading is not in the window: its bit, and the flag it gave, stay
    device = (have.packed >> 4) & QualityTest.DEVICE_STATUS
    told &= (device == 0) & (verdict[place] != have.packed)
    rows = np.flatnonzero(told)
    return [(station, int(have.parameter[i]), int(have.at[i]), int(verdict[place[i]])) for i in rows.tolist()]


def _usable(window: Window) -> tuple[Ints, Floats]:
    good = usable(window.packed)
    return window.at[good], window.value[good]
