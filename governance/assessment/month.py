"""The month of an assessment, and the months whose entries it needs."""

from datetime import datetime

from governance.assessment.model import Formula
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import BEIJING, DAY_MS, to_ms


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


def reads_from(month: str, formula: Formula) -> int:
    """The instant from which on the trail has to be read for a month, ms UTC."""
    start_ms, _ = month_of(month)
    return min(start_ms - formula.recurrence_days * DAY_MS, month_of(month_before(start_ms))[0])


def year_before(month: str) -> tuple[int, int]:
    """Start and end of the same month a year before: of it the classes are compared. Raises ConfigurationError."""
    start_ms, _ = month_of(month)
    day = datetime.fromtimestamp(start_ms / 1000, BEIJING)
    return month_of(f"{day.year - 1:04d}-{day.month:02d}")


def month_before(start_ms: int) -> str:
    """The month before the one that begins then."""
    return datetime.fromtimestamp((start_ms - DAY_MS) / 1000, BEIJING).strftime("%Y-%m")
