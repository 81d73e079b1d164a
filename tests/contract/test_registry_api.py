"""What a field engineer does over the API: hang a sensor, check it, visit, take a photo; and what is refused."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import governance.tables  # noqa: F401 - names its tables in the metadata
import ingest.storage.tables  # noqa: F401 - the same
from api.app import create_app
from api.context import Context
from infra.database import Database
from infra.times import rfc3339
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import registry as registry_store
from ingest.storage.photos import MAX_PHOTO_BYTES
from ingest.storage.sql import SqlReadings
from sensors.datum import Box, to_gcj02
from sensors.network import Level, Outfall, OutfallKind, Region, Travel
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.contract.test_api import is_problem
from tests.databases import with_tables

pytestmark = pytest.mark.both_databases

NOW = 1_778_580_000_000  # 2026-05-12T10:00:00Z
MINUTE = 60_000
HOUR = 60 * MINUTE
KNOWN = catalogue()
HERE = "/api/v1/stations/shiwan"
ZHANG = "示例张工"
JPEG = b"\xff\xd8\xff\xe0" + b"river" * 100


class Desk:
    """The API of a site and its ingest, at an instant that a test moves."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.database = Database(url)
        with_tables(self.database)
        stations = (
            Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", region="cc/shiwan"),
            Station("qicha", "奇槎", "Qicha", 113.14, 23.02),
        )
        reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),)
        registry = Registry(
            stations,
            (),
            reaches,
            KNOWN,
            outfalls=(Outfall("o1", "一号排口", "outfall 1", "dongping", 5.0, OutfallKind.STORM),),
            travels=(Travel("dongping", "below", 60, 90, 120),),
            regions=(
                Region("cc", "禅城", "Chancheng", Level.DISTRICT),
                Region("cc/shiwan", "石湾", "Shiwan", Level.STREET, "cc"),
            ),
        )
        with self.database.write() as connection:
            registry_store.save(connection, registry)
        self.now = NOW
        self.site = Site(self.database, SqlReadings(self.database, KNOWN), Rules(), KNOWN)
        self.context = Context(
            self.database,
            self.site.store,
            KNOWN,
            "/test",
            lambda: self.now,
            box=Box(112.0, 21.5, 114.8, 24.0),
            photos=folder / "photos",
            open=True,
        )
        self.client = TestClient(create_app(self.context))

    def post(self, path: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
        response = self.client.post(f"{HERE}/{path}", json=body)
        assert response.status_code == status, response.text
        return dict(response.json())

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def send(self, at_ms: int, **values: float) -> None:
        payload = telemetry.encode(Telemetry((Sample(at_ms, values),)))
        self.site.process([Message("shiwan", payload, at_ms, topic="rivers/v1/shiwan/telemetry")], at_ms)

    def follow(self) -> None:
        self.site.follow_registry()
        self.site.tick(None, self.now)

    def series(self, parameter: str) -> list[tuple[float, str, list[str]]]:
        found = self.get(f"{HERE}/series?parameter={parameter}&start=2026-05-01T00:00:00Z&end=2026-06-01T00:00:00Z")
        return [(p["value"], p["flag"], p["tests"]) for p in found["points"]]


@pytest.fixture
def desk(tmp_path: Path, url: str) -> Iterator[Desk]:
    desk = Desk(tmp_path, url)
    yield desk
    desk.database.close()


# -- deployments -------------------------------------------------------------------------------------------------------


def test_a_sensor_hung_over_the_api_converts_what_is_observed_from_then_on_and_nothing_before(desk: Desk) -> None:
    desk.send(NOW - MINUTE, conductivity=412.0)
    made = desk.post(
        "deployments",
        {"parameter": "conductivity", "unit": "mS/cm", "device": "S1", "model": "S5", "depth_m": 0.5, "by": ZHANG},
    )
    assert (made["since"], made["until"], made["in_force"]) == (rfc3339(NOW), None, True)
    assert (made["device"], made["model"]) == ("S1", "S5")
    desk.follow()
    desk.send(NOW + MINUTE, conductivity=0.42)
    desk.send(NOW - 30_000, conductivity=413.0)  # late, measured by the old sensor
    assert [value for value, _, _ in desk.series("conductivity")] == pytest.approx([412.0, 413.0, 420.0])


def test_the_next_sensor_takes_over_from_the_one_before(desk: Desk) -> None:
    desk.post("deployments", {"parameter": "ph", "since": rfc3339(NOW - HOUR), "device": "S1"})
    desk.post("deployments", {"parameter": "ph", "device": "S2", "manufacturer": "示例仪器"})
    new, old = desk.get(f"{HERE}/deployments")["items"]
    assert (old["device"], old["until"], old["in_force"]) == ("S1", rfc3339(NOW), False)
    assert (new["device"], new["manufacturer"], new["in_force"]) == ("S2", "示例仪器", True)
    ended = desk.post("deployments/ph/end", {"until": rfc3339(NOW + MINUTE)}, 200)
    assert ended["until"] == rfc3339(NOW + MINUTE)
    is_problem(desk.client.post(f"{HERE}/deployments/ph/end", json={}), 409, "no sensor of ph hangs")
    is_problem(desk.client.post(f"{HERE}/deployments/do/end", json={}), 409, "no sensor of do hangs")


def test_of_two_who_change_the_same_the_slower_one_is_told(desk: Desk) -> None:
    seen = desk.client.get(HERE).headers["etag"]
    first = desk.client.patch(HERE, json={"note": "示例：换了电池"}, headers={"If-Match": seen})
    assert first.status_code == 200
    is_problem(desk.client.patch(HERE, json={"note": "示例"}, headers={"If-Match": seen}), 412, "shiwan")
    again = desk.client.patch(HERE, json={"note": "示例"}, headers={"If-Match": first.headers["etag"]})
    assert again.headers["etag"] == desk.client.get(HERE).headers["etag"]

    made = desk.client.post(
        f"{HERE}/calibrations", json={"parameter": "do", "type": "five", "standard": 8, "reading": 8}
    )
    check = f"{HERE}/calibrations/{made.json()['number']}"
    seen = desk.client.get(check).headers["etag"]
    assert seen == made.headers["etag"]
    assert desk.client.patch(check, json={"reading": 8.1}, headers={"If-Match": seen}).status_code == 200
    is_problem(desk.client.patch(check, json={"void": True}, headers={"If-Match": seen}), 412, "shiwan")
    assert desk.client.get(check).json()["void"] is False
    is_problem(desk.client.patch(check, json={"void": True}, headers={"If-Match": "7"}), 400, "If-Match")


def test_deployments_that_overlap_are_refused_naming_both(desk: Desk) -> None:
    first = {"parameter": "ph", "since": rfc3339(NOW), "until": rfc3339(NOW + HOUR), "device": "S1"}
    desk.post("deployments", first)
    is_problem(desk.client.post(f"{HERE}/deployments", json=first), 409, "ph at shiwan since", "registered already")
    overlapping = first | {"since": rfc3339(NOW + MINUTE), "device": "S2"}
    problem = is_problem(desk.client.post(f"{HERE}/deployments", json=overlapping), 409, "overlaps")
    assert problem["detail"].partition(" / ")[2].count("ph at shiwan since") == 2
    elsewhere = {"parameter": "do", "since": rfc3339(NOW + MINUTE), "device": "S1"}
    is_problem(desk.client.post("/api/v1/stations/qicha/deployments", json=elsewhere), 409, "hangs elsewhere")
    assert len(desk.get(f"{HERE}/deployments")["items"]) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"unit": "furlong"}, "furlong"),
        ({"parameter": "smell"}, "smell"),
        ({"gain": 0}, "gain 0"),
        ({"since": "yesterday"}, "yesterday"),
        ({"since": "2026-05-12T10:00:00"}, "no offset"),
        ({"cycle_s": 0}, "cycle_s 0"),
        ({"depth_m": -1}, "depth_m -1"),
        ({"method": "FNU"}, "turbidity"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_with_its_fault(desk: Desk, change: dict[str, Any], named: str) -> None:
    is_problem(desk.client.post(f"{HERE}/deployments", json={"parameter": "do"} | change), 400, named)
    assert desk.get(f"{HERE}/deployments")["items"] == []


# -- calibrations ------------------------------------------------------------------------------------------------------


def test_a_check_is_judged_at_once_and_a_failed_one_marks_the_data_until_it_is_corrected(desk: Desk) -> None:
    for i in range(6):
        desk.send(NOW - (6 - i) * 5 * MINUTE, do=6.0 + i / 10)
    body = {"parameter": "do", "type": "five", "standard": 8.2, "by": ZHANG}
    passed = desk.post("calibrations", body | {"at": rfc3339(NOW - 20 * MINUTE), "reading": 8.4})
    assert (passed["passed"], passed["error"], passed["limit"]) == (True, pytest.approx(0.2), 0.3)
    failed = desk.post("calibrations", body | {"reading": 8.7, "after": 8.2, "lot": "L-7"})
    assert (failed["passed"], failed["left_right"], failed["lot"]) == (False, True, "L-7")
    desk.follow()
    assert [tests for _, _, tests in desk.series("do")] == [[], []] + [["calibration"]] * 4
    latest = {v["parameter"]: v for v in desk.get(f"{HERE}/latest")["values"]}
    assert latest["do"]["value"] == 6.1
    number = failed["number"]
    right = desk.client.patch(f"{HERE}/calibrations/{number}", json={"reading": 8.3, "by": ZHANG}).json()
    assert (right["passed"], right["after"]) == (True, 8.2)
    desk.follow()
    assert all(flag == "good" for _, flag, _ in desk.series("do"))
    newest, oldest = desk.get(f"{HERE}/calibrations")["items"]
    assert (newest["number"], oldest["number"]) == (number, passed["number"])


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"parameter": "orp"}, 400, "five check of orp has no limit"),
        ({"type": "look"}, 400, "type"),
        ({"standard": None}, 400, "standard"),
        ({"at": rfc3339(NOW + HOUR)}, 400, "has not come yet"),
        ({"type": "zero_drift", "parameter": "nh3n"}, 400, "span"),
        ({"limit": -1}, 400, "limit"),
    ],
)
def test_a_check_that_proves_nothing_is_refused(desk: Desk, change: dict[str, Any], status: int, named: str) -> None:
    body = {"parameter": "do", "type": "five", "standard": 8.2, "reading": 8.2, "by": ZHANG} | change
    sent = {name: value for name, value in body.items() if value is not None}
    is_problem(desk.client.post(f"{HERE}/calibrations", json=sent), status, named)


