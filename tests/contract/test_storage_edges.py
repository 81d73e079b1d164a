"""Where stores meet the rest of the world: servers that are away or refuse, odd numbers and names, a lost server."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from governance.incidents.finding import Colour, Finding
from governance.incidents.store import record_findings
from infra.database import Database
from infra.errors import LongTermUnavailable
from infra.texts import Text
from infra.times import DAY_MS, rfc3339
from ingest import quarantine
from ingest.analysis import live_classes
from ingest.analysis.chart_annotations import annotate
from ingest.forward import Forwarder
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.refill import Refill
from ingest.storage import downsampling, registry, retention, schema, spool
from ingest.storage.archive import ParquetArchive, month_bounds_ms
from ingest.storage.influx import InfluxReadings
from ingest.storage.retention import ArchiveKeeper
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import RefusedLine, ServerKind, ServerSettings, TimeSeriesServer
from riverchief import files
from riverchief.brokers.local import free_port
from riverchief.cli.app import app
from sensors.parameters import Catalogue, catalogue
from sensors.reading import Message
from sensors.stations import Deployment, Registry, Station
from tests import postgres
from tests.cases import a_finding
from tests.databases import stored, with_tables
from tests.influx import RealServer, real_server
from tests.proxy import HangUp, Proxy
from tests.says import says

CATALOGUE = catalogue()
T0 = 1_790_000_000_000
STATIONS = (Station("s1", "示例一", "one", 113.1, 23.0), Station("s2", "示例二", "two", 113.2, 23.0))


def message(station: str, at_ms: int, **values: float) -> Message:
    body = json.dumps({"readings": [{"at": rfc3339(at_ms), "values": values}]})
    return Message(station, body.encode(), at_ms)


def fired(station: str, text: Text) -> Finding:
    return a_finding(
        T0,
        rule="ph-low",
        cause=f"water:{station}",
        station=station,
        parameter="ph",
        value=3.0,
        limit=6.0,
        colour=Colour.RED,
        text=text,
    )


class Place:
    """A database with a spool, behind it a time-series server that nobody can reach unless one is given."""

    def __init__(self, folder: Path, url: str = "", *, server: TimeSeriesServer | None = None) -> None:
        self.database = Database(url or f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.register(Registry(STATIONS, catalogue=CATALOGUE))
        away = ServerSettings(f"http://127.0.0.1:{free_port()}", ServerKind.INFLUXDB1)
        self.server = server or TimeSeriesServer(away)
        self.remote = InfluxReadings(self.server, CATALOGUE)
        self.spool = Spool(self.database, CATALOGUE, clock_ms=lambda: T0, most_bytes=2**30)
        self.recent = SqlReadings(self.database, CATALOGUE)
        self.boundary_ms = 0
        self.store = TieredReadings(
            self.recent, CATALOGUE, older=self.remote, boundary_ms=lambda: self.boundary_ms, spool=self.spool
        )
        self.forwarder = Forwarder(self.database, self.spool, self.server, CATALOGUE, clock_ms=lambda: T0)

    def register(self, one: Registry) -> None:
        with self.database.write() as connection:
            registry.save(connection, one)

    def site(self) -> Site:
        """An ingest that has just started."""
        return Site(self.database, self.store, files.read_rules(None, CATALOGUE), CATALOGUE, spool=self.spool)

    def write(self, station: int, at: list[int], value: list[float], parameter: str = "ph") -> None:
        stored(self.database, self.store, [s.key for s in STATIONS], {(station, parameter): (at, value)})

    def forward(self) -> None:
        while self.forwarder.round():
            pass

    def held(self) -> list[quarantine.QuarantineEntry]:
        with self.database.read() as connection:
            return quarantine.listing(connection)

    def close(self) -> None:
        self.server.close()
        self.database.close()


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.fixture
def influx() -> RealServer:
    return real_server(ServerKind.INFLUXDB1)


@pytest.fixture
def fed(tmp_path: Path, influx: RealServer) -> Iterator[Place]:
    """A place with a real server behind it."""
    made = Place(tmp_path, server=influx.fresh())
    yield made
    made.close()


# -- nobody waits for a server that need not be asked ------------------------------------------------------------------


def test_while_nothing_has_left_the_database_the_long_term_store_is_asked_nothing(away: Place) -> None:
    away.site().process([message("s1", T0, ph=7.1)], T0)
    started_again = away.site()
    assert started_again.process([message("s1", T0 + 60_000, ph=7.2)], T0 + 60_000).stored.sum() == 1
    assert started_again.process([message("s1", T0 - 60_000, ph=7.0)], T0 + 60_000).stored.sum() == 1, "late data"
    assert away.store.count() == {"s1": 3}


def test_a_station_silent_since_before_the_edge_keeps_no_start_waiting(away: Place) -> None:
    long_ago = T0 - 200 * DAY_MS
    away.write(0, [long_ago + i * 60_000 for i in range(300)], [7.0 + i % 7 / 10 for i in range(300)])
    away.write(0, [long_ago + 4_000_000], [99.0])  # one of them is bad, so that its past is looked for
    away.boundary_ms = T0 - 100 * DAY_MS
    site = away.site()
    assert site.process([message("s2", T0, ph=7.0)], T0).stored.sum() == 1
    site.tick(None, T0)
    assert site.process([message("s1", T0, ph=7.0)], T0).stored.sum() == 1, "it speaks again"


def test_readings_the_long_term_store_must_be_asked_for_are_missed_aloud(away: Place) -> None:
    away.write(0, [T0], [7.0])
    away.boundary_ms = T0 - DAY_MS
    for ask in (
        lambda: away.store.window("s1", 0, T0),
        lambda: away.store.raw("s1", "ph", 0, T0, 10),
        lambda: away.store.thinned("s1", "ph", 0, T0, 1000),
        away.store.count,
    ):
        with pytest.raises(LongTermUnavailable, match=says("store.long_term", edge=rfc3339(away.boundary_ms))):
            ask()


@pytest.mark.influx
def test_a_reading_of_long_ago_makes_nobody_wait_for_a_server_that_is_away(tmp_path: Path, influx: RealServer) -> None:
    with Proxy(influx.url) as proxy:
        here = Place(tmp_path, server=influx.fresh(proxy.url))
        long_ago = [T0 - 200 * DAY_MS + i * 60_000 for i in range(50)]
        here.write(0, long_ago, [7.0] * 50)
        here.forward()
        with here.database.write() as connection:
            connection.exec_driver_sql(f"DELETE FROM reading WHERE at < {long_ago[10]}")
        here.boundary_ms = T0 - 100 * DAY_MS
        proxy.script = lambda _: HangUp()
        messages = [message("s2", T0 + i * 60_000, ph=7.0) for i in range(8)]
        messages.insert(3, message("s1", long_ago[5], ph=7.5))
        intake = Intake(here.site(), clock_ms=lambda: T0 + DAY_MS, connected_since=lambda: None)
        intake.start()
        receipts = [given.result(30) for given in [intake.submit(one) for one in messages]]
        assert [r.stored for r in receipts] == [1, 1, 1, 0, 1, 1, 1, 1, 1]
        (held,) = here.held()
        assert held.reason == "past_unavailable"
        assert "long-term store" in held.detail

        again = intake.submit(held.message()).result(30)
        assert [r.reason.key for r in again.rejected] == ["past_unavailable"]
        assert [h.id for h in here.held()] == [held.id], "it is kept once"

        proxy.script = []
        again = intake.submit(held.message()).result(30)
        assert (again.stored, again.duplicate, again.rejected) == (0, 1, ())
        assert here.held() == []
        assert here.store.window("s1", long_ago[5], long_ago[5]).value.tolist() == [7.5]
        assert intake.stop()
        here.close()


# -- numbers and names -------------------------------------------------------------------------------------------------


@pytest.mark.influx
def test_minus_zero_is_zero_in_every_store_so_that_its_month_may_leave(fed: Place) -> None:
    fed.site().process([message("s1", T0, water_temp=-0.0)], T0)
    fed.forward()
    for store in (fed.recent, fed.remote):
        (value,) = store.window("s1", 0, T0).value.tolist()
        assert np.float64(value).tobytes() == np.float64(0.0).tobytes()


def test_a_value_that_its_conversion_makes_infinite_is_quarantined_and_not_stored(away: Place) -> None:
    away.register(Registry(STATIONS, (Deployment("s1", "tp", 0, "mg/L", gain=1e6),), catalogue=CATALOGUE))
    outcome = away.site().process([message("s1", T0, tp=1e308, ph=7.0)], T0)
    assert outcome.stored.tolist() == [1]
    (held,) = away.held()
    assert (held.reason, held.refused) == ("not_a_number", ((T0, "tp"),))
    assert held.detail == "tp becomes too large for a number when it is converted to its unit"


@pytest.mark.influx
def test_a_reach_whose_name_no_server_can_hold_stops_neither_readings_nor_classes(fed: Place) -> None:
    odd = replace(STATIONS[0], reach="三山\n涌\\")
    fed.register(Registry((odd, STATIONS[1]), catalogue=CATALOGUE))
    fed.site().process([message("s1", T0, ph=7.0), message("s2", T0, ph=7.5)], T0)
    live_classes.update_classes(fed.database, fed.store, CATALOGUE, T0, fed.spool)
    fed.forward()
    assert [fed.remote.window(s.key, 0, T0).value.tolist() for s in STATIONS] == [[7.0], [7.5]]
    assert fed.held() == []


@pytest.mark.influx
def test_a_line_break_in_a_title_arrives_and_stops_nothing(fed: Place) -> None:
    with fed.database.write() as connection:
        record_findings(connection, [fired("s1", Text("一\n二", "a\nb"))], T0, source="/test")
    annotate(fed.database, fed.spool)
    fed.forward()
    ((table,),) = fed.server.influxql(f"SELECT {schema.TITLE} FROM {schema.EVENT}")
    assert table.rows[0][1] == "一\n二 · a\nb"
    assert fed.held() == []


@pytest.mark.influx
def test_what_is_no_line_at_all_is_quarantined_and_the_rest_goes_on(fed: Place) -> None:
    fed.write(0, [T0], [7.0])
    with fed.database.write() as connection:
        fed.spool.add_lines(connection, [b"this is no line", b"nor,is= this 1"])
    fed.forward()
    assert {h.payload for h in fed.held()} == {b"this is no line", b"nor,is= this 1"}
    assert fed.remote.window("s1", 0, T0).value.tolist() == [7.0]


@pytest.mark.influx
def test_one_parameter_refused_in_every_line_costs_a_few_requests(fed: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that somebody else made a text: were each line asked for alone, the spool would fill faster than it
    empties, and full it stops the ingest."""
    assert fed.server.send([b'water,station=s1 ph="text" %d' % T0]) == []
    at = [T0 + 60_000 * i for i in range(400)]
    keys = ("do", "ph", "nh3n", "water_temp")
    stored(fed.database, fed.store, ["s1"], {(0, key): (at, [7.0] * 400) for key in keys})
    requests: list[int] = []
    post = fed.server._post
    monkeypatch.setattr(fed.server, "_post", lambda lines, policy: requests.append(len(lines)) or post(lines, policy))  # type: ignore[func-returns-value]
    fed.forward()
    with fed.database.read() as connection:
        assert quarantine.counts(connection) == {"store_refused": 400}
    assert len(requests) < 30
    assert len(fed.remote.window("s1", 0, at[-1], ["do"])) == 400


