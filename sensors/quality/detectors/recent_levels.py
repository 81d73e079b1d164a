"""Decide whether a move is news or a way back to where the water was in the last two days.

A move away from the recent levels is news. A move back to them, after rain, a wave of salt or a discharge has passed,
is none, and neither is the front of salt that the tide brings again and again. The levels are remembered as lowest and
highest two-hour median of stretches of three hours.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.times import HOUR_MS
from sensors.quality.state import STRETCHES, SeriesState
from sensors.reading import Bools, Codes, Floats, Floats32, Ints, Places, pieces

_Kind = TypeVar("_Kind", bound=np.generic)

STRETCH_MS: Final = 3 * HOUR_MS
"""An eighth of a day: short beside rain and recovery, and two days are sixteen numbers twice."""

OLDEST_STRETCH: Final = STRETCHES - 1
"""Stretches before that of a reading. The one just before is left out, it may hold the move itself; two days remain."""

SPARED_STRETCHES: Final = 2
"""The two highest and the two lowest stretches are left out of the usual range: six hours of an event."""

TIDE_STRETCHES: Final = (4, 5, 8, 9)
"""Stretches that hold the moments half a lunar day (12 h 25 min) and a whole one before any moment of this one."""

OUTSIDE_SHARE: Final = 0.5
"""Of the usual range: so far outside (and a usual move) the water lay before it can be on the way back."""


@dataclass(frozen=True, slots=True)
class UsualRanges:
    """(r,) lowest and highest usual level of the last two days, and of the last tides; NaN where unknown."""

    low: Floats32
    high: Floats32
    tide_low: Floats32
    tide_high: Floats32


@dataclass(frozen=True, slots=True)
class RecentLevels:
    """Lowest and highest two-hour medians of stretches, one series after the other.

    Attributes
    ----------
    low, high : (p,) by stretch
    number : (p,) of each stretch since the epoch
    place : (n,) stretch of each new reading, as an index into the three
    ends : (m,) where the stretches of each series end
    """

    low: Floats32
    high: Floats32
    number: NDArray[np.int32]
    place: Places
    ends: Places

    @classmethod
    def of(cls, memory: SeriesState, touched: Codes, segment: Places, at: Ints, median: Floats) -> "RecentLevels":
        """Go on with what is remembered of ``touched`` (m,) series; ``median`` (n,) of two hours before each
        reading."""
        n, m = len(at), len(touched)
        number = (at // STRETCH_MS).astype(np.int32)
        new = np.ones(n, np.bool_)
        new[1:] = (segment[1:] != segment[:-1]) | (number[1:] != number[:-1])
        first = np.flatnonzero(new)
        owner, stretch = segment[first], number[first]
        last_known = memory.stretch[touched, -1][owner]
        fresh = stretch > last_known
        count = np.cumsum(fresh)
        place = (owner + 1) * STRETCHES + count - 1
        size = m * STRETCHES + int(count[-1]) if n else 0
        begins = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])) if n else np.empty(0, np.intp)
        origin = np.arange(m) * STRETCHES + (count[begins] - fresh[begins])
        known = (origin[:, None] + np.arange(STRETCHES)).ravel()
        numbers = np.zeros(size, np.int32)
        low, high = np.full(size, np.nan, np.float32), np.full(size, np.nan, np.float32)
        numbers[known] = memory.stretch[touched].ravel()
        low[known], high[known] = memory.low[touched].ravel(), memory.high[touched].ravel()
        numbers[place[fresh]] = stretch[fresh]
        if n:
            counts = stretch >= last_known  # older ones are remembered already
            single = median.astype(np.float32)
            lows, highs = np.fmin.reduceat(single, first), np.fmax.reduceat(single, first)
            low[place[counts]] = np.fmin(low[place[counts]], lows[counts])
            high[place[counts]] = np.fmax(high[place[counts]], highs[counts])
        ends = np.append(origin[1:], size) if m else origin
        return cls(low, high, numbers, place[np.cumsum(new) - 1] if n else np.empty(0, np.intp), ends)

    def newest(self, column: NDArray[_Kind]) -> NDArray[_Kind]:
        """(m, STRETCHES) what of ``low``, ``high`` or ``number`` is to be remembered of each series."""
        return pieces(column, self.ends - STRETCHES, STRETCHES)

    def usual_ranges(self, rows: Places) -> UsualRanges:
        """Where the water usually was in the two days before these new readings."""
        wanted = np.zeros(len(self.low), np.bool_)
        wanted[self.place[rows]] = True
        place = np.flatnonzero(wanted)  # many readings of a table share a stretch
        before = place[:, None] - np.arange(2, OLDEST_STRETCH + 1)
        too_old = self.number[place][:, None] - self.number[before] > OLDEST_STRETCH
        low, high = np.where(too_old, np.nan, self.low[before]), np.where(too_old, np.nan, self.high[before])
        tides = np.array(TIDE_STRETCHES) - 2
        tide_low, tide_high = np.fmin.reduce(low[:, tides], axis=1), np.fmax.reduce(high[:, tides], axis=1)
        low, high = np.sort(low, axis=1), np.sort(-high, axis=1)  # NaN last
        mine = (np.cumsum(wanted) - 1)[self.place[rows]]
        usual_low, usual_high = low[:, SPARED_STRETCHES], -high[:, SPARED_STRETCHES]
        return UsualRanges(usual_low[mine], usual_high[mine], tide_low[mine], tide_high[mine])


def is_returning(value: Floats, median: Floats, low: Floats32, high: Floats32, usual_move: Floats) -> Bools:
    """(r,) whether a reading is on the way back.

    The last two hours (``median``) lay outside the usual range by more than a usual move, and the reading is nearer,
    without going beyond on the other side.
    """
    with np.errstate(invalid="ignore"):
        far = np.maximum(usual_move, OUTSIDE_SHARE * (high - low))
        down = (median > high + far) & (value < median) & (value > low - usual_move)
        up = (median < low - far) & (value > median) & (value < high + usual_move)
    return np.asarray(down | up)
