"""Count what was found and what was a false alarm, run by run; docs/benchmark.md states the rules.

A *thing* is a run of samples that are wrong (a fault of one sensor) or special (an event at a station). Runs at most
four sampling intervals apart are one. It is found by a flag in it or within two intervals of it. Runs of flags outside
all of that are false alarms; one that lasts counts again every 24 intervals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sensors.reading import Bools, Ints
from tools.benchmark.records import MONTH_MS, UNJUDGED, Record
from tools.score.matching import MAX_MATCH_STEPS, MERGE_STEPS, TOLERANCE_STEPS, Span, runs, step_of

LEFT_OUT: Final = frozenset({"rain"})
"""Rain is no state of the water."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The answer of a method: ``fault`` (rows, sensors) and ``event`` (rows,)."""

    fault: Bools
    event: Bools


@dataclass(slots=True)
class Tally:
    """Things that were there, found and not, false alarms in so many months of stations; delays in ms."""

    there: int = 0
    found: int = 0
    false: int = 0
    months: float = 0.0
    delays: list[int] = field(default_factory=list)
    natural: int = 0
    natural_flagged: int = 0

    def add(self, other: "Tally") -> None:
        self.there += other.there
        self.found += other.found
        self.false += other.false
        self.delays += other.delays

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.false, 1)

    @property
    def recall(self) -> float:
        return self.found / max(self.there, 1)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(self.found + self.false + self.there, 1)

    @property
    def rate(self) -> float:
        """False alarms a station-month."""
        return self.false / self.months if self.months else float("nan")

    @property
    def delay_min(self) -> float:
        return float(np.median(self.delays)) / 60_000 if self.delays else float("nan")

    def row(self) -> list[str]:
        numbers = f"{self.precision:.2f}", f"{self.recall:.2f}", f"**{self.f1:.3f}**", f"{self.rate:.2f}"
        return [*numbers, f"{self.delay_min:.0f}"]


def match(at: Ints, flagged: Bools, spans: Sequence[Span]) -> tuple[list[int | None], list[int]]:
    """The delay (ms) of each thing, None where missed, and the times of false alarms, of (n,) judged instants."""
    step = step_of(at)
    tolerance, gap = TOLERANCE_STEPS * step, MERGE_STEPS * step
    alarms = at[flagged]
    outside, lasts, delays = np.ones(len(alarms), np.bool_), [-(2**62)], []
    for span in spans:
        low = int(np.searchsorted(alarms, span.start_ms - tolerance))
        high = int(np.searchsorted(alarms, span.end_ms + tolerance, side="right"))
        outside[low:high] = False
        if high > low:
            lasts.append(int(alarms[high - 1]))
        delays.append(max(0, int(alarms[low]) - span.start_ms) if high > low else None)
    ends, false = np.sort(np.array(lasts)), list[int]()
    for run in runs(alarms[outside], gap):
        before = ends[np.searchsorted(ends, run.start_ms) - 1]
        many = int(run.start_ms - before > gap) + (run.end_ms - run.start_ms) // (MAX_MATCH_STEPS * step)
        false += [run.start_ms] * int(many)
    return delays, false


def tally(at: Ints, flagged: Bools, label: Ints) -> Tally:
    """Score one series of (n,) samples with their labels."""
    judged = label != UNJUDGED
    at, flagged, label = at[judged], flagged[judged], label[judged]
    if len(at) < 2:
        return Tally()
    spans = list(runs(at[label == 1], MERGE_STEPS * step_of(at)))
    delays, false = match(at, flagged, spans)
    found = [one for one in delays if one is not None]
    return Tally(len(spans), len(found), len(false), len(at) * step_of(at) / MONTH_MS, found)


def score_faults(record: Record, flags: Flags, without: Iterable[str] = ()) -> Tally:
    """Against the keeper's labels, sensor by sensor."""
    table, total = record.table, Tally()
    for rows in record.stations:
        months = 0.0
        for i, sensor in enumerate(table.found.sensors):
            if sensor.kind_key in {*LEFT_OUT, *without}:
                continue
            flagged, label = flags.fault[rows, i], record.bad[rows, i]
            one = tally(table.at[rows], flagged, label)
            months = max(months, one.months)
            total.add(one)
            storm = record.natural[rows] & (label == 0)
            total.natural += int(storm.sum())
            total.natural_flagged += int((storm & flagged).sum())
        total.months += months
    return total


def score_events(record: Record, flags: Flags) -> Tally:
    """Against the labelled events, station by station."""
    total = Tally()
    for rows in record.stations:
        one = tally(record.table.at[rows], flags.event[rows], record.event[rows])
        total.add(one)
        total.months += one.months
    return total
