"""What time changes in an incident: reminders, escalation, calls of an emergency, a successor. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.model import (
    DEADLINE_ACTOR,
    PHASE_OF_STATE,
    Case,
    Effects,
    Entry,
    EntryKind,
    EventType,
    Incident,
    Notify,
)
from governance.organisation import roles
from infra.texts import Text, say
from infra.times import beijing

RegionAbove = Callable[[str], str]
"""Names the region one level above another, "" above the highest."""


def remind(
    incident: Incident, now_ms: int, *, up: RegionAbove, policy: DeadlinePolicy = DEFAULT_POLICY
) -> tuple[Incident, Effects] | None:
    """Remind of the deadline, then escalate one level up, and again; None when nothing is due.

    An emergency that is not reported goes first, and no pause stops it. After a call the next time lies in the future
    or nowhere: asked again at the same instant it does nothing.
    """
    case = incident.case
    if incident.is_open and case.emergency_alert_at_ms is not None and case.emergency_alert_at_ms <= now_ms:
        return _call_emergency(incident, now_ms, up, policy)
    if not incident.is_open or case.alert_at_ms is None or case.due_ms is None or case.paused_at_ms is not None:
        return None
    if now_ms < case.alert_at_ms:
        return None
    due_ms = case.due_ms
    if now_ms < due_ms:
        what, notify = EntryKind.REMINDED, Notify.INFORM
        case = replace(case, alerts=1, alert_at_ms=due_ms)
    else:
        what, notify = EntryKind.OVERDUE, Notify.PAGE
        case = _escalated(case, incident.place.region, now_ms, up, policy)
    step = say(f"phase.{PHASE_OF_STATE[incident.state]}")
    text = say(f"incident.{what}", id=incident.id, due=beijing(due_ms), step=step)
    details = {"due": due_ms, "alerts": case.alerts, "escalated_to": case.escalated_to}
    return with_case(incident, case, what, DEADLINE_ACTOR, text, details, now_ms, notify)


def hand_over(incident: Incident, new: str, by: str, now_ms: int) -> tuple[Incident, Effects]:
    """Give an open case to the successor of who is responsible."""
    old = incident.case.responsible
    case = replace(incident.case, responsible=new)
    text = say("incident.succeeded", id=incident.id, by=by, old=old, new=new)
    return with_case(incident, case, EntryKind.SUCCEEDED, by, text, {"from": old, "to": new}, now_ms, Notify.INFORM)


def _escalated(case: Case, region: str, now_ms: int, up: RegionAbove, policy: DeadlinePolicy) -> Case:
    """An overdue case one level higher, and supervised (督办) from there unless a person supervises it already."""
    below = case.escalated_to or region
    above = up(below)
    alerts = max(case.alerts, 1) + 1
    again = above or alerts < 3
    alert_at_ms = now_ms + policy.again_ms if again else None
    case = replace(case, alerts=alerts, escalated_to=above or below, alert_at_ms=alert_at_ms)
    if case.supervised_at_ms is not None and case.supervised_by != DEADLINE_ACTOR:
        return case
    return replace(
        case,
        supervised_at_ms=case.supervised_at_ms or now_ms,
        supervised_by=DEADLINE_ACTOR,
        supervised_level=roles.level(_depth(case.escalated_to, up)),
    )


def _call_emergency(
    incident: Incident, now_ms: int, up: RegionAbove, policy: DeadlinePolicy
) -> tuple[Incident, Effects]:
    """Call out an emergency that nobody reported, one level higher each time."""
    case = incident.case
    due_ms, calls, grade = case.emergency_due_ms or now_ms, case.emergency_calls + 1, case.emergency
    region = incident.place.region
    for _ in range(calls):
        region = up(region) or region
    next_ms = policy.emergencies.next_call(grade, due_ms, now_ms, policy.remind_at, answered=False)
    case = replace(case, emergency_calls=calls, emergency_alert_at_ms=next_ms)
    text = say("incident.emergency_unreported", id=incident.id, grade=grade, calls=calls, due=beijing(due_ms))
    details = {"grade": grade, "report_by": due_ms, "calls": calls, "escalated_to": region}
    return with_case(incident, case, EntryKind.EMERGENCY_UNREPORTED, DEADLINE_ACTOR, text, details, now_ms, Notify.PAGE)


def with_case(
    incident: Incident,
    case: Case,
    what: EntryKind,
    by: str,
    text: Text,
    details: Mapping[str, Any],
    now_ms: int,
    notify: Notify,
) -> tuple[Incident, Effects]:
    """The incident with this case, and the history entry of it; the state stays."""
    after = replace(incident, case=case, version=incident.version + 1)
    entry = Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=None,
        what=what,
        by=by,
        from_state=incident.state,
        to_state=incident.state,
        text=text,
        details=details,
    )
    return after, Effects(entry, EventType.UPDATED, notify)


def _depth(region: str, up: RegionAbove) -> int:
    """How many regions lie above a region."""
    above: list[str] = []
    while (region := up(region)) and region not in above:
        above.append(region)
    return len(above)
