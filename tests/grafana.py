"""The part of Grafana that asks: dashboards' variables, macros and queries, put to real servers as Grafana puts them.

No Grafana can be started in the tests. What stands here follows its documentation: template variables with formats
(``$x``, ``${x}``, ``${x:regex}``, ``[[x]]``), the built-in ones (``$__from``, ``$__interval``, ``$timeFilter`` …), the
macros of the PostgreSQL data source, and how answers become frames with the names that overrides look for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg

Value = str | list[str]
"""What a variable stands for: one value, or those chosen of one that allows several."""

ALL = "$__all"

_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.[^:^}]+)?(?::([^}]+))?\}")
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
_LADDER_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Window:
    """The time range of a dashboard, ms since the epoch, and how many points a chart is wide."""

    from_ms: int
    to_ms: int
    points: int = 1000

    def interval_s(self, least: str | None) -> int:
        """``$__interval``: the range over the points, to a round number, never below the panel's minimum."""
        wanted = (self.to_ms - self.from_ms) / 1000 / self.points
        rounded = max((step for step in _LADDER_S if step <= wanted * 1.5), default=1)
        return max(rounded, seconds(least) if least else 0)


def seconds(interval: str) -> int:
    """An interval as Grafana writes it: 30s, 5m, 1h, 1d."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", interval).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


@dataclass(frozen=True, slots=True)
class Frame:
    """One table or series of an answer. ``name`` is what overrides by name look for, where it is a series."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    labels: Mapping[str, str] = field(default_factory=dict)
    series: bool = True

    def column(self, name: str) -> list[Any]:
        return [row[self.columns.index(name)] for row in self.rows]

    @property
    def values(self) -> list[Any]:
        """Everything but the times."""
        return [value for row in self.rows for name, value in zip(self.columns, row, strict=True) if name not in TIMES]

    @property
    def names(self) -> set[str]:
        """What an override by name can find."""
        return {self.name} if self.series else set(self.columns)


TIMES = ("Time", "time")


# -- variables -------------------------------------------------------------------------------------------------------


