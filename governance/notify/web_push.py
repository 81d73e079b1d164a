"""Web Push: a message to a browser that asked for it, through the push service of its maker (RFC 8030, 8291, 8292).

The content is encrypted for the browser: the push service sees when a message goes to whom, not what it says.
"""

import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from governance.notify.channels import Outcome
from governance.notify.contacts import Channel
from infra import base64url, outgoing
from infra.errors import ConfigurationError
from infra.texts import both, say

SCHEME: Final = "webpush"
HOSTS: Final = ("fcm.googleapis.com", "push.services.mozilla.com", "push.apple.com", "notify.windows.com")
"""The push services of the browsers' makers and all below them; another address is refused, for a browser names the
address that we then connect to. Where the first cannot be reached, Chrome gets no messages."""
TTL_S: Final = 86_400
"""How long a service keeps a message for a browser that is off: what is older than a day wakes nobody."""
MAX_TEXT_CHARS: Final = 900
"""Letters of a message: it has to fit into 4,096 bytes encrypted."""
_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class WebPush:
    """Sends to browsers. ``secret``: what our key is made of; ``base``: our address, which tells a push service who
    sends; ``hosts``: further push services, each with its port where it has one."""

    secret: bytes = field(repr=False)
    base: str
    hosts: tuple[str, ...] = ()

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        made = HKDF(hashes.SHA256(), 48, None, b"riverchief web push").derive(self.secret)
        return ec.derive_private_key(int.from_bytes(made, "big") % (_ORDER - 1) + 1, _CURVE)

    @cached_property
    def public_key(self) -> str:
        """What a browser is given when it subscribes."""
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return base64url.encode(point)

    def channel(self, endpoint: str, p256dh: str, auth: str) -> Channel:
        """The channel to a browser by what it says of its subscription. Raises ConfigurationError."""
        parts = urlsplit(endpoint)
        if not self._is_push_service(parts.scheme, parts.netloc) or parts.fragment:
            raise ConfigurationError(say("notice.no_push_service", host=parts.netloc[:80]))
        query = urlencode({"q": parts.query, "p256dh": p256dh, "auth": auth})
        made = Channel(f"{SCHEME}://{parts.netloc}{parts.path}?{query}", short=True)
        self._subscription(made)
        return made

    def send(self, channel: Channel, title: str, body: str) -> Outcome:
        """Send one message; never raises."""
        import http_ece

        try:
            endpoint, browser, auth = self._subscription(channel)
            words = json.dumps({"title": title, "body": body[:MAX_TEXT_CHARS]}, ensure_ascii=False)
            private = ec.generate_private_key(_CURVE)
            sealed = http_ece.encrypt(
                words.encode(), private_key=private, dh=browser, auth_secret=auth, version="aes128gcm"
            )
            with outgoing.guarded():
                answer = httpx.post(endpoint, content=sealed, headers=self._headers(endpoint), timeout=_TIMEOUT_S)
        except ConfigurationError as error:
            return Outcome(False, both(error.text))
        except httpx.HTTPError as error:
            return Outcome(False, both(say("notice.channel_failed", channel=SCHEME, error=type(error).__name__)))
        if answer.is_success:
            return Outcome(True)
        if answer.status_code in (404, 410):
            return Outcome(False, both(say("notice.push_gone")))
        return Outcome(False, both(say("notice.channel_refused", channel=SCHEME, answer=f"HTTP {answer.status_code}")))

    def _is_push_service(self, scheme: str, netloc: str) -> bool:
        """Whether an address is one of a push service: https, but for those that the settings name."""
        if netloc in self.hosts:
            return scheme in ("http", "https")
        return scheme == "https" and any(netloc == host or netloc.endswith(f".{host}") for host in HOSTS)

    def _subscription(self, channel: Channel) -> tuple[str, bytes, bytes]:
        """Address, key and secret of a browser. Raises ConfigurationError."""
        parts = urlsplit(channel.url)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            browser, auth = (base64url.decode(given.get(name, "")) for name in ("p256dh", "auth"))
            ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, browser)
        except ValueError:
            raise ConfigurationError(say("notice.no_subscription")) from None
        if len(auth) != 16:
            raise ConfigurationError(say("notice.no_subscription"))
        scheme = "http" if parts.netloc in self.hosts else "https"
        if not self._is_push_service(scheme, parts.netloc):
            raise ConfigurationError(say("notice.no_push_service", host=parts.netloc[:80]))
        query = f"?{given['q']}" if given.get("q") else ""
        return f"{scheme}://{parts.netloc}{parts.path}{query}", browser, auth

    def _headers(self, endpoint: str) -> dict[str, str]:
        parts = urlsplit(endpoint)
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": int(time.time()) + TTL_S // 2, "sub": self.base}
        token = jwt.encode({"alg": "ES256"}, claims, _jwk(self._key))
        return {
            "Authorization": f"vapid t={token}, k={self.public_key}",
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL_S),
            "Urgency": "high",
        }


def _jwk(key: ec.EllipticCurvePrivateKey) -> ECKey:
    numbers = key.private_numbers()
    members: dict[str, Any] = {"kty": "EC", "crv": "P-256"}
    for name, value in (("x", numbers.public_numbers.x), ("y", numbers.public_numbers.y), ("d", numbers.private_value)):
        members[name] = base64url.encode(value.to_bytes(32, "big"))
    return ECKey.import_key(members)
