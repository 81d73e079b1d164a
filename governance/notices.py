"""What people are told, when, and in which words. Pure: no clock, no database, no network.

The colours' times, quiet hours and the wording are defaults for a site to confirm (settings, ``sensors/texts.toml``);
they follow no published rule.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any

from governance.finding import Colour
from sensors.texts import Text, say
from sensors.times import BEIJING, from_ms, to_ms

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

    def awake(self, at_ms: int) -> int:
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
        return self.awake(at_ms)

    def gather_ms(self, colour: Colour) -> int:
        """For how long what belongs together is waited for after a message."""
        return round(self.window_s * (250 if colour is Colour.RED else 1000))

    def unconfirmed_at(self, colour: Colour, at_ms: int) -> int | None:
        """When something told at ``at_ms`` goes to the next step; None when nothing is asked."""
        minutes = self.confirm.get(colour)
        if minutes is None:
            return None
        start_ms = at_ms if colour in {Colour.RED, Colour.ORANGE} else self.awake(at_ms)
        return start_ms + minutes * 60_000


@dataclass(frozen=True, slots=True)
class Item:
    """What a message says of one incident; ``minutes`` to confirm within (of ESCALATED: waited in vain)."""

    incident_id: int
    kind: Kind
    colour: Colour
    at_ms: int
    place: Text
    text: Text
    minutes: int | None = None


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


def first_line(items: Sequence[Item], language: str, *, room: int | None, link: str | None) -> str:
    """The line that carries everything: colour, place, what, what to do. ``room`` cuts what is told, never the link."""
    most = min(items, key=_order)
    tail = _tail(most, items, language, link)
    if len(items) == 1:
        head, told = _head(most, language), _in(most.text, language)
    else:
        places = list(dict.fromkeys(_in(item.place, language) for item in sorted(items, key=_order)))
        key = "notice.many" if len(places) == 1 else "notice.many_places"
        values = {"place": places[0], "places": len(places), "count": len(items)}
        head, told = _say(key, language, colour=say(f"incident.{most.colour}"), **values), _in(most.text, language)
    if room is None:
        return head + told + tail
    return head + _cut(told, max(0, room - len(head) - len(tail))) + tail


def compose(items: Sequence[Item], language: str, *, short: bool, link: str | None) -> str:
    """A message: its first line, and below it what else it tells of, the most urgent first."""
    line = first_line(items, language, room=ROOM[language] if short else None, link=link)
    if short or len(items) == 1:
        return line
    ordered = sorted(items, key=_order)
    rows = [f"{_head(item, language)}{_in(item.text, language)}" for item in ordered[:LISTED]]
    if len(ordered) > LISTED:
        rows.append(_say("notice.more", language, count=len(ordered) - LISTED))
    return "\n".join([line, *rows])


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and checks the links by which somebody confirms. ``base`` is our address as phones reach it."""

    base: str
    key: bytes = field(repr=False)

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
    values = {"colour": say(f"incident.{item.colour}"), "id": item.incident_id, "minutes": item.minutes}
    return _say(f"notice.{item.kind}", language, **values)


def _tail(most: Item, items: Sequence[Item], language: str, link: str | None) -> str:
    asked = [item.minutes for item in items if item.kind in CALLS and item.minutes is not None]
    urgent = most.kind in CALLS or most.kind in {Kind.ESCALATED, Kind.EMERGENCY}
    if not link or not urgent:
        return ""
    if asked:
        return _say("notice.confirm_within", language, minutes=min(asked), link=link)
    return _say("notice.confirm", language, link=link)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - 1)].rstrip() + "…"[: room and 1]


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
