"""Sessions of browsers: a random id in a cookie, stored as its SHA-256, until it expires or the person signs out.

A session is opened with a token and ends with it: when the token expires, is revoked, or its person is removed. Every
function takes an open connection and never commits.
"""

import secrets

import sqlalchemy as sa

from governance.people.store import token_hash as hashed
from governance.tables import login_session as table


def begin(connection: sa.Connection, token: str, *, now_ms: int, expires_at_ms: int) -> str:
    """Open a session with a valid token and return the id for its cookie; expired sessions are deleted."""
    connection.execute(sa.delete(table).where(table.c.expires_at_ms <= now_ms))
    made = secrets.token_urlsafe(32)
    row = {"hash": hashed(made), "token_hash": hashed(token), "begun_at_ms": now_ms, "expires_at_ms": expires_at_ms}
    connection.execute(sa.insert(table).values(row))
    return made


def token_hash(connection: sa.Connection, session: str, now_ms: int) -> str | None:
    """The hash of the token that a session was opened with; None for an unknown, closed or expired one."""
    query = sa.select(table.c.token_hash).where(table.c.hash == hashed(session), table.c.expires_at_ms > now_ms)
    return connection.execute(query).scalar_one_or_none()


def end(connection: sa.Connection, session: str) -> None:
    """Close a session; a closed one stays closed."""
    connection.execute(sa.delete(table).where(table.c.hash == hashed(session)))
