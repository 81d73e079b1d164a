"""What a series does from day to day: sensors that go half dead, drift or are overgrown, which no single reading shows.
Pure.

Of each day two numbers are remembered, how far the hours swing and their median, for as many days as the moon takes
from spring tide to spring tide. At the turn of a UTC day the last days are held against those before them, beside the
other sensors of the station and beside the neighbouring stations; the verdict holds for the day that begins.

A doubt is a function of the remembered days alone: what lasts longer than they reach becomes the usual.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
from sensors.quality.constants import HOURS_PER_DAY as HOURS
from sensors.quality.state import DAYS, EARLIER, Floats32, SeriesState
from sensors.quality.thresholds import DayBlocks
from sensors.reading import Bits, Bools, Codes, Floats, Ints, Places, QualityTest

HOUR_MS: Final = DAY_MS // HOURS
LONG: Final = DAYS + EARLIER

FILLED: Final = 16
"""A day counts when so many of its hours have a reading: two thirds, so that neither day nor night is missing."""

PARTS: Final = 256.0
"""Sums of an hour are kept as whole numbers of this part of the kind's spike floor: adding them is exact."""

KNOWN: Final = 7
"""Days before the last ones that must be known: a week holds working days and days off, spring or neap and the way
between them."""

RECENT_SWINGS: Final = 3
"""Days for which a swing must be small: clouds, a cold front or a flood flatten one or two."""

HALF: Final = 0.5
"""A swing has sunk when it is less than half of the usual one, and its share less than half of that of every other
sensor: clouds and cold take from all of them."""

RARELY: Final = 1
"""On so many of the days before it may have been as small: a sensor whose swing comes and goes has no usual one."""

WITNESSES: Final = 2
"""Other kinds of sensor of the station that must have kept their rhythm: one alone may be as wrong (decision 0027)."""

DIGITS: Final = 5.0
"""A rhythm is at least so many of the sensor's smallest steps: half of less is hardly told from nothing."""

RECENT_MEDIANS: Final = 2
"""Days for which a median must depart from the neighbours': a plume passes within one."""

STEADY_FOR: Final = 12
"""Days before that for which the difference must be known: nearly from spring tide to spring tide, and long enough for
a front to have passed, since the largest of them is the measure."""

APART: Final = 2.0
"""It departs when the difference leaves its middle by this many times as much as on any day before."""

OWN: Final = 2.0
"""And by its own doing: it moved from its own past by this many times as much as the neighbour did. Where both moved
the water did, and nobody can be blamed."""

NOW: Final = 3
BEFORE: Final = slice(9, 18)
"""What creeps is no farther from its neighbours on any day than on the one before. So the middle of three days is held
against that of nine days, nine days earlier: a front has passed and half a spring-neap cycle is in it."""
BEFORE_KNOWN: Final = 6

FIRST_PAST: Final = 12
PAST_KNOWN: Final = 10
"""The same of other times tells what is usual: of those whose three days are twelve or more days ago, and which the
present departure cannot have begun in yet, so many must be known."""

GROWN: Final = 0.7
"""And for three days in a row: on the two days before it was at least so much of what counts today."""

SOMEWHAT: Final = 1.5
"""By so many times as much it is due where nobody looked at it for long."""

ALONE: Final = frozenset({"ph"})
"""Kinds for which one neighbour is enough to send somebody to look: a glass electrode ages, and the acid of two waters
of one river differs steadily. Of two waters one warms twice as fast in spring."""

AGREE: Final = 2
"""Neighbours from all of which a sensor must creep away before its readings are doubted: then it is not one of them
that went, and a salt tide or a discharge from above reaches the one below, too."""

STEPS: Final = frozenset({"water_temp", "ph"})
"""Kinds for which leaving the neighbours within a day or two is a doubt: salts and oxygen do so in every tide."""

CLIMB: Final = float(np.log(1.5))
"""What grows on a lens scatters light itself, the more the thicker it is: all of a day is lifted by the same, in clear
hours as in dirty ones. A lift of half the level counts: the kinds' tolerances are a tenth, rivers do a third in a week
(engineering choice)."""

FLAT: Final = 0.5
"""Water that gets dirty does so more at some hours than at others: where the swing of a day grew by so much of what its
middle grew, it was the water."""

PARTLY: Final = 0.5
"""What lifted a sensor by half of what its month has seen may be growth; by all of that, it is likely."""

