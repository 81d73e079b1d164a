"""Lifecycle of an incident: the table of actions and transitions, and the functions that apply it. Pure.

``TABLE`` has a row for each action: from which states it starts, where it leads, who may take it, what must be shown,
under which condition, with which effects. `apply_action` applies a row; `merge` and `split` touch two incidents. What
findings change is in `governance.incidents.from_findings`, what time changes in `governance.incidents.reminders`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from governance.incidents import transition_effects as effects
from governance.incidents import transition_guards as guards
from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.headline import NO_TEXT, headline_from_json, title, truncated
from governance.incidents.model import (
    COMMENT_LIMIT,
    DEADLINE_ACTOR,
    FINAL_STATES,
    Action,
    Case,
    Condition,
    Effects,
    Entry,
    EntryKind,
    EventType,
    Evidence,
    Incident,
    NotAllowedNow,
    Notify,
    Order,
    Source,
    State,
    action_name,
    action_names,
    listed,
    recovery_time_ms,
    unique,
    with_condition,
)
from governance.incidents.step_deadline import with_step_deadline
from governance.incidents.transition_effects import Effect, RegionName, Request
from governance.incidents.transition_guards import PersonGuard, waiting_departments
from governance.organisation.regions import Place
from governance.organisation.roles import PERSON_ROLES, Actor, Forbidden, Right, Role, person_name, role_name
from infra.errors import Refused
from infra.texts import Text, joined, same, say
from infra.times import beijing
from sensors.parameters import catalogue

EMERGENCY_GRADES = ("I", "II", "III", "IV")
"""The gravest first."""
TITLE_MAX_CHARS = 80
"""Characters of a reported text that become the title of its incident."""

# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A transition: what an action needs and what it does.

    ``source`` are the states in which it may be taken, ``to`` the one it leads to (None: the state stays). ``evidence``
    is a list of alternatives: of each set at least one sort must be shown. ``condition`` must hold beside the state,
    else the sentence ``unmet`` is given; ``person`` excludes people although their role may. The ``effects`` apply in
    their order; ``notify`` says whether somebody else has to act now.
    """

    action: Action
    source: frozenset[State]
    to: State | None
    right: Right
    what: EntryKind
    evidence: tuple[frozenset[Evidence], ...] = ()
    condition: guards.Guard = guards.always
    unmet: str = ""
    person: PersonGuard = guards.anybody
    effects: tuple[Effect, ...] = ()
    notify: Notify = Notify.INFORM
    event: EventType = EventType.UPDATED
    needs_quiet: bool = False
    """Refused while a condition is active, and until enough good readings have followed its end."""


