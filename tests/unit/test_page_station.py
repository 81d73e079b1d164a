"""The page of a station: spans of its address, columns of its chart, limits, neighbours, tiles."""

import numpy as np
import pytest

from api.pages.models import series
from api.pages.models.overview import Data
from api.pages.models.registry import hangings
from api.pages.models.series import View
from api.pages.models.series_chart import columns, limits, neighbours
from api.pages.models.station import Tile, moment, panels, short, span, tiles
from infra.times import DAY_MS
from ingest.analysis.live_classes import STATION, ShownClass
from ingest.storage.port import Latest, Series
from sensors.parameters import catalogue
from sensors.reading import Flag
from sensors.source_attribution import RiverTree
from sensors.standards import gb3838
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Reach, Registry, Station, Water

NOW = 1_796_000_000_000
MINUTE, HOUR = 60_000, 3_600_000
CREEK = Station("creek-1", "涌一", "Creek 1", 113.1, 23.0, reach="creek", water=Water.CREEK, parameters=("ph", "nh3n"))


def _view(at: list[int], values: list[float], flags: list[Flag] | None = None, bucket_ms: int | None = None) -> View:
    value = np.array(values)
    packed = np.array([Flag.GOOD] * len(at) if flags is None else flags, np.int64)
    rows = Series(np.array(at, np.int64), value, value - 0.1, value + 0.1, np.ones(len(at)), packed, bucket_ms)
    newest = Latest("creek-1", "nh3n", None, None, 0, NOW)
    return View(rows, catalogue()["nh3n"], newest, 300, NOW - DAY_MS, NOW, None, "zh")


def test_an_address_names_a_span_that_follows_the_clock_or_one_that_stays() -> None:
    assert span({"range": "7d"}, NOW) == chart_span(NOW - 7 * DAY_MS, NOW, "7d")
    assert span({"range": "100y"}, NOW).range == "24h"
    free = span({"from": "2026-11-30T08:00", "to": "2026-11-30T09:30:00Z"}, NOW)
    assert free.free
    assert free.start_ms == moment("from", "2026-11-30T00:00:00Z")
    assert free.end_ms - free.start_ms == 9.5 * HOUR


def chart_span(start_ms: int, end_ms: int, range_: str) -> object:
    return type(span({}, NOW))(start_ms, end_ms, range_)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-11-30T08:00", "to": "2026-11-29T08:00"},
        {"from": "yesterday"},
        {"from": "1900-01-01T00:00", "to": "2026-11-30T08:00"},
    ],
)
def test_a_span_that_cannot_be_shown_says_why_and_the_usual_one_is_shown(query: dict[str, str]) -> None:
    found = span(query, NOW)
    assert found.wrong is not None
    assert (found.start_ms, found.end_ms) == (NOW - DAY_MS, NOW)


def test_a_gap_is_broken_marked_and_counted() -> None:
    at = [NOW - DAY_MS + i * 5 * MINUTE for i in range(289) if not 100 <= i < 124]
    found = columns(_view(at, [0.5] * len(at)))
    assert found.breaks == [100]
    assert found.missing == [(at[99], at[100])]
    assert found.missing_count == 24


def test_the_ends_of_a_span_without_readings_are_missing_too() -> None:
    found = columns(_view([NOW - 12 * HOUR + i * 5 * MINUTE for i in range(12)], [0.5] * 12))
    assert found.missing[0] == (NOW - DAY_MS, NOW - 12 * HOUR)
    assert found.missing[-1] == (NOW - 12 * HOUR + 55 * MINUTE, NOW)
    assert columns(_view([], [])).missing == [(NOW - DAY_MS, NOW)]


def test_what_is_flagged_is_no_part_of_the_curve_and_is_counted() -> None:
    at = [NOW - (6 - i) * 5 * MINUTE for i in range(6)]
    flags = [Flag.GOOD, Flag.SUSPECT, Flag.BAD, Flag.GOOD, Flag.UNKNOWN, Flag.GOOD]
    found = columns(_view(at, [0.5, 9.0, -999.0, 0.5, 0.5, 0.5], flags))
    assert found.value == [0.5, None, None, 0.5, 0.5, 0.5]
    assert (found.suspect, found.bad) == (1, 1)
    assert found.low == []


