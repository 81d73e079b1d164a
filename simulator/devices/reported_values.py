"""Convert canonical units to what a sensor sends: the conversion of the ingest, inverted. Pure."""

from dataclasses import replace

import numpy as np

from sensors.reading import Floats, Ints
from sensors.stations import Registry
from sensors.units import IDENTITY, Linear, conversion
from sensors.wire.telemetry import Sample


class Reporting:
    """Values as the probes of a registry report them: in the unit, by the gain and offset in force at each instant."""

    def __init__(self, registry: Registry) -> None:
        rules: dict[tuple[str, str], list[tuple[int, Linear]]] = {}
        for d in sorted(registry.deployments, key=lambda d: d.since_ms):
            unit = conversion(d.unit, registry.catalogue[d.parameter].unit)
            rule = Linear(unit.gain * d.gain, unit.offset * d.gain + d.offset)
            rules.setdefault((d.station, d.parameter), []).append((d.since_ms, rule))
        self._rules = {key: of for key, of in rules.items() if any(rule != IDENTITY for _, rule in of)}
        self._stations = {station for station, _ in self._rules}

    def values(self, station: str, parameter: str, at_ms: Ints, values: Floats) -> Floats:
        """(n,) canonical values at ``at_ms`` (n,) as sent; before the first deployment as they are."""
        reported = values
        for since_ms, rule in self._rules.get((station, parameter), ()):
            reported = np.where(at_ms >= since_ms, (values - rule.offset) / rule.gain, reported)
        return reported

    def __call__(self, station: str, sample: Sample) -> Sample:
        """A canonical sample as sent; the sample itself where nothing is converted."""
        if station not in self._stations:
            return sample
        at_ms = np.array([sample.at_ms], np.int64)
        values = {
            key: float(self.values(station, key, at_ms, np.array([value]))[0]) for key, value in sample.values.items()
        }
        return replace(sample, values=values)
