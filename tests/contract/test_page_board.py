"""The dispatch board: what it shows of whom, and acting by its plain forms once, without overwriting others."""

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from governance.incidents.finding import Colour
from governance.incidents.model import Action, Assignment, EntryKind, Incident, Order, State
from governance.notify import store as notice_store
from governance.notify.message import Item, NoticeKind, NoticeRequest
from governance.notify.policy import NoticePolicy
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.database import Database
from infra.texts import Text, say
from tests import pages_site
from tests.page_browser import browser_of, current, part
from tests.pages_site import act_on_case, file_case, read_case

COMMUNITY = "chancheng/shiwan/qicha/1"
OFFICE = Actor(pages_site.OFFICE, Role.OFFICE)


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _case(database: Database, region: str, text: str = "岸边杂物", minutes: int = 1, reach: str = "") -> Incident:
    """A new report in a region."""
    return file_case(database, Place(region, reach), text, minutes_ago=minutes)


def _send(browser: TestClient, one: Incident, action: str, query: str = "", **fields: object):  # type: ignore[no-untyped-def]
    data = {"action": action, "version": one.version, **fields}
    return browser.post(f"/board?incident={one.id}{query}", data=data)


def test_a_case_stands_in_the_lane_of_its_region_and_the_column_of_its_next_step(
    browser: TestClient, database: Database
) -> None:
    waiting = _case(database, COMMUNITY)
    back = _case(database, COMMUNITY)
    act_on_case(database, back.id, Order(Action.ACCEPT))
    act_on_case(database, back.id, Order(Action.DISPATCH, assignment=Assignment(COMMUNITY)))
    act_on_case(database, back.id, Order(Action.RETURN, comment="不属本社区"), Actor("x", Role.ADMINISTRATOR))
    late = _case(database, COMMUNITY, minutes=10 * 24 * 60)
    page = current(browser, "/board")
    accept = part(page, "board-community-accept")
    assert f"board-case-{waiting.id}" in accept
    assert f"board-case-{late.id}" in accept
    assert f"board-case-{back.id}" in part(page, "board-community-dispatch")
    assert ">3<" in part(page, "board-count-community")
    assert "1" in part(page, "board-overdue-community")
    assert "1" in part(page, "board-returned-community")
    assert "board-overdue-grid" not in page
    assert 'class="limit over"' in part(page, f"board-case-{late.id}")


def test_the_address_narrows_the_board(browser: TestClient, database: Database) -> None:
    late = _case(database, "chancheng", minutes=10 * 24 * 60)
    fresh = _case(database, "chancheng", reach="wangjie")
    assert f"board-case-{fresh.id}" not in current(browser, "/board?level=grid")
    assert f"board-case-{fresh.id}" in current(browser, "/board?level=district")
    overdue = current(browser, "/board?overdue=1")
    assert f"board-case-{late.id}" in overdue
    assert f"board-case-{fresh.id}" not in overdue
    river = current(browser, f"/board?river={pages_site.RIVER}")
    assert f"board-case-{fresh.id}" not in river
    assert "board-case-2" in river
    assert f"board-case-{fresh.id}" in current(browser, "/board?river=no-such-river&level=%00&overdue=x")
    nothing = current(browser, f"/board?river={pages_site.RIVER}&level=district")
    assert "state-empty" in nothing
    assert "board-lanes" not in nothing


def test_who_answers_for_a_case_finds_it_among_their_own(app: FastAPI, database: Database) -> None:
    other = _case(database, pages_site.GRID, reach=pages_site.RIVER)
    mine = current(browser_of(app, pages_site.CHIEF), "/board?mine=1")
    assert "board-case-2" in mine
    assert f"board-case-{other.id}" not in mine


def test_nobody_sees_a_case_out_of_their_region(app: FastAPI, database: Database) -> None:
    elsewhere = _case(database, pages_site.NEXT_STREET, text="只给祖庙看的内容")
    worker = browser_of(app, pages_site.WORKER)
    page = current(worker, f"/board?incident={elsewhere.id}")
    assert f"board-case-{elsewhere.id}" not in page
    assert "只给祖庙看的内容" not in page
    assert "board-actions" not in page
    answer = _send(worker, elsewhere, "comment", comment="x")
    assert answer.status_code == 403
    assert "只给祖庙看的内容" not in answer.text
    stale = _send(worker, elsewhere, "accept", version=0)
    assert stale.status_code == 403  # and not what others did since
    assert len(read_case(database, elsewhere.id)[1]) == 1


