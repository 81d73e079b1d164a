"""The firing conditions in the database, so that a restart pages nobody twice (design rule 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from governance.finding import Change, Finding
from ingest.storage.tables import alarm as table


@dataclass(frozen=True, slots=True)
class Alarm:
    """One condition that fired and has not ended."""

    cause: str
    fired_at_ms: int
    since_ms: int
    past: bool


Key = tuple[str, str, str]
"""(rule, station, parameter); parameter is empty for rules about the station as a whole."""


def load(connection: sa.Connection) -> dict[Key, Alarm]:
    """All firing conditions."""
    return {
        (row.rule, row.station, row.parameter): Alarm(row.cause, row.fired_at_ms, row.since_ms, row.retrospective)
        for row in connection.execute(sa.select(table))
    }


def apply(alarms: dict[Key, Alarm], findings: Sequence[Finding]) -> set[Key]:
    """Bring the remembered alarms up to date; returns the keys that changed."""
    changed: set[Key] = set()
    for f in findings:
        key = (f.rule, f.station, f.parameter or "")
        if f.change is Change.FIRED:
            alarms[key] = Alarm(f.cause, f.observed_at_ms, f.since_ms, f.retrospective)
            changed.add(key)
        elif alarms.pop(key, None) is not None:
            changed.add(key)
    return changed


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
                )
            )
