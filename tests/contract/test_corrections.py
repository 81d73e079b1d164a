"""What rules had found of a reading that is another one now: withdrawn, kept, or found in the past."""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governance.incidents import store as incident_store
from governance.incidents.model import Action, Entry, EntryKind, Order, State
from governance.incidents.store import Incident, history
from governance.organisation.roles import administrator
from infra.errors import Refused
from infra.texts import say
from ingest.storage import maintenance as store
from sensors.maintenance import Check, Visit
from sensors.reading import Flag, Message
from sensors.standards.hj915 import CheckKind
from sensors.stations import Reach, Registry, Station, Water
from tests.contract.test_rules_in_force import ZHANG, follow, registry_store, review, void
from tests.says import shows
from tests.world import BOTH, CATALOGUE, HOUR, STEP, T0, World, bad, calm, message, river

MAIN = Reach("main", "东平河", "Main", Water.RIVER, ((113.0, 23.0), (113.2, 23.0)))
UPPER = Station("upper", "上站", "Upper", 113.02, 23.0, interval_s=300, reach="main")
LOWER = Station("lower", "下站", "Lower", 113.03, 23.0, interval_s=300, reach="main")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, stations=())
    with world.database.write() as connection:
        registry_store.save(connection, Registry((UPPER, LOWER), reaches=(MAIN,), catalogue=CATALOGUE))
    world.start()
    yield world
    world.database.close()


def sent(first: int, values: Sequence[float], at: int, parameter: str = "nh3n", **other: Any) -> Message:
    """What a device (or somebody) sends at one time of readings from the first on."""
    samples = river(T0 + first * STEP, values, parameter)
    return message("shiwan", samples, sent_at_ms=T0 + at * STEP, received=T0 + at * STEP, **other)


def entries(world: World, what: EntryKind | None = None, number: int = 0) -> list[Entry]:
    with world.database.read() as connection:
        found = [e for one in world.incidents() for e in history(connection, one.id) if number in (0, one.id)]
    return [e for e in found if what is None or e.what is what]


def changes(found: Sequence[Any]) -> list[tuple[str, int]]:
    return [(f.change.value, (f.observed_at_ms - T0) // STEP) for f in found]


def act(world: World, number: int, *actions: Order) -> None:
    with world.database.write() as connection:
        for order in actions:
            incident_store.apply_action(
                connection, number, order, administrator("示例王主任"), now_ms=T0 + HOUR, source="/test"
            )


# -- taken back --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("over", [False, True], ids=["still on", "long over"])
def test_a_value_corrected_to_the_good_side_withdraws_the_crossing_and_the_history_says_from_what_to_what(
    world: World, over: bool, restart: bool
) -> None:
    world.feed(river(T0, [*calm(5), *bad(6), *calm(20 if over else 0)]))
    if restart:
        world.start()
    found = world.take(sent(5, calm(6), 11 + 20 * over)).findings
    assert changes(found) == [("withdrawn", 7)]
    (one,) = world.incidents()
    assert not one.active
    (entry,) = entries(world, EntryKind.WITHDRAWN)
    assert shows(entry.text.en, "finding.corrected", was="2.400 mg/L", now="1.500 mg/L", by=say("finding.resent"))
    assert shows(entry.text.en, "finding.corrected_more", count=5)
    world.start()
    world.feed(river(T0 + (11 + 20 * over) * STEP, bad(2)))
    assert not world.incidents()[0].active, "two bad readings after it are no three in a row"


def test_a_correction_by_a_person_says_who(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(6)]))
    world.take(replace(sent(5, calm(6), 11), source="http", by="示例赵工"))
    (entry,) = entries(world, EntryKind.WITHDRAWN)
    assert shows(entry.text.zh, "finding.corrected", by="示例赵工")
    assert shows(entry.text.en, "finding.corrected", by="示例赵工")


