"""Sessions of browsers: a random id in a cookie, kept as its SHA-256, until it expires, idles too long or is ended.

A session that was opened with a token ends with it; every session ends with its person. Never commits.
"""

import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from governance.people.store import token_hash as hashed
from governance.tables import login_session as table
from infra.times import DAY_MS

USED_INTERVAL_MS = 60_000
"""How exactly the last use is known: a write for each request would be too many."""
MAX_IDLE_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True)
class Session:
    """A session that counts: whose (None: the site's token), and the token it depends on (None: on none)."""

    id: int
    person_id: int | None
    token_hash: str | None
    method: str
    agent: str
    network: str
    begun_at_ms: int
    used_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Device:
    """Browser and network of a sign-in."""

    agent: str = ""
    network: str = ""

    def details(self, method: str) -> dict[str, object]:
        """What the audit trail keeps of signing in by a method."""
        return {"method": method, "device": self.agent, "network": self.network}


NO_DEVICE = Device()


def begin(
    connection: sa.Connection,
    *,
    person_id: int | None,
    method: str,
    now_ms: int,
    expires_at_ms: int,
    token: str | None = None,
    device: Device = NO_DEVICE,
) -> str:
    """Open a session and return the id for its cookie; expired sessions are deleted."""
    connection.execute(sa.delete(table).where(table.c.expires_at_ms <= now_ms))
    made = secrets.token_urlsafe(32)
    row = {
        "hash": hashed(made),
        "person_id": person_id,
        "token_hash": None if token is None else hashed(token),
        "method": method,
        "agent": device.agent,
        "network": device.network,
        "begun_at_ms": now_ms,
        "used_at_ms": now_ms,
        "expires_at_ms": expires_at_ms,
    }
    connection.execute(sa.insert(table).values(row))
    return made


def find(connection: sa.Connection, session: str, now_ms: int, idle_ms: int = MAX_IDLE_MS) -> Session | None:
    """The session of a cookie; None for an unknown, ended, expired or idle one."""
    query = sa.select(table).where(table.c.hash == hashed(session), _counts(now_ms, idle_ms))
    row = connection.execute(query).first()
    return None if row is None else _session(row)


def record_use(connection: sa.Connection, session: Session, now_ms: int) -> None:
    """Note that a session was used."""
    older = (table.c.id == session.id) & (table.c.used_at_ms < now_ms)
    connection.execute(sa.update(table).where(older).values(used_at_ms=now_ms))


def list_sessions(connection: sa.Connection, person_id: int, now_ms: int, idle_ms: int = MAX_IDLE_MS) -> list[Session]:
    """The sessions of a person, the one used last at the front."""
    query = sa.select(table).where(table.c.person_id == person_id, _counts(now_ms, idle_ms))
    return [_session(row) for row in connection.execute(query.order_by(table.c.used_at_ms.desc(), table.c.id.desc()))]


def end(connection: sa.Connection, session: str) -> None:
    """Close the session of a cookie; a closed one stays closed."""
    connection.execute(sa.delete(table).where(table.c.hash == hashed(session)))


def end_one(connection: sa.Connection, person_id: int, number: int) -> bool:
    """Close one of a person's sessions; False where there is no such one."""
    where = (table.c.person_id == person_id) & (table.c.id == number)
    return connection.execute(sa.delete(table).where(where)).rowcount == 1


def end_all(connection: sa.Connection, person_id: int, but: str | None = None) -> int:
    """Close the sessions of a person, except the one of the cookie ``but``; returns how many there were."""
    which = table.c.person_id == person_id
    if but is not None:
        which &= table.c.hash != hashed(but)
    return connection.execute(sa.delete(table).where(which)).rowcount


def _counts(now_ms: int, idle_ms: int) -> sa.ColumnElement[bool]:
    return (table.c.expires_at_ms > now_ms) & (table.c.used_at_ms > now_ms - idle_ms)


def _session(row: sa.Row[tuple[object, ...]]) -> Session:
    columns = row._mapping
    return Session(**{name: columns[name] for name in Session.__dataclass_fields__})
