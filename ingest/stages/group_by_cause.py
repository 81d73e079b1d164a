"""Group findings by cause: what came down from a polluted station upstream joins the incident there.

What is upstream is read from the open incidents, so that a restart forgets nothing. Findings of late data are grouped
among themselves, in any order: one found upstream later is joined to what was found downstream before.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import sqlalchemy as sa

from governance.incidents.finding import ConditionChange, Finding, FindingKind
from governance.incidents.from_findings import JOIN_WITHIN_MS
from governance.tables import incident, incident_condition
from infra.database import Database
from infra.texts import say
from infra.times import beijing
from ingest.rules.alarm_state import AlarmKey, update_alarms
from ingest.rules.sentences import duration_text, station_name
from ingest.rules.upstream import OpenExceedance, River, UpstreamCause
from ingest.work import Work
from sensors.wire import telemetry

WATER = "water:"


class GroupByCause:
    """Reads ``live_findings``, ``late``, ``sorted``, ``messages`` and ``decoded``; writes ``findings`` and
    ``changed_alarms``."""

    name = "group"

    def run(self, work: Work) -> None:
        site, late = work.site, work.late.rejudgement
        # in the order of events, so that the result does not depend on the order in which series were first seen
        timely, retrospective = sorted(work.live_findings, key=event_order), sorted(late.findings, key=event_order)
        grouped = group_by_cause([*timely, *retrospective], site.river, site.database, work.now_ms)
        of_late = zip(grouped[len(timely) :], retrospective, strict=True)
        lasting = [one for one, before in of_late if before in late.lasting]
        alarms = site.history.checks.alarms
        work.changed_alarms = update_alarms(alarms, grouped[: len(timely)]) | update_alarms(alarms, lasting)
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
    """The findings (in the order of events), each with the cause that explains it.

    The network upstream is searched only for conditions that begin at a station without an incident of its own.
    """
    if any(_begins_here(one) and one.retrospective for one in findings):
        with database.read() as connection:
            retrospective_exceedances = _retrospective_exceedances(connection, findings)
        grouped = iter(_group_retrospective(findings, river, retrospective_exceedances, now_ms))
        findings = [next(grouped) if one.retrospective else one for one in findings]
    if any(_ends_alone(one) for one in findings):
        with database.read() as connection:
            findings = _end_where_begun(connection, findings)
    if not any(_may_come_from_upstream(one, river) for one in findings):
        return list(findings)
    with database.read() as connection:
        exceedances = [one for _, one in _open_exceedances(connection, retrospective=False)]
    return _group_live(findings, river, exceedances)


def _group_live(findings: Sequence[Finding], river: River, exceedances: list[OpenExceedance]) -> list[Finding]:
    """The findings with the causes of the live ones; ``exceedances`` are those of the open incidents."""
    own = {one.cause for one in exceedances}
    found: list[Finding] = []
    joined: dict[tuple[str, str, str | None], str] = {}
    for finding in findings:
        key = (finding.rule, finding.station, finding.parameter)
        if finding.change is not ConditionChange.FIRED and key in joined:
            one = replace(finding, cause=joined[key])  # it began a moment ago, in this batch
        else:
            one = finding if finding.cause in own else _join_upstream(finding, river, exceedances)
        if one.cause != finding.cause:
            joined[key] = one.cause
        if one.change is ConditionChange.FIRED and not one.retrospective and one.cause.startswith(WATER):
            exceedances.append(OpenExceedance(one.cause, one.station, one.parameter or "", one.since_ms, None))
            own.add(one.cause)
        elif one.change is not ConditionChange.FIRED and not one.retrospective:
            exceedances = [_ended(exceedance, one) for exceedance in exceedances]
        found.append(one)
    return found


def _group_retrospective(
    findings: Sequence[Finding], river: River, exceedances: Sequence[OpenExceedance], now_ms: int
) -> list[Finding]:
    """The retrospective findings with the cause of one upstream, or of one downstream that was found before them."""
    earlier, found = list(exceedances), []
    ends: dict[AlarmKey, list[int]] = {}
    for one in findings:
        if one.change is ConditionChange.RESOLVED:
            ends.setdefault(_key(one), []).append(one.observed_at_ms)
    for finding in findings:
        if not finding.retrospective:
            continue
        one = finding
        if _begins_here(finding):
            end_ms = min((at for at in ends.get(_key(finding), ()) if at >= finding.observed_at_ms), default=None)
            exceedance = OpenExceedance(
                finding.cause, finding.station, finding.parameter or "", finding.since_ms, end_ms
            )
            near = [other for other in earlier if _near(other, finding)]
            here = [other for other in near if other.station == finding.station]
            if here:  # one case of the station, whatever it joined
                nearest = min(here, key=lambda other: abs(other.since_ms - exceedance.since_ms))
                one = replace(finding, cause=nearest.cause)
            else:
                one = _join_up_or_downstream(finding, exceedance, river, near, now_ms)
            earlier.append(replace(exceedance, cause=one.cause))
        found.append(one)
    return found


def _key(one: Finding) -> AlarmKey:
    return one.rule, one.station, one.parameter or ""


def _ends_alone(one: Finding) -> bool:
    return one.change is ConditionChange.RESOLVED and one.cause == f"{WATER}{one.station}"


def _end_where_begun(connection: sa.Connection, findings: Sequence[Finding]) -> list[Finding]:
    """What ends gets the cause of the incident in which it is active, where its own incident has nothing of it."""
    active: dict[AlarmKey, set[str]] = {}
    for retrospective in (False, True):
        for rule, exceedance in _open_exceedances(connection, retrospective=retrospective):
            if exceedance.end_ms is None:
                active.setdefault((rule, exceedance.station, exceedance.parameter), set()).add(exceedance.cause)
    found = []
    for one in findings:
        if one.change is ConditionChange.FIRED:
            active.setdefault(_key(one), set()).add(one.cause)
        causes = active.get(_key(one), set())
        elsewhere = _ends_alone(one) and causes and one.cause not in causes
        found.append(replace(one, cause=min(causes)) if elsewhere else one)
    return found


def _join_up_or_downstream(
    one: Finding, exceedance: OpenExceedance, river: River, others: Sequence[OpenExceedance], now_ms: int
) -> Finding:
    """The finding of an ``exceedance`` with the cause of what explains it upstream or what it explains downstream."""
    if one.station not in river:
        return one
    explained = river.explain(river.station(one.station), exceedance.parameter, one.since_ms, others, now_ms)
    if explained is not None:
        return _with_cause(one, explained)
    for lower in others:
        below = lower.station in river and river.station(lower.station)
        if below and river.explain(below, lower.parameter, lower.since_ms, [exceedance], now_ms):
            return replace(one, cause=lower.cause)
    return one


def _near(exceedance: OpenExceedance, finding: Finding) -> bool:
    """Whether both may be one retrospective incident, by their times."""
    end_ms = exceedance.since_ms if exceedance.end_ms is None else exceedance.end_ms
    return exceedance.since_ms - JOIN_WITHIN_MS <= finding.since_ms <= end_ms + JOIN_WITHIN_MS


def _ended(exceedance: OpenExceedance, finding: Finding) -> OpenExceedance:
    """The exceedance, ended if the finding is of the same station and parameter."""
    same = (exceedance.station, exceedance.parameter) == (finding.station, finding.parameter)
    return replace(exceedance, end_ms=finding.observed_at_ms) if same and exceedance.end_ms is None else exceedance


_TRAVELS = frozenset(
    {
        FindingKind.THRESHOLD,
        FindingKind.RATE,
        FindingKind.CLASS,
        FindingKind.TARGET,
        FindingKind.BLACK_ODOROUS,
        FindingKind.EVENT,
    }
)
"""Kinds of findings whose water travels downstream as a front; a trend of days has none."""


def _join_upstream(one: Finding, river: River, exceedances: Sequence[OpenExceedance]) -> Finding:
    """The finding with the cause of what explains it upstream, unchanged where nothing does."""
    if not _may_come_from_upstream(one, river):
        return one
    station = river.station(one.station)
    explained = river.explain(station, one.parameter or "", one.since_ms, exceedances, one.observed_at_ms)
    if explained is None:
        return one
    cause = explained.by.cause
    same = (cause, one.station, one.parameter or "")
    if any((e.cause, e.station, e.parameter) == same and e.end_ms is not None for e in exceedances):
        return replace(one, cause=cause)  # the same case returned after it had ended here: people are paged again
    return _with_cause(one, explained)


def _may_come_from_upstream(one: Finding, river: River) -> bool:
    return _begins_here(one) and not one.retrospective and river.has_above(one.station)


def _begins_here(one: Finding) -> bool:
    """Whether a condition that travels begins in an incident of the station's own."""
    return one.change is ConditionChange.FIRED and one.kind in _TRAVELS and one.cause == f"{WATER}{one.station}"


def _with_cause(one: Finding, explained: UpstreamCause) -> Finding:
    text = say(
        "finding.downstream",
        text=one.text,
        upper=station_name(explained.upper),
        since=beijing(explained.by.since_ms),
        travel=duration_text(round(explained.way.typical_ms, -5)),
    )
    return replace(one, cause=explained.by.cause, text=text, explained=True)


def _retrospective_exceedances(connection: sa.Connection, findings: Sequence[Finding]) -> list[OpenExceedance]:
    """The exceedances of open retrospective incidents within a join time of these findings."""
    begin_ms = min(one.since_ms for one in findings) - 2 * JOIN_WITHIN_MS
    end_ms = max(one.observed_at_ms for one in findings) + 2 * JOIN_WITHIN_MS
    found = _open_exceedances(connection, retrospective=True)
    return [one for _, one in found if begin_ms <= one.since_ms <= end_ms]


def _open_exceedances(connection: sa.Connection, *, retrospective: bool) -> list[tuple[str, OpenExceedance]]:
    """The exceedances, active or over, of the open incidents about water, each with the rule that found it."""
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
