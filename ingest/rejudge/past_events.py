"""Sudden changes of the water in the past: what the event detector finds without and with a change of readings.

What it finds only afterwards was not published and is; what it finds no longer is withdrawn. An event upstream makes
the detector more sensitive, each in its own time. Thresholds are those in force, and nothing is learned (decisions
0026, 0045 and 0056).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import sqlalchemy as sa

from governance.incidents import active_findings
from governance.incidents.finding import ConditionChange, Finding
from governance.tables import incident, incident_condition
from infra.texts import Text, say
from infra.times import HOUR_MS, beijing
from ingest.rejudge.station_moves import REACH_MS, StationMoves
from ingest.rules import sentences
from ingest.rules.engine import ChangeReason
from ingest.rules.model import EventRule
from ingest.rules.water_events import StationReadings
from ingest.state.series_history import SeriesHistory
from sensors.quality.detectors.slow_events import SlowEventResult, detect_slow_events
from sensors.quality.detectors.slow_neighbours import NEIGHBOUR_WINDOW_H
from sensors.quality.detectors.sudden_events import detect_sudden_events
from sensors.quality.detectors.tide import TidalDays, without_tidal_salt
from sensors.quality.detectors.upstream_evidence import REMEMBERED_SLOTS, SLOT_MS, UpstreamPath, slots_of_unknown_event
from sensors.quality.events import EVENT_OVER_AFTER_MS, Alarms, EventCause, EventReadings
from sensors.reading import Ints

Span = tuple[int, int]
"""The first and the last alarm of an event, ms."""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event that was published: by which rule, within which cause, since when; when it fired, its last alarm, ms."""

    rule: str
    cause: str
    since_ms: int
    fired_ms: int
    last_ms: int

    @property
    def span(self) -> Span:
        """The event as a span of time."""
        return self.since_ms, self.last_ms


ReadPublished = Callable[[str], Sequence[PublishedEvent]]
"""Reads the published events of a station, by key."""

ReadMoves = Callable[[int, Ints], StationMoves]
"""Reads what the sensors of a station show around the first and the last of some instants, as stored."""


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """The paths that lead to each station, by position, and those that lead on from it."""

    above: Mapping[int, Sequence[UpstreamPath]]
    below: Mapping[int, Sequence[UpstreamPath]]

    @classmethod
    def of(cls, edges: Iterable[UpstreamPath]) -> "FlowGraph":
        """From the paths between stations."""
        above, below = defaultdict(list), defaultdict(list)
        for way in edges:
            above[way.below].append(way)
            below[way.above].append(way)
        return cls(dict(above), dict(below))

    def downwards(self, stations: Iterable[int]) -> list[int]:
        """These stations, each after all that lie above it."""
        return sorted(stations, key=lambda station: (len(self.above.get(station, ())), station))


