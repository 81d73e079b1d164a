"""Records that phones send from the field, each with what came of it, and the photos that belong to them.

A record is known by the id that the phone made: sent again, it is the same one. Never commits.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.reports.citizen_reports import lock_sender
from governance.tables import field_photo as photos_
from governance.tables import field_record as table
from infra.errors import NotFound
from infra.texts import Text, say


class Outcome(StrEnum):
    """What came of a record: in effect, against what somebody else did, not possible, or not yet."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    REFUSED = "refused"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class FieldRecord:
    """A record as it stands: ``body`` is the newest version, ``applied`` the one in effect where that is another.

    ``made`` names what it became, ``theirs`` what stands against it in a conflict. ``region`` and ``reach`` say within
    whose reach it is.
    """

    id: str
    person: str
    role: str
    phone: str | None
    kind: str
    version: int
    sha256: str
    body: Mapping[str, Any]
    station: str
    region: str
    reach: str
    recorded_at_ms: int | None
    received_at_ms: int
    outcome: Outcome
    message: Text
    made: Mapping[str, Any] = field(default_factory=dict)
    applied: Mapping[str, Any] | None = None
    theirs: Mapping[str, Any] | None = None
    decision: str = ""
    decided_by: str = ""
    decided_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FieldPhoto:
    """A photo that a record names: ``sha256`` as the phone has it, ``stored`` as it is kept (None: not here yet).

    ``original`` is what the camera wrote, of which the phone sent a small one before.
    """

    sha256: str
    stored: str | None = None
    taken_at_ms: int | None = None
    used: bool = False
    original: str | None = None


def lock(connection: sa.Connection, record_id: str) -> None:
    """One at a time for each record, until the transaction ends."""
    lock_sender(connection, f"field {record_id}")


def find(connection: sa.Connection, record_id: str) -> FieldRecord | None:
    """The record of this id."""
    row = connection.execute(sa.select(table).where(table.c.id == record_id)).mappings().one_or_none()
    return None if row is None else _record(row)


def get(connection: sa.Connection, record_id: str) -> FieldRecord:
    """The record of this id; raises NotFound."""
    found = find(connection, record_id)
    if found is None:
        raise NotFound(say("field_server.no_record"))
    return found


def put(connection: sa.Connection, one: FieldRecord, what: str, *, by: str, at_ms: int) -> None:
    """Keep a record as it now stands, and tell the trail what happened (``received``, ``decided``, …)."""
    row = {name: getattr(one, name) for name in _COLUMNS} | {"message_zh": one.message.zh, "message_en": one.message.en}
    changed = connection.execute(sa.update(table).where(table.c.id == one.id).values(row)).rowcount
    if not changed:
        connection.execute(sa.insert(table).values(row))
    body = {
        "kind": one.kind,
        "version": one.version,
        "sha256": one.sha256,
        "outcome": one.outcome.value,
        "made": dict(one.made),
        "phone": one.phone,
        "station": one.station,
    }
    if one.decision:
        body["decision"] = one.decision
    audit_trail.append(
        connection, f"field_record.{what}", kind="field_record", id=one.id, body=body, by=by, at_ms=at_ms, role=one.role
    )


def listing(
    connection: sa.Connection,
    within: sa.ColumnElement[bool],
    outcomes: Collection[Outcome] = (),
    *,
    limit: int = 100,
    before: tuple[int, str] | None = None,
) -> list[FieldRecord]:
    """Records, the last received first; without ``outcomes`` all of them."""
    order = sa.tuple_(table.c.received_at_ms, table.c.id)
    query = sa.select(table).where(within).order_by(table.c.received_at_ms.desc(), table.c.id.desc()).limit(limit)
    if outcomes:
        query = query.where(table.c.outcome.in_([one.value for one in outcomes]))
    if before is not None:
        query = query.where(order < sa.tuple_(*before))
    return [_record(row) for row in connection.execute(query).mappings()]


def of_person(name: str) -> sa.ColumnElement[bool]:
    """The records of one person, for `listing`."""
    return table.c.person == name


def within(regions: Collection[str] | None, reaches: Collection[str], own: str) -> sa.ColumnElement[bool]:
    """The records within these regions (None: everywhere) or at these reaches, and one's own, for `listing`."""
    if regions is None:
        return sa.true()
    return table.c.region.in_(sorted(regions)) | table.c.reach.in_(sorted(reaches)) | (table.c.person == own)


def made_by(connection: sa.Connection, person: str, station: str, kind: str) -> list[FieldRecord]:
    """What one person recorded of one kind at a station."""
    where = (table.c.person == person) & (table.c.station == station) & (table.c.kind == kind)
    return [_record(row) for row in connection.execute(sa.select(table).where(where)).mappings()]


# -- photos ------------------------------------------------------------------------------------------------------------


def photos(connection: sa.Connection, record_id: str) -> list[FieldPhoto]:
    """The photos that belong to a record, named or here."""
    query = sa.select(photos_).where(photos_.c.record == record_id).order_by(photos_.c.taken_at_ms, photos_.c.sha256)
    return [
        FieldPhoto(**{name: getattr(row, name) for name in FieldPhoto.__slots__}) for row in connection.execute(query)
    ]


def originals(connection: sa.Connection, stored: Collection[str]) -> dict[str, tuple[str, str]]:
    """Of photos as they are kept, those whose original is here: the record and the hash that the phone knows."""
    query = sa.select(photos_).where(photos_.c.stored.in_(stored), photos_.c.original.is_not(None))
    return {row.stored: (row.record, row.sha256) for row in connection.execute(query)}


def missing(connection: sa.Connection, ids: Collection[str]) -> dict[str, list[str]]:
    """The photos that records name and that are not here, by record."""
    query = sa.select(photos_.c.record, photos_.c.sha256).where(photos_.c.record.in_(ids), photos_.c.stored.is_(None))
    found: dict[str, list[str]] = {}
    for record_id, sha256 in connection.execute(query.order_by(photos_.c.sha256)):
        found.setdefault(record_id, []).append(sha256)
    return found


def put_photo(connection: sa.Connection, record_id: str, photo: FieldPhoto) -> None:
    """Keep what is known of a photo of a record."""
    where = (photos_.c.record == record_id) & (photos_.c.sha256 == photo.sha256)
    row = {name: getattr(photo, name) for name in FieldPhoto.__slots__}
    if not connection.execute(sa.update(photos_).where(where).values(row)).rowcount:
        connection.execute(sa.insert(photos_).values(record=record_id, **row))


_COLUMNS = tuple(one.name for one in fields(FieldRecord) if one.name != "message")


def _record(row: sa.RowMapping) -> FieldRecord:
    values = {name: row[name] for name in _COLUMNS} | {"outcome": Outcome(row["outcome"])}
    return FieldRecord(**values, message=Text(row["message_zh"], row["message_en"]))
