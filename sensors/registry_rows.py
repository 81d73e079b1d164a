"""Read the rows of a registry, from any file or request, into stations, reaches, …; and write them back into rows.

Pure. All bad rows are reported together, so that a file is repaired in one go.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from infra.errors import ConfigurationError
from infra.texts import Text, at, joined, say
from infra.times import from_ms, rfc3339, to_ms
from sensors import maintenance, network, region_outline
from sensors.datum import Box, Datum, wgs84
from sensors.maintenance import Check, MaintenanceRecords, Visit
from sensors.network import Level, Outfall, OutfallKind, Region, Travel
from sensors.parameters import Catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.standards.hj915 import CheckKind
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water, deployment_conflicts, read_station
from sensors.units import conversion, needs_temperature

MAX_KEY_CHARS = 64

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "region": ("code", "zh", "en", "level", "parent", "note", "outline", "datum"),
    "reach": ("key", "zh", "en", "water", "line", "datum", "downstream", "target", "note"),
    "travel": ("upper", "lower", "least_s", "typical_s", "most_s", "note"),
    "outfall": ("key", "zh", "en", "reach", "km", "type", "note"),
    "device": ("serial", "model", "manufacturer", "note"),
    "station": (
        *("key", "zh", "en", "lon", "lat", "datum", "reach", "water", "region"),
        *("interval_s", "gateway", "parameters", "note"),
    ),
    "deployment": (
        *("station", "parameter", "since", "until", "unit", "gain", "offset"),
        *("device", "depth_m", "cycle_s", "method"),
    ),
    "check": (
        *("station", "parameter", "type", "at", "standard", "reading", "after", "before", "span", "limit"),
        *("device", "lot", "by", "note", "void"),
    ),
    "visit": ("station", "since", "until", "parameters", "by", "note"),
}
"""Columns of each kind of row; each kind refers only to those above it."""

_METHODS = ("", "NTU", "FNU")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as written: its kind, its number among its kind (from 1), its line in the file, and its entries."""

    kind: str
    number: int
    line: int | None
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """``line 12: station 3 (dph-shiwan-3)``."""
        name = {"region": "code", "device": "serial", "travel": "upper"}.get(self.kind)
        key = self.values.get(name or ("key" if "key" in COLUMNS[self.kind] else "station"))
        named = f"{self.kind} {self.number}" + (f" ({key})" if isinstance(key, str) else "")
        return named if self.line is None else f"line {self.line}: {named}"


@dataclass(frozen=True, slots=True)
class Book:
    """A registry and its maintenance records."""

    registry: Registry
    maintenance: MaintenanceRecords = field(default_factory=MaintenanceRecords)


def read_rows(
    rows: Sequence[Row],
    catalogue: Catalogue,
    *,
    known: Book | None = None,
    box: Box | None = None,
    faults: Sequence[Text] = (),
) -> Book:
    """Read rows into a registry and maintenance records.

    ``known`` is what the rows will join: they may refer to it, and must fit it. Places outside ``box`` are
    refused. Raises ConfigurationError listing ``faults`` and every bad row, one a line, with its line, kind, number
    and key.
    """
    there = known or Book(Registry(catalogue=catalogue))
    reader = _Reader(catalogue, there.registry, box, there.maintenance, faults=list(faults))
    for kind in COLUMNS:
        for row in rows:
            if row.kind == kind:
                reader.take(row)
    reader.whole()
    if reader.faults:
        raise ConfigurationError(joined(reader.faults))
    return reader.book()


def read_row(
    kind: str,
    values: Mapping[str, Any],
    catalogue: Catalogue,
    *,
    known: Registry,
    box: Box | None = None,
) -> Any:
    """Read a single row by itself; raises ConfigurationError naming the fault."""
    return _Reader(catalogue, known, box).make(Row(kind, 1, None, values))


