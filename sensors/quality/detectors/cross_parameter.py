"""Detect contradictions between the parameters of one station at one instant. Pure.

A reading can be possible by itself and impossible beside another: more ammonia nitrogen than total nitrogen, more
oxygen than water of that temperature can hold. Which of the two is wrong cannot be told, so both are suspect; but for
oxygen, since a thermometer that is wrong by so much is found by other tests. The same functions judge tables (one
column a parameter) and live batches (one row a reading).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from infra.times import TIME_BITS
from sensors.parameters import Catalogue
from sensors.reading import Bools, Codes, Flag, Floats, Ints, QualityTest
from sensors.standards.oxygen import saturation

PARTS_OF_WHOLE: Final = (("nh3n", "tn", 1.1, 0.1), ("codmn", "codcr", 1.2, 4.0), ("bod5", "codcr", 1.2, 4.0))
"""(part, whole, factor, margin in mg/L): a part above ``factor`` times the whole plus ``margin`` contradicts it.

A tenth and 0.1 mg/L are the usual errors of both nitrogen analysers; permanganate and bacteria oxidise less than
dichromate, whose method sees 4 mg/L at least (HJ 828-2017, from memory) and is off by a tenth, as the other one is."""

MAX_SATURATION: Final = 2.0
"""Of saturation: more oxygen is implausible, also in a bloom at noon."""

MIN_OXYGEN: Final = 10.0
"""mg/L; less oxygen is nowhere above twice its saturation (5.2 mg/L at 40 °C and 40 psu)."""

MAX_SALINITY: Final = 40.0
"""psu; salinities are clipped to 0 and this before the saturation is computed."""

CHECKED_PARAMETERS: Final = ("water_temp", "do", "conductivity", "salinity", "nh3n", "tn", "codmn", "codcr", "bod5")
"""Parameters that can contradict another, or are needed to tell."""

CONTRADICTING_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    key: tuple(w for p, w, *_ in PARTS_OF_WHOLE if p == key) + tuple(p for p, w, *_ in PARTS_OF_WHOLE if w == key)
    for key in CHECKED_PARAMETERS
} | {"do": ("water_temp",)}
"""Which parameters each may contradict."""

_CROSS_CHECK: Final = int(QualityTest.CROSS_CHECK)
_REVIEWED: Final = int(QualityTest.REVIEWED_GOOD | QualityTest.REVIEWED_SUSPECT | QualityTest.REVIEWED_BAD)


def salinity(conductivity: Floats) -> Floats:
    """Practical salinity (psu) of water of this conductivity (µS/cm at 25 °C); NaN stays.

    Source: the practical salinity scale of 1978 at 25 °C, 53,065 µS/cm at 35 psu; coefficients from memory, agreeing
    with the salinities of a public record (Cat Point) to 0.7 psu. Below 2 psu the scale does not hold, and here it need
    not.
    """
    root = np.sqrt(np.maximum(conductivity, 0.0) / 53065.0)
    fifteen = np.polyval([2.7081, -7.0261, 14.0941, 25.3851, -0.1692, 0.0080], root)
    warmer = np.polyval([-0.0144, 0.0636, -0.0375, -0.0066, -0.0056, 0.0005], root)
    return np.asarray(np.maximum(fifteen + 10.0 / 1.162 * warmer, 0.0))


def find_contradictions(values: Mapping[str, Floats]) -> dict[str, Bools]:
    """Which readings contradict another of their row.

    ``values`` (n,) by parameter key, canonical units, one row an instant of a station; NaN where there is no reading or
    a bad one. Only parameters that contradict somewhere come back, (n,) true where they do.
    """
    found: dict[str, Bools] = {}

    def both(one: str, other: str, wrong: Bools) -> None:
        if wrong.any():
            for key in (one, other):
                found[key] = found[key] | wrong if key in found else wrong

    with np.errstate(invalid="ignore"):
        for part, whole, factor, margin in PARTS_OF_WHOLE:
            if part in values and whole in values:
                both(part, whole, values[part] > factor * np.maximum(values[whole], 0.0) + margin)
        if "do" in values and "water_temp" in values:
            rows = np.flatnonzero(values["do"] > MIN_OXYGEN)
            if len(rows):
                most = MAX_SATURATION * saturation(values["water_temp"][rows], _salt(values, rows))
                wrong = np.zeros(len(values["do"]), np.bool_)
                wrong[rows] = values["do"][rows] > most
                if wrong.any():
                    found["do"] = wrong
    return found


def _salt(values: Mapping[str, Floats], rows: Ints) -> Floats:
    """(r,) the salinity; of two the lower, because fresh water holds more oxygen."""
    salt = np.full(len(rows), np.nan)
    if "salinity" in values:
        salt = values["salinity"][rows]
    if "conductivity" in values:
        salt = np.fmin(salt, salinity(values["conductivity"][rows]))
    return np.asarray(np.clip(np.nan_to_num(salt), 0.0, MAX_SALINITY))


def cross_check(station: Codes, parameter: Codes, at: Ints, value: Floats, packed: Ints, catalogue: Catalogue) -> Ints:
    """Apply the cross-checks to verdicts.

    Parameters
    ----------
    station, parameter, at, value : (n,) arrays
        Readings in any order, all that are known of their instants; none twice.
    packed : (n,) int array
        Their verdicts so far. Bad readings contradict nothing; reviewed ones keep the flag of the review.

    Returns
    -------
    (n,) int array
        The verdicts: at least suspect and with the bit where readings contradict each other, elsewhere without it.
    """
    index = {catalogue.index[key]: key for key in CHECKED_PARAMETERS if key in catalogue}
    rows = np.flatnonzero(np.isin(parameter, list(index)) & (packed & 15 < Flag.BAD))
    wrong = np.zeros(len(at), np.bool_)
    if len(rows):
        _, instant = np.unique((station[rows].astype(np.int64) << TIME_BITS) | at[rows], return_inverse=True)
        where: dict[str, Ints] = {}
        values: dict[str, Floats] = {}
        for number, key in index.items():
            mine = rows[parameter[rows] == number]
            if len(mine):
                where[key], values[key] = mine, np.full(int(instant.max()) + 1, np.nan)
                values[key][instant[parameter[rows] == number]] = value[mine]
        for key, contradicted in find_contradictions(values).items():
            wrong[where[key]] = contradicted[instant[parameter[rows] == catalogue.index[key]]]
    return with_cross_check(packed, wrong)


def with_cross_check(packed: Ints, wrong: Bools) -> Ints:
    """(n,) the verdicts with the cross-check's bit where ``wrong`` and without it elsewhere."""
    had = packed >> 4 & _CROSS_CHECK != 0
    if not wrong.any() and not had.any():
        return packed
    flag, tests = packed & 15, packed >> 4 & ~_CROSS_CHECK
    open_ = tests & _REVIEWED == 0
    lifted = had & ~wrong & open_ & (flag == Flag.SUSPECT) & (tests == 0)
    flag = np.where(lifted, int(Flag.GOOD), np.where(wrong & open_, np.maximum(flag, int(Flag.SUSPECT)), flag))
    return np.asarray(flag | (tests | np.where(wrong, _CROSS_CHECK, 0)) << 4, np.int64)
