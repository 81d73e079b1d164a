"""A sensor that jumps back when somebody cleaned it was wrong before; what the water does at that hour is no proof."""

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.quality.detectors.post_visit_drift import jump_at_visit

CATALOGUE = catalogue()
HOUR, DAY = 3_600_000, 86_400_000
VISIT = 20_600 * DAY + 9 * HOUR


def readings(off: float = 0.0, *, days: int = 15, every: int = HOUR // 4) -> tuple[np.ndarray, np.ndarray]:
    """Oxygen with its day, climbing all morning; from ``days`` before a visit until six hours after it, ``off``."""
    at = np.arange(VISIT - days * DAY, VISIT + 6 * HOUR, every)
    sun = np.sin(2 * np.pi * (at / DAY - 0.3))
    noise = np.random.default_rng(1).normal(0, 0.1, len(at))
    return at, 6 + 1.5 * sun + noise + np.where(at < VISIT, off, 0.0)


def test_a_sensor_that_reads_two_mg_low_before_a_cleaning_jumps() -> None:
    size = jump_at_visit(*readings(-2.0), VISIT, VISIT + HOUR, CATALOGUE["do"])
    assert size is not None
    assert size * CATALOGUE["do"].shift == pytest.approx(2.0, abs=0.3)
    down = jump_at_visit(*readings(+2.0), VISIT, VISIT + HOUR, CATALOGUE["do"])
    assert down == pytest.approx(-size, rel=0.2)


@pytest.mark.parametrize("off", [0.0, -0.3])
def test_what_the_water_does_every_morning_and_what_nobody_would_correct_is_no_jump(off: float) -> None:
    assert jump_at_visit(*readings(off), VISIT, VISIT + HOUR, CATALOGUE["do"]) is None


def test_in_restless_water_a_jump_must_be_larger() -> None:
    at, value = readings(-2.0)
    weather = np.random.default_rng(2).normal(0, 2.0, 200)[(at - at[0]) // (4 * HOUR)]
    assert jump_at_visit(at, value + weather, VISIT, VISIT + HOUR, CATALOGUE["do"]) is None


def test_a_day_on_which_the_sensor_stepped_at_that_hour_says_nothing_of_usual_ones() -> None:
    at, value = readings()
    stepped = VISIT - 3 * DAY
    value = value + np.where((at >= stepped) & (at < VISIT), 2.0, 0.0)
    assert jump_at_visit(at, value, VISIT, VISIT + HOUR, CATALOGUE["do"]) is None, "so far once in three days"
    size = jump_at_visit(at, value, VISIT, VISIT + HOUR, CATALOGUE["do"], np.array([stepped]))
    assert size is not None
    assert size * CATALOGUE["do"].shift == pytest.approx(-2.0, abs=0.3)


def test_without_a_week_before_or_readings_after_nobody_can_tell() -> None:
    assert jump_at_visit(*readings(-2.0, days=6), VISIT, VISIT + HOUR, CATALOGUE["do"]) is None
    at, value = readings(-2.0)
    some = at < VISIT + HOUR
    assert jump_at_visit(at[some], value[some], VISIT, VISIT + HOUR, CATALOGUE["do"]) is None
    assert jump_at_visit(*readings(-2.0, every=4 * HOUR), VISIT, VISIT + HOUR, CATALOGUE["do"]) is None
    assert jump_at_visit(at[:0], value[:0], VISIT, VISIT + HOUR, CATALOGUE["do"]) is None
