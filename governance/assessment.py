"""Assessment (考核) of a month's work by chief, street or reach, computed from the audit trail alone. Pure.

Incidents and their deadlines come from the entries ``incident.*``, the class of the water from the daily entry
``water.classes``: the same entries always give the same numbers. Patrols come from a `Patrols`, where there is one.
The assessment concerns the incidents opened in the month (Beijing time), as they were ``closing_grace_days`` after it.

The weights stand in ``config/assessment.toml`` and are an example.
"""

import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypedDict

import msgspec

from governance.audit.merkle import AuditEntry
from governance.organisation.roles import Role
from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import BEIJING, BEIJING_OFFSET_MS, DAY_MS, beijing, to_ms

CLASSES_ACTION = "water.classes"
"""The action of the daily entry with the class of every reach."""

_HANDLING_STATES = frozenset({"dispatched", "transferred", "rework", "handling"})
"""States whose deadline is that of who handles the incident."""
_DISMISSED_STATES = frozenset({"rejected", "false_alarm"})


class GroupBy(StrEnum):
    """What a row of an assessment is about."""

    CHIEF = "chief"
    STREET = "street"
    REACH = "reach"


class Indicator(StrEnum):
    """Indicator; each is a share, 1 is best."""

    PATROL = "patrol"
    ACCEPTANCE = "acceptance"
    HANDLING = "handling"
    CLOSING = "closing"
    RECURRENCE = "recurrence"
    WATER = "water"


@dataclass(frozen=True, slots=True)
class Share:
    """``good`` of ``of``; ``available`` is false where nothing of the sort is recorded at all."""

    good: int = 0
    of: int = 0
    available: bool = True

    @property
    def value(self) -> float | None:
        """0 to 1; None where it is unknown."""
        return self.good / self.of if self.of and self.available else None

    def __add__(self, other: "Share") -> "Share":
        return Share(self.good + other.good, self.of + other.of, self.available and other.available)


@dataclass(frozen=True, slots=True)
class Formula:
    """The weights of the indicators, the patrols due and the terms; ``example`` until a site has decided on its own.

    ``patrols_due`` is how many a month each person of a role owes; a role that is not named owes none. Published rules
    differ by place: one day in ten for village chiefs (Guangzhou 2021), once a week for grid workers (Akqi).
    ``deputies_patrol``: a patrol that a deputy walked counts for the chief they help.
    """

    weights: Mapping[Indicator, float]
    closing_grace_days: int = 15
    recurrence_days: int = 30
    appeal_days: int = 10
    retrospective: bool = False
    deputies_patrol: bool = False
    example: bool = True
    patrols_due: Mapping[Role, int] = field(default_factory=lambda: {Role.CHIEF: 3, Role.GRID_WORKER: 4})


@dataclass(frozen=True, slots=True)
class Case:
    """One incident as an assessment sees it; times ms UTC.

    ``acceptance`` and ``handling`` are its steps in time and all its steps so far. ``responsible`` is the chief who had
    it at the end of the month, or who got it first after that; ``handled`` tells the steps of each chief who had it
    meanwhile: a step in time counts for who had it then, a late one for who had it when its limit passed. ``dropped``:
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
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class DayOfWater:
    """What a reach showed on a day (ms UTC): its class as written in the trail, None where it could not be judged, and
    whether that met the target, None where that is unknown."""

    at_ms: int
    water_class: str | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class WaterOfReach:
    """The days of a reach in the month, the month before, and the same month a year before; oldest first."""

    days: Sequence[DayOfWater] = ()
    before: Sequence[DayOfWater] = ()
    year_before: Sequence[DayOfWater] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A chief, street or reach ('' for what belongs to none): its indicators and its score, 0 to 100.

    ``improvement`` is the share of days on target less that of the month before; None where either is unknown.
    ``affected`` counts the days under marked periods by their kind; ``without`` is the row without these days and the
    incidents opened on them, None where there are none. Patrols are due by month and the same in both.
    """

    key: str
    shares: Mapping[Indicator, Share]
    score: float | None
    improvement: float | None
    cases: int
    affected: Mapping[str, int] = field(default_factory=dict)
    without: "Row | None" = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """A month's assessment; ``last_n`` and ``head`` name the entry up to which the trail was read.

    ``trial``: the month, or its days of grace, are not over.
    """

    month: str
    by: GroupBy
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
    water: Mapping[str, WaterOfReach] = field(default_factory=dict)

    @property
    def frozen_ms(self) -> int:
        """When the figures become final: the days of grace are over."""
        return self.end_ms + self.formula.closing_grace_days * DAY_MS

    @property
    def appeals_until_ms(self) -> int:
        """Until when somebody may appeal against a figure."""
        return self.frozen_ms + self.formula.appeal_days * DAY_MS


