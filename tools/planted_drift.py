"""Measure detection of fouling, drift and attenuation planted into any record.

    python tools/planted_drift.py TABLE... [--network "above>below"] [--seed 1] [--every 90] [--only lens]

Nothing is tuned on these, and no labels are needed. A fault grows for some days, stays for a
week and is taken back, as by a cleaning; each sensor has the next one ``--every`` days later, so that its past is its
own again, and a pass over the tables plants one fault in one size. The tables as they are tell what is said where
nothing was planted. Counted is what sends somebody to look, at once or only where nobody did for long, and what flags.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable, Summary, network, read
from sensors.parameters import Parameter, catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.quality.constants import CHECK_DUE, CHECK_DUE_IF_UNVISITED
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.neighbours import neighbour_stations
from sensors.reading import Bits, Floats, Places, QualityTest

PAST_DAYS: Final = 48
"""Days of a sensor's past before anything is planted: as many as a series remembers."""

FAULT_DAYS: Final = 7
"""Days a fault goes on for once it has grown."""

FLAGS: Final = int(QualityTest.ATTENUATED | QualityTest.NEIGHBOURS)
REPORTED: Final = {"due": CHECK_DUE, "due if long unseen": CHECK_DUE | CHECK_DUE_IF_UNVISITED, "flagged": FLAGS}


@dataclass(frozen=True, slots=True)
class Reading:
    """A sensor's values (n,) with a fault that has grown to ``share`` (n,) of its size; ``hours`` between two."""

    value: Floats
    share: Floats
    hours: float
    chance: np.random.Generator


def lens(one: Reading, size: float) -> Floats:
    """Lifted by ``size`` times its clear hours, 2 units at least, and restless by a fifth of that."""
    lift = size * max(float(np.quantile(one.value, 0.1)), 2.0) * grown(one.share)
    return np.asarray(one.value + lift * np.maximum(1.0 + 0.2 * one.chance.standard_normal(len(lift)), 0.0))


def membrane(one: Reading, size: float) -> Floats:
    """Reads less by a share of ``size``, and follows the water with a delay of ten times that many hours."""
    lag_h = 10.0 * size * grown(one.share)
    keep = np.where(lag_h > 0, np.exp(-one.hours / np.maximum(lag_h, 1e-9)), 0.0)
    slow = one.value.copy()
    for i in range(1, len(slow)):
        slow[i] = keep[i] * slow[i - 1] + (1.0 - keep[i]) * one.value[i]
    return np.asarray(slow * (1.0 - size * grown(one.share)))


def grown(share: Floats) -> Floats:
    """What grows does so the faster the more there is: a fifth of it in the first half of the time."""
    return np.asarray(np.expm1(3.0 * share) / np.expm1(3.0))


def off(one: Reading, size: float) -> Floats:
    return one.value + size * one.share


def less(one: Reading, size: float) -> Floats:
    return np.asarray(one.value * (1.0 - size * one.share))


@dataclass(frozen=True, slots=True)
class Fault:
    """``what`` befalls sensors of ``wanted`` kinds, in some sizes, grown in so many days."""

    wanted: Callable[[Parameter], bool]
    what: Callable[[Reading, float], Floats]
    sizes: tuple[float, ...]
    days: tuple[int, ...]


