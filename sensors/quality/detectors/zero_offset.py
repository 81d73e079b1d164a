"""Detect optical sensors whose zero lies below zero: water has no negative turbidity, so that it is the sensor's."""

from typing import Final

import numpy as np

from sensors.parameters import Catalogue
from sensors.quality.constants import BELOW_ZERO
from sensors.quality.known_days import KnownDays
from sensors.reading import Bits, Bools, Floats, Places

MIN_DAYS_BELOW: Final = 3
"""Days whose median lies below zero: a visit, a bubble or a loose cable is over sooner (engineering choice)."""
REACH_DAYS: Final = 7
"""Last days among which these may lie: a flood lifts the readings for some days and does not mend the sensor, and a
week after it was mended the finding is over (engineering choice)."""


def below_zero(blocks: Places, known: KnownDays) -> Bits:
    """(b,) ``BELOW_ZERO`` where the readings of the last days lay below zero; ``blocks`` (b,) begin a day."""
    segment = known.days.segment[blocks]
    parameter = known.parameter[segment]
    found = np.zeros(len(blocks), np.uint32)
    rows = np.flatnonzero(known.catalogue.optical[parameter])
    if len(rows):
        series, day = known.days.touched[segment[rows]], known.days.day[blocks[rows]]
        median = known.before(series, day)[1][:, :REACH_DAYS]
        with np.errstate(invalid="ignore"):
            days = (median < -_tolerance(known.catalogue)[parameter[rows], None]).sum(axis=1)
        found[rows[days >= MIN_DAYS_BELOW]] = BELOW_ZERO
    return found


def is_offset_alone(in_force: Bits, value: Floats, low: Floats, usual: Floats) -> Bools:
    """(n,) where a value lies below its plausible range because of the offset alone.

    By no more than the usual size of the values (``usual``), which is that of the offset. ``in_force`` (n,) are the
    bits of the daily tests, ``low`` (n,) the lower ends of the plausible ranges.
    """
    return np.asarray(((in_force & np.uint32(BELOW_ZERO)) > 0) & (value < low) & (value >= low - usual))


def _tolerance(catalogue: Catalogue) -> Floats:
    """(parameters,) what is no offset yet: the believable step, or the end of the plausible range if that is nearer."""
    return np.asarray(np.minimum(catalogue.step, -catalogue.plausible[:, 0]))
