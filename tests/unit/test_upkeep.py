"""Checks after HJ 915 and visits: what passes, and on which readings a failure or a visit casts doubt."""

from dataclasses import replace

import numpy as np
import pytest

from infra.errors import ConfigurationError
from sensors.maintenance import (
    END_OF_TIME_MS,
    Check,
    CheckDue,
    MaintenanceRecords,
    Marks,
    MarkSpan,
    Visit,
    checks_due,
    conflicting_visits,
    mark_spans,
    muted_until,
)
from sensors.parameters import catalogue
from sensors.reading import Flag, QualityTest, pack
from sensors.standards.hj915 import CheckKind, ErrorKind, limit
from sensors.stations import Deployment, Registry, Station
from tests.says import says

CATALOGUE = catalogue()
HOUR = 3_600_000
T0 = 1_778_580_000_000
HERE = Station("s", "站", "station", 113.1, 23.0)
NH3N = Deployment("s", "nh3n", T0, "mg/L")


def check(kind: str, parameter: str, standard: float, reading: float, hours: float = 0.0, **other: object) -> Check:
    return Check("s", parameter, CheckKind(kind), T0 + int(hours * HOUR), standard, reading, **other)


# -- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parameter", "standard", "most", "other"),
    [
        ("zero", "codmn", 0.0, 1.0, {}),
        ("zero", "nh3n", 0.0, 0.2, {}),
        ("zero", "tp", 0.0, 0.02, {}),
        ("zero", "tn", 0.0, 0.3, {}),
        ("span", "nh3n", 2.0, 0.2, {}),  # 10 %
        ("standard", "tp", 0.4, 0.04, {}),
        ("zero_drift", "nh3n", 0.0, 0.2, {"before": 0.0, "span": 4.0}),  # 5 % of the span
        ("span_drift", "codmn", 10.0, 2.0, {"before": 10.0, "span": 20.0}),  # 10 % of the span
        ("five", "ph", 6.86, 0.15, {}),
        ("five", "do", 8.0, 0.3, {}),
        ("five", "water_temp", 25.0, 0.5, {}),
        ("five", "conductivity", 1413.0, 70.65, {}),  # 5 %
        ("five", "turbidity", 40.0, 4.0, {}),  # 10 %
    ],
)
def test_an_error_of_exactly_the_limit_passes_and_the_next_one_does_not(kind, parameter, standard, most, other):
    for sign in (1, -1):
        assert check(kind, parameter, standard, standard + sign * most, **other).judged().passed
        assert check(kind, parameter, standard, standard + sign * most * 0.99, **other).judged().passed
        assert not check(kind, parameter, standard, standard + sign * most * 1.01, **other).judged().passed


def test_a_site_that_knows_better_gives_its_own_limit():
    assert not check("five", "do", 8.0, 8.4).judged().passed
    assert check("five", "do", 8.0, 8.4, limit=0.5).judged().passed
    assert limit(CheckKind.ZERO, "nh3n", table="platform").most == 0.1


def test_a_parameter_without_a_limit_needs_one():
    with pytest.raises(ConfigurationError, match=says("maintenance.no_limit", check="five", parameter="orp")):
        check("five", "orp", 220.0, 230.0).judged()
    assert check("five", "orp", 220.0, 230.0, limit=15.0).judged().limit.kind is ErrorKind.ABSOLUTE


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_limit_that_nothing_could_keep_is_refused(bad):
    with pytest.raises(ConfigurationError, match=says("maintenance.limit_above")):
        check("five", "do", 8.0, 8.4, limit=bad).judged()


def test_drift_without_the_day_before_or_the_span_is_refused():
    for other in ({}, {"before": 0.0}, {"span": 4.0}, {"before": 0.0, "span": 0.0}):
        with pytest.raises(ConfigurationError, match=says("maintenance.drift_needs")):
            check("zero_drift", "nh3n", 0.0, 0.1, **other).judged()


def test_a_relative_error_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match=says("maintenance.standard_zero")):
        check("span", "nh3n", 0.0, 0.1).judged()


def test_what_was_wrong_as_found_may_be_right_as_left():
    judged = check("five", "do", 8.2, 8.6, after=8.2).judged()
    assert (judged.passed, judged.left_right) == (False, True)
    assert (judged.error, judged.error_left) == pytest.approx((0.4, 0.0))


# -- what is doubtful --------------------------------------------------------------------------------------------------


