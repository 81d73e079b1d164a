"""Building blocks of the dashboards: queries, colours, panels, variables, annotations and links.

One place holds the conventions, so that the dashboards read as lists of questions:

- Colours speak two languages that never meet on one mark: GB 3838 classes, and the urgency of incidents. The state of a
  device or of a reading's quality uses neither, only grey and violet.
- Limits and class colours come from :mod:`sensors.standards.gb3838`, names, units and decimals from
  :mod:`sensors.parameters`, field names from :mod:`ingest.storage.schema`. None is typed here.
- A gap stays a gap: nothing is filled and no line is drawn across. To that end readings are gathered in buckets at
  least twice as long as the station's interval (:func:`bucket`), so that an empty bucket means silence.
- Variables are asked of the registry (PostgreSQL), so that a new station needs no edit.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import statetimeline as timeline_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as chart_builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common, prometheus
from grafana_foundation_sdk.models import dashboard as models

from infra import toml_text
from ingest.storage import schema
from sensors.maintenance import RETIRED_UNTIL_MS
from sensors.parameters import Parameter, catalogue
from sensors.reading import Flag
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, Water, WaterClass

TEXTS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = toml_text.shipped("dashboards", "texts.toml")

TAG: Final = "riverchief"
ZONE: Final = "Asia/Shanghai"
NOTHING: Final = "—"
"""What stands where there is no value."""

INFLUX: Final = models.DataSourceRef(type_val="influxdb", uid="${datasource}")
"""The time-series server; which one is the variable ``datasource``, at first ``INFLUX_UID``."""
INFLUX_UID: Final = "riverchief-influx"
POSTGRES: Final = models.DataSourceRef(type_val="grafana-postgresql-datasource", uid="riverchief-postgres")
PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="riverchief-prometheus")
MIXED: Final = models.DataSourceRef(type_val="mixed", uid="-- Mixed --")

# -- colours ---------------------------------------------------------------------------------------------------------

URGENCY: Final[Mapping[str, tuple[str, str]]] = {
    "red": ("红", "#c62828"),
    "orange": ("橙", "#f57c00"),
    "yellow": ("黄", "#f9c80e"),
    "blue": ("蓝", "#1565c0"),
}
"""Colour of an incident → the character in its pennant, and what fills the pennant."""

VIOLET, LILAC = "#6a4c93", "#b9a3d6"
"""A device or a reading in trouble, and one in doubt."""
GREY, PALE, DARK = "#8e8e8e", "#c7d0d3", "#5b6c70"
"""Nothing known; nothing wrong; the neutral colour of marks."""
INK: Final = "#2a9d8f"
"""The measured line, of no language."""

STATES: Final[Mapping[str, tuple[str, str]]] = {key: (word, GREY) for key, word in TEXTS["words"]["states"].items()}
"""Where an incident stands."""

CONNECTION: Final[Mapping[str, tuple[str, str]]] = {
    "online": ("在线 online", PALE),
    "offline": ("离线 offline", VIOLET),
    "unknown": ("未知 unknown", GREY),
}
"""What a device last said of its connection."""

FLAGS: Final[Mapping[Flag, tuple[str, str]]] = {
    Flag.GOOD: ("正常 good", PALE),
    Flag.UNKNOWN: ("未评 not evaluated", GREY),
    Flag.SUSPECT: ("可疑 suspect", LILAC),
    Flag.BAD: ("坏 bad", VIOLET),
    Flag.MISSING: ("缺测 missing", DARK),
}

# -- queries ---------------------------------------------------------------------------------------------------------


class Query(Protocol):
    """A query of a panel; ``target`` gives it as Grafana stores it."""

    def target(self, ref_id: str) -> Dataquery: ...


@dataclass(frozen=True, slots=True)
class _Target(Dataquery):
    """A query of a data source for which the SDK has no type; the members are those its plugin reads."""

    members: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        return dict(self.members)


@dataclass(frozen=True, slots=True)
class Influx:
    """An InfluxQL query. ``alias`` names the series (``$tag_station``, ``$col``); as a table it has none."""

    text: str
    alias: str = ""
    table: bool = False

    def target(self, ref_id: str) -> Dataquery:
        return _Target(
            {
                "refId": ref_id,
                "datasource": INFLUX,
                "query": self.text,
                "rawQuery": True,
                "resultFormat": "table" if self.table else "time_series",
                "alias": self.alias,
            }
        )


@dataclass(frozen=True, slots=True)
class Sql:
    """A query of the relational database. ``series``: the first column is ``time``, the others are lines."""

    text: str
    series: bool = False

    def target(self, ref_id: str) -> Dataquery:
        return _Target(
            {
                "refId": ref_id,
                "datasource": POSTGRES,
                "rawSql": self.text,
                "rawQuery": True,
                "editorMode": "code",
                "format": "time_series" if self.series else "table",
            }
        )


@dataclass(frozen=True, slots=True)
class Prom:
    """A PromQL expression; ``instant``: its value now, not its course."""

    text: str
    legend: str = ""
    instant: bool = False

    def target(self, ref_id: str) -> Dataquery:
        return prometheus.Dataquery(
            expr=self.text,
            legend_format=self.legend,
            instant=self.instant,
            range_val=not self.instant,
            ref_id=ref_id,
            datasource=PROMETHEUS,
        )


# -- panels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """How a panel introduces itself: its title, then what it shows and what to do when it looks wrong."""

    title: str
    zh: str
    en: str

    @property
    def description(self) -> str:
        return f"{self.zh}\n\n{self.en}"


def head(name: str, **values: object) -> Head:
    """The head ``dashboard.panel`` of ``texts.toml``, with its values filled in."""
    board, _, panel = name.partition(".")
    texts = TEXTS[board][panel]
    return Head(**{key: text.format(**values) if values else text for key, text in texts.items()})


@dataclass(frozen=True, slots=True)
class Size:
    """Columns of 24, and rows of about 38 pixels."""

    width: int
    height: int


Properties = list[models.DynamicConfigValue]


class Panel(Protocol):
    """What all panel builders of the SDK have in common."""

    def build(self) -> models.Panel: ...
    def id(self, id_val: int, /) -> Self: ...
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: models.DataSourceRef) -> Self: ...
    def with_target(self, target: Builder[Dataquery]) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def decimals(self, decimals: float) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def height(self, h: int) -> Self: ...
    def span(self, w: int) -> Self: ...
    def mappings(self, mappings: list[models.ValueMapping]) -> Self: ...
    def override_by_name(self, name: str, properties: Properties) -> Self: ...
    def override_by_regexp(self, regexp: str, properties: Properties) -> Self: ...


_P = TypeVar("_P", bound=Panel)


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Finished(Builder[_T]):
    """A finished object, where the SDK expects a builder."""

    made: _T

    def build(self) -> _T:
        return self.made


def _dressed(panel: _P, head: Head, size: Size, queries: Sequence[Query], unit: str, nothing: str) -> _P:
    targets = [query.target(chr(ord("A") + i)) for i, query in enumerate(queries)]
    sources = {type(query) for query in queries}
    source = {Influx: INFLUX, Sql: POSTGRES, Prom: PROMETHEUS}[sources.pop()] if len(sources) == 1 else MIXED
    panel = panel.title(head.title).description(head.description).datasource(source)
    panel = panel.span(size.width).height(size.height).unit(unit).no_value(nothing)
    for target in targets:
        panel = panel.with_target(_Finished(target))
    return panel


def stat(
    head: Head,
    size: Size,
    *queries: Query,
    unit: str = "short",
    nothing: str = NOTHING,
    fields: str = "",
    steps: Sequence[tuple[float | None, str]] = ((None, PALE),),
    filled: bool = False,
) -> stat_builders.Panel:
    """A number or word. ``fields`` chooses columns by regular expression; ``filled``: the colour fills the ground."""
    reduced = common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields(fields)
    mode = common.BigValueColorMode.BACKGROUND_SOLID if filled else common.BigValueColorMode.NONE
    panel = _dressed(stat_builders.Panel(), head, size, queries, unit, nothing)
    return (
        panel.reduce_options(reduced)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(mode)
        .text_mode(common.BigValueTextMode.AUTO)
        .thresholds(thresholds(steps))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def chart(head: Head, size: Size, *queries: Query, unit: str = "short", nothing: str = NOTHING) -> chart_builders.Panel:
    """Lines over time, broken where nothing was measured."""
    legend = common_builders.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    return (
        _dressed(chart_builders.Panel(), head, size, queries, unit, nothing)
        .span_nulls(False)
        .show_points(common.VisibilityMode.AUTO)
        .line_width(1)
        .legend(legend.placement(common.LegendPlacement.BOTTOM))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )


def bars(panel: chart_builders.Panel) -> chart_builders.Panel:
    """A bar for each step, side by side."""
    return panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(60).line_width(1)


def limit_line(panel: chart_builders.Panel, limit: float) -> chart_builders.Panel:
    """A dashed line at a limit that is to be kept."""
    style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(((None, "transparent"), (limit, VIOLET)))).thresholds_style(style)


def stacked(panel: chart_builders.Panel, *, shares: bool = False) -> chart_builders.Panel:
    """Bars upon each other; ``shares``: as parts of a hundred."""
    mode = common.StackingMode.PERCENT if shares else common.StackingMode.NORMAL
    return (
        panel.draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .bar_width_factor(0.97)
        .stacking(common_builders.StackingConfig().mode(mode).group("A"))
    )


def timeline(head: Head, size: Size, *queries: Query, nothing: str = NOTHING) -> timeline_builders.Panel:
    """States over time, each with its word in the bar."""
    return (
        _dressed(timeline_builders.Panel(), head, size, queries, "none", nothing)
        .show_value(common.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.9)
        .fill_opacity(85)
        .line_width(0)
        .legend(common_builders.VizLegendOptions().show_legend(False))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
    )


def table(head: Head, size: Size, *queries: Query, nothing: str = NOTHING) -> table_builders.Panel:
    """Rows to read and to click."""
    panel = _dressed(table_builders.Panel(), head, size, queries, "none", nothing).show_header(True)
    return panel.align(common.FieldTextAlignment.AUTO).inspect(False)


ACCOUNTS: Final = """WITH hole AS (
  SELECT station, day, sum(last_seq - first_seq + 1) AS messages,
    CASE WHEN bool_and(total_before IS NOT NULL AND total_after IS NOT NULL) THEN sum(total_after - total_before) END
      AS readings
  FROM sequence_gap GROUP BY station, day
), counted AS (
  SELECT l.*, COALESCE(h.messages, 0) AS messages_missing,
    CASE WHEN l.messages_unnumbered = 0 THEN CASE WHEN h.station IS NULL THEN 0 ELSE h.readings END END AS missing,
    json_array_length(s.parameters) * LEAST(86400, GREATEST(1, EXTRACT(EPOCH FROM
      (now() - (l.day || ' 00:00:00+08')::timestamptz)))) / s.interval_s AS due
  FROM ledger l LEFT JOIN hole h ON h.station = l.station AND h.day = l.day
  LEFT JOIN station s ON s.key = l.station
), account AS (
  SELECT c.*, 100.0 * c.stored / NULLIF(c.stored + c.quarantined + c.missing, 0) AS valid,
    LEAST(100.0, 100.0 * c.stored / NULLIF(c.due, 0)) AS arrived
  FROM counted c
)"""
"""The loss account for every station and Beijing day, as ``ingest.ledger`` closes it.

