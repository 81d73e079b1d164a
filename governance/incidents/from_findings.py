"""Findings become changes of incidents. Pure.

`affected_incidents` says which incidents a finding concerns, `apply_finding` what it changes in one. What people change
is in `governance.incidents.lifecycle`, what time changes in `governance.incidents.reminders`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import title
from governance.incidents.model import (
    Case,
    Condition,
    Effects,
    Entry,
    EntryKind,
    EventType,
    Incident,
    Notify,
    Source,
    State,
    recovery_time_ms,
    with_condition,
)
from governance.incidents.step_deadline import with_shortened_deadline, with_step_deadline
from governance.organisation.regions import NOWHERE, Place
from infra.times import DAY_MS

JOIN_WITHIN_MS = DAY_MS
"""Late findings of one cause at most this far apart in event time are one retrospective incident."""


def affected_incidents(incidents: Iterable[Incident], finding: Finding) -> tuple[Incident | None, ...]:
    """The incidents that a finding concerns; None stands for one that has to be opened.

    FIRED and RESOLVED concern open incidents of the finding's cause.

    FIRED concerns exactly one. Live: the live incident (of several the one that has this condition), else the
    retrospective one in which the same condition is still active (it will be promoted), else a new one. Retrospective:
    the nearest retrospective one in event time, no further than ``JOIN_WITHIN_MS``, else a new one.

    RESOLVED concerns every incident in which that condition is active, possibly none; late data concern retrospective
    ones only, for they end nothing that is live.

    WITHDRAWN concerns every open incident that rests on that firing, whether its condition is active or not and
    whatever its cause; where none is open, those in a final state, except merged ones.
    """
    if finding.change is ConditionChange.WITHDRAWN:
        return _affected_by_withdrawal(incidents, finding)
    same = [i for i in incidents if finding.cause in i.causes and i.is_open]
    if finding.change is ConditionChange.RESOLVED:
        active = [i for i in same if _ended_condition(i, finding) and (i.retrospective or not finding.retrospective)]
        # The incident of the finding's own sort first: it is the one whose entry carries the finding's id.
        return tuple(sorted(active, key=lambda i: (i.retrospective != finding.retrospective, i.id)))
    return (_joined_late(same, finding) if finding.retrospective else _joined_live(same, finding),)


def _affected_by_withdrawal(incidents: Iterable[Incident], finding: Finding) -> tuple[Incident, ...]:
    found = [
        (i, c) for i in incidents if i.case.merged_into is None and (c := _withdrawn_condition(i, finding)) is not None
    ]
    newest = [i for i, c in found if c.fired_at_ms == finding.observed_at_ms]
    affected = newest or [i for i, _ in found]
    return tuple([i for i in affected if i.is_open] or affected)


def _joined_live(same: Iterable[Incident], finding: Finding) -> Incident | None:
    """The incident of the same cause that a live firing joins; None where it opens one."""
    same = list(same)
    live = sorted((i for i in same if not i.retrospective), key=lambda i: _key(finding) not in _keys(i))
    promoted = [i for i in same if any(c.key == _key(finding) for c in i.active)]
    newest = sorted(promoted, key=lambda i: i.last_observed_at_ms, reverse=True)
    return next(iter((*live, *newest)), None)


def _joined_late(same: Iterable[Incident], finding: Finding) -> Incident | None:
    """The retrospective incident of the same cause that a late firing joins; None where it opens one."""
    near = [i for i in same if i.retrospective and _gap_ms(i, finding) <= JOIN_WITHIN_MS]
    return min(near, key=lambda i: (_gap_ms(i, finding), i.id), default=None)


def apply_finding(
    incident: Incident | None,
    finding: Finding,
    now_ms: int,
    *,
    place: Place = NOWHERE,
    policy: DeadlinePolicy = DEFAULT_POLICY,
) -> tuple[Incident, Effects] | None:
    """Apply a finding to an incident that `affected_incidents` named; None when it changes nothing.

    ``place`` is where a new incident lies. The store ensures that a finding is applied once: it has every entry
    ever written.
    """
    if finding.change is ConditionChange.RESOLVED:
        return None if incident is None else _resolve(incident, finding, now_ms)
    if finding.change is ConditionChange.WITHDRAWN:
        return None if incident is None else _withdraw(incident, finding, now_ms)
    if incident is None:
        return _open(finding, now_ms, place, policy)
    return _append(incident, finding, now_ms, policy)


def _keys(incident: Incident) -> frozenset[tuple[str, str, str]]:
    return frozenset(c.key for c in incident.conditions)


_SOURCES: Mapping[FindingKind, Source] = {
    FindingKind.EVENT: Source.EVENT,
    FindingKind.FORECAST: Source.FORECAST,
    FindingKind.DEVICE: Source.DEVICE,
}
"""The source of incidents whose findings do not come from a rule."""


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.rule, finding.station, finding.parameter or ""


def _gap_ms(incident: Incident, finding: Finding) -> int:
    """Event time between the two spans, 0 where they touch or overlap."""
    return max(0, finding.since_ms - incident.last_observed_at_ms, incident.since_ms - finding.observed_at_ms)


def _ended_condition(incident: Incident, finding: Finding) -> Condition | None:
    """The active condition that a RESOLVED ends; late data cannot end a condition that began after them."""
    for condition in incident.active:
        if condition.key == _key(finding):
            later = finding.retrospective and condition.since_ms > finding.observed_at_ms
            return None if later else condition
    return None


def _withdrawn_condition(incident: Incident, finding: Finding) -> Condition | None:
    """The condition whose firing a WITHDRAWN revokes: its newest firing, or an earlier one."""
    for condition in incident.conditions:
        before = incident.since_ms <= finding.observed_at_ms < condition.since_ms
        if condition.key == _key(finding) and (before or condition.fired_at_ms == finding.observed_at_ms):
            return condition
    return None


def _fired(incident: Incident | None, finding: Finding) -> Condition:
    """The finding's condition after it fired; late data do not reactivate a condition that ended after them."""
    by_key = {c.key: c for c in incident.conditions} if incident else {}
    before = by_key.get(_key(finding))
    if before is None:
        return Condition(*_key(finding), finding.since_ms, finding.observed_at_ms)
    if finding.retrospective and before.resolved_at_ms is not None and before.resolved_at_ms > finding.observed_at_ms:
        return before
    since_ms = max(before.since_ms, finding.since_ms)
    return replace(
        before, since_ms=since_ms, fired_at_ms=max(before.fired_at_ms, finding.observed_at_ms), resolved_at_ms=None
    )


