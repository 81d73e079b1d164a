"""Sudden changes of the water in the past (decisions 0045 and 0056): what the detector says of a stretch of time
without and with the readings that came late, before and after somebody declared readings wrong.

What it says only now is an event nobody was told of; what it says no longer is taken back. An event upstream makes it
listen harder, each in its own time. Thresholds are those in force, and nothing is learned (decision 0026).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
import sqlalchemy as sa

from governance.incidents import active_findings
from governance.incidents.finding import Change, Finding
from governance.tables import incident, incident_condition
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules import sentences
from ingest.rules.engine import Why
from ingest.rules.model import Event
from ingest.rules.water_events import Measured
from ingest.state.series_history import (
    SHORTEST_S,
    SeriesHistory,
    accepted_before,
    merge,
    rejudge_windows,
    stored_status,
)
from ingest.storage.port import ReadingStore, Window
from sensors.maintenance import Marks
from sensors.quality import QualityResult
from sensors.quality.detectors.slow_events import HOUR_MS, NEAR_H, CombinedAlarms, SlowEventResult, detect_slow_events
from sensors.quality.detectors.sudden_events import QUIET_MS, Alarms, EventCause, detect_sudden_events
from sensors.quality.detectors.upstream_evidence import SLOT_MS, SLOTS, UpstreamPath, anything
from sensors.reading import Batch, Bytes, Codes, Floats, Ints, QualityTest, pack

REACH_MS: Final = int(1000 * SHORTEST_S)
"""So far around the late readings instants are looked at: the medians of the last hours, and six hours of calm."""

Span = tuple[int, int]
"""The first and the last alarm of an event, ms."""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event that people were told of: by which rule, within which cause, since when; when it fired, its last alarm,
    ms."""

    rule: str
    cause: str
    since_ms: int
    fired_ms: int
    last_ms: int

    @property
    def span(self) -> Span:
        return self.since_ms, self.last_ms


Known = Callable[[str], Sequence[PublishedEvent]]
"""The events at a station that people were told of."""

Ask = Callable[[int, Ints], "StationMoves"]
"""What the sensors of a station say around the first and the last of some instants, as they are stored."""


