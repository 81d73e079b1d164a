"""The page of a station ``/stations/{key}``: what it measures, whether that can be believed, what happened there."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api import maintenance, problems
from api.access import needed_right
from api.maintenance import StationMaintenance
from api.pages import gauges
from api.pages.menu import INCIDENT, MAINTENANCE_OF, REPORT, RIVER
from api.pages.models import series
from api.pages.models import series_chart as chart
from api.pages.models import station as models
from api.pages.models.overview import Data, Model, data_state
from api.pages.models.registry import Hanging, hangings
from api.pages.models.series_chart import Neighbour
from api.pages.models.station import Span, Tile
from api.pages.series_panel import Compared, Happening, limit_words, panel
from api.pages.view import PageRoute, View, Viewing
from api.registries import find
from api.requests import CSV, MINUTE_FORM
from api.responses import answer, when
from api.routes.stations import series_of_station
from api.titles import titles
from governance.incidents import queries as incident_queries
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Incident
from governance.organisation.regions import Regions
from governance.organisation.roles import Right
from governance.organisation.terms import Appointment, offices, on_the_sign
from governance.people import store as people_store
from infra.errors import ConfigurationError, WaterError
from infra.texts import Text, say
from infra.times import beijing, beijing_day
from ingest import ledger, quarantine
from ingest.analysis.live_classes import STATION, ShownClass, current_classes
from ingest.ledger import Account
from ingest.quarantine import QuarantineEntry
from ingest.storage import maintenance as maintenance_store
from ingest.storage.port import Latest
from ingest.storage.port import series as series_of
from sensors.maintenance import Check
from sensors.quality.constants import COLD_START_MS
from sensors.source_attribution import RiverTree
from sensors.standards.gb3838 import Water
from sensors.stations import Deployment, Reach, Registry, Station

PATH = "/stations/{key}"
LISTED = 20
"""Incidents of a station that are listed, the newest."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True)
class Care:
    """Who looks after a station: its devices now and before, visits and checks, today's account, who answers for it.

    ``account`` and ``refused`` are None, too, for who may not see them.
    """

    done: StationMaintenance
    hung: list[Hanging]
    account: Account | None
    refused: QuarantineEntry | None
    people: tuple[Appointment, ...]


@dataclass(frozen=True)
class NewSensors:
    """Parameters whose readings are not compared with their past yet, and until when the last of them is not."""

    parameters: tuple[str, ...]
    until_ms: int


@dataclass(frozen=True)
class StationPage:
    """All that the page shows. ``views`` are the series on the chart, ``neighbours`` the stations to compare with."""

    station: Station
    name: Text
    reach: Reach | None
    state: Data
    newest_at_ms: int | None
    new: NewSensors | None
    shown: ShownClass | None
    tiles: tuple[Tile, ...]
    views: tuple[series.View, ...]
    span: Span
    neighbours: Mapping[str, Neighbour]
    incidents: tuple[tuple[Incident, Text], ...] | None
    care: Care

    @property
    def lead(self) -> Tile | None:
        """The tile of what decides the class; the first with a value where nothing does."""
        return next((one for one in self.tiles if one.value is not None), None)

    @property
    def parameters(self) -> str:
        """What is drawn, as an address has it."""
        return ",".join(view.parameter.key for view in self.views)


@router.get(PATH)
async def show(v: Viewing, key: str) -> Response:
    """The page, or the blocks of it that changed."""
    _permit(v)
    topics = (f"station-{key}", "incidents")
    picture = await v.live.now()
    return await run_in_threadpool(_show, v, key, picture, topics)


@router.get(PATH + "/chart")
def data(v: Viewing, key: str) -> Response:
    """What the chart draws: the columns of each parameter, its limits, its sentence, the neighbour to compare with."""
    try:
        _permit(v)
        return answer(_chart(v, key), headers={"Cache-Control": "no-store"})
    except WaterError as error:
        status = problems.of(error).sort.status
        return answer({"error": v.of(error.text), "status": status}, status)


