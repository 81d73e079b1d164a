"""Entities that clients make and change, as commands of the registry: its checks, its authors, its trail."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api import problems
from api.access import author
from api.context import Context
from api.registries import Registries
from api.requests import GEOJSON
from api.routes import maintenance, stations
from api.sta.answers import Words
from api.sta.bodies import Body
from api.sta.model import FOREVER_MS, MEASUREMENT, UNSPECIFIED, Entity, Kind, Stream, sensor_texts, stream_id, ucum
from api.sta.refusals import needed, never, not_kept, wrong
from governance.organisation.roles import Actor
from infra.database import Joined
from infra.errors import Refused
from infra.texts import say
from ingest.storage import registry as registry_store
from sensors import registry_rows
from sensors.parameters import Parameter
from sensors.stations import Device, Registry

MOST_STREAMS = 100
"""Datastreams that come with a Thing."""
_STATION = ("water", "reach", "region", "interval_s", "gateway", "parameters", "note")
_DEPLOYMENT = ("since", "until", "depth_m", "method", "cycle_s")
_GEOJSON = (GEOJSON, "application/vnd.geo+json")
_OTHER_LETTERS = re.compile(r"[^a-z0-9]+")

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


@dataclass(frozen=True)
class Commands:
    """What somebody may do to the registry, in the words of a version."""

    context: Context
    registries: Registries
    who: Actor
    version: str
    words: Words
    kinds: Mapping[str, Kind]

    def together(self, act: Callable[["Commands"], R]) -> R:
        """All that ``act`` does, or nothing of it."""
        with self.context.database.write() as connection:
            context = replace(self.context, database=Joined(self.context.database, connection))
            done = act(replace(self, context=context, registries=Registries(context)))
        self.registries.changed()
        return done

    # -- requests --------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, content: Any, owner: Entity | None) -> str:
        """Make an entity, with what hangs on it, below ``owner`` where the address names one; its id."""
        make = {
            "Things": self._thing,
            "Locations": self._location,
            "Datastreams": self._datastream,
            "Sensors": self._new_sensor,
        }.get(kind.name)
        if make is None:
            raise never(kind.name, "POST", _INSTEAD.get(kind.name, "instead_none"))
        return make(self._body(kind.name, content, owner))

    def change(self, one: Entity, content: Any) -> None:
        """Change what is given of an entity; what is left out stays."""
        change: dict[str, Callable[[Entity, Body], None]] = {
            "Things": self._change_thing,
            "Locations": self._change_location,
            "Datastreams": self._change_datastream,
            "Sensors": self._change_sensor,
        }
        if one.kind.name not in change:
            raise never(one.kind.name, "PATCH", _INSTEAD.get(one.kind.name, "instead_none"))
        body = self._body(one.kind.name, content)
        body.must_be(self.words.id, (one.id,))
        change[one.kind.name](one, body)
        body.end()

    def remove(self, one: Entity) -> None:
        """A station is taken out of service, a sensor is taken down; their readings stay."""
        if one.kind.name == "Things":
            why = stations.StationRetirement(reason="SensorThings DELETE")
            stations.retire(self.context, self.registries, self.who, one.id, why)
        elif one.kind.name == "Datastreams":
            self._take_down(one.subject, None)
        else:
            raise never(one.kind.name, "DELETE", _INSTEAD.get(one.kind.name, "instead_none"))

    def _body(self, kind: str, content: Any, owner: Entity | None = None) -> Body:
        if owner is not None and isinstance(content, dict):
            link = next(name for name, link in self.kinds[kind].links.items() if link.to == owner.kind.name)
            if link in content:
                raise wrong(kind, link, content[link], owner.id)
            named = {self.words.id: owner.id}
            content = content | {link: [named] if self.kinds[kind].links[link].many else named}
        return Body(self.kinds[kind], content, self.words)

    # -- stations --------------------------------------------------------------------------------------------------

    def _thing(self, body: Body) -> str:
        name = body.take("name", str)
        row = {"zh": name, "en": body.take("description", str, "") or name}
        row |= self._inside(body, "properties", _STATION)
        places = body.take("Locations", list)
        if len(places) != 1:
            raise wrong("Things", "Locations", len(places), "1")
        lon, lat = self._place(self._body("Locations", places[0]))
        streams = body.take("Datastreams", list, [])
        if len(streams) > MOST_STREAMS:
            raise wrong("Things", "Datastreams", len(streams), f"<= {MOST_STREAMS}")
        body.end()
        key = body.id or self._free_key(name)
        new = _made(stations.NewStation, key=key, lon=lon, lat=lat, **row)
        thing = Entity(self.kinds["Things"], key, {}, stations.register(self.context, self.registries, self.who, new))
        for one in streams:
            self.create(self.kinds["Datastreams"], one, thing)
        return key

    def _free_key(self, name: str) -> str:
        """A key that is not taken, from the letters of a name."""
        base = _OTHER_LETTERS.sub("-", name.lower()).strip("-")[:50] or "station"
        registry = self.registries.recent()
        keys = (base if n == 1 else f"{base}-{n}" for n in range(1, len(registry.stations) + 2))
        return next(key for key in keys if key not in registry)

    def _change_thing(self, one: Entity, body: Body) -> None:
        station = one.subject
        row: dict[str, Any] = {
            ours: body.take(theirs, str) for theirs, ours in (("name", "zh"), ("description", "en")) if theirs in body
        }
        properties = self._inside(body, "properties", (*_STATION, "retired"))
        retired = properties.pop("retired", None)
        row |= {name: value for name, value in properties.items() if _tuple(value) != getattr(station, name)}
        for place in body.take("Locations", list, []):
            if isinstance(place, dict) and "location" in place:
                row["lon"], row["lat"] = self._place(self._body("Locations", place))
        self._update(one.id, row)
        if retired not in (None, False, True):
            raise wrong("Things", "properties/retired", retired, "true, false")
        if retired is not None and retired is not one.row["properties"]["retired"]:
            if retired:
                self.remove(one)
            else:
                stations.reinstate(self.context, self.registries, self.who, one.id)

    def _update(self, key: str, row: dict[str, Any]) -> None:
        if row:
            change = _made(stations.StationChange, **row)
            stations.update(self.context, self.registries, self.who, key, change, None)

    def _location(self, body: Body) -> str:
        """A place of its own is nothing; given with its station it makes that, or moves it."""
        things = body.take("Things", list)
        if len(things) != 1 or not isinstance(things[0], dict):
            raise wrong("Locations", "Things", len(things), "1")
        place = {name: value for name in body.kind.properties if (value := body.raw(name)) is not None}
        body.end()
        inner = self._body("Things", things[0])
        if "name" in inner:
            return self._thing(self._body("Things", things[0] | {"Locations": [place]}))
        thing = self._linked("Locations", "Things", inner)
        lon, lat = self._place(self._body("Locations", place))
        self._update(thing, {"lon": lon, "lat": lat})
        return thing

    def _place(self, body: Body) -> tuple[float, float]:
        body.drop("name", "description")  # a place is called as its station is
        body.must_be("encodingType", _GEOJSON)
        body.must_be("properties", ({},))
        shape = body.take("location", dict)
        if body.id is None:
            body.end()
        if shape.get("type") == "Feature" and isinstance(shape.get("geometry"), dict):
            shape = shape["geometry"]
        place = shape.get("coordinates")
        numbers = isinstance(place, list) and [
            x for x in place if isinstance(x, int | float) and not isinstance(x, bool)
        ]
        if (
            shape.get("type") != "Point"
            or not numbers
            or len(numbers) != len(place or ())
            or len(numbers) not in (2, 3)
        ):
            raise wrong("Locations", "location", shape, "GeoJSON Point")
        return float(numbers[0]), float(numbers[1])

    def _change_location(self, one: Entity, body: Body) -> None:
        for name in ("name", "description"):
            body.must_be(name, (one.row[name],))
        place = {n: v for n in ("encodingType", "location", "properties") if (v := body.raw(n)) is not None}
        if place:
            lon, lat = self._place(self._body("Locations", place))
            self._update(one.id, {"lon": lon, "lat": lat})

    # -- sensors and where they hang -------------------------------------------------------------------------------

    def _datastream(self, body: Body) -> str:
        station = self._linked("Datastreams", "Thing", self._body("Things", body.take("Thing", dict)))
        parameter = self._parameter(body)
        self._measured(body, parameter)
        body.drop("name", "description", "observedArea")  # made from the names of station and parameter
        row = self._inside(body, "properties", (*_DEPLOYMENT, "station", "parameter", "reported_unit"))
        fixed = {"station": station, "parameter": parameter.key, "reported_unit": parameter.unit}
        self._unchanged("Datastreams", {name: row.pop(name) for name in fixed if name in row}, fixed)
        device = self._sensor(self._body("Sensors", body.take("Sensor", dict)))
        body.end()
        new = _made(maintenance.NewDeployment, parameter=parameter.key, unit=parameter.unit, device=device, **row)
        made, registry = maintenance.hang(self.context, self.registries, self.who, station, new)
        return stream_id(made, registry)

    def _parameter(self, body: Body) -> Parameter:
        """The parameter of the catalogue that an ObservedProperty is, by its id, name or definition."""
        single = self.version == "1.1"
        given = body.take("ObservedProperty", dict) if single else body.take("ObservedProperties", list)
        if isinstance(given, list):
            if len(given) != 1:
                raise wrong("Datastreams", "ObservedProperties", len(given), "1")
            given = given[0]
        known = self.context.catalogue
        wanted = self._body("ObservedProperties", given)
        names = [
            wanted.id,
            given.get("name"),
            str(given.get("definition", "")).removeprefix("urn:riverchief:parameter:"),
        ]
        for key in known.index:
            if wanted.id == key or (wanted.id is None and {key, known[key].zh, known[key].en} & set(map(str, names))):
                return known[key]
        expected = f"{', '.join(list(known.index)[:60])} …"
        raise wrong("Datastreams", "ObservedProperty", wanted.id or given.get("name"), expected)

    def _measured(self, body: Body, parameter: Parameter) -> None:
        """Results come in the unit that the Datastream shows: no other is taken, or one would be mistaken for it."""
        codes = (parameter.unit, ucum(parameter))
        if self.version == "1.1":
            body.must_be("observationType", (MEASUREMENT,))
            unit = body.take("unitOfMeasurement", dict)
            code = unit.get("symbol") or str(unit.get("definition", "")).removeprefix("ucum:")
        else:
            kind = body.take("resultType", dict)
            uom = kind.get("uom")
            code = uom.get("code") if isinstance(uom, dict) else uom
            if kind.get("type") != "Quantity":
                raise wrong("Datastreams", "resultType/type", kind.get("type"), "Quantity")
        if code not in codes:
            raise wrong("Datastreams", "unitOfMeasurement", code, ", ".join(dict.fromkeys(codes)))

    def _change_datastream(self, one: Entity, body: Body) -> None:
        for name, value in one.row.items():
            if name != "properties":
                body.must_be(name, (value,))
        stream: Stream = one.subject
        for name, key in (("Thing", stream.station.key), ("ObservedProperty", stream.parameter.key)):
            if name in body and self._body(self._to(one.kind, name), body.take(name, dict)).id != key:
                raise not_kept("Datastreams", name)
        there = one.row["properties"]
        given = self._inside(body, "properties", tuple(there))
        until = given.pop("until", None)
        self._unchanged("Datastreams", given, there)
        if until is not None and until != there.get("until"):
            self._take_down(stream, until)

    def _to(self, kind: Kind, link: str) -> str:
        return kind.links[link].to

    def _take_down(self, stream: Stream, until: str | None) -> None:
        if stream.deployment is None or stream.end_ms != FOREVER_MS:
            raise Refused(say("maintenance.no_sensor", parameter=stream.parameter.key, key=stream.station.key))
        end = _made(maintenance.EndOfDeployment, until=until)
        key = stream.station.key
        maintenance.take_down(self.context, self.registries, self.who, key, stream.parameter.key, end)

    def _sensor(self, body: Body) -> str:
        """The serial number of the instrument that a Datastream names, or brings with it; "" for none."""
        if body.id == UNSPECIFIED:
            return ""
        known = {d.serial: d for d in self.registries.recent().devices}
        serial = (body.id or "").removeprefix("device-")
        if serial in known:
            return serial  # a client sends what it read of it, too
        if "name" not in body:
            raise problems.Problem(problems.INVALID, say("sta.no_entity", path=f"Sensors('{body.id}')"))
        made = self._device(body, Device(""))
        if made.serial in known and made != known[made.serial]:
            raise Refused(say("sta.there_already", kind="Sensors", key=f"device-{made.serial}"))
        return self._keep(made)

    def _new_sensor(self, body: Body) -> str:
        made = self._device(body, Device(""))
        if made.serial in {d.serial for d in self.registries.recent().devices}:
            raise Refused(say("sta.there_already", kind="Sensors", key=f"device-{made.serial}"))
        return f"device-{self._keep(made)}"

    def _change_sensor(self, one: Entity, body: Body) -> None:
        if one.id == UNSPECIFIED:
            raise never("Sensors", "PATCH", "instead_none")
        self._keep(self._device(body, one.subject))

    def _keep(self, made: Device) -> str:
        by = author(self.who, None, self.context.clock_ms())
        with self.context.database.write() as connection:
            registry_store.save(connection, Registry(catalogue=self.context.catalogue, devices=(made,)), by)
        self.registries.changed()
        return made.serial

    def _device(self, body: Body, before: Device) -> Device:
        """The instrument a Sensor is: the serial number stands in its properties, or its name is one."""
        given = self._inside(body, "properties", ("serial", "model", "manufacturer"))
        row = {name: getattr(before, name) for name in Device.__slots__} | given
        named = f"{before.model} {before.serial}".strip()
        name = body.take("name", str, named or None)
        serial = row["serial"] = before.serial or given.get("serial") or (body.id or name).removeprefix("device-")
        if given.get("serial", serial) != serial:
            raise wrong("Sensors", "properties/serial", given["serial"], serial)
        if row["model"] == before.model and name != named:
            row["model"] = name.removesuffix(serial).strip()
        description, *there = sensor_texts(before) if before.serial else ("", "text/plain", name)
        description = body.take("description", str, description)
        shown = [body.take(part, str, was) for part, was in zip(("encodingType", "metadata"), there, strict=True)]
        row["note"] = description + ("" if shown == ["text/plain", name] else "\n" + " ".join(shown))
        body.end()
        made: Device = registry_rows.read_row("device", row, self.context.catalogue, known=Registry())
        return made

    # -- parts -----------------------------------------------------------------------------------------------------

    def _linked(self, kind: str, link: str, body: Body) -> str:
        """The key of a station that a link names."""
        if body.id is None:
            raise needed(kind, f"{link}/{self.words.id}")
        return body.id

    def _inside(self, body: Body, name: str, known: tuple[str, ...]) -> dict[str, Any]:
        """What an object of a body holds, of what the registry knows."""
        given = body.take(name, dict, {})
        if more := [one for one in given if one not in known]:
            raise wrong(body.kind.name, f"{name}/{more[0]}", given[more[0]], ", ".join(known))
        return {one: value for one, value in given.items() if value is not None}

    def _unchanged(self, kind: str, given: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        for name, value in given.items():
            if value != there[name]:
                raise wrong(kind, f"properties/{name}", value, str(there[name]))


_INSTEAD = {
    "Observations": "instead_review",
    "ObservedProperties": "instead_catalogue",
    "Sensors": "instead_kept",
    "Locations": "instead_kept",
}
"""Entity set → what says why its entities are not changed so."""


def _made(shape: type[M], **given: Any) -> M:
    try:
        return shape(**given)
    except ValidationError as error:
        raise problems.invalid(error.errors()) from None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
