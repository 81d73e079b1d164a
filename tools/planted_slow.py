"""Measure detection of slow events planted into recorded water: ``python tools/planted_slow.py DATA_FOLDER``.

What takes hours or days, every twenty days once a station knows its fortnight (``planted.py`` says into which records),
with strengths from what a load does to water, fixed before anything was looked at:

- *Oxygen sag*: from the evening on 15 to 30 mg/L of ultimate BOD pass by within 8 to 20 hours (raw sewage of 200 mg/L
  thinned ten times, or a dairy's). Where it decays at 1.5 a day and air comes in at 5 (Streeter and Phelps, a slow
  creek) 0.18 of it is missing at the worst place: 2.7 to 5.4 mg/L. What breathes that gives as much carbon dioxide.
- *Sewage*: a leak of 8 to 20 hours that makes 3 to 6 in a hundred of the water: of raw sewage with 1,000 µS/cm,
  30 mg/L of ammonia, 150 NTU and 200 mg/L of BOD, which takes oxygen as above.
- *Bloom*: in 3 to 8 days algae grow to 50 to 100 µg/L of chlorophyll, stay and collapse in a day. At 10 mg of oxygen an
  hour for each mg of chlorophyll in full light they make up to 1 mg/L an hour and breathe an eighth of that, day and
  night; the air takes 2 a day (sluggish water). Carbon dioxide goes the other way.
- *Mud*: dredging for 4 to 24 hours, 60 to 150 NTU more, a third up and down from bucket to bucket; what lay without air
  takes 0.4 mg/L of oxygen for 100 NTU. Salts stay.

pH follows from carbonate alone, with the alkalinity that such water has for its salts: 1 mmol/L at 120 µS/cm, 2.5 at
most. Of two stations on one creek the lower one gets it 1 to 4 hours later (a bloom at once) and at 40 to 80 %.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from planted import HOUR_MS, AlarmShares, Planted, moments, passage, records, sensors_of, sureness, tried

from infra.times import DAY_MS
from riverchief.tables.assess import SensorTable
from sensors.quality.detectors.slow_events import CombinedAlarms
from sensors.quality.detectors.sudden_events import Alarms
from sensors.reading import Bools, Floats

EVERY_MS: Final = 20 * DAY_MS
KNOWN_MS: Final = 16 * DAY_MS

NEEDS: Final = {"oxygen sag": "do", "sewage": "do", "bloom": "do", "mud": "turbidity"}
"""The kinds, and the sensor without which a station has none."""

HOURS: Final = {"oxygen sag": (8.0, 20.0), "sewage": (8.0, 20.0), "bloom": (72.0, 192.0), "mud": (4.0, 24.0)}
"""From beginning to end."""

EAST: Final = {"pringle": -6, "franklin": -7, "main_street": -7, "water_lab": -7, "apalachicola": -6, "herbert": 10}
"""Hours of the sun of a station before UTC, by how its name begins."""

MISSING: Final = 0.18
"""Of ultimate BOD, at the worst place: Kd/Ka·(Ka/Kd)^(-Kd/(Ka-Kd)) with 1.5 and 5 a day."""
BOD: Final = 30.0
SEWAGE: Final = 0.06
RAW: Final = {"conductivity": 1000.0, "nh3n": 30.0, "turbidity": 150.0}
RAW_BOD: Final = 200.0
CHLOROPHYLL: Final = 100.0
MADE: Final = 0.01
"""mg/L of oxygen an hour in full light for each µg/L of chlorophyll."""
BREATHED: Final = 0.125
AIRED_H: Final = 2.0 / 24.0
MUD: Final = 150.0
BUCKETS: Final = 0.3
DEMAND: Final = 0.004
"""mg/L of oxygen for each NTU of mud."""

K1, K2 = 10**-6.38 * 1e3, 10**-10.38 * 1e3
"""Of carbonic acid at 20 °C, mmol/L."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="so many times over, at other moments (default 5)")
    options = parser.parse_args()
    sure: dict[str, AlarmShares] = {}
    print(f"| record | {' | '.join(NEEDS)} | all | delay h | other slow alarms a station-month |")
    print("|---" * (len(NEEDS) + 4) + "|")
    for name, table, chain, edges in records(options.data):
        one = tried(table, chain, edges, options.seeds, with_events, slow, between=True)
        delays = [f"{kind} {delay:.1f}" for kind in NEEDS if (delay := one.delay(HOUR_MS, kind)) is not None]
        cells = [*one.cells(NEEDS), f"**{one.share():.0f} %**", ", ".join(delays)]
        print(f"| {name} | {' | '.join(cells)} | {one.others / one.months:.2f} |")
        if edges or not chain:
            sure[name] = one.alarms_of_passages
    print()
    print("\n".join(sureness(sure)))


