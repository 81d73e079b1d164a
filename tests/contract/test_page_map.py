"""The map page and its data: what it shows to whom, its choices by address, the ways in for an empty site."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order
from governance.organisation.regions import Place
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from infra.texts import say
from ingest.storage import registry as registry_store
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests import pages_site
from tests.databases import with_tables
from tests.page_browser import browser_of, current
from tests.pages_site import act_on_case, file_case
from tests.says import shows

STATION, REACH = pages_site.STATION, pages_site.RIVER


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _data(browser: TestClient, path: str = "/map/data") -> dict[str, Any]:
    browser.app.state.picture.read_at_ms = 0  # type: ignore[attr-defined]
    found: dict[str, Any] = browser.get(path).json()
    return found


def _count(page: str, testid: str) -> int:
    found = re.search(rf'data-testid="{testid}"[^>]*data-count="(\d+)"', page)
    assert found, testid
    return int(found[1])


def _of_colour(page: str, colour: str) -> int:
    found = re.search(rf'data-testid="map-count-{colour}".*?<b>(\d+)</b>', page, re.S)
    assert found, colour
    return int(found[1])


def _by_key(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in rows}


def test_the_page_the_list_and_the_pennants_count_the_same(browser: TestClient) -> None:
    page, listed, told = current(browser, "/"), current(browser, "/?view=list"), _data(browser)
    assert _count(page, "map-open-count") == _count(listed, "list-incidents") == len(told["incidents"]) == 2
    assert _count(listed, "list-stations") == len(told["stations"]) == 24
    assert _count(listed, "list-reaches") == len(told["reaches"]) == 9
    by_colour = [_of_colour(page, colour) for colour in Colour]
    assert by_colour == [sum(one["colour"] == colour for one in told["incidents"]) for colour in Colour]


def test_the_worst_water_and_the_most_urgent_incident_are_on_the_map_at_once(browser: TestClient) -> None:
    told = _data(browser)
    assert _by_key(told["reaches"])[REACH]["class"] == 6
    red = next(one for one in told["incidents"] if one["colour"] == Colour.RED)
    assert (red["stations"], red["href"]) == ([STATION], f"/incidents/{red['id']}")
    place = _by_key(told["stations"])[STATION]
    assert (red["lon"], red["lat"]) == (place["lon"], place["lat"])
    assert f'data-testid="map-incident-{red["id"]}"' in current(browser, "/")


def test_what_changed_since_a_picture_is_all_that_is_sent(app: FastAPI, database: Database) -> None:
    browser = browser_of(app, pages_site.OFFICE)
    mark = _data(browser)["mark"]
    place = Place(pages_site.GRID, REACH, 113.15, 23.02)
    made = file_case(database, place, "示例：岸边有漂浮物", colour=Colour.ORANGE, minutes_ago=0)
    told = _data(browser, f"/map/data?since={mark}")
    assert told["delta"] is True
    assert "base" not in told
    assert made.id in [one["id"] for one in told["incidents"]]
    assert told["mark"] != mark
    again = _data(browser, f"/map/data?since={told['mark']}")
    assert "incidents" not in again
    assert len(_data(browser, "/map/data?since=unknown")["stations"]) == 24
    act_on_case(database, made.id, Order(Action.REJECT, comment="示例：重复"))


def test_the_public_sees_the_water_and_no_incident(app: FastAPI) -> None:
    public = browser_of(app, pages_site.PUBLIC)
    page, told = current(public, f"/?station={STATION}&layers=cases"), _data(public)
    assert told["incidents"] == []
    assert "map-open" not in page
    assert "drawer-incidents" not in page
    assert "map-layer-cases" not in page
    assert 'data-testid="drawer-name"' in page
    assert public.get("/map/points?layers=cases,reports,patrols").json() == {"points": []}
    assert "pennant" not in current(public, "/?view=list").split('data-testid="map-lists"')[1]


def test_a_region_sees_its_own_incidents_and_the_numbers_agree(app: FastAPI) -> None:
    worker = browser_of(app, pages_site.WORKER)
    page, told = current(worker, "/"), _data(worker)
    assert len(told["incidents"]) == _count(page, "map-open-count")
    assert {one["id"] for one in told["incidents"]} < {
        one["id"] for one in _data(browser_of(app, pages_site.OFFICE))["incidents"]
    }
    listed = current(worker, "/?view=list").split('data-testid="map-lists"')[1]
    assert _of_colour(page, "red") == 0
    assert 'class="pennant red"' not in listed


def test_a_mark_of_another_persons_picture_shows_nothing_of_it(app: FastAPI) -> None:
    mark = _data(browser_of(app, pages_site.OFFICE))["mark"]
    told = _data(browser_of(app, pages_site.PUBLIC), f"/map/data?since={mark}")
    assert told.get("incidents", []) == []


def test_the_chosen_station_stands_in_the_address_with_value_limit_age_and_people(browser: TestClient) -> None:
    page = current(browser, f"/?station={STATION}")
    drawer = page.split('data-testid="map-drawer"')[1]
    assert "8.4" in drawer
    assert shows(drawer, "map.times", limit=2.0, times="4.2")
    assert "<svg" in drawer
    assert f'href="/stations/{STATION}"' in drawer
    assert f'href="/rivers/{REACH}"' in drawer
    assert 'href="tel:12345"' in drawer
    assert "何总河长（示例）" in drawer
    assert f'selected="{STATION}"' in page
    assert f"station-{STATION}" in page


def test_the_chosen_reach_names_its_stations_down_the_river(browser: TestClient) -> None:
    drawer = current(browser, f"/?reach={REACH}").split('data-testid="map-drawer"')[1]
    keys = re.findall(r'data-choose="station:([^"]+)"', drawer)
    assert keys == ["qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3"]
    assert drawer.count("map-incident-") >= 1
    assert pages_site.CHIEF in drawer


def test_the_drawer_is_a_fragment(browser: TestClient) -> None:
    part = current(browser, f"/?station={STATION}", **{"X-Fragments": "drawer"})
    assert part.startswith('<div data-fragment="drawer">')
    assert "<html" not in part
    assert 'data-fragment="list"' in current(browser, "/?view=list", **{"X-Fragments": "list,open"})


def test_an_address_that_makes_no_sense_shows_the_plain_map(browser: TestClient) -> None:
    page = current(browser, "/?station=%3Cb%3E&reach=nope&colour=x&at=-1&rows=999999&class=7&layers=%00")
    assert "drawer-name" not in page
    assert 'data-testid="map-map"' in page


def test_figures_are_links_that_narrow_the_list(browser: TestClient) -> None:
    red = current(browser, "/?colour=red&view=list")
    assert _count(red, "list-incidents") == 1
    assert _count(red, "map-open-count") == 2
    worse = current(browser, "/?view=list&class=6")
    assert _count(worse, "list-reaches") == 1
    assert f"list-reach-{REACH}" in worse
    never = current(browser, "/?view=list&state=never")
    assert _count(never, "list-stations") < 24


def test_looking_back_shows_the_classes_of_then_and_says_that_it_is_only_these(browser: TestClient) -> None:
    page, told = current(browser, "/?at=2"), _data(browser, "/map/data?at=2")
    assert 'data-testid="map-past"' in page
    assert 'live="' not in page.split("<river-map")[1].split(">")[0]
    assert _by_key(told["reaches"])[REACH]["class"] < 6
    assert told["incidents"] == []
    assert _by_key(_data(browser, "/map/data?at=72")["reaches"])[REACH]["class"] == 0


def test_layers_show_what_was_reported_and_lead_there(browser: TestClient) -> None:
    found = browser.get("/map/points?layers=cases").json()["points"]
    assert [one["kind"] for one in found] == ["hotline"]
    assert found[0]["href"].startswith("/incidents/")
    assert browser.get("/map/points?layers=patrols").json() == {"points": []}
    assert 'layers="outfalls,cases"' in current(browser, "/?layers=cases,outfalls")


def test_without_a_script_a_drawing_stands_in_the_place_of_the_map(browser: TestClient) -> None:
    assert '<noscript><img class="map-sketch" src="/map/sketch.svg"' in current(browser, "/")
    drawn = browser.get("/map/sketch.svg")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert drawn.text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in drawn.text


def test_a_rivers_name_is_text_and_never_html(database: Database, tmp_path: Path) -> None:
    known = catalogue()
    fresh = with_tables(Database(f"sqlite:///{tmp_path / 'x.db'}"))
    with fresh.write() as connection:
        registry_store.save(connection, Registry((Station("x", "<img src=x>", "<b>", 113.1, 23.0),), (), (), known))
    browser = TestClient(create_app(pages_site.context(fresh, tmp_path, token=None)))
    for path in ("/", "/?station=x", "/?view=list", "/map/sketch.svg"):
        assert "<img src=x>" not in browser.get(path).text
    assert _data(browser)["stations"][0]["name"] == "<img src=x>"
    fresh.close()


def test_an_empty_site_shows_three_ways_in_or_who_can(tmp_path: Path) -> None:
    fresh = with_tables(Database(f"sqlite:///{tmp_path / 'e.db'}"))
    with fresh.write() as connection:
        people_store.add(connection, pages_site.PUBLIC, Role.PUBLIC, by="test", now_ms=pages_site.now_ms())
    app = create_app(pages_site.context(fresh, tmp_path, token=None))
    page = current(TestClient(app), "/")
    assert all(way in page for way in ("map-way-new", "map-way-file", "riverchief demo"))
    asked = current(browser_of(app, pages_site.PUBLIC), "/")
    assert "map-way-new" not in asked
    assert 'data-testid="map-ask"' in asked
    with fresh.write() as connection:
        registry_store.save(connection, Registry((Station("x", "甲", "A", 113.1, 23.0),), (), (), catalogue()))
    waiting = current(TestClient(create_app(pages_site.context(fresh, tmp_path, token=None))), "/")
    assert "rivers/v1/x/telemetry" in waiting
    assert shows(waiting, "map.no_login")
    assert 'href="/stations/x"' in waiting
    fresh.close()


def test_tiles_come_from_the_host_of_the_settings_and_pictures_from_no_other(
    database: Database, tmp_path: Path
) -> None:
    context = pages_site.context(database, tmp_path, token=None)
    plain = TestClient(create_app(context)).get("/")
    assert "tiles=" not in plain.text
    assert "img-src 'self' data: blob:;" in plain.headers["content-security-policy"]
    tiles = "https://{s}.tiles.example/{z}/{x}/{y}.png"
    tiled = TestClient(create_app(replace(context, map_tiles=tiles, map_attribution="© 示例"))).get("/")
    assert f'tiles="{tiles}" attribution="© 示例"' in tiled.text
    assert "img-src 'self' data: blob: https://*.tiles.example;" in tiled.headers["content-security-policy"]


def test_the_page_speaks_one_language(browser: TestClient) -> None:
    page = current(browser, f"/?lang=en&reach={REACH}")
    assert say("map.open").en in page
    assert say("map.open").zh not in page
    assert 'src="/map/data?lang=en"' in page
