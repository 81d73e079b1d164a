"""The page behind a link in a message: what it is about, and one button. Opening it confirms nothing; no scripts."""

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api.pages.public import page
from api.pages.view import PageRoute, View, Viewing
from governance.notify import confirmation
from governance.notify.confirmation import ConfirmationRequest, LinkExpired
from governance.notify.message import TEST_INCIDENT
from governance.notify.wording import item_text
from infra.errors import NotFound, WaterError
from infra.texts import say
from infra.times import beijing

PATH = "/a/{token}"
SHOWN = 50
"""Incidents named on the page."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.api_route(PATH, methods=["GET", "HEAD"])
def show(v: Viewing, token: str) -> Response:
    """What the link is about, and the button."""
    found = _found(v, token)
    if isinstance(found, Response):
        return found
    items = sorted(found.items, key=lambda item: (item.colour.rank, item.at_ms))
    rows = [(item, item_text(item), item.incident_id != TEST_INCIDENT) for item in items[:SHOWN]]
    return _page(v, found=found, rows=rows, more=max(0, len(items) - SHOWN), most=confirmation.COMMENT_LIMIT)


@router.post(PATH)
async def confirm(v: Viewing, token: str) -> Response:
    """Confirm, in the name of whom the message was sent to."""
    fields = parse_qs((await v.request.body()).decode("utf-8", "replace"), max_num_fields=8)
    comment = fields.get("comment", [""])[0]

    def done() -> Response:
        found = _found(v, token)
        if isinstance(found, Response):
            return found
        contact, context = found.contact, v.context
        actor = v.keeper.by_name(contact.name) or v.keeper.by_name(contact.key) or confirmation.contact_actor(contact)
        confirmed = confirmation.confirm(
            context.database,
            found,
            actor,
            comment,
            v.now_ms,
            source=context.source,
            policy=context.processes.policy,
        )
        context.wake()
        sentences = [say("notice.page_done", count=confirmed.done, at=beijing(confirmed.at_ms))]
        if confirmed.before:
            sentences.append(say("notice.page_before", count=confirmed.before))
        return _page(v, sentences=sentences)

    return await run_in_threadpool(done)


def _found(v: View, token: str) -> ConfirmationRequest | Response:
    try:
        notifications = v.context.notifications
        if notifications is None or notifications.links is None:
            raise NotFound(say("notice.page_wrong"))
        return confirmation.confirmation_request(
            v.context.database, notifications.directory(), notifications.links, token, v.now_ms
        )
    except LinkExpired as error:
        return _refusal(v, HTTPStatus.GONE, error)
    except NotFound as error:
        return _refusal(v, HTTPStatus.NOT_FOUND, error)


def _refusal(v: View, status: int, error: WaterError) -> Response:
    return _page(v, status, sentences=[error.text])


def _page(v: View, status: int = 200, **values: object) -> Response:
    shown: dict[str, Any] = {"found": None, "sentences": (), **values}
    response = page(v, "confirm.html", status, **shown)
    # no stricter policy of referrers: with "no-referrer" browsers send the form from the origin "null"
    response.headers["X-Robots-Tag"] = "noindex"
    return response
