"""Frames of SL 651-2014, section 6, in a stream that may hold anything else as well.

Which frames are found depends on the bytes alone, never on how the network cut them into pieces: of a frame that claims
the bytes of another whole one, the inner one counts.
"""

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from sensors.wire.sl651.crc import crc16

MAX_BODY: Final = 0xFFF
HEX_START: Final = b"\x7e\x7e"
ASCII_START: Final = b"\x01"
STX: Final = 0x02
SYN: Final = 0x16

_HEX_HEAD: Final = 14
_ASCII_HEAD: Final = 24
_MAX_BROKEN_BYTES: Final = 4096
"""Bytes that belong to no frame are handed over in pieces of at most so many."""
_SLICE: Final = 65_536
_START: Final = re.compile(rb"\x7e\x7e|\x01")
_ASCII_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]*")


class End(IntEnum):
    """The character that ends a frame, and what it says."""

    ETX = 0x03
    ETB = 0x17
    ENQ = 0x05
    ACK = 0x06
    NAK = 0x15
    EOT = 0x04
    ESC = 0x1B


class Fault(Enum):
    """Why bytes are not a frame."""

    GARBAGE = "garbage"
    CRC = "crc"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with a correct CRC.

    ``station`` is the address as ten hexadecimal characters, ``password`` as four. Of a message in several ``packets``
    this is number ``packet``, from 1.
    """

    station: str
    centre: int
    password: str
    function: int
    body: bytes
    end: End
    downlink: bool = False
    packets: int = 1
    packet: int = 1
    ascii: bool = False

    @property
    def split(self) -> bool:
        """Whether the message comes in several packets."""
        return self.packets > 1


@dataclass(frozen=True, slots=True)
class Received:
    """A frame and its bytes."""

    frame: Frame
    raw: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that are no frame, and why in one sentence."""

    fault: Fault
    reason: str
    raw: bytes


def build(frame: Frame) -> bytes:
    """The bytes of a frame. Raises ValueError for a body that is longer than the length field can say."""
    numbers = (frame.packets << 12 | frame.packet).to_bytes(3, "big") if frame.split else b""
    length = len(frame.body) + len(numbers) * (2 if frame.ascii else 1)
    if length > MAX_BODY:
        raise ValueError(f"a body has at most {MAX_BODY} bytes, this one {length}")
    station, centre = bytes.fromhex(frame.station), bytes([frame.centre])
    head = station + centre if frame.downlink else centre + station
    head += bytes.fromhex(frame.password) + bytes([frame.function])
    head += (length | (0x8000 if frame.downlink else 0)).to_bytes(2, "big")
    mark = bytes([SYN if frame.split else STX])
    if frame.ascii:
        whole = ASCII_START + _characters(head) + mark + _characters(numbers) + frame.body + bytes([frame.end])
        return whole + _characters(crc16(whole).to_bytes(2, "big"))
    whole = HEX_START + head + mark + numbers + frame.body + bytes([frame.end])
    return whole + crc16(whole).to_bytes(2, "big")


