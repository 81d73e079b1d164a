"""A map of the waters without tiles: reaches, stations and names placed on a sheet of given size. Pure.

The projection is equirectangular about the middle of what is shown, which is true to a metre over a district.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from sensors.standards.gb3838 import WaterClass

Point = tuple[float, float]
PARTS = (0.5, 0.35, 0.65, 0.2, 0.8)
"""Where along a line its badge and its name may stand, in the order of trying."""
WIDE_LETTERS, NARROW = 0x2E7F, 0.56
"""Letters beyond this code are as wide as high; the others are on average this part of it (measured: 0.53, bold)."""
BESIDE_BADGE = 20
"""A name beside another water's badge costs as much as one across so many steps of a line: it would be read as its
name (our choice)."""
NO_ROOM = 10_000
NAME_TRIES, MOST_TRIED = 4, 60
"""How often the names are placed, as long as some find no good place; on a map of more waters than this once."""
CELL = 64.0
"""Side of the cells by which places that are taken are found; about the size of a badge."""


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
class Name:
    """A name on the sheet: its lines with the middle of each, the room that they take, and what that costs."""

    lines: tuple[tuple[str, Point], ...]
    box: Box
    cost: int = 0


@dataclass(frozen=True, slots=True)
class DrawnWater:
    """A reach on the sheet: its path, and where badge and name stand; no ``name`` where there is no room for it."""

    water: Water
    path: str
    badge: Point
    name: "Name | None"


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
    """Sizes in units of the sheet: the badge's side, the letters of names, the margin around everything, the radius of
    a mark, and the strip at the foot that no name may stand in."""

    badge: float = 32.0
    letter: float = 14.0
    margin: float = 48.0
    mark: float = 8.0
    foot: float = 0.0


class _Taken:
    """The boxes that something stands in, found by the cells of a grid that they touch."""

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._cells: dict[tuple[int, int], list[Box]] = {}
        for box in boxes:
            self.add(box)

    def add(self, box: Box) -> None:
        for cell in _cells(box):
            self._cells.setdefault(cell, []).append(box)

    def met(self, box: Box) -> Iterator[Box]:
        """What a box meets; several times where they share several cells."""
        return (one for cell in _cells(box) for one in self._cells.get(cell, ()) if one.meets(box))

    def hit(self, box: Box) -> bool:
        return any(True for _ in self.met(box))

    def hits(self, box: Box) -> int:
        return len(set(self.met(box)))


def _cells(box: Box) -> Iterator[tuple[int, int]]:
    across = range(math.floor(box.left / CELL), math.floor(box.right / CELL) + 1)
    down = range(math.floor(box.top / CELL), math.floor(box.bottom / CELL) + 1)
    return product(across, down)


def draw(
    waters: Sequence[Water], marks: Sequence[Mark], width: float, height: float, sizes: Sizes | None = None
) -> Sheet:
    """Place waters and stations on a sheet; badges and names keep clear of each other where there is room."""
    sizes = sizes or Sizes()
    to_sheet = _projection([p for w in waters for p in w.line] + [m.at for m in marks], width, height, sizes.margin)
    drawn_marks = tuple(DrawnMark(mark, to_sheet(mark.at)) for mark in marks)
    taken = _Taken(_around(one.at, sizes.mark, sizes.mark) for one in drawn_marks)
    for one in drawn_marks:
        if one.mark.colour:
            taken.add(_pennant(one.at, sizes))
    lines = [(water, [to_sheet(p) for p in water.line]) for water in waters if water.line]
    lines.sort(key=lambda one: -(one[0].water_class or 0))  # the worst water's badge and name are placed first
    sheet = Box(0, 0, width, height)
    badges = {}
    if not lines:
        return Sheet(width, height, (), drawn_marks)
    for water, points in lines:
        badges[water.key] = _badge_place(points, taken, sizes, sheet)
        taken.add(_around(badges[water.key], sizes.badge / 2, sizes.badge / 2))
    names = _names(lines, badges, taken, sizes, sheet)
    drawn = {
        water.key: DrawnWater(water, _path(points, closed=water.lake), badges[water.key], names[water.key])
        for water, points in lines
    }
    return Sheet(width, height, tuple(drawn[one.key] for one in waters if one.line), drawn_marks)


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
    return Box(at[0], at[1] - 3.7 * sizes.mark, at[0] + 3.6 * sizes.mark, at[1])


def _steps(points: Sequence[Point], sizes: Sizes) -> Iterator[Box]:
    """The room of a line, in steps of a letter."""
    half = sizes.letter / 4
    for a, b in pairwise(points):
        count = math.ceil(math.dist(a, b) / sizes.letter) or 1
        for i in range(count):
            yield _around((a[0] + (b[0] - a[0]) * i / count, a[1] + (b[1] - a[1]) * i / count), half, half)


def _badge_place(points: Sequence[Point], taken: _Taken, sizes: Sizes, sheet: Box) -> Point:
    def cost(at: Point) -> int:
        box = _around(at, sizes.badge / 2, sizes.badge / 2)
        return taken.hits(box) + (0 if box.within(sheet.right, sheet.bottom) else 5)

    return min((_along(points, part) for part in PARTS), key=cost)


def _names(
    lines: Sequence[tuple[Water, Sequence[Point]]], badges: Mapping[str, Point], taken: _Taken, sizes: Sizes, sheet: Box
) -> dict[str, Name | None]:
    """The name of each water beside its badge or its line; who finds no good place is tried first again."""
    crossed = _Taken(box for _, points in lines for box in _steps(points, sizes))
    half = sizes.badge / 2
    of_badges = {key: _around(at, half, half) for key, at in badges.items()}
    tries = []
    for _ in range(NAME_TRIES):
        placed: dict[str, Name | None] = {}
        mine = _Taken(())
        for water, points in lines:
            places = [badges[water.key], *(_along(points, part) for part in PARTS)]
            foreign = _Taken(box for key, box in of_badges.items() if key != water.key)
            room = _Room(taken, mine, crossed, _Taken(_steps(points, sizes)), foreign)
            name = placed[water.key] = _name_place(places, water.name, room, sizes, sheet)
            if name is not None:
                mine.add(name.box)
        tries.append(placed)
        lines = sorted(lines, key=lambda one: _cost(placed[one[0].key]) < BESIDE_BADGE)
        if _cost(placed[lines[0][0].key]) < BESIDE_BADGE or len(lines) > MOST_TRIED:
            break
    return min(tries, key=lambda placed: sorted(map(_cost, placed.values()), reverse=True))


def _cost(name: Name | None) -> int:
    """What a name costs where it stands; more than any other where it found no room."""
    return NO_ROOM if name is None else name.cost


@dataclass(frozen=True, slots=True)
class _Room:
    """What a name keeps clear of: marks and names that are placed, all lines, its own among them, others' badges."""

    marks: _Taken
    names: _Taken
    lines: _Taken
    own: _Taken
    badges: _Taken

    def cost(self, box: Box, near: Box) -> int:
        """How far a name in a box lies across lines, and beside what is another water's."""
        lines = self.lines.hits(near) - self.own.hits(near) + self.own.hits(box)
        return lines + BESIDE_BADGE * self.badges.hits(near)


