"""A list of a page as a file, CSV or Excel, in the reader's language. What is taken out is an entry of the trail."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Response

from api import export_log
from api.assessment import XLSX
from api.pages.view import HEADERS, View
from infra.times import beijing

Cell = str | int | float | None
MOST_ROWS = 10_000
"""Rows of one file, the first of the list."""
FORMATS: Mapping[str, str] = {"csv": "text/csv; charset=utf-8", "xlsx": XLSX}
WIDEST = 60
"""Letters of a column of a sheet; what is longer is read in its cell."""
_OF_THE_PAGE = frozenset({"lang", "theme", "done", "ids", "page", "before", "rows"})
"""What an address says that narrows nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a list: ``what`` they are, as the entry of the trail names them (`export.WHAT`)."""

    what: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def answer(v: View, given: Mapping[str, str], table: Table) -> Response:
    """The file in the format that the form asks for, CSV where it asks for none; and the entry of it."""
    kind = given.get("format", "")
    kind = kind if kind in FORMATS else "csv"
    data = _sheet(table) if kind == "xlsx" else _csv(table)
    asked = {name: value for name, value in v.query.items() if name not in _OF_THE_PAGE}
    body = {"format": kind, "entries": len(table.rows), "filter": asked}
    who = v.actor
    export_log.note(v.context.database, table.what, table.what, data, body, by=who.name, role=who.role, at_ms=v.now_ms)
    name = f"{table.what}-{beijing(v.now_ms, '%Y%m%d-%H%M')}.{kind}"
    return Response(
        data, media_type=FORMATS[kind], headers=HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}
    )


def instant(at_ms: int | None) -> str:
    """Beijing time as a spreadsheet reads it; "" for None."""
    return "" if at_ms is None else beijing(at_ms, "%Y-%m-%d %H:%M:%S")


def _csv(table: Table) -> bytes:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\r\n")
    lines.writerow(table.head)
    lines.writerows([_plain(cell) for cell in row] for row in table.rows)
    return out.getvalue().encode("utf-8-sig")


def _plain(cell: Cell) -> Cell:
    """A cell of a CSV file: text that a spreadsheet would read as a formula is written as text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _sheet(table: Table) -> bytes:
    import xlsxwriter  # slow to import

    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    page, bold = book.add_worksheet(), book.add_format({"bold": True, "bg_color": "#dfeceb"})
    for column, name in enumerate(table.head):
        cells = [row[column] for row in table.rows]
        page.write_string(0, column, name, bold)
        for number, cell in enumerate(cells, 1):
            if isinstance(cell, str):
                page.write_string(number, column, cell)
            elif cell is not None:
                page.write_number(number, column, cell)
        longest = max((len(str(cell)) for cell in cells if cell is not None), default=0)
        page.set_column(column, column, min(WIDEST, 3 + max(longest, 2 * len(name))))
    page.freeze_panes(1, 0)
    page.autofilter(0, 0, len(table.rows), len(table.head) - 1)
    book.close()
    return out.getvalue()
