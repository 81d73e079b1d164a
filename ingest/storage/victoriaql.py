"""What VictoriaMetrics makes of line protocol, and its exports as tracks. Pure.

A field becomes a metric of its own, ``{measurement}_{field}``, the tags its labels. Every value is a number: an integer
and a boolean too; text would become 0.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from ingest.storage import lineprotocol
from ingest.storage.lineprotocol import FieldValue


@dataclass(frozen=True, slots=True)
class Track:
    """Stored values of one metric of one series of points, all (n,): ``at`` ms UTC, in any order, times repeated."""

    name: str
    tags: Mapping[str, str]
    at: list[int]
    value: list[float]


class _Export(msgspec.Struct):
    metric: dict[str, str]
    values: list[float | None]
    timestamps: list[int]


_T = TypeVar("_T")


def selector(
    measurement: str,
    fields: Iterable[str],
    tags: Mapping[str, str],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Picks these fields of a measurement, in series with these tags (and perhaps others), or one value of a choice."""
    names = "|".join(re.escape(field) for field in fields)
    conditions = [f"__name__=~{_quoted(f'{re.escape(measurement)}_({names})')}"]
    conditions += [f"{key}={_quoted(value)}" for key, value in tags.items()]
    for key, values in (choices or {}).items():
        conditions.append(f"{key}=~{_quoted('|'.join(map(re.escape, values)))}")
    return "{" + ",".join(conditions) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def track(line: bytes) -> Track:
    """One line of an export; a series may have several. Raises ValueError when it is none."""
    read = _decoded(line, _Export)
    values = [math.nan if value is None else value for value in read.values]
    tags = {key: value for key, value in read.metric.items() if key != "__name__"}
    return Track(read.metric.get("__name__", ""), tags, read.timestamps, values)


class _Series(msgspec.Struct):
    data: list[dict[str, str]]


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Samples(msgspec.Struct):
    result: list[_Sample]


class _Vector(msgspec.Struct):
    data: _Samples


def series(answer: bytes) -> list[dict[str, str]]:
    """The labels in an answer of ``/api/v1/series``. Raises ValueError when it is none."""
    return _decoded(answer, _Series).data


def vector(answer: bytes) -> list[tuple[dict[str, str], float]]:
    """Labels and values in an answer of ``/api/v1/query``. Raises ValueError when it is none."""
    return [(sample.metric, float(sample.value[1])) for sample in _decoded(answer, _Vector).data.result]


def _decoded(answer: bytes, type_: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=type_)
    except msgspec.DecodeError as error:
        raise ValueError(f"the answer is not one of VictoriaMetrics: {error}") from error


def storable(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Points as VictoriaMetrics can hold them: without text, and no two of the same time.

    Of two values it gets in one request it keeps any; so the later one is laid over the earlier one here. A line that
    cannot be read is passed on.
    """
    together: dict[tuple[bytes, bytes], list[bytes]] = {}
    for line in lines:
        together.setdefault(_series_and_time(line), []).append(line)
    for group in together.values():
        if len(group) == 1 and b'"' not in group[0]:
            yield group[0]
        else:
            yield from _laid_over(group)


def _series_and_time(line: bytes) -> tuple[bytes, bytes]:
    """Equal for two lines of one series and time; may differ for such lines where a name is escaped."""
    if b"\\" in line:
        return line, b""
    head, _, rest = line.partition(b" ")
    return head, rest.rpartition(b" ")[2]


def _laid_over(lines: Sequence[bytes]) -> Iterator[bytes]:
    try:
        points = [lineprotocol.parse(line) for line in lines]
    except ValueError:
        yield from lines
        return
    fields: dict[str, FieldValue] = {}
    for point in points:
        fields |= {key: value for key, value in point.fields.items() if not isinstance(value, str)}
    last = points[-1]
    if fields and last.at is not None:
        yield lineprotocol.point(last.measurement, last.tags, fields, last.at)
