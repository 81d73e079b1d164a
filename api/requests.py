"""How a request is read: what the routes share of parsing. Every refusal names the field and the value."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.context import Context
from api.registries import Registries
from infra import base64url
from infra.errors import ConfigurationError, InvalidValue
from infra.texts import say
from infra.times import to_ms

MINUTE_FORM = "%Y-%m-%dT%H:%M"
"""A minute of Beijing time, as a field for date and time has it."""
JSON, GEOJSON, CSV = "application/json", "application/geo+json", "text/csv"
ARROW = "application/vnd.apache.arrow.stream"

EARLIEST_MS, LATEST_MS = to_ms(datetime(1, 1, 3, tzinfo=UTC)), to_ms(datetime(9999, 12, 29, tzinfo=UTC))
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_PLUS_LOST = re.compile(r"(?<=\d) (?=\d\d:\d\d$)")
T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


async def _registries(request: Request) -> Registries:
    registries: Registries = request.app.state.registries
    return registries


async def _replaying(request: Request) -> set[int]:
    replaying: set[int] = request.app.state.replaying
    return replaying


def whole_number(text: str, digits: int = 9) -> int | None:
    """The number in an address or a form: 1 to so many ASCII digits; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else None


def _words(text: str) -> str:
    """Text that every database can keep."""
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidValue(say("request.letters"))
    return text


class Strict(BaseModel):
    """A body that says nothing but what is known, in the types that are meant."""

    model_config = ConfigDict(extra="forbid", strict=True)


RequestContext = Annotated[Context, Depends(_context)]
"""What the API was given, for a route."""
RequestRegistries = Annotated[Registries, Depends(_registries)]
"""The registry, for a route."""
Replaying = Annotated[set[int], Depends(_replaying)]
"""Quarantine entries on their way through the ingest; touched by the event loop's thread only."""
Accept = Annotated[str, Header(include_in_schema=False)]
Words = Annotated[str, AfterValidator(_words)]
"""Text from a person that goes into the database."""
By = Annotated[
    Words | None,
    Field(max_length=200, description="on whose behalf, from a machine or an open site; a person's own name is taken"),
]
"""Who a body names; `api.access.on_behalf` binds it to who signed in."""
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000, description="entries of a page")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""The number of a row in a path."""
MapLimit = Annotated[int, Query(ge=1, le=20_000, description="entries of a page; a map wants them all at once")]


def instant(name: str, text: str) -> int:
    """ms since the epoch from RFC 3339 text with an offset; a ``+`` that the URL turned into a space is understood.

    An instant at either end of the calendar, which means "ever", is taken for one that every offset can show.
    """
    try:
        return min(max(to_ms(msgspec.convert(_PLUS_LOST.sub("+", text), _Instant)), EARLIEST_MS), LATEST_MS)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):
        shown = text[:80].encode(errors="replace").decode()
        raise ConfigurationError(say("request.no_instant", name=name, text=shown)) from None


def one_of(kinds: Iterable[Choice], name: str, text: str) -> Choice:
    """The choice that is called so; raises ConfigurationError with those there are."""
    known = tuple(kinds)
    for one in known:
        if one == text:
            return one
    raise ConfigurationError(say("request.one_of", name=name, text=text[:80], known=", ".join(known)))


def day(text: str) -> str:
    """A Beijing day as the ledger spells it."""
    try:
        if _DAY.fullmatch(text) and "0002" <= text < "9999":  # it has a day before and one after
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise ConfigurationError(say("request.no_day", text=text[:80]))


def mark(kind: str, place: Any) -> str:
    """The opaque mark of a place in the list called ``kind``."""
    return base64url.encode(msgspec.json.encode([kind, place]))


def cut(kind: str, found: Sequence[T], limit: int, at: Callable[[T], Any]) -> tuple[list[T], str | None]:
    """The page of what was found, of which one more than ``limit`` was looked for, and the mark of what follows.

    ``at`` tells the place of an entry, as `place` reads it again.
    """
    return list(found[:limit]), mark(kind, at(found[limit - 1])) if len(found) > limit else None


def place(kind: str, text: str | None, shape: type[T]) -> T | None:
    """The place that a cursor of the list called ``kind`` marks; None for the beginning."""
    if text is None:
        return None
    try:
        found, where = msgspec.json.decode(base64url.decode(text), type=tuple[str, shape])  # type: ignore[valid-type]
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeError are ValueErrors
        found, where = "", None
    if found != kind or where is None:
        raise _stray(text)
    return where


def place_by_number(kind: str, text: str | None) -> int | None:
    """The place marked by the number of the last entry."""
    number = place(kind, text, int)
    if number is not None and not 0 < number < 2**63:
        raise _stray(str(text))
    return number


def _stray(cursor: str) -> ConfigurationError:
    return ConfigurationError(say("request.no_cursor", cursor=cursor[:80]))


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The offered media type that the Accept header likes best; the first one when it likes none or does not say."""
    ranges = [_range(part) for part in accept.split(",")]
    best, liking = offered[0], 0.0
    for media_type in offered:
        fitting = [(exact, q) for pattern, q in ranges if (exact := _fits(pattern, media_type))]
        q = max(fitting)[1] if fitting else 0.0
        if q > liking:
            best, liking = media_type, q
    return best


def _range(part: str) -> tuple[str, float]:
    pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
    q = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            q = float(value) if re.fullmatch(r"[01](\.\d{0,3})?", value.strip()) else 0.0
    return pattern, q


def _fits(pattern: str, media_type: str) -> int:
    """How exactly a range names a type: 3 the type itself, 2 its family, 1 anything, 0 not at all."""
    if pattern == media_type:
        return 3
    if pattern == media_type.partition("/")[0] + "/*":
        return 2
    return int(pattern == "*/*")
