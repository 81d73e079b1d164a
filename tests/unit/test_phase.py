"""A clock that was set by hours shows in when the sun warms the water of a table, and weather does not."""

import numpy as np
import pytest

from sensors.quality.detectors.clock_shift import find_clock_shifts

HOUR, DAY = 3_600_000, 86_400_000
START = 20_580 * DAY
SWING = np.array([0.8, 0.8, 0.2])
N, SET = 100, 50


def river(*, days: int = N, every: int = HOUR // 2, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Temperature, oxygen and pH of a river in changing weather: when it is warmest moves by half an hour and more."""
    rng = np.random.default_rng(seed)
    at = np.arange(START, START + days * DAY, every)
    day = (at - at[0]) / DAY
    clouds = np.interp(day, np.arange(days + 1), rng.uniform(0.5, 1.3, days + 1))
    early = np.interp(day, np.arange(days + 1), rng.normal(0, 0.5, days + 1)) / 24
    front = np.interp(day, np.arange(0, days + 6, 5), rng.normal(0, 1.0, days // 5 + 2))
    columns = [
        middle + swing * clouds * np.sin(2 * np.pi * (day - peak - early)) + rng.normal(0, 0.05 * swing, len(at))
        for middle, swing, peak in ((18.0, 1.5, 0.4), (8.0, 1.0, 0.35), (7.8, 0.2, 0.3))
    ]
    columns[0] = columns[0] + front
    return at, np.stack(columns, axis=1).round(2)


def set_by(at: np.ndarray, values: np.ndarray, hours: float, day: int = SET) -> tuple[np.ndarray, np.ndarray]:
    """The same rows once somebody set the clock: what says so twice is left out."""
    at = np.where(at >= START + day * DAY, at + round(hours * HOUR), at)
    at, first = np.unique(at, return_index=True)
    return at, values[first]


@pytest.mark.parametrize("hours", [2, -2, 8, -8, 12])
@pytest.mark.parametrize("every", [HOUR // 2, HOUR, 4 * HOUR])
def test_a_clock_that_was_set_by_hours_is_told_with_the_day_and_the_hours(hours: int, every: int) -> None:
    (found,) = find_clock_shifts(*set_by(*river(every=every), hours), SWING)
    assert abs((found.since_ms - START) / DAY - SET) <= 1
    assert (found.hours - hours + 12) % 24 - 12 == pytest.approx(0, abs=0.7)
    assert len(found.judged) >= 2


@pytest.mark.parametrize("seed", range(12))
def test_a_river_with_its_weather_sets_no_clock(seed: int) -> None:
    assert find_clock_shifts(*river(seed=seed), SWING) == []


def test_a_clock_that_was_wrong_for_two_weeks_is_told_twice() -> None:
    at, values = set_by(*river(), 8)
    found = find_clock_shifts(*set_by(at, values, -8, day=SET + 15), SWING)
    assert [round(one.hours) for one in found] == [8, -8]


def test_water_that_is_deeper_and_warms_later_is_no_clock_while_oxygen_keeps_its_hours() -> None:
    at, values = river()
    later = np.where(at >= START + SET * DAY, 6, 0)
    warm = values[np.maximum(np.arange(len(at)) - later, 0), 0]
    assert find_clock_shifts(at, np.stack([warm, values[:, 1], values[:, 2]], axis=1), SWING) == []


def test_one_kind_alone_a_day_too_small_and_a_few_days_tell_nothing() -> None:
    at, values = set_by(*river(), 8)
    assert find_clock_shifts(at, values[:, :1], SWING[:1]) == []
    assert find_clock_shifts(at, values, 20 * SWING) == []
    some = at < START + (SET + 3) * DAY
    assert find_clock_shifts(at[some], values[some], SWING) == []
    assert find_clock_shifts(at[:0], values[:0], SWING) == []
    assert find_clock_shifts(at, np.full_like(values, np.nan), SWING) == []


def test_a_month_of_pauses_between_is_no_witness() -> None:
    at, values = set_by(*river(), 8)
    away = (at >= START + (SET - 20) * DAY) & (at < START + (SET + 10) * DAY)
    assert find_clock_shifts(at[~away], values[~away], SWING) == []