def test_a_parameter_that_left_the_catalogue_is_not_spoken_of_and_stops_nothing(away: Place) -> None:
    away.site().process([message("s1", T0, ph=7.0, chla=8.0)], T0)
    rows = {
        p.key: {f: getattr(p, f) for f in p.__slots__ if f != "key"} for p in CATALOGUE.parameters if p.key != "chla"
    }
    fewer = Catalogue({key: {n: v for n, v in row.items() if v is not None} for key, row in rows.items()})
    older_version = SqlReadings(away.database, fewer)
    site = Site(away.database, older_version, files.read_rules(None, fewer), fewer)
    assert site.process([message("s1", T0 + 60_000, ph=7.1)], T0 + 60_000).stored.sum() == 1
    assert [row.parameter for row in older_version.latest()] == ["ph"]
    assert set(older_version.newest("s1")) == {"ph"}
    assert older_version.count() == {"s1": 3}, "the account still closes"


# -- the command line --------------------------------------------------------------------------------------------------


def test_what_is_replayed_on_the_command_line_reaches_the_time_series_server_too(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f"data = '{tmp_path}'\n[influx]\nurl = 'http://127.0.0.1:{free_port()}'\nkind = 'influxdb1'\n")
    here = Place(tmp_path)
    here.site().process([message("stranger", T0, ph=7.0)], T0)
    with here.database.write() as connection:
        quarantine.add_lines(connection, [("s1", b"water,station=s1 ph=7,ph_flag=1i 1", "field type conflict")], T0)
        registry.save_stations(connection, [Station("stranger", "新站", "new", 113.3, 23.0)])
    assert here.spool.waiting().entries == 0
    told = CliRunner().invoke(app, ["quarantine", "replay", "--settings", str(settings), "--json"])
    assert told.exit_code == 0, told.output
    assert [(row["stored"], row["status"]) for row in json.loads(told.stdout)] == [(1, "replayed"), (0, "replayed")]
    assert [(e.kind.value, len(e.batch), e.lines) for e in here.spool.next(100)] == [
        ("readings", 1, ()),
        ("lines", 0, (b"water,station=s1 ph=7,ph_flag=1i 1",)),
    ]
    here.close()


