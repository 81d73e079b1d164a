"""What devices say of themselves, beside their readings: connection state and events (door open, power lost …)."""

from typing import Any

import msgspec
import sqlalchemy as sa

from ingest.storage.tables import device_event as table
from sensors.reading import Message


class _Status(msgspec.Struct):
    online: bool


def online(payload: bytes) -> bool | None:
    """The connection state a status message reports; None when it is not one."""
    try:
        return msgspec.json.decode(payload, type=_Status).online
    except msgspec.DecodeError:
        return None


def add(connection: sa.Connection, message: Message) -> None:
    """Keep an event as the device sent it."""
    body = message.payload.decode("utf-8", "replace")
    connection.execute(
        sa.insert(table).values(station=message.station, received_at_ms=message.received_at_ms, body=body)
    )


def add_once(connection: sa.Connection, station: str, received_at_ms: int, body: str) -> bool:
    """Keep an event unless it is there already: a logger that has no answer yet sends it again. Whether it is new."""
    known = sa.select(table.c.id).where((table.c.station == station) & (table.c.body == body)).limit(1)
    if connection.execute(known).first() is not None:
        return False
    connection.execute(sa.insert(table).values(station=station, received_at_ms=received_at_ms, body=body))
    return True


def listing(connection: sa.Connection, station: str, limit: int = 100) -> list[dict[str, Any]]:
    """The newest events of a station."""
    query = sa.select(table).where(table.c.station == station).order_by(table.c.id.desc()).limit(limit)
    return [{"received_at_ms": row.received_at_ms, "body": row.body} for row in connection.execute(query)]
