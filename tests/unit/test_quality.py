"""What makes a reading doubtful: the quality tests, one by one and over series cut into batches anywhere."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality, engine
from sensors.quality.detectors.point_tests import stands_out
from sensors.reading import Flag, QualityTest, pack, unpack

CATALOGUE = catalogue()
START = 1_778_581_800_000
MINUTE, HOUR, DAY_MS = 60_000, 3_600_000, 86_400_000
GOOD, SUSPECT, BAD = Flag.GOOD, Flag.SUSPECT, Flag.BAD
CLEAN = (GOOD, QualityTest(0))


@pytest.fixture(scope="module", autouse=True)
def no_series_is_new() -> Iterator[None]:
    """What holds in the first three days of a series is asked at the end of this file."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "COLD_START_MS", 0)
        yield


@dataclass
class Sonde:
    """One series that is handed in piece by piece; remembers the verdict in force on every reading."""

    key: str
    memory: SeriesState
    series: int = 0

    def __post_init__(self) -> None:
        self.verdicts: dict[int, int] = {}
        self.now = START - 5 * MINUTE

    def give(self, *values: float, every: int = 5 * MINUTE, after: int | None = None, status: str = "") -> list[int]:
        """Hand in one batch; returns its times."""
        first = self.now + (every if after is None else after)
        at = first + every * np.arange(len(values), dtype=np.int64)
        return self.give_at(at, values, status)

    def give_at(self, at: np.ndarray, values: Sequence[float], status: str = "") -> list[int]:
        n = len(values)
        letters = np.frombuffer((status or "N" * n).encode(), np.uint8)
        parameter = np.full(n, CATALOGUE.index[self.key])
        series = np.full(n, self.series)
        verdict = check_quality(
            SeriesReadings(series, parameter, at, np.asarray(values, float), letters), self.memory, CATALOGUE
        )
        assert set(verdict.reflag_series.tolist()) <= {self.series}
        self.verdicts |= dict(zip(verdict.reflag_at.tolist(), verdict.reflag_packed.tolist(), strict=True))
        self.verdicts |= dict(zip(at.tolist(), pack(verdict.flag, verdict.tests).tolist(), strict=True))
        self.memory.apply(verdict.carried)
        self.now = int(at[-1]) if n else self.now
        return at.tolist()

    @property
    def told(self) -> list[tuple[Flag, QualityTest]]:
        """Flag and tests of every reading so far, by time."""
        flag, tests = unpack(np.array([self.verdicts[at] for at in sorted(self.verdicts)], np.int64))
        return [(Flag(f), QualityTest(t)) for f, t in zip(flag.tolist(), tests.tolist(), strict=True)]

    @property
    def last(self) -> tuple[Flag, QualityTest]:
        return self.told[-1]


def sonde(key: str) -> Sonde:
    return Sonde(key, memory(key))


def memory(*keys: str) -> SeriesState:
    """A memory of new series of one station."""
    return SeriesState.of(np.zeros(len(keys), np.int32), np.array([CATALOGUE.index[key] for key in keys], np.int32))


def verdict(key: str, *values: float, **how: int) -> list[tuple[Flag, QualityTest]]:
    one = sonde(key)
    one.give(*values, **how)
    return one.told


# -- fault codes and ranges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-9999, -999, -99999, -7999, -6999, -8888, -99.9, -999.9, -9999.9])
@pytest.mark.parametrize("key", ["do", "water_temp", "turbidity", "level", "orp", "flow"])
def test_a_loggers_fault_code_is_bad(key: str, code: float) -> None:
    flag, tests = verdict(key, code)[0]
    assert flag is BAD
    assert QualityTest.SENTINEL in tests


@pytest.mark.parametrize("code", [999.0, 9999.0])
def test_999_and_9999_are_ordinary_conductivities(code: float) -> None:
    assert verdict("conductivity", code) == [CLEAN]


def test_999_is_an_ordinary_turbidity_and_redox_potential_and_no_ph() -> None:
    assert verdict("turbidity", 999.0) == [CLEAN]
    assert verdict("orp", 999.0) == [CLEAN]
    assert verdict("orp", -999.0) == [(BAD, QualityTest.SENTINEL)]
    assert verdict("ph", 999.0) == [
        (BAD, QualityTest.SENTINEL | QualityTest.INSTRUMENT_RANGE | QualityTest.PLAUSIBLE_RANGE)
    ]


@pytest.mark.parametrize("value", [998.9, 999.1, -99.8, -998.0, -100.0])
def test_a_neighbour_of_a_fault_code_is_none(value: float) -> None:
    assert QualityTest.SENTINEL not in verdict("level", value)[0][1]


@pytest.mark.parametrize("p", CATALOGUE.parameters, ids=lambda p: p.key)
def test_the_ends_of_both_ranges_belong_to_them(p) -> None:
    def ranges(value: float) -> QualityTest:
        return verdict(p.key, value)[0][1] & (QualityTest.INSTRUMENT_RANGE | QualityTest.PLAUSIBLE_RANGE)

    for low, high, inside in ((*p.plausible, QualityTest(0)), (*p.instrument, QualityTest.PLAUSIBLE_RANGE)):
        expected = QualityTest(0) if p.plausible == p.instrument else inside
        for end, beyond in ((low, -np.inf), (high, np.inf)):
            if end in p.plausible:
                assert ranges(end) == QualityTest(0)
            else:
                assert ranges(end) == expected
            assert ranges(float(np.nextafter(end, beyond))) != QualityTest(0)
    assert QualityTest.INSTRUMENT_RANGE in ranges(float(np.nextafter(p.instrument[1], np.inf)))
    assert QualityTest.INSTRUMENT_RANGE in ranges(float(np.nextafter(p.instrument[0], -np.inf)))


def test_outside_the_plausible_range_is_suspect_and_outside_the_instruments_bad() -> None:
    assert verdict("do", 25.0) == [CLEAN]
    assert verdict("do", 25.1) == [(SUSPECT, QualityTest.PLAUSIBLE_RANGE)]
    assert verdict("do", 60.1)[0] == (BAD, QualityTest.PLAUSIBLE_RANGE | QualityTest.INSTRUMENT_RANGE)
    assert verdict("turbidity", 4000.0) == [(SUSPECT, QualityTest.PLAUSIBLE_RANGE)], "where such sensors end"
    assert verdict("do", -0.2) == [CLEAN]
    assert verdict("do", -0.3)[0][0] is BAD, "no working instrument finds less than no oxygen"


