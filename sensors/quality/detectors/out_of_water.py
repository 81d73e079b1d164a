"""Detect what a sonde measures while it hangs in air, is taken out or cleaned.

Conductivity and depth tell it: next to nothing beside their last day, or beside the usual level. Readings that are bad
by themselves (fault codes, values outside the instrument) count as such *dead* readings, too. Two kinds of sensor dead
at once mark all sensors of the station at that instant. One kind dead marks those sensors that jumped within one
reading (``WEAK``), where four kinds are involved.
"""

from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import MOVE_WINDOW_MS
from sensors.quality.state import T_LEVEL, WEAK, SeriesState
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Codes, Ints, Places, QualityTest, pieces

DEAD_LEVELS: Final = (("conductivity", 0.10), ("depth", 0.15))
"""(parameter, share): a reading is dead below this share of the median of the readings before."""
DEAD_LEVEL_READINGS: Final = 24
"""Readings of that median."""

AIR_SHARE: Final = 0.1
AIR_CONDUCTIVITY: Final = 50.0
"""A conductivity below this share of the usual one, and in µS/cm below what any river of the plain has, is that of air:
the sensor is out of the water for however long. (Of 100 stations of the Pearl River delta 5 % of the readings lie below
104 µS/cm.)"""

MAX_DEAD_RUN: Final = 8
"""A run of dead readings speaks against the other sensors only while it is this short: a sensor that is dead for weeks
shows nothing of its neighbours."""

MIN_VISIT_KINDS: Final = 4
"""Kinds of sensor that must be involved for weak evidence to make a visit."""


def in_air(line: Timeline, history: ThresholdHistory) -> Bools:
    """(n,) conductivities that are those of air."""
    value = line.value[line.new]
    low = (value < AIR_CONDUCTIVITY) & (value < AIR_SHARE * history.column(T_LEVEL))
    return np.asarray(line.is_parameter("conductivity") & low)


def station_in_air(line: Timeline, dry: Bools) -> Bools:
    """(n,) readings of stations whose conductivity is that of air (``dry``), or was within the window of moves.

    What sensors do in air is not what is usual at that time of the day, and must not be learned.
    """
    out = np.zeros(len(line.new), np.bool_)
    air = (line.packed & (int(QualityTest.OUT_OF_WATER) << 4)) != 0
    air[line.new] = dry
    if not air.any():
        return out
    conductivity = line.memory.parameter[line.touched] == line.catalogue.index.get("conductivity", -1)
    place = np.flatnonzero(air)
    owner = line.series_of(place)
    place, owner = place[conductivity[owner]], owner[conductivity[owner]]
    station = line.station
    for one in np.unique(station[owner]).tolist():
        rows = np.flatnonzero((station == one)[line.segment])
        at, since = line.at[line.new[rows]], np.sort(line.at[place[station[owner] == one]])
        last = np.searchsorted(since, at, side="right") - 1
        out[rows[(last >= 0) & (at - since[last] <= MOVE_WINDOW_MS)]] = True
    return out


def is_dead(line: Timeline) -> Bools:
    """(n,) whether conductivity or depth is next to nothing beside its last readings."""
    out = np.zeros(len(line.new), np.bool_)
    for key, share in DEAD_LEVELS:
        rows = np.flatnonzero(line.is_parameter(key))
        before = pieces(line.value, line.new[rows] - DEAD_LEVEL_READINGS, DEAD_LEVEL_READINGS)
        median = np.asarray(bn.nanmedian(before, axis=1))
        out[rows] = line.value[line.new[rows]] < share * median
    return out


def dead_runs(series: Codes, dead: Bools, memory: SeriesState) -> Codes:
    """(n,) how many readings in a row, up to and with each, are dead."""
    number = np.arange(len(series))
    first = np.diff(series, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(first, number, 0))
    alive = np.maximum.accumulate(np.where(~dead, number, -1))
    carried = np.where(alive >= start, 0, memory.dead_run[series])
    return np.asarray(np.where(dead, number - np.maximum(alive, start - 1) + carried, 0), np.int32)


def follows_dead(series: Codes, runs: Codes, memory: SeriesState) -> Bools:
    """(n,) whether the reading before was dead."""
    before = np.empty(len(series), np.bool_)
    before[1:] = runs[:-1] > 0
    first = np.flatnonzero(np.diff(series, prepend=-1))
    before[first] = memory.dead_run[series[first]] > 0
    return before


def flag_out_of_water(line: Timeline, series: Codes, at: Ints, runs: Codes) -> list[Places]:
    """Flag what the sensors of a station measured out of the water; return the flagged places.

    ``series``, ``at`` and ``runs`` (n,) are all readings of the batch with their runs of dead ones, bad readings among
    them.
    """
    memory = line.memory
    dead = np.flatnonzero((runs > 0) & (runs <= MAX_DEAD_RUN))
    remembered = np.flatnonzero((memory.dead_run > 0) & (memory.dead_run <= MAX_DEAD_RUN))
    if len(remembered):
        remembered = remembered[np.isin(memory.station[remembered], line.station)]
    if not len(dead) + len(remembered):
        return []
    dead_series = np.concatenate([series[dead], remembered])
    dead_at = np.concatenate([at[dead], memory.dead_at[remembered]])
    dead_station, dead_kind = memory.station[dead_series], line.kind_of[memory.parameter[dead_series]]
    flagged = []
    for station in np.unique(dead_station).tolist():
        mine = dead_station == station
        sensors = np.flatnonzero(line.station == station)
        if not len(sensors):
            continue
        spans = [np.arange(line.origin[i], line.last[i] + 1) for i in sensors.tolist()]
        place = np.concatenate(spans)
        kind = np.repeat(line.kind[sensors], [len(span) for span in spans])
        known = ~np.isnan(line.value[place])
        place, kind = place[known], kind[known]
        order = np.argsort(line.at[place], kind="stable")
        flagged += _flag_station(line, place[order], kind[order], dead_at[mine], dead_kind[mine])
    return flagged


def _flag_station(line: Timeline, place: Places, kind: Ints, dead_at: Ints, dead_kind: Ints) -> list[Places]:
    """One station: the places of its readings and their kind by time, and when which kinds of sensor were dead."""
    at, weak = line.at[place], (line.mark[place] & WEAK) > 0
    instants = np.unique(dead_at)
    all_instants = np.unique(np.concatenate([at, instants]))
    order = np.argsort(dead_at, kind="stable")
    dead_at, dead_kind = dead_at[order], dead_kind[order]
    flagged = []
    for instant in instants.tolist():
        now = slice(*np.searchsorted(dead_at, [instant, instant + 1]).tolist())
        if len(set(dead_kind[now].tolist())) > 1:
            first, last = np.searchsorted(at, [instant, instant + 1]).tolist()
            flagged.append(line.flag_suspect(place[first:last], QualityTest.OUT_OF_WATER))
            continue
        i = int(np.searchsorted(all_instants, instant))
        before, after = all_instants[max(i - 1, 0)], all_instants[min(i + 1, len(all_instants) - 1)]
        first, last = np.searchsorted(at, [before, after + 1]).tolist()
        hints = first + np.flatnonzero(weak[first:last])
        around = slice(*np.searchsorted(dead_at, [before, after + 1]).tolist())
        if len(set(kind[hints].tolist()) | set(dead_kind[around].tolist())) >= MIN_VISIT_KINDS:
            flagged.append(line.flag_suspect(place[hints], QualityTest.OUT_OF_WATER))
    return flagged