``missing`` is NULL where it is unknown: a gap without totals, or messages without a number. ``valid`` is what was
usable of what was sent, ``arrived`` what was stored of what the station's interval promised, both in per cent.
"""


def account_columns(panel: table_builders.Panel) -> table_builders.Panel:
    """Names and units of the columns of an account; an unknown figure is shown as unknown."""
    unknown = mapped(words({}, nothing="未知 unknown"))
    for column, name in (("day", "日期 day"), ("stored", "入库 stored"), ("duplicate", "重复 duplicate")):
        panel = panel.override_by_name(column, [called(name)])
    return (
        panel.override_by_name("quarantined", [called("隔离 quarantined")])
        .override_by_name("missing", [called("缺失 missing"), unknown])
        .override_by_name("messages", [called("缺失消息 messages missing")])
        .override_by_name("valid", [called("有效率 usable"), set_("unit", "percent"), set_("decimals", 1), unknown])
        .override_by_name("arrived", [called("到报率 arrived"), set_("unit", "percent"), set_("decimals", 1), unknown])
    )


def incident_rows(head: Head, size: Size, where: str) -> table_builders.Panel:
    """Open incidents, most urgent first. ``where`` refers to ``i``, the incident, and ``s``, its station if any."""
    query = Sql(f"""SELECT i.colour AS "colour", i.id AS "id", i.title_zh AS "what", i.state AS "state",
  to_timestamp(i.since_ms / 1000.0) AS "since", COALESCE(s.zh, i.station) AS "where", i.station AS "station",
  COALESCE(i.parameter, '') AS "parameter", COALESCE(NULLIF(i.responsible, ''), i.accepted_by, '—') AS "who"
