"""The running system: which parts run in this process, started in order and ended in the opposite one."""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from enum import Flag, auto
from functools import partial

import structlog
import uvicorn

from api.context import Context, Devices, Part
from governance.audit import trail as audit_trail
from governance.notify.contacts import Directory
from governance.notify.messenger import Messenger
from governance.notify.outbox import Attempt, Deliverer
from governance.reports.citizen_reports import Near
from governance.reports.patrols import PatrolRule
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, WaterError
from infra.texts import sentence
from infra.times import DAY_MS
from ingest import batch_log
from ingest.analysis.chart_annotations import EVERY_S as OUTLOOK_S
from ingest.analysis.chart_annotations import AnnotationWriter
from ingest.analysis.downsample import Downsampler
from ingest.analysis.forecasts import Forecasts
from ingest.analysis.source_attribution import AttributionWorker
from ingest.devices.claims import Claims
from ingest.devices.credentials import Credentials, Retirement
from ingest.forward import Forwarder
from ingest.intake import Bounds, Intake, Lane
from ingest.pipeline import Site
from ingest.republish import Republisher
from ingest.sources.commands import MqttCommands
from ingest.sources.hj212 import Gateway
from ingest.sources.mqtt import MqttSource
from ingest.storage import downsampling, retention
from ingest.storage import maintenance as upkeep_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.retention import Retention
from riverchief import __version__, administrator, contact_key, files, messages, metrics
from riverchief.backup import backup
from riverchief.brokers.users import broker_users, endpoint
from riverchief.contact_key import ContactRetention
from riverchief.database import open_database
from riverchief.http_limits import Door, files_for_connections, protocols
from riverchief.otel import Tracing
from riverchief.services.backtester import Backtester
from riverchief.services.heartbeat import Heartbeat
from riverchief.services.housekeeping import Housekeeping, Job
from riverchief.services.reconciler import Reconciler
from riverchief.services.reminders import Reminders
from riverchief.services.sealing import Sealing, outside_roots, public_keys, sealing
from riverchief.settings import Settings, secret
from riverchief.signals import on_signal
from riverchief.single_writer import alone
from riverchief.sources import gateway_settings, mqtt_settings
from riverchief.stores import open_stores
from riverchief.watchdog import Part as Living
from riverchief.watchdog import Watchdog
from sensors.parameters import catalogue

log = structlog.get_logger(__name__)

WATCHED_S = 30
"""A part that has not shown a sign of life for so long is not healthy."""
BEHIND_S = 60
"""An ingest that is behind for longer is not well; a burst or a start is worked off in less."""


class PartDied(WaterError):
    """A part of the process has ended although nobody asked it to."""


class Role(Flag):
    """What a process does; all of it together is ``serve``."""

    INGEST = auto()
    API = auto()
    WORKER = auto()


ALL = Role.INGEST | Role.API | Role.WORKER


