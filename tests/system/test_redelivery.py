"""A message that is delivered again, as after a crash before its acknowledgement, leaves nothing twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from governance.incidents import queries as incident_queries
from infra.database import Database
from ingest import ledger, quarantine
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import device_events, registry
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue
from sensors.reading import Message, Reason
from sensors.stations import Registry, Station
from sensors.wire.telemetry import topic
from tests.databases import with_tables
from tests.postgres import DIALECTS, fresh

T0 = 1_790_000_100_000
CATALOGUE = catalogue()
PARTLY = b'{"seq": 0, "total": 2, "readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.1, "nonsense": 1}}]}'


@pytest.fixture(params=DIALECTS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    database = with_tables(Database(fresh(request.param, tmp_path)))
    with database.write() as connection:
        registry.save(connection, Registry((Station("s1", "站一", "station one", 113.1, 23.0),), catalogue=CATALOGUE))
    yield Site(database, SqlReadings(database, CATALOGUE), Rules(), CATALOGUE)
    database.close()


def event(body: bytes, packet_id: int, at_ms: int) -> Message:
    return Message("s1", body, at_ms, "mqtt", topic("s1", "event"), kind="event", packet_id=packet_id)


def again(message: Message, at_ms: int) -> Message:
    return replace(message, received_at_ms=at_ms, redelivered=True)


def events(site: Site) -> int:
    with site.database.read() as connection:
        return len(device_events.listing(connection, "s1"))


def found(site: Site) -> int:
    with site.database.read() as connection:
        return len(incident_queries.list_incidents(connection, limit=100))


@pytest.mark.parametrize(
    "body", [b'{"event": "leak"}', b'{"event": "leak", "at": "2026-05-12T10:30:00Z"}', b"\xff\x00"]
)
def test_an_event_that_is_delivered_again_is_kept_once_and_raises_once(site: Site, body: bytes) -> None:
    first = event(body, 7, T0)
    site.handle_device_messages([first, again(first, T0 + 1)], T0 + 1)
    opened = found(site)
    site.refresh()
    site.handle_device_messages([again(first, T0 + 60_000)], T0 + 60_000)
    assert events(site) == 1
    assert found(site) == opened


def test_an_event_without_a_time_that_happens_again_is_another_event(site: Site) -> None:
    site.handle_device_messages([event(b'{"event": "leak"}', 7, T0)], T0)
    site.handle_device_messages(
        [event(b'{"event": "leak"}', 8, T0 + 1), event(b'{"event": "leak"}', 7, T0 + 2)], T0 + 2
    )
    assert events(site) == 3


def test_an_event_delivered_again_that_was_not_stored_before_is_kept(site: Site) -> None:
    site.handle_device_messages([again(event(b'{"event": "leak"}', 7, T0), T0)], T0)
    assert events(site) == 1


def test_a_message_refused_in_part_and_delivered_again_has_one_entry_and_its_readings_are_duplicates(
    site: Site,
) -> None:
    first = Message("s1", PARTLY, T0, "mqtt", topic("s1"))
    site.process([first, replace(first, received_at_ms=T0 + 1)], T0 + 1)
    site.refresh()
    site.process([replace(first, received_at_ms=T0 + 60_000)], T0 + 60_000)
    with site.database.read() as connection:
        (held,) = quarantine.listing(connection)
        (account,) = [a for a in ledger.accounts(connection) if a.readings]
    assert (held.reason, held.times) == (Reason.UNKNOWN_PARAMETER.key, 3)
    assert (account.readings, account.stored, account.duplicate, account.quarantined) == (6, 1, 4, 1)
    assert account.closed


def test_a_message_refused_as_a_whole_and_delivered_again_has_one_entry(site: Site) -> None:
    for later in range(3):
        site.process([Message("s1", b"not json", T0 + later, "mqtt", topic("s1"))], T0 + later)
        site.handle_device_messages(
            [Message("s1", b"no status", T0 + later, "mqtt", topic("s1", "status"), kind="status")], T0 + later
        )
    with site.database.read() as connection:
        entries = quarantine.listing(connection)
        messages = sum(a.messages_quarantined for a in ledger.accounts(connection))
    assert sorted((one.reason, one.times) for one in entries) == [("not_json", 3), ("wrong_shape", 3)]
    assert messages == 1


def test_what_arrives_again_after_its_entry_was_replayed_has_a_new_entry(site: Site) -> None:
    first = Message("s1", PARTLY, T0, "mqtt", topic("s1"))
    site.process([first], T0)
    with site.database.read() as connection:
        (held,) = quarantine.listing(connection)
    site.process([held.message()], T0 + 1)
    with site.database.read() as connection:
        (refused_again,) = quarantine.listing(connection)
    assert refused_again.id != held.id
    site.process([replace(first, received_at_ms=T0 + 2)], T0 + 2)
    with site.database.read() as connection:
        (same,) = quarantine.listing(connection)
        (account,) = [a for a in ledger.accounts(connection) if a.readings]
    assert (same.id, same.times) == (refused_again.id, 2)
    assert (account.stored, account.duplicate, account.quarantined, account.closed) == (1, 2, 1, True)
