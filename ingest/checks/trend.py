"""Robust slopes: the Theil-Sen estimate over the means of equal bins of event time.

Source: Theil (1950), Sen (1968): the median of the slopes between all pairs of points.
"""

import numpy as np

from sensors.quality.tests import nanmedian
from sensors.reading import Floats


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
