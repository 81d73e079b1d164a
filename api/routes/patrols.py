"""Patrols: uploaded whole, once, from a field that was without a signal."""

from dataclasses import dataclass, replace
from typing import Annotated

import sqlalchemy as sa
from fastapi import Query, Response
from pydantic import Field

from api.access import Keeping, Who, on_behalf
from api.context import Context
from api.incident_actions import known_matter
from api.requests import (
    By,
    Cursor,
    Limit,
    RequestContext,
    RequestRegistries,
    Strict,
    Words,
    cut,
    instant,
    one_of,
    place_by_number,
)
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.incidents import attachments
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order, Source
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor
from governance.organisation.terms import chief_of
from governance.people import store as people_store
from governance.reports import patrols as store
from governance.reports.patrols import Patrol, Point
from infra.errors import ConfigurationError, NotFound
from infra.texts import Text, say
from sensors.stations import Registry

PATROLS = "/patrols"
MOST_BYTES = 2 * 1024 * 1024
router = subject_router("patrols", PATROLS)


TrackPoint = Annotated[tuple[Words, float, float], Field(strict=False)]
"""A list of three in JSON; its members are as strict as everything else."""


class Problem(Strict):
    """Something seen on the way; it becomes an incident."""

    text: Words = Field(max_length=4000)
    at: Words = Field(max_length=64, description="RFC 3339")
    lon: float | None = Field(None, ge=-180, le=180)
    lat: float | None = Field(None, ge=-90, le=90)
    colour: Words = Field("yellow", examples=list(Colour))
    matter: Words = Field("", max_length=64)
    attachments: list[Words] = Field(default_factory=list, max_length=20)


class NewPatrol(Strict):
    """A patrol as the device recorded it; `id` is made by the device and makes a second upload the same one.

    `track` holds [RFC 3339 time, lon, lat] in WGS 84, in order of time. Where no track is meant (`way`: drone, meeting,
    on_site) it may be empty.
    """

    id: Words = Field(max_length=64)
    started_at: Words = Field(max_length=64)
    ended_at: Words = Field(max_length=64)
    way: Words = Field("walk", examples=list(store.WAYS))
    reach: Words = ""
    note: Words = Field("", max_length=4000)
    track: list[TrackPoint] = Field(default_factory=list, max_length=store.MAX_POINTS)
    problems: list[Problem] = Field(default_factory=list, max_length=50)
    by: By = None


@dataclass(frozen=True, slots=True)
class PatrolView:
    """A patrol: ``valid`` says whether it counts by the site's rule and ``why`` tells the numbers.

    ``chief`` is the chief in whose place a deputy walked, else "".
    ``problems`` are numbers of incidents; ``covered`` the stretches of reaches that the track passed, from and to in km
    down the reach; ``track`` is GeoJSON, null in lists. Metres and minutes are what the track
    proves: jumps of the receiver are left out and counted.
    """

    id: str
    by: str
    role: str
    chief: str
    reach: str
    region: str
    started_at: str
    ended_at: str
    uploaded_at: str
    metres: int
    minutes: float
    jumps: int
    valid: bool
    why: Text
    way: str
    note: str
    problems: tuple[int, ...]
    covered: dict[str, tuple[tuple[float, float], ...]]
    track: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class PatrolPage:
    """Patrols, the last uploaded first."""

    items: list[PatrolView]
    next_cursor: str | None


@router.post("", status_code=201, response_model=PatrolView)
def upload(
    context: RequestContext, who: Who, keeper: Keeping, registries: RequestRegistries, new: NewPatrol
) -> Response:
    """Keep a patrol and file the problems found on it, all or nothing. The same patrol twice is one."""
    made, fresh = keep_patrol(context, keeper.regions(), registries.recent(), on_behalf(who, new.by), new)
    return answer(_view(made), 201 if fresh else 200)


