"""Match alarms with what really happened, run by run. Pure; docs/simulator.md explains the counting.

Runs of true samples are things, runs of flagged samples are alarms. A thing is found when an alarm touches it, two
steps of tolerance before and after; alarms that touch nothing are false.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from infra.times import DAY_MS
from sensors.reading import Ints

MERGE_STEPS = 4
"""Samples closer than this belong to one run."""
TOLERANCE_STEPS = 2
"""An alarm so shortly before or after a thing has found it."""
MAX_MATCH_STEPS = 24
"""An alarm on for longer counts once more for every further such time: one left on for weeks is not one alarm."""
MONTH_MS = 30.44 * DAY_MS


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start_ms`` to ``end_ms``, both in it."""

    start_ms: int
    end_ms: int

    def touches(self, other: "Span", tolerance_ms: int = 0) -> bool:
        return self.start_ms <= other.end_ms + tolerance_ms and other.start_ms - tolerance_ms <= self.end_ms


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that was there: a fault of one sensor (``parameter``), or an event at a station (``parameter`` empty).

    ``delay_ms`` from its beginning to the first alarm in event time, None where it was missed. ``fault`` and ``event``:
    what it was called, whichever is right. ``by``: what found an event, ``event`` the detector, ``rule`` a rule.
    ``name``: of an event, which passes by several stations. ``named_as``: what the detector said it looks like.
    """

    kind: str
    station: str
    parameter: str
    span: Span
    delay_ms: int | None
    fault: bool
    event: bool
    by: tuple[str, ...] = ()
    name: str = ""
    named_as: str = ""

    @property
    def found(self) -> bool:
        return self.delay_ms is not None


def runs(at_ms: Ints, gap_ms: int) -> Iterator[Span]:
    """(n,) ascending instants grouped; a step larger than ``gap_ms`` begins a new run."""
    if len(at_ms):
        cuts = np.flatnonzero(np.diff(at_ms) > gap_ms) + 1
        for part in np.split(at_ms, cuts):
            yield Span(int(part[0]), int(part[-1]))


def step_of(at_ms: Ints) -> int:
    """The usual spacing of (n,) ascending instants, ms; a quarter of an hour where there are not two."""
    return int(np.median(np.diff(at_ms))) if len(at_ms) > 1 else DAY_MS // 96


def first_touch(alarms: Iterable[Span], thing: Span, tolerance_ms: int) -> int | None:
    """How long after its beginning the first alarm on ``thing`` came, ms, never below zero; None where none came."""
    mine = [max(0, alarm.start_ms - thing.start_ms) for alarm in alarms if alarm.touches(thing, tolerance_ms)]
    return min(mine, default=None)


def first_sample(flagged_ms: Ints, thing: Span, tolerance_ms: int) -> int | None:
    """The same for single flagged samples (n,), ascending: the first that lies in it or near it."""
    i = int(np.searchsorted(flagged_ms, thing.start_ms - tolerance_ms))
    if i == len(flagged_ms) or flagged_ms[i] > thing.end_ms + tolerance_ms:
        return None
    return max(0, int(flagged_ms[i]) - thing.start_ms)


def false_runs(flagged_ms: Ints, things: Iterable[Span], step_ms: int) -> list[Span]:
    """Runs of flagged samples (n,) that touch no thing; the tail of an alarm that found one is none of its own."""
    tolerance_ms, gap_ms = TOLERANCE_STEPS * step_ms, MERGE_STEPS * step_ms
    outside = np.ones(len(flagged_ms), np.bool_)
    lasts = []
    for thing in things:
        low = np.searchsorted(flagged_ms, thing.start_ms - tolerance_ms)
        high = np.searchsorted(flagged_ms, thing.end_ms + tolerance_ms, side="right")
        outside[low:high] = False
        if high > low:
            lasts.append(int(flagged_ms[high - 1]))
    return [
        span
        for span in runs(flagged_ms[outside], gap_ms)
        if not any(0 <= span.start_ms - last <= gap_ms for last in lasts)
    ]


def count(alarms: Iterable[Span], step_ms: int) -> int:
    """How many alarms these are, with long ones counted again."""
    return sum(1 + (alarm.end_ms - alarm.start_ms) // (MAX_MATCH_STEPS * step_ms) for alarm in alarms)


def median_minutes(things: Iterable[Thing]) -> float | None:
    """Of the delays of what was found; None where nothing was."""
    delays = [thing.delay_ms for thing in things if thing.delay_ms is not None]
    return float(np.median(delays)) / 60_000 if delays else None