FROM incident i LEFT JOIN station s ON s.key = i.station
WHERE i.closed_at_ms IS NULL AND {where}
ORDER BY i.retrospective, array_position(ARRAY['red', 'orange', 'yellow', 'blue'], i.colour), i.opened_at_ms
LIMIT 200""")
    panel = table(head, size, query, nothing="暂无未结案事件 · nothing is open")
    panel = (
        panel.override_by_name("colour", [called("色"), *badge(), mapped(pennants())])
        .override_by_name("id", [called("编号 no."), set_("custom.width", 90)])
        .override_by_name("what", [called("事由 what"), to_console(cell("station"), cell("parameter"))])
        .override_by_name("state", [called("状态 state"), mapped(words(STATES)), set_("custom.width", 130)])
        .override_by_name("since", [called("起于 since"), set_("unit", "dateTimeFromNow"), set_("custom.width", 140)])
        .override_by_name("where", [called("地点 where"), to_dashboard("rc-station", "station", cell("station"))])
        .override_by_name("who", [called("受理 accepted by"), set_("custom.width", 140)])
    )
    for column in ("station", "parameter"):
        panel = panel.override_by_name(column, [set_("custom.hidden", True)])
    return panel


# -- what a panel shows its values as --------------------------------------------------------------------------------


def thresholds(steps: Iterable[tuple[float | None, str]]) -> builders.ThresholdsConfig:
    """Colours from a value on; the first step, None, holds below all others."""
    made = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def words(
    texts: Mapping[str, tuple[str, str]], nothing: str = NOTHING, absent: str = GREY
) -> list[models.ValueMapping]:
    """Value → (word, colour); what is not there is the word ``nothing`` in the colour ``absent``."""
    results = {
        value: models.ValueMappingResult(text=text, color=colour, index=i)
        for i, (value, (text, colour)) in enumerate(texts.items())
    }
    empty = models.ValueMappingResult(text=nothing, color=absent, index=len(results))
    special = models.DashboardSpecialValueMapOptions(match=models.SpecialValueMatch.NULL_AND_NAN, result=empty)
    named: list[models.ValueMapping] = [models.ValueMap(options=results)] if results else []
    return [*named, models.SpecialValueMap(options=special)]


def class_words() -> list[models.ValueMapping]:
    """1 … 6 as letters on the colours of the classes; nothing judged is never class I."""
    return words({str(int(c)): (c.sign, c.colour) for c in WaterClass})


def flag_words() -> list[models.ValueMapping]:
    """1 … 9 as words on grey and violet."""
    return words({str(int(flag)): style for flag, style in FLAGS.items()})


def pennants() -> list[models.ValueMapping]:
    """The colour of an incident as the character of its pennant."""
    return words(dict(URGENCY))


def set_(name: str, value: object) -> models.DynamicConfigValue:
    """A property of an override."""
    return models.DynamicConfigValue(id_val=name, value=value)


def called(name: str) -> models.DynamicConfigValue:
    """Show the field under another name."""
    return set_("displayName", name)


def coloured(colour: str) -> models.DynamicConfigValue:
    """One colour, whatever the value."""
    return set_("color", {"mode": "fixed", "fixedColor": colour})


def mapped(mappings: list[models.ValueMapping]) -> models.DynamicConfigValue:
    """Words for the values of one field."""
    return set_("mappings", mappings)


def one_colour(colour: str) -> builders.FieldColor:
    """All values of a panel in one colour."""
    return builders.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(colour)


def linked(title: str, url: str) -> models.DynamicConfigValue:
    """Where a click on the cell leads."""
    return set_("links", [{"title": title, "url": url}])


def badge() -> Properties:
    """A cell that is filled with the colour of its mapping."""
    return [set_("custom.cellOptions", {"type": "color-background", "mode": "basic"}), set_("custom.width", 90)]


def joined(column: str) -> models.DataTransformerConfig:
    """The answers of several queries side by side, by a column they share; rows that lack a partner are left out."""
    return models.DataTransformerConfig(id_val="joinByField", options={"byField": column, "mode": "inner"})


def sorted_by(column: str, *, descending: bool = False) -> models.DataTransformerConfig:
    """Rows in order; the reader may sort otherwise."""
    return models.DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": column, "desc": descending}]})


def columns(*order: str, hide: Sequence[str] = ()) -> models.DataTransformerConfig:
    """Columns from left to right; ``hide`` leaves some out altogether."""
    places = {name: i for i, name in enumerate(order)}
    options = {"indexByName": places, "excludeByName": dict.fromkeys(hide, True), "renameByName": {}}
    return models.DataTransformerConfig(id_val="organize", options=options)


def per_parameter(panel: _P) -> _P:
    """Name, unit, decimals, axis and class bands of whichever parameter a repeated panel shows.

    The series of such a panel are named ``{parameter} {water} …`` (water: river or lake, since total phosphorus and
    nitrogen have other limits in lakes); the overrides find them by that name.
    """
    for parameter in catalogue().parameters:
        shown = [set_("unit", unit(parameter)), set_("decimals", parameter.decimals)]
        panel = panel.override_by_regexp(f"/^{parameter.key} /", shown)
        for water in Water:
            low, high = axis(parameter, water)
            properties = [set_("custom.axisSoftMin", low), set_("custom.axisSoftMax", high)]
            if bands := class_bands(parameter.key, water):
                steps = [{"value": value, "color": colour} for value, colour in bands]
                properties.append(set_("thresholds", {"mode": "absolute", "steps": steps}))
                properties.append(set_("custom.thresholdsStyle", {"mode": "area"}))
            panel = panel.override_by_regexp(f"/^{parameter.key} {water} /", properties)
    return panel


def unit(parameter: Parameter) -> str:
    """The parameter's unit as Grafana spells it."""
    return "none" if parameter.unit == "1" else parameter.unit


