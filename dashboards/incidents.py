"""``rc-incidents`` 事件: number of incidents, time to acceptance and closing, share of false alarms."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Size, Sql, head

UID: Final = "rc-incidents"

_COLOURS: Final = ", ".join(
    f"('{colour}', '{sign}', {i})" for i, (colour, (sign, _)) in enumerate(parts.URGENCY.items())
)
_CHOSEN: Final = f"(s.key IS NULL OR {parts.IN_REGION}) AND i.colour = ANY(ARRAY[${{colour:sqlstring}}]::text[])"
_FROM: Final = "FROM incident i LEFT JOIN station s ON s.key = i.station"
_DAY: Final = f"date_trunc('day', to_timestamp({{}} / 1000.0) AT TIME ZONE '{parts.ZONE}') AT TIME ZONE '{parts.ZONE}'"
"""The Beijing day a moment (column in ms) belongs to."""


def _colour() -> parts.Variable:
    sql = f"SELECT colour AS __value, sign AS __text FROM (VALUES {_COLOURS}) AS c(colour, sign, place) ORDER BY place"
    return parts.choice("colour", "紧急程度 urgency", sql, several=True)


def _open() -> parts.Panel:
    query = Sql(f"""SELECT count(*) AS "未结案 open",
  count(*) FILTER (WHERE i.state = 'reported') AS "未受理 not accepted"
{_FROM} WHERE i.closed_at_ms IS NULL AND {_CHOSEN}""")
    return parts.stat(head("incidents.open"), Size(8, 4), query)


def _wolf() -> parts.Panel:
    query = Sql(f"""SELECT
  100.0 * count(*) FILTER (WHERE e.what = 'false_alarm') / NULLIF(count(*), 0) AS "误报率 false alarms"
FROM incident_entry e JOIN incident i ON i.id = e.incident_id LEFT JOIN station s ON s.key = i.station
WHERE e.what IN ('closed', 'false_alarm') AND e.at_ms BETWEEN $__from AND $__to AND {_CHOSEN}""")
    return parts.stat(head("incidents.wolf"), Size(8, 4), query, unit="percent", nothing="无结案 · none closed")


def _undelivered() -> parts.Panel:
    query = Sql("""SELECT count(*) FILTER (WHERE status = 'pending') AS "等待 waiting",
  count(*) FILTER (WHERE status = 'refused') AS "死信 dead letters" FROM outbox""")
    return parts.stat(head("incidents.undelivered"), Size(8, 4), query)


def _flow() -> parts.Panel:
    opened = Sql(
        f"""SELECT {_DAY.format("i.opened_at_ms")} AS "time", count(*) AS "新开 opened" {_FROM}
WHERE i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    closed = Sql(
        f"""SELECT {_DAY.format("i.closed_at_ms")} AS "time", count(*) AS "结案 closed" {_FROM}
WHERE i.closed_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    return parts.bars(parts.chart(head("incidents.flow"), Size(12, 8), opened, closed, unit="none")).decimals(0)


def _by_colour() -> parts.Panel:
    counts = ", ".join(
        f"count(*) FILTER (WHERE i.colour = '{colour}') AS \"{sign}\"" for colour, (sign, _) in parts.URGENCY.items()
    )
    query = Sql(
        f"""SELECT {_DAY.format("i.opened_at_ms")} AS "time", {counts} {_FROM}
WHERE i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    panel = parts.stacked(parts.chart(head("incidents.by_colour"), Size(12, 8), query, unit="none")).decimals(0)
    for sign, colour in parts.URGENCY.values():
        panel = panel.override_by_name(sign, [parts.coloured(colour)])
    return panel


def _how_soon(until: str) -> parts.Panel:
    """Median and ninth decile of a wait, by urgency, over incidents opened in the window."""
    query = Sql(f"""SELECT i.colour AS "colour", count(*) AS "count",
  percentile_cont(0.5) WITHIN GROUP (ORDER BY (i.{until} - i.opened_at_ms) / 1000.0) AS "p50",
  percentile_cont(0.9) WITHIN GROUP (ORDER BY (i.{until} - i.opened_at_ms) / 1000.0) AS "p90"
{_FROM} WHERE i.{until} IS NOT NULL AND i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN}
GROUP BY i.colour ORDER BY array_position(ARRAY['red', 'orange', 'yellow', 'blue'], i.colour)""")
    panel = parts.table(head(f"incidents.{until}"), Size(12, 6), query, nothing="时间范围内没有 · none in the window")
    panel = panel.override_by_name("colour", [parts.called("色"), *parts.badge(), parts.mapped(parts.pennants())])
    for column, name in (("p50", "一半 p50"), ("p90", "九成 p90")):
        panel = panel.override_by_name(column, [parts.called(name), parts.set_("unit", "s")])
    return panel.override_by_name("count", [parts.called("件数 count")])


def _nights() -> parts.Panel:
    query = Sql(
        f"""SELECT {_DAY.format("(o.created_at_ms - 7 * 3600000)")} AS "time", count(*) AS "呼叫 pages"
FROM outbox o JOIN incident i ON i.id = o.incident_id LEFT JOIN station s ON s.key = i.station
WHERE o.notify = 'page' AND o.created_at_ms BETWEEN $__from AND $__to AND {_CHOSEN}
  AND EXTRACT(HOUR FROM to_timestamp((o.created_at_ms - 7 * 3600000) / 1000.0) AT TIME ZONE '{parts.ZONE}') >= 15
GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    return parts.bars(parts.chart(head("incidents.nights"), Size(12, 7), query, unit="none")).decimals(0)


def _rules() -> parts.Panel:
    query = Sql(f"""SELECT i.rule AS "rule", i.rule_version AS "version", count(*) AS "count",
  count(*) FILTER (WHERE EXISTS (SELECT 1 FROM incident_entry e WHERE e.incident_id = i.id AND e.what = 'false_alarm'))
    AS "false"
{_FROM} WHERE i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2""")
    panel = parts.table(head("incidents.rules"), Size(12, 7), query, nothing="时间范围内没有 · none in the window")
    for column, name in (
        ("rule", "规则 rule"),
        ("version", "版本 version"),
        ("count", "事件 incidents"),
        ("false", "误报 false"),
    ):
        panel = panel.override_by_name(column, [parts.called(name)])
    return panel


def _rows() -> parts.Panel:
    return parts.incident_rows(head("incidents.rows"), Size(24, 10), _CHOSEN)


def board() -> Board:
    return Board(
        uid=UID,
        head=head("incidents.board"),
        variables=(parts.region(), _colour()),
        panels=(
            _open(),
            _wolf(),
            _undelivered(),
            _flow(),
            _by_colour(),
            _how_soon("accepted_at_ms"),
            _how_soon("closed_at_ms"),
            _nights(),
            _rules(),
            _rows(),
        ),
    )
