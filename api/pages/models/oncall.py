"""Who is on call: the calendar of some weeks, what the forms plan, and who would be told of what. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from api.pages.models.messages import midnight
from api.requests import whole_number
from governance.incidents.finding import Colour
from governance.notify import oncall
from governance.notify.contacts import Directory, Place
from governance.notify.oncall import ROTATION, SINGLE, Shift
from governance.notify.policy import NoticePolicy
from governance.notify.preview import Duty as OnDuty
from governance.notify.preview import PreviewedMessage, preview
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import BEIJING, DAY_MS, beijing, beijing_day, to_ms
from sensors.stations import Registry

WEEKS = 4
MOST_TURNS = 8
"""People of a rotation in one form."""
MOST_WEEKS = 53
NIGHT = time(2)
COLOURS = (Colour.RED, Colour.ORANGE, Colour.YELLOW)


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call from a time of a day on (``08:30``; "" from its beginning), by rank; nobody: a gap.

    ``numbers`` are the shifts that hold. ``changed``: one of its own holds here over the rotation.
    """

    from_time: str
    people: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A day in Beijing; ``sort`` is ``past``, ``today`` or ``ahead``."""

    day: date
    sort: str
    duties: tuple[Duty, ...]

    @property
    def gap(self) -> bool:
        """Whether nobody is on call for a part of it, and it is not over."""
        return self.sort != "past" and any(not duty.people for duty in self.duties)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the plan: when, by whom, what, and the shifts it is about."""

    at_ms: int
    by: str
    what: str
    shifts: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Previewed:
    """A step of escalation of a colour: who is told when it happens now, and when it happens at night."""

    colour: Colour
    step: int
    now: tuple[PreviewedMessage, ...]
    night: tuple[PreviewedMessage, ...]


@dataclass(frozen=True)
class Given:
    """What a form of the page says."""

    do: str = ""
    person: str = ""
    begins: str = ""
    until: str = ""
    rank: str = "1"
    was: str = ""
    other: str = ""
    kind: str = "turns"
    days: str = "7"
    handover: str = "08:30"
    first: str = ""
    weeks: str = "4"
    turns: tuple[str, ...] = ()
    weekdays: tuple[str, ...] = ()


def monday(day: date) -> date:
    """The Monday of the week of a day."""
    return day - timedelta(days=day.weekday())


def first_day(text: str, now_ms: int) -> date:
    """The Monday that the calendar begins with: of the week the address names, else of this one."""
    try:
        named = date.fromisoformat(text)
    except ValueError:
        named = beijing_day(now_ms)
    today = beijing_day(now_ms)
    return monday(named if abs((named - today).days) < 800 else today)


def calendar(
    known: Mapping[int, Shift], start: date, now_ms: int, name: Callable[[str], str], weeks: int = WEEKS
) -> tuple[tuple[CalendarDay, ...], ...]:
    """Some weeks, Monday first."""
    today = beijing_day(now_ms)
    days = []
    for i in range(7 * weeks):
        day = start + timedelta(days=i)
        sort = "past" if day < today else "today" if day == today else "ahead"
        days.append(CalendarDay(day, sort, duties(known, day, name)))
    return tuple(tuple(days[i : i + 7]) for i in range(0, len(days), 7))


def duties(known: Mapping[int, Shift], day: date, name: Callable[[str], str]) -> tuple[Duty, ...]:
    """Who is on call on a day, in order; what stays the same over a boundary is told once."""
    start_ms = midnight(day)
    here = {n: s for n, s in known.items() if s.starts_at_ms < start_ms + DAY_MS and s.ends_at_ms > start_ms}
    ends = {e for s in here.values() for e in (s.starts_at_ms, s.ends_at_ms) if start_ms < e < start_ms + DAY_MS}
    found: list[Duty] = []
    for at_ms in sorted({start_ms, *ends}):
        now = {n: s for n, s in here.items() if s.starts_at_ms <= at_ms < s.ends_at_ms}
        people = tuple(tuple(map(name, keys)) for keys in oncall.ranks(now.values(), at_ms))
        best = {s.rank: max(o.priority for o in now.values() if o.rank == s.rank) for s in now.values()}
        numbers = tuple(sorted((n for n, s in now.items() if s.priority == best[s.rank]), key=lambda n: now[n].rank))
        changed = SINGLE in best.values()
        if not found or (found[-1].people, found[-1].changed) != (people, changed):
            found.append(Duty("" if at_ms == start_ms else beijing(at_ms, "%H:%M"), people, numbers, changed))
    return tuple(found)


def until_ms(known: Mapping[int, Shift], person: str, at_ms: int) -> int:
    """Until when somebody who is on call now stays so."""
    end_ms = at_ms
    for one in sorted(known.values(), key=lambda s: s.starts_at_ms):
        if one.person == person and one.starts_at_ms <= end_ms < one.ends_at_ms:
            end_ms = one.ends_at_ms
    return end_ms


