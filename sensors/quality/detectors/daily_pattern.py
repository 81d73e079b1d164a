"""Run the tests that look from day to day: attenuated, drifting and overgrown sensors.

Of each day two numbers are remembered, the swing of its hours and their median, for a spring-neap cycle of days; of the
month before that the medians alone. At the turn of a UTC day the last days are compared with those before them, with
the other sensors of the station and with the neighbouring stations. The verdict (``daily_tests``) holds for the day
that begins. It is a function of the remembered days alone: what lasts longer than they reach becomes the usual.

==========================  ========================================================================================
``ATTENUATED``              the daily or tidal swing sank far below the usual one, and that of other sensors did not
``NEIGHBOURS``              the daily median left, or crept away from, those of the next stations above and below
``CHECK_DUE``               no flag: drifting, or its lens seems overgrown (``LENS_FOULED``); check the sensor
``CHECK_DUE_IF_UNVISITED``  no flag: the same, less clearly; check the sensor where nobody was for long
``BELOW_ZERO``              no flag: its zero lies below zero
==========================  ========================================================================================
"""

from typing import Final

import numpy as np

from infra.times import DAY_MS, HOUR_MS
from sensors.quality.constants import HOURS_PER_DAY, PARTS_OF_FLOOR
from sensors.quality.detectors.attenuation import attenuated
from sensors.quality.detectors.lens_fouling import fouled_lenses
from sensors.quality.detectors.neighbour_departure import departed
from sensors.quality.detectors.zero_offset import below_zero
from sensors.quality.known_days import KnownDays, unknown_days
from sensors.quality.neighbours import Neighbours
from sensors.quality.state import Addition, DayUpdate
from sensors.quality.thresholds import DayBlocks
from sensors.quality.timeline import Timeline
from sensors.reading import Bits, Floats, QualityTest

LARGEST_PART: Final = 2.0**40
"""Values are clipped to so many parts: sums of an hour then fit 64 bits."""

DAILY_TESTS: Final = (QualityTest.ATTENUATED, QualityTest.NEIGHBOURS)
"""The tests whose verdict holds for a day."""


def check_days(
    line: Timeline, days: DayBlocks, resolution: Floats, network: Neighbours, *, learn: bool
) -> tuple[Bits, DayUpdate]:
    """Judge the days of series, and return what is to be remembered of them.

    Parameters
    ----------
    line, days : the readings, none bad, and their blocks
    resolution : (b,) float array
        The smallest step each block's sensor shows, as known when its day begins.
    network : Neighbours
        Who is whose neighbour; without, none is compared.
    learn : bool
        Without, no state is kept and no reading flagged: verdicts belong to the days of their evidence.

    Returns
    -------
    (n,) bits of the daily tests in force on each reading, and the days.
    """
    touched, parameter, memory, catalogue = line.touched, line.parameter[line.starts], line.memory, line.catalogue
    at, value = line.at[line.new], line.value[line.new]
    followed = np.isfinite(catalogue.swing[parameter]) | np.isfinite(catalogue.near[parameter])
    followed |= catalogue.optical[parameter]
    rows = np.flatnonzero(followed[days.segment[days.of_row]])
    columns = unknown_days(int(days.turning.sum()))
    if not learn or not len(rows):
        return np.zeros(len(at), np.uint32), DayUpdate((), columns)
    unit = catalogue.spike[parameter] / PARTS_OF_FLOOR
    segment = days.segment[days.of_row[rows]]
    hour = at[rows] % DAY_MS // HOUR_MS
    part = np.rint(np.clip(value[rows] / unit[segment], -LARGEST_PART, LARGEST_PART)).astype(np.int64)
    inner = days.inner_of_row[rows]
    steady = inner < 0
    place = touched[segment[steady]].astype(np.int64) * HOURS_PER_DAY + hour[steady]
    in_force = memory.daily_tests[touched][days.segment]
    if days.turning.any():
        flat, size = inner[~steady] * HOURS_PER_DAY + hour[~steady], len(days.inner) * HOURS_PER_DAY
        sums = np.bincount(flat, weights=part[~steady].astype(np.float64), minlength=size).astype(np.int64)
        many = np.bincount(flat, minlength=size).astype(np.int32)
        by_hour = sums.reshape(-1, HOURS_PER_DAY), many.reshape(-1, HOURS_PER_DAY)
        known = KnownDays(*by_hour, days, line)
        known.add_steady(segment[steady] * HOURS_PER_DAY + hour[steady], part[steady])
        in_force[days.inner[days.gap[days.inner] > 0]] = 0
        begins = days.inner[followed[days.segment[days.inner]] & (days.gap[days.inner] > 0)]
        in_force[begins] = attenuated(begins, resolution[begins], known, network)
        in_force[begins] |= departed(begins, known, network)
        in_force[begins] |= fouled_lenses(begins, known, network)
        in_force[begins] |= below_zero(begins, known)
        last = np.flatnonzero(np.append(np.diff(days.whose) != 0, True))
        columns = known.columns(last, in_force[days.inner[last]])
    added = Addition("hour_sum", place, part[steady]), Addition("hour_many", place, np.ones(len(place), np.int32))
    return in_force[days.of_row], DayUpdate(added, columns)
