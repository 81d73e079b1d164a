"""Compare the tables of cases, people, registry and rules with the audit trail, field by field.

The trail holds the state after every change: the entry of the history, the incident, the conditions touched, a person
with their terms. A change of those tables with SQL leaves the chain intact and shows here. What is older than the trail
is in no entry and is not compared.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.audit.merkle import AuditEntry
from governance.audit.trail import Fault, FaultKind, Verified
from governance.people import store as people_store
from governance.tables import audit as trail_
from governance.tables import incident as incidents_
from governance.tables import incident_cause as causes_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_
from governance.verification import registered

IDS_PER_QUERY = 200
"""Incidents whose rows are read with one set of statements."""

Row = Mapping[str, Any]
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a body raises that this program did not write."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not what the trail says.

    ``n`` is the entry of the trail (0: there is none), ``kind`` and ``id`` the thing it is about, ``part`` the row
    (``incident``, ``history 3``, ``condition rule/station/parameter``, ``causes``, ``person``, ``hash``), ``field`` its
    column ('' for the whole row). ``trail`` and ``found`` are both values as JSON; None where there is none.
    """

    n: int
    kind: str
    id: str
    part: str
    field: str = ""
    trail: str | None = None
    found: str | None = None

    def fault(self) -> Fault:
        """The difference as a fault of the trail."""
        what = f"{self.part} {self.field}".rstrip()
        entry = f"entry {self.n} says {self.trail}" if self.n else "no entry knows it"
        detail = f"{self.kind} {self.id}, {what}: the table says {self.found}, {entry}"
        return Fault(self.n, FaultKind.DIFFERS, self.n, detail)


@dataclass(slots=True)
class _Tables:
    """The rows of some incidents by number: incident, history by seq, conditions by key, causes."""

    incident: dict[int, Row] = field(default_factory=dict)
    history: dict[int, dict[int, Row]] = field(default_factory=dict)
    conditions: dict[int, dict[str, Row]] = field(default_factory=dict)
    causes: dict[int, list[str]] = field(default_factory=dict)


def of_incident(connection: sa.Connection, incident_id: int) -> list[Difference]:
    """Where an incident, its history and its conditions are not what the trail says, and entries of it whose hash does
    not fit; none for one that is older than the trail."""
    lines = audit_trail.entries_of(connection, "incident", incident_id)
    wrong = [line for line in lines if line.expected_hash() != line.hash]
    found = [Difference(line.n, "incident", line.id, "hash", "", line.expected_hash(), line.hash) for line in wrong]
    return [*found, *_incident(incident_id, lines, _read(connection, [incident_id]), _began(connection))]


def compare(connection: sa.Connection, found: Verified) -> None:
    """Compare cases, people, registry and rules with the trail; ``found`` gets the differences while it has room."""
    room = max(0, audit_trail.MAX_FAULTS - len(found.faults))
    for difference in islice(chain(_cases(connection), _people(connection), _registered(connection)), room):
        audit_trail.add_fault(found, difference.fault())
    found.faults.sort(key=lambda fault: (fault.n, fault.until))


# -- incidents ---------------------------------------------------------------------------------------------------------


def _cases(connection: sa.Connection) -> Iterator[Difference]:
    began_ms = _began(connection)
    query = sa.select(trail_.c.subject).where(trail_.c.kind == "incident").distinct()
    ids = {number for subject in connection.execute(query).scalars() if (number := _number(subject)) is not None}
    since = sa.select(incidents_.c.id).where(incidents_.c.opened_at_ms >= began_ms)
    ids |= set(connection.execute(since).scalars())
    ordered = sorted(ids)
    for start in range(0, len(ordered), IDS_PER_QUERY):
        numbers = ordered[start : start + IDS_PER_QUERY]
        tables = _read(connection, numbers)
        where = (trail_.c.kind == "incident") & trail_.c.subject.in_([str(number) for number in numbers])
        lines = sorted(audit_trail.select_entries(connection, where), key=lambda line: (int(line.id), line.n))
        by_number = {int(subject): list(some) for subject, some in groupby(lines, key=lambda line: line.id)}
        for number in numbers:
            yield from _incident(number, by_number.get(number, []), tables, began_ms)


def _number(subject: str) -> int | None:
    return int(subject) if subject.isascii() and subject.isdecimal() and len(subject) < 10 else None


def _read(connection: sa.Connection, numbers: Sequence[int]) -> _Tables:
    tables = _Tables()
    for row in connection.execute(sa.select(incidents_).where(incidents_.c.id.in_(numbers))).mappings():
        tables.incident[row["id"]] = dict(row)
    for row in connection.execute(sa.select(entries_).where(entries_.c.incident_id.in_(numbers))).mappings():
        tables.history.setdefault(row["incident_id"], {})[row["seq"]] = dict(row)
    for row in connection.execute(sa.select(conditions_).where(conditions_.c.incident_id.in_(numbers))).mappings():
        tables.conditions.setdefault(row["incident_id"], {})[_key(dict(row))] = dict(row)
    for row in connection.execute(sa.select(causes_).where(causes_.c.incident_id.in_(numbers))).mappings():
        tables.causes.setdefault(row["incident_id"], []).append(row["cause"])
    return tables


