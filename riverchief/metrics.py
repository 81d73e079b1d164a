"""Prometheus metrics (docs/operations/monitoring.md): the figures of ``metrics.toml``, gathered when asked.

What happens a thousand times a second is counted where it happens, a batch at a time; what stands in the database is
asked for when Prometheus asks, and the costly part of it at most once a minute.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import sqlalchemy as sa
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from governance.incidents.finding import FindingKind
from governance.incidents.model import EventType
from governance.notify import outbox
from governance.notify import store as notice_store
from governance.notify.outbox import Attempt, Status
from governance.platforms.callbacks import CallbackOutcome
from infra import toml_text
from infra.database import Database
from infra.errors import StorageUnavailable
from infra.times import beijing_day, to_ms
from ingest import quarantine, quarantine_limits
from ingest.analysis.downsample import Downsampler
from ingest.forward import Forwarder
from ingest.intake import Intake
from ingest.pipeline import Outcome
from ingest.republish import Republisher
from ingest.site_state import SiteState
from ingest.sources import sl651
from ingest.sources.hj212 import Gateway
from ingest.sources.mqtt import MqttSource
from ingest.storage import downsampling
from ingest.storage.spool import Waiting
from ingest.storage.tables import sequence_gap as gap_table
from riverchief.heartbeat import Heartbeat
from riverchief.http_limits import Closed
from riverchief.service import Service, health
from sensors import reporting
from sensors.reading import Floats, Message, Reason
from sensors.wire.telemetry import sending_times

if TYPE_CHECKING:
    from api.sta.notifications import Notifier

log = structlog.get_logger(__name__)

PREFIX = "riverchief_"
STORED_COUNTS_S = 60.0
"""How long counts that need a table scan are cached."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric: name without prefix and without the ``_total`` of counters, and description."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as queries write it."""
        return PREFIX + self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


FIGURES: Mapping[str, Figure] = {
    name: Figure(name, row["kind"], row["help"], tuple(row.get("labels", ())))
    for name, row in toml_text.shipped("riverchief", "metrics.toml").items()
}


# -- counted where it happens ------------------------------------------------------------------------------------------

SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
"""0.25 and 1 s are boundaries: the aim and the promise from publish to a delivered incident."""


class Histogram:
    """Counts by bucket; ``bounds`` are inclusive upper limits, ascending. May be used by several threads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.asarray(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, values: Sequence[float] | Floats) -> None:
        """Count values; one below 0, as a clock that runs ahead makes, counts as 0."""
        if not len(values):
            return
        held = np.maximum(np.asarray(values, np.float64), 0.0)
        places = np.searchsorted(self._bounds, held, side="left")
        more = np.bincount(places, minlength=len(self._counts))
        with self._lock:
            self._counts += more
            self._sum += float(held.sum())

    def sample(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper limit as Prometheus has them, and the sum."""
        with self._lock:
            counts, total = np.cumsum(self._counts).tolist(), self._sum
        limits = [*(f"{bound:g}" for bound in self._bounds.tolist()), "+Inf"]
        return list(zip(limits, counts, strict=True)), total


@dataclass(slots=True)
class EventCounters:
    """Counters of events. ``batch`` watches the intake, ``delivery`` the deliverer."""

    clock_ms: Callable[[], int]
    batch_messages: Histogram = field(default_factory=lambda: Histogram(SIZES))
    stages: dict[str, Histogram] = field(default_factory=dict)
    received_to_stored: Histogram = field(default_factory=lambda: Histogram(LATENCY_S))
    sent_to_stored: Histogram = field(default_factory=lambda: Histogram(LATENCY_S))
    decided_to_delivered: Histogram = field(default_factory=lambda: Histogram(LATENCY_S))
    observed_to_delivered: Histogram = field(default_factory=lambda: Histogram(LATENCY_S))
    quarantined: dict[str, int] = field(default_factory=lambda: {reason.key: 0 for reason in Reason})
    deliveries: dict[str, int] = field(default_factory=lambda: {"delivered": 0, "refused": 0, "retry": 0})
    callbacks: dict[str, int] = field(default_factory=lambda: {result.value: 0 for result in CallbackOutcome})

    sensorthings: dict[str, int] = field(default_factory=lambda: {"answered": 0, "refused": 0})

    connections_closed: dict[str, int] = field(default_factory=lambda: {why.value: 0 for why in Closed})

    def batch(self, messages: Sequence[Message], outcome: Outcome) -> None:
        """A batch was stored and acknowledged just now."""
        now_ms = self.clock_ms()
        self.batch_messages.observe([len(messages)])
        for stage, seconds in outcome.seconds.items():
            if stage not in self.stages:
                self.stages[stage] = Histogram(STAGE_S)
            self.stages[stage].observe([seconds])
        self.received_to_stored.observe(
            [(now_ms - m.received_at_ms) / 1000 for m in messages if m.replay_of is None and not m.queued]
        )
        sent = [at for at in sending_times(outcome.headers) if at is not None]
        self.sent_to_stored.observe((now_ms - np.array(sent, np.float64)) / 1000)
        for rejected in outcome.rejected:
            self.quarantined[rejected.reason.key] += 1

    def called_back(self, result: CallbackOutcome) -> None:
        """A platform called back."""
        self.callbacks[result.value] += 1

    def connection_closed(self, why: Closed) -> None:
        """A limit closed a connection to the API."""
        self.connections_closed[why] += 1

    def sensorthings_request(self, outcome: str) -> None:
        """A request of a SensorThings client was answered or refused."""
        self.sensorthings[outcome] += 1

    def delivery(self, attempt: Attempt) -> None:
        """An attempt at a delivery has been settled."""
        if attempt.status is not Status.DELIVERED:
            self.deliveries["refused" if attempt.status is Status.REFUSED else "retry"] += 1
            return
        self.deliveries["delivered"] += 1
        self.decided_to_delivered.observe([(attempt.ended_ms - attempt.delivery.created_at_ms) / 1000])
        data = attempt.data
        if (
            attempt.delivery.type == EventType.OPENED
            and not data["retrospective"]
            and data["kind"] != FindingKind.NO_DATA
        ):
            observed_ms = to_ms(datetime.fromisoformat(data["observed_at"]))
            self.observed_to_delivered.observe([(attempt.ended_ms - observed_ms) / 1000])


# -- gathered when asked -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MetricSources:
    """Sources of the metrics.

    ``spool`` and ``downsampling`` say whether this process feeds a time-series server, whose queues stand in the
    database.
    """

    database: Database
    watch: EventCounters
    clock_ms: Callable[[], int]
    services: Sequence[Service] = ()
    spool: Callable[[], Waiting] | None = None
    downsampling: bool = False


def exposition(running: MetricSources) -> Callable[[], bytes]:
    """The function behind ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(running))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return lambda: generate_latest(registry)


