"""InfluxQL: quoting of names and values, and answers as tables. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

Cell = float | str | bool | None

EARLIEST_MS: Final = -9_223_372_036_854
LATEST_MS: Final = 9_223_372_036_854


@dataclass(frozen=True, slots=True)
class Table:
    """One series of an answer; the first column is the time in ms, the tags are those of GROUP BY."""

    name: str
    tags: Mapping[str, str]
    columns: tuple[str, ...]
    rows: list[list[Cell]]


def identifier(name: str) -> str:
    """Quote a measurement, tag or field. Raises ValueError for a control character."""
    return f'"{_escaped(name, chr(34))}"'


def text(value: str) -> str:
    """Quote a string. Raises ValueError for a control character."""
    return f"'{_escaped(value, chr(39))}'"


def _escaped(value: str, quote: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{value!r} has a control character, which InfluxQL cannot name")
    return value.replace("\\", "\\\\").replace(quote, f"\\{quote}")


def between(first_ms: int, last_ms: int) -> str:
    """The condition first <= time <= last, clipped to the times that a server can hold."""
    first, last = (min(max(ms, EARLIEST_MS), LATEST_MS) for ms in (first_ms, last_ms))
    return f"time >= {first}ms AND time <= {last}ms"


# -- answers ---------------------------------------------------------------------------------------------------------


class _Series(msgspec.Struct):
    name: str = ""
    tags: dict[str, str] = {}
    columns: list[str] = []
    values: list[list[Cell]] = []


class _Result(msgspec.Struct):
    statement_id: int = 0
    series: list[_Series] = []
    error: str | None = None


class _Document(msgspec.Struct):
    results: list[_Result] = []
    error: str | None = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_MINUS_ZERO: Final = re.compile(rb"(?<=[\[,])-0(?=[\],])")


class QueryRefused(ValueError):
    """The server refused the query; the text is the server's."""


def tables(documents: Iterable[bytes]) -> list[list[Table]]:
    """The tables of each statement of a chunked answer, pieces of one series joined.

    Raises QueryRefused where the server reports an error, ValueError for an unreadable answer.
    """
    found: list[dict[tuple[object, ...], Table]] = []
    for document in documents:
        if not document.strip():
            continue
        if b",-0" in document:  # JSON decoding reads -0 as the integer 0
            document = _MINUS_ZERO.sub(b"-0.0", document)  # noqa: PLW2901
        try:
            answer = _DOCUMENT.decode(document)
        except msgspec.DecodeError as error:
            raise ValueError(f"the answer is not one of InfluxQL: {error}") from error
        if answer.error is not None:
            raise QueryRefused(answer.error)
        for result in answer.results:
            if result.error is not None:
                raise QueryRefused(result.error)
            found += [{} for _ in range(result.statement_id + 1 - len(found))]
            for series in result.series:
                key = (series.name, *sorted(series.tags.items()))
                if key in found[result.statement_id]:
                    found[result.statement_id][key].rows.extend(series.values)
                else:
                    table = Table(series.name, series.tags, tuple(series.columns), series.values)
                    found[result.statement_id][key] = table
    return [list(by_series.values()) for by_series in found]