class System:
    """The parts of one process; an ingest writes through ``writer`` (`riverchief.single_writer`) where one is given."""

    def __init__(self, settings: Settings, roles: Role, writer: Database | None = None) -> None:
        self.settings = settings
        self.roles = roles
        self._started_ms = clock.now_ms()
        self.catalogue = catalogue()
        self.rules = files.read_rules(settings.site.rules, self.catalogue)
        self.processes = files.read_processes(settings.site.processes)
        mappings = files.read_mappings(settings.ingest.mappings, self.catalogue)
        token = secret(settings.api.token, settings.api.token_file)
        mqtt = mqtt_settings(settings)
        outbox_secret = secret(settings.outbox.secret, settings.outbox.secret_file)
        contacts = messages.directory(settings)
        self.platforms = files.read_platforms(settings.platforms.file, outbox_secret)
        heartbeat_url = secret(settings.watch.heartbeat_url, settings.watch.heartbeat_url_file)
        otlp_url = settings.watch.otlp_url
        self.tracing = Tracing(otlp_url, settings.watch.trace_share) if otlp_url else None
        self.database = open_database(settings)
        self.vault = contact_key.vault(settings)
        self.directory = messages.Roster(contacts or Directory(), self.database, self.vault, clock.now_ms)
        self._tell_trail()
        self._register_stations()
        if Role.API in roles and not settings.access.open:
            administrator.first(self.database, settings.data, settings.access.token_days * DAY_MS)
        self.stores = open_stores(settings, self.database, self.catalogue)
        self.watch = metrics.Watch(clock.now_ms)
        self.deliverer: Deliverer | None = None
        if Role.WORKER in roles and settings.outbox.url and outbox_secret:
            self.deliverer = Deliverer(
                self.database,
                settings.outbox.url,
                outbox_secret,
                clock=clock.now_ms,
                rng=random.Random(),
                give_up_after_s=settings.outbox.give_up_after_days * 86_400,
                gather_s=settings.outbox.gather_s,
                watch=self._attempted,
            )
        users = broker_users(settings)
        self.devices: Devices | None = None
        if users is not None:
            logins = Credentials(self.database, users, clock.now_ms)
            self.devices = Devices(logins, Claims(self.database, logins, clock.now_ms), endpoint(settings))
        self.forwarder: Forwarder | None = None
        self.downsampler: Downsampler | None = None
        self.outlook: AnnotationWriter | None = None
        self.forecasts: Forecasts | None = None
        self.traces: AttributionWorker | None = None
        self.retention: Retention | None = None
        self.reminders: Reminders | None = None
        self.sealing: Sealing | None = None
        self.reconciler: Reconciler | None = None
        self.messenger: Messenger | None = None
        self.housekeeping: Housekeeping | None = None
        if Role.WORKER in roles:
            self._prepare_worker()
        self.intake: Intake | None = None
        self.source: MqttSource | None = None
        self.commands: MqttCommands | None = None
        self.gateway: Gateway | None = None
        self.republisher: Republisher | None = None
        self.heartbeat: Heartbeat | None = None
        self.watchdog = Watchdog(self._living)
        if Role.INGEST in roles:
            site = Site(
                writer or self.database,
                self.stores.readings,
                self.rules,
                self.catalogue,
                source=settings.site.source,
                late_s=settings.ingest.late_after_s,
                on_findings=self._wake,
                spool=self.stores.spool,
                mappings=mappings,
                policy=self.processes.policy,
                queue_late=True,
            )
            self.intake = Intake(
                site,
                clock_ms=clock.now_ms,
                connected_since=self._connected_since,
                most=settings.ingest.batch_messages,
                linger_s=settings.ingest.linger_ms / 1000,
                bounds=Bounds(settings.ingest.hold_messages, settings.ingest.hold_mb * 2**20),
            )
            self.intake.watch(self.watch.batch)
            self.intake.watch(batch_log.log_batch)
            if self.outlook:
                self.intake.watch(self.outlook.heard)
            if self.tracing:
                self.intake.watch(self.tracing.batch)
            if settings.mqtt.enabled:
                self.source = MqttSource(mqtt, self.intake, clock.now_ms, mappings.topics)
                self.commands = MqttCommands(mqtt)
            if settings.hj212.enabled:
                self.gateway = Gateway(gateway_settings(settings), self.intake, clock.now_ms)
            if settings.mqtt.enabled and settings.mqtt.republish:
                self.republisher = Republisher(
                    self.database, self.stores.readings, self.catalogue, mqtt, clock_ms=clock.now_ms
                )
                self.intake.watch(self.republisher.heard)
            if heartbeat_url:
                self.heartbeat = Heartbeat(
                    heartbeat_url,
                    lambda: [part.name for part in self.parts() if not part.ok and part.name != "heartbeat"],
                    every_s=settings.watch.heartbeat_s,
                    clock_ms=clock.now_ms,
                )
        self.context = Context(
            database=self.database,
            store=self.stores.readings,
            catalogue=self.catalogue,
            source=settings.site.source,
            clock_ms=clock.now_ms,
            submit=self.intake.submit if self.intake else None,
            command=self.gateway.command if self.gateway else None,
            mqtt_commands=self.commands,
            token=token,
            parts=self.parts,
            metrics=metrics.exposition(
                metrics.Running(
                    database=self.database,
                    watch=self.watch,
                    clock_ms=clock.now_ms,
                    intake=self.intake,
                    source=self.source,
                    gateway=self.gateway,
                    republisher=self.republisher,
                    forwarder=self.forwarder,
                    downsampler=self.downsampler,
                    spool=self.stores.spool.waiting if self.stores.spool else None,
                    heartbeat=self.heartbeat,
                    messenger=self.messenger,
                    parts=self.parts,
                )
            ),
            wake=self._wake,
            box=settings.box,
            photos=settings.photos,
            devices=self.devices,
            vault=self.vault,
            reports_an_hour=settings.reports.an_hour,
            complaints=settings.site.complaints,
            near=Near(settings.reports.near_metres, settings.reports.near_days),
            patrols=PatrolRule(
                settings.reports.patrol_minutes, settings.reports.patrol_metres, settings.reports.patrol_fastest_m_s
            ),
            open=settings.access.open,
            hosts=settings.hosts,
            session_ms=settings.access.session_hours * 3_600_000,
            token_ms=settings.access.token_days * DAY_MS,
            site=settings.site.name,
            outward=bool(settings.outbox.url),
            processes=self.processes,
            audit_keys=public_keys(settings),
            outside_roots=partial(outside_roots, settings),
            formula=files.read_formula(settings.site.assessment),
            platforms=self.platforms,
            telling=messages.telling(settings, self.directory),
            called_back=self.watch.called_back,
        )

    def _prepare_worker(self) -> None:
        """What runs beside the readings: forwarding, live classes, and what leaves the database."""
        stores, database, known = self.stores, self.database, self.catalogue
        if stores.server is not None and stores.spool is not None:
            self.forwarder = Forwarder(database, stores.spool, stores.server, known, clock_ms=clock.now_ms)
            if stores.server.settings.kind in downsampling.SERVERS:
                influx = self.settings.influx
                self.downsampler = Downsampler(
                    database,
                    stores.readings,
                    stores.server,
                    known,
                    keep_days={downsampling.HOURS: influx.hourly_days, downsampling.DAYS: influx.daily_days},
                    clock_ms=clock.now_ms,
                )
        self.outlook = AnnotationWriter(database, stores.readings, known, clock_ms=clock.now_ms, spool=stores.spool)
        wake = self.deliverer.wake if self.deliverer else lambda: None
        source, now = self.settings.site.source, clock.now_ms
        self.forecasts = Forecasts(
            database, stores.readings, known, self.rules, clock_ms=now, source=source, on_findings=wake
        )
        self.traces = AttributionWorker(database, stores.readings, known, clock_ms=now, source=source, on_entry=wake)
        keep_days = self.settings.readings.keep_days
        if keep_days:
            if stores.keeper is None:
                raise ConfigurationError(sentence("settings.keep_days"))
            lookback_s = max(self.rules.lookback_s(p.key) for p in known.parameters)
            retention.check(keep_days, lookback_s)
            self.retention = Retention(database, known, stores.keeper, keep_days=keep_days, clock_ms=clock.now_ms)
        retirement = Retirement(self.devices.credentials) if self.devices else None
        self.sealing = sealing(self.settings, database, clock.now_ms)
        daily = [one for one in self.platforms.known if one.list is not None and one.list.url]
        if daily:
            self.reconciler = Reconciler(
                database, daily, at=self.settings.platforms.reconcile_at, clock_ms=clock.now_ms
            )
        self.messenger = messages.messenger(self.settings, database, self.directory, stores.readings)
        regular = (
            self.forwarder,
            self.downsampler,
            self.outlook,
            self.forecasts,
            self.traces,
            self.retention,
            retirement,
        )
        self.reminders = Reminders(
            database, known, self.processes.policy, source=source, clock_ms=clock.now_ms, wake=wake
        )
        found = (
            *regular,
            self.reminders,
            self.reconciler,
            self.messenger,
            self.sealing,
            Backtester(database, self.settings),
            ContactRetention(database, self.vault, days=self.settings.reports.contact_days, clock_ms=clock.now_ms),
        )
        jobs: list[Job] = [job for job in found if job is not None]
        self.housekeeping = Housekeeping(self.settings.database_url, jobs)

    def _tell_trail(self) -> None:
        """What this process runs with is an entry of the trail."""
        said = {"version": __version__, "roles": str(self.roles), "settings": backup.without_secrets(self.settings)}
        source = self.settings.site.source
        with self.database.write() as connection:
            audit_trail.append(
                connection,
                "system.started",
                kind="system",
                id=source,
                body=said,
                by="riverchief",
                at_ms=clock.now_ms(),
            )

    def _register_stations(self) -> None:
        """A new site begins with the stations of its file; later the database is what counts."""
        if self.settings.site.stations is None:
            return
        book = files.read_book(self.settings.site.stations, self.catalogue, box=self.settings.box)
        with self.database.write() as connection:
            if not registry_store.load(connection, self.catalogue).stations:
                author = Author(str(self.settings.site.stations), clock.now_ms())
                registry_store.save(connection, book.registry, author)
                upkeep_store.save(connection, book.upkeep, author)

    def _wake(self) -> None:
        """There is something in the outbox."""
        if self.deliverer:
            self.deliverer.wake()
        if self.messenger:
            self.messenger.wake()

    def _connected_since(self) -> int | None:
        """Since when devices can reach us and we are not behind; None while that is not so.

        What waits with us or with the broker is not the silence of a station. Without a broker a site is connected
        while it listens to loggers; with HTTP alone, since its start.
        """
        lanes = self.intake.lanes if self.intake else []
        since: int | None = self._started_ms
        if self.source:
            since = self.source.connected_since_ms
        elif self.gateway:
            since = self.gateway.listening_since_ms
        if since is None or any(lane.behind_since_ms is not None for lane in lanes):
            return None
        return max(since, *(lane.caught_up_ms for lane in lanes))

    def _attempted(self, attempt: Attempt) -> None:
        """A delivery was attempted: count it, and tell the traces."""
        self.watch.delivery(attempt)
        if self.tracing:
            self.tracing.delivery(attempt)

    def start(self) -> None:
        self._started_ms = clock.now_ms()
        if self.deliverer:
            self.deliverer.start()
        if self.housekeeping:
            self.housekeeping.start()
        if self.intake:
            self.intake.start()
        if self.gateway:
            self.gateway.start()
        if self.source:
            self.source.start()
        if self.commands:
            self.commands.start()
        if self.republisher:
            self.republisher.start()
        if self.heartbeat:
            self.heartbeat.start()
        self.watchdog.start()

    def stop(self) -> None:
        """Finish the batch, acknowledge, leave; what is not finished is delivered again."""
        self.watchdog.stop(5)
        if self.heartbeat:
            self.heartbeat.stop(5)
        if self.source:
            self.source.quiesce()
        if self.gateway:
            self.gateway.quiesce()
        if self.intake and not self.intake.stop():
            log.warning("the last batch did not finish in time; its messages will be delivered again")
        if self.source:
            self.source.stop()
        if self.commands:
            self.commands.stop()
        if self.gateway:
            self.gateway.stop()
        if self.republisher:
            self.republisher.stop()
        if self.deliverer:
            self.deliverer.stop(10)
        if self.housekeeping:
            self.housekeeping.stop()
        if self.tracing:
            self.tracing.stop()
        if self.stores.server:
            self.stores.server.close()
        self.database.close()

    def _living(self) -> dict[str, Living]:
        """The parts with threads of their own that run in this process, by name."""
        found: dict[str, Living | None] = {
            "ingest": self.intake,
            "mqtt": self.source,
            "hj212": self.gateway,
            "observed": self.republisher,
            "heartbeat": self.heartbeat,
            "outbox": self.deliverer,
            "housekeeping": self.housekeeping,
        }
        if self.housekeeping and self.housekeeping.active:
            found |= {type(job).__name__.lower(): job for job in self.housekeeping.jobs}
        return {name: part for name, part in found.items() if part is not None}

    def parts(self) -> list[Part]:
        """How the parts of this process are."""
        now = clock.now_ms()
        found = []
        if self.intake:
            c = self.intake.counters
            quiet_s = (now - max(c.last_tick_ms, self._started_ms)) / 1000  # one that never began is silent, too
            ok = self.intake.alive and quiet_s < WATCHED_S
            found.append(
                Part("ingest", ok, f"{c.messages} messages, backlog {self.intake.backlog}, {c.last_error or 'fine'}")
            )
            found.append(_pace(self.intake, now))
        if self.source:
            found.append(Part("mqtt", self.source.works, self.source.last_error or "connected"))
        if self.gateway:
            g = self.gateway
            found.append(Part("hj212", g.alive, f"{g.connections} connections, {g.counters.frames} frames"))
        if self.republisher:
            since, error = self.republisher.connected_since_ms, self.republisher.last_error
            ok = self.republisher.alive and since is not None and not error
            found.append(Part("observed", ok, error or f"{self.republisher.published} published", False))
        if self.heartbeat:
            found.append(Part("heartbeat", self.heartbeat.ok, self.heartbeat.last_error or "calling", False))
        if self.deliverer:
            seen = self.deliverer.last_round_at_ms
            ok = seen is not None and now - seen < WATCHED_S * 1000
            found.append(Part("outbox", ok, "delivering" if ok else "the deliverer shows no sign of life"))
        if self.housekeeping and self.housekeeping.active:
            found += self._housekeeping_parts(now)
        return found

    def _housekeeping_parts(self, now_ms: int) -> list[Part]:
        """How what one worker does for all is, in the process that does it."""
        found = []
        if self.forwarder:
            state = self.forwarder.state
            found.append(Part("influx", self.forwarder.alive and not state.error, state.error or "forwarding", False))
        if self.downsampler:
            trouble = self.downsampler.state.error
            found.append(Part("downsampling", self.downsampler.alive and not trouble, trouble or "computing", False))
        if self.outlook:
            seen = self.outlook.last_round_ms
            ok = self.outlook.alive and (seen is None or now_ms - seen < 3 * OUTLOOK_S * 1000)
            found.append(Part("outlook", ok, self.outlook.last_error or "judging", False))
        if self.messenger:
            trouble = self.messenger.last_error
            found.append(Part("notices", self.messenger.alive and not trouble, trouble or "telling", False))
        if self.sealing:
            trouble = self.sealing.last_error
            found.append(Part("trail", self.sealing.alive and not trouble, trouble or "sealing", False))
        if self.traces:
            trouble = self.traces.last_error
            found.append(Part("traces", self.traces.alive and not trouble, trouble or "tracing", False))
        if self.forecasts:
            trouble = self.forecasts.last_error
            found.append(Part("forecasts", self.forecasts.alive and not trouble, trouble or "forecasting", False))
        if self.reconciler:
            trouble = self.reconciler.last_error
            found.append(Part("reconciliation", self.reconciler.alive and not trouble, trouble or "comparing", False))
        if self.reminders:
            trouble = self.reminders.last_error
            found.append(Part("reminders", self.reminders.alive and not trouble, trouble or "watching", False))
        if self.retention:
            trouble = self.retention.last_error
            found.append(Part("retention", self.retention.alive and not trouble, trouble or "keeping", False))
        return found


