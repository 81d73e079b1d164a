"""Detect faults that show only from day to day: attenuated, drifting and overgrown sensors.

Of each day two numbers are remembered, the swing of its hours and their median, for a spring-neap cycle of days; of the
month before that the medians alone. At the turn of a UTC day the last days are compared with those before them, with
the other sensors of the station and with the neighbouring stations. The verdict ("doubt") holds for the day that
begins. It is a function of the remembered days alone: what lasts longer than they reach becomes the usual.

==============  ====================================================================================================
``ATTENUATED``  the daily or tidal swing sank far below the usual one, and that of other sensors did not
``NEIGHBOURS``  the daily median left, or crept away from, those of the next stations above and below
``DUE``         no flag: the sensor crept away, or its lens seems overgrown (``CLOUDED``); it should be checked
``PERHAPS``     no flag: the same, less clearly; it should be checked where nobody was there for long
==============  ====================================================================================================
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
from sensors.quality.constants import (
    HOUR_MS,
    HOURS_PER_DAY,
    MIN_KNOWN_DAYS,
    MIN_WITNESS_KINDS,
    PARTS_OF_FLOOR,
)
from sensors.quality.known_days import DailyResult, KnownDays
from sensors.quality.state import DAYS, SeriesState
from sensors.quality.thresholds import DayBlocks
from sensors.reading import Bits, Bools, Codes, Floats, Ints, Places, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------

# A swing has sunk (ATTENUATED).
RECENT_SWING_DAYS: Final = 3
"""Days for which a swing must be small: clouds, a cold front or a flood flatten one or two."""
MAX_SWING_SHARE: Final = 0.5
"""Of the usual swing: a smaller one has sunk. And its share must be less than this of the share of every other sensor:
clouds and cold take from all of them."""
MAX_SMALL_DAYS_BEFORE: Final = 1
"""Days before on which the swing may have been as small: a sensor whose swing comes and goes has no usual one."""
MIN_SWING_RESOLUTIONS: Final = 5.0
"""Smallest usual swing, in smallest steps of the sensor: half of less is hardly told from nothing."""
ZERO_BOUND_EVENT: Final = "oxygen"
"""What cannot swing below zero: where little is left of it, in black water, there is no room for a swing."""

# A median departs from the neighbouring stations within days (NEIGHBOURS).
STEP_PARAMETERS: Final = frozenset({"water_temp", "ph"})
"""Parameters for which leaving the neighbours within a day or two is a doubt: salts and oxygen do so in every tide."""
RECENT_MEDIAN_DAYS: Final = 2
"""Days for which a median must depart: a plume passes within one."""
MIN_DIFFERENCE_DAYS: Final = 12
"""Days before that for which the difference must be known: nearly from spring tide to spring tide, and long enough for
a front to have passed, since the largest difference is the measure."""
MIN_DEPARTURE_RATIO: Final = 2.0
"""In multiples of the farthest that the difference was from its middle on any day before."""
MIN_OWN_RATIO: Final = 2.0
"""In multiples of what the neighbour moved from its own past: so far the sensor must have moved from its own. Where
both moved the water did, or nobody can tell."""

# A median creeps away from the neighbours over weeks (NEIGHBOURS, DUE, PERHAPS).
NOW_DAYS: Final = 3
BEFORE: Final = slice(9, 18)
"""What creeps is no farther from its neighbours on any day than on the one before. So the middle of the last three days
is compared with that of nine days, nine days earlier: a front has passed and half a spring-neap cycle is in it."""
MIN_BEFORE_DAYS: Final = 6
"""Days of those nine that must be known."""
FIRST_PAST_DAY: Final = 12
MIN_PAST_DAYS: Final = 10
"""The same departures of other times tell what is usual: of those that ended so many days ago or earlier, which the
present one cannot have begun in yet, so many must be known."""
MIN_LASTING_SHARE: Final = 0.7
"""Of the limit: on the two days before a departure was at least so large, too."""
MIN_CREEP_RATIO_UNVISITED: Final = 1.5
"""In multiples of the usual departure, instead of :data:`MIN_DEPARTURE_RATIO`: due where nobody was there for long."""
ONE_NEIGHBOUR_PARAMETERS: Final = frozenset({"ph"})
"""Parameters for which one neighbour is enough to send somebody to look: a glass electrode ages, and the acid of two
waters of one river differs steadily. Of two waters one warms twice as fast in spring."""
MIN_AGREEING_NEIGHBOURS: Final = 2
"""Neighbours from all of which a sensor must creep away before its readings are doubted: then it is not one of them
that moved, and a salt tide or a discharge from above reaches the one below, too."""

# The readings of an optical sensor are lifted by growth on its lens (DUE and CLOUDED, PERHAPS).
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

LARGEST_PART: Final = 2.0**40
"""Values are clipped to so many parts: sums of an hour then fit 64 bits."""

_ATTENUATED: Final = int(QualityTest.ATTENUATED)
_NEIGHBOURS: Final = int(QualityTest.NEIGHBOURS)

DUE: Final = 1 << 31
"""Bit of the doubts of a day, no flag: somebody should clean or check the sensor."""
CLOUDED: Final = 1 << 30
"""Beside it: because its lens seems to be overgrown, and not because it creeps away from its neighbours."""
PERHAPS: Final = 1 << 29
"""Alone: it is due where nobody looked at it for long."""

Network = Mapping[int, Sequence[int]]
"""Station → the next stations above and below it, by index."""

NOBODY: Final[Network] = {}
"""No station has a neighbour."""

DAILY: Final = (QualityTest.ATTENUATED, QualityTest.NEIGHBOURS)
"""The tests whose verdict holds for a day."""


def neighbour_stations(edges: Iterable[Sequence[int]]) -> dict[int, list[int]]:
    """The next stations above and below each, of edges (station above, station below, ms from one to the other)."""
    nearest: dict[int, tuple[int, list[int]]] = {}
    for above, below, ms, *_ in edges:
        least, found = nearest.get(below, (ms, []))
        if ms <= least:
            nearest[below] = (ms, [*(found if ms == least else ()), above])
    beside: dict[int, list[int]] = {}
    for below, (_, found) in nearest.items():
        for above in found:
            beside.setdefault(below, []).append(above)
            beside.setdefault(above, []).append(below)
    return {one: sorted(set(found) - {one}) for one, found in beside.items()}


def connected_groups(stations: int, edges: Iterable[Sequence[int]]) -> list[list[int]]:
    """The stations, by index, in groups that are joined by edges; most stand alone."""
    group = list(range(stations))
    for above, below, *_ in edges:
        gone, kept = group[below], group[above]
        group = [kept if one == gone else one for one in group]
    members: dict[int, list[int]] = {}
    for one, number in enumerate(group):
        members.setdefault(number, []).append(one)
    return list(members.values())


def check_days(
    touched: Codes,
    parameter: Codes,
    at: Ints,
    value: Floats,
    days: DayBlocks,
    memory: SeriesState,
    catalogue: Catalogue,
    resolution: Floats,
    network: Network,
    *,
    learn: bool,
) -> tuple[Bits, DailyResult]:
    """The doubts in force on new readings, and what is to be remembered of their days.

    Parameters
    ----------
    touched, parameter : (m,) int arrays
        The series with new readings, and their parameters.
    at, value : (n,) arrays
        The readings, sorted by (series, at), none bad; ``days`` are their blocks.
    resolution : (b,) float array
        The smallest step each block's sensor shows, as known when its day begins.
    network : Network
        Who is whose neighbour; without, none is compared.
    learn : bool
        Without, nothing is remembered and nothing doubted: doubts belong to the days on which they arose.

    Returns
    -------
    (n,) bits, and the days
    """
    followed = np.isfinite(catalogue.swing[parameter]) | np.isfinite(catalogue.near[parameter])
    followed |= catalogue.optical[parameter]
    rows = np.flatnonzero(followed[days.segment[days.of_row]])
    if not learn:
        return np.zeros(len(at), np.uint32), DailyResult.nothing(0)
    if not len(rows):
        return np.zeros(len(at), np.uint32), DailyResult.nothing(int(days.turning.sum()))
    unit = catalogue.spike[parameter] / PARTS_OF_FLOOR
    segment = days.segment[days.of_row[rows]]
    hour = at[rows] % DAY_MS // HOUR_MS
    part = np.rint(np.clip(value[rows] / unit[segment], -LARGEST_PART, LARGEST_PART)).astype(np.int64)
    inner = days.inner_of_row[rows]
    steady = inner < 0
    place = touched[segment[steady]].astype(np.int64) * HOURS_PER_DAY + hour[steady]
    in_force = memory.doubt[touched][days.segment]
    added = DailyResult.nothing(0)
    if days.turning.any():
        flat, size = inner[~steady] * HOURS_PER_DAY + hour[~steady], len(days.inner) * HOURS_PER_DAY
        sums = np.bincount(flat, weights=part[~steady].astype(np.float64), minlength=size).astype(np.int64)
        many = np.bincount(flat, minlength=size).astype(np.int32)
        by_hour = sums.reshape(-1, HOURS_PER_DAY), many.reshape(-1, HOURS_PER_DAY)
        known = KnownDays.of(*by_hour, days, parameter, memory, catalogue)
        known.add_steady(segment[steady] * HOURS_PER_DAY + hour[steady], part[steady])
        in_force[days.inner[days.gap[days.inner] > 0]] = 0
        begins = days.inner[followed[days.segment[days.inner]] & (days.gap[days.inner] > 0)]
        in_force[begins] = _flag_attenuated(begins, resolution[begins], known, network)
        in_force[begins] |= _flag_departures(begins, known, network)
        in_force[begins] |= _flag_fouled_lenses(begins, known, network)
        last = np.flatnonzero(np.append(np.diff(days.whose) != 0, True))
        added = known.carried(last, in_force[days.inner[last]])
    return in_force[days.of_row], replace(added, place=place, part=part[steady])


# -- verdicts --------------------------------------------------------------------------------------------------------


def _flag_attenuated(blocks: Places, resolution: Floats, known: KnownDays, network: Network) -> Bits:
    """(b,) where the swing of the last days has sunk far below the usual one, and those of others have not."""
    segment = known.days.segment[blocks]
    series, day = known.days.touched[segment], known.days.day[blocks]
    floor = np.maximum(known.catalogue.swing[known.parameter[segment]], MIN_SWING_RESOLUTIONS * resolution)
    swing, median = (one[:, :DAYS] for one in known.before(series, day))
    found = np.zeros(len(blocks), np.uint32)
    low, usual = _small_swings(swing)
    from_zero = np.array([p.event == ZERO_BOUND_EVENT for p in known.catalogue.parameters])[known.parameter[segment]]
    with np.errstate(invalid="ignore"):
        room = ~from_zero | (median[:, :RECENT_SWING_DAYS].min(axis=1) >= usual)
        sunk = np.flatnonzero((low > 0) & (usual >= floor) & room)
    for i in sunk.tolist():
        shares = _swing_shares(_swing_witnesses(known, int(series[i]), network), int(day[i]), int(low[i]), known)
        witnesses = MIN_WITNESS_KINDS if known.catalogue.parameters[known.parameter[segment[i]]].event else 1
        if len(shares) >= witnesses and swing[i, :RECENT_SWING_DAYS].max() / usual[i] < MAX_SWING_SHARE * shares.min():
            found[i] = _ATTENUATED
    return found


def _small_swings(swing: Floats) -> tuple[Ints, Floats]:
    """(b,) for how many days, the last ones, the swings (b, DAYS) are small as hardly ever before, 0 where they are
    not; and (b,) the usual swing before."""
    found, usual = np.zeros(len(swing), np.int64), np.zeros(len(swing))
    with np.errstate(invalid="ignore"):
        limit = swing[:, :RECENT_SWING_DAYS].max(axis=1) / MAX_SWING_SHARE
        rows = np.flatnonzero((swing[:, RECENT_SWING_DAYS:] > limit[:, None]).sum(axis=1) > MIN_KNOWN_DAYS // 2)
        for low in range(RECENT_SWING_DAYS, DAYS - MIN_KNOWN_DAYS + 1):
            rows = rows[(~np.isnan(swing[rows, low:])).sum(axis=1) >= MIN_KNOWN_DAYS]
            if not len(rows):
                break
            middle = bn.nanmedian(swing[rows, low:], axis=1)
            small = swing[rows] < MAX_SWING_SHARE * middle[:, None]
            run = (small | np.isnan(swing[rows]))[:, :low].all(axis=1) & (
                small[:, low:].sum(axis=1) <= MAX_SMALL_DAYS_BEFORE
            )
            found[rows[run]], usual[rows[run]] = low, middle[run]
            rows = rows[~run]
    return found, usual


def _swing_shares(others: Ints, day: int, low: int, known: KnownDays) -> Floats:
    """Of other series (o,) that have a rhythm: their last swings as shares of those before the ``low`` days."""
    if not len(others):
        return np.empty(0)
    swing = known.before(others, np.full(len(others), day))[0][:, :DAYS]
    enough = (~np.isnan(swing[:, low:])).sum(axis=1) >= MIN_KNOWN_DAYS
    was = np.where(enough, bn.nanmedian(swing[:, low:], axis=1), np.nan)
    rhythm = was >= known.catalogue.swing[known.memory.parameter[others]]
    shares = np.median(swing[:, :RECENT_SWING_DAYS], axis=1)[rhythm] / was[rhythm]
    return np.asarray(shares[np.isfinite(shares)])


def _swing_witnesses(known: KnownDays, series: int, network: Network) -> Ints:
    """Series that should swing as before if the water does: other kinds of sensor of the station; of a level, which
    only the tide moves, the levels of the neighbours."""
    memory, parameters = known.memory, known.catalogue.parameters
    station, own = int(memory.station[series]), parameters[memory.parameter[series]]
    if not own.event:
        near = np.array(network.get(station, ()), np.int64)
        return np.flatnonzero(
            np.isin(memory.station, near) & (memory.parameter == memory.parameter[series]) & known.has_days
        )
    kinds = np.array([bool(p.event) and p.event != own.event and np.isfinite(p.swing) for p in parameters])
    return np.flatnonzero((memory.station == station) & kinds[memory.parameter] & known.has_days)


def _flag_departures(blocks: Places, known: KnownDays, network: Network) -> Bits:
    """(b,) where the medians depart, or have been going away, from those of all neighbours as they never did, and the
    neighbours stayed."""
    found = np.zeros(len(blocks), np.uint32)
    if not network:
        return found
    segment = known.days.segment[blocks]
    near = known.catalogue.near[known.parameter[segment]]
    series = known.days.touched[segment]
    beside = _neighbour_series(known, series, network, np.isfinite(near))
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
    own[log] = _log_positive(own[log])
    compared, crept = np.zeros(len(some), np.int64), np.zeros(len(some), np.int64)
    departs, creeps, perhaps = (np.ones(len(some), np.bool_) for _ in range(3))
    for column in range(beside.shape[1]):
        other = beside[some, column]
        rows = np.flatnonzero(other >= 0)
        theirs = known.before(other[rows], day[rows])[1]
        theirs[np.isin(rows, log)] = _log_positive(theirs[np.isin(rows, log)])
        judged, apart = _departs(own[rows], theirs, near[some[rows]])
        compared[rows] += judged
        departs[rows] &= ~judged | apart
        judged, away, somewhat = _creeps(own[rows], theirs, near[some[rows]])
        crept[rows] += judged
        creeps[rows] &= ~judged | away
        perhaps[rows] &= ~judged | somewhat
    found[some[(compared > 0) & departs & steps | (crept >= MIN_AGREEING_NEIGHBOURS) & creeps]] = _NEIGHBOURS
    enough = crept >= np.where(alone, 1, MIN_AGREEING_NEIGHBOURS)
    found[some[enough & creeps]] |= np.uint32(DUE)
    found[some[enough & perhaps & ~creeps]] |= np.uint32(PERHAPS)
    return found


def _flag_fouled_lenses(blocks: Places, known: KnownDays, network: Network) -> Bits:
    """(b,) where what an optical sensor reads has been lifted evenly, day by day, while nothing else of the station
    departed from its past, nor did the same parameter at a neighbour."""
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
        even = (
            _departures(swing[:, : BEFORE.stop])[:, 0] < MAX_SWING_GROWTH * _departures(median[:, : BEFORE.stop])[:, 0]
        )
    lifted = _is_lifted(line, MIN_LIFT_LOG) & even & _rises(line)
    beside = _neighbour_series(known, series, network, lifted)
    for i in np.flatnonzero(lifted).tolist():
        next_to = beside[i, beside[i] >= 0]
        theirs = _log_median(
            known.before(next_to, np.full(len(next_to), day[i]))[1], kinds.step[known.memory.parameter[next_to]]
        )
        usual = _usual_departure(_departures(line[i : i + 1])[0])
        if np.isnan(usual) or _is_lifted(theirs, MIN_LASTING_SHARE * MIN_LIFT_LOG).any():
            continue
        if not _others_stayed(known, _non_optical_series(known, int(series[i])), int(day[i])):
            continue
        if _is_lifted(line[i : i + 1], usual)[0]:
            found[rows[i]] = DUE | CLOUDED
        elif _is_lifted(line[i : i + 1], UNVISITED_LIFT_SHARE * usual)[0]:
            found[rows[i]] = PERHAPS
    return found


def _log_median(median: Floats, step: Floats) -> Floats:
    """(b, LONG) medians of days as logarithms, as near to zero as the smallest believable step."""
    return np.asarray(np.log(np.maximum(median, 0.0) + step[:, None]))


def _is_lifted(line: Floats, limit: float) -> Bools:
    """(b,) where the middle of the last days is so much higher than that of the days BEFORE, and none of them is much
    lower: what grows does not go away by itself."""
    before = bn.nanmedian(line[:, BEFORE], axis=1)
    with np.errstate(invalid="ignore"):
        least = bn.nanmin(line[:, :NOW_DAYS], axis=1) - before > MIN_LASTING_SHARE * limit
        return np.asarray(least & (_departures(line[:, : BEFORE.stop])[:, 0] > limit))


def _rises(line: Floats) -> Bools:
    """(b,) where the days (b, LONG) are higher, three by three, than those before."""
    parts = [bn.nanmedian(line[:, part], axis=1) for part in (slice(0, 3), slice(3, 6), slice(6, 9), BEFORE)]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logical_and.reduce([late >= early for late, early in itertools.pairwise(parts)]))


def _usual_departure(went: Floats) -> float:
    """How far a series went at most in the month before (n,), in either direction; NaN where too little is known."""
    past = np.abs(went[FIRST_PAST_DAY:])
    return float(bn.nanmax(past)) if (~np.isnan(past)).sum() >= MIN_PAST_DAYS else np.nan


def _non_optical_series(known: KnownDays, series: int) -> Ints:
    """Series of the station whose days are known and that no growth on a lens touches."""
    memory, kinds = known.memory, known.catalogue
    plain = (np.isfinite(kinds.swing) | np.isfinite(kinds.near)) & ~kinds.optical
    return np.flatnonzero((memory.station == memory.station[series]) & plain[memory.parameter] & known.has_days)


def _others_stayed(known: KnownDays, others: Ints, day: int) -> bool:
    """Whether of other series, MIN_CALM_WITNESSES kinds at least, none departed from its own past as it never did in a
    month."""
    if not len(others):
        return False
    kind = known.memory.parameter[others]
    line = known.before(others, np.full(len(others), day))[1]
    log = known.catalogue.relative[kind]
    line[log] = _log_positive(line[log])
    went = _departures(line)
    usual = np.array([_usual_departure(one) for one in went])
    judged = ~np.isnan(went[:, 0]) & ~np.isnan(usual)
    if len(np.unique(kind[judged])) < MIN_CALM_WITNESSES:
        return False
    far, most = np.abs(went[judged, 0]), usual[judged]
    return bool((far <= MIN_DEPARTURE_RATIO * most).all() and (far > most).sum() < MIN_CALM_WITNESSES)


def _log_positive(values: Floats) -> Floats:
    """Logarithms; NaN of what is not above zero."""
    return np.log(np.where(values > 0, values, np.nan))


def _departs(own: Floats, theirs: Floats, near: Floats) -> tuple[Bools, Bools]:
    """(b,) whether two series' medians (b, LONG) can be compared, and whether the first departs from the second: for
    the last days, two or more, and by its own doing."""
    own, theirs = own[:, :DAYS], theirs[:, :DAYS]
    with np.errstate(invalid="ignore"):
        difference = own - theirs
        judged = ~np.isnan(difference[:, :RECENT_MEDIAN_DAYS]).any(axis=1)
        judged &= (~np.isnan(difference[:, RECENT_MEDIAN_DAYS:])).sum(axis=1) >= MIN_DIFFERENCE_DAYS
        departs = np.zeros(len(own), np.bool_)
        rows = np.flatnonzero(judged)
        for gone in range(RECENT_MEDIAN_DAYS, DAYS - MIN_DIFFERENCE_DAYS + 1):
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
    """(b,) whether two series' medians (b, LONG) tell what is usual between them over weeks, and whether the first has
    been going away from the second as it never did, and somewhat so: for days, and by its own doing."""
    went = _departures(own - theirs)
    past = np.abs(went[:, FIRST_PAST_DAY:])
    judged = ((~np.isnan(past)).sum(axis=1) >= MIN_PAST_DAYS) & ~np.isnan(went[:, 0])
    away, somewhat = np.zeros(len(own), np.bool_), np.zeros(len(own), np.bool_)
    rows = np.flatnonzero(judged)
    if len(rows):
        usual = bn.nanmax(past[rows], axis=1)
        with np.errstate(invalid="ignore"):
            along = went[rows, :NOW_DAYS] * np.sign(went[rows, :1])
            moved, theirs_moved = (np.abs(_departures(one[rows, : BEFORE.stop])[:, 0]) for one in (own, theirs))
            by_itself = moved >= MIN_OWN_RATIO * theirs_moved
            for share, far in ((MIN_DEPARTURE_RATIO, away), (MIN_CREEP_RATIO_UNVISITED, somewhat)):
                limit = np.maximum(share * usual, near[rows])
                far[rows] = by_itself & (along[:, 0] > limit) & (along > MIN_LASTING_SHARE * limit[:, None]).all(axis=1)
    return judged, away, somewhat


def _departures(line: Floats) -> Floats:
    """(b, …) how far the middle of NOW_DAYS days lies from that of the days BEFORE, for each day that has so many
    behind it, the latest first; NaN where too few are known."""

    def middle(first: int, days: int, least: int) -> Floats:
        view = np.lib.stride_tricks.sliding_window_view(line[:, first:], days, axis=1)
        known = (~np.isnan(view)).sum(axis=2) >= least
        return np.where(known, bn.nanmedian(view, axis=2), np.nan)

    before = middle(BEFORE.start, BEFORE.stop - BEFORE.start, MIN_BEFORE_DAYS)
    return np.asarray(middle(0, NOW_DAYS, NOW_DAYS - 1)[:, : before.shape[1]] - before)


def _neighbour_series(known: KnownDays, series: Codes, network: Network, wanted: Bools) -> Ints:
    """(b, k) series of the same parameter at the neighbours of each series' station; -1 where there is none."""
    memory = known.memory
    stations = memory.station[series]
    most = max((len(network.get(s, ())) for s in np.unique(stations[wanted]).tolist()), default=0)
    beside = np.full((len(series), most), -1, np.int64)
    if not most:
        return beside
    concerned = {n for s in np.unique(stations[wanted]).tolist() for n in network.get(s, ())}
    rows = np.flatnonzero(np.isin(memory.station, list(concerned)) & known.has_days)
    of = {(int(memory.station[i]), int(memory.parameter[i])): int(i) for i in rows.tolist()}
    neighbours = {
        one: [of.get((n, int(memory.parameter[one])), -1) for n in network.get(int(memory.station[one]), ())]
        for one in np.unique(series[wanted]).tolist()
    }
    for i in np.flatnonzero(wanted).tolist():
        mine = neighbours[int(series[i])]
        beside[i, : len(mine)] = mine
    return beside
