"""A run without an end: days of history up to the present, then live readings."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from infra.closing import Closing
from infra.times import DAY_MS
from sensors.reading import Ints
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Sample
from simulator import showcase
from simulator.devices.sensor_faults import Instruments
from simulator.physics.world import World
from simulator.play import Pace
from simulator.replay import Table, Track, samples, tracks
from simulator.scenario import Event
from simulator.source import BufferedSource, Stretch, measured
from simulator.source import samples as samples_of

FORGET_AFTER_MS = 3 * 3_600_000
"""What the water was longer ago is not kept once the present has begun."""

Happening = Callable[[int], Sequence[Event]]
"""Where the present begins (ms) → what happens to the water from then on."""


class ContinuousSource(Closing):
    """A :class:`simulator.play.Source` without an end, and a context manager.

    Parameters
    ----------
    registry : Registry
        Its stations are simulated, except those that a table of ``replay`` plays (register them with
        :func:`simulator.replay.replay_stations`; a table's stations need not be in the registry).
    start_ms : int
        The history ends here; ms since the epoch, UTC. The present begins when it has been played.
    history_days, step_s
        Length and spacing of the simulated history, on multiples of the spacing: the same hours sent again after a
        restart are the same readings. A record keeps its own spacing.
    interval_s : float
        Seconds between two readings of a station in the present; the stations are spread evenly over it.
    every_s : mapping
        Stations that are read less often: at most once in each of so many seconds.
    happening : callable
        None: what the demo shows.

    A reading of the present is taken at the very instant it is asked for, so that latency can be measured from it;
    turns missed in a standstill are skipped. When a record ends, it begins again.
    """

    def __init__(  # noqa: PLR0913  (a part of the run each)
        self,
        registry: Registry,
        *,
        start_ms: int,
        history_days: float,
        step_s: int,
        interval_s: float,
        seed: int,
        replay: Sequence[Table] = (),
        every_s: Mapping[str, float] = {},
        happening: Happening | None = None,
    ) -> None:
        recorded = [
            (table, track) for table in replay for track in tracks(table, now_ms=start_ms, history_days=history_days)
        ]
        played = {track.key for _, track in recorded}
        simulated = tuple(s for s in registry.stations if s.key not in played)
        self._river = _River(registry, simulated, start_ms, history_days, step_s, seed) if simulated else None
        self._happening = happening or partial(showcase.live, registry)
        self.stations = (*(s.key for s in simulated), *sorted(played))
        begins = [int(at_ms) for _, track in recorded for at_ms in track.history_ms[:1]]
        first_ms = min([start_ms - round(history_days * DAY_MS), *begins])
        self.pace = Pace(first_ms, first_ms, hurry_until_ms=start_ms)
        """As fast as the lines take it up to the present, then in step with the clock."""
        self._start_ms = start_ms
        makers = [self._river.history] if self._river is not None else []
        makers += [partial(_history_of_record, table, track) for table, track in recorded]
        self._history = BufferedSource(_merged(makers), first_ms, start_ms, stretch_ms=DAY_MS)
        interval_ms = max(round(interval_s * 1000), 1)
        self._turns: list[_LiveStation] = []
        if self._river is not None:
            self._turns = [_LiveStation(s.key, partial(self._river.now, s, interval_ms)) for s in simulated]
        self._turns += [_LiveStation(track.key, _live_of_record(table, track)) for table, track in recorded]
        self._every_ms = 1000 * interval_s / max(len(self._turns), 1)
        self._next = 0
        self._every = {key: round(1000 * seconds) for key, seconds in every_s.items()}
        self._read_in: dict[str, int] = {}
        self.live_from_ms: int | None = None
        """Where the present began; None until it does."""

    def close(self) -> None:
        self._history.close()

    @property
    def events(self) -> tuple[Event, ...]:
        """Events in the water, past and planned."""
        return () if self._river is None else self._river.events

    def advance(self, to_ms: int) -> Iterator[tuple[str, Sample]]:
        """Samples of the history before ``to_ms``; beyond it, of the stations whose turn it is."""
        yield from self._history.advance(min(to_ms, self._start_ms))
        if to_ms <= self._start_ms or not self._turns:
            return
        if self.live_from_ms is None:
            self.live_from_ms = to_ms
            if self._river is not None:
                self._river.add_events(self._happening(to_ms))
        due = int((to_ms - self.live_from_ms) / self._every_ms) + 1
        first = max(self._next, due - len(self._turns))
        self._next = max(self._next, due)
        for number in range(first, due):
            turn = self._turns[number % len(self._turns)]
            if (every_ms := self._every.get(turn.station)) is not None:
                if self._read_in.get(turn.station) == to_ms // every_ms:
                    continue
                self._read_in[turn.station] = to_ms // every_ms
            sample = turn.read(to_ms)
            if sample is not None:
                yield turn.station, sample


@dataclass(frozen=True, slots=True)
class _LiveStation:
    """Reads a station at an instant."""

    station: str
    read: Callable[[int], Sample | None]


class _River:
    """The water of a site and its sensors: a history in long steps, then the present in short ones."""

    def __init__(
        self, registry: Registry, stations: tuple[Station, ...], start_ms: int, days: float, step_s: int, seed: int
    ) -> None:
        there = replace(registry, stations=stations)
        scenario = replace(showcase.history(there, start_ms, days, seed), step_s=step_s)
        self.events = scenario.events
        self._coarse_until_ms = start_ms - 2 * showcase.STEP_S * 1000
        self._world = World(there, scenario, seed=seed, step_s=showcase.STEP_S)
        self._instruments = Instruments(there, scenario, self._world, seed=seed, known=registry.catalogue)
        self._measured = measured(there, scenario, self._world, self._instruments)

    def history(self, from_ms: int, to_ms: int) -> Iterable[tuple[str, Sample]]:
        if to_ms > self._coarse_until_ms:  # a long step must not carry the water beyond the present
            self._world.advance(self._coarse_until_ms)
            self._world.refine(showcase.LIVE_STEP_S)
        return self._measured(from_ms, to_ms)

    def add_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._world.add(event)
        self.events = (*self.events, *events)

    def now(self, station: Station, interval_ms: int, at_ms: int) -> Sample | None:
        self._world.forget(at_ms - FORGET_AFTER_MS)
        at = np.array([at_ms], np.int64)
        return next(samples_of(at, self._instruments.read(station, at, interval_ms)), None)


def _merged(makers: Sequence[Stretch]) -> Stretch:
    """Several stretches as one, in the order of time."""

    def make(from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        found = [one for maker in makers for one in maker(from_ms, to_ms)]
        found.sort(key=lambda of: of[1].at_ms)
        return found

    return make


def _history_of_record(table: Table, track: Track, from_ms: int, to_ms: int) -> Iterator[tuple[str, Sample]]:
    """The history of a record."""
    some = slice(*np.searchsorted(track.history_ms, (from_ms, to_ms)))
    for sample in samples(table, track.history[some], track.history_ms[some]):
        yield track.key, sample


def _live_of_record(table: Table, track: Track) -> Callable[[int], Sample | None]:
    """The live rows of a record one after another; when they end, from the first of them again."""
    position = 0

    def read(at_ms: int) -> Sample | None:
        nonlocal position
        if not len(track.live):
            return None
        row = int(track.live[position % len(track.live)])
        position += 1
        at: Ints = np.array([at_ms], np.int64)
        return next(samples(table, [row], at), None)

    return read
