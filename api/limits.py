"""What every request and every answer must keep: a body no larger than allowed, headers no less strict than needed."""

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.problems import Problem
from infra.texts import say


class BodyLimit:
    """ASGI: a body beyond ``limit(path)`` bytes is answered 413 and not read any further.

    Enforced while it streams, so the bound also holds for a body with a missing or wrong length.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"].removeprefix(scope.get("root_path", "")))
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            await _too_large(limit).response()(scope, receive, send)
            return
        seen = 0
        exceeded = started = False

        async def counted() -> Message:
            nonlocal seen, exceeded
            if exceeded:
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                exceeded = seen > limit
            return {"type": "http.disconnect"} if exceeded else message

        async def watched(message: Message) -> None:
            nonlocal started
            if exceeded and not started:
                return  # the app's own idea of what went wrong
            started = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if not exceeded or started:
                raise
        if exceeded and not started:
            await _too_large(limit).response()(scope, receive, send)


class AllowedHosts:
    """ASGI: a request under a name that is not ours is answered 421.

    Ours are ``hosts``, loopback names and every address: a web page elsewhere can point a name of its own at us (DNS
    rebinding), never an address. None allows every name.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosts is None or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist("host")
        if len(given) == 1 and self._is_ours(given[0]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not our host"})
        else:
            host = given[0][:120] if given else ""
            await Problem(problems.MISDIRECTED, say("request.host", host=host)).response()(scope, receive, send)

    def _is_ours(self, given: str) -> bool:
        try:
            name = (urlsplit(f"//{given}").hostname or "").removesuffix(".")
        except ValueError:
            return False
        if name in (self._hosts or ()) or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


class SecurityHeaders:
    """ASGI: headers that keep browsers from guessing, framing and leaking; what an answer sets itself stands.

    Answers below ``strict`` prefixes are data and never a page: nothing may run in them, nothing may store them.
    """

    def __init__(self, app: ASGIApp, strict: tuple[str, ...]) -> None:
        self._app = app
        self._strict = strict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        data = scope["path"].removeprefix(scope.get("root_path", "")).startswith(self._strict)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (_ALWAYS | _DATA if data else _ALWAYS).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, dressed)


_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_DATA = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _too_large(limit: int) -> Problem:
    return Problem(
        problems.TOO_LARGE,
        say("request.too_large", limit=limit, megabytes=f"{limit / 1024**2:g}"),
        headers={"Connection": "close"},
    )
