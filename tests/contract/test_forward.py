"""The spool is emptied into a real server through whatever stands in between: nothing lost, nothing doubled."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.database import Database
from ingest import quarantine
from ingest.forward import Forwarder
from ingest.ledger import accounts
from ingest.pipeline import Site
from ingest.storage import registry, schema
from ingest.storage.influx import InfluxReadings
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import ServerError, ServerKind, TimeSeriesServer
from riverchief import files
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch, Flag, QualityTest
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.influx import RealServer, real_server
from tests.proxy import Behaviour, CutAnswer, CutRequest, Forward, HangUp, Proxy, Silent, Slow, Status, TooLarge
from tests.rig import eventually
from tests.says import says

pytestmark = pytest.mark.influx

CATALOGUE = catalogue()
T0 = 1_790_000_000_000
STATIONS = ("s1", "s2", "s3")
PARAMETERS = ("ph", "do", "nh3n", "water_temp")
SUSPECT = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
FAST = (0.01, 0.02, 0.05)


class Desk:
    """A database with a spool, and a time-series server behind a proxy."""

    def __init__(self, folder: Path, real: RealServer, proxy: Proxy) -> None:
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        stations = tuple(Station(key, key, key, 113.1, 23.0, reach="r1") for key in STATIONS)
        with self.database.write() as connection:
            registry.save(connection, Registry(stations, catalogue=CATALOGUE))
        self.proxy = proxy
        self.direct = real.fresh()
        self.server = TimeSeriesServer(replace(self.direct.settings, url=proxy.url))
        self.spool = Spool(self.database, CATALOGUE, clock_ms=lambda: T0, most_bytes=2**30)
        self.recent = SqlReadings(self.database, CATALOGUE)
        self.store = TieredReadings(self.recent, CATALOGUE, spool=self.spool)
        self._random = random.Random(5)
        self.written = 0

    def forwarder(self) -> Forwarder:
        return Forwarder(
            self.database, self.spool, self.server, CATALOGUE, clock_ms=lambda: T0, poll_s=0.01, backoff_s=FAST
        )

    def write(self, batches: int) -> None:
        """Batches of new readings, some that are there already with another value, and changed verdicts."""
        for _ in range(batches):
            rows = [
                (s, p, T0 + 60_000 * (self.written + i), self._random.gauss(7, 1))
                for s in range(len(STATIONS))
                for p in range(len(PARAMETERS))
                for i in range(-3, 10)
            ]
            batch = Batch.of(
                [s for s, *_ in rows],
                [CATALOGUE.index[PARAMETERS[p]] for _, p, *_ in rows],
                [at for _, _, at, _ in rows],
                [value for *_, value in rows],
            )
            packed = np.array([self._random.choice([PLAIN, PLAIN, PLAIN, SUSPECT]) for _ in rows])
            changed = np.where(packed[::7] == PLAIN, SUSPECT, PLAIN)
            again = batch.take(np.arange(0, len(batch), 7))
            with self.database.write() as connection:
                self.store.write(connection, STATIONS, batch, packed)
                self.store.reflag(connection, STATIONS, again, changed)
            self.written += 10

    def drained(self) -> bool:
        return self.spool.waiting().entries == 0

    def both_hold_the_same(self) -> None:
        remote = InfluxReadings(self.direct, CATALOGUE, lambda station: "r1")
        total = 0
        for station in STATIONS:
            ours, theirs = (store.window(station, 0, 2**53) for store in (self.recent, remote))
            assert ours.parameter.tolist() == theirs.parameter.tolist()
            assert ours.at.tolist() == theirs.at.tolist()
            assert ours.value.tolist() == theirs.value.tolist()
            assert ours.packed.tolist() == theirs.packed.tolist()
            total += len(ours)
        assert total > 0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[[], Desk]]:
    made: list[Desk] = []

    def make() -> Desk:
        real = real_server(ServerKind.INFLUXDB1)
        proxy = Proxy(real.url)
        proxy.start()
        made.append(Desk(tmp_path, real, proxy))
        return made[-1]

    yield make
    for one in made:
        one.proxy.close()
        one.server.close()
        one.direct.close()
        one.database.close()


@pytest.fixture
def running_forwarder() -> Iterator[Callable[[Forwarder], Forwarder]]:
    started: list[Forwarder] = []

    def start(forwarder: Forwarder) -> Forwarder:
        forwarder.start()
        started.append(forwarder)
        return forwarder

    yield start
    for one in started:
        assert one.stop()


BAD_DAY: list[Behaviour] = [
    Status(503),
    Status(503),
    Status(429, retry_after="0"),
    CutRequest(),
    CutAnswer(),
    HangUp(),
    Status(502, b"<html>proxy</html>", content_type="text/html"),
    Silent(),
    Forward(),
    Silent(),
    TooLarge(2_000),
    CutAnswer(),
    Status(401),
    Status(500),
]


def test_whatever_stands_in_between_the_server_ends_up_with_what_the_database_has(
    desk: Callable[[], Desk],
    running_forwarder: Callable[[Forwarder], Forwarder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.sending.DENIED_PAUSE_S", 0.05)
    here = desk()
    bad = iter(BAD_DAY * 3)
    here.proxy.script = lambda seen: next(bad, Forward()) if seen.is_write else Forward()
    running_forwarder(here.forwarder())
    for _ in range(12):
        here.write(3)
        eventually("a request", lambda: len(here.proxy.writes) > 0)
    eventually("the bad day is over", lambda: next(bad, None) is None or len(here.proxy.writes) > len(BAD_DAY))
    here.write(3)
    eventually("the spool is empty", here.drained)
    with here.database.read() as connection:
        assert quarantine.listing(connection) == []
    here.both_hold_the_same()


def test_what_one_forwarder_left_the_next_one_sends(
    desk: Callable[[], Desk], running_forwarder: Callable[[Forwarder], Forwarder]
) -> None:
    here = desk()
    here.write(10)
    here.proxy.script = [HangUp()]  # the server has it, the word is lost: as after kill -9
    with pytest.raises(ServerError, match=says("time_series_server.away")):
        here.forwarder().round()
    assert here.spool.waiting().entries == 20
    running_forwarder(here.forwarder())
    eventually("the spool is empty", here.drained)
    here.both_hold_the_same()


def test_a_later_value_is_never_overtaken_by_an_earlier_one(desk: Callable[[], Desk]) -> None:
    """One entry waits at a slow server while newer values of the same keys are written."""
    here = desk()
    release = threading.Event()
    here.proxy.script = [Slow(release)]
    here.write(1)
    sending = threading.Thread(target=here.forwarder().round)
    sending.start()
    eventually("the request is on its way", lambda: here.proxy.writes)
    here.written = 0
    here.write(1)
    release.set()
    sending.join(30)
    assert here.forwarder().round() > 0
    here.both_hold_the_same()


def test_a_refused_login_keeps_everything_and_is_told_in_plain_words(
    desk: Callable[[], Desk], running_forwarder: Callable[[Forwarder], Forwarder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sending.DENIED_PAUSE_S", 0.05)
    here = desk()
    here.proxy.script = lambda seen: Status(401, b'{"error":"authorization failed"}')
    here.write(2)
    forwarder = running_forwarder(here.forwarder())
    eventually("it is told", lambda: "influx.token" in forwarder.state.error)
    assert "authorization failed" in forwarder.state.error
    assert here.spool.waiting().entries == 4
    here.proxy.script = []
    eventually("the spool is empty", here.drained)
    assert forwarder.state.error == ""
    here.both_hold_the_same()


def test_a_line_the_server_never_takes_is_quarantined_and_the_others_go_through(desk: Callable[[], Desk]) -> None:
    here = desk()
    assert here.direct.send([b'water,station=s1,reach=r1 ph="once a text" %d' % T0]) == []
    here.write(1)
    before = here.recent.count()
    here.forwarder().round()
    assert here.drained()
    with here.database.read() as connection:
        held = quarantine.listing(connection)
    assert {(h.reason, h.source) for h in held} == {("store_refused", "spool")}
    assert {h.station for h in held} == set(STATIONS)
    assert all("ph" in h.detail and b" ph=" in h.payload and b"do=" not in h.payload for h in held)
    assert here.recent.count() == before, "the reading itself is stored all the same"
    remote = InfluxReadings(here.direct, CATALOGUE, lambda station: "r1")
    for parameter in ("do", "nh3n", "water_temp"):
        ours, theirs = (store.window("s1", 0, 2**53, [parameter]) for store in (here.recent, remote))
        assert ours.value.tolist() == theirs.value.tolist()

    # the cause is mended: the lines are sent again, once, and the ledger does not move
    drop = {"db": here.direct.settings.bucket, "q": f"DROP MEASUREMENT {schema.WATER}"}
    list(here.direct.ask("POST", "/query", params=drop))
    site = Site(here.database, here.store, files.read_rules(None, CATALOGUE), CATALOGUE, spool=here.spool)
    messages = [h.message() for h in held]
    outcome = site.process([*messages, *messages[:1]], T0 + 10**9)
    assert outcome.rejected == ()
    assert here.forwarder().round() > 0
    ours, theirs = (store.window("s1", 0, 2**53, ["ph"]) for store in (here.recent, remote))
    assert (ours.at.tolist(), ours.value.tolist()) == (theirs.at.tolist(), theirs.value.tolist())
    with here.database.read() as connection:
        assert quarantine.listing(connection) == []
        assert not any(a.messages + a.readings for a in accounts(connection))


def test_without_a_time_series_server_a_refused_line_stays_in_quarantine(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        quarantine.add_lines(connection, [("s1", b"water,station=s1 ph=7 1", "field type conflict")], T0)
    site = Site(database, SqlReadings(database, CATALOGUE), files.read_rules(None, CATALOGUE), CATALOGUE)
    with database.read() as connection:
        (held,) = quarantine.listing(connection)
    site.process([held.message()], T0)
    with database.read() as connection:
        assert [h.id for h in quarantine.listing(connection)] == [held.id]
        assert not any(a.messages + a.readings for a in accounts(connection))
    database.close()
