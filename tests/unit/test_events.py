"""Did the water change, or a sensor? Made creeks whose truth is known, with noise, daylight and tide."""

import itertools
import zlib
from collections.abc import Mapping

import numpy as np
import pytest

from sensors.parameters import Catalogue, catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.detectors.sudden_events import SuddenEventState, detect_sudden_events
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.events import ROLES, Alarms, DiscountReason, EventCause, EventReadings, diagnose
from sensors.quality.explanations import event_text
from sensors.quality.table_sensors import find_sensors
from sensors.reading import Flag, Floats, QualityTest
from tests.says import shows
from tests.waters import creek

CATALOGUE = catalogue()
START = 1_778_544_000_000
MINUTE, DAY_MS, TIDE_MS = 60_000, 86_400_000, 44_714_164
N = ord("N")


def pulse(n: int, at: int, rise: int, fall: float) -> Floats:
    """0 before ``at``, 1 after ``rise`` readings, then fading with a mean life of ``fall``."""
    number = np.arange(n) - at
    return np.clip(number / max(rise, 1), 0, 1) * np.exp(-np.maximum(number - rise, 0) / fall)


def alarms(
    water: Mapping[str, Floats],
    step: int = 15,
    cuts: tuple[int, ...] = (),
    status: Mapping[str, str] | None = None,
    below: Mapping[str, Floats] | None = None,
    way: UpstreamPath = UpstreamPath(0, 1),
    kinds: Catalogue = CATALOGUE,
) -> Alarms:
    """What the detector says of a station, its readings handed in in pieces; times as numbers of readings.

    With ``below``, of that station, with the other one above it.
    """
    keys = [*water, *(below or ())]
    station = np.repeat([0, 1], [len(water), len(below or ())])
    values = np.stack([np.round(one, 3) for one in [*water.values(), *(below or {}).values()]])
    letters = np.full(values.shape, N, np.uint8)
    for key, text in (status or {}).items():
        letters[keys.index(key)] = np.frombuffer(text.encode(), np.uint8)
    parameter = np.array([kinds.index[key] for key in keys])
    memory = SeriesState.of(station.astype(np.int32), parameter.astype(np.int32))
    watched = SuddenEventState()
    watched.grow(2)
    parts = []
    edges = [0, *cuts, values.shape[1]]
    for first, last in itertools.pairwise(edges):
        series = np.repeat(np.arange(len(keys)), last - first)
        at = np.tile(START + step * MINUTE * np.arange(first, last), len(keys))
        value, letter = values[:, first:last].ravel(), letters[:, first:last].ravel()
        told = check_quality(SeriesReadings(series, parameter[series], at, value, letter), memory, kinds)
        memory.apply(told.carried)
        bits, ways = told.tests.astype(np.int64), (way,) if below else ()
        columns = station[series], parameter[series], at, value, bits, told.move, told.course
        seen = detect_sudden_events(EventReadings(kinds, *columns), watched, ways)
        watched.apply(seen.stations, seen.memory)
        parts.append(seen.alarms)
    found = Alarms(*(np.concatenate([getattr(one, name) for one in parts]) for name in Alarms.__slots__))
    return found.take(np.flatnonzero(found.station == 1)) if below else found


