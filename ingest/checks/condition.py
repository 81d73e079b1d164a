"""The life of one condition: idle, pending, firing, recovering. Pure, in event time.

Time without readings proves nothing: a pause longer than ``gap_ms`` starts the pending or the recovering count again
and leaves a firing condition firing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Phase(IntEnum):
    IDLE = 0
    PENDING = 1
    FIRING = 2
    RECOVERING = 3


@dataclass(frozen=True, slots=True)
class Watch:
    """One rule at one series: bad is ``sign * (x - limit) > 0``, calm is ``sign * (x - clear) <= 0``."""

    sign: int
    limit: float
    clear: float
    pending_ms: int
    samples: int
    keep_ms: int
    gap_ms: int
    late_ms: int


@dataclass(slots=True)
class State:
    """Where a condition stands. ``count`` and ``calm_count`` are the bad and the calm readings in a row that brought it
    there; ``past`` says that it fired on data too old to act on."""

    phase: Phase = Phase.IDLE
    since_ms: int = 0
    count: int = 0
    last_ms: int = 0
    calm_since_ms: int = 0
    calm_count: int = 0
    fired_at_ms: int = 0
    past: bool = False
    before: "State | None" = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A condition that fired or ended. ``since_ms`` is when it began (fired) or when calm began (ended)."""

    fired: bool
    at_ms: int
    since_ms: int
    value: float
    count: int
    past: bool


def walk(watch: Watch, state: State, samples: Iterable[tuple[int, float]], now_ms: int) -> list[Turn]:
    """Carry ``state`` (changed in place) through usable samples (ms, value), oldest first.

    A condition that fired on late data and is still bad in a timely sample fires again, this time for the living.
    """
    turns: list[Turn] = []
    for at, x in samples:
        state.before = replace(state, before=None)
        bad = watch.sign * (x - watch.limit) > 0
        calm = watch.sign * (x - watch.clear) <= 0
        paused = at - state.last_ms > watch.gap_ms
        state.last_ms = at
        if state.phase is Phase.IDLE or state.phase is Phase.PENDING:
            if not bad:
                state.phase = Phase.IDLE
                continue
            if state.phase is Phase.IDLE or paused:
                state.phase, state.since_ms, state.count = Phase.PENDING, at, 0
            state.count += 1
            if state.count >= watch.samples and at - state.since_ms >= watch.pending_ms:
                state.phase, state.fired_at_ms, state.past = Phase.FIRING, at, now_ms - at > watch.late_ms
                state.before = None
                turns.append(Turn(True, at, state.since_ms, x, state.count, state.past))
            continue
        if not calm:
            if state.phase is Phase.RECOVERING:
                state.phase = Phase.FIRING
            if bad and state.past and now_ms - at <= watch.late_ms:
                state.past, state.before = False, None
                turns.append(Turn(True, at, state.since_ms, x, state.count, False))
            continue
        if state.phase is Phase.FIRING or paused:
            state.phase, state.calm_since_ms, state.calm_count = Phase.RECOVERING, at, 0
        state.calm_count += 1
        if state.calm_count >= watch.samples and at - state.calm_since_ms >= watch.keep_ms:
            turns.append(Turn(False, at, state.calm_since_ms, x, state.calm_count, state.past))
            state.phase, state.past, state.before = Phase.IDLE, False, None
    return turns


def take_back(state: State, at_ms: int) -> bool:
    """The newest sample, at ``at_ms``, turned out to be none: ``state`` (changed in place) is as if it had not come.

    True when it was concerned. A condition that fired or ended because of that sample stays as it is.
    """
    before = state.before
    if before is None or state.last_ms != at_ms:
        return False
    for name in State.__slots__:
        setattr(state, name, getattr(before, name))
    return True
