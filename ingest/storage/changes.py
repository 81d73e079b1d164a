"""Every change of the registry with who, when, old and new; running programs follow the registry by these numbers.

Each is an entry of the trail (`governance.audit.trail`) as well.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from infra.database import lock_inserts
from infra.records import from_row
from ingest.storage.tables import registry_change as table


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, when (ms UTC), and in which role where it is a person."""

    by: str = ""
    at_ms: int | None = None
    role: str = ""


UNKNOWN_AUTHOR = Author()


@dataclass(frozen=True, slots=True)
class Change:
    """One change; ``before`` is None for a new entry, ``at_ms`` None where it is unknown."""

    id: int
    what: str
    key: str
    by: str
    at_ms: int | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


def upsert(
    connection: sa.Connection,
    where: sa.Table,
    key: Mapping[str, object],
    values: Mapping[str, object],
    author: Author = UNKNOWN_AUTHOR,
) -> bool:
    """Insert or update a row and record the change; false where nothing differs."""
    row_is = sa.and_(*(where.c[name] == value for name, value in key.items()))
    stored = connection.execute(sa.select(*(where.c[name] for name in values)).where(row_is)).one_or_none()
    before = None if stored is None else dict(stored._mapping)
    after = json.loads(json.dumps(values))  # as it comes back: a tuple is a list
    if before == after:
        return False
    if before is None:
        connection.execute(sa.insert(where).values(**key, **values))
    else:
        connection.execute(sa.update(where).where(row_is).values(**values))
    named = "/".join(str(value) for value in key.values())
    record_change(connection, where.name, named, after, before=before, author=author)
    return True


def record_change(
    connection: sa.Connection,
    what: str,
    key: str,
    body: Mapping[str, object],
    *,
    before: Mapping[str, object] | None = None,
    author: Author = UNKNOWN_AUTHOR,
) -> None:
    """Record a change of this transaction here and in the audit trail; never a password."""
    lock_inserts(connection, table)  # or `fingerprint` could miss a change
    noted = {"what": what, "key": key, "body": dict(body), "before": before, "by": author.by, "at_ms": author.at_ms}
    connection.execute(sa.insert(table).values(**noted))
    at_ms = time.time_ns() // 1_000_000 if author.at_ms is None else author.at_ms
    change = {"before": before, "after": body}
    audit_trail.append(
        connection, f"registry.{what}", kind=what, id=key, body=change, by=author.by, at_ms=at_ms, role=author.role
    )


def lock_registry(connection: sa.Connection) -> None:
    """Lock the registry against changes of others until the end of the transaction."""
    lock_inserts(connection, table)


def fingerprint(connection: sa.Connection) -> int:
    """A number that changes with the registry; cheap enough to read every second."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one())


def listing(
    connection: sa.Connection,
    *,
    what: str | None = None,
    key: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[Change]:
    """Changes, newest first; ``key`` selects an entry and those below it (``key/…``)."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if what is not None:
        query = query.where(table.c.what == what)
    if key is not None:
        query = query.where((table.c.key == key) | table.c.key.startswith(f"{key}/", autoescape=True))
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return [from_row(Change, row, after=row.body) for row in connection.execute(query)]
