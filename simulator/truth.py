"""The table of a scenario with its truth: reported values, which are wrong and why, events that passed.

How ``event`` is decided. The water is carried twice, with and without the events that are no work of nature. Where they
differ at a station for half an hour by more than the water varies within an hour (``Sensor.apparent``, in any parameter
it measures), an event is there; whose it is, its dye tells. Of each passage only the part counts that is above a tenth
of its peak.
``natural_event`` is decided by the share of runoff or salt water, and for gates by the hours they are closed, plus the
tide that follows.
"""

import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from infra.times import HOUR_MS
from sensors.parameters import Catalogue
from sensors.reading import Bools, Floats, Ints
from sensors.stations import Registry, Station
from simulator.devices.sensor_faults import SENSORS, Instruments
from simulator.physics import water
from simulator.physics.water import Water
from simulator.scenario import Event, EventKind, Scenario

COLUMNS = {key: sensor.column for key, sensor in SENSORS.items()}
"""Parameter key → column, unit in its name as in recorded tables."""

TENTH = 0.1
_AFTER_GATE_MS = 6 * HOUR_MS
_NATURAL_SHARE = 0.02
_LASTS_MS = HOUR_MS // 2
"""What shows for less is no passage: one reading that differs by as much as the water does by itself within an hour is
nothing that anybody could tell from that."""
_TRACE = 0.02
"""Less of the dye than this share of the most that any station saw is no presence."""


@dataclass(frozen=True, slots=True)
class Passage:
    """An event at a station: from ``first_ms`` to ``last_ms`` above a tenth of its peak at ``peak_ms``.

    ``strength`` is the largest difference in units of the parameter's own hourly variation.
    """

    event: Event
    station: str
    first_ms: int
    peak_ms: int
    last_ms: int
    strength: float


@dataclass(frozen=True, slots=True)
class Truth:
    """Truth at one station at (n,) instants."""

    event: Bools
    event_type: list[str]
    natural: Bools
    natural_type: list[str]
    passages: tuple[Passage, ...]


def happened(world: Water, station: Station, at_ms: Ints, measured: Sequence[str]) -> Truth:
    """Which events were at ``station`` at ``at_ms`` (n,), ascending; judged by the parameters it ``measured``."""
    events = {e.name: e for e in (*world.events, *world.occurred.values())}
    dyes = world.marked(station.key, at_ms)
    real, without = world.series(station.key, at_ms), world.series(station.key, at_ms, without_events=True)
    judged = [p for p in measured if p in SENSORS and p not in ("level", "flow", "rain")]
    effect = np.zeros(len(at_ms))
    for p in judged:
        effect = np.maximum(effect, np.abs(real[p] - without[p]) / SENSORS[p].apparent)
    polluting = {name: dye for name, dye in dyes.items() if not events[name].natural and dye.max() > 0}
    whose = np.full(len(at_ms), -1)
    names = list(polluting)
    if names:
        relative = np.array([polluting[name] / world.strongest(name) for name in names])
        whose = np.where(relative.max(axis=0) > _TRACE, relative.argmax(axis=0), -1)
    there, kinds = np.zeros(len(at_ms), bool), [""] * len(at_ms)
    passages: list[Passage] = []
    step_ms = int(np.median(np.diff(at_ms))) if len(at_ms) > 1 else _LASTS_MS
    for i, name in enumerate(names):
        its = (whose == i) & (effect >= 1.0)
        if not its.any():
            continue
        peak = int(np.argmax(np.where(its, effect, -1)))
        its &= effect >= TENTH * effect[peak]
        rows = np.flatnonzero(its)
        if at_ms[rows[-1]] - at_ms[rows[0]] + step_ms < _LASTS_MS:
            continue
        there |= its
        for j in rows:
            kinds[j] = str(events[name].kind)
        passages.append(
            Passage(
                events[name],
                station.key,
                int(at_ms[rows[0]]),
                int(at_ms[peak]),
                int(at_ms[rows[-1]]),
                float(effect[peak]),
            )
        )
    natural, natural_kinds = _natural(world, station, at_ms, dyes)
    return Truth(there, kinds, natural, natural_kinds, tuple(passages))


