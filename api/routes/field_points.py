"""What people found and do out there, as points for the map: open reports, hotline cases, patrols of today."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from fastapi import Response

from api.access import Who
from api.context import Context
from api.requests import GEOJSON, RequestContext, RequestRegistries
from api.responses import feature, features, when
from api.routes.router import subject_router
from api.titles import titles
from governance.incidents import queries as incident_queries
from governance.incidents.finding import FindingKind
from governance.incidents.model import Incident, Source
from governance.organisation.roles import Actor
from governance.reports import patrols as patrol_store
from governance.reports.patrols import Patrol
from infra.texts import Text, say
from infra.times import BEIJING_OFFSET_MS, DAY_MS
from sensors.network import length_km, point_at_km
from sensors.stations import Registry

AT_MOST = 500
"""Cases, and patrols, on one map: the newest."""
TRACK_POINTS = 200
"""Points of a track on a map; a day has tens of thousands."""
router = subject_router("cases", "/field-points")


@router.get("", response_class=Response, responses={200: {"content": {GEOJSON: {}}}})
def field_points(context: RequestContext, who: Who, registries: RequestRegistries) -> Response:
    """GeoJSON of the open reports and hotline cases within reach of who asks, and of today's patrols they may see.

    Properties: `kind` (`report`, `hotline`, `patrol`), `at`, `title`, `colour` (null of a patrol), `link`, `track`
    (of a patrol: [lon, lat] of some of its points). A place that is only known as a reach is the middle of it, `exact`
    false; without any the geometry is null.
    """
    return features(located(context, who, registries.recent()))


def located(context: Context, who: Actor, registry: Registry) -> list[dict[str, Any]]:
    """The features of the route."""
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        cases = incident_queries.list_incidents(
            connection,
            open_only=True,
            kinds=(FindingKind.REPORT,),
            within=incident_queries.jurisdiction_filter(who),
            limit=AT_MOST,
        )
        patrols = list(_patrols_of_today(connection, who, now_ms))
    names = titles(context, cases, registry)
    return [
        *(_case(one, names[one.id], registry) for one in cases),
        *(_patrol(one, registry) for one in patrols),
    ]


def _patrols_of_today(connection: sa.Connection, who: Actor, now_ms: int) -> Iterator[Patrol]:
    """Patrols that began today (Beijing), with their tracks; one track at a time, as one can be long."""
    today_ms = now_ms - (now_ms + BEIJING_OFFSET_MS) % DAY_MS
    for _, one in patrol_store.listing(connection, start_ms=today_ms, limit=AT_MOST):
        if patrol_store.may_see(who, one):
            yield patrol_store.find(connection, one.key)


def _case(one: Incident, title: Text, registry: Registry) -> dict[str, Any]:
    lon, lat = one.place.lon, one.place.lat
    place = None if lon is None or lat is None else (lon, lat)
    kind = "hotline" if one.case.source is Source.HOTLINE else "report"
    told = {"kind": kind, "at": when(one.opened_at_ms), "title": title, "colour": one.colour}
    link = f"/incidents/{one.id}"
    return _point(link, place, one.place.reach, registry, {**told, "link": link})


def _patrol(one: Patrol, registry: Registry) -> dict[str, Any]:
    middle = one.track[len(one.track) // 2] if one.track else None
    place = None if middle is None else (middle.lon, middle.lat)
    title = say("patrol.on_map", way=say(f"patrol.way_{one.way}"))
    link = f"/api/v1/patrols/{one.key}"
    told = {"kind": "patrol", "at": when(one.started_ms), "title": title, "colour": None, "track": thinned(one)}
    return _point(link, place, one.reach, registry, {**told, "link": link})


def thinned(one: Patrol) -> list[tuple[float, float]]:
    """The line (lon, lat) of a patrol's track with at most so many points as a map shows, the last among them."""
    step = len(one.track) // TRACK_POINTS + 1
    return [(point.lon, point.lat) for point in (*one.track[:-1:step], *one.track[-1:])]


def middle_of(reach: str, registry: Registry) -> tuple[float, float] | None:
    """The middle of a reach (lon, lat), for what is only known to be there; None where its line is not known."""
    line = next((one.line for one in registry.reaches if one.key == reach), ())
    return point_at_km(line, length_km(line) / 2) if len(line) > 1 else None


def _point(
    key: str, place: tuple[float, float] | None, reach: str, registry: Registry, told: Mapping[str, Any]
) -> dict[str, Any]:
    exact = place is not None
    place = place or middle_of(reach, registry)
    geometry = None if place is None else {"type": "Point", "coordinates": place}
    return feature(key, geometry, {**told, "reach": reach, "exact": exact})
