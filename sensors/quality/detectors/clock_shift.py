"""From when on the days of a station run early or late: a clock that was set wrong, or right again. Pure.

The sun moves temperature, oxygen and pH, each at its own hours. Where all of them begin to do so two hours later from
one day to the next, it was not the water: the time written beside it is another one. The days after a change are used,
so this is for tables; live, the arrival of messages tells more (:mod:`ingest.rules.device_clock`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.times import DAY_MS
from sensors.quality.detectors.point_tests import nanmedian
from sensors.reading import Bools, Floats, Ints

Waves = NDArray[np.complex128]

HOUR_MS: Final = 3_600_000
HOURS: Final = 24

HARMONICS: Final = 3
"""Waves of a day that are compared, of 24, 12 and 8 hours: its shape, without the noise."""

PAUSE: Final = 4
"""Hours between two readings from which on a day is not known: six results a day still show its wave."""

BEFORE: Final = 14
AFTER: Final = 7
"""Days of which the middle is compared: of a week alone the weather makes half an hour more or less, and a fortnight
before because the present day is among a week of its like soon enough (engineering choice)."""
KNOWN: Final = 0.6
"""Share of them that must be known."""

LEAST_H: Final = 1.0
"""Less is no clock that was set: zones and summer time are of whole hours, and rivers do nearly as much in a week."""

TIMES: Final = 2.0
USUAL: Final = 0.9
"""A shift is clear when it is twice as large as nine in ten of all others that this sensor shows: clouds, floods that
deepen the water and the season move its day, too."""

ELSEWHERE: Final = 30
"""So many days that do not overlap with those compared tell what is usual; with fewer the worst that nine in ten weeks
of the public records do is taken."""
UNKNOWN_H: Final = 2.0

ALIKE: Final = 0.9
"""Both middles must have one shape, as a correlation: another shape has no shift."""

VOICES: Final = 2
AGREE_H: Final = 1.0
"""Kinds of sensor that must say the same, within so much; no other one that has a day may contradict them."""

STEPS: Final = 20
"""Shifts are tried at so many parts of an hour."""


@dataclass(frozen=True, slots=True)
class Shift:
    """From the UTC day that begins at ``since_ms`` on (give or take two) what the sun does is written down ``hours``
    later than before, earlier where negative; ``judged`` are the columns that say so."""

    since_ms: int
    hours: float
    judged: tuple[int, ...]

    def alike(self, other: "Shift") -> bool:
        """Whether both clocks were set by the same."""
        return bool(abs(_apart(np.array(self.hours), other.hours)) <= AGREE_H)


def shifts(at: Ints, values: Floats, swing: Floats) -> list[Shift]:
    """The days on which a station's day shifted, ascending.

    Parameters
    ----------
    at : (n,) int array
        ms UTC, ascending.
    values : (n, k) float array
        What the sun moves: temperature, oxygen, pH, one sensor of each kind; NaN where missing.
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
            waves[i] = _waves(at[known] // HOUR_MS - first * HOURS, values[known, i], days)
            shift[i], alike[i], size[i] = _against(*_sides(waves[i]))
    with np.errstate(invalid="ignore"):
        judged = (alike > ALIKE) & (size >= swing[:, None] / 4.0)  # half the wave of such a swing
    found = []
    for begin, end, which in _clear(shift, judged):
        day = _since(waves[which], begin, end)
        there = shift[which, day]
        if not np.isnan(there).any() and np.ptp(_apart(there, there[0])) <= AGREE_H:
            hours = float(there[0] + np.median(_apart(there, there[0])))
            found.append(Shift((first + day) * DAY_MS, hours, tuple(which.tolist())))
    return found


def _waves(hour: Ints, value: Floats, days: int) -> Waves:
    """(days, HARMONICS) complex amplitudes of each day's waves; NaN where it has a pause."""
    size = days * HOURS
    many = np.bincount(hour, minlength=size)
    known = np.flatnonzero(many)
    mean = np.bincount(hour, weights=value, minlength=size)[known] / many[known]
    line = np.interp(np.arange(size), known, mean).reshape(days, HOURS)
    edges = np.concatenate([[-1 - PAUSE], known, [size + PAUSE]])
    pauses = np.flatnonzero(np.diff(edges) > PAUSE)
    paused = np.zeros(size + 1, np.int64)
    np.add.at(paused, np.clip(edges[pauses] + 1, 0, size), 1)
    np.add.at(paused, np.clip(edges[pauses + 1], 0, size), -1)
    middle = line.mean(axis=1)
    climb = np.gradient(middle) if days > 1 else np.zeros(days)
    line = line - middle[:, None] - climb[:, None] * (np.arange(HOURS) - (HOURS - 1) / 2) / HOURS
    waves = np.fft.fft(line, axis=1)[:, 1 : HARMONICS + 1] * 2.0 / HOURS
    waves[(np.cumsum(paused)[:-1].reshape(days, HOURS) > 0).any(axis=1)] = np.nan
    return np.asarray(waves)


def _sides(waves: Waves) -> tuple[Waves, Waves]:
    """(days, HARMONICS) the middle of the days before each day, and of those from it on."""
    before = np.full_like(waves, np.nan)
    before[1:] = _middle(waves, BEFORE)[:-1]
    return before, _middle(waves[::-1], AFTER)[::-1]


def _middle(waves: Waves, window: int) -> Waves:
    """(days, HARMONICS) the medians of the last ``window`` days, part by part; NaN where too few are known."""
    parts = np.concatenate([waves.real, waves.imag], axis=1)
    padded = np.concatenate([np.full((window - 1, parts.shape[1]), np.nan), parts])
    view = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    middle = nanmedian(np.ascontiguousarray(view).reshape(-1, window)).reshape(len(waves), -1)
    middle[(~np.isnan(view[:, 0])).sum(axis=1) < KNOWN * window] = np.nan
    return np.asarray(middle[:, :HARMONICS] + 1j * middle[:, HARMONICS:])


def _against(before: Waves, after: Waves) -> tuple[Floats, Floats, Floats]:
    """(days,) by how many hours ``after`` runs later than ``before``, how alike they are then, and how large the
    smaller wave is."""
    tried = np.arange(-HOURS / 2, HOURS / 2, 1.0 / STEPS)
    turn = np.exp(2j * np.pi * np.outer(np.arange(1, HARMONICS + 1), tried) / HOURS)
    match = np.real((np.conj(before) * after) @ turn)
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.where(np.isnan(match[:, 0]), 0, np.nan_to_num(match).argmax(axis=1))
        top = match[np.arange(len(match)), best]
        alike = top / np.sqrt((np.abs(before) ** 2).sum(axis=1) * (np.abs(after) ** 2).sum(axis=1))
    size = np.minimum(np.abs(before[:, 0]), np.abs(after[:, 0]))
    return np.where(np.isnan(top), np.nan, tried[best]), alike, size


def _clear(shift: Floats, judged: Bools) -> list[tuple[int, int, Ints]]:
    """Stretches of days (first, last) at each of which a shift is clear, and the columns that show it."""
    found: list[tuple[int, int, Ints]] = []
    for day in np.flatnonzero((judged & (np.abs(shift) > LEAST_H)).sum(axis=0) >= VOICES).tolist():
        limit = np.maximum(LEAST_H, TIMES * _usual(shift, day))
        clear = np.flatnonzero(judged[:, day] & (np.abs(shift[:, day]) > limit))
        if len(clear) < VOICES:
            continue
        apart = _apart(shift[clear, day], shift[clear[0], day])
        hours = float(shift[clear[0], day] + np.median(apart))
        others = judged[:, day].copy()
        others[clear] = False
        against = np.abs(_apart(shift[others, day], hours)) > np.maximum(AGREE_H, limit[others])
        if np.ptp(apart) > AGREE_H or against.any():
            continue
        if found and day - found[-1][1] <= AFTER // 2:  # while the middles mix old and new days they may not agree
            found[-1] = (found[-1][0], day, found[-1][2])
        else:
            found.append((day, day, clear))
    return found


def _usual(shift: Floats, day: int) -> Floats:
    """(k,) the shift that nine in ten other days, which share none of the days compared, stay below."""
    apart = np.abs(np.arange(shift.shape[1]) - day) > BEFORE + AFTER
    out = np.full(len(shift), UNKNOWN_H)
    for i, row in enumerate(shift):
        others = np.abs(row[apart & ~np.isnan(row)])
        if len(others) >= ELSEWHERE:
            out[i] = np.quantile(others, USUAL)
    return out


def _apart(one: Floats, other: float) -> Floats:
    """Hours from the other to the one, on the round of a day."""
    return np.asarray((one - other + HOURS / 2) % HOURS - HOURS / 2)


def _since(waves: Waves, begin: int, end: int) -> int:
    """The day, from ``begin`` to ``end`` of a stretch of clear ones, that best parts the old days from the new."""
    first, last = max(begin - AFTER, 0), min(end + BEFORE, waves.shape[1])
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
