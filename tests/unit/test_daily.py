"""Sensors that go half dead or drift over days: what one series, its station and its neighbours show of it."""

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.known_days import day_features
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours, connected_groups, neighbour_stations
from sensors.reading import Flag, QualityTest, pack

CATALOGUE = catalogue()
HOUR, DAY = 3_600_000, 86_400_000
START = 20_580 * DAY
N = 30
USUAL = {"water_temp": (20.0, 2.0), "ph": (7.5, 0.3), "do": (7.0, 1.5)}
ATTENUATED, NEIGHBOURS = QualityTest.ATTENUATED, QualityTest.NEIGHBOURS
Swing = Callable[[np.ndarray], np.ndarray]


def course(key: str, *, share: Swing | None = None, off: Swing | None = None, seed: int = 1) -> np.ndarray:
    """(N · 24,) a quiet month of a creek: the day swings by ``share`` of the usual, the level is ``off`` by so much."""
    day = np.arange(N * 24) / 24
    middle, swing = USUAL.get(key, (2.0, 0.5))
    noise = np.random.default_rng([seed, len(key)]).normal(0, 0.02 * swing, len(day))
    period = 24 / 24.84 if key == "level" else 1.0
    x = middle + swing * np.sin(2 * np.pi * day * period) * (1.0 if share is None else share(day)) + noise
    return np.asarray(np.round(x + (0.0 if off is None else off(day)), 3))


