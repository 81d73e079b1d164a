"""The store of incidents: the incident, its history and its outbox entry in one transaction.

Every function takes an open connection and never commits: the caller's transaction holds or falls as a whole.
No SQL here belongs to one database only.
"""

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from governance.audit import trail as audit_trail
from governance.incidents import (
    active_findings,
    attachments,
    clock_correction,
    cloudevents,
    from_findings,
    headline,
    lifecycle,
    reminders,
)
from governance.incidents.deadlines import STANDARD, Policy
from governance.incidents.finding import Change, Colour, Finding, Kind
from governance.incidents.model import (
    FINAL,
    Action,
    Case,
    Condition,
    Conflict,
    Effects,
    Entry,
    Evidence,
    Incident,
    Notify,
    NotNow,
    Order,
    Source,
    State,
    What,
)
from governance.organisation.regions import NOWHERE, Place
from governance.organisation.roles import Actor, Department, Forbidden
from governance.tables import incident as incidents_
from governance.tables import incident_cause as causes_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_
from governance.tables import outbox
from infra.errors import NotFound, Refused, StorageUnavailable
from infra.texts import Text, sentence
from infra.times import DAY_MS, beijing

AT_ONCE = 500
"""Findings handled by one set of statements."""

TRIES = 5

Placing = Callable[[str], Place]
"""Tells where a station or gateway lies."""


def nowhere(_station: str) -> Place:
    """For who does not know where anything lies."""
    return NOWHERE


PROVISIONAL = 2**40
"""Above every number the database gives: an incident not stored yet sorts as the newest, as it will be."""


@dataclass(frozen=True, slots=True)
class EnqueuedEvent:
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
    told: tuple[EnqueuedEvent, ...] = ()

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


def record(
    connection: sa.Connection,
    findings: Sequence[Finding],
    now_ms: int,
    *,
    source: str,
    place: Placing = nowhere,
    policy: Policy = STANDARD,
) -> Recorded:
    """Turn findings into incidents, in the order given; no findings, no statement.

    A finding recorded before, by this worker or another, changes nothing. ``source`` is the CloudEvents source,
    ``place`` tells where the station of a new incident lies, ``policy`` the deadlines.
    Raises StorageUnavailable when other workers keep getting in between; nothing has been written then.
    """
    total = Recorded()
    trail: list[audit_trail.NewEntry] = []
    for start in range(0, len(findings), AT_ONCE):
        part = _record(connection, findings[start : start + AT_ONCE], now_ms, source, place, policy, trail)
        total = Recorded(
            total.opened + part.opened,
            total.updated + part.updated,
            total.unchanged + part.unchanged,
            tuple(dict.fromkeys(total.ids + part.ids)),
            total.told + part.told,
        )
    audit_trail.append_many(connection, trail)  # last: who appends is waited for, and may wait for no incident any more
    return total


