"""Upkeep: which stations need somebody, visits, checks judged before they are kept, mutes and photos by plain forms."""

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from infra.texts import say
from infra.times import beijing
from ingest.storage import maintenance as store
from sensors.maintenance import Check, Mute, Photo, Visit
from tests import pages_site
from tests.page_browser import browser_of, part
from tests.pages_site import HOUR, MINUTE, from_now, now_ms
from tests.says import shows

UP, MIDDLE, DOWN = "qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3"
BOUND = "区外工程师（示例）"


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    made = create_app(pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None))
    with database.write() as connection:
        regions = made.state.keeper.regions()
        people_store.add(
            connection, BOUND, Role.REVIEWER, region=pages_site.NEXT_STREET, by="test", now_ms=now_ms(), regions=regions
        )
    return made


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.ENGINEER)


def page_of(browser: TestClient, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def drawn(page: str) -> str:
    found = re.search(r'name="drawn" value="(\d+)"', page)
    assert found
    return found[1]


def visits(database: Database, key: str) -> list[Visit]:
    with database.read() as connection:
        return [one for _, one in store.visits(connection, key)]


def checks(database: Database, key: str) -> list[Check]:
    with database.read() as connection:
        return [one for _, one in store.checks(connection, key)]


def mutes(database: Database, key: str) -> list[Mute]:
    with database.read() as connection:
        return [one for _, one in store.mutes(connection, key)]


def photos(database: Database, key: str) -> list[Photo]:
    with database.read() as connection:
        return store.photos(connection, key)


def listed(page: str) -> dict[str, list[str]]:
    return {
        key: reasons.split()
        for key, reasons in re.findall(r'data-testid="maintenance-([\w-]+)" data-reasons="([^"]*)"', page)
    }


# -- the list ----------------------------------------------------------------------------------------------------------


def test_only_stations_that_need_somebody_are_listed_with_the_reason(browser: TestClient) -> None:
    page = page_of(browser, "/maintenance")
    found = listed(page)
    assert found[DOWN] == ["due"]
    assert found["pynd-1"] == ["offline", "due"]
    assert list(found).index("pynd-1") < list(found).index(DOWN)  # silence is more pressing than a date
    assert "fj-chengqu-1" not in found
    every = listed(page_of(browser, "/maintenance?show=all"))
    assert len(every) > len(found)
    assert all(not reasons for key, reasons in every.items() if key not in found)


def test_the_address_narrows_the_list_by_reason_river_and_name(browser: TestClient) -> None:
    offline = listed(page_of(browser, "/maintenance?reason=offline"))
    assert offline
    assert all("offline" in reasons for reasons in offline.values())
    assert set(listed(page_of(browser, f"/maintenance?river={pages_site.RIVER}"))) <= {UP, MIDDLE, DOWN}
    assert set(listed(page_of(browser, "/maintenance?q=huanhu-3"))) == {DOWN}
    assert shows(page_of(browser, "/maintenance?q=nowhere"), "care_page.none_found")


def test_who_is_bound_to_a_street_sees_its_stations_alone(app: FastAPI) -> None:
    assert set(listed(page_of(browser_of(app, BOUND), "/maintenance?show=all"))) == {DOWN} | {
        s.key for s in app.state.registries.recent().stations if s.region.startswith(pages_site.NEXT_STREET)
    }
    page = page_of(browser_of(app, BOUND), f"/maintenance/{UP}")
    assert "care-elsewhere" in page
    assert "care-actions" not in page
    refused = browser_of(app, BOUND).post(f"/maintenance/{UP}", data={"do": "begin"})
    assert refused.status_code == 403


def test_the_route_of_the_day_leads_past_each_station_that_needs_somebody(browser: TestClient, app: FastAPI) -> None:
    page = page_of(browser, "/route")
    stops = re.findall(r'data-testid="stop-([^"]+)"', page)
    assert set(stops) == set(listed(page_of(browser, "/maintenance")))
    assert len(stops) == len(set(stops))
    chosen = page_of(browser, f"/route?at={UP}&at={DOWN}&at={MIDDLE}&first={DOWN}")
    assert re.findall(r'data-testid="stop-([^"]+)"', chosen) == [DOWN, MIDDLE, UP]
    assert "route-stops" not in page_of(browser, "/route?at=nowhere")
    bound = re.findall(r'data-testid="stop-([^"]+)"', page_of(browser_of(app, BOUND), "/route"))
    assert DOWN in bound
    assert UP not in bound


@pytest.mark.parametrize("name", [pages_site.CHIEF, pages_site.PUBLIC, pages_site.WORKER])
def test_who_may_not_record_a_visit_has_no_page_for_it(app: FastAPI, name: str) -> None:
    browser = browser_of(app, name)
    for path in ("/maintenance", "/route", f"/maintenance/{DOWN}", f"/maintenance/{DOWN}/verdict"):
        refused = browser.get(path)
        assert refused.status_code == 403, path
        assert ("verdict" in path) or say("maintenance_page.work").zh in refused.text, path
    assert browser.post(f"/maintenance/{DOWN}", data={"do": "begin"}).status_code == 403
    assert 'data-path="/maintenance"' not in browser.get("/rivers").text


# -- visits ------------------------------------------------------------------------------------------------------------


def test_a_visit_mutes_the_chosen_sensors_until_it_ends_and_says_what_was_done(
    browser: TestClient, database: Database
) -> None:
    here = f"/maintenance/{MIDDLE}"
    form = page_of(browser, f"{here}?do=begin")
    begin = {"do": "begin", "drawn": drawn(form), "sensors": ["nh3n"]}
    for _ in range(2):  # the second is the same form again
        assert browser.post(here, data=begin).status_code == 303
    (visit,) = visits(database, MIDDLE)
    assert (visit.parameters, visit.by, visit.until_ms) == (("nh3n",), pages_site.ENGINEER, None)
    page = page_of(browser, here)
    assert shows(part(page, "care-working"), "maintenance_page.muted", sensors="氨氮")
    assert "care-begin" not in page
    assert listed(page_of(browser, "/maintenance")).keys() >= {MIDDLE}
    assert next(iter(listed(page_of(browser, "/maintenance")))) == MIDDLE  # where somebody works comes first
    found = re.search(r'name="number" value="(\d+)"', page_of(browser, f"{here}?do=end"))
    assert found
    end = {"do": "end", "number": found[1], "done": ["cleaned"], "note": "探头上有藻"}
    for _ in range(2):
        assert browser.post(here, data=end).status_code == 303
    (visit,) = visits(database, MIDDLE)
    assert visit.until_ms is not None
    assert visit.note == f"{say('maintenance_page.did_cleaned').zh}；探头上有藻"
    page = page_of(browser, here)
    assert "care-working" not in page
    assert "探头上有藻" in part(page, "care-visits")


def test_a_second_visit_of_somebody_else_is_refused_in_words(app: FastAPI, database: Database) -> None:
    here = "/maintenance/dph-shiwan-1"
    assert browser_of(app, pages_site.ENGINEER).post(here, data={"do": "begin"}).status_code == 303
    refused = browser_of(app, pages_site.ADMINISTRATOR).post(here, data={"do": "begin"})
    assert refused.status_code == 409
    assert "care-error" in refused.text
    assert len(visits(database, "dph-shiwan-1")) == 1


def test_a_visit_recorded_later_needs_both_times_and_shows_what_it_changed(
    browser: TestClient, database: Database
) -> None:
    here = f"/maintenance/{UP}"
    record = {"do": "record", "sensors": ["do"], "since": from_now(-3 * HOUR), "done": ["calibrated"], "note": "示例甲"}
    refused = browser.post(here, data=record)
    assert refused.status_code == 422
    assert "care-wrong-until" in refused.text
    assert "示例甲" in refused.text
    assert visits(database, UP) == []
    record["until"] = from_now(-3 * HOUR + 20 * MINUTE)
    for _ in range(2):
        assert browser.post(here, data=record).status_code == 303
    assert len(visits(database, UP)) == 1
    shown = part(page_of(browser, here), "care-visits")
    assert re.search(r"6\.2\d mg/L → 6\.2\d mg/L（[+-]0\.0", shown)
    assert "氨氮" not in shown


def test_who_is_nobody_by_name_gives_a_name(app: FastAPI, database: Database) -> None:
    key = max({one.key for one in app.state.registries.recent().stations} - {UP, MIDDLE, DOWN, "dph-shiwan-1"})
    here = f"/maintenance/{key}"
    refused = browser_of(app, "").post(here, data={"do": "begin"})
    assert refused.status_code == 409
    assert shows(refused.text, "maintenance_page.whose")
    assert browser_of(app, "").post(here, data={"do": "begin", "name": "来客（示例）"}).status_code == 303
    (visit,) = visits(database, key)
    assert visit.by == "来客（示例）"


# -- checks ------------------------------------------------------------------------------------------------------------


def test_a_check_says_before_it_is_kept_whether_it_passes_and_one_that_failed_is_due_at_once(
    browser: TestClient, database: Database
) -> None:
    here = f"/maintenance/{DOWN}"
    before = page_of(browser, f"{here}?do=check&parameter=do")
    assert 'data-due="late"' in part(before, "care-due-do")
    assert shows(part(before, "care-due-do"), "maintenance_page.now")
    form = {
        "do": "check",
        "drawn": drawn(before),
        "parameter": "do",
        "kind": "five",
        "standard": "8",
        "reading": "8.25",
    }
    passed = browser.post(here, data={**form, "seen": ""})
    assert passed.status_code == 200
    assert 'class="care-verdict passed"' in passed.text
    assert shows(passed.text, "care_page.next_check", day=beijing(now_ms() + 7 * 24 * HOUR, "%m-%d"))
    assert checks(database, DOWN) == []
    form["reading"] = "8.5"
    seen = re.search(r'name="seen" value="(\w+)"', passed.text)
    assert seen
    failed = browser.post(here, data={**form, "seen": seen[1]})  # another reading than was judged: judged anew
    assert 'class="care-verdict failed"' in failed.text
    assert shows(failed.text, "care_page.failed_next")
    assert checks(database, DOWN) == []
    seen = re.search(r'name="seen" value="(\w+)"', failed.text)
    assert seen
    for _ in range(2):
        assert browser.post(here, data={**form, "seen": seen[1]}).status_code == 303
    (kept,) = checks(database, DOWN)
    assert (kept.standard, kept.reading, kept.by) == (8.0, 8.5, pages_site.ENGINEER)
    page = page_of(browser, here)
    assert 'data-due="wrong"' in part(page, "care-due-do")
    assert listed(page_of(browser, "/maintenance?reason=drift")).keys() == {DOWN}
    number = re.search(r'data-testid="care-check-(\d+)"', page)
    assert number
    assert browser.post(here, data={"do": "void", "number": number[1]}).status_code == 303
    page = page_of(browser, here)
    assert 'class="void"' in part(page, f"care-check-{number[1]}")
    assert shows(part(page, "care-due-do"), "maintenance_page.now")


def test_the_verdict_while_typing_is_that_of_the_form(browser: TestClient) -> None:
    asked = {"parameter": "do", "kind": "five", "standard": "8", "reading": "8.25"}
    answer = browser.get(f"/maintenance/{DOWN}/verdict", params=asked)
    assert answer.json()["passed"] is True
    assert shows(answer.json()["text"], "maintenance_page.verdict", error="+0.250 mg/L", most="0.300 mg/L")
    adjusted = browser.get(f"/maintenance/{DOWN}/verdict", params={**asked, "reading": "8.5", "after": "8,01"})
    assert adjusted.json()["passed"] is True  # left right
    half = browser.get(f"/maintenance/{DOWN}/verdict", params={"parameter": "do", "kind": "five", "standard": "8"})
    assert half.json() == {"text": "", "passed": None, "next": "", "mark": ""}
    drift = browser.get(f"/maintenance/{DOWN}/verdict", params={**asked, "kind": "zero_drift"})
    assert drift.json()["passed"] is None
    assert drift.json()["text"]


@pytest.mark.parametrize(("name", "text"), [("standard", ""), ("reading", "x"), ("parameter", "tp9"), ("kind", "x")])
def test_a_bad_check_is_refused_beside_its_field(browser: TestClient, database: Database, name: str, text: str) -> None:
    form = {"do": "check", "parameter": "do", "kind": "five", "standard": "8", "reading": "8.1", "lot": "批甲"}
    kept = checks(database, DOWN)
    answer = browser.post(f"/maintenance/{DOWN}", data={**form, name: text})
    assert answer.status_code == 422
    assert f"care-wrong-{name}" in answer.text
    assert 'value="批甲"' in answer.text
    assert checks(database, DOWN) == kept


# -- mutes, photos -----------------------------------------------------------------------------------------------------


def test_planned_work_mutes_a_station_until_it_is_ended(browser: TestClient, database: Database) -> None:
    here = f"/maintenance/{UP}"
    form = {"do": "mute", "drawn": drawn(page_of(browser, f"{here}?do=mute")), "until": from_now(3 * HOUR)}
    assert browser.post(here, data=form).status_code == 422  # without a reason
    assert mutes(database, UP) == []
    for _ in range(2):
        assert browser.post(here, data={**form, "reason": "清淤（示例）"}).status_code == 303
    (mute,) = mutes(database, UP)
    assert (mute.reason, mute.by) == ("清淤（示例）", pages_site.ENGINEER)
    page = page_of(browser, here)
    assert "清淤（示例）" in part(page, "care-mutes")
    number = re.search(r'data-testid="care-mute-(\d+)"', page)
    assert number
    for _ in range(2):
        assert browser.post(here, data={"do": "unmute", "number": number[1]}).status_code == 303
    assert mutes(database, UP)[0].until_ms <= now_ms()
    assert "care-mute-" not in page_of(browser, here)
    too_long = browser.post(here, data={**form, "drawn": "", "until": from_now(100 * 24 * HOUR), "reason": "x"})
    assert (too_long.status_code, "care-error" in too_long.text) == (400, True)


def test_a_photo_of_the_station_is_shown_and_what_is_no_photo_is_refused(
    browser: TestClient, database: Database
) -> None:
    here = f"/maintenance/{UP}"
    for _ in range(2):
        sent = browser.post(here, data={"do": "photo", "note": "桥头"}, files={"photo": ("a.png", pages_site.PHOTO)})
        assert sent.status_code == 303
    (photo,) = photos(database, UP)
    assert photo.note == "桥头"
    assert f"/api/v1/photos/{photo.sha256}" in part(page_of(browser, here), "care-photos")
    for data in (b"text", b"\xff\xd8\xff" + bytes(1_100_000)):
        refused = browser.post(here, data={"do": "photo"}, files={"photo": ("a.jpg", data)})
        assert refused.status_code == 400
        assert "care-error" in refused.text
    assert browser.post(here, data={"do": "photo"}).status_code == 422
    assert len(photos(database, UP)) == 1


def test_what_is_unknown_or_comes_from_elsewhere_is_refused(browser: TestClient) -> None:
    assert browser.get("/maintenance/nowhere").status_code == 404
    assert browser.post(f"/maintenance/{UP}", data={"do": "explode"}).status_code == 400
    foreign = browser.post(f"/maintenance/{UP}", data={"do": "begin"}, headers={"Origin": "https://elsewhere.example"})
    assert foreign.status_code == 403
    english = page_of(browser, f"/maintenance/{UP}?lang=en")
    assert say("care_page.due").en in english
    assert say("care_page.due").zh not in english
