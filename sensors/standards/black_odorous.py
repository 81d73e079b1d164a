"""Limits of urban black-and-odorous water (城市黑臭水体).

By the working guide of 2015 (城市黑臭水体整治工作指南). Later assessments are said to use three indicators
(transparency, oxygen, ammonia; unverified). Rural limits are not covered.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from infra.texts import Text


class Grade(IntEnum):
    """How black and odorous, better first. The numbers are part of the version of a rule."""

    MILD = 2
    SEVERE = 3

    @property
    def text(self) -> Text:
        return _TEXTS[self]


_TEXTS: Final = {
    Grade.MILD: Text("轻度黑臭", "mildly black-odorous"),
    Grade.SEVERE: Text("重度黑臭", "severely black-odorous"),
}

LIMITS: Final[Mapping[str, tuple[int, Mapping[Grade, float]]]] = {
    "transparency": (-1, {Grade.MILD: 25.0, Grade.SEVERE: 10.0}),
    "do": (-1, {Grade.MILD: 2.0, Grade.SEVERE: 0.2}),
    "orp": (-1, {Grade.MILD: 50.0, Grade.SEVERE: -200.0}),  # 50 mV itself is mild
    "nh3n": (1, {Grade.MILD: 8.0, Grade.SEVERE: 15.0}),  # one reprint has 8.0 for both
}
"""Indicator → the side on which a value is worse than the limits (1: above), and the limit of each grade.

Transparency (SD) in cm, oxygen and ammonia nitrogen in mg/L, redox potential in mV.
"""
