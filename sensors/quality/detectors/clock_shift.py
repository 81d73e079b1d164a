"""Detect a clock that was set: from one day on the daily pattern of a station runs early or late. Pure.

The sun moves temperature, oxygen and pH, each at its own hours. Where all of them do so hours later from one day to the
next, the time written beside the readings is another one. The days after a change are used, so this is for tables;
live, the arrival of messages is compared (:mod:`ingest.rules.device_clock`).
"""

from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np
from numpy.typing import NDArray

from infra.times import DAY_MS, HOUR_MS
from sensors.quality.constants import HOURS_PER_DAY
from sensors.reading import Bools, Floats, Ints

Waves = NDArray[np.complex128]

HARMONICS: Final = 3
"""Waves of a day that are compared, of 24, 12 and 8 hours: its shape without the noise."""

MAX_PAUSE_H: Final = 4
"""Hours between two readings above which a day is not known: six results a day still show its wave."""

DAYS_BEFORE: Final = 14
DAYS_AFTER: Final = 7
"""Days whose medians are compared: of a week alone the weather makes half an hour more or less, and a fortnight before
because the present day is among a week of its like soon enough (engineering choice)."""
MIN_KNOWN_SHARE: Final = 0.6
"""Share of these days that must be known."""

MIN_SHIFT_H: Final = 1.0
"""Hours. Less is no clock that was set: zones and summer time are of whole hours, and rivers do nearly as much."""

MIN_SHIFT_RATIO: Final = 2.0
USUAL_QUANTILE: Final = 0.9
"""A shift is clear when it is twice this quantile of all others that the sensor shows: clouds, floods that deepen the
water and the season move its day, too."""

MIN_OTHER_DAYS: Final = 30
"""Days that do not overlap with those compared and tell what is usual."""
UNKNOWN_SHIFT_H: Final = 2.0
"""Hours; the usual shift where fewer days are known: that of nine in ten weeks of the public records."""

MIN_CORRELATION: Final = 0.9
"""Correlation of both shapes: another shape has no shift."""

MIN_KINDS: Final = 2
MAX_DISAGREEMENT_H: Final = 1.0
"""Kinds of sensor that must shift alike, within so many hours; no other one with a daily pattern may contradict
them."""

TRIED_PER_HOUR: Final = 20
"""Shifts that are tried an hour."""


@dataclass(frozen=True, slots=True)
class ClockShift:
    """A change of the clock.

    From the UTC day that begins at ``since_ms`` on (give or take two days) the daily pattern is ``hours`` later than
    before, earlier where negative; ``judged`` are the columns that show it.
    """

    since_ms: int
    hours: float
    judged: tuple[int, ...]

    def alike(self, other: "ClockShift") -> bool:
        """Whether both clocks were set by the same hours."""
        return bool(abs(_hours_apart(np.array(self.hours), other.hours)) <= MAX_DISAGREEMENT_H)


