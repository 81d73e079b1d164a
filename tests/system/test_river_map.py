"""The island of the map in a browser: it follows what happens, is chosen from by mouse and keys, and fills a form."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests import pages_site
from tests.browser import new_page, seeded

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("map")) as url:
        yield url


@pytest.fixture
def page() -> Iterator[Page]:
    failures: list[str] = []
    with new_page() as found:
        found.on("pageerror", lambda error: failures.append(str(error)))
        yield found
    assert not failures


def _shown(page: Page, address: str, testid: str = "map-map") -> None:
    page.goto(address)
    expect(page.get_by_test_id(testid)).to_have_attribute("data-state", "shown")


def _click(page: Page, key: str) -> None:
    """Click on a station on the map."""
    place = page.evaluate("key => document.querySelector('river-map').placeOf(key)", key)
    page.locator(".map-stage").click(position=place)


def test_a_new_incident_rises_on_the_map_without_a_reload(site: str, page: Page) -> None:
    _shown(page, f"{site}/")
    page.evaluate("window.stays = true")
    before = page.evaluate("document.querySelector('river-map').incidents.length")
    report = {"text": "桥下浮油", "region": pages_site.GRID, "lon": 113.15, "lat": 23.02, "colour": "orange"}
    assert httpx.post(f"{site}/api/v1/incidents", json=report).status_code == 201
    page.wait_for_function("n => document.querySelector('river-map').incidents.length > n", arg=before)
    expect(page.get_by_test_id("map-open-count")).to_have_attribute("data-count", str(before + 1))
    expect(page.get_by_test_id("map-aloud")).to_contain_text("桥下浮油")
    assert page.evaluate("window.stays")


def test_what_is_chosen_on_the_map_stands_in_the_address_and_the_view_does_not_move(site: str, page: Page) -> None:
    _shown(page, f"{site}/")
    page.evaluate("window.stays = true")
    place = "JSON.stringify(document.querySelector('river-map').placeOf('dph-shiwan-1'))"
    before = page.evaluate(place)
    _click(page, "pynd-1")
    expect(page).to_have_url(re.compile(r"station=pynd-1"))
    expect(page.get_by_test_id("drawer-station-page")).to_have_attribute("href", "/stations/pynd-1")
    assert page.evaluate(place) == before
    page.get_by_test_id("map-drawer").locator('[data-choose^="reach:"]').click()
    expect(page).to_have_url(re.compile(r"reach="))
    page.go_back()
    expect(page.get_by_test_id("drawer-station-page")).to_have_attribute("href", "/stations/pynd-1")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("drawer-name")).to_have_count(0)
    assert page.evaluate("window.stays")


def test_a_place_is_found_by_keys_in_either_language(site: str, page: Page) -> None:
    _shown(page, f"{site}/")
    page.keyboard.press("/")
    expect(page.get_by_test_id("map-search")).to_be_focused()
    page.keyboard.type("qicha creek, huanhu garden section")
    expect(page.get_by_test_id("map-found").locator("button")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"reach={pages_site.RIVER}"))


def test_n_goes_to_the_most_urgent_problem(site: str, page: Page) -> None:
    _shown(page, f"{site}/")
    page.keyboard.press("n")
    expect(page.get_by_test_id("map-map")).to_have_attribute("selected", pages_site.STATION)


def test_a_name_with_markup_is_shown_as_it_is_written(site: str, page: Page) -> None:
    page.route(
        "**/map/data*",
        lambda route: route.fulfill(
            json={"reaches": [{"key": "r", "name": "<img src=x>", "class": 3, "line": [[113, 23], [113.1, 23]]}]}
        ),
    )
    _shown(page, f"{site}/")
    page.locator(".map-search input").fill("img")
    expect(page.get_by_test_id("map-found")).to_contain_text("<img src=x>")
    assert page.locator("river-map img").count() == 0


def test_a_pin_fills_the_form_around_it_and_follows_what_is_typed(site: str, page: Page) -> None:
    page.goto(f"{site}/kit")
    form = page.locator("form.kit-map")
    form.scroll_into_view_if_needed()
    expect(page.get_by_test_id("kit-pick-map")).to_have_attribute("data-state", "shown")
    form.locator(".map-stage").click(position={"x": 300, "y": 200})
    expect(form.locator('[name="lon"]')).not_to_have_value("113.12")
    form.locator('[name="lon"]').fill("113.14")
    form.locator('[name="lon"]').press("Tab")
    pin = page.evaluate("document.querySelector('form.kit-map river-map').pin.getLatLng().lng")
    assert pin == 113.14


def test_a_map_that_cannot_be_read_says_so_and_is_tried_again(site: str, page: Page) -> None:
    page.route("**/map/data*", lambda route: route.abort())
    page.goto(f"{site}/")
    expect(page.locator(".map-note")).to_be_visible()
    expect(page.get_by_test_id("map-open-count")).to_be_visible()
    page.unroute("**/map/data*")
    page.locator(".map-note button").click()
    expect(page.get_by_test_id("map-map")).to_have_attribute("data-state", "shown")
    expect(page.locator(".map-note")).to_have_count(0)