@dataclass(frozen=True, slots=True)
class StationMoves:
    """What quality tests say of readings of a station: (n,) columns as the detector takes them, and the values."""

    parameter: Codes
    at: Ints
    value: Floats
    move: Floats
    course: Bytes
    tests: Ints

    @classmethod
    def of(cls, verdict: QualityResult, rows: slice, window: Window, packed: Ints) -> "StationMoves":
        """Of a window, whose verdict are the ``rows``; ``packed`` are its flags with the marks of people laid over.

        What a reviewer called bad says nothing.
        """
        said = cls(window.parameter, window.at, window.value, verdict.move[rows], verdict.course[rows], packed >> 4)
        kept = np.flatnonzero(said.tests & QualityTest.REVIEWED_BAD == 0)
        return cls(*(getattr(said, name)[kept] for name in cls.__slots__))

    @classmethod
    def together(cls, parts: Sequence["StationMoves"]) -> "StationMoves":
        """All of these; nothing of none."""
        if not parts:
            none = np.empty(0, np.int64)
            return cls(none, none, np.empty(0), np.empty(0), np.empty(0, np.uint8), none)
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class StoredReadings:
    """What the sensors of a station say of a stretch of time by what is stored of them, with the readings ``beside``,
    which are not stored yet, and the ``marks`` of people."""

    beside: tuple[Batch, Ints]
    history: SeriesHistory
    store: ReadingStore
    marks: Marks

    def said(self, station: int, around: Ints, without: Collection[int] = ()) -> StationMoves:
        """Around the first and the last of these instants, but for the parameters ``without``."""
        history, parameters = self.history, self.history.registry.catalogue.parameters
        telling = [p for p, one in enumerate(parameters) if one.event and p not in without]
        series = history.of(np.full(len(telling), station), np.array(telling, np.int64))
        windows, numbers = [], []
        live, key = self.beside[0], history.registry.stations[station].key
        first, last = int(around[0]) - REACH_MS, int(around[-1]) + REACH_MS
        for parameter, number in zip(telling, series.tolist(), strict=True):
            if number < 0:
                continue
            name = parameters[parameter].key
            stored = self.store.window(key, first, last, [name])
            stored = accepted_before(self.store, key, name, first).join(stored)
            rows = np.flatnonzero((live.station == station) & (live.parameter == parameter) & (live.at <= last))
            merged = merge(stored, live.parameter[rows], live.at[rows], live.value[rows].tolist())
            if len(merged):
                windows.append(merged)
                numbers.append(number)
        return self.judged(station, np.array(numbers, np.int64), windows)

    def use_stored_verdicts(
        self, station: int, around: Ints, past: "PastEvents", reason: Text | None
    ) -> tuple[list[Finding], list[Finding]]:
        """Ask for events of a station whose own readings are what they were (:meth:`Past.passed_on`)."""
        said = self.said(station, around)
        why = None if reason is None else lambda *_: reason
        return past.judge(station, around, said, lambda: said, self.said, why)

    def judged(self, station: int, series: Ints, windows: Sequence[Window]) -> StationMoves:
        """Of windows of readings; what a reviewer called bad is left out."""
        kept = [self._believed(station, window) for window in windows]
        there = [i for i, window in enumerate(kept) if len(window)]
        if not there:
            return StationMoves.together([])
        windows, series = [kept[i] for i in there], series[there]
        memory = self.history.memory.taken(series)
        memory.forget_recent()
        statuses = [stored_status(w) for w in windows]
        told = rejudge_windows(windows, statuses, memory, self.history.registry.catalogue, learn=False)
        starts = np.cumsum([0, *(len(w) for w in windows)])
        said = []
        for w, first, last in zip(windows, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            rows = slice(first, last)
            packed = self.marks.apply_marks(
                np.full(len(w), station), w.parameter, w.at, pack(told.flag[rows], told.tests[rows])
            )
            said.append(StationMoves.of(told, rows, w, packed))
        return StationMoves.together(said)

    def _believed(self, station: int, window: Window) -> Window:
        packed = self.marks.apply_marks(np.full(len(window), station), window.parameter, window.at, window.packed)
        return window.take(np.flatnonzero(packed >> 4 & QualityTest.REVIEWED_BAD == 0))


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """The ways that lead to each station, by position, and those that lead on from it."""

    above: Mapping[int, Sequence[UpstreamPath]]
    below: Mapping[int, Sequence[UpstreamPath]]

    @classmethod
    def of(cls, edges: Iterable[UpstreamPath]) -> "FlowGraph":
        above, below = defaultdict(list), defaultdict(list)
        for way in edges:
            above[way.below].append(way)
            below[way.above].append(way)
        return cls(dict(above), dict(below))

    def downwards(self, stations: Iterable[int]) -> list[int]:
        """These stations, each after all that lie above it."""
        return sorted(stations, key=lambda station: (len(self.above.get(station, ())), station))


class PastEvents:
    """The past events of a site while one batch, or one correction, is judged.

    ``known`` tells what people were told of, ``live`` are the alarms that the batch itself raised.
    """

    def __init__(
        self, history: SeriesHistory, flow: FlowGraph, known: Known, now_ms: int, live: Alarms | None = None
    ) -> None:
        self._history, self._flow, self._now_ms = history, flow, now_ms
        self._known = cache(known)
        self._live: dict[int, list[Span]] = {}
        if live is not None:
            sure = live.take(np.flatnonzero(live.doubt == 0))
            self._live = {s: _spans(sure.at[sure.station == s]) for s in np.unique(sure.station).tolist()}
        self._said: dict[int, StationMoves] = {}
        self._found: dict[int, list[Span]] = defaultdict(list)
        self._lost: dict[int, list[PublishedEvent]] = defaultdict(list)

    def downwards(self, stations: Iterable[int]) -> list[int]:
        """In this order what is found at one station is heard at those below it."""
        return self._flow.downwards(stations)

    def judge(
        self,
        station: int,
        late: Ints,
        now: StationMoves,
        was: Callable[[], StationMoves],
        ask: Ask,
        why: Why | None = None,
    ) -> tuple[list[Finding], list[Finding]]:
        """What is to be told of a station whose readings around the instants ``late`` (sorted) were ``was`` and are
        ``now``: all findings, and those that change what is on.

        ``ask`` tells what its neighbours say; what was told as doubtful may be sure by that. Where ``why`` is given
        readings were declared wrong: what rested on some is withdrawn with the reason it knows.
        """
        within = int(late[0]) - REACH_MS, int(late[-1]) + REACH_MS
        near = np.array([late[0] - NEAR_H * HOUR_MS, late[-1]])
        asked = cache(lambda other: ask(other, near))
        self._said[station] = now
        found = self._alarms(station, now, within, self._heard_now, lambda other: self._said.get(other) or asked(other))
        before = cache(lambda: self._alarms(station, was(), within, self._heard_before, asked))
        every: list[Finding] = []
        lasting: list[Finding] = []
        if why is not None:
            for one in self._told(station):
                reason = why(one.since_ms - REACH_MS, one.last_ms)
                if reason and self._shows(station, one, before()) and not self._shows(station, one, found):
                    every.append(self._withdrawn(station, one, reason))
                    lasting += every[-1:] if self._is_on(station, one) else []
                    self._lost[station].append(one)
        lost = [one.span for one in self._lost[station]]
        known = [one.span for one in self._told(station)] + self._found[station]
        new = [span for span in _spans(found.at) if not _meets(span, known)]
        if any(not _meets(span, lost) for span in new):
            new = [span for span in new if _meets(span, lost) or not _meets(span, self._spoken(station, before()))]
        sure = found.take(np.flatnonzero(found.doubt == 0))
        surely = self._sure(self._told(station)) + self._found[station] + lost + new
        surer = [span for span in _spans(sure.at) if not _meets(span, surely)]
        if surer:
            surer = [span for span in surer if not _meets(span, _spans(before().at[before().doubt == 0]))]
        for alarms, spans in ((found, new), (sure, surer)):
            if spans:
                said, left = self._story(station, late, now, alarms, spans)
                every += said
                lasting += left
        return every, lasting

    def downstream_findings(self, judged: Collection[int]) -> Iterator[tuple[int, Ints, Text | None]]:
        """The stations below those where an event was found or taken back, but the ones ``judged`` already; each with
        the first and the last instant that may sound otherwise now, and why what was told there may be wrong.

        Whoever asks judges each before the next one is named.
        """
        done = set(judged)
        while waiting := {way.below for s in (*self._found, *self._lost) for way in self._flow.below.get(s, ())} - done:
            station = self._flow.downwards(waiting)[0]
            done.add(station)
            self._history.ensure_loaded([station], self._now_ms)
            heard_ms = int(self._history.heard[station])
            firsts, lasts, reason = [], [], None
            for way in self._flow.above[station]:
                for first, last in (*self._found[way.above], *(one.span for one in self._lost[way.above])):
                    firsts.append(first)
                    lasts.append(last + way.reach_ms)
                if self._lost[way.above]:
                    above = sentences.name(self._history.registry.stations[way.above])
                    reason = say("finding.upstream_disproved", upper=above)
            if firsts and min(firsts) <= heard_ms:
                yield station, np.array([min(firsts), min(max(lasts), heard_ms)]), reason

    def _below(self) -> set[int]:
        """The stations below those where an event was found or taken back."""
        changed = [s for some in (self._found, self._lost) for s, spans in some.items() if spans]
        return {way.below for station in changed for way in self._flow.below.get(station, ())}

    # -- what was told -----------------------------------------------------------------------------------------------

    def _told(self, station: int) -> list[PublishedEvent]:
        """What people were told of and nobody took back, what is on with its last alarm so far."""
        one = self._history.registry.stations[station]
        last_ms = self._last_ms(station)
        on = [
            PublishedEvent(rule, alarm.cause, alarm.since_ms, alarm.fired_at_ms, max(alarm.fired_at_ms, last_ms))
            for rule, alarm in self._history.checks.sudden.going(one.key).items()
        ]
        over = [t for t in self._known(one.key) if (t.rule, t.fired_ms) not in {(o.rule, o.fired_ms) for o in on}]
        return [t for t in (*on, *over) if t not in self._lost[station]]

    def _last_ms(self, station: int) -> int:
        return self._history.last_alarm(station)

    def _is_on(self, station: int, told: PublishedEvent) -> bool:
        alarm = self._history.checks.sudden.going(self._history.registry.stations[station].key).get(told.rule)
        return alarm is not None and alarm.fired_at_ms == told.fired_ms

    def _spoken(self, station: int, found: Alarms) -> list[Span]:
        """The events among alarms of which any rule speaks: nobody was told of the others."""
        sudden, one = self._history.checks.sudden, self._history.registry.stations[station]
        return _spans(found.at[[row for row in range(len(found.at)) if sudden.speaks(one, found, row)]])

    def _shows(self, station: int, told: PublishedEvent, found: Alarms) -> bool:
        """Whether alarms show an event that was told, as sure as it was."""
        sudden, one = self._history.checks.sudden, self._history.registry.stations[station]
        near = (found.at >= told.since_ms - QUIET_MS) & (found.at <= told.last_ms + QUIET_MS)
        if told.rule not in self._doubtful():
            near &= found.doubt == 0
        return any(sudden.speaks(one, found, row) for row in np.flatnonzero(near).tolist())

    # -- looking -----------------------------------------------------------------------------------------------------

    def _alarms(
        self,
        station: int,
        said: StationMoves,
        within: Span,
        heard: Callable[[int], list[Span]],
        beside: Callable[[int], StationMoves],
    ) -> CombinedAlarms:
        """The detector's alarms in a stretch of time, as if nothing had been seen of the station for a while.

        ``heard`` tells the events of a station upstream, ``beside`` what the sensors of a neighbouring one say.
        """
        ways = self._flow.above.get(station, ())
        everywhere = [(way, (within[0] - way.reach_ms, within[1])) for way in ways]
        found = self._watched(station, said, within, everywhere)
        if found.supported.any():  # else the same whatever is known of the water above
            found = self._watched(station, said, within, [(way, span) for way in ways for span in heard(way.above)])
        both = CombinedAlarms.of(found, self._looked(station, said, within, beside))
        return replace(both, station=np.full(len(both.at), station))

    def _watched(
        self, station: int, said: StationMoves, within: Span, upstream: Sequence[tuple[UpstreamPath, Span]]
    ) -> Alarms:
        """``upstream`` are events above: what moved there is not known any more, so that each speaks for anything."""
        parts = [
            (way, part, min(part + SLOTS * SLOT_MS - 1, last))
            for way, (first, last) in upstream
            for part in range(first // SLOT_MS * SLOT_MS, last + 1, SLOTS * SLOT_MS)
        ]
        memory = self._history.watched.learned(np.array([station]))
        memory.grow(1 + len(parts))
        edges = []
        for i, (way, first, last) in enumerate(parts, 1):
            number, size = anything(first, last)
            memory.slot[i, : len(number)], memory.seen[i, : len(number)] = number, size[:, None]
            edges.append(way._replace(above=i, below=0))
        rows = np.flatnonzero((said.at >= within[0]) & (said.at <= within[1]))
        columns = said.parameter[rows], said.at[rows], said.move[rows], said.course[rows], said.tests[rows]
        return detect_sudden_events(
            np.zeros(len(rows), np.int64), *columns, memory, self._history.registry.catalogue, edges
        ).alarms

    def _looked(
        self, station: int, said: StationMoves, within: Span, beside: Callable[[int], StationMoves]
    ) -> CombinedAlarms:
        """Changes of hours; where something stands out the next stations above and below are looked at, too."""
        history = self._history

        def look_at(stations: list[int], parts: Sequence[StationMoves]) -> SlowEventResult:
            one, who = StationMoves.together(parts), np.repeat(np.arange(len(parts)), [len(part.at) for part in parts])
            rows = np.flatnonzero(((one.at >= within[0]) | (who > 0)) & (one.at <= within[1]))
            columns = who[rows], one.parameter[rows], one.at[rows], one.value[rows], one.tests[rows]
            near = {0: list(range(1, len(parts)))}
            memory, catalogue = history.slow.aside(np.array(stations)), history.registry.catalogue
            return detect_slow_events(*columns, memory, catalogue, near, learn=False)

        looked = look_at([station], [said])
        if looked.needs_neighbours and (others := history.network.get(station, ())):
            every = [int(other) for other in others]
            looked = look_at([station, *every], [said, *(beside(other) for other in every)])
        return looked.alarms.take(np.flatnonzero(looked.alarms.station == 0))

    def _heard_now(self, station: int) -> list[Span]:
        return self._sure(self._told(station)) + self._live.get(station, []) + self._found[station]

    def _heard_before(self, station: int) -> list[Span]:
        return self._sure([*self._told(station), *self._lost[station]]) + self._live.get(station, [])

    def _sure(self, told: Sequence[PublishedEvent]) -> list[Span]:
        """The spans of events that support what is below: not of doubtful ones."""
        return [one.span for one in told if one.rule not in self._doubtful()]

    def _doubtful(self) -> set[str]:
        """The rules that tell of what is perhaps no change of the water."""
        return {rule.id for rule in self._history.checks.rules.events if rule.kinds == (EventCause.DOUBTFUL,)}

    # -- telling -----------------------------------------------------------------------------------------------------

    def _story(
        self, station: int, late: Ints, now: StationMoves, found: Alarms, new: Sequence[Span]
    ) -> tuple[list[Finding], list[Finding]]:
        """What is to be told of new events; all findings, and those that change what is on."""
        history = self._history
        sudden, one = history.checks.sudden, history.registry.stations[station]
        lost = {told.rule for told in self._lost[station] if self._is_on(station, told)}
        going = {rule: alarm for rule, alarm in sudden.going(one.key).items() if rule not in lost}
        last_ms = max([self._last_ms(station), *(alarm.fired_at_ms for alarm in going.values())])
        instants = np.unique(np.append(now.at, max(int(history.heard[station]), int(late[-1]))))
        measured = Measured(now.parameter, now.at, now.value)
        every: list[Finding] = []
        lasting: list[Finding] = []
        for first, last in new:
            rows = np.flatnonzero((found.at >= first) & (found.at <= last))
            after = going if last_ms < first else {}  # what was on before ended, as far as anybody knows now
            told, on = sudden.event_findings(
                one,
                found,
                rows.tolist(),
                after,
                last_ms if after else first,
                instants,
                lambda: measured,
                self._now_ms,
                True,
            )
            every += told
            if on or after:
                lasting += told
                going, last_ms = on, last
            sure = found.at[rows[found.doubt[rows] == 0]]
            if len(sure):
                self._found[station].append((int(sure.min()), int(sure.max())))
        return every, lasting

    def _withdrawn(self, station: int, told: PublishedEvent, reason: Text) -> Finding:
        one, rule = self._history.registry.stations[station], self._history.checks.rules.get(told.rule)
        assert isinstance(rule, Event)  # it spoke of the alarms a moment ago
        alarm = self._history.checks.sudden.going(one.key).get(told.rule)
        return rule.found(
            Change.WITHDRAWN,
            cause=told.cause,
            station=one.key,
            observed_at_ms=told.fired_ms,
            since_ms=told.since_ms,
            retrospective=alarm is None or alarm.past,
            text=say(
                "finding.event_disproved",
                station=sentences.name(one),
                since=beijing(told.since_ms, "%Y-%m-%d %H:%M"),
                reason=reason,
            ),
        )


def published_events(connection: sa.Connection, station: str, rules: Collection[str]) -> list[PublishedEvent]:
    """The events these rules told of at a station and nobody took back, from the incidents."""
    one = incident_condition.c
    query = (
        sa.select(one.rule, one.parameter, incident.c.cause, one.since_ms, one.fired_at_ms, one.resolved_at_ms)
        .join(incident, incident.c.id == one.incident_id)
        .where(one.station == station, one.rule.in_(list(rules)))
    )
    book = active_findings.of_rules(connection, rules, station=station)
    return [
        PublishedEvent(
            rule, cause, since_ms, fired_ms, fired_ms if over_ms is None else max(fired_ms, over_ms - QUIET_MS)
        )
        for rule, parameter, cause, since_ms, fired_ms, over_ms in connection.execute(query)
        if not book.is_withdrawn(rule, station, parameter, fired_ms)
    ]


def _spans(at: Ints) -> list[Span]:
    """Alarms without six hours of calm between them are one event."""
    if not len(at):
        return []
    at = np.sort(at)
    cuts = np.flatnonzero(np.diff(at) > QUIET_MS)
    return list(zip(at[np.append(0, cuts + 1)].tolist(), at[np.append(cuts, -1)].tolist(), strict=True))


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(span[0] - QUIET_MS <= last and first - QUIET_MS <= span[1] for first, last in others)
