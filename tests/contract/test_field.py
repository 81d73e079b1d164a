"""The field: what phones sign and send, days late, again and again, in any order; each record takes effect once."""

import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image

from api.app import create_app
from api.context import Context
from api.field import kinds
from governance.assessment.model import GroupBy
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.model import Action, Assignment, Order
from governance.organisation.regions import Regions
from governance.organisation.roles import Role, administrator
from governance.people import store as people_store
from governance.reports import patrols as patrol_store
from governance.tables import attachment_incident, field_nonce, field_photo, field_record, incident, incident_entry
from infra.database import Database
from infra.texts import say
from infra.times import DAY_MS, rfc3339
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import deployment
from ingest.storage.tables import photo as photo_table
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.field_phone import FIELD, FieldPhone, record
from tests.long import LONG

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, DAY_MS
NORTH, SOUTH = Region("440604001", "北街", "North", Level.STREET), Region("440604002", "南街", "South", Level.STREET)
REACH = Reach("qichachong", "奇槎涌", "Qicha", Water.CREEK, ((113.10, 23.00), (113.14, 23.02)))
QICHA = Station("qicha", "奇槎", "Qicha", 113.1200, 23.0100, reach="qichachong", region=NORTH.code)
FAR = Station("far", "远", "far", 113.2000, 23.0900, region=SOUTH.code)
HUNG = Deployment("qicha", "ph", NOW - 30 * DAY, "1", device="SN-1")
WORKER, OTHER, ENGINEER, OFFICE = "示例网格员", "示例网格员乙", "示例工程师", "示例办公室"


@pytest.fixture
def clock() -> list[int]:
    return [NOW]


@pytest.fixture
def context(tmp_path: Path, url: str, clock: list[int]) -> Iterator[Context]:
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        known = Registry(
            (QICHA, FAR),
            reaches=(REACH,),
            regions=(NORTH, SOUTH),
            devices=(Device("SN-1"),),
            deployments=(HUNG,),
            catalogue=catalogue(),
        )
        registry_store.save(connection, known)
        registry_store.save_deployments(connection, [HUNG], Author("test", NOW))
    yield Context(
        database,
        SqlReadings(database, catalogue()),
        catalogue(),
        "/test",
        lambda: clock[0],
        token="示例-token",
        photos=tmp_path / "photos",
    )
    database.close()


@pytest.fixture
def app(context: Context) -> Any:
    return create_app(context)


def login(app: Any, context: Context, name: str, role: Role, region: str = "") -> TestClient:
    with context.database.write() as connection:
        people_store.add(connection, name, role, region=region, by="test", now_ms=NOW)
        token = people_store.issue_token(connection, name, by="test", now_ms=NOW)
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def worker(app: Any, context: Context) -> FieldPhone:
    return FieldPhone(login(app, context, WORKER, Role.GRID_WORKER, NORTH.code))


@pytest.fixture
def engineer(app: Any, context: Context) -> FieldPhone:
    return FieldPhone(login(app, context, ENGINEER, Role.REVIEWER))


def rows(context: Context, table: sa.Table) -> int:
    with context.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def picture(colour: int = 90, turned: int = 0) -> bytes:
    data = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
        exif[0x010F] = "a phone that tells its maker"
    Image.new("RGB", (64, 48), (colour, 120, 160)).save(data, "JPEG", exif=exif)
    return data.getvalue()


def seen(text: str = "桥下有污水流出", **more: Any) -> dict[str, Any]:
    return record("report", {"text": text, "matter": "", "colour": "yellow", "place": None, "reach": None}, NOW, **more)


def hanging(serial: str = "SN-2", **more: Any) -> dict[str, Any]:
    new = {"parameter": "ph", "serial": serial, "since": rfc3339(NOW - HOUR), "depth_m": 0.5, "place": None}
    return record("hang", new, NOW - HOUR, **{"object": {"station": "qicha", "parameter": "ph"}} | more)


def calibrated(**more: Any) -> dict[str, Any]:
    new = {"at": rfc3339(NOW - HOUR), "began_at": rfc3339(NOW - 2 * HOUR), "parameter": "ph", "standard": 6.86}
    new |= {"before": 6.90, "after": 6.86, "lot": "B-1", "note": ""} | more.pop("new", {})
    return record("calibrate", new, NOW - HOUR, object={"station": "qicha", "parameter": "ph"}, **more)


