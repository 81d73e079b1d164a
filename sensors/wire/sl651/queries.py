"""What the centre may ask a station (M4), and what its answer says. Section 6.6.4.

An element is asked for by guide byte and format byte, in the format in which the station itself sends it. Erasing,
resetting, and changing parameters or the password (40, 42, 47 to 49) are not asked for: that is done at the station.

Doubt: the identifiers of 3A, 41 and 43 are written like those of 38 (one public implementation of a station).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from infra.times import beijing, rfc3339
from sensors.wire.sl651 import body as bodies
from sensors.wire.sl651.body import Body, Element

NOW, PAST, TEXT, NAMED, BASIC, RUNNING = 0x37, 0x38, 0x39, 0x3A, 0x41, 0x43
VERSION, STATUS, SET_CLOCK, COUNTERS, CLOCK = 0x45, 0x46, 0x4A, 0x50, 0x51
FUNCTIONS: Final = frozenset({NOW, PAST, TEXT, NAMED, BASIC, RUNNING, VERSION, STATUS, SET_CLOCK, COUNTERS, CLOCK})
IDENTIFIER: Final = re.compile(r"[0-9A-Fa-f]{4}")
"""Guide byte and format byte of a parameter of the station."""
WITHHELD: Final = "03"
"""The parameter of Annex D that is the password."""

Formats = dict[str, int]
"""Element → the format byte in which the station sends it."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its function, and how what it asks for is written with the formats of the station.

    ``rest`` raises KeyError for an element that the station has never sent; None where nothing is to be written.
    """

    function: int
    rest: Callable[[Formats], bytes] | None = None

    def bytes_for(self, formats: Formats) -> bytes:
        return b"" if self.rest is None else self.rest(formats)


def current_values(parameter: str | None = None) -> Query:
    """37, or 3A for one of our parameters."""
    if parameter is None:
        return Query(NOW)
    return Query(NAMED, lambda formats: _identifier(_element_of(parameter, formats), formats))


def past_values(parameter: str, begin_ms: int, end_ms: int, step_min: int) -> Query:
    """38: the series of one of our parameters between two hours."""
    return Query(PAST, lambda formats: past_of(_element_of(parameter, formats), begin_ms, end_ms, step_min, formats))


def past_of(element: str, begin_ms: int, end_ms: int, step_min: int, formats: Formats) -> bytes:
    """What 38 asks for: from and to (hours), step, element."""
    hours = bytes.fromhex(beijing(begin_ms, "%y%m%d%H") + beijing(end_ms, "%y%m%d%H"))
    step = bytes.fromhex(f"{step_min // 1440:02d}{step_min // 60 % 24:02d}{step_min % 60:02d}")
    return hours + bodies.STEP + step + _identifier(element, formats)


def settings(function: int, identifiers: Sequence[str]) -> Query:
    """41 (basic) or 43 (running parameters), by :data:`IDENTIFIER`."""
    return Query(function, lambda _: bytes.fromhex("".join(identifiers)))


def format_byte(element: Element) -> int:
    """The format byte of an element of one value."""
    return len(element.raw) << 3 | element.decimals


def told(function: int, body: Body) -> dict[str, str]:
    """An answer as names and texts; what are readings is stored besides."""
    found = {"sent_at": rfc3339(body.sent_at_ms)}
    if function == VERSION:
        found["software"] = body.text.decode("gb18030", "replace")
    elif body.text:
        found["text"] = body.text.decode("gb18030", "replace")
    if function == COUNTERS:
        found |= {f"ERC{n}": str(count) for n, count in enumerate(body.counters, 1) if count}
    found |= {one.id: one.raw.hex().upper() for one in body.parameters if one.id != WITHHELD}
    for element in (element for block in body.blocks for element in block.elements):
        if element.id == "45":
            found["status_bits"] = ",".join(map(str, element.bits))
        elif element.id not in ("F2", "F3", "FD"):
            name = element.meaning.code if element.meaning else element.id
            found[name] = ",".join("" if value is None else str(value) for value in element.values)
    return found


def _identifier(element: str, formats: Formats) -> bytes:
    return bytes.fromhex(element) + bytes([formats[element]])


def _element_of(parameter: str, formats: Formats) -> str:
    """The element by which a station sends one of our parameters; raises KeyError."""
    rows = bodies.elements()
    found = next((name for name in formats if name in rows and rows[name].key == parameter), None)
    if found is None:
        raise KeyError(parameter)
    return found
