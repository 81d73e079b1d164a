"""What people do with an incident: pure, and driven by one table.

*What may a person do, and what comes of it?* ``act`` (and ``merge``, ``split``, which touch two incidents). Time brings
reminders and escalation: ``remind``. None of them looks at a clock, a database or the network. What checks find is in
``governance.incidents.from_findings``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from governance.incidents.deadlines import STANDARD, Policy
from governance.incidents.finding import Colour, Kind
from governance.incidents.headline import NOTHING, cut, of_json, title
from governance.incidents.model import (
    COMMENT_LIMIT,
    FINAL,
    WAITS_FOR,
    Action,
    Case,
    Condition,
    Effects,
    Entry,
    EventType,
    Evidence,
    FalseAlarm,
    Incident,
    Notify,
    NotNow,
    Order,
    PauseReason,
    Source,
    State,
    What,
    labels,
    recovered,
    with_condition,
)
from governance.organisation import roles
from governance.organisation.regions import Place
from governance.organisation.roles import PERSONS, Actor, Department, Forbidden, Right, Role, label
from infra.errors import Refused
from infra.texts import Text, say, sentence
from infra.times import beijing
from sensors.parameters import catalogue

_TEXT = (frozenset({Evidence.TEXT}),)
_SHOWN = (frozenset({Evidence.TEXT}), frozenset({Evidence.PHOTO, Evidence.MEASUREMENT}))
_ANY = (frozenset(Evidence),)


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the lifecycle: where the action leads (None: the state stays), who may do it, and what it asks for.

    ``evidence`` is a list of alternatives: of each set at least one sort must be shown.
    """

    to: State | None
    what: What
    right: Right
    event: EventType = EventType.UPDATED
    evidence: tuple[frozenset[Evidence], ...] = ()
    needs_quiet: bool = False
    """Refused while a condition is still active, and until enough good readings have followed its end."""


def _steps() -> dict[tuple[State, Action], Step]:
    s, a, w, r = State, Action, What, Right
    closed = EventType.CLOSED
    accept = Step(s.ACCEPTED, w.ACCEPTED, r.ACCEPT)
    reject = Step(s.REJECTED, w.REJECTED, r.ACCEPT, closed, _TEXT)
    false = Step(s.FALSE_ALARM, w.FALSE_ALARM, r.ACCEPT, closed, _TEXT)
    dispatch = Step(s.DISPATCHED, w.DISPATCHED, r.DISPATCH)
    start = Step(s.HANDLING, w.STARTED, r.HANDLE)
    give_back = Step(s.RETURNED, w.RETURNED, r.HANDLE, evidence=_TEXT)
    transfer = Step(s.TRANSFERRED, w.TRANSFERRED, r.HANDLE, evidence=_TEXT)
    rework = Step(s.REWORK, w.REWORKED, r.VERIFY, evidence=_TEXT)
    reopen = Step(s.REOPENED, w.REOPENED, r.REOPEN, evidence=_TEXT)
    table = {
        (s.REPORTED, a.ACCEPT): accept,
        (s.REOPENED, a.ACCEPT): accept,
        (s.REPORTED, a.REJECT): reject,
        (s.ACCEPTED, a.REJECT): reject,
        (s.RETURNED, a.REJECT): reject,
        (s.REOPENED, a.REJECT): reject,
        (s.ACCEPTED, a.DISPATCH): dispatch,
        (s.RETURNED, a.DISPATCH): dispatch,
        (s.REOPENED, a.DISPATCH): dispatch,
        (s.DISPATCHED, a.DISPATCH): dispatch,  # to somebody else
        (s.TRANSFERRED, a.DISPATCH): dispatch,
        (s.HANDLING, a.FINISH): Step(s.HANDLED, w.FINISHED, r.HANDLE, evidence=_SHOWN),
        (s.HANDLED, a.VERIFY): Step(s.VERIFIED, w.VERIFIED, r.VERIFY, evidence=_ANY),
        (s.HANDLED, a.REWORK): rework,
        (s.VERIFIED, a.REWORK): rework,
        (s.VERIFIED, a.CLOSE): Step(s.CLOSED, w.CLOSED, r.CLOSE, closed, _TEXT, needs_quiet=True),
        (s.CLOSED, a.EVALUATE): Step(None, w.EVALUATED, r.EVALUATE),
    }
    for state in (s.DISPATCHED, s.TRANSFERRED, s.REWORK):
        table[state, a.START] = start
    for state in (s.DISPATCHED, s.TRANSFERRED, s.HANDLING, s.REWORK):
        table[state, a.RETURN] = give_back
        table[state, a.TRANSFER] = transfer
        table[state, a.PAUSE] = Step(None, w.PAUSED, r.HANDLE, evidence=_TEXT)
        table[state, a.RESUME] = Step(None, w.RESUMED, r.HANDLE)
        table[state, a.CONTRIBUTE] = Step(None, w.CONTRIBUTED, r.HANDLE, evidence=_SHOWN)
    for state in FINAL:
        table[state, a.REOPEN] = reopen
    for state in State:
        if state not in FINAL:
            table[state, a.FALSE_ALARM] = false
            table[state, a.COMMENT] = Step(None, w.COMMENTED, r.COMMENT, evidence=_TEXT)
            table[state, a.SUPERVISE] = Step(None, w.SUPERVISED, r.SUPERVISE, evidence=_TEXT)
            table[state, a.RELEASE] = Step(None, w.RELEASED, r.SUPERVISE)
            table[state, a.MERGE] = Step(s.CLOSED, w.MERGED, r.ACCEPT, closed)
            table[state, a.SPLIT] = Step(None, w.SPLIT, r.ACCEPT, evidence=_TEXT)
            table[state, a.EMERGENCY] = Step(None, w.EMERGENCY, r.ACCEPT, evidence=_TEXT)
            table[state, a.EMERGENCY_REPORTED] = Step(None, w.EMERGENCY_REPORTED, r.ACCEPT, evidence=_TEXT)
    return table


