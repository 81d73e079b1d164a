"""The newest readings of one station, read from the store at once and not series by series."""

from collections.abc import Sequence

import numpy as np

from ingest.storage.port import ReadingStore, Window
from sensors.parameters import Catalogue


class RecentReadings:
    """Readings of ``station`` from ``start_ms`` to ``end_ms`` in memory; what is older is asked of the store."""

    def __init__(self, store: ReadingStore, catalogue: Catalogue, station: str, start_ms: int, end_ms: int) -> None:
        self._store, self._catalogue, self.station = store, catalogue, station
        self._start_ms, self._end_ms = start_ms, end_ms
        self._held = store.window(station, start_ms, end_ms)

    def window(self, start_ms: int, end_ms: int, parameters: Sequence[str] | None = None) -> Window:
        """As :meth:`~ingest.storage.port.ReadingStore.window`."""
        if end_ms > self._end_ms or end_ms < self._start_ms:
            return self._store.window(self.station, start_ms, end_ms, parameters)
        if start_ms < self._start_ms:
            older = self._store.window(self.station, start_ms, self._start_ms - 1, parameters)
            return older.merge(self.window(self._start_ms, end_ms, parameters))
        held = self._held
        inside = (held.at >= start_ms) & (held.at <= end_ms)
        if parameters is not None:
            inside &= np.isin(held.parameter, [self._catalogue.index[name] for name in parameters])
        return held.take(np.flatnonzero(inside))

    def before(self, parameter: str, at_ms: int, limit: int) -> Window:
        """As :meth:`~ingest.storage.port.ReadingStore.before`."""
        held = self._held
        earlier = np.flatnonzero((held.parameter == self._catalogue.index[parameter]) & (held.at < at_ms))
        if len(earlier) < limit:
            return self._store.before(self.station, parameter, at_ms, limit)
        return held.take(earlier[-limit:])