def receipt(answer: Any, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in (statuses or (200, 201)), answer.text
    found: dict[str, Any] = answer.json()
    return found


MARK = kinds.mark(HUNG)


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_record_sent_five_times_takes_effect_once_and_gets_the_same_receipt(
    context: Context, worker: FieldPhone, clock: list[int]
) -> None:
    one = seen()
    first = receipt(worker.send(one), 201)
    assert (first["outcome"], first["missing_photos"]) == ("applied", [])
    for _ in range(4):
        clock[0] += HOUR
        again = one | {"sent_at": rfc3339(clock[0]), "offset_ms": 120, "app": "newer"}
        assert receipt(worker.send(again), 200) == first
    assert (rows(context, incident), rows(context, field_record)) == (1, 1)


def test_two_reports_with_the_same_words_are_two(context: Context, worker: FieldPhone) -> None:
    for _ in range(2):
        receipt(worker.send(seen()), 201)
    assert rows(context, incident) == 2


def test_texts_and_photos_in_any_order_with_lost_answers_lose_and_double_nothing(
    context: Context, worker: FieldPhone
) -> None:
    chance = random.Random(20)
    cycles = 100 if LONG else 30
    reports = [seen(f"示例{i}", photos=[picture(i % 250)]) for i in range(cycles)]
    steps = [(i, what) for i in range(cycles) for what in ("text", "photo") for _ in range(chance.randint(1, 3))]
    chance.shuffle(steps)
    received: set[int] = set()
    shown: set[int] = set()

    def step(i: int, what: str) -> None:
        if what == "text":
            receipt(worker.send(reports[i]))
            received.add(i)
        else:
            answer = worker.photo(reports[i], picture(i % 250))
            assert answer.status_code == (200 if i in received else 404), answer.text
            shown.update({i} & received)

    for i, what in steps:
        step(i, what)
    for i in set(range(cycles)) - shown:
        step(i, "photo")
    assert (len(received), len(shown)) == (cycles, cycles)
    assert (rows(context, incident), rows(context, field_record)) == (cycles, cycles)
    assert (rows(context, field_photo), rows(context, attachment_incident)) == (cycles, cycles)
    with context.database.read() as connection:
        left = sa.select(sa.func.count()).select_from(field_photo).where(~field_photo.c.used)
        assert connection.execute(left).scalar_one() == 0


def test_a_record_whose_effect_fails_leaves_no_row_and_is_sent_again(
    context: Context, app: Any, worker: FieldPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = incident_store.file_report

    def killed(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        raise RuntimeError("the power went out")

    monkeypatch.setattr(incident_store, "file_report", killed)
    one = seen()
    assert worker.send(one).status_code == 500
    assert (rows(context, field_record), rows(context, incident), rows(context, incident_entry)) == (0, 0, 0)
    monkeypatch.undo()
    receipt(worker.send(one), 201)
    assert (rows(context, field_record), rows(context, incident)) == (1, 1)


def test_a_later_version_replaces_what_did_not_take_effect_and_conflicts_with_what_did(
    context: Context, engineer: FieldPhone, worker: FieldPhone
) -> None:
    wrong = calibrated(new={"parameter": "no such thing"})
    assert receipt(engineer.send(wrong))["outcome"] == "refused"
    right = calibrated(id=wrong["id"], version=2)
    assert receipt(engineer.send(right), 200)["outcome"] == "applied"
    assert receipt(engineer.send(wrong), 200)["version"] == 2, "an older version that arrives late changes nothing"
    later = calibrated(id=wrong["id"], version=3, new={"before": 7.4})
    told = receipt(engineer.send(later), 200)
    assert (told["outcome"], told["mine"]["before"], told["theirs"]["new"]["before"]) == ("conflict", 7.4, 6.90)
    assert receipt(engineer.send(later), 200) == told
    answer = engineer.ask("POST", f"{FIELD}/records/{wrong['id']}/decision", b'{"keep": "mine"}')
    assert (receipt(answer)["outcome"], receipt(answer)["decision"]) == ("applied", "mine")
    with context.database.read() as connection:
        ((_, check),) = maintenance_store.checks(connection, "qicha")
    assert check.reading == 7.4

    one = seen()
    number = receipt(worker.send(one))["made"]["incident"]
    changed = seen("不是污水，是雨水", id=one["id"], version=2)
    assert receipt(worker.send(changed))["outcome"] == "conflict"
    kept = worker.ask("POST", f"{FIELD}/records/{one['id']}/decision", b'{"keep": "theirs"}')
    assert (receipt(kept)["outcome"], receipt(kept)["made"]) == ("applied", {"incident": number})
    assert rows(context, incident) == 1


# -- who sends ---------------------------------------------------------------------------------------------------------


def test_only_the_phones_own_signature_of_this_content_on_this_path_counts(
    context: Context, app: Any, worker: FieldPhone
) -> None:
    one, two = seen(), seen()
    body = json.dumps(one).encode()
    path = f"{FIELD}/records/{one['id']}"
    fits = worker.signature("PUT", path, body)
    other = f"{FIELD}/records/{two['id']}"
    wrong = [
        worker.ask("PUT", path, body, X_Signature=""),
        worker.ask("PUT", path, body, X_Signature="not base64!"),
        worker.ask("PUT", path, body + b" ", X_Signature=fits),
        worker.ask("PUT", other, json.dumps(two).encode(), X_Signature=fits),
        worker.ask("POST", f"{path}/decision", body, X_Signature=fits),
        worker.ask("PUT", path, body, X_Phone="0" * 24),
        TestClient(app).put(path, content=body),
        worker.ask("GET", "/api/v1/me"),
        worker.ask("POST", "/api/v1/incidents", b"{}"),
    ]
    assert [answer.status_code for answer in wrong] == [401] * len(wrong)
    assert rows(context, field_record) == 0
    receipt(worker.ask("PUT", path, body, X_Signature=fits), 201)


def test_what_was_signed_to_be_read_is_answered_once_and_for_minutes(
    context: Context, app: Any, worker: FieldPhone, clock: list[int]
) -> None:
    path, thief = f"{FIELD}/bundle", TestClient(app)
    assert worker.ask("GET", path).status_code == 200, "by the time that the server told"
    assert thief.get(path, headers=worker.sent).status_code == 401
    assert thief.get(path, headers=worker.sent | {"X-Nonce": "another"}).status_code == 401
    late = worker.ask("GET", path, X_Time=str(NOW - DAY))
    assert (late.status_code, "X-Time" in late.headers) == (401, False), "it is no time that the phone signed"
    heard = worker.sent
    clock[0] += 6 * MINUTE
    told = thief.get(path, headers=heard)
    assert (told.status_code, told.headers.get("X-Time")) == (401, None)
    assert worker.ask("GET", path).status_code == 200
    old, clock[0] = worker.sent, clock[0] + 6 * MINUTE
    assert thief.get(path, headers=old).headers["X-Time"] == str(clock[0])
    assert worker.ask("GET", path).status_code == 200
    assert rows(context, field_nonce) == 1, "kept for the length of the window"


def test_a_lost_phone_is_revoked_alone_and_what_it_sent_stays(context: Context, app: Any) -> None:
    worker = login(app, context, WORKER, Role.GRID_WORKER, NORTH.code)
    lost, found = FieldPhone(worker, "丢失的"), FieldPhone(worker)
    one = seen()
    receipt(lost.send(one), 201)
    other = login(app, context, OTHER, Role.GRID_WORKER, NORTH.code)
    assert other.delete(f"{FIELD}/phones/{lost.id}").status_code == 404
    assert other.get(f"{FIELD}/phones", params={"person": WORKER}).status_code == 403
    assert worker.delete(f"{FIELD}/phones/{lost.id}").status_code == 204
    assert worker.delete(f"{FIELD}/phones/{lost.id}").status_code == 204
    refused = lost.send(seen())
    assert (refused.status_code, refused.json()["detail"] != "") == (403, True)
    receipt(found.send(seen()), 201)
    shown = worker.get(f"{FIELD}/phones").json()["items"]
    assert [(phone["id"], phone["revoked_at"] is None) for phone in shown] == [(found.id, True), (lost.id, False)]
    boss = login(app, context, "示例管理员", Role.ADMINISTRATOR)
    assert boss.delete(f"{FIELD}/phones/{found.id}").status_code == 204
    assert found.send(seen()).status_code == 403
    with context.database.read() as connection:
        told = [entry.what for entry in audit_trail.list_entries(connection, limit=100)]
    assert (told.count("phone.registered"), told.count("phone.revoked"), rows(context, field_record)) == (2, 2, 2)


def test_a_removed_person_sends_nothing_any_more(context: Context, worker: FieldPhone) -> None:
    with context.database.write() as connection:
        people_store.remove(connection, WORKER, by="test", now_ms=NOW)
    assert worker.send(seen()).status_code == 403
    assert rows(context, field_record) == 0


def test_nobody_changes_or_reads_somebody_elses_record(context: Context, app: Any, worker: FieldPhone) -> None:
    other = FieldPhone(login(app, context, OTHER, Role.GRID_WORKER, SOUTH.code))
    one = seen(photos=[picture()])
    receipt(worker.send(one), 201)
    forged = seen("别人的话", id=one["id"], version=9)
    assert other.send(forged).status_code == 403
    assert other.photo(one, picture(7)).status_code == 403
    assert other.ask("POST", f"{FIELD}/records/{one['id']}/decision", b'{"keep": "mine"}').status_code == 403
    assert other.ask("GET", f"{FIELD}/records").json() == {"items": []}
    assert [item["id"] for item in worker.ask("GET", f"{FIELD}/records").json()["items"]] == [one["id"]]


def test_the_office_sees_the_records_within_its_reach(context: Context, app: Any, worker: FieldPhone) -> None:
    receipt(worker.send(seen()), 201)
    near = login(app, context, "示例审核员甲", Role.REVIEWER, NORTH.code)
    far = login(app, context, "示例审核员乙", Role.REVIEWER, SOUTH.code)
    listed = [client.get(f"{FIELD}/records", params={"all": True}) for client in (near, far)]
    assert [len(answer.json()["items"]) for answer in listed] == [1, 0]
    assert worker.ask("GET", f"{FIELD}/records?all=true").status_code == 403


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"kty": "RSA", "n": "x", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "B" * 43},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": None},
    ],
)
def test_a_phone_without_a_good_key_is_not_registered(context: Context, app: Any, key: dict[str, Any]) -> None:
    worker = login(app, context, WORKER, Role.GRID_WORKER)
    assert worker.post(f"{FIELD}/phones", json={"name": "", "key": key}).status_code == 400


