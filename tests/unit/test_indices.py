"""Black-and-odorous grades and indices, each with an example worked by hand."""

import math

import numpy as np
import pytest

from infra.errors import ConfigurationError
from sensors.standards import black_odorous, gb3838, indices
from sensors.standards.black_odorous import Grade
from sensors.standards.gb3838 import Water, WaterClass
from sensors.standards.indices import Trophic
from tests.says import says

NONE, MILD, SEVERE = Grade


# -- black and odorous -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indicator", "value", "grade"),
    [
        ("transparency", 25.0, NONE),
        ("transparency", 24.9, MILD),
        ("transparency", 10.0, MILD),
        ("transparency", 9.9, SEVERE),
        ("do", 2.0, NONE),
        ("do", 1.99, MILD),
        ("do", 0.2, MILD),
        ("do", 0.19, SEVERE),
        ("orp", 50.1, NONE),
        ("orp", 50.0, MILD),
        ("orp", -200.0, MILD),
        ("orp", -200.1, SEVERE),
        ("nh3n", 8.0, NONE),
        ("nh3n", 8.01, MILD),
        ("nh3n", 15.0, MILD),
        ("nh3n", 15.01, SEVERE),
    ],
)
def test_the_grade_on_both_sides_of_every_limit(indicator, value, grade):
    found = black_odorous.grades({indicator: np.array([value, math.nan])})[indicator]
    assert found.tolist() == [grade, 0]


def test_the_worst_indicator_grades_a_sample():
    columns = {"do": np.array([3.0, 1.0, math.nan]), "nh3n": np.array([20.0, 2.0, math.nan]), "ph": np.ones(3)}
    found = black_odorous.grades(columns)
    assert set(found) == {"do", "nh3n"}
    assert black_odorous.worst(found).tolist() == [SEVERE, MILD, 0]


@pytest.mark.parametrize(
    ("transparency_cm", "depth_m", "grade"),
    [
        (7.0, 0.07, NONE),
        (19.9, 0.2, MILD),
        (8.0, 0.2, MILD),
        (7.9, 0.2, SEVERE),
        (24.0, 0.25, MILD),
        (24.0, math.nan, MILD),
    ],
)
def test_shallow_water_is_judged_against_its_bed(transparency_cm, depth_m, grade):
    found = black_odorous.grades({"transparency": np.array([transparency_cm])}, depth=np.array([depth_m]))
    assert found["transparency"].tolist() == [grade]


def point(**severe_of_ten: int) -> Grade | None:
    """A point with ten samples, so many of them severe and the others not black."""
    return black_odorous.point(
        {key: np.array([SEVERE] * n + [NONE] * (10 - n), np.int8) for key, n in severe_of_ten.items()}
    )


def test_a_point_is_severe_by_one_indicator_often_or_by_two_less_often():
    assert point(do=6, nh3n=0) is SEVERE
    assert point(do=5, nh3n=0) is MILD
    assert point(do=3, nh3n=3) is SEVERE
    assert point(do=5, nh3n=2) is MILD
    assert point(do=0, nh3n=0) is NONE
    assert black_odorous.point({"do": np.zeros(3, np.int8)}) is None


def test_samples_that_were_not_taken_do_not_thin_the_share():
    assert black_odorous.point({"do": np.array([SEVERE, SEVERE, NONE, 0, 0, 0, 0], np.int8)}) is SEVERE


def test_three_severe_points_in_a_row_make_the_water_between_them_severe():
    found = black_odorous.water_body([MILD, SEVERE, SEVERE, SEVERE, NONE, SEVERE, SEVERE, MILD, MILD, NONE, NONE])
    assert (found.grade, found.severe, found.enough) == (MILD, ((1, 3),), True)


def test_sixty_per_cent_severe_points_make_the_whole_water_body_severe():
    found = black_odorous.water_body([SEVERE, MILD, SEVERE, MILD, SEVERE])
    assert (found.grade, found.severe, found.severe_share) == (SEVERE, ((0, 4),), 0.6)


def test_a_point_that_cannot_be_judged_interrupts_a_row():
    found = black_odorous.water_body([SEVERE, SEVERE, None, SEVERE, NONE, NONE, NONE])
    assert (found.grade, found.severe) == (MILD, ())
    assert black_odorous.water_body([None]).grade is None
    assert black_odorous.water_body([NONE, None, NONE]).enough is False


# -- CWQI --------------------------------------------------------------------------------------------------------------


