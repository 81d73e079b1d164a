"""The quarantine: rejected messages with reason and bytes, until the cause is fixed and they are replayed.

What nobody can use is ignored with a reason and can be restored; nothing is ever deleted by hand. How much is kept is
limited (:mod:`ingest.quarantine_limits`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from infra.errors import NotFound, Refused
from infra.records import from_row
from infra.texts import say
from infra.times import beijing_day
from ingest import quarantine_limits
from ingest.ledger import UNREGISTERED, account_of, day_of
from ingest.quarantine_limits import Limits
from ingest.storage.changes import Author
from ingest.storage.tables import quarantine as table
from sensors.reading import Message, Reason, Rejected
from sensors.stations import Registry
from sensors.wire.telemetry import KINDS, Header

KEEP_BYTES = 256 * 1024
"""Stored bytes of a payload; of a larger one the beginning and its length are stored."""

KEYS_PER_QUERY = 500
"""Keys in one statement; older versions of SQLite take 999 values."""
HELD, REPLAYED, IGNORED = "held", "replayed", "ignored"
_FUTURE = (table.c.status == HELD, table.c.reason == Reason.TIME_IN_FUTURE.key)


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What became of a replayed entry: readings stored, readings that were there already, and new entries."""

    stored: int
    duplicate: int
    refused: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """Who ignored an entry, and why."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """Entries of one reason and station: how many, how often they arrived, and when first and last (ms UTC)."""

    reason: str
    station: str
    entries: int
    times: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Added:
    """What became of rejected messages: indices of those held before, and by account how many are discarded."""

    repeated: frozenset[int] = frozenset()
    discarded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One quarantine entry. ``refused`` lists the readings (time in ms, parameter); None: the whole message.

    ``times`` is how often the same bytes were refused for the same reason while it was held; ``settled_at_ms`` when it
    was replayed or ignored, ``replayed_as`` what became of its readings then, where whoever replayed it learned that,
    and ``ignored`` who ignored it.
    """

    id: int
    status: str
    reason: str
    detail: str
    source: str
    station: str
    topic: str
    received_at_ms: int
    account: str
    day: str
    refused: tuple[tuple[int, str], ...] | None
    payload: bytes
    payload_bytes: int
    times: int = 1
    settled_at_ms: int | None = None
    replayed_as: "ReplayOutcome | None" = None
    ignored: "Ignored | None" = None

    def message(self) -> Message:
        """The message to replay: the same bytes, limited to what was refused."""
        only = None if self.refused is None else frozenset(self.refused)
        kind = self.topic.rpartition("/")[2] if self.source == "mqtt" else ""  # our own topics name the kind
        return Message(
            self.station,
            self.payload,
            self.received_at_ms,
            self.source,
            self.topic,
            only,
            self.id,
            kind if kind in KINDS else "telemetry",
        )


def add(
    connection: sa.Connection,
    registry: Registry,
    messages: Sequence[Message],
    headers: Sequence[Header | None],
    rejected: Sequence[Rejected],
    limits: Limits = Limits(),
) -> Added:
    """Store what was rejected: one entry for each message and reason, with its ledger account.

    What is held already (a message delivered again) is counted in its entry; indices are those in ``rejected``. What is
    beyond the limits is counted only, unless a person replayed it.
    """
    replays = {i for i, r in enumerate(rejected) if messages[r.message].replay_of is not None}
    rows = [_row(registry, messages[r.message], headers[r.message], r) for r in rejected]
    return _add(connection, rows, limits, replays)


def _add(
    connection: sa.Connection, rows: Sequence[dict[str, Any]], limits: Limits, exempt: Container[int] = ()
) -> Added:
    """Insert the rows that are not held yet and within the limits, or ``exempt``."""
    if not rows:
        return Added()
    for row in rows:
        row["key"] = _key(row)
    held: set[str] = set()
    keys = [row["key"] for row in rows]
    for first in range(0, len(keys), KEYS_PER_QUERY):
        some = keys[first : first + KEYS_PER_QUERY]
        held.update(connection.scalars(sa.select(table.c.key).where(table.c.status == HELD, table.c.key.in_(some))))
    new: dict[int, dict[str, Any]] = {}
    again: dict[int, str] = {}
    for i, row in enumerate(rows):
        if row["key"] in held:
            again[i] = row["key"]
        else:
            held.add(row["key"])
            new[i] = row
    replays = {place for place, i in enumerate(new) if i in exempt}
    kept, discarded = quarantine_limits.keep(connection, list(new.values()), replays, limits)
    if kept:
        connection.execute(sa.insert(table), kept)
        quarantine_limits.make_room(connection, limits)
    if again:
        more = sa.update(table).where(table.c.status == HELD, table.c.key == sa.bindparam("of"))
        counted = [{"of": key, "more": count} for key, count in Counter(again.values()).items()]
        connection.execute(more.values(times=table.c.times + sa.bindparam("more")), counted)
    return Added(frozenset(again), discarded)