STEPS: Mapping[tuple[State, Action], Step] = _steps()
"""What is not in this table is refused."""


def reported(
    order: Order,
    actor: Actor,
    now_ms: int,
    *,
    cause: str,
    colour: Colour,
    source: Source,
    place: Place,
    policy: Policy = STANDARD,
) -> tuple[Incident, Effects]:
    """A new incident that somebody reports; ``cause`` must be nobody else's. Raises Refused without a text."""
    if not actor.may(Right.REPORT):
        actor.must(Right.REPORT)
    words = (order.comment or "").strip()
    if not words:
        raise Refused(sentence("incident.report_needs_text"))
    _short(order.action, words)
    short = cut(words, TITLE_LIMIT)
    incident = Incident(
        id=0,
        cause=cause,
        open_cause=cause,
        state=State.REPORTED,
        colour=colour,
        kind=Kind.REPORT,
        retrospective=False,
        station="",
        parameter=None,
        title=Text(short, short),
        rule="",
        rule_version="",
        value=None,
        limit=None,
        observed_at_ms=now_ms,
        since_ms=now_ms,
        last_observed_at_ms=now_ms,
        opened_at_ms=now_ms,
        accepted_at_ms=None,
        accepted_by=None,
        recovered_at_ms=None,
        closed_at_ms=None,
        version=1,
        conditions=(),
        place=place,
        case=Case(source=source, matter=order.matter),
    )
    incident = timed(incident, now_ms, policy)
    entry = _told(None, incident, What.REPORTED, actor, order, now_ms, {"source": source.value})
    return incident, Effects(entry, EventType.OPENED, Notify.PAGE)


