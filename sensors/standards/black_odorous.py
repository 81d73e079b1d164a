"""Urban black-and-odorous water (城市黑臭水体): grade of a sample, a point, a stretch and a water body.

By the working guide of 2015 (城市黑臭水体整治工作指南). Later assessments are said to use three indicators
(transparency, oxygen, ammonia; unverified): pass only those columns. Rural limits are not covered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensors.reading import Floats

Grades = NDArray[np.int8]
"""Grades 1 to 3 as in :class:`Grade`; 0 = cannot be judged."""


class Grade(IntEnum):
    """How black and odorous, better first."""

    NONE = 1
    MILD = 2
    SEVERE = 3

    @property
    def zh(self) -> str:
        return ("不黑臭", "轻度黑臭", "重度黑臭")[self - 1]

    @property
    def en(self) -> str:
        return ("not black-odorous", "mildly black-odorous", "severely black-odorous")[self - 1]


INDICATORS: Final = ("transparency", "do", "orp", "nh3n")
"""Transparency (SD) in cm, oxygen and ammonia nitrogen in mg/L, redox potential in mV."""

TRANSPARENCY_CM: Final = (25.0, 10.0)  # not black from the first up, severe below the second
OXYGEN_MG_L: Final = (2.0, 0.2)  # the same
REDOX_MV: Final = (50.0, -200.0)  # not black above the first, severe below the second
AMMONIA_MG_L: Final = (8.0, 15.0)  # not black up to the first, severe above the second; one reprint has 8.0 for both

SHALLOW_CM: Final = 25.0
SHALLOW_SHARE: Final = 0.4

ONE_INDICATOR_SEVERE: Final = 0.6
TWO_INDICATORS_SEVERE: Final = 0.3
POINTS_SEVERE: Final = 0.6
POINTS_IN_A_ROW: Final = 3
LEAST_POINTS: Final = 3
LEAST_TIMES: Final = 3


def grades(columns: Mapping[str, Floats], *, depth: Floats | None = None) -> dict[str, Grades]:
    """The grade of n samples by each indicator that is there.

    ``columns`` maps an indicator to (n,) values, NaN where missing; other keys are passed over. ``depth`` (n,) is the
    water's depth in **m**, NaN where unknown. Where it is less than 25 cm, transparency is judged against the bed: seen
    to the bed is not black, less than 40 % of the depth is severe, between is mild. (The guide says only that 40 % of
    the depth takes the limit's place; this reading is that of one public implementation.) Boundary sides: 25 cm,
    2.0 mg/L of oxygen and 8.0 mg/L of ammonia are not black, a redox potential of 50 mV is mild.

    Returns indicator → (n,) grades, 0 where NaN.
    """
    return {key: _grade(key, np.asarray(columns[key], np.float64), depth) for key in INDICATORS if key in columns}


def worst(by_indicator: Mapping[str, Grades]) -> Grades:
    """(n,) the grade of each sample by its worst indicator; 0 where there is none."""
    found = np.array(list(by_indicator.values()), np.int8)
    return np.asarray(found.max(axis=0)) if len(found) else np.zeros(0, np.int8)


def _grade(key: str, values: Floats, depth: Floats | None) -> Grades:
    with np.errstate(invalid="ignore"):
        match key:
            case "transparency":
                clear, severe = _transparency(values, depth)
            case "do":
                clear, severe = values >= OXYGEN_MG_L[0], values < OXYGEN_MG_L[1]
            case "orp":
                clear, severe = values > REDOX_MV[0], values < REDOX_MV[1]
            case _:
                clear, severe = values <= AMMONIA_MG_L[0], values > AMMONIA_MG_L[1]
    found = np.select([clear, severe], [Grade.NONE, Grade.SEVERE], Grade.MILD)
    return np.where(np.isnan(values), 0, found).astype(np.int8)


def _transparency(values: Floats, depth: Floats | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    clear, severe = values >= TRANSPARENCY_CM[0], values < TRANSPARENCY_CM[1]
    if depth is None:
        return clear, severe
    depth_cm = np.round(np.asarray(depth, np.float64) * 100, 6)  # 0.07 m is 7 cm, not a trace more
    shallow = depth_cm < SHALLOW_CM
    to_the_bed = values >= depth_cm
    return np.where(shallow, to_the_bed, clear), np.where(
        shallow, values < np.round(SHALLOW_SHARE * depth_cm, 6), severe
    )


def point(by_indicator: Mapping[str, Grades]) -> Grade | None:
    """The grade of a point from all its samples (:func:`grades`): how often each indicator is severe.

    Severe when one indicator has at least 60 % of its data severe, or at least two have 30 %; otherwise mild. The guide
    speaks of water already known to be black and odorous; here a point where nothing was mild or severe is neither.
    None without any data. At least three samples are asked for (:data:`LEAST_TIMES`), which is the caller's to check.
    """
    judged = [found[found > 0] for found in by_indicator.values()]
    judged = [found for found in judged if len(found)]
    if not judged:
        return None
    often = [np.count_nonzero(found == Grade.SEVERE) / len(found) for found in judged]
    if max(often) >= ONE_INDICATOR_SEVERE or sum(share >= TWO_INDICATORS_SEVERE for share in often) >= 2:
        return Grade.SEVERE
    return Grade.MILD if any((found > Grade.NONE).any() for found in judged) else Grade.NONE


@dataclass(frozen=True, slots=True)
class Body:
    """The grade of a water body.

    ``grade`` is None when no point can be judged. ``severe`` are the stretches of severe water as pairs of point
    numbers, first and last, counted from 0 downstream; the whole body when 60 % of its points are severe. ``enough``
    says whether the guide's least number of points was judged.
    """

    grade: Grade | None
    severe: tuple[tuple[int, int], ...]
    severe_share: float
    enough: bool


def water_body(points: Sequence[Grade | None]) -> Body:
    """The grade of a water body from its points, in order downstream (one every 200 to 600 m).

    Three or more severe points in a row make the water between them severe; at least 60 % severe points make the whole
    water body severe. A point that cannot be judged counts for nothing and interrupts a row: it proves nothing.
    """
    judged = [one for one in points if one is not None]
    if not judged:
        return Body(None, (), 0.0, enough=False)
    share = sum(one is Grade.SEVERE for one in judged) / len(judged)
    enough = len(judged) >= LEAST_POINTS
    if share >= POINTS_SEVERE:
        return Body(Grade.SEVERE, ((0, len(points) - 1),), share, enough)
    grade = Grade.MILD if max(judged) > Grade.NONE else Grade.NONE
    return Body(grade, tuple(_rows_of_severe(points)), share, enough)


def _rows_of_severe(points: Sequence[Grade | None]) -> list[tuple[int, int]]:
    rows, start = [], None
    for i, one in enumerate([*points, None]):
        if one is Grade.SEVERE:
            start = i if start is None else start
        elif start is not None:
            if i - start >= POINTS_IN_A_ROW:
                rows.append((start, i - 1))
            start = None
    return rows
