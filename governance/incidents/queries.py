"""List and count incidents: by what they are, whose they are, of a water, what a person has to advance.

Every function takes an open connection. What changes incidents, and loads one by its number, is in
`governance.incidents.store`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from governance.incidents import lifecycle
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import FINAL_STATES, Action, Incident, State
from governance.incidents.store import get_many, load
from governance.organisation.roles import Actor
from governance.tables import incident as incidents_
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_

IDS_PER_QUERY = 100
"""Incidents of a work list loaded at once: a page of it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many incidents there are: by state, open live ones by colour, open retrospective ones."""

    by_state: Mapping[State, int]
    open_by_colour: Mapping[Colour, int]
    open_retrospective: int


def newest_changed(connection: sa.Connection, since_ms: int, limit: int) -> list[int]:
    """The numbers of the incidents that changed last, since an instant, newest first."""
    query = sa.select(entries_.c.incident_id, sa.func.max(entries_.c.at_ms).label("at"))
    query = query.where(entries_.c.at_ms >= since_ms).group_by(entries_.c.incident_id)
    return [row[0] for row in connection.execute(query.order_by(sa.desc("at")).limit(limit))]


def list_incidents(  # noqa: PLR0913  (what a caller may leave out stands in keywords)
    connection: sa.Connection,
    *,
    state: State | None = None,
    open_only: bool | None = None,
    station: str | None = None,
    retrospective: bool | None = None,
    colour: Colour | None = None,
    kinds: Collection[FindingKind] = (),
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
        at_station = sa.select(conditions_.c.incident_id).where(conditions_.c.station == station)
        query = query.where(incidents_.c.id.in_(at_station))
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
    return load(connection, query)


def open_water_incidents(connection: sa.Connection, reach: str, stations: Collection[str]) -> list[Incident]:
    """Incidents of the water of a reach, or of these stations, that go on now; oldest first.

    Neither what late data show nor what concerns a device alone. Of what people report only what is red: the rest may
    be litter, or no more than an accusation.
    """
    return _going_on_in_water(connection, water_filter(reach, stations))


def all_open_water_incidents(connection: sa.Connection) -> list[Incident]:
    """The incidents of all waters that go on now, as `open_water_incidents` has those of one; oldest first."""
    return _going_on_in_water(connection, sa.true())


def _going_on_in_water(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Incident]:
    i = incidents_.c
    device = [FindingKind.DEVICE.value, FindingKind.NO_DATA.value, FindingKind.FORECAST.value]
    query = sa.select(incidents_).where(
        i.open_cause.is_not(None),
        i.kind.not_in(device),
        (i.kind != FindingKind.REPORT.value) | (i.colour == Colour.RED.value),
        ~i.retrospective,
        i.recovered_at_ms.is_(None),
        where,
    )
    return load(connection, query.order_by(i.since_ms, i.id))


def water_filter(reach: str, stations: Collection[str]) -> sa.ColumnElement[bool]:
    """The incidents of the water of a reach, or that began at one of these stations."""
    return (incidents_.c.reach == reach) | incidents_.c.station.in_(sorted(stations))


def jurisdiction_filter(actor: Actor, *, theirs: bool = True) -> sa.ColumnElement[bool]:
    """Filter of incidents an actor may access, as `lifecycle.in_jurisdiction`; by place alone without ``theirs``."""
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


def visible_incident_ids(actor: Actor) -> sa.Select[tuple[int]] | None:
    """Query of the numbers of the incidents an actor has access to; None where these are all."""
    return None if actor.regions is None else sa.select(incidents_.c.id).where(jurisdiction_filter(actor))


def worklist(
    connection: sa.Connection, actor: Actor, now_ms: int, *, limit: int
) -> list[tuple[Incident, tuple[Action, ...]]]:
    """At most ``limit`` open incidents that the actor has to advance, most urgent first, with the actions."""
    query = sa.select(incidents_).where(incidents_.c.open_cause.is_not(None), jurisdiction_filter(actor))
    if actor.department is not None:  # a handler is waited for only where the department leads or takes part
        ours = incidents_.c.department == actor.department.value
        query = query.where(ours | sa.cast(incidents_.c.joint, sa.Text).contains(f'"{actor.department.value}"'))
    ids = connection.scalars(query.with_only_columns(incidents_.c.id).order_by(*_worklist_order(now_ms))).all()
    waiting: list[tuple[Incident, tuple[Action, ...]]] = []
    for start in range(0, len(ids), IDS_PER_QUERY):
        part = ids[start : start + IDS_PER_QUERY]
        loaded = get_many(connection, part)
        pairs = [(loaded[number], lifecycle.waiting_for(loaded[number], actor)) for number in part]
        waiting += [pair for pair in pairs if pair[1]]
        if len(waiting) >= limit:
            break
    return waiting[:limit]


def _worklist_order(now_ms: int) -> list[sa.ColumnElement[Any]]:
    """`lifecycle.worklist_order` for the database, so that the last of the list are never loaded."""
    c = incidents_.c
    unreported = (c.emergency != "") & c.emergency_reported_at_ms.is_(None)
    running = sa.case((c.paused_at_ms.is_(None), c.due_ms))
    colour = sa.case({one.value: one.rank for one in Colour}, value=c.colour)
    return [
        sa.case((unreported, 0), else_=1),
        sa.case((running < now_ms, 0), else_=1),
        colour,
        sa.func.coalesce(running, 2**62),
        c.id,
    ]


def counts_by_rule(
    connection: sa.Connection, *, since_ms: int = 0, within: sa.ColumnElement[bool] | None = None
) -> list[tuple[str, str, int, int, dict[str, int]]]:
    """Rule, version, incidents, false alarms, and these by reason: how often a rule was right; most incidents first."""
    c = incidents_.c
    is_false = c.state == State.FALSE_ALARM.value
    query = sa.select(c.rule, c.rule_version, is_false.label("is_false"), c.reason, sa.func.count().label("n"))
    query = query.where(c.rule != "", c.opened_at_ms >= since_ms).group_by(c.rule, c.rule_version, is_false, c.reason)
    if within is not None:
        query = query.where(within)
    total: dict[tuple[str, str], int] = {}
    reasons: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(query):
        key = (row.rule, row.rule_version)
        total[key] = total.get(key, 0) + row.n
        if row.is_false:
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
    late_count = 0
    for state, colour, retrospective, number in connection.execute(query):
        by_state[State(state)] += number
        if State(state) in FINAL_STATES:
            continue
        if retrospective:
            late_count += number
        else:
            by_colour[Colour(colour)] += number
    return Counts(by_state, by_colour, late_count)
