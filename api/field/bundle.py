"""What a phone has with it where there is no network: stations and sensors, rules, tasks, within the person's reach."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Header, Response

from api import entity_tags
from api import maintenance as maintenance_views
from api.access import Keeping, Who
from api.context import Context
from api.field.kinds import mark, wants_photo
from api.field.signed import SentBy, SignedRoute
from api.maintenance import MOST_STOPS, MaintenanceSummary
from api.requests import RequestContext, RequestRegistries
from api.responses import answer, when
from api.routes.router import subject_router
from api.titles import titles
from governance.incidents import queries as incident_queries
from governance.incidents.model import Action
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Role
from infra.errors import ConfigurationError
from infra.texts import Text
from ingest.storage.port import Latest
from sensors import route
from sensors.standards import hj915
from sensors.stations import Deployment, Registry

router = subject_router("field", "/field/bundle", SignedRoute)

MOST_TASKS = 100
FEW_REACHES = 200
"""So many reaches are taken along whole: 100 kB."""
_BY_A_HANDLER = {Action.START, Action.FINISH, Action.CONTRIBUTE}


@dataclass(frozen=True, slots=True)
class Person:
    """Who the bundle is for; ``helps`` are the chiefs whose deputy they are."""

    name: str
    role: Role
    helps: Sequence[str]


@dataclass(frozen=True, slots=True)
class CheckLimit:
    """The check that a parameter's sensor usually gets, and the largest error that passes: in its unit or in %."""

    type: str
    kind: str
    most: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What is judged on the phone as here: patrols, checks by parameter and their days, plausible ranges."""

    patrol: Mapping[str, float]
    calibration: Mapping[str, CheckLimit]
    next_due_days: Mapping[str, int]
    plausible: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest usable reading, in the parameter's canonical unit."""

    value: float
    at: str | None


@dataclass(frozen=True, slots=True)
class BundleDeployment:
    """A sensor that hangs; ``etag`` is the `base` of a record about it."""

    parameter: str
    name: Text
    unit: str
    serial: str
    model: str
    depth_m: float | None
    since: str | None
    etag: str
    last_calibration_at: str | None
    due_at: str | None
    latest: Reading | None
    plausible: tuple[float, float]


@dataclass(frozen=True, slots=True)
class BundleStation:
    """A station with what hangs there."""

    key: str
    name: Text
    lon: float
    lat: float
    reach: str
    retired: bool
    deployments: list[BundleDeployment]


@dataclass(frozen=True, slots=True)
class BundleReach:
    """A reach with its line, (lon, lat)."""

    key: str
    name: Text
    line: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class BundleTask:
    """An incident that waits for the person; ``phone`` is the number of the duty desk, "" for none."""

    number: int
    title: Text
    colour: str
    due_at: str | None
    place: Mapping[str, float] | None
    needs_photo: bool
    phone: str


@dataclass(frozen=True, slots=True)
class Matter:
    """A kind of incident that a report can name."""

    key: str
    name: Text


@dataclass(frozen=True, slots=True)
class BundleParameter:
    """A parameter that a new sensor may measure, in its canonical unit."""

    parameter: str
    name: Text
    unit: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A station where checks are due, by parameter."""

    station: str
    due: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that the field app shows without a network."""

    as_of: str | None
    person: Person
    phone: str | None
    rules: Rules
    stations: list[BundleStation]
    reaches: list[BundleReach]
    tasks: list[BundleTask]
    matters: list[Matter]
    parameters: list[BundleParameter]
    route: list[Stop]