@router.get(PATH + "/series.csv")
def table(v: Viewing, key: str) -> Response:
    """Every reading of one parameter in the span, as the route of the API answers it."""
    _permit(v)
    span = _span(v)
    parameter = v.query.get("parameter", "")
    return series_of_station(v.context, v.registries, key, parameter, when(span.start_ms), when(span.end_ms), None, CSV)


def _permit(v: View) -> None:
    v.require(needed_right("GET", "/stations/-/series"))


def _span(v: View) -> Span:
    """The span of the address; raises ConfigurationError where it names none."""
    span = models.span(v.query, v.now_ms)
    if span.wrong is not None:
        raise ConfigurationError(span.wrong)
    return span


def _show(v: View, key: str, picture: Model | None, topics: Sequence[str]) -> Response:
    registry = v.registries.recent()
    page = _read(v, registry, key)
    regions = {one.code: Text(one.zh, one.en) for one in registry.regions}
    return v.render(
        "station.html",
        status=400 if page.span.wrong else 200,
        picture=picture,
        topics=topics,
        page=page,
        as_table=v.query.get("view") == "table",
        axis="linear" if v.query.get("axis") == "linear" else "class",
        compared=v.query.get("compare", "") if v.query.get("compare", "") in page.neighbours else "",
        rows=[(view, series.table(view), series.sentence(view)) for view in page.views],
        rain=gauges.rain(v, registry, page.station, (page.span.start_ms, page.span.end_ms)),
        form={"from": v.query.get("from", ""), "to": v.query.get("to", "")},
        may_care=v.actor.may(MAINTENANCE_OF.right) and v.actor.covers(page.station.region, page.station.reach),
        may_river=v.actor.may(RIVER.right),
        may_staff=v.actor.may(Right.STAFF),
        may_account=v.actor.may(Right.ACCOUNT),
        may_devices=v.actor.may(Right.DEVICES),
        may_report=v.actor.may(REPORT.right),
        short=models.short,
        limit_of=lambda tile: limit_words(tile.limit, tile.direction),
        names=lambda keys: v.of(Text("、", ", ")).join(v.of(v.parameter(one)) for one in keys),
        minute=lambda at_ms: beijing(at_ms, MINUTE_FORM),
        day=lambda at_ms: beijing(at_ms, "%m-%d"),
        utc=when,
        passes=_passes,
        station_name=lambda other: v.of(Text(registry[other].zh, registry[other].en)),
        region_name=lambda code: v.of(regions[code]) if code in regions else code,
    )


def _passes(check: Check) -> bool | None:
    """Whether a check found the sensor right; None where that cannot be told yet."""
    try:
        return check.judged().passed
    except ConfigurationError:
        return None


def _read(v: View, registry: Registry, key: str) -> StationPage:
    """Everything the page shows. Raises NotFound, StorageUnavailable."""
    station = find(registry, key)
    rows = v.context.store.latest([key])
    reach = registry.reach(station.reach)
    with v.context.database.read() as connection:
        shown = current_classes(connection, STATION).get(key)
    target = None if reach is None else reach.target
    span = models.span(v.query, v.now_ms)
    read = lru_cache(maxsize=None)(lambda parameter, of: _series(v, station, parameter, rows, of))
    tiles = models.tiles(
        station,
        v.context.catalogue,
        rows,
        _trends(v, rows, read),
        shown,
        target,
        v.now_ms,
        registry.cycles_s(v.now_ms).get(key, {}),
    )
    newest = max((row.newest_at_ms for row in rows), default=None)
    state = data_state(newest, station.interval_s, v.now_ms, retired=key in registry.retired)
    if state is Data.RETIRED:
        tiles = tuple(replace(one, state=state) for one in tiles)
    return StationPage(
        station=station,
        name=Text(station.zh, station.en),
        reach=reach,
        state=state,
        newest_at_ms=newest,
        new=_new_sensors(v, rows),
        shown=shown,
        tiles=tiles,
        views=tuple(read(one, span) for one in models.panels(v.query.get("parameter", ""), tiles)),
        span=span,
        neighbours=_neighbours(registry, key),
        incidents=_incidents(v, registry, key),
        care=_care(v, registry, station, silent=not rows),
    )


