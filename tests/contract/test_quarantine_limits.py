"""A device sends differing messages that cannot be used: the quarantine stays within its limits, the sums exact."""

from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from governance.incidents import queries
from infra.database import Database
from infra.times import DAY_MS, HOUR_MS
from ingest import ledger, quarantine, quarantine_limits
from ingest.pipeline import Site
from ingest.quarantine_limits import ENTRY_BYTES, SAMPLES, Limits
from ingest.rules.device_faults import DISCARD_RULE, QUIET_MS
from ingest.rules.model import Rules
from ingest.storage import registry
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import quarantine as entries
from riverchief.doctor import database as doctor
from riverchief.settings import Settings
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.stations import Registry, Station
from tests.databases import with_tables

pytestmark = pytest.mark.both_databases

T0 = 1_790_000_100_000
CATALOGUE = catalogue()
SIZE = ENTRY_BYTES + 16
"""Of an entry of these tests."""
FEW = 200
"""Entries of a device within a day in these tests; a fifth of them are reserved for samples."""
LIMITS = Limits(FEW * SIZE, 450 * SIZE)


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    database = with_tables(Database(url))
    with database.write() as connection:
        stations = tuple(Station(key, key, key, 113.1, 23.0) for key in ("broken", "honest", "other"))
        registry.save(connection, Registry(stations, catalogue=CATALOGUE))
    yield Site(database, SqlReadings(database, CATALOGUE), Rules(), CATALOGUE, quarantine_limits=LIMITS)
    database.close()


def malformed(n: int, at_ms: int = T0, station: str = "broken") -> Message:
    return Message(station, b"not JSON %07d" % n, at_ms, topic=f"water/{station}/telemetry")


def unknown(n: int, at_ms: int = T0, station: str = "broken") -> Message:
    """A message with one reading that is refused."""
    body = b'{"seq":%d,"boot":1,"total":%d,"readings":[{"at":"2026-09-21T00:00:00Z","values":{"gold":1}}]}'
    return Message(station, body % (n, n + 1), at_ms, topic=f"water/{station}/telemetry")


def held(site: Site, **which: str) -> list[quarantine.QuarantineEntry]:
    with site.database.read() as connection:
        return quarantine.listing(connection, limit=10_000, **which)  # type: ignore[arg-type]


def discarded(site: Site, what: str = "messages") -> Counter[tuple[str, str]]:
    with site.database.read() as connection:
        found = quarantine_limits.discarded_since(connection)
    return Counter({(one.account, one.reason): getattr(one, what) for one in found})


def accounts(site: Site) -> list[ledger.Account]:
    with site.database.read() as connection:
        return ledger.accounts(connection)


def test_what_is_beyond_the_limit_of_a_device_is_counted_exactly_and_the_sums_close(site: Site) -> None:
    for first in range(0, 1000, 200):
        site.process([unknown(n) for n in range(first, first + 200)], T0)
    site.process([unknown(n, station="honest") for n in range(5)], T0)
    kept = Counter(one.station for one in held(site))
    assert kept["honest"] == 5
    assert 0 < kept["broken"] <= FEW
    assert discarded(site) == {("broken", "unknown_parameter"): 1000 - kept["broken"]}
    assert discarded(site, "readings") == discarded(site)
    booked = {one.station: one for one in accounts(site)}
    assert (booked["broken"].readings, booked["broken"].quarantined, booked["broken"].messages) == (1000, 1000, 1000)
    assert booked["broken"].closed


def test_the_first_entries_of_a_day_and_the_first_of_each_hour_and_reason_are_kept(site: Site) -> None:
    site.process([malformed(n) for n in range(300)], T0)
    assert [one.payload for one in held(site)][-1] == malformed(0).payload
    before = len(held(site))
    site.process([malformed(n, T0 + HOUR_MS) for n in range(300, 600)], T0 + HOUR_MS)
    later = [one for one in held(site) if one.received_at_ms > T0]
    assert 0 < len(later) <= SAMPLES
    assert len(held(site)) == before + len(later) <= FEW, "samples have their part of the limit"
    assert discarded(site) == {("broken", "not_json"): 600 - len(held(site))}


