"""The queue of late messages: they are durable and are processed after live readings, station by station."""

from collections.abc import Sequence

import sqlalchemy as sa

from ingest.storage.tables import late_message as table
from sensors.reading import Message


def add(connection: sa.Connection, messages: Sequence[Message]) -> None:
    """Queue messages as they arrived."""
    rows = [
        {
            "station": m.station,
            "received_at_ms": m.received_at_ms,
            "source": m.source,
            "topic": m.topic,
            "payload": m.payload,
        }
        for m in messages
    ]
    if rows:
        connection.execute(sa.insert(table), rows)


def take(connection: sa.Connection, station: str, most: int) -> list[Message]:
    """The oldest messages of a station; they stay in the queue until they are removed."""
    query = sa.select(table).where(table.c.station == station).order_by(table.c.id).limit(most)
    return [
        Message(row.station, bytes(row.payload), row.received_at_ms, row.source, row.topic, queued=row.id)
        for row in connection.execute(query)
    ]


def remove(connection: sa.Connection, messages: Sequence[Message]) -> int:
    """Remove processed messages from the queue; how many."""
    rows = [{"of": m.queued} for m in messages if m.queued]
    if rows:
        connection.execute(sa.delete(table).where(table.c.id == sa.bindparam("of")), rows)
    return len(rows)


def waiting(connection: sa.Connection) -> dict[str, int]:
    """Station → number of waiting messages, the longest waiting station first."""
    t = table.c
    query = sa.select(t.station, sa.func.count()).group_by(t.station).order_by(sa.func.min(t.id))
    return {station: int(count) for station, count in connection.execute(query)}