def when(found: Alarms, discount: DiscountReason = DiscountReason.NONE, step: int = 15) -> list[int]:
    return ((found.at[found.discount == discount] - START) // (step * MINUTE)).tolist()


def test_sewage_is_told_within_two_readings_and_by_its_name() -> None:
    water = creek(8)
    shape = pulse(768, 600, 3, 16)
    water["conductivity"] += 90 * shape
    water["do"] -= 3 * shape
    water["nh3n"] += 3 * shape
    found = alarms(water)
    assert when(found)[0] in (600, 601, 602)
    assert when(found)[-1] < 620
    assert found.meaning(0).cause is EventCause.SEWAGE
    assert found.kind(0) is EventCause.SEWAGE


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
    assert when(found, DiscountReason.LEAP) != []
    assert found.kind(0) is EventCause.DOUBTFUL
    assert found.meaning(0).confidence < 0.2


def test_cloudy_water_with_a_small_second_witness_is_doubtful() -> None:
    water = creek(8)
    shape = pulse(768, 600, 4, 16)
    water["turbidity"] += 60 * shape
    water["conductivity"] += 7 * shape
    found = alarms(water)
    assert when(found) == []
    assert when(found, DiscountReason.PARTICLES) != []


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
    memory = SeriesState.of(np.zeros(1, np.int32), parameter[:1].astype(np.int32))
    letters = np.full(768, N, np.uint8)
    told = check_quality(SeriesReadings(series, parameter, at, water["conductivity"], letters), memory, CATALOGUE)
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


def passing(shape: Floats, size: float = 1.0) -> dict[str, Floats]:
    """A creek through which some salt passes, too little for an alarm of one station at size 1."""
    water = creek(8, seed=int(100 * size))
    water["conductivity"] += 18 * size * shape
    return water


@pytest.mark.parametrize(
    ("above_at", "below_at", "told"),
    [
        (592, 604, True),  # three hours down the river
        (604, 592, False),  # against the stream
        (600, 600, False),  # everywhere at once: weather
        (572, 604, False),  # eight hours, where no travel time is known
        (540, 600, False),  # fifteen hours
    ],
)
def test_what_half_moved_above_and_half_moves_below_is_told_below(above_at: int, below_at: int, told: bool) -> None:
    above, below = passing(pulse(768, above_at, 4, 24)), passing(pulse(768, below_at, 4, 24), 0.9)
    assert when(alarms(above)) == [], "one station alone says too little"
    assert when(alarms(below)) == []
    found = alarms(above, below=below)
    assert bool(when(found)) is told
    assert bool(found.supported.all()) is True


def sewage(water: dict[str, Floats], shape: Floats, size: float) -> dict[str, Floats]:
    water["conductivity"] += 20 * size * shape
    water["do"] -= 1.2 * size * shape
    return water


@pytest.mark.parametrize(("size", "told"), [(4.0, True), (0.55, False)])
def test_where_the_station_above_alarmed_moves_that_are_less_clear_are_heard_too(size: float, told: bool) -> None:
    above = sewage(creek(8), pulse(768, 592, 4, 24), size)
    below = sewage(creek(8, seed=2), pulse(768, 604, 4, 24), 0.36)
    assert bool(when(alarms(above))) is told
    assert when(alarms(below)) == []
    assert bool(when(alarms(above, below=below))) is told


def test_an_alarm_is_as_sure_as_such_alarms_were_right() -> None:
    """Three of eight with what is needed (7), the odds doubled by each fifth of it more and by the water above."""
    moves = np.zeros(len(ROLES))
    moves[ROLES.index("ph")] = -6.0
    sure = [diagnose(moves, total, 7.0, supported=False).confidence for total in (6.0, 7.0, 8.4, 9.8, 30.0)]
    assert sure == pytest.approx([0.375, 0.375, 0.545, 0.706, 0.95], abs=0.006)
    assert diagnose(moves, 7.0, 7.0, supported=True).confidence == pytest.approx(0.545, abs=0.006)


def test_the_travel_time_of_the_registry_says_what_can_come_from_above() -> None:
    above, below = passing(pulse(768, 592, 4, 24)), passing(pulse(768, 604, 4, 24), 0.9)
    hour = 3_600_000
    assert when(alarms(above, below=below, way=UpstreamPath(0, 1, 2 * hour, 4 * hour))) != []
    assert when(alarms(above, below=below, way=UpstreamPath(0, 1, 6 * hour, 9 * hour))) == []


def test_other_sensors_above_and_the_other_direction_support_nothing() -> None:
    below = passing(pulse(768, 604, 4, 24), 0.9)
    other = creek(8)
    other["ph"] -= 0.12 * pulse(768, 592, 4, 24)
    assert when(alarms(other, below=below)) == []
    assert when(alarms(passing(-pulse(768, 592, 4, 24)), below=below)) == []


def test_noise_that_turns_round_seconds_no_broken_sensor() -> None:
    water = creek(8)
    water["conductivity"][600:640] += 12
    water["ph"][600:640] += np.tile([0.15, -0.15], 20)
    assert when(alarms(water)) == []
    water["ph"][600:640] = creek(8)["ph"][600:640] - 0.15
    assert when(alarms(water)) != [], "as much in one direction is believed"


@pytest.mark.parametrize(("step", "readings", "told"), [(15, 3, True), (15, 2, False), (5, 4, True), (5, 3, False)])
def test_a_climb_alone_is_believed_after_half_an_hour(step: int, readings: int, told: bool) -> None:
    water = creek(8 if step == 15 else 5, step)
    n = len(water["ph"])
    water["conductivity"][n - 80 : n - 79 + readings] += [12.0, *[25.0] * readings]
    found = alarms(water, step)
    assert bool(when(found, step=step)) is told


@pytest.mark.parametrize(
    ("way", "told"),
    [(np.linspace(0.02, 0.8, 40), True), (np.linspace(0.02, 0.4, 20), False), (np.full(40, 0.8), False)],
)
def test_a_climb_alone_is_believed_at_a_reading_a_minute_when_it_goes_on(way: Floats, told: bool) -> None:
    water = creek(4, 1)
    n = len(water["ph"])
    water["ph"][n - 60 :] += np.append(way, np.full(60 - len(way), way[-1]))
    found = alarms(water, 1)
    assert bool(when(found, step=1)) is told
    if told:
        sentence = event_text(found, 0)
        assert shows(sentence.zh, "event.single_sensor")
        assert "evidence 0" not in sentence.en, "a sum it did not need explains nothing"


def test_a_sensors_leap_is_doubted_at_a_reading_a_minute_and_a_dosed_disinfectant_is_not() -> None:
    kinds = find_sensors(["chlorine_mg_L"], CATALOGUE).catalogue
    key = kinds.parameters[-1].key
    for sensor, discount in (("ph", DiscountReason.LEAP), (key, DiscountReason.NONE)):
        water = {**creek(4, 1), key: 0.4 + np.random.default_rng(1).normal(0, 0.004, 5760)}
        water[sensor][5000:] += {"ph": 0.8, key: -0.2}[sensor]
        water["turbidity"][5000:5003] += 1.6
        found = alarms(water, 1, kinds=kinds)
        assert set(found.discount.tolist()) == {discount}, sensor


def test_two_instruments_of_a_kind_that_agree_are_two_witnesses() -> None:
    names = ["chlorine_1_mg_L", "chlorine_2_mg_L"]
    kinds = find_sensors(names, CATALOGUE).catalogue
    keys = [f"chlorine@{name}" for name in names]
    rng = np.random.default_rng(1)
    steady = {key: 0.4 + rng.normal(0, 0.004, 5760) for key in keys}
    low = np.where((np.arange(5760) >= 5000) & (np.arange(5760) < 5020), 0.2, 0.0)
    still = {kind: np.where(np.arange(5760) < 4900, of, of[4900]) for kind, of in creek(4, 1).items()}  # no chance move
    one = {**still, **steady, keys[0]: steady[keys[0]] - low}
    both = {**one, keys[1]: steady[keys[1]] - low}
    assert when(alarms(one, 1, kinds=kinds), step=1) == []
    assert when(alarms(both, 1, kinds=kinds), step=1)[0] in (5000, 5001)


@pytest.mark.parametrize(("seed", "lag"), [(1, 10), (2, 10), (3, 2), (4, 1), (5, 2)])
def test_two_stations_cut_anywhere_give_the_same_alarms(seed: int, lag: int) -> None:
    rng = np.random.default_rng(seed)
    shape = sum(pulse(768, int(at), 4, 24) for at in rng.integers(400, 740, 6))
    later = np.concatenate([np.zeros(lag), np.asarray(shape)[:-lag]])
    above, below = passing(np.asarray(shape), 1.1), passing(later)
    if seed % 2:
        above, below = sewage(above, np.asarray(shape), 4.0), sewage(below, later, 0.3)
    cuts = tuple(sorted({*rng.integers(1, 768, 40).tolist(), *range(700, 768)}))
    whole, pieces = alarms(above, below=below), alarms(above, cuts=cuts, below=below)
    assert whole.supported.any() or lag < 10
    for name in Alarms.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name), err_msg=name)