def test_a_check_is_corrected_only_where_it_is(desk: Desk) -> None:
    body = {"parameter": "do", "type": "five", "standard": 8.2, "reading": 8.2, "by": ZHANG}
    number = desk.post("calibrations", body)["number"]
    is_problem(desk.client.post(f"{HERE}/calibrations", json=body), 409, f"number {number}")
    is_problem(desk.client.patch(f"{HERE}/calibrations/99", json={"void": True, "by": ZHANG}), 404, "99")
    elsewhere = f"/api/v1/stations/qicha/calibrations/{number}"
    is_problem(desk.client.patch(elsewhere, json={"void": True, "by": ZHANG}), 404, "qicha")
    is_problem(desk.client.patch(f"{HERE}/calibrations/{number}", json={"reading": None, "by": ZHANG}), 400, "reading")
    assert desk.client.patch(f"{HERE}/calibrations/{number}", json={"void": True, "by": ZHANG}).json()["void"] is True


# -- visits ------------------------------------------------------------------------------------------------------------


def test_a_visit_marks_what_is_measured_until_it_is_ended(desk: Desk) -> None:
    number = desk.post("visits", {"parameters": ["do"], "by": ZHANG})["number"]
    desk.follow()
    desk.send(NOW + MINUTE, do=6.3, ph=7.1)
    desk.now = NOW + 2 * MINUTE
    is_problem(desk.client.post(f"{HERE}/visits", json={"by": ZHANG}), 409, ZHANG)
    ended = desk.post(f"visits/{number}/end", {"note": "已清洗探头"}, 200)
    assert (ended["until"], ended["note"], ended["parameters"]) == (rfc3339(desk.now), "已清洗探头", ["do"])
    desk.follow()
    desk.send(NOW + 3 * MINUTE, do=6.1)
    assert [tests for _, _, tests in desk.series("do")] == [["maintenance"], []]
    assert [tests for _, _, tests in desk.series("ph")] == [[]]
    is_problem(desk.client.post(f"{HERE}/visits/{number}/end", json={}), 409, "ended at")
    is_problem(desk.client.post(f"{HERE}/visits/99/end", json={}), 404, "99")
    is_problem(desk.client.post(f"{HERE}/visits", json={"by": ZHANG, "since": rfc3339(NOW + HOUR)}), 400, "not come")
    is_problem(desk.client.post(f"{HERE}/visits", json={"by": ZHANG, "parameters": ["smell"]}), 400, "smell")


