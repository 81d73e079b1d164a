"""Encryption at rest of contact data, under a key that is not in the database."""

import hashlib
import hmac

import structlog
from cryptography.fernet import Fernet, InvalidToken

_MARK = "enc:"

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Vault:
    """Encrypts and decrypts short texts (Fernet: AES-128-CBC with HMAC-SHA256); ``key`` is `new_key`'s."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError for what is no key."""
        self._box = Fernet(key)
        self._key = key

    def lock(self, text: str) -> str:
        """The text as it is kept; nothing stays nothing."""
        return _MARK + self._box.encrypt(text.encode()).decode() if text else ""

    def mark(self, text: str) -> str:
        """A keyed hash of a text: equal for equal texts, and telling nothing of them without the key."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def open(self, encrypted: str) -> str:
        """The text; what was kept before there was a key is returned as it is, "" for what another key encrypted."""
        if not is_locked(encrypted):
            return encrypted
        try:
            return self._box.decrypt(encrypted.removeprefix(_MARK).encode()).decode()
        except InvalidToken:
            log.warning("a contact was encrypted under another key and cannot be read")
            return ""


def is_locked(stored: str) -> bool:
    """Whether a kept text is encrypted."""
    return stored.startswith(_MARK)


def new_key() -> bytes:
    """A random key."""
    return Fernet.generate_key()
