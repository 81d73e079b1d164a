"""Who has which incident open, as the processes of the API tell each other. What a process does not say again expires.
Every function takes an open connection and never commits.
"""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from governance.tables import presence as table

EXPIRES_MS = 30_000
REFRESH_MS = 10_000
"""How often a process says it again."""


def say(connection: sa.Connection, process: str, here: Iterable[tuple[int, str]], now_ms: int) -> None:
    """Replace what a process said by (incident, name); what expired goes, too."""
    connection.execute(sa.delete(table).where(sa.or_(table.c.process == process, table.c.until_ms <= now_ms)))
    until_ms = now_ms + EXPIRES_MS
    rows = [{"process": process, "incident_id": n, "name": name, "until_ms": until_ms} for n, name in here]
    if rows:
        connection.execute(sa.insert(table), rows)


def elsewhere(connection: sa.Connection, process: str, now_ms: int) -> Mapping[int, frozenset[str]]:
    """Who is there by what the other processes said, by incident."""
    query = sa.select(table.c.incident_id, table.c.name)
    found: dict[int, set[str]] = {}
    for number, name in connection.execute(query.where(table.c.process != process, table.c.until_ms > now_ms)):
        found.setdefault(number, set()).add(name)
    return {number: frozenset(names) for number, names in found.items()}
