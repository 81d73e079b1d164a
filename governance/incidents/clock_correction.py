"""Deadlines of incidents that were written while the clock was ahead, corrected once it is right again.

A stored instant says when something is due. Where the clock stood hours ahead when it was written, a reminder would be
that late. Two signs give such a row away: its step began in the future, or its alert waits longer than it ever can.
Waits of deliveries and messages: :mod:`governance.notify.clock_correction`.
"""

from typing import Final

import sqlalchemy as sa

from governance.tables import incident

SKEW_MS: Final = 60_000
"""Two machines of one site may differ by so much."""


def reminders(connection: sa.Connection, now_ms: int, emergency_most_ms: int) -> None:
    """Deadlines of steps that began in the future begin now; an emergency is called out within its longest wait."""
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
