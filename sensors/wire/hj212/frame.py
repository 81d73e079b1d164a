"""Frames: ``##``, four digits of length, the data segment, four hexadecimal digits of CRC, CR LF (HJ 212-2017, 6.3.1).

The reader finds them in a stream that may hold anything else as well. Which frames it finds depends on the bytes alone,
never on how the network cut them into pieces.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sensors.wire.hj212.crc import crc16, modbus

MAX_SEGMENT: Final = 1024
"""Bytes of a data segment at most."""
HEAD: Final = b"##"
TAIL: Final = b"\r\n"

_HEAD_BYTES: Final = 6
_CRC_BYTES: Final = 4
_MAX_BROKEN_BYTES: Final = 4096
"""A frame that cannot be read is handed over in pieces of at most so many bytes: what the reader holds is bounded."""
_SLICE: Final = 65_536
_DIGITS: Final = re.compile(rb"[0-9]{4}")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{4}")
_BLANK: Final = b"\r\n \t\0"


class Fault(Enum):
    """Fault of bytes that are not a frame."""

    GARBAGE = "garbage"
    LENGTH = "length"
    CRC = "crc"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame with a correct CRC; ``raw`` has no CR LF where the sender left it out."""

    segment: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that are not a frame, and why in one sentence."""

    fault: Fault
    reason: str
    raw: bytes

    @property
    def segment(self) -> bytes:
        """The probable data segment; only for the answer to the sender."""
        if self.fault is Fault.GARBAGE:
            return b""
        line = self.raw.strip(_BLANK)
        return line[_HEAD_BYTES:-_CRC_BYTES] if _HEX.fullmatch(line[-_CRC_BYTES:]) else line[_HEAD_BYTES:]


def build(segment: bytes) -> bytes:
    """The frame around a data segment; raises ValueError when it is longer than the standard allows."""
    if len(segment) > MAX_SEGMENT:
        raise ValueError(f"a data segment has at most {MAX_SEGMENT} bytes, this one {len(segment)}")
    return b"##%04d%b%04X\r\n" % (len(segment), segment, crc16(segment))


class FrameReader:
    """Finds frames in a stream, in whatever pieces it arrives; holds a few kilobytes at most.

    A frame is where ``##`` and four digits stand, the CRC fits, and no other such frame lies inside: a frame that was
    cut off claims the bytes of the ones behind it, and those are the ones that can be used.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._garbage = bytearray()
        self._scanned = 0  # up to here no whole frame lies inside the one the buffer begins with
        self._failed = False  # the frame the buffer begins with is whole and wrong; its end is still sought

    @property
    def held(self) -> int:
        """Bytes waiting for the rest of their frame."""
        return len(self._buffer) + len(self._garbage)

    def feed(self, data: bytes | memoryview) -> list[Frame | Broken]:
        """Feed bytes; returns frames that became complete and bytes that cannot become one, in the order of the
        stream."""
        found: list[Frame | Broken] = []
        for start in range(0, len(data), _SLICE):
            self._buffer += data[start : start + _SLICE]
            self._advance(found, final=False)
        return found

    def close(self) -> list[Frame | Broken]:
        """End of the stream: returns what is left; the reader is as new afterwards."""
        found: list[Frame | Broken] = []
        self._advance(found, final=True)
        return found

    # -- below: the position is always 0 between calls ---------------------------------------------------------------

    def _advance(self, found: list[Frame | Broken], *, final: bool) -> None:
        buffer, position = self._buffer, 0
        while True:
            start = buffer.find(HEAD, position)
            if start < 0:
                end = len(buffer) - (buffer.endswith(b"#") and not final)
                self._drop(buffer[position:end], found)
                position = end
                break
            self._drop(buffer[position:start], found)
            if start > position:
                self._forget()
            taken = self._read(start, found, final)
            if not taken:
                position = start
                break
            position = start + taken
            self._forget()
        del buffer[:position]
        if final:
            self._flush(found)
            buffer.clear()
            self._forget()

    def _forget(self) -> None:
        self._scanned, self._failed = 0, False

    def _read(self, start: int, found: list[Frame | Broken], final: bool) -> int:
        """Read at a ``##``; the number of bytes it took, 0 when more must arrive before anything can be said."""
        buffer = self._buffer
        if len(buffer) - start < _HEAD_BYTES and not final:
            return 0
        if buffer[start + 2 : start + 3] == b"#":  # the first of three is not part of it
            self._drop(buffer[start : start + 1], found)
            return 1
        length = _length(buffer, start)
        if length is None:
            stated_length = buffer[start + 2 : start + _HEAD_BYTES].decode("ascii", "backslashreplace")
            return self._give_up(start, found, final, Fault.LENGTH, f"length {stated_length!r} is not four digits")
        if length > MAX_SEGMENT:
            reason = f"length says {length} bytes, a data segment has at most {MAX_SEGMENT:,}"
            return self._give_up(start, found, final, Fault.LENGTH, reason)
        end = start + _HEAD_BYTES + length + _CRC_BYTES
        if not self._failed:
            inner = self._whole_inside(start, min(end, len(buffer)))
            if inner:
                self._flush(found)
                found.append(_explained(bytes(buffer[start:inner]), length))
                return inner - start
            if len(buffer) >= end and _crc_fits(buffer, start, length):
                self._flush(found)
                segment = bytes(buffer[start + _HEAD_BYTES : end - _CRC_BYTES])
                tail = end + len(TAIL) if buffer[end : end + len(TAIL)] == TAIL else end
                found.append(Frame(segment, bytes(buffer[start:tail])))
                return tail - start
        if len(buffer) >= end or final:
            self._failed = True
            return self._give_up(start, found, final, None, "")
        self._scanned = len(buffer) - start
        return 0

    def _whole_inside(self, start: int, end: int) -> int:
        """Where a whole frame begins inside the one at ``start``; 0 when there is none up to ``end``."""
        buffer = self._buffer
        inner = buffer.find(HEAD, start + len(HEAD), end)
        while inner >= 0:
            length = _length(buffer, inner)
            if length is not None and length <= MAX_SEGMENT:
                inner_end = inner + _HEAD_BYTES + length + _CRC_BYTES
                if start + self._scanned < inner_end <= end and _crc_fits(buffer, inner, length):
                    return inner
            inner = buffer.find(HEAD, inner + 1, end)
        return 0

    def _give_up(self, start: int, found: list[Frame | Broken], final: bool, fault: Fault | None, reason: str) -> int:
        """Hand over a frame that cannot be read, up to its line end or the next ``##``."""
        buffer = self._buffer
        limit = start + _MAX_BROKEN_BYTES
        line = buffer.find(b"\n", start, limit)
        following = buffer.find(HEAD, start + len(HEAD), limit if line < 0 else line)
        if following >= 0:
            end = following
        elif line >= 0:
            end = line + 1
        elif final or len(buffer) >= limit:
            end = min(len(buffer), limit)
        else:
            return 0
        self._flush(found)
        raw = bytes(buffer[start:end])
        found.append(_explained(raw, int(raw[2:6])) if fault is None else Broken(fault, reason, raw))
        return end - start

    def _drop(self, data: bytearray, found: list[Frame | Broken]) -> None:
        """Drop bytes outside any frame; line ends between frames are no fault."""
        if data.strip(_BLANK) or self._garbage:
            self._garbage += data
            while len(self._garbage) >= _MAX_BROKEN_BYTES:
                found.append(_garbage(bytes(self._garbage[:_MAX_BROKEN_BYTES])))
                del self._garbage[:_MAX_BROKEN_BYTES]

    def _flush(self, found: list[Frame | Broken]) -> None:
        if self._garbage.strip(_BLANK):
            found.append(_garbage(bytes(self._garbage.strip(_BLANK))))
        self._garbage.clear()


