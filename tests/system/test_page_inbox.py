"""The inbox in a browser: the list holds still under the cursor, keys act on its rows, a report marks its place."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from infra.texts import say
from tests import pages_site
from tests.browser import new_page, seeded

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("inbox")) as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    with new_page() as found:
        yield found


def _reported(site: str, text: str) -> int:
    answer = httpx.post(f"{site}/api/v1/incidents", json={"text": text, "region": pages_site.GRID})
    assert answer.status_code == 201
    return int(answer.json()["incident"]["id"])


def test_a_new_incident_waits_behind_the_bar_and_ticks_stay(site: str, page: Page) -> None:
    first = _reported(site, "示例：桥下浮油")
    page.goto(f"{site}/incidents?view=unaccepted")
    page.get_by_test_id(f"inbox-tick-{first}").check()
    before = page.locator("tr[data-step]").count()
    second = _reported(site, "示例：岸边杂物")
    show = page.get_by_test_id("wait-show")
    expect(show).to_contain_text(say("inbox.new", count=1).zh)
    expect(page.locator("tr[data-step]")).to_have_count(before)
    expect(page.get_by_test_id(f"inbox-tick-{first}")).to_be_checked()
    show.click()
    expect(page.get_by_test_id(f"inbox-row-{second}")).to_be_visible()
    expect(page.get_by_test_id("wait-show")).to_have_count(0)


def test_rows_are_ticked_and_accepted_by_keys_and_what_was_done_is_said(site: str, page: Page) -> None:
    one, two = _reported(site, "示例：键盘一"), _reported(site, "示例：键盘二")
    page.goto(f"{site}/incidents?view=unaccepted&q=示例：键盘")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_test_id("inbox-accept-ticked")).to_contain_text(say("inbox.accept_many", count=2).zh)
    page.keyboard.press("a")
    toast = page.get_by_test_id("inbox-toast").get_by_role("status")
    expect(toast).to_contain_text(say("inbox.done_accept", count=2).zh)
    for number in (one, two):
        assert httpx.get(f"{site}/api/v1/incidents/{number}").json()["incident"]["state"] == "accepted"
        expect(page.get_by_test_id(f"inbox-row-{number}")).to_have_count(0)
    assert "done=" not in page.url


def test_a_place_on_the_map_shows_what_is_open_there_and_a_draft_stays(site: str, page: Page) -> None:
    page.goto(f"{site}/reported/new?lon=113.1479&lat=23.0206")
    expect(page.get_by_test_id("report-near-2")).to_be_visible()
    expect(page.get_by_test_id("report-go")).to_contain_text(say("report_page.go_anyway").zh)
    page.get_by_test_id("report-text").fill("桥北侧涵管流出黑水")
    page.locator('input[name="kind"][value="outfall"]').check()
    page.goto(f"{site}/reported/new")
    expect(page.get_by_test_id("report-text")).to_have_value("桥北侧涵管流出黑水")
    expect(page.locator('input[name="kind"][value="outfall"]')).to_be_checked()
    page.get_by_test_id("report-map").locator(".map-stage").click(position={"x": 150, "y": 150})
    expect(page.get_by_test_id("report-lon")).not_to_have_value("")