def _entry(before: Incident | None, after: Incident, finding: Finding, what: EntryKind, now_ms: int) -> Entry:
    return Entry(
        seq=after.version,
        at_ms=now_ms,
        observed_at_ms=finding.observed_at_ms,
        what=what,
        by=finding.rule,
        from_state=before.state if before else None,
        to_state=after.state,
        text=finding.text,
        finding_id=finding.id,
        value=finding.value,
        limit=finding.limit,
        details=_details(finding),
    )


def _headline_fields(finding: Finding) -> dict[str, Any]:
    """The fields of an incident that come from the finding which gave it its colour."""
    return {
        "colour": finding.colour,
        "kind": finding.kind,
        "station": finding.station,
        "parameter": finding.parameter,
        "title": finding.text if finding.headline is None else title(finding.headline),
        "headline": finding.headline,
        "rule": finding.rule,
        "rule_version": finding.version,
        "value": finding.value,
        "limit": finding.limit,
        "observed_at_ms": finding.observed_at_ms,
    }


def _details(finding: Finding) -> dict[str, Any]:
    """What an entry keeps of a finding beside its text: the rule's version, the place and the evidence."""
    found: dict[str, Any] = {"version": finding.version, "kind": finding.kind.value, "station": finding.station}
    found |= {"parameter": finding.parameter} if finding.parameter else {}
    return found if finding.headline is None else found | {"headline": finding.headline.as_json()}


def _open(finding: Finding, now_ms: int, place: Place, policy: DeadlinePolicy) -> tuple[Incident, Effects]:
    past = finding.retrospective
    condition = _fired(None, finding)
    opened = Incident(
        id=0,
        cause=finding.cause,
        open_cause=f"{finding.cause}|past|{finding.since_ms}" if past else finding.cause,
        state=State.REPORTED,
        retrospective=past,
        **_headline_fields(finding) | ({"colour": Colour.BLUE} if past else {}),
        since_ms=finding.since_ms,
        last_observed_at_ms=finding.observed_at_ms,
        opened_at_ms=now_ms,
        conditions=(condition,),
        place=place,
        case=Case(source=_SOURCES.get(finding.kind, Source.RULE)),
    )
    opened = with_step_deadline(opened, now_ms, policy)
    entry = _entry(None, opened, finding, EntryKind.FIRED, now_ms)
    quiet = past or finding.kind is FindingKind.FORECAST
    return opened, Effects(entry, EventType.OPENED, Notify.INFORM if quiet else Notify.PAGE, (condition,))


