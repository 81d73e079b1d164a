"""A whole run: days of history as late data, then live readings until told to stop; in the end, the truth of it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sensors.reading import Ints
from sensors.stations import Registry, Station
from sensors.times import DAY_MS
from sensors.wire.telemetry import Sample
from simulator import showcase
from simulator.device import Connection, Device, Fleet
from simulator.faults import Instruments
from simulator.replay import SAMPLES_PER_MESSAGE, Table, Track, samples, tracks
from simulator.reported import Reporting
from simulator.scenario import Event
from simulator.source import samples as samples_of
from simulator.world import World

FORGOTTEN_MS = 3 * 3_600_000
"""What the water of a live run was longer ago is not kept."""


@dataclass(frozen=True, slots=True)
class StationTruth:
    """What one station sent: ``acked`` messages are those the broker answered for."""

    messages_sent: int
    readings_sent: int
    acked: int


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run sent and what really happened to the water; the measure for everything downstream."""

    messages_sent: int
    readings_sent: int
    acked: int
    stations: Mapping[str, StationTruth]
    events: tuple[Event, ...]
    live_from_ms: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: ``phase`` is history or live, ``share`` of the history sent (0…1)."""

    phase: str
    share: float
    messages_sent: int
    readings_sent: int


def run(
    registry: Registry,
    connection: Connection,
    *,
    start_ms: int,
    history_days: float = 14.0,
    history_step_s: int = 900,
    interval_s: float = 5.0,
    seed: int = 0,
    replay: Sequence[Table] = (),
    happening: Callable[[int], Sequence[Event]] | None = None,
    stop: threading.Event,
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    sleep: Callable[[float], object] | None = None,
    on_progress: Callable[[Progress], object] = lambda progress: None,
    boot: int | None = None,
) -> Truth:
    """Publish history, then live readings, until ``stop`` is set.

    Parameters
    ----------
    registry : Registry
        Its stations are simulated, except those that a table of ``replay`` plays (register them with
        :func:`simulator.replay.replay_stations`; a table's stations need not be in the registry).
    start_ms : int
        The history ends here; ms since the epoch, UTC.
    history_days, history_step_s
        Length and spacing of the simulated history. A replayed record keeps its own spacing.
    interval_s : float
        Seconds between two live readings of a station; stations are spread evenly over it.
    happening : callable
        Start of the live part (ms) → what happens to the water from then on. None: what the demo shows.
    clock, sleep : callable
        The time in ms since the epoch; ``sleep`` takes seconds and defaults to waiting for ``stop``.
    boot : int
        Counts the starts of the devices; seconds of ``start_ms`` if None.

    Live readings carry the instant at which they are published as ``at``: latency is measured from it.
    """
    rest = sleep or stop.wait
    recorded = [
        (table, track) for table in replay for track in tracks(table, now_ms=start_ms, history_days=history_days)
    ]
    played = {track.key for _, track in recorded}
    simulated = [s for s in registry.stations if s.key not in played]
    river = _River(registry, simulated, start_ms, history_days, seed) if simulated else None
    live_from_ms = None
    boot = start_ms // 1000 if boot is None else boot
    fleet = Fleet([*(s.key for s in simulated), *sorted(played)], connection, boot=boot)
    try:
        first_ms = start_ms - round(history_days * DAY_MS)
        at_ms = np.arange(first_ms, start_ms, history_step_s * 1000, dtype=np.int64)
        step_ms = history_step_s * 1000
        parts = []
        if river is not None:
            parts = [
                _Part(fleet[s.key], len(at_ms), partial(_simulated_rows, river, s, at_ms, step_ms)) for s in simulated
            ]
        parts += [_Part(fleet[t.key], len(t.history), partial(_recorded_rows, table, t)) for table, t in recorded]
        _send_history(fleet, parts, stop, clock, on_progress)
        if not stop.is_set():
            live_from_ms = clock()
            sources: list[_Source] = []
            if river is not None:
                river.go_live((happening or partial(showcase.live, registry))(live_from_ms))
                sources = [river.source(s, max(round(interval_s * 1000), 1)) for s in simulated]
            sources += [_recorded(table, track) for table, track in recorded]
            _send_live(fleet, sources, interval_s, stop, clock, rest, on_progress)
    finally:
        fleet.close()
    events = () if river is None else river.events
    by_station = {d.station: StationTruth(d.messages_sent, d.readings_sent, d.acked) for d in fleet}
    return Truth(fleet.messages_sent, fleet.readings_sent, fleet.acked, by_station, events, live_from_ms)


@dataclass(frozen=True, slots=True)
class _Part:
    """A device's history: ``rows`` in all, made a message at a time by ``make(from, to)``, oldest first."""

    device: Device
    rows: int
    make: Callable[[int, int], list[Sample]]

    @property
    def messages(self) -> int:
        return -(-self.rows // SAMPLES_PER_MESSAGE)


class _River:
    """The water of a run and its sensors: a history in long steps, then the present in short ones."""

    def __init__(self, registry: Registry, stations: Sequence[Station], start_ms: int, days: float, seed: int) -> None:
        self._reporting = Reporting(registry)
        there = replace(registry, stations=tuple(stations))
        scenario = showcase.history(there, start_ms, days, seed)
        self.events = scenario.events
        self._coarse_until_ms = start_ms - 2 * showcase.STEP_S * 1000
        self._world = World(there, scenario, seed=seed, step_s=showcase.STEP_S)
        self._instruments = Instruments(there, scenario, self._world, seed=seed, known=registry.catalogue)

    def rows(self, station: Station, at_ms: Ints, step_ms: int) -> list[Sample]:
        """The station's samples at ``at_ms`` (n,), in the units its deployments report in."""
        if int(at_ms[-1]) > self._coarse_until_ms:  # a long step must not carry the water beyond the present
            self._world.advance(self._coarse_until_ms)
            self._world.refine(showcase.LIVE_STEP_S)
        said = self._instruments.read(station, at_ms, step_ms)
        for key, measured in said.items():
            measured.value = self._reporting.values(station.key, key, at_ms, measured.value)
        return list(samples_of(at_ms, said))

    def go_live(self, events: Sequence[Event]) -> None:
        """From now on ``events`` happen."""
        for event in events:
            self._world.add(event)
        self.events = (*self.events, *events)

    def source(self, station: Station, interval_ms: int) -> "_Source":
        """Reads the station whenever it is its turn."""

        def read(at_ms: int) -> Sample | None:
            self._world.forget(at_ms - FORGOTTEN_MS)
            found = self.rows(station, np.array([at_ms], np.int64), interval_ms)
            return found[0] if found else None

        return station.key, read


def _simulated_rows(river: _River, station: Station, at_ms: Ints, step_ms: int, start: int, end: int) -> list[Sample]:
    return river.rows(station, at_ms[start:end], step_ms)


def _recorded_rows(table: Table, track: Track, start: int, end: int) -> list[Sample]:
    return list(samples(table, track.history[start:end], track.history_ms[start:end]))


_Source = tuple[str, Callable[[int], Sample | None]]


def _recorded(table: Table, track: Track) -> _Source:
    """The live rows one after another; when they end, from the first of them again."""
    position = 0

    def read(at_ms: int) -> Sample | None:
        nonlocal position
        if not len(track.live):
            return None
        row = track.live[position % len(track.live)]
        position += 1
        return next(samples(table, [int(row)], np.array([at_ms], np.int64)), None)

    return track.key, read


def _send_history(
    fleet: Fleet,
    parts: Sequence[_Part],
    stop: threading.Event,
    clock: Callable[[], int],
    on_progress: Callable[[Progress], object],
) -> None:
    """Send each history oldest first, a message of every station in turn, no faster than the broker answers."""
    turns = max((part.messages for part in parts), default=0)
    for turn in range(turns):
        start = turn * SAMPLES_PER_MESSAGE
        for part in parts:
            end = min(start + SAMPLES_PER_MESSAGE, part.rows)
            if start < end and (message := part.make(start, end)):
                part.device.publish(message, clock())
        while not fleet.flush(0.5):
            if stop.is_set():
                return
        on_progress(Progress("history", (turn + 1) / turns, fleet.messages_sent, fleet.readings_sent))
        if stop.is_set():
            return


def _send_live(
    fleet: Fleet,
    sources: Sequence[_Source],
    interval_s: float,
    stop: threading.Event,
    clock: Callable[[], int],
    rest: Callable[[float], object],
    on_progress: Callable[[Progress], object],
) -> None:
    """One source after another, evenly spread over the interval, round after round."""
    if not sources:
        return
    for due_ms, turn in _schedule(len(sources), interval_s, clock):
        while not stop.is_set() and (early_ms := due_ms - clock()) > 0:
            rest(early_ms / 1000)
        if stop.is_set():
            return
        key, read = sources[turn]
        at_ms = clock()
        sample = read(at_ms)
        if sample is not None:
            fleet[key].publish((sample,), at_ms)
        if turn == len(sources) - 1:
            on_progress(Progress("live", 1.0, fleet.messages_sent, fleet.readings_sent))


def _schedule(sources: int, interval_s: float, clock: Callable[[], int]) -> Iterator[tuple[float, int]]:
    """(due in ms, whose turn) without end. After a standstill the missed turns are skipped, not sent in a burst."""
    step_ms = 1000 * interval_s / sources
    start_ms, turn = clock(), 0
    while True:
        due_ms = start_ms + turn * step_ms
        yield due_ms, turn % sources
        turn += 1
        behind = int((clock() - due_ms) // step_ms)
        if behind > sources:
            turn += behind // sources * sources