def class_bands(parameter: str, water: Water) -> list[tuple[float | None, str]]:
    """The classes along the parameter's axis as (from, colour), lowest value first; none where table 1 has none.

    Grafana colours from a step on, the standard gives the limit itself to the better class: at the limit exactly the
    band shows its neighbour. The bands are a background, classes are decided elsewhere.
    """
    limits, direction = gb3838.limits(parameter, water), gb3838.direction(parameter)
    if limits is None or direction is None:
        return []
    if direction is Direction.WITHIN:
        low, high = limits
        return [(None, WaterClass.WORSE.colour), (low, WaterClass.I.colour), (high, WaterClass.WORSE.colour)]
    classes = list(WaterClass)
    if direction is Direction.AT_LEAST:
        ends, names = limits[::-1], classes[::-1]
    else:
        ends, names = limits, classes
    bands: list[tuple[float | None, str]] = [(None, names[0].colour)]
    for i, (end, name) in enumerate(zip(ends, names[1:], strict=True)):
        if i + 1 < len(ends) and ends[i + 1] == end:
            continue  # the next class begins at the same limit: this one has no width
        bands.append((end, name.colour))
    return bands


_AXES: Final[Mapping[str, tuple[float, float]]] = {
    "water_temp": (0, 40),
    "conductivity": (0, 1000),
    "turbidity": (0, 100),
    "orp": (-200, 400),
    "transparency": (0, 100),
    "chla": (0, 60),
    "level": (-2, 3),
    "rain": (0, 20),
}
"""Where the axis of a parameter without limits begins and ends unless values go beyond: ordinary urban rivers."""


