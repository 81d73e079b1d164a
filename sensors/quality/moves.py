"""Moves: how far each reading departs from its last two hours, in usual moves of its series.

Moves are what :mod:`sensors.quality.detectors.sudden_events` compares between the sensors of a station. What is usual
at that time of the day or of the tide is taken out, and moves that cannot be news are marked.
"""

from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
from sensors.quality.constants import LUNAR_DAY_MS, MIN_MOVE_SCALE, MOVE_WINDOW_MS, NEAR_ZERO_STEPS
from sensors.quality.detectors.recent_levels import RecentLevels, is_returning
from sensors.quality.state import PHASES, T_LEVEL, T_MOVE, DayUpdate
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Bytes, Floats, Ints, Places, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------

SHORT_WINDOW: Final = 8
"""Readings of the shortest window of a median."""
WINDOWS: Final = ((450_000, 24), (750_000, 12))
"""(longest step in ms, readings): the window that makes about two hours. Steps beyond take :data:`SHORT_WINDOW`."""
LONGEST_WINDOW: Final = WINDOWS[0][1]
FAST_STEP_MS: Final = 270_000
"""Steps up to 4.5 minutes are fast and take :data:`SHORT_WINDOW`, too: the inlet of a works turns within minutes."""

MIN_LEVEL_SHARE: Final = 0.5
"""Share of the usual level that is added before the logarithm of optical sensors and analysers: they read near zero."""

SMALL_MOVE: Final = 0.4
"""In usual moves. Smaller ones are nothing. Moves that are no news are cut to this size: they bear no witness, but
their direction is known."""

MAX_PAUSE_STEPS: Final = 4
"""In usual steps of the last readings: after a longer pause (and :data:`MOVE_WINDOW_MS`) the median is of other
water."""

CLIMB: Final = 1
LEAP: Final = 2
"""Course of a move: in several readings, as water goes, or most of the way from one reading to the next."""

CLEAR_MOVE: Final = 2.0
"""In usual moves. Of smaller ones the course is not asked: noise makes most of its way in one step."""

FAR_MOVE: Final = 6.0
FAR_DURATION_MS: Final = 1_800_000
FAR_READINGS: Final = (3, 4)
MAX_STEP_SHARE: Final = 0.6
"""A single sensor suffices (``CLIMB``) when it is this many usual moves away for half an hour in one direction, in
three readings or, where they come faster, in four, and made at most this share of the way in one step: plumes ramp,
faults jump."""

STEADY_CLIMB_READINGS: Final = 24
"""Where readings come so fast that a move is one of the last eight, the move of a steady climb stays small. There a
single sensor suffices when the moves of so many readings (three windows) all lie in one direction beyond 95 % of its
own: 0.025³, once in a year at a reading a minute for readings that are independent."""

NO_WITNESS_TESTS: Final = int(
    QualityTest.OVER_RANGE
    | QualityTest.PLAUSIBLE_RANGE
    | QualityTest.FLAT_LINE
    | QualityTest.UNIT_MISTAKE
    | QualityTest.DEVICE_STATUS
    | QualityTest.CALIBRATION
    | QualityTest.MAINTENANCE
)
"""A sensor that stands still, is beyond its range or in somebody's hands says nothing of the water. Spike, step and
noise are not among them: the first wave of an event looks like these, too."""


# -- departures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Departures:
    """Departures from the last two hours.

    Attributes
    ----------
    size : (n,) without what is usual at that time of the day or tide; NaN where nothing can be said. Where noise grows
        with the level it is one of the logarithm.
    median : (n,) of the last two hours
    rhythm : what is to be remembered of the usual day
    """

    size: Floats
    median: Floats
    rhythm: DayUpdate


