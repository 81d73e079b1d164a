"""Did the water change, or a sensor? Made creeks whose truth is known, with noise, daylight and tide."""

import itertools
import zlib
from collections.abc import Mapping

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.quality import Memory, assess
from sensors.quality.events import ROLES, Alarms, Cause, Doubt, Watched, watch
from sensors.reading import Flag, Floats, QualityTest

CATALOGUE = catalogue()
START = 1_778_544_000_000
MINUTE, DAY_MS, TIDE_MS = 60_000, 86_400_000, 44_714_164
N = ord("N")


def creek(days: float, step: int = 15, seed: int = 1) -> dict[str, Floats]:
    """Good sensors in quiet water."""
    rng = np.random.default_rng(seed)
    n = round(days * 1440 / step)
    light = np.sin(2 * np.pi * np.arange(n) * step / 1440)
    return {
        "water_temp": 22 + light + rng.normal(0, 0.03, n),
        "ph": 7.4 + 0.1 * light + rng.normal(0, 0.01, n),
        "do": 6.5 + 0.8 * light + rng.normal(0, 0.05, n),
        "conductivity": 420 + 3 * light + rng.normal(0, 1, n),
        "turbidity": 12 + rng.normal(0, 0.5, n),
        "nh3n": 0.8 + rng.normal(0, 0.02, n),
    }


def pulse(n: int, at: int, rise: int, fall: float) -> Floats:
    """0 before ``at``, 1 after ``rise`` readings, then fading with a mean life of ``fall``."""
    number = np.arange(n) - at
    return np.clip(number / max(rise, 1), 0, 1) * np.exp(-np.maximum(number - rise, 0) / fall)


def alarms(
    water: Mapping[str, Floats], step: int = 15, cuts: tuple[int, ...] = (), status: Mapping[str, str] | None = None
) -> Alarms:
    """What the detector says of a station, its readings handed in in pieces; times as numbers of readings."""
    keys = list(water)
    values = np.stack([np.round(water[key], 3) for key in keys])
    letters = np.full(values.shape, N, np.uint8)
    for key, text in (status or {}).items():
        letters[keys.index(key)] = np.frombuffer(text.encode(), np.uint8)
    parameter = np.array([CATALOGUE.index[key] for key in keys])
    memory = Memory.of(np.zeros(len(keys), np.int32), parameter.astype(np.int32))
    watched = Watched()
    watched.grow(1)
    parts = []
    edges = [0, *cuts, values.shape[1]]
    for first, last in itertools.pairwise(edges):
        series = np.repeat(np.arange(len(keys)), last - first)
        at = np.tile(START + step * MINUTE * np.arange(first, last), len(keys))
        value, letter = values[:, first:last].ravel(), letters[:, first:last].ravel()
        told = assess(series, parameter[series], at, value, letter, memory, CATALOGUE)
        memory.apply(told.carried)
        bits = told.tests.astype(np.int64)
        seen = watch(
            np.zeros(len(at), np.int64), parameter[series], at, told.move, told.course, bits, watched, CATALOGUE
        )
        watched.apply(seen.stations, seen.memory)
        parts.append(seen.alarms)
    return Alarms(*(np.concatenate([getattr(one, name) for one in parts]) for name in Alarms.__slots__))


