"""Which stations are neighbours along the river, by index."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

Neighbours = Mapping[int, Sequence[int]]
"""Station → the next stations above and below it, by index."""

NO_NEIGHBOURS: Final[Neighbours] = {}
"""No station has a neighbour."""


def neighbour_stations(edges: Iterable[Sequence[int]]) -> dict[int, list[int]]:
    """The next stations above and below each, of edges (station above, station below, ms from one to the other)."""
    nearest: dict[int, tuple[int, list[int]]] = {}
    for above, below, ms, *_ in edges:
        least, found = nearest.get(below, (ms, []))
        if ms <= least:
            nearest[below] = (ms, [*(found if ms == least else ()), above])
    beside: dict[int, list[int]] = {}
    for below, (_, found) in nearest.items():
        for above in found:
            beside.setdefault(below, []).append(above)
            beside.setdefault(above, []).append(below)
    return {one: sorted(set(found) - {one}) for one, found in beside.items()}


def connected_groups(stations: int, edges: Iterable[Sequence[int]]) -> list[list[int]]:
    """The stations, by index, in groups that are joined by edges; most stand alone."""
    group = list(range(stations))
    for above, below, *_ in edges:
        gone, kept = group[below], group[above]
        group = [kept if one == gone else one for one in group]
    members: dict[int, list[int]] = {}
    for one, number in enumerate(group):
        members.setdefault(number, []).append(one)
    return list(members.values())
