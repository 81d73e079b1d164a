"""The store of incidents: the incident, its history and its outbox entry in one transaction.

Every function takes an open connection and never commits: the caller's transaction holds or falls as a whole.
No SQL here belongs to one database only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from governance import audit, cloudevents, lifecycle
from governance.finding import Colour, Finding, Kind
from governance.lifecycle import Action, Condition, Conflict, Effects, Entry, Incident, State, What
from governance.tables import incident as incidents_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_
from governance.tables import outbox
from sensors.errors import NotFound, Refused, StorageUnavailable
from sensors.texts import Text

AT_ONCE = 500
"""Findings handled by one set of statements."""

TRIES = 5

PROVISIONAL = 2**40
"""Above every number the database gives: an incident not stored yet sorts as the newest, as it will be."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event put into the outbox: the incident, the event's id, and the finding behind it (None: a person)."""

    incident_id: int
    event_id: str
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of some findings: how many opened an incident, changed one, or changed nothing.

    ``ids`` are the incidents touched, each once, in the order they were first touched; ``told`` what of it goes out.
    """

    opened: int = 0
    updated: int = 0
    unchanged: int = 0
    ids: tuple[int, ...] = ()
    told: tuple[Told, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is something to deliver now."""
        return bool(self.ids)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many incidents there are: by state, open live ones by colour, open retrospective ones."""

    by_state: Mapping[State, int]
    open_by_colour: Mapping[Colour, int]
    open_retrospective: int


@dataclass(frozen=True, slots=True)
class _Changed:
    """One change still to be written; ``key`` is the incident's id, from ``PROVISIONAL`` on while it has none."""

    key: int
    incident: Incident
    effects: Effects
    finding: Finding | None


def record(connection: sa.Connection, findings: Sequence[Finding], now_ms: int, *, source: str) -> Recorded:
    """Turn findings into incidents, in the order given; no findings, no statement.

    A finding recorded before, by this worker or another, changes nothing. ``source`` is the CloudEvents source.
    Raises StorageUnavailable when other workers keep getting in between; nothing has been written then.
    """
    total = Recorded()
    for start in range(0, len(findings), AT_ONCE):
        part = _record(connection, findings[start : start + AT_ONCE], now_ms, source)
        total = Recorded(
            total.opened + part.opened,
            total.updated + part.updated,
            total.unchanged + part.unchanged,
            tuple(dict.fromkeys(total.ids + part.ids)),
            total.told + part.told,
        )
    return total


def act(
    connection: sa.Connection,
    incident_id: int,
    action: Action | str,
    *,
    by: str,
    comment: str | None,
    now_ms: int,
    expected_version: int | None = None,
    source: str,
) -> Incident:
    """Apply what a person does and return the incident after it.

    Raises NotFound, Refused (unknown or forbidden action, missing name or comment) and Conflict when
    ``expected_version`` is given and is not the incident's.
    """
    before = _one(connection, incident_id, lock=True)
    try:
        wanted = Action(action)
    except ValueError:
        allowed = lifecycle.labels(lifecycle.allowed(before))
        raise Refused(lifecycle.sentence("incident.unknown_action", action=action, allowed=allowed)) from None
    if expected_version is not None and expected_version != before.version:
        raise Conflict(
            lifecycle.sentence("incident.changed", id=incident_id, version=before.version, expected=expected_version)
        )
    after, effects = lifecycle.act(before, wanted, by=by, comment=comment, now_ms=now_ms)
    _write(connection, {before.id: before}, [_Changed(before.id, after, effects, None)], now_ms, source)
    return after


def get(connection: sa.Connection, incident_id: int) -> Incident:
    """The incident of this number; raises NotFound."""
    return _one(connection, incident_id, lock=False)