def test_a_bad_reading_is_left_out_of_all_comparisons() -> None:
    told = verdict("do", 7.0, 7.1, -9999.0, 7.1, 61.0, 7.0)
    assert [flag for flag, _ in told] == [GOOD, GOOD, BAD, GOOD, BAD, GOOD]


# -- spikes ------------------------------------------------------------------------------------------------------------

CALM = (7.0, 7.1, 7.0, 7.1, 7.0, 7.1, 7.0, 7.1)


def test_a_reading_that_stands_out_and_returns_at_once_is_a_spike() -> None:
    told = verdict("do", *CALM, 9.6, 7.0, 7.1)
    assert told[8] == (SUSPECT, QualityTest.SPIKE)
    assert [t for i, t in enumerate(told) if i != 8] == [CLEAN] * 10


def test_a_spike_downwards_is_one_too() -> None:
    assert verdict("do", *CALM, 4.0, 7.0)[8] == (SUSPECT, QualityTest.SPIKE)


def test_a_spike_shows_when_the_next_batch_brings_its_successor() -> None:
    one = sonde("do")
    one.give(*CALM, 9.6)
    assert one.last == CLEAN
    one.give(7.0)
    assert one.told[8] == (SUSPECT, QualityTest.SPIKE)
    assert one.told[9] == CLEAN


def test_two_readings_that_stand_out_together_are_a_spike() -> None:
    for cut in range(8, 12):
        one = sonde("do")
        values = [*CALM, 9.6, 9.8, 7.0, 7.1]
        one.give(*values[:cut])
        one.give(*values[cut:])
        assert [test for _, test in one.told] == [
            *[QualityTest(0)] * 8,
            *[QualityTest.SPIKE] * 2,
            *[QualityTest(0)] * 2,
        ]


@pytest.mark.parametrize(
    ("many", "every", "told"), [(3, 5, 3), (5, 5, 5), (6, 5, 0), (5, 30, 5), (5, 31, 0), (3, 45, 3), (3, 60, 0)]
)
def test_a_burst_is_known_when_it_ends_within_five_readings_and_three_hours(many: int, every: int, told: int) -> None:
    burst = [9.6, 9.9, 9.7, 9.8, 9.5, 9.6][:many]
    for cut in range(8, 10 + many):
        one = sonde("do")
        values = [*CALM, *burst, 7.0, 7.1]
        one.give(*values[:cut], every=every * MINUTE)
        one.give(*values[cut:], every=every * MINUTE)
        bursts = [i for i, (_, tests) in enumerate(one.told) if QualityTest.BURST in tests]
        assert bursts == list(range(8, 8 + told))


@pytest.mark.parametrize(
    "values", [(7.7, 9.6, 9.7, 9.6, 7.0, 7.1), (9.6, 9.7, 9.6, 7.7, 7.0, 7.1), (9.6, 9.7, 9.6, 7.9)]
)
def test_what_rises_or_falls_over_several_readings_is_no_burst(values: tuple[float, ...]) -> None:
    assert not any(QualityTest.BURST in tests for _, tests in verdict("do", *CALM, *values))


def test_five_muddy_readings_are_measured_by_the_clear_water_before_them() -> None:
    one = days("turbidity", 10.0, 0.5)
    at = one.give(*[18.0, 19.0, 17.5, 18.5, 18.0, 10.0, 10.1], every=15 * MINUTE)
    assert [bool(one.verdicts[t] >> 4 & QualityTest.BURST) for t in at] == [True] * 5 + [False] * 2


def test_a_spike_keeps_what_was_said_of_it_before() -> None:
    one = sonde("do")
    one.give(*CALM, 25.1)
    assert one.last == (SUSPECT, QualityTest.PLAUSIBLE_RANGE)
    one.give(7.0)
    assert one.told[8] == (SUSPECT, QualityTest.SPIKE | QualityTest.PLAUSIBLE_RANGE)


def test_a_spike_lower_than_the_floor_of_its_kind_is_none() -> None:
    assert verdict("do", *[7.0] * 8, 7.39, 7.0)[8] == CLEAN  # 0.4
    assert verdict("do", *[7.0] * 8, 7.41, 7.0)[8] == (SUSPECT, QualityTest.SPIKE)


def test_noise_of_optical_sensors_grows_with_the_level() -> None:
    """Turbidity: 20 % of the level."""
    assert verdict("turbidity", *[100.0] * 8, 119.0, 100.0)[8] == CLEAN
    assert verdict("turbidity", *[100.0] * 8, 121.0, 100.0)[8] == (SUSPECT, QualityTest.SPIKE)


def test_in_restless_water_a_spike_must_stand_out_further() -> None:
    restless = (7.0, 7.2, 7.4) * 11  # usually 0.2 away from the middle: 8 times that is 1.6
    assert verdict("do", *restless, 8.7, 7.2)[33] == CLEAN
    assert verdict("do", *restless, 9.1, 7.2)[33] == (SUSPECT, QualityTest.SPIKE)


def test_what_the_sun_warms_is_not_restless() -> None:
    morning = [20.0 + 0.1 * i for i in range(40)]  # 0.4 above the median of the seven before, and yet in line
    told = verdict("water_temp", *morning[:35], morning[35] + 3.0, *morning[36:])
    assert [i for i, one in enumerate(told) if one != CLEAN] == [35]


@pytest.mark.parametrize(("before", "after", "is_spike"), [(7.7, 7.7, 1), (7.0, 8.0, 0), (6.0, 7.0, 0)])
def test_both_neighbours_of_a_spike_lie_within_a_fifth_of_its_height_of_the_base(
    before: float, after: float, is_spike: int
) -> None:
    """A spike of 4 mg/L on a base of 7: its neighbours may be 0.8 away."""
    assert (QualityTest.SPIKE in verdict("do", *[7.0] * 7, before, 11.0, after)[8][1]) == bool(is_spike)


def test_a_storm_pulse_that_rises_over_samples_is_no_spike() -> None:
    told = verdict("turbidity", *[20.0] * 8, 26.0, 40.0, 58.0, 44.0, 34.0, 28.0, 24.0)
    assert told == [CLEAN] * 15


