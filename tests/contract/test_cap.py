"""Warnings in the Common Alerting Protocol: what leaves, to whom, and that other programs can read it."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from lxml import etree

from api.app import create_app
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.cap import CapSettings
from governance.incidents.finding import Colour, Finding, FindingKind
from governance.incidents.model import Action, Order
from governance.organisation.roles import Actor, Role
from infra.database import Database
from tests import pages_site
from tests.cap import cap_schema
from tests.cases import a_finding
from tests.page_browser import browser_of

SETTINGS = CapSettings("hzb.example.cn", "河长办（示例）", "Exercise", "河长办及平台", "https://r.example.cn")
OFFICE = Actor(pages_site.OFFICE, Role.OFFICE)
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"
ATOM = "{http://www.w3.org/2005/Atom}"
SCHEMA = cap_schema()


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    context = pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None)
    return create_app(replace(context, cap=SETTINGS))


def found(database: Database, cause: str, at_ms: int, **other: object) -> int:
    """An incident of a station of the site, by one finding."""
    values = {"cause": cause, "station": pages_site.STATION, **other}
    one: Finding = a_finding(at_ms, **values)
    with database.write() as connection:
        (number,) = incident_store.record_findings(connection, [one], at_ms, source=pages_site.SOURCE).ids
    return number


def do(database: Database, number: int, at_ms: int, order: Order, who: Actor = OFFICE) -> None:
    with database.write() as connection:
        incident_store.apply_action(connection, number, order, who, now_ms=at_ms, source=pages_site.SOURCE)


def told(app: FastAPI, number: int, name: str = pages_site.OFFICE) -> list[tuple[str, bytes]]:
    """Kind and bytes of each message of an incident, oldest first, as the feed leads to them."""
    client = browser_of(app, name)
    feed = ElementTree.fromstring(client.get("/cap/feed").content)
    links = [link.get("href", "") for link in feed.iter(f"{ATOM}link") if link.get("rel") == "alternate"]
    mine = [link.removeprefix("https://r.example.cn") for link in links if f"/riverchief-{number}-" in link]
    bodies = [client.get(link).content for link in reversed(mine)]
    return [(ElementTree.fromstring(body).findtext(f"{CAP}msgType", ""), body) for body in bodies]


def values(body: bytes, name: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(body).iter(f"{CAP}{name}")]


def test_an_incident_leaves_as_alert_update_and_all_clear_that_the_schema_accepts(
    app: FastAPI, database: Database
) -> None:
    now = pages_site.now_ms()
    number = found(database, "cap/one", now - 5000)
    assert found(database, "cap/one", now - 4000, colour=Colour.RED, value=9.0) == number
    do(database, number, now - 3000, Order(Action.ACCEPT))
    kinds = told(app, number)
    assert [kind for kind, _ in kinds] == ["Alert", "Update"]
    first, second = (body for _, body in kinds)
    for body in (first, second):
        SCHEMA.assertValid(etree.fromstring(body))
    assert values(first, "severity") == ["Moderate", "Moderate"]
    assert values(second, "severity") == ["Extreme", "Extreme"]
    assert values(second, "language") == ["zh-CN", "en-US"]
    assert values(second, "urgency") == ["Immediate", "Immediate"]
    (identifier,), (sent,) = values(first, "identifier"), values(first, "sent")
    assert values(second, "references") == [f"hzb.example.cn,{identifier},{sent}"]
    assert sent.endswith("-00:00")
    assert values(first, "status") == ["Exercise"]
    assert values(first, "scope") == ["Restricted"]
    assert values(first, "polygon"), "the reach is the area"
    again = [body for _, body in told(app, number)]
    assert again == [first, second], "the same bytes each time"


def test_a_false_alarm_is_withdrawn(app: FastAPI, database: Database) -> None:
    now = pages_site.now_ms()
    number = found(database, "cap/false", now - 5000)
    do(database, number, now - 4000, Order(Action.ACCEPT))
    do(database, number, now - 3000, Order(Action.FALSE_ALARM, comment="探头离水", reason="sensor_fault"))
    kinds = told(app, number)
    assert [kind for kind, _ in kinds] == ["Alert", "Cancel"]
    SCHEMA.assertValid(etree.fromstring(kinds[1][1]))
    assert values(kinds[1][1], "responseType") == ["AllClear", "AllClear"]


@pytest.mark.parametrize("kind", [FindingKind.DEVICE, FindingKind.NO_DATA])
def test_the_trouble_of_a_device_stays_inside(app: FastAPI, database: Database, kind: FindingKind) -> None:
    number = found(database, f"cap/{kind}", pages_site.now_ms() - 1000, kind=kind, parameter=None)
    assert told(app, number) == []


def test_what_somebody_reported_stays_inside(app: FastAPI, database: Database) -> None:
    with database.read() as connection:
        reports = incident_queries.list_incidents(connection, kinds=(FindingKind.REPORT,), limit=5)
    assert reports
    assert all(told(app, one.id) == [] for one in reports)


def test_a_forecast_is_possible_and_ahead(app: FastAPI, database: Database) -> None:
    number = found(database, "cap/ahead", pages_site.now_ms() - 1000, kind=FindingKind.FORECAST)
    ((_, body),) = told(app, number)
    assert values(body, "certainty") == ["Possible", "Possible"]
    assert values(body, "urgency") == ["Future", "Future"]
    SCHEMA.assertValid(etree.fromstring(body))


def test_text_of_people_cannot_break_the_message(app: FastAPI, database: Database) -> None:
    from infra.texts import Text

    evil = Text("氨氮<script>&\x07\"'", 'ammonia <b>&\x07"')
    number = found(database, "cap/evil", pages_site.now_ms() - 1000, text=evil)
    ((_, body),) = told(app, number)
    SCHEMA.assertValid(etree.fromstring(body))
    assert b"<script" not in body


def test_only_who_sees_incidents_reads_them_until_somebody_publishes(app: FastAPI, database: Database) -> None:
    number = found(database, "cap/secret", pages_site.now_ms() - 1000)
    ((_, body),) = told(app, number)
    path = f"/cap/{values(body, 'identifier')[0]}.xml"
    public = browser_of(app, pages_site.PUBLIC)
    assert public.get("/cap/feed").status_code in (303, 403)
    assert public.get(path).status_code in (303, 403)
    kept = app.state.context
    app.state.context = replace(kept, cap=replace(SETTINGS, restriction=""))
    try:
        assert public.get("/cap/feed").status_code == 200
        assert values(public.get(path).content, "scope") == ["Public"]
        app.state.context = replace(kept, cap=None)
        assert browser_of(app, pages_site.OFFICE).get("/cap/feed").status_code == 404
    finally:
        app.state.context = kept


def test_an_address_that_is_none_is_answered(app: FastAPI) -> None:
    for name in ("x", "riverchief-1-1-zz", "riverchief-99999999999999999999-1-1", "a-b-c-d", "riverchief-²-1-1"):
        assert browser_of(app, pages_site.OFFICE).get(f"/cap/{name}.xml").status_code == 404, name
