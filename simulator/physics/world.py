"""The water of a site, advanced in time: true values at every station, and what caused them.

A :class:`World` steps on a fixed grid from some days before the scenario's start, so that asking it in one go or second
by second gives the same values. It carries the water twice: as it is, and as it would be without the events that are no
work of nature. The difference is what an event does. Each event also marks its water with a dye that is in no one's
way; where the dye is, the difference is that event's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infra.errors import NotFound
from infra.texts import say
from infra.times import BEIJING_OFFSET_MS, DAY_MS, HOUR_MS
from sensors.reading import Bools, Floats, Ints
from sensors.stations import Registry, Water
from simulator.physics import chemistry, hydraulics, network, tide, weather
from simulator.physics.chemistry import ALK, BOD, CHL, DIC, DO, EC, NH, ORGANIC, PO, SOLIDS, TEMP, TRACERS
from simulator.physics.noise import key_of, keys_of, wander
from simulator.physics.surface_layer import Upper
from simulator.scenario import DISCHARGES, Event, EventKind, Scenario

STEP_S = 300
M = len(TRACERS)
_CHUNK = 96
_DYE_DAYS = 2.0
"""Dye fades, so that the water of last week marks nothing."""
_GONE = 1e-4
_SILL_M = -0.75
"""Creeks do not fall dry: below this their gate holds the water."""
_GATE_H, _WEIR_H, _BRIM_M = 2.0, 24.0, 1.1
"""Gates are narrower than their creeks and take their time: with half an hour, river water came up so fast that oxygen
fell by 2 mg/L within one; at Guangdong stations it is 3.2 in four hours at the 99th percentile. The
flood is short: with 1.2 hours its front stood in a creek like a discharge on calm spring tides."""
_RUNOFF_H, _RUNOFF_SHARE, _SEWERS_MM_H, _FLUSH_MM, _DUST_DAYS = 1.3, 0.55, 3.0, 6.0, 4.0

_FLOW: Mapping[EventKind, tuple[float, tuple[float, ...]]] = {
    EventKind.SEWAGE: (0.28, network.SEWAGE),
    EventKind.ACID: (0.05, network.ACID),
    EventKind.ALKALI: (0.06, network.ALKALI),
    EventKind.BRINE: (0.06, network.BRINE),
}
"""m³/s of size 1 into a creek or lake, and its content."""
_FOR_A_RIVER = 30.0
"""A river needs so much more to notice."""
_GAUGE_ZERO_M = 1.2
"""Level gauges stand on a zero of their own."""
_MARGIN, _MOST_KEPT = 24, 40
_FAST_TIDE = 8e-5
"""m/s: 1.7 m in six hours."""
_AT_THE_BANK = 0.11
"""Share of a small creek's water at a station beside it when the ebb brings most of it: it has not mixed across yet."""
DISCHARGED: Mapping[EventKind, tuple[float, ...]] = {kind: content for kind, (_, content) in _FLOW.items()}
"""Content of what each kind of discharge lets in."""
_SUDDEN_SHARE, _SUDDEN_S = 0.24, 3.0
"""Of sewage in the water at size 1, and how soon it is there."""
_RAMP_S: Mapping[EventKind, float] = {
    EventKind.SEWAGE: 900.0,
    EventKind.ACID: 180.0,
    EventKind.ALKALI: 180.0,
    EventKind.BRINE: 180.0,
    EventKind.BLOOM: 86_400.0,
    EventKind.LOW_OXYGEN: 7200.0,
    EventKind.DREDGING: 1200.0,
    EventKind.GATE: 600.0,
    EventKind.SALT_TIDE: 86_400.0,
}
_POLLUTED = np.zeros(M)
_POLLUTED[[BOD, NH, PO]] = 1.0


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Forcing at the steps of one stretch, computed ahead; (k + 1,) at instants, (k,) in steps."""

    at_ms: Ints
    height: Floats
    light: Floats
    balance_c: Floats
    wind: Floats
    rain: Floats
    warmth: Floats
    leak: Floats
    outside: Floats
    """(k, reaches, 5): pollution, salts, oxygen, phosphorus and algae of what comes from elsewhere, as factors."""
    traffic: Floats
    fluff: Floats
    sides: Floats
    """(k, kinds, n): how strong the small creeks beside the cells of tidal rivers are, as factors."""
    jitter: Floats
    banks: Floats
    """(k, kinds, s): share of their water that a station at the bank sees, before it has mixed across."""
    clouds: Floats
    """(k, 2, s): mineral and organic particles at the station against the mean of the cell, as factors."""


class World:
    """See the module. Not safe to share between threads.

    Parameters
    ----------
    registry : Registry
        Its reaches make the network, its stations are where something is measured. A station on no reach gets a place
        on one that is made up.
    scenario : Scenario
        Start, weather and events.
    seed : int
        Of all that is chance.
    step_s : float
        Seconds of a step of the model.
    """

    def __init__(self, registry: Registry, scenario: Scenario, *, seed: int, step_s: float = STEP_S) -> None:
        registry = network.placed(registry)
        self.registry, self.scenario, self.seed = registry, scenario, seed
        self.network = network.build(registry)
        self.step_ms = round(step_s * 1000)
        spin_up_ms = round(scenario.spin_up_days * DAY_MS)
        self.now_ms = (scenario.start_ms - spin_up_ms) // self.step_ms * self.step_ms
        self.events: list[Event] = list(scenario.events)
        self.occurred: dict[str, Event] = {}
        """Overflows that rain brought about, by name."""
        self._stations = {s.key: i for i, s in enumerate(registry.stations)}
        spots = [self.network.spot(s) for s in registry.stations]
        self._low = np.array([cells[0] for cells, _ in spots], np.intp)
        self._high = np.array([cells[1] for cells, _ in spots], np.intp)
        self._share = np.array([share for _, share in spots])
        self._eddies_m = np.where(self.network.tidal[self._low], 500.0, 260.0)
        self._sums = self.network.mesh.upstream_sums()
        self._spacing = network.spacing(self.network)
        self._reach_index = {r.key: i for i, r in enumerate(self.network.reaches)}
        self._order, self._joins = self._downstream_first()
        self._dyes: list[Event] = []
        self._recorder = _Recorder(len(spots))
        self._upper = Upper(len(spots))
        kinds = len(network.SIDE_CREEKS)
        self._side_keys = keys_of(seed, "side creeks", count=kinds * len(self.network.reach)).reshape(kinds, -1)
        beside = self._beside()
        self._bank_strength = np.array([self.network.sides[:, b].mean(axis=1) for b in beside]).reshape(-1, kinds).T
        self._side_content = np.array(network.SIDE_CREEKS)
        self._start()

    # -- asking

    def advance(self, to_ms: int) -> None:
        """Bring the water to ``to_ms`` (ms since the epoch, UTC) or the first step after it; never back."""
        while self.now_ms < to_ms:
            self._fade()
            chunk = self._prepare(min(_CHUNK, -(-(to_ms - self.now_ms) // self.step_ms)))
            for i in range(len(chunk.at_ms) - 1):
                self._step(chunk, i)

    def series(self, station: str, at_ms: Ints, *, without_events: bool = False) -> dict[str, Floats]:
        """True values at ``station`` at ``at_ms`` (n,), in any order; canonical units, not rounded.

        The water is advanced as far as asked for. Raises NotFound for a station that is not there, ValueError for an
        instant before the first or one already forgotten.
        """
        if station not in self._stations:
            raise NotFound(say("simulate.not_in_water", station=station))
        at_ms = np.asarray(at_ms, np.int64)
        if not len(at_ms):
            return {key: np.zeros(0) for key in chemistry.measured(np.ones((0, M)))}
        self.advance(int(at_ms.max()))
        return self._recorder.values(self._stations[station], at_ms, without_events)

    def value(self, station: str, parameter: str, at_ms: Ints, *, without_events: bool = False) -> Floats:
        """One parameter of :meth:`series`."""
        at_ms = np.asarray(at_ms, np.int64)
        if not len(at_ms):
            return np.zeros(0)
        self.advance(int(at_ms.max()))
        return self._recorder.value(self._stations[station], parameter, at_ms, without_events)

    def marked(self, station: str, at_ms: Ints) -> dict[str, Floats]:
        """Name of an event → (n,) share 0…1 of its marked water at the station; only events that ever came by."""
        at_ms = np.asarray(at_ms, np.int64)
        self.advance(int(at_ms.max()))
        return self._recorder.dyes(self._stations[station], at_ms)

    def strongest(self, name: str) -> float:
        """The largest share 0…1 of an event's marked water that any station saw; 0 when it never came to one."""
        return self._recorder.strongest.get(name, 0.0)

    def add(self, event: Event) -> None:
        """Add an event to the scenario; it must not begin in the past."""
        if event.start_ms < self.now_ms:
            raise ValueError(f"{event.name} begins before the water's present")
        self.events.append(event)

    def refine(self, step_s: float) -> None:
        """Go on in steps of ``step_s``. What follows differs a little from what the old steps would have given."""
        self.step_ms = round(step_s * 1000)

    def forget(self, before_ms: int) -> None:
        """Let go of what was recorded before: a live run needs only the latest hours."""
        self._recorder.forget(before_ms)

    # -- beginning

    def _downstream_first(self) -> tuple[list[int], dict[int, int]]:
        """Numbers of the reaches that have a level of their own, lower ones first, and the cell each joins."""
        net = self.network
        joins: dict[int, int] = {}
        for i, r in enumerate(net.reaches):
            if not net.tidal[net.own[r.key][0]]:
                cell = int(net.mesh.below[net.own[r.key][-1]])
                joins[i] = cell if r.downstream is not None else -1
        order: list[int] = []
        left = dict(joins)
        while left:
            ready = [i for i, cell in left.items() if cell < 0 or int(net.reach[cell]) not in left]
            order += ready
            for i in ready:
                del left[i]
        return order, joins

    def _beside(self) -> list[Bools]:
        """For each station (n,) the cells whose small creeks it sees: its own, and those next to it."""
        net = self.network
        cells = np.arange(len(net.reach))
        return [(net.reach == net.reach[low]) & (np.abs(cells - low) <= 2) for low in self._low]

    def _start(self) -> None:
        net = self.network
        n = len(net.reach)
        water = np.array([r.water for r in net.reaches], object)[net.reach]
        first = np.zeros((M, n))
        for kind, content in (
            (Water.RIVER, network.DIRTY_BRANCH),
            (Water.CREEK, network.CREEK_HEAD),
            (Water.LAKE, network.LAKE_HEAD),
        ):
            first[:, water == kind] = np.array(content)[:, None]
        season = weather.MEAN_C + self.scenario.weather.heat
        season += weather.SWING_C * float(weather.warmth(np.array([self.now_ms]))[0])
        first[TEMP] = season
        self._outside_c = np.array([season, season])  # of deep and of shallow water beyond the network
        self._holds = _oxygen_of(self._outside_c)
        self._content = np.concatenate([first, first])
        self._level = np.zeros(len(net.reaches))
        self._height = self._heights(np.array([self.now_ms], np.int64))[0]
        self._stored_mm, self._dust = 0.0, 1.0
        self._outflow = np.zeros(len(net.mesh.up))
        self._volume = self._volumes(self._cells_level(self._level, self._height))

    def _heights(self, at_ms: Ints) -> Floats:
        """(k, n) height of the tide in every cell."""
        hours = np.unique(self.network.later_h[self.network.tidal])
        if not len(hours):
            return np.zeros((len(at_ms), len(self.network.reach)))
        table = tide.height(at_ms[:, None], hours[None, :])
        # wind and the weather over the sea: decimetres within days, a centimetre within an hour
        table += wander(at_ms, key_of(self.seed, "surge"), (110.0, 0.10), (31.0, 0.06), (7.0, 0.02), (1.6, 0.008))[
            :, None
        ]
        return table[:, np.minimum(np.searchsorted(hours, self.network.later_h), len(hours) - 1)]

    def _cells_level(self, level: Floats, height: Floats) -> Floats:
        return np.asarray(np.where(self.network.tidal, height, level[self.network.reach]))

    def _volumes(self, level: Floats) -> Floats:
        net = self.network
        return np.asarray(np.maximum(level - net.bed_m, 0.35) * net.width_m * net.length_m)

    def _prepare(self, steps: int) -> _Chunk:
        net, step_ms = self.network, self.step_ms
        to_grid = -(-(self.now_ms + 1) // step_ms) * step_ms
        at_ms = np.concatenate([[self.now_ms], to_grid + step_ms * np.arange(steps, dtype=np.int64)])
        middle = (at_ms[:-1] + at_ms[1:]) // 2
        rain = np.zeros(steps)
        for event in self.events:
            if event.kind is EventKind.RAIN:
                rain += rain_mm_h(event, middle)
        cloud = self.scenario.weather
        sky = weather.sky(middle, self.seed, cloud=cloud.cloud, heat=cloud.heat, rain=rain)
        day = ((middle + BEIJING_OFFSET_MS) % DAY_MS) / HOUR_MS
        rhythm = 1 + 0.35 * np.cos(2 * np.pi * (day - 20.5) / 24) + 0.25 * np.cos(4 * np.pi * (day - 8.5) / 24)
        names = [r.key for r in net.reaches]
        drift = np.array(
            [wander(middle, key_of(self.seed, name, "leak"), (30.0, 0.24), (5.0, 0.17), (1.3, 0.2)) for name in names]
        )
        shared = np.array(
            [
                wander(middle, key_of(self.seed, name, "outside"), (90.0, 0.35), (22.0, 0.2), (4.0, 0.1))
                for name in names
            ]
        )
        own = np.array(
            [
                [
                    wander(middle, key_of(self.seed, name, what), (60.0, 0.3), (14.0, 0.25), (3.0, 0.15))
                    for name in names
                ]
                for what in ("nh3n", "salts", "oxygen", "phosphorus")
            ]
        )
        green = np.array(
            [wander(middle, key_of(self.seed, name, "green"), (50.0, 0.3), (7.0, 0.5), (1.8, 0.5)) for name in names]
        )
        outside = np.exp(np.concatenate([own + 0.5 * shared[None], green[None]]))
        traffic = np.array(
            [wander(middle, key_of(self.seed, name, "traffic"), (8.0, 0.35), (2.0, 0.25), (0.6, 0.2)) for name in names]
        )
        fluff = np.array(
            [wander(middle, key_of(self.seed, name, "fluff"), (70.0, 0.4), (9.0, 0.4), (2.0, 0.3)) for name in names]
        )
        kinds, cells = self._side_keys.shape
        tidal = np.flatnonzero(net.tidal)
        sides = np.ones((steps, kinds, cells))
        pulses = wander(middle[:, None, None], self._side_keys[:, tidal], (5.0, 0.6), (1.6, 0.5))
        pumped = np.array(
            [
                [wander(middle, key_of(self.seed, name, "pumped", str(j)), (50.0, 0.7), (11.0, 0.9)) for name in names]
                for j in range(kinds)
            ]
        )
        sides[:, :, tidal] = 0.7 * np.exp(pulses + pumped.transpose(2, 0, 1)[:, :, net.reach[tidal]])
        at_stations = [s.key for s in self.registry.stations]

        def of_each(what: str, *octaves: tuple[float, float]) -> Floats:
            found = [wander(middle, key_of(self.seed, key, what), *octaves) for key in at_stations]
            return np.array(found).reshape(len(at_stations), steps)

        jitter = of_each("eddies", (2.5, 0.4), (0.7, 0.4), (0.25, 0.3))
        banks = np.stack([of_each(f"bank {j}", (2.5, 0.6), (0.8, 0.5), (0.3, 0.3)) for j in range(kinds)])
        both = of_each("clouds", (2.2, 0.12), (0.8, 0.12), (0.3, 0.10))
        flocs = of_each("flocs", (2.2, 0.15), (0.8, 0.15), (0.3, 0.12))
        return _Chunk(
            at_ms,
            self._heights(at_ms),
            sky.light,
            sky.balance_c,
            sky.wind,
            rain,
            weather.warmth(middle),
            (rhythm * np.exp(drift)).T,
            outside.T,
            np.exp(traffic).T,
            np.exp(fluff).T,
            sides,
            jitter.T,
            np.maximum(banks, 0.0).transpose(2, 0, 1),
            np.exp(np.stack([both, both + flocs])).transpose(2, 0, 1),
        )

    # -- one step

    def _step(self, chunk: _Chunk, i: int) -> None:
        net = self.network
        at_ms, then_ms = int(chunk.at_ms[i]), int(chunk.at_ms[i + 1])
        step_s = (then_ms - at_ms) / 1000
        middle_ms = (at_ms + then_ms) // 2
        active = [(e, shape(e, middle_ms)) for e in self.events if e.start_ms - DAY_MS < then_ms and e.end_ms > at_ms]
        active = [(e, share) for e, share in active if share > 0]
        for event, _ in active:
            if event.kind is not EventKind.GATE and event not in self._dyes:
                self._dye(event)
        self._warm_outside(chunk, i, step_s)
        inflow, load, bloom, stagnant, opened = self._sources(chunk, i, step_s, active, middle_ms)
        self._boundaries(chunk, i, active)

        level = self._levels(chunk.height[i + 1], inflow, opened, step_s)
        after = self._volumes(self._cells_level(level, chunk.height[i + 1]))
        gain = inflow - (after - self._volume) / step_s
        gain[net.mesh.fixed] = 0.0
        gain[net.upper] = self._from_above(chunk, i, step_s)
        flow = self._sums @ gain
        depth = after / (net.width_m * net.length_m)
        area = (net.width_m * depth)[net.mesh.up]
        area = np.minimum(area, (net.width_m * depth)[net.mesh.down])
        speed = np.abs(flow) / area
        exchange = net.dispersion * (0.4 + 2.0 * speed) * area / self._spacing
        exchange *= np.where(net.reach[net.mesh.up] != net.reach[net.mesh.down], opened[net.reach[net.mesh.up]], 1.0)
        content = hydraulics.carry(net.mesh, self._content, self._volume, after, flow, exchange, inflow, load, step_s)
        current = np.zeros(len(net.reach))
        current[net.mesh.up] = speed
        acts = chemistry.Weathering(
            float(chunk.light[i]),
            float(chunk.balance_c[i]),
            float(chunk.wind[i]),
            current,
            depth,
            bloom,
            stagnant,
            chunk.traffic[i][net.reach],
            chunk.fluff[i][net.reach],
        )
        waters = content[: 2 * M].reshape(2, M, -1)
        content[: 2 * M] = chemistry.react(waters, net.bed, acts, step_s, _REAL).reshape(2 * M, -1)
        content[2 * M :] *= np.exp(-step_s / 86_400 / _DYE_DAYS)
        self._content, self._volume, self._level, self._height = content, after, level, chunk.height[i + 1]
        self._outflow, self.now_ms = flow, then_ms
        self._record(chunk, i, flow, current, depth, step_s)

    def _warm_outside(self, chunk: _Chunk, i: int, step_s: float) -> None:
        rate = (0.62 + 0.2 * float(chunk.wind[i])) / np.array([6.5, 1.9]) / 86_400
        self._outside_c += step_s * rate * (float(chunk.balance_c[i]) - self._outside_c)
        self._holds = _oxygen_of(self._outside_c)

    def _from_above(self, chunk: _Chunk, i: int, step_s: float) -> float:
        """m³/s into tidal rivers at their upper end: fresh water, less what the tide stores further up."""
        season = 1 + network.SEASON_FLOW * float(chunk.warmth[i])
        fresh = network.WATER_DEFAULTS[Water.RIVER].base_flow * self.scenario.weather.flow * season
        fresh *= 1 + 0.12 * self._stored_mm
        rise = float((chunk.height[i + 1, self.network.upper] - chunk.height[i, self.network.upper]).mean()) / step_s
        return fresh - network.STORE_M2 * rise

    def _sources(
        self, chunk: _Chunk, i: int, step_s: float, active: Sequence[tuple[Event, float]], middle_ms: int
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """What enters: water (n,), its load (rows, n); where algae bloom, where the bed is hungry; open gates."""
        net = self.network
        n = len(net.reach)
        runs = self._runoff(float(chunk.rain[i]), step_s / 3600)
        spilling = self._spilling(runs, middle_ms)
        load = np.zeros((len(self._content), n))
        season = 1 + network.SEASON_FLOW * float(chunk.warmth[i])
        # the flood comes up the cleaner branches, too, and pushes their water in
        rise = np.clip((chunk.height[i + 1] - chunk.height[i]) / step_s / _FAST_TIDE, 0.0, 1.0)
        pushed = 0.1 + 2.4 * rise
        base = net.base * np.where(net.tidal, pushed * self.scenario.weather.flow * season, 1 + 0.3 * (season - 1))
        foul, salts, oxygen, phosphorus, green = (chunk.outside[i, :, j][net.reach] for j in range(5))
        content = net.base_content.copy()
        content[TEMP] = np.where(net.tidal, self._outside_c[0], self._outside_c[1])
        content[[BOD, NH]] *= np.where(net.tidal, 1.0, foul)
        content[PO] *= np.where(net.tidal, 1.0, phosphorus)
        content[EC] *= (1 - 0.10 * float(chunk.warmth[i])) * salts**0.12
        content[DO] *= oxygen**-0.15
        content[DO] *= np.where(net.tidal, self._holds[0], self._holds[1])
        content[CHL] *= (1 + 0.4 * float(chunk.warmth[i])) * green
        leak = net.leak * chunk.leak[i][net.reach]
        sewage = np.array(network.SEWAGE)
        sewage[TEMP] = 0.5 * (float(self._outside_c[1]) + 25.0)
        both = content * base + sewage[:, None] * leak
        inflow = base + leak

        if runs > 1e-4:
            self._rain_runs(runs, spilling, inflow, both, load)
        load[:M] += both
        load[M : 2 * M] += both
        self._small_creeks(chunk, i, step_s, load)

        bloom, stagnant = np.zeros(n), np.zeros(n)
        opened = np.ones(len(net.reaches))
        for event, share in active:
            if event.kind is EventKind.GATE:
                if event.closed:
                    opened[self._reach_index[event.reach]] *= 1 - share
            elif event.kind in DISCHARGES:
                self._discharge(event, share, inflow, load, step_s)
            elif event.kind is EventKind.DREDGING:
                self._dredge(event, share, load)
            elif event.kind in (EventKind.BLOOM, EventKind.LOW_OXYGEN):
                there = self._cells_of(event)
                if event.kind is EventKind.BLOOM:
                    bloom[there] = np.maximum(bloom[there], 110.0 * event.size * share)
                else:
                    stagnant[there] = np.minimum(np.maximum(stagnant[there], share * event.size), 1.0)
                dye = self._row(event)
                load[dye, there] += (share - self._content[dye, there]) * self._volume[there] / 3600
        return inflow, load, bloom, stagnant, opened

    def _ebb(self, chunk: _Chunk, i: int, step_s: float) -> Floats:
        """(n,) m/s by which the tide falls, 0 while it rises and where there is none."""
        fall = (chunk.height[i] - chunk.height[i + 1]) / step_s
        return np.asarray(np.maximum(fall, 0.0) * self.network.tidal)

    def _small_creeks(self, chunk: _Chunk, i: int, step_s: float, load: Floats) -> None:
        """What the ebb draws out of the small creeks beside tidal rivers takes the place of as much river water."""
        net = self.network
        content = self._side_content = np.array(network.SIDE_CREEKS)
        content[:, TEMP] = self._outside_c[1]
        content[:, DO] *= float(_oxygen_of(self._outside_c[1:])[0])
        content[:, CHL] *= 1 + 0.4 * float(chunk.warmth[i])
        content[:, EC] *= 1 - 0.10 * float(chunk.warmth[i])
        # in the dry months their gates are shut more often, to keep them full and, in winter, salt out
        fresh = self.scenario.weather.flow * (1 + network.SEASON_FLOW * float(chunk.warmth[i]))
        drawn = network.SIDE_SHARE * min(fresh, 1.0) ** 0.5 * net.width_m * net.length_m * self._ebb(chunk, i, step_s)
        each = drawn * net.sides * chunk.sides[i]
        brought, taken = content.T @ each, each.sum(axis=0)
        load[:M] += brought - taken * self._content[:M]
        load[M : 2 * M] += brought - taken * self._content[M : 2 * M]
        load[2 * M :] -= taken * self._content[2 * M :]

    def _cells_of(self, event: Event) -> Bools:
        """(n,) the cells an event of a whole reach happens in: with the water above it, or around its place."""
        net = self.network
        there = net.reach == self._reach_index[event.reach]
        if event.km is not None:
            cell = net.cell(event.reach, event.km)
            there &= np.abs(np.arange(len(net.reach)) - cell) <= 1
        return np.asarray(there)

    def _runoff(self, rain: float, hours: float) -> float:
        """mm/h that run off the ground, of rain in mm/h; dust gathers in dry weather and is washed away."""
        self._stored_mm += rain * _RUNOFF_SHARE * hours
        runs = float(self._stored_mm * (1 - np.exp(-hours / _RUNOFF_H)) / hours)
        self._stored_mm -= runs * hours
        self._dust += (1 - self._dust) * hours / 24 / _DUST_DAYS - self._dust * min(runs * hours / _FLUSH_MM, 1.0)
        return runs

    def _spilling(self, runs: float, at_ms: int) -> tuple[Event | None, Event | None]:
        """The rain whose water runs off now, and its overflow if the sewers are full."""
        if runs <= 1e-4:
            return None, None
        raining = [e for e in self.events if e.kind is EventKind.RAIN and e.start_ms <= at_ms < e.end_ms + DAY_MS]
        latest = max(raining, key=lambda e: e.start_ms, default=None)
        if latest is None or runs <= _SEWERS_MM_H or not self.network.combined:
            return latest, None
        return latest, self._overflow(latest, at_ms)

    def _rain_runs(
        self, runs: float, spilling: tuple[Event | None, Event | None], inflow: Floats, both: Floats, load: Floats
    ) -> None:
        """Runoff of ``runs`` mm/h enters along creeks and lakes; where sewers are combined and full, it overflows."""
        net = self.network
        water = np.array(network.RUNOFF)
        water[TEMP] = float(self._outside_c[1]) - 2.5
        water[SOLIDS] *= 0.25 + 1.75 * self._dust
        water[[BOD, PO]] *= 0.5 + self._dust
        latest, overflow = spilling
        over = max(runs - _SEWERS_MM_H, 0.0)
        for number, r in enumerate(net.reaches):
            cells = net.own[r.key]
            flow = runs / 3.6e6 * net.catchment_m2[number]
            if flow <= 0:
                continue
            spilled = over / 3.6e6 * net.catchment_m2[number] * 0.55 if number in net.combined else 0.0
            each = (flow - spilled) / len(cells)
            inflow[cells] += each
            both[:, cells] += water[:, None] * each
            if latest is not None:
                load[self._row(latest), cells] += each
            if spilled > 0 and overflow is not None:
                cell = net.combined[number]
                dirty = np.array(network.OVERFLOW)
                dirty[TEMP] = float(self._outside_c[1]) - 1.5
                dirty[SOLIDS] *= 0.5 + 1.5 * self._dust
                dirty[[BOD, NH, PO]] *= 0.7 + 0.8 * self._dust
                inflow[cell] += spilled
                load[:M, cell] += dirty * spilled
                load[M : 2 * M, cell] += water * spilled
                load[self._row(overflow), cell] += spilled

    def _overflow(self, rain: Event, at_ms: int) -> Event:
        """The overflow that ``rain`` brings, noticed at its first moment and lengthened while it lasts."""
        name = rain.name.replace(EventKind.RAIN, EventKind.OVERFLOW, 1)
        known = next((e for e in self._dyes if e.name == name), None)
        if known is None:
            known = Event(name, EventKind.OVERFLOW, at_ms, at_ms, line=rain.line)
            self._dye(known)
        started = self.occurred.get(name, known)
        self.occurred[name] = Event(name, EventKind.OVERFLOW, started.start_ms, at_ms, line=rain.line)
        return known

    def _discharge(self, event: Event, share: float, inflow: Floats, load: Floats, step_s: float) -> None:
        if event.sudden:
            self._pour(event, share, load, step_s)
            return
        cell = self.network.cell(event.reach, event.km or 0.0)
        per_size, content = _FLOW[event.kind]
        river = self.network.reaches[self._reach_index[event.reach]].water is Water.RIVER
        flow = per_size * event.size * share * (_FOR_A_RIVER if river else 1.0)
        inflow[cell] += flow
        load[:M, cell] += np.array(content) * flow
        load[M : 2 * M, cell] += self._content[M : 2 * M, cell] * flow
        load[self._row(event), cell] += flow

    def _pour(self, event: Event, share: float, load: Floats, step_s: float) -> None:
        """Bring the cells around a place at once to a share of the discharge, and back when it is over."""
        there = self._cells_of(event)
        _, content = _FLOW[event.kind]
        part = _SUDDEN_SHARE * event.size * share
        without = self._content[M : 2 * M, there]
        target = without + part * (np.array(content)[:, None] - without)
        rate = self._volume[there] * (1 - np.exp(-step_s / _SUDDEN_S)) / step_s
        load[:M, there] += rate * (target - self._content[:M, there])
        row = self._row(event)
        load[row, there] += rate * (part - self._content[row, there])

    def _dredge(self, event: Event, share: float, load: Floats) -> None:
        """Mud is stirred up: solids, and a little of what lay in it."""
        cell = self.network.cell(event.reach, event.km or 0.0)
        through = float(np.abs(self._outflow[self.network.mesh.up == cell]).sum())
        rate = share * event.size * (0.6 * through + self._volume[cell] / 7200)
        for row, amount in ((SOLIDS, 260.0), (ORGANIC, 60.0), (BOD, 6.0), (PO, 0.03), (NH, 0.12), (DO, -0.5)):
            load[row, cell] += amount * rate
        load[self._row(event), cell] += rate

    def _boundaries(self, chunk: _Chunk, i: int, active: Sequence[tuple[Event, float]]) -> None:
        """Prescribe the water beyond the ends of the network."""
        net = self.network
        warmth = float(chunk.warmth[i])
        for cells, dirty in ((net.upper, True), (net.lower, False)):
            for cell in cells.tolist():
                foul, salts, oxygen, phosphorus, _ = chunk.outside[i, net.reach[cell]].tolist()
                water = np.array(network.SEAWARD)
                if dirty:
                    clean = np.array(network.CLEAN_BRANCH)
                    more = np.full(M, foul)
                    more[[EC, DO, ALK, PO]] = salts, oxygen, salts, phosphorus
                    dirt = np.array(network.DIRTY_BRANCH) - clean
                    water = clean + more * dirt
                    water[DIC] = clean[DIC] + salts * dirt[ALK] + oxygen * (dirt[DIC] - dirt[ALK])
                water[TEMP] = self._outside_c[0]
                water[EC] *= 1 - 0.14 * warmth
                water[DO] *= self._holds[0]
                water[CHL] *= 1 + 0.4 * warmth
                water[SOLIDS] += 30.0 * min(self._stored_mm / 10, 2.0)
                self._content[:M, cell] = self._content[M : 2 * M, cell] = water
                self._content[2 * M :, cell] = 0.0
        for event, share in active:
            if event.kind is EventKind.SALT_TIDE:
                for cell in net.seaward.tolist():
                    self._content[[EC, M + EC], cell] += event.size * share
                    self._content[self._row(event), cell] = share

    def _levels(self, height: Floats, inflow: Floats, opened: Floats, step_s: float) -> Floats:
        """(reaches,) level of each after the step; tidal rivers keep what they had, their cells have the tide."""
        net = self.network
        level = self._level.copy()
        for number in self._order:
            r = net.reaches[number]
            join = self._joins[number]
            if r.water is Water.LAKE or join < 0:
                outer, hours = 0.0, _WEIR_H
            else:
                outer = float(height[join]) if net.tidal[join] else float(level[net.reach[join]])
                above = (outer - _SILL_M) / 0.15
                outer = _SILL_M + 0.15 * (above if above > 30 else float(np.log1p(np.exp(above))))
                hours = _GATE_H
            own = net.reach == number
            arriving = float(inflow[own].sum())
            into = np.flatnonzero(own[net.mesh.down] & (net.reach[net.mesh.up] != number))
            arriving += float(self._outflow[into].sum())
            surface = float((net.width_m * net.length_m)[own].sum())
            if r.water is Water.LAKE:
                outer += arriving / surface * hours * 3600 * 0.6
            moved = (1 - np.exp(-step_s / 3600 / hours)) * (outer - level[number])
            held = arriving * step_s / surface
            share = float(opened[number])
            level[number] = min(level[number] + share * moved + (1 - share) * held, _BRIM_M)
        return level

    # -- dyes and records

    def _dye(self, event: Event) -> None:
        self._dyes.append(event)
        self._content = np.concatenate([self._content, np.zeros((1, self._content.shape[1]))])

    def _fade(self) -> None:
        """Let go of dyes that are nowhere any more."""
        gone = [i for i, e in enumerate(self._dyes) if e.end_ms + DAY_MS < self.now_ms and self._faded(i)]
        if gone:
            self._content = np.delete(self._content, [2 * M + i for i in gone], axis=0)
            self._dyes = [e for i, e in enumerate(self._dyes) if i not in gone]

    def _faded(self, i: int) -> bool:
        return bool(self._content[2 * M + i].max() < _GONE)

    def _row(self, event: Event) -> int:
        for i, known in enumerate(self._dyes):
            if known.name == event.name:
                return 2 * M + i
        raise KeyError(event.name)

    def _record(self, chunk: _Chunk, i: int, flow: Floats, current: Floats, depth: Floats, step_s: float) -> None:
        net = self.network
        reach_m = net.length_m[self._low]
        share = np.clip(self._share + chunk.jitter[i] * self._eddies_m / reach_m, 0.0, 1.0)
        content = self._content
        here = content[:, self._low] * (1 - share) + content[:, self._high] * share
        waters = here[: 2 * M].reshape(2, M, -1)
        # what cells of half a kilometre do not tell: the bank has other water than the middle
        ebb = np.minimum(self._ebb(chunk, i, step_s)[self._low] / _FAST_TIDE, 1.0)
        bank = _AT_THE_BANK * (0.4 + 0.6 * ebb) * self._bank_strength * chunk.banks[i]
        for j, side in enumerate(self._side_content):
            waters += bank[j] * (side[:, None] - waters)
        waters[:, SOLIDS] *= chunk.clouds[i, 0]
        waters[:, ORGANIC] *= chunk.clouds[i, 1]
        self._upper.step(
            waters,
            net.bed.growth[self._low],
            float(chunk.light[i]),
            float(chunk.wind[i]),
            current[self._low],
            depth[self._low],
            step_s,
        )
        level = self._cells_level(self._level, self._height)[self._low]
        through = np.zeros(len(net.reach))
        through[net.mesh.up] = flow
        extra = np.stack([level, through[self._low], np.full(len(level), float(chunk.rain[i]))])
        self._recorder.add(int(chunk.at_ms[i + 1]), here[: 2 * M], extra, [e.name for e in self._dyes], here[2 * M :])


_REAL = np.array([[1.0], [0.0]])


def _oxygen_of(temp: Floats) -> Floats:
    """What more or less oxygen water of this temperature holds than at 23 °C, as a factor."""
    return np.asarray(chemistry.oxygen_full(temp, np.zeros_like(temp)) / 8.58)


def shape(event: Event, at_ms: int) -> float:
    """How much of an event's cause acts at an instant, 0…1: it rises, lasts and stops as its kind does."""
    if not event.start_ms <= at_ms < event.end_ms:
        return 0.0
    if event.kind is EventKind.RAIN:
        return 1.0
    if event.sudden:
        return float(min(1.0, (event.end_ms - at_ms) / 600_000))
    ramp_s = min(_RAMP_S.get(event.kind, 600.0), (event.end_ms - event.start_ms) / 3000)
    rising, falling = (at_ms - event.start_ms) / 1000 / ramp_s, (event.end_ms - at_ms) / 1000 / ramp_s
    return float(min(1.0, rising, falling))


def rain_mm_h(event: Event, at_ms: Ints) -> Floats:
    """(n,) intensity of a rain: most in its first third, in waves, ``size`` mm in all."""
    share = (at_ms - event.start_ms) / (event.end_ms - event.start_ms)
    inside = (share > 0) & (share < 1)
    share = np.clip(share, 0.0, 1.0)
    # the area below share·(1 − share)² is 1/12; the waves leave it as it is to within a few per cent
    wave = 12.0 * share * (1 - share) ** 2 * (1 + 0.5 * np.sin(2 * np.pi * 5 * share))
    return np.asarray(np.where(inside, wave * event.size / ((event.end_ms - event.start_ms) / HOUR_MS), 0.0))


class _Recorder:
    """State at the stations at every step, as growing arrays."""

    def __init__(self, stations: int) -> None:
        self._at = np.zeros(256, np.int64)
        self._content = np.zeros((256, 2 * M, stations))
        self._extra = np.zeros((256, 3, stations))
        self._dyes: dict[str, tuple[int, list[Floats]]] = {}
        self.strongest: dict[str, float] = {}
        self._kept: dict[tuple[int, bool], tuple[int, dict[str, Floats]]] = {}
        self._count = 0
        self._forgotten = 0

    def add(self, at_ms: int, content: Floats, extra: Floats, names: Sequence[str], dyes: Floats) -> None:
        if self._count == len(self._at):
            self._at = np.concatenate([self._at, np.zeros_like(self._at)])
            self._content = np.concatenate([self._content, np.zeros_like(self._content)])
            self._extra = np.concatenate([self._extra, np.zeros_like(self._extra)])
        self._at[self._count], self._content[self._count], self._extra[self._count] = at_ms, content, extra
        for name, row in zip(names, dyes, strict=True):
            self._dyes.setdefault(name, (self._forgotten + self._count, []))[1].append(row.copy())
            self.strongest[name] = max(self.strongest.get(name, 0.0), float(row.max(initial=0.0)))
        self._count += 1

    def forget(self, before_ms: int) -> None:
        keep = int(np.searchsorted(self._at[: self._count], before_ms))
        keep = max(min(keep, self._count - 2), 0)
        if keep < _MARGIN:
            return  # a little at a time is not worth the copying
        self._at = self._at[keep : self._count].copy()
        self._content = self._content[keep : self._count].copy()
        self._extra = self._extra[keep : self._count].copy()
        self._kept.clear()
        self._count -= keep
        self._forgotten += keep
        for name, (began, dyes) in list(self._dyes.items()):
            if began + len(dyes) <= self._forgotten:
                del self._dyes[name]
            elif began < self._forgotten:
                self._dyes[name] = (self._forgotten, dyes[self._forgotten - began :])

    def _between(self, at_ms: Ints) -> tuple[int, int]:
        known = self._at[: self._count]
        if int(at_ms.min()) < int(known[0]):
            raise ValueError(f"the water before {known[0]} ms is not known")
        low = int(np.searchsorted(known, at_ms.min(), side="right")) - 1
        return low, int(np.searchsorted(known, at_ms.max())) + 1

    def values(self, station: int, at_ms: Ints, without_events: bool) -> dict[str, Floats]:
        low, high = self._between(at_ms)
        steps = self._at[low:high]
        known = self._measured(station, low, high, without_events)
        return {key: np.interp(at_ms, steps, value) for key, value in known.items()}

    def value(self, station: int, parameter: str, at_ms: Ints, without_events: bool) -> Floats:
        low, high = self._between(at_ms)
        known = self._measured(station, low, high, without_events)[parameter]
        return np.interp(at_ms, self._at[low:high], known)

    def _measured(self, station: int, low: int, high: int, without_events: bool) -> dict[str, Floats]:
        """Measurable values at the steps from ``low`` to ``high``, cached: a table reads the same steps repeatedly."""
        wanted = (station, without_events)
        kept = self._kept.get(wanted)
        if kept is None or low < kept[0] or high > kept[0] + len(kept[1]["ph"]):
            first = max(low - _MARGIN, 0)
            rows = slice(M, 2 * M) if without_events else slice(0, M)
            known = chemistry.measured(self._content[first:high, rows, station])
            known["level"], known["flow"], known["rain"] = (self._extra[first:high, i, station] for i in range(3))
            known["level"] = known["level"] + _GAUGE_ZERO_M
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = self._kept[wanted] = first, known
        return {key: value[low - kept[0] : high - kept[0]] for key, value in kept[1].items()}

    def dyes(self, station: int, at_ms: Ints) -> dict[str, Floats]:
        found = {}
        for name, (began, rows) in self._dyes.items():
            first = max(began - self._forgotten, 0)
            values = np.array([row[station] for row in rows[max(self._forgotten - began, 0) :]])
            if len(values) and values.max() > _GONE:
                steps = self._at[first : first + len(values)]
                found[name] = np.interp(at_ms, steps, values, left=0.0, right=0.0)
        return found
