"""Decode SL 651 messages to readings: value, time and unit of each element; and what a station tells of itself.

A sum's time is the end of its period. The five-minute arrays are read by the order that is registered for the station:
``first``, the observation time is that of the first value (as the standard says), or ``last``, the array is that of the
hour in which the observation time lies.

Doubts: the standard names no zone, Beijing time is taken. The sum since 1 January (26H) is not used: its difference
needs the message before. Of several level arrays (F5 to FC) the lowest is the level.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hmac import compare_digest
from typing import Any, Final

from infra.times import HOUR_MS, rfc3339
from sensors.parameters import Catalogue
from sensors.reading import Message, Reason
from sensors.wire import framed
from sensors.wire.framed import Columns, sender_of
from sensors.wire.sl651 import body as bodies
from sensors.wire.sl651.body import Block, Body, Element, Malformed
from sensors.wire.sl651.frame import Broken, Frame, FrameReader
from sensors.wire.telemetry import Decoded, Header, StatusWord

SOURCE: Final = "sl651"
"""``Message.source`` of SL 651; the payload is the frame, or the frames of a message in several packets."""
ADDRESS: Final = re.compile(r"[0-9A-F]{10}")
"""A station's address: five bytes as hexadecimal characters."""
FIRST, LAST = "first", "last"
ARRAY_ORDERS: Final = (FIRST, LAST)

VALUES: Final = frozenset({0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3A})
"""Functions whose elements are measurements."""
WITHOUT_READINGS: Final = frozenset({0x2F, 0x30, 0x39, *range(0x40, 0x52)})
"""Read and no data: link keeping, tests, manual text asked for, and the answers about the station itself."""

_STATUS: Final = "45"
_NO_TIME: Final = -1
_NORMAL: Final = ord("N")


@dataclass(frozen=True, slots=True)
class Gauge:
    """A registered SL 651 station: its address, our station, and how its messages are read.

    Without a password any is accepted. ``base_m`` is the level to which arrays of relative levels are added; None: they
    are not used. ``interval_s`` is that of our station; ``last_at_ms`` its newest reading.
    """

    address: str
    station: str
    password: str | None = None
    base_m: float | None = None
    array_order: str = FIRST
    last_at_ms: int | None = None
    interval_s: int = 0

    def __repr__(self) -> str:
        return f"Gauge({self.address} of {self.station})"


def topic(address: str) -> str:
    """The topic of a message: the address of the station that it is of."""
    return f"{SOURCE}/{address}"


def addressed(messages: Sequence[Message], gauges: Mapping[str, Gauge]) -> Sequence[Message]:
    """The messages with the station of each; the address of an unknown one stands for the station."""
    return framed.addressed(messages, SOURCE, gauges, _key_of)


def decode(messages: Sequence[Message], catalogue: Catalogue, gauges: Mapping[str, Gauge]) -> Decoded:
    """Read messages; never raises for what is in them. What cannot be used comes back as Rejected."""
    return framed.decode(messages, catalogue, lambda message, columns: _read(message, columns, gauges))


def unproven(frame: Frame, address: str, gauges: Mapping[str, Gauge]) -> Reason | None:
    """Why the sender of a frame is not taken for the registered station, None when it is."""
    gauge = gauges.get(address)
    if gauge is None:
        return Reason.UNKNOWN_STATION
    if gauge.password is not None and not compare_digest(frame.password, gauge.password):
        return Reason.WRONG_PASSWORD
    return None


def join(frames: Sequence[Frame]) -> tuple[Frame, bytes]:
    """The first frame of a message and its whole body. Raises ValueError where packets are missing."""
    first = frames[0]
    by_number = {frame.packet: frame for frame in frames}
    missing = [str(n) for n in range(1, first.packets + 1) if n not in by_number]
    if missing:
        raise ValueError(f"of {first.packets} packets these are missing: {', '.join(missing[:20])}")
    whole = b"".join(by_number[n].body for n in range(1, first.packets + 1))
    return by_number[1], whole


def _read(message: Message, columns: Columns, gauges: Mapping[str, Gauge]) -> Header | None:
    reader = FrameReader()
    found = reader.feed(message.payload) + reader.close()
    broken = next((one for one in found if isinstance(one, Broken)), None)
    if broken is not None or not found:
        columns.refuse(Reason.BAD_FRAME, broken.reason if broken else "no frame")
        return None
    frames = [one.frame for one in found if not isinstance(one, Broken)]
    address = sender_of(message)
    refusal = _refusal(frames[0], address, gauges)
    try:
        first, whole = join(frames)
        body = bodies.read(first.function, whole, ascii_mode=first.ascii)
    except Malformed as error:
        columns.refuse(*(refusal or (Reason.WRONG_SHAPE, f"function {frames[0].function:02X}: {error}")))
        return None
    except ValueError as error:
        columns.refuse(*(refusal or (Reason.INCOMPLETE, str(error))))
        return None
    header = Header(sent_at_ms=body.sent_at_ms)
    if refusal is not None:
        columns.refuse(*refusal)
    elif first.function in VALUES:
        _values(first, body, gauges[address], columns)
    elif first.function == bodies.STATUS:
        _status(body.blocks, address, body.sent_at_ms, columns)
    elif first.function not in WITHOUT_READINGS:
        columns.refuse(Reason.WRONG_SHAPE, f"function {first.function:02X} is not one that is read", ())
    return header


