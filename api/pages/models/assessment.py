"""A month's assessment as tables by river and by unit: the water first, then the work. Pure.

A figure that nobody knows is ``None`` and shown as "—": never 0. Rows stand by name and are not ranked.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from api.requests import whole_number
from governance.assessment.model import Assessment, Case, DayOfWater, GroupBy, Indicator, Row, Share, WaterOfReach
from infra.texts import Text
from infra.times import beijing, beijing_day
from sensors.standards.gb3838 import WaterClass

ALL = "*"
"""The row of all in an address."""
TABLES = (GroupBy.REACH, GroupBy.STREET)
"""What stands in a table each; persons do not."""


class Column(StrEnum):
    """A column of the tables, outcome before activity."""

    WATER = "water"
    MONTH = "month"
    YEAR = "year"
    RECURRENCE = "recurrence"
    CITIZENS = "citizens"
    CLOSING = "closing"
    HANDLING = "handling"
    ACCEPTANCE = "acceptance"
    REOPENED = "reopened"
    PATROLS = "patrols"
    DATA = "data"


OUTCOME = (Column.WATER, Column.MONTH, Column.YEAR, Column.RECURRENCE, Column.CITIZENS)
ACTIVITY = tuple(column for column in Column if column not in OUTCOME)
OF_CASES = {
    Column.RECURRENCE: Indicator.RECURRENCE,
    Column.CLOSING: Indicator.CLOSING,
    Column.HANDLING: Indicator.HANDLING,
    Column.ACCEPTANCE: Indicator.ACCEPTANCE,
}
"""Columns that are indicators of incidents."""
OPENED = (*OF_CASES, Column.WATER, Column.CITIZENS, Column.REOPENED, Column.PATROLS, Column.DATA)
"""Columns whose numbers open their rows; the comparisons open those of the water."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What citizens said of an incident: their reports of it, and how many say that it is not solved."""

    reports: int = 0
    unsolved: int = 0

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.reports + other.reports, self.unsolved + other.unsolved)


@dataclass(frozen=True, slots=True)
class Sources:
    """What the assessment shows beside the trail: ``verdicts`` by incident, valid ``patrols`` by reach (None: nobody
    records patrols), readings stored of those sent by reach, reaches with planned work in the month, and the km of
    water by reach that patrols passed."""

    verdicts: Mapping[int, Verdict]
    patrols: Mapping[str, int] | None
    arrived: Mapping[str, Share]
    works: Collection[str]
    passed_km: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassChange:
    """The class on most days of two months; None where there was none."""

    now: WaterClass | None
    then: WaterClass | None

    @property
    def steps(self) -> int | None:
        """Classes gained; negative: lost. None where either is unknown."""
        return None if self.now is None or self.then is None else int(self.then) - int(self.now)


@dataclass(frozen=True, slots=True)
class Change:
    """Reaches that show a better, a worse and the same class on most days; of one reach the change itself."""

    better: int = 0
    worse: int = 0
    same: int = 0
    one: ClassChange | None = None

    @property
    def known(self) -> bool:
        return bool(self.better or self.worse or self.same)


