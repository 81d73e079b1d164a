"""Play a scenario through the whole system and compare the outcome with its truth.

The scenario's samples go through the troubles of their devices and reach a :class:`~ingest.pipeline.Site` on a
throw-away store, in the order and as late as they would arrive, in batches of a quarter of an hour of event time. What
it flagged, found and raised is then held against the truth; nothing here judges water.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

import governance.tables as governed
from governance.incidents.finding import ConditionChange, Finding, FindingKind
from infra.database import Database
from infra.errors import ConfigurationError
from infra.texts import say
from infra.times import DAY_MS, FUTURE_MS, HOUR_MS, rfc3339
from ingest import ledger
from ingest.analysis import backtest, source_attribution
from ingest.analysis.backtest import WATER_KINDS, count_pages, incident_stations
from ingest.pipeline import Site
from ingest.rules import device_clock
from ingest.rules import water_events as sudden
from ingest.rules.engine import LATE_AFTER_S
from ingest.rules.model import Rules
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.port import ReadingStore
from ingest.storage.sql import SqlReadings
from riverchief import files, simulate_table
from riverchief.settings import Settings
from sensors.maintenance import Visit
from sensors.parameters import Catalogue, catalogue
from sensors.quality.events import EventCause
from sensors.reading import PLAIN, Bools, Flag, Ints, Message, QualityTest, unpack
from sensors.stations import Registry, Station
from simulator import truth
from simulator.devices.reported_values import Reporting
from simulator.devices.sensor_faults import Instruments, Measured
from simulator.devices.transport import Fate, Transmission, Transport
from simulator.devices.transport import TransmissionKind as Sent
from simulator.physics import water
from simulator.run_record import RunRecord
from simulator.scenario import DISCHARGES, EventKind, Fault, FaultKind, Scenario
from simulator.source import measured
from simulator.truth import Passage
from tools.score import matching
from tools.score.matching import Span, Thing

LEAD_DAYS = 5.0
"""The site has watched its water for so long before the scenario begins; the first three days no event is told."""
SLICE_MS = 900_000
"""Event time of a batch. How a record is cut changes no verdict; only silence is looked for once a batch."""
STRETCH_MS = 6 * HOUR_MS
QUIET_MS = 6 * HOUR_MS
"""An event is over after so long without another alarm, as the site's own finding says."""
TOP_SOURCES = 3
"""A source is traced where it is among so many."""
VISIT_MS = 1_800_000
AUTHOR = "示例 example"
"""How long somebody stays, and who it is."""
NAMES = {
    EventKind.SEWAGE: EventCause.SEWAGE,
    EventKind.OVERFLOW: EventCause.OVERFLOW,
    EventKind.ACID: EventCause.ACID,
    EventKind.ALKALI: EventCause.ALKALI,
    EventKind.BRINE: EventCause.SALT,
    EventKind.BLOOM: EventCause.BLOOM,
    EventKind.LOW_OXYGEN: EventCause.OXYGEN_SAG,
    EventKind.DREDGING: EventCause.SEDIMENT,
}
"""What the detector ought to say each kind looks like."""
SHARE_OF_WATER = 0.25
"""Of the whole work, about."""

