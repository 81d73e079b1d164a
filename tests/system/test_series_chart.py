"""The chart of a station in a browser: it is drawn, a gap stays a gap, and dragging zooms and stands in the address."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ingest.pipeline import Site
from ingest.rules import rule_file
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests import pages_site
from tests.browser import served, silent_page
from tests.pages_site import HOUR, MINUTE, now_ms

pytestmark = pytest.mark.browser

GAPPED = "fjh-1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site with a station that was silent for two hours, served."""
    folder = tmp_path_factory.mktemp("series")
    database = pages_site.seed(folder)
    known, now = catalogue(), now_ms()
    rules = rule_file.read((pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8"), known)
    at = [*range(now - 5 * HOUR, now - 3 * HOUR, 5 * MINUTE), *range(now - HOUR, now, 5 * MINUTE)]
    samples = tuple(Sample(one, {"nh3n": 0.6 + 0.01 * (i % 7)}) for i, one in enumerate(at))
    payload = encode(Telemetry(samples, seq=0, boot=1, sent_at_ms=now))
    Site(database, SqlReadings(database, known), rules, known).process([Message(GAPPED, payload, now)], now)
    database.close()
    with served(folder) as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that may say nothing on its console."""
    with silent_page() as made:
        yield made


def test_a_gap_is_not_joined_and_dragging_zooms_into_an_address_that_can_be_kept(site: str, page: Page) -> None:
    page.goto(f"{site}/stations/{GAPPED}?parameter=nh3n")
    chart = page.get_by_test_id("station-chart")
    expect(chart).to_have_attribute("data-state", "ready")
    line = page.get_by_test_id("series-line").get_attribute("d") or ""
    assert line.count("M") == 2
    first, second = (piece.split("L") for piece in line.split("M")[1:])
    assert float(second[0].split()[0]) - float(first[-1].split()[0]) > 50
    expect(page.get_by_test_id("series-legend-missing")).to_be_visible()

    box = chart.locator("> svg").bounding_box()
    assert box is not None
    whole = page.get_by_test_id("station-span").inner_text()
    y = box["y"] + 80
    page.mouse.move(box["x"] + box["width"] * 0.7, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=3)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"parameter=nh3n&from=2[^&]+&to=2"))
    expect(page.get_by_test_id("station-span")).not_to_have_text(whole)
    zoomed = page.get_by_test_id("station-span").inner_text()
    page.reload()
    expect(page.get_by_test_id("station-span")).to_have_text(zoomed)
    expect(chart).to_have_attribute("data-state", "ready")
    page.go_back()
    expect(page).not_to_have_url(re.compile("from="))
    expect(page.get_by_test_id("station-span")).not_to_have_text(zoomed)


def test_the_keyboard_reads_the_values_with_their_class(site: str, page: Page) -> None:
    page.goto(f"{site}/stations/{GAPPED}?parameter=nh3n")
    chart = page.get_by_test_id("station-chart")
    expect(chart).to_have_attribute("data-state", "ready")
    chart.locator("> svg").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("series-reading")).to_have_text(re.compile(r"^0\.6\d\d Ⅲ$"))
    expect(chart.locator("output")).to_contain_text("mg/L")