def _key(row: dict[str, Any]) -> str:
    """The natural key of an entry: bytes, origin, refused readings and reason."""
    about = json.dumps([row[name] for name in ("source", "station", "topic", "reason", "refused", "payload_bytes")])
    return hashlib.sha256(about.encode() + row["payload"]).hexdigest()


def _row(registry: Registry, message: Message, header: Header | None, rejected: Rejected) -> dict[str, Any]:
    return {
        "status": HELD,
        "reason": rejected.reason.key,
        "detail": storable(rejected.detail),
        "source": message.source,
        "station": storable(message.station),
        "topic": storable(message.topic),
        "received_at_ms": message.received_at_ms,
        "account": account_of(registry, message),
        "day": day_of(header, message),
        "refused": None if rejected.readings is None else [[at, storable(key)] for at, key in rejected.readings],
        "payload": message.payload[:KEEP_BYTES],
        "payload_bytes": len(message.payload),
    }


def storable(text: str) -> str:
    """The text without lone surrogates, which JSON allows and no encoding can store."""
    return text.encode("utf-8", "backslashreplace").decode()


def add_lines(
    connection: sa.Connection,
    refused: Sequence[tuple[str, bytes, str]],
    now_ms: int,
    limits: Limits = Limits(),
) -> None:
    """Store lines that the time-series server refused: (station, line, reason of the server).

    The ledger does not change, since the readings are stored; a replay queues the line in the spool again.
    """
    rows = [
        {
            "status": HELD,
            "reason": Reason.STORE_REFUSED.key,
            "detail": storable(answer[:500]),
            "source": "spool",
            "station": storable(station),
            "topic": "",
            "received_at_ms": now_ms,
            "account": storable(station) or UNREGISTERED,
            "day": beijing_day(now_ms).isoformat(),
            "refused": [],
            "payload": line,
            "payload_bytes": len(line),
        }
        for station, line, answer in refused
    ]
    _add(connection, rows, limits)


def settle(connection: sa.Connection, ids: Sequence[int], status: str, now_ms: int) -> None:
    """Set the status of replayed entries; what was refused again has a new entry."""
    if ids:
        connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(status=status, settled_at_ms=now_ms))


def record_outcome(connection: sa.Connection, entry: int, outcome: ReplayOutcome) -> None:
    """Keep what became of a replayed entry."""
    note = json.dumps([outcome.stored, outcome.duplicate, outcome.refused])
    connection.execute(sa.update(table).where(table.c.id == entry, table.c.status == REPLAYED).values(note=note))


def ignore(connection: sa.Connection, entry: int, reason: str, author: Author) -> QuarantineEntry:
    """Ignore a held entry; an entry of the trail. Raises NotFound, and Refused without a reason or for one not held."""
    held = get(connection, entry)
    if held.status != HELD:
        raise Refused(say("quarantine.done", entry=entry, status=held.status))
    if not reason.strip():
        raise Refused(say("quarantine_page.no_reason"))
    note = json.dumps([author.by, reason.strip()], ensure_ascii=False)
    values = {"status": IGNORED, "settled_at_ms": author.at_ms, "note": note}
    connection.execute(sa.update(table).where(table.c.id == entry, table.c.status == HELD).values(values))
    _record(connection, "quarantine.ignored", held, {"reason": reason.strip()}, author)
    return get(connection, entry)


def restore(connection: sa.Connection, entry: int, author: Author) -> QuarantineEntry:
    """Hold an ignored entry again. Raises NotFound, and Refused where it is not ignored or the same is held anew."""
    ignored = get(connection, entry)
    if ignored.status != IGNORED:
        raise Refused(say("quarantine_page.not_ignored", entry=entry))
    where = table.c.id == entry
    key = connection.scalar(sa.select(table.c.key).where(where))
    newer = sa.select(table.c.id).where(table.c.status == HELD, table.c.key == key)
    if key is not None and (held := connection.scalar(newer)) is not None:
        raise Refused(say("quarantine_page.held_anew", entry=entry, other=held))
    connection.execute(sa.update(table).where(where).values(status=HELD, settled_at_ms=None, note=""))
    _record(connection, "quarantine.restored", ignored, {}, author)
    return get(connection, entry)


