"""Samples of a scenario in the order of time, computed a stretch ahead."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from sensors.reading import Ints
from sensors.stations import Registry
from sensors.wire.telemetry import Sample
from simulator import truth
from simulator.devices.sensor_faults import Instruments, Measured
from simulator.physics.water import Water
from simulator.scenario import Scenario

Stretch = Callable[[int, int], Iterable[tuple[str, Sample]]]
"""(from, to) in ms → (station, sample in canonical units) with ``from`` ≤ time < ``to``; oldest first."""


class BufferedSource:
    """A :class:`simulator.play.Source` of stretches, a context manager.

    Arrays are made ``stretch_ms`` at a time, and the next stretch by a thread while this one is handed out: thousands
    of stations take seconds to be made, and a live run has none to spare. Nobody else may touch the water until it is
    closed.
    """

    def __init__(self, make: Stretch, start_ms: int, end_ms: int | None = None, *, stretch_ms: int = 3_600_000) -> None:
        self._make = make
        self._end_ms = end_ms
        self._stretch_ms = stretch_ms
        self._made_ms = start_ms
        self._stretch_samples: list[tuple[str, Sample]] = []
        self._next = 0
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="water")
        self._next_stretch: Future[list[tuple[str, Sample]]] | None = None
        self._request_next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the stretch that is being made, and make no more."""
        self._maker.shutdown(cancel_futures=True)

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """Samples before ``to_ms``; waits until they are computed, and raises errors of computing them."""
        while True:
            while self._next < len(self._stretch_samples) and self._stretch_samples[self._next][1].at_ms < to_ms:
                self._next += 1
                yield self._stretch_samples[self._next - 1]
            if self._next < len(self._stretch_samples) or self._made_ms >= to_ms or self._next_stretch is None:
                return
            self._stretch_samples, self._next = self._next_stretch.result(), 0
            self._made_ms = self._until()
            self._request_next()

    def _until(self) -> int:
        until_ms = self._made_ms + self._stretch_ms
        return until_ms if self._end_ms is None else min(until_ms, self._end_ms)

    def _request_next(self) -> None:
        """Have the next stretch made; none when all is made."""
        over = self._end_ms is not None and self._made_ms >= self._end_ms
        self._next_stretch = None if over else self._maker.submit(self._stretch, self._made_ms, self._until())

    def _stretch(self, from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        return list(self._make(from_ms, to_ms))


def measured(registry: Registry, scenario: Scenario, world: Water, instruments: Instruments) -> Stretch:
    """Stretches of what the stations of a scenario measure, the very numbers of its table; at the true times."""

    def make(from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        found: list[tuple[str, Sample]] = []
        for station in registry.stations:
            at_ms, step_ms = truth.instants(scenario, station)
            at_ms = at_ms[np.searchsorted(at_ms, from_ms) : np.searchsorted(at_ms, to_ms)]
            if len(at_ms):
                readings = instruments.read(station, at_ms, step_ms, device_time=False)
                found += [(station.key, sample) for sample in samples(at_ms, readings)]
        found.sort(key=lambda of: of[1].at_ms)  # stable: stations of one instant stay in their order
        return found

    return make


def samples(at_ms: Ints, readings: Mapping[str, Measured]) -> Iterator[Sample]:
    """Values at (n,) instants as samples; missing values are left out, and instants without any."""
    columns = [(key, of.value.tolist(), of.status) for key, of in readings.items()]
    for i, at in enumerate(at_ms.tolist()):
        values = {key: value[i] for key, value, _ in columns if not math.isnan(value[i])}
        if values:
            status = {key: flags[i] for key, _, flags in columns if key in values and flags[i] != "N"}
            yield Sample(at, values, status)
