"""Find where a series goes on in another unit: each reading is then a fixed multiple of what came before. Pure."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.parameters import Parameter
from sensors.reading import Bools, Floats, Ints
from sensors.units import Linear, alternatives

MAX_RATIO_ERROR: Final = 0.05
"""The share by which the first reading in the new unit, and the median after it, may differ from the conversion."""
COMPARED, MIN_COMPARED = 24, 6
"""Readings on either side whose medians are compared, and the fewest that make one."""
APART: Final = 0.9
"""The share of the readings of either side that lie on their side of the middle: a spike is no new unit."""


@dataclass(frozen=True, slots=True)
class UnitChange:
    """``row`` is the first reading in the new unit; ``old`` and ``new`` are a pair of units that explains it."""

    row: int
    old: str
    new: str


def find_unit_changes(value: Floats, series: Ints, parameter: Parameter) -> list[UnitChange]:
    """The changes of unit in a column of known values (n,), sorted by series (n,) and time."""
    pairs = alternatives(parameter.unit, parameter.key)
    if not pairs or len(value) < 2 * MIN_COMPARED:
        return []
    before, after = value[:-1], value[1:]
    leap = np.abs(after - before) > 0.5 * np.maximum(np.abs(before), np.abs(after))
    rows = np.flatnonzero(leap & (series[1:] == series[:-1]))
    fits = np.any([_agree(before[rows], after[rows], rule) for rule in pairs.values()], axis=0)
    found = []
    for row in rows[fits].tolist():
        first, last = np.searchsorted(series, [series[row], series[row] + 1]).tolist()
        old, new = value[max(first, row + 1 - COMPARED) : row + 1], value[row + 1 : min(last, row + 1 + COMPARED)]
        if min(len(old), len(new)) >= MIN_COMPARED and _are_apart(old, new):
            found += [
                UnitChange(row + 1, *names)
                for names, rule in pairs.items()
                if _agree(old[-1], new[0], rule) and _agree(np.median(old), np.median(new), rule)
            ][:1]
    return found


def _agree(old: Floats | np.float64, new: Floats | np.float64, rule: Linear) -> Bools | np.bool_:
    return np.abs(old * rule.gain + rule.offset - new) < MAX_RATIO_ERROR * np.abs(new)


def _are_apart(old: Floats, new: Floats) -> bool:
    middle = (np.median(old) + np.median(new)) / 2
    alone = [np.mean(np.sign(side - middle) == np.sign(np.median(side) - middle)) for side in (old, new)]
    return bool(min(alone) >= APART)
