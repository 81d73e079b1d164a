"""Browsers that are signed in: a random id in a cookie, kept as its SHA-256, until it expires or the person signs out.

A session was opened with a token and is never good for longer than that token: it ends when the token expires, is
revoked, or its person is removed. Every function takes an open connection and never commits.
"""

import secrets

import sqlalchemy as sa

from governance.people.store import hashed
from governance.tables import login_session as table


def begin(connection: sa.Connection, token: str, *, now_ms: int, expires_at_ms: int) -> str:
    """Sign a browser in with a token that is valid; the id for its cookie. Sessions that expired are deleted."""
    connection.execute(sa.delete(table).where(table.c.expires_at_ms <= now_ms))
    made = secrets.token_urlsafe(32)
    row = {"hash": hashed(made), "token_hash": hashed(token), "begun_at_ms": now_ms, "expires_at_ms": expires_at_ms}
    connection.execute(sa.insert(table).values(row))
    return made


def token_hash(connection: sa.Connection, session: str, now_ms: int) -> str | None:
    """The hash of the token that a session was opened with; None for one that is unknown, over or expired."""
    query = sa.select(table.c.token_hash).where(table.c.hash == hashed(session), table.c.expires_at_ms > now_ms)
    return connection.execute(query).scalar_one_or_none()


def end(connection: sa.Connection, session: str) -> None:
    """Sign the browser out; nothing happens for a session that is over."""
    connection.execute(sa.delete(table).where(table.c.hash == hashed(session)))
