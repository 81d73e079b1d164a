"""Events of the past: what late readings, the water above and people's corrections make of them afterwards."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange, Finding, FindingKind
from governance.incidents.model import EntryKind
from governance.incidents.store import history
from ingest.storage import maintenance as store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from sensors.maintenance import Review, Verdict, Visit
from sensors.stations import Reach, Registry, Station, Water
from tests.creek import DAY, QUIET, RULES, STEP, creek, discharge
from tests.says import shows
from tests.world import CATALOGUE, T0, World, message

MAIN = Reach("main", "东平河", "Main", Water.RIVER, ((113.0, 23.0), (113.2, 23.0)))
UPPER = Station("upper", "上站", "Upper", 113.02, 23.0, interval_s=900, reach="main")
LOWER = Station("lower", "下站", "Lower", 113.03, 23.0, interval_s=900, reach="main")
LI = Author("示例李工", T0)

Series = dict[str, np.ndarray]
OFF, ON = 6 * DAY, 6 * DAY + 60
"""A station cannot be reached for fifteen hours."""


def waters(*, above: bool = True, below: bool = True) -> dict[str, Series]:
    """Sewage at the upper station; at the lower one, two hours later, a trace of it that alone is no event."""
    found = {"upper": creek(), "lower": creek(seed=2)}
    if above:
        discharge(found["upper"], OFF + 20)
    if below:
        after = np.arange(8 * DAY) - OFF - 28
        trace = np.exp(-np.maximum(after, 0) / 8) * np.clip((after + 1) / 3, 0, 1)
        found["lower"]["conductivity"] += 8.2 * trace
        found["lower"]["do"] -= 0.95 * trace
    return found


def values(water: Series, rows: Sequence[int]) -> dict[int, dict[str, float]]:
    return {T0 + i * STEP: {key: round(float(v[i]), 3) for key, v in water.items()} for i in rows}


def feed(world: World, water: dict[str, Series], first: int, last: int, size: int = 4) -> list[Finding]:
    """Both stations in turn, or the one there is."""
    told: list[Finding] = []
    for start in range(first, last, size):
        rows = range(start, min(last, start + size))
        messages = [message(station, values(one, rows)) for station, one in water.items()]
        told += world.take(*messages, now=T0 + rows[-1] * STEP + 1000).findings
    return [f for f in told if f.kind is FindingKind.EVENT]


def late(world: World, *parts: tuple[str, Series, Sequence[int]], now: int) -> list[Finding]:
    messages = [message(station, values(water, rows)) for station, water, rows in parts]
    return [f for f in world.take(*messages, now=T0 + now * STEP).findings if f.kind is FindingKind.EVENT]


def seen(told: Sequence[Finding]) -> list[tuple[str, str, int]]:
    """Of what begins and is taken back also when that was; an end hangs on the last faint alarm."""
    return [
        (
            f.station,
            f.change.value,
            0 if f.change is ConditionChange.RESOLVED else (f.observed_at_ms - T0) // STEP - OFF,
        )
        for f in told
    ]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the quiet days of both stations."""
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, stations=(), text=RULES)
    with world.database.write() as connection:
        registry_store.save(connection, Registry((UPPER, LOWER), reaches=(MAIN,), catalogue=CATALOGUE))
    world.start()
    assert feed(world, waters(above=False, below=False), 0, QUIET, 96) == []
    world.database.close()
    return folder


@pytest.fixture
def world(before: Path, tmp_path: Path) -> World:
    return another(before, tmp_path)


def another(before: Path, folder: Path) -> World:
    shutil.copytree(before, folder, dirs_exist_ok=True)
    return World(folder, stations=(), text=RULES)


# -- the water above ---------------------------------------------------------------------------------------------------


def test_a_trace_in_a_buffer_is_an_event_where_the_station_above_told_of_one(before: Path, tmp_path: Path) -> None:
    for n, above in enumerate((True, False)):
        world = another(before, tmp_path / str(n))
        water = waters(above=above)
        feed(world, water, QUIET, OFF)
        told = feed(world, {"upper": water["upper"]}, OFF, ON)
        told += feed(world, water, ON, ON + 3, 1)
        found = late(world, ("lower", water["lower"], range(OFF, ON)), now=ON + 3)
        assert {f.station for f in told} == ({"upper"} if above else set())
        assert seen(found) == ([("lower", "fired", 30), ("lower", "resolved", 0)] if above else [])
        assert all(f.retrospective for f in found)


