"""Print the tables of docs/detection.md: ``python -m tools.detection DATA_FOLDER [--quick] [--seed N]``.

Labelled records, faults and plumes injected into clean recorded water, and event alarms where nothing happened, for the
product and for other methods in the same run. Seeds are drawn anew each time and printed.
"""

import argparse
import re
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from infra.times import HOUR_MS
from riverchief.tables.assess import judge
from sensors.quality.events import Outcome
from tools.benchmark import inject
from tools.benchmark.inject import Injected
from tools.benchmark.methods import Method, available
from tools.benchmark.records import MONTH_MS, Record, load
from tools.benchmark.scorer import Flags, Tally, match, score_events, score_faults, step_of
from tools.score.matching import Span

LABELLED: Final = ("Logan", "Sandy Creek", "Herbert", "Cat Point", "simulated")
PLACES: Final = {"Logan": 15, "Sandy Creek": 60, "Herbert": 30, "Cat Point": 15, "Pringle": 5}
PLUME_PLACES: Final = ("Pringle 15 min", "Pringle 15 min, upstream known", "Logan", "Logan raw", "Cat Point (tidal)")
QUIET: Final = ("Pringle", "Logan", "Logan raw", "Cat Point", "Herbert", "Sandy Creek", "CANARY B", "GECCO")
STEPS: Final = (1, 5, 15, 60, 240)
DOUBT_BEFORE_MS: Final = 3_600_000
DOUBT_AFTER_MS: Final = 2 * 3_600_000
"""A doubt that begins so long before or after something that was put in is about it: hours are judged when over."""


class Runner:
    """Records are read once; methods answer once for each table they are asked about."""

    def __init__(self, data: Path, methods: dict[str, Method]) -> None:
        self.data, self.methods = data, methods
        self._records: dict[tuple[str, bool], Record] = {}
        self.used: dict[str, float] = defaultdict(float)
        self.values: Counter[str] = Counter()

    def record(self, name: str, *, network: bool = False) -> Record:
        key = name, network
        if key not in self._records:
            self._records[key] = load(self.data, name, network=network)
        return self._records[key]

    def ask(self, name: str, record: Record) -> Flags:
        begin = time.process_time()
        with np.errstate(all="ignore"):
            flags = self.methods[name](record)
        self.used[name] += time.process_time() - begin
        self.values[name] += int(np.isfinite(record.table.values).sum())
        return flags


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def labelled(run: Runner) -> Iterator[str]:
    yield "**Labelled faults**\n"
    head = ("record", "method", "precision", "recall", "F1", "false a station-month", "delay min", "storm flagged")
    rows = []
    for name in LABELLED:
        record = run.record(name)
        for method in run.methods:
            flags = run.ask(method, record)
            shown = {name: score_faults(record, flags)}
            if name == "Logan":
                shown["Logan without turbidity"] = score_faults(record, flags, ("turbidity",))
            for title, one in shown.items():
                storm = f"{100 * one.natural_flagged / one.natural:.2f} %" if one.natural else ""
                rows.append((title, method, *one.row(), storm))
    yield from table(head, rows)
    yield "**Labelled events**\n"
    rows = []
    for title, name, network in (
        ("GECCO 2018", "GECCO", False),
        ("simulated plumes", "simulated", False),
        ("simulated plumes, upstream known", "simulated", True),
    ):
        record = run.record(name, network=network)
        rows += [(title, method, *score_events(record, run.ask(method, record)).row()) for method in run.methods]
    yield from table(head[:-1], rows)


# -- injected ----------------------------------------------------------------------------------------------------------


def faults_found(record: Record, made: Sequence[Injected], flags: Flags) -> tuple[list[bool], Tally]:
    """Whether each fault was found, and the tally of the record; only what its keeper judged good is looked at."""
    total, found = Tally(), [False] * len(made)
    for station, rows in enumerate(record.stations):
        months = 0.0
        for sensor, one in enumerate(record.table.found.sensors):
            mine = [i for i, it in enumerate(made) if (it.station, it.sensor) == (station, sensor)]
            good = rows[~np.isnan(record.table.values[rows, sensor]) & (record.bad[rows, sensor] == 0)]
            if one.kind_key not in inject.SIZES or len(good) < 2:
                continue
            spans = [Span(made[i].start, made[i].end) for i in mine]
            delays, false = match(record.table.at[good], flags.fault[good, sensor], spans)
            for i, delay in zip(mine, delays, strict=True):
                found[i] = delay is not None
            months = max(months, len(good) * step_of(record.table.at[good]) / MONTH_MS)
            hits = [delay for delay in delays if delay is not None]
            total.add(Tally(len(mine), len(hits), len(false), 0.0, hits))
        total.months += months
    return found, total


