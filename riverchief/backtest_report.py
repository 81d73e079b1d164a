"""Render a backtest as one HTML page: figures, a chart over time, and the differences; no script, no other host."""

from collections.abc import Sequence
from html import escape

from infra.texts import Text, join_on_line, line
from infra.times import BEIJING_OFFSET_MS, DAY_MS, beijing
from ingest.analysis.backtest import BacktestIncident, BacktestInput, BacktestResult, compare

WIDTH, ROW, LEFT, TOP = 1000, 26, 190, 34
COLOURS = {"red": "#c0392b", "orange": "#e67e22", "yellow": "#d4b106", "blue": "#2e86c1"}
"""Colours of the urgencies, with enough contrast on white."""
NAME_CHARS = 15
"""Characters of a station's Chinese name beside its row; a tooltip shows the whole name and the key."""
MAX_INCIDENTS = 200
"""Incidents listed of each kind of difference."""


def page(tried: BacktestResult, in_force: BacktestResult | None, stored: BacktestInput) -> str:
    """The whole page."""
    parts = [f"<h1>{_both('backtest.title')}</h1>", _figures(tried, in_force), _chart(tried, in_force, stored)]
    if in_force is not None:
        difference = compare(tried, in_force)
        parts.append(_rules(tried, in_force))
        for key in ("new", "gone"):
            parts.append(_list(f"backtest.{key}", getattr(difference, key)))
        parts.append(_list("backtest.changed", [one for _, one in difference.changed]))
    if in_force is None or in_force is tried:
        parts.append(_list("backtest.raised", tried.raised))
    return (
        f"<!doctype html><html lang='zh'><meta charset='utf-8'><title>Backtest</title>{_STYLE}{''.join(parts)}</html>"
    )


_STYLE = """<style>body{font:15px/1.5 sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:left;vertical-align:top}
th{font-weight:600}svg text{font:12px sans-serif;fill:#333}li{margin:.2em 0}</style>"""


def _both(key: str, **values: object) -> str:
    return escape(line(key, **values))


def figures(tried: BacktestResult, in_force: BacktestResult | None) -> list[tuple[str, list[str]]]:
    """The figures to compare: (key of the row's name, value tried, value in force)."""
    sides = [tried] if in_force is None else [tried, in_force]
    rows = [
        ("backtest.incidents", [str(len(one.raised)) for one in sides]),
        ("backtest.by_colour", [" / ".join(map(str, one.by_colour.values())) for one in sides]),
        ("backtest.pages", [str(one.pages) for one in sides]),
        ("backtest.pages_a_week", [f"{one.pages_a_week:.1f}" for one in sides]),
        ("backtest.findings", [str(sum(one.fired.values())) for one in sides]),
    ]
    if tried.score is not None:
        scores = [one.score for one in sides if one.score is not None]
        rows += [
            ("backtest.hits", [f"{s.hits} / {s.events}" for s in scores]),
            ("backtest.misses", [str(len(s.misses)) for s in scores]),
            ("backtest.false_alarms", [str(s.false_alarms) for s in scores]),
            ("backtest.delay", ["–" if s.delay_s is None else f"{s.delay_s / 60:.0f} min" for s in scores]),
        ]
    return rows


def _figures(tried: BacktestResult, in_force: BacktestResult | None) -> str:
    since, until = beijing(tried.since_ms, "%Y-%m-%d %H:%M"), beijing(tried.until_ms, "%Y-%m-%d %H:%M")
    heads = [_both("backtest.tried")] + ([_both("backtest.in_force")] if in_force is not None else [])
    head = "".join(f"<th>{one}</th>" for one in ("", *heads))
    rows = "".join(
        f"<tr><th>{_both(key)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for key, values in figures(tried, in_force)
    )
    range_text = _both("backtest.range", since=since, until=until, readings=f"{tried.readings:,}")
    return f"<p>{range_text}</p><table><tr>{head}</tr>{rows}</table>"


def _rules(tried: BacktestResult, in_force: BacktestResult) -> str:
    """How often each rule fired on either side."""
    rows = "".join(
        f"<tr><td>{escape(rule)}</td><td>{tried.fired.get(rule, 0)}</td><td>{in_force.fired.get(rule, 0)}</td></tr>"
        for rule in sorted({*tried.fired, *in_force.fired})
    )
    heads = "".join(f"<th>{_both(f'backtest.{key}')}</th>" for key in ("rule", "tried", "in_force"))
    return f"<h2>{_both('backtest.findings')}</h2><table><tr>{heads}</tr>{rows}</table>"


