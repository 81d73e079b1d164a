"""What people are told, when, and in which words. Pure: no clock, no database, no network.

The colours' times, quiet hours and the wording are defaults for a site to confirm (settings, ``infra/texts.toml``);
they follow no published rule.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from governance.incidents.finding import Colour
from governance.incidents.headline import IN_A_MESSAGE, Headline, cut, fitted, joined, words
from infra.texts import Text, say
from infra.times import BEIJING, beijing, from_ms, to_ms

ROOM = {"zh": 70, "en": 160}
"""Characters of a first line: what one SMS carries, UCS-2 and GSM 7 bit."""
LISTED = 10
"""Incidents named in a message of many."""
TEST = 0
"""Stands for the number of an incident in a test message."""
STALE_MS = 24 * 3_600_000
"""Nothing older calls anybody out."""


class Kind(StrEnum):
    """What a message tells of an incident."""

    OPENED = "opened"
    PAST = "past"
    """Found in late data: informs, never pages."""
    AGAIN = "again"
    """More urgent than before, or back after it had ended."""
    PROMOTED = "promoted"
    """Late data become a live incident."""
    REOPENED = "reopened"
    DISPATCHED = "dispatched"
    REMINDER = "reminder"
    OVERDUE = "overdue"
    SUPERVISED = "supervised"
    EMERGENCY = "emergency"
    ESCALATED = "escalated"
    """Nobody confirmed in time."""
    RECOVERED = "recovered"
    WITHDRAWN = "withdrawn"
    """What people were told of rested on readings that turned out to be wrong."""
    CLOSED = "closed"
    TEST = "test"


CALLS = frozenset({Kind.OPENED, Kind.AGAIN, Kind.PROMOTED, Kind.REOPENED})
"""What somebody has to confirm."""
PRESSING = CALLS | {Kind.ESCALATED, Kind.REMINDER, Kind.OVERDUE, Kind.SUPERVISED, Kind.EMERGENCY}
"""What the colour's times hold for; the rest is told as news."""

_KINDS: Mapping[str, Kind] = {
    "reported": Kind.OPENED,
    "promoted": Kind.PROMOTED,
    "reopened": Kind.REOPENED,
    "dispatched": Kind.DISPATCHED,
    "transferred": Kind.DISPATCHED,
    "reworked": Kind.DISPATCHED,
    "succeeded": Kind.DISPATCHED,
    "reminded": Kind.REMINDER,
    "overdue": Kind.OVERDUE,
    "supervised": Kind.SUPERVISED,
    "emergency": Kind.EMERGENCY,
    "emergency_unreported": Kind.EMERGENCY,
    "withdrawn": Kind.WITHDRAWN,
    "rejected": Kind.CLOSED,
    "closed": Kind.CLOSED,
    "false_alarm": Kind.CLOSED,
}

AFTER = frozenset({Kind.RECOVERED, Kind.WITHDRAWN, Kind.CLOSED})
"""What only those hear who were told of the incident before."""

CONFIRMED = CALLS | {Kind.ESCALATED, Kind.EMERGENCY}
"""What the button behind the link confirms."""
_SINCE = CALLS | {Kind.PAST, Kind.ESCALATED}
"""Of these it matters since when."""
_DUE = frozenset({Kind.DISPATCHED, Kind.REMINDER, Kind.OVERDUE, Kind.SUPERVISED, Kind.EMERGENCY})
"""What has a deadline of its own."""

TO_HANDLER = frozenset({Kind.DISPATCHED, Kind.REMINDER, Kind.OVERDUE, Kind.SUPERVISED, Kind.WITHDRAWN})
"""What concerns whoever answers for the case now."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When people are told. Times of day are Beijing time; ``confirm`` in minutes, a colour without it asks nothing.

    ``quiet``: from when until when nobody but those on call is disturbed, and that for red and orange alone.
    ``morning``: when what was held is told; ``digest``: when blue is. ``window_s``: what comes within it and belongs
    together is one message; red waits a quarter of it. ``most``: messages to one contact within a window, beyond which
    all regions are one. ``per_minute``: messages through one channel.
    """

    confirm: Mapping[Colour, int] = field(
        default_factory=lambda: {Colour.RED: 10, Colour.ORANGE: 30, Colour.YELLOW: 120}
    )
    quiet: tuple[time, time] = (time(22), time(7))
    morning: time = time(7, 30)
    digest: time = time(8)
    window_s: float = 60.0
    most: int = 5
    per_minute: int = 15
    link_hours: float = 24.0
    give_up_hours: float = 24.0

    def is_quiet(self, at_ms: int) -> bool:
        """Whether an instant lies in the quiet hours."""
        now, (begin, end) = _local(at_ms).time(), self.quiet
        return begin <= now < end if begin <= end else now >= begin or now < end

    def next_active_time(self, at_ms: int) -> int:
        """This instant, or the morning after the quiet hours it lies in."""
        return _next(at_ms, self.morning) if self.is_quiet(at_ms) else at_ms

    def due(self, colour: Colour, at_ms: int, *, on_duty: bool) -> int:
        """When something that happened at ``at_ms`` may be told to somebody who is (not) on call now."""
        if colour is Colour.RED:
            return at_ms
        if colour is Colour.BLUE:
            return _next(at_ms, self.digest)
        if colour is Colour.ORANGE and on_duty:
            return at_ms
        return self.next_active_time(at_ms)

    def gather_ms(self, colour: Colour) -> int:
        """For how long what belongs together is waited for after a message."""
        return round(self.window_s * (250 if colour is Colour.RED else 1000))

    def unconfirmed_at(self, colour: Colour, at_ms: int) -> int | None:
        """When something told at ``at_ms`` goes to the next step; None when nothing is asked."""
        minutes = self.confirm.get(colour)
        if minutes is None:
            return None
        start_ms = at_ms if colour in {Colour.RED, Colour.ORANGE} else self.next_active_time(at_ms)
        return start_ms + minutes * 60_000


