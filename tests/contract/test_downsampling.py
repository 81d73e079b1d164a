"""Hours and Beijing days on the time-series server are what the readings in the database say, whatever happens between.

On both databases; on InfluxDB 1.6 itself and on the stand-in of 2.7.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from governance.audit import trail as audit_trail
from infra import database as databases
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.times import DAY_MS
from ingest import forward
from ingest.analysis import downsample
from ingest.analysis.downsample import DAYS_PER_ROUND, Downsampler
from ingest.forward import Forwarder
from ingest.storage import downsampling, registry, schema
from ingest.storage.downsampling import DAYS, DELAY_MS, HOURS, Waiting
from ingest.storage.influx_setup import Plan, set_up
from ingest.storage.lineprotocol import FieldValue
from ingest.storage.port import Window
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import NotSetUp, ServerKind, ServerSettings, TimeSeriesServer
from riverchief import single_writer
from riverchief.cli.app import app
from riverchief.services import housekeeping
from sensors.parameters import catalogue
from sensors.reading import Batch, Flag, QualityTest
from sensors.stations import Registry, Station
from tests import postgres
from tests.databases import stored, with_tables
from tests.influx import real_server
from tests.influx2 import TOKEN, Influx2
from tests.postgres import DIALECTS
from tests.proxy import HangUp, Proxy, Silent, Status

CATALOGUE = catalogue()
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY_BEGIN = 1_790_006_400_000
"""2026-09-22 00:00 in Beijing."""
NOW = DAY_BEGIN + 30 * HOUR
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
BAD = int(Flag.BAD) | int(QualityTest.SENTINEL) << 4

Points = dict[tuple[str, int], dict[str, FieldValue]]


class Place:
    """A database with a spool before a time-series server that is set up, and a clock that is moved by hand."""

    def __init__(self, url: str, server: TimeSeriesServer, stations: int = 2) -> None:
        self.database = with_tables(Database(url))
        self.names = [f"s{i}" for i in range(stations)]
        with self.database.write() as connection:
            rows = tuple(Station(key, "站", "station", 113.1, 23.0, reach="r1") for key in self.names)
            registry.save(connection, Registry(rows, catalogue=CATALOGUE))
        self.now_ms = NOW
        self.server = server
        list(set_up(server, Plan(0, 0, 0)))
        self.spool = Spool(self.database, CATALOGUE, clock_ms=lambda: self.now_ms, most_bytes=2**30)
        self.store = TieredReadings(SqlReadings(self.database, CATALOGUE), CATALOGUE, spool=self.spool)
        self.forwarder = Forwarder(self.database, self.spool, server, CATALOGUE, clock_ms=lambda: self.now_ms)
        self.downsampler = self.another()

    def another(self, server: TimeSeriesServer | None = None, hourly_days: int = 0) -> Downsampler:
        return Downsampler(
            self.database,
            self.store,
            server or self.server,
            CATALOGUE,
            keep_days={HOURS: hourly_days, DAYS: 0},
            clock_ms=lambda: self.now_ms,
        )

    def write(self, at: list[int], values: list[float], station: int = 0, parameter: str = "ph") -> None:
        """Readings are stored, and their time-series server has them."""
        stored(self.database, self.store, self.names, {(station, parameter): (at, values)})
        self.forward()

    def review(self, at: list[int], mark: int, parameter: str = "ph") -> None:
        """Stored readings get another verdict."""
        n = len(at)
        batch = Batch.of([0] * n, [CATALOGUE.index[parameter]] * n, at, [0.0] * n)
        with self.database.write() as connection:
            self.store.reflag(connection, self.names, batch, np.full(n, mark, np.int64))
        self.forward()

    def forward(self) -> None:
        while self.forwarder.round():
            pass

    def compute(self) -> int:
        """Compute what is due an hour later; the number of station-days."""
        self.now_ms += DELAY_MS
        return sum(iter(self.downsampler.round, 0))

    def waiting(self) -> Waiting:
        with self.database.read() as connection:
            return downsampling.waiting(connection, self.now_ms)

    def points(self, tier: downsampling.Tier) -> Points:
        """What the server has: (station, begin) → fields that have a value."""
        (tables,) = self.server.influxql(f'SELECT * FROM "{tier.policy}"."{tier.measurement}"')
        found: Points = {}
        for table in tables:
            for row in table.rows:
                cells = dict(zip(table.columns, row, strict=True))
                at, station, reach = int(cells.pop("time") or 0), cells.pop("station"), cells.pop("reach")
                assert reach == "r1"
                assert isinstance(station, str)
                found[station, at] = {key: value for key, value in cells.items() if value is not None}
        return found


def summary(parameter: str, mean: float, low: float, high: float, number: int, worst: int) -> dict[str, FieldValue]:
    names = (schema.lowest(parameter), schema.highest(parameter), schema.number(parameter), schema.worst(parameter))
    return {parameter: mean, **dict(zip(names, (low, high, number, worst), strict=True))}


def client2(fake: Influx2, url: str | None = None) -> TimeSeriesServer:
    settings = ServerSettings(url or fake.url, ServerKind.INFLUXDB2, org="riverchief", bucket="water", token=TOKEN)
    return TimeSeriesServer(settings)


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["2.7 stand-in", pytest.param("1.6", marks=pytest.mark.influx)])
def server(request: pytest.FixtureRequest, kept: ExitStack) -> TimeSeriesServer:
    if request.param == "1.6":
        return kept.enter_context(real_server(ServerKind.INFLUXDB1).fresh())
    return kept.enter_context(client2(kept.enter_context(Influx2())))


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'river.db'}" if request.param == "sqlite" else postgres.server().database()


@pytest.fixture
def place(url: str, server: TimeSeriesServer, kept: ExitStack) -> Place:
    made = Place(url, server)
    kept.callback(made.database.close)
    return made


@pytest.fixture
def small(tmp_path: Path, kept: ExitStack) -> Place:
    """A place on SQLite before the stand-in."""
    made = Place(f"sqlite:///{tmp_path / 'river.db'}", client2(kept.enter_context(Influx2())))
    kept.callback(made.database.close)
    return made


# -- what is computed ------------------------------------------------------------------------------------------------


def test_hours_and_days_follow_late_readings_corrections_and_reviews(place: Place) -> None:
    first, second = DAY_BEGIN + 2 * HOUR, DAY_BEGIN + 3 * HOUR
    place.write([first, first + MINUTE, second], [1.0, 5.0, 9.0])
    place.write([DAY_BEGIN - 1, DAY_BEGIN], [20.0, 2.0], station=1, parameter="do")
    assert place.compute() == 3
    day_before = (DAY_BEGIN - DAY_MS, DAY_BEGIN - HOUR)
    assert place.points(HOURS) == {
        ("s0", first): summary("ph", 3.0, 1.0, 5.0, 2, 1),
        ("s0", second): summary("ph", 9.0, 9.0, 9.0, 1, 1),
        ("s1", day_before[1]): summary("do", 20.0, 20.0, 20.0, 1, 1),
        ("s1", DAY_BEGIN): summary("do", 2.0, 2.0, 2.0, 1, 1),
    }
    assert place.points(DAYS) == {
        ("s0", DAY_BEGIN): summary("ph", 5.0, 1.0, 9.0, 3, 1),
        ("s1", day_before[0]): summary("do", 20.0, 20.0, 20.0, 1, 1),
        ("s1", DAY_BEGIN): summary("do", 2.0, 2.0, 2.0, 1, 1),
    }

    place.write([first + 2 * MINUTE], [6.0])  # late
    place.write([first], [4.0])  # a correction
    place.review([second], SUSPECT)
    assert place.compute() == 1, "one day was touched"
    assert place.points(HOURS)["s0", first] == summary("ph", 5.0, 4.0, 6.0, 3, 1)
    assert place.points(DAYS)["s0", DAY_BEGIN] == summary("ph", 5.0, 4.0, 6.0, 3, 3)
    assert (place.points(HOURS)["s0", second]["ph_count"], place.points(HOURS)["s0", second]["ph_worst"]) == (0, 3)

    place.review([first, first + MINUTE, first + 2 * MINUTE], BAD)
    place.compute()
    assert (place.points(DAYS)["s0", DAY_BEGIN]["ph_count"], place.points(DAYS)["s0", DAY_BEGIN]["ph_worst"]) == (0, 4)


def test_computing_everything_again_changes_nothing(place: Place) -> None:
    at = [DAY_BEGIN + i * 7 * MINUTE for i in range(300)]
    place.write(at, [i % 13 / 7 for i in range(300)])
    assert place.compute() == 2
    before = place.points(HOURS), place.points(DAYS)
    assert place.compute() == 0
    with place.database.write() as connection:
        entered = downsampling.schedule_since(connection, place.names, DAY_BEGIN - 3 * DAY_MS, place.now_ms)
    assert entered == 2 * 5
    assert place.waiting().days == entered
    assert sum(iter(place.downsampler.round, 0)) == entered
    assert (place.points(HOURS), place.points(DAYS)) == before
    assert sum(int(fields["ph_count"]) for fields in before[0].values()) == 300


def test_a_day_waits_an_hour_however_often_it_is_touched(small: Place) -> None:
    for i in range(4):
        small.write([DAY_BEGIN + i * MINUTE], [7.0])
        assert small.downsampler.round() == 0
        assert small.waiting() == Waiting(1, None)
        small.now_ms += DELAY_MS // 4
    assert small.waiting() == Waiting(1, small.now_ms)
    assert small.downsampler.round() == 1
    assert small.waiting() == Waiting(0, None)


def test_hours_that_the_server_no_longer_keeps_are_not_sent_and_their_days_are(small: Place) -> None:
    long_ago = DAY_BEGIN - 40 * DAY_MS
    small.write([long_ago, DAY_BEGIN], [7.0, 8.0])
    small.downsampler = small.another(hourly_days=30)
    small.compute()
    assert set(small.points(HOURS)) == {("s0", DAY_BEGIN)}
    assert set(small.points(DAYS)) == {("s0", long_ago), ("s0", DAY_BEGIN)}


def test_readings_that_came_out_of_the_quarantine_make_their_day_due(small: Place) -> None:
    with small.database.write() as connection:
        small.spool.add_lines(
            connection, [b"water,station=s1 ph=7,ph_flag=1i %d" % DAY_BEGIN, b"event,kind=visit id=1i 1"]
        )
    small.forward()
    small.now_ms += DELAY_MS
    with small.database.read() as connection:
        (day,) = downsampling.due_days(connection, small.now_ms, 10)
    assert (day.station, day.day_ms) == ("s1", DAY_BEGIN)


def test_many_stations_are_computed_in_rounds_of_bounded_size(tmp_path: Path, kept: ExitStack) -> None:
    place = Place(f"sqlite:///{tmp_path / 'river.db'}", client2(kept.enter_context(Influx2())), stations=450)
    kept.callback(place.database.close)
    series: dict[tuple[int, str], tuple[list[int], list[float]]] = {
        (i, "ph"): ([DAY_BEGIN + h * HOUR for h in range(24)], [7.0] * 24) for i in range(450)
    }
    stored(place.database, place.store, place.names, series)
    place.forward()
    place.now_ms += DELAY_MS
    assert [place.downsampler.round() for _ in range(4)] == [DAYS_PER_ROUND, DAYS_PER_ROUND, 50, 0]
    assert (len(place.points(HOURS)), len(place.points(DAYS))) == (450 * 24, 450)


# -- whatever happens between ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [HangUp(), Status(503), Status(401), Silent()])
def test_what_the_server_did_not_take_stays_due(tmp_path: Path, kept: ExitStack, trouble: Any) -> None:
    fake = kept.enter_context(Influx2())
    proxy = kept.enter_context(Proxy(fake.url))
    place = Place(f"sqlite:///{tmp_path / 'river.db'}", client2(fake, proxy.url))
    kept.callback(place.database.close)
    place.write([DAY_BEGIN], [7.0])
    place.now_ms += DELAY_MS
    proxy.script = [trouble]
    with pytest.raises(StorageUnavailable):
        place.downsampler.round()
    assert place.waiting().days == 1
    assert place.another().round() == 1, "as after a kill"
    assert place.points(DAYS) == {("s0", DAY_BEGIN): summary("ph", 7.0, 7.0, 7.0, 1, 1)}


def test_a_server_without_the_buckets_is_told_in_the_state_and_the_day_stays_due(small: Place) -> None:
    small.write([DAY_BEGIN], [7.0])
    small.now_ms += DELAY_MS
    nowhere = TimeSeriesServer(
        ServerSettings(small.server.settings.url, ServerKind.INFLUXDB2, "riverchief", "none", TOKEN)
    )
    elsewhere = small.another(nowhere)
    assert elsewhere.next_round() > 0
    assert "none_hourly" in elsewhere.state.error
    assert small.waiting().days == 1
    nowhere.close()


@pytest.mark.influx
def test_a_retention_policy_that_is_not_there_is_a_case_for_setup() -> None:
    with real_server(ServerKind.INFLUXDB1).fresh() as bare:
        for use in (bare.send, bare.verify):
            with pytest.raises(NotSetUp, match="retention policy not found: hourly"):
                use([b"water_hourly,station=s0 ph=7 %d" % DAY_BEGIN], "hourly")


def test_a_day_that_is_touched_while_it_is_computed_is_computed_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write([DAY_BEGIN], [7.0])
    window = place.store.window

    def late(*asked: Any) -> Window:
        found = window(*asked)
        monkeypatch.setattr(place.store, "window", window)
        place.write([DAY_BEGIN + MINUTE], [9.0])
        return found

    monkeypatch.setattr(place.store, "window", late)
    assert place.compute() == 2
    assert place.points(DAYS)["s0", DAY_BEGIN] == summary("ph", 8.0, 7.0, 9.0, 2, 1)


@pytest.mark.postgres
def test_a_downsampler_that_does_not_know_yet_that_another_took_over_is_alone(
    kept: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(postgres.server().database(), client2(kept.enter_context(Influx2())))
    kept.callback(place.database.close)
    place.write([DAY_BEGIN], [7.0])
    place.now_ms += DELAY_MS
    asking, may_answer = threading.Event(), threading.Event()
    window: Callable[..., Window] = place.store.window

    def slow(*asked: Any) -> Window:
        asking.set()
        assert may_answer.wait(30)
        return window(*asked)

    monkeypatch.setattr(place.store, "window", slow)
    first = threading.Thread(target=place.downsampler.round)
    first.start()
    assert asking.wait(30)
    assert place.another().round() == 0
    may_answer.set()
    first.join()
    assert place.waiting().days == 0


def test_no_two_parts_share_an_advisory_lock() -> None:
    locks = [
        databases.SCHEMA_LOCK,
        single_writer.INGEST_LOCK,
        housekeeping.LOCK,
        audit_trail.TRAIL_LOCK,
        forward.FORWARDING,
        downsample.LOCK,
    ]
    assert len(set(locks)) == len(locks)


# -- on demand -------------------------------------------------------------------------------------------------------


def test_days_since_a_date_are_entered_on_the_command_line(small: Place, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    influx = f"[influx]\nurl = '{small.server.settings.url}'\nbucket = 'water'\ntoken = '{TOKEN}'\n"
    settings.write_text(f"data = '{tmp_path}'\n[database]\nurl = 'sqlite:///{tmp_path / 'river.db'}'\n{influx}")
    ran = CliRunner().invoke(app, ["setup", "influx", "-c", str(settings), "--json", "--since", "2026-09-20"])
    assert ran.exit_code == 0, ran.output
    with small.database.read() as connection:
        days = downsampling.due_days(connection, 2**53, 100_000)
    assert min(day.day_ms for day in days) == DAY_BEGIN - 2 * DAY_MS
    assert {day.station for day in days} == {"s0", "s1"}
    settings.write_text(settings.read_text() + "kind = 'influxdb3'\n")
    ran = CliRunner().invoke(app, ["setup", "influx", "-c", str(settings), "--since", "2026-09-20"])
    assert ran.exit_code != 0
