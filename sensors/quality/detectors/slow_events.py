"""Detect slow events (hours to days): oxygen sag, bloom, resuspension, sewage.

:mod:`sensors.quality.detectors.sudden_events` looks at two hours and misses what comes slower. Here the mean of each
hour is compared with the fortnight before: with how low and how high its days went, and how far they fell and rose
within four hours. What is beyond all that, with a second witness, is an alarm for as long as it lasts. In tidal water
oxygen and pH are compared at equal phase of the tide as well (:mod:`sensors.quality.detectors.tide`).

An hour is judged at the first reading after it. :func:`detect_slow_events` reads a :class:`SlowEventState` and hands
back what is to be remembered; a table in one piece and the same table cut anywhere between two instants give the same
alarms. Pure.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sensors.quality.constants import COURSE_HOURS_BEFORE, HOURS_PER_DAY, MIN_FILLED_HOURS, REMEMBERED_DAYS
from sensors.quality.detectors.slow_hours import (
    AMMONIA,
    BLOOM,
    LEVEL,
    OXYGEN,
    PH,
    REDOX,
    ROLE_COUNT,
    SALT,
    TEMPERATURE,
    TIDAL,
    TURBIDITY,
    EndedHours,
    OpenHour,
    close_hours,
    comparable,
    in_units,
    oxygen_saturation,
)
from sensors.quality.detectors.slow_neighbours import SAGGING, TURBID, ClosedHours, NeighbourPeaks, NewHours
from sensors.quality.detectors.slow_range import (
    HIGH,
    LOW,
    MIN_TIDAL_DEPARTURE,
    Departures,
    departures,
    extremes_of_day,
    far_range,
    oxygen_swing,
    usual_range,
)
from sensors.quality.detectors.tide import (
    DIFFERENCE_H,
    HOURS_BEFORE,
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
from sensors.reading import Bools, Codes, Floats, Ints, Places, distinct

# -- constants -------------------------------------------------------------------------------------------------------


MAX_WITNESS: Final = 1.0
MIN_EVIDENCE: Final = 1.75
"""In far departures. Two witnesses say so much together, where none counts for more than one that is far out: a sensor
alone, however wild, is a broken sensor. Both are three quarters of the way, then, and one of them is far out or nearly
so."""

RAIN_H: Final = 12
"""Hours for which thinner or higher water says that it rained: what a storm stirred up has mostly settled then."""
NEXT_DAY_H: Final = 30
"""Hours from a bloom's hours to those of the next day: by then the light is back."""
DECAY_H: Final = 7 * HOURS_PER_DAY
"""Hours after its last light in which oxygen that is missing is the bloom's: half of dead algae rots within a week (a
tenth a day)."""
SUPERSATURATED: Final = 1.1
"""Of saturation: so much oxygen is made in the water, no air brings it."""
_CAUSE: Final = {cause: i for i, cause in enumerate(EventCause)}
_AS_ROLE: Final = np.array([ROLES.index(role) for role in ROLE_OF_PARAMETER.values() if role in ROLES])


# -- state -----------------------------------------------------------------------------------------------------------


@dataclass
class SlowEventState:
    """State of every station: its open hour and its past."""

    open: OpenHour = field(default_factory=OpenHour)
    past: ClosedHours = field(default_factory=ClosedHours)
    tide: TidalHours = field(default_factory=TidalHours)

    def grow(self, size: int) -> None:
        """Make room for ``size`` stations; nothing is known of new ones."""
        for one in (self.open, self.past, self.tide):
            one.grow(size)

    def apply(self, new: "SlowEventResult") -> None:
        """Apply what :func:`detect_slow_events` handed back."""
        self.open.apply(new.stations, new.open)
        self.past.apply(new.over, new.past)
        self.tide.apply(new.over, new.tide)

    def put(self, row: int, other: "SlowEventState") -> None:
        """Copy the first station of ``other`` to a station."""
        for name in ("open", "past", "tide"):
            getattr(self, name).apply(np.array([row]), getattr(other, name))

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
    over = close_hours(np.searchsorted(stations, readings.station), readings, held)
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


