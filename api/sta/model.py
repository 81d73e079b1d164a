"""How the registry is shown as entities: what each kind has, and how it hangs together, for both versions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from infra.times import TIME_BITS, rfc3339
from ingest.storage.port import Latest
from sensors.parameters import Parameter
from sensors.stations import Deployment, Device, Registry, Station

TEXT, NUMBER, TIME, JSON = "text", "number", "time", "json"
FOREVER_MS = 2**TIME_BITS
GEOJSON = {"1.1": "application/geo+json", "2.0": "application/geo+json"}
UNSPECIFIED = "unspecified"
"""The sensor of readings whose instrument nobody registered."""
MEASUREMENT = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"
UCUM = {
    "°C": "Cel",
    "µS/cm": "uS/cm",
    "m³/s": "m3/s",
    "µg/L": "ug/L",
    "NTU": "{NTU}",
    "QSU": "{QSU}",
    "psu": "{psu}",
    "10⁴ cells/L": "10*4/L",
    "count/L": "/L",
}
"""Units as UCUM spells them, where that differs from the catalogue."""


@dataclass(frozen=True, slots=True)
class Link:
    """A navigation property: the entity set that it leads to, and whether to many."""

    to: str
    many: bool = True


@dataclass(frozen=True)
class Kind:
    """An entity set: what its entities have and where they lead."""

    name: str
    properties: Mapping[str, str]
    links: Mapping[str, Link] = field(default_factory=dict)


_NAMED = {"id": TEXT, "name": TEXT, "description": TEXT}
_MORE = {"properties": JSON}
_QUALITY = {"1.1": {"resultQuality": JSON}, "2.0": {"properties": JSON}}


def kinds(version: str) -> dict[str, Kind]:
    """The entity sets of a version, by name."""
    old = version == "1.1"
    feature = "FeaturesOfInterest" if old else "Features"
    measured = {"observationType": TEXT, "unitOfMeasurement": JSON} if old else {"resultType": JSON}
    single = {"Thing": Link("Things", False), "Sensor": Link("Sensors", False)}
    observed = {"ObservedProperty": Link("ObservedProperties", False)}
    of_stream = {"FeatureOfInterest" if old else "ProximateFeatureOfInterest": Link(feature, False)}
    history = {"HistoricalLocations": Link("HistoricalLocations")}
    streams, readings = {"Datastreams": Link("Datastreams")}, {"Observations": Link("Observations")}
    made = (
        Kind("Things", _NAMED | _MORE, {"Locations": Link("Locations")} | history | streams),
        Kind(
            "Locations",
            _NAMED | {"encodingType": TEXT, "location": JSON} | _MORE,
            {"Things": Link("Things")} | history,
        ),
        Kind(
            "HistoricalLocations",
            {"id": TEXT, "time": TIME},
            {"Thing": Link("Things", False), "Locations": Link("Locations")},
        ),
        Kind(
            "Datastreams",
            _NAMED | measured | {"observedArea": JSON} | _MORE,
            single | (observed if old else {"ObservedProperties": Link("ObservedProperties")} | of_stream) | readings,
        ),
        Kind("Sensors", _NAMED | {"encodingType": TEXT, "metadata": TEXT} | _MORE, streams),
        Kind("ObservedProperties", _NAMED | {"definition": TEXT} | _MORE, streams),
        Kind(
            "Observations",
            {"id": TEXT, "phenomenonTime": TIME, "resultTime": TIME, "result": NUMBER} | _QUALITY[version],
            {"Datastream": Link("Datastreams", False)} | of_stream,
        ),
        Kind(feature, _NAMED | {"encodingType": TEXT, "feature": JSON} | _MORE, readings if old else {}),
    )
    return {kind.name: kind for kind in made}


@dataclass(frozen=True, slots=True)
class Stream:
    """A parameter at a station from one deployment to the next; the first has what came before it, too."""

    id: str
    station: Station
    parameter: Parameter
    deployment: Deployment | None
    start_ms: int = 0
    end_ms: int = FOREVER_MS


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity; ``subject`` is ours behind it: a station, stream, device, parameter or reach."""

    kind: Kind
    id: str
    row: Mapping[str, Any]
    subject: Any


