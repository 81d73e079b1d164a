"""Time-based one-time passwords (RFC 6238: SHA-1, six digits, 30 s). Pure."""

import base64
import hmac
import re
import secrets
import struct
from urllib.parse import quote, urlencode

DIGITS, STEP_MS = 6, 30_000
MAX_DRIFT_STEPS = 1
"""Steps by which a telephone's clock may be off in either direction."""
_SECRET_BYTES = 20


def new_secret() -> str:
    """A random secret in the letters that people type into their app (base 32)."""
    return base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def code(secret: str, step: int, digits: int = DIGITS) -> str:
    """The code of a step (RFC 4226, 5.3)."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    at = digest[-1] & 15
    number = struct.unpack(">I", digest[at : at + 4])[0] & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: str, given: str, now_ms: int, *, after: int = 0) -> int | None:
    """The step whose code was given, later than the step ``after``; None for none near now."""
    typed = re.sub(r"\s", "", given)
    if not re.fullmatch(rf"[0-9]{{{DIGITS}}}", typed):
        return None
    here = now_ms // STEP_MS
    steps = range(max(after + 1, here - MAX_DRIFT_STEPS), here + MAX_DRIFT_STEPS + 1)
    return next((step for step in steps if hmac.compare_digest(code(secret, step), typed)), None)


def address(secret: str, name: str, issuer: str) -> str:
    """The address (``otpauth:``) in the QR code for an authenticator app."""
    fields = {"secret": secret, "issuer": issuer, "digits": DIGITS, "period": STEP_MS // 1000}
    return f"otpauth://totp/{quote(name, safe='')}?{urlencode(fields, quote_via=quote)}"