def axis(parameter: Parameter, water: Water) -> tuple[float, float]:
    """Soft ends of the axis: the limits and a fifth more, so that charts of one parameter can be compared by eye."""
    limits = gb3838.limits(parameter.key, water)
    if limits is not None and gb3838.direction(parameter.key) is Direction.WITHIN:
        return limits[0] - 1, limits[1] + 1
    if limits is not None:
        return 0.0, _round_up(max(limits) * 1.2)
    return _AXES.get(parameter.key, (0.0, 1.0))


def _round_up(value: float) -> float:
    """The next number of two digits: 0.48 → 0.48, 13.4 → 14."""
    place = 10 ** (math.floor(math.log10(value)) - 1)
    return float(round(math.ceil(value / place - 1e-9) * place, 10))


# -- variables -------------------------------------------------------------------------------------------------------

STATION: Final = '"station" =~ /^${station:regex}$/'
REACH: Final = '"reach" =~ /^${reach:regex}$/'
WHOLE_REACH: Final = f"\"{schema.STATION}\" = '' AND {REACH}"
"""The points of ``river_class`` of a whole reach."""
AS_OF_NOW: Final = "time > ${__to}ms - 15m AND time <= ${__to}ms"
"""The end of the window. What ``river_class`` said before is no state of now: a class not renewed is none."""
NEWEST: Final = "ORDER BY time DESC LIMIT 1"
"""The newest point as it is, of each group. ``last()`` would reach behind it for a class it does not have."""
GOOD: Final = f'"{schema.flag("${parameter:raw}")}" <= {int(Flag.UNKNOWN)}'
"""Usable readings: good, or not evaluated."""