class FrameReader:
    """Finds frames in a stream, in whatever pieces it arrives; holds two frames' worth at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._garbage = bytearray()

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._buffer) + len(self._garbage)

    def feed(self, data: bytes | memoryview) -> list[Received | Broken]:
        """Feed bytes; returns the frames that became complete and the bytes that cannot become one, in order."""
        found: list[Received | Broken] = []
        for start in range(0, len(data), _SLICE):
            self._buffer += data[start : start + _SLICE]
            self._advance(found, final=False)
        return found

    def close(self) -> list[Received | Broken]:
        """End of the stream: returns what is left; the reader is as new afterwards."""
        found: list[Received | Broken] = []
        self._advance(found, final=True)
        return found

    def _advance(self, found: list[Received | Broken], *, final: bool) -> None:
        buffer, position = self._buffer, 0
        while position < len(buffer):
            match = _START.search(buffer, position)
            if match is None:
                # a single 7E at the end may be the first half of a start
                rest = len(buffer) - (buffer.endswith(b"\x7e") and not final)
                self._drop(buffer[position:rest], found)
                position = rest
                break
            self._drop(buffer[position : match.start()], found)
            position = match.start()
            end = _end_of(buffer, position)
            if end is None:
                self._drop(buffer[position : position + 1], found)
                position += 1
                continue
            inner = _whole_inside(buffer, position, min(end, len(buffer)))
            if inner:
                self._fail(bytes(buffer[position:inner]), Fault.CUT, found)
                position = inner
                continue
            if end > len(buffer):
                if not final:
                    break
                self._drop(buffer[position : position + 1], found)
                position += 1
                continue
            position = self._whole(position, end, found)
        del buffer[:position]
        if final:
            self._flush(found)
            buffer.clear()

    def _whole(self, start: int, end: int, found: list[Received | Broken]) -> int:
        """Take a frame whose bytes are all there; returns where to go on."""
        raw = bytes(self._buffer[start:end])
        frame = _read(raw)
        if frame is None:
            self._drop(self._buffer[start : start + 1], found)
            return start + 1
        self._flush(found)
        found.append(Received(frame, raw))
        return end

    def _fail(self, raw: bytes, fault: Fault, found: list[Received | Broken]) -> None:
        self._flush(found)
        found.append(Broken(fault, f"cut off: {len(raw)} bytes, then another frame begins", raw))

    def _drop(self, data: bytearray, found: list[Received | Broken]) -> None:
        self._garbage += data
        while len(self._garbage) >= _MAX_BROKEN_BYTES:
            found.append(_garbage(bytes(self._garbage[:_MAX_BROKEN_BYTES])))
            del self._garbage[:_MAX_BROKEN_BYTES]

    def _flush(self, found: list[Received | Broken]) -> None:
        """Hand over what belonged to no frame; a lone 7E between frames is a habit of some stations and no fault."""
        if self._garbage.strip(b"\x7e\r\n\0"):
            found.append(_garbage(bytes(self._garbage)))
        self._garbage.clear()


def _end_of(buffer: bytearray, start: int) -> int | None:
    """Where a frame that begins at ``start`` ends by its length, or at least where its head ends; None: it is none."""
    if buffer[start] == ASCII_START[0]:
        digits = _ASCII_DIGITS.match(buffer, start + 1, start + _ASCII_HEAD - 1)
        assert digits is not None
        if digits.end() < min(len(buffer), start + _ASCII_HEAD - 1):
            return None
        if len(buffer) < start + _ASCII_HEAD:
            return start + _ASCII_HEAD
        mark, length = buffer[start + _ASCII_HEAD - 1], int(buffer[start + 19 : start + 23], 16)
        end = start + _ASCII_HEAD + (length & MAX_BODY) + 5
    else:
        if len(buffer) < start + _HEX_HEAD:
            return start + _HEX_HEAD
        mark, length = buffer[start + _HEX_HEAD - 1], int.from_bytes(buffer[start + 11 : start + 13], "big")
        end = start + _HEX_HEAD + (length & MAX_BODY) + 3
    return end if mark in (STX, SYN) and length >> 12 in (0, 8) else None


def _whole_inside(buffer: bytearray, start: int, end: int) -> int:
    """Where a whole frame with a correct CRC begins inside the one at ``start``; 0 when there is none up to ``end``."""
    for match in _START.finditer(buffer, start + 1, end):
        inner = match.start()
        inner_end = _end_of(buffer, inner)
        if inner_end is not None and inner_end <= end and _read(bytes(buffer[inner:inner_end])) is not None:
            return inner
    return 0


def _read(raw: bytes) -> Frame | None:
    """The frame of all its bytes; None where end character or CRC are wrong."""
    in_ascii = raw[:1] == ASCII_START
    tail = 4 if in_ascii else 2
    try:
        stated = int(raw[-tail:], 16) if in_ascii else int.from_bytes(raw[-tail:], "big")
        end = End(raw[-tail - 1])
    except ValueError:
        return None
    if len(raw) < (_ASCII_HEAD + 5 if in_ascii else _HEX_HEAD + 3) or stated != crc16(raw[:-tail]):
        return None
    head = bytes.fromhex(raw[1:23].decode("ascii")) if in_ascii else raw[2:13]
    mark = raw[_ASCII_HEAD - 1] if in_ascii else raw[_HEX_HEAD - 1]
    body = raw[_ASCII_HEAD if in_ascii else _HEX_HEAD : -tail - 1]
    downlink = head[9] >> 4 == 8
    packets = packet = 1
    if mark == SYN:
        width = 6 if in_ascii else 3
        try:
            numbers = int(body[:width], 16) if in_ascii else int.from_bytes(body[:width], "big")
        except ValueError:
            return None
        packets, packet, body = numbers >> 12, numbers & 0xFFF, body[width:]
    station, centre = (head[:5], head[5]) if downlink else (head[1:6], head[0])
    return Frame(
        station=station.hex().upper(),
        centre=centre,
        password=head[6:8].hex().upper(),
        function=head[8],
        body=body,
        end=end,
        downlink=downlink,
        packets=packets,
        packet=packet,
        ascii=in_ascii,
    )


def _garbage(raw: bytes) -> Broken:
    start = raw.find(HEX_START)
    end = None if start < 0 else _end_of(bytearray(raw), start)
    if end is not None and end <= len(raw):
        right = crc16(raw[start : end - 2])
        return Broken(Fault.CRC, f"CRC is {raw[end - 2 : end].hex().upper()}, the frame gives {right:04X}", raw)
    if end is not None:
        return Broken(Fault.CUT, f"cut off: a frame of {end - start} bytes was announced, {len(raw) - start} came", raw)
    return Broken(Fault.GARBAGE, f"{len(raw)} bytes that belong to no frame", raw)


def _characters(data: bytes) -> bytes:
    return data.hex().upper().encode("ascii")
