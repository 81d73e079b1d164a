"""Contradictions between parameters of one sample in the live ingest: together, apart, late, and after a restart."""

from pathlib import Path

import pytest

from governance.incidents.finding import ConditionChange, Finding
from sensors.reading import Flag, QualityTest
from tests.says import shows
from tests.world import STEP, T0, World, message

DOUBT = int(Flag.SUSPECT) | int(QualityTest.CROSS_CHECK) << 4


def verdicts(world: World, at: int = T0) -> dict[str, int]:
    return {key: packed for (key, when), (_, packed) in world.readings().items() if when == at}


def test_a_contradiction_within_a_message_is_stored_with_its_reason(world: World) -> None:
    for i in range(6):
        world.take(message("shiwan", {T0 + i * STEP: {"nh3n": 9.0, "tn": 2.0}}))
    assert all(verdicts(world, T0 + i * STEP) == {"nh3n": DOUBT, "tn": DOUBT} for i in range(6))


HIGH = [1.0, 1.0, 3.0, 3.1, 3.0, 3.2, 3.1]
"""Ammonia of an orange incident."""


def alarms(
    world: World, ammonia: list[float], nitrogen: float, restart: bool = False, apart: bool = False
) -> list[Finding]:
    """What is told of ammonia beside a total nitrogen analyser that shows one value."""
    told: list[Finding] = []
    for i, value in enumerate(ammonia):
        sample = {"nh3n": value + 0.01 * (i % 2), "tn": nitrogen + 0.01 * (i % 3)}
        at = T0 + i * STEP
        for values in [{key: x} for key, x in sample.items()] if apart else [sample]:
            told += world.take(message("shiwan", {at: values})).findings
        if restart:
            world.start()
    return [f for f in told if f.parameter == "nh3n"]


@pytest.mark.parametrize(("restart", "apart"), [(False, False), (True, False), (False, True)])
def test_a_total_nitrogen_analyser_stuck_low_keeps_no_ammonia_alarm_quiet(
    tmp_path: Path, restart: bool, apart: bool
) -> None:
    found = []
    for n, nitrogen in enumerate((6.0, 0.4)):
        (tmp_path / str(n)).mkdir()
        found += alarms(World(tmp_path / str(n)), HIGH, nitrogen, restart, apart)
    sound, doubted = found
    assert (doubted.id, doubted.colour, doubted.since_ms) == (sound.id, sound.colour, sound.since_ms)
    if not apart:  # apart it was told before the other one spoke
        assert shows(doubted.text.en, "finding.contradicted", others="total nitrogen")
        assert shows(doubted.text.zh, "finding.contradicted", others="总氮")
    assert not shows(sound.text.en, "finding.contradicted")


def test_a_doubted_reading_ends_no_alarm(world: World) -> None:
    told = alarms(world, HIGH + [1.2] * 6, 0.4)
    assert [f.change for f in told] == [ConditionChange.FIRED], "who is wrong is not known: perhaps it is the ammonia"
    for i in range(6):
        told += world.take(message("shiwan", {T0 + (20 + i) * STEP: {"nh3n": 1.2 + 0.01 * i, "tn": 6.0}})).findings
    assert [f.change for f in told] == [ConditionChange.FIRED, ConditionChange.RESOLVED]


def test_a_calm_reading_that_is_contradicted_later_counts_no_longer(world: World) -> None:
    told = alarms(world, HIGH, 6.0)
    for i in range(7, 13):  # calm, but total nitrogen arrives a moment later and denies it each time
        told += world.take(message("shiwan", {T0 + i * STEP: {"nh3n": 1.2 + 0.01 * (i % 2)}})).findings
        told += world.take(message("shiwan", {T0 + i * STEP: {"tn": 0.4}})).findings
    assert [f.change for f in told] == [ConditionChange.FIRED]


@pytest.mark.parametrize("first", ["nh3n", "tn"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_contradiction_with_what_came_before_doubts_both(world: World, first: str, restart: bool) -> None:
    sample = {"nh3n": 1.5, "tn": 0.4}
    world.take(message("shiwan", {T0: {first: sample.pop(first)}}))
    assert set(verdicts(world).values()) == {int(Flag.GOOD)}
    if restart:
        world.start()
    world.take(message("shiwan", {T0: sample}))
    assert verdicts(world) == {"nh3n": DOUBT, "tn": DOUBT}
    world.take(message("shiwan", {T0 + STEP: {"nh3n": 0.3, "tn": 0.6}}))
    memory = world.site.history.memory
    for row in range(2):  # what is remembered says the same as what is stored
        assert memory.packed[row, memory.at[row] == T0].tolist() == [DOUBT]


def test_late_readings_contradict_and_are_contradicted(world: World) -> None:
    for i in range(4):
        world.take(message("shiwan", {T0 + i * STEP: {"tn": 0.4 if i == 1 else 2.0}}))
    world.take(message("shiwan", {T0 + 3 * STEP: {"nh3n": 0.5}}))
    late = {T0 + i * STEP: {"nh3n": 1.0} for i in range(3)}
    world.take(message("shiwan", late, received=T0 + 5 * STEP))
    doubted = [verdicts(world, T0 + i * STEP) for i in range(4)]
    assert doubted[1] == {"nh3n": DOUBT, "tn": DOUBT}
    assert all(set(doubted[i].values()) == {int(Flag.GOOD)} for i in (0, 2, 3))
    # a correction takes it back
    world.take(message("shiwan", {T0 + STEP: {"tn": 1.9}}, received=T0 + 6 * STEP))
    assert set(verdicts(world, T0 + STEP).values()) == {int(Flag.GOOD)}


def test_other_late_readings_leave_an_earlier_contradiction_alone(world: World) -> None:
    for i in (0, 1, 3):
        world.take(message("shiwan", {T0 + i * STEP: {"nh3n": 1.5 if i == 1 else 0.3, "tn": 0.6}}))
    world.take(message("shiwan", {T0 + 2 * STEP: {"nh3n": 0.3, "tn": 0.6}}, received=T0 + 5 * STEP))
    assert verdicts(world, T0 + STEP) == {"nh3n": DOUBT, "tn": DOUBT}
    assert set(verdicts(world, T0 + 2 * STEP).values()) == {int(Flag.GOOD)}
