"""The whole journey of a micro-batch on one page: decode → validate → quality → store → check → incident.

``Site.process`` carries messages from bytes to incidents in one database transaction; the caller acknowledges after it
returns. A crash at any moment costs a redelivery, never a reading.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import sqlalchemy as sa

from governance.incidents import store as incident_store
from governance.incidents.deadlines import STANDARD, Policy
from governance.incidents.finding import Finding
from governance.organisation.regions import Place, Regions
from infra.database import Database
from infra.errors import LongTermUnavailable, StorageUnavailable
from ingest import quarantine
from ingest.ledger import Ledger
from ingest.rejudge import corrections, late_events
from ingest.rejudge.late_readings import LateVerdict, rejudge_late
from ingest.rejudge.marks import apply_marks
from ingest.rejudge.visits import VisitDrift
from ingest.rules import device_reports, maintenance_due, suspected_faults, water_events
from ingest.rules.alarm_state import Key
from ingest.rules.alarm_state import apply as apply_to_alarms
from ingest.rules.device_clock import ClockMonitor
from ingest.rules.engine import LATE_S, RuleEngine, usable
from ingest.rules.exceedances import PublishedExceedance
from ingest.rules.model import Rules
from ingest.rules.no_data import LastSeen
from ingest.rules.upstream import River
from ingest.stages import interval_overlap, validate
from ingest.stages.cross_parameter import cross_check_live
from ingest.stages.group_by_cause import group_by_cause
from ingest.state import alarm_store, detector_state, rule_versions
from ingest.state.series_history import SeriesHistory
from ingest.storage import device_events, late_queue, loggers
from ingest.storage import maintenance as upkeep_store
from ingest.storage import registry as registry_store
from ingest.storage.port import ReadingStore
from ingest.storage.spool import Spool
from sensors.maintenance import FAR_MS, Marks, Mute, Visit, is_visited, mark_spans, muted_until
from sensors.parameters import Catalogue
from sensors.quality import QualityResult, check_quality
from sensors.quality.detectors.daily_pattern import neighbour_stations
from sensors.quality.detectors.slow_events import CombinedDetection
from sensors.reading import Batch, Bytes, Codes, Floats, Ints, Message, Places, Reason, Rejected, distinct, pack, unpack
from sensors.stations import Registry
from sensors.wire import mapping, telemetry
from sensors.wire.decode import decode
from sensors.wire.hj212.readings import SOURCE, Logger, addressed, mn_of
from sensors.wire.mapping import Mappings
from sensors.wire.telemetry import Decoded, Header

LATE_AT_ONCE = 1000
"""Late messages of one station that are judged together: the work is for each series, hardly for each message."""
LATE_QUEUED = 1_000_000
"""Late messages that may wait for their judgement, some hundred MB on disk; more are judged at once, which slows their
source."""
LOADED_AT_ONCE = 100
"""Stations whose past is read in one tick after a start: some tenths of a second, so that readings do not wait long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. ``stored`` and ``duplicate`` (messages,) count readings by message.

    ``seconds`` were spent in each stage; ``headers`` (messages,) say what each message says of itself, empty where
    nobody looked inside; ``told`` is what was put into the outbox.
    """

    messages: int
    stored: Ints
    duplicate: Ints
    rejected: tuple[Rejected, ...]
    suspect: int
    findings: tuple[Finding, ...]
    opened: int
    seconds: dict[str, float] = field(default_factory=dict)
    headers: Sequence[Header | None] = ()
    told: tuple[incident_store.EnqueuedEvent, ...] = ()

    def receipt(self, message: int) -> "Receipt":
        """What became of one message of the batch."""
        mine = tuple(r for r in self.rejected if r.message == message) if self.rejected else ()
        return Receipt(int(self.stored[message]), int(self.duplicate[message]), mine)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one message: readings stored, readings that were there already, and what was refused."""

    stored: int
    duplicate: int
    rejected: tuple[Rejected, ...]