def test_a_crossing_that_still_stands_on_other_readings_stays_and_ends_when_the_water_is_back(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(10)]))
    assert world.take(sent(5, calm(4), 15)).findings == ()
    assert world.incidents()[0].active
    world.start()
    world.feed(river(T0 + 15 * STEP, calm(6)))
    (one,) = world.incidents()
    assert not one.active
    assert [e.what for e in entries(world)] == [EntryKind.FIRED, EntryKind.RESOLVED]


def test_an_alarm_that_is_on_stands_on_what_was_before_a_pause_when_what_came_after_it_is_corrected(
    world: World,
) -> None:
    world.feed(river(T0, [*calm(5), *bad(5)]))
    after = 10 + HOUR // STEP
    world.feed(river(T0 + after * STEP, bad(5)))
    assert world.take(sent(after, [1.9] * 5, after + 5)).findings == ()
    (one,) = world.incidents()
    assert one.active
    assert entries(world, EntryKind.WITHDRAWN) == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_correction_in_the_middle_of_a_count_counts_anew_from_there(world: World, restart: bool) -> None:
    world.feed(river(T0, [*calm(5), *bad(2)]))
    assert world.take(sent(6, [1.5], 7)).findings == ()
    if restart:
        world.start()
    world.feed(river(T0 + 7 * STEP, bad(2)))
    assert world.incidents() == [], "with the reading before it these would be three"
    world.feed(river(T0 + 9 * STEP, bad(1)))
    assert world.incidents()[0].observed_at_ms == T0 + 9 * STEP


def test_a_trend_that_rested_on_corrected_readings_goes_with_them(world: World) -> None:
    rising = [round(20 + 0.15 * i, 2) for i in range(30)]
    world.feed(river(T0, rising, "water_temp"))
    assert world.incidents()[0].rule == "temp-rising"
    found = world.take(sent(0, calm(30, 20.0), 30, "water_temp")).findings
    assert {f.change.value for f in found} == {"withdrawn"}
    assert not world.incidents()[0].active


def test_late_readings_between_those_of_a_crossing_take_nothing_back_where_another_one_is_corrected(
    world: World,
) -> None:
    """A correction hours before, in the same message as late readings that break the count, is no reason."""
    world.feed(river(T0, [*calm(30), *bad(3), *calm(10)]))
    between = {T0 + i * STEP + STEP // 2: {"nh3n": 1.5} for i in (30, 31)}
    one = message("shiwan", {T0 + 2 * STEP: {"nh3n": 1.43}} | between, received=T0 + 43 * STEP)
    assert [f.change.value for f in world.take(one).findings if f.change.value == "withdrawn"] == []


def test_a_value_corrected_to_the_bad_side_shows_a_crossing_in_the_past_that_pages_nobody(world: World) -> None:
    world.feed(river(T0, calm(40)))
    found = world.take(sent(5, bad(5), 40)).findings
    assert [change for change, _ in changes(found)] == ["fired", "resolved"]
    assert all(f.retrospective for f in found)
    assert world.pages() == 0
    assert found[0].observed_at_ms == T0 + 7 * STEP


def test_a_failed_check_makes_a_crossing_doubtful_and_takes_nothing_back(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(5), *calm(74)]))
    failed = Check("shiwan", "nh3n", CheckKind.SPAN, T0 + 84 * STEP, 2.0, 3.0, by="示例张工")
    with world.database.write() as connection:
        store.add_check(connection, replace(failed, at_ms=T0 - STEP, reading=2.0), ZHANG)
        store.add_check(connection, failed, ZHANG)
    assert follow(world, T0 + 85 * STEP) == []
    assert world.flags()["nh3n", T0 + 7 * STEP] == Flag.SUSPECT
    assert [e.what for e in entries(world)] == [EntryKind.FIRED, EntryKind.RESOLVED]