def test_visits_are_listed_page_by_page_newest_first(desk: Desk) -> None:
    for hour in range(5, 0, -1):
        since = rfc3339(NOW - hour * HOUR)
        desk.post("visits", {"since": since, "until": rfc3339(NOW - hour * HOUR + MINUTE), "by": ZHANG})
    found, cursor = [], ""
    for _ in range(3):
        page = desk.get(f"{HERE}/visits?limit=2{cursor}")
        found += page["items"]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert [v["since"] for v in found] == [rfc3339(NOW - hour * HOUR) for hour in range(1, 6)]
    is_problem(desk.client.get(f"{HERE}/calibrations?limit=2{cursor.replace('None', 'WzEsMl0')}"), 400, "cursor")


# -- photos ------------------------------------------------------------------------------------------------------------


def test_a_photo_comes_back_byte_for_byte_and_twice_is_one_file(desk: Desk) -> None:
    for _ in range(2):
        kept = desk.client.post(f"{HERE}/photos?by={ZHANG}", content=JPEG, headers={"Content-Type": "image/jpeg"})
        assert kept.status_code == 201, kept.text
    (listed,) = desk.get(f"{HERE}/photos")["items"]
    assert (listed["sha256"], listed["size"], listed["by"]) == (hashlib.sha256(JPEG).hexdigest(), len(JPEG), ZHANG)
    shown = desk.client.get(listed["url"])
    assert (shown.content, shown.headers["content-type"]) == (JPEG, "image/jpeg")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert len([path for path in (desk.folder / "photos").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"<html>", 400, "no photo"),
        (b"GIF89a", 400, "no photo"),
        (b"\xff\xd8\xff" + b"\0" * MAX_PHOTO_BYTES, 413, "1048576"),
    ],
)
def test_what_is_no_photo_or_too_large_is_refused(desk: Desk, body: bytes, status: int, named: str) -> None:
    is_problem(desk.client.post(f"{HERE}/photos", content=body, headers={"Content-Type": "image/png"}), status, named)
    assert not (desk.folder / "photos").exists()


