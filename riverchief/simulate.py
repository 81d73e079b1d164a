"""Publish a scenario, or the site's own stations, over MQTT and HJ 212.

They publish over MQTT and HJ 212 like devices do. The history of a site's stations lies on a fixed grid, so that the
same hours sent again after a restart are the same readings.
"""

import math
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from infra import clock
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS
from riverchief import files, simulate_table
from riverchief.settings import Settings
from riverchief.sources import mqtt_settings
from sensors.parameters import catalogue
from sensors.stations import Registry
from sensors.wire.hj212.readings import MN
from sensors.wire.hj212.readings import Logger as Known
from sensors.wire.sl651.readings import Gauge
from simulator import truth
from simulator.continuous_run import ContinuousSource
from simulator.devices import sl651_station
from simulator.devices.fleet import Connection, Fleet
from simulator.devices.gateways import Trunks
from simulator.devices.hj212_logger import Line as Platform
from simulator.devices.hj212_logger import Logger
from simulator.devices.reported_values import Reporting
from simulator.devices.sensor_faults import Instruments
from simulator.devices.transport import SampleOutcome
from simulator.physics import water
from simulator.physics.water import Water
from simulator.play import AS_FAST_AS_POSSIBLE, FramedLine, Line, MqttLine, Pace, Progress, RunResult, play
from simulator.run_record import RunRecord
from simulator.scenario import Scenario
from simulator.source import BufferedSource, measured

HISTORY_STEP_S = 900
SPIN_UP_STEP_MS = 6 * 3_600_000
OWN_CONNECTIONS = 2000
"""Stations with a connection, session and last will of their own; further ones share connections."""
STATIONS_A_TRUNK = 5000
DESCRIPTORS_KEPT = 200
"""Descriptors left for files, trunks and all that is not a device's connection."""


def run(
    settings: Settings,
    *,
    history_days: float,
    every_s: float,
    seed: int,
    stop: threading.Event,
    on_progress: Callable[[Progress], object] = lambda progress: None,
) -> RunResult:
    """Publish ``history_days`` of history, then a reading of each station every ``every_s``, until ``stop`` is set.

    The broker and the login are those of ``[mqtt]``, the stations those of ``site.stations`` (the shipped example when
    it is left out). Raises ConfigurationError when a file cannot be used.
    """
    registry = files.read_stations(settings.site.stations, catalogue())
    step_ms = HISTORY_STEP_S * 1000
    with ContinuousSource(
        registry,
        start_ms=clock.now_ms() // step_ms * step_ms,
        history_days=history_days,
        step_s=HISTORY_STEP_S,
        interval_s=every_s,
        seed=seed,
    ) as source:
        return play_present(
            source, registry, connection(settings), seed=seed, stop=stop, clock_ms=clock.now_ms, on_progress=on_progress
        )


def play_present(
    source: ContinuousSource,
    registry: Registry,
    about: Connection,
    *,
    seed: int,
    stop: threading.Event,
    clock_ms: Callable[[], int],
    others: Callable[[Line], Mapping[str, Line]] = lambda line: {},
    on_progress: Callable[[Progress], object] = lambda progress: None,
) -> RunResult:
    """Play the present of a site over MQTT, a connection a station, until ``stop`` is set.

    ``others``: given the line of all stations, the lines of those that leave by another.
    """
    boot = clock_ms() // 1000
    line = MqttLine(Fleet(source.stations, about, boot=boot), name=f"MQTT {about.host}:{about.port}")
    return play(
        source,
        source.stations,
        {**dict.fromkeys(source.stations, line), **others(line)},
        source.pace,
        end_ms=None,
        stop=stop,
        clock=clock_ms,
        seed=seed,
        boot=boot,
        report=Reporting(registry),
        on_progress=on_progress,
    )


