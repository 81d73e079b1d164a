"""Requests that a phone signs: a queue can be sent when the session that it was filled in has long ended."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from api.access import SIGNER, Signer, unauthorized
from api.context import Context
from api.problems import Problem
from governance.people import phones
from infra.texts import say

SIGNATURE, TIME, NONCE = "x-signature", "x-time", "x-nonce"
WINDOW_MS = 5 * 60_000
"""How far the time of a signed request may be from now; so long its nonce is known."""
MOST_DIGITS = 15
"""Of a time in ms."""


class SignedRoute(APIRoute):
    """A route that takes the signature of a phone in place of a session. Without either nobody acts here."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            signer: Signer | None = request.scope.get(SIGNER)
            if signer is not None:
                body = await request.body()
                if (refused := await run_in_threadpool(_refused, request, signer, body)) is not None:
                    return refused.response()
                request.scope["actor"] = signer.actor
            response: Response = await handle(request)
            return response

        return checked


def fits(signer: Signer, path: str, body: bytes, signature: str) -> bool:
    """Whether a phone signed this record or photo, however long ago: sent twice, it acts once."""
    return signer.phone.signed(_message("PUT", path, body), signature)


def _message(method: str, path: str, body: bytes, *more: str) -> bytes:
    return "\n".join((method, path, hashlib.sha256(body).hexdigest(), *more)).encode()


def _refused(request: Request, signer: Signer, body: bytes) -> Problem | None:
    """Why a signature does not count. All but a record's own sending count once, and for minutes only."""
    shown = request.headers.get(SIGNATURE, "")
    if request.method == "PUT":
        return None if fits(signer, request.url.path, body, shown) else unauthorized(say("field_server.bad_signature"))
    at, nonce = request.headers.get(TIME, ""), request.headers.get(NONCE, "")
    if not signer.phone.signed(_message(request.method, request.url.path, body, at, nonce), shown):
        return unauthorized(say("field_server.bad_signature"))
    context: Context = request.app.state.context
    now_ms = context.clock_ms()
    at_ms = int(at) if at.isdecimal() and len(at) < MOST_DIGITS else 0
    if abs(at_ms - now_ms) > WINDOW_MS or not 0 < len(nonce) <= phones.NONCE_LENGTH:
        refused = unauthorized(say("field_server.other_time"))
        return replace(refused, headers={**refused.headers, TIME: str(now_ms)})
    with context.database.write() as connection:
        fresh = phones.is_new_nonce(connection, signer.phone.id, nonce, at_ms, now_ms - WINDOW_MS)
    return None if fresh else unauthorized(say("field_server.sent_before"))


async def _phone(request: Request) -> str | None:
    signer: Signer | None = request.scope.get(SIGNER)
    return None if signer is None else signer.phone.id


SentBy = Annotated[str | None, Depends(_phone)]
"""The phone that signed a request; None for a session."""
