"""Make the tables of docs/source-attribution.md: ``python tools/tracing_report.py [--events 24] [--where two]``.

Discharges are let into the simulated water of ``config/stations.toml`` at outfalls and at places no outfall is, one
every 60 hours, at all hours of the tide; beside a decoy (another substance into another reach at the same hours), or
two of one substance at once. A station's readings every ten minutes (2 % noise) are what is known; where ammonia (or
pH, or conductivity) first leaves the range of the day before, the event is traced an hour and six hours later, by the
functions the running system uses. The true source is right when it is the outfall named, or the stretch that holds it;
of two, either is. The opponent names the outfalls upstream of the station by their distance.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import numpy as np

from infra.times import HOUR_MS
from riverchief import files
from sensors import source_attribution
from sensors.parameters import catalogue
from sensors.source_attribution import NetworkPoint, PlaceKind, RiverTree
from simulator.physics.world import World
from simulator.scenario import Event, EventKind, Scenario

START_MS = 1_778_428_800_000  # 2026-05-11
APART_H, LASTS_H = 60, 2
STEP_MS = 600_000
MEASURED = ("nh3n", "do", "ph", "conductivity", "turbidity", "level")
KINDS = {"industrial": (EventKind.ACID, EventKind.BRINE), "other": (EventKind.SEWAGE,)}


@dataclass
class Case:
    """One discharge and where it was put."""

    event: Event
    outfall: str
    beside: "Case | None" = None
    is_decoy: bool = False

    @property
    def sources(self) -> Iterator["Case"]:
        """What a tracing may name."""
        yield self
        if self.beside is not None and not self.is_decoy:
            yield self.beside


WHERE = ("both", "outfalls", "elsewhere", "decoy", "two")


def cases(river: RiverTree, events: int, seed: int, where: str = "both") -> list[Case]:
    """Two of three at outfalls, one anywhere along a creek or river with stations; or as ``where`` says."""
    rng = np.random.default_rng(seed)
    outfalls = list(river.registry.outfalls)
    reaches = sorted({s.reach for s in river.registry.stations} & river.reaches.keys())
    found = []
    for i in range(events):
        start = START_MS + 30 * HOUR_MS + i * APART_H * HOUR_MS + int(rng.integers(0, 25)) * HOUR_MS // 2
        if where == "outfalls" or (where != "elsewhere" and i % 3 < 2):
            o = outfalls[(i // 3 * 2 + i % 3) % len(outfalls)]
            place, reach, km = o.key, o.reach, min(o.km, river.length[o.reach])
            kind = rng.choice(KINDS.get(str(o.kind), KINDS["other"]))
        else:
            reach = reaches[int(rng.integers(len(reaches)))]
            place, km, kind = "", float(rng.uniform(0.05, 0.95) * river.length[reach]), EventKind.SEWAGE
        size = float(rng.uniform(1.0, 2.5))
        event = Event(f"d{i}", EventKind(kind), start, start + LASTS_H * HOUR_MS, size, reach, km, place)
        found.append(Case(event, place))
    if where in ("decoy", "two"):
        found = [_with_another(one, found[(i + 1) % len(found)], where == "decoy", rng) for i, one in enumerate(found)]
    return found


def _with_another(one: Case, other: Case, is_decoy: bool, rng: np.random.Generator) -> Case:
    """A discharge with a second one within two hours where ``other`` is: of another substance, or of the same."""
    start = one.event.start_ms + int(rng.integers(-2, 3)) * HOUR_MS
    kind = one.event.kind
    if is_decoy:
        kind = EventKind.SEWAGE if kind is not EventKind.SEWAGE else EventKind.BRINE
    second = replace(
        other.event, name=f"{one.event.name}b", kind=kind, start_ms=start, end_ms=start + LASTS_H * HOUR_MS
    )
    return replace(one, beside=Case(second, other.outfall), is_decoy=is_decoy)


def nearest(river: RiverTree, station: str) -> list[str]:
    """The outfalls whose water comes to a station, the nearest first."""
    here, found = river.spot(station), []
    for one in river.registry.outfalls:
        if one.reach in river.reaches:
            way = river.path(NetworkPoint(one.reach, min(max(one.km, 0.0), river.length[one.reach])), here)
            if way is not None and not way.upstream_km:
                found.append((way.km, one.key))
    return [key for _, key in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--where", choices=WHERE, default="both")
    parser.add_argument("--show", action="store_true", help="print every ranking")
    options = parser.parse_args()
    registry = files.read_book(Path(__file__).parents[1] / "config" / "stations.toml", catalogue()).registry
    river = RiverTree(registry)
    made = cases(river, options.events, options.seed, options.where)
    days = (made[-1].event.end_ms - START_MS) / 86_400_000 + 3
    scenario = Scenario(
        "tracing",
        "",
        "",
        "",
        "",
        START_MS,
        days,
        events=tuple(e for c in made for e in (c.event, *([c.beside.event] if c.beside else []))),
    )
    world = World(registry, scenario, seed=options.seed)
    rng = np.random.default_rng(options.seed + 1)
    print("| discharge | true source | found at | after h | rank +1 h | rank +6 h | release within window | error h |")
    print("|---|---|---|---|---|---|---|---|")
    ranks: dict[int, list[int]] = {1: [], 6: []}
    plain: list[int] = []
    spent: list[float] = []
    held, errors, unseen = [], [], 0
    for case in made:
        e, right = case.event, list[int]()
        at = np.arange(e.start_ms - 48 * HOUR_MS, e.start_ms + 36 * HOUR_MS, STEP_MS)
        at = at[at >= START_MS]
        series: dict[str, dict[str, np.ndarray]] = {}
        for s in registry.stations:
            if s.reach not in river.reaches:
                continue
            values = world.series(s.key, at)
            series[s.key] = {
                k: values[k] * (1 + 0.02 * rng.normal(size=len(at))) if k != "level" else values[k]
                for k in MEASURED
                if k in values and (k in s.parameters or not s.parameters)
            }
        found = _found(world, series, e, at)
        if found is None:
            unseen += 1
            print(f"| {e.kind} | {case.outfall or f'{e.reach} km {e.km:.1f}'} | nowhere | | | | | |")
            continue
        place, since_ms = found
        row = []
        places = [one.outfall for one in case.sources]
        plain.append(next((i for i, key in enumerate(nearest(river, place), 1) if key in places), 99))
        for after, got in ranks.items():
            now_ms = since_ms + after * HOUR_MS
            began = time.perf_counter()
            listed = traced(river, series, at, place, since_ms, now_ms)
            spent.append(time.perf_counter() - began)
            right = [i for i, c in enumerate(listed, 1) if any(_right(c, one) for one in case.sources)]
            got.append(right[0] if right else 99)
            row.append(str(right[0]) if right else "–")
            if options.show:
                for c in listed[:3]:
                    print(f"    {c.name.en} {c.probability:.2f}: " + "; ".join(r.en for r in c.reasons))
        inside = "–"
        error = "–"
        if right:
            c = listed[right[0] - 1]
            held.append(c.early_ms <= e.start_ms <= c.late_ms)
            errors.append(abs(c.likely_ms - e.start_ms) / HOUR_MS)
            inside, error = "yes" if held[-1] else "no", f"{errors[-1]:.1f}"
        source = case.outfall or f"{e.reach} km {e.km:.1f}"
        late = (since_ms - e.start_ms) / HOUR_MS
        print(f"| {e.kind} | {source} | {place} | {late:.1f} | {' | '.join(row)} | {inside} | {error} |", flush=True)
    for title, every in (
        *((f"{after} h after the finding", got) for after, got in ranks.items()),
        ("nearest outfall", plain),
    ):
        got_ = np.array(every)
        shares = ", ".join(f"{(got_ <= n).mean():.0%} among the first {n}" for n in (1, 3, 5))
        print(f"\n{title}, {len(every)} events: {shares}")
    print(
        f"release inside its window: {np.mean(held):.0%}; median error {np.median(errors):.1f} h; "
        f"nobody saw: {unseen}; {np.mean(spent) * 1000:.0f} ms a trace"
    )


def _found(world: World, series: dict[str, dict[str, np.ndarray]], e: Event, at: np.ndarray) -> tuple[str, int] | None:
    """The first station and time at which the event's water stands out (two samples), as a check would find it."""
    best: tuple[str, int] | None = None
    for station, lines in series.items():
        if not (world.marked(station, at).get(e.name, np.zeros(1)).max() > 1e-3):
            continue
        for v in [line for name, line in lines.items() if name in ("nh3n", "ph", "conductivity")]:
            before = v[at < e.start_ms][-144:]
            middle = np.median(before)
            wide = max(np.quantile(np.abs(before - middle), 0.95), 1e-6)
            beyond = (np.abs(v - middle) > 3 * wide) & (at > e.start_ms)
            both = np.flatnonzero(beyond[1:] & beyond[:-1])
            if len(both) and (best is None or at[both[0] + 1] < best[1]):
                best = station, int(at[both[0] + 1])
    return best


