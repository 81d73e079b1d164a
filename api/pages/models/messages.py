"""Messages to people and deliveries to the platform: what the list is narrowed to, and the sentence above it. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from api.duration import duration
from api.requests import whole_number
from governance.notify.message import Item
from governance.notify.store import Notice, NoticeFilter, StateCounts
from governance.notify.wording import item_text
from infra.texts import Text, from_both, say
from infra.times import BEIJING, DAY_MS, beijing_day, to_ms

STATES = ("waiting", "delivered", "confirmed", "failed", "cancelled")
SPANS = {"day": 1, "week": 7, "month": 30, "all": 0}
"""Days that the list goes back, the first of them today; 0: without an end."""
USUAL_SPAN = "month"
ROWS = 30
EXPORT_HEAD = (
    "column_when",
    "column_to",
    "column_colour",
    "column_kind",
    "column_what",
    "column_incident",
    "column_fate",
    "channel",
    "column_sent",
    "column_confirmed",
    "column_tries",
    "column_why",
)
"""Columns of the list as a file."""
MOST_ROWS = 600
_HTTP_STATUS = re.compile(r"HTTP (\d{3})\b")
LATE_MS = 5 * 60_000
"""A message that is due for so long is stuck."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address narrows the list to; ``rows`` are shown."""

    person: str = ""
    incident: int = 0
    state: str = ""
    channel: str = ""
    span: str = USUAL_SPAN
    rows: int = ROWS

    @property
    def asked(self) -> bool:
        """Whether anything is left out by choice."""
        return bool(self.person or self.incident or self.state or self.channel or self.span != USUAL_SPAN)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something was not taken and who can do what about it; ``original``: the words of the other side."""

    text: Text
    original: str = ""


NO_FAILURE = Failure(Text("", ""))


@dataclass(frozen=True, slots=True)
class Row:
    """A message: to whom, what it says first, what became of it (one of STATES)."""

    notice: Notice
    name: str
    kind: str
    colour: str
    text: Text
    state: str
    error: Failure
    incidents: tuple[int, ...]


def midnight(day: date) -> int:
    """The first instant of a day in Beijing."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=BEIJING))


def choice(query: Mapping[str, str]) -> Choice:
    """What an address asks for; unknown values narrow nothing."""

    def number(name: str, most: int) -> int:
        return min(whole_number(query.get(name, "")) or 0, most)

    state, span = query.get("state", ""), query.get("span", "")
    return Choice(
        query.get("person", "")[:80],
        number("incident", 2**31 - 1),
        state if state in STATES else "",
        query.get("channel", "")[:32],
        span if span in SPANS else USUAL_SPAN,
        max(ROWS, number("rows", MOST_ROWS)),
    )


def since_ms(span: str, now_ms: int) -> int:
    """When a span begins."""
    days = SPANS[span]
    return midnight(beijing_day(now_ms)) - (days - 1) * DAY_MS if days else 0


def wanted(chosen: Choice, now_ms: int) -> NoticeFilter:
    """The choice as the store has it."""
    status = {"waiting": "pending", "delivered": "sent", "confirmed": "sent", "failed": "dead"}
    return NoticeFilter(
        status=status.get(chosen.state, chosen.state) or None,
        confirmed=True if chosen.state == "confirmed" else None,
        contact=chosen.person or None,
        incident=chosen.incident or None,
        channel=chosen.channel or None,
        since_ms=since_ms(chosen.span, now_ms),
    )


def state_of(one: Notice) -> str:
    """One of STATES."""
    if one.status == "sent":
        return "delivered" if one.acknowledged_at_ms is None else "confirmed"
    return {"pending": "waiting", "dead": "failed"}.get(one.status, "cancelled")


def rows(notices: Iterable[Notice], found: Mapping[int, Sequence[Item]], name: Callable[[str], str]) -> list[Row]:
    """Messages as people read them, with what is most urgent in each."""
    made = []
    for one in notices:
        items = sorted(found.get(one.id, ()), key=lambda item: item.colour.rank)
        if not items:
            continue
        made.append(
            Row(
                notice=one,
                name=name(one.contact),
                kind=items[0].kind.value,
                colour=items[0].colour.value if items[0].incident_id else "",
                text=item_text(items[0]),
                state=state_of(one),
                error=gateway_failure(one.last_error),
                incidents=tuple(sorted({item.incident_id for item in items if item.incident_id})),
            )
        )
    return made


def gateway_failure(error: str | None) -> Failure:
    """Why a message to somebody was not taken, from what was recorded of it."""
    found = _HTTP_STATUS.search(error or "")
    return _failure(error or "", int(found[1]) if found else None, "gateway")


def platform_failure(error: str | None, status: int | None) -> Failure:
    """Why the external platform did not take an event."""
    return _failure(error or "", status, "other_side")


def _failure(error: str, status: int | None, party: str) -> Failure:
    """A sentence by the HTTP status; without one our own words as they are, those of others behind a sentence."""
    if not error and status is None:
        return NO_FAILURE
    words = from_both(error)
    if status is None and words.zh != words.en:
        return Failure(words)
    text = say(f"messages_page.failure_{_cause(status)}", party=say(f"messages_page.{party}"), status=status)
    return Failure(text, error if words.zh == words.en else "")


def _cause(status: int | None) -> str:
    match status:
        case None:
            return "silent"
        case 401 | 403:
            return "account"
        case 404 | 410:
            return "address"
        case 408 | 425 | 429:
            return "busy"
        case _:
            return "down" if status >= 500 else "content"


def sentence(counts: StateCounts, refused: int, reachable: bool, now_ms: int) -> tuple[str, Text]:
    """How it stands (``good`` or ``bad``), and in words: what is stuck first."""
    late_ms = 0 if counts.oldest_due_at_ms is None else now_ms - counts.oldest_due_at_ms
    if not reachable:
        return "bad", say("messages_page.verdict_nobody")
    if counts.failed:
        return "bad", say("messages_page.verdict_failed", count=counts.failed)
    if late_ms > LATE_MS:
        return "bad", say("messages_page.verdict_late", count=counts.waiting, time=duration(late_ms))
    if counts.unconfirmed:
        return "bad", say("messages_page.verdict_unconfirmed", count=counts.unconfirmed)
    if refused:
        return "bad", say("messages_page.verdict_refused", count=refused)
    if counts.waiting:
        return "good", say("messages_page.verdict_waiting", count=counts.waiting)
    return "good", say("messages_page.verdict_good" if counts.sent else "messages_page.verdict_none")
