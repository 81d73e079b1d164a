"""Detect drift: a value that jumps when somebody cleans or calibrates the sensor was wrong before. Pure.

The jump at a visit is compared with the changes at the same hours of the days before: what the water does at that time
of the day proves nothing.
"""

from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS, HOUR_MS
from sensors.parameters import Parameter
from sensors.quality.constants import MIN_KNOWN_DAYS, NEAR_ZERO_STEPS
from sensors.reading import Floats, Ints

WINDOW_MS: Final = 3 * HOUR_MS
"""Windows before and after a visit: the tide turns in six hours."""

SETTLES_MS: Final = 30 * 60_000
"""From the end of a visit: a probe put back has the temperature of the water again (engineering choice)."""

DAYS_BEFORE: Final = 14
"""Days before the visit that are compared; :data:`~sensors.quality.constants.MIN_KNOWN_DAYS` of them must be known."""

MIN_WINDOW_READINGS: Final = 3
"""Readings of a window, at least, for its median."""

_NO_TIMES: Final[Ints] = np.empty(0, np.int64)

MIN_JUMP_RATIO: Final = 1.5
"""A jump leaves the middle of those days by this many times as much as the farthest of them did."""


def jump_at_visit(
    at: Ints, value: Floats, since_ms: int, until_ms: int, parameter: Parameter, unusual: Ints = _NO_TIMES
) -> float | None:
    """By how much a sensor jumped at a visit, in floors of its parameter; None where it did not or too little is known.

    Parameters
    ----------
    at, value : (n,) arrays
        Readings that are not bad, ascending, from ``DAYS_BEFORE`` days and a window before the visit until a window
        after it has settled; canonical unit.
    since_ms, until_ms : int
        When the visit began and ended.
    unusual : (m,) array
        When the sensor stepped by itself or was set before (ms): a day on which it did, at these hours, is left out.

    Returns
    -------
    float or None
        Above 1 in size (nobody would correct less), positive upwards.
    """
    floor = parameter.shift if np.isfinite(parameter.shift) else parameter.spike
    if parameter.relative:
        value = np.log(np.maximum(value, 0.0) + parameter.step / NEAR_ZERO_STEPS)
    back = np.arange(DAYS_BEFORE + 1) * DAY_MS
    before = window_medians(at, value, since_ms - WINDOW_MS - back, since_ms - back)
    after = window_medians(at, value, until_ms + SETTLES_MS - back, until_ms + SETTLES_MS + WINDOW_MS - back)
    changes = (after - before) / floor
    first = since_ms - WINDOW_MS - back[1:, None]
    last = until_ms + SETTLES_MS + WINDOW_MS - back[1:, None]
    changes[1:][((unusual >= first) & (unusual < last)).any(axis=1)] = np.nan
    usual = changes[1:][~np.isnan(changes[1:])]
    if np.isnan(changes[0]) or len(usual) < MIN_KNOWN_DAYS:
        return None
    middle = float(np.median(usual))
    off = float(changes[0]) - middle
    return off if abs(off) > max(1.0, MIN_JUMP_RATIO * float(np.abs(usual - middle).max())) else None


def window_medians(at: Ints, value: Floats, start: Ints, end: Ints) -> Floats:
    """(w,) the median of the values in each window with start <= at < end; NaN where it holds too few."""
    first, last = np.searchsorted(at, start), np.searchsorted(at, end)
    many = int((last - first).max(initial=0))
    if not many:
        return np.full(len(start), np.nan)
    place = first[:, None] + np.arange(many)
    rows = np.where(place < last[:, None], value[np.minimum(place, len(value) - 1)], np.nan)
    return np.where(last - first >= MIN_WINDOW_READINGS, bn.nanmedian(rows, axis=1), np.nan)