def _name_place(places: Sequence[Point], name: str, room: _Room, sizes: Sizes, sheet: Box) -> Name | None:
    """Where a name stands beside one of the places: inside the sheet, on no mark and no other name, at the least cost;
    the nearest of equal ones; None where there is no room.
    """
    best, crossings = None, math.inf
    for words in _broken(name):
        wide = sizes.letter * max(sum(1.0 if ord(one) > WIDE_LETTERS else NARROW for one in line) for line in words)
        half = 0.6 * sizes.letter
        for x, y in _beside(places, wide, half * len(words), sizes):
            box = _around((x, y), wide / 2, half * len(words))
            if not box.within(sheet.right, sheet.bottom - sizes.foot) or room.marks.hit(box) or room.names.hit(box):
                continue
            near = _around((x, y), wide / 2 + sizes.letter, half * len(words) + sizes.letter)
            crossed = room.cost(box, near)
            if crossed < crossings:
                lines = tuple((line, (x, box.top + half * (2 * i + 1))) for i, line in enumerate(words))
                best, crossings = Name(lines, box, crossed), crossed
            if not crossed:
                return best
    return best


def _broken(name: str) -> Iterator[tuple[str, ...]]:
    """A name in one line, then in two where it has a space."""
    yield (name,)
    spaces = [i for i, letter in enumerate(name) if letter == " "]
    if spaces:
        at = min(spaces, key=lambda i: abs(i - len(name) / 2))
        yield name[:at], name[at + 1 :]


def _beside(places: Sequence[Point], wide: float, half: float, sizes: Sizes) -> Iterator[Point]:
    """Middles of a name, the nearest first: right, left, below and above each place, then at its corners."""
    gap = sizes.badge / 2 + 0.4 * sizes.letter
    for far in (0.0, 0.6 * sizes.letter, 1.2 * sizes.letter):
        right, down = gap + far + wide / 2, gap + far + half
        for x, y in places:
            yield from ((x + right, y), (x - right, y), (x, y + down), (x, y - down))
        for x, y in places:
            for dx, dy in product((wide / 2, -wide / 2), (down, -down)):
                yield x + dx, y + dy
