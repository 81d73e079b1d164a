"""One-time codes: a random secret for one purpose and a short time, kept as its SHA-256 and deleted when used.

Links that set a password or welcome the first administrator, and the steps of signing in. Never commits.
"""

import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from governance.people.store import token_hash as hashed
from governance.tables import one_time_code as table
from infra.times import DAY_MS

LINK_MS = DAY_MS
STEP_MS = 15 * 60_000
"""How long a step of signing in may take: finding the telephone, installing an app on it."""


class Purpose(StrEnum):
    """What a code is for; one for another purpose is not known."""

    WELCOME = "welcome"
    """Being the first administrator."""
    PASSWORD = "password"  # noqa: S105 - a word
    """Setting one's password."""
    FACTOR = "factor"
    """The second factor, after the first."""
    ENROL = "enrol"
    """Setting up a second factor."""
    OIDC = "oidc"
    """Coming back from the identity provider."""


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """What a code is good for: whose (None: nobody's), and what was noted with it."""

    purpose: Purpose
    person_id: int | None
    data: str
    expires_at_ms: int


def make(
    connection: sa.Connection,
    purpose: Purpose,
    *,
    person_id: int | None,
    now_ms: int,
    data: str = "",
    good_ms: int = STEP_MS,
    alone: bool = False,
) -> str:
    """A new code. ``alone``: those that the person has for this purpose end."""
    connection.execute(sa.delete(table).where(table.c.expires_at_ms <= now_ms))
    if alone:
        withdraw(connection, person_id, purpose)
    made = secrets.token_urlsafe(32)
    row = {
        "hash": hashed(made),
        "purpose": purpose.value,
        "person_id": person_id,
        "data": data,
        "expires_at_ms": now_ms + good_ms,
    }
    connection.execute(sa.insert(table).values(row))
    return made


def find(connection: sa.Connection, purpose: Purpose, code: str, now_ms: int) -> OneTimeCode | None:
    """What a code is good for; None for one that is unknown, used or expired."""
    row = connection.execute(sa.select(table).where(_is_valid(purpose, code, now_ms))).first()
    return None if row is None else OneTimeCode(purpose, row.person_id, row.data, row.expires_at_ms)


def use(connection: sa.Connection, purpose: Purpose, code: str, now_ms: int) -> bool:
    """Use a code up; False where another one was faster."""
    return connection.execute(sa.delete(table).where(_is_valid(purpose, code, now_ms))).rowcount == 1


def withdraw(connection: sa.Connection, person_id: int | None, purpose: Purpose | None = None) -> None:
    """End the codes of a person, or those for one purpose."""
    whose = table.c.person_id.is_(None) if person_id is None else table.c.person_id == person_id
    which = [whose] if purpose is None else [whose, table.c.purpose == purpose.value]
    connection.execute(sa.delete(table).where(*which))


def _is_valid(purpose: Purpose, code: str, now_ms: int) -> sa.ColumnElement[bool]:
    return (table.c.hash == hashed(code)) & (table.c.purpose == purpose.value) & (table.c.expires_at_ms > now_ms)
