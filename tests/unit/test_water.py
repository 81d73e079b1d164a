"""The simulated river behaves like one, and the truth about it can be computed again at any time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.stationfile import read
from sensors.stations import Registry, Station, Water
from simulator import discharge as pollution
from simulator import water
from simulator.discharge import Arrival, Discharge

DAY_MS = 86_400_000
JUNE = 1_780_243_200_000  # 2026-05-31T16:00Z, midnight in Beijing
RIVER = Station("river", "东平河", "river", 113.06, 23.0, water=Water.RIVER)
CREEK = Station("creek", "奇槎涌", "creek", 113.15, 23.01, water=Water.CREEK)
LAKE = Station("lake", "石湾公园湖", "lake", 113.08, 23.0, water=Water.LAKE)
CHANCHENG = Path(__file__).parents[2] / "config" / "stations.toml"


@pytest.fixture(scope="module")
def chancheng() -> Registry:
    return read(CHANCHENG.read_text(encoding="utf-8"), catalogue())


def days(n: float, step_s: int = 600, start_ms: int = JUNE) -> np.ndarray:
    return np.arange(start_ms, start_ms + round(n * DAY_MS), step_s * 1000, dtype=np.int64)


def beijing_hour(at_ms: np.ndarray) -> np.ndarray:
    return (at_ms / 3_600_000 + 8) % 24


def mean_day(station: Station, key: str, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each hour of the day over 60 days, which leaves no tide in it."""
    at_ms = days(60)
    values, hour = water.series(station, at_ms, seed=seed)[key], beijing_hour(at_ms).astype(int)
    return np.arange(24), np.array([values[hour == h].mean() for h in range(24)])


def test_the_same_seed_gives_the_same_river_and_another_seed_another():
    at_ms = days(2)
    one, same, other = (water.series(CREEK, at_ms, seed=seed) for seed in (1, 1, 2))
    for key in one:
        assert np.array_equal(one[key], same[key])
        assert not np.array_equal(one[key], other[key])


@pytest.mark.parametrize("station", [RIVER, CREEK, LAKE])
def test_cutting_the_time_axis_changes_nothing(station):
    at_ms = days(3, step_s=420)
    whole = water.series(station, at_ms, seed=5)
    shuffled = np.random.default_rng(0).permutation(len(at_ms))
    pieces = [water.series(station, at_ms[i : i + 1], seed=5) for i in range(40)]
    for key, values in whole.items():
        assert np.array_equal(values[:40], np.concatenate([piece[key] for piece in pieces]))
        assert np.array_equal(values[shuffled], water.series(station, at_ms[shuffled], seed=5)[key])


@pytest.mark.parametrize("station", [CREEK, LAKE])
def test_oxygen_and_ph_are_lowest_before_dawn_and_highest_in_the_afternoon(station):
    for key in ("do", "ph"):
        hours, values = mean_day(station, key)
        assert 4 <= hours[values.argmin()] < 7
        assert 14 <= hours[values.argmax()] < 17


def test_the_tide_comes_every_12_hours_and_25_minutes_with_unequal_highs_and_spring_tides():
    at_ms = days(59, step_s=600)
    level = water.series(RIVER, at_ms, seed=3)["level"]
    spectrum = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level))))
    period_h = 1 / np.fft.rfftfreq(len(level), 1 / 6)[1:]
    assert period_h[spectrum[1:].argmax()] == pytest.approx(12.42, abs=0.06)

    height = water.tide(at_ms, RIVER.lon)
    high = height[1:-1][(height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:])]
    assert np.abs(np.diff(high)).mean() > 0.05, "the two highs of a day differ"
    daily_range = height.reshape(-1, 144).max(axis=1) - height.reshape(-1, 144).min(axis=1)
    assert daily_range.max() > 1.5 * daily_range.min(), "spring tides are larger than neap tides"


