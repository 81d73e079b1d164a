"""Close the hours of stations: the mean of each hour, as slow events compare it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from infra.times import HOUR_MS
from sensors.quality.constants import VISIT_TESTS
from sensors.quality.detectors.tide import TIDAL_ROLES
from sensors.quality.events import ROLE_OF_PARAMETER, EventReadings
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Codes, Floats, Ints, Places, QualityTest, sorted_unique
from sensors.standards.oxygen import saturation

# -- constants -------------------------------------------------------------------------------------------------------

PLACE: Final = {role: i for i, role in enumerate(ROLE_OF_PARAMETER.values())}
OXYGEN, PH, TEMPERATURE, SALT, TURBIDITY, AMMONIA, REDOX, BLOOM, LEVEL = range(len(ROLE_OF_PARAMETER))
ROLE_COUNT: Final = len(ROLE_OF_PARAMETER)
_DEPTH: Final = ROLE_COUNT
"""Place of the depth above a sonde in an open hour: a gauge where there is no other."""
_COLUMNS: Final = {key: PLACE[role] for key, role in ROLE_OF_PARAMETER.items()} | {"depth": _DEPTH}
TIDAL: Final = [PLACE[role] for role in TIDAL_ROLES]

LOG_OFFSET: Final[Mapping[str, float]] = {"turbidity": 2.0, "ammonia": 0.1, "bloom": 1.0}
"""NTU, mg/L and µg/L that are added before the logarithm: where there is almost nothing twice as much is nothing."""
MIN_CONDUCTIVITY: Final = 1.0
"""µS/cm; guards the logarithm of conductivity."""

MIN_TRIMMED_READINGS: Final = 4
"""Readings of an hour from which on its lowest and highest are left out of the mean."""

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

_LOW_BITS: Final = (1 << 32) - 1


# -- hours -----------------------------------------------------------------------------------------------------------


@dataclass
class OpenHour(StateColumns):
    """The hour that is open at every station; columns by station, roles in the order of ROLE_OF_PARAMETER.

    Attributes
    ----------
    hour, last : (s,) hour since the epoch (-1: none), and its last instant (ms)
    total, least, most, many : (s, roles + 1) sum, smallest and largest reading in parts, and their number; depth last
    visit : (s,) whether somebody was there
    """

    hour: Ints = field(default_factory=Column(-1, np.int64))
    last: Ints = field(default_factory=Column(0, np.int64))
    total: Floats = field(default_factory=Column(0.0, np.float64, ROLE_COUNT + 1))
    many: Codes = field(default_factory=Column(0, np.int32, ROLE_COUNT + 1))
    least: Floats = field(default_factory=Column(np.inf, np.float64, ROLE_COUNT + 1))
    most: Floats = field(default_factory=Column(-np.inf, np.float64, ROLE_COUNT + 1))
    visit: Bools = field(default_factory=Column(False, np.bool_))


@dataclass(slots=True)
class EndedHours:
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


def close_hours(who: Places, readings: EventReadings, held: OpenHour) -> EndedHours:
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
    width = ROLE_COUNT + 1
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
    once = hours.many[:, :ROLE_COUNT].max(axis=1, initial=0) <= 1
    mean = _trimmed_means(hours)
    gauge = np.where(np.isnan(mean[:, LEVEL]), mean[:, _DEPTH], mean[:, LEVEL])
    moving = np.where(_stands_still(hours), np.nan, mean)[:, :ROLE_COUNT]
    return EndedHours(whose[over], hours.hour, hours.last, first[over + 1], moving, mean[:, TIDAL], gauge, once)


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


def comparable(mean: Floats, temperature: Floats) -> Floats:
    """(…, roles) means as they are compared.

    Oxygen as a share of saturation at ``temperature`` (…,), what grows with its level as a logarithm.
    """
    made = mean.copy()
    made[..., OXYGEN] /= oxygen_saturation(temperature)
    made[..., SALT] = np.log(np.maximum(mean[..., SALT], MIN_CONDUCTIVITY))
    for role, clear in LOG_OFFSET.items():
        made[..., PLACE[role]] = np.log(np.maximum(mean[..., PLACE[role]], 0.0) + clear)
    return made


def in_units(compared: Floats, temperature: Floats) -> Floats:
    """(…, roles) the means in their unit; the inverse of :func:`comparable`."""
    made = compared.copy()
    made[..., OXYGEN] *= oxygen_saturation(temperature)
    made[..., SALT] = np.exp(compared[..., SALT])
    for role, clear in LOG_OFFSET.items():
        made[..., PLACE[role]] = np.exp(compared[..., PLACE[role]]) - clear
    return made


def oxygen_saturation(temperature: Floats) -> Floats:
    known = np.where(np.isnan(temperature), USUAL_TEMPERATURE_C, temperature)
    return saturation(np.clip(known, 0.0, MAX_TEMPERATURE_C))
