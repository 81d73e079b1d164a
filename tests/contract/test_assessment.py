"""The assessment over a real trail: the Excel file says what its entries say."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from api import assessment as assessing
from api.app import create_app
from api.assessment import XLSX
from api.context import Context
from governance.assessment.assess import assess
from governance.assessment.model import GroupBy, Indicator, Share
from governance.audit import trail as audit_trail
from governance.organisation.regions import Regions
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from ingest.storage import registry
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from riverchief import files
from riverchief.cli.app import app
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.databases import with_tables
from tests.unit.test_assessment import Trail, at

pytestmark = pytest.mark.both_databases

CATALOGUE = catalogue()
REGIONS = (
    Region("d", "示例区", "District", Level.DISTRICT),
    Region("s1", "=1+1 示例镇街", "Street one", Level.STREET, "d"),
    Region("grid-1", "网格一", "Cell", Level.GRID, "s1"),
)


@pytest.fixture
def database(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("RIVERCHIEF_DATABASE__URL", url)
    database = Database(url)
    with_tables(database)
    trail = Trail()
    trail.walk(1, 5, chief="李河长（示例）")
    trail.walk(2, 6, accept_h=3, chief="=HYPERLINK(1)")
    trail.incident(3, at(20))
    trail.classes(3, dongping=True)
    trail.classes(4, dongping=False)
    with database.write() as connection:
        stations = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", region="grid-1"),)
        reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),)
        registry.save(connection, Registry(stations, (), reaches, CATALOGUE, regions=REGIONS), Author("x", at(1)))
        for line in trail.lines:
            body = json.loads(line.body)
            audit_trail.append(connection, line.what, kind=line.kind, id=line.id, body=body, by="x", at_ms=line.at_ms)
    yield database
    database.close()


def shown(book: bytes) -> pl.DataFrame:
    """The rows of the summary."""
    frame = pl.read_excel(io.BytesIO(book), sheet_name="汇总 summary", has_header=False, drop_empty_rows=False)
    return frame.slice(3)


def test_the_sheet_shows_what_the_entries_give_when_anybody_counts_again(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "考核.xlsx"
    arguments = [
        "assessment",
        "--month",
        "2026-10",
        "--by",
        "chief",
        "--out",
        str(file),
        "--data",
        str(tmp_path),
        "--json",
    ]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    with database.read() as connection:
        lines = list(audit_trail.all_entries(connection))
    again = assess(lines, "2026-10", GroupBy.CHIEF, files.read_formula(None), now_ms=at(1, month=12))
    rows = shown(file.read_bytes()).rows()
    assert [row[0] for row in rows] == ["（无归属） (nobody's)", "=HYPERLINK(1)", "李河长（示例）", "合计 all"]
    for row, made in zip(rows, [*again.rows, again.total], strict=True):
        assert int(row[1]) == made.cases
        for place, indicator in enumerate(Indicator):
            value, good, of = row[2 + 3 * place : 5 + 3 * place]
            share = made.shares[indicator]
            if not share.available:  # recorded patrols are asked for, of which there are none here
                assert (value, int(float(good)), int(float(of))) == (None, 0, 0)
                continue
            assert (int(float(good)), int(float(of))) == (share.good, share.of)
            assert (None if value is None else float(value)) == pytest.approx(share.value)
        assert (None if row[-1] is None else float(row[-1])) == made.score
    cases = pl.read_excel(file, sheet_name="事件 incidents", has_header=False).slice(1)
    codes = {case.state for case in again.cases} | {case.colour for case in again.cases}
    assert not codes & set(cases["column_3"].to_list() + cases["column_4"].to_list())
    told = json.loads(result.output)
    assert (told["example"], told["total"]["score"]) == (True, again.total.score)
    with database.read() as connection:
        (entry,) = audit_trail.list_entries(connection, what="export.assessment")
    assert json.loads(entry.body)["bytes"] == file.stat().st_size


def test_chiefs_who_followed_each_other_are_assessed_for_their_own_part_of_the_month(url: str) -> None:
    """Twelve days of one and nineteen of the other: of three patrols a month one and two; each its own water."""
    database = Database(url)
    with_tables(database)
    trail = Trail()
    for day in (3, 4, 20):
        trail.classes(day, dongping=day == 3)
    old, new = "前任（示例）", "后任（示例）"
    with database.write() as connection:
        stations = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping", region="grid-1"),)
        reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, ((113.0, 23.0), (113.1, 23.0))),)
        registry.save(connection, Registry(stations, (), reaches, CATALOGUE, regions=REGIONS), Author("x", at(1)))
        people_store.add(connection, old, Role.CHIEF, region="s1", by="x", now_ms=at(1, 0, month=9))
        people_store.add(connection, new, Role.CHIEF, by="x", now_ms=at(13, 0))
        term = {"region": "s1", "since_ms": at(13, 0), "now_ms": at(13, 0)}
        people_store.appoint(connection, new, **term, by="x", source="/s", regions=Regions(REGIONS))
        people_store.remove(connection, old, by="x", now_ms=at(25))
        for line in trail.lines:
            audit_trail.append(
                connection, line.what, kind=line.kind, id=line.id, body=json.loads(line.body), by="x", at_ms=line.at_ms
            )
    made, _ = assessing.make(
        database, CATALOGUE, "2026-10", GroupBy.CHIEF, files.read_formula(None), now_ms=at(1, month=12)
    )
    found = {row.key: row.shares for row in made.rows}
    assert {key: shares[Indicator.WATER] for key, shares in found.items()} == {old: Share(1, 2), new: Share(0, 1)}
    assert {key: shares[Indicator.PATROL].of for key, shares in found.items()} == {old: 1, new: 2}
    database.close()


def test_the_api_answers_by_street_and_as_a_spreadsheet(database: Database) -> None:
    context = Context(database, SqlReadings(database, CATALOGUE), CATALOGUE, "/s", lambda: at(1, month=12), open=True)
    client = TestClient(create_app(context))
    told = client.get("/api/v1/assessments", params={"month": "2026-10"}).json()
    (row,) = told["rows"]
    assert (row["key"], row["zh"], row["cases"]) == ("s1", "=1+1 示例镇街", 3)
    assert row["indicators"]["acceptance"] == {"good": 1, "of": 3, "value": pytest.approx(1 / 3), "available": True}
    assert row["indicators"]["water"]["value"] == 0.5
    assert row["indicators"]["patrol"] == {"good": 0, "of": 0, "value": None, "available": True}
    sheet = client.get("/api/v1/assessments", params={"month": "2026-10"}, headers={"Accept": XLSX})
    assert sheet.headers["content-type"] == XLSX
    assert shown(sheet.content).rows()[0][0] == "=1+1 示例镇街 Street one"  # a name is no formula
    wrong = client.get("/api/v1/assessments", params={"month": "2026-13"})
    assert (wrong.status_code, "2026-13" in wrong.json()["detail"]) == (400, True)