def _table() -> tuple[Transition, ...]:
    a, s, r, w, do, step = Action, State, Right, EntryKind, effects, Transition
    page, closed = Notify.PAGE, EventType.CLOSED
    text = (frozenset({Evidence.TEXT}),)
    result = (*text, frozenset({Evidence.PHOTO, Evidence.MEASUREMENT}))
    anything = (frozenset(Evidence),)
    lead, joint = guards.of_the_lead_department, guards.of_a_waiting_department
    other = guards.not_a_handler_of_it
    new = frozenset({s.REPORTED, s.REOPENED})
    assignable = frozenset({s.ACCEPTED, s.RETURNED, s.REOPENED, s.DISPATCHED, s.TRANSFERRED})
    undecided = frozenset({s.REPORTED, s.ACCEPTED, s.RETURNED, s.REOPENED})
    assigned = frozenset({s.DISPATCHED, s.TRANSFERRED, s.REWORK})
    with_handler = assigned | {s.HANDLING}
    handling, handled, verified = frozenset({s.HANDLING}), frozenset({s.HANDLED}), frozenset({s.VERIFIED})
    is_open, over = frozenset(State) - FINAL_STATES, FINAL_STATES
    # fmt: off
    return (
        # from one state to the next
        step(action=a.ACCEPT, source=new, to=s.ACCEPTED, right=r.ACCEPT, what=w.ACCEPTED,
             effects=(do.set_matter, do.accept, do.assign)),
        step(action=a.REJECT, source=undecided, to=s.REJECTED, right=r.ACCEPT, what=w.REJECTED, event=closed,
             evidence=text, effects=(do.set_matter,)),
        step(action=a.FALSE_ALARM, source=is_open, to=s.FALSE_ALARM, right=r.ACCEPT, what=w.FALSE_ALARM, event=closed,
             evidence=text, effects=(do.set_matter, do.mark_false_alarm)),
        step(action=a.DISPATCH, source=assignable, to=s.DISPATCHED, right=r.DISPATCH, what=w.DISPATCHED, notify=page,
             effects=(do.set_matter, do.assign_first)),
        step(action=a.START, source=assigned, to=s.HANDLING, right=r.HANDLE, what=w.STARTED, person=lead,
             effects=(do.handle,)),
        step(action=a.RETURN, source=with_handler, to=s.RETURNED, right=r.HANDLE, what=w.RETURNED, person=lead,
             evidence=text),
        step(action=a.TRANSFER, source=with_handler, to=s.TRANSFERRED, right=r.HANDLE, what=w.TRANSFERRED, person=lead,
             notify=page, evidence=text, effects=(do.assign_anew,)),
        step(action=a.FINISH, source=handling, to=s.HANDLED, right=r.HANDLE, what=w.FINISHED, person=lead,
             evidence=result, condition=guards.joint_parts_done, unmet="incident.waits_for", effects=(do.handle,)),
        step(action=a.VERIFY, source=handled, to=s.VERIFIED, right=r.VERIFY, what=w.VERIFIED, person=other,
             evidence=anything, effects=(do.verify,)),
        step(action=a.REWORK, source=handled | verified, to=s.REWORK, right=r.VERIFY, what=w.REWORKED, notify=page,
             evidence=text, effects=(do.undo_verification,)),
        step(action=a.CLOSE, source=verified, to=s.CLOSED, right=r.CLOSE, what=w.CLOSED, person=other, event=closed,
             evidence=text, needs_quiet=True),
        step(action=a.REOPEN, source=over, to=s.REOPENED, right=r.REOPEN, what=w.REOPENED, notify=page,
             evidence=text, condition=guards.not_merged, effects=(do.reopen,)),
        step(action=a.MERGE, source=is_open, to=s.CLOSED, right=r.ACCEPT, what=w.MERGED, event=closed),
        # within a state
        step(action=a.CONTRIBUTE, source=with_handler, to=None, right=r.HANDLE, what=w.CONTRIBUTED, person=joint,
             evidence=result, condition=guards.joint_parts_open, effects=(do.contribute,)),
        step(action=a.PAUSE, source=with_handler, to=None, right=r.HANDLE, what=w.PAUSED, person=lead,
             evidence=text, condition=guards.not_paused, effects=(do.pause,)),
        step(action=a.RESUME, source=with_handler, to=None, right=r.HANDLE, what=w.RESUMED, person=lead,
             condition=guards.paused, effects=(do.resume,)),
        step(action=a.COMMENT, source=is_open, to=None, right=r.COMMENT, what=w.COMMENTED, evidence=text),
        step(action=a.SUPERVISE, source=is_open, to=None, right=r.SUPERVISE, what=w.SUPERVISED, notify=page,
             evidence=text, condition=guards.unsupervised_or_outranked, unmet="incident.supervised_already",
             effects=(do.supervise,)),
        step(action=a.RELEASE, source=is_open, to=None, right=r.SUPERVISE, what=w.RELEASED,
             condition=guards.supervised, person=guards.at_least_the_supervisors_level, effects=(do.release,)),
        step(action=a.SPLIT, source=is_open, to=None, right=r.ACCEPT, what=w.SPLIT, evidence=text,
             condition=guards.several_conditions),
        step(action=a.EMERGENCY, source=is_open, to=None, right=r.ACCEPT, what=w.EMERGENCY, notify=page,
             evidence=text, effects=(do.set_matter, do.declare_emergency)),
        step(action=a.EMERGENCY_REPORTED, source=is_open, to=None, right=r.ACCEPT, what=w.EMERGENCY_REPORTED,
             evidence=text, condition=guards.emergency_unreported, effects=(do.set_matter, do.report_emergency)),
        step(action=a.EVALUATE, source=frozenset({s.CLOSED}), to=None, right=r.EVALUATE, what=w.EVALUATED,
             effects=(do.evaluate,)),
    )
    # fmt: on


TABLE = _table()
"""Every action once. What is not in this table is refused."""

TRANSITIONS: Mapping[tuple[State, Action], Transition] = {
    (state, row.action): row for row in TABLE for state in row.source
}
"""The row for a state and an action."""

