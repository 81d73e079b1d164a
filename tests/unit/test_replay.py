"""A recorded table is played as it was measured, only moved in time."""

import csv
import gzip
import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from infra.times import to_ms
from sensors.parameters import catalogue
from sensors.stations import Deployment, Registry, Station
from sensors.table_columns import find_columns
from sensors.wire.telemetry import STATION
from simulator import replay
from simulator.devices.reported_values import Reporting
from simulator.replay import Table

DAY_MS = 86_400_000
NOW = 1_780_000_000_000
RECORD = Path(__file__).parents[2] / "simulator" / "records" / "apalachicola_cat_point.csv.gz"


def table(n: int = 6 * 96, step_s: int = 900, names: tuple[str, ...] = ("sandy_creek",), **more) -> Table:
    at_ms = np.tile(1_500_000_000_000 + np.arange(n, dtype=np.int64) * step_s * 1000, len(names))
    do = np.tile(6 + np.arange(n) * 0.001, len(names))
    return Table(np.repeat(names, n), at_ms, {"do": do, "ph": np.full(n * len(names), 7.5)}, **more)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("apalachicola_cat_point", "apalachicola-cat-point"),
        ("Station B (north)", "station-b-north"),
        ("-x-", "x"),
        ("石湾", "replayed"),
        ("x" * 100, "x" * 64),
        ("a" * 63 + "_b", "a" * 63),
    ],
)
def test_a_name_becomes_a_station_key(name, key):
    assert replay.slug(name) == key
    assert STATION.fullmatch(key)


def test_names_that_make_the_same_key_stay_apart():
    keys = replay.keys(table(3, names=("石湾", "奇槎", "a b", "a_b")))
    assert keys == {"石湾": "replayed", "奇槎": "replayed-2", "a b": "a-b", "a_b": "a-b-2"}


def test_the_first_days_become_the_days_before_now_and_the_rest_is_played_live():
    (track,) = replay.tracks(table(), now_ms=NOW, history_days=4)
    assert len(track.history) == 4 * 96
    assert track.history_ms[-1] == NOW - 900_000
    assert set(np.diff(track.history_ms)) == {900_000}
    assert track.history_ms[0] >= NOW - 4 * DAY_MS
    assert track.live.tolist() == list(range(4 * 96, 6 * 96))


def test_a_record_shorter_than_the_history_keeps_its_last_fifth_for_live():
    (track,) = replay.tracks(table(), now_ms=NOW, history_days=14)
    assert len(track.history) == 461
    assert len(track.live) == 115
    assert track.history_ms[-1] == NOW - 900_000


def test_without_history_everything_is_played_live():
    (track,) = replay.tracks(table(), now_ms=NOW, history_days=0)
    assert len(track.history) == 0
    assert len(track.live) == 6 * 96


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_tiny_record_is_no_trouble_and_loses_no_row(n):
    (track,) = replay.tracks(table(n), now_ms=NOW, history_days=14)
    assert sorted([*track.history, *track.live]) == list(range(n))
    assert (track.history_ms < NOW).all()


def test_rows_out_of_order_are_played_in_order_and_a_doubled_instant_once():
    recorded = Table(
        np.array(["a", "a", "b", "a", "a"]),
        np.array([3000, 1000, 1000, 2000, 2000]),
        {"do": np.array([3.0, 1, 9, 2, 2.5])},
    )
    a, b = replay.tracks(recorded, now_ms=NOW, history_days=0)
    assert a.live.tolist() == [1, 4, 0]
    assert b.live.tolist() == [2]


def test_a_gap_in_the_record_stays_a_gap():
    recorded = Table(np.array(["a"] * 3), np.array([0, 900_000, 9_000_000]), {"do": np.ones(3)})
    (track,) = replay.tracks(recorded, now_ms=NOW, history_days=1)
    assert np.diff(track.history_ms).tolist() == [900_000, 8_100_000]


