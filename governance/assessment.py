"""Assessment (考核): how a month's work was done, by chief, street or reach. Pure, and made from the trail alone.

Whoever has the trail's entries gets the same numbers: incidents and their deadlines come from the entries
``incident.*``, the water's class from the daily entry ``water.classes``. Who patrolled comes from a :class:`Patrols`
where there is one. Everything concerns the incidents opened in the month (Beijing time), judged by what had happened
``closing_grace_days`` after its end.

The weights stand in ``config/assessment.toml`` and are an example.
"""

import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypedDict

import msgspec

from governance.audit.merkle import Line
from governance.organisation.roles import Role
from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import sentence
from infra.times import BEIJING, DAY_MS, to_ms

CLASSES = "water.classes"
"""The daily entry of the class that every reach shows."""

_HANDLERS = frozenset({"dispatched", "transferred", "rework", "handling"})
"""States in which the clock of those who handle runs."""
_DROPPED = frozenset({"rejected", "false_alarm"})


class By(StrEnum):
    """What a row of an assessment stands for."""

    CHIEF = "chief"
    STREET = "street"
    REACH = "reach"


class Indicator(StrEnum):
    """What is assessed; each is a share, 1 is best."""

    PATROL = "patrol"
    ACCEPTANCE = "acceptance"
    HANDLING = "handling"
    CLOSING = "closing"
    RECURRENCE = "recurrence"
    WATER = "water"


@dataclass(frozen=True, slots=True)
class Share:
    """``good`` of ``of``; ``available`` false where nobody recorded such things at all."""

    good: int = 0
    of: int = 0
    available: bool = True

    @property
    def value(self) -> float | None:
        """0 to 1; None where there is nothing to tell."""
        return self.good / self.of if self.of and self.available else None

    def __add__(self, other: "Share") -> "Share":
        return Share(self.good + other.good, self.of + other.of, self.available and other.available)


@dataclass(frozen=True, slots=True)
class Formula:
    """The weights of the indicators, the patrols due and the terms; ``example`` until a site has decided on its own.

    ``patrols_due`` is how many a month each person of a role owes; a role that is not named owes none. Published rules
    differ by place: one day in ten for village chiefs (Guangzhou 2021), once a week for grid workers (Akqi).
    """

    weights: Mapping[Indicator, float]
    closing_grace_days: int = 15
    recurrence_days: int = 30
    retrospective: bool = False
    example: bool = True
    patrols_due: Mapping[Role, int] = field(default_factory=lambda: {Role.CHIEF: 3, Role.GRID_WORKER: 4})