def act(
    incident: Incident,
    order: Order,
    actor: Actor,
    now_ms: int,
    *,
    policy: Policy = STANDARD,
    normal: Mapping[tuple[str, str, str], int] | None = None,
    needs: tuple[frozenset[Evidence], ...] | None = None,
) -> tuple[Incident, Effects]:
    """Apply what a person does.

    ``normal`` counts, for each condition, the good readings since its end: what closing a sensor-raised incident rests
    on; None where nobody asked the readings, and then it is not closed. ``needs`` replaces the evidence of the table.

    Raises Forbidden for what role, region or department do not allow, NotNow for what the state does not, and Refused
    for what is missing; each says what is allowed now. Merging and splitting are `merge` and `split`.
    """
    action = order.action
    step = _admitted(incident, action, actor)
    comment = (order.comment or "").strip() or None
    if comment is not None:
        _short(action, comment)
    missing = [kinds for kinds in (step.evidence if needs is None else needs) if not kinds & order.shown]
    if missing:
        wanted = _listed(f"shown.{kind}" for kind in Evidence if kind in missing[0])
        key = "incident.needs_comment" if missing[0] == frozenset({Evidence.TEXT}) else "incident.needs_evidence"
        raise NotNow(sentence(key, id=incident.id, action=_label(action), evidence=wanted), allowed(incident, actor))
    if step.needs_quiet:
        _prove_quiet(incident, action, actor, policy, normal)
    file, place = incident.case, incident.place
    after = replace(incident, version=incident.version + 1, state=step.to or incident.state)
    details: dict[str, Any] = {}
    if action is Action.ACCEPT:
        after = replace(after, accepted_at_ms=now_ms, accepted_by=actor.name)
    if order.matter and step.right in (Right.ACCEPT, Right.DISPATCH):
        file = replace(file, matter=order.matter)
        details["matter"] = order.matter
    if order.assignment and action in (Action.ACCEPT, Action.DISPATCH, Action.TRANSFER):
        given = order.assignment
        if given.region not in ("", place.region) and not actor.covers(given.region, place.reach):
            raise Forbidden(
                sentence("incident.beyond", id=incident.id, action=_label(action), region=given.region),
                allowed(incident, actor),
            )
        place = replace(place, region=given.region or place.region)
        same = given.department in (None, file.department) and file.matter == incident.case.matter
        file = replace(
            file,
            responsible=given.responsible or file.responsible,
            department=given.department or file.department,
            joint=given.joint or (file.joint if same else ()),
            contributed=() if given.joint or not same else file.contributed,
        )
        details["to"] = {
            "region": place.region,
            "responsible": file.responsible,
            "department": file.department.value if file.department else "",
            "joint": [d.value for d in file.joint],
        }
    unsaid = action is Action.TRANSFER or (action is Action.DISPATCH and not _assigned(incident))
    if unsaid and not order.assignment:
        raise NotNow(
            sentence("incident.needs_assignment", id=incident.id, action=_label(action)), allowed(incident, actor)
        )
    match action:
        case Action.FALSE_ALARM:
            file = replace(file, reason=_code(FalseAlarm, order.reason, incident, action))
            details["reason"] = file.reason
        case Action.START | Action.FINISH:
            file = replace(file, handler=actor.name, handlers=_with(file.handlers, actor.name))
        case Action.CONTRIBUTE:
            done = _contributing(incident, order, actor)
            handlers = _with(file.handlers, actor.name)
            file = replace(file, contributed=(*file.contributed, done), handlers=handlers)
            details["department"] = done.value
        case Action.VERIFY:
            file = replace(file, verifier=actor.name)
        case Action.REWORK:
            file = replace(file, verifier="")
        case Action.SUPERVISE:
            file = replace(file, supervised_at_ms=now_ms, supervised_by=actor.name, supervised_level=actor.level)
        case Action.RELEASE:
            file = replace(file, supervised_at_ms=None, supervised_by="", supervised_level=None)
        case Action.PAUSE:
            reason = _code(PauseReason, order.reason, incident, action)
            file = replace(file, paused_at_ms=now_ms, pause_reason=reason)
            details["reason"] = reason
        case Action.EMERGENCY:
            file = _declared(file, order.grade, actor, now_ms, policy)
            details |= {"grade": order.grade, "report_by": file.emergency_due_ms}
        case Action.EMERGENCY_REPORTED:
            file = replace(file, emergency_reported_at_ms=now_ms, emergency_alert_at_ms=None)
        case Action.EVALUATE:
            if order.score is None or not 0 <= order.score <= 100:
                raise Refused(sentence("incident.needs_score", id=incident.id, score=order.score))
            file = replace(file, score=order.score)
            details["score"] = order.score
        case Action.REOPEN:
            file = replace(file, handler="", verifier="", contributed=(), reason="", score=None)
    if actor.role in PERSONS and actor.name != file.emergency_by:  # a remark of the system's own is no answer
        file = _answered(file, now_ms, policy)
    after = replace(after, place=place, case=file)
    if action is Action.RESUME:
        after = _resumed(after, now_ms, policy)
    if after.state in FINAL and incident.state not in FINAL:
        file = replace(after.case, emergency_alert_at_ms=None)
        after = replace(after, closed_at_ms=now_ms, open_cause=None, case=file)
    if action is Action.REOPEN:
        past = incident.retrospective
        cause = f"{incident.cause}|past|{incident.since_ms}" if past else incident.cause
        after = replace(after, closed_at_ms=None, open_cause=cause)
    if after.state is not incident.state:  # dispatching again gives nobody more time
        after = timed(after, now_ms, policy)
    entry = _told(incident, after, step.what, actor, replace(order, comment=comment), now_ms, details)
    return after, Effects(entry, step.event, Notify.PAGE if action in _CALLS else Notify.INFORM)


def merge(
    incident: Incident, into: Incident, order: Order, actor: Actor, now_ms: int
) -> tuple[tuple[Incident, Effects], tuple[Incident, Effects]]:
    """Close an incident because another one goes on in its place, which takes over its conditions and causes.

    Raises what `act` raises, for either, and Refused where the two do not go together.
    """
    for one in (incident, into):
        _admitted(one, Action.MERGE, actor)
    if incident.id == into.id or (into.retrospective and not incident.retrospective):
        raise NotNow(sentence("incident.cannot_merge", id=incident.id, into=into.id), allowed(incident, actor))
    known = {c.key: c for c in into.conditions}
    brought = tuple(c for c in incident.conditions if c.key not in known or (c.active and not known[c.key].active))
    order = replace(order, into=into.id)
    gone = replace(
        incident,
        state=State.CLOSED,
        version=incident.version + 1,
        closed_at_ms=now_ms,
        open_cause=None,
        case=replace(
            incident.case,
            merged_into=into.id,
            due_ms=None,
            alert_at_ms=None,
            paused_at_ms=None,
            emergency_alert_at_ms=None,
        ),
    )
    also = dict.fromkeys((*into.case.also, *incident.causes))
    also.pop(into.cause, None)
    conditions = into.conditions
    for condition in brought:
        conditions = with_condition(conditions, condition)
    graver = incident.colour.rank < into.colour.rank and not incident.retrospective
    names = () if not graver else ("colour",) if incident.kind is Kind.FORECAST else _HEADLINE
    headline = {name: getattr(incident, name) for name in names}
    kept = replace(
        into,
        **headline,
        version=into.version + 1,
        since_ms=min(incident.since_ms, into.since_ms),
        last_observed_at_ms=max(incident.last_observed_at_ms, into.last_observed_at_ms),
        recovered_at_ms=None if any(c.active for c in conditions) else into.recovered_at_ms,
        conditions=conditions,
        case=replace(
            _higher(_graver(into.case, incident.case), incident.case),
            also=tuple(also),
            handlers=_with(into.case.handlers, *incident.case.handlers),
        ),
    )
    left = _told(incident, gone, What.MERGED, actor, order, now_ms, {"into": into.id})
    right = _told(into, kept, What.ABSORBED, actor, order, now_ms, {"merged": incident.id})
    return (
        (gone, Effects(left, EventType.CLOSED, Notify.INFORM)),
        (kept, Effects(right, EventType.UPDATED, Notify.INFORM, brought)),
    )