def _natural(world: Water, station: Station, at_ms: Ints, dyes: dict[str, Floats]) -> tuple[Bools, list[str]]:
    there, kinds = np.zeros(len(at_ms), bool), [""] * len(at_ms)
    for event in world.events:
        if not event.natural:
            continue
        if event.kind is EventKind.GATE:
            its = (at_ms >= event.start_ms) & (at_ms < event.end_ms + _AFTER_GATE_MS)
            its &= event.closed and station.reach == event.reach
        elif event.name in dyes:
            dye = dyes[event.name]
            its = (dye > _NATURAL_SHARE) & (dye > TENTH * dye.max())
        else:
            continue
        there |= its
        for j in np.flatnonzero(its):
            kinds[j] = str(event.kind)
    return there, kinds


def instants(scenario: Scenario, station: Station) -> tuple[Ints, int]:
    """Times of a station's rows, and ms between two of them."""
    step_ms = 1000 * (scenario.step_s or station.interval_s)
    first_ms = -(-scenario.start_ms // step_ms) * step_ms
    return np.arange(first_ms, scenario.end_ms, step_ms, dtype=np.int64), step_ms


def columns(registry: Registry) -> list[str]:
    """The parameters of a table, in the catalogue's usual order."""
    measured = {p for s in registry.stations for p in s.parameters}
    return [p for p in COLUMNS if p in measured]


def frames(
    registry: Registry,
    scenario: Scenario,
    world: Water,
    instruments: Instruments,
    on_progress: Callable[[float], object] = lambda share: None,
) -> Iterator[tuple[pl.DataFrame, tuple[Passage, ...]]]:
    """The table station by station: all columns each time, so that the pieces stack, and what passed by there."""
    parameters = columns(registry)
    for i, station in enumerate(registry.stations):
        at_ms, step_ms = instants(scenario, station)
        readings = instruments.read(station, at_ms, step_ms)
        truth = happened(world, station, at_ms, list(readings))
        n = len(at_ms)
        data: dict[str, pl.Series] = {
            "station": pl.Series([station.key] * n, dtype=pl.String),
            "time": times(at_ms),
        }
        any_bad = np.zeros(n, bool)
        nothing = pl.Series([None] * n)
        for p in parameters:
            data[COLUMNS[p]] = (
                pl.Series(readings[p].value).fill_nan(None) if p in readings else nothing.cast(pl.Float64)
            )
        for p in parameters:
            if p not in readings:
                data[f"anomaly_{COLUMNS[p]}"] = nothing.cast(pl.Int8)
                continue
            any_bad |= readings[p].bad == 1
            judged = pl.Series(readings[p].bad.astype(np.int8))
            data[f"anomaly_{COLUMNS[p]}"] = judged.set(judged < 0, None)
        for p in parameters:
            kinds = pl.Series(readings[p].kind, dtype=pl.String) if p in readings else nothing.cast(pl.String)
            data[f"type_{COLUMNS[p]}"] = kinds.set(kinds == "", None) if p in readings else kinds
        data["anomaly"] = pl.Series(any_bad.astype(np.int8))
        data["event"] = pl.Series(truth.event.astype(np.int8))
        either = [mine or natural for mine, natural in zip(truth.event_type, truth.natural_type, strict=True)]
        data["event_type"] = pl.Series([kind or None for kind in either], dtype=pl.String)
        data["natural_event"] = pl.Series(truth.natural.astype(np.int8))
        on_progress((i + 1) / len(registry.stations))
        yield pl.DataFrame(data), truth.passages


def times(at_ms: Ints) -> pl.Series:
    """Instants as ISO 8601 with a Z; whole seconds."""
    return pl.Series(at_ms).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def table(
    registry: Registry,
    scenario: Scenario,
    *,
    seed: int,
    known: Catalogue,
    on_progress: Callable[[str, float], object] = lambda phase, share: None,
) -> Iterator[tuple[pl.DataFrame, tuple[Passage, ...]]]:
    """Advance the water to the scenario's end and give its table, see :func:`frames`."""
    world = water.of(registry, scenario, seed=seed)
    begin_ms = world.now_ms
    instruments = Instruments(registry, scenario, world, seed=seed, known=known)
    while world.now_ms < scenario.end_ms:
        world.advance(min(world.now_ms + 6 * HOUR_MS, scenario.end_ms))
        on_progress("water", (world.now_ms - begin_ms) / (scenario.end_ms - begin_ms))
    yield from frames(registry, scenario, world, instruments, lambda share: on_progress("table", share))


def csv(frame: pl.DataFrame, *, header: bool) -> bytes:
    """The rows as CSV, UTF-8, an empty cell for what is missing."""
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=header)
    return buffer.getvalue()


def packed(target: io.BufferedIOBase) -> gzip.GzipFile:
    """A gzip file without name and time in it: the same table is the same bytes."""
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0)
