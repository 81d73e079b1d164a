"""The live class of stations and reaches: current readings, no flicker, reasons; all in event time."""

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.texts import Text
from sensors import live_class
from sensors.live_class import ClassReason, ClassState, JudgedStation, LatestReading, LiveClass, MissingReason, Policy
from sensors.reading import Flag
from sensors.standards.gb3838 import Water, WaterClass
from sensors.stations import Station
from sensors.stations import Water as Kind

I, II, III, IV, V, WORSE = WaterClass  # noqa: E741
MINUTE = 60_000
START = 1_778_581_800_000
FIVE = ("ph", "do", "codmn", "nh3n", "tp")
GOOD = {"ph": 7.2, "do": 6.5, "codmn": 3.0, "nh3n": 0.3, "tp": 0.08}  # class II


def watched(expected: tuple[str, ...] = FIVE, target: WaterClass | None = III, **more: int) -> JudgedStation:
    return JudgedStation("s1", Water.RIVER, 300, expected, target, more)


def station_class(
    carried: ClassState, station: JudgedStation, latest: Mapping[str, LatestReading], at_ms: int, *policy: Policy
) -> tuple[ClassState, LiveClass]:
    """The class of one station, and what to carry to the next call."""
    states, (found,) = live_class.station_classes(
        {station.key: carried}, [station], {station.key: latest}, at_ms, *policy
    )
    return states[station.key], found


class River:
    """One station through time: the newest readings, and what is carried."""

    def __init__(self, station: JudgedStation | None = None) -> None:
        self.station = station or watched()
        self.latest: dict[str, LatestReading] = {}
        self.carried = ClassState()

    def at(self, minute: float, **values: float) -> LiveClass:
        """New readings at this minute, then the class."""
        at_ms = START + round(minute * MINUTE)
        self.latest |= {key: LatestReading(at_ms, value) for key, value in values.items()}
        self.carried, found = station_class(self.carried, self.station, self.latest, at_ms)
        return found


def test_the_first_class_is_shown_at_once_with_its_evidence():
    found = River().at(0, **GOOD)
    assert (found.water_class, found.now, found.why, found.met) == (II, II, ClassReason.HOLDS, True)
    assert found.deciding == ("do", "codmn", "nh3n", "tp")
    assert (found.evidence.judged, found.evidence.lacking) == (FIVE, {})
    assert "5/5" in found.text.zh
    assert "达到目标Ⅲ类" in found.text.zh
    assert "class II, decided by dissolved oxygen" in found.text.en


def test_one_bad_reading_does_not_change_the_class_and_three_in_a_row_do():
    river = River()
    river.at(0, **GOOD)
    assert river.at(5, do=2.5).why is ClassReason.WAITING_WORSE
    assert river.at(10, do=6.5).why is ClassReason.HOLDS
    shown = [river.at(minute, do=2.5) for minute in (15, 20, 25)]
    assert [one.water_class for one in shown] == [II, II, V]
    assert (shown[-1].why, shown[-1].deciding, shown[-1].met) == (ClassReason.BECAME_WORSE, ("do",), False)
    assert "未达到目标Ⅲ类" in shown[-1].text.zh


def test_the_same_reading_looked_at_again_is_no_further_reading():
    river = River()
    river.at(0, **GOOD)
    river.at(5, do=2.5)
    for minute in (6, 7, 8, 9):
        assert river.at(minute, ph=7.2).water_class is II


def test_a_single_result_of_an_analyser_shows_after_half_an_hour():
    river = River()
    river.at(0, **GOOD)
    river.at(5, nh3n=1.8)
    assert river.at(30, ph=7.2, do=6.5).water_class is II
    found = river.at(35, ph=7.2, do=6.5)
    assert (found.water_class, found.deciding) == (V, ("nh3n",))


def test_a_run_of_different_bad_classes_shows_what_all_of_them_agree_on():
    river = River()
    river.at(0, **GOOD)
    shown = [river.at(5 * i, do=value).water_class for i, value in enumerate((1.0, 4.0, 1.0), 1)]
    assert shown == [II, II, IV]


