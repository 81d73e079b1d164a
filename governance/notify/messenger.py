"""Messages to people: made from what goes into the outbox, sent through a contact's channels, repeated upwards.

A thread goes round: what is new in the outbox becomes messages (once: the mark moves in the same transaction), what
nobody confirmed goes one step up, and what is due is sent. None of it touches the transaction that stores readings.
A message is claimed before it is sent, as a delivery is (``governance.notify.outbox``): a worker that dies between
sending and writing it down sends it again, which is rare and better than not at all.

A channel that does not take a message is followed by the contact's next one at once; after the last the first is tried
again, later each time, until the message is given up and stays visible as dead.
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
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from governance.incidents import active_findings
from governance.incidents.finding import Colour
from governance.incidents.headline import Headline, of_json
from governance.incidents.model import FINAL, WAITS_FOR, State
from governance.notify import channels, clock_correction, oncall
from governance.notify import store as notice_store
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel, Contact, Directory, Place
from governance.notify.policy import (
    AFTER,
    CALLS,
    NONE,
    STALE_MS,
    TEST,
    Item,
    Kind,
    Links,
    Policy,
    Present,
    asks,
    compose,
    concerned,
    kind_of,
)
from governance.notify.store import Notice, NoticeRequest
from governance.notify.tables import notice as notices_
from governance.notify.tables import notice_mark as marks_
from governance.notify.tables import notice_watch as watches_
from governance.tables import incident as incidents_
from governance.tables import outbox
from infra.database import Database, in_order
from infra.errors import StorageUnavailable
from infra.periodic import PeriodicWorker
from infra.texts import Text, sentence
from infra.times import to_ms

AT_ONCE = 500
LEASE_MS = 120_000
"""Longer than any channel takes: a claim is not renewed."""
BACKOFF_S, BACKOFF_CAP_S = 5.0, 600.0
UNCONFIRMED = frozenset({State.REPORTED, State.REOPENED})
"""States in which nobody has said yet that they know."""
SETTLING = frozenset(
    {
        "accepted",
        "rejected",
        "dispatched",
        "started",
        "returned",
        "transferred",
        "contributed",
        "finished",
        "verified",
        "reworked",
        "closed",
        "false_alarm",
        "absorbed",
        "paused",
    }
)
"""What somebody does who knows of the incident: nobody is called for it any more, until it calls anew."""
_MARK = "outbox"
REGION = "@"
"""Before a region's code where a station's key may stand, too."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Send = Callable[[Channel, str, str], Outcome]
Presents = Callable[[Collection[tuple[str, str]]], Present]
Places = Callable[[sa.Connection, Collection[str]], Mapping[str, Place]]


@dataclass(frozen=True, slots=True)
class _Claimed:
    notice: Notice
    items: tuple[Item, ...]


