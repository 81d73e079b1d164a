"""The services of a worker: deliveries, and the jobs that one worker of a database does for all."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from prometheus_client.core import Metric

from api.context import Part
from governance.notify.messenger import Messenger
from governance.notify.outbox import Attempt, Deliverer
from governance.notify.retention import DeliveryRetention
from infra import clock
from infra.errors import ConfigurationError
from infra.texts import say
from ingest.analysis.chart_annotations import EVERY_S as ANNOTATION_PERIOD_S
from ingest.analysis.chart_annotations import AnnotationWriter
from ingest.analysis.downsample import Downsampler
from ingest.analysis.forecasts import Forecasts
from ingest.analysis.source_attribution import AttributionWorker
from ingest.devices.credentials import ExpiryWorker
from ingest.forward import Forwarder
from ingest.quarantine_limits import Limits
from ingest.rules.model import Rules
from ingest.sending import SendingWorker
from ingest.state import rule_publications
from ingest.storage import downsampling, retention
from ingest.storage.retention import Retention
from riverchief import messages, metrics
from riverchief.audit_sealing import sealing
from riverchief.contact_key import ContactRetention
from riverchief.resources import Resources
from riverchief.service import SILENT_AFTER_S, HasThread, Service, no_metrics, no_parts
from riverchief.services import housekeeping
from riverchief.services.backtester import Backtester
from riverchief.services.housekeeping import Housekeeping
from riverchief.services.reconciler import Reconciler
from riverchief.services.reminders import Reminders
from riverchief.services.subscription_mails import SubscriptionMails

DELIVERY_GRACE_S = 10


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the table of jobs: the worker with its health and its metrics."""

    worker: housekeeping.Job
    health: Callable[[int], Sequence[Part]] = no_parts
    metrics: Callable[[int], Iterable[Metric]] = no_metrics


@dataclass(frozen=True, slots=True)
class Worker:
    """The services of a worker, and those parts of it that an ingest, the API and the metrics use."""

    services: tuple[Service, ...]
    wake_deliveries: Callable[[], None]
    messenger: Messenger
    annotations: AnnotationWriter
    downsampler: Downsampler | None

    def wake(self) -> None:
        """Send at once what is in the outbox, to platforms and to people."""
        self.wake_deliveries()
        self.messenger.wake()


def build_worker(resources: Resources) -> Worker:
    """Build the services of a worker; raises ConfigurationError."""
    settings, database, readings = resources.settings, resources.database, resources.stores.readings
    deliverer = _deliverer(resources)
    wake = deliverer.wake if deliverer else _nothing
    downsampler = _downsampler(resources)
    annotations = AnnotationWriter(
        database, readings, resources.catalogue, clock_ms=clock.now_ms, spool=resources.stores.spool
    )
    messenger = messages.messenger(settings, database, resources.directory, readings)
    jobs = (
        *_forwarding_jobs(resources, downsampler),
        Job(annotations, partial(_annotation_health, annotations)),
        *_analysis_jobs(resources, wake),
        *_retention_jobs(resources),
        *_case_jobs(resources, wake),
        Job(
            messenger,
            _error_health("notices", messenger, "sending"),
            lambda now_ms: [metrics.metric_by_label("notices", dict(messenger.counts))],
        ),
        *_closing_jobs(resources),
    )
    services = [_housekeeping_service(settings.database_url, jobs)]
    if deliverer:
        services.append(_delivery_service(deliverer))
    return Worker(tuple(services), wake, messenger, annotations, downsampler)


def _nothing() -> None:
    pass


def _deliverer(resources: Resources) -> Deliverer | None:
    outbox = resources.settings.outbox
    if not outbox.url or not resources.outbox_secret:
        return None

    def count(attempt: Attempt) -> None:
        resources.counters.delivery(attempt)
        if resources.tracing:
            resources.tracing.delivery(attempt)

    return Deliverer(
        resources.database,
        outbox.url,
        resources.outbox_secret,
        clock=clock.now_ms,
        rng=random.Random(),
        give_up_after_s=outbox.give_up_after_days * 86_400,
        gather_s=outbox.gather_s,
        watch=count,
    )


def _delivery_service(deliverer: Deliverer) -> Service:
    def health(now_ms: int) -> list[Part]:
        seen_ms = deliverer.last_round_at_ms
        ok = seen_ms is not None and now_ms - seen_ms < SILENT_AFTER_S * 1000
        return [Part("outbox", ok, "delivering" if ok else "the deliverer shows no sign of life", since_ms=seen_ms)]

    return Service(
        start=deliverer.start,
        stop=partial(deliverer.stop, DELIVERY_GRACE_S),
        health=health,
        threads=lambda: {"outbox": deliverer},
    )


def _housekeeping_service(database_url: str, jobs: Sequence[Job]) -> Service:
    """The jobs as one service: while another worker holds the lock, they neither run nor report here."""
    keeper = Housekeeping(database_url, [job.worker for job in jobs])

    def health(now_ms: int) -> list[Part]:
        return [part for job in jobs for part in job.health(now_ms)] if keeper.active else []

    def threads() -> Mapping[str, HasThread]:
        active = {type(job.worker).__name__.lower(): job.worker for job in jobs} if keeper.active else {}
        return {"housekeeping": keeper, **active}

    return Service(
        start=keeper.start,
        stop=keeper.stop,
        health=health,
        metrics=lambda now_ms: [metric for job in jobs for metric in job.metrics(now_ms)],
        threads=threads,
    )


# -- the jobs ----------------------------------------------------------------------------------------------------------


