"""Rules at work on a real database: classes, targets, mutes, reviews, flapping, discharges down a river, versions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from governance.incidents.model import EntryKind
from governance.incidents.store import history
from infra.errors import NotFound, Refused
from ingest.rules import model as rule_model
from ingest.rules import rule_file
from ingest.state import rule_publications, rule_versions
from ingest.storage import maintenance as store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from sensors.maintenance import Mute, Review, Verdict
from sensors.network import Travel
from sensors.reading import Flag
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.says import says
from tests.world import (
    BOTH,
    CATALOGUE,
    DAY,
    HOUR,
    MINUTE,
    SHIWAN,
    STEP,
    T0,
    World,
    bad,
    calm,
    message,
    river,
)

ZHANG = Author("示例张工", T0)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    worlds: list[World] = []

    def make(text: str, stations: Sequence[Station] = (SHIWAN,), **network: Any) -> World:
        worlds.append(World(tmp_path / f"w{len(worlds)}", stations=(), text=text))
        with worlds[-1].database.write() as connection:
            registry_store.save(connection, Registry(tuple(stations), catalogue=CATALOGUE, **network))
        worlds[-1].start()
        return worlds[-1]

    for n in range(4):
        (tmp_path / f"w{n}").mkdir()
    yield make
    for one in worlds:
        one.database.close()


def follow(world: World, now: int) -> list[Any]:
    """As the ingest does once a second."""
    world.site.follow_registry()
    return world.tick(now)


def review(world: World, since: int, until: int, verdict: str = "bad", now: int = T0 + DAY, **other: Any) -> int:
    said = Verdict(verdict)
    one = Review("shiwan", "nh3n", since, until, said, "示例：电极气泡", "示例李工", now)
    with world.database.write() as connection:
        return store.add_review(connection, replace(one, **other), ZHANG)


def void(world: World, number: int) -> None:
    with world.database.write() as connection:
        store.void_review(connection, "shiwan", number, ZHANG)


def mute(world: World, since: int, until: int, *rules: str) -> None:
    with world.database.write() as connection:
        store.add_mute(connection, Mute("shiwan", since, until, rules, "示例王工", "示例：清淤"), ZHANG)


def texts(world: World, number: int, what: EntryKind | None = None) -> list[str]:
    with world.database.read() as connection:
        return [e.text.en for e in history(connection, number) if what is None or e.what is what]


# -- classes -----------------------------------------------------------------------------------------------------------

CLASSES = """
[[class]]
id = "worse-than-v"
worse_than = "V"
colour = "orange"

