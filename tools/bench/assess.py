"""``bench assess``: values checked a second on one core, all quality tests and events.

Processor time is measured, so that what else runs on the machine does not count.

A made table of rivers with daily rhythms, tides, noise and some faults, in memory and as ``riverchief assess`` reads
and writes files, every 5 and every 15 minutes. Beside it, in the same run, what the simplest check costs on the same
columns: a rolling z-score of a week with polars; range, constancy and local outliers by SaQC where that is installed;
and the same tests as the live ingest calls them, one reading of every series at a time.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from infra.texts import line, say
from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, assess_file, judge
from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
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
    table = made_table(RIVERS, DAYS)
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
    simple = z_score(table)
    quarter_hours = made_table(RIVERS, 2 * DAYS, 900_000)
    with console.status(line("bench.live")):
        live = _live()
    return {
        "bench": "assess",
        "machine": machine(),
        "values": values,
        "values_per_s": round(values / seconds),
        "file_values_per_s": round(values / _file(table)),
        "file_15_min_values_per_s": round(quarter_hours.values.size / _file(quarter_hours)),
        "saqc_values_per_s": _saqc(table),
        "z_score_values_per_s": round(values / simple),
        "share_of_z_score": round(simple / seconds, 3),
        "live_values_per_s": round(live),
    }


def made_table(stations: int, days: int, step_ms: int = STEP_MS) -> SensorTable:
    """A table as ``riverchief assess`` reads it: daily rhythm, tide and noise, a spike a day and a stuck sensor."""
    rng = np.random.default_rng(1)
    n = days * DAY_MS // step_ms
    at = START_MS + step_ms * np.arange(n)
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


def z_score(table: SensorTable) -> float:
    """Seconds of the simplest check on the same columns."""
    frame = pl.DataFrame({str(i): table.values[:, i] for i in range(table.values.shape[1])})
    week = 7 * DAY_MS // STEP_MS
    began = time.process_time()
    frame.with_columns(
        ((pl.all() - pl.all().rolling_mean(week)) / pl.all().rolling_std(week)).abs().name.suffix("_z") > 4.0
    )
    return time.process_time() - began


def _file(table: SensorTable) -> float:
    """Seconds from a CSV file to the file of its findings."""
    columns = {c.name: table.values[:, i] for i, c in enumerate(table.found.sensors)}
    times = pl.Series(table.at).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = pl.DataFrame({"station": np.array(table.names)[table.station], "time": times, **columns})
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "table.csv"
        frame.write_csv(source)
        began = time.process_time()
        assess_file(source, source.with_name("found.csv"), catalogue())
        return time.process_time() - began


def _saqc(table: SensorTable) -> int | None:
    """Values a second of SaQC, with the usual three tests, on one river of the table."""
    try:
        import pandas as pd
        from saqc import SaQC
    except ImportError:
        return None
    n, names = int((table.station == 0).sum()), [c.name for c in table.found.sensors]
    checks = SaQC(pd.DataFrame(table.values[:n], index=pd.to_datetime(table.at[:n], unit="ms"), columns=names))
    began = time.process_time()
    for name in names:
        checks = checks.flagRange(name, min=-5, max=5000).flagConstants(name, thresh=1e-9, window="3h")
        checks = checks.flagUniLOF(name, thresh=1.5)
    return round(n * len(names) / (time.process_time() - began))


def _live() -> float:
    """Values a second where every batch brings one reading of every series."""
    kinds, k = catalogue(), len(COLUMNS)
    parameter = np.tile([kinds.index[name] for name in COLUMNS], LIVE_STATIONS)
    memory = SeriesState.of(np.repeat(np.arange(LIVE_STATIONS, dtype=np.int32), k), parameter.astype(np.int32))
    table = made_table(1, 2)
    series, letters = np.arange(LIVE_STATIONS * k), np.full(LIVE_STATIONS * k, ord("N"), np.uint8)
    seconds = 0.0
    for row in range(LIVE_BATCHES):
        values = np.tile(table.values[row], LIVE_STATIONS)
        at = np.full(len(series), table.at[row])
        began = time.process_time()
        memory.apply(check_quality(SeriesReadings(series, parameter, at, values, letters), memory, kinds).carried)
        seconds += time.process_time() - began
    return LIVE_BATCHES * len(series) / seconds
