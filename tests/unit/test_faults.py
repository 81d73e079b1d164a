"""Sensors say what the water is, a little wrong; faults do what their names say; the truth of a run labels both."""

import gzip
import io
from dataclasses import replace
from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from sensors.parameters import catalogue
from sensors.stations import Registry
from simulator import scenario, truth
from simulator.devices.sensor_faults import SENSORS, Instruments, Measured
from simulator.devices.transport import TransmissionKind, Transport
from simulator.physics.world import World
from simulator.scenario import BATTERY_MS, Cycle, EventKind, Fault, FaultKind, Scenario, TroubleKind, Visit
from simulator.source import samples
from tests import rivers
from tests.long import LONG
from tests.rivers import SITE

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAY = 1_778_428_800_000  # 2026-05-11, midnight in Beijing
STEP_MS = 300_000
AT_MS = np.arange(MAY, MAY + 2 * DAY_MS, STEP_MS)
QCC, LAKE = SITE["qcc-huanhu-1"], SITE["shiwan-lake-1"]
DAYS = Scenario("test", "", "", "", "", MAY, 2, spin_up_days=1.5)
STATIONS = replace(SITE, stations=(QCC, LAKE))


@lru_cache(maxsize=1)
def water() -> World:
    world = World(STATIONS, DAYS, seed=3)
    world.advance(MAY + 2 * DAY_MS)
    return world


def said(*faults: Fault, station=QCC, visits: tuple[Visit, ...] = (), **changes) -> dict[str, Measured]:
    happening = replace(DAYS, faults=faults, visits=visits, **changes)
    return Instruments(STATIONS, happening, water(), seed=3, known=catalogue()).read(station, AT_MS, STEP_MS)


def fault(kind: FaultKind, parameter: str, *, hours: float = 12, size: float = 1.0, station=QCC, **more) -> Fault:
    return Fault("f", kind, station.key, parameter, MAY + 6 * HOUR_MS, MAY + round((6 + hours) * HOUR_MS), size, **more)


def during(hours: float = 12) -> np.ndarray:
    return (AT_MS >= MAY + 6 * HOUR_MS) & (MAY + (6 + hours) * HOUR_MS > AT_MS)


def test_a_healthy_sensor_is_near_the_water_with_the_decimals_of_the_catalogue():
    for key, got in said().items():
        there = ~np.isnan(got.value)
        truth_ = water().value(QCC.key, key, AT_MS)
        assert np.array_equal(np.round(got.value[there], catalogue()[key].decimals), got.value[there])
        assert (key == "turbidity" and (np.array(got.kind)[got.bad == 1] == "spike").all()) or not got.bad[there].any()
        if key in ("water_temp", "ph", "do", "conductivity"):
            assert np.abs(got.value - truth_).max() < 6 * SENSORS[key].accuracy / 4


def test_analysers_give_a_result_every_four_hours_and_probes_every_time():
    got = said()
    for key in ("nh3n", "codmn", "tp"):
        times = AT_MS[~np.isnan(got[key].value)]
        assert len(times) == 12
        assert set(np.diff(times)) == {4 * HOUR_MS}
    assert not np.isnan(got["do"].value).any()
    at_once = said(cycles=(Cycle((QCC.key,), ("nh3n",), 0),))
    assert not np.isnan(at_once["nh3n"].value).any()


def test_below_the_detection_limit_half_of_it_is_reported():
    class Clean:
        def value(self, station, parameter, at_ms):
            return np.full(len(at_ms), 0.045)

    at_once = replace(DAYS, cycles=(Cycle((QCC.key,), ("nh3n",), 0),))
    poor = Instruments(STATIONS, at_once, Clean(), seed=3, known=catalogue()).read(QCC, AT_MS, STEP_MS)["nh3n"].value
    low = poor[poor < 0.05]
    assert len(low) > 300
    assert set(low) == {0.025}


def test_a_sensor_answers_a_step_gradually():
    class Step:
        def value(self, station, parameter, at_ms):
            return np.where(at_ms >= MAY, 6.0, 2.0)

    probes = Instruments(STATIONS, DAYS, Step(), seed=3, known=catalogue())
    at_ms = MAY + np.arange(0, 600_000, 5000)
    value = probes.read(QCC, at_ms, 5000)["do"].value
    assert value[0] == pytest.approx(2, abs=0.15)
    assert 2.5 < value[at_ms == MAY + 30_000][0] < 5.9
    assert value[-1] == pytest.approx(6, abs=0.15)


