"""Stations, their deployments and devices, and the registry that holds them.

A registry is an immutable snapshot: a change makes a new one, and readings already judged keep theirs.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np

from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import rfc3339
from sensors.network import Outfall, Region, Travel
from sensors.parameters import Catalogue
from sensors.quality.detectors.point_tests import FAULT_CODES
from sensors.reading import Batch, Floats, Places
from sensors.standards.gb3838 import WaterClass
from sensors.standards.oxygen import saturation
from sensors.units import IDENTITY, Linear, conversion, needs_temperature
from sensors.wire.telemetry import STATION

RESERVED = frozenset({"latest"})
"""Words that are used in paths in place of a station key."""

MAX_GATEWAY_CHARS = 64
"""Characters of a gateway name."""


class Water(StrEnum):
    """The kind of water body; GB 3838 has other limits for total phosphorus in lakes."""

    RIVER = "river"
    CREEK = "creek"
    LAKE = "lake"


@dataclass(frozen=True, slots=True)
class Station:
    """A place that reports. Coordinates are WGS 84 degrees; ``interval_s`` is the promised spacing of readings.

    ``parameters`` lists what is expected of it (others are stored too); ``gateway`` names the shared logger whose
    failure silences several stations at once; ``region`` is the code of the region whose chief answers for it.
    """

    key: str
    zh: str
    en: str
    lon: float
    lat: float
    reach: str = ""
    water: Water = Water.RIVER
    region: str = ""
    interval_s: int = 300
    gateway: str | None = None
    parameters: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """An instrument, known by the serial number its maker gave it."""

    serial: str
    model: str = ""
    manufacturer: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """From ``since_ms`` on, ``parameter`` at ``station`` reports in ``unit``; then gain and offset are applied.

    It ends at ``until_ms``, or where the next one of its parameter begins; what still arrives after an end is converted
    as before it. ``device`` is the serial number of the instrument, ``depth_m`` below the surface; ``cycle_s`` is the
    spacing of an analyser's results where it is not the station's interval. ``method`` tells NTU (EPA 180.1) from FNU
    (ISO 7027) of turbidity.
    """

    station: str
    parameter: str
    since_ms: int
    unit: str
    gain: float = 1.0
    offset: float = 0.0
    until_ms: int | None = None
    device: str = ""
    depth_m: float | None = None
    cycle_s: int | None = None
    method: str = ""

    @property
    def named(self) -> Text:
        """Parameter, station, span and device, as a sentence names the deployment."""
        until = say("maintenance.until", at=rfc3339(self.until_ms)) if self.until_ms is not None else ""
        device = say("maintenance.with_device", device=self.device) if self.device else ""
        values = {"parameter": self.parameter, "station": self.station, "since": rfc3339(self.since_ms)}
        return say("maintenance.deployment", **values, until=until, device=device)


@dataclass(frozen=True, slots=True)
class Reach:
    """A named stretch of water: a polyline of (lon, lat), upstream first; ``target``: class to reach (水质目标)."""

    key: str
    zh: str
    en: str
    water: Water
    line: tuple[tuple[float, float], ...]
    downstream: str | None = None
    note: str = ""
    target: WaterClass | None = None


MAX_INTERVAL_S = 86_400


def read_station(row: Mapping[str, Any], catalogue: Catalogue) -> Station:
    """Read a station from a row of the registry file or an API body; raises ConfigurationError naming the fault."""
    key = row.get("key")
    if not isinstance(key, str) or not STATION.fullmatch(key):
        raise ConfigurationError(say("registry.bad_key", key=key))
    if key in RESERVED:
        raise ConfigurationError(say("registry.reserved", key=key))
    if unknown := sorted(set(row) - set(Station.__slots__)):
        raise ConfigurationError(say("registry.station_entry", key=key, unknown=unknown[0]))
    lon, lat = _coordinates(key, row)
    interval_s = row.get("interval_s", 300)
    if isinstance(interval_s, bool) or not isinstance(interval_s, int) or not 1 <= interval_s <= MAX_INTERVAL_S:
        raise ConfigurationError(say("registry.bad_interval", key=key, interval_s=interval_s))
    try:
        water = Water(row.get("water", "river"))
    except ValueError:
        raise ConfigurationError(say("registry.bad_water", key=key, water=row["water"])) from None
    parameters = _parameters(key, row, catalogue)
    texts = _texts(key, row)
    return Station(key=key, lon=lon, lat=lat, water=water, interval_s=interval_s, parameters=parameters, **texts)


def _coordinates(key: str, row: Mapping[str, Any]) -> tuple[float, float]:
    lon, lat = (_number(key, row, name) for name in ("lon", "lat"))
    if not -180 <= lon <= 180 or not -90 <= lat <= 90:
        swapped = -90 <= lon <= 90 and -180 <= lat <= 180
        hint = say("registry.swapped") if swapped else ""
        raise ConfigurationError(say("registry.not_on_earth", key=key, lon=lon, lat=lat, hint=hint))
    return lon, lat


def _parameters(key: str, row: Mapping[str, Any], catalogue: Catalogue) -> tuple[str, ...]:
    parameters = row.get("parameters", [])
    if not isinstance(parameters, list | tuple) or not all(isinstance(p, str) for p in parameters):
        raise ConfigurationError(say("registry.bad_list", key=key, parameters=parameters))
    for parameter in parameters:
        if parameter not in catalogue:
            raise ConfigurationError(say("registry.bad_parameter", key=key, parameter=parameter))
    if len(set(parameters)) < len(parameters):
        raise ConfigurationError(say("registry.bad_twice", key=key, parameters=", ".join(parameters)))
    return tuple(parameters)


def _texts(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: row.get(name, default) for name, default in (("zh", key), ("en", key), ("reach", ""), ("note", ""))}
    texts |= {"region": row.get("region", ""), "gateway": row.get("gateway")}
    for name, text in texts.items():
        if not isinstance(text, str) and not (name == "gateway" and text is None):
            raise ConfigurationError(say("registry.bad_text", key=key, name=name, text=text))
    if len(texts["gateway"] or "") > MAX_GATEWAY_CHARS:
        raise ConfigurationError(say("registry.long_gateway", key=key, most=MAX_GATEWAY_CHARS))
    return texts


def _number(key: str, row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= 360:  # false for NaN
        return float(value)
    raise ConfigurationError(say("registry.bad_degrees", key=key, name=name, value=value))


Clash = tuple[Deployment, Deployment, Text]
"""Two deployments that exclude each other, and why."""


def deployment_conflicts(deployments: Iterable[Deployment]) -> list[Clash]:
    """Deployments of one parameter that overlap, and one device at two stations at a time; the later one is second.

    A deployment without an end lasts until the next one of its parameter begins: that is a swap, not an overlap.
    """
    ordered = sorted(deployments, key=lambda d: (d.station, d.parameter, d.since_ms))
    found: list[Clash] = []
    ends: dict[Deployment, int | None] = {d: d.until_ms for d in ordered}
    for earlier, later in pairwise(ordered):
        if (earlier.station, earlier.parameter) != (later.station, later.parameter):
            continue
        if later.since_ms == earlier.since_ms or (earlier.until_ms is not None and earlier.until_ms > later.since_ms):
            found.append((earlier, later, say("maintenance.overlaps")))
        ends[earlier] = min(later.since_ms, later.since_ms if earlier.until_ms is None else earlier.until_ms)
    last: dict[str, Deployment] = {}
    for one in sorted((d for d in ordered if d.device), key=lambda d: d.since_ms):
        before = last.get(one.device)
        if before is not None and before.station != one.station and one.since_ms < _never(ends[before]):
            found.append((before, one, say("maintenance.hangs_elsewhere")))
        if before is None or before.station != one.station or _never(ends[one]) > _never(ends[before]):
            last[one.device] = one
    return found


def _never(until_ms: int | None) -> int:
    return 2**62 if until_ms is None else until_ms


@dataclass(frozen=True)
class Registry:
    """All stations, in the fixed order that a :class:`~sensors.reading.Batch` counts by, and their deployments."""

    stations: tuple[Station, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    reaches: tuple[Reach, ...] = ()
    catalogue: Catalogue = field(repr=False, default_factory=lambda: Catalogue({}))
    devices: tuple[Device, ...] = ()
    outfalls: tuple[Outfall, ...] = ()
    travels: tuple[Travel, ...] = ()
    regions: tuple[Region, ...] = ()
    retired: frozenset[str] = frozenset()
    """Stations that are out of service: known with their readings, but nothing is expected of them."""

    @cached_property
    def in_service(self) -> tuple[Station, ...]:
        """The stations of which readings are expected: only these are counted as on time, late or silent."""
        return tuple(s for s in self.stations if s.key not in self.retired)

    @cached_property
    def index(self) -> dict[str, int]:
        return {s.key: i for i, s in enumerate(self.stations)}

    def __getitem__(self, key: str) -> Station:
        return self.stations[self.index[key]]

    def __contains__(self, key: object) -> bool:
        return key in self.index

    def reach(self, key: str) -> Reach | None:
        """The reach called ``key``; None for none."""
        return self._reaches.get(key)

    @cached_property
    def _reaches(self) -> dict[str, Reach]:
        return {reach.key: reach for reach in self.reaches}

    def with_stations(self, stations: Iterable[Station]) -> Self:
        """A registry in which these stations are new or replaced; the order of those already there stays."""
        merged = {s.key: s for s in self.stations} | {s.key: s for s in stations}
        return replace(self, stations=tuple(merged.values()))

    def only(self, keys: Container[str]) -> Self:
        """The registry with these stations alone; the network stays whole."""
        stations = tuple(s for s in self.stations if s.key in keys)
        return replace(self, stations=stations, deployments=tuple(d for d in self.deployments if d.station in keys))

    @cached_property
    def _in_force(self) -> dict[tuple[int, int], list[tuple[int, Linear]]]:
        """(station, parameter) → [(since, conversion)] ascending, only where something is converted at all."""
        rows: dict[tuple[int, int], list[tuple[int, Linear]]] = {}
        for d in sorted(self.deployments, key=lambda d: d.since_ms):
            if d.station not in self.index:
                raise ConfigurationError(say("registry.deployment_lost", station=d.station))
            rule = deployment_conversion(d, self.catalogue)
            rows.setdefault((self.index[d.station], self.catalogue.index[d.parameter]), []).append((d.since_ms, rule))
        return {key: rules for key, rules in rows.items() if any(rule != IDENTITY for _, rule in rules)}

    @cached_property
    def _in_percent(self) -> dict[int, list[tuple[int, bool]]]:
        """Station → [(since, oxygen comes in % of saturation)] ascending, only where it does at some time."""
        rows: dict[int, list[tuple[int, bool]]] = {}
        for d in sorted(self.deployments, key=lambda d: d.since_ms):
            if d.parameter == "do":
                rows.setdefault(self.index[d.station], []).append((d.since_ms, needs_temperature(d.unit, d.parameter)))
        return {station: rules for station, rules in rows.items() if any(percent for _, percent in rules)}

    def cycles_s(self, at_ms: int) -> dict[str, dict[str, int]]:
        """Station → parameter → spacing of results in seconds, where the deployment in force at ``at_ms`` names one."""
        found: dict[str, dict[str, int]] = {}
        for d in sorted(self.deployments, key=lambda d: d.since_ms):
            if d.since_ms <= at_ms:
                cycles = found.setdefault(d.station, {})
                cycles.pop(d.parameter, None)
                if d.cycle_s is not None and (d.until_ms is None or at_ms < d.until_ms):
                    cycles[d.parameter] = d.cycle_s
        return found

    def canonical(self, batch: Batch) -> Floats:
        """(n,) the values in canonical units, each by the deployment in force at its own time.

        A reading before the first deployment of its series is taken to be in the canonical unit already. Oxygen in
        % of saturation becomes mg/L by temperature and, where there is one, salinity of the same message and instant;
        NaN without a temperature from 0 to 40 °C.
        """
        if not self._in_force and not self._in_percent:
            return batch.value
        value = batch.value.copy()
        code = np.isin(batch.value, FAULT_CODES)  # a logger's fault code is no measurement: -999 cm is not -9.99 m
        for (station_index, parameter_index), rules in self._in_force.items():
            rows = np.flatnonzero((batch.station == station_index) & (batch.parameter == parameter_index))
            if not len(rows):
                continue
            since = np.array([s for s, _ in rules], np.int64)
            which = np.searchsorted(since, batch.at[rows], side="right") - 1
            gain = np.array([1.0] + [r.gain for _, r in rules])
            offset = np.array([0.0] + [r.offset for _, r in rules])
            measured = ~code[rows]
            rows, which = rows[measured], which[measured]
            value[rows] = value[rows] * gain[which + 1] + offset[which + 1]
        for station_index, since_percent in self._in_percent.items():
            oxygen = np.flatnonzero((batch.station == station_index) & (batch.parameter == self.catalogue.index["do"]))
            oxygen = oxygen[~code[oxygen]]
            since = np.array([s for s, _ in since_percent], np.int64)
            percent = np.array([False] + [p for _, p in since_percent])
            oxygen = oxygen[percent[np.searchsorted(since, batch.at[oxygen], side="right")]]
            if len(oxygen):
                temperature = self._beside(batch, value, oxygen, "water_temp", np.nan)
                salinity = self._beside(batch, value, oxygen, "salinity", 0.0)
                value[oxygen] *= saturation(temperature, salinity) / 100.0
        return value

    def _beside(self, batch: Batch, value: Floats, rows: Places, parameter: str, otherwise: float) -> Floats:
        """(rows,) the value of ``parameter`` in the same message at the same instant."""
        its = np.flatnonzero(batch.parameter == self.catalogue.index.get(parameter, -2))
        found = dict(
            zip(zip(batch.message[its].tolist(), batch.at[its].tolist(), strict=True), value[its], strict=True)
        )
        keys = zip(batch.message[rows].tolist(), batch.at[rows].tolist(), strict=True)
        return np.array([found.get(key, otherwise) for key in keys], np.float64)


def deployment_conversion(deployment: Deployment, catalogue: Catalogue) -> Linear:
    """Gain and offset from the reported to the canonical unit; to % of saturation where that is reported.

    Raises ConfigurationError where the unit is none of the parameter.
    """
    d, parameter = deployment, catalogue[deployment.parameter]
    unit = IDENTITY if needs_temperature(d.unit, d.parameter) else conversion(d.unit, parameter.unit, d.parameter)
    return Linear(unit.gain * d.gain, unit.offset * d.gain + d.offset)
