"""Did the water change over hours and days? Nights without oxygen, blooms, stirred-up mud. Pure.

:mod:`sensors.quality.detectors.sudden_events` looks at two hours and misses what comes slower. Here a station is looked
at hour by hour: the mean of each hour is held against the fortnight before, against how low and how high its days went
and how far they fell and rose within four hours. What is beyond all that, with a second witness, is told while it
lasts.

An hour is judged at the first reading after it. Like ``watch``, :func:`look` reads what is remembered and hands back
what is to be remembered; a table in one piece and the same table cut anywhere between two instants give the same
alarms. What is remembered of the days before is four numbers a day and sensor.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import bottleneck as bn
import numpy as np
from numpy.typing import NDArray

from sensors.parameters import Catalogue
from sensors.quality.detectors.daily_pattern import NOBODY, Network
from sensors.quality.detectors.sudden_events import (
    DOUBTFUL,
    QUIET_MS,
    ROLES,
    Alarms,
    DiscountReason,
    EventCause,
    EventDiagnosis,
    SuddenEventResult,
    sorted_unique,
)
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Codes, Floats, Ints, Places, QualityTest, distinct
from sensors.standards.oxygen import saturation

HOUR_MS: Final = 3_600_000
HOURS: Final = 24

FOLLOWED: Final[Mapping[str, str]] = {
    "do": "oxygen",
    "ph": "ph",
    "water_temp": "temperature",
    "conductivity": "salt",
    "turbidity": "turbidity",
    "nh3n": "ammonia",
    "orp": "redox",
    "chla": "bloom",
    "level": "level",
}
"""The parameters that are looked at, and what they tell."""

_PLACE: Final = {role: i for i, role in enumerate(FOLLOWED.values())}
_OXYGEN, _PH, _WARMTH, _SALT, _TURBIDITY, _AMMONIA, _REDOX, _BLOOM, _LEVEL = range(len(FOLLOWED))

LEAST: Final[Mapping[str, float]] = {
    "oxygen": 0.1,  # of saturation: what a sensor may be off when it is set back (0.8 mg/L)
    "ph": 0.1,  # what a pH sensor may be off
    "temperature": 0.8,
    "salt": 0.1,  # logarithm: a tenth
    "turbidity": 0.7,  # logarithm: twice as much
    "ammonia": 0.4,  # logarithm: half as much again
    "redox": 20.0,  # mV
    "bloom": 0.4,  # logarithm: half as much again
    "level": 0.1,  # m
}
"""A departure is at least so large, however steady the fortnight was."""

CLEAR: Final[Mapping[str, float]] = {"turbidity": 2.0, "ammonia": 0.1, "bloom": 1.0}
"""NTU, mg/L and µg/L that are added before the logarithm: where there is almost nothing twice as much is nothing."""

DAYS: Final = 15
"""Days that are remembered: from one spring tide to the next, and two weeks of working days."""

KNOWN: Final = 7
"""Days before that must be known before anything is told: working days and days off, and some weather."""

SPREAD: Final = 8.0
"""A value is far out where it leaves the middle of the days by so many times the distance of their outer quarter: a
quarter of the days may be wild and stay without weight. About five standard deviations: days resemble each other."""

ENOUGH: Final = DAYS - 2
"""Where so many days are known, nearly from one spring tide to the next, turbidity is far out as well where it is by
the least departure above all of them: springs stir up the bed every fortnight, so that the outer quarter is wide."""

FILLED: Final = 16
"""A day counts when its station spoke in so many hours; of one sensor four of them are enough (analysers)."""
FILLED_ONE: Final = 4

LAG: Final = 4
"""Hours within which a fall or rise is looked at: a sag that takes half a day shows in four hours before it is as low
as the water ever was."""

WITNESS: Final = 0.5
"""A second sensor bears witness from half of what would be far out by itself."""

CAP: Final = 1.0
TOGETHER: Final = 1.75
"""Two witnesses say so much together, where none counts for more than one that is far out: a sensor alone, however
wild, is a broken sensor. Both are three quarters of the way, then, and one of them is far out or nearly so."""

DOUBLED: Final = 0.1
SUREST: Final = 0.9
"""What is just enough is right as often as not; so much more doubles the odds, up to nine of ten (measured on slow
events planted into recorded water, docs/detection.md: the share that is right where one passes a station a month)."""

NEAR_H: Final = 25
"""Hours for which a neighbouring station bears witness: within a lunar day the tide carries the same water past it
twice, up and down."""

RAIN_H: Final = 12
"""Hours for which thinner or higher water says that it rained: what a storm stirred up has mostly settled then."""

SUPERSATURATED: Final = 1.1
"""Of saturation: so much oxygen is made in the water, no air brings it."""

_NOT_OF_THE_WATER: Final = int(
    QualityTest.SENTINEL
    | QualityTest.INSTRUMENT_RANGE
    | QualityTest.DEVICE_STATUS
    | QualityTest.OVER_RANGE
    | QualityTest.FLAT_LINE
    | QualityTest.UNIT_MISTAKE
    | QualityTest.CALIBRATION
    | QualityTest.ATTENUATED
    | QualityTest.NEIGHBOURS
)
_VISIT: Final = int(QualityTest.OUT_OF_WATER | QualityTest.MAINTENANCE)

_PARTS: Final = 1024.0
"""Sums of an hour are kept as whole numbers of this part of a unit: adding them is exact in any order."""

Floats32 = NDArray[np.float32]

_SIDES: Final = np.array([-1.0, 1.0, -1.0, 1.0])
_LOW, _HIGH, _FALL, _RISE = range(4)
"""What is remembered of a day: lowest and highest hour, deepest fall and steepest rise within four hours."""

_BEFORE: Final = LAG + 1
_ROLES: Final = len(FOLLOWED)
_TURBID, _SAGGING = range(2)
"""What neighbours ask for: whether turbidity or missing oxygen stood out."""

_LEAST: Final = np.array([LEAST[role] for role in FOLLOWED.values()])
USUAL_C: Final = 15.0
"""Where no temperature is measured, oxygen is held against the saturation at this one."""

NEXT_DAY_H: Final = 30
"""Hours from a bloom's hours to those of the next day: by then the light is back."""

