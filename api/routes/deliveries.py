"""Deliveries to the external platform: what waits, what was refused and is sent again; the schema of an event."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Response

from api.access import Who
from api.context import Context
from api.requests import Cursor, Limit, RequestContext, cut, place_by_number
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.audit import trail as audit_trail
from governance.incidents import cloudevents, lifecycle
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.notify import outbox
from governance.notify.outbox import Delivery, Status
from governance.organisation.roles import Actor, Forbidden

router = subject_router("platforms", "/deliveries")
schemas = subject_router("platforms", "/schemas")


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """An event on its way; ``refused`` is a dead letter, ``superseded`` one that a later event of the incident told.

    ``error`` is what the receiver or the network said last."""

    id: int
    event_id: str
    incident: int | None
    type: str
    status: Status
    created_at: str | None
    next_attempt_at: str | None
    delivered_at: str | None
    attempts: int
    http_status: int | None
    error: str | None
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, newest first; the counts are of all there are."""

    items: list[DeliveryView]
    next_cursor: str | None
    pending: int
    refused: int


@router.get("", response_model=DeliveryPage)
def list_deliveries(
    context: RequestContext,
    who: Who,
    status: Annotated[Status, Query(description="`refused`: the dead letters")] = Status.REFUSED,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Deliveries of one status, newest first: the dead letters unless another one is asked for.

    Those of incidents out of reach are left out; the counts are of all.
    """
    before = place_by_number("deliveries", cursor)
    with context.database.read() as connection:
        within = incident_queries.visible_incident_ids(who)
        found = outbox.list_deliveries(connection, status, limit=limit + 1, before=before, within=within)
        counts = outbox.pending_counts(connection)
    page, following = cut("deliveries", found, limit, lambda one: one.id)
    return answer(DeliveryPage([_view(one) for one in page], following, counts.pending, counts.refused))


@router.post("/{number}/replay", status_code=202, response_model=DeliveryView)
def replay_delivery(context: RequestContext, who: Who, number: int) -> Response:
    """Send a dead letter again, under the same event id; 409 for one that is not dead."""
    return answer(_view(resend_delivery(context, who, number)), 202)


def resend_delivery(context: Context, who: Actor, number: int) -> Delivery:
    """Put a dead letter into the row again, which the trail tells.

    Raises NotFound, Forbidden for one of an incident out of reach, and Refused for one not dead.
    """
    with context.database.write() as connection:
        incident = incident_store.get(connection, outbox.delivery(connection, number).incident_id)
        if not lifecycle.in_jurisdiction(incident, who):
            raise Forbidden(lifecycle.outside_jurisdiction_text(incident))
        outbox.replay(connection, number, context.clock_ms())
        found = outbox.delivery(connection, number)
        recorded = {"event_id": found.event_id, "incident": found.incident_id}
        audit_trail.append(
            connection,
            "delivery.replayed",
            kind="delivery",
            id=number,
            body=recorded,
            by=who.name,
            at_ms=context.clock_ms(),
            role=who.role.value,
        )
    context.wake()
    return found


@schemas.get("/incident-event")
def incident_event() -> Response:
    """The JSON schema of the events we deliver."""
    return answer(cloudevents.schema(), media_type="application/schema+json")


def _view(d: Delivery) -> DeliveryView:
    return viewed(
        DeliveryView,
        d,
        incident=d.incident_id,
        next_attempt_at=when(d.next_attempt_at_ms) if d.status is Status.PENDING else None,
        http_status=d.last_status,
        error=d.last_error,
        event=json.loads(d.body),
    )
