"""Messages ``/messages``: who was told what when, what is stuck, and sending it again."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from api import problems
from api.access import needed_right
from api.pages import list_export
from api.pages.acting import known_contacts
from api.pages.forms import Fields
from api.pages.list_export import MOST_ROWS, Table, instant
from api.pages.menu import MESSAGES
from api.pages.models import messages as models
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from api.routes.deliveries import resend_delivery
from api.routes.notices import contact_names, resend_notice
from governance.incidents import queries as incident_queries
from governance.notify import outbox
from governance.notify import store as notice_store
from governance.notify.outbox import Delivery, Status
from governance.organisation.roles import Right
from infra.errors import ConfigurationError, WaterError
from infra.texts import say

PATH = MESSAGES.path
AGAIN = needed_right("POST", "/notices/-/replay")
PLATFORM_STATES = (Status.REFUSED, Status.PENDING, Status.DELIVERED)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Platform:
    """Deliveries of one status to the external platform, and how many wait or were refused; ``more`` there are."""

    status: Status
    deliveries: tuple[Delivery, ...]
    counts: outbox.PendingCounts
    more: bool


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The messages that the address asks for."""
    v.require(MESSAGES.right)
    return _page(v, None)


@router.post(PATH)
def act(v: Viewing, given: Fields) -> Response:
    """Send a message or a delivery again; then the same list."""
    v.require(AGAIN)
    ways: dict[str, Callable[[int], object]] = {
        "notice": lambda number: resend_notice(v.context, v.actor, number),
        "delivery": lambda number: resend_delivery(v.context, v.actor, number),
    }
    kind = next((name for name in ways if name in given), "")
    number = whole_number(given.get(kind, ""))
    try:
        if number is None:
            raise ConfigurationError(say("messages_page.no_message"))
        if not _on_its_way(v, kind, number):
            ways[kind](number)
    except WaterError as error:
        return _page(v, error)
    return RedirectResponse(v.here(done=kind), 303)


@router.post(PATH + "/export")
def export(v: Viewing, given: Fields) -> Response:
    """The messages of the list as a file."""
    v.require(MESSAGES.right)
    within = incident_queries.visible_incident_ids(v.actor)
    with v.context.database.read() as connection:
        wanted = models.wanted(models.choice(v.query), v.now_ms)
        found = notice_store.list_notices(connection, wanted=wanted, limit=MOST_ROWS, within=within)
        items = notice_store.items(connection, [one.id for one in found])
    head = [v.say(f"messages_page.{name}") for name in models.EXPORT_HEAD]
    rows = [
        (
            instant(row.notice.created_at_ms),
            row.name,
            v.say(f"incident.{row.colour}") if row.colour else "",
            v.say(f"messages_page.kind_{row.kind}"),
            v.of(row.text),
            " ".join(f"#{number}" for number in row.incidents),
            v.say(f"messages_page.state_{row.state}"),
            v.channel(row.notice.sent_by) if row.notice.sent_by else "",
            instant(row.notice.sent_at_ms),
            instant(row.notice.acknowledged_at_ms),
            row.notice.attempts,
            v.of(row.error.text) if row.state in ("waiting", "failed") else "",
        )
        for row in models.rows(found, items, contact_names(v.context))
    ]
    return list_export.answer(v, given, Table("notices", head, rows))


def _on_its_way(v: View, kind: str, number: int) -> bool:
    """Whether it was put into the row already, as by a form that is sent twice."""
    with v.context.database.read() as connection:
        if kind == "notice":
            within = incident_queries.visible_incident_ids(v.actor)
            return notice_store.get(connection, number, within).status == "pending"
        return outbox.delivery(connection, number).status is Status.PENDING


def _page(v: View, error: WaterError | None) -> Response:
    chosen = models.choice(v.query)
    directory = known_contacts(v)
    within = incident_queries.visible_incident_ids(v.actor)
    since_ms = models.since_ms(chosen.span, v.now_ms)
    with v.context.database.read() as connection:
        counts = notice_store.state_counts(connection, since_ms=since_ms, within=within)
        wanted = models.wanted(chosen, v.now_ms)
        found = notice_store.list_notices(connection, wanted=wanted, limit=chosen.rows + 1, within=within)
        items = notice_store.items(connection, [one.id for one in found])
        channels = notice_store.channels_used(connection, since_ms)
    platform = _platform(v, chosen.rows)
    name = contact_names(v.context)
    refused = platform.counts.refused if platform and v.actor.regions is None else 0
    sort, verdict = models.sentence(counts, refused, bool(directory and directory.contacts), v.now_ms)
    known = directory.contacts if directory else ()
    return v.render(
        "messages.html",
        status=problems.of(error).sort.status if error else 200,
        error=error and error.text,
        done=v.query.get("done", "") if v.query.get("done") in {"notice", "delivery"} else "",
        sort=sort,
        verdict=verdict,
        counts=counts,
        chosen=chosen,
        rows=models.rows(found[: chosen.rows], items, name),
        more=len(found) > chosen.rows,
        people=sorted(((one.key, one.name) for one in known), key=lambda pair: pair[1]),
        states=models.STATES,
        spans=models.SPANS,
        step=models.ROWS,
        channels=channels,
        platform=platform,
        event_of=lambda one: json.loads(one.body),
        failure_of=lambda one: models.platform_failure(one.last_error, one.last_status),
        may_again=v.actor.may(AGAIN),
        may_people=v.actor.may(Right.PEOPLE),
        may_staff=v.actor.may(Right.STAFF),
    )


def _platform(v: View, rows: int) -> Platform | None:
    """None where no platform is set up and none ever refused anything."""
    within = incident_queries.visible_incident_ids(v.actor)
    asked = v.query.get("platform", "")
    status = Status(asked) if asked in set(PLATFORM_STATES) else Status.REFUSED
    if not v.context.outward:
        return None
    with v.context.database.read() as connection:
        counts = outbox.pending_counts(connection)
        found = outbox.list_deliveries(connection, status, limit=rows + 1, within=within)
    return Platform(status, tuple(found[:rows]), counts, len(found) > rows)
