"""Deadlines of steps: limits by colour, office hours, working days, reminders, escalation. Pure.

A limit is written ``30m`` (minutes), ``24h`` (hours, day and night), ``4wh`` (office hours) or ``5wd`` (working days: a
whole day of office hours each). The limits that ship are defaults for a site to confirm: those of accepting, of litter
(24 h), of ordinary (3 to 5 working days) and of complex problems (7 to 15), the reminder at 80 % and the escalation one
level up and again after 24 h are unverified.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise

from governance.incidents.finding import Colour
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import BEIJING, DAY_MS, HOUR_MS, MINUTE_MS, from_ms, to_ms

REMINDER_SHARE = 0.8
"""The share of a limit after which a reminder is sent; unverified."""

ESCALATION_INTERVAL_MS = 24 * HOUR_MS
"""An overdue step goes another level up after this; unverified."""

EMERGENCY_LIMITS: Mapping[str, str] = {"I": "2h", "II": "2h", "III": "4h", "IV": "4h"}
"""Within which a pollution emergency of each grade is reported upwards: III and IV to the city, I and II to province
and ministry. After 环境保护部令第17号, unverified."""

MAX_LIMIT_DAYS = 366
"""The longest limit, and the longest time that offices are searched for being open."""

_LIMIT = re.compile(r"([1-9]\d{0,4})(m|h|wh|wd)")


class Phase(StrEnum):
    """Phase of handling; each has its limits."""

    ACCEPT = "accept"
    DISPATCH = "dispatch"
    START = "start"
    HANDLE = "handle"
    VERIFY = "verify"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Limit:
    """A length of time; ``unit`` is m (minutes), h (hours), wh (office hours) or wd (working days)."""

    amount: int
    unit: str

    def __str__(self) -> str:
        return f"{self.amount}{self.unit}"


def parse_limit(text: str) -> Limit:
    """A limit from ``30m``, ``24h``, ``4wh`` or ``5wd``; raises ConfigurationError naming the text."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ConfigurationError(say("process.limit", text=text))
    made = Limit(int(match[1]), match[2])
    days = made.amount / {"m": 1440, "h": 24, "wh": 4, "wd": 0.5}[made.unit]
    if days > MAX_LIMIT_DAYS:
        raise ConfigurationError(say("process.limit_year", text=text))
    return made


class UnknownYear(UserWarning):
    """The calendar of public holidays does not cover the year; Monday to Friday count as working days."""


@lru_cache(maxsize=4096)
def is_working_day(day: date) -> bool:
    """Whether a day is a working day in mainland China (`chinesecalendar`, with shifted weekends).

    For a year that the package does not know yet, Monday to Friday are, and UnknownYear is warned of once a year.
    """
    import chinese_calendar  # large, and seldom needed

    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:
        _warn(day.year)
        return day.weekday() < 5


@lru_cache(maxsize=64)
def _warn(year: int) -> None:
    warnings.warn(
        f"the holidays of {year} are not known: Monday to Friday are taken for working days; update chinesecalendar",
        UnknownYear,
        stacklevel=4,
    )


@dataclass(frozen=True, slots=True)
class Emergencies:
    """By when a pollution emergency must be reported upwards, and how it is called out until then.

    ``within`` by grade. While nobody but whoever declared it has done anything, it is called one level up each
    ``answer``; once somebody has, when ``remind_at`` of the time is over and when it is; then ``again`` and again for a
    day. The two spans are our choice.
    """

    within: Mapping[str, Limit] = field(
        default_factory=lambda: {g: parse_limit(text) for g, text in EMERGENCY_LIMITS.items()}
    )
    answer: Limit = Limit(10, "m")
    again: Limit = Limit(30, "m")

    @property
    def longest_ms(self) -> int:
        """The longest wait for a call: until the hours of the mildest grade are over, or one is due again."""
        return max(_span_ms(span) for span in (*self.within.values(), self.answer, self.again))

    def next_call(self, grade: str, due_ms: int, now_ms: int, remind_at: float, *, answered: bool) -> int | None:
        """When it is called out next, while it is not reported; None a day after the hours are over."""
        remind_ms = due_ms - round((1 - remind_at) * _span_ms(self.within[grade])) if grade in self.within else due_ms
        if now_ms < remind_ms:
            return remind_ms if answered else min(now_ms + _span_ms(self.answer), remind_ms)
        if now_ms < due_ms:
            return due_ms
        return now_ms + _span_ms(self.again) if now_ms < due_ms + DAY_MS else None


def _span_ms(span: Limit) -> int:
    """The length of a limit that runs day and night."""
    return span.amount * {"m": MINUTE_MS, "h": HOUR_MS}[span.unit]


