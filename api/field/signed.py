"""Requests that a phone signs: a queue can be sent when the session that it was filled in has long ended."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from api.access import SIGNER, Signer, unauthorized
from infra.texts import say

SIGNATURE = "x-signature"


class SignedRoute(APIRoute):
    """A route that takes the signature of a phone in place of a session. Without either nobody acts here."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            signer: Signer | None = request.scope.get(SIGNER)
            if signer is not None:
                body = hashlib.sha256(await request.body()).hexdigest()
                message = f"{request.method}\n{request.url.path}\n{body}".encode()
                if not signer.phone.signed(message, request.headers.get(SIGNATURE, "")):
                    return unauthorized(say("field_server.bad_signature")).response()
                request.scope["actor"] = signer.actor
            response: Response = await handle(request)
            return response

        return checked


async def _phone(request: Request) -> str | None:
    signer: Signer | None = request.scope.get(SIGNER)
    return None if signer is None else signer.phone.id


SentBy = Annotated[str | None, Depends(_phone)]
"""The phone that signed a request; None for a session."""