def find_clock_shifts(at: Ints, values: Floats, swing: Floats) -> list[ClockShift]:
    """Find the days on which the daily pattern of a station shifted, ascending.

    Parameters
    ----------
    at : (n,) int array
        ms UTC, ascending.
    values : (n, k) float array
        Temperature, oxygen and pH, one sensor of each kind; NaN where missing.
    swing : (k,) float array
        The smallest daily swing of each that is a rhythm.
    """
    if not len(at):
        return []
    first = int(at[0] // DAY_MS)
    days = int(at[-1] // DAY_MS) - first + 1
    shift, alike, size = (np.full((values.shape[1], days), np.nan) for _ in range(3))
    waves = np.full((values.shape[1], days, HARMONICS), np.nan, np.complex128)
    for i in range(values.shape[1]):
        known = ~np.isnan(values[:, i])
        if known.any():
            waves[i] = _waves(at[known] // HOUR_MS - first * HOURS_PER_DAY, values[known, i], days)
            shift[i], alike[i], size[i] = _best_shift(*_sides(waves[i]))
    with np.errstate(invalid="ignore"):
        judged = (alike > MIN_CORRELATION) & (size >= swing[:, None] / 4.0)  # half the amplitude of such a swing
    found = []
    for begin, end, which in _clear_stretches(shift, judged):
        day = _first_day(waves[which], begin, end)
        there = shift[which, day]
        if not np.isnan(there).any() and np.ptp(_hours_apart(there, there[0])) <= MAX_DISAGREEMENT_H:
            hours = float(there[0] + np.median(_hours_apart(there, there[0])))
            found.append(ClockShift((first + day) * DAY_MS, hours, tuple(which.tolist())))
    return found


def _waves(hour: Ints, value: Floats, days: int) -> Waves:
    """(days, HARMONICS) complex amplitudes of each day's waves; NaN where it has a pause."""
    size = days * HOURS_PER_DAY
    many = np.bincount(hour, minlength=size)
    known = np.flatnonzero(many)
    mean = np.bincount(hour, weights=value, minlength=size)[known] / many[known]
    line = np.interp(np.arange(size), known, mean).reshape(days, HOURS_PER_DAY)
    edges = np.concatenate([[-1 - MAX_PAUSE_H], known, [size + MAX_PAUSE_H]])
    pauses = np.flatnonzero(np.diff(edges) > MAX_PAUSE_H)
    paused = np.zeros(size + 1, np.int64)
    np.add.at(paused, np.clip(edges[pauses] + 1, 0, size), 1)
    np.add.at(paused, np.clip(edges[pauses + 1], 0, size), -1)
    middle = line.mean(axis=1)
    climb = np.gradient(middle) if days > 1 else np.zeros(days)
    line = (
        line - middle[:, None] - climb[:, None] * (np.arange(HOURS_PER_DAY) - (HOURS_PER_DAY - 1) / 2) / HOURS_PER_DAY
    )
    waves = np.fft.fft(line, axis=1)[:, 1 : HARMONICS + 1] * 2.0 / HOURS_PER_DAY
    waves[(np.cumsum(paused)[:-1].reshape(days, HOURS_PER_DAY) > 0).any(axis=1)] = np.nan
    return np.asarray(waves)


def _sides(waves: Waves) -> tuple[Waves, Waves]:
    """(days, HARMONICS) the medians of the days before each day, and of those from it on."""
    before = np.full_like(waves, np.nan)
    before[1:] = _rolling_median(waves, DAYS_BEFORE)[:-1]
    return before, _rolling_median(waves[::-1], DAYS_AFTER)[::-1]


def _rolling_median(waves: Waves, window: int) -> Waves:
    """(days, HARMONICS) the medians of the last ``window`` days, part by part; NaN where too few are known."""
    parts = np.concatenate([waves.real, waves.imag], axis=1)
    padded = np.concatenate([np.full((window - 1, parts.shape[1]), np.nan), parts])
    view = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    middle = bn.nanmedian(view, axis=2)
    middle[(~np.isnan(view[:, 0])).sum(axis=1) < MIN_KNOWN_SHARE * window] = np.nan
    return np.asarray(middle[:, :HARMONICS] + 1j * middle[:, HARMONICS:])


def _best_shift(before: Waves, after: Waves) -> tuple[Floats, Floats, Floats]:
    """(days,) hours by which ``after`` is later than ``before``, their correlation then, and the smaller amplitude."""
    tried = np.arange(-HOURS_PER_DAY / 2, HOURS_PER_DAY / 2, 1.0 / TRIED_PER_HOUR)
    turn = np.exp(2j * np.pi * np.outer(np.arange(1, HARMONICS + 1), tried) / HOURS_PER_DAY)
    together = np.conj(before) * after
    match = np.einsum("dh,ht->dt", together.real, turn.real) - np.einsum("dh,ht->dt", together.imag, turn.imag)
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.where(np.isnan(match[:, 0]), 0, np.nan_to_num(match).argmax(axis=1))
        top = match[np.arange(len(match)), best]
        alike = top / np.sqrt((np.abs(before) ** 2).sum(axis=1) * (np.abs(after) ** 2).sum(axis=1))
    size = np.minimum(np.abs(before[:, 0]), np.abs(after[:, 0]))
    return np.where(np.isnan(top), np.nan, tried[best]), alike, size


def _clear_stretches(shift: Floats, judged: Bools) -> list[tuple[int, int, Ints]]:
    """Stretches of days (first, last) at each of which a shift is clear, and the columns that show it."""
    found: list[tuple[int, int, Ints]] = []
    for day in np.flatnonzero((judged & (np.abs(shift) > MIN_SHIFT_H)).sum(axis=0) >= MIN_KINDS).tolist():
        limit = np.maximum(MIN_SHIFT_H, MIN_SHIFT_RATIO * _usual_shift(shift, day))
        clear = np.flatnonzero(judged[:, day] & (np.abs(shift[:, day]) > limit))
        if len(clear) < MIN_KINDS:
            continue
        apart = _hours_apart(shift[clear, day], shift[clear[0], day])
        hours = float(shift[clear[0], day] + np.median(apart))
        others = judged[:, day].copy()
        others[clear] = False
        against = np.abs(_hours_apart(shift[others, day], hours)) > np.maximum(MAX_DISAGREEMENT_H, limit[others])
        if np.ptp(apart) > MAX_DISAGREEMENT_H or against.any():
            continue
        if found and day - found[-1][1] <= DAYS_AFTER // 2:  # while the middles mix old and new days they may not agree
            found[-1] = (found[-1][0], day, found[-1][2])
        else:
            found.append((day, day, clear))
    return found


def _usual_shift(shift: Floats, day: int) -> Floats:
    """(k,) the quantile of the shifts of other days, which share none of the days compared."""
    apart = np.abs(np.arange(shift.shape[1]) - day) > DAYS_BEFORE + DAYS_AFTER
    out = np.full(len(shift), UNKNOWN_SHIFT_H)
    for i, row in enumerate(shift):
        others = np.abs(row[apart & ~np.isnan(row)])
        if len(others) >= MIN_OTHER_DAYS:
            out[i] = np.quantile(others, USUAL_QUANTILE)
    return out


def _hours_apart(one: Floats, other: float) -> Floats:
    """(…) hours from the other to the one, -12 to 12."""
    return np.asarray((one - other + HOURS_PER_DAY / 2) % HOURS_PER_DAY - HOURS_PER_DAY / 2)


def _first_day(waves: Waves, begin: int, end: int) -> int:
    """The day, from ``begin`` to ``end`` of a stretch of clear ones, that best separates the old days from the new."""
    first, last = max(begin - DAYS_AFTER, 0), min(end + DAYS_BEFORE, waves.shape[1])
    split = np.zeros(last - first + 1)
    for one in waves:
        old, new = _sides(one)
        size = np.abs(one[first:last]).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            as_old, as_new = (
                np.nan_to_num(np.real(one[first:last] @ np.conj(side)) / size) / np.abs(side).sum()
                for side in (old[begin], new[end])
            )
        split += np.append(0.0, np.cumsum(as_old)) + np.append(np.cumsum(as_new[::-1])[::-1], 0.0)
    return begin + int(split[begin - first : end + 1 - first].argmax())
