"""The one way to judge stored readings again: compare what they show before and after a change.

:mod:`~ingest.rejudge.late_readings` (late readings, corrections) and :mod:`~ingest.rejudge.marks` (reviews, failed
checks, visits) rebuild the readings around the change. From there on all take the same way: the rules and the event
detector judge the readings before and after. Findings that appear are published, as retrospective ones where they are
too old to act on. Findings that disappear are withdrawn where somebody declared their readings wrong or corrected them;
doubt alone withdraws nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from governance.incidents.finding import Finding
from infra.texts import Text
from ingest.rejudge.past_events import PastEvents
from ingest.rejudge.station_moves import StationMoves, StoredReadings
from ingest.rules.engine import ChangeReason, ReadingsBeforeAfter, RuleEngine
from sensors.reading import Batch, Ints

Verdict = tuple[int, int, int, int]
"""Station, parameter, observed_at (ms) and verdict (packed) of a stored reading."""


@dataclass(frozen=True, slots=True)
class SeriesChange:
    """A series with changed readings or verdicts.

    ``read_window`` gives the readings before and after the change, from an instant (ms) on at least, None for those
    around it. ``why`` tells who declared readings between two instants wrong; None where nobody did.
    """

    series: int
    read_window: ReadingsBeforeAfter
    why: ChangeReason | None = None


@dataclass(frozen=True, slots=True)
class EventChange:
    """Instants ``at`` (sorted) of a station at which its sensors show something else ``after`` than ``before``."""

    at: Ints
    before: Callable[[], StationMoves]
    after: StationMoves
    why: ChangeReason | None = None


@dataclass(slots=True)
class Difference:
    """All findings that follow from a change; the ``lasting`` ones change what is firing now."""

    findings: list[Finding] = field(default_factory=list)
    lasting: list[Finding] = field(default_factory=list)
    tried: "Difference | None" = None
    """What follows by the rules on trial; None where there are none."""

    def add(self, found: tuple[Sequence[Finding], Sequence[Finding]]) -> None:
        """Add findings, and those of them that last."""
        findings, lasting = found
        self.findings += findings
        self.lasting += lasting


@dataclass(frozen=True, slots=True)
class Rejudgement:
    """What a change of stored readings comes to.

    The stored readings ``reflagged`` (n,) get the verdicts ``packed`` (n,). The history of ``stations`` must be loaded
    again. Of the ``findings``, the ``lasting`` ones change what is firing.
    """

    reflagged: Batch
    packed: Ints
    stations: tuple[int, ...]
    findings: tuple[Finding, ...] = ()
    lasting: tuple[Finding, ...] = ()
    tried: Difference | None = None

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], stations: Iterable[int], difference: Difference) -> "Rejudgement":
        """From the verdicts that changed; of one key the last one counts."""
        reflagged = Batch.of(
            [v[0] for v in verdicts], [v[1] for v in verdicts], [v[2] for v in verdicts], [0.0] * len(verdicts)
        )
        packed = np.array([v[3] for v in verdicts], np.int64)
        findings, lasting = tuple(difference.findings), tuple(difference.lasting)
        return cls(reflagged, packed, tuple(sorted(set(stations))), findings, lasting, difference.tried)


def compare(
    series: Sequence[SeriesChange],
    stations: Mapping[int, Callable[[], Iterable[EventChange]]],
    stored: StoredReadings,
    past_events: PastEvents,
    now_ms: int,
) -> Difference:
    """Judge changed ``series`` by the rules and changed ``stations`` by the event detector, before and after.

    Stations are judged down the river; those below an event that appeared or disappeared are judged, too.
    """
    history = stored.history
    difference = _judge_series(series, history.checks, now_ms)
    if history.trial is not None:
        difference.tried = _judge_series(series, history.trial, now_ms)
    if not history.checks.rules.events:
        return difference
    for station in past_events.downwards(stations):
        for one in stations[station]():
            difference.add(past_events.judge(station, one.at, one.after, one.before, stored.moves, one.why))
    for station, at_ms, reason in past_events.downstream_findings(stations):
        difference.add(_judge_unchanged(station, at_ms, reason, stored, past_events))
    return difference


def _judge_series(series: Iterable[SeriesChange], engine: RuleEngine, now_ms: int) -> Difference:
    """What follows from changed series by the rules of one engine."""
    difference = Difference()
    for change in series:
        difference.add(engine.late(change.series, *change.read_window(None), now_ms))
        if change.why is not None:
            difference.add(engine.withdraw_disproved(change.series, change.read_window, change.why, now_ms))
    return difference


def _judge_unchanged(
    station: int, around: Ints, reason: Text | None, stored: StoredReadings, past_events: PastEvents
) -> tuple[list[Finding], list[Finding]]:
    """Judge a station whose own readings are the same, but not the events above it."""
    moves = stored.moves(station, around)
    why = None if reason is None else lambda *_: reason
    return past_events.judge(station, around, moves, lambda: moves, stored.moves, why)
