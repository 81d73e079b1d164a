"""GB 3838-2002: limits typed a second time here, not read from the code's own table."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ConfigurationError
from sensors.parameters import catalogue
from sensors.standards import gb3838, oxygen
from sensors.standards.gb3838 import (
    Below,
    Direction,
    Oxygen,
    Water,
    WaterClass,
    classes,
    judge,
)
from tests.says import says

RIVER, LAKE = Water.RIVER, Water.LAKE
I, II, III, IV, V, WORSE = WaterClass  # noqa: E741

# Table 1 as printed: parameter, water bodies, limits of I to V. Typed from the standard, independent of gb3838.toml.
PRINTED = """
codmn   both  2 4 6 10 15
codcr   both  15 15 20 30 40
bod5    both  3 3 4 6 10
nh3n    both  0.15 0.5 1.0 1.5 2.0
tp      river 0.02 0.1 0.2 0.3 0.4
tp      lake  0.01 0.025 0.05 0.1 0.2
tn      lake  0.2 0.5 1.0 1.5 2.0
cu      both  0.01 1.0 1.0 1.0 1.0
zn      both  0.05 1.0 1.0 2.0 2.0
f       both  1.0 1.0 1.0 1.5 1.5
se      both  0.01 0.01 0.01 0.02 0.02
as      both  0.05 0.05 0.05 0.1 0.1
hg      both  0.00005 0.00005 0.0001 0.001 0.001
cd      both  0.001 0.005 0.005 0.005 0.01
cr6     both  0.01 0.05 0.05 0.05 0.1
pb      both  0.01 0.01 0.05 0.05 0.1
cn      both  0.005 0.05 0.2 0.2 0.2
phenol  both  0.002 0.002 0.005 0.01 0.1
oil     both  0.05 0.05 0.05 0.5 1.0
las     both  0.2 0.2 0.2 0.3 0.3
sulfide both  0.05 0.1 0.2 0.5 1.0
fcoli   both  200 2000 10000 20000 40000
"""
OXYGEN = [7.5, 6.0, 5.0, 3.0, 2.0]


def printed() -> list[tuple[str, Water, list[float]]]:
    rows = []
    for line in PRINTED.strip().splitlines():
        key, where, *numbers = line.split()
        for water in (RIVER, LAKE) if where == "both" else (Water(where),):
            rows.append((key, water, [float(number) for number in numbers]))
    return rows + [("do", water, OXYGEN) for water in Water]


BOUNDARIES = [(key, water, lines, i) for key, water, lines in printed() for i in range(5)]


def first_met(lines: list[float], value: float, sign: int) -> int:
    """The best class whose printed limit the value meets; 6 when it meets none."""
    return next((i + 1 for i, line in enumerate(lines) if sign * value <= sign * line), 6)


def one(key: str, value: float, water: Water = RIVER) -> WaterClass | None:
    return judge({key: value}, water).water_class


@pytest.mark.parametrize(("key", "water", "lines", "i"), BOUNDARIES)
def test_every_limit_of_table_1_at_just_better_and_just_worse(key, water, lines, i):
    line, sign = lines[i], -1 if key == "do" else 1
    better, worse = np.nextafter(line, -sign * np.inf), np.nextafter(line, sign * np.inf)
    at = one(key, line, water)
    assert at == first_met(lines, line, sign) <= i + 1  # the limit itself belongs to the better class
    assert one(key, better, water) == first_met(lines, better, sign) == at
    assert one(key, worse, water) == first_met(lines, worse, sign) > i + 1
    for step in (0.001, 0.1):  # and as people write numbers
        assert one(key, line * (1 - sign * step), water) == first_met(lines, line * (1 - sign * step), sign)
        assert one(key, line * (1 + sign * step), water) == first_met(lines, line * (1 + sign * step), sign) > i + 1


def test_the_table_has_these_rows_and_no_others():
    assert {key for key, _, _ in printed()} | {"ph"} == set(gb3838.PARAMETERS)
    for key, water, lines in printed():
        assert gb3838.limits(key, water) == tuple(lines)
        assert key in catalogue()
        assert gb3838.direction(key) is (Direction.AT_LEAST if key == "do" else Direction.AT_MOST)
    assert (gb3838.limits("tn", RIVER), gb3838.limits("turbidity", RIVER)) == (None, None)
    assert (gb3838.limits("ph", RIVER), gb3838.direction("ph")) == ((6.0, 9.0), Direction.WITHIN)
    assert len(gb3838.NATIONAL) == 21
    assert {"tn", "fcoli"} == set(gb3838.PARAMETERS) - set(gb3838.NATIONAL)


@pytest.mark.parametrize(
    ("ph", "found"),
    [(6.0, I), (9.0, I), (7.3, I), (np.nextafter(6, 0), WORSE), (np.nextafter(9, 10), WORSE), (0.0, WORSE)],
)
def test_ph_is_class_one_from_6_to_9_and_worse_than_v_outside(ph, found):
    assert one("ph", ph) is found


def test_nitrogen_judges_lakes_and_never_rivers():
    assert judge({"tn": 6.0, "do": 8.0}, RIVER).water_class is I
    found = judge({"tn": 6.0, "do": 8.0}, LAKE)
    assert (found.water_class, found.deciding) == (WORSE, ("tn",))
    assert judge({"tn": 6.0, "do": 8.0}, LAKE, items=gb3838.NATIONAL).water_class is I


def test_phosphorus_of_a_lake_is_judged_more_strictly():
    assert one("tp", 0.1, RIVER) is II
    assert one("tp", 0.1, LAKE) is IV


def test_the_worst_parameter_decides_and_ties_are_all_named():
    found = judge({"ph": 7.2, "do": 5.5, "codmn": 5.9, "nh3n": 0.2, "tp": 0.05, "turbidity": 900.0}, RIVER)
    assert (found.water_class, found.deciding) == (III, ("do", "codmn"))
    assert found.classes == {"ph": I, "do": III, "codmn": III, "nh3n": II, "tp": II}


@pytest.mark.parametrize("values", [{}, {"turbidity": 3.0}, {"do": math.nan}, {"do": math.inf}, {"nh3n": "--"}])
def test_nothing_to_judge_is_no_class_and_never_a_good_one(values: Mapping[str, float | str]):
    found = judge(values, RIVER)
    assert (found.water_class, found.deciding, found.meets(V)) == (None, (), None)


@pytest.mark.parametrize(
    ("key", "value"), [("nh3n", -999.0), ("do", 999.0), ("ph", -999.0), ("tp", -1.0), ("ph", 15.0)]
)
def test_a_fault_code_earns_no_class(key, value):
    assert one(key, value) is None
    assert judge({key: value, "codmn": 5.0}, RIVER).water_class is III


def test_a_reading_just_below_zero_is_zero_as_instruments_drift():
    assert one("nh3n", -0.05) is I
    assert one("do", -0.1) is WORSE


def test_many_samples_at_once_are_judged_as_one_by_one():
    random = np.random.default_rng(4)
    columns = {key: np.where(random.random(400) < 0.2, np.nan, random.gamma(1.5, 2.0, 400)) for key in gb3838.REAL_TIME}
    for water in Water:
        judged = classes(columns, water)
        assert judged.classes.shape == (5, 400)
        for i in range(400):
            single = judge({key: column[i] for key, column in columns.items()}, water)
            assert judged[i] == single
            assert judged.water_class[i] == (single.water_class or 0)
            assert gb3838.keys(int(judged.deciding[i])) == single.deciding
            assert gb3838.keys(int(judged.judged[i])) == tuple(single.classes)


def test_a_table_without_a_judged_column_has_no_class_in_any_row():
    judged = classes({"turbidity": np.ones(3)}, RIVER)
    assert (judged.water_class.tolist(), judged.exceedance(III).shape) == ([0, 0, 0], (0, 3))


def test_columns_of_different_lengths_and_items_without_a_class_are_refused():
    with pytest.raises(ValueError, match="length"):
        classes({"do": np.ones(2), "ph": np.ones(3)}, RIVER)
    with pytest.raises(ValueError, match="turbidity"):
        classes({"do": np.ones(2)}, RIVER, items=["turbidity"])


# -- oxygen both ways --------------------------------------------------------------------------------------------------


def test_oxygen_is_judged_by_its_concentration_unless_asked_otherwise():
    warm = {"do": 6.9, "water_temp": 30.0}  # 91 % saturation
    assert judge(warm, RIVER).water_class is II
    assert judge(warm, RIVER, oxygen_by=Oxygen.SATURATION).water_class is I
    assert judge({"do": 6.7, "water_temp": 30.0}, RIVER, oxygen_by=Oxygen.SATURATION).water_class is II
    assert judge({"do": 7.5, "water_temp": 5.0}, RIVER, oxygen_by=Oxygen.SATURATION).water_class is I  # 59 %, but 7.5


def test_saturation_needs_a_temperature_and_knows_salt():
    assert judge({"do": 6.9}, RIVER, oxygen_by=Oxygen.SATURATION).water_class is II
    assert judge({"do": 6.9, "water_temp": math.nan}, RIVER, oxygen_by=Oxygen.SATURATION).water_class is II
    brackish = {"do": 6.5, "water_temp": 30.0, "salinity": 10.0}  # 7.15 mg/L at saturation
    assert judge(brackish, RIVER, oxygen_by=Oxygen.SATURATION).water_class is I


def test_saturation_is_that_of_the_published_tables():
    t = np.array([0.0, 10.0, 20.0, 25.0, 30.0, 40.0])
    assert np.round(oxygen.saturation(t), 2).tolist() == [14.62, 11.29, 9.09, 8.26, 7.56, 6.41]
    assert round(float(oxygen.saturation(20.0, 10.0)), 2) == 8.57
    assert np.isnan(oxygen.saturation(np.array([-1.0, 41.0]))).all()


PUBLISHED = """
7.23581 7.89093 1.6425  0.26    0.0011  II
7.82    7.083   3.49    0.49    0.1319  III
8.44919 9.56756 2.14239 0.14    0.00914 II
7.74456 6.84781 6.75    0.13    nan     IV
7.6111  7.49981 3.4226  0.02992 nan     II
7.68229 6.66661 2.83    0.11    nan     II
6.46448 8.85981 3.14018 0.12216 0.1642  III
7.77    4.69996 1.06    0.03589 0.00563 IV
6.88472 5.86969 3.20348 0.16    0.12121 III
7.75793 7.08294 4.11474 0.16    0.07279 III
6.8371  8.19773 4.39    0.21    0.11892 III
8.57    6.97    6.03    0.2027  0.09496 IV
"""
"""pH, DO, CODMn, NH3-N, TP and the class the national platform gave them: the first rows with a class of 2020-06-15
08:00 (古北口, 三岔口, 岗南水库, 河津大桥, 画匠营子, 海勃湾, 辽河公园, 汤河水库, 盘锦兴安, 珠尔山, 白沙滩, 圈河).

