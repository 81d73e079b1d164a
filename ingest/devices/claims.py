"""Claims: a new device gets its login once, with the secret printed on its label.

The secret has 80 random bits, is stored as a scrypt hash, expires, and is void after use. Guesses are throttled for
each station and address; an unknown station and a wrong, used or expired secret get the same answer.
"""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
import structlog

from infra.database import Database
from infra.errors import NotFound, WaterError
from infra.texts import say
from infra.throttle import Throttle, network_of
from infra.times import DAY_MS
from ingest.devices.credentials import Credentials, IssuedLogin
from ingest.storage import changes
from ingest.storage.tables import device_claim as table
from ingest.storage.tables import station

log = structlog.get_logger(__name__)

VALID_DAYS = 180
"""Validity of a secret in days."""
SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, without symbols that look alike."""
LENGTH, GROUP = 16, 4
MAX_SECRET_LENGTH = 64
"""Longest secret as typed, with dashes and blanks."""
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

_N, _R, _P, _SALT, _HASH = 2**14, 8, 1, 16, 32
"""scrypt parameters: 16 MiB and some 40 ms for each guess; guesses are checked one at a time."""

STATION_BURST, STATION_EVERY_S = 5, 360.0
"""Guesses for a station at once, then one each so many seconds: 245 in a day, against 2**80 secrets."""
ADDRESS_BURST, ADDRESS_EVERY_S = 30, 30.0
"""The same for an address, which a whole mobile network may share."""


class ClaimRefused(WaterError):
    """Unknown station, or a wrong, used or expired secret; the answer does not say which."""


class TooManyClaims(WaterError):
    """Too many attempts; the next one is checked after ``wait_s``."""

    retryable = True

    def __init__(self, wait_s: float) -> None:
        super().__init__(say("device.too_many", seconds=wait_s))
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a device; its secret is shown once."""

    station: str
    secret: str = field(repr=False)
    expires_at_ms: int


def make_label(connection: sa.Connection, key: str, by: str, now_ms: int, days: int = VALID_DAYS) -> Label:
    """Make a secret for a station; an earlier one is void. Raises NotFound."""
    if connection.execute(sa.select(station.c.id).where(station.c.key == key)).first() is None:
        raise NotFound(say("registry.no_station", key=key[:80]))
    plain = "".join(secrets.choice(SYMBOLS) for _ in range(LENGTH))
    salt = secrets.token_bytes(_SALT)
    expires_at_ms = now_ms + days * DAY_MS
    connection.execute(sa.delete(table).where(table.c.station == key))
    values = {"salt": salt, "hash": _derive(plain, salt), "created_at_ms": now_ms, "created_by": by}
    connection.execute(sa.insert(table).values(station=key, expires_at_ms=expires_at_ms, **values))
    _record(connection, key, by, now_ms, {"expires_at_ms": expires_at_ms})
    return Label(key, "-".join(plain[i : i + GROUP] for i in range(0, LENGTH, GROUP)), expires_at_ms)


def unused_labels(connection: sa.Connection, now_ms: int) -> dict[str, int]:
    """Station → until when its secret is valid (ms), for unused secrets."""
    usable = table.c.used_at_ms.is_(None) & (table.c.expires_at_ms > now_ms)
    rows = connection.execute(sa.select(table.c.station, table.c.expires_at_ms).where(usable).order_by(table.c.station))
    return {key: int(expires_at_ms) for key, expires_at_ms in rows}


class Claims:
    """Answers the claims of devices."""

    def __init__(self, database: Database, credentials: Credentials, clock_ms: Callable[[], int]) -> None:
        self._database = database
        self._credentials = credentials
        self._clock_ms = clock_ms
        self._stations = Throttle(STATION_BURST, STATION_EVERY_S)
        self._addresses = Throttle(ADDRESS_BURST, ADDRESS_EVERY_S)
        self._one_at_a_time = threading.Lock()

    def claim(self, key: str, secret: str, address: str) -> IssuedLogin:
        """Make the login of a station, once, for its secret.

        Raises ClaimRefused, TooManyClaims, or BrokerUnavailable; after the latter the secret is still valid.
        """
        wait_s = self._addresses.take(network_of(address)) or self._stations.take(key)
        if wait_s > 0:
            raise TooManyClaims(wait_s)
        now_ms = self._clock_ms()
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.station == key)).one_or_none()
        salt, wanted = (bytes(_SALT), bytes(_HASH)) if row is None else (row.salt, row.hash)
        with self._one_at_a_time:
            same = hmac.compare_digest(_derive(normalised_secret(secret), salt), wanted)
        if row is None or not same or not self._consume(key, wanted, now_ms):
            log.warning("a claim was refused", address=address)
            raise ClaimRefused(say("device.claim_refused"))
        try:
            issued = self._credentials.issue(key, "claim")
        except BaseException:
            with self._database.write() as connection:
                connection.execute(sa.update(table).where(_is_unused_label(key, wanted)).values(used_at_ms=None))
            raise
        return issued

    def _consume(self, key: str, wanted: bytes, now_ms: int) -> bool:
        """Mark the secret as used; true for the first caller with a valid one."""
        usable = table.c.used_at_ms.is_(None) & (table.c.expires_at_ms > now_ms)
        with self._database.write() as connection:
            used = sa.update(table).where(_is_unused_label(key, wanted) & usable).values(used_at_ms=now_ms)
            first = connection.execute(used).rowcount == 1
            if first:
                _record(connection, key, "claim", now_ms, {"used": True})
        return first


def normalised_secret(secret: str) -> str:
    """The secret as it was made, from how it was typed."""
    return secret.upper().translate(_MISREAD)


def _derive(plain: str, salt: bytes) -> bytes:
    return hashlib.scrypt(plain.encode("utf-8", "replace"), salt=salt, n=_N, r=_R, p=_P, dklen=_HASH)


def _is_unused_label(key: str, wanted: bytes) -> sa.ColumnElement[bool]:
    return (table.c.station == key) & (table.c.hash == wanted)


def _record(connection: sa.Connection, key: str, by: str, now_ms: int, body: dict[str, object]) -> None:
    changes.record_change(connection, "claim", key, body, author=changes.Author(by, now_ms))
