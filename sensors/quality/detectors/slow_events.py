"""Detect slow events (hours to days): oxygen sag, bloom, resuspension, sewage.

:mod:`sensors.quality.detectors.sudden_events` looks at two hours and misses what comes slower. Here the mean of each
hour is compared with the fortnight before: with how low and how high its days went, and how far they fell and rose
within four hours. What is beyond all that, with a second witness, is an alarm for as long as it lasts. In tidal water
oxygen and pH are compared at equal phase of the tide as well (:mod:`sensors.quality.detectors.tide`).

An hour is judged at the first reading after it. :func:`detect_slow_events` reads a :class:`SlowEventState` and hands
back what is to be remembered; a table in one piece and the same table cut anywhere between two instants give the same
alarms. Pure.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import bottleneck as bn
import numpy as np
from numpy.typing import NDArray

from infra.times import HOUR_MS
from sensors.quality.constants import HOURS_PER_DAY, MIN_FILLED_HOURS, MIN_KNOWN_DAYS, REMEMBERED_DAYS, VISIT_TESTS
from sensors.quality.detectors.sudden_events import sorted_unique
from sensors.quality.detectors.tide import (
    DIFFERENCE_H,
    HOURS_BEFORE,
    OUTSIDE_BEFORE,
    TIDAL_ROLES,
    TidalDays,
    TidalHours,
)
from sensors.quality.events import (
    MIN_WITNESS,
    NO_ALARMS,
    ROLE_OF_PARAMETER,
    ROLES,
    Alarms,
    DiscountReason,
    EventCause,
    EventReadings,
)
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Codes, Floats, Ints, Places, QualityTest, distinct
from sensors.standards.oxygen import saturation

# -- constants -------------------------------------------------------------------------------------------------------


_PLACE: Final = {role: i for i, role in enumerate(ROLE_OF_PARAMETER.values())}
_OXYGEN, _PH, _TEMPERATURE, _SALT, _TURBIDITY, _AMMONIA, _REDOX, _BLOOM, _LEVEL = range(len(ROLE_OF_PARAMETER))
_ROLES: Final = len(ROLE_OF_PARAMETER)
_DEPTH: Final = _ROLES
"""Place of the depth above a sonde in an open hour: a gauge where there is no other."""
_COLUMNS: Final = {key: _PLACE[role] for key, role in ROLE_OF_PARAMETER.items()} | {"depth": _DEPTH}
_TIDAL: Final = [_PLACE[role] for role in TIDAL_ROLES]

MIN_DEPARTURE: Final[Mapping[str, float]] = {
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
_MIN_DEPARTURE: Final = np.array([MIN_DEPARTURE[role] for role in ROLE_OF_PARAMETER.values()])

_TIDAL_LEAST: Final = np.array([MIN_DEPARTURE["oxygen"], 2.0 * MIN_DEPARTURE["ph"]])
"""Of TIDAL_ROLES, from the same phase of the tide. Many pH sensors are read to a tenth: two readings that are compared
differ by one step of it at random (without, a bay has 1.5 sure alarms a month at hourly steps)."""

LOG_OFFSET: Final[Mapping[str, float]] = {"turbidity": 2.0, "ammonia": 0.1, "bloom": 1.0}
"""NTU, mg/L and µg/L that are added before the logarithm: where there is almost nothing twice as much is nothing."""
MIN_CONDUCTIVITY: Final = 1.0
"""µS/cm; guards the logarithm of conductivity."""

MIN_SENSOR_HOURS: Final = 4
"""Hours of a day in which a sensor must have measured for its extremes to count: analysers measure every few hours."""
CHANGE_HOURS: Final = 4
"""Hours within which a fall or rise is measured: a sag that takes half a day shows in four hours before it is as low as
the water ever was."""
_HOURS_BEFORE: Final = CHANGE_HOURS + 1
"""Hours of the day before that are kept beside those of the open day."""
MIN_TRIMMED_READINGS: Final = 4
"""Readings of an hour from which on its lowest and highest are left out of the mean."""

FAR_SPREADS: Final = 8.0
"""A value is far out where it leaves the middle of the days by so many times the distance of their outer quarter: a
quarter of the days may be wild and stay without weight. About five standard deviations: days resemble each other."""
MIN_DAYS_FOR_HIGHEST: Final = REMEMBERED_DAYS - 2
"""Where so many days are known, nearly from one spring tide to the next, turbidity is far out as well where it is by
the least departure above all of them: springs stir up the bed every fortnight, so that the outer quarter is wide."""

MAX_WITNESS: Final = 1.0
MIN_EVIDENCE: Final = 1.75
"""In far departures. Two witnesses say so much together, where none counts for more than one that is far out: a sensor
alone, however wild, is a broken sensor. Both are three quarters of the way, then, and one of them is far out or nearly
so."""

NEIGHBOUR_WINDOW_H: Final = 25
"""Hours for which a neighbouring station bears witness: within a lunar day the tide carries the same water past it
twice, up and down."""
RAIN_H: Final = 12
"""Hours for which thinner or higher water says that it rained: what a storm stirred up has mostly settled then."""
NEXT_DAY_H: Final = 30
"""Hours from a bloom's hours to those of the next day: by then the light is back."""
DECAY_H: Final = 7 * HOURS_PER_DAY
"""Hours after its last light in which oxygen that is missing is the bloom's: half of dead algae rots within a week (a
tenth a day)."""
SUPERSATURATED: Final = 1.1
"""Of saturation: so much oxygen is made in the water, no air brings it."""
USUAL_TEMPERATURE_C: Final = 15.0
"""Where no temperature is measured, oxygen is compared with the saturation at this one."""
MAX_TEMPERATURE_C: Final = 40.0
"""Temperatures are clipped to 0 and this before the saturation is computed."""