@dataclass(frozen=True, slots=True)
class Case:
    """One incident as an assessment sees it; times ms UTC.

    ``acceptance`` and ``handling`` are its steps in time and all its steps so far. ``responsible`` is the chief who had
    it at the end of the month, or who got it first after that; ``handled`` tells the steps of each chief who had it
    meanwhile: a step in time is of who had it then, a late one of who had it when its limit passed. ``dropped``:
    rejected, a false alarm or merged into another; it counts for the acceptance alone.
    """

    id: int
    opened_at_ms: int
    state: str
    colour: str
    cause: str
    region: str
    reach: str
    responsible: str
    retrospective: bool
    acceptance: Share
    handling: Share
    handled: Mapping[str, Share]
    closed_at_ms: int | None
    dropped: bool
    recurred: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A chief, street or reach ('' for what belongs to none): its indicators and its score, 0 to 100.

    ``improvement`` is the share of days on target less that of the month before; None where either cannot be told.
    """

    key: str
    shares: Mapping[Indicator, Share]
    score: float | None
    improvement: float | None
    cases: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """A month's assessment; ``last_n`` and ``head`` name the entry up to which the trail was read.

    ``trial``: the month, or its days of grace, are not over.
    """

    month: str
    by: By
    formula: Formula
    start_ms: int
    end_ms: int
    until_ms: int
    trial: bool
    rows: Sequence[Row]
    total: Row
    cases: Sequence[Case]
    last_n: int
    head: str


class Patrols(Protocol):
    """Who patrols; asked for the valid patrols of a month and those that were due until an instant, by chief, street or
    reach."""

    def done(self, by: By, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]: ...


@dataclass(frozen=True, slots=True)
class Groups:
    """Where things belong: ``street`` of a region's code, ``reach`` and ``region`` of a station, ``water`` the keys
    (chiefs, streets) of a reach at an instant, ``chief`` whose work it is that somebody does at an instant: a deputy's
    is that of the chief."""

    street: Callable[[str], str] = lambda region: region
    reach: Callable[[str], str] = lambda station: ""
    region: Callable[[str], str] = lambda station: ""
    water: Callable[[By, str, int], Sequence[str]] = lambda by, reach, at_ms: (reach,) if by is By.REACH else ()
    chief: Callable[[str, int], str] = lambda name, at_ms: name


def read(text: str) -> Formula:
    """The formula of a file; raises ConfigurationError naming what is wrong."""
    try:
        told = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(str(error)) from error
    unknown = sorted(set(told) - {"example", "weights", "terms", "patrols_due"})
    if unknown:
        raise ConfigurationError(sentence("assessment.unknown", unknown=unknown[0]))
    weights: dict[Indicator, float] = {}
    for name, weight in told.get("weights", {}).items():
        if name not in list(Indicator):
            raise ConfigurationError(sentence("assessment.no_indicator", name=name, known=", ".join(Indicator)))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e6:
            raise ConfigurationError(sentence("assessment.no_weight", name=name, weight=weight))
        weights[Indicator(name)] = float(weight)
    if not any(weights.values()):
        raise ConfigurationError(sentence("assessment.all_zero"))
    terms = told.get("terms", {})
    formula = Formula(weights, example=told.get("example", True) is not False)
    if "patrols_due" in told:
        formula = replace(formula, patrols_due=_due(told["patrols_due"]))
    for name, value in terms.items():
        default = getattr(formula, name, None) if name in _TERMS else None
        if default is None or type(value) is not type(default) or (not isinstance(value, bool) and value < 0):
            raise ConfigurationError(sentence("assessment.no_term", name=name, value=value, known=", ".join(_TERMS)))
    return replace(formula, **terms)


MOST_PATROLS = 100
"""More are due of nobody in a month."""


def _due(told: Mapping[str, Any]) -> dict[Role, int]:
    """Patrols a month by role; a role that is not named owes none."""
    for name, number in told.items():
        if name not in list(Role):
            raise ConfigurationError(sentence("assessment.no_role", name=name, known=", ".join(Role)))
        if type(number) is not int or not 0 <= number <= MOST_PATROLS:
            raise ConfigurationError(sentence("assessment.no_patrols", name=name, number=number, most=MOST_PATROLS))
    return {Role(name): number for name, number in told.items()}


_TERMS = ("closing_grace_days", "recurrence_days", "retrospective")


def month_of(text: str) -> tuple[int, int]:
    """Start and end (exclusive) of a month ``2026-10`` in Beijing, ms UTC; raises ConfigurationError."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=BEIJING)
    except ValueError:
        raise ConfigurationError(sentence("assessment.no_month", text=text[:20])) from None
    if len(text) != len("2026-10"):
        raise ConfigurationError(sentence("assessment.no_month", text=text[:20]))
    return to_ms(first), to_ms(_next(first))


