"""The bytes of a refused message: where the bad place is, and the lines of hex and text that show it. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.times import to_ms
from ingest.quarantine import QuarantineEntry
from sensors.reading import Reason

LINE = 16
"""Bytes of a line of hex."""
LINES = 64
"""Lines of hex that are shown, from the beginning or from shortly before the bad place."""
LINES_BEFORE = 4
MOST_PLACES = 200

Place = tuple[int, int]
"""The first byte, and the one after the last."""

_BYTE = re.compile(r"\(byte (\d+)\)")
_CHARACTER = re.compile(r"\(char (\d+)\)")
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d{1,2})?|null")
_AT = re.compile(rb'"at"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\s]*)')
_STATION = re.compile(rb'"station"\s*:\s*"(?:[^"\\]|\\.)*"')
_OF_PARAMETER = frozenset(
    {Reason.UNKNOWN_PARAMETER.key, Reason.NOT_A_NUMBER.key, Reason.NEEDS_TEMPERATURE.key, Reason.BAD_STATUS.key}
)
_OF_TIME = frozenset({Reason.TIME_BEFORE_2000.key, Reason.TIME_IN_FUTURE.key})


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a line, as hex or as text; ``bad`` where they are what could not be used."""

    shown: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a dump: the number of its first byte, and its bytes as hex and as ASCII."""

    offset: str
    hex: tuple[Piece, ...]
    text: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Dump:
    """What is shown of the bytes. ``first`` to ``last`` of ``kept`` bytes; ``text`` None where they are no UTF-8."""

    lines: tuple[Line, ...]
    text: tuple[Piece, ...] | None
    first: int
    last: int
    kept: int
    marked: bool


def dump(entry: QuarantineEntry) -> Dump:
    """The bytes of an entry with their bad places."""
    payload = entry.payload
    bad = bad_places(entry)
    top = max(0, min((start for start, _ in bad), default=0) // LINE - LINES_BEFORE) if bad else 0
    first = top * LINE if bad and bad[0][0] >= LINES * LINE else 0
    last = min(len(payload), first + LINES * LINE)
    lines = tuple(_line(payload, at, min(at + LINE, last), bad) for at in range(first, last, LINE))
    return Dump(lines, _text(payload, first, last, bad), first, last, len(payload), bool(bad))


def bad_places(entry: QuarantineEntry) -> tuple[Place, ...]:
    """Which bytes could not be used, in order; none where that is not known."""
    payload, found = entry.payload, list[Place]()
    if entry.reason == Reason.NOT_JSON.key:
        found = _syntax(payload, entry.detail)
    elif entry.reason == Reason.UNKNOWN_STATION.key and entry.source == "http":
        found = [m.span() for m in _STATION.finditer(payload)][:1]
    elif entry.reason in _OF_PARAMETER:
        found = list(_values(payload, {key for _, key in entry.refused or ()}, entry.reason))
    elif entry.reason in _OF_TIME:
        wanted = {at for at, _ in entry.refused or ()}
        found = [m.span(1) for m in _AT.finditer(payload) if _ms(m.group(1)) in wanted]
    elif entry.reason == Reason.BAD_TIME.key:
        found = [m.span(1) for m in _AT.finditer(payload) if _ms(m.group(1)) is None]
    return tuple(sorted(found)[:MOST_PLACES])


def _syntax(payload: bytes, detail: str) -> list[Place]:
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        return [(error.start, error.end)]
    if (match := _BYTE.search(detail)) is not None:
        at = int(match.group(1))
    elif (match := _CHARACTER.search(detail)) is not None:
        at = len(text[: int(match.group(1))].encode())
    else:
        return []
    if not payload:
        return []
    at = min(at, len(payload) - 1)  # what ends too early is wrong at its last byte
    while payload[at] & 0xC0 == 0x80 and at > 0:
        at -= 1
    end = at + 1
    while end < len(payload) and payload[end] & 0xC0 == 0x80:
        end += 1
    return [(at, end)]


def _values(payload: bytes, keys: Iterable[str], reason: str) -> Iterator[Place]:
    for key in sorted(keys):
        pattern = re.compile(
            rb'"' + re.escape(key.encode("utf-8", "replace")) + rb'"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\]]*)'
        )
        found = list(pattern.finditer(payload))
        wrong = [m for m in found if not _NUMBER.fullmatch(m.group(1).strip())]
        chosen = wrong if wrong and reason == Reason.NOT_A_NUMBER.key else found
        yield from (m.span() for m in chosen)


def _ms(text: bytes) -> int | None:
    try:
        at = datetime.fromisoformat(text.decode().strip('"'))
    except ValueError:
        return None
    return to_ms(at) if at.tzinfo is not None else None


def _line(payload: bytes, start: int, end: int, bad: Sequence[Place]) -> Line:
    hexes: list[Piece] = []
    texts: list[Piece] = []
    for first, last, is_bad in _runs(start, end, bad):
        part = payload[first:last]
        hexes.append(Piece(part.hex(" "), is_bad))
        texts.append(Piece("".join(chr(b) if 32 <= b < 127 else "." for b in part), is_bad))
    return Line(f"{start:05x}", tuple(hexes), tuple(texts))


def _text(payload: bytes, first: int, last: int, bad: Sequence[Place]) -> tuple[Piece, ...] | None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return None
    return tuple(Piece(payload[a:z].decode("utf-8", "ignore"), is_bad) for a, z, is_bad in _runs(first, last, bad))


def _runs(start: int, end: int, bad: Sequence[Place]) -> Iterator[tuple[int, int, bool]]:
    """The stretch cut into good and bad parts, in order."""
    at = start
    for place in bad:
        first, last = max(place[0], at), min(place[1], end)
        if last <= first:
            continue
        if first > at:
            yield at, first, False
        yield first, last, True
        at = last
    if at < end:
        yield at, end, False
