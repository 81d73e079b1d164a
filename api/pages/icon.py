"""The sign of the product: as SVG for tabs, as PNG for the home screens of phones. Pure."""

import struct
import zlib
from functools import lru_cache

import numpy as np

SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#17302f"/>
<path d="M4 21c4-4 8-4 12 0s8 4 12 0M4 27c4-4 8-4 12 0s8 4 12 0" fill="none" stroke="#a9c7c6" stroke-width="2.6"/>
<path d="M13 16V4l11 4-11 4" fill="#f2f6f5" stroke="#f2f6f5" stroke-width="1.5" stroke-linejoin="round"/></svg>"""
SIZES = (192, 512)
_FIELD, _WATER, _FLAG = (0x17, 0x30, 0x2F), (0xA9, 0xC7, 0xC6), (0xF2, 0xF6, 0xF5)
_FINER = 3


@lru_cache(maxsize=len(SIZES))
def png(size: int) -> bytes:
    """The sign as a square PNG that fills it to the edge, as phones cut a shape of their own out of it."""
    fine = size * _FINER
    y, x = (np.mgrid[0:fine, 0:fine] + 0.5) * (32 / fine)
    picture = np.full((fine, fine, 3), _FIELD, dtype=np.float32)
    inside = (x > 4) & (x < 28)
    for level in (20.0, 26.0):
        slope = np.pi / 12
        away = np.abs(y - level + 3 * np.sin((x - 4) * slope)) / np.hypot(1, 3 * slope * np.cos((x - 4) * slope))
        picture[inside & (away < 1.3)] = _WATER
    pole = (np.abs(x - 13) < 0.75) & (y > 3.5) & (y < 16)
    cloth = (x >= 13) & (np.abs(y - 8) <= 4.5 * (24.5 - x) / 11.5)
    picture[pole | cloth] = _FLAG
    small = picture.reshape(size, _FINER, size, _FINER, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    rows = np.concatenate([np.zeros((size, 1), np.uint8), small.reshape(size, size * 3)], axis=1)
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