def slow(alarms: Alarms) -> Bools:
    """Those of the look at hours."""
    assert isinstance(alarms, CombinedAlarms)
    return np.asarray(alarms.cause >= 0)


def with_events(
    table: SensorTable, chain: tuple[str, ...], random: np.random.Generator
) -> tuple[Floats, list[Planted]]:
    """The values of a record with slow events in them, and where these are."""
    values, events = table.values.copy(), []
    lower = table.names.index(chain[1]) if chain else -1
    kinds = [kind for kind, needed in NEEDS.items() if needed in sensors_of(table)]
    for station in range(len(table.names)):
        if station == lower:
            continue
        for moment in moments(table.at[table.station == station], EVERY_MS, KNOWN_MS, random):
            kind = kinds[int(random.integers(len(kinds)))]
            strength = float(random.uniform(0.5, 1.0) if kind != "mud" else random.uniform(0.4, 1.0))
            hours = float(random.uniform(*HOURS[kind]))
            begin = from_clock(table, station, moment, kind, random)
            events += plant(table, values, station, kind, begin, strength, hours, random)
            if chain:
                lag = 0 if kind == "bloom" else int(random.uniform(1.0, 4.0) * HOUR_MS)
                thinner = float(random.uniform(0.4, 0.8))
                events += plant(table, values, lower, kind, begin + lag, thinner * strength, 1.15 * hours, random)
    return values, events


def from_clock(table: SensorTable, station: int, moment: int, kind: str, random: np.random.Generator) -> int:
    """On that day, when such a thing begins: a sag in the evening, dredging in the morning, a bloom at midnight."""
    first, last = {"oxygen sag": (18.0, 24.0), "mud": (6.0, 12.0), "bloom": (0.0, 0.0)}.get(kind, (0.0, 24.0))
    return moment // DAY_MS * DAY_MS + int((random.uniform(first, last) - east(table, station)) * HOUR_MS)


def east(table: SensorTable, station: int) -> int:
    return next((hours for name, hours in EAST.items() if table.names[station].startswith(name)), 0)


def plant(
    table: SensorTable,
    values: Floats,
    station: int,
    kind: str,
    begin: int,
    strength: float,
    hours: float,
    random: np.random.Generator,
) -> list[Planted]:
    """Lay a slow event over ``values``; none where the station hardly speaks, or has no sensor for it."""
    length = hours * HOUR_MS
    rows = np.flatnonzero((table.station == station) & (table.at >= begin) & (table.at < begin + length + DAY_MS))
    after = (table.at[rows] - begin).astype(np.float64)
    rise = {"mud": HOUR_MS, "bloom": 2.0 * DAY_MS if hours > 96 else 1.5 * DAY_MS}.get(kind, 0.35 * length)
    fade = {"mud": 2 * HOUR_MS, "bloom": DAY_MS}.get(kind, 0.35 * length)
    size = strength * swell(after, rise) * swell(length - after, fade)
    columns = sensors_of(table)
    water = {key: values[rows, column] for key, column in columns.items()}
    local = (table.at[rows] + east(table, station) * HOUR_MS) % DAY_MS / HOUR_MS
    changed = CHANGES[kind](water, size, after / HOUR_MS, local, random)
    moved = [columns[key] for key in changed]
    found = passage(table, values, kind, rows, np.flatnonzero(size >= 0.1 * strength), moved)
    for key, now in changed.items() if found else ():
        real = water[key] > -100.0  # a logger's code stays one
        values[rows[real], columns[key]] = now[real]
    return found


