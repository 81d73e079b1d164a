"""``rc-platform`` 平台: ingest, storage, checks, deliveries, and the monitoring itself.

Every panel says in its description what to do when it looks wrong. The metric names are those of ``/metrics``; a test
asks the running exposition for each of them. Silence is made to look alarming: where a signal is missing the panel
shows the word for it on violet, never an old figure and never a calm zero.
"""

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.models.dashboard import DashboardRangeMapOptions, RangeMap, ValueMapping, ValueMappingResult

from dashboards import parts
from dashboards.parts import Board, Head, Influx, Panel, Prom, Size, Sql
from ingest.storage import schema

UID: Final = "rc-platform"

PROMISE_MS: Final = 250
"""From the commit of an incident to its delivery: the benchmark's 99th percentile."""

_HERE: Final = '{instance=~"$instance"}'
_SILENT_S: Final = 1e9
"""An age nobody can reach: stands for a signal that is not there."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of metrics: titles in both languages, what to do about it, its unit, and (expression, legend) pairs."""

    title: str
    zh: str
    en: str
    unit: str
    lines: tuple[tuple[str, str], ...]


CHARTS: Final = (
    Chart(
        "到达与入库 · Arriving and storing",
        "消息到达而读数不入库：看 store_retries 与日志。",
        "Messages without stored readings: look at retries and the log.",
        "ops",
        (
            (f"sum(rate(riverchief_mqtt_messages_total{_HERE}[$__rate_interval]))", "消息 messages"),
            (f"sum(rate(riverchief_readings_stored_total{_HERE}[$__rate_interval]))", "入库 stored"),
            (f"sum(rate(riverchief_readings_duplicate_total{_HERE}[$__rate_interval]))", "重复 duplicate"),
            (f"sum(rate(riverchief_rejected_total{_HERE}[$__rate_interval]))", "隔离 quarantined"),
            (f"sum(rate(riverchief_store_retries_total{_HERE}[$__rate_interval]))", "重试 retries"),
        ),
    ),
    Chart(
        "积压 · Backlog",
        "持续增长表示接入跟不上。",
        "Growing without end: the ingest does not keep up.",
        "short",
        (
            (f"sum(riverchief_backlog{_HERE})", "消息 messages"),
            (f"max(riverchief_outbox_pending{_HERE})", "待投递 deliveries"),
            (f"max(riverchief_outbox_refused{_HERE})", "死信 dead letters"),
        ),
    ),
    Chart(
        "各阶段耗时 · Time in each stage",
        "每秒处理时间；合计接近 1 即一核已满。store 一项变大：磁盘或数据库慢。",
        "Seconds a second; a sum near 1 is one core full; a growing store is a slow disk or database.",
        "s",
        ((f"sum by (stage) (rate(riverchief_stage_seconds_total{_HERE}[$__rate_interval]))", "{{stage}}"),),
    ),
    Chart(
        "收到到入库 · From receipt to commit",
        "从收到消息到入库并确认的用时：设备得到确认即已落盘。变长：先看各阶段耗时，再看磁盘。",
        "From receiving a message to its commit and acknowledgement; when it grows, look at the stages, then at "
        "the disk.",
        "s",
        tuple(
            (
                f"histogram_quantile({share}, sum by (le) "
                f"(rate(riverchief_received_to_stored_seconds_bucket{_HERE}[$__rate_interval])))",
                name,
            )
            for share, name in ((0.5, "一半 p50"), (0.99, "p99"))
        ),
    ),
    Chart(
        "值守自检 · Is the watcher alive",
        "距上次无数据检查与上次入库的秒数；检查超过 30 秒即停摆。",
        "Seconds since silence was last checked and a batch last stored; a check older than 30 means nobody watches.",
        "s",
        (
            (f"time() - max(riverchief_last_silence_check_timestamp_seconds{_HERE} > 0)", "检查 check"),
            (f"time() - max(riverchief_last_batch_timestamp_seconds{_HERE} > 0)", "入库 batch"),
        ),
    ),
)