def interpolate(text: str, variables: Mapping[str, Value], source: str = "") -> str:
    """Replace variables; those nobody knows stay. ``source``: how an unformatted one is written there."""

    def written(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[4]
        form = found[3] or found[5]
        return formatted(variables[name], form, source) if name in variables else found[0]

    return _VARIABLE.sub(written, text)


def formatted(value: Value, form: str | None, source: str = "") -> str:
    """A value in one of Grafana's formats; without one, as the data source writes it."""
    several = value if isinstance(value, list) else [value]
    match form:
        case "raw":
            return ",".join(several)
        case "sqlstring":
            return ",".join("'" + one.replace("'", "''") + "'" for one in several)
        case "regex":
            return _either([re.sub(r"([/\\^$*+?.()|[\]{}])", r"\\\1", one) for one in several])
        case None if source == "prometheus":
            if isinstance(value, str):
                return value
            return _either([re.sub(r"([$^*{}[\]'+?.()|\\])", r"\\\\\1", one) for one in several])
        case None:
            return value if isinstance(value, str) else f"{{{','.join(several)}}}" if len(several) > 1 else several[0]
    raise AssertionError(f"the tests know no format {form!r}")


def _either(escaped: list[str]) -> str:
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def built_in(window: Window, interval_s: int) -> dict[str, str]:
    """The variables every dashboard has."""
    return {
        "__from": str(window.from_ms),
        "__to": str(window.to_ms),
        "__interval": f"{interval_s}s",
        "__interval_ms": str(interval_s * 1000),
        "__rate_interval": f"{max(interval_s + 15, 60)}s",
        "timeFilter": f"time >= {window.from_ms}ms and time <= {window.to_ms}ms",
    }


def expand(sql: str, window: Window) -> str:
    """The macros of the PostgreSQL data source."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (window.from_ms, window.to_ms))
    from_s, to_s = window.from_ms // 1000, window.to_ms // 1000

    def written(found: re.Match[str]) -> str:
        match found[1], found[2]:
            case "__timeFilter", column:
                return f"{column} BETWEEN '{start}' AND '{end}'"
            case "__timeFrom", "":
                return f"'{start}'"
            case "__timeTo", "":
                return f"'{end}'"
            case "__unixEpochFilter", column:
                return f"{column} >= {from_s} AND {column} <= {to_s}"
            case "__unixEpochFrom", "":
                return str(from_s)
            case "__unixEpochTo", "":
                return str(to_s)
        raise AssertionError(f"PostgreSQL's data source has no macro {found[0]}")

    return _MACRO.sub(written, sql)


# -- asking ----------------------------------------------------------------------------------------------------------


class Servers:
    """The three data sources, by the type a target names."""

    def __init__(self, influx: tuple[str, str], postgres: str, prometheus: str) -> None:
        self._influx, self._database = influx
        self._postgres = postgres
        self.prometheus = prometheus

    def ask(
        self, target: Mapping[str, Any], variables: Mapping[str, Value], window: Window, interval_s: int
    ) -> list[Frame]:
        """The frames of one target; an error of the server fails the test with its words and the query."""
        everything = {**variables, **built_in(window, interval_s)}
        match target["datasource"]["type"]:
            case "influxdb":
                query = interpolate(target["query"], everything)
                alias = interpolate(target.get("alias", ""), everything)
                return self.influxql(query, alias, table=target["resultFormat"] == "table")
            case "grafana-postgresql-datasource":
                sql = expand(interpolate(target["rawSql"], everything), window)
                return self.sql(sql, series=target["format"] == "time_series")
            case "prometheus":
                expression = interpolate(target["expr"], everything, "prometheus")
                return self.promql(expression, target["legendFormat"], window, interval_s, instant=target["instant"])
        raise AssertionError(f"no such data source: {target['datasource']}")

    def influxql(self, query: str, alias: str, *, table: bool) -> list[Frame]:
        parameters = {"db": self._database, "q": query, "epoch": "ms"}
        answer = httpx.post(f"{self._influx}/query", data=parameters, trust_env=False, timeout=60).json()
        result = answer["results"][0] if "results" in answer else answer
        assert "error" not in result, f"InfluxDB: {result['error']}\n{query}"
        found = result.get("series", [])
        if table:
            return _table(found)
        return [
            Frame(
                _aliased(alias, one, name),
                ("Time", name),
                [(row[0], row[i]) for row in one["values"]],
                one.get("tags", {}),
            )
            for one in found
            for i, name in enumerate(one["columns"])
            if i > 0
        ]

    def sql(self, sql: str, *, series: bool) -> list[Frame]:
        with psycopg.connect(self._postgres, autocommit=True) as connection:
            try:
                cursor = connection.execute(sql.encode())
            except psycopg.Error as error:
                raise AssertionError(f"PostgreSQL: {error}\n{sql}") from error
            columns = tuple(column.name for column in cursor.description or ())
            rows = cursor.fetchall()
        if not series:
            return [Frame("", columns, rows, series=False)]
        assert columns[0] == "time", f"a series begins with its time, not {columns[0]!r}"
        return _series(columns, rows)

    def promql(self, expression: str, legend: str, window: Window, step_s: int, *, instant: bool) -> list[Frame]:
        if instant:
            path, when = "query", {"time": window.to_ms / 1000}
        else:
            path, when = "query_range", {"start": window.from_ms / 1000, "end": window.to_ms / 1000, "step": step_s}
        url = f"{self.prometheus}/api/v1/{path}"
        answer = httpx.post(url, data={"query": expression, **when}, trust_env=False, timeout=60).json()
        assert answer["status"] == "success", f"Prometheus: {answer.get('error')}\n{expression}"
        frames = []
        for one in answer["data"]["result"]:
            samples = [one["value"]] if instant else one["values"]
            name = re.sub(r"{{\s*(\w+)\s*}}", lambda m, o=one: o["metric"].get(m[1], ""), legend)
            frames.append(Frame(name, ("Time", name), [(at, float(value)) for at, value in samples], one["metric"]))
        return frames

    def label_values(self, metric: str, label: str) -> list[str]:
        url = f"{self.prometheus}/api/v1/label/{label}/values"
        answer = httpx.get(url, params={"match[]": metric}, trust_env=False, timeout=60).json()
        assert answer["status"] == "success", f"Prometheus: {answer.get('error')}"
        return sorted(answer["data"])

    # -- dashboards --------------------------------------------------------------------------------------------------

    def variables(
        self, board: Mapping[str, Any], window: Window, chosen: Mapping[str, Value] | None = None
    ) -> dict[str, Value]:
        """What the variables of a dashboard stand for, top to bottom, each seeing those before it."""
        found: dict[str, Value] = {}
        for variable in board["templating"]["list"]:
            name = variable["name"]
            if variable["type"] == "query":
                options = self.options(variable, found, window)
                found[name] = _choice(variable, options, (chosen or {}).get(name))
            elif variable["type"] == "constant":
                found[name] = variable["query"]
            else:
                found[name] = variable["current"]["value"]
        return found

    def options(self, variable: Mapping[str, Any], variables: Mapping[str, Value], window: Window) -> list[str]:
        """The values a variable offers."""
        if variable["datasource"]["type"] == "prometheus":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            return self.label_values(metric, label)
        (frame,) = self.sql(
            expand(interpolate(variable["query"], {**variables, **built_in(window, 60)}), window), series=False
        )
        where = frame.columns.index("__value") if "__value" in frame.columns else 0
        return [str(row[where]) for row in frame.rows]

    def panel(self, panel: Mapping[str, Any], variables: Mapping[str, Value], window: Window) -> list[list[Frame]]:
        """The answers of a panel, one list of frames for each time it is shown (a repeated panel: for each value)."""
        interval_s = window.interval_s(panel.get("interval"))
        answers = []
        for shown in repeated(panel, variables):
            frames: list[Frame] = []
            for target in panel["targets"]:
                frames += self.ask(target, shown, window, interval_s)
            answers.append(frames)
        return answers

    def annotation(self, annotation: Mapping[str, Any], variables: Mapping[str, Value], window: Window) -> list[Frame]:
        """The table Grafana makes marks of."""
        query = interpolate(annotation["query"], {**variables, **built_in(window, 60)})
        return self.influxql(query, "", table=True)


def repeated(panel: Mapping[str, Any], variables: Mapping[str, Value]) -> list[dict[str, Value]]:
    """The variables as each copy of a repeated panel sees them."""
    if "repeat" not in panel:
        return [dict(variables)]
    value = variables[panel["repeat"]]
    return [{**variables, panel["repeat"]: one} for one in (value if isinstance(value, list) else [value])]


def _choice(variable: Mapping[str, Any], options: list[str], chosen: Value | None) -> Value:
    if variable.get("multi"):
        wanted = chosen or variable["current"]["value"]
        if wanted == [ALL]:
            return variable.get("allValue", options)
        return [one for one in wanted if one in options] or options[:1]
    return chosen if isinstance(chosen, str) and chosen in options else next(iter(options), "")


def _table(found: Sequence[Mapping[str, Any]]) -> list[Frame]:
    """All series of a query in one table, their tags as columns."""
    if not found:
        return []
    tags = tuple(found[0].get("tags", {}))
    columns = ("Time", *tags, *found[0]["columns"][1:])
    rows = [(row[0], *(one["tags"][tag] for tag in tags), *row[1:]) for one in found for row in one["values"]]
    return [Frame("", columns, rows, series=False)]


def _aliased(alias: str, series: Mapping[str, Any], column: str) -> str:
    if not alias:
        return f"{series['name']}.{column}"
    tags = series.get("tags", {})
    named = re.sub(r"\$tag_(\w+)|\[\[tag_(\w+)\]\]", lambda m: tags.get(m[1] or m[2], m[0]), alias)
    return re.sub(r"\$col\b|\[\[col\]\]", column, named)


def _series(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[Frame]:
    """Long rows as series: a column of text is a label, each other column a line for each of its values."""
    texts = [i for i in range(1, len(columns)) if any(isinstance(row[i], str) for row in rows)]
    frames: dict[tuple[str, ...], Frame] = {}
    for row in rows:
        labels = {columns[i]: row[i] for i in texts}
        for i, name in enumerate(columns):
            if i == 0 or i in texts:
                continue
            key = (name, *labels.values())
            frame = frames.setdefault(key, Frame(name, ("time", name), [], labels))
            frame.rows.append((row[0], row[i]))
    return list(frames.values()) or [Frame(name, ("time", name), []) for name in columns[1:]]


def joined(frames: Sequence[Frame], column: str) -> Frame:
    """The transformation ``joinByField``, inner."""
    first, second = frames
    partners = {row[second.columns.index(column)]: row for row in second.rows}
    here = first.columns.index(column)
    rest = [i for i, name in enumerate(second.columns) if name != column]
    rows = [(*row, *(partners[row[here]][i] for i in rest)) for row in first.rows if row[here] in partners]
    return replace(first, columns=(*first.columns, *(second.columns[i] for i in rest)), rows=rows)
