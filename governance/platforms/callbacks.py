"""Callbacks of external platforms: apply what a platform reports about an incident as an action, once.

A callback is signed like our deliveries (Standard Webhooks): the signature is compared in constant time, its time stamp
may be five minutes off our clock, and its id is stored with the outcome. The same message in a new attempt gets the
first answer again; an exact copy of a request, or another body under a known id, is refused. An action that the
incident does not accept is refused with what it accepts now.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from governance.audit import trail as audit_trail
from governance.incidents import cloudevents, lifecycle
from governance.incidents import store as incident_store
from governance.incidents.cloudevents import SignatureInvalid
from governance.incidents.model import Action, Evidence, FalseAlarm, Incident, Order
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Role
from governance.platforms.model import CallbackWords, Platform, incident_number, value_at
from governance.platforms.tables import callback as callbacks_
from infra.database import Database
from infra.errors import NotFound, Refused
from infra.texts import both, say
from infra.times import DAY_MS

CountGoodReadings = Callable[[Incident], Mapping[tuple[str, str, str], int]]
"""Counts the good readings since each condition of an incident ended; without them nothing is closed from outside."""

_EVIDENCE_ELSEWHERE = (Action.FINISH, Action.VERIFY)
"""Actions whose photos and measurements stay with the platform: a text is enough here."""
_TEXT_ONLY = (frozenset({Evidence.TEXT}),)

KEEP_MS = 90 * DAY_MS
"""For how long an id is remembered; later copies are refused by their time stamp."""

FORGERY_INTERVAL_MS = 600_000
"""A forgery is appended to the audit trail at most once within this time."""

NO_REGIONS = Regions()
"""The regions of a site that has no tree of them."""

MAX_CHARS = 200
"""Characters of a name or an id that are read."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CallbackOutcome(StrEnum):
    """Outcome of a callback."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """Their status asks for no action here."""
    REPEATED = "repeated"
    """Received before, in another attempt; the first answer holds."""
    REPLAYED = "replayed"
    """A copy of a request that was taken, or another body under its id."""
    FORGED = "forged"
    """No signature of theirs, or too old."""
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    """It concerns no incident of ours."""
    REFUSED = "refused"
    """The incident does not accept it, now or ever."""


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """Answer to a callback. ``first`` is the outcome of the first attempt where this one repeats it.

    ``version`` is the incident's after the action; None where nothing was done by this attempt.
    """

    outcome: CallbackOutcome
    detail: str
    incident_id: int | None = None
    action: str | None = None
    allowed: tuple[str, ...] = ()
    first: CallbackOutcome | None = None
    version: int | None = None

    @property
    def final(self) -> CallbackOutcome:
        """The outcome that counts: the first one's for a repeat."""
        return self.first or self.outcome


@dataclass(frozen=True, slots=True)
class Received:
    """A stored callback; ``received_at_ms`` UTC."""

    platform: str
    event_id: str
    received_at_ms: int
    outcome: str
    detail: str
    incident_id: int | None
    action: str | None


@dataclass(frozen=True, slots=True)
class _Request:
    """What a callback asks for; ``action`` is None where its status asks for none."""

    incident_id: int
    status: str
    action: Action | None
    by: str
    comment: str | None
    seq: int | None