def act(
    connection: sa.Connection,
    incident_id: int,
    order: Order,
    actor: Actor,
    *,
    now_ms: int,
    source: str,
    expected_version: int | None = None,
    policy: Policy = STANDARD,
    normal: Mapping[tuple[str, str, str], int] | None = None,
    needs: tuple[frozenset[Evidence], ...] | None = None,
) -> Incident:
    """Apply what a person does and return the incident after it; see `lifecycle.act` for what it needs.

    Raises NotFound, Forbidden, NotNow, Refused, and Conflict when ``expected_version`` is given and is not the
    incident's.
    """
    ids = [incident_id] if order.into is None else sorted({incident_id, order.into})
    found = {number: _one(connection, number, lock=True) for number in ids}  # in order: two that merge cannot deadlock
    before = found[incident_id]
    if not lifecycle.concerns(before, actor):  # before anything is said of its version
        raise Forbidden(lifecycle.elsewhere(before))
    if expected_version is not None and expected_version != before.version:
        raise Conflict(sentence("incident.changed", id=incident_id, version=before.version, expected=expected_version))
    if order.action is Action.MERGE:
        if order.into is None:
            raise Refused(sentence("incident.needs_into", id=incident_id))
        steps = lifecycle.merge(before, found[order.into], order, actor, now_ms)
        changes = [_Changed(i.id, i, effects, None) for i, effects in steps]
    elif order.action is Action.SPLIT:
        said = _said(connection, before.conditions)
        (rest, left), (new, right) = lifecycle.split(before, order, actor, now_ms, policy, said)
        new = replace(new, id=PROVISIONAL)
        changes = [_Changed(rest.id, rest, left, None), _Changed(new.id, new, right, None)]
    else:
        after, effects = lifecycle.act(before, order, actor, now_ms, policy=policy, normal=normal, needs=needs)
        if order.action is Action.REOPEN:
            _reopenable(connection, before, after, now_ms, policy)
        changes = []
        if elsewhere := lifecycle.active_elsewhere(before, order.action):
            apart = replace(order, action=Action.SPLIT, conditions=elsewhere, comment=order.comment or after.state)
            said = _said(connection, before.conditions)
            (rest, left), (new, right) = lifecycle.split(before, apart, actor, now_ms, policy, said)
            after, effects = lifecycle.act(rest, order, actor, now_ms, policy=policy, normal=normal, needs=needs)
            new, right = replace(new, id=PROVISIONAL), replace(right, notify=Notify.PAGE)
            changes = [_Changed(rest.id, rest, left, None), _Changed(new.id, new, right, None)]
        changes.append(_Changed(before.id, after, effects, None))
    _write(connection, found, changes, now_ms, source)
    return [change.incident for change in changes if change.key == incident_id][-1]


def report(
    connection: sa.Connection,
    order: Order,
    actor: Actor,
    *,
    colour: Colour,
    origin: Source,
    place: Place,
    now_ms: int,
    source: str,
    policy: Policy = STANDARD,
) -> Incident:
    """File what somebody reports as a new incident and return it. Raises Forbidden and Refused."""
    cause = f"report/{uuid.uuid4().hex}"
    made, effects = lifecycle.reported(
        order, actor, now_ms, cause=cause, colour=colour, source=origin, place=place, policy=policy
    )
    change = _Changed(PROVISIONAL, replace(made, id=PROVISIONAL), effects, None)
    (told,) = _write(connection, {}, [change], now_ms, source)
    return replace(made, id=told.incident_id)


def remind(
    connection: sa.Connection,
    now_ms: int,
    *,
    up: Callable[[str], str],
    source: str,
    policy: Policy = STANDARD,
    limit: int = AT_ONCE,
) -> list[int]:
    """Fire the reminders and escalations that are due; the incidents they were for, at most ``limit``.

    What fired is written in the same transaction as when it fires next: killed before the commit nothing was said, and
    after it nothing is said again.
    """
    clock_correction.reminders(connection, now_ms, policy.emergencies.longest_ms)
    due = (incidents_.c.alert_at_ms <= now_ms) & incidents_.c.paused_at_ms.is_(None)
    unreported = incidents_.c.emergency_alert_at_ms <= now_ms
    query = sa.select(incidents_).where(due | unreported, incidents_.c.open_cause.is_not(None))
    first = sa.case((unreported, 0), else_=incidents_.c.alert_at_ms)
    query = query.order_by(first, incidents_.c.id).limit(limit).with_for_update(skip_locked=True)
    before = {incident.id: incident for incident in _load(connection, query)}
    changes = []
    for incident in before.values():
        step = reminders.remind(incident, now_ms, up=up, policy=policy)
        if step is not None:
            changes.append(_Changed(incident.id, step[0], step[1], None))
    if changes:
        _write(connection, before, changes, now_ms, source)
    return [change.key for change in changes]