def test_what_a_trace_in_time_was_is_told_once_the_buffer_of_the_station_above_shows_an_event(world: World) -> None:
    water = waters()
    feed(world, water, QUIET, OFF)
    assert feed(world, {"lower": water["lower"]}, OFF, ON) == []
    assert feed(world, water, ON, ON + 3, 1) == []
    found = late(world, ("upper", water["upper"], range(OFF, ON)), now=ON + 3)
    assert [f.change for f in found if f.station == "upper"] == [ConditionChange.FIRED, ConditionChange.RESOLVED]
    assert seen([f for f in found if f.station == "lower"]) == [("lower", "fired", 30), ("lower", "resolved", 0)]
    assert all(f.retrospective for f in found)
    assert (len(world.incidents()), world.pages()) == (1, 0), "one cause, one incident"
    assert late(world, ("upper", water["upper"], range(OFF, ON)), now=ON + 4) == [], "a replay changes nothing"
    assert late(world, ("lower", water["lower"], range(OFF, ON)), now=ON + 4) == []


@pytest.mark.parametrize("order", [("upper", "lower"), ("lower", "upper")])
@pytest.mark.parametrize("how", ["together", "apart", "restarted"])
def test_the_buffers_of_two_stations_tell_the_same_in_any_order(world: World, order: tuple[str, str], how: str) -> None:
    water = waters()
    feed(world, water, QUIET, OFF)
    assert feed(world, water, ON, ON + 3, 1) == []
    found: list[Finding] = []
    parts = [(station, water[station], range(OFF, ON)) for station in order]
    for some in [parts] if how == "together" else [[one] for one in parts]:
        found += late(world, *some, now=ON + 3)
        if how == "restarted":
            world.start()
    assert sorted(seen(found)) == [
        ("lower", "fired", 30),
        ("lower", "resolved", 0),
        ("upper", "fired", 21),
        ("upper", "resolved", 0),
    ]


# -- corrections -------------------------------------------------------------------------------------------------------


def review(world: World, station: str, first: int, last: int, parameter: str = "") -> int:
    span = T0 + first * STEP, T0 + last * STEP
    one = Review(station, parameter, *span, Verdict.BAD, "探头进气", "示例李工", span[1])
    with world.database.write() as connection:
        return store.add_review(connection, one, LI)


def follow(world: World, at: int) -> list[Finding]:
    world.site.follow_registry()
    return [f for f in world.tick(T0 + at * STEP) if f.kind is FindingKind.EVENT]


def said(world: World, what: EntryKind) -> list[str]:
    with world.database.read() as connection:
        return [
            entry.text.zh for one in world.incidents() for entry in history(connection, one.id) if entry.what is what
        ]


@pytest.mark.parametrize("on", [True, False], ids=["still on", "long over"])
def test_an_event_that_rested_on_readings_called_bad_is_withdrawn_and_says_who_and_why(world: World, on: bool) -> None:
    water = waters(below=False)
    until = OFF + 30 if on else OFF + 70
    assert len(feed(world, water, QUIET, until, 1)) == (1 if on else 2)
    review(world, "upper", OFF + 18, OFF + 44)
    found = follow(world, until)
    assert seen(found) == [("upper", "withdrawn", 21)]
    (incident,) = world.incidents()
    assert not incident.active
    (text,) = said(world, EntryKind.WITHDRAWN)
    assert "示例李工" in text
    assert "探头进气" in text
    assert shows(text, "finding.event_disproved")
    world.start()
    assert follow(world, until + 1) == [], "told once"
    assert feed(world, water, until, until + 30, 1) == [], "and nothing of it stays on"