def _forwarding_jobs(resources: Resources, downsampler: Downsampler | None) -> Iterator[Job]:
    """Jobs that feed the time-series server; none without a server."""
    stores = resources.stores
    if stores.server is not None and stores.spool is not None:
        settings = resources.settings.ingest
        forwarder = Forwarder(
            resources.database,
            stores.spool,
            stores.server,
            resources.catalogue,
            clock_ms=clock.now_ms,
            limits=Limits.of_mb(settings.quarantine_device_mb, settings.quarantine_mb),
        )
        yield Job(forwarder, _sending_health("influx", forwarder, "forwarding"), partial(metrics.forwarding, forwarder))
    if downsampler:
        yield Job(
            downsampler,
            _sending_health("downsampling", downsampler, "computing"),
            partial(metrics.downsampling_points, downsampler),
        )


def _downsampler(resources: Resources) -> Downsampler | None:
    stores, influx = resources.stores, resources.settings.influx
    if stores.server is None or stores.spool is None or stores.server.settings.kind not in downsampling.SERVERS:
        return None
    return Downsampler(
        resources.database,
        stores.readings,
        stores.server,
        resources.catalogue,
        keep_days={downsampling.HOURS: influx.hourly_days, downsampling.DAYS: influx.daily_days},
        clock_ms=clock.now_ms,
    )


def _analysis_jobs(resources: Resources, wake: Callable[[], None]) -> Iterator[Job]:
    database, readings, known = resources.database, resources.stores.readings, resources.catalogue
    source, now = resources.settings.site.source, clock.now_ms

    def rules() -> Rules:
        return rule_publications.load(database, resources.files.rules, known)

    forecasts = Forecasts(database, readings, known, rules, clock_ms=now, source=source, on_findings=wake)
    yield Job(forecasts, _error_health("forecasts", forecasts, "forecasting"))
    attribution = AttributionWorker(database, readings, known, clock_ms=now, source=source, on_entry=wake)
    yield Job(attribution, _error_health("source_attribution", attribution, "attributing"))


def _retention_jobs(resources: Resources) -> Iterator[Job]:
    """Jobs that remove readings and old logins; raises ConfigurationError where readings would be lost."""
    keep_days, keeper, known = resources.settings.readings.keep_days, resources.stores.keeper, resources.catalogue
    if keep_days:
        if keeper is None:
            raise ConfigurationError(say("settings.keep_days"))
        retention.check_keep_days(keep_days, max(resources.files.rules.lookback_s(p.key) for p in known.parameters))
        removal = Retention(resources.database, known, keeper, keep_days=keep_days, clock_ms=clock.now_ms)
        yield Job(removal, _error_health("retention", removal, "removing"))
    if resources.devices:
        yield Job(ExpiryWorker(resources.devices.credentials))


def _case_jobs(resources: Resources, wake: Callable[[], None]) -> Iterator[Job]:
    """Deadlines of incidents, and the comparison with external platforms."""
    settings, database = resources.settings, resources.database
    reminders = Reminders(
        database,
        resources.catalogue,
        resources.processes.policy,
        source=settings.site.source,
        clock_ms=clock.now_ms,
        wake=wake,
    )
    yield Job(reminders, _error_health("reminders", reminders, "watching"))
    listed = [platform for platform in resources.platforms.known if platform.list is not None and platform.list.url]
    if listed:
        reconciler = Reconciler(database, listed, at=settings.platforms.reconcile_at, clock_ms=clock.now_ms)
        yield Job(reconciler, _error_health("reconciliation", reconciler, "comparing"))


def _closing_jobs(resources: Resources) -> Iterator[Job]:
    """The seal of the audit trail, backtests of the console, mails to the public, old contacts and deliveries."""
    settings, database = resources.settings, resources.database
    seal = sealing(settings, database, clock.now_ms)
    yield Job(seal, _error_health("audit_seal", seal, "sealing"))
    yield Job(Backtester(database, settings))
    server, base = messages.public_mail(settings.notices), settings.notices.public_url
    if server and base:
        mails = SubscriptionMails(database, resources.vault, server, base, clock_ms=clock.now_ms)
        yield Job(mails, _error_health("subscriptions", mails, "sending"))
    contacts = ContactRetention(database, resources.vault, days=settings.reports.contact_days, clock_ms=clock.now_ms)
    yield Job(contacts, _error_health("contact_removal", contacts, "removing"))
    if settings.outbox.keep_days:
        old = DeliveryRetention(database, keep_days=settings.outbox.keep_days, clock_ms=clock.now_ms)
        yield Job(old, _error_health("delivery_removal", old, "removing"))


# -- their health ------------------------------------------------------------------------------------------------------


class _Reporting(HasThread, Protocol):
    last_error: str


def _error_health(name: str, worker: _Reporting, doing: str) -> Callable[[int], list[Part]]:
    """The health of a job that keeps its last error."""
    return lambda now_ms: [Part(name, worker.alive and not worker.last_error, worker.last_error or doing, False)]


def _sending_health(name: str, worker: SendingWorker, doing: str) -> Callable[[int], list[Part]]:
    """The health of a job that sends to the time-series server."""
    return lambda now_ms: [Part(name, worker.alive and not worker.state.error, worker.state.error or doing, False)]


def _annotation_health(annotations: AnnotationWriter, now_ms: int) -> list[Part]:
    seen_ms = annotations.last_round_ms
    recent = seen_ms is None or now_ms - seen_ms < 3 * ANNOTATION_PERIOD_S * 1000
    return [Part("chart_annotations", annotations.alive and recent, annotations.last_error or "judging", False)]
