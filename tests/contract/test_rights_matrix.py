"""Every route and page, asked by every role, in the own region and in another: the answers stand in a table.

``tests/data/rights.txt`` is written by ``make rights`` from the routes of the application and real requests. A route
without a row, or one that answers somebody otherwise than its row, fails here.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from api import access, evidence
from api.access import Keeper
from api.app import create_app
from api.context import Context
from api.evidence import labels
from api.pages.view import View
from governance.incidents import store as incident_store
from governance.incidents.model import Action, Assignment, Order
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import PERSON_ROLES, Department, Role
from governance.people import store as people_store
from infra.database import Database
from infra.times import rfc3339
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import OPERATOR, a_finding
from tests.databases import with_tables

NOW = 1_790_000_000_000
BEGAN = NOW - 86_400_000
NOW_AT, BEGAN_AT = rfc3339(NOW), rfc3339(BEGAN)
TABLE = Path("tests/data/rights.txt")
EVERYBODY = ("nobody", *PERSON_ROLES)
OWN, OTHER = 0, 1
SIDES = (("north", "up", "d/n", "北长", 1), ("south", "down", "d/s", "南长", 2))
"""Station, reach, region, person and incident of the own region and of another."""

HEAD = (
    "# Written by `make rights` from the routes and their answers; see tests/contract/test_rights_matrix.py.\n"
    "# A letter for each of: " + ", ".join(EVERYBODY) + ".\n"
    "# - sign in first, x forbidden, 0 not found, + let in. The second column asks for what lies in another region."
)

REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("d/n", "北街", "North", Level.STREET, "d"),
    Region("d/s", "南街", "South", Level.STREET, "d"),
)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    database = with_tables(Database(f"sqlite:///{tmp_path}/river.db"))
    yield Context(database, SqlReadings(database, catalogue()), catalogue(), "/test", lambda: NOW, photos=tmp_path)
    database.close()


def people(context: Context) -> dict[str, str]:
    """A district of two streets, with a case in each, and the name of somebody in the north for every role."""
    stations = tuple(
        Station(station, station, station, 113.05, 23.0, reach=reach, region=region)
        for station, reach, region, *_ in SIDES
    )
    reaches = tuple(Reach(reach, reach, reach, Water.RIVER, ((113.0, 23.0), (113.1, 23.0))) for _, reach, *_ in SIDES)
    tree, made = Regions(REGIONS), {}
    with context.database.write() as connection:
        registry.save(connection, Registry(stations, (), reaches, catalogue(), regions=REGIONS))
        people_store.add(connection, "总", Role.ADMINISTRATOR, by="test", now_ms=BEGAN)
        for _, _, region, chief, _ in SIDES:
            people_store.add(connection, chief, Role.CHIEF, region=region, by="test", now_ms=BEGAN, regions=tree)
        for role in PERSON_ROLES:
            department = Department.WATER if role is Role.HANDLER else None
            name = f"北{role}"
            people_store.add(
                connection, name, role, region="d/n", department=department, by="test", now_ms=BEGAN, regions=tree
            )
            made[role] = name
        for station, _, region, chief, _ in SIDES:
            finding = a_finding(BEGAN, rule="nh3n", cause=station, station=station)
            found = incident_store.record_findings(
                connection, [finding], BEGAN, source="/test", place=lambda _, region=region: Place(region)
            )
            for order in (
                Order(Action.ACCEPT),
                Order(Action.DISPATCH, assignment=Assignment(responsible=chief)),
            ):
                incident_store.apply_action(connection, found.ids[0], order, OPERATOR, now_ms=BEGAN, source="/test")
    return made


def address(path: str, side: int) -> str:
    """The path of something in one's own region, or in another."""
    station, reach, region, person, number = SIDES[side]
    under = path.removeprefix("/api/v1").split("/")[1]
    known = {
        "incident_id": number,
        "name": person,
        "station": station,
        "code": region,
        "day": "2026-09-20",
        "key": {"reaches": reach, "rivers": reach}.get(under, station),
        "number": number if under == "incidents" else 999,
        "version": "v1.1",
        "path": "Things",
        "parameter": "do",
    }
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: str(known.get(found[1], "999")), path)


class _Answered(Exception):
    """The status is known; nobody reads on."""