def history(connection: sa.Connection, incident_id: int) -> list[Entry]:
    """Everything that happened to an incident, oldest first; raises NotFound."""
    query = sa.select(entries_).where(entries_.c.incident_id == incident_id).order_by(entries_.c.seq)
    rows = connection.execute(query).mappings().all() if 0 < incident_id < 2**31 else []
    if not rows:
        raise NotFound(lifecycle.sentence("incident.unknown", id=incident_id))
    return [
        Entry(
            seq=row["seq"],
            at_ms=row["at_ms"],
            observed_at_ms=row["observed_at_ms"],
            what=What(row["what"]),
            by=row["by"],
            from_state=None if row["from_state"] is None else State(row["from_state"]),
            to_state=State(row["to_state"]),
            text=Text(row["text_zh"], row["text_en"]),
            finding_id=row["finding_id"],
            comment=row["comment"],
            value=row["value"],
            limit=row["limit_value"],
        )
        for row in rows
    ]


def list_incidents(
    connection: sa.Connection,
    *,
    state: State | None = None,
    open_only: bool = False,
    station: str | None = None,
    retrospective: bool | None = None,
    limit: int,
    before_id: int | None = None,
) -> list[Incident]:
    """At most ``limit`` incidents, newest first; the next page begins with ``before_id`` = the last one's id.

    ``station`` finds every incident in which that station has or had a condition, not only those it opened.
    """
    query = sa.select(incidents_).order_by(incidents_.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(incidents_.c.state == state.value)
    if open_only:
        query = query.where(incidents_.c.open_cause.is_not(None))
    if station is not None:
        there = sa.select(conditions_.c.incident_id).where(conditions_.c.station == station)
        query = query.where(incidents_.c.id.in_(there))
    if retrospective is not None:
        query = query.where(incidents_.c.retrospective == retrospective)
    if before_id is not None:
        query = query.where(incidents_.c.id < before_id)
    return _load(connection, query)


def counts(connection: sa.Connection) -> Counts:
    """How many incidents there are now; states and colours without any count 0."""
    grouping = (incidents_.c.state, incidents_.c.colour, incidents_.c.retrospective)
    query = sa.select(*grouping, sa.func.count()).group_by(*grouping)
    by_state = dict.fromkeys(State, 0)
    by_colour = dict.fromkeys(Colour, 0)
    past = 0
    for state, colour, retrospective, number in connection.execute(query):
        by_state[State(state)] += number
        if State(state) is State.CLOSED:
            continue
        if retrospective:
            past += number
        else:
            by_colour[Colour(colour)] += number
    return Counts(by_state, by_colour, past)


def _record(connection: sa.Connection, findings: Sequence[Finding], now_ms: int, source: str) -> Recorded:
    looked = None
    for _ in range(TRIES):
        fresh = _unseen(connection, findings)
        if not fresh:
            return Recorded(unchanged=len(findings))
        before = _open_incidents(connection, sorted({f.cause for f in fresh}))
        changes, decided = _judge(before, fresh, now_ms)
        if not changes:
            return Recorded(unchanged=len(findings))
        try:
            with connection.begin_nested():
                told = _write(connection, before, changes, now_ms, source)
        except IntegrityError:
            if looked == (fresh, before):
                raise  # nobody came first: the rows themselves are wrong
            looked = (fresh, before)
            continue  # another worker opened the incident or recorded the finding first: read again what it wrote
        opened = sum(change.effects.entry.seq == 1 for change in changes)
        ids = tuple(dict.fromkeys(one.incident_id for one in told))
        return Recorded(opened, decided - opened, len(findings) - decided, ids, told)
    raise StorageUnavailable(f"{len(findings)} findings could not be recorded: other workers came first {TRIES} times")


def _unseen(connection: sa.Connection, findings: Sequence[Finding]) -> list[Finding]:
    """The findings no entry tells of yet, in the order given."""
    ids = [finding.id for finding in findings]
    query = sa.select(entries_.c.finding_id).where(entries_.c.finding_id.in_(ids))
    seen = set(connection.execute(query).scalars())
    return [finding for key, finding in zip(ids, findings, strict=True) if key not in seen]


def _open_incidents(connection: sa.Connection, causes: Sequence[str]) -> dict[int, Incident]:
    """The open incidents of these causes by id, locked until the transaction ends where the database can."""
    query = (
        sa.select(incidents_)
        .where(incidents_.c.cause.in_(causes), incidents_.c.open_cause.is_not(None))
        .order_by(incidents_.c.id)
        .with_for_update()
    )
    return {incident.id: incident for incident in _load(connection, query)}


def _judge(before: Mapping[int, Incident], findings: Sequence[Finding], now_ms: int) -> tuple[list[_Changed], int]:
    """The changes the findings make, in order, and how many findings made any; each finding makes its changes once."""
    book = dict(before)
    changes: list[_Changed] = []
    told: set[str] = set()
    for finding in findings:
        if finding.id in told:
            continue
        for target in lifecycle.concerned(book.values(), finding):
            step = lifecycle.advance(target, finding, now_ms)
            if step is None:
                continue
            after, effects = step
            if target is None:  # it gets its number from the database
                after = replace(after, id=PROVISIONAL + len(book))
            if finding.id in told:  # the finding's id stands once; the transaction carries its other entries
                effects = replace(effects, entry=replace(effects.entry, finding_id=None))
            book[after.id] = after
            changes.append(_Changed(after.id, after, effects, finding))
            told.add(finding.id)
    return changes, len(told)


def _write(
    connection: sa.Connection, before: Mapping[int, Incident], changes: Sequence[_Changed], now_ms: int, source: str
) -> tuple[Told, ...]:
    """Write incidents, conditions, history and outbox; returns the events that go out, in the order of the changes."""
    last = {change.key: change.incident for change in changes}
    ids: dict[int, int] = {}
    for key, incident in last.items():
        row = _incident_row(incident)
        if key in before:
            connection.execute(sa.update(incidents_).where(incidents_.c.id == key).values(row))
            ids[key] = key
        else:
            insert = sa.insert(incidents_).values(row).returning(incidents_.c.id)
            ids[key] = connection.execute(insert).scalar_one()
    entries: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    told: list[Told] = []
    touched: dict[tuple[int, tuple[str, str, str]], Condition] = {}
    for change in changes:
        incident_id = ids[change.key]
        event = cloudevents.build(
            replace(change.incident, id=incident_id), change.effects, source=source, finding=change.finding
        )
        entries.append(_entry_row(incident_id, change.effects.entry))
        events.append(_outbox_row(incident_id, event, change.effects, now_ms))
        told.append(Told(incident_id, event.id, change.finding))
        if change.effects.condition is not None:
            touched[change.key, change.effects.condition.key] = change.effects.condition
    new: list[dict[str, Any]] = []
    for (key, condition_key), condition in touched.items():
        row = _condition_row(ids[key], condition)
        if key in before and any(c.key == condition_key for c in before[key].conditions):
            columns = ("incident_id", "rule", "station", "parameter")
            same = sa.and_(*(conditions_.c[name] == row[name] for name in columns))
            connection.execute(sa.update(conditions_).where(same).values(row))
        else:
            new.append(row)
    for table, rows in ((conditions_, new), (entries_, entries), (outbox, events)):
        if rows:
            connection.execute(sa.insert(table), rows)
    audit.append_many(connection, [_trail(ids[change.key], change) for change in changes])
    return tuple(told)


def _trail(incident_id: int, change: _Changed) -> audit.New:
    """What the trail keeps of a change: the entry, the incident after it, and the conditions it touched."""
    entry, condition = change.effects.entry, change.effects.condition
    body = {
        "entry": _entry_row(incident_id, entry),
        "incident": _incident_row(change.incident),
        "conditions": [] if condition is None else [_condition_row(incident_id, condition)],
    }
    role = "" if entry.observed_at_ms is None else "rule"
    return audit.New(f"incident.{entry.what}", "incident", incident_id, body, entry.by, entry.at_ms, role)


def _one(connection: sa.Connection, incident_id: int, *, lock: bool) -> Incident:
    query = sa.select(incidents_).where(incidents_.c.id == incident_id)
    found = _load(connection, query.with_for_update() if lock else query) if 0 < incident_id < 2**31 else []
    if not found:
        raise NotFound(lifecycle.sentence("incident.unknown", id=incident_id))
    return found[0]


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[Incident]:
    """The incidents a query over the incident table finds, with their conditions, in the query's order."""
    rows = connection.execute(query).mappings().all()
    conditions = _conditions(connection, [row["id"] for row in rows])
    return [
        Incident(
            id=row["id"],
            cause=row["cause"],
            open_cause=row["open_cause"],
            state=State(row["state"]),
            colour=Colour(row["colour"]),
            kind=Kind(row["kind"]),
            retrospective=row["retrospective"],
            station=row["station"],
            parameter=row["parameter"],
            title=Text(row["title_zh"], row["title_en"]),
            rule=row["rule"],
            rule_version=row["rule_version"],
            value=row["value"],
            limit=row["limit_value"],
            observed_at_ms=row["observed_at_ms"],
            since_ms=row["since_ms"],
            last_observed_at_ms=row["last_observed_at_ms"],
            opened_at_ms=row["opened_at_ms"],
            acknowledged_at_ms=row["acknowledged_at_ms"],
            acknowledged_by=row["acknowledged_by"],
            recovered_at_ms=row["recovered_at_ms"],
            closed_at_ms=row["closed_at_ms"],
            version=row["version"],
            conditions=tuple(conditions.get(row["id"], ())),
        )
        for row in rows
    ]


def _conditions(connection: sa.Connection, ids: Iterable[int]) -> dict[int, list[Condition]]:
    wanted = list(ids)
    found: dict[int, list[Condition]] = {}
    if not wanted:
        return found
    c = conditions_.c
    query = sa.select(conditions_).where(c.incident_id.in_(wanted)).order_by(c.rule, c.station, c.parameter)
    for row in connection.execute(query).mappings():
        condition = Condition(
            rule=row["rule"],
            station=row["station"],
            parameter=row["parameter"],
            since_ms=row["since_ms"],
            fired_at_ms=row["fired_at_ms"],
            resolved_at_ms=row["resolved_at_ms"],
        )
        found.setdefault(row["incident_id"], []).append(condition)
    return found


def _incident_row(incident: Incident) -> dict[str, Any]:
    return {
        "cause": incident.cause,
        "open_cause": incident.open_cause,
        "state": incident.state.value,
        "colour": incident.colour.value,
        "kind": incident.kind.value,
        "retrospective": incident.retrospective,
        "station": incident.station,
        "parameter": incident.parameter,
        "title_zh": incident.title.zh,
        "title_en": incident.title.en,
        "rule": incident.rule,
        "rule_version": incident.rule_version,
        "value": incident.value,
        "limit_value": incident.limit,
        "observed_at_ms": incident.observed_at_ms,
        "since_ms": incident.since_ms,
        "last_observed_at_ms": incident.last_observed_at_ms,
        "opened_at_ms": incident.opened_at_ms,
        "acknowledged_at_ms": incident.acknowledged_at_ms,
        "acknowledged_by": incident.acknowledged_by,
        "recovered_at_ms": incident.recovered_at_ms,
        "closed_at_ms": incident.closed_at_ms,
        "version": incident.version,
    }


def _condition_row(incident_id: int, condition: Condition) -> dict[str, Any]:
    return {
        "incident_id": incident_id,
        "rule": condition.rule,
        "station": condition.station,
        "parameter": condition.parameter,
        "since_ms": condition.since_ms,
        "fired_at_ms": condition.fired_at_ms,
        "resolved_at_ms": condition.resolved_at_ms,
    }


def _entry_row(incident_id: int, entry: Entry) -> dict[str, Any]:
    return {
        "incident_id": incident_id,
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "observed_at_ms": entry.observed_at_ms,
        "what": entry.what.value,
        "by": entry.by,
        "from_state": None if entry.from_state is None else entry.from_state.value,
        "to_state": entry.to_state.value,
        "finding_id": entry.finding_id,
        "comment": entry.comment,
        "text_zh": entry.text.zh,
        "text_en": entry.text.en,
        "value": entry.value,
        "limit_value": entry.limit,
    }


def _outbox_row(incident_id: int, event: cloudevents.Event, effects: Effects, now_ms: int) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "incident_id": incident_id,
        "type": event.type,
        "body": event.body,
        "notify": effects.notify.value,
        "created_at_ms": now_ms,
        "pending_since_ms": now_ms,
        "next_attempt_at_ms": now_ms,
        "attempts": 0,
        "status": "pending",
    }