def swell(after: Floats, over: float) -> Floats:
    """From 0 to 1 within ``over``."""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(after / over, 0.0, 1.0)))


def breathing(water: Mapping[str, Floats], used: Floats) -> dict[str, Floats]:
    """Oxygen and pH where so much oxygen (mg/L) is used, less than nothing where it is made; some is always left."""
    if "do" not in water:
        return {}
    oxygen = water["do"]
    left = np.maximum(oxygen - used, np.minimum(oxygen, 0.3))
    changed = {"do": left}
    if "ph" in water:
        alkalinity = np.clip(water.get("conductivity", np.full(len(used), 240.0)) / 120.0, 0.3, 2.5)
        changed["ph"] = acidified(water["ph"], alkalinity, (oxygen - left) / 32.0)
    return changed


def acidified(ph: Floats, alkalinity: Floats, carbon: Floats) -> Floats:
    """pH after so much carbon dioxide came in (mmol/L, less than nothing: went out), by carbonate alone."""
    hydrogen = 10.0 ** (3.0 - ph)
    there = alkalinity * (hydrogen**2 + K1 * hydrogen + K1 * K2) / (K1 * hydrogen + 2 * K1 * K2)
    now = np.maximum(there + np.nan_to_num(carbon), 0.55 * alkalinity)
    b, c = K1 * (alkalinity - now), K1 * K2 * (alkalinity - 2 * now)
    return np.asarray(3.0 - np.log10((-b + np.sqrt(np.maximum(b * b - 4 * alkalinity * c, 0.0))) / (2 * alkalinity)))


def sag(water: Mapping[str, Floats], size: Floats, _: Floats, __: Floats, ___: object) -> dict[str, Floats]:
    return breathing(water, MISSING * BOD * size)


def sewage(water: Mapping[str, Floats], size: Floats, _: Floats, __: Floats, ___: object) -> dict[str, Floats]:
    share = SEWAGE * size
    mixed = {key: water[key] + share * (raw - water[key]) for key, raw in RAW.items() if key in water}
    return {**mixed, **breathing(water, MISSING * RAW_BOD * share)}


def bloom(water: Mapping[str, Floats], size: Floats, hour: Floats, local: Floats, _: object) -> dict[str, Floats]:
    algae, oxygen = CHLOROPHYLL * size, np.zeros(len(size))
    light = np.maximum(np.sin(np.pi * (local - 6.0) / 12.0), 0.0)
    made = MADE * algae * (light - BREATHED)
    for i in range(1, len(size)):
        step = hour[i] - hour[i - 1]
        oxygen[i] = oxygen[i - 1] + step * (made[i] - AIRED_H * oxygen[i - 1]) if step < 2 else 0.0
    changed = breathing(water, -oxygen)
    return {**changed, "chla": water["chla"] + algae} if "chla" in water else changed


def mud(
    water: Mapping[str, Floats], size: Floats, _: Floats, __: Floats, random: np.random.Generator
) -> dict[str, Floats]:
    more = MUD * size * random.lognormal(0.0, BUCKETS, len(size))
    return {
        "turbidity": water["turbidity"] + more,
        **breathing({k: v for k, v in water.items() if k != "ph"}, DEMAND * more),
    }


CHANGES: Final = {"oxygen sag": sag, "sewage": sewage, "bloom": bloom, "mud": mud}


if __name__ == "__main__":
    main()
