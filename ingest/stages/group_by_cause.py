"""Group findings by cause: what came down from a polluted station upstream joins the incident there.

What is upstream is read from the open incidents, so that a restart forgets nothing. Findings of late data are grouped
among themselves, in any order: one found upstream later is joined to what was found downstream before.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import sqlalchemy as sa

from governance.incidents.finding import Change, Finding, Kind
from governance.incidents.from_findings import JOIN_WITHIN_MS
from governance.tables import incident, incident_condition
from infra.database import Database
from infra.texts import say
from infra.times import beijing
from ingest.rules.alarm_state import Key
from ingest.rules.alarm_state import apply as apply_to_alarms
from ingest.rules.sentences import duration, name
from ingest.rules.upstream import OpenExceedance, River, UpstreamCause
from ingest.work import Work
from sensors.wire import telemetry

WATER = "water:"


class GroupByCause:
    """Reads ``live_findings``, ``late``, ``sorted``, ``messages`` and ``decoded``; writes ``findings`` and
    ``changed_alarms``."""

    name = "group"

    def run(self, work: Work) -> None:
        site, late = work.site, work.late
        # in the order of events, so that the result does not depend on the order in which series were first seen
        timely, retrospective = sorted(work.live_findings, key=event_order), sorted(late.findings, key=event_order)
        grouped = group_by_cause([*timely, *retrospective], site.river, site.database, work.now_ms)
        of_late = zip(grouped[len(timely) :], retrospective, strict=True)
        lasting = [one for one, before in of_late if before in late.lasting]
        alarms = site.history.checks.alarms
        work.changed_alarms = apply_to_alarms(alarms, grouped[: len(timely)]) | apply_to_alarms(alarms, lasting)
        work.findings = [replace(one, message=_message_of(one, work)) for one in grouped]


def event_order(finding: Finding) -> tuple[int, int, str, str]:
    """Sort key: the order of events; of one instant the most urgent first."""
    return finding.observed_at_ms, finding.colour.rank, finding.station, finding.rule


def _message_of(finding: Finding, work: Work) -> str | None:
    """The id of the message that brought the deciding reading, where it is of this batch."""
    registry, batch = work.site.history.registry, work.sorted.batch
    rows = np.flatnonzero(batch.station == registry.index.get(finding.station, -1))
    rows = rows[batch.at[rows] == finding.observed_at_ms]
    if finding.parameter is not None:
        rows = rows[batch.parameter[rows] == registry.catalogue.index[finding.parameter]]
    if not len(rows):
        return None
    message = int(batch.message[rows[-1]])
    return telemetry.message_id(work.messages[message], work.decoded.headers[message])


def group_by_cause(findings: Sequence[Finding], river: River, database: Database, now_ms: int) -> list[Finding]:
    """The findings in the order of events, each with the cause of what explains it.

    Only what begins at a station that has no incident of its own asks the river.
    """
    if any(_passes(one) and one.retrospective for one in findings):
        with database.read() as connection:
            there = _past(connection, findings)
        after = iter(_grouped_past(findings, river, there, now_ms))
        findings = [next(after) if one.retrospective else one for one in findings]
    if any(_ends_alone(one) for one in findings):
        with database.read() as connection:
            findings = _ended_where_they_began(connection, findings)
    if not any(_asks(one, river) for one in findings):
        return list(findings)
    with database.read() as connection:
        crossings = [crossing for _, crossing in _open(connection, retrospective=False)]
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
            crossings.append(OpenExceedance(one.cause, one.station, one.parameter or "", one.since_ms, None))
            own.add(one.cause)
        elif one.change is not Change.FIRED and not one.retrospective:
            crossings = [_ended(crossing, one) for crossing in crossings]
        found.append(one)
    return found


def _grouped_past(
    findings: Sequence[Finding], river: River, there: Sequence[OpenExceedance], now_ms: int
) -> list[Finding]:
    """The retrospective of these findings, with the cause of the water above or of what was found below before them."""
    known, found = list(there), []
    ends: dict[Key, list[int]] = {}
    for one in findings:
        if one.change is Change.RESOLVED:
            ends.setdefault(_key(one), []).append(one.observed_at_ms)
    for said in findings:
        if not said.retrospective:
            continue
        one = said
        if _passes(said):
            end_ms = min((at for at in ends.get(_key(said), ()) if at >= said.observed_at_ms), default=None)
            crossing = OpenExceedance(said.cause, said.station, said.parameter or "", said.since_ms, end_ms)
            near = [other for other in known if _near(other, said)]
            here = [other for other in near if other.station == said.station]
            if here:  # one case of the station, whatever it joined
                one = replace(said, cause=min(here, key=lambda other: abs(other.since_ms - said.since_ms)).cause)
            else:
                one = _along_the_river(said, crossing, river, near, now_ms)
            known.append(replace(crossing, cause=one.cause))
        found.append(one)
    return found


def _key(one: Finding) -> Key:
    return one.rule, one.station, one.parameter or ""


def _ends_alone(one: Finding) -> bool:
    return one.change is Change.RESOLVED and one.cause == f"{WATER}{one.station}"


def _ended_where_they_began(connection: sa.Connection, findings: Sequence[Finding]) -> list[Finding]:
    """What ends, with the cause of the incident in which it goes on, where its own has nothing of it."""
    going: dict[Key, set[str]] = {}
    for retrospective in (False, True):
        for rule, crossing in _open(connection, retrospective=retrospective):
            if crossing.end_ms is None:
                going.setdefault((rule, crossing.station, crossing.parameter), set()).add(crossing.cause)
    found = []
    for one in findings:
        if one.change is Change.FIRED:
            going.setdefault(_key(one), set()).add(one.cause)
        causes = going.get(_key(one), set())
        lost = _ends_alone(one) and causes and one.cause not in causes
        found.append(replace(one, cause=min(causes)) if lost else one)
    return found


def _along_the_river(
    one: Finding, crossing: OpenExceedance, river: River, others: Sequence[OpenExceedance], now_ms: int
) -> Finding:
    """The finding with the cause of what explains it upstream, or of what it explains downstream."""
    if one.station not in river:
        return one
    explained = river.explain(river.station(one.station), crossing.parameter, one.since_ms, others, now_ms)
    if explained is not None:
        return _joined(one, explained)
    for lower in others:
        below = lower.station in river and river.station(lower.station)
        if below and river.explain(below, lower.parameter, lower.since_ms, [crossing], now_ms):
            return replace(one, cause=lower.cause)
    return one


def _near(crossing: OpenExceedance, finding: Finding) -> bool:
    """Whether both may be one retrospective incident, by their times."""
    end_ms = crossing.since_ms if crossing.end_ms is None else crossing.end_ms
    return crossing.since_ms - JOIN_WITHIN_MS <= finding.since_ms <= end_ms + JOIN_WITHIN_MS


def _ended(crossing: OpenExceedance, finding: Finding) -> OpenExceedance:
    same = (crossing.station, crossing.parameter) == (finding.station, finding.parameter)
    return replace(crossing, end_ms=finding.observed_at_ms) if same and crossing.end_ms is None else crossing


PASSES = frozenset({Kind.THRESHOLD, Kind.RATE, Kind.CLASS, Kind.TARGET, Kind.BLACK_ODOROUS, Kind.EVENT})
"""Findings about water that passes; a trend of days has no front that could arrive."""


def _down_the_river(one: Finding, river: River, crossings: Sequence[OpenExceedance]) -> Finding:
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
    return _passes(one) and not one.retrospective and river.has_above(one.station)


def _passes(one: Finding) -> bool:
    """Whether water that passes begins here, in an incident of its own."""
    return one.change is Change.FIRED and one.kind in PASSES and one.cause == f"{WATER}{one.station}"


def _joined(one: Finding, explained: UpstreamCause) -> Finding:
    text = say(
        "finding.downstream",
        said=one.text,
        upper=name(explained.upper),
        since=beijing(explained.by.since_ms),
        travel=duration(round(explained.way.typical_ms, -5)),
    )
    return replace(one, cause=explained.by.cause, text=text, explained=True)


def _past(connection: sa.Connection, findings: Sequence[Finding]) -> list[OpenExceedance]:
    """What was beyond its limits within the retrospective incidents of these days."""
    begin_ms = min(one.since_ms for one in findings) - 2 * JOIN_WITHIN_MS
    end_ms = max(one.observed_at_ms for one in findings) + 2 * JOIN_WITHIN_MS
    found = _open(connection, retrospective=True)
    return [one for _, one in found if begin_ms <= one.since_ms <= end_ms]


def _open(connection: sa.Connection, *, retrospective: bool) -> list[tuple[str, OpenExceedance]]:
    """What is and was beyond its limits within the open incidents about water, each with the rule that said so."""
    query = (
        sa.select(
            incident_condition.c.rule,
            incident.c.cause,
            incident_condition.c.station,
            incident_condition.c.parameter,
            incident_condition.c.since_ms,
            incident_condition.c.resolved_at_ms,
        )
        .join(incident, incident.c.id == incident_condition.c.incident_id)
        .where(
            incident.c.open_cause.is_not(None),
            incident.c.retrospective == retrospective,
            incident.c.cause.startswith(WATER),
        )
        .order_by(incident.c.id)
    )
    return [(rule, OpenExceedance(*rest)) for rule, *rest in connection.execute(query)]
