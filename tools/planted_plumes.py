"""How many discharges planted into recorded water are found: ``python tools/planted_plumes.py DATA_FOLDER``.

The public records without event labels (not part of this repository) are real water, and nothing was ever set to find a
discharge in them. Every five days one is added to all sensors it would move, in physical units and not in what is
usual for the sensor, rising for half an hour to three hours, staying, and fading; the detector looks at the whole
record as ``riverchief assess`` does. Of two stations on one creek the lower one gets it later, thinner and longer.
A second table says how many of the alarms that were so sure were right, where one discharge passes a station a month.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from riverchief.assess import Read, Summary, judge, read
from sensors.parameters import catalogue
from sensors.quality.events import Alarms
from sensors.quality.upstream import Way
from sensors.reading import Floats, Ints, Places
from sensors.times import DAY_MS

HOUR_MS: Final = 3_600_000
EVERY_MS: Final = 5 * DAY_MS
MONTH_MS: Final = 30.44 * DAY_MS

KINDS: Final = {
    # at full strength: what is added to the reading (canonical unit), and to each one of it. Our own round figures for
    # a plume worth a visit; salts in µS/cm are added, not multiplied: an estuary does not notice them
    "sewage": {"conductivity": (150.0, 0.0), "do": (0.0, -0.5), "ph": (-0.3, 0.0), "turbidity": (5.0, 1.0),
               "fdom": (0.0, 0.8), "water_temp": (0.5, 0.0)},
    "acid": {"ph": (-1.5, 0.0), "conductivity": (80.0, 0.0)},
    "alkali": {"ph": (1.2, 0.0), "conductivity": (80.0, 0.0)},
    "brine": {"conductivity": (600.0, 0.0), "do": (0.0, -0.05)},
    "oxygen demand": {"do": (0.0, -0.6), "ph": (-0.25, 0.0), "conductivity": (60.0, 0.0)},
    "sediment": {"turbidity": (30.0, 6.0), "do": (0.0, -0.08)},
}  # fmt: skip

RECORDS: Final = {
    # name: (file, minutes between readings, stations from above to below)
    "Pringle Creek, 5 min": ("neon_pringle_creek_clean", 5, ("pringle_creek_upstream", "pringle_creek_downstream")),
    "Pringle Creek, 15 min": ("neon_pringle_creek_clean", 15, ("pringle_creek_upstream", "pringle_creek_downstream")),
    "Logan": ("logan_river_labelled", 15, ()),
    "Logan, raw years": ("logan_river_raw_long", 15, ()),
    "Cat Point": ("nerrs_apacpwq_labelled", 15, ()),
    "Herbert": ("herbert_river_labelled", 30, ()),
}


EDGES: Final = (0.2, 0.45, 0.6, 0.8)
BINS: Final = ("doubtful", "20 to 45 % sure", "45 to 60 %", "60 to 80 %", "more")
LITTLE: Final = 0.2
"""A record of which no more of the discharges are found says nothing of how sure alarms are."""


@dataclass(frozen=True, slots=True)
class Plume:
    """One passage at a station: above a tenth of its peak from ``begin`` to ``end`` (ms)."""

    kind: str
    station: int
    begin: int
    end: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="so many times over, at other moments (default 3)")
    asked = parser.parse_args()
    sure: dict[str, list[tuple[float, float]]] = {}
    print(f"| record | {' | '.join(KINDS)} | all | delay min | other alarms a station-month |")
    print("|---" * (len(KINDS) + 4) + "|")
    for name, (file, minutes, chain) in RECORDS.items():
        table = thinned(read(asked.data / f"{file}.csv.gz", catalogue(), Summary(file)), minutes)
        for lower in (False, True) if chain else (False,):
            edges = (Way(table.names.index(chain[0]), table.names.index(chain[1])),) if lower else ()
            full = f"{name}{', told which lies above' if lower else ''}"
            line, told = row(full, table, chain, edges, asked.seeds)
            print(line)
            if lower or not chain:
                sure[full] = told
    print(f"\n| record | {' | '.join(BINS)} |")
    print("|---" * (len(BINS) + 1) + "|")
    known = {name: told for name, told in sure.items() if sum(hit for hit, _ in told) > LITTLE}
    known["all, each record alike"] = [
        (sum(hit for hit, _ in one), sum(false for _, false in one)) for one in zip(*known.values(), strict=True)
    ]
    for name, told in known.items():
        print(f"| {name} | {' | '.join(f'{100 * a / (a + b):.0f} %' if a + b else '' for a, b in told)} |")


def thinned(table: Read, minutes: int) -> Read:
    rows = np.flatnonzero(table.at // 60_000 % minutes == 0)
    return replace(table, station=table.station[rows], at=table.at[rows], values=table.values[rows])


def row(
    name: str, table: Read, chain: tuple[str, ...], edges: tuple[Way, ...], seeds: int
) -> tuple[str, list[tuple[float, float]]]:
    """A line of the table: found of planted by kind, how soon, and what else was told. And by how sure the alarms were,
    the share of the discharges they found, and how many a station-month tell of the record without them."""
    first = np.zeros(len(BINS))
    planted, found, delays, others, months = Counter[str](), Counter[str](), list[float](), 0, 0.0
    for seed in range(seeds):
        values, plumes = with_plumes(table, chain, np.random.default_rng(seed))
        alarms = judge(replace(table, values=values), edges).alarms
        for plume in plumes:
            first += by_sureness(alarms.take(rows_of(alarms, plume)[:1]))
        alarms = alarms.take(np.flatnonzero(alarms.doubt == 0))
        explained = np.zeros(len(alarms.at), np.bool_)
        for plume in plumes:
            mine = rows_of(alarms, plume)
            explained[mine] = True
            planted[plume.kind] += 1
            if len(mine):
                found[plume.kind] += 1
                delays.append((int(alarms.at[mine[0]]) - plume.begin) / 60_000)
        others += runs(alarms.take(np.flatnonzero(~explained)))
        months += sum(float(np.ptp(table.at[table.station == i])) for i in range(len(table.names))) / MONTH_MS
    cells = [f"{found[kind]} of {planted[kind]}" if planted[kind] else "" for kind in KINDS]
    delay = f"{np.median(delays):.0f}" if delays else ""
    share = 100 * found.total() / planted.total()
    line = f"| {name} | {' | '.join(cells)} | **{share:.0f} %** | {delay} | {others / months:.2f} |"
    false = seeds / months * by_sureness(one_each(judge(table, edges).alarms))
    return line, list(zip((first / planted.total()).tolist(), false.tolist(), strict=True))


def one_each(alarms: Alarms) -> Alarms:
    """The first alarm of each that has six hours of calm before it."""
    apart = (np.diff(alarms.at) > 6 * HOUR_MS) | (np.diff(alarms.station) != 0)
    return alarms.take(np.flatnonzero(np.append(len(alarms.at) > 0, apart)[: len(alarms.at)]))


def by_sureness(alarms: Alarms) -> Floats:
    """How many alarms were how sure."""
    confidence = [alarms.meaning(i).confidence for i in range(len(alarms.at))]
    return np.bincount(np.searchsorted(EDGES, confidence, side="right"), minlength=len(BINS)).astype(np.float64)


def rows_of(alarms: Alarms, plume: Plume) -> Places:
    """The alarms that found a plume: from its beginning on, and until two hours after it."""
    when = (alarms.at >= plume.begin) & (alarms.at <= plume.end + 2 * HOUR_MS)
    return np.flatnonzero(when & (alarms.station == plume.station))


def runs(alarms: Alarms) -> int:
    """Alarms with six hours of calm between them are several."""
    apart = np.diff(alarms.at) > 6 * HOUR_MS
    return int(len(alarms.at) > 0) + int((apart | (np.diff(alarms.station) != 0)).sum())


def with_plumes(table: Read, chain: tuple[str, ...], random: np.random.Generator) -> tuple[Floats, list[Plume]]:
    """The values of a record with discharges in them, and where these are."""
    values, plumes = table.values.copy(), []
    lower = table.names.index(chain[1]) if chain else -1
    for station in range(len(table.names)):
        if station == lower:
            continue
        for begin in moments(table.at[table.station == station], random):
            kind = list(KINDS)[int(random.integers(len(KINDS)))]
            strength = float(random.uniform(0.4, 1.0))
            rise, stay, fade = (random.uniform(0.5, 3.0, 3) * HOUR_MS).tolist()
            if kind == "oxygen demand":
                rise *= 1.5  # bacteria take their time
            plumes += plant(table, values, station, kind, begin, strength, (rise, stay, fade))
            if chain:
                lag, thinner = int(random.uniform(1.0, 4.0) * HOUR_MS), float(random.uniform(0.4, 0.8))
                shape = (1.3 * rise, 1.3 * stay, 1.3 * fade)
                plumes += plant(table, values, lower, kind, begin + lag, thinner * strength, shape)
    return values, plumes


def moments(at: Ints, random: np.random.Generator) -> Iterator[int]:
    """About every five days, at any time of the day, once the station knows its water for five."""
    for day in range(int(at[0]) + EVERY_MS, int(at[-1]) - EVERY_MS, EVERY_MS):
        yield day + int(random.uniform(0, 3 * DAY_MS))


def plant(
    table: Read, values: Floats, station: int, kind: str, begin: int, strength: float, shape: tuple[float, ...]
) -> list[Plume]:
    """Lay a plume over ``values``; none where the station hardly speaks, or has no sensor for it."""
    rise, stay, fade = shape
    rows = np.flatnonzero((table.station == station) & (table.at >= begin) & (table.at < begin + DAY_MS))
    after = (table.at[rows] - begin).astype(np.float64)
    tail = np.maximum(after - rise - stay, 0.0)
    size = strength * np.where(after < rise, 0.5 - 0.5 * np.cos(np.pi * after / rise), np.exp(-tail / fade))
    inside = np.flatnonzero(size >= 0.1 * strength)
    columns = {table.found.catalogue.parameters[c.parameter].key: i for i, c in enumerate(table.found.sensors)}
    moved = {columns[key]: by for key, by in KINDS[kind].items() if key in columns}
    heard = ~np.isnan(values[rows[inside]][:, list(moved)])
    if not len(inside) or not moved or heard.mean() < 0.8 or len(heard) * 4 < np.ptp(after[inside]) / HOUR_MS:
        return []
    for column, (plus, times) in moved.items():
        before = values[rows, column]
        real = before > -100.0  # a logger's code stays one
        values[rows[real], column] = (before + size * (plus + times * before))[real]
    return [Plume(kind, station, int(table.at[rows[inside[0]]]), int(table.at[rows[inside[-1]]]))]


if __name__ == "__main__":
    main()
