"""A series as JSON points, CSV or Arrow; the latter two are written piece by piece: a year of minutes is never held."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import nanoarrow as na
import numpy as np
from nanoarrow.ipc import StreamWriter

from ingest.storage.port import ReadingStore, Series
from sensors.parameters import Parameter
from sensors.reading import Flag, Floats, Ints, Places, QualityTest, unpack

ROWS = 10_000
"""Readings held at a time while a series is sent: about 1 MB with all that is made of them."""


@dataclass(frozen=True, slots=True)
class Point:
    """One reading as it was measured, with its flag and the quality tests that raised it."""

    at: str
    value: float | None
    flag: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """All readings from ``at`` on, for the length of a bucket.

    ``value`` is the mean and ``min`` and ``max`` the extremes of the usable ones, ``count`` how many those are (null
    where there are none); ``flag`` is the worst flag, ``tests`` are all tests that failed.
    """

    at: str
    value: float | None
    flag: str
    tests: tuple[str, ...]
    min: float | None
    max: float | None
    count: int


def pieces(
    store: ReadingStore, station: str, parameter: str, start_ms: int, end_ms: int, rows: int = ROWS
) -> Iterator[Series]:
    """All readings with start <= observed_at < end, oldest first, at most ``rows`` at a time; at least one piece.

    The first piece is read at once, so that a store that cannot answer is known before anything is sent. Between two
    pieces nothing is held in the store; what is written meanwhile is seen from where the reader stands.
    """
    first = store.raw(station, parameter, start_ms, end_ms, rows)
    return chain([first], _rest(store, station, parameter, first, end_ms, rows))


def _rest(store: ReadingStore, station: str, parameter: str, piece: Series, end_ms: int, rows: int) -> Iterator[Series]:
    while len(piece.at) == rows:
        piece = store.raw(station, parameter, int(piece.at[-1]) + 1, end_ms, rows)
        if len(piece.at):
            yield piece


def points(series: Series) -> list[Point] | list[Bucket]:
    """The rows of a series as the JSON answer lists them."""
    names, which = _verdicts(series.packed)
    verdicts = [names[i] for i in which.tolist()]
    rows = zip(_instants(series.at, _precision(series.at)), series.value.tolist(), verdicts, strict=True)
    if series.bucket_ms is None:
        return [Point(at, value, flag, tests) for at, value, (flag, tests) in rows]
    spread = zip(series.low.tolist(), series.high.tolist(), series.count.tolist(), strict=True)
    return [
        Bucket(at, value, flag, tests, low, high, count)
        for (at, value, (flag, tests)), (low, high, count) in zip(rows, spread, strict=True)
    ]


def csv_of(what: Parameter, found: Iterable[Series]) -> Iterator[bytes]:
    """A table, header first; tests are separated by spaces, and what is null in JSON is empty.

    Times carry milliseconds from the first piece on that has any.
    """
    precision: Literal["ms", "s"] = "s"
    header = True
    for series in found:
        thinned = series.bucket_ms is not None
        text = io.StringIO()
        table = csv.writer(text)
        if header:
            table.writerow(["at", "value", "unit", "flag", "tests", *(["min", "max", "count"] if thinned else [])])
            header = False
        precision = "ms" if precision == "ms" else _precision(series.at)
        names, which = _verdicts(series.packed)
        cells = [(what.unit, flag, " ".join(tests)) for flag, tests in names]
        columns: list[Iterable[Any]] = [_instants(series.at, precision), map(_cell, series.value.tolist())]
        rows = ((at, value, *cells[i]) for at, value, i in zip(*columns, which.tolist(), strict=True))
        if thinned:
            low, high = map(_cell, series.low.tolist()), map(_cell, series.high.tolist())
            spread = zip(low, high, series.count.tolist(), strict=True)
            table.writerows((*row, *more) for row, more in zip(rows, spread, strict=True))
        else:
            table.writerows(rows)
        yield text.getvalue().encode()


def arrow_of(station: str, what: Parameter, found: Iterable[Series]) -> Iterator[bytes]:
    """An Arrow stream, one record batch a piece, its schema naming the station, the parameter and the unit."""
    sink = _Sink()
    with StreamWriter.from_writable(sink) as stream:
        for series in found:
            stream.write_array(_record_batch(station, what, series))
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Where Arrow writes to; what has been written is taken out and sent."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._written.append(piece)
        return len(piece)

    def take(self) -> bytes:
        written, self._written = self._written, []
        return b"".join(written)


def _record_batch(station: str, what: Parameter, series: Series) -> Any:
    names, which = _verdicts(series.packed)
    flags = [names[i][0] for i in which.tolist()]
    tests = [names[i][1] for i in which.tolist()]
    columns = {
        "at": _column(na.timestamp("ms", "UTC"), series.at),
        "value": _nullable(series.value),
        "flag": na.c_array(flags, na.string()),
        "tests": _lists(tests),
    }
    if series.bucket_ms is not None:
        columns["min"] = _nullable(series.low)
        columns["max"] = _nullable(series.high)
        columns["count"] = _column(na.int64(), series.count)
    bucket_ms = "" if series.bucket_ms is None else str(series.bucket_ms)
    named = {"station": station, "parameter": what.key, "unit": what.unit, "bucket_ms": bucket_ms}
    row = na.struct({name: column.schema for name, column in columns.items()})
    schema = na.c_schema(row).modify(metadata=named)
    return na.c_array_from_buffers(schema, len(series.at), [None], children=columns.values())


def _column(kind: na.Schema, data: Ints) -> Any:
    return na.c_array_from_buffers(kind, len(data), [None, np.ascontiguousarray(data, np.int64)])


def _nullable(data: Floats) -> Any:
    """Numbers, null where they are NaN."""
    present = np.packbits(~np.isnan(data), bitorder="little")
    return na.c_array_from_buffers(na.float64(), len(data), [present, np.ascontiguousarray(data, np.float64)])


def _lists(texts: Sequence[Sequence[str]]) -> Any:
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    all_texts = na.c_array(chain.from_iterable(texts), na.string())
    return na.c_array_from_buffers(na.list_(na.string()), len(texts), [None, ends], children=[all_texts])


def flag_name(flag: int) -> str:
    """A flag as the API spells it."""
    return Flag(flag).name.lower()


def _verdicts(packed: Ints) -> tuple[list[tuple[str, tuple[str, ...]]], Places]:
    """The different verdicts (name of the flag, names of the tests that raised it), and (n,) which one each row has."""
    different, which = np.unique(packed, return_inverse=True)
    flags, tests = unpack(different)
    names = [
        (flag_name(flag), tuple(str(test.name).lower() for test in QualityTest if test & bits))
        for flag, bits in zip(flags.tolist(), tests.tolist(), strict=True)
    ]
    return names, which


def _precision(at: Ints) -> Literal["ms", "s"]:
    return "ms" if (at % 1000).any() else "s"


def _instants(at: Ints, precision: Literal["ms", "s"]) -> list[str]:
    """(n,) the instants as RFC 3339 text."""
    moments = np.datetime_as_string(at.astype("datetime64[ms]"), unit=precision, timezone="UTC")
    return [str(text) for text in moments.tolist()]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
