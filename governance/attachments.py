"""What is attached to cases: the file lies in the folder of the photos under its hash, who brought it stands here."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from governance.database import insert_many
from governance.tables import attachment as table
from sensors.errors import NotFound
from sensors.texts import sentence


@dataclass(frozen=True, slots=True)
class Attachment:
    """``id`` is the SHA-256 of the bytes in hex; ``at_ms`` when it came. Brought twice, the first bringer stays."""

    id: str
    media_type: str
    bytes: int
    width: int
    height: int
    name: str
    by: str
    at_ms: int


def add(connection: sa.Connection, made: Attachment) -> Attachment:
    """Keep it; what is there already stays as it is and is returned."""
    columns = ", ".join(f'"{name}"' for name in made.__slots__)
    row = tuple(getattr(made, name) for name in made.__slots__)
    insert_many(connection, f"INSERT INTO attachment ({columns})", [row], "ON CONFLICT (id) DO NOTHING")
    return Attachment(**connection.execute(sa.select(table).where(table.c.id == made.id)).mappings().one())


def known(connection: sa.Connection, ids: Sequence[str]) -> list[Attachment]:
    """Those of these ids that somebody brought, each once, in their order."""
    rows = connection.execute(sa.select(table).where(table.c.id.in_(ids))).mappings()
    found = {row["id"]: Attachment(**row) for row in rows}
    return [found[one] for one in dict.fromkeys(ids) if one in found]


def get(connection: sa.Connection, ids: Sequence[str]) -> list[Attachment]:
    """Those with these ids, in their order. Raises NotFound, naming the first that nobody brought."""
    found = known(connection, ids)
    here = {one.id for one in found}
    for one in ids:
        if one not in here:
            raise NotFound(sentence("attachment.unknown", id=one[:80]))
    return found
