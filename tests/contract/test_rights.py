"""Who may ask what: every route of the API with no token and as people of eight roles, and in whose name."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image

from api.app import create_app
from api.assessment import XLSX
from api.context import Context, NotificationSettings
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, Finding
from governance.incidents.model import Action, Assignment, Order
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.notify.contacts import Directory
from governance.notify.message import Item, NoticeKind, NoticeRequest
from governance.notify.oncall import Shift
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import PERSON_ROLES, Actor, Department, Forbidden, Right, Role, role_name
from governance.people import store as people_store
from governance.tables import login_session, outbox, person_contact
from infra.database import Database
from infra.texts import Text
from infra.times import rfc3339
from infra.vault import Vault, new_key
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from riverchief import messages
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import OPERATOR, a_finding
from tests.databases import with_tables

pytestmark = pytest.mark.both_databases

NOW = 1_790_000_000_000


@pytest.fixture
def context(url: str, tmp_path: Path) -> Iterator[Context]:
    database = Database(url)
    with_tables(database)
    photos = tmp_path / "photos"
    yield Context(database, SqlReadings(database, catalogue()), catalogue(), "/test", lambda: NOW, photos=photos)
    database.close()


BEGAN = NOW - 86_400_000
AT = rfc3339(NOW - 1000)
BOSS = "管理员（示例）"
NAMING: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/incidents"): {"text": "示例：水面有油"},
    ("POST", "/incidents/{incident_id}/actions"): {"action": "comment", "comment": "示例"},
    ("POST", "/patrols"): {"id": "example-1", "started_at": AT, "ended_at": AT, "track": []},
    ("POST", "/stations"): {"key": "example", "lon": 113.0, "lat": 23.0},
    ("PATCH", "/stations/{key}"): {"note": "示例"},
    ("POST", "/stations/{key}/deployments"): {"parameter": "do"},
    ("POST", "/stations/{key}/deployments/{parameter}/end"): {},
    ("POST", "/stations/{key}/calibrations"): {"parameter": "do", "type": "span", "standard": 8, "reading": 8},
    ("PATCH", "/stations/{key}/calibrations/{number}"): {"void": True},
    ("POST", "/stations/{key}/visits"): {},
    ("POST", "/stations/{key}/visits/{number}/end"): {},
    ("POST", "/stations/{key}/reviews"): {"since": AT, "until": rfc3339(NOW), "verdict": "bad", "reason": "示例"},
    ("POST", "/stations/{key}/reviews/{number}/confirm"): {},
    ("POST", "/stations/{key}/retire"): {"reason": "示例"},
    ("POST", "/stations/{key}/reinstate"): {},
    ("POST", "/stations/{key}/reviews/{number}/void"): {},
    ("POST", "/stations/{key}/mutes"): {"until": rfc3339(NOW + 1000), "reason": "示例"},
    ("POST", "/stations/{key}/mutes/{number}/end"): {},
    ("POST", "/stations/{key}/credentials"): {},
    ("POST", "/backtests"): {"rules": "x", "since": AT},
    ("POST", "/oncall/shifts"): {"shifts": [{"person": "a", "begins": AT, "until": rfc3339(NOW)}]},
    ("POST", "/reconciliations"): {"platform": "district", "items": []},
}
"""Every route whose body says who did it, with a body it takes."""


REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("d/n", "北街", "North", Level.STREET, "d"),
    Region("d/n/1", "北一网格", "North 1", Level.GRID, "d/n"),
    Region("d/s", "南街", "South", Level.STREET, "d"),
)
PEOPLE: dict[str, tuple[Role, str]] = {
    "区总": (Role.GENERAL_CHIEF, "d"),
    "北长": (Role.CHIEF, "d/n"),
    "北助": (Role.DEPUTY, "d/n"),
    "北格": (Role.GRID_WORKER, "d/n/1"),
    "南长": (Role.CHIEF, "d/s"),
    "办": (Role.OFFICE, "d"),
    "北调度": (Role.OPERATOR, "d/n"),
    "北办": (Role.OFFICE, "d/n"),
    "北审": (Role.REVIEWER, "d/n"),
    "南格": (Role.GRID_WORKER, "d/s"),
    "处置": (Role.HANDLER, ""),
    "审计": (Role.AUDITOR, ""),
    "管理": (Role.ADMINISTRATOR, ""),
}
"""Made up; their names say where and what they are."""
NORTH = {"北长", "北助", "北格", "北调度", "北办", "北审"}


def fired(station: str) -> Finding:
    return a_finding(BEGAN, rule="nh3n", cause=station, station=station)


@pytest.fixture
def district(context: Context) -> dict[str, TestClient]:
    """A district with two streets, and a client for everybody in it."""
    stations = (
        Station("north", "北", "North", 113.05, 23.0, reach="up", region="d/n/1"),
        Station("south", "南", "South", 113.06, 23.0, reach="down", region="d/s"),
    )
    reaches = tuple(Reach(key, key, key, Water.RIVER, ((113.0, 23.0), (113.1, 23.0))) for key in ("up", "down"))
    tree, tokens = Regions(REGIONS), {}
    with context.database.write() as connection:
        registry.save(connection, Registry(stations, (), reaches, catalogue(), regions=REGIONS))
        for name, (role, region) in PEOPLE.items():
            department = Department.WATER if role is Role.HANDLER else None
            people_store.add(
                connection, name, role, region=region, department=department, by="test", now_ms=BEGAN, regions=tree
            )
            tokens[name] = people_store.issue_token(connection, name, by="test", now_ms=BEGAN)
        for station, region in (("north", "d/n/1"), ("south", "d/s")):
            found = incident_store.record_findings(
                connection, [fired(station)], BEGAN, source="/test", place=lambda _, region=region: Place(region)
            )
            for order in (
                Order(Action.ACCEPT),
                Order(Action.DISPATCH, assignment=Assignment(responsible="北长" if station == "north" else "南长")),
            ):
                incident_store.apply_action(connection, found.ids[0], order, OPERATOR, now_ms=BEGAN, source="/test")
    app = create_app(context)
    return {name: TestClient(app, headers={"Authorization": f"Bearer {token}"}) for name, token in tokens.items()}


def test_a_new_role_ends_terms_sessions_and_the_tokens_that_do_not_fit_it(district: dict[str, TestClient]) -> None:
    boss, other = district["管理"], "/api/v1/people/北格"
    limited = {"scopes": ["view"]}
    small = district["北格"].post("/api/v1/me/tokens", json=limited | {"label": "表"}).json()["token"]
    changed = boss.patch(other, json={"role": "operator", "region": "d/n"})
    assert (changed.status_code, changed.json()["role"], changed.json()["region"]) == (200, "operator", "d/n")
    assert district["北格"].get("/api/v1/me").status_code == 401, "a token of all rights of the old role"
    told = district["管理"].get("/api/v1/me", headers={"Authorization": f"Bearer {small}"}).json()
    assert (told["role"], told["rights"]) == ("operator", ["view"])
    assert boss.patch(other, json={"role": "emperor"}).status_code == 400
    assert boss.patch(other, json={"role": "handler"}).status_code == 400, "without a department"
    assert district["办"].patch(other, json={"role": "office"}).status_code == 403
    with_cases = boss.patch("/api/v1/people/北长", json={"role": "verifier"})
    assert with_cases.status_code == 409, "open incidents are theirs"
    for change in ({"role": "auditor"}, {"region": "d/n"}):
        assert boss.patch("/api/v1/people/管理", json=change).status_code == 409, "the last administrator"


def test_a_refusal_names_the_roles_that_may_where_they_are_few_and_else_who_helps() -> None:
    public = Actor("公众（示例）", Role.PUBLIC)
    with pytest.raises(Forbidden) as few:
        public.must(Right.REVIEW)
    assert role_name(Role.REVIEWER).zh in few.value.text.zh
    with pytest.raises(Forbidden) as many:
        public.must(Right.INCIDENTS)
    named = [role for role in PERSON_ROLES if role_name(role).zh in many.value.text.zh]
    assert named == [Role.ADMINISTRATOR, Role.PUBLIC]


def test_nobody_gives_more_than_they_have(district: dict[str, TestClient]) -> None:
    boss = district["管理"]
    assert (
        boss.post("/api/v1/people", json={"name": "北管", "role": "administrator", "region": "d/n"}).status_code == 201
    )
    token = boss.post("/api/v1/people/北管/tokens").json()["token"]
    north = TestClient(boss.app, headers={"Authorization": f"Bearer {token}"})
    assert north.post("/api/v1/people", json={"name": "一", "role": "administrator"}).status_code == 403, "everywhere"
    assert north.post("/api/v1/people", json={"name": "一", "role": "verifier", "region": "d/s"}).status_code == 403
    assert north.post("/api/v1/people", json={"name": "一", "role": "verifier", "region": "d/n/1"}).status_code == 201
    for path in ("管理/tokens", "管理/link", "南长/tokens"):
        assert north.post(f"/api/v1/people/{path}").status_code == 403, path
    assert north.delete("/api/v1/people/管理").status_code == 403
    assert north.patch("/api/v1/people/北管", json={"region": ""}).status_code == 403
    assert north.patch("/api/v1/people/南长", json={"role": "verifier", "region": "d/n"}).status_code == 403
    assert boss.patch("/api/v1/people/管理", json={"region": "d/n"}).status_code == 409, "the last one of all regions"
    limited = boss.post("/api/v1/me/tokens", json={"scopes": ["people"], "label": "x"}).json()["token"]
    few = TestClient(boss.app, headers={"Authorization": f"Bearer {limited}"})
    assert few.patch("/api/v1/people/一", json={"role": "administrator"}).status_code == 403


def test_a_term_ends_with_or_without_a_successor_who_takes_over(
    district: dict[str, TestClient], context: Context
) -> None:
    boss, path = district["管理"], "/api/v1/people/北长"
    boss.post("/api/v1/people", json={"name": "新长", "role": "chief"})
    (term,) = next(one for one in boss.get("/api/v1/people").json()["items"] if one["name"] == "北长")["terms"]
    end = f"{path}/appointments/{term['id']}/end"
    assert district["办"].post(end, json={}).status_code == 403
    assert boss.post(end, json={"successor": "北助"}).status_code == 409, "a deputy follows no chief"
    assert boss.post(end, json={"successor": "没有"}).status_code == 404
    assert boss.post(end, json={"until": "2001-01-01T00:00:00Z"}).status_code == 400
    with context.database.read() as connection:
        cases = people_store.open_cases(connection, "北长")
    assert cases
    ended = boss.post(end, json={"successor": "新长"})
    assert (ended.status_code, ended.json()["inherited"]) == (200, cases)
    assert ended.json()["person"]["terms"][0]["until"] is not None
    with context.database.read() as connection:
        assert people_store.open_cases(connection, "新长") == cases
        (held,) = people_store.appointments(connection, "新长")
        told = [one.what for one in audit_trail.list_entries(connection, limit=20)]
    assert (held.region, held.until_ms) == ("d/n", None)
    assert {"person.term_ended", "person.appointed"} <= set(told)
    assert boss.post(end, json={}).status_code == 404, "it is over"


def test_each_sees_the_people_whom_role_and_region_show(district: dict[str, TestClient]) -> None:
    def seen(name: str) -> set[str]:
        return {one["name"] for one in district[name].get("/api/v1/people").json()["items"]}

    everybody = set(PEOPLE)
    assert seen("审计") == seen("管理") == seen("办") == seen("区总") == everybody
    assert seen("北长") == seen("北助") == seen("北办") == NORTH
    assert seen("南长") == {"南长", "南格"}
    assert seen("北调度") == {"北调度", "区总", "北长", "北助", "北格", "处置"}, "whom a case can be given to"
    assert district["北格"].get("/api/v1/people").status_code == 403
    assert district["处置"].get("/api/v1/people").status_code == 403


def test_a_rivers_file_says_to_everybody_what_the_sign_says_and_terms_to_who_may_see_the_person(
    context: Context, district: dict[str, TestClient]
) -> None:
    with context.database.write() as connection:
        people_store.add(connection, "市民", Role.PUBLIC, by="test", now_ms=BEGAN)
        token = people_store.issue_token(connection, "市民", by="test", now_ms=BEGAN)
        for name, role, since_ms in (("北新", Role.CHIEF, NOW + 86_400_000), ("北旧", Role.CHIEF, BEGAN)):
            people_store.add(connection, name, role, by="test", now_ms=BEGAN)
            until_ms = NOW - 1 if name == "北旧" else None
            about = {"region": "d/n", "reach": "other", "since_ms": since_ms, "until_ms": until_ms}
            if name == "北新":
                about["reach"] = "up"
            people_store.appoint(
                connection, name, **about, by="test", now_ms=NOW, source="/test", regions=Regions(REGIONS)
            )
    app = create_app(replace(context, complaints="12345"))

    def told(name: str) -> dict[str, bool]:
        """Who is named for the northern reach, and whether with the term."""
        headers = {"Authorization": f"Bearer {token}"} if name == "市民" else district[name].headers
        file = TestClient(app, headers=headers).get("/api/v1/reaches/up/file").json()
        assert file["complaints"] == "12345"
        return {one["name"]: one["since"] is not None for one in file["offices"]}

    sign = {"区总": False, "北长": False}
    assert told("市民") == told("北格") == told("处置") == told("南长") == sign
    assert told("北长") == told("北助") == {"区总": False, "北长": True, "北助": True}
    assert told("办") == told("审计") == told("管理") == {"区总": True, "北长": True, "北助": True, "北新": True}


def test_whom_to_call_now_is_for_all_who_work_on_incidents_and_the_plan_for_who_leads_or_dispatches(
    context: Context, district: dict[str, TestClient]
) -> None:
    with context.database.write() as connection:
        oncall.add(connection, [Shift("duty-1", BEGAN, NOW + 1)], by="办", now_ms=BEGAN)
    for name, client in district.items():
        now = client.get("/api/v1/oncall/now")
        assert (now.status_code, now.json()) == (200, {"now": [["duty-1"]]}), name
    plans = {name: client.get("/api/v1/oncall").status_code for name, client in district.items()}
    assert {name for name, status in plans.items() if status == 403} == {"北格", "南格", "北审", "处置"}
    assert set(plans.values()) == {200, 403}


def test_the_plan_of_a_reach_is_changed_from_its_own_region_and_by_one_at_a_time(
    district: dict[str, TestClient],
) -> None:
    plan, goals = "/api/v1/reaches/up/plan", {"goals": [{"goal": "示例：截污"}]}
    assert district["南长"].put(plan, json=goals).status_code == 403
    first = district["北长"].put(plan, json=goals, headers={"If-Match": '"0"'})
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    assert district["办"].put(plan, json=goals, headers={"If-Match": '"1"'}).status_code == 200
    assert district["北长"].put(plan, json=goals, headers={"If-Match": '"1"'}).status_code == 412
    assert district["北长"].get(plan).headers["etag"] == '"2"'
    assert [district[name].get(plan).json()["changed_by"] for name in ("北长", "北格")] == ["办", ""]


def test_each_sees_the_assessment_of_the_own_regions_and_its_total(district: dict[str, TestClient]) -> None:
    def seen(name: str, by: str) -> tuple[set[str], int]:
        told = district[name].get("/api/v1/assessments", params={"month": "2026-09", "by": by}).json()
        return {row["key"] for row in told["rows"]}, told["total"]["cases"]

    assert seen("审计", "chief") == seen("办", "chief") == seen("区总", "chief") == ({"北长", "南长"}, 2)
    assert seen("北长", "chief") == seen("北助", "chief") == ({"北长"}, 1)
    assert seen("北长", "street") == ({"d/n"}, 1)
    assert seen("南长", "street") == ({"d/s"}, 1)
    assert seen("南长", "reach") == ({"down"}, 1)
    sheet = district["北长"].get(
        "/api/v1/assessments", params={"month": "2026-09", "by": "chief"}, headers={"Accept": XLSX}
    )
    cells = str([page.rows() for page in pl.read_excel(io.BytesIO(sheet.content), sheet_id=0).values()])
    assert "北长" in cells
    assert "南长" not in cells
    assert district["北调度"].get("/api/v1/assessments?month=2026-09").status_code == 403


def act(client: TestClient, number: int, action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = client.post(f"/api/v1/incidents/{number}/actions", json={"action": action, **body})
    return answer.status_code, answer.json()


def test_a_supervision_is_released_by_its_own_level_or_a_higher_one(district: dict[str, TestClient]) -> None:
    why = {"comment": "示例"}
    assert act(district["区总"], 1, "supervise", **why)[0] == 200
    status, refused = act(district["北长"], 1, "release")
    assert (status, "区总" in refused["detail"]) == (403, True)
    assert act(district["北办"], 1, "release")[0] == 403
    assert act(district["办"], 1, "supervise", **why)[0] == 409, "of the same level: there is one already"
    assert act(district["区总"], 1, "release")[0] == 200
    assert act(district["北长"], 1, "supervise", **why)[0] == 200
    status, after = act(district["区总"], 1, "supervise", **why)
    assert (status, after["incident"]["supervised_by"]) == (200, "区总")
    assert act(district["北长"], 1, "release")[0] == 403
    assert act(district["办"], 1, "release")[0] == 200, "the office speaks for the general chief"


def test_an_automatic_supervision_gives_way_to_a_higher_chief_and_its_own_chief_does_not_release_it(
    context: Context, district: dict[str, TestClient]
) -> None:
    tree = Regions(REGIONS)
    with context.database.write() as connection:
        due_ms = incident_store.get(connection, 1).case.due_ms or 0
        incident_store.apply_reminders(connection, due_ms - 1, up=tree.parent, source="/test")
        assert 1 in incident_store.apply_reminders(connection, due_ms + 1, up=tree.parent, source="/test")
        assert incident_store.get(connection, 1).case.escalated_to == "d/n"
    assert act(district["北格"], 1, "supervise", comment="示例")[0] == 403
    status, after = act(district["区总"], 1, "supervise", comment="示例")
    assert (status, after["incident"]["supervised_by"]) == (200, "区总")
    assert act(district["北长"], 1, "release")[0] == 403


def test_whoever_handled_a_case_in_any_round_or_part_does_not_verify_it(
    context: Context, district: dict[str, TestClient]
) -> None:
    done = {"comment": "示例：已处置", "measurement": {"nh3n": 0.5}}
    assert act(district["北长"], 1, "start")[0] == 200
    status, after = act(district["北格"], 1, "finish", **done)
    assert (status, after["incident"]["handler"]) == (200, "北格")
    status, refused = act(district["北长"], 1, "verify", comment="示例")
    assert (status, "verify" in refused["allowed"]) == (403, False), "who started it handled it"
    assert act(district["北办"], 1, "rework", comment="示例")[0] == 200
    assert act(district["北格"], 1, "start")[0] == 200
    assert act(district["北格"], 1, "finish", **done)[0] == 200
    assert act(district["北长"], 1, "verify", comment="示例")[0] == 403, "nor who handled it in a round before"
    assert act(district["北办"], 1, "verify", comment="示例")[0] == 200
    with context.database.read() as connection:
        assert incident_store.get(connection, 1).case.handlers == ("北长", "北格")


def test_a_term_for_one_reach_reaches_that_water_alone(context: Context, district: dict[str, TestClient]) -> None:
    tree = Regions(REGIONS)
    with context.database.write() as connection:
        people_store.add(connection, "涌长", Role.CHIEF, by="test", now_ms=BEGAN)
        term = {"region": "d/n", "reach": "up", "since_ms": BEGAN, "by": "test", "now_ms": BEGAN, "source": "/test"}
        people_store.appoint(connection, "涌长", **term, regions=tree)
        token = people_store.issue_token(connection, "涌长", by="test", now_ms=BEGAN)
        own = incident_store.record_findings(
            connection,
            [a_finding(BEGAN, rule="nh3n", cause="own", station="own")],
            BEGAN,
            source="/test",
            place=lambda _: Place("d/n/1", "up"),
        ).ids[0]
    client = TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})
    assert [one["id"] for one in client.get("/api/v1/incidents").json()["items"]] == [own]
    assert client.get(f"/api/v1/incidents/{own}").status_code == 200
    me = client.get("/api/v1/me").json()
    assert (me["regions"], me["reaches"]) == ([], ["up"])
    assert client.get("/api/v1/incidents/1").status_code == 403, "the same region, another water"
    assert act(client, 1, "comment", comment="示例")[0] == 403
    goals = {"goals": [{"goal": "示例"}]}
    assert client.put("/api/v1/reaches/up/plan", json=goals).status_code == 200
    assert client.put("/api/v1/reaches/down/plan", json=goals).status_code == 403


def test_a_street_office_sees_and_sends_again_what_tells_of_its_own_incidents(
    context: Context, district: dict[str, TestClient]
) -> None:
    with context.database.write() as connection:
        connection.execute(sa.update(outbox).values(status="refused"))
        numbers = {row.incident_id: row.id for row in connection.execute(sa.select(outbox.c.id, outbox.c.incident_id))}
        for number in (1, 2):
            item = Item(number, NoticeKind.OPENED, Colour.RED, BEGAN, Text("", ""), Text("示例", "example"))
            notice_store.enqueue(connection, [NoticeRequest("duty", f"d{number}", item, BEGAN)], BEGAN, NoticePolicy())
        connection.execute(sa.update(notice).values(status="dead"))
    everybody = TestClient(
        create_app(replace(context, notifications=NotificationSettings(Directory, NoticePolicy(), None, "")))
    )

    def ask(name: str, method: str, path: str, **body: Any) -> httpx.Response:
        return everybody.request(method, f"/api/v1{path}", headers=district[name].headers, json=body or None)

    def of(name: str, path: str, *way: str) -> set[int]:
        return {one["incident"] for one in ask(name, "GET", path).json()["items"]}

    assert (of("北办", "/deliveries"), of("办", "/deliveries")) == ({1}, {1, 2})
    told = {name: ask(name, "GET", "/notices").json()["items"] for name in ("北办", "办")}
    seen = {name: {item["incident"] for one in items for item in one["items"]} for name, items in told.items()}
    assert seen == {"北办": {1}, "办": {1, 2}}
    assert ask("北办", "POST", f"/deliveries/{numbers[2]}/replay").status_code == 403
    assert ask("北办", "POST", f"/deliveries/{numbers[1]}/replay").status_code == 202
    by_incident = {item["incident"]: one["id"] for one in told["办"] for item in one["items"]}
    assert ask("北办", "POST", f"/notices/{by_incident[2]}/replay").status_code == 404
    assert ask("北办", "POST", f"/notices/{by_incident[1]}/replay").status_code == 202
    for method, path in (("GET", "/reconciliations"), ("POST", "/reconciliations/1/resend")):
        assert ask("北办", method, path).status_code == 403, path
        assert ask("办", method, path).status_code != 403, path
    shift = {"person": "nobody", "begins": AT, "until": rfc3339(NOW)}
    assert ask("北办", "POST", "/oncall/shifts", shifts=[shift]).status_code == 403
    assert ask("办", "POST", "/oncall/shifts", shifts=[shift]).status_code == 404, "there is no such contact"


def test_a_case_goes_to_who_may_handle_it_there_and_stays_within_reach_of_who_sends_it(
    context: Context, district: dict[str, TestClient]
) -> None:
    with context.database.write() as connection:
        people_store.add(connection, "市民", Role.PUBLIC, by="test", now_ms=BEGAN)
        people_store.add(connection, "旧长", Role.CHIEF, by="test", now_ms=BEGAN)  # without a term
    for name in ("市民", "旧长", "南长", "南格", "审计", "不存在"):
        assert act(district["北调度"], 1, "dispatch", to={"responsible": name})[0] == 409, name
    for name in ("北格", "处置", "区总"):
        status, after = act(district["北调度"], 1, "dispatch", to={"responsible": name})
        assert (status, after["incident"]["responsible"]) == (200, name)
    to = {"region": "d/s", "responsible": "南长"}
    assert act(district["北调度"], 1, "dispatch", to=to)[0] == 403, "an operator moves no case into another street"
    status, after = act(district["办"], 1, "dispatch", to=to)
    assert (status, after["incident"]["region"]) == (200, "d/s")


def test_a_reviewer_changes_stations_of_the_own_region_and_moves_none_in_or_out(
    district: dict[str, TestClient],
) -> None:
    client, day = district["北审"], rfc3339(NOW + 1000)
    assert client.patch("/api/v1/stations/south", json={"region": "d/n"}).status_code == 403
    assert client.patch("/api/v1/stations/north", json={"region": "d/s"}).status_code == 403
    assert client.patch("/api/v1/stations/north", json={"note": "示例"}).status_code == 200
    stale = {"If-Match": '"no-such-version"'}
    assert client.patch("/api/v1/stations/south", json={"note": "x"}, headers=stale).status_code == 403, "not 412"
    new = {"key": "new", "lon": 113.05, "lat": 23.0}
    assert client.post("/api/v1/stations", json=new | {"region": "d/s"}).status_code == 403
    assert client.post("/api/v1/stations", json=new | {"region": "d/n/1"}).status_code == 201
    changes: dict[str, dict[str, Any]] = {
        "mutes": {"until": day, "reason": "示例"},
        "visits": {},
        "deployments": {"parameter": "do"},
        "calibrations": {"parameter": "do", "type": "span", "standard": 8.0, "reading": 8.0},
        "reviews": {"since": AT, "until": rfc3339(NOW), "verdict": "bad", "reason": "示例"},
        "commands": {"command": "send_now"},
        "credentials": {},
    }
    for name, body in changes.items():
        assert client.post(f"/api/v1/stations/south/{name}", json=body).status_code == 403, name
        assert client.post(f"/api/v1/stations/north/{name}", json=body).status_code != 403, name
    assert client.post("/api/v1/readings", json={"station": "south", "samples": []}).status_code == 403
    assert client.delete("/api/v1/regions/d/s").status_code == 403
    sensor = {"name": "示例", "properties": {"region": "d/s"}}
    place = {"location": {"type": "Point", "coordinates": [113.05, 23.0]}}
    hung = {"ObservedProperty": {"@iot.id": "ph"}, "Sensor": {"@iot.id": "unspecified"}}
    hung |= {"unitOfMeasurement": {"symbol": "[pH]"}}
    parts: dict[str, tuple[str, str, dict[str, Any]]] = {
        "1": ("post", "Things", sensor | {"Locations": [place]}),
        "2": ("patch", "Things('south')", {"name": "x"}),
        "3": ("post", "Things('south')/Datastreams", hung),
        "4": ("post", "Datastreams('south.ph')/Observations", {"result": 7.0}),
        "5": ("post", "Things('north')/Datastreams", hung),
        "6": ("delete", "Things('north')", {}),
    }
    requests = [{"id": n, "method": m, "url": url, "body": body} for n, (m, url, body) in parts.items()]
    batch = {"requests": requests}
    answers = client.post("/sta/v1.1/$batch", json=batch).json()["responses"]
    assert [one["status"] for one in answers] == [403, 403, 403, 404, 201, 200]
    answers = district["北格"].post("/sta/v1.1/$batch", json=batch).json()["responses"]
    assert [one["status"] for one in answers] == [403] * 6, "a batch gives no right"
    assert district["北格"].post("/sta/v1.1/Things", json={}).status_code == 403


def picture(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(out, "PNG")
    return out.getvalue()


def test_an_attachment_is_for_who_sent_it_and_who_may_see_what_it_is_attached_to(
    context: Context, district: dict[str, TestClient]
) -> None:
    def attach(name: str, data: bytes, called: str = "") -> dict[str, Any]:
        answer = district[name].post(f"/api/v1/attachments?name={called}", content=data)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def seen(name: str, key: str) -> int:
        answer = district[name].get(f"/api/v1/attachments/{key}")
        assert answer.status_code != 200 or answer.headers["cache-control"] == "private, no-store"
        return answer.status_code

    mine = attach("北格", picture(), "first")
    assert {name: seen(name, mine["id"]) for name in ("北格", "北长", "南长")} == {
        "北格": 200,
        "北长": 404,
        "南长": 404,
    }
    assert act(district["南长"], 2, "comment", comment="示例", attachments=[mine["id"]])[0] == 404, "by its hash alone"
    assert act(district["北格"], 1, "comment", comment="示例", attachments=[mine["id"]])[0] == 200
    assert {name: seen(name, mine["id"]) for name in ("北长", "办", "南长")} == {"北长": 200, "办": 200, "南长": 404}
    theirs = attach("南长", picture(), "second")
    assert (theirs["id"], theirs["by"], theirs["name"]) == (mine["id"], "南长", "second"), (
        "nothing of who had it before"
    )
    assert seen("南长", mine["id"]) == 200
    with context.database.write() as connection:
        people_store.add(connection, "市民", Role.PUBLIC, by="test", now_ms=BEGAN)
        token = people_store.issue_token(connection, "市民", by="test", now_ms=BEGAN)
    public = TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})
    assert public.get(f"/api/v1/photos/{mine['id']}").status_code == 404, "no photo of a station"
    assert public.get(f"/api/v1/attachments/{mine['id']}").status_code == 403
    of_station = district["北审"].post("/api/v1/stations/north/photos", content=picture("blue")).json()
    answer = public.get(of_station["url"])
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
    assert public.get("/api/v1/stations/north/mutes").status_code == 403
    assert district["北格"].get("/api/v1/stations/north/mutes").status_code == 200


def test_whoever_may_not_see_an_incident_learns_nothing_of_its_version(district: dict[str, TestClient]) -> None:
    body = {"action": "comment", "comment": "示例"}
    for tag in ('"1"', '"3"', '"99"'):
        answer = district["南长"].post("/api/v1/incidents/1/actions", json=body, headers={"If-Match": tag})
        assert answer.status_code == 403, tag


def test_a_contact_added_by_the_administrator_reaches_the_messages_and_its_address_nobody(
    context: Context, district: dict[str, TestClient]
) -> None:
    path, secret = "/api/v1/people/北长/contact", "json://user:geheim@127.0.0.1:9/hook"
    body = {"least": "orange", "channels": [{"url": secret, "short": True}]}
    assert district["办"].put(path, json=body).status_code == 403
    assert district["北长"].get(path).status_code == 403
    assert district["管理"].get(path).status_code == 404
    assert district["管理"].put(path, json={"channels": [{"url": "no address"}]}).status_code == 400
    assert district["管理"].put(path, json=body).status_code == 200
    shown = district["管理"].get(path)
    assert shown.json()["channels"] == [{"kind": "json", "short": True}]
    with context.database.read() as connection:
        (kept,) = connection.execute(sa.select(person_contact)).mappings()
        lines = audit_trail.list_entries(connection, what="person.contact_changed", limit=9)
        trail = "".join(line.body for line in lines)
    assert "geheim" not in shown.text + str(dict(kept)) + trail
    roster = messages.ContactList(Directory, context.database, context.vault, lambda: NOW)
    contact = roster().named("北长")
    assert (contact.regions, contact.least, [one.url for one in contact.channels]) == (
        ("d/n",),
        Colour.ORANGE,
        [secret],
    )
    assert messages.ContactList(Directory, context.database, Vault(new_key()), lambda: NOW)().get("北长") is None
    assert district["管理"].delete(path).status_code == 204
    assert messages.ContactList(Directory, context.database, context.vault, lambda: NOW)().get("北长") is None


def test_nobody_can_write_down_somebody_elses_name(context: Context) -> None:
    """Whoever signed in is who did it; the administrator, too, is a person."""
    with context.database.write() as connection:
        registry.save(connection, Registry((Station("shiwan", "石湾", "Shiwan", 113.05, 23.0),), catalogue=catalogue()))
        people_store.add(connection, BOSS, Role.ADMINISTRATOR, by="test", now_ms=NOW)
        token = people_store.issue_token(connection, BOSS, by="test", now_ms=NOW)
    client = TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})
    document = client.get("/api/v1/openapi.json").json()
    schemas = document["components"]["schemas"]

    def names_somebody(operation: dict[str, Any]) -> bool:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        told = json.dumps(content.get("schema", {}))
        return any("by" in schemas[ref]["properties"] for ref in re.findall(r"#/components/schemas/(\w+)", told))

    found = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if names_somebody(operation)
    }
    assert found == set(NAMING)
    with context.database.read() as connection:
        entries = len(audit_trail.list_entries(connection, limit=1000))
    wrong = []
    for (method, path), body in NAMING.items():
        address = "/api/v1" + path.replace("{key}", "shiwan").replace("{parameter}", "do")
        address = re.sub(r"\{\w+\}", "1", address)
        answer = client.request(method, address, json=body | {"by": "别人（示例）"})
        detail = answer.json()["detail"]
        if answer.status_code != 403 or "别人（示例）" not in detail or BOSS not in detail:
            wrong.append((method, path, answer.text))
    photo = client.post("/api/v1/stations/shiwan/photos?by=别人", content=b"\xff\xd8\xff")
    assert photo.status_code == 403
    assert wrong == []
    with context.database.read() as connection:
        assert len(audit_trail.list_entries(connection, limit=1000)) == entries


# -- browsers ----------------------------------------------------------------------------------------------------------


def browser(context: Context, app: Any = None) -> TestClient:
    """A browser on a site behind https."""
    return TestClient(app or create_app(context), base_url="https://river.example", follow_redirects=False)


def signed_in(context: Context, token: str, app: Any = None) -> TestClient:
    made = browser(context, app)
    assert made.post("/login", data={"token": token}).status_code == 303
    return made


def me(client: TestClient) -> int:
    return int(client.get("/api/v1/me").status_code)


def a_person(context: Context, **more: int) -> str:
    with context.database.write() as connection:
        people_store.add(connection, BOSS, Role.ADMINISTRATOR, by="test", now_ms=NOW)
        return people_store.issue_token(connection, BOSS, by="test", now_ms=NOW, **more)


def test_a_browsers_cookie_is_no_token_and_signing_out_ends_it_everywhere(context: Context) -> None:
    token = a_person(context)
    one = signed_in(context, token)
    (cookie,) = one.cookies.jar
    assert (cookie.secure, cookie.has_nonstandard_attr("HttpOnly")) == (True, True)
    assert cookie.get_nonstandard_attr("SameSite") == "strict"
    session = str(cookie.value)
    assert token not in session
    stolen = browser(context, one.app)
    assert stolen.get("/api/v1/me", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    stolen.cookies.set("__Host-rc-session", session)
    other = signed_in(context, token, one.app)
    assert me(one) == me(stolen) == me(other) == 200
    with context.database.read() as connection:
        kept = str(connection.execute(sa.select(login_session)).all())
    assert (session in kept, token in kept) == (False, False)
    assert one.post("/logout").status_code == 303
    assert (me(one), me(stolen), me(other)) == (401, 401, 200)


def test_a_session_ends_with_its_time_its_token_and_its_person(context: Context) -> None:
    now = [NOW]
    context = replace(context, clock_ms=lambda: now[0], session_ms=10_000)
    token = a_person(context, good_ms=25_000)

    def later(ms: int, client: TestClient) -> int:
        """As another process sees it, which remembers nothing."""
        now[0] = NOW + ms
        fresh = browser(context)
        fresh.cookies = client.cookies
        return me(fresh)

    first = signed_in(context, token)
    assert (later(9_999, first), later(10_000, first)) == (200, 401)
    second = signed_in(context, token)
    with context.database.read() as connection:
        assert len(connection.execute(sa.select(login_session)).all()) == 1, "the one that expired is deleted"
    now[0] = NOW + 19_000
    third = signed_in(context, token)
    assert (later(24_999, third), later(25_000, third)) == (200, 401)
    assert browser(context).post("/login", data={"token": token}).status_code == 401
    with context.database.write() as connection:
        another = people_store.issue_token(connection, BOSS, by="test", now_ms=now[0])
        people_store.add(connection, "示例二", Role.ADMINISTRATOR, by="test", now_ms=NOW)
    fourth = signed_in(context, another)
    assert (later(25_001, fourth), later(25_001, second)) == (200, 401)
    with context.database.write() as connection:
        people_store.remove(connection, BOSS, by="test", now_ms=now[0])
    assert later(25_002, fourth) == 401


def test_a_browser_signed_in_with_the_token_of_the_settings_stays_so_until_that_is_another_one(
    context: Context,
) -> None:
    one = signed_in(replace(context, token="示例-old"), "示例-old")
    assert one.get("/api/v1/me").json()["role"] == "machine", "whoever shows it, it is nobody's"
    changed = browser(replace(context, token="示例-new"))
    changed.cookies = one.cookies
    assert me(changed) == 401


def test_pages_elsewhere_sign_nobody_in_or_out(context: Context) -> None:
    token = a_person(context)
    one = signed_in(context, token)
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert one.post("/logout", headers=elsewhere).status_code == 403
    assert me(one) == 200
    assert browser(context).post("/login", data={"token": token}, headers=elsewhere).status_code == 403
    ours = {"Origin": "https://river.example"}
    assert browser(context).post("/login", data={"token": token}, headers=ours).status_code == 303


def test_tokens_expire_and_who_issues_them_sees_when(context: Context) -> None:
    token = a_person(context)
    boss = TestClient(create_app(context), headers={"Authorization": f"Bearer {token}"})
    made = boss.post(f"/api/v1/people/{BOSS}/tokens", params={"days": 2}).json()
    assert made["expires_at"] == rfc3339(NOW + 2 * 86_400_000)
    with context.database.read() as connection:
        for ms, known in ((2 * 86_400_000 - 1, True), (2 * 86_400_000, False)):
            found = people_store.find_by_token(connection, people_store.token_hash(made["token"]), NOW + ms)
            assert (found is not None) is known
    (one,) = boss.get("/api/v1/people").json()["items"]
    expiries = [rfc3339(NOW + 2 * 86_400_000), rfc3339(NOW + people_store.TOKEN_MS)]
    assert [t["expires_at"] for t in one["tokens"]] == expiries
    with context.database.write() as connection:
        people_store.add(connection, "示例审计", Role.AUDITOR, by="test", now_ms=NOW)
        auditor = people_store.issue_token(connection, "示例审计", by="test", now_ms=NOW)
    seen = TestClient(create_app(context), headers={"Authorization": f"Bearer {auditor}"}).get("/api/v1/people")
    assert {str(one["tokens"]) for one in seen.json()["items"]} == {"None"}


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_an_open_site_answers_under_its_own_names_alone(context: Context) -> None:
    app = create_app(replace(context, open=True, hosts=frozenset({"river.example"})))

    def asked(host: str, path: str = "/api/v1/me", method: str = "GET", **headers: str) -> int:
        return int(TestClient(app).request(method, path, headers={"Host": host, **headers}).status_code)

    ours = ("river.example", "RIVER.example:8080", "localhost:8080", "a.localhost", "127.0.0.1:8080", "[::1]:80")
    assert {asked(host) for host in (*ours, "192.0.2.7", "river.example.")} == {200}
    for host in ("rebound.example", "river.example.rebound.example", "localhost.rebound.example", "", "a@b:c", "[x"):
        assert {asked(host, path) for path in ("/api/v1/me", "/login", "/healthz", "/report")} == {421}, host
    rebound = {"Origin": "http://rebound.example", "content-type": "application/json"}
    assert asked("rebound.example", "/api/v1/people", "POST", **rebound) == 421
