"""The ways in beside the sensors: citizens' reports, patrols, attachments; through the API, as their users do."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from pypdf import PdfReader

from api.access import AS_COOKIE, packed
from api.app import create_app
from api.context import Context
from api.routes.incidents import NewReport, file_report
from api.routes.reports import ATTEMPTS, ReportForm, file
from governance.assessment.model import GroupBy
from governance.audit import trail as audit_trail
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Role
from governance.people import store as people_store
from governance.reports import personal_data, subscriptions
from governance.reports.citizen_reports import CITIZEN
from governance.reports.patrols import PatrolShares
from governance.tables import attachment, incident, outbox, patrol, report
from infra.database import Database
from infra.errors import NotFound
from infra.texts import say
from infra.throttle import network_of
from infra.times import rfc3339
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief.contact_key import ContactRetention
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.postgres import fresh
from tests.says import shows

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000
MINUTE, DAY = 60_000, 86_400_000
NORTH, SOUTH = Region("440604001", "北街", "North", Level.STREET), Region("440604002", "南街", "South", Level.STREET)
REACH = Reach("qichachong", "奇槎涌", "Qicha", Water.CREEK, ((113.10, 23.00), (113.14, 23.02)))
STATIONS = (
    Station("qicha", "奇槎", "Qicha", 113.1200, 23.0100, reach="qichachong", region=NORTH.code),
    Station("far", "远", "far", 113.2000, 23.0900, region=SOUTH.code),
)


@pytest.fixture
def clock() -> list[int]:
    return [NOW]


@pytest.fixture
def context(tmp_path: Path, url: str, clock: list[int]) -> Iterator[Context]:
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        known = Registry(STATIONS, reaches=(REACH,), regions=(NORTH, SOUTH), catalogue=catalogue())
        registry_store.save(connection, known)
    store = SqlReadings(database, catalogue())
    yield Context(
        database,
        store,
        catalogue(),
        "/test",
        lambda: clock[0],
        token="示例-token",
        photos=tmp_path / "photos",
        reports_an_hour=3,
    )
    database.close()


@pytest.fixture
def public(context: Context) -> TestClient:
    """Somebody without an account."""
    return TestClient(create_app(context))


def login(context: Context, name: str, role: Role, region: str = "") -> TestClient:
    with context.database.write() as connection:
        people_store.add(connection, name, role, region=region, by="test", now_ms=NOW)
        token = people_store.issue_token(connection, name, by="test", now_ms=NOW)
    return TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})


def photo(colour: int = 90) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (colour, 120, 160)).save(data, "JPEG")
    return data.getvalue()


def tell(public: TestClient, text: str = "桥下有污水流出", *photos: bytes, **place: Any) -> Any:
    files = [("photos", (f"{i}.jpg", data, "image/jpeg")) for i, data in enumerate(photos)]
    return public.post("/api/v1/reports", data={"text": text, "station": "qicha"} | place, files=files or None)


def rows(context: Context, table: sa.Table) -> int:
    with context.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


# -- reports -----------------------------------------------------------------------------------------------------------


def test_a_citizen_reports_follows_and_says_it_is_not_solved(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    told = tell(public, "桥下有污水流出", photo(), photo(10), contact="示例 000-0000")
    assert told.status_code == 201, told.text
    ticket = told.json()["ticket"]
    assert told.json()["state"] == "reported"
    office = login(context, "示例办公室", Role.OFFICE)
    (case,) = office.get("/api/v1/incidents").json()["items"]
    assert (case["source"], case["region"], case["reach"], case["colour"]) == (
        "citizen",
        NORTH.code,
        "qichachong",
        "yellow",
    )
    full = office.get(f"/api/v1/incidents/{case['id']}").json()
    shown = full["history"][0]["attachments"]
    assert len(shown) == 2
    picture = office.get(f"/api/v1/attachments/{shown[0]}")
    assert (picture.status_code, picture.headers["content-type"], picture.content) == (200, "image/jpeg", photo())
    assert public.get(f"/api/v1/attachments/{shown[0]}").status_code == 401

    def act(**body: Any) -> None:
        done = office.post(f"/api/v1/incidents/{case['id']}/actions", json=body)
        assert done.status_code == 200, done.text

    act(action="comment", comment="内部备注")
    act(action="reject", comment="现场未发现排水")
    followed = public.get(f"/api/v1/reports/{ticket.lower().replace('-', ' ')}").json()
    assert (followed["state"], followed["over"], followed["may_object"]) == ("rejected", True, True)
    assert (followed["sent"]["words"], followed["sent"]["photos"]) == ("桥下有污水流出", 2)
    assert followed["reason"] == "现场未发现排水"
    assert followed["text"]["zh"] == say("report.rejected", reason="现场未发现排水").zh
    assert "内部备注" not in str(followed), "other comments are the office's"
    assert shows(public.get(f"/report/{ticket}").text, "report.rejected", reason="现场未发现排水")
    again = public.post(f"/api/v1/reports/{ticket}/objections", json={"comment": "还在流"})
    assert (again.status_code, again.json()["state"], again.json()["reason"]) == (200, "reopened", "")
    tasks = office.get("/api/v1/worklist").json()["items"]
    assert [(one["incident"]["id"], "accept" in one["actions"]) for one in tasks] == [(case["id"], True)]
    assert public.post(f"/api/v1/reports/{ticket}/objections", json={"comment": "还在流"}).status_code == 409
    act(action="false_alarm", comment="雨水", reason="natural")
    assert public.get(f"/api/v1/reports/{ticket}").json()["reason"] == "雨水"
    clock[0] += 40 * DAY
    late = public.post(f"/api/v1/reports/{ticket}/objections", json={"comment": "还在流"})
    assert (late.status_code, public.get(f"/api/v1/reports/{ticket}").json()["may_object"]) == (409, False)

    behind = office.get(f"/api/v1/incidents/{case['id']}/origins").json()["reports"]
    assert [(one["ticket"], one["has_contact"]) for one in behind] == [(ticket, True)]
    assert public.get("/api/v1/reports/AAAA-BBBB-CCCC").status_code == 404


def test_a_citizens_contact_is_kept_encrypted_until_its_time_is_over(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    def kept() -> list[str]:
        with context.database.read() as connection:
            return list(connection.execute(sa.select(report.c.contact).order_by(report.c.id)).scalars())

    assert tell(public, "示例一", contact="示例 000-0000").status_code == 201
    assert tell(public, "示例二", contact="示例 000-0001").status_code == 201
    with context.database.write() as connection:  # as it was kept before there was a key
        connection.execute(sa.update(report).where(report.c.id == 2).values(contact="示例 000-0001"))
    office = login(context, "示例办公室", Role.OFFICE)
    first, second = sorted(one["id"] for one in office.get("/api/v1/incidents").json()["items"])
    assert office.post(f"/api/v1/incidents/{first}/actions", json={"action": "reject", "comment": "示例"}).is_success
    job = ContactRetention(context.database, context.vault, days=30, clock_ms=lambda: clock[0])
    clock[0] += 29 * DAY
    job.next_round()
    assert [text.startswith("enc:") for text in kept()] == [True, True]
    assert not any("000" in text for text in kept())
    assert contacts(office, first) == ["示例 000-0000"]
    assert contacts(office, second) == ["示例 000-0001"]
    clock[0] += 2 * DAY
    job.next_round()
    assert (kept()[0], kept()[1] != "") == ("", True), "the second case is open"


def contacts(office: TestClient, number: int, reason: str = "核实位置") -> list[str]:
    shown = office.post(f"/api/v1/incidents/{number}/contacts", json={"reason": reason})
    return [one["contact"] for one in shown.json()["items"]] if shown.is_success else [str(shown.status_code)]


def test_a_contact_is_shown_for_a_reason_and_erased_as_its_sender_wishes(context: Context, public: TestClient) -> None:
    """Who looked and why stands in the trail, which holds no contact."""
    contact, mail = "示例 000-0000", "somebody@example.org"
    ticket = tell(public, "示例一", contact=contact).json()["ticket"]
    other = tell(public, "示例二", contact=contact).json()["ticket"]
    with context.database.write() as connection:
        subscriptions.request(connection, context.vault, "qichachong", mail, "zh", NOW)
    office = login(context, "示例办公室", Role.OFFICE)
    number = min(one["id"] for one in office.get("/api/v1/incidents").json()["items"])
    assert contacts(office, number, " ") == ["409"]
    assert contacts(login(context, "示例网格员", Role.GRID_WORKER), number) == ["403"]
    browser = TestClient(create_app(replace(context, open=True, token=None)))
    browser.cookies.set(AS_COOKIE, packed("示例办公室"))
    asked = browser.get(f"/incidents/{number}").text
    assert ("case-contact" in asked, contact in asked) == (True, False)
    assert contact in browser.post(f"/incidents/{number}/contacts", data={"reason": "回访"}).text
    with context.database.write() as connection:
        known = personal_data.of_citizen(connection, context.vault, contact)
        assert [(one["ticket"], one["words"]) for one in known["reports"]] == [(ticket, "示例一"), (other, "示例二")]
        assert personal_data.of_citizen(connection, context.vault, mail.upper())["subscriptions"][0]["address"] == mail
        personal_data.erase_citizen(connection, context.vault, mail, "来电要求", "示例办公室", NOW)
    assert "report-forget" in public.get(f"/report/{ticket}").text
    assert "report-forget" not in public.post(f"/report/{ticket}", data={"verdict": "forget"}).text
    with context.database.read() as connection:
        left = connection.execute(sa.select(report.c.contact, report.c.sender).order_by(report.c.id)).all()
        told = audit_trail.list_entries(connection, limit=50)
        with pytest.raises(NotFound):
            personal_data.of_citizen(connection, context.vault, mail)
        mine = personal_data.of_staff(connection, context.vault, "示例办公室", NOW)
    assert [(row.contact == "", row.sender == "") for row in left] == [(True, True), (False, False)]
    assert mine["person"]["name"] == "示例办公室"
    kinds = ("contact.shown", "personal.erased")
    seen = [(one.what, one.by, json.loads(one.body)["reason"]) for one in told if one.what in kinds]
    assert sorted(seen) == [
        ("contact.shown", "示例办公室", "回访"),
        ("personal.erased", CITIZEN.name, say("privacy.own_wish").zh),
        ("personal.erased", "示例办公室", "来电要求"),
    ]
    assert not any(contact in one.body or mail in one.body for one in told)


def test_photos_are_kept_without_place_and_device_and_stay_turned(context: Context, public: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "示例厂商"
    exif.get_ifd(0x8825)[1] = "N"
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 160)).save(data, "JPEG", exif=exif)
    assert tell(public, "示例", data.getvalue()).status_code == 201
    office = login(context, "示例办公室", Role.OFFICE)
    (case,) = office.get("/api/v1/incidents").json()["items"]
    (key,) = office.get(f"/api/v1/incidents/{case['id']}").json()["history"][0]["attachments"]
    found = Image.open(io.BytesIO(office.get(f"/api/v1/attachments/{key}").content))
    assert (dict(found.getexif()), found.size) == ({0x0112: 6}, (64, 48))


def test_a_place_far_from_every_station_is_none_of_this_site(context: Context, public: TestClient) -> None:
    beijing = {"lon": "116.39", "lat": "39.91"}
    assert tell(public, "示例", station="", **beijing).status_code == 400
    staff = login(context, "示例网格员", Role.GRID_WORKER)
    assert staff.post("/api/v1/incidents", json={"text": "示例", "lon": 116.39, "lat": 39.91}).status_code == 400
    assert staff.post("/api/v1/incidents", json={"text": "示例", "lon": 113.3, "lat": 23.2}).status_code == 201


def test_a_report_from_within_an_outline_belongs_to_that_region_however_near_another_station_is(
    context: Context, public: TestClient
) -> None:
    ring = ((113.119, 23.009), (113.121, 23.009), (113.121, 23.011), (113.119, 23.011), (113.119, 23.009))
    with context.database.write() as connection:
        drawn = replace(SOUTH, outline=((ring,),))
        registry_store.save(connection, Registry((), regions=(drawn,), catalogue=catalogue()))
    office = login(context, "示例办公室", Role.OFFICE)
    for lon, lat in ((113.1201, 23.0101), (113.122, 23.0101)):
        assert tell(public, lon=lon, lat=lat).status_code == 201
    cases = sorted(office.get("/api/v1/incidents").json()["items"], key=lambda case: case["id"])
    assert [case["region"] for case in cases] == [SOUTH.code, NORTH.code]


def test_a_report_sent_twice_is_one_and_another_of_the_same_sender_is_two(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    first = tell(public, "桥下有污水流出", photo())
    clock[0] += MINUTE
    again = tell(public, " 桥下有污水流出 ", photo())
    assert (again.status_code, again.json()["ticket"]) == (201, first.json()["ticket"])
    assert rows(context, report) == 1
    assert tell(public, "桥下有污水流出", photo(10)).json()["ticket"] != first.json()["ticket"]
    assert tell(public, "桥下有污水流出", photo(), station="", reach="qichachong").json()["nearby"] == 0
    assert rows(context, report) == 3
    clock[0] += 60 * MINUTE
    assert tell(public, "桥下有污水流出", photo()).json()["ticket"] != first.json()["ticket"]


@pytest.mark.postgres
@pytest.mark.parametrize("who", ["a citizen", "a grid worker"])
def test_two_copies_of_a_report_at_once_are_one_where_several_write_at_a_time(tmp_path: Path, who: str) -> None:
    database = Database(fresh("postgresql", tmp_path))
    known = Registry(STATIONS, reaches=(REACH,), regions=(NORTH, SOUTH), catalogue=catalogue())
    with database.write() as connection:
        registry_store.save(connection, known)
    store = SqlReadings(database, catalogue())
    context = Context(
        database, store, catalogue(), "/test", lambda: NOW, photos=tmp_path / "photos", reports_an_hour=100
    )
    regions = Regions(known.regions, known.stations)
    ready = threading.Barrier(2)

    def send(i: int) -> int | str:
        words = f"第{i}处有污水"
        ready.wait(60)
        if who == "a citizen":
            told = ReportForm(words, reach="qichachong", photos=[(io.BytesIO(photo(i)), "a.jpg")])
            return file(context, regions, known, "192.0.2.1", told).ticket
        worker = Actor("示例网格员", Role.GRID_WORKER, frozenset({NORTH.code}))
        return file_report(context, regions, known, worker, NewReport(text=words, reach="qichachong")).id

    with ThreadPoolExecutor(2) as pool:
        for i in range(20):
            first, second = pool.map(send, (i, i))
            assert first == second
    assert rows(context, incident) == 20
    database.close()


def test_who_reports_from_outside_the_region_follows_it_without_seeing_more(context: Context) -> None:
    grid = login(context, "示例南网格员", Role.GRID_WORKER, SOUTH.code)
    office = login(context, "示例办公室", Role.OFFICE)
    shown = grid.post("/api/v1/attachments", content=photo(), headers={"Content-Type": "image/jpeg"}).json()["id"]
    made = grid.post(
        "/api/v1/incidents", json={"text": "示例：北边有油污", "region": NORTH.code, "attachments": [shown]}
    )
    assert made.status_code == 201, made.text
    number = made.json()["incident"]["id"]
    for body in ({"action": "accept"}, {"action": "dispatch", "comment": "内部说明", "to": {"region": NORTH.code}}):
        assert office.post(f"/api/v1/incidents/{number}/actions", json=body).status_code == 200
    assert grid.get(f"/api/v1/incidents/{number}").status_code == 403
    told = grid.get("/api/v1/me/reports")
    (one,) = told.json()["items"]
    assert (one["incident"], one["words"], one["photos"]) == (number, "示例：北边有油污", [shown])
    assert (one["state"], one["text"]["zh"], one["over"]) == ("dispatched", say("report.dispatched").zh, False)
    assert "内部说明" not in told.text
    assert "示例办公室" not in told.text
    assert office.get("/api/v1/me/reports").json() == {"items": []}


def test_a_report_from_the_sign_of_a_river_belongs_to_the_region_that_holds_its_stations(
    context: Context, public: TestClient
) -> None:
    office = login(context, "示例办公室", Role.OFFICE)
    both = Region("440604", "区", "District", Level.DISTRICT)
    parts = (replace(NORTH, parent=both.code), replace(SOUTH, parent=both.code))
    assert tell(public, "第一处", station="", reach="qichachong").status_code == 201
    with context.database.write() as connection:
        far = Station("far", "远", "far", 113.2000, 23.0900, reach="qichachong", region=SOUTH.code)
        known = Registry((far,), regions=(both, *parts), catalogue=catalogue())
        registry_store.save(connection, known)
    public = TestClient(create_app(context))  # which has read the registry anew
    assert tell(public, "第二处", station="", reach="qichachong").status_code == 201
    office = login(context, "示例办公室二", Role.OFFICE)
    filed = office.post("/api/v1/incidents", json={"text": "示例：水面有油", "reach": "qichachong"}).json()["incident"]
    cases = sorted(office.get("/api/v1/incidents").json()["items"], key=lambda case: case["id"])
    assert [case["region"] for case in cases] == [NORTH.code, both.code, both.code]
    assert filed["region"] == both.code


def test_what_was_closed_is_opened_again_by_who_reported_it(context: Context, public: TestClient) -> None:
    ticket = tell(public).json()["ticket"]
    office = login(context, "示例办公室", Role.OFFICE)
    handler = login(context, "示例处置", Role.GRID_WORKER)
    (case,) = office.get("/api/v1/incidents").json()["items"]
    shown = handler.post("/api/v1/attachments", content=photo(), headers={"Content-Type": "image/jpeg"}).json()["id"]

    def act(who: TestClient, action: str, **more: Any) -> Any:
        body = {"action": action, "comment": "示例", "attachments": [shown]} | more
        done = who.post(f"/api/v1/incidents/{case['id']}/actions", json=body)
        assert done.status_code == 200, (action, done.text)
        return done.json()

    act(office, "accept")
    act(office, "dispatch", to={"responsible": "示例处置"})
    act(handler, "start")
    act(handler, "finish")
    act(office, "verify")
    act(office, "close")
    assert public.get(f"/api/v1/reports/{ticket}").json()["may_object"] is True
    assert "report-object" in public.get(f"/report/{ticket}").text
    again = public.post(f"/api/v1/reports/{ticket}/objections", json={"comment": "还在流"})
    assert (again.status_code, again.json()["state"]) == (200, "reopened")
    entry = office.get(f"/api/v1/incidents/{case['id']}").json()["history"][-1]
    assert (entry["what"], entry["comment"], entry["by"]) == ("reopened", "还在流", "市民 citizen")


def test_reports_near_in_place_and_time_are_offered_for_merging_and_the_ticket_follows(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    first = tell(public, "桥下污水", station="", lon=113.1200, lat=23.0100).json()
    assert first["nearby"] == 0
    clock[0] += DAY
    second = tell(public, "这里很臭", station="", lon=113.1215, lat=23.0110).json()
    assert second["nearby"] == 1
    assert tell(public, "别处", station="", lon=113.1300, lat=23.0180).json()["nearby"] == 0
    office = login(context, "示例办公室", Role.OFFICE)
    cases = {one["title"]["zh"]: one["id"] for one in office.get("/api/v1/incidents").json()["items"]}
    (near,) = office.get(f"/api/v1/incidents/{cases['这里很臭']}/origins").json()["similar"]
    assert near["id"] == cases["桥下污水"]
    merged = office.post(
        f"/api/v1/incidents/{cases['这里很臭']}/actions",
        json={"action": "merge", "into": near["id"], "comment": "同一处"},
    )
    assert merged.status_code == 200, merged.text
    office.post(f"/api/v1/incidents/{near['id']}/actions", json={"action": "accept"})
    assert public.get(f"/api/v1/reports/{second['ticket']}").json()["state"] == "accepted"
    behind = office.get(f"/api/v1/incidents/{near['id']}/origins").json()["reports"]
    assert {one["ticket"] for one in behind} == {first["ticket"], second["ticket"]}


def test_one_sender_cannot_flood_and_is_told_when_to_come_back(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    for i in range(3):
        assert tell(public, f"桥下有污水流出，第{i}处").status_code == 201
        clock[0] += MINUTE
    refused = tell(public)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str(57 * 60))
    assert rows(context, report) == 3
    clock[0] += 57 * MINUTE
    assert tell(public).status_code == 201


@pytest.mark.parametrize(
    ("place", "photos", "status", "named"),
    [
        ({"text": "  "}, [], 409, "few words"),
        ({"station": "nowhere"}, [], 404, "nowhere"),
        ({"reach": "nowhere"}, [], 404, "nowhere"),
        ({"lon": "113.1"}, [], 400, "go together"),
        ({"lon": "500", "lat": "23"}, [], 400, "lon"),
        ({"lon": "113.1", "lat": "23", "datum": "BD-09"}, [], 400, "BD-09"),
        ({}, [b"<script>alert(1)</script>"], 409, "no photo"),
        ({}, [b"%PDF-1.4\n%%EOF"], 409, "only photos"),
        ({}, [photo(i) for i in range(4)], 409, "at most 3"),
        ({}, [bytes(11 * 1024 * 1024)], 409, "at most"),
        ({}, [bytes(36 * 1024 * 1024)], 413, "most here"),
    ],
)
def test_a_report_that_cannot_be_is_refused_and_leaves_nothing(
    context: Context, public: TestClient, place: dict[str, str], photos: list[bytes], status: int, named: str
) -> None:
    told = tell(public, **{"text": "示例"} | place) if not photos else tell(public, "示例", *photos, **place)
    assert (told.status_code, named in told.text) == (status, True), told.text
    assert (rows(context, report), rows(context, outbox), rows(context, attachment)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "status", "named"),
    [
        ({"source": "rule"}, 400, "hotline"),
        ({"source": "citizen"}, 400, "hotline"),
        ({"region": "nowhere"}, 400, "nowhere"),
        ({"reach": "nowhere"}, 404, "nowhere"),
        ({"lon": 113.1}, 400, "go together"),
    ],
)
def test_what_a_person_files_says_truly_whence_and_where(
    context: Context, given: dict[str, Any], status: int, named: str
) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER, NORTH.code)
    told = grid.post("/api/v1/incidents", json={"text": "示例"} | given)
    assert (told.status_code, named in told.text) == (status, True), told.text
    assert rows(context, outbox) == 0


def test_what_was_measured_is_something_that_can_be_measured(context: Context) -> None:
    office = login(context, "示例办公室", Role.OFFICE)
    number = office.post("/api/v1/incidents", json={"text": "示例", "region": NORTH.code}).json()["incident"]["id"]
    path = f"/api/v1/incidents/{number}/actions"
    for values, named in (({"nh3": 0.6}, "nh3"), ({"ph": 71}, "14")):
        told = office.post(path, json={"action": "comment", "comment": "示例", "measurement": values})
        assert (told.status_code, named in told.json()["detail"]) == (400, True), told.text
    told = office.post(path, json={"action": "comment", "comment": "示例", "measurement": {"ph": 7.1, "nh3n": 0.6}})
    assert told.json()["history"][-1]["measurement"] == {"ph": 7.1, "nh3n": 0.6}


# -- the citizen's page ------------------------------------------------------------------------------------------------


def test_who_scans_a_sign_reads_the_water_reports_with_a_photo_and_follows_without_account_or_script(
    context: Context, public: TestClient
) -> None:
    page = public.get("/report?reach=qichachong")
    assert (page.status_code, len(page.content) < 60_000) == (200, True)
    assert "奇槎涌" in page.text
    assert shows(page.text, "citizen.not_judged")  # no class by absence
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.text.count("<script") == page.text.count('src="/assets/public-') == 1
    form = {"kind": "litter", "text": "<b>桥下</b>", "reach": "qichachong", "contact": "示例 000-0000"}
    sent = public.post(
        "/report", data=form, files=[("photos", ("a.jpg", photo(), "image/jpeg"))], follow_redirects=False
    )
    assert sent.status_code == 303, sent.text
    ticket = sent.headers["location"].split("?")[0].rsplit("/", 1)[1]
    told = public.get(sent.headers["location"])
    assert (ticket in told.text, shows(told.text, "report.reported"), "000-0000" in told.text) == (True, True, False)
    assert f"{say('citizen.kind_litter').zh}：&lt;b&gt;桥下&lt;/b&gt;" in told.text
    assert shows(told.text, "citizen.sent_photos", count=1)
    found = public.get(f"/report?ticket={ticket.lower().replace('-', '')}")
    assert str(found.url.path) == f"/report/{ticket}"
    assert say("report.reported").en in public.get(f"/report/{ticket}?lang=en").text
    office = login(context, "示例办公室", Role.OFFICE)
    (case,) = office.get("/api/v1/incidents").json()["items"]
    assert (case["title"]["zh"], case["reach"]) == (f"{say('citizen.kind_litter').zh}：<b>桥下</b>", "qichachong")
    unknown = public.get("/report/AAAA-BBBB-CCCC")
    assert unknown.status_code == 404
    assert 'data-testid="report-retry"' in unknown.text
    assert public.get("/report?reach=nowhere").status_code == 404


def test_what_the_citizens_page_cannot_take_is_said_in_words_and_what_was_typed_stays(
    context: Context, public: TestClient
) -> None:
    def send(**given: Any) -> Any:
        files = given.pop("files", [("photos", ("", b"", "application/octet-stream"))])
        return public.post("/report", data={"reach": "qichachong"} | given, files=files)

    nothing = send(text=" ", contact="示例 000-0000")
    assert (nothing.status_code, "示例 000-0000" in nothing.text) == (409, True)
    assert shows(nothing.text, "citizen.no_words")
    wrong = send(text="桥下<script>", files=[("photos", ("a.jpg", b"no photo", "image/jpeg"))])
    assert (wrong.status_code, "桥下&lt;script&gt;" in wrong.text) == (409, True)
    assert shows(wrong.text, "citizen.again_photos")
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert public.post("/report", data={"text": "示例"}, headers=elsewhere).status_code == 403
    for i in range(3):
        assert send(kind="smell", text=f"第{i}处").status_code == 200  # the ticket, after the redirect
    assert send(kind="smell").status_code == 429
    assert rows(context, report) == 3


def test_attempts_count_whatever_comes_of_them_and_a_64_of_ipv6_is_one_sender(context: Context) -> None:
    app = create_app(context)

    def attempt(host: str, path: str) -> int:
        client = TestClient(app, client=(host, 1))
        return int(client.post(path, data={"text": " ", "reach": "qichachong"}).status_code)

    for i in range(ATTEMPTS * 3):
        assert attempt(f"2001:db8:0:1::{i + 1}", ("/api/v1/reports", "/report")[i % 2]) == 409
    assert attempt("2001:db8:0:1::abcd", "/api/v1/reports") == attempt("2001:db8:0:1::abcd", "/report") == 429
    assert attempt("2001:db8:0:2::1", "/api/v1/reports") == 409
    assert attempt("::ffff:192.0.2.1", "/report") == attempt("192.0.2.1", "/report") == 409
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") != network_of("192.0.2.2")


HOSTILE = """
import asyncio, io, resource, sys
import httpx
from PIL import Image
from api.app import create_app
from api.context import Context
from infra.database import Database
from ingest.storage.sql import SqlReadings
from pathlib import Path
from sensors.parameters import catalogue
from tests.databases import with_tables

