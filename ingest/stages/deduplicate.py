"""One reading of each key, in the order of the series; values that a correction replaced do not come back."""

from collections.abc import Collection

import numpy as np

from ingest.rejudge import corrections
from ingest.rejudge.corrections import Senders
from ingest.state.series_history import SeriesHistory
from ingest.work import SortedBatch, Work
from sensors.reading import Batch
from sensors.stations import Registry


class Deduplicate:
    """Reads ``pending``, ``messages`` and ``decoded``; writes ``senders``, ``sorted`` and ``corrected``."""

    name = "deduplicate"

    def run(self, work: Work) -> None:
        registry = work.site.history.registry
        work.senders = Senders(work.messages, work.decoded.headers)
        work.sorted = _without_superseded(work, sort(work.pending, work.site.history, work.now_ms))
        work.corrected = _corrected_within(work.pending, work.sorted.batch, work.senders, registry)


def sort(batch: Batch, history: SeriesHistory, now_ms: int) -> SortedBatch:
    """Sort by (series, observed_at); of two readings with one key the one that arrived last counts."""
    series = history.series(batch.station, batch.parameter, now_ms)
    order = np.lexsort((batch.message, batch.at, series))
    batch, series = batch.take(order), series[order]
    last = np.ones(len(series), np.bool_)
    last[:-1] = (series[1:] != series[:-1]) | (batch.at[1:] != batch.at[:-1])
    if not last.all():
        selected = np.flatnonzero(last)
        batch, series = batch.take(selected), series[selected]
    newer = batch.at > history.newest[series]
    if not newer.all():
        # where a series has late readings, its new ones rest on them: all are judged together, in their neighbourhood
        newer &= ~np.isin(series, series[~newer])
    return SortedBatch(batch, series, np.flatnonzero(newer), np.flatnonzero(~newer))


def without_messages(batch: Batch, messages: Collection[int]) -> Batch:
    """The readings of the other messages."""
    return batch.take(np.flatnonzero(~np.isin(batch.message, list(messages)))) if messages else batch


def _without_superseded(work: Work, found: SortedBatch) -> SortedBatch:
    """The batch without late readings that repeat a value which a correction replaced since."""
    history, batch, late = work.site.history, found.batch, found.late
    if not len(late):
        return found
    stations = {history.registry.stations[i].key for i in np.unique(batch.station[late]).tolist()}
    first_ms, last_ms = int(batch.at[late].min()), int(batch.at[late].max())
    with work.site.database.read() as connection:
        replaced = corrections.replaced(connection, stations, first_ms, last_ms)
    if not replaced:
        return found
    superseded = late[corrections.superseded(batch, late, work.senders, replaced, history.registry)]
    if not len(superseded):
        return found
    return sort(batch.take(np.setdiff1d(np.arange(len(batch)), superseded)), history, work.now_ms)


def _corrected_within(
    pending: Batch, remaining: Batch, senders: Senders, registry: Registry
) -> list[corrections.Correction]:
    """Corrections among the readings of the batch: one key with two values."""
    if len(pending) == len(remaining):
        return []
    rows_of = {key: row for row, key in enumerate(_keys(remaining))}
    pairs = [
        (rows_of[key], value)
        for key, value in zip(_keys(pending), pending.value.tolist(), strict=True)
        if key in rows_of
    ]
    rows = np.array([row for row, _ in pairs], np.intp)
    return corrections.corrections_of(remaining, rows, [value for _, value in pairs], senders, registry)


def _keys(batch: Batch) -> list[tuple[int, int, int]]:
    return list(zip(batch.station.tolist(), batch.parameter.tolist(), batch.at.tolist(), strict=True))
