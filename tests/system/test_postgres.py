"""PostgreSQL as several processes use it: sessions that are cut, a server that restarts, two ingests, and odd text."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import Context
from infra.clock import now_ms
from infra.database import Database, insert_many
from infra.errors import ConfigurationError, StorageUnavailable
from infra.sole_writer import SoleWriter
from ingest import ledger
from ingest.intake import Intake
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import device_events, registry
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import registry_change, sequence_gap
from riverchief.single_writer import INGEST_LOCK, exclusive_ingest
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.databases import stored
from tests.faults.test_kill import STATIONS, books_close, fleet_for, measured, subscribed
from tests.postgres import fresh, server
from tests.rig import Running, eventually
from tests.says import says

pytestmark = pytest.mark.postgres

CATALOGUE = catalogue()
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.07, 23.0)
T0 = 1_790_000_000_000
GAP = "INSERT INTO sequence_gap (station, boot, first_seq, last_seq, day)"


@pytest.fixture
def url(tmp_path) -> str:
    return fresh("postgresql", tmp_path)


@pytest.fixture
def open_database(url: str) -> Iterator[Callable[[], Database]]:
    """Opens the test's database, each time as a process of its own would."""
    opened: list[Database] = []

    def make() -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    return open_database()


def put(connection: sa.Connection, name: str) -> None:
    """A row of some table, straight to the driver as on the hot path."""
    insert_many(connection, GAP, [(name, 1, 1, 1, "2026-05-12")])


def there(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(sa.select(sequence_gap.c.station).order_by(sequence_gap.c.id)).scalars())


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_an_address_may_be_written_as_libpq_or_as_sqlalchemy_writes_it(url: str, scheme: str):
    database = Database(url.replace("postgresql", scheme, 1))
    assert there(database) == []
    database.close()


@pytest.mark.parametrize("address", ["mysql://u:hunter2@h/d", "postgresql//u:hunter2@h/d", "hunter2"])
def test_an_address_that_cannot_be_used_is_refused_without_its_password(address: str):
    with pytest.raises(ConfigurationError) as refused:
        Database(address)
    assert "hunter2" not in str(refused.value)


def test_a_database_that_cannot_hold_every_text_is_refused_by_its_encoding():
    how = "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    server().ask(f"CREATE DATABASE ascii {how}")
    database = Database(server().url("ascii"))
    with (
        pytest.raises(ConfigurationError, match=says("database.encoding", name="ascii", encoding="SQL_ASCII")),
        database.read(),
    ):
        pass
    database.close()


def test_neither_a_message_nor_the_name_of_a_database_tells_its_password():
    database = Database("postgresql://riverchief:hunter2@127.0.0.1:9/river?connect_timeout=1")
    with pytest.raises(StorageUnavailable) as failed, database.read():
        pass
    database.close()
    assert "hunter2" not in f"{failed.value} {database} {database.engine!r}"