ROTS_H: Final = 7 * 24
"""Hours after its last light in which oxygen that is missing is the bloom's: half of dead algae rots within a week (a
tenth a day)."""

_CAUSE: Final = {cause: i for i, cause in enumerate(EventCause)}
_AS_ROLE: Final = np.array([ROLES.index(role) for role in FOLLOWED.values() if role in ROLES])

_LOW_BITS: Final = (1 << 32) - 1


@dataclass
class OpenHour(StateColumns):
    """The hour that is open at every station; columns by station, roles in the order of :data:`FOLLOWED`.

    ``hour`` since the epoch (-1: none) and its ``last`` instant (ms); ``total``, ``least`` and ``most`` (s, roles) of
    its readings in parts, ``many`` (s, roles) of them; ``visit`` (s,) whether somebody was there.
    """

    hour: Ints = field(default_factory=Column(-1, np.int64))
    last: Ints = field(default_factory=Column(0, np.int64))
    total: Floats = field(default_factory=Column(0.0, np.float64, _ROLES))
    many: Codes = field(default_factory=Column(0, np.int32, _ROLES))
    least: Floats = field(default_factory=Column(np.inf, np.float64, _ROLES))
    most: Floats = field(default_factory=Column(-np.inf, np.float64, _ROLES))
    visit: Bools = field(default_factory=Column(False, np.bool_))


@dataclass
class ClosedHours(StateColumns):
    """The hours that are over at every station; hours and days since the epoch, -1 where there is none.

    Of the open ``day`` the hours: ``spoke`` (s,) how many, ``course`` (s, 5 + 24, roles) and the last five before. Of
    the days before their numbers ``known`` (s, DAYS) and ``days`` (s, DAYS, 4, roles). ``warmth`` (s,) the last
    temperature; ``rained`` the last hour of rain; ``bloomed`` (s, 2) the last hour that looked like a bloom, and that
    of a day before; ``blooms`` (s,) the last one told; ``stood`` (s, 2) the hour in which turbidity, or missing oxygen,
    stood out most within a tide, ``heard`` when that was known (ms) and ``size`` how far out; ``unusual`` (s, 2) the
    last day whose lows, and whose highs, were those of an event; ``alarmed`` and ``doubted`` the last alarms (ms).
    """

    day: Ints = field(default_factory=Column(-1, np.int64))
    spoke: Codes = field(default_factory=Column(0, np.int32))
    course: Floats = field(default_factory=Column(np.nan, np.float64, _BEFORE + HOURS, _ROLES))
    known: Ints = field(default_factory=Column(-1, np.int64, DAYS))
    days: Floats32 = field(default_factory=Column(np.nan, np.float32, DAYS, 4, _ROLES))
    warmth: Floats = field(default_factory=Column(np.nan, np.float64))
    rained: Ints = field(default_factory=Column(-1, np.int64))
    bloomed: Ints = field(default_factory=Column(-1, np.int64, 2))
    blooms: Ints = field(default_factory=Column(-1, np.int64))
    stood: Ints = field(default_factory=Column(-1, np.int64, 2))
    heard: Ints = field(default_factory=Column(-1, np.int64, 2))
    size: Floats = field(default_factory=Column(0.0, np.float64, 2))
    unusual: Ints = field(default_factory=Column(-1, np.int64, 2))
    alarmed: Ints = field(default_factory=Column(0, np.int64))
    doubted: Ints = field(default_factory=Column(0, np.int64))


