"""Sudden changes of the water in the live ingest: told once, with reasons, ended by the water and not by silence."""

from pathlib import Path

import numpy as np
import pytest

from governance.finding import Change, Finding, Kind
from ingest.checks.events import RULE
from tests.contract.test_pipeline import T0, World, message

STEP = 15 * 60_000
DAY = 96


def creek(n: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Quiet days of a creek: a daily rhythm of temperature and oxygen, and the noise of good sensors."""
    rng = np.random.default_rng(seed)
    light = np.sin(2 * np.pi * np.arange(n) / DAY)
    return {
        "water_temp": 22 + light + rng.normal(0, 0.03, n),
        "ph": 7.4 + 0.1 * light + rng.normal(0, 0.01, n),
        "do": 6.5 + 0.8 * light + rng.normal(0, 0.05, n),
        "conductivity": 420 + 3 * light + rng.normal(0, 1, n),
        "turbidity": 12 + rng.normal(0, 0.5, n),
    }


def discharge(water: dict[str, np.ndarray], at: int, hours: int = 4) -> None:
    """Sewage: saltier, turbid, and the oxygen goes."""
    n = len(water["ph"])
    shape = np.exp(-np.maximum(np.arange(n) - at, 0) / (hours * 2)) * (np.arange(n) >= at)
    water["conductivity"] += 150 * shape
    water["do"] -= 4 * shape
    water["turbidity"] += 60 * shape


def feed(world: World, water: dict[str, np.ndarray], first: int, last: int, at_once: int = 8) -> list[Finding]:
    told: list[Finding] = []
    for start in range(first, last, at_once):
        rows = range(start, min(last, start + at_once))
        values = {T0 + i * STEP: {key: round(float(v[i]), 3) for key, v in water.items()} for i in rows}
        told += world.take(message("shiwan", values), now=max(values) + 1000).findings
    return [f for f in told if f.kind is Kind.EVENT]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_discharge_is_told_once_with_its_reasons_and_ends_when_the_water_is_calm(world: World) -> None:
    water = creek(8 * DAY)
    discharge(water, 6 * DAY)
    assert feed(world, water, 0, 6 * DAY) == []
    told = feed(world, water, 6 * DAY, 8 * DAY, at_once=1)
    assert [f.change for f in told] == [Change.FIRED, Change.RESOLVED]
    first, last = told
    assert (first.rule, first.station, first.retrospective) == (RULE, "shiwan", False)
    assert 0 <= first.observed_at_ms - (T0 + 6 * DAY * STEP) <= 2 * STEP
    assert "sewage" in first.text.en
    assert "conductivity up" in first.text.en
    assert "oxygen down" in first.text.en
    assert last.observed_at_ms - first.observed_at_ms > 6 * 3_600_000


def test_silence_ends_no_event(world: World) -> None:
    water = creek(8 * DAY)
    discharge(water, 6 * DAY)
    feed(world, water, 0, 6 * DAY + 4)
    at = T0 + (6 * DAY + 4) * STEP
    world.site.tick(at, at + 86_400_000)
    assert (RULE, "shiwan", "") in world.site.history.checks.alarms


def test_a_restart_before_and_within_an_event_changes_nothing_that_is_told(tmp_path: Path) -> None:
    water = creek(8 * DAY)
    discharge(water, 6 * DAY)
    told = []
    for restarts in (False, True):
        folder = tmp_path / str(restarts)
        folder.mkdir()
        world = World(folder)
        findings = []
        for first in range(0, 8 * DAY, 40):
            findings += feed(world, water, first, min(8 * DAY, first + 40))
            if restarts:
                world.site.refresh()
        told.append(findings)
    assert [f.id for f in told[0]] == [f.id for f in told[1]]
    assert len(told[0]) == 2
    assert told[0] == told[1]


def test_one_broken_sensor_raises_no_event(world: World) -> None:
    water = creek(8 * DAY)
    water["conductivity"][6 * DAY : 6 * DAY + 20] = 2000.0
    water["do"][7 * DAY] = 0.3
    assert feed(world, water, 0, 8 * DAY) == []