_IGNORED_TESTS: Final = int(
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
"""Readings with one of these are not of the water. Spikes are: the mean of an hour is trimmed."""

_PARTS: Final = 1024.0
"""Sums of an hour are kept as whole numbers of this part of a unit: adding them is exact in any order."""

Floats32 = NDArray[np.float32]

_SIDES: Final = np.array([-1.0, 1.0, -1.0, 1.0])
_LOW, _HIGH, _FALL, _RISE = range(4)
"""What is remembered of a day: lowest and highest hour, deepest fall and steepest rise within CHANGE_HOURS."""

_TURBID, _SAGGING = range(2)
"""What neighbours ask for: whether turbidity or missing oxygen stood out."""

_CAUSE: Final = {cause: i for i, cause in enumerate(EventCause)}
_AS_ROLE: Final = np.array([ROLES.index(role) for role in ROLE_OF_PARAMETER.values() if role in ROLES])

_LOW_BITS: Final = (1 << 32) - 1


# -- state -----------------------------------------------------------------------------------------------------------


@dataclass
class OpenHour(StateColumns):
    """The hour that is open at every station; columns by station, roles in the order of :data:`FOLLOWED`.

    Attributes
    ----------
    hour, last : (s,) hour since the epoch (-1: none), and its last instant (ms)
    total, least, most, many : (s, roles + 1) sum, smallest and largest reading in parts, and their number; depth last
    visit : (s,) whether somebody was there
    """

    hour: Ints = field(default_factory=Column(-1, np.int64))
    last: Ints = field(default_factory=Column(0, np.int64))
    total: Floats = field(default_factory=Column(0.0, np.float64, _ROLES + 1))
    many: Codes = field(default_factory=Column(0, np.int32, _ROLES + 1))
    least: Floats = field(default_factory=Column(np.inf, np.float64, _ROLES + 1))
    most: Floats = field(default_factory=Column(-np.inf, np.float64, _ROLES + 1))
    visit: Bools = field(default_factory=Column(False, np.bool_))


@dataclass
class ClosedHours(StateColumns):
    """The hours that are over at every station; hours and days since the epoch, -1 where there is none.

    Attributes
    ----------
    day, hours_heard : (s,) the open day, and how many of its hours were heard
    hourly : (s, 5 + 24, roles) comparable means of the last five hours before the open day and of its hours
    day_number, extremes : (s, DAYS) and (s, DAYS, 4, roles) the days before, by day modulo DAYS
    temperature : (s,) the last one, °C
    rain_hour : (s,) last hour of rain
    light_hour : (s, 2) last hour that looked like a bloom, and that of a day before
    bloom_hour : (s,) last hour of a bloom alarm
    peak_hour, peak_known_at, peak_size : (s, 2) the hour within a tide in which turbidity, or missing oxygen, stood out
        most, when that was known (ms), and how far out
    event_day : (s, 2) last day whose lows, and whose highs, were those of an event
    alarmed, doubted : (s,) last alarm and last doubtful one (ms)
    """

    day: Ints = field(default_factory=Column(-1, np.int64))
    hours_observed: Codes = field(default_factory=Column(0, np.int32))
    hourly: Floats = field(default_factory=Column(np.nan, np.float64, _HOURS_BEFORE + HOURS_PER_DAY, _ROLES))
    day_number: Ints = field(default_factory=Column(-1, np.int64, REMEMBERED_DAYS))
    extremes: Floats32 = field(default_factory=Column(np.nan, np.float32, REMEMBERED_DAYS, 4, _ROLES))
    temperature: Floats = field(default_factory=Column(np.nan, np.float64))
    rain_hour: Ints = field(default_factory=Column(-1, np.int64))
    light_hour: Ints = field(default_factory=Column(-1, np.int64, 2))
    bloom_hour: Ints = field(default_factory=Column(-1, np.int64))
    peak_hour: Ints = field(default_factory=Column(-1, np.int64, 2))
    peak_known_at: Ints = field(default_factory=Column(-1, np.int64, 2))
    peak_size: Floats = field(default_factory=Column(0.0, np.float64, 2))
    event_day: Ints = field(default_factory=Column(-1, np.int64, 2))
    alarmed: Ints = field(default_factory=Column(0, np.int64))
    doubted: Ints = field(default_factory=Column(0, np.int64))


@dataclass
class SlowEventState:
    """State of every station: its open hour and its past."""

    open: OpenHour = field(default_factory=OpenHour)
    past: ClosedHours = field(default_factory=ClosedHours)
    tide: TidalHours = field(default_factory=TidalHours)

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; nothing is known of new ones."""
        self.open.grow(size)
        self.past.grow(size)
        self.tide.grow(size)

    def apply(self, new: "SlowEventResult") -> None:
        """Apply what :func:`detect_slow_events` handed back."""
        self.open.apply(new.stations, new.open)
        self.past.apply(new.over, new.past)
        self.tide.apply(new.over, new.tide)

    def put(self, row: int, other: "SlowEventState") -> None:
        """Copy the first station of ``other`` to a station."""
        self.open.apply(np.array([row]), other.open)
        self.past.apply(np.array([row]), other.past)
        self.tide.apply(np.array([row]), other.tide)

    def aside(self, stations: Codes) -> "SlowEventState":
        """These stations alone with what their days were, and nothing of today."""
        made = SlowEventState()
        made.grow(len(stations))
        made.past.day_number[:], made.past.extremes[:] = self.past.day_number[stations], self.past.extremes[stations]
        made.past.temperature[:] = self.past.temperature[stations]
        return made


@dataclass(frozen=True, slots=True)
class SlowEventResult:
    """Alarms, and what is to be remembered: ``open`` of ``stations``, ``past`` and ``tide`` of the stations ``over``.

    ``over`` are those of ``stations`` of which an hour ended.
    """

    alarms: Alarms
    stations: Codes
    open: OpenHour
    over: Codes
    past: ClosedHours
    tide: TidalHours
    tidal_days: TidalDays

    @property
    def has_peaks_for_neighbours(self) -> bool:
        """Whether anything stood out of which neighbouring stations may bear witness."""
        return bool((self.past.peak_hour >= 0).any())


def detect_slow_events(
    readings: EventReadings, memory: SlowEventState, network: Neighbours = NO_NEIGHBOURS, *, learn: bool = True
) -> SlowEventResult:
    """Judge new readings of stations, hour by hour; readings of an hour that was judged already are left out.

    ``memory`` is read, not changed. What stands out at a station and at its next ones above and below in the
    ``network``, stands out. Without ``learn`` the days before stay as they are: late readings are judged by them.
    """
    stations = np.asarray(distinct(readings.station), np.int64)
    held = memory.open.taken(stations)
    over = _close_hours(np.searchsorted(stations, readings.station), readings, held)
    rows = np.asarray(distinct(over.who), np.intp)
    over.who = np.searchsorted(rows, over.who)
    past = memory.past.taken(stations[rows])
    tide = memory.tide.taken(stations[rows])
    judge = _Judge(over, stations[rows], past, tide, memory.past, network, learn)
    day = over.hour // HOURS_PER_DAY
    order = np.argsort(day, kind="stable")
    cuts = np.flatnonzero(np.diff(day[order])) + 1
    found = [judge.day(cells) for cells in np.split(order, cuts)] if len(order) else []
    days = TidalDays.of(memory.tide.taken(stations), stations, judge.begun)
    return SlowEventResult(Alarms.joined(found), stations, held, stations[rows], past, tide, days)


# -- hours -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _EndedHours:
    """Hours that are over, by station row and hour.

    Attributes
    ----------
    who, hour : (c,) station row and hour since the epoch
    last, after : (c,) last instant of the hour, and first one after it (ms)
    mean : (c, roles) in the unit of the parameter, NaN where a sensor stands still
    tidal : (c, tidal roles) the same also of a sensor that stands still
    gauge : (c,) level of the water, or depth of the sonde where there is none
    once : (c,) whether each sensor measured once at most
    """

    who: Places
    hour: Ints
    last: Ints
    after: Ints
    mean: Floats
    tidal: Floats
    gauge: Floats
    once: Bools


def _close_hours(who: Places, readings: EventReadings, held: OpenHour) -> _EndedHours:
    """Add readings (station rows ``who``) to the open hours ``held``, in place, and return the hours that ended."""
    keep = readings.at // HOUR_MS >= held.hour[who]
    if not keep.all():
        who, readings = who[keep], readings.take(keep)
    role = np.array([_COLUMNS.get(p.key, -1) for p in readings.catalogue.parameters], np.int64)[readings.parameter]
    at, value, tests = readings.at, readings.value, readings.tests
    hour = at // HOUR_MS
    begun = np.flatnonzero(held.hour >= 0)
    every, place = sorted_unique(
        np.concatenate([(begun << 32) | held.hour[begun], (who.astype(np.int64) << 32) | hour])
    )
    before, mine, size = place[: len(begun)], place[len(begun) :], len(every)
    rows = np.flatnonzero((role >= 0) & ((tests & _IGNORED_TESTS) == 0))
    width = _ROLES + 1
    flat, part = mine[rows] * width + role[rows], np.rint(value[rows] * _PARTS)
    total = np.bincount(flat, weights=part, minlength=size * width).astype(np.float64).reshape(-1, width)
    many = np.bincount(flat, minlength=size * width).astype(np.int32).reshape(-1, width)
    least, most = np.full(size * width, np.inf), np.full(size * width, -np.inf)
    np.minimum.at(least, flat, part)
    np.maximum.at(most, flat, part)
    first, last = np.full(size, np.iinfo(np.int64).max), np.zeros(size, np.int64)
    np.minimum.at(first, mine, at)
    np.maximum.at(last, mine, at)
    visit = np.zeros(size, np.bool_)
    visit[mine[(tests & VISIT_TESTS) != 0]] = True
    gathered = OpenHour(every & _LOW_BITS, last, total, many, least.reshape(-1, width), most.reshape(-1, width), visit)
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
    once = hours.many[:, :_ROLES].max(axis=1, initial=0) <= 1
    mean = _trimmed_means(hours)
    gauge = np.where(np.isnan(mean[:, _LEVEL]), mean[:, _DEPTH], mean[:, _LEVEL])
    moving = np.where(_stands_still(hours), np.nan, mean)[:, :_ROLES]
    return _EndedHours(whose[over], hours.hour, hours.last, first[over + 1], moving, mean[:, _TIDAL], gauge, once)


def _trimmed_means(hours: OpenHour) -> Floats:
    """(c, roles + 1) the mean of each hour without its lowest and highest reading.

    NaN where there is no reading, and where somebody was there.
    """
    trimmed = hours.many >= MIN_TRIMMED_READINGS
    with np.errstate(invalid="ignore", divide="ignore"):
        inner = (hours.total - hours.least - hours.most) / (hours.many - 2)
        mean = np.where(trimmed, inner, hours.total / hours.many) / _PARTS
    return np.where((hours.many == 0) | hours.visit[:, None], np.nan, mean)


def _stands_still(hours: OpenHour) -> Bools:
    """(c, roles + 1) whether all readings of an hour are the same."""
    return np.asarray((hours.many >= MIN_TRIMMED_READINGS) & (hours.least == hours.most))


def _comparable(mean: Floats, temperature: Floats) -> Floats:
    """(…, roles) means as they are compared.

    Oxygen as a share of saturation at ``temperature`` (…,), what grows with its level as a logarithm.
    """
    made = mean.copy()
    made[..., _OXYGEN] /= _saturation(temperature)
    made[..., _SALT] = np.log(np.maximum(mean[..., _SALT], MIN_CONDUCTIVITY))
    for role, clear in LOG_OFFSET.items():
        made[..., _PLACE[role]] = np.log(np.maximum(mean[..., _PLACE[role]], 0.0) + clear)
    return made


def _in_units(compared: Floats, temperature: Floats) -> Floats:
    """(…, roles) the means in their unit; the inverse of :func:`_comparable`."""
    made = compared.copy()
    made[..., _OXYGEN] *= _saturation(temperature)
    made[..., _SALT] = np.exp(compared[..., _SALT])
    for role, clear in LOG_OFFSET.items():
        made[..., _PLACE[role]] = np.exp(compared[..., _PLACE[role]]) - clear
    return made


def _saturation(temperature: Floats) -> Floats:
    known = np.where(np.isnan(temperature), USUAL_TEMPERATURE_C, temperature)
    return saturation(np.clip(known, 0.0, MAX_TEMPERATURE_C))


# -- days ------------------------------------------------------------------------------------------------------------


def usual_range(days: Floats) -> tuple[Floats, Floats]:
    """(s, 4, roles) the middle of the days (s, DAYS, 4, roles), and the distance that is far; NaN where too few are
    known.

    The lowest hour and the deepest fall are negated: on all four sides more is further out.
    """
    middle, far = _far_range(days, _MIN_DEPARTURE)
    outward = days[..., _TURBIDITY] * _SIDES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where nothing is known, nothing comes of it
        beyond = bn.nanmax(outward, axis=1) + _MIN_DEPARTURE[_TURBIDITY] - middle[..., _TURBIDITY]
    known = (~np.isnan(outward)).sum(axis=1) >= MIN_DAYS_FOR_HIGHEST
    least = np.maximum(np.minimum(far[..., _TURBIDITY], beyond), _MIN_DEPARTURE[_TURBIDITY])
    far[..., _TURBIDITY] = np.where(known, least, far[..., _TURBIDITY])
    return middle, far


def _far_range(days: Floats, least: Floats) -> tuple[Floats, Floats]:
    """The same by the outer quarter of the days alone, where ``least`` (roles,) is far at least."""
    outward = np.sort(days * _SIDES[:, None], axis=1)  # NaN sorts last
    many = (~np.isnan(days)).sum(axis=1)

    def at(place: Ints) -> Floats:
        return np.asarray(np.take_along_axis(outward, np.maximum(place, 0)[:, None], axis=1)[:, 0])

    middle = 0.5 * (at((many - 1) // 2) + at(many // 2))
    outer = FAR_SPREADS * (at(many - 1 - many // 4) - middle)
    unknown = many < MIN_KNOWN_DAYS
    return np.where(unknown, np.nan, middle), np.where(unknown, np.nan, np.maximum(outer, least))


def _extremes(course: Floats | Floats32) -> Floats32:
    """(s, 4, roles) the lowest hour, the highest, the deepest fall and the steepest rise of a day (s, 5 + 24,
    roles)."""
    hours = course[:, _HOURS_BEFORE:]
    change = hours - course[:, _HOURS_BEFORE - CHANGE_HOURS : -CHANGE_HOURS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where nothing is known, nothing comes of it
        four = [bn.nanmin(hours, 1), bn.nanmax(hours, 1), bn.nanmin(change, 1), bn.nanmax(change, 1)]
    made = np.stack(four, axis=1)
    few = (~np.isnan(hours)).sum(axis=1) < MIN_SENSOR_HOURS
    return np.where(few[:, None], np.nan, made).astype(np.float32)


@dataclass(frozen=True)
class _Judge:
    """Judge hours that are over, day by day.

    ``past`` and ``tide`` belong to ``stations``, row by row, and are changed in place; ``memory`` holds all stations
    and is read.
    """

    over: _EndedHours
    stations: Codes
    past: ClosedHours
    tide: TidalHours
    memory: ClosedHours
    network: Neighbours
    learn: bool
    begun: list[TidalDays] = field(default_factory=list)

    def day(self, cells: Places) -> Alarms:
        """The alarms of hours (rows ``cells`` of ``over``) of one UTC day."""
        over, past = self.over, self.past
        today = int(over.hour[cells[0]]) // HOURS_PER_DAY
        rows = np.asarray(distinct(over.who[cells]), np.intp)
        self._turn(rows, today)
        at = np.searchsorted(rows, over.who[cells]), over.hour[cells] % HOURS_PER_DAY
        mean = over.mean[cells]
        temperature = self._temperature(over.who[cells], mean[:, _TEMPERATURE])
        np.add.at(past.hours_observed, over.who[cells], np.int32(1))
        past.hourly[over.who[cells], _HOURS_BEFORE + at[1]] = _comparable(mean, temperature)
        self._add_to_tide(cells, at[1], temperature)
        forgotten = (past.day_number[rows] < today - REMEMBERED_DAYS)[:, :, None, None]
        middle, far = usual_range(np.where(forgotten, np.nan, past.extremes[rows]).astype(np.float64))
        if np.isnan(middle).all():
            return NO_ALARMS
        fresh = _NewHours.of(rows, today, at, over.last[cells], over.after[cells], over.once[cells])
        found = self._found(fresh, _departures(past.hourly[rows], middle, far))
        self._add_tidal(fresh, found, forgotten)
        return self._alarms(fresh, found, middle)

    def _add_to_tide(self, cells: Places, hour: Ints, temperature: Floats) -> None:
        """Remember hours (rows ``cells`` of ``over``) for the comparison at equal phase, where there is a gauge."""
        over, tide = self.over, self.tide
        some = ~np.isnan(over.gauge[cells]) | (tide.sums[over.who[cells], 0] > 0)
        if not some.any():
            return
        cells, hour = cells[some], hour[some]
        compared, who = over.tidal[cells], over.who[cells]
        compared[:, _TIDAL.index(_OXYGEN)] /= _saturation(temperature[some])
        tide.course[who, HOURS_BEFORE + hour] = compared
        tide.gauge[who, DIFFERENCE_H + hour] = over.gauge[cells]

    def _turn(self, rows: Places, today: int) -> None:
        """Close the day before of stations that enter this day, in place.

        Its extremes are remembered but for those that an event made: a bloom makes the highs, a night without oxygen
        the lows, everything else both.
        """
        past = self.past
        turning = rows[past.day[rows] != today]
        was = past.day[turning]
        self._turn_tide(turning, was, today)
        if self.learn:
            full = turning[(was >= 0) & (past.hours_observed[turning] >= MIN_FILLED_HOURS)]
            day, made = past.day[full], _extremes(past.hourly[full])
            for side, first in enumerate((_LOW, _HIGH)):
                made[past.event_day[full, side] == day, first::2] = np.nan
            past.extremes[full, day % REMEMBERED_DAYS], past.day_number[full, day % REMEMBERED_DAYS] = made, day
        course = np.full((len(turning), _HOURS_BEFORE + HOURS_PER_DAY, _ROLES), np.nan)
        follows = (was >= 0) & (was == today - 1)
        course[follows, :_HOURS_BEFORE] = past.hourly[turning[follows], HOURS_PER_DAY:]
        past.hourly[turning], past.day[turning], past.hours_observed[turning] = course, today, 0
        past.light_hour[turning, 1] = past.light_hour[turning, 0]

    def _turn_tide(self, rows: Places, was: Ints, today: int) -> None:
        """The same of the tide, at stations with a gauge; days of events are remembered, too."""
        tide, gauged = self.tide, self.tide.has_gauge(rows)
        if not gauged.any():
            return
        rows, was = rows[gauged], was[gauged]
        compared = rows[tide.is_compared(rows)]
        tide.measure(compared)
        if self.learn:
            tide.close_day(rows, was)
            tide.extremes[rows, was % REMEMBERED_DAYS] = np.nan
            full = compared[self.past.hours_observed[compared] >= MIN_FILLED_HOURS]
            if len(full):
                tide.extremes[full, self.past.day[full] % REMEMBERED_DAYS] = _extremes(tide.outside[full])
        tide.begin_day(rows, today - was, today)
        self.begun.append(TidalDays(self.stations[rows], np.full(len(rows), today), tide.tidal[rows, 0]))

    def _temperature(self, who: Places, measured: Floats) -> Floats:
        """(c,) the temperature of each hour, the last known one where none was measured; remembers the newest."""
        number = np.arange(len(who))
        seen = np.maximum.accumulate(np.where(np.isnan(measured), -1, number))
        first = np.maximum.accumulate(np.where(np.append(True, np.diff(who) != 0), number, 0))
        temperature = np.where(seen >= first, measured[seen], self.past.temperature[who])
        ends = np.append(np.diff(who) != 0, True)
        self.past.temperature[who[ends]] = temperature[ends]
        return temperature

    def _found(self, fresh: "_NewHours", out: "_Departures") -> "_Causes":
        """The causes of the hours of a day; remembers rain, light and what neighbours ask for."""
        past, rows, hour, new = self.past, fresh.rows, fresh.hour, fresh.new
        twice_low, twice_high = (np.minimum(one[:, 1:], one[:, :-1]) for one in (out.low, out.high))
        # one reading is no hour: two hours must say the same
        low, high = (
            np.where(fresh.once[..., None], twice, one[:, 1:])
            for twice, one in ((twice_low, out.low), (twice_high, out.high))
        )
        wet = (low[..., _SALT] > MIN_WITNESS) | (high[..., _LEVEL] > MIN_WITNESS)
        rained = np.maximum.accumulate(np.where(wet, hour, past.rain_hour[rows, None]), axis=1)
        past.rain_hour[rows] = rained[:, -1]
        dry = hour - rained > RAIN_H

        mud = np.where(dry, twice_high[..., _TURBIDITY], 0.0)
        mud_beside = self._beside(_TURBID, mud, mud, fresh)
        low_oxygen, lasting_low_oxygen = low[..., _OXYGEN], twice_low[..., _OXYGEN]
        ammonia = high[..., _AMMONIA]
        low_oxygen_beside = self._beside(_SAGGING, low_oxygen, lasting_low_oxygen, fresh)
        respiration = np.maximum(low[..., _PH], low[..., _REDOX])
        salt = np.maximum(high[..., _SALT], low[..., _SALT])  # rain that thins the salts thins ammonia, too

        found = _Causes.nothing(out)
        found.add(EventCause.SEDIMENT, _joint_evidence(mud, low_oxygen, ammonia), mud_beside, mud)
        found.add(
            EventCause.OXYGEN_SAG, _joint_evidence(low_oxygen, respiration, ammonia), low_oxygen_beside, low_oxygen
        )
        decays = (_joint_evidence(low_oxygen, respiration) > 0) | (lasting_low_oxygen > 1)
        found.add(EventCause.BLOOM, self._bloom(fresh, high, decays))
        sewage = _joint_evidence(ammonia, respiration, low_oxygen, salt)
        sewage = np.where(ammonia >= np.minimum(low_oxygen, MAX_WITNESS), sewage, 0.0)
        found.add(EventCause.SEWAGE, np.where(dry, sewage, 0.0))
        found.add(EventCause.OVERFLOW, np.where(dry, 0.0, sewage))
        found.add_alone(EventCause.OXYGEN_SAG, lasting_low_oxygen > 1, low_oxygen)
        muddy = dry & (salt < MIN_WITNESS) & self._stays_muddy(rows, out)
        found.add_alone(EventCause.SEDIMENT, muddy, high[..., _TURBIDITY])
        past.event_day[rows[((mud > 1) & new).any(axis=1)], 1] = past.day[rows[0]]
        return found

    def _add_tidal(self, fresh: "_NewHours", found: "_Causes", forgotten: Bools) -> None:
        """Add what pH, or missing oxygen, shows for two hours at equal phase of the tide; one sensor suffices."""
        some = np.flatnonzero(self.tide.tidal[fresh.rows, 0])
        if not len(some):
            return
        rows = fresh.rows[some]
        self.tide.measure(rows)
        days = np.where(forgotten[some], np.nan, self.tide.extremes[rows]).astype(np.float64)
        outside = self.tide.outside[rows].astype(np.float64)
        out = _departures(outside, *_far_range(days, _TIDAL_LEAST))
        low, high = (np.minimum(one[:, 1:], one[:, :-1]) for one in (out.low, out.high))
        oxygen, ph = (_TIDAL.index(role) for role in (_OXYGEN, _PH))
        for cause, size in (
            (EventCause.OXYGEN_SAG, low[..., oxygen]),
            (EventCause.ACID, low[..., ph]),
            (EventCause.ALKALI, high[..., ph]),
        ):
            found.add_tidal(cause, some, size)
        found.tidal.usual[some] = self.tide.course[rows, HOURS_BEFORE:] - outside[:, OUTSIDE_BEFORE:]
        found.tidal.low[some], found.tidal.high[some] = out.low[:, 1:], out.high[:, 1:]

    def _bloom(self, fresh: "_NewHours", high: Floats, decays: Bools) -> Floats:
        """(s, 24) evidence of a bloom: oxygen above saturation with pH or chlorophyll, and what follows for a day.

        The first alarm needs all three, or a second day. Oxygen that is missing (``decays``) within DECAY_H after the
        light is the bloom's, too.
        """
        past, rows, hour, new = self.past, fresh.rows, fresh.hour, fresh.new
        light = past.hourly[rows, _HOURS_BEFORE:, _OXYGEN] > SUPERSATURATED
        green = _joint_evidence(high[..., _OXYGEN], high[..., _PH], high[..., _BLOOM]) * light
        yesterday = past.light_hour[rows, 1, None]
        confirmed = (_joint_evidence(high[..., _OXYGEN], high[..., _PH]) > 0) & (high[..., _BLOOM] >= MIN_WITNESS)
        confirmed |= (yesterday >= 0) & (hour - yesterday <= NEXT_DAY_H)
        grows = (green >= MIN_EVIDENCE) & new
        last_light = np.maximum.accumulate(np.where(grows, hour, past.light_hour[rows, 0, None]), axis=1)
        past.light_hour[rows, 0] = last_light[:, -1]
        blooms = np.maximum.accumulate(np.where(grows & confirmed, hour, past.bloom_hour[rows, None]), axis=1)
        decays = decays & (blooms >= 0) & (hour - np.minimum(blooms, last_light) <= DECAY_H)
        blooms = np.maximum.accumulate(np.where(decays & new, hour, blooms), axis=1)
        past.bloom_hour[rows] = blooms[:, -1]
        recent = (blooms >= 0) & (hour - blooms < HOURS_PER_DAY)
        return np.where(recent, np.maximum(green, MIN_EVIDENCE), 0.0)

    def _stays_muddy(self, rows: Places, out: "_Departures") -> Bools:
        """(s, 24) whether turbidity was far out for six hours, where salts or level would show that it rained."""
        course = self.past.hourly[rows]
        has_cause = ~np.isnan(course[:, _HOURS_BEFORE:, _SALT]) | ~np.isnan(course[:, _HOURS_BEFORE:, _LEVEL])
        far = (course[..., _TURBIDITY] - out.middle[:, _HIGH, None, _TURBIDITY]) / out.far[:, _HIGH, None, _TURBIDITY]
        windows = np.lib.stride_tricks.sliding_window_view(far > 1, _HOURS_BEFORE + 1, axis=1)
        return np.asarray(windows.all(axis=-1) & has_cause)

    def _beside(self, which: int, mine: Floats, lasting: Floats, fresh: "_NewHours") -> Floats:
        """(s, 24) how far out the same was at a neighbouring station within a lunar day.

        As far as was known then, and where it is out here (``mine``). What ``lasting`` says is remembered for the
        neighbours.
        """
        past, rows = self.past, fresh.rows
        peaks = {
            int(row): self._new_peaks(which, i, np.where(fresh.new[i], lasting[i], 0.0), fresh)
            for i, row in enumerate(rows)
        }
        found = np.zeros(mine.shape)
        for i, h in zip(*np.nonzero((mine >= MIN_WITNESS) & fresh.new), strict=True):
            for other in self.network.get(int(self.stations[rows[i]]), ()):
                for peak in reversed(self._peaks_of(which, int(other), peaks)):
                    if peak.known_at <= fresh.after[i, h]:
                        if peak.hour >= fresh.hour[h] - NEIGHBOUR_WINDOW_H:
                            found[i, h] = max(found[i, h], peak.size)
                        break
        for row, known in peaks.items():
            past.peak_hour[row, which], past.peak_known_at[row, which], past.peak_size[row, which] = known[-1]
        return found

    def _new_peaks(self, which: int, i: int, size: Floats, fresh: "_NewHours") -> list["_Peak"]:
        """The largest peaks within a tide, as they became known; the first is the remembered one."""
        peaks = [_Peak.remembered(self.past, fresh.rows[i], which)]
        for h in np.flatnonzero(size >= MIN_WITNESS).tolist():
            if size[h] >= peaks[-1].size or fresh.hour[h] - peaks[-1].hour > NEIGHBOUR_WINDOW_H // 2:
                peaks.append(_Peak(int(fresh.hour[h]), int(fresh.after[i, h]), float(size[h])))
        return peaks

    def _peaks_of(self, which: int, other: int, peaks: Mapping[int, list["_Peak"]]) -> list["_Peak"]:
        """The same of another station, which may not be among those judged."""
        row = int(np.searchsorted(self.stations, other))
        if row < len(self.stations) and self.stations[row] == other:
            return peaks[row] if row in peaks else [_Peak.remembered(self.past, row, which)]
        return [_Peak.remembered(self.memory, other, which)] if other < len(self.memory) else []

    def _alarms(self, fresh: "_NewHours", found: "_Causes", middle: Floats) -> Alarms:
        """The alarms of the hours with a cause; remembers when they were."""
        past, rows = self.past, fresh.rows
        i, h = np.nonzero((found.cause >= 0) & fresh.new)
        if not len(i):
            return NO_ALARMS
        who, at, doubtful = rows[i], fresh.last[i, h], found.alone[i, h]
        against = np.where(
            found.cause[i, h] == _CAUSE[EventCause.OXYGEN_SAG], DiscountReason.LONE, DiscountReason.PARTICLES
        )
        np.maximum.at(past.doubted, who[doubtful], at[doubtful])
        np.maximum.at(past.alarmed, who[~doubtful], at[~doubtful])
        for side, other in enumerate((EventCause.BLOOM, EventCause.OXYGEN_SAG)):
            its = who[~doubtful & (found.cause[i, h] != _CAUSE[other])]
            past.event_day[its, side] = past.day[its]
        low, high = found.out.low[i, h + 1], found.out.high[i, h + 1]
        tidal, says = found.tidal, found.tidal.says[i, h]
        t = np.flatnonzero(says)[:, None]
        low[t, _TIDAL], high[t, _TIDAL] = tidal.low[i, h][says], tidal.high[i, h][says]
        down = low > np.maximum(high, 0.0)
        size = np.where(down, -low, np.maximum(high, 0.0))
        cause = found.cause[i, h]
        now = past.hourly[who, _HOURS_BEFORE + h]
        now[t, _TIDAL] = self.tide.course[who, HOURS_BEFORE + h][says]
        temperature = np.where(np.isnan(now[:, _TEMPERATURE]), past.temperature[who], now[:, _TEMPERATURE])
        extreme = np.where(down, -middle[i, _LOW], middle[i, _HIGH])
        extreme[t, _TIDAL] = tidal.usual[i, h][says]
        moves = np.zeros((len(i), len(ROLES)))
        moves[:, _AS_ROLE] = size[:, :_LEVEL]
        return Alarms(
            self.stations[who],
            at,
            moves,
            found.total[i, h],
            np.where(doubtful, 1.0, MIN_EVIDENCE),
            found.beside[i, h],
            says,
            np.where(doubtful, against, DiscountReason.NONE).astype(np.uint8),
            cause,
            _in_units(now, temperature),
            _in_units(extreme, temperature),
            _oxygen_swing(past.hourly[who], h, middle[i]),
            np.zeros(len(i), np.uint8),
        )


class _Peak(NamedTuple):
    """An hour that stood out: its number, when it was known (ms), and how far out it was."""

    hour: int
    known_at: int
    size: float

    @classmethod
    def remembered(cls, past: ClosedHours, row: int, which: int) -> "_Peak":
        """What is remembered of a station."""
        return cls(
            int(past.peak_hour[row, which]), int(past.peak_known_at[row, which]), float(past.peak_size[row, which])
        )


@dataclass(frozen=True, slots=True)
class _NewHours:
    """The hours of one day that ended now, of the stations ``rows`` (s,).

    Attributes
    ----------
    hour : (24,) since the epoch
    new : (s, 24) which hours ended; ``last``, ``after`` and ``once`` (s, 24) as of :class:`_EndedHours`
    """

    rows: Places
    hour: Ints
    new: Bools
    last: Ints
    after: Ints
    once: Bools

    @classmethod
    def of(cls, rows: Places, today: int, at: tuple[Places, Ints], last: Ints, after: Ints, once: Bools) -> "_NewHours":
        size = len(rows), HOURS_PER_DAY
        new, lasts, afters = np.zeros(size, np.bool_), np.zeros(size, np.int64), np.zeros(size, np.int64)
        onces = np.zeros(size, np.bool_)
        new[at], lasts[at], afters[at], onces[at] = True, last, after, once
        return cls(rows, today * HOURS_PER_DAY + np.arange(HOURS_PER_DAY), new, lasts, afters, onces)


@dataclass(frozen=True, slots=True)
class _Departures:
    """How far out the last hour of the day before and the hours of a day lie: 1 is far, at most 0 is inside.

    ``low`` and ``high`` (s, 25, roles); ``middle`` and ``far`` (s, 4, roles) are those of :func:`usual_range`.
    """

    low: Floats
    high: Floats
    middle: Floats
    far: Floats


def _departures(course: Floats, middle: Floats, far: Floats) -> _Departures:
    """How far out hours are by their value or, where that is out of the middle, by their fall or rise."""
    now = course[:, CHANGE_HOURS:]
    change = np.full(now.shape, np.nan)
    change[:, 1:] = now[:, 1:] - course[:, 1 : HOURS_PER_DAY + 1]

    def side(level: int, moved: int) -> Floats:
        value = (now * _SIDES[level] - middle[:, level, None]) / far[:, level, None]
        went = (change * _SIDES[moved] - middle[:, moved, None]) / far[:, moved, None]
        further = np.where((value > 0) & (went > value), went, value)
        return np.where(np.isnan(further), 0.0, further)

    return _Departures(side(_LOW, _FALL), side(_HIGH, _RISE), middle, far)


def _oxygen_swing(course: Floats, hour: Places, middle: Floats) -> Floats:
    """(a,) how far oxygen went up and down until an ``hour`` of the day, in swings of a usual day.

    ``course`` (a, 5 + 24, roles) begins five hours before the day; a usual swing is at least MIN_DEPARTURE.
    """
    known = np.arange(course.shape[1]) <= (_HOURS_BEFORE + hour)[:, None]
    oxygen = np.where(known, course[..., _OXYGEN], np.nan)
    usual = np.maximum(middle[:, _HIGH, _OXYGEN] + middle[:, _LOW, _OXYGEN], _MIN_DEPARTURE[_OXYGEN])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a station without oxygen nothing is known
        return np.asarray((bn.nanmax(oxygen, 1) - bn.nanmin(oxygen, 1)) / usual)


def _joint_evidence(first: Floats, *others: Floats) -> Floats:
    """Evidence of two independent sensors, the ``first`` and the strongest of ``others``.

    The weaker one, and no more than MAX_WITNESS for the other; 0 where that is less than MIN_EVIDENCE.
    """
    second = np.maximum.reduce(others)
    total = np.minimum(first, second) + np.minimum(np.maximum(first, second), MAX_WITNESS)
    return np.where(total >= MIN_EVIDENCE, total, 0.0)


@dataclass(frozen=True, slots=True)
class _Causes:
    """Causes of the hours of a day, (s, 24) each; a cause that is added later replaces the one before.

    Attributes
    ----------
    cause : place in :class:`EventCause`, -1 for none
    total : evidence for it
    alone : whether one sensor says so alone
    beside : whether a neighbouring station bears witness
    out : how far out the hours are
    tidal : what equal phase of the tide says
    """

    cause: Ints
    total: Floats
    alone: Bools
    beside: Bools
    out: _Departures
    tidal: "_TidalCauses"

    @classmethod
    def nothing(cls, out: _Departures) -> "_Causes":
        size = out.low.shape[0], HOURS_PER_DAY
        no = np.zeros(size, np.bool_)
        return cls(np.full(size, -1), np.zeros(size), no, no.copy(), out, _TidalCauses.nothing(size))

    def add(self, cause: EventCause, total: Floats, there: Floats | None = None, here: Floats | None = None) -> None:
        """Set this cause where ``total`` is enough, or where what is out ``here`` and at a neighbour (``there``) is."""
        beside = np.zeros(total.shape) if there is None or here is None else _joint_evidence(here, there)
        where = np.maximum(total, beside) >= MIN_EVIDENCE
        self.cause[where] = _CAUSE[cause]
        self.total[where] = np.maximum(total, beside)[where]
        self.beside[where] = beside[where] > 0

    def add_alone(self, cause: EventCause, where: Bools, size: Floats) -> None:
        """Set this cause where no other was found: one sensor alone says so for long."""
        lone = where & (self.cause < 0)
        self.alone[lone], self.cause[lone], self.total[lone] = True, _CAUSE[cause], size[lone]

    def add_tidal(self, cause: EventCause, some: Places, size: Floats) -> None:
        """Set this cause at stations ``some`` where ``size`` is far out at equal phase, and no other is certain."""
        where = np.zeros(self.cause.shape, np.bool_)
        where[some] = size > 1
        where &= (self.cause < 0) | self.alone
        self.cause[where], self.alone[where], self.total[where] = _CAUSE[cause], False, MIN_EVIDENCE
        self.tidal.says[where] = True


@dataclass(frozen=True, slots=True)
class _TidalCauses:
    """Where equal phase of the tide gave the cause, ``says`` (s, 24).

    ``low``, ``high`` and ``usual`` (s, 24, tidal roles): how far out the hours are, and the edge of the same phase.
    """

    says: Bools
    low: Floats
    high: Floats
    usual: Floats

    @classmethod
    def nothing(cls, size: tuple[int, int]) -> "_TidalCauses":
        return cls(np.zeros(size, np.bool_), *(np.zeros((*size, len(_TIDAL))) for _ in range(3)))
