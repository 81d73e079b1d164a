"""The water as its sensors see it, handed out in the order of time, made a stretch ahead."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from sensors.reading import Floats, Ints
from sensors.stations import Station
from sensors.wire.telemetry import Sample

Stretch = Callable[[int, int], Iterable[tuple[str, Sample]]]
"""(from, to) in ms → (station, sample in canonical units) with ``from`` ≤ time < ``to``; oldest first."""


class Ahead:
    """A :class:`simulator.play.Source` of stretches: made ``stretch_ms`` at a time, because arrays are made at once."""

    def __init__(self, make: Stretch, start_ms: int, end_ms: int | None = None, *, stretch_ms: int = 3_600_000) -> None:
        self._make = make
        self._made_ms = start_ms
        self._end_ms = end_ms
        self._stretch_ms = stretch_ms
        self._ready: list[tuple[str, Sample]] = []
        self._next = 0

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """What comes before ``to_ms``."""
        while True:
            while self._next < len(self._ready) and self._ready[self._next][1].at_ms < to_ms:
                self._next += 1
                yield self._ready[self._next - 1]
            if self._next < len(self._ready) or self._made_ms >= to_ms:
                return
            if self._end_ms is not None and self._made_ms >= self._end_ms:
                return
            end_ms = self._made_ms + self._stretch_ms
            end_ms = end_ms if self._end_ms is None else min(end_ms, self._end_ms)
            self._ready, self._next = list(self._make(self._made_ms, end_ms)), 0
            self._made_ms = end_ms


def at_intervals(
    stations: Sequence[Station],
    start_ms: int,
    series: Callable[[Station, Ints], Mapping[str, Floats]],
    step_s: int | None = None,
) -> Stretch:
    """Stretches of stations that measure every ``step_s`` (None: each at its own interval), from ``start_ms`` on.

    ``series`` gives a station's values at instants (n,) in canonical units, NaN where there is none.
    """

    def make(from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        found: list[tuple[str, Sample]] = []
        for station in stations:
            step_ms = 1000 * (step_s or station.interval_s)
            first = -(-(from_ms - start_ms) // step_ms)
            at_ms = np.arange(start_ms + first * step_ms, to_ms, step_ms, dtype=np.int64)
            if len(at_ms):
                found += [(station.key, sample) for sample in samples(at_ms, series(station, at_ms))]
        found.sort(key=lambda of: of[1].at_ms)  # stable: stations of one instant stay in their order
        return found

    return make


def samples(at_ms: Ints, values: Mapping[str, Floats]) -> Iterator[Sample]:
    """(n,) columns as samples; a missing value (NaN) is left out, an instant without any too."""
    columns = [column.tolist() for column in values.values()]
    for at, row in zip(at_ms.tolist(), zip(*columns, strict=True), strict=True):
        present = {key: value for key, value in zip(values, row, strict=True) if not math.isnan(value)}
        if present:
            yield Sample(at, present)
