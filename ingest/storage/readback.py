"""Verify that a server stored what it accepted: which lines are missing or differ. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.storage.lineprotocol import FieldValue, parse

MAX_SPACING_MS: Final = 3_600_000
"""Points further apart are queried separately, so that a late reading does not fetch a month of others."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of one series of points to query, both ends included."""

    measurement: str
    tags: Mapping[str, str]
    fields: tuple[str, ...]
    first_ms: int
    last_ms: int


Found = Mapping[tuple[int, str], object]
"""What a server holds of a span: (time in ms, field) → value."""

Query = Callable[[Sequence[Span]], Sequence[Found]]
_Series = tuple[str, tuple[tuple[str, str], ...]]
_Sent = dict[tuple[int, str], tuple[FieldValue, int]]
"""(time in ms, field) → the value sent last, and the number of the line that sent it."""


def lost_lines(lines: Sequence[bytes], query: Query) -> list[bytes]:
    """The lines of which a field is missing or has another value on the server.

    A value that a later line overwrites is not compared. A line that cannot be parsed or has no time counts as lost.
    """
    sent: dict[_Series, _Sent] = {}
    wrong: set[int] = set()
    for number, line in enumerate(lines):
        try:
            point = parse(line)
        except ValueError:
            wrong.add(number)
            continue
        if point.at is None:
            wrong.add(number)
            continue
        series = sent.setdefault((point.measurement, tuple(sorted(point.tags.items()))), {})
        series.update({(point.at, key): (value, number) for key, value in point.fields.items()})
    wrong.update(_wrong(sent, query))
    return [line for number, line in enumerate(lines) if number in wrong]


def _wrong(sent: Mapping[_Series, _Sent], query: Query) -> Iterator[int]:
    spans = [(series, span) for series, points in sent.items() for span in _spans(series, points)]
    stored: dict[_Series, dict[tuple[int, str], object]] = {}
    for (series, _), part in zip(spans, query([span for _, span in spans]), strict=True):
        stored.setdefault(series, {}).update(part)
    for series, points in sent.items():
        for place, (value, number) in points.items():
            if stored[series].get(place) != value:
                yield number


def _spans(series: _Series, points: _Sent) -> Iterator[Span]:
    measurement, tags = series
    times = sorted({at_ms for at_ms, _ in points})
    fields = tuple(sorted({key for _, key in points}))
    first = last = times[0]
    for at_ms in times:
        if at_ms - last > MAX_SPACING_MS:
            yield Span(measurement, dict(tags), fields, first, last)
            first = at_ms
        last = at_ms
    yield Span(measurement, dict(tags), fields, first, last)