def receive(
    database: Database,
    platform: Platform,
    headers: Mapping[str, str],
    body: bytes,
    now_ms: int,
    *,
    source: str,
    proven: CountGoodReadings = lambda _: {},
    regions: Regions = NO_REGIONS,
) -> CallbackAnswer:
    """Apply one callback; the platform acts in its own name and role, in its region of ``regions``.

    Of a callback whose signature is not theirs nothing is stored. Raises StorageUnavailable, and NotFound where the
    platform may not call back.
    """
    words = platform.callback
    if words is None:
        raise NotFound(say("platform.no_callback", name=platform.name))
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        cloudevents.verify(platform.secret, lower, body, now_ms // 1000)
    except SignatureInvalid as error:
        answer = CallbackAnswer(CallbackOutcome.FORGED, str(error))
        _note_forgery(database, platform, answer, now_ms)
        return _logged(platform, "", answer)
    event_id, stamp = lower["webhook-id"][:MAX_CHARS], lower["webhook-timestamp"]
    proof = f"{_digest(body)} {_digest(stamp.encode() + b'.' + body)}"
    try:
        with database.write() as connection:
            earlier = _earlier_answer(connection, platform.name, event_id, proof)
            answer = earlier or _act(connection, platform, words, body, now_ms, source, proven, regions)
            if earlier is None:
                _store_answer(connection, platform.name, event_id, proof, answer, now_ms)
            if earlier is None or answer.outcome is CallbackOutcome.REPLAYED:
                audit_trail.append_many(connection, [_audit_entry(platform, event_id, answer, now_ms)])
    except IntegrityError:  # the same id came twice at one moment: the other one was first
        with database.read() as connection:
            earlier = _earlier_answer(connection, platform.name, event_id, proof)
        if earlier is None:
            raise
        answer = earlier
    return _logged(platform, event_id, answer)


def recent(connection: sa.Connection, *, limit: int, within: sa.Select[tuple[int]] | None = None) -> list[Received]:
    """The stored callbacks, newest first; ``within`` finds the numbers of the incidents that are shown."""
    c = callbacks_.c
    query = sa.select(callbacks_).order_by(c.received_at_ms.desc(), c.event_id).limit(limit)
    if within is not None:
        query = query.where(c.incident_id.in_(within))
    names = Received.__dataclass_fields__
    return [Received(**{name: row[name] for name in names}) for row in connection.execute(query).mappings()]


def delete_old(connection: sa.Connection, now_ms: int) -> int:
    """Delete callbacks older than ``KEEP_MS``; returns how many."""
    old = sa.delete(callbacks_).where(callbacks_.c.received_at_ms < now_ms - KEEP_MS)
    return connection.execute(old).rowcount


def _audit_entry(platform: Platform, event_id: str, answer: CallbackAnswer, now_ms: int) -> audit_trail.NewEntry:
    """What the trail keeps of a callback."""
    outcome, name = answer.outcome.value, platform.name
    body = {"outcome": outcome, "detail": answer.detail, "incident_id": answer.incident_id, "action": answer.action}
    return audit_trail.NewEntry(
        f"callback.{outcome}", "callback", f"{name}/{event_id}", body, name, now_ms, Role.PLATFORM.value
    )


def _note_forgery(database: Database, platform: Platform, answer: CallbackAnswer, now_ms: int) -> None:
    """Append a forgery to the audit trail, at most once in ``FORGERY_INTERVAL_MS``: a bound on its growth."""
    what = f"callback.{CallbackOutcome.FORGED}"
    with database.read() as connection:
        last = audit_trail.list_entries(connection, what=what, limit=1)
    if not last or now_ms - last[0].at_ms >= FORGERY_INTERVAL_MS:
        with database.write() as connection:
            audit_trail.append_many(connection, [_audit_entry(platform, "", answer, now_ms)])


def _order(action: Action, comment: str | None) -> Order:
    return Order(action, comment=comment, reason=FalseAlarm.OTHER.value if action is Action.FALSE_ALARM else "")


def _act(
    connection: sa.Connection,
    platform: Platform,
    words: CallbackWords,
    body: bytes,
    now_ms: int,
    source: str,
    proven: CountGoodReadings,
    regions: Regions,
) -> CallbackAnswer:
    try:
        request = _read_request(words, body, platform.zh)
    except Refused as error:
        return CallbackAnswer(CallbackOutcome.UNREADABLE, str(error))
    try:
        before = incident_store.get(connection, request.incident_id)
    except NotFound as error:
        return CallbackAnswer(CallbackOutcome.UNKNOWN, str(error), request.incident_id, request.action)
    if request.action is None:
        return CallbackAnswer(CallbackOutcome.UNCHANGED, request.status, request.incident_id)
    reach, depth = regions.within(platform.region), regions.depth(platform.region)
    actor = Actor(request.by, Role.PLATFORM, reach, depth=depth)
    try:
        with connection.begin_nested():
            after = incident_store.apply_action(
                connection,
                request.incident_id,
                _order(request.action, request.comment),
                actor,
                needs=_TEXT_ONLY if request.action in _EVIDENCE_ELSEWHERE else None,
                normal=proven(before) if request.action is Action.CLOSE else None,
                now_ms=now_ms,
                expected_version=request.seq,
                source=source,
                region_name=regions.name,
            )
    except Refused as error:
        asked_for = set(words.actions.values())
        allowed = tuple(str(action) for action in lifecycle.allowed(before, actor) if action in asked_for)
        return CallbackAnswer(CallbackOutcome.REFUSED, str(error), request.incident_id, request.action, allowed)
    return CallbackAnswer(
        CallbackOutcome.APPLIED, request.status, request.incident_id, request.action, version=after.version
    )


def _read_request(words: CallbackWords, body: bytes, name: str) -> _Request:
    """What a body asks for; raises Refused naming what cannot be read."""
    try:
        event = json.loads(body)
        json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise Refused(say("platform.body_unreadable")) from None
    number = incident_number(value_at(words.incident, event))
    if number is None:
        raise _unreadable("incident", value_at(words.incident, event))
    status = value_at(words.status, event)
    if not isinstance(status, str | int) or isinstance(status, bool) or str(status) not in words.actions:
        raise _unreadable("status", status, tuple(words.actions))
    seq = value_at(words.seq, event)
    if words.seq is not None and (not isinstance(seq, int) or isinstance(seq, bool)):
        raise _unreadable("seq", seq)
    by, comment = value_at(words.by, event), value_at(words.comment, event)
    author = name if not isinstance(by, str) or not by.strip() else f"{name} {by.strip()[:MAX_CHARS]}"
    text = comment.replace("\x00", "") if isinstance(comment, str) else None
    return _Request(number, str(status), words.actions[str(status)], author.replace("\x00", ""), text, seq)


def _unreadable(what: str, value: Any, known: tuple[str, ...] = ()) -> Refused:
    shown = json.dumps(value, ensure_ascii=False)[:80]
    if not known:
        return Refused(say("platform.field_unreadable", what=what, shown=shown))
    return Refused(say("platform.field_unknown", what=what, shown=shown, known=", ".join(known)))


def _earlier_answer(connection: sa.Connection, platform: str, event_id: str, proof: str) -> CallbackAnswer | None:
    c = callbacks_.c
    query = sa.select(callbacks_).where(c.platform == platform, c.event_id == event_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    body, _, attempt = proof.partition(" ")
    first_body, _, first_attempt = row["proof"].partition(" ")
    if body != first_body:
        return CallbackAnswer(
            CallbackOutcome.REPLAYED, both(say("platform.other_body", id=event_id)), row["incident_id"]
        )
    if attempt == first_attempt:
        return CallbackAnswer(
            CallbackOutcome.REPLAYED, both(say("platform.same_request", id=event_id)), row["incident_id"]
        )
    first = CallbackOutcome(row["outcome"])
    return CallbackAnswer(
        CallbackOutcome.REPEATED, row["detail"], row["incident_id"], row["action"], tuple(row["allowed"]), first=first
    )


def _store_answer(
    connection: sa.Connection, platform: str, event_id: str, proof: str, answer: CallbackAnswer, now_ms: int
) -> None:
    row = {
        "platform": platform,
        "event_id": event_id,
        "proof": proof,
        "received_at_ms": now_ms,
        "outcome": answer.outcome.value,
        "detail": answer.detail,
        "incident_id": answer.incident_id,
        "action": answer.action,
        "allowed": list(answer.allowed),
    }
    connection.execute(sa.insert(callbacks_).values(row))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _logged(platform: Platform, event_id: str, answer: CallbackAnswer) -> CallbackAnswer:
    """Log an answer, a refusal as a warning, and return it."""
    fine = answer.final in {CallbackOutcome.APPLIED, CallbackOutcome.UNCHANGED}
    log_outcome = log.info if fine and answer.outcome is not CallbackOutcome.REPLAYED else log.warning
    log_outcome(
        "a callback was taken" if fine else "a callback was refused",
        platform=platform.name,
        outcome=answer.outcome.value,
        event_id=event_id,
        incident_id=answer.incident_id,
        action=answer.action,
        detail=answer.detail,
    )
    return answer