def traced(
    river: RiverTree, series: dict[str, dict[str, np.ndarray]], at: np.ndarray, station: str, since_ms: int, now_ms: int
) -> list[source_attribution.Candidate]:
    """As the running system does it, from what is known at ``now_ms``."""
    known = at <= now_ms
    near = [station, *(s for s in river.near(station) if s in series)]
    readings = {
        key: {name: (at[known], line[known]) for name, line in series[key].items() if name != "level"} for key in near
    }
    seen = source_attribution.evidence(readings, station, since_ms, now_ms)
    currents = {}
    for key in near:
        if "level" in series[key]:
            one = source_attribution.current_of_levels(
                at[known], series[key]["level"][known], since_ms - (source_attribution.BACK_H + 6) * HOUR_MS, now_ms
            )
            reach = river.registry[key].reach
            if one is not None and reach not in currents:
                currents[reach] = one
    return source_attribution.rank_sources(river, seen.seen, seen.quiet, currents, rises=seen.rises, falls=seen.falls)


def _right(c: source_attribution.Candidate, case: Case) -> bool:
    if case.outfall:
        return c.kind is PlaceKind.OUTFALL and c.key == case.outfall
    km = case.event.km or 0.0
    return c.kind is PlaceKind.STRETCH and c.reach == case.event.reach and c.from_km - 0.05 <= km <= c.to_km + 0.05


if __name__ == "__main__":
    main()