def _record(connection: sa.Connection, what: str, one: QuarantineEntry, note: dict[str, str], author: Author) -> None:
    body = {"station": one.station, "why_held": one.reason, **note}
    entry = audit_trail.NewEntry(what, "quarantine", one.id, body, author.by, author.at_ms or 0, author.role)
    audit_trail.append_many(connection, [entry])


def get(connection: sa.Connection, entry: int) -> QuarantineEntry:
    """One entry; raises NotFound."""
    is_possible = 0 < entry < 2**63  # what databases number
    row = connection.execute(sa.select(table).where(table.c.id == entry)).one_or_none() if is_possible else None
    if row is None:
        raise NotFound(say("quarantine.unknown", entry=entry))
    return _held(row)


def listing(
    connection: sa.Connection,
    *,
    status: str | None = HELD,
    station: str | None = None,
    reason: Reason | None = None,
    account: str | None = None,
    day: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[QuarantineEntry]:
    """Entries, newest first; ``account`` and ``day`` are those of the ledger."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(table.c.status == status)
    if station is not None:
        query = query.where(table.c.station == station)
    if reason is not None:
        query = query.where(table.c.reason == reason.key)
    if account is not None:
        query = query.where(table.c.account == account)
    if day is not None:
        query = query.where(table.c.day == day)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return [_held(row) for row in connection.execute(query)]


def groups(connection: sa.Connection, *, status: str | None = HELD, limit: int = 200) -> list[Group]:
    """Entries by reason and station, the newest first."""
    c = table.c
    last = sa.func.max(c.received_at_ms)
    query = sa.select(
        c.reason, c.station, sa.func.count(), sa.func.sum(c.times), sa.func.min(c.received_at_ms), last
    ).group_by(c.reason, c.station)
    if status is not None:
        query = query.where(c.status == status)
    rows = connection.execute(query.order_by(last.desc(), c.reason, c.station).limit(limit))
    return [Group(reason, station, int(n), int(times), int(a), int(z)) for reason, station, n, times, a, z in rows]


def future_spans(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """Stations with held readings that seemed to lie in the future: when the first and the last were observed."""
    spans: dict[str, tuple[int, int]] = {}
    for station, refused in connection.execute(sa.select(table.c.station, table.c.refused).where(*_FUTURE)):
        widen(spans, station, [at for at, _ in refused or ()])
    return spans


def widen(spans: dict[str, tuple[int, int]], station: str, times: Sequence[int]) -> None:
    """Let the span of the station hold these times."""
    if times:
        first, last = spans.get(station, (times[0], times[0]))
        spans[station] = min(first, *times), max(last, *times)


def held_as_future(connection: sa.Connection, message: Message) -> list[QuarantineEntry]:
    """The entries of this very message whose readings seemed to lie in the future."""
    same = {
        "source": message.source,
        "station": storable(message.station),
        "topic": storable(message.topic),
        "payload": message.payload[:KEEP_BYTES],
        "payload_bytes": len(message.payload),
    }
    query = sa.select(table).where(*_FUTURE, *(table.c[name] == value for name, value in same.items()))
    return [_held(row) for row in connection.execute(query.order_by(table.c.id))]


def refused_again(connection: sa.Connection, entry: QuarantineEntry) -> int | None:
    """The first later entry of the same bytes; None where there is none."""
    c = table.c
    same = (c.station == entry.station, c.id > entry.id, c.payload == entry.payload)
    found = connection.scalar(sa.select(sa.func.min(c.id)).where(*same))
    return None if found is None else int(found)


def counts(connection: sa.Connection) -> dict[str, int]:
    """Held entries by reason."""
    query = sa.select(table.c.reason, sa.func.count()).where(table.c.status == HELD).group_by(table.c.reason)
    return {reason: int(n) for reason, n in connection.execute(query)}


def _held(row: Any) -> QuarantineEntry:
    refused = None if row.refused is None else tuple((int(at), str(key)) for at, key in row.refused)
    note = json.loads(row.note) if row.note else None
    replayed_as = ReplayOutcome(*note) if note and row.status == REPLAYED else None
    ignored = Ignored(*note) if note and row.status == IGNORED else None
    payload = bytes(row.payload)
    return from_row(QuarantineEntry, row, refused=refused, payload=payload, replayed_as=replayed_as, ignored=ignored)
