"""Drop interval means where readings of the interval exist.

An HJ 212 logger that sends real-time data also sends minute, hour and day means of the same time, stamped with the
start of their interval. Key for key, the mean of an hour would overwrite the reading at the full hour. So a mean
counts only where its interval holds no reading; otherwise it is booked as a duplicate.
"""

from collections.abc import Mapping

import numpy as np

from ingest.storage.port import ReadingStore
from ingest.work import Work
from sensors.reading import Batch
from sensors.stations import Registry


class DropCoveredMeans:
    """Reads ``accepted`` and the intervals in ``decoded``; writes ``pending``."""

    name = "means"

    def run(self, work: Work) -> None:
        work.pending = drop_covered_means(
            work.accepted, work.decoded.periods, work.site.history.registry, work.site.store
        )


def drop_covered_means(batch: Batch, periods: Mapping[int, int], registry: Registry, store: ReadingStore) -> Batch:
    """The batch without means whose interval holds a reading already, in the store or in the batch itself.

    ``periods`` maps messages whose readings are means to the length of their interval, ms. Raises StorageUnavailable.
    """
    if not periods:
        return batch
    period = np.array([periods.get(int(m), 0) for m in batch.message], np.int64)
    keep = np.ones(len(batch), np.bool_)
    finest_first = sorted(np.flatnonzero(period).tolist(), key=lambda row: (int(period[row]), row))
    for row in finest_first:
        at, end = int(batch.at[row]), int(batch.at[row] + period[row])
        same = (batch.station == batch.station[row]) & (batch.parameter == batch.parameter[row])
        inside = same & (batch.at >= at) & (batch.at < end)
        if (inside & keep & (period < period[row])).any() or _stored(batch, row, end, registry, store):
            keep[row] = False
    return batch.take(np.flatnonzero(keep))


def _stored(batch: Batch, row: int, end_ms: int, registry: Registry, store: ReadingStore) -> bool:
    station = registry.stations[batch.station[row]].key
    parameter = registry.catalogue.parameters[batch.parameter[row]].key
    return len(store.window(station, int(batch.at[row]), end_ms - 1, [parameter])) > 0
