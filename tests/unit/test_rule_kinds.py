"""Kinds of rules, scopes, schedules, and the sentences and contradictions of a file of them."""

import json
import tomllib
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import toml_text
from infra.errors import ConfigurationError
from infra.times import to_ms
from ingest.rules import explain
from ingest.rules.daily_pattern import DailyPatternEvaluator
from ingest.rules.model import Bound, Rules
from ingest.rules.places import Places
from ingest.rules.rate import RateEvaluator
from ingest.rules.rule_file import read
from ingest.rules.schedule import Mutes, schedule
from ingest.rules.trend import TrendEvaluator, mann_kendall, theil_sen
from sensors.maintenance import Mute
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.quality.events import MAX_CONFIDENCE, ROLES, EventCause, diagnose
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.says import says

CATALOGUE = catalogue()
HOUR = 3_600_000
DAY = 24 * HOUR
LINE = ((113.0, 23.0), (113.1, 23.0))
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.05, 23.0, reach="main", region="grid-1", parameters=("nh3n", "do"))
LAKE = Station("lake", "湖", "Lake", 113.2, 23.0, reach="lake", water=Water.LAKE, region="street-2")
REGISTRY = Registry(
    (SHIWAN, LAKE),
    reaches=(
        Reach("main", "东平河", "Main", Water.RIVER, LINE, target=WaterClass.III),
        Reach("lake", "湖", "Lake", Water.LAKE, LINE),
    ),
    catalogue=CATALOGUE,
    regions=(
        Region("district", "区", "district", Level.DISTRICT),
        Region("street-1", "街一", "street 1", Level.STREET, "district"),
        Region("street-2", "街二", "street 2", Level.STREET, "district"),
        Region("grid-1", "格一", "grid 1", Level.GRID, "street-1"),
    ),
)
PLACES = Places(REGISTRY)


def rule(kind: str, **entries: object) -> str:
    values = {"id": "r", "colour": "orange"} | entries
    return "\n".join([f"[[{kind}]]", *toml_text.assignments(values)]) + "\n"


def high(id_: str = "r", **entries: object) -> str:
    return rule("threshold", **{"id": id_, "parameter": "nh3n", "side": "above", "limit": 2.0, "clear": 1.8} | entries)


def rules(text: str) -> Rules:
    return read(text, CATALOGUE)


def speaking(text: str, station: Station = SHIWAN) -> list[str]:
    return [one.id for one in rules(text).applicable(station, PLACES)]


def told(text: str, registry: Registry | None = REGISTRY) -> list[tuple[bool, str]]:
    return [(f.serious, f.text.en) for f in explain.find_rule_faults(rules(text), CATALOGUE, registry)]


# -- classes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worst", list(WaterClass)[:5])
@pytest.mark.parametrize("water", [Water.RIVER, Water.LAKE])
@given(st.data())
@settings(max_examples=15)
def test_water_is_worse_than_a_class_exactly_when_one_parameter_is_beyond_its_bound(worst, water, data) -> None:
    """The bundle of limits says what the standard's own judgement of the sample says."""
    one = rules(rule("class", worse_than=worst.name)).classes[0]
    station = replace(SHIWAN, water=water)
    sample = {key: data.draw(st.floats(lo, hi)) for key, lo, hi in SAMPLE}
    judged = gb3838.classes(
        {k: np.array([v]) for k, v in sample.items()}, gb3838.Water.of(water), items=gb3838.NATIONAL
    )
    bounds = {key: one.bound(key, station, None) for key in sample}
    beyond = [key for key, bound in bounds.items() if bound and is_beyond(bound, sample[key])]
    assert bool(beyond) == (judged[0].water_class > worst)


def is_beyond(bound: Bound, x: float) -> bool:
    distance = x if np.isnan(bound.centre) else abs(x - bound.centre)
    return bound.sign * (distance - bound.limit) > 0


SAMPLE = [("ph", 4.0, 11.0), ("do", 0.0, 12.0), ("nh3n", 0.0, 4.0), ("tp", 0.0, 0.6), ("codmn", 0.0, 20.0)]


def test_a_target_is_that_of_the_reach_and_where_none_is_set_none_is_missed() -> None:
    one = rules(rule("target")).targets[0]
    bound = one.bound("nh3n", SHIWAN, PLACES.target(SHIWAN))
    assert bound is not None
    assert bound.limit == 1.0, "GB 3838-2002 table 1, class III"
    assert one.bound("nh3n", LAKE, PLACES.target(LAKE)) is None


