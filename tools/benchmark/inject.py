"""Faults and plumes of physical size, put into clean recorded water; the same seed gives the same table.

Nothing is put where the keeper marked anything, nor into the first month of a series, which is everybody's past.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from infra.times import DAY_MS, HOUR_MS
from sensors.reading import Bools, Floats, Ints, Places
from tools.benchmark.records import Record

PAST_MS: Final = 30 * DAY_MS
APART_MS: Final = (DAY_MS, 3 * DAY_MS)
"""From the end of one fault of a station to the next, of another sensor."""

Chance = np.random.Generator

SIZES: Final = {
    # small, medium, large: what somebody at the river would call so; relative ones are a share of the reading
    "water_temp": (1.0, 3.0, 8.0),
    "conductivity": (0.1, 0.3, 1.0),
    "salinity": (1.0, 3.0, 10.0),
    "ph": (0.3, 1.0, 3.0),
    "do": (1.0, 3.0, 8.0),
    "turbidity": (10.0, 50.0, 300.0),
    "chla": (10.0, 40.0, 150.0),
    "fdom": (10.0, 40.0, 150.0),
    "level": (0.1, 0.3, 1.0),
    "depth": (0.1, 0.3, 1.0),
}
RELATIVE: Final = frozenset({"conductivity"})
NAMES: Final = ("small", "medium", "large")

UNITS: Final[dict[str, Callable[[Floats], Floats]]] = {
    # the mistakes that are made: mS for µS, °F for °C, cm for m, saturation for mg/L, one digit lost
    "water_temp": lambda x: 32.0 + 1.8 * x,
    "conductivity": lambda x: x / 1000.0,
    "salinity": lambda x: x * 1.8,  # as conductivity in mS/cm
    "do": lambda x: x * 11.0,
    "turbidity": lambda x: x * 1000.0,
    "chla": lambda x: x / 1000.0,
    "level": lambda x: x * 100.0,
    "depth": lambda x: x * 3.281,
}

FAULTS: Final = {
    # kind: readings, or hours (least, most); the sizes it comes in
    "spike": ((1, 1), None),
    "two-sample spike": ((2, 2), None),
    "burst": ((3, 5), None),
    "step": (None, (3.0, 24.0)),
    "offset": (None, (72.0, 168.0)),
    "drift": (None, (96.0, 192.0)),
    "noise": (None, (6.0, 24.0)),
    "stuck": (None, (8.0, 48.0)),
    "dropout": ((1, 8), None),
    "unit mistake": (None, (6.0, 72.0)),
}
SIZED: Final = frozenset({"spike", "two-sample spike", "burst", "step", "offset", "drift", "noise"})


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault (of a ``sensor``) or the passage of a plume (``sensor`` -1), from ``start`` to ``end`` (ms)."""

    kind: str
    size: str
    station: int
    sensor: int
    start: int
    end: int


def with_faults(record: Record, seed: int) -> tuple[Record, list[Injected]]:
    """A clean record with faults, never two at a station at once."""
    table, chance = record.table, np.random.default_rng(seed)
    values, made = table.values.copy(), list[Injected]()
    for station, mine in enumerate(record.stations):
        sensors = [
            i
            for i, one in enumerate(table.found.sensors)
            if one.kind_key in SIZES and (record.bad[mine, i] == 0).any() and (~np.isnan(values[mine, i])).any()
        ]
        made += _faults_of(record, values, station, (mine, sensors), chance) if sensors else []
    return replace(record, table=replace(table, values=values)), made


def _faults_of(
    record: Record, values: Floats, station: int, where: tuple[Places, list[int]], chance: Chance
) -> list[Injected]:
    """In place: the faults of a station, one after the other, sensor by sensor."""
    table, (mine, sensors) = record.table, where
    made = list[Injected]()
    menu: list[tuple[str, str]] = []
    when, last = int(table.at[mine[0]]) + PAST_MS, int(table.at[mine[-1]])
    for sensor in itertools.cycle(sensors):
        if when > last:
            return made
        menu = menu or _menu(chance)
        kind, size = menu.pop()
        rows = mine[~np.isnan(values[mine, sensor])]
        place = _room(table.at[rows], when, kind, chance)
        some = rows[slice(*place)] if place else rows[:0]
        parameter = table.found.sensors[sensor].kind_key
        wrong = spoiled(values[some, sensor], parameter, kind, size, chance) if place else None
        if wrong is None:  # no room, or it would change nothing: the next sensor, a little later
            menu.insert(0, (kind, size))
            when += DAY_MS // 4
            continue
        values[some, sensor] = wrong
        made.append(Injected(kind, size, station, sensor, int(table.at[some[0]]), int(table.at[some[-1]])))
        when = made[-1].end + int(chance.uniform(*APART_MS))
    return made


