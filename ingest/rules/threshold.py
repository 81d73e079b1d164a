"""Evaluate threshold rules: readings compared with a limit (``[[threshold]]``, ``[[class]]``, ``[[target]]``,
``[[black_odorous]]``).

One vectorised comparison over the batch finds the few conditions that may change; :func:`~.condition.advance_condition`
then takes those reading by reading. The limit of each kind of rule is ``Limit.bound`` in :mod:`ingest.rules.model`.
"""

from collections.abc import Iterator

import numpy as np

from ingest.rules.condition import ConditionState, Phase
from ingest.rules.model import Bound
from sensors.reading import Bools, Codes, Floats, Ints, grown


class ThresholdEvaluator:
    """The limits and phases of all conditions as columns, indexed by the number of the condition in the engine."""

    def __init__(self) -> None:
        self._phase = np.zeros(0, np.uint8)
        self._retrospective = np.zeros(0, np.bool_)
        self._sign, self._limit, self._clear = np.zeros(0), np.zeros(0), np.zeros(0)
        self._centre = np.zeros(0)  # NaN where values are compared as they are
        self._any_centre = False
        self._first, self._count = np.zeros(0, np.int64), np.zeros(0, np.int64)  # by series

    def add(self, number: int, bound: Bound) -> None:
        """Add a condition with this limit; numbers are consecutive."""
        size = number + 1
        self._phase, self._retrospective = grown(self._phase, size), grown(self._retrospective, size)
        self._sign, self._limit = grown(self._sign, size), grown(self._limit, size)
        self._clear, self._centre = grown(self._clear, size), grown(self._centre, size)
        self._sign[number], self._limit[number] = bound.sign, bound.limit
        self._clear[number], self._centre[number] = bound.clear, bound.centre
        self._any_centre |= not np.isnan(bound.centre)

    def bind(self, series: int, first: int, count: int) -> None:
        """Compare the readings of this series with the conditions ``first`` to ``first + count - 1``."""
        self._first, self._count = grown(self._first, series + 1), grown(self._count, series + 1)
        self._first[series], self._count[series] = first, count

    def update(self, number: int, state: ConditionState) -> None:
        self._phase[number], self._retrospective[number] = state.phase, state.retrospective

    def numbers(self, series: int) -> range:
        """The conditions that the readings of a series are compared with."""
        if series >= len(self._first):
            return range(0)
        return range(int(self._first[series]), int(self._first[series] + self._count[series]))

    def changing(self, series: Codes, value: Floats, doubted: Bools) -> Iterator[tuple[int, Ints]]:
        """The conditions that these readings may change, each with the positions of its readings.

        ``series``, ``value`` and ``doubted`` are (n,), sorted by (series, at). A doubted reading counts only where it
        exceeds the limit.
        """
        count = self._count[series]
        rows = np.repeat(np.arange(len(series)), count)
        if not len(rows):
            return
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        number = np.repeat(self._first[series], count) + offset
        x = value[rows]
        if self._any_centre:
            centre = self._centre[number]
            x = np.where(np.isnan(centre), x, np.abs(x - centre))
        exceeds = self._sign[number] * (x - self._limit[number]) > 0
        if doubted.any():
            counted = np.flatnonzero(exceeds | ~doubted[rows])
            rows, number, x, exceeds = rows[counted], number[counted], x[counted], exceeds[counted]
        clear = self._sign[number] * (x - self._clear[number]) <= 0
        changes = self._changes(number, exceeds, clear)
        for one in np.unique(number[changes]).tolist():
            yield one, rows[number == one]

    def _changes(self, number: Ints, exceeds: Bools, clear: Bools) -> Bools:
        phase = self._phase[number]
        counting = (phase == Phase.PENDING) | (phase == Phase.RECOVERING)
        begins = exceeds & (phase == Phase.IDLE)
        ends = (phase == Phase.FIRING) & (clear | (exceeds & self._retrospective[number]))
        return np.asarray(counting | begins | ends)
