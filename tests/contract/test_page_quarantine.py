"""The page of the quarantine: groups, an entry with its bytes, and its replay."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.audit import trail as audit_trail
from infra import times
from infra.database import Database
from infra.texts import keys, say
from ingest import ledger, quarantine
from ingest.storage.tables import quarantine_discard
from sensors.reading import Message, Reason, Rejected
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of, signed_in


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application with an ingest, which replays."""
    context = pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None)
    return create_app(replace(context, submit=pages_site.ingest_of(database)))


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app)


def _entries(database: Database, **of: object) -> list[quarantine.QuarantineEntry]:
    with database.read() as connection:
        return quarantine.listing(connection, **of)  # type: ignore[arg-type]


def _one(database: Database, reason: Reason) -> quarantine.QuarantineEntry:
    return _entries(database, reason=reason)[0]


def test_every_reason_has_a_name_and_says_what_to_put_right() -> None:
    for reason in Reason:
        assert {f"refusal.{reason.key}", f"refusal_fix.{reason.key}"} <= set(keys())


def test_refused_data_stands_in_groups_by_reason_and_device(browser: TestClient, database: Database) -> None:
    held = _entries(database)
    page = browser.get("/quarantine").text
    groups = page.split('data-testid="quarantine-groups"')[1].split("</table>")[0]
    assert groups.count("<tr>") - 1 == len({(one.reason, one.station) for one in held})
    assert say("refusal.not_a_number").zh in groups
    assert pages_site.UNREGISTERED in groups


def test_the_address_holds_which_group_is_open(browser: TestClient, database: Database) -> None:
    page = browser.get(f"/quarantine?reason=not_a_number&station={pages_site.CLOSED}&lang=en").text
    entries = page.split('data-testid="quarantine-entries"')[1]
    assert {int(n) for n in re.findall(r"/quarantine/(\d+)", entries)} == {
        one.id for one in _entries(database, station=pages_site.CLOSED, reason=Reason.NOT_A_NUMBER)
    }
    assert say("refusal_fix.not_a_number").en in entries
    assert browser.get("/quarantine?reason=no_such&before=x&station=%F0%9F%92%A7").status_code == 200


def test_an_entry_shows_its_bytes_with_the_bad_place_marked(browser: TestClient, database: Database) -> None:
    entry = _one(database, Reason.NOT_A_NUMBER)
    page = browser.get(f"/quarantine/{entry.id}").text
    assert "<mark>&#34;nh3n&#34;: &#34;overrange&#34;</mark>" in page
    assert 'data-testid="quarantine-hex"' in page
    assert say("refusal_fix.not_a_number").zh in page


def test_a_replay_shows_what_became_of_it_and_a_second_one_stores_nothing(
    browser: TestClient, database: Database
) -> None:
    station = pages_site.UNREGISTERED
    entry = _one(database, Reason.UNKNOWN_STATION)
    first = browser.post(f"/quarantine/{entry.id}/replay")
    assert first.status_code == 303
    page = browser.get(first.headers["location"]).text
    assert re.search(r'quarantine-refused">1<', page)  # the cause was not put right
    again = int(re.search(r'href="/quarantine/(\d+)"[^>]*quarantine-again', page).group(1))  # type: ignore[union-attr]
    assert [one.id for one in _entries(database, station=station)] == [again]
    second = browser.post(f"/quarantine/{entry.id}/replay")
    assert second.status_code == 409
    assert 'data-testid="quarantine-trouble"' in second.text
    assert [one.id for one in _entries(database, station=station)] == [again]


def test_a_replay_after_the_cause_was_put_right_is_counted_once(
    browser: TestClient, app: FastAPI, database: Database
) -> None:
    with database.write() as connection:
        body = pages_site.one_sample(times.rfc3339(pages_site.now_ms() - 7 * times.DAY_MS), '{"do": 6.0, "ph": 7.0}')
        message = Message(pages_site.CLOSED, body, pages_site.now_ms())
        refused = Rejected(0, Reason.OUR_FAULT, "x")
        quarantine.add(connection, app.state.registries.recent(), [message], [None], [refused])
    entry = _one(database, Reason.OUR_FAULT)

    def stored() -> int:
        with database.read() as connection:
            return sum(one.stored for one in ledger.accounts(connection, station=pages_site.CLOSED))

    before = stored()
    browser.post(f"/quarantine/{entry.id}/replay")
    assert stored() == before + 2
    assert re.search(r'quarantine-stored">2<', browser.get(f"/quarantine/{entry.id}").text)
    browser.post(f"/quarantine/{entry.id}/replay")
    assert stored() == before + 2


