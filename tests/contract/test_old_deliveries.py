"""Deliveries and messages of incidents closed long ago are deleted; what waits, lasts or may be asked again is not."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import ingest.storage.tables  # noqa: F401 - names its tables in the metadata
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import ConditionChange
from governance.notify import retention
from governance.notify.outbox import Status
from governance.notify.retention import Deleted, DeliveryRetention, delete_old
from governance.notify.tables import notice, notice_item
from governance.platforms import reconciliation
from governance.tables import incident, outbox
from infra.database import Database
from infra.times import DAY_MS
from tests.cases import a_finding
from tests.databases import with_tables

pytestmark = pytest.mark.both_databases

OPENED = 1_700_000_000_000
NOW = OPENED + 400 * DAY_MS
KEEP_DAYS = 365


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = with_tables(Database(url))
    yield database
    database.close()


def an_incident(database: Database, cause: str, *, closed_at_ms: int | None, status: Status = Status.DELIVERED) -> int:
    """An incident with three deliveries of this status, opened when the others were."""
    changes = (ConditionChange.FIRED, ConditionChange.RESOLVED, ConditionChange.FIRED)
    for n, change in enumerate(changes):
        at_ms = OPENED + n * 60_000
        with database.write() as connection:
            found = a_finding(at_ms, rule=cause, cause=cause, change=change)
            number = incident_store.record_findings(connection, [found], at_ms, source="/test").ids[0]
    with database.write() as connection:
        connection.execute(sa.update(outbox).where(outbox.c.incident_id == number).values(status=status.value))
        if closed_at_ms is not None:
            closed = {"open_cause": None, "closed_at_ms": closed_at_ms}
            connection.execute(sa.update(incident).where(incident.c.id == number).values(closed))
    return number


def a_message(database: Database, *incidents: int, status: str = "sent", at_ms: int = OPENED) -> int:
    """A message to a contact about these incidents."""
    row = {"contact": "示例", "bucket": "*", "urgency": 0, "status": status, "body": "示例", "created_at_ms": at_ms}
    times = {"due_at_ms": at_ms, "expires_at_ms": at_ms + DAY_MS, "sent_at_ms": at_ms}
    text = {"place_zh": "站", "place_en": "s", "text_zh": "文", "text_en": "t"}
    with database.write() as connection:
        number = connection.execute(sa.insert(notice).values(row | times).returning(notice.c.id)).scalar_one()
        for one in incidents:
            item = {"notice_id": number, "incident_id": one, "kind": "opened", "colour": "red", "at_ms": at_ms}
            connection.execute(sa.insert(notice_item).values(item | text))
    return int(number)


def deliveries(database: Database) -> dict[int, int]:
    """How many there are of each incident."""
    with database.read() as connection:
        query = sa.select(outbox.c.incident_id, sa.func.count()).group_by(outbox.c.incident_id)
        return {row[0]: row[1] for row in connection.execute(query)}


def messages(database: Database) -> set[int]:
    with database.read() as connection:
        return set(connection.execute(sa.select(notice.c.id)).scalars())


def test_of_a_case_closed_long_ago_the_newest_delivery_stays_and_the_trail_says_what_went(database: Database) -> None:
    old = an_incident(database, "old", closed_at_ms=NOW - (KEEP_DAYS + 1) * DAY_MS)
    recent = an_incident(database, "recent", closed_at_ms=NOW - (KEEP_DAYS - 1) * DAY_MS)
    lasting = an_incident(database, "lasting", closed_at_ms=None)
    waiting = an_incident(database, "waiting", closed_at_ms=OPENED + DAY_MS, status=Status.PENDING)
    refused = an_incident(database, "refused", closed_at_ms=OPENED + DAY_MS, status=Status.REFUSED)
    with database.read() as connection:
        newest = connection.execute(sa.select(sa.func.max(outbox.c.id)).where(outbox.c.incident_id == old)).scalar()
    assert delete_old(database, KEEP_DAYS, NOW) == Deleted(2, 0)
    assert delete_old(database, KEEP_DAYS, NOW) == Deleted(0, 0)
    assert deliveries(database) == {old: 1, recent: 3, lasting: 3, waiting: 3, refused: 3}
    with database.write() as connection:
        assert reconciliation.resend(connection, [old], NOW) == 1, "a platform that lost the case can have it again"
        kept = connection.execute(sa.select(outbox.c.id).where(outbox.c.incident_id == old)).scalar()
        (entry,) = audit_trail.list_entries(connection, what="delivery.removed")
    assert kept == newest
    assert '"deliveries":2' in entry.body


def test_a_message_goes_once_every_incident_in_it_was_closed_long_ago(database: Database) -> None:
    old = an_incident(database, "old", closed_at_ms=OPENED + DAY_MS)
    lasting = an_incident(database, "lasting", closed_at_ms=None)
    a_message(database, old)
    a_message(database, 0, status="dead")
    stays = {
        a_message(database, old, lasting),
        a_message(database, old, status="pending"),
        a_message(database, old, at_ms=NOW - DAY_MS),
    }
    assert delete_old(database, KEEP_DAYS, NOW).messages == 2
    assert messages(database) == stays
    with database.read() as connection:
        assert set(connection.execute(sa.select(notice_item.c.notice_id)).scalars()) == stays


def test_years_of_deliveries_are_deleted_a_few_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS_PER_TRANSACTION", 3)
    numbers = [an_incident(database, f"c{n}", closed_at_ms=OPENED + DAY_MS) for n in range(4)]
    job = DeliveryRetention(database, keep_days=KEEP_DAYS, clock_ms=lambda: NOW)
    waits = [job.next_round() for _ in range(4)]
    assert [wait_s < 1 for wait_s in waits] == [True, True, False, False]
    assert deliveries(database) == dict.fromkeys(numbers, 1)