def succeed(
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
    found = _load(connection, query.order_by(incidents_.c.id).with_for_update())
    before = {incident.id: incident for incident in found if within(incident)}
    changes = [_Changed(i.id, *reminders.hand_over(i, new, by, now_ms), None) for i in before.values()]
    if changes:
        _write(connection, before, changes, now_ms, source)
    return list(before)


def _said(connection: sa.Connection, conditions: Iterable[Condition]) -> dict[tuple[str, str, str], Entry]:
    """What was said when these conditions fired last, wherever it stands since incidents were merged or split."""
    ids = {
        id_: one.key for one in conditions for id_ in active_findings.ids_of(Change.FIRED, *one.key, one.fired_at_ms)
    }
    query = sa.select(entries_).where(entries_.c.finding_id.in_(list(ids))).order_by(entries_.c.id)
    return {ids[row["finding_id"]]: _entry(row) for row in connection.execute(query).mappings()}


def _reopenable(connection: sa.Connection, before: Incident, after: Incident, now_ms: int, policy: Policy) -> None:
    """Raises NotNow when it is too late, or the same cause is open again already."""
    ended = before.closed_at_ms or 0
    if now_ms - ended > policy.reopen_within_ms:
        days = policy.reopen_within_ms // DAY_MS
        raise NotNow(sentence("incident.too_late", id=before.id, days=days))
    query = sa.select(incidents_.c.id).where(incidents_.c.open_cause == after.open_cause)
    other = connection.execute(query).scalar()
    if other is not None:
        raise NotNow(sentence("incident.open_again", id=before.id, other=other))


def get(connection: sa.Connection, incident_id: int) -> Incident:
    """The incident of this number; raises NotFound."""
    return _one(connection, incident_id, lock=False)


def history(connection: sa.Connection, incident_id: int) -> list[Entry]:
    """Everything that happened to an incident, oldest first; raises NotFound."""
    query = sa.select(entries_).where(entries_.c.incident_id == incident_id).order_by(entries_.c.seq)
    rows = connection.execute(query).mappings().all() if 0 < incident_id < 2**31 else []
    if not rows:
        raise NotFound(sentence("incident.unknown", id=incident_id))
    return [_entry(row) for row in rows]


def as_of(connection: sa.Connection, incident_id: int, at_ms: int) -> tuple[Incident, list[Entry]]:
    """An incident and its history as they stood at an instant, made from the trail's entries alone.

    Raises NotFound where the trail knows nothing of it at that time; what happened before there was a trail is missing.
    """
    lines = audit_trail.entries_of(connection, "incident", incident_id, until_ms=at_ms)
    if not lines:
        raise NotFound(sentence("incident.unknown_then", id=incident_id, at=beijing(at_ms, "%Y-%m-%d %H:%M")))
    conditions: dict[tuple[str, str, str], Condition] = {}
    history = []
    for line in lines:
        body = json.loads(line.body)
        history.append(_entry(body["entry"]))
        for rule, station, parameter in body["gone"]:
            conditions.pop((rule, station, parameter), None)
        for row in body["conditions"]:
            condition = _condition(row)
            conditions[condition.key] = condition
    found = tuple(conditions[key] for key in sorted(conditions))
    return _incident({**body["incident"], "id": incident_id}, found, tuple(body["also"])), history


def _entry(row: Mapping[Any, Any]) -> Entry:
    """An entry from its row, of the table or of the trail."""
    return Entry(
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
        role=row["role"],
        attachments=tuple(row["attachments"]),
        measurement=row["measurement"],
        details=row["details"],
    )


def list_incidents(
    connection: sa.Connection,
    *,
    state: State | None = None,
    open_only: bool | None = None,
    station: str | None = None,
    retrospective: bool | None = None,
    colour: Colour | None = None,
    kinds: Collection[Kind] = (),
    regions: Collection[str] | None = None,
    within: sa.ColumnElement[bool] | None = None,
    limit: int,
    before_id: int | None = None,
) -> list[Incident]:
    """At most ``limit`` incidents, newest first; the next page begins with ``before_id`` = the last one's id.

    ``open_only`` false: only those that are over. ``station`` finds every incident in which that station has or had a
    condition, not only those it opened; ``regions`` are the codes of some regions (None: all), and ``within`` is what
    somebody may see (`reach_of`).
    """
    query = sa.select(incidents_).order_by(incidents_.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(incidents_.c.state == state.value)
    if open_only is not None:
        is_open = incidents_.c.open_cause.is_not(None)
        query = query.where(is_open if open_only else ~is_open)
    if station is not None:
        there = sa.select(conditions_.c.incident_id).where(conditions_.c.station == station)
        query = query.where(incidents_.c.id.in_(there))
    if retrospective is not None:
        query = query.where(incidents_.c.retrospective == retrospective)
    if colour is not None:
        query = query.where(incidents_.c.colour == colour.value)
    if kinds:
        query = query.where(incidents_.c.kind.in_([kind.value for kind in kinds]))
    if regions is not None:
        query = query.where(incidents_.c.region.in_(sorted(regions)))
    if within is not None:
        query = query.where(within)
    if before_id is not None:
        query = query.where(incidents_.c.id < before_id)
    return _load(connection, query)


def open_red(connection: sa.Connection, reach: str, stations: Collection[str]) -> list[Incident]:
    """Red incidents of the water of a reach, or of these stations, that go on now; oldest first.

    Neither what late data show nor what concerns a device alone.
    """
    i = incidents_.c
    here = (i.reach == reach) | i.station.in_(sorted(stations))
    device = [Kind.DEVICE.value, Kind.NO_DATA.value, Kind.FORECAST.value]
    query = sa.select(incidents_).where(
        i.open_cause.is_not(None),
        i.colour == Colour.RED.value,
        i.kind.not_in(device),
        ~i.retrospective,
        i.recovered_at_ms.is_(None),
        here,
    )
    return _load(connection, query.order_by(i.since_ms, i.id))


def reach_of(actor: Actor, *, theirs: bool = True) -> sa.ColumnElement[bool]:
    """The incidents within reach of somebody, as `lifecycle.concerns` has it; without ``theirs`` by place alone."""
    c = incidents_.c
    if actor.regions is None:
        return sa.true()
    found: list[sa.ColumnElement[bool]] = [c.region.in_(sorted(actor.regions))]
    for reach in sorted({reach for reach, _ in actor.waters}):
        codes = {region for of, region in actor.waters if of == reach}
        found.append((c.reach == reach) if "" in codes else (c.reach == reach) & c.region.in_(sorted(codes)))
    if theirs:
        found.append(c.responsible.in_([actor.name, *sorted(actor.helps)]))
    return sa.or_(*found)


def ids_of(actor: Actor) -> sa.Select[tuple[int]] | None:
    """The numbers of the incidents within reach of somebody, as a query to look into; None for who reaches all."""
    return None if actor.regions is None else sa.select(incidents_.c.id).where(reach_of(actor))


def worklist(
    connection: sa.Connection, actor: Actor, now_ms: int, *, limit: int
) -> list[tuple[Incident, tuple[Action, ...]]]:
    """At most ``limit`` open incidents that wait for somebody, most urgent first, and what would carry them on."""
    query = sa.select(incidents_).where(incidents_.c.open_cause.is_not(None), reach_of(actor))
    if actor.department is not None:  # a handler is waited for only where the department leads or takes part
        ours = incidents_.c.department == actor.department.value
        query = query.where(ours | sa.cast(incidents_.c.joint, sa.Text).contains(f'"{actor.department.value}"'))
    found = [(one, lifecycle.waiting_for(one, actor)) for one in _load(connection, query)]
    waiting = [pair for pair in found if pair[1]]
    return sorted(waiting, key=lambda pair: lifecycle.worklist_order(pair[0], now_ms))[:limit]


def by_rule(
    connection: sa.Connection, *, since_ms: int = 0, within: sa.ColumnElement[bool] | None = None
) -> list[tuple[str, str, int, int, dict[str, int]]]:
    """Rule, version, incidents, false alarms, and these by reason: how often a rule was right; most incidents first."""
    c = incidents_.c
    wolf = c.state == State.FALSE_ALARM.value
    query = sa.select(c.rule, c.rule_version, wolf.label("wolf"), c.reason, sa.func.count().label("n"))
    query = query.where(c.rule != "", c.opened_at_ms >= since_ms).group_by(c.rule, c.rule_version, wolf, c.reason)
    if within is not None:
        query = query.where(within)
    total: dict[tuple[str, str], int] = {}
    reasons: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(query):
        key = (row.rule, row.rule_version)
        total[key] = total.get(key, 0) + row.n
        if row.wolf:
            of = reasons.setdefault(key, {})
            of[row.reason or "-"] = of.get(row.reason or "-", 0) + row.n
    order = sorted(total, key=lambda key: (-total[key], key))
    return [(*key, total[key], sum(reasons.get(key, {}).values()), reasons.get(key, {})) for key in order]


def counts(connection: sa.Connection) -> Counts:
    """How many incidents there are now; states and colours without any count 0."""
    grouping = (incidents_.c.state, incidents_.c.colour, incidents_.c.retrospective)
    query = sa.select(*grouping, sa.func.count()).group_by(*grouping)
    by_state = dict.fromkeys(State, 0)
    by_colour = dict.fromkeys(Colour, 0)
    past = 0
    for state, colour, retrospective, number in connection.execute(query):
        by_state[State(state)] += number
        if State(state) in FINAL:
            continue
        if retrospective:
            past += number
        else:
            by_colour[Colour(colour)] += number
    return Counts(by_state, by_colour, past)


def _record(
    connection: sa.Connection,
    findings: Sequence[Finding],
    now_ms: int,
    source: str,
    place: Placing,
    policy: Policy,
    trail: list[audit_trail.NewEntry],
) -> Recorded:
    """Record a part of the findings; what the trail is to keep of it is added to ``trail``."""
    looked = None
    for _ in range(TRIES):
        fresh = active_findings.unseen(connection, findings)
        if not fresh:
            return Recorded(unchanged=len(findings))
        before = _open_incidents(connection, sorted({f.cause for f in fresh}))
        before |= _resting_on(connection, [f for f in fresh if f.change is Change.WITHDRAWN])
        changes, decided = _judge(before, fresh, now_ms, place, policy)
        if not changes:
            return Recorded(unchanged=len(findings))
        try:
            with connection.begin_nested():
                told, kept = _write_but_trail(connection, before, changes, now_ms, source)
        except IntegrityError:
            if looked == (fresh, before):
                raise  # nobody came first: the rows themselves are wrong
            looked = (fresh, before)
            continue  # another worker opened the incident or recorded the finding first: read again what it wrote
        trail += kept
        opened = sum(change.effects.entry.seq == 1 for change in changes)
        ids = tuple(dict.fromkeys(one.incident_id for one in told))
        return Recorded(opened, decided - opened, len(findings) - decided, ids, told)
    raise StorageUnavailable(sentence("store.findings", count=len(findings), tries=TRIES))


def _open_incidents(connection: sa.Connection, causes: Sequence[str]) -> dict[int, Incident]:
    """The open incidents of these causes by id, locked until the transaction ends where the database can."""
    taken = sa.select(causes_.c.incident_id).where(causes_.c.cause.in_(causes))
    query = (
        sa.select(incidents_)
        .where(incidents_.c.cause.in_(causes) | incidents_.c.id.in_(taken), incidents_.c.open_cause.is_not(None))
        .order_by(incidents_.c.id)
        .with_for_update()
    )
    return {incident.id: incident for incident in _load(connection, query)}


def _resting_on(connection: sa.Connection, withdrawn: Sequence[Finding]) -> dict[int, Incident]:
    """The incidents, open or over, that may rest on what is taken back, by id, locked like the open ones."""
    if not withdrawn:
        return {}
    c, at = conditions_.c, [f.observed_at_ms for f in withdrawn]
    rules, stations = {f.rule for f in withdrawn}, {f.station for f in withdrawn}
    holding = sa.select(c.incident_id).where(c.rule.in_(sorted(rules)), c.station.in_(sorted(stations)))
    there = (incidents_.c.since_ms <= max(at)) & (incidents_.c.last_observed_at_ms >= min(at))
    query = sa.select(incidents_).where(incidents_.c.id.in_(holding), there).order_by(incidents_.c.id)
    return {incident.id: incident for incident in _load(connection, query.with_for_update())}


def _judge(
    before: Mapping[int, Incident], findings: Sequence[Finding], now_ms: int, place: Placing, policy: Policy
) -> tuple[list[_Changed], int]:
    """The changes the findings make, in order, and how many findings made any; each finding makes its changes once."""
    book = dict(before)
    changes: list[_Changed] = []
    told: set[str] = set()
    for finding in findings:
        if finding.id in told:
            continue
        for target in from_findings.affected_incidents(book.values(), finding):
            where = NOWHERE if target is not None else place(finding.station)
            step = from_findings.apply_finding(target, finding, now_ms, place=where, policy=policy)
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
) -> tuple[EnqueuedEvent, ...]:
    """Write changes and their trail; returns the events that go out, in the order of the changes."""
    told, trail = _write_but_trail(connection, before, changes, now_ms, source)
    audit_trail.append_many(connection, trail)
    return told


def _write_but_trail(
    connection: sa.Connection, before: Mapping[int, Incident], changes: Sequence[_Changed], now_ms: int, source: str
) -> tuple[tuple[EnqueuedEvent, ...], list[audit_trail.NewEntry]]:
    """Write incidents, conditions, history and outbox; the events that go out, and what the trail is to keep."""
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
    told: list[EnqueuedEvent] = []
    touched: dict[tuple[int, tuple[str, str, str]], Condition] = {}
    gone: list[tuple[int, tuple[str, str, str]]] = []
    for change in changes:
        incident_id = ids[change.key]
        event = cloudevents.build(
            replace(change.incident, id=incident_id), change.effects, source=source, finding=change.finding
        )
        entries.append(_entry_row(incident_id, change.effects.entry))
        events.append(_outbox_row(incident_id, event, change.effects, now_ms))
        told.append(EnqueuedEvent(incident_id, event.id, change.finding))
        for condition in change.effects.conditions:
            touched[change.key, condition.key] = condition
        gone += [(change.key, key) for key in change.effects.gone]
    for key, condition_key in gone:
        columns = dict(zip(("rule", "station", "parameter"), condition_key, strict=True))
        same = sa.and_(conditions_.c.incident_id == ids[key], *(conditions_.c[n] == v for n, v in columns.items()))
        connection.execute(sa.delete(conditions_).where(same))
    for key, incident in last.items():
        known = before[key].case.also if key in before else ()
        fresh = [{"incident_id": ids[key], "cause": cause} for cause in incident.case.also if cause not in known]
        if fresh:
            connection.execute(sa.insert(causes_), fresh)
    new: list[dict[str, Any]] = []
    for (key, condition_key), condition in touched.items():
        row = _condition_row(ids[key], condition)
        if key in before and any(c.key == condition_key for c in before[key].conditions):
            names = ("incident_id", "rule", "station", "parameter")
            same = sa.and_(*(conditions_.c[name] == row[name] for name in names))
            connection.execute(sa.update(conditions_).where(same).values(row))
        else:
            new.append(row)
    for table, rows in ((conditions_, new), (entries_, entries), (outbox, events)):
        if rows:
            connection.execute(sa.insert(table), rows)
    attachments.attach(connection, {(one, row["incident_id"]) for row in entries for one in row["attachments"]})
    return tuple(told), [_trail(ids[change.key], change) for change in changes]


def _trail(incident_id: int, change: _Changed) -> audit_trail.NewEntry:
    """What the trail keeps of a change: the entry, the incident after it, the conditions touched and taken out."""
    entry, effects = change.effects.entry, change.effects
    body = {
        "entry": _entry_row(incident_id, entry),
        "incident": _incident_row(change.incident),
        "conditions": [_condition_row(incident_id, condition) for condition in effects.conditions],
        "gone": [list(key) for key in effects.gone],
        "also": list(change.incident.case.also),
    }
    role = entry.role if entry.observed_at_ms is None else "rule"
    return audit_trail.NewEntry(f"incident.{entry.what}", "incident", incident_id, body, entry.by, entry.at_ms, role)


def _one(connection: sa.Connection, incident_id: int, *, lock: bool) -> Incident:
    query = sa.select(incidents_).where(incidents_.c.id == incident_id)
    found = _load(connection, query.with_for_update() if lock else query) if 0 < incident_id < 2**31 else []
    if not found:
        raise NotFound(sentence("incident.unknown", id=incident_id))
    return found[0]


def _load(connection: sa.Connection, query: sa.Select[Any]) -> list[Incident]:
    """The incidents a query over the incident table finds, with their conditions, in the query's order."""
    rows = connection.execute(query).mappings().all()
    numbers = [row["id"] for row in rows]
    conditions = _conditions(connection, numbers)
    also = _also(connection, numbers)
    return [_incident(row, tuple(conditions.get(row["id"], ())), also.get(row["id"], ())) for row in rows]


def _incident(row: Mapping[Any, Any], conditions: tuple[Condition, ...], also: tuple[str, ...]) -> Incident:
    """An incident from its row, of the table or of the trail."""
    return Incident(
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
        accepted_at_ms=row["accepted_at_ms"],
        accepted_by=row["accepted_by"],
        recovered_at_ms=row["recovered_at_ms"],
        closed_at_ms=row["closed_at_ms"],
        version=row["version"],
        conditions=conditions,
        place=Place(row["region"], row["reach"], row["lon"], row["lat"]),
        case=_case(row, also),
        headline=headline.of_json(row.get("headline")),  # an old entry of the trail has none
    )


def _conditions(connection: sa.Connection, ids: Iterable[int]) -> dict[int, list[Condition]]:
    wanted = list(ids)
    found: dict[int, list[Condition]] = {}
    if not wanted:
        return found
    c = conditions_.c
    query = sa.select(conditions_).where(c.incident_id.in_(wanted)).order_by(c.rule, c.station, c.parameter)
    for row in connection.execute(query).mappings():
        found.setdefault(row["incident_id"], []).append(_condition(row))
    return found


def _condition(row: Mapping[Any, Any]) -> Condition:
    return Condition(
        rule=row["rule"],
        station=row["station"],
        parameter=row["parameter"],
        since_ms=row["since_ms"],
        fired_at_ms=row["fired_at_ms"],
        resolved_at_ms=row["resolved_at_ms"],
    )


_PLAIN = tuple(
    name
    for name in Case.__slots__
    if name not in {"source", "department", "joint", "contributed", "handlers", "also"}  # kept in another shape
)


def _case(row: Mapping[Any, Any], also: tuple[str, ...]) -> Case:
    return Case(
        source=Source(row["source"]),
        department=None if row["department"] is None else Department(row["department"]),
        joint=tuple(Department(d) for d in row["joint"]),
        contributed=tuple(Department(d) for d in row["contributed"]),
        handlers=tuple(row.get("handlers", ())),
        also=also,
        **{name: row[name] for name in _PLAIN if name in row},  # an old entry of the trail lacks what came later
    )


def _also(connection: sa.Connection, ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The causes beside their own of incidents, by id."""
    found: dict[int, tuple[str, ...]] = {}
    query = sa.select(causes_).where(causes_.c.incident_id.in_(ids)).order_by(causes_.c.incident_id, causes_.c.cause)
    for row in connection.execute(query) if ids else ():
        found[row.incident_id] = (*found.get(row.incident_id, ()), row.cause)
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
        "headline": incident.headline.as_json() if incident.headline else {},
        "rule": incident.rule,
        "rule_version": incident.rule_version,
        "value": incident.value,
        "limit_value": incident.limit,
        "observed_at_ms": incident.observed_at_ms,
        "since_ms": incident.since_ms,
        "last_observed_at_ms": incident.last_observed_at_ms,
        "opened_at_ms": incident.opened_at_ms,
        "accepted_at_ms": incident.accepted_at_ms,
        "accepted_by": incident.accepted_by,
        "recovered_at_ms": incident.recovered_at_ms,
        "closed_at_ms": incident.closed_at_ms,
        "version": incident.version,
        "region": incident.place.region,
        "reach": incident.place.reach,
        "lon": incident.place.lon,
        "lat": incident.place.lat,
        **{name: getattr(incident.case, name) for name in _PLAIN},
        "source": incident.case.source.value,
        "department": incident.case.department.value if incident.case.department else None,
        "joint": [d.value for d in incident.case.joint],
        "contributed": [d.value for d in incident.case.contributed],
        "handlers": list(incident.case.handlers),
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
        "role": entry.role,
        "attachments": list(entry.attachments),
        "measurement": dict(entry.measurement),
        "details": dict(entry.details),
    }


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
