"""Send messages to people: a worker that enqueues, escalates and sends them through the contacts' channels.

Each round has three steps. `Messenger.make` turns new events of the outbox into messages, each event once: the mark
moves in the same transaction. `Messenger.escalate` calls the next contacts where nobody confirmed in time. Then due
messages are claimed and sent; a message whose worker dies between sending and recording it is sent again.

A message that a channel does not take goes to the contact's next channel at once; after the last the first is tried
again with growing delay, until the message is given up and stays visible as dead. What is sent to whom is decided in
`governance.notify.planning`, its words are in `governance.notify.wording`.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from governance.incidents import active_findings
from governance.incidents.finding import Colour
from governance.incidents.model import Incident
from governance.incidents.rows import incident_from_row
from governance.notify import channels, clock_correction, oncall
from governance.notify import store as notice_store
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel, Contact, Directory, Place
from governance.notify.links import Links
from governance.notify.message import (
    FOLLOW_UP_KINDS,
    TEST_INCIDENT,
    Item,
    NoticeKind,
    NoticeRequest,
    requires_confirmation,
)
from governance.notify.planning import (
    Circumstances,
    OutboxEvent,
    place_fields,
    place_keys,
    plan_escalation,
    plan_notices,
)
from governance.notify.policy import STALE_MS, NoticePolicy
from governance.notify.store import Notice
from governance.notify.tables import notice as notices_
from governance.notify.tables import notice_mark as marks_
from governance.notify.tables import notice_watch as watches_
from governance.notify.wording import NO_VALUES, PresentValues, compose
from governance.tables import incident as incidents_
from governance.tables import outbox
from infra.database import Database, lock_inserts
from infra.errors import StorageUnavailable
from infra.periodic import RESTART_AFTER_S, PeriodicWorker
from infra.texts import both, say

MAX_ROWS = 500
WORKERS = 4
"""Messages sent at once."""
LEASE_MS = 120_000
"""Longer than any channel takes: a claim is not renewed."""
BACKOFF_S, BACKOFF_CAP_S = 5.0, 600.0
_POSITION_NAME = "outbox"
"""The name of the mark up to which events have become messages."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Send = Callable[[Channel, str, str], Outcome]
Presents = Callable[[Collection[tuple[str, str]]], PresentValues]
Places = Callable[[sa.Connection, Collection[str]], Mapping[str, Place]]


@dataclass(frozen=True, slots=True)
class _Claimed:
    notice: Notice
    items: tuple[Item, ...]


