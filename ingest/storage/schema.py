"""Names of measurements, tags and fields in the time-series server, for the stores and the dashboards.

Measurement ``water``: tags ``station`` and ``reach``; for each parameter a field with the value (float, canonical unit)
and ``{parameter}_flag`` (integer, 1 good … 9 missing); ``{parameter}_tests`` (integer, bit set of the quality tests)
only beside a flag other than 1. Time in milliseconds. A reading is there when its value and its flag are.

A point that is written again keeps the fields it is not given, so that tests of an earlier verdict may stand beside a
flag 1: writers leave them there, readers take no tests from beside a flag 1.

Measurements ``water_hourly`` and ``water_daily``: the same tags; for each parameter of an hour or a Beijing day the
mean (field of the parameter), ``{parameter}_min``, ``{parameter}_max``, ``{parameter}_count`` of its usable readings
(flag below 3) and ``{parameter}_worst``, the worst flag of all. Where the count is 0, older values of the others may
remain and are not read. The reach is the one the station has when its day is computed. They are kept under the
retention policies ``hourly`` and ``daily``, in InfluxQL ``FROM "hourly"."water_hourly"``; on 2.x these are the buckets
``{bucket}_hourly`` and ``{bucket}_daily``. 3.x has none.

Measurement ``river_class``: the live GB 3838 class, one point a minute for each station and each reach that has one.
Measurement ``event``: what the charts are annotated with. Measurement ``spool``: the last entry sent.
"""

from typing import Final

WATER: Final = "water"
HOURLY: Final = "water_hourly"
DAILY: Final = "water_daily"
HOURLY_POLICY: Final = "hourly"
DAILY_POLICY: Final = "daily"
RIVER_CLASS: Final = "river_class"
EVENT: Final = "event"
SPOOL: Final = "spool"

STATION: Final = "station"
REACH: Final = "reach"

# Fields of ``river_class``; its tags are REACH, and STATION too for a point of one station.
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
"""Field, text: red | orange | yellow | blue, of an incident; a field, since it may change while the incident lasts."""
ID: Final = "id"
"""Field, integer: the incident (or visit …)."""
TITLE: Final = "title"
"""Field, text: one sentence, Chinese first."""
UNTIL: Final = "until"
"""Field, integer: ms UTC where it ended; 0 while it lasts."""


# The field of ``spool``.
ENTRY: Final = "entry"
"""Integer: the spool entry that was sent last; read back to see that requests reach the store."""


def flag(parameter: str) -> str:
    """The field that holds the flag of a parameter."""
    return f"{parameter}_flag"


def tests(parameter: str) -> str:
    """The field that holds the quality tests of a parameter."""
    return f"{parameter}_tests"


def parameter_of(field: str) -> str:
    """The parameter of a field of ``water``."""
    return field.removesuffix("_flag").removesuffix("_tests")


def lowest(parameter: str) -> str:
    """The field of ``water_hourly`` and ``water_daily`` that holds the smallest usable reading."""
    return f"{parameter}_min"


def highest(parameter: str) -> str:
    """The field that holds the largest usable reading."""
    return f"{parameter}_max"


def number(parameter: str) -> str:
    """The field that holds how many readings were usable."""
    return f"{parameter}_count"


def worst(parameter: str) -> str:
    """The field that holds the worst flag."""
    return f"{parameter}_worst"