@dataclass
class SlowEventState:
    """What is remembered of every station."""

    open: OpenHour = field(default_factory=OpenHour)
    past: ClosedHours = field(default_factory=ClosedHours)

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; new ones remember nothing."""
        self.open.grow(size)
        self.past.grow(size)

    def apply(self, new: "SlowEventResult") -> None:
        """Remember what :func:`look` handed back."""
        self.open.apply(new.stations, new.open)
        self.past.apply(new.over, new.past)

    def put(self, row: int, other: "SlowEventState") -> None:
        """Remember of a station what the first one of ``other`` does."""
        self.open.apply(np.array([row]), other.open)
        self.past.apply(np.array([row]), other.past)

    def aside(self, stations: Codes) -> "SlowEventState":
        """These stations as ones to which nothing has happened for a while: what their days were, and nothing of
        today."""
        made = SlowEventState()
        made.grow(len(stations))
        made.past.known[:], made.past.days[:] = self.past.known[stations], self.past.days[stations]
        made.past.warmth[:] = self.past.warmth[stations]
        return made


@dataclass(frozen=True, slots=True)
class CombinedAlarms(Alarms):
    """Alarms of both looks. Of the slow one ``cause`` (a,) is the place in :class:`Cause`, -1 for the other one's;
    ``now`` and ``usual`` (a, roles of :data:`FOLLOWED`) are what its sensors show and showed at such extremes, in their
    unit; its moves are in far departures: one is far out."""

    cause: Codes
    now: Floats
    usual: Floats

    @classmethod
    def of(cls, sudden: Alarms, slow: "CombinedAlarms | None" = None) -> "CombinedAlarms":
        """The alarms of both."""
        n = len(sudden.at)
        blank = np.full((n, _ROLES), np.nan)
        columns: dict[str, Any] = {one.name: getattr(sudden, one.name) for one in fields(Alarms)}
        plain = cls(**columns, cause=np.full(n, -1), now=blank, usual=blank)
        return plain if slow is None or not len(slow.at) else _joined([plain, slow])

    def slow(self, row: int) -> bool:
        """Whether it is of hours and days."""
        return bool(self.cause[row] >= 0)

    def meaning(self, row: int) -> EventDiagnosis:
        """What one of them looks like."""
        if not self.slow(row):
            return Alarms.meaning(self, row)
        known = ~np.isnan(self.now[row])
        measured = {role for role, i in _PLACE.items() if known[i]}
        moves = sorted(zip(ROLES, self.moves[row].tolist(), strict=True), key=lambda one: -abs(one[1]))
        speaking = tuple(one for one in moves if abs(one[1]) >= WITNESS)
        silent = tuple(one for one in moves if one[0] in measured and abs(one[1]) < WITNESS)
        odds = 2.0 ** ((float(self.total[row]) - TOGETHER) / DOUBLED)
        confidence = DOUBTFUL if self.doubt[row] else min(SUREST, odds / (1.0 + odds))
        return EventDiagnosis(tuple(EventCause)[self.cause[row]], round(confidence, 2), speaking, silent)


_NO_ALARM: Final = np.empty(0, np.int64)
NOTHING: Final = CombinedAlarms(
    _NO_ALARM,
    _NO_ALARM,
    np.empty((0, len(ROLES))),
    _NO_ALARM.astype(np.float64),
    _NO_ALARM.astype(np.float64),
    _NO_ALARM > 0,
    _NO_ALARM > 0,
    _NO_ALARM.astype(np.uint8),
    _NO_ALARM,
    np.empty((0, _ROLES)),
    np.empty((0, _ROLES)),
)


def _joined(parts: Sequence[CombinedAlarms]) -> CombinedAlarms:
    return CombinedAlarms(
        *(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(CombinedAlarms))
    )


def first_alarms(alarms: CombinedAlarms) -> CombinedAlarms:
    """Each slow event once, at the hour in which it is told; all of the others."""
    keep = np.ones(len(alarms.at), np.bool_)
    slow = np.flatnonzero(alarms.cause >= 0)
    doubtful = alarms.doubt[slow] > 0
    order = np.lexsort((alarms.at[slow], doubtful, alarms.station[slow]))
    sorted_ = slow[order]
    same = (np.diff(alarms.station[sorted_]) == 0) & (np.diff(doubtful[order]) == 0)
    keep[sorted_[1:][same & (np.diff(alarms.at[sorted_]) <= QUIET_MS)]] = False
    return alarms.take(np.flatnonzero(keep))


@dataclass(frozen=True, slots=True)
class SlowEventResult:
    """What :func:`look` found and what is to be remembered: ``open`` of ``stations``, ``past`` of those of them of
    which an hour is ``over``, row by row."""

    alarms: CombinedAlarms
    stations: Codes
    open: OpenHour
    over: Codes
    past: ClosedHours

    @property
    def needs_neighbours(self) -> bool:
        """Whether anything stood out of which neighbouring stations may bear witness."""
        return bool((self.past.stood >= 0).any())


def detect_slow_events(
    station: Codes,
    parameter: Codes,
    at: Ints,
    value: Floats,
    tests: Ints,
    memory: SlowEventState,
    catalogue: Catalogue,
    network: Network = NOBODY,
    *,
    learn: bool = True,
) -> SlowEventResult:
    """Look at new readings of stations, hour by hour; what belongs to an hour that was judged already is left out.

    Parameters
    ----------
    station, parameter, at, value, tests : (n,) arrays
        As handed to and by ``assess``, in any order; canonical units.
    memory : Slow
        Read, not changed.
    network : Network
        The next stations above and below each station: what stands out at both, stands out.
    learn : bool
        Without, the days before stay as they are: late readings are judged by them (decision 0026).
    """
    stations = np.asarray(distinct(station), np.int64)
    held = memory.open.taken(stations)
    over = _hours(np.searchsorted(stations, station), parameter, at, value, tests, held, catalogue)
    rows = np.asarray(distinct(over.who), np.intp)
    over.who = np.searchsorted(rows, over.who)
    past = memory.past.taken(stations[rows])
    judge = _Judge(over, stations[rows], past, memory.past, network, learn)
    day = over.hour // HOURS
    order = np.argsort(day, kind="stable")
    cuts = np.flatnonzero(np.diff(day[order])) + 1
    found = [judge.day(cells) for cells in np.split(order, cuts)] if len(order) else []
    return SlowEventResult(_joined([NOTHING, *found]), stations, held, stations[rows], past)


# -- hours -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Over:
    """Hours that are over, by station row and hour: the means (c, roles) in their unit, the ``last`` instant and that
    of the first reading ``after`` (c,), and whether each sensor was heard ``once`` at most (c,)."""

    who: Places
    hour: Ints
    last: Ints
    after: Ints
    mean: Floats
    once: Bools


def _hours(
    who: Places, parameter: Codes, at: Ints, value: Floats, tests: Ints, held: OpenHour, catalogue: Catalogue
) -> _Over:
    """The hours that ended; in ``held`` the open ones are remembered."""
    role = np.array([_PLACE.get(FOLLOWED.get(p.key, ""), -1) for p in catalogue.parameters], np.int64)[parameter]
    hour = at // HOUR_MS
    if (hour < held.hour[who]).any():
        keep = np.flatnonzero(hour >= held.hour[who])
        who, role, at, hour = who[keep], role[keep], at[keep], hour[keep]
        value, tests = value[keep], tests[keep]
    begun = np.flatnonzero(held.hour >= 0)
    every, place = sorted_unique(
        np.concatenate([(begun << 32) | held.hour[begun], (who.astype(np.int64) << 32) | hour])
    )
    before, mine, size = place[: len(begun)], place[len(begun) :], len(every)
    rows = np.flatnonzero((role >= 0) & ((tests & _NOT_OF_THE_WATER) == 0))
    flat, part = mine[rows] * _ROLES + role[rows], np.rint(value[rows] * _PARTS)
    total = np.bincount(flat, weights=part, minlength=size * _ROLES).astype(np.float64).reshape(-1, _ROLES)
    many = np.bincount(flat, minlength=size * _ROLES).astype(np.int32).reshape(-1, _ROLES)
    least, most = np.full(size * _ROLES, np.inf), np.full(size * _ROLES, -np.inf)
    np.minimum.at(least, flat, part)
    np.maximum.at(most, flat, part)
    first, last = np.full(size, np.iinfo(np.int64).max), np.zeros(size, np.int64)
    np.minimum.at(first, mine, at)
    np.maximum.at(last, mine, at)
    visit = np.zeros(size, np.bool_)
    visit[mine[(tests & _VISIT) != 0]] = True
    gathered = OpenHour(
        every & _LOW_BITS, last, total, many, least.reshape(-1, _ROLES), most.reshape(-1, _ROLES), visit
    )
    old = held.taken(begun)
    gathered.total[before] += old.total
    gathered.many[before] += old.many
    gathered.visit[before] |= old.visit
    gathered.least[before] = np.minimum(gathered.least[before], old.least)
    gathered.most[before] = np.maximum(gathered.most[before], old.most)
    gathered.last[before] = np.maximum(last[before], old.last)
    whose = every >> 32
    ends = np.append(np.diff(whose) != 0, True)[:size]
    held.apply(whose[ends], gathered.taken(np.flatnonzero(ends)))
    over = np.flatnonzero(~ends)
    hours = gathered.taken(over)
    once = hours.many.max(axis=1, initial=0) <= 1
    return _Over(whose[over], hours.hour, hours.last, first[over + 1], _means(hours), once)


def _means(hours: OpenHour) -> Floats:
    """(c, roles) the mean of each hour without its lowest and highest reading, where there are four at least; NaN where
    there is none, where a sensor stands still, and where somebody was there."""
    trimmed = hours.many >= 4
    with np.errstate(invalid="ignore", divide="ignore"):
        inner = (hours.total - hours.least - hours.most) / (hours.many - 2)
        mean = np.where(trimmed, inner, hours.total / hours.many) / _PARTS
    still = trimmed & (hours.least == hours.most)
    return np.where((hours.many == 0) | still | hours.visit[:, None], np.nan, mean)


def _compared(mean: Floats, warmth: Floats) -> Floats:
    """(…, roles) as hours are compared: oxygen as a share of saturation at ``warmth`` (…,), what grows with its level
    as a logarithm."""
    made = mean.copy()
    made[..., _OXYGEN] /= _full(warmth)
    made[..., _SALT] = np.log(np.maximum(mean[..., _SALT], 1.0))
    for role, clear in CLEAR.items():
        made[..., _PLACE[role]] = np.log(np.maximum(mean[..., _PLACE[role]], 0.0) + clear)
    return made


def _measured(compared: Floats, warmth: Floats) -> Floats:
    """(…, roles) what :func:`_compared` was made of."""
    made = compared.copy()
    made[..., _OXYGEN] *= _full(warmth)
    made[..., _SALT] = np.exp(compared[..., _SALT])
    for role, clear in CLEAR.items():
        made[..., _PLACE[role]] = np.exp(compared[..., _PLACE[role]]) - clear
    return made


def _full(warmth: Floats) -> Floats:
    return saturation(np.clip(np.where(np.isnan(warmth), USUAL_C, warmth), 0.0, 40.0))


# -- days ------------------------------------------------------------------------------------------------------------


def usual_range(days: Floats) -> tuple[Floats, Floats]:
    """(s, 4, roles) the middle of the days (s, DAYS, 4, roles) and what is far out of it; NaN where too few are known.

    Lowest and deepest are counted downward: beyond is more, on all four sides.
    """
    outward = np.sort(days * _SIDES[:, None], axis=1)  # NaN sorts last
    many = (~np.isnan(days)).sum(axis=1)

    def at(place: Ints) -> Floats:
        return np.asarray(np.take_along_axis(outward, np.maximum(place, 0)[:, None], axis=1)[:, 0])

    middle = 0.5 * (at((many - 1) // 2) + at(many // 2))
    outer = SPREAD * (at(many - 1 - many // 4) - middle)
    beyond = np.full(middle.shape, np.inf)
    most = at(many - 1)[..., _TURBIDITY] + _LEAST[_TURBIDITY] - middle[..., _TURBIDITY]
    beyond[..., _TURBIDITY] = np.where(many[..., _TURBIDITY] >= ENOUGH, most, np.inf)
    unknown = many < KNOWN
    far = np.where(unknown, np.nan, np.maximum(np.minimum(outer, beyond), _LEAST))
    return np.where(unknown, np.nan, middle), far


def _extremes(course: Floats) -> Floats32:
    """(s, 4, roles) the lowest, the highest, the deepest fall and the steepest rise of a day (s, 5 + 24, roles)."""
    hours = course[:, _BEFORE:]
    change = hours - course[:, _BEFORE - LAG : -LAG]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where nothing is known, nothing comes of it
        four = [bn.nanmin(hours, 1), bn.nanmax(hours, 1), bn.nanmin(change, 1), bn.nanmax(change, 1)]
    made: Floats = np.stack(four, axis=1)
    few = (~np.isnan(hours)).sum(axis=1) < FILLED_ONE
    return np.where(few[:, None], np.nan, made).astype(np.float32)


@dataclass(frozen=True)
class _Judge:
    """Judges hours that are over, day by day; ``past`` belongs to the ``stations`` and is kept up to date."""

    over: _Over
    stations: Codes
    past: ClosedHours
    memory: ClosedHours
    network: Network
    learn: bool

    def day(self, cells: Places) -> "CombinedAlarms":
        """What the hours ``cells`` of one UTC day tell."""
        over, past = self.over, self.past
        today = int(over.hour[cells[0]]) // HOURS
        rows = np.asarray(distinct(over.who[cells]), np.intp)
        self._turn(rows, today)
        at = np.searchsorted(rows, over.who[cells]), over.hour[cells] % HOURS
        mean = over.mean[cells]
        warmth = self._warmth(over.who[cells], mean[:, _WARMTH])
        np.add.at(past.spoke, over.who[cells], np.int32(1))
        past.course[over.who[cells], _BEFORE + at[1]] = _compared(mean, warmth)
        forgotten = (past.known[rows] < today - DAYS)[:, :, None, None]
        middle, far = usual_range(np.where(forgotten, np.nan, past.days[rows]).astype(np.float64))
        if np.isnan(middle).all():
            return NOTHING
        fresh = _Fresh.of(rows, today, at, over.last[cells], over.after[cells], over.once[cells])
        found = self._found(fresh, _out(past.course[rows], middle, far))
        return self._told(fresh, found, middle)

    def _turn(self, rows: Places, today: int) -> None:
        """Stations that enter this day: what the day before was is remembered, but for what an event made of it.

        A bloom makes the highs, a night without oxygen the lows, everything else both.
        """
        past = self.past
        turning = rows[past.day[rows] != today]
        was = past.day[turning]
        if self.learn:
            full = turning[(was >= 0) & (past.spoke[turning] >= FILLED)]
            day, made = past.day[full], _extremes(past.course[full])
            for side, first in enumerate((_LOW, _HIGH)):
                made[past.unusual[full, side] == day, first::2] = np.nan
            past.days[full, day % DAYS], past.known[full, day % DAYS] = made, day
        course = np.full((len(turning), _BEFORE + HOURS, _ROLES), np.nan)
        follows = (was >= 0) & (was == today - 1)
        course[follows, :_BEFORE] = past.course[turning[follows], HOURS:]
        past.course[turning], past.day[turning], past.spoke[turning] = course, today, 0
        past.bloomed[turning, 1] = past.bloomed[turning, 0]

    def _warmth(self, who: Places, measured: Floats) -> Floats:
        """(c,) the temperature of each hour, the last known one where none was measured; (c,) by station and hour."""
        number = np.arange(len(who))
        seen = np.maximum.accumulate(np.where(np.isnan(measured), -1, number))
        first = np.maximum.accumulate(np.where(np.append(True, np.diff(who) != 0), number, 0))
        warmth = np.where(seen >= first, measured[seen], self.past.warmth[who])
        ends = np.append(np.diff(who) != 0, True)
        self.past.warmth[who[ends]] = warmth[ends]
        return warmth

    def _found(self, fresh: "_Fresh", out: "_Out") -> "_Found":
        """What the hours of the day look like; remembered is what of it must be."""
        past, rows, hour = self.past, fresh.rows, fresh.hour
        new = fresh.new
        twice_low, twice_high = (np.minimum(one[:, 1:], one[:, :-1]) for one in (out.low, out.high))
        # one reading is no hour: two hours must say the same
        low, high = (
            np.where(fresh.once[..., None], twice, one[:, 1:])
            for twice, one in ((twice_low, out.low), (twice_high, out.high))
        )
        wet = (low[..., _SALT] > WITNESS) | (high[..., _LEVEL] > WITNESS)
        rained = np.maximum.accumulate(np.where(wet, hour, past.rained[rows, None]), axis=1)
        past.rained[rows] = rained[:, -1]

        dry = hour - rained > RAIN_H
        mud = np.where(dry, twice_high[..., _TURBIDITY], 0.0)
        mud_there = self._beside(_TURBID, mud, mud, fresh)
        short, dirt = low[..., _OXYGEN], high[..., _AMMONIA]
        short_there = self._beside(_SAGGING, short, twice_low[..., _OXYGEN], fresh)
        breathed = np.maximum(low[..., _PH], low[..., _REDOX])

        light = past.course[rows, _BEFORE:, _OXYGEN] > SUPERSATURATED
        green = _together(high[..., _OXYGEN], high[..., _PH], high[..., _BLOOM]) * light
        yesterday = past.bloomed[rows, 1, None]
        twofold = (_together(high[..., _OXYGEN], high[..., _PH]) > 0) & (high[..., _BLOOM] >= WITNESS)
        twofold |= (yesterday >= 0) & (hour - yesterday <= NEXT_DAY_H)
        grows = (green >= TOGETHER) & new
        seen = np.maximum.accumulate(np.where(grows, hour, past.bloomed[rows, 0, None]), axis=1)
        past.bloomed[rows, 0] = seen[:, -1]
        blooms = np.maximum.accumulate(np.where(grows & twofold, hour, past.blooms[rows, None]), axis=1)
        rots = (blooms >= 0) & (hour - np.minimum(blooms, seen) <= ROTS_H)
        rots &= (_together(short, breathed) > 0) | (twice_low[..., _OXYGEN] > 1)
        blooms = np.maximum.accumulate(np.where(rots & new, hour, blooms), axis=1)
        past.blooms[rows] = blooms[:, -1]

        found = _Found.nothing(out)
        found.add(EventCause.SEDIMENT, _together(mud, short, dirt), mud_there, mud)
        found.add(EventCause.OXYGEN_SAG, _together(short, breathed, dirt), short_there, short)
        found.add(EventCause.BLOOM, np.where((blooms >= 0) & (hour - blooms < HOURS), np.maximum(green, TOGETHER), 0.0))
        salt = np.maximum(high[..., _SALT], low[..., _SALT])  # rain that thins the salts thins ammonia, too
        foul = np.where(dirt >= np.minimum(short, CAP), _together(dirt, breathed, short, salt), 0.0)
        found.add(EventCause.SEWAGE, np.where(dry, foul, 0.0))
        found.add(EventCause.OVERFLOW, np.where(dry, 0.0, foul))
        found.add_alone(EventCause.OXYGEN_SAG, twice_low[..., _OXYGEN] > 1, short)
        found.add_alone(
            EventCause.SEDIMENT, dry & (salt < WITNESS) & self._stays_muddy(rows, out), high[..., _TURBIDITY]
        )
        past.unusual[rows[((mud > 1) & new).any(axis=1)], 1] = past.day[rows[0]]
        return found

    def _stays_muddy(self, rows: Places, out: "_Out") -> Bools:
        """(s, HOURS) whether turbidity was far out for six hours, where salts or level would show that it rained."""
        course = self.past.course[rows]
        told = ~np.isnan(course[:, _BEFORE:, _SALT]) | ~np.isnan(course[:, _BEFORE:, _LEVEL])
        far = (course[..., _TURBIDITY] - out.middle[:, _HIGH, None, _TURBIDITY]) / out.far[:, _HIGH, None, _TURBIDITY]
        windows = np.lib.stride_tricks.sliding_window_view(far > 1, _BEFORE + 1, axis=1)
        return np.asarray(windows.all(axis=-1) & told)

    def _beside(self, which: int, mine: Floats, lasting: Floats, fresh: "_Fresh") -> Floats:
        """(s, HOURS) how far out the same was at a neighbouring station within a lunar day, as far as was known, where
        it is out here (``mine``); remembered is what lasted here (``lasting``)."""
        past, rows = self.past, fresh.rows
        stood = {
            int(row): self._stood(which, i, np.where(fresh.new[i], lasting[i], 0.0), fresh)
            for i, row in enumerate(rows)
        }
        found = np.zeros(mine.shape)
        for i, h in zip(*np.nonzero((mine >= WITNESS) & fresh.new), strict=True):
            for other in self.network.get(int(self.stations[rows[i]]), ()):
                for hour, known, size in reversed(self._of(which, int(other), stood)):
                    if known <= fresh.after[i, h]:
                        if hour >= fresh.hour[h] - NEAR_H:
                            found[i, h] = max(found[i, h], size)
                        break
        for row, records in stood.items():
            past.stood[row, which], past.heard[row, which], past.size[row, which] = records[-1]
        return found

    def _stood(self, which: int, i: int, size: Floats, fresh: "_Fresh") -> list[tuple[int, int, float]]:
        """What stood out most within a tide, as it became known: hour, when it was known (ms), how far out."""
        past, row = self.past, fresh.rows[i]
        records = [(int(past.stood[row, which]), int(past.heard[row, which]), float(past.size[row, which]))]
        for h in np.flatnonzero(size >= WITNESS).tolist():
            hour, _, most = records[-1]
            if size[h] >= most or fresh.hour[h] - hour > NEAR_H // 2:
                records.append((int(fresh.hour[h]), int(fresh.after[i, h]), float(size[h])))
        return records

    def _of(
        self, which: int, other: int, stood: Mapping[int, list[tuple[int, int, float]]]
    ) -> list[tuple[int, int, float]]:
        """The same of another station."""
        row = int(np.searchsorted(self.stations, other))
        past, place = (
            (self.past, row) if row < len(self.stations) and self.stations[row] == other else (self.memory, other)
        )
        if past is self.past and row in stood:
            return stood[row]
        if place >= len(past):
            return []
        return [(int(past.stood[place, which]), int(past.heard[place, which]), float(past.size[place, which]))]

    def _told(self, fresh: "_Fresh", found: "_Found", middle: Floats) -> CombinedAlarms:
        past, rows = self.past, fresh.rows
        i, h = np.nonzero((found.cause >= 0) & fresh.new)
        if not len(i):
            return NOTHING
        who, at, doubtful = rows[i], fresh.last[i, h], found.alone[i, h]
        against = np.where(
            found.cause[i, h] == _CAUSE[EventCause.OXYGEN_SAG], DiscountReason.LONE, DiscountReason.PARTICLES
        )
        np.maximum.at(past.doubted, who[doubtful], at[doubtful])
        np.maximum.at(past.alarmed, who[~doubtful], at[~doubtful])
        for side, other in enumerate((EventCause.BLOOM, EventCause.OXYGEN_SAG)):
            its = who[~doubtful & (found.cause[i, h] != _CAUSE[other])]
            past.unusual[its, side] = past.day[its]
        low, high = found.out.low[i, h + 1], found.out.high[i, h + 1]
        down = low > np.maximum(high, 0.0)
        size = np.where(down, -low, np.maximum(high, 0.0))
        cause = found.cause[i, h]
        now = past.course[who, _BEFORE + h]
        warmth = np.where(np.isnan(now[:, _WARMTH]), past.warmth[who], now[:, _WARMTH])
        extreme = np.where(down, -middle[i, _LOW], middle[i, _HIGH])
        moves = np.zeros((len(i), len(ROLES)))
        moves[:, _AS_ROLE] = size[:, :_LEVEL]
        no = np.zeros(len(i), np.bool_)
        return CombinedAlarms(
            self.stations[who],
            at,
            moves,
            found.total[i, h],
            np.where(doubtful, 1.0, TOGETHER),
            found.beside[i, h],
            no,
            np.where(doubtful, against, DiscountReason.NONE).astype(np.uint8),
            cause,
            _measured(now, warmth),
            _measured(extreme, warmth),
        )


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The hours of one day that ended now: ``new`` (s, HOURS), with their ``last`` instant and that of the first
    reading ``after`` them, and where one reading was all (``once``); of the stations in ``rows``."""

    rows: Places
    hour: Ints
    new: Bools
    last: Ints
    after: Ints
    once: Bools

    @classmethod
    def of(cls, rows: Places, today: int, at: tuple[Places, Ints], last: Ints, after: Ints, once: Bools) -> "_Fresh":
        size = len(rows), HOURS
        new, lasts, afters = np.zeros(size, np.bool_), np.zeros(size, np.int64), np.zeros(size, np.int64)
        onces = np.zeros(size, np.bool_)
        new[at], lasts[at], afters[at], onces[at] = True, last, after, once
        return cls(rows, today * HOURS + np.arange(HOURS), new, lasts, afters, onces)


