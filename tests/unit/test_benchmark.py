"""The benchmark: what is put into a record is where it is said, is scored as stated, and its files can be answered."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from infra.times import rfc3339
from riverchief.tables.assess import SensorTable
from sensors.parameters import catalogue
from sensors.quality.detectors import point_tests, spikes
from sensors.quality.table_sensors import find_sensors
from tools.ablate import Counts, setting
from tools.benchmark import inject
from tools.benchmark.__main__ import score, write
from tools.benchmark.records import Record
from tools.benchmark.scorer import tally

DAY = 48
COLUMNS = ("water_temp_degC", "pH", "do_mg_L", "conductivity_uS_cm", "turbidity_NTU")


@pytest.fixture(scope="module")
def record() -> Record:
    """A hundred days of a creek every half hour; its keeper found the fiftieth day bad."""
    n = 100 * DAY
    light = np.sin(2 * np.pi * np.arange(n) / DAY)
    noise = np.random.default_rng(1).standard_normal((n, 5)) * (0.03, 0.01, 0.05, 1.0, 0.5)
    values = np.array([20, 7.8, 8, 400, 12]) + light[:, None] * (1, 0.1, 0.8, 3, 0) + noise
    at = 1_778_544_000_000 + 1_800_000 * np.arange(n)
    table = SensorTable(["示例"], np.zeros(n, np.intp), at, values, find_sensors(COLUMNS, catalogue()))
    bad = np.zeros((n, 5), np.int64)
    bad[50 * DAY : 51 * DAY] = 1
    return Record("示例", table, bad, np.zeros(n, np.int64), np.zeros(n, np.bool_), ()).clean()


@pytest.mark.parametrize("put", [inject.with_faults, inject.with_plumes])
def test_only_what_is_said_is_changed_never_a_first_month_and_never_what_the_keeper_marked(record: Record, put) -> None:  # type: ignore[no-untyped-def]
    after, made = put(record, 3)
    again, _ = put(record, 3)
    np.testing.assert_array_equal(after.table.values, again.table.values)
    assert len(made) >= 5
    changed = ~np.isclose(after.table.values, record.table.values, equal_nan=True, atol=0.02, rtol=0.005)
    said = inject.inside(after, made)
    if put is inject.with_faults:  # a plume fades for longer than it is counted
        assert not changed[~said].any()
    assert not changed[: 30 * DAY].any()
    assert np.isnan(after.table.values[50 * DAY : 51 * DAY]).all()
    assert all(changed[inject.rows_of(after, one)].any() for one in made)


def test_a_thing_is_found_from_two_steps_beside_it_and_a_flag_left_on_is_many_alarms() -> None:
    at = 60_000 * np.arange(1000)
    label, flagged = np.zeros(1000, np.int64), np.zeros(1000, np.bool_)
    label[100:110] = label[500:510] = 1
    flagged[111], flagged[513], flagged[600:700] = True, True, True
    found = tally(at, flagged, label)
    assert (found.there, found.found, found.false) == (2, 1, 1 + 1 + 4)


def test_the_files_say_what_was_put_in_and_their_own_truth_is_a_full_answer(record: Record, tmp_path: Path) -> None:
    after, made = inject.with_faults(record, 5)
    write(tmp_path / "creek-faults", after, made)
    names = [one.name for one in after.table.found.sensors]
    told = [(names[one.sensor], rfc3339(one.start)) for one in made]
    answer = {"station": ["示例"] * len(told), "time": [when for _, when in told], "parameter": [p for p, _ in told],
              "kind": ["fault"] * len(told)}  # fmt: skip
    (tmp_path / "answer").mkdir()
    pl.DataFrame(answer).write_csv(tmp_path / "answer" / "creek-faults.csv")
    line = list(score(tmp_path, tmp_path / "answer"))[1].split(", ")
    assert line[:5] == ["creek-faults", str(len(made)), "1.00", "1.00", "1.000"]


def test_a_setting_holds_wherever_a_constant_is_used_and_ends() -> None:
    with setting("detectors.point_tests", {"MAX_RETURN_SHARE": 0.35}):
        assert (point_tests.MAX_RETURN_SHARE, spikes.MAX_RETURN_SHARE) == (0.35, 0.35)
    assert (point_tests.MAX_RETURN_SHARE, spikes.MAX_RETURN_SHARE) == (0.2, 0.2)


def test_station_months_are_drawn_with_replacement() -> None:
    cells = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    drawn = Counts(cells).resampled(np.random.default_rng(1))
    assert {tuple(row) for row in drawn.tolist()} == {(4.0, 2.0, 0.0), (2.0, 1.0, 3.0), (0.0, 0.0, 6.0)}
