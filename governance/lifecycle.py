"""How an incident lives: pure, and driven by one table.

Three questions, three functions. *Whom does a finding concern?* ``concerned``. *What does it change?* ``advance``.
*What may a person do, and what comes of it?* ``act``. None of them looks at a clock, a database or the network.

Every change of an incident is exactly one history entry: ``Incident.version`` is also the ``seq`` of its newest entry.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from governance.finding import Change, Colour, Finding, Kind
from sensors.errors import Refused
from sensors.texts import Text, say
from sensors.times import DAY_MS

JOIN_WITHIN_MS = DAY_MS
"""Late findings of one cause at most this far apart in event time are one retrospective incident."""

COMMENT_LIMIT = 4000
"""Characters of a comment."""


class State(StrEnum):
    """Where an incident stands. A closed incident is final: the same cause opens a new one."""

    OPENED = "opened"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class Action(StrEnum):
    """What a person can do with an incident."""

    ACKNOWLEDGE = "acknowledge"
    COMMENT = "comment"
    CLOSE = "close"
    FALSE_ALARM = "false_alarm"


class What(StrEnum):
    """What a history entry tells."""

    FIRED = "fired"
    RESOLVED = "resolved"
    PROMOTED = "promoted"
    ACKNOWLEDGED = "acknowledged"
    COMMENTED = "commented"
    CLOSED = "closed"
    FALSE_ALARM = "false_alarm"


class EventType(StrEnum):
    """The outward event of a change (design §4.7)."""

    OPENED = "river.incident.opened"
    UPDATED = "river.incident.updated"
    CLOSED = "river.incident.closed"


class Notify(StrEnum):
    """Whether a change calls somebody out or is only told."""

    PAGE = "page"
    INFORM = "inform"


class Conflict(Refused):
    """The incident was changed by somebody else since the caller looked at it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the lifecycle: where the action leads and what it asks for."""

    to: State
    what: What
    event: EventType = EventType.UPDATED
    needs_comment: bool = False
    needs_quiet: bool = False
    """Refused while a condition of the incident is still active."""


_COMMENT = What.COMMENTED
_FALSE = Step(State.CLOSED, What.FALSE_ALARM, EventType.CLOSED, needs_comment=True)

STEPS: Mapping[tuple[State, Action], Step] = {
    (State.OPENED, Action.ACKNOWLEDGE): Step(State.ACKNOWLEDGED, What.ACKNOWLEDGED),
    (State.OPENED, Action.COMMENT): Step(State.OPENED, _COMMENT, needs_comment=True),
    (State.OPENED, Action.FALSE_ALARM): _FALSE,
    (State.ACKNOWLEDGED, Action.COMMENT): Step(State.ACKNOWLEDGED, _COMMENT, needs_comment=True),
    (State.ACKNOWLEDGED, Action.CLOSE): Step(
        State.CLOSED, What.CLOSED, EventType.CLOSED, needs_comment=True, needs_quiet=True
    ),
    (State.ACKNOWLEDGED, Action.FALSE_ALARM): _FALSE,
}
"""What is not in this table is refused."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule's condition within an incident, in event time (ms); ``parameter`` is '' where the rule has none.

    ``since_ms`` and ``fired_at_ms`` are the newest firing's; ``resolved_at_ms`` is None while active.
    """

    rule: str
    station: str
    parameter: str
    since_ms: int
    fired_at_ms: int
    resolved_at_ms: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.rule, self.station, self.parameter

    @property
    def active(self) -> bool:
        return self.resolved_at_ms is None


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it stands. All times ms UTC; ``id`` is 0 until stored.

    The headline (kind, station, parameter, title, rule, value, limit, ``observed_at_ms``) is that of the finding that
    gave the incident its colour. ``since_ms`` and ``last_observed_at_ms`` span everything found so far.
    """

    id: int
    cause: str
    open_cause: str | None
    state: State
    colour: Colour
    kind: Kind
    retrospective: bool
    station: str
    parameter: str | None
    title: Text
    rule: str
    rule_version: str
    value: float | None
    limit: float | None
    observed_at_ms: int
    since_ms: int
    last_observed_at_ms: int
    opened_at_ms: int
    acknowledged_at_ms: int | None
    acknowledged_by: str | None
    recovered_at_ms: int | None
    closed_at_ms: int | None
    version: int
    conditions: tuple[Condition, ...]

    @property
    def is_open(self) -> bool:
        return self.state is not State.CLOSED

    @property
    def active(self) -> tuple[Condition, ...]:
        """The conditions that have not been resolved."""
        return tuple(c for c in self.conditions if c.active)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history: ``at_ms`` is the wall clock, ``observed_at_ms`` event time, None for what people did."""

    seq: int
    at_ms: int
    observed_at_ms: int | None
    what: What
    by: str
    from_state: State | None
    to_state: State
    text: Text
    finding_id: str | None = None
    comment: str | None = None
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What one change asks the store to write: an entry, an outward event, and the condition it touched, if any."""

    entry: Entry
    event: EventType
    notify: Notify
    condition: Condition | None = None


