"""Evaluate rate rules (``[[rate]]``): the change per hour of each reading against an earlier one."""

from collections import deque

from ingest.rules.derived_values import DerivedValue, SequentialEvaluator
from ingest.rules.model import Rate
from sensors.reading import Codes, Floats, Ints

MAX_READINGS = 20_000
"""Readings kept of one series: a bound on memory for a device that sends one every millisecond."""


class RateEvaluator(SequentialEvaluator):
    """One rate rule at all its series."""

    def __init__(self, rule: Rate) -> None:
        super().__init__()
        self.rule = rule
        self._over_ms = rule.over_s * 1000
        self._window: list[deque[tuple[int, float]]] = []

    def bind(self, series: int, number: int) -> None:
        super().bind(series, number)
        self._window.append(deque(maxlen=MAX_READINGS))

    def _take(self, row: int, at_ms: int, x: float) -> DerivedValue | None:
        window = self._window[row]
        window.append((at_ms, x))
        while len(window) > 1 and window[1][0] <= at_ms - self._over_ms:
            window.popleft()
        then_ms, then = window[0]
        if not self._over_ms <= at_ms - then_ms <= 2 * self._over_ms:
            return None
        return DerivedValue(at_ms, (x - then) * 3_600_000 / (at_ms - then_ms), x)

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        for one, at_ms in zip(series.tolist(), at.tolist(), strict=True):
            if (row := self._row_of.get(one)) is not None:
                window = self._window[row]
                if window and window[-1][0] == at_ms:
                    window.pop()

    def _restart(self, row: int) -> None:
        self._window[row].clear()
