"""Several causes and several stations in one reach: no incident swallows what another one is about."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from governance.incidents import store as incident_store
from governance.incidents.model import Action, Assignment, Incident, NotAllowedNow, Order, State
from governance.organisation.roles import administrator
from infra.texts import Text, say
from ingest.storage import registry as registry_store
from sensors.stations import Registry
from tests.contract.test_rules_in_force import ABOVE, BELOW, DO_TOO, LOWER, TRAVEL, UPPER
from tests.says import says
from tests.world import CATALOGUE, HOUR, STEP, T0, World, bad, calm, message

LATER = 24
"""Steps that the water takes from the upper station to the lower one."""
ALL_DAY = T0 + 24 * HOUR


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, stations=(), text=DO_TOO)
    with world.database.write() as connection:
        network = Registry((ABOVE, BELOW), reaches=(UPPER, LOWER), travels=(TRAVEL,), catalogue=CATALOGUE)
        registry_store.save(connection, network)
    world.start()
    yield world
    world.database.close()


def flow(world: World, above: Sequence[float], below: Sequence[float], first: int = 0) -> int:
    """Ammonia at both stations, step by step; the next step."""
    for i, (upper, lower) in enumerate(zip(above, below, strict=True), first):
        at = T0 + i * STEP
        world.take(message("above", {at: {"nh3n": upper}}), message("below", {at: {"nh3n": lower}}))
    return first + len(above)


def act(world: World, number: int, order: Order, by: str = "示例王主任") -> Incident:
    with world.database.write() as connection:
        return incident_store.apply_action(
            connection, number, order, administrator(by), now_ms=ALL_DAY, source="/test", normal={}
        )


def plume(world: World) -> int:
    """A discharge that is over above, has arrived below and is still there; the next step."""
    return flow(world, [*bad(12), *calm(18)], [*calm(LATER, 1.2), *bad(6)])


def on(world: World) -> list[tuple[int, str]]:
    """The open incidents in which something is on, and where."""
    return [(one.id, c.station) for one in world.incidents() if one.is_open for c in one.active]


def handled(world: World, number: int) -> None:
    """Its people have done everything up to the closing."""
    act(world, number, Order(Action.ACCEPT))
    act(world, number, Order(Action.DISPATCH, assignment=Assignment(region="shiwan", responsible="示例河长")))
    act(world, number, Order(Action.START))
    act(world, number, Order(Action.FINISH, comment="示例", measurement={"nh3n": 1.2}))
    act(world, number, Order(Action.VERIFY, comment="示例"), by="示例李主任")


@pytest.mark.parametrize("restart", [False, True])
def test_a_case_is_not_closed_while_its_water_still_stands_below(world: World, restart: bool) -> None:
    after = plume(world)
    (one,) = world.incidents()
    assert on(world) == [(one.id, "below")]
    handled(world, one.id)
    still = say("incident.condition", place="below", what=Text("氨氮", "ammonia nitrogen"))
    with pytest.raises(NotAllowedNow, match=says("incident.still_active", id=one.id, conditions=still)):
        act(world, one.id, Order(Action.CLOSE, comment="示例：上站已恢复"), by="示例李主任")
    if restart:
        world.start()
    flow(world, calm(8), calm(8, 1.2), after)
    assert on(world) == []


@pytest.mark.parametrize("action", [Action.FALSE_ALARM, Action.REJECT])
@pytest.mark.parametrize("restart", [False, True])
def test_what_is_on_below_goes_on_in_a_case_of_its_own_when_the_one_above_is_called_none(
    world: World, action: Action, restart: bool
) -> None:
    after = plume(world)
    (one,) = world.incidents()
    ended = act(world, one.id, Order(action, comment="示例：上站探头故障", reason="sensor_fault"))
    assert not ended.is_open
    assert {c.station for c in ended.conditions} == {"above"}
    own = world.incidents()[-1]
    assert (own.state, own.station, on(world)) == (State.REPORTED, "below", [(own.id, "below")])
    assert "下站" in own.title.zh
    assert world.pages(own.id) == 1, "nobody knows of it yet"
    if restart:
        world.start()
    flow(world, calm(8), calm(8, 1.2), after)
    assert on(world) == []


def test_a_false_alarm_at_one_station_ends_it_although_it_is_on(world: World) -> None:
    flow(world, bad(6), calm(6, 1.2))
    act(world, 1, Order(Action.FALSE_ALARM, comment="示例", reason="sensor_fault"))
    assert len(world.incidents()) == 1
    assert on(world) == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_second_discharge_below_after_the_first_has_passed_there_wakes_people_again(
    world: World, restart: bool
) -> None:
    """Within the time in which slow water of the first could still arrive."""
    after = flow(world, [*bad(12), *calm(24)], [*calm(LATER, 1.2), *bad(4), *calm(8, 1.2)])
    assert on(world) == []
    assert world.pages() == 1
    if restart:
        world.start()
    flow(world, calm(4), bad(4), after)
    assert [station for _, station in on(world)] == ["below"]
    assert world.pages() == 2


def test_of_two_discharges_at_once_the_end_of_one_ends_nothing_of_the_other(world: World) -> None:
    """One above, and another at the lower station before water from above can be there."""
    after = flow(world, bad(8), [*calm(2, 1.2), *bad(6)])
    above, below = world.incidents()
    assert (above.station, below.station, world.pages()) == ("above", "below", 2)
    after = flow(world, calm(30), bad(30), after)
    assert on(world) == [(below.id, "below")], "the first has passed, the second goes on"
    handled(world, below.id)
    with pytest.raises(
        NotAllowedNow,
        match=says(
            "incident.still_active",
            count=1,
            conditions=say("incident.condition", place=Text("下站", "Below"), what=Text("氨氮", "ammonia nitrogen")),
            id=2,
            action=say("action.close"),
        ),
    ):
        act(world, below.id, Order(Action.CLOSE, comment="示例"), by="示例李主任")
    flow(world, calm(8), calm(8, 1.2), after)
    assert on(world) == []


def test_a_case_that_is_split_off_has_the_title_of_what_was_said_of_its_own_station(world: World) -> None:
    plume(world)
    (one,) = world.incidents()
    key = ("nh3n-high", "below", "nh3n")
    act(world, one.id, Order(Action.SPLIT, comment="示例：另一处", conditions=(key,)))
    rest, own = world.incidents()
    assert rest.title == one.title
    assert "下站" in own.title.zh
    assert "Below" in own.title.en
    (condition,) = own.conditions
    assert (own.station, own.parameter, own.observed_at_ms) == ("below", "nh3n", condition.fired_at_ms)
    assert (own.value, own.limit) == (2.422, 2.0)
