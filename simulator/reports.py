"""What stations report, in event time: the same readings that stand in the table of a run, as samples to be sent."""

from collections.abc import Iterator
from heapq import merge

import numpy as np

from sensors.parameters import Catalogue
from sensors.reading import Ints
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Sample
from simulator.faults import Instruments, Measured
from simulator.scenario import Scenario
from simulator.world import World

_PIECE_MS = 6 * 3_600_000
_KEPT_MS = 36 * 3_600_000
"""A fouled sensor looks back a day; what is older nobody asks for once it was sent."""


class Reports:
    """The stations of a scenario on their way through time; :meth:`advance` never goes back.

    ``step_s`` replaces the spacing that the scenario or the station says. With ``forget`` the water keeps the latest
    day and a half only: a live run may last for months.
    """

    def __init__(
        self,
        registry: Registry,
        scenario: Scenario,
        *,
        seed: int,
        known: Catalogue,
        step_s: float | None = None,
        forget: bool = False,
        world: World | None = None,
    ) -> None:
        self.registry, self.scenario = registry, scenario
        self.world = world or World(registry, scenario, seed=seed)
        self.instruments = Instruments(registry, scenario, self.world, seed=seed, known=known)
        self._step_ms = None if step_s is None else round(step_s * 1000)
        self._forget = forget
        self.now_ms = scenario.start_ms

    def step_ms(self, station: Station) -> int:
        """Between two readings of a station."""
        return self._step_ms or 1000 * (self.scenario.step_s or station.interval_s)

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """(station, sample in canonical units) since the last call and before ``to_ms``, all stations by time."""
        while self.now_ms < to_ms:
            end_ms = min(self.now_ms + _PIECE_MS, to_ms)
            begin_ms, self.now_ms = self.now_ms, end_ms
            self.world.advance(end_ms)
            yield from merge(
                *(self._samples(s, begin_ms, end_ms) for s in self.registry.stations), key=lambda found: found[1].at_ms
            )
            if self._forget:
                self.world.forget(end_ms - _KEPT_MS)

    def _samples(self, station: Station, begin_ms: int, end_ms: int) -> Iterator[tuple[str, Sample]]:
        step_ms = self.step_ms(station)
        at_ms = np.arange(-(-begin_ms // step_ms) * step_ms, end_ms, step_ms, dtype=np.int64)
        if len(at_ms):
            for sample in samples(at_ms, self.instruments.read(station, at_ms, step_ms)):
                yield station.key, sample


def samples(at_ms: Ints, said: dict[str, Measured]) -> Iterator[Sample]:
    """A sample for each instant at which anything was said; the status of what is normal is left out."""
    values = {p: m.value.tolist() for p, m in said.items()}
    for i, at in enumerate(at_ms.tolist()):
        row = {p: column[i] for p, column in values.items() if column[i] == column[i]}
        if row:
            yield Sample(at, row, {p: said[p].status[i] for p in row if said[p].status[i] != "N"})
