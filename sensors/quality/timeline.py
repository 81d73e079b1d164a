"""The recent readings of all series of a batch on one flat axis, on which the detectors compare neighbours."""

from functools import cached_property
from typing import Final, TypeVar

import bottleneck as bn
import numpy as np
from numpy.typing import NDArray

from infra.times import TIME_BITS
from sensors.parameters import Catalogue
from sensors.quality.state import REMEMBERED_READINGS, SeriesState
from sensors.reading import Bools, Codes, Flag, Floats, Ints, Places, QualityTest, pieces

_Kind = TypeVar("_Kind", bound=np.generic)

MAX_SHARED_WINDOW: Final = 24
"""Readings of the longest window whose moving median is computed for the whole axis at once."""


class Timeline:
    """Readings of all touched series, one series after the other: KEEP remembered ones, then its new ones.

    Columns of the axis are ``value``, ``at`` (ms), ``packed``, ``mark`` and ``move``; a *place* is an index into them.

    Attributes
    ----------
    touched : (m,) series with new readings
    new : (n,) places of the new readings
    parameter : (n,) parameter of each new reading
    segment : (n,) series of each new reading, as an index into ``touched``
    starts, ends : (m,) first and last new reading of each series, as indices into ``new``
    origin : (m,) place of the first remembered reading of each series
    last : (m,) place of the last reading of each series
    """

    def __init__(
        self, series: Codes, at: Ints, value: Floats, parameter: Codes, memory: SeriesState, catalogue: Catalogue
    ) -> None:
        self.memory, self.catalogue, self.parameter = memory, catalogue, parameter
        self.starts = np.flatnonzero(np.diff(series, prepend=-1))
        self.touched = series[self.starts]
        m = len(self.touched)
        lengths = np.diff(np.append(self.starts, len(series)))
        self.segment = np.repeat(np.arange(m), lengths)
        self.new = np.arange(len(series)) + (self.segment + 1) * REMEMBERED_READINGS
        self.origin = self.starts + np.arange(m) * REMEMBERED_READINGS
        size = len(series) + m * REMEMBERED_READINGS
        remembered = np.ones(size, np.bool_)
        remembered[self.new] = False
        self.value, self.at = np.empty(size), np.empty(size, np.int64)
        self.packed, self.mark, self.move = (
            np.empty(size, np.int64),
            np.zeros(size, np.uint8),
            np.zeros(size, np.float32),
        )
        for name in ("value", "at", "packed", "mark", "move"):
            getattr(self, name)[remembered] = getattr(memory, name).take(self.touched, axis=0).ravel()
        # one zero: -0.0 is the lower of two in some orders only
        self.value[self.new], self.at[self.new] = value + 0.0, at
        self._dense = 3 * len(series) > size
        self._medians: dict[int, Floats] = {}
        self.ends = np.append(self.starts[1:] - 1, len(series) - 1) if m else np.empty(0, np.intp)
        self.last = self.new[self.ends]

    @cached_property
    def station(self) -> Codes:
        """(m,) station of each touched series."""
        return self.memory.station[self.touched]

    @cached_property
    def kind_of(self) -> Ints:
        """(parameters,) a number for each kind of sensor; parameters that tell the same of the water share one."""
        names = [parameter.event or parameter.key for parameter in self.catalogue.parameters]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] for name in names], np.int64)

    @cached_property
    def kind(self) -> Ints:
        """(m,) kind of sensor of each touched series."""
        return self.kind_of[self.memory.parameter[self.touched]]

    def is_parameter(self, *keys: str) -> Bools:
        """(n,) whether each new reading is of one of these parameters."""
        wanted = np.zeros(len(self.catalogue.parameters), np.bool_)
        wanted[[self.catalogue.index[key] for key in keys if key in self.catalogue.index]] = True
        return np.asarray(wanted[self.parameter])

    def lag(self, k: int) -> Floats:
        """(n,) the value ``k`` readings before each new one; NaN where there is none."""
        return np.asarray(self.value[self.new - k])

    def window(self, rows: Places, first: int, last: int = 0) -> Places:
        """(r, k) places from ``first`` to ``last`` relative to new readings ``rows``; both ends belong to it."""
        return np.asarray(self.new[rows][:, None] + np.arange(first, last + 1))

    def median_before(self, place: Places, window: int) -> Floats:
        """(r,) the median of the ``window`` readings before each place; NaN where there are fewer."""
        if not self._dense or window > MAX_SHARED_WINDOW:
            return np.asarray(bn.median(pieces(self.value, place - window, window), axis=1))
        if window not in self._medians:
            self._medians[window] = bn.move_median(self.value, window)
        return np.asarray(self._medians[window][place - 1])

    def newest(self, column: NDArray[_Kind]) -> NDArray[_Kind]:
        """(m, KEEP) the last cells of each series in a column of the axis."""
        return pieces(column, self.last + 1 - REMEMBERED_READINGS, REMEMBERED_READINGS)

    def series_of(self, places: Places) -> Places:
        """(k,) the series of places, as indices into ``touched``."""
        return np.searchsorted(self.origin, places, side="right") - 1

    def are_new(self, places: Places) -> Bools:
        """(k,) which places hold new readings rather than remembered ones."""
        if not len(self.new):
            return np.zeros(len(places), np.bool_)
        found = np.searchsorted(self.new, places)
        return np.asarray(self.new[np.minimum(found, len(self.new) - 1)] == places)

    def flag_suspect(self, places: Places, test: QualityTest) -> Places:
        """Flag readings at least suspect because of ``test``, in place; return those that were not flagged by it."""
        packed = self.packed
        changed = np.asarray(places[((packed[places] >> 4) & int(test)) == 0])
        packed[changed] = np.maximum(packed[changed] & 15, int(Flag.SUSPECT)) | (
            ((packed[changed] >> 4) | int(test)) << 4
        )
        return changed

    def marks_of_other_kinds(self, mark: int, rows: Places, reach: int) -> Ints:
        """Count readings with a mark at other kinds of sensor of the station.

        Parameters
        ----------
        mark : int
            A mark of :mod:`sensors.quality.state` (``BUSY``, ``NOISY``, ``BACK``).
        rows : (r,) new readings
        reach : int
            The time of so many readings, up to and with each of ``rows``, is looked at.

        Returns
        -------
        (r,) counts
        """
        if not len(rows):
            return np.zeros(0, np.int64)
        memory, station, kind = self.memory, self.station, self.kind
        concerned = np.unique(station[self.segment[rows]])
        silent = np.flatnonzero(np.isin(memory.station, concerned))
        silent = silent[~np.isin(silent, self.touched) & (memory.day[silent] >= 0)]
        place = np.flatnonzero(self.mark & mark)
        owner = self.series_of(place)
        old_row, old_col = np.nonzero(memory.mark[silent] & mark)
        marked_at = np.concatenate([self.at[place], memory.at[silent[old_row], old_col]])
        marked_station = np.concatenate([station[owner], memory.station[silent[old_row]]]).astype(np.int64)
        marked_kind = np.concatenate([kind[owner], self.kind_of[memory.parameter[silent[old_row]]]])
        here = self.new[rows]
        begin, end = self.at[here - (reach - 1)], self.at[here]
        own_station, own_kind = station[self.segment[rows]].astype(np.int64), kind[self.segment[rows]]
        total = _count_within(marked_station, marked_at, own_station, begin, end)
        by_kind, own = marked_station * 256 + marked_kind, own_station * 256 + own_kind
        return np.asarray(total - _count_within(by_kind, marked_at, own, begin, end))


def _count_within(group: Ints, at: Ints, wanted: Ints, begin: Ints, end: Ints) -> Ints:
    """(r,) how many instants of the wanted group lie in each closed interval."""
    key = np.sort((group << TIME_BITS) | at)
    return np.asarray(
        np.searchsorted(key, (wanted << TIME_BITS) | end, side="right")
        - np.searchsorted(key, (wanted << TIME_BITS) | begin)
    )
