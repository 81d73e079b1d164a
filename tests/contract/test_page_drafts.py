"""Drafts of forms on the server: whose they are, which one stays, how many and how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.people import drafts
from governance.people import store as people_store
from governance.people.drafts import Draft
from infra.database import Database
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of

NOW = 1_800_000_000_000


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("drafts")
    database = pages_site.seed(folder)
    yield create_app(pages_site.context(database, folder, token=None))
    database.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = with_tables(Database(f"sqlite:///{tmp_path / 'river.db'}"))
    yield found
    found.close()


def _put(browser: TestClient, key: str, text: str, at: int, version: int = 0) -> dict[str, object]:
    answer = browser.put(f"/drafts/{key}", json={"fields": [["comment", text]], "at": at, "version": version})
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


def test_a_draft_comes_back_to_who_wrote_it_and_to_nobody_else(app: FastAPI) -> None:
    office, chief = browser_of(app, pages_site.OFFICE), browser_of(app, pages_site.CHIEF)
    assert _put(office, "board:2-comment", "桥下", 5) == {"kept": True, "version": 1}
    kept = office.get("/drafts?page=board").json()["drafts"]
    assert kept == {"board:2-comment": {"fields": [["comment", "桥下"]], "at": 5, "version": 1}}
    assert chief.get("/drafts?page=board").json()["drafts"] == {}
    assert office.get("/drafts?page=boar").json()["drafts"] == {}


def test_a_draft_from_elsewhere_is_not_overwritten_unseen(app: FastAPI) -> None:
    browser = browser_of(app, pages_site.OFFICE)
    _put(browser, "review:a", "办公室", 10)
    refused = _put(browser, "review:a", "手机", 20)
    assert refused == {"kept": False, "draft": {"fields": [["comment", "办公室"]], "at": 10, "version": 1}}
    assert _put(browser, "review:a", "手机", 20, version=1) == {"kept": True, "version": 2}


def test_an_accepted_form_deletes_its_draft_and_a_refused_one_keeps_it(app: FastAPI) -> None:
    browser = browser_of(app, pages_site.OFFICE)
    _put(browser, "board:2-comment-b", "已到场", 30)
    headers = {"X-Form": "board:2-comment-b", "X-Typed": "30", "Accept": "text/html"}

    def send(comment: str) -> dict[str, object]:
        form = {"action": "comment", "version": "99", "comment": comment}
        answer = browser.post("/board?incident=2", data=form, headers=headers)
        found: dict[str, object] = browser.get("/drafts?page=board").json()["drafts"]["board:2-comment-b"]
        return {"status": answer.status_code, "to": answer.headers.get("x-to"), "fields": found["fields"]}

    refused = send("")
    assert (refused["to"], refused["fields"]) == (None, [["comment", "已到场"]])
    assert send("已到场") == {"status": 204, "to": "/board?incident=2&done=comment", "fields": None}


def test_a_large_or_malformed_draft_is_not_kept(app: FastAPI) -> None:
    browser = browser_of(app, pages_site.OFFICE)
    large = browser.put("/drafts/x:a", json={"fields": [["comment", "水" * drafts.MAX_BYTES]], "at": 1})
    assert large.json() == {"kept": False, "large": True}
    for body in (b"{", b"[]", b'{"fields": "x", "at": 1}', b'{"fields": [], "at": -1}', b"\xff"):
        assert browser.put("/drafts/x:a", content=body).status_code == 400
    assert browser.get("/drafts?page=x").json()["drafts"] == {}


def test_the_drafts_of_a_person_are_bounded_in_number_and_time(database: Database) -> None:
    with database.write() as connection:
        for i in range(drafts.MAX_DRAFTS_PER_PERSON + 5):
            drafts.put(connection, "a", f"p:{i:03}", Draft("[]", i, 0), now_ms=NOW + i)
        drafts.put(connection, "b", "p:0", Draft("[]", 0, 0), now_ms=NOW)
        kept = drafts.below(connection, "a", "p:", now_ms=NOW + 100)
        assert sorted(kept) == [f"p:{i:03}" for i in range(5, drafts.MAX_DRAFTS_PER_PERSON + 5)]
        later_ms = NOW + 100 + drafts.KEEP_MS
        assert drafts.below(connection, "a", "p:", now_ms=later_ms) == {}
        assert drafts.find(connection, "b", "p:0", now_ms=NOW + 1) is not None


def test_what_was_typed_after_a_form_was_sent_stays(database: Database) -> None:
    with database.write() as connection:
        drafts.put(connection, "a", "p:x", Draft('["later"]', 20, 0), now_ms=NOW)
        drafts.accept(connection, "a", "p:x", 10, now_ms=NOW)
        kept = drafts.find(connection, "a", "p:x", now_ms=NOW)
        assert kept is not None
        assert kept.body == '["later"]'


def test_who_is_removed_leaves_no_draft(app: FastAPI) -> None:
    browser, database = browser_of(app, pages_site.AUDITOR), app.state.context.database
    _put(browser, "x:c", "草稿", 1)
    with database.write() as connection:
        people_store.remove(connection, pages_site.AUDITOR, by=pages_site.ADMINISTRATOR, now_ms=pages_site.now_ms())
        assert drafts.find(connection, pages_site.AUDITOR, "x:c", now_ms=pages_site.now_ms()) is None
