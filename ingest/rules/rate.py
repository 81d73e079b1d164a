"""How fast a value moves: each reading against one some time before it."""

from collections import deque

from ingest.rules.model import Rate
from ingest.rules.watch import Judgement, SequentialWatchRows
from sensors.reading import Codes, Floats, Ints

MOST_KEPT = 20_000
"""Readings of one series that are remembered, should a device send one every millisecond."""


class RateWatches(SequentialWatchRows):
    """One rate rule at all its series."""

    def __init__(self, rule: Rate) -> None:
        super().__init__()
        self.rule = rule
        self._over_ms = rule.over_s * 1000
        self._kept: list[deque[tuple[int, float]]] = []

    def bind(self, series: int, number: int) -> None:
        super().bind(series, number)
        self._kept.append(deque(maxlen=MOST_KEPT))

    def _judge(self, row: int, at_ms: int, x: float) -> Judgement | None:
        kept = self._kept[row]
        kept.append((at_ms, x))
        while len(kept) > 1 and kept[1][0] <= at_ms - self._over_ms:
            kept.popleft()
        then_ms, then = kept[0]
        if not self._over_ms <= at_ms - then_ms <= 2 * self._over_ms:
            return None
        return at_ms, (x - then) * 3_600_000 / (at_ms - then_ms), x

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        for one, at_ms in zip(series.tolist(), at.tolist(), strict=True):
            if (row := self._row_of.get(one)) is not None:
                kept = self._kept[row]
                if kept and kept[-1][0] == at_ms:
                    kept.pop()

    def _restart(self, row: int) -> None:
        self._kept[row].clear()
