"""What office and chiefs have to manage, each task in the browser within its steps: taps, clicks, keys, fields."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from api.access import AS_COOKIE, packed
from infra.texts import say
from riverchief.brokers.local import free_port
from tests import pages_site
from tests.pages_site import CHIEF, GRID, OFFICE, RIVER
from tests.rig import answers

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason="Chromium is not installed"),
]


class Site:
    """A served site with a past, which can be stopped."""

    def __init__(self, folder: Path) -> None:
        pages_site.seed(folder).close()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "tests.pages_site", str(folder), str(self.port)]
        self.process = subprocess.Popen(command, cwd=pages_site.ROOT)
        answers(self.url, self.process)

    def stop(self) -> None:
        """As with the power: open pages are not waited for."""
        self.process.kill()
        self.process.wait(timeout=20)

    def report(self, text: str) -> int:
        answer = httpx.post(f"{self.url}/api/v1/incidents", json={"text": text, "region": GRID, "reach": RIVER})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["incident"]["id"])

    def act(self, number: int, action: str, **more: object) -> None:
        path = f"{self.url}/api/v1/incidents/{number}/actions"
        answer = httpx.post(path, json={"action": action, "by": OFFICE, **more})
        assert answer.status_code == 200, answer.text

    def incident(self, number: int) -> dict[str, object]:
        found: dict[str, object] = httpx.get(f"{self.url}/api/v1/incidents/{number}").json()
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("tasks"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=15_000)  # of a busy machine
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


def as_(browser: Browser, site: Site, name: str, size: dict[str, int]) -> tuple[BrowserContext, Page]:
    """A browser of somebody; an error on its console or a request to another host fails the test."""
    context = browser.new_context(viewport=size)  # type: ignore[arg-type]
    context.add_cookies([{"name": AS_COOKIE, "value": packed(name), "url": site.url}])
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(f"{page.url}: {error}"))
    page.on("request", lambda r: None if site.url in r.url or r.url[:5] in ("data:", "blob:") else pytest.fail(r.url))
    return context, page


def no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_wall_names_the_worst_river_and_who_has_it_without_a_click_and_says_when_it_is_old(
    browser: Browser, tmp_path: Path
) -> None:
    own = Site(tmp_path)
    context, page = as_(browser, own, CHIEF, {"width": 1920, "height": 1080})
    page.clock.install()
    page.goto(f"{own.url}/wall")
    expect(page.locator("body")).to_contain_text("奇槎涌环湖花园段")
    expect(page.locator("body")).to_contain_text("劣Ⅴ")
    assert "is-stale" not in (page.locator("body").get_attribute("class") or "")
    own.stop()
    for _ in range(20):
        page.clock.run_for(5_000)
    assert "is-stale" in (page.locator("body").get_attribute("class") or "")
    context.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_what_is_open_in_one_street_is_three_steps_away_and_the_address_shows_it_again(
    browser: Browser, site: Site, size: dict[str, int]
) -> None:
    number = site.report("示例：排口出流")
    context, page = as_(browser, site, OFFICE, size)
    page.goto(f"{site.url}/incidents")
    page.locator("[data-testid=inbox-view-open]:visible").first.click()
    page.get_by_test_id("inbox-region").select_option("chancheng/shiwan")
    expect(page.locator(f"a[href^='/incidents/{number}']").first).to_be_visible()
    address = page.url
    assert "region=" in address
    assert "view=open" in address
    page.goto(f"{site.url}/")
    page.goto(address)
    expect(page.locator(f"a[href^='/incidents/{number}']").first).to_be_visible()
    no_sideways_scroll(page)
    context.close()


def test_a_case_is_accepted_dispatched_and_remarked_upon_by_twelve_keys(browser: Browser, site: Site) -> None:
    number = site.report("示例：键盘办理")
    context, page = as_(browser, site, OFFICE, DESK)
    page.goto(f"{site.url}/incidents/{number}")
    keys = 0

    def press(*those: str) -> None:
        nonlocal keys
        for key in those:
            page.keyboard.press(key)
            keys += 1

    def state() -> object:
        found = site.incident(number)
        return found.get("state") or found["incident"]["state"]  # type: ignore[index]

    press("a")
    page.wait_for_function("document.activeElement !== document.body")
    press("Enter")
    expect(page.get_by_test_id("case-stops").locator('[aria-current="step"]')).to_have_attribute(
        "data-state", "accepted"
    )
    assert state() == "accepted"
    press("d")
    page.wait_for_function("document.activeElement.closest('details.action[open]') !== null")
    page.locator("details.action[open] button.main").last.focus()
    press("Enter")
    expect(page.get_by_test_id("case-stops").locator('[aria-current="step"]')).to_have_attribute(
        "data-state", "dispatched"
    )
    press("c")
    page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    page.keyboard.type("已电话告知")
    press("Tab")
    while not page.evaluate("document.activeElement.matches('details.action[open] button')"):
        press("Tab")
    press("Enter")
    expect(page.get_by_text("已电话告知").first).to_be_visible()
    assert keys <= 12
    assert page.evaluate("document.activeElement !== document.body"), "the focus is never lost"
    context.close()


def test_a_page_alone_tells_pollution_from_a_report_and_names_its_evidence(browser: Browser, site: Site) -> None:
    context, page = as_(browser, site, OFFICE, DESK)
    page.goto(f"{site.url}/incidents/1")
    expect(page.get_by_test_id("case-verdict")).to_have_attribute("data-verdict", "pollution")
    expect(page.get_by_test_id("case-facts").locator("tbody tr").first).to_be_visible()
    expect(page.get_by_test_id("case-chart")).to_be_visible()
    context.close()


def test_who_handled_a_case_does_not_close_it_and_is_told_the_way_on(browser: Browser, site: Site) -> None:
    number = site.report("示例：自办自结")
    site.act(number, "accept")
    context, page = as_(browser, site, OFFICE, PHONE)
    page.goto(f"{site.url}/incidents/{number}")
    no_sideways_scroll(page)
    closed = page.get_by_test_id("closed-close")
    if closed.count():
        expect(closed.first).not_to_have_text("")
    expect(page.get_by_text(say("action.close").zh).first).to_be_attached()
    context.close()


def test_who_may_not_see_a_page_is_told_politely(browser: Browser, site: Site) -> None:
    context, page = as_(browser, site, pages_site.PUBLIC, PHONE)
    answer = page.goto(f"{site.url}/trail")
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_test_id("failed")).to_be_visible()
    no_sideways_scroll(page)
    context.close()
