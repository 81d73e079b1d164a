"""Phones that sign what they send from the field: public keys of people, each revoked alone. Never commits."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from governance.people import accounts
from governance.people.store import Person
from governance.tables import field_nonce as nonces
from governance.tables import field_phone as table
from governance.tables import person as people_
from infra import base64url
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say

USED_INTERVAL_MS = 60_000
NAME_LIMIT = 80
MAX_PHONES = 20
"""Phones of one person that count at a time."""
NONCE_LENGTH = 64
_COORDINATE_BYTES = 32
"""Of a coordinate of P-256, and of each half of a signature."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone and whose it is; ``x`` and ``y`` are its public key. ``person`` is None where they were removed."""

    id: str
    person: str | None
    name: str
    x: str
    y: str
    registered_at_ms: int
    used_at_ms: int | None
    revoked_at_ms: int | None

    def signed(self, message: bytes, signature: str) -> bool:
        """Whether this phone signed the message, as WebCrypto signs: r and s one after the other, base64url."""
        try:
            raw = base64url.decode(signature)
        except ValueError:
            return False
        if len(raw) != 2 * _COORDINATE_BYTES:
            return False
        r, s = int.from_bytes(raw[:_COORDINATE_BYTES], "big"), int.from_bytes(raw[_COORDINATE_BYTES:], "big")
        try:
            _key(self.x, self.y).verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def register(connection: sa.Connection, one: Person, name: str, key: Mapping[str, Any], now_ms: int) -> Phone:
    """Keep a phone with its public key (JWK). Raises ConfigurationError for another key, Refused for too many."""
    x, y = key.get("x"), key.get("y")
    if (key.get("kty"), key.get("crv")) != ("EC", "P-256") or not isinstance(x, str) or not isinstance(y, str):
        raise ConfigurationError(say("field_server.no_key"))
    try:
        _key(x, y)
    except ValueError:
        raise ConfigurationError(say("field_server.no_key")) from None
    if len([phone for phone in of_person(connection, one) if phone.revoked_at_ms is None]) >= MAX_PHONES:
        raise Refused(say("field_server.many_phones", most=MAX_PHONES))
    made = Phone(secrets.token_hex(12), one.name, name.strip()[:NAME_LIMIT] or "—", x, y, now_ms, None, None)
    row = {column: getattr(made, column) for column in ("id", "name", "x", "y", "registered_at_ms")}
    connection.execute(sa.insert(table).values(person_id=one.id, **row))
    accounts.record_event(
        connection, "phone.registered", one.name, {"phone": made.id, "name": made.name}, one.name, now_ms
    )
    return made


def find(connection: sa.Connection, number: str) -> Phone | None:
    """The phone of this id, also a revoked one."""
    row = connection.execute(_SELECT.where(table.c.id == number)).first()
    return None if row is None else _phone(row)


def of_person(connection: sa.Connection, one: Person) -> list[Phone]:
    """The phones of a person, those that count first, the newest first."""
    query = _SELECT.where(table.c.person_id == one.id).order_by(
        table.c.revoked_at_ms.is_not(None), table.c.registered_at_ms.desc()
    )
    return [_phone(row) for row in connection.execute(query)]


def record_use(connection: sa.Connection, number: str, now_ms: int) -> None:
    """Note that a phone sent something."""
    connection.execute(sa.update(table).where(table.c.id == number).values(used_at_ms=now_ms))


def is_new_nonce(connection: sa.Connection, number: str, nonce: str, at_ms: int, oldest_ms: int) -> bool:
    """Whether a phone has not sent this nonce before; those older than ``oldest_ms`` are forgotten."""
    connection.execute(sa.delete(nonces).where(nonces.c.at_ms < oldest_ms))
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(nonces).values(phone=number, nonce=nonce, at_ms=at_ms))
    except sa.exc.IntegrityError:
        return False
    return True


def revoke(connection: sa.Connection, phone: Phone, *, by: str, now_ms: int) -> None:
    """A phone was lost: what it signs counts no longer, what it sent stays. Revoked twice is once."""
    where = (table.c.id == phone.id) & table.c.revoked_at_ms.is_(None)
    if connection.execute(sa.update(table).where(where).values(revoked_at_ms=now_ms, revoked_by=by)).rowcount:
        body = {"phone": phone.id, "name": phone.name}
        accounts.record_event(connection, "phone.revoked", phone.person or "", body, by, now_ms)


def get(connection: sa.Connection, number: str, person: str | None = None) -> Phone:
    """The phone of this id; raises NotFound, also for one that is not that person's where a person is given."""
    found = find(connection, number)
    if found is None or (person is not None and found.person != person):
        raise NotFound(say("field_server.no_phone"))
    return found


_SELECT = sa.select(table, sa.case((people_.c.removed_at_ms.is_(None), people_.c.name)).label("person")).join(
    people_, people_.c.id == table.c.person_id
)


def _phone(row: sa.Row[Any]) -> Phone:
    return Phone(**{name: getattr(row, name) for name in Phone.__slots__})


def _key(x: str, y: str) -> ec.EllipticCurvePublicKey:
    """The key of these coordinates; raises ValueError for what is no point of the curve."""
    across, up = base64url.decode(x), base64url.decode(y)
    if len(across) != _COORDINATE_BYTES or len(up) != _COORDINATE_BYTES:
        raise ValueError
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(across, "big"), int.from_bytes(up, "big"), ec.SECP256R1())
    return numbers.public_key()
