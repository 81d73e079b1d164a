"""Quarantine what a device sends far beyond its registered rate (:mod:`ingest.rules.device_rate`)."""

import numpy as np

from ingest.stages.deduplicate import without_messages
from ingest.work import Work
from sensors.reading import Message, Places, Reason, Rejected
from sensors.wire import mapping

SOURCES = ("mqtt", mapping.SOURCE)
"""Where a device cannot be refused alone: one connection to the broker carries the messages of all."""


class LimitDevices:
    """Reads ``pending``, ``accepted`` and ``messages``; takes messages out of both and adds them to ``rejected``."""

    name = "limit"

    def run(self, work: Work) -> None:
        site, messages = work.site, work.messages
        counted = np.array([_counts(one) for one in messages], np.bool_)
        if not counted.any():
            return
        beyond = site.rates.beyond(work.pending, counted, site.history.registry, work.now_ms)
        if not len(beyond):
            return
        work.rejected = (*work.rejected, *_rejected(work, beyond))
        gone = beyond.tolist()
        work.pending, work.accepted = without_messages(work.pending, gone), without_messages(work.accepted, gone)


def _counts(message: Message) -> bool:
    """Whether a message comes from a device now: a replay and one that was queued were counted when they came."""
    return message.source in SOURCES and message.replay_of is None and not message.queued


def _rejected(work: Work, beyond: Places) -> list[Rejected]:
    batch, parameters = work.accepted, work.site.catalogue.parameters
    readings: dict[int, list[tuple[int, str]]] = {message: [] for message in beyond.tolist()}
    rows = np.flatnonzero(np.isin(batch.message, beyond))
    columns = (batch.message[rows].tolist(), batch.at[rows].tolist(), batch.parameter[rows].tolist())
    for message, at_ms, parameter in zip(*columns, strict=True):
        readings[message].append((at_ms, parameters[parameter].key))
    detail = "the device sent too many messages with readings of this minute"
    return [Rejected(message, Reason.TOO_FREQUENT, detail, tuple(of)) for message, of in readings.items()]