folder = Path(sys.argv[1])
database = with_tables(Database(f"sqlite:///{folder / 'riverchief.db'}"))
app = create_app(Context(database, SqlReadings(database, catalogue()), catalogue(), "/test", lambda: 0, photos=folder))
picture = io.BytesIO()
Image.new("RGBA", (5000, 5000)).save(picture, "PNG", compress_level=1)

async def send(i):
    files = [("photos", (f"{j}.png", picture.getvalue(), "image/png")) for j in range(2)]
    files.append(("photos", ("a.pdf", b"%PDF-1.4 %%EOF", "application/pdf")))
    transport = httpx.ASGITransport(app, client=(f"192.0.2.{i}", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=None) as client:
        return (await client.post("/api/v1/reports", data={"text": "x"}, files=files)).status_code

async def all_at_once():
    return await asyncio.gather(*(send(i) for i in range(24)))

def most_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = most_mb()
answers = asyncio.run(all_at_once())
assert set(answers) == {409}, answers
print(most_mb() - before)
"""


def test_memory_stays_bounded_while_many_send_the_largest_pictures_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(tmp_path)], stdout=subprocess.PIPE, timeout=600, check=True
    )
    assert int(done.stdout) < 500, "MB beyond what the program takes; one picture is 100 MB decoded"


# -- attachments -------------------------------------------------------------------------------------------------------


def test_the_same_photo_twice_is_one_and_what_nobody_uploaded_cannot_be_shown(context: Context) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER)
    ids = {grid.post("/api/v1/attachments", content=photo()).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert rows(context, attachment) == 1
    refused = grid.post("/api/v1/incidents", json={"text": "示例", "attachments": ["f" * 64]})
    assert (refused.status_code, "upload it first" in refused.text) == (404, True)
    assert grid.post("/api/v1/attachments", content=b"no photo").status_code == 409
    assert grid.post("/api/v1/attachments", content=bytes(11 * 1024 * 1024)).status_code == 413
    assert grid.get("/api/v1/attachments/..%2f..%2fetc%2fpasswd").status_code == 404


def test_the_public_uploads_nothing_by_itself(context: Context, public: TestClient) -> None:
    assert public.post("/api/v1/attachments", content=photo()).status_code == 401
    viewer = login(context, "示例公众", Role.PUBLIC)
    assert viewer.post("/api/v1/attachments", content=photo()).status_code == 403


# -- patrols -----------------------------------------------------------------------------------------------------------


def walk(
    key: str = "0f8c1d2e-0001", minutes: int = 20, metres: float = 1200, later: int = 0, **more: Any
) -> dict[str, Any]:
    """A patrol that began a day ago, or ``later`` minutes after that."""
    start = NOW - DAY + later * MINUTE
    track = [
        [rfc3339(start + i * MINUTE), 113.1200, 23.0100 + metres * i / minutes / 111_195] for i in range(minutes + 1)
    ]
    times = {"started_at": rfc3339(start), "ended_at": rfc3339(start + minutes * MINUTE)}
    return {"id": key, **times, "track": track, "reach": "qichachong", **more}


def test_a_patrol_uploaded_late_and_twice_is_one_with_its_problems_as_incidents(context: Context) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER, NORTH.code)
    shown = grid.post("/api/v1/attachments", content=photo()).json()["id"]
    problem = {"text": "漂浮物", "at": rfc3339(NOW - DAY + 10 * MINUTE), "attachments": [shown]}
    first = grid.post("/api/v1/patrols", json=walk(problems=[problem]))
    assert first.status_code == 201, first.text
    again = grid.post("/api/v1/patrols", json=walk(problems=[problem]))
    assert (again.status_code, again.json()) == (200, first.json())
    made = first.json()
    assert (made["valid"], made["metres"], made["minutes"], made["region"]) == (True, 1200, 20.0, NORTH.code)
    (number,) = made["problems"]
    case = grid.get(f"/api/v1/incidents/{number}").json()["incident"]
    assert (case["source"], case["reach"]) == ("patrol", "qichachong")
    assert case["lat"] == pytest.approx(23.0100 + 600 / 111_195)
    assert len(made["track"]["coordinates"]) == 21
    evidence = grid.get(f"/api/v1/incidents/{number}/evidence")
    assert evidence.status_code == 200, evidence.text
    pages = "".join(page.extract_text() for page in PdfReader(io.BytesIO(evidence.content)).pages)
    assert shown in pages.replace("\n", ""), "the photo and its hash are in the evidence"


def test_a_patrol_that_does_not_count_is_kept_with_the_numbers_that_say_why(context: Context) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER)
    made = grid.post("/api/v1/patrols", json=walk(metres=600)).json()
    assert (made["valid"], "600" in made["why"]["en"], "1000" in made["why"]["zh"]) == (False, True, True)


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"reach": "nowhere"}, 404, "nowhere"),
        ({"way": "swim"}, 400, "swim"),
        ({"problems": [{"text": "示例", "at": rfc3339(NOW), "attachments": ["x"]}]}, 404, "upload it first"),
        ({"problems": [{"text": "示例", "at": rfc3339(NOW), "colour": "pink"}]}, 400, "pink"),
        ({"started_at": "yesterday"}, 400, "yesterday"),
    ],
)
def test_a_patrol_with_a_fault_leaves_nothing_behind(
    context: Context, change: dict[str, Any], status: int, named: str
) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER)
    good = {"text": "示例", "at": rfc3339(NOW - DAY)}
    body = walk(problems=[good]) | change
    if "problems" in change:
        body["problems"] = [good, *change["problems"]]
    told = grid.post("/api/v1/patrols", json=body)
    assert (told.status_code, named in told.text) == (status, True), told.text
    assert (rows(context, patrol), rows(context, outbox)) == (0, 0)


def test_patrols_are_seen_by_who_walked_and_by_who_answers_for_the_region(context: Context) -> None:
    mine = login(context, "示例网格员", Role.GRID_WORKER, NORTH.code)
    other = login(context, "示例网格员乙", Role.GRID_WORKER, SOUTH.code)
    office = login(context, "示例办公室", Role.OFFICE)
    assert mine.post("/api/v1/patrols", json=walk()).status_code == 201
    assert len(office.get("/api/v1/patrols").json()["items"]) == 1
    assert other.get("/api/v1/patrols").json()["items"] == []
    assert other.get("/api/v1/patrols/0f8c1d2e-0001").status_code == 404
    assert mine.get("/api/v1/patrols/0f8c1d2e-0001").status_code == 200


def test_the_map_has_open_reports_hotline_cases_and_todays_patrols_of_ones_own_region(
    context: Context, public: TestClient, clock: list[int]
) -> None:
    grid = login(context, "北网格员（示例）", Role.GRID_WORKER, NORTH.code)
    chief = login(context, "南河长（示例）", Role.CHIEF, SOUTH.code)
    office = login(context, "示例办公室", Role.OFFICE)
    assert tell(public, lon="113.1201", lat="23.0102").status_code == 201
    call = {"text": "电话：河面有油", "source": "hotline", "reach": "qichachong"}
    assert office.post("/api/v1/incidents", json=call).status_code == 201
    assert grid.post("/api/v1/patrols", json=walk("0f8c1d2e-0001")).status_code == 201  # yesterday's
    assert grid.post("/api/v1/patrols", json=walk("0f8c1d2e-0002", later=23 * 60)).status_code == 201
    points = office.get("/api/v1/field-points").json()["features"]
    known = [(p["properties"]["kind"], p["properties"]["exact"], p["properties"]["link"]) for p in points]
    assert known == [
        ("hotline", False, "/incidents/2"),
        ("report", True, "/incidents/1"),
        ("patrol", True, "/api/v1/patrols/0f8c1d2e-0002"),
    ]
    hotline, report, patrolled = (p["geometry"]["coordinates"] for p in points)
    assert hotline == pytest.approx([113.12, 23.01], abs=1e-3), "the middle of the reach"
    assert report == [113.1201, 23.0102]
    assert patrolled == pytest.approx([113.12, 23.01 + 600 / 111_195])
    assert [p["properties"]["at"] for p in points] == [rfc3339(NOW), rfc3339(NOW), rfc3339(NOW - 60 * MINUTE)]
    assert "电话：河面有油" in points[0]["properties"]["title"]["zh"]
    assert len(grid.get("/api/v1/field-points").json()["features"]) == 3
    assert chief.get("/api/v1/field-points").json()["features"] == [], "another region's"
    assert public.get("/api/v1/field-points").status_code == 401
    closed = {"action": "reject", "comment": "重复"}
    assert office.post("/api/v1/incidents/2/actions", json=closed).status_code == 200
    clock[0] += DAY
    assert [p["id"] for p in office.get("/api/v1/field-points").json()["features"]] == ["/incidents/1"]


def test_the_assessment_counts_valid_patrols_of_those_that_were_due(context: Context) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER, NORTH.code)
    for i in range(3):
        assert grid.post("/api/v1/patrols", json=walk(f"0f8c1d2e-000{i}", later=60 * i)).status_code == 201
    grid.post("/api/v1/patrols", json=walk("0f8c1d2e-0009", metres=100))
    with context.database.read() as connection:
        span = NOW - 2 * DAY, NOW + 28 * DAY
        grids = PatrolShares(connection, str, {Role.GRID_WORKER: 4})
        done = grids.done(GroupBy.STREET, *span, span[1])
        soon = grids.done(GroupBy.STREET, *span, NOW + DAY)
        other = PatrolShares(connection, str, {Role.CHIEF: 4}).done(GroupBy.STREET, *span, span[1])
    assert {key: (share.good, share.of) for key, share in done.items()} == {NORTH.code: (3, 4)}
    assert {key: share.value for key, share in soon.items()} == {NORTH.code: None}, "on the first day none is due yet"
    assert other == {}, "who owes none is not assessed by it"


def test_one_walk_counts_once_whatever_it_is_called_and_whoever_uploads_it(context: Context) -> None:
    grid = login(context, "示例网格员", Role.GRID_WORKER, NORTH.code)
    other = login(context, "示例网格员乙", Role.GRID_WORKER, NORTH.code)
    sent = [
        (grid, walk("0f8c1d2e-0001", metres=100)),
        (grid, walk("0f8c1d2e-0002")),
        (grid, walk("0f8c1d2e-0003")),
        (grid, walk("0f8c1d2e-0004", later=10)),
        (grid, walk("0f8c1d2e-0005", later=20)),
        (other, walk("0f8c1d2e-0006")),
        (other, walk("0f8c1d2e-0007", metres=1300)),
    ]
    valid = [who.post("/api/v1/patrols", json=body).json()["valid"] for who, body in sent]
    assert valid == [False, True, False, False, True, False, True], "two who walk together have tracks of their own"
    with context.database.read() as connection:
        due = PatrolShares(connection, str, {Role.GRID_WORKER: 30})
        done = due.done(GroupBy.STREET, NOW - 2 * DAY, NOW + 28 * DAY, NOW + 28 * DAY)
    assert done[NORTH.code].good == 3


def a_ticket(answer: Any) -> str:
    """The ticket an answer leads to."""
    return str(answer.headers["location"]).split("?")[0].rsplit("/", 1)[1]


def test_a_sign_is_found_by_water_and_station_and_warns_of_what_goes_on(context: Context, public: TestClient) -> None:
    by_station, by_water = public.get("/r/qicha"), public.get("/r/qichachong")
    assert by_station.text == by_water.text.replace("/r/qichachong", "/r/qicha")
    assert (by_water.status_code, len(by_water.content) < 60_000) == (200, True)
    assert public.get("/r/nowhere").status_code == 404
    assert "report-water-" not in by_water.text, "nothing is known of a water that was never measured"
    office = login(context, "示例办公室", Role.OFFICE)
    said = {"text": "死鱼", "colour": "red", "source": "hotline", "reach": "qichachong"}
    made = office.post("/api/v1/incidents", json=said)
    assert made.status_code == 201, made.text
    warned = public.get("/r/qichachong").text
    assert 'role="alert" data-testid="report-water-red"' in warned
    assert "死鱼" not in warned, "what somebody says is not published"
    office.post(f"/api/v1/incidents/{store_number(context)}/actions", json={"action": "accept", "comment": "内部的话"})
    after = public.get("/r/qichachong").text
    assert shows(after, "citizen.step_accepted")
    assert "内部的话" not in after


def test_who_sees_what_is_reported_already_follows_it_by_a_ticket_that_shows_no_words_of_others(
    context: Context, public: TestClient
) -> None:
    form = {"kind": "litter", "text": "甲的原话", "reach": "qichachong"}
    assert public.post("/report", data=form, follow_redirects=False).status_code == 303
    number = store_number(context)
    assert f"/report/follow/{number}" in public.get("/r/qichachong").text
    sent = public.post(f"/report/follow/{number}", follow_redirects=False)
    ticket = a_ticket(sent)
    page = public.get(f"/report/{ticket}").text
    assert shows(page, "citizen.following")
    assert "甲的原话" not in page
    assert public.get(f"/api/v1/reports/{ticket}").json()["sent"] is None
    office = login(context, "示例办公室", Role.OFFICE)
    assert len(office.get(f"/api/v1/incidents/{number}/origins").json()["reports"]) == 2
    assert public.post("/report/follow/999", follow_redirects=False).status_code == 404
    assert public.post(f"/report/follow/{number}", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    public.post(f"/report/follow/{number}")
    assert public.post(f"/report/follow/{number}", follow_redirects=False).status_code == 429


def store_number(context: Context) -> int:
    """The newest incident."""
    with context.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.max(incident.c.id))).scalar_one())


def test_the_public_says_solved_only_of_what_is_over_and_it_is_kept(context: Context, public: TestClient) -> None:
    ticket = tell(public).json()["ticket"]
    assert public.post(f"/report/{ticket}", data={"verdict": "solved"}).status_code == 409
    office = login(context, "示例办公室", Role.OFFICE)
    refused = {"action": "reject", "comment": "不在辖区"}
    office.post(f"/api/v1/incidents/{store_number(context)}/actions", json=refused)
    assert public.get(f"/api/v1/reports/{ticket}").json()["over"] is True
    assert public.post(f"/report/{ticket}", data={"verdict": "solved"}).status_code == 200
    assert public.get(f"/api/v1/reports/{ticket}").json()["solved"] is True
    assert "report-object" not in public.get(f"/report/{ticket}").text
    assert public.post("/api/v1/reports/AAAA-BBBB-CCCC/confirmations").status_code == 404
