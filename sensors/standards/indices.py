"""Water-quality indices: CWQI of city rankings, trophic level of lakes, comprehensive and Nemerow pollution index.

Each is a number beside the class, never in its place. The source of each formula stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, log, sqrt
from typing import Final

from infra.errors import ConfigurationError
from infra.texts import say
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, Water, WaterClass

# -- CWQI 城市水质指数 ------------------------------------------------------------------------------------------------

MIN_OXYGEN_MG_L: Final = 0.1
"""Oxygen can be 0 in a creek, which would make its index infinite: less counts as this (engineering choice)."""


def single_cwqi(parameter: str, value: float, water: Water) -> float:
    """The index of one parameter: its mean over the limit of class III, 1 at the limit, smaller is better.

    General C / C3; oxygen C3 / C; pH at most 7: (7 - pH) / (7 - 6), above: (pH - 7) / (9 - 7). Raises
    ConfigurationError for a parameter without a class III limit in this water.
    """
    if parameter == "ph":
        low, high = gb3838.limits("ph", water) or (6.0, 9.0)
        return (7 - value) / (7 - low) if value <= 7 else (value - 7) / (high - 7)
    line = gb3838.limit(parameter, water, WaterClass.III)
    if line is None:
        raise ConfigurationError(say("maintenance.no_class_three", parameter=parameter, water=water.value))
    if gb3838.direction(parameter) is Direction.AT_LEAST:
        return line / max(value, MIN_OXYGEN_MG_L)
    return value / line


@dataclass(frozen=True, slots=True)
class Cwqi:
    """``total`` sums ``single``; only totals over the same parameters compare: ``complete`` when all 21 are there."""

    total: float
    single: Mapping[str, float]

    @property
    def complete(self) -> bool:
        return set(self.single) == set(gb3838.NATIONAL)


def cwqi(means: Mapping[str, float], water: Water) -> Cwqi:
    """CWQI of a set of sections from the means of its parameters (temperature, nitrogen, coliform never count).

    Parameters without a value (NaN) and those outside the 21 are left out; see :attr:`Cwqi.complete`.
    """
    single = {
        key: single_cwqi(key, means[key], water) for key in gb3838.NATIONAL if key in means and isfinite(means[key])
    }
    return Cwqi(sum(single.values()), single)


def city_cwqi(river: float, sections: int, lake: float, points: int) -> float:
    """CWQI of a city: that of its rivers and of its lakes weighted by their sections and points.

    From memory, not confirmed in the text of the rule. Raises ValueError when there is neither.
    """
    if sections + points <= 0:
        raise ValueError("a city without sections and points has no index")
    return (river * sections + lake * points) / (sections + points)


def change_percent(now: float, base: float) -> float:
    """Change of a CWQI against its base in per cent; negative is better (the sign is confirmed, the formula is not)."""
    return (now - base) / base * 100


# -- pollution indices -----------------------------------------------------------------------------------------------


def shares(means: Mapping[str, float], water: Water, target: WaterClass) -> dict[str, float]:
    """Ci / Si of every parameter with a value against the limit of ``target``; oxygen as Si / Ci, pH left out."""
    found = {}
    for key, value in means.items():
        line = gb3838.limit(key, water, target)
        if line is not None and isfinite(value):
            at_least = gb3838.direction(key) is Direction.AT_LEAST
            found[key] = line / max(value, MIN_OXYGEN_MG_L) if at_least else value / line
    return found


def comprehensive(single: Mapping[str, float]) -> float:
    """Comprehensive pollution index (综合污染指数): the mean of the single indices (unverified).

    Raises ValueError without any.
    """
    if not single:
        raise ValueError("no single index to average")
    return sum(single.values()) / len(single)


def nemerow(single: Mapping[str, float]) -> float:
    """Nemerow index (内梅罗指数): sqrt((mean² + max²) / 2), so that the worst counts most (unverified).

    Raises ValueError without any.
    """
    return sqrt((comprehensive(single) ** 2 + max(single.values()) ** 2) / 2)


# -- TLI 综合营养状态指数 ----------------------------------------------------------------------------------------------


class Trophic(StrEnum):
    """Trophic state of a lake by its TLI."""

    OLIGOTROPHIC = "oligotrophic"
    MESOTROPHIC = "mesotrophic"
    LIGHT = "light eutrophic"
    MODERATE = "moderate eutrophic"
    HEAVY = "heavy eutrophic"

    @property
    def zh(self) -> str:
        return _TROPHIC_ZH[self]


_TROPHIC_ZH: Final = {
    Trophic.OLIGOTROPHIC: "贫营养",
    Trophic.MESOTROPHIC: "中营养",
    Trophic.LIGHT: "轻度富营养",
    Trophic.MODERATE: "中度富营养",
    Trophic.HEAVY: "重度富营养",
}

TLI_CORRELATION: Final = {"chla": 1.0, "tp": 0.84, "tn": 0.82, "transparency": -0.83, "codmn": 0.83}
"""Correlation of each parameter with chlorophyll a in Chinese lakes; its square is the weight before scaling."""

_TLI_LINE: Final = {
    "chla": (2.5, 1.086),  # µg/L (= mg/m³)
    "tp": (9.436, 1.624),  # mg/L
    "tn": (5.453, 1.694),  # mg/L
    "transparency": (5.118, -1.94),  # m
    "codmn": (0.109, 2.661),  # mg/L
}


def single_tli(parameter: str, value: float) -> float:
    """TLI of one parameter, canonical unit of the catalogue (transparency in cm); larger is richer.

    Raises ConfigurationError for a parameter without a line, ValueError for a value that is not above 0.
    """
    if parameter not in _TLI_LINE:
        raise ConfigurationError(say("maintenance.no_trophic", parameter=parameter, known=", ".join(_TLI_LINE)))
    if not value > 0:
        raise ValueError(f"{parameter} {value} has no logarithm; a value above 0 is needed")
    a, b = _TLI_LINE[parameter]
    return 10 * (a + b * log(value / 100 if parameter == "transparency" else value))


@dataclass(frozen=True, slots=True)
class Tli:
    """``total`` weighs ``single``; ``complete`` when all five parameters are there."""

    total: float
    single: Mapping[str, float]

    @property
    def complete(self) -> bool:
        return set(self.single) == set(TLI_CORRELATION)

    @property
    def state(self) -> Trophic:
        """Below 30 oligotrophic, 30 to 50 mesotrophic, above 50, 60, 70 light, moderate, heavy eutrophic."""
        if self.total < 30:
            return Trophic.OLIGOTROPHIC
        for upper, state in ((50, Trophic.MESOTROPHIC), (60, Trophic.LIGHT), (70, Trophic.MODERATE)):
            if self.total <= upper:
                return state
        return Trophic.HEAVY


def tli(means: Mapping[str, float]) -> Tli:
    """Comprehensive trophic level index of a lake from its means: chlorophyll a, TP, TN, transparency, CODMn.

    Weights are the squared correlations over their sum; of a subset the weights are scaled to it, and the result says
    that it is not complete. Parameters without a value above 0 are left out. Raises ValueError when none is left.
    """
    single = {key: single_tli(key, means[key]) for key in TLI_CORRELATION if key in means and means[key] > 0}
    if not single:
        raise ValueError("no parameter of the trophic level index has a value above 0")
    weight = {key: TLI_CORRELATION[key] ** 2 for key in single}
    total = sum(weight[key] * index for key, index in single.items()) / sum(weight.values())
    return Tli(total, single)