@pytest.mark.parametrize("number", ["0", "999999", "x", "-1", "9" * 30])
def test_an_entry_that_is_not_there_is_not_found(browser: TestClient, number: str) -> None:
    assert browser.get(f"/quarantine/{number}").status_code == 404
    assert browser.post(f"/quarantine/{number}/replay").status_code == 404


def test_without_refused_data_the_page_says_so_and_when_it_looked(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with_tables(database)
    page = TestClient(create_app(pages_site.context(database, tmp_path, token=None))).get("/quarantine").text
    assert 'data-testid="quarantine-none"' in page
    assert say("quarantine_page.none").zh in page
    database.close()


def test_who_may_not_see_or_replay_is_turned_away(database: Database, tmp_path: Path) -> None:
    closed = create_app(pages_site.context(database, tmp_path, token="machine"))
    entry = _one(database, Reason.NOT_JSON)
    assert signed_in(closed, pages_site.WORKER).get("/quarantine").status_code == 403
    auditor = signed_in(closed, pages_site.AUDITOR)
    page = auditor.get(f"/quarantine/{entry.id}")
    assert page.status_code == 200
    assert "disabled" in page.text.split('data-testid="quarantine-replay"')[1].split(">")[0]
    assert auditor.post(f"/quarantine/{entry.id}/replay").status_code == 403
    assert (
        signed_in(closed, pages_site.ENGINEER).post(f"/quarantine/{entry.id}/replay").status_code == 503
    )  # no ingest here
    assert _one(database, Reason.NOT_JSON).id == entry.id


def test_an_entry_is_ignored_with_a_reason_and_can_be_restored(browser: TestClient, database: Database) -> None:
    number = _one(database, Reason.UNKNOWN_STATION).id
    assert browser.post(f"/quarantine/{number}/ignore", data={"reason": " "}).status_code == 409
    assert _entry_of(database, number).status == quarantine.HELD
    assert browser.post(f"/quarantine/{number}/ignore", data={"reason": "试验设备"}).status_code == 303
    assert _entry_of(database, number).status == quarantine.IGNORED
    page = browser.get(f"/quarantine/{number}").text
    assert "试验设备" in page.split('data-testid="quarantine-ignored"')[1]
    assert 'data-testid="quarantine-replay"' not in page
    assert str(number) in re.findall(
        r'href="/quarantine/(\d+)"', browser.get(f"/quarantine?status=ignored&station={pages_site.UNREGISTERED}").text
    )
    assert browser.post(f"/quarantine/{number}/ignore", data={"reason": "again"}).status_code == 409
    assert browser.post(f"/quarantine/{number}/restore").status_code == 303
    assert browser.post(f"/quarantine/{number}/restore").status_code == 409
    assert _entry_of(database, number).status == quarantine.HELD
    with database.read() as connection:
        entries = audit_trail.list_entries(connection, what="quarantine")
    assert [(one.what, one.id) for one in entries] == [
        ("quarantine.restored", str(number)),
        ("quarantine.ignored", str(number)),
    ]


def test_what_arrived_again_while_it_was_ignored_is_not_held_twice(browser: TestClient, database: Database) -> None:
    old = _one(database, Reason.NOT_JSON)
    assert (
        browser.post(f"/api/v1/quarantine/{old.id}/ignore", json={"reason": "试验设备"}).json()["status"] == "ignored"
    )
    message = Message(old.station, old.payload, pages_site.now_ms(), topic=old.topic)
    pages_site.ingest_of(database)(message).result()
    (new,) = _entries(database, reason=Reason.NOT_JSON, station=old.station, limit=1)
    assert new.id != old.id
    assert browser.post(f"/quarantine/{old.id}/restore").status_code == 409
    assert browser.post(f"/api/v1/quarantine/{old.id}/restore").status_code == 409


def _entry_of(database: Database, number: int) -> quarantine.QuarantineEntry:
    with database.read() as connection:
        return quarantine.get(connection, number)


def test_what_is_beyond_the_limits_is_shown_on_the_page_and_in_the_ledger(
    browser: TestClient, database: Database
) -> None:
    station, day = pages_site.CLOSED, times.beijing_day(pages_site.now_ms() - times.DAY_MS).isoformat()
    address = f"/ledger/{station}/{day}"
    assert "ledger-discarded" not in browser.get(address).text
    at_ms = pages_site.now_ms() // times.HOUR_MS * times.HOUR_MS
    row = {"account": station, "day": day, "reason": "not_json", "hour_ms": at_ms}
    with database.write() as connection:
        connection.execute(sa.insert(quarantine_discard).values(**row, messages=98_765, readings=4_321, samples=20))
    page = browser.get("/quarantine").text.split('data-testid="quarantine-discards"')[1]
    assert "98765" in page
    assert say("refusal.not_json").zh in page
    assert "4321" in browser.get(address).text.split("ledger-discarded")[1]
