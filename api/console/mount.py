"""Hang the console into the FastAPI application: NiceGUI at ``/``, everything served by us, under a strict policy."""

import gc
import re
import secrets
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from nicegui import app as console
from nicegui import ui
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.console import overview
from api.console.assessment import AssessmentOfMonth
from api.console.frame import Page, Shared, register
from api.console.incident import IncidentPage
from api.console.incident_list import CasesPage
from api.console.maintenance import CareList, CareOfStation
from api.console.messages import Messages
from api.console.oncall import OnCall
from api.console.people import PeopleOfTheSite
from api.console.plain import nowhere
from api.console.report import ReportForm
from api.console.reported import ReportedPage
from api.console.rivers import ReachesPage, ReachFile
from api.console.trail import Trail
from api.console.worklist import TasksPage
from api.context import Context

NOT_OURS = ("/api", "/metrics", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json")
"""Paths the console never answers, not even with its own "not found": the API has its own words for that."""

PAGES: tuple[type[Page[Any]], ...] = (
    TasksPage,
    CasesPage,
    IncidentPage,
    ReportedPage,
    ReportForm,
    CareList,
    CareOfStation,
    ReachesPage,
    ReachFile,
    Messages,
    OnCall,
    AssessmentOfMonth,
    PeopleOfTheSite,
    Trail,
)
"""Every page within the frame, but the start page, which is drawn piece by piece."""

RECONNECT_S = 60.0
"""A page whose connection breaks for less than this goes on where it was, half-written comments included; the words
`console.cut_detail` name this time."""

PACKED = 4
"""How hard pages and scripts are compressed: a twentieth larger than the hardest (9), at less than half the time."""

ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#17302f"/>
<path d="M4 21c4-4 8-4 12 0s8 4 12 0M4 27c4-4 8-4 12 0s8 4 12 0" fill="none" stroke="#a9c7c6" stroke-width="2.6"/>
<path d="M13 16V4l11 4-11 4" fill="#f2f6f5" stroke="#f2f6f5" stroke-width="1.5" stroke-linejoin="round"/></svg>"""


async def _nowhere(request: Request, error: Exception) -> Response:
    """What is no page here: people are shown the way back, programs get JSON."""
    if "text/html" not in request.headers.get("accept", ""):
        assert isinstance(error, HTTPException)
        return await http_exception_handler(request, error)
    return nowhere(request)


def mount(app: FastAPI, context: Context) -> None:
    """Mount the console at ``/``; call it once a process and after the API's routes are there.

    NiceGUI keeps one global application, so a second call in the same process would show the first call's stores.
    """
    live = app.state.picture
    shared = Shared(context, live, app.state.keeper, app.state.registries)
    register("/", partial(overview.respond, shared))
    for page in PAGES:
        register(page.entry.path, partial(_respond, page, shared))
    console.on_startup(live.follow)
    console.exception_handler(404)(_nowhere)
    ui.run_with(
        app,
        title="河长 Riverchief",
        language="zh-CN",
        favicon=ICON,
        storage_secret=secrets.token_urlsafe(32),
        tailwind=False,
        gzip_middleware_factory=None,  # the policy has to see the page before it is compressed
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    _leave_objects_alone()
    app.router.routes.remove(next(r for r in reversed(app.router.routes) if isinstance(r, Mount) and r.app is console))
    app.router.routes.append(_AtTheRoot("/", app=GZipMiddleware(Policy(console), compresslevel=PACKED)))
    gc.collect()
    gc.freeze()  # looking through all that is loaded by now, again and again, would hold up every page


async def _respond(page: type[Page[Any]], shared: Shared, request: Request) -> None:
    await page(shared, request).respond()


def _leave_objects_alone() -> None:
    """Keep NiceGUI from walking through all objects of the process at its start.

    It looks for its server among ``gc.get_objects()``, and needs it for ``app.shutdown()`` alone, which we never call.
    While it holds them, ``tuple(…)`` of an iterator in another thread may fail with "SystemError: … bad argument to
    internal function": CPython resizes a tuple in place and then finds that somebody else holds it.
    """
    module = sys.modules[ui.run_with.__module__]
    module.__dict__["gc"] = SimpleNamespace(get_objects=list)


class _AtTheRoot(Mount):
    """A mount that leaves alone what is not the console's: unknown paths below /api stay the API's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] in ("http", "websocket"):
            path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
            if any(path == other or path.startswith(f"{other}/") for other in NOT_OURS):
                return Match.NONE, {}
        return super().matches(scope)


class Policy:
    """Plain ASGI: gives every page a content security policy and its scripts the nonce the policy asks for.

    Vue templates and NiceGUI's calls need ``unsafe-eval``; inline scripts need a nonce, so a script that somebody
    smuggles into a page does not run. No other host is named (measured: feasibility notes, part C).
    """

    _SCRIPT = re.compile(rb"<script(?=[\s>])")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_message: Message | None = None
        body = bytearray()

        async def guarded(message: Message) -> None:
            nonlocal start_message
            if message["type"] == "http.response.start" and _is_page(message):
                start_message = message
            elif start_message is not None and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    nonce = secrets.token_urlsafe(16)
                    page = self._SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', bytes(body))
                    await send({**start_message, "headers": _headers(start_message, nonce, len(page))})
                    await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        await self._app(scope, receive, guarded)


def _is_page(message: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])


def _headers(message: Message, nonce: str, length: int) -> list[tuple[bytes, bytes]]:
    policy = (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'self'"
    )
    kept = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
    return [
        *kept,
        (b"content-length", str(length).encode()),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
    ]
