"""Set messages aside that hold only late readings, so that live ones need not wait for their judgement."""

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
        work.queued = _all_late(work)
        if work.queued:
            work.pending = without_messages(work.pending, work.queued)
            work.rejected = tuple(r for r in work.rejected if r.message not in work.queued)


def _all_late(work: Work) -> frozenset[int]:
    """The messages of the broker that hold nothing but late readings."""
    site, batch, messages = work.site, work.pending, work.messages
    if not site.queue_late or site.late_waiting >= MAX_QUEUED:
        return frozenset()
    series = site.history.series(batch.station, batch.parameter, work.now_ms)
    late = batch.at <= site.history.newest[series]
    if not late.any():
        return frozenset()
    readings = np.bincount(batch.message, minlength=len(messages))
    all_late = (np.bincount(batch.message[late], minlength=len(messages)) == readings) & (readings > 0)
    found = np.flatnonzero(all_late).tolist()
    return frozenset(i for i in found if not messages[i].queued and _may_wait(messages[i]))


def _may_wait(message: Message) -> bool:
    """Whether the sender needs no result: the broker only waits until the messages are durable."""
    return message.source in ("mqtt", mapping.SOURCE) and message.replay_of is None
