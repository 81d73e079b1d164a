"""Queries of the inbox: the incidents an actor sees in each view, those with the least time left first.

What a page shows is chosen and ordered in the database: a site may have 100,000 incidents.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from governance.incidents.deadlines import Phase
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import FINAL_STATES, PHASE_OF_STATE, State
from governance.incidents.queries import jurisdiction_filter
from governance.organisation.roles import Actor, Right, Role
from governance.tables import incident as incidents_

OPEN_STATES = tuple(state for state in State if state not in FINAL_STATES)
UNACCEPTED = (State.REPORTED, State.REOPENED)
_TO_DISPATCH = tuple(state for state, phase in PHASE_OF_STATE.items() if phase is Phase.DISPATCH)
_WITH_HANDLER = tuple(state for state, phase in PHASE_OF_STATE.items() if phase in (Phase.START, Phase.HANDLE))
NEVER_MS = 2**62
"""Where no clock runs: after everything that has a deadline."""


class InboxView(StrEnum):
    """What the inbox shows."""

    MINE = "mine"
    """What needs this person next: waits for their step, is theirs, or, for who leads, is overdue."""
    UNACCEPTED = "unaccepted"
    OVERDUE = "overdue"
    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"

    @property
    def by_time_left(self) -> bool:
        """Whether all that it shows is open and sorted by the time left; else the newest stand first."""
        return self not in (InboxView.CLOSED, InboxView.ALL)

    @property
    def states(self) -> frozenset[State]:
        """The states that it can show."""
        match self:
            case InboxView.ALL:
                return frozenset(State)
            case InboxView.CLOSED:
                return FINAL_STATES
            case InboxView.UNACCEPTED:
                return frozenset(UNACCEPTED)
            case _:
                return frozenset(OPEN_STATES)


@dataclass(frozen=True, slots=True)
class InboxQuery:
    """What is asked for; "" and None narrow nothing.

    ``regions`` are codes; ``words`` are looked for in the title, and as found by name in ``words_reaches`` and
    ``words_regions``; ``number`` finds one incident by it.
    """

    view: InboxView = InboxView.MINE
    colour: Colour | None = None
    reach: str = ""
    regions: frozenset[str] | None = None
    handler: str = ""
    state: State | None = None
    kind: FindingKind | None = None
    words: str = ""
    words_reaches: frozenset[str] = frozenset()
    words_regions: frozenset[str] = frozenset()
    number: int | None = None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """The columns of an incident that the inbox sorts and filters by."""

    id: int
    version: int
    state: State
    colour: Colour
    kind: FindingKind
    retrospective: bool
    station: str
    parameter: str
    region: str
    reach: str
    since_ms: int
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """How many open incidents within reach each view shows."""

    open: int
    mine: int
    unaccepted: int
    overdue: int


_COLUMNS = ("id", "version", "state", "colour", "kind", "retrospective", "station", "parameter", "region", "reach")


def find(
    connection: sa.Connection, actor: Actor, query: InboxQuery, now_ms: int, *, limit: int, before_id: int | None = None
) -> list[InboxRow]:
    """At most ``limit`` incidents: emergencies to be reported first, then by the time left; or the newest first.

    ``before_id`` continues a list of the newest.
    """
    c = incidents_.c
    chosen = sa.select(*(c[name] for name in _COLUMNS), c.since_ms, _running_deadline().label("due_ms"))
    chosen = chosen.where(_in_view(actor, query, now_ms)).limit(limit)
    if query.view.by_time_left:
        chosen = chosen.order_by(
            sa.case((_unreported(), 0), else_=1),
            sa.func.coalesce(_running_deadline(), NEVER_MS),
            sa.case({colour.value: colour.rank for colour in Colour}, value=c.colour),
            c.id,
        )
    else:
        chosen = chosen.order_by(c.id.desc())
        if before_id is not None:
            chosen = chosen.where(c.id < before_id)
    return [_row(row) for row in connection.execute(chosen)]


def _row(row: Any) -> InboxRow:
    found = dict(row._mapping)
    typed = {"state": State(row.state), "colour": Colour(row.colour), "kind": FindingKind(row.kind)}
    return InboxRow(**{**found, **typed, "parameter": row.parameter or ""})


def count(connection: sa.Connection, actor: Actor, query: InboxQuery, now_ms: int, *, most: int) -> int:
    """How many incidents there are in all; ``most`` where there are as many or more."""
    some = sa.select(incidents_.c.id).where(_in_view(actor, query, now_ms)).limit(most).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()


def counts(connection: sa.Connection, actor: Actor, now_ms: int) -> InboxCounts:
    """How many open incidents each view shows."""

    def number(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    c = incidents_.c
    chosen = sa.select(
        sa.func.count(), number(_needs_action(actor, now_ms)), number(c.state.in_(UNACCEPTED)), number(_overdue(now_ms))
    ).where(_is_open(), jurisdiction_filter(actor))
    return InboxCounts(*connection.execute(chosen).one())


def counts_by_region(connection: sa.Connection, actor: Actor, view: InboxView, now_ms: int) -> dict[str, int]:
    """How many incidents a view shows of each region, by its code."""
    c = incidents_.c
    chosen = sa.select(c.region, sa.func.count()).where(_in_view(actor, InboxQuery(view), now_ms)).group_by(c.region)
    return {row[0]: row[1] for row in connection.execute(chosen)}


def holders(connection: sa.Connection, actor: Actor, *, limit: int) -> list[str]:
    """The names of the people responsible for open incidents."""
    c = incidents_.c
    here = sa.and_(_is_open(), jurisdiction_filter(actor))
    of = [sa.select(name.label("name")).where(here, name != "") for name in (c.responsible, c.handler)]
    both = sa.union(*of).subquery()
    return list(connection.execute(sa.select(both.c.name).order_by(both.c.name).limit(limit)).scalars())


def last_closed_ms(connection: sa.Connection, actor: Actor) -> int | None:
    """When an incident within reach was closed last."""
    chosen = sa.select(sa.func.max(incidents_.c.closed_at_ms)).where(jurisdiction_filter(actor))
    return connection.execute(chosen).scalar()


# -- conditions --------------------------------------------------------------------------------------------------------


def _is_open() -> sa.ColumnElement[bool]:
    return incidents_.c.state.in_(OPEN_STATES)  # by the index on the state


def _running_deadline() -> sa.ColumnElement[int | None]:
    """The deadline while its clock runs."""
    return sa.case((incidents_.c.paused_at_ms.is_(None), incidents_.c.due_ms))


def _overdue(now_ms: int) -> sa.ColumnElement[bool]:
    return sa.and_(incidents_.c.paused_at_ms.is_(None), incidents_.c.due_ms < now_ms)


def _unreported() -> sa.ColumnElement[bool]:
    return sa.and_(incidents_.c.emergency != "", incidents_.c.emergency_reported_at_ms.is_(None))


def _in_view(actor: Actor, query: InboxQuery, now_ms: int) -> sa.ColumnElement[bool]:
    c = incidents_.c
    found = [jurisdiction_filter(actor)]
    if query.view is not InboxView.ALL:
        found.append(c.state.in_(sorted(query.view.states)))  # by the index on the state
    if query.view is InboxView.OVERDUE:
        found.append(_overdue(now_ms))
    if query.view is InboxView.MINE:
        found.append(_needs_action(actor, now_ms))
    for column, value in ((c.colour, query.colour), (c.state, query.state), (c.kind, query.kind)):
        if value is not None:
            found.append(column == value.value)
    if query.reach:
        found.append(c.reach == query.reach)
    if query.regions is not None:
        found.append(c.region.in_(sorted(query.regions)))
    if query.handler:
        found.append(sa.or_(c.responsible == query.handler, c.handler == query.handler))
    if query.words:
        found.append(_contains_text(query))
    return sa.and_(*found)


def _contains_text(query: InboxQuery) -> sa.ColumnElement[bool]:
    c, words = incidents_.c, query.words.lower()
    found = [sa.func.lower(title).contains(words, autoescape=True) for title in (c.title_zh, c.title_en)]
    found += [c.reach.in_(sorted(query.words_reaches)), c.region.in_(sorted(query.words_regions))]
    if query.number is not None:
        found.append(c.id == query.number)
    return sa.or_(*found)


def _needs_action(actor: Actor, now_ms: int) -> sa.ColumnElement[bool]:
    """What the actor has to do next: advance it (`lifecycle.waiting_for`), handle it, or supervise it when overdue."""
    found = [*_waiting_for(actor), _is_responsible(actor)]
    if actor.may(Right.ACCEPT) or actor.may(Right.SUPERVISE):
        found.append(_overdue(now_ms))
    return sa.or_(*found)


def _waiting_for(actor: Actor) -> list[sa.ColumnElement[bool]]:
    c = incidents_.c
    others = ~sa.cast(c.handlers, sa.Text).contains(json.dumps(actor.name), autoescape=True)
    found: list[sa.ColumnElement[bool]] = []
    if actor.may(Right.ACCEPT):
        found += [c.state.in_(UNACCEPTED), c.state.in_(_TO_DISPATCH), _unreported()]
    if actor.may(Right.VERIFY):
        found.append(sa.and_(c.state == State.HANDLED.value, others))
    if actor.may(Right.CLOSE):
        found.append(sa.and_(c.state == State.VERIFIED.value, others))
    if actor.may(Right.HANDLE):
        at_work: sa.ColumnElement[bool] = c.state.in_(_WITH_HANDLER)
        if actor.role not in (Role.ADMINISTRATOR, Role.MACHINE, Role.HANDLER):
            at_work = sa.and_(at_work, c.responsible == "", c.department.is_(None))
        if actor.role is not Role.HANDLER:  # a handler's are those of the department
            found.append(at_work)
    return found


def _is_responsible(actor: Actor) -> sa.ColumnElement[bool]:
    c = incidents_.c
    found = [
        c.responsible.in_([actor.name, *sorted(actor.helps)]),
        c.handler == actor.name,
        sa.and_(c.accepted_by == actor.name, c.state.in_(_TO_DISPATCH)),
    ]
    if actor.department is not None:
        joint = sa.cast(c.joint, sa.Text).contains(f'"{actor.department.value}"', autoescape=True)
        found.append(sa.and_(c.state.in_(_WITH_HANDLER), sa.or_(c.department == actor.department.value, joint)))
    return sa.or_(*found)
