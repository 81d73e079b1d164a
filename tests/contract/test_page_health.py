"""The page of the system's health, its plain variant, and that the answer for machines stays as it was."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context, Part
from api.pages.models.health import STEPS
from infra.database import Database
from infra.texts import say
from tests import pages_site
from tests.page_browser import browser_of, signed_in

WELL = tuple(Part(name, True, "fine") for names in STEPS.values() for name in names if name != "database")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    folder = tmp_path_factory.mktemp("health")
    database = pages_site.seed(folder)
    yield replace(pages_site.context(database, folder, token=None), outward=False)
    database.close()


@pytest.fixture
def asked(context: Context) -> Callable[..., TestClient]:
    def ask(*parts: Part, **given: object) -> TestClient:
        app = create_app(replace(context, **{"parts": lambda: list(parts), **given}))  # type: ignore[arg-type]
        return TestClient(app, headers={"Accept": "text/html"}, raise_server_exceptions=False)

    return ask


def _state(page: str, testid: str = "health-verdict") -> str:
    found = re.search(rf'data-testid="{testid}" data-state="(\w+)"', page)
    assert found is not None, testid
    return found.group(1)


def test_parts_that_work_are_steps_that_work(asked: Callable[..., TestClient]) -> None:
    page = asked(*WELL).get("/health").text
    assert {_state(page, f"health-step-{step}") for step in STEPS} == {"works"}
    assert say("health.database", count=24).zh in page


def test_a_part_that_does_not_work_is_the_first_sentence(asked: Callable[..., TestClient]) -> None:
    since_ms = pages_site.now_ms() - 3_600_000
    words = say("health.behind_more", span="1", messages=3)
    lost = Part("outbox", False, "no sign of life", since_ms=since_ms, text=words)
    page = asked(*WELL, lost).get("/health?lang=en").text
    assert _state(page) == "fails"
    assert _state(page, "health-step-deliver") == "fails"
    assert _state(page, "health-step-ingest") == "works"
    verdict = page.split("<h1>")[1].split("</h1>")[0]
    assert say("health.step_deliver").en.lower() in verdict
    assert words.en in page
    assert "no sign of life" in page
    assert [step in page for step in say("runbook.outbox").en.splitlines()] == [True] * 4


def test_a_part_is_remembered_as_failing_since_it_was_first_seen_so(asked: Callable[..., TestClient]) -> None:
    browser = asked(*WELL, Part("reconciliation", False, "x", vital=False))
    first = browser.app.state.health.probe()  # type: ignore[attr-defined]
    second = browser.app.state.health.probe()  # type: ignore[attr-defined]
    assert second.since_ms["reconciliation"] == first.since_ms["reconciliation"] == first.at_ms


def test_a_probe_that_fails_is_never_green(asked: Callable[..., TestClient]) -> None:
    def broken() -> list[Part]:
        raise RuntimeError("token=hush")

    for path in ("/health", "/health?plain=1"):
        assert _state(asked().get(path).text) != "works"  # the parts are those of other processes
        page = asked(parts=broken).get(path).text
        assert _state(page) == "unknown"
        assert "hush" not in page


def test_a_database_that_does_not_answer_is_said(asked: Callable[..., TestClient], tmp_path: Path) -> None:
    page = asked(*WELL, database=Database(f"sqlite:///{tmp_path / 'empty.db'}")).get("/health")
    assert page.status_code == 200
    assert _state(page.text) == "fails"
    assert _state(page.text, "health-step-store") == "fails"
    assert say("health.unreadable").zh in page.text


def test_the_plain_page_is_small_and_loads_nothing(asked: Callable[..., TestClient]) -> None:
    loud = [replace(part, ok=False, detail="x" * 5000) for part in WELL]
    page = asked(*loud).get("/health?plain=1").content
    assert len(page) < 10_000
    assert b"<script" not in page
    assert b"stylesheet" not in page
    assert say("health.newest").zh.encode() in page


def test_the_answer_for_machines_holds_four_members_a_part(asked: Callable[..., TestClient]) -> None:
    part = Part("mqtt", False, "connection lost", text=say("health.state_fails"), since_ms=1)
    answer = asked(part).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"][1] == {"name": "mqtt", "ok": False, "detail": "connection lost", "vital": True}


def test_everybody_signed_in_may_see_it(context: Context) -> None:
    closed = create_app(replace(context, token="machine", open=False))
    assert browser_of(closed).get("/health").status_code == 303
    assert signed_in(closed, pages_site.PUBLIC).get("/health").status_code == 200
