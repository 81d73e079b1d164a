"""The life of one condition: idle, pending, firing, recovering. Pure, in event time.

Time without readings proves nothing: a pause longer than ``gap_ms`` starts the pending or the recovering count again
and leaves a firing condition firing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from ingest.rules.schedule import ActiveTimes
from sensors.quality.detectors.point_tests import LONGEST_BURST

TAKEN_BACK = LONGEST_BURST + 1
"""Samples that may still be taken back: a quality test sees a burst end before it is sure."""


class Phase(IntEnum):
    IDLE = 0
    PENDING = 1
    FIRING = 2
    RECOVERING = 3


@dataclass(frozen=True, slots=True)
class Watch:
    """One rule at one series: bad is ``sign * (x - limit) > 0``, calm is ``sign * (x - clear) <= 0``.

    With a ``centre``, x is the distance from it. Outside the times in which it ``speaks`` nothing begins. What fires
    for the ``flaps``-th time within ``flap_ms`` is held: it ends only after ``hold_ms`` of calm.
    """

    sign: int
    limit: float
    clear: float
    pending_ms: int
    samples: int
    keep_ms: int
    gap_ms: int
    late_ms: int
    centre: float = math.nan
    speaks: ActiveTimes | None = None
    flaps: int = 0
    flap_ms: int = 0
    hold_ms: int = 0

    def bad(self, x: float) -> bool:
        """Whether a value is beyond the limit."""
        return self.sign * (self._distance(x) - self.limit) > 0

    def first_bad(self, samples: Sequence[tuple[int, float]], start: int) -> int:
        """The place of the first value beyond the limit from ``start`` on; the number of samples where there is none.

        Looks at ever longer pieces: at once for a few samples, in one go for a long past.
        """
        size = 16
        while start < len(samples):
            values = np.array([x for _, x in samples[start : start + size]])
            distance = values if math.isnan(self.centre) else np.abs(values - self.centre)
            if len(bad := np.flatnonzero(self.sign * (distance - self.limit) > 0)):
                return start + int(bad[0])
            start, size = start + size, 4 * size
        return len(samples)

    def calm(self, x: float) -> bool:
        """Whether a value is back on the good side of the clear value."""
        return self.sign * (self._distance(x) - self.clear) <= 0

    def _distance(self, x: float) -> float:
        return x if math.isnan(self.centre) else abs(x - self.centre)


@dataclass(slots=True)
class ConditionState:
    """Where a condition stands. ``count`` and ``calm_count`` are the bad and the calm readings in a row that brought it
    there; ``past`` says that it fired on data too old to act on; ``firings`` are the instants of those not long ago,
    ``recent`` the newest samples with the state before each;
    ``held`` is how many they were when it fired, where that is too many, else 0."""

    phase: Phase = Phase.IDLE
    since_ms: int = 0
    count: int = 0
    last_ms: int = 0
    calm_since_ms: int = 0
    calm_count: int = 0
    fired_at_ms: int = 0
    past: bool = False
    firings: tuple[int, ...] = ()
    held: int = 0
    recent: "tuple[tuple[int, float, ConditionState], ...]" = ()

    def before(self) -> "ConditionState":
        """A copy as ``recent`` keeps it: without its own past."""
        return ConditionState(
            self.phase,
            self.since_ms,
            self.count,
            self.last_ms,
            self.calm_since_ms,
            self.calm_count,
            self.fired_at_ms,
            self.past,
            self.firings,
            self.held,
        )

    def quiet_ms(self, watch: Watch) -> int:
        """How long it must be calm before it ends: longer for one that keeps coming back."""
        return max(watch.keep_ms, watch.hold_ms) if self.held else watch.keep_ms


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that fired or ended. ``since_ms`` is when it began (fired) or when calm began (ended).

    ``held`` is how often it fired lately where that is so often that it is held, else 0.
    """

    fired: bool
    at_ms: int
    since_ms: int
    value: float
    count: int
    past: bool
    held: int = 0


def advance_condition(
    watch: Watch, state: ConditionState, samples: Sequence[tuple[int, float]], now_ms: int
) -> list[Transition]:
    """Carry ``state`` (changed in place) through usable samples (ms, value), oldest first.

    A condition that fired on late data and is still bad in a timely sample fires again, this time for the living.
    """
    turns: list[Transition] = []
    place = 0
    while place < len(samples):
        if state.phase is Phase.IDLE and len(samples) - place > TAKEN_BACK:
            # of a long run in which nothing begins only the end matters, which is kept in ``recent``
            skipped = watch.first_bad(samples, place) - TAKEN_BACK
            if skipped > place:
                state.last_ms, place = samples[skipped - 1][0], skipped
        at, x = samples[place]
        place += 1
        state.recent = (*state.recent[1 - TAKEN_BACK :], (at, x, state.before()))
        bad, calm = watch.bad(x), watch.calm(x)
        paused = at - state.last_ms > watch.gap_ms
        state.last_ms = at
        may_begin = bad and (watch.speaks is None or watch.speaks.covers(at))
        if state.phase is Phase.IDLE or state.phase is Phase.PENDING:
            if not may_begin:
                state.phase = Phase.IDLE
                continue
            if state.phase is Phase.IDLE or paused:
                state.phase, state.since_ms, state.count = Phase.PENDING, at, 0
            state.count += 1
            if state.count >= watch.samples and at - state.since_ms >= watch.pending_ms:
                turns.append(_fire(watch, state, at, x, now_ms))
            continue
        if not calm:
            if state.phase is Phase.RECOVERING:
                state.phase = Phase.FIRING
            if may_begin and state.past and now_ms - at <= watch.late_ms:
                state.past, state.recent = False, ()
                turns.append(Transition(True, at, state.since_ms, x, state.count, False, state.held))
            continue
        if state.phase is Phase.FIRING or paused:
            state.phase, state.calm_since_ms, state.calm_count = Phase.RECOVERING, at, 0
        state.calm_count += 1
        if state.calm_count >= watch.samples and at - state.calm_since_ms >= state.quiet_ms(watch):
            past = state.past and now_ms - at > watch.late_ms
            turns.append(Transition(False, at, state.calm_since_ms, x, state.calm_count, past))
            state.phase, state.past, state.held, state.recent = Phase.IDLE, False, 0, ()
    return turns


def _fire(watch: Watch, state: ConditionState, at: int, x: float, now_ms: int) -> Transition:
    """The condition fires with this sample."""
    state.phase, state.fired_at_ms, state.past = Phase.FIRING, at, now_ms - at > watch.late_ms
    state.firings = (*(one for one in state.firings if at - one < watch.flap_ms), at) if watch.flaps else ()
    state.recent = ()
    state.held = len(state.firings) if 0 < watch.flaps <= len(state.firings) else 0
    return Transition(True, at, state.since_ms, x, state.count, state.past, state.held)


def remove_sample(watch: Watch, state: ConditionState, at_ms: int) -> bool:
    """One of the newest samples, at ``at_ms``, turned out to be none: ``state`` (changed in place) is as if it had not
    come. True when it was concerned.

    A condition that fired or ended because of that sample, or would end without it, stays as it is: the next sample
    tells.
    """
    place = next((i for i, (at, _, _) in enumerate(state.recent) if at == at_ms), None)
    if place is None:
        return False
    again = replace(state.recent[place][2], recent=state.recent[:place])
    if advance_condition(watch, again, [(at, x) for at, x, _ in state.recent[place + 1 :]], at_ms):
        return False
    for name in ConditionState.__slots__:
        setattr(state, name, getattr(again, name))
    return True
