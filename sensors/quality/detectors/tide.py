"""Compare tidal water with itself at equal phase of the tide.

The tide brings the same water back after a lunar day of 24.84 hours. Each hour is held against what the same phase, an
hour earlier to an hour later, had on the two lunar days before: inside that range it departs by nothing, outside by its
distance from the range. (The nearest neighbours of the weighted regression that takes tides out of oxygen records:
Beck, Hagy, Murrell 2015, Limnology and Oceanography: Methods 13, 731-745.)

Water is tidal where its gauge says so: where the constituents M2 and O1, which the sun does not make, carry the changes
of the level within six hours. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS
from sensors.quality.constants import COURSE_HOURS_BEFORE, HOURS_PER_DAY, REMEMBERED_DAYS
from sensors.quality.events import EventReadings
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bools, Codes, Floats, Floats32, Ints, Places

# -- constants -------------------------------------------------------------------------------------------------------

TIDAL_ROLES: Final = ("oxygen", "ph")
"""What is compared at equal phase: what a discharge moves and salt hardly does."""
_ROLES: Final = len(TIDAL_ROLES)

LAGS_H: Final = (24, 25, 26, 49, 50, 51)
"""Hours back to the same phase, and to an hour on both sides, of the two lunar days before."""
HOURS_BEFORE: Final = LAGS_H[-1]
STILL_H: Final = 3
"""A sensor that shows the same for so many hours stands still; where the resolution is coarse two hours may be
equal."""

_DAY_BITS: Final = 32
_M2_H: Final = 12.4206012
_O1_H: Final = 25.8193417
"""Periods of the largest lunar constituents. S2 and K1 are left out, since the sun makes them, too."""
DIFFERENCE_H: Final = 6
"""Half a tide: floods and seasons hardly move a level within it."""
MEMORY_DAYS: Final = 15.0
"""From one spring tide to the next."""
MIN_TIDAL_HOURS: Final = 150.0
"""Hours that must be known: about a week, in which the moon leaves the sun by six hours."""
MIN_TIDAL_SHARE: Final = 0.43
"""Share of the constituents in the variance of the changes: half way between the least in tidal water (0.51 on the
worst day of a bay and a river) and the most elsewhere (0.37; docs/detection.md)."""


# -- state -----------------------------------------------------------------------------------------------------------


@dataclass
class TidalHours(StateColumns):
    """What is remembered of the tide at every station.

    Attributes
    ----------
    gauge : (s, 6 + 24) level of the six hours before the open day, and of its hours
    sums : (s, 6) number of changes of the level, their products with four waves, and their squares
    day, tidal : (s, 2) the last two days that began, and whether the water was tidal then
    course : (s, 51 + 24, roles) comparable means of the hours before the open day, and of its hours
    outside : (s, 5 + 24, roles) how far the last five of these, and the hours of the day, lie outside the same phase
    extremes : (s, DAYS, 4, roles) extremes of ``outside`` of the days before, by day modulo DAYS
    """

    gauge: Floats = field(default_factory=Column(np.nan, np.float64, DIFFERENCE_H + HOURS_PER_DAY))
    sums: Floats = field(default_factory=Column(0.0, np.float64, 6))
    day: Ints = field(default_factory=Column(-1, np.int64, 2))
    tidal: Bools = field(default_factory=Column(False, np.bool_, 2))
    course: Floats32 = field(default_factory=Column(np.nan, np.float32, HOURS_BEFORE + HOURS_PER_DAY, _ROLES))
    outside: Floats32 = field(default_factory=Column(np.nan, np.float32, COURSE_HOURS_BEFORE + HOURS_PER_DAY, _ROLES))
    extremes: Floats32 = field(default_factory=Column(np.nan, np.float32, REMEMBERED_DAYS, 4, _ROLES))

    def has_gauge(self, rows: Places) -> Bools:
        """(r,) whether a level was measured at stations."""
        return np.asarray((self.sums[rows, 0] > 0) | ~np.isnan(self.gauge[rows]).all(axis=1))

    def is_compared(self, rows: Places) -> Bools:
        """(r,) whether departures are measured: the water is tidal, or nothing is known of that yet."""
        return np.asarray(self.tidal[rows, 0] | (self.sums[rows, 0] < MIN_TIDAL_HOURS))

    def close_day(self, rows: Places, day: Ints) -> None:
        """Take the ``day`` (r,) that is over at stations into what is known of their tides, in place."""
        gauge = self.gauge[rows]
        moved = gauge[:, DIFFERENCE_H:] - gauge[:, :-DIFFERENCE_H]
        known = ~np.isnan(moved)
        moved = np.where(known, moved, 0.0)
        hours = day[:, None] * HOURS_PER_DAY + np.arange(HOURS_PER_DAY)
        waves = [wave(2.0 * np.pi * hours / period) for period in (_M2_H, _O1_H) for wave in (np.cos, np.sin)]
        added = np.stack([one.sum(axis=1) for one in (known, *(moved * wave for wave in waves), moved**2)], axis=1)
        self.sums[rows] = self.sums[rows] * np.exp(-1.0 / MEMORY_DAYS) + added

    def begin_day(self, rows: Places, ago: Ints, today: int) -> None:
        """Begin a day at stations whose last one began ``ago`` (r,) days before, in place."""
        self.day[rows, 1], self.tidal[rows, 1] = self.day[rows, 0], self.tidal[rows, 0]
        self.day[rows, 0], self.tidal[rows, 0] = today, tidal_share(self.sums[rows]) >= MIN_TIDAL_SHARE
        self.course[rows] = _begun(self.course[rows], ago, HOURS_BEFORE)
        self.outside[rows] = _begun(self.outside[rows], ago, COURSE_HOURS_BEFORE)
        self.gauge[rows] = _begun(self.gauge[rows], ago, DIFFERENCE_H)

    def measure(self, rows: Places) -> None:
        """Measure how far the hours of the open day lie ``outside`` the same phase before, in place.

        0 inside, NaN where either is not known or the sensor stands still.
        """
        if not len(rows):
            return
        course = self.course[rows]
        now = course[:, HOURS_BEFORE:]
        same = np.stack([course[:, HOURS_BEFORE - lag : HOURS_BEFORE - lag + HOURS_PER_DAY] for lag in LAGS_H])
        low, high = bn.nanmin(same, axis=0), bn.nanmax(same, axis=0)
        out = np.where(now > high, now - high, np.minimum(now - low, 0.0))
        still = np.ones(now.shape, np.bool_)
        for lag in range(1, STILL_H):
            still &= now == course[:, HOURS_BEFORE - lag : -lag]
        self.outside[rows, COURSE_HOURS_BEFORE:] = np.where(still, np.nan, out)


@dataclass(frozen=True, slots=True)
class TidalDays:
    """At which stations which days since the epoch began (d,), sorted, and whether the water was tidal then."""

    station: Codes
    day: Ints
    tidal: Bools

    @classmethod
    def of(cls, remembered: TidalHours, stations: Codes, begun: "Sequence[TidalDays]") -> "TidalDays":
        """Those that were remembered of ``stations`` (s,), row by row, and those that have ``begun`` since."""
        row, which = np.nonzero(remembered.day >= 0)
        known = cls(stations[row], remembered.day[row, which], remembered.tidal[row, which])
        station, day, tidal = (
            np.concatenate([getattr(one, name) for one in (known, *begun)]) for name in cls.__match_args__
        )
        order = np.lexsort((day, station))
        return cls(station[order], day[order], tidal[order])

    def tidal_at(self, station: Codes, at: Ints) -> Bools:
        """(n,) whether water was tidal at instants (ms), as far as it was known at the beginning of the day before.

        That is known to every instant of a day, however readings are cut into batches.
        """
        if not self.tidal.any():
            return np.zeros(len(at), np.bool_)
        wanted = station.astype(np.int64) << _DAY_BITS | (at // DAY_MS - 1)
        place = np.searchsorted(self.station.astype(np.int64) << _DAY_BITS | self.day, wanted, side="right") - 1
        return np.asarray((place >= 0) & (self.station[place] == station) & self.tidal[place])


def without_tidal_salt(readings: EventReadings, days: TidalDays) -> EventReadings:
    """The readings with moves that are NaN where salt rises in tidal water: the flood brings it, and an intrusion is no
    discharge."""
    rows = np.flatnonzero(readings.is_of("salt") & (readings.move > 0))
    rows = rows[days.tidal_at(readings.station[rows], readings.at[rows])]
    move = readings.move.copy()
    move[rows] = np.nan
    return replace(readings, move=move)


def tidal_share(sums: Floats) -> Floats:
    """(s,) the share of the tide in the changes of a level, of :attr:`TidalHours.sums`; 0 where too little is known."""
    many, squares = sums[:, 0], sums[:, 5]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 2.0 * (sums[:, 1:5] ** 2).sum(axis=1) / (many * squares)
    return np.where((many >= MIN_TIDAL_HOURS) & (squares > 0), share, 0.0)


def _begun(hours: Floats | Floats32, ago: Ints, keep: int) -> Floats | Floats32:
    """(r, keep + 24, …) the hours (r, keep + 24, …) of an earlier day and before it, ``ago`` (r,) days later.

    NaN where nothing was measured since.
    """
    out = np.full_like(hours, np.nan)
    for days in range(1, 1 + -(-keep // HOURS_PER_DAY)):
        rows, shift = ago == days, days * HOURS_PER_DAY
        left = min(hours.shape[1] - shift, keep)
        out[rows, :left] = hours[rows, shift : shift + left]
    return out