def _chart(tried: BacktestResult, in_force: BacktestResult | None, stored: BacktestInput) -> str:
    """Incidents as bars by station over time: above the rules tried, below (paler) those in force; labels behind."""
    stations = sorted({s for side in (tried, in_force) if side for one in side.raised for s in one.stations})
    stations = sorted({*stations, *(label.station for label in stored.labels)}) or sorted(stored.readings)
    height = TOP + ROW * len(stations) + 10
    bars = [_label(label.station, label.start_ms, label.end_ms, stations, tried) for label in stored.labels]
    for i, station in enumerate(stations):
        y = TOP + ROW * i
        name = stored.registry[station].zh if station in stored.registry else station
        bars.append(f"<text x='0' y='{y + 16}'><title>{escape(station)}</title>{escape(name[:NAME_CHARS])}</text>")
        bars.append(f"<line x1='{LEFT}' x2='{WIDTH}' y1='{y + ROW - 2}' y2='{y + ROW - 2}' stroke='#eee'/>")
    for side, shift, opacity in ((tried, 3, 1.0), (in_force, 13, 0.45)):
        for one in side.raised if side else ():
            for station in one.stations:
                y = TOP + ROW * stations.index(station) + shift
                bars.append(_bar(one, y, opacity, tried))
    step_ms = max(1, (tried.until_ms - tried.since_ms) // (8 * DAY_MS)) * DAY_MS
    first_ms = -(-(tried.since_ms + BEIJING_OFFSET_MS) // DAY_MS) * DAY_MS - BEIJING_OFFSET_MS
    days = range(first_ms, tried.until_ms, step_ms)
    ticks = "".join(
        f"<line x1='{_x(at, tried):.1f}' x2='{_x(at, tried):.1f}' y1='{TOP - 8}' y2='{height - 8}' stroke='#ddd'/>"
        f"<text x='{_x(at, tried):.1f}' y='{TOP - 14}'>{beijing(at, '%m-%d')}</text>"
        for at in days
    )
    legend = _both("backtest.legend")
    quiet = len(stored.readings.keys() - set(stations))
    others = f" {_both('backtest.quiet', count=quiet)}" if quiet else ""
    drawn = f"{ticks}{''.join(bars)}"
    svg = f"<svg viewBox='0 0 {WIDTH} {height}' width='100%' role='img' aria-label='{legend}'>{drawn}</svg>"
    return f"<p>{legend}{others}</p>{svg}"


def _x(at_ms: int, tried: BacktestResult) -> float:
    share = (min(max(at_ms, tried.since_ms), tried.until_ms) - tried.since_ms) / (tried.until_ms - tried.since_ms)
    return LEFT + share * (WIDTH - LEFT)


def _bar(one: BacktestIncident, y: int, opacity: float, tried: BacktestResult) -> str:
    x, end = _x(one.since_ms, tried), _x(one.last_ms, tried)
    colour = COLOURS.get(one.colour, "#555")
    title = escape(join_on_line(Text(one.zh, one.en)))
    return (
        f"<rect x='{x:.1f}' y='{y}' width='{max(end - x, 2):.1f}' height='8' fill='{colour}' "
        f"fill-opacity='{opacity}'><title>{title}</title></rect>"
    )


def _label(station: str, start_ms: int, end_ms: int, stations: Sequence[str], tried: BacktestResult) -> str:
    if station not in stations or end_ms < tried.since_ms or start_ms > tried.until_ms:
        return ""
    x, end = _x(start_ms, tried), _x(end_ms, tried)
    y = TOP + ROW * stations.index(station)
    return f"<rect x='{x:.1f}' y='{y}' width='{max(end - x, 2):.1f}' height='{ROW - 3}' fill='#bbb' fill-opacity='.6'/>"


def _list(key: str, raised: Sequence[BacktestIncident]) -> str:
    items = "".join(
        f"<li>{_both(f'rule.{one.colour}')} {beijing(one.since_ms, '%Y-%m-%d %H:%M')} {escape(one.zh)}"
        f"<br>{escape(one.en)}</li>"
        for one in raised[:MAX_INCIDENTS]
    )
    return f"<h2>{_both(key, count=len(raised))}</h2><ul>{items}</ul>"
