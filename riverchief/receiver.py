"""A small receiving platform for the demo and the tests, in place of the external governance platform.

It keeps what it gets in memory, the newest 10,000 events, and shows them on one page.
"""

import html
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from governance.incidents import cloudevents
from governance.incidents.finding import Colour
from governance.incidents.model import Notify, State
from infra.texts import Text, say
from infra.times import beijing

KEEP_EVENTS = 10_000
SHOWN_EVENTS = 200
BODY_LIMIT = 1024 * 1024


@dataclass(slots=True)
class Received:
    """One event, when it first came (ms UTC), and how often it came again."""

    event: dict[str, Any]
    received_at_ms: int
    repeats: int = 0


class Inbox:
    """The newest ``keep`` events by CloudEvents id, in the order they came.

    ``repeats`` counts the deliveries of events that were here already.
    """

    def __init__(self, keep: int = KEEP_EVENTS) -> None:
        self.keep = keep
        self.repeats = 0
        self.events: OrderedDict[str, Received] = OrderedDict()
        self.messages: deque[tuple[int, str, str]] = deque(maxlen=keep)
        """To people: when (ms UTC), to whom, and the text."""

    def take(self, event: dict[str, Any], now_ms: int) -> bool:
        """Keep an event; False when it was here already."""
        earlier = self.events.get(event["id"])
        if earlier is not None:
            earlier.repeats += 1
            self.repeats += 1
            return False
        self.events[event["id"]] = Received(event, now_ms)
        if len(self.events) > self.keep:
            self.events.popitem(last=False)
        return True


def create_receiver(secret: str, clock: Callable[[], int], *, keep: int = KEEP_EVENTS) -> FastAPI:
    """The receiving application. ``clock`` gives ms UTC; the app's ``state.inbox`` holds what came.

    POST /events takes one signed CloudEvent: 202 when new, 200 when it came before, 401 when the signature or its time
    does not hold, 400 when it is no CloudEvent, 413 above 1 MiB. GET /events lists what came, oldest first; GET / is
    the same as a page. POST /messages/{who} takes a message to a person, as an SMS gateway would; GET /messages lists
    them.
    """
    app = FastAPI(title="Receiving platform", openapi_url=None)
    inbox = Inbox(keep)
    app.state.inbox = inbox

    @app.post("/events")
    async def take(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _problem(413, "The event is larger than 1 MiB")
        now_ms = clock()
        try:
            cloudevents.verify(secret, request.headers, body, now_ms // 1000)
        except cloudevents.SignatureInvalid as error:
            return _problem(401, str(error))
        try:
            event = cloudevents.parse(body)
        except cloudevents.MalformedEvent as error:
            return _problem(400, str(error))
        new = inbox.take(event, now_ms)
        return JSONResponse({"id": event["id"], "repeat": not new}, 202 if new else 200)

    @app.post("/messages/{who}")
    async def receive_message(request: Request, who: str) -> Response:
        body = await _body(request)
        if body is None:
            return _problem(413, "The message is larger than 1 MiB")
        try:
            text = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            return _problem(400, "The message is not JSON with a member message")
        inbox.messages.append((clock(), who, text))
        return JSONResponse({}, 200)

    @app.get("/messages")
    async def messages() -> list[dict[str, Any]]:
        return [{"received_at_ms": at_ms, "to": who, "text": text} for at_ms, who, text in inbox.messages]

    @app.get("/events")
    async def list_events() -> list[dict[str, Any]]:
        return [
            {"received_at_ms": r.received_at_ms, "repeats": r.repeats, "event": r.event} for r in inbox.events.values()
        ]

    @app.get("/")
    async def page() -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(_page(inbox), headers={"content-security-policy": policy})

    return app


async def _body(request: Request) -> bytes | None:
    """The body of a request; None when it is larger than ``BODY_LIMIT``, the rest is not read then."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return body


def _problem(status: int, detail: str) -> JSONResponse:
    """An RFC 9457 problem document."""
    return JSONResponse({"status": status, "detail": detail}, status, media_type="application/problem+json")


STYLE = """
body{font:16px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;margin:2rem;color:#1d2733}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #dde3ea}
small{color:#5b6875;display:block}
.pennant{display:inline-block;min-width:1.6em;text-align:center;font-weight:700;padding:0 .2em}
.red{background:#b3261e;color:#fff}.orange{background:#e8710a;color:#111}
.yellow{background:#f5c518;color:#111}.blue{background:#1f5fbf;color:#fff}
"""


def _page(inbox: Inbox) -> str:
    title = say("incident.received")
    count = say("incident.received_count", count=len(inbox.events), repeats=inbox.repeats)
    columns = say("incident.received_columns")
    heads = "".join(
        f"<th>{_lines(Text(zh, en))}</th>" for zh, en in zip(columns.zh.split("|"), columns.en.split("|"), strict=True)
    )
    newest = list(reversed(inbox.events.values()))[:SHOWN_EVENTS]
    rows = "".join(_row(received) for received in newest)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    messages = "".join(
        f"<tr><td>{html.escape(beijing(at_ms, '%m-%d %H:%M:%S'))}</td><td>{html.escape(who)}</td>"
        f"<td>{html.escape(text)}</td></tr>"
        for at_ms, who, text in list(reversed(inbox.messages))[:SHOWN_EVENTS]
    )
    if messages:
        messages = f"<h2>{_lines(say('incident.received_messages'))}</h2><table><tbody>{messages}</tbody></table>"
    nothing = f"<p>{_lines(say('incident.received_nothing'))}</p>"
    return (
        '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title.zh)} {html.escape(title.en)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{_lines(title)}</h1><p>{_lines(count)}</p>"
        f"{table if rows else nothing}{messages}</body></html>"
    )


def _row(received: Received) -> str:
    """One event as a table row. Any sender may have written it: every field is checked and escaped."""
    data = received.event.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
    text = fields.get("text")
    words: Mapping[str, Any] = text if isinstance(text, dict) else {}
    colour = _label("incident", Colour, fields.get("colour"))
    valid = fields.get("colour") in list(Colour)
    pennant = f'<span class="pennant {fields["colour"]}">{html.escape(colour.zh)}</span>' if valid else _lines(colour)
    cells = [
        html.escape(beijing(received.received_at_ms, "%m-%d %H:%M:%S")),
        html.escape(str(fields.get("incident", received.event["id"]))),
        pennant,
        _lines(_label("state", State, fields.get("state"))),
        _lines(_label("incident", Notify, fields.get("notify"))),
        _lines(Text(str(words.get("zh", "")), str(words.get("en", "")))),
        html.escape(str(fields.get("comment") or "")),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _label(section: str, choices: type[StrEnum], value: object) -> Text:
    """The catalogue's word for one of the choices, or the value itself when it is none of them."""
    return say(f"{section}.{value}") if value in list(choices) else Text(str(value or ""), "")


def _lines(text: Text) -> str:
    """Chinese, and the English small below it; escaped."""
    return f"{html.escape(text.zh)}<small>{html.escape(text.en)}</small>"
