"""Refuse readings that cannot be used (:mod:`ingest.stages.acceptance`)."""

from functools import partial

import numpy as np

from infra.times import DAY_MS
from ingest.stages.acceptance import accept
from ingest.storage.port import ReadingStore
from ingest.work import Work
from sensors.reading import Batch, Bools
from sensors.stations import Registry


class Validate:
    """Reads ``decoded`` and ``messages``; writes ``accepted`` (canonical units, station indices) and ``rejected``."""

    name = "validate"

    def run(self, work: Work) -> None:
        registry = work.site.history.registry
        stored = partial(is_stored, registry=registry, store=work.site.store.recent_store)
        found = accept(work.decoded, work.messages, registry, work.now_ms, stored)
        work.accepted, work.rejected = found.batch, found.rejected


def is_stored(batch: Batch, registry: Registry, store: ReadingStore) -> Bools:
    """(n,) whether the store has a reading of the same station, parameter and time. Raises StorageUnavailable."""
    found = np.zeros(len(batch), np.bool_)
    days: dict[tuple[int, int], list[int]] = {}  # a query never reads more than a day
    for row, place in enumerate(zip(batch.station.tolist(), (batch.at // DAY_MS).tolist(), strict=True)):
        days.setdefault(place, []).append(row)
    for (station, _), rows in days.items():
        at = batch.at[rows]
        window = store.window(registry.stations[station].key, int(at.min()), int(at.max()))
        stored = set(zip(window.parameter.tolist(), window.at.tolist(), strict=True))
        found[rows] = [key in stored for key in zip(batch.parameter[rows].tolist(), at.tolist(), strict=True)]
    return found
