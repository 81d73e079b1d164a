"""The model of the review: which reasons name a cause, stretches, what a review changes, the order of the queue."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from api.pages.models import review
from api.pages.models.review import Readings, StationDay
from infra.times import DAY_MS, beijing_day_span, rfc3339
from sensors.maintenance import MarkSpan, Review, Verdict
from sensors.parameters import catalogue
from sensors.reading import Flag, QualityTest
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station, Water

START_MS, _ = beijing_day_span(date(2026, 5, 12))
STEP_MS = 300_000
SPIKE = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
RANGE = int(Flag.BAD) | int(QualityTest.INSTRUMENT_RANGE) << 4


def _readings(packed: Sequence[int], values: Sequence[float] | None = None, steps: Sequence[int] = ()) -> Readings:
    at = START_MS + STEP_MS * np.array(steps or range(len(packed)), np.int64)
    given = [1.0] * len(packed) if values is None else values
    return Readings("nh3n", at, np.array(given), np.array(packed, np.int64))


def _day(key: str, readings: int = 100, flagged: int = 0, reviewed: int = 0, tests: Sequence[str] = ()) -> StationDay:
    return StationDay(Station(key, key, key, 113.0, 23.0), readings, flagged, tuple(tests), reviewed, ())


def test_a_day_begins_and_ends_at_midnight_in_beijing() -> None:
    start_ms, end_ms = beijing_day_span(date(2026, 5, 12))
    assert rfc3339(start_ms) == "2026-05-11T16:00:00Z"
    assert end_ms - start_ms == DAY_MS


@pytest.mark.parametrize("reason", ["", " ", "异常", "离群", "数据异常。", "读数偏高", "bad data", "outlier!"])
def test_a_reason_that_names_no_cause_is_none(reason: str) -> None:
    assert not review.specific(reason)


@pytest.mark.parametrize("reason", ["探头离水", "标液核查未通过", "异常：试剂缺失", "pump failed"])
def test_a_reason_that_names_a_cause_is_one(reason: str) -> None:
    assert review.specific(reason)


def test_stretches_end_at_a_good_reading_and_at_a_gap() -> None:
    found = review.stretches(_readings([1, SPIKE, RANGE, 1, SPIKE, SPIKE], steps=[0, 1, 2, 3, 4, 40]), 300)
    assert [(one.count, one.bad, one.tests) for one in found] == [
        (2, True, ("instrument_range", "spike")),
        (1, False, ("spike",)),
        (1, False, ("spike",)),
    ]
    assert found[0].since_ms == START_MS + STEP_MS
    assert found[0].until_ms == START_MS + 2 * STEP_MS + review.MINUTE_MS


def test_what_was_reviewed_is_no_longer_open() -> None:
    known = catalogue()
    one = Review("a", "", START_MS, START_MS + STEP_MS, Verdict.BAD, "探头离水", "示例", START_MS)
    spans = review.spans_in_force([], [one], "a")
    marked = review.marked(_readings([SPIKE, SPIKE]), "a", spans, known)
    assert marked.open.tolist() == [False, True]
    assert marked.flag.tolist() == [Flag.BAD, Flag.SUSPECT]
    void = Review("a", "", START_MS, START_MS + STEP_MS, Verdict.BAD, "探头离水", "示例", START_MS, True)
    back = review.marked(marked, "a", review.spans_in_force(spans, [void], "a"), known)
    assert back.open.tolist() == [True, True]


def test_the_effect_of_a_review_on_mean_and_class() -> None:
    station = Station("a", "a", "a", 113.0, 23.0, water=Water.CREEK)
    readings = _readings([1, 1, RANGE], [0.4, 3.0, 9.8])
    chosen = (START_MS + STEP_MS, START_MS + 3 * STEP_MS)
    none: set[MarkSpan] = set()
    (effect,) = review.effects(station, [readings], ["nh3n"], chosen, none, catalogue())
    assert effect.touched == 2
    assert [one.usable for one in (effect.now, effect.bad, effect.good)] == [2, 1, 3]
    assert effect.bad.mean == pytest.approx(0.4)
    assert effect.good.mean == pytest.approx(4.4)
    assert effect.classes == (WaterClass.V, WaterClass.II, WaterClass.WORSE)
    assert review.effects(station, [readings], ["do"], chosen, none, catalogue()) == []


def test_the_queue_begins_with_the_most_suspicious_and_next_passes_the_one_shown() -> None:
    days = [_day("few", flagged=1, tests=["spike"]), _day("many", flagged=50, tests=["spike"]), _day("clean")]
    days += [_day("empty", readings=0), _day("done", reviewed=3)]
    found = review.queue(days)
    assert [one.station.key for one in found.open] == ["many", "few"]
    assert [[one.station.key for one in part] for part in (found.reviewed, found.clean, found.empty)] == [
        ["done"],
        ["clean"],
        ["empty"],
    ]
    for shown, then in (("", "many"), ("many", "few"), ("few", "many"), ("clean", "many")):
        after = found.after(shown)
        assert after is not None
        assert after.station.key == then
    assert review.queue(days[2:]).after("clean") is None
    assert review.queue(days[:1]).after("few") is None


def test_a_line_is_drawn_across_neither_a_gap_nor_a_flagged_reading() -> None:
    drawn = review.picture(
        _readings([1, 1, SPIKE, 1, 1, 1], [1, 2, 50, 2, 1, 1], steps=[0, 1, 2, 3, 4, 40]), START_MS, 300, decimals=2
    )
    assert len(drawn.lines) == 2
    assert len(drawn.dots) == 1
    assert [one.kind for one in drawn.signs] == ["suspect"]
    assert len(drawn.others) == 1


@pytest.mark.parametrize("values", [[], [0.0], [7.0, 7.0], [float("nan")], [1e-6, 1e6], [-1.0, 1.0]])
def test_any_day_can_be_drawn(values: list[float]) -> None:
    drawn = review.picture(_readings([1] * len(values), values), START_MS, 300, decimals=2, limit=1.0)
    assert all(0 <= tick.at <= review.HEIGHT for tick in drawn.rows)
    assert len(drawn.rows) >= 2


def test_neighbours_are_of_the_same_water_and_the_next() -> None:
    assert review.neighbours(Registry(), Station("a", "a", "a", 113.0, 23.0)) == []


def test_a_verdict_of_doubt_flags_readings_and_is_taken_back_without_a_trace() -> None:
    at = np.array([0, 1, 2], np.int64)
    before = np.array([int(Flag.GOOD), int(Flag.GOOD), int(Flag.BAD) | int(QualityTest.SPIKE) << 4], np.int64)
    readings = review.Readings("nh3n", at, np.ones(3), before)
    said = Review("one", "nh3n", 1, 3, Verdict.SUSPECT, "水样浑浊", "示例", 5)
    doubted = review.marked(readings, "one", review.review_spans([said]), catalogue())
    assert doubted.flag.tolist() == [Flag.GOOD, Flag.SUSPECT, Flag.SUSPECT]
    assert doubted.reviewed.tolist() == [False, True, True]
    again = review.marked(doubted, "one", review.review_spans([replace(said, void=True)]), catalogue())
    assert again.packed.tolist() == before.tolist()
    waiting = review.marked(readings, "one", review.review_spans([replace(said, pending=True)]), catalogue())
    assert waiting.packed.tolist() == before.tolist(), "nothing changes until a second person agrees"