@dataclass(frozen=True, slots=True)
class Line:
    """A row: shares of the work, how the class changed, and the figures beside the trail."""

    key: str
    name: Text
    cases: int
    shares: Mapping[Column, Share]
    improvement: float | None
    changes: Mapping[Column, Change]
    citizens: Verdict
    score: float | None
    works: bool
    reaches: tuple[str, ...]
    affected: Mapping[str, int] = field(default_factory=dict)
    passed_km: float = 0.0
    without: Mapping[Column, Share] = field(default_factory=dict)
    """The shares that change without the days under marked periods and the incidents opened on them."""
    score_without: float | None = None

    def known(self, column: Column) -> bool:
        """Whether there is anything to tell in a column; a phone names those of which there is nothing in one line."""
        if column in self.changes:
            return self.changes[column].known
        if column is Column.CITIZENS:
            return bool(self.citizens.reports)
        return self.shares[column].value is not None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``total`` is of everything the reader may see."""

    by: GroupBy
    lines: tuple[Line, ...]
    total: Line


@dataclass(frozen=True, slots=True)
class Naming:
    """How rows are called, to which of them a reach belongs, and to which a region."""

    name: Callable[[str], Text]
    of_reach: Callable[[str], Sequence[str]]
    street: Callable[[str], str]


def table(made: Assessment, naming: Naming, total: Text, more: Sources, measured: Iterable[str] = ()) -> Table:
    """The table of an assessment: its rows by name, and their total.

    ``measured`` are the reaches with a station: of those that the trail does not name the figures are unknown.
    """
    unknown = {indicator: Share() for indicator in Indicator}
    rows = {row.key: row for row in made.rows}
    rows |= {key: Row(key, unknown, None, None, 0) for key in measured if made.by is GroupBy.REACH and key not in rows}
    reaches: dict[str, list[str]] = {}
    for reach in sorted({*made.water, *more.arrived, *(more.patrols or {}), *measured}):
        for key in naming.of_reach(reach):
            reaches.setdefault(key, []).append(reach)
    cases: dict[str, list[Case]] = {}
    for case in made.cases:
        cases.setdefault(key_of(made.by, case, naming.street), []).append(case)
    lines = [
        _line(made, row, naming.name(row.key), reaches.get(row.key, []), cases.get(row.key, []), more)
        for row in rows.values()
    ]
    seen = sorted({reach for key, mine in reaches.items() if key in rows for reach in mine})
    lines.sort(key=lambda line: (not line.key, line.name.zh))
    return Table(made.by, tuple(lines), _line(made, made.total, total, seen, made.cases, more))


def _line(made: Assessment, row: Row, name: Text, reaches: Sequence[str], cases: Sequence[Case], more: Sources) -> Line:
    of_all = row is made.total
    alone = made.by is GroupBy.REACH and not of_all
    water = [made.water[reach] for reach in reaches if reach in made.water]
    real = [case for case in cases if not case.dropped]
    shares = {column: row.shares[indicator] for column, indicator in OF_CASES.items()}
    shares[Column.WATER] = row.shares[Indicator.WATER]
    shares[Column.REOPENED] = Share(sum(case.reopened for case in real), len(real))
    shares[Column.PATROLS] = _coverage(reaches, more.patrols, alone)
    shares[Column.DATA] = sum((more.arrived[reach] for reach in reaches if reach in more.arrived), Share())
    return Line(
        key=ALL if of_all else row.key,
        name=name,
        cases=row.cases,
        shares=shares,
        improvement=row.improvement,
        changes={
            Column.MONTH: _change([(one.days, one.before) for one in water], alone),
            Column.YEAR: _change([(one.days, one.year_before) for one in water], alone),
        },
        citizens=sum((more.verdicts.get(case.id, Verdict()) for case in cases), Verdict()),
        score=row.score,
        works=any(reach in more.works for reach in reaches),
        reaches=tuple(reaches),
        affected=row.affected,
        passed_km=sum(more.passed_km.get(reach, 0.0) for reach in reaches),
        without=_without(row),
        score_without=None if row.without is None else row.without.score,
    )


def _without(row: Row) -> dict[Column, Share]:
    if row.without is None:
        return {}
    names = {**OF_CASES, Column.WATER: Indicator.WATER}
    found = {column: row.without.shares[name] for column, name in names.items()}
    return {column: share for column, share in found.items() if share != row.shares[names[column]]}


def _coverage(reaches: Sequence[str], patrols: Mapping[str, int] | None, alone: bool) -> Share:
    """Of a reach its valid patrols; of several how many of them were walked. Not available: nobody records patrols."""
    if patrols is None:
        return Share(available=False)
    if alone:
        count = sum(patrols.get(reach, 0) for reach in reaches)
        return Share(count, count)
    return Share(sum(patrols.get(reach, 0) > 0 for reach in reaches), len(reaches))


def key_of(by: GroupBy, case: Case, street: Callable[[str], str]) -> str:
    """The row that an incident belongs to."""
    return case.reach if by is GroupBy.REACH else street(case.region)


def counts(column: Column, case: Case, verdict: Verdict) -> Share:
    """What an incident adds to a column: nothing of nothing where it does not concern it."""
    if column is Column.ACCEPTANCE:
        return case.acceptance
    if column is Column.CITIZENS:
        return Share(verdict.unsolved, verdict.reports)
    if case.dropped:
        return Share()
    if column is Column.HANDLING:
        return case.handling
    if column is Column.RECURRENCE:
        return Share(int(not case.recurred), 1)
    if column is Column.REOPENED:
        return Share(int(case.reopened), 1)
    return Share(int(case.closed_at_ms is not None), 1)


def prevailing(days: Iterable[DayOfWater]) -> WaterClass | None:
    """The class on most days, the worse of two that were as frequent; None where no day could be judged."""
    found = Counter(WaterClass.of(day.water_class) for day in days if day.water_class)
    return max(found, key=lambda one: (found[one], one)) if found else None


def _change(pairs: Iterable[tuple[Sequence[DayOfWater], Sequence[DayOfWater]]], alone: bool) -> Change:
    found = [ClassChange(prevailing(now), prevailing(then)) for now, then in pairs]
    steps = [one.steps for one in found if one.steps is not None]
    return Change(
        better=sum(step > 0 for step in steps),
        worse=sum(step < 0 for step in steps),
        same=sum(step == 0 for step in steps),
        one=found[0] if alone and found else None,
    )


def days_of(water: Mapping[str, WaterOfReach], reaches: Iterable[str]) -> list[tuple[str, DayOfWater]]:
    """(Reach, day) of some reaches in the month, newest first."""
    found = [(reach, day) for reach in reaches for day in water.get(reach, WaterOfReach()).days]
    return sorted(found, key=lambda pair: (-pair[1].at_ms, pair[0]))


def piece(total: int, page: str, size: int) -> tuple[int, int, bool]:
    """First, end and whether there are more of a list that shows ``page`` times ``size`` from its beginning."""
    number = min(whole_number(page, 5) or 1, 1000)
    return 0, number * size, total > number * size


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