class PastEvents:
    """The past events of a site while one batch, or one change of marks, is judged.

    ``read_published`` reads the published events; ``live`` are the alarms that the batch itself raised.
    """

    def __init__(
        self,
        history: SeriesHistory,
        flow: FlowGraph,
        read_published: ReadPublished,
        now_ms: int,
        live: Alarms | None = None,
    ) -> None:
        self._history, self._flow, self._now_ms = history, flow, now_ms
        self._read_published = cache(read_published)
        self._live: dict[int, list[Span]] = {}
        if live is not None:
            sure = live.take(np.flatnonzero(live.discount == 0))
            self._live = {s: _spans(sure.at[sure.station == s]) for s in np.unique(sure.station).tolist()}
        self._moves: dict[int, StationMoves] = {}
        self._found: dict[int, list[Span]] = defaultdict(list)
        self._withdrawn: dict[int, list[PublishedEvent]] = defaultdict(list)

    def downwards(self, stations: Iterable[int]) -> list[int]:
        """The order in which events found at one station are known at those below it."""
        return self._flow.downwards(stations)

    def judge(
        self,
        station: int,
        at: Ints,
        after: StationMoves,
        before: Callable[[], StationMoves],
        read_moves: ReadMoves,
        why: ChangeReason | None = None,
    ) -> tuple[list[Finding], list[Finding]]:
        """The findings of a station whose readings around the instants ``at`` (sorted) changed.

        ``read_moves`` reads what neighbouring stations show. ``why`` is given where readings were declared wrong: what
        rested on some is withdrawn with the reason it knows. An event that was published as doubtful may be sure now.
        Returns all findings, and those that change what is firing.
        """
        within = int(at[0]) - REACH_MS, int(at[-1]) + REACH_MS
        near = np.array([at[0] - NEIGHBOUR_WINDOW_H * HOUR_MS, at[-1]])
        stored = cache(lambda other: read_moves(other, near))
        self._moves[station] = after
        found = self._alarms(
            station, after, within, self._upstream_after, lambda other: self._moves.get(other) or stored(other)
        )
        alarms_before = cache(lambda: self._alarms(station, before(), within, self._upstream_before, stored))
        findings, lasting = self._withdraw(station, found, alarms_before, why) if why is not None else ([], [])
        new = self._new(station, found, alarms_before)
        sure = found.take(np.flatnonzero(found.discount == 0))
        surer = self._surer(station, sure, new, alarms_before)
        for alarms, spans in ((found, new), (sure, surer)):
            if spans:
                published, left = self._publish(station, at, after, alarms, spans)
                findings += published
                lasting += left
        return findings, lasting

    def _withdraw(
        self, station: int, found: Alarms, before: Callable[[], Alarms], why: ChangeReason
    ) -> tuple[list[Finding], list[Finding]]:
        """Withdraw the published events that the readings showed before and show no longer."""
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for one in self._published(station):
            reason = why(one.since_ms - REACH_MS, one.last_ms)
            if reason and self._shows(station, one, before()) and not self._shows(station, one, found):
                findings.append(self._withdrawal(station, one, reason))
                lasting += findings[-1:] if self._is_on(station, one) else []
                self._withdrawn[station].append(one)
        return findings, lasting

    def _new(self, station: int, found: Alarms, before: Callable[[], Alarms]) -> list[Span]:
        """The events that appear with the change, or in place of a withdrawn one, and are not published."""
        withdrawn = [one.span for one in self._withdrawn[station]]
        published = [one.span for one in self._published(station)] + self._found[station]
        new = [span for span in _spans(found.at) if not _meets(span, published)]
        if any(not _meets(span, withdrawn) for span in new):
            reported = self._reported(station, before())
            new = [span for span in new if _meets(span, withdrawn) or not _meets(span, reported)]
        return new

    def _surer(self, station: int, sure: Alarms, new: Sequence[Span], before: Callable[[], Alarms]) -> list[Span]:
        """The events that are sure now and were published as doubtful."""
        withdrawn = [one.span for one in self._withdrawn[station]]
        published = self._sure(self._published(station)) + self._found[station] + withdrawn + list(new)
        surer = [span for span in _spans(sure.at) if not _meets(span, published)]
        if not surer:
            return []
        sure_before = _spans(before().at[before().discount == 0])
        return [span for span in surer if not _meets(span, sure_before)]

    def downstream_findings(self, judged: Collection[int]) -> Iterator[tuple[int, Ints, Text | None]]:
        """The stations below those where an event appeared or was withdrawn, but the ones ``judged`` already.

        Each comes with the first and the last instant that may be judged otherwise now, and why what was published
        there may be wrong. The caller judges each before it asks for the next one.
        """
        done = set(judged)
        while waiting := self._below_changed() - done:
            station = self._flow.downwards(waiting)[0]
            done.add(station)
            self._history.ensure_loaded([station], self._now_ms)
            last_seen_ms = int(self._history.last_seen[station])
            firsts, lasts, reason = [], [], None
            for way in self._flow.above[station]:
                for first, last in (*self._found[way.above], *(one.span for one in self._withdrawn[way.above])):
                    firsts.append(first)
                    lasts.append(last + way.reach_ms)
                if self._withdrawn[way.above]:
                    above = sentences.station_name(self._history.registry.stations[way.above])
                    reason = say("finding.upstream_disproved", upper=above)
            if firsts and min(firsts) <= last_seen_ms:
                yield station, np.array([min(firsts), min(max(lasts), last_seen_ms)]), reason

    def _below_changed(self) -> set[int]:
        """The stations below those that were judged."""
        return {way.below for s in (*self._found, *self._withdrawn) for way in self._flow.below.get(s, ())}

    # -- published events --------------------------------------------------------------------------------------------

    def _published(self, station: int) -> list[PublishedEvent]:
        """The events that are published and not withdrawn; what is on, with its last alarm so far."""
        key = self._history.registry.stations[station].key
        last_ms = self._history.last_alarm(station)
        on = [
            PublishedEvent(rule, alarm.cause, alarm.since_ms, alarm.fired_at_ms, max(alarm.fired_at_ms, last_ms))
            for rule, alarm in self._history.checks.sudden.going(key).items()
        ]
        firing = {(one.rule, one.fired_ms) for one in on}
        over = [one for one in self._read_published(key) if (one.rule, one.fired_ms) not in firing]
        return [one for one in (*on, *over) if one not in self._withdrawn[station]]

    def _is_on(self, station: int, event: PublishedEvent) -> bool:
        alarm = self._history.checks.sudden.going(self._history.registry.stations[station].key).get(event.rule)
        return alarm is not None and alarm.fired_at_ms == event.fired_ms

    def _reported(self, station: int, found: Alarms) -> list[Span]:
        """The events among alarms that any rule reports: the others were never published."""
        sudden, one = self._history.checks.sudden, self._history.registry.stations[station]
        return _spans(found.at[[row for row in range(len(found.at)) if sudden.applies_to_event(one, found, row)]])

    def _shows(self, station: int, event: PublishedEvent, found: Alarms) -> bool:
        """Whether alarms show a published event, as sure as it was."""
        sudden, one = self._history.checks.sudden, self._history.registry.stations[station]
        near = (found.at >= event.since_ms - EVENT_OVER_AFTER_MS) & (found.at <= event.last_ms + EVENT_OVER_AFTER_MS)
        if event.rule not in self._doubtful_rules():
            near &= found.discount == 0
        return any(sudden.applies_to_event(one, found, row) for row in np.flatnonzero(near).tolist())

    # -- detection ---------------------------------------------------------------------------------------------------

    def _alarms(
        self,
        station: int,
        moves: StationMoves,
        within: Span,
        upstream: Callable[[int], list[Span]],
        neighbours: Callable[[int], StationMoves],
    ) -> Alarms:
        """The alarms of the detectors in a stretch of time, as if nothing had been seen of the station for a while.

        ``upstream`` gives the events of a station above, ``neighbours`` what the sensors of a neighbour show.
        """
        ways = self._flow.above.get(station, ())
        everywhere = [(way, (within[0] - way.reach_ms, within[1])) for way in ways]
        found = self._sudden(station, moves, within, everywhere)
        if found.supported.any():  # else the result is the same whatever happened upstream
            found = self._sudden(station, moves, within, [(way, span) for way in ways for span in upstream(way.above)])
        both = Alarms.joined([found, self._slow(station, moves, within, neighbours)])
        return replace(both, station=np.full(len(both.at), station))

    def _sudden(
        self, station: int, moves: StationMoves, within: Span, upstream: Sequence[tuple[UpstreamPath, Span]]
    ) -> Alarms:
        """Sudden events. Which parameters moved in the ``upstream`` events is not stored: each supports all.

        Water is tidal in the past where it is now.
        """
        parts = [
            (way, part, min(part + REMEMBERED_SLOTS * SLOT_MS - 1, last))
            for way, (first, last) in upstream
            for part in range(first // SLOT_MS * SLOT_MS, last + 1, REMEMBERED_SLOTS * SLOT_MS)
        ]
        memory = self._history.watched.learned(np.array([station]))
        memory.grow(1 + len(parts))
        edges = []
        for i, (way, first, last) in enumerate(parts, 1):
            number, size = slots_of_unknown_event(first, last)
            memory.slot[i, : len(number)], memory.seen[i, : len(number)] = number, size[:, None]
            edges.append(way._replace(above=i, below=0))
        who, catalogue = np.zeros(len(moves.at), np.int64), self._history.registry.catalogue
        columns = moves.parameter, moves.at, moves.value, moves.tests, moves.move, moves.course
        readings = EventReadings(catalogue, who, *columns).take((moves.at >= within[0]) & (moves.at <= within[1]))
        tidal = self._history.slow.tide.tidal[[station], 0][: len(readings.at)]
        always = TidalDays(who[: len(tidal)], who[: len(tidal)], tidal)
        return detect_sudden_events(without_tidal_salt(readings, always), memory, edges).alarms

    def _slow(
        self, station: int, moves: StationMoves, within: Span, neighbours: Callable[[int], StationMoves]
    ) -> Alarms:
        """Slow events; where something stands out the next stations above and below are looked at, too."""
        history = self._history

        def detect(stations: list[int], parts: Sequence[StationMoves]) -> SlowEventResult:
            one = StationMoves.together(parts)
            position = np.repeat(np.arange(len(parts)), [len(part.at) for part in parts])
            rows = np.flatnonzero(((one.at >= within[0]) | (position > 0)) & (one.at <= within[1]))
            columns = position[rows], one.parameter[rows], one.at[rows], one.value[rows], one.tests[rows]
            near = {0: list(range(1, len(parts)))}
            memory, catalogue = history.slow.aside(np.array(stations)), history.registry.catalogue
            return detect_slow_events(EventReadings(catalogue, *columns), memory, near, learn=False)

        found = detect([station], [moves])
        if found.has_peaks_for_neighbours and (others := history.network.get(station, ())):
            every = [int(other) for other in others]
            found = detect([station, *every], [moves, *(neighbours(other) for other in every)])
        return found.alarms.take(np.flatnonzero(found.alarms.station == 0))

    def _upstream_after(self, station: int) -> list[Span]:
        return self._sure(self._published(station)) + self._live.get(station, []) + self._found[station]

    def _upstream_before(self, station: int) -> list[Span]:
        return self._sure([*self._published(station), *self._withdrawn[station]]) + self._live.get(station, [])

    def _sure(self, events: Sequence[PublishedEvent]) -> list[Span]:
        """The spans of events that support what is below: not of doubtful ones."""
        return [one.span for one in events if one.rule not in self._doubtful_rules()]

    def _doubtful_rules(self) -> set[str]:
        """The rules of events that are perhaps no change of the water."""
        return {rule.id for rule in self._history.checks.rules.events if rule.kinds == (EventCause.DOUBTFUL,)}

    # -- findings ----------------------------------------------------------------------------------------------------

    def _publish(
        self, station: int, changed_at: Ints, moves: StationMoves, found: Alarms, new: Sequence[Span]
    ) -> tuple[list[Finding], list[Finding]]:
        """The findings of new events, and those of them that change what is firing."""
        history = self._history
        sudden, one = history.checks.sudden, history.registry.stations[station]
        withdrawn = {event.rule for event in self._withdrawn[station] if self._is_on(station, event)}
        going = {rule: alarm for rule, alarm in sudden.going(one.key).items() if rule not in withdrawn}
        last_ms = max([history.last_alarm(station), *(alarm.fired_at_ms for alarm in going.values())])
        instants = np.unique(np.append(moves.at, max(int(history.last_seen[station]), int(changed_at[-1]))))
        measured = StationReadings(moves.parameter, moves.at, moves.value)
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for first, last in new:
            rows = np.flatnonzero((found.at >= first) & (found.at <= last))
            after = going if last_ms < first else {}  # earlier events ended, by the readings so far
            published, on = sudden.event_findings(
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
            findings += published
            if on or after:
                lasting += published
                going, last_ms = on, last
            sure = found.at[rows[found.discount[rows] == 0]]
            if len(sure):
                self._found[station].append((int(sure.min()), int(sure.max())))
        return findings, lasting

    def _withdrawal(self, station: int, event: PublishedEvent, reason: Text) -> Finding:
        one, rule = self._history.registry.stations[station], self._history.checks.rules.get(event.rule)
        assert isinstance(rule, EventRule)
        alarm = self._history.checks.sudden.going(one.key).get(event.rule)
        return rule.found(
            ConditionChange.WITHDRAWN,
            cause=event.cause,
            station=one.key,
            observed_at_ms=event.fired_ms,
            since_ms=event.since_ms,
            retrospective=alarm is None or alarm.retrospective,
            text=say(
                "finding.event_disproved",
                station=sentences.station_name(one),
                since=beijing(event.since_ms, "%Y-%m-%d %H:%M"),
                reason=reason,
            ),
        )


def published_events(connection: sa.Connection, station: str, rules: Collection[str]) -> list[PublishedEvent]:
    """The events of these rules at a station that are not withdrawn, from the incidents."""
    one = incident_condition.c
    query = (
        sa.select(one.rule, one.parameter, incident.c.cause, one.since_ms, one.fired_at_ms, one.resolved_at_ms)
        .join(incident, incident.c.id == one.incident_id)
        .where(one.station == station, one.rule.in_(list(rules)))
    )
    book = active_findings.of_rules(connection, rules, station=station)
    return [
        PublishedEvent(
            rule,
            cause,
            since_ms,
            fired_ms,
            fired_ms if over_ms is None else max(fired_ms, over_ms - EVENT_OVER_AFTER_MS),
        )
        for rule, parameter, cause, since_ms, fired_ms, over_ms in connection.execute(query)
        if not book.is_withdrawn(rule, station, parameter, fired_ms)
    ]


def _spans(at: Ints) -> list[Span]:
    """The events that alarms make: those without six hours of calm between them are one."""
    if not len(at):
        return []
    at = np.sort(at)
    cuts = np.flatnonzero(np.diff(at) > EVENT_OVER_AFTER_MS)
    return list(zip(at[np.append(0, cuts + 1)].tolist(), at[np.append(cuts, -1)].tolist(), strict=True))


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(
        span[0] - EVENT_OVER_AFTER_MS <= last and first - EVENT_OVER_AFTER_MS <= span[1] for first, last in others
    )
