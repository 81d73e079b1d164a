"""Changes of hours in buffers that come late: the neighbouring stations bear witness as they do in time."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange, Finding
from ingest.rules.water_events import event_cause
from ingest.storage import registry as registry_store
from sensors.quality.events import EventCause
from sensors.stations import Registry
from tests.contract.test_events_past import LOWER, MAIN, UPPER, Series, feed, late
from tests.creek import DAY, RULES, creek
from tests.says import shows
from tests.world import CATALOGUE, World

OFF, ON = 9 * DAY, 9 * DAY + 60
"""A station cannot be reached for fifteen hours."""


def waters(*muddy: str) -> dict[str, Series]:
    """Mud comes to the upper station and three hours later to the lower one, too evenly to be sudden."""
    found = {"upper": creek(11 * DAY), "lower": creek(11 * DAY, seed=2)}
    for station, at, times in (("upper", OFF + 10, 8), ("lower", OFF + 22, 5)):
        if station in muddy:
            i = np.arange(11 * DAY)
            found[station]["turbidity"] *= 1 + (times - 1) * np.clip((i - at) / 12, 0, 1) * np.clip(
                (at + 32 - i) / 12, 0, 1
            )
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, stations=(), text=RULES)
    with world.database.write() as connection:
        registry_store.save(connection, Registry((UPPER, LOWER), reaches=(MAIN,), catalogue=CATALOGUE))
    world.start()
    assert feed(world, waters(), 0, OFF, 96) == []
    world.database.close()
    return folder


def told(before: Path, folder: Path, water: dict[str, Series], gone: str, doubts: str = "") -> list[Finding]:
    """What the buffer of the station that was gone tells, once both are heard again; with a rule for ``doubts``."""
    shutil.copytree(before, folder, dirs_exist_ok=True)
    world = World(folder, stations=(), text=RULES + doubts)
    (heard,) = {"upper", "lower"} - {gone}
    live = feed(world, {heard: water[heard]}, OFF, ON) + feed(world, water, ON, ON + 3, 1)
    assert {f.rule for f in live} == ({"doubtful"} if doubts else set()), "what one lens alone shows is never sure"
    found = late(world, (gone, water[gone], range(OFF, ON)), now=ON + 3)
    assert late(world, (gone, water[gone], range(OFF, ON)), now=ON + 4) == [], "a replay changes nothing"
    return found


def fired(found: list[Finding]) -> list[tuple[str, EventCause | None]]:
    """Where events began, and what they were called."""
    assert all(f.retrospective for f in found)
    return sorted((str(f.station), event_cause(f)) for f in found if f.change is ConditionChange.FIRED)


def test_mud_in_the_buffer_of_a_station_is_dredging_where_the_one_above_showed_it(before: Path, tmp_path: Path) -> None:
    found = told(before, tmp_path / "both", waters("upper", "lower"), "lower")
    assert fired(found) == [("lower", EventCause.SEDIMENT)]
    assert shows(found[0].text.en, "event.neighbour_agrees")
    assert told(before, tmp_path / "one", waters("lower"), "lower") == []


def test_the_buffer_of_the_station_above_tells_both(before: Path, tmp_path: Path) -> None:
    found = told(before, tmp_path / "both", waters("upper", "lower"), "upper")
    assert fired(found) == [("lower", EventCause.SEDIMENT), ("upper", EventCause.SEDIMENT)]
    assert told(before, tmp_path / "one", waters("upper"), "upper") == []


DOUBTS = """
[[event]]
id = "doubtful"
kinds = ["doubtful"]
colour = "blue"
"""


def test_what_was_doubtful_at_one_station_is_sure_once_the_buffer_of_the_other_shows_it(
    before: Path, tmp_path: Path
) -> None:
    found = told(before, tmp_path, waters("upper", "lower"), "upper", DOUBTS)
    assert fired(found) == [("lower", EventCause.SEDIMENT), ("upper", EventCause.SEDIMENT)]
    assert {f.rule for f in found if f.change is ConditionChange.FIRED} <= {"event", "event-sure"}