# -- whether it is possible --------------------------------------------------------------------------------------------


def test_a_sensor_that_two_people_hang_is_a_conflict_that_one_version_settles(
    context: Context, app: Any, engineer: FieldPhone
) -> None:
    second = FieldPhone(login(app, context, "示例工程师乙", Role.REVIEWER))
    first = hanging("SN-2", base=MARK)
    assert receipt(engineer.send(first))["outcome"] == "applied"
    again = hanging("SN-3", base=receipt(engineer.send(first))["made"]["deployment"])
    again["new"]["since"] = rfc3339(NOW - 30 * MINUTE)
    mine, theirs = hanging("SN-4", base=MARK), hanging("SN-5", base=MARK)
    for one in (mine, theirs):
        one["new"]["since"] = rfc3339(NOW - MINUTE)
        told = receipt(second.send(one))
        assert (told["outcome"], told["mine"]["serial"]) == ("conflict", one["new"]["serial"])
        assert told["theirs"]["serial"] == "SN-2"
    assert receipt(engineer.send(again))["outcome"] == "applied", "one's own change in between is no conflict"
    path = f"{FIELD}/records/{theirs['id']}/decision"
    assert receipt(second.ask("POST", path, b'{"keep": "theirs"}'))["outcome"] == "refused"
    path = f"{FIELD}/records/{mine['id']}/decision"
    for _ in range(2):
        assert receipt(second.ask("POST", path, b'{"keep": "mine"}'))["outcome"] == "applied"
    assert second.ask("POST", path, b'{"keep": "theirs"}').status_code == 409
    with context.database.read() as connection:
        hung = connection.execute(sa.select(deployment.c.device).order_by(deployment.c.since_ms)).scalars().all()
    assert hung == ["SN-1", "SN-2", "SN-3", "SN-4"]


