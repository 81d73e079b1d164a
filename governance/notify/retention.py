"""Delete deliveries and messages about incidents that were closed long ago; a job of the housekeeping.

The incidents, their history and the audit trail stay. Of each incident its newest delivery stays, which holds its whole
state: a comparison of both lists can still send it. What waits and what was refused stays, too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from governance.audit import trail as audit_trail
from governance.notify.tables import notice, notice_item
from governance.tables import incident, outbox
from infra.database import Database
from infra.periodic import PeriodicWorker
from infra.times import DAY_MS

INTERVAL_S = 3600.0
ROWS_PER_TRANSACTION = 500
"""Rows of each kind deleted in one transaction: our choice, some milliseconds for which others wait."""
PAUSE_S = 0.2
"""Between two transactions, so that the first round after years does not keep others from writing."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_OTHER = outbox.alias("other")


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted; ``more``: there may be others."""

    deliveries: int
    messages: int

    @property
    def more(self) -> bool:
        return max(self.deliveries, self.messages) == ROWS_PER_TRANSACTION


class DeliveryRetention(PeriodicWorker):
    """Deletes deliveries and messages ``keep_days`` after their incident was closed."""

    def __init__(self, database: Database, *, keep_days: int, clock_ms: Callable[[], int]) -> None:
        super().__init__("deliveries")
        self._database = database
        self._keep_days = keep_days
        self._clock_ms = clock_ms

    def next_round(self) -> float:
        deleted = Deleted(0, 0)
        with self.outlive("old deliveries"):
            deleted = delete_old(self._database, self._keep_days, self._clock_ms())
            self.last_error = ""
        return PAUSE_S if deleted.more else INTERVAL_S


def delete_old(database: Database, keep_days: int, now_ms: int) -> Deleted:
    """Delete some of those about incidents closed more than ``keep_days`` ago. Raises StorageUnavailable."""
    before_ms = now_ms - keep_days * DAY_MS
    with database.read() as connection:
        deliveries = list(connection.execute(_old_deliveries(before_ms)).scalars())
        messages = list(connection.execute(_old_messages(before_ms)).scalars())
    if not deliveries and not messages:
        return Deleted(0, 0)
    body = {"deliveries": len(deliveries), "messages": len(messages), "keep_days": keep_days}
    with database.write() as connection:
        connection.execute(sa.delete(outbox).where(outbox.c.id.in_(deliveries)))
        connection.execute(sa.delete(notice_item).where(notice_item.c.notice_id.in_(messages)))
        connection.execute(sa.delete(notice).where(notice.c.id.in_(messages)))
        audit_trail.append(
            connection, "delivery.removed", kind="delivery", id="", body=body, by="riverchief", at_ms=now_ms
        )
    log.info("old deliveries were deleted", deliveries=len(deliveries), messages=len(messages))
    return Deleted(len(deliveries), len(messages))


def _old_deliveries(before_ms: int) -> sa.Select[tuple[int]]:
    o = outbox.c
    newer = sa.select(sa.literal(1)).where(_OTHER.c.incident_id == o.incident_id, _OTHER.c.id > o.id)
    return (
        sa.select(o.id)
        .join(incident, incident.c.id == o.incident_id)
        .where(
            incident.c.closed_at_ms < before_ms,
            o.created_at_ms < before_ms,
            o.status.in_(("delivered", "superseded")),
            newer.correlate(outbox).exists(),
        )
        .limit(ROWS_PER_TRANSACTION)
    )


def _old_messages(before_ms: int) -> sa.Select[tuple[int]]:
    """Messages of long ago whose incidents were all closed before, and tests of long ago."""
    n = notice.c
    lasting = (
        sa.select(sa.literal(1))
        .join_from(notice_item, incident, incident.c.id == notice_item.c.incident_id)
        .where(
            notice_item.c.notice_id == n.id, incident.c.closed_at_ms.is_(None) | (incident.c.closed_at_ms >= before_ms)
        )
    )
    old = (n.created_at_ms < before_ms, n.expires_at_ms < before_ms, n.status != "pending")
    return sa.select(n.id).where(*old, ~lasting.correlate(notice).exists()).limit(ROWS_PER_TRANSACTION)