def split(
    incident: Incident,
    order: Order,
    actor: Actor,
    now_ms: int,
    policy: Policy = STANDARD,
    said: Mapping[tuple[str, str, str], Entry] = MappingProxyType({}),
) -> tuple[tuple[Incident, Effects], tuple[Incident, Effects]]:
    """Take some conditions of an incident into a new one, which begins where incidents begin.

    Its headline is that of its earliest condition: what was ``said`` when that fired.

    Raises what `act` raises, and Refused where the conditions are not some of the incident's.
    """
    _admitted(incident, Action.SPLIT, actor)
    wanted = set(order.conditions)
    taken = tuple(c for c in incident.conditions if c.key in wanted)
    if not wanted or len(taken) != len(wanted) or len(taken) == len(incident.conditions):
        raise NotNow(sentence("incident.cannot_split", id=incident.id), allowed(incident, actor))
    if not (order.comment or "").strip():
        raise NotNow(
            sentence("incident.needs_comment", id=incident.id, action=_label(Action.SPLIT)), allowed(incident, actor)
        )
    left_over = tuple(c for c in incident.conditions if c.key not in wanted)
    cause = f"{incident.cause}|split|{incident.id}.{incident.version + 1}"
    first = min(taken, key=lambda c: c.since_ms)
    told = said.get(first.key)
    about = of_json(told.details.get("headline")) if told else None
    named = say("incident.split_title", id=incident.id, station=first.station, parameter=first.parameter)
    new = replace(
        incident,
        id=0,
        cause=cause,
        open_cause=f"{cause}|past|{first.since_ms}" if incident.retrospective else cause,
        state=State.REPORTED,
        station=first.station,
        parameter=first.parameter or None,
        title=title(about) if about else told.text if told else named,
        headline=about,
        rule=first.rule,
        rule_version=incident.rule_version if first.rule == incident.rule else "",
        value=told.value if told else None,
        limit=told.limit if told else None,
        observed_at_ms=first.fired_at_ms,
        opened_at_ms=now_ms,
        since_ms=first.since_ms,
        accepted_at_ms=None,
        accepted_by=None,
        recovered_at_ms=recovered(taken),
        version=1,
        conditions=taken,
        case=Case(source=incident.case.source, also=incident.causes, handlers=incident.case.handlers),
    )
    new = timed(new, now_ms, policy)
    rest = replace(incident, version=incident.version + 1, conditions=left_over, recovered_at_ms=recovered(left_over))
    details = {"conditions": ["/".join(c.key) for c in taken]}
    left = _told(incident, rest, What.SPLIT, actor, order, now_ms, details)
    right = _told(None, new, What.SPLIT_OFF, actor, order, now_ms, {"from": incident.id})
    return (
        (rest, Effects(left, EventType.UPDATED, Notify.INFORM, gone=tuple(c.key for c in taken))),
        (new, Effects(right, EventType.OPENED, Notify.INFORM, taken)),
    )


def left_on(incident: Incident, action: Action) -> tuple[tuple[str, str, str], ...]:
    """What is on at other stations than the incident's own, by condition, when it is called none: what people know of
    one station ends nothing at the next, where it goes on in an incident of its own."""
    if action not in (Action.FALSE_ALARM, Action.REJECT):
        return ()
    return tuple(c.key for c in incident.active if c.station != incident.station)


def remind(
    incident: Incident, now_ms: int, *, up: Callable[[str], str], policy: Policy = STANDARD
) -> tuple[Incident, Effects] | None:
    """What time does to an open incident: a reminder, then one level up, and again; None when nothing is due.

    An emergency that is not reported goes first, and no pause stops it. ``up`` names the region one level above
    another, "" above the highest. Once it has fired, the next time lies in the future or nowhere: asked again it does
    nothing.
    """
    case = incident.case
    if incident.is_open and case.emergency_alert_at_ms is not None and case.emergency_alert_at_ms <= now_ms:
        return _called_out(incident, now_ms, up, policy)
    if not incident.is_open or case.alert_at_ms is None or case.due_ms is None or case.paused_at_ms is not None:
        return None
    if now_ms < case.alert_at_ms:
        return None
    if now_ms < case.due_ms:
        what, notify = What.REMINDED, Notify.INFORM
        case = replace(case, alerts=1, alert_at_ms=case.due_ms)
    else:
        what, notify = What.OVERDUE, Notify.PAGE
        below = case.escalated_to or incident.place.region
        higher = up(below)
        alerts = max(case.alerts, 1) + 1
        case = replace(
            case,
            alerts=alerts,
            escalated_to=higher or below,
            alert_at_ms=now_ms + policy.again_ms if higher or alerts < 3 else None,
        )
        if case.supervised_at_ms is None or case.supervised_by == BY_TIME:
            level = roles.level(_depth(case.escalated_to, up))
            since_ms = case.supervised_at_ms or now_ms
            case = replace(case, supervised_at_ms=since_ms, supervised_by=BY_TIME, supervised_level=level)
    after = replace(incident, case=case, version=incident.version + 1)
    due = incident.case.due_ms or 0
    entry = Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=what,
        by=BY_TIME,
        from_state=incident.state,
        to_state=after.state,
        text=say(f"incident.{what}", id=incident.id, due=beijing(due), step=say(f"phase.{WAITS_FOR[incident.state]}")),
        details={"due": due, "alerts": case.alerts, "escalated_to": case.escalated_to},
    )
    return after, Effects(entry, EventType.UPDATED, notify)


