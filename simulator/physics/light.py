"""A light model for thousands of stations: a few places are computed, every station is a variation of one.

A river, creeks and lakes that are in no registry are carried by a :class:`~simulator.physics.world.World`. Each station
takes one of their places of its kind, some hours earlier or later, somewhat richer or poorer; which and how much
depends on its key. Discharges at a station are laid over it. Nothing travels from one station to another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from infra.errors import NotFound
from infra.texts import say
from infra.times import HOUR_MS
from sensors.reading import Floats, Ints
from sensors.stations import Registry, Station, Water
from simulator.physics import chemistry
from simulator.physics.noise import key_of
from simulator.physics.world import DISCHARGED, STEP_S, World
from simulator.scenario import DISCHARGES, Event, Scenario

PLACES = {Water.RIVER: 6, Water.CREEK: 8, Water.LAKE: 5}
"""How many of each kind are computed."""

_SHIFTED = {"water_temp": 0.9, "ph": 0.15, "orp": 30.0, "level": 0.3}
"""Added to these, up to so much either way; others are multiplied."""
_SPREAD = 0.3
_SHARE, _RISE_MS, _FADE_MS = 0.13, 0.4 * HOUR_MS, 2.5 * HOUR_MS
"""Of sewage in the water at size 1; how it comes and goes."""


@dataclass(frozen=True, slots=True)
class _Like:
    """Which place a station is like; ``later_ms`` after it."""

    place: str
    later_ms: int
    key: int


class Light:
    """See the module; answers like a :class:`~simulator.physics.world.World`."""

    def __init__(self, registry: Registry, scenario: Scenario, *, seed: int, step_s: float = STEP_S) -> None:
        kinds = sorted({s.water for s in registry.stations})
        places = tuple(
            Station(f"{kind}-{i}", kind, kind, 0.0, 0.0, water=kind) for kind in kinds for i in range(PLACES[kind])
        )
        everywhere = tuple(e for e in scenario.events if e.kind not in DISCHARGES)
        self._here = tuple(e for e in scenario.events if e.kind in DISCHARGES)
        self._places = World(
            Registry(stations=places, catalogue=registry.catalogue),
            replace(scenario, events=everywhere, generated=None),
            seed=seed,
            step_s=step_s,
        )
        self._like = {s.key: self._likeness(s, seed) for s in registry.stations}
        self.events: Sequence[Event] = scenario.events

    @staticmethod
    def _likeness(station: Station, seed: int) -> _Like:
        key = key_of(seed, station.key, "likeness")
        place = f"{station.water}-{key % PLACES[station.water]}"
        return _Like(place, round((key >> 8) % 1000 / 1000 * 3 * HOUR_MS), key >> 20)

    @property
    def now_ms(self) -> int:
        return self._places.now_ms

    @property
    def occurred(self) -> Mapping[str, Event]:
        return self._places.occurred

    def advance(self, to_ms: int) -> None:
        """See :meth:`World.advance`."""
        self._places.advance(to_ms)

    def series(self, station: str, at_ms: Ints, *, without_events: bool = False) -> dict[str, Floats]:
        """See :meth:`World.series`."""
        return {
            key: self.value(station, key, at_ms, without_events=without_events)
            for key in (*chemistry.measured(np.ones((1, len(chemistry.TRACERS)))), "level", "flow", "rain")
        }

    def value(self, station: str, parameter: str, at_ms: Ints, *, without_events: bool = False) -> Floats:
        """See :meth:`World.value`."""
        like = self._of(station)
        at_ms = np.asarray(at_ms, np.int64)
        value = self._places.value(like.place, parameter, at_ms - like.later_ms)
        own = 2 * ((like.key >> (len(parameter) % 7)) % 997) / 997 - 1
        if parameter in _SHIFTED:
            value = value + own * _SHIFTED[parameter]
        elif parameter != "rain":
            value = value * np.exp(_SPREAD * own * (0.3 if parameter in ("do", "conductivity") else 1.0))
        if without_events:
            return value
        for event in self._here:
            if event.reach == station:
                share = strength(event, at_ms)
                if share.any() and parameter in (mixed := _measured(event)):
                    value = value + share * (mixed[parameter] - value)
        return value

    def marked(self, station: str, at_ms: Ints) -> dict[str, Floats]:
        """See :meth:`World.marked`."""
        like = self._of(station)
        at_ms = np.asarray(at_ms, np.int64)
        found = self._places.marked(like.place, at_ms - like.later_ms)
        for event in self._here:
            if event.reach == station and (share := strength(event, at_ms)).any():
                found[event.name] = share
        return found

    def strongest(self, name: str) -> float:
        """See :meth:`World.strongest`."""
        here = next((e for e in self._here if e.name == name), None)
        return self._places.strongest(name) if here is None else _SHARE * here.size

    def forget(self, before_ms: int) -> None:
        """See :meth:`World.forget`."""
        self._places.forget(before_ms - 4 * HOUR_MS)

    def _of(self, station: str) -> _Like:
        if station not in self._like:
            raise NotFound(say("simulate.not_in_water", station=station))
        return self._like[station]


def strength(event: Event, at_ms: Ints) -> Floats:
    """(n,) share 0…1 of a discharge in the water of its station: it rises, stays and fades."""
    since, over = at_ms - event.start_ms, np.maximum(at_ms - event.end_ms, 0)
    most = min(_SHARE * event.size, 0.9)
    return np.asarray(most * np.clip(since / _RISE_MS, 0.0, 1.0) * np.exp(-over / _FADE_MS))


def _measured(event: Event) -> dict[str, float]:
    """What sensors would read in the discharge itself. Mixing pH in a straight line is wrong, and good enough here."""
    content = np.array(DISCHARGED[event.kind])
    return {key: float(value) for key, value in chemistry.measured(content).items()}