def test_a_new_day_of_beijing_has_a_limit_of_its_own(site: Site) -> None:
    for day in range(2):
        site.process([malformed(1000 * day + n, T0 + day * DAY_MS) for n in range(300)], T0 + day * DAY_MS)
    assert len([one for one in held(site) if one.received_at_ms > T0]) >= FEW / 2


def test_a_full_quarantine_drops_the_oldest_of_the_device_that_holds_the_most(site: Site) -> None:
    site.process([unknown(n, station="honest") for n in range(10)], T0)
    for day in range(8):
        site.process([malformed(1000 * day + n, T0 + day * DAY_MS) for n in range(90)], T0 + day * DAY_MS)
    with site.database.read() as connection:
        assert quarantine_limits.total_bytes(connection) <= LIMITS.total_bytes
        count, payload = connection.execute(
            sa.select(sa.func.count(), sa.func.sum(sa.func.length(entries.c.payload)))
        ).one()
    assert count * ENTRY_BYTES + payload <= LIMITS.total_bytes
    assert len(held(site, station="honest")) == 10
    newest = [one.received_at_ms for one in held(site, station="broken")]
    assert max(newest) == T0 + 7 * DAY_MS
    assert discarded(site)["broken", "not_json"] == 720 - len(newest)


def test_deleted_entries_stay_in_the_ledger_and_replayed_ones_are_not_counted_as_discarded(site: Site) -> None:
    site.process([unknown(n) for n in range(50)], T0)
    (first, *_) = held(site)[::-1]
    site.process([first.message()], T0)  # it is refused again, as a new entry
    with site.database.write() as connection:
        quarantine_limits.make_room(connection, Limits(FEW * SIZE, 0))
    assert held(site) == []
    assert discarded(site, "readings") == {("broken", "unknown_parameter"): 50}
    (booked,) = accounts(site)
    assert (booked.readings, booked.quarantined) == (50, 50)


def test_what_a_person_replays_is_never_discarded(site: Site) -> None:
    site.process([unknown(n) for n in range(300)], T0)
    again = held(site)
    site.process([one.message() for one in again], T0)
    assert len(held(site)) == len(again)


def test_the_device_is_named_until_it_was_quiet_and_the_doctor_says_what_was_discarded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.process([malformed(n) for n in range(300)], T0)
    site.process([malformed(n, station="nobody") for n in range(10 * FEW)], T0)
    site.tick(None, T0 + 1000)
    site.tick(None, T0 + 2000)
    with site.database.read() as connection:
        found = queries.list_incidents(connection, limit=10)
    assert [(one.station, one.cause) for one in found] == [("broken", "device:broken")]
    assert set(site.discards.current) == {"broken", ledger.UNREGISTERED}
    assert DISCARD_RULE in {rule for rule, _, _ in site.history.checks.alarms}
    monkeypatch.setattr("infra.clock.now_ms", lambda: T0 + 3000)
    (finding,) = doctor._quarantine_limits(Settings(), site.database)
    assert (finding.check, "broken" in finding.text.en) == ("quarantine", True)
    site.tick(None, T0 + QUIET_MS)
    assert DISCARD_RULE not in {rule for rule, _, _ in site.history.checks.alarms}
    assert list(site.discards.current) == []


def test_the_unregistered_share_a_higher_limit(site: Site) -> None:
    site.process([malformed(n, station=f"new-{n % 50}") for n in range(2 * FEW)], T0)
    assert len(held(site, reason=Reason.UNKNOWN_STATION)) + len(held(site, reason=Reason.NOT_JSON)) == 2 * FEW  # type: ignore[arg-type]
    assert discarded(site) == {}
