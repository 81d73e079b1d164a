"""One cause, one incident along a river: what came down from a polluted station above joins that station's incident.

What is upstream is asked of the open incidents themselves, so that a restart forgets nothing (design rule 8).
"""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from governance.database import Database
from governance.finding import Change, Finding, Kind
from governance.tables import incident, incident_condition
from ingest.checks.upstream import Crossing, Explained, River
from ingest.checks.wording import duration, name
from sensors.texts import say
from sensors.times import beijing

WATER = "water:"


def grouped(findings: Sequence[Finding], river: River, database: Database, now_ms: int) -> list[Finding]:
    """The findings in the order of events, each with the cause of what explains it.

    Only what begins now at a station that has no incident of its own asks the river; past findings stay by themselves.
    """
    if not any(_asks(one, river) for one in findings):
        return list(findings)
    with database.read() as connection:
        crossings = _open(connection)
    own = {one.cause for one in crossings}
    found: list[Finding] = []
    joined: dict[tuple[str, str, str | None], str] = {}
    for said in findings:
        key = (said.rule, said.station, said.parameter)
        if said.change is not Change.FIRED and key in joined:
            one = replace(said, cause=joined[key])  # it ends where it began, a moment ago
        else:
            one = said if said.cause in own else _down_the_river(said, river, crossings)
        if one.cause != said.cause:
            joined[key] = one.cause
        if one.change is Change.FIRED and not one.retrospective and one.cause.startswith(WATER):
            crossings.append(Crossing(one.cause, one.station, one.parameter or "", one.since_ms, None))
            own.add(one.cause)
        elif one.change is not Change.FIRED and not one.retrospective:
            crossings = [_ended(crossing, one) for crossing in crossings]
        found.append(one)
    return found


def _ended(crossing: Crossing, finding: Finding) -> Crossing:
    same = (crossing.station, crossing.parameter) == (finding.station, finding.parameter)
    return replace(crossing, end_ms=finding.observed_at_ms) if same and crossing.end_ms is None else crossing


PASSES = frozenset({Kind.THRESHOLD, Kind.RATE, Kind.CLASS, Kind.TARGET, Kind.BLACK_ODOROUS, Kind.EVENT})
"""Findings about water that passes; a trend of days has no front that could arrive."""


def _down_the_river(one: Finding, river: River, crossings: Sequence[Crossing]) -> Finding:
    """The finding with the cause of what explains it upstream, itself where nothing does."""
    if not _asks(one, river):
        return one
    station = river.station(one.station)
    explained = river.explain(station, one.parameter or "", one.since_ms, crossings, one.observed_at_ms)
    if explained is None:
        return one
    cause = explained.by.cause
    mine = (cause, one.station, one.parameter or "")
    if any((c.cause, c.station, c.parameter) == mine and c.end_ms is not None for c in crossings):
        return replace(one, cause=cause)  # that water came by and went: it is the same case, and wakes people again
    return _joined(one, explained)


def _asks(one: Finding, river: River) -> bool:
    begins = one.change is Change.FIRED and not one.retrospective and one.kind in PASSES
    return begins and one.cause == f"{WATER}{one.station}" and river.has_above(one.station)


def _joined(one: Finding, explained: Explained) -> Finding:
    text = say(
        "finding.downstream",
        said=one.text,
        upper=name(explained.upper),
        since=beijing(explained.by.since_ms),
        travel=duration(round(explained.way.typical_ms, -5)),
    )
    return replace(one, cause=explained.by.cause, text=text, explained=True)


def _open(connection: sa.Connection) -> list[Crossing]:
    """What is and was beyond its limits within the open live incidents about water."""
    query = (
        sa.select(
            incident.c.cause,
            incident_condition.c.station,
            incident_condition.c.parameter,
            incident_condition.c.since_ms,
            incident_condition.c.resolved_at_ms,
        )
        .join(incident, incident.c.id == incident_condition.c.incident_id)
        .where(
            incident.c.open_cause.is_not(None),
            incident.c.retrospective == sa.false(),
            incident.c.cause.startswith(WATER),
        )
        .order_by(incident.c.id)
    )
    return [Crossing(*row) for row in connection.execute(query)]
