"""Base classes of the rules that compare a value derived from readings: rate, trend, daily pattern."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from sensors.reading import Codes, Floats, Ints, grown


class DerivedValue(NamedTuple):
    """A value to compare with a limit.

    ``at_ms`` is when it was complete, ``compared`` what the limit applies to (an hourly rate, a slope, a share),
    ``measured`` the value that is reported with it (the reading, the mean of the last bin, the daily swing).
    """

    at_ms: int
    compared: float
    measured: float


class DerivedEvaluator(ABC):
    """Evaluates one rule at many series: a row of state for each series, and the number of its condition in the
    engine."""

    def __init__(self) -> None:
        self._row_of: dict[int, int] = {}
        self._rows = np.full(0, -1, np.int64)  # series → row
        self._numbers: list[int] = []

    def bind(self, series: int, number: int) -> None:
        """Apply the rule to this series, as condition ``number``."""
        self._rows = grown(self._rows, series + 1, -1)
        self._rows[series] = self._row_of[series] = len(self._numbers)
        self._numbers.append(number)

    def row(self, series: int) -> int | None:
        return self._row_of.get(series)

    def number(self, row: int) -> int:
        return self._numbers[row]

    @abstractmethod
    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[DerivedValue]]]:
        """Take new readings (n,), sorted by (series, at); the derived values of each row that has any."""

    @abstractmethod
    def replay(self, row: int, at: Ints, value: Floats) -> list[DerivedValue]:
        """Restart the row from these readings (n,); all derived values."""

    @abstractmethod
    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        """Take back readings (n,) that turned out to be unusable."""

    def _rows_of(self, series: Codes) -> Ints:
        """(n,) the row of each series, -1 where the rule does not apply."""
        bound = series < len(self._rows)
        return np.where(bound, self._rows[np.where(bound, series, 0)], -1)


class SequentialEvaluator(DerivedEvaluator):
    """A derived evaluator that takes the readings of a row one by one."""

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[DerivedValue]]]:
        if not self._numbers:
            return []
        row = self._rows_of(series)
        bound = np.flatnonzero(row >= 0)
        found: dict[int, list[DerivedValue]] = {}
        for one, at_ms, x in zip(row[bound].tolist(), at[bound].tolist(), value[bound].tolist(), strict=True):
            if (derived := self._take(one, at_ms, x)) is not None:
                found.setdefault(one, []).append(derived)
        return list(found.items())

    def replay(self, row: int, at: Ints, value: Floats) -> list[DerivedValue]:
        self._restart(row)
        found = (self._take(row, at_ms, x) for at_ms, x in zip(at.tolist(), value.tolist(), strict=True))
        return [one for one in found if one is not None]

    @abstractmethod
    def _take(self, row: int, at_ms: int, x: float) -> DerivedValue | None:
        """Take one reading; the derived value that it completes, if any."""

    @abstractmethod
    def _restart(self, row: int) -> None:
        """Clear the state of the row."""
