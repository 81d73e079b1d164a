"""A map of the waters without tiles: reaches, stations and names placed on a sheet of given size. Pure.

The projection is equirectangular about the middle of what is shown, which is true to a metre over a district.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sensors.standards.gb3838 import WaterClass

Point = tuple[float, float]
PARTS = (0.5, 0.35, 0.65, 0.2, 0.8)
"""Where along a line its badge may stand, in the order of trying."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the sheet that something stands in."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, width: float, height: float) -> bool:
        return self.left >= 0 and self.top >= 0 and self.right <= width and self.bottom <= height


@dataclass(frozen=True, slots=True)
class Water:
    """A reach to draw: its line (lon, lat), name and class; ``lake``: a closed outline is filled."""

    key: str
    name: str
    line: Sequence[Point]
    water_class: WaterClass | None
    lake: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A station to draw: where it is, the state of its data and the colour of its worst open incident, if any."""

    key: str
    name: str
    at: Point
    state: str
    colour: str = ""


@dataclass(frozen=True, slots=True)
class DrawnWater:
    """A reach on the sheet: its path, and where badge and name stand; ``anchor`` is that of the name's text."""

    water: Water
    path: str
    badge: Point
    label: Point
    anchor: str


@dataclass(frozen=True, slots=True)
class DrawnMark:
    """A station on the sheet."""

    mark: Mark
    at: Point


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is drawn, on ``width`` × ``height`` units."""

    width: float
    height: float
    waters: tuple[DrawnWater, ...]
    marks: tuple[DrawnMark, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in units of the sheet: the badge's side, the letters of names, and the margin around everything."""

    badge: float = 32.0
    letter: float = 14.0
    margin: float = 48.0
    mark: float = 8.0


def draw(
    waters: Sequence[Water], marks: Sequence[Mark], width: float, height: float, sizes: Sizes | None = None
) -> Sheet:
    """Place waters and stations on a sheet; badges and names keep clear of each other where there is room."""
    sizes = sizes or Sizes()
    to_sheet = _projection([p for w in waters for p in w.line] + [m.at for m in marks], width, height, sizes.margin)
    drawn_marks = tuple(DrawnMark(mark, to_sheet(mark.at)) for mark in marks)
    taken = [_around(one.at, sizes.mark, sizes.mark) for one in drawn_marks]
    taken += [_pennant(one.at, sizes) for one in drawn_marks if one.mark.colour]
    lines = [(water, [to_sheet(p) for p in water.line]) for water in waters if water.line]
    lines.sort(key=lambda one: -(one[0].water_class or 0))  # the worst water's name is placed first
    drawn = []
    for water, points in lines:
        badge = _badge_place(points, taken, sizes, width, height)
        taken.append(_around(badge, sizes.badge / 2, sizes.badge / 2))
        label, anchor, box = _label_place(badge, water.name, taken, sizes, width, height)
        taken.append(box)
        drawn.append(DrawnWater(water, _path(points, closed=water.lake), badge, label, anchor))
    order = {water.key: i for i, water in enumerate(waters)}
    return Sheet(width, height, tuple(sorted(drawn, key=lambda one: order[one.water.key])), drawn_marks)


def _projection(points: Sequence[Point], width: float, height: float, margin: float) -> Callable[[Point], Point]:
    if not points:
        return lambda point: (width / 2, height / 2)
    west, east = min(p[0] for p in points), max(p[0] for p in points)
    south, north = min(p[1] for p in points), max(p[1] for p in points)
    squeeze = math.cos(math.radians((south + north) / 2))
    scale = min(
        (width - 2 * margin) / max((east - west) * squeeze, 1e-3), (height - 2 * margin) / max(north - south, 1e-3)
    )
    middle = (west + east) / 2, (south + north) / 2
    return lambda point: (
        width / 2 + (point[0] - middle[0]) * squeeze * scale,
        height / 2 - (point[1] - middle[1]) * scale,
    )


def _path(points: Sequence[Point], *, closed: bool) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{steps}{'Z' if closed else ''}"


def _around(at: Point, dx: float, dy: float) -> Box:
    return Box(at[0] - dx, at[1] - dy, at[0] + dx, at[1] + dy)


def _along(points: Sequence[Point], part: float) -> Point:
    """The point at a part of the length of a line."""
    pieces = list(pairwise(points))
    steps = [math.dist(a, b) for a, b in pieces]
    left = part * sum(steps)
    for (a, b), step in zip(pieces, steps, strict=True):
        if left <= step and step:
            return a[0] + (b[0] - a[0]) * left / step, a[1] + (b[1] - a[1]) * left / step
        left -= step
    return points[-1]


def _pennant(at: Point, sizes: Sizes) -> Box:
    """The place of the pennant above a station."""
    return Box(at[0], at[1] - 3.2 * sizes.mark, at[0] + 3.6 * sizes.mark, at[1])


def _hits(box: Box, taken: Iterable[Box], width: float, height: float) -> int:
    return sum(box.meets(other) for other in taken) + (0 if box.within(width, height) else 5)


def _badge_place(points: Sequence[Point], taken: Sequence[Box], sizes: Sizes, width: float, height: float) -> Point:
    places = [_along(points, part) for part in PARTS]
    return min(places, key=lambda at: _hits(_around(at, sizes.badge / 2, sizes.badge / 2), taken, width, height))


def _label_place(
    badge: Point, name: str, taken: Sequence[Box], sizes: Sizes, width: float, height: float
) -> tuple[Point, str, Box]:
    """Where a name stands beside its badge: right, left, below, above; and which end of it is there."""
    long = sizes.letter * sum(1.0 if ord(letter) > 0x2E7F else 0.56 for letter in name)
    gap, half = sizes.badge / 2 + 0.4 * sizes.letter, 0.6 * sizes.letter
    x, y = badge
    choices = [
        ((x + gap, y), "start", Box(x + gap, y - half, x + gap + long, y + half)),
        ((x - gap, y), "end", Box(x - gap - long, y - half, x - gap, y + half)),
        ((x, y + gap + half), "middle", Box(x - long / 2, y + gap, x + long / 2, y + gap + 2 * half)),
        ((x, y - gap - half), "middle", Box(x - long / 2, y - gap - 2 * half, x + long / 2, y - gap)),
    ]
    return min(choices, key=lambda one: _hits(one[2], taken, width, height))
