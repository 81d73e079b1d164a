"""On call: whom to call is for all who work, the calendar for who leads, planning for the office."""

import re
from datetime import date, timedelta

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.audit import trail as audit_trail
from governance.notify import oncall, person_contacts
from governance.notify.contacts import Channel
from governance.notify.oncall import ROTATION, SINGLE, Shift
from governance.notify.person_contacts import ContactDetails
from infra.database import Database
from infra.texts import say
from infra.times import DAY_MS, beijing_day
from tests import pages_site
from tests.page_browser import browser_of, part
from tests.pages_site import DUTY, HOUR, from_now, now_ms

FIRST, SECOND = "值班甲（示例）", "值班乙（示例）"


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.ADMINISTRATOR)


def _planned(database: Database) -> dict[int, Shift]:
    with database.read() as connection:
        return oncall.shifts_by_number(connection, now_ms() - 60 * DAY_MS, now_ms() + 500 * DAY_MS)


def _told(database: Database, what: str) -> int:
    with database.read() as connection:
        return len(audit_trail.list_entries(connection, what=what, limit=99))


def _was(page: str) -> str:
    found = re.search(r'name="was" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_whom_to_call_is_for_all_who_work_and_the_calendar_for_who_leads(app: FastAPI) -> None:
    worker = browser_of(app, pages_site.WORKER).get("/oncall").text
    assert FIRST in part(worker, "oncall-now")
    assert "oncall-calendar" not in worker
    assert "oncall-preview" not in worker
    chief = browser_of(app, pages_site.CHIEF).get("/oncall").text
    assert "oncall-calendar" in chief
    assert "oncall-add" not in chief
    assert "?shift=" not in chief
    assert browser_of(app, pages_site.PUBLIC).get("/oncall").status_code == 403


def test_only_who_reaches_the_whole_site_plans(app: FastAPI, database: Database) -> None:
    before = _planned(database)
    data = {"do": "add", "person": DUTY[1], "begins": from_now(HOUR), "until": from_now(2 * HOUR)}
    for name in (pages_site.CHIEF, pages_site.WORKER, pages_site.AUDITOR):
        assert browser_of(app, name).post("/oncall", data=data).status_code == 403
    foreign = browser_of(app, pages_site.ADMINISTRATOR).post(
        "/oncall", data=data, headers={"Origin": "https://example.org"}
    )
    assert foreign.status_code == 403
    assert _planned(database) == before


def test_the_number_is_for_who_works_on_incidents(app: FastAPI, database: Database) -> None:
    context = app.state.context
    phone = "0757-0000 0001"
    people = {"role": "office", "do": "import", "key": DUTY[0]}
    assert browser_of(app, pages_site.ADMINISTRATOR).post("/people", data=people).status_code == 303
    with database.write() as connection:
        details = ContactDetails(channels=(Channel("json://127.0.0.1:9/x"),), phone=phone)
        person_contacts.put(connection, FIRST, details, context.vault, by="test", now_ms=now_ms())
    context.notifications.changed()
    assert 'href="tel:0757-00000001"' in browser_of(app, pages_site.WORKER).get("/oncall").text
    auditor = browser_of(app, pages_site.AUDITOR).get("/oncall").text
    assert FIRST in auditor
    assert phone not in auditor


def test_days_on_which_nobody_is_on_call_are_marked(browser: TestClient) -> None:
    page = browser.get("/oncall").text
    days = re.findall(r'data-testid="oncall-day-([\d-]+)"( data-gap="1")?', page)
    assert len(days) == 28
    today = beijing_day(now_ms())
    gaps = [day for day, gap in days if gap]
    assert gaps  # the rotation of the site is planned for three weeks
    assert all(date.fromisoformat(day) >= today + timedelta(days=21) for day in gaps)
    assert "oncall-gaps" in page
    later = browser.get(f"/oncall?from={(today + timedelta(days=200)).isoformat()}").text
    assert later.count("data-gap") == 28
    for wrong in ("x", "9999-12-31", "2026-02-31", "0001-01-01"):
        assert browser.get(f"/oncall?from={wrong}").status_code == 200


def test_the_office_changes_who_is_on_call(browser: TestClient, database: Database) -> None:
    nobody = browser.post("/oncall", data={"do": "add", "begins": from_now(-HOUR), "until": from_now(HOUR)})
    assert nobody.status_code == 400
    assert say("notice.choose_person").zh in part(nobody.text, "oncall-error")
    assert from_now(HOUR)[:13] in nobody.text  # what was typed stays
    data = {"do": "add", "person": DUTY[1], "begins": from_now(-HOUR), "until": from_now(HOUR), "rank": "1"}
    for _ in range(2):  # sent twice
        answer = browser.post("/oncall?lang=en", data=data)
        assert answer.status_code == 303
    added = {n: s for n, s in _planned(database).items() if s.priority == SINGLE}
    assert len(added) == 1
    page = browser.get(answer.headers["location"]).text
    assert SECOND in part(page, "oncall-now")
    assert FIRST not in part(page, "oncall-now")
    assert pages_site.ADMINISTRATOR in part(page, "oncall-changes")
    (number,) = added
    form = browser.get(f"/oncall?shift={number}").text
    for _ in range(2):
        removed = browser.post(f"/oncall?shift={number}", data={"do": "remove", "was": _was(form)})
        assert removed.status_code == 303
    assert FIRST in part(browser.get("/oncall").text, "oncall-now")
    assert _told(database, "oncall.removed") == 1


def test_a_shift_that_somebody_changed_meanwhile_is_not_overwritten(browser: TestClient, database: Database) -> None:
    number, shift = next((n, s) for n, s in _planned(database).items() if s.starts_at_ms > now_ms())
    was = _was(browser.get(f"/oncall?shift={number}").text)
    later = {"do": "change", "person": shift.person, "begins": from_now(9 * DAY_MS), "until": from_now(10 * DAY_MS)}
    for _ in range(2):
        assert browser.post(f"/oncall?shift={number}", data={**later, "was": was, "rank": "2"}).status_code == 303
    stale = browser.post(f"/oncall?shift={number}", data={**later, "was": was, "rank": "3"})
    assert stale.status_code == 412
    assert say("oncall_page.meanwhile").zh in stale.text
    now = _planned(database)[number]
    assert (now.rank, now.priority) == (2, ROTATION)
    assert _told(database, "oncall.changed") == 1
    assert browser.post("/oncall?shift=99999", data={**later, "was": was}).status_code == 404


def test_two_people_swap_their_shifts(browser: TestClient, database: Database) -> None:
    with database.write() as connection:
        base = now_ms() + 25 * DAY_MS
        mine, theirs = Shift(DUTY[0], base, base + DAY_MS, 3), Shift(DUTY[1], base + DAY_MS, base + 2 * DAY_MS, 3)
        oncall.add(connection, [mine, theirs], by="test", now_ms=now_ms())
    found = {s: n for n, s in _planned(database).items()}
    one, two = found[mine], found[theirs]
    form = browser.get(f"/oncall?shift={one}").text
    other = re.search(rf'value="({two}:[^"]+)"', part(form, "oncall-swap-with"))
    assert other is not None
    for _ in range(2):
        data = {"do": "swap", "was": _was(form), "other": other[1]}
        assert browser.post(f"/oncall?shift={one}", data=data).status_code == 303
    after = _planned(database)
    assert (after[one].person, after[two].person) == (DUTY[1], DUTY[0])
    assert after[one].starts_at_ms == base
    assert _told(database, "oncall.swapped") == 1


def test_one_form_plans_weeks_in_turn_or_by_weekday(browser: TestClient, database: Database) -> None:
    first = beijing_day(now_ms()) + timedelta(days=100)
    data = {"do": "plan", "kind": "turns", "days": "7", "handover": "08:30", "first": first.isoformat(), "weeks": "4"}
    assert "oncall-error" in browser.post("/oncall", data=data).text
    full = {**data, "turn0": DUTY[0], "turn2": DUTY[1]}
    for _ in range(2):
        assert browser.post("/oncall", data=full).status_code == 303
    turns = [s for s in _planned(database).values() if s.starts_at_ms > now_ms() + 99 * DAY_MS]
    assert [s.person for s in turns] == [DUTY[0], DUTY[1]] * 2
    assert all(s.priority == ROTATION for s in turns)
    fixed = {**data, "kind": "week", "weeks": "1", "day0": DUTY[0], "day1": DUTY[0], "day5": DUTY[1]}
    assert browser.post("/oncall", data=fixed).status_code == 303
    days = browser.get(f"/oncall?from={first.isoformat()}").text
    assert days.count("data-gap") > 0
    turns = [s for s in _planned(database).values() if s.starts_at_ms > now_ms() + 99 * DAY_MS]
    assert sum(s.ends_at_ms - s.starts_at_ms for s in turns) == (3 + 21) * DAY_MS  # a week of it, the others stay
    for wrong in ({"weeks": "0"}, {"weeks": "99"}, {"first": ""}, {"handover": "25:00"}, {"rank": "x"}):
        refused = browser.post("/oncall", data={**full, **wrong})
        assert refused.status_code == 400
        assert "oncall-form-plan" in refused.text
    strange = browser.post("/oncall", data={**full, "turn0": "nobody"})
    assert strange.status_code == 404


def test_the_preview_tells_who_is_called_now_and_at_night(browser: TestClient) -> None:
    page = browser.get(f"/oncall?river={pages_site.RIVER}").text
    red = part(page, "oncall-preview-red-1")
    assert pages_site.CHIEF in red
    assert FIRST in red
    assert pages_site.CHIEF in part(page, "oncall-preview-yellow-1")
    assert "02:00" in red
    assert "02:00" not in part(page, "oncall-preview-yellow-1")  # held until the morning
    assert "127.0.0.1" not in page
    assert browser.get("/oncall?river=no-such").status_code == 200


def test_without_a_plan_the_form_stands_there_and_no_command_line(
    tmp_path_factory: pytest.TempPathFactory, database: Database, app: FastAPI
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    empty = pages_site.seed(folder)
    with empty.write() as connection:
        for number in oncall.shifts_by_number(connection, 0, now_ms() + 90 * DAY_MS):
            oncall.change(connection, {number: None}, by="test", now_ms=now_ms(), what="oncall.removed")
    site = create_app(pages_site.context(empty, folder, token=None))
    page = browser_of(site, pages_site.ADMINISTRATOR).get("/oncall").text
    assert "oncall-form-plan" in page
    assert "oncall-empty" in page
    assert "riverchief " not in page
    assert "state-empty" in browser_of(site, pages_site.CHIEF).get("/oncall").text
    empty.close()


def test_the_page_is_in_one_language(browser: TestClient) -> None:
    zh, en = browser.get("/oncall?form=plan").text, browser.get("/oncall?form=plan&lang=en").text
    assert say("oncall_page.calendar").zh in zh
    assert say("oncall_page.calendar").zh not in en
    assert say("oncall_page.calendar").en in en