class Patrols(Protocol):
    """Gives the valid patrols of a month, of those that were due until an instant, by chief, street or reach."""

    def done(self, by: GroupBy, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]: ...


@dataclass(frozen=True, slots=True)
class Groups:
    """What belongs to what: ``street`` of a region's code, ``reach`` and ``region`` of a station, ``water`` the keys
    (chiefs, streets) of a reach at an instant, ``chief`` to whom somebody's work at an instant is attributed.
    ``affected`` names the kinds of marked periods that an instant lies in, for a reach, a region or both ("": unknown);
    None where there are none."""

    street: Callable[[str], str] = lambda region: region
    reach: Callable[[str], str] = lambda station: ""
    region: Callable[[str], str] = lambda station: ""
    water: Callable[[GroupBy, str, int], Sequence[str]] = lambda by, reach, at_ms: (
        (reach,) if by is GroupBy.REACH else ()
    )
    chief: Callable[[str, int], str] = lambda name, at_ms: name
    affected: Callable[[int, str, str], Collection[str]] | None = None


def read(text: str) -> Formula:
    """The formula of a file; raises ConfigurationError naming what is wrong."""
    try:
        table = toml_text.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(say("file.no_toml", error=error)) from error
    unknown = sorted(set(table) - {"example", "weights", "terms", "patrols_due"})
    if unknown:
        raise ConfigurationError(say("assessment.unknown", unknown=unknown[0]))
    formula = Formula(_weights(table.get("weights", {})), example=table.get("example", True) is not False)
    if "patrols_due" in table:
        formula = replace(formula, patrols_due=_patrols_due(table["patrols_due"]))
    terms = table.get("terms", {})
    for name, value in terms.items():
        default = getattr(formula, name, None) if name in _TERM_KEYS else None
        if default is None or type(value) is not type(default) or (not isinstance(value, bool) and value < 0):
            raise ConfigurationError(say("assessment.no_term", name=name, value=value, known=", ".join(_TERM_KEYS)))
    return replace(formula, **terms)


def _weights(table: Mapping[str, Any]) -> dict[Indicator, float]:
    weights: dict[Indicator, float] = {}
    for name, weight in table.items():
        if name not in list(Indicator):
            raise ConfigurationError(say("assessment.no_indicator", name=name, known=", ".join(Indicator)))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e6:
            raise ConfigurationError(say("assessment.no_weight", name=name, weight=weight))
        weights[Indicator(name)] = float(weight)
    if not any(weights.values()):
        raise ConfigurationError(say("assessment.all_zero"))
    return weights


MAX_PATROLS = 100
"""The most patrols a month that a formula may require of one person."""


def _patrols_due(table: Mapping[str, Any]) -> dict[Role, int]:
    """Patrols a month by role; a role that is not named owes none."""
    for name, number in table.items():
        if name not in list(Role):
            raise ConfigurationError(say("assessment.no_role", name=name, known=", ".join(Role)))
        if type(number) is not int or not 0 <= number <= MAX_PATROLS:
            raise ConfigurationError(say("assessment.no_patrols", name=name, number=number, most=MAX_PATROLS))
    return {Role(name): number for name, number in table.items()}


_TERM_KEYS = ("closing_grace_days", "recurrence_days", "appeal_days", "retrospective", "deputies_patrol")


