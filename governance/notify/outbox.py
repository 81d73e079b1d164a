"""Outbox: deliver incident events to the external platform, in order, at least once.

A row is *pending* until the receiver accepts it (*delivered*) or rejects it for good (*refused*: a dead letter that
stays visible and can be sent again). A process that dies between sending and recording sends the row again under the
same event id, which the receiver knows already.

Repetitions are gathered. An event of one more finding (``repeats``) waits while an event of its incident was delivered
a moment ago, and is *superseded*, never sent, once a later event of the incident may be sent: each event holds the
whole state of the incident. A row that was tried once is tried until it is settled. An event that changes an incident
(state, colour, what people did) neither waits nor is superseded.

Several workers may deliver for one database. A worker claims rows in a short transaction before it sends them, and
holds the claim until it has recorded the answer:

- A claim is a lease (``claimed_until_ms``), not a lock: no transaction stays open during a request, and the rows of a
  killed worker are free again after ``LEASE_S`` at the latest. A living worker renews its claims.
- On PostgreSQL workers skip rows that another one is claiming (``FOR UPDATE SKIP LOCKED``); on SQLite they claim one
  after the other.
- Of each incident only the oldest pending row may be claimed, which keeps the order whoever sends.
- A worker suspended for longer than its lease finds its row sent by another one. The event then went out twice under
  one id.

Leases are compared by the workers' own clocks, which must agree within some seconds.
"""

import contextlib
import json
import math
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum, auto
from http import HTTPStatus
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

from governance.incidents import cloudevents
from governance.incidents.clock_correction import SKEW_MS
from governance.notify import clock_correction
from governance.tables import outbox
from infra import outgoing
from infra.database import Database
from infra.errors import ConfigurationError, NotFound, Refused, StorageUnavailable
from infra.periodic import RESTART_AFTER_S, PeriodicWorker
from infra.texts import say
from infra.times import to_ms

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are read."""

MAX_RETRY_AFTER_S = 3600.0
"""The longest wait that a receiver may ask for."""
KEEP_ALIVE_S = 2.0
"""Idle connections are closed after this, before servers close theirs, usually after 5 s."""

LEASE_S = 20.0
"""How long a claim holds; it is renewed when half of it has passed."""

MAX_LEASE_MS = 120_000
"""The longest lease of any worker."""

LOG_INTERVAL_S = 600.0
"""The same trouble of the receiver is logged once within this time."""
REPEAT_DELAY_S = 60.0
"""A repetition waits until this long after the last delivered event of its incident; a quarter where it pages."""

ERROR_MAX_CHARS = 300
"""Characters of an answer that are kept as the last error."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_OTHER = outbox.alias("other")
_NOW: sa.BindParameter[int] = sa.bindparam("now", type_=sa.BigInteger)


class Status(StrEnum):
    """Status of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    """Never sent: a later event of the incident includes it."""


_PENDING = Status.PENDING.value


class Verdict(Enum):
    """What an HTTP status means for a delivery."""

    DELIVERED = auto()
    REFUSED = auto()
    LATER = auto()
    MISCONFIGURED = auto()
    """Tried again like LATER, but an address, a secret or a right has to be corrected first."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the outbox; times ms UTC."""

    id: int
    event_id: str
    incident_id: int
    type: str
    body: str
    notify: str
    repeats: bool
    created_at_ms: int
    pending_since_ms: int
    next_attempt_at_ms: int
    attempts: int
    status: Status
    delivered_at_ms: int | None
    last_status: int | None
    last_error: str | None
    claimed_by: str | None
    claimed_until_ms: int | None


