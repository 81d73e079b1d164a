"""Measure detection of discharges planted into recorded water: ``python tools/planted_plumes.py DATA_FOLDER``.

Every five days one is added to all sensors it would move, in physical units and not in what is usual for the sensor,
rising for half an hour to three hours, staying, and fading (``planted.py`` says into which records). Of two stations on
one creek the lower one gets it later, thinner and longer. A second table says how many of the alarms that were so sure
were right, where one discharge passes a station each month.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from planted import HOUR_MS, AlarmShares, Planted, moments, passage, records, sensors_of, sureness, tried

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable
from sensors.reading import Floats

EVERY_MS: Final = 5 * DAY_MS

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="so many times over, at other moments (default 3)")
    options = parser.parse_args()
    sure: dict[str, AlarmShares] = {}
    print(f"| record | {' | '.join(KINDS)} | all | delay min | other alarms a station-month |")
    print("|---" * (len(KINDS) + 4) + "|")
    for name, table, chain, edges in records(options.data):
        one = tried(table, chain, edges, options.seeds, with_plumes)
        delay = one.delay(60_000)
        cells = [*one.cells(KINDS), f"**{one.share():.0f} %**", "" if delay is None else f"{delay:.0f}"]
        print(f"| {name} | {' | '.join(cells)} | {one.others / one.months:.2f} |")
        if edges or not chain:
            sure[name] = one.alarms_of_passages
    print()
    print("\n".join(sureness(sure)))


def with_plumes(
    table: SensorTable, chain: tuple[str, ...], random: np.random.Generator
) -> tuple[Floats, list[Planted]]:
    """The values of a record with discharges in them, and where these are."""
    values, plumes = table.values.copy(), []
    lower = table.names.index(chain[1]) if chain else -1
    for station in range(len(table.names)):
        if station == lower:
            continue
        for begin in moments(table.at[table.station == station], EVERY_MS, EVERY_MS, random):
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


def plant(
    table: SensorTable, values: Floats, station: int, kind: str, begin: int, strength: float, shape: tuple[float, ...]
) -> list[Planted]:
    """Lay a plume over ``values``; none where the station hardly speaks, or has no sensor for it."""
    rise, stay, fade = shape
    rows = np.flatnonzero((table.station == station) & (table.at >= begin) & (table.at < begin + DAY_MS))
    after = (table.at[rows] - begin).astype(np.float64)
    tail = np.maximum(after - rise - stay, 0.0)
    size = strength * np.where(after < rise, 0.5 - 0.5 * np.cos(np.pi * after / rise), np.exp(-tail / fade))
    inside = np.flatnonzero(size >= 0.1 * strength)
    columns = sensors_of(table)
    moved = {columns[key]: by for key, by in KINDS[kind].items() if key in columns}
    found = passage(table, values, kind, rows, inside, list(moved))
    for column, (plus, times) in moved.items() if found else ():
        before = values[rows, column]
        real = before > -100.0  # a logger's code stays one
        values[rows[real], column] = (before + size * (plus + times * before))[real]
    return found


if __name__ == "__main__":
    main()
