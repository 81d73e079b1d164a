"""Asking back for what a server said it took: which lines are not there, or are there differently. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.storage.lineprotocol import FieldValue, parse

PAUSE_MS: Final = 3_600_000
"""Points further apart are asked for separately: a late reading must not drag a month of others along."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one series of points to ask for, both ends included."""

    measurement: str
    tags: Mapping[str, str]
    fields: tuple[str, ...]
    first_ms: int
    last_ms: int


Found = Mapping[tuple[int, str], object]
"""What a server has of a span: (time in ms, field) → value."""

Ask = Callable[[Sequence[Span]], Sequence[Found]]
_Series = tuple[str, tuple[tuple[str, str], ...]]
_Sent = dict[tuple[int, str], tuple[FieldValue, int]]
"""(time in ms, field) → the value sent last, and the number of the line that sent it."""


def lost(lines: Sequence[bytes], ask: Ask) -> list[bytes]:
    """The lines of which a field is missing or has another value on the server.

    What a later line overwrites is not held against an earlier one. A line that cannot be read, or that leaves its time
    to the server, counts as lost.
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
    wrong.update(_wrong(sent, ask))
    return [line for number, line in enumerate(lines) if number in wrong]


def _wrong(sent: Mapping[_Series, _Sent], ask: Ask) -> Iterator[int]:
    spans = [(series, span) for series, points in sent.items() for span in _spans(series, points)]
    stored: dict[_Series, dict[tuple[int, str], object]] = {}
    for (series, _), part in zip(spans, ask([span for _, span in spans]), strict=True):
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
        if at_ms - last > PAUSE_MS:
            yield Span(measurement, dict(tags), fields, first, last)
            first = at_ms
        last = at_ms
    yield Span(measurement, dict(tags), fields, first, last)
