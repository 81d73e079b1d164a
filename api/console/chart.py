"""One parameter of one station as ECharts options, as a table, and in a sentence. Pure."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from api.duration import duration
from infra.texts import Text, say
from infra.times import BEIJING_OFFSET_MS, DAY_MS, beijing, beijing_day
from ingest.analysis.forecasts import StoredForecast
from ingest.storage.port import Latest, Series
from sensors.parameters import Parameter
from sensors.reading import Bools, Flag, Ints, unpack

POINTS = 600
FRESH_MS = 3 * DAY_MS // 24
"""A forecast older than this is not drawn."""
RANGES = {"1h": DAY_MS // 24, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
FONT = '"Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif'
LINE, BAND, AHEAD, QUIET, DOUBT, LIMIT = "#0b5a5e", "#9fc0c0", "#d9d3c3", "#5b6c70", "#6a4c93", "#14262a"
_CROSS = "path://M-5,-4L-4,-5L0,-1L4,-5L5,-4L1,0L5,4L4,5L0,1L-4,5L-5,4L-1,0Z"
_TOOLTIP = """rows => {
  const text = rows.map(row => row.data && row.data.value ? row.data.value[2] : row.value[2]).filter(Boolean);
  if (!text.length) return "";
  const at = new Date(rows[0].value[0]).toISOString();
  return `<b>${at.slice(5, 10)} ${at.slice(11, 16)}</b><br>` + [...new Set(text)].join("<br>");
}"""


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


def options(view: View) -> dict[str, Any]:
    """The chart. Times are shifted so that the axis reads Beijing time wherever the browser stands.

    Always the same series in the same order, so that an update keeps what the person zoomed to.
    """
    s, parameter = view.series, view.parameter
    flag, _ = unpack(s.packed)
    at = s.at + BEIJING_OFFSET_MS
    if s.bucket_ms is not None:  # a mean stands in the middle of what it is the mean of
        at = np.minimum(at + s.bucket_ms // 2, view.end_ms + BEIJING_OFFSET_MS)
    good = view.usable
    line = _line(view, at, good)
    thinned = s.bucket_ms is not None
    band: list[tuple[float | None, float | None]] = [(None, None)] * len(line)
    if thinned:
        edges: dict[int, tuple[float | None, float | None]]
        edges = {int(t): (float(lo), float(hi)) for t, lo, hi, ok in zip(at, s.low, s.high, good, strict=True) if ok}
        band = [
            edges.get(row["value"][0], (None, None)) if row["value"][1] is not None else (None, None) for row in line
        ]
    low, high, step = _scale(view, good)
    times = [row["value"][0] for row in line]
    base = {"type": "line", "symbol": "none", "stack": "band", "silent": True, "lineStyle": {"opacity": 0}}
    return {
        "animation": False,
        "useUTC": True,
        "textStyle": {"fontFamily": FONT, "fontSize": 12},
        "grid": {"left": 52, "right": 18, "top": 30, "bottom": 30},
        "aria": {"enabled": True, "description": sentence(view)},
        "tooltip": {"trigger": "axis", ":formatter": _TOOLTIP, "textStyle": {"fontSize": 12}, "confine": True},
        "xAxis": {
            "type": "time",
            "min": view.start_ms + BEIJING_OFFSET_MS,
            "max": max([view.end_ms, *(at_ms for at_ms, *_ in view.ahead)]) + BEIJING_OFFSET_MS,
            "axisLine": {"lineStyle": {"color": QUIET}},
            "axisLabel": {"color": QUIET, "fontSize": 12, "hideOverlap": True, "formatter": _TICKS},
            "splitNumber": 6,
        },
        "yAxis": [
            {
                "type": "value",
                "name": "" if parameter.unit == "1" else parameter.unit,
                "nameTextStyle": {"color": QUIET, "fontSize": 12, "align": "right"},
                "min": low,
                "max": high,
                "interval": step,
                "axisLabel": {"color": QUIET, "fontSize": 12},
                "splitLine": {"lineStyle": {"color": "#e4eae9"}},
            },
            {"type": "value", "min": 0, "max": 1, "show": False},
        ],
        "series": [
            {**base, "id": "low", "data": [[t, lo, None] for t, (lo, _) in zip(times, band, strict=True)]},
            {
                **base,
                "id": "band",
                "areaStyle": {"color": BAND, "opacity": 0.55},
                "data": [
                    [t, None if lo is None or hi is None else hi - lo, None]
                    for t, (lo, hi) in zip(times, band, strict=True)
                ],
            },
            {
                "id": "value",
                "type": "line",
                "connectNulls": False,
                "symbol": "none",
                "showAllSymbol": True,
                "lineStyle": {"color": LINE, "width": 1.8},
                "itemStyle": {"color": LINE},
                "data": line,
                "markLine": _limit(view),
            },
            *_ahead(view),
            _flags(view, "suspect", at[flag == Flag.SUSPECT], s.value[flag == Flag.SUSPECT]),
            _flags(view, "bad", at[flag == Flag.BAD], s.value[flag == Flag.BAD]),
        ],
    }


_TICKS = {"year": "{yyyy}", "month": "{MM}-{dd}", "day": "{MM}-{dd}", "hour": "{HH}:{mm}", "minute": "{HH}:{mm}"}


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
                "value": _shown(view, value),
                "low": _shown(view, float(s.low[i])) if good[i] else "—",
                "high": _shown(view, float(s.high[i])) if good[i] else "—",
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
    parts.append(view.say("last_range", low=f"{low:.{parameter.decimals}f}", high=parameter.show(high)))
    if (moved := _trend(view, good)) is not None:
        key = "trend_steady" if abs(moved) < parameter.step else "trend_up" if moved > 0 else "trend_down"
        span = duration((view.end_ms - view.start_ms) // 4)
        parts.append(view.say(key, span=span, by=parameter.show(abs(moved))))
    if view.forecast is not None and view.ahead:
        parts.append(str(getattr(view.forecast.text, view.language)))
    flag, _ = unpack(s.packed)
    if flagged := int((flag >= Flag.SUSPECT).sum()):
        parts.append(view.say("left_out", count=flagged))
    return view.say("comma").join(parts) + view.say("stop")


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


def _line(view: View, at: Ints, good: Bools) -> list[dict[str, Any]]:
    """Rows [time, value, words]; a None breaks the line in a gap and at a value that is not to be believed.

    A value without neighbours gets a dot of its own: a line of one point would not be seen.
    """
    s = view.series
    rows: list[dict[str, Any]] = []
    follows = view.joined
    joined = np.zeros(len(at) + 1, np.bool_)  # joined[i]: a line runs from row i-1 to row i
    if len(at):
        joined[1:-1] = follows & good[1:] & good[:-1]
    for i in range(len(at)):
        if i and not follows[i - 1]:
            rows.append({"value": [int(at[i - 1]) + 1, None, None]})
        if not good[i]:
            rows.append({"value": [int(at[i]), None, None]})
            continue
        words = _shown(view, float(s.value[i]), unit=True)
        if s.bucket_ms is not None:
            words += f" ({_shown(view, float(s.low[i]))}–{_shown(view, float(s.high[i]))}, n={int(s.count[i])})"
        row: dict[str, Any] = {"value": [int(at[i]), float(s.value[i]), words]}
        if not joined[i] and not joined[i + 1]:
            row |= {"symbol": "circle", "symbolSize": 4}
        rows.append(row)
    return rows


def _ahead(view: View) -> list[dict[str, Any]]:
    """The forecast: a light band, and the median dashed in it; nothing where it is not shown."""
    rows = [(at_ms + BEIJING_OFFSET_MS, value, low, high) for at_ms, value, low, high in view.ahead]
    word = str(getattr(say("forecast.band"), view.language))
    base = {"type": "line", "symbol": "none", "stack": "ahead", "silent": True, "lineStyle": {"opacity": 0}}
    return [
        {**base, "id": "ahead-low", "data": [[at, low, None] for at, _, low, _ in rows]},
        {
            **base,
            "id": "ahead",
            "areaStyle": {"color": AHEAD, "opacity": 0.45},
            "data": [[at, high - low, None] for at, _, low, high in rows],
        },
        {
            "id": "ahead-median",
            "type": "line",
            "symbol": "none",
            "silent": True,
            "lineStyle": {"color": LINE, "width": 1.2, "type": "dashed", "opacity": 0.7},
            "data": [
                [at, value, f"{word} {_shown(view, value, unit=True)} ({_shown(view, low)}–{_shown(view, high)})"]
                for at, value, low, high in rows
            ],
        },
    ]


def _flags(view: View, kind: str, at: Any, value: Any) -> dict[str, Any]:
    """Marks on the axis itself, apart from the line: suspect hollow, bad a cross."""
    word = view.say(f"flag_{kind}")
    shape = {"suspect": "emptyCircle", "bad": _CROSS}[kind]
    return {
        "id": kind,
        "type": "scatter",
        "yAxisIndex": 1,
        "symbol": shape,
        "symbolSize": 9,
        "itemStyle": {"color": DOUBT},
        "z": 5,
        "data": [
            [int(t), 0, f"{word} {_shown(view, float(v), unit=True)}".strip()] for t, v in zip(at, value, strict=True)
        ],
    }


def _limit(view: View) -> dict[str, Any]:
    if view.limit is None:
        return {"data": []}
    label = view.say("limit_line", limit=view.parameter.show(view.limit))
    return {
        "silent": True,
        "symbol": "none",
        "lineStyle": {"color": LIMIT, "type": "dashed", "width": 1.2},
        "label": {"formatter": label, "position": "insideStartTop", "color": LIMIT, "fontSize": 12},
        "data": [{"yAxis": view.limit}],
    }


def _scale(view: View, good: Bools) -> tuple[float, float, float]:
    """Ends and step of the value axis: round numbers around all values and the limit."""
    s = view.series
    values = [*s.low[good].tolist(), *s.high[good].tolist()] + ([] if view.limit is None else [view.limit])
    values += [end for _, _, low, high in view.ahead for end in (low, high)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 2 * view.parameter.step:
        low, high = (low + high) / 2 - view.parameter.step, (low + high) / 2 + view.parameter.step
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough)
    bottom = math.floor(low / step) * step
    if values and min(values) >= 0:
        bottom = max(0.0, bottom)
    top = math.ceil(high / step) * step
    return round(bottom, 6), round(top if top > high else top + step, 6), round(step, 6)


def _shown(view: View, value: float, *, unit: bool = False) -> str:
    if not math.isfinite(value):
        return "—" if not unit else ""
    return view.parameter.show(value) if unit else f"{value:.{view.parameter.decimals}f}"


def _flag_key(flag: int) -> str:
    return _FLAGS.get(flag, "good")


_FLAGS = {int(flag): flag.name.lower() for flag in Flag}