def _next(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def assess(
    lines: Iterable[Line],
    month: str,
    by: By,
    formula: Formula,
    *,
    now_ms: int,
    groups: Groups | None = None,
    patrols: Patrols | None = None,
    seen: Callable[[str], bool] | None = None,
) -> Assessment:
    """The assessment of a month from the trail's entries in their order, at least those since :func:`reads_from`.

    Before the term is over it is judged as of ``now_ms``. ``seen`` tells which rows who asks may see: the others, their
    incidents and their part of the total are left out. Raises ConfigurationError for what is no month.
    """
    groups = groups or Groups()
    start_ms, end_ms = month_of(month)
    until_ms = min(now_ms, end_ms + formula.closing_grace_days * DAY_MS)
    before_ms = month_of(_earlier(start_ms))[0]
    told = _Told(formula, groups, end_ms)
    last_n, head = 0, ""
    for line in lines:
        if line.at_ms > until_ms:
            continue
        last_n, head = line.n, line.hash
        if line.kind == "incident" and line.what.startswith("incident."):
            told.incident(line)
        elif line.what == CLASSES and before_ms <= line.at_ms < end_ms:
            told.classes(line, earlier=line.at_ms < start_ms)
    cases = [
        case
        for case in told.cases(until_ms)
        if start_ms <= case.opened_at_ms < end_ms and (formula.retrospective or not case.retrospective)
    ]
    trial = until_ms < end_ms + formula.closing_grace_days * DAY_MS
    patrolled = None if patrols is None else patrols.done(by, start_ms, end_ms, until_ms)
    water = told.water(by)
    handled = _handled(cases) if by is By.CHIEF else {}
    named = {_key(case, by, groups) for case in cases}
    keys = [k for k in sorted(named | handled.keys() | water.keys() | (patrolled or {}).keys()) if not seen or seen(k)]
    if seen is not None:
        cases = [case for case in cases if seen(_key(case, by, groups))]
        patrolled = None if patrolled is None else {k: share for k, share in patrolled.items() if seen(k)}
    keyed: dict[str, list[Case]] = {}
    for case in cases:
        keyed.setdefault(_key(case, by, groups), []).append(case)
    rows = []
    for key in keys:
        mine = keyed.get(key, [])
        steps = handled.get(key, Share()) if by is By.CHIEF else _steps(mine)
        rows.append(_row(key, mine, steps, told.days(water.get(key, {})), _patrol(patrolled, key), formula, trial))
    walked = Share(available=False) if patrolled is None else sum(patrolled.values(), Share())
    steps = sum((row.shares[Indicator.HANDLING] for row in rows), Share()) if by is By.CHIEF else _steps(cases)
    every: dict[str, set[int]] = {}
    for key in keys:
        for reach, of in water.get(key, {}).items():
            every.setdefault(reach, set()).update(of)
    total = _row("", cases, steps, told.days(told.all_water() if seen is None else every), walked, formula, trial)
    return Assessment(month, by, formula, start_ms, end_ms, until_ms, trial, rows, total, cases, last_n, head)


def reads_from(month: str, formula: Formula) -> int:
    """The instant from which on the trail has to be read for a month, ms UTC."""
    start_ms, _ = month_of(month)
    return min(start_ms - formula.recurrence_days * DAY_MS, month_of(_earlier(start_ms))[0])


TRIAL_SHARE = 0.5
"""Of the weights: with less of them known, a trial shows no score, for a single indicator would decide. Our choice."""


def _earlier(start_ms: int) -> str:
    """The month before the one that begins then."""
    return datetime.fromtimestamp((start_ms - DAY_MS) / 1000, BEIJING).strftime("%Y-%m")


def _key(case: Case, by: By, groups: Groups) -> str:
    if by is By.CHIEF:
        return case.responsible
    return groups.street(case.region) if by is By.STREET else case.reach


def _patrol(patrolled: Mapping[str, Share] | None, key: str) -> Share:
    return Share(available=False) if patrolled is None else patrolled.get(key, Share())


def _steps(cases: Iterable[Case]) -> Share:
    return sum((case.handling for case in cases if not case.dropped), Share())


def _handled(cases: Iterable[Case]) -> dict[str, Share]:
    """The steps of handling by the chief they count for."""
    found: dict[str, Share] = {}
    for case in cases:
        for name, share in () if case.dropped else case.handled.items():
            found[name] = found.get(name, Share()) + share
    return found


def _row(
    key: str,
    cases: Sequence[Case],
    steps: Share,
    water: tuple[Share, Share],
    patrol: Share,
    formula: Formula,
    trial: bool,
) -> Row:
    """The indicators and the score. Closing is due when the days of grace are over, so that a trial cannot tell it."""
    real = [case for case in cases if not case.dropped]
    days, days_before = water
    shares = {
        Indicator.PATROL: patrol,
        Indicator.ACCEPTANCE: sum((case.acceptance for case in cases), Share()),
        Indicator.HANDLING: steps,
        Indicator.CLOSING: Share() if trial else Share(sum(one.closed_at_ms is not None for one in real), len(real)),
        Indicator.RECURRENCE: Share(sum(not case.recurred for case in real), len(real)),
        Indicator.WATER: days,
    }
    weighed = [(formula.weights.get(name, 0.0), share.value) for name, share in shares.items()]
    known = [(weight, value) for weight, value in weighed if value is not None and weight]
    whole = sum(weight for weight, _ in known)
    enough = whole > 0 and (not trial or whole >= TRIAL_SHARE * sum(formula.weights.values()))
    score = round(100 * sum(weight * value for weight, value in known) / whole, 2) if enough else None
    now, then = days.value, days_before.value
    improvement = None if now is None or then is None else now - then
    return Row(key, shares, score, improvement, len(cases))


class _Incident(TypedDict, total=False):
    """What is read of an incident in the trail: the rest of an entry, most of it, is skipped."""

    opened_at_ms: Any
    state: Any
    responsible: Any
    due_ms: Any
    paused_at_ms: Any
    cause: Any
    colour: Any
    region: Any
    reach: Any
    station: Any
    retrospective: Any
    merged_into: Any


class _Entry(TypedDict):
    incident: _Incident


_ENTRY: Any = msgspec.json.Decoder(_Entry)


@dataclass(slots=True)
class _Course:
    """What the entries said of one incident so far."""

    opened_at_ms: int
    row: dict[str, Any]
    accepted: Share | None = None
    handled: list[tuple[str, Share]] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    """Since when whose it is."""
    closed_at_ms: int | None = None

    def holder(self, at_ms: int) -> str:
        """Whose it was at an instant; who got it first after that where it was nobody's yet."""
        before = [name for since_ms, name in self.held if since_ms <= at_ms]
        return before[-1] if before and before[-1] else next((name for _, name in self.held if name), "")


class _Told:
    """The entries read so far."""

    def __init__(self, formula: Formula, groups: Groups, end_ms: int) -> None:
        self._formula = formula
        self._groups = groups
        self._end_ms = end_ms
        self._courses: dict[int, _Course] = {}
        self._days: dict[bool, dict[str, dict[int, Share]]] = {False: {}, True: {}}

    def incident(self, line: Line) -> None:
        row = _ENTRY.decode(line.body)["incident"]
        course = self._courses.get(int(line.id))
        chief = row.get("responsible") or ""
        if course is None:
            self._courses[int(line.id)] = _Course(row["opened_at_ms"], row, held=[(line.at_ms, chief)])
            return
        before, after = course.row["state"], row["state"]
        if before != after:
            due_ms = course.row.get("due_ms")
            step = Share(int(due_ms is None or line.at_ms <= due_ms), 1)
            if before == "reported" and course.accepted is None:
                course.accepted = step
            elif before in _HANDLERS:
                course.handled.append(self._step(course, step, line.at_ms, due_ms))
        if chief != course.held[-1][1]:
            course.held.append((line.at_ms, chief))
        course.closed_at_ms = line.at_ms if after == "closed" else None
        course.row = row

    def classes(self, line: Line, *, earlier: bool) -> None:
        found = self._days[earlier]
        for reach, shown in json.loads(line.body)["reaches"].items():
            if shown.get("met") is not None:
                days = found.setdefault(reach, {})
                days[line.at_ms] = days.get(line.at_ms, Share()) + Share(int(shown["met"]), 1)

    def water(self, by: By) -> dict[str, dict[str, set[int]]]:
        """The judged days (ms) of each reach that count for each key: for a chief those of the own term."""
        found: dict[str, dict[str, set[int]]] = {}
        for reach, days in self._days[False].items():
            for at_ms in days:
                for key in self._groups.water(by, reach, at_ms):
                    found.setdefault(key, {}).setdefault(reach, set()).add(at_ms)
        if by is not By.CHIEF:  # a street has its reaches also in a month in which none could be judged
            for reach, days in self._days[True].items():
                for at_ms in days:
                    for key in self._groups.water(by, reach, at_ms):
                        found.setdefault(key, {}).setdefault(reach, set())
        return found

    def all_water(self) -> dict[str, set[int]]:
        """All judged days of all reaches."""
        reaches = self._days[False].keys() | self._days[True].keys()
        return {reach: set(self._days[False].get(reach, ())) for reach in reaches}

    def days(self, of: Mapping[str, Collection[int]]) -> tuple[Share, Share]:
        """Days on target of this month, and of the month before all those of the same reaches."""
        now = [self._days[False][reach][at_ms] for reach, days in of.items() for at_ms in days]
        then = [share for reach in of for share in self._days[True].get(reach, {}).values()]
        return sum(now, Share()), sum(then, Share())

    def _step(self, course: _Course, step: Share, at_ms: int, due_ms: int | None) -> tuple[str, Share]:
        """A step, and whose it is: in time of who does it, late of who let its limit pass."""
        when = at_ms if step.good or due_ms is None else due_ms
        return self._groups.chief(course.holder(when), when), step

    def cases(self, until_ms: int) -> list[Case]:
        closed: dict[str, list[int]] = {}
        for course in self._courses.values():
            if course.closed_at_ms is not None:
                closed.setdefault(course.row["cause"], []).append(course.closed_at_ms)
        return [self._case(number, course, closed, until_ms) for number, course in sorted(self._courses.items())]

    def _case(self, number: int, course: _Course, closed: Mapping[str, Sequence[int]], until_ms: int) -> Case:
        row = course.row
        state = row["state"]
        due_ms = row.get("due_ms")
        late = due_ms is not None and due_ms < until_ms and not row.get("paused_at_ms")
        accepted = course.accepted or Share(0, int(state == "reported" and late))
        handled = list(course.handled)
        if state in _HANDLERS and late:
            handled.append(self._step(course, Share(0, 1), until_ms, due_ms))
        by_chief: dict[str, Share] = {}
        for name, share in handled:
            by_chief[name] = by_chief.get(name, Share()) + share
        end_ms = min(self._end_ms, until_ms)
        within_ms = self._formula.recurrence_days * DAY_MS
        ends = closed.get(row["cause"], ())
        return Case(
            id=number,
            opened_at_ms=course.opened_at_ms,
            state=state,
            colour=row["colour"],
            cause=row["cause"],
            region=row.get("region") or self._groups.region(row["station"]),
            reach=row.get("reach") or self._groups.reach(row["station"]),
            responsible=self._groups.chief(course.holder(end_ms), end_ms),
            retrospective=bool(row["retrospective"]),
            acceptance=accepted,
            handling=sum(by_chief.values(), Share()),
            handled=by_chief,
            closed_at_ms=course.closed_at_ms,
            dropped=state in _DROPPED or row.get("merged_into") is not None,
            recurred=any(0 <= course.opened_at_ms - end <= within_ms for end in ends),
        )
