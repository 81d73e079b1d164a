"""Sudden changes of the water in the live ingest: told once, with reasons, ended by the water and not by silence."""

from pathlib import Path

import numpy as np
import pytest

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from infra.texts import say
from ingest.rules import rule_file
from sensors.maintenance import Mute
from tests.creek import DAY, QUIET, RULES, STEP, acid, after, creek, discharge, feed, firing
from tests.says import shows
from tests.world import CATALOGUE, T0, World, message


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the quiet days."""
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, text=RULES)
    assert feed(world, creek(), 0, QUIET, at_once=96) == []
    world.database.close()
    return folder


@pytest.fixture
def world(before: Path, tmp_path: Path) -> World:
    return after(before, tmp_path)


def test_a_discharge_is_told_once_with_its_reasons_and_ends_when_the_water_is_calm(world: World) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    told = feed(world, water, QUIET, 6 * DAY + 40, at_once=1)
    assert [f.change for f in told] == [ConditionChange.FIRED, ConditionChange.RESOLVED]
    first, last = told
    rule = world.site.rules.get("event-sure")
    assert (first.rule, first.version, first.station) == (rule.id, rule.version, "shiwan")
    assert (first.colour, first.retrospective) == (Colour.ORANGE, False)
    (incident,) = world.incidents()
    assert (incident.rule, incident.rule_version, incident.colour) == (rule.id, rule.version, Colour.ORANGE)
    assert 0 <= first.observed_at_ms - (T0 + 6 * DAY * STEP) <= 2 * STEP
    about = first.headline
    assert about is not None
    assert about.matter == say("event.sewage")
    rows = {row.parameter: row for row in about.rows}
    assert about.lead is rows["do"], "the worst class leads"
    for key, before, value in (("do", 6.5, 2.5), ("conductivity", 419.5, 550)):
        row = rows[key]
        assert row.before == pytest.approx(before, abs=0.5)
        assert row.value == pytest.approx(value, rel=0.1 if key == "conductivity" else 0.25)
        assert abs(row.times_usual or 0) > 1
    assert first.value is None, "the detector's score is no measured value"
    assert about.score is not None
    assert about.threshold is not None
    assert about.score > about.threshold
    assert last.observed_at_ms - first.observed_at_ms > 6 * 3_600_000


def test_silence_ends_no_event(world: World) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    feed(world, water, QUIET, 6 * DAY + 4)
    at = T0 + (6 * DAY + 4) * STEP
    world.site.tick(at, at + 86_400_000)
    assert firing(world) == [("event-sure", "shiwan", "")]


def test_a_restart_before_and_within_an_event_changes_nothing_that_is_told(before: Path, tmp_path: Path) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    told = []
    for restarts in (False, True):
        world = after(before, tmp_path / str(restarts))
        findings = []
        for first in range(QUIET, 8 * DAY, 12):
            findings += feed(world, water, first, min(8 * DAY, first + 12))
            if restarts:
                world.site.refresh()
        told.append(findings)
    assert {f.change for f in told[0]} == {ConditionChange.FIRED, ConditionChange.RESOLVED}
    assert told[0] == told[1]


def test_one_broken_sensor_raises_no_event(world: World) -> None:
    water = creek()
    water["conductivity"][6 * DAY : 6 * DAY + 20] = 2000.0
    water["do"][7 * DAY] = 0.3
    assert feed(world, water, QUIET, 8 * DAY) == []


def test_the_cutting_of_the_batches_changes_nothing_that_is_told(before: Path, tmp_path: Path) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    discharge(water, 7 * DAY + 3)
    told = []
    for at_once in (9, 8 * DAY):
        found = feed(after(before, tmp_path / str(at_once)), water, QUIET, 8 * DAY, at_once)
        # what was found in the past and goes on now is told again: that hangs on when "now" is
        told.append(
            [(f.change, f.observed_at_ms) for f in found if f.retrospective or f.change is ConditionChange.RESOLVED]
        )
    assert told[0] == told[1]
    assert [change for change, _ in told[0]] == [ConditionChange.FIRED, ConditionChange.RESOLVED] * 2


def test_what_no_rule_speaks_of_is_not_told(before: Path, tmp_path: Path) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    for n, text in enumerate(("", RULES.split("[[event]]")[2].join(["[[event]]", 'stations = ["elsewhere"]']))):
        world = after(before, tmp_path / str(n), text)
        assert feed(world, water, QUIET, 6 * DAY + 8) == []
        assert firing(world) == []


def test_a_mute_of_all_rules_keeps_events_quiet_and_one_of_a_rule_leaves_the_next_to_speak(
    before: Path, tmp_path: Path
) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    by_day = RULES + 'hours = "06:00-18:00"\n'  # the discharge comes at a quarter past ten at night
    cases = (RULES, (), []), (RULES, ("event-sure",), ["event"]), (by_day, ("elsewhere",), ["event"])
    for n, (text, muted, told) in enumerate(cases):
        world = after(before, tmp_path / str(n), text)
        world.site.history.checks.mute([Mute("shiwan", T0 + 5 * DAY * STEP, T0 + 7 * DAY * STEP, muted)])
        assert [f.rule for f in feed(world, water, QUIET, 6 * DAY + 8, at_once=1)] == told


def test_an_event_that_becomes_more_urgent_is_told_again_and_one_that_becomes_milder_is_not(
    before: Path, tmp_path: Path
) -> None:
    steps = RULES.replace("0.7", "0.8")
    water = creek()
    discharge(water, 6 * DAY, size=0.07)
    acid(water, 6 * DAY + 4)
    world = after(before, tmp_path, steps)
    told = feed(world, water, QUIET, 6 * DAY + 40, at_once=1)
    assert [(f.change, f.rule) for f in told] == [
        (ConditionChange.FIRED, "event"),
        (ConditionChange.FIRED, "event-sure"),
        (ConditionChange.RESOLVED, "event-sure"),
        (ConditionChange.RESOLVED, "event"),
    ]
    (incident,) = world.incidents()
    assert (incident.colour, incident.active) == (Colour.ORANGE, ())
    assert world.pages() == 2, "once for each colour"


def test_an_event_found_in_the_past_that_goes_on_now_ends_with_all_that_was_told_of_it(
    before: Path, tmp_path: Path
) -> None:
    """A milder rule spoke of the past, a more urgent one of the present: one incident, and nothing of it stays on."""
    water = creek()
    discharge(water, 6 * DAY, size=0.07)
    acid(water, 6 * DAY + 3)
    world = after(before, tmp_path, RULES.replace("0.7", "0.8"))
    told = feed(world, water, QUIET, 6 * DAY + 40)
    assert {(f.rule, f.retrospective) for f in told if f.change is ConditionChange.FIRED} == {
        ("event", True),
        ("event-sure", True),
        ("event-sure", False),
    }
    (incident,) = world.incidents()
    assert (incident.retrospective, incident.active) == (False, ())


def test_an_event_whose_rule_is_gone_is_over_and_says_why(world: World) -> None:
    water = creek()
    discharge(water, 6 * DAY)
    feed(world, water, QUIET, 6 * DAY + 8)
    world._rules = rule_file.read(RULES.replace("event-sure", "another"), CATALOGUE)
    world.start()
    (found,) = world.tick(T0 + (6 * DAY + 8) * STEP)
    assert (found.change, found.rule, found.kind) == (ConditionChange.RESOLVED, "event-sure", FindingKind.EVENT)
    assert shows(found.text.en, "finding.withdrawn", rule="event-sure")
    assert [bool(i.active) for i in world.incidents()] == [False]


# -- late data ---------------------------------------------------------------------------------------------------------

OFF, ON = 6 * DAY, 6 * DAY + 72
"""The station cannot be reached for eighteen hours; what it measured meanwhile comes after what it measures now."""


def outage() -> dict[str, np.ndarray]:
    water = creek()
    discharge(water, OFF + 30)
    return water


def buffered(world: World, water: dict[str, np.ndarray], parts: list[range], restart: bool = False) -> list[Finding]:
    """The readings now, then the buffer in pieces, then the rest of the day."""
    told = feed(world, water, QUIET, OFF) + feed(world, water, ON, ON + 3, at_once=1)
    now = T0 + (ON + 3) * STEP
    for part in parts:
        values = {T0 + i * STEP: {key: round(float(v[i]), 3) for key, v in water.items()} for i in part}
        told += [f for f in world.take(message("shiwan", values), now=now).findings if f.kind is FindingKind.EVENT]
        if restart:
            world.start()
    return told + feed(world, water, ON + 3, ON + 40)


def pieces(size: int) -> list[range]:
    return [range(i, min(i + size, ON)) for i in range(OFF, ON, size)]


@pytest.mark.parametrize(
    ("parts", "restart"),
    [([range(OFF, ON)], False), (pieces(7), False), (pieces(7), True), (pieces(20)[::-1], False)],
    ids=["at once", "in pieces", "restarted", "newest first"],
)
def test_a_discharge_in_a_buffer_that_comes_late_is_told_once_of_its_own_time_and_pages_nobody(
    before: Path, tmp_path: Path, parts: list[range], restart: bool
) -> None:
    world = after(before, tmp_path)
    told = buffered(world, outage(), parts, restart)
    assert [(f.change, f.retrospective) for f in told] == [
        (ConditionChange.FIRED, True),
        (ConditionChange.RESOLVED, True),
    ]
    assert told[0].observed_at_ms == T0 + (OFF + 31) * STEP, "when it would have been told live"
    (incident,) = world.incidents()
    assert (incident.retrospective, incident.active, world.pages()) == (True, (), 0)
    again = [
        message("shiwan", {T0 + i * STEP: {k: round(float(v[i]), 3) for k, v in outage().items()} for i in part})
        for part in parts
    ]
    assert not any(world.take(one, now=T0 + (ON + 60) * STEP).findings for one in again), "a replay changes nothing"


def test_what_was_told_live_is_not_told_again_by_late_readings_beside_it(before: Path, tmp_path: Path) -> None:
    water = outage()
    world = after(before, tmp_path)
    held_back = OFF + 34
    told = feed(world, water, OFF - 8, held_back, at_once=1) + feed(world, water, held_back + 1, ON + 10, at_once=1)
    assert [(f.change, f.retrospective) for f in told] == [
        (ConditionChange.FIRED, False),
        (ConditionChange.RESOLVED, False),
    ]
    values = {T0 + held_back * STEP: {key: round(float(v[held_back]), 3) for key, v in water.items()}}
    assert world.take(message("shiwan", values), now=T0 + (ON + 10) * STEP).findings == ()


def test_a_late_reading_of_one_sensor_is_heard_beside_what_the_others_said_in_time(
    before: Path, tmp_path: Path
) -> None:
    """Oxygen and turbidity come late; conductivity, temperature and pH were there, and were no event by themselves."""
    water = outage()
    world = after(before, tmp_path)
    in_time = {key: v for key, v in water.items() if key not in ("do", "turbidity")}
    feed(world, water, OFF - 8, OFF, at_once=4)
    told = feed(world, in_time, OFF, ON, at_once=4) + feed(world, water, ON, ON + 3, at_once=1)
    assert told == []
    values = {
        T0 + i * STEP: {key: round(float(water[key][i]), 3) for key in ("do", "turbidity")} for i in range(OFF, ON)
    }
    found = [
        f
        for f in world.take(message("shiwan", values), now=T0 + (ON + 3) * STEP).findings
        if f.kind is FindingKind.EVENT
    ]
    assert [(f.change, f.retrospective) for f in found] == [
        (ConditionChange.FIRED, True),
        (ConditionChange.RESOLVED, True),
    ]
    about = found[0].headline
    assert about is not None
    salt = next(row for row in about.rows if row.parameter == "conductivity")
    assert (salt.before, salt.value) == (pytest.approx(424.0, abs=0.1), pytest.approx(555.4, abs=0.1))