class MetricsCollector(Collector):
    """Collects all :data:`FIGURES` of this process."""

    def __init__(self, running: MetricSources) -> None:
        self._running = running
        self._stored_counts: _StoredCounts | None = None
        self._read_at = -STORED_COUNTS_S
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing: metrics are read when scraped, not when the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        running, now_ms = self._running, self._running.clock_ms()
        yield InfoMetricFamily(PREFIX + "build", FIGURES["build"].help, {"version": version("riverchief")})
        for service in running.services:
            yield from service.metrics(now_ms)
        yield from _deliveries(running.watch)
        yield metric_by_label("part_ok", {part.name: float(part.ok) for part in health(running.services, now_ms)})
        try:
            yield from self._database()
            yield metric("database_ok", 1)
        except StorageUnavailable as error:
            log.warning("the figures of the database are left out", error=str(error))
            yield metric("database_ok", 0)

    def _database(self) -> list[Metric]:
        running, now_ms = self._running, self._running.clock_ms()
        with running.database.read() as connection:
            pending = outbox.pending_counts(connection)
            notices = notice_store.queue_counts(connection)
        slow = self._stored_figures(now_ms)
        found: list[Metric] = [
            metric("outbox_pending", pending.pending),
            metric("outbox_refused", pending.refused),
            metric("outbox_oldest_age_seconds", _age_s(pending.oldest_pending_at_ms, now_ms)),
            metric("notices_waiting", notices.waiting),
            metric("notices_dead", notices.dead),
            metric("notices_overdue_seconds", _age_s(notices.oldest_due_at_ms, now_ms)),
            metric("notices_unconfirmed", notices.unconfirmed),
            metric_by_label("quarantine_entries", {reason.key: slow.held.get(reason.key, 0) for reason in Reason}),
            metric("quarantine_bytes", slow.quarantine_bytes),
            metric_by_label("quarantine_discarded", {r.key: slow.discarded.get(r.key, 0) for r in Reason}),
            metric("ledger_gaps", slow.gaps),
            metric("ledger_missing_messages", slow.missing),
            metric("database_bytes", slow.bytes),
        ]
        if running.spool is not None:
            waiting = running.spool()
            found += [
                metric("spool_bytes", waiting.bytes),
                metric("spool_entries", waiting.entries),
                metric("spool_oldest_age_seconds", _age_s(waiting.oldest_ms, now_ms)),
            ]
        if running.downsampling:
            with running.database.read() as connection:
                days = downsampling.waiting(connection, now_ms)
            found += [
                metric("downsampling_waiting", days.days),
                metric("downsampling_late_seconds", _age_s(days.due_since_ms, now_ms)),
            ]
        return found

    def _stored_figures(self, now_ms: int) -> "_StoredCounts":
        with self._lock:
            if self._stored_counts is None or time.monotonic() - self._read_at >= STORED_COUNTS_S:
                self._stored_counts = _read_stored_counts(self._running.database, beijing_day(now_ms).isoformat())
                self._read_at = time.monotonic()
            return self._stored_counts