def doubted(*checks: Check, deployments: tuple[Deployment, ...] = (NH3N,)) -> list[tuple[float, float]]:
    """The doubtful spans in hours since T0; inf where there is no end yet."""
    registry = Registry((HERE,), deployments, catalogue=CATALOGUE)
    found = sorted(mark_spans(registry, MaintenanceRecords(checks)))
    assert all(s.test is QualityTest.CALIBRATION for s in found)
    return [
        ((s.start_ms - T0) / HOUR, float("inf") if s.end_ms == END_OF_TIME_MS else (s.end_ms - T0) / HOUR)
        for s in found
    ]


def good(hours: float, **other: object) -> Check:
    return check("span", "nh3n", 2.0, 2.0, hours, **other)


def wrong(hours: float, **other: object) -> Check:
    return check("span", "nh3n", 2.0, 3.0, hours, **other)


INF = float("inf")


def test_checks_that_pass_cast_no_doubt():
    assert doubted(good(1), good(2), good(3)) == []


def test_a_failed_check_casts_doubt_from_the_last_one_that_passed_to_the_next():
    assert doubted(good(1), good(24), wrong(48), good(50), good(72)) == [(24, 48), (48, 50)]
    assert doubted(good(1), wrong(48)) == [(1, 48), (48, INF)]


def test_a_failed_check_that_is_adjusted_at_once_casts_doubt_backwards_only():
    assert doubted(good(1), wrong(48, after=2.0), good(72)) == [(1, 48)]


def test_an_adjustment_that_made_it_worse_casts_doubt_forwards_only():
    assert doubted(good(1), good(48, after=3.0), good(72)) == [(48, 72)]


def test_without_an_earlier_check_doubt_begins_with_the_deployment():
    assert doubted(wrong(48, after=2.0)) == [(0, 48)]


def test_without_deployment_and_earlier_check_nobody_can_say_since_when():
    assert doubted(wrong(48), deployments=()) == [(48, INF)]


def test_a_swap_ends_the_doubt():
    swapped = replace(NH3N, since_ms=T0 + 60 * HOUR, device="other")
    assert doubted(good(1), wrong(48), good(72), deployments=(NH3N, swapped)) == [(1, 48), (48, 60)]
    assert doubted(good(1), wrong(72, after=2.0), deployments=(NH3N, swapped)) == [(60, 72)]


def test_checks_of_another_kind_or_parameter_neither_clear_nor_condemn():
    zero = check("zero", "nh3n", 0.0, 0.0, 50)
    assert doubted(good(1), wrong(48), zero) == [(1, 48), (48, INF)]


def test_a_void_check_never_was():
    assert doubted(good(1), wrong(48, void=True), good(72)) == []
    assert doubted(good(1), good(24, void=True), wrong(48, after=2.0)) == [(1, 48)]


# -- marks on readings -------------------------------------------------------------------------------------------------


def packed(flag: Flag, tests: QualityTest | int = 0) -> int:
    return int(pack(np.array([flag], np.uint8), np.array([int(tests)], np.uint32))[0])


def laid(found: set[MarkSpan], at_hours: list[float], was: list[int], parameter: str = "nh3n") -> list[int]:
    marks = Marks(found, {"s": 0}, CATALOGUE)
    n = len(at_hours)
    at = np.array([T0 + int(h * HOUR) for h in at_hours], np.int64)
    code = np.full(n, CATALOGUE.index[parameter])
    return marks.apply_marks(np.zeros(n, np.int32), code, at, np.array(was, np.int64)).tolist()


def test_a_mark_is_on_the_readings_from_its_start_to_before_its_end():
    span = MarkSpan("s", "nh3n", QualityTest.CALIBRATION, T0 + HOUR, T0 + 2 * HOUR)
    plain, marked = packed(Flag.GOOD), packed(Flag.SUSPECT, QualityTest.CALIBRATION)
    assert laid({span}, [0.99, 1, 1.5, 2], [plain] * 4) == [plain, marked, marked, plain]
    assert laid({span}, [1], [plain], "ph") == [plain]
    assert laid({replace(span, parameter="")}, [1], [plain], "ph") == [marked]
    assert laid({replace(span, station="gone")}, [1], [plain]) == [plain]