def test_what_is_remembered_of_a_station_is_written_down_and_read_again() -> None:
    watched, fresh = SuddenEventState(), SuddenEventState()
    watched.grow(1)
    fresh.grow(1)
    watched.first[0], watched.moves[0, 1, ROLES.index("ph")] = 77, -3.0
    assert fresh.restore(0, watched.frozen(0))
    assert (fresh.first[0], fresh.moves[0, 1, ROLES.index("ph")]) == (77, -3.0)
    assert not fresh.restore(0, zlib.compress(b"\x09"))


@pytest.mark.parametrize(("rise", "stepped"), [(1, True), (8, False)])
def test_a_front_that_goes_on_is_no_step_of_the_sensor(rise: int, stepped: bool) -> None:
    """Salt comes over two hours, a sensor's zero goes from one reading to the next; nothing else moves."""
    water = creek(8)
    water["conductivity"] += 900 * np.clip((np.arange(768) - 599) / rise, 0, 1)
    series, at = np.repeat(np.arange(2), 768), np.tile(START + 15 * MINUTE * np.arange(768), 2)
    parameter = np.array([CATALOGUE.index["conductivity"], CATALOGUE.index["ph"]])
    memory = SeriesState.of(np.zeros(2, np.int32), parameter.astype(np.int32))
    value = np.concatenate([water["conductivity"], water["ph"]])
    told = check_quality(
        SeriesReadings(series, parameter[series], at, value, np.full(1536, N, np.uint8)), memory, CATALOGUE
    )
    assert bool((told.tests & int(QualityTest.SHIFT)).any()) is stepped