class Site:
    """One ingest worker's view of its stations: the stores, and what it remembers between batches."""

    history: SeriesHistory
    marks: Marks
    """What checks and visits say of the stored readings, as the stored verdicts have it."""
    late_waiting: int
    """Late messages that are stored and not judged yet."""
    _late: dict[str, None]
    """Their stations, in the order in which they have their turn."""
    _visits: tuple[Visit, ...]
    """When somebody is, or was, at work at a station."""

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        rules: Rules,
        catalogue: Catalogue,
        *,
        source: str = "/riverchief",
        late_s: int = LATE_S,
        on_findings: Callable[[], None] = lambda: None,
        spool: Spool | None = None,
        mappings: Mappings = mapping.NONE,
        policy: Policy = STANDARD,
        queue_late: bool = False,
    ) -> None:
        """``queue_late``: messages of the broker whose readings are all late are kept, and judged by ``late_batch``."""
        self.database = database
        self.store = store
        self.rules = rules
        self.catalogue = catalogue
        self.source = source
        self.late_s = late_s
        self.on_findings = on_findings
        self.spool = spool
        self.mappings = mappings
        self.policy = policy
        self.queue_late = queue_late
        self.ledger = Ledger()
        self._fresh = False
        self._upkeep_due = True
        self.returns = VisitDrift()
        self._look_ms = FAR_MS
        self._rules_kept = False
        self.refresh()

    # -- the journey -------------------------------------------------------------------------------------------------

    def process(self, messages: Sequence[Message], now_ms: int) -> Outcome:
        """Carry a micro-batch from bytes to incidents; return once its readings are durable.

        Raises StorageUnavailable when the stores cannot take it; then nothing of the batch has happened and the same
        messages may be handed in again.
        """
        clock = _Stopwatch()
        if not self._fresh:
            self.refresh()
        try:
            messages, replayed = self._replays(messages)
            messages = self._addressed(messages)
            decoded = decode(messages, self.catalogue, self.loggers, self.mappings)
            accepted = validate.accept(decoded, messages, self.history.registry, now_ms)
            rejected = accepted.rejected
            clock.lap("decode")
            told = interval_overlap.drop_covered_means(
                accepted.batch, decoded.periods, self.history.registry, self.store
            )
            self._heed(told.station, now_ms)
            queued = self._late_messages(told, messages, now_ms)
            if queued:
                told, rejected = _without(told, queued), tuple(r for r in rejected if r.message not in queued)
            senders = corrections.Senders(messages, decoded.headers)
            sorted_, corrected = self._standing(told, senders, now_ms)
            live = self._marked(sorted_, self._assessed(sorted_))
            seen = self.history.watch(sorted_.batch.take(sorted_.live), live, self.edges)
            past = rejudge_late(
                sorted_.batch.take(sorted_.late),
                sorted_.series[sorted_.late],
                self.history,
                self.store,
                self.marks,
                now_ms,
                (sorted_.batch.take(sorted_.live), pack(live.flag, live.tests)),
                self._past(now_ms, seen),
                senders,
            )
            live, noted = cross_check_live(
                sorted_.batch, sorted_.series, sorted_.live, sorted_.late, past.packed, live, self.history
            )
            packed = np.empty(len(sorted_.batch), np.int64)
            packed[sorted_.live], packed[sorted_.late] = pack(live.flag, live.tests), past.packed
            clock.lap("quality")
            findings, changed = self._check(sorted_, packed, live, past, seen, now_ms)
            findings = self._attributed(findings, sorted_.batch, messages, decoded.headers)
            clock.lap("check")
            stored, duplicate = _fates(sorted_, past, _without(accepted.batch, queued), len(messages))
            with self.database.write() as connection:
                if not self._rules_kept:  # before one of them raises anything
                    rule_versions.keep(connection, self.rules, self.catalogue, now_ms)
                keys = [s.key for s in self.history.registry.stations]
                again = self._earlier(live.reflag_series, live.reflag_at)
                self.store.write(connection, keys, sorted_.batch, packed)
                corrections.keep(connection, [*corrected, *past.corrected])
                self.store.reflag(connection, keys, again, live.reflag_packed)
                rows = sorted_.live
                learned = self.history.learned(sorted_.series[rows], sorted_.batch.at[rows], live.carried, seen)
                resumed = self.history.resuming_stations(sorted_.batch.station, sorted_.batch.at)
                detector_state.save(connection, learned + detector_state.resumed(keys, resumed))
                self.store.reflag(connection, keys, past.again, past.reflag_packed)
                late_queue.add(connection, [messages[i] for i in sorted(queued)])
                done = late_queue.remove(connection, messages)
                self._settle(connection, replayed, now_ms)
                held = quarantine.add(connection, self.history.registry, messages, decoded.headers, rejected)
                of_devices = self._of_devices(self._keep_notices(connection, messages, decoded), now_ms)
                of_devices += self.clocks.follow(decoded, messages, self.history.registry, self.history.checks.alarms)
                detector_state.save_clocks(connection, self.clocks.changed(now_ms))
                of_devices += maintenance_due.findings(
                    live.carried,
                    self.history.memory,
                    self.history.registry,
                    self.catalogue,
                    self.history.checks.alarms,
                    lambda: upkeep_store.load(connection),
                )
                of_devices += suspected_faults.findings(
                    (sorted_.series[rows], sorted_.batch.at[rows], sorted_.batch.value[rows]),
                    live,
                    self.history.memory,
                    self.history.registry,
                    self.catalogue,
                    self.history.checks.alarms,
                )
                findings = [*findings, *of_devices]
                changed = changed | apply_to_alarms(self.history.checks.alarms, of_devices)
                loggers.heard(connection, _newest_by_logger(messages, accepted.batch))
                self.ledger.count(
                    connection,
                    self.history.registry,
                    messages,
                    decoded.headers,
                    stored,
                    duplicate,
                    rejected,
                    repeated=held,
                    later=queued,
                )
                recorded = self._record(connection, findings, now_ms)
                alarm_store.save(connection, self.history.checks.alarms, changed)
            self._rules_kept = True
            clock.lap("store")
        except BaseException:
            self._fresh = False  # what was remembered may be ahead of what was stored: read it again
            raise
        self.late_waiting += len(queued) - done
        self._late |= dict.fromkeys(messages[i].station for i in queued)
        self.history.memory.apply(live.carried)
        self.history.memory.note(noted.series, noted.at, noted.packed)
        self.history.save_detection(seen)
        self.history.mark_stored(sorted_.series, sorted_.batch.at, resumed)
        try:
            for station in past.stations:
                self.history.load(station, now_ms)  # late data changed the past its memory and rules rest on
        except StorageUnavailable:
            self._fresh = False  # the batch is stored all the same: read everything again before the next one
        if findings:
            self.on_findings()
        clock.lap("remember")
        return Outcome(
            messages=len(messages),
            stored=stored,
            duplicate=duplicate,
            rejected=rejected,
            suspect=int((~usable(packed)).sum()),
            findings=tuple(findings),
            opened=recorded.opened,
            seconds=clock.laps,
            headers=decoded.headers,
            told=recorded.told,
        )

    def late_batch(self) -> list[Message]:
        """The next late messages to be judged: of the station that has waited longest; empty when none wait.

        They stay in the queue until they are processed.
        """
        if not self._fresh:
            self.refresh()
        if not self._late:
            return []
        station = next(iter(self._late))
        with self.database.read() as connection:
            found = late_queue.take(connection, station, LATE_AT_ONCE)
        del self._late[station]  # what cannot be processed is tried again after the next start
        if len(found) == LATE_AT_ONCE:
            self._late[station] = None  # there may be more: it has its turn after the others
        return found

    def _late_messages(self, batch: Batch, messages: Sequence[Message], now_ms: int) -> frozenset[int]:
        """The messages of the broker that hold nothing but late readings: they wait, so that live ones need not."""
        if not self.queue_late or self.late_waiting >= LATE_QUEUED:
            return frozenset()
        series = self.history.series(batch.station, batch.parameter, now_ms)
        late = batch.at <= self.history.newest[series]
        if not late.any():
            return frozenset()
        all_ = np.bincount(batch.message, minlength=len(messages))
        only = (np.bincount(batch.message[late], minlength=len(messages)) == all_) & (all_ > 0)
        found = np.flatnonzero(only).tolist()
        return frozenset(i for i in found if not messages[i].queued and _may_wait(messages[i]))

    def _record(self, connection: sa.Connection, findings: Sequence[Finding], now_ms: int) -> incident_store.Recorded:
        return incident_store.record(
            connection, findings, now_ms, source=self.source, place=self._place, policy=self.policy
        )

    def _place(self, subject: str) -> Place:
        """Where a station lies, or a gateway: in the region and on the reach that its stations have in common."""
        registry = self.history.registry
        regions = Regions(registry.regions)
        if subject in registry:
            s = registry[subject]
            return Place(regions.of_station(s), s.reach, s.lon, s.lat)
        behind = [s for s in registry.stations if s.gateway == subject]
        reaches = {s.reach for s in behind}
        region = regions.common(regions.of_station(s) for s in behind)
        return Place(region, reaches.pop() if len(reaches) == 1 else "")

    def handle_device_messages(self, messages: Sequence[Message], now_ms: int) -> Outcome:
        """Take in what devices say of themselves: connection state (retained, last will) and events."""
        if not self._fresh:
            self.refresh()
        rejected: list[Rejected] = []
        said: list[device_reports.DeviceReport] = []
        told: list[Finding] = []
        opened = 0
        messages, replayed = self._replays(messages)
        due = {held.id for held in replayed} | {None}
        try:
            with self.database.write() as connection:
                for i, message in enumerate(messages):
                    if message.replay_of not in due:
                        continue  # it was replayed before
                    if message.station not in self.history.registry:
                        rejected.append(Rejected(i, *validate.stranger(message.station), ()))
                    elif message.kind == "event":
                        if device_events.add(connection, message):
                            said += self._heard(message.station, message.payload, message.received_at_ms)
                    elif (online := device_events.online(message.payload)) is None:
                        rejected.append(
                            Rejected(i, Reason.WRONG_SHAPE, 'a status is {"online": true} or {"online": false}', ())
                        )
                    else:
                        registry_store.set_online(connection, message.station, online, message.received_at_ms)
                self._settle(connection, replayed, now_ms)
                quarantine.add(connection, self.history.registry, messages, [None] * len(messages), rejected)
                if told := self._of_devices(said, now_ms):
                    opened = self._record(connection, told, now_ms).opened
                    known = self.history.checks.alarms
                    alarm_store.save(connection, known, apply_to_alarms(known, told))
        except BaseException:
            self._fresh = False  # the alarms may be ahead of what was stored: read them again
            raise
        if told:
            self.on_findings()
        none = np.zeros(len(messages), np.int64)
        return Outcome(len(messages), none, none, tuple(rejected), 0, tuple(told), opened)

    def _heard(self, station: str, body: bytes, received_at_ms: int) -> list[device_reports.DeviceReport]:
        """What an event of a device says that somebody must look at, if anything."""
        one = device_reports.parse_report(self.history.registry[station], body, received_at_ms)
        return [] if one is None else [one]

    def _of_devices(self, said: Sequence[device_reports.DeviceReport], now_ms: int) -> list[Finding]:
        """What follows from what devices said."""
        if not said:
            return []
        late_ms = now_ms - int(self.late_s * 1000)
        return device_reports.findings(said, self.history.checks.alarms, self._excused, late_ms)

    def _excused(self, one: device_reports.DeviceReport) -> bool:
        return is_visited(self._visits, one.station.key, one.at_ms)

    def set_aside(self, message: Message, error: Exception, now_ms: int) -> Outcome:
        """Quarantine a message that cannot be processed now and keeps nobody waiting; it can be replayed later.

        A fault of ours keeps it from that, or a long-term store that does not answer.
        """
        if not self._fresh:
            self.refresh()
        rejected = (Rejected(0, Reason.OUR_FAULT, f"{type(error).__name__}: {error}"[:500]),)
        if isinstance(error, LongTermUnavailable):
            rejected = (Rejected(0, Reason.PAST_UNAVAILABLE, str(error)[:500]),)
        none = np.zeros(1, np.int64)
        if message.replay_of is not None:  # its entry is still held
            return Outcome(1, none, none, rejected, 0, (), 0)
        with self.database.write() as connection:
            self.late_waiting -= late_queue.remove(connection, [message])
            held = quarantine.add(connection, self.history.registry, [message], [None], rejected)
            self.ledger.count(connection, self.history.registry, [message], [None], none, none, rejected, repeated=held)
        return Outcome(1, none, none, rejected, 0, (), 0)

    def tick(self, connected_since_ms: int | None, now_ms: int) -> list[Finding]:
        """Look for stations that fell silent or speak again; what the clock asks between batches."""
        if not self._fresh:
            self.refresh()
        self._keep_rules(now_ms)
        self._count_left_out()
        try:
            cleared = self._follow_upkeep(now_ms)
            if not self.history.load_more(LOADED_AT_ONCE, now_ms):
                return cleared
            checks = self.history.checks
            registry, heard = self.history.registry, self.history.heard
            excused = muted_until(self._visits, registry.index, now_ms)  # a mute of all rules excuses silence, too
            sensors = LastSeen(self.history.station, self.history.parameter, self.history.newest, self.history.resumed)
            findings = checks.withdrawn(registry)
            findings += checks.tick(registry, heard, excused, connected_since_ms, now_ms, sensors)
            if findings:
                changed = apply_to_alarms(checks.alarms, findings)
                with self.database.write() as connection:
                    self._record(connection, findings, now_ms)
                    alarm_store.save(connection, checks.alarms, changed)
                self.on_findings()
        except BaseException:
            self._fresh = False
            raise
        return cleared + findings

    def _count_left_out(self) -> None:
        left_out = self.ledger.take_left_out()
        if not left_out:
            return
        try:
            with self.database.write() as connection:
                self.ledger.count_left_out(connection, left_out)
        except BaseException:
            for day, count in left_out.items():
                self.ledger.leave_out(day, count)
            raise

    def _follow_upkeep(self, now_ms: int) -> list[Finding]:
        """Mark and clear the stored readings as the checks and visits now recorded ask for; what cleared ones show.

        The marks in force move in the transaction that changes the verdicts: a crash at any moment leaves both as they
        were.
        """
        if not self._upkeep_due and now_ms < self._look_ms:
            return []
        with self.database.read() as connection:
            done = upkeep_store.load(connection)
            mutes = [one for _, one in upkeep_store.mutes(connection)]
        history, before = self.history, self.marks
        history.checks.mute(mutes)
        drifted, self._look_ms = self.returns.spans(
            history.registry, done, before.spans, self.store, self.catalogue, now_ms
        )
        wanted = Marks(mark_spans(history.registry, done) | drifted, history.registry.index, self.catalogue)
        told: Sequence[Finding] = ()
        if wanted.spans != before.spans:
            moved = apply_marks(before, wanted, history, self.store, now_ms, done.reviews, self._past(now_ms))
            changed = apply_to_alarms(history.checks.alarms, moved.lasting)
            told = sorted(moved.findings, key=_order)
            with self.database.write() as connection:
                keys = [s.key for s in history.registry.stations]
                self.store.reflag(connection, keys, moved.batch, moved.packed)
                upkeep_store.save_marks(connection, before.spans, wanted.spans)
                self._record(connection, told, now_ms)
                alarm_store.save(connection, history.checks.alarms, changed)
            self.marks = wanted
            for station in moved.stations:
                history.load(station, now_ms)
            if told:
                self.on_findings()
        self._visits, self._upkeep_due = (*done.visits, *_as_visits(mutes)), False
        return list(told)

    # -- stages that need what the site remembers --------------------------------------------------------------------

    def _check(
        self,
        sorted_: "_Sorted",
        packed: Ints,
        live: QualityResult,
        past: LateVerdict,
        seen: CombinedDetection,
        now_ms: int,
    ) -> tuple[list[Finding], set[Key]]:
        """All findings of the batch, and the alarms they change."""
        checks = self.history.checks
        memory = self.history.memory
        again, at, verdict = live.reflag_series, live.reflag_at, live.reflag_packed
        if len(again):
            # readings of earlier batches lost their good name: take them out of what already rests on them
            place = (memory.at[again] == at[:, None]).argmax(axis=1)
            checks.withdraw(again, at, memory.value[again, place], memory.packed[again, place], verdict)
        rows, batch = sorted_.live, sorted_.batch
        findings = checks.evaluate(sorted_.series[rows], batch.at[rows], batch.value[rows], packed[rows], now_ms)
        findings += checks.sudden.live(
            seen,
            self.history.last_alarm,
            batch.station[sorted_.live],
            batch.at[sorted_.live],
            self.history.registry.stations,
            lambda station: self.history.measured(station, batch),
            now_ms,
        )
        # in the order of events, so that what is told does not hang on the order in which series were first heard
        told = [*sorted(findings, key=_order), *sorted(past.findings, key=_order)]
        joined = group_by_cause(told, self.river, self.database, now_ms)
        timely, late = joined[: len(findings)], zip(joined[len(findings) :], told[len(findings) :], strict=True)
        lasting = [one for one, said in late if said in past.lasting]
        changed = apply_to_alarms(checks.alarms, timely) | apply_to_alarms(checks.alarms, lasting)
        return joined, changed

    def _heed(self, station: Codes, now_ms: int) -> None:
        """Know of the stations that are asked when readings of these are judged, also right after a start."""
        if not self.history.whole:
            mine = distinct(station).tolist()
            near = {other for one in mine for other in self.network.get(one, ())}
            above = {way.above for one in mine for way in self.flow.above.get(one, ())}
            self.history.ensure_loaded([*mine, *near, *above], now_ms)

    def _past(self, now_ms: int, seen: CombinedDetection | None = None) -> late_events.PastEvents:
        """The events of the past, as this batch or a correction finds them."""

        def known(station: str) -> Sequence[late_events.PublishedEvent]:
            with self.database.read() as connection:
                return late_events.published_events(connection, station, [rule.id for rule in self.rules.events])

        return late_events.PastEvents(self.history, self.flow, known, now_ms, None if seen is None else seen.alarms)

    def _standing(
        self, told: Batch, senders: corrections.Senders, now_ms: int
    ) -> tuple["_Sorted", list[corrections.Correction]]:
        """The readings that count, sorted, and what of the batch itself they replaced.

        What says again a value that was replaced since is known already.
        """
        sorted_ = _sort(told, self.history, now_ms)
        registry, batch, late = self.history.registry, sorted_.batch, sorted_.late
        if len(late):
            stations = {registry.stations[i].key for i in np.unique(batch.station[late]).tolist()}
            with self.database.read() as connection:
                known = corrections.replaced(connection, stations, int(batch.at[late].min()), int(batch.at[late].max()))
            gone = late[corrections.superseded(batch, late, senders, known, registry)] if known else late[:0]
            if len(gone):
                sorted_ = _sort(batch.take(np.setdiff1d(np.arange(len(batch)), gone)), self.history, now_ms)
        return sorted_, _replaced(told, sorted_.batch, senders, registry)

    def _assessed(self, sorted_: "_Sorted") -> QualityResult:
        return check_quality(*sorted_.live_columns(), self.history.memory, self.catalogue, network=self.network)

    def _marked(self, sorted_: "_Sorted", live: QualityResult) -> QualityResult:
        """The verdicts with the marks of checks and visits, also on what is remembered of the series."""
        if not self.marks.spans:
            return live
        history, batch = self.history, sorted_.batch
        rows, again, carried = sorted_.live, live.reflag_series, live.carried
        packed = self.marks.apply_marks(
            batch.station[rows], batch.parameter[rows], batch.at[rows], pack(live.flag, live.tests)
        )
        flag, tests = unpack(packed)
        which = np.repeat(carried.series, carried.at.shape[1])
        kept = self.marks.apply_marks(
            history.station[which], history.parameter[which], carried.at.ravel(), carried.packed.ravel()
        )
        return replace(
            live,
            flag=flag,
            tests=tests,
            reflag_packed=self.marks.apply_marks(
                history.station[again], history.parameter[again], live.reflag_at, live.reflag_packed
            ),
            carried=replace(carried, packed=kept.reshape(carried.packed.shape)),
        )

    def _attributed(
        self,
        findings: Sequence[Finding],
        batch: Batch,
        messages: Sequence[Message],
        headers: Sequence[Header | None],
    ) -> list[Finding]:
        """The findings with the id of the message that brought the deciding reading, where it is of this batch."""
        stations, parameters = self.history.registry.index, self.catalogue.index

        def brought_by(finding: Finding) -> str | None:
            rows = np.flatnonzero(batch.station == stations.get(finding.station, -1))
            rows = rows[batch.at[rows] == finding.observed_at_ms]
            if finding.parameter is not None:
                rows = rows[batch.parameter[rows] == parameters[finding.parameter]]
            if not len(rows):
                return None
            i = int(batch.message[rows[-1]])
            return telemetry.message_id(messages[i], headers[i])

        return [replace(finding, message=brought_by(finding)) for finding in findings]

    def _earlier(self, series: Codes, at: Ints) -> Batch:
        history = self.history
        return Batch.of(
            history.station[series].tolist(), history.parameter[series].tolist(), at.tolist(), [0.0] * len(at)
        )

    def _addressed(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages with the stations they are of; one registered a moment ago is known."""
        messages = mapping.addressed(messages, self.mappings)
        found = addressed(messages, self.loggers, self.catalogue)
        index = self.history.registry.index
        if not all(m.station in index for m in found) and self.follow_registry():
            found = addressed(messages, self.loggers, self.catalogue)
        return found

    def _keep_notices(
        self, connection: sa.Connection, messages: Sequence[Message], decoded: Decoded
    ) -> list[device_reports.DeviceReport]:
        """What a logger says of itself in a frame, kept as an event of its station; what of it is new and matters."""
        new: list[device_reports.DeviceReport] = []
        for i, body in decoded.notices.items():
            message = messages[i]
            known = message.only is None or message.replay_of is None
            if known and device_events.add_once(connection, message.station, message.received_at_ms, body):
                new += self._heard(message.station, body.encode(), message.received_at_ms)
        return new

    def _replays(self, messages: Sequence[Message]) -> tuple[Sequence[Message], list[quarantine.Held]]:
        """The entries that are handed in again; one that was replayed before has nothing left to give."""
        if all(m.replay_of is None for m in messages):
            return messages, []
        found: dict[int, quarantine.Held] = {}
        replays: list[Message] = []
        with self.database.read() as connection:
            for message in messages:
                if message.replay_of is None:
                    replays.append(message)
                    continue
                held = quarantine.get(connection, message.replay_of)
                first = held.status == quarantine.HELD and held.id not in found
                if held.reason == Reason.STORE_REFUSED.key:
                    # the reading itself is stored: what is handed in again is its line for the time-series server
                    replays.append(replace(message, only=frozenset()))
                    if first and self.spool is not None:
                        found[held.id] = held
                    continue
                replays.append(message if first else replace(message, only=frozenset()))
                if first:
                    found[held.id] = held
        return replays, list(found.values())

    def _settle(self, connection: sa.Connection, replayed: Sequence[quarantine.Held], now_ms: int) -> None:
        """Entries leave quarantine; what of them is refused again has a new entry."""
        for held in replayed:
            if held.refused:
                self.ledger.undo(connection, held.account, held.day, len(held.refused))
            if held.reason == Reason.STORE_REFUSED.key and self.spool is not None:
                self.spool.add_lines(connection, [held.payload])
        quarantine.settle(connection, [held.id for held in replayed], quarantine.REPLAYED, now_ms)

    def _keep_rules(self, now_ms: int) -> None:
        """Write down, once, which rules are in force from here on, before one of them raises anything."""
        if not self._rules_kept:
            with self.database.write() as connection:
                rule_versions.keep(connection, self.rules, self.catalogue, now_ms)
            self._rules_kept = True

    # -- memory ------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Remember nothing but what the stores say: after a start, a failed batch or a changed registry."""
        with self.database.read() as connection:
            registry = registry_store.load(connection, self.catalogue)
            self._fingerprint = registry_store.fingerprint(connection)
            self.loggers: Mapping[str, Logger] = loggers.load(connection)
            known = alarm_store.load(connection)
            off = detector_state.clocks(connection)
            back = alarm_store.gateway_recoveries(connection)
            fired = alarm_store.past_firings(connection, self.rules.flapping_ms())
            waiting = late_queue.waiting(connection)
            mutes = [one for _, one in upkeep_store.mutes(connection)]
            self._visits = (*(one for _, one in upkeep_store.visits(connection)), *_as_visits(mutes))
            self.marks = Marks(upkeep_store.marks(connection), registry.index, self.catalogue)
        self._late, self.late_waiting = dict.fromkeys(waiting), sum(waiting.values())
        self.store.forget()
        self.ledger.forget()
        checks = RuleEngine(self.rules, self.catalogue, known, self.late_s, registry, back, fired, self._told)
        checks.mute(mutes)
        self._lay_out(registry)
        self.clocks = ClockMonitor(off)
        self.history = SeriesHistory(registry, self.store.at_hand, checks, self.catalogue, self._learned)
        self.history.network = self.network
        self._fresh = True

    def _lay_out(self, registry: Registry) -> None:
        """Which stations lie above and below which."""
        self.river = River(registry)
        self.edges = water_events.station_edges(registry, self.river)
        self.flow = late_events.FlowGraph.of(self.edges)
        self.network = neighbour_stations(self.edges)

    def _told(self, key: Key) -> Sequence[PublishedExceedance]:
        with self.database.read() as connection:
            return alarm_store.published_exceedances(connection, key)

    def _learned(self, station: str) -> Mapping[str, detector_state.SavedState]:
        with self.database.read() as connection:
            return detector_state.load(connection, station)

    def follow_registry(self) -> bool:
        """Take up stations that were registered meanwhile; true when there were any."""
        with self.database.read() as connection:
            fingerprint = registry_store.fingerprint(connection)
            if fingerprint == self._fingerprint:
                return False
            registry = registry_store.load(connection, self.catalogue)
            self.loggers = loggers.load(connection)
        self._upkeep_due = True
        known = self.history.registry
        try:
            if (registry.reaches, registry.regions) != (known.reaches, known.regions):
                raise ValueError("targets or regions changed: rules speak of other stations now")
            self.history.adopt(registry)
            self.history.checks.follow(registry)
            self._lay_out(registry)
            self.history.network = self.network
            self._fingerprint = fingerprint
        except ValueError:
            self.refresh()
        return True


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A batch in the order of its series, each key once, told apart into what continues a series and what is late."""

    batch: Batch
    series: Ints
    live: Places
    late: Places

    def live_columns(self) -> tuple[Ints, Codes, Ints, Floats, Bytes]:
        rows, batch = self.live, self.batch
        return self.series[rows], batch.parameter[rows], batch.at[rows], batch.value[rows], batch.status[rows]


def _sort(batch: Batch, history: SeriesHistory, now_ms: int) -> _Sorted:
    """By (series, at); of two readings with one key in a batch the one that arrived last counts."""
    series = history.series(batch.station, batch.parameter, now_ms)
    order = np.lexsort((batch.message, batch.at, series))
    batch, series = batch.take(order), series[order]
    last = np.ones(len(series), np.bool_)
    last[:-1] = (series[1:] != series[:-1]) | (batch.at[1:] != batch.at[:-1])
    if not last.all():
        kept = np.flatnonzero(last)
        batch, series = batch.take(kept), series[kept]
    newer = batch.at > history.newest[series]
    if not newer.all():
        # where a series has late readings, its new ones rest on them: all are judged together, in their neighbourhood
        newer &= ~np.isin(series, series[~newer])
    return _Sorted(batch, series, np.flatnonzero(newer), np.flatnonzero(~newer))


def _replaced(
    told: Batch, kept: Batch, senders: corrections.Senders, registry: Registry
) -> list[corrections.Correction]:
    """What a batch says of one instant before it says something else."""
    if len(told) == len(kept):
        return []
    values = {key: row for row, key in enumerate(_keys(kept))}
    pairs = [(values[key], value) for key, value in zip(_keys(told), told.value.tolist(), strict=True) if key in values]
    rows = np.array([row for row, _ in pairs], np.intp)
    return corrections.corrections_of(kept, rows, [value for _, value in pairs], senders, registry)


def _keys(batch: Batch) -> list[tuple[int, int, int]]:
    return list(zip(batch.station.tolist(), batch.parameter.tolist(), batch.at.tolist(), strict=True))


def _as_visits(mutes: Sequence[Mute]) -> list[Visit]:
    """Planned work as far as silence is concerned."""
    return [Visit(one.station, one.since_ms, one.until_ms) for one in mutes if not one.rules]


def _may_wait(message: Message) -> bool:
    """Whether nobody waits for what becomes of the readings: the broker is content when they are durable."""
    return message.source in ("mqtt", mapping.SOURCE) and message.replay_of is None


def _without(batch: Batch, messages: Collection[int]) -> Batch:
    """The readings of the other messages."""
    return batch.take(np.flatnonzero(~np.isin(batch.message, list(messages)))) if messages else batch


def _order(finding: Finding) -> tuple[int, int, str, str]:
    return finding.observed_at_ms, finding.colour.rank, finding.station, finding.rule


def _fates(sorted_: _Sorted, past: LateVerdict, accepted: Batch, messages: int) -> tuple[Ints, Ints]:
    """(messages,) how many readings of each message are new, and how many were there already."""
    arrived = np.bincount(accepted.message, minlength=messages)
    new = np.concatenate([sorted_.batch.message[sorted_.live], sorted_.batch.message[sorted_.late[past.new]]])
    stored = np.bincount(new, minlength=messages)
    return stored, arrived - stored


def _newest_by_logger(messages: Sequence[Message], accepted: Batch) -> dict[str, int]:
    """The newest reading of each HJ 212 logger in the batch, by MN."""
    newest: dict[str, int] = {}
    framed = {i: mn for i, m in enumerate(messages) if m.source == SOURCE and (mn := mn_of(m))}
    if framed:
        for i, at in zip(accepted.message.tolist(), accepted.at.tolist(), strict=True):
            if i in framed:
                newest[framed[i]] = max(newest.get(framed[i], at), at)
    return newest


class _Stopwatch:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now