Progress = Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident that was raised; ``rule`` raised it, ``pages`` how often it called somebody."""

    id: int
    kind: str
    rule: str
    colour: str
    station: str
    stations: tuple[str, ...]
    since_ms: int
    retrospective: bool
    pages: int
    title: str


@dataclass(frozen=True, slots=True)
class Tracing:
    """An incident of a discharge with an outfall: which one it was, and its place among the candidates, from 1 on.

    ``place`` is None where it is no candidate at all.
    """

    event: str
    outfall: str
    station: str
    incident: int
    place: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """Readings that left the devices, compared with the ledger.

    ``lost`` went away on the line, ``missing`` the ledger says are missing; None where it knows that something is but
    not how much. ``unknowable`` of the lost ones were the last of their device before the run ended or it restarted:
    no number after them tells.
    """

    sent: int
    lost: int
    unknowable: int
    stored: int
    duplicate: int
    quarantined: int
    missing: int | None
    fates: Mapping[str, int]

    @property
    def right(self) -> bool:
        return self.missing is not None and self.lost - self.unknowable <= self.missing <= self.lost


@dataclass(frozen=True, slots=True)
class Score:
    """What a run came to; ``months`` are station-months that were scored.

    ``false_faults`` and ``false_events`` are alarms without a cause, ``false_by`` the former by parameter and the test
    that spoke. ``natural_events`` are event alarms while something natural happened (rain, a gate, a salt tide),
    ``fault_events`` those at the beginning or end of a fault, ``doubtful`` those told as such. ``natural_samples`` are
    good samples of natural times, ``natural_flagged`` of them those that lost their good flag.
    """

    scenario: str
    seed: int
    days: float
    stations: int
    months: float
    readings: int
    faults: tuple[Thing, ...]
    events: tuple[Thing, ...]
    false_faults: int
    false_events: int
    natural_events: int
    fault_events: int
    doubtful: int
    false_by: Mapping[str, int]
    natural_samples: int
    natural_flagged: int
    incidents: tuple[Incident, ...]
    traced: tuple[Tracing, ...]
    account: Account

    @property
    def pages(self) -> int:
        return sum(one.pages for one in self.incidents)

    @property
    def pages_a_week(self) -> float:
        return self.pages * 7 / self.days

    @property
    def label_right(self) -> tuple[int, int]:
        """Of all things that were called a fault or an event: how many were called the right one and not the other."""
        called = [(t.fault, t.event) for t in self.faults if t.fault or t.event]
        right = sum(fault and not event for fault, event in called)
        called_events = [(t.fault, t.event) for t in self.events if t.fault or t.event]
        right += sum(event and not fault for fault, event in called_events)
        return right, len(called) + len(called_events)

    @property
    def name_right(self) -> tuple[int, int]:
        """Of the detected events: how many with the right cause, and how many with any; "unclear" is none."""
        named = [thing for thing in self.events if thing.named_as]
        return sum(NAMES.get(EventKind(thing.kind)) == thing.named_as for thing in named), len(named)


# -- the run -----------------------------------------------------------------------------------------------------------


def score(
    name: str,
    settings: Settings,
    *,
    seed: int,
    on_progress: Progress = lambda share: None,
    lead_days: float = LEAD_DAYS,
) -> Score:
    """Run the system with the site's rules on a scenario; raises ConfigurationError with file, line and reason."""
    known = catalogue()
    site = files.read_stations(settings.site.stations, known)
    scenario = simulate_table.read(name, site)
    if scenario.generated is not None:
        raise ConfigurationError(say("simulate.made_up", name=name))
    rules = files.read_rules(settings.site.rules, known)
    with played(
        scenario, scenario.registry(site), rules, seed=seed, lead_days=lead_days, on_progress=on_progress
    ) as run:
        return run.score()


@contextmanager
def played(
    scenario: Scenario,
    registry: Registry,
    rules: Rules,
    *,
    seed: int,
    lead_days: float = LEAD_DAYS,
    on_progress: Progress = lambda share: None,
) -> Iterator["Run"]:
    """A scenario played into a site on a store that is thrown away at the end of the block."""
    with backtest.temporary_database() as database:
        with database.write() as connection:
            registry_store.save(connection, registry)
        run = Run(database, scenario, registry, rules, seed=seed, lead_days=lead_days)
        run.fill(on_progress)
        run.play(on_progress)
        yield run


