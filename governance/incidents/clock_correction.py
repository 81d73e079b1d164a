"""Correct deadlines of incidents that were written while the clock was ahead. Pure.

Without that, a reminder written by a clock hours ahead would be as late. Such an incident is recognised by a step that
began in the future, or by a call further away than any regular one. Waits of deliveries and messages are corrected in
`governance.notify.clock_correction`.
"""

from dataclasses import replace
from typing import Final

from governance.incidents.model import SYSTEM_ACTOR, Effects, EntryKind, Incident, Notify
from governance.incidents.reminders import with_case
from infra.texts import say
from infra.times import beijing

SKEW_MS: Final = 60_000
"""Tolerated difference of the clocks of one site's machines."""
_MOVED: Final = ("step_since_ms", "due_ms", "alert_at_ms", "emergency_alert_at_ms")


def correct_clock(incident: Incident, now_ms: int, emergency_most_ms: int) -> tuple[Incident, Effects] | None:
    """Let a step that began in the future begin now; call out an emergency within its longest wait.

    None where nothing was written by a clock ahead. The entry says from when to when each time moved.
    """
    before = case = incident.case
    if case.step_since_ms > now_ms + SKEW_MS:
        shift_ms = case.step_since_ms - now_ms
        case = replace(
            case,
            step_since_ms=now_ms,
            due_ms=None if case.due_ms is None else case.due_ms - shift_ms,
            alert_at_ms=None if case.alert_at_ms is None else case.alert_at_ms - shift_ms,
        )
    if case.emergency_alert_at_ms is not None and case.emergency_alert_at_ms > now_ms + emergency_most_ms + SKEW_MS:
        case = replace(case, emergency_alert_at_ms=now_ms)
    moved = {name: (getattr(before, name), getattr(case, name)) for name in _MOVED}
    details = {name: {"from": old, "to": new} for name, (old, new) in moved.items() if old != new}
    if not details:
        return None
    old_ms, new_ms = next(moved[name] for name in ("due_ms", *_MOVED) if name in details)
    text = say("incident.clock_corrected", id=incident.id, old=beijing(old_ms), new=beijing(new_ms))
    return with_case(incident, case, EntryKind.CLOCK_CORRECTED, SYSTEM_ACTOR, text, details, now_ms, Notify.INFORM)
