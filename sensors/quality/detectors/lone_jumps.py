"""Detect sensors that jumped while nothing else at their station moved: stuck, in another unit, or simply wrong.

Each starts from a step that three readings confirm: beyond the four before, calm on either side, the series old enough
to know its own steps, and two other kinds of sensor present that did not move. What follows the jump is suspect until
it is over; a suspect reading begins and ends no pollution incident.

====================  ==============================================================================================
``FLAT_LINE``         an analyser repeats, to the last digit, the value it jumped to
``UNIT_MISTAKE``      a concentration jumped by a factor of 100 or 1,000, until it is another by ten or more
``JUMPED_ALONE``      the jump is many times the sensor's own limit; for three hours at most
====================  ==============================================================================================
"""

from typing import Final

import numpy as np

from infra.times import HOUR_MS
from sensors.parameters import Parameter
from sensors.quality.constants import MIN_WITNESS_KINDS, STEP_REACH
from sensors.quality.detectors.recent_levels import RecentLevels
from sensors.quality.state import BUSY, REMEMBERED_READINGS, REPEATS, T_LEVEL
from sensors.quality.thresholds import ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Floats, Ints, Places, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------
# "Engineering choice": chosen without a source.

READINGS_BEFORE: Final = 4
READINGS_AFTER: Final = 3
"""Readings whose medians are the values before and after a jump: those that the step statistic compares."""

# FLAT_LINE
MIN_DIGITS: Final = 3
"""Significant digits of a repeated value. With fewer it may be the end of a range or a detection limit (10.0, 0.05)."""
MAX_REPEAT_SHARE: Final = 0.05
"""Share of repeats in the series' own past. Above it equal readings prove nothing: an analyser that is asked more often
than it measures repeats most of its readings."""

# UNIT_MISTAKE
UNIT_FACTORS: Final = (100.0, 1000.0)
"""mg/L against g/L or µg/L, µS/cm against mS/cm, a decimal point that moved by two. A factor of ten is left out: water
does that."""
MAX_FACTOR_ERROR: Final = 0.15
"""Share by which the ratio of the medians after and before may miss a factor: more than the noise of the sensors of the
catalogue, and an eighth of the way to the next power of ten on a logarithmic scale."""
CONCENTRATION_UNITS: Final = ("mg/L", "µg/L", "µS/cm")
"""Units that are mistaken for another of the same quantity."""
MIN_FACTOR_FROM_USUAL: Final = 30.0
"""Factor to the usual level, up or down: between ten, which water does, and a hundred."""
MAX_SAME_UNIT_FACTOR: Final = 10.0
"""A reading is still in the mistaken unit while it is within this factor of the last ones."""
SMALLEST_VALUE: Final = 1e-12
"""Guards divisions and logarithms against zero; in any unit."""

# JUMPED_ALONE
MIN_JUMP_LIMITS: Final = 5.0
"""Size of the jump in limits of a step of this series: most changes of the water that one sensor alone shows are
smaller (measured on the labelled records, docs/detection.md)."""
MAX_JUMP_MS: Final = 3 * HOUR_MS
"""A jump keeps its readings from counting for so long: somebody has been sent to the sensor by then, and water that
really became another must not wait longer (engineering choice)."""
STILL_AWAY_SHARE: Final = 0.5
"""Of the jump: a reading that is so near to the level before has come back."""

SUSPECTED_FAULTS: Final = QualityTest.FLAT_LINE | QualityTest.UNIT_MISTAKE | QualityTest.JUMPED_ALONE
"""The tests of this file. A jump from a reading that one of them flagged is the way back."""


# -- detection -------------------------------------------------------------------------------------------------------


def flag_lone_jumps(
    line: Timeline, size: Floats, mature: Bools, levels: RecentLevels, history: ThresholdHistory
) -> list[Places]:
    """Flag sensors that jumped alone, and what followed the jump; return the flagged places.

    ``size`` (n,) is the calm step in limits of a step, ``mature`` (n,) where the series has a past.
    """
    rows = np.flatnonzero((size > 1.0) & mature)
    if len(rows):
        usual = levels.usual_ranges(rows)
        value = line.value[line.new[rows]]
        rows = rows[(value < usual.low) | (value > usual.high)]  # not back to where it was before
        rows = rows[line.marks_of_other_kinds(BUSY, rows, STEP_REACH) == 0]
        rows = rows[_present_kinds(line, rows) >= MIN_WITNESS_KINDS]
    begun = {
        QualityTest.FLAT_LINE: _stuck(line, rows, history.column(REPEATS)),
        QualityTest.UNIT_MISTAKE: _in_other_unit(line, rows, history.column(T_LEVEL)),
        QualityTest.JUMPED_ALONE: _large(line, rows, size),
    }
    found: dict[QualityTest, set[int]] = {test: set() for test in begun}
    for series in _series_to_follow(line, rows):
        _follow(line, series, begun, found)
    return [line.flag_suspect(np.array(sorted(places), np.intp), test) for test, places in found.items()]


