"""Detect sensors whose daily median left, or crept away from, those of the next stations above and below."""

from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import CHECK_DUE, CHECK_DUE_IF_UNVISITED
from sensors.quality.departure import (
    BEFORE,
    FIRST_PAST_DAY,
    MIN_DEPARTURE_RATIO,
    MIN_LASTING_SHARE,
    MIN_PAST_DAYS,
    NOW_DAYS,
    departures,
    log_positive,
    neighbour_series,
)
from sensors.quality.known_days import KnownDays
from sensors.quality.neighbours import Neighbours
from sensors.quality.state import REMEMBERED_DAYS
from sensors.reading import Bits, Bools, Floats, Places, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------

# A median departs from the neighbouring stations within days (NEIGHBOURS).
STEP_PARAMETERS: Final = frozenset({"water_temp", "ph"})
"""Parameters for which leaving the neighbours within a day or two is a doubt: salts and oxygen do so in every tide."""
RECENT_MEDIAN_DAYS: Final = 2
"""Days for which a median must depart: a plume passes within one."""
MIN_DIFFERENCE_DAYS: Final = 12
"""Days before that for which the difference must be known: nearly from spring tide to spring tide, and long enough for
a front to have passed, since the largest difference is the measure."""
MIN_OWN_RATIO: Final = 2.0
"""In multiples of what the neighbour moved from its own past: so far the sensor must have moved from its own. Where
both moved the water did, or the cause is undecided."""


# A median creeps away over weeks (NEIGHBOURS, CHECK_DUE, CHECK_DUE_IF_UNVISITED).
MIN_CREEP_RATIO_UNVISITED: Final = 1.5
"""In multiples of the usual departure, instead of :data:`MIN_DEPARTURE_RATIO`: due where nobody was there for long."""
ONE_NEIGHBOUR_PARAMETERS: Final = frozenset({"ph"})
"""Parameters for which one neighbour is enough to send somebody to look: a glass electrode ages, and the acid of two
waters of one river differs steadily. Of two waters one warms twice as fast in spring."""
MIN_AGREEING_NEIGHBOURS: Final = 2
"""Neighbours from all of which a sensor must creep away before its readings are doubted: then it is not one of them
that moved, and a salt tide or a discharge from above reaches the one below, too."""


# -- detection -------------------------------------------------------------------------------------------------------


def departed(blocks: Places, known: KnownDays, network: Neighbours) -> Bits:
    """(b,) bits where the medians depart, or creep away, from those of all neighbours while the neighbours stayed.

    ``NEIGHBOURS``, ``CHECK_DUE`` and ``CHECK_DUE_IF_UNVISITED``; ``blocks`` (b,) begin a day.
    """
    found = np.zeros(len(blocks), np.uint32)
    if not network:
        return found
    segment = known.days.segment[blocks]
    near = known.catalogue.near[known.parameter[segment]]
    series = known.days.touched[segment]
    beside = neighbour_series(known, series, network, np.isfinite(near))
    some = np.flatnonzero((beside >= 0).any(axis=1))
    if not len(some):
        return found
    day, parameters = known.days.day[blocks[some]], known.parameter[segment[some]]
    log = np.flatnonzero(known.catalogue.relative[parameters])
    steps, alone = (
        np.array([p.key in kinds for p in known.catalogue.parameters])[parameters]
        for kinds in (STEP_PARAMETERS, ONE_NEIGHBOUR_PARAMETERS)
    )
    own = known.before(series[some], day)[1]
    own[log] = log_positive(own[log])
    compared, crept = np.zeros(len(some), np.int64), np.zeros(len(some), np.int64)
    departs, creeps, perhaps = (np.ones(len(some), np.bool_) for _ in range(3))
    for column in range(beside.shape[1]):
        other = beside[some, column]
        rows = np.flatnonzero(other >= 0)
        theirs = known.before(other[rows], day[rows])[1]
        theirs[np.isin(rows, log)] = log_positive(theirs[np.isin(rows, log)])
        judged, apart = _departs(own[rows], theirs, near[some[rows]])
        compared[rows] += judged
        departs[rows] &= ~judged | apart
        judged, away, somewhat = _creeps(own[rows], theirs, near[some[rows]])
        crept[rows] += judged
        creeps[rows] &= ~judged | away
        perhaps[rows] &= ~judged | somewhat
    found[some[(compared > 0) & departs & steps | (crept >= MIN_AGREEING_NEIGHBOURS) & creeps]] = int(
        QualityTest.NEIGHBOURS
    )
    enough = crept >= np.where(alone, 1, MIN_AGREEING_NEIGHBOURS)
    found[some[enough & creeps]] |= np.uint32(CHECK_DUE)
    found[some[enough & perhaps & ~creeps]] |= np.uint32(CHECK_DUE_IF_UNVISITED)
    return found