def test_the_board_is_for_who_sees_incidents(app: FastAPI, database: Database) -> None:
    one = _case(database, pages_site.GRID)
    public = browser_of(app, pages_site.PUBLIC)
    assert public.get("/board").status_code == 403
    assert _send(public, one, "accept").status_code == 403
    auditor = browser_of(app, pages_site.AUDITOR)
    page = current(auditor, f"/board?incident={one.id}")
    assert "board-action-" not in page
    assert "board-closed-accept" in page
    assert _send(auditor, one, "accept").status_code == 403
    assert read_case(database, one.id)[0].state is State.REPORTED


def test_a_form_that_is_sent_twice_acts_once(browser: TestClient, database: Database) -> None:
    one = _case(database, pages_site.GRID)
    assert f"board-case-{one.id}" in part(current(browser, "/board"), "board-grid-accept")
    for _ in range(2):
        answer = _send(browser, one, "accept", query="&level=grid&lang=en")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/board?incident={one.id}&level=grid&lang=en&done=accept"
    assert [entry.what for entry in read_case(database, one.id)[1]] == [EntryKind.REPORTED, EntryKind.ACCEPTED]
    page = browser.get(answer.headers["location"]).text
    assert "board-toast" in page
    assert f"board-case-{one.id}" in part(page, "board-grid-dispatch")
    for _ in range(2):
        assert _send(browser, one, "comment", comment=" 船已到 ").status_code == 303
    assert [entry.comment for entry in read_case(database, one.id)[1]][2:] == ["船已到"]


def test_a_dispatch_goes_to_whom_the_form_says(browser: TestClient, database: Database) -> None:
    one = _case(database, pages_site.GRID, reach=pages_site.RIVER)
    accepted = act_on_case(database, one.id, Order(Action.ACCEPT))
    form = part(current(browser, f"/board?incident={one.id}"), "board-form-dispatch")
    assert f'value="{pages_site.GRID}" selected' in form
    assert "checked" in form
    answer = _send(
        browser, accepted, "dispatch", region=COMMUNITY, responsible="*", other=pages_site.CHIEF,
        department="water", joint=["environment"], comment="请一小时内到场",
    )  # fmt: skip
    assert answer.status_code == 303
    after = read_case(database, one.id)[0]
    assert (after.state, after.place.region, after.case.responsible) == (
        State.DISPATCHED,
        COMMUNITY,
        pages_site.CHIEF,
    )
    assert (after.case.department, after.case.joint) == ("water", ("environment",))


def test_what_somebody_else_did_meanwhile_is_named_and_the_input_stays(browser: TestClient, database: Database) -> None:
    one = _case(database, pages_site.GRID)
    seen = act_on_case(database, one.id, Order(Action.ACCEPT))
    other = Actor("何总河长（示例）", Role.GENERAL_CHIEF)
    act_on_case(database, one.id, Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID)), other)
    answer = _send(browser, seen, "dispatch", region=COMMUNITY, comment="我的<b>说明")
    assert answer.status_code == 412
    assert other.name in part(answer.text, "action-meanwhile")
    form = part(answer.text, "board-form-dispatch")
    assert "我的&lt;b&gt;说明" in form
    assert f'value="{COMMUNITY}" selected' in form
    assert read_case(database, one.id)[0].place.region == pages_site.GRID
    version = re.search(r'name="version" value="(\d+)"', form)
    assert version is not None
    again = browser.post(
        f"/board?incident={one.id}",
        data={"action": "dispatch", "version": version[1], "region": COMMUNITY, "comment": "我的说明"},
    )
    assert again.status_code == 303
    assert read_case(database, one.id)[0].place.region == COMMUNITY


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("return", {}, 409),
        ("dispatch", {"region": "no/such"}, 400),
        ("dispatch", {"department": "no such"}, 400),
        ("dispatch", {"responsible": "没有这个人"}, 409),
        ("dance", {}, 409),
        ("accept", {}, 409),
    ],
)
def test_what_is_refused_comes_back_with_the_reason_and_changes_nothing(
    browser: TestClient, database: Database, action: str, fields: dict[str, str], status: int
) -> None:
    one = _case(database, pages_site.GRID)
    act_on_case(database, one.id, Order(Action.ACCEPT))
    sent = act_on_case(database, one.id, Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID)))
    who = browser if action != "return" else browser_of(browser.app, pages_site.ADMINISTRATOR)  # type: ignore[arg-type]
    answer = _send(who, sent, action, **fields)
    assert answer.status_code == status
    assert "action-refused" in answer.text
    assert len(read_case(database, one.id)[1]) == 3


