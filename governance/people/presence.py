"""Who has which incident open, exchanged by the processes of the API. A report that is not repeated expires.
Every function takes an open connection and never commits.
"""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from governance.tables import presence as table

EXPIRES_MS = 30_000
REFRESH_MS = 10_000
"""Interval at which a process repeats its report."""


def report(connection: sa.Connection, process: str, here: Iterable[tuple[int, str]], now_ms: int) -> None:
    """Replace the report of a process, (incident, name) pairs; expired reports are deleted."""
    connection.execute(sa.delete(table).where(sa.or_(table.c.process == process, table.c.until_ms <= now_ms)))
    until_ms = now_ms + EXPIRES_MS
    rows = [{"process": process, "incident_id": n, "name": name, "until_ms": until_ms} for n, name in here]
    if rows:
        connection.execute(sa.insert(table), rows)


def present_elsewhere(connection: sa.Connection, process: str, now_ms: int) -> Mapping[int, frozenset[str]]:
    """Incident → names, by the reports of the other processes."""
    query = sa.select(table.c.incident_id, table.c.name)
    found: dict[int, set[str]] = {}
    for number, name in connection.execute(query.where(table.c.process != process, table.c.until_ms > now_ms)):
        found.setdefault(number, set()).add(name)
    return {number: frozenset(names) for number, names in found.items()}
