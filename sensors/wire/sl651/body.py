"""The body of SL 651 messages: serial number, time of sending, and blocks of elements. Section 6.6 and Annex C.

A body that cannot be read raises Malformed, which names the byte; an element whose digits are none, or that is not in
the table, is stepped over by its format byte and kept.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Final

from infra.times import BEIJING, to_ms
from sensors.wire.sl651.frame import Frame

BLOCK: Final = b"\xf1\xf1"
OBSERVED: Final = b"\xf0\xf0"
TEXT: Final = b"\xf2\xf2"
PICTURE: Final = b"\xf3\xf3"
ARTIFICIAL: Final = b"\xfd\xf6"
STEP: Final = b"\x04\x18"

LINK_KEPT, TEST, MANUAL, MANUAL_ASKED, SOFTWARE, EVENTS = 0x2F, 0x30, 0x35, 0x39, 0x45, 0x50
PARAMETERS: Final = frozenset({0x40, 0x41, 0x42, 0x43, 0x49})
"""Answers whose identifiers are those of Annex D: parameters of the station, no measurements."""
WITHOUT_DATA: Final = frozenset({0x47, 0x48, 0x4A, 0x51})
STATUS: Final = 0x46
ARRAYS: Final = {0xF4: (12, 1, 1), **dict.fromkeys(range(245, 253), (12, 2, 2))}
"""Guide byte → values of an hour, bytes of each, decimals: rain in 0.1 mm, relative levels in 0.01 m."""
ARRAY_STEP_MS: Final = 5 * 60_000


class Malformed(ValueError):
    """A body that is not what SL 651 says."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A row of the table of elements: ``key`` is our parameter ("" for none), ``factor`` leads to its unit."""

    code: str
    zh: str
    en: str
    key: str = ""
    factor: float = 1.0
    period: int = 0


