"""``rc-fleet`` 设备: silent devices, devices that restart, and device events."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Size, Sql, cell, head

UID: Final = "rc-fleet"

_SEEN: Final = f"""WITH seen AS (
  SELECT s.key, s.zh, s.interval_s, s.gateway, s.online, {parts.REGION_OF} AS region, newest.at AS ms,
    (EXTRACT(EPOCH FROM now()) * 1000 - newest.at) / (1000.0 * s.interval_s) AS intervals
  FROM station s LEFT JOIN LATERAL (SELECT max(r.at) AS at FROM reading r WHERE r.station = s.id) AS newest ON true
  WHERE {parts.IN_REGION} AND {parts.IN_SERVICE}
)"""
"""Each station in service with its newest reading (ms) and how many of its own intervals ago that was."""

_STATE: Final = """CASE WHEN ms IS NULL THEN 'never' WHEN intervals <= 1.5 THEN 'fine' WHEN intervals <= 3 THEN 'late'
  ELSE 'silent' END"""
_STATES: Final = {
    "fine": ("正常 fine", parts.PALE),
    "late": ("滞后 late", parts.LILAC),
    "silent": ("离线 silent", parts.VIOLET),
    "never": ("从未上报 never", parts.GREY),
}


def _states() -> parts.Panel:
    counts = ", ".join(
        f"count(*) FILTER (WHERE {_STATE} = '{state}') AS \"{name}\"" for state, (name, _) in _STATES.items()
    )
    panel = parts.stat(head("fleet.states"), Size(16, 4), Sql(f"{_SEEN} SELECT {counts} FROM seen"), filled=True)
    for state, (name, colour) in _STATES.items():
        steps: list[dict[str, object]] = [{"value": None, "color": parts.PALE}]
        if state != "fine":
            steps.append({"value": 1, "color": colour})
        panel = panel.override_by_name(name, [parts.set_("thresholds", {"mode": "absolute", "steps": steps})])
    return panel


def _restarts_now() -> parts.Panel:
    query = Sql(f"""SELECT count(*) AS "重启过 restarted" FROM (SELECT t.station FROM message_sequence t
JOIN station s ON s.key = t.station WHERE {parts.IN_REGION} GROUP BY t.station HAVING count(*) > 1) AS again""")
    return parts.stat(head("fleet.restarts_now"), Size(8, 4), query)


def _stations() -> parts.Panel:
    query = Sql(f"""{_SEEN}
SELECT zh AS "name", key AS "station", region AS "region", {_STATE} AS "state",
  to_timestamp(ms / 1000.0) AS "seen", intervals AS "intervals", interval_s AS "interval",
  CASE WHEN online IS NULL THEN 'unknown' WHEN online THEN 'online' ELSE 'offline' END AS "online",
  COALESCE(gateway, '—') AS "gateway"
FROM seen ORDER BY intervals DESC NULLS FIRST, key""")
    return (
        parts.table(head("fleet.stations"), Size(24, 11), query, nothing="还没有站点 · no stations yet")
        .override_by_name(
            "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
        )
        .override_by_name("station", [parts.called("键 key"), parts.to_console(cell("station"))])
        .override_by_name("region", [parts.called("区域 region")])
        .override_by_name("state", [parts.called("状态 state"), *parts.badge(), parts.mapped(parts.words(_STATES))])
        .override_by_name("seen", [parts.called("最新读数 newest"), parts.set_("unit", "dateTimeFromNow")])
        .override_by_name("intervals", [parts.called("间隔数 intervals"), parts.set_("decimals", 1)])
        .override_by_name("interval", [parts.called("间隔 interval"), parts.set_("unit", "s")])
        .override_by_name("online", [parts.called("自报 says"), parts.mapped(parts.words(parts.CONNECTION))])
        .override_by_name("gateway", [parts.called("网关 gateway")])
    )


def _restarts() -> parts.Panel:
    query = Sql(f"""SELECT s.zh AS "name", t.station AS "station", count(*) - 1 AS "restarts",
  sum(t.next_seq) AS "messages"
FROM message_sequence t JOIN station s ON s.key = t.station WHERE {parts.IN_REGION}
GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT 200""")
    return (
        parts.table(head("fleet.restarts"), Size(8, 9), query, nothing="设备不编号 · no device numbers its messages")
        .override_by_name(
            "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
        )
        .override_by_name("station", [parts.set_("custom.hidden", True)])
        .override_by_name("restarts", [parts.called("重启 restarts")])
        .override_by_name("messages", [parts.called("消息 messages")])
    )


def _events() -> parts.Panel:
    query = Sql(f"""SELECT to_timestamp(e.received_at_ms / 1000.0) AS "at", COALESCE(s.zh, e.station) AS "name",
  e.station AS "station", e.body AS "body"
FROM device_event e LEFT JOIN station s ON s.key = e.station
WHERE e.received_at_ms BETWEEN $__from AND $__to AND (s.key IS NULL OR {parts.IN_REGION})
ORDER BY e.id DESC LIMIT 200""")
    return (
        parts.table(head("fleet.events"), Size(16, 9), query, nothing="时间范围内没有 · none in the window")
        .override_by_name("at", [parts.called("时间 at"), parts.set_("unit", "dateTimeAsLocal")])
        .override_by_name(
            "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
        )
        .override_by_name("station", [parts.set_("custom.hidden", True)])
        .override_by_name("body", [parts.called("内容 body")])
    )


def _deployments() -> parts.Panel:
    query = Sql(f"""SELECT DISTINCT ON (d.station, d.parameter)
  s.zh AS "name", d.station AS "station", d.parameter AS "parameter",
  to_timestamp(d.since_ms / 1000.0) AS "since", d.unit AS "unit", d.gain AS "gain", d."offset" AS "offset"
FROM deployment d JOIN station s ON s.key = d.station WHERE {parts.IN_REGION} AND d.since_ms <= $__to
ORDER BY d.station, d.parameter, d.since_ms DESC""")
    panel = (
        parts.table(
            head("fleet.deployments"), Size(24, 7), query, nothing="均为目录单位 · all report in the catalogue's units"
        )
        .override_by_name(
            "name", [parts.called("站点 station"), parts.to_dashboard("rc-station", "station", cell("station"))]
        )
        .override_by_name("station", [parts.set_("custom.hidden", True)])
        .override_by_name("since", [parts.called("起于 since"), parts.set_("unit", "dateTimeAsLocal")])
    )
    for column, name in (
        ("parameter", "参数 parameter"),
        ("unit", "单位 unit"),
        ("gain", "斜率 gain"),
        ("offset", "截距 offset"),
    ):
        panel = panel.override_by_name(column, [parts.called(name)])
    return panel


def board() -> Board:
    return Board(
        uid=UID,
        head=head("fleet.board"),
        variables=(parts.region(),),
        panels=(_states(), _restarts_now(), _stations(), _restarts(), _events(), _deployments()),
    )
