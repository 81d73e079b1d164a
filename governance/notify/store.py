"""Store of messages: gather items into messages by contact, watch for confirmations, list and read.

Every function takes an open connection and never commits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from governance.incidents.finding import Colour
from governance.incidents.headline import headline_from_json
from governance.notify.message import CALL_KINDS, TEST_INCIDENT, URGENT_KINDS, Item, NoticeKind, NoticeRequest
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice as notices_
from governance.notify.tables import notice_item as items_
from governance.notify.tables import notice_watch as watches_
from infra.errors import NotFound, Refused
from infra.texts import Text, say

IDS_PER_QUERY = 500
EVERYWHERE = "*"
"""The bucket of a contact who has had ``Policy.most`` messages within a window."""
_STEP_KINDS = [kind.value for kind in (*CALL_KINDS, NoticeKind.ESCALATED)]
_CALLING_KINDS = [*_STEP_KINDS, NoticeKind.EMERGENCY.value]


@dataclass(frozen=True, slots=True)
class Notice:
    """A message; times ms UTC. ``body`` is None while items are added to it."""

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
    incidents nobody confirmed although everybody was called."""

    waiting: int
    dead: int
    oldest_due_at_ms: int | None
    unconfirmed: int


@dataclass(frozen=True, slots=True)
class NoticeFilter:
    """What a list of messages is narrowed to; None and 0 leave nothing out. ``channel`` is the kind that took it."""

    status: str | None = None
    confirmed: bool | None = None
    contact: str | None = None
    incident: int | None = None
    channel: str | None = None
    since_ms: int = 0

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """As conditions of a query."""
        c = notices_.c
        found: list[sa.ColumnElement[bool]] = []
        for column, value in ((c.status, self.status), (c.contact, self.contact), (c.sent_by, self.channel)):
            if value is not None:
                found.append(column == value)
        if self.confirmed is not None:
            found.append(c.acknowledged_at_ms.is_not(None) if self.confirmed else c.acknowledged_at_ms.is_(None))
        if self.incident is not None:
            found.append(c.id.in_(sa.select(items_.c.notice_id).where(items_.c.incident_id == self.incident)))
        if self.since_ms:
            found.append(c.created_at_ms >= self.since_ms)
        return found


@dataclass(frozen=True, slots=True)
class StateCounts:
    """Messages by what became of them, ``sent`` with the ``confirmed`` ones; since when one is due (ms; None: none is),
    and how many incidents nobody confirmed although everybody was called."""

    waiting: int
    sent: int
    confirmed: int
    failed: int
    oldest_due_at_ms: int | None
    unconfirmed: int


@dataclass(frozen=True, slots=True)
class Watch:
    """An incident that nobody has confirmed: its call's colour, the last step told, since when, and when the next is
    (ms UTC; None: nobody is left)."""

    colour: Colour
    step: int
    since_ms: int
    due_at_ms: int | None


@dataclass(slots=True)
class _OpenMessage:
    """A message to which items are added, as it is being changed; ``id`` 0 until stored."""

    contact: str
    bucket: str
    urgency: int
    due_at_ms: int
    id: int = 0
    changed: bool = False


def enqueue(connection: sa.Connection, wanted: Sequence[NoticeRequest], now_ms: int, policy: NoticePolicy) -> int:
    """Add items to messages that are not written yet, or begin new ones; returns how many were begun.

    One message a contact and bucket; beyond ``policy.most`` within a window all buckets are one. What is held until the
    morning or the digest is one message, whatever it is about.
    """
    if not wanted:
        return 0
    contacts = sorted({one.contact for one in wanted})
    found = _gathering(connection, contacts)
    last, count = _recent(connection, contacts, now_ms, policy)
    placed: list[tuple[_OpenMessage, Item]] = []
    begun: list[_OpenMessage] = []
    for one in wanted:
        held, bucket = one.due_at_ms > now_ms, one.bucket
        if held:
            bucket = f"{EVERYWHERE}@{one.due_at_ms}"
        elif (one.contact, bucket) not in found and count.get(one.contact, 0) >= policy.most:
            bucket = EVERYWHERE
        due_ms = one.due_at_ms if held else _send_at(one.item, last.get((one.contact, bucket)), now_ms, policy)
        message, urgency = found.get((one.contact, bucket)), one.item.colour.rank
        if message is None:
            message = _OpenMessage(one.contact, bucket, urgency, due_ms)
            found[one.contact, bucket] = message
            begun.append(message)
            if not held:
                count[one.contact] = count.get(one.contact, 0) + 1
        elif urgency < message.urgency or due_ms < message.due_at_ms:
            message.urgency = min(message.urgency, urgency)
            message.due_at_ms = min(message.due_at_ms, due_ms)
            message.changed = True
        placed.append((message, one.item))
    _write_messages(connection, begun, [o for o in found.values() if o.changed and o.id], now_ms, policy)
    _write_items(connection, placed)
    return len(begun)


