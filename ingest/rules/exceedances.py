"""Whole exceedances (from firing to end) in a stretch of readings, and what late data change about them. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.rules.condition import Condition, ConditionState, Phase, Samples, Transition, advance_condition


@dataclass(frozen=True, slots=True)
class Exceedance:
    """When it fired, when it ended (None where the readings do not show an end), and its last reading (ms)."""

    fired: Transition
    ended: Transition | None
    last_ms: int

    def overlaps(self, other: "Exceedance") -> bool:
        return self.fired.since_ms <= other.last_ms and other.fired.since_ms <= self.last_ms

    def covers(self, at_ms: int) -> bool:
        return self.fired.since_ms <= at_ms <= self.last_ms


@dataclass(frozen=True, slots=True)
class PublishedExceedance:
    """An exceedance that was reported to people, in ms: when it fired first, when it fired last (again on timely data,
    or for late data), and when it was over; ``over_ms`` lies far ahead while it lasts."""

    first_ms: int
    fired_ms: int
    over_ms: int

    def among(self, found: Sequence[Exceedance]) -> list[Exceedance]:
        """The exceedances that overlap this one in time."""
        return [one for one in found if one.fired.since_ms <= self.over_ms and self.first_ms <= one.last_ms]


def find_exceedances(condition: Condition, samples: Samples, now_ms: int) -> list[Exceedance]:
    """The exceedances in usable samples, found by the same code that judges live readings.

    Unlike the live condition, readings beyond the limit before and after a pause are two exceedances: late data may
    still show what happened in between.
    """
    found: list[Exceedance] = []
    state = ConditionState()
    for piece in _without_gaps(condition, samples):
        going = state.phase in (Phase.FIRING, Phase.RECOVERING)
        if going and condition.exceeds(piece[0][1]):
            state, going = ConditionState(firings=state.firings), False
        for one in advance_condition(condition, state, piece, now_ms):
            if not one.fired:
                found[-1] = replace(found[-1], ended=one, last_ms=one.at_ms)
            elif not (found and found[-1].fired.since_ms == one.since_ms):  # else it fires again on timely data
                found.append(Exceedance(one, None, one.at_ms))
        if state.phase in (Phase.FIRING, Phase.RECOVERING):
            found[-1] = replace(found[-1], last_ms=piece[-1][0])
    return found


def _without_gaps(condition: Condition, samples: Samples) -> Iterator[Samples]:
    start = 0
    for i in range(1, len(samples) + 1):
        if i == len(samples) or samples[i][0] - samples[i - 1][0] > condition.gap_ms:
            yield samples[start:i]
            start = i


@dataclass(frozen=True, slots=True)
class ExceedanceChanges:
    """The transitions that late data add, and whether they change what is firing now."""

    transitions: tuple[Transition, ...]
    lasting: bool


def compare_exceedances(
    before: Sequence[Exceedance], after: Sequence[Exceedance], alarm_ms: int | None, alarm_retrospective: bool
) -> Iterator[ExceedanceChanges]:
    """Compare the exceedances without (``before``) and with (``after``) the late data.

    ``alarm_ms`` is when the active alarm fired, None without one. The exceedance of the active alarm is left to the
    live evaluation, unless the alarm itself rests on late data.
    """
    for i, one in enumerate(after):
        overlapping = [other for other in before if other.overlaps(one)]
        if alarm_ms is not None and one.covers(alarm_ms):
            if one.ended is not None and alarm_retrospective:
                yield ExceedanceChanges((one.ended,), lasting=True)
        elif not overlapping:
            transitions = (one.fired,) if one.ended is None else (one.fired, one.ended)
            yield ExceedanceChanges(transitions, lasting=one.ended is None and i == len(after) - 1 and alarm_ms is None)
        elif one.ended is not None and all(other.ended is None for other in overlapping):
            yield ExceedanceChanges((one.ended,), lasting=False)


def disappeared(before: Sequence[Exceedance], after: Sequence[Exceedance]) -> list[Exceedance]:
    """The exceedances of ``before`` that overlap none of ``after``."""
    return [one for one in before if not any(other.overlaps(one) for other in after)]
