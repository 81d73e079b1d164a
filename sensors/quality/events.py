"""Did the water itself change? What several sensors of a station say together at one instant. Pure.

A broken sensor moves alone or jumps; a plume moves several kinds of sensor, or ramps one. The rule is that of the
detection notes, section 3.7: no sensor counts for more than six of its own usual moves, so that no single one raises
an alarm, however wild.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.parameters import Catalogue
from sensors.reading import Bools, Codes, Floats, Ints, Places

CAP: Final = 6.0
LEAST: Final = 0.8
SUM: Final = 7.0
SECOND: Final = 1.1


@dataclass(frozen=True, slots=True)
class Moments:
    """Station instants with an alarm: ``station``, ``at`` (a,), and the rows (into what was handed in) behind each."""

    station: Codes
    at: Ints
    total: Floats
    second: Floats


def sudden(station: Codes, parameter: Codes, at: Ints, move: Floats, catalogue: Catalogue) -> Moments:
    """Instants at which the sensors of a station together moved as they hardly ever do.

    ``station``, ``parameter``, ``at`` and ``move`` are (n,) in any order; NaN moves say nothing.
    """
    kinds = _kinds(catalogue)
    weight = np.array([0.5 if p.event == "temperature" else 1.0 for p in catalogue.parameters])
    size = np.minimum(np.abs(move) * weight[parameter], CAP)
    rows = np.flatnonzero(size > LEAST)
    if not len(rows):
        return Moments(station[:0], at[:0], move[:0], move[:0])
    key = (station[rows].astype(np.int64) << 42) | at[rows]
    # one vote a kind: two sensors of one parameter are one witness
    order = np.lexsort((-size[rows], kinds[parameter[rows]], key))
    rows, key = rows[order], key[order]
    first = np.ones(len(rows), np.bool_)
    kind = kinds[parameter[rows]]
    first[1:] = (key[1:] != key[:-1]) | (kind[1:] != kind[:-1])
    rows, key = rows[first], key[first]
    order = np.lexsort((-size[rows], key))
    rows, key = rows[order], key[order]
    begin = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    total = np.add.reduceat(size[rows], begin)
    lengths = np.diff(np.append(begin, len(rows)))
    second = np.where(lengths > 1, size[rows[np.minimum(begin + 1, len(rows) - 1)]], 0.0)
    hit = (total >= SUM) & (second >= SECOND)
    where = rows[begin[hit]]
    return Moments(station[where], at[where], total[hit], second[hit])


def _kinds(catalogue: Catalogue) -> Ints:
    names = [p.event or p.key for p in catalogue.parameters]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)