# -- one incident ------------------------------------------------------------------------------------------------------


def apply_action(
    incident: Incident,
    order: Order,
    actor: Actor,
    now_ms: int,
    *,
    policy: DeadlinePolicy = DEFAULT_POLICY,
    normal: Mapping[tuple[str, str, str], int] | None = None,
    needs: tuple[frozenset[Evidence], ...] | None = None,
    region_name: RegionName = same,
) -> tuple[Incident, Effects]:
    """Apply what a person does.

    ``normal`` counts, for each condition, the good readings since its end: what closing a sensor-raised incident rests
    on; None where nobody asked the readings, and then it is not closed. ``needs`` replaces the evidence of the table.
    ``region_name`` names the region in the text of a dispatch, which shows its code without it.

    Raises Forbidden where role, region or department do not allow it, NotAllowedNow where the state does not, and
    Refused where something is missing; each says what is allowed now. Merging and splitting are `merge` and `split`.
    """
    step = _admitted(incident, order.action, actor)
    allowed_now = allowed(incident, actor)
    order = replace(order, comment=(order.comment or "").strip() or None)
    _require_short_comment(order.action, order.comment or "")
    _require_evidence(incident, order, step.evidence if needs is None else needs, allowed_now)
    if step.needs_quiet:
        _require_quiet(incident, order.action, policy, normal, allowed_now)

    request = Request(incident, order, actor, now_ms, policy, allowed_now, region_name)
    after = replace(incident, version=incident.version + 1, state=step.to or incident.state)
    details: dict[str, Any] = {}
    for effect in step.effects:
        after, more = effect(after, request)
        details |= more
    if (
        actor.role in PERSON_ROLES and actor.name != after.case.emergency_by
    ):  # a remark of the system's own is no answer
        after = effects.answer_emergency(after, now_ms, policy)
    if after.state in FINAL_STATES and incident.state not in FINAL_STATES:
        after = effects.end(after, now_ms)
    if after.state is not incident.state:  # dispatching again does not extend the deadline
        after = with_step_deadline(after, now_ms, policy)
    entry = _entry(incident, after, step.what, actor, order, now_ms, details, region_name)
    return after, Effects(entry, step.event, step.notify)


