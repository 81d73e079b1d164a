"""The water of a scenario: the network of a site's reaches, or a light model for thousands of made-up stations."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sensors.reading import Floats, Ints
from sensors.stations import Registry
from simulator.physics.light import Light
from simulator.physics.world import STEP_S, World
from simulator.scenario import Event, Scenario


class Water(Protocol):
    """What carries the content of the water through time; :meth:`advance` never goes back."""

    @property
    def now_ms(self) -> int: ...

    @property
    def events(self) -> Sequence[Event]: ...

    @property
    def occurred(self) -> Mapping[str, Event]: ...

    def advance(self, to_ms: int) -> None: ...

    def series(self, station: str, at_ms: Ints, *, without_events: bool = False) -> dict[str, Floats]: ...

    def value(self, station: str, parameter: str, at_ms: Ints, *, without_events: bool = False) -> Floats: ...

    def marked(self, station: str, at_ms: Ints) -> dict[str, Floats]: ...

    def strongest(self, name: str) -> float: ...

    def forget(self, before_ms: int) -> None: ...


def of(registry: Registry, scenario: Scenario, *, seed: int, step_s: float = STEP_S) -> Water:
    """The water of ``scenario`` for the stations of ``registry`` (see :meth:`Scenario.registry`), some days before."""
    if scenario.generated is not None:
        return Light(registry, scenario, seed=seed, step_s=step_s)
    return World(registry, scenario, seed=seed, step_s=step_s)