@dataclass(frozen=True)
class _Judge:
    """Judge hours that are over, day by day.

    ``past`` and ``tide`` belong to ``stations``, row by row, and are changed in place; ``memory`` holds all stations
    and is read.
    """

    over: EndedHours
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
        temperature = self._temperature(over.who[cells], mean[:, TEMPERATURE])
        np.add.at(past.hours_observed, over.who[cells], np.int32(1))
        past.hourly[over.who[cells], COURSE_HOURS_BEFORE + at[1]] = comparable(mean, temperature)
        self._add_to_tide(cells, at[1], temperature)
        forgotten = (past.day_number[rows] < today - REMEMBERED_DAYS)[:, :, None, None]
        middle, far = usual_range(np.where(forgotten, np.nan, past.extremes[rows]).astype(np.float64))
        if np.isnan(middle).all():
            return NO_ALARMS
        fresh = NewHours(rows, today, at, over, cells)
        found = self._found(fresh, departures(past.hourly[rows], middle, far))
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
        compared[:, TIDAL.index(OXYGEN)] /= oxygen_saturation(temperature[some])
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
            day, made = past.day[full], extremes_of_day(past.hourly[full])
            for side, first in enumerate((LOW, HIGH)):
                made[past.event_day[full, side] == day, first::2] = np.nan
            past.extremes[full, day % REMEMBERED_DAYS], past.day_number[full, day % REMEMBERED_DAYS] = made, day
        course = np.full((len(turning), COURSE_HOURS_BEFORE + HOURS_PER_DAY, ROLE_COUNT), np.nan)
        follows = (was >= 0) & (was == today - 1)
        course[follows, :COURSE_HOURS_BEFORE] = past.hourly[turning[follows], HOURS_PER_DAY:]
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
                tide.extremes[full, self.past.day[full] % REMEMBERED_DAYS] = extremes_of_day(tide.outside[full])
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

    def _found(self, fresh: NewHours, out: "Departures") -> "_Causes":
        """The causes of the hours of a day; remembers rain, light and what neighbours ask for."""
        past, rows, hour, new = self.past, fresh.rows, fresh.hour, fresh.new
        twice_low, twice_high = (np.minimum(one[:, 1:], one[:, :-1]) for one in (out.low, out.high))
        # one reading is no hour: two hours must say the same
        low, high = (
            np.where(fresh.once[..., None], twice, one[:, 1:])
            for twice, one in ((twice_low, out.low), (twice_high, out.high))
        )
        wet = (low[..., SALT] > MIN_WITNESS) | (high[..., LEVEL] > MIN_WITNESS)
        rained = np.maximum.accumulate(np.where(wet, hour, past.rain_hour[rows, None]), axis=1)
        past.rain_hour[rows] = rained[:, -1]
        dry = hour - rained > RAIN_H

        peaks = NeighbourPeaks(self.stations, past, self.memory, self.network, fresh)
        mud = np.where(dry, twice_high[..., TURBIDITY], 0.0)
        mud_beside = peaks.beside(TURBID, mud, mud)
        low_oxygen, lasting_low_oxygen = low[..., OXYGEN], twice_low[..., OXYGEN]
        ammonia = high[..., AMMONIA]
        low_oxygen_beside = peaks.beside(SAGGING, low_oxygen, lasting_low_oxygen)
        respiration = np.maximum(low[..., PH], low[..., REDOX])
        salt = np.maximum(high[..., SALT], low[..., SALT])  # rain that thins the salts thins ammonia, too

        found = _Causes(out)
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
        found.add_alone(EventCause.SEDIMENT, muddy, high[..., TURBIDITY])
        past.event_day[rows[((mud > 1) & new).any(axis=1)], 1] = past.day[rows[0]]
        return found

    def _add_tidal(self, fresh: NewHours, found: "_Causes", forgotten: Bools) -> None:
        """Add what pH, or missing oxygen, shows for two hours at equal phase of the tide; one sensor suffices."""
        some = np.flatnonzero(self.tide.tidal[fresh.rows, 0])
        if not len(some):
            return
        rows = fresh.rows[some]
        self.tide.measure(rows)
        days = np.where(forgotten[some], np.nan, self.tide.extremes[rows]).astype(np.float64)
        outside = self.tide.outside[rows].astype(np.float64)
        out = departures(outside, *far_range(days, MIN_TIDAL_DEPARTURE))
        low, high = (np.minimum(one[:, 1:], one[:, :-1]) for one in (out.low, out.high))
        oxygen, ph = (TIDAL.index(role) for role in (OXYGEN, PH))
        for cause, size in (
            (EventCause.OXYGEN_SAG, low[..., oxygen]),
            (EventCause.ACID, low[..., ph]),
            (EventCause.ALKALI, high[..., ph]),
        ):
            found.add_tidal(cause, some, size)
        found.tidal_usual[some] = self.tide.course[rows, HOURS_BEFORE:] - outside[:, COURSE_HOURS_BEFORE:]
        found.tidal_low[some], found.tidal_high[some] = out.low[:, 1:], out.high[:, 1:]

    def _bloom(self, fresh: NewHours, high: Floats, decays: Bools) -> Floats:
        """(s, 24) evidence of a bloom: oxygen above saturation with pH or chlorophyll, and what follows for a day.

        The first alarm needs all three, or a second day. Oxygen that is missing (``decays``) within DECAY_H after the
        light is the bloom's, too.
        """
        past, rows, hour, new = self.past, fresh.rows, fresh.hour, fresh.new
        light = past.hourly[rows, COURSE_HOURS_BEFORE:, OXYGEN] > SUPERSATURATED
        green = _joint_evidence(high[..., OXYGEN], high[..., PH], high[..., BLOOM]) * light
        yesterday = past.light_hour[rows, 1, None]
        confirmed = (_joint_evidence(high[..., OXYGEN], high[..., PH]) > 0) & (high[..., BLOOM] >= MIN_WITNESS)
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

    def _stays_muddy(self, rows: Places, out: "Departures") -> Bools:
        """(s, 24) whether turbidity was far out for six hours, where salts or level would show that it rained."""
        course = self.past.hourly[rows]
        has_cause = ~np.isnan(course[:, COURSE_HOURS_BEFORE:, SALT]) | ~np.isnan(course[:, COURSE_HOURS_BEFORE:, LEVEL])
        far = (course[..., TURBIDITY] - out.middle[:, HIGH, None, TURBIDITY]) / out.far[:, HIGH, None, TURBIDITY]
        windows = np.lib.stride_tricks.sliding_window_view(far > 1, COURSE_HOURS_BEFORE + 1, axis=1)
        return np.asarray(windows.all(axis=-1) & has_cause)

    def _alarms(self, fresh: NewHours, found: "_Causes", middle: Floats) -> Alarms:
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
        says = found.by_tide[i, h]
        t = np.flatnonzero(says)[:, None]
        low[t, TIDAL], high[t, TIDAL] = found.tidal_low[i, h][says], found.tidal_high[i, h][says]
        down = low > np.maximum(high, 0.0)
        size = np.where(down, -low, np.maximum(high, 0.0))
        cause = found.cause[i, h]
        now = past.hourly[who, COURSE_HOURS_BEFORE + h]
        now[t, TIDAL] = self.tide.course[who, HOURS_BEFORE + h][says]
        temperature = np.where(np.isnan(now[:, TEMPERATURE]), past.temperature[who], now[:, TEMPERATURE])
        extreme = np.where(down, -middle[i, LOW], middle[i, HIGH])
        extreme[t, TIDAL] = found.tidal_usual[i, h][says]
        moves = np.zeros((len(i), len(ROLES)))
        moves[:, _AS_ROLE] = size[:, :LEVEL]
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
            in_units(now, temperature),
            in_units(extreme, temperature),
            oxygen_swing(past.hourly[who], h, middle[i]),
            np.zeros(len(i), np.uint8),
        )


