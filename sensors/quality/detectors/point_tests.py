"""Tests of a single reading, and the array functions that several detectors use.

Detects fault codes of loggers, values outside the range of the instrument or of natural water, and readings whose
device says itself that they are wrong. Missing values are NaN; limits come from the parameter catalogue or stand here.
"""

from typing import Final

import numpy as np

from infra.times import HOUR_MS
from sensors.parameters import Catalogue
from sensors.quality.constants import NEAR_ZERO_STEPS
from sensors.quality.state import SeriesState
from sensors.reading import Bools, Bytes, Codes, Flag, Floats, Ints, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------

SENTINELS: Final = np.array(
    [-9999.0, -999.0, -99999.0, 9999.0, 999.0, -7999.0, -6999.0, -8888.0, -99.9, -999.9, -9999.9], np.float64
)
"""Fault codes of common loggers."""

FAULT_CODES: Final = SENTINELS[SENTINELS < 0]
"""Fault codes that no unit makes a measurement of."""

STATUS_BAD: Final = np.frombuffer(b"DBFMCO", np.uint8)
"""HJ 212 data flags that say the value is not the water: fault, communication, stopped, maintenance, calibration, off.

T, above the measuring range, makes a reading suspect: the water has at least so much. Any other flag makes it suspect,
too.
"""
STATUS_GOOD: Final = np.frombuffer(b"NS", np.uint8)
"""HJ 212 data flags of a usable value: normal, and entered by hand."""
STATUS_OVER_RANGE: Final = ord("T")

MIN_LEVEL_ABOVE_DEAD_ZERO: Final = 5.0
"""In believable steps of the parameter (``catalogue.step``). A zero is a dead sensor only where the last other value
was larger: 2 mg/L of oxygen, 0.5 of pH, 25 µS/cm. An anoxic creek slides to zero, it does not jump there."""

MAX_ZERO_GAP_MS: Final = 6 * HOUR_MS
"""From that last other value, where zero is possible at all (oxygen): a creek may have got there in a longer pause."""

MAX_RETURN_SHARE: Final = 0.2
"""Of a spike's height: its neighbours lie so near to the base. A storm pulse rises and decays over several readings."""

LONGEST_BURST: Final = 5
"""Readings. A burst comes and goes in one step each, as a spike does."""
LONGEST_BURST_MS: Final = 3 * HOUR_MS
"""From the reading before a burst to the one after: five readings of half an hour, and none of the bursts of an
analyser. A leaf or a bubble is gone by then; what stays may be water."""

FLAT_SECONDS: Final = 12 * 3600.0
"""How long equal values last at least before a sensor is stuck (:mod:`~sensors.quality.detectors.flat_line`): within
half a day tide or daylight moves temperature, pH, oxygen and conductivity by more than their last digit. Half of it is
enough once the series has learned how rare repeats are."""


# -- tests -----------------------------------------------------------------------------------------------------------


def is_fault_code(value: Floats, plausible: Floats) -> Bools:
    """(n,) true where the value is exactly a logger's fault code and no measurement.

    999 and 9999 are ordinary conductivities: a positive code counts only outside the plausible range (n, 2).
    """
    measurement = (value > 0) & (value >= plausible[:, 0]) & (value <= plausible[:, 1])
    return np.asarray(np.isin(value, SENTINELS) & ~measurement)


def outside(values: Floats, low: Floats, high: Floats) -> Bools:
    """(n,) true where the value lies outside the closed range [low, high] given for each value."""
    return (values < low) | (values > high)


def status_failures(status: Bytes) -> list[tuple[Bools, Flag, QualityTest]]:
    """What the device itself says of its readings: rows, flag and test; empty where all are normal."""
    if not (status != ord("N")).any():
        return []
    bad, over_range = np.isin(status, STATUS_BAD), status == STATUS_OVER_RANGE
    return [
        (bad, Flag.BAD, QualityTest.DEVICE_STATUS),
        (over_range, Flag.SUSPECT, QualityTest.OVER_RANGE),
        (~bad & ~np.isin(status, STATUS_GOOD) & ~over_range, Flag.SUSPECT, QualityTest.DEVICE_STATUS),
    ]


def dead_zero(
    series: Codes, at: Ints, value: Floats, usable: Bools, memory: SeriesState, catalogue: Catalogue
) -> Bools:
    """(n,) true where a sensor says exactly 0 and its last other value stood clearly above it.

    Where zero is possible at all this holds for :data:`MAX_ZERO_GAP_MS`: somebody has to look then. ``usable`` (n,)
    are the readings that are not bad; the rows are sorted by series and time.
    """
    parameter = memory.parameter[series]
    zero = (value == 0.0) & catalogue.zero_is_dead[parameter]
    if not zero.any():
        return np.zeros(len(value), np.bool_)
    number = np.arange(len(value))
    last = np.maximum.accumulate(np.where(usable & (value != 0.0), number, -1))
    first = np.maximum.accumulate(np.where(np.diff(series, prepend=-1) != 0, number, 0))
    level = np.where(last >= first, value[last], memory.value[series, -1])
    since = np.where(last >= first, at[last], memory.at[series, -1])
    recent = (at - since <= MAX_ZERO_GAP_MS) | (catalogue.plausible[parameter, 0] > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(zero & recent & (np.abs(level) > MIN_LEVEL_ABOVE_DEAD_ZERO * catalogue.step[parameter]))


# -- array functions -------------------------------------------------------------------------------------------------


def stands_out(values: Floats, before: Floats, after: Floats, base: Floats) -> Floats:
    """How far a reading stands out beyond both neighbours; 0 where it does not return or cannot be told.

    All arguments are (n,), in one unit: the readings, their neighbours, and the median of the readings before. The
    neighbours must lie within :data:`MAX_RETURN_SHARE` of the reading's height of that base.
    """
    height = values - base
    sign = np.sign(height)
    with np.errstate(invalid="ignore"):
        out = np.minimum(sign * (values - before), sign * (values - after))
        close = MAX_RETURN_SHARE * np.abs(height)
        returns = (np.abs(before - base) <= close) & (np.abs(after - base) <= close)
        return np.asarray(np.where(returns & (out > 0), out, 0.0))


def level_scale(local: Floats, usual: Floats, relative: Bools, step: Floats) -> Floats:
    """(r,) what differences near a value are divided by.

    1, or where noise grows with the level (``relative``) the larger of the local value and the usual one: the second
    keeps water near zero from exploding.
    """
    size = np.fmax(np.fmax(np.abs(local), usual), step / NEAR_ZERO_STEPS)
    return np.where(relative, size, 1.0)
