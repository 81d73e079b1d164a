"""Outlines of regions: read GeoJSON, find whether a place lies inside, and find overlaps with neighbours.

A region's outline is one or several polygons, each an outer ring and its holes, of (lon, lat) in WGS 84 degrees. A
district is small enough for a flat Earth.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from infra.errors import ConfigurationError
from infra.texts import at, say
from sensors.network import KM_PER_DEGREE

Point = tuple[float, float]
Ring = tuple[Point, ...]
Outline = tuple[tuple[Ring, ...], ...]
"""Polygons, each its outer ring and then its holes; a ring ends where it begins."""

MAX_POINTS = 5_000
"""Of one outline. A street's boundary drawn to some metres has a thousand; comparing neighbours takes their product."""

SLIVER_M = 30.0
"""Neighbours drawn apart from each other may overlap by as much along their common border. Our choice."""


def read(value: object, place: Callable[[float, float], Point] = lambda lon, lat: (lon, lat)) -> Outline:
    """The outline that GeoJSON describes: a Polygon or MultiPolygon, as an object, its text, or its coordinates alone.

    ``place`` checks and converts each point. Raises ConfigurationError naming polygon, ring and point that are wrong
    (``outline 1.2.7``): a ring must have four points at least, end where it begins, and cross neither itself nor
    another of its polygon.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ConfigurationError(say("registry.outline_no_json")) from None
    if isinstance(value, Mapping):
        if value.get("type") not in ("Polygon", "MultiPolygon"):
            raise ConfigurationError(say("registry.outline_type", type=value.get("type")))
        polygons = value.get("coordinates")
        polygons = [polygons] if value["type"] == "Polygon" else polygons
    else:
        polygons = [value] if _depth(value) == 3 else value
    if _depth(polygons) != 4:
        raise ConfigurationError(say("registry.outline_shape"))
    assert isinstance(polygons, Sequence)
    found = tuple(
        tuple(_ring(ring, f"outline {p}.{r}", place) for r, ring in enumerate(rings, 1))
        for p, rings in enumerate(polygons, 1)
    )
    count = sum(len(ring) for rings in found for ring in rings)
    if count > MAX_POINTS:
        raise ConfigurationError(say("registry.outline_long", count=count, limit=MAX_POINTS))
    for p, rings in enumerate(found, 1):
        if (crossing := _crossing(rings)) is not None:
            one, other = (f"outline {p}.{r}.{n}–{n + 1}" for r, n in crossing)
            raise ConfigurationError(say("registry.outline_crosses", one=one, other=other))
    return found


def geojson(outline: Outline) -> dict[str, Any]:
    """The outline as a GeoJSON geometry."""
    return {"type": "MultiPolygon", "coordinates": [[[list(p) for p in ring] for ring in rings] for rings in outline]}


def contains(outline: Outline, lon: float, lat: float) -> bool:
    """Whether a place lies in an outline, and in none of its holes."""
    return any(sum(_inside(ring, lon, lat) for ring in rings) % 2 for rings in outline)


def overlap(one: Outline, other: Outline) -> Point | None:
    """A place that lies in both outlines, more than ``SLIVER_M`` from the border of each; None where there is none.

    Where borders cross, both outlines are looked at between the crossings; so are an inner point of each polygon.
    """
    for first, second in ((one, other), (other, one)):
        west, south, east, north = _box(second)
        mine = _box(first)
        if mine[2] < west or mine[0] > east or mine[3] < south or mine[1] > north:
            return None
        for lon, lat in (*_inner_points(first), *_points_between_crossings(first, second)):
            near = west <= lon <= east and south <= lat <= north
            if near and contains(second, lon, lat) and _border_m(second, lon, lat) > SLIVER_M:
                return lon, lat
    return None


def _depth(value: object) -> int:
    """Nesting depth of lists in a value, along their first elements; 0 for no list and for an empty one."""
    depth = 0
    while isinstance(value, Sequence) and not isinstance(value, str) and value:
        depth, value = depth + 1, value[0]
    return depth


def _ring(value: object, name: str, place: Callable[[float, float], Point]) -> Ring:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 4:
        raise ConfigurationError(say("registry.ring_short", name=name))
    found = []
    for number, point in enumerate(value, 1):
        good = (
            isinstance(point, Sequence)
            and len(point) in (2, 3)  # a height is allowed and means nothing
            and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in point)
            and -180 <= point[0] <= 180
            and -90 <= point[1] <= 90
        )
        if not good:
            raise ConfigurationError(say("registry.ring_point", name=name, number=number, point=str(point)[:80]))
        found.append((float(point[0]), float(point[1])))
    if found[0] != found[-1]:
        ends = {"first": list(found[0]), "last": list(found[-1])}
        raise ConfigurationError(say("registry.ring_open", name=name, **ends))
    placed = []
    for number, point in enumerate(found, 1):
        try:
            placed.append(place(*point))
        except ConfigurationError as error:
            raise ConfigurationError(at(f"{name}.{number}", error.text)) from None
    return tuple(placed)


def _inside(ring: Ring, lon: float, lat: float) -> bool:
    """Whether a ring goes around a place (even-odd rule)."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise(ring):
        if (y1 > lat) is not (y2 > lat) and lon < (x2 - x1) * (lat - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


def _box(outline: Outline) -> tuple[float, float, float, float]:
    """The least and largest lon and lat: west, south, east, north."""
    lons, lats = zip(*(point for rings in outline for point in rings[0]), strict=True)
    return min(lons), min(lats), max(lons), max(lats)


def _segments(outline: Outline) -> np.ndarray:
    """All edges, (n, 4): lon, lat of both ends."""
    rings = [np.array(ring) for rings in outline for ring in rings]
    return np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])


