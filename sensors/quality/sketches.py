"""The histograms of all series, of which only the filled pieces are kept. Pure.

Most statistics of a series fill a few neighbouring bins of :data:`~sensors.quality.histograms.BINS`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensors.quality.histograms import BINS
from sensors.reading import Codes, Ints, grown

PIECE: Final = 8
"""Bins of a piece, two octaves; a smaller one has more places to note, a larger one more empty bins."""


class Sketches:
    """Counts (series, ``statistics``, BINS), read and written by series like an array of that shape."""

    dtype: Final = np.dtype(np.int32)

    def __init__(self, statistics: int) -> None:
        self._statistics = statistics
        self._place = np.zeros((0, statistics * BINS // PIECE), np.int32)  # of each piece in _pieces; 0: empty
        self._pieces = np.zeros((1, PIECE), np.int32)  # the first stays empty
        self._used = 1
        self._free = np.empty(0, np.int32)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self._place), self._statistics, BINS

    @property
    def nbytes(self) -> int:
        """Memory in use, with the room to grow."""
        return self._place.nbytes + self._pieces.nbytes + self._free.nbytes

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, series: Any) -> Codes:
        """The counts of a series (statistics, BINS), or of several (r, statistics, BINS), as a copy."""
        place = self._place[series]
        return np.asarray(self._pieces[place].reshape(*place.shape[:-1], *self.shape[1:]))

    def __setitem__(self, series: Any, counts: Codes | float) -> None:
        """Replace the counts of a series, or of several, each once."""
        rows = np.arange(len(self))[series] if isinstance(series, slice) else np.atleast_1d(series)
        wanted = np.broadcast_to(np.asarray(counts, np.int32), (len(rows), *self.shape[1:]))
        pieces = wanted.reshape(len(rows), self._place.shape[1], PIECE)
        filled, place = pieces.any(axis=2), self._place[rows]
        gone = place[~filled & (place > 0)]
        self._pieces[gone] = 0
        place[~filled] = 0
        self._free = np.concatenate([self._free, gone])
        new = filled & (place == 0)
        place[new] = self._new_places(int(new.sum()))
        self._pieces[place[filled]] = pieces[filled]
        self._place[rows] = place

    def grow(self, size: int) -> None:
        """Make room for ``size`` series; nothing is counted of new ones."""
        self._place = grown(self._place, size)

    def add(self, place: Ints, weight: Codes, *, distinct: bool) -> None:
        """Add to flat places of (series, statistics, BINS); ``distinct`` where none occurs twice."""
        piece, whose = place // PIECE, self._place.reshape(-1)
        found = whose[piece]
        missing = piece[found == 0]
        if len(missing):
            missing = np.unique(missing)
            whose[missing] = self._new_places(len(missing))
            found = whose[piece]
        flat = found.astype(np.int64) * PIECE + place % PIECE
        counts = self._pieces.reshape(-1)
        if distinct:
            counts[flat] += weight
        else:
            np.add.at(counts, flat, weight)

    def _new_places(self, count: int) -> NDArray[np.int32]:
        """Places of empty pieces: those that are free, then further ones."""
        again, self._free = self._free[:count], self._free[count:]
        more = np.arange(self._used, self._used + count - len(again), dtype=np.int32)
        self._used += len(more)
        self._pieces = grown(self._pieces, self._used)
        return np.concatenate([again, more])