async def ask(app: FastAPI, method: str, path: str, who: str, body: bytes, kind: str) -> int:
    headers = [
        (b"host", b"localhost"),
        (b"accept", b"text/html" if method == "GET" else b"*/*"),
        (b"content-length", str(len(body)).encode()),
    ]
    if kind:
        headers.append((b"content-type", kind.encode()))
    if who != "nobody":
        headers.append((b"cookie", f"{access.COOKIE}={who}".encode()))
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("localhost", 80),
    }  # fmt: skip
    status = 0

    bodies = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return bodies.pop() if bodies else await asyncio.Future()

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            raise _Answered

    try:
        await app(scope, receive, send)
    except BaseException:
        if not status:
            raise
    return status


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route, in their order; HEAD answers as GET does."""
    for route in app.router.routes:
        assert isinstance(route, Route), route
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield method, route.path


BODIES: dict[str, object] = {
    "/incidents/{incident_id}/actions": {"action": "comment", "comment": "示例"},
    "/incidents/{incident_id}/public-photos": {"photos": []},
    "/reaches/{key}/plan": {"goal": "示例"},
    "/stations/{key}": {"note": "示例"},
    "/stations/{key}/commands": {"command": "sample_now"},
    "/stations/{key}/credentials": {},
    "/stations/{key}/deployments": {"parameter": "do"},
    "/stations/{key}/deployments/{parameter}/end": {},
    "/stations/{key}/calibrations": {"parameter": "do", "type": "span", "standard": 8, "reading": 8},
    "/stations/{key}/calibrations/{number}": {"void": True},
    "/stations/{key}/visits": {},
    "/stations/{key}/visits/{number}/end": {},
    "/stations/{key}/reviews": {"since": BEGAN_AT, "until": NOW_AT, "verdict": "bad", "reason": "示例"},
    "/stations/{key}/reviews/{number}/confirm": {},
    "/stations/{key}/reviews/{number}/void": {},
    "/stations/{key}/mutes": {"until": rfc3339(NOW + 60_000), "reason": "示例"},
    "/stations/{key}/mutes/{number}/end": {},
    "/stations/{key}/retire": {"reason": "示例"},
    "/stations/{key}/reinstate": {},
    "/readings": {"station": "{station}", "readings": [{"at": BEGAN_AT, "values": {"ph": 7.1}}]},
    "/people/{name}": {"role": "chief"},
    "/people/{name}/appointments": {"region": "d/n"},
    "/people/{name}/contact": {"channels": []},
}
"""Bodies of changes that the API takes, by path: one that it does not take is refused before anybody asks where."""
FORMS = {
    "/incidents/{number:int}": "action=comment&comment=x",
    "/registry/stations/{key}": "what=note&note=x",
    "/review/{station}/{day}": "since=00:00&until=01:00&verdict=bad&reason=x",
    "/review/{station}/{day}/confirm": "number=999",
    "/maintenance/{key}": "what=visit",
    "/rivers/{key}": "goal=x",
    "/people/{name}": "do=change&role=chief",
}
"""The same for the forms of pages."""


def sent(path: str, side: int) -> tuple[bytes, str]:
    """The body of a change, and its type."""
    if path in FORMS or not path.startswith(("/api/", "/sta/")):
        return FORMS.get(path, "").encode(), "application/x-www-form-urlencoded"
    body = json.dumps(BODIES.get(path.removeprefix("/api/v1"), {})).replace("{station}", SIDES[side][0])
    return body.encode(), "application/json"


def sign(status: int, who: str, page: bool) -> str:
    """What an answer says of a right: ``-`` sign in first, ``x`` forbidden, ``0`` not found, ``+`` let in."""
    if status == 401 or (status == 303 and page and who == "nobody"):
        return "-"
    return {403: "x", 404: "0"}.get(status, "+")


async def at_once(function: Callable[..., Any], *given: Any, **_: Any) -> Any:
    """Run what would run in a thread of its own."""
    return function(*given)


async def table(app: FastAPI) -> list[str]:
    """The rows of the table; a route that fails fails the test."""
    rows = []
    for method, path in routes(app):
        cells = []
        for side in (OWN, OTHER):
            where = address(path, side)
            if side == OTHER and where == address(path, OWN) and path != "/api/v1/readings":
                break
            body, kind = (b"", "") if method == "GET" else sent(path, side)
            page = not path.startswith(("/api/", "/sta/"))
            cell = ""
            for who in EVERYBODY:
                status = await ask(app, method, where, who, body, kind)
                assert status < 500 or status == 503, (method, where, who, status)
                cell += sign(status, who, page)
            cells.append(cell)
        rows.append(f"{method:6} {path:66} {' '.join(cells)}")
    return rows


def test_every_route_answers_every_role_in_the_own_region_and_in_another_as_the_table_says(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(context)
    names = people(context)
    keeper: Keeper = app.state.keeper
    actors = {role: keeper.by_name(name) for role, name in names.items()}
    monkeypatch.setattr(keeper, "by_session", actors.get)  # whoever ends sessions here ends no one else's
    monkeypatch.setattr(to_thread, "run_sync", at_once)  # most of what a request costs is waking a thread
    # what a page looks like is no right
    monkeypatch.setattr(View, "render", lambda *_, status=200, **__: Response(status_code=status))
    monkeypatch.setattr(evidence, "pack", lambda *_, **__: b"")
    monkeypatch.setattr(labels, "write", lambda *_, **__: None)
    with capture_logs():
        found = asyncio.run(table(app))
    if os.environ.get("RIVERCHIEF_RIGHTS") == "write":
        TABLE.write_text("\n".join((HEAD, *found)) + "\n", encoding="utf-8")
    written = TABLE.read_text(encoding="utf-8").splitlines()[HEAD.count("\n") + 1 :]
    assert found == written, "run `make rights` and read what changed"
