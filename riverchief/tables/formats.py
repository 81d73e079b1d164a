"""Read and write tables in chunks: CSV (also gzip), Excel, Parquet; memory is that of one chunk.

Columns keep their headers and their place; in a piece they are called by their position (``"0"``, ``"1"``, …), so that
a table with two equal headers goes through unharmed. CSV cells stay the text they are.
"""

import csv
import gzip
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

import numpy as np
import polars as pl

from infra.errors import ConfigurationError
from infra.texts import say
from riverchief import table_files
from riverchief.tables import workbook

PIECE_BYTES = 16 << 20
PIECE_ROWS = 200_000
RECORD_BYTES = 64 << 20
"""A CSV record longer than this is a quote that somebody forgot to close."""
EXCEL_ROWS = 1_048_575
"""Rows of data a sheet can hold beside its header."""

_BOM = b"\xef\xbb\xbf"
_SEPARATORS = (",", ";", "\t")
_BROKEN = (OSError, EOFError, ValueError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True)
class TableChunk:
    """Some rows of a table, columns called by position. ``first`` is the number of its first row, counted from 0.

    ``text`` is what a CSV piece was read from (UTF-8), ``first_line`` the line in the file where it begins.
    """

    frame: pl.DataFrame
    first: int
    done: float
    first_line: int = 2
    text: bytes | None = field(default=None, repr=False)
    separator: str = ","

    def line(self, row: int) -> int:
        """The line of the file (row of the sheet, header included) where ``row`` of this piece stands."""
        if self.text is None:
            return self.first + row + 2
        reader = csv.reader(io.StringIO(self.text.decode("utf-8"), newline=""), delimiter=self.separator)
        begins = 0
        for i, _ in enumerate(reader):
            if i == row:
                break
            begins = reader.line_num
        return self.first_line + begins


class Source(Protocol):
    """A table that can be read once, piece by piece."""

    names: list[str]
    bom: bool
    """Whether it was written by a spreadsheet that tells UTF-8 by the mark at its beginning, or knows only GBK."""

    def pieces(self) -> Iterator[TableChunk]: ...


class TableWriter(Protocol):
    """Writes a table in chunks, columns in the order of the names it was opened with."""

    def write(self, frame: pl.DataFrame) -> None: ...

    def close(self) -> None: ...


# -- reading ---------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path) -> Iterator[Source]:
    """Open a table by its ending (``.csv``, ``.csv.gz``, ``.txt``, ``.tsv``, ``.parquet``, ``.xlsx``, ``.xls``).

    Raises ConfigurationError naming the file, and the line where there is one, for what cannot be read.
    """
    with ExitStack() as opened:
        with _errors_named(path):
            match path.suffix.lower():
                case ".parquet":
                    source: Source = _Parquet(path)
                case ".xlsx" | ".xls":
                    if zipfile.is_zipfile(path):  # .xls of 2007 and later, too
                        workbook.check(path)
                    source = _Excel(path)
                case _:
                    source = _Csv(path, opened.enter_context(path.open("rb")))
        yield source


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Translate errors of reading to one sentence about the file; not around the caller's own work."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(say("file.missing", path=path)) from None
    except IsADirectoryError:
        raise ConfigurationError(say("table.folder", path=path)) from None
    except _BROKEN as error:
        raise ConfigurationError(say("file.no_table", path=path, error=str(error).splitlines()[0])) from error


