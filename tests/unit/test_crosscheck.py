"""Parameters of one station and one instant that contradict each other."""

import numpy as np
import pytest

from sensors.parameters import catalogue
from sensors.quality.detectors.cross_parameter import cross_check, find_contradictions, salinity, with_cross_check
from sensors.reading import Flag, QualityTest, pack

CATALOGUE = catalogue()
AT = 1_778_581_800_000
CROSS = int(QualityTest.CROSS_CHECK)


def contradicted(**values: float) -> set[str]:
    """The parameters that contradict another in one sample."""
    told = find_contradictions({key: np.array([value]) for key, value in values.items()})
    return {key for key, wrong in told.items() if wrong[0]}


@pytest.mark.parametrize(
    ("nh3n", "tn", "wrong"),
    [(5.0, 2.0, True), (2.31, 2.0, True), (2.29, 2.0, False), (0.09, 0.0, False), (1.0, 8.0, False)],
)
def test_ammonia_above_total_nitrogen_and_the_errors_of_both_analysers_is_suspect(
    nh3n: float, tn: float, wrong: bool
) -> None:
    assert contradicted(nh3n=nh3n, tn=tn) == ({"nh3n", "tn"} if wrong else set())


def test_what_permanganate_and_bacteria_oxidise_is_a_part_of_what_dichromate_does() -> None:
    assert contradicted(codmn=30.0, codcr=10.0) == {"codmn", "codcr"}
    assert contradicted(bod5=30.0, codcr=10.0) == {"bod5", "codcr"}
    assert contradicted(codmn=6.0, codcr=3.0) == set()  # near the detection limit of dichromate
    assert contradicted(codmn=12.0, bod5=9.0, codcr=40.0) == set()


def test_oxygen_above_twice_its_saturation_is_suspect_and_a_bloom_is_not() -> None:
    assert contradicted(do=16.0, water_temp=30.0) == {"do"}  # saturation 7.56 mg/L
    assert contradicted(do=14.5, water_temp=30.0) == set()
    assert contradicted(do=22.0, water_temp=4.0) == set()  # the same figure in winter is 168 %
    assert contradicted(do=22.0, water_temp=-3.0) == set()  # no saturation is known there
    assert contradicted(do=16.0) == set()


def test_salt_water_holds_less_oxygen_whether_salinity_or_conductivity_tells_it() -> None:
    assert contradicted(do=14.5, water_temp=30.0, salinity=30.0) == {"do"}
    assert contradicted(do=14.5, water_temp=30.0, conductivity=46_000.0) == {"do"}
    assert contradicted(do=14.5, water_temp=30.0, salinity=0.2, conductivity=400.0) == set()


def test_salinity_is_that_of_the_practical_scale() -> None:
    assert salinity(np.array([53_065.0])) == pytest.approx(35.0, abs=0.01)
    assert salinity(np.array([0.0, 400.0])) == pytest.approx([0.0, 0.2], abs=0.05)


def rows(*readings: tuple[int, str, int, float, Flag]) -> tuple[np.ndarray, ...]:
    station, keys, at, value, flag = zip(*readings, strict=True)
    parameter = np.array([CATALOGUE.index[key] for key in keys])
    packed = pack(np.array(flag, np.uint8), np.zeros(len(flag), np.uint32))
    return np.array(station), parameter, np.array(at), np.array(value, float), packed


def test_only_readings_of_one_station_and_one_instant_are_compared_in_any_order() -> None:
    columns = rows(
        (0, "tn", AT, 2.0, Flag.GOOD),
        (1, "nh3n", AT, 5.0, Flag.GOOD),
        (0, "nh3n", AT + 1, 5.0, Flag.GOOD),
        (2, "nh3n", AT, 5.0, Flag.GOOD),
        (1, "ph", AT, 7.0, Flag.GOOD),
        (2, "tn", AT, 2.0, Flag.GOOD),
    )
    told = cross_check(*columns, CATALOGUE)
    assert ((told >> 4 & CROSS) != 0).tolist() == [False, False, False, True, False, True]
    assert (told & 15).tolist() == [1, 1, 1, 3, 1, 3]


def test_a_bad_reading_contradicts_nobody_and_a_reviewed_one_stays_as_it_was_reviewed() -> None:
    bad = rows((0, "nh3n", AT, 50.0, Flag.BAD), (0, "tn", AT, 2.0, Flag.GOOD))
    assert cross_check(*bad, CATALOGUE).tolist() == bad[-1].tolist()
    *columns, packed = rows((0, "nh3n", AT, 5.0, Flag.GOOD), (0, "tn", AT, 2.0, Flag.GOOD))
    packed[0] |= int(QualityTest.REVIEWED_GOOD) << 4
    told = cross_check(*columns, packed, CATALOGUE)
    assert (told & 15).tolist() == [Flag.GOOD, Flag.SUSPECT]


def test_a_contradiction_that_is_gone_is_taken_back_and_other_doubts_stay() -> None:
    spike = int(QualityTest.SPIKE)
    packed = np.array([3 | CROSS << 4, 3 | (CROSS | spike) << 4, 1])
    assert with_cross_check(packed, np.zeros(3, np.bool_)).tolist() == [1, 3 | spike << 4, 1]
    assert with_cross_check(packed, np.array([True, True, False])).tolist() == packed.tolist()
