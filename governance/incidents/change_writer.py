"""Write changes of incidents: the incident, its conditions, its history, the outbox and the audit trail.

All of it belongs to the caller's transaction, which holds or falls as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents import attachments, cloudevents
from governance.incidents.finding import Finding
from governance.incidents.model import Condition, Effects, Incident
from governance.incidents.rows import condition_to_row, entry_to_row, incident_to_row
from governance.tables import incident as incidents_
from governance.tables import incident_cause as causes_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_
from governance.tables import outbox

UNSAVED_ID = 2**40
"""Numbers from here on stand for incidents not stored yet. They are above every number the database gives, so that
such an incident sorts as the newest, as it will be."""


@dataclass(frozen=True, slots=True)
class EnqueuedEvent:
    """One event put into the outbox: the incident, the event's id, and the finding behind it (None: a person)."""

    incident_id: int
    event_id: str
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """One change still to be written; ``key`` is the incident's number, from ``UNSAVED_ID`` on while it has none.

    ``incident`` is the incident after it, ``finding`` what changed it (None: a person).
    """

    key: int
    incident: Incident
    effects: Effects
    finding: Finding | None = None


def write(
    connection: sa.Connection,
    before: Mapping[int, Incident],
    changes: Sequence[IncidentChange],
    now_ms: int,
    source: str,
) -> tuple[EnqueuedEvent, ...]:
    """Write changes and their entries of the audit trail; the events that go out, in the order of the changes.

    ``before`` are the incidents as they stand in the database, by number; ``source`` is the CloudEvents source.
    """
    enqueued, audit_entries = write_without_audit(connection, before, changes, now_ms, source)
    audit_trail.append_many(connection, audit_entries)
    return enqueued


def write_without_audit(
    connection: sa.Connection,
    before: Mapping[int, Incident],
    changes: Sequence[IncidentChange],
    now_ms: int,
    source: str,
) -> tuple[tuple[EnqueuedEvent, ...], list[audit_trail.NewEntry]]:
    """`write`, except that the entries of the audit trail are returned: the caller appends them last."""
    ids = _write_incidents(connection, before, changes)
    _delete_conditions(connection, changes, ids)
    _insert_causes(connection, before, changes, ids)
    _write_conditions(connection, before, changes, ids)
    enqueued, events = [], []
    for change in changes:
        number = ids[change.key]
        incident = replace(change.incident, id=number)
        event = cloudevents.build(incident, change.effects, source=source, finding=change.finding)
        enqueued.append(EnqueuedEvent(number, event.id, change.finding))
        events.append(_outbox_row(number, event, change.effects, now_ms))
    entries = [entry_to_row(ids[change.key], change.effects.entry) for change in changes]
    if changes:
        connection.execute(sa.insert(entries_), entries)
        connection.execute(sa.insert(outbox), events)
    attachments.attach(connection, {(one, row["incident_id"]) for row in entries for one in row["attachments"]})
    return tuple(enqueued), [_audit_entry(ids[change.key], change) for change in changes]


def _write_incidents(
    connection: sa.Connection, before: Mapping[int, Incident], changes: Iterable[IncidentChange]
) -> dict[int, int]:
    """Write each incident as its last change leaves it; the numbers in the database by key."""
    ids: dict[int, int] = {}
    for key, incident in _last(changes).items():
        row = incident_to_row(incident)
        if key in before:
            connection.execute(sa.update(incidents_).where(incidents_.c.id == key).values(row))
            ids[key] = key
        else:
            insert = sa.insert(incidents_).values(row).returning(incidents_.c.id)
            ids[key] = connection.execute(insert).scalar_one()
    return ids


def _last(changes: Iterable[IncidentChange]) -> dict[int, Incident]:
    return {change.key: change.incident for change in changes}


def _delete_conditions(connection: sa.Connection, changes: Iterable[IncidentChange], ids: Mapping[int, int]) -> None:
    """Delete the conditions that were split off."""
    for change in changes:
        for rule, station, parameter in change.effects.gone:
            removed = {"incident_id": ids[change.key], "rule": rule, "station": station, "parameter": parameter}
            connection.execute(sa.delete(conditions_).where(_same_condition(removed)))


def _same_condition(row: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(conditions_.c[name] == row[name] for name in ("incident_id", "rule", "station", "parameter")))


def _insert_causes(
    connection: sa.Connection, before: Mapping[int, Incident], changes: Iterable[IncidentChange], ids: Mapping[int, int]
) -> None:
    """Insert the causes that incidents take beside their own since these changes."""
    for key, incident in _last(changes).items():
        stored = before[key].case.also if key in before else ()
        fresh = [{"incident_id": ids[key], "cause": cause} for cause in incident.case.also if cause not in stored]
        if fresh:
            connection.execute(sa.insert(causes_), fresh)


def _write_conditions(
    connection: sa.Connection, before: Mapping[int, Incident], changes: Iterable[IncidentChange], ids: Mapping[int, int]
) -> None:
    """Write each condition touched as the last change leaves it."""
    touched: dict[tuple[int, tuple[str, str, str]], Condition] = {}
    for change in changes:
        for condition in change.effects.conditions:
            touched[change.key, condition.key] = condition
    new: list[dict[str, Any]] = []
    for (key, condition_key), condition in touched.items():
        row = condition_to_row(ids[key], condition)
        if key in before and any(c.key == condition_key for c in before[key].conditions):
            connection.execute(sa.update(conditions_).where(_same_condition(row)).values(row))
        else:
            new.append(row)
    if new:
        connection.execute(sa.insert(conditions_), new)


def _audit_entry(incident_id: int, change: IncidentChange) -> audit_trail.NewEntry:
    """What the trail keeps of a change: the entry, the incident after it, the conditions touched and taken out."""
    entry, effects = change.effects.entry, change.effects
    body = {
        "entry": entry_to_row(incident_id, entry),
        "incident": incident_to_row(change.incident),
        "conditions": [condition_to_row(incident_id, condition) for condition in effects.conditions],
        "gone": [list(key) for key in effects.gone],
        "also": list(change.incident.case.also),
    }
    role = entry.role if entry.observed_at_ms is None else "rule"
    return audit_trail.NewEntry(f"incident.{entry.what}", "incident", incident_id, body, entry.by, entry.at_ms, role)


def _outbox_row(incident_id: int, event: cloudevents.Event, effects: Effects, now_ms: int) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "incident_id": incident_id,
        "type": event.type,
        "body": event.body,
        "notify": effects.notify.value,
        "repeats": effects.repeats,
        "created_at_ms": now_ms,
        "pending_since_ms": now_ms,
        "next_attempt_at_ms": now_ms,
        "attempts": 0,
        "status": "pending",
    }
