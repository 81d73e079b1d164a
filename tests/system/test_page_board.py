"""The dispatch board in a browser: it holds still under the cursor, and goes by keys alone."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests import pages_site
from tests.browser import new_page, seeded
from tests.rig import eventually

STREET = "chancheng/shiwan"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("board")) as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    with new_page() as found:
        yield found


def test_a_new_case_waits_until_it_is_wanted_and_nothing_typed_is_lost(site: str, page: Page) -> None:
    page.goto(f"{site}/board?incident=2&act=comment")
    words = page.get_by_test_id("board-form-comment").locator("textarea")
    expect(words).to_be_focused()
    words.fill("船已到")
    before = page.locator(".case").count()
    report = {"text": "桥下浮油", "region": pages_site.GRID}
    assert httpx.post(f"{site}/api/v1/incidents", json=report).status_code == 201
    show = page.get_by_test_id("wait-show")
    expect(show).to_be_visible()
    expect(page.locator(".case")).to_have_count(before)
    show.click()
    expect(page.locator(".case")).to_have_count(before + 1)
    expect(show).to_have_count(0)
    expect(words).to_have_value("船已到")


def test_a_case_is_found_and_remarked_upon_by_keys_alone(site: str, page: Page) -> None:
    page.goto(f"{site}/board?level=grid")
    page.keyboard.press("j")
    expect(page.locator(".case").first).to_be_focused()
    page.keyboard.press("c")
    expect(page.get_by_test_id("board-form-comment").locator("textarea")).to_be_focused()
    page.keyboard.type("按键备注")
    for key in ("Tab", "Tab", "Enter"):  # past the name, which an open site asks for
        page.keyboard.press(key)
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    expect(page.locator(".case.on")).to_be_focused()
    expect(page.get_by_test_id("board-sheet")).to_contain_text("按键备注")


def test_a_card_dropped_on_a_level_opens_its_dispatch_form_and_sends_nothing(site: str, page: Page) -> None:
    report = {"text": "岸边油桶", "region": pages_site.GRID}
    number = httpx.post(f"{site}/api/v1/incidents", json=report).json()["incident"]["id"]
    incident = f"{site}/api/v1/incidents/{number}"
    eventually("the picture has it", lambda: f"board-case-{number}" in httpx.get(f"{site}/board").text)
    page.goto(f"{site}/board")
    card = page.get_by_test_id(f"board-case-{number}")
    note, street = page.get_by_test_id("board-drag-note"), page.get_by_test_id("board-lane-street")

    def hold_over_the_street() -> None:
        card.scroll_into_view_if_needed()
        card.hover()
        page.mouse.down()
        street.locator("th").hover()
        street.locator("th").hover()

    hold_over_the_street()
    expect(note).to_contain_text("受理")
    expect(street).to_have_class(re.compile("refuses-it"))
    page.mouse.up()
    expect(page).to_have_url(f"{site}/board")

    assert httpx.post(f"{incident}/actions", json={"action": "accept"}).status_code == 200
    page.get_by_test_id("wait-show").click()
    expect(page.get_by_test_id("board-grid-dispatch").get_by_test_id(f"board-case-{number}")).to_be_visible()
    hold_over_the_street()
    expect(street).to_have_class(re.compile("takes"))
    page.mouse.up()
    form = page.get_by_test_id("board-form-dispatch")
    expect(form.locator('select[name="region"]')).to_have_value(STREET)
    assert httpx.get(incident).json()["incident"]["state"] == "accepted"

    somebody = form.locator(".candidate:has(input:not([value=''], [value='*'])) b").first
    name = somebody.inner_text()
    card.drag_to(somebody)
    expect(form.locator("input:checked")).to_have_value(name)
    assert httpx.get(incident).json()["incident"]["state"] == "accepted"
    form.get_by_test_id("board-send-dispatch").click()
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    assert httpx.get(incident).json()["incident"]["state"] == "dispatched"


def test_a_phone_shows_one_lane_without_scrolling_sideways(site: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site}/board")
    expect(page.locator("tr.lane:visible")).to_have_count(1)
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.goto(f"{site}/board?level=grid&incident=2")
    expect(page.get_by_test_id("board-actions")).to_be_visible()
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
