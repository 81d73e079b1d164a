"""What the quality tests learned of every series, in the database: once a day, and read again after a restart.

Between two such moments nothing is lost: the readings themselves are stored, and teach the same again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ingest.storage.tables import memory as table


@dataclass(frozen=True, slots=True)
class Learned:
    """All that the readings up to ``upto_ms`` taught; an empty ``body``: nothing, the series begins after it."""

    upto_ms: int
    body: bytes


def load(connection: sa.Connection, station: str) -> dict[str, Learned]:
    """By parameter, what is written down of a station."""
    query = sa.select(table.c.parameter, table.c.upto_ms, table.c.body).where(table.c.station == station)
    return {row.parameter: Learned(row.upto_ms, bytes(row.body)) for row in connection.execute(query)}


def save(connection: sa.Connection, rows: Sequence[tuple[str, str, Learned]]) -> None:
    """Write down what these series (station, parameter) have learned; the rest stays as it is."""
    if not rows:
        return
    mine = (table.c.station == sa.bindparam("s")) & (table.c.parameter == sa.bindparam("p"))
    connection.execute(sa.delete(table).where(mine), [{"s": station, "p": parameter} for station, parameter, _ in rows])
    connection.execute(
        sa.insert(table),
        [
            {"station": station, "parameter": parameter, "upto_ms": one.upto_ms, "body": one.body}
            for station, parameter, one in rows
        ],
    )
