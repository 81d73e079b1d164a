"""Which findings stand: what was told and nobody took back since. The entries of the incidents tell, in their order.

What is told again after it was taken back, and taken back again, is news each time and has an id of its own.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from governance.incidents.finding import Change, Finding, identity
from governance.incidents.model import What
from governance.tables import incident_condition as conditions_
from governance.tables import incident_entry as entries_

TURNS = 20
"""So often somebody may change their mind about one finding; afterwards it stays as it is."""

_BY_PEOPLE = frozenset({What.REPORTED, What.MERGED, What.EMERGENCY, What.SUPERVISED})
"""What makes an incident more than what was measured."""

AT_ONCE = 100
"""Findings asked for by one statement: 84 ids each."""


class ActiveFindings:
    """The entries that some findings made."""

    def __init__(self, entries: Iterable[tuple[int, str]]) -> None:
        """``entries`` are (number of the entry, id of the finding)."""
        self._newest: dict[str, int] = {}
        self._count: dict[str, int] = {}
        for number, id_ in sorted(entries):
            told = id_.partition(".")[0]
            self._newest[told] = number
            self._count[told] = self._count.get(told, 0) + 1

    def is_withdrawn(self, rule: str, station: str, parameter: str, at_ms: int) -> bool:
        """Whether what fired then was withdrawn since it was told last."""
        told, back = (ids_of(change, rule, station, parameter, at_ms) for change in (Change.FIRED, Change.WITHDRAWN))
        return self._last(back) > self._last(told)

    def turned(self, finding: Finding) -> Finding | None:
        """A finding that was told before as it is news again: its opposite was told since. None where it is no news."""
        other = Change.FIRED if finding.change is Change.WITHDRAWN else Change.WITHDRAWN
        mine, opposite = (
            ids_of(change, finding.rule, finding.station, finding.parameter or "", finding.observed_at_ms)
            for change in (finding.change, other)
        )
        turn = sum(self._count.get(id_, 0) for id_ in opposite)
        news = self._last(opposite) > self._last(mine) and turn <= TURNS
        return replace(finding, turn=turn) if news else None

    def _last(self, told: Iterable[str]) -> int:
        return max(self._newest.get(id_, 0) for id_ in told)


def of_rules(
    connection: sa.Connection, rules: Collection[str], *, station: str | None = None, since_ms: int | None = None
) -> ActiveFindings:
    """What these rules told: at a station, or of what was observed since then."""
    c = entries_.c
    query = sa.select(c.id, c.finding_id).where(c.by.in_(sorted(rules)), c.finding_id.is_not(None))
    if station is not None:
        query = query.where(
            c.incident_id.in_(sa.select(conditions_.c.incident_id).where(conditions_.c.station == station))
        )
    if since_ms is not None:
        query = query.where(c.observed_at_ms >= since_ms)
    return ActiveFindings((number, id_) for number, id_ in connection.execute(query))


def baseless(connection: sa.Connection, incident_ids: Collection[int]) -> set[int]:
    """Of these incidents those in which all that was found has been taken back, and of which nobody knew by
    themselves: nothing is left to be called for."""
    mine = sorted(incident_ids)
    c, e = conditions_.c, entries_.c
    found = connection.execute(
        sa.select(c.incident_id, c.rule, c.station, c.parameter, c.fired_at_ms).where(c.incident_id.in_(mine))
    ).all()
    told: dict[int, list[tuple[int, str]]] = {}
    by_people: set[int] = set()
    query = sa.select(e.id, e.incident_id, e.finding_id, e.what).where(e.incident_id.in_(mine))
    for number, incident_id, finding_id, what in connection.execute(query):
        if what in _BY_PEOPLE:
            by_people.add(incident_id)
        if finding_id is not None:
            told.setdefault(incident_id, []).append((number, finding_id))
    standing = {incident_id: ActiveFindings(entries) for incident_id, entries in told.items()}
    stands = {
        one.incident_id
        for one in found
        if not standing.get(one.incident_id, ActiveFindings(())).is_withdrawn(
            one.rule, one.station, one.parameter, one.fired_at_ms
        )
    }
    return standing.keys() - stands - by_people


def unseen(connection: sa.Connection, findings: Sequence[Finding]) -> list[Finding]:
    """The findings no entry tells of, in the order given; one that was taken back since, or told again, counts anew,
    and with it what ends it."""
    ids = [finding.id for finding in findings]
    c = entries_.c
    seen = set(connection.execute(sa.select(c.finding_id).where(c.finding_id.in_(ids))).scalars())
    known = [f for f in findings if f.id in seen and f.change is not Change.RESOLVED]
    standing = _of(connection, known)
    turns: dict[tuple[str, str, str | None], int] = {}
    found = []
    for finding in findings:
        key = finding.rule, finding.station, finding.parameter
        if finding.id not in seen:
            found.append(finding)
        elif finding.change is Change.RESOLVED:
            found += [replace(finding, turn=turns[key])] if key in turns else []
        elif (again := standing.turned(finding)) is not None:
            turns[key] = again.turn
            found.append(again)
    return found


def _of(connection: sa.Connection, findings: Sequence[Finding]) -> ActiveFindings:
    c = entries_.c
    rows: list[tuple[int, str]] = []
    for start in range(0, len(findings), AT_ONCE):
        asked = [
            id_ if turn == 0 else f"{id_}.{turn}"
            for f in findings[start : start + AT_ONCE]
            for change in (Change.FIRED, Change.WITHDRAWN)
            for id_ in ids_of(change, f.rule, f.station, f.parameter or "", f.observed_at_ms)
            for turn in range(TURNS + 1)
        ]
        found = connection.execute(sa.select(c.id, c.finding_id).where(c.finding_id.in_(asked)))
        rows += [(number, id_) for number, id_ in found]
    return ActiveFindings(set(rows))


def ids_of(change: Change, rule: str, station: str, parameter: str, at_ms: int) -> tuple[str, str]:
    """The ids of what was told in time, and of the past."""
    live, past = (identity(rule, change, station, parameter, at_ms, past) for past in (False, True))
    return live, past