def test_black_odorous_water_has_the_limits_of_the_guide() -> None:
    mild, severe = (rules(rule("black_odorous", grade=g)).black_odorous[0] for g in ("mild", "severe"))
    limits = {key: (mild.bound(key, SHIWAN, None), severe.bound(key, SHIWAN, None)) for key in ("do", "nh3n", "orp")}
    assert [(m.limit, s.limit) for m, s in (limits["do"], limits["nh3n"])] == [(2.0, 0.2), (8.0, 15.0)]
    assert limits["orp"][0].limit == pytest.approx(50)
    assert limits["orp"][0].limit > 50, "50 mV itself is mild"
    assert mild.bound("tp", SHIWAN, None) is None
    assert all(b.sign * (b.clear - b.limit) < 0 for pair in limits.values() for b in pair), "calm lies on the good side"


def test_the_grade_keeps_the_version_by_which_incidents_name_a_rule() -> None:
    rows = (f'[[black_odorous]]\nid="{grade}"\ngrade="{grade}"\ncolour="red"\n' for grade in ("mild", "severe"))
    assert [one.version for one in read("".join(rows), CATALOGUE)] == ["6bf89c3d", "74914d04"]


# -- scopes ------------------------------------------------------------------------------------------------------------


def test_a_region_covers_the_stations_of_all_regions_in_it() -> None:
    assert speaking(high(regions=["district"])) == ["r"]
    assert speaking(high(regions=["street-1"])) == ["r"]
    assert speaking(high(regions=["street-1"]), LAKE) == []


def test_of_rules_on_one_subject_the_more_exact_one_speaks() -> None:
    general = high("everywhere")
    steps = [
        high("water", waters=["river"]),
        high("district", regions=["district"]),
        high("street", regions=["street-1"]),
        high("reach", reaches=["main"]),
        high("pattern", stations=["shi*"]),
        high("station", stations=["shiwan"]),
    ]
    for n in range(1, len(steps) + 1):
        best = rules(steps[n - 1])
        assert speaking(general + "".join(steps[:n])) == [next(iter(best)).id]
    assert speaking(general + "".join(steps), LAKE) == ["district"]


def test_another_colour_or_side_is_another_subject() -> None:
    assert speaking(high("a") + high("b", limit=4.0, colour="red", stations=["shiwan"])) == ["a", "b"]
    assert speaking(high("a") + high("c", side="below", limit=0.1, clear=0.2, stations=["shiwan"])) == ["a", "c"]


def test_a_rule_that_goes_before_another_is_named() -> None:
    found = explain.overrides(rules(high("general") + high("mine", stations=["shiwan"], limit=3.0)), REGISTRY)
    assert found == [("mine", "general", ("shiwan",))]


def test_an_event_that_is_named_goes_before_one_for_all() -> None:
    both = rules(
        rule("event", id="any", colour="blue") + rule("event", id="acid", colour="red", kinds=["acid"], confidence=0.6)
    )
    assert of_event(both, EventCause.ACID) == ["acid"], "where it is not sure enough nothing is told"
    assert of_event(both, EventCause.BLOOM) == ["any"]


def of_event(all_: Rules, cause: EventCause, station: Station = SHIWAN) -> list[str]:
    return [one.id for one in all_.event_rules(cause, station, PLACES)]


def test_an_event_is_as_urgent_as_the_most_exact_scope_says_step_by_step() -> None:
    two = rule("event", id="any", colour="yellow") + rule("event", id="sure", colour="orange", confidence=0.7)
    found = rules(two + rule("event", id="calm", colour="blue", stations=["lake"]))
    assert of_event(found, EventCause.SEWAGE) == ["sure", "any"]
    assert of_event(found, EventCause.SEWAGE, LAKE) == ["calm"], "the station's own rule goes before both general steps"
    assert [one.id for one in found.applicable(LAKE, PLACES)] == ["calm"]


def test_an_event_of_a_kind_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigurationError, match=says("request.one_of", name="kinds", text="sewerage", known=", ".join(EventCause))
    ):
        rules(rule("event", kinds=["sewerage"]))


def test_an_event_rule_that_never_speaks_is_found() -> None:
    any_ = rule("event", id="any", colour="yellow")
    assert told(any_) == []
    assert told(any_ + rule("event", id="sure", colour="orange", confidence=0.7)) == []
    hidden = told(rule("event", id="mild", colour="blue", confidence=0.8) + any_)
    assert hidden == [(True, "any is at least as urgent as mild and asks for no more confidence: mild never fires")]
    assert told(rule("event", id="mild", confidence=0.8) + rule("event", id="night", colour="red", hours="22-6")) == []
    assert told(any_ + rule("event", id="vain", colour="red", confidence=0.99))[0][0] is True
    assert told(rule("event", id="river", waters=["river"])) == [
        (False, "no rule speaks of events at 1 stations such as lake: what is detected there is not told")
    ]