@dataclass(frozen=True, slots=True)
class _StoredCounts:
    held: Mapping[str, int]
    discarded: Mapping[str, int]
    quarantine_bytes: int
    gaps: int
    missing: int
    bytes: int


def _read_stored_counts(database: Database, day: str) -> _StoredCounts:
    g = gap_table.c
    holes = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(g.last_seq - g.first_seq + 1), 0))
    with database.read() as connection:
        held = quarantine.counts(connection)
        gaps, missing = connection.execute(holes.where(g.day == day)).one()
        discarded = Counter[str]()
        for one in quarantine_limits.discarded_since(connection):
            discarded[one.reason] += one.messages
        used = quarantine_limits.total_bytes(connection)
        return _StoredCounts(held, discarded, used, int(gaps), int(missing), database_bytes(database, connection))


def database_bytes(database: Database, connection: sa.Connection) -> int:
    """Size of the database: the files of SQLite with its log, or as PostgreSQL reports it."""
    if not database.is_sqlite:
        return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())
    file = database.url.database
    if not file or file == ":memory:":
        return 0
    return sum(path.stat().st_size for path in (Path(file), Path(f"{file}-wal")) if path.exists())


# -- of one service each, for `riverchief.services` --------------------------------------------------------------------


def ingest(intake: Intake, watch: EventCounters, now_ms: int) -> Iterator[Metric]:
    """Metrics of the intake and of its stations."""
    c = intake.counters
    yield metric("batches", c.batches)
    yield metric("messages", c.messages)
    yield metric("readings_stored", c.stored)
    yield metric("readings_duplicate", c.duplicate)
    yield metric("rejected", c.quarantined)
    yield metric_by_label("quarantined", watch.quarantined)
    yield metric("incidents_opened", c.opened)
    yield metric("store_retries", c.retries)
    yield metric_by_label("stage_seconds", dict(c.seconds))
    yield metric("late_messages_waiting", intake.site.late_waiting)
    yield metric("backlog", intake.backlog)
    yield metric_by_label("queued_messages", {lane.name: lane.messages for lane in intake.lanes})
    yield metric_by_label("queued_bytes", {lane.name: lane.bytes for lane in intake.lanes})
    yield metric_by_label("lag_seconds", {lane.name: _age_s(lane.behind_since_ms, now_ms) for lane in intake.lanes})
    behind = intake.estimate(now_ms)
    yield metric("behind_messages", behind.messages)
    yield metric("catch_up_seconds", math.inf if behind.seconds is None else behind.seconds)
    yield metric("last_batch_timestamp_seconds", c.last_batch_ms / 1e3)
    yield metric("last_silence_check_timestamp_seconds", c.last_tick_ms / 1e3)
    yield _histogram("batch_messages", {"": watch.batch_messages})
    yield _histogram("batch_stage_seconds", dict(watch.stages))
    yield _histogram("received_to_stored_seconds", {"": watch.received_to_stored})
    yield _histogram("sent_to_stored_seconds", {"": watch.sent_to_stored})
    yield from _stations(intake, now_ms)


def _stations(intake: Intake, now_ms: int) -> Iterator[Metric]:
    if not isinstance(intake.site, SiteState):  # a bridge knows no readings
        return
    yield metric("flooding_devices", len(intake.site.rates.flooding))
    yield metric("discarding_devices", len(intake.site.discards.current))
    history = intake.site.history
    stations, last_seen = history.registry.stations, history.last_seen
    if len(stations) != len(last_seen):  # a station is being taken up at this moment
        return
    interval_s = np.fromiter((s.interval_s for s in stations), np.int64, len(stations))
    retired = np.fromiter((s.key in history.registry.retired for s in stations), np.bool_, len(stations))
    counted = reporting.count(last_seen, interval_s, retired, now_ms)
    yield metric_by_label("stations", {state.value: n for state, n in counted.items()})