def _crossing(rings: Sequence[Ring]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Two edges of a polygon that cross, each as (ring, number of its first point), from 1; None where none do.

    An edge crosses another within both, or at a corner of the one that lies within the other. What merely touches (a
    corner that is passed twice, a hole in a corner) encloses the same places and is let be.
    """
    edges = _segments((tuple(rings),))
    names = [(r, n) for r, ring in enumerate(rings, 1) for n in range(1, len(ring))]
    following = np.concatenate([np.roll(np.array(ring[1:]), -1, axis=0) for ring in rings])  # the corner after the edge
    west, south = np.minimum(edges[:, :2], edges[:, 2:]).T
    east, north = np.maximum(edges[:, :2], edges[:, 2:]).T
    order = np.argsort(west, kind="stable")
    begins = west[order]
    for place, i in enumerate(order):
        others = order[place + 1 : np.searchsorted(begins, east[i], side="right")]
        others = others[(south[others] <= north[i]) & (north[others] >= south[i])]
        a, b = edges[i, :2], edges[i, 2:]
        c, d = edges[others, :2], edges[others, 2:]
        c_side, d_side = _side(a, b, c), _side(a, b, d)
        a_side, b_side = _side(c, d, a), _side(c, d, b)
        cut = (c_side * d_side < 0) & (a_side * b_side < 0)
        cut |= (d_side == 0) & (c_side * _side(a, b, following[others]) < 0) & _between(a, b, d)
        cut |= (b_side == 0) & (a_side * _side(c, d, following[i]) < 0) & _between(c, d, b)
        if cut.any():
            first, second = sorted((names[i], names[others[int(np.argmax(cut))]]))
            return first, second
    return None


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """On which side of the line from a to b points lie: 1 left, -1 right, 0 on it, exactly so for a and b."""
    (ax, ay), (bx, by), (x, y) = a.T, b.T, point.T
    return np.asarray(np.sign((bx - ax) * (y - ay) - (by - ay) * (x - ax)))


def _between(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Whether a point on the line from a to b lies between them, and is neither."""
    (ax, ay), (bx, by), (x, y) = a.T, b.T, point.T
    along, length = (x - ax) * (bx - ax) + (y - ay) * (by - ay), (bx - ax) ** 2 + (by - ay) ** 2
    return np.asarray((along > 0) & (along < length))


def _border_m(outline: Outline, lon: float, lat: float) -> float:
    """Metres from a place to the nearest border."""
    scale = np.array([KM_PER_DEGREE * 1000 * math.cos(math.radians(lat)), KM_PER_DEGREE * 1000])
    edges = _segments(outline)
    begin, end = (edges[:, :2] - (lon, lat)) * scale, (edges[:, 2:] - (lon, lat)) * scale
    along = end - begin
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(-(begin * along).sum(axis=1) / length, 0.0, 1.0)
    return float(np.sqrt(((begin + share[:, None] * along) ** 2).sum(axis=1)).min())


def _inner_points(outline: Outline) -> list[Point]:
    """A point well inside each polygon: the middle of the widest stretch half way up."""
    found = []
    for rings in outline:
        lats = sorted({lat for _, lat in rings[0]})
        if len(lats) < 2:
            continue
        lat = next(((a + b) / 2 for a, b in pairwise(lats) if b >= (lats[0] + lats[-1]) / 2), lats[0])
        crossings = sorted(
            (x2 - x1) * (lat - y1) / (y2 - y1) + x1
            for ring in rings
            for (x1, y1), (x2, y2) in pairwise(ring)
            if (y1 > lat) is not (y2 > lat)
        )
        stretches = list(zip(crossings[::2], crossings[1::2], strict=False))
        if stretches:
            west, east = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
            found.append(((west + east) / 2, lat))
    return found


def _points_between_crossings(one: Outline, other: Outline) -> list[Point]:
    """The corners of one outline, and the middle of each piece of its edges between crossings with the other's."""
    found: list[Point] = []
    theirs = _segments(other)
    for x1, y1, x2, y2 in _segments(one):
        found.append((float(x1), float(y1)))
        dx, dy = x2 - x1, y2 - y1
        ex, ey = theirs[:, 2] - theirs[:, 0], theirs[:, 3] - theirs[:, 1]
        across = dx * ey - dy * ex
        with np.errstate(divide="ignore", invalid="ignore"):
            share = ((theirs[:, 0] - x1) * ey - (theirs[:, 1] - y1) * ex) / across
            there = ((theirs[:, 0] - x1) * dy - (theirs[:, 1] - y1) * dx) / across
        cut = share[(across != 0) & (share > 0) & (share < 1) & (there >= 0) & (there <= 1)]
        marks = np.concatenate([[0.0], np.sort(cut), [1.0]])
        found += [(float(x1 + m * dx), float(y1 + m * dy)) for m in (marks[:-1] + marks[1:]) / 2]
    return found
