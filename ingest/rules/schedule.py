"""When a rule is active: hours, days and months of Beijing time, and the mutes that people enter. Pure.

Outside its times a rule fires nothing; a condition that fired before still ends when the readings show it.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from governance.incidents.deadlines import is_working_day
from infra.errors import ConfigurationError
from infra.texts import Text, say
from infra.times import BEIJING_OFFSET_MS, DAY_MS, MINUTE_MS
from sensors.maintenance import Mute

_HOURS = re.compile(r"(\d{1,2})(?::(\d\d))?-(\d{1,2})(?::(\d\d))?")
_EPOCH = date(1970, 1, 1)


class Days(StrEnum):
    """All days, working days in China, or the others."""

    EVERY = "every"
    WORKING = "working"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Active times of a rule in Beijing time. Its ``repr`` is part of stored rule versions.

    ``hours`` are minutes of the day, start included and end not, over midnight where end <= start; None means all day.
    A night belongs to the day on which it begins. ``months`` 1 to 12; none means all.
    """

    hours: tuple[int, int] | None = None
    days: Days = Days.EVERY
    months: tuple[int, ...] = ()

    @property
    def always(self) -> bool:
        return self.hours is None and self.days is Days.EVERY and not self.months

    def covers(self, at_ms: int) -> bool:
        day, of_day = divmod(at_ms + BEIJING_OFFSET_MS, DAY_MS)
        if self.hours is not None:
            start, end = self.hours
            minute = of_day // MINUTE_MS
            if start < end:
                if not start <= minute < end:
                    return False
            elif end <= minute < start:
                return False
            elif minute < end:
                day -= 1
        if self.days is not Days.EVERY and _is_working_day(day) is not (self.days is Days.WORKING):
            return False
        return not self.months or (_EPOCH + timedelta(days=day)).month in self.months

    def overlaps(self, other: "Schedule") -> bool:
        """Whether there is a time at which both are active."""
        if {self.days, other.days} == {Days.WORKING, Days.OFF}:
            return False
        if self.months and other.months and not set(self.months) & set(other.months):
            return False
        own, theirs = _minutes(self.hours), _minutes(other.hours)
        return any(a < d and c < b for a, b in own for c, d in theirs)

    @property
    def text(self) -> Text:
        """``22:00–06:00, on working days, in months 4, 5``; not for a schedule without limits."""
        parts = []
        if self.hours is not None:
            parts.append(say("schedule.hours", start=_clock(self.hours[0]), end=_clock(self.hours[1])))
        if self.days is not Days.EVERY:
            parts.append(say(f"schedule.{self.days}"))
        if self.months:
            months = Text("、".join(map(str, self.months)), ", ".join(map(str, self.months)))
            parts.append(say("schedule.months", months=months))
        return Text("，".join(p.zh for p in parts), ", ".join(p.en for p in parts))


ALWAYS = Schedule()


def schedule(row: Mapping[str, Any]) -> Schedule:
    """From ``hours`` ("22:00-06:00"), ``on_days`` ("working", "off") and ``months`` ([4, 5]) of a rule.

    Raises ConfigurationError naming the entry and its value.
    """
    hours, days, months = row.get("hours"), row.get("on_days", "every"), row.get("months", [])
    if hours is not None:
        found = _HOURS.fullmatch(hours) if isinstance(hours, str) else None
        if found is None:
            raise ConfigurationError(say("rule.hours_form", hours=hours))
        start, end = (60 * int(found[i]) + int(found[i + 1] or 0) for i in (1, 3))
        if (
            max(start, end) > 24 * 60
            or int(found[2] or 0) > 59
            or int(found[4] or 0) > 59
            or start % 1440 == end % 1440
        ):
            raise ConfigurationError(say("rule.hours_empty", hours=hours))
        hours = (start % 1440, end)
    if days not in set(Days):
        raise ConfigurationError(say("rule.days_one_of", days=days, known=", ".join(Days)))
    if not isinstance(months, list) or any(isinstance(m, bool) or m not in range(1, 13) for m in months):
        raise ConfigurationError(say("rule.months_list", months=months))
    return Schedule(hours, Days(days), tuple(sorted(set(months))))


class Mutes:
    """The mutes in force."""

    def __init__(self, mutes: Iterable[Mute] = ()) -> None:
        self._of: dict[str, list[Mute]] = {}
        self.take(mutes)

    def take(self, mutes: Iterable[Mute]) -> None:
        """Replace the mutes."""
        self._of = {}
        for one in sorted(mutes):
            self._of.setdefault(one.station, []).append(one)

    def cover(self, rule: str, station: str, at_ms: int) -> bool:
        """Whether the rule is muted at the station at that instant."""
        of_station = self._of.get(station)
        if not of_station:
            return False
        last = bisect_right(of_station, at_ms, key=lambda one: one.since_ms)
        return any(at_ms < one.until_ms and (not one.rules or rule in one.rules) for one in of_station[:last])


@dataclass(frozen=True, slots=True)
class ActiveTimes:
    """When one rule may fire at one station."""

    rule: str
    station: str
    schedule: Schedule
    mutes: Mutes

    def covers(self, at_ms: int) -> bool:
        return self.schedule.covers(at_ms) and not self.mutes.cover(self.rule, self.station, at_ms)


def _minutes(hours: tuple[int, int] | None) -> list[tuple[int, int]]:
    if hours is None:
        return [(0, 1440)]
    start, end = hours
    return [(start, end)] if start < end else [(start, 1440), (0, end)]


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _is_working_day(day: int) -> bool:
    """Whether this Beijing day (days since 1970-01-01) is a working day."""
    return is_working_day(_EPOCH + timedelta(days=day))
