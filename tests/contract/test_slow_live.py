"""Changes of hours and days in the live ingest: told once while they last, whatever the process goes through."""

from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange, Finding
from infra.texts import say
from tests.creek import DAY, RULES, STEP, after, creek, feed, firing
from tests.says import shows
from tests.world import T0, World

QUIET = 9 * DAY - 8
FROM = 9 * DAY + 52
"""In the afternoon of the tenth day oxygen begins to go."""
ONE = "[[event]]" + RULES.split("[[event]]")[1]
"""One rule alone: what becomes more urgent would be told again."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, text=ONE)
    assert feed(world, creek(11 * DAY), 0, QUIET, at_once=96) == []
    world.database.close()
    return folder


def night() -> dict[str, np.ndarray]:
    """Within four hours oxygen sinks by 4 mg/L and pH with it, so evenly that no two hours are strange."""
    water = creek(11 * DAY)
    i = np.arange(len(water["do"]))
    gone = np.clip((i - FROM) / 16, 0, 1) * np.clip((FROM + 44 - i) / 16, 0, 1)
    water["do"] -= 4.0 * gone
    water["ph"] -= 0.25 * gone
    return water


def told(world: World, restarts: int = 0, at_once: int = 4) -> list[Finding]:
    """The day before, the night and the day after it; the site begins anew after so many pieces."""
    found: list[Finding] = []
    for n, first in enumerate(range(QUIET, 11 * DAY, at_once)):
        found += feed(world, night(), first, min(11 * DAY, first + at_once), at_once=1)
        if restarts and n % restarts == restarts - 1:
            world.start()
    return found


def test_a_night_without_oxygen_is_told_while_it_lasts_and_then_ends(before: Path, tmp_path: Path) -> None:
    first, last = told(after(before, tmp_path, ONE))
    assert (first.change, last.change) == (ConditionChange.FIRED, ConditionChange.RESOLVED)
    assert not first.retrospective
    hours = (first.observed_at_ms - T0) / STEP / 4 - FROM / 4
    assert 0 < hours <= 4
    assert shows(first.text.en, "finding.event_slow")
    assert first.headline is not None
    assert first.headline.matter == say("event.oxygen_sag")
    oxygen = first.headline.rows[0]
    assert oxygen.parameter == "do"
    assert oxygen.value is not None
    assert oxygen.before is not None
    assert oxygen.value < oxygen.before
    assert (last.observed_at_ms - T0) / STEP > FROM + 44 + 10, "it did not end while oxygen was missing"


def test_restarts_change_nothing_that_is_told(before: Path, tmp_path: Path) -> None:
    whole = told(after(before, tmp_path / "whole", ONE))
    assert told(after(before, tmp_path / "often", ONE), restarts=3) == whole


def test_a_night_in_a_buffer_that_comes_late_is_told_of_its_own_time(before: Path, tmp_path: Path) -> None:
    live, _ = told(after(before, tmp_path / "live", ONE))
    world = after(before, tmp_path / "late", ONE)
    water, first, last = night(), FROM - 12, FROM + 80
    assert feed(world, water, QUIET, first) + feed(world, water, last, last + 3, at_once=1) == []
    found = feed(world, water, first, last, at_once=last - first)
    assert [(f.change, f.retrospective) for f in found] == [
        (ConditionChange.FIRED, True),
        (ConditionChange.RESOLVED, True),
    ]
    assert abs(found[0].observed_at_ms - live.observed_at_ms) <= 4 * STEP
    assert firing(world) == []