@dataclass
class Waters:
    """Series of stations, hour by hour, every other one half an hour later; ``told``: the verdicts in force."""

    series: list[tuple[int, str, np.ndarray]]
    network: Neighbours
    asleep: frozenset[int] = frozenset()
    """Series that say nothing until eight in the morning."""

    def __post_init__(self) -> None:
        self.memory = SeriesState.of(
            np.array([s for s, _, _ in self.series], np.int32),
            np.array([CATALOGUE.index[key] for _, key, _ in self.series], np.int32),
        )
        self.told = np.zeros((len(self.series), N * 24), np.int64)

    def give(self, first: float, last: float, *, learn: bool = True) -> None:
        """What was measured from one hour until another, in one batch."""
        series, hours = [], []
        for i in range(len(self.series)):
            mine = np.arange(N * 24)
            mine = mine[(mine % 24 >= 8) | (i not in self.asleep)]
            mine = mine[(mine + i % 2 / 2 >= first) & (mine + i % 2 / 2 < last)]
            series.append(np.full(len(mine), i))
            hours.append(mine)
        who, when = np.concatenate(series), np.concatenate(hours)
        verdict = check_quality(
            SeriesReadings(
                who,
                self.memory.parameter[who],
                START + when * HOUR + who % 2 * HOUR // 2,
                np.concatenate([x[mine] for (_, _, x), mine in zip(self.series, hours, strict=True)]),
                np.full(len(when), ord("N"), np.uint8),
            ),
            self.memory,
            CATALOGUE,
            network=self.network,
            learn=learn,
        )
        self.told[verdict.reflag_series, (verdict.reflag_at - START) // HOUR] = verdict.reflag_packed
        self.told[who, when] = pack(verdict.flag, verdict.tests)
        self.memory.apply(verdict.carried)

    def days(self, test: QualityTest, of: int) -> list[int]:
        """On which days a series failed a test."""
        failed = (self.told[of] >> 4 & int(test)) != 0
        assert (self.told[of][failed] & 15 == Flag.SUSPECT).all()
        return np.unique(np.flatnonzero(failed) // 24).tolist()


def creek(changes: Mapping[str, Mapping[str, Swing]]) -> list[tuple[int, str, np.ndarray]]:
    return [(0, key, course(key, **changes.get(key, {}))) for key in USUAL]


def judged(series: list[tuple[int, str, np.ndarray]], network: Neighbours = NO_NEIGHBOURS) -> Waters:
    waters = Waters(series, network)
    waters.give(0, N * 24)
    return waters


def from_day(day: int, value: float, until: int = N, otherwise: float = 1.0) -> Swing:
    return lambda days: np.where((days >= day) & (days < until), value, otherwise)


def test_a_sensor_that_keeps_a_third_of_its_swing_is_told_after_three_days_and_the_others_are_not() -> None:
    waters = judged(creek({"do": {"share": from_day(20, 0.33)}}))
    assert waters.days(ATTENUATED, 2) == list(range(23, 30))
    assert waters.days(ATTENUATED, 0) == waters.days(ATTENUATED, 1) == []


def test_once_the_swing_is_back_so_is_the_good_name() -> None:
    waters = judged(creek({"ph": {"share": from_day(20, 0.2, until=25)}}))
    assert waters.days(ATTENUATED, 1) == [23, 24, 25], "the verdict of a day rests on the days before it"


def test_cold_and_clouds_that_take_from_all_sensors_are_no_fault() -> None:
    gloomy = {"share": from_day(20, 0.3)}
    waters = judged(creek(dict.fromkeys(USUAL, gloomy)))
    assert [waters.days(ATTENUATED, i) for i in range(3)] == [[], [], []]
    waters = judged(creek({"do": {"share": from_day(20, 0.3, until=22)}}))
    assert waters.days(ATTENUATED, 2) == [], "two days are the weather"


def test_one_other_sensor_alone_is_no_witness() -> None:
    waters = judged(creek({"do": {"share": from_day(20, 0.2)}})[1:])
    assert waters.days(ATTENUATED, 1) == []


def test_water_that_has_lost_its_oxygen_has_no_swing_left_and_no_fault() -> None:
    black = creek({"do": {"share": from_day(20, 0.1), "off": from_day(20, -6.5, otherwise=0.0)}})
    assert judged(black).days(ATTENUATED, 2) == []


def test_a_swing_that_comes_and_goes_has_no_usual_one() -> None:
    waters = judged(creek({"do": {"share": lambda day: np.where(day // 4 % 2 == 0, 1.0, 0.3)}}))
    assert waters.days(ATTENUATED, 2) == []


def test_what_lasts_longer_than_the_memory_becomes_the_usual() -> None:
    waters = judged(creek({"do": {"share": from_day(10, 0.3)}}))
    assert waters.days(ATTENUATED, 2) == list(range(13, 23))


def levels(*shares: Swing | None) -> list[tuple[int, str, np.ndarray]]:
    return [(i, "level", course("level", share=share)) for i, share in enumerate(shares)]


def test_a_level_that_stands_still_where_the_neighbours_tide_goes_on_is_told() -> None:
    still, beside = from_day(20, 0.1), {0: [1], 1: [0, 2], 2: [1]}
    assert judged(levels(None, still, None), beside).days(ATTENUATED, 1) == list(range(23, 30))
    assert judged(levels(None, still, None)).days(ATTENUATED, 1) == [], "without a network nobody knows"
    closed = judged(levels(still, still, still), beside)
    assert [closed.days(ATTENUATED, i) for i in range(3)] == [[], [], []], "somebody closed the gate"


def temperatures(*off: Swing | None) -> list[tuple[int, str, np.ndarray]]:
    weather = np.random.default_rng(3).normal(0, 0.4, N).cumsum()
    return [
        (i, "water_temp", course("water_temp", off=one, seed=i) + np.repeat(weather, 24)) for i, one in enumerate(off)
    ]


def test_a_thermometer_that_leaves_its_neighbours_by_itself_is_told_on_the_third_day() -> None:
    waters = judged(temperatures(None, from_day(20, 6.0, otherwise=0.0), None), {0: [1], 1: [0, 2], 2: [1]})
    assert waters.days(NEIGHBOURS, 1)[:3] == [22, 23, 24]
    assert waters.days(NEIGHBOURS, 0) == waters.days(NEIGHBOURS, 2) == []
    assert judged(temperatures(None, from_day(20, 6.0, otherwise=0.0))).days(NEIGHBOURS, 1) == []


def test_where_all_stations_move_the_water_moved() -> None:
    warm = from_day(20, 6.0, otherwise=0.0)
    waters = judged(temperatures(warm, warm, warm), {0: [1], 1: [0, 2], 2: [1]})
    assert [waters.days(NEIGHBOURS, i) for i in range(3)] == [[], [], []]


def test_a_plume_of_one_day_leaves_no_doubt() -> None:
    waters = judged(temperatures(None, from_day(20, 6.0, until=21, otherwise=0.0)), {0: [1], 1: [0]})
    assert waters.days(NEIGHBOURS, 1) == []


def everything() -> tuple[list[tuple[int, str, np.ndarray]], Neighbours]:
    warm = [(1, key, x) for _, key, x in temperatures(from_day(20, 6.0, otherwise=0.0))]
    return [*creek({"do": {"share": from_day(20, 0.3)}}), *warm], {0: [1], 1: [0]}


@given(st.lists(st.integers(1, N * 48 - 1), max_size=6, unique=True))
@example([day * 48 + 1 for day in range(N)])
@settings(max_examples=15)
def test_cutting_the_time_anywhere_changes_no_verdict(cuts: list[int]) -> None:
    whole, parts = judged(*everything()), Waters(*everything())
    edges = [0, *(cut / 2 for cut in sorted(cuts)), N * 24]
    for first, last in itertools.pairwise(edges):
        parts.give(first, last)
    assert whole.days(ATTENUATED, 2)
    assert whole.days(NEIGHBOURS, 3)
    assert (parts.told == whole.told).all()
    for name in ("hour_sum", "hour_many", "swing", "median", "earlier", "daily_tests"):
        np.testing.assert_array_equal(getattr(parts.memory, name), getattr(whole.memory, name))


def test_what_came_with_the_turn_of_a_day_is_of_the_day_before() -> None:
    two, beside = temperatures(from_day(20, 6.0, otherwise=0.0), None), {0: [1], 1: [0]}
    whole, parts = Waters(two, beside, frozenset({1})), Waters(two, beside, frozenset({1}))
    whole.give(0, N * 24)
    for day in range(N):  # the last hour of one station comes with the first of the other's next day
        parts.give(max(day * 24 - 23.5, 0), day * 24 - 1)
        parts.give(day * 24 - 1, day * 24 + 0.5)
    assert whole.days(NEIGHBOURS, 0)[:2] == [22, 23]
    seen = slice(0, (N - 1) * 24)
    assert (parts.told[0, seen] == whole.told[0, seen]).all()


def test_an_hour_at_a_time_is_the_same_too() -> None:
    whole, parts = judged(*everything()), Waters(*everything())
    parts.give(0, 22 * 24)
    for hour in range(22 * 24, 24 * 24):
        parts.give(hour, hour + 1)
    assert (parts.told[:, : 24 * 24] == whole.told[:, : 24 * 24]).all()


def test_late_readings_are_not_doubted_for_the_days_of_others_and_teach_nothing() -> None:
    waters = Waters(*everything())
    waters.give(0, 25 * 24)
    before = {name: getattr(waters.memory, name).copy() for name in ("hour_sum", "hour_many", "swing", "daily_tests")}
    assert before["daily_tests"].any()
    waters.give(25 * 24, 26 * 24, learn=False)
    assert waters.days(ATTENUATED, 2) == [23, 24]
    for name, was in before.items():
        np.testing.assert_array_equal(getattr(waters.memory, name), was)


def test_what_was_written_down_is_known_again_and_another_form_is_not_read() -> None:
    waters = Waters(*everything())
    waters.give(0, 24 * 24)
    carried_of = Waters(*everything())
    carried_of.memory = waters.memory.taken(np.arange(4))
    hours = np.tile(np.arange(24 * 24, 25 * 24), 4)
    series = np.repeat(np.arange(4), 24)
    told = check_quality(
        SeriesReadings(
            series,
            waters.memory.parameter[series],
            START + hours * HOUR + series % 2 * HOUR // 2,
            np.concatenate([x[24 * 24 : 25 * 24] for _, _, x in waters.series]),
            np.full(len(hours), ord("N"), np.uint8),
        ),
        waters.memory,
        CATALOGUE,
        network=waters.network,
    )
    waters.memory.apply(told.carried)
    for number, _, body in told.carried.frozen():
        again = SeriesState.of(np.zeros(1, np.int32), waters.memory.parameter[number : number + 1])
        assert again.restore(0, body)
        for name in ("counts", "hour_sum", "hour_many", "swing", "median", "earlier", "daily_tests"):
            np.testing.assert_array_equal(getattr(again, name)[0], getattr(waters.memory, name)[number])
        assert not again.restore(0, zlib.compress(bytes([9]) + zlib.decompress(body)[1:]))
        before = zlib.compress(bytes([3]) + bytes(8) + zlib.decompress(body)[1:])
        former = SeriesState.of(np.zeros(1, np.int32), again.parameter[:1])
        assert former.restore(0, before), "what the version before has written is read, too"
        assert [getattr(former, name)[0].tobytes() for name in ("first", "drawn", "low")] == [
            getattr(again, name)[0].tobytes() for name in ("first", "drawn", "low")
        ]


def test_a_day_is_the_swing_and_the_median_of_its_hours_and_needs_sixteen_of_them() -> None:
    sums = np.stack([np.arange(24) * 10, np.arange(24) * 10, np.arange(24) * 10])
    many = np.full((3, 24), 10, np.int32)
    many[1, 16:], many[2, 15:] = 0, 0
    swing, median = day_features(sums * 2, many, np.full(3, 0.5))
    np.testing.assert_allclose(swing, [0.8 * 23, 0.8 * 15, np.nan], rtol=1e-6)
    np.testing.assert_allclose(median, [11.5, 7.5, np.nan])


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([(0, 1, 0), (1, 2, 0)], {0: [1], 1: [0, 2], 2: [1]}),
        ([(0, 1, 60), (0, 2, 90), (1, 2, 30)], {0: [1], 1: [0, 2], 2: [1]}),
        ([(0, 2, 0), (1, 2, 0)], {0: [2], 1: [2], 2: [0, 1]}),
        ([], {}),
    ],
)
def test_neighbours_are_the_next_stations_above_and_below(
    edges: list[tuple[int, int, int]], expected: Mapping[int, list[int]]
) -> None:
    assert neighbour_stations(edges) == expected


def test_stations_that_are_joined_are_judged_together() -> None:
    assert connected_groups(5, [(0, 3, 0), (3, 4, 0)]) == [[0, 3, 4], [1], [2]]
