"""One store over the database (recent readings) and a long-term store (older readings).

A write goes to the database and, in the same transaction, to the spool of the time-series server. Readings before the
*edge* have left the database for the long-term store. The database may still hold some of them: the newest readings of
a silent series, and late data that came after the edge moved. Where both have a reading, that of the database counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import sqlalchemy as sa

from infra.errors import LongTermUnavailable, StorageUnavailable
from infra.texts import say
from infra.times import rfc3339
from ingest.storage.port import Latest, LongTermStore, ReadingStore, Series, Window
from ingest.storage.spool import Spool, SpoolKind
from sensors.parameters import Catalogue
from sensors.reading import Batch, Ints, pack, unpack

NO_LIMIT = 2**31 - 1
"""More readings than a window ever holds."""


class TieredReadings:
    """A :class:`~ingest.storage.port.ReadingStore` over the database and, behind it, what is older.

    Raises LongTermUnavailable where the long-term store does not answer.

    The edge moves before readings are deleted. The database is therefore read before the edge: readings that leave in
    between are found in the long-term store, and duplicates are merged by their key.

    Parameters
    ----------
    recent : ReadingStore
        The store in the database.
    older : the long-term store, or None
        The long-term store; None where nothing leaves the database.
    edge_ms : callable
        The edge (ms UTC), called anew each time; ``older`` is not used while it is 0.
    spool : Spool or None
        Queue of the time-series server.
    """

    def __init__(
        self,
        recent: ReadingStore,
        catalogue: Catalogue,
        *,
        older: LongTermStore | None = None,
        boundary_ms: Callable[[], int] = lambda: 0,
        spool: Spool | None = None,
    ) -> None:
        self._recent = recent
        self._catalogue = catalogue
        self._older = older
        self._boundary_ms = boundary_ms
        self._spool = spool

    @property
    def recent_store(self) -> ReadingStore:
        return self._recent

    def forget(self) -> None:
        self._recent.forget()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        self._recent.write(connection, stations, batch, packed)
        if self._spool is not None:
            self._spool.add(connection, SpoolKind.READINGS, stations, batch, packed)

    def reflag(self, connection: sa.Connection, stations: Sequence[str], batch: Batch, packed: Ints) -> None:
        if not len(batch):
            return
        older = np.flatnonzero(batch.at < self._boundary_ms()) if self._older is not None else np.empty(0, np.intp)
        if len(older):
            # a reading that has left the database is written again with its new flag, and moved out again
            self._recent.write(connection, stations, self._with_values(stations, batch.take(older)), packed[older])
        self._recent.reflag(connection, stations, batch, packed)
        if self._spool is not None:
            self._spool.add(connection, SpoolKind.VERDICTS, stations, batch, packed)

    def _with_values(self, stations: Sequence[str], batch: Batch) -> Batch:
        """The batch with its stored values; readings that are not stored are left out."""
        values = []
        for row in range(len(batch)):
            station, key = stations[batch.station[row]], self._catalogue.parameters[batch.parameter[row]].key
            at = int(batch.at[row])
            found = self.window(station, at, at, [key])
            values.append(float(found.value[0]) if len(found) else np.nan)
        stored = np.array(values)
        present = np.flatnonzero(~np.isnan(stored))
        return Batch(
            batch.station[present],
            batch.parameter[present],
            batch.at[present],
            stored[present],
            batch.status[present],
            batch.message[present],
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[None]:
        return self._recent.snapshot()

    def newest(self, station: str) -> Mapping[str, int]:
        return self._recent.newest(station)  # the newest of a series never leaves the database

    def latest(self, stations: Sequence[str] | None = None) -> list[Latest]:
        return self._recent.latest(stations)

    def window(self, station: str, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        recent = self._recent.window(station, start_ms, end_ms, parameters)
        edge = self._boundary_ms()
        if self._older is None or start_ms >= edge:
            return recent
        with _older_than(edge):
            older = self._older.window(station, start_ms, min(end_ms, edge - 1), parameters)
        return older.merge(recent)

    def before(self, station: str, parameter: str, at_ms: int, limit: int) -> Window:
        recent = self._recent.before(station, parameter, at_ms, limit)
        edge = self._boundary_ms()
        if self._older is None or edge <= 0 or int((recent.at >= edge).sum()) >= limit:
            return recent
        with _older_than(edge):
            older = self._older.before(station, parameter, min(at_ms, edge), limit)
        joined = older.merge(recent)
        return joined.take(np.arange(max(0, len(joined) - limit), len(joined)))

    def raw(self, station: str, parameter: str, start_ms: int, end_ms: int, limit: int) -> Series:
        recent = self._recent.raw(station, parameter, start_ms, end_ms, limit)
        edge = self._boundary_ms()
        if self._older is None or start_ms >= edge:
            return recent
        with _older_than(edge):
            older = self._older.raw(station, parameter, start_ms, min(end_ms, edge), limit)
        at, rows = _newest_wins(older.at, recent.at)
        value = np.concatenate([older.value, recent.value])[rows][:limit]
        packed = np.concatenate([older.packed, recent.packed])[rows][:limit]
        return Series(at[:limit], value, value, value, np.ones(len(value), np.int64), packed, None)

    def thinned(self, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int) -> Series:
        edge = self._boundary_ms()
        if self._older is None or start_ms >= edge:
            found = self._recent.thinned(station, parameter, start_ms, end_ms, bucket_ms)
        else:
            found = self._thinned_across_edge(edge, self._older, station, parameter, start_ms, end_ms, bucket_ms)
        if self._boundary_ms() == edge:
            return found
        return self.thinned(station, parameter, start_ms, end_ms, bucket_ms)  # readings left the database meanwhile

    def _thinned_across_edge(
        self, edge: int, older: LongTermStore, station: str, parameter: str, start_ms: int, end_ms: int, bucket_ms: int
    ) -> Series:
        split = start_ms + (min(edge, end_ms) - start_ms) // bucket_ms * bucket_ms
        # buckets with readings in both stores: that of the edge, and those where the database kept older readings
        recent = self._recent.raw(station, parameter, start_ms, min(edge, end_ms), NO_LIMIT).at
        shared = np.unique((recent - start_ms) // bucket_ms * bucket_ms + start_ms)
        if split < edge:
            shared = np.union1d(shared, [split])
        with _older_than(edge):
            parts = [older.thinned(station, parameter, start_ms, split, bucket_ms)] if split > start_ms else []
        after = split + bucket_ms if split < edge else split
        if after < end_ms:
            parts.append(self._recent.thinned(station, parameter, after, end_ms, bucket_ms))
        parts = [_without(part, shared) for part in parts]
        for at in shared.tolist():
            whole = self.raw(station, parameter, at, min(at + bucket_ms, end_ms), NO_LIMIT)
            if len(whole.at):
                parts.append(_bucket(whole, at, bucket_ms))
        return _in_order(parts, bucket_ms)

    def count(self, stations: Sequence[str] | None = None) -> Mapping[str, int]:
        recent = self._recent.count(stations)
        edge = self._boundary_ms()
        older = self._older
        if older is None or edge <= 0:
            return recent
        with _older_than(edge):
            archived = older.count(stations, edge)
            return {
                station: recent.get(station, 0) + archived.get(station, 0) - self._in_both(older, station, edge)
                for station in recent.keys() | archived.keys()
            }

    def _in_both(self, older: LongTermStore, station: str, edge: int) -> int:
        """The number of readings before the edge that both stores hold."""
        recent = self._recent.window(station, 0, edge - 1)
        if not len(recent):
            return 0
        archived = older.window(station, int(recent.at.min()), int(recent.at.max()))
        both = archived.merge(recent)
        return len(recent) + len(archived) - len(both)


@contextmanager
def _older_than(boundary_ms: int) -> Iterator[None]:
    try:
        yield
    except StorageUnavailable as error:
        raise LongTermUnavailable(say("store.long_term", edge=rfc3339(boundary_ms), error=error.text)) from error


def _newest_wins(older: Ints, recent: Ints) -> tuple[Ints, Ints]:
    """The distinct times of both, sorted, and the index of each in older followed by recent."""
    at = np.concatenate([recent, older])
    times, first = np.unique(at, return_index=True)  # the first of equals is the recent one
    return times, np.where(first < len(recent), first + len(older), first - len(recent))


def _without(series: Series, starts: Ints) -> Series:
    keep = ~np.isin(series.at, starts)
    return Series(
        series.at[keep],
        series.value[keep],
        series.low[keep],
        series.high[keep],
        series.count[keep],
        series.packed[keep],
        series.bucket_ms,
    )


def _bucket(raw: Series, at: int, bucket_ms: int) -> Series:
    """The thinned bucket of these readings."""
    flag, tests = unpack(raw.packed)
    usable = raw.value[flag < 3]
    mean, low, high = (usable.mean(), usable.min(), usable.max()) if len(usable) else (np.nan,) * 3
    packed = pack(flag.max(keepdims=True), np.bitwise_or.reduce(tests, keepdims=True))
    at_, mean_, low_, high_, count = (np.array([x]) for x in (at, mean, low, high, len(usable)))
    return Series(at_, mean_, low_, high_, count, packed, bucket_ms)


def _in_order(parts: list[Series], bucket_ms: int) -> Series:
    columns = [
        np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0)
        for name in ("at", "value", "low", "high", "count", "packed")
    ]
    order = np.argsort(columns[0], kind="stable")
    at, value, low, high, count, packed = (column[order] for column in columns)
    return Series(at.astype(np.int64), value, low, high, count.astype(np.int64), packed.astype(np.int64), bucket_ms)
