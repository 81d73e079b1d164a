"""The tool that plants faults into records: what it plants is found where it is large, and nothing else is touched."""

from pathlib import Path

import numpy as np
import planted_faults as tool
import pytest

from sensors.parameters import catalogue


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Sixty days of half-hourly oxygen and pH, the pH marked as bad by its keeper on day 30."""
    n = 60 * 48
    rng = np.random.default_rng(1)
    at = np.datetime64("2026-03-01T00:00:00") + np.arange(n) * np.timedelta64(30, "m")
    do, ph = 8.0 + 0.05 * rng.standard_normal(n), 7.5 + 0.02 * rng.standard_normal(n)
    bad = (np.arange(n) // 48 == 30).astype(int)
    ph[bad == 1] = 9.5
    rows = [f"示例,{t}Z,{a:.2f},{b:.2f},{c}" for t, a, b, c in zip(at, do, ph, bad, strict=True)]
    path = tmp_path / "record.csv"
    path.write_text("station,time,do_mg_L,pH,anomaly_pH\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_large_faults_of_a_calm_sensor_are_found_and_a_calm_record_raises_no_alarm(record: Path) -> None:
    tried, found, (alarms, months) = tool.trial(record, catalogue(), np.random.default_rng(1), 3.0)
    assert sum(tried.values()) > 15
    large = [key for key in tried if key[1] == "spike of one reading" and key[2] == 12.0]
    assert large
    assert {key: found[key] for key in large} == {key: tried[key] for key in large}
    assert alarms == 0
    assert 3.5 < months < 4.0


def test_nothing_is_planted_where_the_keeper_marked_readings(record: Path) -> None:
    table = tool.read(record, catalogue(), tool.Summary("record"))
    marked = tool.labels(record, table)
    assert marked.sum() == 48
    values, planted = tool.plant(table, marked, np.random.default_rng(2), 1.0)
    assert planted
    assert (values[marked] == table.values[marked]).all()
    changed = np.argwhere(values != table.values)
    spans = [(p.column, p.first, p.first + (3 * 48 if p.fault == "step that stays" else 70)) for p in planted]
    assert all(any(c == column and a <= row < b for c, a, b in spans) for row, column in changed.tolist())
