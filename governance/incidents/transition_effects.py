"""Effects of the transition table: what an action changes beside the state. Pure.

An effect takes the incident as changed so far and the request, and returns the incident and what the history entry
keeps of it (its ``details``). It may still refuse, with Forbidden, NotAllowedNow or Refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from governance.incidents.deadlines import DeadlinePolicy
from governance.incidents.model import (
    Action,
    FalseAlarm,
    Incident,
    NotAllowedNow,
    Order,
    PauseReason,
    action_name,
    listed,
    unique,
)
from governance.incidents.step_deadline import with_resumed_deadline
from governance.incidents.transition_guards import waiting_departments
from governance.organisation.roles import Actor, Department, Forbidden
from infra.errors import Refused
from infra.texts import Text, say

RegionName = Callable[[str], Text]
"""What a region is called, by its code."""


@dataclass(frozen=True, slots=True)
class Request:
    """One order: the incident before it, who gave it and when, the deadlines in force, what else was allowed, and what
    regions are called."""

    incident: Incident
    order: Order
    actor: Actor
    now_ms: int
    policy: DeadlinePolicy
    allowed: tuple[Action, ...]
    region_name: RegionName


Details = dict[str, Any]
Effect = Callable[[Incident, Request], tuple[Incident, Details]]


def set_matter(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Choose the standard process, where the order names one."""
    matter = request.order.matter
    return (_with_case(incident, matter=matter), {"matter": matter}) if matter else (incident, {})


def accept(incident: Incident, request: Request) -> tuple[Incident, Details]:
    return replace(incident, accepted_at_ms=request.now_ms, accepted_by=request.actor.name), {}


