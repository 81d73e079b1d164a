"""Read the trail: the incidents and the water of a month and of those it is compared with."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec

from governance.assessment.model import (
    CLASSES_ACTION,
    Case,
    DayOfWater,
    Formula,
    GroupBy,
    Groups,
    Share,
    WaterOfReach,
)
from governance.assessment.month import month_before, month_of, year_before
from governance.audit.merkle import AuditEntry
from infra.times import DAY_MS, beijing

_HANDLING_STATES = frozenset({"dispatched", "transferred", "rework", "handling"})
"""States whose deadline is that of who handles the incident."""
_DISMISSED_STATES = frozenset({"rejected", "false_alarm"})


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


class History:
    """What the trail says of the incidents and the water of a month and of the month before."""

    def __init__(self, formula: Formula, groups: Groups, start_ms: int, end_ms: int, until_ms: int) -> None:
        self.formula = formula
        self.groups = groups
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.until_ms = until_ms
        self._periods = (
            ("days", (start_ms, end_ms)),
            ("before", month_of(month_before(start_ms))),
            ("year_before", year_before(beijing(start_ms, "%Y-%m"))),
        )
        self._courses: dict[int, _Course] = {}
        self._days: dict[str, dict[int, Share]] = {}
        self._days_before: dict[str, dict[int, Share]] = {}
        self._judged = {name: dict[str, list[DayOfWater]]() for name, _ in self._periods}
        self.last_n = 0
        self.head = ""

    @property
    def trial(self) -> bool:
        """Whether the month, or its days of grace, are not over."""
        return self.until_ms < self.end_ms + self.formula.closing_grace_days * DAY_MS

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
