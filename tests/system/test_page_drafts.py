"""What a person types is not lost: by a cut connection, a server killed and started again, or a closed tab."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from api.access import AS_COOKIE, packed
from tests import pages_site
from tests.browser import DESK, Served, chromium, signed_in
from tests.rig import eventually

FORM = "/board?incident=2&act=comment"

pytestmark = pytest.mark.browser


class Server(Served):
    """The seeded site, and what it keeps of drafts and remarks."""

    def drafts(self, name: str = pages_site.OFFICE) -> dict[str, dict[str, object]]:
        cookies = {AS_COOKIE: packed(name)}
        found: dict[str, dict[str, object]] = httpx.get(f"{self.url}/drafts?page=board", cookies=cookies).json()[
            "drafts"
        ]
        return {key: one for key, one in found.items() if one["fields"] is not None}

    def remarks(self, text: str) -> int:
        history = httpx.get(f"{self.url}/api/v1/incidents/2").json()["history"]
        return str(history).count(text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drafts")
    pages_site.seed(folder).close()
    found = Server(folder)
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def context(server: Server, browser: Browser) -> Iterator[BrowserContext]:
    found = _device(server, browser)
    yield found
    found.close()


def _device(server: Server, browser: Browser, name: str = pages_site.OFFICE) -> BrowserContext:
    """A browser of somebody that has nothing stored."""
    return signed_in(browser.new_context(viewport=DESK), name, server.url)


def _open(server: Server, context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto(server.url + FORM)
    return page


def _words(page: Page) -> Locator:
    return page.get_by_test_id("board-form-comment").locator("textarea")


def _send(page: Page) -> None:
    page.get_by_test_id("board-send-comment").click()


def _kept(server: Server, text: str) -> None:
    eventually(f"the server keeps {text}", lambda: text in str(server.drafts()), timeout_s=30)


@pytest.mark.parametrize("cut_s", [30, 90])
def test_a_form_filled_in_and_sent_while_the_connection_is_cut_is_filed_once(
    server: Server, context: BrowserContext, cut_s: int
) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(server.url + FORM)
    text = f"断网{cut_s}秒"
    _words(page).fill("断")
    context.set_offline(True)
    _words(page).fill(text)
    page.clock.fast_forward(cut_s * 1000)
    expect(page.get_by_test_id("frame-cut")).to_be_visible()
    _send(page)
    expect(page.get_by_test_id("send-failed")).to_be_visible()
    expect(_words(page)).to_have_value(text)
    context.set_offline(False)
    page.get_by_test_id("send-again").click()
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    assert server.remarks(text) == 1
    assert server.drafts() == {}


def test_an_answer_that_is_lost_does_not_file_a_form_twice(server: Server, context: BrowserContext) -> None:
    page = _open(server, context)
    lost: list[int] = []

    def lose(route: Route) -> None:
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch(max_redirects=0).status)
            route.abort()
        else:
            route.continue_()

    page.route("**/board?*", lose)
    _words(page).fill("答复丢失")
    _send(page)
    expect(page.get_by_test_id("send-failed")).to_be_visible()
    expect(_words(page)).to_have_value("答复丢失")
    page.get_by_test_id("send-again").click()
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    assert lost == [204]
    assert server.remarks("答复丢失") == 1
    expect(_words(page)).to_have_value("")


def test_a_tab_closed_after_an_answer_was_lost_does_not_offer_what_was_filed(
    server: Server, context: BrowserContext
) -> None:
    page = _open(server, context)

    def lose(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch(max_redirects=0)
            route.abort()
        else:
            route.continue_()

    page.route("**/board?*", lose)
    _words(page).fill("已经送达")
    _kept(server, "已经送达")
    _send(page)
    expect(page.get_by_test_id("send-failed")).to_be_visible()
    page.close()
    page = _open(server, context)
    expect(_words(page)).to_have_value("")
    expect(page.get_by_test_id("draft-note")).to_have_count(0)


def test_a_draft_outlives_the_server_and_the_tab_and_is_found_on_another_device(
    server: Server, browser: Browser, context: BrowserContext
) -> None:
    page = _open(server, context)
    _words(page).fill("重启之前")
    _kept(server, "重启之前")
    server.kill()
    _words(page).fill("重启期间")
    _send(page)
    expect(page.get_by_test_id("send-failed")).to_be_visible()
    server.start()
    _kept(server, "重启期间")
    page.close()
    again = _open(server, context)
    expect(_words(again)).to_have_value("重启期间")
    device = _device(server, browser)
    page = _open(server, device)
    expect(_words(page)).to_have_value("重启期间")
    expect(page.get_by_test_id("draft-note")).to_be_visible()
    page.get_by_test_id("draft-discard").click()
    expect(_words(page)).to_have_value("")
    device.close()


def test_a_draft_is_its_owners_alone(server: Server, browser: Browser, context: BrowserContext) -> None:
    page = _open(server, context)
    _words(page).fill("只给自己看")
    _kept(server, "只给自己看")
    assert server.drafts(pages_site.ADMINISTRATOR) == {}
    context.add_cookies([{"name": AS_COOKIE, "value": packed(pages_site.ADMINISTRATOR), "url": server.url}])
    other = _open(server, context)
    expect(_words(other)).to_have_value("")


def test_of_two_tabs_the_newer_words_win_and_the_older_are_still_there(server: Server, context: BrowserContext) -> None:
    first, second = _open(server, context), _open(server, context)
    _words(first).fill("先写的")
    _words(second).fill("后写的")
    expect(first.get_by_test_id("draft-other")).to_be_visible()
    expect(_words(first)).to_have_value("先写的")
    first.get_by_test_id("draft-other").click()
    expect(_words(first)).to_have_value("后写的")
    first.get_by_test_id("draft-other").click()
    expect(_words(first)).to_have_value("先写的")


def test_what_was_refused_stays_in_the_form_with_the_reason(server: Server, context: BrowserContext) -> None:
    page = _open(server, context)
    _words(page).fill("   ")
    _send(page)
    expect(page.get_by_test_id("action-refused")).to_be_visible()
    expect(page.get_by_test_id("board-form-comment")).to_be_visible()
    _words(page).fill("补上说明")
    _send(page)
    expect(page.get_by_test_id("board-toast")).to_be_visible()
    assert server.remarks("补上说明") == 1