def _send_at(item: Item, last_due_ms: int | None, now_ms: int, policy: NoticePolicy) -> int:
    """When an item that is not held is sent: urgent calls at once, but not within the window of the last message."""
    gather_ms = policy.gather_ms(item.colour)
    waits = item.colour not in {Colour.RED, Colour.ORANGE} or item.kind not in URGENT_KINDS
    due_ms = now_ms + gather_ms if waits else now_ms
    return due_ms if last_due_ms is None else max(due_ms, last_due_ms + gather_ms)


def drop(connection: sa.Connection, incident_ids: Collection[int]) -> None:
    """Stop calling for these incidents: they are confirmed or closed. News of them stays."""
    for part in _parts(sorted(incident_ids)):
        connection.execute(sa.delete(watches_).where(watches_.c.incident_id.in_(part)))
        waiting = sa.select(notices_.c.id).where(notices_.c.status == "pending", notices_.c.body.is_(None))
        connection.execute(
            sa.delete(items_).where(
                items_.c.incident_id.in_(part), items_.c.kind.in_(_STEP_KINDS), items_.c.notice_id.in_(waiting)
            )
        )


def confirm(connection: sa.Connection, incident_id: int) -> bool:
    """Confirm an incident; False when no confirmation was waited for any more."""
    deleted = connection.execute(sa.delete(watches_).where(watches_.c.incident_id == incident_id)).rowcount
    drop(connection, [incident_id])
    return bool(deleted)


def watch(connection: sa.Connection, due: Mapping[int, tuple[Colour, int]], now_ms: int) -> None:
    """Watch until somebody confirms these incidents, by (colour, ms UTC); a repeated call begins the steps anew."""
    for part in _parts(sorted(due)):
        connection.execute(sa.delete(watches_).where(watches_.c.incident_id.in_(part)))
        rows = [
            {"incident_id": i, "colour": due[i][0].value, "step": 0, "since_ms": now_ms, "due_at_ms": due[i][1]}
            for i in part
        ]
        connection.execute(sa.insert(watches_), rows)


def get_watch(connection: sa.Connection, incident_id: int) -> Watch | None:
    """What is waited for of an incident; None where nothing is."""
    row = connection.execute(sa.select(watches_).where(watches_.c.incident_id == incident_id)).first()
    return None if row is None else Watch(Colour(row.colour), row.step, row.since_ms, row.due_at_ms)


def newest_of(connection: sa.Connection, incident_ids: Collection[int]) -> dict[tuple[int, str], Notice]:
    """The newest message about each of these incidents to each contact, by number and key of the contact."""
    found: dict[tuple[int, str], Notice] = {}
    for part in _parts(sorted(incident_ids)):
        query = (
            sa.select(items_.c.incident_id, notices_)
            .join(notices_, notices_.c.id == items_.c.notice_id)
            .where(items_.c.incident_id.in_(part))
            .order_by(notices_.c.id)
        )
        for row in connection.execute(query).mappings():
            found[row["incident_id"], row["contact"]] = notice_from_row(row)
    return found


def newest_to(connection: sa.Connection, contacts: Collection[str]) -> dict[str, Notice]:
    """The newest message to each of some contacts that was sent or given up, by key."""
    newest = (
        sa.select(sa.func.max(notices_.c.id))
        .where(notices_.c.contact.in_(sorted(contacts)), notices_.c.status.in_(("sent", "dead")))
        .group_by(notices_.c.contact)
    )
    query = sa.select(notices_).where(notices_.c.id.in_(newest))
    return {row["contact"]: notice_from_row(row) for row in connection.execute(query).mappings()}