def concerned(open_incidents: Iterable[Incident], finding: Finding) -> tuple[Incident | None, ...]:
    """Which of the open incidents of its cause a finding is about; None stands for one that has to be opened.

    FIRED concerns exactly one. Live: the live incident, else the retrospective one in which the same condition is
    still active (it will be promoted), else a new one. Retrospective: the nearest retrospective one in event time, no
    further than ``JOIN_WITHIN_MS``, else a new one.

    RESOLVED concerns every incident in which that condition is active, possibly none; late data concern retrospective
    ones only: they tell of the past and end nothing that is live.
    """
    same = [i for i in open_incidents if i.cause == finding.cause and i.is_open]
    if finding.change is Change.RESOLVED:
        # The incident of the finding's own sort first: it is the one whose entry carries the finding's id.
        holding = [i for i in same if _ended(i, finding) is not None and (i.retrospective or not finding.retrospective)]
        return tuple(sorted(holding, key=lambda i: (i.retrospective != finding.retrospective, i.id)))
    if not finding.retrospective:
        live = [i for i in same if not i.retrospective]
        promoted = [i for i in same if any(c.key == _key(finding) for c in i.active)]
        newest = sorted(promoted, key=lambda i: i.last_observed_at_ms, reverse=True)
        candidates: list[Incident | None] = [*live, *newest, None]
        return (candidates[0],)
    near = [i for i in same if i.retrospective and _gap_ms(i, finding) <= JOIN_WITHIN_MS]
    return (min(near, key=lambda i: (_gap_ms(i, finding), i.id), default=None),)


def advance(incident: Incident | None, finding: Finding, now_ms: int) -> tuple[Incident, Effects] | None:
    """Apply a finding to an incident ``concerned`` named; None when it changes nothing.

    Idempotence by the finding's id is the store's: it alone knows every entry ever written.
    """
    if finding.change is Change.RESOLVED:
        return None if incident is None else _resolve(incident, finding, now_ms)
    return _open(finding, now_ms) if incident is None else _append(incident, finding, now_ms)


