"""Forecasts: what the interval holds, when one is shown, and that nothing of it comes from the future."""

import numpy as np
import pytest

from infra.times import HOUR_MS
from sensors import forecast as fc
from sensors.forecast import Verdict
from sensors.reading import Floats

DAYS = 45
N = DAYS * 24
END_MS = 20_000 * 24 * HOUR_MS


def tidal(seed: int, n: int, noise: float = 0.25) -> Floats:
    """Oxygen of a tidal river by the hour: M2, S2, O1, the day, and a memory of some hours."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    value = 5 + 0.9 * np.cos(2 * np.pi * t / 12.4206) + 0.3 * np.cos(2 * np.pi * t / 12 + 1)
    value += 0.2 * np.cos(2 * np.pi * t / 25.8193) + 0.5 * np.sin(2 * np.pi * t / 24)
    memory = np.zeros(n)
    for i in range(1, n):
        memory[i] = 0.85 * memory[i - 1] + noise * rng.normal()
    return value + memory


def walk(seed: int, n: int = N) -> Floats:
    return 20 + np.cumsum(np.random.default_rng(seed).normal(size=n)) * 0.2


def held(series: Floats) -> tuple[float, float]:
    """The share of truths inside the interval over many issues, and the error beside that of persistence."""
    inside, ours, still = [], [], []
    for end in range(N, series.shape[1] - 24, 31):
        for row, one in enumerate(fc.forecasts(series[:, end - N : end], END_MS, 1)):
            truth = series[row, end : end + 24]
            inside.append(((truth >= one.low[:24]) & (truth <= one.high[:24])).mean())
            ours.append(np.abs(truth - one.value[:24]).mean())
            still.append(np.abs(truth - one.last).mean())
    return float(np.mean(inside)), float(np.sum(ours) / np.sum(still))


def test_the_interval_holds_four_of_five_truths_of_a_tidal_river():
    series = np.stack([tidal(seed, N + 30 * 24) for seed in range(4)])
    share, ratio = held(series)
    assert 0.72 <= share <= 0.88
    assert ratio < 0.5


def test_a_tidal_river_is_shown_and_the_tide_is_in_it():
    series = tidal(3, N + 48, noise=0.05)
    one = fc.forecasts(series[None, :N], END_MS, 1)[0]
    assert one.skill.verdict is Verdict.SHOWN
    assert 0.72 <= one.skill.coverage <= 0.9
    assert one.at[0] == END_MS + HOUR_MS // 2
    assert np.abs(one.value[:24] - series[N : N + 24]).mean() < 0.2


def test_a_forecast_whose_interval_held_too_little_of_late_is_not_shown():
    series = tidal(3, N, noise=0.05)
    lately = slice(-14 * 24, None)
    series[lately] = series.mean() + 3 * (series[lately] - series.mean())  # the tide is three times as large now
    one = fc.forecasts(series[None], END_MS, 1)[0]
    assert one.skill.ratio < fc.MAX_ERROR_RATIO
    assert one.skill.coverage < fc.MIN_COVERAGE
    assert (one.skill.verdict, len(one.at)) == (Verdict.NARROW, 0)


def test_a_random_walk_is_not_shown():
    verdicts = [one.skill.verdict for seed in range(20) for one in fc.forecasts(walk(seed)[None], END_MS, 1)]
    assert verdicts.count(Verdict.SHOWN) <= 1  # one in twenty is what the test of its gain allows
    assert Verdict.NO_SKILL in verdicts


def test_what_comes_later_changes_nothing_that_was_forecast_before():
    series = np.stack([tidal(1, N), walk(1)])
    whole = fc.hindcast(series, END_MS, 1)
    cut = fc.hindcast(series[:, : N - 10 * 24], END_MS - 10 * 24 * HOUR_MS, 1)
    same = cut.value.shape[1]
    np.testing.assert_allclose(whole.value[:, :same], cut.value, rtol=1e-9)
    day = DAYS - 12
    for a, b in zip(fc.intervals(whole, day), fc.intervals(cut, day), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    spoiled = series.copy()
    spoiled[:, N - 12 :] = 1e3  # half a day: what was fitted in the morning does not know the afternoon
    assert np.array_equal(fc.hindcast(spoiled, END_MS, 1).value[:, : N - 12], whole.value[:, : N - 12], equal_nan=True)


def test_missing_readings_cost_little_and_make_nothing_up():
    rng = np.random.default_rng(5)
    series = tidal(5, N + 24, noise=0.05)
    holes = series[:N].copy()
    holes[rng.random(N) < 0.3] = np.nan
    holes[300:420] = np.nan  # five days without a sensor
    holes[-1] = series[N - 1]
    one = fc.forecasts(holes[None], END_MS, 1)[0]
    assert one.skill.shown
    assert np.abs(one.value[:24] - series[N:]).mean() < 0.25


def test_a_sensor_dead_for_hours_gives_no_forecast_and_says_so():
    series = tidal(6, N)
    series[-6:] = np.nan
    one = fc.forecasts(series[None], END_MS, 1)[0]
    assert one.skill.verdict is Verdict.STALE
    assert len(one.at) == 0


@pytest.mark.parametrize(
    ("series", "verdict"),
    [
        (np.full(N, np.nan), Verdict.SPARSE),
        (np.full(N, 7.0), Verdict.CONSTANT),
        (np.where(np.arange(N) < N - 9 * 24, np.nan, tidal(1, N)), Verdict.SHORT),
    ],
)
def test_a_series_that_cannot_be_forecast_says_why(series, verdict):
    one = fc.forecasts(series[None], END_MS, 1)[0]
    assert one.skill.verdict is verdict
    assert not one.skill.shown
    assert len(one.at) == 0


def test_an_analyser_of_six_results_a_day_is_forecast_on_its_own_steps():
    t = np.arange(0, DAYS * 24 + 24, 4)
    series = tidal(7, N + 24, noise=0.05)[::4]
    assert fc.spacing_h(t * HOUR_MS) == 4
    one = fc.forecasts(series[None, :-6], END_MS, 4)[0]
    assert one.skill.shown
    assert np.diff(one.at).min() == 4 * HOUR_MS
    assert np.abs(one.value[:6] - series[-6:]).mean() < 0.2


def test_the_interval_widens_after_a_restless_day_and_holds_as_often_as_after_a_calm_one():
    rng = np.random.default_rng(4)
    n, restless = N + 60 * 24, np.repeat(rng.random(45 + 60) < 0.3, 24)
    restless = np.maximum(restless, np.roll(restless, 24))  # for two days at a time, or more
    memory = np.zeros(n)
    for i in range(1, n):
        memory[i] = 0.85 * memory[i - 1] + (0.5 if restless[i] else 0.1) * rng.normal()
    series = tidal(4, n, noise=0.01) + memory
    found = fc.hindcast(series[None], END_MS, 1)
    held: dict[bool, list[float]] = {True: [], False: []}
    for day in range(45, len(series) // 24 - 1):
        low, high = fc.intervals(found, day)
        error = found.scaled[0, day * 24, : fc.DAY_LEADS_H]
        inside = (error >= low[0, : len(error)]) & (error <= high[0, : len(error)])
        held[bool(restless[day * 24 - 1])].append(inside.mean())
    assert abs(np.mean(held[True]) - np.mean(held[False])) < 0.1
    assert np.mean(held[True]) > 0.72


def test_where_the_theta_method_is_as_good_nothing_is_shown():
    t = np.arange(0, DAYS * 24, 4)  # nothing to know but the mean day
    series = 1 + 0.4 * np.sin(2 * np.pi * t / 24) + 0.05 * np.random.default_rng(7).normal(size=len(t))
    one = fc.forecasts(series[None], END_MS, 4)[0]
    assert one.skill.ratio < 0.5
    assert one.skill.ratio_theta > 1.0
    assert one.skill.verdict is Verdict.NO_SKILL


def test_a_grid_holds_the_mean_of_each_hour_and_nothing_of_later():
    at = np.array([0, 10, 70, 80, 130]) * 60_000
    found = fc.grid(at, np.array([1.0, 3.0, 5.0, np.nan, 9.0]), 2 * HOUR_MS, 1, days=1)
    assert len(found) == 24
    assert found[-2:].tolist() == [2.0, 5.0]
    assert np.isnan(found[:-2]).all()


def test_readings_a_day_apart_are_too_sparse():
    assert fc.spacing_h(np.arange(10) * 24 * HOUR_MS) is None
    assert fc.spacing_h(np.array([5])) is None
    assert fc.spacing_h(np.arange(100) * 300_000) == 1


def test_a_grid_of_part_days_is_refused():
    with pytest.raises(ValueError, match="no whole days"):
        fc.hindcast(np.zeros((1, 25)), END_MS, 1)
    with pytest.raises(ValueError, match="5 h"):
        fc.hindcast(np.zeros((1, 24)), END_MS, 5)


def rising() -> fc.Forecast:
    """From 1 at the issue to 4 and no further, an interval of one either way."""
    at = END_MS + (np.arange(1, 7) - 0.5) * HOUR_MS
    value = np.array([1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    worth = fc.Skill(0.5, 0.6, 0.8, 30, Verdict.SHOWN)
    return fc.Forecast(END_MS, 1, END_MS - HOUR_MS // 2, 1.0, at.astype(np.int64), value, value - 1, value + 1, worth)


def test_the_time_to_a_limit_has_an_interval_of_its_own():
    found = fc.crossing(rising(), 2.75, above=True)
    assert found is not None
    assert found.expected_h == pytest.approx(3.0)
    assert found.earliest_h == pytest.approx(1.0, abs=0.1)
    assert found.latest_h == pytest.approx(5.0)
    assert fc.crossing(rising(), 9.0, above=True).expected_h is None
    assert fc.crossing(rising(), 4.5, above=True).earliest_h is not None


def test_a_limit_that_is_crossed_already_is_no_forecast():
    assert fc.crossing(rising(), 0.5, above=True) is None
    assert fc.crossing(rising(), 2.0, above=False) is None


def test_a_concentration_is_never_forecast_below_nothing():
    series = np.maximum(tidal(8, N) - 5, 0.0)
    one = fc.forecasts(series[None], END_MS, 1, lowest=[0.0])[0]
    assert len(one.at)
    assert one.low.min() == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_on_its_fourteenth_day_a_series_has_no_forecast_whose_width_nobody_knows(seed: int) -> None:
    """It beat persistence on the seven days that could be tried, too few to say how far off it may be."""
    rng, n = np.random.default_rng(seed), 24 * 14
    wander = np.zeros(n)
    for i in range(1, n):
        wander[i] = 0.9 * wander[i - 1] + 0.3 * rng.standard_normal()
    values = 20 + 2 * np.sin(2 * np.pi * np.arange(n) / 24) + wander
    (found,) = fc.forecasts(values[None], 1_778_544_000_000, 1)
    assert len(found.at) > 0 or not found.skill.shown
