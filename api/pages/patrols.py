"""Which water was patrolled ``/patrols``, and one patrol with its track ``/patrols/{key}``."""

import sqlalchemy as sa
from fastapi import APIRouter, Response

from api.pages import list_export
from api.pages.forms import Fields
from api.pages.list_export import MOST_ROWS, Table, instant
from api.pages.menu import PATROL, PATROLS
from api.pages.models import patrols as models
from api.pages.view import HEADERS, PageRoute, View, Viewing
from api.responses import answer
from api.routes.field_points import middle_of, thinned
from governance.incidents import store as incident_store
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Incident
from governance.reports import patrols as store
from governance.reports.patrols import Patrol
from infra.errors import NotFound
from infra.texts import Text, say
from infra.times import DAY_MS
from sensors.network import length_km

MOST = 500
"""Patrols that are looked at and listed."""
NO_STORE = {"Cache-Control": HEADERS["Cache-Control"]}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(PATROLS.path)
def show(v: Viewing) -> Response:
    """How much of each water was patrolled in the days that the address asks for, and the patrols."""
    v.require(PATROLS.right)
    days, since_ms = _span(v)
    registry = v.registries.recent()
    near = {station.reach for station in registry.stations if v.actor.covers(station.region, station.reach)}
    everywhere = v.actor.regions is None
    mine = [one for one in registry.reaches if everywhere or one.key in near or v.actor.covers("", one.key)]
    with v.context.database.read() as connection:
        patrols = _visible(v, connection, since_ms, MOST)
        passed = store.passed_water(connection, since_ms, v.now_ms + 1)
    waters = models.rows(mine, passed or {}, patrols)
    chosen = v.query.get("reach", "")
    return v.render(
        "patrols.html",
        days=days,
        choices=models.DAYS,
        recorded=passed is not None,
        waters=waters,
        totals=models.totals(waters),
        reach=next((row.reach for row in waters if row.reach.key == chosen), None),
        patrols=models.of_reach(patrols, chosen),
        names={one.key: one for one in registry.reaches},
    )


@router.post(PATROLS.path + "/export")
def export(v: Viewing, given: Fields) -> Response:
    """The patrols of the list as a file."""
    v.require(PATROLS.right)
    _, since_ms = _span(v)
    with v.context.database.read() as connection:
        patrols = _visible(v, connection, since_ms, MOST_ROWS)
    names = {one.key: v.of(Text(one.zh, one.en)) for one in v.registries.recent().reaches}
    head = [v.say(f"patrols_page.{name}") for name in models.EXPORT_HEAD]
    rows = [
        (
            instant(one.started_ms),
            instant(one.ended_ms),
            one.by,
            one.chief,
            names.get(one.reach, one.reach),
            v.say(f"patrol.way_{one.way}"),
            round(one.metres / 1000, 2),
            round(one.minutes, 1),
            v.say("patrols_page.counts" if one.valid else "patrols_page.short"),
            v.of(one.why),
            " ".join(f"#{number}" for number in one.problems),
            one.note,
        )
        for one in models.of_reach(patrols, v.query.get("reach", ""))
    ]
    return list_export.answer(v, given, Table("patrols", head, rows))


def _span(v: View) -> tuple[int, int]:
    """The days that the address asks for, and when they began."""
    days = models.days_back(v.query.get("days", ""))
    return days, v.now_ms - days * DAY_MS


def _visible(v: View, connection: sa.Connection, since_ms: int, most: int) -> list[Patrol]:
    listed = store.listing(connection, start_ms=since_ms, limit=most)
    return [one for _, one in listed if store.may_see(v.actor, one)]


@router.get(PATROL.path)
def patrol(v: Viewing, key: str) -> Response:
    """A patrol: its track on the map, what it proves, and what was found on the way."""
    one = _find(v, key)
    names = {reach.key: reach for reach in v.registries.recent().reaches}
    passed = [
        (names[reach], sum(b - a for a, b in spans), length_km(names[reach].line))
        for reach, spans in one.covered.items()
        if reach in names
    ]
    return v.render("patrol.html", patrol=one, passed=passed, problems=_problems(v, one))


@router.get(PATROL.path + "/points")
def points(v: Viewing, key: str) -> Response:
    """The track of a patrol and the problems found on it, for the map."""
    one = _find(v, key)
    found: list[dict[str, object]] = []
    if one.track:
        middle = one.track[len(one.track) // 2]
        title = v.say("patrols_page.track")
        found.append(
            {"kind": "patrol", "title": title, "lon": middle.lon, "lat": middle.lat, "href": "", "track": thinned(one)}
        )
    registry = v.registries.recent()
    for case in _problems(v, one):
        lon, lat = case.place.lon, case.place.lat
        place = middle_of(case.place.reach, registry) if lon is None or lat is None else (lon, lat)
        if place is not None:
            href = v.to(f"/incidents/{case.id}")
            found.append({"kind": "report", "title": f"#{case.id}", "lon": place[0], "lat": place[1], "href": href})
    return answer({"points": found}, headers=NO_STORE)


def _find(v: View, key: str) -> Patrol:
    v.require(PATROL.right)
    with v.context.database.read() as connection:
        one = store.find(connection, key)
    if not store.may_see(v.actor, one):
        raise NotFound(say("patrol.unknown", key=key[:80]))
    return one


def _problems(v: View, one: Patrol) -> list[Incident]:
    """The cases filed on a patrol, of those who looks may see."""
    with v.context.database.read() as connection:
        found = [incident_store.get(connection, number) for number in one.problems]
    return [case for case in found if in_jurisdiction(case, v.actor)]
