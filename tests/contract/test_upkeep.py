"""Checks and visits meet readings: what they mark, what that silences, and that all of it can be taken back."""

from dataclasses import replace
from typing import Any

import pytest

from infra.errors import NotFound, Refused, StorageUnavailable
from infra.texts import same, say
from ingest.analysis.chart_annotations import annotate_maintenance
from ingest.rejudge import marks
from ingest.storage import changes, schema
from ingest.storage import maintenance as store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.spool import Spool
from sensors.maintenance import Check, Photo, Visit
from sensors.reading import Flag, QualityTest
from sensors.standards.hj915 import CheckKind
from sensors.stations import Deployment, Device, Registry
from tests.says import says
from tests.world import (
    CATALOGUE,
    DAY,
    HOUR,
    MINUTE,
    QICHA,
    SHIWAN,
    STEP,
    T0,
    World,
    bad,
    calm,
    message,
    river,
)

pytestmark = pytest.mark.both_databases

ZHANG = Author("示例张工", T0)


def follow(world: World, now: int) -> list[Any]:
    """As the ingest does once a second."""
    world.site.follow_registry()
    return world.tick(now)


def check(at: int, reading: float, parameter: str = "nh3n", **other: Any) -> Check:
    return Check("shiwan", parameter, CheckKind.SPAN, at, 2.0, reading, by="示例张工", **other)


def record(world: World, *checks: Check) -> list[int]:
    with world.database.write() as connection:
        return [store.add_check(connection, one, ZHANG) for one in checks]


def correct(world: World, number: int, **other: Any) -> None:
    with world.database.write() as connection:
        store.correct_check(connection, "shiwan", number, ZHANG, **other)


def visit(world: World, since: int, until: int | None = None, *parameters: str) -> int:
    with world.database.write() as connection:
        return store.begin_visit(connection, Visit("shiwan", since, until, parameters, "示例张工"), ZHANG)


def end(world: World, number: int, until: int) -> None:
    with world.database.write() as connection:
        store.end_visit(connection, "shiwan", number, until, ZHANG)


def suspects(world: World, test: QualityTest, parameter: str = "nh3n") -> list[int]:
    """When the readings with this mark were observed, in steps since T0."""
    found = [
        (at - T0) // STEP
        for (name, at), (_, packed) in world.readings().items()
        if name == parameter and packed >> 4 & test and packed & 15 == Flag.SUSPECT
    ]
    return sorted(found)


# -- checks ------------------------------------------------------------------------------------------------------------


