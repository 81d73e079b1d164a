"""``rc-platform`` 平台: does the chain work — arriving, storing, checking, delivering — and is the watcher alive?

Every panel says in its description what to do when it looks wrong. The metric names are those of ``/metrics``; a test
asks the running exposition for each of them.
"""

import json
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

UID = "rc-platform"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Chart:
    """A panel: titles in both languages, what to do about it, its unit, and (expression, legend) pairs."""

    title: str
    advice: str
    unit: str
    lines: tuple[tuple[str, str], ...]


CHARTS = (
    Chart(
        "到达与入库 · Arriving and storing",
        "消息到达而读数不入库：看 store_retries 与日志。Messages without stored readings: look at retries and the log.",
        "ops",
        (
            ("rate(riverchief_mqtt_messages_total[1m])", "消息 messages"),
            ("rate(riverchief_readings_stored_total[1m])", "入库 stored"),
            ("rate(riverchief_readings_duplicate_total[1m])", "重复 duplicate"),
            ("rate(riverchief_rejected_total[1m])", "隔离 quarantined"),
        ),
    ),
    Chart(
        "积压 · Backlog",
        "持续增长表示接入跟不上。Growing without end: the ingest does not keep up.",
        "short",
        (("riverchief_backlog", "消息 messages"), ("riverchief_outbox_pending", "待投递 deliveries")),
    ),
    Chart(
        "各阶段耗时 · Time in each stage",
        "每秒处理时间；合计接近 1 即一核已满。Seconds a second; a sum near 1 is one core full.",
        "s",
        (("rate(riverchief_stage_seconds_total[1m])", "{{stage}}"),),
    ),
    Chart(
        "值守自检 · Is the watcher alive",
        "距上次无数据检查的秒数；超过 30 即停摆。Seconds since silence was last checked; beyond 30 nobody watches.",
        "s",
        (
            ("time() - riverchief_last_tick_seconds", "检查 check"),
            ("time() - riverchief_last_batch_seconds", "入库 batch"),
        ),
    ),
    Chart(
        "代理连接 · Broker",
        "0 表示与消息代理断开。0: the broker is not connected.",
        "short",
        (("riverchief_mqtt_connected", "已连接 connected"),),
    ),
    Chart(
        "事件与死信 · Incidents and dead letters",
        "死信需人工处理后重放。Dead letters wait for somebody to mend the cause and replay them.",
        "short",
        (
            ("increase(riverchief_incidents_opened_total[1h])", "每小时新事件 opened an hour"),
            ("riverchief_outbox_refused", "死信 dead letters"),
        ),
    ),
)


def build() -> str:
    """The dashboard as JSON, ready to provision."""
    board = (
        dashboard.Dashboard("平台 · Platform")
        .uid(UID)
        .tags(["riverchief"])
        .description("采集、入库、检查、投递是否正常。Does the chain work, and is the watcher alive?")
        .timezone("Asia/Shanghai")
        .refresh("1m")
        .time("now-24h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("数据源 data source").type("prometheus"))
    )
    for chart in CHARTS:
        board = board.with_panel(_panel(chart))
    return json.dumps(board.build(), cls=JSONEncoder, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _panel(chart: Chart) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(chart.title)
        .description(chart.advice)
        .unit(chart.unit)
        .datasource(_SOURCE)
        .no_value("—")
        .span_nulls(False)
        .height(8)
        .span(12)
    )
    for number, (expression, legend) in enumerate(chart.lines):
        target = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        panel = panel.with_target(target)
    return panel