def test_a_session_has_a_name_and_limits_and_the_address_may_set_its_own(url: str):
    database = Database(f"{url}?application_name=console&connect_timeout=2")
    with database.read() as connection:
        names = ("application_name", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        told = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
    database.close()
    assert told == ["console", "15s", "5min", "2min"]


# -- transactions ----------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_state_however_many_statements_it_asks_and_cannot_write(database: Database):
    count = sa.select(sa.func.count()).select_from(sequence_gap)
    with database.read() as reader:
        before = reader.execute(count).scalar_one()
        with database.write() as connection:
            put(connection, "meanwhile")
        assert reader.execute(count).scalar_one() == before
        with pytest.raises(StorageUnavailable, match="read-only"):
            put(reader, "from a reader")
    assert there(database) == ["meanwhile"]


def test_the_numbers_of_changes_are_given_in_the_order_in_which_they_become_visible(
    open_database: Callable[[], Database],
):
    def told(database: Database) -> list[str]:
        with database.read() as connection:
            return list(connection.execute(sa.select(registry_change.c.key).order_by(registry_change.c.id)).scalars())

    first, second, watcher = open_database(), open_database(), open_database()
    entered, release = threading.Event(), threading.Event()

    def slow() -> None:
        with first.write() as connection:
            registry.save_stations(connection, [SHIWAN])
            entered.set()
            release.wait(30)

    def quick() -> None:
        with second.write() as connection:
            registry.save_stations(connection, [Station("qicha", "奇槎", "Qicha", 113.1, 23.0)])

    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(slow)
        assert entered.wait(30)
        later = pool.submit(quick)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually("the second waits", lambda: server().ask(waiting) == [(1,)] or later.done())
        seen = told(watcher)
        release.set()
        earlier.result()
        later.result()
    assert seen == [], "a follower that saw the later number would never look for the earlier one"
    assert told(watcher) == ["shiwan", "qicha"]


@pytest.mark.parametrize("moment", ["before the first statement", "between two", "before the commit"])
def test_a_session_that_is_cut_in_a_transaction_leaves_nothing_and_the_next_transaction_succeeds(
    database: Database, moment: str
):
    with database.write() as connection:
        put(connection, "kept")

    def cut(now: str) -> None:
        if now == moment:
            assert server().cut("application_name = 'riverchief'") >= 1

    with pytest.raises(StorageUnavailable), database.write() as connection:  # noqa: PT012
        connection.exec_driver_sql("SELECT 1")
        cut("before the first statement")
        put(connection, "lost 1")
        cut("between two")
        connection.execute(sa.update(sequence_gap).values(station="lost 2"))
        cut("before the commit")
    with database.write() as connection:
        put(connection, "after")
    assert there(database) == ["kept", "after"]


def test_a_reader_whose_session_is_cut_while_idle_notices_nothing(database: Database):
    assert there(database) == []
    assert server().cut("application_name = 'riverchief'") >= 1
    assert there(database) == []


def test_a_server_that_restarts_is_unavailable_meanwhile_and_used_again_afterwards(database: Database):
    with database.write() as connection:
        put(connection, "before")
    server().stop()
    with pytest.raises(StorageUnavailable), database.write() as connection:
        put(connection, "meanwhile")
    with pytest.raises(StorageUnavailable):
        there(database)
    server().start()
    with database.write() as connection:
        put(connection, "after")
    assert there(database) == ["before", "after"]


def test_of_two_transactions_that_wait_for_each_other_one_is_asked_to_try_again(open_database: Callable[[], Database]):
    databases = [open_database(), open_database()]
    with databases[0].write() as connection:
        registry.save_stations(connection, [SHIWAN, Station("qicha", "奇槎", "Qicha", 113.1, 23.0)])
    meeting = threading.Barrier(2)

    def crossing(database: Database, order: tuple[str, str]) -> bool:
        try:
            with database.write() as connection:
                for i, key in enumerate(order):
                    registry.set_online(connection, key, True, T0)
                    if i == 0:
                        meeting.wait(30)
        except StorageUnavailable:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(crossing, databases, [("shiwan", "qicha"), ("qicha", "shiwan")]))
    assert sorted(done) == [False, True]


def test_a_statement_that_is_wrong_is_a_fault_of_ours_and_not_of_the_database(database: Database):
    with pytest.raises(sa.exc.ProgrammingError), database.write() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")
    with pytest.raises(Exception, match="nowhere") as failed, database.write() as connection:
        insert_many(connection, "INSERT INTO nowhere (a)", [("b",)])
    assert not isinstance(failed.value, StorageUnavailable)


def test_rows_with_gaps_of_every_kind_arrive_as_they_were_given(database: Database):
    rows = [("s1", 1, 4, 6, None, 9, "2026-05-12"), ("s2", 2, 5, 7, 8, None, "2026-05-13")] * 700
    into = "INSERT INTO sequence_gap (station, boot, first_seq, last_seq, total_before, total_after, day)"
    with database.write() as connection:
        insert_many(connection, into, rows)
        insert_many(connection, into, [("s3", 1, 1, 1, None, None, "2026-05-14")])
    with database.read() as connection:
        found = connection.execute(sa.select(*list(sequence_gap.c)[1:]).order_by(sequence_gap.c.id)).all()
    assert [tuple(row) for row in found] == [*rows, ("s3", 1, 1, 1, None, None, "2026-05-14")]