def _departs(own: Floats, theirs: Floats, near: Floats) -> tuple[Bools, Bools]:
    """(b,) whether two series can be compared, and whether the first departs from the second.

    It departs when the difference of the medians (b, LONG) left its middle for the last two days or more, and the first
    series moved from its own past. ``near`` (b,) is the smallest difference that counts.
    """
    own, theirs = own[:, :REMEMBERED_DAYS], theirs[:, :REMEMBERED_DAYS]
    with np.errstate(invalid="ignore"):
        difference = own - theirs
        judged = ~np.isnan(difference[:, :RECENT_MEDIAN_DAYS]).any(axis=1)
        judged &= (~np.isnan(difference[:, RECENT_MEDIAN_DAYS:])).sum(axis=1) >= MIN_DIFFERENCE_DAYS
        departs = np.zeros(len(own), np.bool_)
        rows = np.flatnonzero(judged)
        for gone in range(RECENT_MEDIAN_DAYS, REMEMBERED_DAYS - MIN_DIFFERENCE_DAYS + 1):
            rows = rows[(~np.isnan(difference[rows, gone:])).sum(axis=1) >= MIN_DIFFERENCE_DAYS]
            if not len(rows):
                break
            middle = bn.nanmedian(difference[rows, gone:], axis=1)
            usual = bn.nanmax(np.abs(difference[rows, gone:] - middle[:, None]), axis=1)
            limit = np.maximum(MIN_DEPARTURE_RATIO * usual, near[rows])[:, None]
            off = difference[rows, :gone] - middle[:, None]
            far = ((off > limit) | np.isnan(off)).all(axis=1) | ((off < -limit) | np.isnan(off)).all(axis=1)
            moved, theirs_moved = (
                np.abs(one[rows, :RECENT_MEDIAN_DAYS].mean(axis=1) - bn.nanmedian(one[rows, gone:], axis=1))
                for one in (own, theirs)
            )
            departs[rows[far & (moved >= MIN_OWN_RATIO * theirs_moved)]] = True
    return judged, departs


def _creeps(own: Floats, theirs: Floats, near: Floats) -> tuple[Bools, Bools, Bools]:
    """(b,) whether the weeks before show what is usual between two series, whether the first creeps away from the
    second as it never did, and whether it does so less clearly.

    ``own``, ``theirs`` (b, LONG) medians; ``near`` (b,) is the smallest difference that counts.
    """
    went = departures(own - theirs)
    past = np.abs(went[:, FIRST_PAST_DAY:])
    judged = ((~np.isnan(past)).sum(axis=1) >= MIN_PAST_DAYS) & ~np.isnan(went[:, 0])
    away, somewhat = np.zeros(len(own), np.bool_), np.zeros(len(own), np.bool_)
    rows = np.flatnonzero(judged)
    if len(rows):
        usual = bn.nanmax(past[rows], axis=1)
        with np.errstate(invalid="ignore"):
            along = went[rows, :NOW_DAYS] * np.sign(went[rows, :1])
            moved, theirs_moved = (np.abs(departures(one[rows, : BEFORE.stop])[:, 0]) for one in (own, theirs))
            by_itself = moved >= MIN_OWN_RATIO * theirs_moved
            for share, far in ((MIN_DEPARTURE_RATIO, away), (MIN_CREEP_RATIO_UNVISITED, somewhat)):
                limit = np.maximum(share * usual, near[rows])
                far[rows] = by_itself & (along[:, 0] > limit) & (along > MIN_LASTING_SHARE * limit[:, None]).all(axis=1)
    return judged, away, somewhat
