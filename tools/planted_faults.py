"""Measure detection of sensor faults planted into good stretches of any record.

    python tools/planted_faults.py TABLE... [--seed 1] [--every 10] [--by-kind]

Nothing is tuned on these: they need no labels, and any table of sensors will do. One sensor after the other gets a
fault about every ten days, so that its past stays its own, and never two sensors of a station at once. A size is a
multiple of what the sensor's kind lets pass (the floor of its test), or of the sensor's own noise or resolution where
that is more. The table as it is gives the false alarms: runs of flagged readings that no keeper marked.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from planted import HOUR_MS, MONTH_MS

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, Summary, judge, read
from sensors.parameters import Catalogue, catalogue
from sensors.reading import Bools, Flag, Floats, Ints, Places

LEAST: Final = 400
"""Readings of a series before anything is planted into it: some days of past."""

SIZES: Final = (1.5, 3.0, 6.0, 12.0)
HELD_HOURS: Final = (8.0, 16.0, 32.0)
FAULTS: Final = {
    "spike of one reading": SIZES,
    "spike of two": SIZES,
    "burst of five": SIZES,
    "step, back after 3 h": SIZES,
    "step that stays": SIZES,
    "noise for 12 h": (0.5, 1.0, 2.0, 4.0),
    "stuck, hours": HELD_HOURS,
    "zero for 1 h": (1.0,),
    "end of range for 1 h": (1.0,),
}
"""What is planted, and in which sizes."""

COUNTED: Final = {"spike of one reading": 1, "spike of two": 2, "burst of five": 5}
LASTING: Final = {"step, back after 3 h": 3.0, "step that stays": 72.0, "noise for 12 h": 12.0, "zero for 1 h": 1.0,
                  "end of range for 1 h": 1.0}  # fmt: skip
"""For how many readings, or hours; a stuck sensor for as many hours as its size says."""

LEFT_OUT: Final = frozenset({"rain", "flow"})
"""Rain is no state of the water and stands at zero; a flow is what somebody's curve makes of a level."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault: its rows in the table, first and last, and its column."""

    fault: str
    size: float
    column: int
    first: int
    last: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=10.0, help="days between two faults of one sensor")
    parser.add_argument("--by-kind", action="store_true", help="a table for each parameter as well")
    options = parser.parse_args()
    found: Counter[tuple[str, str, float]] = Counter()
    tried: Counter[tuple[str, str, float]] = Counter()
    alarms: list[tuple[str, int, float]] = []
    for path in options.tables:
        one = trial(path, catalogue(), np.random.default_rng(options.seed), options.every)
        tried.update(one[0])
        found.update(one[1])
        alarms.append((path.name.split(".")[0], *one[2]))
    print("\n".join(lines(tried, found, "")))
    if options.by_kind:
        for kind in sorted({kind for kind, _, _ in tried}):
            print(f"\n{kind}\n\n" + "\n".join(lines(tried, found, kind)))
    print("\n| nothing planted | false alarms | sensor-months | a sensor-month |\n|---|---|---|---|")
    for name, runs, months in alarms:
        print(f"| {name} | {runs} | {months:.1f} | {runs / max(months, 0.01):.2f} |")


def lines(tried: Counter[tuple[str, str, float]], found: Counter[tuple[str, str, float]], kind: str) -> list[str]:
    """One row a fault: the share found of those tried, by size; of one parameter, or of all."""
    out = ["| planted | found, by size |", "|---|---|"]
    for fault, sizes in FAULTS.items():
        cells = []
        for size in sizes:
            keys = [key for key in tried if key[1:] == (fault, size) and kind in ("", key[0])]
            many, right = sum(tried[key] for key in keys), sum(found[key] for key in keys)
            cells.append(f"{size:g}: {100 * right / many:.0f} % of {many}" if many else f"{size:g}: -")
        out.append(f"| {fault} | {', '.join(cells)} |")
    return out


def trial(
    path: Path, kinds: Catalogue, chance: np.random.Generator, every: float
) -> tuple[Counter[tuple[str, str, float]], Counter[tuple[str, str, float]], tuple[int, float]]:
    """Of one table: what was planted and what of it was found, by (parameter, fault, size), and the false alarms."""
    table = read(path, kinds, Summary(path.name))
    marked = labels(path, table)
    plain = flagged(judge(table).packed)
    tried: Counter[tuple[str, str, float]] = Counter()
    found: Counter[tuple[str, str, float]] = Counter()
    values, planted = plant(table, marked | plain, chance, every)
    found_flags = flagged(judge(replace(table, values=values)).packed)
    for one in planted:
        kind = table.found.sensors[one.column].kind_key
        tried[kind, one.fault, one.size] += 1
        found[kind, one.fault, one.size] += bool(found_flags[one.first : one.last + 3, one.column].any())
    return tried, found, false_alarms(table, plain, marked)


def flagged(packed: Ints) -> Bools:
    return np.asarray((packed & 15) >= Flag.SUSPECT)


def labels(path: Path, table: SensorTable) -> Bools:
    """(rows, sensors) what the keeper of the record marked or did not judge; nothing where the table has no labels."""
    out = np.zeros(table.values.shape, np.bool_)
    frame = pl.read_csv(path, infer_schema_length=None)
    if not any(name.startswith("anomaly_") for name in frame.columns):
        return out
    times = frame["time"].str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms").dt.epoch("ms")
    place = {name: i for i, name in enumerate(table.names)}
    row_of = {key: i for i, key in enumerate(zip(table.station.tolist(), table.at.tolist(), strict=True))}
    keys = zip(frame["station"].cast(pl.String).to_list(), times.to_list(), strict=True)
    rows = np.array([row_of[place[station], at] for station, at in keys])
    for i, sensor in enumerate(table.found.sensors):
        name = f"anomaly_{sensor.name}"
        if name in frame.columns:
            out[rows, i] = frame[name].cast(pl.Float64, strict=False).fill_null(1.0).to_numpy() != 0.0
    return out


