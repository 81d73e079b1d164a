"""Plane geometry of WGS 84 degrees, as far as ``$filter`` asks for it: points, lines and polygons. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, isfinite
from typing import Any

Place = tuple[float, float]
Line = tuple[Place, ...]

_WKT = re.compile(r"\s*(?:SRID=4326;)?\s*(MULTI)?(POINT|LINESTRING|POLYGON)\s*Z?\s*(\(.*\))\s*", re.I | re.S)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_PLACE = re.compile(rf"\s*({_NUMBER})\s+({_NUMBER})(?:\s+{_NUMBER})?\s*", re.I)
_PLACES = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Points, lines, and polygons (rings: the outer one and holes)."""

    points: tuple[Place, ...] = ()
    lines: tuple[Line, ...] = ()
    polygons: tuple[tuple[Line, ...], ...] = ()

    def vertices(self) -> Iterator[Place]:
        yield from self.points
        for line in self._paths():
            yield from line

    def segments(self) -> Iterator[tuple[Place, Place]]:
        for line in self._paths():
            yield from pairwise(line)

    def covers(self, place: Place) -> bool:
        """Whether a place lies in it or on its edge."""
        return (
            place in self.points
            or any(_on(place, a, b) for a, b in self.segments())
            or any(sum(_inside(place, ring) for ring in rings) % 2 == 1 for rings in self.polygons)
        )

    def _paths(self) -> Iterator[Line]:
        yield from self.lines
        for rings in self.polygons:
            yield from rings


def of_wkt(text: str) -> Geometry:
    """The geometry of well-known text; raises ValueError."""
    match = _WKT.fullmatch(text)
    if match is None:
        raise ValueError(text)
    kind, body = match[2].upper(), match[3]
    if kind == "POINT":
        return Geometry(points=tuple(_place(one) for one in body.replace("(", " ").replace(")", " ").split(",")))
    paths = tuple(tuple(_place(one) for one in inner.split(",")) for inner in _PLACES.findall(body))
    if not paths or min(map(len, paths)) < 2:
        raise ValueError(text)
    if kind == "LINESTRING":
        return Geometry(lines=paths)
    return Geometry(polygons=tuple((path,) for path in paths) if match[1] else (paths,))


def of_geojson(given: object) -> Geometry | None:
    """The geometry of a GeoJSON object of ours; None for anything else."""
    if not isinstance(given, Mapping) or "coordinates" not in given:
        return None
    coordinates: Any = given["coordinates"]
    if given.get("type") == "Point":
        return Geometry(points=((coordinates[0], coordinates[1]),))
    if given.get("type") == "LineString":
        return Geometry(lines=(tuple((lon, lat) for lon, lat in coordinates),))
    return None


def intersects(one: Geometry, other: Geometry) -> bool:
    """Whether they have a place in common."""
    return (
        any(other.covers(place) for place in one.vertices())
        or any(one.covers(place) for place in other.vertices())
        or any(_cross(a, b, c, d) for a, b in one.segments() for c, d in other.segments())
    )


def within(one: Geometry, other: Geometry) -> bool:
    """Whether all corners of the first lie in the second."""
    return all(other.covers(place) for place in one.vertices())


def distance(one: Geometry, other: Geometry) -> float:
    """The least distance in degrees."""
    if intersects(one, other):
        return 0.0
    return min(*_distances(one, other), *_distances(other, one), float("inf"))


def _distances(one: Geometry, other: Geometry) -> Iterator[float]:
    yield float("inf")
    for x, y in one.vertices():
        yield from (hypot(x - px, y - py) for px, py in other.points)
        for (ax, ay), (bx, by) in other.segments():
            dx, dy = bx - ax, by - ay
            square = dx * dx + dy * dy
            share = min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / square)) if square else 0.0
            yield hypot(x - ax - share * dx, y - ay - share * dy)


def _place(text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    place = float(match[1]), float(match[2])
    if not all(map(isfinite, place)):
        raise ValueError(text)
    return place


def _side(a: Place, b: Place, c: Place) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _on(place: Place, a: Place, b: Place) -> bool:
    between = all(min(a[i], b[i]) <= place[i] <= max(a[i], b[i]) for i in (0, 1))
    return between and _side(a, b, place) == 0


def _cross(a: Place, b: Place, c: Place, d: Place) -> bool:
    return (_side(a, b, c) > 0) != (_side(a, b, d) > 0) and (_side(c, d, a) > 0) != (_side(c, d, b) > 0)


def _inside(place: Place, ring: Line) -> bool:
    """Whether a ray to the right crosses the ring an odd number of times."""
    x, y = place
    crossings = (
        (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax
        for (ax, ay), (bx, by) in pairwise((*ring, ring[0]))
    )
    return sum(crossings) % 2 == 1
