"""Detect spikes (one or two readings) and bursts (three to five) that stand out from the base and return to it.

A storm pulse rises and decays over several readings and lasts; what comes and goes in one step each is the sensor's. A
burst that another kind of sensor of the station comes back from at the same time is the water's.
"""

from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.detectors.point_tests import LONGEST_BURST, LONGEST_BURST_MS, MAX_RETURN_SHARE, level_scale
from sensors.quality.state import BACK, T_LEVEL
from sensors.quality.statistics import BASE_READINGS, ReadingStatistics
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Codes, Floats, Places, QualityTest

MIN_HEIGHT: Final = 8.0
"""Height of a spike or burst in multiples of the sensor's unrest just before."""

UNREST_READINGS: Final = 24
"""Readings before a spike whose distances from their local median are its sensor's unrest."""

SHORTEST_BURST: Final = 3
"""Readings; what is shorter is a spike."""

MAX_BURST_PRESELECT: Final = 0.2
"""In the unit of the spike limit. A first selection by the last step, which is in a slightly other unit, asks for half
the smaller of this and the limit."""


def returned_spikes(line: Timeline, statistics: ReadingStatistics, floor: Floats) -> Bools:
    """(n,) where the reading before stands out above the floor (n,) of its parameter and above the sensor's unrest."""
    return _above_unrest(line, statistics.single, statistics.scale, floor, 1)


def flag_spikes(line: Timeline, statistics: ReadingStatistics, returned: Bools, limit: Floats) -> list[Places]:
    """Flag spikes of one and of two readings above a limit (n,); return the places that were flagged."""
    one = line.new[returned & (statistics.single > limit)]
    two = line.new[_above_unrest(line, statistics.double, statistics.scale, limit, 2)]
    return [line.flag_suspect(places, QualityTest.SPIKE) for places in (one - 1, two - 1, two - 2)]


def _above_unrest(line: Timeline, size: Floats, scale: Floats, limit: Floats, back: int) -> Bools:
    """(n,) where what stands out, beginning ``back`` readings before, is above the limit and the sensor's unrest."""
    out = np.zeros(len(size), np.bool_)
    rows = np.flatnonzero(size > limit)
    if len(rows):
        out[rows[_exceeds_unrest(line, rows, line.new[rows] - back, size[rows], scale[rows])]] = True
    return out


def _exceeds_unrest(line: Timeline, rows: Places, place: Places, size: Floats, scale: Floats) -> Bools:
    """(r,) where what stands out from ``place`` on is far above the unrest of its sensor before that place."""
    unrest = _unrest(line, place, line.catalogue.relative[line.parameter[rows]]) / scale
    return np.asarray(size > MIN_HEIGHT * unrest)


def _unrest(line: Timeline, place: Places, relative: Bools) -> Floats:
    """(r,) median distance of the readings before from their local median.

    That of the readings before each where noise grows with the level, since there the way up and down is rough. For
    others that of the readings around it: what the sun warms or the tide fills moves smoothly.
    """
    half = BASE_READINGS // 2
    window = line.value[place[:, None] + np.arange(-(UNREST_READINGS + BASE_READINGS), 0)]
    views = np.lib.stride_tricks.sliding_window_view(window, BASE_READINGS, axis=1)
    median = bn.nanmedian(np.ascontiguousarray(views), axis=2)
    before, around = window[:, BASE_READINGS:] - median[:, :-1], window[:, half + 1 : -half] - median[:, 1:]
    distance = np.abs(np.where(relative[:, None], before, around))
    return np.asarray(np.nan_to_num(bn.nanmedian(distance, axis=1)))


@dataclass(frozen=True, slots=True)
class Bursts:
    """(c,) bursts that ended.

    Attributes
    ----------
    row : the new reading with which the sensor came back
    length : readings of the burst
    size : how far all of them lie beyond those before and after, in the unit of the spike limit
    scale : what ``size`` was divided by
    """

    row: Places
    length: Codes
    size: Floats
    scale: Floats


def find_bursts(line: Timeline, history: ThresholdHistory, step: Floats, limit: Floats) -> Bursts:
    """Find bursts above a limit (n,) that end with the new readings, which made the steps ``step`` (n,)."""
    usual = history.column(T_LEVEL)

    def scale_at(value: Floats, rows: Places) -> Floats:
        p = line.parameter[rows]
        return level_scale(value, usual[rows], line.catalogue.relative[p], line.catalogue.step[p])

    rows = np.flatnonzero(step > 0.5 * np.minimum(limit, MAX_BURST_PRESELECT))
    last, before = line.value[line.new[rows]], line.value[line.new[rows] - 1]
    rows = rows[np.abs(last - before) > limit[rows] * scale_at(last, rows)]
    none = np.zeros(0, np.int64)
    found = [Bursts(none, none, np.zeros(0), np.zeros(0))]
    for length in range(SHORTEST_BURST, LONGEST_BURST + 1):
        here = line.new[rows]
        base = line.median_before(here - length, BASE_READINGS)
        sides = np.maximum(np.abs(line.value[here] - base), np.abs(line.value[here - length - 1] - base))
        some = np.flatnonzero(sides <= MAX_RETURN_SHARE * np.abs(line.value[here - 1] - base))
        row, here, base = rows[some], here[some], base[some]
        apart = line.value[here[:, None] - np.arange(length + 2)] - base[:, None]
        apart *= np.sign(apart[:, 1:2])
        lowest = apart[:, 1:-1].min(axis=1)
        scale = scale_at(base, row)
        size = (lowest - np.maximum(apart[:, 0], apart[:, -1])) / scale
        short = line.at[here] - line.at[here - length - 1] <= LONGEST_BURST_MS
        some = np.flatnonzero((sides[some] <= MAX_RETURN_SHARE * lowest) & short & (size > limit[row]))
        found.append(Bursts(row[some], np.full(len(some), length), size[some], scale[some]))
    return Bursts(*(np.concatenate([getattr(part, name) for part in found]) for name in Bursts.__slots__))


def flag_bursts(line: Timeline, bursts: Bursts, limit: Floats) -> list[Places]:
    """Flag bursts above the spike limit (n,) that no other kind of sensor came back from; return the flagged places."""
    high = np.flatnonzero(bursts.size > limit[bursts.row])
    row, length = bursts.row[high], bursts.length[high]
    sure = _exceeds_unrest(line, row, line.new[row] - length, bursts.size[high], bursts.scale[high])
    row, length = row[sure], length[sure]
    alone = line.marks_of_other_kinds(BACK, row, 2) == 0
    here, length = line.new[row[alone]], length[alone]
    return [line.flag_suspect(here[length >= k] - k, QualityTest.BURST) for k in range(1, LONGEST_BURST + 1)]
