"""Sensors and their faults: from true water to reported values. Pure and stateless.

A sensor adds noise, answers slowly, rounds, and cannot see below its detection limit; an analyser gives a result every
few hours, of water it took a while before. Faults act on what the sensor says; the water stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from infra import toml_text
from infra.times import DAY_MS, HOUR_MS
from sensors.parameters import Catalogue
from sensors.reading import Bools, Floats, Ints
from sensors.stations import Registry, Station
from simulator.physics import weather
from simulator.physics.noise import key_of, normal, uniform, wander
from simulator.physics.water import Water
from simulator.scenario import BATTERY_MS, Fault, FaultKind, Scenario, Visit

ANALYSER_S = 4 * 3600
ANALYSED = frozenset({"codmn", "nh3n", "tp", "tn", "codcr"})
"""Results of these come every four hours unless deployment or scenario say otherwise."""
SAMPLED_BEFORE_MS = 40 * 60_000
"""A cabinet's result is of water taken some 40 minutes before; 30 to 60 are usual."""
SENTINEL = -999.0
LEAVES_A_DAY, LEAST_TIMES, LEAF_TAIL, LEAF_NTU, MOST_TIMES = 0.147, 1.5, 1.3, 5.0, 25.0
"""A leaf, a fish, a bubble in front of a turbidity sensor for one reading: how often, and how many times the value it
sees (a Pareto tail from the least, and 5 NTU more). Measured on the nine river stations of the public records (Logan,
Herbert, Sandy Creek, Pringle) as single readings above 1.5 times and 5 NTU more than both neighbours and the medians of
the four readings on either side: 0.5 to 17 a station-month, 4.4 in the middle, of them 70 % above twice, 43 % above
three times, 20 % above five times. In the shallow bay of Apalachicola they are 40 a month."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """Error model of one kind of sensor; canonical units.

    ``noise`` and ``relative`` are standard deviations, absolute and as a share; ``response_s`` the time constant;
    ``limit`` the detection limit, below which half of it is reported; ``top`` the end of its range. ``usual`` is the
    size of a spike that stands out (beyond the 99th percentile of changes), ``creep`` what drift and
    fouling come to, ``accuracy`` how far a value may be off before somebody would correct it (USGS TM1-D3, from
    memory). ``apparent`` is how much the water itself varies within an hour. ``column`` is the name in written tables.
    """

    noise: float
    relative: float
    response_s: float
    top: float
    usual: float
    creep: float
    accuracy: float
    apparent: float
    column: str
    limit: float = 0.0


SENSORS: Mapping[str, Sensor] = {
    key: Sensor(**row) for key, row in toml_text.shipped("simulator", "sensors.toml").items()
}

_LAGUERRE = ((0.415775, 0.711093), (2.294280, 0.278518), (6.289945, 0.010389))
"""Points and weights that integrate a value times e^-x: a first-order answer without remembering anything."""

_CREEPS = frozenset({FaultKind.DRIFT, FaultKind.FOULING})
_SET_BACK = frozenset({FaultKind.DRIFT, FaultKind.FOULING, FaultKind.OFFSET, FaultKind.NOISE})


@dataclass(slots=True)
class Measured:
    """Reported values of one parameter at (n,) instants: ``value`` NaN where there is none.

    ``bad``: 1 where a fault makes it wrong by more than its accuracy, 0 where it is right, −1 where nothing can be
    judged. ``kind``: the fault, "" for none. ``status``: HJ 212 data flag, N for normal.
    """

    value: Floats
    bad: Ints
    kind: list[str]
    status: list[str]


class Instruments:
    """The sensors of a scenario's stations above its water."""

    def __init__(self, registry: Registry, scenario: Scenario, water: Water, *, seed: int, known: Catalogue) -> None:
        self.registry, self.scenario, self.water, self.seed, self.known = registry, scenario, water, seed, known
        self.visits = _visits(scenario)
        self.faults: dict[str, list[Fault]] = {}
        for fault in scenario.faults:
            self.faults.setdefault(fault.station, []).append(_until_visited(fault, self.visits))
        self._cycles = registry.cycles_s(scenario.start_ms)

    def cycle_s(self, station: Station, parameter: str) -> int:
        """Seconds between two results; 0 where every reading is one."""
        chosen = [c.cycle_s for c in self.scenario.cycles if station.key in c.stations and parameter in c.parameters]
        if chosen:
            return chosen[-1]
        usual = ANALYSER_S if parameter in ANALYSED else 0
        return self._cycles.get(station.key, {}).get(parameter, usual)

    def parameters(self, station: Station) -> tuple[str, ...]:
        """The parameters that the station measures and the model simulates."""
        return tuple(p for p in station.parameters or ("water_temp", "ph", "do", "conductivity") if p in SENSORS)

    def read(self, station: Station, at_ms: Ints, step_ms: int, *, device_time: bool = True) -> dict[str, Measured]:
        """Reported values at ``at_ms`` (n,), ascending, one reading every ``step_ms``; canonical units.

        ``at_ms`` is what the logger's clock says; where not ``device_time``, the true time: then a clock that is wrong
        is a trouble of the device (:attr:`Scenario.on_the_way`).
        """
        at_ms = np.asarray(at_ms, np.int64)
        return {p: self._read(station, p, at_ms, step_ms, device_time) for p in self.parameters(station)}

    def faults_during(self, station: Station, start_ms: int, end_ms: int, step_ms: int) -> tuple[Fault, ...]:
        """What befell the sensors of ``station`` from ``start_ms`` until ``end_ms``: the scenario's faults, and the
        spikes that chance brought, one reading of ``step_ms`` each."""
        mine = [f for f in self.faults.get(station.key, ()) if f.start_ms < end_ms and f.end_ms > start_ms]
        if "turbidity" in self.parameters(station):
            days = np.arange(start_ms // DAY_MS, end_ms // DAY_MS + 1)
            there, when_ms = self._leaves(station, days)
            mine += [
                Fault(f"leaf-{at}", FaultKind.SPIKE, station.key, "turbidity", at, at + step_ms)
                for at in when_ms[there].tolist()
                if start_ms - step_ms < at < end_ms
            ]
        return tuple(mine)

    def _leaves(self, station: Station, days: Ints) -> tuple[Bools, Ints]:
        """Whether a leaf comes by on each of the (n,) days since the epoch, and when, ms."""
        there = uniform(days, key_of(self.seed, station.key, "leaf")) < LEAVES_A_DAY
        when = uniform(days, key_of(self.seed, station.key, "leaf at"))
        return there, days * DAY_MS + (when * DAY_MS).astype(np.int64)

    def _struck(self, station: Station, at_ms: Ints, step_ms: int) -> tuple[Bools, Floats]:
        """The (n,) readings that a leaf hits, and how many times their value it makes of them."""
        hit = np.zeros(len(at_ms), bool)
        for day in (at_ms // DAY_MS, (at_ms - step_ms) // DAY_MS):
            there, when_ms = self._leaves(station, day)
            hit |= there & (when_ms <= at_ms) & (at_ms < when_ms + step_ms)
        rank = np.maximum(uniform(at_ms, key_of(self.seed, station.key, "leaf size")), 1e-6)
        return hit, np.minimum(LEAST_TIMES * rank ** (-1 / LEAF_TAIL), MOST_TIMES)

    def _read(self, station: Station, parameter: str, at_ms: Ints, step_ms: int, device_time: bool) -> Measured:
        faults = [f for f in self.faults.get(station.key, ()) if f.parameter in ("", parameter)]
        seen_ms = at_ms
        for fault in faults:
            if (
                device_time and fault.kind is FaultKind.CLOCK
            ):  # a row that says 12:00 was measured when it was another time
                seen_ms = np.where(_during(fault, at_ms), seen_ms - fault.ahead_ms, seen_ms)
        value = self._healthy(station, parameter, seen_ms)
        bad = np.zeros(len(at_ms), np.int64)
        kind, status = [""] * len(at_ms), ["N"] * len(at_ms)
        if parameter == "turbidity":
            hit, times = self._struck(station, at_ms, step_ms)
            value = np.where(hit, np.minimum(value * times + LEAF_NTU, SENSORS[parameter].top), value)
            bad[hit] = 1
            for i in np.flatnonzero(hit):
                kind[i] = str(FaultKind.SPIKE)
        for fault in faults:
            value, wrong = self._apply_fault(fault, station, parameter, at_ms, step_ms, value)
            for i in np.flatnonzero(wrong):
                kind[i] = str(fault.kind)
                if fault.kind is FaultKind.CLIPPING:
                    status[i] = "T"
            bad[wrong] = 1
        value = np.round(value, self.known[parameter].decimals)
        cycle_ms = 1000 * self.cycle_s(station, parameter)
        silent = np.isnan(value)
        if cycle_ms > step_ms:
            silent = silent | (at_ms // cycle_ms == (at_ms - step_ms) // cycle_ms)
            value[silent] = np.nan
        bad[silent] = -1
        for i in np.flatnonzero(silent):
            if kind[i] != FaultKind.SUPPLY:
                kind[i] = ""
        return Measured(value, bad, kind, status)

    def _healthy(self, station: Station, parameter: str, at_ms: Ints) -> Floats:
        """Values of the sensor without a fault."""
        sensor = SENSORS[parameter]
        if self.cycle_s(station, parameter) > 3600:
            water = self.water.value(station.key, parameter, at_ms - SAMPLED_BEFORE_MS)
        elif sensor.response_s > 0:
            water = np.zeros(len(at_ms))
            for lag, weight in _LAGUERRE:
                before_ms = at_ms - round(lag * sensor.response_s * 1000)
                water = water + weight * self.water.value(station.key, parameter, before_ms)
        else:
            water = self.water.value(station.key, parameter, at_ms)
        if parameter == "rain":  # mm since the reading before
            water = water * station.interval_s / 3600
        chance = normal(at_ms, key_of(self.seed, station.key, parameter, "noise"))
        value = water + chance * np.hypot(sensor.noise, sensor.relative * water)
        if parameter not in ("water_temp", "orp", "level", "flow"):
            value = np.maximum(value, 0.0)
        if sensor.limit:
            value = np.where(value < sensor.limit, sensor.limit / 2, value)
        return np.asarray(np.minimum(value, sensor.top))

    def _apply_fault(
        self, fault: Fault, station: Station, parameter: str, at_ms: Ints, step_ms: int, value: Floats
    ) -> tuple[Floats, Bools]:
        """The values with the fault in them, and where it makes them wrong."""
        sensor, kind = SENSORS[parameter], fault.kind
        during = _during(fault, at_ms)
        if kind is FaultKind.SPIKE:
            during = (at_ms >= fault.start_ms) & (at_ms < fault.start_ms + step_ms)
        if not during.any():
            return value, during
        key = key_of(self.seed, fault.name, parameter)
        span_ms = max(fault.end_ms - fault.start_ms, 1)
        faulty, wrong = self._faulty(
            _Exposure(
                fault,
                station,
                parameter,
                key,
                at_ms,
                value,
                during,
                begins=during & (at_ms - fault.start_ms < step_ms),
                share=np.clip((at_ms - fault.start_ms) / span_ms, 0.0, 1.0),
                chance=uniform(at_ms, key),
                normals=normal(at_ms, key),
            )
        )
        if kind in _CREEPS:
            wrong = during & (np.abs(faulty - value) > np.maximum(sensor.accuracy, 0.03 * np.abs(value)))
        if kind not in (FaultKind.SENTINEL, FaultKind.UNIT):
            faulty = np.minimum(faulty, sensor.top)
        return np.where(during if kind in _CREEPS else wrong, faulty, value), wrong

    def _faulty(self, e: "_Exposure") -> tuple[Floats, Bools]:
        """Values during a fault, and which of them are wrong."""
        sensor, size, value = SENSORS[e.parameter], e.fault.size, e.value
        match e.fault.kind:
            case FaultKind.SPIKE_CLUSTER:
                shaken = np.maximum(value + np.where(e.normals > -0.3, 1, -1) * e.sign * e.spike, 0.0)
                return shaken, e.during & (e.chance < 0.4) | e.begins
            case FaultKind.OUT_OF_WATER:
                wrong = np.zeros_like(e.during) if e.parameter in ("level", "flow", "rain") else e.during
                return self._dry(e.parameter, e.at_ms, value, e.normals), wrong
            case FaultKind.BURSTS:
                fits = wander(e.at_ms, e.key, (1.5, 0.7), (0.5, 0.3))
                bursts = np.maximum(value + e.sign * sensor.usual * size * e.chance**2 + sensor.usual * 0.1, 0.0)
                return bursts, e.during & (fits > 0.1) & (e.chance < 0.75) | e.begins
            case FaultKind.SUPPLY:
                return np.full_like(value, np.nan), e.during & (e.at_ms >= e.fault.start_ms + BATTERY_MS)
        return self._faulty_throughout(e), e.during

    def _faulty_throughout(self, e: "_Exposure") -> Floats:  # noqa: PLR0911  (a kind of fault each)
        """Values during a fault that makes every reading wrong."""
        sensor, size, value = SENSORS[e.parameter], e.fault.size, e.value
        match e.fault.kind:
            case FaultKind.SPIKE:
                away = value + e.sign * e.spike
                return np.where(away < 0, value + e.spike, away) if e.parameter != "orp" else away
            case FaultKind.FLAT_LINE:
                return np.full_like(value, self._healthy(e.station, e.parameter, np.array([e.fault.start_ms]))[0])
            case FaultKind.DRIFT:
                return np.maximum(value + e.sign * sensor.creep * size * e.share, 0.0)
            case FaultKind.FOULING:
                return self._fouled(e.station, e.parameter, e.at_ms, value, e.share * size, e.normals)
            case FaultKind.CLIPPING:
                return np.full_like(value, sensor.top)
            case FaultKind.CLOCK:
                return value
            case FaultKind.UNIT:
                return value / 1000 if e.parameter == "conductivity" else value * 1000
            case FaultKind.OFFSET:
                return np.maximum(value + e.sign * 0.7 * sensor.usual * size, 0.0)
            case FaultKind.NOISE:
                return np.maximum(value + e.normals * 0.35 * sensor.usual * size * (0.3 + 0.7 * e.share), 0.0)
        return np.full_like(value, SENTINEL)

    def _fouled(
        self, station: Station, parameter: str, at_ms: Ints, value: Floats, grown: Floats, normals: Floats
    ) -> Floats:
        """Growth on the sensor: oxygen low and its day flattened, turbidity high and restless, others a little off."""
        sensor = SENSORS[parameter]
        if parameter == "turbidity":
            return np.asarray(value + grown * (sensor.creep + np.abs(normals) * 0.5 * sensor.creep))
        if parameter == "do":
            mean = np.mean([self.water.value(station.key, "do", at_ms - h * HOUR_MS) for h in range(0, 24, 4)], axis=0)
            return np.asarray(
                np.maximum(mean + (value - mean) * np.maximum(1 - 0.7 * grown, 0.1) - sensor.creep * grown, 0.0)
            )
        return np.asarray(np.maximum(value - 0.7 * sensor.creep * grown, 0.0))

    def _dry(self, parameter: str, at_ms: Ints, value: Floats, normals: Floats) -> Floats:
        """A sensor in the air: warm as the air, full of oxygen, no conductivity."""
        if parameter in ("level", "flow", "rain"):
            return value
        outside = self.scenario.weather
        sky = weather.sky(at_ms, self.seed, cloud=outside.cloud, heat=outside.heat, rain=np.zeros(len(at_ms)))
        if parameter == "water_temp":
            return np.asarray(sky.air_c + 2.5 * sky.light + 0.2 * normals)
        if parameter == "do":
            return np.asarray(14.6 - 0.33 * sky.air_c + 0.0034 * sky.air_c**2 + 0.1 * normals)
        levels = {"conductivity": 3.0, "turbidity": 1.5, "ph": 6.4, "orp": 330.0, "nh3n": 0.06}
        spread = {"ph": 0.15, "orp": 12.0, "conductivity": 1.0, "turbidity": 0.8}
        return np.asarray(np.maximum(levels.get(parameter, 0.0) + spread.get(parameter, 0.02) * normals, 0.0))


def _during(fault: Fault, at_ms: Ints) -> Bools:
    return np.asarray((at_ms >= fault.start_ms) & (at_ms < fault.end_ms))


def _visits(scenario: Scenario) -> tuple[Visit, ...]:
    """Those the scenario lists, and those that its faults end with."""
    called = [
        Visit(f.station, f.visit_ms, (f.parameter,) if f.parameter else (), str(f.kind))
        for f in scenario.faults
        if f.visit_ms is not None
    ]
    return tuple(sorted((*scenario.visits, *called), key=lambda v: (v.at_ms, v.station)))


def _until_visited(fault: Fault, visits: Sequence[Visit]) -> Fault:
    """End a fault at the visit that repairs it; a creeping one lasts until its visit."""
    if fault.visit_ms is not None:
        return replace(fault, end_ms=fault.visit_ms)
    if fault.kind in _SET_BACK:
        ends = [
            v.at_ms
            for v in visits
            if v.station == fault.station
            and fault.start_ms < v.at_ms < fault.end_ms
            and (not v.parameters or fault.parameter in v.parameters)
        ]
        if ends:
            return replace(fault, end_ms=min(ends))
    return fault


@dataclass(frozen=True, slots=True)
class _Exposure:
    """A fault on the readings of one sensor: (n,) each.

    ``during`` and ``begins`` are the readings under the fault and the first of them, ``share`` how far the fault has
    grown (0 to 1), ``chance`` and ``normals`` the random numbers of the readings (uniform and normal).
    """

    fault: Fault
    station: Station
    parameter: str
    key: int
    at_ms: Ints
    value: Floats
    during: Bools
    begins: Bools
    share: Floats
    chance: Floats
    normals: Floats

    @property
    def sign(self) -> float:
        """The direction in which the readings go wrong."""
        return 1.0 if self.parameter in ("turbidity", "nh3n", "tp", "chla") or self.key % 2 else -1.0

    @property
    def spike(self) -> Floats:
        """The height of a spike at each reading."""
        return SENSORS[self.parameter].usual * self.fault.size * (0.8 + 0.6 * self.chance)