def assign(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Assign the incident as the order says, where it says so; what it does not name stays.

    Raises Forbidden for a region beyond the actor's.
    """
    to, before = request.order.assignment, request.incident
    if not to:
        return incident, {}
    case, place = incident.case, incident.place
    if to.region not in ("", place.region) and not request.actor.covers(to.region, place.reach):
        action = action_name(request.order.action)
        region = request.region_name(to.region)
        raise Forbidden(say("incident.beyond", id=before.id, action=action, region=region), request.allowed)
    place = replace(place, region=to.region or place.region)
    same_task = to.department in (None, case.department) and case.matter == before.case.matter
    case = replace(
        case,
        responsible=to.responsible or case.responsible,
        department=to.department or case.department,
        joint=to.joint or (case.joint if same_task else ()),
        contributed=() if to.joint or not same_task else case.contributed,
    )
    assigned = {
        "region": place.region,
        "responsible": case.responsible,
        "department": case.department.value if case.department else "",
        "joint": [d.value for d in case.joint],
    }
    return replace(incident, place=place, case=case), {"to": assigned}


def assign_first(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """`assign`, which the order may leave out only where the incident is assigned already."""
    case = request.incident.case
    assigned = bool(case.responsible or case.department or request.incident.place.region)
    return assign(incident, request) if assigned else assign_anew(incident, request)


def assign_anew(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """`assign`, which the order has to name. Raises NotAllowedNow."""
    if not request.order.assignment:
        action = action_name(request.order.action)
        raise NotAllowedNow(say("incident.needs_assignment", id=incident.id, action=action), request.allowed)
    return assign(incident, request)


def handle(incident: Incident, request: Request) -> tuple[Incident, Details]:
    name = request.actor.name
    return _with_case(incident, handler=name, handlers=unique(incident.case.handlers, name)), {}


def contribute(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Note that a joint department has done its part. Raises NotAllowedNow where it is not clear which one."""
    done, case = _contributing_department(request), incident.case
    contributed = (*case.contributed, done)
    after = _with_case(incident, contributed=contributed, handlers=unique(case.handlers, request.actor.name))
    return after, {"department": done.value}


def verify(incident: Incident, request: Request) -> tuple[Incident, Details]:
    return _with_case(incident, verifier=request.actor.name), {}


def undo_verification(incident: Incident, _request: Request) -> tuple[Incident, Details]:
    return _with_case(incident, verifier=""), {}


def mark_false_alarm(incident: Incident, request: Request) -> tuple[Incident, Details]:
    reason = _reason(FalseAlarm, request)
    return _with_case(incident, reason=reason), {"reason": reason}


def supervise(incident: Incident, request: Request) -> tuple[Incident, Details]:
    actor = request.actor
    after = _with_case(
        incident, supervised_at_ms=request.now_ms, supervised_by=actor.name, supervised_level=actor.level
    )
    return after, {}


def release(incident: Incident, _request: Request) -> tuple[Incident, Details]:
    return _with_case(incident, supervised_at_ms=None, supervised_by="", supervised_level=None), {}


def pause(incident: Incident, request: Request) -> tuple[Incident, Details]:
    reason = _reason(PauseReason, request)
    return _with_case(incident, paused_at_ms=request.now_ms, pause_reason=reason), {"reason": reason}


def resume(incident: Incident, request: Request) -> tuple[Incident, Details]:
    return with_resumed_deadline(incident, request.now_ms, request.policy), {}


def declare_emergency(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Start the hours within which the emergency is reported upwards. Raises Refused for an unknown grade."""
    grade, policy, now_ms = request.order.grade, request.policy, request.now_ms
    within = policy.emergencies.within.get(grade)
    if within is None:
        raise Refused(say("incident.needs_grade", grade=grade, grades=", ".join(policy.emergencies.within)))
    due_ms = policy.after(now_ms, within)
    after = _with_case(
        incident,
        emergency=grade,
        emergency_by=request.actor.name,
        emergency_due_ms=due_ms,
        emergency_alert_at_ms=policy.emergencies.next_call(grade, due_ms, now_ms, policy.remind_at, answered=False),
        emergency_calls=0,
        emergency_reported_at_ms=None,
    )
    return after, {"grade": grade, "report_by": due_ms}


def report_emergency(incident: Incident, request: Request) -> tuple[Incident, Details]:
    return _with_case(incident, emergency_reported_at_ms=request.now_ms, emergency_alert_at_ms=None), {}


def evaluate(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Keep the score. Raises Refused for one that is not within 0 to 100."""
    score = request.order.score
    if score is None or not 0 <= score <= 100:
        raise Refused(say("incident.needs_score", id=incident.id, score=score))
    return _with_case(incident, score=score), {"score": score}


def reopen(incident: Incident, request: Request) -> tuple[Incident, Details]:
    """Forget what the round before came to, and take the cause's findings again."""
    before = request.incident
    open_cause = f"{before.cause}|past|{before.since_ms}" if before.retrospective else before.cause
    after = _with_case(incident, handler="", verifier="", contributed=(), reason="", score=None)
    return replace(after, closed_at_ms=None, open_cause=open_cause), {}


def answer_emergency(incident: Incident, now_ms: int, policy: DeadlinePolicy) -> Incident:
    """Somebody deals with the emergency: it is called out again only when its hours run out."""
    case = incident.case
    alert_ms, due_ms = case.emergency_alert_at_ms, case.emergency_due_ms
    if alert_ms is None or due_ms is None or now_ms >= due_ms:
        return incident
    later_ms = policy.emergencies.next_call(case.emergency, due_ms, now_ms, policy.remind_at, answered=True)
    return _with_case(incident, emergency_alert_at_ms=max(alert_ms, later_ms or alert_ms))


def end(incident: Incident, now_ms: int) -> Incident:
    """The incident has come to rest: no call, no finding joins it any more."""
    return replace(_with_case(incident, emergency_alert_at_ms=None), closed_at_ms=now_ms, open_cause=None)


def _with_case(incident: Incident, **changes: Any) -> Incident:
    return replace(incident, case=replace(incident.case, **changes))


def _contributing_department(request: Request) -> Department:
    """The actor's own department, else the one the order names, else the only one waited for. Raises NotAllowedNow."""
    incident, to = request.incident, request.order.assignment
    waiting = waiting_departments(incident)
    done = request.actor.department or (to.department if to else None)
    done = done or (waiting[0] if len(waiting) == 1 else None)
    if done not in waiting:
        departments = listed(say(f"department.{one}") for one in waiting)
        raise NotAllowedNow(say("incident.needs_department", id=incident.id, departments=departments), request.allowed)
    return done


def _reason(codes: type[StrEnum], request: Request) -> str:
    """The code of the reason. Raises Refused for one that is not among ``codes``."""
    order = request.order
    try:
        return codes(order.reason).value
    except ValueError:
        raise Refused(
            say(
                "incident.needs_reason",
                id=request.incident.id,
                action=action_name(order.action),
                reason=order.reason[:80],
                reasons=", ".join(codes),
            )
        ) from None