class Site:
    """The entities of a registry, found by id and by link."""

    def __init__(self, registry: Registry, latest: Iterable[Latest]) -> None:
        self.registry = registry
        series = {(s.key, p) for s in registry.stations for p in s.parameters}
        series |= {(row.station, row.parameter) for row in latest}
        deployed: dict[tuple[str, str], list[Deployment]] = {}
        for one in sorted(registry.deployments, key=lambda d: d.since_ms):
            deployed.setdefault((one.station, one.parameter), []).append(one)
        self._of_station: dict[str, list[Stream]] = {}
        self._of_parameter: dict[str, list[Stream]] = {}
        self._of_sensor: dict[str, list[Stream]] = {}
        self._of_feature: dict[str, list[Stream]] = {}
        self.streams: dict[str, Stream] = {}
        for key, parameter in sorted(series | deployed.keys()):
            if key in registry and parameter in registry.catalogue:
                for stream in _streams(
                    registry[key], registry.catalogue[parameter], deployed.get((key, parameter), [])
                ):
                    self._add(stream)

    def _add(self, stream: Stream) -> None:
        self.streams[stream.id] = stream
        self._of_station.setdefault(stream.station.key, []).append(stream)
        self._of_parameter.setdefault(stream.parameter.key, []).append(stream)
        self._of_sensor.setdefault(self._sensor(stream), []).append(stream)
        self._of_feature.setdefault(self._feature(stream.station), []).append(stream)

    def ids(self, kind: str) -> list[str]:
        """The ids of an entity set, sorted; not of Observations."""
        return list(self._subjects[kind])

    def subject(self, kind: str, key: str) -> Any:
        """What of ours stands behind an entity; None for none."""
        return self._subjects[kind].get(key)

    def stream_at(self, station: str, parameter: str, at_ms: int) -> Stream | None:
        """The stream that a reading belongs to."""
        return next(
            (
                s
                for s in self._of_station.get(station, ())
                if s.parameter.key == parameter and s.start_ms <= at_ms < s.end_ms
            ),
            None,
        )

    def linked(self, kind: str, key: str, subject: Any, link: str) -> list[str]:
        """The ids of the entities that a link leads to."""
        if link == "Datastreams":
            return [s.id for s in self._streams_of(kind, key)]
        if kind in ("Datastreams", "Observations"):
            stream: Stream = subject
            found: dict[str, str] = {
                "Datastream": stream.id,
                "Thing": stream.station.key,
                "Sensor": self._sensor(stream),
                "ObservedProperty": stream.parameter.key,
                "ObservedProperties": stream.parameter.key,
            }
            return [found.get(link) or self._feature(stream.station)]
        return [] if link == "HistoricalLocations" else [key]  # a station is its Thing and its Location

    def streams_of(self, kind: str, key: str) -> list[Stream]:
        """The streams whose observations hang on an entity."""
        return [self.streams[key]] if kind == "Datastreams" else self._of_feature.get(key, [])

    def _streams_of(self, kind: str, key: str) -> list[Stream]:
        by = {"Things": self._of_station, "Sensors": self._of_sensor, "ObservedProperties": self._of_parameter}
        return by[kind].get(key, [])

    def _sensor(self, stream: Stream) -> str:
        device = stream.deployment.device if stream.deployment else ""
        return f"device-{device}" if device in self._devices else UNSPECIFIED

    def _feature(self, station: Station) -> str:
        known = self.registry.reach(station.reach) is not None
        return f"reach-{station.reach}" if known else f"station-{station.key}"

    @cached_property
    def _devices(self) -> dict[str, Device]:
        return {one.serial: one for one in self.registry.devices}

    @cached_property
    def _subjects(self) -> dict[str, dict[str, Any]]:
        stations = {s.key: s for s in sorted(self.registry.stations, key=lambda s: s.key)}
        sensors: dict[str, Any] = {f"device-{d.serial}": d for d in self.registry.devices}
        sensors[UNSPECIFIED] = Device("")
        features: dict[str, Any] = {f"reach-{r.key}": r for r in self.registry.reaches}
        features |= {f"station-{s.key}": s for s in stations.values() if self._feature(s).startswith("station-")}
        parameters = {key: self.registry.catalogue[key] for key in self.registry.catalogue.index}
        features, sensors, parameters, streams = (
            dict(sorted(one.items())) for one in (features, sensors, parameters, self.streams)
        )
        return {
            "Things": stations,
            "Locations": stations,
            "HistoricalLocations": {},
            "Datastreams": streams,
            "Sensors": sensors,
            "ObservedProperties": parameters,
            "FeaturesOfInterest": features,
            "Features": features,
        }


def _streams(station: Station, parameter: Parameter, deployed: list[Deployment]) -> Iterable[Stream]:
    key = f"{station.key}.{parameter.key}"
    if not deployed:
        yield Stream(key, station, parameter, None)
    for i, one in enumerate(deployed):
        end_ms = deployed[i + 1].since_ms if i + 1 < len(deployed) else FOREVER_MS
        if i == 0:
            yield Stream(key, station, parameter, one, 0, end_ms)
        else:
            yield Stream(f"{key}.{rfc3339(one.since_ms)}", station, parameter, one, one.since_ms, end_ms)