class Bucket:
    """Token bucket: at most ``per_minute`` messages through each channel. Thread-safe."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._full: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, url: str) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        with self._lock:
            now = self._monotonic()
            have, at = self._full.get(url, (float(self._per_minute), now))
            have = min(self._per_minute, have + (now - at) * self._per_minute / 60)
            if have < 1:
                self._full[url] = (have, now)
                return (1 - have) * 60 / self._per_minute
            self._full[url] = (have - 1, now)
            return 0.0


class Messenger(PeriodicWorker):
    """A thread that sends messages. One for a database is enough; two do no harm.

    Parameters
    ----------
    directory : callable
        The contacts as they are now.
    places : callable
        Where stations lie, by key, and regions, by their code after ``REGION``; what is not registered is left out.
    links : Links or None
        Makes the links by which somebody confirms; without it messages have none.
    present : callable
        The newest usable values of series, by station and parameter; what cannot be read is left out.
    send : callable
        Sends through a channel.
    """

    restart_after_s = RESTART_AFTER_S

    def __init__(  # noqa: PLR0913  (a setting each)
        self,
        database: Database,
        directory: Callable[[], Directory],
        *,
        places: Places,
        clock: Callable[[], int],
        policy: NoticePolicy,
        links: Links | None = None,
        title: str = "",
        send: Send = channels.send,
        present: Presents = lambda _: NO_VALUES,
        poll_s: float = 1.0,
    ) -> None:
        super().__init__("messenger")
        self._database = database
        self._directory = directory
        self._places = places
        self._clock = clock
        self._policy = policy
        self._links = links
        self._title = title
        self._send = send
        self._present = present
        self._poll_s = poll_s
        self._bucket = Bucket(policy.per_minute)
        self._owner = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:12]}"
        self._lock = threading.Lock()
        self._in_flight: set[int] = set()
        self._correct_clock = clock_correction.ClockCorrection(self._correct_waits)
        self.last_error = ""
        self.counts = {"sent": 0, "failed": 0, "dead": 0}

    @contextmanager
    def open(self) -> Iterator[None]:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="message") as self._senders:
            yield

    def next_round(self) -> float:
        try:
            more = self.round(lambda claimed: self._senders.submit(self._deliver, claimed))
            self.last_error = ""
        except StorageUnavailable as error:
            more, self.last_error = False, str(error)
            log.warning("messages wait for the database", error=str(error))
        except Exception as error:
            more, self.last_error = False, type(error).__name__
            log.exception("a round of messages failed and is tried again")
        return 0.0 if more else self._poll_s

    def round(self, hand_over: Callable[[_Claimed], object] | None = None) -> bool:
        """Make, escalate and send what is due; True when there may be more. Sends in this thread by default."""
        self._correct_clock()
        made = self.make()
        raised = self.escalate()
        claimed = self._claim()
        for one in claimed:
            (hand_over or self._deliver)(one)
        return MAX_ROWS in (made, raised) or bool(claimed)

    def _correct_waits(self) -> None:
        """What was written while the clock was ahead waits no longer than it may."""
        now_ms = self._clock()
        with self._database.write() as connection:
            clock_correction.messages(connection, now_ms, self._policy, round(BACKOFF_CAP_S * 1000), LEASE_MS)

    # -- made ------------------------------------------------------------------------------------------------------

    def make(self) -> int:
        """Make messages of what is new in the outbox; returns how many events were looked at."""
        newest_id = sa.select(sa.func.coalesce(sa.func.max(outbox.c.id), 0))
        mark_of = sa.select(marks_.c.mark).where(marks_.c.name == _POSITION_NAME)
        with self._database.read() as connection:
            newest, mark = connection.execute(newest_id).scalar_one(), connection.execute(mark_of).scalar()
        if mark is None:  # no messages for events older than the first messenger
            with self._database.write() as connection:
                lock_inserts(connection, outbox)
                if connection.execute(mark_of).scalar() is None:
                    upto = connection.execute(newest_id).scalar_one()
                    connection.execute(sa.insert(marks_).values(name=_POSITION_NAME, mark=upto))
            return 0
        if newest <= mark:
            return 0
        with self._database.write() as connection:
            lock_inserts(connection, outbox)  # after it, nothing smaller than the newest can still be committed
            upto = connection.execute(newest_id).scalar_one()
        with self._database.write() as connection:
            mark = connection.execute(mark_of.with_for_update()).scalar_one()
            o = outbox.c
            query = sa.select(o.id, o.incident_id, o.notify, o.body, o.created_at_ms).where(o.id > mark, o.id <= upto)
            rows = connection.execute(query.order_by(o.id).limit(MAX_ROWS)).all()
            if rows:
                self._make(connection, rows)
                moved = sa.update(marks_).where(marks_.c.name == _POSITION_NAME)
                connection.execute(moved.values(mark=rows[-1].id))
        return len(rows)

    def _make(self, connection: sa.Connection, rows: Sequence[Any]) -> None:
        """Plan the messages of these rows of the outbox and write the plan."""
        now_ms, directory = self._clock(), self._directory()
        if not directory.contacts:
            return  # no messages, no confirmations
        events = _events(rows)
        withdrawn = {event.incident_id for event in events if event.kind is NoticeKind.WITHDRAWN}
        ended = {event.incident_id for event in events if event.kind in FOLLOW_UP_KINDS}
        now = Circumstances(
            now_ms,
            self._policy,
            directory,
            oncall.on_call(connection, now_ms),
            self._places(connection, {key for event in events for key in place_keys(event.data)}),
            _states(connection, {event.incident_id for event in events}),
            active_findings.without_active_findings(connection, withdrawn),
            notice_store.recipients_of(connection, ended),
            notice_store.recipients_of(connection, withdrawn, called=False),
        )
        plan = plan_notices(events, now)
        notice_store.drop(connection, plan.settled)
        notice_store.watch(connection, plan.watched, now_ms)
        notice_store.enqueue(connection, plan.requests, now_ms, self._policy)

    # -- escalated -------------------------------------------------------------------------------------------------

    def escalate(self) -> int:
        """Call the next step for incidents not confirmed in time; returns how many incidents were examined."""
        now_ms, policy = self._clock(), self._policy
        due = sa.select(watches_).where(watches_.c.due_at_ms <= now_ms).order_by(watches_.c.due_at_ms).limit(MAX_ROWS)
        with self._database.read() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            rows = connection.execute(due.with_for_update(skip_locked=True)).mappings().all()
            query = sa.select(incidents_).where(incidents_.c.id.in_([row["incident_id"] for row in rows]))
            found = [incident_from_row(row, (), ()) for row in connection.execute(query).mappings()]
            incidents = {incident.id: incident for incident in found}
            keys = {key for incident in found for key in place_keys(place_fields(incident))}
            places = self._places(connection, keys)
            now = Circumstances(now_ms, policy, self._directory(), oncall.on_call(connection, now_ms), places)
            settled: set[int] = set()
            requests: list[NoticeRequest] = []
            for row in rows:
                incident = incidents[row["incident_id"]]
                if not incident.is_open or now_ms - row["since_ms"] > STALE_MS:
                    settled.add(incident.id)
                else:
                    requests += self._escalate_one(connection, row, incident, now)
            notice_store.drop(connection, settled)
            notice_store.enqueue(connection, requests, now_ms, policy)
        return len(rows)

    def _escalate_one(
        self, connection: sa.Connection, watch: Any, incident: Incident, now: Circumstances
    ) -> list[NoticeRequest]:
        """Write the next step of a watched incident; the messages it takes, none after the last step."""
        step = watch["step"] + 1
        requests, due_ms = plan_escalation(incident, Colour(watch["colour"]), step, watch["since_ms"], now)
        this = sa.update(watches_).where(watches_.c.incident_id == incident.id)
        connection.execute(this.values(step=step, due_at_ms=due_ms))
        if requests:
            log.warning("nobody confirmed an incident in time: one step up", incident_id=incident.id, step=step)
        else:
            log.error("nobody confirmed an incident, and nobody is left to tell", incident_id=incident.id)
        return requests

    # -- sent ------------------------------------------------------------------------------------------------------

    def _claim(self) -> list[_Claimed]:
        """Take some of the messages that are due, the most urgent first."""
        now_ms = self._clock()
        with self._lock:
            free, in_flight = WORKERS - len(self._in_flight), list(self._in_flight)
        if free <= 0:
            return []
        n = notices_.c
        unclaimed = n.claimed_until_ms.is_(None) | (n.claimed_until_ms <= now_ms)
        due = (
            sa.select(n.id)
            .where(n.status == "pending", n.due_at_ms <= now_ms, unclaimed, n.id.not_in(in_flight))
            .order_by(n.urgency, n.due_at_ms, n.id)
            .limit(free)
        )
        with self._database.read() as connection:
            if connection.execute(due).first() is None:
                return []
        claim = {"claimed_by": self._owner, "claimed_until_ms": now_ms + LEASE_MS}
        with self._database.write() as connection:
            ids = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
            self._cancel_old(connection, ids, now_ms)
            taken = sa.update(notices_).where(n.id.in_(ids)).values(claim).returning(notices_)
            found = {row["id"]: notice_store.notice_from_row(row) for row in connection.execute(taken).mappings()}
            items_of = notice_store.items(connection, ids)
            claimed = []
            for one in ids:
                if found[one].status != "pending":
                    continue
                if one in items_of:
                    items = notice_store.with_first_mentions(connection, found[one], items_of[one])
                    claimed.append(_Claimed(self._with_body(connection, found[one], items), tuple(items)))
                else:  # everything it was to tell of has been confirmed meanwhile
                    cancelled = {"status": "cancelled", "claimed_by": None, "claimed_until_ms": None}
                    connection.execute(sa.update(notices_).where(n.id == one).values(cancelled))
        with self._lock:
            self._in_flight |= {one.notice.id for one in claimed}
        return claimed

    def _cancel_old(self, connection: sa.Connection, ids: Sequence[int], now_ms: int) -> None:
        """Give up messages of days ago, as a restored backup has them."""
        old = (notices_.c.id.in_(ids), notices_.c.attempts == 0, notices_.c.created_at_ms < now_ms - 2 * STALE_MS)
        dead = {"status": "dead", "last_error": both(say("notice.too_old"))}
        number = connection.execute(sa.update(notices_).where(*old).values(dead)).rowcount
        if number:
            self.counts["dead"] += number
            log.error("messages are too old to be told", count=number)

    def _with_body(self, connection: sa.Connection, notice: Notice, items: Sequence[Item]) -> Notice:
        """The message with its body; from here on no item is added to it."""
        contact = self._directory().get(notice.contact)
        if notice.body is not None or contact is None:
            return notice
        body = compose(items, contact.language, short=False, link=self._link(notice, items))
        connection.execute(sa.update(notices_).where(notices_.c.id == notice.id).values(body=body))
        return notice

    def _link(self, notice: Notice, items: Sequence[Item]) -> str | None:
        if self._links is None or all(item.incident_id == TEST_INCIDENT for item in items):
            return None
        if not requires_confirmation(items):
            return self._links.page(items)
        return self._links.make(notice.id, notice.contact, notice.expires_at_ms)

    def _deliver(self, claimed: _Claimed) -> None:
        """Send one message through one channel and write down what came of it."""
        notice = claimed.notice
        try:
            contact = self._directory().get(notice.contact)
            if contact is None:
                self._record_outcome(notice, None, Outcome(False, both(say("notice.contact_gone"))), final=True)
                return
            channel = contact.channels[notice.attempts % len(contact.channels)]
            wait_s = self._bucket.wait_s(channel.url)
            if wait_s:
                self._put_back(notice, wait_s)
                return
            present = self._present({item.leading for item in claimed.items if item.leading})
            link = self._link(notice, claimed.items)
            whole, short = (
                compose(claimed.items, contact.language, short=short, link=link, present=present)
                for short in (False, True)
            )
            outcome = self._send(channel, self._title, short if channel.short else whole)
            self._record_outcome(notice, (contact, channel), outcome, body=whole)
        except StorageUnavailable as error:
            log.warning("what came of a message could not be written down", notice_id=notice.id, error=str(error))
        except Exception:
            log.exception("a message failed", notice_id=notice.id)
        finally:
            with self._lock:
                self._in_flight.discard(notice.id)
            self.wake()

    def _put_back(self, notice: Notice, wait_s: float) -> None:
        later = {"due_at_ms": self._clock() + round(wait_s * 1000), "claimed_by": None, "claimed_until_ms": None}
        with self._database.write() as connection:
            connection.execute(sa.update(notices_).where(notices_.c.id == notice.id).values(later))

    def _record_outcome(
        self,
        notice: Notice,
        sent_by: tuple[Contact, Channel] | None,
        outcome: Outcome,
        *,
        final: bool = False,
        body: str | None = None,
    ) -> None:
        now_ms, attempts = self._clock(), notice.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "claimed_by": None, "claimed_until_ms": None}
        values |= {} if body is None else {"body": body}
        if outcome.ok and sent_by is not None:
            values |= {"status": "sent", "sent_at_ms": now_ms, "sent_by": sent_by[1].kind, "last_error": None}
        else:
            over = now_ms - notice.created_at_ms >= self._policy.give_up_hours * 3_600_000
            values |= {"last_error": outcome.error}
            if final or over:
                values |= {"status": "dead"}
            else:
                values |= {
                    "due_at_ms": now_ms
                    + round(1000 * _retry_delay_s(attempts, len(sent_by[0].channels) if sent_by else 1))
                }
        where = (notices_.c.id == notice.id, notices_.c.status == "pending")
        with self._database.write() as connection:
            connection.execute(sa.update(notices_).where(*where).values(values))
        status = values.get("status")
        self.counts["sent" if status == "sent" else "dead" if status == "dead" else "failed"] += 1
        fields = {"notice_id": notice.id, "contact": notice.contact, "attempts": attempts}
        if status == "sent":
            log.info("message sent", channel=values["sent_by"], waited_ms=now_ms - notice.created_at_ms, **fields)
        elif status == "dead":
            log.error("a message is given up", error=outcome.error, **fields)
        else:
            log.warning("a channel did not take a message", error=outcome.error, **fields)


def _retry_delay_s(attempts: int, channel_count: int) -> float:
    """Seconds until the next attempt: the next channel at once, the first one again after a while."""
    if attempts % channel_count:
        return 0.0
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(attempts // channel_count - 1, 20))


def _events(rows: Sequence[Any]) -> list[OutboxEvent]:
    """The events of rows of the outbox that are about an incident."""
    found = []
    for row in rows:
        data = json.loads(row.body).get("data") if row.incident_id is not None else None
        if isinstance(data, dict) and "incident" in data:
            found.append(OutboxEvent(row.incident_id, row.notify, row.created_at_ms, data))
    return found


def _states(connection: sa.Connection, ids: Collection[int]) -> dict[int, str]:
    """The states of incidents now, by number."""
    query = sa.select(incidents_.c.id, incidents_.c.state).where(incidents_.c.id.in_(sorted(ids)))
    return {row.id: row.state for row in connection.execute(query)}
