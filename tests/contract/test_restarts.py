"""Days of a small river in which much goes wrong, told the same whenever the ingest is killed (design rule 8)."""

import functools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from governance.incidents.finding import ConditionChange, Finding
from infra.errors import Refused
from infra.times import rfc3339
from ingest.storage import maintenance as store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from sensors.maintenance import Mute, Review, Verdict, Visit
from sensors.reading import Message
from sensors.stations import Reach, Registry, Station, Water
from tests.creek import DAY, QUIET, STEP, creek, discharge
from tests.creek import RULES as EVENTS
from tests.world import BOTH, CATALOGUE, T0, World, differences, message

MOST_STATEMENTS_A_STATION = 8
"""At a start. Over a slow line to the database every one is a wait, and a district has thousands of stations."""
RULES = (
    EVENTS
    + """
[[threshold]]
id = "cloudy"
parameter = "turbidity"
side = "above"
limit = 30.0
clear = 25.0
samples = 2
keep_firing_s = 1800
flaps = 3
flap_window_s = 43200
hold_s = 14400
colour = "blue"

[[threshold]]
id = "oxygen"
parameter = "do"
side = "below"
limit = 4.0
clear = 4.5
samples = 2
colour = "orange"

[[rate]]
id = "salt"
parameter = "conductivity"
side = "above"
per_hour = 60.0
over_s = 3600
samples = 2
colour = "yellow"

[[no_data]]
id = "silent"
intervals = 3
colour = "blue"

[[no_data]]
id = "sensor"
sensors = true
intervals = 4
at_least_s = 7200
colour = "blue"
"""
)
MAIN = Reach("main", "东平河", "Main", Water.RIVER, ((113.0, 23.0), (113.2, 23.0)))
STATIONS = (
    Station("above", "上站", "Above", 113.02, 23.0, interval_s=900, reach="main"),
    Station("below", "下站", "Below", 113.03, 23.0, interval_s=900, reach="main"),
    Station("left", "左站", "Left", 113.1, 23.1, interval_s=900, gateway="g1"),
    Station("right", "右站", "Right", 113.1, 23.2, interval_s=900, gateway="g1"),
)
NAMES = tuple(s.key for s in STATIONS)
LAST = QUIET + 110
WANG = Author("示例王工", T0)