def injected(run: Runner, seed: int) -> Iterator[str]:
    yield f"**Faults injected into clean water**, seed {seed}\n"
    by_place, by_kind = [], {method: defaultdict[tuple[str, str], list[bool]](list) for method in run.methods}
    totals = {method: Tally() for method in run.methods}
    called = {method: [0, 0] for method in run.methods}
    for name in PLACES:
        record, made = inject.with_faults(run.record(name).clean(), seed)
        for method in run.methods:
            flags = run.ask(method, record)
            found, one = faults_found(record, made, flags)
            by_place.append((name, method, str(one.there), *one.row()))
            totals[method].add(one)
            totals[method].months += one.months
            for it, hit in zip(made, found, strict=True):
                by_kind[method][it.kind, it.size].append(hit)
                event = bool(flags.event[inject.rows_of(record, it)].any())
                called[method][0] += hit and not event
                called[method][1] += hit or event
    by_place += [("**all**", method, str(one.there), *one.row()) for method, one in totals.items()]
    head = ("place", "method", "faults", "precision", "recall", "F1", "false alarms a station-month", "delay min")
    yield from table(head, by_place)
    rows = []
    for kind in inject.FAULTS:
        for method, found_by in by_kind.items():
            cells = [share(found_by[kind, size]) for size in (*inject.NAMES, "")]
            every = [hit for (k, _), hits in found_by.items() if k == kind for hit in hits]
            false = totals[method].false * len(every) / max(totals[method].there, 1)
            f1 = 2 * sum(every) / max(sum(every) + false + len(every), 1)
            rows.append((kind, method, *cells, f"{f1:.3f}"))
    yield from table(("fault", "method", *inject.NAMES, "any", "F1 at its share of false alarms"), rows)
    right = ", ".join(f"{method} {100 * a / max(n, 1):.1f} %" for method, (a, n) in called.items())
    yield f"Of the faults that were called anything, called a fault and not an event: {right}.\n"


def share(hits: Sequence[bool]) -> str:
    return f"{100 * np.mean(hits):.0f} % of {len(hits)}" if hits else ""


def plume_record(run: Runner, place: str) -> Record:
    """A record by the name of a place: at 15 minutes where it says so, with its network where that is known."""
    name = re.split(r" 15 min| \(", place, maxsplit=1)[0]
    record = run.record(name, network="upstream" in place).clean()
    return record.thinned(15) if "15 min" in place else record


def plumes(run: Runner, seed: int) -> Iterator[str]:
    yield f"**Plumes injected into clean water**, seed {seed}\n"
    rows = []
    for place in PLUME_PLACES:
        record, made = inject.with_plumes(plume_record(run, place), seed)
        for method in run.methods:
            flags = run.ask(method, record)
            delay_h, total = plumes_found(record, made, flags)
            by_kind = ([late for it, late in zip(made, delay_h, strict=True) if it.kind == k] for k in inject.PLUMES)
            shown = [found_in_time(late) for late in by_kind]
            wrong = np.mean([mostly(record, it, flags) for it in made]) if made else 0.0
            rows.append((place, method, *shown, *total.row(), f"{100 * wrong:.0f} %"))
    head = ("place", "method", *inject.PLUMES, "precision", "recall", "F1", "false alarms a station-month",
            "delay min", "called a fault")  # fmt: skip
    yield from table(head, rows)


def found_in_time(delay_h: Sequence[float]) -> str:
    """The share that was found, and that within two hours."""
    found, soon = (share([late <= limit for late in delay_h]) for limit in (sys.float_info.max, 2.0))
    return f"{found}, {soon.split(' of')[0]} in 2 h" if delay_h else ""


def plumes_found(record: Record, made: Sequence[Injected], flags: Flags) -> tuple[list[float], Tally]:
    """The delay of each plume in hours, infinite where it was missed, and all together."""
    total, found = Tally(), [float("inf")] * len(made)
    for station, rows in enumerate(record.stations):
        mine = [i for i, it in enumerate(made) if it.station == station]
        good = rows[~np.isnan(record.table.values[rows]).all(axis=1)]
        if len(good) < 2:
            continue
        at = record.table.at[good]
        delays, false = match(at, flags.event[good], [Span(made[i].start, made[i].end) for i in mine])
        for i, delay in zip(mine, delays, strict=True):
            found[i] = float("inf") if delay is None else delay / HOUR_MS
        hits = [delay for delay in delays if delay is not None]
        total.add(Tally(len(mine), len(hits), len(false), 0.0, hits))
        total.months += len(good) * step_of(at) / MONTH_MS
    return found, total