Variable = Builder[models.VariableModel]

_FLOW_ORDER = """
LEFT JOIN reach r ON r.key = s.reach
LEFT JOIN LATERAL (
  SELECT v.place FROM json_array_elements(r.line) WITH ORDINALITY AS v(point, place)
  ORDER BY (s.lon - (v.point->>0)::float8)^2 + (s.lat - (v.point->>1)::float8)^2 LIMIT 1
) AS nearest ON true"""
"""Stations beside the point of their reach that is nearest; the line of a reach is drawn upstream first."""

REGION_OF: Final = "COALESCE(NULLIF(s.region, ''), '—')"
REACH_OF: Final = "COALESCE(NULLIF(s.reach, ''), '—')"
IN_SERVICE: Final = f"NOT EXISTS (SELECT 1 FROM mute m WHERE m.station = s.key AND m.until_ms = {RETIRED_UNTIL_MS})"
"""A station that is not retired: of the others nothing is expected."""
IN_REGION: Final = f"{REGION_OF} = ANY(ARRAY[${{region:sqlstring}}]::text[])"


def choice(
    name: str,
    label: str,
    sql: str,
    *,
    several: bool = False,
    first: Sequence[str] = (),
    hidden: bool = False,
    each_time: bool = False,
) -> Variable:
    """A variable from the registry; ``several`` may be chosen, at first ``first`` or all; asked again ``each_time`` the
    time range changes, else when the dashboard is opened.

    One that is ``hidden`` follows from the others: a link from another dashboard must not set it, nobody could undo it.
    """
    refresh = models.VariableRefresh.ON_TIME_RANGE_CHANGED if each_time else models.VariableRefresh.ON_DASHBOARD_LOAD
    variable = builders.QueryVariable(name).label(label).datasource(POSTGRES).query(sql).refresh(refresh)
    if several:
        chosen = models.VariableOption(selected=True, text=list(first or ["All"]), value=list(first or ["$__all"]))
        variable = variable.multi(True).include_all(True).current(chosen)
    if hidden:
        variable = variable.hide(models.VariableHide.HIDE_VARIABLE)
    made = variable.build()
    made.skip_url_sync = hidden
    return _Finished(made)


def data_source() -> Variable:
    """Which time-series server, for a Grafana that sees several sites."""
    here = models.VariableOption(selected=True, text=INFLUX_UID, value=INFLUX_UID)
    return builders.DatasourceVariable("datasource").label("数据源 source").type("influxdb").current(here)


def region() -> Variable:
    return choice("region", "区域 region", f"SELECT DISTINCT {REGION_OF} FROM station s ORDER BY 1", several=True)


def reaches_of_region() -> Variable:
    """The waters in which stations of the chosen regions stand."""
    sql = f"SELECT DISTINCT s.reach FROM station s WHERE s.reach <> '' AND {IN_REGION} ORDER BY 1"
    return choice("reach", "河段 reach", sql, several=True, hidden=True)


def reach() -> Variable:
    sql = "SELECT key AS __value, zh AS __text FROM reach ORDER BY key"
    return choice("reach", "河段 reach", sql)


def stations_of_reach() -> Variable:
    """All stations of the chosen reach, upstream first."""
    sql = f"""SELECT s.key AS __value, s.zh AS __text FROM station s {_FLOW_ORDER}
WHERE s.reach = ${{reach:sqlstring}} ORDER BY nearest.place, s.key"""
    return choice("station", "站点 station", sql, several=True, hidden=True)