def test_stations_upstream_have_the_tide_later():
    at_ms = days(2, step_s=60)
    west, east = water.tide(at_ms, 113.05), water.tide(at_ms, 113.15)
    later = [np.corrcoef(west[lag:], east[: len(east) - lag])[0, 1] for lag in range(90)]
    assert 20 <= int(np.argmax(later)) <= 50


def test_at_a_tidal_station_oxygen_falls_while_conductivity_and_ammonia_rise():
    values = water.series(RIVER, days(14, step_s=300), seed=3)
    assert np.corrcoef(values["do"], values["conductivity"])[0, 1] < -0.5
    assert np.corrcoef(values["do"], values["nh3n"])[0, 1] < -0.4
    assert np.corrcoef(values["level"], values["nh3n"])[0, 1] < -0.4
    assert np.corrcoef(values["do"], values["ph"])[0, 1] > 0.5
    assert np.corrcoef(values["turbidity"], values["tp"])[0, 1] > 0.6


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_ordinary_water_stays_within_believable_ranges_all_year(chancheng, seed):
    expected = {
        Water.RIVER: {"nh3n": (0.3, 1.0), "do": (4.0, 7.0), "conductivity": (270, 480), "turbidity": (10, 160)},
        Water.CREEK: {"nh3n": (0.8, 1.8), "do": (3.0, 6.5), "conductivity": (350, 700), "turbidity": (10, 40)},
        Water.LAKE: {"nh3n": (0.1, 0.6), "do": (5.0, 11.0), "chla": (5, 60)},
    }
    at_ms = days(365, step_s=1800)
    for station in chancheng.stations:
        values = water.series(replace(station, parameters=()), at_ms, seed=seed)
        for key, (low, high) in expected[station.water].items():
            assert low <= values[key].min(), (station.key, key)
            assert values[key].max() <= high, (station.key, key)
        for key, series in values.items():
            low, high = catalogue()[key].plausible
            assert low <= series.min() <= series.max() <= high, (station.key, key)


def test_summer_is_warm_and_winter_is_cool():
    july, january = (water.series(RIVER, days(10, start_ms=JUNE + n * DAY_MS), seed=3) for n in (50, 230))
    assert july["water_temp"].mean() > 28
    assert january["water_temp"].mean() < 17


def test_a_lake_holds_more_oxygen_where_it_has_more_algae():
    values = water.series(LAKE, days(60), seed=3)
    oxygen, algae = (values[key].reshape(-1, 144).mean(axis=1) for key in ("do", "chla"))
    assert np.corrcoef(oxygen, algae)[0, 1] > 0.3


def test_noise_is_smooth_and_neighbours_in_time_are_alike():
    nh3n = water.series(CREEK, days(1, step_s=60), seed=3)["nh3n"]
    assert np.abs(np.diff(nh3n)).max() < 0.06
    assert np.corrcoef(nh3n[:-1], nh3n[1:])[0, 1] > 0.9


def test_a_probe_read_every_five_seconds_does_not_look_stuck():
    values = water.series(RIVER, days(0.5, step_s=5), seed=3)
    for key in ("water_temp", "ph", "do", "conductivity", "level"):
        changes = np.flatnonzero(np.diff(values[key]) != 0)
        assert np.diff(changes).max() < 30, key


def test_values_carry_the_decimals_of_the_catalogue_and_only_what_the_station_measures():
    station = replace(CREEK, parameters=("ph", "nh3n", "rain"))
    values = water.series(station, days(1), seed=3)
    assert list(values) == ["ph", "nh3n"]
    assert np.array_equal(values["ph"], np.round(values["ph"], 2))
    assert np.array_equal(values["nh3n"], np.round(values["nh3n"], 3))


def discharged(station: str, at_ms: np.ndarray, discharge: Discharge) -> dict[str, np.ndarray]:
    ordinary = water.series(replace(CREEK, key=station), at_ms, seed=3)
    return pollution.apply(ordinary, station, at_ms, [discharge])