def _new_sensors(v: View, rows: Collection[Latest]) -> NewSensors | None:
    """What reports here for less than three days."""
    first: dict[str, int] = {}
    start_ms = v.now_ms - COLD_START_MS
    for row in rows:
        if row.newest_at_ms < start_ms or len(v.context.store.before(row.station, row.parameter, start_ms, 1)):
            continue
        oldest = v.context.store.raw(row.station, row.parameter, start_ms, v.now_ms, 1).at
        if len(oldest):
            first[row.parameter] = int(oldest[0])
    return NewSensors(tuple(first), max(first.values()) + COLD_START_MS) if first else None


def _series(v: View, station: Station, parameter: str, rows: Collection[Latest], span: Span) -> series.View:
    """One parameter over the span; its newest value belongs to a span that ends now."""
    newest = next((row for row in rows if row.parameter == parameter), None)
    if newest is None or span.free:
        newest = Latest(station.key, parameter, None, None, 0, span.end_ms)
    return series.View(
        series=series_of(v.context.store, station.key, parameter, span.start_ms, span.end_ms + 1, series.POINTS),
        parameter=v.context.catalogue[parameter],
        latest=newest,
        interval_s=station.interval_s,
        start_ms=span.start_ms,
        end_ms=span.end_ms,
        limit=None,
        language=v.language,
    )


def _trends(v: View, rows: Collection[Latest], read: Callable[[str, Span], series.View]) -> dict[str, str]:
    """Where each parameter is going, by the last day; ``read`` keeps it for the chart, whose usual span it is."""
    day = models.span({}, v.now_ms)
    known = [row for row in rows if row.newest_at_ms >= day.start_ms and row.parameter in v.context.catalogue]
    return {row.parameter: series.trend(read(row.parameter, day)) for row in known}


def _neighbours(registry: Registry, key: str) -> dict[str, Neighbour]:
    try:
        return chart.neighbours(RiverTree(registry), key)
    except ConfigurationError:  # the reaches flow in a circle
        return {}


def _incidents(v: View, registry: Registry, key: str) -> tuple[tuple[Incident, Text], ...] | None:
    """The incidents of a station that concern who looks, the open ones first; None for who may not see any."""
    if not v.actor.may(INCIDENT.right):
        return None
    with v.context.database.read() as connection:
        found = incident_queries.list_incidents(connection, station=key, limit=LISTED)
    found = sorted((one for one in found if in_jurisdiction(one, v.actor)), key=lambda one: not one.is_open)
    named = titles(v.context, found, registry)
    return tuple((one, named[one.id]) for one in found)


def _care(v: View, registry: Registry, station: Station, silent: bool) -> Care:
    may_account = v.actor.may(Right.ACCOUNT)
    account, refused = None, None
    with v.context.database.read() as connection:
        if may_account:
            today = beijing_day(v.now_ms).isoformat()
            account = next(iter(ledger.accounts(connection, day=today, station=station.key, limit=1)), None)
        if may_account and silent:
            held = quarantine.listing(connection, status=None, station=station.key, limit=1)
            refused = held[0] if held else None
    return Care(
        done=maintenance.of_station(v.context, registry, v.actor, station.key),
        hung=hangings(registry, station.key, v.now_ms),
        account=account,
        refused=refused,
        people=in_office(v, registry, {station.region}, station.reach),
    )


def in_office(v: View, registry: Registry, places: Collection[str], reach: str) -> tuple[Appointment, ...]:
    """Who holds office now at some regions and a reach: those on the sign, and whom the person may see besides."""
    regions = Regions(registry.regions)
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection) if v.actor.may(Right.STAFF) else []
    known = {one for one in places if one in regions}
    here = [one for one in offices(terms, known, reach, regions, v.now_ms) if one.in_force(v.now_ms)]
    seen = {one.name for one in people_store.visible_people(v.actor, everybody, terms, regions, v.now_ms)}
    sign = {one.id for one in on_the_sign(here, v.now_ms)}
    return tuple(one for one in here if one.name in seen or one.id in sign)