def _append(incident: Incident, finding: Finding, now_ms: int, policy: DeadlinePolicy) -> tuple[Incident, Effects]:
    live, forecast = not finding.retrospective, finding.kind is FindingKind.FORECAST
    promoted = live and incident.retrospective and not forecast
    forecast_came_true = live and incident.kind is FindingKind.FORECAST and not forecast
    more_urgent = forecast_came_true or (live and not forecast and finding.colour.rank < incident.colour.rank)
    returned = live and not forecast and not finding.explained and incident.recovered_at_ms is not None
    condition = _fired(incident, finding)
    after = replace(
        incident,
        since_ms=min(incident.since_ms, finding.since_ms),
        last_observed_at_ms=max(incident.last_observed_at_ms, finding.observed_at_ms),
        recovered_at_ms=_still_recovered(incident, condition, finding),
        version=incident.version + 1,
        conditions=with_condition(incident.conditions, condition),
    )
    if promoted:
        after = replace(after, retrospective=False, open_cause=incident.cause)
    if promoted or more_urgent:
        after = replace(after, **_headline_fields(finding))
        after = with_step_deadline(after, now_ms, policy) if promoted else with_shortened_deadline(after, policy)
    entry = _entry(incident, after, finding, EntryKind.PROMOTED if promoted else EntryKind.FIRED, now_ms)
    notify = Notify.PAGE if promoted or more_urgent or returned else Notify.INFORM
    return after, _update(incident, after, entry, notify, condition)


def _still_recovered(incident: Incident, condition: Condition, finding: Finding) -> int | None:
    """The time of recovery that remains after a firing.

    Late data older than the recovery of a live incident do not undo it: otherwise the next live firing would look like
    a repetition and page nobody.
    """
    if incident.recovered_at_ms is None or not finding.retrospective:
        return None
    older = not incident.retrospective and finding.observed_at_ms <= incident.recovered_at_ms
    return incident.recovered_at_ms if older or not condition.active else None


def _resolve(incident: Incident, finding: Finding, now_ms: int) -> tuple[Incident, Effects] | None:
    ended = _ended_condition(incident, finding)
    if ended is None:
        return None
    condition = replace(ended, resolved_at_ms=finding.observed_at_ms)
    seen = replace(incident, last_observed_at_ms=max(incident.last_observed_at_ms, finding.observed_at_ms))
    return _with_condition_ended(incident, seen, condition, finding, EntryKind.RESOLVED, now_ms)


def _withdraw(incident: Incident, finding: Finding, now_ms: int) -> tuple[Incident, Effects] | None:
    """Revoke a firing: its condition ends, unless it fired again later, and the history says why."""
    revoked = _withdrawn_condition(incident, finding)
    if revoked is None:
        return None
    later = revoked.active and revoked.fired_at_ms != finding.observed_at_ms
    ended_ms = None if later else max(finding.observed_at_ms, revoked.resolved_at_ms or 0)
    condition = replace(revoked, resolved_at_ms=ended_ms)
    seen = incident
    if finding.kind is FindingKind.DEVICE and finding.headline is not None and incident.rule == finding.rule:
        # not the water but the instrument: the incident is about the device from now on
        seen = replace(incident, kind=finding.kind, title=title(finding.headline), headline=finding.headline)
    after, effects = _with_condition_ended(incident, seen, condition, finding, EntryKind.WITHDRAWN, now_ms)
    return after, replace(effects, repeats=False)  # no later event says it


def _with_condition_ended(
    before: Incident, seen: Incident, condition: Condition, finding: Finding, what: EntryKind, now_ms: int
) -> tuple[Incident, Effects]:
    """The incident after this condition ended; it has recovered when all conditions have."""
    conditions = with_condition(before.conditions, condition)
    ended_ms = recovery_time_ms(conditions)
    after = replace(
        seen,
        recovered_at_ms=before.recovered_at_ms if ended_ms is None else ended_ms,
        version=before.version + 1,
        conditions=conditions,
    )
    entry = _entry(before, after, finding, what, now_ms)
    return after, _update(before, after, entry, Notify.INFORM, condition)


def _update(before: Incident, after: Incident, entry: Entry, notify: Notify, condition: Condition) -> Effects:
    """The effects of one more finding; it repeats where state, colour, kind and retrospective stay the same."""

    def summary(incident: Incident) -> tuple[object, ...]:
        return incident.state, incident.colour, incident.kind, incident.retrospective

    return Effects(entry, EventType.UPDATED, notify, (condition,), repeats=summary(before) == summary(after))
