"""A district run over the API by people with roles and regions: each row of the lifecycle, lists, terms, refusals."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.model import Action, EntryKind, Order
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import RIGHTS, Department, Right, Role
from governance.people import store as people_store
from infra.database import Database
from infra.texts import Text, say
from infra.times import DAY_MS, rfc3339
from ingest.pipeline import Site
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import files
from riverchief.services.reminders import Reminders
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests.cases import OPERATOR
from tests.databases import cases_are_in_the_trail, with_tables
from tests.postgres import fresh
from tests.says import shows

pytestmark = pytest.mark.both_databases

NOW = 1_778_580_000_000  # Tuesday 2026-05-12, 18:00 in Beijing
MINUTE, HOUR = 60_000, 3_600_000
REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("d/a", "甲街", "Street A", Level.STREET, "d"),
    Region("d/b", "乙街", "Street B", Level.STREET, "d"),
    Region("d/a/1", "示例社区", "Community", Level.COMMUNITY, "d/a"),
    Region("d/a/1/x", "示例网格", "Grid", Level.GRID, "d/a/1"),
)
STATION = Station("s1", "示例站", "Station", 113.1, 23.0, reach="r", water=Water.CREEK, region="d/a/1/x")
REACH = Reach("r", "示例涌", "Creek", Water.CREEK, ((113.1, 23.0), (113.11, 23.0)))
STAFF: tuple[tuple[str, Role, str, Department | None], ...] = (
    ("总河长（示例）", Role.GENERAL_CHIEF, "d", None),
    ("甲街河长（示例）", Role.CHIEF, "d/a", None),
    ("社区河长（示例）", Role.CHIEF, "d/a/1", None),
    ("河长助理（示例）", Role.DEPUTY, "d/a/1", None),
    ("河长办（示例）", Role.OFFICE, "", None),
    ("调度员（示例）", Role.OPERATOR, "", None),
    ("乙街调度员（示例）", Role.OPERATOR, "d/b", None),
    ("环境（示例）", Role.HANDLER, "", Department.ENVIRONMENT),
    ("城管（示例）", Role.HANDLER, "", Department.URBAN_MANAGEMENT),
    ("住建（示例）", Role.HANDLER, "", Department.HOUSING),
    ("网格员（示例）", Role.GRID_WORKER, "d/a/1/x", None),
    ("核查员（示例）", Role.VERIFIER, "", None),
    ("审核员（示例）", Role.REVIEWER, "", None),
    ("审计员（示例）", Role.AUDITOR, "", None),
    ("管理员（示例）", Role.ADMINISTRATOR, "", None),
    ("公众（示例）", Role.PUBLIC, "", None),
)


@dataclass
class District:
    """A site, its clock, and everybody signed in."""

    database: Database
    clock: list[int]
    site: Site
    clients: dict[str, TestClient]
    context: Context

    def of(self, name: str) -> TestClient:
        return self.clients[f"{name}（示例）"]

    def fire(
        self, cause: str = "c", change: ConditionChange = ConditionChange.FIRED, at_ms: int | None = None, **other: Any
    ) -> int:
        at_ms = self.clock[0] if at_ms is None else at_ms
        values = {
            "rule": "nh3n-high",
            "version": "1",
            "kind": FindingKind.EVENT,
            "change": change,
            "cause": cause,
            "station": "s1",
            "parameter": "nh3n",
            "observed_at_ms": at_ms,
            "since_ms": at_ms - MINUTE,
            "value": 8.4,
            "limit": 2.0,
            "colour": Colour.YELLOW,
            "retrospective": False,
            "text": Text("氨氮8.40", "ammonia 8.40"),
        }
        with self.database.write() as connection:
            found = self.site.record_findings(connection, [Finding(**values | other)], self.clock[0])
        return found.ids[0]

    def act(self, name: str, number: int, action: str, status: int = 200, **body: Any) -> dict[str, Any]:
        response = self.of(name).post(f"/api/v1/incidents/{number}/actions", json={"action": action, **body})
        assert response.status_code == status, response.text
        return dict(response.json())

    def tasks(self, name: str) -> list[tuple[int, list[str]]]:
        found = self.of(name).get("/api/v1/worklist").json()["items"]
        return [(task["incident"]["id"], task["actions"]) for task in found]


@pytest.fixture
def district(url: str) -> Iterator[District]:
    yield from _district(url)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[District]:
    """On SQLite alone: what has nothing to do with the database."""
    yield from _district(fresh("sqlite", tmp_path))


def _district(url: str) -> Iterator[District]:
    database, known, clock = Database(url), catalogue(), [NOW]
    with_tables(database)
    with database.write() as connection:
        registry_store.save(connection, Registry((STATION,), (), (REACH,), known, (), (), (), REGIONS))
    processes = files.read_processes(None)
    store = SqlReadings(database, known)
    site = Site(database, store, files.read_rules(None, known), known, policy=processes.policy)
    context = Context(database, store, known, "/district", lambda: clock[0], processes=processes)
    app = create_app(context)
    clients = {}
    with database.write() as connection:
        for name, role, region, department in STAFF:
            people_store.add(connection, name, role, region=region, department=department, by="test", now_ms=NOW)
            token = people_store.issue_token(connection, name, by="test", now_ms=NOW)
            clients[name] = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    yield District(database, clock, site, clients, context)
    cases_are_in_the_trail(database)
    database.close()


def test_an_operator_runs_a_case_through_every_row_of_the_lifecycle(district: District) -> None:
    number = district.fire()
    assert district.tasks("调度员") == [(number, ["accept"])]
    accepted = district.act("调度员", number, "accept")["incident"]
    assert (accepted["state"], accepted["region"], accepted["reach"]) == ("accepted", "d/a/1/x", "r")
    waited_for = [name for name in ("河长办", "调度员", "总河长", "甲街河长", "社区河长") if district.tasks(name)]
    assert waited_for == ["河长办", "调度员"], "chiefs may dispatch, and need not"
    wanted = district.of("调度员").get(f"/api/v1/incidents/{number}/suggestion").json()
    assert (wanted["matter"], wanted["responsible"]) == ("discharge", "社区河长（示例）")
    sent = district.act("调度员", number, "dispatch")["incident"]
    assert (sent["department"], sent["responsible"]) == ("environment", "社区河长（示例）")
    assert sent["joint"] == ["urban_management", "housing"]
    assert [name for name in ("环境", "社区河长", "甲街河长", "核查员") if district.tasks(name)] == ["环境", "社区河长"]
    result = {"comment": "已截流", "measurement": {"nh3n": 1.1}}
    district.act("环境", number, "return", comment="不属本部门")
    district.act("调度员", number, "dispatch", to={"department": "housing", "joint": ["urban_management"]})
    district.act("住建", number, "transfer", comment="排口归环境", to={"department": "environment"})
    district.act("环境", number, "start")
    district.act("城管", number, "contribute", 409, **result)  # the new lead named nobody
    district.act("环境", number, "finish", 409, comment="已截流")  # no photo, no measurement
    done = district.act("环境", number, "finish", **result)["incident"]
    assert (done["state"], done["handler"]) == ("handled", "环境（示例）")
    district.act("核查员", number, "rework", comment="复测仍超标")
    district.act("环境", number, "start")
    district.act("环境", number, "finish", comment="已疏通", measurement={"nh3n": 0.8})
    district.act("环境", number, "verify", 403, measurement={"nh3n": 0.8})
    district.act("核查员", number, "verify", measurement={"nh3n": 0.8})
    district.act("总河长", number, "supervise", comment="尽快结案")
    still = district.act("调度员", number, "close", 409, comment="已恢复")
    assert shows(still["detail"], "incident.still_active", id=number, count=1)
    assert "s1氨氮" in still["detail"]
    district.clock[0] += HOUR
    district.fire(change=ConditionChange.RESOLVED)
    silent = district.act("调度员", number, "close", 409, comment="已恢复")
    assert shows(silent["detail"], "incident.not_proven", id=number, seen=0, action=say("action.close"))
    assert "close" not in silent["allowed"]
    samples = tuple(Sample(district.clock[0] + i * MINUTE, {"nh3n": 0.8 + i / 100}) for i in range(1, 8))
    district.clock[0] += HOUR
    payload = encode(Telemetry(samples, seq=1, boot=1, sent_at_ms=district.clock[0]))
    district.site.refresh()
    district.site.process([Message("s1", payload, district.clock[0])], district.clock[0])
    closed = district.act("调度员", number, "close", comment="已恢复")
    assert closed["incident"]["state"] == "closed"
    scored = district.act("河长办", number, "evaluate", score=92.5)["incident"]
    assert (scored["score"], scored["supervised_by"]) == (92.5, "总河长（示例）")
    told = [(e["what"], e["role"]) for e in closed["history"] if e["role"] and e["role"] != "rule"]
    assert told == [
        ("accepted", "operator"),
        ("dispatched", "operator"),
        ("returned", "handler"),
        ("dispatched", "operator"),
        ("transferred", "handler"),
        ("started", "handler"),
        ("finished", "handler"),
        ("reworked", "verifier"),
        ("started", "handler"),
        ("finished", "handler"),
        ("verified", "verifier"),
        ("supervised", "general_chief"),
        ("closed", "operator"),
    ]
    assert district.tasks("调度员") == []
    again = district.act("总河长", number, "reopen", comment="又黑了")["incident"]
    assert (again["state"], again["open"]) == ("reopened", True)


def test_a_dispatch_with_another_matter_takes_that_ones_departments(one: District) -> None:
    number = one.fire()
    one.act("调度员", number, "accept", matter="discharge")
    first = one.act("调度员", number, "dispatch")["incident"]
    known = {p.key: p for p in one.context.processes.known}
    assert first["joint"] == [str(d) for d in known["discharge"].joint] != []
    again = one.act("调度员", number, "dispatch", matter="litter")["incident"]
    assert (again["matter"], again["department"], again["joint"]) == ("litter", "urban_management", [])
    one.act("调度员", number, "dispatch", matter="discharge")
    to = {"department": first["department"]}
    last = one.act("调度员", number, "dispatch", matter="exceedance", to=to)["incident"]
    assert (last["department"], last["joint"]) == (first["department"], []), "those of another matter do not stay"


def test_a_comment_that_is_too_long_is_named_as_the_field_it_is(one: District) -> None:
    number = one.fire()
    body = {"action": "comment", "comment": "长" * 4001}
    answer = one.of("调度员").post(f"/api/v1/incidents/{number}/actions", json=body)
    assert (answer.status_code, "comment" in answer.text) == (400, True), answer.text


def test_an_incident_lies_in_the_cell_whose_outline_holds_its_station(one: District) -> None:
    around = ((((113.0, 22.9), (113.2, 22.9), (113.2, 23.1), (113.0, 23.1), (113.0, 22.9)),),)
    cell = replace(REGIONS[4], outline=around)
    loose = replace(STATION, region="d/b")  # registered with another street
    with one.database.write() as connection:
        registry_store.save(connection, Registry((loose,), (), (REACH,), catalogue(), (), (), (), (*REGIONS[:4], cell)))
    one.site = Site(one.database, one.context.store, files.read_rules(None, catalogue()), catalogue())
    number = one.fire()
    assert one.of("网格员").get(f"/api/v1/incidents/{number}").json()["incident"]["region"] == cell.code
    assert one.of("乙街调度员").get(f"/api/v1/incidents/{number}").status_code == 403


def test_a_grid_worker_reports_and_the_office_rejects_or_accepts(one: District) -> None:
    body = {"text": "河面大片漂浮物", "lon": 113.1001, "lat": 23.0001, "matter": "litter"}
    made = one.of("网格员").post("/api/v1/incidents", json=body).json()["incident"]
    assert (made["state"], made["region"], made["kind"]) == ("reported", "d/a/1/x", "report")
    number = made["id"]
    one.act("网格员", number, "accept", 403)
    one.act("河长办", number, "accept")
    sent = one.act("河长办", number, "dispatch")["incident"]
    assert (sent["matter"], sent["department"]) == ("litter", "urban_management")
    due = one.act("城管", number, "start")["incident"]["due_at"]
    assert due == rfc3339(NOW + 24 * HOUR)
    assert one.of("公众").post("/api/v1/incidents", json=body).status_code == 403
    assert one.of("网格员").post("/api/v1/incidents", json={"text": " "}).status_code == 409
    again = one.of("网格员").post("/api/v1/incidents", json=body)
    assert (again.status_code, again.json()["incident"]["id"]) == (201, number), "sent twice is one"
    one.clock[0] += 11 * MINUTE
    other = one.of("网格员").post("/api/v1/incidents", json=body).json()["incident"]["id"]
    assert other != number
    assert one.act("河长办", other, "reject", comment="重复上报")["incident"]["state"] == "rejected"


def test_who_may_not_is_told_what_they_may_and_who_looks_elsewhere_sees_nothing(one: District) -> None:
    number = one.fire()
    refused = one.act("核查员", number, "accept", 403)
    assert refused["allowed"] == ["comment"]
    assert "核查员" in refused["detail"]
    assert one.act("调度员", number, "close", 409, comment="x")["allowed"][0] == "accept"
    elsewhere = one.of("乙街调度员")
    assert elsewhere.get("/api/v1/incidents").json()["items"] == []
    assert elsewhere.get(f"/api/v1/incidents/{number}").status_code == 403
    assert elsewhere.get(f"/api/v1/incidents/{number}/suggestion").status_code == 403
    assert one.act("乙街调度员", number, "accept", 403)["allowed"] == []
    assert one.tasks("乙街调度员") == []
    assert [i["id"] for i in one.of("甲街河长").get("/api/v1/incidents").json()["items"]] == [number]
    assert one.of("调度员").get("/api/v1/incidents?region=d/b").json()["items"] == []
    first = one.of("调度员").post(f"/api/v1/incidents/{number}/actions", json={"action": "accept"})
    second = one.of("河长办").post(
        f"/api/v1/incidents/{number}/actions", json={"action": "reject", "comment": "x"}, headers={"If-Match": '"1"'}
    )
    assert (first.status_code, second.status_code) == (200, 412)
    forged = {"action": "comment", "comment": "x", "by": "总河长（示例）"}
    assert one.of("调度员").post(f"/api/v1/incidents/{number}/actions", json=forged).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("GET", "/incidents", {r for r in Role if r is not Role.PUBLIC}),
        ("GET", "/stations", set(Role)),
        ("GET", "/audit", {Role.AUDITOR, Role.ADMINISTRATOR}),
        ("GET", "/people", {r for r in Role if Right.STAFF in RIGHTS[r]}),
        ("POST", "/people", {Role.ADMINISTRATOR}),
        ("POST", "/readings", {Role.REVIEWER, Role.ADMINISTRATOR}),
        ("POST", "/stations", {Role.REVIEWER, Role.ADMINISTRATOR}),
        ("POST", "/something/new", {Role.ADMINISTRATOR}),
    ],
)
def test_each_role_passes_where_its_rights_reach(one: District, method: str, path: str, may: set[Role]) -> None:
    for name, role, _, _ in STAFF:
        response = one.clients[name].request(method, f"/api/v1{path}", json={} if method == "POST" else None)
        assert (response.status_code != 403) == (role in may), (name, response.status_code)
        if role not in may:
            assert response.json()["allowed"], "the problem says what is allowed"


def test_a_successor_inherits_the_open_cases_and_the_reach(district: District) -> None:
    number = district.fire()
    for action in ("accept", "dispatch"):
        district.act("调度员", number, action)
    admin = district.of("管理员")
    who = {"name": "新河长（示例）", "role": "chief"}
    assert admin.post("/api/v1/people", json=who).status_code == 201
    token = admin.post("/api/v1/people/新河长（示例）/tokens").json()["token"]
    new = TestClient(district.clients["管理员（示例）"].app, headers={"Authorization": f"Bearer {token}"})
    assert new.get("/api/v1/worklist").json()["items"] == []
    named = admin.post("/api/v1/people/新河长（示例）/appointments", json={"region": "d/a/1"}).json()
    assert named["inherited"] == [number]
    assert [t["incident"]["id"] for t in new.get("/api/v1/worklist").json()["items"]] == [number]
    assert district.tasks("社区河长") == []
    assert district.of("社区河长").get(f"/api/v1/incidents/{number}").status_code == 403, "the term is over"
    with district.database.read() as connection:
        *_, entry = incident_store.history(connection, number)
    assert (entry.what, entry.details) == (EntryKind.SUCCEEDED, {"from": "社区河长（示例）", "to": "新河长（示例）"})
    left = admin.delete("/api/v1/people/新河长（示例）")
    assert (left.status_code, f"#{number}" in left.json()["detail"]) == (409, True)
    assert admin.delete("/api/v1/people/社区河长（示例）").status_code == 204
    assert admin.post("/api/v1/people", json=who | {"name": "社区河长（示例）"}).status_code == 409, (
        "a name is given once"
    )
    assert admin.delete("/api/v1/people/管理员（示例）").status_code == 409, "the last administrator"


def test_somebody_appointed_again_to_their_own_office_holds_it_once(district: District) -> None:
    admin = district.of("管理员")
    district.clock[0] += HOUR
    again = admin.post("/api/v1/people/甲街河长（示例）/appointments", json={"region": "d/a"}).json()
    assert again["inherited"] == []
    terms = again["person"]["terms"]
    assert [term["until"] for term in terms] == [rfc3339(district.clock[0]), None]
    assert terms[1]["since"] == terms[0]["until"]


def test_a_term_that_begins_later_hands_over_when_the_day_has_come(one: District) -> None:
    number = one.fire()
    for action in ("accept", "dispatch"):
        one.act("调度员", number, action)
    with one.database.write() as connection:
        people_store.add(connection, "后任（示例）", Role.CHIEF, by="test", now_ms=NOW)
        moved = people_store.appoint(
            connection,
            "后任（示例）",
            region="d/a/1",
            since_ms=NOW + HOUR,
            by="test",
            now_ms=NOW,
            source="/district",
            regions=Regions(REGIONS),
        )
    assert moved == []
    reminders = _reminders(one)
    reminders.round()
    assert one.of("调度员").get(f"/api/v1/incidents/{number}").json()["incident"]["responsible"] == "社区河长（示例）"
    one.clock[0] += HOUR
    reminders.round()
    assert one.of("调度员").get(f"/api/v1/incidents/{number}").json()["incident"]["responsible"] == "后任（示例）"
    assert reminders.round() == 0


def test_a_chief_added_for_an_office_that_is_held_takes_it_over_with_its_cases(one: District) -> None:
    number = one.fire()
    for action in ("accept", "dispatch"):
        one.act("调度员", number, action)
    one.clock[0] += HOUR
    with one.database.write() as connection:
        people_store.add(connection, "后任（示例）", Role.CHIEF, region="d/a/1", by="test", now_ms=one.clock[0])
        held = [
            t.name for t in people_store.appointments(connection) if t.region == "d/a/1" and t.in_force(one.clock[0])
        ]
    assert sorted(held) == ["后任（示例）", "河长助理（示例）"]
    _reminders(one).round()
    assert one.of("调度员").get(f"/api/v1/incidents/{number}").json()["incident"]["responsible"] == "后任（示例）"


def test_a_deputy_is_waited_for_where_the_chief_they_help_is_responsible(one: District) -> None:
    number = one.fire()
    for action in ("accept", "dispatch"):
        one.act("调度员", number, action)
    assert one.tasks("河长助理") == []
    with one.database.write() as connection:
        people_store.appoint(
            connection,
            "河长助理（示例）",
            region="d/a/1",
            deputy_of="社区河长（示例）",
            since_ms=one.clock[0],
            by="test",
            now_ms=one.clock[0],
            source="/district",
            regions=Regions(REGIONS),
        )
    one.clock[0] += MINUTE
    fresh_start = TestClient(one.clients["河长助理（示例）"].app, headers=one.clients["河长助理（示例）"].headers)
    fresh_start.app.state.keeper.forget()  # type: ignore[attr-defined]
    (task,) = fresh_start.get("/api/v1/worklist").json()["items"]
    assert (task["incident"]["id"], "start" in task["actions"]) == (number, True)


def _reminders(district: District) -> Reminders:
    policy = district.context.processes.policy
    return Reminders(district.database, catalogue(), policy, source="/district", clock_ms=lambda: district.clock[0])


def test_reminders_and_escalation_fire_once_whoever_asks_however_often(district: District) -> None:
    number = district.fire(colour=Colour.RED)
    for minutes, what in (
        (0, None),
        (8, EntryKind.REMINDED),
        (10, EntryKind.OVERDUE),
        (10 + 24 * 60, EntryKind.OVERDUE),
    ):
        district.clock[0] = NOW + minutes * MINUTE
        for _ in range(2):
            _reminders(district).round()
        with district.database.read() as connection:
            history = incident_store.history(connection, number)
        told = [e.what for e in history if e.what in (EntryKind.REMINDED, EntryKind.OVERDUE)]
        assert told[-1:] == ([what] if what else [])
    assert told == [EntryKind.REMINDED, EntryKind.OVERDUE, EntryKind.OVERDUE]
    found = district.of("河长办").get(f"/api/v1/incidents/{number}").json()["incident"]
    assert (found["escalated_to"], found["overdue"], found["supervised_by"]) == ("d/a", True, "deadline")


def test_a_deadline_set_while_the_clock_was_ahead_runs_from_the_right_time(district: District) -> None:
    district.clock[0] = NOW + 6 * 60 * MINUTE
    number = district.fire(colour=Colour.RED)
    told = []
    for minutes in (0, 7, 8, 10):
        district.clock[0] = NOW + minutes * MINUTE
        _reminders(district).round()
        with district.database.read() as connection:
            told.append(incident_store.history(connection, number)[-1].what)
    corrected = EntryKind.CLOCK_CORRECTED
    assert told == [corrected, corrected, EntryKind.REMINDED, EntryKind.OVERDUE]


def test_what_was_not_committed_is_told_again_and_nothing_is_told_twice(one: District) -> None:
    number = one.fire(colour=Colour.RED)

    def killed() -> None:
        with one.database.write() as connection:
            assert incident_store.apply_reminders(connection, NOW + 9 * MINUTE, up=str, source="/district") == [number]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        killed()
    for expected in ([number], []):
        with one.database.write() as connection:
            assert incident_store.apply_reminders(connection, NOW + 9 * MINUTE, up=str, source="/district") == expected


def test_an_emergency_nobody_reports_is_in_the_history_each_time_it_is_called_out_and_once(district: District) -> None:
    number = district.fire(colour=Colour.BLUE)
    district.act("调度员", number, "emergency", comment="饮用水源", grade="I")
    for minutes in (0, 10, 20):
        district.clock[0] = NOW + minutes * MINUTE
        for _ in range(2):
            _reminders(district).round()
    district.act("河长办", number, "comment", comment="已联系")
    for minutes in (30, 90, 96, 121):
        district.clock[0] = NOW + minutes * MINUTE
        _reminders(district).round()
    district.act("河长办", number, "emergency_reported", comment="已报省厅")
    district.clock[0] += DAY_MS
    _reminders(district).round()
    body = district.of("河长办").get(f"/api/v1/incidents/{number}").json()
    told = [e for e in body["history"] if e["what"] == "emergency_unreported"]
    assert [(e["details"]["calls"], e["details"]["escalated_to"]) for e in told] == [
        (1, "d/a/1"),
        (2, "d/a"),
        (3, "d"),
        (4, "d"),
    ]
    assert shows(told[0]["text"]["zh"], "incident.emergency_unreported", calls=1)
    assert body["incident"]["emergency_calls"] == 4


def test_the_work_list_stands_in_order_of_urgency(one: District) -> None:
    blue, yellow, red = (one.fire(c, colour=c, rule=c) for c in (Colour.BLUE, Colour.YELLOW, Colour.RED))
    assert [n for n, _ in one.tasks("调度员")] == [red, yellow, blue]
    one.clock[0] += 30 * 24 * HOUR
    assert [n for n, _ in one.tasks("调度员")] == [red, yellow, blue]
    one.act("调度员", blue, "emergency", comment="饮用水源", grade="II")
    assert [n for n, _ in one.tasks("调度员")] == [blue, red, yellow]
    one.act("调度员", blue, "emergency_reported", comment="已报省厅")
    assert [n for n, _ in one.tasks("调度员")] == [red, yellow, blue]


def test_a_region_with_open_cases_stays_and_the_list_is_told(one: District) -> None:
    number = one.fire()
    admin = one.of("管理员")
    refused = admin.delete("/api/v1/regions/d/a")
    assert (refused.status_code, f"#{number}" in refused.json()["detail"]) == (409, True)
    one.act("调度员", number, "false_alarm", comment="探头离水", reason="sensor_fault")
    assert "d/a/1" in admin.delete("/api/v1/regions/d/a").json()["detail"], "what lies below would hang in the air"
    assert admin.delete("/api/v1/regions/d/b").status_code == 204
    assert admin.delete("/api/v1/regions/d/b").status_code == 404
    figures = one.of("调度员").get("/api/v1/incidents/statistics").json()["items"]
    assert [(f["rule"], f["incidents"], f["reasons"]) for f in figures] == [("nh3n-high", 1, {"sensor_fault": 1})]


def test_a_merged_case_goes_on_in_the_other_and_its_findings_follow(district: District) -> None:
    first, second = district.fire("a"), district.fire("b", rule="other")
    district.act("调度员", second, "merge", into=first)
    assert district.fire("b", rule="other", at_ms=NOW + HOUR) == first
    found = district.of("调度员").get(f"/api/v1/incidents/{second}").json()["incident"]
    assert (found["state"], found["merged_into"]) == ("closed", first)
    condition = {"rule": "other", "station": "s1", "parameter": "nh3n"}
    district.act("调度员", first, "split", comment="两处来源", conditions=[condition])
    third = district.fire("b", rule="other", at_ms=NOW + 2 * HOUR)
    assert third not in (first, second)
    assert district.fire("a", at_ms=NOW + 2 * HOUR) == first


def test_a_token_ends_when_it_is_revoked_and_no_token_is_stored(one: District) -> None:
    admin, client = one.of("管理员"), one.of("核查员")
    assert client.get("/api/v1/me").json()["role"] == "verifier"
    assert admin.delete("/api/v1/people/核查员（示例）/tokens").status_code == 204
    assert client.get("/api/v1/me").status_code == 401
    token = admin.post("/api/v1/people/核查员（示例）/tokens").json()["token"]
    with one.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT hash FROM token").scalars().all()
        trail = audit_trail.list_entries(connection, limit=100)
    assert token not in kept
    assert not any(token in e.body for e in trail)
    assert [(e.what, e.by) for e in trail[:2]] == [
        ("token.issued", "管理员（示例）"),
        ("token.revoked", "管理员（示例）"),
    ]


def test_two_findings_of_one_place_lie_where_their_station_lies(one: District) -> None:
    with one.database.read() as connection:
        stored = incident_store.get(connection, one.fire())
    assert stored.place == Place("d/a/1/x", "r", 113.1, 23.0)
    with one.database.write() as connection:
        after = incident_store.apply_action(
            connection, stored.id, Order(Action.ACCEPT), OPERATOR, now_ms=NOW, source="/district"
        )
    assert after.place == stored.place