def newest_test(connection: sa.Connection, contact: str) -> Notice | None:
    """The newest test message to a contact; None where there was none."""
    query = (
        sa.select(notices_)
        .join(items_, items_.c.notice_id == notices_.c.id)
        .where(notices_.c.contact == contact, items_.c.kind == NoticeKind.TEST.value)
        .order_by(notices_.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else notice_from_row(row)


def recipients_of(
    connection: sa.Connection, incident_ids: Collection[int], *, called: bool = True
) -> dict[int, list[str]]:
    """The keys of the contacts that were called for these incidents, or with ``called`` false told anything of them."""
    kinds = items_.c.kind.in_(_CALLING_KINDS) if called else sa.true()
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


def with_first_mentions(connection: sa.Connection, notice: Notice, found: Sequence[Item]) -> list[Item]:
    """The items of a message, where AGAIN becomes OPENED for an incident of which its contact was never sent one."""
    again = [one.incident_id for one in found if one.kind is NoticeKind.AGAIN]
    mentioned: set[int] = set()
    for part in _parts(again):
        query = (
            sa.select(items_.c.incident_id)
            .join(notices_, notices_.c.id == items_.c.notice_id)
            .where(items_.c.incident_id.in_(part), notices_.c.contact == notice.contact, notices_.c.id != notice.id)
            .where(notices_.c.sent_at_ms.is_not(None))
        )
        mentioned |= set(connection.execute(query).scalars())
    new = sorted(set(again) - mentioned)
    for part in _parts(new):
        same = (items_.c.notice_id == notice.id, items_.c.incident_id.in_(part))
        connection.execute(sa.update(items_).where(*same).values(kind=NoticeKind.OPENED.value))
    return [replace(one, kind=NoticeKind.OPENED) if one.incident_id in new else one for one in found]


def items(connection: sa.Connection, notice_ids: Iterable[int]) -> dict[int, list[Item]]:
    """The items of messages, by message."""
    found: dict[int, list[Item]] = {}
    for part in _parts(sorted(set(notice_ids))):
        query = sa.select(items_).where(items_.c.notice_id.in_(part)).order_by(items_.c.incident_id)
        for row in connection.execute(query).mappings():
            found.setdefault(row["notice_id"], []).append(_item_from_row(row))
    return found


def list_notices(
    connection: sa.Connection,
    *,
    status: str | None = None,
    contact: str | None = None,
    incident: int | None = None,
    wanted: NoticeFilter | None = None,
    limit: int,
    before: int | None = None,
    within: sa.Select[tuple[int]] | None = None,
) -> list[Notice]:
    """Messages, newest first; the next page begins with ``before`` = the last one's number. ``wanted`` asks for more.

    ``within`` finds the numbers of incidents: what tells of any other is left out; None leaves out nothing.
    """
    found = wanted or NoticeFilter(status, contact=contact, incident=incident)
    query = sa.select(notices_).where(*found.clauses()).order_by(notices_.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(notices_.c.id < before)
    if within is not None:
        query = query.where(notices_.c.id.not_in(_beyond(within)))
    return [notice_from_row(row) for row in connection.execute(query).mappings()]


def _beyond(within: sa.Select[tuple[int]]) -> sa.Select[tuple[int]]:
    """The numbers of the messages with an item of another incident than these."""
    beyond = (items_.c.incident_id != TEST_INCIDENT) & items_.c.incident_id.not_in(within)
    return sa.select(items_.c.notice_id).where(beyond)


def get(connection: sa.Connection, notice_id: int, within: sa.Select[tuple[int]] | None = None) -> Notice:
    """The message of this number; raises NotFound, also for one that `list_notices` leaves out."""
    row = None
    if 0 < notice_id < 2**31:
        query = sa.select(notices_).where(notices_.c.id == notice_id)
        if within is not None:
            query = query.where(notices_.c.id.not_in(_beyond(within)))
        row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(say("notice.unknown", id=notice_id))
    return notice_from_row(row)


def enqueue_test(connection: sa.Connection, contact: str, text: Text, now_ms: int, policy: NoticePolicy) -> int:
    """Enqueue a test message; returns its number."""
    opened = _OpenMessage(contact, f"test@{now_ms}", Colour.BLUE.rank, now_ms)
    _write_messages(connection, [opened], [], now_ms, policy)
    _write_items(connection, [(opened, Item(TEST_INCIDENT, NoticeKind.TEST, Colour.BLUE, now_ms, Text("", ""), text))])
    return opened.id


def replay(connection: sa.Connection, notice_id: int, now_ms: int, policy: NoticePolicy) -> Notice:
    """Enqueue a message again that was given up, as one of now, and return it as it was.

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
        raise Refused(say("notice.not_dead", id=notice_id, status=status))
    return before


def queue_counts(connection: sa.Connection) -> QueueCounts:
    """Count the messages that wait, those given up, and the unconfirmed incidents."""
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


def state_counts(
    connection: sa.Connection, *, since_ms: int, within: sa.Select[tuple[int]] | None = None
) -> StateCounts:
    """Count messages created since then by what became of them; ``within`` as in `list_notices`."""
    c = notices_.c
    query = (
        sa.select(c.status, sa.func.count(), sa.func.count(c.acknowledged_at_ms), sa.func.min(c.due_at_ms))
        .where(c.created_at_ms >= since_ms)
        .group_by(c.status)
    )
    lost = sa.select(sa.func.count()).where(watches_.c.due_at_ms.is_(None))
    if within is not None:
        query, lost = query.where(c.id.not_in(_beyond(within))), lost.where(watches_.c.incident_id.in_(within))
    found = {status: (number, confirmed, due) for status, number, confirmed, due in connection.execute(query)}
    waiting, _, oldest = found.get("pending", (0, 0, None))
    sent, confirmed, _ = found.get("sent", (0, 0, None))
    unconfirmed = connection.execute(lost).scalar_one()
    return StateCounts(waiting, sent, confirmed, found.get("dead", (0, 0, None))[0], oldest, unconfirmed)


def channels_used(connection: sa.Connection, since_ms: int) -> list[str]:
    """The kinds of channels that took a message created since then."""
    c = notices_.c
    query = sa.select(c.sent_by).where(c.created_at_ms >= since_ms, c.sent_by.is_not(None)).distinct()
    return sorted(connection.execute(query).scalars())


def notice_from_row(row: Any) -> Notice:
    """A message from its row."""
    return Notice(**{name: row[name] for name in Notice.__slots__})


def _gathering(connection: sa.Connection, contacts: Sequence[str]) -> dict[tuple[str, str], _OpenMessage]:
    c = notices_.c
    query = (
        sa.select(c.id, c.contact, c.bucket, c.urgency, c.due_at_ms)
        .where(c.status == "pending", c.body.is_(None), c.contact.in_(contacts))
        .order_by(c.id)
        .with_for_update()
    )
    return {
        (row.contact, row.bucket): _OpenMessage(row.contact, row.bucket, row.urgency, row.due_at_ms, row.id)
        for row in connection.execute(query)
    }


def _recent(
    connection: sa.Connection, contacts: Sequence[str], now_ms: int, policy: NoticePolicy
) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """When the last message of a contact's bucket was due, and the contact's messages within the last window."""
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


def _write_messages(
    connection: sa.Connection,
    begun: Sequence[_OpenMessage],
    changed: Sequence[_OpenMessage],
    now_ms: int,
    policy: NoticePolicy,
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


def _link_ms(policy: NoticePolicy) -> int:
    return round(policy.link_hours * 3_600_000)


def _write_items(connection: sa.Connection, placed: Sequence[tuple[_OpenMessage, Item]]) -> None:
    """Write the items; of an incident that is in a message already the more urgent item stays."""
    newest: dict[tuple[int, int], Item] = {}
    for opened, item in placed:
        key = (opened.id, item.incident_id)
        if key not in newest or _weight(item) <= _weight(newest[key]):
            newest[key] = item
    stored: dict[tuple[int, int], tuple[bool, int]] = {}
    for part in _parts(sorted({incident_id for _, incident_id in newest})):
        c = items_.c
        query = sa.select(c.notice_id, c.incident_id, c.kind, c.colour).where(
            c.incident_id.in_(part), c.notice_id.in_(sorted({number for number, _ in newest}))
        )
        for row in connection.execute(query):
            stored[row.notice_id, row.incident_id] = (NoticeKind(row.kind) not in URGENT_KINDS, Colour(row.colour).rank)
    new = [_item_to_row(number, item) for (number, i), item in newest.items() if (number, i) not in stored]
    if new:
        connection.execute(sa.insert(items_), new)
    for (number, incident_id), item in newest.items():
        if (number, incident_id) in stored and _weight(item) <= stored[number, incident_id]:
            same = (items_.c.notice_id == number, items_.c.incident_id == incident_id)
            connection.execute(sa.update(items_).where(*same).values(_item_to_row(number, item)))


def _weight(item: Item) -> tuple[bool, int]:
    return item.kind not in URGENT_KINDS, item.colour.rank


_ITEM_FIELDS = ("incident_id", "at_ms", "minutes", "since_ms", "due_ms", "step")
"""Fields of an item that have a column of the same name and shape."""


def _item_from_row(row: Mapping[Any, Any]) -> Item:
    return Item(
        kind=NoticeKind(row["kind"]),
        colour=Colour(row["colour"]),
        place=Text(row["place_zh"], row["place_en"]),
        text=Text(row["text_zh"], row["text_en"]),
        headline=headline_from_json(row["headline"]),
        **{name: row[name] for name in _ITEM_FIELDS},
    )


def _item_to_row(notice_id: int, item: Item) -> dict[str, Any]:
    return {
        "notice_id": notice_id,
        **{name: getattr(item, name) for name in _ITEM_FIELDS},
        "kind": item.kind.value,
        "colour": item.colour.value,
        "place_zh": item.place.zh,
        "place_en": item.place.en,
        "text_zh": item.text.zh,
        "text_en": item.text.en,
        "headline": item.headline.as_json() if item.headline else {},
    }


def _parts(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield ids[start : start + IDS_PER_QUERY]