@router.get("", response_model=Bundle, responses={304: {"description": "the phone has it"}})
def get_bundle(
    context: RequestContext,
    who: Who,
    keeper: Keeping,
    registries: RequestRegistries,
    phone: SentBy,
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """What a phone takes along, within reach of who asks; 304 where it has it already."""
    registry, regions = registries.recent(), keeper.regions()
    keys = {one.key for one in registry.stations if who.covers(one.region, one.reach)}
    cares = maintenance_views.of_all(context, registry, who, keys)
    stations = _stations(context, registry, cares)
    bundle = Bundle(
        as_of=None,
        person=Person(who.name, who.role, sorted(who.helps)),
        phone=phone,
        rules=_rules(context),
        stations=stations,
        reaches=_reaches(registry, regions, who, stations),
        tasks=_tasks(context, who),
        parameters=[BundleParameter(p.key, Text(p.zh, p.en), p.unit) for p in context.catalogue.parameters],
        matters=[Matter(one.key, Text(one.zh, one.en)) for one in context.processes.known],
        route=_route(cares, context.clock_ms()),
    )
    tag = entity_tags.tag_of(bundle)
    headers = entity_tags.headers(tag) | {"Cache-Control": "private, no-cache"}
    if f'"{tag}"' in if_none_match:
        return Response(status_code=304, headers=headers)
    return answer(replace(bundle, as_of=when(context.clock_ms())), headers=headers)


def _rules(context: Context) -> Rules:
    limits = {}
    for one in context.catalogue.parameters:
        kind = hj915.kinds(one.key)[0]
        with suppress(ConfigurationError):  # no limit is known
            limit = hj915.limit(kind, one.key)
            limits[one.key] = CheckLimit(kind.value, limit.kind.value, limit.most)
    every = [one.key for one in context.catalogue.parameters]
    return Rules(
        patrol={"minutes": context.patrols.minutes, "metres": context.patrols.metres},
        calibration=limits,
        next_due_days={key: days for key in every if (days := hj915.check_days(key)) is not None},
        plausible={one.key: one.plausible for one in context.catalogue.parameters},
    )


def _stations(context: Context, registry: Registry, cares: Sequence[MaintenanceSummary]) -> list[BundleStation]:
    now_ms = context.clock_ms()
    models = {one.serial: one.model for one in registry.devices}
    hung: dict[str, list[Deployment]] = defaultdict(list)
    for hangs in registry.deployments:
        hung[hangs.station].append(hangs)
    found = []
    for care in cares:
        station, due = care.station, {one.parameter: one for one in care.due}
        newest = {one.parameter: one for one in care.latest}
        deployments = []
        for one in _in_force(hung[station.key], now_ms):
            if one.parameter in context.catalogue:
                known, check = context.catalogue[one.parameter], due.get(one.parameter)
                deployments.append(
                    BundleDeployment(
                        parameter=one.parameter,
                        name=Text(known.zh, known.en),
                        unit=known.unit,
                        serial=one.device,
                        model=models.get(one.device, ""),
                        depth_m=one.depth_m,
                        since=when(one.since_ms),
                        etag=mark(one),
                        last_calibration_at=when(check.last_ms) if check else None,
                        due_at=when(check.due_ms) if check else None,
                        latest=_reading(newest.get(one.parameter)),
                        plausible=known.plausible,
                    )
                )
        called, gone = Text(station.zh, station.en), station.key in registry.retired
        found.append(BundleStation(station.key, called, station.lon, station.lat, station.reach, gone, deployments))
    return found


def _in_force(hung: Iterable[Deployment], now_ms: int) -> Iterable[Deployment]:
    """The last deployment of each parameter that has begun, where it has not ended."""
    begun = {d.parameter: d for d in sorted(hung, key=lambda d: d.since_ms) if d.since_ms <= now_ms}
    return (d for _, d in sorted(begun.items()) if d.until_ms is None or d.until_ms > now_ms)


def _reading(newest: Latest | None) -> Reading | None:
    return None if newest is None or newest.value is None else Reading(newest.value, when(newest.at_ms))


def _reaches(registry: Registry, regions: Regions, who: Actor, stations: Iterable[BundleStation]) -> list[BundleReach]:
    """The waters within reach; where there are few, all of them, for a patrol may leave its region."""
    shown = {one.key for one in registry.reaches} if len(registry.reaches) <= FEW_REACHES else set()
    shown |= {one.reach for one in stations}
    return [
        BundleReach(one.key, Text(one.zh, one.en), one.line)
        for one in registry.reaches
        if one.key in shown or who.covers(regions.along(one.key), one.key)
    ]


def _tasks(context: Context, who: Actor) -> list[BundleTask]:
    with context.database.read() as connection:
        waiting = incident_queries.worklist(connection, who, context.clock_ms(), limit=MOST_TASKS)
    found = [one for one, actions in waiting if _BY_A_HANDLER & set(actions)]
    title_of = titles(context, found)
    tasks = []
    for one in found:
        lon, lat = one.place.lon, one.place.lat
        place = None if lon is None or lat is None else {"lon": lon, "lat": lat}
        due, photo = when(one.case.due_ms), wants_photo(context, one)
        tasks.append(BundleTask(one.id, title_of[one.id], one.colour, due, place, photo, context.complaints))
    return tasks


def _route(cares: Iterable[MaintenanceSummary], now_ms: int) -> list[Stop]:
    """Where checks are overdue, the longest first and then along a short way."""
    late = [(one.station, [due for due in one.due if due.overdue(now_ms)]) for one in cares]
    late = [(station, found) for station, found in late if found]
    late.sort(key=lambda pair: min(due.due_ms or 0 for due in pair[1]))
    stops = late[:MOST_STOPS]
    way = route.order([(station.lon, station.lat) for station, _ in stops])
    return [Stop(stops[i][0].key, [due.parameter for due in stops[i][1]]) for i in way]
