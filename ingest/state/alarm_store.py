"""Active alarms and earlier firings in the database, so that a restart notifies nobody twice."""

from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from governance.incidents import active_findings
from governance.incidents.finding import ConditionChange
from governance.incidents.model import EntryKind
from governance.tables import incident, incident_condition, incident_entry
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.exceedances import PublishedExceedance
from ingest.storage.tables import alarm as table
from sensors.maintenance import END_OF_TIME_MS


def load(connection: sa.Connection) -> dict[AlarmKey, Alarm]:
    """All active alarms."""
    return {
        (row.rule, row.station, row.parameter): Alarm(
            row.cause, row.fired_at_ms, row.since_ms, row.retrospective, row.flapping
        )
        for row in connection.execute(sa.select(table))
    }


def gateway_recoveries(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """(rule, gateway) → when a silent gateway sent again (ms), from the incidents."""
    one = incident_condition.c
    query = (
        sa.select(one.rule, one.station, sa.func.max(one.resolved_at_ms))
        .join(incident, incident.c.id == one.incident_id)
        .where(incident.c.cause == "silence:gateway:" + one.station, one.resolved_at_ms.is_not(None))
        .group_by(one.rule, one.station)
    )
    return {(rule, gateway): at_ms for rule, gateway, at_ms in connection.execute(query)}


def past_firings(connection: sa.Connection, windows_ms: Mapping[str, int]) -> dict[AlarmKey, tuple[int, ...]]:
    """When the conditions of these rules fired within their flap windows (ms), oldest first, from the incidents.

    Withdrawn firings do not count.
    """
    if not windows_ms:
        return {}
    entry, one = incident_entry.c, incident_condition.c
    newest = sa.select(sa.func.max(entry.observed_at_ms)).where(entry.by.in_(windows_ms)).scalar_subquery()
    since_ms = connection.execute(sa.select(newest - max(windows_ms.values()))).scalar() or 0
    query = (
        sa.select(one.rule, one.station, one.parameter, entry.observed_at_ms, entry.finding_id)
        .join(incident_condition, (one.incident_id == entry.incident_id) & (one.rule == entry.by))
        .where(entry.what == EntryKind.FIRED, entry.by.in_(windows_ms), entry.observed_at_ms >= since_ms)
        .order_by(entry.observed_at_ms)
    )
    book = active_findings.of_rules(connection, windows_ms.keys(), since_ms=since_ms)
    found: dict[AlarmKey, tuple[int, ...]] = {}
    for rule, station, parameter, at_ms, id_ in connection.execute(query):
        # an incident may have several stations: the finding id tells which
        key = rule, station, parameter
        ids = active_findings.ids_of(ConditionChange.FIRED, *key, at_ms)
        if id_.partition(".")[0] in ids and at_ms not in found.get(key, ()) and not book.is_withdrawn(*key, at_ms):
            found[key] = (*found.get(key, ()), at_ms)
    return found


def published_exceedances(connection: sa.Connection, key: AlarmKey) -> list[PublishedExceedance]:
    """The exceedances of a condition that were published and not withdrawn, oldest first, from the incidents."""
    rule, station, parameter = key
    entry, one = incident_entry.c, incident_condition.c
    at_station = sa.select(one.incident_id).where(one.rule == rule, one.station == station, one.parameter == parameter)
    query = (
        sa.select(entry.observed_at_ms, entry.what, entry.finding_id)
        .where(entry.incident_id.in_(at_station), entry.by == rule, entry.finding_id.is_not(None))
        .where(entry.what.in_([EntryKind.FIRED, EntryKind.PROMOTED, EntryKind.RESOLVED]))
        .order_by(entry.observed_at_ms, entry.id)
    )
    book = active_findings.of_rules(connection, [rule], station=station)
    found: list[PublishedExceedance] = []
    for at_ms, what, id_ in connection.execute(query):
        change = ConditionChange.RESOLVED if what == EntryKind.RESOLVED else ConditionChange.FIRED
        if id_.partition(".")[0] not in active_findings.ids_of(change, *key, at_ms):
            continue  # of another station or parameter in the same incident
        going = bool(found) and found[-1].over_ms == END_OF_TIME_MS
        if change is ConditionChange.RESOLVED:
            found[-1:] = [replace(found[-1], over_ms=at_ms)] if going else found[-1:]
        elif not book.is_withdrawn(*key, at_ms):
            again = replace(found[-1], fired_ms=at_ms) if going else PublishedExceedance(at_ms, at_ms, END_OF_TIME_MS)
            found[len(found) - going :] = [again]
    return found


def save(connection: sa.Connection, alarms: dict[AlarmKey, Alarm], changed: set[AlarmKey]) -> None:
    """Save the alarms of the changed keys."""
    for key in changed:
        rule, station, parameter = key
        where = (table.c.rule == rule) & (table.c.station == station) & (table.c.parameter == parameter)
        connection.execute(sa.delete(table).where(where))
        if alarm := alarms.get(key):
            connection.execute(
                sa.insert(table).values(
                    rule=rule,
                    station=station,
                    parameter=parameter,
                    cause=alarm.cause,
                    fired_at_ms=alarm.fired_at_ms,
                    since_ms=alarm.since_ms,
                    retrospective=alarm.retrospective,
                    flapping=alarm.flapping,
                )
            )
