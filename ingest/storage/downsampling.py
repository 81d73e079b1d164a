"""Hourly and daily values of readings as points, and the table of the days that are due for computation.

They are written to the time-series server by :mod:`ingest.analysis.downsample`. The forwarder enters the days of the
readings that it sent in ``downsampling_due``, in the transaction that deletes them from the spool.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from infra.database import insert_many
from infra.times import BEIJING_OFFSET_MS, DAY_MS
from ingest.storage import lineprotocol, schema
from ingest.storage.port import Window, thin
from ingest.storage.tables import downsampling_due as table
from ingest.storage.timeseries import ServerKind
from sensors.parameters import Catalogue
from sensors.reading import Codes, Ints

SERVERS: Final = frozenset({ServerKind.INFLUXDB1, ServerKind.INFLUXDB2})
"""The servers with a retention of their own for hourly and daily values."""

DELAY_MS: Final = 3_600_000
"""Delay between the first new reading of a day and its computation, which takes up to 11 ms for a whole day of eight
parameters each minute."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Hourly or daily values: measurement, retention policy, length of a bucket."""

    measurement: str
    policy: str
    length_ms: int


HOURS: Final = Tier(schema.HOURLY, schema.HOURLY_POLICY, 3_600_000)
DAYS: Final = Tier(schema.DAILY, schema.DAILY_POLICY, DAY_MS)
TIERS: Final = (HOURS, DAYS)


def day_of(at_ms: int) -> int:
    """The beginning (ms UTC) of the Beijing day of an instant."""
    return (at_ms + BEIJING_OFFSET_MS) // DAY_MS * DAY_MS - BEIJING_OFFSET_MS


def points(
    tier: Tier, station: str, reach: str, readings: Window, catalogue: Catalogue, *, since_ms: int
) -> list[bytes]:
    """The points of a station's day, as line protocol: one for each bucket with readings that begins at or after since.

    Parameters
    ----------
    readings : the readings of one whole Beijing day
    since_ms : earlier buckets are left out, since the server no longer keeps them
    """
    if not len(readings):
        return []
    begin = day_of(int(readings.at[0]))
    buckets: dict[int, dict[str, lineprotocol.FieldValue]] = {}
    for code in np.unique(readings.parameter).tolist():
        key = catalogue.parameters[code].key
        series = thin(readings.take(np.flatnonzero(readings.parameter == code)), begin, tier.length_ms)
        columns = (series.at, series.value, series.low, series.high, series.count, series.packed & 15)
        for at, mean, low, high, number, worst in zip(*(column.tolist() for column in columns), strict=True):
            if at >= since_ms:
                buckets.setdefault(at, {}).update(
                    {
                        key: mean,  # NaN without a usable reading; a point leaves it out
                        schema.lowest(key): low,
                        schema.highest(key): high,
                        schema.number(key): number,
                        schema.worst(key): worst,
                    }
                )
    tags = {schema.STATION: station, schema.REACH: reach}
    return [lineprotocol.point(tier.measurement, tags, fields, at) for at, fields in sorted(buckets.items())]


# -- which days are due ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A station's Beijing day by its beginning (ms UTC), and the last spool entry with readings of it (0: none)."""

    station: str
    day_ms: int
    entry: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The number of waiting days, and since when the first is due (ms UTC; None: none is due)."""

    days: int
    due_since_ms: int | None


def schedule_days(connection: sa.Connection, days: Iterable[Due], due_ms: int) -> None:
    """Schedule days for ``due_ms``, or earlier where they are scheduled already."""
    newest: dict[tuple[str, int], int] = {}
    for one in days:
        key = (one.station, one.day_ms)
        newest[key] = max(one.entry, newest.get(key, 0))
    rows = [(station, day, due_ms, entry) for (station, day), entry in sorted(newest.items())]
    least = "min" if connection.dialect.name == "sqlite" else "least"
    insert_many(
        connection,
        "INSERT INTO downsampling_due (station, day_ms, due_ms, entry)",
        rows,
        "ON CONFLICT (station, day_ms) DO UPDATE SET "
        f"due_ms = {least}(downsampling_due.due_ms, excluded.due_ms), "
        "entry = CASE WHEN excluded.entry = 0 THEN downsampling_due.entry ELSE excluded.entry END",
    )


def schedule_since(connection: sa.Connection, stations: Iterable[str], since_ms: int, now_ms: int) -> int:
    """Schedule all days of these stations from ``since_ms`` to now at once; how many."""
    days = range(day_of(since_ms), now_ms + 1, DAY_MS)
    entered = 0
    for station in stations:
        schedule_days(connection, (Due(station, day, 0) for day in days), now_ms)
        entered += len(days)
    return entered


def due_days(connection: sa.Connection, now_ms: int, limit: int) -> list[Due]:
    """The days to compute now, the longest due first."""
    query = sa.select(table.c.station, table.c.day_ms, table.c.entry).where(table.c.due_ms <= now_ms)
    query = query.order_by(table.c.due_ms, table.c.station, table.c.day_ms).limit(limit)
    return [Due(row.station, row.day_ms, row.entry) for row in connection.execute(query)]


def delete_computed(connection: sa.Connection, days: Sequence[Due]) -> None:
    """Delete computed days, except those with newer readings."""
    for one in sorted(days, key=lambda day: (day.station, day.day_ms)):
        same = (table.c.station == one.station) & (table.c.day_ms == one.day_ms) & (table.c.entry == one.entry)
        connection.execute(sa.delete(table).where(same))


def waiting(connection: sa.Connection, now_ms: int) -> Waiting:
    """The waiting days."""
    number, first = connection.execute(sa.select(sa.func.count(), sa.func.min(table.c.due_ms))).one()
    return Waiting(int(number), int(first) if first is not None and first <= now_ms else None)


def days_of_readings(stations: Sequence[str], station: Codes, at: Ints, entry: int) -> Iterator[Due]:
    """The days that readings lie in; ``station`` (n,) counts by ``stations``, ``at`` (n,) is ms UTC."""
    if not len(at):
        return
    days = (at + BEIJING_OFFSET_MS) // DAY_MS
    first = int(days.min())
    width = int(days.max()) - first + 1
    for pair in np.unique(station.astype(np.int64) * width + (days - first)).tolist():
        place, day = divmod(pair, width)
        yield Due(stations[place], (first + day) * DAY_MS - BEIJING_OFFSET_MS, entry)