@dataclass(slots=True)
class _Recorded:
    """An incident as the entries of the trail leave it; rows come with the number of their entry."""

    n: int = 0
    incident: Row = field(default_factory=dict)
    also: Sequence[str] = ()
    conditions: dict[str, tuple[int, Row]] = field(default_factory=dict)
    complete: bool = False
    """Whether the trail has it from its first entry."""

    def apply(self, n: int, body: Mapping[str, Any]) -> None:
        """Apply the body of an entry."""
        for removed in body["gone"]:
            self.conditions.pop("/".join(removed), None)
        self.conditions |= {_key(one): (n, one) for one in body["conditions"]}
        self.n, self.incident, self.also = n, body["incident"], body["also"]


def _incident(number: int, lines: Sequence[AuditEntry], tables: _Tables, began_ms: int) -> Iterator[Difference]:
    row = tables.incident.get(number)
    history = dict(tables.history.get(number, {}))
    if not lines and (row is None or row["opened_at_ms"] < began_ms):
        return
    recorded = _Recorded()
    for line in lines:
        try:
            body = json.loads(line.body)
            entry = body["entry"]
            recorded.complete = recorded.complete or entry["seq"] == 1
            part, there = f"history {entry['seq']}", history.pop(entry["seq"], None)
            yield from _fields(line.n, "incident", line.id, part, entry, there)
            recorded.apply(line.n, body)
        except _UNREADABLE:
            yield Difference(line.n, "incident", line.id, "body", "", None, _json(line.body))
    name = str(number)
    yield from _fields(recorded.n, "incident", name, "incident", recorded.incident, row)
    yield from _conditions_and_causes(number, recorded, tables)
    for seq, unknown in history.items():
        if unknown["at_ms"] >= began_ms:
            yield Difference(0, "incident", name, f"history {seq}", found="a row")


def _conditions_and_causes(number: int, recorded: _Recorded, tables: _Tables) -> Iterator[Difference]:
    name, conditions = str(number), tables.conditions.get(number, {})
    for key, (n, condition) in recorded.conditions.items():
        yield from _fields(n, "incident", name, f"condition {key}", condition, conditions.get(key))
    if not recorded.complete:
        return
    for key in conditions.keys() - recorded.conditions.keys():
        yield Difference(0, "incident", name, f"condition {key}", found="a row")
    causes = tables.causes.get(number, [])
    if sorted(recorded.also) != sorted(causes):
        expected, found = _json(sorted(recorded.also)), _json(sorted(causes))
        yield Difference(recorded.n, "incident", name, "causes", "", expected, found)


def _key(condition: Row) -> str:
    return "/".join((condition["rule"], condition["station"], condition["parameter"]))


# -- people ------------------------------------------------------------------------------------------------------------


def _people(connection: sa.Connection) -> Iterator[Difference]:
    recorded: dict[str, tuple[int, Row]] = {}
    for line in audit_trail.select_entries(connection, trail_.c.kind == "person"):
        try:
            body = json.loads(line.body)
            states = body.get("people") or ({line.id: body} if line.what == "person.added" else {})
            recorded |= {name: (line.n, dict(state)) for name, state in states.items()}
        except _UNREADABLE:
            yield Difference(line.n, "person", line.id, "body", "", None, _json(line.body))
    stored = people_store.read_states(connection)
    for name, (n, state) in recorded.items():
        yield from _fields(n, "person", name, "person", state, stored.get(name))
    for name in stored.keys() - recorded.keys():
        yield Difference(0, "person", name, "person", found="a row")


def _registered(connection: sa.Connection) -> Iterator[Difference]:
    for n, kind, id, recorded, row in registered.rows(connection):
        if n and not recorded:  # removed, by the trail
            yield Difference(n, kind, id, "row", "", None, "a row")
        else:
            yield from _fields(n, kind, id, "row", recorded, row)


# -- values ------------------------------------------------------------------------------------------------------------


def _fields(n: int, kind: str, id: str, part: str, recorded: Row, row: Row | None) -> Iterator[Difference]:
    """The fields of the trail that the row has otherwise; the row itself where it is missing or unknown."""
    if row is None:
        yield Difference(n, kind, id, part, "", "a row", None)
    elif not n:
        yield Difference(n, kind, id, part, "", None, "a row")
    else:
        for name in recorded:
            if name not in row or _are_equal(recorded[name], row[name]):
                continue
            if (trail := _json(recorded[name])) != (found := _json(row[name])):
                yield Difference(n, kind, id, part, name, trail, found)


def _are_equal(one: object, other: object) -> bool:
    """Whether two plain values are equal without being written as JSON; False leaves it open."""
    return type(one) is type(other) and isinstance(one, str | int | None) and one == other


def _json(value: object) -> str:
    """A value as the trail writes it."""
    return audit_trail.canonical({"": value})[4:-1]


def _began(connection: sa.Connection) -> int:
    """When the trail began, ms UTC; the end of time where it has no entry."""
    first = connection.execute(sa.select(trail_.c.at_ms).order_by(trail_.c.n).limit(1)).scalar()
    return 2**63 - 1 if first is None else int(first)


def as_json(differences: Iterable[Difference]) -> list[Mapping[str, object]]:
    """Differences as JSON."""
    names = ("n", "part", "field", "trail", "found")
    return [{name: getattr(one, name) for name in names} for one in differences]
