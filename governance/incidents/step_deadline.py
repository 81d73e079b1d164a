"""The deadline of the step an incident is in: set, shortened, resumed after a pause. Pure."""

from dataclasses import replace

from governance.incidents.deadlines import DeadlinePolicy
from governance.incidents.model import PHASE_OF_STATE, Incident


def with_step_deadline(incident: Incident, now_ms: int, policy: DeadlinePolicy) -> Incident:
    """The incident with the deadline of the state it has just entered; none if retrospective or in a final state."""
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
    phase = PHASE_OF_STATE.get(incident.state)
    if phase is not None and not incident.retrospective:
        due_ms = policy.due(phase, incident.colour, now_ms, case.matter)
        case = replace(case, due_ms=due_ms, alert_at_ms=policy.reminder(now_ms, due_ms))
    return replace(incident, case=case)


def with_shortened_deadline(incident: Incident, policy: DeadlinePolicy) -> Incident:
    """The incident after its colour became more urgent: its deadline is never later than before."""
    case, phase = incident.case, PHASE_OF_STATE.get(incident.state)
    if phase is None or case.due_ms is None:
        return incident
    due_ms = min(case.due_ms, policy.due(phase, incident.colour, case.step_since_ms, case.matter))
    alert_at_ms = case.alert_at_ms
    if alert_at_ms is not None:
        earliest_ms = max(due_ms, alert_at_ms) if case.alerts else policy.reminder(case.step_since_ms, due_ms)
        alert_at_ms = min(alert_at_ms, earliest_ms)
    return replace(incident, case=replace(case, due_ms=due_ms, alert_at_ms=alert_at_ms))


def with_resumed_deadline(incident: Incident, now_ms: int, policy: DeadlinePolicy) -> Incident:
    """The incident after a pause: what was left of the limit when the clock stopped counts from now."""
    case, phase = incident.case, PHASE_OF_STATE.get(incident.state)
    paused_at_ms, due_ms = case.paused_at_ms, case.due_ms
    case = replace(case, paused_at_ms=None, pause_reason="")
    if paused_at_ms is not None and due_ms is not None and phase is not None and due_ms > paused_at_ms:
        if policy.limit(phase, incident.colour, case.matter).unit in ("m", "h"):
            due_ms += now_ms - paused_at_ms
        else:
            due_ms = max(due_ms, policy.later(now_ms, policy.between(paused_at_ms, due_ms)))
        reminder_ms = due_ms - int((due_ms - case.step_since_ms) * (1 - policy.remind_at))
        case = replace(case, due_ms=due_ms, alert_at_ms=due_ms if case.alerts else max(now_ms, reminder_ms))
    return replace(incident, case=case)