def _joint_evidence(first: Floats, *others: Floats) -> Floats:
    """Evidence of two independent sensors, the ``first`` and the strongest of ``others``.

    The weaker one, and no more than MAX_WITNESS for the other; 0 where that is less than MIN_EVIDENCE.
    """
    second = np.maximum.reduce(others)
    total = np.minimum(first, second) + np.minimum(np.maximum(first, second), MAX_WITNESS)
    return np.where(total >= MIN_EVIDENCE, total, 0.0)


class _Causes:
    """Causes of the hours of a day, (s, 24) each; a cause that is added later replaces the one before.

    ``cause`` place in :class:`EventCause`, -1 for none; ``total`` evidence for it; ``alone`` whether one sensor says so
    alone; ``beside`` whether a neighbouring station bears witness; ``out`` how far out the hours are.

    ``by_tide`` where equal phase of the tide gave the cause; ``tidal_low``, ``tidal_high`` and ``tidal_usual``
    (s, 24, tidal roles) how far out the hours are then, and the edge of the same phase.
    """

    def __init__(self, out: Departures) -> None:
        size = out.low.shape[0], HOURS_PER_DAY
        self.out, self.cause, self.total = out, np.full(size, -1), np.zeros(size)
        self.alone, self.beside, self.by_tide = (np.zeros(size, np.bool_) for _ in range(3))
        self.tidal_low, self.tidal_high, self.tidal_usual = (np.zeros((*size, len(TIDAL))) for _ in range(3))

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
        self.by_tide[where] = True