def test_a_thinned_series_has_an_envelope_and_its_means_stand_in_the_middle() -> None:
    at = [NOW - (4 - i) * HOUR for i in range(4)]
    found = columns(_view(at, [0.5, 0.6, 0.7, 0.8], bucket_ms=HOUR), shift_ms=MINUTE)
    assert found.at == [one + HOUR // 2 + MINUTE for one in at]
    assert found.low == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert found.high == pytest.approx([0.6, 0.7, 0.8, 0.9])


def test_limits_divide_the_axis_as_the_standard_says() -> None:
    ammonia = limits("nh3n", gb3838.Water.RIVER, WaterClass.V)
    assert ammonia is not None
    assert (ammonia.direction, ammonia.classes, ammonia.limit) == ("at_most", (0.15, 0.5, 1.0, 1.5, 2.0), 2.0)
    oxygen = limits("do", gb3838.Water.RIVER, WaterClass.III)
    assert oxygen is not None
    assert (oxygen.direction, oxygen.classes[0], oxygen.limit) == ("at_least", 7.5, 5.0)
    acid = limits("ph", gb3838.Water.RIVER, WaterClass.III)
    assert acid is not None
    assert (acid.direction, acid.classes, acid.limit) == ("within", (6.0, 9.0), None)
    assert limits("conductivity", gb3838.Water.RIVER, WaterClass.III) is None


def _at(key: str, lat: float, reach: str) -> Station:
    return Station(key, key, key, 113.1, lat, reach=reach)


def test_the_next_station_along_the_same_water_is_compared_with_at_its_travel_time() -> None:
    creek = Reach("creek", "涌", "creek", Water.CREEK, ((113.1, 23.1), (113.1, 23.0)), downstream="river")
    ditch = Reach("ditch", "渠", "ditch", Water.CREEK, ((113.11, 23.04), (113.1, 23.04)), downstream="creek")
    river = Reach("river", "河", "river", Water.RIVER, ((113.1, 23.0), (113.1, 22.9)))
    places = [_at("a", 23.09, "creek"), _at("b", 23.06, "creek"), _at("c", 23.03, "creek"), _at("r", 22.95, "river")]
    places.append(Station("d", "d", "d", 113.101, 23.04, reach="ditch"))
    tree = RiverTree(Registry(tuple(places), reaches=(creek, ditch, river)))
    found = neighbours(tree, "c")
    assert (found["up"].station, found["up"].upstream) == ("b", True)
    assert (found["down"].station, found["down"].upstream) == ("r", False)
    assert 0 < found["up"].travel_ms < found["down"].travel_ms
    assert "up" not in neighbours(tree, "a")
    assert neighbours(tree, "unknown") == {}


def _tiles(**values: float) -> tuple[Tile, ...]:
    rows = [Latest("creek-1", key, NOW - MINUTE, value, 1, NOW - MINUTE) for key, value in values.items()]
    shown = ShownClass(STATION, "creek-1", NOW, WaterClass.WORSE, ("nh3n",), 1, 5, WaterClass.V, False, "", "")
    return tiles(CREEK, catalogue(), rows, {"nh3n": "trend_up"}, shown, WaterClass.V, NOW, {})


def test_tiles_show_class_limit_and_trend_and_what_never_reported_last() -> None:
    first, *rest = _tiles(nh3n=8.27, do=3.4)
    assert (first.parameter.key, first.water_class, first.limit) == ("nh3n", WaterClass.WORSE, (2.0,))
    assert (first.trend, first.deciding, first.state) == ("trend_up", True, Data.NORMAL)
    assert [one.parameter.key for one in rest] == ["do", "ph"]
    assert (rest[1].value, rest[1].water_class, rest[1].state) == (None, None, Data.NEVER)


def test_the_chart_draws_what_was_asked_for_else_what_decides() -> None:
    rows = _tiles(nh3n=8.27, do=3.4, water_temp=20.0)
    assert panels("do,nonsense,nh3n,do", rows) == ("do", "nh3n")
    assert panels("", rows)[0] == "nh3n"
    assert "ph" not in panels("", rows)


@pytest.mark.parametrize(("value", "words"), [(8.2734, "8.27"), (12.345, "12.3"), (0.0123, "0.012"), (0.0, "0.00")])
def test_a_value_is_shown_in_three_significant_digits(value: float, words: str) -> None:
    (tile, *_) = _tiles(nh3n=value)
    assert short(tile) == words


def test_a_swap_leaves_the_old_device_under_before() -> None:
    old = Deployment("creek-1", "nh3n", NOW - 9 * DAY_MS, "mg/L", device="EX-1")
    new = Deployment("creek-1", "nh3n", NOW - DAY_MS, "mg/L", device="EX-2")
    gone = Deployment("creek-1", "do", NOW - 9 * DAY_MS, "mg/L", until_ms=NOW - DAY_MS, device="EX-3")
    planned = Deployment("creek-1", "tp", NOW + DAY_MS, "mg/L", device="EX-4")
    registry = Registry((CREEK,), (old, new, gone, planned), catalogue=catalogue())
    found = hangings(registry, "creek-1", NOW)
    assert [one.deployment.device for one in found if one.now] == ["EX-2"]
    before = {one.deployment.device: one.until_ms for one in found if one.past}
    assert before == {"EX-1": NOW - DAY_MS, "EX-3": NOW - DAY_MS}


def test_a_jump_is_not_called_steady() -> None:
    at = [NOW - (288 - i) * 5 * MINUTE for i in range(289)]
    assert series.trend(_view(at, [0.5] * 289)) == "trend_steady"
    assert series.trend(_view(at, [0.5] * 216 + [3.0] * 73)) == "trend_up"
    assert series.trend(_view(at, [0.5] * 288 + [8.0])) == ""
