"""A month's assessment as a table: what each share is of, and what the score is made of. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from governance.assessment import Assessment, GroupBy, Indicator, Row, Share
from infra.texts import Text
from infra.times import beijing, beijing_day


@dataclass(frozen=True, slots=True)
class Cell:
    """A share: ``text`` in percent ("—" where nothing can be told), and what it is of; "" where nobody records it."""

    text: str
    of: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table."""

    key: str
    name: Text
    cases: int
    cells: tuple[Cell, ...]
    improvement: str
    score: str


@dataclass(frozen=True, slots=True)
class AssessmentPage:
    """The table, its total, and what it rests on. ``trial``: the month, or its days of grace, are not over."""

    month: str
    by: GroupBy
    trial: bool
    lines: tuple[Line, ...]
    total: Line
    weights: tuple[tuple[Indicator, float], ...]
    grace_days: int
    recurrence_days: int
    example: bool
    until_ms: int
    last_n: int
    head: str


def page(made: Assessment, name: Callable[[str], Text], total: Text) -> AssessmentPage:
    """The page of an assessment."""
    whole = sum(weight for weight in made.formula.weights.values())
    return AssessmentPage(
        month=made.month,
        by=made.by,
        trial=made.trial,
        lines=tuple(_line(row, name(row.key)) for row in made.rows),
        total=_line(made.total, total),
        weights=tuple((i, made.formula.weights.get(i, 0.0) / whole if whole else 0.0) for i in Indicator),
        grace_days=made.formula.closing_grace_days,
        recurrence_days=made.formula.recurrence_days,
        example=made.formula.example,
        until_ms=made.until_ms,
        last_n=made.last_n,
        head=made.head,
    )


def _line(row: Row, name: Text) -> Line:
    better = row.improvement
    return Line(
        key=row.key,
        name=name,
        cases=row.cases,
        cells=tuple(_cell(row.shares[indicator]) for indicator in Indicator),
        improvement="—" if better is None else f"{100 * better:+.1f}",
        score="—" if row.score is None else f"{row.score:.1f}",
    )


def _cell(share: Share) -> Cell:
    if not share.available:
        return Cell("", "")
    value = share.value
    return Cell("—" if value is None else f"{value:.0%}", f"{share.good}/{share.of}")


def month_now(now_ms: int) -> str:
    """The month in Beijing: ``2026-10``."""
    return beijing(now_ms, "%Y-%m")


def months(now_ms: int, count: int = 13) -> list[str]:
    """This month and those before it, newest first."""
    day = beijing_day(now_ms)
    found = []
    for i in range(count):
        index = 12 * day.year + day.month - 1 - i
        found.append(f"{index // 12}-{index % 12 + 1:02d}")
    return found