# -- the chart's data --------------------------------------------------------------------------------------------------


def _chart(v: View, key: str) -> dict[str, Any]:
    registry = v.registries.recent()
    station = find(registry, key)
    span = _span(v)
    rows = v.context.store.latest([key])
    known = models.measured(station, v.context.catalogue, {row.parameter for row in rows})
    asked = [one for one in dict.fromkeys(v.query.get("parameter", "").split(",")) if one]
    if unknown := [one for one in asked if one not in known]:
        raise ConfigurationError(say("registry.not_in_catalogue", parameter=unknown[0][:80], known=", ".join(known)))
    reach = registry.reach(station.reach)
    neighbour = _neighbours(registry, key).get(v.query.get("compare", ""))
    target = None if reach is None else reach.target
    panels = []
    for one in asked[: models.MOST_PANELS]:
        view = _series(v, station, one, rows, span)
        limits = chart.limits(one, Water.of(station.water), target)
        compared = None if neighbour is None else _compared(v, registry, view, neighbour)
        panels.append(panel(v, view, limits, compared))
    happened = [
        one
        for one in happenings(v, registry, station)
        if one.since_ms <= span.end_ms and (one.since_ms if one.until_ms is None else one.until_ms) >= span.start_ms
    ]
    fallen = gauges.rain(v, registry, station, (span.start_ms, span.end_ms))
    return {"start": span.start_ms, "end": span.end_ms, "panels": panels, "happened": happened, "rain": fallen}


def happenings(v: View, registry: Registry, station: Station) -> Iterator[Happening]:
    """Incidents that concern who looks, visits, checks and swaps of sensors."""
    for incident, title in _incidents(v, registry, station.key) or ():
        ended = v.now_ms if incident.closed_at_ms is None else incident.closed_at_ms
        colour, href = incident.colour.value, v.to(f"/incidents/{incident.id}")
        sign = v.sign(f"incident.{colour}")
        yield Happening("incident", incident.since_ms, ended, v.of(title), colour, sign, href=href)
    with v.context.database.read() as connection:
        visits = maintenance_store.visits(connection, station.key)
        checks = maintenance_store.checks(connection, station.key)
    for _, visit in visits:
        yield Happening("visit", visit.since_ms, visit.until_ms or v.now_ms, visit.note)
    for _, check in checks:
        if not check.void:
            name = v.of(v.parameter(check.parameter))
            words = v.say("station.check_line", standard=f"{check.standard:g}", reading=f"{check.reading:g}")
            text = f"{name} {words}"
            yield Happening("check", check.at_ms, None, text, passed=_passes(check))
    hung: dict[str, Deployment] = {}
    for one in sorted(registry.deployments, key=lambda d: d.since_ms):
        if one.station == station.key and one.since_ms <= v.now_ms:
            before = hung.get(one.parameter)
            if before is not None:
                text = f"{v.of(v.parameter(one.parameter))} {before.device} → {one.device}"
                yield Happening("swap", one.since_ms, None, text)
            hung[one.parameter] = one


def _compared(v: View, registry: Registry, view: series.View, neighbour: Neighbour) -> Compared:
    """The neighbour's series so that the same water stands at the same place."""
    other = registry[neighbour.station]
    shift_ms = neighbour.travel_ms if neighbour.upstream else -neighbour.travel_ms
    span = Span(view.start_ms - shift_ms, min(view.end_ms - shift_ms, v.now_ms), "")
    theirs = _series(v, other, view.parameter.key, (), span)
    columns = chart.columns(theirs, shift_ms)
    return Compared(v.of(Text(other.zh, other.en)), shift_ms, columns)
