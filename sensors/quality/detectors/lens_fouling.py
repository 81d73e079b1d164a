"""Detect optical sensors whose readings are lifted by growth on the lens: evenly, day by day, and alone."""

import itertools
from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import CHECK_DUE, CHECK_DUE_IF_UNVISITED, LENS_FOULED
from sensors.quality.departure import (
    BEFORE,
    MIN_DEPARTURE_RATIO,
    MIN_LASTING_SHARE,
    NOW_DAYS,
    departures,
    log_positive,
    neighbour_series,
    usual_departure,
)
from sensors.quality.known_days import KnownDays
from sensors.quality.neighbours import Neighbours
from sensors.reading import Bits, Bools, Floats, Ints, Places

# -- constants -------------------------------------------------------------------------------------------------------

FOULED_EVENTS: Final = frozenset({"turbidity", "bloom"})
"""What growth adds to: it scatters light, and algae shine. Humic matter it hides."""
MIN_LIFT_LOG: Final = float(np.log(1.5))
"""Growth scatters light itself, the more the thicker it is: all of a day is lifted by the same, in clear hours as in
dirty ones. A lift of half the level counts: tolerances of such sensors are a tenth, rivers do a third in a week
(engineering choice)."""
MAX_SWING_GROWTH: Final = 0.5
"""Of the growth of the middle: water that gets dirty does so more at some hours than at others. Where the swing grew by
more, it was the water."""
UNVISITED_LIFT_SHARE: Final = 0.5
"""Of what the month of the sensor has seen: lifted by so much it may be growth; by all of that, it is likely."""
MIN_CALM_WITNESSES: Final = 2
"""Other parameters of the station that must be known. None may have departed from its own past, and fewer than this may
have gone farther than ever in their month: with a flood, a thaw or a bloom several do, one alone does by chance."""


# -- detection -------------------------------------------------------------------------------------------------------


def fouled_lenses(blocks: Places, known: KnownDays, network: Neighbours) -> Bits:
    """(b,) bits where the readings of an optical sensor have been lifted evenly, day by day.

    ``CHECK_DUE | LENS_FOULED``, or ``CHECK_DUE_IF_UNVISITED``. Nothing else of the station has departed from its past,
    nor has the same parameter at a neighbour. ``blocks`` (b,) begin a day.
    """
    found = np.zeros(len(blocks), np.uint32)
    kinds = known.catalogue
    grows = np.array([p.optical and p.event in FOULED_EVENTS for p in kinds.parameters])
    segment = known.days.segment[blocks]
    rows = np.flatnonzero(grows[known.parameter[segment]])
    if not len(rows):
        return found
    series, day = known.days.touched[segment[rows]], known.days.day[blocks[rows]]
    swing, median = known.before(series, day)
    line = _log_median(median, kinds.step[known.parameter[segment[rows]]])
    with np.errstate(invalid="ignore"):
        even = departures(swing[:, : BEFORE.stop])[:, 0] < MAX_SWING_GROWTH * departures(median[:, : BEFORE.stop])[:, 0]
    lifted = _is_lifted(line, MIN_LIFT_LOG) & even & _rises(line)
    beside = neighbour_series(known, series, network, lifted)
    for i in np.flatnonzero(lifted).tolist():
        next_to = beside[i, beside[i] >= 0]
        theirs = _log_median(
            known.before(next_to, np.full(len(next_to), day[i]))[1], kinds.step[known.memory.parameter[next_to]]
        )
        usual = usual_departure(departures(line[i : i + 1])[0])
        if np.isnan(usual) or _is_lifted(theirs, MIN_LASTING_SHARE * MIN_LIFT_LOG).any():
            continue
        if not _others_stayed(known, _non_optical_series(known, int(series[i])), int(day[i])):
            continue
        if _is_lifted(line[i : i + 1], usual)[0]:
            found[rows[i]] = CHECK_DUE | LENS_FOULED
        elif _is_lifted(line[i : i + 1], UNVISITED_LIFT_SHARE * usual)[0]:
            found[rows[i]] = CHECK_DUE_IF_UNVISITED
    return found


def _log_median(median: Floats, step: Floats) -> Floats:
    """(b, LONG) medians of days as logarithms, as near to zero as the smallest believable step."""
    return np.asarray(np.log(np.maximum(median, 0.0) + step[:, None]))


def _is_lifted(line: Floats, limit: float) -> Bools:
    """(b,) where the middle of the last days is higher than that of the days BEFORE by a limit, and none is much lower.

    What grows does not go away by itself. ``line`` (b, LONG) logarithms.
    """
    before = bn.nanmedian(line[:, BEFORE], axis=1)
    with np.errstate(invalid="ignore"):
        least = bn.nanmin(line[:, :NOW_DAYS], axis=1) - before > MIN_LASTING_SHARE * limit
        return np.asarray(least & (departures(line[:, : BEFORE.stop])[:, 0] > limit))


def _rises(line: Floats) -> Bools:
    """(b,) where the days (b, LONG) are higher, three by three, than those before."""
    parts = [bn.nanmedian(line[:, part], axis=1) for part in (slice(0, 3), slice(3, 6), slice(6, 9), BEFORE)]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logical_and.reduce([late >= early for late, early in itertools.pairwise(parts)]))


def _non_optical_series(known: KnownDays, series: int) -> Ints:
    """Series of the station whose days are known and that growth on a lens does not affect."""
    memory, kinds = known.memory, known.catalogue
    plain = (np.isfinite(kinds.swing) | np.isfinite(kinds.near)) & ~kinds.optical
    return np.flatnonzero((memory.station == memory.station[series]) & plain[memory.parameter] & known.has_days)


def _others_stayed(known: KnownDays, others: Ints, day: int) -> bool:
    """Whether none of the other series (o,) departed from its own past as it never did in a month.

    False where fewer than MIN_CALM_WITNESSES parameters are known.
    """
    if not len(others):
        return False
    kind = known.memory.parameter[others]
    line = known.before(others, np.full(len(others), day))[1]
    log = known.catalogue.relative[kind]
    line[log] = log_positive(line[log])
    went = departures(line)
    usual = np.array([usual_departure(one) for one in went])
    judged = ~np.isnan(went[:, 0]) & ~np.isnan(usual)
    if len(np.unique(kind[judged])) < MIN_CALM_WITNESSES:
        return False
    far, most = np.abs(went[judged, 0]), usual[judged]
    return bool((far <= MIN_DEPARTURE_RATIO * most).all() and (far > most).sum() < MIN_CALM_WITNESSES)
