"""One river, one file (一河一档): everything known of a reach at one instant, for the route and for the page."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api import assessment
from api.classes import LiveClassView, view
from api.context import Context
from api.responses import when
from api.titles import titles
from governance.assessment.model import CLASSES_ACTION
from governance.audit import trail as audit_trail
from governance.incidents import lifecycle
from governance.incidents import queries as incident_queries
from governance.incidents.finding import Colour
from governance.incidents.model import Incident
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Right
from governance.organisation.terms import Appointment, offices, on_the_sign
from governance.people import store as people_store
from governance.reports import river_plans
from governance.reports.river_plans import Goal, Plan
from infra.errors import NotFound
from infra.texts import say
from ingest.analysis.live_classes import REACH, STATION, current_classes
from ingest.storage.port import Latest
from sensors.network import along_km, length_km
from sensors.stations import Reach, Registry

DAYS = 400
"""Days of class history told."""
INCIDENTS = 100
"""Newest incidents of the reach that are told."""


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as it stands; earlier versions are in the trail (`kind=plan`). ``changed_by`` "": not for the caller."""

    problem: str
    goals: list[Goal]
    version: int
    changed_at: str | None
    changed_by: str


@dataclass(frozen=True, slots=True)
class OfficeView:
    """A term of office over this water, in force or to come; ``level`` is that of its region.

    ``reach`` is "" where the term is of all water of the region, ``deputy_of`` the chief whom a deputy helps. ``since``
    and ``until`` are told to who may see the person; others read what stands on the sign, and None for both.
    """

    name: str
    role: str
    level: str
    region: str
    region_zh: str
    region_en: str
    reach: str
    deputy_of: str
    since: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class StationView:
    """A station on the reach, ``km`` down from its upper end; ``newest_at`` is its newest reading of any flag."""

    key: str
    zh: str
    en: str
    km: float
    region: str
    newest_at: str | None
    interval_s: int
    live: LiveClassView | None
    retired: bool = False


@dataclass(frozen=True, slots=True)
class RiverFile:
    """A reach: facts, chiefs, stations, outfalls, live class and its history by day, incidents, plan.

    ``chiefs`` are the names of those who answer for it now. ``offices``, highest level first, say what the sign at the
    water says, the chiefs in office; of the people whom the caller may see also deputies, terms and those to come.
    ``red_since`` is since when a red incident of this water goes on, null where none does; everybody may know it.
    ``complaints`` is the telephone number of the sign, "" where the site has none.
    """

    key: str
    zh: str
    en: str
    water: str
    length_km: float
    downstream: str | None
    target: str | None
    note: str
    chiefs: list[str]
    offices: list[OfficeView]
    complaints: str
    stations: list[StationView]
    outfalls: list[dict[str, Any]]
    live: LiveClassView | None
    classes: list[dict[str, Any]]
    incidents: list[dict[str, Any]]
    plan: PlanView | None
    red_since: str | None = None


