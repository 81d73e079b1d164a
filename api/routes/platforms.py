"""What external platforms tell us, and whether they have the same incidents as we do."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from api import problems
from api.access import Keeper, Keeping, Who, on_behalf, reaches_all
from api.incident_actions import proven
from api.problems import Problem
from api.requests import By, Cursor, Limit, RequestContext, Strict, Words, cut, place_by_number
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.platforms import callbacks, reconciliation
from governance.platforms.callbacks import CallbackAnswer, CallbackOutcome
from governance.platforms.reconciliation import StoredReport
from infra.texts import from_both

CALLBACKS = "/callbacks"

router = subject_router("platforms")

_SORTS = {
    CallbackOutcome.FORGED: problems.UNAUTHORIZED,
    CallbackOutcome.UNREADABLE: problems.INVALID,
    CallbackOutcome.UNKNOWN: problems.NOT_FOUND,
    CallbackOutcome.REFUSED: problems.REFUSED,
    CallbackOutcome.REPLAYED: problems.REFUSED,
}


class TheirList(Strict):
    """A platform's list of incidents, as it would answer it itself: what its entries mean stands in our file."""

    platform: Words = Field(max_length=64)
    by: By = None
    items: list[dict[str, Any]] = Field(max_length=reconciliation.MAX_ITEMS)


@dataclass(frozen=True, slots=True)
class CallbackDone:
    """What came of a callback; ``repeat``: it was told before, and nothing was done again."""

    outcome: str
    incident: int | None
    action: str | None
    version: int | None
    repeat: bool


@dataclass(frozen=True, slots=True)
class CallbackView:
    """A callback that was taken down."""

    platform: str
    event_id: str
    received_at: str | None
    outcome: str
    detail: str
    incident: int | None
    action: str | None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The newest callbacks first."""

    items: list[CallbackView]


@dataclass(frozen=True, slots=True)
class ReconciliationView:
    """A comparison; ``closed`` when both sides agree, but for what was on its way."""

    id: int
    platform: str
    at: str | None
    by: str
    closed: bool
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReconciliationPage:
    """Comparisons, newest first."""

    items: list[ReconciliationView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SentAgain:
    """How many incidents are sent again, in how many events."""

    incidents: int
    events: int


@router.post(CALLBACKS + "/{platform}", response_model=CallbackDone)
async def receive_callback(context: RequestContext, keeper: Keeping, platform: str, request: Request) -> Response:
    """A platform tells us what became of an incident; signed like our deliveries (Standard Webhooks), no token.

    401: no signature of theirs, or more than five minutes off our clock. 409: a replay, or the incident does not accept
    it, with what it accepts now. The same id in a new attempt is answered as the first time, with `repeat`.
    """
    body = await request.body()
    headers = dict(request.headers)
    return await run_in_threadpool(_receive_callback, context, keeper, platform, headers, body)


def _receive_callback(
    context: RequestContext, keeper: Keeper, name: str, headers: dict[str, str], body: bytes
) -> Response:
    platform = context.platforms.named(name)
    received = callbacks.receive(
        context.database,
        platform,
        headers,
        body,
        context.clock_ms(),
        source=context.source,
        proven=partial(proven, context),
        regions=keeper.regions(),
    )
    context.called_back(received.outcome)
    if received.outcome is CallbackOutcome.APPLIED:
        context.wake()
    sort = _SORTS.get(received.outcome) or _SORTS.get(received.final)
    if sort is not None:
        raise Problem(sort, from_both(received.detail), _members(received))
    repeat = received.outcome is CallbackOutcome.REPEATED
    return answer(CallbackDone(received.final.value, received.incident_id, received.action, received.version, repeat))


def _members(received: CallbackAnswer) -> dict[str, Any]:
    return {"allowed": list(received.allowed)} if received.final is CallbackOutcome.REFUSED else {}


@router.get(CALLBACKS, response_model=Callbacks)
def list_callbacks(context: RequestContext, who: Who, limit: Limit = 100) -> Response:
    """The callbacks that were proved to be a platform's, newest first, with what came of each; within reach."""
    with context.database.read() as connection:
        found = callbacks.recent(connection, limit=limit, within=incident_queries.visible_incident_ids(who))
    return answer(Callbacks([viewed(CallbackView, c, incident=c.incident_id) for c in found]))


@router.get("/reconciliations", response_model=ReconciliationPage)
def list_reconciliations(
    context: RequestContext,
    who: Who,
    platform: Annotated[str | None, Query(description="of this platform alone")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Comparisons of a platform's list with ours, newest first; for who reaches the whole site."""
    reaches_all(who)
    before = place_by_number("reconciliations", cursor)
    with context.database.read() as connection:
        found = reconciliation.list_reports(connection, platform=platform, limit=limit + 1, before=before)
    page, following = cut("reconciliations", found, limit, lambda one: one.id)
    return answer(ReconciliationPage([_view(one) for one in page], following))


@router.get("/reconciliations/{number}", response_model=ReconciliationView)
def get_reconciliation(context: RequestContext, who: Who, number: int) -> Response:
    """One comparison; for who reaches the whole site."""
    reaches_all(who)
    with context.database.read() as connection:
        return answer(_view(reconciliation.report(connection, number)))


@router.post("/reconciliations", response_model=ReconciliationView, status_code=201)
def reconcile(context: RequestContext, who: Who, theirs: TheirList) -> Response:
    """Compare a list that a platform gave with our incidents, and keep what differs; for who reaches the whole site."""
    reaches_all(who)
    by = on_behalf(who, theirs.by).name
    platform = context.platforms.named(theirs.platform)
    with context.database.write() as connection:
        kept = reconciliation.reconcile(connection, platform, theirs.items, context.clock_ms(), by=by)
    return answer(_view(kept), 201)


@router.post("/reconciliations/{number}/resend", response_model=SentAgain)
def resend(context: RequestContext, who: Who, number: int) -> Response:
    """Tell the platform again, under the same event ids, what it lacked or had otherwise.

    For who reaches the whole site.
    """
    reaches_all(who)
    with context.database.write() as connection:
        found = reconciliation.report(connection, number)
        wanted = reconciliation.incidents_to_resend(found)
        events = reconciliation.resend(connection, wanted, context.clock_ms())
        recorded = {"platform": found.platform, "incidents": list(wanted), "events": events}
        audit_trail.append(
            connection,
            "reconciliation.resent",
            kind="reconciliation",
            id=number,
            body=recorded,
            by=who.name,
            at_ms=context.clock_ms(),
            role=who.role.value,
        )
    context.wake()
    return answer(SentAgain(len(wanted), events))


def _view(one: StoredReport) -> ReconciliationView:
    return viewed(ReconciliationView, one)
