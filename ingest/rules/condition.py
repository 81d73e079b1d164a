"""The state machine of one condition: idle, pending, firing, recovering. Pure, in event time.

A pause longer than ``gap_ms`` restarts the pending or the recovering count; it does not end a firing condition.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from ingest.rules.schedule import ActiveTimes
from sensors.quality.detectors.point_tests import LONGEST_BURST

Samples = Sequence[tuple[int, float]]
"""(observed at in ms, value), oldest first."""

REVISABLE_SAMPLES = LONGEST_BURST + 1
"""Newest samples that :func:`remove_sample` can take back: a quality test recognises a burst only after its end."""


class Phase(IntEnum):
    IDLE = 0
    PENDING = 1
    FIRING = 2
    RECOVERING = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """The limits and durations of one rule at one series.

    A value x exceeds the limit where ``sign * (x - limit) > 0`` and is clear where ``sign * (x - clear) <= 0``. With a
    ``centre``, x is the distance from it. Nothing begins outside ``active``. A condition that fires for the
    ``flaps``-th time within ``flap_ms`` is flapping: it ends only after ``hold_ms`` of clear values.
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
    active: ActiveTimes | None = None
    flaps: int = 0
    flap_ms: int = 0
    hold_ms: int = 0

    def exceeds(self, x: float) -> bool:
        return self.sign * (self._distance(x) - self.limit) > 0

    def is_clear(self, x: float) -> bool:
        return self.sign * (self._distance(x) - self.clear) <= 0

    def may_begin(self, at_ms: int) -> bool:
        return self.active is None or self.active.covers(at_ms)

    def first_change(self, samples: Samples, start: int, *, firing: bool) -> int:
        """The index of the first value from ``start`` on that is clear, where ``firing``, else beyond the limit.

        ``len(samples)`` where there is none.

        The pieces examined grow, so that both a few samples and a long history cost little.
        """
        size = 16
        while start < len(samples):
            values = np.array([x for _, x in samples[start : start + size]])
            distance = values if math.isnan(self.centre) else np.abs(values - self.centre)
            changes = self.sign * (distance - self.clear) <= 0 if firing else self.sign * (distance - self.limit) > 0
            if len(found := np.flatnonzero(changes)):
                return start + int(found[0])
            start, size = start + size, 4 * size
        return len(samples)

    def _distance(self, x: float) -> float:
        return x if math.isnan(self.centre) else abs(x - self.centre)


