"""Store of attachments: who uploaded which file, and to which incidents it is attached.

The file itself is in the folder of photos, named by its hash. An attachment is visible to who uploaded it, and to who
may see an incident that it is attached to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from governance.organisation.roles import Actor
from governance.tables import attachment as table
from governance.tables import attachment_incident as uses
from governance.tables import incident as incidents_
from infra.database import insert_many
from infra.errors import NotFound
from infra.texts import say


@dataclass(frozen=True, slots=True)
class Attachment:
    """``id`` is the SHA-256 of the bytes in hex, ``by`` who uploaded it and ``at_ms`` when."""

    id: str
    media_type: str
    bytes: int
    width: int
    height: int
    name: str
    by: str
    at_ms: int


def add(connection: sa.Connection, made: Attachment) -> Attachment:
    """Store an upload; an earlier one of the same person and content is returned unchanged."""
    columns = ", ".join(f'"{name}"' for name in made.__slots__)
    row = tuple(getattr(made, name) for name in made.__slots__)
    insert_many(connection, f"INSERT INTO attachment ({columns})", [row], 'ON CONFLICT (id, "by") DO NOTHING')
    where = (table.c.id == made.id) & (table.c.by == made.by)
    return Attachment(**connection.execute(sa.select(table).where(where)).mappings().one())


def attach(connection: sa.Connection, used: Collection[tuple[str, int]]) -> None:
    """Store which (attachment, incident) belong together; pairs stored before stay."""
    into = "INSERT INTO attachment_incident (attachment_id, incident_id)"
    insert_many(connection, into, sorted(used), "ON CONFLICT (attachment_id, incident_id) DO NOTHING")


def find(connection: sa.Connection, ids: Sequence[str], by: Collection[str] = ()) -> list[Attachment]:
    """The uploads with these ids, each once, in their order; of several uploads the first of ``by``."""
    rows = connection.execute(sa.select(table).where(table.c.id.in_(ids)).order_by(table.c.at_ms)).mappings()
    found: dict[str, Attachment] = {}
    for row in rows:
        before = found.get(row["id"])
        if before is None or (row["by"] in by and before.by not in by):
            found[row["id"]] = Attachment(**row)
    return [found[one] for one in dict.fromkeys(ids) if one in found]


def get(connection: sa.Connection, ids: Sequence[str], actor: Actor) -> list[Attachment]:
    """Those with these ids, in their order. Raises NotFound, naming the first that is not there for ``actor``."""
    found = find(connection, ids, (actor.name,))
    here = {one.id for one in found if actor.regions is None or one.by == actor.name}
    if len(here) < len(found):
        here |= _attached(connection, [one.id for one in found if one.id not in here], actor)
    for one in ids:
        if one not in here:
            raise NotFound(say("attachment.unknown", id=one[:80]))
    return found


def _attached(connection: sa.Connection, ids: Sequence[str], actor: Actor) -> set[str]:
    """Those of these ids that are attached to an incident the actor has access to."""
    c = incidents_.c
    query = (
        sa.select(uses.c.attachment_id, c.region, c.reach, c.responsible)
        .join(incidents_, c.id == uses.c.incident_id)
        .where(uses.c.attachment_id.in_(ids))
    )
    return {
        row.attachment_id
        for row in connection.execute(query)
        if actor.covers(row.region, row.reach) or actor.answers_for(row.responsible)
    }