def test_a_review_takes_back_what_rested_on_its_readings_and_nothing_that_a_visit_doubts_at_the_same_time(
    world: World,
) -> None:
    world.feed(river(T0, [*calm(5), *bad(5), *calm(60), *bad(5), *calm(10)]))
    with world.database.write() as connection:
        visit = Visit("shiwan", T0 + 70 * STEP, T0 + 76 * STEP, (), "示例李工")
        store.begin_visit(connection, visit, ZHANG)
    review(world, T0 + 5 * STEP, T0 + 10 * STEP)
    assert changes(follow(world, T0 + 86 * STEP)) == [("withdrawn", 7)]


# -- what people made of it --------------------------------------------------------------------------------------------


def test_of_two_crossings_in_one_incident_the_one_that_stands_stays_on(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(5), *calm(10), *bad(5)]))
    assert changes(world.take(sent(5, calm(5), 25)).findings) == [("withdrawn", 7)]
    (one,) = world.incidents()
    assert [c.fired_at_ms for c in one.active] == [T0 + 22 * STEP]
    world.feed(river(T0 + 25 * STEP, calm(6)))
    assert not world.incidents()[0].active


@BOTH
@pytest.mark.parametrize("how", ["dispatched", "closed"])
def test_a_case_people_work_on_or_have_closed_keeps_its_state_and_says_what_was_withdrawn(
    world: World, how: str
) -> None:
    world.feed(river(T0, [*calm(5), *bad(6), *calm(6)]))
    (one,) = world.incidents()
    act(world, one.id, Order(Action.ACCEPT))
    if how == "closed":
        act(world, one.id, Order(Action.FALSE_ALARM, comment="示例", reason="other"))
    before = world.incidents()[0]
    review(world, T0 + 5 * STEP, T0 + 11 * STEP)
    follow(world, T0 + 17 * STEP)
    follow(world, T0 + 18 * STEP)
    (after,) = world.incidents()
    assert (after.state, after.is_open) == (before.state, how == "dispatched")
    assert after.state in (State.ACCEPTED, State.FALSE_ALARM)
    (entry,) = entries(world, EntryKind.WITHDRAWN)
    assert "示例李工" in entry.text.zh
    assert "2.422 mg/L" in entry.text.zh, "what the reading was"


def test_what_arrived_from_upstream_is_withdrawn_in_the_incident_it_joined_also_when_it_is_over(two: World) -> None:
    for i, (above, below) in enumerate(zip([*bad(20), *calm(30)], [*calm(12), *bad(6), *calm(32)], strict=True)):
        at = T0 + i * STEP
        two.take(message("upper", {at: {"nh3n": above}}), message("lower", {at: {"nh3n": below}}))
    (one,) = two.incidents()
    assert {c.station for c in one.conditions} == {"upper", "lower"}
    review(two, T0 + 12 * STEP, T0 + 18 * STEP, station="lower")
    assert changes(follow(two, T0 + 50 * STEP)) == [("withdrawn", 14)]
    assert [e.what for e in entries(two, number=one.id)][-1] is EntryKind.WITHDRAWN


# -- replayed ----------------------------------------------------------------------------------------------------------


def log() -> list[tuple[list[Message], int]]:
    """A crossing, its correction, a correction of that, and a second crossing that stays."""
    found = [
        ([message("shiwan", {T0 + i * STEP: {"nh3n": v}}, sent_at_ms=T0 + i * STEP)], i)
        for i, v in enumerate([*calm(5), *bad(6), *calm(4)])
    ]
    found += [([sent(5, calm(6), 15)], 15), ([sent(6, [1.9], 16)], 16)]
    found += [
        ([message("shiwan", {T0 + i * STEP: {"nh3n": 2.4 + 0.01 * i}}, sent_at_ms=T0 + i * STEP)], i)
        for i in range(17, 23)
    ]
    return found


def played(world: World, batches: Sequence[tuple[list[Message], int]], now: int | None = None) -> list[Any]:
    found = []
    for messages, at in batches:
        found += world.take(*messages, now=T0 + (at if now is None else now) * STEP + 1000).findings
    return found


