"""Evaluate trend rules (``[[trend]]``): the Theil-Sen slope over bin means, and the Mann-Kendall test.

Sources: Theil (1950), Sen (1968): the median of the slopes between all pairs of points. Mann (1945), Kendall (1975);
Hirsch, Slack and Smith (1982) for seasons: both compare only points of the same season. The test assumes
independent bins; those of water are not, so its level is a filter and not a probability.
"""

import math

import bottleneck as bn
import numpy as np

from infra.times import BEIJING_OFFSET_MS
from ingest.rules.derived_values import DerivedEvaluator, DerivedValue
from ingest.rules.model import DAY_S, TIDE_PERIOD_S, Season, Trend
from sensors.reading import Codes, Floats, Ints, grown


def theil_sen(means: Floats, bin_hours: Floats, seasons: Ints | None = None) -> Floats:
    """Slope of each row.

    Parameters
    ----------
    means : (n, bins) float array
        Mean of each bin, oldest first; NaN where a bin is empty.
    bin_hours : (n,) float array
        Width of a row's bins in hours, > 0.
    seasons : (n, bins) int array, optional
        The season of each bin; only bins of one season are compared.

    Returns
    -------
    (n,) float array
        Unit per hour; NaN where a row has no two filled bins to compare.
    """
    first, second = np.triu_indices(means.shape[1], k=1)
    with np.errstate(invalid="ignore"):
        slopes = (means[:, second] - means[:, first]) / (second - first)
    if seasons is not None:
        slopes = np.where(seasons[:, first] == seasons[:, second], slopes, np.nan)
    return np.asarray(bn.nanmedian(slopes, axis=1) / bin_hours)


def mann_kendall(means: Floats, seasons: Ints | None = None) -> Floats:
    """(n,) two-sided p of each row's trend by the normal approximation, ties counted; 1 where nothing can be compared.

    ``means`` and ``seasons`` as for :func:`theil_sen`.
    """
    n, bins = means.shape
    same = np.ones((n, bins, bins), np.bool_)
    if seasons is not None:
        same = seasons[:, :, None] == seasons[:, None, :]
    filled = ~np.isnan(means)
    same &= filled[:, :, None] & filled[:, None, :]
    with np.errstate(invalid="ignore"):
        later = np.sign(means[:, None, :] - means[:, :, None])  # [row, earlier, later]
    score = np.where(same, later, 0.0)[:, *np.triu_indices(bins, k=1)].sum(axis=1)
    size = same.sum(axis=2)
    equal = (same & (later == 0)).sum(axis=2)
    variance = (_spread(size) - _spread(equal)).sum(axis=1) / 18
    z = np.where(variance > 0, (np.abs(score) - 1) / np.sqrt(np.maximum(variance, 1e-12)), 0.0)
    return np.array([math.erfc(max(one, 0.0) / math.sqrt(2)) for one in z.tolist()])


def _spread(size: Ints) -> Floats:
    """k (k - 1)(2 k + 5) of each group of k, shared by its members."""
    return (size - 1.0) * (2.0 * size + 5.0) * (size > 0)


class TimeBins:
    """The last bins of many rows: sums and counts of usable values by event time, as ring buffers."""

    def __init__(self, width_ms: int, bins: int) -> None:
        self.width_ms = width_ms
        self.bins = bins
        self.head = np.full(0, -1, np.int64)  # number of the newest bin (at // width), -1 for none
        self.sum = np.zeros((0, bins))
        self.count = np.zeros((0, bins), np.int64)

    def grow(self, size: int) -> None:
        self.head, self.sum, self.count = grown(self.head, size, -1), grown(self.sum, size), grown(self.count, size)

    def clear(self, row: int) -> None:
        self.head[row] = -1
        self.sum[row] = 0
        self.count[row] = 0

    def means(self, row: int) -> Floats:
        """(bins,) means, oldest first, NaN for empty bins."""
        order = (self.head[row] + 1 + np.arange(self.bins)) % self.bins
        count = self.count[row, order]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(count > 0, self.sum[row, order] / count, np.nan))

    def advance(self, row: int, number: int) -> None:
        """Make ``number`` the newest bin; the bins in between are empty."""
        head = int(self.head[row])
        if head < 0 or number - head >= self.bins:
            self.sum[row] = 0
            self.count[row] = 0
        else:
            fresh = np.arange(head + 1, number + 1) % self.bins
            self.sum[row, fresh] = 0
            self.count[row, fresh] = 0
        self.head[row] = number


