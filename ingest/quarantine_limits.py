"""Limits of the quarantine: how much of a device's refused messages is kept, and the exact count of the rest.

Within a day of Beijing the first entries of a device are kept up to a number of bytes. Beyond, the first of each hour
and reason are kept as samples, and all others are discarded: counted by device, reason and hour, and still counted as
quarantined in the ledger. Where the whole quarantine is full, the oldest entries of the device that holds the most make
room, and are counted in the same way.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import sqlalchemy as sa
import structlog

from infra.database import insert_many
from infra.times import HOUR_MS
from ingest.ledger import UNREGISTERED, day_of_hour
from ingest.storage.tables import quarantine as entry_table
from ingest.storage.tables import quarantine_discard as discard_table
from ingest.storage.tables import quarantine_usage as usage_table

log = structlog.get_logger(__name__)

ENTRY_BYTES: Final = 400
"""Bytes of an entry beside its payload, with its indexes; measured with 40,000 entries: 320 in SQLite."""
READING_BYTES: Final = 32
"""Bytes of a refused reading that an entry lists: time and parameter as JSON."""
SAMPLES: Final = 20
"""Entries of an hour and reason that are kept of a device beyond its limit: enough to see what is wrong (chosen)."""
SAMPLE_SHARE: Final = 0.2
"""The part of a device's limit that is reserved for samples: 480 entries of one reason a day take a hundredth of it."""
UNREGISTERED_DEVICES: Final = 8
"""The unregistered share a limit so many times as high: 2,000 stations that send every five minutes and are registered
the day after fit into it."""
CHUNK: Final = 2_000
ROUNDS: Final = 10
"""Entries that make room at once, and how often in one transaction: several times as many as a batch brings."""

DiscardKey = tuple[str, str, str, int]
"""Account, its day, reason and hour (ms UTC)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of one device within a day, and of the whole quarantine."""

    device_bytes: int = 64 * 2**20
    total_bytes: int = 4 * 2**30

    @classmethod
    def of_mb(cls, device_mb: int, total_mb: int) -> Self:
        return cls(device_mb * 2**20, total_mb * 2**20)

    def of(self, account: str) -> int:
        """The bytes of one account within a day."""
        return self.device_bytes * (UNREGISTERED_DEVICES if account == UNREGISTERED else 1)


@dataclass(frozen=True, slots=True)
class Discarded:
    """Refused messages of an account whose content is not kept, of one reason; first and last hour (ms UTC)."""

    account: str
    reason: str
    messages: int
    readings: int
    first_ms: int
    last_ms: int


@dataclass(slots=True)
class _Usage:
    """Bytes of an account's day; ``added`` in this transaction."""

    day: str = ""
    used: int = 0
    added: int = 0

    def begin(self, day: str) -> None:
        """Count anew where a later day has begun."""
        if day > self.day:
            self.day, self.used = day, 0

    def add(self, size: int) -> None:
        self.used += size
        self.added += size


@dataclass(slots=True)
class _Discards:
    """Discarded messages and their readings, and the samples that were kept; ``sampled`` also before."""

    messages: int = 0
    readings: int = 0
    samples: int = 0
    sampled: int = 0


