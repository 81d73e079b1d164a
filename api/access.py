"""Who is asking: whoever changes something shows the token; reading is open for now.

Enforced by method and path before a body is read, so that a new route cannot forget it.
"""

import hmac
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.problems import Problem

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SCHEME = "bearer"


class Guard:
    """ASGI: asks for the bearer token wherever a request below ``prefix`` may change something.

    Without a token nobody is asked, and nobody ever at the paths ``open_to_all`` (one that ends with a slash stands for
    all below it), which check for themselves. A web page of another origin is turned away even then: it would use the
    reach of its reader's browser, not its own.
    """

    def __init__(self, app: ASGIApp, token: str | None, prefix: str, open_to_all: Collection[str] = ()) -> None:
        self._app = app
        self._open = tuple(open_to_all)
        self._token = None if token is None else token.encode()
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._refusal(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] in _SAFE or not path.startswith(self._prefix):
            return None
        headers = Headers(scope=scope)
        if self._token is None or _is_open(path, self._open):
            return _foreign(headers)
        given = headers.getlist("authorization")
        if not given:
            return _unauthorized("a change needs the header Authorization: Bearer <token>", "")
        scheme, _, shown = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != _SCHEME:
            return _unauthorized("the header Authorization must be given once, as Bearer <token>", "")
        if not hmac.compare_digest(shown.strip().encode("latin-1"), self._token):
            return _unauthorized("the token is not valid", ', error="invalid_token"')
        return None


def describe(schema: dict[str, Any], open_to_all: Collection[str] = ()) -> None:
    """Tell the OpenAPI document which operations ask for the token."""
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[_SCHEME] = {"type": "http", "scheme": _SCHEME}
    for name, path in schema["paths"].items():
        for method, operation in path.items():
            if method.upper() not in _SAFE and not _is_open(name, open_to_all):
                operation["security"] = [{_SCHEME: []}]


def _is_open(path: str, open_to_all: Collection[str]) -> bool:
    return any(path.startswith(one) if one.endswith("/") else path == one for one in open_to_all)


def _unauthorized(detail: str, error: str) -> Problem:
    challenge = f'Bearer realm="riverchief"{error}'
    return Problem(problems.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def _foreign(headers: Headers) -> Problem | None:
    origin = headers.get("origin")
    if origin is None or urlsplit(origin).netloc == headers.get("host"):
        return None
    return Problem(
        problems.FORBIDDEN, f"no token is configured, so changes from web pages of {origin[:120]} are refused"
    )