def _declared(case: Case, grade: str, actor: Actor, now_ms: int, policy: Policy) -> Case:
    """A case that is an emergency from now on. Raises Refused for a grade that does not exist."""
    within = policy.emergencies.within.get(grade)
    if within is None:
        raise Refused(sentence("incident.needs_grade", grade=grade, grades=", ".join(policy.emergencies.within)))
    due = policy.after(now_ms, within)
    return replace(
        case,
        emergency=grade,
        emergency_by=actor.name,
        emergency_due_ms=due,
        emergency_alert_at_ms=policy.emergencies.next_call(grade, due, now_ms, policy.remind_at, answered=False),
        emergency_calls=0,
        emergency_reported_at_ms=None,
    )


def _answered(case: Case, now_ms: int, policy: Policy) -> Case:
    """Somebody else deals with the emergency: it is called out again only when its hours run out."""
    alert, due = case.emergency_alert_at_ms, case.emergency_due_ms
    if alert is None or due is None or now_ms >= due:
        return case
    later = policy.emergencies.next_call(case.emergency, due, now_ms, policy.remind_at, answered=True)
    return replace(case, emergency_alert_at_ms=max(alert, later or alert))


def _graver(one: Case, other: Case) -> Case:
    """The first with the emergency of the graver of two; one that is not reported before one that is."""

    def gravity(case: Case) -> tuple[bool, bool, int]:
        known = case.emergency in GRADES
        unreported = bool(case.emergency) and case.emergency_reported_at_ms is None
        return not case.emergency, not unreported, GRADES.index(case.emergency) if known else len(GRADES)

    if gravity(one) <= gravity(other):
        return one
    return replace(one, **{name: getattr(other, name) for name in Case.__slots__ if name.startswith("emergency")})


def _higher(one: Case, other: Case) -> Case:
    """The first with the 督办 of the higher level of two."""

    def level(case: Case) -> tuple[bool, int]:
        return case.supervised_at_ms is None, 2**31 if case.supervised_level is None else case.supervised_level

    if level(one) <= level(other):
        return one
    return replace(one, **{name: getattr(other, name) for name in Case.__slots__ if name.startswith("supervised")})


def _depth(region: str, up: Callable[[str], str]) -> int:
    """How many regions lie above a region."""
    above: list[str] = []
    while (region := up(region)) and region not in above:
        above.append(region)
    return len(above)


def _with(names: tuple[str, ...], *others: str) -> tuple[str, ...]:
    """The names and the others, each once."""
    return tuple(dict.fromkeys((*names, *others)))


def _called_out(incident: Incident, now_ms: int, up: Callable[[str], str], policy: Policy) -> tuple[Incident, Effects]:
    """An emergency that nobody reported is called out, one level higher each time."""
    due, calls = incident.case.emergency_due_ms or now_ms, incident.case.emergency_calls + 1
    level = incident.place.region
    for _ in range(calls):
        level = up(level) or level
    following = policy.emergencies.next_call(incident.case.emergency, due, now_ms, policy.remind_at, answered=False)
    case = replace(incident.case, emergency_calls=calls, emergency_alert_at_ms=following)
    after = replace(incident, case=case, version=incident.version + 1)
    grade = incident.case.emergency
    entry = Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=What.EMERGENCY_UNREPORTED,
        by=BY_TIME,
        from_state=incident.state,
        to_state=incident.state,
        text=say("incident.emergency_unreported", id=incident.id, grade=grade, calls=calls, due=beijing(due)),
        details={"grade": grade, "report_by": due, "calls": calls, "escalated_to": level},
    )
    return after, Effects(entry, EventType.UPDATED, Notify.PAGE)


def succeed(incident: Incident, new: str, by: str, now_ms: int) -> tuple[Incident, Effects]:
    """An open case goes over to the responsible's successor."""
    old = incident.case.responsible
    after = replace(incident, case=replace(incident.case, responsible=new), version=incident.version + 1)
    entry = Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=What.SUCCEEDED,
        by=by,
        from_state=incident.state,
        to_state=incident.state,
        text=say("incident.succeeded", id=incident.id, by=by, old=old, new=new),
        details={"from": old, "to": new},
    )
    return after, Effects(entry, EventType.UPDATED, Notify.INFORM)


def allowed(incident: Incident, actor: Actor | None = None) -> tuple[Action, ...]:
    """The actions the incident would accept now from this actor, given what each asks for; from anybody without one."""
    return tuple(action for action in Action if _open_to(incident, action, actor))


def rights_of(action: Action) -> frozenset[Right]:
    """The rights that allow an action, in one state or another."""
    return frozenset(step.right for (_, known), step in STEPS.items() if known is action)


