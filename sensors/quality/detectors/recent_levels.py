"""Where a series has been in the last two days, in stretches of three hours: was this move news, or a way back? Pure.

A move away from where the water has been is news. A move back to it, after rain, a wave of salt or a discharge has
passed, is none, and neither is the front of salt that the tide brings again and again.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sensors.quality.state import STRETCHES, Floats32, SeriesState
from sensors.reading import Bools, Codes, Floats, Ints, Places

STRETCH_MS: Final = 3 * 3_600_000
"""An eighth of a day: short beside rain and recovery, and two days of it are two numbers eighteen times."""

BACK: Final = STRETCHES - 1
"""The stretch before the one of a reading is left out, it may hold the move itself; two days remain."""

SPARED: Final = 2
"""The two highest and the two lowest stretches do not say where the water usually is: six hours of an event."""

TIDES: Final = (4, 5, 8, 9)
"""The stretches that hold the moments half a lunar day (12 h 25 min) and a whole one before any moment of this one."""


@dataclass(frozen=True, slots=True)
class RecentLevels:
    """The lowest and highest two-hour medians of stretches of series that lie one behind the other.

    ``low``, ``high`` (p,) by place; ``place`` (n,) that of each reading; ``newest`` (m, STRETCHES) what is to be
    remembered of each series, with the ``number`` (p,) of each stretch since the epoch.
    """

    low: Floats32
    high: Floats32
    number: Codes
    place: Places
    newest: Places

    @classmethod
    def of(cls, memory: SeriesState, touched: Codes, segment: Places, at: Ints, middle: Floats) -> "RecentLevels":
        """Go on with what is remembered of ``touched`` (m,) series; ``middle`` (n,) the median before each reading."""
        n, m = len(at), len(touched)
        number = (at // STRETCH_MS).astype(np.int32)
        new = np.ones(n, np.bool_)
        new[1:] = (segment[1:] != segment[:-1]) | (number[1:] != number[:-1])
        first = np.flatnonzero(new)
        of, which = segment[first], number[first]
        last_known = memory.stretch[touched, -1][of]
        fresh = which > last_known
        count = np.cumsum(fresh)
        place = (of + 1) * STRETCHES + count - 1
        size = m * STRETCHES + int(count[-1]) if n else 0
        begins = np.flatnonzero(np.append(True, of[1:] != of[:-1])) if n else np.empty(0, np.intp)
        origin = np.arange(m) * STRETCHES + (count[begins] - fresh[begins])
        known = (origin[:, None] + np.arange(STRETCHES)).ravel()
        numbers = np.zeros(size, np.int32)
        low, high = np.full(size, np.nan, np.float32), np.full(size, np.nan, np.float32)
        numbers[known] = memory.stretch[touched].ravel()
        low[known], high[known] = memory.low[touched].ravel(), memory.high[touched].ravel()
        numbers[place[fresh]] = which[fresh]
        if n:
            says = which >= last_known  # older ones are remembered already
            single = middle.astype(np.float32)
            lows, highs = np.fmin.reduceat(single, first), np.fmax.reduceat(single, first)
            low[place[says]] = np.fmin(low[place[says]], lows[says])
            high[place[says]] = np.fmax(high[place[says]], highs[says])
        ends = np.append(origin[1:], size) if m else origin
        newest = ends[:, None] + np.arange(-STRETCHES, 0)
        return cls(low, high, numbers, place[np.cumsum(new) - 1] if n else np.empty(0, np.intp), newest)

    def been(self, rows: Places) -> tuple[Floats32, Floats32, Floats32, Floats32]:
        """(r,) of these readings: where the water usually was in the last two days, lowest and highest, and the
        lowest and highest of the last tides. NaN where too little is known."""
        wanted = np.zeros(len(self.low), np.bool_)
        wanted[self.place[rows]] = True
        place = np.flatnonzero(wanted)  # many readings of a table share a stretch
        before = place[:, None] - np.arange(2, BACK + 1)
        late = self.number[place][:, None] - self.number[before] > BACK
        low, high = np.where(late, np.nan, self.low[before]), np.where(late, np.nan, self.high[before])
        tides = np.array(TIDES) - 2
        tide_low, tide_high = np.fmin.reduce(low[:, tides], axis=1), np.fmax.reduce(high[:, tides], axis=1)
        low, high = np.sort(low, axis=1), np.sort(-high, axis=1)  # NaN last
        mine = (np.cumsum(wanted) - 1)[self.place[rows]]
        found = low[:, SPARED], -high[:, SPARED], tide_low, tide_high
        return found[0][mine], found[1][mine], found[2][mine], found[3][mine]


def is_returning(x: Floats, middle: Floats, low: Floats32, high: Floats32, usual: Floats) -> Bools:
    """(r,) whether a reading is on the way back: the last two hours lay outside where the water usually was by more
    than a usual move, and the reading is nearer, without going beyond on the other side."""
    with np.errstate(invalid="ignore"):
        far = np.maximum(usual, 0.5 * (high - low))
        down = (middle > high + far) & (x < middle) & (x > low - usual)
        up = (middle < low - far) & (x > middle) & (x < high + usual)
    return np.asarray(down | up)