def test_the_detector_is_never_surer_than_a_rule_may_ask_for() -> None:
    wild = np.full(len(ROLES), 40.0)
    assert diagnose(wild, 400.0, 7.0, supported=True).confidence <= MAX_CONFIDENCE


# -- schedules and mutes -----------------------------------------------------------------------------------------------


def at(text: str) -> int:
    return to_ms(datetime.fromisoformat(f"{text}+08:00"))


@pytest.mark.parametrize(
    ("row", "inside", "outside"),
    [
        ({"hours": "22:00-06:00"}, ["2026-05-12T22:00", "2026-05-13T05:59"], ["2026-05-12T21:59", "2026-05-13T06:00"]),
        ({"hours": "8-18"}, ["2026-05-12T08:00"], ["2026-05-12T18:00", "2026-05-12T07:59"]),
        ({"months": [5]}, ["2026-05-31T23:59"], ["2026-06-01T00:00"]),
        # 2026-05-01 is a holiday; 2026-05-09 a Saturday on which people worked; 2026-05-12 a Tuesday
        ({"on_days": "working"}, ["2026-05-12T12:00", "2026-05-09T12:00"], ["2026-05-01T12:00", "2026-05-10T12:00"]),
        ({"on_days": "off"}, ["2026-05-01T12:00", "2026-05-10T12:00"], ["2026-05-12T12:00"]),
        # the night from Friday to Saturday belongs to Friday
        ({"hours": "22-6", "on_days": "working"}, ["2026-05-16T02:00"], ["2026-05-18T02:00"]),
    ],
)
def test_a_schedule_is_kept_in_beijing_time(row, inside, outside) -> None:
    one = schedule(row)
    assert [one.covers(at(t)) for t in inside] == [True] * len(inside)
    assert [one.covers(at(t)) for t in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"hours": "25:00-06:00"}, says("rule.hours_empty", hours="25:00-06:00")),
        ({"hours": "6-6"}, says("rule.hours_empty", hours="6-6")),
        ({"hours": "night"}, says("rule.hours_form", hours="night")),
        ({"hours": 6}, says("rule.hours_form", hours=6)),
        ({"on_days": "sunday"}, says("rule.days_one_of", days="sunday", known="every, working, off")),
        ({"months": [13]}, says("rule.months_list", months=[13])),
        ({"months": [True]}, says("rule.months_list", months=[True])),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_its_value(row, named) -> None:
    with pytest.raises(ConfigurationError, match=named):
        schedule(row)


def test_a_mute_covers_its_station_its_rules_and_its_time_only() -> None:
    mutes = Mutes([Mute("shiwan", 100, 200, ("a",)), Mute("shiwan", 150, 300), Mute("lake", 0, 999)])
    covered = [(r, t) for r in ("a", "b") for t in (99, 100, 149, 150, 250, 300) if mutes.cover(r, "shiwan", t)]
    assert covered == [("a", 100), ("a", 149), ("a", 150), ("a", 250), ("b", 150), ("b", 250)]


# -- trends ------------------------------------------------------------------------------------------------------------

PUBLISHED = json.loads(Path("tests/data/mann_kendall.json").read_text())
"""``tests/data/README.md`` tells where it comes from."""


def test_the_test_of_a_trend_agrees_with_the_published_one() -> None:
    for case in PUBLISHED["original"]:
        assert mann_kendall(np.array([case["values"]]))[0] == pytest.approx(case["p"], abs=1e-9), case


def test_the_seasonal_test_and_slope_agree_with_the_published_ones() -> None:
    seasons = np.array([[0, 1, 2] * 4])
    for case in PUBLISHED["seasonal"]:
        values = np.array([case["values"]])
        assert mann_kendall(values, seasons)[0] == pytest.approx(case["p"], abs=1e-9), case
        slope = theil_sen(values, np.array([1.0]), seasons)[0]
        assert slope == pytest.approx(case["slope"] / 3, abs=1e-9), case


def trend(**entries: object) -> TrendEvaluator:
    text = rule(
        "trend",
        **{"parameter": "do", "side": "below", "per_hour": 0.05, "window_s": 259_200, "bins": 18, "min_bins": 13}
        | entries,
    )
    watches = TrendEvaluator(rules(text).trends[0])
    watches.bind(0, 0)
    return watches


