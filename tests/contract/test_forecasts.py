"""Forecasts from stored readings to the API, the command line and an incident that pages nobody before it is true."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Incident
from governance.tables import outbox
from infra.database import Database
from infra.texts import Text
from ingest.analysis.forecasts import Forecasts, limits
from ingest.rules.model import Rules, Scope, Side, Threshold
from ingest.rules.places import Places
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from riverchief.cli.app import app
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Flag, pack
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import a_finding
from tests.databases import stored, with_tables
from tests.says import shows

CATALOGUE = catalogue()
HOUR = 3_600_000
NOW = 20_700 * 24 * HOUR
RULE = Threshold(
    id="nh3n-high",
    parameter="nh3n",
    side=Side.ABOVE,
    limit=2.0,
    clear=1.8,
    pending_s=0,
    samples=3,
    keep_firing_s=0,
    colour=Colour.ORANGE,
    version="1",
)


@dataclass
class Tidal:
    """A tidal creek whose ammonia follows the tide by the hour, and a station whose ammonia walks at random."""

    folder: Path
    database: Database
    store: SqlReadings
    clock: list[int] = field(default_factory=lambda: [NOW + 60_000])
    woken: list[int] = field(default_factory=list)
    job: Forecasts = field(init=False)

    def __post_init__(self) -> None:
        self.job = self.new_job()

    def new_job(self) -> Forecasts:
        return Forecasts(
            self.database,
            self.store,
            CATALOGUE,
            lambda: Rules(thresholds=(RULE,)),
            clock_ms=lambda: self.clock[0],
            source="/test",
            on_findings=lambda: self.woken.append(1),
        )

    def write(
        self, station: int, at: np.ndarray, value: np.ndarray, flag: int = PLAIN, parameter: str = "nh3n"
    ) -> None:
        stored(self.database, self.store, ("creek", "drift"), {(station, parameter): (at, value)}, flag)

    def tide(self, at: np.ndarray) -> np.ndarray:
        hours = (at - NOW) / HOUR
        noise = 0.03 * np.sin(at / HOUR * 7.31) + 0.03 * np.cos(at / HOUR * 3.77)
        return 1.4 + 1.0 * np.sin(2 * np.pi * (hours - 1.9) / 12.4206) + noise

    def incidents(self) -> list[Incident]:
        with self.database.read() as connection:
            return incident_queries.list_incidents(connection, limit=10)

    def notified(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(outbox.c.notify).order_by(outbox.c.id)).scalars())


@pytest.fixture
def tidal(tmp_path: Path) -> Iterator[Tidal]:
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    stations = (
        Station("creek", "潮涌", "tidal creek", 113.1, 23.0, reach="creek", water=Water.CREEK, parameters=("nh3n",)),
        Station("drift", "漂", "drift", 113.1, 23.0, parameters=("nh3n",)),
    )
    reaches = (
        Reach("creek", "示例涌", "example creek", Water.CREEK, ((113.0, 23.0), (113.1, 23.0)), target=WaterClass.IV),
    )
    with database.write() as connection:
        registry.save(connection, Registry(stations, (), reaches, CATALOGUE))
    world = Tidal(tmp_path, database, SqlReadings(database, CATALOGUE))
    at = np.arange(NOW - 40 * 24 * HOUR, NOW, HOUR // 2)
    world.write(0, at, world.tide(at))
    world.write(1, at, 1 + np.abs(np.cumsum(np.random.default_rng(3).normal(size=len(at)))) * 0.02)
    yield world
    database.close()


def client(tidal: Tidal) -> TestClient:
    context = Context(tidal.database, tidal.store, CATALOGUE, "/test", lambda: tidal.clock[0], open=True)
    return TestClient(create_app(context), base_url="http://127.0.0.1")


def test_a_tidal_series_is_shown_with_its_time_to_the_limit_and_a_wandering_one_says_why_not(tidal):
    assert tidal.job.round() == 1
    http = client(tidal)
    (creek,) = http.get("/api/v1/stations/creek/forecast?parameter=nh3n").json()["items"]
    assert creek["shown"]
    assert creek["ratio"] < 0.5
    truth = tidal.tide(np.array([NOW + HOUR * k + HOUR // 2 for k in range(24)]))
    told = np.array([point["value"] for point in creek["points"][:24]])
    assert np.abs(told - truth).mean() < 0.2
    by_rule = {c["rule"]: c for c in creek["crossings"]}
    assert by_rule["nh3n-high"]["limit"] == 2.0
    assert by_rule[None]["limit"] == 1.5  # class IV of GB 3838
    assert by_rule["nh3n-high"]["earliest_at"] <= by_rule["nh3n-high"]["expected_at"]
    (drift,) = http.get("/api/v1/stations/drift/forecast").json()["items"]
    assert not drift["shown"]
    assert drift["points"] == []
    assert shows(drift["text"]["zh"], "forecast.no_skill") or shows(drift["text"]["zh"], "forecast.narrow")


def test_a_forecast_informs_after_two_rounds_and_is_one_incident_with_what_it_foretold(tidal):
    tidal.job.round()
    tidal.job = tidal.new_job()
    tidal.job.round()
    assert tidal.incidents() == [], "a restart within the hour is no second round"
    at = np.arange(NOW, NOW + HOUR, HOUR // 2)
    tidal.write(0, at, tidal.tide(at))
    tidal.clock[0] += HOUR
    tidal.job.round()
    (opened,) = tidal.incidents()
    assert opened.kind is FindingKind.FORECAST
    assert opened.colour in (Colour.YELLOW, Colour.BLUE)
    assert shows(opened.title.zh, "headline.forecast", hours=2)
    assert "限值2.0" in opened.title.zh
    assert tidal.notified() == ["inform"]
    assert tidal.woken
    tidal.job.round()  # the same hour again, as after a restart
    assert len(tidal.notified()) == 1
    real = a_finding(
        NOW + 2 * HOUR,
        rule=RULE.id,
        cause="water:creek",
        station="creek",
        value=2.3,
        colour=opened.colour,
        text=Text("真的超了", "it is there"),
    )
    with tidal.database.write() as connection:
        incident_store.record_findings(connection, [real], NOW + 2 * HOUR, source="/test")
    (same,) = tidal.incidents()
    assert same.id == opened.id
    assert same.kind is FindingKind.THRESHOLD
    assert same.title.en == "it is there"
    assert tidal.notified() == ["inform", "page"]


def test_what_was_forecast_ends_when_it_has_come(tidal):
    tidal.job.round()
    at = np.arange(NOW, NOW + 8 * HOUR, HOUR // 2)
    tidal.write(0, at, tidal.tide(at))
    peak = int(np.argmax(tidal.tide(at) > 2.1))
    tidal.clock[0] = NOW + HOUR + 60_000
    tidal.job.round()
    assert tidal.incidents()[0].active
    tidal.clock[0] = int(at[peak]) // HOUR * HOUR + 2 * HOUR + 60_000
    tidal.job.round()
    (ended,) = tidal.incidents()
    assert not ended.active
    with tidal.database.read() as connection:
        last = incident_store.history(connection, ended.id)[-1]
    assert shows(last.text.zh, "forecast.came_true")


def test_flagged_readings_and_late_ones_are_treated_as_the_rules_treat_them(tidal):
    tidal.job.round()
    http = client(tidal)
    before = http.get("/api/v1/stations/creek/forecast").json()["items"][0]["points"]
    bad = np.array([NOW - 3 * 60_000])
    tidal.write(0, bad, np.array([90.0]), int(pack(np.array([Flag.BAD], np.uint8), np.array([1], np.uint32))[0]))
    tidal.job.round()
    assert http.get("/api/v1/stations/creek/forecast").json()["items"][0]["points"] == before
    late = np.array([NOW - 2 * HOUR + 60_000])
    tidal.write(0, late, np.array([4.0]))
    tidal.job.round()
    remembered = http.get("/api/v1/stations/creek/forecast").json()["items"][0]["points"]
    assert remembered != before
    tidal.new_job().round()  # a start that reads everything anew comes to the same
    assert http.get("/api/v1/stations/creek/forecast").json()["items"][0]["points"] == remembered


def test_the_command_line_tells_the_forecast_and_what_is_unknown(tidal):
    tidal.job.round()
    run = CliRunner()
    asked = ["forecast", "creek", "nh3n", "--data", str(tidal.folder)]
    told = run.invoke(app, [*asked, "--json"], catch_exceptions=False)
    body = json.loads(told.stdout)
    assert body["shown"]
    assert len(body["points"]) == 32
    plain = run.invoke(app, asked, catch_exceptions=False).stdout
    assert f"{100 * body['coverage']:.0f}%" in plain
    assert "80 %" not in plain
    for wrong, word in ((["forecast", "nowhere", "nh3n"], "nowhere"), (["forecast", "creek", "gold"], "gold")):
        failed = run.invoke(app, [*wrong, "--data", str(tidal.folder)])
        assert failed.exit_code != 0
        assert word in str(failed.exception)


def test_questions_about_what_does_not_exist_are_answered_clearly(tidal):
    http = client(tidal)
    assert http.get("/api/v1/stations/nowhere/forecast").status_code == 404
    answer = http.get("/api/v1/stations/creek/forecast?parameter=gold")
    assert answer.status_code == 400
    assert "gold" in answer.json()["detail"]
    assert http.get("/api/v1/stations/creek/forecast").json() == {"items": []}


def test_the_limits_are_those_of_the_rules_and_of_the_target_class(tidal):
    with tidal.database.read() as connection:
        known = registry.load(connection, CATALOGUE)
    creek, places = known["creek"], Places(known)
    found = limits((RULE,), places.target(creek), creek, "do")
    assert [(one.limit, one.above, one.rule) for one in found] == [(3.0, False, "")]  # class IV, at least 3 mg/L
    assert limits((), None, known["drift"], "nh3n") == []


def test_the_limit_that_is_forecast_is_that_of_the_rule_that_speaks_of_the_station(tidal):
    """A rule written again for a region or a station goes before the general one, as it does for the readings."""
    with tidal.database.read() as connection:
        known = registry.load(connection, CATALOGUE)
    creek, places = known["creek"], Places(known)
    mine = replace(RULE, id="mine", limit=RULE.limit + 1, where=Scope(stations=("creek",)))
    elsewhere = replace(RULE, id="elsewhere", where=Scope(regions=("nowhere",)))
    rules = Rules(thresholds=(RULE, mine, elsewhere))
    found = limits(rules.applicable(creek, places), None, creek, RULE.parameter)
    assert [one.rule for one in found] == ["mine"]