FAULTS: Final = {
    "lens": Fault(lambda p: p.key in ("turbidity", "chla", "algae"), lens, (1.0, 2.0, 4.0), (14, 28)),
    "membrane": Fault(lambda p: p.key == "do", membrane, (0.1, 0.2, 0.4), (14, 28)),
    "cell": Fault(lambda p: p.key == "conductivity", less, (0.1, 0.2, 0.4), (14, 28)),
    "ph": Fault(lambda p: p.key == "ph", off, (0.3, 0.5, 1.0), (9, 18, 30)),
    "temperature": Fault(lambda p: p.key == "water_temp", off, (1.0, 2.0), (9, 18, 30)),
    "gauge": Fault(lambda p: p.key in ("level", "depth"), off, (-0.05, -0.1, -0.2), (0, 9)),
}
"""What is planted; sizes in units of the kind, or as a share of what it reads."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--network", action="append", default=[], help="above>below, of any of the tables")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=90, help="days between two faults of one sensor")
    parser.add_argument("--only", choices=FAULTS, help="one kind of fault alone")
    parser.add_argument("--plain", action="store_true", help="nothing planted: only what is said then")
    options = parser.parse_args()
    tables = [Recorded.of(path, options.network) for path in options.tables]
    print(
        "| nothing planted | sensors | sensor-days | "
        + " | ".join(REPORTED)
        + " |\n|---|---|---|"
        + "---|" * len(REPORTED)
    )
    for one in tables:
        for kind, row in one.said().items():
            print(f"| {one.name}, {kind} | " + " | ".join(str(n) for n in row) + " |", flush=True)
    if options.plain:
        return
    print("\n| planted | size | grown in days | " + " | ".join(REPORTED) + " |\n|---|---|---|" + "---|" * len(REPORTED))
    for name, fault in FAULTS.items():
        if options.only not in (None, name):
            continue
        for days in fault.days:
            for size in fault.sizes:
                chance = np.random.default_rng(options.seed)
                found: Counter[str] = Counter()
                for one in tables:
                    found += one.trial(fault, size, days, options.every, chance)
                cells = [
                    f"{100 * found[verdict] / found['']:.0f} % of {found['']}" if found[""] else "-"
                    for verdict in REPORTED
                ]
                print(f"| {name} | {size:g} | {days} | " + " | ".join(cells) + " |", flush=True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A table, which of its stations lie above which, and its plain verdict: of each station and sensor (s, k) the
    doubts in force on each of its days, -1 where it has no reading."""

    name: str
    table: SensorTable
    ways: tuple[UpstreamPath, ...]

    @classmethod
    def of(cls, path: Path, lines: Sequence[str]) -> "Recorded":
        table = read(path, catalogue(), Summary(path.name))
        place = {name: i for i, name in enumerate(table.names)}
        pairs = [pair for pair in network(lines) if set(pair) <= set(place)]
        return cls(path.name.split(".")[0], table, tuple(UpstreamPath(place[a], place[b]) for a, b in pairs))

    def said(self) -> dict[str, list[int]]:
        """By kind, where nothing was planted: sensors, their days, and how often each thing began to be told."""
        daily_tests, there = self.daily_tests(self.table.values)
        out: dict[str, list[int]] = {}
        for i, sensor in enumerate(self.table.found.sensors):
            row = out.setdefault(sensor.kind_key, [0] * (2 + len(REPORTED)))
            for station in range(len(self.table.names)):
                row[0] += bool(there[station, i].any())
                row[1] += int(there[station, i].sum())
                for n, bits in enumerate(REPORTED.values()):
                    row[2 + n] += len(begun(daily_tests[station, i] & np.uint32(bits) > 0))
        return out

    def trial(self, fault: Fault, size: float, days: int, every: int, chance: np.random.Generator) -> Counter[str]:
        """How many were planted ("") and how many of them told, in each way; never at neighbours in the same pass."""
        found: Counter[str] = Counter()
        for stations in apart(len(self.table.names), self.ways):
            found += self._pass(fault, size, days, every, chance, stations)
        return found

    def _pass(
        self, fault: Fault, size: float, days: int, every: int, chance: np.random.Generator, stations: set[int]
    ) -> Counter[str]:
        values, planted = self.table.values.copy(), []
        first_day = int(self.table.at.min() // DAY_MS)
        for column in range(values.shape[1]):
            if fault.wanted(self.table.found.catalogue.parameters[self.table.found.sensors[column].parameter]):
                for station, rows in self._series(column):
                    if station not in stations:
                        continue
                    at = self.table.at[rows] / DAY_MS - first_day
                    for start in np.arange(
                        at[0] + PAST_DAYS + chance.uniform(0, 20), at[-1] - days - FAULT_DAYS, every
                    ):
                        there = slice(*np.searchsorted(at, [start, start + days + FAULT_DAYS]))
                        if len(np.unique(at[there] // 1)) < 0.8 * (days + FAULT_DAYS):
                            continue
                        share = np.clip((at[there] - start) / max(days, 0.01), 0.0, 1.0)
                        hours = 24.0 * float(np.median(np.diff(at[there])))
                        some = rows[there]
                        values[some, column] = fault.what(Reading(values[some, column], share, hours, chance), size)
                        planted.append((station, column, int(start), int(start + days + FAULT_DAYS) + 1))
        found: Counter[str] = Counter()
        if planted:
            daily_tests, _ = self.daily_tests(values)
            for station, column, begin, end in planted:
                found[""] += 1
                for verdict, bits in REPORTED.items():
                    found[verdict] += bool((daily_tests[station, column, begin + 1 : end + 1] & np.uint32(bits)).any())
        return found

    def _series(self, column: int) -> Iterator[tuple[int, Places]]:
        """The stations that have a sensor for months, and the rows of its readings."""
        for station in range(len(self.table.names)):
            rows = np.flatnonzero((self.table.station == station) & ~np.isnan(self.table.values[:, column]))
            if len(rows) and self.table.at[rows[-1]] - self.table.at[rows[0]] > (PAST_DAYS + FAULT_DAYS) * DAY_MS:
                yield station, rows

    def daily_tests(self, values: Floats) -> tuple[Bits, Floats]:
        """(stations, sensors, days) the doubts in force on each day, and whether there was a reading."""
        kinds = self.table.found.catalogue
        stations, k = len(self.table.names), values.shape[1]
        parameter = np.array([c.parameter for c in self.table.found.sensors], np.int64)
        memory = SeriesState.of(
            np.repeat(np.arange(stations), k).astype(np.int32), np.tile(parameter, stations).astype(np.int32)
        )
        day = self.table.at // DAY_MS
        first = int(day.min())
        shape = (stations, k, int(day.max()) - first + 1)
        daily_tests, there = np.zeros(shape, np.uint32), np.zeros(shape, np.bool_)
        by_day = np.argsort(day, kind="stable")
        for rows in np.split(by_day, np.flatnonzero(np.diff(day[by_day])) + 1):
            column, row = np.nonzero(~np.isnan(values[rows].T))
            series = self.table.station[rows[row]] * k + column
            order = np.lexsort((self.table.at[rows[row]], series))
            series, place, column = series[order], rows[row[order]], column[order]
            verdict = check_quality(
                SeriesReadings(
                    series,
                    parameter[column],
                    self.table.at[place],
                    values[place, column],
                    np.full(len(place), ord("N"), np.uint8),
                ),
                memory,
                kinds,
                network=neighbour_stations(self.ways),
            )
            memory.apply(verdict.carried)
            mine, today = np.unique(series), int(day[rows[0]]) - first
            daily_tests.reshape(-1, shape[2])[mine, today] = memory.daily_tests[mine]
            there.reshape(-1, shape[2])[mine, today] = True
        return daily_tests, there


def apart(stations: int, ways: Sequence[UpstreamPath]) -> list[set[int]]:
    """All stations, in as many groups as it takes that no two of a group are neighbours."""
    beside = neighbour_stations(ways)
    groups: list[set[int]] = []
    for one in range(stations):
        free = next((group for group in groups if not group & set(beside.get(one, ()))), None)
        if free is None:
            groups.append({one})
        else:
            free.add(one)
    return groups


def begun(flagged: np.ndarray) -> Places:
    """The days on which an alarm begins that was off for five days."""
    days = np.flatnonzero(flagged)
    return days[np.diff(days, prepend=-99) > 5]


if __name__ == "__main__":
    main()
