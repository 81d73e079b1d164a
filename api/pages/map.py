"""The map ``/``: which water is bad, where incidents are open, which stations cannot be seen; and the map's data."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api import svg
from api.access import needed_right
from api.pages.live import digest
from api.pages.menu import INCIDENTS, MAP, RIVER
from api.pages.models import map as models
from api.pages.models import series
from api.pages.models.board import holder
from api.pages.models.map import Beside, Choice, Line, Seen
from api.pages.models.overview import Model, ReachView, StationView
from api.pages.models.wall import lead
from api.pages.station import in_office
from api.pages.view import PageRoute, View, Viewing
from api.responses import answer
from api.routes.field_points import located
from governance.organisation.roles import Right, roles_with
from governance.organisation.terms import Appointment
from infra.texts import Text
from infra.times import DAY_MS
from ingest.analysis.live_classes import REACH, STATION, ShownClass, current_class, shown_at
from ingest.devices import credentials
from ingest.storage.port import Latest
from ingest.storage.port import series as series_of
from sensors.network import along_km
from sensors.standards import gb3838
from sensors.standards.gb3838 import Water, WaterClass
from sensors.stations import Reach, Registry, Station

DATA, POINTS, SKETCH = "/map/data", "/map/points", "/map/sketch.svg"
TOPICS = ("stations", "counts", "incidents", "classes")
KEPT = 64
"""Pictures that a change can be told from; who shows an older one is sent everything."""
MOST_PAST = 300
"""Stations of a site whose past classes are worked out: each one's readings are read."""
PAST_STEP_MS = DAY_MS // 24 // 6
MOST_SKETCHED = 80
NO_STORE = {"Cache-Control": "no-store"}
LINE_POINTS = 160
NEW_STATION, IMPORT = "/registry/stations/new", "/registry/import"
_FIELD = needed_right("GET", "/field-points")
_LAYER_OF = {"report": "reports", "hotline": "cases", "patrol": "patrols"}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


class Pictures:
    """The last pictures by their marks, so that a map is sent only what changed since the one that it shows."""

    def __init__(self) -> None:
        self._by_mark: OrderedDict[str, Seen] = OrderedDict()
        self._of: OrderedDict[tuple[object, ...], tuple[Model, str]] = OrderedDict()
        self._lock = Lock()

    def of(self, v: View, picture: Model) -> tuple[str, Seen]:
        """The picture as somebody sees it, and its mark."""
        incidents = v.actor.may(INCIDENTS.right)
        registry = v.registries.recent()
        who = (incidents, None if v.actor.regions is None or not incidents else v.actor)
        with self._lock:
            model, mark = self._of.get(who, (None, ""))
            known = self._by_mark.get(mark)
            if model is picture and known is not None and known.registry is registry:
                self._by_mark.move_to_end(mark)
                return mark, known
        seen = models.seen_by(picture, registry, v.actor, incidents=incidents)
        mark = digest((who, seen.marked))
        with self._lock:
            self._by_mark[mark] = seen
            self._of[who] = picture, mark
            for kept in (self._by_mark, self._of):
                while len(kept) > KEPT:
                    kept.popitem(last=False)
        return mark, seen

    def before(self, mark: str) -> Seen | None:
        """The picture of a mark; None for one that is not kept."""
        with self._lock:
            return self._by_mark.get(mark)


_pictures = Pictures()


# -- what the island asks for ------------------------------------------------------------------------------------------


@router.get(DATA)
async def data(v: Viewing) -> Response:
    """What a map draws: everything, or with ``since``, the mark of the picture it shows, what changed; with ``at``,
    hours back, the classes of that time."""
    v.require(MAP.right)
    picture = await v.live.now()
    if picture is None:
        return answer({}, 503, NO_STORE)
    return await run_in_threadpool(_data, v, picture)