class Run:
    """A scenario that is played into a site, with days of the same water before it, and what came of it.

    ``findings`` and ``messages`` stand in the order in which they were told and arrived.
    """

    def __init__(
        self, database: Database, scenario: Scenario, registry: Registry, rules: Rules, *, seed: int, lead_days: float
    ) -> None:
        self.asked, self.registry, self.seed = scenario, registry, seed
        self.catalogue = catalogue()
        self.database = database
        self.doubtful = {rule.id for rule in rules.events if rule.kinds == (EventCause.DOUBTFUL,)}
        self.store = SqlReadings(database, self.catalogue)
        self.site = Site(database, self.store, rules, self.catalogue, late_s=LATE_AFTER_S + SLICE_MS // 1000)
        begin_ms = scenario.start_ms - round(lead_days * DAY_MS)
        self.scenario = replace(scenario, start_ms=begin_ms, days=scenario.days + lead_days)
        self.world = water.of(registry, self.scenario, seed=seed)
        self.instruments = Instruments(registry, self.scenario, self.world, seed=seed, known=self.catalogue)
        self.record = RunRecord()
        self.findings: list[Finding] = []
        self.messages: list[Message] = []
        self._newest: dict[tuple[str, int], int] = {}
        """(station, boot) → the highest number that arrived."""

    def fill(self, on_progress: Progress = lambda share: None) -> None:
        """The water of the whole time."""
        begin_ms, end_ms = self.world.now_ms, self.scenario.end_ms
        while self.world.now_ms < end_ms:
            self.world.advance(min(self.world.now_ms + STRETCH_MS, end_ms))
            on_progress(SHARE_OF_WATER * (self.world.now_ms - begin_ms) / (end_ms - begin_ms))

    def play(self, on_progress: Progress = lambda share: None) -> None:
        """Everything from the devices to the incidents, in event time."""
        scenario = self.scenario
        transports = {
            s.key: Transport(s.key, scenario.on_the_way, seed=self.seed, boot=1, settled=self.record)
            for s in self.registry.stations
        }
        report = Reporting(self.registry)
        moment = [scenario.start_ms]
        tracer = source_attribution.AttributionWorker(
            self.database, self.store, self.catalogue, clock_ms=lambda: moment[0], source=self.site.source
        )
        make = measured(self.registry, scenario, self.world, self.instruments)
        for from_ms in range(scenario.start_ms, scenario.end_ms, STRETCH_MS):
            until_ms = min(from_ms + STRETCH_MS, scenario.end_ms)
            samples = list(make(from_ms, until_ms))
            next_ = 0
            for slice_ms in range(from_ms, until_ms, SLICE_MS):
                moment[0] = to_ms = min(slice_ms + SLICE_MS, until_ms)
                transmissions: list[Transmission] = []
                while next_ < len(samples) and samples[next_][1].at_ms < to_ms:
                    key, sample = samples[next_]
                    transmissions += transports[key].take(report(key, sample))
                    next_ += 1
                for transport in transports.values():
                    if (due := transport.next_ms) is not None and due <= to_ms:
                        transmissions += transport.advance(to_ms)
                self._arrive(transmissions, to_ms)
                self._visited(slice_ms, to_ms)
                self.findings += self.site.tick(scenario.start_ms, to_ms)
                if to_ms % HOUR_MS == 0:
                    tracer.round()
            backtest.close_ended_incidents(self.database, until_ms - backtest.CLOSED_AFTER_MS, until_ms)
            share = (until_ms - scenario.start_ms) / (scenario.end_ms - scenario.start_ms)
            on_progress(SHARE_OF_WATER + (1 - SHARE_OF_WATER) * share)
        self._arrive([p for t in transports.values() for p in t.finish(scenario.end_ms)], scenario.end_ms)

    def _visited(self, from_ms: int, to_ms: int) -> None:
        """People write down their visits when they come; half an hour each."""
        came: dict[tuple[str, int], list[tuple[str, ...]]] = {}
        for one in self.instruments.visits:
            if from_ms <= one.at_ms < to_ms and one.station in self.registry:
                came.setdefault((one.station, one.at_ms), []).append(one.parameters)
        if not came:
            return
        with self.database.write() as connection:
            for (station, at_ms), worked_on in came.items():
                parameters = tuple(sorted({p for of in worked_on for p in of})) if all(worked_on) else ()
                visit = Visit(station, at_ms, at_ms + VISIT_MS, parameters, AUTHOR)
                maintenance_store.begin_visit(connection, visit, Author(AUTHOR, at_ms))
        self.site.follow_registry()

    def _arrive(self, transmissions: Sequence[Transmission], now_ms: int) -> None:
        """A batch reaches the site in the order in which it left the devices; what was held up is among it."""
        messages = [_message(put, now_ms) for put in transmissions]
        telemetry = [m for m in messages if m.kind == "telemetry"]
        for put in transmissions:
            if put.message is not None:
                number = (put.station, put.message.boot or 0)
                self._newest[number] = max(self._newest.get(number, -1), put.message.seq or 0)
        self.messages += telemetry
        if telemetry:
            self.findings += self.site.process(telemetry, now_ms).findings
        if other := [m for m in messages if m.kind != "telemetry"]:
            self.site.handle_device_messages(other, now_ms)

    def score(self) -> Score:
        """Compare the outcome with the truth, from the beginning of the scenario as it was asked for."""
        asked = self.asked
        tally = _Tally(
            event_alarms(self.findings, self.doubtful), _water_alarms(self.findings), _by_station(self.record)
        )
        for station in self.registry.stations:
            self._score_station(station, tally)
        incidents = incidents_of(self.database, asked.start_ms)
        return Score(
            scenario=asked.key,
            seed=self.seed,
            days=asked.days,
            stations=len(self.registry.stations),
            months=tally.months,
            readings=sum(len(of.sample.values) for of in self.record if of.sample.at_ms >= asked.start_ms),
            faults=tuple(tally.faults),
            events=tuple(tally.events),
            false_faults=sum(tally.false_by.values()),
            false_events=tally.false_events,
            natural_events=tally.natural_events,
            fault_events=tally.fault_events,
            doubtful=sum(
                one.rule in self.doubtful
                and one.change is ConditionChange.FIRED
                and one.observed_at_ms >= asked.start_ms
                for one in self.findings
            ),
            false_by={f"{parameter} {tests}": n for (parameter, tests), n in sorted(tally.false_by.items())},
            natural_samples=tally.natural_samples,
            natural_flagged=tally.natural_flagged,
            incidents=incidents,
            traced=_traced(self.database, incidents, tally.passages),
            account=self._account(),
        )

    def _score_station(self, station: Station, tally: "_Tally") -> None:
        asked, instruments = self.asked, self.instruments
        at_ms, step_ms = truth.instants(asked, station)
        readings = instruments.read(station, at_ms, step_ms)
        happened = truth.happened(self.world, station, at_ms, list(readings))
        tally.passages += happened.passages
        tally.months += len(at_ms) * step_ms / matching.MONTH_MS
        alarms = [a for a in tally.event_alarms.get(station.key, ()) if a.end_ms >= asked.start_ms]
        reported_ms, arrived = tally.reports.of(station.key, at_ms)
        flags = _flags(self.store, station.key, self.catalogue, reported_ms[arrived])
        tolerance_ms = matching.TOLERANCE_STEPS * step_ms
        passages = [Span(p.first_ms, p.last_ms) for p in happened.passages]
        natural = list(matching.runs(at_ms[happened.natural], matching.MERGE_STEPS * step_ms))
        unexplained = [
            alarm for alarm in alarms if not any(alarm.touches(span, tolerance_ms) for span in (*passages, *natural))
        ]
        faults = instruments.faults_during(station, asked.start_ms, asked.end_ms, step_ms)
        fault_alarms: set[Span] = set()
        samples: list[_Samples] = []
        for parameter, reading in readings.items():
            stored_ms, packed = flags.get(parameter, (_NONE, _NONE))
            of_sensor = _Samples.judge(station, parameter, reading, at_ms, reported_ms, arrived, stored_ms, packed)
            samples.append(of_sensor)
            tally.natural_samples += int((of_sensor.good & happened.natural).sum())
            tally.natural_flagged += int((of_sensor.flagged & ~of_sensor.wrong & happened.natural).sum())
            fault_alarms |= _score_sensor(of_sensor, faults, unexplained, tolerance_ms, tally)
        tally.faults += _silences(self.findings, station, faults, asked)
        tally.faults += _clocks(self.findings, station, faults, asked)
        for passage, span in zip(happened.passages, passages, strict=True):
            event = self._score_passage(station, passage, span, alarms, samples, tolerance_ms, tally)
            tally.events.append(event)
        tally.fault_events += len(fault_alarms)
        tally.false_events += matching.count([alarm for alarm in unexplained if alarm not in fault_alarms], step_ms)
        tally.natural_events += sum(
            not any(alarm.touches(span, tolerance_ms) for span in passages) for alarm in alarms
        ) - len(unexplained)

    def _score_passage(
        self,
        station: Station,
        passage: Passage,
        span: Span,
        alarms: Sequence[Span],
        samples: Sequence["_Samples"],
        tolerance_ms: int,
        tally: "_Tally",
    ) -> Thing:
        """What was made of an event that passed a station."""
        delay_ms = matching.first_touch(alarms, span, tolerance_ms)
        rules_ms = matching.first_touch(tally.rule_alarms.get(station.key, ()), span, tolerance_ms)
        by = tuple(n for n, found in (("event", delay_ms), ("rule", rules_ms)) if found is not None)
        first = min((d for d in (delay_ms, rules_ms) if d is not None), default=None)
        as_fault = any(_mostly(one.good & one.within(span), one.flagged) for one in samples)
        named_as = "" if delay_ms is None else _name(self.findings, self.doubtful, station.key, span, tolerance_ms)
        return Thing(
            str(passage.event.kind),
            station.key,
            "",
            span,
            first,
            as_fault,
            delay_ms is not None,
            by,
            passage.event.name,
            named_as,
        )

    def _account(self) -> Account:
        fates: Counter[str] = Counter()
        sent = lost = unknowable = 0
        for one in self.record:
            readings = len(one.sample.values)
            fates[one.fate.value] += readings
            if one.fate is Fate.SENT:
                sent += readings
            elif one.fate is Fate.LOST:
                lost += readings
                if (one.seq or 0) > self._newest.get((one.station, one.boot or 0), -1):
                    unknowable += readings
        with self.database.read() as connection:
            accounts = ledger.accounts(connection, limit=10_000_000)
        unknown = any(a.missing is None for a in accounts)
        return Account(
            sent=sent,
            lost=lost,
            unknowable=unknowable,
            stored=sum(a.stored for a in accounts),
            duplicate=sum(a.duplicate for a in accounts),
            quarantined=sum(a.quarantined for a in accounts),
            missing=None if unknown else sum(a.missing or 0 for a in accounts),
            fates=dict(sorted(fates.items())),
        )


_NONE: Ints = np.empty(0, np.int64)


@dataclass(slots=True)
class _Tally:
    """What the stations add up to; alarms by station, of the event detector and of the other rules for the water."""

    event_alarms: Mapping[str, list[Span]]
    rule_alarms: Mapping[str, list[Span]]
    reports: "_Reports"
    months: float = 0.0
    faults: list[Thing] = field(default_factory=list)
    events: list[Thing] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    false_by: Counter[tuple[str, str]] = field(default_factory=Counter)
    false_events: int = 0
    natural_events: int = 0
    fault_events: int = 0
    natural_samples: int = 0
    natural_flagged: int = 0


@dataclass(frozen=True, slots=True)
class _Samples:
    """The samples of one sensor, (n,) each: which were judged, flagged, truly good and truly wrong, and why."""

    station: Station
    parameter: str
    at_ms: Ints
    verdict: Ints
    judged: Bools
    flagged: Bools
    good: Bools
    wrong: Bools
    kinds: NDArray[np.object_]

    @classmethod
    def judge(
        cls,
        station: Station,
        parameter: str,
        reading: Measured,
        at_ms: Ints,
        reported_ms: Ints,
        arrived: Bools,
        stored_ms: Ints,
        packed: Ints,
    ) -> "_Samples":
        """Join the true readings with the verdicts stored under the device's times."""
        place = np.searchsorted(stored_ms, reported_ms)
        known = np.append(stored_ms, -2)[place] == reported_ms
        verdict = np.append(packed, PLAIN)[place]
        visited = (verdict >> 4 & QualityTest.MAINTENANCE) != 0  # nobody asks then what the sensor says
        judged = arrived & (reading.bad >= 0) & known & ~visited
        flagged = judged & ((verdict & 15) >= Flag.SUSPECT)
        wrong = judged & (reading.bad == 1)
        kinds = np.array(reading.kind, object)
        return cls(station, parameter, at_ms, verdict, judged, flagged, judged & ~wrong, wrong, kinds)

    def within(self, span: Span) -> Bools:
        return (self.at_ms >= span.start_ms) & (self.at_ms <= span.end_ms)


def _score_sensor(
    samples: _Samples, faults: Sequence[Fault], alarms: Sequence[Span], tolerance_ms: int, tally: _Tally
) -> set[Span]:
    """Count the faults of a sensor and the flags without one; the event alarms that belong to its faults."""
    at_ms, step_ms = samples.at_ms, matching.step_of(samples.at_ms[samples.judged])
    spans: list[Span] = []
    fault_alarms: set[Span] = set()
    for fault in faults:
        if fault.parameter not in ("", samples.parameter):
            continue
        of_kind = samples.wrong & (samples.kinds == str(fault.kind))
        its = of_kind & (at_ms >= fault.start_ms) & (at_ms < fault.end_ms)
        if not its.any():
            continue
        span = _around(at_ms[its])
        spans.append(span)
        delay_ms = matching.first_sample(at_ms[samples.flagged], span, matching.TOLERANCE_STEPS * step_ms)
        its_alarms = [alarm for alarm in alarms if _of_fault(alarm, span, tolerance_ms)]
        fault_alarms.update(its_alarms)
        found, as_event = delay_ms is not None, bool(its_alarms)
        tally.faults.append(
            Thing(str(fault.kind), samples.station.key, samples.parameter, span, delay_ms, found, as_event)
        )
    for alarm in matching.false_runs(at_ms[samples.flagged], spans, step_ms):
        tests = _tests(samples.verdict[samples.flagged & samples.within(alarm)])
        tally.false_by[samples.parameter, tests] += matching.count([alarm], step_ms)
    return fault_alarms


def _message(put: Transmission, now_ms: int) -> Message:
    if put.kind is Sent.TELEMETRY:
        return Message(put.station, put.payload, now_ms, source="score", topic=f"rivers/v1/{put.station}/telemetry")
    if put.kind is Sent.EVENT:
        return Message(put.station, put.payload, now_ms, source="score", kind="event")
    online = b'{"online": true}' if put.kind is Sent.BACK else b'{"online": false}'
    return Message(put.station, online, now_ms, source="score", kind="status")


# -- what came of it ---------------------------------------------------------------------------------------------------


def event_alarms(findings: Iterable[Finding], doubtful: Collection[str] = ()) -> dict[str, list[Span]]:
    """Station → spans of the event detector's alarms, from its findings.

    What the ``doubtful`` rules tell is left out.
    """
    found: dict[str, list[Span]] = {}
    since: dict[str, int] = {}
    last_ms = 0
    for one in sorted(findings, key=lambda f: f.observed_at_ms):
        if one.kind is not FindingKind.EVENT or one.parameter is not None or one.rule in doubtful:
            continue
        last_ms = max(last_ms, one.observed_at_ms)
        if one.change is ConditionChange.FIRED:
            since.setdefault(one.station, one.observed_at_ms)
        elif (start := since.pop(one.station, None)) is not None:
            found.setdefault(one.station, []).append(Span(start, max(start, one.observed_at_ms - QUIET_MS)))
    for station, start in since.items():
        found.setdefault(station, []).append(Span(start, max(start, last_ms)))
    return found


def _name(findings: Iterable[Finding], doubtful: Collection[str], station: str, span: Span, tolerance_ms: int) -> str:
    """The cause named by the last alarm that began before the end of a passage."""
    alarms = [
        one
        for one in findings
        if one.station == station
        and one.kind is FindingKind.EVENT
        and one.change is ConditionChange.FIRED
        and one.rule not in doubtful
        and one.observed_at_ms <= span.end_ms + tolerance_ms
    ]
    cause = sudden.event_cause(max(alarms, key=lambda one: one.observed_at_ms)) if alarms else None
    return "" if cause is None else str(cause)


def _water_alarms(findings: Iterable[Finding]) -> dict[str, list[Span]]:
    """Station → when rules for the water fired, without the event detector."""
    found: dict[str, list[Span]] = {}
    for one in findings:
        if one.change is ConditionChange.FIRED and one.kind in WATER_KINDS - {FindingKind.EVENT}:
            found.setdefault(one.station, []).append(Span(one.observed_at_ms, one.observed_at_ms))
    return found


class _Reports:
    """The times that devices reported for their samples, and which samples arrived."""

    def __init__(self, reported_ms: Mapping[str, Mapping[int, int]]) -> None:
        self._reported_ms = reported_ms

    def of(self, station: str, at_ms: Ints) -> tuple[Ints, Bools]:
        """(n,) times as told and whether they arrived and were taken, for (n,) true instants; the future is not."""
        reported_ms = self._reported_ms.get(station, {})
        found = np.array([reported_ms.get(at, -1) for at in at_ms.tolist()], np.int64)
        return found, (found >= 0) & (found <= at_ms + SLICE_MS + FUTURE_MS)


def _by_station(record: RunRecord) -> _Reports:
    reported_ms: dict[str, dict[int, int]] = {}
    for one in record:
        if one.fate is Fate.SENT:
            reported_ms.setdefault(one.station, {})[one.sample.at_ms] = one.reported_ms
    return _Reports(reported_ms)


def _flags(store: ReadingStore, station: str, known: Catalogue, reported_ms: Ints) -> dict[str, tuple[Ints, Ints]]:
    """Parameter → the instants stored, ascending, and the verdicts on them."""
    if not len(reported_ms):
        return {}
    window = store.window(station, int(reported_ms.min()), int(reported_ms.max()))
    window = window.take(np.argsort(window.at, kind="stable"))
    found = {}
    for code in np.unique(window.parameter).tolist():
        its = window.parameter == code
        found[known.parameters[code].key] = (window.at[its], window.packed[its])
    return found


def _around(at_ms: Ints) -> Span:
    return Span(int(at_ms[0]), int(at_ms[-1]))


def _tests(packed: Ints) -> str:
    """The test that raised most of some flags."""
    _, bits = unpack(packed)
    most = max(QualityTest, key=lambda test: int(((bits & int(test)) != 0).sum()))
    return str(most.name).lower()


def _of_fault(alarm: Span, fault: Span, tolerance_ms: int) -> bool:
    """Whether an alarm began within an hour of the beginning or the end of a fault."""
    return any(
        -tolerance_ms <= alarm.start_ms - boundary_ms <= HOUR_MS for boundary_ms in (fault.start_ms, fault.end_ms)
    )


def _mostly(good: Bools, flagged: Bools) -> bool:
    """Whether more than half of a sensor's good samples of an event were called faulty."""
    return bool(good.any()) and float(flagged[good].mean()) > 0.5


def _silences(
    findings: Sequence[Finding], station: Station, faults: Iterable[Fault], scenario: Scenario
) -> Iterator[Thing]:
    """The times without power of a station that was scored: found where it, or its gateway, was called silent."""
    names = {station.key, station.gateway}
    silent = [
        f
        for f in findings
        if f.kind is FindingKind.NO_DATA and f.change is ConditionChange.FIRED and f.station in names
    ]
    for fault in faults:
        if fault.kind is not FaultKind.SUPPLY or not scenario.start_ms <= fault.start_ms < scenario.end_ms:
            continue
        span = Span(fault.start_ms, fault.end_ms)
        alarm_ms = [f.observed_at_ms for f in silent if f.since_ms <= span.end_ms and f.observed_at_ms >= span.start_ms]
        delay_ms = min(alarm_ms) - span.start_ms if alarm_ms else None
        yield Thing(str(fault.kind), station.key, "", span, delay_ms, delay_ms is not None, False)


def _clocks(
    findings: Sequence[Finding], station: Station, faults: Iterable[Fault], scenario: Scenario
) -> Iterator[Thing]:
    """Clock faults of a station, found where its device had a finding."""
    alarm_ms = [
        f.observed_at_ms
        for f in findings
        if f.rule == device_clock.RULE and f.change is ConditionChange.FIRED and f.station == station.key
    ]
    for fault in faults:
        if fault.kind is not FaultKind.CLOCK or not scenario.start_ms <= fault.start_ms < scenario.end_ms:
            continue
        span = Span(fault.start_ms, fault.end_ms)
        found = [at_ms for at_ms in alarm_ms if span.start_ms <= at_ms <= span.end_ms]
        delay_ms = min(found) - span.start_ms if found else None
        yield Thing(str(fault.kind), station.key, "", span, delay_ms, delay_ms is not None, False)


def incidents_of(database: Database, since_ms: int) -> tuple[Incident, ...]:
    """The incidents that began from ``since_ms`` on, in the order in which they were opened."""
    table = governed.incident
    with database.read() as connection:
        query = sa.select(table).where(table.c.since_ms >= since_ms).order_by(table.c.id)
        rows = connection.execute(query).mappings().all()
        pages, stations = count_pages(connection), incident_stations(connection)
    return tuple(
        Incident(
            id=row["id"],
            kind=row["kind"],
            rule=row["rule"],
            colour=row["colour"],
            station=row["station"],
            stations=stations.get(row["id"], (row["station"],)),
            since_ms=row["since_ms"],
            retrospective=row["retrospective"],
            pages=pages[row["id"]],
            title=row["title_zh"] + " " + row["title_en"],
        )
        for row in rows
    )


def _traced(database: Database, incidents: Sequence[Incident], passages: Sequence[Passage]) -> tuple[Tracing, ...]:
    """The newest trace of every live incident of the water that began while a discharge of an outfall passed by."""
    found = []
    with database.read() as connection:
        for one in incidents:
            if one.retrospective or one.kind not in {kind.value for kind in WATER_KINDS}:
                continue
            passed = [p for p in passages if p.station == one.station and _passes(p, one.since_ms)]
            kept = source_attribution.stored_trace(connection, one.id) if passed else None
            if kept is None:
                continue
            event = max(passed, key=lambda p: p.strength).event
            keys = [candidate.key for candidate in kept.candidates]
            place = keys.index(event.outfall) + 1 if event.outfall in keys else None
            found.append(Tracing(event.name, event.outfall, one.station, one.id, place))
    return tuple(found)


def _passes(passage: Passage, at_ms: int) -> bool:
    event = passage.event
    known = bool(event.outfall) and event.kind in (*DISCHARGES, EventKind.OVERFLOW)
    return known and passage.first_ms - HOUR_MS <= at_ms <= passage.last_ms + HOUR_MS


def by_kind(things: Iterable[Thing]) -> Iterator[tuple[str, list[Thing]]]:
    """The things of each kind, in alphabetical order."""
    kinds: dict[str, list[Thing]] = {}
    for thing in things:
        kinds.setdefault(thing.kind, []).append(thing)
    yield from sorted(kinds.items())


def as_json(found: Score) -> dict[str, Any]:
    """The score as plain values."""

    def side(things: Sequence[Thing]) -> dict[str, Any]:
        return {
            kind: {
                "there": len(of),
                "found": sum(t.found for t in of),
                "missed": [
                    {
                        "station": t.station,
                        "parameter": t.parameter or None,
                        "from": rfc3339(t.span.start_ms),
                        "to": rfc3339(t.span.end_ms),
                        "called_fault": t.fault,
                        "called_event": t.event,
                    }
                    for t in of
                    if not t.found
                ],
                "called_fault": sum(t.fault for t in of),
                "called_event": sum(t.event for t in of),
                "separate": len({t.name for t in of if t.name}),
                "separate_found": len({t.name for t in of if t.name and t.found}),
                "told_as": dict(Counter(t.named_as for t in of if t.named_as)),
                "by_rules_only": sum(t.by == ("rule",) for t in of),
                "median_delay_min": matching.median_minutes(of),
            }
            for kind, of in by_kind(things)
        }

    right, called = found.label_right
    account = found.account
    return {
        "scenario": found.scenario,
        "seed": found.seed,
        "days": found.days,
        "stations": found.stations,
        "station_months": round(found.months, 3),
        "readings": found.readings,
        "faults": side(found.faults),
        "events": side(found.events),
        "false_fault_alarms": found.false_faults,
        "false_fault_alarms_per_station_month": round(found.false_faults / found.months, 3),
        "false_fault_alarms_by": dict(found.false_by),
        "false_event_alarms": found.false_events,
        "false_event_alarms_per_station_month": round(found.false_events / found.months, 3),
        "event_alarms_of_natural_events": found.natural_events,
        "event_alarms_of_faults": found.fault_events,
        "doubtful_alarms": found.doubtful,
        "natural_samples": found.natural_samples,
        "natural_samples_flagged": found.natural_flagged,
        "label": {"right": right, "called": called},
        "name": dict(zip(("right", "told"), found.name_right, strict=True)),
        "incidents": [
            {
                "id": one.id,
                "kind": one.kind,
                "rule": one.rule,
                "colour": one.colour,
                "station": one.station,
                "stations": list(one.stations),
                "since": rfc3339(one.since_ms),
                "retrospective": one.retrospective,
                "pages": one.pages,
                "title": one.title,
            }
            for one in found.incidents
        ],
        "pages": found.pages,
        "pages_a_week": round(found.pages_a_week, 2),
        "traced": [
            {"event": t.event, "outfall": t.outfall, "station": t.station, "incident": t.incident, "place": t.place}
            for t in found.traced
        ],
        "ledger": {
            "sent": account.sent,
            "lost": account.lost,
            "lost_unknowable": account.unknowable,
            "stored": account.stored,
            "duplicate": account.duplicate,
            "quarantined": account.quarantined,
            "missing": account.missing,
            "right": account.right,
            "fates": dict(account.fates),
        },
    }