def test_a_station_retired_meanwhile_refuses_and_keeps_what_was_done_after_that(
    context: Context, engineer: FieldPhone
) -> None:
    with context.database.write() as connection:
        maintenance_store.retire(connection, "qicha", NOW - 90 * MINUTE, "示例", Author("test", NOW))
    visit = record("visit", {"began_at": rfc3339(NOW - HOUR), "parameters": []}, NOW, object={"station": "qicha"})
    for one in (hanging(base=MARK), calibrated(base=MARK), visit):
        told = receipt(engineer.send(one), 201)
        assert (told["outcome"], told["message"]["zh"]) == (
            "refused",
            say("field_server.retired", station="奇槎").zh,
        )
    earlier = calibrated(new={"at": rfc3339(NOW - 2 * HOUR), "began_at": None})
    assert receipt(engineer.send(earlier))["outcome"] == "applied"
    assert rows(context, field_record) == 4


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_a_clock_that_is_off_by_a_day_is_corrected_and_said(context: Context, engineer: FieldPhone, off: int) -> None:
    shift = {"recorded_at": rfc3339(NOW - HOUR + off), "sent_at": rfc3339(NOW + off), "offset_ms": None}
    new = {"at": rfc3339(NOW - HOUR + off), "began_at": rfc3339(NOW - 2 * HOUR + off)}
    told = receipt(engineer.send(calibrated(new=new) | shift))
    assert (told["outcome"], told["recorded_at"]) == ("applied", rfc3339(NOW - HOUR))
    key = "clock_ahead" if off > 0 else "clock_behind"
    assert say(f"field_server.{key}", off=say("console.hours", count=24)).zh in told["message"]["zh"]
    with context.database.read() as connection:
        ((_, check),) = maintenance_store.checks(connection, "qicha")
        ((_, visit),) = maintenance_store.visits(connection, "qicha")
    assert (check.at_ms, visit.since_ms, visit.until_ms) == (NOW - HOUR, NOW - 2 * HOUR, NOW - HOUR)
    assert visit.parameters == ("ph",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recorded_at": rfc3339(NOW + HOUR)}, "in_future"),
        ({"recorded_at": rfc3339(NOW - 91 * DAY)}, "too_old"),
        ({"recorded_at": "yesterday"}, "bad_value"),
        ({"kind": "tomorrow"}, "unknown_kind"),
        ({"kind": None}, "unknown_kind"),
        ({"new": None}, "bad_value"),
        ({"new": {"text": "\x00"}}, ""),
        ({"new": {"text": "示例", "colour": "pink"}}, ""),
        ({"new": {"text": "示例", "place": {"lon": 500, "lat": 0}}}, "bad_value"),
    ],
)
def test_what_cannot_take_effect_is_kept_with_its_reason(
    context: Context, worker: FieldPhone, change: dict[str, Any], reason: str
) -> None:
    told = receipt(worker.send(seen() | change), 201)
    assert (told["outcome"], bool(told["message"]["zh"] and told["message"]["en"])) == ("refused", True)
    values = {"name": "", "kind": "", "at": "", "days": 90}
    start = say(f"field_server.{reason}", **values).en[:12] if reason else ""
    assert told["message"]["en"].startswith(start.split("“")[0]), told["message"]
    assert (rows(context, field_record), rows(context, incident)) == (1, 0)


def test_what_is_no_record_is_answered_with_a_problem(context: Context, worker: FieldPhone) -> None:
    one = seen()
    path = f"{FIELD}/records/{one['id']}"
    for body in (b"", b"[]", b"{", b'{"id": NaN}', b"[" * 100_000, b"\xff", json.dumps(seen()).encode()):
        assert worker.ask("PUT", path, body).status_code == 400, body[:20]
    assert worker.ask("PUT", f"{FIELD}/records/1", b'{"id": "1"}').status_code == 400
    assert worker.ask("PUT", path, b" " * (2 * 1024 * 1024 + 1)).status_code == 413
    assert rows(context, field_record) == 0