@dataclass
class _Reader:
    """What has been read so far, and its faults.

    ``named`` holds every key a row claimed, good row or bad: one bad reach must not make faults of its stations.
    """

    catalogue: Catalogue
    known: Registry
    box: Box | None
    done: MaintenanceRecords = field(default_factory=MaintenanceRecords)
    found: dict[str, dict[Any, Any]] = field(default_factory=lambda: {kind: {} for kind in COLUMNS})
    rows: dict[Any, Row] = field(default_factory=dict)
    named: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in COLUMNS})
    faults: list[Text] = field(default_factory=list)

    def __post_init__(self) -> None:
        there = self.known
        self.named["region"] |= {r.code for r in there.regions}
        self.named["reach"] |= {r.key for r in there.reaches}
        self.named["device"] |= {d.serial for d in there.devices}
        self.named["station"] |= {s.key for s in there.stations}

    def take(self, row: Row) -> None:
        key = row.values.get({"region": "code", "device": "serial"}.get(row.kind, "key"))
        try:
            thing = self.make(row)
            known_as = identity(thing)
            if known_as in self.found[row.kind]:
                self.fault(row, say(f"registry.taken_{row.kind}", parameter=getattr(thing, "parameter", "")))
            else:
                self.found[row.kind][known_as] = thing
                self.rows[row.kind, known_as] = row
        except ConfigurationError as exc:
            if isinstance(key, str) and row.kind == "station" and (row.kind, key) in self.rows:
                self.fault(row, say("registry.taken_station"))  # what else is wrong with it does not matter
            else:
                self.fault(row, exc.text)
        if isinstance(key, str):
            self.named[row.kind].add(key)

    def fault(self, row: Row, text: Text) -> None:
        self.faults.append(at(row.where, text))

    def make(self, row: Row) -> Any:
        values = row.values
        if row.kind != "station" and (unknown := sorted(set(values) - set(COLUMNS[row.kind]))):
            raise ConfigurationError(say("registry.unknown_entry", unknown=unknown[0]))
        return getattr(self, f"_{row.kind}")(values)

    # -- a row of each kind ------------------------------------------------------------------------------------------

    def _region(self, row: Mapping[str, Any]) -> Region:
        code = _key(row, "code")
        names = {level.key: level for level in Level}
        level = names.get(_text(row, "level"))
        if level is None:
            raise ConfigurationError(say("request.one_of", name="level", text=row.get("level"), known=", ".join(names)))
        parent = _text(row, "parent") or None
        if (parent is None) is not (level is Level.DISTRICT):
            raise ConfigurationError(say("registry.top" if parent else "registry.needs_parent", level=level.key))
        shape: region_outline.Outline = ()
        if row.get("outline") not in (None, ""):
            datum = Datum.of(row.get("datum") or Datum.WGS84)
            shape = region_outline.read(row["outline"], lambda lon, lat: self._place(lon, lat, datum))
        return Region(
            code, _text(row, "zh") or code, _text(row, "en") or code, level, parent, _text(row, "note"), shape
        )

    def _reach(self, row: Mapping[str, Any]) -> Reach:
        key = _key(row, "key")
        datum = Datum.of(row.get("datum", Datum.WGS84))
        line = tuple(self._place(*point, datum) for point in _line(row.get("line")))
        return Reach(
            key=key,
            zh=_text(row, "zh") or key,
            en=_text(row, "en") or key,
            water=_choice(Water, row, "water", "river"),
            line=line,
            downstream=_text(row, "downstream") or None,
            note=_text(row, "note"),
            target=_target(row),
        )

    def _travel(self, row: Mapping[str, Any]) -> Travel:
        upper, lower = self._of("reach", row, "upper"), self._of("reach", row, "lower")
        least, typical, most = (_whole(row, name, 1, 30 * 86_400) for name in ("least_s", "typical_s", "most_s"))
        if least is None or typical is None or most is None or not least <= typical <= most:
            raise ConfigurationError(say("registry.travel_order"))
        return Travel(upper, lower, least, typical, most, _text(row, "note"))

    def _outfall(self, row: Mapping[str, Any]) -> Outfall:
        key, reach = _key(row, "key"), self._of("reach", row, "reach")
        km = _number(row, "km")
        line = next((r.line for r in (*self.found["reach"].values(), *self.known.reaches) if r.key == reach), None)
        if km is None or km < 0 or (line is not None and km > network.length_km(line)):
            most = "" if line is None else f"–{network.length_km(line):.2f}"
            raise ConfigurationError(say("registry.no_km", value=row.get("km"), reach=reach, most=most))
        kind = _choice(OutfallKind, row, "type", "other")
        return Outfall(key, _text(row, "zh") or key, _text(row, "en") or key, reach, km, kind, _text(row, "note"))

    def _device(self, row: Mapping[str, Any]) -> Device:
        return Device(_key(row, "serial"), _text(row, "model"), _text(row, "manufacturer"), _text(row, "note"))

    def _station(self, row: Mapping[str, Any]) -> Station:
        parameters = row.get("parameters", [])
        if not isinstance(parameters, list | tuple) or not all(isinstance(p, str) for p in parameters):
            raise ConfigurationError(say("registry.no_list", parameters=parameters))
        if len(set(parameters)) < len(parameters):
            raise ConfigurationError(say("registry.listed_twice"))
        datum = Datum.of(row.get("datum", Datum.WGS84))
        found = read_station({name: value for name, value in row.items() if name != "datum"}, self.catalogue)
        lon, lat = self._place(found.lon, found.lat, datum)
        if found.reach and found.reach not in self.named["reach"]:
            raise ConfigurationError(say("registry.no_reach", reach=found.reach))
        if found.region and self.named["region"] and found.region not in self.named["region"]:
            raise ConfigurationError(say("registry.no_region", region=found.region))
        return replace(found, lon=lon, lat=lat)

    def _deployment(self, row: Mapping[str, Any]) -> Deployment:
        key, parameter, unit = self._of("station", row, "station"), self._parameter(row), _text(row, "unit")
        unit = unit or self.catalogue[parameter].unit
        if not needs_temperature(unit, parameter):
            conversion(unit, self.catalogue[parameter].unit, parameter)
        gain, offset = _number(row, "gain", 1.0), _number(row, "offset", 0.0)
        if gain == 0:
            raise ConfigurationError(say("maintenance.gain_zero"))
        since = _instant(row, "since")
        until = _instant(row, "until") if row.get("until") is not None else None
        if until is not None and until <= since:
            raise ConfigurationError(say("maintenance.until_since"))
        device = _text(row, "device")
        if device and device not in self.named["device"]:
            raise ConfigurationError(say("registry.no_device", device=device))
        method = _text(row, "method")
        if method not in _METHODS or (method and parameter != "turbidity"):
            raise ConfigurationError(say("maintenance.no_method", method=method))
        return Deployment(
            station=key,
            parameter=parameter,
            since_ms=since,
            unit=unit,
            gain=1.0 if gain is None else gain,
            offset=0.0 if offset is None else offset,
            until_ms=until,
            device=device,
            depth_m=_number(row, "depth_m", least=0.0),
            cycle_s=_whole(row, "cycle_s", 1, 7 * 86_400),
            method=method,
        )

    def _check(self, row: Mapping[str, Any]) -> Check:
        standard, reading = _number(row, "standard"), _number(row, "reading")
        if standard is None or reading is None:
            raise ConfigurationError(say("maintenance.standard_needed"))
        void = row.get("void", False)
        if not isinstance(void, bool):
            raise ConfigurationError(say("maintenance.no_void", void=void))
        check = Check(
            station=self._of("station", row, "station"),
            parameter=self._parameter(row),
            kind=_choice(CheckKind, row, "type", ""),
            at_ms=_instant(row, "at"),
            standard=standard,
            reading=reading,
            after=_number(row, "after"),
            before=_number(row, "before"),
            span=_number(row, "span"),
            limit=_number(row, "limit"),
            **{name: _text(row, name) for name in ("device", "lot", "by", "note")},
            void=void,
        )
        check.judged()
        return check

    def _visit(self, row: Mapping[str, Any]) -> Visit:
        parameters = row.get("parameters", [])
        if not isinstance(parameters, list | tuple) or len(set(map(str, parameters))) < len(parameters):
            raise ConfigurationError(say("maintenance.each_once", parameters=parameters))
        if unknown := [p for p in parameters if not isinstance(p, str) or p not in self.catalogue]:
            raise ConfigurationError(say("registry.no_parameter", parameter=unknown[0]))
        until = _instant(row, "until") if row.get("until") is not None else None
        return Visit(
            station=self._of("station", row, "station"),
            since_ms=_instant(row, "since"),
            until_ms=until,
            parameters=tuple(parameters),
            by=_text(row, "by"),
            note=_text(row, "note"),
        )

    def _place(self, lon: float, lat: float, datum: Datum) -> tuple[float, float]:
        place = wgs84(lon, lat, datum)
        if self.box is not None:
            self.box.check(*place)
        return place

    def _of(self, kind: str, row: Mapping[str, Any], name: str) -> str:
        key = _text(row, name)
        if key not in self.named[kind]:
            raise ConfigurationError(say("registry.not_registered", name=name, key=key))
        return key

    def _parameter(self, row: Mapping[str, Any]) -> str:
        parameter = _text(row, "parameter")
        if parameter not in self.catalogue:
            raise ConfigurationError(say("registry.no_parameter", parameter=parameter))
        return parameter

    # -- what only all rows together show ----------------------------------------------------------------------------

    def whole(self) -> None:
        """Check the tree of regions, the graph of reaches, and deployments and visits that exclude each other."""
        self._tree()
        self._graph()
        mine = self.found["deployment"]
        there = [d for d in self.known.deployments if identity(d) not in mine]
        for earlier, later, why in deployment_conflicts([*there, *mine.values()]):
            second, first = (later, earlier) if identity(later) in mine else (earlier, later)
            if identity(second) in mine:
                self.fault(
                    self.rows["deployment", identity(second)],
                    say("maintenance.clashes", later=second.named, why=why, earlier=first.named),
                )
        visits = {identity(v): v for v in self.done.visits} | self.found["visit"]
        for visit, why in maintenance.conflicting_visits(visits.values()):
            row = self.rows.get(("visit", identity(visit)))
            if row is not None:
                self.fault(row, why)
            elif self.found["visit"]:
                values = {"station": visit.station, "since": rfc3339(visit.since_ms), "why": why}
                self.faults.append(say("maintenance.visit_clashes", **values))

    def _tree(self) -> None:
        regions = {r.code: r for r in self.known.regions} | self.found["region"]
        for code, region in self.found["region"].items():
            parent = None if region.parent is None else regions.get(region.parent)
            if region.parent is not None and parent is None:
                self.fault(self.rows["region", code], say("registry.no_parent", parent=region.parent))
            elif parent is not None and parent.level >= region.level:
                self.fault(
                    self.rows["region", code], say("registry.not_above", code=parent.code, level=parent.level.key)
                )
            for other in regions.values() if region.outline else ():
                if other.code in self.found["region"] and other.code >= code:
                    continue  # each pair once
                beside = other.code != code and other.parent == region.parent and other.outline
                place = region_outline.overlap(region.outline, other.outline) if beside else None
                if place is not None:
                    lon, lat = place
                    named = {"code": other.code, "name": other.zh, "lon": f"{lon:.5f}", "lat": f"{lat:.5f}"}
                    self.fault(self.rows["region", code], say("registry.outlines_overlap", **named))

    def _graph(self) -> None:
        """Check that reaches flow into known reaches, and that neither they nor travel times lead in a circle."""
        reaches = {r.key: r for r in self.known.reaches} | self.found["reach"]
        flows = [(r.key, r.downstream) for r in reaches.values() if r.downstream]
        for key, reach in self.found["reach"].items():
            if reach.downstream and reach.downstream not in self.named["reach"]:
                self.fault(self.rows["reach", key], say("registry.no_downstream", reach=reach.downstream))
        round_ = network.nodes_on_cycles(flows)
        for key in self.found["reach"]:
            if key in round_:
                self.fault(self.rows["reach", key], say("registry.downstream_cycle"))
        there = [(t.upper, t.lower) for t in self.known.travels]
        for (upper, lower), travel in self.found["travel"].items():
            edges = [*flows, *there, *((t.upper, t.lower) for t in self.found["travel"].values())]
            if upper in network.nodes_on_cycles(edges) and lower in network.nodes_on_cycles(edges) and not round_:
                self.fault(self.rows["travel", identity(travel)], say("registry.travel_cycle", reach=upper))

    def book(self) -> Book:
        found = {kind: tuple(things.values()) for kind, things in self.found.items()}
        return Book(
            Registry(
                stations=found["station"],
                deployments=found["deployment"],
                reaches=found["reach"],
                catalogue=self.catalogue,
                devices=found["device"],
                outfalls=found["outfall"],
                travels=found["travel"],
                regions=found["region"],
            ),
            MaintenanceRecords(found["check"], found["visit"]),
        )


