"""Quarantine of messages that cannot be processed because of a fault of ours."""

import numpy as np

from infra.errors import LongTermUnavailable
from ingest.site_state import SiteState
from ingest.storage import late_queue
from ingest.work import Outcome
from sensors.reading import Message, Reason, Rejected


def set_aside(site: SiteState, message: Message, error: Exception, now_ms: int) -> Outcome:
    """Quarantine one message so that it keeps no other waiting; it can be replayed later.

    The cause is a fault of ours, or a long-term store that does not answer. Raises StorageUnavailable.
    """
    rejected = (Rejected(0, Reason.OUR_FAULT, f"{type(error).__name__}: {error}"[:500]),)
    if isinstance(error, LongTermUnavailable):
        rejected = (Rejected(0, Reason.PAST_UNAVAILABLE, str(error)[:500]),)
    none = np.zeros(1, np.int64)
    outcome = Outcome(1, none, none, rejected, 0, (), 0)
    if message.replay_of is not None:  # its entry is still held
        return outcome
    registry = site.history.registry
    with site.database.write() as connection:
        site.late_waiting -= late_queue.remove(connection, [message])
        held = site.quarantine(connection, [message], [None], rejected, now_ms)
        site.ledger.count(connection, registry, [message], [None], none, none, rejected, repeated=held)
    return outcome
