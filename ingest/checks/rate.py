"""How fast a value moves: each reading against one some time before it."""

from collections import deque

import numpy as np

from ingest.checks.rules import Rate
from ingest.checks.trend import Judgement
from sensors.reading import Codes, Floats, Ints

MOST_KEPT = 20_000
"""Readings of one series that are remembered, should a device send one every millisecond."""


class RateWatches:
    """One rate rule at all its series."""

    def __init__(self, rule: Rate) -> None:
        self.rule = rule
        self._over_ms = rule.over_s * 1000
        self._kept: list[deque[tuple[int, float]]] = []
        self._row_of: dict[int, int] = {}
        self._rows = np.full(0, -1, np.int64)  # series → row
        self._numbers: list[int] = []

    def bind(self, series: int, number: int) -> None:
        if series >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.full(2 * series + 64 - len(self._rows), -1, np.int64)])
        self._rows[series] = self._row_of[series] = len(self._numbers)
        self._numbers.append(number)
        self._kept.append(deque(maxlen=MOST_KEPT))

    def row(self, series: int) -> int | None:
        return self._row_of.get(series)

    def number(self, row: int) -> int:
        return self._numbers[row]

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[Judgement]]]:
        """Take readings in; for each row the judgements they lead to."""
        if not self._numbers:
            return []
        known = series < len(self._rows)
        row = np.where(known, self._rows[np.where(known, series, 0)], -1)
        mine = np.flatnonzero(row >= 0)
        found: dict[int, list[Judgement]] = {}
        for one, at_ms, x in zip(row[mine].tolist(), at[mine].tolist(), value[mine].tolist(), strict=True):
            if (judged := self._judge(one, at_ms, x)) is not None:
                found.setdefault(one, []).append(judged)
        return list(found.items())

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

    def replay(self, row: int, at: Ints, value: Floats) -> list[Judgement]:
        """Start the row anew from these readings; all judgements they lead to."""
        self._kept[row].clear()
        judged = (self._judge(row, at_ms, x) for at_ms, x in zip(at.tolist(), value.tolist(), strict=True))
        return [one for one in judged if one is not None]