def broker(source: MqttSource, now_ms: int) -> Iterator[Metric]:
    yield metric("mqtt_connected", float(source.connected_since_ms is not None))
    yield metric("mqtt_messages", source.received)
    yield metric("mqtt_unacknowledged", source.unacknowledged)
    yield metric("mqtt_unacknowledged_peak", source.unacknowledged_peak)
    yield metric("mqtt_window", source.window)


def gateway(source: Gateway, now_ms: int) -> Iterator[Metric]:
    c = source.counters
    yield metric("hj212_connections", source.connections)
    yield metric("hj212_frames", c.frames)
    yield metric("hj212_invalid_frames", c.broken)
    yield metric_by_label("hj212_answers", {"accepted": c.answered, "refused": c.refused})
    yield metric("hj212_requests", c.asked)
    yield metric_by_label("hj212_rejected_connections", {"full": c.turned_away, "dropped": c.dropped})
    yield metric_by_label("hj212_dropped_frames", {"locked": c.locked, "daily_bound": c.left_out})


def sl651_gateway(source: sl651.Gateway, now_ms: int) -> Iterator[Metric]:
    c = source.counters
    yield metric("sl651_connections", source.connections)
    yield metric("sl651_frames", c.frames)
    yield metric("sl651_invalid_frames", c.broken)
    yield metric_by_label("sl651_answers", {"confirmed": c.confirmed, "unanswered": c.unanswered})
    yield metric_by_label("sl651_requests", {"query": c.asked, "packet": c.asked_again})
    yield metric_by_label("sl651_rejected_connections", {"full": c.turned_away, "dropped": c.dropped})
    yield metric_by_label("sl651_dropped_frames", {"locked": c.locked, "daily_bound": c.left_out})


def republishing(republisher: Republisher, now_ms: int) -> Iterator[Metric]:
    yield metric("republished_messages", republisher.published)
    yield metric("republish_waiting", republisher.waiting)
    works = republisher.connected_since_ms is not None and not republisher.last_error
    yield metric("republish_connected", float(works))


def notifying(notifier: "Notifier", now_ms: int) -> Iterator[Metric]:
    """Publishing observations for SensorThings clients."""
    yield metric_by_label("sensorthings_observations", {"published": notifier.published, "left_out": notifier.left_out})


def forwarding(forwarder: Forwarder, now_ms: int) -> Iterator[Metric]:
    state = forwarder.state
    yield metric("forward_ok", float(not state.error))
    yield metric("forward_rows", state.sent_rows)
    yield metric("forward_refused_lines", state.refused_lines)


def downsampling_points(downsampler: Downsampler, now_ms: int) -> Iterator[Metric]:
    state = downsampler.state
    yield metric("downsampling_ok", float(not state.error))
    yield metric("downsampling_points", state.sent_rows)
    yield metric("downsampling_refused_points", state.refused_lines)


def heartbeat(signal: Heartbeat, now_ms: int) -> Iterator[Metric]:
    yield metric("heartbeat_ok", float(signal.ok))
    yield metric("heartbeat_timestamp_seconds", (signal.last_ok_ms or 0) / 1e3)


def _deliveries(watch: EventCounters) -> Iterator[Metric]:
    yield metric_by_label("deliveries", dict(watch.deliveries))
    yield metric_by_label("callbacks", dict(watch.callbacks))
    yield metric_by_label("sensorthings_requests", dict(watch.sensorthings))
    yield metric_by_label("http_closed_connections", dict(watch.connections_closed))
    yield _histogram("decided_to_delivered_seconds", {"": watch.decided_to_delivered})
    yield _histogram("observed_to_delivered_seconds", {"": watch.observed_to_delivered})


# -- how a figure is written -------------------------------------------------------------------------------------------


def metric(name: str, value: float) -> Metric:
    """A metric without labels."""
    family = _family(FIGURES[name])
    family.add_metric([], value)
    return family


def metric_by_label(name: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label, whose values are the keys."""
    family = _family(FIGURES[name])
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _family(figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    made = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return made(PREFIX + figure.name, figure.help, labels=figure.labels)


def _histogram(name: str, found: Mapping[str, Histogram]) -> Metric:
    figure = FIGURES[name]
    family = HistogramMetricFamily(PREFIX + name, figure.help, labels=figure.labels)
    for label, histogram in found.items():
        buckets, total = histogram.sample()
        family.add_metric([label] if figure.labels else [], buckets, total)
    return family


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1e3
