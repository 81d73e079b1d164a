"""In which order to go to several places so that the way is short. Pure."""

from collections.abc import Sequence
from itertools import pairwise

from sensors.network import distance_km

Point = tuple[float, float]


def order(places: Sequence[Point], first: int = 0) -> list[int]:
    """The numbers of the places (lon, lat) in the order of a short way that begins at ``first`` and need not come back.

    The nearest next, then parts of the way are turned round while that makes it shorter (2-opt). As the crow flies:
    good enough to order a day's stations, no substitute for a road map.
    """
    if not places:
        return []
    way, left = [first], set(range(len(places))) - {first}
    while left:
        near = min(left, key=lambda one: (distance_km(places[way[-1]], places[one]), one))
        way.append(near)
        left.remove(near)
    shorter = True
    while shorter:
        shorter = False
        for i in range(1, len(way) - 1):
            for j in range(i + 1, len(way)):
                turned = way[:i] + way[i : j + 1][::-1] + way[j + 1 :]
                if length(places, turned) < length(places, way) - 1e-9:
                    way, shorter = turned, True
    return way


def length(places: Sequence[Point], way: Sequence[int]) -> float:
    """The length of a way through places, km."""
    return sum(distance_km(places[a], places[b]) for a, b in pairwise(way))