def _alive() -> Panel:
    head = Head(
        "值守 · The watcher",
        "接入进程距上次自检的秒数。“失联”表示没有任何信号：进程、网络或 Prometheus 停了，水情无人值守。先"
        "看进程是否在运行。",
        "Seconds since ingest last checked itself. No signal at all means that nobody watches the water: "
        "see first whether the process runs.",
    )
    query = Prom(
        f"(time() - max(riverchief_last_silence_check_timestamp_seconds{_HERE})) or vector({_SILENT_S:.0f})",
        "自检 check",
        instant=True,
    )
    return _deadman(head, query, alarming_s=30)


def _batch() -> Panel:
    head = Head(
        "最近入库 · Last batch",
        "距上次入库的秒数；超过 10 分钟仍无新数据，查代理与网络。",
        "Seconds since a batch was stored; beyond ten minutes look at broker and network.",
    )
    query = Prom(
        f"(time() - max(riverchief_last_batch_timestamp_seconds{_HERE})) or vector({_SILENT_S:.0f})",
        "入库 batch",
        instant=True,
    )
    return _deadman(head, query, alarming_s=600)


def _broker() -> Panel:
    head = Head(
        "消息代理 · Broker",
        "接入与消息代理的连接；断开时设备自己排队，读数不丢。",
        "Whether ingest is connected; while it is not, devices queue and nothing is lost.",
    )
    query = Prom(f"max(riverchief_mqtt_connected{_HERE}) or vector(-1)", "代理 broker", instant=True)
    state_styles = {
        "1": ("已连接 connected", parts.PALE),
        "0": ("断开 cut", parts.VIOLET),
        "-1": ("失联 no signal", parts.VIOLET),
    }
    return parts.stat(head, Size(4, 4), query, unit="none", nothing="失联 · no signal", filled=True).mappings(
        parts.words(state_styles, nothing="失联 no signal")
    )


def _database() -> Panel:
    head = Head(
        "最新读数（数据库）· Newest reading stored",
        "数据库中最新一条观测距今。与“值守”相互印证：两者来自不同的服务。",
        "Age of the newest observation in the database; a second witness, from another server.",
    )
    query = Sql(f"""SELECT COALESCE(EXTRACT(EPOCH FROM now()) - max(newest.at) / 1000.0, {_SILENT_S:.0f})
  AS "最新 newest"
FROM station s, LATERAL (SELECT max(r.at) AS at FROM reading r WHERE r.station = s.id) AS newest""")
    return _deadman(head, query, alarming_s=900)


def _influx() -> Panel:
    head = Head(
        "最新读数（时序库）· Newest reading charted",
        "时序库中最新一条观测的时间；空白表示一小时内没有，图表已停更。",
        "Time of the newest observation in the time-series server; none within the hour means the charts stand still.",
    )
    query = Influx(
        f'SELECT "{schema.STATION}", /{schema.flag("")}$/ FROM "{schema.WATER}" WHERE time > now() - 1h '
        "ORDER BY time DESC LIMIT 1",
        table=True,
    )
    return parts.stat(
        head, Size(4, 4), query, unit="dateTimeFromNow", fields="/^Time$/", nothing="停更 · nothing for an hour"
    )


def _heartbeat() -> Panel:
    head = Head(
        "对外心跳 · Dead-man signal",
        "最近一次心跳送达外部平台距今。“无心跳”：未设置 watch.heartbeat_url 或外部平台收不到，本机停摆时无人知道。",
        "Since the signal last reached the outside platform. None: watch.heartbeat_url is not set or does not "
        "get through, and nobody would know if this machine stopped.",
    )
    signal = f"max(riverchief_heartbeat_timestamp_seconds{_HERE} > 0)"
    query = Prom(f"(time() - {signal}) or vector({_SILENT_S:.0f})", "心跳 heartbeat", instant=True)
    return _deadman(head, query, alarming_s=300, silent="无心跳 none")


def _oldest() -> Panel:
    head = Head(
        "等待最久 · Oldest waiting",
        "最早一条待投递与待转发的等待秒数。待转发增长：时序库不可达，读数仍在数据库中；待投递增长：对方平台不可达。",
        "Age of the oldest delivery and of the oldest entry for the time-series server. Growing means that the "
        "other side is away; nothing is lost.",
    )
    lines = (
        Prom(f"max(riverchief_outbox_oldest_age_seconds{_HERE})", "待投递 outbox"),
        Prom(f"max(riverchief_spool_oldest_age_seconds{_HERE})", "待转发 spool"),
    )
    return parts.chart(head, Size(12, 8), *lines, unit="s")