def reach_filter() -> Variable:
    """Waters to choose stations from; those on none are under a dash."""
    sql = f"""SELECT DISTINCT {REACH_OF} AS __value, COALESCE(r.zh, '—') AS __text
FROM station s LEFT JOIN reach r ON r.key = s.reach ORDER BY 1"""
    return choice("reach", "河段 reach", sql, several=True)


def station() -> Variable:
    sql = f"""SELECT s.key AS __value, s.zh AS __text FROM station s {_FLOW_ORDER}
WHERE {REACH_OF} = ANY(ARRAY[${{reach:sqlstring}}]::text[]) ORDER BY s.reach, nearest.place, s.key"""
    return choice("station", "站点 station", sql)


def stations_of_region() -> Variable:
    sql = f"SELECT s.key AS __value, s.zh AS __text FROM station s WHERE {IN_REGION} ORDER BY s.key"
    return choice("station", "站点 station", sql, several=True)


def parameter(stations: str, *, several: bool, first: Sequence[str] = ()) -> Variable:
    """What the stations of a condition measure, everything where one lists nothing; ``first`` are shown at first."""
    names = ", ".join(
        f"({i}, '{p.key}', '{p.zh}{'' if p.unit == '1' else f' {p.unit}'}')"
        for i, p in enumerate(catalogue().parameters)
    )
    sql = f"""SELECT p.key AS __value, p.name AS __text FROM (VALUES {names}) AS p(place, key, name)
WHERE NOT EXISTS (SELECT 1 FROM station s WHERE {stations}) OR EXISTS (SELECT 1 FROM station s WHERE {stations}
  AND (json_array_length(s.parameters) = 0 OR p.key IN (SELECT json_array_elements_text(s.parameters))))
ORDER BY p.place"""
    return choice("parameter", "参数 parameter", sql, several=several, first=first)


def water_of_reach() -> Variable:
    """River or lake: which column of the standard is the reach's."""
    sql = "SELECT CASE WHEN water = 'lake' THEN 'lake' ELSE 'river' END FROM reach WHERE key = ${reach:sqlstring}"
    return choice("water", "水体 water", sql, hidden=True)


def water() -> Variable:
    """River or lake: which column of the standard is the station's."""
    sql = "SELECT CASE WHEN water = 'lake' THEN 'lake' ELSE 'river' END FROM station WHERE key = ${station:sqlstring}"
    return choice("water", "水体 water", sql, hidden=True)


_BUCKETS = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 28800, 43200, 86400, 172_800, 604_800)


def bucket(stations: str) -> Variable:
    """Seconds of a bucket: never shorter than two intervals of the slowest station, about 400 of them in the window.

    So an empty bucket is silence and breaks the line, and a bucket's least and greatest value keep every peak.
    """
    ladder = ", ".join(str(b) for b in _BUCKETS)
    sql = f"""SELECT COALESCE(min(b), {_BUCKETS[-1]}) || 's' FROM unnest(ARRAY[{ladder}]) AS b
WHERE b >= GREATEST((SELECT 2 * max(s.interval_s) FROM station s WHERE {stations}),
  ($__unixEpochTo() - $__unixEpochFrom()) / 400.0)"""
    return choice("bucket", "步长 bucket", sql, hidden=True, each_time=True)


IN_BUCKETS: Final = "GROUP BY time(${bucket:raw})"


