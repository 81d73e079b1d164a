"""``rc-overview`` 全域概览: water classes and their trend, open incidents, missing data, freshness."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Influx, Size, Sql, cell, head
from ingest.storage import schema
from sensors.standards.gb3838 import WaterClass

UID: Final = "rc-overview"

_CLASSES: Final = f"""SELECT last("{schema.CLASS}") AS "class", last("{schema.JUDGED}") AS "judged"
FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND $timeFilter GROUP BY time($__interval), "{schema.REACH}\""""
"""The class of each reach at the end of each interval."""

_SILENT: Final = f"""FROM incident_condition c JOIN incident i ON i.id = c.incident_id
LEFT JOIN station s ON s.key = c.station
WHERE i.kind = 'no_data' AND i.closed_at_ms IS NULL AND c.resolved_at_ms IS NULL AND NOT i.retrospective
AND (s.key IS NULL OR {parts.IN_SERVICE})"""
"""Stations and gateways that owe readings; a gateway is no station and stands for those behind it."""


def _fresh() -> parts.Panel:
    query = Influx(
        f'SELECT last("{schema.JUDGED}") AS "judged" FROM "{schema.RIVER_CLASS}" WHERE {parts.REACH} AND $timeFilter',
        table=True,
    )
    return parts.stat(
        head("overview.fresh"),
        Size(4, 4),
        query,
        unit="dateTimeFromNow",
        nothing="停更 · nothing in the window",
        fields="/^Time$/",
    )


def _open_by_colour() -> parts.Panel:
    counts = ", ".join(
        f"count(*) FILTER (WHERE i.colour = '{colour}') AS \"{sign}\"" for colour, (sign, _) in parts.URGENCY.items()
    )
    query = Sql(f"""SELECT {counts} FROM incident i LEFT JOIN station s ON s.key = i.station
WHERE i.closed_at_ms IS NULL AND NOT i.retrospective AND (s.key IS NULL OR {parts.IN_REGION})""")
    panel = parts.stat(head("overview.open_by_colour"), Size(8, 4), query, filled=True)
    for sign, fill in parts.URGENCY.values():
        steps = [{"value": None, "color": parts.PALE}, {"value": 1, "color": fill}]
        panel = panel.override_by_name(sign, [parts.set_("thresholds", {"mode": "absolute", "steps": steps})])
    return panel


def _waiting() -> parts.Panel:
    query = Sql(f"""SELECT count(*) AS "件数 count",
  EXTRACT(EPOCH FROM now()) - min(i.opened_at_ms) / 1000.0 AS "最久 oldest"
FROM incident i LEFT JOIN station s ON s.key = i.station
WHERE i.state = 'reported' AND NOT i.retrospective AND (s.key IS NULL OR {parts.IN_REGION})""")
    return parts.stat(head("overview.waiting"), Size(4, 4), query).override_by_name(
        "最久 oldest", [parts.set_("unit", "s")]
    )


def _blind() -> parts.Panel:
    query = Sql(
        f"""SELECT count(DISTINCT c.station) AS "失联 blind" {_SILENT} AND (s.key IS NULL OR {parts.IN_REGION})"""
    )
    return parts.stat(
        head("overview.blind"), Size(4, 4), query, steps=((None, parts.PALE), (1, parts.VIOLET)), filled=True
    )


def _over_target() -> parts.Panel:
    query = Influx(
        f'SELECT count("over") AS "over" FROM (SELECT last("{schema.CLASS}") - last("{schema.TARGET}") AS "over" '
        f'FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND {parts.AS_OF_NOW} GROUP BY "{schema.REACH}") '
        'WHERE "over" > 0',
        alias="劣于目标 below target",
    )
    return parts.stat(head("overview.over_target"), Size(4, 4), query, nothing="0")


