"""The services of an ingest: the intake, its sources, what is published again, and the dead-man signal."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Metric

from api.context import Part
from api.duration import duration
from infra import clock
from infra.database import Database
from infra.free_memory import FreeMemory
from infra.texts import both, say
from ingest import batch_log
from ingest.intake import Bounds, Destination, Intake, Lane
from ingest.pipeline import Site
from ingest.quarantine_limits import Limits
from ingest.republish import Republisher
from ingest.rules.device_faults import DeviceFaults
from ingest.rules.device_rate import RateMonitor
from ingest.site_state import WHOLE, SiteState
from ingest.site_state import Part as SitePart
from ingest.sources import sl651
from ingest.sources.commands import MqttCommands
from ingest.sources.hj212 import Gateway
from ingest.sources.mqtt import MqttSource
from riverchief import metrics
from riverchief.heartbeat import Heartbeat
from riverchief.resources import Resources
from riverchief.service import SILENT_AFTER_S, Service
from riverchief.site_files import SiteFiles
from riverchief.sources import gateway_settings, sl651_settings
from riverchief.stores import Stores

if TYPE_CHECKING:
    from api.sta.notifications import Notifier

log = structlog.get_logger(__name__)

MAX_BEHIND_S = 60
"""An ingest that is behind for longer and does not catch up is not well; a burst or a start is worked off in less."""
NAMED = 5
"""Devices that are named as sending too much."""
HEARTBEAT_GRACE_S = 5


class Ingest:
    """The intake and its sources; a source that the settings switch off is None.

    Parameters
    ----------
    destination : the site whose pipeline takes the messages, or the bridge of a cluster.
    """

    def __init__(self, resources: Resources, destination: Destination) -> None:
        settings = resources.settings
        self._counters = resources.counters
        self._started_ms = clock.now_ms()
        self.intake = Intake(
            destination,
            clock_ms=clock.now_ms,
            connected_since=self.connected_since_ms,
            most=settings.ingest.batch_messages,
            linger_s=settings.ingest.linger_ms / 1000,
            bounds=Bounds(settings.ingest.hold_messages, settings.ingest.hold_mb * 2**20),
        )
        self.intake.watch(resources.counters.batch)
        self.intake.watch(batch_log.log_batch)
        if resources.tracing:
            self.intake.watch(resources.tracing.batch)
        self.mqtt: MqttSource | None = None
        self.commands: MqttCommands | None = None
        self.gateway: Gateway | None = None
        self.sl651: sl651.Gateway | None = None
        self.republisher: Republisher | None = None
        self.notifier: Notifier | None = None
        if settings.mqtt.enabled:
            self.mqtt = MqttSource(resources.mqtt, self.intake, clock.now_ms, resources.files.mappings.topics)
            self.commands = MqttCommands(resources.mqtt)
        if settings.hj212.enabled:
            self.gateway = Gateway(gateway_settings(settings), self.intake, clock.now_ms)
        if settings.sl651.enabled:
            self.sl651 = sl651.Gateway(sl651_settings(settings), self.intake, clock.now_ms)
        if settings.mqtt.enabled and settings.mqtt.republish:
            self.republisher = Republisher(
                resources.database,
                resources.stores.readings,
                resources.catalogue,
                resources.mqtt,
                clock_ms=clock.now_ms,
            )
            self.intake.watch(self.republisher.on_batch)
        if settings.mqtt.enabled and settings.mqtt.sensorthings:
            self.notifier = _notifier(resources)
            self.intake.watch(self.notifier.on_batch)

    def services(self) -> Iterator[Service]:
        """In the order in which they start: the intake last, for it has to stop before its sources do."""
        memory = FreeMemory()
        yield Service(start=memory.start, stop=memory.stop)
        if self.republisher:
            yield _republishing_service(self.republisher)
        if self.notifier:
            yield _notifying_service(self.notifier)
        if self.commands:
            yield Service(start=self.commands.start, stop=self.commands.stop)
        if self.gateway:
            yield _gateway_service("hj212", self.gateway, partial(metrics.gateway, self.gateway))
        if self.sl651:
            yield _gateway_service("sl651", self.sl651, partial(metrics.sl651_gateway, self.sl651))
        if self.mqtt:
            yield _mqtt_service(self.mqtt)
        yield Service(
            start=self._start_intake,
            stop=self._stop_intake,
            health=self._intake_health,
            metrics=partial(metrics.ingest, self.intake, self._counters),
            threads=lambda: {"ingest": self.intake},
        )

    def take_files(self, read: SiteFiles) -> None:
        """Adopt rules and mappings that were read again."""
        self.intake.site.offer_files(read.rules, read.mappings)
        if self.mqtt:
            self.mqtt.follow(read.mappings.topics)

    def connected_since_ms(self) -> int | None:
        """Since when devices can reach us and we are not behind; None while that is not so.

        What waits with us or with the broker is not the silence of a station. Without a broker a site is connected
        while it listens to loggers and gauges; with HTTP alone, since its start.
        """
        since: int | None = self._started_ms
        if self.mqtt:
            since = self.mqtt.connected_since_ms
        elif gateways := [one for one in (self.gateway, self.sl651) if one]:
            listening = [at_ms for one in gateways if (at_ms := one.listening_since_ms) is not None]
            since = max(listening) if len(listening) == len(gateways) else None
        if since is None or any(lane.behind_since_ms is not None for lane in self.intake.lanes):
            return None
        return max(since, *(lane.caught_up_ms for lane in self.intake.lanes))

    def _start_intake(self) -> None:
        self._started_ms = clock.now_ms()
        self.intake.start()

    def _stop_intake(self) -> None:
        """Take nothing new, finish the batch and acknowledge it; what is not finished is delivered again."""
        for source in (self.mqtt, self.gateway, self.sl651):
            if source:
                source.quiesce()
        if not self.intake.stop():
            log.warning("the last batch did not finish in time; its messages will be delivered again")

    def _intake_health(self, now_ms: int) -> list[Part]:
        c = self.intake.counters
        silent_s = (now_ms - max(c.last_tick_ms, self._started_ms)) / 1000  # one that never began is silent, too
        ok = self.intake.alive and silent_s < SILENT_AFTER_S
        detail = f"{c.messages} messages, backlog {self.intake.backlog}, {c.last_error or 'fine'}"
        text = say("health.ingest", messages=f"{c.messages:,}", backlog=f"{self.intake.backlog:,}")
        since_ms = None if ok else max(c.last_tick_ms, self._started_ms)
        parts = [Part("ingest", ok, detail, text=text, since_ms=since_ms), _pace(self.intake, now_ms)]
        site = self.intake.site
        return [*parts, _device_rates(site.rates), _discards(site.discards)] if isinstance(site, SiteState) else parts


def _notifier(resources: Resources) -> "Notifier":
    from api.sta.notifications import Notifier

    base = f"{(resources.settings.notices.public_url or '').rstrip('/')}/sta"
    return Notifier(resources.stores.readings, resources.mqtt, base)


def make_site(
    resources: Resources, database: Database, stores: Stores, on_findings: Callable[[], None], part: SitePart = WHOLE
) -> Site:
    """The pipeline with its state.

    Parameters
    ----------
    database : what it writes through, which refuses whoever is not the only writer any more
    on_findings : called when a batch has raised findings; must not block
    part : the stations it processes
    """
    settings = resources.settings
    return Site(
        database,
        stores.readings,
        resources.files.rules,
        resources.catalogue,
        source=settings.site.source,
        late_s=settings.ingest.late_after_s,
        on_findings=on_findings,
        spool=stores.spool,
        mappings=resources.files.mappings,
        policy=resources.processes.policy,
        queue_late=True,
        hj212_unverified=settings.hj212.unverified,
        part=part,
        quarantine_limits=Limits.of_mb(settings.ingest.quarantine_device_mb, settings.ingest.quarantine_mb),
    )


def heartbeat_service(heartbeat: Heartbeat) -> Service:
    """The dead-man signal, which stops before all that it watches."""

    def health(now_ms: int) -> list[Part]:
        return [Part("heartbeat", heartbeat.ok, heartbeat.last_error or "calling", False)]

    return Service(
        start=heartbeat.start,
        stop=partial(heartbeat.stop, HEARTBEAT_GRACE_S),
        health=health,
        metrics=partial(metrics.heartbeat, heartbeat),
        threads=lambda: {"heartbeat": heartbeat},
    )


def _mqtt_service(source: MqttSource) -> Service:
    return Service(
        start=source.start,
        stop=source.stop,
        health=lambda now_ms: [Part("mqtt", source.works, source.last_error or "connected")],
        metrics=partial(metrics.broker, source),
        threads=lambda: {"mqtt": source},
    )


def _gateway_service(
    name: str, gateway: Gateway | sl651.Gateway, numbers: Callable[[int], Iterator[Metric]]
) -> Service:
    def health(now_ms: int) -> list[Part]:
        detail = f"{gateway.connections} connections, {gateway.counters.frames} frames"
        text = say(f"health.{name}", connections=gateway.connections, frames=f"{gateway.counters.frames:,}")
        return [Part(name, gateway.alive, detail, text=text)]

    return Service(
        start=gateway.start, stop=gateway.stop, health=health, metrics=numbers, threads=lambda: {name: gateway}
    )


def _republishing_service(republisher: Republisher) -> Service:
    def health(now_ms: int) -> list[Part]:
        since_ms, error = republisher.connected_since_ms, republisher.last_error
        ok = republisher.alive and since_ms is not None and not error
        text = say("health.republish", count=f"{republisher.published:,}") if ok else None
        return [Part("republish", ok, error or f"{republisher.published} published", False, text)]

    return Service(
        start=republisher.start,
        stop=republisher.stop,
        health=health,
        metrics=partial(metrics.republishing, republisher),
        threads=lambda: {"republish": republisher},
    )


def _notifying_service(notifier: "Notifier") -> Service:
    def health(now_ms: int) -> list[Part]:
        ok = notifier.alive and notifier.connected
        detail = f"{notifier.published} published, {notifier.left_out} left out"
        return [Part("sensorthings", ok, detail if ok else "no connection to the broker", False)]

    return Service(
        start=notifier.start,
        stop=notifier.stop,
        health=health,
        metrics=partial(metrics.notifying, notifier),
        threads=lambda: {"sensorthings": notifier},
    )


def _pace(intake: Intake, now_ms: int) -> Part:
    """Whether the ingest keeps up with what is sent, and if not, by how much it is behind."""
    behind = [lane for lane in intake.lanes if lane.behind_since_ms is not None]
    late = f"; {n} late messages wait to be judged" if (n := intake.site.late_waiting) else ""
    if not behind:
        return Part("ingest_lag", True, f"keeps up{late}", False, say("health.keeps_up", late=intake.site.late_waiting))
    detail = "; ".join(_lane_detail(lane, now_ms) for lane in behind)
    sent_ms = intake.counters.last_sent_ms
    if sent_ms is not None:
        detail += f"; storing what was sent {max(0, now_ms - sent_ms) / 1000:.0f} s ago"
    long = any(now_ms - (lane.behind_since_ms or now_ms) > MAX_BEHIND_S * 1000 for lane in behind)
    since_ms = min(lane.behind_since_ms or now_ms for lane in behind)
    estimate = intake.estimate(now_ms)
    words = {"span": duration(now_ms - since_ms), "messages": f"{estimate.messages:,}"}
    if estimate.seconds is None:
        text = say("health.behind_more", **words)
    else:
        text = say("health.behind", **words, left=duration(round(estimate.seconds * 1000)))
    return Part("ingest_lag", estimate.catching_up or not long, f"{both(text)}; {detail}{late}", False, text, since_ms)


def _device_rates(rates: RateMonitor) -> Part:
    """Which devices send too much: a fault of theirs, so that the part works."""
    worst = sorted(rates.flooding.items(), key=lambda one: -one[1].messages)[:NAMED]
    if not worst:
        return Part("device_rates", True, "fine", False, say("health.rates"))
    named = ", ".join(f"{station} ({one.messages:,})" for station, one in worst)
    text = say("health.flooding", count=len(rates.flooding), stations=named)
    return Part("device_rates", True, both(text), False, text)


def _discards(discards: DeviceFaults) -> Part:
    """Which devices send more that cannot be used than the quarantine keeps: a fault of theirs, too."""
    worst = sorted(discards.current.items(), key=lambda one: -one[1].messages)[:NAMED]
    if not worst:
        return Part("quarantine", True, "fine", False, say("health.discards_none"))
    named = ", ".join(f"{device} ({one.messages:,})" for device, one in worst)
    text = say("health.discards", count=len(discards.current), devices=named)
    return Part("quarantine", True, both(text), False, text)


def _lane_detail(lane: Lane, now_ms: int) -> str:
    behind_s = (now_ms - (lane.behind_since_ms or now_ms)) / 1000
    return (
        f"{lane.name} behind for {behind_s:.0f} s, holds {lane.messages} of {lane.bounds.messages} messages"
        f" and {lane.bytes / 2**20:.1f} of {lane.bounds.bytes / 2**20:.0f} MiB, its senders hold the rest"
    )
