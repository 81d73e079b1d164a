"""Cases and people changed with SQL: verifying, the API, the page and the evidence name the entry and the field."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pypdfium2
import pytest
from fastapi.testclient import TestClient

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from api import evidence
from api.app import create_app
from api.context import Context
from api.evidence.gather import Sources
from governance.audit import trail as audit_trail
from governance.audit.trail import FaultKind
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange
from governance.incidents.model import Action, Order, Source
from governance.organisation.regions import NOWHERE
from governance.organisation.roles import Role
from governance.people import store as people_store
from governance.verification import comparison, roots
from governance.verification.comparison import Difference
from infra.database import Database
from infra.texts import say
from infra.times import DAY_MS
from ingest.rules import rule_file
from ingest.state import rule_versions
from ingest.storage import maintenance, registry
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.maintenance import Visit
from sensors.parameters import catalogue
from sensors.stations import Deployment, Registry, Station
from tests.cases import OPERATOR, WAY, a_finding
from tests.contract.test_audit import KEY
from tests.databases import unguarded, with_tables

pytestmark = pytest.mark.both_databases

T = 1_790_000_000_000
CHIEF = "钱河长（示例）"
PROVEN = say("evidence.proof").zh


class Cases:
    """A case that went all its way, one somebody reported, and two people in one office after each other."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        with_tables(self.database)
        with self.database.write() as connection:
            for i, name in enumerate((CHIEF, "孙河长（示例）")):
                people_store.add(connection, name, Role.CHIEF, region="g1", by="x", now_ms=T + i)
            (self.number,) = incident_store.record_findings(connection, [a_finding(T)], T, source="/s").ids
            normal = {("nh3n-high", "shiwan", "nh3n"): 3}
            for i, (actor, order) in enumerate(WAY):
                if order.action is Action.FINISH:
                    calm = a_finding(T + 1000 * i, change=ConditionChange.RESOLVED)
                    incident_store.record_findings(connection, [calm], T + 1000 * i, source="/s")
                incident_store.apply_action(
                    connection, self.number, order, actor, now_ms=T + 1000 * i, source="/s", normal=normal
                )
            order = Order(Action.ACCEPT, comment="水面有油\x00")
            origin, place = Source.PATROL, replace(NOWHERE, lon=113.0, lat=23.0)
            given: dict[str, Any] = {"colour": Colour.BLUE, "origin": origin, "place": place}
            incident_store.file_report(connection, order, OPERATOR, **given, now_ms=T, source="/s")
            roots.seal(connection, KEY, origin="/s", now_ms=T)

    def differences(self) -> list[Difference]:
        with self.database.read() as connection:
            return comparison.of_incident(connection, self.number)

    def faults(self) -> list[audit_trail.Fault]:
        with self.database.read() as connection:
            return roots.verify(connection, [KEY.public_key()]).faults

    def entry(self, what: str) -> int:
        with self.database.read() as connection:
            return audit_trail.list_entries(connection, what=what, limit=1)[0].n

    def client(self) -> TestClient:
        store = SqlReadings(self.database, catalogue())
        keys = [KEY.public_key()]
        return TestClient(
            create_app(Context(self.database, store, catalogue(), "/s", lambda: T, audit_keys=keys, open=True))
        )

    def pack(self) -> str:
        store = SqlReadings(self.database, catalogue())
        sources = Sources(self.database, store, catalogue(), "/s", keys=[KEY.public_key()])
        made = evidence.pack(sources, self.number, by="", now_ms=T)
        pages = [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(made)]
        return "".join(pages).replace("\r", "").replace("\n", "")


@pytest.fixture
def cases(url: str) -> Iterator[Cases]:
    made = Cases(url)
    yield made
    made.database.close()


def test_untouched_cases_and_people_are_what_the_trail_says(cases: Cases) -> None:
    assert (cases.faults(), cases.differences()) == ([], [])
    assert cases.client().get(f"/api/v1/incidents/{cases.number}").json()["differences"] == []
    assert PROVEN in cases.pack()


