"""Appeals against figures of a final month, and marked days beside which both numbers stand."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from api.app import create_app
from api.assessment import XLSX
from api.context import Context
from governance.audit import trail as audit_trail
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from ingest.storage import registry
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.unit.test_assessment import Trail, at

pytestmark = pytest.mark.both_databases

CATALOGUE = catalogue()
REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("s1", "示例镇街一", "Street one", Level.STREET, "d"),
    Region("g", "示例网格", "Cell", Level.GRID, "s1"),
    Region("s2", "示例镇街二", "Street two", Level.STREET, "d"),
)
CHIEF, OTHER, OFFICE, STREET_OFFICE = "街道河长（示例）", "别处河长（示例）", "河长办（示例）", "街道办（示例）"
BELOW = "网格办（示例）"
TRIAL, OPEN, LATE = at(10, month=11), at(20, month=11), at(27, month=11)
"""October is final from 16 November on, and appeals are taken until the 26th."""
WATER = {"month": "2026-10", "group_by": "reach", "key": "dongping", "figure": "water", "reason": "设备停电三天"}


class District:
    """A month of one reach, and who looks at it at which instant."""

    def __init__(self, database: Database, photos: Path) -> None:
        self.database = database
        self.now_ms = OPEN
        context = Context(
            database, SqlReadings(database, CATALOGUE), CATALOGUE, "/s", lambda: self.now_ms, photos=photos
        )
        self.app: FastAPI = create_app(context)
        self.tokens: dict[str, str] = {}
        with database.write() as connection:
            for name, role, region in (
                (CHIEF, Role.CHIEF, "s1"),
                (OTHER, Role.CHIEF, "s2"),
                (OFFICE, Role.OFFICE, ""),
                (STREET_OFFICE, Role.OFFICE, "s2"),
                (BELOW, Role.OFFICE, "g"),
            ):
                people_store.add(connection, name, role, region=region, by="x", now_ms=at(1, 0, month=9))
                self.tokens[name] = people_store.issue_token(connection, name, by="x", now_ms=at(1, month=9))

    def as_(self, name: str) -> TestClient:
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        return TestClient(self.app, base_url="http://testserver/api/v1", headers=headers)

    def trail(self, what: str) -> list[dict[str, object]]:
        with self.database.read() as connection:
            return [json.loads(one.body) for one in audit_trail.list_entries(connection, what=what)]

    def row(self, by: str = "reach") -> dict[str, object]:
        told = self.as_(OFFICE).get("/assessments", params={"month": "2026-10", "by": by}).json()
        (row,) = (one for one in told["rows"] if one["key"] in ("dongping", "s1"))
        return {**row}


@pytest.fixture
def district(url: str, tmp_path: Path) -> Iterator[District]:
    database = Database(url)
    with_tables(database)
    trail = Trail()
    trail.walk(1, 4, accept_h=3, region="s1")  # taken up late on the fourth
    trail.walk(2, 6, region="s1")
    for day in (3, 4, 5):
        trail.classes(day, dongping=day != 4)
    with database.write() as connection:
        stations = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", region="g"),)
        reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),)
        registry.save(connection, Registry(stations, (), reaches, CATALOGUE, regions=REGIONS), Author("x", at(1)))
        for line in trail.lines:
            body = json.loads(line.body)
            audit_trail.append(connection, line.what, kind=line.kind, id=line.id, body=body, by="x", at_ms=line.at_ms)
    yield District(database, tmp_path)
    database.close()


def test_who_answers_appeals_in_time_and_somebody_above_corrects_beside_the_frozen_figure(district: District) -> None:
    mine = district.as_(CHIEF)
    link = {"link": "https://example.org/outage"}
    for now_ms, status in ((TRIAL, 409), (LATE, 409)):
        district.now_ms = now_ms
        assert mine.post("/assessments/appeals", json=WATER | link).status_code == status
    district.now_ms = OPEN
    assert mine.post("/assessments/appeals", json=WATER).status_code == 400, "without evidence"
    assert mine.post("/assessments/appeals", json=WATER | {"link": "javascript:alert(1)"}).status_code == 400
    assert mine.post("/assessments/appeals", json=WATER | link | {"figure": "mood"}).status_code == 404
    assert district.as_(OTHER).post("/assessments/appeals", json=WATER | link).status_code == 404
    assert district.as_(OFFICE).post("/assessments/appeals", json=WATER | link).status_code == 403
    made = mine.post("/assessments/appeals", json=WATER | link)
    assert (made.status_code, made.json()["good"], made.json()["of"], made.json()["version"]) == (201, 2, 3, 1)
    assert mine.post("/assessments/appeals", json=WATER | link).status_code == 409, "one waits already"
    path, verdict = f"/assessments/appeals/{made.json()['id']}/decision", {"accepted": True, "remark": "应为3/3天"}
    assert mine.post(path, json=verdict).status_code == 403
    assert district.as_(STREET_OFFICE).post(path, json=verdict).status_code == 404, "not within their regions"
    assert district.as_(BELOW).post(path, json=verdict).status_code == 403, "not above who appeals"
    assert district.as_(OFFICE).post(path, json={"accepted": True, "remark": " "}).status_code == 400
    decided = district.as_(OFFICE).post(path, json=verdict)
    assert decided.status_code == 200, decided.text
    told = decided.json()
    assert (told["state"], told["version"], told["decided_by"]) == ("accepted", 2, OFFICE)
    assert district.as_(OFFICE).post(path, json=verdict).status_code == 409
    assert district.row()["indicators"]["water"]["good"] == 2, "the frozen figure stays"  # type: ignore[index]
    assert district.as_(OTHER).get("/assessments/appeals?month=2026-10").json() == {"items": []}
    assert [one["remark"] for one in mine.get("/assessments/appeals?month=2026-10").json()["items"]] == ["应为3/3天"]
    (filed,), (entry,) = district.trail("appeal.filed"), district.trail("appeal.decided")
    assert (filed["figure"], filed["good"], entry["state"], entry["version"]) == ("water", 2, "accepted", 2)
    sheet = district.as_(OFFICE).get("/assessments?month=2026-10&by=reach", headers={"Accept": XLSX})
    book = pl.read_excel(io.BytesIO(sheet.content), sheet_name="申诉与时段 appeals", has_header=False)
    assert {"2/3", "设备停电三天", "应为3/3天"} <= {str(one) for one in book.row(1)}


def test_a_file_is_evidence_for_who_may_see_the_appeal(district: District) -> None:
    pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    kept = district.as_(CHIEF).post("/attachments", content=pdf, headers={"Content-Type": "application/pdf"})
    assert kept.status_code == 201, kept.text
    file = {"attachment": kept.json()["id"]}
    assert district.as_(CHIEF).post("/assessments/appeals", json=WATER | {"attachment": "0" * 64}).status_code == 404
    number = district.as_(CHIEF).post("/assessments/appeals", json=WATER | file).json()["id"]
    assert district.as_(OFFICE).get(f"/assessments/appeals/{number}/evidence").content == pdf
    assert district.as_(OTHER).get(f"/assessments/appeals/{number}/evidence").status_code == 404


def test_marked_days_stand_beside_the_figures_and_change_none(district: District) -> None:
    before = district.row("reach")
    rain = {"kind": "rain", "first": "2026-10-04", "last": "2026-10-04", "region": "s1", "reason": "暴雨橙色预警"}
    assert district.as_(CHIEF).post("/assessments/periods", json=rain).status_code == 403
    assert district.as_(STREET_OFFICE).post("/assessments/periods", json=rain).status_code == 403, "another street"
    office = district.as_(OFFICE)
    for wrong in (
        {"last": "2026-10-03"},
        {"first": "gestern"},
        {"last": "2027-10-04"},
        {"reason": " "},
        {"kind": "mood"},
    ):
        assert office.post("/assessments/periods", json=rain | wrong).status_code == 400, wrong
    elsewhere = office.post("/assessments/periods", json=rain | {"region": "s2"}).json()["id"]
    assert district.row() == before, "another street's rain touches nothing here"
    number = office.post("/assessments/periods", json=rain).json()["id"]
    for by in ("reach", "street"):
        row = district.row(by)
        assert row["affected"] == {"rain": 1}, by
        water, apart = row["indicators"], row["without"]["indicators"]  # type: ignore[index]
        assert (water["water"]["good"], water["water"]["of"]) == (2, 3)  # type: ignore[index]
        assert (apart["water"]["good"], apart["water"]["of"]) == (2, 2)
        assert (water["acceptance"]["of"], apart["acceptance"]["good"], apart["acceptance"]["of"]) == (2, 1, 1)  # type: ignore[index]
    assert {name: value for name, value in district.row().items() if name not in ("affected", "without")} == {
        name: value for name, value in before.items() if name not in ("affected", "without")
    }
    listed = office.get("/assessments/periods?month=2026-10").json()["items"]
    assert [one["id"] for one in listed] == [elsewhere, number]
    assert office.delete(f"/assessments/periods/{number}").status_code == 204
    assert office.delete(f"/assessments/periods/{number}").status_code == 404
    assert district.row() == before
    assert len(district.trail("period.marked")) == 2
    assert len(district.trail("period.withdrawn")) == 1