def test_an_app_of_last_month_that_says_more_is_understood(context: Context, worker: FieldPhone) -> None:
    one = seen(mood="示例", object={"boat": 3})
    one["new"] |= {"colour": None, "matter": "gone", "weather": {"wind": 3}}
    assert receipt(worker.send(one), 201)["outcome"] == "applied"


def test_each_kind_asks_for_the_right_of_its_route_and_its_reach(
    context: Context, app: Any, worker: FieldPhone
) -> None:
    away = FieldPhone(login(app, context, "示例审核员", Role.REVIEWER, SOUTH.code))
    asked = [
        (worker, hanging(base=MARK)),
        (worker, calibrated()),
        (worker, record("visit", {"parameters": []}, NOW, object={"station": "qicha"})),
        (away, hanging(base=MARK)),
        (away, calibrated()),
        (away, seen()),
        (away, record("patrol", {"started_at": rfc3339(NOW - HOUR), "ended_at": rfc3339(NOW)}, NOW)),
        (worker, record("done", {"comment": ""}, NOW, object={"incident": 999})),
        (worker, record("hang", {"parameter": "ph"}, NOW, object={"station": "qicha"})),
    ]
    assert {receipt(phone.send(one))["outcome"] for phone, one in asked} == {"refused"}
    assert (rows(context, incident), rows(context, field_record)) == (0, len(asked))
    auditor = login(app, context, "示例审计", Role.AUDITOR)
    assert auditor.put(f"{FIELD}/records/{seen()['id']}", json={}).status_code == 403
    assert auditor.post(f"{FIELD}/phones", json={"key": {}}).status_code == 403


def test_a_sensor_hung_three_kilometres_off_is_kept_and_pointed_out(context: Context, engineer: FieldPhone) -> None:
    one = hanging(base=MARK)
    one["new"]["place"] = {"lon": 113.1493, "lat": 23.01, "accuracy_m": 8}
    told = receipt(engineer.send(one))
    assert (told["outcome"], "3.0" in told["message"]["zh"]) == ("applied", True)


def test_a_sensor_at_a_station_that_is_not_registered_waits_for_the_office(
    context: Context, app: Any, engineer: FieldPhone
) -> None:
    one = hanging(object={"station": "new-1", "parameter": "ph"})
    one["new"] |= {"parameter": "do", "station_new": {"name": "新桥"}}
    told = receipt(engineer.send(one))
    assert (told["outcome"], "新桥" in told["message"]["zh"]) == ("waiting", True)
    office = login(app, context, "示例审核员", Role.REVIEWER)
    answer = office.post(f"{FIELD}/records/{one['id']}/decision", json={"keep": "mine", "station": "far"})
    assert (receipt(answer)["outcome"], receipt(answer)["made"]["station"]) == ("applied", "far")


def test_a_visit_goes_on_until_its_later_version_ends_it(context: Context, engineer: FieldPhone) -> None:
    begun = record("visit", {"began_at": rfc3339(NOW - HOUR), "parameters": ["ph"]}, NOW, object={"station": "qicha"})
    first = receipt(engineer.send(begun))
    over = begun | {"version": 2, "new": begun["new"] | {"ended_at": rfc3339(NOW - MINUTE), "note": "清洗"}}
    told = receipt(engineer.send(over))
    assert (told["outcome"], told["version"], told["made"]) == ("applied", 2, first["made"])
    assert receipt(engineer.send(over)) == told
    assert receipt(engineer.send(begun))["version"] == 2
    with context.database.read() as connection:
        ((_, visit),) = maintenance_store.visits(connection, "qicha")
    assert (visit.until_ms, visit.parameters, visit.note) == (NOW - MINUTE, ("ph",), "清洗")


# -- reports and tasks -------------------------------------------------------------------------------------------------


def test_a_report_without_a_place_is_filed_where_its_reporter_works(context: Context, worker: FieldPhone) -> None:
    number = receipt(worker.send(seen()))["made"]["incident"]
    with context.database.read() as connection:
        assert incident_store.get(connection, number).place.region == NORTH.code


