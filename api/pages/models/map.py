"""The map: the waters, stations and incidents that somebody sees, as the island draws them; and what changed. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from api.pages.models.overview import Delta, IncidentView, Model, ReachView, StationView, delta, worst_colours
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import in_jurisdiction
from governance.organisation.roles import Actor
from infra.texts import Text
from sensors.network import Region, length_km, point_at_km
from sensors.stations import Registry

Point = tuple[float, float]
MOST_OUTFALLS = 2_000
"""Outfalls that a map is given."""


@dataclass(frozen=True)
class Seen:
    """A picture as somebody sees it: the waters whole, of the incidents those within their jurisdiction.

    Pennants, counts and lists are made of the same ``rows``, so that they agree. ``rows`` None: sees no incidents.
    """

    model: Model
    registry: Registry
    rows: tuple[IncidentView, ...] | None

    @cached_property
    def marked(self) -> tuple[Any, ...]:
        """What a map shows of it, for a mark: equal where two maps look the same."""
        reaches = tuple((one.key, one.water_class) for one in self.model.reaches)
        rows = tuple((one.id, one.version, one.colour, one.sentence.zh) for one in self.rows or ())
        return tuple(self.model.index), self.model.codes, reaches, rows, self.registry.outfalls, self.registry.regions

    @property
    def open_by_colour(self) -> dict[Colour, int]:
        """The open incidents by colour, as the list shows them."""
        found = dict.fromkeys(Colour, 0)
        for one in self.rows or ():
            found[one.colour] += 1
        return found


def seen_by(model: Model, registry: Registry, actor: Actor, *, incidents: bool) -> Seen:
    """The picture of somebody; ``incidents``: whether the role sees any."""
    if not incidents:
        return Seen(model.water, registry, None)
    rows = tuple(one for one in model.incidents if one.incident.is_open)
    if actor.regions is None:
        return Seen(model, registry, rows)
    rows = tuple(one for one in rows if in_jurisdiction(one.incident, actor))
    worst = worst_colours(registry, (one.incident for one in rows))
    stations = tuple(replace(one, colour=worst.get(one.key)) for one in model.stations)
    return Seen(replace(model, stations=stations), registry, rows)


def whole(seen: Seen, english: bool) -> dict[str, Any]:
    """Everything that a map draws."""
    registry = seen.registry
    places = {one.key: (one.lon, one.lat) for one in registry.stations}
    classes = {one.key: one for one in seen.model.reaches}
    return {
        "base": [_region(one, english) for one in registry.regions],
        "reaches": [
            {
                **_reach(classes.get(one.key) or ReachView(one.key, Text(one.zh, one.en), None)),
                **_named(one.zh, one.en, english),
                "line": one.line,
                "href": f"/rivers/{one.key}",
            }
            for one in registry.reaches
        ],
        "stations": [
            {
                **_station(one),
                **_named(one.name.zh, one.name.en, english),
                "lon": places[one.key][0],
                "lat": places[one.key][1],
                "reach": one.reach,
                "href": f"/stations/{one.key}",
            }
            for one in seen.model.stations
            if one.key in places
        ],
        "incidents": incidents(seen, english),
        "points": list(_outfalls(registry, english)),
    }


def changes(before: Seen, after: Seen, english: bool) -> dict[str, Any] | None:
    """What changed between two pictures; None where they show other stations or reaches."""
    found: Delta = delta(before.model, after.model)
    known = {one.key: one.water_class for one in before.model.reaches}
    if found.others or known.keys() != {one.key for one in after.model.reaches}:
        return None
    changed: dict[str, Any] = {"delta": True}
    if found.indices:
        changed["stations"] = [_station(after.model.stations[i]) for i in found.indices]
    if reaches := [_reach(one) for one in after.model.reaches if one.water_class != known[one.key]]:
        changed["reaches"] = reaches
    if before.marked[3] != after.marked[3]:
        changed["incidents"] = incidents(after, english)
    return changed


def incidents(seen: Seen, english: bool) -> list[dict[str, Any]]:
    """The open incidents as pennants; those that lie nowhere have no place (lon and lat null)."""
    places = places_of(seen.rows or (), seen.registry)
    found = []
    for one in seen.rows or ():
        lon, lat = places.get(one.id, (None, None))
        title = one.sentence.en if english else one.sentence.zh
        stations = [key for key in (one.station,) if key in seen.registry]
        row = {"id": one.id, "colour": one.colour, "title": title, "lon": lon, "lat": lat, "stations": stations}
        found.append({**row, "href": f"/incidents/{one.id}"})
    return found


def places_of(rows: Iterable[IncidentView], registry: Registry) -> dict[int, Point]:
    """Where incidents lie: at the reported place, at the station, at the first station of a gateway, or in the middle
    of the reach."""
    behind: dict[str, Point] = {}
    for station in registry.stations:
        if station.gateway is not None:
            behind.setdefault(station.gateway, (station.lon, station.lat))
    found = {}
    for row in rows:
        place = row.incident.place
        reach = registry.reach(place.reach)
        if place.lon is not None and place.lat is not None:
            found[row.id] = (place.lon, place.lat)
        elif row.station in registry:
            found[row.id] = (registry[row.station].lon, registry[row.station].lat)
        elif row.station in behind:
            found[row.id] = behind[row.station]
        elif reach is not None and len(reach.line) > 1:
            found[row.id] = point_at_km(reach.line, length_km(reach.line) / 2)
    return found


def _station(one: StationView) -> dict[str, Any]:
    return {"key": one.key, "state": one.state, "class": int(one.water_class or 0), "at": one.newest_at_ms}


def _reach(one: ReachView) -> dict[str, Any]:
    return {"key": one.key, "class": int(one.water_class or 0)}


def _region(one: Region, english: bool) -> dict[str, Any]:
    outline = [list(rings) for rings in one.outline]
    return {"code": one.code, "level": int(one.level), "outline": outline, **_named(one.zh, one.en, english)}


def _named(zh: str, en: str, english: bool) -> Mapping[str, str]:
    return {"name": en if english else zh, "zh": zh, "en": en}


def _outfalls(registry: Registry, english: bool) -> Iterable[dict[str, Any]]:
    for one in registry.outfalls[:MOST_OUTFALLS]:
        reach = registry.reach(one.reach)
        if reach is not None and len(reach.line) > 1:
            lon, lat = point_at_km(reach.line, one.km)
            named = _named(one.zh, one.en, english)
            yield {"kind": "outfall", "layer": "outfalls", "key": one.key, **named, "lon": lon, "lat": lat}
