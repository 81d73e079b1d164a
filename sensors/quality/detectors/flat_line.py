"""Detect sensors that repeat one value exactly for too long.

How many repeats are too many depends on how often the series repeats itself: the limit is the length of a run of equal
values that its own share of repeats makes once in a billion readings, and three times the longest usual run.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.quality.detectors.point_tests import FLAT_SECONDS
from sensors.quality.state import LONG_RUN, REPEATS
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Codes, Floats, Ints

MIN_EQUAL_READINGS: Final = 8
"""Equal values in a row before a sensor is stuck whose series has not learned how often it repeats itself."""

RUN_PROBABILITY: Final = 1e-9
"""Probability of a run so long from a sensor that goes on as it does."""

MIN_LONG_RUNS: Final = 3.0
"""In multiples of the 99.5 % quantile of the series' own runs."""

MIN_READINGS_ONE_BY_ONE: Final = 32
"""Readings a series, on average, from which series are looked at one by one: 3,000 series of four readings take 0.1 ms
together and 4.4 ms one by one, six series of 100,000 readings 95 ms together and 6 ms one by one."""


@dataclass(frozen=True, slots=True)
class EqualRuns:
    """(n,) how many equal values in a row end with each new reading, and the time (ms) of the first of them."""

    length: Codes
    since: Ints


def equal_runs(line: Timeline) -> EqualRuns:
    """Count equal values in a row, going on from what is remembered."""
    segment, starts, n = line.segment, line.starts, len(line.new)
    begins = line.value[line.new] != line.value[line.new - 1]  # NaN before: a run begins
    number = np.arange(n)
    began = np.maximum.accumulate(np.where(begins, number, -1))
    began = np.where(began >= starts[segment], began, -1) if n else began  # a run does not cross into another series
    continues = began < 0
    carried = line.memory.run_samples[line.touched][segment]
    length = np.where(continues, carried + number - starts[segment] + 1, number - began + 1)
    since = np.where(continues, line.memory.run_start[line.touched][segment], line.at[line.new][began])
    return EqualRuns(length.astype(np.int32), since)


def lowest_so_far(line: Timeline) -> Floats:
    """(n,) the lowest accepted value of the series before or at each new reading."""
    out: Floats = line.value[line.new]
    if not len(out):
        return out
    starts = line.starts
    out[starts] = np.minimum(out[starts], line.memory.lowest[line.touched])
    ends = np.append(starts[1:], len(out))
    if MIN_READINGS_ONE_BY_ONE * len(starts) < len(out):
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            np.minimum.accumulate(out[start:end], out=out[start:end])
        return out
    place = np.arange(len(out)) - np.repeat(starts, ends - starts)
    reach, longest = 1, int(place.max())
    while reach <= longest:  # each reading knows the lowest of as many before it as were looked at so far
        rows = np.flatnonzero(place >= reach)
        out[rows] = np.minimum(out[rows], out[rows - reach])
        reach *= 2
    return out


def stuck(line: Timeline, runs: EqualRuns, lowest: Floats, history: ThresholdHistory, mature: Bools) -> Bools:
    """(n,) where a sensor is stuck; ``mature`` (n,) where the series has a past.

    A sensor whose noise grows with its level may stand still at its lowest value: clear water, or its detection limit.
    """
    share = np.clip(history.column(REPEATS), 1e-6, 1 - 1e-6)
    own = np.maximum(np.log(RUN_PROBABILITY) / np.log(share), MIN_LONG_RUNS * history.column(LONG_RUN))
    min_length = np.where(mature, own, float(MIN_EQUAL_READINGS))
    min_seconds = np.where(mature, FLAT_SECONDS / 2, FLAT_SECONDS)
    p, catalogue = line.parameter, line.catalogue
    found = catalogue.flat[p] & (runs.length >= min_length)
    found &= (line.at[line.new] - runs.since) / 1000.0 >= min_seconds
    return np.asarray(found & ~(catalogue.relative[p] & (line.value[line.new] <= lowest)))
