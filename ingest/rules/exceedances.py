"""Whole crossings in a stretch of readings: what late data show is what they add to these. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.rules.condition import ConditionState, Phase, Transition, Watch, advance_condition

Samples = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Exceedance:
    """One crossing: when it fired, when it ended (None: the readings do not show it), and its last reading."""

    fired: Transition
    ended: Transition | None
    last_ms: int

    def meets(self, other: "Exceedance") -> bool:
        """Whether both speak of the same time."""
        return self.fired.since_ms <= other.last_ms and other.fired.since_ms <= self.last_ms

    def holds(self, at_ms: int) -> bool:
        return self.fired.since_ms <= at_ms <= self.last_ms


@dataclass(frozen=True, slots=True)
class PublishedExceedance:
    """A crossing that people were told of: when it fired first, when last (again for the living, or for late data), and
    when it was over, far ahead while it is on (ms)."""

    first_ms: int
    fired_ms: int
    over_ms: int

    def among(self, found: Sequence[Exceedance]) -> list[Exceedance]:
        """The crossings that speak of the same time."""
        return [one for one in found if one.fired.since_ms <= self.over_ms and self.first_ms <= one.last_ms]


def find_exceedances(watch: Watch, samples: Samples, now_ms: int) -> list[Exceedance]:
    """The crossings in usable samples (ms, value), oldest first, walked by the very code that judges live readings.

    A live condition fires on through silence, for nothing shows that it ended. Looking back, readings that are bad
    before a pause and bad after it are two crossings: what was in between nobody knows, and late data may yet tell.
    """
    found: list[Exceedance] = []
    state = ConditionState()
    for piece in _pieces(watch, samples):
        going = state.phase in (Phase.FIRING, Phase.RECOVERING)
        if going and watch.bad(piece[0][1]):
            state, going = ConditionState(firings=state.firings), False
        for turn in advance_condition(watch, state, piece, now_ms):
            if not turn.fired:
                found[-1] = replace(found[-1], ended=turn, last_ms=turn.at_ms)
            elif not (found and found[-1].fired.since_ms == turn.since_ms):  # else it fires again for the living
                found.append(Exceedance(turn, None, turn.at_ms))
        if state.phase in (Phase.FIRING, Phase.RECOVERING):
            found[-1] = replace(found[-1], last_ms=piece[-1][0])
    return found


def _pieces(watch: Watch, samples: Samples) -> Iterator[Samples]:
    """The samples cut where a pause breaks them."""
    start = 0
    for i in range(1, len(samples) + 1):
        if i == len(samples) or samples[i][0] - samples[i - 1][0] > watch.gap_ms:
            yield samples[start:i]
            start = i


@dataclass(frozen=True, slots=True)
class ExceedanceChanges:
    """What late data add: turns to tell, and whether they change what is firing now."""

    turns: tuple[Transition, ...]
    lasting: bool


def compare_exceedances(
    before: Sequence[Exceedance], after: Sequence[Exceedance], alarm_ms: int | None, alarm_past: bool
) -> Iterator[ExceedanceChanges]:
    """Compare the crossings without and with the late data.

    ``alarm_ms`` is when the alarm that is on fired, None when there is none. Its own crossing is the live judge's
    business, unless the alarm itself rests on late data.
    """
    for i, span in enumerate(after):
        known = [other for other in before if other.meets(span)]
        if alarm_ms is not None and span.holds(alarm_ms):
            if span.ended is not None and alarm_past:
                yield ExceedanceChanges((span.ended,), lasting=True)
        elif not known:
            turns = (span.fired,) if span.ended is None else (span.fired, span.ended)
            yield ExceedanceChanges(turns, lasting=span.ended is None and i == len(after) - 1 and alarm_ms is None)
        elif span.ended is not None and all(other.ended is None for other in known):
            yield ExceedanceChanges((span.ended,), lasting=False)


def vanished(before: Sequence[Exceedance], after: Sequence[Exceedance]) -> Iterator[Exceedance]:
    """The crossings of which nothing is left."""
    for span in before:
        if not any(other.meets(span) for other in after):
            yield span
