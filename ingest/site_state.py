"""What one ingest worker holds between batches: its stores and settings, and what it remembers of its stations.

Everything remembered is rebuilt from the stores by :meth:`SiteState.refresh`, so that a restart loses nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from governance.incidents import store as incident_store
from governance.incidents.deadlines import DEFAULT_POLICY, DeadlinePolicy
from governance.incidents.finding import Finding
from governance.organisation.regions import Place, Regions
from infra.database import Database, lock_inserts
from infra.errors import ConfigurationError
from ingest import quarantine
from ingest.ledger import Ledger
from ingest.quarantine_limits import Limits
from ingest.rejudge.difference import Difference
from ingest.rejudge.past_events import FlowGraph, PastEvents, PublishedEvent, published_events
from ingest.rejudge.visits import VisitDrift
from ingest.rules import device_reports, rule_file, water_events
from ingest.rules.alarm_state import Alarm, AlarmKey, update_alarms
from ingest.rules.device_clock import ClockMonitor
from ingest.rules.device_faults import discarding
from ingest.rules.device_rate import RateMonitor
from ingest.rules.engine import LATE_AFTER_S, RuleEngine
from ingest.rules.exceedances import PublishedExceedance
from ingest.rules.model import Rule, Rules
from ingest.rules.upstream import River
from ingest.state import alarm_store, detector_state, rule_publications, rule_trials, rule_versions
from ingest.state.rule_publications import Publication
from ingest.state.rule_trials import Trial
from ingest.state.series_history import SeriesHistory
from ingest.storage import changes, late_queue, loggers, sl651_stations
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from ingest.storage.tables import rule_version
from sensors.maintenance import END_OF_TIME_MS, Marks, MarkSpan, Mute, Visit, is_visited
from sensors.parameters import Catalogue
from sensors.quality.detectors.doubtful_events import CombinedDetection
from sensors.quality.neighbours import neighbour_stations
from sensors.reading import Message, Rejected
from sensors.stations import Registry
from sensors.wire import mapping
from sensors.wire.hj212.readings import Logger
from sensors.wire.mapping import Mappings
from sensors.wire.sl651.readings import Gauge
from sensors.wire.telemetry import Header

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """Which stations a worker processes: ``select`` from the registry, ``version`` of that choice."""

    select: Callable[[sa.Connection, Registry], Registry]
    version: Callable[[sa.Connection], int]


WHOLE = Part(lambda _connection, registry: registry, lambda _connection: 0)


class SiteState:
    """The stores and settings of one ingest worker, and what it remembers between batches. For one thread."""

    history: SeriesHistory
    marks: Marks
    """Marks of checks, visits and reviews that the stored verdicts carry."""
    loggers: Mapping[str, Logger]
    gauges: Mapping[str, Gauge]
    """The SL 651 stations by address."""
    visits: tuple[Visit, ...]
    """Visits, and planned work that mutes all rules of a station."""
    late_waiting: int
    """Late messages that are stored and not judged yet."""
    late_stations: dict[str, None]
    """Stations of the late messages, in the order of their turns."""
    future_spans: dict[str, tuple[int, int]]
    """Stations with readings held as of the future, and the first and last of their times (ms UTC)."""

    def __init__(  # noqa: PLR0913  (a part of the site each)
        self,
        database: Database,
        store: ReadingStore,
        rules: Rules,
        catalogue: Catalogue,
        *,
        source: str = "/riverchief",
        late_s: int = LATE_AFTER_S,
        on_findings: Callable[[], None] = lambda: None,
        spool: Spool | None = None,
        mappings: Mappings = mapping.NONE,
        policy: DeadlinePolicy = DEFAULT_POLICY,
        queue_late: bool = False,
        hj212_unverified: bool = False,
        part: Part = WHOLE,
        quarantine_limits: Limits = Limits(),
    ) -> None:
        """``queue_late``: messages of the broker that hold only late readings are queued and judged later.

        ``hj212_unverified``: what a single source says of HJ 212 and HJ 1404 is used as well. ``part``: which stations
        are this worker's.
        """
        self.database = database
        self.store = store
        self.file_rules = rules
        self.catalogue = catalogue
        self.source = source
        self.late_s = late_s
        self.on_findings = on_findings
        self.spool = spool
        self.mappings = mappings
        self.policy = policy
        self.queue_late = queue_late
        self.hj212_unverified = hj212_unverified
        self._part = part
        self.ledger = Ledger()
        self.rates = RateMonitor()
        self.quarantine_limits = quarantine_limits
        self.discards = discarding()
        """Devices whose refused messages are discarded."""
        self.visit_drift = VisitDrift()
        self.visits_due_ms = END_OF_TIME_MS
        """When the next visit can be looked at for drift."""
        self.maintenance_changed = True
        """Whether checks, visits, reviews or mutes may differ from what is applied."""
        self._fresh = False
        self._session_number = self.database.session_number
        self.rules_saved = False
        self._published: Publication | None = None
        self.rules = rules
        self.trials: dict[str, Trial] = {}
        """The running trials by rule."""
        self._offered: tuple[Rules, Mappings] | None = None
        self._take_published()
        self._take_trials()
        self.refresh()

    @property
    def registry(self) -> Registry:
        """The stations of this worker."""
        return self.history.registry

    # -- restart and reload ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Rebuild what is remembered from the stores: after a start, a failed batch or a changed registry."""
        with self.database.read() as connection:
            whole = registry_store.load(connection, self.catalogue)
            registry = self._part.select(connection, whole)
            self._fingerprint = self._registry_version(connection)
            self.loggers = loggers.load(connection)
            self.gauges = sl651_stations.load(connection)
            alarms = self._own_alarms(alarm_store.load(connection), registry)
            clock_errors = detector_state.load_clocks(connection)
            gateway_recoveries = alarm_store.gateway_recoveries(connection)
            firings = alarm_store.past_firings(connection, self.rules.flapping_ms())
            waiting = {key: n for key, n in late_queue.waiting(connection).items() if key in registry}
            self.future_spans = quarantine.future_spans(connection)
            mutes = [one for _, one in maintenance_store.mutes(connection)]
            self.set_visits((one for _, one in maintenance_store.visits(connection)), mutes)
            self.marks = Marks(self.own(maintenance_store.marks(connection), registry), registry.index, self.catalogue)
            trial = self._trial_engine(connection, registry)
        self.late_stations, self.late_waiting = dict.fromkeys(waiting), sum(waiting.values())
        self.store.forget()
        self.ledger.forget()
        self.rates.forget()
        checks = RuleEngine(
            self.rules,
            self.catalogue,
            alarms,
            self.late_s,
            registry,
            gateway_recoveries,
            firings,
            self._published_exceedances,
        )
        self._set_network(registry, whole)
        self.clocks = ClockMonitor(clock_errors)
        self.history = SeriesHistory(
            registry, self.store.recent_store, checks, self.catalogue, self._saved_detector_state, trial
        )
        for engine in self.history.engines:
            engine.mute(mutes)
        self.history.network = self.network
        self._fresh = True

    def ensure_fresh(self) -> None:
        """Refresh if a failure left memory ahead of the stores, or another may have written meanwhile.

        The database is asked first, so that nothing is read while it could not be written to anyway.
        """
        if not self._fresh or self.database.session_number != self._session_number:
            self.database.ready()
            self._session_number = self.database.session_number
            self.refresh()

    def invalidate(self) -> None:
        """Refresh before the next batch or tick."""
        self._fresh = False

    @contextmanager
    def invalidated_on_error(self) -> Iterator[None]:
        """Invalidate if the block fails: memory may then be ahead of what was stored."""
        try:
            yield
        except BaseException:
            self.invalidate()
            raise

    def follow_registry(self) -> bool:
        """Adopt a registry that changed meanwhile; true if it had changed."""
        with self.database.read() as connection:
            fingerprint = self._registry_version(connection)
            if fingerprint == self._fingerprint:
                return False
            whole = registry_store.load(connection, self.catalogue)
            registry = self._part.select(connection, whole)
            self.loggers = loggers.load(connection)
            self.gauges = sl651_stations.load(connection)
        self.maintenance_changed = True
        previous = self.history.registry
        try:
            if (registry.reaches, registry.regions) != (previous.reaches, previous.regions):
                raise ValueError("targets or regions changed: the scopes of rules select other stations now")
            self.history.use_registry(registry)
            for engine in self.history.engines:
                engine.follow(registry)
            self._set_network(registry, whole)
            self.history.network = self.network
            self._fingerprint = fingerprint
        except ValueError:
            self.refresh()
        return True

    def follow_rules(self) -> bool:
        """Adopt rules that were published, and trials that began or ended meanwhile; true if there were any."""
        changed = self._take_files()
        published, tried = self._take_published(), self._take_trials()
        if published or changed:
            self.rules_saved = False
        if published or tried or changed:
            self.refresh()
        return published or tried or changed

    def offer_files(self, rules: Rules, mappings: Mappings) -> None:
        """Let the rules and mappings of the files be these from the next tick on; called from any thread."""
        self._offered = (rules, mappings)

    def _take_files(self) -> bool:
        """Take what was offered; true if the rules of the file changed, which go before those published so far."""
        offered, self._offered = self._offered, None
        if offered is None:
            return False
        rules, self.mappings = offered
        if rule_publications.fingerprint(rules) == rule_publications.fingerprint(self.file_rules):
            return False
        self.file_rules = self.rules = rules
        self._published = None
        return True

    def _take_published(self) -> bool:
        """Take the newest publication, unless it is the one known; true if the rules differ."""
        with self.database.read() as connection:
            published = rule_publications.latest(connection)
        if published is None or (self._published is not None and published.id == self._published.id):
            return False
        found = rule_publications.rules_in_force(published, self.file_rules, self.catalogue)
        self._published, self.rules_saved = published, False
        previous = rule_publications.fingerprint(self.rules)
        self.rules = found
        return rule_publications.fingerprint(found) != previous

    def _take_trials(self) -> bool:
        """Take the running trials; true if they are others than those known."""
        with self.database.read() as connection:
            found = {one.rule: one for one in rule_trials.running(connection)}
        changed = found != self.trials
        self.trials = found
        return changed

    def _trial_engine(self, connection: sa.Connection, registry: Registry) -> RuleEngine | None:
        """The engine that evaluates the rules on trial, among those in force; None without any."""
        candidates: dict[str, Rule] = {}
        for one in self.trials.values():
            try:
                candidates |= {rule.id: rule for rule in rule_file.read(one.body, self.catalogue)}
            except ConfigurationError as error:  # the catalogue changed: what is only tried stops no reading
                log.warning("a rule on trial cannot be read", rule=one.rule, trial=one.id, error=str(error))
        if not candidates:
            return None
        rules = Rules().with_others(candidates)
        state = rule_trials.candidate_state(connection, list(self.trials.values()), rules.flapping_ms())
        engine = RuleEngine(
            rules,
            self.catalogue,
            self._own_alarms(state.alarms, registry),
            self.late_s,
            registry,
            state.gateways_back,
            state.fired,
            self._exceedances_on_trial,
        )
        engine.among = self.rules.with_others(candidates)
        return engine

    def end_trials(self, now_ms: int) -> None:
        """End the trials whose time is over."""
        if any(one.until_ms <= now_ms for one in self.trials.values()):
            with self.database.write() as connection:
                rule_trials.end_over(connection, now_ms)
            self._take_trials()
            self.refresh()

    def _registry_version(self, connection: sa.Connection) -> tuple[int, int]:
        return changes.fingerprint(connection), self._part.version(connection)

    def _own_alarms(self, alarms: dict[AlarmKey, Alarm], registry: Registry) -> dict[AlarmKey, Alarm]:
        """The alarms of stations and gateways of this worker; those of others are not its to end."""
        if self._part is WHOLE:
            return alarms
        subjects = registry.index.keys() | {s.gateway for s in registry.stations}
        return {key: alarm for key, alarm in alarms.items() if key[1] in subjects}

    @staticmethod
    def own(spans: set[MarkSpan], registry: Registry) -> set[MarkSpan]:
        """The marks of stations of this worker: those of others are not its to change."""
        return {one for one in spans if one.station in registry}

    def _set_network(self, registry: Registry, whole: Registry) -> None:
        """Derive which stations lie above and below which; an incident may begin above a boundary."""
        self.river = River(whole)
        own = self.river if self._part is WHOLE else River(registry)
        self.edges = water_events.upstream_paths(registry, own)
        self.flow = FlowGraph.of(self.edges)
        self.network = neighbour_stations(self.edges)

    def set_visits(self, visits: Iterable[Visit], mutes: Iterable[Mute]) -> None:
        """Set the visits; planned work that mutes all rules counts as one where silence is excused."""
        planned = [Visit(one.station, one.since_ms, one.until_ms) for one in mutes if not one.rules]
        self.visits = (*visits, *planned)

    # -- reads that the rules and detectors ask for ------------------------------------------------------------------

    def _published_exceedances(self, key: AlarmKey) -> Sequence[PublishedExceedance]:
        with self.database.read() as connection:
            return alarm_store.published_exceedances(connection, key)

    def _exceedances_on_trial(self, key: AlarmKey) -> Sequence[PublishedExceedance]:
        with self.database.read() as connection:
            return rule_trials.exceedances(connection, self.trials, key)

    def _saved_detector_state(self, station: str) -> Mapping[str, detector_state.SavedState]:
        with self.database.read() as connection:
            return detector_state.load(connection, station)

    def past_events(self, now_ms: int, detection: CombinedDetection | None = None) -> PastEvents:
        """Past events, for one batch with its live ``detection`` or for one change of marks."""

        def published(station: str) -> Sequence[PublishedEvent]:
            with self.database.read() as connection:
                return published_events(connection, station, [rule.id for rule in self.rules.events])

        return PastEvents(self.history, self.flow, published, now_ms, detection.alarms if detection else None)

    def device_findings(self, reports: Sequence[device_reports.DeviceReport], now_ms: int) -> list[Finding]:
        """Findings that follow from what devices reported of themselves."""
        if not reports:
            return []

        def excused(report: device_reports.DeviceReport) -> bool:
            return is_visited(self.visits, report.station.key, report.at_ms)

        late_ms = now_ms - int(self.late_s * 1000)
        return device_reports.findings(reports, self.history.checks.alarms, excused, late_ms)

    def device_report(self, station: str, body: bytes, received_at_ms: int) -> list[device_reports.DeviceReport]:
        """Parse an event of a device; empty if it makes no finding."""
        report = device_reports.parse_report(self.history.registry[station], body, received_at_ms)
        return [] if report is None else [report]

    # -- writes that batches, ticks and device messages share --------------------------------------------------------

    def record_findings(
        self, connection: sa.Connection, findings: Sequence[Finding], now_ms: int, changed: set[AlarmKey] | None = None
    ) -> incident_store.Recorded:
        """Record findings in incidents, enqueue what is to be published and save the alarms that changed.

        ``changed`` names those of alarms that are updated already; without it the findings update them here.
        """
        alarms = self.history.checks.alarms
        alarm_store.save(connection, alarms, update_alarms(alarms, findings) if changed is None else changed)
        if self.trials:
            rule_trials.record(connection, self._trials_at(now_ms), findings, candidate=False)
        return incident_store.record_findings(
            connection, findings, now_ms, source=self.source, place=self._place, policy=self.policy
        )

    def quarantine(
        self,
        connection: sa.Connection,
        messages: Sequence[Message],
        headers: Sequence[Header | None],
        rejected: Sequence[Rejected],
        now_ms: int,
    ) -> frozenset[int]:
        """Quarantine what was rejected, within the limits; the indices of what was held before."""
        added = quarantine.add(connection, self.registry, messages, headers, rejected, self.quarantine_limits)
        for account, count in added.discarded.items():
            self.discards.note(account, count, now_ms)
        return added.repeated

    def record_trial(
        self, connection: sa.Connection, live: Sequence[Finding], late: Difference | None, now_ms: int
    ) -> None:
        """Record the findings of rules on trial; no messages follow."""
        trial = self.history.trial
        if trial is None or not (live or late):
            return
        passing = [] if late is None else [one for one in late.findings if one not in late.lasting]
        found = sorted(live, key=lambda one: one.observed_at_ms)
        found += sorted(late.findings if late else (), key=lambda one: one.observed_at_ms)
        update_alarms(trial.alarms, [one for one in found if one not in passing])
        rule_trials.record(connection, self._trials_at(now_ms), found, candidate=True, passing=passing)

    def _trials_at(self, now_ms: int) -> dict[str, Trial]:
        """The trials that run at an instant."""
        return {rule: one for rule, one in self.trials.items() if now_ms < one.until_ms}

    def _place(self, subject: str) -> Place:
        """Locate a station, or a gateway in the region and on the reach that its stations have in common."""
        registry = self.history.registry
        regions = Regions(registry.regions)
        if subject in registry:
            station = registry[subject]
            return Place(regions.of_station(station), station.reach, station.lon, station.lat)
        behind = [s for s in registry.stations if s.gateway == subject]
        reaches = {s.reach for s in behind}
        region = regions.common(regions.of_station(s) for s in behind)
        return Place(region, reaches.pop() if len(reaches) == 1 else "")

    def save_rules(self, connection: sa.Connection, now_ms: int) -> None:
        """Write down which rules are in force, before one of them raises anything.

        The caller sets ``rules_saved`` once this is committed.
        """
        if not self.rules_saved:
            lock_inserts(connection, rule_version)  # workers begin together
            rule_versions.record_versions(connection, self.rules, self.catalogue, now_ms)
            rule_trials.end_superseded(connection, now_ms)
            if self._published is not None:
                rule_publications.record_taken_over(connection, self._published, self.file_rules)
