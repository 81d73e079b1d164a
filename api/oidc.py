"""Signing in with an identity provider: OpenID Connect, authorisation code with PKCE (RFC 7636), state and nonce.

What the provider publishes about itself is asked once an hour, its keys again when a token names one that is not known.
Nothing is taken from it but who somebody is.
"""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx
import structlog
from joserfc import jwk, jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from infra import base64url, outgoing
from infra.errors import Refused, WaterError
from infra.texts import Text, say

DISCOVERY = "/.well-known/openid-configuration"
KNOWN_S, KEYS_AGAIN_S = 3600.0, 10.0
TIMEOUT_S = 10.0
LEEWAY_S = 60
"""By which the provider's clock may differ."""
ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures with the provider's own keys; never one with a shared secret, never none."""
MOST_BYTES = 1024 * 1024
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ProviderUnavailable(WaterError):
    """The identity provider does not answer, or not as one."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a browser is sent, and what must be kept until it comes back."""

    address: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The provider, and who we are to it. ``claim`` names the person; ``checks_factor``: it asks for a second one."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    claim: str = "preferred_username"
    button: str = ""
    scope: str = "openid profile"
    checks_factor: bool = False


class Oidc:
    """A provider. Threads may share it."""

    def __init__(self, settings: OidcSettings, clock_s: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def button(self) -> Text:
        """What stands on the button."""
        zh, _, en = self.settings.button.partition(" / ")
        return Text(zh, en or zh) if zh else say("login.oidc", provider=urlsplit(self.settings.issuer).hostname or "")

    def begin(self, back: str) -> Begun:
        """Begin; the provider sends the browser to ``back``. Raises ProviderUnavailable."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64url.encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": back,
            "scope": self.settings.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        where = self._endpoint("authorization_endpoint")
        return Begun(f"{where}{'&' if '?' in where else '?'}{urlencode(query)}", state, nonce, verifier)

    def person(self, code: str, verifier: str, nonce: str, back: str) -> str:
        """Who signed in: the value of the claim. Raises ProviderUnavailable, Refused for a token that does not hold."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self.settings.client_id,
            "code_verifier": verifier,
        }
        answer = self._ask("POST", self._endpoint("token_endpoint"), form, self._basic())
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderUnavailable(say("login.oidc_unavailable"))
        claims = self._verified(token)
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise self._refused("nonce")
        name = claims.get(self.settings.claim)
        if not isinstance(name, str) or not name.strip():
            raise Refused(say("login.oidc_no_claim", claim=self.settings.claim))
        return name.strip()

    def _basic(self) -> tuple[str, str]:
        return quote(self.settings.client_id, safe=""), quote(self.settings.client_secret, safe="")

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that the provider signed for us, not expired."""
        try:
            claims = self._decoded(token)
        except (JoseError, ValueError) as error:
            raise self._refused(type(error).__name__) from None
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        now_s = self._clock_s()
        expires, issued = claims.get("exp"), claims.get("iat")
        faults = {
            "iss": claims.get("iss") != self.settings.issuer,
            "aud": self.settings.client_id not in audiences,
            "azp": len(audiences) > 1 and claims.get("azp") != self.settings.client_id,
            "exp": not isinstance(expires, int | float) or expires + LEEWAY_S <= now_s,
            "iat": not isinstance(issued, int | float) or issued - LEEWAY_S > now_s,
        }
        for name, wrong in faults.items():
            if wrong:
                raise self._refused(name)
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        try:
            return dict(jwt.decode(token, self._key_set(), algorithms=ALGORITHMS).claims)
        except InvalidKeyIdError:  # the provider has new keys
            return dict(jwt.decode(token, self._key_set(again=True), algorithms=ALGORITHMS).claims)

    def _key_set(self, again: bool = False) -> KeySet:
        with self._lock:
            kept = self._keys
        age_s = float("inf") if kept is None else time.monotonic() - kept[0]
        if kept is not None and age_s < (KEYS_AGAIN_S if again else KNOWN_S):
            return kept[1]
        document = self._ask("GET", self._endpoint("jwks_uri"))
        keys = [row for row in document.get("keys", ()) if isinstance(row, dict) and row.get("kty") in ("RSA", "EC")]
        try:
            found = KeySet([jwk.import_key(row) for row in keys if row.get("use", "sig") == "sig"])
        except (JoseError, ValueError, KeyError) as error:
            raise ProviderUnavailable(say("login.oidc_unavailable")) from error
        with self._lock:
            self._keys = time.monotonic(), found
        return found

    def _endpoint(self, name: str) -> str:
        with self._lock:
            known = self._known
        if known is None or time.monotonic() - known[0] >= KNOWN_S:
            document = self._ask("GET", self.settings.issuer.rstrip("/") + DISCOVERY)
            if document.get("issuer") != self.settings.issuer:
                log.warning("the identity provider calls itself otherwise", issuer=str(document.get("issuer"))[:200])
                raise ProviderUnavailable(say("login.oidc_unavailable"))
            known = time.monotonic(), document
            with self._lock:
                self._known = known
        where = known[1].get(name)
        if not isinstance(where, str) or urlsplit(where).scheme not in ("https", "http"):
            raise ProviderUnavailable(say("login.oidc_unavailable"))
        return where

    def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None, login: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        """An answer of the provider; the log says what failed, without codes and secrets."""
        try:
            with (
                outgoing.guarded(),
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(method, url, data=form, auth=login, headers=HEADERS) as answer,
            ):
                body = _parsed(answer)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            log.warning("the identity provider does not answer", error=type(error).__name__)
            raise ProviderUnavailable(say("login.oidc_unavailable")) from None
        if answer.status_code >= 400 or not isinstance(body, dict):
            log.warning("the identity provider refused", status=answer.status_code)
            if form is not None and answer.status_code < 500:
                raise Refused(say("login.oidc_refused"))
            raise ProviderUnavailable(say("login.oidc_unavailable"))
        return body

    def _refused(self, why: str) -> Refused:
        log.warning("a token of the identity provider does not hold", why=why)
        return Refused(say("login.oidc_refused"))


def _parsed(answer: httpx.Response) -> object:
    """The JSON of an answer; None where it is longer than ``MOST_BYTES``, of which no more is read."""
    body = b""
    for part in answer.iter_raw():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return json.loads(body)