def test_a_discharge_raises_ammonia_above_5_lowers_oxygen_and_goes_away_again():
    at_ms = days(1, step_s=60)
    start_ms = JUNE + 6 * 3_600_000
    discharge = Discharge("creek", start_ms, ramp_s=600, hold_s=7200, decay_s=1800)
    before, after = water.series(CREEK, at_ms, seed=3), discharged("creek", at_ms, discharge)
    full = (at_ms >= start_ms + 600_000) & (at_ms <= start_ms + 7_800_000)
    assert after["nh3n"][full].min() > 5
    assert after["nh3n"].max() < 9
    assert (before["do"] - after["do"])[full] == pytest.approx(2.8, abs=0.02)
    assert (after["do"] >= 0.3).all()
    assert (after["conductivity"] / before["conductivity"])[full] == pytest.approx(1.3, abs=0.01)
    assert (after["turbidity"] / before["turbidity"])[full] == pytest.approx(2.0, abs=0.02)
    assert (after["codmn"] > before["codmn"])[full].all()
    assert (after["tp"] > before["tp"])[full].all()
    assert (after["orp"] < before["orp"])[full].all()
    assert np.array_equal(after["water_temp"], before["water_temp"])
    assert np.array_equal(after["nh3n"][at_ms < start_ms], before["nh3n"][at_ms < start_ms])
    assert after["nh3n"][-1] == pytest.approx(before["nh3n"][-1], abs=0.01)


def test_a_discharge_reaches_the_station_below_later_and_weaker_and_no_other():
    at_ms = days(1, step_s=60)
    discharge = Discharge("a", JUNE + 3_600_000, 300, 3600, 900, downstream=(Arrival("b", 2400, 0.5),))
    at_a, at_b, at_c = (discharge.strength(key, at_ms) for key in ("a", "b", "c"))
    assert at_ms[at_b > 0][0] - at_ms[at_a > 0][0] == 2_400_000
    assert at_b.max() == pytest.approx(0.5 * at_a.max())
    assert (np.diff(at_b).max() / at_b.max()) < (np.diff(at_a).max() / at_a.max()), "it arrives more gradually"
    assert not at_c.any()
    a, b = (discharged(key, at_ms, discharge)["nh3n"] for key in ("a", "b"))
    assert a.max() > b.max() > 3


def test_the_demo_shows_5_mg_of_ammonia_at_qichachong_within_25_seconds_and_one_in_the_past(chancheng):
    for seed in range(5):
        past, live = pollution.demo_scenario(chancheng, JUNE, seed, live_ms=JUNE + 60_000)
        assert past.station == live.station == "qcc-huanhu-1"
        assert [a.station for a in live.downstream] == ["qcc-huanhu-2", "qcc-huanhu-3"]
        station = chancheng[live.station]
        for offset in range(0, 5000, 500):  # wherever the interval of 5 s happens to fall
            at_ms = np.arange(JUNE + 60_000 + offset, JUNE + 85_001, 5000)
            values = pollution.apply(water.series(station, at_ms, seed=seed), station.key, at_ms, [past, live])
            assert values["nh3n"][0] < 2
            assert values["nh3n"].max() > 5
        assert live.hold_s >= 180
        history = days(14, step_s=900, start_ms=JUNE - 14 * DAY_MS)
        polluted = history[past.strength(past.station, history) > 0.5]
        assert -6 * DAY_MS < polluted[0] - JUNE < polluted[-1] - JUNE < -4 * DAY_MS
        assert 1.5 <= (polluted[-1] - polluted[0]) / 3_600_000 <= 2.5


def test_the_demo_finds_the_upper_end_of_the_creek_whatever_the_order_of_the_registry(chancheng):
    shuffled = replace(chancheng, stations=tuple(reversed(chancheng.stations)))
    assert pollution.demo_scenario(shuffled, JUNE, 0)[1].station == "qcc-huanhu-1"


def test_a_registry_without_qichachong_has_its_discharge_at_the_first_station():
    past, live = pollution.demo_scenario(Registry(stations=(RIVER, LAKE)), JUNE, 0)
    assert past.station == live.station == "river"
    assert not live.downstream
