"""Live classes and annotations: from stored readings to the API and to the time-series server."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, Finding, FindingKind
from governance.incidents.model import Action, Order
from infra.database import Database
from infra.texts import Text
from ingest.analysis import chart_annotations, live_classes
from ingest.analysis.chart_annotations import AnnotationWriter, annotate
from ingest.pipeline import Outcome
from ingest.storage import lineprotocol, registry, schema
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, Message
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Reach, Registry, Station, Water
from tests.cases import OPERATOR, a_finding
from tests.databases import with_tables
from tests.says import shows

pytestmark = pytest.mark.both_databases

CATALOGUE = catalogue()
T0 = 1_790_000_040_000
MINUTE = 60_000
STATIONS = ("up", "down", "lake")
GOOD = {"ph": 7.2, "do": 8.0, "nh3n": 0.1}


@dataclass
class Water3:
    """Two stations on a creek that is to reach class IV, one on a lake without a target."""

    database: Database
    store: SqlReadings
    spool: Spool
    client: TestClient
    now_ms: int = T0

    def measure(self, station: str, at_ms: int, values: dict[str, float], flag: int = PLAIN) -> None:
        batch = Batch.of(
            [STATIONS.index(station)] * len(values),
            [CATALOGUE.index[key] for key in values],
            [at_ms] * len(values),
            list(values.values()),
        )
        with self.database.write() as connection:
            self.store.write(connection, STATIONS, batch, np.full(len(values), flag))

    def judge(self, at_ms: int) -> dict[str, live_classes.ShownClass]:
        told = live_classes.update_classes(self.database, self.store, CATALOGUE, at_ms, self.spool)
        return {f"{one.kind}:{one.key}": one for one in told}

    def open_incident(self, colour: Colour, kind: FindingKind = FindingKind.THRESHOLD) -> None:
        rule = f"{kind}-{colour}"
        found = a_finding(T0, rule=rule, cause=rule, station="up", colour=colour, kind=kind)
        with self.database.write() as connection:
            incident_store.record_findings(connection, [found], T0, source="/test")

    def state_on_the_sign(self, reach: str) -> list[str]:
        page = self.client.get(f"/report?reach={reach}").text
        return re.findall(r'data-testid="report-water-([a-z]+)"', page)

    def points(self, measurement: str) -> list[lineprotocol.Point]:
        lines = [line for entry in self.spool.next(10**6) for line in entry.lines]
        return [point for line in lines if (point := lineprotocol.parse(line)).measurement == measurement]


@pytest.fixture
def water(url: str) -> Iterator[Water3]:
    database = Database(url)
    with_tables(database)
    measured = tuple(GOOD)
    stations = (
        Station("up", "上", "up", 113.1, 23.0, reach="creek", water=Water.CREEK, interval_s=300, parameters=measured),
        Station(
            "down", "下", "down", 113.1, 23.0, reach="creek", water=Water.CREEK, interval_s=300, parameters=measured
        ),
        Station("lake", "湖", "lake", 113.1, 23.0, reach="pond", water=Water.LAKE, interval_s=300, parameters=measured),
    )
    reaches = (
        Reach("creek", "示例涌", "example creek", Water.CREEK, (), target=WaterClass.IV),
        Reach("pond", "示例湖", "example lake", Water.LAKE, ()),
    )
    with database.write() as connection:
        registry.save(connection, Registry(stations, (), reaches, CATALOGUE))
    store = SqlReadings(database, CATALOGUE)
    spool = Spool(database, CATALOGUE, clock_ms=lambda: T0, most_bytes=2**30)
    context = Context(database, store, CATALOGUE, "/test", lambda: T0, open=True)
    yield Water3(database, store, spool, TestClient(create_app(context)))
    database.close()


def test_an_analyser_counts_for_two_of_its_own_cycles_as_its_deployment_says(water: Water3) -> None:
    """An electrode that reports every five minutes is old after a quarter of an hour, an analyser is not."""
    electrode = Deployment("up", "nh3n", T0 - MINUTE, "mg/L", cycle_s=300)
    water.measure("up", T0, GOOD)
    at_ms = T0 + 20 * MINUTE
    water.measure("up", at_ms, {"ph": 7.2, "do": 8.0})
    assert water.judge(at_ms)["station:up"].judged == 3
    with water.database.write() as connection:
        registry.save_deployments(connection, [electrode])
    assert water.judge(at_ms)["station:up"].judged == 2


def test_a_reach_shows_its_worst_station_and_misses_its_target_for_it(water: Water3) -> None:
    water.measure("up", T0 - MINUTE, GOOD)
    water.measure("down", T0 - MINUTE, GOOD | {"nh3n": 5.0})
    shown = water.judge(T0)
    assert shown["station:up"].water_class is WaterClass.I
    assert (shown["station:down"].water_class, shown["station:down"].deciding) == (WaterClass.WORSE, ("nh3n",))
    assert shown["station:lake"].water_class is None, "nothing measured is no class, and never a good one"
    reach = water.client.get("/api/v1/reaches/creek").json()
    assert reach["target"] == "IV"
    assert reach["live"] | {"zh": "", "en": ""} == {
        "water_class": ">V",
        "at": "2026-09-21T14:14:00Z",
        "deciding": ["nh3n"],
        "judged": 2,
        "expected": 2,
        "target": "IV",
        "met": False,
        "zh": "",
        "en": "",
        "measured_at": "2026-09-21T14:13:00Z",
        "silent": 0,
        "stations": 2,
    }
    assert shows(reach["live"]["zh"], "live_class.reach", worst="下", shown="劣Ⅴ类"), "by its name, not by its key"
    assert "氨氮" in reach["live"]["zh"]
    pond = water.client.get("/api/v1/reaches/pond").json()
    assert (pond["live"]["water_class"], pond["live"]["met"], pond["live"]["judged"]) == (None, None, 0)
    latest = {one["station"]: one for one in water.client.get("/api/v1/stations/latest").json()["items"]}
    assert latest["up"]["live"]["water_class"] == "I"
    assert (latest["up"]["live"]["judged"], latest["up"]["live"]["met"]) == (3, True)
    assert water.client.get("/api/v1/stations/down/latest").json()["live"]["water_class"] == ">V"


def test_before_anything_was_judged_there_is_no_class_to_show(water: Water3) -> None:
    assert water.client.get("/api/v1/reaches/creek").json()["live"] is None
    assert water.client.get("/api/v1/stations/up/latest").json()["live"] is None


def test_readings_that_are_suspect_neither_worsen_nor_improve_a_class(water: Water3) -> None:
    water.measure("up", T0 - MINUTE, GOOD)
    water.measure("up", T0, {"nh3n": 9.0}, int(Flag.BAD))
    assert water.judge(T0)["station:up"].water_class is WaterClass.I


def test_a_class_does_not_flicker_and_what_it_waits_for_survives_a_restart(water: Water3) -> None:
    """One bad reading is no class; the third in a row is, also when each was judged by another process."""
    water.measure("up", T0, GOOD)
    assert water.judge(T0)["station:up"].water_class is WaterClass.I
    for n in (1, 2, 3):
        water.measure("up", T0 + n * 5 * MINUTE, GOOD | {"nh3n": 1.8})
        water.store = SqlReadings(water.database, CATALOGUE)
        shown = water.judge(T0 + n * 5 * MINUTE)["station:up"]
        assert shown.water_class is (WaterClass.V if n == 3 else WaterClass.I)
    with water.database.read() as connection:
        assert live_classes.current_classes(connection, live_classes.STATION)["up"].water_class is WaterClass.V
    with water.database.write() as connection:
        connection.exec_driver_sql("UPDATE live_class SET carried = 'of an older version' WHERE key = 'up'")
    assert water.judge(T0 + 16 * MINUTE)["station:up"].water_class is WaterClass.V


def test_three_readings_that_come_at_once_count_as_three(water: Water3) -> None:
    water.measure("up", T0, GOOD)
    assert water.judge(T0 + MINUTE)["station:up"].water_class is WaterClass.I
    for minutes in (5, 10, 15):  # in one message, after the class was judged at a later time
        water.measure("up", T0 + minutes * MINUTE, {"nh3n": 8.8})
    shown = water.judge(T0 + 16 * MINUTE)
    assert shown["station:up"].water_class is WaterClass.WORSE
    assert shown["station:up"].measured_ms == T0 + 15 * MINUTE
    assert shown["reach:creek"].measured_ms == T0 + 15 * MINUTE
    assert water.judge(T0 + 17 * MINUTE)["station:up"].water_class is WaterClass.WORSE


def test_a_reading_after_a_single_bad_one_still_makes_no_third(water: Water3) -> None:
    water.measure("up", T0, GOOD)
    water.judge(T0)
    for minutes, value in ((5, 8.8), (10, 0.1), (15, 8.8), (20, 8.8)):
        water.measure("up", T0 + minutes * MINUTE, {"nh3n": value})
    assert water.judge(T0 + 21 * MINUTE)["station:up"].water_class is WaterClass.I


def test_a_reach_tells_how_many_of_its_stations_are_silent(water: Water3) -> None:
    water.measure("up", T0 - 16 * MINUTE, GOOD)
    water.measure("down", T0, GOOD)
    shown = water.judge(T0)
    assert (shown["reach:creek"].silent, shown["reach:creek"].stations) == (1, 2)
    assert (shown["station:up"].silent, shown["station:down"].silent) == (1, 0)


def test_a_station_is_judged_as_its_readings_come_and_not_once_a_minute(water: Water3) -> None:
    water.measure("up", T0, GOOD)
    water.now_ms = T0
    annotations = AnnotationWriter(
        water.database, water.store, CATALOGUE, clock_ms=lambda: water.now_ms, spool=water.spool
    )
    annotations.next_round()
    for minutes in (5, 10, 15):
        water.measure("up", T0 + minutes * MINUTE, {"nh3n": 8.8})
    water.now_ms = T0 + 15 * MINUTE + 1000
    none = np.zeros(1, np.int64)
    annotations.on_batch([Message("up", b"", water.now_ms)], Outcome(1, none, none, (), 0, (), 0))
    annotations.next_round()
    with water.database.read() as connection:
        assert live_classes.current_classes(connection, live_classes.STATION)["up"].water_class is WaterClass.WORSE
        assert live_classes.current_classes(connection, live_classes.REACH)["creek"].water_class is WaterClass.WORSE


def test_in_a_backlog_judging_rests_for_several_times_as_long_as_it_took(
    water: Water3, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = AnnotationWriter(
        water.database, water.store, CATALOGUE, clock_ms=lambda: water.now_ms, spool=water.spool
    )
    annotations.next_round()
    clock, rests = [1.0], []

    def judge() -> None:
        clock[0] += 2.0

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return False

    monkeypatch.setattr(chart_annotations, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(annotations, "judge_reported", judge)
    monkeypatch.setattr(annotations._stopping, "wait", rest)
    annotations._next_at = 60.0
    annotations.next_round()
    annotations.next_round()
    assert rests == [chart_annotations.GATHER_S, 2.0 * chart_annotations.REST]


def test_the_sign_and_the_river_file_tell_of_a_red_incident_before_the_class_follows(water: Water3) -> None:
    water.measure("up", T0, GOOD)
    water.judge(T0)
    water.open_incident(Colour.RED)
    file = water.client.get("/api/v1/reaches/creek/file").json()
    assert file["red_since"] is not None
    assert water.state_on_the_sign("creek") == ["red"]
    assert water.state_on_the_sign("pond") == []


@pytest.mark.parametrize("colour", [*Colour, None])
def test_the_sign_tells_the_colour_the_class_and_the_age_of_the_reading_and_nothing_of_the_incident(
    water: Water3, colour: Colour | None
) -> None:
    water.measure("up", T0 - 7 * MINUTE, GOOD)
    water.judge(T0)
    if colour is not None:
        water.open_incident(Colour.BLUE)
        water.open_incident(colour)
    page = water.client.get("/report?reach=creek").text
    assert water.state_on_the_sign("creek") == [colour or "calm"]
    assert ('role="alert"' in page) == (colour in (Colour.RED, Colour.ORANGE, Colour.YELLOW))
    assert "（7分钟前）" in page
    assert shows(page, "citizen.class_line", condition=WaterClass.I.zh, sign="Ⅰ")
    assert not re.search("nh3n|2[.]4|超标", page.partition("<main>")[2]), "what an incident says is not published"
    english = water.client.get("/report?reach=creek&lang=en").text
    assert "(7 min ago)" in english
    assert "异常" not in english


def test_the_sign_gives_no_all_clear_for_water_that_nobody_measures_now(water: Water3) -> None:
    assert water.state_on_the_sign("creek") == [], "never judged"
    water.measure("up", T0 - 16 * MINUTE, GOOD)
    water.judge(T0)
    assert water.state_on_the_sign("creek") == [], "every station is silent"


@pytest.mark.parametrize("kind", [FindingKind.DEVICE, FindingKind.NO_DATA, FindingKind.FORECAST, FindingKind.REPORT])
def test_the_sign_shows_neither_a_fault_of_a_device_nor_a_forecast_nor_what_somebody_reported(
    water: Water3, kind: FindingKind
) -> None:
    water.measure("up", T0, GOOD)
    water.judge(T0)
    water.open_incident(Colour.YELLOW, kind)
    assert water.state_on_the_sign("creek") == ["calm"]


def test_each_judgement_is_a_point_for_the_charts(water: Water3) -> None:
    water.measure("down", T0 - MINUTE, GOOD | {"do": 2.5})
    water.judge(T0 + 12_345)
    points = {tuple(sorted(p.tags.items())): p for p in water.points(schema.RIVER_CLASS)}
    assert len(points) == 5
    station = points[(schema.REACH, "creek"), (schema.STATION, "down")]
    assert station.at == T0
    assert station.fields == {
        schema.CLASS: 5,
        schema.DECIDING: "do",
        schema.JUDGED: 3,
        schema.EXPECTED: 3,
        schema.TARGET: 4,
    }
    assert points[((schema.REACH, "creek"),)].fields[schema.CLASS] == 5
    assert schema.CLASS not in points[((schema.REACH, "pond"),)].fields


def finding(at_ms: int, colour: Colour = Colour.ORANGE) -> Finding:
    return a_finding(
        at_ms,
        cause="water:up",
        station="up",
        value=6.0,
        colour=colour,
        text=Text("氨氮偏高 6.0 mg/L", "ammonia is high, 6.0 mg/L"),
    )


def test_an_incident_is_one_annotation_that_follows_it_to_its_end(water: Water3) -> None:
    def record(one: Finding, now_ms: int) -> None:
        with water.database.write() as connection:
            incident_store.record_findings(connection, [one], now_ms, source="/test")

    record(finding(T0), T0)
    assert annotate(water.database, water.spool) == 1
    assert annotate(water.database, water.spool) == 0
    (first,) = water.points(schema.EVENT)
    assert (first.at, first.fields[schema.COLOUR], first.fields[schema.UNTIL]) == (T0, "orange", 0)
    assert "氨氮偏高" in str(first.fields[schema.TITLE])
    record(finding(T0 + MINUTE, Colour.RED), T0 + MINUTE)
    with water.database.write() as connection:
        incident_store.apply_action(
            connection,
            1,
            Order(Action.FALSE_ALARM, comment="示例", reason="other"),
            OPERATOR,
            now_ms=T0 + 2 * MINUTE,
            source="/test",
        )
    assert annotate(water.database, water.spool) == 1
    *_, last = water.points(schema.EVENT)
    assert (last.measurement, last.tags, last.at) == (first.measurement, first.tags, first.at), (
        "it overwrites the first"
    )
    assert (last.fields[schema.COLOUR], last.fields[schema.UNTIL]) == ("red", T0 + 2 * MINUTE)
    assert last.fields[schema.ID] == first.fields[schema.ID] == 1


def test_one_round_does_both_and_a_database_that_is_away_is_told_and_waited_for(water: Water3) -> None:
    annotations = AnnotationWriter(
        water.database, water.store, CATALOGUE, clock_ms=lambda: T0 + MINUTE, spool=water.spool
    )
    water.measure("up", T0, GOOD)
    with water.database.write() as connection:
        incident_store.record_findings(connection, [finding(T0)], T0, source="/test")
    annotations.round()
    assert len(water.points(schema.RIVER_CLASS)) == 5
    assert len(water.points(schema.EVENT)) == 1
    assert annotations.last_round_ms == T0 + MINUTE
