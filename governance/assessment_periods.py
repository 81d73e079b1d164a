"""Marked periods of an assessment: days of bad weather, works or no power at a water, entered by the office.

They change no figure: both numbers, with and without their days, are shown. A period that is withdrawn stays in the
record. Every function takes an open connection and never commits.
"""

from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.tables import assessment_period as table
from infra.errors import ConfigurationError, NotFound
from infra.records import from_row
from infra.texts import say

MAX_DAYS = 92
"""A longer period is entered in parts: three months are one assessment quarter."""
REASON_LIMIT = 500


class PeriodKind(StrEnum):
    """What a period was."""

    RAIN = "rain"
    TYPHOON = "typhoon"
    WORKS = "works"
    POWER = "power"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NewPeriod:
    """From ``first`` to ``last``, both included (``2026-10-03``, Beijing), in a region ("" everywhere), on one reach
    ("" on all of its waters)."""

    kind: PeriodKind
    first: str
    last: str
    region: str
    reach: str
    reason: str


@dataclass(frozen=True, slots=True)
class Period:
    """A period with who entered it, and who withdrew it ("": nobody)."""

    id: int
    kind: PeriodKind
    first: str
    last: str
    region: str
    reach: str
    reason: str
    by: str
    at_ms: int
    withdrawn_by: str
    withdrawn_at_ms: int | None


def add(connection: sa.Connection, new: NewPeriod, *, by: str, role: str, now_ms: int) -> Period:
    """Enter a period. Raises ConfigurationError for days that cannot be and for no reason."""
    try:
        first, last = date.fromisoformat(new.first), date.fromisoformat(new.last)
    except ValueError:
        raise ConfigurationError(say("assessment.period_days", most=MAX_DAYS)) from None
    if not 0 <= (last - first).days < MAX_DAYS:
        raise ConfigurationError(say("assessment.period_days", most=MAX_DAYS))
    if not 0 < len(new.reason.strip()) <= REASON_LIMIT:
        raise ConfigurationError(say("assessment.needs_reason", most=REASON_LIMIT))
    row = asdict(new) | {
        "kind": new.kind.value,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "reason": new.reason.strip(),
    }
    values = row | {"by": by, "at_ms": now_ms}
    number = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
    audit_trail.append(
        connection, "period.marked", kind="period", id=str(number), body=row, by=by, role=role, at_ms=now_ms
    )
    return get(connection, number)


def withdraw(connection: sa.Connection, number: int, *, by: str, role: str, now_ms: int) -> Period:
    """Withdraw a period; it stays in the record. Raises NotFound for one that is not there or was withdrawn."""
    where = (table.c.id == number) & table.c.withdrawn_at_ms.is_(None)
    changed = connection.execute(sa.update(table).where(where).values(withdrawn_by=by, withdrawn_at_ms=now_ms)).rowcount
    if changed != 1:
        raise NotFound(say("assessment.no_period", number=number))
    audit_trail.append(
        connection, "period.withdrawn", kind="period", id=str(number), body={}, by=by, role=role, at_ms=now_ms
    )
    return get(connection, number)


def get(connection: sa.Connection, number: int) -> Period:
    """One period. Raises NotFound."""
    row = connection.execute(sa.select(table).where(table.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(say("assessment.no_period", number=number))
    return from_row(Period, row, kind=PeriodKind(row.kind))


def of_month(connection: sa.Connection, month: str) -> list[Period]:
    """The periods in force that touch a month (``2026-10``), by their days."""
    query = sa.select(table).where(
        table.c.first <= f"{month}-31", table.c.last >= f"{month}-01", table.c.withdrawn_at_ms.is_(None)
    )
    rows = connection.execute(query.order_by(table.c.first, table.c.id))
    return [from_row(Period, row, kind=PeriodKind(row.kind)) for row in rows]
