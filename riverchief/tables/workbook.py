"""Estimate from its parts whether an .xlsx workbook fits into memory, before it is read.

The reader lays a sheet out as a full rectangle and copies shared texts into every cell, so that a file of a kilobyte
can ask for terabytes. The parts are unpacked and parsed here in pieces; nothing of them is kept.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from infra.errors import ConfigurationError
from infra.texts import say

MAX_UNPACKED_BYTES = 1 << 30
"""Bytes of all parts together; 10 million cells take about 500 MB, and texts come beside them."""
MAX_CELLS = 10_500_000
"""Cells from the first to the last row and column: a full sheet of ten columns. Read, 2 million took 200 MB."""
MAX_TEXT_CHARS = 512 << 20
"""Letters of all texts of a sheet, each counted as often as it is used."""

_PIECE = 1 << 20
_OTHER_THAN_XML = (".bin", ".png", ".jpeg", ".jpg", ".gif", ".tiff", ".emf", ".wmf", ".vml")
"""Endings of parts that are pictures, macros and printer settings."""


def check(path: Path) -> None:
    """Raises ConfigurationError for a workbook that is too large to be read, or none at all."""
    unpacked = 0
    try:
        with zipfile.ZipFile(path) as parts:
            texts: list[int] = []
            for shared in (True, False):  # the shared texts first: sheets refer to them
                for part in parts.infolist():
                    reader = _Part(path, texts, shared)
                    for piece in _unpacked(parts, part):
                        unpacked += len(piece) if shared else 0
                        if unpacked > MAX_UNPACKED_BYTES:
                            raise _too_large(path)
                        if not part.filename.lower().endswith(_OTHER_THAN_XML):
                            reader.read(piece)
    except (zipfile.BadZipFile, expat.ExpatError, NotImplementedError, RuntimeError, LookupError) as error:
        raise ConfigurationError(say("file.no_table", path=path, error=error)) from error


def _unpacked(parts: zipfile.ZipFile, part: zipfile.ZipInfo) -> Iterator[bytes]:
    """The true unpacked size of a part, whatever its header claims."""
    part.file_size = 2 * MAX_UNPACKED_BYTES
    with parts.open(part) as file:
        while piece := file.read(_PIECE):
            yield piece


def _too_large(path: Path) -> ConfigurationError:
    return ConfigurationError(say("table.workbook", path=path, cells=MAX_CELLS))


class _Part:
    """Reads one part: of a sheet its corners and how much text it uses, of the shared texts their lengths."""

    def __init__(self, path: Path, texts: list[int], shared: bool) -> None:
        self._path, self._texts, self._shared = path, texts, shared
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._root
        self._skip = False
        self._columns: dict[str, int] = {}
        self._row = self._column = 0
        self._kind = ""
        self._number = ""
        self._letters = 0
        self._top = self._left = 1 << 30
        self._bottom = self._right = 0

    def read(self, piece: bytes) -> None:
        if not self._skip:
            self._parser.Parse(piece)

    def _root(self, name: str, _: dict[str, str]) -> None:
        self._skip = _local(name) != ("sst" if self._shared else "worksheet")
        if self._skip:
            self._parser.StartElementHandler = None
        elif self._shared:
            if self._texts:
                raise _too_large(self._path)  # of two parts it is not known which one the reader takes
            self._parser.StartElementHandler = self._text
            self._parser.CharacterDataHandler = self._length
        else:
            self._parser.StartElementHandler = self._element

    def _text(self, name: str, _: dict[str, str]) -> None:
        if _local(name) == "si":
            self._texts.append(0)

    def _length(self, text: str) -> None:
        if self._texts:
            self._texts[-1] += len(text)

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        if name == "v":
            return
        name = _local(name)
        if name == "c":
            self._cell(attributes.get("r", ""))
            kind = attributes.get("t", "")
            if kind != self._kind:
                self._read_texts(kind)
        elif name == "row":
            self._row = int(attributes["r"]) if attributes.get("r", "").isdecimal() else self._row + 1
            self._column = 0

    def _cell(self, place: str) -> None:
        """Stretch the rectangle to a cell: at its place, else after the one before."""
        letters = place.rstrip("0123456789")
        digits = place[len(letters) :]
        if letters and digits:
            row = int(digits)
            if letters not in self._columns:
                self._columns[letters] = _column(letters)
            column = self._columns[letters]
        else:
            row, column = self._row, self._column + 1
        self._column = column
        if self._top <= row <= self._bottom and self._left <= column <= self._right:
            return
        self._top, self._bottom = min(self._top, row), max(self._bottom, row)
        self._left, self._right = min(self._left, column), max(self._right, column)
        if (self._bottom - self._top + 1) * (self._right - self._left + 1) > MAX_CELLS:
            raise _too_large(self._path)

    def _read_texts(self, kind: str) -> None:
        """From here on cells are of such a kind: only those that hold texts are looked into."""
        self._kind = kind
        shared, own = kind == "s", kind in ("str", "inlineStr")
        self._parser.CharacterDataHandler = self._shared_text if shared else self._own_text if own else None
        self._parser.EndElementHandler = self._ended if shared else None

    def _shared_text(self, text: str) -> None:
        self._number += text

    def _ended(self, name: str) -> None:
        if self._number and _local(name) == "c":
            self._add(self._length_of(self._number))
            self._number = ""

    def _length_of(self, number: str) -> int:
        """Of the shared text with this number; of the longest one where a formula stands beside the number."""
        if number.isdecimal() and len(number) < 10:
            return self._texts[int(number)] if int(number) < len(self._texts) else 0
        return max(self._texts, default=0)

    def _own_text(self, text: str) -> None:
        self._add(len(text))

    def _add(self, letters: int) -> None:
        self._letters += letters
        if self._letters > MAX_TEXT_CHARS:
            raise _too_large(self._path)


def _local(name: str) -> str:
    """A name without its prefix."""
    return name.rpartition(":")[2]


def _column(letters: str) -> int:
    """``A`` is 1, ``XFD`` 16,384."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number
