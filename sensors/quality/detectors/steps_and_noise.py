"""Detect single steps and growing noise that no other kind of sensor of the station shows."""

from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import STEP_REACH
from sensors.quality.state import BUSY, NOISY
from sensors.quality.statistics import ReadingStatistics
from sensors.quality.timeline import Timeline
from sensors.reading import Bools, Floats, Places, QualityTest

WAVE_PARAMETERS: Final = ("level", "depth")
"""Wind and boats make waves: the noise of a level is not the sensor's."""

NOISE_READINGS: Final = 12
"""Readings whose median distance from their neighbours is compared with the limit of noise."""

SWITCHED_PARAMETERS: Final = ("flow", "rain")
"""Gates and pumps change a flow in one step, and rain begins with one. Analysers are left out, too: their readings are
hours apart, and a discharge is a step."""

MIN_PEAKS: Final = 6
"""Of the readings of a noisy sensor eight in twelve lie above or below both neighbours, of one that drifts at random
six; water that runs up and down fast has a peak or two."""

MAX_NOISY_OTHERS: Final = 2
"""Readings of other kinds of sensor that are noisy within the same time; with more of them the water flickers."""


def flag_steps(line: Timeline, statistics: ReadingStatistics, limit: Floats) -> Places:
    """Flag the first reading of a step above a limit (n,) that two more confirm; return the flagged places."""
    tested = ~line.catalogue.stuck[line.parameter] & ~line.is_parameter(*SWITCHED_PARAMETERS)
    rows = np.flatnonzero((statistics.calm_shift > limit) & tested)
    rows = rows[line.marks_of_other_kinds(BUSY, rows, STEP_REACH) == 0]
    return line.flag_suspect(line.new[rows] - 2, QualityTest.SHIFT)


def flag_noise(line: Timeline, statistics: ReadingStatistics, noisy: Bools, limit: Floats) -> Places:
    """Flag the reading before where the last ones left the line of their neighbours as they never did.

    ``noisy`` (n,) are the readings whose own distance is above the limit (n,). Returns the flagged places.
    """
    rows = np.flatnonzero(noisy & ~line.is_parameter(*WAVE_PARAMETERS))
    if not len(rows):
        return np.empty(0, np.intp)
    window = line.value[line.window(rows, -NOISE_READINGS - 1)]
    inner, before, after = window[:, 1:-1], window[:, :-2], window[:, 2:]
    distance = np.abs(inner - (before + after) / 2.0)
    flickers = ((inner - before) * (inner - after) > 0).sum(axis=1) >= MIN_PEAKS
    rows = rows[flickers & (np.asarray(bn.median(distance, axis=1)) / statistics.scale[rows] > limit[rows])]
    rows = rows[line.marks_of_other_kinds(NOISY, rows, NOISE_READINGS + 1) <= MAX_NOISY_OTHERS]
    return line.flag_suspect(line.new[rows] - 1, QualityTest.NOISE)