def open_reported(
    order: Order,
    actor: Actor,
    now_ms: int,
    *,
    cause: str,
    colour: Colour,
    source: Source,
    place: Place,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> tuple[Incident, Effects]:
    """Open an incident from a report; ``cause`` must be unique. Raises Refused without a text."""
    actor.must(Right.REPORT)
    words = (order.comment or "").strip()
    if not words:
        raise Refused(say("incident.report_needs_text"))
    _require_short_comment(order.action, words)
    short = truncated(words, TITLE_MAX_CHARS)
    incident = Incident(
        id=0,
        cause=cause,
        open_cause=cause,
        state=State.REPORTED,
        colour=colour,
        kind=FindingKind.REPORT,
        title=Text(short, short),
        observed_at_ms=now_ms,
        since_ms=now_ms,
        last_observed_at_ms=now_ms,
        opened_at_ms=now_ms,
        place=place,
        case=Case(source=source, matter=order.matter),
    )
    incident = with_step_deadline(incident, now_ms, policy)
    entry = _entry(None, incident, EntryKind.REPORTED, actor, order, now_ms, {"source": source.value})
    return incident, Effects(entry, EventType.OPENED, Notify.PAGE)


# -- two incidents -----------------------------------------------------------------------------------------------------


def merge(
    incident: Incident, into: Incident, order: Order, actor: Actor, now_ms: int
) -> tuple[tuple[Incident, Effects], tuple[Incident, Effects]]:
    """Close an incident because another one goes on in its place, which takes over its conditions and causes.

    Raises what `apply_action` raises, for either, and NotAllowedNow where the two do not go together.
    """
    for one in (incident, into):
        _admitted(one, Action.MERGE, actor)
    if incident.id == into.id or (into.retrospective and not incident.retrospective):
        raise NotAllowedNow(say("incident.cannot_merge", id=incident.id, into=into.id), allowed(incident, actor))
    order = replace(order, into=into.id)
    by_key = {c.key: c for c in into.conditions}
    brought = tuple(c for c in incident.conditions if c.key not in by_key or (c.active and not by_key[c.key].active))
    merged = _merged_away(incident, into, now_ms)
    absorbing = _absorbing(into, incident, brought)
    closed = _entry(incident, merged, EntryKind.MERGED, actor, order, now_ms, {"into": into.id})
    absorbed = _entry(into, absorbing, EntryKind.ABSORBED, actor, order, now_ms, {"merged": incident.id})
    return (
        (merged, Effects(closed, EventType.CLOSED, Notify.INFORM)),
        (absorbing, Effects(absorbed, EventType.UPDATED, Notify.INFORM, brought)),
    )


def _merged_away(incident: Incident, into: Incident, now_ms: int) -> Incident:
    """The incident that ends: it names the one that goes on, and nothing of it is due any more."""
    case = replace(
        incident.case, merged_into=into.id, due_ms=None, alert_at_ms=None, paused_at_ms=None, emergency_alert_at_ms=None
    )
    return replace(
        incident, state=State.CLOSED, version=incident.version + 1, closed_at_ms=now_ms, open_cause=None, case=case
    )


def _absorbing(into: Incident, incident: Incident, brought: tuple[Condition, ...]) -> Incident:
    """The incident that goes on, with what the other brings: conditions, causes, and whatever of it is graver."""
    causes = tuple(cause for cause in unique(into.case.also, *incident.causes) if cause != into.cause)
    conditions = into.conditions
    for condition in brought:
        conditions = with_condition(conditions, condition)
    case = _with_higher_supervision(_with_graver_emergency(into.case, incident.case), incident.case)
    case = replace(case, also=causes, handlers=unique(into.case.handlers, *incident.case.handlers))
    fields: tuple[str, ...] = ()
    if incident.colour.rank < into.colour.rank and not incident.retrospective:
        fields = ("colour",) if incident.kind is FindingKind.FORECAST else _HEADLINE_FIELDS
    return replace(
        into,
        **{name: getattr(incident, name) for name in fields},
        version=into.version + 1,
        since_ms=min(incident.since_ms, into.since_ms),
        last_observed_at_ms=max(incident.last_observed_at_ms, into.last_observed_at_ms),
        recovered_at_ms=None if any(c.active for c in conditions) else into.recovered_at_ms,
        conditions=conditions,
        case=case,
    )


def split(
    incident: Incident,
    order: Order,
    actor: Actor,
    now_ms: int,
    policy: DeadlinePolicy = DEFAULT_POLICY,
    firings: Mapping[tuple[str, str, str], Entry] = MappingProxyType({}),
) -> tuple[tuple[Incident, Effects], tuple[Incident, Effects]]:
    """Take some conditions of an incident into a new one, which begins where incidents begin.

    Its headline is that of its earliest condition: what ``firings``, the entries of the newest firings by condition,
    say of it. Raises what `apply_action` raises, and NotAllowedNow where the conditions are not some of the incident's.
    """
    _admitted(incident, Action.SPLIT, actor)
    wanted = set(order.conditions)
    taken = tuple(c for c in incident.conditions if c.key in wanted)
    if not wanted or len(taken) != len(wanted) or len(taken) == len(incident.conditions):
        raise NotAllowedNow(say("incident.cannot_split", id=incident.id), allowed(incident, actor))
    if not (order.comment or "").strip():
        action = action_name(Action.SPLIT)
        raise NotAllowedNow(say("incident.needs_comment", id=incident.id, action=action), allowed(incident, actor))
    left = tuple(c for c in incident.conditions if c.key not in wanted)
    rest = replace(incident, version=incident.version + 1, conditions=left, recovered_at_ms=recovery_time_ms(left))
    new = with_step_deadline(_split_off(incident, taken, now_ms, firings), now_ms, policy)
    details = {"conditions": ["/".join(c.key) for c in taken]}
    entry = _entry(incident, rest, EntryKind.SPLIT, actor, order, now_ms, details)
    opened = _entry(None, new, EntryKind.SPLIT_OFF, actor, order, now_ms, {"from": incident.id})
    return (
        (rest, Effects(entry, EventType.UPDATED, Notify.INFORM, gone=tuple(c.key for c in taken))),
        (new, Effects(opened, EventType.OPENED, Notify.INFORM, taken)),
    )


def _split_off(
    incident: Incident, taken: tuple[Condition, ...], now_ms: int, firings: Mapping[tuple[str, str, str], Entry]
) -> Incident:
    """The new incident of the conditions taken, with the headline of the earliest of them."""
    cause = f"{incident.cause}|split|{incident.id}.{incident.version + 1}"
    first = min(taken, key=lambda c: c.since_ms)
    firing = firings.get(first.key)
    headline = headline_from_json(firing.details.get("headline")) if firing else None
    if headline:
        heading = title(headline)
    elif firing:
        heading = firing.text
    else:
        heading = say("incident.split_title", id=incident.id, station=first.station, parameter=first.parameter)
    return replace(
        incident,
        id=0,
        cause=cause,
        open_cause=f"{cause}|past|{first.since_ms}" if incident.retrospective else cause,
        state=State.REPORTED,
        station=first.station,
        parameter=first.parameter or None,
        title=heading,
        headline=headline,
        rule=first.rule,
        rule_version=incident.rule_version if first.rule == incident.rule else "",
        value=firing.value if firing else None,
        limit=firing.limit if firing else None,
        observed_at_ms=first.fired_at_ms,
        opened_at_ms=now_ms,
        since_ms=first.since_ms,
        accepted_at_ms=None,
        accepted_by=None,
        recovered_at_ms=recovery_time_ms(taken),
        version=1,
        conditions=taken,
        case=Case(source=incident.case.source, also=incident.causes, handlers=incident.case.handlers),
    )


def active_elsewhere(incident: Incident, action: Action) -> tuple[tuple[str, str, str], ...]:
    """The conditions still active at other stations when an incident is called none.

    What people know of one station ends nothing at the next, where it goes on in an incident of its own.
    """
    if action not in (Action.FALSE_ALARM, Action.REJECT):
        return ()
    return tuple(c.key for c in incident.active if c.station != incident.station)


_HEADLINE_FIELDS = (
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


def _with_graver_emergency(case: Case, other: Case) -> Case:
    """The case with the graver emergency of two; one that is not reported goes before one that is."""

    def gravity(case: Case) -> tuple[bool, bool, int]:
        known = case.emergency in EMERGENCY_GRADES
        unreported = bool(case.emergency) and case.emergency_reported_at_ms is None
        grade = EMERGENCY_GRADES.index(case.emergency) if known else len(EMERGENCY_GRADES)
        return not case.emergency, not unreported, grade

    return case if gravity(case) <= gravity(other) else _with_fields_of(case, other, "emergency")


def _with_higher_supervision(case: Case, other: Case) -> Case:
    """The case with the supervision (督办) of the higher level of two."""

    def level(case: Case) -> tuple[bool, int]:
        return case.supervised_at_ms is None, 2**31 if case.supervised_level is None else case.supervised_level

    return case if level(case) <= level(other) else _with_fields_of(case, other, "supervised")


def _with_fields_of(case: Case, other: Case, prefix: str) -> Case:
    return replace(case, **{name: getattr(other, name) for name in Case.__slots__ if name.startswith(prefix)})


# -- what is allowed ---------------------------------------------------------------------------------------------------


def allowed(incident: Incident, actor: Actor | None = None) -> tuple[Action, ...]:
    """The actions the incident would accept now from this actor, given what each asks for; from anybody without one."""
    return tuple(action for action in Action if _is_allowed(incident, action, actor))


def _is_allowed(incident: Incident, action: Action, actor: Actor | None) -> bool:
    step = TRANSITIONS.get((incident.state, action))
    if step is None or (step.needs_quiet and incident.active) or not step.condition(incident, actor):
        return False
    if actor is None:
        return True
    return actor.may(step.right) and in_jurisdiction(incident, actor) and step.person(incident, actor) is None


def right_of(action: Action) -> Right:
    """The right that an action needs, whatever the state."""
    return _RIGHTS[action]


_RIGHTS = {row.action: row.right for row in TABLE}


def in_jurisdiction(incident: Incident, actor: Actor) -> bool:
    """Whether an actor has access to an incident: by its place, or because the case is theirs."""
    return actor.covers(incident.place.region, incident.place.reach) or actor.answers_for(incident.case.responsible)


def outside_jurisdiction_text(incident: Incident) -> Text:
    """The error text for an actor without access to an incident."""
    region = incident.place.region
    return say("incident.elsewhere" if region else "incident.unplaced", id=incident.id)


def _admitted(incident: Incident, action: Action, actor: Actor) -> Transition:
    """The row of the table that admits the action. Raises Refused, Forbidden or NotAllowedNow, in this order."""
    if not actor.name.strip():
        raise Refused(say("incident.needs_name", id=incident.id, action=action_name(action)))
    allowed_now = allowed(incident, actor)
    values: dict[str, Any] = {"id": incident.id, "action": action_name(action), "allowed": action_names(allowed_now)}
    if not actor.may(right_of(action)):
        raise Forbidden(say("incident.role_forbids", role=role_name(actor.role), **values), allowed_now)
    if not in_jurisdiction(incident, actor):
        raise Forbidden(outside_jurisdiction_text(incident), allowed_now)
    step = TRANSITIONS.get((incident.state, action))
    values["supervisor"] = _supervisor(incident.case)
    if step is None or not step.condition(incident, actor):
        key = "incident.not_now" if incident.is_open else "incident.is_over"
        if step is not None and step.unmet:
            key = step.unmet
        departments = listed(say(f"department.{d}") for d in waiting_departments(incident))
        state = say(f"state.{incident.state}")
        raise NotAllowedNow(say(key, state=state, departments=departments, **values), allowed_now)
    if (key_why := step.person(incident, actor)) is not None:
        lead = incident.case.department
        department = say(f"department.{lead}") if lead else "—"
        raise Forbidden(say(key_why, by=actor.name, department=department, **values), allowed_now)
    return step


def _supervisor(case: Case) -> str | Text:
    return say("audit_entry.by_riverchief") if case.supervised_by == DEADLINE_ACTOR else case.supervised_by


def _require_short_comment(action: Action, comment: str) -> None:
    if len(comment) > COMMENT_LIMIT:
        length = len(comment)
        text = say("incident.comment_too_long", action=action_name(action), length=length, limit=COMMENT_LIMIT)
        raise Refused(text)


def _require_evidence(
    incident: Incident, order: Order, needs: tuple[frozenset[Evidence], ...], allowed_now: tuple[Action, ...]
) -> None:
    """Raises NotAllowedNow, naming the first sorts of evidence of which none is shown."""
    missing = next((kinds for kinds in needs if not kinds & order.shown), None)
    if missing is None:
        return
    wanted = listed(say(f"required_evidence.{kind}") for kind in Evidence if kind in missing)
    key = "incident.needs_comment" if missing == frozenset({Evidence.TEXT}) else "incident.needs_evidence"
    raise NotAllowedNow(say(key, id=incident.id, action=action_name(order.action), evidence=wanted), allowed_now)


def _require_quiet(
    incident: Incident,
    action: Action,
    policy: DeadlinePolicy,
    normal: Mapping[tuple[str, str, str], int] | None,
    allowed_now: tuple[Action, ...],
) -> None:
    """Nothing active, and enough good readings since: a dead sensor proves nothing. Raises NotAllowedNow."""
    values: dict[str, Any] = {"id": incident.id, "action": action_name(action)}
    if incident.active:
        names = [_condition_name(c, incident) for c in incident.active]
        raise NotAllowedNow(
            say(
                "incident.still_active",
                count=len(names),
                conditions=listed(names),
                allowed=action_names(allowed_now),
                **values,
            ),
            allowed_now,
        )
    needed = policy.proof.get(incident.case.matter, policy.close_after)
    if incident.retrospective:
        return  # of the past: what happens now proves nothing about it
    for condition in incident.conditions:
        seen = (normal or {}).get(condition.key, 0)
        if seen < needed:
            others = tuple(a for a in allowed_now if a is not action)
            name = _condition_name(condition, incident)
            raise NotAllowedNow(
                say(
                    "incident.not_proven",
                    condition=name,
                    seen=seen,
                    needed=needed,
                    allowed=action_names(others),
                    **values,
                ),
                others,
            )


def _condition_name(condition: Condition, incident: Incident) -> Text:
    """A condition as people know it: place and parameter; what has no parameter by its rule."""
    parameters, headline = catalogue(), incident.headline
    what = Text(condition.rule, condition.rule)
    if condition.parameter in parameters:
        what = Text(parameters[condition.parameter].zh, parameters[condition.parameter].en)
    elif headline is not None and headline.matter != NO_TEXT and condition.rule == incident.rule:
        what = headline.matter
    place = Text(condition.station, condition.station)
    if headline is not None and condition.station == incident.station:
        place = headline.place
    return say("incident.condition", place=place, what=what)


# -- work lists --------------------------------------------------------------------------------------------------------

ADVANCING_ACTIONS = (
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
    """The actions by which this actor would advance the incident; none where another person has to act.

    Dispatching waits for the office and its operators alone, though chiefs may do it. A chief, a deputy and a grid
    worker are waited for where they are responsible, or nobody is, and while they are at it.
    """
    case = incident.case
    possible = [a for a in allowed(incident, actor) if a in ADVANCING_ACTIONS]
    if not actor.may(Right.ACCEPT) or _is_dispatched(incident):
        possible = [a for a in possible if a is not Action.DISPATCH]
    theirs = actor.answers_for(case.responsible) or not (case.responsible or case.department)
    theirs = theirs or (case.handler == actor.name and not _is_dispatched(incident))
    if actor.role in (Role.HANDLER, Role.ADMINISTRATOR, Role.MACHINE) or theirs:
        return tuple(possible)
    return tuple(a for a in possible if right_of(a) is not Right.HANDLE)


def _is_dispatched(incident: Incident) -> bool:
    """Whether the case is dispatched: dispatching again is possible, but not expected."""
    return incident.state in (State.DISPATCHED, State.TRANSFERRED)


def refusals(incident: Incident, actor: Actor) -> dict[Action, Text]:
    """Why what would carry the incident on is closed to this person now.

    By the state alone, without the steps that lead to the action later.
    """
    found: dict[Action, Text] = {}
    for action in ADVANCING_ACTIONS:
        possible = (incident.state, action) in TRANSITIONS and (
            action is not Action.CONTRIBUTE or bool(incident.case.joint)
        )
        again = action is Action.DISPATCH and _is_dispatched(incident)
        if not possible or again or action is Action.EMERGENCY_REPORTED or _is_allowed(incident, action, actor):
            continue
        try:
            if _admitted(incident, action, actor).needs_quiet:
                _require_quiet(incident, action, DEFAULT_POLICY, None, allowed(incident, actor))
        except Refused as error:
            found[action] = error.text
    return found


def worklist_order(incident: Incident, now_ms: int) -> tuple[bool, bool, int, int, int]:
    """The sort key of a work list, most urgent first: emergency to be reported, overdue, colour, deadline, number."""
    case = incident.case
    running = case.due_ms if case.paused_at_ms is None else None
    overdue = running is not None and running < now_ms
    unreported = guards.emergency_unreported(incident, None)
    return not unreported, not overdue, incident.colour.rank, 2**62 if running is None else running, incident.id


# -- history -----------------------------------------------------------------------------------------------------------


def _entry(
    before: Incident | None,
    after: Incident,
    what: EntryKind,
    actor: Actor,
    order: Order,
    now_ms: int,
    details: Mapping[str, Any],
    region_name: RegionName = same,
) -> Entry:
    """The history entry of what a person did, or this system by itself."""
    by_system = actor.role is Role.SYSTEM
    name = say("audit_entry.by_riverchief") if by_system else person_name(actor.name.strip())
    return Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=what,
        by=actor.name.strip(),
        from_state=before.state if before else None,
        to_state=after.state,
        text=_entry_text(before or after, after, what, name, order, region_name),
        comment=order.comment,
        role=actor.role.value,
        attachments=order.attachments,
        measurement=order.measurement,
        details=details,
    )


def _entry_text(
    before: Incident, after: Incident, what: EntryKind, by: Text, order: Order, region_name: RegionName
) -> Text:
    """The text of an action; of a dispatch with assignee and deadline."""
    if what not in (EntryKind.DISPATCHED, EntryKind.TRANSFERRED):
        return say(f"incident.{what}", id=before.id, by=by, other=order.into)
    case = after.case
    to = same(case.responsible) if case.responsible else say("incident.nobody")
    if case.department:
        to = say(f"department.{case.department}")
    parts = []
    if case.joint:
        parts.append(say("incident.assigned_joint", joint=listed(say(f"department.{one}") for one in case.joint)))
    if case.department and case.responsible:
        parts.append(say("incident.assigned_person", name=case.responsible))
    if after.place.region:
        parts.append(say("incident.assigned_region", region=region_name(after.place.region)))
    if parts:
        to = say("incident.assigned", lead=to, parts=joined(parts, "；"))
    text = say(f"incident.{what}_to", by=by, to=to)
    return text if case.due_ms is None else say("incident.assigned_due", text=text, due=beijing(case.due_ms))
