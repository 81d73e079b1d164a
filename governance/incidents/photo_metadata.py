"""Photos without what they tell about their maker: place, device and time are taken out, the picture stays as it is.

Pure. Nothing is encoded anew: parts of the file are left out. How a JPEG is turned is kept, in a block of its own.
"""

import struct
from collections.abc import Iterator

_ICC = b"ICC_PROFILE\x00"
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TOLD = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"})
_WEBP_TOLD = frozenset({b"EXIF", b"XMP "})
_VP8X_TOLD = 0x08 | 0x04
"""The flags of VP8X that announce EXIF and XMP."""


def without_metadata(data: bytes) -> bytes:
    """The photo (JPEG, PNG or WebP) without metadata; anything else, and what is cut short, as it is."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _PNG + b"".join(part for kind, part in _png_chunks(data) if kind not in _PNG_TOLD)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    return data


def _jpeg(data: bytes) -> bytes:
    """JFIF, colour profile and Adobe's colour transform stay of the application segments; so does the turn."""
    parts, turn = [], 1
    for marker, segment in _segments(data):
        if marker == 0xE1 and segment[4:].startswith(_EXIF):
            turn = _turn(segment[4 + len(_EXIF) :])
        drawn = not 0xE0 <= marker <= 0xEF and marker != 0xFE
        if drawn or marker in (0xE0, 0xEE) or (marker == 0xE2 and segment[4:].startswith(_ICC)):
            parts.append(segment)
    if turn != 1:
        parts.insert(1, _turned(turn))
    return b"".join(parts)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, bytes) of each segment, the coded picture with its marker; what follows the picture is left out."""
    yield 0xD8, data[:2]
    at = 2
    while at < len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise IndexError
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xD9:
            yield marker, data[at : at + 2]
            return
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            end = _end_of_scan(data, end)
        yield marker, data[at:end]
        at = end


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the coded picture that begins at ``at`` ends: at the next marker that is neither stuffed nor a restart."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data)


def _turn(tiff: bytes) -> int:
    """The orientation (1 to 8) in an Exif block; 1 where it has none."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * number)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _turned(orientation: int) -> bytes:
    """An APP1 segment that says nothing but the orientation."""
    tiff = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(_EXIF) + len(tiff)) + _EXIF + tiff


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        yield kind, data[at:end]
        if kind == b"IEND":
            return
        at = end


def _webp(data: bytes) -> bytes:
    parts, at = [], 12
    end = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    while at < end:
        kind, length = struct.unpack_from("<4sI", data, at)
        part = data[at : at + 8 + length + length % 2]
        if kind == b"VP8X":
            part = part[:8] + bytes([part[8] & ~_VP8X_TOLD]) + part[9:]
        if kind not in _WEBP_TOLD:
            parts.append(part)
        at += len(part)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