def test_a_deadline_set_right_after_a_wrong_clock_is_an_entry_of_the_trail_and_any_other_move_a_difference(
    cases: Cases,
) -> None:
    """The case that somebody reported is open, and the clock stood a day ahead when it was."""
    with cases.database.read() as connection:
        before = incident_store.get(connection, 2).case
    assert before.due_ms is not None

    def killed() -> None:
        with cases.database.write() as connection:
            assert incident_store.correct_clock(connection, T - DAY_MS, source="/s") == [2]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        killed()
    with cases.database.write() as connection:
        assert incident_store.correct_clock(connection, T - DAY_MS, source="/s") == [2]
        assert incident_store.correct_clock(connection, T - DAY_MS, source="/s") == []
    with cases.database.read() as connection:
        after = incident_store.get(connection, 2).case
        (line,) = audit_trail.list_entries(connection, what="incident.clock_corrected", limit=9)
    assert (after.step_since_ms, after.due_ms) == (T - DAY_MS, before.due_ms - DAY_MS)
    assert (line.id, line.by) == ("2", "riverchief")
    moved = json.loads(line.body)["entry"]["details"]
    assert moved["due_ms"] == {"from": before.due_ms, "to": after.due_ms}
    assert moved["step_since_ms"] == {"from": T, "to": T - DAY_MS}
    assert cases.faults() == []
    with cases.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE incident SET due_ms = due_ms - 1, step_since_ms = step_since_ms - 1 WHERE id = 2"
        )
    assert {(fault.n, fault.wrong) for fault in cases.faults()} == {(line.n, FaultKind.DIFFERS)}


@pytest.mark.parametrize(
    ("statement", "what", "part", "field"),
    [
        (
            "UPDATE incident_entry SET comment = '伪' WHERE what = 'finished'",
            "incident.finished",
            "history 6",
            "comment",
        ),
        ("UPDATE incident_entry SET \"by\" = '伪' WHERE what = 'verified'", "incident.verified", "history 7", "by"),
        ("UPDATE incident SET state = 'handled' WHERE id = 1", "incident.closed", "incident", "state"),
        ("UPDATE incident SET colour = 'blue' WHERE id = 1", "incident.closed", "incident", "colour"),
        ("UPDATE incident SET responsible = '伪' WHERE id = 1", "incident.closed", "incident", "responsible"),
        (
            "UPDATE incident_condition SET since_ms = 1",
            "incident.resolved",
            "condition nh3n-high/shiwan/nh3n",
            "since_ms",
        ),
        ("DELETE FROM incident_entry WHERE what = 'verified'", "incident.verified", "history 7", ""),
    ],
)
def test_a_case_changed_by_sql_is_named_with_entry_and_field(
    cases: Cases, statement: str, what: str, part: str, field: str
) -> None:
    with cases.database.write() as connection:
        connection.exec_driver_sql(statement)
    n = cases.entry(what)
    (difference,) = cases.differences()
    assert (difference.n, difference.part, difference.field) == (n, part, field)
    (fault,) = cases.faults()
    assert (fault.n, fault.wrong) == (n, FaultKind.DIFFERS)
    (shown,) = cases.client().get(f"/api/v1/incidents/{cases.number}").json()["differences"]
    assert (shown["n"], shown["part"], shown["field"]) == (n, part, field)
    verified = cases.client().get("/api/v1/audit/verify").json()
    assert (verified["ok"], [one["n"] for one in verified["faults"]]) == (False, [n])


def test_a_forged_comment_is_in_no_document_as_if_it_were_proven(cases: Cases) -> None:
    with cases.database.write() as connection:
        connection.exec_driver_sql("UPDATE incident_entry SET comment = '伪造的话' WHERE what = 'finished'")
    text = cases.pack()
    assert PROVEN not in text
    assert "闸门已关" in text  # the words of the trail
    assert text.count("伪造的话") == 1  # named once, as what the database says otherwise


def test_an_entry_of_the_trail_that_was_changed_proves_nothing(cases: Cases) -> None:
    n = cases.entry("incident.finished")
    unguarded(cases.database, f"UPDATE audit SET body = '{{}}' WHERE n = {n}")
    assert {"hash", "body"} <= {one.part for one in cases.differences() if one.n == n}
    assert PROVEN not in cases.pack()


