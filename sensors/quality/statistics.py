"""The statistics of each new reading that the series learns and the detectors compare with their limits."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.quality.detectors.point_tests import level_scale, stands_out
from sensors.quality.histograms import bins
from sensors.quality.state import LEVEL, T_LEVEL
from sensors.quality.thresholds import ThresholdHistory, level_unit
from sensors.quality.timeline import Timeline
from sensors.reading import Floats

BASE_READINGS: Final = 7
"""Readings whose median is the base that spikes stand out from."""

MAX_SPREAD_OF_STEP: Final = 0.25
"""A sensor that steps was still and stays where it went: the four readings before differ by less than this share of the
step, and so do the three from it on. A front of salt or of a flood comes and goes on."""


@dataclass(frozen=True, slots=True)
class ReadingStatistics:
    """(n,) what each new reading shows of the ones before it, divided by ``scale``; NaN where there is no past.

    Attributes
    ----------
    scale : 1, or the level of the water where noise grows with it
    peak : distance of the reading before from the nearer neighbour, where it lies beyond both
    single, double : how far the reading before, and the two before, stand out from the base and return to it
    shift : how far three readings lie beyond the four before
    calm_shift : ``shift`` where the readings on either side of it are calm, else 0
    noise : distance of the reading before from the mean of its neighbours
    step : distance from the reading before
    """

    scale: Floats
    peak: Floats
    single: Floats
    double: Floats
    shift: Floats
    calm_shift: Floats
    noise: Floats
    step: Floats


def measure(line: Timeline, history: ThresholdHistory) -> ReadingStatistics:
    """Compute the statistics of the new readings; fills the sketch of levels first, others are divided by it."""
    catalogue, p = line.catalogue, line.parameter
    base = line.median_before(line.new - 1, BASE_READINGS)
    earlier = np.roll(base, 1)  # the base of the reading before, which is not a new one where a series begins
    earlier[line.starts] = line.median_before(line.new[line.starts] - 2, BASE_READINGS)
    relative = np.flatnonzero(catalogue.relative[p])
    size = np.abs(line.value[line.new[relative]])
    history.fill([LEVEL], [relative], [bins(np.sqrt(size / level_unit(p[relative], catalogue)), 1.0)])
    scale = np.ones(len(line.new))
    scale[relative] = level_scale(
        base[relative],
        history.column(T_LEVEL)[relative],
        catalogue.relative[p[relative]],
        catalogue.step[p[relative]],
    )

    x0, x1, x2, x3, x4, x5, x6 = (line.lag(k) for k in range(7))
    single = stands_out(x1, x2, x0, base) / scale
    single[np.isnan(base)] = np.nan
    first, second = stands_out(x2, x3, x0, earlier), stands_out(x1, x3, x0, earlier)
    same_side = np.sign(x2 - earlier) == np.sign(x1 - earlier)
    double = np.where(same_side, np.minimum(first, second), 0.0) / scale
    # the sketch sees every local peak, returned or not: the ordinary unrest of the sensor
    peak = np.where((x1 > x2) == (x1 > x0), np.minimum(np.abs(x1 - x2), np.abs(x1 - x0)) / scale, 0.0)
    peak[np.isnan(x2)] = np.nan
    high = np.maximum(np.maximum(x3, x4), np.maximum(x5, x6))
    low = np.minimum(np.minimum(x3, x4), np.minimum(x5, x6))
    lowest, highest = np.minimum(np.minimum(x0, x1), x2), np.maximum(np.maximum(x0, x1), x2)
    shift = np.maximum(np.maximum(lowest - high, low - highest), 0.0) / scale
    spread = np.maximum(high - low, highest - lowest)
    return ReadingStatistics(
        scale=scale,
        peak=peak,
        single=single,
        double=double,
        shift=shift,
        calm_shift=shift * (spread < MAX_SPREAD_OF_STEP * np.abs(x2 - x3)),
        noise=np.abs(x1 - (x0 + x2) / 2.0) / scale,
        step=np.abs(x0 - x1) / scale,
    )
