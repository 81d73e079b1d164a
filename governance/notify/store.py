"""Messages in the database: gathered for each contact, watched until somebody confirms, and read back for people.

Every function takes an open connection and never commits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from governance.incidents.finding import Colour
from governance.incidents.headline import of_json
from governance.notify.message import CALLS, PRESSING, TEST, Item, Kind, NoticeRequest
from governance.notify.policy import Policy
from governance.notify.tables import notice as notices_
from governance.notify.tables import notice_item as items_
from governance.notify.tables import notice_watch as watches_
from infra.errors import NotFound, Refused
from infra.texts import Text, say, sentence

AT_ONCE = 500
EVERYWHERE = "*"
"""The bucket of a contact who has got many messages within a window."""
_CONFIRMABLE = [kind.value for kind in (*CALLS, Kind.ESCALATED)]
_CALLED = [*_CONFIRMABLE, Kind.EMERGENCY.value]


@dataclass(frozen=True, slots=True)
class Notice:
    """A message as it stands; times ms UTC. ``body`` None while it gathers."""

    id: int
    contact: str
    bucket: str
    urgency: int
    status: str
    created_at_ms: int
    due_at_ms: int
    expires_at_ms: int
    attempts: int
    body: str | None
    sent_at_ms: int | None
    sent_by: str | None
    last_error: str | None
    acknowledged_at_ms: int | None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many messages wait and how many were given up, since when one is due (ms; None: none is), and how many
    incidents nobody confirmed though everybody was told."""

    waiting: int
    dead: int
    oldest_due_at_ms: int | None
    unconfirmed: int


@dataclass(slots=True)
class _Open:
    """A message that still gathers, as it is being changed; ``id`` 0 until stored."""

    contact: str
    bucket: str
    urgency: int
    due_at_ms: int
    id: int = 0
    changed: bool = False


def enqueue(connection: sa.Connection, wanted: Sequence[NoticeRequest], now_ms: int, policy: Policy) -> int:
    """Lay what is to be told into messages that still gather, or begin new ones; returns how many were begun.

    One message a contact and bucket; beyond ``policy.most`` within a window all buckets are one. What is held until the
    morning or the digest is one message, whatever it tells of.
    """
    if not wanted:
        return 0
    contacts = sorted({one.contact for one in wanted})
    found = _gathering(connection, contacts)
    last, count = _recent(connection, contacts, now_ms, policy)
    placed: list[tuple[_Open, Item]] = []
    begun: list[_Open] = []
    for one in wanted:
        bucket, item = one.bucket, one.item
        held = one.due_at_ms > now_ms
        if held:
            bucket = f"{EVERYWHERE}@{one.due_at_ms}"
        elif (one.contact, bucket) not in found and count.get(one.contact, 0) >= policy.most:
            bucket = EVERYWHERE
        due_ms = one.due_at_ms
        if not held:
            gather_ms = policy.gather_ms(item.colour)
            before_ms = last.get((one.contact, bucket))
            waits = item.colour not in {Colour.RED, Colour.ORANGE} or item.kind not in PRESSING
            due_ms = now_ms + gather_ms if waits else now_ms
            if before_ms is not None:
                due_ms = max(due_ms, before_ms + gather_ms)
        opened = found.get((one.contact, bucket))
        if opened is None:
            opened = _Open(one.contact, bucket, item.colour.rank, due_ms)
            found[one.contact, bucket] = opened
            begun.append(opened)
            if not held:
                count[one.contact] = count.get(one.contact, 0) + 1
        elif item.colour.rank < opened.urgency or due_ms < opened.due_at_ms:
            opened.urgency = min(opened.urgency, item.colour.rank)
            opened.due_at_ms = min(opened.due_at_ms, due_ms)
            opened.changed = True
        placed.append((opened, item))
    _keep(connection, begun, [o for o in found.values() if o.changed and o.id], now_ms, policy)
    _lay(connection, placed)
    return len(begun)