def test_a_trail_written_anew_under_a_signed_root_proves_nothing(cases: Cases) -> None:
    n = cases.entry("incident.closed")
    with cases.database.read() as connection:
        lines = list(audit_trail.all_entries(connection, after_n=n - 1))
    body = json.loads(lines[0].body)
    body["entry"]["comment"] = "伪"
    lines[0] = replace(lines[0], body=audit_trail.canonical(body))
    prev, statements = lines[0].prev, ["UPDATE incident_entry SET comment = '伪' WHERE what = 'closed'"]
    for line in lines:
        one = replace(line, prev=prev)
        prev = one.expected_hash()
        body_ = one.body.replace("'", "''")
        statements.append(
            f"UPDATE audit SET body = '{body_}', prev_hash = '{one.prev}', hash = '{prev}' WHERE n = {line.n}"
        )
    unguarded(cases.database, *statements)
    assert cases.differences() == []
    assert PROVEN not in cases.pack()
    assert [fault.wrong for fault in cases.faults()] == [FaultKind.REWRITTEN]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"UPDATE person SET role = 'administrator' WHERE name = '{CHIEF}'", "person.added"),
        ("UPDATE appointment SET until_ms = NULL", "person.added"),
        ("UPDATE person SET name = '伪' WHERE id = 2", "person.added"),
    ],
)
def test_a_person_changed_by_sql_is_named(cases: Cases, statement: str, what: str) -> None:
    with cases.database.write() as connection:
        connection.exec_driver_sql(statement)
    faults = cases.faults()
    assert {fault.wrong for fault in faults} == {FaultKind.DIFFERS}
    assert {fault.n for fault in faults} <= {0, cases.entry(what)}


@pytest.mark.parametrize(
    ("statement", "entry", "where"),
    [
        ("UPDATE station SET region = 'elsewhere'", "registry.station", "station shiwan, row region"),
        ("DELETE FROM deployment", "registry.deployment", "deployment shiwan/do/0, row"),
        ("UPDATE visit SET note = '伪'", "registry.visit", f"visit shiwan/{T}, row note"),
        ("UPDATE rule_version SET body = 'limit = 9'", "rule.in_force", "row body"),
    ],
)
def test_the_registry_and_the_rules_changed_by_sql_are_named(
    cases: Cases, statement: str, entry: str, where: str
) -> None:
    station = Station("shiwan", "石湾", "Shiwan", 113.1, 23.0)
    text = '[[threshold]]\nid = "x"\nparameter = "do"\nside = "below"\nlimit = 2\nsamples = 3\ncolour = "red"\n'
    with cases.database.write() as connection:
        for one in (station, replace(station, zh="石湾大桥")):
            sensors = (Deployment("shiwan", "do", 0, "mg/L"),)
            registry.save(connection, Registry((one,), sensors, catalogue=catalogue()))
        maintenance.begin_visit(connection, Visit("shiwan", T), Author("周工（示例）", T))
        rule_versions.record_versions(connection, rule_file.read(text, catalogue()), catalogue(), T)
    assert cases.faults() == []
    unguarded(cases.database, statement)
    (fault,) = cases.faults()
    assert (fault.n, fault.wrong) == (cases.entry(entry), FaultKind.DIFFERS)
    assert where in fault.detail


def test_rows_that_no_entry_knows_are_named(cases: Cases) -> None:
    copy = (
        "SELECT 99, '伪', role, region, department, created_at_ms, created_by, removed_at_ms FROM person WHERE id = 1"
    )
    with cases.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO person (id, name, role, region, department, created_at_ms, created_by, removed_at_ms) " + copy
        )
        connection.exec_driver_sql("UPDATE incident_entry SET seq = 99 WHERE incident_id = 2")
    faults = [(fault.n, fault.wrong) for fault in cases.faults()]
    assert faults == [
        (0, FaultKind.DIFFERS),
        (0, FaultKind.DIFFERS),
        (cases.entry("incident.reported"), FaultKind.DIFFERS),
    ]
