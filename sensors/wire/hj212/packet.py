"""The data segment: ``QN=…;ST=…;CN=…;PW=…;MN=…;Flag=…;PNUM=…;PNO=…;CP=&&…&&`` (HJ 212-2017, 6.3.2).

Reading is lenient, for loggers are: fields may be missing or stand in another order, a comma may follow QN and a blank
a semicolon as in the printed examples, text may be GBK. What was missing or odd is recorded beside what could be read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Final

from infra.times import BEIJING, from_ms, to_ms
from sensors.wire.hj212 import frame
from sensors.wire.hj212.codes import ENCRYPTED_2025

HEADER: Final = ("QN", "ST", "CN", "PW", "MN", "Flag")
"""The fields every packet has by the standard, in its order, before CP."""
SURFACE_WATER: Final = "21"
"""ST of surface-water stations."""
MAX_PACKETS: Final = 9999
"""PNUM has four digits."""

_ANSWER, _SPLIT, _VERSION_SHIFT = 1, 2, 2
_SEPARATOR: Final = re.compile(r"[;,]")
_ENTRY: Final = re.compile(r"(?:[^;,/]|//.*?//|/)+", re.DOTALL)
"""An entry of CP; between two ``//``, as stations write their logs, separators are text."""
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WORDS: Final = frozenset({"Flag", "EFlag", "SampleTime", "Info", "SN"})
"""Value keys that hold words and times; all others hold numbers."""


class Edition(IntEnum):
    """The edition of the standard, as the version bits of Flag tell it."""

    E2005 = 2005
    E2017 = 2017
    E2025 = 2025

    @property
    def bits(self) -> int:
        """The version bits, already in their place in Flag."""
        return {2005: 0, 2017: 1, 2025: 2}[self.value] << _VERSION_SHIFT


@dataclass(frozen=True)
class Packet:
    """One data segment. ``cp`` lists (name, value) in order; None stands for a field that is not there.

    ``missing`` names header fields that are not there; ``problems`` has one sentence for each oddity.
    """

    cn: str | None
    qn: str | None = None
    st: str | None = None
    pw: str | None = field(default=None, repr=False)
    mn: str | None = None
    flag: int | None = None
    pnum: int | None = None
    pno: int | None = None
    cp: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    encrypted: bool = False

    @property
    def wants_answer(self) -> bool:
        """Bit A. A packet without Flag does not ask."""
        return self.flag is not None and bool(self.flag & _ANSWER)

    @property
    def edition(self) -> Edition | None:
        """None where Flag is missing or names an unknown edition."""
        bits = None if self.flag is None else self.flag >> _VERSION_SHIFT << _VERSION_SHIFT
        return next((e for e in Edition if e.bits == bits), None)

    @property
    def hj1404(self) -> bool:
        """Version bits 000010 of a surface-water station mean HJ 1404 and not HJ 212-2025."""
        return self.st == SURFACE_WATER and self.edition is Edition.E2025

    @property
    def is_part(self) -> bool:
        """One of several packets that belong together; loggers without Flag send PNUM and PNO all the same."""
        return self.pnum is not None and self.pnum > 1 and self.pno is not None

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """CP without its items: DataTime, QnRtn, RtdInterval …; of a name given twice the last value."""
        return {name: value for name, value in self.cp if "-" not in name}

    @cached_property
    def items(self) -> Mapping[str, Mapping[str, str]]:
        """The items of CP: code → value key → text; of a value given twice the last."""
        found: dict[str, dict[str, str]] = {}
        for name, value in self.cp:
            code, dash, key = name.partition("-")
            if dash:
                found.setdefault(code, {})[key] = value
        return found

    @cached_property
    def contradictions(self) -> Mapping[str, tuple[str, str]]:
        """Names of CP that are given twice with different values, and the first two of these."""
        first: dict[str, str] = {}
        found: dict[str, tuple[str, str]] = {}
        for name, value in self.cp:
            if first.setdefault(name, value) != value:
                found.setdefault(name, (first[name], value))
        return found


def parse(segment: bytes) -> Packet:
    """Read a data segment as far as it can be read; never raises."""
    text, problems = _text(segment)
    head, cp_found, rest = text.partition("CP=")
    header: dict[str, str] = {}
    for entry in _SEPARATOR.split(head):
        name, equals, value = entry.strip().partition("=")
        if not equals:
            if name:
                problems.append(f"{_short(name)!r} is no field")
        elif header.setdefault(name.strip(), value.strip()) != value.strip():
            problems.append(f"{_short(name)} is given twice; the first is used")
    body = _body(rest, problems) if cp_found else ""
    missing = tuple(name for name in HEADER if not header.get(name)) + (() if cp_found else ("CP",))
    flag = _small(header, "Flag", 255, problems)
    encrypted = header.get("ST") != SURFACE_WATER and _is_encrypted(header.get("CN", ""), flag, body)
    qn = header.get("QN") or None
    if qn is not None and not (len(qn) == 17 and _digits(qn)):
        problems.append(f"QN {_short(qn)} is not 17 digits")
    packet = Packet(
        cn=header.get("CN") or None,
        qn=qn,
        st=header.get("ST") or None,
        pw=header.get("PW"),
        mn=header.get("MN") or None,
        flag=flag,
        pnum=_small(header, "PNUM", MAX_PACKETS, problems),
        pno=_small(header, "PNO", MAX_PACKETS, problems),
        cp=() if encrypted else tuple(_entries(body, problems)),
        missing=missing,
        encrypted=encrypted,
    )
    problems += [f"{name} is given twice: {a} and {b}" for name, (a, b) in packet.contradictions.items()]
    return replace(packet, problems=tuple(problems))


