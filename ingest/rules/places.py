"""Regions around a station and the target class of its reach, as rules need them."""

from functools import cached_property

from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station


class Places:
    """Look-ups in one registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    @cached_property
    def _parents(self) -> dict[str, str | None]:
        return {region.code: region.parent for region in self.registry.regions}

    @cached_property
    def _targets(self) -> dict[str, WaterClass | None]:
        return {reach.key: reach.target for reach in self.registry.reaches}

    def regions(self, station: Station) -> tuple[str, ...]:
        """The codes of the regions that contain a station, the smallest first."""
        return self.around(station.region)

    def around(self, code: str) -> tuple[str, ...]:
        """The code of a region and of those that contain it, the smallest first."""
        found: list[str] = []
        here: str | None = code
        while here and here not in found:
            found.append(here)
            here = self._parents.get(here)
        return tuple(found)

    def target(self, station: Station) -> WaterClass | None:
        """The target class (水质目标) of the station's reach; None where none is set."""
        return self._targets.get(station.reach)
