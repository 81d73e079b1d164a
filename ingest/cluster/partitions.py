"""Which stations one worker processes together: the connected parts of the river network. Pure.

Checks look at neighbours, at what lies upstream and at the stations of one gateway, so these belong into one partition.
A part of the network larger than a partition should be is split between reaches, the ends of the tributaries first;
across such a boundary an exceedance still joins the incident upstream, which is read from the database, but sudden
events are not confirmed by the stations on the other side.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from zlib import crc32

from sensors.stations import Registry, Station

MAX_LOAD = 1.25
"""A partition holds at most so many times its equal share of the stations, where groups allow; below that no station
moves."""

Group = tuple[str, ...]
"""Stations that stay together, in order."""


def plan(registry: Registry, count: int, previous: Mapping[str, int] | None = None) -> dict[str, int]:
    """The partition (0 to ``count`` - 1) of each station.

    The same registry gives the same plan. With a ``previous`` one a group stays where most of its stations were, unless
    that partition would be more than full.
    """
    before = previous or {}
    share = max(1, ceil(len(registry.stations) / count))
    load = [0] * count
    found: dict[str, int] = {}
    for group in sorted(groups(registry, share), key=lambda one: (-len(one), one)):
        homes = Counter(before[key] for key in group if before.get(key, count) < count)
        home = min(homes, key=lambda one: (-homes[one], one), default=None)
        if home is None or load[home] + len(group) > max(len(group), MAX_LOAD * share):
            home = min(range(count), key=lambda one: (load[one], one))
        load[home] += len(group)
        found |= dict.fromkeys(group, home)
    return found


def partition_of(routes: Mapping[str, int], station: str, count: int) -> int:
    """The partition of a station; one that is not registered has a fixed one by its name."""
    return routes.get(station, crc32(station.encode("utf-8", "replace")) % count)


def groups(registry: Registry, most: int) -> list[Group]:
    """The stations that stay together; a group exceeds ``most`` only where one reach or gateway does."""
    on_reach: dict[str, list[Station]] = defaultdict(list)
    for station in sorted(registry.stations, key=lambda one: one.key):
        on_known_reach = registry.reach(station.reach) is not None
        on_reach[station.reach if on_known_reach else f"\0{station.key}"].append(station)
    below = {reach.key: reach.downstream for reach in registry.reaches}
    gateways = _reaches_of_gateways(on_reach)
    found: list[Group] = []
    for part in _connected([*below, *on_reach], [*_edges(below), *gateways]):
        size = sum(len(on_reach[reach]) for reach in part)
        for piece in [part] if size <= most else _split(part, below, gateways, on_reach, most):
            if stations := sorted(one.key for reach in piece for one in on_reach[reach]):
                found.append(tuple(stations))
    return sorted(found)


def _edges(below: Mapping[str, str | None]) -> list[tuple[str, str]]:
    return [(upper, lower) for upper, lower in below.items() if lower is not None and lower in below]


def _reaches_of_gateways(on_reach: Mapping[str, Sequence[Station]]) -> list[tuple[str, str]]:
    """Pairs of reaches with stations of one gateway: its silence is one incident."""
    first: dict[str, str] = {}
    return [
        (first[station.gateway], reach)
        for reach in sorted(on_reach)
        for station in on_reach[reach]
        if station.gateway and first.setdefault(station.gateway, reach) != reach
    ]


def _connected(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The connected parts of a graph, each sorted, in the order of their first nodes."""
    beside: dict[str, list[str]] = {node: [] for node in nodes}
    for one, other in edges:
        beside[one].append(other)
        beside[other].append(one)
    parts: list[list[str]] = []
    seen: set[str] = set()
    for node in sorted(beside):
        part, ahead = [], [node]
        while ahead:
            one = ahead.pop()
            if one not in seen:
                seen.add(one)
                part.append(one)
                ahead += beside[one]
        if part:
            parts.append(sorted(part))
    return parts


def _split(
    part: Sequence[str],
    below: Mapping[str, str | None],
    gateways: Iterable[tuple[str, str]],
    on_reach: Mapping[str, Sequence[Station]],
    most: int,
) -> list[list[str]]:
    """A connected part as pieces of at most ``most`` stations where reaches and gateways allow.

    From the upper ends downwards: what came together above a reach is cut off before it would exceed ``most``.
    """
    units = _connected(part, [pair for pair in gateways if pair[0] in part])  # reaches that a gateway ties together
    unit_of = {reach: i for i, unit in enumerate(units) for reach in unit}
    size = [sum(len(on_reach[reach]) for reach in unit) for unit in units]
    above: list[set[int]] = [set() for _ in units]
    for upper, lower in _edges({reach: below.get(reach) for reach in part}):
        if unit_of[upper] != unit_of[lower]:
            above[unit_of[lower]].add(unit_of[upper])
    pieces: list[list[str]] = []
    held: list[list[int]] = [[] for _ in units]  # units that are still joined to this one, itself among them
    for i in _upper_first(above):
        joined, total = [i], size[i]
        for j in sorted(above[i], key=lambda one: (_total(held[one], size), one)):
            more = _total(held[j], size)
            if total + more <= most:
                joined, total = joined + held[j], total + more
                held[j] = []
        held[i] = joined
    pieces += [[reach for one in together for reach in units[one]] for together in held if together]
    return pieces


def _total(units: Iterable[int], size: Sequence[int]) -> int:
    return sum(size[one] for one in units)


def _upper_first(above: Sequence[Iterable[int]]) -> list[int]:
    """The units so that each comes after those above it; a cycle is entered at its lowest number."""
    order: list[int] = []
    seen: set[int] = set()
    for start in range(len(above)):
        ahead = [(start, False)]
        while ahead:
            unit, done = ahead.pop()
            if done:
                order.append(unit)
            elif unit not in seen:
                seen.add(unit)
                ahead.append((unit, True))
                ahead += [(one, False) for one in sorted(above[unit]) if one not in seen]
    return order