def segment(packet: Packet) -> bytes:
    """The data segment of a packet: fields in the standard's order, those that are None left out, text as UTF-8."""
    head = [
        (name, value)
        for name, value in (
            ("QN", packet.qn),
            ("ST", packet.st),
            ("CN", packet.cn),
            ("PW", packet.pw),
            ("MN", packet.mn),
            ("Flag", packet.flag),
            ("PNUM", packet.pnum),
            ("PNO", packet.pno),
        )
        if value is not None
    ]
    return ("".join(f"{name}={value};" for name, value in head) + f"CP=&&{_joined(packet.cp)}&&").encode()


def build(packet: Packet) -> bytes:
    """The whole frame of a packet; raises ValueError when it is too long."""
    return frame.build(segment(packet))


def flag_of(edition: Edition, *, answer: bool, split: bool = False) -> int:
    """Flag: the version bits, D (PNUM and PNO are there) and A (an answer is wanted)."""
    return edition.bits | (_SPLIT if split else 0) | (_ANSWER if answer else 0)


def read_time(text: str) -> int:
    """A DataTime, BeginTime or SystemTime in ms UTC: 14 digits YYYYMMDDhhmmss, Beijing time.

    Raises ValueError with the sentence that says what is wrong.
    """
    if not _digits(text):
        raise ValueError(f"time {_short(text)!r} is not 14 digits")
    if len(text) != 14:
        hint = "; milliseconds belong to QN alone" if len(text) == 17 else ""
        raise ValueError(f"time {_short(text)} has {len(text)} digits, 14 are needed{hint}")
    year, *others = int(text[:4]), *(int(text[i : i + 2]) for i in range(4, 14, 2))
    month, day, hour, minute, second = others
    try:
        return to_ms(datetime(year, month, day, hour, minute, second, tzinfo=BEIJING))
    except ValueError as error:
        raise ValueError(f"time {text} is no moment of the calendar: {error}") from None


def write_time(at_ms: int) -> str:
    """14 digits, Beijing time; milliseconds are cut off."""
    return from_ms(at_ms).astimezone(BEIJING).strftime("%Y%m%d%H%M%S")


def qn_time(qn: str | None) -> int | None:
    """Begin of an exchange by its QN, ms UTC; None where QN is no time."""
    if qn is None or len(qn) != 17 or not _digits(qn):
        return None
    try:
        return read_time(qn[:14]) + int(qn[14:])
    except ValueError:
        return None


def write_qn(at_ms: int) -> str:
    """17 digits, Beijing time with milliseconds."""
    return f"{write_time(at_ms)}{at_ms % 1000:03d}"


def number(text: str) -> float | None:
    """The number of a value key; None when it is none (``--``, ``0.05L``, empty)."""
    return float(text) if _NUMBER.fullmatch(text) else None


def plain(key: str, text: str) -> float | str:
    """A value as a number where it is one, else as text."""
    found = None if key in _WORDS else number(text)
    return text if found is None else found


def _text(data: bytes) -> tuple[str, list[str]]:
    """The segment as text: UTF-8 by the standard, GBK as many loggers send it."""
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding), []
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "backslashreplace"), ["the text is neither UTF-8 nor GBK"]


def _body(rest: str, problems: list[str]) -> str:
    """The text between the two ``&&``."""
    if not rest.startswith("&&"):
        problems.append("CP does not begin with &&")
    else:
        rest = rest[2:]
    body, closed, after = rest.rpartition("&&")
    if not closed:
        problems.append("CP does not end with &&")
        return rest
    if after.strip("; \r\n"):
        problems.append(f"{_short(after)!r} stands behind CP")
    return body


def _entries(body: str, problems: list[str]) -> list[tuple[str, str]]:
    found = []
    for item in _ENTRY.findall(body):
        name, equals, value = item.strip().partition("=")
        if equals and name:
            found.append((name.strip(), value.strip()))
        elif item.strip():
            problems.append(f"{_short(item.strip())!r} is no entry of CP")
    return found


def _joined(cp: tuple[tuple[str, str], ...]) -> str:
    """Values of one item are joined by commas, items by semicolons."""
    pieces: list[str] = []
    item = ""
    for name, value in cp:
        code = name.partition("-")[0] if "-" in name else ""
        if pieces:
            pieces.append("," if code and code == item else ";")
        pieces.append(f"{name}={value}")
        item = code
    return "".join(pieces)


def _is_encrypted(cn: str, flag: int | None, body: str) -> bool:
    """2025 encrypts CP of some commands (SM4). Nothing in the packet says so: the clear text has ``=`` in it, and
    cipher text written in hexadecimal has not. [One public implementation; the standard's own text was not seen.]"""
    version = None if flag is None else flag >> _VERSION_SHIFT << _VERSION_SHIFT
    return version == Edition.E2025.bits and bool(ENCRYPTED_2025.fullmatch(cn)) and bool(body) and "=" not in body


def _small(header: Mapping[str, str], name: str, most: int, problems: list[str]) -> int | None:
    text = header.get(name)
    if not text:
        return None
    if _digits(text) and len(text) <= 6 and int(text) <= most:
        return int(text)
    problems.append(f"{name} {_short(text)!r} is not a number up to {most}")
    return None


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
