"""``rc-quality`` 数据质量: flags by test, gaps and losses, quarantine."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Influx, Size, Sql, cell, head
from ingest.storage import schema
from sensors.reading import QualityTest, Reason

UID: Final = "rc-quality"

_STATIONS: Final = "s.key = ANY(ARRAY[${station:sqlstring}]::text[])"
_FLAG: Final = f'"{schema.flag("${parameter:raw}")}"'
_TESTS: Final = f'"{schema.tests("${parameter:raw}")}"'
_TEST_NAMES: Final = {QualityTest[name.upper()]: word for name, word in parts.TEXTS["words"]["tests"].items()}
_REASON_WORDS: Final = {reason.key: (reason.key.replace("_", " "), parts.GREY) for reason in Reason}


def _held() -> parts.Panel:
    query = Sql("""SELECT count(*) AS "隔离中 held",
  EXTRACT(EPOCH FROM now()) - min(received_at_ms) / 1000.0 AS "最久 oldest"
FROM quarantine WHERE status = 'held'""")
    return parts.stat(head("quality.held"), Size(8, 4), query).override_by_name(
        "最久 oldest", [parts.set_("unit", "s")]
    )


def _usable() -> parts.Panel:
    query = Sql(f"""{parts.ACCOUNTS}
SELECT CASE WHEN bool_and(a.missing IS NOT NULL) THEN
    100.0 * sum(a.stored) / NULLIF(sum(a.stored + a.quarantined + a.missing), 0) END AS "有效率 usable",
  LEAST(100.0, 100.0 * sum(a.stored) / NULLIF(sum(a.due), 0)) AS "到报率 arrived"
FROM account a WHERE a.station = ANY(ARRAY[${{station:sqlstring}}]::text[])
  AND a.day BETWEEN to_char(to_timestamp($__from / 1000.0) AT TIME ZONE '{parts.ZONE}', 'YYYY-MM-DD')
  AND to_char(to_timestamp($__to / 1000.0) AT TIME ZONE '{parts.ZONE}', 'YYYY-MM-DD')""")
    panel = parts.stat(head("quality.usable"), Size(8, 4), query, unit="percent", nothing="未知 · unknown")
    return panel.mappings(parts.words({}, nothing="未知 unknown")).decimals(1)


def _unknown_stations() -> parts.Panel:
    query = Sql("""SELECT count(*) AS "陌生来源 strangers" FROM quarantine
WHERE reason = 'unknown_station' AND received_at_ms BETWEEN $__from AND $__to""")
    return parts.stat(head("quality.unknown_stations"), Size(8, 4), query)


def _shares() -> parts.Panel:
    queries = [
        Influx(
            f'SELECT count({_FLAG}) FROM "{schema.WATER}" WHERE {parts.STATION} AND {_FLAG} = {int(flag)} '
            "AND $timeFilter GROUP BY time($__interval) fill(none)",
            alias=name,
        )
        for flag, (name, _) in parts.FLAGS.items()
    ]
    panel = (
        parts.stacked(parts.chart(head("quality.shares"), Size(12, 8), *queries, unit="none"), shares=True)
        .interval("10m")
        .decimals(0)
    )
    for name, colour in parts.FLAGS.values():
        panel = panel.override_by_name(name, [parts.coloured(colour)])
    return panel.repeat("parameter").repeat_direction("v")


def _tests() -> parts.Panel:
    queries = [
        Influx(
            f'SELECT count({_TESTS}) FROM "{schema.WATER}" WHERE {parts.STATION} AND {_TESTS} & {int(test)} '
            f"= {int(test)} AND $timeFilter GROUP BY time($__interval) fill(none)",
            alias=name,
        )
        for test, name in _TEST_NAMES.items()
    ]
    panel = parts.stacked(
        parts.chart(head("quality.tests"), Size(12, 8), *queries, unit="none", nothing="无质疑 · nothing doubted")
    )
    return panel.interval("10m").decimals(0).repeat("parameter").repeat_direction("v")


def _account() -> parts.Panel:
    query = Sql(f"""{parts.ACCOUNTS}, days AS (
  SELECT s.key, s.zh, to_char(d, 'YYYY-MM-DD') AS day, {parts.IN_SERVICE} AS expected
  FROM station s, generate_series(
    date_trunc('day', to_timestamp(GREATEST($__from, $__to - 31 * 86400000.0) / 1000.0) AT TIME ZONE '{parts.ZONE}'),
    to_timestamp($__to / 1000.0) AT TIME ZONE '{parts.ZONE}', interval '1 day') AS d WHERE {_STATIONS}
)
SELECT d.zh AS "name", d.key AS "station", d.day AS "day", COALESCE(a.stored, 0) AS "stored",
  COALESCE(a.duplicate, 0) AS "duplicate", COALESCE(a.quarantined, 0) AS "quarantined", a.missing AS "missing",
  COALESCE(a.messages_missing, 0) AS "messages", a.valid AS "valid", COALESCE(a.arrived, 0) AS "arrived"
