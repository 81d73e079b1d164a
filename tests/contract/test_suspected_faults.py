"""A sensor that looks faulty is told of as a device, and opens no pollution incident; polluted water opens one."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange, FindingKind
from sensors.reading import Flag, QualityTest
from tests.world import DAY, STEP, T0, World, message

DAYS, SEEN = 9, 30
"""Days of calm water before, and readings of what is tried."""
KEYS = {"water_temp": 2, "ph": 2, "do": 4, "conductivity": 1, "nh3n": 3}

Series = dict[str, np.ndarray]


def calm_water(count: int) -> Series:
    """A creek with tide, daylight and the noise of ordinary sensors, one reading in 5 minutes."""
    rng, hour = np.random.default_rng(4), np.arange(count) / 12
    sun, tide = np.sin(2 * np.pi * hour / 24), np.sin(2 * np.pi * hour / 12.42)
    return {
        "water_temp": 26 + sun + 0.02 * rng.standard_normal(count),
        "ph": 7.2 + 0.15 * sun + 0.01 * rng.standard_normal(count),
        "do": 6.5 + 1.2 * sun + 0.05 * rng.standard_normal(count),
        "conductivity": 420 + 10 * tide + 1.5 * rng.standard_normal(count),
        "nh3n": 0.7 + 0.05 * tide + 0.012 * rng.standard_normal(count),
    }


def stuck(water: Series) -> None:
    water["nh3n"][-SEEN:] = 6.512


def grams(water: Series) -> None:
    water["do"][-SEEN:] /= 1000


def acid_electrode(water: Series) -> None:
    water["ph"][-SEEN:] = 4.1 + 0.01 * np.random.default_rng(1).standard_normal(SEEN)


def sewage(water: Series) -> None:
    rise = np.minimum(np.arange(SEEN) / 6, 1)
    water["nh3n"][-SEEN:] += 6 * rise
    water["conductivity"][-SEEN:] += 300 * rise
    water["do"][-SEEN:] -= 4 * rise


def told(folder: Path, change: Callable[[Series], None]) -> World:
    world = World(folder)
    per_day = DAY // STEP
    count = DAYS * per_day + SEEN
    water = calm_water(count)
    change(water)

    def sample(i: int) -> Mapping[str, float]:
        return {key: round(float(water[key][i]), decimals) for key, decimals in KEYS.items()}

    for first in range(0, DAYS * per_day, per_day):
        world.take(message("shiwan", {T0 + i * STEP: sample(i) for i in range(first, first + per_day)}))
    for i in range(count - SEEN, count):
        world.take(message("shiwan", {T0 + i * STEP: sample(i)}))
    return world


@pytest.mark.parametrize(
    ("change", "parameter", "test"),
    [
        (stuck, "nh3n", QualityTest.FLAT_LINE),
        (grams, "do", QualityTest.UNIT_MISTAKE),
        (acid_electrode, "ph", QualityTest.JUMPED_ALONE),
    ],
)
def test_a_sensor_that_jumps_alone_is_an_incident_of_the_device_and_of_no_pollution(
    tmp_path: Path, change: Callable[[Series], None], parameter: str, test: QualityTest
) -> None:
    world = told(tmp_path, change)
    begun = T0 + DAYS * DAY
    readings = world.readings()
    packed = [readings[parameter, begun + i * STEP][1] for i in range(SEEN)]
    assert {one & 15 for one in packed} == {Flag.SUSPECT}
    assert all(one >> 4 & test for one in packed)
    (incident,) = world.incidents()
    assert (incident.kind, incident.rule, incident.parameter) == (FindingKind.DEVICE, "device-fault", parameter)
    assert incident.cause == "device:shiwan"
    assert incident.since_ms <= begun + 2 * STEP


def test_a_device_incident_is_over_once_the_sensor_is_right_again(tmp_path: Path) -> None:
    world = told(tmp_path, stuck)
    later = T0 + DAYS * DAY + SEEN * STEP
    right = [{"nh3n": 0.7 + 0.003 * i, "ph": 7.2, "water_temp": 26.0} for i in range(5)]
    changes = []
    for i, values in enumerate(right):
        outcome = world.take(message("shiwan", {later + i * STEP: values}))
        changes += [f.change for f in outcome.findings if f.rule == "device-fault"]
    assert changes == [ConditionChange.RESOLVED]
    (incident,) = world.incidents()
    assert incident.recovered_at_ms is not None


def test_it_stands_after_a_restart_in_the_middle_of_it(tmp_path: Path) -> None:
    world = told(tmp_path, grams)
    world.start()
    at = T0 + DAYS * DAY + SEEN * STEP
    world.take(message("shiwan", {at: {"do": 0.0066, "ph": 7.2, "water_temp": 26.0}}))
    assert world.readings()["do", at][1] >> 4 & QualityTest.UNIT_MISTAKE
    assert len(world.incidents()) == 1


def test_a_jump_that_lasts_counts_in_the_end_whatever_its_cause(tmp_path: Path) -> None:
    world = told(tmp_path, acid_electrode)
    begun = T0 + DAYS * DAY
    for i in range(SEEN, SEEN + 8):
        world.take(message("shiwan", {begun + i * STEP: {"ph": 4.1 + 0.01 * (i % 2), "water_temp": 26.0, "do": 6.5}}))
    assert [(i.kind, i.rule) for i in world.incidents()] == [
        (FindingKind.DEVICE, "device-fault"),
        (FindingKind.THRESHOLD, "ph-acid"),
    ]


def test_sewage_that_other_sensors_show_is_pollution(tmp_path: Path) -> None:
    world = told(tmp_path, sewage)
    causes = {(i.kind, i.parameter) for i in world.incidents()}
    assert (FindingKind.THRESHOLD, "nh3n") in causes
    assert not any(kind is FindingKind.DEVICE for kind, _ in causes)


@pytest.mark.parametrize("change", [stuck, grams, acid_electrode])
def test_a_fault_and_its_end_are_told_alike_in_one_batch_or_reading_by_reading(
    tmp_path: Path, change: Callable[[Series], None]
) -> None:
    days, count = DAYS * DAY // STEP, DAYS * DAY // STEP + SEEN
    water, faulty = calm_water(count), calm_water(count)
    change(faulty)
    samples = {}
    for i in range(count):
        source = faulty if days <= i < days + 12 else water  # an hour of it
        samples[T0 + i * STEP] = {key: round(float(source[key][i]), decimals) for key, decimals in KEYS.items()}
    times = list(samples)
    found = []
    for many in (SEEN, 1):
        (tmp_path / str(many)).mkdir()
        world = World(tmp_path / str(many))
        told = []
        for first in [*range(0, days, DAY // STEP), *range(days, count, many)]:
            end = first + (DAY // STEP if first < days else many)
            told += world.take(message("shiwan", {at: samples[at] for at in times[first:end]})).findings
        faults = [(f.change, f.since_ms, f.observed_at_ms, f.value) for f in told if f.rule == "device-fault"]
        assert [change for change, *_ in faults] == [ConditionChange.FIRED, ConditionChange.RESOLVED]
        found.append((faults, world.flags()))
    assert found[0] == found[1]