def act(incident: Incident, action: Action, *, by: str, comment: str | None, now_ms: int) -> tuple[Incident, Effects]:
    """Apply what a person does; raises Refused saying what is refused, why, and what is allowed now."""
    by = by.strip()
    comment = (comment or "").strip() or None
    label = say(f"action.{action}")
    step = STEPS.get((incident.state, action))
    if not by:
        raise Refused(sentence("incident.needs_name", id=incident.id, action=label))
    if step is None and not incident.is_open:
        raise Refused(sentence("incident.is_closed", id=incident.id, action=label))
    if step is None:
        raise Refused(
            sentence(
                "incident.not_now",
                id=incident.id,
                action=label,
                state=say(f"state.{incident.state}"),
                allowed=labels(allowed(incident)),
            )
        )
    if step.needs_comment and comment is None:
        raise Refused(sentence("incident.needs_comment", id=incident.id, action=label))
    if comment is not None and len(comment) > COMMENT_LIMIT:
        raise Refused(sentence("incident.comment_too_long", action=label, length=len(comment), limit=COMMENT_LIMIT))
    if step.needs_quiet and incident.active:
        names = [" ".join(part for part in (c.rule, c.station, c.parameter) if part) for c in incident.active]
        raise Refused(
            sentence(
                "incident.still_active",
                id=incident.id,
                action=label,
                count=len(names),
                conditions=Text("、".join(names), ", ".join(names)),
                allowed=labels(allowed(incident)),
            )
        )
    after = replace(incident, state=step.to, version=incident.version + 1)
    if action is Action.ACKNOWLEDGE:
        after = replace(after, acknowledged_at_ms=now_ms, acknowledged_by=by)
    if step.to is State.CLOSED:
        after = replace(after, closed_at_ms=now_ms, open_cause=None)
    entry = Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=step.what,
        by=by,
        from_state=incident.state,
        to_state=after.state,
        text=say(f"incident.{step.what}", id=incident.id, by=by),
        comment=comment,
    )
    return after, Effects(entry, step.event, Notify.INFORM)


def allowed(incident: Incident) -> tuple[Action, ...]:
    """The actions the incident would accept now (given a name and, where asked for, a comment)."""
    steps = ((action, STEPS.get((incident.state, action))) for action in Action)
    return tuple(a for a, step in steps if step is not None and not (step.needs_quiet and incident.active))


def labels(actions: Iterable[Action]) -> Text:
    """The names of actions as people read them, joined."""
    names = [say(f"action.{action}") for action in actions]
    return Text("、".join(n.zh for n in names), ", ".join(n.en for n in names))


def sentence(key: str, /, **values: object) -> str:
    """A sentence of the catalogue in both languages, as error messages carry it: ``中文。 / English.``"""
    text = say(key, **values)
    return f"{text.zh}。 / {text.en}."


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.rule, finding.station, finding.parameter or ""


def _gap_ms(incident: Incident, finding: Finding) -> int:
    """Event time between the two spans, 0 where they touch or overlap."""
    return max(0, finding.since_ms - incident.last_observed_at_ms, incident.since_ms - finding.observed_at_ms)


def _ended(incident: Incident, finding: Finding) -> Condition | None:
    """The active condition a RESOLVED ends. What late data show to have ended cannot end what began after it."""
    for condition in incident.active:
        if condition.key == _key(finding):
            later = finding.retrospective and condition.since_ms > finding.observed_at_ms
            return None if later else condition
    return None


def _fired(incident: Incident | None, finding: Finding) -> Condition:
    """The finding's condition after it fired; late data do not bring back what ended after them."""
    known = {c.key: c for c in incident.conditions} if incident else {}
    before = known.get(_key(finding))
    if before is None:
        return Condition(*_key(finding), finding.since_ms, finding.observed_at_ms)
    if finding.retrospective and before.resolved_at_ms is not None and before.resolved_at_ms > finding.observed_at_ms:
        return before
    since_ms = max(before.since_ms, finding.since_ms)
    return replace(
        before, since_ms=since_ms, fired_at_ms=max(before.fired_at_ms, finding.observed_at_ms), resolved_at_ms=None
    )


def _with(conditions: tuple[Condition, ...], condition: Condition) -> tuple[Condition, ...]:
    """The conditions with this one added or replaced, the order of the others kept."""
    merged = {c.key: c for c in conditions} | {condition.key: condition}
    return tuple(merged.values())


def _entry(before: Incident | None, after: Incident, finding: Finding, what: What, now_ms: int) -> Entry:
    return Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=finding.observed_at_ms,
        what=what,
        by=finding.rule,
        from_state=before.state if before else None,
        to_state=after.state,
        text=finding.text,
        finding_id=finding.id,
        value=finding.value,
        limit=finding.limit,
    )


