"""Base64 for addresses and headers, without padding (RFC 4648, section 5)."""

import base64


def encode(data: bytes) -> str:
    """The text of some bytes."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """The bytes of a text, with or without padding. Raises ValueError for letters that are none of it."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