def _refusal(frame: Frame, address: str, gauges: Mapping[str, Gauge]) -> tuple[Reason, str] | None:
    """Why a message is refused as a whole."""
    stranger = unproven(frame, address, gauges)
    if stranger is Reason.UNKNOWN_STATION:
        return stranger, f"no SL 651 station with address {address!r} is registered"
    if stranger is not None:
        return stranger, f"the password is not the one registered for address {address}"
    if frame.downlink:
        return Reason.WRONG_SHAPE, "the frame is one of a centre, not of a station"
    return None


def _values(frame: Frame, body: Body, gauge: Gauge, columns: Columns) -> None:
    if body.text:
        columns.notices[columns.message] = _event("manual_text", gauge, body, text=_text(body.text))
    blocks = [block for block in body.blocks if block.station == gauge.address]
    _status(blocks, gauge.address, body.sent_at_ms, columns)
    given: set[tuple[str, int]] = set()
    elements = [element for block in blocks for element in block.elements if element.id != _STATUS]
    elements.sort(key=lambda one: one.is_array)  # a value of its own counts before one in an array
    level_array = min((one.id for one in elements if one.is_array and one.id != "F4"), default="")
    for element in elements:
        if element.id in ("F2", "F3", "FD"):
            columns.notices[columns.message] = _told(element, gauge, body)
            continue
        name = _key_of(element.id)
        if _refused(element, name, columns):
            continue
        for at_ms, key, value in _readings(element, body.sent_at_ms, gauge, level_array):
            if (key, at_ms) not in given:
                given.add((key, at_ms))
                columns.add(key, at_ms, value, _NORMAL)


def _refused(element: Element, name: str, columns: Columns) -> bool:
    """Refuse an element that cannot be read or is not known; whether it was."""
    at_ms = _NO_TIME if element.at_ms is None else element.at_ms
    shown = f"element {element.id}: {element.raw.hex().upper()[:200]}"
    if element.meaning is None:
        columns.refuse(Reason.UNKNOWN_PARAMETER, f"{shown} is not in the table of elements", ((at_ms, name),))
    elif element.fault:
        columns.refuse(Reason.NOT_A_NUMBER, f"{shown}: {element.fault}", ((at_ms, name),))
    elif element.at_ms is None and element.meaning.key:
        columns.refuse(Reason.BAD_TIME, f"{shown} comes without an observation time (F0F0)", ((at_ms, name),))
    else:
        return False
    return True


def _readings(element: Element, sent_at_ms: int, gauge: Gauge, level_array: str) -> Iterator[tuple[int, str, float]]:
    """Time, key and value of each reading in an element; missing ones are none."""
    meaning = element.meaning
    if meaning is None or element.at_ms is None:
        return
    key, base = meaning.key, Decimal(0)
    if element.id == level_array and gauge.base_m is not None:
        key, base = "level", Decimal(str(gauge.base_m))
    if not key or (meaning.period and meaning.period * 60 != gauge.interval_s):
        return
    factor = Decimal(meaning.factor)
    for at_ms, value in _timed(element, element.at_ms, sent_at_ms, gauge.array_order):
        yield at_ms, key, float((value + base) * factor)


def _timed(element: Element, at_ms: int, sent_at_ms: int, order: str) -> Iterator[tuple[int, Decimal]]:
    """The values with their times; of an array only what was measured when it was sent."""
    begin_ms, step_ms = at_ms, element.step_ms or 0
    by_hour = element.is_array and order == LAST
    if by_hour:
        end_ms = -(-at_ms // HOUR_MS) * HOUR_MS  # Beijing's hours begin when those of UTC do
        begin_ms = end_ms - (len(element.values) - 1) * step_ms
    for i, value in enumerate(element.values):
        when_ms = begin_ms + i * step_ms
        early = element.is_array and when_ms > sent_at_ms
        empty = by_hour and when_ms > at_ms and not value
        if value is not None and not early and not empty:
            yield when_ms, value


def _status(blocks: Sequence[Block], address: str, sent_at_ms: int, columns: Columns) -> None:
    for block in blocks:
        for element in block.elements:
            if element.id == _STATUS and block.station == address:
                at_ms = sent_at_ms if element.at_ms is None else element.at_ms
                columns.status[columns.message] = StatusWord(at_ms, int.from_bytes(element.raw, "big"))


def _told(element: Element, gauge: Gauge, body: Body) -> str:
    """Text, picture or artificial data as an event. A picture itself is not kept, only that there was one."""
    if element.id == "F3":
        return _event("picture", gauge, body, bytes=len(element.raw))
    return _event("manual_text", gauge, body, text=_text(element.raw))


def _event(event: str, gauge: Gauge, body: Body, **more: Any) -> str:
    """An event as the other devices send theirs: a JSON object; sent again it is the same."""
    told = {"event": event, "source": SOURCE, "address": gauge.address, "at": rfc3339(body.sent_at_ms)}
    return json.dumps(told | {"serial": body.serial} | more, ensure_ascii=False)


def _text(raw: bytes) -> str:
    return raw.decode("gb18030", "replace")[:4000]


def _key_of(name: str) -> str:
    """Our parameter of an element; its identifier where it has none."""
    meaning = bodies.elements().get(name)
    return (meaning.key or name) if meaning else name
