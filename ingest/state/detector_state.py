"""What a restart could not read from the stored readings, in the database.

What the quality tests learned of every series, and the event detector of every station, is written down once a day;
between two such moments nothing is lost: the readings themselves are stored, and teach the same again. When a station
had an alarm, when it spoke again after a pause, and which clocks seem wrong, is written down as it changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import msgspec
import sqlalchemy as sa

from infra.database import insert_many
from ingest.rules.device_clock import ClockError
from ingest.storage.tables import memory as table

STATION = ""
"""Stands for the parameter where something is of the station as a whole."""
HOURLY = "@hours"
"""Likewise, of the hours and days of the station."""
RESUMED = "resumed"
"""Likewise, of when a station spoke again after a pause."""
_CLOCK = "clock"

_INTO = "INSERT INTO memory (station, parameter, upto_ms, body)"
_AGAIN = "ON CONFLICT (station, parameter) DO UPDATE SET upto_ms = excluded.upto_ms, body = excluded.body"


@dataclass(frozen=True, slots=True)
class SavedState:
    """All that the readings up to ``upto_ms`` taught; an empty ``body``: nothing, the series begins after it."""

    upto_ms: int
    body: bytes


def load(connection: sa.Connection, station: str) -> dict[str, SavedState]:
    """By parameter, what is written down of a station."""
    query = sa.select(table.c.parameter, table.c.upto_ms, table.c.body).where(table.c.station == station)
    return {row.parameter: SavedState(row.upto_ms, bytes(row.body)) for row in connection.execute(query)}


def save(connection: sa.Connection, rows: Sequence[tuple[str, str, SavedState]]) -> None:
    """Write down what these series (station, parameter; each once) have learned; the rest stays as it is."""
    written = [(station, parameter, one.upto_ms, one.body) for station, parameter, one in rows]
    insert_many(connection, _INTO, written, _AGAIN)


def resumed(stations: Sequence[str], when: Mapping[int, int]) -> list[tuple[str, str, SavedState]]:
    """What is to be written down of stations, by position, that spoke again."""
    return [(stations[i], RESUMED, SavedState(at_ms, b"")) for i, at_ms in when.items()]


def clocks(connection: sa.Connection) -> dict[str, ClockError]:
    """By station, the clocks that seem wrong."""
    query = sa.select(table.c.station, table.c.body).where(table.c.parameter == _CLOCK)
    return {row.station: ClockError(*msgspec.json.decode(row.body)) for row in connection.execute(query)}


def save_clocks(connection: sa.Connection, changed: Mapping[str, ClockError | None]) -> None:
    """Write down these clocks; one that is right again is forgotten."""
    right = [station for station, off in changed.items() if off is None]
    if right:
        connection.execute(sa.delete(table).where(table.c.parameter == _CLOCK, table.c.station.in_(right)))
    wrong = {station: off for station, off in changed.items() if off is not None}
    save(
        connection,
        [(s, _CLOCK, SavedState(off.heard_ms, msgspec.json.encode(astuple(off)))) for s, off in wrong.items()],
    )
