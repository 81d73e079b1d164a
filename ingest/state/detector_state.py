"""Saved state of the quality tests and event detectors, for what a restart cannot rebuild from stored readings.

The state of every series and station is saved once a day; readings since then are replayed after a restart. Alarms of a
station, when it sent again after a pause, and clock errors are saved as they change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import msgspec
import sqlalchemy as sa

from infra.database import insert_many
from ingest.rules.device_clock import ClockError
from ingest.storage.tables import detector_state as table

SUDDEN_KEY = ""
"""Stands for the parameter in the state of a whole station (sudden events)."""
SLOW_KEY = "@hours"
"""Likewise, for slow events."""
TIDE_KEY = "@tide"
"""Likewise, for the tide; saved together with the slow events where there is a gauge."""
DOUBT_KEY = "@doubt"
"""Likewise, for doubtful events."""
RESUMED_KEY = "resumed"
"""Likewise, for when a station sent again after a pause."""
_CLOCK_KEY = "clock"

_INTO = "INSERT INTO detector_state (station, parameter, last_at_ms, body)"
_ON_CONFLICT = "ON CONFLICT (station, parameter) DO UPDATE SET last_at_ms = excluded.last_at_ms, body = excluded.body"


@dataclass(frozen=True, slots=True)
class SavedState:
    """The state after the readings up to ``last_at_ms``; an empty ``body``: the series begins after it."""

    last_at_ms: int
    body: bytes


def load(connection: sa.Connection, station: str) -> dict[str, SavedState]:
    """Parameter → saved state of a station."""
    query = sa.select(table.c.parameter, table.c.last_at_ms, table.c.body).where(table.c.station == station)
    return {row.parameter: SavedState(row.last_at_ms, bytes(row.body)) for row in connection.execute(query)}


def save(connection: sa.Connection, rows: Sequence[tuple[str, str, SavedState]]) -> None:
    """Save the states of these series (station, parameter, state); each series occurs once."""
    written = [(station, parameter, one.last_at_ms, one.body) for station, parameter, one in rows]
    insert_many(connection, _INTO, written, _ON_CONFLICT)


def resumed_rows(stations: Sequence[str], when: Mapping[int, int]) -> list[tuple[str, str, SavedState]]:
    """The rows to save for stations (registry position → ms) that sent again after a pause."""
    return [(stations[i], RESUMED_KEY, SavedState(at_ms, b"")) for i, at_ms in when.items()]


def load_clocks(connection: sa.Connection) -> dict[str, ClockError]:
    """Station → its clock error."""
    query = sa.select(table.c.station, table.c.body).where(table.c.parameter == _CLOCK_KEY)
    return {row.station: ClockError(*msgspec.json.decode(row.body)) for row in connection.execute(query)}


def save_clocks(connection: sa.Connection, changed: Mapping[str, ClockError | None]) -> None:
    """Save clock errors; None deletes one."""
    right = [station for station, off in changed.items() if off is None]
    if right:
        connection.execute(sa.delete(table).where(table.c.parameter == _CLOCK_KEY, table.c.station.in_(right)))
    wrong = {station: off for station, off in changed.items() if off is not None}
    save(
        connection,
        [(s, _CLOCK_KEY, SavedState(off.last_seen_ms, msgspec.json.encode(astuple(off)))) for s, off in wrong.items()],
    )
