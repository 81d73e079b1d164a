"""What tests and constants are worth: ``python -m tools.ablate DATA_FOLDER [--seed N] [--only faults] [--sample]``.

Leaves out each fault test and event rule in turn, halves and doubles each constant of the fault tests, and prints how
F1 falls: on the labelled records, and on faults and plumes injected into clean ones. A record is a river: the mean over
rivers has an interval of 90 %, by a bootstrap over the station-months of each. Before that, F1 of each river *left
out*: with the setting, of all that are tried, that is best on the mean of the other rivers.
"""

import argparse
import ast
import importlib
import secrets
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

import sensors.quality
from riverchief.tables import assess
from sensors.quality import moves
from sensors.quality.detectors import sudden_events
from sensors.reading import Bools, Flag, Floats, Ints, QualityTest
from tools.benchmark import inject
from tools.benchmark.inject import Injected
from tools.benchmark.records import MONTH_MS, SOURCES, Record
from tools.benchmark.scorer import LEFT_OUT, MERGE_STEPS, UNJUDGED, match, runs, step_of
from tools.detection import LABELLED, PLACES, PLUME_PLACES, Runner, plume_record, table
from tools.score.matching import Span

RESAMPLES: Final = 1000

NOT_OF_FAULT_TESTS: Final = ("moves", "events", "slow_events", "slow_hours", "slow_range", "slow_neighbours",
                             "sudden_events", "upstream_evidence", "clock_shift", "post_visit_drift", "table_sensors",
                             "explanations", "histograms", "neighbours", "state", "neighbour_departure",
                             "lens_fouling")  # fmt: skip
"""Modules whose constants set no flag in these records, which have no network and no visits."""

DEFINITIONS: Final = ("HOUR_MS", "HOURS_PER_DAY", "LUNAR_DAY_MS", "PARTS_OF_FLOOR", "VISIT_TESTS", "CHECK_DUE",
                      "LENS_FOULED", "CHECK_DUE_IF_UNVISITED", "BELOW_ZERO", "DUE", "STATUS_OVER_RANGE",
                      "SUSPECTED_FAULTS", "LARGEST_PART", "LONG", "RUN_UNIT",
                      "_CROSS_CHECK", "_REVIEWED")  # fmt: skip
"""Units, bits and sizes of arrays: nothing is chosen there."""

SAMPLE: Final = ("Sandy Creek", "simulated", "Herbert", "Pringle")
"""Short records: a constant costs three seconds of a processor for each of its two other values, and not ten."""

RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    # of sudden events: what stands in its place when a rule is left out
    "confirmed by the next": {"_lasting": lambda moves, rows, step, same_after: moves.copy()},
    "confirmed by the one before": {"LONGEST_FAST_STEP_MS": 0},
    "fast readings confirmed": {"FAST_STEP_MS": 0},
    "rain and light": {"explained_by_nature": lambda moves: np.zeros(len(moves), np.bool_)},
    "no alarm at a visit": {"_after_visit": lambda instants, step, new: np.zeros(len(instants.at), np.bool_)},
    "leaps are doubtful": {"_is_leap": lambda leap, lasting, total: np.zeros(len(total), np.bool_)},
    "a climb alone is believed": {"_ramp_counts": lambda role, move: np.zeros(len(role), np.bool_)},
    "second instruments": {"_second_instruments": lambda catalogue: []},
    "particles count half": {"MAX_PARTICLE_MOVE": sudden_events.MAX_MOVE},
    "MIN_EVIDENCE 6": {"MIN_EVIDENCE": 6.0},
    "MIN_EVIDENCE 8": {"MIN_EVIDENCE": 8.0},
    "MIN_MOVE 0.4": {"MIN_MOVE": moves.SMALL_MOVE},
    "MIN_MOVE 1.1": {"MIN_MOVE": 1.1},
    "MIN_OTHERS 2": {"MIN_OTHERS": 2.0},
    "MIN_OTHERS 4.5": {"MIN_OTHERS": 4.5},
}


