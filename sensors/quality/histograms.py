"""Histograms that forget ("sketches"): what a series remembers of each statistic of the tests.

The thresholds of the tests are quantiles of their own statistic over the last weeks. As counts in bins of constant
ratio the past of a statistic is 256 bytes, costs one addition a reading, and is the same however the readings are cut
into batches: the counts are integers, and forgetting happens at the turn of a UTC day only.
"""

from typing import Final

import numpy as np

from sensors.reading import Codes, Floats, Ints

BINS: Final = 64
"""Four bins an octave over sixteen octaves. The first also holds everything below, the last everything above."""

_UNIT_BIN: Final = 24
"""The bin of the unit itself: six octaves below it are told apart from nothing, almost ten above it."""

ONE: Final = 64
"""The weight of a fresh reading: a count is forgotten for good when less than 1/64 of it is left."""

_SHIFT_BITS: Final = 50
"""A double shifted right by this is its exponent and two bits of its mantissa: the bin, without a logarithm."""

_ONE_AS_BITS: Final = int(np.float64(1.0).view(np.int64)) >> _SHIFT_BITS

_EDGES: Final[Floats] = (np.arange(BINS + 1, dtype=np.int64) - _UNIT_BIN + _ONE_AS_BITS << _SHIFT_BITS).view(np.float64)
"""(BINS + 1,) lower edges of the bins in units, and the upper edge of the last."""


def bins(value: Floats, unit: Floats | float) -> Ints:
    """(n,) the bin of each value >= 0; NaN counts as 0. ``unit`` > 0 is the value of bin 24."""
    scaled = np.ascontiguousarray(value / unit, np.float64)
    found = (scaled.view(np.int64) >> _SHIFT_BITS) - (_ONE_AS_BITS - _UNIT_BIN)
    np.clip(found, 0, BINS - 1, out=found)
    if np.isnan(scaled).any():
        found[np.isnan(scaled)] = 0
    return found


def forget(counts: Codes, keep: Floats) -> Codes:
    """The counts after some days: each times ``keep`` (broadcast), rounded down."""
    return np.asarray((counts * keep).astype(np.int32))


def quantiles(counts: Codes, shares: Floats, unit: Floats) -> Floats:
    """Quantiles of several statistics at once, interpolated within the bin.

    Parameters
    ----------
    counts : (r, k, BINS) int array
        Histograms of k statistics of r series.
    shares : (k, q) float array
        The wanted quantiles of each statistic, 0 to 1.
    unit : (r, k) float array
        The unit each histogram was filled with.

    Returns
    -------
    (r, k, q) float array
        0 where the quantile lies in the lowest bin or nothing was counted.
    """
    sums = np.cumsum(counts, axis=2, dtype=np.int64)
    target = sums[:, :, -1:] * shares  # (r, k, q)
    place = (sums[:, :, None, :] < target[:, :, :, None]).sum(axis=3)
    place = np.minimum(place, BINS - 1)
    upper = np.take_along_axis(sums, place, axis=2)
    within = np.take_along_axis(counts, place, axis=2)
    share = 1.0 - (upper - target) / np.maximum(within, 1)
    low, high = _EDGES[place], _EDGES[place + 1]
    found = (low + np.clip(share, 0.0, 1.0) * (high - low)) * unit[:, :, None]
    return np.asarray(np.where(place == 0, 0.0, found))
