"""Store of incidents: record findings, apply what people and time do, read one and its history.

Every function takes an open connection and never commits: the caller's transaction holds or falls as a whole.
No SQL here belongs to one database only. What is written, and how, is in `governance.incidents.change_writer`; which
column is which field, in `governance.incidents.rows`; lists and counts are in `governance.incidents.queries`.
"""

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from governance.audit import trail as audit_trail
from governance.incidents import active_findings, clock_correction, corrections, from_findings, lifecycle, reminders
from governance.incidents.change_writer import UNSAVED_ID, IncidentChange, write, write_without_audit
from governance.incidents.change_writer import EnqueuedEvent as EnqueuedEvent  # noqa: PLC0414 - part of `Recorded`
from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.finding import Colour, ConditionChange, Finding
from governance.incidents.model import (
    Action,
    Condition,
    Conflict,
    Entry,
    Evidence,
    Incident,
    NotAllowedNow,
    Notify,
    Order,
    Source,
)
from governance.incidents.rows import condition_from_row, entry_from_row, incident_from_row
from governance.incidents.transition_effects import RegionName
from governance.organisation.regions import NOWHERE, Place
from governance.organisation.roles import Actor, Forbidden
from governance.tables import incident as incidents_
from governance.tables import incident_cause as causes_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_
from infra.errors import NotFound, Refused, StorageUnavailable
from infra.texts import same, say
from infra.times import DAY_MS, beijing

FINDINGS_PER_PART = 500
"""Findings handled by one set of statements."""

MAX_ATTEMPTS = 5
"""How often findings are recorded anew because another worker came first."""

Placing = Callable[[str], Place]
"""Tells where a station or gateway lies."""


def nowhere(_station: str) -> Place:
    """The `Placing` of who does not know where anything lies."""
    return NOWHERE


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of some findings: how many opened an incident, changed one, or changed nothing.

    ``ids`` are the incidents touched, each once, in the order they were first touched; ``enqueued`` are the events put
    into the outbox.
    """

    opened: int = 0
    updated: int = 0
    unchanged: int = 0
    ids: tuple[int, ...] = ()
    enqueued: tuple[EnqueuedEvent, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is something to deliver now."""
        return bool(self.ids)