@dataclass(frozen=True, slots=True)
class Counts:
    """(cells, 3) things that were there, those found, and false alarms, of each station-month of a river."""

    cells: Floats

    def f1(self) -> float:
        return float(_f1(self.cells.sum(axis=0)))

    def resampled(self, chance: np.random.Generator) -> Floats:
        """(RESAMPLES, 3) sums over as many station-months, drawn with replacement."""
        n = len(self.cells)
        return np.asarray(chance.multinomial(n, np.full(n, 1.0 / n), RESAMPLES) @ self.cells)


Rivers = Mapping[str, Counts]


def _f1(sums: Floats) -> Floats:
    there, found, false = np.moveaxis(sums, -1, 0)
    return np.asarray(2 * found / np.maximum(there + found + false, 1))


def counted(record: Record, answers: Iterator[tuple[int, Ints, Bools, Sequence[Span]]]) -> Counts:
    """Count what was found in each series of (station, times, flags, spans), by station and month."""
    first = int(record.table.at.min())
    months = int((int(record.table.at.max()) - first) // MONTH_MS) + 1
    cells = np.zeros((len(record.table.names), months, 3))
    for station, at, flagged, spans in answers:
        delays, false = match(at, flagged, spans)
        for span, delay in zip(spans, delays, strict=True):
            month = int((span.start_ms - first) // MONTH_MS)
            cells[station, month, 0] += 1
            cells[station, month, 1] += delay is not None
        for when in false:
            cells[station, int((when - first) // MONTH_MS), 2] += 1
    heard = np.zeros((len(record.table.names), months), np.bool_)
    heard[record.table.station, ((record.table.at - first) // MONTH_MS).astype(np.intp)] = True
    return Counts(cells[heard])


def labelled_faults(record: Record, flagged: Bools) -> Counts:
    """Against the labels of the keeper, sensor by sensor."""

    def series() -> Iterator[tuple[int, Ints, Bools, Sequence[Span]]]:
        for station, rows in enumerate(record.stations):
            for i, sensor in enumerate(record.table.found.sensors):
                judged = rows[record.bad[rows, i] != UNJUDGED]
                if sensor.kind_key not in LEFT_OUT and len(judged) > 1:
                    at = record.table.at[judged]
                    spans = list(runs(at[record.bad[judged, i] == 1], MERGE_STEPS * step_of(at)))
                    yield station, at, flagged[judged, i], spans

    return counted(record, series())


def injected_faults(record: Record, flagged: Bools, made: Sequence[Injected]) -> Counts:
    """Against what was injected, where the keeper judged the record good."""

    def series() -> Iterator[tuple[int, Ints, Bools, Sequence[Span]]]:
        for station, rows in enumerate(record.stations):
            for i, sensor in enumerate(record.table.found.sensors):
                good = rows[~np.isnan(record.table.values[rows, i]) & (record.bad[rows, i] == 0)]
                spans = [Span(one.start, one.end) for one in made if (one.station, one.sensor) == (station, i)]
                if sensor.kind_key in inject.SIZES and len(good) > 1:
                    yield station, record.table.at[good], flagged[good, i], spans

    return counted(record, series())


def events(record: Record, flagged: Bools, made: Sequence[Injected] | None) -> Counts:
    """Against injected plumes, or against the labels."""

    def series() -> Iterator[tuple[int, Ints, Bools, Sequence[Span]]]:
        for station, rows in enumerate(record.stations):
            at = record.table.at[rows]
            if made is None:
                spans = list(runs(at[record.event[rows] == 1], MERGE_STEPS * step_of(at)))
            else:
                spans = [Span(one.start, one.end) for one in made if one.station == station]
            if len(rows) > 1:
                yield station, at, flagged[rows], spans

    return counted(record, series())


# -- settings --------------------------------------------------------------------------------------------------------


@contextmanager
def setting(module: str, values: Mapping[str, Any]) -> Iterator[None]:
    """With other values of the names of a module of ``sensors.quality``, in every module that imported them."""
    home = importlib.import_module(f"sensors.quality.{module}")
    users = [module for name, module in sys.modules.items() if name.startswith("sensors.quality")]
    changed = [(user, name) for user in users for name in values if getattr(user, name, None) is getattr(home, name)]
    before = [(user, name, getattr(user, name)) for user, name in changed]
    try:
        for user, name in changed:
            setattr(user, name, values[name])
        yield
    finally:
        for user, name, value in before:
            setattr(user, name, value)


def constants() -> Iterator[tuple[str, str, float]]:
    """(module, name, value) of the numbers that the functions of the fault tests read, beside :data:`DEFINITIONS`."""
    package = Path(sensors.quality.__file__).parent
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    functions = (node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    read = {node.id for one in functions for node in ast.walk(one) if isinstance(node, ast.Name)}
    for path, tree in trees.items():
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        if path.stem in NOT_OF_FAULT_TESTS or path.stem == "__init__":
            continue
        home = importlib.import_module(f"sensors.quality.{module}")
        for node in tree.body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            name = node.target.id
            value = getattr(home, name)
            if name in read and name not in DEFINITIONS and type(value) in (int, float):
                yield module, name, value


def other_values(value: float) -> list[float]:
    """Half and double; a number of things stays a whole one."""
    return [value * 0.5, value * 2.0] if isinstance(value, float) else sorted({value // 2, value * 2} - {value})


def fault_rivers(
    run: Runner, seed: int, among: Sequence[str] = (*LABELLED, *PLACES)
) -> dict[str, Callable[[], dict[str, Counts]]]:
    """By river: a function that judges it and counts with all tests, and without each of them."""

    def of(record: Record, score: Callable[[Bools], Counts]) -> Callable[[], dict[str, Counts]]:
        def judged() -> dict[str, Counts]:
            with patch.object(assess, "_alarms", return_value=(None, ())):  # events change no flag
                packed = assess.judge(record.table).packed
            flagged = (packed & 15) >= Flag.SUSPECT
            out = {"": score(flagged)}
            for test in QualityTest:
                by = (packed >> 4) & int(test) != 0
                if by.any():
                    out[test.name or ""] = score(flagged & ~(by & ((packed >> 4) & ~int(test) == 0)))
            return out

        return judged

    found = {}
    for name in (one for one in LABELLED if one in among):
        record = run.record(name)
        found[f"{name}, labels"] = of(record, lambda flagged, r=record: labelled_faults(r, flagged))
    for name in (one for one in PLACES if one in among):
        record, made = inject.with_faults(run.record(name).clean(), seed)
        found[f"{name}, injected"] = of(record, lambda flagged, r=record, m=made: injected_faults(r, flagged, m))
    return found


def event_rivers(run: Runner, seed: int) -> dict[str, Callable[[], dict[str, Counts]]]:
    """By river: a function that decides its events anew, the departures of its sensors being measured once."""

    def of(record: Record, made: Sequence[Injected] | None) -> Callable[[], dict[str, Counts]]:
        with patch.object(assess, "_alarms", return_value=(None, ())) as asked:
            assess.judge(record.table, record.paths)
        given = asked.call_args.args
        key = record.table.station.astype(np.int64) * 2**44 + record.table.at

        def judged() -> dict[str, Counts]:
            alarms, _ = assess._alarms(*given)
            sure = alarms.discount == 0
            flagged = np.isin(key, alarms.station[sure].astype(np.int64) * 2**44 + alarms.at[sure])
            return {"": events(record, flagged, made)}

        return judged

    found = {"GECCO, labels": of(run.record("GECCO"), None)}
    found["simulated, labels"] = of(run.record("simulated", network=True), None)
    for place in PLUME_PLACES:
        record, made = inject.with_plumes(plume_record(run, place), seed)
        found[f"{place}, injected"] = of(record, made)
    return found


def tried(judges: Mapping[str, Callable[[], dict[str, Counts]]], settings: Mapping[str, Any]) -> dict[str, Rivers]:
    """By what was left out or set: the counts of each river; the empty name is what is shipped."""
    out: dict[str, dict[str, Counts]] = {}

    def add(name: str, found: Mapping[str, dict[str, Counts]]) -> None:
        shipped = found if not name else {river: {"": one[""]} for river, one in found.items()}
        for river, by_test in shipped.items():
            for test, counts in by_test.items():
                out.setdefault(name or (f"without {test}" if test else ""), {})[river] = counts

    add("", {river: judge() for river, judge in judges.items()})
    for name, (module, values) in settings.items():
        try:
            with setting(module, values):
                add(name, {river: judge() for river, judge in judges.items()})
        except (IndexError, ValueError) as error:  # the size of an array, too
            print(f"{name}: cannot be set ({error})", file=sys.stderr)
    return out


# -- tables ----------------------------------------------------------------------------------------------------------


def left_out(results: Mapping[str, Rivers]) -> Iterator[str]:
    """F1 of each river with the setting that is best on the others; all records of a river are left out together."""
    rivers = list(results[""])
    settings = {name: by for name, by in results.items() if not name.startswith("without")}
    rows = []
    for river in rivers:
        others = [one for one in rivers if river_of(one) != river_of(river)]
        best = max(settings, key=lambda name: np.mean([settings[name][one].f1() for one in others]))
        f1 = settings[best][river].f1()
        rows.append((river, f"**{f1:.3f}**", f"{results[''][river].f1():.3f}", best or "as shipped"))
    yield f"**Left out**: best of {len(settings)} settings on the other rivers\n"
    yield from table(("river", "F1 left out", "F1 as shipped", "setting"), rows)


def river_of(label: str) -> str:
    """The river of a row, which begins with the name of a record."""
    return next(SOURCES[name].river for name in sorted(SOURCES, key=len, reverse=True) if label.startswith(name))


def worth(results: Mapping[str, Rivers], seed: int) -> Iterator[str]:
    """How much lower F1 is with each change, by river and in the mean, with its interval."""
    rivers = list(results[""])
    rows, useful = [], defaultdict[str, list[bool]](list)
    for name, by in results.items():
        if not name:
            continue
        drawn = []
        differences = []
        for number, river in enumerate(rivers):
            shipped, changed = results[""][river], by.get(river, results[""][river])
            both = Counts(np.concatenate([shipped.cells, changed.cells], axis=1))
            sums = both.resampled(np.random.default_rng(seed + number))
            drawn.append(_f1(sums[:, :3]) - _f1(sums[:, 3:]))
            differences.append(shipped.f1() - changed.f1())
        low, high = np.quantile(np.mean(drawn, axis=0), (0.05, 0.95))
        useful[name.rsplit(" ", 1)[0]].append(bool(low > 0))
        cells = [f"{1000 * one:+.0f}" if one else "" for one in differences]
        rows.append((name, f"{1000 * np.mean(differences):+.0f} ({1000 * low:+.0f} to {1000 * high:+.0f})", *cells))
    yield "**Worth** in thousandths of F1: how much lower it is without, or so; mean over rivers, 90 % interval\n"
    yield from table(("left out or set", "mean", *rivers), rows)
    idle = [name for name, values in useful.items() if "." in name and not any(values)]
    if idle:
        yield f"{len(idle)} constants without worth at either value: {', '.join(idle)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: drawn anew")
    parser.add_argument("--only", choices=("faults", "events"), action="append")
    parser.add_argument("--tests-alone", action="store_true", help="faults: leave out tests, set no constants")
    parser.add_argument("--sample", action="store_true", help="faults: short records alone, eight minutes")
    options = parser.parse_args()
    run = Runner(options.data, {})
    print(f"Seed {options.seed}\n")
    if "faults" in (options.only or ("faults",)):
        found = () if options.tests_alone else constants()
        settings = {
            f"{module}.{name} {value:g}": (module, {name: value})
            for module, name, shipped in found
            for value in other_values(shipped)
        }
        among = SAMPLE if options.sample else (*LABELLED, *PLACES)
        show(tried(fault_rivers(run, options.seed, among), settings), options.seed)
    if "events" in (options.only or ("events",)):
        rules = {name: ("detectors.sudden_events", values) for name, values in RULES.items()}
        show(tried(event_rivers(run, options.seed), rules), options.seed)


def show(results: Mapping[str, Rivers], seed: int) -> None:
    for text in (*left_out(results), *worth(results, seed)):
        print(text, flush=True)


if __name__ == "__main__":
    main()