# -- two forwarders ----------------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.influx
def test_a_forwarder_that_does_not_know_yet_that_another_took_over_sends_no_old_value_over_a_new_one(
    tmp_path: Path, influx: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Place(tmp_path, postgres.server().database(), server=influx.fresh())
    successor = Forwarder(here.database, here.spool, here.server, CATALOGUE, clock_ms=lambda: T0)
    here.write(0, [T0], [7.0])
    sending, may_send = threading.Event(), threading.Event()
    send = here.server.send

    def slow(lines: Sequence[bytes]) -> list[RefusedLine]:
        sending.set()
        assert may_send.wait(30)
        return send(lines)

    monkeypatch.setattr(here.server, "send", slow)
    first = threading.Thread(target=here.forwarder.round)
    first.start()
    assert sending.wait(30)
    here.write(0, [T0], [8.0])
    monkeypatch.setattr(here.server, "send", send)
    assert successor.round() == 0
    may_send.set()
    first.join()
    while successor.round():
        pass
    assert here.remote.window("s1", 0, T0).value.tolist() == [8.0]
    here.close()


# -- annotations on PostgreSQL -----------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_change_committed_after_a_later_numbered_one_is_annotated_all_the_same(tmp_path: Path) -> None:
    here = Place(tmp_path, postgres.server().database())

    numbered, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with here.database.write() as connection:
            record_findings(connection, [fired("s1", Text("一", "a"))], T0, source="/test")
            numbered.set()
            may_commit.wait(30)

    thread = threading.Thread(target=slow)
    thread.start()
    assert numbered.wait(30)

    def after() -> None:  # it waits for the slow one: entries of the trail have one order
        with here.database.write() as connection:
            record_findings(connection, [fired("s2", Text("一", "a"))], T0, source="/test")

    later = threading.Thread(target=after)
    later.start()
    found: list[int] = []
    annotating = threading.Thread(target=lambda: found.append(annotate(here.database, here.spool)))
    annotating.start()
    annotating.join(1.0)  # it may end here or wait for the slow one; either way none may be left out
    may_commit.set()
    thread.join()
    later.join()
    annotating.join()
    annotate(here.database, here.spool)
    told = b"\n".join(line for entry in here.spool.next(100) for line in entry.lines)
    assert b"station=s1" in told
    assert b"station=s2" in told
    here.close()


# -- a server that lost its data ---------------------------------------------------------------------------------------


def archived(place: Place, folder: Path) -> ParquetArchive:
    """The place's readings of long ago in an archive, one of them corrected since, and the archive behind its store."""
    old = month_bounds_ms("2026-01")[0]
    for station in range(2):
        place.write(station, [old + i * 60_000 for i in range(2500)], [float(i % 90) for i in range(2500)])
        place.write(station, [T0 + i * 60_000 for i in range(1500)], [5.0 + station + i % 9 for i in range(1500)])
    archive = ParquetArchive(folder / "archive", CATALOGUE)
    place.boundary_ms = month_bounds_ms("2026-02")[0]
    moved = retention.move_out(place.database, CATALOGUE, ArchiveKeeper(archive), place.boundary_ms)
    assert moved.readings == 5000
    place.write(1, [old + 60_000], [44.0])
    place.store = TieredReadings(place.recent, CATALOGUE, older=archive, boundary_ms=lambda: place.boundary_ms)
    return archive


def refill(
    place: Place,
    archive: ParquetArchive | None,
    wait: Callable[[float], None],
    narrow: Spool | None = None,
    keep_days: int = 0,
) -> Refill:
    return Refill(
        place.database,
        place.recent,
        narrow or place.spool,
        archive=archive,
        wait=wait,
        clock_ms=lambda: T0,
        keep_days=keep_days,
        downsampled=True,
    )


def same_as_ours(place: Place) -> None:
    for station in STATIONS:
        ours, theirs = (s.window(station.key, 0, 2 * T0) for s in (place.store, place.remote))
        assert len(ours) == 4000
        for name in ("parameter", "at", "value", "packed"):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()


@pytest.mark.influx
def test_a_server_that_lost_its_data_is_filled_again_from_database_and_archive(fed: Place, tmp_path: Path) -> None:
    archive = archived(fed, tmp_path)
    with fed.database.write() as connection:
        record_findings(connection, [fired("s1", Text("一", "a"))], T0, source="/test")
    annotate(fed.database, fed.spool)
    fed.forward()
    for measurement in (schema.WATER, schema.EVENT):
        fed.server.influxql(f"DROP MEASUREMENT {measurement}")
    assert len(fed.remote.window("s1", 0, 2 * T0)) == 0

    work = refill(fed, archive, lambda _: fed.forward())
    shares = [share for share, _ in work.run()]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert annotate(fed.database, fed.spool) == 1
    fed.forward()
    same_as_ours(fed)
    assert len(fed.server.influxql(f"SELECT {schema.TITLE} FROM {schema.EVENT}")[0]) == 1


@pytest.mark.influx
def test_a_refill_leaves_room_for_what_is_new_and_goes_on_where_it_was_interrupted(fed: Place, tmp_path: Path) -> None:
    archive = archived(fed, tmp_path)
    fed.forward()
    fed.server.influxql(f"DROP MEASUREMENT {schema.WATER}")
    narrow = Spool(fed.database, CATALOGUE, clock_ms=lambda: T0, most_bytes=20_000)
    waits: list[float] = []

    def forward(seconds: float) -> None:
        waits.append(seconds)
        assert narrow.waiting().bytes < 20_000
        fed.forward()

    first = refill(fed, archive, forward, narrow).run()
    next(share for share, _ in first if share > 0)  # the second station has begun
    first.close()
    (*_, (_, more)) = refill(fed, archive, forward, narrow).run()
    assert waits
    assert 4000 <= more < 8000, "what the first run had finished is not done again"
    fed.forward()
    same_as_ours(fed)


def test_a_refill_leaves_out_what_the_server_no_longer_keeps_and_has_its_hours_computed(
    away: Place, tmp_path: Path
) -> None:
    archive = archived(away, tmp_path)
    while entries := away.spool.next(10**9):
        with away.database.write() as connection:
            spool.delete(connection, [entry.id for entry in entries])
    old = month_bounds_ms("2026-01")[0]
    (*_, (_, readings)) = refill(away, archive, lambda _: None, keep_days=30).run()
    at = np.concatenate([entry.batch.at for entry in away.spool.next(10**9)])
    assert readings == len(at) == 3000
    assert at.min() >= T0
    with away.database.read() as connection:
        days = downsampling.due_days(connection, T0, 100)
    first = downsampling.day_of(old)
    assert {(day.station, day.day_ms) for day in days} == {
        (station.key, first + i * DAY_MS) for station in STATIONS for i in range(2)
    }


def test_what_is_written_during_a_refill_is_never_overtaken_by_what_was_there_before(away: Place) -> None:
    away.write(0, [T0 + i * 60_000 for i in range(1500)], [7.0] * 1500)
    run = refill(away, None, lambda _: None).run()
    next(run)
    away.write(0, [T0, T0 + 1400 * 60_000], [8.0, 8.0])
    list(run)
    last: dict[int, float] = {}
    for entry in away.spool.next(10**9):
        last |= dict(zip(entry.batch.at.tolist(), entry.batch.value.tolist(), strict=True))
    assert len(last) == 1500
    assert (last[T0], last[T0 + 1400 * 60_000]) == (8.0, 8.0)
