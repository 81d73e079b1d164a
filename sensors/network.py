"""River network beside its reaches: travel times, outfalls, administrative regions, and distances.

Pure. The graph is walked downstream only; tidal water that runs back is no edge of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import pairwise
from math import cos, hypot, radians

KM_PER_DEGREE = 111.195
"""Of a great circle, mean Earth."""


class OutfallKind(StrEnum):
    """What an outfall (排口) discharges."""

    STORM = "storm"
    """雨水排口"""
    SEWAGE = "sewage"
    """生活污水排口"""
    COMBINED = "combined"
    """合流排口"""
    INDUSTRIAL = "industrial"
    """工业排口"""
    PLANT = "plant"
    """污水处理厂排口"""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Outfall:
    """A 排口: ``km`` down its reach from the upper end, along its line."""

    key: str
    zh: str
    en: str
    reach: str
    km: float
    kind: OutfallKind = OutfallKind.OTHER
    note: str = ""


@dataclass(frozen=True, slots=True)
class Travel:
    """How long water takes from the upper end of one reach to that of another below it, in seconds."""

    upper: str
    lower: str
    least_s: int
    typical_s: int
    most_s: int
    note: str = ""


class Level(IntEnum):
    """The five levels of the river-chief system, highest first."""

    DISTRICT = 1
    STREET = 2
    AREA = 3
    COMMUNITY = 4
    GRID = 5

    @property
    def key(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Region:
    """A region of one of the five levels: district 区, street 镇街, area 片区, community 村居, grid 网格."""

    code: str
    zh: str
    en: str
    level: Level
    parent: str | None = None
    note: str = ""
    outline: tuple[tuple[tuple[tuple[float, float], ...], ...], ...] = ()
    """Polygons in WGS 84 (`sensors.region_outline`); empty where nobody gave any."""


def length_km(line: Sequence[tuple[float, float]]) -> float:
    """The length of a polyline of (lon, lat) in km; a creek is short enough for a flat Earth."""
    return sum(_steps_km(line))


def point_at_km(line: Sequence[tuple[float, float]], km: float) -> tuple[float, float]:
    """The point (lon, lat) ``km`` down a polyline; its ends for what lies beyond them."""
    left = max(km, 0.0)
    for (a, b), step in zip(pairwise(line), _steps_km(line), strict=True):
        if left <= step and step > 0:
            share = left / step
            return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
        left -= step
    return line[-1]


def _steps_km(line: Sequence[tuple[float, float]]) -> list[float]:
    return [distance_km(a, b) for a, b in pairwise(line)]


def distance_to_line_km(line: Sequence[tuple[float, float]], lon: float, lat: float) -> float:
    """Distance of a place from a polyline of (lon, lat), in km."""
    return distance_km((lon, lat), point_at_km(line, along_km(line, lon, lat)))


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Kilometres between two places (lon, lat) that are near each other, on a sphere of the Earth's mean radius."""
    return KM_PER_DEGREE * hypot((b[0] - a[0]) * cos(radians((a[1] + b[1]) / 2)), b[1] - a[1])


def nodes_on_cycles(edges: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes that lie on a cycle of the edges."""
    below: dict[str, set[str]] = {}
    for upper, lower in edges:
        below.setdefault(upper, set()).add(lower)
    return {node for node in below if node in reachable(below, node)}


def reachable(below: Mapping[str, Iterable[str]], node: str) -> set[str]:
    """All nodes below ``node``; itself only where it lies on a cycle."""
    found: set[str] = set()
    ahead = list(below.get(node, ()))
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += below.get(one, ())
    return found


def along_km(line: Sequence[tuple[float, float]], lon: float, lat: float) -> float:
    """How far down a polyline of (lon, lat) its point nearest to a place lies, in km; 0 for a line of one point."""
    shrink = cos(radians(lat))
    nearest, place, done = float("inf"), 0.0, 0.0
    for (a, b), step in zip(pairwise(line), _steps_km(line), strict=True):
        dx, dy = (b[0] - a[0]) * shrink, b[1] - a[1]
        px, py = (lon - a[0]) * shrink, lat - a[1]
        square = dx * dx + dy * dy
        share = min(1.0, max(0.0, (px * dx + py * dy) / square)) if square else 0.0
        away = hypot(px - share * dx, py - share * dy)
        if away < nearest:
            nearest, place = away, done + share * step
        done += step
    return place
