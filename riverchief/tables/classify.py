"""``riverchief classify``: add water class and deciding parameter to the rows of a table.

What decides is :mod:`sensors.standards.gb3838`; this module finds the columns, reads the cells and keeps the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from infra.errors import ConfigurationError
from infra.texts import Text, line, say
from riverchief.tables import formats
from riverchief.tables.formats import TableChunk, TableWriter
from sensors import table_columns
from sensors.parameters import Catalogue
from sensors.reading import Bools, Floats
from sensors.standards import gb3838
from sensors.standards.gb3838 import Judged, Oxygen, Water, WaterClass
from sensors.table_columns import Column

CLASS, DECIDING = "class", "deciding"

MISSING = ("", "-", "--", "—", "/", "*", "na", "n/a", "nan", "null", "none", "nd", "未检出", "缺测", "无数据")
"""Cells, small letters, that say there is no value. "Not detected" without a limit is one: it tells no class."""

MAX_REPORTED = 5
"""How many unreadable cells are named one by one."""

_BELOW_LIMIT = r"^[<＜]?\s*(\d+\.?\d*(?:[eE][-+]?\d+)?)\s*[lL]?$"
_NAMES = np.array(["", *(c.roman for c in WaterClass)], object)

ITEMS: Mapping[str, Sequence[str] | None] = {"table": None, "national": gb3838.NATIONAL, "real-time": gb3838.REAL_TIME}
"""Named sets of what is judged: all of table 1, the ministry's 21 items, the five of automatic stations."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to judge; see :func:`sensors.standards.gb3838.classes`. ``strict``: an unreadable cell is an error."""

    water: Water = Water.RIVER
    items: Sequence[str] | None = None
    oxygen_by: Oxygen = Oxygen.MG_L
    rounded: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A cell of a parameter column that is no number: its place and text."""

    line: int
    column: str
    text: str


@dataclass
class Summary:
    """What was done with a table: rows by class, the columns used, and what could not be."""

    file: str
    water_body: str
    rows: int = 0
    classes: dict[str, int] = field(default_factory=lambda: {c.roman: 0 for c in WaterClass} | {"": 0})
    judged_columns: dict[str, str] = field(default_factory=dict)
    not_judged_columns: dict[str, str] = field(default_factory=dict)
    second_columns: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    unreadable_first: list[Unreadable] = field(default_factory=list)


Progress = Callable[[float], None]
"""Told the share done, 0 to 1, after each piece."""


def items(text: str) -> Sequence[str] | None:
    """``table``, ``national``, ``real-time`` or keys with commas; raises ConfigurationError for an unknown one."""
    if text in ITEMS:
        return ITEMS[text]
    keys = [key.strip().lower() for key in text.split(",") if key.strip()]
    if strange := [key for key in keys if key not in gb3838.PARAMETERS]:
        raise ConfigurationError(say("table.no_class", strange=strange[0], known=", ".join(gb3838.PARAMETERS)))
    if not keys:
        raise ConfigurationError(say("table.items", text=text, known=", ".join(ITEMS)))
    return keys


def classify(
    source: Path, out: Path | IO[bytes], options: Options, catalogue: Catalogue, progress: Progress = lambda share: None
) -> Summary:
    """Write the table with ``class`` and ``deciding`` added to the file ``out``, or as CSV to a binary stream.

    ``class`` is I to V or >V, empty where nothing can be judged; ``deciding`` the keys in that class, with commas.
    Other columns are kept as they are; of an earlier run's two columns the new ones take the place.

    Raises ConfigurationError naming file, line and column for what cannot be read.
    """
    summary = Summary(source.name, options.water.value)
    with formats.reading(source) as table:
        copy = _kept(source, table.names)
        used = _used(source, [table.names[i] for i in copy], copy, options, catalogue, summary)
        names = [table.names[i] for i in copy] + [CLASS, DECIDING]
        with _opened(out, names, table.bom) as sink:
            for piece in table.pieces():
                sink.write(_judged(source, piece, copy, used, options, summary))
                progress(piece.done)
            if not summary.rows:
                sink.write(pl.DataFrame(schema={str(i): pl.String for i in range(len(names))}))
    return summary


def summary_lines(summary: Summary) -> Iterator[str]:
    """The summary for people: what was passed over, what could not be read, and how many rows are in which class."""
    for name, key in summary.second_columns.items():
        yield line("table.second_column", name=name, key=key)
    for cell in summary.unreadable_first:
        yield line("table.cell", source=summary.file, **asdict(cell))
    if summary.unreadable:
        yield line("table.unreadable", cells=summary.unreadable)
    found = [(name, count) for name, count in summary.classes.items() if count]
    none = say("table.no_class_found")
    counts = Text(
        *(", ".join(f"{name or lacking} {count:,}" for name, count in found) for lacking in (none.zh, none.en))
    )
    used = ", ".join(summary.judged_columns.values()) or "—"
    text = say("table.classified", rows=summary.rows, counts=counts, used=used)
    yield from (text.zh, text.en)


def _opened(out: Path | IO[bytes], names: list[str], bom: bool) -> AbstractContextManager[TableWriter]:
    if isinstance(out, Path):
        return formats.writing(out, names, bom=bom)

    @contextmanager
    def stream() -> Iterator[TableWriter]:
        sink = formats.CsvSink(out, names)
        yield sink
        out.flush()

    return stream()


def _kept(source: Path, names: Sequence[str]) -> list[int]:
    """Positions of the columns that stay: all but those of an earlier run."""
    ours = [name for name in names if name.strip().lower() in (CLASS, DECIDING)]
    spelled = {name.strip().lower() for name in ours}
    if len(spelled) == 1:
        raise ConfigurationError(say("table.column_taken", source=source, ours=ours[0]))
    return [i for i, name in enumerate(names) if name not in ours]


def _used(
    source: Path, names: Sequence[str], places: Sequence[int], options: Options, catalogue: Catalogue, summary: Summary
) -> dict[str, Column]:
    """Position in the piece → column, of what is judged (and of temperature and salinity for saturation)."""
    mapped = table_columns.find_columns(names, catalogue)
    if not mapped.columns:
        raise ConfigurationError(say("table.no_parameter", source=source, found=", ".join(names[:8])))
    wanted = gb3838.evaluated(options.water) if options.items is None else options.items
    needed = {key for key in wanted if gb3838.limits(key, options.water) is not None}
    summary.judged_columns = {c.name: c.parameter for c in mapped.columns if c.parameter in needed}
    summary.not_judged_columns = {c.name: c.parameter for c in mapped.columns if c.parameter not in needed}
    summary.second_columns = {c.name: c.parameter for c in mapped.doubled if c.parameter in needed}
    if options.oxygen_by is Oxygen.SATURATION:
        needed |= {"water_temp", "salinity"}
    return {str(places[names.index(c.name)]): c for c in mapped.columns if c.parameter in needed}


def _judged(
    source: Path, piece: TableChunk, copy: Sequence[int], used: Mapping[str, Column], options: Options, summary: Summary
) -> pl.DataFrame:
    """The piece with its classes; counts go to the summary."""
    values: dict[str, Floats] = {}
    below: dict[str, Bools] = {}
    for place, column in used.items():
        numbers, hidden, unreadable = _cells(piece.frame[place])
        _warn(source, piece, place, column, unreadable, options, summary)
        values[column.parameter] = column.canonical(numbers)
        below[column.parameter] = hidden
    rows = len(piece.frame)
    judged = gb3838.classes(
        values, options.water, below=below, items=options.items, oxygen_by=options.oxygen_by, rounded=options.rounded
    )
    found = judged.water_class if values else np.zeros(rows, np.int8)
    for code, count in enumerate(np.bincount(found, minlength=len(_NAMES))):
        summary.classes[_NAMES[code]] += int(count)
    summary.rows += rows
    return piece.frame.select([str(i) for i in copy]).with_columns(
        pl.Series(CLASS, _NAMES[found], pl.String).replace("", None),
        pl.Series(DECIDING, _deciding(judged, rows), pl.String).replace("", None),
    )


def _deciding(judged: Judged, rows: int) -> Any:
    """(rows,) texts: the few bit sets that occur are spelled once."""
    if not len(judged.deciding):
        return np.full(rows, "", object)
    sets, which = np.unique(judged.deciding, return_inverse=True)
    return np.array([",".join(gb3838.keys(int(one))) for one in sets], object)[which]


def _cells(cells: pl.Series) -> tuple[Floats, Bools, Any]:
    """Numbers (NaN where there is none; the limit where nothing was detected), which are limits, unreadable places."""
    if cells.dtype.is_numeric():
        return _numbers(cells), np.zeros(len(cells), np.bool_), np.zeros(0, np.intp)
    text = cells.cast(pl.String).str.strip_chars()
    numbers = text.cast(pl.Float64, strict=False)
    values, hidden = _numbers(numbers), np.zeros(len(cells), np.bool_)
    rest = (numbers.is_null() & text.is_not_null()).arg_true().to_numpy()
    if len(rest):
        words = text.gather(rest)
        limits = _numbers(words.str.extract(_BELOW_LIMIT).cast(pl.Float64, strict=False))
        detected = np.isfinite(limits) & (limits > 0)
        values[rest[detected]] = limits[detected]
        hidden[rest[detected]] = True
        missing = words.str.to_lowercase().is_in(MISSING).to_numpy()
        rest = rest[~detected & ~missing]
    return values, hidden, rest


def _numbers(cells: pl.Series) -> Floats:
    return np.array(cells.cast(pl.Float64).fill_null(float("nan")).to_numpy(), np.float64)


def _warn(
    source: Path, piece: TableChunk, place: str, column: Column, rows: Any, options: Options, summary: Summary
) -> None:
    """Name the first unreadable cells, count all; with ``strict`` the first one ends it."""
    summary.unreadable += len(rows)
    for row in rows[: MAX_REPORTED - len(summary.unreadable_first)]:
        cell = Unreadable(piece.line(int(row)), column.name, str(piece.frame[place][int(row)]))
        if options.strict:
            raise ConfigurationError(say("table.cell", source=source, **asdict(cell)))
        summary.unreadable_first.append(cell)
