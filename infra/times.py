"""Times: ms since the epoch, UTC; Beijing time only for days and for people."""

from datetime import UTC, date, datetime, timedelta, timezone

BEIJING = timezone(timedelta(hours=8), "UTC+8")
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
BEIJING_OFFSET_MS = 8 * HOUR_MS
YEAR_2000_MS = 946_684_800_000
TIME_BITS = 42
"""Milliseconds until the year 2109: room for the time below a station's number in one number to sort by."""
FUTURE_MS = 5 * MINUTE_MS
"""A device's clock may be this far ahead (engineering choice: GSM and NTP clocks stay within seconds)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN_EPOCH = _EPOCH.replace(tzinfo=None)  # adding to it is faster


def to_ms(moment: datetime) -> int:
    """Whole ms since the epoch; ``moment`` must carry an offset."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset from UTC")
    since = moment - _EPOCH  # by parts: dividing it by a ms takes four times as long
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def from_ms(at_ms: int) -> datetime:
    """The UTC datetime of ms since the epoch."""
    return _EPOCH + timedelta(milliseconds=int(at_ms))


def rfc3339(at_ms: int) -> str:
    """``2026-05-12T10:30:00Z``, with milliseconds only when there are any."""
    moment = _PLAIN_EPOCH + timedelta(milliseconds=int(at_ms))
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds") + "Z"


def beijing_day(at_ms: int) -> date:
    """The calendar day in Beijing of an instant."""
    return from_ms(int(at_ms) + BEIJING_OFFSET_MS).date()


def beijing_day_span(day: date) -> tuple[int, int]:
    """The instants at which a Beijing day begins and ends."""
    start_ms = to_ms(datetime(day.year, day.month, day.day, tzinfo=BEIJING))
    return start_ms, start_ms + DAY_MS


def beijing(at_ms: int, fmt: str = "%m-%d %H:%M") -> str:
    """An instant as people in Foshan read it."""
    return from_ms(at_ms).astimezone(BEIJING).strftime(fmt)