# -- what an entity has ------------------------------------------------------------------------------------------------


def stream_id(made: Deployment, registry: Registry) -> str:
    """The id of the stream that begins with a deployment."""
    same = [d for d in registry.deployments if (d.station, d.parameter) == (made.station, made.parameter)]
    ordered = sorted(same, key=lambda d: d.since_ms)
    streams = _streams(registry[made.station], registry.catalogue[made.parameter], ordered)
    return next(stream.id for stream in streams if stream.deployment == made)


def ucum(p: Parameter) -> str:
    """The unit of a parameter as UCUM spells it."""
    return UCUM.get(p.unit, "[pH]" if p.key == "ph" else p.unit)


def sensor_texts(d: Device) -> tuple[str, str, str]:
    """Description, type of the metadata and metadata of a sensor: two lines of the device's note."""
    name = f"{d.model} {d.serial}".strip() or "未登记仪器 instrument not registered"
    description, _, rest = d.note.partition("\n")
    encoding, _, metadata = rest.partition(" ")
    return description or d.manufacturer or name, encoding or "text/plain", metadata or name


def _described(one: Any) -> dict[str, Any]:
    return {"name": one.zh, "description": f"{one.en}; {one.note}" if getattr(one, "note", "") else one.en}


def _thing(s: Station, version: str) -> dict[str, Any]:
    named = ("water", "reach", "region", "interval_s", "gateway", "parameters", "note")
    return {"name": s.zh, "description": s.en, "properties": {name: getattr(s, name) for name in named}}


def _geo(s: Station) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [s.lon, s.lat]}


def _location(s: Station, version: str) -> dict[str, Any]:
    place = {"encodingType": GEOJSON[version], "location": _geo(s), "properties": {}}
    return {"name": s.zh, "description": s.en} | place


def _datastream(s: Stream, version: str) -> dict[str, Any]:
    p, d = s.parameter, s.deployment
    code = ucum(p)
    row: dict[str, Any] = {
        "name": f"{s.station.zh} {p.zh}",
        "description": f"{s.station.en}: {p.en}",
        "observedArea": _geo(s.station),
        "properties": {"station": s.station.key, "parameter": p.key},
    }
    if d is not None:
        until = None if d.until_ms is None else rfc3339(d.until_ms)
        row["properties"] |= {"since": rfc3339(d.since_ms), "until": until, "reported_unit": d.unit}
        row["properties"] |= {"gain": d.gain, "offset": d.offset, "depth_m": d.depth_m, "method": d.method}
        row["properties"] |= {"cycle_s": d.cycle_s}
    if version == "1.1":
        row["observationType"] = MEASUREMENT
        row["unitOfMeasurement"] = {"name": p.unit, "symbol": p.unit, "definition": f"ucum:{code}"}
    else:
        definition = f"ObservedProperties('{p.key}')"
        row["resultType"] = {"type": "Quantity", "label": p.en, "definition": definition, "uom": {"code": code}}
    return row


def _sensor(d: Device, version: str) -> dict[str, Any]:
    name = f"{d.model} {d.serial}".strip() or "未登记仪器 instrument not registered"
    texts = dict(zip(("description", "encodingType", "metadata"), sensor_texts(d), strict=True))
    made = {"serial": d.serial, "model": d.model, "manufacturer": d.manufacturer}
    return {"name": name} | texts | {"properties": made}


def _observed_property(p: Parameter, version: str) -> dict[str, Any]:
    codes = {"hj525": p.code, "hj212_2005": p.code_2005, "unit": p.unit}
    definition = f"urn:riverchief:parameter:{p.key}"
    return {"name": p.zh, "description": p.en, "definition": definition, "properties": codes}


def _feature(one: Any, version: str) -> dict[str, Any]:
    if isinstance(one, Station):
        shape = _geo(one)
    else:
        shape = {"type": "LineString", "coordinates": [list(place) for place in one.line]}
    return _described(one) | {"encodingType": GEOJSON[version], "feature": shape, "properties": {"water": one.water}}


ROWS: Mapping[str, Callable[[Any, str], dict[str, Any]]] = {
    "Things": _thing,
    "Locations": _location,
    "Datastreams": _datastream,
    "Sensors": _sensor,
    "ObservedProperties": _observed_property,
    "FeaturesOfInterest": _feature,
    "Features": _feature,
}
"""Entity set → the properties of an entity, from what of ours stands behind it."""
