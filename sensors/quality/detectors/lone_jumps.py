"""Sensors that jumped while nothing else at their station moved: stuck, in another unit, or faulty without a name.

Each starts from a jump that the tests of steps have found: three readings beyond the four before, calm on either side,
the series old enough to know its own steps, and two other kinds of sensor present that did not move. What follows the
jump is suspect until it is over; a suspect reading opens and ends no pollution incident.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from sensors.parameters import Catalogue
from sensors.quality.state import KEEP
from sensors.reading import Bools, Codes, Floats, Ints, Places, QualityTest

FACTORS: Final = (100.0, 1000.0)
"""mg/L against g/L or µg/L, µS/cm against mS/cm, a decimal point that moved by two. A factor of ten is left out: water
does that."""
AS_EXACT: Final = 0.15
"""The medians before and after the jump differ by one of these factors to within this share: more than the noise of the
sensors of the catalogue, and an eighth of the way to the nearest other factor of ten on a logarithmic scale."""
CONCENTRATIONS: Final = ("mg/L", "µg/L", "µS/cm")
"""Units that are mistaken for another of the same quantity."""

UNUSUAL: Final = 30.0
"""So many times larger or smaller than the usual level: between a factor of ten, which water does, and a hundred."""

DIGITS: Final = 3
"""Significant digits from which a repeated value is no end of a range and no detection limit (10.0, 0.05)."""
REPEATS_MOST: Final = 0.05
"""Share of repeats of the series' own past above which three equal readings prove nothing: an analyser that is asked
more often than it measures repeats most of its readings."""

LONGEST_MS: Final = 3 * 3_600_000
"""For so long at most a jump alone keeps its readings from counting: somebody has been sent to the sensor by then, and
water that really became another must not wait longer (our choice)."""
FAR: Final = 5.0
"""A jump alone is suspect from so many of its own limits on: most changes of the water that one sensor alone shows are
smaller (measured on the labelled records, docs/detection.md)."""


SUSPECTED: Final = QualityTest.FLAT_LINE | QualityTest.UNIT_MISTAKE | QualityTest.JUMPED_ALONE
"""What these tests say. A jump from a reading that one of them made suspect is the way back."""


@dataclass(frozen=True, slots=True)
class Calm:
    """Jumps alone, on the flat line of readings that ``assess`` lays out.

    ``x``, ``t``, ``q`` are values, instants (ms) and packed flags of that line; ``here`` (n,) the places of the new
    readings, ``segment`` (n,) their series, ``starts`` (m,) the first new reading of each. ``rows`` (r,) are the new
    readings that confirm a jump as its third, ``size`` (r,) how many limits it has.
    """

    x: Floats
    t: Ints
    q: Ints
    here: Places
    segment: Places
    starts: Places
    rows: Places
    size: Floats

    def series(self) -> list[int]:
        """The series in which one of ``rows`` confirms a jump, or whose last remembered reading is suspected."""
        last = self.here[self.starts] - 1
        going_on = np.flatnonzero(self.q[last] >> 4 & int(SUSPECTED)) if len(last) else last
        return sorted({*self.segment[self.rows].tolist(), *going_on.tolist()})

    def span(self, series: int) -> tuple[int, int]:
        """First and last new reading of a series, as places on the line."""
        first = int(self.starts[series])
        end = int(self.starts[series + 1]) if series + 1 < len(self.starts) else len(self.here)
        return int(self.here[first]), int(self.here[end - 1])


def suspected(calm: Calm, p: Codes, repeats: Floats, usual: Floats, catalogue: Catalogue) -> dict[QualityTest, Places]:
    """The readings of each of these faults.

    ``repeats`` (n,) is the share of repeats of the series' past; ``usual`` (n,) the level of two weeks, 0 where none is
    kept. The readings are walked through in order, for a jump from a suspected reading is the way back, whichever batch
    that reading came with.
    """
    begun = {
        QualityTest.FLAT_LINE: _stuck(calm, p, repeats, catalogue),
        QualityTest.UNIT_MISTAKE: _mistaken(calm, p, usual, catalogue),
        QualityTest.JUMPED_ALONE: _far(calm, p, catalogue),
    }
    found: dict[QualityTest, set[int]] = {test: set() for test in begun}
    for series in calm.series():
        first, last = calm.span(series)
        faults: dict[QualityTest, _Fault] = {
            QualityTest.UNIT_MISTAKE: _Mistake(calm, first),
            QualityTest.JUMPED_ALONE: _Jump(calm, first),
        }
        if catalogue.stuck[p[calm.starts[series]]]:
            faults[QualityTest.FLAT_LINE] = _Stuck(calm, first)
        for place in range(first, last + 1):
            before = place - 3
            back = calm.q[before] >> 4 & int(SUSPECTED) or any(before in found[test] for test in faults)
            for test, fault in faults.items():
                if not back and place in begun[test]:
                    fault.begin(place)
                    found[test] |= {place - 2, place - 1, place}
                elif fault.goes_on(place):
                    found[test].add(place)
    return {test: _places(places) for test, places in found.items()}


class _Fault(Protocol):
    """One fault of one series, reading by reading."""

    def begin(self, place: int) -> None:
        """A jump was confirmed at ``place``: its three readings are the first."""

    def goes_on(self, place: int) -> bool:
        """Whether the next reading is one of it, too."""


class _Stuck:
    """Readings that repeat, to the last digit, the value an analyser jumped to."""

    def __init__(self, calm: Calm, first: int) -> None:
        self._calm = calm
        self._on = bool(calm.q[first - 1] >> 4 & int(QualityTest.FLAT_LINE))

    def begin(self, place: int) -> None:
        self._on = True

    def goes_on(self, place: int) -> bool:
        self._on = self._on and bool(self._calm.x[place] == self._calm.x[place - 1])
        return self._on


class _Mistake:
    """Readings after a jump by 100 or 1,000, until the value is another by ten or more."""

    def __init__(self, calm: Calm, first: int) -> None:
        self._calm = calm
        self._near: list[float] = []
        if calm.q[first - 1] >> 4 & int(QualityTest.UNIT_MISTAKE):
            window = range(first - KEEP, first)
            self._near = [float(calm.x[i]) for i in window if calm.q[i] >> 4 & int(QualityTest.UNIT_MISTAKE)]

    def begin(self, place: int) -> None:
        self._near = self._calm.x[place - 2 : place + 1].tolist()

    def goes_on(self, place: int) -> bool:
        value = float(self._calm.x[place])
        on = bool(self._near) and _same_size(value, self._near[-KEEP:])
        self._near = [*self._near[-KEEP:], value] if on else []
        return on


class _Jump:
    """Readings after a large jump, until it has come back: at most three hours, and while those before are remembered.

    The bound makes a lasting change of the water heard in the end: then these readings count again.
    """

    def __init__(self, calm: Calm, first: int) -> None:
        self._calm = calm
        window = range(first - KEEP, first)
        self._marked = {i for i in window if calm.q[i] >> 4 & int(QualityTest.JUMPED_ALONE)}
        self._on = first - 1 in self._marked

    def begin(self, place: int) -> None:
        self._marked = {place - 2, place - 1, place}
        self._on = True

    def goes_on(self, place: int) -> bool:
        self._on = self._on and _stays(self._calm, place, self._marked)
        if self._on:
            self._marked.add(place)
        return self._on


def _stuck(calm: Calm, p: Codes, repeats: Floats, catalogue: Catalogue) -> set[int]:
    """Where an analyser has jumped to a value and repeated it twice."""
    rows = calm.rows
    here = calm.here[rows]
    equal = (calm.x[here] == calm.x[here - 1]) & (calm.x[here] == calm.x[here - 2])
    rows = rows[catalogue.stuck[p[rows]] & equal & (repeats[rows] < REPEATS_MOST)]
    rows = rows[_exact(calm.x[calm.here[rows]], p[rows], catalogue)]
    return set(calm.here[rows].tolist())


def _exact(values: Floats, p: Codes, catalogue: Catalogue) -> Bools:
    """(r,) whether a value has enough digits to be no round limit."""
    out = np.zeros(len(values), np.bool_)
    for i, (value, parameter) in enumerate(zip(values.tolist(), p.tolist(), strict=True)):
        shown = f"{abs(value):.{catalogue.parameters[parameter].decimals}f}".replace(".", "").strip("0")
        out[i] = len(shown) >= DIGITS
    return out


def _mistaken(calm: Calm, p: Codes, usual: Floats, catalogue: Catalogue) -> set[int]:
    """Where a concentration has jumped by 100 or 1,000, away from its usual level.

    Without that level only a jump downwards counts, for upwards such a parameter leaves the range of its instrument.
    """
    concentration = np.array([one.unit in CONCENTRATIONS for one in catalogue.parameters], np.bool_)
    rows = calm.rows[concentration[p[calm.rows]]]
    here = calm.here[rows]
    after = np.median(calm.x[here[:, None] + np.arange(-2, 1)], axis=1)
    before = np.median(calm.x[here[:, None] + np.arange(-6, -2)], axis=1)
    factor = np.abs(np.log(np.maximum(np.abs(after), 1e-12) / np.maximum(np.abs(before), 1e-12)))
    level, size = usual[rows], np.maximum(np.abs(after), 1e-12)
    unusual = np.where(level > 0, (size * UNUSUAL < level) | (size > UNUSUAL * level), after < before)
    rows = rows[unusual & (np.abs(factor[:, None] - np.log(FACTORS)) <= np.log1p(AS_EXACT)).any(axis=1)]
    return set(calm.here[rows].tolist())


def _same_size(value: float, near: list[float]) -> bool:
    """Whether a value is within a factor of ten of the median of those before it; zero is of any small size."""
    middle = abs(float(np.median(near)))
    return abs(value) < 10 * max(middle, 1e-12) and (value == 0 or abs(value) > middle / 10)


def _far(calm: Calm, p: Codes, catalogue: Catalogue) -> set[int]:
    """Where a large jump was confirmed."""
    rows = calm.rows[np.isfinite(catalogue.shift[p[calm.rows]]) & (calm.size >= FAR)]
    return set(calm.here[rows].tolist())


def _stays(calm: Calm, place: int, marked: set[int]) -> bool:
    """Whether a reading is nearer to where the sensor jumped to than to where it was."""
    first = place - 1
    while first - 1 in marked:
        first -= 1
    if place - first + 4 > KEEP or calm.t[place] - calm.t[first] > LONGEST_MS:
        return False
    before = float(np.median(calm.x[first - 4 : first]))
    return bool(abs(calm.x[place] - before) > abs(calm.x[first] - before) / 2)


def _places(found: set[int]) -> Places:
    return np.array(sorted(found), np.intp)
