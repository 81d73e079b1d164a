"""Messages to people: what was told to whom, what waits and why; who is on call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import Field

from api.access import Who, on_behalf, reaches_all
from api.context import Context, NotificationSettings
from api.requests import By, Cursor, Limit, RequestContext, Strict, Words, cut, instant, place_by_number
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.notify.contacts import Directory
from governance.notify.message import Item
from governance.notify.oncall import Shift
from governance.notify.store import Notice
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError, Refused
from infra.texts import Text, say
from infra.times import DAY_MS

router = subject_router("notices")

WEEKS_MS = 28 * DAY_MS


class NewTest(Strict):
    """Whom to send a test message."""

    contact: Words = Field(max_length=64)


class NewShift(Strict):
    """Somebody on call from ``begins`` until ``until`` (RFC 3339)."""

    person: Words = Field(max_length=64)
    begins: Words
    until: Words
    rank: int = Field(1, ge=1, le=9)


class NewShifts(Strict):
    """Shifts of their own: they hold over the rotation and its holidays."""

    by: By = None
    shifts: list[NewShift] = Field(min_length=1, max_length=1000)


@dataclass(frozen=True, slots=True)
class ItemView:
    """What a message says of an incident; ``incident`` is null in a test."""

    incident: int | None
    kind: str
    colour: str
    at: str | None
    text: Text


@dataclass(frozen=True, slots=True)
class NoticeView:
    """A message to one contact. ``channel`` is the kind of channel that took it; addresses are never shown."""

    id: int
    contact: str
    status: str
    created_at: str | None
    due_at: str | None
    sent_at: str | None
    confirmed_at: str | None
    channel: str | None
    attempts: int
    error: str | None
    items: list[ItemView]


@dataclass(frozen=True, slots=True)
class NoticePage:
    """Messages, newest first; the counts are of all there are."""

    items: list[NoticeView]
    next_cursor: str | None
    waiting: int
    dead: int
    unconfirmed: int


@dataclass(frozen=True, slots=True)
class ShiftView:
    """Somebody on call."""

    person: str
    begins: str | None
    until: str | None
    rank: int
    sort: str


@dataclass(frozen=True, slots=True)
class OnDuty:
    """Whom to call now: names by rank, those called first in front; empty when nobody is on call."""

    now: list[list[str]]


@dataclass(frozen=True, slots=True)
class OnCall:
    """Who is on call now, by rank; the shifts of the next four weeks; when first nobody is (null: always somebody)."""

    now: list[list[str]]
    shifts: list[ShiftView]
    uncovered_from: str | None


@router.get("/notices", response_model=NoticePage)
def list_notices(
    context: RequestContext,
    who: Who,
    status: Annotated[Literal["pending", "sent", "dead", "cancelled"] | None, Query()] = None,
    contact: Annotated[str | None, Query(description="to this contact alone")] = None,
    incident: Annotated[int | None, Query(description="that tell of this incident", ge=1, lt=2**31)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Messages to people, newest first: what each said, who took it, and what still waits or was given up.

    Those that tell of incidents out of reach are left out; the counts are of all.
    """
    before = place_by_number("notices", cursor)
    with context.database.read() as connection:
        found = notice_store.list_notices(
            connection,
            status=status,
            contact=contact,
            incident=incident,
            limit=limit + 1,
            before=before,
            within=incident_queries.visible_incident_ids(who),
        )
        page, following = cut("notices", found, limit, lambda one: one.id)
        items = notice_store.items(connection, [one.id for one in page])
        counts = notice_store.queue_counts(connection)
    views = [_view(one, items.get(one.id, [])) for one in page]
    return answer(NoticePage(views, following, counts.waiting, counts.dead, counts.unconfirmed))


@router.post("/notices/test", status_code=202, response_model=NoticeView)
def send_test_message(context: RequestContext, new: NewTest) -> Response:
    """Send a contact a test message through the worker; `GET /notices` tells what came of it."""
    number = queue_test_message(context, new.contact)
    with context.database.read() as connection:
        made, items = notice_store.get(connection, number), notice_store.items(connection, [number])
    return answer(_view(made, items.get(number, [])), 202)


@router.post("/notices/{number}/replay", status_code=202, response_model=NoticeView)
def replay_notice(context: RequestContext, who: Who, number: int) -> Response:
    """Tell somebody again what no channel took; 409 for a message that was not given up."""
    resend_notice(context, who, number)
    with context.database.read() as connection:
        made, items = notice_store.get(connection, number), notice_store.items(connection, [number])
    return answer(_view(made, items.get(number, [])), 202)