def record_findings(
    connection: sa.Connection,
    findings: Sequence[Finding],
    now_ms: int,
    *,
    source: str,
    place: Placing = nowhere,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> Recorded:
    """Turn findings into incidents, in the order given; no findings, no statement.

    A finding recorded before, by this worker or another, changes nothing. ``source`` is the CloudEvents source,
    ``place`` tells where the station of a new incident lies, ``policy`` the deadlines.
    Raises StorageUnavailable when other workers keep getting in between; nothing has been written then.
    """
    total = Recorded()
    audit_entries: list[audit_trail.NewEntry] = []
    for some in _parts(findings):
        part = _record(connection, some, now_ms, source, place, policy, audit_entries)
        total = Recorded(
            total.opened + part.opened,
            total.updated + part.updated,
            total.unchanged + part.unchanged,
            tuple(dict.fromkeys(total.ids + part.ids)),
            total.enqueued + part.enqueued,
        )
    audit_trail.append_many(connection, audit_entries)  # last: others wait for who appends, who waits for nothing more
    return total


def _parts(findings: Sequence[Finding]) -> Iterator[list[Finding]]:
    """The findings in parts of at most FINDINGS_PER_PART; one that fires or is withdrawn again begins a new part.

    What is new is decided by what is stored, so that a firing and its withdrawal must not be decided together.
    """
    part: list[Finding] = []
    changed: set[tuple[str, str, str | None, int]] = set()
    for finding in findings:
        key = finding.rule, finding.station, finding.parameter, finding.observed_at_ms
        is_repeated = key in changed and finding.change is not ConditionChange.RESOLVED
        if is_repeated or len(part) == FINDINGS_PER_PART:
            yield part
            part, changed = [], set()
        part.append(finding)
        changed.add(key)
    if part:
        yield part


def apply_action(  # noqa: PLR0913  (what a caller may leave out stands in keywords)
    connection: sa.Connection,
    incident_id: int,
    order: Order,
    actor: Actor,
    *,
    now_ms: int,
    source: str,
    expected_version: int | None = None,
    policy: DeadlinePolicy = DEFAULT_POLICY,
    normal: Mapping[tuple[str, str, str], int] | None = None,
    needs: tuple[frozenset[Evidence], ...] | None = None,
    region_name: RegionName = same,
) -> Incident:
    """Apply what a person does and return the incident after it; see `lifecycle.apply_action`.

    Raises NotFound, Forbidden, NotAllowedNow, Refused, and Conflict when ``expected_version`` is given and is not the
    incident's.
    """
    ids = [incident_id] if order.into is None else sorted({incident_id, order.into})  # in order: no deadlock
    found = {number: _load_one(connection, number, lock=True) for number in ids}
    before = found[incident_id]
    if not lifecycle.in_jurisdiction(before, actor):  # before the version is disclosed
        raise Forbidden(lifecycle.outside_jurisdiction_text(before))
    if expected_version is not None and expected_version != before.version:
        raise Conflict(say("incident.changed", id=incident_id, version=before.version, expected=expected_version))
    if order.action is Action.MERGE:
        if order.into is None:
            raise Refused(say("incident.needs_into", id=incident_id))
        merged = lifecycle.merge(before, found[order.into], order, actor, now_ms)
        changes = [IncidentChange(incident.id, incident, effects) for incident, effects in merged]
    elif order.action is Action.SPLIT:
        changes = _split(connection, before, order, actor, now_ms, policy)
    else:
        apply = partial(
            lifecycle.apply_action,
            order=order,
            actor=actor,
            now_ms=now_ms,
            policy=policy,
            normal=normal,
            needs=needs,
            region_name=region_name,
        )
        after, effects = apply(before)
        if order.action is Action.REOPEN:
            _require_reopenable(connection, before, after, now_ms, policy)
        changes = []
        if elsewhere := lifecycle.active_elsewhere(before, order.action):
            comment = order.comment or after.state
            split_off = replace(order, action=Action.SPLIT, conditions=elsewhere, comment=comment)
            rest, new = _split(connection, before, split_off, actor, now_ms, policy)
            after, effects = apply(rest.incident)
            changes = [rest, replace(new, effects=replace(new.effects, notify=Notify.PAGE))]
        changes.append(IncidentChange(before.id, after, effects))
    write(connection, found, changes, now_ms, source)
    return [change.incident for change in changes if change.key == incident_id][-1]


def _split(
    connection: sa.Connection, before: Incident, order: Order, actor: Actor, now_ms: int, policy: DeadlinePolicy
) -> list[IncidentChange]:
    """The change of the incident that is split, and that of the new one."""
    firings = _firing_entries(connection, before.conditions)
    (rest, left), (new, right) = lifecycle.split(before, order, actor, now_ms, policy, firings)
    return [IncidentChange(rest.id, rest, left), IncidentChange(UNSAVED_ID, replace(new, id=UNSAVED_ID), right)]


def file_report(  # noqa: PLR0913  (what a caller may leave out stands in keywords)
    connection: sa.Connection,
    order: Order,
    actor: Actor,
    *,
    colour: Colour,
    origin: Source,
    place: Place,
    now_ms: int,
    source: str,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> Incident:
    """File a report as a new incident and return it. Raises Forbidden and Refused."""
    cause = f"report/{uuid.uuid4().hex}"
    made, effects = lifecycle.open_reported(
        order, actor, now_ms, cause=cause, colour=colour, source=origin, place=place, policy=policy
    )
    change = IncidentChange(UNSAVED_ID, replace(made, id=UNSAVED_ID), effects)
    (event,) = write(connection, {}, [change], now_ms, source)
    return replace(made, id=event.incident_id)


def apply_reminders(
    connection: sa.Connection,
    now_ms: int,
    *,
    up: Callable[[str], str],
    source: str,
    policy: DeadlinePolicy = DEFAULT_POLICY,
    limit: int = FINDINGS_PER_PART,
) -> list[int]:
    """Fire the reminders and escalations that are due; the incidents they were for, at most ``limit``.

    What fired and when it fires next are written in one transaction: a crash loses neither and repeats neither. What
    a clock ahead of the right one wrote is corrected first.
    """
    correct_clock(connection, now_ms, source=source, policy=policy, limit=limit)
    due = (incidents_.c.alert_at_ms <= now_ms) & incidents_.c.paused_at_ms.is_(None)
    unreported = incidents_.c.emergency_alert_at_ms <= now_ms
    query = sa.select(incidents_).where(due | unreported, incidents_.c.open_cause.is_not(None))
    first = sa.case((unreported, 0), else_=incidents_.c.alert_at_ms)
    query = query.order_by(first, incidents_.c.id).limit(limit).with_for_update(skip_locked=True)
    before = {incident.id: incident for incident in load(connection, query)}
    changes = []
    for incident in before.values():
        step = reminders.remind(incident, now_ms, up=up, policy=policy)
        if step is not None:
            changes.append(IncidentChange(incident.id, *step))
    if changes:
        write(connection, before, changes, now_ms, source)
    return [change.key for change in changes]


def correct_clock(
    connection: sa.Connection,
    now_ms: int,
    *,
    source: str,
    policy: DeadlinePolicy = DEFAULT_POLICY,
    limit: int = FINDINGS_PER_PART,
) -> list[int]:
    """Correct the deadlines that were written while the clock was ahead; the incidents, at most ``limit``."""
    most_ms = policy.emergencies.longest_ms
    i = incidents_.c
    ahead = i.step_since_ms > now_ms + clock_correction.SKEW_MS
    late = i.emergency_alert_at_ms > now_ms + most_ms + clock_correction.SKEW_MS
    query = sa.select(incidents_).where(i.open_cause.is_not(None), ahead | late).order_by(i.id).limit(limit)
    before = {incident.id: incident for incident in load(connection, query.with_for_update(skip_locked=True))}
    corrected = ((one.id, clock_correction.correct_clock(one, now_ms, most_ms)) for one in before.values())
    changes = [IncidentChange(number, *step) for number, step in corrected if step is not None]
    if changes:
        write(connection, before, changes, now_ms, source)
    return [change.key for change in changes]


def move(
    connection: sa.Connection, incident_id: int, place: Place, actor: Actor, *, now_ms: int, source: str
) -> Incident:
    """Correct where an open incident is. Whoever reported it may, wherever it lies by now: the caller knows that.

    Raises NotFound, Forbidden, Refused.
    """
    before = _load_one(connection, incident_id, lock=True)
    step = corrections.move(before, place, actor, now_ms)
    write(connection, {incident_id: before}, [IncidentChange(incident_id, *step)], now_ms, source)
    return step[0]


def correct_handling(  # noqa: PLR0913  (what a caller may leave out stands in keywords)
    connection: sa.Connection,
    incident_id: int,
    words: str,
    shown: tuple[str, ...],
    actor: Actor,
    *,
    undone: bool,
    now_ms: int,
    source: str,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> Incident:
    """Say anew how a case was handled, or take it back. Raises NotFound, Forbidden, and Refused once it is too late."""
    before = _load_one(connection, incident_id, lock=True)
    step = corrections.correct_handling(before, words, shown, actor, undone=undone, now_ms=now_ms, policy=policy)
    write(connection, {incident_id: before}, [IncidentChange(incident_id, *step)], now_ms, source)
    return step[0]


def in_hand(connection: sa.Connection, name: str, within: Callable[[Incident], bool]) -> list[int]:
    """The open cases of a person that `hand_over` would hand to another."""
    query = sa.select(incidents_).where(incidents_.c.responsible == name, incidents_.c.open_cause.is_not(None))
    return [incident.id for incident in load(connection, query.order_by(incidents_.c.id)) if within(incident)]


def hand_over(
    connection: sa.Connection,
    old: str,
    new: str,
    *,
    by: str,
    now_ms: int,
    source: str,
    within: Callable[[Incident], bool] = lambda _: True,
) -> list[int]:
    """Hand the open cases of one person to another; the incidents. ``within`` chooses among them."""
    query = sa.select(incidents_).where(incidents_.c.responsible == old, incidents_.c.open_cause.is_not(None))
    found = load(connection, query.order_by(incidents_.c.id).with_for_update())
    before = {incident.id: incident for incident in found if within(incident)}
    changes = [IncidentChange(i.id, *reminders.hand_over(i, new, by, now_ms)) for i in before.values()]
    if changes:
        write(connection, before, changes, now_ms, source)
    return list(before)


def _firing_entries(connection: sa.Connection, conditions: Iterable[Condition]) -> dict[tuple[str, str, str], Entry]:
    """The history entries of the newest firings, by condition, wherever they stand since a merge or a split."""
    ids = {
        id_: one.key
        for one in conditions
        for id_ in active_findings.ids_of(ConditionChange.FIRED, *one.key, one.fired_at_ms)
    }
    query = sa.select(entries_).where(entries_.c.finding_id.in_(list(ids))).order_by(entries_.c.id)
    return {ids[row["finding_id"]]: entry_from_row(row) for row in connection.execute(query).mappings()}


def _require_reopenable(
    connection: sa.Connection, before: Incident, after: Incident, now_ms: int, policy: DeadlinePolicy
) -> None:
    """Raises NotAllowedNow when it is too late, or the same cause is open again already."""
    ended = before.closed_at_ms or 0
    if now_ms - ended > policy.reopen_within_ms:
        days = policy.reopen_within_ms // DAY_MS
        raise NotAllowedNow(say("incident.too_late", id=before.id, days=days))
    query = sa.select(incidents_.c.id).where(incidents_.c.open_cause == after.open_cause)
    other = connection.execute(query).scalar()
    if other is not None:
        raise NotAllowedNow(say("incident.open_again", id=before.id, other=other))


def get(connection: sa.Connection, incident_id: int) -> Incident:
    """The incident of this number; raises NotFound."""
    return _load_one(connection, incident_id, lock=False)


def get_many(connection: sa.Connection, ids: Collection[int]) -> dict[int, Incident]:
    """The incidents of these numbers, by number; those that there are."""
    found = load(connection, sa.select(incidents_).where(incidents_.c.id.in_(sorted(ids)))) if ids else []
    return {incident.id: incident for incident in found}


def history(connection: sa.Connection, incident_id: int) -> list[Entry]:
    """Everything that happened to an incident, oldest first; raises NotFound."""
    query = sa.select(entries_).where(entries_.c.incident_id == incident_id).order_by(entries_.c.seq)
    rows = connection.execute(query).mappings().all() if 0 < incident_id < 2**31 else []
    if not rows:
        raise NotFound(say("incident.unknown", id=incident_id))
    return [entry_from_row(row) for row in rows]


def as_of(connection: sa.Connection, incident_id: int, at_ms: int) -> tuple[Incident, list[Entry]]:
    """An incident and its history as they stood at an instant, made from the trail's entries alone.

    Raises NotFound where the trail has no entry of it at that time; what happened before there was a trail is missing.
    """
    found = list(versions(connection, incident_id, until_ms=at_ms))
    if not found:
        raise NotFound(say("incident.unknown_then", id=incident_id, at=beijing(at_ms, "%Y-%m-%d %H:%M")))
    return found[-1][0], [entry for _, entry in found]


def versions(
    connection: sa.Connection, incident_id: int, *, until_ms: int | None = None
) -> Iterator[tuple[Incident, Entry]]:
    """An incident after each entry of its history, oldest first, made from the trail's entries alone."""
    conditions: dict[tuple[str, str, str], Condition] = {}
    for line in audit_trail.entries_of(connection, "incident", incident_id, until_ms=until_ms):
        body = json.loads(line.body)
        for rule, station, parameter in body["gone"]:
            conditions.pop((rule, station, parameter), None)
        for row in body["conditions"]:
            condition = condition_from_row(row)
            conditions[condition.key] = condition
        found = tuple(conditions[key] for key in sorted(conditions))
        incident = incident_from_row({**body["incident"], "id": incident_id}, found, tuple(body["also"]))
        yield incident, entry_from_row(body["entry"])


def _record(
    connection: sa.Connection,
    findings: Sequence[Finding],
    now_ms: int,
    source: str,
    place: Placing,
    policy: DeadlinePolicy,
    audit_entries: list[audit_trail.NewEntry],
) -> Recorded:
    """Record a part of the findings; what the audit trail keeps of it is added to ``audit_entries``."""
    last_seen = None
    for _ in range(MAX_ATTEMPTS):
        fresh = active_findings.new_findings(connection, findings)
        if not fresh:
            return Recorded(unchanged=len(findings))
        before = _open_incidents(connection, sorted({f.cause for f in fresh}))
        before |= _incidents_of_withdrawn(connection, [f for f in fresh if f.change is ConditionChange.WITHDRAWN])
        changes, decided = _changes_of(before, fresh, now_ms, place, policy)
        if not changes:
            return Recorded(unchanged=len(findings))
        try:
            with connection.begin_nested():
                events, more = write_without_audit(connection, before, changes, now_ms, source)
        except IntegrityError:
            if last_seen == (fresh, before):
                raise  # no concurrent writer: the rows themselves are wrong
            last_seen = (fresh, before)
            continue  # another worker opened the incident or recorded the finding first: read again what it wrote
        audit_entries += more
        opened = sum(change.effects.entry.seq == 1 for change in changes)
        ids = tuple(dict.fromkeys(event.incident_id for event in events))
        return Recorded(opened, decided - opened, len(findings) - decided, ids, events)
    raise StorageUnavailable(say("store.findings", count=len(findings), tries=MAX_ATTEMPTS))


def _open_incidents(connection: sa.Connection, causes: Sequence[str]) -> dict[int, Incident]:
    """The open incidents of these causes by id, locked until the transaction ends where the database can."""
    taken = sa.select(causes_.c.incident_id).where(causes_.c.cause.in_(causes))
    query = (
        sa.select(incidents_)
        .where(incidents_.c.cause.in_(causes) | incidents_.c.id.in_(taken), incidents_.c.open_cause.is_not(None))
        .order_by(incidents_.c.id)
        .with_for_update()
    )
    return {incident.id: incident for incident in load(connection, query)}


def _incidents_of_withdrawn(connection: sa.Connection, withdrawn: Sequence[Finding]) -> dict[int, Incident]:
    """The incidents, open or over, that may rest on withdrawn findings, by id, locked like the open ones."""
    if not withdrawn:
        return {}
    c, at = conditions_.c, [f.observed_at_ms for f in withdrawn]
    rules, stations = {f.rule for f in withdrawn}, {f.station for f in withdrawn}
    holding = sa.select(c.incident_id).where(c.rule.in_(sorted(rules)), c.station.in_(sorted(stations)))
    overlapping = (incidents_.c.since_ms <= max(at)) & (incidents_.c.last_observed_at_ms >= min(at))
    query = sa.select(incidents_).where(incidents_.c.id.in_(holding), overlapping).order_by(incidents_.c.id)
    return {incident.id: incident for incident in load(connection, query.with_for_update())}


def _changes_of(
    before: Mapping[int, Incident], findings: Sequence[Finding], now_ms: int, place: Placing, policy: DeadlinePolicy
) -> tuple[list[IncidentChange], int]:
    """The changes the findings make, in order, and how many findings made any; each finding makes its changes once."""
    current = dict(before)
    changes: list[IncidentChange] = []
    applied: set[str] = set()
    for finding in findings:
        if finding.id in applied:
            continue
        for target in from_findings.affected_incidents(current.values(), finding):
            where = NOWHERE if target is not None else place(finding.station)
            step = from_findings.apply_finding(target, finding, now_ms, place=where, policy=policy)
            if step is None:
                continue
            after, effects = step
            if target is None:  # it gets its number from the database
                after = replace(after, id=UNSAVED_ID + len(current))
            if finding.id in applied:  # the finding's id stands once; the transaction carries its other entries
                effects = replace(effects, entry=replace(effects.entry, finding_id=None))
            current[after.id] = after
            changes.append(IncidentChange(after.id, after, effects, finding))
            applied.add(finding.id)
    return changes, len(applied)


def _load_one(connection: sa.Connection, incident_id: int, *, lock: bool) -> Incident:
    query = sa.select(incidents_).where(incidents_.c.id == incident_id)
    found = load(connection, query.with_for_update() if lock else query) if 0 < incident_id < 2**31 else []
    if not found:
        raise NotFound(say("incident.unknown", id=incident_id))
    return found[0]


def load(connection: sa.Connection, query: sa.Select[Any]) -> list[Incident]:
    """The incidents a query over the incident table finds, with their conditions, in the query's order."""
    rows = connection.execute(query).mappings().all()
    numbers = [row["id"] for row in rows]
    conditions = _conditions(connection, numbers)
    causes = _other_causes(connection, numbers)
    return [incident_from_row(row, tuple(conditions.get(row["id"], ())), causes.get(row["id"], ())) for row in rows]


def _conditions(connection: sa.Connection, ids: Iterable[int]) -> dict[int, list[Condition]]:
    wanted = list(ids)
    found: dict[int, list[Condition]] = {}
    if not wanted:
        return found
    c = conditions_.c
    query = sa.select(conditions_).where(c.incident_id.in_(wanted)).order_by(c.rule, c.station, c.parameter)
    for row in connection.execute(query).mappings():
        found.setdefault(row["incident_id"], []).append(condition_from_row(row))
    return found


def _other_causes(connection: sa.Connection, ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The causes beside their own of incidents, by id."""
    found: dict[int, tuple[str, ...]] = {}
    query = sa.select(causes_).where(causes_.c.incident_id.in_(ids)).order_by(causes_.c.incident_id, causes_.c.cause)
    for row in connection.execute(query) if ids else ():
        found[row.incident_id] = (*found.get(row.incident_id, ()), row.cause)
    return found
