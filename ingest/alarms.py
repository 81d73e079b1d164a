"""The firing conditions in the database, so that a restart pages nobody twice (design rule 8)."""

import sqlalchemy as sa

from ingest.checks.alarms import Alarm, Key
from ingest.storage.tables import alarm as table


def load(connection: sa.Connection) -> dict[Key, Alarm]:
    """All firing conditions."""
    return {
        (row.rule, row.station, row.parameter): Alarm(
            row.cause, row.fired_at_ms, row.since_ms, row.retrospective, row.held
        )
        for row in connection.execute(sa.select(table))
    }


def save(connection: sa.Connection, alarms: dict[Key, Alarm], changed: set[Key]) -> None:
    """Make the rows of these keys what is remembered."""
    for key in changed:
        rule, station, parameter = key
        mine = (table.c.rule == rule) & (table.c.station == station) & (table.c.parameter == parameter)
        connection.execute(sa.delete(table).where(mine))
        if alarm := alarms.get(key):
            connection.execute(
                sa.insert(table).values(
                    rule=rule,
                    station=station,
                    parameter=parameter,
                    cause=alarm.cause,
                    fired_at_ms=alarm.fired_at_ms,
                    since_ms=alarm.since_ms,
                    retrospective=alarm.past,
                    held=alarm.held,
                )
            )