def test_day_and_night_are_no_trend_where_only_the_same_hours_are_compared() -> None:
    """Three days of oxygen that end at noon: cut anywhere, the plain slope follows the last half day."""
    hours = np.arange(0, 24 * 5, 0.5)
    value = 6 + 3 * np.sin(2 * np.pi * (hours - 8) / 24)
    at_ms = (np.int64(1_790_000_000_000) // DAY * DAY) + (hours * HOUR).astype(np.int64)
    plain = max(abs(x) for _, x, _ in trend().replay(0, at_ms, value))
    seasonal = max(abs(x) for _, x, _ in trend(season="day").replay(0, at_ms, value))
    assert seasonal < 1e-9 < plain
    sinking = value - 0.06 * hours
    slopes = [x for _, x, _ in trend(season="day", significance=0.05).replay(0, at_ms, sinking)]
    assert min(slopes) == pytest.approx(-0.06, abs=1e-6), "what truly sinks is seen all the same"


def test_noise_that_happens_to_slope_is_not_believed() -> None:
    rng = np.random.default_rng(3)
    at_ms = np.arange(0, 5 * DAY, HOUR // 2) + 1_790_000_000_000
    loud = rng.normal(6, 8, len(at_ms))
    sieved = [x for _, x, _ in trend(significance=0.01).replay(0, at_ms, loud)]
    assert np.mean(np.abs(sieved) > 0) < 0.2


# -- rate and daily pattern --------------------------------------------------------------------------------------------


def test_a_rate_is_against_the_reading_an_hour_before_and_silent_where_there_is_none() -> None:
    watches = RateEvaluator(rules(rule("rate", parameter="do", side="below", per_hour=2.0)).rates[0])
    watches.bind(0, 0)
    at_ms = np.array([0, 30, 60, 90, 300, 360], np.int64) * 60_000
    found = watches.replay(0, at_ms, np.array([8.0, 8.0, 6.0, 5.0, 1.0, 1.0]))
    assert [(t // 60_000, x) for t, x, _ in found] == [(60, -2.0), (90, -3.0), (360, 0.0)]


def days(swings: list[float]) -> tuple[np.ndarray, np.ndarray]:
    start = at("2026-05-01T00:00")
    hours = np.arange(24 * len(swings))
    swing = np.repeat(swings, 24)
    return start + hours * HOUR, 7 + swing / 2 * np.sin(2 * np.pi * hours / 24)


def test_a_pattern_is_lost_against_its_own_past_and_the_lost_days_do_not_become_the_past() -> None:
    one = rules(rule("daily_pattern", parameter="do", past_days=6)).patterns[0]
    watches = DailyPatternEvaluator(one)
    watches.bind(0, 0)
    found = watches.replay(0, *days([4.0] * 5 + [0.4] * 20 + [4.0] * 2))
    shares = [round(share, 1) for _, share, _ in found]
    assert shares == [1.0, 1.0, *[0.1] * 20, 1.0]
    assert found[2][0] == at("2026-05-07T00:00"), "a day is judged when it is over, at its own end"


def test_where_there_never_was_a_pattern_none_is_lost() -> None:
    one = rules(rule("daily_pattern", parameter="do", past_days=6, least=1.0)).patterns[0]
    watches = DailyPatternEvaluator(one)
    watches.bind(0, 0)
    assert watches.replay(0, *days([0.5] * 6 + [0.01] * 6)) == []


# -- files -------------------------------------------------------------------------------------------------------------

EVERY = (
    high(pending_s=600, regions=["district"], hours="22-6", on_days="working", months=[4, 5])
    + rule("rate", id="rate", parameter="do", side="below", per_hour=2.0)
    + rule("trend", id="trend", parameter="do", side="below", per_hour=0.05, window_s=259_200, bins=18, season="tide")
    + rule("class", id="class", worse_than="V", parameters=["nh3n", "do"])
    + rule("target", id="target", waters=["river"])
    + rule("black_odorous", id="black", grade="severe", reaches=["main"])
    + rule("daily_pattern", id="pattern", parameter="do")
    + rule("no_data", id="silent", stations=["shi*"])
    + rule("event", id="event", kinds=["acid"], confidence=0.7)
)


def test_a_rule_written_back_as_toml_is_the_same_rule() -> None:
    for one in rules(EVERY):
        again = next(iter(rules(explain.toml(one))))
        assert again == one, one.id


def test_every_kind_of_rule_has_a_sentence_in_both_languages() -> None:
    for one in rules(EVERY):
        text = explain.sentence(one, CATALOGUE)
        assert "{" not in text.zh + text.en
        assert text.zh != text.en
    first = explain.sentence(rules(EVERY).thresholds[0], CATALOGUE)
    for part in ("22:00", "06:00", "working days", "4, 5", "2.0 mg/L", "10 min"):
        assert part in first.en, part


def test_what_has_no_unit_is_written_without_one() -> None:
    steep = rule("rate", parameter="ph", side="above", per_hour=0.5)
    assert "超过0.5，" in explain.sentence(next(iter(rules(steep))), CATALOGUE).zh
    (fault,) = explain.find_rule_faults(rules(high(parameter="ph", limit=20.0, clear=19.0)), CATALOGUE)
    assert "0–14之外" in fault.text.zh


@pytest.mark.parametrize(
    ("text", "serious", "named"),
    [
        (high("o", limit=4.0) + high("r", limit=2.0, colour="red"), True, "the wrong way round"),
        (
            rule("class", id="a", worse_than="V") + rule("class", id="b", worse_than="IV", colour="red"),
            True,
            "wrong way",
        ),
        (high(limit=1e6), True, "never fires"),
        (high(limit=-5.0, clear=-6.0), True, "every reading"),
        (high(limit=2.0, clear=-1.0), True, "never ends"),
        (high(stations=["nobody"]), True, "no station is called nobody"),
        (high(reaches=["nile"]), True, "no reach is called nile"),
        (high(regions=["mars"]), True, "no region has the code mars"),
        (high(waters=["creek"]), True, "no station is in its scope"),
        (high(samples=1, pending_s=60), False, "less than the 5 min"),
        (high(samples=1), False, "a single reading"),
        (high("a") + high("b", limit=2.1, clear=2.0), False, "tell the same"),
        (high("o") + high("r", colour="red"), False, "o tells nothing more"),
        (high(limit=1e308), True, "1e+308 mg/L"),
        (rule("target", stations=["lake"]), False, "no reach in its scope has a target"),
        (
            rule("trend", parameter="do", side="below", per_hour=0.1, window_s=3600, bins=30, stations=["shiwan"]),
            False,
            "most will be empty",
        ),
    ],
)
def test_a_contradiction_is_found_and_said(text: str, serious: bool, named: str) -> None:
    assert any(s is serious and named in said for s, said in told(text)), told(text)


def test_colours_that_speak_at_other_times_or_places_do_not_contradict() -> None:
    urgent = {"limit": 2.0, "colour": "red"}
    assert not grave(high("o", limit=4.0, hours="6-22") + high("r", hours="22-6", **urgent))
    assert not grave(high("o", limit=4.0, stations=["shiwan"]) + high("r", stations=["lake"], **urgent))
    assert not grave(high("o", limit=2.0) + high("r", limit=4.0, colour="red"))
    assert not [said for _, said in told(high("o") + high("r", pending_s=3600, colour="red")) if "nothing more" in said]


def test_rules_that_tell_the_same_are_found_without_any_stations() -> None:
    found = explain.find_rule_faults(rules(high("a") + high("b", limit=2.1, clear=2.0)), CATALOGUE)
    assert [one.text.en for one in found if "same" in one.text.en] == ["a and b tell the same at the same time"]


def grave(text: str) -> list[str]:
    return [said for serious, said in told(text) if serious]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (rule("class", worse_than="VI"), "VI"),
        (rule("class", worse_than=5), "5"),
        (rule("class", worse_than="V", parameters=["turbidity"]), "turbidity"),
        (rule("black_odorous", grade="awful"), "awful"),
        (rule("rate", parameter="do", side="below", per_hour=0.0), "per_hour"),
        (rule("trend", parameter="do", side="below", per_hour=0.1, window_s=86_400, season="day"), "season day"),
        (rule("daily_pattern", parameter="do", share=1.5), "share"),
        (high(margin=0.1), "margin"),
        (high(flaps=1), "flaps 1"),
        (high(pending_s=10**9), "pending_s"),
        (high(hours="99"), "hours"),
        (rule("event", confidence=2.0), "confidence"),
    ],
)
def test_what_cannot_be_is_refused_with_the_entry(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match="rule r") as caught:
        rules(text)
    assert named in str(caught.value)


def test_the_entries_of_a_written_rule_are_those_of_a_file() -> None:
    written = tomllib.loads(explain.toml(rules(EVERY).thresholds[0]))["threshold"][0]
    assert (written["hours"], written["on_days"], written["months"]) == ("22:00-06:00", "working", [4, 5])
