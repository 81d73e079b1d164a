"""``rc-platform`` 平台: ingest, storage, checks, deliveries, and the monitoring itself.

Every panel says in its description what to do when it looks wrong. The metric names are those of ``/metrics``; a test
asks the running exposition for each of them. Silence is made to look alarming: where a signal is missing the panel
shows the word for it on violet, never an old figure and never a calm zero.
"""

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.models.dashboard import DashboardRangeMapOptions, RangeMap, ValueMapping, ValueMappingResult

from dashboards import parts
from dashboards.parts import Board, Head, Influx, Panel, Prom, Size, Sql, head
from ingest.storage import schema

UID: Final = "rc-platform"

PROMISE_MS: Final = 250
"""From the commit of an incident to its delivery: the benchmark's 99th percentile."""

_HERE: Final = '{instance=~"$instance"}'
_SILENT_S: Final = 1e9
"""An age nobody can reach: stands for a signal that is not there."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of metrics: the name of its head, its unit, and (expression, legend) pairs."""

    head: str
    unit: str
    lines: tuple[tuple[str, str], ...]


CHARTS: Final = (
    Chart(
        "platform.arriving",
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
        "platform.backlog",
        "short",
        (
            (f"sum(riverchief_backlog{_HERE})", "消息 messages"),
            (f"max(riverchief_outbox_pending{_HERE})", "待投递 deliveries"),
            (f"max(riverchief_outbox_refused{_HERE})", "死信 dead letters"),
        ),
    ),
    Chart(
        "platform.stages",
        "s",
        ((f"sum by (stage) (rate(riverchief_stage_seconds_total{_HERE}[$__rate_interval]))", "{{stage}}"),),
    ),
    Chart(
        "platform.stored",
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
        "platform.watcher",
        "s",
        (
            (f"time() - max(riverchief_last_silence_check_timestamp_seconds{_HERE} > 0)", "检查 check"),
            (f"time() - max(riverchief_last_batch_timestamp_seconds{_HERE} > 0)", "入库 batch"),
        ),
    ),
)


def _alive() -> Panel:
    query = Prom(
        f"(time() - max(riverchief_last_silence_check_timestamp_seconds{_HERE})) or vector({_SILENT_S:.0f})",
        "自检 check",
        instant=True,
    )
    return _deadman(head("platform.alive"), query, alarming_s=30)


def _batch() -> Panel:
    query = Prom(
        f"(time() - max(riverchief_last_batch_timestamp_seconds{_HERE})) or vector({_SILENT_S:.0f})",
        "入库 batch",
        instant=True,
    )
    return _deadman(head("platform.batch"), query, alarming_s=600)


def _broker() -> Panel:
    query = Prom(f"max(riverchief_mqtt_connected{_HERE}) or vector(-1)", "代理 broker", instant=True)
    state_styles = {
        "1": ("已连接 connected", parts.PALE),
        "0": ("断开 cut", parts.VIOLET),
        "-1": ("失联 no signal", parts.VIOLET),
    }
    return parts.stat(
        head("platform.broker"), Size(4, 4), query, unit="none", nothing="失联 · no signal", filled=True
    ).mappings(parts.words(state_styles, nothing="失联 no signal"))


def _database() -> Panel:
    query = Sql(f"""SELECT COALESCE(EXTRACT(EPOCH FROM now()) - max(newest.at) / 1000.0, {_SILENT_S:.0f})
  AS "最新 newest"
FROM station s, LATERAL (SELECT max(r.at) AS at FROM reading r WHERE r.station = s.id) AS newest""")
    return _deadman(head("platform.database"), query, alarming_s=900)


def _influx() -> Panel:
    query = Influx(
        f'SELECT "{schema.STATION}", /{schema.flag("")}$/ FROM "{schema.WATER}" WHERE time > now() - 1h '
        "ORDER BY time DESC LIMIT 1",
        table=True,
    )
    return parts.stat(
        head("platform.influx"),
        Size(4, 4),
        query,
        unit="dateTimeFromNow",
        fields="/^Time$/",
        nothing="停更 · nothing for an hour",
    )


def _heartbeat() -> Panel:
    signal = f"max(riverchief_heartbeat_timestamp_seconds{_HERE} > 0)"
    query = Prom(f"(time() - {signal}) or vector({_SILENT_S:.0f})", "心跳 heartbeat", instant=True)
    return _deadman(head("platform.heartbeat"), query, alarming_s=300, silent="无心跳 none")


def _oldest() -> Panel:
    lines = (
        Prom(f"max(riverchief_outbox_oldest_age_seconds{_HERE})", "待投递 outbox"),
        Prom(f"max(riverchief_spool_oldest_age_seconds{_HERE})", "待转发 spool"),
    )
    return parts.chart(head("platform.oldest"), Size(12, 8), *lines, unit="s")


def _deadman(shown: Head, query: parts.Query, *, alarming_s: float, silent: str = "失联 no signal") -> Panel:
    """An age that turns violet when it grows too old, and says so when it is missing."""
    missing = ValueMappingResult(text=silent, color=parts.VIOLET, index=0)
    mappings: list[ValueMapping] = [
        RangeMap(options=DashboardRangeMapOptions(from_val=_SILENT_S / 10, to=None, result=missing)),
        *parts.words({}, nothing=silent, absent=parts.VIOLET),
    ]
    steps = ((None, parts.PALE), (alarming_s, parts.VIOLET))
    return parts.stat(shown, Size(4, 4), query, unit="s", nothing=silent, steps=steps, filled=True).mappings(mappings)


def _charted(chart: Chart) -> Panel:
    lines = [Prom(expression, legend) for expression, legend in chart.lines]
    return parts.chart(head(chart.head), Size(12, 8), *lines, unit=chart.unit)


def _delivery() -> Panel:
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
    panel = parts.chart(
        head("platform.delivery", promise_ms=PROMISE_MS),
        Size(12, 8),
        query,
        unit="ms",
        nothing="无投递 · nothing delivered",
    )
    return parts.limit_line(panel.axis_soft_min(0).axis_soft_max(2 * PROMISE_MS), PROMISE_MS)


def _budget() -> Panel:
    query = Sql("""SELECT 100.0 * count(*) FILTER (WHERE delivered_at_ms - created_at_ms <= 1000)
    / NULLIF(count(*) FILTER (WHERE status <> 'pending' OR created_at_ms < $__to - 1000), 0) AS "一秒内 within 1 s",
  (SELECT COALESCE(EXTRACT(EPOCH FROM now()) - min(created_at_ms) / 1000.0, 0) FROM outbox WHERE status = 'pending')
    AS "最久 oldest"
FROM outbox WHERE created_at_ms BETWEEN $__from AND $__to""")
    panel = parts.stat(
        head("platform.budget"), Size(12, 8), query, unit="percent", nothing="无投递 · nothing delivered"
    ).decimals(2)
    return panel.override_by_name("最久 oldest", [parts.set_("unit", "s"), parts.set_("decimals", 0)])


def board() -> Board:
    return Board(
        uid=UID,
        head=head("platform.board"),
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
