"""Constants that several detectors share; what one detector alone uses stands at the top of its file."""

from typing import Final

from infra.times import DAY_MS, HOUR_MS
from sensors.reading import QualityTest

HOURS_PER_DAY: Final = 24

LUNAR_DAY_MS: Final = 89_428_328
"""24 h 50 min 28 s: tides repeat after it, daylight does not."""

MOVE_WINDOW_MS: Final = 2 * HOUR_MS
"""A move is the departure from the median of so long. A pause of so long ends a window, and
so long after a visit the window still holds readings of the visit."""

MIN_LEARNED_READINGS: Final = 40
"""Readings (or instants of a station) before a limit is drawn from the own past; until then the floors hold."""

COLD_START_MS: Final = 3 * DAY_MS
"""A series younger than this is judged by physics alone (codes, ranges, repeats, air, contradictions in one sample): in
the first three days of eight records the tests that compare readings found none of four labelled faults and raised 14
false alarms."""

MIN_MOVE_SCALE: Final = 0.05
"""Smallest usual move, as a share of the spike floor of the parameter: a steady sensor must not divide by nothing."""

NEAR_ZERO_STEPS: Final = 20.0
"""A value below ``catalogue.step`` divided by this is zero: added before logarithms, lower bound of a level."""

MIN_FILLED_HOURS: Final = 16
"""A day counts when so many of its hours have a reading: two thirds, so that neither day nor night is missing."""

MIN_KNOWN_DAYS: Final = 7
"""Days of the past that must be known before a day is compared with them: working days and days off, some weather, and
spring or neap tide with the way between them."""

REMEMBERED_DAYS: Final = 15
"""Days that slow events remember: from one spring tide to the next, and two weeks of working days."""

MIN_WITNESS_KINDS: Final = 2
"""Other kinds of sensor at the station that must have measured and stayed as they were: one alone may have missed the
change, too, or be as wrong (engineering choice)."""

CHANGE_HOURS: Final = 4
"""Hours within which slow events measure a fall or rise: a sag that takes half a day shows in four hours before it is
as low as the water ever was."""
COURSE_HOURS_BEFORE: Final = CHANGE_HOURS + 1
"""Hours of the day before that slow events keep beside those of the open day."""

VISIT_TESTS: Final = int(QualityTest.OUT_OF_WATER | QualityTest.MAINTENANCE)
"""Bits that say somebody was at the sensors."""

STEP_REACH: Final = 5
"""Readings within which another kind of sensor that moves explains a step: two before, the step, two that confirm
it."""

PARTS_OF_FLOOR: Final = 256.0
"""Sums of values and moves are kept as whole numbers of this part of the spike floor: adding them is exact in any
order, so that every cutting into batches gives the same result."""

CHECK_DUE: Final = 1 << 31
"""Bit of the daily tests, no flag: the sensor should be cleaned or checked."""
LENS_FOULED: Final = 1 << 30
"""Beside it: because its lens seems to be overgrown, and not because it creeps away from its neighbours."""
BELOW_ZERO: Final = 1 << 28
"""No flag either: the zero of the sensor lies below zero."""
CHECK_DUE_IF_UNVISITED: Final = 1 << 29
"""Alone: it is due where nobody looked at it for long."""
