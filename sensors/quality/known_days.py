"""Swing and median of the days of all series: those of a batch beside those remembered. Pure."""

from typing import Any, Final

import numpy as np

from sensors.quality.constants import HOURS_PER_DAY, MIN_FILLED_HOURS, PARTS_OF_FLOOR
from sensors.quality.state import EARLIER_DAYS, REMEMBERED_DAYS
from sensors.quality.thresholds import DayBlocks
from sensors.quality.timeline import Timeline
from sensors.reading import Bits, Bools, Codes, Floats, Ints, Places

LONG: Final = REMEMBERED_DAYS + EARLIER_DAYS
"""Days whose medians are known."""

SWING_QUANTILES: Final = (0.1, 0.9)
"""Quantiles of the hours of a day between which its swing lies: two wild hours change nothing."""


def unknown_days(turning: int) -> dict[str, Any]:
    """The columns of so many series that entered a new day and of which nothing is known."""
    return {
        "hour_sum": np.zeros((turning, HOURS_PER_DAY), np.int64),
        "hour_many": np.zeros((turning, HOURS_PER_DAY), np.int32),
        "swing": np.full((turning, REMEMBERED_DAYS), np.nan, np.float32),
        "median": np.full((turning, REMEMBERED_DAYS), np.nan, np.float32),
        "earlier": np.full((turning, EARLIER_DAYS), np.nan, np.float32),
        "daily_tests": np.zeros(turning, np.uint32),
    }