def _menu(chance: Chance) -> list[tuple[str, str]]:
    """Each kind three times: in each size, or alike where it has none."""
    menu = [(kind, size if kind in SIZED else "") for kind in FAULTS for size in NAMES]
    return [menu[i] for i in chance.permutation(len(menu))]


def _room(at: Ints, when: int, kind: str, chance: Chance) -> tuple[int, int] | None:
    """First and last (exclusive) of the readings of a fault; None across a pause or at the end."""
    counts, hours = FAULTS[kind]
    first = int(np.searchsorted(at, when))
    if counts is not None:
        end = first + int(chance.integers(counts[0], counts[1] + 1))
    else:
        assert hours is not None
        end = int(np.searchsorted(at, when + chance.uniform(*hours) * HOUR_MS))
    around = at[max(first - 12, 0) : end + 12]
    if end + 12 > len(at) or end <= first or (first < 12) or np.diff(around).max() > 3 * HOUR_MS:
        return None
    return first, end


def spoiled(x: Floats, parameter: str, kind: str, size: str, chance: Chance) -> Floats | None:
    """(n,) readings as a faulty sensor would have sent them; None where that changes nothing to speak of."""
    n = len(x)
    if kind == "unit mistake":
        change = UNITS.get(parameter)
        wrong = None if change is None else change(x)
    elif kind == "stuck":
        wrong = np.full(n, x[0])
        return wrong if np.ptp(x) > 0 else None
    elif kind == "dropout":
        wrong = np.zeros(n)
    else:
        unit = SIZES[parameter][NAMES.index(size)] * (float(np.median(np.abs(x))) if parameter in RELATIVE else 1.0)
        sign = -1.0 if chance.random() < 0.5 and parameter not in ("turbidity", "chla", "fdom") else 1.0
        if sign < 0 and parameter != "water_temp" and float(x.min()) < unit:
            sign = 1.0
        shape = {
            "burst": lambda: chance.uniform(0.5, 1.5, n),
            "drift": lambda: np.linspace(0.0, 1.0, n),
            "noise": lambda: chance.standard_normal(n) / 2.0,
        }.get(kind, lambda: np.ones(n))()
        wrong = x + sign * unit * shape
        if kind == "noise" and parameter != "water_temp":
            wrong = np.abs(wrong)
    far = 0.5 * SIZES[parameter][0] * (abs(float(x[0])) if parameter in RELATIVE else 1.0)
    return wrong if wrong is not None and np.abs(wrong - x).max() > far else None


# -- plumes ------------------------------------------------------------------------------------------------------------

PLUME_MS: Final = 8 * DAY_MS
BLOOM_MS: Final = 8 * DAY_MS
PLUMES: Final = {
    # at full strength: what is added to the reading, and to each one of it; hours of rise, stay and fade
    # (least, most); strengths from what a load does to water. Salts are added: an estuary does not notice them
    "sewage": ({"conductivity": (150.0, 0.0), "do": (0.0, -0.5), "ph": (-0.3, 0.0), "turbidity": (5.0, 1.0),
                "fdom": (0.0, 0.8), "water_temp": (0.5, 0.0)}, (0.5, 3.0)),
    "acid": ({"ph": (-1.5, 0.0), "conductivity": (80.0, 0.0)}, (0.5, 3.0)),
    "alkali": ({"ph": (1.2, 0.0), "conductivity": (80.0, 0.0)}, (0.5, 3.0)),
    "brine": ({"conductivity": (600.0, 0.0), "do": (0.0, -0.05)}, (0.5, 3.0)),
    "oxygen demand": ({"do": (0.0, -0.6), "ph": (-0.25, 0.0), "conductivity": (60.0, 0.0)}, (0.75, 4.0)),
    "sediment": ({"turbidity": (30.0, 6.0), "do": (0.0, -0.08)}, (0.5, 3.0)),
    # 15 to 30 mg/L of ultimate BOD, of which Streeter and Phelps (1.5 and 5 a day) leave 0.18 missing at the worst
    "oxygen sag": ({"do": (-5.4, 0.0), "ph": (-0.4, 0.0)}, (3.0, 7.0)),
    # chlorophyll to 100 µg/L in days; oxygen and pH swing with the sun
    "bloom": ({"chla": (100.0, 0.0), "fdom": (0.0, 0.1)}, (16.0, 40.0)),
}  # fmt: skip
NEEDED: Final = {"sediment": "turbidity", "oxygen sag": "do", "bloom": "do", "acid": "ph", "alkali": "ph",
                 "brine": "conductivity", "oxygen demand": "do", "sewage": "do"}  # fmt: skip
