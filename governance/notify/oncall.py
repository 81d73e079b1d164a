"""On-call shifts of the office: plan them (rotation, holidays, single shifts), store them, list who is on call.

A plan comes from a form or from a TOML file (``config/oncall.sample.toml``). Where shifts of one rank overlap, the one
of the higher priority holds: a single shift over a holiday's, a holiday's over the rotation.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated

import sqlalchemy as sa
from pydantic import AwareDatetime, Field, model_validator

from governance.audit import trail as audit_trail
from governance.notify.tables import oncall_shift
from infra.errors import ConfigurationError, InvalidValue, NotFound
from infra.texts import Text, say
from infra.times import BEIJING, DAY_MS, to_ms
from infra.toml_file import Table, parse

LONGEST_PLAN = timedelta(days=1100)
ROTATION, HOLIDAY, SINGLE = 0, 1, 2


_COLUMNS = [oncall_shift.c[name] for name in ("person", "starts_at_ms", "ends_at_ms", "rank", "priority")]


@dataclass(frozen=True, slots=True)
class Shift:
    """``person`` is on call from ``starts_at_ms`` until ``ends_at_ms`` (ms UTC, the end not included)."""

    person: str
    starts_at_ms: int
    ends_at_ms: int
    rank: int = 1
    priority: int = SINGLE


class _Rotation(Table):
    people: list[str] = Field(min_length=1)
    begins: date
    until: date
    days: Annotated[int, Field(ge=1, le=366)] = 7
    handover: time = time(8, 30)
    rank: Annotated[int, Field(ge=1, le=9)] = 1
    holidays: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _forward(self) -> "_Rotation":
        if not self.begins < self.until <= self.begins + LONGEST_PLAN:
            raise InvalidValue(say("notices.until_years", until=self.until, begins=self.begins))
        return self


class _Shift(Table):
    person: str
    begins: AwareDatetime
    until: AwareDatetime
    rank: Annotated[int, Field(ge=1, le=9)] = 1

    @model_validator(mode="after")
    def _forward(self) -> "_Shift":
        if not self.begins < self.until:
            raise InvalidValue(say("notices.until_after", until=self.until, begins=self.begins))
        return self


class _Plan(Table):
    rotation: list[_Rotation] = Field(default_factory=list)
    shift: list[_Shift] = Field(default_factory=list)


def read(text: str, is_contact: Callable[[str], bool]) -> tuple[list[Shift], list[Text]]:
    """The shifts of a plan, and notes on it (a year whose holidays are not published yet).

    ``is_contact`` tells whether there is a contact of this key. Raises ConfigurationError naming the first fault.
    """
    plan = parse(text, _Plan)
    named = [p for r in plan.rotation for p in (*r.people, *r.holidays)] + [s.person for s in plan.shift]
    unknown = [person for person in named if not is_contact(person)]
    if unknown:
        raise ConfigurationError(say("notices.no_contact", strange=unknown[0]))
    found: list[Shift] = []
    notes: list[Text] = []
    for rotation in plan.rotation:
        turns, remarks = _turns(rotation)
        found += turns
        notes += remarks
    found += [Shift(s.person, to_ms(s.begins), to_ms(s.until), s.rank, SINGLE) for s in plan.shift]
    if not found:
        raise ConfigurationError(say("notices.no_plan"))
    return found, notes


def replace(connection: sa.Connection, shifts: Sequence[Shift], *, by: str, now_ms: int) -> int:
    """Replace what was planned from the first of these shifts on; returns how many shifts were dropped.

    A shift under way at that instant ends there. The plan is appended to the audit trail. The caller commits.
    """
    c = oncall_shift.c
    begin = min(shift.starts_at_ms for shift in shifts)
    dropped = connection.execute(sa.delete(oncall_shift).where(c.starts_at_ms >= begin)).rowcount
    connection.execute(sa.update(oncall_shift).where(c.ends_at_ms > begin).values(ends_at_ms=begin))
    add(connection, shifts, by=by, now_ms=now_ms, what="oncall.replaced")
    return dropped


def add(
    connection: sa.Connection, shifts: Iterable[Shift], *, by: str, now_ms: int, what: str = "oncall.added"
) -> None:
    """Add shifts to the plan and the audit trail; the caller commits."""
    rows = [asdict(shift) | {"by": by, "at_ms": now_ms} for shift in shifts]
    connection.execute(sa.insert(oncall_shift), rows)
    audit_trail.append(connection, what, kind="oncall", id="office", body={"shifts": rows}, by=by, at_ms=now_ms)


def replan(
    connection: sa.Connection, turns: Sequence[Shift], *, rank: int, begin_ms: int, end_ms: int, by: str, now_ms: int
) -> None:
    """Put a rotation of a rank in the place of the one in [begin, end); shifts of their own stay. The caller commits.

    A turn that reaches into the span is cut at its edges.
    """
    c = oncall_shift.c
    here = (c.priority < SINGLE, c.rank == rank, c.starts_at_ms < end_ms, c.ends_at_ms > begin_ms)
    found = [Shift(*row) for row in connection.execute(sa.select(*_COLUMNS).where(*here))]
    connection.execute(sa.delete(oncall_shift).where(*here))
    rests = [
        dataclasses.replace(one, starts_at_ms=start, ends_at_ms=end)
        for one in found
        for start, end in ((one.starts_at_ms, begin_ms), (end_ms, one.ends_at_ms))
        if start < end
    ]
    add(connection, [*rests, *turns], by=by, now_ms=now_ms, what="oncall.replanned")


def shifts_by_number(connection: sa.Connection, start_ms: int, end_ms: int) -> dict[int, Shift]:
    """The shifts that touch [start, end) by their numbers, in order of time."""
    c = oncall_shift.c
    query = sa.select(c.id, *_COLUMNS).where(c.starts_at_ms < end_ms, c.ends_at_ms > start_ms)
    return {row[0]: Shift(*row[1:]) for row in connection.execute(query.order_by(c.starts_at_ms, c.rank, c.id))}


def get(connection: sa.Connection, number: int) -> Shift:
    """The shift of this number; raises NotFound."""
    row = None
    if 0 < number < 2**31:
        row = connection.execute(sa.select(*_COLUMNS).where(oncall_shift.c.id == number)).first()
    if row is None:
        raise NotFound(say("notice.no_such_shift"))
    return Shift(*row)


def change(connection: sa.Connection, after: Mapping[int, Shift | None], *, by: str, now_ms: int, what: str) -> None:
    """Change shifts by their numbers, None removes one, and tell the audit trail; the caller commits."""
    for number, shift in after.items():
        this = oncall_shift.c.id == number
        if shift is None:
            connection.execute(sa.delete(oncall_shift).where(this))
        else:
            row = asdict(shift) | {"by": by, "at_ms": now_ms}
            connection.execute(sa.update(oncall_shift).where(this).values(row))
    rows = [{"id": number} | (asdict(shift) if shift else {}) for number, shift in after.items()]
    audit_trail.append(connection, what, kind="oncall", id="office", body={"shifts": rows}, by=by, at_ms=now_ms)


def on_call(connection: sa.Connection, at_ms: int) -> list[list[str]]:
    """The keys on call at an instant, by rank, those called first in front; empty where nobody is."""
    return ranks(shifts(connection, at_ms, at_ms + 1), at_ms)


def shifts(connection: sa.Connection, start_ms: int, end_ms: int) -> list[Shift]:
    """The shifts that touch [start, end), in order of time."""
    c = oncall_shift.c
    query = (
        sa.select(*_COLUMNS)
        .where(c.starts_at_ms < end_ms, c.ends_at_ms > start_ms)
        .order_by(c.starts_at_ms, c.rank, c.id)
    )
    return [Shift(*row) for row in connection.execute(query)]


def ranks(planned: Iterable[Shift], at_ms: int) -> list[list[str]]:
    """Who of some shifts is on call at an instant, by rank."""
    found: dict[int, tuple[int, list[str]]] = {}
    for shift in planned:
        if not shift.starts_at_ms <= at_ms < shift.ends_at_ms:
            continue
        priority, people = found.get(shift.rank, (-1, []))
        if shift.priority > priority:
            found[shift.rank] = (shift.priority, [shift.person])
        elif shift.priority == priority and shift.person not in people:
            people.append(shift.person)
    return [people for _, (_, people) in sorted(found.items())]


def gaps(planned: Sequence[Shift], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """The spans of [start, end) in which nobody is on call."""
    found = []
    at_ms: int | None = start_ms
    while at_ms is not None and (begin_ms := uncovered(planned, at_ms, end_ms)) is not None:
        at_ms = min((s.starts_at_ms for s in planned if begin_ms < s.starts_at_ms < end_ms), default=None)
        found.append((begin_ms, end_ms if at_ms is None else at_ms))
    return found


def uncovered(planned: Sequence[Shift], start_ms: int, end_ms: int) -> int | None:
    """The first instant in [start, end) at which nobody is on call; None when somebody always is."""
    at_ms = start_ms
    while at_ms < end_ms:
        ends = [s.ends_at_ms for s in planned if s.starts_at_ms <= at_ms < s.ends_at_ms]
        if not ends:
            return at_ms
        at_ms = max(ends)
    return None


def turns(
    people: Sequence[str], begins: date, until: date, *, days: int, handover: time, rank: int
) -> tuple[list[Shift], int, int]:
    """The shifts of people who take turns, ``days`` each, and the span [begin, end) they fill."""
    rotation = _Rotation(people=list(people), begins=begins, until=until, days=days, handover=handover, rank=rank)
    return _turns(rotation)[0], _ms_of(begins, rotation), _ms_of(until, rotation)


def _turns(rotation: _Rotation) -> tuple[list[Shift], list[Text]]:
    """The shifts of a rotation, and of the holidays within it."""
    found: list[Shift] = []
    day, turn = rotation.begins, 0
    while day < rotation.until:
        following = min(day + timedelta(days=rotation.days), rotation.until)
        person = rotation.people[turn % len(rotation.people)]
        found.append(Shift(person, _ms_of(day, rotation), _ms_of(following, rotation), rotation.rank, ROTATION))
        day, turn = following, turn + 1
    if not rotation.holidays:
        return found, []
    days, unknown = holidays(rotation.begins, rotation.until)
    for number, free in enumerate(days):
        start_ms = _ms_of(free, rotation)
        person = rotation.holidays[number % len(rotation.holidays)]
        found.append(Shift(person, start_ms, start_ms + DAY_MS, rotation.rank, HOLIDAY))
    return found, [say("notice.holidays_unknown", year=year) for year in unknown]


def holidays(begins: date, until: date) -> tuple[list[date], list[int]]:
    """The statutory holidays (法定节假日) of mainland China in [begins, until), and the years whose are not known yet.

    From the package chinesecalendar, which is published anew each year after the State Council's notice.
    """
    import chinese_calendar  # large, and seldom needed

    found: list[date] = []
    unknown: set[int] = set()
    day = begins
    while day < until:
        try:
            free, name = chinese_calendar.get_holiday_detail(day)
            if free and name:  # a plain weekend has no name
                found.append(day)
        except NotImplementedError:
            unknown.add(day.year)
        day += timedelta(days=1)
    return found, sorted(unknown)


def _ms_of(day: date, rotation: _Rotation) -> int:
    return to_ms(datetime.combine(day, rotation.handover, BEIJING))
