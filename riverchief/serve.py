"""The running system: which services run in this process, started in order and stopped in the opposite one."""

import contextlib
import threading
from collections.abc import Callable
from enum import Flag, auto
from functools import partial
from typing import TYPE_CHECKING

from api.context import Context, Part
from api.oidc import Oidc, OidcSettings
from governance.incidents.cap import CapSettings
from governance.reports.citizen_reports import SimilarityLimits
from governance.reports.patrols import PatrolRule
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError, WaterError
from infra.texts import say
from infra.times import DAY_MS, HOUR_MS
from riverchief import files, messages, metrics
from riverchief.audit_sealing import outside_roots, public_keys
from riverchief.heartbeat import Heartbeat
from riverchief.http_server import listen, serve_http
from riverchief.resources import Resources, open_resources
from riverchief.service import HasThread, Service, health
from riverchief.services.bridge_services import BridgeService
from riverchief.services.ingest_services import Ingest, heartbeat_service, make_site
from riverchief.services.partition_services import PartitionWorkers
from riverchief.settings import Settings, secret
from riverchief.signals import on_hangup, on_signal
from riverchief.single_writer import exclusive_ingest, shared_ingest
from riverchief.site_files import Reloader, SiteFiles
from riverchief.watchdog import Watchdog

if TYPE_CHECKING:
    from riverchief.services.worker_services import Worker

WATCHDOG_GRACE_S = 5


class PartDied(WaterError):
    """A part of the process has ended although nobody asked it to, or does not go on."""


class Role(Flag):
    """Roles of a process; ``serve`` has all."""

    INGEST = auto()
    API = auto()
    WORKER = auto()
    BRIDGE = auto()
    """In a cluster the process that takes messages from devices; ``INGEST`` is then a worker of some partitions."""


ALL_ROLES = Role.INGEST | Role.API | Role.WORKER


class System:
    """The services of one process; an ingest writes through ``writer`` (`riverchief.single_writer`) if one is given."""

    def __init__(self, settings: Settings, roles: Role, writer: Database | None = None) -> None:
        sends = bool(roles & (Role.API | Role.WORKER))
        self.resources = open_resources(settings, str(roles), with_api=Role.API in roles, with_contacts=sends)
        self.database = self.resources.database
        worker = _worker(self.resources) if Role.WORKER in roles else None
        wake = worker.wake if worker else _nothing
        self.ingest: Ingest | None = None
        self.heartbeat: Heartbeat | None = None
        self.partitions: PartitionWorkers | None = None
        self.bridge: BridgeService | None = None
        if Role.BRIDGE in roles:
            self.bridge = BridgeService(self.resources)
            self.ingest = self.bridge.ingest
        elif Role.INGEST in roles and settings.cluster.servers:
            self.partitions = PartitionWorkers(self.resources, wake)
        elif Role.INGEST in roles:
            site = make_site(self.resources, writer or self.database, self.resources.stores, wake)
            self.ingest = Ingest(self.resources, site)
            if worker:
                self.ingest.intake.watch(worker.annotations.on_batch)
        if Role.BRIDGE in roles or Role.INGEST in roles:
            self.heartbeat = self._make_heartbeat()
        self.watchdog = Watchdog(self._threads)
        self.reloader = Reloader(self.resources.files, self._take_files)
        self.services = self._table(worker)
        spool = self.resources.stores.spool
        figures = metrics.MetricSources(
            database=self.database,
            watch=self.resources.counters,
            clock_ms=clock.now_ms,
            services=self.services,
            spool=spool.waiting if spool else None,
            downsampling=worker is not None and worker.downsampler is not None,
        )
        self.context = _context(self.resources, self.ingest, figures, wake)

    def start(self) -> None:
        """Start the services in order."""
        for service in self.services:
            service.start()

    def stop(self) -> None:
        """Stop the services in the opposite order; what is not finished is delivered again."""
        for service in reversed(self.services):
            service.stop()

    def parts(self) -> list[Part]:
        """The health of the parts of this process."""
        return health(self.services, clock.now_ms())

    def _table(self, worker: "Worker | None") -> tuple[Service, ...]:
        """All services in the order in which they start."""
        tracing, server = self.resources.tracing, self.resources.stores.server
        return (
            Service(stop=self.database.close),
            *([Service(stop=server.close)] if server else ()),
            *([Service(stop=tracing.stop)] if tracing else ()),
            *(worker.services if worker else ()),
            *([self.bridge.service()] if self.bridge else ()),
            *([self.partitions.service()] if self.partitions else ()),
            *(self.ingest.services() if self.ingest else ()),
            *([heartbeat_service(self.heartbeat)] if self.heartbeat else ()),
            _reload_service(self.reloader),
            Service(
                start=self.watchdog.start, stop=partial(self.watchdog.stop, WATCHDOG_GRACE_S), health=self._hanging
            ),
        )

    def _take_files(self, read: SiteFiles) -> None:
        if self.ingest:
            self.ingest.take_files(read)
        if self.partitions:
            self.partitions.take_files(read)
        self.resources.directory.forget()

    def _hanging(self, now_ms: int) -> list[Part]:
        names = self.watchdog.hanging()
        detail = f"hang: {', '.join(names)}" if names else "all parts go on"
        return [Part("watchdog", not names, detail, False)]

    def _threads(self) -> dict[str, HasThread]:
        """The threads that must be alive in this process, by name."""
        return {name: part for service in self.services for name, part in service.threads().items()}

    def _make_heartbeat(self) -> Heartbeat | None:
        url = self.resources.heartbeat_url
        if not url:
            return None
        return Heartbeat(
            url,
            lambda: [part.name for part in self.parts() if not part.ok and part.name != "heartbeat"],
            every_s=self.resources.settings.watch.heartbeat_s,
            clock_ms=clock.now_ms,
        )


