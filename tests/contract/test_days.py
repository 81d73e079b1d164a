"""Doubts of whole days in the live ingest: the same as of a table, over a restart, beside late data."""

from pathlib import Path

import numpy as np
import pytest

from api import maintenance as maintenance_views
from api.context import Context
from governance.incidents.finding import ConditionChange
from governance.organisation.roles import administrator
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from sensors.maintenance import Visit
from sensors.reading import Flag, QualityTest
from sensors.stations import Reach, Registry, Station, Water
from tests.says import shows
from tests.world import CATALOGUE, DAY, HOUR, T0, Values, World, judged_at_once, message

ATTENUATED = int(QualityTest.ATTENUATED)
DRIFT = int(QualityTest.DRIFT)
START = T0 // DAY * DAY
DAYS = 25


def month(sinks: int = 20, warms: int | None = None) -> dict[int, Values]:
    """A creek hour by hour; the swing of oxygen sinks on a day, or the temperature rises."""
    noise = np.random.default_rng(1).normal(0, 0.02, (DAYS * 24, 3))
    sun = np.sin(2 * np.pi * np.arange(DAYS * 24) / 24)
    day = np.arange(DAYS * 24) // 24
    values = np.stack([20 + 2 * sun, 7.5 + 0.3 * sun, 7 + 1.5 * sun * np.where(day >= sinks, 0.2, 1.0)], axis=1) + noise
    if warms is not None:
        values[day >= warms, 0] += 6
    return {
        START + i * HOUR: dict(zip(("water_temp", "ph", "do"), row.round(3).tolist(), strict=True))
        for i, row in enumerate(values)
    }


def creek(folder: Path) -> World:
    """A site of two stations on one creek, ``above`` and ``below``."""
    reach = Reach("creek", "示例涌", "Example Creek", Water.CREEK, ((113.0, 23.0), (113.1, 23.0)))
    above, below = (
        Station(key, key, key, lon, 23.0, reach="creek", interval_s=3600)
        for key, lon in (("above", 113.02), ("below", 113.08))
    )
    world = World(folder, stations=(above, below))
    with world.database.write() as connection:
        registry_store.save(connection, Registry((above, below), reaches=(reach,), catalogue=CATALOGUE))
    world.start()
    return world