def test_a_form_of_another_site_is_refused(browser: TestClient, database: Database) -> None:
    one = _case(database, pages_site.GRID)
    data = {"action": "accept", "version": one.version}
    answer = browser.post(f"/board?incident={one.id}", data=data, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert read_case(database, one.id)[0].state is State.REPORTED


def test_who_cannot_be_reached_is_flagged_before_the_dispatch(browser: TestClient, database: Database) -> None:
    one = _case(database, pages_site.GRID, reach=pages_site.RIVER)
    act_on_case(database, one.id, Order(Action.ACCEPT))
    form = part(current(browser, f"/board?incident={one.id}"), "board-form-dispatch")
    by_name = dict(re.findall(r'name="responsible" value="([^"]+)"(.*?)</label>', form, re.S))
    assert "reach-none" in by_name[pages_site.WORKER]
    assert "reach-failed" in by_name[pages_site.CHIEF]


def test_the_page_says_who_is_told_next_and_whether_the_handler_has_read(
    app: FastAPI, browser: TestClient, database: Database
) -> None:
    one = _case(database, pages_site.GRID, reach=pages_site.RIVER)
    act_on_case(database, one.id, Order(Action.ACCEPT))
    act_on_case(database, one.id, Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID, pages_site.CHIEF)))
    now_ms = pages_site.now_ms()
    item = Item(one.id, NoticeKind.DISPATCHED, Colour.YELLOW, now_ms, Text("甲", "A"), one.title)
    with database.write() as connection:
        notice_store.enqueue(connection, [NoticeRequest("chief-qicha", "seen", item, now_ms)], now_ms, NoticePolicy())
    page = current(browser, f"/board?incident={one.id}")
    assert pages_site.CHIEF in part(page, "board-ahead-reminder")
    assert say("phase.start").zh in part(page, "board-ahead-overdue")
    assert 'class="mark waiting"' in part(page, f"board-case-{one.id}")
    assert 'class="mark' not in part(current(browser_of(app, pages_site.CHIEF), "/board"), f"board-case-{one.id}")


def test_the_board_is_in_one_language_and_can_be_fetched_in_parts(browser: TestClient) -> None:
    zh, en = current(browser, "/board?incident=2"), current(browser, "/board?incident=2&lang=en")
    assert say("board.phase_verify").zh in zh
    assert say("board.phase_verify").en not in zh
    assert say("board.phase_verify").en in en
    assert say("board.phase_verify").zh not in en
    part = browser.get("/board?incident=2", headers={"X-Fragments": "news,lanes,meanwhile"}).text
    assert part.count("data-fragment=") == 3
    cards = re.findall(r'data-rows="([^"]*)"', part)
    assert cards[0] == cards[1]
    assert "2:grid:handle" in cards[0].split()


@pytest.mark.parametrize("number", ["0", "-1", "99999", "2147483648", "99999999999999999999", "x", "٣"])
def test_a_number_that_is_none_shows_the_board_without_an_incident(browser: TestClient, number: str) -> None:
    answer = browser.get(f"/board?incident={number}")
    assert answer.status_code == 200
    assert "board-lanes" in answer.text
    assert "board-actions" not in answer.text
    refused = browser.post(f"/board?incident={number}", data={"action": "accept", "version": "1"})
    assert refused.status_code in {403, 404, 409}
