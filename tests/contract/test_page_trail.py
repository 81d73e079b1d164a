"""The trail's page: its filter, verifying without waiting, proofs, an incident as it stood, and the export."""

import csv
import html
import io
import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.pages.models import trail as models
from governance import tables
from governance.audit import trail as audit_trail
from infra import times
from infra.database import Database
from infra.texts import say
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of
from tests.says import shows


@pytest.fixture
def auditor(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.AUDITOR)


def _numbers(page: str) -> list[int]:
    return [int(n) for n in re.findall(r'data-testid="trail-(\d+)" data-step', page)]


def _entries(database: Database, **of: object) -> list[audit_trail.AuditEntry]:
    with database.read() as connection:
        return audit_trail.list_entries(connection, **of)  # type: ignore[arg-type]


def _verified(app: FastAPI, browser: TestClient) -> str:
    """The page after a verification that ran to its end."""
    assert browser.post("/trail/verify").headers["location"].endswith("#verdict")
    for thread in threading.enumerate():
        if thread.name == "verify the trail":
            thread.join(60)
    return browser.get("/trail").text


def test_what_rules_found_is_left_out_until_it_is_asked_for(auditor: TestClient, database: Database) -> None:
    rules = {line.n for line in _entries(database, limit=1000) if line.role == "rule"}
    assert rules
    first = auditor.get("/trail").text
    assert not rules & set(_numbers(first))
    assert len(_numbers(first)) == 30
    older = re.search(r'href="([^"]*before=\d+)" data-testid="trail-older"', first)
    assert older
    following = _numbers(auditor.get(older[1].replace("&amp;", "&")).text)
    assert max(following) < min(_numbers(first))
    assert rules & set(_numbers(auditor.get("/trail?rules=1").text))


def test_the_address_holds_who_what_which_object_and_days(auditor: TestClient, database: Database) -> None:
    found = _numbers(auditor.get(f"/trail?kind=incident&id=2&by={pages_site.WORKER}").text)
    assert found == [line.n for line in _entries(database, kind="incident", id="2", by=pages_site.WORKER)]
    page = auditor.get("/trail?what=incident.dispatched").text
    assert _numbers(page) == [line.n for line in _entries(database, what="incident.dispatched")]
    today = times.beijing(pages_site.now_ms(), "%Y-%m-%d")
    assert _numbers(auditor.get(f"/trail?what=water&since={today}&until={today}").text) == [
        line.n for line in _entries(database, what="water") if times.beijing(line.at_ms, "%Y-%m-%d") == today
    ]


def test_an_object_at_a_station_or_of_a_river_is_named(auditor: TestClient, database: Database) -> None:
    (plan,) = _entries(database, id=pages_site.RIVER, limit=1)
    page = auditor.get(f"/trail?id={plan.id}").text
    assert f'奇槎涌环湖花园段 <span class="bytes">{pages_site.RIVER}</span>' in page


def test_an_empty_filter_names_itself_and_a_bad_day_keeps_what_was_typed(auditor: TestClient) -> None:
    page = auditor.get("/trail?by=nobody").text
    assert shows(page, "audit_page.nothing", filter="操作人 nobody")
    assert "规则触发" in auditor.get("/trail?what=incident.fired").text.split('data-testid="state-empty"')[1]
    wrong = auditor.get("/trail?since=yesterday&by=somebody").text
    assert 'data-testid="trail-wrong"' in wrong
    assert 'value="somebody"' in wrong


def test_an_auditor_verifies_the_trail_takes_a_proof_and_sees_a_case_as_it_stood(
    app: FastAPI, auditor: TestClient, database: Database
) -> None:
    page = _verified(app, auditor)
    assert re.search(r'data-testid="trail-found" data-verdict="whole', page)
    accepted = _entries(database, what="incident.accepted", kind="incident", id="2")[0]
    link = re.search(rf'href="([^"]+)" download="proof-{accepted.n}.json"', auditor.get(f"/trail/{accepted.n}").text)
    assert link
    assert auditor.get(link[1]).json()["entry"]["n"] == accepted.n
    then = pages_site.beijing_minute(times.rfc3339(accepted.at_ms))
    page = auditor.get(f"/trail?incident=2&at={then}").text
    assert 'data-testid="trail-state" data-state="accepted"' in page
    assert shows(page, "audit_page.then", count=2)
    assert 'data-testid="trail-problem"' in auditor.get("/trail?incident=2&at=2001-01-01T00:00").text
    assert 'data-testid="trail-problem"' in auditor.get("/trail?incident=two").text


