"""The pages of patrols: how much of each water was passed, and one patrol with its track and what was found."""

import pytest
from fastapi import FastAPI

from infra.database import Database
from infra.times import BEIJING_OFFSET_MS, DAY_MS, rfc3339
from ingest.storage import registry as registry_store
from sensors.network import length_km
from sensors.parameters import catalogue
from tests import pages_site
from tests.page_browser import browser_of

RIVER = pages_site.RIVER
KEY = "0f8c1d2e-walk"


@pytest.fixture(scope="module")
def walked(app: FastAPI, database: Database) -> float:
    """A grid worker walks the upper half of the river's line in 40 minutes and reports a problem; the km of it."""
    with database.read() as connection:
        line = next(one.line for one in registry_store.load(connection, catalogue()).reaches if one.key == RIVER)
    half = line[: max(2, len(line) // 2 + 1)]
    start = pages_site.now_ms() - 45 * pages_site.MINUTE
    step = 40 * pages_site.MINUTE // (len(half) - 1)
    track = [[rfc3339(start + i * step), lon, lat] for i, (lon, lat) in enumerate(half)]
    body = {
        "id": KEY,
        "started_at": rfc3339(start),
        "ended_at": rfc3339(start + 40 * pages_site.MINUTE),
        "reach": RIVER,
        "track": track,
        "problems": [{"text": "桥下有漂浮垃圾", "at": rfc3339(start + pages_site.MINUTE)}],
    }
    made = browser_of(app, pages_site.WORKER).post("/api/v1/patrols", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["covered"][RIVER]
    return length_km(half) / length_km(line)


def test_the_page_says_how_much_of_the_water_was_passed(app: FastAPI, walked: float) -> None:
    page = browser_of(app, pages_site.OFFICE).get("/patrols").text
    row = page[page.index(f'data-testid="water-{RIVER}"') :]
    share = float(row[: row.index("%）")].rpartition("（")[2])
    assert share / 100 == pytest.approx(walked, abs=0.12)
    assert f'data-testid="patrol-{KEY}"' in page


def test_a_patrol_is_shown_with_its_track_and_what_was_found(app: FastAPI, walked: float) -> None:
    office = browser_of(app, pages_site.OFFICE)
    page = office.get(f"/patrols/{KEY}").text
    assert 'data-testid="patrol-map"' in page
    points = office.get(f"/patrols/{KEY}/points").json()["points"]
    assert [one["kind"] for one in points] == ["patrol", "report"]
    assert len(points[0]["track"]) > 1
    number = points[1]["href"].rpartition("/")[2]
    assert f'href="/incidents/{number}"' in page


def test_the_map_of_all_waters_draws_the_track_of_today_and_leads_to_it(app: FastAPI, walked: float) -> None:
    found = browser_of(app, pages_site.OFFICE).get("/map/points?layers=patrols").json()["points"]
    now = pages_site.now_ms()
    began_today = (now + BEIJING_OFFSET_MS) % DAY_MS > 50 * pages_site.MINUTE  # the walk was less than an hour ago
    assert [one["href"] for one in found] == ([f"/patrols/{KEY}"] if began_today else [])
    assert all(len(one["track"]) > 1 for one in found)


def test_the_public_sees_no_patrols(app: FastAPI, walked: float) -> None:
    public = browser_of(app, pages_site.PUBLIC)
    assert public.get("/patrols").status_code in (303, 403)
    assert public.get(f"/patrols/{KEY}").status_code in (303, 403)


def test_a_patrol_nobody_made_is_said_to_be_missing(app: FastAPI) -> None:
    assert browser_of(app, pages_site.OFFICE).get("/patrols/nothing-here").status_code == 404