def _length(buffer: bytearray, start: int) -> int | None:
    digits = buffer[start + 2 : start + _HEAD_BYTES]
    return int(digits) if _DIGITS.fullmatch(digits) else None


def _crc_fits(buffer: bytearray, start: int, length: int) -> bool:
    end = start + _HEAD_BYTES + length
    stated = buffer[end : end + _CRC_BYTES]
    if not _HEX.fullmatch(stated):
        return False
    return int(stated, 16) == crc16(buffer[start + _HEAD_BYTES : end])


def _garbage(raw: bytes) -> Broken:
    return Broken(Fault.GARBAGE, f"{len(raw)} bytes that belong to no frame", raw)


def _explained(raw: bytes, length: int) -> Broken:
    """Why a frame with a readable length is not one; ``raw`` ends at the line end or at the next frame."""
    line = raw.rstrip(_BLANK)
    segment, stated = line[_HEAD_BYTES : _HEAD_BYTES + length], line[_HEAD_BYTES + length :][:_CRC_BYTES]
    inner = line[_HEAD_BYTES:-_CRC_BYTES]
    if len(inner) != length and _HEX.fullmatch(line[-_CRC_BYTES:]) and int(line[-_CRC_BYTES:], 16) == crc16(inner):
        hint = "; it has so many characters, but bytes are counted" if _characters(inner) == length else ""
        return Broken(Fault.LENGTH, f"length says {length} bytes, the data segment has {len(inner)}{hint}", raw)
    if len(segment) < length or len(stated) < _CRC_BYTES:
        came = max(0, len(line) - _HEAD_BYTES)
        reason = f"cut off: a data segment of {length} bytes and its CRC were announced, {came} bytes came"
        return Broken(Fault.CUT, reason, raw)
    if not _HEX.fullmatch(stated):
        stated_crc = stated.decode("ascii", "backslashreplace")
        return Broken(Fault.CRC, f"CRC {stated_crc!r} is not four hexadecimal digits", raw)
    stated_crc, right = stated.decode("ascii"), crc16(segment)
    other = modbus(segment)
    if int(stated, 16) in (other, (other & 0xFF) << 8 | other >> 8):
        reason = f"CRC {stated_crc} is the Modbus CRC; HJ 212, Appendix A, gives {right:04X} for this data segment"
        return Broken(Fault.CRC, reason, raw)
    return Broken(Fault.CRC, f"CRC is {stated_crc}, the data segment gives {right:04X}", raw)


def _characters(data: bytes) -> int | None:
    for encoding in ("utf-8", "gb18030"):
        try:
            return len(data.decode(encoding))
        except UnicodeDecodeError:
            continue
    return None