def day_features(sums: Ints, many: Codes, unit: Floats) -> tuple[Floats, Floats]:
    """Swing and median of days.

    Parameters
    ----------
    sums, many : (b, HOURS_PER_DAY) sum in parts and count of the readings of each hour
    unit : (b,) what a part is, in the unit of the parameter

    Returns
    -------
    (b,) swing, the distance between two quantiles of the hourly means, and (b,) median of these; NaN where fewer than
    :data:`~sensors.quality.constants.MIN_FILLED_HOURS` hours have a reading.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(many > 0, sums / np.maximum(many, 1) * unit[:, None], np.nan)
    ordered = np.sort(mean, axis=1)  # NaN sorts last
    filled = (many > 0).sum(axis=1)
    enough = filled >= MIN_FILLED_HOURS
    row = np.arange(len(mean))

    def quantile(share: float) -> Floats:
        place = share * np.maximum(filled - 1, 0)
        low = place.astype(np.int64)
        high = np.minimum(low + 1, HOURS_PER_DAY - 1)
        above = np.where(place > low, ordered[row, high], ordered[row, low])
        return np.asarray(ordered[row, low] + (place - low) * (above - ordered[row, low]))

    lowest, highest = SWING_QUANTILES
    both = (np.where(enough, one, np.nan) for one in (quantile(highest) - quantile(lowest), quantile(0.5)))
    swing, median = (one.astype(np.float32).astype(np.float64) for one in both)  # as precise as it is remembered
    return swing, median


class KnownDays:
    """All days that are known: those of the batch, those remembered, and the open ones of other series.

    Attributes
    ----------
    parameter : (m,) of the touched series
    sums, many : (inner blocks, HOURS_PER_DAY) readings by hour, those remembered of the same day among them
    key : (d,) days of turning series, sorted: place in ``touched`` and day; ``swing``, ``median`` (d,) belong to it
    turning_place : (series,) place in ``touched`` of turning series, -1 elsewhere
    steady_sum, steady_many : (m, HOURS_PER_DAY) readings of the batch of series whose day goes on
    """

    def __init__(self, sums: Ints, many: Codes, days: DayBlocks, line: Timeline) -> None:
        """``sums`` and ``many`` (inner blocks, HOURS_PER_DAY): the readings of the batch by hour."""
        memory = line.memory
        self.days, self.memory, self.catalogue = days, memory, line.catalogue
        self.parameter, self.sums, self.many = line.parameter[line.starts], sums, many
        inner = days.inner
        segment, day = days.segment[inner], days.day[inner]
        series = days.touched[segment]
        first = np.append(True, np.diff(days.whose) != 0)
        continues = np.flatnonzero(first & (memory.day[series] == day))  # the day that is open in memory
        sums[continues] += memory.hour_sum[series[continues]]
        many[continues] += memory.hour_many[series[continues]]
        ended = np.flatnonzero(first & (memory.day[series] >= 0) & (memory.day[series] != day))
        was = series[ended]
        key = np.concatenate([_key(segment[ended], memory.day[was]), _key(segment, day)])
        unit = (self.catalogue.spike[self.parameter] / PARTS_OF_FLOOR)[np.concatenate([segment[ended], segment])]
        swing, median = day_features(
            np.concatenate([memory.hour_sum[was], sums]), np.concatenate([memory.hour_many[was], many]), unit
        )
        order = np.argsort(key, kind="stable")
        self.key, self.swing, self.median = key[order], swing[order], median[order]
        self.turning_place = np.full(len(memory), -1, np.int64)
        self.turning_place[days.touched[days.turning]] = np.flatnonzero(days.turning)
        self.steady_sum = np.zeros((len(days.touched), HOURS_PER_DAY), np.int64)
        self.steady_many = np.zeros((len(days.touched), HOURS_PER_DAY), np.int32)

    def add_steady(self, place: Ints, part: Ints) -> None:
        """Add readings of the batch that belong to a day that goes on, by series and hour (flat), in place."""
        np.add.at(self.steady_sum.reshape(-1), place, part)
        np.add.at(self.steady_many.reshape(-1), place, np.int32(1))

    @property
    def has_days(self) -> Bools:
        """(series,) of which any day is known."""
        return np.asarray((self.memory.day >= 0) | (self.turning_place >= 0))

    def before(self, series: Codes, day: Ints) -> tuple[Floats, Floats]:
        """Swings and medians (b, LONG) of the days before ``day`` (b,) of some series (b,), the latest first.

        NaN where nothing is known, and for swings longer ago than DAYS.
        """
        memory = self.memory
        wanted = day[:, None] - np.arange(1, LONG + 1)
        open_day = memory.day[series][:, None]
        kept = (wanted < open_day) & (wanted >= open_day - REMEMBERED_DAYS)
        slot = wanted % REMEMBERED_DAYS
        swing = np.where(kept, memory.swing[series[:, None], slot], np.nan)
        median = np.where(kept, memory.median[series[:, None], slot], np.nan)
        older = (wanted < open_day - REMEMBERED_DAYS) & (wanted >= open_day - LONG)
        median = np.where(older, memory.earlier[series[:, None], wanted % EARLIER_DAYS], median)
        row, column = np.nonzero((wanted == open_day) & (self.turning_place[series] < 0)[:, None])
        if len(row):
            mine = series[row]
            unit = self.catalogue.spike[memory.parameter[mine]] / PARTS_OF_FLOOR
            sums, many = memory.hour_sum[mine], memory.hour_many[mine]
            here = np.minimum(np.searchsorted(self.days.touched, mine), len(self.days.touched) - 1)
            new = self.days.touched[here] == mine
            sums[new] += self.steady_sum[here[new]]
            many[new] += self.steady_many[here[new]]
            swing[row, column], median[row, column] = day_features(sums, many, unit)
        key = _key(self.turning_place[series][:, None], wanted)
        found = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        here = (self.key[found] == key) & (self.turning_place[series] >= 0)[:, None]
        swing = np.where(here, self.swing[found], swing)
        swing[:, REMEMBERED_DAYS:] = np.nan
        return swing, np.where(here, self.median[found], median)

    def columns(self, last: Places, daily_tests: Bits) -> dict[str, Any]:
        """The columns of turning series; ``last`` (t,) are their last blocks among the inner ones."""
        blocks = self.days.inner[last]
        day = self.days.day[blocks]
        swing, median = self.before(self.days.touched[self.days.segment[blocks]], day)
        back = day[:, None] - np.arange(1, LONG + 1)
        recent, older = back[:, :REMEMBERED_DAYS] % REMEMBERED_DAYS, back[:, REMEMBERED_DAYS:] % EARLIER_DAYS
        made = unknown_days(len(last)) | {
            "hour_sum": self.sums[last],
            "hour_many": self.many[last],
            "daily_tests": daily_tests,
        }
        np.put_along_axis(made["swing"], recent, swing[:, :REMEMBERED_DAYS], axis=1)
        np.put_along_axis(made["median"], recent, median[:, :REMEMBERED_DAYS], axis=1)
        np.put_along_axis(made["earlier"], older, median[:, REMEMBERED_DAYS:], axis=1)
        return made


def _key(place: Codes, day: Ints) -> Ints:
    return (place.astype(np.int64) << 24) | day
