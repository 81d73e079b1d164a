"""The simulated water behaves like water: mass, tide, light and pollution, and nothing depends on how it is asked."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from ingest.rules.upstream import OpenExceedance, River
from sensors.parameters import catalogue
from sensors.registry_toml import read
from sensors.standards.oxygen import saturation
from sensors.stations import Registry, Station, Water
from simulator import showcase, truth
from simulator.devices.sensor_faults import SENSORS
from simulator.physics import chemistry, network, tide
from simulator.physics.hydraulics import Mesh, carry
from simulator.physics.surface_layer import Upper
from simulator.physics.world import World
from simulator.scenario import Event, EventKind, Scenario, along_km

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAY = 1_778_428_800_000  # 2026-05-11, midnight in Beijing
SITE = read((Path(__file__).parents[2] / "config" / "stations.toml").read_text(encoding="utf-8"), catalogue())
RIVER = "dongpinghe-shiwan"


def scenario(days: float = 1, *events: Event, spin_up: float = 1.5, start_ms: int = MAY) -> Scenario:
    return Scenario("test", "", "", "", "", start_ms, days, spin_up_days=spin_up, events=events)


def some(*keys: str) -> Registry:
    """Some stations of the site, all of its water."""
    return replace(SITE, stations=tuple(SITE[key] for key in keys))


def every(step_s: int, days: float, start_ms: int = MAY) -> np.ndarray:
    return np.arange(start_ms, start_ms + round(days * DAY_MS), step_s * 1000, dtype=np.int64)


@lru_cache(maxsize=1)
def ordinary() -> World:
    """Fifteen days on which nothing happens."""
    world = World(SITE, scenario(15, spin_up=3.0), seed=3)
    world.advance(MAY + 15 * DAY_MS)
    return world


# -- transport -------------------------------------------------------------------------------------------------------


def test_a_pulse_in_a_uniform_channel_spreads_as_the_analytical_solution_says():
    cells, dx, area, speed, dispersion = 400, 100.0, 50.0, 0.3, 20.0
    x = (np.arange(cells) + 0.5) * dx

    def pulse(seconds: float) -> np.ndarray:
        spread = 4 * dispersion * seconds
        return np.exp(-((x - 5000 - speed * (seconds - 1800)) ** 2) / spread) / np.sqrt(np.pi * spread) * 1000

    content, volume = pulse(1800)[None], np.full(cells, dx * area)
    flow, exchange = np.full(cells - 1, speed * area), np.full(cells - 1, dispersion * area / dx)
    inflow = np.zeros(cells)
    inflow[0] = speed * area
    for _ in range(200):
        after = volume.copy()
        after[-1] += 300 * speed * area  # the last cell takes what arrives
        content = carry(
            Mesh(np.array([*range(1, cells), -1])),
            content,
            volume,
            after,
            flow,
            exchange,
            inflow,
            np.zeros((1, cells)),
            300.0,
        )
        volume = after
    expected = pulse(1800 + 200 * 300)
    assert np.abs(content[0] - expected).max() < 0.02 * expected.max()
    assert x[content[0].argmax()] == pytest.approx(5000 + 0.3 * 60_000, abs=dx)


def test_mass_is_conserved_through_junctions_and_turning_flow_and_nothing_uniform_changes():
    world = World(some("dph-shiwan-1"), scenario(), seed=1)
    net = world.network
    random = np.random.default_rng(5)
    n, faces = len(net.reach), len(net.mesh.up)
    mesh = replace(net.mesh, fixed=np.zeros(0, np.intp))  # closed: nothing is prescribed anywhere
    content = random.uniform(0, 10, (3, n))
    content[2] = 7.0
    volume = random.uniform(8e5, 2e6, n)
    before = (content * volume).sum(axis=1)
    for _ in range(100):
        flow, exchange = random.normal(0, 60, faces), random.uniform(0, 20, faces)
        after = volume + 300 * mesh.gather(flow)
        assert after.min() > 0
        content = carry(mesh, content, volume, after, flow, exchange, np.zeros(n), np.zeros((3, n)), 300.0)
        volume = after
    assert (content * volume).sum(axis=1) == pytest.approx(before, rel=1e-9)
    assert content[2] == pytest.approx(np.full(n, 7.0), rel=1e-9)
    assert content[:2].min() >= 0, "nothing becomes negative"


def test_what_a_discharge_brings_in_is_in_the_water_afterwards():
    event = Event("brine", EventKind.BRINE, MAY, MAY + HOUR_MS, 1.0, "shiwan-lake", 0.2)
    world = World(some("shiwan-lake-1"), scenario(1, event, spin_up=1.0), seed=1)
    world.advance(MAY + 2 * HOUR_MS)
    lake = world.network.own["shiwan-lake"]
    salt, without = (
        world._content[row, lake] @ world._volume[lake] for row in (chemistry.EC, len(chemistry.TRACERS) + chemistry.EC)
    )
    # 0.06 m³/s for an hour, less 100 s of rise and fall in steps of 300 s; the twin gets the water that is there
    assert salt - without == pytest.approx(0.06 * (3600 - 100) * (42_000 - 320), rel=0.005)


# -- the tide --------------------------------------------------------------------------------------------------------


def test_the_level_has_its_peak_at_12_42_hours_with_unequal_highs_and_spring_tides():
    at_ms = every(600, 59)
    level = tide.height(at_ms)
    spectrum = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level)), 16 * len(level)))
    period_h = 1 / np.fft.rfftfreq(16 * len(level), 1 / 6)[1:]
    assert period_h[spectrum[1:].argmax()] == pytest.approx(12.42, abs=0.05)
    daily = level.reshape(59, 144)
    height = daily.max(axis=1) - daily.min(axis=1)
    assert height.max() > 1.35 * height.min(), "spring tides are larger than neap tides"
    inner = level[1:-1]
    high = inner[(inner > level[:-2]) & (inner >= level[2:])]
    assert np.abs(np.diff(high)).mean() > 0.05, "the two highs of a day differ"
    assert (np.diff(level) > 0).mean() < 0.47, "inland the flood is shorter and steeper than the ebb"
    at_ms = every(600, 4)
    gauge = ordinary().value("dph-shiwan-4", "level", at_ms)
    assert np.corrcoef(gauge, tide.height(at_ms, 0.3))[0, 1] > 0.95


def test_the_river_turns_with_the_tide_and_stations_upstream_have_it_later():
    at_ms = every(60, 3)
    world = ordinary()
    flow = world.value("dph-shiwan-2", "flow", at_ms)
    assert flow.min() < -200
    assert flow.max() > 200
    assert flow.mean() > 0
    upper, lower = (world.value(key, "level", at_ms) for key in ("dph-shiwan-1", "dph-shiwan-4"))
    later = [np.corrcoef(upper[lag:], lower[: len(lower) - lag])[0, 1] for lag in range(90)]
    assert 20 <= int(np.argmax(later)) <= 60


def test_a_closed_gate_keeps_the_tide_out():
    event = Event("gate", EventKind.GATE, MAY, MAY + 12 * HOUR_MS, 1.0, "fengshouchong", closed=True)
    world = World(some("fsc-gate"), scenario(1, event, spin_up=1.0), seed=1)
    at_ms = every(300, 1)
    flow = world.value("fsc-gate", "flow", at_ms)
    shut = (at_ms > MAY + HOUR_MS) & (at_ms < MAY + 11 * HOUR_MS)
    assert np.abs(flow[shut]).max() < 0.15 * np.abs(flow[at_ms > MAY + 13 * HOUR_MS]).max()


# -- light and chemistry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("station", ["qcc-huanhu-2", "shiwan-lake-1", "fsc-1"])
def test_oxygen_and_ph_are_lowest_before_dawn_and_highest_in_the_afternoon(station):
    at_ms = every(600, 15)
    hour = ((at_ms / HOUR_MS + 8) % 24).astype(int)
    for key in ("do", "ph"):
        values = ordinary().value(station, key, at_ms)
        mean = np.array([values[hour == h].mean() for h in range(24)])
        assert 4 <= mean.argmin() <= 8, key
        assert 14 <= mean.argmax() <= 18, key


def test_oxygen_never_exceeds_what_saturation_and_light_allow():
    at_ms = every(600, 15)
    for station in SITE.stations:
        found = ordinary().series(station.key, at_ms)
        assert found["do"].min() >= 0
        most = 1.0 if station.water is Water.RIVER else 1.5  # algae in creeks and lakes can bring more
        assert (found["do"] <= most * saturation(found["water_temp"]) + 0.1).all(), station.key


RIVERS = ("dph-shiwan-1", "dph-shiwan-2", "dph-shiwan-3", "dph-shiwan-4", "fjh-1", "fjh-2")


def test_at_a_tidal_station_the_ebb_brings_dirty_water():
    for key in ("dph-shiwan-1", "dph-shiwan-2", "dph-shiwan-3"):
        v = ordinary().series(key, every(600, 15))
        low, high = (v["level"] < np.quantile(v["level"], q) for q in (0.15, 0.85))
        ratio = v["nh3n"][low].mean() / v["nh3n"][~high].mean()
        assert 1.1 <= ratio <= 2.2, "low to high water (domain facts §7.2: 1.2 to 2.2)"


@pytest.mark.parametrize(
    ("one", "other", "least", "most"),
    [
        ("do", "ph", 0.8, 0.99),
        ("do", "conductivity", -0.93, -0.5),
        ("do", "nh3n", -0.82, -0.35),
        ("turbidity", "tp", 0.65, 0.93),
        ("conductivity", "nh3n", -0.2, 0.75),
        ("turbidity", "codmn", 0.4, 0.85),
        ("do", "tp", -0.65, -0.1),
    ],
)
def test_parameters_go_together_as_far_as_at_a_real_station_and_no_further(one, other, least, most):
    found = []
    for key in RIVERS:  # five days of four-hourly values at a time, as 平洲 is known (domain facts §7.1)
        v = ordinary().series(key, every(4 * 3600, 15))
        found += [np.corrcoef(v[one][i : i + 30], v[other][i : i + 30])[0, 1] for i in (0, 30, 60)]
    assert least < np.median(found) < most


def test_the_tide_moves_oxygen_about_as_far_as_at_a_real_station():
    found = []
    for key in RIVERS:
        oxygen = ordinary().value(key, "do", every(4 * 3600, 15)).reshape(3, 30)
        found.append(oxygen.std(axis=1).mean())
    assert 0.55 < np.median(found) < 0.95, "mg/L within five days: 0.80 at 平洲 (domain facts §7.1)"


@pytest.mark.parametrize("station", RIVERS)
def test_oxygen_of_a_river_varies_between_an_hour_and_ten_too(station):
    oxygen = ordinary().value(station, "do", every(900, 15))
    spectrum = np.fft.rfft(oxygen - oxygen.mean())
    period_h = 1 / np.maximum(np.fft.rfftfreq(len(oxygen), 0.25), 1e-9)
    spectrum[(period_h < 1) | (period_h > 10)] = 0
    assert np.fft.irfft(spectrum, len(oxygen)).std() > 0.06


def test_the_upper_layer_warms_in_a_calm_noon_and_the_current_mixes_it_in_again():
    def after(hours: float, light: float, current: float, upper: Upper) -> np.ndarray:
        for _ in range(round(hours * 12)):
            waters = np.tile(np.array(network.DIRTY_BRANCH)[None, :, None], (2, 1, 1))
            upper.step(waters, np.full(1, 2.0), light, 0.1, np.full(1, current), np.full(1, 6.0), 300.0)
        return waters[0, :, 0] - np.array(network.DIRTY_BRANCH)

    upper = Upper(1)
    calm = after(2, 0.9, 0.05, upper)
    assert 0.2 < calm[chemistry.TEMP] < 1.5
    assert 0.01 < calm[chemistry.DO] < 0.5
    assert calm[chemistry.DIC] < 0
    gone = after(1, 0.9, 0.8, upper)
    assert gone[chemistry.TEMP] < 0.4 * calm[chemistry.TEMP]
    assert after(4, 0.0, 0.8, upper)[chemistry.TEMP] < 0.01


def test_without_pollution_no_creek_comes_near_the_end_of_class_five():
    for station in SITE.stations:
        if station.water is Water.CREEK:
            assert ordinary().value(station.key, "nh3n", every(600, 15)).max() < 1.9, station.key


def test_ordinary_water_stays_within_believable_ranges():
    expected = {
        Water.RIVER: {"nh3n": (0.1, 1.6), "do": (2.0, 8), "conductivity": (250, 520), "turbidity": (8, 350)},
        Water.CREEK: {"nh3n": (0.3, 1.9), "do": (2.0, 9.5), "conductivity": (280, 700), "turbidity": (8, 200)},
        Water.LAKE: {"nh3n": (0.01, 0.6), "do": (4, 12), "chla": (5, 90)},
    }
    at_ms = every(1800, 15)
    for station in SITE.stations:
        found = ordinary().series(station.key, at_ms)
        for key, (low, high) in expected[station.water].items():
            assert low <= found[key].min() <= found[key].max() <= high, (station.key, key)
        for key, series in found.items():
            low, high = catalogue()[key].plausible
            assert low <= series.min() <= series.max() <= high, (station.key, key)


def test_summer_is_warm_and_winter_is_cool():
    july, january = (
        World(some("dph-shiwan-2"), scenario(1, spin_up=2.0, start_ms=start), seed=3)
        for start in (MAY + 70 * DAY_MS, MAY + 250 * DAY_MS)
    )
    assert july.value("dph-shiwan-2", "water_temp", every(3600, 1, MAY + 70 * DAY_MS)).mean() > 28
    assert january.value("dph-shiwan-2", "water_temp", every(3600, 1, MAY + 250 * DAY_MS)).mean() < 18


def test_ph_follows_the_carbonate_balance():
    temp, alk = np.full(3, 25.0), np.full(3, 2.0)
    neutral, airy, acid = (float(chemistry.ph(temp, a, d)[0]) for a, d in ((alk, alk + 0.2), (alk, alk), (-alk, alk)))
    assert 7.2 < neutral < 7.5
    assert 8.0 < airy < 8.7
    assert 2.4 < acid < 3.2
    assert float(chemistry.ph(temp, alk + 3, alk)[0]) > 10


# -- events ----------------------------------------------------------------------------------------------------------


def test_a_plume_comes_later_and_weaker_downstream():
    event = Event("sewage", EventKind.SEWAGE, MAY + HOUR_MS, MAY + 4 * HOUR_MS, 1.0, "qichachong-huanhu", 1.1)
    world = World(some("qcc-huanhu-2", "qcc-huanhu-3"), scenario(1, event), seed=2)
    at_ms = every(300, 1)
    first, second = (
        world.value(key, "nh3n", at_ms) - world.value(key, "nh3n", at_ms, without_events=True)
        for key in ("qcc-huanhu-2", "qcc-huanhu-3")
    )
    assert first.max() > 1.3 * second.max() > 0.5
    assert (first > 0.1 * first.max()).argmax() < (second > 0.1 * second.max()).argmax()
    assert not first[at_ms < event.start_ms].any(), "before it begins, both waters are the same"
    assert first[-1] < 0.1 * first.max(), "and it goes away"
    oxygen = world.value("qcc-huanhu-2", "do", at_ms) - world.value("qcc-huanhu-2", "do", at_ms, without_events=True)
    assert oxygen.min() < -0.4, "by the hour of the tide 0.4 to 0.9 mg/L"


def test_a_plume_comes_upstream_when_the_tide_turns():
    reach = next(r for r in SITE.reaches if r.key == RIVER)
    km = along_km(reach, SITE["dph-shiwan-2"].lon, SITE["dph-shiwan-2"].lat) + 1.5  # below the station
    at_ms = every(300, 1)
    flow = World(some("dph-shiwan-2"), scenario(), seed=2).value("dph-shiwan-2", "flow", at_ms)
    turns = int(np.flatnonzero((flow[:-1] > 0) & (flow[1:] <= 0))[0])
    start_ms = int(at_ms[turns]) - 2 * HOUR_MS  # released on the ebb
    event = Event("brine", EventKind.BRINE, start_ms, start_ms + HOUR_MS, 1.0, RIVER, km)
    dye = World(some("dph-shiwan-2"), scenario(1, event), seed=2).marked("dph-shiwan-2", at_ms)["brine"]
    ebbing = (at_ms > start_ms) & (at_ms < at_ms[turns])
    assert dye[ebbing].max() < 0.2 * dye.max()
    came = at_ms[(dye > 0.5 * dye.max()).argmax()]
    assert at_ms[turns] < came < at_ms[turns] + 7 * HOUR_MS


def test_rain_alone_dilutes_and_a_storm_makes_the_combined_sewers_overflow():
    light = Event("rain-1", EventKind.RAIN, MAY + 2 * HOUR_MS, MAY + 8 * HOUR_MS, 10.0)
    storm = replace(light, size=60.0, end_ms=MAY + 5 * HOUR_MS)
    stations = some("qcc-huanhu-2", "mdc-2", "qicha-sponge-2")
    at_ms = every(300, 1)
    dry, wet = World(stations, scenario(1, light), seed=2), World(stations, scenario(1, storm), seed=2)
    usual = World(stations, scenario(), seed=2)
    assert not dry.series("mdc-2", at_ms)["nh3n"].max() > 1.3 * usual.value("mdc-2", "nh3n", at_ms).max()
    assert not dry.occurred
    got, ordinary_ = wet.series("qcc-huanhu-2", at_ms), usual.series("qcc-huanhu-2", at_ms)
    assert [e.kind for e in wet.occurred.values()] == [EventKind.OVERFLOW]
    assert got["nh3n"].max() > 2 * ordinary_["nh3n"].max()
    assert got["turbidity"].max() > 3 * ordinary_["turbidity"].max()
    runoff = wet.value("qicha-sponge-2", "conductivity", at_ms)
    assert runoff.min() < 0.7 * usual.value("qicha-sponge-2", "conductivity", at_ms).min()
    assert got["do"].min() < ordinary_["do"].min() - 0.8


def test_a_salt_tide_raises_conductivity_alone():
    winter = MAY + 245 * DAY_MS
    event = Event("salt", EventKind.SALT_TIDE, winter, winter + 2 * DAY_MS, 9000.0)
    dry = replace(scenario(2, event, start_ms=winter), weather=replace(scenario().weather, flow=0.25))
    world = World(some("dph-shiwan-4"), dry, seed=2)
    calm = World(some("dph-shiwan-4"), replace(dry, events=()), seed=2)
    at_ms = every(600, 2, winter)
    salted, fresh = world.series("dph-shiwan-4", at_ms), calm.series("dph-shiwan-4", at_ms)
    assert salted["conductivity"].max() > 2500
    assert salted["nh3n"] == pytest.approx(fresh["nh3n"], rel=0.05)


def test_a_bloom_swings_more_from_day_to_day():
    summer = MAY + 84 * DAY_MS
    event = Event("bloom", EventKind.BLOOM, summer, summer + 5 * DAY_MS, 1.0, "shiwan-lake")
    world = World(some("shiwan-lake-1"), scenario(5, event, start_ms=summer), seed=2)
    found = world.series("shiwan-lake-1", every(600, 5, summer))
    swing = np.ptp(found["do"].reshape(5, -1), axis=1)
    assert swing[3] > 1.6 * swing[0]
    assert found["ph"].max() > 8.8
    assert found["chla"].max() > 80
    assert (found["do"] / saturation(found["water_temp"])).max() > 1.2


# -- chance and time -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_river_and_another_seed_another():
    at_ms = every(900, 0.5)
    one, same, other = (
        World(some("qcc-huanhu-2"), scenario(spin_up=0.5), seed=seed).series("qcc-huanhu-2", at_ms)
        for seed in (1, 1, 2)
    )
    for key in ("do", "nh3n", "turbidity", "water_temp"):
        assert np.array_equal(one[key], same[key])
        assert not np.array_equal(one[key], other[key])


def test_asking_second_by_second_gives_what_asking_at_once_gives():
    event = Event("sewage", EventKind.SEWAGE, MAY + HOUR_MS, MAY + 2 * HOUR_MS, 1.0, "qichachong-huanhu", 1.1)
    at_ms = every(70, 0.25)
    whole, pieces = (World(some("qcc-huanhu-2"), scenario(1, event, spin_up=0.5), seed=5) for _ in range(2))
    at_once = whole.value("qcc-huanhu-2", "nh3n", at_ms)
    one_by_one = []
    for at in at_ms:
        one_by_one.append(pieces.value("qcc-huanhu-2", "nh3n", np.array([at]))[0])
        pieces.forget(at - HOUR_MS)
    assert one_by_one == pytest.approx(at_once, rel=1e-12)


def test_stations_on_no_reach_have_water_too():
    registry = Registry(
        stations=tuple(Station(f"s-{kind}", "站", "s", 113.1, 23.0, water=kind) for kind in Water),
        catalogue=catalogue(),
    )
    world = World(registry, scenario(spin_up=0.5), seed=1)
    for station in registry.stations:
        assert world.value(station.key, "do", every(3600, 0.5)).min() > 1


# -- the demo --------------------------------------------------------------------------------------------------------


def test_the_demo_shows_5_mg_of_ammonia_at_qichachong_within_25_seconds_and_takes_it_back():
    start = MAY + 7 * DAY_MS + 123_000
    happening = showcase.live(SITE, start)
    assert [e.reach for e in happening] == ["qichachong-huanhu"] * 3
    world = World(some("qcc-huanhu-1"), replace(showcase.history(SITE, start, 0.2, 1)), seed=1, step_s=600)
    world.advance(start - 1_200_000)
    world.refine(showcase.LIVE_STEP_S)
    for event in happening:
        world.add(event)
    at_ms = np.arange(start, start + 1_800_000, 1000)
    nh3n = world.value("qcc-huanhu-1", "nh3n", at_ms)
    assert nh3n[:5].max() < 3
    assert nh3n[25] > 5
    assert nh3n[25:400].min() > 5
    assert nh3n[-1] < 3


def test_the_demos_registry_says_that_its_water_is_as_fast_as_it_comes() -> None:
    site, start = showcase.shortened(SITE), MAY
    came = [e.start_ms for e in showcase.live(site, start)]
    above = OpenExceedance("one", "qcc-huanhu-1", "nh3n", came[0], None)
    for key, since_ms in zip(("qcc-huanhu-2", "qcc-huanhu-3"), came[1:], strict=True):
        found = River(site).explain(site[key], "nh3n", since_ms, [above], since_ms)
        assert found is not None, "one discharge, one incident"
        assert found.by == above


def test_the_demo_finds_the_upper_end_of_the_creek_whatever_the_order_of_the_registry():
    shuffled = replace(SITE, stations=tuple(reversed(SITE.stations)))
    assert showcase.live(shuffled, MAY)[0].km == showcase.live(SITE, MAY)[0].km


def test_a_registry_without_qichachong_has_its_discharge_at_the_first_station():
    registry = replace(SITE, stations=(SITE["fsc-1"], SITE["shiwan-lake-1"]))
    assert [e.reach for e in showcase.live(registry, MAY)] == ["fengshouchong"]


# -- the truth about it ----------------------------------------------------------------------------------------------


class _GivenTruth:
    """Water of which is known what it would be with a discharge and without: so much more ammonia at each reading."""

    def __init__(self, more: list[float]) -> None:
        self.more = np.array(more)
        self.events = (Event("sewage", EventKind.SEWAGE, 0, 1, 1.0, "qichachong-huanhu", 1.1),)
        self.occurred: dict[str, Event] = {}

    def marked(self, station: str, at_ms: np.ndarray) -> dict[str, np.ndarray]:
        return {"sewage": (self.more > 0).astype(float)}

    def strongest(self, name: str) -> float:
        return 1.0

    def series(self, station: str, at_ms: np.ndarray, *, without_events: bool = False) -> dict[str, np.ndarray]:
        return {"nh3n": 1.0 + self.more * (not without_events)}


@pytest.mark.parametrize(("readings", "step_min", "passages"), [(1, 5, 0), (5, 5, 0), (6, 5, 1), (1, 240, 1)])
def test_what_shows_for_less_than_half_an_hour_is_no_passage_of_an_event(readings, step_min, passages):
    apparent = SENSORS["nh3n"].apparent
    more = [0.0] * 4 + [1.1 * apparent] * readings + [0.0] * 4
    at_ms = MAY + 60_000 * step_min * np.arange(len(more))
    found = truth.happened(_GivenTruth(more), SITE["qcc-huanhu-1"], at_ms, ["nh3n"])
    assert len(found.passages) == passages
    assert found.event.sum() == readings * passages
