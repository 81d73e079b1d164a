"""What Prometheus reads: gathered from the running parts at the moment it asks."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from governance import outbox
from governance.database import Database
from ingest.intake import Intake
from ingest.sources.mqtt import MqttSource


class _Parts(Collector):
    def __init__(self, database: Database, intake: Intake | None, source: MqttSource | None) -> None:
        self._database = database
        self._intake = intake
        self._source = source

    def collect(self) -> Iterator[Metric]:
        if self._intake is not None:
            yield from _ingest(self._intake)
        if self._source is not None:
            connected = self._source.connected_since_ms is not None
            yield GaugeMetricFamily("riverchief_mqtt_connected", "1 while the broker is connected", value=connected)
            yield CounterMetricFamily("riverchief_mqtt_messages", "messages received", value=self._source.received)
        with self._database.read() as connection:
            pending = outbox.pending_counts(connection)
        yield GaugeMetricFamily("riverchief_outbox_pending", "deliveries waiting", value=pending.pending)
        yield GaugeMetricFamily("riverchief_outbox_refused", "deliveries refused for good", value=pending.refused)


def _ingest(intake: Intake) -> Iterator[Metric]:
    c = intake.counters
    for name, help_, value in (
        ("batches", "micro-batches stored", c.batches),
        ("messages", "messages processed", c.messages),
        ("readings_stored", "readings stored", c.stored),
        ("readings_duplicate", "readings that were there already", c.duplicate),
        ("rejected", "quarantine entries made", c.quarantined),
        ("incidents_opened", "incidents opened", c.opened),
        ("store_retries", "batches the store could not take at first", c.retries),
    ):
        yield CounterMetricFamily(f"riverchief_{name}", help_, value=value)
    stages = CounterMetricFamily("riverchief_stage_seconds", "time spent in each stage", labels=["stage"])
    for stage, seconds in c.seconds.items():
        stages.add_metric([stage], seconds)
    yield stages
    yield GaugeMetricFamily("riverchief_backlog", "messages waiting for a batch", value=intake.backlog)
    yield GaugeMetricFamily(
        "riverchief_last_batch_seconds", "when the last batch was stored", value=c.last_batch_ms / 1e3
    )
    yield GaugeMetricFamily("riverchief_last_tick_seconds", "when silence was last checked", value=c.last_tick_ms / 1e3)


def exposition(database: Database, intake: Intake | None, source: MqttSource | None) -> Callable[[], bytes]:
    """The function behind ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(_Parts(database, intake, source))
    return lambda: generate_latest(registry)
