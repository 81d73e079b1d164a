"""Which exceedance upstream explains one further downstream, by travel time. Pure.

Water is assumed to flow down the river graph. Where the tide reverses the flow and the lower station detects it first,
neither explains the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sensors.network import length_km, point_at_km
from sensors.stations import Reach, Registry, Station

SPEEDS_M_S = (1.0, 0.2, 0.05)
"""Fastest, typical and slowest flow where no travel time is registered (our assumption for lowland creeks)."""

OXYGEN_DEMAND = frozenset({"nh3n", "codmn", "codcr", "bod5"})
"""Parameters whose exceedance explains low oxygen further downstream."""

_LINE_STEPS = 50
"""Points along a reach among which the one nearest to a station is searched."""


@dataclass(frozen=True, slots=True)
class FlowPath:
    """Travel time from one station to another below it: shortest, typical, longest (ms)."""

    least_ms: int
    typical_ms: int
    most_ms: int


@dataclass(frozen=True, slots=True)
class OpenExceedance:
    """An exceedance at a station, within the incident of ``cause``; ``end_ms`` None while it lasts."""

    cause: str
    station: str
    parameter: str
    since_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class UpstreamCause:
    """The exceedance upstream that explains another one."""

    by: OpenExceedance
    upper: Station
    way: FlowPath


class River:
    """The stations and travel times along the reaches of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ways: dict[str, dict[str, FlowPath]] = {}

    @cached_property
    def _reaches(self) -> dict[str, Reach]:
        return {reach.key: reach for reach in self._registry.reaches}

    @cached_property
    def _travels(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        return {(t.upper, t.lower): (t.least_s, t.typical_s, t.most_s) for t in self._registry.travels}

    @cached_property
    def _on(self) -> dict[str, list[Station]]:
        found: dict[str, list[Station]] = {}
        for station in self._registry.stations:
            if station.reach in self._reaches:
                found.setdefault(station.reach, []).append(station)
        return found

    @cached_property
    def _share(self) -> dict[str, float]:
        """Station → its position along its reach, 0 at the upper end to 1."""
        return {s.key: _position(self._reaches[key].line, s) for key, stations in self._on.items() for s in stations}

    def above(self, station: Station) -> dict[str, FlowPath]:
        """The stations above one, with the travel time down to it; empty where its reach is unknown."""
        if station.key not in self._ways:
            self._ways[station.key] = self._paths_to(station) if station.reach in self._reaches else {}
        return self._ways[station.key]

    def __contains__(self, key: str) -> bool:
        return key in self._registry

    def station(self, key: str) -> Station:
        return self._registry[key]

    def has_above(self, key: str) -> bool:
        """Whether any station lies above this one."""
        return key in self._registry and bool(self.above(self._registry[key]))

    def _paths_to(self, station: Station) -> dict[str, FlowPath]:
        share = self._share[station.key]
        found: dict[str, FlowPath] = {}
        for other in self._on[station.reach]:
            if self._share[other.key] < share:
                found[other.key] = _path(self._travel_s(station.reach), share - self._share[other.key])
        ahead = [(r.key, _scaled(self._travel_s(station.reach), share)) for r in self._inflows(station.reach)]
        visited = {station.reach}
        while ahead:
            reach, below = ahead.pop()
            if reach in visited:
                continue
            visited.add(reach)
            travel_s = self._travel_s(reach)
            for other in self._on.get(reach, ()):
                part = _scaled(travel_s, 1 - self._share[other.key])
                found[other.key] = FlowPath(*(round(1000 * (a + b)) for a, b in zip(part, below, strict=True)))
            total = tuple(a + b for a, b in zip(travel_s, below, strict=True))
            ahead += [(r.key, (total[0], total[1], total[2])) for r in self._inflows(reach)]
        return found

    def _inflows(self, key: str) -> list[Reach]:
        return [reach for reach in self._registry.reaches if reach.downstream == key]

    def _travel_s(self, key: str) -> tuple[float, float, float]:
        """Seconds from the upper to the lower end of a reach: shortest, typical, longest."""
        reach = self._reaches[key]
        if reach.downstream is not None and (registered := self._travels.get((key, reach.downstream))):
            least, typical, most = registered
            return float(least), float(typical), float(most)
        metres = 1000 * length_km(reach.line)
        least_s, typical_s, most_s = (metres / speed for speed in SPEEDS_M_S)
        return least_s, typical_s, most_s

    def explain(
        self, station: Station, parameter: str, since_ms: int, crossings: Iterable[OpenExceedance], now_ms: int
    ) -> UpstreamCause | None:
        """The exceedance upstream that explains one of ``parameter`` at ``station`` since ``since_ms``: that of the
        nearest station whose water, by travel time, arrives now. None where there is none."""
        ways = self.above(station)
        found = []
        for one in crossings:
            if one.station not in ways or not _leads_to(one.parameter, parameter):
                continue
            way, upper = ways[one.station], self._registry[one.station]
            slack_ms = 2000 * max(station.interval_s, upper.interval_s)
            end_ms = now_ms if one.end_ms is None else one.end_ms
            if one.since_ms + way.least_ms - slack_ms <= since_ms <= end_ms + way.most_ms + slack_ms:
                found.append(UpstreamCause(one, upper, way))
        return min(found, key=lambda e: (e.way.typical_ms, -e.by.since_ms), default=None)


def _leads_to(upper: str, lower: str) -> bool:
    """Whether an exceedance of ``upper`` can cause one of ``lower``; an event without a parameter can cause any."""
    return upper in ("", lower) or (lower == "do" and upper in OXYGEN_DEMAND)


def _scaled(travel_s: tuple[float, float, float], share: float) -> tuple[float, float, float]:
    return travel_s[0] * share, travel_s[1] * share, travel_s[2] * share


def _path(travel_s: tuple[float, float, float], share: float) -> FlowPath:
    return FlowPath(*(round(1000 * one) for one in _scaled(travel_s, share)))


def _position(line: Sequence[tuple[float, float]], station: Station) -> float:
    """The share of the line at which it is nearest to the station."""
    whole = length_km(line)
    if not whole:
        return 0.0
    places = [point_at_km(line, whole * i / _LINE_STEPS) for i in range(_LINE_STEPS + 1)]
    far = [(lon - station.lon) ** 2 + (lat - station.lat) ** 2 for lon, lat in places]
    return far.index(min(far)) / _LINE_STEPS
