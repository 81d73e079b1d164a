"""Settle doubtful events: within a day each becomes an event of the water or a device to be checked.

What one sensor shows alone is doubtful (:class:`sensors.quality.detectors.sudden_events.DiscountReason`). A case begins
with the first such alarm of a reason at a station and is settled once, in event time:

* A certain event at the station goes with it: the water.
* Oxygen that is missing for hours, while it swings twice as far as on a usual day and did not get there in a leap: the
  water. A sensor that drifts or is fouled keeps its swing or loses it; an offset comes in one step.
* Neither within a day: a device to be checked.

What is settled stays so until a day passes without another such alarm. :func:`settle_doubtful_events` reads a
:class:`DoubtState` and hands back what is to be remembered; a table in one piece and the same table cut anywhere
between two instants give the same outcomes. Pure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from infra.times import DAY_MS, HOUR_MS, TIME_BITS
from sensors.quality.detectors.slow_events import SlowEventResult
from sensors.quality.detectors.sudden_events import SuddenEventResult
from sensors.quality.events import EVENT_OVER_AFTER_MS, Alarms, DiscountReason, EventReadings, Outcome
from sensors.quality.moves import LEAP
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Bytes, Codes, Floats, Ints, Places

# Measured on planted discharges and faults, docs/detection.md ("Doubt").
DECIDED_AFTER_MS: Final = 20 * HOUR_MS
"""A case is settled at the first instant after so long; with a reading every four hours that is within a day."""
CONFIRMING_HOURS: Final = 3
"""Hours of missing oxygen, in one stretch or in several. Tides and cold fronts bring one or two."""
CONFIRMING_SWING: Final = 2.0
"""In swings of a usual day: of planted blooms and sags nine in ten reach it, of faults without a leap one in seven."""
MIN_LEAP: Final = 4.0
"""In usual moves. An oxygen sensor that leaps so far before or during a case is not believed."""
LEAP_BEFORE_MS: Final = EVENT_OVER_AFTER_MS
"""How long before its first alarm a leap belongs to a case: an hour must end, and two must say the same."""
CALM_MS: Final = DAY_MS
"""A case is over after so long without another alarm of its reason."""

REASONS: Final = (DiscountReason.LEAP, DiscountReason.PARTICLES, DiscountReason.LONE)
_LONE: Final = REASONS.index(DiscountReason.LONE)
_PLACE: Final = {reason: i for i, reason in enumerate(REASONS)}


@dataclass
class DoubtState(StateColumns):
    """The cases of every station, one column of a cell for each of :data:`REASONS`.

    Attributes
    ----------
    since, last : (s, reasons) first and last alarm of the case (ms), 0 where there is none
    outcome : (s, reasons) :class:`Outcome`
    hours, hour : (s,) hours of missing oxygen in its case, and the last of them since the epoch
    swing : (s,) the widest swing of oxygen in its case
    leapt_at, certain_at : (s,) last leap of the oxygen sensor, and last certain alarm (ms)
    """

    since: Ints = field(default_factory=Column(0, np.int64, len(REASONS)))
    last: Ints = field(default_factory=Column(0, np.int64, len(REASONS)))
    outcome: Bytes = field(default_factory=Column(0, np.uint8, len(REASONS)))
    hours: Codes = field(default_factory=Column(0, np.int32))
    hour: Ints = field(default_factory=Column(0, np.int64))
    swing: Floats = field(default_factory=Column(0.0, np.float64))
    leapt_at: Ints = field(default_factory=Column(0, np.int64))
    certain_at: Ints = field(default_factory=Column(0, np.int64))


class Settled(NamedTuple):
    """A case that was settled: at which station, since when, for which reason it was doubtful, how and when (ms).

    ``last_ms`` is its last alarm until then; ``leapt``: whether the oxygen sensor made a leap.
    """

    station: int
    since_ms: int
    reason: DiscountReason
    outcome: Outcome
    at_ms: int
    last_ms: int
    leapt: bool


@dataclass(frozen=True, slots=True)
class DoubtResult:
    """The alarms with their outcomes, the cases that were settled, and the ``state`` of the ``stations`` that
    changed."""

    alarms: Alarms
    settled: tuple[Settled, ...]
    stations: Codes
    state: DoubtState


@dataclass(frozen=True, slots=True)
class CombinedDetection(SuddenEventResult):
    """Results of both detectors of events: the alarms of both, the state of each, and what became of doubts."""

    slow_result: SlowEventResult
    doubt: DoubtResult


def oxygen_leaps(readings: EventReadings) -> tuple[Codes, Ints]:
    """Stations and instants at which an oxygen sensor leapt."""
    rows = np.flatnonzero((readings.course == LEAP) & readings.is_of("oxygen") & (np.abs(readings.move) >= MIN_LEAP))
    return readings.station[rows], readings.at[rows]


def settle_doubtful_events(
    alarms: Alarms, leaps: tuple[Codes, Ints], instants: Callable[[], Ints], memory: DoubtState
) -> DoubtResult:
    """Give each doubtful alarm the outcome of its case, and settle the cases whose time is up.

    Parameters
    ----------
    alarms : Alarms
        New alarms, in any order.
    leaps : stations and instants, as from :func:`oxygen_leaps`
    instants : returns (n,) the instants of new readings, sorted, each with its station above TIME_BITS
    memory : DoubtState
        Read, not changed.
    """
    open_ = np.flatnonzero(((memory.since > 0) & (memory.outcome == Outcome.OPEN)).any(axis=1))
    if not len(alarms.at) and not len(leaps[0]) and not len(open_):
        return DoubtResult(alarms, (), np.empty(0, np.int64), memory.taken(np.empty(0, np.int64)))
    stations = np.unique(np.concatenate([alarms.station, leaps[0], open_])).astype(np.int64)
    state = memory.taken(stations)
    outcome, settled = alarms.outcome.copy(), list[Settled]()
    keys = instants() if len(alarms.at) or len(open_) else np.empty(0, np.int64)
    order = np.lexsort((alarms.discount, alarms.at, alarms.station))
    bounds = np.searchsorted(alarms.station[order], [stations, stations + 1]).T.tolist()
    for row, (station, (first, last)) in enumerate(zip(stations.tolist(), bounds, strict=True)):
        low, high = np.searchsorted(keys, [station << TIME_BITS, (station + 1) << TIME_BITS])
        at = keys[low:high] & ((1 << TIME_BITS) - 1)
        case = _Station(state, row, station, alarms, at, np.sort(leaps[1][leaps[0] == station]).tolist())
        settled += case.follow(order[first:last], outcome)
    changed = np.array([_differs(state, row, memory, one) for row, one in enumerate(stations.tolist())], np.bool_)
    discount = np.where(outcome == Outcome.CONFIRMED, DiscountReason.NONE, alarms.discount).astype(np.uint8)
    rows = np.flatnonzero(changed)
    return DoubtResult(
        replace(alarms, outcome=outcome, discount=discount), tuple(settled), stations[rows], state.taken(rows)
    )


@dataclass(slots=True)
class _Station:
    """The cases of one station while new alarms are looked at.

    ``state`` is changed in place, in its ``row``. ``instants`` (n,) and ``leaps``, sorted, are the station's; ``leaps``
    are taken off as they are used.
    """

    state: DoubtState
    row: int
    number: int
    alarms: Alarms
    instants: Ints
    leaps: list[int]

    def follow(self, rows: Places, outcome: Bytes) -> Iterator[Settled]:
        """Follow the cases through alarms (``rows``, sorted by time); writes their ``outcome``.

        What happened is taken in the order in which it becomes known: an alarm is known at the next instant, a leap
        and that the time of a case is up at their own.
        """
        state, row = self.state, self.row
        for alarm in rows.tolist():
            at_ms = int(self.alarms.at[alarm])
            yield from self._overdue(at_ms)
            self._leap(at_ms)
            if not self.alarms.discount[alarm]:
                state.certain_at[row] = max(int(state.certain_at[row]), at_ms)
                yield from [self._settle(place, Outcome.JOINED, at_ms) for place in self._open()]
                continue
            place = _PLACE[DiscountReason(int(self.alarms.discount[alarm]))]
            yield from self._doubtful(alarm, place, at_ms)
            outcome[alarm] = state.outcome[row, place]
        yield from self._overdue(None)
        self._leap(None)

    def _doubtful(self, alarm: int, place: int, at_ms: int) -> Iterator[Settled]:
        """Take a doubtful alarm into its case; confirm missing oxygen."""
        state, row = self.state, self.row
        if not state.since[row, place] or at_ms - state.last[row, place] > CALM_MS:
            certain = at_ms - int(state.certain_at[row]) <= EVENT_OVER_AFTER_MS
            state.since[row, place] = at_ms
            state.outcome[row, place] = Outcome.JOINED if certain else Outcome.OPEN
            if place == _LONE:
                state.hours[row], state.hour[row], state.swing[row] = 0, 0, 0.0
        state.last[row, place] = at_ms
        if place != _LONE:
            return
        if at_ms // HOUR_MS != state.hour[row]:
            state.hours[row] += 1
            state.hour[row] = at_ms // HOUR_MS
        state.swing[row] = np.fmax(state.swing[row], self.alarms.swing[alarm])
        if (
            state.outcome[row, place] == Outcome.OPEN
            and state.hours[row] >= CONFIRMING_HOURS
            and state.swing[row] >= CONFIRMING_SWING
            and not self._leapt()
        ):
            yield self._settle(place, Outcome.CONFIRMED, at_ms)

    def _overdue(self, until_ms: int | None) -> Iterator[Settled]:
        """Settle the open cases whose time was up at an instant not after ``until_ms``."""
        for place in sorted(self._open(), key=lambda one: int(self.state.since[self.row, one])):
            due_ms = int(self.state.since[self.row, place]) + DECIDED_AFTER_MS
            first = int(np.searchsorted(self.instants, due_ms))
            if first < len(self.instants) and (until_ms is None or self.instants[first] <= until_ms):
                self._leap(int(self.instants[first]))
                yield self._settle(place, Outcome.DEVICE, int(self.instants[first]))

    def _leap(self, until_ms: int | None) -> None:
        """Note the leaps until then."""
        while self.leaps and (until_ms is None or self.leaps[0] <= until_ms):
            self.state.leapt_at[self.row] = max(int(self.state.leapt_at[self.row]), self.leaps.pop(0))

    def _open(self) -> list[int]:
        there = (self.state.since[self.row] > 0) & (self.state.outcome[self.row] == Outcome.OPEN)
        return [int(place) for place in np.flatnonzero(there)]

    def _leapt(self) -> bool:
        """Whether the oxygen sensor leapt in its case or shortly before."""
        return int(self.state.leapt_at[self.row]) >= int(self.state.since[self.row, _LONE]) - LEAP_BEFORE_MS

    def _settle(self, place: int, outcome: Outcome, at_ms: int) -> Settled:
        state, row, reason = self.state, self.row, REASONS[place]
        state.outcome[row, place] = outcome
        leapt = reason is DiscountReason.LEAP or (place == _LONE and self._leapt())
        since_ms, last_ms = int(state.since[row, place]), int(state.last[row, place])
        return Settled(self.number, since_ms, reason, outcome, at_ms, last_ms, leapt)


def _differs(state: DoubtState, row: int, memory: DoubtState, station: int) -> bool:
    """Whether the state of a station changed."""
    return any(
        not np.array_equal(getattr(state, name)[row], getattr(memory, name)[station]) for name in DoubtState.names()
    )
