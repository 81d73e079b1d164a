"""Tidal water is compared with itself at equal phase of the tide. Made rivers whose truth is known."""

import numpy as np
import pytest

from infra.texts import say
from infra.times import DAY_MS
from sensors.quality.detectors.tide import MIN_TIDAL_SHARE, TidalDays, TidalHours, tidal_share, without_tidal_salt
from sensors.quality.events import TIDAL_CONFIDENCE, Alarms, EventCause, EventReadings, first_alarms
from sensors.quality.explanations import event_text
from sensors.reading import Floats
from tests.unit.test_slow import CATALOGUE, DAY, START, alarms, during, sure

DAYS = 24
BEGUN = [0, 0, 0, 1], [1, 2, 4, 1], [False, True, False, False]
"""Station, day and verdict: the first one was tidal on its second and third day."""


def wave(days: int, period_h: float, phase: float = 0.0) -> Floats:
    return np.cos(2 * np.pi * (START / 3_600_000 + np.arange(days * DAY) / 4) / period_h - phase)


def estuary(days: int = DAYS, seed: int = 1, level: str = "level") -> dict[str, Floats]:
    """Good sensors where each tide moves oxygen by 3 mg/L and pH by 0.8, springs more than neaps."""
    rng = np.random.default_rng(seed)
    n = days * DAY
    tide = wave(days, 12.4206) + 0.3 * wave(days, 12.0) + 0.3 * wave(days, 25.8193)
    return {
        "water_temp": 24 + rng.normal(0, 0.03, n),
        "ph": 7.6 + 0.3 * tide + rng.normal(0, 0.01, n),
        "do": 6.0 + 1.2 * tide + 0.3 * wave(days, 24.0) + rng.normal(0, 0.05, n),
        "conductivity": 20_000 + 6_000 * tide + rng.normal(0, 50, n),
        level: 1.5 + 0.8 * tide + rng.normal(0, 0.01, n),
    }


def slack(sign: float) -> int:
    """The reading three hours before high water (``sign`` 1) or low water of the twenty-second day."""
    level = wave(DAYS, 12.4206)[21 * DAY : 21 * DAY + DAY // 2]
    return 21 * DAY + int((sign * level).argmax()) - 12


def discharge(water: dict[str, Floats], key: str, size: float, first: int) -> None:
    """For six hours a sensor departs by ``size``."""
    water[key] -= size * during(DAYS * DAY, first, first + 24, 6)


def test_the_tide_itself_says_nothing() -> None:
    assert len(alarms(estuary(40)).at) == 0


@pytest.mark.parametrize("gauge", ["level", "depth"])
@pytest.mark.parametrize(("sign", "cause"), [(1, EventCause.ACID), (-1, EventCause.ALKALI)])
def test_an_acid_that_the_next_ebb_would_hide_is_told_at_equal_phase(gauge: str, sign: int, cause: EventCause) -> None:
    water = estuary(level=gauge)
    first, usual = slack(sign), (water["ph"].min(), water["ph"].max())
    discharge(water, "ph", 0.45 * sign, first)
    assert usual[0] < water["ph"][first : first + 24].min() < water["ph"][first : first + 24].max() < usual[1]
    found = first_alarms(alarms(water))
    told = sure(found)
    assert [one for one, _ in told] == [cause]
    assert 0 < told[0][1] - first / 4 < 5
    assert found.meaning(0).confidence == TIDAL_CONFIDENCE
    assert say("event.tidal").en in event_text(found, 0).en
    assert say("event.tidal").zh in event_text(found, 0).zh


def test_an_acid_is_told_by_a_sensor_that_shows_tenths_and_the_same_for_an_hour() -> None:
    water = estuary()
    discharge(water, "ph", 0.9, slack(1))
    water["ph"] = np.round(np.repeat(water["ph"][::4], 4), 1)
    assert [cause for cause, _ in sure(first_alarms(alarms(water)))] == [EventCause.ACID]


def test_oxygen_that_is_missing_for_hours_at_equal_phase_is_told() -> None:
    water = estuary()
    discharge(water, "do", 3.5, slack(1))
    assert [cause for cause, _ in sure(first_alarms(alarms(water)))] == [EventCause.OXYGEN_SAG]


@pytest.mark.parametrize("gauge", ["none", "calm", "twelve hours of the sun", "a flood"])
def test_where_no_gauge_shows_a_tide_one_sensor_alone_is_not_told(gauge: str) -> None:
    water = estuary()
    rng = np.random.default_rng(7)
    level = {
        "calm": rng.normal(0, 0.01, DAYS * DAY),
        "twelve hours of the sun": 0.8 * wave(DAYS, 12.0) + rng.normal(0, 0.01, DAYS * DAY),
        "a flood": 2.0 * during(DAYS * DAY, 12 * DAY, 16 * DAY, 2 * DAY) + rng.normal(0, 0.01, DAYS * DAY),
    }
    water.pop("level")
    if gauge in level:
        water["level"] = 1.5 + level[gauge]
    discharge(water, "ph", 0.7, slack(1))
    assert sure(alarms(water)) == []


def test_a_sensor_that_stands_still_while_the_tide_goes_on_says_nothing() -> None:
    water = estuary()
    first = slack(-1)
    water["ph"][first:] = water["ph"][first]
    assert sure(alarms(water)) == []


def test_the_cutting_of_tidal_water_changes_nothing_nor_does_what_is_written_down_and_read_again() -> None:
    water = estuary()
    discharge(water, "ph", 0.7, slack(1))
    whole = alarms(water)
    assert whole.alone.any()
    for again, cuts in ((False, tuple(range(7, DAYS * DAY, 37))), (True, tuple(range(11, DAYS * DAY, 101)))):
        cut = alarms(water, cuts=cuts, again=again)
        for name in Alarms.__match_args__:
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=name)


def test_a_week_of_levels_must_be_known() -> None:
    water, state = estuary(9), TidalHours()
    state.grow(1)
    row, shares = np.array([0]), []
    for day in range(9):
        state.begin_day(row, np.array([1]), day)
        state.gauge[0, -24:] = water["level"][day * DAY : (day + 1) * DAY : 4]
        state.close_day(row, np.array([day]))
        shares.append(float(tidal_share(state.sums)[0]))
    assert shares[:6] == [0.0] * 6
    assert min(shares[8:]) > MIN_TIDAL_SHARE


def test_salt_that_rises_is_left_out_of_sudden_events_where_the_day_before_was_known_to_be_tidal() -> None:
    salt, ph = CATALOGUE.index["conductivity"], CATALOGUE.index["ph"]
    days = TidalDays.of(TidalHours(), np.empty(0, np.int64), [TidalDays(*(np.array(one) for one in BEGUN))])
    station = np.array([0, 0, 0, 0, 0, 1])
    at = np.array([2, 3, 3, 3, 5, 3]) * DAY_MS
    parameter = np.array([salt, salt, salt, ph, salt, salt])
    move = np.array([4.0, 4.0, -4.0, 4.0, 4.0, 4.0])
    still = np.zeros(len(at), np.int64)
    left = without_tidal_salt(EventReadings(CATALOGUE, station, parameter, at, move, still, move), days)
    assert np.isnan(left.move).tolist() == [False, True, False, False, False, False]