def departures(line: Timeline, history: ThresholdHistory, learns: Bools) -> Departures:
    """Compute departures; those of ``learns`` (n,) go into the usual day."""
    new, at, catalogue = line.new, line.at, line.catalogue
    median = _recent_median(line)
    value = line.value[new]
    size = value - median
    relative = np.flatnonzero(catalogue.relative[line.parameter])
    if len(relative):
        p = line.parameter[relative]
        salt = catalogue.flat[p] & ~catalogue.optical[p]
        offset = np.where(salt, 0.0, MIN_LEVEL_SHARE * history.column(T_LEVEL)[relative])
        offset = offset + catalogue.step[p] / NEAR_ZERO_STEPS
        ratio = np.maximum(value[relative] + offset, 1e-6) / np.maximum(median[relative] + offset, 1e-6)
        size[relative] = np.log(ratio)
    size[_without_event(catalogue)[line.parameter]] = np.nan
    solar = at[new] % DAY_MS * PHASES // DAY_MS
    lunar = at[new] % LUNAR_DAY_MS * PHASES // LUNAR_DAY_MS
    size, rhythm = history.rhythm(size, solar, lunar, catalogue.spike[line.parameter], learns)
    return Departures(size, median, rhythm)


def _recent_median(line: Timeline) -> Floats:
    """(n,) the median of about two hours before each new reading, of eight readings at least."""
    median = line.median_before(line.new, SHORT_WINDOW)
    windows = _window(line, line.new)
    for _, window in WINDOWS:
        rows = np.flatnonzero(windows == window)
        if len(rows):
            median[rows] = line.median_before(line.new[rows], window)
    return median


def _window(line: Timeline, here: Places) -> Ints:
    """(r,) the number of readings whose median is the last two hours of each of these places."""
    pace = (line.at[here] - line.at[here - SHORT_WINDOW]) / SHORT_WINDOW
    slowest = [FAST_STEP_MS, *(longest for longest, _ in WINDOWS)]
    return np.array([SHORT_WINDOW, *(window for _, window in WINDOWS), SHORT_WINDOW])[np.searchsorted(slowest, pace)]


def _without_event(catalogue: Catalogue) -> Bools:
    """(parameters,) those that tell nothing of the water."""
    return np.array([not parameter.event for parameter in catalogue.parameters], np.bool_)


def move_scale(line: Timeline, history: ThresholdHistory) -> Floats:
    """(n,) the usual move of each series, the unit of moves."""
    return np.maximum(history.column(T_MOVE), MIN_MOVE_SCALE * line.catalogue.spike[line.parameter])


# -- course ----------------------------------------------------------------------------------------------------------


def course(line: Timeline, move: Floats, median: Floats) -> Bytes:
    """(n,) how the sensors went from where they were: ``LEAP``, ``CLIMB``, or 0 where neither is clear."""
    out = np.zeros(len(move), np.uint8)
    rows = np.flatnonzero(np.abs(move) >= CLEAR_MOVE)
    if len(rows):
        steps = np.diff(line.value[line.window(rows, -LONGEST_WINDOW)], axis=1)
        steps = np.where(_in_window(line, rows)[:, :-1], steps, 0.0)
        value = line.value[line.new[rows]]
        max_step = MAX_STEP_SHARE * np.abs(value - median[rows])
        largest = np.where(value > median[rows], np.fmax.reduce(steps, axis=1), -np.fmin.reduce(steps, axis=1))
        out[rows[largest > max_step]] = LEAP
        ramps = np.abs(move[rows]) >= FAR_MOVE
        ramps[ramps] = _stays_far(line, rows[ramps])
        ramps &= np.fmax.reduce(np.abs(steps), axis=1) <= max_step
        out[rows[ramps]] = CLIMB
    out[_steady_climbs(line, move)] = CLIMB
    return out


def _stays_far(line: Timeline, rows: Places) -> Bools:
    """(r,) whether all moves of the last half hour are far and in one direction."""
    back = np.arange(1 - FAR_READINGS[1], 1)
    places = line.window(rows, 1 - FAR_READINGS[1])
    move, at = line.move[places], line.at[places]
    recent = (at >= at[:, -1:] - FAR_DURATION_MS) | (back > -FAR_READINGS[0])
    return np.asarray(((move >= FAR_MOVE) | ~recent).all(axis=1) | ((move <= -FAR_MOVE) | ~recent).all(axis=1))


