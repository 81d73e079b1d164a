"""The interface of every reading store (:class:`ReadingStore`), and the types it answers with."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import sqlalchemy as sa

from sensors.reading import Batch, Codes, Flag, Floats, Ints, Places, unpack


@dataclass(frozen=True, slots=True)
class Window:
    """Stored readings of one station, one row a reading, sorted by (parameter, at).

    ``parameter`` (n,) indices into the catalogue; ``at`` (n,) ms UTC; ``value`` (n,) canonical unit; ``packed`` (n,)
    flag and tests (:func:`sensors.reading.pack`).
    """

    parameter: Codes
    at: Ints
    value: Floats
    packed: Ints

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def empty(cls) -> "Window":
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

    def take(self, rows: Places) -> "Window":
        """These rows only."""
        return Window(self.parameter[rows], self.at[rows], self.value[rows], self.packed[rows])

    def join(self, later: "Window") -> "Window":
        """This window followed by the later one."""
        return Window(
            np.concatenate([self.parameter, later.parameter]),
            np.concatenate([self.at, later.at]),
            np.concatenate([self.value, later.value]),
            np.concatenate([self.packed, later.packed]),
        )

    def merge(self, newer: "Window") -> "Window":
        """Both windows in one, sorted by (parameter, at); where both have a key, the ``newer`` reading."""
        both = self.join(newer)
        order = np.lexsort((np.arange(len(both)), both.at, both.parameter))
        both = both.take(order)
        last = np.ones(len(both), np.bool_)
        last[:-1] = (both.parameter[1:] != both.parameter[:-1]) | (both.at[1:] != both.at[:-1])
        return both.take(np.flatnonzero(last))


@dataclass(frozen=True, slots=True)
class Series:
    """One parameter of one station over a time range, oldest first, all shapes (n,).

    Not thinned: ``value`` is the reading, ``count`` 1, ``low`` and ``high`` equal it. Thinned: a row is a bucket that
    begins at ``at``; ``value`` is the mean, ``low`` and ``high`` the extremes and ``count`` the number of its usable
    readings (flag below 3); NaN where it has none. ``packed`` holds the worst flag and all tests of the bucket.
    """

    at: Ints
    value: Floats
    low: Floats
    high: Floats
    count: Ints
    packed: Ints
    bucket_ms: int | None


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest usable reading of one series; ``newest_at_ms`` is the newest of any flag."""

    station: str
    parameter: str
    at_ms: int | None
    value: float | None
    packed: int
    newest_at_ms: int


class ReadingStore(Protocol):
    """Readings by (station, parameter, observed_at): the same key is the same reading, writing it again overwrites.

    Methods that take a connection take part in its transaction where the store lives in the same database; a store
    elsewhere is durable when they return. All raise StorageUnavailable when the store cannot answer.
    """

    @property
    def recent_store(self) -> "ReadingStore":
        """The part of the store in the database: it has the newest readings of every series and needs no other
        server."""

    def forget(self) -> None:
        """Clear the adapter's caches; called after a failed transaction."""

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        """Store a batch; ``stations`` are the keys that its station column indexes. No (station, parameter, at) occurs
        twice."""

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        """Change flags and tests of stored readings; values stay."""

    def snapshot(self) -> AbstractContextManager[None]:
        """The reads of this thread within it may share one state of the store, which spares a connection for each."""

    def newest(self, station: str) -> Mapping[str, int]:
        """Parameter → its newest observed_at (ms), for all that the station ever sent."""

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        """All readings with start <= observed_at <= end, whatever their flag."""

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        """The newest ``limit`` readings of a series with observed_at < at."""

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        """The newest usable reading of each series, latest by observed_at and not by arrival."""

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        """The oldest ``limit`` readings with start <= observed_at < end, one row a reading (``bucket_ms`` None)."""

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        """Readings with start <= observed_at < end, one row a bucket of ``bucket_ms`` counted from start.

        Thinned by the store; buckets without a reading are left out.
        """

    def count(self, stations: Sequence[str] | None = None) -> Mapping[str, int]:
        """Station → number of stored readings."""


class LongTermStore(Protocol):
    """A store of readings that have left the database; methods as in :class:`ReadingStore`."""

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window: ...

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window: ...

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series: ...

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series: ...

    def count(self, stations: Sequence[str] | None = None, before_ms: int | None = None) -> Mapping[str, int]:
        """Station → number of stored readings, with observed_at < ``before_ms`` where that is given."""


def series(store: ReadingStore, station: str, parameter: str, start_ms: int, end_ms: int, points: int) -> Series:
    """Readings with start <= observed_at < end, thinned by the store when there are more than ``points``.

    Raises ValueError for an empty range or less than one point.
    """
    if points < 1 or end_ms <= start_ms:
        raise ValueError("a series needs start before end and at least one point")
    found = store.raw(station, parameter, start_ms, end_ms, points + 1)
    if len(found.at) <= points:
        return found
    return store.thinned(station, parameter, start_ms, end_ms, -(-(end_ms - start_ms) // points))


def thin(readings: Window, start_ms: int, bucket_ms: int) -> Series:
    """Readings of one parameter as :meth:`ReadingStore.thinned` gives them, buckets counted from start."""
    if not len(readings):
        none, nothing = np.empty(0, np.int64), np.empty(0)
        return Series(none, nothing, nothing, nothing, none, none, bucket_ms)
    bucket = (readings.at - start_ms) // bucket_ms
    first = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    flag, tests = readings.packed & 15, readings.packed >> 4
    usable = flag < Flag.SUSPECT
    count = np.add.reduceat(usable.astype(np.int64), first)
    total = np.add.reduceat(np.where(usable, readings.value, 0.0), first)
    low = np.minimum.reduceat(np.where(usable, readings.value, np.inf), first)
    high = np.maximum.reduceat(np.where(usable, readings.value, -np.inf), first)
    empty = count == 0
    return Series(
        start_ms + bucket[first] * bucket_ms,
        np.where(empty, np.nan, total / np.maximum(count, 1)),
        np.where(empty, np.nan, low),
        np.where(empty, np.nan, high),
        count,
        np.maximum.reduceat(flag, first) | np.bitwise_or.reduceat(tests, first) << 4,
        bucket_ms,
    )


def gaps(
    store: ReadingStore, station: str, parameter: str, start_ms: int, end_ms: int, longer_than_ms: int
) -> list[tuple[int, int]]:
    """(last before, first after) of every pause longer than ``longer_than_ms``, including those at the ends of the
    range."""
    edges = np.concatenate([[start_ms], store.window(station, start_ms, end_ms, [parameter]).at, [end_ms]])
    wide = np.flatnonzero(np.diff(edges) > longer_than_ms)
    return [(int(edges[i]), int(edges[i + 1])) for i in wide]


MAX_GOOD_READINGS = 100
"""The most readings that :func:`good_since` counts."""


def good_since(store: ReadingStore, station: str, parameter: str, since_ms: int, now_ms: int) -> int:
    """The number of usable readings observed since an instant, at most :data:`MAX_GOOD_READINGS`.

    ``parameter`` "" counts those of all parameters; readings later than ``now_ms`` do not count.
    """
    end_ms = now_ms + 1
    if end_ms <= since_ms:
        return 0
    found = 0
    for one in [parameter] if parameter else sorted(store.newest(station)):
        found += int(
            (unpack(store.raw(station, one, since_ms, end_ms, MAX_GOOD_READINGS).packed)[0] < Flag.SUSPECT).sum()
        )
        if found >= MAX_GOOD_READINGS:
            return MAX_GOOD_READINGS
    return found