# -- readings --------------------------------------------------------------------------------------------------------


def write(database: Database, store: SqlReadings, parameter: str, value: float, at: int = T0) -> None:
    stored(database, store, [SHIWAN.key], {(0, parameter): ([at], [value])})


def test_a_parameter_that_one_process_hears_first_is_read_by_another_one_at_once(
    open_database: Callable[[], Database],
):
    ingest, api = open_database(), open_database()
    with ingest.write() as connection:
        registry.save(connection, Registry((SHIWAN,), catalogue=CATALOGUE))
    writing, reading = SqlReadings(ingest, CATALOGUE), SqlReadings(api, CATALOGUE)
    write(ingest, writing, "ph", 7.1)
    assert [(row.parameter, row.value) for row in reading.latest()] == [("ph", 7.1)]
    write(ingest, writing, "nh3n", 0.9)
    assert [(row.parameter, row.value) for row in reading.latest()] == [("nh3n", 0.9), ("ph", 7.1)]
    assert len(reading.window("shiwan", 0, 2**53)) == 2


def test_two_processes_that_hear_a_parameter_first_at_the_same_moment_both_store_it(
    open_database: Callable[[], Database],
):
    databases = [open_database(), open_database()]
    with databases[0].write() as connection:
        registry.save(connection, Registry((SHIWAN,), catalogue=CATALOGUE))
    stores = [SqlReadings(database, CATALOGUE) for database in databases]
    keys = ["ph", "do", "nh3n", "tp", "tn", "turbidity"]
    for number, key in enumerate(keys):
        with ThreadPoolExecutor(2) as pool:
            at = [T0 + 2 * number, T0 + 2 * number + 1]
            list(pool.map(write, databases, stores, [key] * 2, [1.5, 2.5], at))
    assert dict(stores[0].count()) == {"shiwan": 2 * len(keys)}


# -- odd text --------------------------------------------------------------------------------------------------------

NUL = "a\x00b"


def test_a_nul_character_from_outside_harms_no_request_and_no_batch(database: Database):
    with database.write() as connection:
        registry.save(connection, Registry((SHIWAN,), catalogue=CATALOGUE))
    store = SqlReadings(database, CATALOGUE)
    site = Site(database, store, Rules(), CATALOGUE)
    good = b'{"readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.1, "a\\u0000b": 1}}]}'
    said = [
        Message("shiwan", good, T0),
        Message(NUL, good, T0, topic=f"rivers/v1/{NUL}/telemetry"),
        Message("shiwan", b"\x00", T0),
    ]
    outcome = site.process(said, T0)
    assert outcome.stored.tolist() == [1, 0, 0]
    site.handle_device_messages(
        [Message("shiwan", b'{"event": "\x00"}', T0, kind="event"), Message(NUL, b"{}", T0, kind="event")], T0
    )
    with database.read() as connection:
        assert [event["body"] for event in device_events.listing(connection, "shiwan")] == ['{"event": "\\x00"}']
        assert sum(account.stored for account in ledger.accounts(connection)) == 1


def test_a_nul_character_in_a_name_a_comment_or_a_filter_is_answered_and_not_a_failure(database: Database):
    with database.write() as connection:
        registry.save(connection, Registry((SHIWAN,), catalogue=CATALOGUE))
    store = SqlReadings(database, CATALOGUE)
    intake = Intake(Site(database, store, Rules(), CATALOGUE), clock_ms=lambda: T0)
    context = Context(database, store, CATALOGUE, "/test", lambda: T0, intake.submit, open=True)
    client = TestClient(create_app(context))
    new = {"key": "new", "zh": NUL, "en": NUL, "lon": 113.1, "lat": 23.0, "note": NUL}
    made = client.post("/api/v1/stations", json=new)
    assert made.status_code < 500, made.text
    for path in ("incidents?station=%00", "quarantine?station=a%00", "ledger?station=%00", "stations/%00/latest"):
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code < 500, answer.text