def _pace(intake: Intake, now_ms: int) -> Part:
    """Whether the ingest keeps up with what is sent, and if not, by how much it is behind."""
    behind = [lane for lane in intake.lanes if lane.behind_since_ms is not None]
    late = f"; {n} late messages wait to be judged" if (n := intake.site.late_waiting) else ""
    if not behind:
        return Part("pace", True, f"keeps up{late}", False)
    detail = "; ".join(_behind(lane, now_ms) for lane in behind)
    sent_ms = intake.counters.last_sent_ms
    if sent_ms is not None:
        detail += f"; storing what was sent {max(0, now_ms - sent_ms) / 1000:.0f} s ago"
    long = any(now_ms - (lane.behind_since_ms or now_ms) > BEHIND_S * 1000 for lane in behind)
    return Part("pace", not long, detail + late, False)


def _behind(lane: Lane, now_ms: int) -> str:
    for_s = (now_ms - (lane.behind_since_ms or now_ms)) / 1000
    return (
        f"{lane.name} behind for {for_s:.0f} s, holds {lane.messages} of {lane.bounds.messages} messages"
        f" and {lane.bytes / 2**20:.1f} of {lane.bounds.bytes / 2**20:.0f} MiB, its senders hold the rest"
    )


def run(settings: Settings, roles: Role = ALL) -> None:
    """Run until SIGTERM or SIGINT; raises ConfigurationError before anything is started."""
    ingest = alone(settings.database_url, wait=True) if Role.INGEST in roles else contextlib.nullcontext()
    with ingest as writer:
        listener = _listen(settings) if Role.API in roles else None
        system = System(settings, roles, writer)
        asked = threading.Event()
        with on_signal(lambda *_: asked.set()):
            system.start()
            try:
                if listener is not None:
                    _serve_http(system, listener, asked)
                else:
                    asked.wait()
            finally:
                system.stop()
        if system.watchdog.dead:
            raise PartDied(sentence("ingest.part_died", part=system.watchdog.dead))


