"""One rule at many series: which row of its state is whose, and the walk of readings through it."""

from abc import ABC, abstractmethod

import numpy as np

from sensors.reading import Codes, Floats, Ints

Judgement = tuple[int, float, float]
"""(ms when it was due, what the rule compares with its limit, the value it is told with); a trend's are the end of the
bin that was completed, its slope an hour, and that bin's mean."""


class WatchRows:
    """The rows of one rule: a series has at most one, and each belongs to a numbered condition of the engine."""

    def __init__(self) -> None:
        self._row_of: dict[int, int] = {}
        self._rows = np.full(0, -1, np.int64)  # series → row
        self._numbers: list[int] = []

    def bind(self, series: int, number: int) -> None:
        """The rule speaks of this series, as condition ``number``."""
        if series >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.full(2 * series + 64 - len(self._rows), -1, np.int64)])
        self._rows[series] = self._row_of[series] = len(self._numbers)
        self._numbers.append(number)

    def row(self, series: int) -> int | None:
        return self._row_of.get(series)

    def number(self, row: int) -> int:
        return self._numbers[row]

    def _look_up(self, series: Codes) -> Ints:
        """(n,) the row of each series, -1 where there is none."""
        known = series < len(self._rows)
        return np.where(known, self._rows[np.where(known, series, 0)], -1)


class SequentialWatchRows(WatchRows, ABC):
    """Rows whose readings are walked one by one."""

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[Judgement]]]:
        """Take readings in; for each row the judgements they lead to."""
        if not self._numbers:
            return []
        row = self._look_up(series)
        mine = np.flatnonzero(row >= 0)
        found: dict[int, list[Judgement]] = {}
        for one, at_ms, x in zip(row[mine].tolist(), at[mine].tolist(), value[mine].tolist(), strict=True):
            if (judged := self._judge(one, at_ms, x)) is not None:
                found.setdefault(one, []).append(judged)
        return list(found.items())

    def replay(self, row: int, at: Ints, value: Floats) -> list[Judgement]:
        """Start the row anew from these readings; all judgements they lead to."""
        self._restart(row)
        judged = (self._judge(row, at_ms, x) for at_ms, x in zip(at.tolist(), value.tolist(), strict=True))
        return [one for one in judged if one is not None]

    @abstractmethod
    def _judge(self, row: int, at_ms: int, x: float) -> Judgement | None:
        """Take one reading in; the judgement it leads to, if any."""

    @abstractmethod
    def _restart(self, row: int) -> None:
        """The row remembers nothing."""