[[target]]
id = "target"
colour = "blue"
"""


def test_water_worse_than_a_class_is_one_incident_whatever_parameters_say_so(made: Any) -> None:
    world = made(CLASSES, reaches=(), stations=(SHIWAN,))
    for i in range(4):
        world.take(message("shiwan", {T0 + i * STEP: {"nh3n": 2.6 + 0.01 * i, "tp": 0.55 + 0.01 * i, "ph": 7.0}}))
    (one,) = world.incidents()
    assert {c.parameter for c in one.active} == {"nh3n", "tp"}
    assert "worse than V" in one.title.en
    world.feed({T0 + (4 + i) * STEP: {"nh3n": 1.0 + 0.01 * i} for i in range(4)})
    assert {c.parameter for c in world.incidents()[0].active} == {"tp"}, "ammonia is back, phosphorus says nothing"


@pytest.mark.usefixtures("no_series_is_new")
def test_ph_on_either_side_is_worse_than_any_class_and_its_own_sentence(made: Any) -> None:
    world = made(CLASSES)
    world.feed(river(T0, [7.0 + 0.01 * i for i in range(4)] + [9.3 + 0.01 * i for i in range(4)], "ph"))
    (one,) = world.incidents()
    assert "pH 9.33" in one.title.en
    assert one.limit == 9.0


def test_a_target_that_is_set_later_counts_from_then_on(made: Any) -> None:
    reach = Reach("main", "东平河", "Main", Water.RIVER, ((113.0, 23.0), (113.1, 23.0)))
    world = made(CLASSES, (replace(SHIWAN, reach="main"),), reaches=(reach,))
    world.feed(river(T0, calm(6, 1.2)))
    assert not world.incidents()
    with world.database.write() as connection:
        reaches = (replace(reach, target=WaterClass.III),)
        registry_store.save(connection, Registry(reaches=reaches, catalogue=CATALOGUE), ZHANG)
    follow(world, T0 + 6 * STEP)
    world.feed(river(T0 + 6 * STEP, calm(6, 1.2)))
    (one,) = world.incidents()
    assert one.rule == "target"
    assert "class IV, limit 1.0" in one.title.en


# -- a restart in the middle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart_after", range(8))
def test_a_restart_in_the_middle_of_a_pending_rule_fires_at_the_same_event_time(tmp_path: Path, restart_after: int):
    values = [2.6, 2.3, 1.9, 1.8, 1.75, 1.82, 1.71, 1.77]  # below 2 for ten minutes and three readings
    world = World(tmp_path)
    for i, value in enumerate(values):
        if i == restart_after:
            world.start()
        world.take(message("shiwan", {T0 + i * STEP: {"do": value}}))
    (one,) = world.incidents()
    assert (one.rule, one.since_ms, one.observed_at_ms) == ("do-low", T0 + 2 * STEP, T0 + 4 * STEP)
    world.database.close()


# -- schedules and mutes -----------------------------------------------------------------------------------------------


@BOTH
def test_planned_work_keeps_its_station_quiet_and_what_is_still_wrong_afterwards_is_told(world: World) -> None:
    mute(world, T0, T0 + 2 * HOUR)
    follow(world, T0)
    world.feed(river(T0, bad(30)))
    (one,) = world.incidents()
    assert one.since_ms >= T0 + 2 * HOUR
    assert one.observed_at_ms == one.since_ms + 2 * STEP


def test_a_mute_survives_a_restart_and_excuses_silence(world: World) -> None:
    world.feed(river(T0, calm(3)))
    mute(world, T0 + 10 * MINUTE, T0 + 5 * HOUR)
    world.start()
    assert not follow(world, T0 + 3 * HOUR), "silent for hours, and nobody wonders"
    assert [f.rule for f in follow(world, T0 + 5 * HOUR + 16 * MINUTE)] == ["silent"]


def test_a_mute_of_one_rule_leaves_the_others(world: World) -> None:
    mute(world, T0, T0 + DAY, "nh3n-high")
    follow(world, T0)
    for i in range(5):
        world.take(message("shiwan", {T0 + i * STEP: {"nh3n": 2.4 + 0.01 * i, "ph": 5.0 + 0.01 * i}}))
    assert {c.rule for c in world.incidents()[0].conditions} == {"ph-acid"}


def test_what_was_on_before_the_mute_ends_in_it(world: World) -> None:
    world.feed(river(T0, bad(4)))
    mute(world, T0 + 4 * STEP, T0 + DAY)
    follow(world, T0 + 4 * STEP)
    world.feed(river(T0 + 4 * STEP, calm(6)))
    assert [one.active for one in world.told()] == [False]


# -- reviews -----------------------------------------------------------------------------------------------------------


@BOTH
def test_readings_called_bad_withdraw_what_rested_on_them_and_the_history_says_who_and_why(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(6)]))
    (one,) = world.incidents()
    before = world.readings()
    review(world, T0 + 5 * STEP, T0 + 11 * STEP)
    found = follow(world, T0 + 11 * STEP)
    assert [f.change.value for f in found] == ["withdrawn"]
    (after,) = world.incidents()
    assert not after.active
    (said,) = texts(world, one.id, EntryKind.WITHDRAWN)
    assert "示例李工" in said
    assert "电极气泡" in said
    assert {flag for (_, at), flag in world.flags().items() if at >= T0 + 5 * STEP} == {int(Flag.BAD)}
    assert {k: v for k, (v, _) in world.readings().items()} == {k: v for k, (v, _) in before.items()}, "raw stays raw"
    world.start()
    world.feed(river(T0 + 11 * STEP, [2.5]))
    assert not world.incidents()[0].active, "one bad reading after the restart is no three in a row"


def test_a_review_that_is_taken_back_gives_the_verdicts_back_and_tells_again(world: World) -> None:
    values = [*calm(5), *bad(6), 55.0, *bad(3)]  # one that the tests themselves doubt
    world.feed(river(T0, values))
    before = world.readings()
    number = review(world, T0 + 5 * STEP, T0 + 20 * STEP)
    follow(world, T0 + 15 * STEP)
    assert world.readings() != before
    void(world, number)
    found = follow(world, T0 + 15 * STEP)
    assert world.readings() == before
    assert [(f.change.value, f.since_ms) for f in found][:1] == [("fired", T0 + 5 * STEP)]


def test_what_is_long_over_is_withdrawn_too_as_long_as_its_incident_is_open(world: World) -> None:
    world.feed(river(T0, [*bad(4), *calm(8)]))
    assert not world.incidents()[0].active
    review(world, T0, T0 + 4 * STEP)
    follow(world, T0 + 12 * STEP)
    assert len(texts(world, world.incidents()[0].id, EntryKind.WITHDRAWN)) == 1
    follow(world, T0 + 13 * STEP)
    assert len(texts(world, world.incidents()[0].id, EntryKind.WITHDRAWN)) == 1, "told once"


def test_a_review_of_part_of_a_crossing_leaves_the_alarm(world: World) -> None:
    world.feed(river(T0, bad(10)))
    review(world, T0, T0 + 2 * STEP)
    assert not [f for f in follow(world, T0 + 10 * STEP) if f.change.value == "withdrawn"]
    assert world.incidents()[0].active


def test_readings_called_good_are_believed_against_the_tests(world: World) -> None:
    world.feed(river(T0, [*calm(6), 5000.0, *calm(6)]))  # impossible, say the tests; a reviewer may disagree
    assert [at for (_, at), flag in world.flags().items() if flag >= Flag.SUSPECT] == [T0 + 6 * STEP]
    review(world, T0, T0 + DAY, "good")
    follow(world, T0 + 13 * STEP)
    assert world.flags()["nh3n", T0 + 6 * STEP] == Flag.GOOD


def test_two_reviews_of_the_same_readings_are_refused_until_one_is_void(world: World) -> None:
    number = review(world, T0, T0 + HOUR)
    with pytest.raises(Refused, match=says("maintenance.reviewed_already", number=1, station="shiwan", verdict="bad")):
        review(world, T0 + 30 * MINUTE, T0 + 2 * HOUR, "good", now=T0 + DAY + 1, parameter="")
    void(world, number)
    review(world, T0 + 30 * MINUTE, T0 + 2 * HOUR, "good", now=T0 + DAY + 1)
    with pytest.raises(NotFound, match=says("maintenance.no_review", station="shiwan", number=99)):
        void(world, 99)


# -- flapping ----------------------------------------------------------------------------------------------------------


def test_what_keeps_coming_back_is_held_and_pages_no_more(world: World) -> None:
    wave = [*bad(3), *calm(4)]
    world.feed(river(T0, wave * 6))
    (one,) = world.incidents()
    pages = world.pages(one.id)
    assert pages == 3, "once for each of the first three; then it is held"
    assert one.active, "twenty minutes of calm no longer end it"
    assert any("held as flapping" in said for said in texts(world, one.id))
    world.start()
    world.feed(river(T0 + 42 * STEP, calm(30)))
    assert not world.incidents()[0].active, "two hours of calm do, over a restart as well"


# -- a station over its sensors ----------------------------------------------------------------------------------------

SENSORS = """
[[no_data]]
id = "silent"
colour = "blue"

