"""Connection state and events of devices (door open, power lost …)."""

import hashlib
from typing import Any

import msgspec
import sqlalchemy as sa

from ingest.storage.tables import device_event as table
from sensors.reading import Message


class _Status(msgspec.Struct):
    online: bool


class _Event(msgspec.Struct):
    at: Any = None


def online(payload: bytes) -> bool | None:
    """The connection state a status message reports; None when it is not one."""
    try:
        return msgspec.json.decode(payload, type=_Status).online
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors
        return None


def add(connection: sa.Connection, message: Message) -> bool:
    """Store an event as the device sent it, unless it was delivered before; whether it is new.

    An event that says when it was is the same when it arrives again. Of one that does not, only the broker knows: it
    delivers it again as a duplicate, under the packet identifier it had.
    """
    body = message.payload.decode("utf-8", "replace")
    key = _digest(body)
    if not _has_time(message.payload):
        delivery = f"{key}/{message.packet_id}/"
        if message.redelivered and _is_stored(connection, message.station, table.c.key.startswith(delivery)):
            return False
        key = f"{delivery}{message.received_at_ms}"
    return _insert(connection, message.station, message.received_at_ms, body, key)


def add_once(connection: sa.Connection, station: str, received_at_ms: int, body: str) -> bool:
    """Store an event unless it is stored already (a logger repeats it until it is answered); whether it is new."""
    if _is_stored(connection, station, table.c.body == body):
        return False
    return _insert(connection, station, received_at_ms, body, _digest(body))


def _insert(connection: sa.Connection, station: str, received_at_ms: int, body: str, key: str) -> bool:
    if _is_stored(connection, station, table.c.key == key):
        return False
    row = {"station": station, "received_at_ms": received_at_ms, "body": body, "key": key}
    connection.execute(sa.insert(table).values(row))
    return True


def _is_stored(connection: sa.Connection, station: str, same: sa.ColumnElement[bool]) -> bool:
    return (
        connection.execute(sa.select(table.c.id).where(table.c.station == station, same).limit(1)).first() is not None
    )


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _has_time(payload: bytes) -> bool:
    try:
        return msgspec.json.decode(payload, type=_Event).at is not None
    except (ValueError, RecursionError):
        return False


def listing(connection: sa.Connection, station: str, limit: int = 100) -> list[dict[str, Any]]:
    """The newest events of a station."""
    query = sa.select(table).where(table.c.station == station).order_by(table.c.id.desc()).limit(limit)
    return [{"received_at_ms": row.received_at_ms, "body": row.body} for row in connection.execute(query)]