class _Csv:
    """Text in pieces of whole records; UTF-8 or GB 18030, comma, semicolon or tab, plain or gzip."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self.path = path
        self._raw = raw
        self._size = max(1, path.stat().st_size)
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        self._stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if packed else raw)
        self._blocks = self._whole_records()
        first = next(self._blocks, b"")
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigurationError(say("table.utf16", path=path))
        text = self._utf8(first.removeprefix(_BOM), 1)
        self.bom = text != first
        comments = re.match(rb"(#( .*)?\r?\n)*", text)
        text = text[comments.end() :] if comments else text  # tables of the USGS begin with lines of them
        header, self._rest = _split_header(text)
        if not header.strip():
            raise ConfigurationError(say("table.empty", path=path))
        self._separator = max(_SEPARATORS, key=header.decode("utf-8").count)
        lines = csv.reader(io.StringIO(header.decode("utf-8"), newline=""), delimiter=self._separator)
        self.names = next(lines)
        self._line = 1 + header.count(b"\n") + (comments[0].count(b"\n") if comments else 0)

    def pieces(self) -> Iterator[TableChunk]:
        schema = {str(i): pl.String() for i in range(len(self.names))}
        first, line = 0, self._line
        with _errors_named(self.path):
            for text in self._texts(self._rest, line):
                frame = self._frame(text, line, schema)
                yield TableChunk(frame, first, self._raw.tell() / self._size, line, text, self._separator)
                first += len(frame)
                line += text.count(b"\n")

    def _texts(self, text: bytes, line: int) -> Iterator[bytes]:
        """The blocks as UTF-8; blank lines at the very end of the file are no rows."""
        for block in self._blocks:
            if text:
                yield text
            line += text.count(b"\n")
            text = self._utf8(block, line)
        text = text.rstrip(b"\r\n")
        if text:
            yield text + b"\n"

    def _whole_records(self) -> Iterator[bytes]:
        """Blocks that end where a record ends: at a line end outside quotes."""
        held, line = b"", 1
        while block := self._stream.read(PIECE_BYTES):
            held += block
            end = _last_record_end(held)
            if end == 0 and len(held) > RECORD_BYTES:
                raise ConfigurationError(say("table.quote", path=self.path, line=line))
            if end:
                yield held[:end]
                line += held.count(b"\n", 0, end)
                held = held[end:]
        if held:
            yield held

    def _utf8(self, block: bytes, line: int) -> bytes:
        if block.isascii():
            return block
        try:
            block.decode("utf-8")
            return block
        except UnicodeDecodeError as not_utf8:
            try:
                return block.decode("gb18030").encode("utf-8")
            except UnicodeDecodeError:
                where = line + block.count(b"\n", 0, not_utf8.start)
                raise ConfigurationError(say("table.bad_text", path=self.path, where=where)) from None

    def _frame(self, text: bytes, line: int, schema: dict[str, pl.String]) -> pl.DataFrame:
        try:
            return pl.read_csv(
                text,
                has_header=False,
                schema=schema,
                separator=self._separator,
                missing_columns="insert",
            )
        except pl.exceptions.PolarsError as error:
            self._refuse_long_row(text, line)
            values = str(error).splitlines()[0]
            raise ConfigurationError(say("table.line_or_after", path=self.path, line=line, error=values)) from error

    def _refuse_long_row(self, text: bytes, line: int) -> None:
        reader = csv.reader(io.StringIO(text.decode("utf-8"), newline=""), delimiter=self._separator)
        begins = 0
        for cells in reader:
            if len(cells) > len(self.names):
                values = {"path": self.path, "line": line + begins, "cells": len(cells), "columns": len(self.names)}
                raise ConfigurationError(say("table.long_row", **values))
            begins = reader.line_num


def _last_record_end(text: bytes) -> int:
    """Just after the last line end that has an even number of quotes before it; 0 when there is none."""
    if b'"' not in text:
        return text.rfind(b"\n") + 1
    letters = np.frombuffer(text, np.uint8)
    ends, quotes = np.flatnonzero(letters == ord("\n")), np.flatnonzero(letters == ord('"'))
    outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _split_header(text: bytes) -> tuple[bytes, bytes]:
    """The first record, which may have line ends within quotes, and what follows."""
    end = text.find(b"\n")
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end + 1)
    return (text, b"") if end < 0 else (text[: end + 1], text[end + 1 :])


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.names, self._rows = table_files.parquet_head(path)
        self.bom = False

    def pieces(self) -> Iterator[TableChunk]:
        with _errors_named(self.path):
            for first in range(0, self._rows, PIECE_ROWS):
                frame = _by_position(table_files.read_parquet(self.path, first, PIECE_ROWS))
                yield TableChunk(frame, first, (first + len(frame)) / self._rows)


class _Excel:
    """The first sheet of a workbook. A sheet is read whole: it cannot have more than a million rows."""

    def __init__(self, path: Path) -> None:
        frame = table_files.read_excel(path, keep_empty=True)
        self.names = frame.columns
        self.bom = False
        self._frame = _by_position(frame)

    def pieces(self) -> Iterator[TableChunk]:
        for first in range(0, len(self._frame), PIECE_ROWS):
            frame = self._frame.slice(first, PIECE_ROWS)
            yield TableChunk(frame, first, (first + len(frame)) / len(self._frame))


def _by_position(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename({name: str(i) for i, name in enumerate(frame.columns)})


# -- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path, names: Sequence[str], *, bom: bool = False) -> Iterator[TableWriter]:
    """A table that appears at ``path`` once it is complete, its kind by its ending (``.csv.gz`` too).

    ``bom`` begins CSV with the mark by which spreadsheets tell UTF-8. Written beside its place first: a failure leaves
    what was there, and the table may replace the one being read.
    Raises ConfigurationError when it cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with ExitStack() as opened:
            file = opened.enter_context(beside.open("wb"))
            sink = _sink(path, file, names, bom, opened)
            yield sink
            sink.close()
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(say("file.unwritable", file=path, error=error.strerror or error)) from error
    finally:
        beside.unlink(missing_ok=True)