@dataclass(slots=True)
class ConditionState:
    """The state of one condition.

    ``count`` and ``calm_count`` are the consecutive exceeding and clear samples; ``retrospective`` is true where it
    fired on data too old to act on; ``firings`` are the recent instants at which it fired (ms); ``flap_count`` is their
    number at the last firing where that reached ``flaps``, else 0; ``recent``: the newest samples with the state before
    each.
    """

    phase: Phase = Phase.IDLE
    since_ms: int = 0
    count: int = 0
    last_ms: int = 0
    calm_since_ms: int = 0
    calm_count: int = 0
    fired_at_ms: int = 0
    retrospective: bool = False
    firings: tuple[int, ...] = ()
    flap_count: int = 0
    recent: "tuple[tuple[int, float, ConditionState], ...]" = ()

    def without_recent(self) -> "ConditionState":
        return ConditionState(
            self.phase,
            self.since_ms,
            self.count,
            self.last_ms,
            self.calm_since_ms,
            self.calm_count,
            self.fired_at_ms,
            self.retrospective,
            self.firings,
            self.flap_count,
        )

    def required_calm_ms(self, condition: Condition) -> int:
        """How long values must stay clear before the condition ends."""
        return max(condition.keep_ms, condition.hold_ms) if self.flap_count else condition.keep_ms


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that fired or ended at ``at_ms``.

    ``since_ms`` is when the exceedance began (fired) or when the clear values began (ended); ``flap_count`` as in
    :class:`ConditionState`.
    """

    fired: bool
    at_ms: int
    since_ms: int
    value: float
    count: int
    retrospective: bool
    flap_count: int = 0


def advance_condition(condition: Condition, state: ConditionState, samples: Samples, now_ms: int) -> list[Transition]:
    """Advance ``state`` (changed in place) through usable samples.

    A condition that fired on late data and still exceeds its limit in a timely sample fires again.
    """
    transitions: list[Transition] = []
    place = 0
    while place < len(samples):
        if state.phase is Phase.IDLE or (state.phase is Phase.FIRING and not state.retrospective):
            place = _skip_unchanging(condition, state, samples, place)
        at_ms, value = samples[place]
        place += 1
        state.recent = (*state.recent[1 - REVISABLE_SAMPLES :], (at_ms, value, state.without_recent()))
        after_gap = at_ms - state.last_ms > condition.gap_ms
        state.last_ms = at_ms
        if state.phase is Phase.IDLE or state.phase is Phase.PENDING:
            transition = _towards_firing(condition, state, at_ms, value, after_gap, now_ms)
        else:
            transition = _towards_end(condition, state, at_ms, value, after_gap, now_ms)
        if transition is not None:
            transitions.append(transition)
    return transitions


def _skip_unchanging(condition: Condition, state: ConditionState, samples: Samples, place: int) -> int:
    """Skip a long run in which nothing begins or ends, except the samples that ``recent`` holds; the next index to
    examine."""
    if len(samples) - place <= REVISABLE_SAMPLES:
        return place
    firing = state.phase is Phase.FIRING
    skipped = condition.first_change(samples, place, firing=firing) - REVISABLE_SAMPLES
    if skipped <= place:
        return place
    state.last_ms = samples[skipped - 1][0]
    return skipped


def _towards_firing(
    condition: Condition, state: ConditionState, at_ms: int, value: float, after_gap: bool, now_ms: int
) -> Transition | None:
    if not (condition.exceeds(value) and condition.may_begin(at_ms)):
        state.phase = Phase.IDLE
        return None
    if state.phase is Phase.IDLE or after_gap:
        state.phase, state.since_ms, state.count = Phase.PENDING, at_ms, 0
    state.count += 1
    if state.count < condition.samples or at_ms - state.since_ms < condition.pending_ms:
        return None
    state.phase, state.fired_at_ms, state.retrospective = Phase.FIRING, at_ms, now_ms - at_ms > condition.late_ms
    state.firings = (
        (*(one for one in state.firings if at_ms - one < condition.flap_ms), at_ms) if condition.flaps else ()
    )
    state.recent = ()
    state.flap_count = len(state.firings) if 0 < condition.flaps <= len(state.firings) else 0
    return Transition(True, at_ms, state.since_ms, value, state.count, state.retrospective, state.flap_count)


def _towards_end(
    condition: Condition, state: ConditionState, at_ms: int, value: float, after_gap: bool, now_ms: int
) -> Transition | None:
    if not condition.is_clear(value):
        if state.phase is Phase.RECOVERING:
            state.phase = Phase.FIRING
        timely = now_ms - at_ms <= condition.late_ms
        if not (state.retrospective and timely and condition.exceeds(value) and condition.may_begin(at_ms)):
            return None
        state.retrospective, state.recent = False, ()
        return Transition(True, at_ms, state.since_ms, value, state.count, False, state.flap_count)
    if state.phase is Phase.FIRING or after_gap:
        state.phase, state.calm_since_ms, state.calm_count = Phase.RECOVERING, at_ms, 0
    state.calm_count += 1
    if state.calm_count < condition.samples or at_ms - state.calm_since_ms < state.required_calm_ms(condition):
        return None
    retrospective = state.retrospective and now_ms - at_ms > condition.late_ms
    state.phase, state.retrospective, state.flap_count, state.recent = Phase.IDLE, False, 0, ()
    return Transition(False, at_ms, state.calm_since_ms, value, state.calm_count, retrospective)


def remove_sample(condition: Condition, state: ConditionState, at_ms: int) -> bool:
    """Make ``state`` (changed in place) as if the recent sample at ``at_ms`` had not come; true when it was changed.

    A condition that fired or ended because of that sample, or would end without it, stays as it is until the next
    sample.
    """
    place = next((i for i, (at, _, _) in enumerate(state.recent) if at == at_ms), None)
    if place is None:
        return False
    again = replace(state.recent[place][2], recent=state.recent[:place])
    if advance_condition(condition, again, [(at, x) for at, x, _ in state.recent[place + 1 :]], at_ms):
        return False
    for name in ConditionState.__slots__:
        setattr(state, name, getattr(again, name))
    return True