# -- a scenario ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run.

    ``speed`` is event time over wall time, infinite for as fast as possible. ``platform`` and ``loggers`` (station →
    logger) are for stations that speak HJ 212, ``centre`` and ``gauges`` for those that speak SL 651; all others speak
    MQTT. ``own`` of these have a connection of their own.
    """

    scenario: str
    speed: float = 1.0
    seed: int = 1
    own: int = OWN_CONNECTIONS
    per_message: int = 1
    platform: tuple[str, int] | None = None
    loggers: Mapping[str, Known] = field(default_factory=dict)
    centre: tuple[str, int] | None = None
    gauges: Mapping[str, Gauge] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run, read and checked: the scenario with its start, its registry, and its stations by protocol."""

    scenario: Scenario
    registry: Registry
    pace: Pace
    loggers: tuple[str, ...]
    own: tuple[str, ...]
    shared: tuple[str, ...]
    refused_connections: int = 0
    """Connections wanted beyond what the system allows this process; their stations share some."""


def plan_run(settings: Settings, options: RunOptions, now_ms: int) -> RunPlan:
    """Read everything before anything starts; raises ConfigurationError with file, line and reason."""
    site = files.read_stations(settings.site.stations, catalogue())
    first = simulate_table.read(options.scenario, site)
    pace = Pace.ending_now(now_ms // 1000 * 1000, first.end_ms - first.start_ms, options.speed)
    happening = simulate_table.read(options.scenario, site, start_ms=pace.start_ms)
    registry = happening.registry(site)
    for key in options.loggers:
        if key not in registry:
            mn = options.loggers[key].mn
            raise ConfigurationError(say("simulate.no_part", mn=mn, key=key, scenario=options.scenario))
    for key, gauge in options.gauges.items():
        if key not in registry:
            raise ConfigurationError(
                say("simulate.no_gauge_part", address=gauge.address, key=key, scenario=options.scenario)
            )
    framed = options.loggers.keys() | options.gauges.keys()
    over_mqtt = [s.key for s in registry.stations if s.key not in framed]
    wanted = min(options.own, len(over_mqtt))
    allowed = min(wanted, allow_connections(wanted + len(framed)) - len(framed))
    own, shared = tuple(over_mqtt[:allowed]), tuple(over_mqtt[allowed:])
    return RunPlan(happening, registry, pace, tuple(options.loggers), own, shared, wanted - allowed)


@dataclass(frozen=True, slots=True)
class SimulatedWater:
    """The water of a run and the sensors in it."""

    world: Water
    instruments: Instruments


def spin_up(
    options: RunOptions, plan: RunPlan, on_progress: Callable[[float], object] = lambda share: None
) -> SimulatedWater:
    """Compute the days of water before the run begins; ``on_progress`` is called with the share done."""
    world = water.of(plan.registry, plan.scenario, seed=options.seed)
    begin_ms, end_ms = world.now_ms, plan.scenario.start_ms
    while world.now_ms < end_ms:
        world.advance(min(world.now_ms + SPIN_UP_STEP_MS, end_ms))
        on_progress((world.now_ms - begin_ms) / max(1, end_ms - begin_ms))
    return SimulatedWater(world, Instruments(plan.registry, plan.scenario, world, seed=options.seed, known=catalogue()))


def play_scenario(
    settings: Settings,
    options: RunOptions,
    plan: RunPlan,
    river: SimulatedWater,
    *,
    stop: threading.Event,
    settled: Callable[[SampleOutcome], object] | None = None,
    on_progress: Callable[[Progress], object] = lambda progress: None,
) -> RunResult:
    """Play the scenario until its end, or until ``stop`` is set."""
    boot = clock.now_ms() // 1000
    happening, pace = plan.scenario, plan.pace
    stretches = measured(plan.registry, happening, river.world, river.instruments)
    with BufferedSource(stretches, pace.start_ms, happening.end_ms) as source:
        return play(
            source,
            [s.key for s in plan.registry.stations],
            _lines(settings, options, plan, boot),
            pace,
            end_ms=happening.end_ms,
            stop=stop,
            clock=clock.now_ms,
            troubles=happening.on_the_way,
            seed=options.seed,
            boot=boot,
            per_message=options.per_message,
            report=Reporting(plan.registry),
            settled=settled,
            on_progress=on_progress,
        )


def write_truth(
    out: Path,
    plan: RunPlan,
    river: SimulatedWater,
    record: RunRecord,
    until_ms: int,
    on_progress: Callable[[float], object] = lambda share: None,
) -> int:
    """The table of exactly what was played, up to ``until_ms``, with what became of it; the number of rows."""
    played = replace(plan.scenario, days=(until_ms - plan.scenario.start_ms) / DAY_MS)

    def pieces() -> Iterator[pl.DataFrame]:
        made = truth.frames(plan.registry, played, river.world, river.instruments, on_progress)
        for station, (frame, _) in zip(plan.registry.stations, made, strict=True):
            at_ms, _ = truth.instants(played, station)
            yield frame.with_columns(record.columns(station.key, at_ms))

    return simulate_table.save(out, pieces())


def _lines(settings: Settings, options: RunOptions, plan: RunPlan, boot: int) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    about = connection(settings)
    if plan.own or plan.shared:
        fleet = Fleet(plan.own, about, boot=boot) if plan.own else None
        trunks = (
            Trunks(plan.shared, about, connections=math.ceil(len(plan.shared) / STATIONS_A_TRUNK))
            if plan.shared
            else None
        )
        name = f"MQTT {about.host}:{about.port}"
        lines |= dict.fromkeys((*plan.own, *plan.shared), MqttLine(fleet, trunks, name=name))
    if plan.loggers:
        assert options.platform is not None
        to = Platform(*options.platform)
        made = {
            key: Logger(to, device.mn, device.password or "", clock.now_ms, st=device.st)
            for key, device in options.loggers.items()
        }
        lines |= dict.fromkeys(plan.loggers, FramedLine(made, name=f"HJ 212 {to.host}:{to.port}"))
    if options.centre is not None:
        centre = sl651_station.Line(*options.centre)
        gauges = {
            key: sl651_station.Station(centre, device.address, clock.now_ms, password=device.password or "0000")
            for key, device in options.gauges.items()
        }
        lines |= dict.fromkeys(gauges, FramedLine(gauges, name=f"SL 651 {centre.host}:{centre.port}"))
    return lines


# -- what the commands are told --------------------------------------------------------------------------------------


def speed(text: str) -> float:
    """``max`` or a number above zero; raises ConfigurationError."""
    if text == "max":
        return AS_FAST_AS_POSSIBLE
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigurationError(say("simulate.speed", text=text))
    return value


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT``; raises ConfigurationError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigurationError(say("simulate.gateway", text=text))
    return host.strip("[]"), int(port)


def loggers(entries: Sequence[str], password: str) -> dict[str, Known]:
    """``STATION=MN`` entries as loggers by station; raises ConfigurationError."""
    found: dict[str, Known] = {}
    for entry in entries:
        station, _, mn = entry.partition("=")
        if not station or not MN.fullmatch(mn):
            raise ConfigurationError(say("simulate.logger", entry=entry))
        if station in found:
            raise ConfigurationError(say("simulate.logger_twice", entry=entry, station=station))
        found[station] = Known(mn, station, password)
    return found


def connection(settings: Settings) -> Connection:
    """Connection settings of devices, from ``[mqtt]``."""
    m = mqtt_settings(settings)
    return Connection(
        m.host, m.port, m.user, m.password, tls=ssl.create_default_context(cafile=m.ca_file) if m.tls else None
    )


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files so that it may hold ``wanted`` connections; how many it may hold.

    The soft limit is raised up to the hard one, which only the administrator may change.
    """
    try:
        import resource
    except ImportError:  # no such limit on this system
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(0, min(wanted, soft - DESCRIPTORS_KEPT))