def doubted(world: World, test: int, station: str = "shiwan") -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for (key, at), (_, packed) in world.readings(station).items():
        if packed >> 4 & test:
            assert packed & 15 == Flag.SUSPECT
            found.setdefault(key, set()).add((at - START) // DAY)
    return found


def test_a_sensor_that_lost_its_swing_is_doubted_live_as_in_a_table_and_over_a_restart(tmp_path: Path) -> None:
    world, samples = World(tmp_path), month()
    left_out = START + 24 * DAY + 3 * HOUR
    times = [at for at in samples if at != left_out]
    world.take(message("shiwan", {at: samples[at] for at in times[: 23 * 24 + 5]}))
    assert doubted(world, ATTENUATED) == {"do": {23}}
    world.start()
    for first in range(23 * 24 + 5, len(times), 7):  # in messages of seven hours
        world.take(message("shiwan", {at: samples[at] for at in times[first : first + 7]}))
    told = judged_at_once({(key, at): (v, 0) for at in times for key, v in samples[at].items()})
    assert {key: packed for key, (_, packed) in world.readings().items()} == told
    # a late reading is of its day, and takes nothing from those around it
    world.take(message("shiwan", {left_out: samples[left_out]}, received=times[-1] + HOUR))
    assert doubted(world, ATTENUATED) == {"do": {23, 24}}
    assert world.readings()["do", left_out][1] >> 4 & ATTENUATED
    after = {key: packed for key, (_, packed) in world.readings().items() if key[1] != left_out}
    assert after == told
    world.take(message("shiwan", {times[-1] + 2 * DAY: samples[times[-1]]}))
    assert not world.readings()["do", times[-1] + 2 * DAY][1] >> 4 & ATTENUATED, "a day without data proves nothing"


def test_a_thermometer_that_leaves_the_station_above_by_itself_is_doubted_live(tmp_path: Path) -> None:
    world = creek(tmp_path)
    calm, warm = month(sinks=DAYS), month(sinks=DAYS, warms=20)
    for day in range(DAYS):
        some = slice(24 * day, 24 * day + 24)
        world.take(message("above", dict(list(calm.items())[some])), message("below", dict(list(warm.items())[some])))
        if day == 22:
            world.start()
    assert doubted(world, int(QualityTest.NEIGHBOURS), "below") == {"water_temp": {22, 23, 24}}
    assert doubted(world, int(QualityTest.NEIGHBOURS), "above") == {}


def test_a_doubted_sensor_still_raises_an_alarm_and_never_ends_one(tmp_path: Path) -> None:
    world, samples = World(tmp_path), month()
    world.take(message("shiwan", samples))
    assert 24 in doubted(world, ATTENUATED)["do"]
    begin = START + DAYS * DAY
    low = {begin + i * HOUR // 4: {"do": 1.0 + 0.01 * i, "ph": 7.0, "water_temp": 20.0} for i in range(8)}
    told = [f for at, sample in low.items() for f in world.take(message("shiwan", {at: sample})).findings]
    assert ATTENUATED in {packed >> 4 & ATTENUATED for (_, at), (_, packed) in world.readings().items() if at >= begin}
    (fired,) = [f for f in told if f.rule == "do-low"]
    assert fired.change is ConditionChange.FIRED
    assert shows(fired.text.en, "finding.contradicted_or_departing")
    better = {at + 3 * HOUR: sample | {"do": 6.0 + 0.01 * i} for i, (at, sample) in enumerate(low.items())}
    told = [f for at, sample in better.items() for f in world.take(message("shiwan", {at: sample})).findings]
    assert not [f for f in told if f.rule == "do-low"]


def test_a_jump_at_a_visit_doubts_the_readings_since_the_sensor_was_last_right(tmp_path: Path) -> None:
    world, samples = World(tmp_path), month(sinks=DAYS)
    begin = START + 20 * DAY + 4 * HOUR
    for at, sample in samples.items():
        samples[at] = sample | {"do": round(sample["do"] - (2.0 if START + 16 * DAY <= at < begin else 0.0), 3)}
    first = {at: sample for at, sample in samples.items() if at < begin + 2 * HOUR}
    world.take(message("shiwan", first))
    with world.database.write() as connection:
        for since in (begin - 8 * DAY, begin):
            visit = Visit("shiwan", since, since + HOUR, ("do",), "示例", "")
            maintenance_store.begin_visit(connection, visit, Author("示例", since))

    def tick(now: int) -> None:
        world.site.follow_registry()
        world.tick(now)

    tick(begin + 2 * HOUR)
    assert doubted(world, DRIFT) == {}, "the sensor has not settled yet"
    world.take(message("shiwan", {at: sample for at, sample in samples.items() if at not in first}))
    before = world.readings()
    tick(begin + 6 * HOUR)
    days = doubted(world, DRIFT)
    assert set(days) == {"do"}
    assert days["do"] == set(range(15, 21)), "not from the first day on: what creeps was right at first"
    told = Context(world.database, world.store, CATALOGUE, "/test", lambda: begin + DAY)
    with world.database.read() as connection:
        registry = registry_store.load(connection, CATALOGUE)
    last, before_it = maintenance_views.of_station(told, registry, administrator("test"), "shiwan").visits
    (jump,) = last.jumps
    assert jump.medians == pytest.approx((5.75, 8.45), abs=0.05)  # of 3 h: at 02:00 two too low, then right at 07:00
    assert jump.doubtful_since_ms is not None
    assert begin - 5 * DAY <= jump.doubtful_since_ms < begin
    assert [one.doubtful_since_ms for one in before_it.jumps] == [None]
    after = world.readings()
    left = {key: one for key, one in after.items() if not one[1] >> 4 & DRIFT}
    assert left == {key: before[key] for key in left}
    world.start()
    tick(begin + 3 * DAY)
    assert world.readings() == after, "it stands after a restart, long after the visit"


def test_a_ph_electrode_that_creeps_away_is_due_for_a_check_until_it_does_no_more(tmp_path: Path) -> None:
    world = creek(tmp_path)
    hour = np.arange(66 * 24)
    sun = 0.15 * np.sin(2 * np.pi * hour / 24)
    told = []
    for day in range(66):
        some = hour[24 * day : 24 * day + 24]
        creeps = 0.08 * np.clip(some / 24 - 40, 0, 8)
        noise = np.random.default_rng(day).normal(0, 0.01, (2, 24))
        lines = (7.6 + sun[some] + noise[0], 7.6 + sun[some] + noise[1] + creeps)
        sent = [
            message(key, {START + int(i) * HOUR: {"ph": round(float(x), 2)} for i, x in zip(some, line, strict=True)})
            for key, line in zip(("above", "below"), lines, strict=True)
        ]
        told += [f for f in world.take(*sent).findings if f.rule == "device-maintenance_due"]
        if day in (45, 47):
            world.start()
    fired, over = told
    assert (fired.station, fired.parameter, fired.change, over.change) == (
        "below",
        "ph",
        ConditionChange.FIRED,
        ConditionChange.RESOLVED,
    )
    assert fired.cause == "device:below"
    assert 43 <= (fired.observed_at_ms - START) / DAY <= 49
    assert shows(fired.text.en, "device.maintenance_due")
    assert doubted(world, int(QualityTest.NEIGHBOURS), "below") == {}


@pytest.mark.parametrize(
    ("seen", "dirty", "days", "said"),
    [
        (None, False, range(48, 54), "nobody wrote down a visit"),
        (20, False, range(48, 54), "last seen to 29 days ago"),
        (47, False, range(55, 56), "last seen to 7 days ago"),
        (None, True, range(0), ""),
        (24, True, range(53, 54), "last seen to 28 days ago"),
    ],
)
def test_an_overgrown_lens_is_due_sooner_the_longer_nobody_was_there(
    tmp_path: Path, seen: int | None, dirty: bool, days: range, said: str
) -> None:
    """The lens is overgrown from day 44 on. A visit on day 47 that changed nothing speaks for the water, for a week;
    where the month was dirty the evidence is weak, and enough after four weeks alone."""
    world = World(tmp_path)
    if seen is not None:
        with world.database.write() as connection:
            visit = Visit("shiwan", START + seen * DAY, START + seen * DAY + HOUR, ("turbidity",), "示例", "")
            maintenance_store.begin_visit(connection, visit, Author("示例", visit.since_ms))
        world.start()
    told = []
    for day in range(58):
        noise, sun = np.random.default_rng(day).normal(0, 1, (4, 24)), np.sin(2 * np.pi * np.arange(24) / 24)
        grown = 1.2 * np.clip(day + np.arange(24) / 24 - 44, 0, 12)
        lines = {
            "turbidity": 8 + sun + 0.3 * noise[0] + grown + 20 * (dirty and 20 <= day < 25),
            "ph": 7.6 + 0.2 * sun + 0.02 * noise[1],
            "water_temp": 20 + sun + 0.1 * noise[2],
            "conductivity": 400 + 3 * noise[3],
        }
        sample = {START + day * DAY + i * HOUR: {k: round(float(x[i]), 2) for k, x in lines.items()} for i in range(24)}
        told += [f for f in world.take(message("shiwan", sample)).findings if f.rule == "device-maintenance_due"]
    if not days:
        assert not told
        return
    fired = told[0]
    assert (fired.observed_at_ms - START) // DAY in days
    assert (fired.parameter, fired.change, fired.cause) == ("turbidity", ConditionChange.FIRED, "device:shiwan")
    assert "overgrown" in fired.text.en
    assert said in fired.text.en


def test_a_sensor_that_reads_below_zero_is_one_finding_with_its_offset_until_it_was_calibrated(tmp_path: Path) -> None:
    world = World(tmp_path)
    told = []
    for day in range(40):
        noise = np.random.default_rng(day).normal(0, 0.3, 24)
        line = 8 + noise - 15 * (20 <= day < 30)
        sample = {START + day * DAY + i * HOUR: {"turbidity": round(float(x), 2)} for i, x in enumerate(line)}
        told += [f for f in world.take(message("shiwan", sample)).findings if f.rule == "device-maintenance_due"]
        if day == 25:
            world.start()
    fired, over = told
    assert [(f.parameter, f.change, (f.observed_at_ms - START) // DAY) for f in told] == [
        ("turbidity", ConditionChange.FIRED, 23),
        ("turbidity", ConditionChange.RESOLVED, 35),
    ]
    assert shows(fired.text.en, "device.below_zero")
    assert "7.1 NTU below zero" in fired.text.en
    assert over.cause == "device:shiwan"
