"""Links in messages: by which somebody confirms, and to what a message is about. Pure."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

from governance.notify.message import Item


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and checks the links by which somebody confirms. ``base`` is our address as phones reach it."""

    base: str
    key: bytes = field(repr=False)

    def page(self, items: Sequence[Item]) -> str:
        """The address of the incident that a message is about, of several that of the work list."""
        numbers = {item.incident_id for item in items}
        number = numbers.pop()
        path = "worklist" if numbers else f"incidents/{number}"
        return f"{self.base.rstrip('/')}/{path}"

    def make(self, notice_id: int, contact: str, expires_at_ms: int) -> str:
        """The address for this message and person; it says nothing but the message's number."""
        return f"{self.base.rstrip('/')}/a/{self.token(notice_id, contact, expires_at_ms)}"

    def token(self, notice_id: int, contact: str, expires_at_ms: int) -> str:
        """The number in base 36, and 72 bits of HMAC-SHA256 over number, person and end."""
        content = f"notice\x1f{notice_id}\x1f{contact}\x1f{expires_at_ms}".encode()
        proof = urlsafe_b64encode(hmac.new(self.key, content, hashlib.sha256).digest()[:9]).decode()
        return f"{_base36(notice_id)}.{proof}"

    def proves(self, token: str, notice_id: int, contact: str, expires_at_ms: int) -> bool:
        """Whether a token is the one of this message, compared in constant time."""
        return hmac.compare_digest(token.encode(), self.token(notice_id, contact, expires_at_ms).encode())


def number_of(token: str) -> int | None:
    """The message's number in a token, proved or not; None for what is no token."""
    number, dot, proof = token.partition(".")
    if not dot or not number.isascii() or not number.isalnum() or len(number) > 7 or len(proof) != 12:
        return None
    found = int(number, 36)
    return found if 0 < found < 2**31 else None


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    found = ""
    while number:
        number, rest = divmod(number, 36)
        found = digits[rest] + found
    return found or "0"
