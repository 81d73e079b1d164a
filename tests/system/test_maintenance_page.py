"""A station's upkeep in a browser: the buttons lie at the thumb, a check says while it is typed whether it passes."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import PHONE, seeded, silent_page
from tests.says import shows

pytestmark = pytest.mark.browser

HERE = "/maintenance/qcc-huanhu-3"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("maintenance")) as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    """A phone's page that may say nothing on its console."""
    with silent_page(PHONE) as made:
        yield made


def test_the_buttons_lie_at_the_thumb_and_nothing_lies_beside_the_screen(site: str, page: Page) -> None:
    page.goto(site + HERE)
    box = page.get_by_test_id("care-begin").bounding_box()
    assert box is not None
    assert (box["y"] > PHONE["height"] * 2 / 3, box["height"] >= 48) == (True, True)
    page.get_by_test_id("care-begin").click()
    for target in page.locator("[data-testid=care-form-begin] fieldset label, .care-send .btn").all():
        found = target.bounding_box()
        assert found is not None
        assert found["height"] >= 48
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_check_says_while_it_is_typed_whether_it_passes_and_is_kept_by_one_button(site: str, page: Page) -> None:
    page.goto(f"{site}{HERE}?do=check&parameter=do")
    verdict, send = page.get_by_test_id("care-verdict"), page.get_by_test_id("care-send")
    page.locator("[name=standard]").fill("8")
    page.locator("[name=reading]").fill("8.5")
    expect(verdict).to_have_class("care-verdict failed")
    page.locator("[name=reading]").fill("8.25")
    expect(verdict).to_have_class("care-verdict passed")
    expect(send).to_have_text(send.get_attribute("data-keep") or "?")
    page.locator("[name=name]").fill("何工程师（示例）")
    send.click()
    expect(page.get_by_test_id("care-done")).to_be_visible()
    assert shows(page.get_by_test_id("care-checks").inner_text(), "maintenance_page.passed")