def _sink(path: Path, file: BinaryIO, names: Sequence[str], bom: bool, opened: ExitStack) -> TableWriter:
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    match endings[-1:]:
        case [".parquet"]:
            pieces = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
            return ParquetSink(file, _unequal(path, names), Path(opened.enter_context(pieces)))
        case [".xlsx"]:
            return ExcelSink(path, file, _unequal(path, names))
        case [".gz"]:
            packed = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0)
            return CsvSink(cast(IO[bytes], packed), names, bom=bom)
        case [".csv" | ".txt"]:
            return CsvSink(file, names, bom=bom)
    raise ConfigurationError(say("table.ending", path=path))


def _unequal(path: Path, names: Sequence[str]) -> Sequence[str]:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigurationError(say("table.columns_twice", path=path, name=name))
    return names


class CsvSink:
    """CSV in UTF-8 to a binary stream, header first."""

    def __init__(self, stream: IO[bytes], names: Sequence[str], *, bom: bool = False) -> None:
        self._stream = stream
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(names)
        stream.write((_BOM if bom else b"") + header.getvalue().encode("utf-8"))

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_csv(self._stream, include_header=False)

    def close(self) -> None:
        if isinstance(self._stream, gzip.GzipFile):
            self._stream.close()


class ParquetSink:
    """Parquet, the types of the first piece.

    Polars writes a Parquet file at once: until then the pieces, which may have no rows, wait in files of ``folder``.
    """

    def __init__(self, file: BinaryIO, names: Sequence[str], folder: Path) -> None:
        self._file, self._names, self._folder = file, list(names), folder
        self._pieces: list[Path] = []

    def write(self, frame: pl.DataFrame) -> None:
        piece = self._folder / f"{len(self._pieces)}.arrow"
        frame.rename(dict(zip(frame.columns, self._names, strict=True))).write_ipc(piece, compression="lz4")
        self._pieces.append(piece)

    def close(self) -> None:
        if not self._pieces:
            return
        try:
            pl.scan_ipc(self._pieces).sink_parquet(self._file)
        except pl.exceptions.ComputeError as error:  # what Polars raises for a full disk
            raise OSError(str(error)) from error


class ExcelSink:
    """A workbook of one sheet."""

    def __init__(self, path: Path, file: BinaryIO, names: Sequence[str]) -> None:
        self._path, self._file, self._names = path, file, list(names)
        self._pieces: list[pl.DataFrame] = []
        self._rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        self._rows += len(frame)
        if self._rows > EXCEL_ROWS:
            raise ConfigurationError(say("table.sheet_rows", path=self._path, most=EXCEL_ROWS))
        self._pieces.append(frame)

    def close(self) -> None:
        frame = pl.concat(self._pieces)
        frame.columns = self._names
        frame.write_excel(self._file)
