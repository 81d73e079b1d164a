"""A lens that is overgrown, told from a flood and from water that clears by itself."""

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.constants import BELOW_ZERO, CHECK_DUE, CHECK_DUE_IF_UNVISITED, LENS_FOULED
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours
from sensors.reading import Floats, QualityTest

CATALOGUE = catalogue()
HOUR, DAY = 3_600_000, 86_400_000
START = 20_580 * DAY
N, BEGINS = 70, 50
Water = dict[str, Floats]


def water(*, lens: float = 0.0, flood: float = 0.0, seed: int = 1) -> Water:
    """Hour by hour a creek with weather of its own. From a day on its lens is lifted by ``lens`` NTU more each day, or
    a flood dirties the water by so much a day and thins the salts."""
    rng = np.random.default_rng(seed)
    day = np.arange(N * 24) / 24
    weather, others = (np.interp(day, np.arange(0, N + 4, 4), rng.normal(0, 1, N // 4 + 2)) for _ in range(2))
    sun = np.sin(2 * np.pi * day)
    since = np.clip(day - BEGINS, 0, 14)
    return {
        "turbidity": (8 + 0.8 * weather + sun + flood * since * (1 + 0.8 * sun)) * rng.lognormal(0, 0.05, N * 24)
        + lens * since,
        "conductivity": (400 + 12 * others) * np.exp(-0.03 * flood * since) + rng.normal(0, 1, N * 24),
        "ph": 7.6 + 0.05 * others + 0.2 * sun + rng.normal(0, 0.01, N * 24),
        "water_temp": 20 + weather + sun + rng.normal(0, 0.05, N * 24),
    }


def daily_tests(
    stations: list[Water], network: Neighbours = NO_NEIGHBOURS, *, hours: int = 24
) -> dict[tuple[int, str], list[int]]:
    """By station and parameter the doubts in force on each day; readings are handed in by so many hours."""
    keys = [(i, key) for i, one in enumerate(stations) for key in one]
    kinds = np.array([CATALOGUE.index[key] for _, key in keys], np.int32)
    memory = SeriesState.of(np.array([i for i, _ in keys], np.int32), kinds)
    told: dict[tuple[int, str], list[int]] = {key: [] for key in keys}
    for first in range(0, N * 24, hours):
        rows = np.tile(np.arange(first, first + hours), len(keys))
        series = np.repeat(np.arange(len(keys)), hours)
        value = np.concatenate([stations[i][key][first : first + hours] for i, key in keys])
        plain = np.full(len(rows), ord("N"), np.uint8)
        verdict = check_quality(
            SeriesReadings(series, kinds[series], START + rows * HOUR, value, plain), memory, CATALOGUE, network=network
        )
        assert not (verdict.tests & np.uint32(CHECK_DUE | LENS_FOULED | CHECK_DUE_IF_UNVISITED)).any(), (
            "it is no test, and flags nothing"
        )
        memory.apply(verdict.carried)
        if (first + hours) % 24 == 0:
            for i, key in enumerate(keys):
                told[key].append(int(memory.daily_tests[i]))
    return told


def days(told: list[int], bits: int = CHECK_DUE) -> list[int]:
    return [day for day, daily_tests in enumerate(told) if daily_tests & bits]


def test_a_lens_that_is_overgrown_makes_its_sensor_due_and_no_other() -> None:
    told = daily_tests([water(lens=1.2)])
    due = days(told[0, "turbidity"])
    assert due
    assert BEGINS + 5 <= due[0] <= BEGINS + 12
    assert all(told[0, "turbidity"][day] & LENS_FOULED for day in due)
    assert [
        key for key in told if key != (0, "turbidity") and days(told[key], CHECK_DUE | CHECK_DUE_IF_UNVISITED)
    ] == []


@pytest.mark.parametrize("flood", [0.5, 2.0, 10.0])
def test_a_flood_is_dirtier_at_some_hours_and_moves_the_salts(flood: float) -> None:
    assert not days(daily_tests([water(flood=flood)])[0, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)


def test_water_that_clears_by_itself_was_no_growth() -> None:
    clear = water(lens=1.2)
    again = BEGINS + 13
    clear["turbidity"][again * 24 :] = water()["turbidity"][again * 24 :]
    told = days(daily_tests([clear])[0, "turbidity"])
    assert told
    assert told[-1] <= again


def test_what_the_next_station_sees_as_well_is_the_water() -> None:
    both = [water(lens=1.2, seed=1), water(lens=1.0, seed=2)]
    assert days(daily_tests(both)[0, "turbidity"])
    told = daily_tests(both, {0: [1], 1: [0]})
    assert not days(told[0, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)
    assert not days(told[1, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)
    alone = daily_tests([water(lens=1.2, seed=1), water(seed=2)], {0: [1], 1: [0]})
    assert days(alone[0, "turbidity"])
    assert not days(alone[1, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)


def test_without_two_other_kinds_of_sensor_nobody_can_tell() -> None:
    one = {key: values for key, values in water(lens=1.2).items() if key in ("turbidity", "ph")}
    assert not days(daily_tests([one])[0, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)


def test_a_lift_of_half_of_what_the_month_has_seen_is_evidence_only_where_nobody_was_there_for_long() -> None:
    dirty = water(lens=1.2)
    dirty["turbidity"][22 * 24 : 27 * 24] += 20.0
    told = daily_tests([dirty])[0, "turbidity"]
    assert days(told, CHECK_DUE_IF_UNVISITED)
    assert not days(told)


@pytest.mark.parametrize("seed", range(4))
def test_weather_alone_grows_on_no_lens(seed: int) -> None:
    assert not days(daily_tests([water(seed=seed)])[0, "turbidity"], CHECK_DUE | CHECK_DUE_IF_UNVISITED)


def test_any_cutting_tells_the_same() -> None:
    stations = [water(lens=1.2, seed=1), water(seed=2)]
    line = {0: [1], 1: [0]}
    whole = daily_tests(stations, line)
    assert days(whole[0, "turbidity"])
    assert daily_tests(stations, line, hours=6) == whole
    by_weeks = daily_tests(stations, line, hours=24 * 7)
    assert by_weeks[0, "turbidity"] == whole[0, "turbidity"][6::7]


def judged(values: Floats, pieces: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Hourly readings of one turbidity sensor, cut at some places: tests, reasons of a visit, and days of an offset."""
    kind = np.array([CATALOGUE.index["turbidity"]], np.int32)
    memory = SeriesState.of(np.zeros(1, np.int32), kind)
    tests, due, offset = [], [], []
    for first, last in zip([0, *pieces], [*pieces, len(values)], strict=True):
        n = last - first
        at, letters = START + HOUR * np.arange(first, last), np.full(n, ord("N"), np.uint8)
        columns = np.zeros(n, np.int32), np.repeat(kind, n), at, values[first:last], letters
        verdict = check_quality(SeriesReadings(*columns), memory, CATALOGUE)
        memory.apply(verdict.carried)
        tests += verdict.tests.tolist()
        due += verdict.due.tolist()
        offset.append(int(memory.daily_tests[0]) & BELOW_ZERO)
    return tests, due, offset


def test_a_sensor_that_reads_below_zero_for_weeks_is_due_from_the_fourth_day_and_its_readings_are_not_flagged() -> None:
    rng = np.random.default_rng(2)
    values = 8.0 + rng.normal(0, 0.3, 60 * 24)
    values[20 * 24 : 40 * 24] -= 15.0
    values[30 * 24 : 32 * 24] += 50.0  # a flood for two days
    values[35 * 24] = -40.0
    tests, due, _ = judged(values, [])
    below = [bool(bits & BELOW_ZERO) for bits in due]
    assert [below.index(True), len(below) - below[::-1].index(True)] == [23 * 24, 45 * 24]
    assert all(below[23 * 24 : 45 * 24]), "it begins once and ends once"
    ranged = [i for i, bits in enumerate(tests) if bits & QualityTest.PLAUSIBLE_RANGE]
    assert set(range(20 * 24, 23 * 24)) <= set(ranged), "what nobody knows yet"
    assert set(ranged) <= {*range(20 * 24, 27 * 24), 35 * 24}, "until the usual size of the readings is the offset"
    assert 35 * 24 in ranged, "far below the offset"
    assert judged(values, list(range(7, len(values), 31)))[:2] == (tests, due), "however the readings come"


@pytest.mark.parametrize("lift", [-8.5, -8.0 - 2.5])
def test_clear_water_near_zero_is_no_offset_and_two_days_are_none(lift: float) -> None:
    values = 8.0 + np.random.default_rng(2).normal(0, 0.3, 40 * 24)
    days_below = 40 if lift == -8.5 else 2
    values[20 * 24 : (20 + days_below) * 24] += lift
    assert not any(bits & BELOW_ZERO for bits in judged(values, [])[1])
