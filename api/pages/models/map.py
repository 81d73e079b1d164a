"""The map: the waters, stations and incidents that somebody sees, as the island draws them; and what changed. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from api.pages.models.incident import deadline
from api.pages.models.overview import Data, Delta, IncidentView, Model, ReachView, StationView, delta, worst_colours
from api.pages.models.wall import mix
from api.requests import whole_number
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import in_jurisdiction
from governance.organisation.roles import Actor
from infra.texts import Text
from ingest.analysis.live_classes import ShownClass
from sensors.network import Region, length_km, point_at_km
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry

Point = tuple[float, float]
LAYERS = ("outfalls", "rain", "patrols", "reports", "cases")
"""What is shown on wish besides waters, stations and incidents."""
DAYS_BACK = 3
BLIND = (Data.OFFLINE, Data.NEVER, Data.LATE)
"""The states of stations that cannot be seen as they should, the worst first."""
ROWS, URGENT, NAMED = 30, 6, 5
"""Rows of a list at first; incidents and stations named beside the map."""
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
    everywhere: bool = False
    """Whether the rows are those of all regions: then the picture's own counts hold, also of more than it lists."""

    @cached_property
    def heard(self) -> frozenset[str]:
        """The reaches on which some station still reports."""
        return frozenset(one.reach for one in self.model.stations if one.state in (Data.NORMAL, Data.LATE))

    @cached_property
    def reaches(self) -> dict[str, dict[str, Any]]:
        """What a map shows of each reach; ``silent``: its class is of a time when somebody still measured."""
        return {
            one.key: {"key": one.key, "class": int(one.water_class or 0), "silent": one.key not in self.heard}
            for one in self.model.reaches
        }

    @cached_property
    def marked(self) -> tuple[Any, ...]:
        """What a map shows of it, for a mark: equal where two maps look the same."""
        reaches = tuple(tuple(one.values()) for one in self.reaches.values())
        rows = tuple((one.id, one.version, one.colour, one.sentence.zh) for one in self.rows or ())
        return tuple(self.model.index), self.model.codes, reaches, rows, self.registry.outfalls, self.registry.regions

    @property
    def open_by_colour(self) -> dict[Colour, int]:
        """The open incidents by colour, as the list shows them."""
        if self.everywhere:
            return {colour: self.model.open_by_colour.get(colour, 0) for colour in Colour}
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
        return Seen(model, registry, rows, everywhere=True)
    rows = tuple(one for one in rows if in_jurisdiction(one.incident, actor))
    worst = worst_colours(registry, (one.incident for one in rows))
    stations = tuple(replace(one, colour=worst.get(one.key)) for one in model.stations)
    return Seen(replace(model, stations=stations), registry, rows)


def seen_at(seen: Seen, reaches: Mapping[str, ShownClass], stations: Mapping[str, WaterClass | None]) -> Seen:
    """The waters with the classes of a past instant; states and incidents of that instant are not known."""
    model = seen.model
    past = replace(
        model,
        reaches=tuple(replace(one, shown=reaches.get(one.key)) for one in model.reaches),
        stations=tuple(
            replace(one, water_class=stations.get(one.key), state=Data.NORMAL, colour=None) for one in model.stations
        ),
    )
    return Seen(past, seen.registry, ())