NOON_UTC: Final = {"pringle": 18, "sim": 18, "franklin": 19, "main_street": 19, "water_lab": 19, "apalachicola": 18}


def with_plumes(record: Record, seed: int) -> tuple[Record, list[Injected]]:
    """A record with a plume every eight days; a station that lies below another gets it later, thinner and longer."""
    table, chance = record.table, np.random.default_rng(seed)
    values, made = table.values.copy(), []
    column = {one.kind_key: i for i, one in reversed(list(enumerate(table.found.sensors)))}
    kinds = [kind for kind in PLUMES if NEEDED[kind] in column]
    below = {path.above: path.below for path in record.paths}
    for station, rows in enumerate(record.stations):
        if station in below.values() or not len(rows) or not kinds:
            continue
        menu: list[str] = []
        for when in range(int(table.at[rows[0]]) + PAST_MS, int(table.at[rows[-1]]) - BLOOM_MS, PLUME_MS):
            menu = menu or [kinds[i] for i in chance.permutation(len(kinds))]
            kind, start = menu.pop(), when + int(chance.uniform(0, 0.3 * PLUME_MS))
            strength = float(chance.uniform(0.5, 1.0))
            hours = chance.uniform(*PLUMES[kind][1], 3)
            made += _lay(record, values, column, kind, (station, start), strength, hours)
            if station in below:
                lag = int(chance.uniform(1.0, 4.0) * HOUR_MS)
                weaker = strength * float(chance.uniform(0.4, 0.8))
                made += _lay(record, values, column, kind, (below[station], start + lag), weaker, 1.3 * hours)
    return replace(record, table=replace(table, values=values)), made


def _lay(
    record: Record,
    values: Floats,
    column: dict[str, int],
    kind: str,
    where: tuple[int, int],
    strength: float,
    hours: Floats,
) -> list[Injected]:
    """In place: a plume at (station, start); nothing where the station hardly speaks then."""
    table, (station, start) = record.table, where
    rise, stay, fade = (hours * HOUR_MS).tolist()
    fade = fade / 3 if kind == "bloom" else fade  # it collapses
    span = start, start + int(rise + stay + 5 * fade)
    rows = np.flatnonzero((table.station == station) & (table.at >= span[0]) & (table.at < span[1]))
    after = (table.at[rows] - start).astype(np.float64)
    tail = np.maximum(after - rise - stay, 0.0)
    size = np.where(after < rise, 0.5 - 0.5 * np.cos(np.pi * after / rise), np.exp(-tail / fade))
    inside = size >= 0.1
    moved = {column[key]: by for key, by in PLUMES[kind][0].items() if key in column}
    needed = column[NEEDED[kind]]
    if inside.sum() < 3 or np.isnan(values[rows[inside], needed]).mean() > 0.2:
        return []
    before = values[rows]
    for sensor, (plus, times) in moved.items():
        values[rows, sensor] = before[:, sensor] + strength * size * (plus + times * before[:, sensor])
    if kind == "bloom":
        noon = next((h for name, h in NOON_UTC.items() if table.names[station].startswith(name)), 12)
        day = np.cos(2 * np.pi * (table.at[rows] / HOUR_MS - noon - 3) / 24)
        values[rows, needed] += strength * size * (1.0 + 4.0 * day)
        if "ph" in column:
            values[rows, column["ph"]] += strength * size * (0.5 + 0.25 * day)
    if "do" in column:
        oxygen = values[rows, column["do"]]
        low = oxygen < np.minimum(before[:, column["do"]], 0.3)
        values[rows[low], column["do"]] = np.minimum(before[low, column["do"]], 0.3)
    at = table.at[rows[inside]]
    return [Injected(kind, "", station, -1, int(at[0]), int(at[-1]))]


def inside(record: Record, made: Sequence[Injected], *, sensor: int | None = None) -> Bools:
    """(rows,) where something was put into a ``sensor``, or into any."""
    table = record.table
    out = np.zeros(len(table.at), np.bool_)
    for one in made:
        if sensor in (None, one.sensor):
            out |= (table.station == one.station) & (table.at >= one.start) & (table.at <= one.end)
    return out


def rows_of(record: Record, one: Injected) -> Places:
    table = record.table
    return np.flatnonzero((table.station == one.station) & (table.at >= one.start) & (table.at <= one.end))