@pytest.mark.parametrize("restart", [False, True])
def test_a_log_with_corrections_that_is_replayed_changes_nothing(world: World, restart: bool) -> None:
    told = played(world, log())
    assert [change for change, _ in changes(told)] == ["fired", "resolved", "withdrawn", "fired"]
    before = without_accounts(world)
    for now in (23, 24):
        if restart:
            world.start()
        assert played(world, log(), now) == []
        world.tick(T0 + now * STEP)
    assert without_accounts(world) == before
    totals = world.totals()
    assert totals["readings"] == totals["stored"] + totals["duplicate"], "the ledger closes"


def without_accounts(world: World) -> Mapping[str, list[Any]]:
    """All that is stored but the count of messages, which counts the second ones, too."""
    return {name: rows for name, rows in world.everything().items() if name != "ledger"}


def test_a_value_of_two_in_one_batch_that_was_overtaken_does_not_come_back_by_a_replay(world: World) -> None:
    world.feed(river(T0, calm(5)))
    first, second = sent(5, bad(4), 9), sent(5, calm(4), 10)
    world.take(first, second)
    before = world.readings()
    for one in (first, second):
        assert world.take(one, now=T0 + 12 * STEP).findings == ()
        assert world.readings() == before


def test_a_correction_back_to_the_first_value_counts_when_it_was_sent_after_the_correction(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(6), *calm(12)]))
    world.take(sent(5, calm(6), 23))
    found = world.take(sent(5, bad(6), 24)).findings
    assert [change for change, _ in changes(found)] == ["fired", "resolved"]
    assert world.readings()["nh3n", T0 + 5 * STEP][0] == 2.4


def test_who_changes_their_mind_twice_is_followed_each_time(world: World) -> None:
    world.feed(river(T0, [*calm(5), *bad(6), *calm(12)]))
    for n in range(3):
        number = review(world, T0 + 5 * STEP, T0 + 11 * STEP)
        assert changes(follow(world, T0 + 24 * STEP)) == [("withdrawn", 7)]
        assert entries(world, number=max(one.id for one in world.incidents()))[-1].what is EntryKind.WITHDRAWN
        assert not any(active(one) for one in world.incidents())
        void(world, number)
        follow(world, T0 + 24 * STEP)
        assert len(entries(world, EntryKind.FIRED)) == n + 2
        assert not any(active(one) for one in world.incidents())


# -- anything ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [2, 7, 19, 39])
def test_what_is_on_is_on_in_an_incident_whatever_is_corrected_and_reviewed_and_an_old_message_tells_nothing(
    world: World, seed: int
) -> None:
    rng, log, reviews, n = random.Random(seed), [], [], 0  # type: ignore[var-annotated]
    for _ in range(60):
        what = rng.random()
        now = T0 + n * STEP
        if what < 0.5 or n < 6:
            many = rng.randrange(1, 5)
            log.append(sent(n, (bad if rng.random() < 0.45 else calm)(many), n + many))
            n += many
            world.take(log[-1])
        elif what < 0.75:
            first, many = some(rng, n)
            log.append(sent(first, (bad if rng.random() < 0.4 else calm)(many), n))
            world.take(log[-1], now=now)
        elif what < 0.83:
            first, many = some(rng, n)
            with contextlib.suppress(Refused):
                reviews.append(review(world, T0 + first * STEP, T0 + (first + many) * STEP, now=now))
            follow(world, now)
        elif what < 0.9 and reviews:
            void(world, reviews.pop(rng.randrange(len(reviews))))
            follow(world, now)
        elif what < 0.95:
            world.start()
        elif rng.random() < 0.5:
            for one in rng.sample(log, min(3, len(log))):
                assert world.take(one, now=now).findings == ()
        on = {key for key in world.site.history.checks.alarms if key[0] == "nh3n-high"}
        assert on <= {c.key for one in world.incidents() if one.is_open for c in one.active}


def some(rng: random.Random, n: int) -> tuple[int, int]:
    first = rng.randrange(max(0, n - 30), n)
    return first, min(n - first, rng.randrange(1, 8))


def active(incident: Incident) -> bool:
    return bool(incident.active)
