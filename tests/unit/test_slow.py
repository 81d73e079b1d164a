"""What comes over hours and days: nights without oxygen, blooms, mud. Made creeks whose truth is known."""

import itertools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from infra.texts import say
from infra.times import HOUR_MS
from sensors.parameters import catalogue
from sensors.quality.constants import REMEMBERED_DAYS
from sensors.quality.detectors.slow_events import SlowEventState, detect_slow_events
from sensors.quality.events import Alarms, DiscountReason, EventCause, EventReadings, first_alarms
from sensors.quality.explanations import event_text
from sensors.reading import Floats, QualityTest
from sensors.standards.oxygen import saturation
from tests.says import shows

CATALOGUE = catalogue()
START = 1_778_544_000_000  # midnight UTC
STEP = 15 * 60_000
DAY = 96


def creek(days: float, seed: int = 1) -> dict[str, Floats]:
    """Good sensors in a creek with a daily rhythm, every day a little different."""
    rng = np.random.default_rng(seed)
    n = round(days * DAY)
    light = np.sin(2 * np.pi * np.arange(n) / DAY) * np.repeat(rng.uniform(0.8, 1.2, n // DAY + 1), DAY)[:n]
    return {
        "water_temp": 24 + light + rng.normal(0, 0.03, n),
        "ph": 7.4 + 0.1 * light + rng.normal(0, 0.01, n),
        "do": 6.0 + 1.0 * light + rng.normal(0, 0.05, n),
        "conductivity": 420 + 3 * light + rng.normal(0, 1, n),
        "turbidity": 12 + rng.normal(0, 0.5, n),
    }


def during(n: int, first: int, last: int, ramp: int) -> Floats:
    """0 before ``first``, 1 between, 0 after ``last``, with ramps of so many readings."""
    i = np.arange(n)
    return np.clip((i - first) / ramp, 0, 1) * np.clip((last - i) / ramp, 0, 1)


def sag(water: dict[str, Floats], at: int, hours: int = 10, with_ph: bool = True) -> None:
    """Oxygen sinks by 4 mg/L within three hours, and the carbon dioxide of what consumes it lowers pH."""
    shape = during(len(water["do"]), at, at + 4 * hours, 12)
    water["do"] -= 4.0 * shape
    if with_ph:
        water["ph"] -= 0.25 * shape


def alarms(
    waters: Mapping[str, Floats] | Sequence[Mapping[str, Floats]],
    cuts: tuple[int, ...] = (),
    flagged: Mapping[tuple[int, int], QualityTest] | None = None,
    again: bool = False,
) -> Alarms:
    """What is told of one or several stations, each the neighbour of the next, handed in in pieces.

    ``flagged`` instants of all sensors of the first; ``again``: what is remembered is written down and read between.
    """
    stations = [waters] if isinstance(waters, Mapping) else list(waters)
    beside = {i: [j for j in (i - 1, i + 1) if 0 <= j < len(stations)] for i in range(len(stations))}
    memory = SlowEventState()
    memory.grow(len(stations))
    n = len(next(iter(stations[0].values())))
    parts = []
    for first, last in itertools.pairwise([0, *cuts, n]):
        rows = []
        for s, water in enumerate(stations):
            for key, values in water.items():
                at = np.arange(first, last)
                tests = np.zeros(last - first, np.int64)
                for (a, b), test in (flagged or {}).items():
                    tests[(at >= a) & (at < b)] |= int(test) if s == 0 else 0
                rows.append((np.full(last - first, s), np.full(last - first, CATALOGUE.index[key]), at, values, tests))
        station, parameter, at, _, tests = (np.concatenate([r[i] for r in rows]) for i in range(5))
        value = np.round(np.concatenate([r[3][first:last] for r in rows]), 3)
        readings = EventReadings(CATALOGUE, station, parameter, START + STEP * at, value, tests)
        told = detect_slow_events(readings, memory, beside)
        memory.apply(told)
        parts.append(told.alarms)
        if again:
            written = [memory.past.frozen(i) for i in range(len(stations))]
            fresh = SlowEventState(memory.open)
            fresh.past.grow(len(stations))
            fresh.tide.grow(len(stations))
            assert all(fresh.past.restore(i, body) for i, body in enumerate(written))
            assert all(fresh.tide.restore(i, memory.tide.frozen(i)) for i in range(len(stations)))
            memory = fresh
    every = Alarms(*(np.concatenate([getattr(one, name) for one in parts]) for name in Alarms.__match_args__))
    return every.take(np.lexsort((every.at, every.station)))


def sure(found: Alarms) -> list[tuple[EventCause, float]]:
    """Cause and hour of each alarm that is not doubtful."""
    rows = np.flatnonzero(found.discount == DiscountReason.NONE).tolist()
    return [(found.meaning(i).cause, (int(found.at[i]) - START) / HOUR_MS) for i in rows]


def test_calm_days_say_nothing() -> None:
    assert len(alarms(creek(40)).at) == 0


def test_a_night_without_oxygen_is_told_within_three_hours_and_says_what_was_measured() -> None:
    water = creek(12)
    sag(water, 10 * DAY + 52)
    found = alarms(water)
    told = sure(found)
    assert {cause for cause, _ in told} == {EventCause.OXYGEN_SAG}
    assert 0 < told[0][1] - (10 * 24 + 13) < 3
    assert told[-1][1] - told[0][1] > 5, "as long as it lasts"
    said = event_text(first_alarms(found), 0)
    assert said.en.startswith(say("event.oxygen_sag").en)
    assert "dissolved oxygen down to" in said.en
    assert "pH down to" in said.en
    assert "unchanged: temperature" in said.en
    assert "溶解氧降至" in said.zh


def test_the_second_and_third_night_are_told_like_the_first() -> None:
    water = creek(14)
    for night in (10, 11, 12):
        sag(water, night * DAY + 52)
    hours = [hour for _, hour in sure(first_alarms(alarms(water)))]
    assert [int(hour // 24) for hour in hours] == [10, 11, 12]


def test_oxygen_that_sinks_alone_is_doubtful_and_says_why() -> None:
    water = creek(12)
    sag(water, 10 * DAY + 52, with_ph=False)
    found = alarms(water)
    assert sure(found) == []
    assert set(found.discount.tolist()) == {DiscountReason.LONE}
    assert found.kind(0) is EventCause.DOUBTFUL
    assert found.meaning(0).confidence <= 0.3
    assert "oxygen alone is low" in event_text(found, 0).en


def test_a_neighbour_in_which_oxygen_is_missing_too_bears_witness() -> None:
    stations = [creek(12, seed) for seed in (1, 2)]
    for water in stations:
        sag(water, 10 * DAY + 52, with_ph=False)
    found = alarms(stations)
    assert {cause for cause, _ in sure(found)} == {EventCause.OXYGEN_SAG}
    assert "neighbouring station" in event_text(found.take(np.flatnonzero(found.discount == 0)), 0).en


def test_warm_water_holds_less_oxygen_and_that_is_no_sag() -> None:
    water = creek(12)
    warmer = 9.0 * during(12 * DAY, 10 * DAY, 12 * DAY, 60)
    water["do"] *= saturation(water["water_temp"] + warmer) / saturation(water["water_temp"])
    water["water_temp"] += warmer
    water["ph"] -= 0.15 * during(12 * DAY, 10 * DAY, 12 * DAY, 60)
    assert len(alarms(water).at) == 0


def test_a_sensor_that_stands_still_says_nothing() -> None:
    water = creek(12)
    sag(water, 10 * DAY + 52)
    water["do"][10 * DAY + 62 :] = 2.5
    assert [hour for _, hour in sure(alarms(water)) if hour > 10 * 24 + 16] == []


def test_nobody_is_told_of_what_was_measured_during_a_visit_or_by_a_faulty_sensor() -> None:
    water = creek(12)
    sag(water, 10 * DAY + 52, hours=6)
    span = (10 * DAY + 40, 10 * DAY + 90)
    for test in (QualityTest.MAINTENANCE, QualityTest.DEVICE_STATUS, QualityTest.ATTENUATED):
        assert len(alarms(water, flagged={span: test}).at) == 0


def mud(water: dict[str, Floats], at: int, times: float, hours: int = 6) -> None:
    """For some hours turbidity is so many times as high."""
    water["turbidity"] *= 1 + (times - 1) * during(len(water["do"]), at, at + 4 * hours, 3)


def test_mud_at_two_stations_is_dredging_and_at_one_a_fouled_lens() -> None:
    stations = [creek(12, seed) for seed in (1, 2)]
    mud(stations[0], 10 * DAY + 30, 8)
    assert len(alarms(stations).at) == 0
    mud(stations[1], 10 * DAY + 48, 4)
    found = alarms(stations)
    assert {cause for cause, _ in sure(found)} == {EventCause.SEDIMENT}
    assert found.supported.all()
    assert min(hour for _, hour in sure(found)) > 10 * 24 + 12, "not before the second one shows it"


def test_mud_that_one_station_sees_alone_for_six_dry_hours_is_doubtful_and_says_why() -> None:
    water = creek(12)
    mud(water, 10 * DAY + 20, 8, hours=10)
    found = alarms(water)
    assert sure(found) == []
    assert {found.meaning(i).cause for i in range(len(found.at))} == {EventCause.SEDIMENT}
    assert found.kind(0) is EventCause.DOUBTFUL
    assert 5.5 < (int(found.at[0]) - START) / HOUR_MS - (10 * 24 + 5) < 7
    assert shows(event_text(found, 0).en, "event.discount_muddy")
    assert shows(event_text(found, 0).zh, "event.discount_muddy")


@pytest.mark.parametrize("why", ["four hours", "rain", "road salt", "nothing tells of rain"])
def test_mud_that_is_short_or_may_be_of_rain_is_told_to_nobody(why: str) -> None:
    water = creek(12)
    mud(water, 10 * DAY + 20, 8, hours=4 if why == "four hours" else 10)
    salt = {"rain": 0.7, "road salt": 1.6}.get(why, 1.0)
    water["conductivity"] *= 1 + (salt - 1) * during(12 * DAY, 10 * DAY + 16, 10 * DAY + 70, 4)
    if why == "nothing tells of rain":
        water.pop("conductivity")
    assert len(alarms(water).at) == 0


def test_what_rain_stirs_up_is_no_dredging() -> None:
    stations = [creek(12, seed) for seed in (1, 2)]
    for water in stations:
        mud(water, 10 * DAY + 30, 8)
        water["conductivity"] *= 1 - 0.3 * during(12 * DAY, 10 * DAY + 28, 10 * DAY + 50, 4)
    assert len(alarms(stations).at) == 0


def bloom(water: dict[str, Floats], first_day: int) -> None:
    """Day by day the algae make more oxygen by light and pH rises with it."""
    n = len(water["do"])
    day = np.clip(np.arange(n) / DAY - first_day, 0, 4)
    light = np.maximum(np.sin(2 * np.pi * np.arange(n) / DAY), 0)
    water["do"] += 2.5 * day * light
    water["ph"] += 0.35 * day * light


def test_a_bloom_is_told_on_its_second_bright_day_and_stays_on_by_night() -> None:
    water = creek(16)
    bloom(water, 11)
    told = sure(alarms(water))
    assert {cause for cause, _ in told} == {EventCause.BLOOM}
    assert 12 <= told[0][1] / 24 < 13.5
    hours = np.array([hour for _, hour in told])
    assert np.diff(hours).max() < 6, "it goes on through the nights"


def test_chlorophyll_tells_a_bloom_on_its_first_day() -> None:
    water = creek(16)
    bloom(water, 11)
    rng = np.random.default_rng(3)
    grown = 1 + 2 * np.clip(np.arange(16 * DAY) / DAY - 11, 0, 4)
    water["chla"] = 20 * grown + rng.normal(0, 0.5, 16 * DAY)
    before = sure(alarms({key: value for key, value in water.items() if key != "chla"}))[0][1]
    assert sure(alarms(water))[0][1] < before - 12


def over(water: dict[str, Floats], day: int) -> None:
    """On that day the algae are gone."""
    for key, was in creek(len(water["do"]) / DAY).items():
        water[key][day * DAY :] = was[day * DAY :]


def test_the_nights_in_which_a_bloom_rots_are_the_blooms_and_tell_nothing_new() -> None:
    water = creek(20)
    bloom(water, 11)
    over(water, 15)
    for night in (15, 16, 17):
        sag(water, night * DAY + 52)
    found = alarms(water)
    assert {cause for cause, _ in sure(found)} == {EventCause.BLOOM}
    assert max(hour for _, hour in sure(found)) / 24 > 17.5
    assert len(sure(first_alarms(found))) == 1


def test_a_first_night_without_oxygen_days_after_a_bloom_says_that_there_was_one() -> None:
    water = creek(20)
    bloom(water, 11)
    over(water, 15)
    sag(water, 18 * DAY + 52)
    found = first_alarms(alarms(water))
    bright, dark = np.flatnonzero(found.discount == 0).tolist()
    assert found.meaning(dark).cause is EventCause.BLOOM
    assert shows(event_text(found, dark).en, "event.after_bloom")
    assert shows(event_text(found, dark).zh, "event.after_bloom")
    assert not shows(event_text(found, bright).en, "event.after_bloom")


def test_nights_without_oxygen_a_week_after_a_bloom_are_a_matter_of_their_own() -> None:
    water = creek(30)
    bloom(water, 11)
    over(water, 15)
    sag(water, 23 * DAY + 52)
    assert [cause for cause, _ in sure(first_alarms(alarms(water)))] == [EventCause.BLOOM, EventCause.OXYGEN_SAG]


def test_where_ph_says_nothing_chlorophyll_and_oxygen_tell_a_bloom_on_its_second_bright_day() -> None:
    water = creek(16)
    bloom(water, 11)
    water.pop("ph")
    assert sure(alarms(water)) == []
    grown = 1 + 2 * np.clip(np.arange(16 * DAY) / DAY - 11, 0, 4)
    water["chla"] = 20 * grown + np.random.default_rng(3).normal(0, 0.5, 16 * DAY)
    told = sure(alarms(water))
    assert {cause for cause, _ in told} == {EventCause.BLOOM}
    assert 12 <= told[0][1] / 24 < 13.5


def test_an_alarm_is_as_sure_as_its_weaker_witness() -> None:
    def surest(oxygen: float, ph: float) -> float:
        water = creek(12)
        shape = during(12 * DAY, 10 * DAY + 52, 10 * DAY + 92, 12)
        water["do"] -= oxygen * shape
        water["ph"] -= ph * shape
        found = alarms(water)
        return max([found.meaning(i).confidence for i in np.flatnonzero(found.discount == 0)], default=0.0)

    assert 0.5 < surest(4.0, 0.08) < surest(4.0, 0.1) < surest(4.0, 0.3) == 0.9
    assert surest(5.5, 0.08) <= surest(4.0, 0.08)


def test_what_lasts_for_weeks_becomes_the_usual() -> None:
    water = creek(40)
    water["do"][12 * DAY :] -= 2.5
    water["ph"][12 * DAY :] -= 0.3
    told = [hour / 24 for _, hour in sure(alarms(water))]
    assert told
    assert max(told) < 12 + 2 * REMEMBERED_DAYS


def test_the_cutting_changes_nothing_nor_does_what_is_written_down_and_read_again() -> None:
    stations = [creek(13, seed) for seed in (1, 2)]
    for water in stations:
        sag(water, 10 * DAY + 52, with_ph=water is stations[0])
    mud(stations[0], 11 * DAY + 30, 8)
    mud(stations[1], 11 * DAY + 48, 4)
    bloom(stations[1], 11)
    whole = alarms(stations)
    assert {EventCause.OXYGEN_SAG, EventCause.SEDIMENT} <= {cause for cause, _ in sure(whole)}
    rng = np.random.default_rng(5)
    for again in (False, True):
        for cuts in (tuple(range(7, 13 * DAY, 11)), tuple(sorted(rng.choice(13 * DAY, 40, replace=False).tolist()))):
            cut = alarms(stations, cuts=cuts, again=again)
            for name in Alarms.__match_args__:
                np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=name)


def test_what_is_written_down_in_another_form_is_not_read() -> None:
    memory = SlowEventState()
    memory.grow(1)
    body = memory.past.frozen(0)
    assert memory.past.restore(0, body)
    other_form = zlib.compress(bytes([memory.past.FORM + 1]) + zlib.decompress(body)[1:])
    assert not memory.past.restore(0, other_form)
    assert not memory.past.restore(0, body[:-1])
    assert not memory.past.restore(0, b"")


@pytest.mark.parametrize("known", [6, 7])
def test_nothing_is_told_before_a_week_is_known(known: int) -> None:
    water = creek(10)
    sag(water, known * DAY + 52)
    assert bool(sure(alarms(water))) == (known == 7)
