"""The single tests, each a pure function over columns; all thresholds come from the catalogue or from arguments.

Times are seconds since the epoch, missing values are NaN, flags are :class:`sensors.reading.Flag` as uint8.
"""

import numpy as np

from sensors.reading import Bools, Floats

SENTINELS = np.array(
    [-9999.0, -999.0, -99999.0, 9999.0, 999.0, -7999.0, -6999.0, -8888.0, -99.9, -999.9, -9999.9], np.float64
)
"""Fault codes of common loggers (list of the detection prototype, rule 1)."""

SPIKE_RETURN = 0.2
"""A spike's neighbours lie within this share of its height of the base (prototype rule 2): a storm pulse rises and
decays over samples, a sensor spike does not."""

LONGEST_BURST = 5
BURST_MS = 2 * 3_600_000
"""A burst comes and goes in one step each, as a spike does, and lies between: at most so many readings, and not longer
than two hours from the reading before it to the one after. A leaf or a bubble is gone by then; what stays longer may be
water (events compare with two hours, too)."""

SPIKE_RESTLESS = 8.0
SPIKE_RESTLESS_OTHERS = 14.0
"""A spike stands out this many times beyond the usual distance of the last samples from their base, for optical and
for other sensors (prototype rule 2)."""

FLAT_SAMPLES = 8
FLAT_SECONDS = 12 * 3600.0
"""A stuck sensor repeats itself exactly for at least this many samples (prototype rule 4) and this long: within half a
day tide or daylight moves temperature, pH, oxygen and conductivity by more than their last digit. Half of it is enough
once the series has shown how rare its repeats are (prototype rule 4)."""

GAP_SECONDS = 6 * 3600.0
"""Two samples further apart than this are no neighbours: neither spike nor rate can be judged across."""


FAULT_CODES = SENTINELS[SENTINELS < 0]
"""Those that no unit makes a measurement of."""


def sentinel(values: Floats) -> Bools:
    """(n,) true where the value is a logger's fault code; ±999 and 9999 count only as exact numbers."""
    return np.isin(values, SENTINELS)


def outside(values: Floats, low: Floats, high: Floats) -> Bools:
    """(n,) true where the value lies outside the closed range [low, high] given for each value."""
    return (values < low) | (values > high)


def stands_out(values: Floats, before: Floats, after: Floats, base: Floats) -> Floats:
    """How far a reading stands out beyond both neighbours; 0 where it does not return or cannot be told.

    All arguments are (n,), in one unit: the readings, their neighbours, and the median of the readings before. The
    neighbours must lie within :data:`SPIKE_RETURN` of the reading's height of that base.

    Source: rule 2 of the detection prototype.
    """
    height = values - base
    sign = np.sign(height)
    with np.errstate(invalid="ignore"):
        out = np.minimum(sign * (values - before), sign * (values - after))
        close = SPIKE_RETURN * np.abs(height)
        returns = (np.abs(before - base) <= close) & (np.abs(after - base) <= close)
        return np.asarray(np.where(returns & (out > 0), out, 0.0))


def nanmedian(rows: Floats) -> Floats:
    """(n,) median of each row of an (n, k) array without its NaN; NaN where a row has nothing else.

    A small exact replacement for ``np.nanmedian``, which falls back to a Python loop over rows.
    """
    ordered = np.sort(rows, axis=1)  # NaN sorts last
    count = (~np.isnan(rows)).sum(axis=1)
    index = np.arange(len(rows))
    low = ordered[index, np.maximum(count - 1, 0) // 2]
    high = ordered[index, np.minimum(count // 2, rows.shape[1] - 1)]
    return np.asarray(np.where(count > 0, (low + high) / 2, np.nan))