def _steady_climbs(line: Timeline, move: Floats) -> Places:
    """The fast readings at which a sensor has gone one way for long, and not in one step."""
    rows = np.flatnonzero(np.abs(move) >= 1.0)
    here = line.new[rows]
    rows = rows[line.at[here] - line.at[here - STEADY_CLIMB_READINGS] <= STEADY_CLIMB_READINGS * FAST_STEP_MS]
    if not len(rows):
        return np.empty(0, np.intp)
    last = line.move[line.window(rows, 1 - STEADY_CLIMB_READINGS)]
    rows = rows[(last >= 1.0).all(axis=1) | (last <= -1.0).all(axis=1)]
    value = line.value[line.window(rows, -STEADY_CLIMB_READINGS)]
    largest = np.abs(np.diff(value, axis=1)).max(axis=1)
    return np.asarray(rows[largest <= MAX_STEP_SHARE * np.abs(value[:, -1] - value[:, 0])])


def _in_window(line: Timeline, rows: Places) -> Bools:
    """(r, 25) which of the readings up to each of these lie within its two hours, or are among the last nine."""
    at = line.at[line.window(rows, -LONGEST_WINDOW)]
    return np.asarray((at >= at[:, -1:] - MOVE_WINDOW_MS) | (np.arange(-LONGEST_WINDOW, 1) >= -SHORT_WINDOW))


# -- what is no news -------------------------------------------------------------------------------------------------


def unreliable(line: Timeline, rows: Places) -> Bools:
    """(r,) moves across a pause, or of a sensor that is faulty or was when its median was measured."""
    return _after_pause(line, rows) | _faulty(line, rows)


def _after_pause(line: Timeline, rows: Places) -> Bools:
    """(r,) moves across a pause: what changed while nobody looked is not sudden."""
    out = np.zeros(len(rows), np.bool_)
    here = line.new[rows]
    window = _window(line, here)
    for size in np.unique(window).tolist():
        long = np.flatnonzero((window == size) & (line.at[here] - line.at[here - size] > MOVE_WINDOW_MS))
        if len(long):
            steps = np.diff(line.at[line.window(rows[long], -size)], axis=1)
            max_step = np.maximum(MOVE_WINDOW_MS, MAX_PAUSE_STEPS * np.asarray(bn.median(steps, axis=1)))
            out[long] = steps.max(axis=1) > max_step
    return out


def _faulty(line: Timeline, rows: Places) -> Bools:
    """(r,) moves of a sensor that is faulty, or was when the median it departs from was measured."""
    out = np.zeros(len(rows), np.bool_)
    bad = (line.packed & (NO_WITNESS_TESTS << 4)) != 0
    if bad.any():
        so_far = np.append(0, np.cumsum(bad))
        here = line.new[rows]
        some = np.flatnonzero(so_far[here + 1] > so_far[here - LONGEST_WINDOW])
        near = bad[line.window(rows[some], -LONGEST_WINDOW)]
        out[some] = (near & _in_window(line, rows[some])).any(axis=1)
    return out


def is_no_news(line: Timeline, rows: Places, median: Floats, levels: RecentLevels, history: ThresholdHistory) -> Bools:
    """(r,) moves back to where the water was, and salt that comes and goes with the tide.

    Fast readings are compared with their last minutes and are always news: neither rain nor tide explains them.
    """
    catalogue, p = line.catalogue, line.parameter[rows]
    value, median = line.value[line.new[rows]], median[rows]
    usual = move_scale(line, history)[rows]
    usual = np.where(catalogue.relative[p], usual * np.abs(median), usual)
    ranges = levels.usual_ranges(rows)
    salt = np.array([parameter.event == "salt" for parameter in catalogue.parameters], np.bool_)[p]
    with np.errstate(invalid="ignore"):
        tide = salt & (value > ranges.tide_low - usual) & (value < ranges.tide_high + usual)
    here = line.new[rows]
    slow = line.at[here] - line.at[here - SHORT_WINDOW] > SHORT_WINDOW * FAST_STEP_MS
    return np.asarray(slow & (is_returning(value, median, ranges.low, ranges.high, usual) | tide))
