"""Evaluate daily-pattern rules (``[[daily_pattern]]``): the swing between day and night against its own past.

A swing that is gone means that photosynthesis stopped, or that the sensor no longer follows the water.
"""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from infra.times import BEIJING_OFFSET_MS, DAY_MS, HOUR_MS
from ingest.rules.derived_values import DerivedValue, SequentialEvaluator
from ingest.rules.model import DailyPattern
from sensors.reading import Codes, Floats, Ints

_EXTREME_HOURS = 3
"""Hours averaged at either end, so that a single hour does not decide."""


@dataclass(slots=True)
class _Days:
    """The current Beijing day by hours, and the swings of the earlier days that had their pattern."""

    past: deque[float]
    day: int = -1
    sums: list[float] = field(default_factory=lambda: [0.0] * 24)
    counts: list[int] = field(default_factory=lambda: [0] * 24)

    def begin(self, day: int) -> None:
        self.day, self.sums, self.counts = day, [0.0] * 24, [0] * 24


class DailyPatternEvaluator(SequentialEvaluator):
    """One rule about the daily pattern at all its series."""

    def __init__(self, rule: DailyPattern) -> None:
        super().__init__()
        self.rule = rule
        self._days: list[_Days] = []

    def bind(self, series: int, number: int) -> None:
        super().bind(series, number)
        self._days.append(_Days(deque(maxlen=self.rule.past_days)))

    def _take(self, row: int, at_ms: int, x: float) -> DerivedValue | None:
        days = self._days[row]
        day, of_day = divmod(at_ms + BEIJING_OFFSET_MS, DAY_MS)
        derived = None
        if day > days.day:
            derived = self._completed(days) if days.day >= 0 else None
            days.begin(day)
        if day == days.day:
            hour = of_day // HOUR_MS
            days.sums[hour] += x
            days.counts[hour] += 1
        return derived

    def _completed(self, days: _Days) -> DerivedValue | None:
        """The swing of the completed day as a share of the usual one; a day below the limit does not count as usual."""
        rule = self.rule
        means = sorted(s / n for s, n in zip(days.sums, days.counts, strict=True) if n)
        if len(means) < rule.min_hours:
            return None
        swing = (sum(means[-_EXTREME_HOURS:]) - sum(means[:_EXTREME_HOURS])) / _EXTREME_HOURS
        usual = median(days.past) if 2 * len(days.past) >= rule.past_days else None
        share = None if usual is None or usual < rule.least or usual <= 0 else swing / usual
        if share is None or share >= rule.share:
            days.past.append(swing)
        if share is None:
            return None
        return DerivedValue((days.day + 1) * DAY_MS - BEIJING_OFFSET_MS, share, swing)

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        for one, at_ms, x in zip(series.tolist(), at.tolist(), value.tolist(), strict=True):
            row = self._row_of.get(one)
            day, of_day = divmod(at_ms + BEIJING_OFFSET_MS, DAY_MS)
            if row is not None and self._days[row].day == day:
                self._days[row].sums[of_day // HOUR_MS] -= x
                self._days[row].counts[of_day // HOUR_MS] -= 1

    def _restart(self, row: int) -> None:
        self._days[row] = _Days(deque(maxlen=self.rule.past_days))