def identity(thing: Any) -> Any:
    """The key that is unique among rows of a kind."""
    match thing:
        case Region():
            return thing.code
        case Device():
            return thing.serial
        case Travel():
            return thing.upper, thing.lower
        case Deployment():
            return thing.station, thing.parameter, thing.since_ms
        case Check():
            return thing.station, thing.parameter, thing.kind, thing.at_ms
        case Visit():
            return thing.station, thing.since_ms
    return thing.key


# -- back into rows ----------------------------------------------------------------------------------------------------


def rows_of(book: Book) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, entries) of everything in the book, without defaults; times as datetimes in UTC."""
    registry, done = book.registry, book.maintenance
    for region in registry.regions:
        yield "region", _entries(region, level=region.level.key, outline=_lists(region.outline))
    for reach in registry.reaches:
        target = None if reach.target is None else reach.target.roman
        yield "reach", _entries(reach, water=reach.water.value, line=[list(p) for p in reach.line], target=target)
    for travel in registry.travels:
        yield "travel", _entries(travel)
    for outfall in registry.outfalls:
        yield "outfall", _entries(outfall, kind=None, type=outfall.kind.value)
    for device in registry.devices:
        yield "device", _entries(device)
    for place in registry.stations:
        yield "station", _entries(place, water=place.water.value, parameters=list(place.parameters))
    for one_ in registry.deployments:
        until = None if one_.until_ms is None else from_ms(one_.until_ms)
        yield "deployment", _entries(one_, since_ms=None, until_ms=None, since=from_ms(one_.since_ms), until=until)
    for check in done.checks:
        entries = _entries(
            check, kind=None, type=check.kind.value, at_ms=None, at=from_ms(check.at_ms), void=check.void
        )
        yield "check", entries
    for visit in done.visits:
        until = None if visit.until_ms is None else from_ms(visit.until_ms)
        entries = _entries(visit, since_ms=None, until_ms=None, since=from_ms(visit.since_ms), until=until)
        yield "visit", entries | ({"parameters": list(visit.parameters)} if visit.parameters else {})


def _entries(thing: Any, **other: Any) -> dict[str, Any]:
    values = {name: getattr(thing, name) for name in thing.__slots__} | other
    kind = next(kind for kind, made_ in _KIND_OF.items() if isinstance(thing, made_))
    ordered = {name: values[name] for name in COLUMNS[kind] if name in values}
    return {n: v for n, v in ordered.items() if v is not None and v != "" and v is not False and v not in ((), [])}


_KIND_OF: Final[Mapping[str, type]] = {
    "region": Region,
    "reach": Reach,
    "travel": Travel,
    "outfall": Outfall,
    "device": Device,
    "station": Station,
    "deployment": Deployment,
    "check": Check,
    "visit": Visit,
}


# -- entries -----------------------------------------------------------------------------------------------------------


def _key(row: Mapping[str, Any], name: str) -> str:
    key = _text(row, name)
    if not 1 <= len(key) <= MAX_KEY_CHARS:
        raise ConfigurationError(say("registry.no_key", name=name, most=MAX_KEY_CHARS))
    return key


def _choice(kind: Any, row: Mapping[str, Any], name: str, default: str) -> Any:
    try:
        return kind(row.get(name, default))
    except ValueError:
        values = [str(one_) for one_ in kind]
        raise ConfigurationError(
            say("registry.one_of_both", name=name, text=row.get(name), values=", ".join(values[:-1]), last=values[-1])
        ) from None


def _target(row: Mapping[str, Any]) -> WaterClass | None:
    target = _text(row, "target")
    found = WaterClass.of(target) if target else None
    if found is WaterClass.WORSE:
        raise ConfigurationError(say("registry.no_target", target=target))
    return found


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(say("registry.no_text", name=name, value=value))
    return value


def _number(row: Mapping[str, Any], name: str, default: float | None = None, least: float = -math.inf) -> float | None:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        key = "registry.no_number" if math.isinf(least) else "registry.no_number_from"
        raise ConfigurationError(say(key, name=name, value=value, least=least))
    return float(value)


def _whole(row: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(say("registry.no_seconds", name=name, value=value, least=least, most=most))
    return value


def _instant(row: Mapping[str, Any], name: str) -> int:
    """ms since the epoch from a TOML date-time or from RFC 3339 text; it must carry an offset."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(say("registry.not_rfc", name=name, value=value)) from None
    if not isinstance(value, datetime):
        raise ConfigurationError(say("registry.no_time", name=name, value=value))
    try:
        return to_ms(value)
    except ValueError:
        raise ConfigurationError(say("registry.no_offset", name=name, moment=value.isoformat())) from None


def _lists(value: Any) -> Any:
    """Nested tuples as lists; None where empty."""
    if not isinstance(value, tuple):
        return value
    return [_lists(one) for one in value] or None


def _line(value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise ConfigurationError(say("registry.no_line"))
    return tuple(_point(point, number) for number, point in enumerate(value, 1))


def _point(value: Any, number: int) -> tuple[float, float]:
    good = (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
        and -180 <= value[0] <= 180
        and -90 <= value[1] <= 90
    )
    if not good:
        raise ConfigurationError(say("registry.no_point", number=number, value=value))
    return float(value[0]), float(value[1])
