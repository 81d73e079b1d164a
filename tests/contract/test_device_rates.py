"""A broken device sends far beyond its registered rate: it is named, its surplus is held, and nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import governance.tables  # noqa: F401
import ingest.storage.tables  # noqa: F401
from governance.incidents import queries as incident_queries
from infra.database import Database
from ingest import ledger, quarantine
from ingest.pipeline import Site
from ingest.rules.device_faults import QUIET_MS
from ingest.rules.device_rate import RULE
from ingest.rules.model import Rules
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from riverchief.doctor import database as doctor
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.stations import Registry, Station
from sensors.wire import telemetry
from sensors.wire.telemetry import Sample, Telemetry
from tests.databases import with_tables

T0 = 1_790_000_100_000
CATALOGUE = catalogue()
FEW = 50
"""Messages of a minute that a device may send in these tests."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("ingest.rules.device_rate.FREE_MESSAGES_PER_MINUTE", FEW)
    database = Database(f"sqlite:///{tmp_path / 'river.db'}")
    with_tables(database)
    with database.write() as connection:
        stations = tuple(Station(key, key, key, 113.1, 23.0) for key in ("broken", "honest"))
        registry.save(connection, Registry(stations, catalogue=CATALOGUE))
    yield Site(database, SqlReadings(database, CATALOGUE), Rules(), CATALOGUE, queue_late=True)
    database.close()


def message(n: int, at_ms: int, station: str = "broken", source: str = "mqtt") -> Message:
    body = Telemetry((Sample(at_ms, {"ph": 7.0 + n % 100 / 1000}),), n, 1, n + 1, at_ms)
    return Message(station, telemetry.encode(body), T0, source)


def held(site: Site) -> list[quarantine.QuarantineEntry]:
    with site.database.read() as connection:
        return quarantine.listing(connection, reason=Reason.TOO_FREQUENT, limit=10_000)


def account(site: Site, station: str) -> ledger.Account:
    with site.database.read() as connection:
        (found,) = ledger.accounts(connection, station=station)
    return found


def drain(site: Site) -> None:
    while late := site.late_batch():
        site.process(late, T0)


def test_the_surplus_is_held_the_device_named_and_all_of_it_can_be_replayed(site: Site) -> None:
    flood = [message(n, T0 - 600_000 + n) for n in range(500)]
    others = [message(n, T0 - 600_000 + n * 60_000, "honest") for n in range(5)]
    site.process([*flood, *others], T0)
    site.process([message(500, T0 - 1000)], T0 + 1000)
    entries = held(site)
    assert {one.station for one in entries} == {"broken"}
    assert len(entries) >= 300
    assert (account(site, "broken").stored, account(site, "honest").stored) == (501 - len(entries), 5)
    assert (account(site, "broken").complete, account(site, "broken").readings) == (True, 501)
    assert account(site, "broken").duplicate == 0
    with site.database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=10)
    assert [(one.station, one.cause) for one in found] == [("broken", "device:broken")]
    site.process([one.message() for one in entries], T0 + 2000)
    assert held(site) == []
    assert (account(site, "broken").stored, account(site, "broken").complete) == (501, True)


def test_a_time_that_repeats_fills_neither_the_queue_of_late_messages_nor_the_quarantine(site: Site) -> None:
    same = message(0, T0 - 1000)
    for _ in range(10):
        site.process([same] * 200, T0)
    assert site.late_waiting <= 2 * FEW + 10
    (entry,) = held(site)
    assert entry.times > 1500, "the same bytes are counted, not kept"
    drain(site)
    booked = account(site, "broken")
    assert booked.closed
    assert (booked.messages, booked.stored) == (2000, 1)


def test_a_backlog_of_days_is_stored_and_judged_in_order_as_ever(site: Site) -> None:
    backlog = [message(n, T0 - 3 * 86_400_000 + n * 60_000) for n in range(3000)]
    for first in range(0, len(backlog), 1000):
        site.process(backlog[first : first + 1000], T0)
    with site.database.read() as connection:
        accounts = ledger.accounts(connection, station="broken")
    assert (sum(one.stored for one in accounts), held(site), site.late_waiting) == (3000, [], 0)


def test_what_a_person_uploads_is_never_held_for_its_rate(site: Site) -> None:
    site.process([message(n, T0 - 600_000 + n, source="http") for n in range(500)], T0)
    assert (account(site, "broken").stored, held(site)) == (500, [])


def test_the_finding_ends_and_the_doctor_is_content_once_the_device_was_quiet(site: Site) -> None:
    site.process([message(n, T0 - 600_000 + n) for n in range(500)], T0)
    assert [one.check for one in doctor._device_rates(site.database)] == ["device_rates"]
    assert RULE in {rule for rule, _, _ in site.history.checks.alarms}
    site.tick(None, T0 + 1000)
    site.tick(None, T0 + QUIET_MS)
    assert list(doctor._device_rates(site.database)) == []
