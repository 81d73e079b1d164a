"""One river, one file: a reach in one answer, and its plan whose every version is in the trail."""

import json

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from governance.audit import trail as audit_trail
from infra.database import Database
from ingest.storage import registry
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from tests.databases import with_tables

pytestmark = pytest.mark.both_databases

T = 1_790_000_000_000


def test_a_reach_answers_with_everything_known_and_its_plan_keeps_its_versions(url: str) -> None:
    known = catalogue()
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        line = ((113.0, 23.0), (113.1, 23.0))
        reaches = (Reach("dongping", "东平河", "Dongping", Water.RIVER, line),)
        stations = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="dongping"),)
        registry.save(connection, Registry(stations, (), reaches, known), Author("周工（示例）", T))
        body = {"reaches": {"dongping": {"class": "IV", "target": "III", "met": False}}}
        audit_trail.append(connection, "water.classes", kind="water", id="reaches", body=body, by="x", at_ms=T)
    client = TestClient(create_app(Context(database, SqlReadings(database, known), known, "/s", lambda: T, open=True)))
    path = "/api/v1/reaches/dongping"
    assert client.get(f"{path}/plan").status_code == 404
    for progress in (0.2, 0.5):
        goals = [{"goal": "氨氮达到Ⅳ类", "responsible": "李河长（示例）", "due": "2026-12-31", "progress": progress}]
        assert client.put(f"{path}/plan", json={"problem": "溢流", "goals": goals}).status_code == 200
    assert client.put(f"{path}/plan", json={"goals": [{"goal": "x", "progress": 2.0}]}).status_code in {400, 422}
    told = client.get(f"{path}/file").json()
    assert (told["zh"], told["stations"][0]["key"], told["plan"]["version"]) == ("东平河", "shiwan", 2)
    assert 10 < told["length_km"] < 10.5
    assert (told["classes"][0]["class"], told["classes"][0]["met"]) == ("IV", False)
    assert client.get("/api/v1/reaches/nowhere/file").status_code == 404
    with database.read() as connection:
        versions = [json.loads(line.body)["version"] for line in audit_trail.entries_of(connection, "plan", "dongping")]
    assert versions == [1, 2]
    database.close()
