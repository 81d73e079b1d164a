"""Photos of handled problems that the public sees: released one by one by the office, taken back at any time.

What is shown is a small copy without metadata, under a random name. A release holds for the case as it was closed: once
it is opened again, its photos are hidden, and after the next closing they are looked at anew.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents.file_content import small_copy
from governance.incidents.finding import FindingKind
from governance.incidents.model import Incident, State
from governance.organisation.roles import Actor
from governance.tables import incident as incidents_
from governance.tables import public_photo as table
from infra.errors import NotFound, Refused
from infra.texts import say

WIDEST, MOST_BYTES = 480, 18 * 1024
"""Longer side and size of a public copy: enough to recognise the place, and two of them fit into a page of 60 kB."""


class Side(StrEnum):
    """Whether a photo shows the place before or after the problem was handled."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class PublicPhoto:
    """A released photo: the name in its address, and which attachment it was made from."""

    name: str
    incident_id: int
    attachment_id: str
    side: Side
    at_ms: int
    by: str


def may_release(incident: Incident) -> bool:
    """Whether photos of a case can be released: somebody reported it, and it was handled and closed."""
    return incident.kind is FindingKind.REPORT and incident.state is State.CLOSED and incident.case.merged_into is None


def public_copy(data: bytes) -> bytes:
    """A small JPEG of a photo, turned as it is seen, without any metadata."""
    return small_copy(data, WIDEST, MOST_BYTES)


def released(connection: sa.Connection, numbers: Collection[int]) -> dict[int, list[PublicPhoto]]:
    """The photos of these cases that the public sees now, those from before first."""
    columns = [table.c[name] for name in PublicPhoto.__slots__]
    query = sa.select(*columns).join(incidents_, incidents_.c.id == table.c.incident_id)
    query = query.where(table.c.incident_id.in_(sorted(numbers)), _is_public())
    found: dict[int, list[PublicPhoto]] = {}
    for row in connection.execute(query.order_by(table.c.side.desc(), table.c.at_ms, table.c.name)).mappings():
        found.setdefault(row["incident_id"], []).append(PublicPhoto(**{**row, "side": Side(row["side"])}))
    return found


def get_picture(connection: sa.Connection, name: str) -> bytes:
    """The copy that is shown under a name. Raises NotFound, also of what was taken back."""
    query = sa.select(table.c.picture).join(incidents_, incidents_.c.id == table.c.incident_id)
    found = connection.execute(query.where(table.c.name == name, _is_public())).scalar()
    if found is None:
        raise NotFound(say("citizen.no_photo"))
    return bytes(found)


def newest_release(connection: sa.Connection, reach: str) -> int:
    """When photos of a handled problem of a reach were released last; 0 where none are shown."""
    query = sa.select(sa.func.max(table.c.at_ms)).join(incidents_, incidents_.c.id == table.c.incident_id)
    return connection.execute(query.where(incidents_.c.reach == reach, _is_public())).scalar() or 0


def set_released(
    connection: sa.Connection,
    incident: Incident,
    sides: Mapping[str, Side],
    copies: Mapping[str, bytes],
    actor: Actor,
    now_ms: int,
) -> None:
    """Let these photos, by the ids of their attachments, and no others of a case be public.

    ``copies`` are their public copies. Raises Refused for a case that is not handled.
    """
    shown = {one.attachment_id: one for one in released(connection, [incident.id]).get(incident.id, ())}
    before = {name: one.side for name, one in shown.items()}
    if before == dict(sides):
        return
    if sides and not may_release(incident):
        raise Refused(say("citizen.not_handled"))
    retained = [shown[name].name for name, side in sides.items() if before.get(name) == side]
    where = table.c.incident_id == incident.id
    connection.execute(sa.delete(table).where(where, table.c.name.not_in(retained)))
    rows = [
        {
            "name": secrets.token_urlsafe(12),
            "incident_id": incident.id,
            "attachment_id": name,
            "side": side.value,
            "at_ms": now_ms,
            "by": actor.name,
            "picture": copies[name],
        }
        for name, side in sides.items()
        if before.get(name) != side
    ]
    if rows:
        connection.execute(sa.insert(table), rows)
    audit_trail.append(
        connection,
        "public_photos.changed",
        kind="public_photos",
        id=incident.id,
        body={"before": before, "after": dict(sides)},
        by=actor.name,
        role=actor.role,
        at_ms=now_ms,
    )


def _is_public() -> sa.ColumnElement[bool]:
    """The case is handled, not merged into another one, and was not closed anew since the release."""
    c = incidents_.c
    return (c.state == State.CLOSED.value) & c.merged_into.is_(None) & (table.c.at_ms >= c.closed_at_ms)