@dataclass(frozen=True, slots=True)
class Item:
    """What a message says of one incident.

    ``place`` is what messages are grouped by, ``text`` the entry behind it. ``headline`` says where, what and how much;
    ``since_ms`` since when. ``minutes`` to confirm within (of ESCALATED: waited in vain); ``due_ms`` is the deadline of
    ``step`` (a key of the catalogue's ``phase``).
    """

    incident_id: int
    kind: Kind
    colour: Colour
    at_ms: int
    place: Text
    text: Text
    minutes: int | None = None
    headline: Headline | None = None
    since_ms: int | None = None
    due_ms: int | None = None
    step: str = ""

    @property
    def leading(self) -> tuple[str, str] | None:
        """Station and parameter of which it shows the present value; None where it is about the past."""
        return self.headline.leading if self.headline is not None and self.kind is not Kind.PAST else None


def kind_of(event: Mapping[str, Any], notify: str) -> Kind | None:
    """What people are told of an outward event (its ``data``); None: nothing."""
    what = event.get("what")
    if what == "fired":
        if event.get("seq") == 1:
            return Kind.PAST if event.get("retrospective") else Kind.OPENED
        return Kind.AGAIN if notify == "page" else None
    if what == "split_off":  # by itself: what is on elsewhere while people called the rest none
        return Kind.OPENED if notify == "page" else None
    if what == "resolved":
        return Kind.RECOVERED if event.get("recovered_at") else None
    return _KINDS.get(str(what))


def concerned(event: Mapping[str, Any], kind: Kind) -> tuple[str, ...]:
    """The names of those whom an event (its ``data``) concerns by name: who answers for the case."""
    name = event.get("responsible") if kind in TO_HANDLER else None
    return (name,) if isinstance(name, str) and name else ()


Present = Mapping[tuple[str, str], float]
"""The newest usable value by station and parameter."""
NONE: Present = MappingProxyType({})


def first_line(
    items: Sequence[Item], language: str, *, room: int | None, link: str | None, present: Present = NONE
) -> str:
    """The line that carries everything: colour, place, what, value and class, deadline, link.

    ``room`` cuts what says least: since when, the limit, the end of the place; never value, deadline or link.
    """
    most = min(items, key=_order)
    tail = _tail(most, items, language, link)
    if len(items) == 1:
        head = _head(most, language)
    else:
        places = list(dict.fromkeys(_in(item.place, language) for item in sorted(items, key=_order)))
        key = "notice.many" if len(places) == 1 else "notice.many_places"
        values = {"place": places[0], "places": len(places), "count": len(items)}
        head = _say(key, language, colour=say(f"incident.{most.colour}"), **values)
    left = None if room is None else max(0, room - len(head) - len(tail))
    return head + about(most, language, left, present) + tail


def about(item: Item, language: str, room: int | None = None, present: Present = NONE) -> str:
    """Where, what, how much and since when; ``room`` in characters."""
    if item.headline is None:
        told = _in(item.text, language)
        return told if room is None else cut(told, room)
    value = present.get(item.leading) if item.leading else None
    parts = words(item.headline.at(value), language)
    since = ""
    if item.since_ms is not None and item.kind in _SINCE:
        since = _say("notice.since", language, at=_moment(item.since_ms, item.at_ms, language))
    whole = joined(parts, language)
    if room is None or len(whole) + len(since) <= room:
        return whole + since
    return fitted(parts, language, room, order=IN_A_MESSAGE)


def told(item: Item) -> Text:
    """What a message says of an incident, in both languages, with the value at that time."""
    return Text(about(item, "zh"), about(item, "en"))


