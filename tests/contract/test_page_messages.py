"""Messages: what is stuck stands first, the list is narrowed by its address, what failed is sent again once."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context
from api.pages.models import messages as models
from governance.audit import trail as audit_trail
from governance.incidents.finding import Colour
from governance.notify import outbox
from governance.notify import store as notice_store
from governance.notify.message import Item, NoticeKind, NoticeRequest
from governance.notify.outbox import Status
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice
from governance.organisation.regions import Place
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from infra.texts import Text, both, say
from infra.times import DAY_MS
from tests import pages_site
from tests.page_browser import browser_of, part
from tests.pages_site import file_case

STREET = "chancheng/nanzhuang"
STREET_OFFICE = "南庄街道办（示例）"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    found = pages_site.seed(tmp_path_factory.mktemp("messages"))
    with found.write() as connection:
        people_store.add(connection, STREET_OFFICE, Role.OFFICE, region=STREET, by="test", now_ms=pages_site.now_ms())
    yield found
    found.close()


@pytest.fixture(scope="module")
def context(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None)


@pytest.fixture(scope="module")
def app(context: Context) -> FastAPI:
    return create_app(context)


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _rows(page: str) -> list[tuple[int, str]]:
    return [(int(n), s) for n, s in re.findall(r'data-testid="message-(\d+)" data-state="(\w+)"', page)]


def _told(database: Database, region: str, status: str = "dead", text: str = "河面油膜") -> tuple[int, int]:
    """A new incident in a region and a message about it; their numbers."""
    now_ms = pages_site.now_ms()
    made = file_case(database, Place(region), text, minutes_ago=0)
    with database.write() as connection:
        item = Item(made.id, NoticeKind.OPENED, Colour.YELLOW, now_ms, Text("甲", "A"), Text(text, text))
        wanted = [NoticeRequest("duty-2", f"own-{made.id}", item, now_ms)]
        notice_store.enqueue(connection, wanted, now_ms, NoticePolicy())
        number = connection.execute(sa.select(sa.func.max(notice.c.id))).scalar_one()
        values = {"status": status, "body": "x", "attempts": 7, "last_error": "渠道没有接收。 / not taken."}
        connection.execute(sa.update(notice).where(notice.c.id == number).values(values))
    return made.id, number


def test_what_is_stuck_stands_first_and_the_counts_are_in_words(browser: TestClient) -> None:
    page = browser.get("/messages").text
    assert 'data-sort="bad"' in part(page, "messages-verdict")
    assert say("messages_page.verdict_failed", count=1).zh in page
    for state, count in (("waiting", 1), ("delivered", 1), ("confirmed", 1), ("failed", 1)):
        assert f"<b>{count}</b> {say(f'messages_page.state_{state}').zh}" in part(page, f"messages-count-{state}")


def test_a_failure_says_in_one_language_who_can_do_what_and_keeps_the_words_of_the_other_side(
    browser: TestClient,
) -> None:
    for language in ("zh", "en"):
        page = browser.get(f"/messages?lang={language}").text
        said = say("messages_page.failure_account", party=say("messages_page.gateway"), status=403)
        refused = say("messages_page.failure_content", party=say("messages_page.other_side"), status=422)
        assert getattr(said, language) in part(page, "messages-table")
        assert getattr(refused, language) in part(page, "messages-refused")
        assert "编号格式不符" in part(page, "messages-refused")
    assert "HTTP 403”" not in page, "the record itself, which names the channel by its scheme"


@pytest.mark.parametrize(
    ("error", "key", "original"),
    [
        (both(say("notice.channel_refused", channel="json", answer="HTTP 503")), "down", ""),
        (both(say("notice.channel_refused", channel="json", answer="HTTP 429")), "busy", ""),
        (both(say("notice.channel_refused", channel="json", answer="HTTP 404")), "address", ""),
        ("ConnectTimeout: timed out", "silent", "ConnectTimeout: timed out"),
    ],
)
def test_each_kind_of_failure_has_a_sentence(error: str, key: str, original: str) -> None:
    found = models.gateway_failure(error)
    status = re.search(r"HTTP (\d+)", error)
    party = say("messages_page.gateway")
    assert found.text == say(f"messages_page.failure_{key}", party=party, status=status and status[1])
    assert found.original == original


def test_our_own_sentence_stays_as_it_is() -> None:
    ours = say("notice.contact_gone")
    assert models.gateway_failure(both(ours)) == models.Failure(ours)
    assert not models.gateway_failure(None).text.zh


def test_the_address_narrows_the_list(browser: TestClient) -> None:
    everything = _rows(browser.get("/messages").text)
    assert sorted(state for _, state in everything) == ["confirmed", "failed", "waiting"]
    for query, states in (
        ("state=failed", ["failed"]),
        ("state=delivered", ["confirmed"]),
        ("person=duty-1", ["confirmed"]),
        ("channel=wecombot", ["confirmed"]),
        ("incident=2", ["waiting"]),
        ("span=day&state=waiting", ["waiting"]),
    ):
        assert [state for _, state in _rows(browser.get(f"/messages?{query}").text)] == states, query
    nothing = browser.get("/messages?incident=999999&person=nobody").text
    assert "state-empty" in nothing
    assert len(_rows(browser.get("/messages?state=x&span=x&rows=-1&incident=٣").text)) == 3


def test_a_dead_letter_is_seen_by_who_keeps_account_and_sent_again_by_the_office(
    app: FastAPI, browser: TestClient, database: Database
) -> None:
    auditor = browser_of(app, pages_site.AUDITOR)
    page = auditor.get("/messages").text
    assert "编号格式不符" in part(page, "messages-refused")
    assert "delivery-1-replay" not in page
    assert pages_site.CHIEF in part(page, "messages-table")
    assert auditor.post("/messages", data={"delivery": "1"}).status_code == 403
    assert browser_of(app, pages_site.WORKER).get("/messages").status_code == 403
    page = browser.get("/messages").text
    with database.read() as connection:
        event = outbox.delivery(connection, 1)
    assert event.event_id in page  # by which the platform knows it again
    assert "webhook-id" in page
    name = re.search(r"<summary>([^<]+)</summary>", part(page, "delivery-1"))
    assert name
    assert name[1] == say("messages_page.event_opened").zh
    for _ in range(2):  # sent twice
        answer = browser.post("/messages?state=failed", data={"delivery": "1"})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/messages?state=failed&done=delivery"
    with database.read() as connection:
        assert outbox.delivery(connection, 1).status is Status.PENDING
        assert len(audit_trail.list_entries(connection, what="delivery.replayed", limit=9)) == 1
    assert "delivery-1" not in browser.get("/messages").text
    assert "delivery-1" in browser.get("/messages?platform=pending").text


def test_a_message_that_failed_is_sent_again_once(browser: TestClient, database: Database) -> None:
    (number, _), *_ = _rows(browser.get("/messages?state=failed").text)
    foreign = browser.post("/messages", data={"notice": str(number)}, headers={"Origin": "https://example.org"})
    assert foreign.status_code == 403
    for _ in range(2):
        assert browser.post("/messages", data={"notice": str(number)}).status_code == 303
    with database.read() as connection:
        assert notice_store.get(connection, number).status == "pending"
        assert len(audit_trail.list_entries(connection, what="notice.replayed", limit=9)) == 1


@pytest.mark.parametrize("given", [{}, {"notice": "x"}, {"notice": "99999"}, {"delivery": "0"}, {"notice": "٣"}])
def test_what_is_no_message_is_refused(browser: TestClient, given: dict[str, str]) -> None:
    answer = browser.post("/messages", data=given)
    assert answer.status_code in {400, 404}
    assert "messages-error" in answer.text


def test_a_street_office_sees_and_sends_again_what_concerns_its_own_incidents(app: FastAPI, database: Database) -> None:
    _, my_notice = _told(database, STREET, text="南庄河面油膜")
    other, other_notice = _told(database, pages_site.GRID, text="石湾河面油膜")
    street = browser_of(app, STREET_OFFICE)
    page = street.get("/messages").text
    assert _rows(page) == [(my_notice, "failed")]
    assert "石湾河面油膜" not in page
    assert f"#{other}<" not in page
    assert say("messages_page.verdict_failed", count=1).zh in page
    assert street.post("/messages", data={"notice": str(other_notice)}).status_code == 404
    assert street.post("/messages", data={"notice": str(my_notice)}).status_code == 303
    with database.read() as connection:
        assert notice_store.get(connection, other_notice).status == "dead"
        assert notice_store.get(connection, my_notice).status == "pending"
        refused = connection.execute(
            sa.select(outbox.outbox.c.id).where(outbox.outbox.c.incident_id == other).limit(1)
        ).scalar_one()
    with database.write() as connection:
        connection.execute(
            sa.update(outbox.outbox).where(outbox.outbox.c.id == refused).values(status="refused", last_status=422)
        )
    assert f"delivery-{refused}" not in street.get("/messages").text
    assert street.post("/messages", data={"delivery": str(refused)}).status_code == 403


def test_a_long_list_shows_thirty_and_more_by_address(browser: TestClient, database: Database) -> None:
    for _ in range(33):
        _told(database, pages_site.GRID, status="cancelled")
    page = browser.get("/messages?state=cancelled").text
    assert len(_rows(page)) == 30
    more = re.search(r'href="([^"]+)" data-testid="messages-more"', page)
    assert more is not None
    assert len(_rows(browser.get(more[1].replace("&amp;", "&")).text)) == 33


def test_the_platform_is_shown_only_where_one_is_set_up(context: Context) -> None:
    page = browser_of(create_app(replace(context, outward=False)), pages_site.OFFICE).get("/messages").text
    assert "messages-platform" not in page


def test_where_nobody_can_be_reached_the_page_says_so_first(context: Context) -> None:
    bare = create_app(replace(context, notifications=None))
    page = browser_of(bare, pages_site.ADMINISTRATOR).get("/messages").text
    assert say("messages_page.verdict_nobody").zh in part(page, "messages-verdict")
    assert 'href="/people"' in part(page, "messages-verdict")


def test_messages_older_than_the_span_are_left_out(browser: TestClient, database: Database) -> None:
    _, number = _told(database, pages_site.GRID)
    with database.write() as connection:
        old = pages_site.now_ms() - 90 * DAY_MS
        connection.execute(sa.update(notice).where(notice.c.id == number).values(created_at_ms=old))
    assert (number, "failed") not in _rows(browser.get("/messages?state=failed").text)
    assert (number, "failed") in _rows(browser.get("/messages?state=failed&span=all").text)


def test_the_page_is_in_one_language(browser: TestClient) -> None:
    zh, en = browser.get("/messages").text, browser.get("/messages?lang=en").text
    assert say("messages_page.people").zh in zh
    assert say("messages_page.people").zh not in en
    assert say("messages_page.people").en in en