OVERGROWN: Final = frozenset({"turbidity", "bloom"})
"""What optical sensors tell of that growth adds to: it scatters light, and algae shine. Humic matter it hides."""

QUIET: Final = 2
"""Other kinds of sensor of the station that must be known. None may have departed from its own past, and not two of
them have gone farther than ever in their month: with a flood, a thaw or a bloom they do, one alone does by chance."""

_FROM_ZERO: Final = "oxygen"
"""What cannot swing below zero: where little is left of it, in black water, there is no room for a swing."""

_ATTENUATED: Final = int(QualityTest.ATTENUATED)
_NEIGHBOURS: Final = int(QualityTest.NEIGHBOURS)

DUE: Final = 1 << 31
"""Among the doubts of a day, and no flag: somebody should clean or check the sensor."""
CLOUDED: Final = 1 << 30
"""Beside it: because its lens seems to be overgrown, and not because it creeps away from its neighbours."""
PERHAPS: Final = 1 << 29
"""Alone: it is due where nobody looked at it for long."""

Network = Mapping[int, Sequence[int]]
"""Station → the next stations above and below it, by index."""

NOBODY: Final[Network] = {}

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
) -> tuple[Bits, "DailyResult"]:
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
    unit = catalogue.spike[parameter] / PARTS
    segment = days.segment[days.of_row[rows]]
    hour = at[rows] % DAY_MS // HOUR_MS
    part = np.rint(np.clip(value[rows] / unit[segment], -(2.0**40), 2.0**40)).astype(np.int64)
    inner = days.inner_of_row[rows]
    steady = inner < 0
    place = touched[segment[steady]].astype(np.int64) * HOURS + hour[steady]
    in_force = memory.doubt[touched][days.segment]
    added = DailyResult.nothing(0)
    if days.turning.any():
        flat = inner[~steady] * HOURS + hour[~steady]
        size = len(days.inner) * HOURS
        sums = np.bincount(flat, weights=part[~steady].astype(np.float64), minlength=size).astype(np.int64)
        many = np.bincount(flat, minlength=size).astype(np.int32)
        known = _Known.of(sums.reshape(-1, HOURS), many.reshape(-1, HOURS), days, parameter, memory, catalogue)
        known.with_steady(segment[steady] * HOURS + hour[steady], part[steady])
        mine = followed[days.segment[days.inner]]
        in_force[days.inner] = np.where(days.gap[days.inner] > 0, 0, in_force[days.inner])
        begins = days.inner[mine & (days.gap[days.inner] > 0)]
        in_force[begins] = _attenuated(begins, resolution[begins], known, network) | _departed(begins, known, network)
        in_force[begins] |= _clouded(begins, known, network)
        last = np.flatnonzero(np.append(np.diff(days.whose) != 0, True))
        added = known.carried(last, in_force[days.inner[last]])
    return in_force[days.of_row], replace(added, place=place, part=part[steady])


@dataclass(frozen=True, slots=True)
class DailyResult:
    """What is to be remembered: hours (flat) of steady series gain ``part`` and one reading; the series that entered a
    new day come whole, all of them in their order, as columns of :class:`~sensors.quality.state.SeriesState`."""

    place: Ints
    part: Ints
    hour_sum: Ints
    hour_many: Codes
    swing: Floats32
    median: Floats32
    earlier: Floats32
    doubt: Bits

    @classmethod
    def nothing(cls, turning: int) -> "DailyResult":
        """Nothing of so many series that entered a new day."""
        none = np.empty(0, np.int64)
        unknown = np.full((turning, DAYS), np.nan, np.float32)
        hours = np.zeros((turning, HOURS), np.int64)
        before = np.full((turning, EARLIER), np.nan, np.float32)
        return cls(none, none, hours, hours.astype(np.int32), unknown, unknown, before, np.zeros(turning, np.uint32))


# -- days ------------------------------------------------------------------------------------------------------------


