"""Evidence from the station above: the strongest moves of its last half day, half hour by half hour. Pure.

A plume that passes two stations moves the same sensors in the same direction at both, the lower one later. The moves of
the upper station are remembered whether or not they were enough for an alarm there. The *sides* of a half hour are how
far each role went up, how far each went down, and whether an alarm became known.
"""

from typing import Final, NamedTuple

import numpy as np

from sensors.reading import Bytes, Codes, Floats, Ints, Places

SLOT_MS: Final = 1_800_000
"""Half an hour: water does not reach the next station sooner, and the half hour before is complete when it is asked."""

REMEMBERED_SLOTS: Final = 24
"""Half hours that are remembered: half a day. What takes longer has mixed on its way."""

UNKNOWN_TRAVEL_MS: Final = 6 * 3_600_000
"""Where no travel time is known, water may take up to six hours."""

MOVE_LASTS_MS: Final = 3_600_000
"""A move is the departure from a median of two hours: it shows for an hour after the front came."""

UNASKED_SLOTS: Final = 4
"""Oldest half hours, which are not asked: newer ones of a station above that is ahead may have taken their place."""

PARTS_OF_MOVE: Final = 40.0
"""Sizes are kept as whole numbers of this part of a usual move: six moves fit a byte."""


class UpstreamPath(NamedTuple):
    """One station lies above another; travel time of the water in ms: least and most, 0 where unknown."""

    above: int
    below: int
    least_ms: int = 0
    most_ms: int = 0

    @property
    def reach_ms(self) -> int:
        """So long after it passed above, water is evidence for what moves below."""
        known = self.most_ms + MOVE_LASTS_MS if self.most_ms else UNKNOWN_TRAVEL_MS
        return min(known, (REMEMBERED_SLOTS - UNASKED_SLOTS) * SLOT_MS)

    def slots(self, at: Ints) -> tuple[Ints, Ints]:
        """(n,) first and last half hour above whose water can be below at each of these times."""
        last = np.minimum((at - self.least_ms) // SLOT_MS, at // SLOT_MS - 1)
        return (at - self.reach_ms) // SLOT_MS, last


def move_sizes(moves: Floats) -> Bytes:
    """(n, 2 roles) how far each sensor went up, then down, in parts; of moves (n, roles)."""
    up, down = np.maximum(moves, 0.0), np.maximum(-moves, 0.0)
    return np.minimum(PARTS_OF_MOVE * np.concatenate([up, down], axis=1), 255.0).astype(np.uint8)


def slots_of_unknown_event(since_ms: int, until_ms: int) -> tuple[Ints, Bytes]:
    """Half hours in which all sensors moved, up and down, with an alarm: for an event of which no more is known."""
    number = np.arange(since_ms // SLOT_MS, until_ms // SLOT_MS + 1)[-REMEMBERED_SLOTS:]
    return number, np.full(len(number), 255, np.uint8)


def add_moves(slot: Codes, seen: Bytes, who: Places, at: Ints, size: Bytes) -> None:
    """Add instants to what is remembered, in place.

    Parameters
    ----------
    slot, seen : (s, SLOTS) numbers of half hours, and (s, SLOTS, sides) their strongest moves
    who, at, size : (n,) station row and ms, sorted by both, and (n, sides) moves
    """
    rows = np.flatnonzero(size.any(axis=1))
    if not len(rows):
        return
    who, number, size = who[rows], at[rows] // SLOT_MS, size[rows]
    end = np.append(np.flatnonzero(np.diff(who)), len(who) - 1)
    newest = np.zeros(len(slot), np.int64)
    newest[who[end]] = number[end]
    keep = number > newest[who] - REMEMBERED_SLOTS
    who, number, size = who[keep], number[keep], size[keep]
    place = number % REMEMBERED_SLOTS
    stale = slot[who, place] < number
    seen[who[stale], place[stale]] = 0
    slot[who[stale], place[stale]] = number[stale]
    np.maximum.at(seen, (who, place), size)


def discount_simultaneous(number: Ints, size: Bytes, below_number: Ints, below: Bytes) -> Bytes:
    """(k, sides) ``size`` without what moved below at the same half hour, at least half as much.

    Weather is everywhere at once, water comes later. ``number`` (k,) and ``below_number`` (m,) are sorted half hours.
    """
    if not len(below_number):
        return size
    begin = np.flatnonzero(np.append(True, np.diff(below_number) != 0))
    most = np.maximum.reduceat(below, begin, axis=0)
    place = np.minimum(np.searchsorted(below_number[begin], number), len(begin) - 1)
    there = (below_number[begin][place] == number)[:, None]
    kept = np.where(there & (2 * most[place].astype(np.int64) >= size), 0, size).astype(np.uint8)
    kept[:, -1] = size[:, -1]
    return kept


def strongest_moves(number: Ints, size: Bytes, first: Ints, last: Ints) -> Bytes:
    """(n, sides) the strongest moves of each span of half hours from ``first`` to ``last`` (n,).

    ``number`` (k,) sorted half hours, ``size`` (k, sides) their moves.
    """
    out = np.zeros((len(first), size.shape[1]), np.uint8)
    low, high = np.searchsorted(number, first), np.searchsorted(number, last, side="right")
    for back in range(int((high - low).max(initial=0))):
        rows = np.flatnonzero(low + back < high)
        out[rows] = np.maximum(out[rows], size[low[rows] + back])
    return out