def instances(metric: str) -> Variable:
    """The processes that tell a metric; a name that is new needs no edit."""
    return (
        builders.QueryVariable("instance")
        .label("实例 instance")
        .datasource(PROMETHEUS)
        .query(f"label_values({metric}, instance)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def console(url: str) -> Variable:
    """The address of the console, for the links; an address in a link to the dashboard must not take its place."""
    made = builders.ConstantVariable("console").label("控制台 console").value(url).build()
    made.skip_url_sync = True
    return _Finished(made)


# -- annotations and links -------------------------------------------------------------------------------------------

_KINDS: Final = (
    ("incident", "事件 incidents", DARK),
    ("visit", "现场作业 visits", GREY),
    ("calibration", "校准 calibrations", GREY),
    ("swap", "传感器更换 swaps", LILAC),
    ("rules", "规则版本 rules", VIOLET),
)


class Annotation(models.AnnotationQuery):
    """An annotation asked of InfluxDB: its members stand beside the common ones and the SDK does not know them."""

    def __init__(self, kind: str, name: str, colour: str, where: str, enable: bool) -> None:
        super().__init__(name=name, datasource=INFLUX, enable=enable, icon_color=colour)
        fields = ", ".join(f'"{field}"' for field in (schema.TITLE, schema.UNTIL, schema.COLOUR, schema.ID))
        here = f"{where} AND " if where else ""
        self.query = f'SELECT {fields} FROM "{schema.EVENT}" WHERE "{schema.KIND}" = \'{kind}\' AND {here}$timeFilter'

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {
            "query": self.query,
            "textColumn": schema.TITLE,
            "tagsColumn": schema.COLOUR,
            "timeEndColumn": schema.UNTIL,
            "titleColumn": "",
            "fromAnnotations": True,
        }


def annotations(
    where: str, kinds: Iterable[str] = ("incident", "visit", "calibration", "swap", "rules")
) -> list[Annotation]:
    """What happened, on all charts of a dashboard; each kind has its switch. ``rules`` concern every station."""
    chosen = set(kinds)
    return [
        Annotation(kind, name, colour, "" if kind == "rules" else where, kind != "rules")
        for kind, name, colour in _KINDS
        if kind in chosen
    ]


def bar(url: str) -> list[Builder[models.DashboardLink]]:
    """The links on top: the other dashboards with the same window and choice, and the console."""
    others = (
        builders.DashboardLink("仪表盘 Dashboards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)
        .include_vars(True)
    )
    home = builders.DashboardLink("控制台 Console").type(models.DashboardLinkType.LINK).icon("external link").url(url)
    return [others, home.target_blank(True)]


_WINDOW = "from=${__from}&to=${__to}"


def to_console(station: str, parameter: str = "") -> models.DynamicConfigValue:
    """在控制台查看: the station in the console, with the same window. The arguments are Grafana's field references."""
    chosen = f"&parameter={parameter}" if parameter else ""
    return linked("在控制台查看 Open in the console", f"${{console}}/?station={station}{chosen}&{_WINDOW}")


def to_dashboard(uid: str, variable: str, value: str) -> models.DynamicConfigValue:
    """Another dashboard with the same window, one variable set."""
    return linked("打开 Open", f"/d/{uid}?var-{variable}={value}&{_WINDOW}")


def cell(column: str) -> str:
    """The value of a column in the row that was clicked."""
    return f"${{__data.fields.{column}}}"


# -- the whole -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard before it is written."""

    uid: str
    head: Head
    variables: Sequence[Variable]
    panels: Sequence[Panel]
    annotations: Sequence[models.AnnotationQuery] = ()

    def build(self, console_url: str) -> models.Dashboard:
        """The dashboard as Grafana's model; panels are numbered in their order."""
        board = (
            builders.Dashboard(self.head.title)
            .uid(self.uid)
            .description(self.head.description)
            .tags([TAG])
            .timezone(ZONE)
            .refresh("1m")
            .time("now-24h", "now")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .links(bar(console_url))
        )
        for variable in (*self.variables, console(console_url)):
            board = board.with_variable(variable)
        for annotation in self.annotations:
            board = board.annotation(_Finished(annotation))
        for number, panel in enumerate(self.panels, start=1):
            board = board.with_panel(_Finished(panel.id(number).build()))
        made = board.build()
        _lay_out(made.panels or [])
        return made


def _lay_out(panels: Sequence[models.Panel | models.RowPanel]) -> None:
    """From left to right in lines; a line is as high as its highest panel."""
    x = y = line = 0
    for panel in panels:
        place = panel.grid_pos
        assert place is not None
        if x + place.w > 24:
            x, y, line = 0, y + line, 0
        place.x, place.y = x, y
        x, line = x + place.w, max(line, place.h)


def text(board: models.Dashboard) -> str:
    """The dashboard as JSON, ready to provision and to compare line by line."""
    return json.dumps(board, cls=JSONEncoder, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def plain(board: models.Dashboard) -> dict[str, Any]:
    """The dashboard as the object Grafana's API takes."""
    found: dict[str, Any] = json.loads(text(board))
    return found