def _data(v: View, picture: Model) -> Response:
    mark, seen = _pictures.of(v, picture)
    english = v.language == "en"
    chosen = models.choice(v.query, seen.registry)
    if chosen.hours:
        past = _past(v, seen, chosen.hours)
        return answer({"mark": "", **models.whole(past or seen, english)}, headers=NO_STORE)
    before = _pictures.before(v.query.get("since", ""))
    found: dict[str, Any] | None = None
    if before is not None and before.registry is seen.registry:
        found = models.changes(before, seen, english)
    return answer({"mark": mark, **(models.whole(seen, english) if found is None else found)}, headers=NO_STORE)


@router.get(POINTS)
async def points(v: Viewing) -> Response:
    """The points of layers: rain, open reports, hotline cases and today's patrols within reach of who asks."""
    v.require(MAP.right)
    picture = await v.live.now()
    return await run_in_threadpool(_points, v, picture)


def _points(v: View, picture: Model | None) -> Response:
    registry = v.registries.recent()
    layers = models.choice(v.query, registry).layers
    found = models.rain(picture, registry, v.language == "en") if picture and "rain" in layers else []
    if v.actor.may(_FIELD) and set(layers) & set(_LAYER_OF.values()):
        for one in located(v.context, v.actor, registry):
            told, place = one["properties"], one["geometry"]
            if place is None or _LAYER_OF[told["kind"]] not in layers:
                continue
            lon, lat = place["coordinates"]
            title = f"{v.of(told['title'])}"
            href = told["link"].removeprefix("/api/v1")
            point = {"kind": told["kind"], "title": title, "lon": lon, "lat": lat, "href": v.to(href)}
            found.append(point | ({"track": told["track"]} if "track" in told else {}))
    return answer({"points": found}, headers=NO_STORE)


@router.get(SKETCH)
def sketch(v: Viewing) -> Response:
    """The waters as a drawing, for who has no script."""
    v.require(MAP.right)
    registry = v.registries.recent()
    places = [svg.Place((s.lon, s.lat), v.of(Text(s.zh, s.en)), "station") for s in registry.stations[:MOST_SKETCHED]]
    lines = [reach.line for reach in registry.reaches[: 4 * MOST_SKETCHED]]
    drawn = svg.sketch(lines, places, label=v.say("map.sketch"))
    if "xmlns" not in drawn:
        drawn = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return Response(drawn, media_type="image/svg+xml", headers=NO_STORE)


# -- the page ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its age, its limit and the line of its day."""

    parameter: str
    latest: Latest
    station: Station
    limit: tuple[float, ...]
    against: WaterClass
    times: float | None
    line: Line
    sentence: str


@dataclass(frozen=True, slots=True)
class Drawer:
    """The chosen station or reach; ``stations`` lie on the reach, in the order of the flow."""

    name: Text
    region: str
    reach: Reach | None
    station: StationView | None
    water_class: WaterClass | None
    shown: ShownClass | None
    value: Value | None
    stations: tuple[StationView, ...]
    people: tuple[Appointment, ...]
    urgent: tuple[models.Urgent, ...]


@router.get(MAP.path)
async def show(v: Viewing) -> Response:
    """The page, or the blocks of it that changed."""
    v.require(MAP.right)
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, picture)


def _page(v: View, picture: Model | None) -> Response:
    if picture is None:
        return v.render("map.html", status=503, beside=None)
    registry = v.registries.recent()
    may_register = v.actor.may(needed_right("POST", "/stations"))
    if not registry.stations:
        return v.render(
            "map_empty.html",
            may=may_register,
            new=NEW_STATION,
            imported=IMPORT,
            who=roles_with(Right.REGISTRY),
            picture=picture,
            topics=TOPICS,
        )
    _, seen = _pictures.of(v, picture)
    chosen = models.choice(v.query, registry)
    past = _past(v, seen, chosen.hours) if chosen.hours else None
    beside = models.beside(seen, chosen)
    of_then = beside if past is None else models.beside(past, chosen)
    topics = (*TOPICS, f"station-{chosen.station}") if chosen.station else TOPICS
    return v.render(
        "map.html",
        picture=picture,
        topics=topics,
        beside=beside,
        then=of_then,
        chosen=chosen,
        drawer=_drawer(v, seen, beside, chosen) if chosen.selected else None,
        layers=_layers(v, seen),
        src=v.to(DATA, at=chosen.hours or None),
        points=v.to(POINTS),
        sketch=v.to(SKETCH),
        too_many=chosen.hours and past is None,
        then_ms=_then_ms(v.now_ms, chosen.hours),
        awaited=_awaited(v, beside) if beside.silent else (),
        hours_most=24 * models.DAYS_BACK,
        named=models.NAMED,
        most=models.URGENT,
        reach_name=lambda key: _reach_name(v, registry, key),
        region_name=lambda code: next((v.of(Text(r.zh, r.en)) for r in registry.regions if r.code == code), code),
        may_river=v.actor.may(RIVER.right),
        incidents_path=INCIDENTS.path,
        headline=lambda one: _headline(v, one),
        holder=holder,
    )