def test_a_spike_is_one_reading_and_returns():
    got, healthy = said(fault(FaultKind.SPIKE, "do", hours=0.001))["do"], said()["do"]
    assert got.bad.sum() == 1
    (row,) = np.flatnonzero(got.bad)
    assert abs(got.value[row] - healthy.value[row]) > 1.94, "more than the 95th percentile of 4-hour changes"
    assert np.array_equal(np.delete(got.value, row), np.delete(healthy.value, row))


def test_a_stuck_sensor_repeats_itself_exactly():
    got = said(fault(FaultKind.FLAT_LINE, "do"))["do"]
    assert len(set(got.value[during()])) == 1
    assert (got.bad == during()).all()
    assert set(np.array(got.kind)[during()]) == {"flat_line"}


def test_drift_grows_in_a_line_and_calibration_sets_it_back():
    visit_ms = MAY + 30 * HOUR_MS
    got, healthy = said(fault(FaultKind.DRIFT, "ph", hours=40, visit_ms=visit_ms))["ph"], said()["ph"]
    off = got.value - healthy.value
    assert np.abs(off[visit_ms <= AT_MS]).max() == 0
    before = (AT_MS >= MAY + 6 * HOUR_MS) & (visit_ms > AT_MS)
    hours = (AT_MS[before] - MAY) / HOUR_MS
    assert abs(np.corrcoef(hours, off[before])[0, 1]) > 0.99
    assert abs(off[before][-1]) == pytest.approx(0.6, abs=0.05)
    wrong = got.bad[before] == 1
    assert not wrong[0], "at first it is right within its accuracy"
    assert wrong[-1]
    visited = said(fault(FaultKind.DRIFT, "ph", hours=40), visits=(Visit(QCC.key, visit_ms),))["ph"]
    assert np.abs((visited.value - healthy.value)[visit_ms <= AT_MS]).max() == 0


def test_fouling_pulls_oxygen_down_flattens_its_day_and_jumps_back_at_the_cleaning():
    visit_ms = MAY + 42 * HOUR_MS
    got = said(fault(FaultKind.FOULING, "do", hours=42, visit_ms=visit_ms))["do"].value
    healthy = said()["do"].value
    second = (AT_MS >= MAY + 26 * HOUR_MS) & (visit_ms > AT_MS)
    assert (healthy - got)[second].mean() > 0.8
    assert np.std(np.diff(got[second][::12])) < 0.9 * np.std(np.diff(healthy[second][::12]))
    assert np.abs((healthy - got)[visit_ms <= AT_MS]).max() == 0
    muddy = said(fault(FaultKind.FOULING, "turbidity", hours=42, visit_ms=visit_ms))["turbidity"].value
    assert (muddy - said()["turbidity"].value)[second].mean() > 15


def test_out_of_the_water_everything_says_air():
    got = said(fault(FaultKind.OUT_OF_WATER, ""))
    dry = during()
    assert got["conductivity"].value[dry].max() < 10
    assert got["do"].value[dry].min() > 7
    assert np.ptp(got["water_temp"].value[dry]) > 2, "it follows the air"
    assert np.array_equal(got["level"].value, said()["level"].value)
    assert got["level"].bad.sum() == 0


def test_the_other_faults_do_what_they_are_called():
    healthy = said()

    def got(kind: FaultKind, parameter: str) -> tuple[np.ndarray, np.ndarray, Measured]:
        found = said(fault(kind, parameter))[parameter]
        return found.value[during()], healthy[parameter].value[during()], found

    value, _, found = got(FaultKind.CLIPPING, "turbidity")
    assert set(value) == {1000.0}
    assert set(np.array(found.status)[during()]) == {"T"}
    value, right, _ = got(FaultKind.UNIT, "conductivity")
    assert value == pytest.approx(right / 1000, abs=0.06)
    assert set(got(FaultKind.SENTINEL, "ph")[0]) == {-999.0}
    value, right, _ = got(FaultKind.OFFSET, "ph")
    assert np.ptp(value - right) < 0.02
    assert abs((value - right).mean()) > 0.5
    value, right, _ = got(FaultKind.NOISE, "do")
    assert np.std(np.diff(value)) > 5 * np.std(np.diff(right))
    value, right, found = got(FaultKind.BURSTS, "turbidity")
    assert 0.05 < found.bad[during()].mean() < 0.9
    assert (value >= right - 0.05).all()
    _, _, found = got(FaultKind.SPIKE_CLUSTER, "turbidity")
    assert 0.1 < found.bad[during()].mean() < 0.8


