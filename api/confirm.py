"""The page behind a link in a message: what it is about, and one button. Opening it confirms nothing; no scripts."""

import html
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from api.access import Keeping
from api.context import Context
from api.requests import RequestContext
from governance.notify import confirmation
from governance.notify.confirmation import ConfirmationRequest as AskedFor
from governance.notify.confirmation import LinkExpired
from governance.notify.message import TEST
from governance.notify.wording import item_text
from infra.errors import NotFound, WaterError
from infra.texts import Text, ended, say
from infra.times import beijing

router = APIRouter(include_in_schema=False)

SHOWN = 50
"""Incidents named on the page."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}
STYLE = """
body{font:18px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;margin:0 auto;padding:1rem;max-width:40rem;color:#1d2733}
h1{font-size:1.3rem}small{color:#4a5763;display:block}li{margin:.6rem 0}ul{padding:0;list-style:none}
.p{display:inline-block;min-width:1.6em;text-align:center;font-weight:700;padding:0 .2em}
.red{background:#b3261e;color:#fff}.orange{background:#e8710a;color:#111}
.yellow{background:#f5c518;color:#111}.blue{background:#1f5fbf;color:#fff}
textarea{width:100%;font:inherit;box-sizing:border-box}
button{font:inherit;font-weight:700;width:100%;min-height:56px;margin-top:1rem;border:0;border-radius:8px;
background:#0b57d0;color:#fff}
"""


@router.api_route("/a/{token}", methods=["GET", "HEAD"])
def confirmation_page(context: RequestContext, token: str) -> Response:
    """What the link is about, and the button."""
    found = _found(context, token)
    if isinstance(found, Response):
        return found
    return _page(_question(found))


@router.post("/a/{token}")
async def confirm(context: RequestContext, keeper: Keeping, token: str, request: Request) -> Response:
    """Confirm, in the name of whom the message was sent to."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
    comment = fields.get("comment", [""])[0]

    def done() -> Response:
        found = _found(context, token)
        if isinstance(found, Response):
            return found
        contact = found.contact
        actor = keeper.by_name(contact.name) or keeper.by_name(contact.key) or confirmation.stands_in(contact)
        confirmed = confirmation.confirm(
            context.database,
            found,
            actor,
            comment,
            context.clock_ms(),
            source=context.source,
            policy=context.processes.policy,
        )
        context.wake()
        sentences = [say("notice.page_done", count=confirmed.done, at=beijing(confirmed.at_ms))]
        if confirmed.before:
            sentences.append(say("notice.page_before", count=confirmed.before))
        return _page("".join(f"<p>{_both(text)}</p>" for text in sentences))

    return await run_in_threadpool(done)


def _found(context: Context, token: str) -> AskedFor | Response:
    try:
        notifications = context.notifications
        if notifications is None or notifications.links is None:
            raise NotFound(say("notice.page_wrong"))
        return confirmation.confirmation_request(
            context.database, notifications.directory(), notifications.links, token, context.clock_ms()
        )
    except LinkExpired as error:
        return _refusal(HTTPStatus.GONE, error)
    except NotFound as error:
        return _refusal(HTTPStatus.NOT_FOUND, error)


def _question(found: AskedFor) -> str:
    items = sorted(found.items, key=lambda item: (item.colour.rank, item.at_ms))
    rows = "".join(
        f'<li><span class="p {item.colour.value}">{html.escape(say(f"incident.{item.colour}").zh)}</span> '
        f"{item.incident_id if item.incident_id != TEST else ''} {_both(item_text(item))}</li>"
        for item in items[:SHOWN]
    )
    more = f"<p>{_both(say('notice.more', count=len(items) - SHOWN))}</p>" if len(items) > SHOWN else ""
    ask = _both(say("notice.page_ask", name=found.contact.name, count=len(items)))
    button, remark = say("notice.page_button"), say("notice.page_comment")
    return (
        f"<p>{ask}</p><ul>{rows}</ul>{more}"
        f'<form method="post"><label>{_both(remark)}<textarea name="comment" rows="2" '
        f'maxlength="{confirmation.COMMENT}"></textarea></label>'
        f'<button type="submit">{html.escape(button.zh)} · {html.escape(button.en)}</button></form>'
    )


def _page(content: str, status: int = 200) -> Response:
    title = say("notice.page_title")
    return HTMLResponse(
        '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title.zh)} {html.escape(title.en)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{_both(title)}</h1>{content}</main></body></html>",
        status,
        HEADERS,
    )


def _refusal(status: int, error: WaterError) -> Response:
    return _page(f"<p>{_both(ended(error.text))}</p>", status)


def _both(text: Text) -> str:
    """Chinese, and the English small below it; escaped."""
    return f"{html.escape(text.zh)}<small>{html.escape(text.en)}</small>"