def compose(items: Sequence[Item], language: str, *, short: bool, link: str | None, present: Present = NONE) -> str:
    """A message: its first line, and unless it is ``short`` what else it tells of, the most urgent first."""
    line = first_line(items, language, room=ROOM[language] if short else None, link=link, present=present)
    if short:
        return line
    if len(items) == 1:
        more = _in(items[0].text, language)
        return line if items[0].headline is None or not more or more in line else f"{line}\n{more}"
    ordered = sorted(items, key=_order)
    rows = [f"{_head(item, language)}{about(item, language, present=present)}" for item in ordered[:LISTED]]
    if len(ordered) > LISTED:
        rows.append(_say("notice.more", language, count=len(ordered) - LISTED))
    return "\n".join([line, *rows])


def asks(items: Iterable[Item]) -> bool:
    """Whether a message asks somebody to confirm: then its link leads to the button, else to the incident."""
    return any(item.kind in CONFIRMED for item in items)


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and checks the links by which somebody confirms. ``base`` is our address as phones reach it."""

    base: str
    key: bytes = field(repr=False)

    def page(self, items: Sequence[Item]) -> str:
        """The address of the incident that a message is about, of several that of the work list."""
        numbers = {item.incident_id for item in items}
        number = numbers.pop()
        path = "worklist" if numbers else f"incidents/{number}"
        return f"{self.base.rstrip('/')}/{path}"

    def make(self, notice_id: int, contact: str, expires_at_ms: int) -> str:
        """The address for this message and person; it says nothing but the message's number."""
        return f"{self.base.rstrip('/')}/a/{self.token(notice_id, contact, expires_at_ms)}"

    def token(self, notice_id: int, contact: str, expires_at_ms: int) -> str:
        """The number in base 36, and 72 bits of HMAC-SHA256 over number, person and end."""
        content = f"notice\x1f{notice_id}\x1f{contact}\x1f{expires_at_ms}".encode()
        proof = urlsafe_b64encode(hmac.new(self.key, content, hashlib.sha256).digest()[:9]).decode()
        return f"{_base36(notice_id)}.{proof}"

    def proves(self, token: str, notice_id: int, contact: str, expires_at_ms: int) -> bool:
        """Whether a token is the one of this message, compared in constant time."""
        return hmac.compare_digest(token.encode(), self.token(notice_id, contact, expires_at_ms).encode())


def number_of(token: str) -> int | None:
    """The message's number in a token, proved or not; None for what is no token."""
    number, dot, proof = token.partition(".")
    if not dot or not number.isascii() or not number.isalnum() or len(number) > 7 or len(proof) != 12:
        return None
    found = int(number, 36)
    return found if 0 < found < 2**31 else None


def _order(item: Item) -> tuple[bool, int, int]:
    return item.kind not in PRESSING, item.colour.rank, item.at_ms


def _head(item: Item, language: str) -> str:
    values = {"colour": say(f"incident.{item.colour}"), "minutes": item.minutes}
    return _say(f"notice.{item.kind}", language, **values)


def _tail(most: Item, items: Sequence[Item], language: str, link: str | None) -> str:
    """What to do by when, and the link."""
    asked = [item.minutes for item in items if item.kind in CALLS and item.minutes is not None]
    told = ""
    if most.due_ms is not None and most.kind in _DUE:
        key = "notice.was_due" if most.kind is Kind.OVERDUE else "notice.due"
        told = _say(key, language, at=_moment(most.due_ms, most.at_ms, language), step=say(f"phase.{most.step}"))
    if asked:
        told += _say("notice.confirm_within", language, minutes=min(asked))
    elif most.kind in CONFIRMED and not told:
        told += _say("notice.confirm", language)
    elif most.kind is Kind.RECOVERED:
        told += _say("notice.still_open", language)
    return f"{told} {link}" if link else told


def _moment(at_ms: int, beside_ms: int, language: str) -> str:
    """A time in Beijing as short as can be: without the day where it is that of ``beside_ms``."""
    if _local(at_ms).date() == _local(beside_ms).date():
        return beijing(at_ms, "%H:%M")
    return beijing(at_ms, "%d %b %H:%M" if language == "en" else "%-d日%H:%M")


def _say(key: str, language: str, **values: object) -> str:
    return _in(say(key, **values), language)


def _in(text: Text, language: str) -> str:
    return text.en if language == "en" else text.zh


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    found = ""
    while number:
        number, rest = divmod(number, 36)
        found = digits[rest] + found
    return found or "0"


def _local(at_ms: int) -> datetime:
    return from_ms(at_ms).astimezone(BEIJING)


def _next(at_ms: int, clock: time) -> int:
    """The next instant at which it is this time of day in Beijing."""
    now = _local(at_ms)
    then = datetime.combine(now.date(), clock, BEIJING)
    return to_ms(then if then > now else then + timedelta(days=1))
