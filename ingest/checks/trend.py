"""Robust slopes: the Theil-Sen estimate over the means of equal bins of event time.

Source: Theil (1950), Sen (1968): the median of the slopes between all pairs of points.
"""

import numpy as np

from ingest.checks.rules import Trend
from sensors.quality.tests import nanmedian
from sensors.reading import Codes, Floats, Ints

Judgement = tuple[int, float, float]
"""(ms of the end of the bin that was completed, slope an hour, mean of that bin)."""


def theil_sen(means: Floats, bin_hours: Floats) -> Floats:
    """Slope of each row.

    Parameters
    ----------
    means : (n, bins) float array
        Mean of each bin, oldest first; NaN where a bin is empty.
    bin_hours : (n,) float array
        Width of a row's bins in hours, > 0.

    Returns
    -------
    (n,) float array
        Unit per hour; NaN where a row has fewer than two filled bins.
    """
    first, second = np.triu_indices(means.shape[1], k=1)
    with np.errstate(invalid="ignore"):
        slopes = (means[:, second] - means[:, first]) / (second - first)
    return np.asarray(nanmedian(slopes) / bin_hours)


class Bins:
    """The last bins of many watches, as columns: sums and counts of usable values by event time."""

    def __init__(self, width_ms: int, bins: int) -> None:
        self.width_ms = width_ms
        self.bins = bins
        self.head = np.full(0, -1, np.int64)  # number of the newest bin (at // width), -1 for none
        self.sum = np.zeros((0, bins))
        self.count = np.zeros((0, bins), np.int64)

    def grow(self, size: int) -> None:
        more = size - len(self.head)
        if more > 0:
            self.head = np.concatenate([self.head, np.full(more, -1, np.int64)])
            self.sum = np.concatenate([self.sum, np.zeros((more, self.bins))])
            self.count = np.concatenate([self.count, np.zeros((more, self.bins), np.int64)])

    def forget(self, watch: int) -> None:
        self.head[watch] = -1
        self.sum[watch] = 0
        self.count[watch] = 0

    def means(self, watch: int) -> Floats:
        """(bins,) means, oldest first, NaN for empty bins."""
        order = (self.head[watch] + 1 + np.arange(self.bins)) % self.bins
        count = self.count[watch, order]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(count > 0, self.sum[watch, order] / count, np.nan))

    def advance(self, watch: int, number: int) -> None:
        """Make ``number`` the newest bin; the bins in between are empty."""
        head = int(self.head[watch])
        if head < 0 or number - head >= self.bins:
            self.sum[watch] = 0
            self.count[watch] = 0
        else:
            fresh = np.arange(head + 1, number + 1) % self.bins
            self.sum[watch, fresh] = 0
            self.count[watch, fresh] = 0
        self.head[watch] = number


class TrendWatches:
    """One trend rule at all its series."""

    def __init__(self, rule: Trend) -> None:
        self.rule = rule
        self._bins = Bins(rule.window_s * 1000 // rule.bins, rule.bins)
        self._row_of: dict[int, int] = {}
        self._rows = np.full(0, -1, np.int64)  # series → row
        self._numbers: list[int] = []

    def bind(self, series: int, number: int) -> None:
        row = len(self._numbers)
        self._numbers.append(number)
        self._row_of[series] = row
        if series >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.full(2 * series + 64 - len(self._rows), -1, np.int64)])
        self._rows[series] = row
        self._bins.grow(row + 1)

    def row(self, series: int) -> int | None:
        return self._row_of.get(series)

    def number(self, row: int) -> int:
        return self._numbers[row]

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[Judgement]]]:
        """Take readings in; for each row with completed bins, the judgements they lead to."""
        if not len(self._numbers):
            return []
        row = self._look_up(series)
        mine = np.flatnonzero(row >= 0)
        if not len(mine):
            return []
        row, number, x = row[mine], at[mine] // self._bins.width_ms, value[mine]
        same = self._bins.head[row] == number
        if not same.all():
            crossing = np.unique(row[~same])
            staying = ~np.isin(row, crossing)
        else:
            crossing, staying = np.empty(0, np.int64), same
        self._put(row[staying], number[staying], x[staying])
        judged: list[tuple[int, int, Floats]] = []
        for one in crossing.tolist():
            here = row == one
            judged += self._cross(one, number[here], x[here])
        return self._slopes(judged)

    def _look_up(self, series: Codes) -> Ints:
        known = series < len(self._rows)
        return np.where(known, self._rows[np.where(known, series, 0)], -1)

    def _put(self, row: Ints, number: Ints, value: Floats) -> None:
        slot = number % self._bins.bins
        np.add.at(self._bins.sum, (row, slot), value)
        np.add.at(self._bins.count, (row, slot), 1)

    def _cross(self, row: int, number: Ints, value: Floats) -> list[tuple[int, int, Floats]]:
        """Readings of one row that open new bins; returns (row, ms of the end, means) of each bin completed."""
        completed = []
        edges = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
        for start, end in zip(edges.tolist(), [*edges[1:].tolist(), len(number)], strict=True):
            opened, head = int(number[start]), int(self._bins.head[row])
            if opened > head:
                if head >= 0:
                    completed.append((row, (head + 1) * self._bins.width_ms, self._bins.means(row)))
                self._bins.advance(row, opened)
            elif head - opened >= self._bins.bins:
                continue
            slot = opened % self._bins.bins
            self._bins.sum[row, slot] += value[start:end].sum()
            self._bins.count[row, slot] += end - start
        return completed

    def _slopes(self, judged: list[tuple[int, int, Floats]]) -> list[tuple[int, list[Judgement]]]:
        judged = [j for j in judged if (~np.isnan(j[2])).sum() >= self.rule.min_bins]
        if not judged:
            return []
        hours = np.full(len(judged), self._bins.width_ms / 3_600_000)
        slopes = theil_sen(np.stack([means for _, _, means in judged]), hours)
        found: dict[int, list[Judgement]] = {}
        for (row, at, means), slope in zip(judged, slopes.tolist(), strict=True):
            found.setdefault(row, []).append((at, slope, float(means[~np.isnan(means)][-1])))
        return list(found.items())

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        row = self._look_up(series) if len(self._numbers) else np.full(len(series), -1)
        number = at // self._bins.width_ms
        kept = np.flatnonzero(row >= 0)
        kept = kept[self._bins.head[row[kept]] - number[kept] < self._bins.bins]
        slot = number[kept] % self._bins.bins
        np.add.at(self._bins.sum, (row[kept], slot), -value[kept])
        np.add.at(self._bins.count, (row[kept], slot), -1)

    def replay(self, row: int, at: Ints, value: Floats) -> list[Judgement]:
        """Start the row anew from these readings; all judgements they lead to."""
        self._bins.forget(row)
        if not len(at):
            return []
        judged = self._slopes(self._cross(row, at // self._bins.width_ms, value))
        return judged[0][1] if judged else []