@dataclass(frozen=True, slots=True)
class PendingCounts:
    """How many rows wait, how many were refused, when the oldest waiting row was created (ms UTC; None: none waits).

    A repetition that is still being gathered is not counted as the oldest.
    """

    pending: int
    refused: int
    oldest_pending_at_ms: int | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """Outcome of one attempt; ``status`` is None when no answer came, ``retry_after_s`` None when none was asked."""

    delivery: Delivery
    at_ms: int
    status: int | None
    error: str | None
    retry_after_s: float | None = None
    began_ms: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as reported to ``watch``: when it began and ended (ms UTC), the HTTP status (None: no answer), the
    status of the delivery after it, and the ``data`` of its event."""

    delivery: Delivery
    began_ms: int
    ended_ms: int
    http_status: int | None
    status: Status
    data: Mapping[str, Any]


def verdict(status: int) -> Verdict:
    """Classify the HTTP status of an answer.

    2xx and 409 (the receiver has the event already) are delivered; 410 and every other 4xx are refused. 408, 425, 429
    and 5xx are temporary. A redirect, 401, 403 and 404 come from a wrong address or secret: the event is kept.
    """
    if 200 <= status < 300 or status == HTTPStatus.CONFLICT:
        return Verdict.DELIVERED
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500:
        return Verdict.LATER
    if status < 400 or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return Verdict.MISCONFIGURED
    return Verdict.REFUSED


def retry_after(value: str | None, now_ms: int) -> float | None:
    """Seconds to wait by a ``Retry-After`` header (seconds or an HTTP date), 0 to an hour; None if it says neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        wait_s = (to_ms(parsedate_to_datetime(text)) - now_ms) / 1000
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def dead_letters(connection: sa.Connection, *, limit: int = 100) -> list[Delivery]:
    """The dead letters, newest first."""
    return list_deliveries(connection, Status.REFUSED, limit=limit)