def month_of(text: str) -> tuple[int, int]:
    """Start and end (exclusive) of a month ``2026-10`` in Beijing, ms UTC; raises ConfigurationError."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=BEIJING)
    except ValueError:
        raise ConfigurationError(say("assessment.no_month", text=text[:20])) from None
    if len(text) != len("2026-10"):
        raise ConfigurationError(say("assessment.no_month", text=text[:20]))
    return to_ms(first), to_ms(_next_month(first))


def _next_month(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def assess(
    lines: Iterable[AuditEntry],
    month: str,
    by: GroupBy,
    formula: Formula,
    *,
    now_ms: int,
    groups: Groups | None = None,
    patrols: Patrols | None = None,
    seen: Callable[[str], bool] | None = None,
) -> Assessment:
    """The assessment of a month from the trail's entries in their order, at least those since :func:`reads_from`.

    Before the term is over it is judged as of ``now_ms``. ``seen`` tells which rows the caller may see: the others,
    their incidents and their part of the total are left out. Raises ConfigurationError for what is no month.
    """
    may_see = None if seen is None else lambda _by, key: seen(key)
    (made,) = assess_each(lines, month, (by,), formula, now_ms=now_ms, groups=groups, patrols=patrols, seen=may_see)
    return made


def assess_each(
    lines: Iterable[AuditEntry],
    month: str,
    bys: Sequence[GroupBy],
    formula: Formula,
    *,
    now_ms: int,
    groups: Groups | None = None,
    patrols: Patrols | None = None,
    seen: Callable[[GroupBy, str], bool] | None = None,
) -> list[Assessment]:
    """As :func:`assess`, for several kinds of rows from one reading of the entries."""
    groups = groups or Groups()
    start_ms, end_ms = month_of(month)
    until_ms = min(now_ms, end_ms + formula.closing_grace_days * DAY_MS)
    history = _History(formula, groups, start_ms, end_ms, until_ms)
    history.read(lines)
    cases = history.cases()
    return [_assessed(history, cases, month, by, patrols, seen) for by in bys]


def _assessed(
    history: "_History",
    cases: Sequence[Case],
    month: str,
    by: GroupBy,
    patrols: Patrols | None,
    seen: Callable[[GroupBy, str], bool] | None,
) -> Assessment:
    """The rows of one kind, and the total of those that the caller may see."""
    formula, groups = history.formula, history.groups
    start_ms, end_ms, until_ms = history.start_ms, history.end_ms, history.until_ms
    trial = until_ms < end_ms + formula.closing_grace_days * DAY_MS
    water = history.water(by)
    handled = _handled(cases) if by is GroupBy.CHIEF else {}
    patrolled = None if patrols is None else patrols.done(by, start_ms, end_ms, until_ms)
    keys = sorted({_key(case, by, groups) for case in cases} | handled.keys() | water.keys() | (patrolled or {}).keys())
    days_of = history.days_of_water()
    if seen is not None:
        keys = [key for key in keys if seen(by, key)]
        cases = [case for case in cases if seen(by, _key(case, by, groups))]
        patrolled = None if patrolled is None else {key: share for key, share in patrolled.items() if seen(by, key)}
        days_of = {reach: days for reach, days in days_of.items() if any(reach in water.get(key, {}) for key in keys)}
    by_key: dict[str, list[Case]] = {}
    for case in cases:
        by_key.setdefault(_key(case, by, groups), []).append(case)
    marks = _Marks(history, by)
    handled_apart = _handled(marks.apart(cases)) if by is GroupBy.CHIEF else {}
    rows, of_total = [], dict[str, set[int]]()
    for key in keys:
        row_cases, of_key = by_key.get(key, []), water.get(key, {})
        steps = handled.get(key, Share()) if by is GroupBy.CHIEF else _steps(row_cases)
        patrol = _patrol(patrolled, key)
        row = _row(key, row_cases, steps, history.days_on_target(of_key), patrol, formula, trial)
        if affected := marks.days(key, of_key, row_cases):
            left = marks.apart(row_cases)
            steps = handled_apart.get(key, Share()) if by is GroupBy.CHIEF else _steps(left)
            days = history.days_on_target(marks.water_apart(of_key))
            without = _row(key, left, steps, days, patrol, formula, trial)
            row = replace(row, affected={kind: len(found) for kind, found in affected.items()}, without=without)
            for kind, found in affected.items():
                of_total.setdefault(kind, set()).update(found)
        rows.append(row)
    walked = Share(available=False) if patrolled is None else sum(patrolled.values(), Share())
    steps = sum((row.shares[Indicator.HANDLING] for row in rows), Share()) if by is GroupBy.CHIEF else _steps(cases)
    of_all = history.all_water() if seen is None else _days_of_keys(water, keys)
    total = _row("", cases, steps, history.days_on_target(of_all), walked, formula, trial)
    if of_total:
        left = marks.apart(cases)
        steps = sum((handled_apart.get(row.key, Share()) for row in rows), Share()) if handled_apart else _steps(left)
        without = _row("", left, steps, history.days_on_target(marks.water_apart(of_all)), walked, formula, trial)
        total = replace(total, affected={kind: len(found) for kind, found in of_total.items()}, without=without)
    return Assessment(
        month, by, formula, start_ms, end_ms, until_ms, trial, rows, total, cases, history.last_n, history.head, days_of
    )


class _Marks:
    """What of a month lies under marked periods."""

    def __init__(self, history: "_History", by: GroupBy) -> None:
        self._by, self._groups = by, history.groups
        self._noons = range(history.start_ms + DAY_MS // 2, history.end_ms, DAY_MS)

    def _kinds(self, at_ms: int, reach: str, region: str = "") -> Collection[str]:
        return self._groups.affected(at_ms, reach, region) if self._groups.affected else ()

    def apart(self, cases: Iterable[Case]) -> list[Case]:
        """The incidents that were not opened under a marked period."""
        return [case for case in cases if not self._kinds(case.opened_at_ms, case.reach, case.region)]

    def water_apart(self, water: Mapping[str, Collection[int]]) -> dict[str, set[int]]:
        """The judged days of each reach that no marked period covers."""
        return {reach: {at_ms for at_ms in days if not self._kinds(at_ms, reach)} for reach, days in water.items()}

    def days(self, key: str, reaches: Collection[str], cases: Sequence[Case]) -> dict[str, set[int]]:
        """The days of the month on which each kind of period covers something of a row."""
        if self._groups.affected is None:
            return {}
        found: dict[str, set[int]] = {}
        for noon in self._noons:
            row_reaches = [reach for reach in {*reaches, key} if self._belongs(key, reach, noon)]
            kinds = {kind for reach in row_reaches for kind in self._kinds(noon, reach)}
            if self._by is GroupBy.STREET:
                kinds.update(self._kinds(noon, "", key))
            for kind in kinds:
                found.setdefault(kind, set()).add(noon // DAY_MS)
        for case in cases:
            for kind in self._kinds(case.opened_at_ms, case.reach, case.region):
                found.setdefault(kind, set()).add((case.opened_at_ms + BEIJING_OFFSET_MS) // DAY_MS)
        return dict(sorted(found.items()))

    def _belongs(self, key: str, reach: str, at_ms: int) -> bool:
        """Whether a reach belongs to a row that day: a chief answers for it in the own term only."""
        if self._by is GroupBy.REACH:
            return reach == key
        return reach != key and (self._by is not GroupBy.CHIEF or key in self._groups.water(self._by, reach, at_ms))


def _days_of_keys(water: Mapping[str, Mapping[str, set[int]]], keys: Iterable[str]) -> dict[str, set[int]]:
    """The judged days of all reaches of some keys, each once."""
    found: dict[str, set[int]] = {}
    for key in keys:
        for reach, days in water.get(key, {}).items():
            found.setdefault(reach, set()).update(days)
    return found


def reads_from(month: str, formula: Formula) -> int:
    """The instant from which on the trail has to be read for a month, ms UTC."""
    start_ms, _ = month_of(month)
    return min(start_ms - formula.recurrence_days * DAY_MS, month_of(_earlier(start_ms))[0])


def year_before(month: str) -> tuple[int, int]:
    """Start and end of the same month a year before: of it the classes are compared. Raises ConfigurationError."""
    start_ms, _ = month_of(month)
    day = datetime.fromtimestamp(start_ms / 1000, BEIJING)
    return month_of(f"{day.year - 1:04d}-{day.month:02d}")


MIN_TRIAL_WEIGHT = 0.5
"""The share of the weights that must be known before a trial shows a score. Our choice."""


def _earlier(start_ms: int) -> str:
    """The month before the one that begins then."""
    return datetime.fromtimestamp((start_ms - DAY_MS) / 1000, BEIJING).strftime("%Y-%m")


def _key(case: Case, by: GroupBy, groups: Groups) -> str:
    if by is GroupBy.CHIEF:
        return case.responsible
    return groups.street(case.region) if by is GroupBy.STREET else case.reach


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
    """The indicators and the score. Closing is due when the days of grace are over; a trial does not have it."""
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
    measured = [(weight, value) for weight, value in weighed if value is not None and weight]
    whole = sum(weight for weight, _ in measured)
    enough = whole > 0 and (not trial or whole >= MIN_TRIAL_WEIGHT * sum(formula.weights.values()))
    score = round(100 * sum(weight * value for weight, value in measured) / whole, 2) if enough else None
    now, then = days.value, days_before.value
    improvement = None if now is None or then is None else now - then
    return Row(key, shares, score, improvement, len(cases))


class _IncidentRow(TypedDict, total=False):
    """The fields of an incident that are decoded from an entry; all others are skipped, which is faster."""

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
    incident: _IncidentRow


_DECODER: Any = msgspec.json.Decoder(_Entry)


@dataclass(slots=True)
class _Course:
    """One incident as far as the entries have been read."""

    opened_at_ms: int
    row: dict[str, Any]
    accepted: Share | None = None
    handled: list[tuple[str, Share]] = field(default_factory=list)
    held: list[tuple[int, str]] = field(default_factory=list)
    """(Since when, who was responsible), oldest first."""
    closed_at_ms: int | None = None
    reopened: bool = False

    def holder(self, at_ms: int) -> str:
        """Who was responsible at an instant; who became it first after that, where nobody was yet."""
        before = [name for since_ms, name in self.held if since_ms <= at_ms]
        return before[-1] if before and before[-1] else next((name for _, name in self.held if name), "")


class _History:
    """What the trail says of the incidents and the water of a month and of the month before."""

    def __init__(self, formula: Formula, groups: Groups, start_ms: int, end_ms: int, until_ms: int) -> None:
        self.formula = formula
        self.groups = groups
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.until_ms = until_ms
        self._periods = (
            ("days", (start_ms, end_ms)),
            ("before", month_of(_earlier(start_ms))),
            ("year_before", year_before(beijing(start_ms, "%Y-%m"))),
        )
        self._courses: dict[int, _Course] = {}
        self._days: dict[str, dict[int, Share]] = {}
        self._days_before: dict[str, dict[int, Share]] = {}
        self._judged = {name: dict[str, list[DayOfWater]]() for name, _ in self._periods}
        self.last_n = 0
        self.head = ""

    def read(self, lines: Iterable[AuditEntry]) -> None:
        """Read the entries up to the instant as of which the month is judged."""
        for line in lines:
            if line.at_ms > self.until_ms:
                continue
            self.last_n, self.head = line.n, line.hash
            if line.kind == "incident" and line.what.startswith("incident."):
                self._read_incident(line)
            elif line.what == CLASSES_ACTION:
                for name, (since_ms, to_ms_) in self._periods:
                    if since_ms <= line.at_ms < to_ms_:
                        self._read_classes(line, name)

    def _read_incident(self, line: AuditEntry) -> None:
        row = _DECODER.decode(line.body)["incident"]
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
            elif before in _HANDLING_STATES:
                course.handled.append(self._step(course, step, line.at_ms, due_ms))
        if chief != course.held[-1][1]:
            course.held.append((line.at_ms, chief))
        course.closed_at_ms = line.at_ms if after == "closed" else None
        course.reopened |= line.what == "incident.reopened"
        course.row = row

    def _read_classes(self, line: AuditEntry, period: str) -> None:
        """Add the day of an entry to the days of each reach."""
        found = {"days": self._days, "before": self._days_before}.get(period)
        for reach, shown in json.loads(line.body)["reaches"].items():
            met = shown.get("met")
            self._judged[period].setdefault(reach, []).append(DayOfWater(line.at_ms, shown.get("class"), met))
            if met is not None and found is not None:
                days = found.setdefault(reach, {})
                days[line.at_ms] = days.get(line.at_ms, Share()) + Share(int(met), 1)

    def days_of_water(self) -> dict[str, WaterOfReach]:
        """What each reach showed in the month and in those it is compared with."""
        reaches = {reach for days in self._judged.values() for reach in days}
        return {
            reach: WaterOfReach(**{name: tuple(days.get(reach, ())) for name, days in self._judged.items()})
            for reach in sorted(reaches)
        }

    def water(self, by: GroupBy) -> dict[str, dict[str, set[int]]]:
        """The judged days (ms) of each reach that count for each key: for a chief those of the own term."""
        found: dict[str, dict[str, set[int]]] = {}
        for reach, at_ms, key in self._keys_of_days(by, self._days):
            found.setdefault(key, {}).setdefault(reach, set()).add(at_ms)
        if by is not GroupBy.CHIEF:  # a street has its reaches also in a month in which none could be judged
            for reach, _, key in self._keys_of_days(by, self._days_before):
                found.setdefault(key, {}).setdefault(reach, set())
        return found

    def _keys_of_days(self, by: GroupBy, days: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, int, str]]:
        """(Reach, day, key) for each key that a judged day of a reach counts for."""
        for reach, instants in days.items():
            for at_ms in instants:
                for key in self.groups.water(by, reach, at_ms):
                    yield reach, at_ms, key

    def all_water(self) -> dict[str, set[int]]:
        """All judged days of all reaches."""
        reaches = self._days.keys() | self._days_before.keys()
        return {reach: set(self._days.get(reach, ())) for reach in reaches}

    def days_on_target(self, of: Mapping[str, Collection[int]]) -> tuple[Share, Share]:
        """Days on target of this month, and of the month before all those of the same reaches."""
        now = [self._days[reach][at_ms] for reach, days in of.items() for at_ms in days]
        then = [share for reach in of for share in self._days_before.get(reach, {}).values()]
        return sum(now, Share()), sum(then, Share())

    def _step(self, course: _Course, step: Share, at_ms: int, due_ms: int | None) -> tuple[str, Share]:
        """A step and the chief it counts for: in time for who did it, late for who let its limit pass."""
        when = at_ms if step.good or due_ms is None else due_ms
        return self.groups.chief(course.holder(when), when), step

    def cases(self) -> list[Case]:
        """The incidents opened in the month, by number; retrospective ones only where the formula counts them."""
        closed: dict[str, list[int]] = {}
        for course in self._courses.values():
            if course.closed_at_ms is not None:
                closed.setdefault(course.row["cause"], []).append(course.closed_at_ms)
        found = (self._case(number, course, closed) for number, course in sorted(self._courses.items()))
        return [
            case
            for case in found
            if self.start_ms <= case.opened_at_ms < self.end_ms
            and (self.formula.retrospective or not case.retrospective)
        ]

    def _case(self, number: int, course: _Course, closed: Mapping[str, Sequence[int]]) -> Case:
        row, until_ms = course.row, self.until_ms
        state = row["state"]
        due_ms = row.get("due_ms")
        late = due_ms is not None and due_ms < until_ms and not row.get("paused_at_ms")
        accepted = course.accepted or Share(0, int(state == "reported" and late))
        handled = list(course.handled)
        if state in _HANDLING_STATES and late:
            handled.append(self._step(course, Share(0, 1), until_ms, due_ms))
        by_chief: dict[str, Share] = {}
        for name, share in handled:
            by_chief[name] = by_chief.get(name, Share()) + share
        end_ms = min(self.end_ms, until_ms)
        within_ms = self.formula.recurrence_days * DAY_MS
        ends = closed.get(row["cause"], ())
        return Case(
            id=number,
            opened_at_ms=course.opened_at_ms,
            state=state,
            colour=row["colour"],
            cause=row["cause"],
            region=row.get("region") or self.groups.region(row["station"]),
            reach=row.get("reach") or self.groups.reach(row["station"]),
            responsible=self.groups.chief(course.holder(end_ms), end_ms),
            retrospective=bool(row["retrospective"]),
            acceptance=accepted,
            handling=sum(by_chief.values(), Share()),
            handled=by_chief,
            closed_at_ms=course.closed_at_ms,
            dropped=state in _DISMISSED_STATES or row.get("merged_into") is not None,
            recurred=any(0 <= course.opened_at_ms - end <= within_ms for end in ends),
            reopened=course.reopened,
        )
