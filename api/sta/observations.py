"""Readings as Observations, a page at a time: the next page begins after a key, so that memory does not grow."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from odata_query import ast

from api.requests import mark, place
from api.sta import filters
from api.sta.filters import Scope
from api.sta.model import FOREVER_MS, TIME, Entity, Kind, Stream
from api.sta.options import Options
from api.sta.refusals import limit, unsupported
from infra.texts import both, joined, say
from infra.times import rfc3339
from ingest.storage.port import ReadingStore
from sensors.reading import Flag, QualityTest

CHUNK = 5_000
"""Readings taken from the store at a time."""
MOST_EXAMINED = 200_000
"""Readings that one page may look at; a page that found less ends there and names the next."""
MOST_COUNTED = 1_000_000
MOST_MERGED = 200
"""Series that can be brought into one order of time."""
READ_COST = 50
"""What one reading of the store counts, however little it found."""

Mark = tuple[str, int]
"""A stream and a time: the last observation of a page."""


@dataclass(frozen=True, slots=True)
class Reading:
    stream: Stream
    at_ms: int
    value: float
    packed: int


@dataclass(frozen=True, slots=True)
class Page:
    """Observations, the mark of the next page if there may be one, and how many there are in all if asked."""

    entities: list[Entity]
    following: str | None
    count: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """A stream from ``start_ms`` to before ``end_ms``."""

    stream: Stream
    start_ms: int
    end_ms: int


@dataclass
class Examined(Exception):
    """A page has looked at as much as it may; ``at`` is where it stopped."""

    at: Mark


class Observations:
    """The observations of a store, as entities of a version."""

    def __init__(self, store: ReadingStore, kind: Kind, version: str) -> None:
        self._store = store
        self._kind = kind
        self._version = version
        self._verdicts: dict[int, dict[str, Any]] = {}
        self._left = MOST_EXAMINED

    def one(self, stream: Stream, at_ms: int) -> Entity | None:
        """The observation of a stream at an instant."""
        found = self._store.raw(stream.station.key, stream.parameter.key, at_ms, at_ms + 1, 1)
        if not len(found.at):
            return None
        return self.entity(Reading(stream, at_ms, float(found.value[0]), int(found.packed[0])))

    def page(self, streams: Sequence[Stream], options: Options, scope: Scope) -> Page:
        """A page of the observations of streams: by stream and time, or by time where ``$orderby`` says so."""
        by_time, descending = _order(options)
        spans, test = _narrowed(streams, options, scope)
        if by_time and len(spans) > MOST_MERGED:
            raise unsupported(f"$orderby=phenomenonTime: {len(spans)} > {MOST_MERGED} Datastreams")
        by_time = by_time and len(spans) > 1
        count = self._count(spans, test) if options.count else None
        found: list[Entity] = []
        after = place("observations", options.token, tuple[str, int])
        begun = _after(spans, after, by_time, descending)
        self._left = MOST_EXAMINED + options.skip
        skip, last = options.skip, after
        size = CHUNK if test is not None or skip else options.top + 1
        if by_time:
            size = max(10, min(size, 20 * CHUNK // len(spans)))
        try:
            for reading in self._readings(begun, by_time, descending, size):
                entity = self.entity(reading)
                if test is None or test(entity):
                    if skip:
                        skip -= 1
                    elif len(found) == options.top:
                        break
                    else:
                        found.append(entity)
                last = reading.stream.id, reading.at_ms
            else:
                return Page(found, None, count)
        except Examined as stopped:
            if skip:
                raise limit("$skip", options.skip - skip) from None
            last = last if by_time else stopped.at
        if options.top == 0 or last is None:
            return Page(found, None, count)
        return Page(found, mark("observations", list(last)), count)

    def _count(self, spans: list[Span], test: Callable[[Entity], bool] | None) -> int:
        most = MOST_EXAMINED if test is not None else MOST_COUNTED
        count = 0
        self._left = most + 1  # so that a chunk that is full is not yet too much
        try:
            if test is None:
                return sum(len(at) for span in spans for at, _, _ in self._chunks(span, False, 10_000))
            for reading in self._readings(spans, False, False, CHUNK):
                count += test(self.entity(reading))
        except Examined:
            raise limit("$count", most) from None
        return count

    def _readings(self, spans: list[Span], by_time: bool, descending: bool, size: int) -> Iterator[Reading]:
        each = (self._series(span, descending, size) for span in spans)
        if not by_time:
            for series in each:
                yield from series
            return
        sign = -1 if descending else 1
        yield from heapq.merge(*each, key=lambda one: (sign * one.at_ms, one.stream.id))

    def _series(self, span: Span, descending: bool, size: int) -> Iterator[Reading]:
        for at, value, packed in self._chunks(span, descending, size):
            rows = zip(at.tolist(), value.tolist(), packed.tolist(), strict=True)
            for one_at, one_value, one_packed in rows:
                yield Reading(span.stream, one_at, one_value, one_packed)

    def _chunks(self, span: Span, descending: bool, size: int) -> Iterator[tuple[Any, Any, Any]]:
        station, parameter = span.stream.station.key, span.stream.parameter.key
        start_ms, end_ms = span.start_ms, span.end_ms
        while start_ms < end_ms:
            if self._left <= 0:
                raise Examined((span.stream.id, end_ms if descending else start_ms - 1))
            if descending:
                window = self._store.before(station, parameter, end_ms, size)
                found = len(window)
                window = window.take(np.flatnonzero(window.at >= start_ms)[::-1])
                columns = window.at, window.value, window.packed
            else:
                series = self._store.raw(station, parameter, start_ms, end_ms, size)
                found = len(series.at)
                columns = series.at, series.value, series.packed
            self._left -= max(found, READ_COST)
            if len(columns[0]):
                yield columns
            if found < size or not len(columns[0]):
                return
            if descending:
                end_ms = int(columns[0][-1])
            else:
                start_ms = int(columns[0][-1]) + 1
            size = min(2 * size, CHUNK) if size < CHUNK else size

    def entity(self, reading: Reading) -> Entity:
        stream, at_ms = reading.stream, reading.at_ms
        quality = self._verdicts.get(reading.packed)
        if quality is None:
            quality = self._verdicts[reading.packed] = _quality(reading.packed)
        key = f"{stream.station.key}.{stream.parameter.key}.{rfc3339(at_ms)}"
        value = reading.value if np.isfinite(reading.value) else None
        row = {"id": key, "phenomenonTime": at_ms, "resultTime": at_ms, "result": value}
        row |= {"resultQuality": [quality]} if self._version == "1.1" else {"properties": {"quality": quality}}
        return Entity(self._kind, key, row, stream)


def _quality(packed: int) -> dict[str, Any]:
    tests = [str(test.name).lower() for test in QualityTest if test & packed >> 4]
    reason = both(joined([say(f"quality.{test}") for test in tests])) if tests else ""
    return {"flag": Flag(packed & 15).name.lower(), "tests": tests, "reason": reason}


def _order(options: Options) -> tuple[bool, bool]:
    """Whether the order is that of time, and whether the newest comes first."""
    if not options.order:
        return False, False
    first, *rest = options.order
    times, keys = ("phenomenonTime", "resultTime", "phenomenonTime/start"), ("id", "@iot.id")
    if first.text not in times + keys or any(one.text not in times + keys for one in rest):
        raise unsupported(f"$orderby={first.text}: Observations")
    if first.text in keys and first.descending:
        raise unsupported(f"$orderby={first.text} desc: Observations")
    return first.text in times, first.descending


def _narrowed(
    streams: Sequence[Stream], options: Options, scope: Scope
) -> tuple[list[Span], Callable[[Entity], bool] | None]:
    """The spans that a filter leaves of streams, and what remains to be tested; times and ids need no reading."""
    start_ms, end_ms, rest = 0, FOREVER_MS, []
    for part in filters.conjuncts(options.filter) if options.filter is not None else ():
        bounds = _bounds(part, scope)
        if bounds is not None:
            start_ms, end_ms = max(start_ms, bounds[0]), min(end_ms, bounds[1])
        else:
            rest.append(part)
    tests = [filters.test_of(part, scope) for part in rest]
    wanted = {stream_id for part in rest if (stream_id := _stream_id(part)) is not None}
    spans = [
        Span(s, max(start_ms, s.start_ms), min(end_ms, s.end_ms))
        for s in sorted(streams, key=lambda s: s.id)
        if wanted <= {s.id}
    ]
    spans = [span for span in spans if span.start_ms < span.end_ms]
    return spans, (lambda entity: all(test(entity) for test in tests)) if tests else None


def _bounds(part: ast._Node, scope: Scope) -> tuple[int, int] | None:
    """The time span that a comparison of the time with a constant leaves."""
    if not isinstance(part, ast.Compare) or not isinstance(part.left, ast.Identifier):
        return None
    if part.left.full_name() not in ("phenomenonTime", "resultTime"):
        return None
    right = filters.compiled(part.right, scope) if not isinstance(part.right, ast.List) else None
    at_ms = right.value(_NOBODY) if right is not None and right.constant and right.type == TIME else None
    if at_ms is None:
        return None
    at_ms = min(max(at_ms, 0), FOREVER_MS - 1)
    spans = {
        ast.Eq: (at_ms, at_ms + 1),
        ast.Lt: (0, at_ms),
        ast.LtE: (0, at_ms + 1),
        ast.Gt: (at_ms + 1, FOREVER_MS),
        ast.GtE: (at_ms, FOREVER_MS),
    }
    return spans.get(type(part.comparator))


_NOBODY = Entity(Kind("", {}), "", {}, None)


def _stream_id(part: ast._Node) -> str | None:
    """The id of the Datastream that a comparison asks for."""
    if not isinstance(part, ast.Compare) or not isinstance(part.comparator, ast.Eq):
        return None
    named = part.left == ast.Attribute(ast.Identifier("Datastream"), "id")
    return part.right.val if named and isinstance(part.right, ast.String) else None


def _after(spans: list[Span], after: Mark | None, by_time: bool, descending: bool) -> list[Span]:
    """What is left of spans after a mark, in the order of the page."""
    if after is None:
        return spans
    key, at_ms = after
    if not by_time:
        left = [span for span in spans if span.stream.id >= key]
        return [_later(s, at_ms + (not descending), descending) if s.stream.id == key else s for s in left]
    cut = {span.stream.id: at_ms + int((span.stream.id > key) == descending) for span in spans}
    return [_later(span, cut[span.stream.id], descending) for span in spans]


def _later(span: Span, at_ms: int, descending: bool) -> Span:
    if descending:
        return replace(span, end_ms=min(span.end_ms, at_ms))
    return replace(span, start_ms=max(span.start_ms, at_ms))