def test_an_entry_shows_what_it_changed(auditor: TestClient, database: Database) -> None:
    dispatched = _entries(database, what="incident.dispatched")[0]
    page = auditor.get(f"/trail/{dispatched.n}").text
    state = page.split('data-testid="trail-field-state"')[1].split("</tr>")[0]
    assert state.index(say("state.accepted").zh) < state.index(say("state.dispatched").zh)
    assert say("audit_field.state").zh in state
    told = page.split('data-testid="trail-sentence"')[1].split("</dd>")[0]
    assert json.loads(dispatched.body)["entry"]["text_zh"] in told
    english = auditor.get(f"/trail/{dispatched.n}?lang=en").text
    assert json.loads(dispatched.body)["entry"]["text_en"] in html.unescape(english)
    assert dispatched.hash in page
    assert auditor.get("/trail/999999").status_code == 404
    assert auditor.get("/trail/x").status_code == 404


def test_every_field_of_a_case_has_a_name_in_the_trail(database: Database) -> None:
    fields = {
        name
        for entry in _entries(database, kind="incident", by_rules=True)
        for name in json.loads(entry.body)["incident"]
    }
    assert {"state", "region", "due_ms"} <= fields
    assert [name for name in sorted(fields) if models.field_name("incident", name).zh == name] == []
    assert models.field_name("registry", "state").zh == "state", "of other things the code"


def test_a_walk_under_way_says_how_far_it_is_and_is_not_begun_twice(app: FastAPI, auditor: TestClient) -> None:
    from api.pages.trail import Walk

    before = getattr(app.state, "trail_walk", None)
    app.state.trail_walk = walk = Walk(50_000, 0.24)
    try:
        page = auditor.get("/trail").text
        assert shows(page, "audit_page.walking", n="12,000", entries="50,000")
        assert 'http-equiv="refresh"' in page
        assert auditor.post("/trail/verify").status_code == 303
        assert app.state.trail_walk is walk
    finally:
        app.state.trail_walk = before


def test_a_changed_entry_is_named_as_the_first_break(tmp_path: Path) -> None:
    database = pages_site.seed(tmp_path)
    try:
        with database.write() as connection:
            for trigger in connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).scalars():
                connection.exec_driver_sql(f'DROP TRIGGER "{trigger}"')
            connection.execute(sa.update(tables.audit).where(tables.audit.c.n == 5).values(by="somebody else"))
        app = create_app(pages_site.context(database, tmp_path, token=None))
        page = _verified(app, browser_of(app, pages_site.AUDITOR))
        assert 'data-verdict="broken"' in page
        assert shows(page.split('data-testid="trail-first-break"')[1], "audit_page.wrong_changed", n=5)
    finally:
        database.close()


def test_an_empty_trail_is_an_alarm(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with_tables(database)
    try:
        app = create_app(replace(pages_site.context(database, tmp_path, token=None)))
        page = TestClient(app, headers={"Accept": "text/html"}).get("/trail").text
        assert re.search(r'role="alert" data-testid="trail-alarm"', page)
    finally:
        database.close()


def test_an_export_holds_what_the_filter_finds_and_is_an_entry(auditor: TestClient, database: Database) -> None:
    found = auditor.post("/trail/export?kind=incident&id=2")
    rows = list(csv.DictReader(io.StringIO(found.content.decode("utf-8-sig"))))
    assert [int(row["n"]) for row in rows] == [line.n for line in _entries(database, kind="incident", id="2")]
    (entry,) = _entries(database, what="export.trail")
    assert (entry.by, json.loads(entry.body)["filter"]) == (pages_site.AUDITOR, {"kind": "incident", "id": "2"})
    assert auditor.post("/trail/export", headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_who_may_not_audit_sees_nothing_of_it(app: FastAPI) -> None:
    chief = browser_of(app, pages_site.CHIEF)
    for answer in (
        chief.get("/trail"),
        chief.get("/trail/1"),
        chief.post("/trail/verify"),
        chief.post("/trail/export"),
    ):
        assert answer.status_code == 403
    assert 'lang="en"' in browser_of(app, pages_site.AUDITOR).get("/trail?lang=en").text