def unit(x: Floats, floor: float, relative: bool) -> Floats:
    """(n,) what a fault is a multiple of, at each reading: the kind's floor, the sensor's noise or its resolution."""
    level = np.maximum(running_median(np.abs(x)), 1e-9) if relative else np.ones(len(x))
    bend = np.abs(x[1:-1] - (x[:-2] + x[2:]) / 2.0) / level[1:-1]
    noise = float(np.median(bend)) / 0.826  # of white noise of one unit the median bend is 0.826
    steps = np.abs(np.diff(x))
    resolution = float(np.quantile(steps[steps > 0], 0.02)) if (steps > 0).any() else 0.0
    return np.maximum(max(noise, floor) * level, resolution)


def running_median(x: Floats) -> Floats:
    """(n,) the median of fifteen readings before each, of what there is at the start."""
    padded = np.concatenate([np.full(14, x[0]), x])
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 15), axis=1))


def plant(table: SensorTable, taken: Bools, chance: np.random.Generator, every: float) -> tuple[Floats, list[Planted]]:
    """The values with faults in them, none where anything is marked or flagged already; and what was planted."""
    values = table.values.copy()
    planted: list[Planted] = []
    kinds = table.found.catalogue
    menu = [(fault, size) for fault, sizes in FAULTS.items() for size in sizes]
    for station in range(len(table.names)):
        mine = np.flatnonzero(table.station == station)
        columns = [
            i
            for i, sensor in enumerate(table.found.sensors)
            if sensor.kind_key not in LEFT_OUT and (~np.isnan(values[mine, i])).sum() > 2 * LEAST
        ]
        for turn, column in enumerate(columns):
            rows = mine[~np.isnan(values[mine, column])]
            kind = kinds.parameters[table.found.sensors[column].parameter]
            size_of = unit(values[rows, column], kind.spike, kind.relative)
            at = table.at[rows]
            when = at[LEAST] + turn * every * DAY_MS / len(columns)
            order: list[tuple[str, float]] = []
            while when < at[-1] - 3 * DAY_MS:
                order = order or [menu[i] for i in chance.permutation(len(menu))]
                fault, size = order.pop()
                first = int(np.searchsorted(at, when + chance.uniform(0, DAY_MS)))
                series = Series(rows, at, values[:, column], taken[:, column], size_of, kind.plausible[1])
                if (one := series.spoil(first, fault, size, chance)) is not None:
                    planted.append(Planted(fault, size, column, *one))
                when += every * DAY_MS
    return values, planted


@dataclass(frozen=True, slots=True)
class Series:
    """One sensor at one station: its rows in the table and their times, the whole column, what must not be touched
    there; what a size of one is at each reading, and the end of the range."""

    rows: Places
    at: Ints
    value: Floats
    taken: Bools
    size_of: Floats
    top: float

    def spoil(self, first: int, fault: str, size: float, chance: np.random.Generator) -> tuple[int, int] | None:
        """In place: a fault from the series' reading ``first`` on; its first and last row, None without room."""
        end = first + COUNTED[fault] if fault in COUNTED else self._after(first, LASTING.get(fault, size))
        around = slice(max(first - 12, 0), end + 12)
        if end > len(self.rows) - 12 or end == first or self.taken[self.rows[around]].any():
            return None
        if np.diff(self.at[around]).max() > 3 * HOUR_MS:
            return None
        some, one = self.rows[first:end], self.size_of[first]
        value = self.value
        up = chance.random() < 0.5 or value[some[0]] < 2 * size * one
        height = size * one if up else -size * one
        if fault == "noise for 12 h":
            value[some] += size * one * chance.standard_normal(len(some))
        elif fault == "stuck, hours":
            value[some] = value[some[0]]
        elif fault == "burst of five":
            value[some] += height * chance.uniform(0.5, 1.5, len(some))
        elif fault in ("zero for 1 h", "end of range for 1 h"):
            if value[some].min() <= 2 * one or not np.isfinite(self.top):
                return None
            value[some] = 0.0 if fault == "zero for 1 h" else self.top
        else:
            value[some] += height
        last = min(end - first, 5) if fault.startswith("step") else end - first
        return int(some[0]), int(some[last - 1])

    def _after(self, first: int, hours: float) -> int:
        return int(np.searchsorted(self.at, self.at[first] + hours * HOUR_MS))


def false_alarms(table: SensorTable, found_flags: Bools, marked: Bools) -> tuple[int, float]:
    """Runs of flagged readings no keeper marked (four readings apart at least), and the sensor-months looked at."""
    runs, months = 0, 0.0
    for station in range(len(table.names)):
        mine = np.flatnonzero(table.station == station)
        for column in range(table.values.shape[1]):
            rows = mine[~np.isnan(table.values[mine, column])]
            good = rows[~marked[rows, column]]
            if len(good) < LEAST:
                continue
            months += len(good) * float(np.median(np.diff(table.at[good]))) / MONTH_MS
            number = np.flatnonzero(found_flags[rows, column] & ~_widened(marked[rows, column]))
            runs += int(len(number) > 0) + int((np.diff(number) > 4).sum())
    return runs, months


def _widened(marked: Bools) -> Bools:
    """Marked, or within two readings of it: keepers mark a little more or less than a test does."""
    out = marked.copy()
    for back in (1, 2):
        out[back:] |= marked[:-back]
        out[:-back] |= marked[back:]
    return out


if __name__ == "__main__":
    main()
