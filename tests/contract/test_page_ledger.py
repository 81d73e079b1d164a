"""The page of the loss ledger: a month by station, and the account of a day."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.texts import say
from infra.times import beijing_day
from ingest import quarantine
from ingest.storage.sql import SqlReadings
from sensors.reading import Reason
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of, signed_in


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app)


def _day(back: int) -> str:
    return (beijing_day(pages_site.now_ms()) - timedelta(days=back)).isoformat()


def _states(browser: TestClient, station: str) -> dict[str, str]:
    """State by day of a station, over the months of the seeded ledger."""
    found: dict[str, str] = {}
    for month in {_day(back)[:7] for back in range(26)}:
        page = browser.get(f"/ledger?month={month}").text
        row = re.search(rf'<tr data-station="{re.escape(station)}">(.*?)</tr>', page, re.S)
        if row is not None:
            states = re.findall(r'<td data-state="(\w+)">', row.group(1))
            found |= {f"{month}-{i:02}": state for i, state in enumerate(states, 1)}
    return found


def _shown(page: str, testid: str) -> str:
    found = re.search(rf'data-testid="{testid}"[^>]*>([^<]*)<', page)
    assert found is not None, testid
    return found.group(1)


def test_each_station_day_shows_whether_all_arrived(browser: TestClient) -> None:
    closed, gaps = _states(browser, pages_site.CLOSED), _states(browser, pages_site.GAPS)
    assert closed[_day(5)] == "complete"
    assert _states(browser, "qcc-huanhu-1")[_day(0)] == "progress"
    assert gaps[_day(8)] == "missing"
    assert gaps[_day(3)] == "unknown"
    assert gaps[_day(9)] == "none"
    assert gaps[_day(5)] == "complete"


def test_a_device_that_does_not_number_its_messages_is_never_complete(browser: TestClient) -> None:
    states = _states(browser, pages_site.UNNUMBERED)
    assert {states[_day(back)] for back in range(1, 20)} == {"unknown"}
    page = browser.get(f"/ledger/{pages_site.UNNUMBERED}/{_day(5)}").text
    assert _shown(page, "ledger-sent") == say("ledger_page.unknown").zh
    assert "100%" not in page


def test_a_day_says_which_numbers_are_missing(browser: TestClient) -> None:
    page = browser.get(f"/ledger/{pages_site.GAPS}/{_day(8)}").text
    assert [_shown(page, f"ledger-{name}") for name in ("sent", "stored", "missing")] == ["8", "4", "4"]
    gaps = page.split('data-testid="ledger-gaps"')[1]
    assert "<b>16</b>" in gaps
    assert 'data-cause="link"' in gaps
    assert say("ledger_page.valid", share="50.0%").zh in page


def test_a_day_names_what_was_refused(browser: TestClient, database: Database) -> None:
    with database.read() as connection:
        (entry,) = quarantine.listing(connection, reason=Reason.TIME_IN_FUTURE)
    page = browser.get(f"/ledger/{entry.account}/{entry.day}?lang=en").text
    held = page.split('data-testid="ledger-held"')[1]
    assert say("refusal.time_in_future").en in held
    assert f'href="/quarantine/{entry.id}?lang=en"' in held


def test_only_stations_with_gaps_are_shown_on_request(browser: TestClient) -> None:
    month = _day(8)[:7]
    rows = re.findall(r'<tr data-station="([^"]+)">(.*?)</tr>', browser.get(f"/ledger?month={month}").text, re.S)
    gaps = {key for key, row in rows if set(re.findall(r'data-state="(\w+)"', row)) - {"none", "progress", "complete"}}
    shown = re.findall(r'data-station="([^"]+)"', browser.get(f"/ledger?month={month}&show=gaps").text)
    assert set(shown) == gaps
    assert pages_site.GAPS in gaps


@pytest.mark.parametrize("month", ["2026-13", "x", "2099-01", "", "20260-1"])
def test_a_month_that_is_none_shows_the_present_one(browser: TestClient, month: str) -> None:
    page = browser.get("/ledger", params={"month": month, "page": "-1", "station": "💧"})
    assert page.status_code == 200
    assert say("ledger_page.month", month=_day(0)[:7]).zh in page.text
    assert 'rel="next"' not in page.text.split('data-testid="ledger-months"')[1].split("</div>")[0]


def test_an_account_that_is_not_there(browser: TestClient) -> None:
    assert browser.get("/ledger/nobody/2026-01-01").status_code == 404
    assert browser.get(f"/ledger/{pages_site.CLOSED}/2026-02-30").status_code == 400
    empty = browser.get(f"/ledger/{pages_site.CLOSED}/2020-01-01")
    assert 'data-state="none"' in empty.text


def test_the_account_stands_while_the_readings_cannot_be_read(database: Database, tmp_path: Path) -> None:
    class Broken(SqlReadings):
        def window(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise StorageUnavailable("gone")

    context = pages_site.context(database, tmp_path, token=None)
    browser = TestClient(create_app(replace(context, store=Broken(database, context.catalogue))))
    page = browser.get(f"/ledger/{pages_site.GAPS}/{_day(8)}").text
    assert _shown(page, "ledger-missing") == "4"
    assert say("ledger_page.unreadable").zh in page


def test_a_site_without_accounts_says_when_it_begins(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with_tables(database)
    page = TestClient(create_app(pages_site.context(database, tmp_path, token=None))).get("/ledger").text
    assert 'data-testid="ledger-none"' in page
    database.close()


def test_who_may_not_see_the_account_is_turned_away(database: Database, tmp_path: Path) -> None:
    closed = create_app(pages_site.context(database, tmp_path, token="machine"))
    for name, status in ((pages_site.WORKER, 403), (pages_site.AUDITOR, 200)):
        client = signed_in(closed, name)
        assert client.get("/ledger").status_code == status
        assert client.get(f"/ledger/{pages_site.GAPS}/{_day(8)}").status_code == status
