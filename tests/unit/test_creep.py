"""A sensor that creeps away from its neighbours in steps too small for any day, and waters that do so together."""

from collections.abc import Sequence

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours
from sensors.reading import Bools, Flag, Floats, QualityTest

CATALOGUE = catalogue()
HOUR, DAY = 3_600_000, 86_400_000
START = 20_580 * DAY
N, BEGINS = 62, 48
NEIGHBOURS = np.uint32(QualityTest.NEIGHBOURS)
USUAL = {"ph": (7.6, 0.15), "water_temp": (18.0, 1.0), "do": (7.0, 0.8), "conductivity": (420.0, 8.0)}
CHAIN: Neighbours = {0: [1], 1: [0, 2], 2: [1]}


def river(key: str, *, slope: Sequence[float], begins: int = BEGINS, seed: int = 1) -> list[Floats]:
    """Hour by hour the same weather at some stations, each with noise of its own; from a day on each creeps by its
    ``slope`` a day."""
    rng = np.random.default_rng(seed)
    day = np.arange(N * 24) / 24
    middle, swing = USUAL[key]
    weather = np.interp(day, np.arange(0, N + 4, 4), rng.normal(0, swing, N // 4 + 2))
    sun = middle + weather + swing * np.sin(2 * np.pi * day)
    return [
        (sun + rng.normal(0, 0.05 * swing, len(day)) + one * np.clip(day - begins, 0, 10)).round(3) for one in slope
    ]


class Watched:
    """One parameter at some stations, handed in by hours; ``flags`` and ``due`` by station and hour."""

    def __init__(self, key: str, lines: Sequence[Floats], network: Neighbours) -> None:
        self.lines, self.network = lines, network
        self.memory = SeriesState.of(
            np.arange(len(lines), dtype=np.int32), np.full(len(lines), CATALOGUE.index[key], np.int32)
        )
        self.tests = np.zeros((len(lines), N * 24), np.uint32)
        self.due = np.zeros((len(lines), N * 24), np.bool_)

    def give(self, first: int, last: int, *, learn: bool = True) -> None:
        hours = np.tile(np.arange(first, last), len(self.lines))
        series = np.repeat(np.arange(len(self.lines)), last - first)
        told = check_quality(
            SeriesReadings(
                series,
                self.memory.parameter[series],
                START + hours * HOUR,
                np.concatenate([line[first:last] for line in self.lines]),
                np.full(len(hours), ord("N"), np.uint8),
            ),
            self.memory,
            CATALOGUE,
            network=self.network,
            learn=learn,
        )
        self.tests[series, hours], self.due[series, hours] = told.tests, told.due
        assert (told.flag[told.tests & NEIGHBOURS > 0] == Flag.SUSPECT).all()
        if learn:
            for number, _, body in told.carried.frozen():
                self.bodies = {**getattr(self, "bodies", {}), number: body}
            self.memory.apply(told.carried)

    def days(self, where: Bools) -> list[list[int]]:
        return [np.unique(np.flatnonzero(one) // 24).tolist() for one in where]

    @property
    def doubted(self) -> list[list[int]]:
        return self.days(self.tests & NEIGHBOURS > 0)


def watched(key: str, lines: Sequence[Floats], network: Neighbours = CHAIN) -> Watched:
    one = Watched(key, lines, network)
    one.give(0, N * 24)
    return one


def test_beside_one_neighbour_a_creeping_ph_electrode_is_due_for_a_check_and_no_reading_is_flagged() -> None:
    told = watched("ph", river("ph", slope=(0.0, 0.07)), {0: [1], 1: [0]})
    after, of_one = told.days(told.due)
    assert after == []
    assert of_one
    assert BEGINS + 5 <= of_one[0] <= BEGINS + 12
    assert told.doubted == [[], []]
    apart = watched("ph", river("ph", slope=(0.0, 0.07)), NO_NEIGHBOURS)
    assert not apart.due.any(), "without a network nobody knows"


@pytest.mark.parametrize(
    ("key", "slope"), [("ph", 0.07), ("water_temp", 0.4), ("do", 0.25), ("conductivity", 20.0), ("do", -0.25)]
)
def test_what_creeps_away_from_the_stations_above_and_below_is_doubted(key: str, slope: float) -> None:
    told = watched(key, river(key, slope=(0.0, slope, 0.0)))
    above, middle, below = told.days(told.due)
    assert above == below == []
    assert middle
    assert BEGINS + 3 <= middle[0] <= BEGINS + 12
    assert set(middle) <= set(told.doubted[1])


@pytest.mark.parametrize("key", ["water_temp", "do", "conductivity"])
def test_of_two_stations_alone_only_ph_tells(key: str) -> None:
    lines = river(key, slope=(0.0, {"water_temp": 0.4, "do": 0.25, "conductivity": 20.0}[key]))
    assert not watched(key, lines, {0: [1], 1: [0]}).due.any()


@pytest.mark.parametrize("slope", [(20.0, 20.0, 20.0), (0.0, 20.0, 30.0), (0.0, 0.0, 20.0)])
def test_salt_that_comes_up_the_river_for_days_is_no_fault(slope: tuple[float, ...]) -> None:
    told = watched("conductivity", river("conductivity", slope=slope))
    assert not told.due.any()
    assert told.doubted == [[], [], []]


@pytest.mark.parametrize("seed", range(6))
def test_weather_alone_makes_nobody_come(seed: int) -> None:
    for key in USUAL:
        assert not watched(key, river(key, slope=(0.0, 0.0, 0.0), seed=seed)).due.any()


def test_before_weeks_are_known_nobody_can_tell_and_after_them_it_is_the_usual() -> None:
    young = watched("ph", river("ph", slope=(0.0, 0.07), begins=10), {0: [1], 1: [0]})
    assert young.days(young.due)[1] == []
    old = watched("ph", river("ph", slope=(0.0, 0.07), begins=34), {0: [1], 1: [0]})
    days = old.days(old.due)[1]
    assert days
    assert days[-1] < 34 + 10 + 18


def test_any_cutting_a_restart_each_day_and_late_readings_change_nothing() -> None:
    lines = river("ph", slope=(0.0, 0.07, 0.0))
    whole, parts = watched("ph", lines), Watched("ph", lines, CHAIN)
    for first in range(0, N * 24, 24):
        parts.give(first, first + 7)
        parts.give(first + 7, min(first + 24, N * 24))
        if first and first % 5 == 0:
            again = SeriesState.of(parts.memory.station[:3].copy(), parts.memory.parameter[:3].copy())
            for number, body in parts.bodies.items():
                assert again.restore(number, body)
            for name in ("earlier", "median", "daily_tests"):
                np.testing.assert_array_equal(getattr(again, name)[:3], getattr(parts.memory, name)[:3])
    assert whole.due.any()
    np.testing.assert_array_equal(parts.due, whole.due)
    np.testing.assert_array_equal(parts.tests & NEIGHBOURS, whole.tests & NEIGHBOURS)
    np.testing.assert_array_equal(parts.memory.earlier[:3], whole.memory.earlier[:3])
    late = Watched("ph", lines, CHAIN)
    late.give(0, (BEGINS + 10) * 24)
    late.give((BEGINS + 10) * 24, N * 24, learn=False)
    assert not late.due[:, (BEGINS + 10) * 24 :].any()