def test_a_pulse_that_decays_slowly_is_no_spike() -> None:
    told = verdict("turbidity", *[20.0] * 8, 60.0, 45.0, 32.0, 24.0)
    assert not any(QualityTest.SPIKE in tests for _, tests in told)


def test_a_step_that_stays_is_no_spike() -> None:
    assert not any(QualityTest.SPIKE in tests for _, tests in verdict("do", *CALM, 9.6, 9.5, 9.6, 9.6))


def test_a_spike_needs_seven_readings_before_it() -> None:
    assert verdict("do", *[7.0] * 6, 9.0, 7.0)[6] == CLEAN
    assert verdict("do", *[7.0] * 7, 9.0, 7.0)[7] == (SUSPECT, QualityTest.SPIKE)


def test_the_first_reading_after_a_gap_is_a_spike_where_the_next_ones_are_as_before_it() -> None:
    one = sonde("do")
    one.give(*CALM)
    one.give(12.0, after=9 * HOUR)
    one.give(7.0, after=5 * MINUTE)
    assert one.told[8] == (SUSPECT, QualityTest.SPIKE)


def test_an_analyser_of_four_hours_has_neighbours_too() -> None:
    assert verdict("nh3n", *[0.5] * 8, 5.0, 0.5, every=4 * HOUR)[8] == (SUSPECT, QualityTest.SPIKE)


def test_how_far_a_reading_stands_out_as_a_function() -> None:
    seven = np.full(4, 7.0)
    after = np.array([7.0, 9.0, np.nan, 7.3])
    assert stands_out(np.full(4, 9.0), seven, after, seven).tolist() == [2.0, 0.0, 0.0, 1.7000000000000002]


# -- learning from the past --------------------------------------------------------------------------------------------


def days(key: str, level: float, unrest: float, *, number: int = 20, every: int = 15 * MINUTE, seed: int = 1) -> Sonde:
    """A sensor that has shown its usual noise for some days."""
    one = sonde(key)
    n = number * DAY_MS // every
    one.give(*(level + unrest * np.random.default_rng(seed).standard_normal(n)).round(3), every=every)
    return one


@pytest.mark.parametrize(("unrest", "is_spike"), [(0.02, True), (0.5, False)])
def test_what_is_a_spike_of_a_calm_sensor_is_the_daily_unrest_of_another(unrest: float, is_spike: bool) -> None:
    one = days("do", 7.0, unrest)
    at = one.give(*[7.0] * 7, 9.0, 7.0, 7.0, every=15 * MINUTE)
    assert bool(one.verdicts[at[7]] >> 4 & QualityTest.SPIKE) is is_spike


def test_a_sensor_that_never_repeats_is_stuck_after_six_hours_and_one_that_often_does_is_not() -> None:
    fine, coarse = days("do", 7.0, 0.3), sonde("do")
    coarse.give(*np.repeat(7.0 + np.arange(200) % 5, 30), every=15 * MINUTE)
    assert not {test for _, test in coarse.told} & {QualityTest.FLAT_LINE}, "every value stays for seven hours"
    at = fine.give(*[7.123] * 30, every=15 * MINUTE)
    assert [bool(fine.verdicts[t] >> 4 & QualityTest.FLAT_LINE) for t in at] == [i * 15 >= 6 * 60 for i in range(30)]


def test_an_hourly_sensor_that_never_repeats_is_stuck_after_six_hours_too() -> None:
    one = days("do", 7.0, 0.3, number=8, every=HOUR)
    at = one.give(*[7.123] * 8, every=HOUR)
    assert [bool(one.verdicts[t] >> 4 & QualityTest.FLAT_LINE) for t in at] == [hour >= 6 for hour in range(8)]


def test_a_level_that_never_repeated_is_stuck_and_one_behind_a_sluice_or_without_a_past_is_not() -> None:
    river, pond, new = days("level", 2.0, 0.05), sonde("level"), sonde("level")
    at = river.give(*[2.043] * 30, every=15 * MINUTE)
    assert [bool(river.verdicts[t] >> 4 & QualityTest.FLAT_LINE) for t in at] == [i * 15 >= 6 * 60 for i in range(30)]
    pond.give(*np.repeat(2.0 + 0.01 * (np.arange(40) % 5), 60), every=15 * MINUTE)
    new.give(*[2.043] * 200, every=15 * MINUTE)
    assert not {test for _, test in (*pond.told, *new.told)} & {QualityTest.FLAT_LINE}


def test_a_plateau_at_zero_is_clear_water_and_no_fault() -> None:
    one = days("turbidity", 5.0, 1.0)
    low = one.give(*[0.0] * 200, every=15 * MINUTE)
    assert all(one.verdicts[t] == 1 for t in low[3:])
    other = days("turbidity", 5.0, 1.0)
    high = other.give(*[6.0] * 40, every=15 * MINUTE)
    assert other.verdicts[high[-1]] >> 4 & QualityTest.FLAT_LINE


def test_the_spikes_of_a_troubled_sensor_do_not_make_spikes_usual() -> None:
    """One reading of fourteen is five times as high, for three weeks: more than the 95 % quantile would bear."""
    rng = np.random.default_rng(3)
    values = 10.0 + 0.3 * rng.standard_normal(40 * 96)
    values[20 * 96 :: 14] *= 5.0
    one = sonde("turbidity")
    at = one.give(*values.round(2), every=15 * MINUTE)
    told = [bool(one.verdicts[t] >> 4 & QualityTest.SPIKE) for t in at]
    assert not any(told[: 20 * 96])
    assert np.mean(told[20 * 96 :: 14]) > 0.95


def test_a_river_that_grows_restless_teaches_its_sensor() -> None:
    """Not every peak of it returns, so that the threshold follows within days."""
    rng = np.random.default_rng(4)
    calm, rough = 8.0 + 0.02 * rng.standard_normal(20 * 96), 8.0 + 0.6 * rng.standard_normal(20 * 96)
    one = sonde("do")
    at = one.give(*np.concatenate([calm, rough]).round(2), every=15 * MINUTE)
    told = np.array([bool(one.verdicts[t] >> 4 & QualityTest.SPIKE) for t in at])
    assert told[20 * 96 : 23 * 96].mean() < 0.05
    assert told[23 * 96 :].sum() == 0


