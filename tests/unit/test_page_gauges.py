"""What gauges of rain, level and flow say beside the sensors of the water."""

import numpy as np
import pytest

from api.pages.models import gauges
from api.pages.models.gauges import Flow, Hydrology
from governance.incidents.headline import Row
from infra.texts import Text, say
from ingest.storage.port import Latest, Series
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water

KNOWN = catalogue()
HOUR = 3_600_000
NOW = 1_778_581_800_000
GAUGE = Text("闸", "Gate")


def latest(station: str, parameter: str, value: float, age_ms: int) -> Latest:
    return Latest(station, parameter, NOW - age_ms, value, 0, NOW - age_ms)


@pytest.mark.parametrize(
    ("flow", "flow_age_ms", "result_age_ms", "kg_day"),
    [
        (2.0, 0, 0, "1,040"),
        (-2.0, HOUR, 5 * HOUR, "-1,040"),
        (2.0, HOUR + 1, 0, None),
        (2.0, 0, 6 * HOUR + 1, None),
    ],
)
def test_a_load_is_concentration_times_flow_unless_one_of_them_is_old(
    flow: float, flow_age_ms: int, result_age_ms: int, kg_day: str | None
) -> None:
    rows = [latest("far", "flow", 9.0, 0), latest("near", "flow", flow, flow_age_ms)]
    rows += [latest("st", "nh3n", 6.0, result_age_ms), latest("st", "turbidity", 30.0, 0)]
    (row,) = gauges.loads({"far": 0.0, "st": 4.0, "near": 5.0}, rows, KNOWN, NOW)
    assert (row.station, row.gauge, row.flow_at_ms) == ("st", "near", NOW - flow_age_ms)
    (load,) = row.loads
    assert (load.at_ms, load.value) == (NOW - result_age_ms, 6.0)
    assert (None if load.kg_day is None else gauges.kilograms(load.kg_day)) == kg_day


def test_without_a_flow_there_is_no_load() -> None:
    assert gauges.loads({"st": 4.0}, [latest("st", "nh3n", 6.0, 0)], KNOWN, NOW) == ()


def test_rain_of_the_catchment_comes_before_rain_nearby_and_far_rain_does_not_count() -> None:
    line = ((113.0, 23.0), (113.1, 23.0))
    reaches = [Reach(key, key, key, Water.CREEK, line, down) for key, down in (("a", "b"), ("b", "c"), ("c", "b"))]
    places = (("above", "a", 113.9), ("beside", "", 113.01), ("below", "d", 113.02), ("far", "", 113.9))
    stations = [Station(key, key, key, lon, 23.0, reach=reach, parameters=("rain",)) for key, reach, lon in places]
    registry = Registry(tuple(stations), reaches=tuple(reaches), catalogue=KNOWN)
    found = gauges.rain_gauges(registry, "b", (113.0, 23.0))
    assert [one.key for _, one in found] == ["above", "beside", "below"], "b and c flow in a circle"
    assert [one.key for _, one in gauges.rain_gauges(registry, "", (113.0, 23.0))] == ["beside", "below"]


def test_bars_add_up_what_is_usable_and_begin_at_full_hours() -> None:
    width = gauges.bar_ms(7 * 24 * HOUR, 300)
    assert width == 3 * HOUR
    assert gauges.bar_ms(HOUR, 3600) == HOUR, "no bar is narrower than a reading"
    assert (gauges.bars_from(NOW, width) + 8 * HOUR) % (3 * HOUR) == 0
    none = np.zeros(3, np.int64)
    found = Series(
        np.array([0, width, 2 * width]),
        np.array([0.5, np.nan, 0.0]),
        np.zeros(3),
        np.zeros(3),
        np.array([12, 0, 9]),
        none,
        width,
    )
    rain = gauges.rain(found, Station("g", "站", "G", 113.0, 23.0), 0.0, "zh")
    assert rain is not None
    assert (rain.at, rain.mm) == ([0, 2 * width], [6.0, 0.0]), "a bar of bad readings is not a dry one"


@pytest.mark.parametrize(
    ("mm", "rows", "words"),
    [
        (0.2, [Row("nh3n", 6.0, 1.0)], "rain_no_cause"),
        (12.0, [Row("turbidity", 90.0, 10.0)], "rain_explains"),
        (12.0, [Row("conductivity", 200.0, 500.0)], "rain_explains"),
        (12.0, [Row("conductivity", 900.0, 500.0)], "rain_contradicts"),
        (12.0, [Row("ph", 9.5, 7.0)], None),
        (2.0, [Row("turbidity", 90.0, 10.0)], None),
    ],
)
def test_rain_explains_what_it_washes_in_and_contradicts_what_it_thins(
    mm: float, rows: list[Row], words: str | None
) -> None:
    said = gauges.of_rain(Hydrology(GAUGE, mm), rows, KNOWN)
    assert said is not None
    if words is None:
        assert said == say("verdict.rain_at", station=GAUGE, mm=f"{mm:.1f}")
    else:
        name = KNOWN[rows[0].parameter].zh
        assert said.zh.endswith("，" + str(say(f"verdict.{words}", names=Text(name, name)).zh))
    assert gauges.of_rain(Hydrology(), rows, KNOWN) is None


@pytest.mark.parametrize(
    ("minutes", "levels", "words"),
    [
        (10, [2.0, 2.0, 2.4, 2.4, 2.4], "level_gate"),
        (10, list(np.linspace(1.0, 1.9, 19)), "level_tide"),
        (10, [2.0, 2.01, 2.0], "level_no_cause"),
        (60, [2.0, 2.4, 2.4], None),
    ],
)
def test_a_level_that_leaps_is_a_gate_and_one_that_climbs_a_tide(
    minutes: int, levels: list[float], words: str | None
) -> None:
    at = np.arange(len(levels)) * minutes * 60_000
    level = gauges.level_of(GAUGE, at, np.array(levels))
    (said,) = gauges.of_water(Hydrology(level=level))
    rose = say("verdict.level_rose", station=GAUGE, metres="0.40").zh
    assert said.zh == rose if words is None else said.zh.endswith("，" + say(f"verdict.{words}").zh)


@pytest.mark.parametrize(
    ("before", "now", "words"), [(4.0, -1.0, "turned"), (2.0, 5.0, "more"), (6.0, 2.0, "less"), (2.0, 2.1, None)]
)
def test_a_flow_that_turns_or_grows_is_told(before: float, now: float, words: str | None) -> None:
    (said,) = gauges.of_water(Hydrology(flow=Flow(GAUGE, before, now)))
    assert any(say(f"verdict.flow_{one}").zh in said.zh for one in ("turned", "more", "less")) is (words is not None)
    assert words is None or say(f"verdict.flow_{words}").zh in said.zh
