"""The registered SL 651 stations: address, our station, password, how arrays are read, newest reading, status."""

import json
import math
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from infra.errors import ConfigurationError, NotFound
from infra.records import from_row
from infra.texts import say
from infra.times import rfc3339
from ingest.storage.changes import UNKNOWN_AUTHOR, Author
from ingest.storage.gateway_devices import DeviceTable
from ingest.storage.tables import sl651_station
from ingest.storage.tables import station as station_table
from sensors.wire.sl651.readings import ADDRESS, ARRAY_ORDERS, SOURCE, Gauge
from sensors.wire.telemetry import StatusWord

BITS: Final[Mapping[int, tuple[str, str]]] = {
    0: ("power_restored", "power_lost"),
    1: ("battery_ok", "battery_low"),
    7: ("door_open", "door_closed"),
}
"""Bit of the status → event when it becomes 0, event when it becomes 1. A change of another bit is a ``status_bit``."""
DEVICES: Final = DeviceTable(sl651_station, sl651_station.c.address, ("station", "password", "base_m", "array_order"))
_PASSWORD_DIGITS: Final = frozenset("0123456789ABCDEF")


def load(connection: sa.Connection) -> dict[str, Gauge]:
    """All stations by address."""
    joined = sa.select(sl651_station, station_table.c.interval_s).join(
        station_table, station_table.c.key == sl651_station.c.station
    )
    return {row.address: from_row(Gauge, row) for row in connection.execute(joined.order_by(sl651_station.c.address))}


def save(connection: sa.Connection, gauge: Gauge, author: Author = UNKNOWN_AUTHOR) -> None:
    """Register or change a station and record the change; newest reading and status stay.

    Raises ConfigurationError naming an invalid value, NotFound for an unregistered station.
    """
    if not ADDRESS.fullmatch(gauge.address):
        raise ConfigurationError(say("registry.no_address", address=gauge.address[:80]))
    if gauge.password is not None and not (len(gauge.password) == 4 and set(gauge.password) <= _PASSWORD_DIGITS):
        raise ConfigurationError(say("registry.no_sl651_password", address=gauge.address))
    if gauge.base_m is not None and not math.isfinite(gauge.base_m):
        raise ConfigurationError(say("registry.no_base", address=gauge.address, base=gauge.base_m))
    if gauge.array_order not in ARRAY_ORDERS:
        raise ConfigurationError(say("registry.no_array_order", address=gauge.address, order=gauge.array_order[:80]))
    DEVICES.save(connection, gauge, author)


def remove(connection: sa.Connection, address: str, author: Author = UNKNOWN_AUTHOR) -> None:
    """Delete a station's address; its readings stay. Raises NotFound."""
    if not DEVICES.remove(connection, address, author):
        raise NotFound(say("registry.no_gauge", address=address[:80]))


def update_newest(connection: sa.Connection, newest: Mapping[str, int]) -> None:
    """Store the time of each station's newest reading (address → ms); an older time is ignored."""
    DEVICES.update_newest(connection, newest)


def status_changes(connection: sa.Connection, address: str, word: StatusWord) -> list[str]:
    """Store the newest status of a station; one event (JSON) for each bit that differs from the status before.

    The first one is only stored: a bit may be 0 for want of a switch. An older status than the stored one is ignored.
    """
    where = sl651_station.c.address == address
    row = connection.execute(
        sa.select(sl651_station.c.status_bits, sl651_station.c.status_at_ms).where(where)
    ).one_or_none()
    if row is None or (row.status_at_ms is not None and row.status_at_ms >= word.at_ms):
        return []
    values = {"status_bits": word.bits, "status_at_ms": word.at_ms}
    connection.execute(sa.update(sl651_station).where(where).values(**values))
    if row.status_bits is None:
        return []
    changed = [bit for bit in range(32) if (row.status_bits ^ word.bits) >> bit & 1]
    return [_event(address, bit, word.bits >> bit & 1, word.at_ms) for bit in changed]


def _event(address: str, bit: int, value: int, at_ms: int) -> str:
    event = BITS[bit][value] if bit in BITS else "status_bit"
    body = {"event": event, "source": SOURCE, "address": address, "at": rfc3339(at_ms), "bit": bit, "value": value}
    return json.dumps(body)