def test_a_better_class_is_shown_only_after_two_hours_of_better_readings():
    river = River()
    river.at(0, **GOOD | {"do": 2.5})
    for minute in range(5, 125, 5):
        found = river.at(minute, ph=7.2, do=6.5)
        assert (found.water_class, found.why) == (V, ClassReason.WAITING_BETTER)
    found = river.at(125, ph=7.2, do=6.5)
    assert (found.water_class, found.why) == (II, ClassReason.BECAME_BETTER)


@pytest.mark.parametrize("bad", [2.5, 1.0])
def test_one_bad_reading_starts_the_two_hours_again(bad):
    river = River()
    river.at(0, **GOOD | {"do": 2.5})
    for minute in range(5, 100, 5):
        river.at(minute, ph=7.2, do=6.5)
    river.at(100, ph=7.2, do=bad)
    for minute in range(105, 225, 5):
        assert river.at(minute, ph=7.2, do=6.5).water_class is V


def test_an_analyser_must_confirm_the_better_class_with_a_second_result():
    river = River()
    river.at(0, **GOOD | {"nh3n": 1.8})
    river.at(240, **GOOD)
    assert river.at(440, ph=7.2, do=6.5).water_class is V
    assert river.at(480, **GOOD).water_class is II


def test_readings_that_swing_around_a_limit_do_not_make_the_map_flicker():
    river = River()
    shown = [river.at(5 * i, **GOOD | {"do": 4.9 if i % 2 else 5.1}).water_class for i in range(300)]
    assert len(list(itertools.groupby(shown))) == 1


def test_a_silent_sensor_does_not_make_its_water_better():
    river = River()
    river.at(0, **GOOD | {"nh3n": 5.0})
    for hour in range(1, 33):
        found = river.at(60 * hour, ph=7.2, do=6.5, codmn=3.0, tp=0.08)
        assert found.water_class is WORSE
    assert (found.why, found.evidence.lacking) == (ClassReason.KEPT, {"nh3n": MissingReason.OLD})
    assert "氨氮" in found.text.zh
    found = river.at(60 * 35, ph=7.2, do=6.5, codmn=3.0, tp=0.08)  # missed from 10 h on, then a day
    assert (found.water_class, found.why) == (II, ClassReason.FORGOTTEN)
    assert "4/5" in found.text.zh


def test_a_station_without_current_readings_has_no_class_and_is_neither_met_nor_missed():
    river = River()
    river.at(0, **GOOD)
    found = river.at(60 * 10)
    assert (found.water_class, found.met, found.why) == (None, None, ClassReason.NOTHING)
    assert set(found.evidence.lacking.values()) == {MissingReason.OLD}
    assert river.at(60 * 10 + 5, **GOOD | {"do": 2.5}).water_class is V  # nothing shown: at once


def test_ph_alone_tells_a_class_only_when_it_is_bad():
    assert River().at(0, ph=7.2).why is ClassReason.ONLY_PH
    assert River().at(0, ph=5.0).water_class is WORSE


@pytest.mark.parametrize(("flag", "used"), [(Flag.GOOD, True), (Flag.UNKNOWN, True), (Flag.SUSPECT, False)])
def test_only_readings_without_a_complaint_are_used(flag, used):
    latest = {"do": LatestReading(START, 2.5, flag), "tp": LatestReading(START, 0.05)}
    _, found = station_class(ClassState(), watched(), latest, START)
    assert found.water_class is (V if used else II)
    assert found.evidence.lacking.get("do") is (None if used else MissingReason.FLAGGED)
    assert found.evidence.lacking["nh3n"] is MissingReason.NEVER


def test_values_stay_current_by_the_interval_of_the_station_and_the_cycle_of_the_analyser():
    def used(minute: float, **cycles: int) -> tuple[str, ...]:
        latest = {"do": LatestReading(START, 6.5), "nh3n": LatestReading(START, 0.3)}
        at_ms = START + round(minute * MINUTE)
        return station_class(ClassState(), watched(**cycles), latest, at_ms)[1].evidence.judged

    assert used(15) == ("do", "nh3n")
    assert used(15.1) == ("nh3n",)
    assert used(540) == ("nh3n",)
    assert used(541) == ()
    assert used(15.1, nh3n=300) == ()  # an electrode in the water, not an analyser


