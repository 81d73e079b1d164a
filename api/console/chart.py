"""One parameter of one station as ECharts options, as a table, and in a sentence. Pure."""

import math
from typing import Any

import numpy as np

from api.console.models.series import POINTS, RANGES, View, sentence, shown, table
from infra.texts import say
from infra.times import BEIJING_OFFSET_MS
from sensors.reading import Bools, Flag, Ints, unpack

__all__ = ["POINTS", "RANGES", "View", "options", "sentence", "table"]

FONT = '"Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif'
LINE, BAND, AHEAD, QUIET, DOUBT, LIMIT = "#0b5a5e", "#9fc0c0", "#d9d3c3", "#5b6c70", "#6a4c93", "#14262a"
_CROSS = "path://M-5,-4L-4,-5L0,-1L4,-5L5,-4L1,0L5,4L4,5L0,1L-4,5L-5,4L-1,0Z"
_TOOLTIP = """rows => {
  const text = rows.map(row => row.data && row.data.value ? row.data.value[2] : row.value[2]).filter(Boolean);
  if (!text.length) return "";
  const at = new Date(rows[0].value[0]).toISOString();
  return `<b>${at.slice(5, 10)} ${at.slice(11, 16)}</b><br>` + [...new Set(text)].join("<br>");
}"""


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
        words = shown(view, float(s.value[i]), unit=True)
        if s.bucket_ms is not None:
            words += f" ({shown(view, float(s.low[i]))}–{shown(view, float(s.high[i]))}, n={int(s.count[i])})"
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
                [at, value, f"{word} {shown(view, value, unit=True)} ({shown(view, low)}–{shown(view, high)})"]
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
            [int(t), 0, f"{word} {shown(view, float(v), unit=True)}".strip()] for t, v in zip(at, value, strict=True)
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
