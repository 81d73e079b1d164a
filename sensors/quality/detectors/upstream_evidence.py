"""What a station saw in the last half day, half hour by half hour, for the stations below it. Pure.

A plume that passes two stations moves the same sensors in the same direction at both, the lower one later. What the
upper one saw is remembered whether or not it was enough for an alarm there: two half-hearted witnesses on one creek, in
the order of the water, are more than one. The sides of what was seen are how far each role went up, how far each went
down, and whether an alarm became known.
"""

from typing import Final, NamedTuple

import numpy as np

from sensors.reading import Bytes, Codes, Floats, Ints, Places

SLOT_MS: Final = 1_800_000
"""Half an hour: water does not reach the next station sooner, and the half hour before is complete when it is asked."""

SLOTS: Final = 24
"""Half a day: what takes longer has mixed on its way."""

UNKNOWN_MS: Final = 6 * 3_600_000
"""Where no travel time is known, water may take up to six hours (detection notes, rule 8)."""

LINGERS_MS: Final = 3_600_000
"""A move is the departure from a median of two hours: it shows for an hour after the front has come."""

KEPT: Final = 4
"""The oldest half hours are no longer asked: newer ones of a station above that is ahead may have taken their place."""

PART: Final = 40.0
"""Sizes are kept as whole numbers of this part of a usual move: six of them fit a byte."""


class UpstreamPath(NamedTuple):
    """That one station lies above another, and how long water takes: usual, least and most ms; 0 where unknown."""

    above: int
    below: int
    usual_ms: int = 0
    least_ms: int = 0
    most_ms: int = 0

    @property
    def reach_ms(self) -> int:
        """So long after it was seen above, water may still speak for what moves below."""
        known = self.most_ms + LINGERS_MS if self.most_ms else UNKNOWN_MS
        return min(known, (SLOTS - KEPT) * SLOT_MS)

    def slots(self, at: Ints) -> tuple[Ints, Ints]:
        """(n,) the first and the last half hour above whose water can be here at each of these times."""
        last = np.minimum((at - self.least_ms) // SLOT_MS, at // SLOT_MS - 1)
        return (at - self.reach_ms) // SLOT_MS, last


def move_sizes(moves: Floats) -> Bytes:
    """(n, 2 roles) how far each sensor went up, then down, of moves (n, roles)."""
    up, down = np.maximum(moves, 0.0), np.maximum(-moves, 0.0)
    return np.minimum(PART * np.concatenate([up, down], axis=1), 255.0).astype(np.uint8)


def anything(since_ms: int, until_ms: int) -> tuple[Ints, Bytes]:
    """Half hours of an alarm in which all sensors moved, up and down: of an event of which no more is known."""
    number = np.arange(since_ms // SLOT_MS, until_ms // SLOT_MS + 1)[-SLOTS:]
    return number, np.full(len(number), 255, np.uint8)


def add_moves(slot: Codes, seen: Bytes, who: Places, at: Ints, size: Bytes) -> None:
    """In place: ``slot`` (s, SLOTS) numbers of half hours and ``seen`` (s, SLOTS, sides) their strongest moves gain
    the instants (``who``, ``at``), sorted by station and time, with ``size`` (n, sides)."""
    rows = np.flatnonzero(size.any(axis=1))
    if not len(rows):
        return
    who, number, size = who[rows], at[rows] // SLOT_MS, size[rows]
    end = np.append(np.flatnonzero(np.diff(who)), len(who) - 1)
    newest = np.zeros(len(slot), np.int64)
    newest[who[end]] = number[end]
    keep = number > newest[who] - SLOTS
    who, number, size = who[keep], number[keep], size[keep]
    place = number % SLOTS
    stale = slot[who, place] < number
    seen[who[stale], place[stale]] = 0
    slot[who[stale], place[stale]] = number[stale]
    np.maximum.at(seen, (who, place), size)


def discount_simultaneous(number: Ints, size: Bytes, below_number: Ints, below: Bytes) -> Bytes:
    """(k, sides) ``size`` without what moved below, too, in that half hour, half as much: weather is everywhere at
    once, water comes later. Numbers (k,), (m,) are sorted."""
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
    """(n, sides) the strongest moves of each span of half hours, ``first`` to ``last`` (n,); ``number`` (k,) sorted,
    ``size`` (k, sides)."""
    out = np.zeros((len(first), size.shape[1]), np.uint8)
    low, high = np.searchsorted(number, first), np.searchsorted(number, last, side="right")
    for back in range(int((high - low).max(initial=0))):
        rows = np.flatnonzero(low + back < high)
        out[rows] = np.maximum(out[rows], size[low[rows] + back])
    return out