def test_cwqi_of_a_river_worked_by_hand():
    found = indices.cwqi({"ph": 7.5, "do": 4.0, "codmn": 4.5, "nh3n": 1.2, "tp": 0.15, "tn": 5.0}, Water.RIVER)
    # (7.5 - 7) / 2 + 5 / 4 + 4.5 / 6 + 1.2 / 1.0 + 0.15 / 0.2; nitrogen does not count
    assert found.single == pytest.approx({"ph": 0.25, "do": 1.25, "codmn": 0.75, "nh3n": 1.2, "tp": 0.75})
    assert found.total == pytest.approx(4.2)
    assert not found.complete
    assert indices.cwqi(dict.fromkeys(gb3838.NATIONAL, 1.0), Water.RIVER).complete


def test_cwqi_of_a_lake_divides_phosphorus_by_the_limit_of_lakes():
    assert indices.single_cwqi("tp", 0.15, Water.LAKE) == pytest.approx(3.0)


def test_cwqi_of_acid_water_and_of_water_without_oxygen():
    assert indices.single_cwqi("ph", 6.5, Water.RIVER) == pytest.approx(0.5)
    assert indices.single_cwqi("do", 0.0, Water.RIVER) == pytest.approx(50.0)
    with pytest.raises(
        ConfigurationError, match=says("maintenance.no_class_three", parameter="turbidity", water="river")
    ):
        indices.single_cwqi("turbidity", 1.0, Water.RIVER)


def test_cwqi_of_a_city_weighs_sections_and_lakes():
    assert indices.city_cwqi(4.2, 6, 6.0, 2) == pytest.approx(4.65)  # (25.2 + 12) / 8
    assert indices.change_percent(4.2, 6.0) == pytest.approx(-30.0)  # negative: better
    with pytest.raises(ValueError, match="without"):
        indices.city_cwqi(1.0, 0, 1.0, 0)


# -- pollution indices -------------------------------------------------------------------------------------------------


def test_comprehensive_and_nemerow_index_worked_by_hand():
    shares = indices.shares(
        {"ph": 7.0, "codmn": 9.0, "nh3n": 0.5, "tp": 0.2, "do": 5.0, "cu": math.nan}, Water.RIVER, WaterClass.III
    )
    assert shares == pytest.approx({"codmn": 1.5, "nh3n": 0.5, "tp": 1.0, "do": 1.0})
    assert indices.comprehensive(shares) == pytest.approx(1.0)
    assert indices.nemerow(shares) == pytest.approx(math.sqrt((1.0**2 + 1.5**2) / 2))
    with pytest.raises(ValueError, match="no single index"):
        indices.comprehensive({})


# -- TLI ---------------------------------------------------------------------------------------------------------------

LAKE = {"chla": 10.0, "tp": 0.05, "tn": 1.0, "transparency": 100.0, "codmn": 4.0}


def test_tli_of_a_lake_worked_by_hand():
    single = {key: indices.single_tli(key, value) for key, value in LAKE.items()}
    assert single == pytest.approx(
        {
            "chla": 10 * (2.5 + 1.086 * 2.302585),
            "tp": 10 * (9.436 - 1.624 * 2.995732),
            "tn": 54.53,
            "transparency": 51.18,
            "codmn": 10 * (0.109 + 2.661 * 1.386294),
        },
        abs=1e-4,
    )
    found = indices.tli(LAKE)
    weights = {"chla": 0.2663, "tp": 0.1879, "tn": 0.1790, "transparency": 0.1834, "codmn": 0.1834}  # as printed
    assert found.total == pytest.approx(sum(weights[key] * single[key] for key in single), abs=0.01)
    assert (found.complete, found.state, found.state.zh) == (True, Trophic.MESOTROPHIC, "中营养")


def test_more_nutrients_and_algae_and_less_light_raise_the_tli():
    for key, value in LAKE.items():
        richer = LAKE | {key: value * (0.5 if key == "transparency" else 2)}
        assert indices.tli(richer).total > indices.tli(LAKE).total


def test_a_tli_of_some_parameters_says_that_it_is_not_complete():
    found = indices.tli({"chla": 10.0, "tp": math.nan, "tn": 0.0})
    assert (found.total, found.complete) == (found.single["chla"], False)
    with pytest.raises(ValueError, match="above 0"):
        indices.tli({"tn": 0.0})
    with pytest.raises(ValueError, match="logarithm"):
        indices.single_tli("tn", -1.0)
    with pytest.raises(
        ConfigurationError,
        match=says("maintenance.no_trophic", parameter="do", known="chla, tp, tn, transparency, codmn"),
    ):
        indices.single_tli("do", 1.0)


@pytest.mark.parametrize(
    ("total", "state"),
    [
        (29.9, "贫营养"),
        (30.0, "中营养"),
        (50.0, "中营养"),
        (50.1, "轻度富营养"),
        (60.1, "中度富营养"),
        (70.1, "重度富营养"),
    ],
)
def test_trophic_states(total, state):
    assert indices.Tli(total, {}).state.zh == state