@dataclass(frozen=True, slots=True)
class _Out:
    """How far out each hour of a day and the one before it lie, (s, 25, roles): 1 is far; at most 0 inside. By the
    ``middle`` of the days and what is ``far`` from it (s, 4, roles)."""

    low: Floats
    high: Floats
    middle: Floats
    far: Floats


def _out(course: Floats, middle: Floats, far: Floats) -> _Out:
    """By the value itself, or where that is out of the middle, by its fall or rise within four hours."""
    now = course[:, LAG:]
    change = np.full(now.shape, np.nan)
    change[:, 1:] = now[:, 1:] - course[:, 1 : HOURS + 1]

    def side(level: int, moved: int) -> Floats:
        value = (now * _SIDES[level] - middle[:, level, None]) / far[:, level, None]
        went = (change * _SIDES[moved] - middle[:, moved, None]) / far[:, moved, None]
        further = np.where((value > 0) & (went > value), went, value)
        return np.where(np.isnan(further), 0.0, further)

    return _Out(side(_LOW, _FALL), side(_HIGH, _RISE), middle, far)


def _together(first: Floats, *others: Floats) -> Floats:
    """How much two independent sensors say together, the ``first`` and the strongest of ``others``: the weaker one and
    no more than one for the other; 0 where one of them is no witness."""
    second = np.maximum.reduce(others)
    total = np.minimum(first, second) + np.minimum(np.maximum(first, second), CAP)
    return np.where(total >= TOGETHER, total, 0.0)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the hours of a day (s, HOURS) look like: the place of their ``cause``, -1 for none; how much speaks for it
    (``total``); whether one sensor stands ``alone``, and whether a station ``beside`` bears witness; and how far
    ``out`` they are. What is added last counts."""

    cause: Ints
    total: Floats
    alone: Bools
    beside: Bools
    out: _Out

    @classmethod
    def nothing(cls, out: _Out) -> "_Found":
        size = out.low.shape[0], HOURS
        return cls(np.full(size, -1), np.zeros(size), np.zeros(size, np.bool_), np.zeros(size, np.bool_), out)

    def add(self, cause: EventCause, total: Floats, there: Floats | None = None, here: Floats | None = None) -> None:
        """Where ``total`` is enough it is this cause, or else where what is out ``here`` and ``there`` are."""
        beside = np.zeros(total.shape) if there is None or here is None else _together(here, there)
        where = np.maximum(total, beside) >= TOGETHER
        self.cause[where] = _CAUSE[cause]
        self.total[where] = np.maximum(total, beside)[where]
        self.beside[where] = beside[where] > 0

    def add_alone(self, cause: EventCause, where: Bools, size: Floats) -> None:
        """Where nothing else is found it is perhaps this cause: one sensor says so for long."""
        lone = where & (self.cause < 0)
        self.alone[lone], self.cause[lone], self.total[lone] = True, _CAUSE[cause], size[lone]


@dataclass(frozen=True, slots=True)
class CombinedDetection(SuddenEventResult):
    """What both looks found: the alarms of both, and what each wants remembered."""

    looked: SlowEventResult