def resend_notice(context: Context, who: Actor, number: int) -> None:
    """Put a message that was given up into the row again, which the trail tells.

    Raises NotFound, also for one that tells of incidents out of reach, and Refused.
    """
    now_ms, policy = context.clock_ms(), _notification_settings(context).policy
    with context.database.write() as connection:
        notice_store.get(connection, number, incident_queries.visible_incident_ids(who))
        before = notice_store.replay(connection, number, now_ms, policy)
        audit_trail.append(
            connection,
            "notice.replayed",
            kind="notice",
            id=number,
            body={"contact": before.contact, "created_at": when(before.created_at_ms), "error": before.last_error},
            by=who.name,
            at_ms=now_ms,
            role=who.role.value,
        )
    context.wake()


def queue_test_message(context: Context, key: str) -> int:
    """Queue a test message to a contact; its number. Raises NotFound, and Refused without contacts."""
    notifications = _notification_settings(context)
    contact = notifications.directory().named(key)
    text = say("notice.test_text", name=contact.name, site=notifications.title)
    with context.database.write() as connection:
        number = notice_store.enqueue_test(connection, contact.key, text, context.clock_ms(), notifications.policy)
    context.wake()
    return number


@router.get("/oncall", response_model=OnCall)
def get_oncall(
    context: RequestContext,
    at: Annotated[str | None, Query(description="an instant, now by default (RFC 3339)")] = None,
) -> Response:
    """Who of the office is on call, by keys of contacts, with the plan of four weeks: for who leads or dispatches."""
    at_ms = context.clock_ms() if at is None else instant("at", at)
    with context.database.read() as connection:
        planned = oncall.shifts(connection, at_ms, at_ms + WEEKS_MS)
    gap_ms = oncall.uncovered(planned, at_ms, at_ms + WEEKS_MS)
    return answer(OnCall(oncall.ranks(planned, at_ms), [_shift(one) for one in planned], when(gap_ms)))


@router.get("/oncall/now", response_model=OnDuty)
def get_on_duty(context: RequestContext) -> Response:
    """Whom to call now, by name: for everybody who works on incidents."""
    now_ms = context.clock_ms()
    with context.database.read() as connection:
        planned = oncall.shifts(connection, now_ms, now_ms + 1)
    called = contact_names(context)
    return answer(OnDuty([[called(key) for key in keys] for keys in oncall.ranks(planned, now_ms)]))


@router.post("/oncall/shifts", status_code=201, response_model=OnCall)
def add_shifts(context: RequestContext, who: Who, new: NewShifts) -> Response:
    """Add shifts: somebody stands in, or a holiday is planned by hand; for who reaches the whole site."""
    actor = on_behalf(who, new.by)
    shifts = []
    for number, one in enumerate(new.shifts):
        begins, until = instant(f"shifts.{number}.begins", one.begins), instant(f"shifts.{number}.until", one.until)
        if begins >= until:
            raise ConfigurationError(say("notice.shift_ends", number=number, until=one.until, begins=one.begins))
        shifts.append(Shift(one.person, begins, until, one.rank))
    plan_shifts(context, actor, shifts)
    return Response(get_oncall(context).body, 201, media_type="application/json")


def plan_shifts(context: Context, actor: Actor, shifts: Sequence[Shift]) -> None:
    """Add shifts to the plan.

    Raises Forbidden for who does not reach the whole site, NotFound for a person who is no contact, and Refused where
    nobody is told.
    """
    reaches_all(actor)
    known = known_people(context)
    for one in shifts:
        known.named(one.person)
    with context.database.write() as connection:
        oncall.add(connection, shifts, by=actor.name, now_ms=context.clock_ms())


def known_people(context: Context) -> Directory:
    """Who can get messages. Raises Refused where nobody is told."""
    return _notification_settings(context).directory()


def contact_names(context: Context) -> Callable[[str], str]:
    """How contacts are called by their keys; one that is gone stands for itself."""
    known = context.notifications.directory().contacts if context.notifications else ()
    found = {one.key: one.name for one in known}
    return lambda key: found.get(key, key)


def _notification_settings(context: Context) -> NotificationSettings:
    if context.notifications is None:
        raise Refused(say("notice.no_contacts"))
    return context.notifications


def _view(n: Notice, found: list[Item]) -> NoticeView:
    items = [ItemView(i.incident_id or None, i.kind.value, i.colour.value, when(i.at_ms), i.text) for i in found]
    return viewed(
        NoticeView,
        n,
        due_at=when(n.due_at_ms) if n.status == "pending" else None,
        confirmed_at=when(n.acknowledged_at_ms),
        channel=n.sent_by,
        error=n.last_error,
        items=items,
    )


def _shift(s: Shift) -> ShiftView:
    sort = {oncall.ROTATION: "rotation", oncall.HOLIDAY: "holiday"}.get(s.priority, "single")
    return ShiftView(s.person, when(s.starts_at_ms), when(s.ends_at_ms), s.rank, sort)
