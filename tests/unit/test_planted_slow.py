"""The tool that plants slow events: chemistry holds, nothing else is touched, and what is large is found and timed."""

import numpy as np
import planted
import planted_slow as tool
import pytest

from riverchief.tables.assess import SensorTable
from sensors.parameters import catalogue
from sensors.quality.table_sensors import find_sensors

DAY = 48
COLUMNS = ("water_temp_degC", "pH", "do_mg_L", "conductivity_uS_cm", "turbidity_NTU")


@pytest.fixture
def record() -> SensorTable:
    """A hundred days of a creek every half hour, with its daily rhythm; each day a little different."""
    n = 100 * DAY
    rng = np.random.default_rng(1)
    light = np.sin(2 * np.pi * np.arange(n) / DAY) * np.repeat(rng.uniform(0.8, 1.2, 100), DAY)
    noise = rng.standard_normal((5, n))
    water = (20 + light, 7.8 + 0.1 * light, 8 + 0.8 * light, 400 + 3 * light, 12 + 0 * light)
    scale = (0.03, 0.01, 0.05, 1.0, 0.5)
    values = np.stack([w + s * one for w, s, one in zip(water, scale, noise, strict=True)], axis=1)
    at = 1_778_544_000_000 + 1_800_000 * np.arange(n)
    return SensorTable(["示例"], np.zeros(n, np.intp), at, values, find_sensors(COLUMNS, catalogue()))


def test_carbon_dioxide_lowers_ph_less_where_there_is_more_alkalinity_and_taken_away_it_raises_it() -> None:
    ph, more, less = np.full(2, 7.5), np.array([0.1, 0.1]), np.array([-0.05, -0.05])
    soft, hard = tool.acidified(ph, np.array([0.5, 2.5]), more)
    assert soft < hard < 7.5
    # of 2.5 mmol/L at 7.5 0.18 mmol/L is free; with 0.1 more it is 0.27: half as much again, 0.17 lower
    assert hard == pytest.approx(7.33, abs=0.02)
    assert (tool.acidified(ph, np.array([0.5, 2.5]), less) > 7.5).all()
    assert tool.acidified(ph, np.array([0.5, 2.5]), np.zeros(2)) == pytest.approx([7.5, 7.5])


def test_no_more_oxygen_is_used_than_there_is() -> None:
    left = tool.breathing({"do": np.array([6.0, 1.0, 0.1]), "ph": np.full(3, 7.5)}, np.full(3, 4.0))
    assert left["do"] == pytest.approx([2.0, 0.3, 0.1])
    assert left["ph"][2] == pytest.approx(7.5)


def test_nothing_is_planted_but_where_it_is_said(record: SensorTable) -> None:
    values, events = tool.with_events(record, (), np.random.default_rng(1))
    assert len(events) >= 3
    hour = planted.HOUR_MS
    near = [(record.at >= e.begin - 60 * hour) & (record.at <= e.end + 60 * hour) for e in events]
    assert (values == record.values)[~np.any(near, axis=0)].all()
    for event in events:
        inside = (record.at >= event.begin) & (record.at <= event.end)
        assert (values != record.values)[inside].any()
        hours = (event.end - event.begin) / hour
        assert 0.6 * tool.HOURS[event.kind][0] < hours <= tool.HOURS[event.kind][1]


def test_what_is_planted_into_a_calm_creek_is_found_soon_and_nothing_else_is_told(record: SensorTable) -> None:
    one = planted.tried(record, (), (), 3, tool.with_events, tool.slow)
    kinds = ("oxygen sag", "sewage")
    there, found = (sum(many[kind] for kind in kinds) for many in (one.planted, one.found))
    assert there >= 4
    assert found >= there - 1
    assert 0 < (one.delay(planted.HOUR_MS, *kinds) or 99.0) < 5
    assert one.others == 0
    assert one.months == pytest.approx(3 * 100 / 30.44)


def test_years_without_a_reading_are_no_months(record: SensorTable) -> None:
    at = record.at.copy()
    at[50 * DAY :] += 1000 * planted.DAY_MS
    table = SensorTable(record.names, record.station, at, record.values, record.found)
    assert planted.months(table) == pytest.approx(100 / 30.44)