def when(found: Alarms, doubt: Doubt = Doubt.NONE, step: int = 15) -> list[int]:
    return ((found.at[found.doubt == doubt] - START) // (step * MINUTE)).tolist()


def test_sewage_is_told_within_two_readings_and_by_its_name() -> None:
    water = creek(8)
    shape = pulse(768, 600, 3, 16)
    water["conductivity"] += 90 * shape
    water["do"] -= 3 * shape
    water["nh3n"] += 3 * shape
    found = alarms(water)
    assert when(found)[0] in (600, 601, 602)
    assert when(found)[-1] < 620
    assert found.meaning(0).cause is Cause.SEWAGE
    assert found.kind(0) is Cause.SEWAGE


@pytest.mark.parametrize("step", [1, 5, 15, 30, 60, 240])
def test_quiet_water_with_tide_and_daylight_raises_nothing_at_any_step(step: int) -> None:
    water = creek(10 if step > 1 else 6, step, seed=2)
    at = step * MINUTE * np.arange(len(water["ph"]))
    tide = np.sin(2 * np.pi * at / TIDE_MS)
    water["conductivity"] += 80 * tide
    water["do"] -= 0.8 * tide
    water["nh3n"] += 0.3 * tide
    water["turbidity"] += 4 * np.abs(tide)
    found = alarms(water, step)
    assert when(found, step=step) == []


def test_rain_that_thins_the_water_and_its_recovery_are_no_event() -> None:
    water = creek(8)
    shape = pulse(768, 600, 6, 40)
    water["conductivity"] -= 200 * shape
    water["turbidity"] += 30 * shape
    assert when(alarms(water)) == []


def test_the_way_back_after_rain_is_no_salt_water() -> None:
    water = creek(8)
    gone = np.zeros(768)
    gone[600:624] = 1.0
    gone[624:636] = np.linspace(1, 0, 12)  # clean water goes within three hours
    water["conductivity"] -= 200 * gone
    water["do"] -= 1.5 * gone
    told = when(alarms(water))
    assert all(one < 612 for one in told), "the recovery is told as an event"


def test_salt_that_comes_with_every_tide_is_told_once_at_most() -> None:
    water = creek(10)
    at = 15 * MINUTE * np.arange(960)
    front = 1 / (1 + np.exp(-12 * (np.sin(2 * np.pi * at / TIDE_MS) - 0.6)))
    water["conductivity"] += np.where(at > 6 * DAY_MS, 2500 * front, 0.0)
    told = when(alarms(water))
    tides = {round((one * 15 * MINUTE) / TIDE_MS) for one in told}
    assert len(tides) <= 1


def test_the_front_of_a_tide_that_was_not_there_before_is_told() -> None:
    water = creek(8)
    water["conductivity"] += 2500 * pulse(768, 600, 5, 24)
    assert when(alarms(water))


def test_a_sensor_that_is_set_back_beside_a_small_second_witness_is_doubtful_and_says_why() -> None:
    water = creek(8)
    water["ph"][500:] += 0.8
    water["turbidity"][500:503] += 1.2
    water["conductivity"][500:503] += 5
    found = alarms(water)
    assert when(found) == []
    assert when(found, Doubt.LEAP) != []
    assert found.kind(0) is Cause.DOUBTFUL
    assert found.meaning(0).confidence <= 0.3


def test_cloudy_water_with_a_small_second_witness_is_doubtful() -> None:
    water = creek(8)
    shape = pulse(768, 600, 4, 16)
    water["turbidity"] += 60 * shape
    water["conductivity"] += 7 * shape
    found = alarms(water)
    assert when(found) == []
    assert when(found, Doubt.PARTICLES) != []


def test_loads_that_fall_bear_no_witness() -> None:
    water = creek(8)
    shape = pulse(768, 600, 3, 16)
    water["nh3n"] -= 0.7 * shape
    water["turbidity"] -= 11 * shape
    water["water_temp"] -= 1.5 * shape
    assert len(alarms(water).at) == 0


def test_a_sensor_at_the_end_of_its_range_is_no_witness() -> None:
    water = creek(8)
    shape = pulse(768, 600, 3, 30)
    water["nh3n"] += 8 * shape
    water["conductivity"] += 9 * shape
    letters = "N" * 600 + "T" * 100 + "N" * 68
    assert len(alarms(water, status={"nh3n": letters}).at) == 0
    assert len(alarms(water).at) > 0


def test_in_air_a_station_tells_no_event_for_as_long_as_that_lasts_and_its_conductivity_is_suspect() -> None:
    water = creek(8)
    out = slice(600, 640)
    water["conductivity"][out] = 3.0
    water["ph"][out] += np.linspace(-1.5, -0.4, 40)
    water["do"][out] = 8.3
    water["water_temp"][out] += np.linspace(3, 9, 40)
    assert when(alarms(water)) == []
    series, at = np.zeros(768, np.int64), START + 15 * MINUTE * np.arange(768)
    parameter = np.full(768, CATALOGUE.index["conductivity"])
    memory = Memory.of(np.zeros(1, np.int32), parameter[:1].astype(np.int32))
    letters = np.full(768, N, np.uint8)
    told = assess(series, parameter, at, water["conductivity"], letters, memory, CATALOGUE)
    assert (told.flag[out] >= Flag.SUSPECT).all()
    assert ((told.tests[out] & int(QualityTest.OUT_OF_WATER)) != 0).all()


@pytest.mark.parametrize(("step", "seed"), [(15, 3), (5, 4), (60, 5), (1, 6)])
def test_a_table_cut_anywhere_gives_the_same_alarms(step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    water = creek({1: 4.0, 5: 5.0}.get(step, 8.0), step, seed)
    n = len(water["ph"])
    letters = np.full(n, "N")
    for _ in range(6):
        at, sign = int(rng.integers(n // 2, n)), float(rng.choice([-1, 1]))
        shape = pulse(n, at, int(rng.integers(0, 6)), float(rng.uniform(4, 60)))
        for key in rng.choice(list(water), 3, replace=False):
            water[key] = np.abs(water[key] + sign * shape * {"ph": 0.5, "do": 2.0, "water_temp": 2.0}.get(key, 1.0) *
                                (water[key] if key in ("conductivity", "nh3n", "turbidity") else 1.0))  # fmt: skip
    letters[n - 40 : n - 30] = "T"
    status = {"turbidity": "".join(letters)}
    cuts = tuple(sorted({*rng.integers(1, n, 25).tolist(), *range(n - 12, n)}))
    whole, pieces = alarms(water, step, status=status), alarms(water, step, cuts, status=status)
    assert len(whole.at)
    for name in Alarms.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name), err_msg=name)


def test_what_was_learned_before_the_second_written_form_is_read() -> None:
    """Written form 1 lacks where the series has been, and how its sensors moved."""
    memory = Memory.of(np.zeros(1, np.int32), np.zeros(1, np.int32))
    names = ("lowest", "first", "day", "counts", "drawn", "usual", "sums", "many", "fit")
    memory.first[0] = 77
    body = zlib.compress(b"\x01" + b"".join(np.ascontiguousarray(getattr(memory, name)[0]).tobytes() for name in names))
    other = Memory.of(np.zeros(1, np.int32), np.zeros(1, np.int32))
    assert other.thaw(0, body)
    assert other.first[0] == 77
    watched, fresh = Watched(), Watched()
    watched.grow(1)
    fresh.grow(1)
    watched.first[0], watched.moves[0, 1, ROLES.index("ph")] = 77, -3.0
    old = [name for name in Watched.__dataclass_fields__ if name not in ("leap", "doubted")]
    parts = [np.ascontiguousarray(getattr(watched, name)[0]).tobytes() for name in old]
    assert fresh.thaw(0, zlib.compress(b"\x01" + b"".join(parts)))
    assert (fresh.first[0], fresh.moves[0, 1, ROLES.index("ph")]) == (77, -3.0)
    assert watched.thaw(0, fresh.frozen(0))
    assert not watched.thaw(0, zlib.compress(b"\x09"))


@pytest.mark.parametrize(("rise", "stepped"), [(1, True), (8, False)])
def test_a_front_that_goes_on_is_no_step_of_the_sensor(rise: int, stepped: bool) -> None:
    """Salt comes over two hours, a sensor's zero goes from one reading to the next; nothing else moves."""
    water = creek(8)
    water["conductivity"] += 900 * np.clip((np.arange(768) - 599) / rise, 0, 1)
    series, at = np.repeat(np.arange(2), 768), np.tile(START + 15 * MINUTE * np.arange(768), 2)
    parameter = np.array([CATALOGUE.index["conductivity"], CATALOGUE.index["ph"]])
    memory = Memory.of(np.zeros(2, np.int32), parameter.astype(np.int32))
    value = np.concatenate([water["conductivity"], water["ph"]])
    told = assess(series, parameter[series], at, value, np.full(1536, N, np.uint8), memory, CATALOGUE)
    assert bool((told.tests & int(QualityTest.SHIFT)).any()) is stepped