def test_an_event_that_other_sensors_show_as_well_stays(world: World) -> None:
    water = waters(below=False)
    feed(world, water, QUIET, OFF + 30, 1)
    review(world, "upper", OFF + 18, OFF + 30, "turbidity")
    assert follow(world, OFF + 30) == []
    assert world.incidents()[0].active


def test_a_visit_that_is_entered_afterwards_takes_no_event_back(world: World) -> None:
    water = waters(below=False)
    feed(world, water, QUIET, OFF + 30, 1)
    with world.database.write() as connection:
        visit = Visit("upper", T0 + (OFF + 19) * STEP, T0 + (OFF + 26) * STEP, (), "示例李工")
        store.begin_visit(connection, visit, LI)
    assert [f for f in follow(world, OFF + 30) if f.change is not ConditionChange.FIRED] == []
    assert world.incidents()[0].active, "doubt ends nothing"


def test_a_review_of_other_hours_is_no_reason_to_take_back_an_event_that_a_visit_doubts(world: World) -> None:
    """Both are looked at in one go; somebody called readings of the next day bad."""
    water = waters(below=False)
    feed(world, water, QUIET, OFF + 90, 1)
    review(world, "upper", OFF + 84, OFF + 88)
    with world.database.write() as connection:
        visit = Visit("upper", T0 + (OFF + 10) * STEP, T0 + (OFF + 50) * STEP, (), "示例李工")
        store.begin_visit(connection, visit, LI)
    assert [f for f in follow(world, OFF + 90) if f.change is ConditionChange.WITHDRAWN] == []


def test_a_review_that_is_taken_back_tells_the_event_again(world: World) -> None:
    water = waters(below=False)
    feed(world, water, QUIET, OFF + 70, 1)
    number = review(world, "upper", OFF + 18, OFF + 44)
    assert seen(follow(world, OFF + 70)) == [("upper", "withdrawn", 21)]
    with world.database.write() as connection:
        store.void_review(connection, "upper", number, LI)
    assert seen(follow(world, OFF + 71)) == [("upper", "fired", 21), ("upper", "resolved", 0)]


def test_readings_that_come_again_with_other_values_take_back_what_rested_on_the_first_ones(world: World) -> None:
    water, right = waters(below=False), waters(above=False, below=False)
    feed(world, water, QUIET, OFF + 50, 1)
    found = late(world, ("upper", right["upper"], range(OFF + 18, OFF + 44)), now=OFF + 50)
    assert seen(found) == [("upper", "withdrawn", 21)]
    assert shows(found[0].text.zh, "finding.corrected")
    assert not world.incidents()[0].active


def test_an_event_that_was_one_only_for_the_water_above_goes_with_that(world: World) -> None:
    water = waters()
    told = feed(world, water, QUIET, OFF + 70, 1)
    assert {f.station for f in told} == {"upper", "lower"}
    review(world, "upper", OFF + 18, OFF + 44)
    found = follow(world, OFF + 70)
    assert {(f.station, f.change) for f in found} == {
        ("upper", ConditionChange.WITHDRAWN),
        ("lower", ConditionChange.WITHDRAWN),
    }
    assert shows(next(f for f in found if f.station == "lower").text.zh, "finding.upstream_disproved", upper="上站")


# -- restarts ----------------------------------------------------------------------------------------------------------


def told_by_turns(world: World, restarts: bool) -> list[Finding]:
    """The lower station first, so that after a restart it is heard before anything of the upper one was."""
    water, told = waters(), []
    feed(world, water, QUIET, OFF + 15)
    for i in range(OFF + 15, OFF + 60):
        for station in ("lower", "upper"):
            if restarts:
                world.start()
            told += feed(world, {station: water[station]}, i, i + 1, 1)
    return told


def test_what_the_water_above_makes_of_a_trace_is_told_alike_across_restarts(before: Path, tmp_path: Path) -> None:
    told = told_by_turns(another(before, tmp_path / "0"), restarts=False)
    assert {(f.station, f.change) for f in told} == {
        (station, change)
        for station in ("upper", "lower")
        for change in (ConditionChange.FIRED, ConditionChange.RESOLVED)
    }
    assert told == told_by_turns(another(before, tmp_path / "1"), restarts=True)
