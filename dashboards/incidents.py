"""``rc-incidents`` 事件: number of incidents, time to acceptance and closing, share of false alarms."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Head, Size, Sql

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
    head = Head(
        "未结案 · Not closed",
        "现在未结案、其中未受理的事件；不受时间范围影响。",
        "Not closed now, and of these not accepted; whatever the window.",
    )
    query = Sql(f"""SELECT count(*) AS "未结案 open",
  count(*) FILTER (WHERE i.state = 'reported') AS "未受理 not accepted"
{_FROM} WHERE i.closed_at_ms IS NULL AND {_CHOSEN}""")
    return parts.stat(head, Size(8, 4), query)


def _wolf() -> parts.Panel:
    head = Head(
        "误报率 · False alarms",
        "时间范围内结案的事件中判为误报的比例；高于三成应回测调整规则。",
        "Share of incidents closed in the window that were false alarms; above a third the rules need another look.",
    )
    query = Sql(f"""SELECT
  100.0 * count(*) FILTER (WHERE e.what = 'false_alarm') / NULLIF(count(*), 0) AS "误报率 false alarms"
FROM incident_entry e JOIN incident i ON i.id = e.incident_id LEFT JOIN station s ON s.key = i.station
WHERE e.what IN ('closed', 'false_alarm') AND e.at_ms BETWEEN $__from AND $__to AND {_CHOSEN}""")
    return parts.stat(head, Size(8, 4), query, unit="percent", nothing="无结案 · none closed")


def _undelivered() -> parts.Panel:
    head = Head(
        "未送达 · Not delivered",
        "等待投递与被拒绝（死信）的通知；死信须人工处理。",
        "Messages that wait, and those refused for good, which need a hand.",
    )
    query = Sql("""SELECT count(*) FILTER (WHERE status = 'pending') AS "等待 waiting",
  count(*) FILTER (WHERE status = 'refused') AS "死信 dead letters" FROM outbox""")
    return parts.stat(head, Size(8, 4), query)


def _flow() -> parts.Panel:
    head = Head(
        "每日新开与结案 · Opened and closed",
        "新开长期多于结案，积压就在增长。",
        "More opened than closed for long: the pile grows.",
    )
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
    return parts.bars(parts.chart(head, Size(12, 8), opened, closed, unit="none")).decimals(0)


def _by_colour() -> parts.Panel:
    head = Head(
        "每日新开，按紧急程度 · Opened by urgency",
        "红橙增多说明水情变差；黄蓝增多先看设备与规则。",
        "More red and orange: the water is worse; more yellow and blue: look at devices and rules first.",
    )
    counts = ", ".join(
        f"count(*) FILTER (WHERE i.colour = '{colour}') AS \"{sign}\"" for colour, (sign, _) in parts.URGENCY.items()
    )
    query = Sql(
        f"""SELECT {_DAY.format("i.opened_at_ms")} AS "time", {counts} {_FROM}
WHERE i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    panel = parts.stacked(parts.chart(head, Size(12, 8), query, unit="none")).decimals(0)
    for sign, colour in parts.URGENCY.values():
        panel = panel.override_by_name(sign, [parts.coloured(colour)])
    return panel


def _how_soon(title: str, zh: str, en: str, until: str) -> parts.Panel:
    """Median and ninth decile of a wait, by urgency, over incidents opened in the window."""
    query = Sql(f"""SELECT i.colour AS "colour", count(*) AS "count",
  percentile_cont(0.5) WITHIN GROUP (ORDER BY (i.{until} - i.opened_at_ms) / 1000.0) AS "p50",
  percentile_cont(0.9) WITHIN GROUP (ORDER BY (i.{until} - i.opened_at_ms) / 1000.0) AS "p90"
{_FROM} WHERE i.{until} IS NOT NULL AND i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN}
GROUP BY i.colour ORDER BY array_position(ARRAY['red', 'orange', 'yellow', 'blue'], i.colour)""")
    panel = parts.table(Head(title, zh, en), Size(12, 6), query, nothing="时间范围内没有 · none in the window")
    panel = panel.override_by_name("colour", [parts.called("色"), *parts.badge(), parts.mapped(parts.pennants())])
    for column, name in (("p50", "一半 p50"), ("p90", "九成 p90")):
        panel = panel.override_by_name(column, [parts.called(name), parts.set_("unit", "s")])
    return panel.override_by_name("count", [parts.called("件数 count")])


def _nights() -> parts.Panel:
    head = Head(
        "每夜呼叫 · Pages per night",
        "每夜（22 时至次日 7 时）发出的呼叫，记在入夜那天；多于两三次，值班者会麻木。",
        "Pages between 22 and 7, under the evening's date; more than two or three a night and nobody listens any more.",
    )
    query = Sql(
        f"""SELECT {_DAY.format("(o.created_at_ms - 7 * 3600000)")} AS "time", count(*) AS "呼叫 pages"
FROM outbox o JOIN incident i ON i.id = o.incident_id LEFT JOIN station s ON s.key = i.station
WHERE o.notify = 'page' AND o.created_at_ms BETWEEN $__from AND $__to AND {_CHOSEN}
  AND EXTRACT(HOUR FROM to_timestamp((o.created_at_ms - 7 * 3600000) / 1000.0) AT TIME ZONE '{parts.ZONE}') >= 15
GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    return parts.bars(parts.chart(head, Size(12, 7), query, unit="none")).decimals(0)


def _rules() -> parts.Panel:
    head = Head(
        "哪些规则在响 · Which rules fire",
        "时间范围内各规则新开的事件与误报；总是误报的规则应回测。",
        "Incidents and false alarms by rule; one that is always wrong needs a backtest.",
    )
    query = Sql(f"""SELECT i.rule AS "rule", i.rule_version AS "version", count(*) AS "count",
  count(*) FILTER (WHERE EXISTS (SELECT 1 FROM incident_entry e WHERE e.incident_id = i.id AND e.what = 'false_alarm'))
    AS "false"
{_FROM} WHERE i.opened_at_ms BETWEEN $__from AND $__to AND {_CHOSEN} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2""")
    panel = parts.table(head, Size(12, 7), query, nothing="时间范围内没有 · none in the window")
    for column, name in (
        ("rule", "规则 rule"),
        ("version", "版本 version"),
        ("count", "事件 incidents"),
        ("false", "误报 false"),
    ):
        panel = panel.override_by_name(column, [parts.called(name)])
    return panel


def _rows() -> parts.Panel:
    head = Head(
        "未结案事件 · Not closed", "最紧急的在前；点击在控制台查看。", "Most urgent first; a click opens the console."
    )
    return parts.incident_rows(head, Size(24, 10), _CHOSEN)


def board() -> Board:
    return Board(
        uid=UID,
        title="事件 · Incidents",
        description=parts.both(
            "来了多少，多快受理和结案，有多少是误报。",
            "How much comes, how soon it is settled, how often it was nothing.",
        ),
        variables=(parts.region(), _colour()),
        panels=(
            _open(),
            _wolf(),
            _undelivered(),
            _flow(),
            _by_colour(),
            _how_soon(
                "受理用时 · Time to accept",
                "从新开到受理：一半在 p50 内，九成在 p90 内。",
                "From opening to acceptance: half within p50, nine of ten within p90.",
                "accepted_at_ms",
            ),
            _how_soon(
                "结案用时 · Time to close",
                "从新开到结案。",
                "From opening to closing.",
                "closed_at_ms",
            ),
            _nights(),
            _rules(),
            _rows(),
        ),
    )
