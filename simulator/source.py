"""The reports of a water, handed out in the order of time and made a stretch ahead."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from sensors.wire.telemetry import Sample


class Source(Protocol):
    """The water as its sensors see it (:class:`simulator.reports.Reports`)."""

    def advance(self, to_ms: int) -> Iterable[tuple[str, Sample]]:
        """(station, sample in canonical units) since the last call and before ``to_ms``; each station's in order."""


class Ahead:
    """Asks another source ``stretch_ms`` at a time: arrays are made at once, and a live run asks 20 times a second."""

    def __init__(
        self, source: Source, start_ms: int, end_ms: int | None = None, *, stretch_ms: int = 3_600_000
    ) -> None:
        self._source = source
        self._made_ms = start_ms
        self._end_ms = end_ms
        self._stretch_ms = stretch_ms
        self._ready: list[tuple[str, Sample]] = []
        self._next = 0

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """What comes before ``to_ms``, oldest first."""
        while True:
            while self._next < len(self._ready) and self._ready[self._next][1].at_ms < to_ms:
                self._next += 1
                yield self._ready[self._next - 1]
            over = self._end_ms is not None and self._made_ms >= self._end_ms
            if self._next < len(self._ready) or self._made_ms >= to_ms or over:
                return
            self._made_ms += self._stretch_ms
            if self._end_ms is not None:
                self._made_ms = min(self._made_ms, self._end_ms)
            self._ready, self._next = list(self._source.advance(self._made_ms)), 0