def _reach_name(v: View, registry: Registry, key: str) -> str:
    reach = registry.reach(key)
    return "" if reach is None else v.of(Text(reach.zh, reach.en))


def _headline(v: View, one: StationView) -> Latest | None:
    """The newest usable value of a station that says most: of what has limits, else any."""
    usable = [row for row in one.headline if row.value is not None]
    usable.sort(
        key=lambda row: (gb3838.direction(row.parameter) is None, v.context.catalogue.index.get(row.parameter, 999))
    )
    return usable[0] if usable else None


def _layers(v: View, seen: Seen) -> tuple[str, ...]:
    """The layers that have something on this site and for this person."""
    has = {
        "outfalls": bool(seen.registry.outfalls),
        "rain": any(row.parameter == "rain" for one in seen.model.stations for row in one.headline),
    }
    return tuple(one for one in models.LAYERS if has.get(one, v.actor.may(_FIELD)))


def _awaited(v: View, beside: Beside) -> tuple[tuple[StationView, str, int | None], ...]:
    """Stations that were never heard: the topic they should publish to, and their logins where the person may know."""
    logins: Mapping[str, int] | None = None
    if v.actor.may(Right.DEVICES):
        with v.context.database.read() as connection:
            logins = credentials.active_counts(connection, v.now_ms)
    first = beside.stations[: models.NAMED]
    return tuple(
        (one, f"rivers/v1/{one.key}/telemetry", None if logins is None else logins.get(one.key, 0)) for one in first
    )


# -- the past ----------------------------------------------------------------------------------------------------------


def _then_ms(now_ms: int, hours: int) -> int:
    """The instant so many hours back, in whole steps, so that people who look at it share the work."""
    at_ms = now_ms - hours * DAY_MS // 24
    return at_ms - at_ms % PAST_STEP_MS


def _past(v: View, seen: Seen, hours: int) -> Seen | None:
    """The classes as they stood so many hours back; None where the site has too many stations to work them out."""
    if len(seen.registry.stations) > MOST_PAST:
        return None
    reaches, stations = _classes_then(_Site(v, seen.registry), _then_ms(v.now_ms, hours))
    return models.seen_at(seen, reaches, stations)


class _Site:
    """What past classes are worked out from; equal for one store and one registry."""

    def __init__(self, v: View, registry: Registry) -> None:
        self.store, self.catalogue, self.registry = v.context.store, v.context.catalogue, registry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Site) and self.store is other.store and self.registry is other.registry

    def __hash__(self) -> int:
        return hash((id(self.store), id(self.registry)))


@lru_cache(maxsize=32)
def _classes_then(site: _Site, at_ms: int) -> tuple[dict[str, ShownClass], dict[str, WaterClass | None]]:
    shown = shown_at(site.registry, site.store, site.catalogue, at_ms)
    reaches = {one.key: one for one in shown if one.kind == REACH}
    return reaches, {one.key: one.water_class for one in shown if one.kind == STATION}


# -- the drawer --------------------------------------------------------------------------------------------------------


