"""Queued late messages in turns of their stations (:mod:`ingest.stages.queue_late`)."""

from ingest.site_state import SiteState
from ingest.storage import late_queue
from sensors.reading import Message

BATCH_SIZE = 1000
"""Late messages of one station that are judged together: the effort is per series, hardly per message."""


def next_batch(site: SiteState) -> list[Message]:
    """The next late messages of the station that has waited longest; empty when none wait.

    They stay in the queue until they are processed.
    """
    if not site.late_stations:
        return []
    station = next(iter(site.late_stations))
    with site.database.read() as connection:
        found = late_queue.take(connection, station, BATCH_SIZE)
    del site.late_stations[station]  # what cannot be processed is tried again after the next start
    if len(found) == BATCH_SIZE:
        site.late_stations[station] = None  # there may be more, after those of the other stations
    return found
