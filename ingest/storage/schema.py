"""The names by which readings stand in a time-series server (design §4.6): used by the adapters and the dashboards.

Measurement ``water``: tags ``station`` and ``reach``; for each parameter a field with the value (float, canonical unit)
and ``{parameter}_flag`` (integer, 1 good … 9 missing); ``{parameter}_tests`` (integer, bit set of the quality tests)
only beside a flag other than 1. Time in milliseconds.

Measurement ``river_class``: the live GB 3838 class, one point a minute for each station and each reach that has one.
Measurement ``event``: what the charts are annotated with.
"""

from typing import Final

WATER: Final = "water"
RIVER_CLASS: Final = "river_class"
EVENT: Final = "event"

STATION: Final = "station"
REACH: Final = "reach"

# Fields of ``river_class``; its tags are REACH, and STATION too where the point speaks of one station.
CLASS: Final = "class"
"""Integer 1 … 6 for I … V and worse than V (劣Ⅴ); the field is left out where nothing can be judged."""
DECIDING: Final = "deciding"
"""Text: the keys of the parameters that decide the class, joined by a comma."""
JUDGED: Final = "judged"
"""Integer: how many parameters were judged."""
EXPECTED: Final = "expected"
"""Integer: how many the station or reach measures that could be judged."""
TARGET: Final = "target"
"""Integer 1 … 5: the target class of the reach; left out where it has none."""

# Tags and fields of ``event``.
KIND: Final = "kind"
"""Tag: incident | visit | calibration | swap | rules."""
COLOUR: Final = "colour"
"""Tag: red | orange | yellow | blue, of an incident."""
ID: Final = "id"
"""Field, integer: the incident (or visit …) it speaks of."""
TITLE: Final = "title"
"""Field, text: one sentence, Chinese first."""
UNTIL: Final = "until"
"""Field, integer: ms UTC where it ended; 0 while it lasts."""


def flag(parameter: str) -> str:
    """The field that holds the flag of a parameter."""
    return f"{parameter}_flag"


def tests(parameter: str) -> str:
    """The field that holds the quality tests of a parameter."""
    return f"{parameter}_tests"
