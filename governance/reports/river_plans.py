"""River plans (一河一策): the goals of a reach, who is responsible for them, by when, and their progress.

A plan is replaced as a whole; every version stays in the audit trail.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.tables import plan as table


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: what, the measure, who is responsible, by which day (``2026-12-31``), and progress from 0 to 1."""

    goal: str
    measure: str = ""
    responsible: str = ""
    due: str = ""
    progress: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a reach; ``version`` counts from 1."""

    reach: str
    problem: str
    goals: Sequence[Goal]
    version: int
    changed_at_ms: int
    changed_by: str


def get(connection: sa.Connection, reach: str, *, lock: bool = False) -> Plan | None:
    """The plan of a reach; None where there is none. With ``lock`` it is locked until the transaction ends."""
    query = sa.select(table).where(table.c.reach == reach)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    goals = tuple(Goal(**goal) for goal in row.goals)
    return Plan(row.reach, row.problem, goals, row.version, row.changed_at_ms, row.changed_by)


def put(
    connection: sa.Connection, reach: str, problem: str, goals: Sequence[Goal], *, by: str, role: str, now_ms: int
) -> Plan:
    """Replace the plan of a reach and append the change to the audit trail."""
    before = get(connection, reach)
    version = 1 if before is None else before.version + 1
    values = {
        "problem": problem,
        "goals": [asdict(goal) for goal in goals],
        "version": version,
        "changed_at_ms": now_ms,
        "changed_by": by,
    }
    if before is None:
        connection.execute(sa.insert(table).values(reach=reach, **values))
    else:
        connection.execute(sa.update(table).where(table.c.reach == reach).values(**values))
    audit_trail.append(connection, "plan.changed", kind="plan", id=reach, body=values, by=by, role=role, at_ms=now_ms)
    return Plan(reach, problem, tuple(goals), version, now_ms, by)