[[no_data]]
id = "sensor-silent"
sensors = true
colour = "blue"
"""


def test_a_sensor_is_missed_while_its_station_speaks_and_a_silent_station_explains_all_of_its_own(made: Any) -> None:
    world = made(SENSORS)
    told: list[tuple[str, str | None, str]] = []

    def run(start: int, n: int, *parameters: str) -> None:
        for i in range(start, start + n):
            if parameters:
                world.take(message("shiwan", {T0 + i * STEP: dict.fromkeys(parameters, 5 + 0.01 * (i % 7))}))
            told.extend((f.rule, f.parameter, f.change.value) for f in world.tick(T0 + i * STEP + 2000))

    run(0, 6, "do", "ph")
    run(6, 2, "ph")
    assert not told, "one or two may be late"
    run(8, 4, "ph")
    assert told == [("sensor-silent", "do", "fired")]
    world.start()
    run(12, 4, "ph")
    assert len(told) == 1, "a restart tells nobody twice"
    run(16, 2, "do", "ph")
    assert told[1:] == [("sensor-silent", "do", "resolved")]
    told.clear()
    run(18, 12)
    assert told == [("silent", None, "fired")]
    run(30, 1, "ph")
    assert told[1:] == [("silent", None, "resolved")], "oxygen has its turn before it"
    run(31, 4, "ph")
    assert ("sensor-silent", "do", "fired") in told


# -- down the river ----------------------------------------------------------------------------------------------------

UPPER = Reach("upper", "上游", "Upper", Water.RIVER, ((113.0, 23.0), (113.1, 23.0)), downstream="lower")
LOWER = Reach("lower", "下游", "Lower", Water.RIVER, ((113.1, 23.0), (113.2, 23.0)))
TRAVEL = Travel("upper", "lower", least_s=3600, typical_s=7200, most_s=10_800)
ABOVE = Station("above", "上站", "Above", 113.0, 23.0, reach="upper", interval_s=300)
BELOW = Station("below", "下站", "Below", 113.1, 23.0, reach="lower", interval_s=300)
DO_TOO = """
[[threshold]]
id = "nh3n-high"
parameter = "nh3n"
side = "above"
limit = 2.0
clear = 1.8
colour = "orange"