def _open(finding: Finding, now_ms: int) -> tuple[Incident, Effects]:
    past = finding.retrospective
    condition = _fired(None, finding)
    opened = Incident(
        id=0,
        cause=finding.cause,
        open_cause=f"{finding.cause}|past|{finding.since_ms}" if past else finding.cause,
        state=State.OPENED,
        colour=Colour.BLUE if past else finding.colour,
        kind=finding.kind,
        retrospective=past,
        station=finding.station,
        parameter=finding.parameter,
        title=finding.text,
        rule=finding.rule,
        rule_version=finding.version,
        value=finding.value,
        limit=finding.limit,
        observed_at_ms=finding.observed_at_ms,
        since_ms=finding.since_ms,
        last_observed_at_ms=finding.observed_at_ms,
        opened_at_ms=now_ms,
        acknowledged_at_ms=None,
        acknowledged_by=None,
        recovered_at_ms=None,
        closed_at_ms=None,
        version=1,
        conditions=(condition,),
    )
    entry = _entry(None, opened, finding, What.FIRED, now_ms)
    quiet = past or finding.kind is Kind.FORECAST
    return opened, Effects(entry, EventType.OPENED, Notify.INFORM if quiet else Notify.PAGE, condition)


def _append(incident: Incident, finding: Finding, now_ms: int) -> tuple[Incident, Effects]:
    live = not finding.retrospective
    foretold = finding.kind is Kind.FORECAST
    promoted = live and incident.retrospective and not foretold
    come = live and incident.kind is Kind.FORECAST and not foretold  # what was forecast is there now
    more_urgent = come or (live and not foretold and finding.colour.rank < incident.colour.rank)
    back = live and not foretold and incident.recovered_at_ms is not None
    condition = _fired(incident, finding)
    after = replace(
        incident,
        since_ms=min(incident.since_ms, finding.since_ms),
        last_observed_at_ms=max(incident.last_observed_at_ms, finding.observed_at_ms),
        recovered_at_ms=_still_recovered(incident, condition, finding),
        version=incident.version + 1,
        conditions=_with(incident.conditions, condition),
    )
    if promoted:
        after = replace(after, retrospective=False, open_cause=incident.cause)
    if promoted or more_urgent:
        after = replace(
            after,
            colour=finding.colour,
            kind=finding.kind,
            station=finding.station,
            parameter=finding.parameter,
            title=finding.text,
            rule=finding.rule,
            rule_version=finding.version,
            value=finding.value,
            limit=finding.limit,
            observed_at_ms=finding.observed_at_ms,
        )
    entry = _entry(incident, after, finding, What.PROMOTED if promoted else What.FIRED, now_ms)
    notify = Notify.PAGE if promoted or more_urgent or back else Notify.INFORM
    return after, Effects(entry, EventType.UPDATED, notify, condition)


def _still_recovered(incident: Incident, condition: Condition, finding: Finding) -> int | None:
    """The recovery that a firing leaves standing.

    Late data older than a live incident's recovery do not undo it: otherwise the next live firing would look like a
    repetition and page nobody.
    """
    if incident.recovered_at_ms is None or not finding.retrospective:
        return None
    older = not incident.retrospective and finding.observed_at_ms <= incident.recovered_at_ms
    return incident.recovered_at_ms if older or not condition.active else None


def _resolve(incident: Incident, finding: Finding, now_ms: int) -> tuple[Incident, Effects] | None:
    ended = _ended(incident, finding)
    if ended is None:
        return None
    condition = replace(ended, resolved_at_ms=finding.observed_at_ms)
    conditions = _with(incident.conditions, condition)
    resolved = [c.resolved_at_ms for c in conditions if c.resolved_at_ms is not None]
    after = replace(
        incident,
        last_observed_at_ms=max(incident.last_observed_at_ms, finding.observed_at_ms),
        recovered_at_ms=max(resolved) if len(resolved) == len(conditions) else incident.recovered_at_ms,
        version=incident.version + 1,
        conditions=conditions,
    )
    entry = _entry(incident, after, finding, What.RESOLVED, now_ms)
    return after, Effects(entry, EventType.UPDATED, Notify.INFORM, condition)
