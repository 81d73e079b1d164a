"""Where an incident came from: traced when it opens, kept beside it, told by the API, the history and the console."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from infra.database import Database
from infra.errors import NotFound
from infra.texts import Text, both, say
from infra.times import rfc3339
from ingest.analysis import source_attribution
from ingest.analysis.source_attribution import AttributionWorker
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from riverchief import files
from riverchief.cli.app import app
from sensors.parameters import catalogue
from sensors.source_attribution import RiverTree
from tests.cases import a_finding
from tests.databases import stored, with_tables
from tests.says import shows

CATALOGUE = catalogue()
HOUR = 3_600_000
T = 20_700 * 24 * HOUR
REGISTRY = files.read_book(Path(__file__).parents[2] / "config" / "stations.toml", CATALOGUE).registry
SOURCE = "pk-qcc-02"


@dataclass
class Creek:
    """Qicha Creek with sewage from its second outfall: seen at the two stations below, not at the one above."""

    folder: Path
    database: Database
    store: SqlReadings
    clock: list[int] = field(default_factory=lambda: [T + 30 * 60_000])
    woken: list[int] = field(default_factory=list)
    job: AttributionWorker = field(init=False)

    def __post_init__(self) -> None:
        self.job = AttributionWorker(
            self.database,
            self.store,
            CATALOGUE,
            clock_ms=lambda: self.clock[0],
            source="/test",
            on_entry=lambda: self.woken.append(1),
        )

    def fire(self, station: str, kind: FindingKind = FindingKind.THRESHOLD, *, retrospective: bool = False) -> int:
        finding = a_finding(
            T,
            rule=f"{kind}-of-nh3n",
            kind=kind,
            cause=f"{kind}:{station}",
            station=station,
            value=4.0,
            colour=Colour.ORANGE,
            text=Text("超标", "exceeded"),
            retrospective=retrospective,
        )
        with self.database.write() as connection:
            return incident_store.record_findings(connection, [finding], T, source="/test").ids[0]


@pytest.fixture
def creek(tmp_path: Path) -> Iterator[Creek]:
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        registry_store.save(connection, REGISTRY)
    store = SqlReadings(database, CATALOGUE)
    rng = np.random.default_rng(2)
    at = np.arange(T - 48 * HOUR, T + 8 * HOUR, 600_000)
    keys = tuple(s.key for s in REGISTRY.stations)
    begins = {"qcc-huanhu-2": -0.5, "qcc-huanhu-3": 4.0}  # hours from when it was found
    series = {}
    for key in ("qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3", "dph-shiwan-3", "dph-shiwan-4"):
        hours = (at - T) / HOUR
        rise = np.clip(hours - begins[key], 0, 1) if key in begins else np.zeros(len(at))
        lines = {
            "nh3n": 1 + 0.05 * rng.normal(size=len(at)) + 4 * rise,
            "do": 5 + 0.1 * rng.normal(size=len(at)) - 2 * rise,
        }
        if key == "dph-shiwan-4":
            lines["level"] = 0.8 + 0.5 * np.cos(2 * np.pi * hours / 12.42)
        series |= {(keys.index(key), name): (at, line) for name, line in lines.items()}
    stored(database, store, keys, series)
    yield Creek(tmp_path, database, store)
    database.close()


def client(creek: Creek) -> TestClient:
    context = Context(creek.database, creek.store, CATALOGUE, "/test", lambda: creek.clock[0], open=True)
    return TestClient(create_app(context), base_url="http://127.0.0.1")


def test_an_incident_is_traced_when_it_opens_and_its_history_names_the_source(creek):
    number = creek.fire("qcc-huanhu-2")
    assert creek.job.round() == 1
    assert creek.job.round() == 0  # once, not every round
    body = client(creek).get(f"/api/v1/incidents/{number}/trace").json()
    assert body["candidates"][0]["key"] == SOURCE
    assert body["candidates"][0]["early_at"] <= body["candidates"][0]["late_at"] <= rfc3339(T)
    assert {s["station"] for s in body["seen"]} == {"qcc-huanhu-2"}
    assert "qcc-huanhu-1" in body["quiet"]
    assert "nh3n" in body["rises"]
    assert "do" in body["falls"]
    assert any(shows(reason["zh"], "source_attribution.quiet_for") for reason in body["candidates"][0]["reasons"])
    with creek.database.read() as connection:
        last = incident_store.history(connection, number)[-1]
        told = source_attribution.likeliest_sources(connection, [number])
    assert "奇槎涌2号合流排口" in (last.comment or "")
    assert (last.by, last.role) == ("riverchief", "system")
    assert "奇槎涌2号合流排口" in told[number].zh
    assert creek.woken


def test_it_is_traced_again_when_more_stations_have_seen_it(creek):
    number = creek.fire("qcc-huanhu-2")
    creek.job.round()
    creek.clock[0] = T + 7 * HOUR
    assert creek.job.round() == 1
    body = client(creek).get(f"/api/v1/incidents/{number}/trace").json()
    assert {s["station"] for s in body["seen"]} == {"qcc-huanhu-2", "qcc-huanhu-3"}
    assert body["candidates"][0]["key"] == SOURCE
    with creek.database.read() as connection:
        comments = [e.comment for e in incident_store.history(connection, number) if e.comment]
    assert len(comments) == 1  # the same source is said once


def test_what_was_found_in_the_past_is_traced_once_by_the_worker_and_never_by_who_looks(creek, monkeypatch):
    numbers = [creek.fire(f"qcc-huanhu-{i}", retrospective=True) for i in (1, 2, 3)]
    here = client(creek)
    monkeypatch.setattr(source_attribution, "PAST_PER_ROUND", 2)
    for number in numbers:
        answer = here.get(f"/api/v1/incidents/{number}/trace")
        assert answer.status_code == 404
        assert answer.json()["detail"] == both(say("source_attribution.not_yet", id=number))
    assert [creek.job.round() for _ in range(3)] == [2, 1, 0]
    body = here.get(f"/api/v1/incidents/{numbers[1]}/trace").json()
    assert body["candidates"][0]["key"] == SOURCE
    with creek.database.read() as connection:
        assert not [e.comment for e in incident_store.history(connection, numbers[1]) if e.comment]
    creek.clock[0] = T + 7 * HOUR
    assert creek.job.round() == 0


def test_silence_and_forecasts_have_no_source(creek):
    for kind in (FindingKind.NO_DATA, FindingKind.FORECAST, FindingKind.DEVICE, FindingKind.REPORT):
        number = creek.fire("qcc-huanhu-2", kind)
        assert creek.job.round() == 0
        answer = client(creek).get(f"/api/v1/incidents/{number}/trace")
        assert answer.status_code == 404
        assert str(kind) in answer.json()["detail"]
    assert client(creek).get("/api/v1/incidents/4711/trace").status_code == 404


def test_a_station_on_no_reach_says_so_once(creek):
    with creek.database.write() as connection:
        lost = registry_store.load(connection, CATALOGUE)["qcc-huanhu-2"]
        registry_store.save_stations(connection, [replace(lost, reach="")], Author("test", T))
    number = creek.fire("qcc-huanhu-2")
    assert creek.job.round() == 1
    assert creek.job.round() == 0
    body = client(creek).get(f"/api/v1/incidents/{number}/trace").json()
    assert body["candidates"] == []
    assert "no reach" in body["text"]["en"]
    assert "no reach" not in body["text"]["zh"]


def test_the_command_line_traces_an_incident_or_a_station_at_a_time(creek):
    number = creek.fire("qcc-huanhu-2")
    creek.job.round()
    run, data = CliRunner(), ["--data", str(creek.folder)]
    told = run.invoke(app, ["trace", str(number), *data, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout)["candidates"][0]["key"] == SOURCE
    asked = ["trace", "--station", "qcc-huanhu-2", "--at", rfc3339(T), *data]
    shown = run.invoke(app, asked, catch_exceptions=False).stdout
    assert "奇槎涌2号合流排口" in shown
    for wrong, word in (
        (["trace"], "name an incident"),
        (["trace", "--station", "nowhere", "--at", rfc3339(T)], "nowhere"),
        (["trace", "--station", "qcc-huanhu-2", "--at", "noon"], "noon"),
        (["trace", "--station", "qcc-huanhu-2", "--at", "2199-01-01T00:00:00Z"], "not happened"),
        (["trace", "99"], "99"),
    ):
        failed = run.invoke(app, [*wrong, *data])
        assert failed.exit_code != 0
        assert word in str(failed.exception)


def test_the_shipped_network_has_no_circle_and_knows_its_stations():
    river = RiverTree(REGISTRY)
    assert {"qcc-huanhu-1", "qcc-huanhu-3"} <= set(river.near("qcc-huanhu-2"))
    with pytest.raises(NotFound):
        river.spot("nowhere")
