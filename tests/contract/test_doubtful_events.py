"""A doubtful event in the live ingest: its incident becomes one about the water or one about a device."""

from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from tests.creek import DAY, STEP, after, creek, feed
from tests.says import shows
from tests.world import T0, World, message

RULES = """
[[event]]
id = "event"
colour = "yellow"

[[event]]
id = "event-doubtful"
kinds = ["doubtful"]
colour = "blue"
"""
QUIET, END = 9 * DAY - 8, 11 * DAY + 48
FROM = 9 * DAY + 52


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, text=RULES)
    assert feed(world, creek(END), 0, QUIET, at_once=96) == []
    world.database.close()
    return folder


def water(key: str, hours: int = 11) -> dict[str, np.ndarray]:
    """One sensor alone shows something for so many hours, within four hours and back."""
    found = creek(END)
    i = np.arange(END)
    shape = np.clip((i - FROM) / 16, 0, 1) * np.clip((FROM + 4 * hours - i) / 16, 0, 1)
    found[key] = found[key] - 4.0 * shape if key == "do" else found[key] * (1 + 7 * shape)
    return found


def told(
    world: World, key: str, at_once: int = 1, restarts: int = 0, now: int | None = None, hours: int = 11
) -> list[Finding]:
    found: list[Finding] = []
    rows = water(key, hours)
    for n, first in enumerate(range(QUIET, END, at_once)):
        values = {
            T0 + i * STEP: {name: round(float(v[i]), 3) for name, v in rows.items()}
            for i in range(first, min(END, first + at_once))
        }
        found += world.take(message("shiwan", values), now=now or max(values) + 1000).findings
        if restarts and n % restarts == restarts - 1:
            world.start()
    return [f for f in found if f.rule.startswith("event")]


def test_oxygen_that_goes_as_no_sensor_does_becomes_an_event_of_the_water(before: Path, tmp_path: Path) -> None:
    world = after(before, tmp_path, RULES)
    doubtful, event, *over = told(world, "do")
    assert (doubtful.rule, event.rule) == ("event-doubtful", "event")
    assert {f.change for f in over} == {ConditionChange.RESOLVED}
    assert shows(event.text.zh, "event.doubt_confirmed", hours=3)
    (incident,) = world.incidents()
    assert (incident.kind, incident.rule, incident.colour) == (FindingKind.EVENT, "event", Colour.YELLOW)


def test_mud_that_nothing_confirms_becomes_a_device_to_be_checked(before: Path, tmp_path: Path) -> None:
    world = after(before, tmp_path, RULES)
    findings = told(world, "turbidity")
    fired, *_, last = findings
    assert (fired.kind, last.kind) == (FindingKind.EVENT, FindingKind.DEVICE)
    assert last.change is ConditionChange.WITHDRAWN
    assert last.headline is not None
    assert shows(last.text.zh, "finding.doubt_device")
    (incident,) = world.incidents()
    assert (incident.kind, incident.colour) == (FindingKind.DEVICE, Colour.BLUE)
    assert last.headline.matter.zh in incident.title.zh
    assert not incident.active


@pytest.mark.parametrize(("key", "hours"), [("do", 11), ("turbidity", 30)])
def test_batches_and_restarts_change_nothing_that_is_told(before: Path, tmp_path: Path, key: str, hours: int) -> None:
    """Mud stays beyond the day within which it is settled."""
    whole = told(after(before, tmp_path / "whole", RULES), key, hours=hours)
    assert told(after(before, tmp_path / "often", RULES), key, restarts=24, hours=hours) == whole
    later = T0 + (END + DAY) * STEP  # what is on "now" is told again: both are of the past
    one, many = (told(after(before, tmp_path / str(n), RULES), key, n, now=later, hours=hours) for n in (1, 300))
    assert [(f.rule, f.change, f.observed_at_ms) for f in one] == [(f.rule, f.change, f.observed_at_ms) for f in many]
    assert {f.change for f in one} > {ConditionChange.FIRED}