def drop(connection: sa.Connection, incident_ids: Collection[int]) -> None:
    """These incidents are confirmed or closed: nobody is called for them any more. News of them stays."""
    for part in _parts(sorted(incident_ids)):
        connection.execute(sa.delete(watches_).where(watches_.c.incident_id.in_(part)))
        waiting = sa.select(notices_.c.id).where(notices_.c.status == "pending", notices_.c.body.is_(None))
        connection.execute(
            sa.delete(items_).where(
                items_.c.incident_id.in_(part), items_.c.kind.in_(_CONFIRMABLE), items_.c.notice_id.in_(waiting)
            )
        )


def confirm(connection: sa.Connection, incident_id: int) -> bool:
    """Somebody says that they know of an incident; False when nobody was asked any more."""
    asked = connection.execute(sa.delete(watches_).where(watches_.c.incident_id == incident_id)).rowcount
    drop(connection, [incident_id])
    return bool(asked)


def watch(connection: sa.Connection, due: Mapping[int, tuple[Colour, int]], now_ms: int) -> None:
    """From now on somebody has to confirm these incidents by (colour, ms); a call repeated begins the steps anew."""
    for part in _parts(sorted(due)):
        connection.execute(sa.delete(watches_).where(watches_.c.incident_id.in_(part)))
        rows = [
            {"incident_id": i, "colour": due[i][0].value, "step": 0, "since_ms": now_ms, "due_at_ms": due[i][1]}
            for i in part
        ]
        connection.execute(sa.insert(watches_), rows)


def recipients_of(
    connection: sa.Connection, incident_ids: Collection[int], *, called: bool = True
) -> dict[int, list[str]]:
    """Who has been ``called`` for these incidents, or was told anything of them, by contact's key."""
    kinds = items_.c.kind.in_(_CALLED) if called else sa.true()
    found: dict[int, list[str]] = {}
    for part in _parts(sorted(incident_ids)):
        query = (
            sa.select(items_.c.incident_id, notices_.c.contact)
            .join(notices_, notices_.c.id == items_.c.notice_id)
            .where(items_.c.incident_id.in_(part), kinds, notices_.c.body.is_not(None))
            .distinct()
        )
        for incident_id, contact in connection.execute(query):
            found.setdefault(incident_id, []).append(contact)
    return found


def first_told(connection: sa.Connection, notice: Notice, found: Sequence[Item]) -> list[Item]:
    """The items of a message; what its contact was never sent before is no repetition."""
    again = [one.incident_id for one in found if one.kind is Kind.AGAIN]
    heard: set[int] = set()
    for part in _parts(again):
        query = (
            sa.select(items_.c.incident_id)
            .join(notices_, notices_.c.id == items_.c.notice_id)
            .where(items_.c.incident_id.in_(part), notices_.c.contact == notice.contact, notices_.c.id != notice.id)
            .where(notices_.c.sent_at_ms.is_not(None))
        )
        heard |= set(connection.execute(query).scalars())
    new = sorted(set(again) - heard)
    for part in _parts(new):
        same = (items_.c.notice_id == notice.id, items_.c.incident_id.in_(part))
        connection.execute(sa.update(items_).where(*same).values(kind=Kind.OPENED.value))
    return [replace(one, kind=Kind.OPENED) if one.incident_id in new else one for one in found]


def items(connection: sa.Connection, notice_ids: Iterable[int]) -> dict[int, list[Item]]:
    """What messages tell of, by message."""
    found: dict[int, list[Item]] = {}
    for part in _parts(sorted(set(notice_ids))):
        query = sa.select(items_).where(items_.c.notice_id.in_(part)).order_by(items_.c.incident_id)
        for row in connection.execute(query).mappings():
            item = Item(
                row["incident_id"],
                Kind(row["kind"]),
                Colour(row["colour"]),
                row["at_ms"],
                Text(row["place_zh"], row["place_en"]),
                Text(row["text_zh"], row["text_en"]),
                row["minutes"],
                of_json(row["headline"]),
                row["since_ms"],
                row["due_ms"],
                row["step"],
            )
            found.setdefault(row["notice_id"], []).append(item)
    return found


