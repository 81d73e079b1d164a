"""The single tests, each a pure function over columns; all thresholds come from the catalogue or from arguments.

Times are seconds since the epoch, missing values are NaN, flags are :class:`sensors.reading.Flag` as uint8.
"""

import numpy as np

from sensors.reading import Bools, Bytes, Codes, Flag, Floats

SENTINELS = np.array(
    [-9999.0, -999.0, -99999.0, 9999.0, 999.0, -7999.0, -6999.0, -8888.0, -99.9, -999.9, -9999.9], np.float64
)
"""Fault codes of common loggers (list of the detection prototype, rule 1)."""

SPIKE_RETURN = 0.2
"""A spike's neighbours lie within this share of its height of the base (prototype rule 2): a storm pulse rises and
decays over samples, a sensor spike does not."""

SPIKE_RESTLESS = 8.0
SPIKE_RESTLESS_OTHERS = 14.0
"""A spike stands out this many times beyond the usual distance of the last samples from their base, for optical and
for other sensors (prototype rule 2)."""

FLAT_SAMPLES = 8
FLAT_SECONDS = 12 * 3600.0
"""A stuck sensor repeats itself exactly for at least this many samples (prototype rule 4) and this long: within half a
day tide or daylight moves temperature, pH, oxygen and conductivity by more than their last digit. (The prototype asks
for six hours and learns from each series how rare repeats are; until then, longer.)"""

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


def spike(windows: Floats, following: Floats, *, floor: Floats) -> Bools:
    """Which samples stand out from both neighbours and return at once.

    Parameters
    ----------
    windows : (n, 9) float array
        Eight samples before the judged one, oldest first, and the judged one last; NaN where there is none.
    following : (n,) float array
        The sample after the judged one; NaN where there is none yet (then nothing is flagged).
    floor : (n,) float array
        Height below which nothing is a spike, same unit, > 0.

    Returns
    -------
    (n,) bool array

    Source: rule 2 of the detection prototype (one-sample spike), with its local restlessness term.
    """
    x = windows[:, -1]
    before = windows[:, 1:-1]
    previous = windows[:, -2]
    base = nanmedian(before)
    height = x - base
    sign = np.sign(height)
    out = np.minimum(sign * (x - previous), sign * (x - following))
    near = SPIKE_RETURN * np.abs(height)
    returns = (np.abs(previous - base) <= near) & (np.abs(following - base) <= near)
    restless = nanmedian(np.abs(before - base[:, None]))
    with np.errstate(invalid="ignore"):
        return np.asarray(returns & (out > np.maximum(floor, SPIKE_RESTLESS * restless)))


def rate_of_change(values: Floats, previous: Floats, elapsed_s: Floats, *, step: Floats, per_hour: Floats) -> Bytes:
    """Flag values that moved faster than the water could.

    Parameters
    ----------
    values, previous : (n,) float arrays
        The sample and the accepted one before it; NaN where there is none.
    elapsed_s : (n,) float array
        Seconds between the two, > 0.
    step, per_hour : (n,) float arrays
        Believable change however short the time (noise, mixing) and what an hour may add, same unit.

    Returns
    -------
    (n,) uint8 array of Flag
        UNKNOWN where there is no predecessor within six hours.

    Source: IOOS QARTOD, test 7 (rate of change), with a floor for sampling faster than the water mixes.
    """
    known = ~np.isnan(previous) & (elapsed_s > 0) & (elapsed_s <= GAP_SECONDS)
    with np.errstate(invalid="ignore"):
        fast = np.abs(values - previous) > step + per_hour * elapsed_s / 3600.0
    return np.where(known, np.where(fast, Flag.SUSPECT, Flag.GOOD), Flag.UNKNOWN).astype(np.uint8)


def flat_line(run_samples: Codes, run_seconds: Floats) -> Bools:
    """(n,) true where the value has repeated exactly for too long; the run counts the sample itself.

    Source: IOOS QARTOD, test 8 (flat line), limits of the detection prototype.
    """
    return (run_samples >= FLAT_SAMPLES) & (run_seconds >= FLAT_SECONDS)


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