def concerns(incident: Incident, actor: Actor) -> bool:
    """Whether an incident is within somebody's reach: by its place, or because it is theirs."""
    return actor.covers(incident.place.region, incident.place.reach) or actor.answers_for(incident.case.responsible)


def elsewhere(incident: Incident) -> str:
    """The sentence for somebody within whose reach an incident is not."""
    region = incident.place.region
    return sentence("incident.elsewhere" if region else "incident.unplaced", id=incident.id)


CARRIES_ON = (
    Action.EMERGENCY_REPORTED,
    Action.ACCEPT,
    Action.DISPATCH,
    Action.START,
    Action.CONTRIBUTE,
    Action.FINISH,
    Action.VERIFY,
    Action.CLOSE,
)
"""Actions that carry a case on."""


def waiting_for(incident: Incident, actor: Actor) -> tuple[Action, ...]:
    """The actions by which this person would carry the incident on; none where it waits for somebody else.

    Dispatching waits for the office and its operators alone, though chiefs may do it. A chief, a deputy and a grid
    worker are waited for where they are responsible, or nobody is.
    """
    case = incident.case
    possible = [a for a in allowed(incident, actor) if a in CARRIES_ON]
    if not actor.may(Right.ACCEPT):
        possible = [a for a in possible if a is not Action.DISPATCH]
    if incident.state in (State.DISPATCHED, State.TRANSFERRED):  # dispatched once; again is no duty
        possible = [a for a in possible if a is not Action.DISPATCH]
    theirs = actor.answers_for(case.responsible) or not (case.responsible or case.department)
    if actor.role in (Role.HANDLER, Role.ADMINISTRATOR, Role.MACHINE) or theirs:
        return tuple(possible)
    return tuple(a for a in possible if STEPS[incident.state, a].right is not Right.HANDLE)


def hindered(incident: Incident, actor: Actor) -> dict[Action, str]:
    """Why what would carry the incident on is closed to this person now, in a sentence of both languages.

    Only what the state knows: nothing tells here how a case that waits to be accepted could be closed.
    """
    found: dict[Action, str] = {}
    for action in CARRIES_ON:
        known = (incident.state, action) in STEPS and (action is not Action.CONTRIBUTE or bool(incident.case.joint))
        again = action is Action.DISPATCH and incident.state in (State.DISPATCHED, State.TRANSFERRED)
        if not known or again or action is Action.EMERGENCY_REPORTED or _open_to(incident, action, actor):
            continue
        try:
            if _admitted(incident, action, actor).needs_quiet:
                _prove_quiet(incident, action, actor, STANDARD, None)
        except Refused as error:
            found[action] = str(error)
    return found


def urgency(incident: Incident, now_ms: int) -> tuple[bool, bool, int, int, int]:
    """The order of a work list, most urgent first: emergency to be reported, overdue, colour, deadline, number."""
    case = incident.case
    unreported = bool(case.emergency) and case.emergency_reported_at_ms is None
    overdue = case.due_ms is not None and case.due_ms < now_ms and case.paused_at_ms is None
    far = 2**62 if case.due_ms is None or case.paused_at_ms is not None else case.due_ms
    return not unreported, not overdue, incident.colour.rank, far, incident.id


_HEADLINE = (
    "colour",
    "kind",
    "station",
    "parameter",
    "title",
    "headline",
    "rule",
    "rule_version",
    "value",
    "limit",
    "observed_at_ms",
)
"""What an incident has from the finding that gave it its colour."""

GRADES = ("I", "II", "III", "IV")
"""Of an emergency, the gravest first."""
TITLE_LIMIT = 80
"""Characters of what somebody reports that are kept as its title."""
BY_TIME = "deadline"
"""Who speaks when time does."""

_CALLS = frozenset({Action.DISPATCH, Action.TRANSFER, Action.REOPEN, Action.REWORK, Action.EMERGENCY, Action.SUPERVISE})
"""Actions after which somebody else has to move."""


def _open_to(incident: Incident, action: Action, actor: Actor | None) -> bool:
    step = STEPS.get((incident.state, action))
    if step is None or (step.needs_quiet and incident.active) or not _timely(incident, action, actor):
        return False
    return actor is None or (
        actor.may(step.right) and concerns(incident, actor) and _personal(incident, action, actor) is None
    )


def _timely(incident: Incident, action: Action, actor: Actor | None) -> bool:
    """What the marks of an incident allow beside its state."""
    case = incident.case
    match action:
        case Action.PAUSE:
            return case.paused_at_ms is None
        case Action.RESUME:
            return case.paused_at_ms is not None
        case Action.SUPERVISE:
            return case.supervised_at_ms is None or (actor is not None and _outranks(actor, case))
        case Action.RELEASE:
            return case.supervised_at_ms is not None
        case Action.EMERGENCY_REPORTED:
            return bool(case.emergency) and case.emergency_reported_at_ms is None
        case Action.CONTRIBUTE:
            return bool(_waiting(incident))
        case Action.FINISH:
            return not _waiting(incident)
        case Action.SPLIT:
            return len(incident.conditions) > 1
        case Action.REOPEN:
            return case.merged_into is None
        case _:
            return True