def test_without_power_the_battery_measures_on_for_hours_and_then_there_is_a_gap_that_nobody_can_judge():
    got, healthy = said(fault(FaultKind.SUPPLY, "")), said()
    kept = during() & (AT_MS[during()][0] + BATTERY_MS > AT_MS)
    for key in ("do", "ph", "nh3n"):
        assert np.array_equal(got[key].value[kept], healthy[key].value[kept], equal_nan=True)
        assert not (got[key].bad[kept] == 1).any(), "what came late is not wrong"
        gap = during() & ~kept
        assert np.isnan(got[key].value[gap]).all()
        assert set(got[key].bad[gap]) == {-1}
        assert "supply" in got[key].kind


def test_what_the_logger_kept_comes_in_one_burst_when_the_power_is_back():
    text = '[scenario]\nzh = "a"\nen = "a"\nstart = 2026-05-11\ndays = "2d"\nspin_up = "6h"\n'
    text += f'[[fault]]\nkind = "supply"\nstation = "{QCC.key}"\nat = "10h"\nfor = "9h"\n'
    asked = scenario.parse(text, SITE, key="supply", source="supply.toml")
    (power,) = asked.faults
    instruments = Instruments(STATIONS, asked, water(), seed=3, known=catalogue())
    at_ms = AT_MS[(asked.start_ms <= AT_MS) & (power.end_ms + HOUR_MS > AT_MS)]
    device = Transport(QCC.key, asked.troubles, seed=1, boot=1)
    puts = []
    for sample in samples(at_ms, instruments.read(QCC, at_ms, STEP_MS)):
        puts += device.take(sample)
    told = [put for put in puts if put.message is not None]
    assert not [put for put in told if power.start_ms < put.at_ms < power.end_ms], "the line is dead"
    (burst,) = [put for put in told if put.at_ms == power.end_ms and len(put.message.samples) > 1]
    kept = [s.at_ms for s in burst.message.samples]
    assert kept == [at for at in at_ms.tolist() if power.start_ms <= at < power.start_ms + BATTERY_MS]
    assert [p.kind for p in puts if p.message is None] == [TransmissionKind.CUT, TransmissionKind.BACK]


def test_a_leaf_before_the_turbidity_sensor_is_rare_and_a_spike_in_the_truth():
    class Clear:
        def value(self, station, parameter, at_ms):
            return np.full(len(at_ms), 20.0)

    instruments = Instruments(STATIONS, DAYS, Clear(), seed=3, known=catalogue())
    at_ms = MAY + np.arange(0, 300 * 24 * HOUR_MS, 900_000)
    got = instruments.read(QCC, at_ms, 900_000)["turbidity"]
    hit = got.bad == 1
    assert 3 < hit.sum() / 10 < 6, "a month, as at the river stations of the public records"
    assert (got.value[hit] > 1.5 * 20).all()
    assert got.value[~hit].max() < 25
    assert (np.array(got.kind)[hit] == "spike").all()
    assert not any(kind for kind in np.array(got.kind)[~hit])
    told = instruments.faults_during(QCC, int(at_ms[0]), int(at_ms[-1]), 900_000)
    assert len(told) == hit.sum()
    assert all(((at_ms[hit] >= one.start_ms) & (at_ms[hit] < one.end_ms)).sum() == 1 for one in told)
    half = instruments.read(QCC, at_ms[5000:5400], 900_000)["turbidity"]
    assert np.array_equal(half.value, got.value[5000:5400]), "whatever is asked for at a time"


def test_a_wrong_clock_tells_another_hours_water():
    got = said(fault(FaultKind.CLOCK, ""))["do"]
    earlier = water().value(QCC.key, "do", AT_MS - 2 * HOUR_MS)
    assert np.abs(got.value - earlier)[during()].max() < 0.3
    assert (got.bad[during()] == 1).all()