def gather(
    context: Context, registry: Registry, who: Actor, key: str, latest: Sequence[Latest] | None = None
) -> RiverFile:
    """Everything about a reach; of its incidents those that concern the caller. Raises NotFound, StorageUnavailable.

    ``latest`` are the newest readings of its stations, where they were read already.
    """
    reach = find(registry, key)
    now_ms = context.clock_ms()
    mine = [station for station in registry.stations if station.reach == key]
    keys = {station.key for station in mine}
    with context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection) if who.may(Right.STAFF) else []
        live = current_classes(connection, REACH, [key]).get(key)
        by_station = current_classes(connection, STATION, keys)
        days = audit_trail.list_entries(connection, what=CLASSES_ACTION, limit=DAYS)
        found = _incidents(connection, who, key, keys)
        plan = river_plans.get(connection, key)
        going_on = incident_queries.open_water_incidents(connection, key, keys)
    red = [i for i in going_on if i.colour is Colour.RED]
    newest: dict[str, int] = {}
    if latest is None:
        latest = context.store.latest(sorted(keys)) if mine else ()
    for row in latest:
        newest[row.station] = max(newest.get(row.station, 0), row.newest_at_ms)
    regions = Regions(registry.regions)
    named = titles(context, found, registry)
    held = offices(terms, {s.region for s in mine if s.region in regions}, key, regions, now_ms)
    seen = {one.name for one in people_store.visible_people(who, everybody, terms, regions, now_ms)}
    sign = {term.id for term in on_the_sign(held, now_ms)}
    return RiverFile(
        key=reach.key,
        zh=reach.zh,
        en=reach.en,
        water=reach.water,
        length_km=round(length_km(reach.line), 3),
        downstream=reach.downstream,
        target=None if reach.target is None else reach.target.roman,
        note=reach.note,
        chiefs=assessment.chiefs(terms, registry, key, now_ms),
        offices=[
            _office(term, regions, whole=term.name in seen) for term in held if term.name in seen or term.id in sign
        ],
        complaints=context.complaints,
        stations=sorted(
            (
                StationView(
                    s.key,
                    s.zh,
                    s.en,
                    round(along_km(reach.line, s.lon, s.lat), 2) if len(reach.line) > 1 else 0.0,
                    s.region,
                    when(newest.get(s.key)),
                    s.interval_s,
                    view(by_station.get(s.key)),
                    s.key in registry.retired,
                )
                for s in mine
            ),
            key=lambda one: (one.km, one.key),
        ),
        outfalls=[
            {"key": o.key, "zh": o.zh, "en": o.en, "km": o.km, "kind": o.kind}
            for o in sorted(registry.outfalls, key=lambda o: o.km)
            if o.reach == key
        ],
        live=view(live),
        classes=[
            {"at": when(line.at_ms), **classes_of_day[key]}
            for line in days
            if key in (classes_of_day := json.loads(line.body)["reaches"])
        ],
        incidents=[
            {
                "id": i.id,
                "state": i.state,
                "colour": i.colour,
                "title": named[i.id],
                "since": when(i.since_ms),
                "open": i.is_open,
            }
            for i in found
        ],
        plan=plan_view(plan, who),
        red_since=when(min(i.since_ms for i in red)) if red else None,
    )


def _incidents(connection: sa.Connection, who: Actor, key: str, stations: Collection[str]) -> list[Incident]:
    """The newest incidents of a reach that concern somebody."""
    if not who.may(Right.INCIDENTS):
        return []
    here = incident_queries.water_filter(key, stations)
    within = sa.and_(here, incident_queries.jurisdiction_filter(who))
    return [
        one
        for one in incident_queries.list_incidents(connection, within=within, limit=INCIDENTS)
        if lifecycle.in_jurisdiction(one, who)
    ]


def find(registry: Registry, key: str) -> Reach:
    """The reach called ``key``; raises NotFound naming it."""
    found = registry.reach(key)
    if found is None:
        raise NotFound(say("registry.no_reach", reach=key[:80]))
    return found


def plan_view(plan: Plan | None, who: Actor) -> PlanView | None:
    """A plan as it is answered: who changed it is for those who may see who is who."""
    if plan is None:
        return None
    by = plan.changed_by if who.may(Right.STAFF) else ""
    return PlanView(plan.problem, list(plan.goals), plan.version, when(plan.changed_at_ms), by)


def _office(term: Appointment, regions: Regions, *, whole: bool) -> OfficeView:
    region = regions[term.region]
    return OfficeView(
        name=term.name,
        role=term.role.value,
        level=region.level.key,
        region=term.region,
        region_zh=region.zh,
        region_en=region.en,
        reach=term.reach,
        deputy_of=term.deputy_of,
        since=when(term.since_ms) if whole else None,
        until=when(term.until_ms) if whole else None,
    )
