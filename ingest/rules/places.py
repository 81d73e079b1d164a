"""What a registry says of the places rules speak of: regions around a station, target classes."""

from functools import cached_property

from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station


class Places:
    """One registry, asked about stations."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    @cached_property
    def _parents(self) -> dict[str, str | None]:
        return {region.code: region.parent for region in self.registry.regions}

    @cached_property
    def _targets(self) -> dict[str, WaterClass | None]:
        return {reach.key: reach.target for reach in self.registry.reaches}

    def regions(self, station: Station) -> tuple[str, ...]:
        """The codes of the regions a station lies in, the smallest first."""
        return self.around(station.region)

    def around(self, code: str) -> tuple[str, ...]:
        """A region and those around it, the smallest first."""
        found: list[str] = []
        here: str | None = code
        while here and here not in found:
            found.append(here)
            here = self._parents.get(here)
        return tuple(found)

    def target(self, station: Station) -> WaterClass | None:
        """The class the station's reach is to reach (水质目标); None where none is set."""
        return self._targets.get(station.reach)