def keep_patrol(
    context: Context, regions: Regions, registry: Registry, actor: Actor, new: NewPatrol
) -> tuple[Patrol, bool]:
    """Keep a patrol and file its problems; the patrol, and whether it is new here.

    Raises ConfigurationError, NotFound for an unknown reach or photo, Forbidden, Refused.
    """
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        try:
            return store.find(connection, new.id, actor.name), False
        except NotFound:
            pass
    started_ms, ended_ms = instant("started_at", new.started_at), instant("ended_at", new.ended_at)
    track = [Point(instant(f"track[{i}]", at), lon, lat) for i, (at, lon, lat) in enumerate(new.track)]
    store.check_upload(new.id, new.way, started_ms, ended_ms, track, now_ms)
    waters = {one.key: one.line for one in registry.reaches}
    if new.reach and new.reach not in waters:
        raise NotFound(say("registry.no_reach", reach=new.reach[:80]))
    done = store.measure_track(track, context.patrols)
    valid, why = store.judge_patrol(new.way, done, context.patrols)
    middle = track[len(track) // 2] if track else None
    region = "" if middle is None else regions.at(middle.lon, middle.lat)
    with context.database.write() as connection:
        numbers = [_file(connection, context, actor, regions, new, one, track) for one in new.problems]
        made = Patrol(
            key=new.id,
            by=actor.name,
            role=actor.role,
            reach=new.reach,
            region=region,
            started_ms=started_ms,
            ended_ms=ended_ms,
            uploaded_ms=now_ms,
            metres=done.metres,
            minutes=done.minutes,
            jumps=done.jumps,
            valid=valid,
            why=why,
            way=new.way,
            note=new.note,
            problems=tuple(numbers),
            covered=store.walked_water(track, waters, context.patrols),
            track=tuple(track),
            chief=_chief(connection, actor, regions, Place(region, new.reach), started_ms),
        )
        made = store.without_duplicates(connection, made)
        store.add(connection, made)
    if numbers:
        context.wake()
    return made, True


def _chief(connection: sa.Connection, actor: Actor, regions: Regions, place: Place, at_ms: int) -> str:
    """The chief in whose place a deputy was on patrol; "" for who walks for himself."""
    found = chief_of(people_store.appointments(connection), actor.name, regions, at_ms, place)
    return "" if found == actor.name else found


@dataclass(frozen=True, slots=True)
class Corrected:
    """What somebody corrects of a patrol; None leaves it. ``undone``: it was none, and counts nowhere."""

    way: str | None = None
    reach: str | None = None
    note: str | None = None
    undone: bool = False


def correct_patrol(context: Context, registry: Registry, actor: Actor, key: str, new: Corrected) -> Patrol:
    """One's own patrol as corrected, judged anew by the track that it has.

    Raises NotFound, also for a reach, ConfigurationError for a way that is none, Refused where it is too late.
    """
    if new.reach and new.reach not in {one.key for one in registry.reaches}:
        raise NotFound(say("registry.no_reach", reach=new.reach[:80]))
    with context.database.write() as connection:
        before = store.find(connection, key, actor.name)
        way = store.check_way(before.way if new.way is None else new.way)
        done = store.TrackResult(before.metres, before.minutes, before.jumps)
        valid, why = (False, say("patrol.taken_back")) if new.undone else store.judge_patrol(way, done, context.patrols)
        after = replace(
            before,
            way=way,
            reach=before.reach if new.reach is None else new.reach,
            note=before.note if new.note is None else new.note,
            valid=valid,
            why=why,
            covered={} if new.undone else before.covered,
        )
        after = store.without_duplicates(connection, after)
        store.correct(connection, before, after, context.clock_ms())
    return after


@router.get("", response_model=PatrolPage)
def list_patrols(
    context: RequestContext,
    who: Who,
    by: Annotated[Words | None, Query(description="only those of this person, or of their deputies")] = None,
    reach: Annotated[Words | None, Query()] = None,
    start: Annotated[str | None, Query(description="began at or after, RFC 3339")] = None,
    end: Annotated[str | None, Query(description="began before, RFC 3339")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """One's own patrols, and those of the regions one answers for."""
    before = place_by_number("patrols", cursor)
    with context.database.read() as connection:
        found = store.listing(
            connection,
            by=by,
            reach=reach,
            start_ms=None if start is None else instant("start", start),
            end_ms=None if end is None else instant("end", end),
            before_id=before,
            limit=limit + 1,
        )
    page, following = cut("patrols", found, limit, lambda one: one[0])
    seen = [_view(one, whole=False) for _, one in page if store.may_see(who, one)]
    return answer(PatrolPage(seen, following))


@router.get("/{key}", response_model=PatrolView)
def get_patrol(context: RequestContext, who: Who, key: str) -> Response:
    """One patrol with its track."""
    with context.database.read() as connection:
        one = store.find(connection, key)
    if not store.may_see(who, one):
        raise NotFound(say("patrol.unknown", key=key[:80]))
    return answer(_view(one))


def _file(
    connection: sa.Connection,
    context: Context,
    actor: Actor,
    regions: Regions,
    new: NewPatrol,
    one: Problem,
    track: list[Point],
) -> int:
    """The number of the incident a problem becomes; without a place of its own it is where the track was then."""
    at_ms = instant("problems.at", one.at)
    lon, lat = one.lon, one.lat
    if (lon is None) != (lat is None):
        raise ConfigurationError(say("patrol.lon_lat"))
    if lon is None and track:
        nearest = min(track, key=lambda point: abs(point.at_ms - at_ms))
        lon, lat = nearest.lon, nearest.lat
    region = "" if lon is None or lat is None else regions.at(lon, lat)
    attachments.get(connection, one.attachments, actor)
    known_matter(context, one.matter)
    colour = one_of(Colour, "colour", one.colour)
    made = incident_store.file_report(
        connection,
        Order(Action.ACCEPT, comment=one.text, attachments=tuple(one.attachments), matter=one.matter),
        actor,
        colour=colour,
        origin=Source.PATROL,
        place=Place(region, new.reach, lon, lat),
        now_ms=context.clock_ms(),
        source=context.source,
        policy=context.processes.policy,
    )
    return made.id


def _view(one: Patrol, *, whole: bool = True) -> PatrolView:
    line: dict[str, object] | None = None
    if whole and one.track:
        line = {"type": "LineString", "coordinates": [[p.lon, p.lat] for p in one.track]}
    return viewed(
        PatrolView,
        one,
        id=one.key,
        metres=round(one.metres),
        minutes=round(one.minutes, 1),
        track=line,
    )
