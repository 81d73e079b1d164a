"""What a glance at a page must show in a browser: whole titles, running times, words that do not lie on each other."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from governance.incidents.finding import Colour
from governance.incidents.model import Action, Assignment, Order
from governance.organisation.regions import Place
from governance.organisation.roles import Department
from governance.tables import incident
from infra.texts import say
from tests import pages_site
from tests.browser import DESK, PHONE, chromium, seeded, served, signed_in
from tests.pages_site import HOUR, MINUTE, OFFICE, RIVER, STATION, now_ms

pytestmark = pytest.mark.browser

NAME = "奇槎涌环湖花园段上游 氨氮8.40（劣Ⅴ类，限值2.0）"
WALL = ViewportSize(width=1920, height=1080)
CUT = "e => [e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth, parseFloat(getComputedStyle(e).fontSize)]"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("looks")) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def opened(browser: Browser, size: ViewportSize) -> Page:
    return browser.new_context(viewport=size).new_page()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_wall_shows_the_titles_of_its_incidents_whole(site: str, browser: Browser, language: str) -> None:
    page = opened(browser, WALL)
    page.goto(f"{site}/wall?lang={language}")
    titles = page.locator("#urgent li b")
    assert titles.count() == 2
    for one in (*titles.all(), page.locator("#message")):
        below, beside, line = one.evaluate(CUT)
        assert (below < line, beside <= 2) == (True, True), (one.inner_text(), below, beside)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_wall_has_room_for_three_cases_that_are_overdue(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser, language: str
) -> None:
    folder = tmp_path_factory.mktemp("overdue")
    database = pages_site.seed(folder)
    for colour in (Colour.RED, Colour.RED, Colour.ORANGE):
        place, text = Place(pages_site.GRID, RIVER), "桥下有大片漂浮垃圾和油膜，约二百平方米，仍在扩大"
        made = pages_site.file_case(database, place, text, colour=colour, minutes_ago=4 * 1440)
        pages_site.act_on_case(database, made.id, Order(Action.ACCEPT))
        sent = Order(Action.DISPATCH, assignment=Assignment(pages_site.GRID, pages_site.CHIEF, Department.WATER))
        pages_site.act_on_case(database, made.id, sent)
    with database.write() as connection:
        connection.execute(sa.update(incident).values(due_ms=now_ms() - 30 * HOUR))
    database.close()
    with served(folder) as url:
        page = opened(browser, WALL)
        page.goto(f"{url}/wall?lang={language}")
        expect(page.locator("#urgent em.over")).to_have_count(3)
        floor = page.locator("#urgent").evaluate("e => e.getBoundingClientRect().bottom")
        for row in page.locator("#urgent li").all():
            for name in ("b", "p", "em"):
                box = row.locator(name).bounding_box()
                assert box is not None
                assert box["y"] + box["height"] <= floor, (name, row.inner_text())
                assert box["x"] + box["width"] <= 1920
            chip, beside = row.locator("em").bounding_box(), row.locator("p").bounding_box()
            assert chip is not None
            assert beside is not None
            assert beside["x"] + beside["width"] <= chip["x"], row.inner_text()
            assert chip["height"] < 60, "in one line"


def test_the_time_left_goes_on_while_nothing_happens(site: str, browser: Browser) -> None:
    page = opened(browser, WALL)
    page.clock.install()
    page.goto(f"{site}/wall")
    expect(page.locator("#urgent li").first).to_be_visible()
    with page.expect_request(lambda one: "urgent" in one.headers.get("x-fragments", "")) as asked:
        page.clock.run_for(62_000)
    assert {"urgent", "figures"} <= set(asked.value.headers["x-fragments"].split(","))


@pytest.mark.parametrize(
    ("size", "begun"), [(DESK, (96 * HOUR, 23 * HOUR, 20 * MINUTE, 10 * MINUTE)), (PHONE, (96 * HOUR, 10 * MINUTE))]
)
def test_the_names_of_incidents_below_a_chart_do_not_lie_on_each_other(
    site: str, browser: Browser, size: ViewportSize, begun: tuple[int, ...]
) -> None:
    now = now_ms()

    def answer(route: Route) -> None:
        found: dict[str, Any] = route.fetch().json()
        found["happened"] = [
            {"kind": "incident", "since_ms": now - ago, "until_ms": None, "text": NAME, "href": "/incidents/1"}
            | {"colour": "red", "sign": "红"}
            for ago in begun
        ]
        route.fulfill(body=json.dumps(found), content_type="application/json")

    page = opened(browser, size)
    page.route(f"**/stations/{STATION}/chart**", answer)
    page.goto(f"{site}/stations/{STATION}")
    row = page.get_by_test_id("series-row-incident")
    expect(row).to_be_visible()
    words = [one for one in row.locator("text:not(.flag-sign)").all() if one.text_content()]
    boxes = sorted((box["x"], box["x"] + box["width"]) for one in words if (box := one.bounding_box()))
    assert all(before[1] <= after[0] for before, after in pairwise(boxes)), boxes
    assert all(left >= 0 and right <= size["width"] for left, right in boxes), boxes
    assert row.locator("a").count() == len(begun)


def test_the_days_of_a_river_begin_with_the_newest_on_a_phone(site: str, browser: Browser) -> None:
    page = opened(browser, PHONE)
    page.goto(f"{site}/rivers/{RIVER}")
    days = page.get_by_test_id("river-recorded").locator("td")
    box = days.last.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE["width"]


def test_on_a_phone_what_was_done_is_said_in_sight_and_clear_of_the_buttons(site: str, browser: Browser) -> None:
    page = opened(browser, PHONE)
    signed_in(page.context, OFFICE, site)
    page.goto(f"{site}/incidents/1")
    page.get_by_test_id("case-action-accept").click()
    said = page.get_by_test_id("case-toast")
    expect(said).to_contain_text(say("action.accept").zh)
    expect(said).to_be_in_viewport(ratio=1)
    over, bar = said.bounding_box(), page.get_by_test_id("case-actions").bounding_box()
    assert over is not None
    assert bar is not None
    assert over["y"] + over["height"] <= bar["y"]
    page.get_by_test_id("case-action-dispatch").locator("summary").first.click()
    over, send = said.bounding_box(), page.get_by_test_id("case-send-dispatch").bounding_box()
    assert over is not None
    assert send is not None
    assert over["y"] + over["height"] <= send["y"] or over["y"] >= send["y"] + send["height"]
    page.keyboard.press("Escape")
    page.locator("#way").evaluate("e => (e.open = true)")
    expect(page.get_by_test_id("case-next")).to_contain_text(OFFICE)


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_the_button_of_an_open_form_covers_what_scrolls_below_it(
    site: str, browser: Browser, size: ViewportSize
) -> None:
    """A form that is longer than its sheet: its button stays, and no field is half seen beside it."""
    page = opened(browser, size)
    signed_in(page.context, OFFICE, site)
    page.request.post(f"{site}/api/v1/incidents/1/actions", data={"action": "accept"})  # the second time it is refused
    page.goto(f"{site}/incidents/1?act=dispatch")
    button = page.get_by_test_id("case-send-dispatch")
    expect(button).to_be_visible()
    sheet, own = page.get_by_test_id("case-form-dispatch").bounding_box(), button.bounding_box()
    assert sheet is not None
    assert own is not None
    assert own["width"] >= sheet["width"] - 60
    seen = button.evaluate(
        """e => { const { left, right, bottom } = e.getBoundingClientRect(), form = e.form.getBoundingClientRect();
          return [[form.left + 24, bottom - 8], [right - 4, bottom - 8]].map(([x, y]) =>
            document.elementFromPoint(x, y) === e) }"""
    )
    assert seen == [True, True]
