"""A small OpenID Connect provider on loopback, with real RS256 keys: what a test asks it to do wrong, it does."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from riverchief.brokers.local import free_port

CLIENT, SECRET = "riverchief", "示例 secret/with:signs"


class Provider:
    """``person`` is who signs in there; ``wrong`` are claims that take the place of right ones."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.person = ""
        self.wrong: dict[str, Any] = {}
        self.down = False
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.signs_with: RSAKey | None = None
        self.rotate()

    def rotate(self) -> None:
        """New keys; the old ones are gone."""
        self.key = RSAKey.generate_key(2048, {"kid": f"key-{time.monotonic_ns()}", "use": "sig"})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _discovery(self, _: Request) -> Response:
        self.asked.append("discovery")
        if self.down:
            return Response("down", 503)
        names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return JSONResponse({"issuer": self.issuer} | {name: self.issuer + path for name, path in names.items()})

    async def _keys(self, _: Request) -> Response:
        self.asked.append("keys")
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        user, _, password = base64.b64decode(request.headers["authorization"].split()[1]).decode().partition(":")
        login = dict(parse_qsl(f"user={user}&password={password}"))
        asked = self.codes.pop(form["code"], {})
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        right = (login["user"], login["password"]) == (CLIENT, SECRET) and asked.get("code_challenge") == challenge
        if not right or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "1",
            "iat": now_s,
            "exp": now_s + 300,
            "nonce": asked["nonce"],
            "preferred_username": self.person,
        } | self.wrong
        header = {"alg": "RS256", "kid": self.key.kid}
        token = jwt.encode(header, claims, self.signs_with or self.key)
        return JSONResponse({"id_token": token, "access_token": "x", "token_type": "Bearer"})


@contextmanager
def running() -> Iterator[Provider]:
    """A provider that serves until the block ends."""
    port = free_port()
    provider = Provider(port)
    server = uvicorn.Server(uvicorn.Config(provider.app(), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield provider
    finally:
        server.should_exit = True
        thread.join()
