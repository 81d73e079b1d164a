"""Tree of regions: what lies in a region, what is one level up, to which region a point belongs. Pure.

The regions are registered with the stations (`sensors.network.Region`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.texts import Text, same
from sensors.network import Level, Region, distance_km
from sensors.region_outline import contains
from sensors.stations import Station

NEAREST_STATION_KM = 2.0
"""A point belongs to the region of the nearest station only within this distance. Our choice."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, as far as known: a region's code, a reach's key, WGS 84 degrees."""

    region: str = ""
    reach: str = ""
    lon: float | None = None
    lat: float | None = None


NOWHERE = Place()


class Regions:
    """The registered regions of all levels. A code that is not registered has no parent, and nothing lies in it."""

    def __init__(self, regions: Iterable[Region] = (), stations: Iterable[Station] = ()) -> None:
        self._known: Mapping[str, Region] = {r.code: r for r in regions}
        self._stations = tuple(s for s in stations if s.region)
        self._below: dict[str, list[str]] = {}
        for region in self._known.values():
            if region.parent:
                self._below.setdefault(region.parent, []).append(region.code)

    def __contains__(self, code: str) -> bool:
        return code in self._known

    def __getitem__(self, code: str) -> Region:
        return self._known[code]

    def name(self, code: str) -> Text:
        """What a region is called; its code where it is not registered."""
        region = self._known.get(code)
        return Text(region.zh, region.en) if region else same(code)

    def parent(self, code: str) -> str:
        """The region one level up; "" above the highest and for unknown codes."""
        region = self._known.get(code)
        return (region.parent or "") if region else ""

    def up(self, code: str) -> tuple[str, ...]:
        """The region and all above it, nearest first."""
        found: list[str] = []
        while code and code not in found:
            found.append(code)
            code = self.parent(code)
        return tuple(found)

    def depth(self, code: str) -> int:
        """How many regions lie above a region; 0 for the highest and for ""."""
        return max(0, len(self.up(code)) - 1)

    def within(self, code: str) -> frozenset[str] | None:
        """The codes of a region and all below it; None, everything, for "" and for a region above which nothing is."""
        if not code:
            return None
        region = self._known.get(code)
        if region is not None and not region.parent and region.level is Level.DISTRICT:
            return None
        found: set[str] = set()
        ahead = [code]
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self._below.get(one, ())
        return frozenset(found)

    def below(self, code: str, level: Level) -> tuple[str, ...]:
        """The regions of a level within a region, in order; of all there are for "" and the highest."""
        within = self.within(code)
        found = (
            one for one, region in self._known.items() if region.level is level and (within is None or one in within)
        )
        return tuple(sorted(found))

    def common(self, codes: Iterable[str]) -> str:
        """The lowest region in which all of these lie; "" where there is none."""
        ways = [self.up(code) for code in codes if code]
        if not ways:
            return ""
        return next((code for code in ways[0] if all(code in way for way in ways[1:])), "")

    def along(self, reach: str) -> str:
        """The lowest region in which all stations of a reach lie; "" where none of them says where it lies."""
        return self.common(station.region for station in self._stations if reach and station.reach == reach)

    def of_station(self, station: Station) -> str:
        """The region that a station lies in: the lowest whose outline holds its point, and else the one it names.

        Where it names a region below that one, the one it names.
        """
        drawn = (r for r in self._known.values() if r.outline and contains(r.outline, station.lon, station.lat))
        found = max(drawn, key=lambda region: (region.level, region.code), default=None)
        return station.region if found is None or found.code in self.up(station.region) else found.code

    def at(self, lon: float, lat: float) -> str:
        """The region of a point: the lowest whose outline holds it, and below that the one of the nearest station.

        A station counts within ``NEAREST_STATION_KM`` where no outline of its region or above excludes the point. ""
        where neither applies.
        """
        drawn = {region.code: contains(region.outline, lon, lat) for region in self._known.values() if region.outline}
        holding = [code for code, holds in drawn.items() if holds]
        found = max(holding, key=lambda code: (self._known[code].level, code), default="")
        best, least = found, NEAREST_STATION_KM
        for station in self._stations:
            km = distance_km((lon, lat), (station.lon, station.lat))
            way = self.up(station.region)
            if km <= least and all(drawn.get(code, True) for code in way) and (not found or found in way):
                best, least = station.region, km
        return best
