"""Compute the rows of an assessment: the indicators of each chief, street or reach, and the score."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from governance.assessment.history import History
from governance.assessment.model import Assessment, Case, Formula, GroupBy, Groups, Indicator, Inputs, Row, Share
from governance.assessment.month import month_of
from governance.audit.merkle import AuditEntry
from infra.times import BEIJING_OFFSET_MS, DAY_MS

MIN_TRIAL_WEIGHT = 0.5
"""The share of the weights that must be known before a trial shows a score. Our choice."""


def assess(
    lines: Iterable[AuditEntry], month: str, by: GroupBy, formula: Formula, *, now_ms: int, inputs: Inputs | None = None
) -> Assessment:
    """The assessment of a month from the trail's entries in their order, at least those since `month.reads_from`.

    Before the term is over it is judged as of ``now_ms``. Rows that the caller may not see, their incidents and their
    part of the total are left out. Raises ConfigurationError for what is no month.
    """
    (made,) = assess_each(lines, month, (by,), formula, now_ms=now_ms, inputs=inputs)
    return made


def assess_each(
    lines: Iterable[AuditEntry],
    month: str,
    bys: Sequence[GroupBy],
    formula: Formula,
    *,
    now_ms: int,
    inputs: Inputs | None = None,
) -> list[Assessment]:
    """As :func:`assess`, for several kinds of rows from one reading of the entries."""
    inputs = inputs or Inputs()
    start_ms, end_ms = month_of(month)
    until_ms = min(now_ms, end_ms + formula.closing_grace_days * DAY_MS)
    history = History(formula, inputs.groups, start_ms, end_ms, until_ms)
    history.read(lines)
    cases = history.cases()
    return [_assessed(history, cases, month, by, inputs) for by in bys]


def _assessed(history: History, cases: Sequence[Case], month: str, by: GroupBy, inputs: Inputs) -> Assessment:
    """The rows of one kind, and the total of those that the caller may see."""
    groups, patrols, seen = inputs.groups, inputs.patrols, inputs.seen
    start_ms, end_ms, until_ms = history.start_ms, history.end_ms, history.until_ms
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
        row = _row(history, key, row_cases, steps, history.days_on_target(of_key), patrol)
        if affected := marks.days(key, of_key, row_cases):
            left = marks.apart(row_cases)
            steps = handled_apart.get(key, Share()) if by is GroupBy.CHIEF else _steps(left)
            days = history.days_on_target(marks.water_apart(of_key))
            without = _row(history, key, left, steps, days, patrol)
            row = replace(row, affected={kind: len(found) for kind, found in affected.items()}, without=without)
            for kind, found in affected.items():
                of_total.setdefault(kind, set()).update(found)
        rows.append(row)
    walked = Share(available=False) if patrolled is None else sum(patrolled.values(), Share())
    steps = sum((row.shares[Indicator.HANDLING] for row in rows), Share()) if by is GroupBy.CHIEF else _steps(cases)
    of_all = history.all_water() if seen is None else _days_of_keys(water, keys)
    total = _row(history, "", cases, steps, history.days_on_target(of_all), walked)
    if of_total:
        left = marks.apart(cases)
        steps = sum((handled_apart.get(row.key, Share()) for row in rows), Share()) if handled_apart else _steps(left)
        without = _row(history, "", left, steps, history.days_on_target(marks.water_apart(of_all)), walked)
        total = replace(total, affected={kind: len(found) for kind, found in of_total.items()}, without=without)
    return Assessment(
        month=month,
        by=by,
        formula=history.formula,
        start_ms=start_ms,
        end_ms=end_ms,
        until_ms=until_ms,
        trial=history.trial,
        rows=rows,
        total=total,
        cases=cases,
        last_n=history.last_n,
        head=history.head,
        water=days_of,
    )


class _Marks:
    """What of a month lies under marked periods."""

    def __init__(self, history: History, by: GroupBy) -> None:
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
    history: History, key: str, cases: Sequence[Case], steps: Share, water: tuple[Share, Share], patrol: Share
) -> Row:
    """The indicators and the score. Closing is due when the days of grace are over; a trial does not have it."""
    real = [case for case in cases if not case.dropped]
    days, days_before = water
    formula, trial = history.formula, history.trial
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
