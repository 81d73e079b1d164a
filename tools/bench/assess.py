"""``bench assess``: values checked a second on one core, all quality tests and events.

Processor time is measured, so that what else runs on the machine does not count.

A made month-long table of rivers with daily rhythms, tides, noise and some faults. Beside it, in the same run, what the
simplest check costs on the same columns: a rolling z-score of a week with polars; and the same tests as the live ingest
calls them, one reading of every series at a time.
"""

import time
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from infra.texts import line, say
from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, judge
from sensors.parameters import catalogue
from sensors.quality import SeriesState, check_quality
from sensors.quality.table_sensors import find_sensors
from sensors.reading import Floats
from tools.bench.rig import BenchFailed, Plan, machine

COLUMNS = ("water_temp", "ph", "do", "conductivity", "turbidity", "nh3n")
STEP_MS = 300_000
DAYS = 60
ROUNDS = 3
"""The middle one of so many counts: the first pays for pages of memory that nobody had touched."""
START_MS = 1_767_225_600_000
RIVERS = 8
LIVE_STATIONS = 2000
LIVE_BATCHES = 60


def run(plan: Plan, console: Console) -> dict[str, Any]:
    """The figures, machine and versions; raises BenchFailed when a planted fault is not found."""
    del plan
    table = _table(RIVERS, DAYS)
    values = int((~np.isnan(table.values)).sum())
    with console.status(line("bench.assess", values=values)):
        rounds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            judged = judge(table)
            rounds.append(time.process_time() - began)
        seconds = median(rounds)
    if not ((judged.packed & 15) >= 3).any():
        raise BenchFailed(say("bench.faults"))
    simple = _z_score(table)
    with console.status(line("bench.live")):
        live = _live()
    return {
        "bench": "assess",
        "machine": machine(),
        "values": values,
        "values_per_s": round(values / seconds),
        "z_score_values_per_s": round(values / simple),
        "share_of_z_score": round(simple / seconds, 3),
        "live_values_per_s": round(live),
    }


def _table(stations: int, days: int) -> SensorTable:
    """A table as ``riverchief assess`` reads it: daily rhythm, tide and noise, a spike a day and a stuck sensor."""
    rng = np.random.default_rng(1)
    n = days * DAY_MS // STEP_MS
    at = START_MS + STEP_MS * np.arange(n)
    light, tide = np.sin(2 * np.pi * at / DAY_MS), np.sin(2 * np.pi * at / 44_714_164)
    base = np.array([22.0, 7.4, 6.5, 420.0, 15.0, 0.8])
    swing = np.array([1.0, 0.1, 0.8, 10.0, 0.5, 0.02])
    noise = np.array([0.03, 0.01, 0.05, 1.0, 0.8, 0.02])
    pieces: list[Floats] = []
    for _ in range(stations):
        one = base + swing * (light[:, None] + 0.5 * tide[:, None]) + noise * rng.standard_normal((n, len(base)))
        spikes = rng.choice(n, days, replace=False)
        one[spikes, rng.integers(0, len(base), days)] *= 1.8
        one[n // 2 : n // 2 + 200, 2] = one[n // 2, 2]
        pieces.append(one.round(3))
    return SensorTable(
        [f"river-{i}" for i in range(stations)],
        np.repeat(np.arange(stations), n),
        np.tile(at, stations),
        np.concatenate(pieces),
        find_sensors(COLUMNS, catalogue()),
    )


def _z_score(table: SensorTable) -> float:
    """Seconds of the simplest check on the same columns."""
    frame = pl.DataFrame({str(i): table.values[:, i] for i in range(table.values.shape[1])})
    week = 7 * DAY_MS // STEP_MS
    began = time.process_time()
    frame.with_columns(
        ((pl.all() - pl.all().rolling_mean(week)) / pl.all().rolling_std(week)).abs().name.suffix("_z") > 4.0
    )
    return time.process_time() - began


def _live() -> float:
    """Values a second where every batch brings one reading of every series."""
    kinds, k = catalogue(), len(COLUMNS)
    parameter = np.tile([kinds.index[name] for name in COLUMNS], LIVE_STATIONS)
    memory = SeriesState.of(np.repeat(np.arange(LIVE_STATIONS, dtype=np.int32), k), parameter.astype(np.int32))
    table = _table(1, 2)
    series, letters = np.arange(LIVE_STATIONS * k), np.full(LIVE_STATIONS * k, ord("N"), np.uint8)
    seconds = 0.0
    for row in range(LIVE_BATCHES):
        values = np.tile(table.values[row], LIVE_STATIONS)
        at = np.full(len(series), table.at[row])
        began = time.process_time()
        memory.apply(check_quality(series, parameter, at, values, letters, memory, kinds).carried)
        seconds += time.process_time() - began
    return LIVE_BATCHES * len(series) / seconds