_STANDARD: Mapping[Phase, tuple[str, str, str, str]] = {  # red, orange, yellow, blue
    Phase.ACCEPT: ("10m", "30m", "2wh", "1wd"),
    Phase.DISPATCH: ("30m", "1h", "4wh", "1wd"),
    Phase.START: ("1h", "2h", "4wh", "1wd"),
    Phase.HANDLE: ("24h", "2wd", "5wd", "7wd"),
    Phase.VERIFY: ("24h", "1wd", "2wd", "3wd"),
    Phase.CLOSE: ("2wd", "2wd", "3wd", "5wd"),
}


def _standard() -> dict[tuple[Phase, Colour], Limit]:
    return {
        (phase, colour): parse_limit(text)
        for phase, texts in _STANDARD.items()
        for colour, text in zip(Colour, texts, strict=True)
    }


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """The limits and times in force. ``handle`` are those of single processes, by their key, for the handling itself.

    ``office`` are the office hours of a working day, Beijing time, in order.
    """

    limits: Mapping[tuple[Phase, Colour], Limit] = field(default_factory=_standard)
    handle: Mapping[str, Limit] = field(default_factory=dict)
    office: tuple[tuple[time, time], ...] = ((time(8, 30), time(12, 0)), (time(14, 0), time(17, 30)))
    remind_at: float = REMINDER_SHARE
    again_ms: int = ESCALATION_INTERVAL_MS
    reopen_within_ms: int = 30 * 24 * HOUR_MS
    close_after: int = 3
    """Good readings after the recovery that a sensor-raised incident needs before it is closed."""
    proof: Mapping[str, int] = field(default_factory=dict)
    """The same of single processes, by their key."""
    emergencies: Emergencies = field(default_factory=Emergencies)

    def limit(self, phase: Phase, colour: Colour, process: str = "") -> Limit:
        """What applies: the process's own limit for the handling, never longer than a more urgent colour allows."""
        general = self.limits[phase, colour]
        own = self.handle.get(process) if phase is Phase.HANDLE else None
        if own is None or colour in (Colour.RED, Colour.ORANGE):
            return general
        return own

    def due(self, phase: Phase, colour: Colour, since_ms: int, process: str = "") -> int:
        """By when, ms UTC, what began at ``since_ms`` must be done."""
        return self.after(since_ms, self.limit(phase, colour, process))

    def after(self, since_ms: int, span: Limit) -> int:
        """The instant a limit ends that begins at ``since_ms``."""
        if span.unit in ("m", "h"):
            return since_ms + _span_ms(span)
        whole = HOUR_MS if span.unit == "wh" else self.day_ms
        return self.later(since_ms, span.amount * whole)

    @property
    def day_ms(self) -> int:
        """Office time of one working day."""
        return sum(_length(start, end) for start, end in self.office)

    def later(self, since_ms: int, office_ms: int) -> int:
        """The instant by which so much office time has passed since ``since_ms``."""
        left = office_ms
        for start, end in self._open(since_ms):
            begin = max(start, since_ms)
            if left <= end - begin:
                return begin + left
            left -= end - begin
        raise ConfigurationError(say("process.no_office", days=MAX_LIMIT_DAYS, since_ms=since_ms))

    def between(self, start_ms: int, end_ms: int) -> int:
        """The office time from one instant to a later one, ms; 0 when it is not later."""
        total = 0
        for start, end in self._open(start_ms):
            if start >= end_ms:
                break
            total += max(0, min(end, end_ms) - max(start, start_ms))
        return total

    def reminder(self, since_ms: int, due_ms: int) -> int:
        """When to remind of a limit that runs from ``since_ms`` to ``due_ms``."""
        return since_ms + int((due_ms - since_ms) * self.remind_at)

    def _open(self, since_ms: int) -> Iterator[tuple[int, int]]:
        """The spans of office time that end after an instant, in order."""
        day = from_ms(since_ms).astimezone(BEIJING).date()
        for _ in range(2 * MAX_LIMIT_DAYS):
            if is_working_day(day):
                for start, end in self.office:
                    span = _beijing_ms(day, start), _beijing_ms(day, end)
                    if span[1] > since_ms:
                        yield span
            day += timedelta(days=1)


DEFAULT_POLICY = DeadlinePolicy()
"""The defaults of a site that sets nothing else."""


def parse_office_hours(pairs: list[list[str]]) -> tuple[tuple[time, time], ...]:
    """Office hours from ``[["08:30", "12:00"], …]``; raises ConfigurationError naming what is wrong."""
    try:
        made = tuple((time.fromisoformat(a), time.fromisoformat(b)) for a, b in pairs)
    except ValueError as error:
        raise ConfigurationError(say("process.office_wrong", pairs=pairs, error=error)) from None
    flat = [moment for pair in made for moment in pair]
    if not flat or any(a >= b for a, b in pairwise(flat)):
        raise ConfigurationError(say("process.office_pairs", pairs=pairs))
    return made


def _beijing_ms(day: date, moment: time) -> int:
    return to_ms(datetime.combine(day, moment, BEIJING))


def _length(start: time, end: time) -> int:
    return _beijing_ms(date(2026, 1, 1), end) - _beijing_ms(date(2026, 1, 1), start)
