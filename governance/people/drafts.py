"""Drafts of forms: what a person typed and has not sent yet, kept so that another device or a restart finds it.

A draft is its owner's alone and is deleted after ``KEEP_MS``. An accepted form leaves its draft's row without the text,
so that a browser that missed the answer learns that it was accepted. Every function takes an open connection and never
commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from governance.tables import draft as table
from infra.times import DAY_MS

KEEP_MS = 14 * DAY_MS
MAX_BYTES = 20_000
MAX_DRAFTS_PER_PERSON = 50
MAX_KEY_LENGTH = 200

c = table.c


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a form as JSON (None once it was accepted), when it was typed, and its version."""

    body: str | None
    typed_at_ms: int
    version: int


def below(connection: sa.Connection, person: str, prefix: str, *, now_ms: int) -> Mapping[str, Draft]:
    """A person's drafts whose keys begin with a prefix."""
    query = (
        sa.select(c.key, c.body, c.typed_at_ms, c.version)
        .where(c.person == person, c.updated_at_ms > now_ms - KEEP_MS, c.key.startswith(prefix, autoescape=True))
        .limit(MAX_DRAFTS_PER_PERSON)
    )
    return {key: Draft(*row) for key, *row in connection.execute(query)}


def find(connection: sa.Connection, person: str, key: str, *, now_ms: int) -> Draft | None:
    """One draft; None for one that is not there."""
    query = sa.select(c.body, c.typed_at_ms, c.version).where(
        c.person == person, c.key == key, c.updated_at_ms > now_ms - KEEP_MS
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Draft(*row)


def put(connection: sa.Connection, person: str, key: str, draft: Draft, *, now_ms: int) -> tuple[bool, Draft]:
    """Keep a draft that was made from the version that it carries (0: from none).

    Returns whether it was kept, and what is kept now: a draft that came in between from elsewhere stays.
    """
    found = find(connection, person, key, now_ms=now_ms)
    if found is not None and found.version != draft.version:
        return False, found
    after = Draft(draft.body, draft.typed_at_ms, draft.version + 1)
    _write(connection, person, key, after, now_ms)
    return True, after


def accept(connection: sa.Connection, person: str, key: str, typed_at_ms: int, *, now_ms: int) -> None:
    """The form was accepted as it was typed until then: its text is deleted, what was typed later stays."""
    found = find(connection, person, key, now_ms=now_ms)
    if found is not None and found.typed_at_ms > typed_at_ms:
        return
    _write(connection, person, key, Draft(None, typed_at_ms, found.version + 1 if found else 1), now_ms)


def _write(connection: sa.Connection, person: str, key: str, draft: Draft, now_ms: int) -> None:
    connection.execute(sa.delete(table).where(c.updated_at_ms <= now_ms - KEEP_MS))
    connection.execute(sa.delete(table).where(c.person == person, c.key == key))
    oldest = (
        sa.select(c.key)
        .where(c.person == person)
        .order_by(c.updated_at_ms.desc(), c.key)
        .offset(MAX_DRAFTS_PER_PERSON - 1)
    )
    surplus = list(connection.execute(oldest).scalars())
    if surplus:
        connection.execute(sa.delete(table).where(c.person == person, c.key.in_(surplus)))
    row = {"person": person, "key": key, "body": draft.body, "typed_at_ms": draft.typed_at_ms}
    connection.execute(sa.insert(table).values(row | {"version": draft.version, "updated_at_ms": now_ms}))
