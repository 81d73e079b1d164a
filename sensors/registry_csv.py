"""The registry as one table (CSV): a column ``kind`` says what a row is, the other columns are those of the file.

Pure: text in, :class:`~sensors.registry_rows.Book` out, and back. A table of one kind needs no column ``kind`` when the
reader says which it is. In a cell, ``parameters`` are separated by spaces, the points of ``line`` by semicolons
(``113.1 23.0; 113.2 23.0``); an empty cell is no entry. Unknown columns are refused, as in the file.
"""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from infra.errors import ConfigurationError
from infra.texts import Text, at, same, say
from infra.times import rfc3339, to_ms
from sensors.datum import Box
from sensors.parameters import Catalogue
from sensors.registry_rows import COLUMNS, Book, Row, read_rows, rows_of

KIND: Final = "kind"
_NUMBERS = frozenset(
    (
        *("lon", "lat", "interval_s", "gain", "offset", "depth_m", "cycle_s", "km", "least_s", "typical_s", "most_s"),
        *("standard", "reading", "after", "before", "span", "limit"),
    )
)
_PROSE = frozenset({"zh", "en", "note", "by", "model", "manufacturer", "lot"})
"""Read as they are written; other cells are stripped of spaces."""
_HEADER = tuple(dict.fromkeys((KIND, *(name for names in COLUMNS.values() for name in names))))


def read_book(
    text: str, catalogue: Catalogue, *, kind: str | None = None, known: Book | None = None, box: Box | None = None
) -> Book:
    """Read a table; ``kind`` is that of all its rows where it has no such column.

    Raises ConfigurationError listing every bad row, one a line, each with its line in the table.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip().lower() for name in next(reader, [])]
    if kind is None and KIND not in header:
        raise ConfigurationError(say("file.no_kind", known=", ".join(COLUMNS)))
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise ConfigurationError(say("file.column_twice", twice=twice[0]))
    rows: list[Row] = []
    faults: list[Text] = []
    counts: dict[str, int] = {}
    for line, cells in _records(reader):
        given = {n: cell if n in _PROSE else cell.strip() for n, cell in zip(header, cells, strict=False) if n}
        values = {name: cell for name, cell in given.items() if cell}
        if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            faults.append(at(f"line {line}", say("file.more_cells")))
        found = values.pop(KIND, kind) or ""
        if not values:
            continue
        if found not in COLUMNS:
            faults.append(at(f"line {line}", say("file.row_kind", kind=found, known=", ".join(COLUMNS))))
            continue
        counts[found] = counts.get(found, 0) + 1
        rows.append(Row(found, counts[found], line, {name: _entry(name, cell) for name, cell in values.items()}))
    return read_rows(rows, catalogue, known=known, box=box, faults=faults)


def write(book: Book) -> str:
    """The book as a table that :func:`read_book` reads again into the same."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    for kind, entries in rows_of(book):
        cells = {KIND: kind} | {name: _cell(value) for name, value in entries.items()}
        writer.writerow([cells.get(name, "") for name in _HEADER])
    return out.getvalue()


def _records(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line in which it begins, cells) of each record; a cell may hold line breaks."""
    before = reader.line_num
    try:
        for cells in reader:
            yield before + 1, cells
            before = reader.line_num
    except csv.Error as error:
        raise ConfigurationError(at(f"line {reader.line_num}", same(error))) from error


def _entry(name: str, cell: str) -> Any:
    """A cell as a TOML file would have it; what cannot be read stays text and is refused by the check of its row."""
    if name == "parameters":
        return cell.split()
    if name == "line":
        return [[_number(x) for x in point.replace(",", " ").split()] for point in cell.split(";") if point.strip()]
    if name == "void":
        return {"true": True, "false": False}.get(cell.lower(), cell)
    return _number(cell) if name in _NUMBERS else cell


def _number(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return rfc3339(to_ms(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        points = all(isinstance(one, list) for one in value)
        if points and isinstance(value[0][0], list):
            return json.dumps(value)
        return "; ".join(" ".join(map(repr, one)) for one in value) if points else " ".join(value)
    return value if isinstance(value, str) else repr(value)
