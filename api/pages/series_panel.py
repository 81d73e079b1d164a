"""What ``<series-chart>`` is sent: the panel of one parameter, in words and columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.pages.models import series
from api.pages.models import series_chart as chart
from api.pages.models.series_chart import Limits
from api.pages.view import View
from sensors.standards.gb3838 import WaterClass


@dataclass(frozen=True, slots=True)
class Compared:
    """The series of the neighbour, its times already moved by the travel time of the water."""

    name: str
    shift_ms: int
    columns: chart.Columns


@dataclass(frozen=True, slots=True)
class Panel:
    """One parameter as the browser draws it. ``limit_text`` words the target's limit, "" where there is none;
    ``ringed`` are samples (ms, value) that a ring marks."""

    parameter: str
    name: str
    unit: str
    decimals: int
    limits: Limits | None
    limit_text: str
    columns: chart.Columns
    thinned: bool
    sentence: str
    compared: Compared | None
    ringed: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened at the station, in its row below the curves.

    ``kind`` is incident, visit, check or swap; ``until_ms`` None goes on or took no time. An incident has a colour with
    its ``sign`` and leads somewhere, a check says whether it ``passed``.
    """

    kind: str
    since_ms: int
    until_ms: int | None
    text: str
    colour: str = ""
    sign: str = ""
    passed: bool | None = None
    href: str = ""


def panel(v: View, view: series.View, limits: Limits | None, compared: Compared | None = None) -> Panel:
    """The panel of a series."""
    parameter = view.parameter
    limit_text = ""
    if limits is not None and limits.limit is not None and limits.target is not None:
        sign = WaterClass(limits.target).sign
        limit_text = v.say("station.limit_line", sign=sign, limit=limit_words((limits.limit,), limits.direction))
    return Panel(
        parameter=parameter.key,
        name=v.of(v.parameter(parameter.key)),
        unit="" if parameter.unit == "1" else parameter.unit,
        decimals=parameter.decimals,
        limits=limits,
        limit_text=limit_text,
        columns=chart.columns(view),
        thinned=view.series.bucket_ms is not None,
        sentence=series.sentence(view),
        compared=compared,
    )


def limit_words(limit: Sequence[float], direction: str) -> str:
    """A limit as people read it: 2.0, ≥2.0, 6–9."""
    numbers = "–".join(f"{one:g}" if one >= 10 or one != int(one) or len(limit) > 1 else f"{one:.1f}" for one in limit)
    return f"≥{numbers}" if direction == "at_least" else numbers