def listed(
    connection: sa.Connection,
    *,
    status: str | None = None,
    contact: str | None = None,
    incident: int | None = None,
    limit: int,
    before: int | None = None,
    within: sa.Select[tuple[int]] | None = None,
) -> list[Notice]:
    """Messages, newest first; the next page begins with ``before`` = the last one's number.

    ``within`` finds the numbers of incidents: what tells of any other is left out; None leaves out nothing.
    """
    query = sa.select(notices_).order_by(notices_.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(notices_.c.status == status)
    if contact is not None:
        query = query.where(notices_.c.contact == contact)
    if incident is not None:
        query = query.where(notices_.c.id.in_(sa.select(items_.c.notice_id).where(items_.c.incident_id == incident)))
    if before is not None:
        query = query.where(notices_.c.id < before)
    if within is not None:
        query = query.where(notices_.c.id.not_in(_beyond(within)))
    return [of(row) for row in connection.execute(query).mappings()]


def _beyond(within: sa.Select[tuple[int]]) -> sa.Select[tuple[int]]:
    """The numbers of the messages that tell of an incident beyond some."""
    told = (items_.c.incident_id != TEST) & items_.c.incident_id.not_in(within)
    return sa.select(items_.c.notice_id).where(told)


def get(connection: sa.Connection, notice_id: int, within: sa.Select[tuple[int]] | None = None) -> Notice:
    """The message of this number; raises NotFound, also for one that `listed` would leave out."""
    row = None
    if 0 < notice_id < 2**31:
        query = sa.select(notices_).where(notices_.c.id == notice_id)
        if within is not None:
            query = query.where(notices_.c.id.not_in(_beyond(within)))
        row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(sentence("notice.unknown", id=notice_id))
    return of(row)


def test(connection: sa.Connection, contact: str, text: Text, now_ms: int, policy: Policy) -> int:
    """Put a test message into the row; returns its number."""
    opened = _Open(contact, f"test@{now_ms}", Colour.BLUE.rank, now_ms)
    _keep(connection, [opened], [], now_ms, policy)
    _lay(connection, [(opened, Item(TEST, Kind.TEST, Colour.BLUE, now_ms, Text("", ""), text))])
    return opened.id


def replay(connection: sa.Connection, notice_id: int, now_ms: int, policy: Policy) -> Notice:
    """Put a message that was given up into the row again as if it were of now, and return it as it was.

    Raises NotFound, and Refused for one that was not given up.
    """
    before = get(connection, notice_id)
    fresh = {
        "status": "pending",
        "created_at_ms": now_ms,
        "due_at_ms": now_ms,
        "expires_at_ms": now_ms + _link_ms(policy),
        "attempts": 0,
    }
    dead = (notices_.c.id == notice_id, notices_.c.status == "dead")
    if not connection.execute(sa.update(notices_).where(*dead).values(fresh)).rowcount:
        status = say(f"notice.status_{get(connection, notice_id).status}")
        raise Refused(sentence("notice.not_dead", id=notice_id, status=status))
    return before


def waiting(connection: sa.Connection) -> QueueCounts:
    """What the metrics and the doctor show."""
    c = notices_.c
    query = (
        sa.select(c.status, sa.func.count(), sa.func.min(c.due_at_ms))
        .where(c.status.in_(["pending", "dead"]))
        .group_by(c.status)
    )
    found = {status: (number, oldest) for status, number, oldest in connection.execute(query)}
    pending, oldest = found.get("pending", (0, None))
    lost = sa.select(sa.func.count()).where(watches_.c.due_at_ms.is_(None))
    return QueueCounts(pending, found.get("dead", (0, None))[0], oldest, connection.execute(lost).scalar_one())


def of(row: Any) -> Notice:
    """A message from its row."""
    return Notice(**{name: row[name] for name in Notice.__slots__})


def _gathering(connection: sa.Connection, contacts: Sequence[str]) -> dict[tuple[str, str], _Open]:
    c = notices_.c
    query = (
        sa.select(c.id, c.contact, c.bucket, c.urgency, c.due_at_ms)
        .where(c.status == "pending", c.body.is_(None), c.contact.in_(contacts))
        .order_by(c.id)
        .with_for_update()
    )
    return {
        (row.contact, row.bucket): _Open(row.contact, row.bucket, row.urgency, row.due_at_ms, row.id)
        for row in connection.execute(query)
    }


def _recent(
    connection: sa.Connection, contacts: Sequence[str], now_ms: int, policy: Policy
) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """When the last message of a bucket was due, and how many messages of the last window a contact has."""
    c = notices_.c
    since_ms = now_ms - round(policy.window_s * 2000)
    query = sa.select(c.contact, c.bucket, c.due_at_ms, c.created_at_ms).where(
        c.contact.in_(contacts), c.created_at_ms >= since_ms, c.status.in_(["pending", "sent"])
    )
    last: dict[tuple[str, str], int] = {}
    count: dict[str, int] = {}
    for contact, bucket, due_ms, created_ms in connection.execute(query):
        last[contact, bucket] = max(due_ms, last.get((contact, bucket), 0))
        if created_ms >= now_ms - round(policy.window_s * 1000) and "@" not in bucket:
            count[contact] = count.get(contact, 0) + 1
    return last, count


def _keep(
    connection: sa.Connection, begun: Sequence[_Open], changed: Sequence[_Open], now_ms: int, policy: Policy
) -> None:
    for one in begun:
        row = {
            "contact": one.contact,
            "bucket": one.bucket,
            "urgency": one.urgency,
            "status": "pending",
            "created_at_ms": now_ms,
            "due_at_ms": one.due_at_ms,
            "expires_at_ms": one.due_at_ms + _link_ms(policy),
            "attempts": 0,
        }
        one.id = connection.execute(sa.insert(notices_).values(row).returning(notices_.c.id)).scalar_one()
    for one in changed:
        values = {"urgency": one.urgency, "due_at_ms": one.due_at_ms}
        connection.execute(sa.update(notices_).where(notices_.c.id == one.id).values(values))


def _link_ms(policy: Policy) -> int:
    return round(policy.link_hours * 3_600_000)


def _lay(connection: sa.Connection, placed: Sequence[tuple[_Open, Item]]) -> None:
    """Write the items; of an incident that is in a message already the more pressing word stays."""
    newest: dict[tuple[int, int], Item] = {}
    for opened, item in placed:
        key = (opened.id, item.incident_id)
        if key not in newest or _weight(item) <= _weight(newest[key]):
            newest[key] = item
    there: dict[tuple[int, int], tuple[bool, int]] = {}
    for part in _parts(sorted({incident_id for _, incident_id in newest})):
        c = items_.c
        query = sa.select(c.notice_id, c.incident_id, c.kind, c.colour).where(
            c.incident_id.in_(part), c.notice_id.in_(sorted({number for number, _ in newest}))
        )
        for row in connection.execute(query):
            there[row.notice_id, row.incident_id] = (Kind(row.kind) not in PRESSING, Colour(row.colour).rank)
    new = [_row(number, item) for (number, i), item in newest.items() if (number, i) not in there]
    if new:
        connection.execute(sa.insert(items_), new)
    for (number, incident_id), item in newest.items():
        if (number, incident_id) in there and _weight(item) <= there[number, incident_id]:
            same = (items_.c.notice_id == number, items_.c.incident_id == incident_id)
            connection.execute(sa.update(items_).where(*same).values(_row(number, item)))


def _weight(item: Item) -> tuple[bool, int]:
    return item.kind not in PRESSING, item.colour.rank


def _row(notice_id: int, item: Item) -> dict[str, Any]:
    return {
        "notice_id": notice_id,
        "incident_id": item.incident_id,
        "kind": item.kind.value,
        "colour": item.colour.value,
        "at_ms": item.at_ms,
        "place_zh": item.place.zh,
        "place_en": item.place.en,
        "text_zh": item.text.zh,
        "text_en": item.text.en,
        "minutes": item.minutes,
        "headline": item.headline.as_json() if item.headline else {},
        "since_ms": item.since_ms,
        "due_ms": item.due_ms,
        "step": item.step,
    }


def _parts(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
