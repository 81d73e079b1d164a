"""Active findings: those recorded and not withdrawn since, by the order of the history entries.

A finding that is recorded again after a withdrawal, and withdrawn again, has an id of its own each time (``turn``).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from governance.incidents.finding import ConditionChange, Finding
from governance.incidents.finding import finding_id as identity
from governance.incidents.model import EntryKind
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_

MAX_TURNS = 20
"""How often one finding may be withdrawn and recorded again; afterwards it stays as it is."""

_BY_PEOPLE = frozenset({EntryKind.REPORTED, EntryKind.MERGED, EntryKind.EMERGENCY, EntryKind.SUPERVISED})
"""History entries after which an incident no longer rests on findings alone."""

IDS_PER_QUERY = 100
"""Findings looked up by one statement: 84 ids each."""


class ActiveFindings:
    """The history entries of some findings."""

    def __init__(self, entries: Iterable[tuple[int, str]]) -> None:
        """``entries`` are (number of the entry, id of the finding)."""
        self._newest: dict[str, int] = {}
        self._count: dict[str, int] = {}
        for number, id_ in sorted(entries):
            base = id_.partition(".")[0]
            self._newest[base] = number
            self._count[base] = self._count.get(base, 0) + 1

    def is_withdrawn(self, rule: str, station: str, parameter: str, at_ms: int) -> bool:
        """Whether the firing at that instant was withdrawn after it was recorded last."""
        fired, withdrawn = (
            ids_of(change, rule, station, parameter, at_ms)
            for change in (ConditionChange.FIRED, ConditionChange.WITHDRAWN)
        )
        return self._last(withdrawn) > self._last(fired)

    def with_next_turn(self, finding: Finding) -> Finding | None:
        """A recorded finding with its next ``turn``, if its opposite was recorded since; else None."""
        other = ConditionChange.FIRED if finding.change is ConditionChange.WITHDRAWN else ConditionChange.WITHDRAWN
        mine, opposite = (
            ids_of(change, finding.rule, finding.station, finding.parameter or "", finding.observed_at_ms)
            for change in (finding.change, other)
        )
        turn = sum(self._count.get(id_, 0) for id_ in opposite)
        is_new = self._last(opposite) > self._last(mine) and turn <= MAX_TURNS
        return replace(finding, turn=turn) if is_new else None

    def _last(self, ids: Iterable[str]) -> int:
        return max(self._newest.get(id_, 0) for id_ in ids)


def of_rules(
    connection: sa.Connection, rules: Collection[str], *, station: str | None = None, since_ms: int | None = None
) -> ActiveFindings:
    """The findings of these rules, at one station or observed since an instant."""
    c = entries_.c
    query = sa.select(c.id, c.finding_id).where(c.by.in_(sorted(rules)), c.finding_id.is_not(None))
    if station is not None:
        query = query.where(
            c.incident_id.in_(sa.select(conditions_.c.incident_id).where(conditions_.c.station == station))
        )
    if since_ms is not None:
        query = query.where(c.observed_at_ms >= since_ms)
    return ActiveFindings((number, id_) for number, id_ in connection.execute(query))


def without_active_findings(connection: sa.Connection, incident_ids: Collection[int]) -> set[int]:
    """Of these incidents those that rest on withdrawn findings alone, and that nobody reported or confirmed."""
    ids = sorted(incident_ids)
    c, e = conditions_.c, entries_.c
    found = connection.execute(
        sa.select(c.incident_id, c.rule, c.station, c.parameter, c.fired_at_ms).where(c.incident_id.in_(ids))
    ).all()
    recorded: dict[int, list[tuple[int, str]]] = {}
    by_people: set[int] = set()
    query = sa.select(e.id, e.incident_id, e.finding_id, e.what).where(e.incident_id.in_(ids))
    for number, incident_id, finding_id, what in connection.execute(query):
        if what in _BY_PEOPLE:
            by_people.add(incident_id)
        if finding_id is not None:
            recorded.setdefault(incident_id, []).append((number, finding_id))
    active = {incident_id: ActiveFindings(entries) for incident_id, entries in recorded.items()}
    with_findings = {
        one.incident_id
        for one in found
        if not active.get(one.incident_id, ActiveFindings(())).is_withdrawn(
            one.rule, one.station, one.parameter, one.fired_at_ms
        )
    }
    return active.keys() - with_findings - by_people


def new_findings(connection: sa.Connection, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that no entry records, in the order given.

    A finding whose opposite was recorded since counts as new, and so does what ends it.
    """
    ids = [finding.id for finding in findings]
    c = entries_.c
    seen = set(connection.execute(sa.select(c.finding_id).where(c.finding_id.in_(ids))).scalars())
    recorded = [f for f in findings if f.id in seen and f.change is not ConditionChange.RESOLVED]
    active = _active_findings_of(connection, recorded)
    turns: dict[tuple[str, str, str | None], int] = {}
    found = []
    for finding in findings:
        key = finding.rule, finding.station, finding.parameter
        if finding.id not in seen:
            found.append(finding)
        elif finding.change is ConditionChange.RESOLVED:
            found += [replace(finding, turn=turns[key])] if key in turns else []
        elif (again := active.with_next_turn(finding)) is not None:
            turns[key] = again.turn
            found.append(again)
    return found


def _active_findings_of(connection: sa.Connection, findings: Sequence[Finding]) -> ActiveFindings:
    c = entries_.c
    rows: list[tuple[int, str]] = []
    for start in range(0, len(findings), IDS_PER_QUERY):
        queries = [
            id_ if turn == 0 else f"{id_}.{turn}"
            for f in findings[start : start + IDS_PER_QUERY]
            for change in (ConditionChange.FIRED, ConditionChange.WITHDRAWN)
            for id_ in ids_of(change, f.rule, f.station, f.parameter or "", f.observed_at_ms)
            for turn in range(MAX_TURNS + 1)
        ]
        found = connection.execute(sa.select(c.id, c.finding_id).where(c.finding_id.in_(queries)))
        rows += [(number, id_) for number, id_ in found]
    return ActiveFindings(set(rows))


def ids_of(change: ConditionChange, rule: str, station: str, parameter: str, at_ms: int) -> tuple[str, str]:
    """The ids of a finding as a live and as a retrospective one."""
    live, past = (identity(rule, change, station, parameter, at_ms, past) for past in (False, True))
    return live, past
