"""Quarantine what a device sends far beyond its registered rate (:mod:`ingest.rules.device_rate`)."""

import numpy as np

from ingest.stages.acceptance import refuse
from ingest.stages.deduplicate import without_messages
from ingest.work import Work
from sensors.reading import Reason
from sensors.wire import mapping

SOURCES = ("mqtt", mapping.SOURCE)
"""Where a device cannot be refused alone: one connection to the broker carries the messages of all."""


class LimitDevices:
    """Reads ``pending``, ``accepted`` and ``messages``; takes messages out of both and adds them to ``rejected``."""

    name = "limit"

    def run(self, work: Work) -> None:
        site, messages = work.site, work.messages
        # a replay, and a message that was queued, were counted when they came
        of_devices = [m.source in SOURCES and m.replay_of is None and not m.queued for m in messages]
        counted = np.array(of_devices, np.bool_)
        if not counted.any():
            return
        beyond = site.rates.beyond(work.pending, counted, site.history.registry, work.now_ms)
        if not len(beyond):
            return
        reason = np.where(np.isin(work.accepted.message, beyond), Reason.TOO_FREQUENT, 0).astype(np.uint8)
        refused = refuse(work.accepted, {}, reason, messages, site.history.registry)
        work.rejected = (*work.rejected, *refused)
        surplus = beyond.tolist()
        work.pending, work.accepted = without_messages(work.pending, surplus), without_messages(work.accepted, surplus)