@pytest.mark.parametrize("name", ["0" * 64, "..%2f..%2friver.db", "x"])
def test_a_photo_that_is_not_there_is_not_found_whatever_its_name(desk: Desk, name: str) -> None:
    is_problem(desk.client.get(f"/api/v1/photos/{name}"), 404)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_outfalls_lie_on_the_line_of_their_reach(desk: Desk) -> None:
    (one,) = desk.get("/api/v1/outfalls")["items"]
    assert (one["key"], one["type"], one["reach"], one["km"]) == ("o1", "storm", "dongping", 5.0)
    assert (one["lon"], one["lat"]) == pytest.approx((113.04885, 23.0), abs=1e-4)
    assert desk.get("/api/v1/outfalls?reach=other")["items"] == []
    as_map = desk.client.get("/api/v1/outfalls", headers={"Accept": "application/geo+json"}).json()
    assert as_map["features"][0]["geometry"]["coordinates"] == [one["lon"], one["lat"]]


def test_regions_are_the_tree_with_its_stations_and_travel_times_are_told(desk: Desk) -> None:
    above, below = desk.get("/api/v1/regions")["items"]
    assert (above["code"], above["level"], above["parent"], above["stations"]) == ("cc", "district", None, [])
    assert (below["parent"], below["level"], below["stations"]) == ("cc", "street", ["shiwan"])
    assert desk.get("/api/v1/travels")["items"][0]["typical_s"] == 90


