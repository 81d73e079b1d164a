"""How far the hours of a day lie outside the fortnight before: by their value, or by their fall or rise. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import CHANGE_HOURS, COURSE_HOURS_BEFORE, HOURS_PER_DAY, MIN_KNOWN_DAYS, REMEMBERED_DAYS
from sensors.quality.detectors.slow_hours import OXYGEN, TURBIDITY
from sensors.quality.events import ROLE_OF_PARAMETER
from sensors.reading import Floats, Floats32, Ints, Places

# -- constants -------------------------------------------------------------------------------------------------------

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

MIN_TIDAL_DEPARTURE: Final = np.array([MIN_DEPARTURE["oxygen"], 2.0 * MIN_DEPARTURE["ph"]])
"""Of TIDAL_ROLES, from the same phase of the tide. Many pH sensors are read to a tenth: two readings that are compared
differ by one step of it at random (without, a bay has 1.5 sure alarms a month at hourly steps)."""

MIN_SENSOR_HOURS: Final = 4
"""Hours of a day in which a sensor must have measured for its extremes to count: analysers measure every few hours."""
FAR_SPREADS: Final = 8.0
"""A value is far out where it leaves the middle of the days by so many times the distance of their outer quarter: a
quarter of the days may be wild and stay without weight. About five standard deviations: days resemble each other."""
MIN_DAYS_FOR_HIGHEST: Final = REMEMBERED_DAYS - 2
"""Where so many days are known, nearly from one spring tide to the next, turbidity is far out as well where it is by
the least departure above all of them: springs stir up the bed every fortnight, so that the outer quarter is wide."""

_SIDES: Final = np.array([-1.0, 1.0, -1.0, 1.0])
LOW, HIGH, FALL, RISE = range(4)
"""What is remembered of a day: lowest and highest hour, deepest fall and steepest rise within CHANGE_HOURS."""


# -- ranges ----------------------------------------------------------------------------------------------------------


def usual_range(days: Floats) -> tuple[Floats, Floats]:
    """(s, 4, roles) the middle of the days (s, DAYS, 4, roles), and the distance that is far; NaN where too few are
    known.

    The lowest hour and the deepest fall are negated: on all four sides more is further out.
    """
    middle, far = far_range(days, _MIN_DEPARTURE)
    outward = days[..., TURBIDITY] * _SIDES
    beyond = bn.nanmax(outward, axis=1) + _MIN_DEPARTURE[TURBIDITY] - middle[..., TURBIDITY]
    known = (~np.isnan(outward)).sum(axis=1) >= MIN_DAYS_FOR_HIGHEST
    least = np.maximum(np.minimum(far[..., TURBIDITY], beyond), _MIN_DEPARTURE[TURBIDITY])
    far[..., TURBIDITY] = np.where(known, least, far[..., TURBIDITY])
    return middle, far


def far_range(days: Floats, least: Floats) -> tuple[Floats, Floats]:
    """The same by the outer quarter of the days alone, where ``least`` (roles,) is far at least."""
    outward = np.sort(days * _SIDES[:, None], axis=1)  # NaN sorts last
    many = (~np.isnan(days)).sum(axis=1)

    def at(place: Ints) -> Floats:
        return np.asarray(np.take_along_axis(outward, np.maximum(place, 0)[:, None], axis=1)[:, 0])

    middle = 0.5 * (at((many - 1) // 2) + at(many // 2))
    outer = FAR_SPREADS * (at(many - 1 - many // 4) - middle)
    unknown = many < MIN_KNOWN_DAYS
    return np.where(unknown, np.nan, middle), np.where(unknown, np.nan, np.maximum(outer, least))


def extremes_of_day(course: Floats | Floats32) -> Floats32:
    """(s, 4, roles) the lowest hour, the highest, the deepest fall and the steepest rise of a day (s, 5 + 24,
    roles)."""
    hours = course[:, COURSE_HOURS_BEFORE:]
    change = hours - course[:, COURSE_HOURS_BEFORE - CHANGE_HOURS : -CHANGE_HOURS]
    four = [bn.nanmin(hours, 1), bn.nanmax(hours, 1), bn.nanmin(change, 1), bn.nanmax(change, 1)]
    made = np.stack(four, axis=1)
    few = (~np.isnan(hours)).sum(axis=1) < MIN_SENSOR_HOURS
    return np.where(few[:, None], np.nan, made).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Departures:
    """How far out the last hour of the day before and the hours of a day lie: 1 is far, at most 0 is inside.

    ``low`` and ``high`` (s, 25, roles); ``middle`` and ``far`` (s, 4, roles) are those of :func:`usual_range`.
    """

    low: Floats
    high: Floats
    middle: Floats
    far: Floats


def departures(course: Floats, middle: Floats, far: Floats) -> Departures:
    """How far out hours are by their value or, where that is out of the middle, by their fall or rise."""
    now = course[:, CHANGE_HOURS:]
    change = np.full(now.shape, np.nan)
    change[:, 1:] = now[:, 1:] - course[:, 1 : HOURS_PER_DAY + 1]

    def side(level: int, moved: int) -> Floats:
        value = (now * _SIDES[level] - middle[:, level, None]) / far[:, level, None]
        went = (change * _SIDES[moved] - middle[:, moved, None]) / far[:, moved, None]
        further = np.where((value > 0) & (went > value), went, value)
        return np.where(np.isnan(further), 0.0, further)

    return Departures(side(LOW, FALL), side(HIGH, RISE), middle, far)


def oxygen_swing(course: Floats, hour: Places, middle: Floats) -> Floats:
    """(a,) how far oxygen went up and down until an ``hour`` of the day, in swings of a usual day.

    ``course`` (a, 5 + 24, roles) begins five hours before the day; a usual swing is at least MIN_DEPARTURE.
    """
    known = np.arange(course.shape[1]) <= (COURSE_HOURS_BEFORE + hour)[:, None]
    oxygen = np.where(known, course[..., OXYGEN], np.nan)
    usual = np.maximum(middle[:, HIGH, OXYGEN] + middle[:, LOW, OXYGEN], _MIN_DEPARTURE[OXYGEN])
    return np.asarray((bn.nanmax(oxygen, 1) - bn.nanmin(oxygen, 1)) / usual)