def _drawer(v: View, seen: Seen, beside: Beside, chosen: Choice) -> Drawer | None:
    registry = seen.registry
    if chosen.station:
        view = seen.model.station(chosen.station)
        if view is None:
            return None
        station = registry[chosen.station]
        with v.context.database.read() as connection:
            shown = current_class(connection, STATION, station.key)
        reach = registry.reach(station.reach)
        deciding = (*(shown.deciding if shown else ()), *(row.parameter for row in (_headline(v, view),) if row))
        value = next((one for key in deciding if (one := _value(v, station, view, key, reach))), None)
        return Drawer(
            name=view.name,
            region=station.region,
            reach=reach,
            station=view,
            water_class=view.water_class,
            shown=shown,
            value=value,
            stations=(),
            people=in_office(v, registry, {station.region}, station.reach),
            urgent=_concerning(beside, {station.key}, ""),
        )
    reach = registry.reach(chosen.reach)
    if reach is None:
        return None
    on = [one for one in registry.stations if one.reach == reach.key]
    if len(reach.line) > 1:
        on.sort(key=lambda one: along_km(reach.line, one.lon, one.lat))
    views = [view for one in on if (view := seen.model.station(one.key)) is not None]
    of_reach = next((one for one in seen.model.reaches if one.key == reach.key), None)
    return Drawer(
        name=Text(reach.zh, reach.en),
        region=on[0].region if on else "",
        reach=reach,
        station=None,
        water_class=of_reach.water_class if of_reach else None,
        shown=of_reach.shown if of_reach else None,
        value=_worst_value(v, of_reach, reach, views, registry),
        stations=tuple(views),
        people=in_office(v, registry, {one.region for one in on}, reach.key),
        urgent=_concerning(beside, {one.key for one in on}, reach.key),
    )


def _concerning(beside: Beside, stations: Collection[str], reach: str) -> tuple[models.Urgent, ...]:
    """The open incidents of some stations or of a reach."""
    return tuple(
        one
        for one in beside.urgent or ()
        if one.row.station in stations
        or (reach and one.row.incident.place.reach == reach)
        or any(condition.station in stations for condition in one.row.incident.active)
    )


def _worst_value(
    v: View, of_reach: ReachView | None, reach: Reach, views: Collection[StationView], registry: Registry
) -> Value | None:
    """The value that decides the class of a reach, at the station where it is worst."""
    if of_reach is None or of_reach.shown is None:
        return None
    found = lead(of_reach.shown, reach, {one.key: one for one in views}, [one.key for one in views])
    if found is None:
        return None
    for view in views:
        if any(row.parameter == found.parameter and row.value == found.value for row in view.headline):
            return _value(v, registry[view.key], view, found.parameter, reach)
    return None


def _value(v: View, station: Station, view: StationView, parameter: str, reach: Reach | None) -> Value | None:
    latest = next((row for row in view.headline if row.parameter == parameter and row.value is not None), None)
    if latest is None or latest.value is None or parameter not in v.context.catalogue:
        return None
    against = (reach.target if reach else None) or WaterClass.V
    water = Water.of(station.water)
    limit = gb3838.limit(parameter, water, against)
    rising = gb3838.direction(parameter) is gb3838.Direction.AT_MOST if limit is not None else False
    span = v.now_ms - DAY_MS, v.now_ms
    day = series.View(
        series=series_of(v.context.store, station.key, parameter, span[0], span[1] + 1, LINE_POINTS),
        parameter=v.context.catalogue[parameter],
        latest=latest,
        interval_s=station.interval_s,
        start_ms=span[0],
        end_ms=span[1],
        limit=None,
        language=v.language,
    )
    return Value(
        parameter=parameter,
        latest=latest,
        station=station,
        limit=() if limit is None else (limit,),
        against=against,
        times=latest.value / limit if rising and limit and latest.value > limit else None,
        line=_line(day, span, limit),
        sentence=series.sentence(day),
    )


def _line(day: series.View, span: tuple[int, int], limit: float | None) -> Line:
    """The day's usable values; what lies between two of them is joined only where nothing is missing."""
    usable = day.usable.nonzero()[0].tolist()
    joined = day.joined
    whole = [bool(joined[a:b].all()) for a, b in pairwise(usable)]
    times = [int(day.series.at[i]) for i in usable]
    return models.line(times, [float(day.series.value[i]) for i in usable], whole, span, limit)
