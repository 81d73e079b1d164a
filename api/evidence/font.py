"""Chinese letters that every reader sees: the glyphs a document needs, taken from a font of this machine and embedded.

The font is Noto Sans CJK, which Debian has as ``fonts-noto-cjk``; its licence (SIL OFL 1.1) lets documents hold it. Its
outlines are cubic (CFF), which reportlab does not embed, so that the few hundred glyphs of a document are drawn anew as
TrueType. Where no such font is installed nothing is embedded, and the letters are those of the reader's own font.
"""

import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont, TTLibError
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont as Embedded

READERS = "STSong-Light"
"""One of the fonts that a PDF reader replaces by what it has."""

PLACES = (
    Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),  # Debian, Ubuntu: fonts-noto-cjk
    Path("/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc"),  # Arch: noto-fonts-cjk
    Path("/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc"),  # Fedora
)
FACE = "Noto Sans CJK SC"
"""The face of the collection with the letters as they are written in mainland China."""

ALWAYS = frozenset(map(chr, range(0x20, 0x7F))) | set("…—·，。：；（）")
"""What is cheap to have and may be added while a document is laid out."""

_TOLERANCE = 0.5
"""Largest distance of a TrueType outline from the one it is made of, in thousandths of the letter's height."""

_lock = threading.Lock()  # the font is read piece by piece, when a glyph is asked for
_numbers = count(1)


@contextmanager
def chinese(letters: Iterable[str]) -> Iterator[str]:
    """The name of a font for reportlab that has these letters; ``READERS`` where none can be embedded."""
    name = f"Embedded{next(_numbers)}"  # reportlab takes two fonts of one name for the same
    with _lock:
        made = _subset(ALWAYS | set(letters), name)
    if made is None:
        pdfmetrics.registerFont(UnicodeCIDFont(READERS))
        yield READERS
        return
    face = Embedded(name, io.BytesIO(made))
    pdfmetrics.registerFont(face)
    try:
        yield name
    finally:
        face.unregister()  # each document has its own


def installed() -> Path | None:
    """The font on this machine whose letters are embedded; None where there is none."""
    return next((place for place in PLACES if place.is_file()), None)


@lru_cache(maxsize=2)
def _source(place: Path) -> TTFont | None:
    """The font to take glyphs from; None for a file that is none."""
    try:
        if place.suffix.lower() != ".ttc":
            return TTFont(place, lazy=True)
        faces = TTCollection(place, lazy=True).fonts
        return next((face for face in faces if face["name"].getDebugName(1) == FACE), faces[0])
    except (OSError, TTLibError):
        return None


def _subset(letters: set[str] | frozenset[str], name: str) -> bytes | None:
    """A TrueType font of these letters; None without a font to take them from. A letter it lacks is an empty box."""
    place = installed()
    source = None if place is None else _source(place)
    if source is None:
        return None
    known, glyphs, widths = source.getBestCmap(), source.getGlyphSet(), source["hmtx"]
    cmap = {ord(one): known[ord(one)] for one in sorted(letters) if ord(one) in known}
    order = [".notdef", *dict.fromkeys(cmap.values())]
    builder = FontBuilder(source["head"].unitsPerEm, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(cmap)
    builder.setupGlyf({name: _drawn(glyphs[name]) for name in order})
    builder.setupHorizontalMetrics({name: widths[name] for name in order})
    head = source["hhea"]
    builder.setupHorizontalHeader(ascent=head.ascent, descent=head.descent)
    builder.setupNameTable({"familyName": name, "styleName": "Regular", "psName": name})
    builder.setupOS2(sTypoAscender=head.ascent, sTypoDescender=head.descent)
    builder.setupPost()
    out = io.BytesIO()
    builder.save(out)
    return out.getvalue()


def _drawn(glyph: Any) -> Any:
    """A glyph drawn with quadratic curves, in the direction TrueType wants."""
    pen = TTGlyphPen(None)
    glyph.draw(Cu2QuPen(pen, _TOLERANCE, reverse_direction=True))
    return pen.glyph()