def _outranks(actor: Actor, case: Case) -> bool:
    """Whether somebody may put a 督办 over the one that is there: over that of a person only from a higher level."""
    level = case.supervised_level
    if level is None:
        return False
    return actor.level <= level if case.supervised_by == BY_TIME else actor.level < level


def _waiting(incident: Incident) -> tuple[Department, ...]:
    """The joint departments that have not done their part yet."""
    return tuple(d for d in incident.case.joint if d not in incident.case.contributed)


def _contributing(incident: Incident, order: Order, actor: Actor) -> Department:
    """The department that does its part: the handler's own, else the one named, else the only one waited for.

    Raises NotNow where that is none that is waited for.
    """
    waiting = _waiting(incident)
    done = actor.department or (order.assignment.department if order.assignment else None)
    done = done or (waiting[0] if len(waiting) == 1 else None)
    if done not in waiting:
        departments = _listed(f"department.{one}" for one in waiting)
        raise NotNow(
            sentence("incident.needs_department", id=incident.id, departments=departments), allowed(incident, actor)
        )
    return done


def _personal(incident: Incident, action: Action, actor: Actor) -> str | None:
    """Why this very person may not, whose role may; the key of the sentence, None when they may."""
    step = STEPS[incident.state, action]
    case = incident.case
    if action in (Action.VERIFY, Action.CLOSE) and actor.name in case.handlers:
        return "incident.own_work"
    if action is Action.RELEASE and case.supervised_level is not None and actor.level > case.supervised_level:
        return "incident.supervised_above"
    if step.right is Right.HANDLE and actor.role is Role.HANDLER:
        if action is Action.CONTRIBUTE:
            return None if actor.department in _waiting(incident) else "incident.other_department"
        if actor.department is None or actor.department is not case.department:
            return "incident.other_department"
    return None


def _admitted(incident: Incident, action: Action, actor: Actor) -> Step:
    """The row of the table, once state, role and region admit it; raises Forbidden or NotNow."""
    if not actor.name.strip():
        raise Refused(sentence("incident.needs_name", id=incident.id, action=_label(action)))
    now = allowed(incident, actor)
    if not any(actor.may(right) for right in rights_of(action)):
        told = sentence(
            "incident.role_forbids", id=incident.id, action=_label(action), role=label(actor.role), allowed=labels(now)
        )
        raise Forbidden(told, now)
    if not concerns(incident, actor):
        raise Forbidden(elsewhere(incident), now)
    step = STEPS.get((incident.state, action))
    if step is None or not _timely(incident, action, actor):
        key = "incident.not_now" if incident.is_open else "incident.is_over"
        if step is not None:
            key = _UNTIMELY.get(action, key)
        raise NotNow(
            sentence(
                key,
                id=incident.id,
                action=_label(action),
                state=say(f"state.{incident.state}"),
                allowed=labels(now),
                departments=_listed(f"department.{d}" for d in _waiting(incident)),
                supervisor=_supervisor(incident.case),
            ),
            now,
        )
    if (why := _personal(incident, action, actor)) is not None:
        raise Forbidden(
            sentence(
                why,
                id=incident.id,
                action=_label(action),
                by=actor.name,
                department=say(f"department.{incident.case.department}") if incident.case.department else "—",
                supervisor=_supervisor(incident.case),
                allowed=labels(now),
            ),
            now,
        )
    return step


_UNTIMELY = {Action.FINISH: "incident.waits_for", Action.SUPERVISE: "incident.supervised_already"}
"""The sentence where the state would allow the action and the marks of the incident do not."""


def _supervisor(case: Case) -> str | Text:
    return say("entry.by_riverchief") if case.supervised_by == BY_TIME else case.supervised_by


def _prove_quiet(
    incident: Incident,
    action: Action,
    actor: Actor,
    policy: Policy,
    normal: Mapping[tuple[str, str, str], int] | None,
) -> None:
    """Nothing active, and enough good readings since: a dead sensor proves nothing. Raises NotNow."""
    now = allowed(incident, actor)
    if incident.active:
        names = [_named(c, incident) for c in incident.active]
        raise NotNow(
            sentence(
                "incident.still_active",
                id=incident.id,
                action=_label(action),
                count=len(names),
                conditions=Text("、".join(n.zh for n in names), ", ".join(n.en for n in names)),
                allowed=labels(now),
            ),
            now,
        )
    needed = policy.proof.get(incident.case.matter, policy.close_after)
    if incident.retrospective:
        return  # of the past: what happens now proves nothing about it
    for condition in incident.conditions:
        seen = (normal or {}).get(condition.key, 0)
        if seen < needed:
            raise NotNow(
                sentence(
                    "incident.not_proven",
                    id=incident.id,
                    action=_label(action),
                    condition=_named(condition, incident),
                    seen=seen,
                    needed=needed,
                    allowed=labels(a for a in now if a is not action),
                ),
                tuple(a for a in now if a is not action),
            )


def _named(condition: Condition, incident: Incident) -> Text:
    """A condition as people know it: place and parameter; what has no parameter by its rule."""
    known, about = catalogue(), incident.headline
    what = Text(condition.rule, condition.rule)
    if condition.parameter in known:
        what = Text(known[condition.parameter].zh, known[condition.parameter].en)
    elif about is not None and about.matter != NOTHING and condition.rule == incident.rule:
        what = about.matter
    here = about is not None and condition.station == incident.station
    place = about.place if here and about is not None else Text(condition.station, condition.station)
    return say("incident.condition", place=place, what=what)