@dataclass(frozen=True, slots=True)
class Element:
    """An element as it came: ``id`` in hexadecimal, ``at_ms`` its time (None: the message has none).

    ``values`` are one or, of an array or a series, several; None where the station says that a value is missing.
    ``step_ms`` is the distance of a series. ``fault`` says why digits are no number; "" where they are.
    """

    id: str
    at_ms: int | None
    raw: bytes
    decimals: int
    values: tuple[Decimal | None, ...]
    step_ms: int | None = None
    fault: str = ""

    @property
    def meaning(self) -> Meaning | None:
        """Its row of the table; None for one that is not in it."""
        return elements().get(self.id)

    @property
    def is_array(self) -> bool:
        """Whether it is one of the arrays of an hour (F4 to FC)."""
        return len(self.id) == 2 and int(self.id, 16) in ARRAYS

    @property
    def bits(self) -> tuple[int, ...]:
        """Of the status: the bits that are set."""
        number = int.from_bytes(self.raw, "big")
        return tuple(bit for bit in range(8 * len(self.raw)) if number >> bit & 1)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the station (Annex D): identifier and digits."""

    id: str
    raw: bytes
    decimals: int


@dataclass(frozen=True, slots=True)
class Block:
    """What a message tells of a station; ``sort`` is the letter of its kind, "" where the message has none."""

    station: str
    sort: str
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A body: ``serial`` and time of sending, blocks, and what some functions tell instead."""

    serial: int
    sent_at_ms: int
    blocks: tuple[Block, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    text: bytes = b""
    counters: tuple[int, ...] = ()


@lru_cache(maxsize=1)
def elements() -> Mapping[str, Meaning]:
    """The table of elements, by identifier."""
    text = files("sensors.wire.sl651").joinpath("elements.toml").read_text(encoding="utf-8")
    return {key: Meaning(**row) for key, row in tomllib.loads(text).items()}


@lru_cache(maxsize=1)
def _by_code() -> Mapping[str, str]:
    return {row.code.upper(): key for key, row in elements().items()}


def read(function: int, body: bytes, *, ascii_mode: bool = False) -> Body:
    """Read the whole body of an uplink message, its packets joined. Raises Malformed."""
    return _Ascii(body).read(function) if ascii_mode else _Hex(body).read(function)


def of_frame(frame: Frame) -> Body:
    """Read the body of a frame that is a message by itself. Raises Malformed."""
    return read(frame.function, frame.body, ascii_mode=frame.ascii)


def number(digits: str, decimals: int) -> Decimal | None:
    """A value of hexadecimal digits as BCD; None for a missing one. Raises ValueError for what is no number."""
    if digits and not digits.strip("fF"):
        return None
    sign, rest = (-1, digits[2:]) if digits[:2].lower() == "ff" else (1, digits)
    if sign < 0 and rest[:1].lower() == "f":
        rest = rest[1:]
    if not rest.isdecimal():
        raise ValueError(f"{digits.upper()} is no number")
    return Decimal(sign * int(rest)).scaleb(-decimals)


class _Hex:
    """Reads a body in HEX/BCD mode; ``_at`` is the byte it has come to."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def read(self, function: int) -> Body:
        serial, sent = int.from_bytes(self._take(2), "big"), self._time(6)
        if function == LINK_KEPT:
            return Body(serial, sent)
        if function in (MANUAL, MANUAL_ASKED) and self._next(TEXT):
            return Body(serial, sent, text=self._rest())
        if function in PARAMETERS:
            station = self._station()
            return Body(serial, sent, (Block(station, "", ()),), parameters=tuple(self._parameters()))
        if function == SOFTWARE:
            station = self._station()
            return Body(serial, sent, (Block(station, "", ()),), text=self._take(self._take(1)[0]))
        if function == EVENTS:
            station, rest = self._station(), self._rest()
            counters = tuple(int.from_bytes(rest[i : i + 2], "big") for i in range(0, len(rest), 2))
            return Body(serial, sent, (Block(station, "", ()),), counters=counters)
        return Body(serial, sent, tuple(self._blocks(function)))

    def _blocks(self, function: int) -> list[Block]:
        found: list[Block] = []
        while self._at < len(self._body):
            station = self._station()
            sort = "" if function in WITHOUT_DATA or function == STATUS else chr(self._take(1)[0])
            found.append(Block(station, sort, tuple(self._elements())))
        return found

    def _elements(self) -> list[Element]:
        found: list[Element] = []
        at_ms: int | None = None
        step_ms: int | None = None
        while self._at < len(self._body) and not self._sees(BLOCK):
            if self._next(OBSERVED):
                at_ms = self._time(5)
            elif self._next(STEP):
                days, hours, minutes = (self._decimal(1) for _ in range(3))
                step_ms = ((days * 24 + hours) * 60 + minutes) * 60_000
            else:
                found.append(self._element(at_ms, step_ms))
        return found

    def _element(self, at_ms: int | None, step_ms: int | None) -> Element:
        for mark, name in ((TEXT, "F2"), (PICTURE, "F3"), (ARTIFICIAL, "FD")):
            if self._next(mark):
                return Element(name, at_ms, self._rest(), 0, ())
        guide = self._take(1)[0]
        name = f"{guide:02X}"
        if guide == 0xFF:
            name += self._take(1).hex().upper()
        form = self._take(1)[0]
        if guide in ARRAYS:
            return self._array(name, at_ms, *ARRAYS[guide])
        size, decimals = form >> 3, form & 7
        raw = self._take(size)
        if guide == 0x45:
            return Element(name, at_ms, raw, 0, ())
        pieces = [raw]
        while step_ms and size and len(self._body) - self._at >= size:
            pieces.append(self._take(size))
        try:
            values = tuple(number(one.hex(), decimals) for one in pieces)
        except ValueError as error:
            return Element(name, at_ms, b"".join(pieces), decimals, (), step_ms or None, str(error))
        return Element(name, at_ms, b"".join(pieces), decimals, values, step_ms or None)

    def _array(self, name: str, at_ms: int | None, count: int, size: int, decimals: int) -> Element:
        raw = self._take(count * size)
        numbers = [int.from_bytes(raw[i : i + size], "big") for i in range(0, len(raw), size)]
        missing = (1 << 8 * size) - 1
        values = tuple(None if one == missing else Decimal(one).scaleb(-decimals) for one in numbers)
        return Element(name, at_ms, raw, decimals, values, ARRAY_STEP_MS)

    def _parameters(self) -> list[Parameter]:
        found: list[Parameter] = []
        while self._at < len(self._body):
            name, form = self._take(1).hex().upper(), self._take(1)[0]
            found.append(Parameter(name, self._take(form >> 3), form & 7))
        return found

    def _station(self) -> str:
        if not self._next(BLOCK):
            raise Malformed(
                f"byte {self._at}: a station address (F1F1) was expected, {self._body[self._at :][:2].hex()}"
            )
        return self._take(5).hex().upper()

    def _time(self, size: int) -> int:
        """An instant of BCD bytes, year first; Beijing time, ms UTC."""
        start = self._at
        digits = self._take(size).hex()
        return _instant(digits, start)

    def _decimal(self, size: int) -> int:
        digits = self._take(size).hex()
        if not digits.isdecimal():
            raise Malformed(f"byte {self._at - size}: {digits.upper()} is no number")
        return int(digits)

    def _take(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) < count:
            raise Malformed(f"byte {self._at}: {count} bytes were announced, {len(taken)} are there")
        self._at += count
        return taken

    def _rest(self) -> bytes:
        return self._take(len(self._body) - self._at)

    def _sees(self, mark: bytes) -> bool:
        return self._body.startswith(mark, self._at)

    def _next(self, mark: bytes) -> bool:
        found = self._sees(mark)
        self._at += len(mark) if found else 0
        return found


class _Ascii:
    """Reads a body in ASCII mode: words between blanks, after serial number and time. Text written by hand is raw."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, function: int) -> Body:
        head = self._words(slice(16))
        try:
            serial = int(head[:4], 16)
        except ValueError:
            raise Malformed(f"serial number {head[:4]!r} is not four hexadecimal digits") from None
        sent = _instant(head[4:], 4)
        if function == LINK_KEPT:
            return Body(serial, sent)
        if function == MANUAL:
            return Body(serial, sent, text=self._body[16:])
        return Body(serial, sent, tuple(self._blocks(self._words(slice(16, None)).split())))

    def _words(self, part: slice) -> str:
        try:
            return self._body[part].decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed(f"byte {(part.start or 0) + error.start} is no ASCII character") from error

    @staticmethod
    def _blocks(words: list[str]) -> list[Block]:
        found: list[tuple[str, str, list[Element]]] = []
        at_ms: int | None = None
        rest = iter(words)
        for word in rest:
            if word == "ST":
                found.append((next(rest, ""), next(rest, ""), []))
            elif word == "TT":
                at_ms = _instant(next(rest, ""), 0)
            elif not found:
                raise Malformed(f"{word!r} stands before the station address (ST)")
            else:
                found[-1][2].append(_named(word, next(rest, ""), at_ms))
        return [Block(station, sort, tuple(told)) for station, sort, told in found]


def _named(code: str, text: str, at_ms: int | None) -> Element:
    """An element of ASCII mode; an unknown name stays its identifier."""
    name = _by_code().get(code.upper(), code)
    raw = text.encode("ascii")
    if text == "M" or (text and not text.strip("Ff")):
        return Element(name, at_ms, raw, 0, (None,))
    try:
        value = Decimal(text)
    except ArithmeticError:
        return Element(name, at_ms, raw, 0, (), fault=f"{text!r} is no number")
    if not value.is_finite():
        return Element(name, at_ms, raw, 0, (), fault=f"{text!r} is no number")
    places = value.as_tuple().exponent
    return Element(name, at_ms, raw, max(0, -int(places)), (value,))


def _instant(digits: str, at: int) -> int:
    form = "%y%m%d%H%M%S" if len(digits) == 12 else "%y%m%d%H%M"
    if not digits.isdecimal() or len(digits) not in (10, 12):
        raise Malformed(f"byte {at}: {digits.upper()!r} is no time")
    try:
        return to_ms(datetime.strptime(digits, form).replace(tzinfo=BEIJING))
    except ValueError:
        raise Malformed(f"byte {at}: {digits!r} is no time") from None
