"""Read and write the registry file (``config/stations.toml``).

Pure: text in, :class:`~sensors.registry_rows.Book` out, and back.
"""

import re
import tomllib

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import at, say
from sensors.datum import Box
from sensors.parameters import Catalogue
from sensors.registry_rows import COLUMNS, Book, Row, read_rows, rows_of
from sensors.stations import Registry

_HEADER = re.compile(r"\s*\[\[\s*\"?(\w+)\"?\s*\]\]")


def read(text: str, catalogue: Catalogue) -> Registry:
    """Read the registry of a file (:func:`read_book`)."""
    return read_book(text, catalogue).registry


def read_book(text: str, catalogue: Catalogue, *, known: Book | None = None, box: Box | None = None) -> Book:
    """What ``text`` (TOML with ``[[station]]``, ``[[deployment]]`` …, and ``box`` on top) describes.

    ``known`` is what it will join; places must lie in ``box`` and in the file's own one. Raises
    ConfigurationError listing every bad row, one a line, each with its line, kind, number and key.
    """
    try:
        document = toml_text.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(say("file.station_toml", exc=exc)) from exc
    sides = document.pop("box", None)
    if box is None and sides is not None:
        box = Box.of(sides if isinstance(sides, list) else [sides])
    kinds = [f"[[{kind}]]" for kind in COLUMNS]
    faults = [
        at(unknown, say("registry.unknown_table", known=", ".join(kinds)))
        for unknown in sorted(set(document) - set(COLUMNS))
    ]
    rows: list[Row] = []
    for kind in COLUMNS:
        found = document.get(kind, [])
        if not isinstance(found, list):
            faults.append(at(kind, say("registry.two_brackets", kind=kind)))
            continue
        lines = _lines(text, kind)
        for number, values in enumerate(found, 1):
            line = lines[number - 1] if len(lines) == len(found) else None
            if isinstance(values, dict):
                rows.append(Row(kind, number, line, values))
            else:
                faults.append(at(f"{kind} {number}", say("registry.no_table", values=values)))
    return read_rows(rows, catalogue, known=known, box=box, faults=faults)


def write(book: Book) -> str:
    """The book as a file that :func:`read_book` reads again into the same."""
    parts = []
    for kind, entries in rows_of(book):
        parts.append("\n".join([f"[[{kind}]]", *toml_text.assignments(entries)]) + "\n")
    return "\n".join(parts)


def _lines(text: str, kind: str) -> list[int]:
    """The lines in which a row of a kind begins."""
    return [n for n, line in enumerate(text.split("\n"), 1) if (m := _HEADER.match(line)) and m[1] == kind]