# -- one ingest ------------------------------------------------------------------------------------------------------


@pytest.fixture
def writers(url: str) -> Iterator[Callable[[], SoleWriter]]:
    """Makes what two ingests would each write through."""
    made: list[SoleWriter] = []

    def make() -> SoleWriter:
        made.append(SoleWriter(url, INGEST_LOCK))
        return made[-1]

    yield make
    for one in made:
        one.close()


HOLDERS = f"pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {INGEST_LOCK & 0xFFFF_FFFF})"


def test_only_one_is_the_writer_and_the_next_when_that_one_has_gone(writers: Callable[[], SoleWriter]):
    first, second = writers(), writers()
    assert first.acquire()
    assert not second.acquire()
    assert first.confirm()
    first.close()
    assert second.acquire()


def test_a_writer_whose_session_is_cut_commits_nothing_and_goes_on_once_it_is_ready(
    database: Database, writers: Callable[[], SoleWriter]
):
    writer = writers()
    assert writer.acquire()
    with pytest.raises(StorageUnavailable), writer.write() as connection:  # noqa: PT012
        put(connection, "lost")
        assert server().cut(HOLDERS) == 1
    with pytest.raises(StorageUnavailable), writer.write():
        pass

    def kept() -> bool:
        try:
            writer.ready()
            with writer.write() as connection:
                put(connection, "kept")
        except StorageUnavailable:
            return False
        return True

    eventually("it goes on", kept)
    assert there(database) == ["kept"]
    assert writer.confirm()


def test_a_writer_that_lost_its_session_while_idle_refuses_everybody_until_somebody_has_read_again(
    database: Database, writers: Callable[[], SoleWriter]
):
    writer = writers()
    assert writer.acquire()
    assert server().cut(HOLDERS) == 1
    eventually("it is the writer again", lambda: _confirmed(writer) and _holders() == 1)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=says("store.session_lost")), writer.write():
            pass
    writer.ready()
    with writer.write() as connection:
        put(connection, "kept")
    assert there(database) == ["kept"]


def _holders() -> int:
    return len(server().ask(f"SELECT pid FROM pg_stat_activity WHERE {HOLDERS}"))


def _confirmed(writer: SoleWriter) -> bool:
    try:
        return writer.confirm()
    except StorageUnavailable:
        return False