def _present_kinds(line: Timeline, rows: Places) -> Ints:
    """(r,) how many other kinds of sensor of the station have measured within the last readings of these rows."""
    memory, out = line.memory, np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows.tolist()):
        own, here = line.segment[row], line.new[row]
        begin, end = line.at[here - STEP_REACH + 1], line.at[here]
        kinds = set()
        for series in np.flatnonzero(memory.station == line.station[own]).tolist():
            place = np.searchsorted(line.touched, series)
            if place < len(line.touched) and line.touched[place] == series:
                at = line.at[line.origin[place] : line.last[place] + 1]
            else:
                at = memory.at[series]
            if ((at >= begin) & (at <= end)).any():
                kinds.add(int(line.kind_of[memory.parameter[series]]))
        out[i] = len(kinds - {int(line.kind[own])})
    return out


def _series_to_follow(line: Timeline, rows: Places) -> list[int]:
    """The touched series in which one of ``rows`` confirms a jump, or whose last remembered reading is suspected."""
    last = line.new[line.starts] - 1
    going_on = np.flatnonzero(line.packed[last] >> 4 & int(SUSPECTED_FAULTS)) if len(last) else last
    return sorted({*line.segment[rows].tolist(), *going_on.tolist()})


def _follow(
    line: Timeline, series: int, begun: dict[QualityTest, set[int]], found: dict[QualityTest, set[int]]
) -> None:
    """Add the suspect readings of one series to ``found``, reading by reading.

    A jump from a suspected reading is the way back, whichever batch that reading came with.
    """
    first, last = int(line.new[line.starts[series]]), int(line.new[line.ends[series]])
    faults: dict[QualityTest, _Stuck | _OtherUnit | _Jump] = {
        QualityTest.UNIT_MISTAKE: _OtherUnit(line, first),
        QualityTest.JUMPED_ALONE: _Jump(line, first),
    }
    if line.catalogue.stuck[line.parameter[line.starts[series]]]:
        faults[QualityTest.FLAT_LINE] = _Stuck(line, first)
    for place in range(first, last + 1):
        before = place - READINGS_AFTER
        back = line.packed[before] >> 4 & int(SUSPECTED_FAULTS) or any(before in found[test] for test in faults)
        for test, fault in faults.items():
            if not back and place in begun[test]:
                fault.begin(place)
                found[test] |= {place - 2, place - 1, place}
            elif fault.continues(place):
                found[test].add(place)


# -- begin of a fault ------------------------------------------------------------------------------------------------


def _stuck(line: Timeline, rows: Places, repeats: Floats) -> set[int]:
    """Places where an analyser has jumped to a value and repeated it twice."""
    here = line.new[rows]
    equal = (line.value[here] == line.value[here - 1]) & (line.value[here] == line.value[here - 2])
    rows = rows[line.catalogue.stuck[line.parameter[rows]] & equal & (repeats[rows] < MAX_REPEAT_SHARE)]
    parameters = line.catalogue.parameters
    return {
        place
        for place, p in zip(line.new[rows].tolist(), line.parameter[rows].tolist(), strict=True)
        if _digits(float(line.value[place]), parameters[p]) >= MIN_DIGITS
    }


def _digits(value: float, parameter: Parameter) -> int:
    """Significant digits of a value as the catalogue writes it."""
    return len(f"{abs(value):.{parameter.decimals}f}".replace(".", "").strip("0"))


