"""Detect sensors that repeat one value exactly for too long.

How many repeats are too many depends on how often the series repeats itself: the limit is a run of equal
values three times as long as its longest usual run.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.quality.detectors.point_tests import FLAT_SECONDS
from sensors.quality.state import LONG_RUN
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Codes, Ints

MIN_EQUAL_READINGS: Final = 8
"""Equal values in a row before a sensor is stuck whose series has not learned how often it repeats itself."""

MIN_LONG_RUNS: Final = 3.0
"""In multiples of the 99.5 % quantile of the series' own runs."""


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


def stuck(line: Timeline, runs: EqualRuns, history: ThresholdHistory, mature: Bools) -> Bools:
    """(n,) where a sensor is stuck; ``mature`` (n,) where the series has a past.

    A level or a salinity may stand still by nature: whether this one does, only its past shows.

    A sensor whose noise grows with its level may stand still at zero: clear water, or its detection limit.
    """
    min_length = np.where(mature, MIN_LONG_RUNS * history.column(LONG_RUN), float(MIN_EQUAL_READINGS))
    min_seconds = np.where(mature, FLAT_SECONDS / 2, FLAT_SECONDS)
    p, catalogue = line.parameter, line.catalogue
    found = (catalogue.flat[p] | (catalogue.flat_by_past[p] & mature)) & (runs.length >= min_length)
    found &= (line.at[line.new] - runs.since) / 1000.0 >= min_seconds
    return np.asarray(found & ~(catalogue.relative[p] & (line.value[line.new] <= 0)))
