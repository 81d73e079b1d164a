"""Correct stored waits of deliveries and messages that were written while the clock was ahead.

Without that, a due time written by a clock hours ahead would delay a delivery or a message by as much. Such a row is
recognised by a beginning in the future, or by a wait longer than any regular one. Deadlines of incidents are corrected
in `governance.incidents.clock_correction`. Each function takes an open connection and never commits.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from governance.incidents.clock_correction import SKEW_MS
from governance.incidents.finding import Colour
from governance.notify.policy import STALE_MS, NoticePolicy
from governance.notify.tables import notice, notice_watch
from governance.tables import outbox
from infra.times import DAY_MS

INTERVAL_S: Final = 10.0
"""How often a worker corrects; a wait may be this much too long after the clock was set right."""

HELD_PATTERN: Final = "*@%"
"""Buckets of messages that are held until a time of day."""


class ClockCorrection:
    """Run a correction when a worker starts, and every ``INTERVAL_S`` seconds after that."""

    def __init__(self, correct: Callable[[], None]) -> None:
        self._correct = correct
        self._next_at = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._next_at:
            self._correct()
            self._next_at = time.monotonic() + INTERVAL_S


def deliveries(
    connection: sa.Connection, now_ms: int, *, backoff_s: float, cap_s: float, asked_most_s: float, lease_most_ms: int
) -> None:
    """Correct deliveries and their claims.

    ``backoff_s`` is the wait after the first failure, doubled after each further one up to ``cap_s``; ``asked_most_s``
    the longest that a receiver may ask for. A row that was never tried does not wait at all.
    """
    o = outbox.c
    pending = o.status == "pending"
    ahead = now_ms + SKEW_MS
    doublings = math.ceil(math.log2(max(1.0, cap_s / backoff_s)))
    failed = [(o.attempts == n + 1, math.ceil(1000 * min(cap_s, backoff_s * 2.0**n))) for n in range(doublings + 1)]
    most_ms = sa.case(
        (o.attempts == 0, 0),
        (o.last_status.is_not(None), round(max(asked_most_s, cap_s) * 1000)),
        else_=sa.case(*failed, else_=round(cap_s * 1000)),
    )
    late = (pending, o.next_attempt_at_ms > ahead, o.next_attempt_at_ms - most_ms > ahead)
    connection.execute(sa.update(outbox).where(*late).values(next_attempt_at_ms=now_ms))
    free = {"claimed_by": None, "claimed_until_ms": None}
    connection.execute(sa.update(outbox).where(pending, o.claimed_until_ms > ahead + lease_most_ms).values(free))


def messages(
    connection: sa.Connection, now_ms: int, policy: NoticePolicy, retry_most_ms: int, lease_most_ms: int
) -> None:
    """Correct messages, their claims and the waits for a confirmation.

    A message of the future becomes one of now, with the quiet hours of now. One that waits longer than a retry, or than
    a day where it is held for the morning, is due.
    """
    n = notice.c
    pending = n.status == "pending"
    ahead = now_ms + SKEW_MS
    for row in connection.execute(sa.select(n.id, n.urgency, n.bucket).where(pending, n.created_at_ms > ahead)).all():
        held = "@" in row.bucket and row.bucket.startswith("*")
        due_ms = policy.due(list(Colour)[row.urgency], now_ms, on_duty=False) if held else now_ms
        fresh = {"created_at_ms": now_ms, "due_at_ms": due_ms}
        fresh["expires_at_ms"] = due_ms + round(policy.link_hours * 3_600_000)
        connection.execute(sa.update(notice).where(n.id == row.id).values(fresh))
    gather_ms = round(policy.window_s * 2000)
    most_ms = sa.case((n.bucket.like(HELD_PATTERN), DAY_MS), else_=max(retry_most_ms, gather_ms))
    connection.execute(sa.update(notice).where(pending, n.due_at_ms - most_ms > ahead).values(due_at_ms=now_ms))
    free = {"claimed_by": None, "claimed_until_ms": None}
    connection.execute(sa.update(notice).where(pending, n.claimed_until_ms > ahead + lease_most_ms).values(free))

    w = notice_watch.c
    since = {"due_at_ms": w.due_at_ms - (w.since_ms - now_ms), "since_ms": now_ms}
    connection.execute(sa.update(notice_watch).where(w.since_ms > ahead).values(since))
    for colour in Colour:
        latest_ms = policy.unconfirmed_at(colour, now_ms)
        if latest_ms is not None:
            kept_open = w.due_at_ms - w.since_ms > STALE_MS  # an emergency: called out by its own reminders
            late = (w.colour == colour.value, w.due_at_ms > latest_ms + SKEW_MS, ~kept_open)
            connection.execute(sa.update(notice_watch).where(*late).values(due_at_ms=latest_ms))