def whole(seen: Seen, english: bool) -> dict[str, Any]:
    """Everything that a map draws."""
    registry = seen.registry
    places = {one.key: (one.lon, one.lat) for one in registry.stations}
    return {
        "base": [region_on_map(one, english) for one in registry.regions],
        "reaches": [
            {
                **seen.reaches[one.key],
                **_named(one.zh, one.en, english),
                "line": one.line,
                "href": f"/rivers/{one.key}",
            }
            for one in registry.reaches
            if one.key in seen.reaches
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
    if found.others or before.reaches.keys() != after.reaches.keys():
        return None
    changed: dict[str, Any] = {"delta": True}
    if found.indices:
        changed["stations"] = [_station(after.model.stations[i]) for i in found.indices]
    if reaches := [one for key, one in after.reaches.items() if one != before.reaches[key]]:
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


def rain(model: Model, registry: Registry, english: bool) -> list[dict[str, Any]]:
    """The stations that measure rain, with their newest value."""
    found = []
    for one in model.stations:
        row = next((row for row in one.headline if row.parameter == "rain" and row.value is not None), None)
        if row is not None and one.key in registry:
            station = registry[one.key]
            title = f"{one.name.en if english else one.name.zh} {row.value:g} mm"
            place = {"lon": station.lon, "lat": station.lat, "href": f"/stations/{one.key}"}
            found.append({"kind": "rain", "title": title, **place})
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


def region_on_map(one: Region, english: bool) -> dict[str, Any]:
    """A region with its outline."""
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


# -- the page beside the map -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address asks for; unknown values ask for nothing. ``hours`` back from now, 0 for the present."""

    station: str = ""
    reach: str = ""
    colour: str = ""
    overdue: bool = False
    state: str = ""
    water_class: int | None = None
    layers: tuple[str, ...] = ()
    as_list: bool = False
    rows: int = ROWS
    hours: int = 0

    @property
    def selected(self) -> str:
        return self.station or self.reach

    def toggled(self, layer: str) -> str:
        """The layers with one more, or one less, as an address has them; "" for none."""
        return ",".join(one for one in LAYERS if (one in self.layers) != (one == layer))


def choice(query: Mapping[str, str], registry: Registry) -> Choice:
    """The choice of an address."""
    station, reach = query.get("station", ""), query.get("reach", "")
    station = station if station in registry else ""
    asked = query.get("layers", "").split(",")
    return Choice(
        station=station,
        reach=reach if not station and registry.reach(reach) is not None else "",
        colour=_one_of(query.get("colour", ""), tuple(Colour)),
        overdue=query.get("overdue") == "1",
        state=_one_of(query.get("state", ""), (*Data, "blind")),
        water_class=_number(query.get("class", ""), 0, len(WaterClass)),
        layers=tuple(one for one in LAYERS if one in asked),
        as_list=query.get("view") == "list",
        rows=_number(query.get("rows", ""), ROWS, 100 * ROWS) or ROWS,
        hours=_number(query.get("at", ""), 0, 24 * DAYS_BACK) or 0,
    )


def _one_of(text: str, known: Collection[str]) -> str:
    return text if text in set(known) else ""


def _number(text: str, least: int, most: int) -> int | None:
    """A number within bounds; None for anything else."""
    number = whole_number(text, 5)
    return number if number is not None and least <= number <= most else None


@dataclass(frozen=True, slots=True)
class Urgent:
    """An open incident with the sort (``over``, ``soon``, ``left`` …) and the words of its deadline."""

    row: IncidentView
    sort: str
    words: Text


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the map. ``urgent`` are all open incidents of the choice, the most urgent first; None: the
    role sees none. ``overdue`` of the ``listed`` ones are late; ``open`` counts those beyond the list, too. ``blind``
    are stations that are not on time, the worst first.
    """

    mix: tuple[tuple[WaterClass | None, int], ...]
    met: int
    missed: int
    unjudged: int
    reaches: tuple[ReachView, ...]
    urgent: tuple[Urgent, ...] | None
    by_colour: Mapping[Colour, int]
    open: int
    listed: int
    overdue: int
    placeless: int
    blind: tuple[StationView, ...]
    stations: tuple[StationView, ...]
    by_state: Mapping[Data, int]

    @property
    def silent(self) -> bool:
        """Whether no station has ever reported."""
        return bool(self.by_state) and self.by_state[Data.NEVER] == sum(self.by_state.values())


def beside(seen: Seen, chosen: Choice) -> Beside:
    """The figures and lists of what somebody sees, narrowed to their choice."""
    model = seen.model
    every = [_urgent(row, model.at_ms) for row in seen.rows or ()]
    every.sort(key=_urgency)
    met = [one.shown.met for one in model.reaches if one.shown is not None and one.shown.met is not None]
    blind = [one for one in model.stations if one.state is not Data.NORMAL]
    blind.sort(key=lambda one: (BLIND.index(one.state), one.newest_at_ms or 0))
    return Beside(
        mix=mix(model.reaches),
        met=sum(met),
        missed=len(met) - sum(met),
        unjudged=sum(one.water_class is None for one in model.reaches),
        reaches=_narrowed_reaches(model.reaches, chosen),
        urgent=None if seen.rows is None else tuple(one for one in every if _wanted(one, chosen)),
        by_colour=seen.open_by_colour,
        open=max(len(every), sum(seen.open_by_colour.values())),
        listed=len(every),
        overdue=sum(one.sort == "over" for one in every),
        placeless=len(every) - len(places_of(seen.rows or (), seen.registry)),
        blind=tuple(blind),
        stations=_narrowed_stations(model.stations, chosen),
        by_state=model.by_state,
    )


def _urgent(row: IncidentView, now_ms: int) -> Urgent:
    sort, words = deadline(row.incident, now_ms)
    return Urgent(row, sort, words)


def _urgency(one: Urgent) -> tuple[bool, bool, int, float, int]:
    """What is late first, then by colour, of these the one with the least time left; what late data showed last."""
    due = one.row.incident.case.due_ms
    return one.row.retrospective, one.sort != "over", one.row.colour.rank, due or float("inf"), one.row.id


def _wanted(one: Urgent, chosen: Choice) -> bool:
    return (not chosen.colour or one.row.colour == chosen.colour) and (not chosen.overdue or one.sort == "over")


def _narrowed_reaches(reaches: Sequence[ReachView], chosen: Choice) -> tuple[ReachView, ...]:
    wanted = chosen.water_class
    found = [one for one in reaches if wanted is None or int(one.water_class or 0) == wanted]
    return tuple(sorted(found, key=lambda one: (-(one.water_class or 0), one.key)))


def _narrowed_stations(stations: Sequence[StationView], chosen: Choice) -> tuple[StationView, ...]:
    """The worst state first, of these the worst class."""

    def wanted(one: StationView) -> bool:
        if chosen.state and one.state != chosen.state and not (chosen.state == "blind" and one.state in BLIND):
            return False
        return chosen.water_class is None or int(one.water_class or 0) == chosen.water_class

    found = [one for one in stations if wanted(one)]
    rank = {state: i for i, state in enumerate(BLIND)}
    found.sort(key=lambda one: (rank.get(one.state, len(rank)), -(one.water_class or 0), one.key))
    return tuple(found)


# -- the line of a day -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A day of one parameter as a small drawing: paths that are not joined over gaps, and the height of the limit."""

    width: int
    height: int
    paths: tuple[str, ...]
    last: Point | None
    limit: float | None


def line(
    times: Sequence[int], values: Sequence[float], joined: Sequence[bool], span: tuple[int, int], limit: float | None
) -> Line:
    """The drawing; ``values`` are the usable ones, ``joined`` tells which follow the one before without a gap."""
    width, height, margin = 336, 92, 8
    shown = [*values, *([] if limit is None else [limit])]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    room = max(high - low, abs(high) * 0.05, 1e-9)

    def xy(at: int, value: float) -> Point:
        x = margin + (width - 2 * margin) * (at - span[0]) / max(1, span[1] - span[0])
        return round(x, 1), round(height - margin - (height - 2 * margin) * (value - low) / room, 1)

    points = [xy(at, value) for at, value in zip(times, values, strict=True)]
    runs: list[list[Point]] = []
    for i, point in enumerate(points):
        if i and joined[i - 1]:
            runs[-1].append(point)
        else:
            runs.append([point])
    paths = tuple("M" + "L".join(f"{x} {y}" for x, y in (run if len(run) > 1 else run * 2)) for run in runs)
    return Line(width, height, paths, points[-1] if points else None, None if limit is None else xy(0, limit)[1])
