"""Set messages aside that hold only late readings or are beyond their device's share, so that live ones of others need
not wait for their judgement."""

import numpy as np

from ingest.stages.deduplicate import without_messages
from ingest.work import Work
from sensors.reading import Message
from sensors.wire import mapping

MAX_QUEUED = 1_000_000
"""Late messages that may wait, some hundred MB on disk; more are judged at once, which slows their source."""


class QueueLate:
    """Reads ``pending`` and ``messages``; writes ``queued``, and takes it out of ``pending`` and ``rejected``."""

    name = "queue"

    def run(self, work: Work) -> None:
        work.queued = _waiting(work)
        if work.queued:
            work.pending = without_messages(work.pending, work.queued)
            work.rejected = tuple(r for r in work.rejected if r.message not in work.queued)


def _waiting(work: Work) -> frozenset[int]:
    """The messages of the broker that hold nothing but late readings, or are beyond the share of their device."""
    site, batch, messages = work.site, work.pending, work.messages
    if not site.queue_late or site.late_waiting >= MAX_QUEUED:
        return frozenset()
    series = site.history.series(batch.station, batch.parameter, work.now_ms)
    late = batch.at <= site.history.newest[series]
    beyond = np.array([m.beyond_share for m in messages], np.bool_)
    if not late.any() and not beyond.any():
        return frozenset()
    readings = np.bincount(batch.message, minlength=len(messages))
    all_late = (np.bincount(batch.message[late], minlength=len(messages)) == readings) & (readings > 0)
    found = np.flatnonzero(all_late | (beyond & (readings > 0))).tolist()
    return frozenset(i for i in found if not messages[i].queued and _may_wait(messages[i]))


def _may_wait(message: Message) -> bool:
    """Whether nobody waits for what becomes of the readings: to the broker it is enough that they are durable."""
    return message.source in ("mqtt", mapping.SOURCE) and message.replay_of is None