Kept in the public repository jikin001/water_quality, 2020-06/2020-06-15.json. The fifth is class II by 7.49981 mg/L.
"""


@pytest.mark.parametrize("row", PUBLISHED.split("\n")[1:-1])
def test_published_values_have_their_published_class(row):
    *values, published = row.split()
    sample = dict(zip(("ph", "do", "codmn", "nh3n", "tp"), map(float, values), strict=True))
    assert judge(sample, RIVER).water_class is WaterClass.of(published)


# -- below the detection limit -----------------------------------------------------------------------------------------


def test_not_detected_is_class_one_when_the_detection_limit_is_not_above_that_of_class_one():
    assert judge({"nh3n": "0.025L"}, RIVER).water_class is I
    assert judge({"nh3n": "0.15L"}, RIVER).water_class is I
    assert judge({"cd": "<0.001"}, RIVER).water_class is I


def test_not_detected_at_a_coarse_limit_tells_no_class_but_may_tell_that_a_target_is_met():
    found = judge({"cu": "0.05L", "codmn": 3.0}, RIVER)
    assert (found.water_class, found.undecided, "cu" in found.classes) == (II, ("cu",), False)
    assert found.meets(II) is True  # copper of class II may reach 1.0
    assert found.meets(III) is True
    coarse = judge({"nh3n": "0.8L", "codmn": 1.0}, RIVER)
    assert (coarse.water_class, coarse.meets(II), coarse.meets(III)) == (I, None, True)
    assert judge({"nh3n": "0.8L"}, RIVER).water_class is None


def test_oxygen_that_is_not_detected_is_not_good():
    assert judge({"do": "0.2L"}, RIVER).water_class is WORSE
    assert judge({"do": "3L"}, RIVER).water_class is None
    assert judge({"ph": "7L"}, RIVER).water_class is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.05L", Below(0.05)), ("0.05l", Below(0.05)), ("＜0.05", Below(0.05)), (" 1.2 ", 1.2), ("1e-3", 0.001)],
)
def test_cells_as_laboratories_write_them(text, value):
    assert gb3838.parse(text) == value


@pytest.mark.parametrize("text", ["abc", "L", "<", "-0.05L", "0L", "infL", "1,2"])
def test_a_cell_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError):
        gb3838.parse(text)


# -- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "decimals", "rounded"),
    [
        (2.675, 2, 2.68),
        (0.545, 2, 0.54),  # times 100 is a trace above the tie that was written
        (1.015, 2, 1.02),  # and this one a trace below
        (2.665, 2, 2.66),
        (1.005, 2, 1.0),
        (0.0205, 3, 0.02),
        (0.0215, 3, 0.022),
        (4.05, 1, 4.0),
        (4.15, 1, 4.2),
        (4.0500001, 1, 4.1),
        (8.5, 0, 8.0),
        (9.5, 0, 10.0),
        (-0.25, 1, -0.2),
    ],
)
def test_halves_go_to_the_even_digit_as_on_paper(value, decimals, rounded):
    assert gb3838.round_half_even(np.array([value, math.nan]), decimals)[0] == rounded


def test_values_are_judged_as_given_unless_rounding_is_asked_for():
    assert judge({"tp": 0.2004}, RIVER).water_class is IV
    assert judge({"tp": 0.2004}, RIVER, rounded=True).water_class is III
    assert judge({"ph": 9.4}, RIVER).water_class is WORSE
    assert judge({"ph": 9.4}, RIVER, rounded=True).water_class is I
    assert judge({"nh3n": 1.005}, RIVER, rounded=True).water_class is III
    assert judge({"do": 4.95}, RIVER, rounded=True).water_class is III  # a tie goes to 5.0
    assert judge({"do": 4.85}, RIVER, rounded=True).water_class is IV


# -- over the target ---------------------------------------------------------------------------------------------------


def test_what_exceeds_the_target_is_named_with_its_multiple():
    found = judge({"do": 1.0, "ph": 9.5, "nh3n": 3.0, "tp": 0.6, "codmn": 6.0}, RIVER)
    assert found.meets(III) is False
    assert found.over(III) == {"ph": None, "do": None, "nh3n": 2.0, "tp": pytest.approx(2.0)}
    assert list(found.over(IV)) == ["ph", "do", "nh3n", "tp"]
    assert judge({"codmn": 6.0}, RIVER).over(III) == {}


def test_multiples_of_many_samples():
    judged = classes({"nh3n": np.array([0.5, 1.0, 2.5, np.nan]), "do": np.array([1.0, 1.0, 1.0, 1.0])}, RIVER)
    by_key = dict(zip(judged.parameters, judged.exceedance(III), strict=True))
    np.testing.assert_array_equal(by_key["nh3n"], [0.0, 0.0, 1.5, np.nan])
    assert np.isnan(by_key["do"]).all()
    assert np.isnan(gb3838.exceedance("nh3n", np.array([9.0]), WORSE, RIVER)).all()


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_class_is_read_however_it_is_written():
    for text, found in {
        "3": III,
        "III": III,
        "iii": III,
        "Ⅲ类": III,
        ">V": WORSE,
        "劣Ⅴ": WORSE,
        "劣V类": WORSE,
    }.items():
        assert WaterClass.of(text) is found
    with pytest.raises(ConfigurationError, match=says("registry.no_class", text="VI")):
        WaterClass.of("VI")


def test_classes_have_the_names_and_colours_of_reports():
    assert [c.roman for c in WaterClass] == ["I", "II", "III", "IV", "V", ">V"]
    assert [c.sign for c in WaterClass] == ["Ⅰ", "Ⅱ", "Ⅲ", "Ⅳ", "Ⅴ", "劣Ⅴ"]
    assert [c.zh for c in WaterClass] == ["优", "优", "良好", "轻度污染", "中度污染", "重度污染"]
    assert [c.colour for c in WaterClass] == ["#68cffe", "#49a1fe", "#37b70c", "#fae521", "#f29c00", "#dd3f36"]
    assert (Water.of("creek"), Water.of("lake")) == (RIVER, LAKE)


# -- properties --------------------------------------------------------------------------------------------------------

amounts = st.floats(0, 50, allow_nan=False)
samples = st.dictionaries(st.sampled_from([k for k in gb3838.PARAMETERS if k != "ph"]), amounts, min_size=1)
waters = st.sampled_from(list(Water))


@given(samples, waters, st.data())
def test_making_a_value_worse_never_improves_the_class(sample, water, data):
    key = data.draw(st.sampled_from(sorted(sample)))
    worse = data.draw(st.floats(0, sample[key]) if key == "do" else st.floats(sample[key], 1e6))
    rounded = data.draw(st.booleans())
    before = judge(sample, water, rounded=rounded).water_class
    after = judge(sample | {key: worse}, water, rounded=rounded).water_class
    assert (after or 0) >= (before or 0)


@given(samples, waters, st.data())
def test_losing_a_value_never_makes_another_one_worse_and_the_rest_decides(sample, water, data):
    key = data.draw(st.sampled_from(sorted(sample)))
    before, after = judge(sample, water), judge(sample | {key: math.nan}, water)
    assert after.classes == {k: c for k, c in before.classes.items() if k != key}
    assert after == judge({k: v for k, v in sample.items() if k != key}, water)


@given(samples, waters, st.randoms(use_true_random=False))
def test_the_order_of_columns_and_rows_changes_nothing(sample, water, random):
    keys = list(sample)
    random.shuffle(keys)
    assert judge({key: sample[key] for key in keys}, water) == judge(sample, water)
    columns = {key: np.array([value, value / 2, value / 3]) for key, value in sample.items()}
    order = [2, 0, 1]
    shuffled = classes({key: column[order] for key, column in columns.items()}, water)
    assert shuffled.water_class.tolist() == classes(columns, water).water_class[order].tolist()


@given(st.decimals(0, 100, places=4), st.integers(0, 3))
def test_rounding_never_moves_further_than_half_a_digit(number, decimals):
    rounded = gb3838.round_half_even(np.array([float(number)]), decimals)[0]
    assert abs(rounded - float(number)) <= 0.5 * 10.0**-decimals + 1e-12
    assert float(f"{rounded:.{decimals}f}") == rounded
