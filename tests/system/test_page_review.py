"""The review of readings in a browser: a stretch is chosen on the chart, judged, taken back and given again by keys."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from infra.times import beijing_day
from tests import pages_site
from tests.browser import new_page, seeded, signed_in

pytestmark = pytest.mark.browser


def test_a_stretch_is_chosen_by_dragging_over_the_chart_and_judged_by_keys(tmp_path: Path) -> None:
    day = beijing_day(pages_site.now_ms()).isoformat()
    with seeded(tmp_path) as site, new_page() as page:
        signed_in(page.context, pages_site.ENGINEER, site)
        page.goto(f"{site}/review/{pages_site.STATION}/{day}")
        chart = page.locator('[data-parameter="nh3n"] svg')
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 56 / 880, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, y, steps=3)
        page.mouse.move(box["x"] + box["width"] * 879 / 880, y)
        page.mouse.up()
        expect(page.get_by_test_id("review-effect-of")).to_have_attribute("data-parameter", "nh3n")
        asked = parse_qs(urlsplit(page.url).query)
        assert (asked["since"], asked["parameter"]) == ([f"{day}T00:00"], ["nh3n"])
        assert asked["until"][0] > f"{day}T23:59"

        page.get_by_test_id("review-form").locator('[value="flow"]').check()
        page.keyboard.press("v")
        entry = page.get_by_test_id("review-entry")
        expect(entry).to_have_attribute("data-void", "false")
        page.keyboard.press("u")
        expect(entry).to_have_attribute("data-void", "true")
        page.keyboard.press("Shift+U")
        expect(entry).to_have_count(2)
        expect(entry.first).to_have_attribute("data-void", "false")