def shift(person: str, begins: str, until: str, rank: str) -> Shift:
    """A shift from a form, whose times are Beijing time (``2026-10-01T08:30``). Raises ConfigurationError."""
    if not person:
        raise ConfigurationError(say("notice.choose_person"))
    begin_ms, end_ms = _instant(begins), _instant(until)
    if begin_ms >= end_ms:
        raise ConfigurationError(say("notice.ends_early"))
    return Shift(person, begin_ms, end_ms, _whole(rank or "1", 1, 9, "rank_field"))


def mark(one: Shift) -> str:
    """What tells a shift from what it was before somebody changed it."""
    return f"{one.person}|{one.starts_at_ms}|{one.ends_at_ms}|{one.rank}"


def rotation(given: Given, today: date) -> tuple[list[Shift], int, int]:
    """The shifts of a pattern, and the span [begin, end) that it fills: people in turn, or a person for each weekday.

    Raises ConfigurationError, also for one that begins before today: who was on call stays as it was.
    """
    rank = _whole(given.rank or "1", 1, 9, "rank_field")
    weeks = _whole(given.weeks, 1, MOST_WEEKS, "weeks")
    try:
        first, handover = date.fromisoformat(given.first), time.fromisoformat(given.handover)
    except ValueError:
        raise ConfigurationError(say("oncall_page.no_first")) from None
    if first < today:
        raise ConfigurationError(say("oncall_page.past"))
    until = first + timedelta(days=7 * weeks)
    if given.kind == "turns":
        people = [one for one in given.turns if one]
        if not people:
            raise ConfigurationError(say("notice.choose_person"))
        days = _whole(given.days, 1, 28, "days")
        return oncall.turns(people, first, until, days=days, handover=handover, rank=rank)
    if not any(given.weekdays):
        raise ConfigurationError(say("notice.choose_person"))
    found: list[Shift] = []
    for i in range(7 * weeks):
        day = first + timedelta(days=i)
        person = given.weekdays[day.weekday()]
        start_ms = to_ms(datetime.combine(day, handover, BEIJING))
        if found and found[-1].person == person and found[-1].ends_at_ms == start_ms:
            before = found.pop()
            found.append(Shift(person, before.starts_at_ms, start_ms + DAY_MS, rank, ROTATION))
        elif person:
            found.append(Shift(person, start_ms, start_ms + DAY_MS, rank, ROTATION))
    begin_ms = to_ms(datetime.combine(first, handover, BEIJING))
    return found, begin_ms, begin_ms + 7 * weeks * DAY_MS


def _instant(text: str) -> int:
    try:
        return to_ms(datetime.fromisoformat(text).replace(tzinfo=BEIJING))
    except ValueError:
        raise ConfigurationError(say("notice.give_times")) from None


def _whole(text: str, least: int, most: int, name: str) -> int:
    number = whole_number(text, 3)
    if number is None or not least <= number <= most:
        raise ConfigurationError(say("oncall_page.no_number", name=say(f"oncall_page.{name}"), least=least, most=most))
    return number


def changes(lines: Iterable[tuple[int, str, str, Sequence[Mapping[str, Any]]]]) -> tuple[Change, ...]:
    """Entries of the trail about the plan: (at_ms, by, what, shifts)."""

    def one(row: Mapping[str, Any]) -> tuple[str, int, int]:
        return str(row["person"]), int(row["starts_at_ms"]), int(row["ends_at_ms"])

    return tuple(
        Change(at_ms, by, what.removeprefix("oncall."), tuple(one(row) for row in rows if "person" in row))
        for at_ms, by, what, rows in lines
    )


def place_on(registry: Registry, reach: str, up: Callable[[str], Sequence[str]]) -> Place | None:
    """Where an incident on a river would be: at its first station; None where it has none."""
    station = next((s for s in registry.stations if s.reach == reach), None)
    return None if station is None else Place(Text(station.zh, station.en), tuple(up(station.region)), reach)


def previews(
    directory: Directory, place: Place, now_ms: int, duty: OnDuty, policy: NoticePolicy
) -> tuple[Previewed, ...]:
    """Who would be told of an incident of each colour, step by step, now and at night."""
    night_ms = midnight(beijing_day(now_ms)) + NIGHT.hour * 3_600_000
    if night_ms <= now_ms:
        night_ms += DAY_MS
    found = []
    for colour in COLOURS:
        cases = [
            list(preview(directory, place, colour, at_ms, duty=duty, policy=policy)) for at_ms in (now_ms, night_ms)
        ]
        for step in range(1, max((one.step for case in cases for one in case), default=0) + 1):
            now, night = (tuple(one for one in case if one.step == step) for case in cases)
            found.append(Previewed(colour, step, now, night))
    return tuple(found)