def test_on_the_wire_a_wrong_clock_is_wrong_by_what_the_table_says():
    wrong = fault(FaultKind.CLOCK, "")
    (trouble,) = replace(DAYS, faults=(wrong,)).on_the_way
    assert (trouble.kind, trouble.clock_s, trouble.stations) == (TroubleKind.CLOCK_ERROR, 7200.0, (wrong.station,))


# -- the table of a run ----------------------------------------------------------------------------------------------


def table(key: str, seed: int = 1, days: float | None = None) -> pl.DataFrame:
    found = scenario.load(key, SITE)
    found = found if days is None else replace(found, days=days, spin_up_days=0.5)
    frames = truth.table(found.registry(SITE), found, seed=seed, known=catalogue())
    return pl.concat([frame for frame, _ in frames])


def packed(frame: pl.DataFrame) -> bytes:
    raw = io.BytesIO()
    with truth.packed(raw) as target:
        target.write(truth.csv(frame, header=True))
    return raw.getvalue()


@pytest.mark.skipif(not LONG, reason="thirty days of all waters; RIVERCHIEF_LONG=1 makes them")
def test_every_event_and_fault_of_everything_is_labelled():
    found = rivers.table("everything")
    kinds = set(found.filter(pl.col("event") == 1)["event_type"].unique())
    pollution = set(EventKind) - scenario.NATURAL
    assert kinds == {str(kind) for kind in pollution}
    natural = set(found.filter(pl.col("natural_event") == 1)["event_type"].unique())
    assert natural >= {str(kind) for kind in scenario.NATURAL}
    types = {kind for c in found.columns if c.startswith("type_") for kind in found[c].unique() if kind}
    assert types == {str(kind) for kind in FaultKind}
    assert 0.01 < found["event"].mean() < 0.15
    assert 0.01 < found["anomaly"].mean() < 0.15


def test_the_table_has_the_columns_of_the_recorded_ones():
    found = table("sensor-troubles", days=0.1)
    parameters = [c.removeprefix("anomaly_") for c in found.columns if c.startswith("anomaly_")]
    assert found.columns[:2] == ["station", "time"]
    assert found.columns[2 : 2 + len(parameters)] == parameters
    assert {"water_temp_degC", "pH", "do_mg_L", "conductivity_uS_cm", "turbidity_NTU", "level_m"} <= set(parameters)
    assert [f"type_{p}" for p in parameters] == [c for c in found.columns if c.startswith("type_")]
    assert found.columns[-4:] == ["anomaly", "event", "event_type", "natural_event"]
    assert found["time"].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$").all()
    missing = found.filter(pl.col("nh3n_mg_L").is_null())
    assert missing["anomaly_nh3n_mg_L"].is_null().all(), "what is not there is not judged"


def test_a_calm_week_has_no_event_and_no_fault_but_a_leaf_now_and_then():
    found = table("calm-week", days=1.0)
    assert found["event"].sum() == found["natural_event"].sum() == 0
    assert found["anomaly"].sum() == found["anomaly_turbidity_NTU"].sum() < 0.002 * len(found)


def test_the_same_seed_is_the_same_bytes_and_another_seed_is_not():
    one = packed(table("night-discharge", days=0.1))
    assert packed(table("night-discharge", days=0.1)) == one
    assert packed(table("night-discharge", 2, days=0.1)) != one
    assert gzip.decompress(one).startswith(b"station,time,")


def test_an_event_is_there_while_its_water_is_and_not_elsewhere():
    found = rivers.table("three-days").filter(pl.col("event_type") == "sewage", pl.col("event") == 1)
    there = set(found["station"].unique())
    assert {"qcc-huanhu-2", "qcc-huanhu-3"} <= there
    assert there <= {"qcc-huanhu-1", "qcc-huanhu-2", "qcc-huanhu-3"}, "the flood carries some up its creek"


def test_thousands_of_stations_are_like_water_and_unlike_each_other():
    city = scenario.load("city", SITE)
    city = replace(city, days=0.5, events=(), generated=replace(city.generated, count=60))
    registry: Registry = city.registry(SITE)
    found = pl.concat([f for f, _ in truth.table(registry, city, seed=1, known=catalogue())])
    assert found["station"].n_unique() == 60
    courses = found.group_by("station").agg(pl.col("do_mg_L"), mean=pl.col("do_mg_L").mean())
    assert len({tuple(course) for course in courses["do_mg_L"].to_list()}) == 60
    assert courses["mean"].min() > 2
    assert courses["mean"].max() < 12
