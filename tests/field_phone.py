"""A phone in the field, for tests: a key of its own, records, and requests that it signs as a browser does."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.testclient import TestClient

from infra import base64url
from infra.times import rfc3339

FIELD = "/api/v1/field"


class FieldPhone:
    """Registered with a client that is signed in; afterwards it sends without that."""

    def __init__(self, signed_in: TestClient, name: str = "Chrome · Android") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (base64url.encode(part.to_bytes(32, "big")) for part in (numbers.x, numbers.y))
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        made = signed_in.post(f"{FIELD}/phones", json={"name": name, "key": jwk})
        assert made.status_code == 201, made.text
        self.id: str = made.json()["id"]
        self._client = TestClient(signed_in.app)
        self._time = "0"

    def signature(self, method: str, path: str, body: bytes, *more: str) -> str:
        message = "\n".join((method, path, hashlib.sha256(body).hexdigest(), *more)).encode()
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(SHA256())))
        return base64url.encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> httpx.Response:
        """A signed request; a header may be given in place of the right one. The time is the server's once it says."""
        more = () if method == "PUT" else (self._time, secrets.token_hex(8))
        signature = self.signature(method, path.partition("?")[0], body, *more)
        sent = {"X-Phone": self.id, "X-Signature": signature, "Content-Type": "application/json"}
        sent |= dict(zip(("X-Time", "X-Nonce"), more, strict=False))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.sent = sent
        answer = self._client.request(method, path, content=body, headers=sent)
        if (now := answer.headers.get("X-Time")) and "X_Time" not in headers:
            self._time = now
            return self.ask(method, path, body, **headers)
        return answer

    def send(self, record: dict[str, Any], **headers: str) -> httpx.Response:
        return self.ask("PUT", f"{FIELD}/records/{record['id']}", json.dumps(record).encode(), **headers)

    def photo(self, record: dict[str, Any], data: bytes, name: str = "") -> httpx.Response:
        path = f"{FIELD}/records/{record['id']}/photos/{name or hashlib.sha256(data).hexdigest()}"
        return self.ask("PUT", path, data)


def record(kind: str, new: dict[str, Any], at_ms: int, photos: Sequence[bytes] = (), **more: Any) -> dict[str, Any]:
    """A record as the app makes it, recorded and sent at one instant of the phone's clock."""
    shown = [
        {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "media_type": "image/jpeg", "kind": ""}
        for data in photos
    ]
    made = {
        "id": str(uuid.uuid4()),
        "kind": kind,
        "version": 1,
        "base": None,
        "object": {},
        "old": None,
        "new": new,
        "recorded_at": rfc3339(at_ms),
        "offset_ms": 0,
        "photos": shown,
        "app": "test",
        "sent_at": rfc3339(at_ms),
    }
    return made | more
