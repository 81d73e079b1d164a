"""Correct deadlines of incidents that were written while the clock was ahead.

Without that, a reminder written by a clock hours ahead would be as late. Such a row is recognised by a step that began
in the future, or by an alert further away than any regular one. Waits of deliveries and messages are corrected in
`governance.notify.clock_correction`.
"""

from typing import Final

import sqlalchemy as sa

from governance.tables import incident

SKEW_MS: Final = 60_000
"""Tolerated difference of the clocks of one site's machines."""


def reminders(connection: sa.Connection, now_ms: int, emergency_most_ms: int) -> None:
    """Let steps that began in the future begin now; call out an emergency within its longest wait."""
    i = incident.c
    shift = i.step_since_ms - now_ms
    moved = {
        "step_since_ms": now_ms,
        "due_ms": i.due_ms - shift,
        "alert_at_ms": i.alert_at_ms - shift,
    }
    is_open = i.open_cause.is_not(None)
    connection.execute(sa.update(incident).where(is_open, i.step_since_ms > now_ms + SKEW_MS).values(moved))
    late = i.emergency_alert_at_ms > now_ms + emergency_most_ms + SKEW_MS
    connection.execute(sa.update(incident).where(is_open, late).values(emergency_alert_at_ms=now_ms))
