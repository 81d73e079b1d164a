"""Where a system asks for its own few colours, signs keep letter, colour and outline, and controls their edges."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser import DESK, chromium, seeded

pytestmark = pytest.mark.browser

LOOK = """element => {
  const shown = (one) => getComputedStyle(one);
  const canvas = getComputedStyle(document.body).backgroundColor;
  const [shape, edge, letter] = [".shape", ".edge", "text"].map((s) => element.querySelector(s));
  return {
    canvas,
    background: shown(element).backgroundColor,
    colour: shown(element).color,
    border: shown(element).borderTopWidth === "0px" ? "" : shown(element).borderTopColor,
    fill: shape && shown(shape).fill,
    outline: edge && shown(edge).stroke,
    letter: letter && shown(letter).fill,
  };
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with seeded(tmp_path_factory.mktemp("forced")) as site, chromium() as browser:
        found = browser.new_page(viewport=DESK, base_url=site, forced_colors="active", color_scheme="dark")
        yield found


@pytest.mark.parametrize("path", ["/kit", "/kit?theme=wall", "/kit?theme=light"])
def test_badges_keep_letter_and_outline_and_pennants_their_colour(page: Page, path: str) -> None:
    page.goto(path)
    worst = page.locator("svg.badge:has(.k6)").first.evaluate(LOOK)
    assert worst["fill"] not in (worst["canvas"], "none")
    assert worst["outline"] not in (worst["canvas"], worst["fill"], "rgba(0, 0, 0, 0)")
    assert worst["letter"] != worst["fill"]
    red = page.locator(".pennant.red").first.evaluate(LOOK)
    assert len({red["canvas"], red["background"], red["colour"]}) == 3


def test_what_is_overdue_stands_out_and_controls_have_edges(page: Page) -> None:
    page.goto("/kit")
    chips = page.locator(".chip.over, .limit.over").first.evaluate(LOOK)
    assert chips["background"] == chips["border"] != chips["canvas"]
    assert chips["colour"] == chips["canvas"]
    for control in (".btn:not(.main)", ".choice button", "select"):
        assert page.locator(control).first.evaluate(LOOK)["border"]
    main = page.locator(".btn.main").first.evaluate(LOOK)
    assert main["background"] != page.locator(".btn:not(.main)").first.evaluate(LOOK)["background"]


@pytest.mark.parametrize("path", ["/", "/incidents", "/incidents/1", "/board", "/r/qichachong-huanhu"])
def test_the_focus_is_seen(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("main, body").first).to_be_visible()
    for _ in range(2):
        page.keyboard.press("Tab")
        width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert width >= 2 or style == "auto"