def test_marks_come_and_go_and_what_the_quality_tests_said_stays():
    span = MarkSpan("s", "nh3n", QualityTest.MAINTENANCE, T0, T0 + HOUR)
    for flag, tests in (
        (Flag.GOOD, 0),
        (Flag.SUSPECT, QualityTest.SPIKE),
        (Flag.BAD, QualityTest.SENTINEL),
        (Flag.SUSPECT, QualityTest.PLAUSIBLE_RANGE | QualityTest.OVER_RANGE),
    ):
        was = packed(flag, tests)
        (marked,) = laid({span}, [0.5], [was])
        assert marked & 15 == max(flag, Flag.SUSPECT)
        assert marked >> 4 == int(tests) | int(QualityTest.MAINTENANCE)
        assert laid({span}, [0.5], [marked]) == [marked], "laid twice is laid once"
        assert laid(set(), [0.5], [marked]) == [was]


# -- visits ------------------------------------------------------------------------------------------------------------


def test_a_visit_marks_the_sensors_worked_on_or_the_whole_station():
    registry = Registry((HERE,), catalogue=CATALOGUE)
    visits = (Visit("s", T0, T0 + HOUR, ("ph", "do")), Visit("s", T0 + 2 * HOUR))
    assert mark_spans(registry, MaintenanceRecords(visits=visits)) == {
        MarkSpan("s", "ph", QualityTest.MAINTENANCE, T0, T0 + HOUR),
        MarkSpan("s", "do", QualityTest.MAINTENANCE, T0, T0 + HOUR),
        MarkSpan("s", "", QualityTest.MAINTENANCE, T0 + 2 * HOUR, END_OF_TIME_MS),
    }


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (Visit("s", T0 + HOUR, T0 + 3 * HOUR), "during the visit of 示例张工"),
        (Visit("s", T0 + 3 * HOUR, T0 + 3 * HOUR), "ends before it begins"),
    ],
)
def test_two_visits_of_a_station_at_once_are_refused(second, why):
    first = Visit("s", T0, T0 + 2 * HOUR, by="示例张工")
    assert [(v, why in text.en) for v, text in conflicting_visits([first, second])] == [(second, True)]
    assert conflicting_visits([first, replace(second, station="t", until_ms=None)]) == []
    assert conflicting_visits([first, Visit("s", T0 + 2 * HOUR)]) == []


def test_silence_is_excused_while_somebody_works_and_until_the_work_ended():
    stations = {"a": 0, "b": 1, "c": 2}
    visits = [Visit("a", T0), Visit("b", T0, T0 + HOUR), Visit("c", T0 + 9 * HOUR), Visit("gone", T0)]
    assert muted_until(visits, stations, T0 + 2 * HOUR).tolist() == [T0 + 2 * HOUR, T0 + HOUR, -1]


# -- what is due -------------------------------------------------------------------------------------------------------

DAY = 24 * HOUR


def due(parameter: str, *checks: Check, hung: tuple[Deployment, ...] = (), days: float = 0.0) -> tuple[CheckDue, bool]:
    (found,) = checks_due([parameter], checks, hung, T0 + round(days * DAY))
    return found, found.overdue(T0 + round(days * DAY))


def test_a_sensor_is_due_a_week_after_its_last_check_and_an_electrode_for_ammonium_after_two():
    for parameter, standard, days in (("do", 8.0, 7), ("nh3n", 2.0, 14)):
        kind = "five" if parameter == "do" else "standard"
        done = check(kind, parameter, standard, standard)
        assert due(parameter, done, days=days - 0.1) == (CheckDue(parameter, T0, False, T0 + days * DAY), False)
        assert due(parameter, done, days=days)[1]


def test_a_check_that_left_the_sensor_wrong_makes_it_due_at_once_until_one_of_its_type_passes():
    wrong = check("standard", "nh3n", 2.0, 2.5, hours=1)
    assert due("nh3n", wrong, days=1) == (CheckDue("nh3n", wrong.at_ms, True, wrong.at_ms), True)
    assert not due("nh3n", replace(wrong, after=2.0), days=1)[1]
    assert due("nh3n", wrong, check("zero", "nh3n", 0.0, 0.0, hours=2), days=1)[1]
    assert not due("nh3n", wrong, check("standard", "nh3n", 2.0, 2.0, hours=2), days=1)[1]
    assert not due("nh3n", replace(wrong, void=True), check("zero", "nh3n", 0.0, 0.0, hours=2), days=1)[1]


def test_another_sensor_starts_anew_and_one_that_nobody_ever_checked_is_due():
    old = check("standard", "nh3n", 2.0, 2.5, hours=-24)
    assert due("nh3n", old, hung=(NH3N,), days=1) == (CheckDue("nh3n", None, False, T0 + 14 * DAY), False)
    assert due("nh3n", days=1) == (CheckDue("nh3n", None, False, 0), True)
    assert due("rain", days=1) == (CheckDue("rain", None, False, None), False)
