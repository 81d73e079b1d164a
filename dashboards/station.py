"""``rc-station`` 站点: quality and values of one station.

The state of the data stands first, because an empty chart reads as a broken one.
"""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Influx, Size, Sql, head
from ingest.storage import schema
from sensors.parameters import catalogue
from sensors.reading import Flag

UID: Final = "rc-station"

_THIS: Final = "${station:sqlstring}"
_VALUE: Final = '"${parameter:raw}"'
_NAME: Final = "${parameter} ${water}"
"""How series are called; the overrides of :func:`parts.per_parameter` know them by it."""


def _connection() -> parts.Panel:
    query = Sql(f"""SELECT
  CASE WHEN online IS NULL THEN 'unknown' WHEN online THEN 'online' ELSE 'offline' END AS "state"
FROM station WHERE key = {_THIS}""")
    panel = parts.stat(head("station.connection"), Size(4, 4), query, unit="none", fields="/.*/", filled=True)
    return panel.mappings(parts.words(parts.CONNECTION))


def _newest() -> parts.Panel:
    query = Sql(f"""SELECT now.ms / 1000.0 - max(r.at) / 1000.0 AS "距今 age",
  (now.ms - max(r.at)) / (1000.0 * max(s.interval_s)) AS "间隔 intervals"
FROM station s LEFT JOIN reading r ON r.station = s.id, (SELECT EXTRACT(EPOCH FROM now()) * 1000 AS ms) AS now
WHERE s.key = {_THIS} GROUP BY now.ms""")
    steps = ((None, parts.PALE), (1.5, parts.LILAC), (3.0, parts.VIOLET))
    return (
        parts.stat(
            head("station.newest"), Size(8, 4), query, nothing="从未上报 · never reported", steps=steps, filled=True
        )
        .override_by_name(
            "距今 age",
            [
                parts.set_("unit", "s"),
                parts.set_("thresholds", {"mode": "absolute", "steps": [{"value": None, "color": parts.PALE}]}),
            ],
        )
        .override_by_name("间隔 intervals", [parts.set_("decimals", 1)])
    )


def _today() -> parts.Panel:
    query = Sql(f"""{parts.ACCOUNTS}
SELECT a.stored AS "入库 stored", a.quarantined AS "隔离 quarantined", a.missing AS "缺失 missing"
FROM account a WHERE a.station = {_THIS} AND a.day = to_char(now() AT TIME ZONE '{parts.ZONE}', 'YYYY-MM-DD')""")
    return parts.stat(head("station.today"), Size(8, 4), query, nothing="今日尚无 · none yet").mappings(
        parts.words({}, nothing="未知 unknown")
    )


def _open() -> parts.Panel:
    query = Sql(f"""SELECT count(DISTINCT i.id) AS "未结案 open" FROM incident i
LEFT JOIN incident_condition c ON c.incident_id = i.id
WHERE i.closed_at_ms IS NULL AND {_THIS} IN (i.station, c.station)""")
    return parts.stat(head("station.open"), Size(4, 4), query)


def _flags() -> parts.Panel:
    query = Influx(
        f'SELECT max(/{schema.flag("")}$/) FROM "{schema.WATER}" WHERE {parts.STATION} AND $timeFilter '
        f"{parts.IN_BUCKETS} fill(null)",
        alias="$col",
    )
    panel = parts.timeline(head("station.flags"), Size(24, 8), query).mappings(parts.flag_words())
    for one in catalogue().parameters:
        panel = panel.override_by_name(f"max_{schema.flag(one.key)}", [parts.called(f"{one.zh} {one.en}")])
    return panel


def _latest() -> parts.Panel:
    query = Influx(
        f'SELECT last({_VALUE}) AS "{_NAME} latest" FROM "{schema.WATER}" '
        f"WHERE {parts.STATION} AND {parts.GOOD} AND $timeFilter",
        table=True,
    )
    panel = parts.per_parameter(
        parts.stat(
            head("station.latest"), Size(4, 4), query, unit="none", fields="/.*/", nothing="无 · none", filled=True
        )
    )
    age = [parts.set_("unit", "dateTimeFromNow"), parts.called("距今 age")]
    return (
        panel.override_by_name("Time", age)
        .override_by_regexp("/ latest$/", [parts.called("最新 latest")])
        .repeat("parameter")
        .repeat_direction("h")
        .max_per_row(6)
    )


def _curves() -> parts.Panel:
    where = f'FROM "{schema.WATER}" WHERE {parts.STATION} AND $timeFilter'
    flagged = f'"{schema.flag("${parameter:raw}")}"'
    envelope = [
        Influx(
            f"SELECT {function}({_VALUE}) {where} AND {parts.GOOD} {parts.IN_BUCKETS} fill(null)", f"{_NAME} {function}"
        )
        for function in ("min", "max", "mean")
    ]
    doubtful = [
        Influx(
            f"SELECT max({_VALUE}) {where} AND {flagged} = {int(flag)} {parts.IN_BUCKETS} fill(none)",
            f"{_NAME} {flag.name.lower()}",
        )
        for flag in (Flag.SUSPECT, Flag.BAD)
    ]
    panel = parts.per_parameter(parts.chart(head("station.curves"), Size(12, 9), *envelope, *doubtful, unit="none"))
    faint = [parts.coloured(parts.INK), parts.set_("custom.lineWidth", 0), parts.set_("custom.showPoints", "never")]
    for function, name in (("min", "最小 min"), ("max", "最大 max")):
        panel = panel.override_by_regexp(f"/ {function}$/", [*faint, parts.called(name)])
    marks = [parts.set_("custom.drawStyle", "points"), parts.set_("custom.pointSize", 7)]
    return (
        panel.override_by_regexp(
            "/ max$/", [parts.set_("custom.fillBelowTo", "最小 min"), parts.set_("custom.fillOpacity", 20)]
        )
        .override_by_regexp(
            "/ mean$/",
            [parts.coloured(parts.INK), parts.called("均值 mean"), parts.to_console("${station}", "${parameter}")],
        )
        .override_by_regexp("/ suspect$/", [*marks, parts.coloured(parts.LILAC), parts.called("可疑 suspect")])
        .override_by_regexp("/ bad$/", [*marks, parts.coloured(parts.VIOLET), parts.called("坏 bad")])
        .repeat("parameter")
        .repeat_direction("h")
        .max_per_row(2)
    )


def _account() -> parts.Panel:
    query = Sql(f"""{parts.ACCOUNTS}
SELECT a.day AS "day", a.stored AS "stored", a.duplicate AS "duplicate", a.quarantined AS "quarantined",
  a.missing AS "missing", a.messages_missing AS "messages", a.valid AS "valid", a.arrived AS "arrived"
FROM account a WHERE a.station = {_THIS} ORDER BY a.day DESC LIMIT 31""")
    return parts.account_columns(
        parts.table(head("station.account"), Size(12, 8), query, nothing="从今天开始记账 · the account begins today")
    )


def _incidents() -> parts.Panel:
    return parts.incident_rows(head("station.incidents"), Size(12, 8), f"i.station = {_THIS}")


def board() -> Board:
    return Board(
        uid=UID,
        head=head("station.board"),
        variables=(
            parts.data_source(),
            parts.reach_filter(),
            parts.station(),
            parts.parameter(f"s.key = {_THIS}", several=True),
            parts.water(),
            parts.bucket(f"s.key = {_THIS}"),
        ),
        panels=(
            _connection(),
            _newest(),
            _today(),
            _open(),
            _flags(),
            _latest(),
            _curves(),
            _account(),
            _incidents(),
        ),
        annotations=parts.annotations(parts.STATION),
    )