def _listen(settings: Settings) -> socket.socket:
    """The API's socket, taken before anything is started: an address in use is a mistake in the settings."""
    host, port = settings.api.host, settings.api.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(sentence("settings.port", host=host, port=port, error=error.strerror)) from error


def _serve_http(system: System, listener: socket.socket, asked: threading.Event) -> None:
    """Serve until a signal comes, or came already: the console takes seconds to load."""
    from api.app import create_app  # an ingest alone does not load the console
    from api.console.mount import mount

    app = create_app(system.context)
    mount(app, system.context)
    if system.tracing:
        app.add_middleware(system.tracing.requests)
    settings = system.settings.api
    door = Door(settings.connections_each, files_for_connections(), proxies=settings.trusted_proxies)
    http, websocket = protocols(door)
    config = uvicorn.Config(
        app,
        http=http,
        ws=websocket,
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    log.info("listening", address=f"http://{settings.host}:{settings.port}/")
    _Server(config, asked).run(sockets=[listener])


LEAVE_S = 10.0
"""Twice what uvicorn gives the connections that are open."""


class _Server(uvicorn.Server):
    """Uvicorn raises the signal again once it has stopped, which would end us before the last batch is stored."""

    def __init__(self, config: uvicorn.Config, asked: threading.Event) -> None:
        super().__init__(config)
        self._asked = asked

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def leave(*_: object) -> None:
            self.should_exit = True

        with on_signal(leave):
            self.should_exit = self._asked.is_set()
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Like uvicorn's, which has no limit for what pages leave behind: the last batch waits to be stored."""
        leaving = asyncio.ensure_future(super().shutdown(sockets))
        _, late = await asyncio.wait({leaving}, timeout=LEAVE_S)
        if late:
            left = sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())
            log.warning("the console did not end in time and is left behind", tasks=left)