def _deadman(head: Head, query: parts.Query, *, alarming_s: float, silent: str = "失联 no signal") -> Panel:
    """An age that turns violet when it grows too old, and says so when it is missing."""
    missing = ValueMappingResult(text=silent, color=parts.VIOLET, index=0)
    mappings: list[ValueMapping] = [
        RangeMap(options=DashboardRangeMapOptions(from_val=_SILENT_S / 10, to=None, result=missing)),
        *parts.words({}, nothing=silent, absent=parts.VIOLET),
    ]
    steps = ((None, parts.PALE), (alarming_s, parts.VIOLET))
    return parts.stat(head, Size(4, 4), query, unit="s", nothing=silent, steps=steps, filled=True).mappings(mappings)


def _charted(chart: Chart) -> Panel:
    lines = [Prom(expression, legend) for expression, legend in chart.lines]
    return parts.chart(Head(chart.title, chart.zh, chart.en), Size(12, 8), *lines, unit=chart.unit)


def _delivery() -> Panel:
    head = Head(
        "提交到送达 · From commit to delivery",
        f"事件入库到通知送达的用时，逐时的一半与 99 %；目标 p99 小于 {PROMISE_MS} 毫秒。变慢多因对方平台。",
        f"Hourly median and 99th percentile; the promise is {PROMISE_MS} ms. Slow is mostly the other side.",
    )
    query = Sql(
        """SELECT date_trunc('hour', to_timestamp(o.created_at_ms / 1000.0)) AS "time",
  percentile_cont(0.5) WITHIN GROUP (ORDER BY o.delivered_at_ms - o.created_at_ms) AS "p50",
  percentile_cont(0.99) WITHIN GROUP (ORDER BY o.delivered_at_ms - o.created_at_ms) AS "p99",
  percentile_cont(0.99) WITHIN GROUP (ORDER BY o.delivered_at_ms - i.observed_at_ms) FILTER (
    WHERE o.type = 'river.incident.opened' AND i.kind <> 'no_data' AND NOT i.retrospective)
    AS "观测起 p99 from observation"
FROM outbox o JOIN incident i ON i.id = o.incident_id
WHERE o.delivered_at_ms IS NOT NULL AND o.created_at_ms BETWEEN $__from AND $__to GROUP BY 1 ORDER BY 1""",
        series=True,
    )
    panel = parts.chart(head, Size(12, 8), query, unit="ms", nothing="无投递 · nothing delivered")
    return parts.limit_line(panel.axis_soft_min(0).axis_soft_max(2 * PROMISE_MS), PROMISE_MS)


def _budget() -> Panel:
    head = Head(
        "一秒内送达 · Delivered within a second",
        "时间范围内一秒内送达的比例，目标 99 %；“最久”为仍在等待的最老一条。",
        "Share delivered within a second, to be 99 %; oldest is the one that waits longest now.",
    )
    query = Sql("""SELECT 100.0 * count(*) FILTER (WHERE delivered_at_ms - created_at_ms <= 1000)
    / NULLIF(count(*) FILTER (WHERE status <> 'pending' OR created_at_ms < $__to - 1000), 0) AS "一秒内 within 1 s",
  (SELECT COALESCE(EXTRACT(EPOCH FROM now()) - min(created_at_ms) / 1000.0, 0) FROM outbox WHERE status = 'pending')
    AS "最久 oldest"
FROM outbox WHERE created_at_ms BETWEEN $__from AND $__to""")
    panel = parts.stat(head, Size(12, 8), query, unit="percent", nothing="无投递 · nothing delivered").decimals(2)
    return panel.override_by_name("最久 oldest", [parts.set_("unit", "s"), parts.set_("decimals", 0)])


def board() -> Board:
    return Board(
        uid=UID,
        title="平台 · Platform",
        description=parts.both(
            "采集、入库、检查、投递是否正常，值守是否在岗。",
            "Does the chain work, and is the watcher alive?",
        ),
        variables=(
            parts.data_source(),
            parts.instances("riverchief_last_silence_check_timestamp_seconds"),
        ),
        panels=(
            _alive(),
            _batch(),
            _broker(),
            _database(),
            _influx(),
            _heartbeat(),
            *(_charted(chart) for chart in CHARTS),
            _oldest(),
            _delivery(),
            _budget(),
        ),
    )
