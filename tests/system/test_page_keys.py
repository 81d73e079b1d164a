"""Every page by keys alone, and by ear: the keys of the frame, where the focus is, what is announced."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests import pages_site
from tests.browser import DESK, chromium, seeded, signed_in

FOCUSED = "document.activeElement !== document.body && document.activeElement.isConnected"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("keys")) as url:
        yield url


@pytest.fixture(scope="module")
def context(site: str) -> Iterator[BrowserContext]:
    with chromium() as browser:
        yield signed_in(browser.new_context(viewport=DESK), pages_site.OFFICE, site)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    found = context.new_page()
    yield found
    found.close()


def _report(site: str, text: str, colour: str) -> None:
    report = {"text": text, "region": pages_site.GRID, "colour": colour}
    assert httpx.post(f"{site}/api/v1/incidents", json=report).status_code == 201


def test_the_keys_of_a_page_are_listed_and_can_be_switched_off(site: str, page: Page) -> None:
    page.goto(f"{site}/registry")
    page.keyboard.press("?")
    help_ = page.get_by_test_id("keys-help")
    expect(help_).to_be_visible()
    assert help_.locator("kbd").all_text_contents() == ["/", "g", "m", "g", "i", "j", "k", "Enter", "?", "Esc"]
    page.get_by_test_id("keys-on").uncheck()
    page.keyboard.press("Escape")
    expect(help_).to_have_count(0)
    assert page.evaluate(FOCUSED)
    page.keyboard.press("/")
    expect(page.locator("[data-key-search]")).not_to_be_focused()
    page.locator("[data-keys-help]").click()
    page.get_by_test_id("keys-on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("[data-key-search]")).to_be_focused()
    page.keyboard.type("gm?")
    expect(page.locator("[data-key-search]")).to_have_value("gm?")
    expect(help_).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("[data-key-search]")).not_to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_test_id("registry-row").nth(1).locator("a").first).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site}/registry/stations/dph-shiwan-1")


def test_the_focus_is_kept_when_a_block_is_replaced_and_after_an_action(site: str, page: Page) -> None:
    page.goto(f"{site}/board?incident=2")
    _report(site, "桥下浮油", "yellow")
    show = page.get_by_test_id("wait-show")
    expect(show).to_be_visible()
    show.focus()
    page.keyboard.press("Enter")
    expect(show).to_have_count(0)
    assert page.evaluate(FOCUSED)
    page.keyboard.press("c")
    page.keyboard.type("按键备注")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    page.wait_for_function(FOCUSED)
    expect(page.get_by_test_id("board-toast").get_by_role("status")).not_to_be_empty()


def test_new_incidents_are_announced_red_ones_at_once_and_once_a_minute_at_most(site: str, page: Page) -> None:
    page.clock.install()
    page.goto(f"{site}/board")
    marks = page.locator("[data-testid=wait-show]")
    _report(site, "河面油膜", "red")
    assertive, polite = page.get_by_test_id("heard-assertive"), page.get_by_test_id("heard-polite")
    expect(marks).to_be_visible()
    page.clock.run_for(1000)
    expect(assertive).to_contain_text("河面油膜")
    _report(site, "岸边杂物", "yellow")
    _report(site, "漂浮垃圾", "yellow")
    expect(page.get_by_test_id("board-levels").locator("b").last).to_have_text("5")
    expect(polite).to_be_empty()
    page.clock.run_for(61_000)
    expect(polite).not_to_be_empty()


def test_the_theme_follows_the_system_until_one_is_chosen(site: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{site}/ledger")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert dark != light
    page.get_by_test_id("frame-account").locator("summary").click()
    page.get_by_test_id("frame-theme").locator("[value=dark]").click()
    page.wait_for_function(f"{ground} === '{dark}'")


def test_the_menu_of_a_phone_holds_every_page(site: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site}/registry")
    page.get_by_test_id("frame-menu").locator("summary").click()
    shown = page.locator(".top nav a:visible")
    assert shown.count() > 10
    boxes = [one.bounding_box() for one in shown.all()]
    assert all(box is not None and box["height"] >= 44 and box["x"] + box["width"] <= 390 for box in boxes)
    page.keyboard.press("Escape")
    expect(shown).to_have_count(0)