def _in_other_unit(line: Timeline, rows: Places, usual: Floats) -> set[int]:
    """Places where a concentration has jumped by 100 or 1,000, away from its usual level (n,).

    Without that level only a jump downwards counts, for upwards such a parameter leaves the range of its instrument.
    """
    concentration = np.array([one.unit in CONCENTRATION_UNITS for one in line.catalogue.parameters], np.bool_)
    rows = rows[concentration[line.parameter[rows]]]
    window_before = line.window(rows, 1 - READINGS_AFTER - READINGS_BEFORE, -READINGS_AFTER)
    after = np.median(line.value[line.window(rows, 1 - READINGS_AFTER)], axis=1)
    before = np.median(line.value[window_before], axis=1)
    size = np.maximum(np.abs(after), SMALLEST_VALUE)
    factor = np.abs(np.log(size / np.maximum(np.abs(before), SMALLEST_VALUE)))
    level = usual[rows]
    far = (size * MIN_FACTOR_FROM_USUAL < level) | (size > MIN_FACTOR_FROM_USUAL * level)
    exact = (np.abs(factor[:, None] - np.log(UNIT_FACTORS)) <= np.log1p(MAX_FACTOR_ERROR)).any(axis=1)
    return set(line.new[rows[np.where(level > 0, far, after < before) & exact]].tolist())


def _large(line: Timeline, rows: Places, size: Floats) -> set[int]:
    """Places where a jump of many limits was confirmed."""
    rows = rows[np.isfinite(line.catalogue.shift[line.parameter[rows]]) & (size[rows] >= MIN_JUMP_LIMITS)]
    return set(line.new[rows].tolist())


# -- end of a fault --------------------------------------------------------------------------------------------------


# Each is made with the place of the first new reading of a series, and asked reading by reading.


class _Stuck:
    """Readings that repeat, to the last digit, the value an analyser jumped to."""

    def __init__(self, line: Timeline, first: int) -> None:
        self._line = line
        self._on = bool(line.packed[first - 1] >> 4 & int(QualityTest.FLAT_LINE))

    def begin(self, place: int) -> None:
        self._on = True

    def continues(self, place: int) -> bool:
        self._on = self._on and bool(self._line.value[place] == self._line.value[place - 1])
        return self._on


class _OtherUnit:
    """Readings after a jump by 100 or 1,000, until the value is another by ten or more."""

    def __init__(self, line: Timeline, first: int) -> None:
        self._line = line
        self._last: list[float] = []
        window = slice(first - REMEMBERED_READINGS, first)
        mistaken = (line.packed[window] >> 4 & int(QualityTest.UNIT_MISTAKE)) != 0
        if mistaken[-1]:
            self._last = line.value[window][mistaken].tolist()

    def begin(self, place: int) -> None:
        self._last = self._line.value[place - READINGS_AFTER + 1 : place + 1].tolist()

    def continues(self, place: int) -> bool:
        value = float(self._line.value[place])
        on = bool(self._last) and _same_size(value, self._last[-REMEMBERED_READINGS:])
        self._last = [*self._last[-REMEMBERED_READINGS:], value] if on else []
        return on


class _Jump:
    """Readings after a large jump, until it has come back: at most three hours, and while those before are remembered.

    The bound makes a lasting change of the water count in the end.
    """

    def __init__(self, line: Timeline, first: int) -> None:
        self._line = line
        window = range(first - REMEMBERED_READINGS, first)
        self._flagged = {i for i in window if line.packed[i] >> 4 & int(QualityTest.JUMPED_ALONE)}
        self._on = first - 1 in self._flagged

    def begin(self, place: int) -> None:
        self._flagged = {place - 2, place - 1, place}
        self._on = True

    def continues(self, place: int) -> bool:
        self._on = self._on and self._is_away(place)
        if self._on:
            self._flagged.add(place)
        return self._on

    def _is_away(self, place: int) -> bool:
        """Whether a reading is nearer to where the sensor jumped to than to where it was."""
        value, at = self._line.value, self._line.at
        first = place - 1
        while first - 1 in self._flagged:
            first -= 1
        if place - first + READINGS_BEFORE > REMEMBERED_READINGS or at[place] - at[first] > MAX_JUMP_MS:
            return False
        before = float(np.median(value[first - READINGS_BEFORE : first]))
        return bool(abs(value[place] - before) > STILL_AWAY_SHARE * abs(value[first] - before))


def _same_size(value: float, last: list[float]) -> bool:
    """Whether a value is within a factor of ten of the median of those before it; zero is of any small size."""
    median = abs(float(np.median(last)))
    if abs(value) >= MAX_SAME_UNIT_FACTOR * max(median, SMALLEST_VALUE):
        return False
    return value == 0 or abs(value) > median / MAX_SAME_UNIT_FACTOR