class TrendEvaluator(DerivedEvaluator):
    """One trend rule at all its series."""

    def __init__(self, rule: Trend) -> None:
        super().__init__()
        self.rule = rule
        self._bins = TimeBins(rule.window_s * 1000 // rule.bins, rule.bins)

    def bind(self, series: int, number: int) -> None:
        super().bind(series, number)
        self._bins.grow(len(self._numbers))

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[DerivedValue]]]:
        if not len(self._numbers):
            return []
        row = self._rows_of(series)
        bound = np.flatnonzero(row >= 0)
        if not len(bound):
            return []
        row, number, x = row[bound], at[bound] // self._bins.width_ms, value[bound]
        same = self._bins.head[row] == number
        if not same.all():
            crossing = np.unique(row[~same])
            staying = ~np.isin(row, crossing)
        else:
            crossing, staying = np.empty(0, np.int64), same
        self._add_to_bins(row[staying], number[staying], x[staying])
        judged: list[tuple[int, int, Floats]] = []
        for one in crossing.tolist():
            here = row == one
            judged += self._cross(one, number[here], x[here])
        return self._slopes(judged)

    def _add_to_bins(self, row: Ints, number: Ints, value: Floats) -> None:
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

    def _slopes(self, judged: list[tuple[int, int, Floats]]) -> list[tuple[int, list[DerivedValue]]]:
        judged = [j for j in judged if (~np.isnan(j[2])).sum() >= self.rule.min_bins]
        if not judged:
            return []
        hours = np.full(len(judged), self._bins.width_ms / 3_600_000)
        stacked, seasons = np.stack([means for _, _, means in judged]), self._seasons([at for _, at, _ in judged])
        slopes = theil_sen(stacked, hours, seasons)
        slopes[np.isnan(slopes)] = 0.0  # enough bins, but no two of one season
        if self.rule.significance < 1:
            slopes = np.where(mann_kendall(stacked, seasons) <= self.rule.significance, slopes, 0.0)
        found: dict[int, list[DerivedValue]] = {}
        for (row, at, means), slope in zip(judged, slopes.tolist(), strict=True):
            found.setdefault(row, []).append(DerivedValue(at, slope, float(means[~np.isnan(means)][-1])))
        return list(found.items())

    def _seasons(self, ends: list[int]) -> Ints | None:
        """(n, bins) the season of each bin of the windows that end at these instants (ms); None without seasons."""
        if self.rule.season is Season.NONE:
            return None
        width = self._bins.width_ms
        begins = np.array(ends, np.int64)[:, None] - width * np.arange(self._bins.bins, 0, -1)
        if self.rule.season is Season.DAY:
            period, begins = 1000 * DAY_S, begins + BEIJING_OFFSET_MS
        else:
            period = 1000 * TIDE_PERIOD_S
        many = max(1, round(period / width))
        return np.asarray(begins % period * many // period)

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        row = self._rows_of(series) if len(self._numbers) else np.full(len(series), -1)
        number = at // self._bins.width_ms
        bound = np.flatnonzero(row >= 0)
        bound = bound[self._bins.head[row[bound]] - number[bound] < self._bins.bins]
        slot = number[bound] % self._bins.bins
        np.add.at(self._bins.sum, (row[bound], slot), -value[bound])
        np.add.at(self._bins.count, (row[bound], slot), -1)

    def replay(self, row: int, at: Ints, value: Floats) -> list[DerivedValue]:
        self._bins.clear(row)
        if not len(at):
            return []
        judged = self._slopes(self._cross(row, at // self._bins.width_ms, value))
        return judged[0][1] if judged else []