def correction(of: dict[str, Any], new: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    return record("correct", new, NOW, object={"record": of["id"]}, old=old)


def test_a_place_that_follows_moves_the_incident_until_it_is_over(context: Context, worker: FieldPhone) -> None:
    one = seen()
    fix, right = ({"lon": lon, "lat": 23.01, "accuracy_m": 12} for lon in (113.12, 113.13))
    follows = record("place", {"place": fix, "reach": "qichachong"}, NOW, object={"record": one["id"]})
    assert receipt(worker.send(follows))["outcome"] == "waiting"
    number = receipt(worker.send(one))["made"]["incident"]
    told = receipt(worker.send(follows))
    assert (told["outcome"], told["made"]["incident"]) == ("applied", number)

    def there() -> tuple[Any, ...]:
        with context.database.read() as connection:
            place = incident_store.get(connection, number).place
            moves = [one for one in incident_store.history(connection, number) if one.what == "moved"]
            past, _ = incident_store.as_of(connection, number, NOW)
        assert past.place == place, "the trail tells the same"
        return (
            place.lon,
            place.lat,
            place.reach,
            place.region,
            len(moves),
            moves[-1].details["from"]["lon"],
            moves[-1].by,
        )

    assert there() == (113.12, 23.01, "qichachong", NORTH.code, 1, None, WORKER)
    stale = receipt(worker.send(correction(follows, {"place": right}, {"place": right})))
    assert (stale["outcome"], stale["theirs"]["new"]) == ("conflict", {"place": fix})
    corrected = correction(follows, {"place": right}, {"place": fix})
    for _ in range(2):
        assert receipt(worker.send(corrected))["outcome"] == "applied"
    assert there() == (113.13, 23.01, "qichachong", NORTH.code, 2, 113.12, WORKER)
    assert receipt(worker.send(correction(follows, {"undone": True})))["outcome"] == "applied"
    assert there()[:4] == (None, None, "", NORTH.code), "as before it was placed"
    with context.database.write() as connection:
        order = Order(Action.REJECT, comment="示例")
        incident_store.apply_action(connection, number, order, administrator("示例管理员"), now_ms=NOW, source="/test")
    late = receipt(worker.send(record("place", {"place": fix}, NOW, object={"record": one["id"]})))
    assert (late["outcome"], str(number) in late["message"]["zh"]) == ("refused", True)


def test_a_script_in_a_report_is_text(context: Context, app: Any, worker: FieldPhone) -> None:
    number = receipt(worker.send(seen("<script>alert(1)</script>")))["made"]["incident"]
    office = login(app, context, OFFICE, Role.OFFICE)
    token = office.headers["Authorization"].removeprefix("Bearer ")
    browser = TestClient(app, base_url="https://river.example", follow_redirects=False)
    assert browser.post("/login", data={"token": token}).status_code == 303
    page = browser.get(f"/incidents/{number}", headers={"Accept": "text/html"}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_task_is_handed_back_once_its_photo_is_here(context: Context, app: Any, worker: FieldPhone) -> None:
    number = receipt(worker.send(seen()))["made"]["incident"]
    boss = administrator("示例管理员")
    with context.database.write() as connection:
        for action, to in ((Action.ACCEPT, None), (Action.DISPATCH, Assignment(NORTH.code, WORKER))):
            incident_store.apply_action(
                connection, number, Order(action, assignment=to, comment="示例"), boss, now_ms=NOW, source="/test"
            )
    (task,) = worker.ask("GET", f"{FIELD}/bundle").json()["tasks"]
    assert (task["number"], task["needs_photo"]) == (number, True)
    after = picture(3)
    one = record("done", {"comment": "已清理"}, NOW, [after], object={"incident": number})
    told = receipt(worker.send(one))
    assert (told["outcome"], len(told["missing_photos"])) == ("waiting", 1)
    for _ in range(2):
        assert worker.photo(one, after).status_code == 200
    told = receipt(worker.send(one))
    assert (told["outcome"], told["missing_photos"]) == ("applied", [])
    with context.database.read() as connection:
        case = incident_store.get(connection, number)
        shown = [entry.attachments for entry in incident_store.history(connection, number) if entry.attachments]
    assert (str(case.state), case.case.handler, len(shown[-1])) == ("handled", WORKER, 1)
    assert worker.ask("GET", f"{FIELD}/bundle").json()["tasks"] == []

    def state() -> tuple[str, str | None]:
        with context.database.read() as connection:
            return incident_store.get(connection, number).state, incident_store.history(connection, number)[-1].comment

    assert (
        receipt(worker.send(correction(one, {"comment": "清理了一半"}, {"comment": "已清理"})))["outcome"] == "applied"
    )
    assert state() == ("handled", "清理了一半")
    assert receipt(worker.send(correction(one, {"undone": True, "comment": "还没有完"})))["outcome"] == "applied"
    assert state() == ("handling", "还没有完")
    again = receipt(worker.send(correction(one, {"comment": "再改"})))
    assert (again["outcome"], again["message"]["en"].startswith("this record was taken back")) == ("refused", True)
    other = record("done", {"comment": "完成"}, NOW, [after], object={"incident": number})
    assert receipt(worker.send(other))["outcome"] == "waiting"
    assert worker.photo(other, after).status_code == 200
    assert receipt(worker.send(other))["outcome"] == "applied"
    with context.database.write() as connection:
        order = Order(Action.VERIFY, comment="示例")
        incident_store.apply_action(connection, number, order, boss, now_ms=NOW, source="/test")
    assert receipt(worker.send(correction(other, {"comment": "晚了"})))["outcome"] == "refused"


def test_who_began_a_case_has_it_as_a_task_until_it_is_given_on(context: Context, app: Any, worker: FieldPhone) -> None:
    number = receipt(worker.send(seen()))["made"]["incident"]
    boss, me = administrator("示例管理员"), login(app, context, "示例网格员丙", Role.GRID_WORKER, NORTH.code)
    tasks = []
    for action, actor, to in (
        (Action.ACCEPT, boss, None),
        (Action.DISPATCH, boss, Assignment(NORTH.code, "示例河长")),
        (Action.START, replace(boss, name="示例网格员丙"), None),
        (Action.TRANSFER, boss, Assignment(NORTH.code, "示例河长乙")),
    ):
        with context.database.write() as connection:
            incident_store.apply_action(
                connection, number, Order(action, assignment=to, comment="示例"), actor, now_ms=NOW, source="/test"
            )
        tasks.append(len(me.get(f"{FIELD}/bundle").json()["tasks"]))
    assert worker.ask("GET", f"{FIELD}/bundle").json()["tasks"] == [], "somebody else's"
    assert tasks == [0, 0, 1, 0]


def test_a_patrol_with_a_problem_and_its_photo_is_one_and_can_be_corrected(
    context: Context, worker: FieldPhone, clock: list[int]
) -> None:
    start = NOW - 2 * HOUR
    track = [[rfc3339(start + i * MINUTE), 113.12, 23.01 + 0.0006 * i] for i in range(21)]
    dirty = picture(9)
    new = {"started_at": rfc3339(start), "ended_at": rfc3339(start + 20 * MINUTE), "reach": "qichachong", "boat": True}
    one = record("patrol", new, NOW, [dirty])
    sha256 = one["photos"][0]["sha256"]
    new["problems"] = [{"text": "漂浮物", "at": rfc3339(start + 5 * MINUTE), "attachments": [sha256], "kind": "?"}]
    new["track"] = track
    first = receipt(worker.send(one), 201)
    assert (first["outcome"], first["made"]["valid"], first["missing_photos"]) == ("applied", True, [sha256])
    assert worker.photo(one, dirty).status_code == 200
    again = receipt(worker.send(one))
    assert (again["made"], again["missing_photos"]) == (first["made"], [])
    assert (rows(context, incident), rows(context, attachment_incident)) == (1, 1)
    said = {"reach": "qichachong"}
    told = receipt(worker.send(correction(one, {"note": "示例：乘船", "way": "drone", "reach": ""}, said)))
    assert (told["outcome"], told["made"]["corrects"]) == ("applied", one["id"])
    assert patrol_of(context, one) == ("drone", "", "示例：乘船", True, True)
    assert receipt(worker.send(correction(one, {"note": "别的"}, said)))["outcome"] == "conflict"
    assert receipt(worker.send(correction(one, {"way": "飞"})))["outcome"] == "refused"
    assert patrol_of(context, one) == ("drone", "", "示例：乘船", True, True), (
        "the correction that fails changes nothing"
    )
    clock[0] += 6 * DAY
    assert receipt(worker.send(correction(one, {"undone": True})))["outcome"] == "applied"
    assert patrol_of(context, one) == ("drone", "", "示例：乘船", False, False)
    with context.database.read() as connection:
        changes = audit_trail.list_entries(connection, what="patrol.corrected", limit=9)
    assert [json.loads(one.body)["old"]["way"] for one in changes] == ["drone", "walk"]


def test_a_patrol_of_last_week_is_corrected_no_more(context: Context, worker: FieldPhone, clock: list[int]) -> None:
    start = NOW - HOUR
    new = {"started_at": rfc3339(start), "ended_at": rfc3339(start + MINUTE), "way": "meeting", "track": []}
    one = record("patrol", new, NOW)
    assert receipt(worker.send(one))["outcome"] == "applied"
    clock[0] += 8 * DAY
    late = receipt(worker.send(correction(one, {"note": "晚了"})))
    assert (late["outcome"], "7" in late["message"]["zh"]) == ("refused", True)
    assert patrol_of(context, one)[2] == ""


def test_a_deputy_walks_in_the_chiefs_place_and_both_are_named(context: Context, app: Any) -> None:
    chief, deputy, term = (
        "甲河长（示例）",
        "乙助理（示例）",
        {"since_ms": NOW - 9 * DAY, "now_ms": NOW, "source": "/test"},
    )
    client = login(app, context, deputy, Role.DEPUTY)
    with context.database.write() as connection:
        regions = Regions((NORTH, SOUTH))
        people_store.add(connection, chief, Role.CHIEF, by="test", now_ms=NOW - 9 * DAY)
        people_store.appoint(connection, chief, region=NORTH.code, by="test", regions=regions, **term)
        people_store.appoint(
            connection, deputy, region=NORTH.code, deputy_of=chief, by="test", regions=regions, until_ms=NOW, **term
        )
    start = NOW - HOUR
    new = {"started_at": rfc3339(start), "ended_at": rfc3339(start + MINUTE), "way": "on_site", "track": []}
    phone = FieldPhone(client)
    one = record("patrol", new, NOW)
    assert receipt(phone.send(one))["outcome"] == "applied", "the term ended meanwhile"
    with context.database.read() as connection:
        made = patrol_store.find(connection, one["id"])
        span = (NOW - DAY, NOW + DAY, NOW + DAY)
        good = [
            patrol_store.PatrolShares(connection, str, {Role.CHIEF: 4}, counts).done(GroupBy.CHIEF, *span)[chief].good
            for counts in (False, True)
        ]
    assert (made.by, made.chief, good) == (deputy, chief, [0, 1])


def patrol_of(context: Context, one: dict[str, Any]) -> tuple[str, str, str, bool, bool]:
    with context.database.read() as connection:
        made = patrol_store.find(connection, one["id"])
    return made.way, made.reach, made.note, made.valid, bool(made.covered)


# -- photos ------------------------------------------------------------------------------------------------------------


def test_a_rotated_photo_keeps_its_turn_and_loses_what_the_camera_wrote(
    context: Context, app: Any, engineer: FieldPhone
) -> None:
    turned = picture(turned=6)
    one = hanging(base=MARK, photos=[turned])
    assert receipt(engineer.send(one))["missing_photos"] == [one["photos"][0]["sha256"]]
    for _ in range(2):
        answer = engineer.photo(one, turned)
        assert answer.json() == {"sha256": one["photos"][0]["sha256"], "stored": True}, answer.text
    with context.database.read() as connection:
        (kept,) = maintenance_store.photos(connection, "qicha")
    assert (kept.by, kept.sha256 != one["photos"][0]["sha256"]) == (ENGINEER, True)
    client = login(app, context, OFFICE, Role.OFFICE)
    shown = Image.open(io.BytesIO(client.get(f"/api/v1/photos/{kept.sha256}").content))
    assert (shown.getexif().get(0x0112), shown.getexif().get(0x010F)) == (6, None)


def test_the_original_of_a_photo_is_for_the_office_alone(context: Context, app: Any, worker: FieldPhone) -> None:
    small, taken = picture(5), picture(5, turned=6)
    one = seen(photos=[small])
    receipt(worker.send(one))
    path = f"{FIELD}/records/{one['id']}/photos/{one['photos'][0]['sha256']}/original"
    assert worker.ask("PUT", path, taken).status_code == 404, "before the small one"
    assert worker.photo(one, small).status_code == 200
    assert worker.ask("PUT", path, b"no photo").status_code == 422
    assert worker.ask("PUT", path, taken + b" " * 10 * 1024 * 1024).status_code == 422
    other = FieldPhone(login(app, context, OTHER, Role.GRID_WORKER, NORTH.code))
    assert other.ask("PUT", path, taken).status_code == 403
    for _ in range(2):
        assert worker.ask("PUT", path, taken).status_code == 200
    office = login(app, context, OFFICE, Role.OFFICE)
    got = office.get(path)
    assert (got.status_code, got.content) == (200, taken)
    assert worker.ask("GET", path).status_code == 403
    south = login(app, context, "示例南街办", Role.OFFICE, SOUTH.code)
    assert south.get(path).status_code == 404
    number = receipt(worker.send(one))["made"]["incident"]
    history = office.get(f"/api/v1/incidents/{number}").json()["history"]
    (shown,) = [photo for entry in history for photo in entry["attachments"]]
    assert b"a phone that tells" not in office.get(f"/api/v1/attachments/{shown}").content
    assert office.get(f"/api/v1/attachments/{hashlib.sha256(taken).hexdigest()}").status_code == 404


def test_a_photo_that_is_none_or_too_large_is_refused_and_the_text_stays(context: Context, worker: FieldPhone) -> None:
    one = seen()
    receipt(worker.send(one), 201)
    assert worker.photo(one, b"%PDF-1.4 %%EOF").status_code == 422
    assert worker.photo(one, b"no photo").status_code == 422
    assert worker.photo(one, b"").status_code == 422
    assert worker.photo(one, picture(), "0" * 64).status_code == 422
    assert worker.photo(one, b"\xff\xd8\xff" + bytes(11 * 1024 * 1024)).status_code == 422
    assert worker.photo(one, bytes(40 * 1024 * 1024)).status_code == 413
    assert worker.photo(seen(), picture()).status_code == 404
    assert (rows(context, field_record), rows(context, field_photo)) == (1, 0)


def test_the_photos_of_a_record_wait_until_it_takes_effect(context: Context, engineer: FieldPhone) -> None:
    shown = picture(4)
    one = hanging(base="another", photos=[shown])
    assert receipt(engineer.send(one))["outcome"] == "conflict"
    assert engineer.photo(one, shown).status_code == 200
    assert rows(context, photo_table) == 0
    receipt(engineer.ask("POST", f"{FIELD}/records/{one['id']}/decision", b'{"keep": "mine"}'))
    assert rows(context, photo_table) == 1


# -- what goes along ---------------------------------------------------------------------------------------------------


def test_a_phone_takes_along_what_lies_within_reach_and_is_told_when_nothing_changed(
    context: Context, app: Any, engineer: FieldPhone, clock: list[int]
) -> None:
    answer = engineer.ask("GET", f"{FIELD}/bundle")
    bundle = answer.json()
    assert [station["key"] for station in bundle["stations"]] == ["qicha", "far"]
    (hung,) = bundle["stations"][0]["deployments"]
    assert (hung["parameter"], hung["serial"], hung["etag"]) == ("ph", "SN-1", MARK)
    assert bundle["rules"]["patrol"] == {"minutes": 10, "metres": 1000}
    assert bundle["rules"]["calibration"]["ph"]["most"] > 0
    assert (bundle["person"]["name"], bundle["phone"]) == (ENGINEER, engineer.id)
    clock[0] += MINUTE
    same = engineer.ask("GET", f"{FIELD}/bundle", If_None_Match=answer.headers["ETag"])
    assert (same.status_code, same.content) == (304, b"")
    receipt(engineer.send(hanging(base=MARK)))
    assert engineer.ask("GET", f"{FIELD}/bundle", If_None_Match=answer.headers["ETag"]).status_code == 200
    away = login(app, context, "示例审核员", Role.REVIEWER, SOUTH.code)
    seen_there = away.get(f"{FIELD}/bundle").json()
    assert ([one["key"] for one in seen_there["stations"]], [one["key"] for one in seen_there["reaches"]]) == (
        ["far"],
        ["qichachong"],
    )