class Bucket:
    """So many messages a minute through each channel; what does not fit waits. Used by several threads."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._full: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, url: str) -> float:
        """0 and one taken, or the seconds until there is one."""
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
    """A thread that tells people. One for a database, two do no harm.

    Parameters
    ----------
    directory : callable
        The contacts as they are now.
    places : callable
        Where stations stand, by key, and regions, by their code after ``REGION``; what is not registered is left out.
    links : Links or None
        Makes the links by which somebody confirms; without it messages have none.
    present : callable
        The newest usable values of series, by station and parameter; what cannot be read is left out.
    send : callable
        Sends through a channel; ``governance.notify.channels.send`` unless a test looks on.
    """

    def __init__(
        self,
        database: Database,
        directory: Callable[[], Directory],
        *,
        places: Places,
        clock: Callable[[], int],
        policy: Policy,
        links: Links | None = None,
        title: str = "",
        send: Send = channels.send,
        present: Presents = lambda _: NONE,
        workers: int = 4,
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
        self._workers = workers
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
        with ThreadPoolExecutor(self._workers, thread_name_prefix="message") as self._senders:
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
        return AT_ONCE in (made, raised) or bool(claimed)

    def _correct_waits(self) -> None:
        """What was written while the clock was ahead waits no longer than it may."""
        now_ms = self._clock()
        with self._database.write() as connection:
            clock_correction.messages(connection, now_ms, self._policy, round(BACKOFF_CAP_S * 1000), LEASE_MS)

    # -- made ------------------------------------------------------------------------------------------------------

    def make(self) -> int:
        """Make messages of what is new in the outbox; returns how many events were looked at."""
        newest_id = sa.select(sa.func.coalesce(sa.func.max(outbox.c.id), 0))
        mark_of = sa.select(marks_.c.mark).where(marks_.c.name == _MARK)
        with self._database.read() as connection:
            newest, mark = connection.execute(newest_id).scalar_one(), connection.execute(mark_of).scalar()
        if mark is None:  # what happened before anybody was to be told is not told
            with self._database.write() as connection:
                in_order(connection, outbox)
                if connection.execute(mark_of).scalar() is None:
                    upto = connection.execute(newest_id).scalar_one()
                    connection.execute(sa.insert(marks_).values(name=_MARK, mark=upto))
            return 0
        if newest <= mark:
            return 0
        with self._database.write() as connection:
            in_order(connection, outbox)  # after it, nothing smaller than the newest can still be committed
            upto = connection.execute(newest_id).scalar_one()
        with self._database.write() as connection:
            mark = connection.execute(mark_of.with_for_update()).scalar_one()
            o = outbox.c
            query = sa.select(o.id, o.incident_id, o.notify, o.body, o.created_at_ms).where(o.id > mark, o.id <= upto)
            rows = connection.execute(query.order_by(o.id).limit(AT_ONCE)).all()
            if rows:
                self._make(connection, rows)
                moved = sa.update(marks_).where(marks_.c.name == _MARK)
                connection.execute(moved.values(mark=rows[-1].id))
        return len(rows)

    def _make(self, connection: sa.Connection, rows: Sequence[Any]) -> None:
        now_ms, policy, directory = self._clock(), self._policy, self._directory()
        if not directory.contacts:
            return  # nobody is told, and nobody is waited for to confirm
        events = [(row, json.loads(row.body).get("data")) for row in rows if row.incident_id is not None]
        events = [(row, data) for row, data in events if isinstance(data, dict) and "incident" in data]
        states = self._states(connection, {row.incident_id for row, _ in events})
        places = self._places(connection, {key for _, data in events for key in _keys(data)})
        duty = oncall.on_call(connection, now_ms)
        on_duty = {key for keys in directory.office(duty)[:1] for key in keys}
        kinds = [(row.incident_id, kind_of(data, row.notify)) for row, data in events]
        baseless = active_findings.baseless(connection, {number for number, kind in kinds if kind is Kind.WITHDRAWN})
        settled: set[int] = set()
        called = notice_store.recipients_of(connection, {number for number, kind in kinds if kind in AFTER})
        heard = notice_store.recipients_of(connection, {n for n, kind in kinds if kind is Kind.WITHDRAWN}, called=False)
        wanted: list[NoticeRequest] = []
        watched: dict[int, tuple[Colour, int]] = {}
        for row, data in events:
            kind, number = kind_of(data, row.notify), row.incident_id
            if data["what"] in SETTLING or (kind is Kind.WITHDRAWN and number in baseless):
                settled.add(number)
                watched.pop(number, None)
                wanted = [one for one in wanted if one.item.incident_id != number or one.item.kind not in CALLS]
            stale = now_ms - row.created_at_ms > STALE_MS
            if kind is None or stale or (kind in CALLS and not _calls(kind, states.get(number))):
                continue
            place = _place(places, data)
            colour = _urgency(kind, data)
            steps = directory.steps(place, colour, duty)
            who = tuple(called.get(number, ())) if kind in AFTER else _first(kind, steps, data)
            named = [one.key for one in map(directory.called, concerned(data, kind)) if one is not None]
            if named:  # the case has somebody: the others are not told of their task, but who is above of what is late
                above = directory.chiefs_of(data.get("escalated_to") or "") if kind is Kind.OVERDUE else ()
                who = (*named, *above)
            if kind is Kind.WITHDRAWN:
                who = (*who, *heard.get(number, ()))
            if kind is Kind.EMERGENCY:  # called out again by its history; here it is only kept open to be confirmed
                watched[number] = (colour, now_ms + STALE_MS + 1)
            due_ms = policy.unconfirmed_at(colour, now_ms) if kind in CALLS and row.notify == "page" else None
            minutes = policy.confirm.get(colour) if due_ms is not None else None
            where, (step, deadline_ms) = place.region or place.name, _deadline(kind, data)
            item = Item(
                number,
                kind,
                colour,
                row.created_at_ms,
                where,
                Text(**data["text"]),
                minutes,
                _headline(data, where),
                to_ms(datetime.fromisoformat(data["since"])),
                deadline_ms,
                step,
            )
            if due_ms is not None:
                watched[number] = (colour, due_ms)
            wanted += [
                NoticeRequest(key, place.bucket, item, policy.due(colour, now_ms, on_duty=key in on_duty))
                for key in dict.fromkeys(who)
            ]
        notice_store.drop(connection, settled)
        notice_store.watch(connection, watched, now_ms)
        notice_store.enqueue(connection, wanted, now_ms, policy)

    # -- escalated -------------------------------------------------------------------------------------------------

    def escalate(self) -> int:
        """Tell the next step of what nobody confirmed in time; returns how many incidents were looked at."""
        now_ms, policy = self._clock(), self._policy
        due = sa.select(watches_).where(watches_.c.due_at_ms <= now_ms).order_by(watches_.c.due_at_ms).limit(AT_ONCE)
        with self._database.read() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            rows = connection.execute(due.with_for_update(skip_locked=True)).mappings().all()
            query = sa.select(incidents_).where(incidents_.c.id.in_([row["incident_id"] for row in rows]))
            known = {row["id"]: row for row in connection.execute(query).mappings()}
            places = self._places(connection, {key for row in known.values() for key in _keys(row)})
            directory, duty = self._directory(), oncall.on_call(connection, now_ms)
            over: set[int] = set()
            wanted: list[NoticeRequest] = []
            for row in rows:
                incident = known[row["incident_id"]]
                if incident["state"] in FINAL or now_ms - row["since_ms"] > STALE_MS:
                    over.add(incident["id"])
                    continue
                wanted += self._raise(connection, row, incident, places, directory, duty, now_ms)
            notice_store.drop(connection, over)
            notice_store.enqueue(connection, wanted, now_ms, policy)
        return len(rows)

    def _raise(
        self,
        connection: sa.Connection,
        row: Any,
        incident: Any,
        places: Mapping[str, Place],
        directory: Directory,
        duty: Sequence[Sequence[str]],
        now_ms: int,
    ) -> list[NoticeRequest]:
        colour, step, place = Colour(row["colour"]), row["step"] + 1, _place(places, incident)
        steps = directory.steps(place, colour, duty)
        left = step < len(steps)
        due_ms = self._policy.unconfirmed_at(colour, now_ms) if left else None
        this = sa.update(watches_).where(watches_.c.incident_id == incident["id"])
        connection.execute(this.values(step=step, due_at_ms=due_ms))
        if not left:
            log.error("nobody confirmed an incident, and nobody is left to tell", incident_id=incident["id"])
            return []
        log.warning("nobody confirmed an incident in time: one step up", incident_id=incident["id"], step=step)
        title = {"zh": incident["title_zh"], "en": incident["title_en"]}
        waited = round((now_ms - row["since_ms"]) / 60_000)
        where = place.region or place.name
        data = {"headline": incident["headline"], "kind": incident["kind"], "title": title}
        item = Item(
            incident["id"],
            Kind.ESCALATED,
            colour,
            now_ms,
            where,
            Text(**title),
            waited,
            _headline(data, where),
            incident["since_ms"],
        )
        return [NoticeRequest(key, place.bucket, item, now_ms) for key in steps[step]]

    # -- sent ------------------------------------------------------------------------------------------------------

    def _claim(self) -> list[_Claimed]:
        """Take some of the messages that are due, the most urgent first."""
        now_ms = self._clock()
        with self._lock:
            free, mine = self._workers - len(self._in_flight), list(self._in_flight)
        if free <= 0:
            return []
        n = notices_.c
        unclaimed = n.claimed_until_ms.is_(None) | (n.claimed_until_ms <= now_ms)
        due = (
            sa.select(n.id)
            .where(n.status == "pending", n.due_at_ms <= now_ms, unclaimed, n.id.not_in(mine))
            .order_by(n.urgency, n.due_at_ms, n.id)
            .limit(free)
        )
        with self._database.read() as connection:
            if connection.execute(due).first() is None:
                return []
        claim = {"claimed_by": self._owner, "claimed_until_ms": now_ms + LEASE_MS}
        with self._database.write() as connection:
            ids = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
            self._bury(connection, ids, now_ms)
            taken = sa.update(notices_).where(n.id.in_(ids)).values(claim).returning(notices_)
            found = {row["id"]: notice_store.of(row) for row in connection.execute(taken).mappings()}
            told = notice_store.items(connection, ids)
            claimed = []
            for one in ids:
                if found[one].status != "pending":
                    continue
                if one in told:
                    items = notice_store.first_told(connection, found[one], told[one])
                    claimed.append(_Claimed(self._written(connection, found[one], items), tuple(items)))
                else:  # everything it was to tell of has been confirmed meanwhile
                    gone = {"status": "cancelled", "claimed_by": None, "claimed_until_ms": None}
                    connection.execute(sa.update(notices_).where(n.id == one).values(gone))
        with self._lock:
            self._in_flight |= {one.notice.id for one in claimed}
        return claimed

    def _bury(self, connection: sa.Connection, ids: Sequence[int], now_ms: int) -> None:
        """Messages of days ago, as a restored backup has them, are not sent any more."""
        old = (notices_.c.id.in_(ids), notices_.c.attempts == 0, notices_.c.created_at_ms < now_ms - 2 * STALE_MS)
        gone = {"status": "dead", "last_error": sentence("notice.too_old")}
        number = connection.execute(sa.update(notices_).where(*old).values(gone)).rowcount
        if number:
            self.counts["dead"] += number
            log.error("messages are too old to be told", count=number)

    def _written(self, connection: sa.Connection, notice: Notice, told: Sequence[Item]) -> Notice:
        """The message with its words; from here on nothing is added to it."""
        contact = self._directory().get(notice.contact)
        if notice.body is not None or contact is None:
            return notice
        body = compose(told, contact.language, short=False, link=self._link(notice, told))
        connection.execute(sa.update(notices_).where(notices_.c.id == notice.id).values(body=body))
        return notice

    def _link(self, notice: Notice, items: Sequence[Item]) -> str | None:
        if self._links is None or all(item.incident_id == TEST for item in items):
            return None
        if not asks(items):
            return self._links.page(items)
        return self._links.make(notice.id, notice.contact, notice.expires_at_ms)

    def _deliver(self, claimed: _Claimed) -> None:
        """Send one message through one channel and write down what came of it."""
        notice = claimed.notice
        try:
            contact = self._directory().get(notice.contact)
            if contact is None:
                self._settle(notice, None, Outcome(False, sentence("notice.contact_gone")), final=True)
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
            self._settle(notice, (contact, channel), outcome, body=whole)
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

    def _settle(
        self,
        notice: Notice,
        way: tuple[Contact, Channel] | None,
        outcome: Outcome,
        *,
        final: bool = False,
        body: str | None = None,
    ) -> None:
        now_ms, attempts = self._clock(), notice.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "claimed_by": None, "claimed_until_ms": None}
        values |= {} if body is None else {"body": body}
        if outcome.ok and way is not None:
            values |= {"status": "sent", "sent_at_ms": now_ms, "sent_by": way[1].kind, "last_error": None}
        else:
            over = now_ms - notice.created_at_ms >= self._policy.give_up_hours * 3_600_000
            values |= {"last_error": outcome.error}
            if final or over:
                values |= {"status": "dead"}
            else:
                values |= {"due_at_ms": now_ms + round(1000 * _wait_s(attempts, len(way[0].channels) if way else 1))}
        mine = (notices_.c.id == notice.id, notices_.c.status == "pending")
        with self._database.write() as connection:
            connection.execute(sa.update(notices_).where(*mine).values(values))
        status = values.get("status")
        self.counts["sent" if status == "sent" else "dead" if status == "dead" else "failed"] += 1
        told = {"notice_id": notice.id, "contact": notice.contact, "attempts": attempts}
        if status == "sent":
            log.info("told", channel=values["sent_by"], waited_ms=now_ms - notice.created_at_ms, **told)
        elif status == "dead":
            log.error("a message is given up", error=outcome.error, **told)
        else:
            log.warning("a channel did not take a message", error=outcome.error, **told)

    def _states(self, connection: sa.Connection, ids: set[int]) -> dict[int, str]:
        query = sa.select(incidents_.c.id, incidents_.c.state).where(incidents_.c.id.in_(sorted(ids)))
        return {row.id: row.state for row in connection.execute(query)}


def _keys(incident: Any) -> tuple[str, str]:
    """What may say where an incident is: its station, and with a mark before it the region somebody named."""
    return str(incident["station"]), f"{REGION}{incident.get('region') or ''}"


def _place(places: Mapping[str, Place], incident: Any) -> Place:
    """Where an incident is: its station's place in the incident's region, else where it was reported from."""
    station, region = _keys(incident)
    if station in places and region in places:
        return replace(places[station], regions=places[region].regions, region=places[region].region)
    if station in places:
        return places[station]
    place = places.get(region) or Place(Text(station, station))
    return replace(place, reach=str(incident.get("reach") or ""))


def _headline(data: Mapping[str, Any], place: Text) -> Headline:
    """What an event is about; of what people report its words, and where it is."""
    found = of_json(data.get("headline"))
    if found is not None:
        return found
    return Headline(place if data["kind"] == "report" else Text("", ""), Text(**data["title"]))


def _deadline(kind: Kind, data: Mapping[str, Any]) -> tuple[str, int | None]:
    """The step that waits and when it has to be done (ms)."""
    if kind is Kind.EMERGENCY:
        return "report", (data.get("details") or {}).get("report_by")
    phase = WAITS_FOR.get(State(data["state"]))
    due = data.get("due_at")
    return (phase.value, to_ms(datetime.fromisoformat(due))) if phase is not None and due else ("", None)


def _calls(kind: Kind, state: str | None) -> bool:
    """Whether an incident in this state calls: what opened only while nobody knows, what became worse until its end."""
    return state in UNCONFIRMED if kind is Kind.OPENED else state is not None and state not in FINAL


def _urgency(kind: Kind, data: Mapping[str, Any]) -> Colour:
    """As which colour something is told: late data as blue, an emergency as red."""
    if kind is Kind.EMERGENCY:
        return Colour.RED
    return Colour.BLUE if kind is Kind.PAST else Colour(data["colour"])


def _first(kind: Kind, steps: Sequence[tuple[str, ...]], data: Mapping[str, Any]) -> tuple[str, ...]:
    """Who is told first: what is overdue or supervised goes one step up as well, an emergency one with each call."""
    if kind in {Kind.OVERDUE, Kind.SUPERVISED, Kind.EMERGENCY}:
        calls = (data.get("details") or {}).get("calls", 0) if kind is Kind.EMERGENCY else 0
        return tuple(key for step in steps[: 2 + calls] for key in step)
    return steps[0] if steps else ()


def _wait_s(attempts: int, ways: int) -> float:
    """Seconds until the next attempt: the next channel at once, the first one again after a while."""
    if attempts % ways:
        return 0.0
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(attempts // ways - 1, 20))