def test_missing_values_are_left_out_and_a_row_without_any_is_not_sent():
    recorded = Table(
        np.array(["a"] * 3),
        np.array([0, 1, 2]),
        {"do": np.array([1.0, np.nan, np.nan]), "ph": np.array([7.0, 7.1, np.nan])},
    )
    sent = list(replay.samples(recorded, [0, 1, 2], np.array([10, 20, 30])))
    assert [(s.at_ms, dict(s.values)) for s in sent] == [(10, {"do": 1.0, "ph": 7.0}), (20, {"ph": 7.1})]


def test_replayed_stations_stand_in_a_row_beside_the_map_and_say_what_they_are():
    first = replay.replay_stations(table(names=("a", "b"), source="NERRS, CC0"))
    second = replay.replay_stations(table(names=("c",)), first=2)
    stations = (*first, *second)
    assert [s.key for s in stations] == ["a", "b", "c"]
    assert all(113.17 <= s.lon < 113.2 for s in stations)
    assert len({(s.lon, s.lat) for s in stations}) == 3
    assert all("回放记录" in s.note and "replayed record" in s.note for s in stations)
    assert "NERRS, CC0" in first[0].note
    assert first[0].parameters == ("do", "ph")
    assert first[0].interval_s == 900


def test_a_replayed_station_with_a_known_place_stands_there():
    (station,) = replay.replay_stations(table(places={"sandy_creek": (152.9, -27.2)}))
    assert (station.lon, station.lat) == (152.9, -27.2)


def test_what_a_record_never_measured_is_not_expected_of_it():
    recorded = Table(
        np.array(["a", "b"]), np.array([0, 0]), {"do": np.array([1.0, np.nan]), "ph": np.array([7.0, 7.0])}
    )
    assert [s.parameters for s in replay.replay_stations(recorded)] == [("do", "ph"), ("ph",)]


def test_the_shipped_record_is_real_small_and_has_its_fault_in_the_history():
    assert RECORD.stat().st_size < 150_000
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(RECORD.read_bytes()).decode())))
    mapped = find_columns(list(rows[0]), catalogue())
    assert {c.parameter for c in mapped.columns} == {
        "water_temp",
        "conductivity",
        "salinity",
        "do",
        "depth",
        "ph",
        "turbidity",
    }
    assert not mapped.doubled
    values = {
        c.parameter: np.array([float(r[c.name] or "nan") for r in rows]) * c.convert.gain + c.convert.offset
        for c in mapped.columns
    }
    at_ms = np.array([to_ms(datetime.fromisoformat(r["time"])) for r in rows], np.int64)
    recorded = Table(np.array([r["station"] for r in rows]), at_ms, values)
    (track,) = replay.tracks(recorded, now_ms=NOW, history_days=14)
    assert track.key == "apalachicola-cat-point"
    assert len(track.history) == 14 * 96
    assert len(track.live) == 28 * 96
    rejected = np.array([r["anomaly_turbidity_NTU"] == "1" for r in rows])
    assert recorded.columns["turbidity"][track.history][rejected[track.history]].max() > 2000
    assert np.isfinite(recorded.columns["do"]).mean() > 0.999


def test_a_simulated_probe_reports_in_the_unit_of_the_deployment_in_force():
    registry = Registry(
        stations=(Station("a", "a", "a", 113.1, 23.0),),
        deployments=(
            Deployment("a", "conductivity", 1000, "mS/cm", 2.0, 10.0),
            Deployment("a", "conductivity", 2000, "µS/cm"),
        ),
        catalogue=catalogue(),
    )
    at_ms = np.array([0, 1000, 1999, 2000])
    sent = Reporting(registry).values("a", "conductivity", at_ms, np.full(4, 410.0))
    assert sent == pytest.approx([410.0, 0.2, 0.2, 410.0])
    assert Reporting(registry).values("a", "ph", at_ms, np.full(4, 7.0)) == pytest.approx([7.0] * 4)