FROM days d LEFT JOIN account a ON a.station = d.key AND a.day = d.day
WHERE a.station IS NOT NULL OR d.expected
ORDER BY COALESCE(a.arrived, 0), a.missing DESC NULLS LAST, d.day DESC, d.key LIMIT 500""")
    panel = parts.account_columns(parts.table(head("quality.account"), Size(24, 9), query))
    return panel.override_by_name(
        "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
    ).override_by_name("station", [parts.set_("custom.hidden", True)])


def _reasons() -> parts.Panel:
    query = Sql(
        """SELECT date_trunc('hour', to_timestamp(received_at_ms / 1000.0)) AS "time", reason AS "metric",
  count(*) AS "count"
FROM quarantine WHERE received_at_ms BETWEEN $__from AND $__to GROUP BY 1, 2 ORDER BY 1, 2""",
        series=True,
    )
    panel = parts.stacked(
        parts.chart(head("quality.reasons"), Size(12, 8), query, unit="none", nothing="没有被拒数据 · nothing refused")
    )
    return panel.decimals(0).override_by_regexp("/.*/", [parts.called("${__field.labels.metric}")])


def _sources() -> parts.Panel:
    query = Sql("""SELECT station AS "station", reason AS "reason", count(*) AS "count",
  to_timestamp(min(received_at_ms) / 1000.0) AS "first", to_timestamp(max(received_at_ms) / 1000.0) AS "last",
  max(detail) AS "detail"
FROM quarantine WHERE received_at_ms BETWEEN $__from AND $__to GROUP BY 1, 2 ORDER BY 5 DESC LIMIT 200""")
    panel = parts.table(head("quality.sources"), Size(12, 8), query, nothing="没有被拒数据 · nothing refused")
    for column, name in (("station", "来源 source"), ("count", "条目 entries"), ("detail", "说明 detail")):
        panel = panel.override_by_name(column, [parts.called(name)])
    for column, name in (("first", "最早 first"), ("last", "最近 last")):
        panel = panel.override_by_name(column, [parts.called(name), parts.set_("unit", "dateTimeAsLocal")])
    return panel.override_by_name("reason", [parts.called("原因 reason"), parts.mapped(parts.words(_REASON_WORDS))])


def board() -> Board:
    return Board(
        uid=UID,
        head=head("quality.board"),
        variables=(
            parts.data_source(),
            parts.region(),
            parts.stations_of_region(),
            parts.parameter(_STATIONS, several=True, first=("do", "nh3n")),
        ),
        panels=(
            _held(),
            _usable(),
            _unknown_stations(),
            _account(),
            _reasons(),
            _sources(),
            _shares(),
            _tests(),
        ),
        annotations=parts.annotations(parts.STATION, kinds=("visit", "calibration", "swap", "rules")),
    )