def keep(
    connection: sa.Connection, rows: Sequence[dict[str, Any]], exempt: Container[int], limits: Limits
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The entries to be inserted, and by account how many are discarded; both are counted.

    ``exempt`` are indices of entries that are kept in any case: those a person replayed.
    """
    usages = _usages(connection, sorted({row["account"] for row in rows}))
    discards: dict[DiscardKey, _Discards] = {}
    kept: list[dict[str, Any]] = []
    discarded: dict[str, int] = {}
    for i, row in enumerate(rows):
        account, hour = row["account"], row["received_at_ms"] // HOUR_MS
        usage, limit, readings = usages[account], limits.of(account), len(row["refused"] or ())
        usage.begin(day_of_hour(hour))
        size = _size(len(row["payload"]), readings)
        if i not in exempt and usage.used + size > limit * (1 - SAMPLE_SHARE):
            key = (account, row["day"], row["reason"], hour * HOUR_MS)
            if key not in discards:
                discards[key] = _Discards(sampled=_samples(connection, key))
            counts = discards[key]
            if counts.sampled >= SAMPLES or usage.used + size > limit:
                counts.messages += 1
                counts.readings += readings
                discarded[account] = discarded.get(account, 0) + 1
                continue
            counts.samples += 1
            counts.sampled += 1
        usage.add(size)
        kept.append(row)
    _save_discards(connection, discards)
    _save_usages(connection, usages)
    return kept, discarded


def make_room(connection: sa.Connection, limits: Limits) -> None:
    """Delete the oldest entries of the accounts with the most bytes while the quarantine holds too much."""
    for _ in range(ROUNDS):
        excess = total_bytes(connection) - limits.total_bytes
        if excess <= 0:
            return
        u, e = usage_table.c, entry_table.c
        account = connection.scalar(sa.select(u.account).order_by(u.bytes.desc()).limit(1))
        oldest = sa.select(e.id).where(e.account == account).order_by(e.id).limit(min(CHUNK, excess // ENTRY_BYTES + 1))
        columns = (e.status, e.reason, e.day, e.received_at_ms, e.refused, sa.func.length(e.payload).label("size"))
        gone = connection.execute(sa.delete(entry_table).where(e.id.in_(oldest)).returning(*columns)).all()
        discards: dict[DiscardKey, _Discards] = {}
        for row in gone:
            if row.status != "replayed":  # what was replayed is counted as stored
                key = (account or "", row.day, row.reason, row.received_at_ms // HOUR_MS * HOUR_MS)
                counts = discards.setdefault(key, _Discards())
                counts.messages += 1
                counts.readings += len(row.refused or ())
        _save_discards(connection, discards)
        freed = sum(_size(row.size, len(row.refused or ())) for row in gone)
        less = u.bytes - freed if gone else 0
        connection.execute(sa.update(usage_table).where(u.account == account).values(bytes=less))
        log.debug("the quarantine is full; the oldest entries were deleted", device=account, entries=len(gone))


def total_bytes(connection: sa.Connection) -> int:
    """Bytes of the whole quarantine, estimated."""
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(usage_table.c.bytes), 0))) or 0)


def discarded_since(connection: sa.Connection, since_ms: int = 0) -> list[Discarded]:
    """What was discarded in the hours from then on, by account and reason, most first."""
    d = discard_table.c
    messages = sa.func.sum(d.messages)
    figures = (messages, sa.func.sum(d.readings), sa.func.min(d.hour_ms), sa.func.max(d.hour_ms))
    query = sa.select(d.account, d.reason, *figures).where(d.hour_ms >= since_ms, d.messages > 0)
    rows = connection.execute(query.group_by(d.account, d.reason).order_by(messages.desc(), d.account, d.reason))
    return [Discarded(account, reason, int(n), int(readings), a, z) for account, reason, n, readings, a, z in rows]


def _size(payload: int, readings: int) -> int:
    return ENTRY_BYTES + payload + READING_BYTES * readings


def _usages(connection: sa.Connection, accounts: Sequence[str]) -> dict[str, _Usage]:
    u = usage_table.c
    known = {
        row.account: _Usage(row.day, row.day_bytes)
        for row in connection.execute(sa.select(u.account, u.day, u.day_bytes).where(u.account.in_(accounts)))
    }
    return {account: known.get(account, _Usage()) for account in accounts}


def _samples(connection: sa.Connection, key: DiscardKey) -> int:
    d = discard_table.c
    where = zip((d.account, d.day, d.reason, d.hour_ms), key, strict=True)
    return int(connection.scalar(sa.select(d.samples).where(*(column == value for column, value in where))) or 0)


_USAGE = "INSERT INTO quarantine_usage (account, bytes, day, day_bytes)"
_USAGE_AGAIN = (
    "ON CONFLICT (account) DO UPDATE SET bytes = quarantine_usage.bytes + excluded.bytes, day = excluded.day, "
    "day_bytes = excluded.day_bytes + "
    "CASE WHEN quarantine_usage.day = excluded.day THEN quarantine_usage.day_bytes ELSE 0 END"
)
_DISCARD = "INSERT INTO quarantine_discard (account, day, reason, hour_ms, messages, readings, samples)"
_DISCARD_AGAIN = (
    "ON CONFLICT (account, day, reason, hour_ms) DO UPDATE SET messages = quarantine_discard.messages"
    " + excluded.messages, readings = quarantine_discard.readings + excluded.readings, samples ="
    " quarantine_discard.samples + excluded.samples"
)


def _save_usages(connection: sa.Connection, usages: Mapping[str, _Usage]) -> None:
    rows = [(account, one.added, one.day, one.added) for account, one in usages.items() if one.added]
    insert_many(connection, _USAGE, rows, _USAGE_AGAIN)


def _save_discards(connection: sa.Connection, discards: Mapping[DiscardKey, _Discards]) -> None:
    rows = [(*key, one.messages, one.readings, one.samples) for key, one in discards.items()]
    rows.sort()  # the same order in each transaction, so that two never wait for each other
    insert_many(connection, _DISCARD, rows, _DISCARD_AGAIN)
