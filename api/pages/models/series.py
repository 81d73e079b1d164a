"""One parameter of one station over a span of time: what of it is usable, its table, its trend, its sentence. Pure."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from api.duration import duration
from infra.texts import Text, say
from infra.times import DAY_MS, beijing, beijing_day
from ingest.analysis.forecasts import StoredForecast
from ingest.storage.port import Latest, Series
from sensors.parameters import Parameter
from sensors.reading import Bools, Flag, unpack

POINTS = 600
FRESH_MS = 3 * DAY_MS // 24
"""A forecast older than this is not drawn."""
RANGES = {"1h": DAY_MS // 24, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}


@dataclass(frozen=True, slots=True)
class View:
    """What to draw.

    ``latest`` is the newest reading, whatever the range; ``limit`` the rule's, from the newest incident of this series,
    None where there is none.
    """

    series: Series
    parameter: Parameter
    latest: Latest
    interval_s: int
    start_ms: int
    end_ms: int
    limit: float | None
    language: str
    forecast: StoredForecast | None = None

    @property
    def ahead(self) -> list[tuple[int, float, float, float]]:
        """The points of the forecast to show, half as far ahead as the chart looks back, a day at most."""
        found = self.forecast
        if found is None or self.end_ms - found.issued_ms > FRESH_MS:
            return []
        until_ms = self.end_ms + min(DAY_MS, (self.end_ms - self.start_ms) // 2)
        return [point for point in found.points if point[0] <= until_ms]

    @property
    def usable(self) -> Bools:
        """(n,) rows whose value may be believed; a bucket's value already leaves out its doubtful readings."""
        flag, _ = unpack(self.series.packed)
        believed = flag < Flag.SUSPECT if self.series.bucket_ms is None else self.series.count > 0
        return believed & np.isfinite(self.series.value)

    @property
    def joined(self) -> Bools:
        """(n - 1,) whether a row follows the one before it without a gap.

        A pause is a gap when it is longer than three promised intervals and three times what is usual beside it: a
        logger that keeps a thinner record than it sends live has no gaps in that record.
        """
        pause = np.diff(self.series.at)
        beside = np.full(len(pause), np.inf)
        beside[1:] = pause[:-1]
        beside[:-1] = np.minimum(beside[:-1], pause[1:])
        beside[~np.isfinite(beside)] = 0
        return np.asarray(
            pause <= np.maximum(3000 * self.interval_s, 3 * np.maximum(beside, self.series.bucket_ms or 0))
        )

    def say(self, key: str, **values: object) -> str:
        return str(getattr(say(f"console.{key}", **values), self.language))


def table(view: View) -> list[dict[str, Any]]:
    """The same as rows, newest first: time, value, extremes and number of readings, flag in words."""
    s = view.series
    flag, _ = unpack(s.packed)
    good = view.usable
    rows = []
    for i in range(len(s.at) - 1, -1, -1):
        value = float(s.value[i])
        rows.append(
            {
                "at": int(s.at[i]),
                "time": beijing(int(s.at[i])),
                "value": shown(view, value),
                "low": shown(view, float(s.low[i])) if good[i] else "—",
                "high": shown(view, float(s.high[i])) if good[i] else "—",
                "count": int(s.count[i]),
                "flag": view.say(f"flag_{_flag_key(int(flag[i]))}"),
            }
        )
    return rows


def sentence(view: View) -> str:
    """Last value, its age and limit, the range, and where it is going, in one sentence."""
    s, parameter = view.series, view.parameter
    good = np.flatnonzero(view.usable)
    name = Text(parameter.zh, parameter.en)
    if not len(s.at):
        return str(getattr(say("station.no_data_of", parameter=name), view.language))
    if not len(good):
        return view.say("no_usable", parameter=name, count=len(s.at))
    parts = []
    if view.latest.value is not None and view.latest.at_ms is not None:
        at_ms = view.latest.at_ms
        today = beijing_day(at_ms) == beijing_day(view.end_ms)
        parts.append(
            view.say(
                "last_value_now" if view.end_ms - at_ms < 60_000 else "last_value",
                parameter=name,
                value=parameter.show(view.latest.value),
                at=beijing(at_ms, "%H:%M" if today else "%m-%d %H:%M"),
                age=duration(view.end_ms - at_ms),
            )
        )
    if view.limit is not None:
        parts.append(view.say("last_limit", limit=parameter.show(view.limit)))
    low, high = float(np.nanmin(s.low[good])), float(np.nanmax(s.high[good]))
    range_ = view.say("last_range", low=f"{low:.{parameter.decimals}f}", high=parameter.show(high))
    parts.append(range_ if parts else f"{getattr(name, view.language)} {range_}")
    if (moved := _trend(view, good)) is not None:
        span = duration((view.end_ms - view.start_ms) // 4)
        parts.append(view.say(_trend_key(view, moved), span=span, by=parameter.show(abs(moved))))
    if view.forecast is not None and view.ahead:
        parts.append(str(getattr(view.forecast.text, view.language)))
    flag, _ = unpack(s.packed)
    if flagged := int((flag >= Flag.SUSPECT).sum()):
        parts.append(view.say("left_out", count=flagged))
    return view.say("comma").join(parts) + view.say("stop")


def trend(view: View) -> str:
    """``trend_up``, ``trend_down`` or ``trend_steady``; "" where too little is known to say."""
    moved = _trend(view, np.flatnonzero(view.usable))
    return "" if moved is None else _trend_key(view, moved)


def _trend_key(view: View, moved: float) -> str:
    return "trend_steady" if abs(moved) < view.parameter.step else "trend_up" if moved > 0 else "trend_down"


def _trend(view: View, good: Any) -> float | None:
    """Median of the last quarter of the range minus that of the quarter before; None unless both hold three rows.

    Also None where the medians agree but the newest value has left the range of that quarter before by more than its
    width: what has just jumped is not steady.
    """
    quarter = (view.end_ms - view.start_ms) // 4
    at, value = view.series.at[good], view.series.value[good]
    last = value[at >= view.end_ms - quarter]
    before = value[(at >= view.end_ms - 2 * quarter) & (at < view.end_ms - quarter)]
    if min(len(last), len(before)) < 3:
        return None
    moved = float(np.median(last) - np.median(before))
    least, most = float(before.min()), float(before.max())
    room = max(most - least, view.parameter.step)
    left = not least - room <= float(last[-1]) <= most + room
    return None if left and abs(moved) < view.parameter.step else moved


def shown(view: View, value: float, *, unit: bool = False) -> str:
    """A value in the decimals of its parameter; "—" (or "" with a unit) for none."""
    if not math.isfinite(value):
        return "—" if not unit else ""
    return view.parameter.show(value) if unit else f"{value:.{view.parameter.decimals}f}"


def _flag_key(flag: int) -> str:
    return _FLAGS.get(flag, "good")


_FLAGS = {int(flag): flag.name.lower() for flag in Flag}