def test_readings_from_the_future_of_the_judged_instant_are_not_known_yet():
    latest = {"do": LatestReading(START + MINUTE, 2.0), "tp": LatestReading(START, 0.05)}
    _, found = station_class(ClassState(), watched(), latest, START)
    assert (found.water_class, found.evidence.lacking["do"]) == (II, MissingReason.NEVER)


def test_time_does_not_go_back():
    river = River()
    river.at(60, **GOOD)
    carried = river.carried
    found = river.at(30)
    assert (found.at_ms, river.carried) == (START + 60 * MINUTE, carried)


def test_a_registered_station_is_watched_by_its_own_parameters_and_interval():
    station = Station(
        "c1", "示例涌", "example", 113.1, 23.0, water=Kind.CREEK, interval_s=600, parameters=("do", "level")
    )
    found = JudgedStation.of(station, IV)
    assert (found.water, found.target, found.interval_s) == (Water.RIVER, IV, 600)
    _, shown = station_class(
        ClassState(), found, {"do": LatestReading(START, 4.0), "tp": LatestReading(START, 9.0)}, START
    )
    assert (shown.water_class, shown.evidence.expected, shown.met) == (IV, ("do",), True)


def test_total_nitrogen_does_not_colour_a_lake_red_as_in_publications():
    lake = JudgedStation("l1", Water.LAKE, 300, ("do", "tn", "tp"))
    latest = {"do": LatestReading(START, 6.5), "tn": LatestReading(START, 4.0), "tp": LatestReading(START, 0.04)}
    _, found = station_class(ClassState(), lake, latest, START)
    assert (found.water_class, found.deciding, found.met) == (III, ("tp",), None)


def test_a_reach_is_as_good_as_its_worst_station_and_names_it():
    good, bad, silent = River().at(0, **GOOD), River().at(0, **GOOD | {"do": 2.5}), River().at(0)
    found = live_class.reach_class([good, bad, silent], III, {"s1": Text("石湾桥", "Shiwan bridge")})
    assert (found.water_class, found.worst, found.deciding, found.met) == (V, ("s1",), ("do",), False)
    assert len(found.stations) == 3
    assert "参评站点2/3，按最差站点石湾桥评价为" in found.text.zh
    assert "the worst counts: Shiwan bridge with" in found.text.en
    assert "not met" in found.text.en
    assert "最差站点s1评价" in live_class.reach_class([bad], III).text.zh


def test_many_stations_at_once_are_judged_as_one_by_one():
    watched_ = [JudgedStation(f"s{i}", water, 300, FIVE, III) for i, water in enumerate([Water.RIVER, Water.LAKE] * 2)]
    latest = {"s0": GOOD, "s1": GOOD, "s2": {"do": 2.5}}  # s3 never sent anything
    newest = {key: {k: LatestReading(START, v) for k, v in values.items()} for key, values in latest.items()}
    carried = {"s2": ClassState(II, ("do",), at_ms=START - MINUTE)}
    after, found = live_class.station_classes(carried, watched_, newest, START)
    assert [one.water_class for one in found] == [II, IV, II, None]
    for one, shown in zip(watched_, found, strict=True):
        alone = station_class(carried.get(one.key, ClassState()), one, newest.get(one.key, {}), START)
        assert (after[one.key], shown) == alone


def test_a_reach_without_a_judged_station_has_no_class():
    found = live_class.reach_class([River().at(0)], III)
    assert (found.water_class, found.met) == (None, None)


steps = st.lists(
    st.tuples(st.sampled_from([5, 5, 5, 60, 600]), st.sampled_from([6.5, 5.5, 4.0, 2.5, 1.0])), max_size=60
)


@given(steps)
def test_what_is_shown_was_said_by_a_reading_and_never_changes_without_a_reason(steps):
    river, minute = River(watched(("do",))), 0
    said, before = set(), None
    for pause, value in steps:
        minute += pause
        found = river.at(minute, do=value)
        said.add(found.now)
        assert found.water_class in said
        if before is not None and found.water_class != before:
            assert found.why in {ClassReason.BECAME_WORSE, ClassReason.BECAME_BETTER}
        before = found.water_class