def mostly(record: Record, it: Injected, flags: Flags) -> bool:
    """Whether more than half the readings of some sensor that a plume moved were called faulty."""
    rows = inject.rows_of(record, it)
    keys = [one.kind_key for one in record.table.found.sensors]
    moved = [i for i, key in enumerate(keys) if key in inject.PLUMES[it.kind][0]]
    return bool((flags.fault[rows][:, moved].mean(axis=0) > 0.5).any())


# -- quiet -------------------------------------------------------------------------------------------------------------


def quiet(run: Runner) -> Iterator[str]:
    yield "**Event alarms a station-month where no event is labelled**, the record thinned to each step\n"
    rows = []
    for name in QUIET:
        full = run.record(name)
        steps = [step for step in STEPS if step >= 0.99 * full.step_min() or step == STEPS[-1]]
        for method in run.methods:
            cells = {step: score_events(thin, run.ask(method, thin)).rate
                     for step in steps for thin in (full.thinned(step),)}  # fmt: skip
            rows.append((name, method, *(f"{cells[s]:.2f}" if s in cells else "" for s in STEPS)))
    yield from table(("record", "method", *(f"{step} min" for step in STEPS)), rows)


# -- doubt -------------------------------------------------------------------------------------------------------------


def doubt(run: Runner, seed: int) -> Iterator[str]:
    """How doubtful events ended, by what really was there: a plume, a fault, or nothing that anybody knows of."""
    yield f"**Doubtful events and how they ended**, seed {seed}\n"
    ended: dict[str, Counter[Outcome]] = defaultdict(Counter)
    records = [(*inject.with_plumes(plume_record(run, place), seed), "plume") for place in PLUME_PLACES]
    records += [(*inject.with_faults(run.record(name).clean(), seed), "fault") for name in PLACES]
    records += [(run.record(name), [], "") for name in QUIET]
    for record, made, kind in records:
        for one in judge(record.table, record.paths).settled:
            there = any(
                it.station == one.station and it.start - DOUBT_BEFORE_MS <= one.since_ms <= it.end + DOUBT_AFTER_MS
                for it in made
            )
            if there or not kind:
                ended[kind if there else "recorded water"][one.outcome] += 1
    rows = []
    for what, counts in ended.items():
        every, device = sum(counts.values()), counts[Outcome.DEVICE]
        right = every - device if what == "plume" else device
        cells = (str(counts[one]) for one in (Outcome.CONFIRMED, Outcome.JOINED, Outcome.DEVICE))
        rows.append((what, str(every), *cells, f"{100 * right / every:.0f} %"))
    head = ("really", "doubtful", "event: confirmed", "event: with a certain one", "device", "ended right")
    yield from table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, the product and ioos_qc alone")
    parser.add_argument("--seed", type=int, help="default: drawn anew")
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds, one after the other")
    parser.add_argument("--only", choices=("labelled", "faults", "plumes", "doubt", "quiet"), action="append")
    parser.add_argument("--method", action="append", help="only these, by name")
    options = parser.parse_args()
    methods = available(quick=options.quick)
    run = Runner(options.data, {k: v for k, v in methods.items() if not options.method or k in options.method})
    first = secrets.randbelow(10**6) if options.seed is None else options.seed
    wanted = options.only or ("labelled", "faults", "plumes", "doubt", "quiet")
    parts = [labelled(run)] if "labelled" in wanted else []
    for seed in range(first, first + options.seeds):
        parts += [injected(run, seed)] if "faults" in wanted else []
        parts += [plumes(run, seed)] if "plumes" in wanted else []
        parts += [doubt(run, seed)] if "doubt" in wanted else []
    parts += [quiet(run)] if "quiet" in wanted else []
    for part in parts:
        for text in part:
            print(text, flush=True)
    speed = ", ".join(
        f"{name} {used:.0f} s, {run.values[name] / max(used, 1e-3):,.0f}/s" for name, used in run.used.items()
    )
    print(f"Processor time, values a second: {speed}", file=sys.stderr)


if __name__ == "__main__":
    main()