def test_outlines_of_regions_are_kept_and_told_as_geojson(desk: Desk) -> None:
    ring = ((113.0, 22.9), (113.1, 22.9), (113.1, 23.1), (113.0, 22.9))
    drawn = Region("cc/shiwan", "石湾", "Shiwan", Level.STREET, "cc", "", ((ring,),))
    with desk.database.write() as connection:
        registry_store.save(connection, Registry((), regions=(drawn,), catalogue=KNOWN))
        assert registry_store.load(connection, KNOWN).regions[1] == drawn
    assert [one["outlined"] for one in desk.get("/api/v1/regions")["items"]] == [False, True]
    as_map = desk.client.get("/api/v1/regions", headers={"Accept": "application/geo+json"}).json()
    above, below = as_map["features"]
    assert above["geometry"] is None
    assert below["geometry"] == {"type": "MultiPolygon", "coordinates": [[[list(point) for point in ring]]]}
    assert below["properties"]["code"] == "cc/shiwan"


def test_who_changed_what_is_told_newest_first_and_page_by_page(desk: Desk) -> None:
    desk.client.patch(HERE, json={"zh": "石湾新名"})
    desk.post("visits", {"by": ZHANG})
    visit, change = desk.get("/api/v1/registry/changes?limit=2&key=shiwan")["items"]
    assert (visit["what"], visit["by"], visit["at"], visit["before"]) == ("visit", ZHANG, rfc3339(NOW), None)
    assert (change["what"], change["before"]["zh"], change["after"]["zh"]) == ("station", "石湾", "石湾新名")
    page = desk.get("/api/v1/registry/changes?limit=1&what=station&key=shiwan")
    (older,) = desk.get(f"/api/v1/registry/changes?what=station&key=shiwan&cursor={page['next_cursor']}")["items"]
    assert older["number"] < page["items"][0]["number"]
    is_problem(desk.client.get("/api/v1/registry/changes?cursor=x"), 400, "cursor")


def test_a_place_outside_the_box_is_refused_and_one_in_gcj02_is_converted(desk: Desk) -> None:
    new = {"key": "new", "lon": 113.1, "lat": 23.0}
    is_problem(desk.client.post("/api/v1/stations", json=new | {"lon": 116.4}), 400, "outside the site's box")
    is_problem(desk.client.post("/api/v1/stations", json=new | {"lon": 23.0, "lat": 89.0}), 400, "outside")
    is_problem(desk.client.patch(HERE, json={"lat": 30.0}), 400, "outside the site's box")
    lon, lat = to_gcj02(113.1, 23.0)
    made = desk.client.post("/api/v1/stations", json=new | {"lon": lon, "lat": lat, "datum": "GCJ-02"}).json()
    assert (made["lon"], made["lat"]) == pytest.approx((113.1, 23.0), abs=1e-8)
    moved = desk.client.patch(HERE, json={"lon": lon, "lat": lat, "datum": "GCJ-02"}).json()
    assert (moved["lon"], moved["lat"]) == pytest.approx((113.1, 23.0), abs=1e-8)
    is_problem(desk.client.patch(HERE, json={"lon": lon, "datum": "GCJ-02"}), 400, "without both")


CHANGES = ("deployments", "deployments/ph/end", "calibrations", "visits", "visits/1/end", "photos")


@pytest.mark.parametrize("path", CHANGES)
def test_nothing_of_this_is_changed_without_the_token(desk: Desk, path: str) -> None:
    guarded = TestClient(create_app(replace(desk.context, token="t0ken")))
    is_problem(guarded.post(f"{HERE}/{path}", json={}), 401)
    is_problem(guarded.patch(f"{HERE}/calibrations/1", json={}), 401)


@pytest.mark.parametrize("ask", ["deployments", "calibrations", "visits", "photos"])
def test_a_station_nobody_registered_is_named(desk: Desk, ask: str) -> None:
    is_problem(desk.client.get(f"/api/v1/stations/nowhere/{ask}"), 404, "nowhere")
    bodies: dict[str, Callable[[], Any]] = {
        "deployments": lambda: desk.client.post("/api/v1/stations/nowhere/deployments", json={"parameter": "ph"}),
        "calibrations": lambda: desk.client.post(
            "/api/v1/stations/nowhere/calibrations",
            json={"parameter": "ph", "type": "five", "standard": 7.0, "reading": 7.0, "by": ZHANG},
        ),
        "visits": lambda: desk.client.post("/api/v1/stations/nowhere/visits", json={"by": ZHANG}),
        "photos": lambda: desk.client.post(
            "/api/v1/stations/nowhere/photos", content=JPEG, headers={"Content-Type": "image/jpeg"}
        ),
    }
    is_problem(bodies[ask](), 404, "nowhere")