def test_a_writer_that_another_one_stood_in_for_never_writes_again(
    database: Database, writers: Callable[[], SoleWriter], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("infra.sole_writer.RELEASE_TIMEOUT_S", 0.1)
    sleeper, other = writers(), writers()
    assert sleeper.acquire()
    assert server().cut(HOLDERS) == 1
    eventually("the other takes over", other.acquire)

    def refused() -> bool:
        with pytest.raises(StorageUnavailable), sleeper.write() as connection:
            put(connection, "of the sleeper")
        return sleeper.superseded

    eventually("it knows that it has been stood in for", refused)
    assert not sleeper.confirm()
    with pytest.raises(StorageUnavailable, match=says("store.other_writer")):
        sleeper.ready()
    other.close()
    assert refused(), "for good"
    assert there(database) == []


def test_a_site_in_whose_place_another_wrote_for_a_moment_reads_what_that_one_stored(
    database: Database, writers: Callable[[], SoleWriter]
):
    with database.write() as connection:
        registry.save(connection, Registry((Station("s0", "示例", "s0", 113.1, 23.0),), catalogue=catalogue()))

    def one_of(writer: SoleWriter) -> Site:
        return Site(writer, SqlReadings(writer, catalogue()), Rules(), catalogue())

    def message(number: int) -> Message:
        at_ms = T0 + number * 60_000
        sample = Telemetry((Sample(at_ms, {"ph": 7.0}),), number, 1, number + 1, at_ms)
        return Message("s0", telemetry.encode(sample), at_ms)

    first, other = writers(), writers()
    assert first.acquire()
    site = one_of(first)
    assert site.process([message(0)], T0).stored.sum() == 1
    assert server().cut(HOLDERS) == 1
    eventually("another takes over", other.acquire)
    assert one_of(other).process([message(1)], T0 + 60_000).stored.sum() == 1
    other.close()
    eventually("the first has the lock again", lambda: _confirmed(first))
    with suppress(StorageUnavailable):  # a write without readings is the first one after that
        site.set_aside(message(2), ValueError("示例"), T0 + 120_000)
    again = site.process([message(1)], T0 + 180_000)
    assert (again.stored.sum(), again.duplicate.sum()) == (0, 1)


def test_a_command_that_needs_the_ingest_to_be_away_is_refused_while_it_works(
    url: str, writers: Callable[[], SoleWriter]
):
    assert writers().acquire()
    with pytest.raises(ConfigurationError, match=says("ingest.taken_stop")), exclusive_ingest(url):
        pass


@pytest.fixture
def site(running: Callable[..., Running]) -> Running:
    return running("mosquitto", server().database())


@pytest.mark.broker
@pytest.mark.fault
def test_an_ingest_that_stands_by_takes_over_from_one_that_is_killed_and_the_books_close(site: Running):
    rng = random.Random(5)
    with fleet_for(site) as fleet:
        site.start("ingest")
        eventually("the first subscribes", lambda: subscribed(site))
        first = site.process
        site.start("ingest")
        eventually("the second stands by", lambda: "standing by" in site.log())
        for number in range(60):
            for i in range(STATIONS):
                fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, measured(number, rng))], now_ms())
            if number == 30:
                assert first is not None
                first.kill()
                first.wait()
            time.sleep(0.01)
        assert fleet.flush(60)
        eventually("everything is stored", lambda: site.booked() >= fleet.readings_sent)
        assert "taking over" in site.log()
        assert site.stop() == 0, site.log()
        books_close(site, fleet)


@pytest.mark.broker
@pytest.mark.fault
def test_an_ingest_that_lost_its_lock_to_another_one_ends_and_says_why(site: Running):
    site.start("ingest")
    site.register(Station("probe", "探", "probe", 113.1, 23.0))
    eventually("it works", lambda: _holders() == 1)
    thief = SoleWriter(site.url, INGEST_LOCK)

    def stolen() -> bool:
        server().cut(HOLDERS)
        return thief.acquire()

    eventually("another session has the lock", stolen)
    assert site.process is not None
    assert site.process.wait(60) == 1
    thief.close()
    assert "holds the ingest's lock" in site.log()
    assert "Traceback" not in site.log()


@pytest.mark.broker
@pytest.mark.fault
@pytest.mark.timeout(200)
def test_serve_on_postgresql_killed_and_cut_off_under_load_stores_every_reading_once(site: Running):
    rng = random.Random(8)
    with fleet_for(site) as fleet:
        site.start("serve")
        eventually("it subscribes", lambda: subscribed(site))
        for number in range(90):
            for i in range(STATIONS):
                fleet[f"s{i}"].publish([Sample(now_ms() + number % 2, measured(number, rng))], now_ms())
            if number in (20, 50):
                site.kill()
                site.start("serve")
            if number in (10, 35, 70):
                server().cut("application_name = 'riverchief'")
            time.sleep(0.02)
        assert fleet.flush(60)

        def stored() -> bool:
            if site.process is not None and site.process.poll() is not None:
                site.start("serve")  # it was cut off while it started; systemd does the same
            return site.booked() >= fleet.readings_sent

        eventually("everything is stored", stored)
        assert site.stop() == 0, site.log()
        books_close(site, fleet)