def _mix() -> parts.Panel:
    queries = [
        Influx(
            f'SELECT count("class") FROM ({_CLASSES}) WHERE "class" = {int(one)} AND $timeFilter '
            "GROUP BY time($__interval) fill(none)",
            alias=one.sign,
        )
        for one in WaterClass
    ]
    unjudged = Influx(
        f'SELECT count("judged") - count("class") FROM ({_CLASSES}) WHERE $timeFilter '
        "GROUP BY time($__interval) fill(0)",
        alias=parts.NOTHING,
    )
    panel = (
        parts.stacked(parts.chart(head("overview.mix"), Size(14, 9), *queries, unjudged, unit="none"))
        .interval("5m")
        .decimals(0)
    )
    for one in WaterClass:
        panel = panel.override_by_name(one.sign, [parts.coloured(one.colour)])
    return panel.override_by_name(parts.NOTHING, [parts.coloured(parts.GREY)])


def _worst() -> parts.Panel:
    fields = ", ".join(
        f'"{field}"' for field in (schema.CLASS, schema.DECIDING, schema.JUDGED, schema.EXPECTED, schema.TARGET)
    )
    classes = Influx(
        f'SELECT {fields} FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND {parts.AS_OF_NOW} '
        f'GROUP BY "{schema.REACH}" {parts.NEWEST}',
        table=True,
    )
    names = Sql('SELECT key AS "reach", zh AS "name" FROM reach')
    panel = (
        parts.table(head("overview.worst"), Size(10, 9), classes, names)
        .with_transformation(parts.joined(schema.REACH))
        .with_transformation(parts.sorted_by(schema.CLASS, descending=True))
        .with_transformation(parts.columns("name", "class", "deciding", "judged", "expected", "target", hide=("Time",)))
        .override_by_name("reach", [parts.set_("custom.hidden", True)])
        .override_by_name("name", [parts.called("河段 water"), parts.to_dashboard("rc-river", "reach", cell("reach"))])
        .override_by_name("class", [parts.called("类别"), *parts.badge(), parts.mapped(parts.class_words())])
        .override_by_name("target", [parts.called("目标"), parts.mapped(parts.class_words())])
    )
    for column, name in (("deciding", "决定项"), ("judged", "参评"), ("expected", "应评")):
        panel = panel.override_by_name(column, [parts.called(name)])
    return panel


def _incidents() -> parts.Panel:
    return parts.incident_rows(head("overview.incidents"), Size(14, 9), f"(s.key IS NULL OR {parts.IN_REGION})")


def _silent() -> parts.Panel:
    query = Sql(f"""SELECT COALESCE(s.zh, c.station) AS "name", c.station AS "station",
  COALESCE((SELECT r.zh FROM reach r WHERE r.key = s.reach), '—') AS "water",
  to_timestamp(c.since_ms / 1000.0) AS "since"
{_SILENT} AND (s.key IS NULL OR {parts.IN_REGION})
ORDER BY c.since_ms""")
    return (
        parts.table(head("overview.silent"), Size(10, 9), query, nothing="全部在报 · all are reporting")
        .override_by_name(
            "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
        )
        .override_by_name("station", [parts.set_("custom.hidden", True)])
        .override_by_name("water", [parts.called("河段 water")])
        .override_by_name("since", [parts.called("失联 since"), parts.set_("unit", "dateTimeFromNow")])
    )


def _rain() -> parts.Panel:
    query = Influx(
        f'SELECT sum("rain") FROM "{schema.WATER}" WHERE {parts.REACH} AND "{schema.flag("rain")}" <= 2 '
        f'AND $timeFilter GROUP BY time(1h), "{schema.STATION}" fill(none)',
        alias=f"$tag_{schema.STATION}",
    )
    return parts.stacked(
        parts.chart(head("overview.rain"), Size(24, 6), query, unit="mm", nothing="无雨量数据 · no gauge reports")
    )


def board() -> Board:
    return Board(
        uid=UID,
        head=head("overview.board"),
        variables=(parts.data_source(), parts.region(), parts.reaches_of_region()),
        panels=(
            _fresh(),
            _open_by_colour(),
            _waiting(),
            _blind(),
            _over_target(),
            _mix(),
            _worst(),
            _incidents(),
            _silent(),
            _rain(),
        ),
        annotations=parts.annotations(parts.REACH, kinds=("incident", "rules")),
    )
