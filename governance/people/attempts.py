"""Attempts to sign in, counted in the database, so that all processes agree. Never commits.

An attempt is counted before anything is checked and taken back when it was right: attempts made at once cannot outrun
the count. Accounts and networks are kept as hashes: who mistypes a name may have typed a password there.
"""

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from governance.tables import login_attempt as table
from infra.times import DAY_MS

FREE_OF_ACCOUNT, FREE_OF_NETWORK = 5, 20
"""Wrong attempts before there is a wait; a network may be an office."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 60_000, 3_600_000
"""The wait doubles with each further wrong attempt."""
FORGET_AFTER_MS = DAY_MS


@dataclass(frozen=True, slots=True)
class Subjects:
    """Keys by which attempts are counted: the named account and the network of the client."""

    account: str
    network: str

    @property
    def limits(self) -> tuple[tuple[str, int], ...]:
        return (
            (f"account:{_hash(self.account)}", FREE_OF_ACCOUNT),
            (f"network:{_hash(self.network)}", FREE_OF_NETWORK),
        )


def count_attempt(connection: sa.Connection, subjects: Subjects, now_ms: int) -> int:
    """Count an attempt; 0 where it may be made, else the wait in ms, and then it is not counted."""
    connection.execute(sa.delete(table).where(table.c.newest_at_ms <= now_ms - FORGET_AFTER_MS))
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = []
    for subject, free in subjects.limits:
        new = {"subject": subject, "failures": 0, "newest_at_ms": now_ms, "closed_until_ms": 0}
        connection.execute(kind.insert(table).values(new).on_conflict_do_nothing())
        row = connection.execute(sa.select(table).where(table.c.subject == subject).with_for_update()).one()
        if row.closed_until_ms > now_ms:
            return int(row.closed_until_ms - now_ms)
        rows.append((subject, free, row.failures + 1))
    for subject, free, failures in rows:
        counted = {"failures": failures, "newest_at_ms": now_ms, "closed_until_ms": now_ms + wait_ms(failures, free)}
        connection.execute(sa.update(table).where(table.c.subject == subject).values(counted))
    return 0


def remaining_ms(connection: sa.Connection, subjects: Subjects, now_ms: int) -> int:
    """How long nothing is accepted from now on, in ms."""
    names = [name for name, _ in subjects.limits]
    query = sa.select(sa.func.max(table.c.closed_until_ms)).where(table.c.subject.in_(names))
    return max(0, (connection.execute(query).scalar_one() or 0) - now_ms)


def wait_ms(failures: int, free: int) -> int:
    """How long nothing is accepted after so many wrong attempts."""
    over = failures - free
    return 0 if over < 0 else min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(over, 10))


def undo_attempt(connection: sa.Connection, subjects: Subjects) -> None:
    """Undo the count of an attempt that succeeded."""
    names = [name for name, _ in subjects.limits]
    reduced = {"failures": sa.case((table.c.failures > 0, table.c.failures - 1), else_=0), "closed_until_ms": 0}
    connection.execute(sa.update(table).where(table.c.subject.in_(names)).values(reduced))


def reset(connection: sa.Connection, account: str) -> None:
    """Delete the failures of an account: after a sign-in or a new password."""
    subject = Subjects(account, "").limits[0][0]
    connection.execute(sa.delete(table).where(table.c.subject == subject))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
