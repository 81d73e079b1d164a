"""Wording of messages to people. The only module that writes them; the sentences are in ``infra/texts.toml``. Pure.

`compose` makes a whole message, `first_line` the line that carries everything, as an SMS does. `told` says the same of
one incident for the pages. ``language`` is "zh" or "en" everywhere.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from governance.incidents.headline import MESSAGE_ORDER, fitted, joined_parts, title_parts, truncated
from governance.notify.message import CALL_KINDS, CONFIRMABLE_KINDS, Item, NoticeKind, urgency_key
from infra.texts import Text, say
from infra.times import BEIJING, beijing, from_ms

FIRST_LINE_CHARS = {"zh": 70, "en": 160}
"""Characters of a first line: what one SMS carries, UCS-2 and GSM 7 bit."""
MAX_LISTED_INCIDENTS = 10
"""Incidents named in a message of many."""

KINDS_WITH_SINCE = CALL_KINDS | {NoticeKind.PAST, NoticeKind.ESCALATED}
"""Of these it matters since when."""
KINDS_WITH_DEADLINE = frozenset(
    {NoticeKind.DISPATCHED, NoticeKind.REMINDER, NoticeKind.OVERDUE, NoticeKind.SUPERVISED, NoticeKind.EMERGENCY}
)
"""What has a deadline of its own."""

PresentValues = Mapping[tuple[str, str], float]
"""The newest usable value by station and parameter."""
NO_VALUES: PresentValues = MappingProxyType({})


def first_line(
    items: Sequence[Item], language: str, *, room: int | None, link: str | None, present: PresentValues = NO_VALUES
) -> str:
    """The line that carries everything: colour, place, what, value and class, deadline, link.

    ``room`` cuts what says least: since when, the limit, the end of the place; never value, deadline or link.
    """
    lead = min(items, key=urgency_key)
    tail = _tail(lead, items, language, link)
    if len(items) == 1:
        head = _head(lead, language)
    else:
        places = list(dict.fromkeys(_in_language(item.place, language) for item in sorted(items, key=urgency_key)))
        key = "notice.many" if len(places) == 1 else "notice.many_places"
        values = {"place": places[0], "places": len(places), "count": len(items)}
        head = _text(key, language, colour=say(f"incident.{lead.colour}"), **values)
    left = None if room is None else max(0, room - len(head) - len(tail))
    return head + about(lead, language, left, present) + tail


def about(item: Item, language: str, room: int | None = None, present: PresentValues = NO_VALUES) -> str:
    """Where, what, how much and since when; ``room`` in characters."""
    if item.headline is None:
        text = _in_language(item.text, language)
        return text if room is None else truncated(text, room)
    value = present.get(item.leading) if item.leading else None
    parts = title_parts(item.headline.at(value), language)
    since = ""
    if item.since_ms is not None and item.kind in KINDS_WITH_SINCE:
        since = _text("notice.since", language, at=_short_time(item.since_ms, item.at_ms, language))
    whole = joined_parts(parts, language)
    if room is None or len(whole) + len(since) <= room:
        return whole + since
    return fitted(parts, language, room, order=MESSAGE_ORDER)


def item_text(item: Item) -> Text:
    """What a message says of an incident, in both languages, with the value at that time."""
    return Text(about(item, "zh"), about(item, "en"))


def compose(
    items: Sequence[Item], language: str, *, short: bool, link: str | None, present: PresentValues = NO_VALUES
) -> str:
    """A message: its first line, and unless it is ``short`` what else it tells of, the most urgent first."""
    line = first_line(items, language, room=FIRST_LINE_CHARS[language] if short else None, link=link, present=present)
    if short:
        return line
    if len(items) == 1:
        more = _in_language(items[0].text, language)
        return line if items[0].headline is None or not more or more in line else f"{line}\n{more}"
    ordered = sorted(items, key=urgency_key)
    rows = [
        f"{_head(item, language)}{about(item, language, present=present)}" for item in ordered[:MAX_LISTED_INCIDENTS]
    ]
    if len(ordered) > MAX_LISTED_INCIDENTS:
        rows.append(_text("notice.more", language, count=len(ordered) - MAX_LISTED_INCIDENTS))
    return "\n".join([line, *rows])


def _head(item: Item, language: str) -> str:
    values = {"colour": say(f"incident.{item.colour}"), "minutes": item.minutes}
    return _text(f"notice.{item.kind}", language, **values)


def _tail(item: Item, items: Sequence[Item], language: str, link: str | None) -> str:
    """What to do by when, and the link."""
    minutes_to_confirm = [one.minutes for one in items if one.kind in CALL_KINDS and one.minutes is not None]
    text = ""
    if item.due_ms is not None and item.kind in KINDS_WITH_DEADLINE:
        key = "notice.was_due" if item.kind is NoticeKind.OVERDUE else "notice.due"
        text = _text(key, language, at=_short_time(item.due_ms, item.at_ms, language), step=say(f"phase.{item.step}"))
    if minutes_to_confirm:
        text += _text("notice.confirm_within", language, minutes=min(minutes_to_confirm))
    elif item.kind in CONFIRMABLE_KINDS and not text:
        text += _text("notice.confirm", language)
    elif item.kind is NoticeKind.RECOVERED:
        text += _text("notice.still_open", language)
    return f"{text} {link}" if link else text


def _short_time(at_ms: int, beside_ms: int, language: str) -> str:
    """A time in Beijing as short as can be: without the day where it is that of ``beside_ms``."""
    if _beijing(at_ms).date() == _beijing(beside_ms).date():
        return beijing(at_ms, "%H:%M")
    return beijing(at_ms, "%d %b %H:%M" if language == "en" else "%-d日%H:%M")


def _text(key: str, language: str, **values: object) -> str:
    return _in_language(say(key, **values), language)


def _in_language(text: Text, language: str) -> str:
    return text.en if language == "en" else text.zh


def _beijing(at_ms: int) -> datetime:
    return from_ms(at_ms).astimezone(BEIJING)