def day_features(sums: Ints, many: Codes, unit: Floats) -> tuple[Floats, Floats]:
    """(b,) swing and (b,) median of days given as the sums and counts of their hours (b, HOURS); NaN where too few.

    The swing is what lies between the tenth and the ninetieth of a hundred hours: two wild hours change nothing.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(many > 0, sums / np.maximum(many, 1) * unit[:, None], np.nan)
    ordered = np.sort(mean, axis=1)  # NaN sorts last
    filled = (many > 0).sum(axis=1)
    enough = filled >= FILLED
    row = np.arange(len(mean))

    def quantile(share: float) -> Floats:
        place = share * np.maximum(filled - 1, 0)
        low = place.astype(np.int64)
        high = np.minimum(low + 1, HOURS - 1)
        above = np.where(place > low, ordered[row, high], ordered[row, low])
        return np.asarray(ordered[row, low] + (place - low) * (above - ordered[row, low]))

    both = (np.where(enough, one, np.nan) for one in (quantile(0.9) - quantile(0.1), quantile(0.5)))
    swing, median = (one.astype(np.float32).astype(np.float64) for one in both)  # as precise as it is remembered
    return swing, median


@dataclass(frozen=True)
class _Known:
    """All days that are known: those of the batch, those remembered, and the open ones of other series.

    ``key`` (d,) of the days of turning series, sorted: place in ``touched`` and day; ``swing``, ``median`` (d,).
    """

    days: DayBlocks
    parameter: Codes
    memory: SeriesState
    catalogue: Catalogue
    sums: Ints
    many: Codes
    key: Ints
    swing: Floats
    median: Floats
    place_of: Codes
    steady_sum: Ints
    steady_many: Codes

    @classmethod
    def of(
        cls, sums: Ints, many: Codes, days: DayBlocks, parameter: Codes, memory: SeriesState, catalogue: Catalogue
    ) -> "_Known":
        """``sums`` and ``many`` (inner blocks, HOURS): the readings of the batch by hour."""
        inner = days.inner
        segment, day = days.segment[inner], days.day[inner]
        series = days.touched[segment]
        first = np.append(True, np.diff(days.whose) != 0)
        goes_on = np.flatnonzero(first & (memory.day[series] == day))  # the day that is open in memory
        sums[goes_on] += memory.hour_sum[series[goes_on]]
        many[goes_on] += memory.hour_many[series[goes_on]]
        ended = np.flatnonzero(first & (memory.day[series] >= 0) & (memory.day[series] != day))
        was = series[ended]
        key = np.concatenate([_key(segment[ended], memory.day[was]), _key(segment, day)])
        unit = (catalogue.spike[parameter] / PARTS)[np.concatenate([segment[ended], segment])]
        swing, median = day_features(
            np.concatenate([memory.hour_sum[was], sums]), np.concatenate([memory.hour_many[was], many]), unit
        )
        order = np.argsort(key, kind="stable")
        place_of = np.full(len(memory), -1, np.int64)
        place_of[days.touched[days.turning]] = np.flatnonzero(days.turning)
        steady = np.zeros((len(days.touched), HOURS), np.int64)
        return cls(
            days, parameter, memory, catalogue, sums, many, key[order], swing[order], median[order], place_of,
            steady, steady.astype(np.int32),
        )  # fmt: skip

    def with_steady(self, place: Ints, part: Ints) -> None:
        """The readings of the batch that belong to a day that goes on, by series and hour (flat)."""
        np.add.at(self.steady_sum.reshape(-1), place, part)
        np.add.at(self.steady_many.reshape(-1), place, np.int32(1))

    @property
    def heard(self) -> Bools:
        """(series,) of which anything is known."""
        return np.asarray((self.memory.day >= 0) | (self.place_of >= 0))

    def before(self, series: Codes, day: Ints) -> tuple[Floats, Floats]:
        """(b, LONG) swings and medians of the days before ``day`` (b,) of some series (b,), the latest first; of a
        swing longer ago than DAYS nothing is known."""
        memory = self.memory
        wanted = day[:, None] - np.arange(1, LONG + 1)
        open_day = memory.day[series][:, None]
        kept = (wanted < open_day) & (wanted >= open_day - DAYS)
        slot = wanted % DAYS
        swing = np.where(kept, memory.swing[series[:, None], slot], np.nan)
        median = np.where(kept, memory.median[series[:, None], slot], np.nan)
        older = (wanted < open_day - DAYS) & (wanted >= open_day - LONG)
        median = np.where(older, memory.earlier[series[:, None], wanted % EARLIER], median)
        row, column = np.nonzero((wanted == open_day) & (self.place_of[series] < 0)[:, None])
        if len(row):
            mine = series[row]
            unit = self.catalogue.spike[memory.parameter[mine]] / PARTS
            sums, many = memory.hour_sum[mine], memory.hour_many[mine]
            here = np.minimum(np.searchsorted(self.days.touched, mine), len(self.days.touched) - 1)
            new = self.days.touched[here] == mine
            sums[new] += self.steady_sum[here[new]]
            many[new] += self.steady_many[here[new]]
            swing[row, column], median[row, column] = day_features(sums, many, unit)
        key = _key(self.place_of[series][:, None], wanted)
        found = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        here = (self.key[found] == key) & (self.place_of[series] >= 0)[:, None]
        swing = np.where(here, self.swing[found], swing)
        swing[:, DAYS:] = np.nan
        return swing, np.where(here, self.median[found], median)

    def carried(self, last: Places, doubt: Bits) -> DailyResult:
        """What turned series remember: ``last`` (t,) are their last blocks among the inner ones."""
        blocks = self.days.inner[last]
        series, day = self.days.touched[self.days.segment[blocks]], self.days.day[blocks]
        swing, median = self.before(series, day)
        back = day[:, None] - np.arange(1, LONG + 1)
        row = np.arange(len(last))[:, None]
        swings, medians, earlier = (np.empty((len(last), n)) for n in (DAYS, DAYS, EARLIER))
        slot = back[:, :DAYS] % DAYS
        swings[row, slot], medians[row, slot] = swing[:, :DAYS], median[:, :DAYS]
        earlier[row, back[:, DAYS:] % EARLIER] = median[:, DAYS:]
        none = np.empty(0, np.int64)
        return DailyResult(
            place=none,
            part=none,
            hour_sum=self.sums[last],
            hour_many=self.many[last],
            swing=swings.astype(np.float32),
            median=medians.astype(np.float32),
            earlier=earlier.astype(np.float32),
            doubt=doubt,
        )


def _key(place: Codes, day: Ints) -> Ints:
    return (place.astype(np.int64) << 24) | day


# -- verdicts --------------------------------------------------------------------------------------------------------


def _attenuated(blocks: Places, resolution: Floats, known: _Known, network: Network) -> Bits:
    """(b,) where the swing of the last days has sunk far below the usual one, and those of others have not."""
    segment = known.days.segment[blocks]
    series, day = known.days.touched[segment], known.days.day[blocks]
    floor = np.maximum(known.catalogue.swing[known.parameter[segment]], DIGITS * resolution)
    swing, median = (one[:, :DAYS] for one in known.before(series, day))
    found = np.zeros(len(blocks), np.uint32)
    low, usual = _low_for(swing)
    from_zero = np.array([p.event == _FROM_ZERO for p in known.catalogue.parameters])[known.parameter[segment]]
    with np.errstate(invalid="ignore"):
        room = ~from_zero | (median[:, :RECENT_SWINGS].min(axis=1) >= usual)
        sunk = np.flatnonzero((low > 0) & (usual >= floor) & room)
    for i in sunk.tolist():
        shares = _shares(_others(known, int(series[i]), network), int(day[i]), int(low[i]), known)
        witnesses = WITNESSES if known.catalogue.parameters[known.parameter[segment[i]]].event else 1
        if len(shares) >= witnesses and swing[i, :RECENT_SWINGS].max() / usual[i] < HALF * shares.min():
            found[i] = _ATTENUATED
    return found


def _low_for(swing: Floats) -> tuple[Ints, Floats]:
    """(b,) for how many days, the last ones, the swings (b, DAYS) are small as hardly ever before, 0 where they are
    not; and (b,) the usual swing before."""
    found, usual = np.zeros(len(swing), np.int64), np.zeros(len(swing))
    with np.errstate(invalid="ignore"):
        limit = swing[:, :RECENT_SWINGS].max(axis=1) / HALF
        rows = np.flatnonzero((swing[:, RECENT_SWINGS:] > limit[:, None]).sum(axis=1) > KNOWN // 2)
        for low in range(RECENT_SWINGS, DAYS - KNOWN + 1):
            rows = rows[(~np.isnan(swing[rows, low:])).sum(axis=1) >= KNOWN]
            if not len(rows):
                break
            middle = bn.nanmedian(swing[rows, low:], axis=1)
            small = swing[rows] < HALF * middle[:, None]
            run = (small | np.isnan(swing[rows]))[:, :low].all(axis=1) & (small[:, low:].sum(axis=1) <= RARELY)
            found[rows[run]], usual[rows[run]] = low, middle[run]
            rows = rows[~run]
    return found, usual


def _shares(others: Ints, day: int, low: int, known: _Known) -> Floats:
    """Of other series (o,) that have a rhythm: their last swings as shares of those before the ``low`` days."""
    if not len(others):
        return np.empty(0)
    swing = known.before(others, np.full(len(others), day))[0][:, :DAYS]
    enough = (~np.isnan(swing[:, low:])).sum(axis=1) >= KNOWN
    was = np.where(enough, bn.nanmedian(swing[:, low:], axis=1), np.nan)
    rhythm = was >= known.catalogue.swing[known.memory.parameter[others]]
    shares = np.median(swing[:, :RECENT_SWINGS], axis=1)[rhythm] / was[rhythm]
    return np.asarray(shares[np.isfinite(shares)])


def _others(known: _Known, series: int, network: Network) -> Ints:
    """Series that should swing as before if the water does: other kinds of sensor of the station; of a level, which
    only the tide moves, the levels of the neighbours."""
    memory, parameters = known.memory, known.catalogue.parameters
    station, own = int(memory.station[series]), parameters[memory.parameter[series]]
    if not own.event:
        near = np.array(network.get(station, ()), np.int64)
        return np.flatnonzero(
            np.isin(memory.station, near) & (memory.parameter == memory.parameter[series]) & known.heard
        )
    kinds = np.array([bool(p.event) and p.event != own.event and np.isfinite(p.swing) for p in parameters])
    return np.flatnonzero((memory.station == station) & kinds[memory.parameter] & known.heard)


def _departed(blocks: Places, known: _Known, network: Network) -> Bits:
    """(b,) where the medians depart, or have been going away, from those of all neighbours as they never did, and the
    neighbours stayed."""
    found = np.zeros(len(blocks), np.uint32)
    if not network:
        return found
    segment = known.days.segment[blocks]
    near = known.catalogue.near[known.parameter[segment]]
    series = known.days.touched[segment]
    beside = _beside(known, series, network, np.isfinite(near))
    some = np.flatnonzero((beside >= 0).any(axis=1))
    if not len(some):
        return found
    day, parameters = known.days.day[blocks[some]], known.parameter[segment[some]]
    log = np.flatnonzero(known.catalogue.relative[parameters])
    steps, alone = (
        np.array([p.key in kinds for p in known.catalogue.parameters])[parameters] for kinds in (STEPS, ALONE)
    )
    own = known.before(series[some], day)[1]
    own[log] = _log(own[log])
    compared, crept = np.zeros(len(some), np.int64), np.zeros(len(some), np.int64)
    departs, creeps, perhaps = (np.ones(len(some), np.bool_) for _ in range(3))
    for column in range(beside.shape[1]):
        other = beside[some, column]
        rows = np.flatnonzero(other >= 0)
        theirs = known.before(other[rows], day[rows])[1]
        theirs[np.isin(rows, log)] = _log(theirs[np.isin(rows, log)])
        judged, apart = _apart(own[rows], theirs, near[some[rows]])
        compared[rows] += judged
        departs[rows] &= ~judged | apart
        judged, away, somewhat = _away(own[rows], theirs, near[some[rows]])
        crept[rows] += judged
        creeps[rows] &= ~judged | away
        perhaps[rows] &= ~judged | somewhat
    found[some[(compared > 0) & departs & steps | (crept >= AGREE) & creeps]] = _NEIGHBOURS
    enough = crept >= np.where(alone, 1, AGREE)
    found[some[enough & creeps]] |= np.uint32(DUE)
    found[some[enough & perhaps & ~creeps]] |= np.uint32(PERHAPS)
    return found


def _clouded(blocks: Places, known: _Known, network: Network) -> Bits:
    """(b,) where what an optical sensor reads has been lifted evenly, day by day, while nothing else of the station
    departed from its past, nor did the same parameter at a neighbour."""
    found = np.zeros(len(blocks), np.uint32)
    kinds = known.catalogue
    grows = np.array([p.optical and p.event in OVERGROWN for p in kinds.parameters])
    segment = known.days.segment[blocks]
    rows = np.flatnonzero(grows[known.parameter[segment]])
    if not len(rows):
        return found
    series, day = known.days.touched[segment[rows]], known.days.day[blocks[rows]]
    swing, median = known.before(series, day)
    line = _lifted(median, kinds.step[known.parameter[segment[rows]]])
    with np.errstate(invalid="ignore"):
        even = _went(swing[:, : BEFORE.stop])[:, 0] < FLAT * _went(median[:, : BEFORE.stop])[:, 0]
    lifted = _grown(line, CLIMB) & even & _rising(line)
    beside = _beside(known, series, network, lifted)
    for i in np.flatnonzero(lifted).tolist():
        next_to = beside[i, beside[i] >= 0]
        theirs = _lifted(
            known.before(next_to, np.full(len(next_to), day[i]))[1], kinds.step[known.memory.parameter[next_to]]
        )
        usual = _farthest(_went(line[i : i + 1])[0])
        if np.isnan(usual) or _grown(theirs, GROWN * CLIMB).any():
            continue
        if not _stayed(known, _witnesses(known, int(series[i])), int(day[i])):
            continue
        if _grown(line[i : i + 1], usual)[0]:
            found[rows[i]] = DUE | CLOUDED
        elif _grown(line[i : i + 1], PARTLY * usual)[0]:
            found[rows[i]] = PERHAPS
    return found


def _lifted(median: Floats, step: Floats) -> Floats:
    """(b, LONG) medians of days as logarithms, as near to zero as the smallest believable step."""
    return np.asarray(np.log(np.maximum(median, 0.0) + step[:, None]))


def _grown(line: Floats, limit: float) -> Bools:
    """(b,) where the middle of the last days is so much higher than that of the days BEFORE, and none of them is much
    lower: what grows does not go away by itself."""
    before = bn.nanmedian(line[:, BEFORE], axis=1)
    with np.errstate(invalid="ignore"):
        least = bn.nanmin(line[:, :NOW], axis=1) - before > GROWN * limit
        return np.asarray(least & (_went(line[:, : BEFORE.stop])[:, 0] > limit))


def _rising(line: Floats) -> Bools:
    """(b,) where the days (b, LONG) are higher, three by three, than those before."""
    parts = [bn.nanmedian(line[:, part], axis=1) for part in (slice(0, 3), slice(3, 6), slice(6, 9), BEFORE)]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logical_and.reduce([late >= early for late, early in itertools.pairwise(parts)]))


def _farthest(went: Floats) -> float:
    """How far a series went at most in the month before (n,), in either direction; NaN where too little is known."""
    past = np.abs(went[FIRST_PAST:])
    return float(bn.nanmax(past)) if (~np.isnan(past)).sum() >= PAST_KNOWN else np.nan


def _witnesses(known: _Known, series: int) -> Ints:
    """Series of the station whose days are known and that no growth on a lens touches."""
    memory, kinds = known.memory, known.catalogue
    plain = (np.isfinite(kinds.swing) | np.isfinite(kinds.near)) & ~kinds.optical
    return np.flatnonzero((memory.station == memory.station[series]) & plain[memory.parameter] & known.heard)


def _stayed(known: _Known, others: Ints, day: int) -> bool:
    """Whether of other series, QUIET kinds at least, none departed from its own past as it never did in a month."""
    if not len(others):
        return False
    kind = known.memory.parameter[others]
    line = known.before(others, np.full(len(others), day))[1]
    log = known.catalogue.relative[kind]
    line[log] = _log(line[log])
    went = _went(line)
    usual = np.array([_farthest(one) for one in went])
    judged = ~np.isnan(went[:, 0]) & ~np.isnan(usual)
    if len(np.unique(kind[judged])) < QUIET:
        return False
    far, most = np.abs(went[judged, 0]), usual[judged]
    return bool((far <= APART * most).all() and (far > most).sum() < QUIET)


def _log(values: Floats) -> Floats:
    """Logarithms; NaN of what is not above zero."""
    return np.log(np.where(values > 0, values, np.nan))


def _apart(own: Floats, theirs: Floats, near: Floats) -> tuple[Bools, Bools]:
    """(b,) whether two series' medians (b, LONG) can be compared, and whether the first departs from the second: for
    the last days, two or more, and by its own doing."""
    own, theirs = own[:, :DAYS], theirs[:, :DAYS]
    with np.errstate(invalid="ignore"):
        difference = own - theirs
        judged = ~np.isnan(difference[:, :RECENT_MEDIANS]).any(axis=1)
        judged &= (~np.isnan(difference[:, RECENT_MEDIANS:])).sum(axis=1) >= STEADY_FOR
        departs = np.zeros(len(own), np.bool_)
        rows = np.flatnonzero(judged)
        for gone in range(RECENT_MEDIANS, DAYS - STEADY_FOR + 1):
            rows = rows[(~np.isnan(difference[rows, gone:])).sum(axis=1) >= STEADY_FOR]
            if not len(rows):
                break
            middle = bn.nanmedian(difference[rows, gone:], axis=1)
            usual = bn.nanmax(np.abs(difference[rows, gone:] - middle[:, None]), axis=1)
            limit = np.maximum(APART * usual, near[rows])[:, None]
            off = difference[rows, :gone] - middle[:, None]
            far = ((off > limit) | np.isnan(off)).all(axis=1) | ((off < -limit) | np.isnan(off)).all(axis=1)
            moved, theirs_moved = (
                np.abs(one[rows, :RECENT_MEDIANS].mean(axis=1) - bn.nanmedian(one[rows, gone:], axis=1))
                for one in (own, theirs)
            )
            departs[rows[far & (moved >= OWN * theirs_moved)]] = True
    return judged, departs


def _away(own: Floats, theirs: Floats, near: Floats) -> tuple[Bools, Bools, Bools]:
    """(b,) whether two series' medians (b, LONG) tell what is usual between them over weeks, and whether the first has
    been going away from the second as it never did, and somewhat so: for days, and by its own doing."""
    went = _went(own - theirs)
    past = np.abs(went[:, FIRST_PAST:])
    judged = ((~np.isnan(past)).sum(axis=1) >= PAST_KNOWN) & ~np.isnan(went[:, 0])
    away, somewhat = np.zeros(len(own), np.bool_), np.zeros(len(own), np.bool_)
    rows = np.flatnonzero(judged)
    if len(rows):
        usual = bn.nanmax(past[rows], axis=1)
        with np.errstate(invalid="ignore"):
            along = went[rows, :NOW] * np.sign(went[rows, :1])
            moved, theirs_moved = (np.abs(_went(one[rows, : BEFORE.stop])[:, 0]) for one in (own, theirs))
            by_itself = moved >= OWN * theirs_moved
            for share, far in ((APART, away), (SOMEWHAT, somewhat)):
                limit = np.maximum(share * usual, near[rows])
                far[rows] = by_itself & (along[:, 0] > limit) & (along > GROWN * limit[:, None]).all(axis=1)
    return judged, away, somewhat


def _went(line: Floats) -> Floats:
    """(b, …) how far the middle of NOW days lies from that of the days BEFORE, for each day that has so many behind
    it, the latest first; NaN where too few are known."""

    def middle(first: int, days: int, least: int) -> Floats:
        view = np.lib.stride_tricks.sliding_window_view(line[:, first:], days, axis=1)
        known = (~np.isnan(view)).sum(axis=2) >= least
        return np.where(known, bn.nanmedian(view, axis=2), np.nan)

    before = middle(BEFORE.start, BEFORE.stop - BEFORE.start, BEFORE_KNOWN)
    return np.asarray(middle(0, NOW, NOW - 1)[:, : before.shape[1]] - before)


def _beside(known: _Known, series: Codes, network: Network, wanted: Bools) -> Ints:
    """(b, k) series of the same parameter at the neighbours of each series' station; -1 where there is none."""
    memory = known.memory
    stations = memory.station[series]
    most = max((len(network.get(s, ())) for s in np.unique(stations[wanted]).tolist()), default=0)
    beside = np.full((len(series), most), -1, np.int64)
    if not most:
        return beside
    concerned = {n for s in np.unique(stations[wanted]).tolist() for n in network.get(s, ())}
    rows = np.flatnonzero(np.isin(memory.station, list(concerned)) & known.heard)
    of = {(int(memory.station[i]), int(memory.parameter[i])): int(i) for i in rows.tolist()}
    neighbours = {
        one: [of.get((n, int(memory.parameter[one])), -1) for n in network.get(int(memory.station[one]), ())]
        for one in np.unique(series[wanted]).tolist()
    }
    for i in np.flatnonzero(wanted).tolist():
        mine = neighbours[int(series[i])]
        beside[i, : len(mine)] = mine
    return beside
