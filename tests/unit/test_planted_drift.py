"""The tool that plants growth and drift into records: what grows on a lens is told, and neighbours are spared."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / "tools" / "planted_drift.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_drift", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted_drift"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Ninety calm days of hourly turbidity, pH and temperature at two stations."""
    n, rng = 90 * 24, np.random.default_rng(1)
    at = np.datetime64("2026-03-01T00:00:00") + np.arange(n) * np.timedelta64(1, "h")
    sun = np.sin(2 * np.pi * np.arange(n) / 24)
    rows = []
    for station in ("示例上", "示例下"):
        lines = (8 + sun, 7.6 + 0.2 * sun, 20 + sun)
        noisy = [line + 0.1 * rng.standard_normal(n) for line in lines]
        rows += [f"{station},{t}Z,{a:.2f},{b:.2f},{c:.2f}" for t, a, b, c in zip(at, *noisy, strict=True)]
    path = tmp_path / "record.csv"
    path.write_text("station,time,turbidity_NTU,pH,water_temp_degC\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_lens_overgrown_fourfold_is_told_and_of_calm_water_nothing(tool: ModuleType, record: Path) -> None:
    table = tool.Recorded.of(record, ["示例上>示例下"])
    said = table.said()
    assert set(said) == {"turbidity", "ph", "water_temp"}
    assert all(row == [2, 180, 0, 0, 0] for row in said.values())
    found = table.trial(tool.FAULTS["lens"], 4.0, 14, 90, np.random.default_rng(1))
    assert found == Counter({"": 2, "due": 2, "due if long unseen": 2})


def test_neighbours_are_never_at_fault_together(tool: ModuleType) -> None:
    ways = [tool.UpstreamPath(0, 1), tool.UpstreamPath(1, 2)]
    assert tool.apart(4, ways) == [{0, 2, 3}, {1}]