def _assigned(incident: Incident) -> bool:
    return bool(incident.case.responsible or incident.case.department or incident.place.region)


def _code(kinds: type[StrEnum], given: str, incident: Incident, action: Action) -> str:
    try:
        return kinds(given).value
    except ValueError:
        raise Refused(
            sentence(
                "incident.needs_reason",
                id=incident.id,
                action=_label(action),
                reason=given[:80],
                reasons=", ".join(kinds),
            )
        ) from None


def _short(action: Action, comment: str) -> None:
    if len(comment) > COMMENT_LIMIT:
        raise Refused(
            sentence("incident.comment_too_long", action=_label(action), length=len(comment), limit=COMMENT_LIMIT)
        )


def _label(action: Action) -> Text:
    return say(f"action.{action}")


def _listed(keys: Iterable[str]) -> Text:
    names = [say(key) for key in keys]
    return Text("、".join(n.zh for n in names), ", ".join(n.en for n in names))


def _told(
    before: Incident | None,
    after: Incident,
    what: What,
    actor: Actor,
    order: Order,
    now_ms: int,
    details: Mapping[str, Any],
) -> Entry:
    """The entry of what a person did, or this system by itself."""
    name: str | Text = say("entry.by_riverchief") if actor.role is Role.SYSTEM else actor.name.strip()
    return Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=what,
        by=actor.name.strip(),
        from_state=before.state if before else None,
        to_state=after.state,
        text=_sentence(before or after, after, what, name, order),
        comment=order.comment,
        role=actor.role.value,
        attachments=order.attachments,
        measurement=order.measurement,
        details=details,
    )


def _sentence(before: Incident, after: Incident, what: What, by: str | Text, order: Order) -> Text:
    """What somebody did; of a dispatch to whom, and by when."""
    if what not in (What.DISPATCHED, What.TRANSFERRED):
        return say(f"incident.{what}", id=before.id, by=by, other=order.into)
    case, nobody = after.case, say("incident.nobody")
    to = say(
        "incident.assigned",
        lead=say(f"department.{case.department}") if case.department else case.responsible or nobody,
        joint=_listed(f"department.{one}" for one in case.joint) if case.joint else nobody,
        chief=case.responsible or nobody,
        region=after.place.region or nobody,
    )
    told = say(f"incident.{what}_to", by=by, to=to)
    return told if case.due_ms is None else say("incident.assigned_due", said=told, due=beijing(case.due_ms))


def timed(incident: Incident, now_ms: int, policy: Policy) -> Incident:
    """The incident with the deadline of the state it has just come into; none for the past and for what is over."""
    case = replace(
        incident.case,
        step_since_ms=now_ms,
        due_ms=None,
        alert_at_ms=None,
        alerts=0,
        escalated_to="",
        paused_at_ms=None,
        pause_reason="",
    )
    phase = WAITS_FOR.get(incident.state)
    if phase is not None and not incident.retrospective:
        due = policy.due(phase, incident.colour, now_ms, case.matter)
        case = replace(case, due_ms=due, alert_at_ms=policy.reminder(now_ms, due))
    return replace(incident, case=case)


def tightened(incident: Incident, policy: Policy) -> Incident:
    """The deadline after the colour became more urgent: never a later one."""
    case, phase = incident.case, WAITS_FOR.get(incident.state)
    if phase is None or case.due_ms is None:
        return incident
    due = min(case.due_ms, policy.due(phase, incident.colour, case.step_since_ms, case.matter))
    alert = case.alert_at_ms
    if alert is not None:
        alert = min(alert, policy.reminder(case.step_since_ms, due) if not case.alerts else max(due, alert))
    return replace(incident, case=replace(case, due_ms=due, alert_at_ms=alert))


def _resumed(incident: Incident, now_ms: int, policy: Policy) -> Incident:
    """The clock goes on with what was left of the limit when it stopped."""
    case, phase = incident.case, WAITS_FOR.get(incident.state)
    stopped, due = case.paused_at_ms, case.due_ms
    case = replace(case, paused_at_ms=None, pause_reason="")
    if stopped is not None and due is not None and phase is not None and due > stopped:
        if policy.limit(phase, incident.colour, case.matter).unit in ("m", "h"):
            due += now_ms - stopped
        else:
            due = max(due, policy.later(now_ms, policy.between(stopped, due)))
        alert = due if case.alerts else max(now_ms, due - int((due - case.step_since_ms) * (1 - policy.remind_at)))
        case = replace(case, due_ms=due, alert_at_ms=alert)
    return replace(incident, case=case)


def _update(before: Incident, after: Incident, entry: Entry, notify: Notify, condition: Condition) -> Effects:
    """What one more finding asks the store to write; it only repeats where what the incident is stays the same."""

    def is_(incident: Incident) -> tuple[object, ...]:
        return incident.state, incident.colour, incident.kind, incident.retrospective

    return Effects(entry, EventType.UPDATED, notify, (condition,), repeats=is_(before) == is_(after))