def list_deliveries(
    connection: sa.Connection,
    status: Status,
    *,
    limit: int,
    before: int | None = None,
    within: sa.Select[tuple[int]] | None = None,
) -> list[Delivery]:
    """Deliveries of one status, newest first; the next page begins with ``before`` = the last one's id.

    ``within`` finds the numbers of the incidents that are shown; None: of all.
    """
    query = sa.select(outbox).where(outbox.c.status == status.value).order_by(outbox.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(outbox.c.id < before)
    if within is not None:
        query = query.where(outbox.c.incident_id.in_(within))
    return [_delivery(row) for row in connection.execute(query)]


def delivery(connection: sa.Connection, delivery_id: int) -> Delivery:
    """The delivery of this number; raises NotFound."""
    row = None
    if 0 < delivery_id < 2**31:
        row = connection.execute(sa.select(outbox).where(outbox.c.id == delivery_id)).first()
    if row is None:
        raise NotFound(say("incident.delivery_unknown", id=delivery_id))
    return _delivery(row)


def replay(connection: sa.Connection, delivery_id: int, now_ms: int) -> None:
    """Make a dead letter pending again, due now; the caller commits. Raises NotFound, and Refused if it is not dead."""
    fresh = {
        "status": Status.PENDING.value,
        "attempts": 0,
        "pending_since_ms": now_ms,
        "next_attempt_at_ms": now_ms,
        "claimed_by": None,
        "claimed_until_ms": None,
    }
    if not 0 < delivery_id < 2**31:
        raise NotFound(say("incident.delivery_unknown", id=delivery_id))
    dead = sa.and_(outbox.c.id == delivery_id, outbox.c.status == Status.REFUSED.value)
    if connection.execute(sa.update(outbox).where(dead).values(fresh)).rowcount:
        return
    status = connection.execute(sa.select(outbox.c.status).where(outbox.c.id == delivery_id)).scalar()
    if status is None:
        raise NotFound(say("incident.delivery_unknown", id=delivery_id))
    raise Refused(say("incident.delivery_not_refused", id=delivery_id, status=say(f"incident.delivery_{status}")))


def pending_counts(connection: sa.Connection) -> PendingCounts:
    """Count the rows that wait and those refused."""
    unfinished = ~outbox.c.repeats | (outbox.c.attempts > 0)
    query = (
        sa.select(outbox.c.status, sa.func.count(), sa.func.min(sa.case((unfinished, outbox.c.created_at_ms))))
        .where(outbox.c.status.in_([Status.PENDING.value, Status.REFUSED.value]))
        .group_by(outbox.c.status)
    )
    found = {status: (number, oldest) for status, number, oldest in connection.execute(query)}
    pending, oldest = found.get(Status.PENDING.value, (0, None))
    return PendingCounts(pending, found.get(Status.REFUSED.value, (0, None))[0], oldest)


class Deliverer(PeriodicWorker):
    """A worker thread that sends pending rows to one address until each is settled; there may be several.

    Rows of one incident go one after the other, an earlier one settled before a later one is sent; up to
    ``concurrency`` incidents are sent at once, those that page first. ``wake()`` after a commit sends at once; rows of
    another process and retries are found when due, at the latest after ``poll_s``.

    Parameters
    ----------
    url, secret : str
        Where to, and the Standard Webhooks secret; ConfigurationError if either cannot be used.
    clock : callable
        Milliseconds since the epoch, UTC.
    rng : random.Random
        Spreads the retries.
    backoff_s, backoff_cap_s : float
        Wait after the first failure, doubled after each further one up to the cap; each wait is cut by up to half.
    give_up_after_s : float
        A row that fails this long after it became pending is refused.
    lease_s : float
        For how long a claimed row is nobody else's if this worker dies.
    gather_s : float
        For how long after an event of an incident its repetitions are gathered, a quarter of it where they page.
    watch : callable
        Called with every attempt once its outcome is recorded; must not block.
    """

    restart_after_s = RESTART_AFTER_S

    def __init__(  # noqa: PLR0913  (a setting each)
        self,
        database: Database,
        url: str,
        secret: str,
        *,
        clock: Callable[[], int],
        rng: random.Random,
        concurrency: int = 8,
        timeout_s: float = 10.0,
        backoff_s: float = 1.0,
        backoff_cap_s: float = 600.0,
        give_up_after_s: float = 7 * 86_400.0,
        poll_s: float = 1.0,
        lease_s: float = LEASE_S,
        gather_s: float = REPEAT_DELAY_S,
        watch: Callable[[Attempt], None] = lambda attempt: None,
    ) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            raise ConfigurationError(say("platforms.no_url")) from None
        if address.scheme not in {"http", "https"} or not address.host:
            raise ConfigurationError(say("platforms.scheme"))
        cloudevents.sign(secret, "check", 0, b"")  # fails now, not with the first incident
        super().__init__("deliverer")
        self._url = address
        self._host = address.host
        self._secret = secret
        self._database = database
        self._clock = clock
        self._rng = rng
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._backoff_cap_s = backoff_cap_s
        self._give_up_after_s = give_up_after_s
        self._poll_s = poll_s
        self._lease_ms = round(lease_s * 1000)
        self._gather_ms = round(gather_s * 1000)
        self._due_rows = self._due_query()
        self._claimable_rows = self._due_rows.with_for_update(skip_locked=True, of=outbox)
        self._owner = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:12]}"
        self._renew_at_ms = 0
        self._correct_clock = clock_correction.ClockCorrection(self._correct_waits)
        self._watch = watch
        self._lock = threading.Lock()
        self._answers: list[_Answer] = []
        self._in_flight: dict[int, Delivery] = {}  # by incident: on its way or not settled yet; the loop's own
        self._logged_at: dict[str, float] = {}  # by trouble, monotonic seconds
        self._grace_s = 0.0
        self.last_round_at_ms: int | None = None
        """When the loop last saw the database and had nothing left to hand out: a watcher's proof of life."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """In the end what is on its way is settled; what cannot be stays pending and is sent by the next Deliverer."""
        limits = httpx.Limits(max_connections=self._concurrency, keepalive_expiry=KEEP_ALIVE_S)
        self._senders = ThreadPoolExecutor(self._concurrency, thread_name_prefix="delivery")
        with httpx.Client(timeout=self._timeout_s, follow_redirects=False, limits=limits) as self._client:
            yield
            give_up_at = time.monotonic() + self._grace_s
            while self._in_flight and time.monotonic() < give_up_at:
                self._woken.clear()
                self._guarded(self._settle)
                if self._in_flight:
                    self._woken.wait(min(0.1, self._poll_s))
            self._senders.shutdown(wait=False, cancel_futures=True)
            if self._in_flight:
                self._guarded(self._release_claims)
        self._in_flight.clear()

    def stop(self, timeout_s: float = 15.0) -> bool:
        self._grace_s = timeout_s
        return super().stop(timeout_s)

    def next_round(self) -> float:
        return self._guarded(self._round)

    def _guarded(self, job: Callable[[], float]) -> float:
        """The job's answer; the loop outlives whatever goes wrong in it."""
        try:
            return job()
        except StorageUnavailable as error:
            log.warning("deliveries wait for the database", error=str(error))
        except Exception:
            log.exception("a round of deliveries failed")
        return self._poll_s

    def _round(self) -> float:
        """Settle, hand out what is due, and say how many seconds may pass until the next look."""
        self._settle()
        now_ms = self._clock()
        if self._in_flight and not 0 < self._renew_at_ms - now_ms <= self._lease_ms // 2:  # due, or the clock went back
            self._renew(now_ms)
        self._correct_clock()
        free = self._concurrency - len(self._in_flight)
        wait_s = self._poll_s
        if free > 0:
            with self._database.read() as connection:
                due = connection.execute(self._due_rows, self._due_values(now_ms, free)).first() is not None
                next_at_ms = connection.execute(_NEXT, {"now": now_ms}).scalar_one()
            if due:
                for delivery in self._claim(now_ms, free):
                    self._senders.submit(self._attempt, self._client, delivery)
                    self._in_flight[delivery.incident_id] = delivery
            if next_at_ms is not None:
                wait_s = min(wait_s, max(0.001, (next_at_ms - now_ms) / 1000))
        self.last_round_at_ms = self._clock()
        return wait_s

    def _due_query(self) -> sa.Select[tuple[int, int]]:
        """The unclaimed rows (id, incident) that may be sent, the most urgent first; see `_due_values`.

        Built once: building it costs more than running it.
        """
        o = outbox.c
        blocked = _exists_other(_OTHER.c.id < o.id, ~_is_superseded_by(_OTHER, outbox))
        overtaken = _exists_other(_OTHER.c.id > o.id, _is_superseded_by(outbox, _OTHER))  # which is ripe no later
        first = sa.case((overtaken, sa.false()), else_=~blocked)  # in this order: of a thousand, one is looked at whole
        mine = o.incident_id.in_(sa.bindparam("mine", expanding=True))
        return (
            sa.select(o.id, o.incident_id)
            .where(o.status == _PENDING, self._is_due(outbox), _is_unclaimed(outbox), ~mine, first)
            .order_by(sa.case((o.notify == "page", 0), else_=1), o.next_attempt_at_ms, o.id)
            .limit(sa.bindparam("free", type_=sa.Integer))
        )

    def _is_due(self, row: sa.FromClause) -> sa.ColumnElement[bool]:
        """Whether a row is due: a repetition not tried yet waits while an event of its incident was just delivered."""
        delivered = outbox.alias("delivered")
        last = (
            sa.select(delivered.c.delivered_at_ms)
            .where(delivered.c.incident_id == row.c.incident_id, delivered.c.status == Status.DELIVERED.value)
            .order_by(delivered.c.id.desc())
            .limit(1)
            .correlate(row)
            .scalar_subquery()
        )
        wait_ms = sa.case((row.c.notify == "page", self._gather_ms // 4), else_=self._gather_ms)
        last_ms = sa.func.coalesce(last, 0)
        in_the_future = last_ms > _NOW + SKEW_MS  # written by a wrong clock
        at_once = ~row.c.repeats | (row.c.attempts > 0) | (last_ms + wait_ms <= _NOW) | in_the_future
        return (row.c.next_attempt_at_ms <= _NOW) & at_once

    def _due_values(self, now_ms: int, free: int) -> dict[str, Any]:
        """The values of `_due_query`: at most ``free`` rows due at ``now_ms``, none of incidents on their way."""
        return {"now": now_ms, "free": free, "mine": list(self._in_flight)}

    def _claim(self, now_ms: int, free: int) -> list[Delivery]:
        """Claim up to ``free`` of the due rows, none that another worker is claiming; supersede what they include."""
        claim = {"owner": self._owner, "lease_until": now_ms + self._lease_ms}
        with self._database.write() as connection:
            due = connection.execute(self._claimable_rows, self._due_values(now_ms, free)).all()
            ids, numbers = [row.id for row in due], [row.incident_id for row in due]
            connection.execute(_SUPERSEDE, {"ids": ids, "numbers": numbers, "now": now_ms})
            rows = {row.id: row for row in connection.execute(_CLAIM, {"ids": ids} | claim)}
        if not self._in_flight:
            self._renew_at_ms = now_ms + self._lease_ms // 2
        return [_delivery(rows[one]) for one in ids if one in rows]

    def _renew(self, now_ms: int) -> None:
        """Renew the claims of the rows that are still being sent."""
        held = outbox.c.id.in_([delivery.id for delivery in self._in_flight.values()])
        longer = sa.update(outbox).where(held, outbox.c.claimed_by == self._owner)
        with self._database.write() as connection:
            connection.execute(longer.values(claimed_until_ms=now_ms + self._lease_ms))
        self._renew_at_ms = now_ms + self._lease_ms // 2

    def _correct_waits(self) -> None:
        """Correct waits that were written while the clock was ahead."""
        now_ms = self._clock()
        with self._database.write() as connection:
            clock_correction.deliveries(
                connection,
                now_ms,
                backoff_s=self._backoff_s,
                cap_s=self._backoff_cap_s,
                asked_most_s=MAX_RETRY_AFTER_S,
                lease_most_ms=max(self._lease_ms, MAX_LEASE_MS),
            )

    def _release_claims(self) -> float:
        """Release the rows that were not settled in time, so that the next worker need not wait for the lease."""
        release = sa.update(outbox).where(outbox.c.claimed_by == self._owner)
        with self._database.write() as connection:
            connection.execute(release.values(claimed_by=None, claimed_until_ms=None))
        return self._poll_s

    def _attempt(self, client: httpx.Client, delivery: Delivery) -> None:
        """Send one row; runs in a sender thread and always adds an answer."""
        began_ms = self._clock()
        try:
            with outgoing.guarded():
                answer = self._send(client, delivery)
        except Exception as error:
            text = outgoing.without_secrets(f"{type(error).__name__}: {error}", str(self._url))
            answer = _Answer(delivery, self._clock(), None, text[:ERROR_MAX_CHARS])
        with self._lock:
            self._answers.append(replace(answer, began_ms=began_ms))
        self.wake()

    def _send(self, client: httpx.Client, delivery: Delivery) -> _Answer:
        body = delivery.body.encode()
        headers = cloudevents.sign(self._secret, delivery.event_id, self._clock() // 1000, body)
        headers |= {"content-type": cloudevents.CONTENT_TYPE, "accept-encoding": "identity"}
        until = time.monotonic() + self._timeout_s
        with client.stream("POST", self._url, content=body, headers=headers) as response:
            content = b""
            with contextlib.suppress(httpx.HTTPError):  # the status has come: a body that breaks off changes nothing
                for chunk in response.iter_raw(8192):
                    content += chunk
                    if len(content) >= BODY_LIMIT or time.monotonic() > until:
                        break
            now_ms = self._clock()
            error = None
            if verdict(response.status_code) is not Verdict.DELIVERED:
                text = content.decode(errors="replace").replace("\x00", "")
                text = outgoing.without_secrets(text, str(self._url))  # many servers name the path that they refuse
                error = f"HTTP {response.status_code} {text}".strip()[:ERROR_MAX_CHARS]
            return _Answer(
                delivery, now_ms, response.status_code, error, retry_after(response.headers.get("retry-after"), now_ms)
            )

    def _settle(self) -> float:
        """Record the answers received, in one transaction; if that fails they are kept for the next time."""
        with self._lock:
            answers, self._answers = self._answers, []
        if not answers:
            return self._poll_s
        pending = outbox.c.status == Status.PENDING.value
        # a settled row is settled, whoever sent it; a failed attempt counts only for the holder of the claim
        may_write = (sa.bindparam("new_status") != Status.PENDING.value) | (outbox.c.claimed_by == self._owner)
        statement = (
            sa.update(outbox)
            .where(outbox.c.id == sa.bindparam("row"), pending, may_write)
            .values(
                {
                    name: sa.bindparam(f"new_{name}")
                    for name in (
                        "status",
                        "attempts",
                        "next_attempt_at_ms",
                        "delivered_at_ms",
                        "last_status",
                        "last_error",
                    )
                }
                | {"claimed_by": None, "claimed_until_ms": None}
            )
        )
        rows = [self._row(answer) for answer in answers]
        try:
            with self._database.write() as connection:
                connection.execute(statement, rows)
        except BaseException:
            with self._lock:
                self._answers = answers + self._answers
            raise
        for answer, row in zip(answers, rows, strict=True):
            if self._in_flight.get(answer.delivery.incident_id) is answer.delivery:
                del self._in_flight[answer.delivery.incident_id]
            self._report(answer, Status(str(row["new_status"])))
        return self._poll_s

    def _row(self, answer: _Answer) -> dict[str, object]:
        """The columns an answer sets."""
        delivery = answer.delivery
        attempts = delivery.attempts + 1
        decision = Verdict.LATER if answer.status is None else verdict(answer.status)
        status = {Verdict.DELIVERED: Status.DELIVERED, Verdict.REFUSED: Status.REFUSED}.get(decision, Status.PENDING)
        if status is Status.PENDING and answer.at_ms - delivery.pending_since_ms >= self._give_up_after_s * 1000:
            status = Status.REFUSED
        next_at_ms = delivery.next_attempt_at_ms
        if status is Status.PENDING:
            next_at_ms = answer.at_ms + round(1000 * self._wait_s(attempts, answer.retry_after_s))
        return {
            "row": delivery.id,
            "new_status": status.value,
            "new_attempts": attempts,
            "new_next_attempt_at_ms": next_at_ms,
            "new_delivered_at_ms": answer.at_ms if status is Status.DELIVERED else None,
            "new_last_status": answer.status,
            "new_last_error": answer.error,
        }

    def _wait_s(self, attempts: int, asked_s: float | None) -> float:
        """Seconds until the next attempt: what the receiver asked for, else the backoff."""
        backoff_s = min(self._backoff_cap_s, self._backoff_s * 2.0 ** min(attempts - 1, 60))
        spread = 0.5 + self._rng.random() / 2
        if asked_s is None:
            return backoff_s * spread
        return max(asked_s, self._backoff_s * spread)  # "0" must not become a tight loop

    def _report(self, answer: _Answer, status: Status) -> None:
        """Log an answer, and report it to ``watch``: a refusal always, the same error once in ``LOG_INTERVAL_S``."""
        delivery = answer.delivery
        data = json.loads(delivery.body)["data"]
        message = data.get("message")
        self._report_attempt(Attempt(delivery, answer.began_ms, answer.at_ms, answer.status, status, data))
        decision = Verdict.LATER if answer.status is None else verdict(answer.status)
        event_id = delivery.event_id
        if status is Status.DELIVERED:
            log.info(
                "delivered",
                incident_id=delivery.incident_id,
                event_id=event_id,
                message_id=message,
                type=delivery.type,
                attempts=delivery.attempts + 1,
                waited_ms=answer.at_ms - delivery.created_at_ms,
                host=self._host,
            )
            return
        if status is Status.REFUSED:
            reason = "the receiver refused it" if decision is Verdict.REFUSED else "given up"
            log.error(
                "a delivery is dead",
                reason=reason,
                host=self._host,
                status=answer.status,
                incident_id=delivery.incident_id,
                event_id=event_id,
                message_id=message,
            )
            return
        trouble = answer.error.split(":")[0] if answer.status is None and answer.error else str(answer.status)
        now_s = time.monotonic()
        if now_s - self._logged_at.get(trouble, -math.inf) < LOG_INTERVAL_S:
            return
        self._logged_at[trouble] = now_s
        what = "no answer from the receiver"
        if decision is Verdict.MISCONFIGURED:
            what = "the receiver turns deliveries away: check the address and the secret"
        elif answer.status is not None:
            what = "the receiver cannot take deliveries now"
        log.warning(what, host=self._host, status=answer.status, error=answer.error, event_id=event_id)

    def _report_attempt(self, attempt: Attempt) -> None:
        try:
            self._watch(attempt)
        except Exception:  # a watcher must not stop the deliveries
            log.exception("a watcher of the deliveries failed")


def _exists_other(*that: sa.ColumnElement[bool]) -> sa.Exists:
    """Whether another waiting row of the same incident meets these conditions."""
    same = (_OTHER.c.incident_id == outbox.c.incident_id, _OTHER.c.status == _PENDING)
    return sa.select(sa.literal(1)).where(*same, *that).correlate(outbox).exists()


def _is_unclaimed(row: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a row is not claimed."""
    return row.c.claimed_until_ms.is_(None) | (row.c.claimed_until_ms <= _NOW)


def _is_superseded_by(row: sa.FromClause, later: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a row need not be sent where a later one of its incident is: a repetition that was never tried.

    A row that pages is superseded only by one that pages, too, or changes the incident.
    """
    included = (row.c.notify != "page") | (later.c.notify == "page") | ~later.c.repeats
    return row.c.repeats & (row.c.attempts == 0) & _is_unclaimed(row) & included


_NEXT = sa.select(sa.func.min(outbox.c.next_attempt_at_ms)).where(
    outbox.c.status == Status.PENDING.value, outbox.c.next_attempt_at_ms > _NOW
)
"""When the next waiting row falls due (None: none waits)."""

_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)

_SUPERSEDE = (
    sa.update(outbox)
    .where(
        outbox.c.incident_id.in_(sa.bindparam("numbers", expanding=True)),
        outbox.c.status == _PENDING,
        _exists_other(_OTHER.c.id > outbox.c.id, _OTHER.c.id.in_(_IDS), _is_superseded_by(outbox, _OTHER)),
    )
    .values(status=Status.SUPERSEDED.value)
)
"""Supersedes the rows that those about to be sent include."""

_CLAIM = (
    sa.update(outbox)
    .where(outbox.c.id.in_(_IDS), ~_exists_other(_OTHER.c.id < outbox.c.id))
    .values(claimed_by=sa.bindparam("owner"), claimed_until_ms=sa.bindparam("lease_until"))
    .returning(outbox)
)
"""Claims rows, except where another worker has claimed an earlier one of the incident in between."""


def _delivery(row: sa.Row[tuple[object, ...]]) -> Delivery:
    values = dict(row._mapping)
    return Delivery(**values | {"status": Status(values["status"])})