def _nothing() -> None:
    pass


def _worker(resources: Resources) -> "Worker":
    from riverchief.services.worker_services import build_worker  # an ingest alone does without

    return build_worker(resources)


def _reload_service(reloader: Reloader) -> Service:
    def health(now_ms: int) -> list[Part]:
        return [Part("files", not reloader.last_error, reloader.last_error or "read", False)]

    return Service(
        start=reloader.start,
        stop=partial(reloader.stop, WATCHDOG_GRACE_S),
        health=health,
        threads=lambda: {"reload": reloader},
    )


def _context(
    resources: Resources, ingest: Ingest | None, running: metrics.MetricSources, wake: Callable[[], None]
) -> Context:
    """The context of the API and the console."""
    settings = resources.settings
    reports, access = settings.reports, settings.access
    return Context(
        database=resources.database,
        store=resources.stores.readings,
        catalogue=resources.catalogue,
        source=settings.site.source,
        clock_ms=clock.now_ms,
        submit=ingest.intake.submit if ingest else None,
        command=ingest.gateway.command if ingest and ingest.gateway else None,
        sl651_query=ingest.sl651.query if ingest and ingest.sl651 else None,
        mqtt_commands=ingest.commands if ingest else None,
        token=resources.api_token,
        parts=lambda: health(running.services, clock.now_ms()),
        metrics=metrics.exposition(running),
        wake=wake,
        box=settings.box,
        photos=settings.photos,
        devices=resources.devices,
        vault=resources.vault,
        reports_an_hour=reports.an_hour,
        complaints=settings.site.complaints,
        near=SimilarityLimits(reports.near_metres, reports.near_days),
        patrols=PatrolRule(
            reports.patrol_minutes, reports.patrol_metres, reports.patrol_fastest_m_s, reports.patrol_near_m
        ),
        open=access.open,
        hosts=settings.hosts,
        session_ms=access.session_hours * HOUR_MS,
        idle_ms=access.idle_hours * HOUR_MS,
        oidc=_oidc(settings),
        token_ms=access.token_days * DAY_MS,
        site=settings.site.name,
        outward=bool(settings.outbox.url),
        map_tiles=settings.api.map_tiles,
        map_attribution=settings.api.map_attribution,
        processes=resources.processes,
        audit_keys=public_keys(settings),
        outside_roots=partial(outside_roots, settings),
        formula=files.read_formula(settings.site.assessment),
        platforms=resources.platforms,
        notifications=messages.notification_settings(settings, resources.directory),
        called_back=resources.counters.called_back,
        sensorthings=resources.counters.sensorthings_request,
        subscribes=messages.public_mail(settings.notices) is not None,
        cap=_cap(settings),
    )


def _cap(settings: Settings) -> CapSettings | None:
    """Who sends warnings, and to whom; None where none are sent."""
    given, web = settings.cap, settings.notices.public_url or ""
    if not given.sender:
        return None
    restriction = "" if given.public else given.restriction or say("cap.for_whom").zh
    return CapSettings(
        given.sender, given.sender_name or settings.site.name, given.status, restriction, web.rstrip("/")
    )


def _oidc(settings: Settings) -> Oidc | None:
    """The identity provider of the settings. Raises ConfigurationError for a secret that cannot be read."""
    given = settings.oidc
    if given.issuer is None:
        return None
    return Oidc(
        OidcSettings(
            issuer=given.issuer,
            client_id=given.client_id,
            client_secret=secret(given.client_secret, given.client_secret_file) or "",
            claim=given.claim,
            button=given.button,
            scope=given.scope,
            checks_factor=given.checks_factor,
        )
    )


def _ingest_lock(settings: Settings, roles: Role) -> contextlib.AbstractContextManager[Database | None]:
    if Role.INGEST not in roles:
        return contextlib.nullcontext()
    if settings.cluster.servers:
        return shared_ingest(settings.database_url)
    return exclusive_ingest(settings.database_url, wait=True)


def run(settings: Settings, roles: Role = ALL_ROLES) -> None:
    """Run until SIGTERM or SIGINT; raises ConfigurationError before anything is started.

    With ``[cluster]`` all parts in one process are a bridge instead of an ingest, whose workers run elsewhere.
    """
    if settings.cluster.servers and roles == ALL_ROLES:
        roles = Role.BRIDGE | Role.API | Role.WORKER
    if Role.BRIDGE in roles and not settings.cluster.servers:
        raise ConfigurationError(say("cluster.no_servers"))
    with _ingest_lock(settings, roles) as writer:
        # the socket first: an address in use is a mistake in the settings
        listener = listen(settings.api.host, settings.api.port) if Role.API in roles else None
        system = System(settings, roles, writer)
        stop_requested = threading.Event()
        with on_signal(lambda *_: stop_requested.set()), on_hangup(lambda *_: system.reloader.request()):
            system.start()
            try:
                if listener is not None:
                    resources = system.resources
                    closed = resources.counters.connection_closed
                    serve_http(system.context, settings.api, listener, stop_requested, resources.tracing, closed)
                else:
                    stop_requested.wait()
            finally:
                system.stop()
        if system.watchdog.dead:
            raise PartDied(say("ingest.part_died", part=system.watchdog.dead))
        if system.watchdog.hung:
            raise PartDied(say("ingest.part_hung", part=system.watchdog.hung))