[[threshold]]
id = "do-low"
parameter = "do"
side = "below"
limit = 2.0
clear = 2.3
colour = "orange"
"""


def two(made: Any) -> World:
    return made(DO_TOO, (ABOVE, BELOW), reaches=(UPPER, LOWER), travels=(TRAVEL,))


@pytest.mark.parametrize(
    ("hours_later", "parameter", "level", "incidents"),
    [
        (2.0, "nh3n", 2.4, 1),
        (3.5, "nh3n", 2.4, 1),  # the pulse was an hour long and the slowest water takes three
        (0.3, "nh3n", 2.4, 2),  # sooner than water can be there
        (6.0, "nh3n", 2.4, 2),  # long after it is past
        (2.0, "do", 1.4, 1),  # ammonia on its way consumes oxygen
    ],
)
def test_what_arrives_from_upstream_when_water_can_be_there_is_one_incident(
    made: Any, hours_later: float, parameter: str, level: float, incidents: int
) -> None:
    world = two(made)
    start = T0 + int(hours_later * HOUR) // STEP * STEP
    pulse = river(T0, [*bad(12), *calm(90)])
    quiet = 5.0 if parameter == "do" else 1.2
    arriving = river(T0, calm(102, quiet), parameter) | river(start, bad(6, level), parameter)
    for at in sorted(pulse | arriving):
        world.take(message("above", {at: pulse[at]}), message("below", {at: arriving[at]}))
        if at == T0 + 60 * STEP:
            world.start()
    found = world.incidents()
    assert len(found) == incidents
    stations = {c.station for c in found[0].conditions}
    assert stations == ({"above", "below"} if incidents == 1 else {"above"})
    if incidents == 1:
        assert world.pages(found[0].id) == 1, "the second station informs"
        assert any("upstream" in said and "Above" in said for said in texts(world, found[0].id))
        assert not found[0].active, "what joined it also ended in it"


def test_what_arrives_and_is_known_by_a_reading_that_was_overtaken_joins_as_well(made: Any) -> None:
    world = two(made)
    start = T0 + 24 * STEP
    for i, value in enumerate([*bad(12), *calm(15)]):
        world.take(message("above", {T0 + i * STEP: {"nh3n": value}}), message("below", {T0 + i * STEP: {"nh3n": 1.2}}))
        if i == 23:
            break
    below = river(start, bad(4))
    first, second, third, _ = below
    for at in (first, third, second):
        world.take(message("below", {at: below[at]}), now=third + 1000)
    (one,) = world.incidents()
    assert {c.station for c in one.conditions} == {"above", "below"}
    assert world.pages() == 1
    world.start()
    later = start + 4 * STEP
    world.take(*(message("below", {at: values}) for at, values in river(later, calm(4)).items()), now=later + 4 * STEP)
    assert not [c for c in world.incidents()[0].active if c.station == "below"], "and ends in the same incident"


def test_upstream_is_not_blamed_on_downstream(made: Any) -> None:
    world = two(made)
    for i, value in enumerate([*bad(6), *calm(40)]):
        world.take(message("below", {T0 + i * STEP: {"nh3n": value}}))
    for i, value in enumerate(bad(6)):
        world.take(message("above", {T0 + 2 * HOUR + i * STEP: {"nh3n": value}}))
    assert len(world.incidents()) == 2


# -- versions ----------------------------------------------------------------------------------------------------------


@BOTH
def test_the_version_that_raised_an_incident_can_be_shown_when_the_rule_is_another_one(world: World) -> None:
    world.feed(river(T0, bad(4)))
    (one,) = world.incidents()
    old = world._rules
    world._rules = replace(old, thresholds=tuple(replace(r, limit=9.0, version="new") for r in old.thresholds))
    world.start()
    world.tick(T0 + DAY)
    with world.database.read() as connection:
        shown = rule_versions.version(connection, one.rule, one.rule_version)
        first, second = rule_versions.versions(connection, one.rule)
        assert {v.rule for v in rule_versions.in_force(connection)} == {r.id for r in old}
    assert "limit = 2.0" in shown.body
    assert "above 2.0 mg/L" in shown.text.en
    assert (first.version, first.until_ms, second.until_ms) == ("new", None, T0 + DAY)
    world._rules = old
    world.start()
    world.tick(T0 + 2 * DAY)
    with world.database.read() as connection:
        assert rule_versions.versions(connection, one.rule)[0].version == one.rule_version
        with pytest.raises(NotFound, match=says("rule.never_in_force", rule="nobody")):
            rule_versions.version(connection, "nobody", "x")
        assert connection.execute(sa.text("SELECT count(*) FROM rule_version")).scalar_one() == len(old) + 3


# -- published from the browser ----------------------------------------------------------------------------------------


def _publish(world: World, text: str, at_ms: int, by: str = "示例赵工") -> None:
    with world.database.write() as connection:
        tried = rule_publications.Tried(1, "示例钱工", at_ms, True, text)
        publisher = rule_publications.Publisher(by, "administrator", "示例：雨季")
        rule_publications.publish(connection, tried, publisher, CATALOGUE, at_ms)


def test_published_rules_hold_without_a_restart_and_after_one_until_the_file_is_changed(made: Any) -> None:
    text = '[[threshold]]\nid = "high"\nparameter = "nh3n"\nside = "above"\nlimit = {}\nclear = {}\ncolour = "orange"\n'
    world = made(text.format(5.0, 4.5))
    world.tick(T0)
    _publish(world, text.format(2.0, 1.8), T0 + HOUR)
    assert world.site.follow_rules()
    assert not world.site.follow_rules(), "taken once"
    world.feed(river(T0 + HOUR, [1.0 + 0.01 * i for i in range(4)] + [3.0 + 0.01 * i for i in range(6)]))
    (one,) = world.incidents()
    assert one.limit == 2.0
    with world.database.read() as connection:
        published = rule_publications.latest(connection)
    of_file = rule_file.read(text.format(5.0, 4.5), CATALOGUE)
    changed = rule_file.read(text.format(6.0, 5.5), CATALOGUE)

    def limit(rules: rule_model.Rules) -> float:
        (rule,) = rule_publications.rules_in_force(published, rules, CATALOGUE)
        assert isinstance(rule, rule_model.Threshold)
        return rule.limit

    assert (limit(of_file), limit(changed)) == (2.0, 6.0), "whichever was done last"