Act = functools.partial[list[Finding]]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the quiet days of all stations."""
    folder = tmp_path_factory.mktemp("before")
    world = World(folder, stations=(), text=RULES)
    with world.database.write() as connection:
        registry_store.save(connection, Registry(STATIONS, reaches=(MAIN,), catalogue=CATALOGUE))
    world.start()
    for first in range(0, QUIET, 71):
        world.take(*(sent(name, creek(seed=k), range(first, min(first + 71, QUIET))) for k, name in enumerate(NAMES)))
    world.database.close()
    return folder


def sent(station: str, water: dict[str, np.ndarray], rows: range, off: int = 0, without: str = "") -> Message:
    values = {T0 + i * STEP: {key: round(float(v[i]), 3) for key, v in water.items() if key != without} for i in rows}
    return message(station, values, sent_at_ms=max(values) - off)


def days(seed: int) -> Iterator[tuple[Act, int]]:  # noqa: C901  (some days, in their order)
    """What happens, one after the other, and when: messages in any batches, late ones, words of devices, and people."""
    rng = random.Random(seed)
    water = {name: creek(12 * DAY, seed=k) for k, name in enumerate(NAMES)}
    for name in NAMES:
        for _ in range(rng.randrange(3)):
            discharge(water[name], rng.randrange(QUIET + 5, LAST - 20), rng.choice((1, 4)))
        for _ in range(rng.randrange(5)):
            first = rng.randrange(QUIET, LAST)
            water[name]["turbidity"][first : first + rng.choice((2, 3, 9))] += 40
    trace = np.arange(12 * DAY) - rng.randrange(QUIET + 5, LAST - 20)
    shape = np.exp(-np.maximum(trace, 0) / 8) * np.clip((trace + 1) / 3, 0, 1)
    water["below"]["conductivity"] += 10 * shape
    water["below"]["do"] -= 1.2 * shape
    away = {name: spells(rng, 1, 40) for name in NAMES}
    if rng.random() < 0.6:
        away["left"] = away["right"] = spells(rng, 1, 30)
    dumb, wrong = {name: spells(rng, 1, 30) for name in NAMES}, range(QUIET + 30, QUIET + 70)
    lost = {name: rng.random() < 0.3 for name in NAMES}
    kept: dict[str, list[int]] = {name: [] for name in NAMES}
    correcting, delivered = random.Random(seed + 500), {name: set(range(QUIET)) for name in NAMES}
    for i in range(QUIET, LAST):
        now = T0 + i * STEP + 1000
        batch = []
        for name in NAMES:
            if i in away[name]:
                kept[name].append(i)
                continue
            off = 2 * 3_600_000 if name == "below" and i in wrong else 0
            without = "ph" if i in dumb[name] else ""
            batch.append(sent(name, water[name], range(i, i + 1), off, without))
            delivered[name].add(i)
            if kept[name] and not lost[name] and rng.random() < 0.5:
                part, kept[name] = kept[name][:15], kept[name][15:]
                batch.append(sent(name, water[name], range(part[0], part[-1] + 1)))
        if rng.random() < 0.5:
            yield functools.partial(taken, messages=batch, now=now), now
        else:
            for one in batch:
                yield functools.partial(taken, messages=[one], now=now), now
        if correcting.random() < 0.15:
            name = correcting.choice(NAMES)
            rows = [j for j in range(i - 12, i) if j in delivered[name]]
            cloudy = [j for j in rows if water[name]["turbidity"][j] > 30]
            some, more = (cloudy, -40.0) if cloudy else (rows[2 : correcting.randrange(3, 8)], 40.0)
            if some:
                batch = [corrected(name, water[name], some, more, now)]
                yield functools.partial(taken, messages=batch, now=now), now
        if rng.random() < 0.05:
            yield functools.partial(heard, name=rng.choice(NAMES), what=rng.choice(WORDS), now=now), now
        if rng.random() < 0.02:
            yield functools.partial(done, act=rng.choice(DEEDS), name=rng.choice(NAMES), i=i), now


def corrected(station: str, water: dict[str, np.ndarray], rows: list[int], more: float, now: int) -> Message:
    """Turbidity sent again as another value: enough to undo a crossing, or to make one."""
    values = {T0 + i * STEP: {"turbidity": round(max(1.0, float(water["turbidity"][i]) + more), 3)} for i in rows}
    return message(station, values, sent_at_ms=now - 500, received=now)


WORDS = ("door_open", "door_closed", "power_lost", "power_restored", "leak")


def spells(rng: random.Random, many: int, longest: int) -> set[int]:
    found: set[int] = set()
    for _ in range(rng.randrange(many + 1)):
        first = rng.randrange(QUIET, LAST)
        found |= set(range(first, first + rng.randrange(1, longest)))
    return found


def taken(world: World, messages: list[Message], now: int) -> list[Finding]:
    return list(world.take(*messages, now=now).findings) if messages else []


def heard(world: World, name: str, what: str, now: int) -> list[Finding]:
    body = json.dumps({"event": what, "at": rfc3339(now - 1000)}).encode()
    return list(
        world.site.handle_device_messages(
            [Message(name, body, now, topic=f"rivers/v1/{name}/event", kind="event")], now
        ).findings
    )


def reviewed(connection: Any, name: str, i: int) -> None:
    span = T0 + (i - 12) * STEP, T0 + (i - 4) * STEP
    store.add_review(connection, Review(name, "", *span, Verdict.BAD, "气泡", "示例王工", span[1]), WANG)


def visited(connection: Any, name: str, i: int) -> None:
    store.begin_visit(connection, Visit(name, T0 + (i - 6) * STEP, T0 + (i - 3) * STEP, (), "示例王工"), WANG)


def muted(connection: Any, name: str, i: int) -> None:
    store.add_mute(connection, Mute(name, T0 + (i + 1) * STEP, T0 + (i + 10) * STEP, (), "示例王工", "清淤"), WANG)


DEEDS = (reviewed, visited, muted)


def done(world: World, act: Callable[[Any, str, int], None], name: str, i: int) -> list[Finding]:
    with world.database.write() as connection:
        act(connection, name, i)
    world.site.follow_registry()
    return []


Findings = list[list[Finding]]


def played(
    before: Path, folder: Path, seed: int, restarts: float = 0.0, again: float = 0.0
) -> tuple[Findings, dict[str, list[Any]]]:
    """What is told step by step, and all that is in the database afterwards.

    Before a step the ingest restarts, and after one some messages of the last steps come once more, with these
    probabilities.
    """
    rng = random.Random(seed + 1000)
    told = []
    shutil.copytree(before, folder, dirs_exist_ok=True)
    world = World(folder, stations=(), text=RULES)
    sent_so_far: list[Message] = []
    for act, now in days(seed):
        if rng.random() < restarts:
            world.start()
        try:
            found = act(world)
        except Refused:
            found = []
        told.append(found + world.tick(now))
        sent_so_far += act.keywords.get("messages", [])
        if sent_so_far and rng.random() < again:
            replayed = rng.sample(sent_so_far[-80:], min(len(sent_so_far), 5))
            assert world.take(*replayed, now=now).findings == ()
    everything = world.everything()
    world.database.close()
    return told, everything


@pytest.mark.parametrize("seed", [3])
def test_a_restart_at_any_moment_changes_nothing_that_is_told(before: Path, tmp_path: Path, seed: int) -> None:
    told, everything = played(before, tmp_path / "one", seed)
    again, after = played(before, tmp_path / "two", seed, restarts=0.15)
    assert [(i, a, b) for i, (a, b) in enumerate(zip(told, again, strict=True)) if a != b] == []
    assert differences(everything, after) == {}
    assert {"event-sure", "silent", "device-clock", "cloudy", "salt"} <= {f.rule for found in told for f in found}
    assert any(f.rule == "cloudy" and f.change is ConditionChange.WITHDRAWN for found in told for f in found)


def test_messages_that_come_again_tell_nothing(before: Path, tmp_path: Path) -> None:
    told, _ = played(before, tmp_path / "one", 3)
    again, _ = played(before, tmp_path / "two", 3, again=0.3)
    assert [(i, a, b) for i, (a, b) in enumerate(zip(told, again, strict=True)) if a != b] == []


@BOTH
def test_a_start_asks_the_database_a_few_times_a_station_and_not_for_each_series(tmp_path: Path, dialect: str) -> None:
    stations = [Station(f"s{i}", "", "", 113.1, 23.0, interval_s=int(STEP / 1000)) for i in range(12)]
    world = World(tmp_path, stations, RULES, dialect)
    values = {"turbidity": 9.0, "do": 7.0, "conductivity": 420.0, "ph": 7.1, "water_temp": 24.0}
    times = [T0 + i * STEP for i in range(60)]
    for some in (times[:40], times[40:]):
        world.take(*(message(one.key, dict.fromkeys(some, values)) for one in stations))
    world.start()
    asked: list[str] = []
    world.site.ensure_fresh()
    sa.event.listen(world.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    world.site.history.load_more(len(stations), T0 + 61 * STEP)
    assert world.site.history.whole
    assert len(asked) <= MOST_STATEMENTS_A_STATION * len(stations)