def test_a_failed_check_makes_the_data_since_the_last_passed_one_suspect_and_a_correction_clears_them(world: World):
    world.feed(river(T0, calm(20)))
    before = world.readings()
    _, failed = record(world, check(T0 + 5 * STEP, 2.05), check(T0 + 15 * STEP, 2.6))
    follow(world, T0 + 20 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == list(range(5, 20))
    assert world.latest()[0] == T0 + 4 * STEP, "the newest usable reading is the last one before the doubt"
    assert {key: value for key, (value, _) in world.readings().items()} == {k: v for k, (v, _) in before.items()}
    correct(world, failed, reading=2.06)
    follow(world, T0 + 20 * STEP)
    assert world.readings() == before
    assert world.latest()[0] == T0 + 19 * STEP


def test_readings_that_arrive_while_the_sensor_is_in_doubt_are_suspect_until_a_check_passes(world: World):
    world.feed(river(T0, calm(4)))
    record(world, check(T0, 2.0), check(T0 + 3 * STEP, 2.6))
    follow(world, T0 + 4 * STEP)
    world.feed(river(T0 + 4 * STEP, calm(4)))
    world.feed(river(T0 - 2 * STEP, calm(5)))  # late ones, among them corrections of what is stored
    assert suspects(world, QualityTest.CALIBRATION) == list(range(8))
    record(world, check(T0 + 6 * STEP, 2.0))
    follow(world, T0 + 8 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == list(range(6))
    world.feed(river(T0 + 8 * STEP, calm(1)))
    assert world.flags()["nh3n", T0 + 8 * STEP] == Flag.GOOD


def test_a_doubtful_sensor_neither_opens_nor_closes_a_pollution_incident(world: World):
    world.feed(river(T0, calm(12) + bad(4)))
    record(world, check(T0 + 16 * STEP, 2.6))
    follow(world, T0 + 17 * STEP)
    world.feed(river(T0 + 17 * STEP, calm(12, 1.0)))
    assert [bool(i.active) for i in world.incidents()] == [True], "what a doubtful sensor says ends nothing"
    assert world.pages() == 1


def test_readings_that_became_doubtful_count_no_longer_towards_an_incident(world: World):
    world.feed(river(T0, calm(10) + bad(2)))
    record(world, check(T0 + 9 * STEP, 2.0), check(T0 + 12 * STEP, 2.6, after=2.0))
    follow(world, T0 + 12 * STEP)
    world.feed(river(T0 + 12 * STEP, bad(2)))
    assert world.incidents() == [], "of four readings above the limit two were doubtful"
    world.feed(river(T0 + 14 * STEP, bad(1)))
    assert len(world.incidents()) == 1


def test_what_is_remembered_of_doubtful_readings_is_what_a_restart_would_read(world: World):
    visit(world, T0 + 3 * STEP, T0 + 6 * STEP, "nh3n")
    follow(world, T0)
    world.feed(river(T0, calm(12)))
    lived = world.site.history.memory
    world.start()
    world.tick(T0 + 12 * STEP)
    read = world.site.history.memory
    assert lived.packed[0].tolist() == read.packed[0].tolist()
    assert (lived.packed[0] >> 4).any()


def test_what_a_cleared_sensor_had_shown_is_told_as_an_incident_of_the_past_that_pages_nobody(world: World):
    record(world, check(T0 - HOUR, 2.6))
    follow(world, T0)
    world.feed(river(T0, calm(12) + bad(6) + calm(60)))
    assert world.incidents() == []
    correct(world, 1, reading=2.05)
    world.site.follow_registry()
    assert world.site.tick(None, T0 + DAY)
    (told,) = world.told()
    assert (told.retrospective, told.since, told.active, told.pages) == (True, T0 + 12 * STEP, False, 0)
    assert world.site.tick(None, T0 + DAY + 1) == []
    world.start()
    world.feed(river(T0 + 2 * DAY, calm(3)))
    assert len(world.incidents()) == 1


def test_marks_survive_a_restart_and_what_was_recorded_while_nothing_ran_is_taken_up(world: World):
    world.feed(river(T0, calm(10)))
    record(world, check(T0 + 2 * STEP, 2.0), check(T0 + 6 * STEP, 2.6))
    world.start()
    world.tick(T0 + 10 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == list(range(2, 10))
    world.start()
    world.feed(river(T0 + 10 * STEP, calm(2)))  # before the first tick
    assert suspects(world, QualityTest.CALIBRATION) == list(range(2, 12))
    correct(world, 2, void=True)
    world.start()
    world.tick(T0 + 12 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == []


def test_marking_that_fails_half_way_has_not_happened_and_happens_at_the_next_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.feed(river(T0, calm(10)))
    record(world, check(T0 + 2 * STEP, 2.0), check(T0 + 6 * STEP, 2.6))
    saved = store.save_marks

    def broken(*_: Any) -> None:
        raise StorageUnavailable(same("the disk is full"))

    monkeypatch.setattr(store, "save_marks", broken)
    with pytest.raises(StorageUnavailable):
        follow(world, T0 + 10 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == []
    monkeypatch.setattr(store, "save_marks", saved)
    follow(world, T0 + 10 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == list(range(2, 10))


def test_doubt_of_months_is_marked_week_by_week(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(marks, "WINDOW_MS", STEP * 3)
    world.feed(river(T0, calm(20)))
    record(world, check(T0 + 2 * STEP, 2.0), check(T0 + 18 * STEP, 2.6, after=2.0))
    follow(world, T0 + 20 * STEP)
    assert suspects(world, QualityTest.CALIBRATION) == list(range(2, 18))


# -- visits ------------------------------------------------------------------------------------------------------------


def test_a_visit_marks_the_sensor_worked_on_and_no_other_until_it_ends(world: World):
    number = visit(world, T0 + 5 * STEP, None, "nh3n")
    follow(world, T0 + 5 * STEP)
    for i, value in enumerate(calm(10)):
        world.take(message("shiwan", {T0 + i * STEP: {"nh3n": value, "ph": 7 + value / 100}}))
        world.take(message("qicha", {T0 + i * STEP: {"nh3n": value}}))
    assert suspects(world, QualityTest.MAINTENANCE) == list(range(5, 10))
    assert suspects(world, QualityTest.MAINTENANCE, "ph") == []
    assert set(world.flags("qicha").values()) == {Flag.GOOD}
    end(world, number, T0 + 8 * STEP)
    follow(world, T0 + 10 * STEP)
    assert suspects(world, QualityTest.MAINTENANCE) == [5, 6, 7]
    world.feed(river(T0 + 10 * STEP, calm(1)))
    assert world.flags()["nh3n", T0 + 10 * STEP] == Flag.GOOD


def test_a_probe_in_standard_solution_opens_no_incident_and_one_in_air_closes_none(world: World):
    visit(world, T0 + 12 * STEP, None, "nh3n")
    follow(world, T0 + 12 * STEP)
    world.feed(river(T0, calm(12)))
    world.feed(river(T0 + 12 * STEP, bad(6, 3.5)))
    assert world.incidents() == []
    world.feed(river(T0, [5.5 + i / 100 for i in range(6)], "ph"))
    assert [i.rule for i in world.incidents()] == ["ph-acid"], "other sensors of the station still raise theirs"


def test_an_open_incident_stays_open_while_somebody_rinses_the_probe(world: World):
    world.feed(river(T0, calm(12) + bad(4)))
    number = visit(world, T0 + 16 * STEP, None, "nh3n")
    follow(world, T0 + 16 * STEP)
    world.feed(river(T0 + 16 * STEP, calm(12, 0.3)))
    assert [bool(i.active) for i in world.incidents()] == [True]
    end(world, number, T0 + 28 * STEP)
    follow(world, T0 + 28 * STEP)
    world.feed(river(T0 + 28 * STEP, calm(12, 0.3)))
    assert [bool(i.active) for i in world.incidents()] == [False]
    assert world.pages() == 1


def test_a_station_that_is_worked_on_is_not_called_silent_and_has_its_intervals_after_the_visit(world: World):
    world.feed(river(T0, calm(3)))
    number = visit(world, T0 + 3 * STEP)
    assert follow(world, T0 + HOUR) == []
    end(world, number, T0 + HOUR)
    assert follow(world, T0 + HOUR + 2 * STEP) == []
    assert [f.cause for f in follow(world, T0 + HOUR + 4 * STEP)] == ["silence:shiwan"]


def test_the_gateway_of_a_station_that_is_worked_on_is_still_one_incident(world: World):
    keys = ("a", "b", "c")
    world.register(*(replace(SHIWAN, key=key, gateway="gw") for key in keys), replace(SHIWAN, gateway="gw"), QICHA)
    world.site.follow_registry()
    for key in (*keys, "shiwan"):
        world.feed(river(T0, calm(3)), key)
    visit(world, T0 + 3 * STEP)
    assert [f.cause for f in follow(world, T0 + HOUR)] == ["silence:gateway:gw"]


def test_one_visit_of_a_station_at_a_time(world: World):
    number = visit(world, T0)
    with pytest.raises(
        Refused,
        match=says(
            "maintenance.a_visit_clashes",
            station="shiwan",
            why=say("maintenance.during_visit_of", by="示例张工", at="2026-09-21 22:15"),
        ),
    ):
        visit(world, T0 + HOUR)
    with pytest.raises(Refused, match=says("maintenance.visit_began", number=1, station="shiwan")):
        end(world, number, T0)
    end(world, number, T0 + HOUR)
    with pytest.raises(Refused, match=says("maintenance.visit_over", number=1, station="shiwan")):
        end(world, number, T0 + 2 * HOUR)
    with pytest.raises(NotFound, match=says("maintenance.no_visit", station="shiwan", number=99)):
        end(world, 99, T0 + 2 * HOUR)
    visit(world, T0 + HOUR)


def test_two_checks_of_a_kind_at_one_instant_are_refused_naming_the_first(world: World):
    record(world, check(T0, 2.0))
    with pytest.raises(
        Refused, match=says("maintenance.checked_already", parameter="nh3n", station="shiwan", kind="span", number=1)
    ):
        record(world, check(T0, 2.1))
    with pytest.raises(NotFound, match=says("maintenance.no_calibration", station="shiwan", number=9)):
        correct(world, 9, reading=2.0)


# -- swaps -------------------------------------------------------------------------------------------------------------


def test_a_swap_of_sensor_and_unit_in_the_middle_of_a_series_changes_nothing_in_the_history(world: World):
    old = Deployment("shiwan", "nh3n", T0, "mg/L", device="OLD")
    world.register(SHIWAN, QICHA, deployments=[old])
    world.site.follow_registry()
    world.feed(river(T0, calm(10)))
    before = world.readings()
    world.register(SHIWAN, QICHA, deployments=[Deployment("shiwan", "nh3n", T0 + 10 * STEP, "µg/L", 1.0, 0.05)])
    follow(world, T0 + 10 * STEP)
    world.feed(river(T0 + 10 * STEP, [1000 * v for v in calm(10)]))
    world.take(message("shiwan", {T0 + 2 * STEP: {"nh3n": calm(10)[2]}}))  # the logger repeats itself
    after = world.readings()
    assert {key: after[key] for key in before} == before
    new = [value for (_, at), (value, _) in sorted(after.items()) if at >= T0 + 10 * STEP]
    assert new == pytest.approx([v + 0.05 for v in calm(10)])
    world.take(message("shiwan", {T0 - STEP: {"nh3n": 1.49}}))
    assert world.readings()["nh3n", T0 - STEP][0] == 1.49


# -- who changed what --------------------------------------------------------------------------------------------------


def test_every_change_is_kept_with_who_when_old_and_new_and_nothing_else_is(world: World):
    author = Author("示例李工", T0 + HOUR)
    hung = Deployment("shiwan", "ph", T0, "1", device="SN")
    with world.database.write() as connection:
        for _ in range(2):
            registry_store.save(
                connection, Registry((), (hung,), catalogue=CATALOGUE, devices=(Device("SN", "S5"),)), author
            )
        registry_store.save_deployments(connection, [replace(hung, offset=0.1)], author)
    with world.database.read() as connection:
        newest, first, device = changes.listing(connection, limit=3)
        assert changes.listing(connection, key="shiwan", what="deployment") == [newest, first]
        assert changes.listing(connection, key="shiw") == []
        assert changes.listing(connection, before_id=first.id, limit=1) == [device]
    assert (device.what, device.key, device.before, device.after["model"]) == ("device", "SN", None, "S5")
    assert (newest.by, newest.at_ms, newest.key) == ("示例李工", T0 + HOUR, f"shiwan/ph/{T0}")
    assert newest.before is not None
    assert (newest.before["offset"], newest.after["offset"]) == (0.0, 0.1)


def test_everything_saved_comes_back_as_it_was(world: World):
    photo = Photo("shiwan", "0" * 64, "image/jpeg", 3, T0, "示例张工")
    one = check(T0, 2.6, after=2.0, before=1.9, span=4.0, limit=12.0, device="SN", lot="L1", note="注", void=True)
    going = Visit("shiwan", T0, None, ("ph", "do"), "示例张工", "注")
    record(world, one)
    with world.database.write() as connection:
        store.begin_visit(connection, going, ZHANG)
        assert store.add_photo(connection, photo, ZHANG)
        assert not store.add_photo(connection, photo, ZHANG)
    with world.database.read() as connection:
        done = store.load(connection)
        assert store.photos(connection, "shiwan") == [photo]
    assert (done.checks, done.visits) == ((one,), (going,))


# -- annotations -------------------------------------------------------------------------------------------------------


def lines(waiting: Spool) -> list[str]:
    return [line.decode().rstrip() for entry in waiting.next(1000) for line in entry.lines]


def test_visits_calibrations_and_swaps_become_annotations_and_a_change_writes_the_same_point_again(world: World):
    waiting = Spool(world.database, CATALOGUE, clock_ms=lambda: T0, most_bytes=2**30)
    number = visit(world, T0, None, "ph")
    record(world, check(T0 + 1, 2.6), check(T0 + 1, 7.0, "ph", limit=500.0))
    hung = [Deployment("shiwan", p, T0 + 2, "mg/L" if p == "do" else "1", device="S1") for p in ("ph", "do")]
    world.register(SHIWAN, QICHA, deployments=[*hung, replace(hung[0], since_ms=T0 + 3, device="S2")])
    assert annotate_maintenance(world.database, waiting, CATALOGUE) == 4
    assert annotate_maintenance(world.database, waiting, CATALOGUE) == 0
    told = lines(waiting)
    assert [line.split(",kind=")[1].split(",")[0] for line in told] == ["calibration", "swap", "swap", "visit"]
    assert all(line.startswith(f"{schema.EVENT},") for line in told)
    assert say("maintenance.failed", parameter="氨氮", kind=say("maintenance.kind_span")).zh in told[0]
    assert "pH跨度核查合格" in told[0].replace("pH值", "pH")
    assert "S1 → S2" in told[2]
    assert told[3].endswith(str(T0))
    assert "until=0i" in told[3]
    end(world, number, T0 + MINUTE)
    assert annotate_maintenance(world.database, waiting, CATALOGUE) == 1
    (again,) = lines(waiting)[4:]
    assert f"until={T0 + MINUTE}i" in again
    assert again.split(" ")[0] == told[3].split(" ")[0]
    assert again.endswith(str(T0))
