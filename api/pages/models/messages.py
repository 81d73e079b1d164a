"""Who was told what, and who is on call: rows and a calendar. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from api.pages.models.incident import NoticeRow
from governance.notify import oncall
from governance.notify.oncall import SINGLE, Shift
from governance.notify.outbox import Delivery
from governance.notify.store import QueueCounts
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import BEIJING, DAY_MS, beijing, beijing_day, to_ms

WEEKS = 4


@dataclass(frozen=True, slots=True)
class MessagesPage:
    """Messages to people, and what the external platform would not take; ``counts`` are of all there are."""

    counts: QueueCounts
    rows: tuple[NoticeRow, ...]
    more: int | None
    refused: tuple[Delivery, ...]
    pending: int
    contacts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call from a time of a day on (``08:30``; "" from its beginning), by rank; nobody: a gap.

    ``changed``: a shift of its own holds here over the rotation.
    """

    from_time: str
    people: tuple[tuple[str, ...], ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A day in Beijing; ``sort`` is ``past``, ``today`` or ``ahead``."""

    day: date
    sort: str
    duties: tuple[Duty, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the plan: when, by whom, and the shifts that came."""

    at_ms: int
    by: str
    what: str
    shifts: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class OnCallPage:
    """Who is on call, and the calendar; ``gap_ms``: when first nobody is."""

    now: tuple[tuple[str, ...], ...]
    weeks: tuple[tuple[CalendarDay, ...], ...]
    gap_ms: int | None
    changes: tuple[Change, ...]
    contacts: tuple[tuple[str, str], ...]


def first_day(now_ms: int) -> date:
    """The Monday of this week."""
    today = beijing_day(now_ms)
    return today - timedelta(days=today.weekday())


def midnight(day: date) -> int:
    """The first instant of a day in Beijing."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=BEIJING))


def calendar(
    shifts: Sequence[Shift], now_ms: int, name: Callable[[str], str], weeks: int = WEEKS
) -> tuple[tuple[CalendarDay, ...], ...]:
    """The weeks from this one on, Monday first."""
    start, today = first_day(now_ms), beijing_day(now_ms)
    days = []
    for i in range(7 * weeks):
        day = start + timedelta(days=i)
        sort = "past" if day < today else "today" if day == today else "ahead"
        days.append(CalendarDay(day, sort, duties(shifts, day, name)))
    return tuple(tuple(days[i : i + 7]) for i in range(0, len(days), 7))


def duties(shifts: Sequence[Shift], day: date, name: Callable[[str], str]) -> tuple[Duty, ...]:
    """Who is on call on a day, in order; what stays the same over a boundary is told once."""
    start_ms = midnight(day)
    here = [s for s in shifts if s.starts_at_ms < start_ms + DAY_MS and s.ends_at_ms > start_ms]
    edges = {start_ms, *(e for s in here for e in (s.starts_at_ms, s.ends_at_ms) if start_ms < e < start_ms + DAY_MS)}
    found: list[Duty] = []
    for at_ms in sorted(edges):
        people = tuple(tuple(map(name, keys)) for keys in oncall.ranks(here, at_ms))
        changed = any(s.priority == SINGLE and s.starts_at_ms <= at_ms < s.ends_at_ms for s in here)
        if not found or (found[-1].people, found[-1].changed) != (people, changed):
            found.append(Duty("" if at_ms == start_ms else beijing(at_ms, "%H:%M"), people, changed))
    return tuple(found)


def shift(person: str, begins: str, until: str, rank: float | None) -> Shift:
    """A shift from a form, whose times are Beijing time (``2026-10-01T08:30``). Raises ConfigurationError."""
    if not person:
        raise ConfigurationError(say("notice.choose_person"))
    begin_ms, end_ms = _instant(begins), _instant(until)
    if begin_ms >= end_ms:
        raise ConfigurationError(say("notice.ends_early"))
    return Shift(person, begin_ms, end_ms, int(rank or 1))


def _instant(text: str) -> int:
    try:
        return to_ms(datetime.fromisoformat(text).replace(tzinfo=BEIJING))
    except ValueError:
        raise ConfigurationError(say("notice.give_times")) from None


def changes(lines: Iterable[tuple[int, str, str, Sequence[Mapping[str, Any]]]]) -> tuple[Change, ...]:
    """Entries of the trail about the plan: (at_ms, by, what, shifts)."""

    def one(row: Mapping[str, Any]) -> tuple[str, int, int]:
        return str(row["person"]), int(row["starts_at_ms"]), int(row["ends_at_ms"])

    return tuple(Change(at_ms, by, what, tuple(map(one, rows))) for at_ms, by, what, rows in lines)