@pytest.mark.parametrize("size", [1, 7, 96, 1000])
def test_weeks_with_spikes_cut_anywhere_are_judged_and_remembered_alike(size: int) -> None:
    rng = np.random.default_rng(5)
    values = (20.0 * (1.0 + 0.1 * rng.standard_normal(12 * 48))).round(2)
    values[100::11] *= 4.0
    at = START + 30 * MINUTE * np.arange(len(values), dtype=np.int64)
    whole, cut = sonde("turbidity"), sonde("turbidity")
    whole.give_at(at, values)
    for first in range(0, len(values), size):
        cut.give_at(at[first : first + size], values[first : first + size])
    assert cut.told == whole.told
    assert snapshot(cut.memory) == snapshot(whole.memory)
    assert sum(QualityTest.SPIKE in tests for _, tests in whole.told) > 30


def test_two_sensors_that_send_one_reading_each_are_not_measured_by_each_others_base() -> None:
    both = memory("turbidity", "conductivity")
    parameter, status = both.parameter.astype(np.int64), np.full(2, ord("N"), np.uint8)
    flags = []
    for i, one in enumerate([5.0, 5.1, 4.9, 5.0, 5.1, 4.9, 5.0, 5.1, 80.0, 81.0, 5.0]):
        at = np.full(2, START + i * 5 * MINUTE)
        values = np.array([one, 800.0 + i % 2])
        result = check_quality(SeriesReadings(np.arange(2), parameter, at, values, status), both, CATALOGUE)
        both.apply(result.carried)
        flags += zip(
            result.reflag_series.tolist(), result.reflag_at.tolist(), result.reflag_packed.tolist(), strict=True
        )
    spikes = {(series, (at - START) // (5 * MINUTE)) for series, at, p in flags if p >> 4 & QualityTest.SPIKE}
    assert spikes == {(0, 8), (0, 9)}


def test_what_a_series_learned_is_read_again_as_it_was_written() -> None:
    one = days("turbidity", 20.0, 0.5, number=3, every=HOUR)
    series, at = np.zeros(1, np.int64), one.now + DAY_MS
    status = np.full(1, ord("N"), np.uint8)
    newest = SeriesReadings(series, one.memory.parameter, np.array([at]), np.array([20.0]), status)
    turned = check_quality(newest, one.memory, CATALOGUE).carried
    ((_, newest_ms, body),) = turned.frozen()
    one.memory.apply(turned)
    again = memory("turbidity")
    assert newest_ms == at
    assert again.restore(0, body)
    assert again.usual.any()
    for name in ("usual", "sums", "many", "swing", "median", "drawn", "day"):
        assert np.array_equal(getattr(again, name), getattr(one.memory, name), equal_nan=True), name
    assert one.memory.usual.astype(np.float64).tobytes() in zlib.decompress(body)  # as versions before wrote it


# -- with the other sensors of the station -----------------------------------------------------------------------------


def said_of(own: str, columns: dict[str, np.ndarray]) -> list[QualityTest]:
    """What is said of the readings of one sensor of a station, a column each, a reading a quarter of an hour."""
    keys, n = list(columns), len(columns[own])
    series = np.repeat(np.arange(len(keys)), n)
    parameter = np.array([CATALOGUE.index[key] for key in keys])[series]
    at = np.tile(START + 15 * MINUTE * np.arange(n, dtype=np.int64), len(keys))
    values = np.concatenate([columns[key] for key in keys]).round(3)
    told = check_quality(
        SeriesReadings(series, parameter, at, values, np.full(len(at), ord("N"), np.uint8)), memory(*keys), CATALOGUE
    )
    return [QualityTest(int(bits)) for bits in told.tests[series == keys.index(own)]]


def water(level: float, unrest: float, swing: float, seed: int) -> np.ndarray:
    """Twenty days of a sensor: its noise, and what daylight does."""
    t = np.arange(20 * 96)
    return level + swing * np.sin(2 * np.pi * t / 96) + unrest * np.random.default_rng(seed).standard_normal(len(t))


def test_a_morning_that_warms_the_water_does_not_hide_a_step_of_another_sensor() -> None:
    columns = {"ph": water(7.5, 0.01, 0.0, 1), "water_temp": water(22.0, 0.02, 3.0, 2)}
    columns["ph"][1736:] -= 0.6  # the water warms fastest: 0.2 degrees a reading
    assert [i for i, one in enumerate(said_of("ph", columns)) if QualityTest.SHIFT in one] == [1736]


def test_a_step_of_two_kinds_of_sensor_at_once_is_the_water() -> None:
    columns = {"ph": water(7.5, 0.01, 0.0, 1), "water_temp": water(22.0, 0.02, 3.0, 2)}
    columns["ph"][1736:] -= 0.6
    columns["water_temp"][1736:] -= 1.5
    assert not any(QualityTest.SHIFT in one for one in said_of("ph", columns))


@pytest.mark.parametrize("size", [6, 400, 1920])
def test_what_sensors_say_in_air_is_not_what_is_usual_at_that_time_of_the_day(size: int) -> None:
    columns = {
        "conductivity": water(420.0, 1.0, 40.0, 1),
        "ph": water(7.5, 0.01, 0.5, 2),
        "do": water(7.0, 0.05, 3.0, 3),
    }
    air = slice(1740, 1768)  # seven hours
    columns["conductivity"][air] = 3.0
    columns["ph"][air] += 1.2 * np.sin(np.arange(28) / 3)
    columns["do"][air] = 9.5
    kept = memory(*columns)
    moves = [_moves(kept, first, size, columns) for first in range(0, 1920, size)]
    for key, row in zip(columns, np.concatenate(moves, axis=1), strict=True):
        assert np.nanmax(np.abs(row[1740 + 96 : 1920])) < 1.0, key


def _moves(kept: SeriesState, first: int, size: int, columns: dict[str, np.ndarray]) -> np.ndarray:
    """(sensors, readings) of a stretch of quarter-hourly readings: how far each lies from its last two hours."""
    values = np.stack([one[first : first + size].round(3) for one in columns.values()])
    series = np.repeat(np.arange(len(values)), values.shape[1])
    at = START + 15 * MINUTE * (first + np.tile(np.arange(values.shape[1], dtype=np.int64), len(values)))
    letters = np.full(len(at), ord("N"), np.uint8)
    told = check_quality(SeriesReadings(series, kept.parameter[series], at, values.ravel(), letters), kept, CATALOGUE)
    kept.apply(told.carried)
    return told.move.reshape(values.shape)


def test_a_burst_that_two_kinds_of_sensor_come_back_from_together_may_be_water() -> None:
    columns = {"ph": water(7.5, 0.01, 0.0, 1), "do": water(8.0, 0.02, 0.5, 2), "water_temp": water(22.0, 0.02, 3.0, 3)}
    columns["ph"][1736:1739] -= 0.6
    columns["water_temp"][1739:] += 1.5  # another kind steps as it ends, and does not come back: no witness
    assert [i for i, one in enumerate(said_of("ph", columns)) if QualityTest.BURST in one] == [1736, 1737, 1738]
    columns["do"][1736:1739] -= 3.0
    for key in ("ph", "do"):
        assert not any(QualityTest.BURST in one for one in said_of(key, columns))


@pytest.mark.parametrize(
    ("key", "level", "unrest", "step", "found"),
    [("level", 2.0, 0.003, 0.3, True), ("turbidity", 20.0, 0.5, 40.0, True), ("salinity", 20.0, 0.05, 3.0, True),
     ("level", 2.0, 0.003, 0.15, False), ("flow", 30.0, 0.3, 90.0, False), ("tp", 0.1, 0.002, 0.3, False)],
)  # fmt: skip
def test_a_step_of_any_sensor_is_told_but_of_flows_that_gates_switch_and_of_analysers(
    key: str, level: float, unrest: float, step: float, found: bool
) -> None:
    columns = {key: water(level, unrest, 0.0, 1), "ph": water(7.5, 0.01, 0.0, 2)}
    columns[key][1700:1750] += step
    assert any(QualityTest.SHIFT in one for one in said_of(key, columns)[1700:1703]) is found
    columns["ph"][1700:1750] += 1.0
    assert not any(QualityTest.SHIFT in one for one in said_of(key, columns)), "another kind moved, too"


def test_a_front_of_salt_that_comes_and_goes_on_is_no_step() -> None:
    columns = {"conductivity": water(500.0, 1.0, 0.0, 1)}
    columns["conductivity"][1700:1706] += [200.0, 290.0, 350.0, 390.0, 420.0, 440.0]
    columns["conductivity"][1706:] += 450.0
    assert not any(QualityTest.SHIFT in one for one in said_of("conductivity", columns))


def test_noise_of_one_sensor_is_told_while_another_warms_and_not_where_all_flicker() -> None:
    rng = np.random.default_rng(6)
    columns = {"do": water(8.0, 0.03, 0.0, 1), "water_temp": water(22.0, 0.02, 3.0, 2), "ph": water(7.5, 0.01, 0.0, 3)}
    columns["do"][1728:1776] += 0.8 * rng.standard_normal(48)
    assert sum(QualityTest.NOISE in one for one in said_of("do", columns)[1728:1776]) > 10
    columns["ph"][1728:1776] += 0.3 * rng.standard_normal(48)
    assert not any(QualityTest.NOISE in one for one in said_of("do", columns))


def test_water_that_falls_fast_is_not_noisy() -> None:
    """A storm thins the salt to a third in three hours: far from the line of its neighbours, but on one way."""
    columns = {"conductivity": water(700.0, 1.0, 0.0, 1)}
    columns["conductivity"][1700:1712] -= [30, 110, 150, 230, 250, 330, 350, 420, 430, 455, 460, 462]
    columns["conductivity"][1712:] -= 463.0
    assert not any(QualityTest.NOISE in one for one in said_of("conductivity", columns))


def test_waves_are_no_noise_of_a_level() -> None:
    columns = {"level": water(2.0, 0.003, 0.1, 1)}
    columns["level"][1728:1776] += 0.15 * np.random.default_rng(7).standard_normal(48)
    assert not any(QualityTest.NOISE in one for one in said_of("level", columns))


def test_noise_that_grows_tenfold_is_told_where_nothing_else_moves() -> None:
    one = days("ph", 7.5, 0.02)
    at = one.give(*(7.5 + 0.5 * np.random.default_rng(2).standard_normal(60)).round(3), every=15 * MINUTE)
    assert sum(bool(one.verdicts[t] >> 4 & QualityTest.NOISE) for t in at) > 10


def test_a_step_that_stays_is_told_by_its_first_reading_once_two_more_confirm_it() -> None:
    one = days("ph", 7.5, 0.02)
    at = one.give(8.9, 8.9, every=15 * MINUTE)
    assert one.verdicts[at[0]] == 1
    at += one.give(8.91, 8.9, every=15 * MINUTE)
    assert [one.verdicts[t] >> 4 for t in at] == [QualityTest.SHIFT, 0, 0, 0]


@pytest.mark.parametrize(("then", "steps"), [(19.1, 1), (19.5, 0)])
def test_a_thermometer_that_shows_a_tenth_more_is_no_witness_against_a_step_of_ph(then: float, steps: int) -> None:
    both = memory("ph", "water_temp")
    rng = np.random.default_rng(1)
    usual = 3 * 96
    values = (7.5 + 0.02 * rng.standard_normal(usual), 19.0 + 0.1 * (np.arange(usual)[::-1] // 7 % 2))
    told = _pair(both, 0, [v.round(2) for v in values])
    assert not (told[0] >> 4 & QualityTest.SHIFT).any()
    told = _pair(both, usual, [np.array([7.5, 7.5, 8.6, 8.61, 8.6, 8.61]), np.array([19.0, 19.0, *[then] * 4])])
    assert (told[0] >> 4 & QualityTest.SHIFT != 0).sum() == steps


def _pair(both: SeriesState, first: int, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The verdicts on the quarter-hourly readings of two sensors of a station, handed in as one batch."""
    series = np.repeat([0, 1], len(values[0]))
    at = START + 15 * MINUTE * (first + np.tile(np.arange(len(values[0])), 2))
    letters = np.full(len(at), ord("N"), np.uint8)
    verdict = check_quality(
        SeriesReadings(series, both.parameter[series], at, np.concatenate(values), letters), both, CATALOGUE
    )
    both.apply(verdict.carried)
    return np.split(pack(verdict.flag, verdict.tests), 2)


def test_late_readings_are_judged_by_the_thresholds_in_force_and_teach_nothing() -> None:
    one = days("do", 7.0, 0.5)
    before = one.memory.taken(np.array([0]))
    values, n = np.array([*[7.0] * 8, 9.0, 7.0, 7.0]), 11
    at = one.now + 15 * MINUTE * (1 + np.arange(n))
    parameter, letters = np.full(n, CATALOGUE.index["do"]), np.full(n, ord("N"), np.uint8)
    told = check_quality(
        SeriesReadings(np.zeros(n, int), parameter, at, values, letters), one.memory, CATALOGUE, learn=False
    )
    assert told.flag.tolist() == [GOOD] * n, "2 mg/L are nothing to this sensor"
    one.memory.apply(told.carried)
    assert np.array_equal(before.counts[:], one.memory.counts[:1])
    assert np.array_equal(before.drawn, one.memory.drawn[:1])


# -- flat line ---------------------------------------------------------------------------------------------------------


def test_a_stuck_sensor_repeats_itself_eight_times_and_for_half_a_day() -> None:
    told = verdict("do", *[7.18] * 150)
    assert told[143] == CLEAN  # the 144th: 11 h 55 min after the first
    assert told[144:] == [(SUSPECT, QualityTest.FLAT_LINE)] * 6


def test_half_a_day_alone_or_eight_readings_alone_are_no_flat_line() -> None:
    assert verdict("do", *[7.18] * 7, every=2 * HOUR) == [CLEAN] * 7
    assert verdict("do", *[7.18] * 8, every=2 * HOUR)[7] == (SUSPECT, QualityTest.FLAT_LINE)
    assert verdict("do", *[7.18] * 60) == [CLEAN] * 60


def test_exactly_half_a_day_is_enough() -> None:
    eighth = 12 * HOUR // 9
    told = verdict("do", *[7.18] * 10, every=eighth)
    assert told[8] == CLEAN
    assert told[9] == (SUSPECT, QualityTest.FLAT_LINE)


def test_one_other_reading_ends_the_flat_line_and_the_count_begins_anew() -> None:
    told = verdict("do", *[7.18] * 10, 7.2, *[7.18] * 7, every=2 * HOUR)
    assert told[6] == CLEAN  # half a day, seven readings
    assert told[7] == (SUSPECT, QualityTest.FLAT_LINE)
    assert told[10:] == [CLEAN] * 8


def test_a_flat_line_goes_on_across_batches_and_over_bad_readings() -> None:
    one = sonde("do")
    for _ in range(4):
        one.give(7.18, 7.18, every=2 * HOUR)
        one.give(-9999.0, every=2 * HOUR)
    assert one.told[10] == (SUSPECT, QualityTest.FLAT_LINE)  # the eighth 7.18


def test_weeks_without_rain_and_a_detection_limit_are_no_stuck_sensor() -> None:
    assert verdict("rain", *[0.0] * 200, every=HOUR) == [CLEAN] * 200
    assert verdict("nh3n", *[0.025] * 50, every=4 * HOUR) == [CLEAN] * 50


def test_equal_values_of_two_series_are_two_runs() -> None:
    both = memory("do", "do")
    n = 5
    series = np.repeat([0, 1], n)
    at = np.tile(START + 2 * HOUR * np.arange(n), 2)
    parameter = np.full(2 * n, CATALOGUE.index["do"])
    told = check_quality(
        SeriesReadings(series, parameter, at, np.full(2 * n, 7.0), np.full(2 * n, ord("N"), np.uint8)), both, CATALOGUE
    )
    assert told.flag.tolist() == [GOOD] * 10
    assert told.carried.recent["run_samples"].tolist() == [5, 5]


def test_a_run_that_goes_on_in_a_shared_batch_counts_its_own_readings_only() -> None:
    both = memory("do", "do")
    letters, do = np.full(6, ord("N"), np.uint8), np.full(6, CATALOGUE.index["do"])
    for batch, first in enumerate(([7.0, 7.0, 7.0], [7.0, 8.0, 8.0])):
        at = np.tile(START + HOUR * (3 * batch + np.arange(3)), 2)
        values_ = np.array([*first, 7.0, 7.0, 7.0])
        told = check_quality(SeriesReadings(np.repeat([0, 1], 3), do, at, values_, letters), both, CATALOGUE)
        both.apply(told.carried)
    assert told.carried.recent["run_samples"].tolist() == [2, 6]
    assert told.carried.recent["run_start"].tolist() == [START + 4 * HOUR, START]


# -- dead zero ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "level"), [("do", 2.0), ("ph", 0.5), ("conductivity", 25.0)])
def test_zero_is_dead_where_the_water_stood_clearly_above_it(key: str, level: float) -> None:
    at_limit, above = verdict(key, level, 0.0), verdict(key, float(np.nextafter(level, 99)), 0.0)
    assert QualityTest.SENTINEL not in at_limit[1][1]
    assert at_limit[1][0] is not BAD
    assert above[1][0] is BAD
    assert QualityTest.SENTINEL in above[1][1]


def test_an_anoxic_creek_slides_to_zero_and_is_believed() -> None:
    assert verdict("do", 1.5, 0.9, 0.4, 0.1, 0.0, 0.0, 0.0) == [CLEAN] * 7


def test_a_dead_sensor_stays_dead_for_all_its_zeros_and_revives() -> None:
    for cut in range(1, 6):
        one = sonde("do")
        values = [7.0, 0.0, 0.0, 0.0, 7.1]
        one.give(*values[:cut])
        if cut < 5:
            one.give(*values[cut:])
        assert [flag for flag, _ in one.told] == [GOOD, BAD, BAD, BAD, GOOD], cut


def test_a_dead_zero_looks_at_its_own_series_only() -> None:
    both = memory("do", "do")
    do = CATALOGUE.index["do"]
    at, letters = np.array([START, START]), np.full(2, ord("N"), np.uint8)
    told = check_quality(
        SeriesReadings(np.array([0, 1]), np.array([do, do]), at, np.array([8.0, 0.0]), letters), both, CATALOGUE
    )
    assert told.flag.tolist() == [GOOD, GOOD]


@pytest.mark.parametrize("key", ["water_temp", "rain", "flow", "level", "nh3n", "turbidity"])
def test_zero_is_an_ordinary_value_of_most_parameters(key: str) -> None:
    first = 0.1 if key in ("water_temp", "level") else 1.0
    assert verdict(key, first, 0.0)[1][0] is not BAD


def test_a_zero_after_a_fault_code_is_measured_against_the_water_before() -> None:
    assert [f for f, _ in verdict("do", 7.0, -9999.0, 0.0)] == [GOOD, BAD, BAD]
    assert [f for f, _ in verdict("do", 0.9, 61.0, 0.0)] == [GOOD, BAD, GOOD]


# -- what the device says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "flag"),
    [
        ("N", GOOD),
        ("S", GOOD),
        ("D", BAD),
        ("B", BAD),
        ("F", BAD),
        ("M", BAD),
        ("C", BAD),
        ("O", BAD),
        ("L", SUSPECT),
        ("l", SUSPECT),
        ("n", SUSPECT),
        ("?", SUSPECT),
        (" ", SUSPECT),
        ("\x00", SUSPECT),
    ],
)
def test_the_devices_own_word_counts(letter: str, flag: Flag) -> None:
    one = sonde("do")
    one.give(7.0, 7.0, 7.0, status="N" + letter + "N")
    assert one.told == [CLEAN, (flag, QualityTest.DEVICE_STATUS if flag is not GOOD else QualityTest(0)), CLEAN]


def test_over_the_upper_limit_is_at_least_so_much_and_its_own_mark() -> None:
    one = sonde("nh3n")
    one.give(1.0, 1.0, status="NT")
    assert one.told[1] == (SUSPECT, QualityTest.OVER_RANGE)


def test_a_sensor_at_zero_for_longer_than_six_hours_is_believed_so_that_somebody_looks() -> None:
    told = verdict("do", 5.0, *[0.0] * 7, every=HOUR)
    assert [flag for flag, _ in told[1:7]] == [BAD] * 6
    assert told[7] == CLEAN


def test_a_level_held_by_a_sluice_is_no_stuck_sensor() -> None:
    for key, value in (("level", 2.13), ("salinity", 0.1), ("orp", 120.0)):
        assert verdict(key, *[value] * 50, every=HOUR) == [CLEAN] * 50


def test_a_reading_under_maintenance_is_no_neighbour() -> None:
    one = sonde("do")
    one.give(7.0, 20.0, 7.0, status="NMN")
    assert one.told == [CLEAN, (BAD, QualityTest.DEVICE_STATUS), CLEAN]


def test_a_reading_marked_as_normal_is_still_tested() -> None:
    assert verdict("ph", 14.1)[0][0] is BAD


# -- batches -----------------------------------------------------------------------------------------------------------


def test_readings_out_of_order_are_a_broken_promise() -> None:
    one, n = sonde("do"), np.full(2, ord("N"), np.uint8)
    do, values = np.full(2, CATALOGUE.index["do"]), np.array([7.0, 7.0])
    for series, at in (([0, 0], [START + 1, START]), ([0, 0], [START, START]), ([1, 0], [START, START + 1])):
        with pytest.raises(ValueError, match="sorted"):
            check_quality(SeriesReadings(np.array(series), do, np.array(at), values, n), one.memory, CATALOGUE)
    two = memory("do", "do")
    assert (
        len(
            check_quality(
                SeriesReadings(np.array([0, 1]), do, np.array([START + 1, START]), values, n), two, CATALOGUE
            ).flag
        )
        == 2
    )


def test_an_empty_batch_is_an_empty_answer() -> None:
    none = np.empty(0, np.int64)
    told = check_quality(SeriesReadings(none, none, none, np.empty(0), np.empty(0, np.uint8)), SeriesState(), CATALOGUE)
    assert len(told.flag) == len(told.tests) == len(told.reflag_at) == len(told.carried.recent.series) == 0


def test_a_batch_of_bad_readings_leaves_nothing_else_to_remember() -> None:
    one = sonde("do")
    one.give(7.0)
    before = one.memory.taken(np.array([0]))
    one.give(-9999.0, -9999.0)
    assert one.memory.dead_run.tolist() == [2]
    before.dead_at, before.dead_run = one.memory.dead_at, one.memory.dead_run
    assert snapshot(one.memory) == snapshot(before)


def test_a_series_that_is_forgotten_remembers_nothing_and_its_neighbour_all() -> None:
    both = memory("do", "do")
    a, b = Sonde("do", both, 0), Sonde("do", both, 1)
    a.give(*CALM)
    b.give(*CALM)
    both.forget(np.array([0]))
    a.give(14.0)
    b.give(14.0)
    a.give(7.0)
    b.give(7.0)
    assert a.told[8] == CLEAN
    assert b.told[8] == (SUSPECT, QualityTest.SPIKE)


def test_making_room_keeps_what_was_remembered() -> None:
    both = memory("do")
    one = Sonde("do", both)
    one.give(*CALM)
    before = both.value[0].tobytes()
    both.grow(5000)
    assert both.value[0].tobytes() == before
    assert np.isnan(both.value[1:]).all()
    late = Sonde("do", both, 4999)
    late.give(14.0)
    assert late.last == CLEAN


def snapshot(memory: SeriesState) -> tuple[bytes, ...]:
    return tuple(getattr(memory, name)[:].tobytes() for name in vars(memory))


# values that meet each other often: plateaus, spikes, zeros, codes, ends of ranges, and a few free ones
levels = st.sampled_from([0.0, 7.0, 7.0, 7.0, 7.1, 7.3, 9.0, 9.1, 1.0, 2.1, 12.0, 26.0, 61.0, -9999.0, 999.0, -0.4])
free = st.floats(-5, 70, allow_nan=False)
steps = st.sampled_from([1, 1000, MINUTE, 5 * MINUTE, 5 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 6 * HOUR + 1, 30 * HOUR])
letter = st.sampled_from("NNNNNNNNNNNNSTMD?")
keys = st.sampled_from(["do", "ph", "water_temp", "turbidity", "conductivity", "nh3n", "rain", "level"])


@st.composite
def histories(draw: st.DrawFn, max_size: int = 40) -> tuple[str, list[int], list[float], str]:
    source = draw(st.sampled_from([levels, levels, st.sampled_from([7.0, 9.0]), free, levels | free]))
    regular = draw(st.none() | steps)
    entries = draw(
        st.lists(st.tuples(st.just(regular) if regular else steps, source, letter), min_size=1, max_size=max_size)
    )
    at = np.cumsum([START, *(gap for gap, _, _ in entries[1:])]).tolist()
    return draw(keys), at, [x for _, x, _ in entries], "".join(flag for _, _, flag in entries)


def pieces(draw: st.DrawFn, n: int) -> list[slice]:
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=n - 1))) if n > 1 else []
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


@given(histories(), st.data())
@example(  # two spikes in a row: a plateau, a spike off it, and the return is a spike itself
    ("do", [START + i * 5 * MINUTE for i in range(12)], [7.0, *[9.0] * 3, *[7.0] * 4, 9.0, 7.0, 9.0, 9.0], "N" * 12),
    None,
)
@example(
    ("do", [START + i * 5 * MINUTE for i in range(11)], [7.0, *[9.0] * 3, *[7.0] * 3, 9.0, 7.0, 9.0, 9.0], "N" * 11),
    None,
)
@settings(max_examples=150)
def test_cutting_a_series_into_batches_anywhere_changes_no_flag(
    history: tuple[str, list[int], list[float], str], data: st.DataObject | None
) -> None:
    key, at, values, status = history
    whole = sonde(key)
    whole.give_at(np.array(at), values, status)
    cuts = [slice(i, i + 1) for i in range(len(at))] if data is None else pieces(data.draw, len(at))
    cut = sonde(key)
    for piece in cuts:
        cut.give_at(np.array(at[piece]), values[piece], status[piece])
    assert cut.told == whole.told
    assert snapshot(cut.memory) == snapshot(whole.memory)


@given(st.lists(histories(15), min_size=2, max_size=4), st.data())
@settings(suppress_health_check=[HealthCheck.large_base_example, HealthCheck.too_slow])
def test_series_that_share_batches_are_judged_as_if_alone(
    many: list[tuple[str, list[int], list[float], str]], data: st.DataObject
) -> None:
    alone: list[Sonde] = []
    for key, at, values, status in many:
        one = sonde(key)
        one.give_at(np.array(at), values, status)
        alone.append(one)
    shared = SeriesState.of(
        np.arange(len(many), dtype=np.int32), np.array([CATALOGUE.index[key] for key, *_ in many], np.int32)
    )
    told: list[dict[int, int]] = [{} for _ in many]
    cuts = [sorted(data.draw(st.tuples(*[st.integers(0, len(at))] * 3))) for _, at, _, _ in many]
    for batch_number in range(4):
        series, parameter, at, values, status = [], [], [], [], ""
        for s, (key, ats, xs, letters) in enumerate(many):
            edges = [0, *cuts[s], len(ats)]
            piece = slice(edges[batch_number], edges[batch_number + 1])
            take = piece.stop - piece.start
            series += [s] * take
            parameter += [CATALOGUE.index[key]] * take
            at, values, status = at + ats[piece], values + xs[piece], status + letters[piece]
        letters_ = np.frombuffer(status.encode(), np.uint8)
        batch = np.array(series, int), np.array(parameter, int), np.array(at, np.int64), np.array(values, float)
        before = snapshot(shared)
        verdict_ = check_quality(SeriesReadings(*batch, letters_), shared, CATALOGUE)
        assert snapshot(shared) == before  # nothing is remembered before the readings are stored
        packed = pack(verdict_.flag, verdict_.tests)
        for s, when, p in zip(
            [*verdict_.reflag_series.tolist(), *series],
            [*verdict_.reflag_at.tolist(), *at],
            [*verdict_.reflag_packed.tolist(), *packed.tolist()],
            strict=True,
        ):
            told[s][when] = p
        shared.apply(verdict_.carried)
    assert told == [one.verdicts for one in alone]


@given(histories())
def test_every_reading_gets_exactly_one_flag_and_a_reason_for_every_doubt(
    history: tuple[str, list[int], list[float], str],
) -> None:
    key, at, values, status = history
    one = sonde(key)
    one.give_at(np.array(at), values, status)
    assert sorted(one.verdicts) == at
    for flag, tests in one.told:
        assert flag in (GOOD, SUSPECT, BAD)
        assert (flag is GOOD) == (tests == QualityTest(0))
        if flag is BAD:
            assert tests & (QualityTest.SENTINEL | QualityTest.INSTRUMENT_RANGE | QualityTest.DEVICE_STATUS)


@given(histories())
def test_a_series_judged_twice_is_judged_alike(history: tuple[str, list[int], list[float], str]) -> None:
    key, at, values, status = history
    first, second = sonde(key), sonde(key)
    first.give_at(np.array(at), values, status)
    second.give_at(np.array(at), values, status)
    assert first.told == second.told


@given(st.lists(st.tuples(st.sampled_from(list(Flag)), st.integers(0, 2**20)), max_size=9))
def test_flag_and_tests_survive_being_packed_into_one_number(pairs: list[tuple[Flag, int]]) -> None:
    flag = np.array([f for f, _ in pairs], np.uint8)
    bits = np.array([b for _, b in pairs], np.uint32)
    got_flag, got_bits = unpack(pack(flag, bits))
    assert got_flag.tolist() == flag.tolist()
    assert got_bits.tolist() == bits.tolist()


# -- a new series ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "told"), [(1, CLEAN), (2, CLEAN), (4, (SUSPECT, QualityTest.SPIKE))])
def test_in_the_first_three_days_no_reading_is_compared_with_others(
    monkeypatch: pytest.MonkeyPatch, day: int, told: tuple[Flag, QualityTest]
) -> None:
    monkeypatch.setattr(engine, "COLD_START_MS", 3 * DAY_MS)
    one = sonde("ph")
    for passed in range(day):
        one.give(*(7.0 + 0.01 * (i % 7) for i in range(48)), every=30 * MINUTE, after=30 * MINUTE if passed else None)
    at = one.give(7.0, 9.0, 7.02, 7.0)
    assert unpack_one(one.verdicts[at[1]]) == told


def test_in_the_first_three_days_what_cannot_be_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "COLD_START_MS", 3 * DAY_MS)
    assert verdict("ph", 7.0, 7.02, 15.5, 7.01)[2][0] is BAD


def unpack_one(packed: int) -> tuple[Flag, QualityTest]:
    flag, tests = unpack(np.array([packed], np.int64))
    return Flag(int(flag[0])), QualityTest(int(tests[0]))
