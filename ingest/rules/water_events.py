"""Evaluate event rules (``[[event]]``): from the alarms of the event detectors to findings.

The detectors are :mod:`sensors.quality.detectors.sudden_events` and :mod:`sensors.quality.detectors.slow_events`; the
rules here say how urgent an event is. A station has one active event at a time. A further alarm makes a finding only
where a more urgent rule applies, or where an event of the past continues now. An event ends when the station has sent
for six hours without another alarm; silence ends nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from governance.incidents.finding import ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline, Row, worst_first
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.model import EventRule, Rules
from ingest.rules.sentences import station_name
from ingest.rules.upstream import River
from sensors.parameters import Catalogue
from sensors.quality.detectors.doubtful_events import CombinedDetection, Settled
from sensors.quality.detectors.upstream_evidence import UpstreamPath
from sensors.quality.events import (
    DOUBTFUL_CONFIDENCE,
    EVENT_OVER_AFTER_MS,
    ROLE_OF_PARAMETER,
    Alarms,
    EventCause,
    Outcome,
)
from sensors.quality.explanations import device_outcome_text
from sensors.quality.explanations import event_text as sentence
from sensors.reading import Codes, Floats, Ints
from sensors.stations import Registry, Station

WATER_CAUSE: Final = "water:"
"""Prefix of the cause of findings about the water at a station (decision 0011)."""

BASELINE_READINGS: Final = 8
BASELINE_MS: Final = 2 * 3_600_000
"""The baseline of a reported value is the median of so many readings before it, not older than this: the detector uses
such a median, and the state of a series holds as many."""


def event_cause(finding: Finding) -> EventCause | None:
    """The likely cause that the headline of a finding names; None where it is no event."""
    return EventCause(finding.headline.event) if finding.headline and finding.headline.event else None


ChooseRule = Callable[[Station, EventCause, float, int], EventRule | None]
"""(station, likely cause, confidence 0 to 1, instant in ms) → the rule that applies."""


@dataclass(frozen=True, slots=True)
class StationReadings:
    """Readings of one station around an alarm, in any order: (n,) parameter code, ms, value in canonical units."""

    parameter: Codes
    at: Ints
    value: Floats

    def by_role(self, at_ms: int, catalogue: Catalogue) -> dict[str, Row]:
        """Event role → the value at the instant and its baseline, where both are known."""
        rows: dict[str, Row] = {}
        for p, one in enumerate(catalogue.parameters):
            last = np.flatnonzero((self.parameter == p) & (self.at <= at_ms) & (self.at >= at_ms - BASELINE_MS))
            last = last[np.argsort(self.at[last])]
            if one.event and one.event not in rows and len(last) > 1 and self.at[last[-1]] == at_ms:
                *before, now = self.value[last[-1 - BASELINE_READINGS :]].tolist()
                rows[one.event] = Row(one.key, now, round(float(np.median(before)), one.decimals + 1))
        return rows


def headline(station: Station, found: Alarms, row: int, by_role: Mapping[str, Row]) -> Headline:
    """The headline of an alarm: its likely cause, and the values of each sensor that supports it.

    ``by_role`` as from :meth:`Measured.by_role`; needed for a sudden event only.
    """
    what = found.meaning(row)
    if found.slow(row):
        keys = list(ROLE_OF_PARAMETER)
        i_of = {role: i for i, role in enumerate(ROLE_OF_PARAMETER.values())}
        rows = [
            Row(keys[i], _finite(found.now[row, i]), _finite(found.usual[row, i]))
            for role, _ in what.evidence
            if (i := i_of.get(role)) is not None
        ]
    else:
        rows = [replace(by_role[role], times_usual=round(size, 1)) for role, size in what.evidence if role in by_role]
    doubtful, matter = bool(found.discount[row]), say(f"event.{what.cause}")
    return Headline(
        station_name(station),
        say("headline.doubtful", matter=matter) if doubtful else matter,
        worst_first(rows, station.water),
        station.key,
        station.water,
        confidence=round(what.confidence, 2),
        score=round(float(found.total[row]), 2),
        threshold=round(float(found.needed[row]), 2),
        event=what.cause,
        doubtful=doubtful,
    )


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def upstream_paths(registry: Registry, river: River) -> tuple[UpstreamPath, ...]:
    """The pairs of stations (by registry position) where one lies above the other, with their travel times."""
    index = registry.index
    return tuple(
        UpstreamPath(index[above], i, way.least_ms, way.most_ms)
        for i, station in enumerate(registry.stations)
        if river.has_above(station.key)
        for above, way in river.above(station).items()
    )


class EventEvaluator:
    """The event rules; the caller keeps ``alarms`` up to date with the findings."""

    def __init__(
        self, rules: Rules, alarms: Mapping[AlarmKey, Alarm], choose: ChooseRule, late_ms: int, catalogue: Catalogue
    ) -> None:
        self._rules = {rule.id: rule for rule in rules.events}
        self._alarms = alarms
        self._choose = choose
        self._late_ms = late_ms
        self._catalogue = catalogue

    def live(
        self,
        seen: CombinedDetection,
        last_alarm: Callable[[int], int],
        station: Codes,
        at: Ints,
        stations: Sequence[Station],
        measured: Callable[[int], StationReadings],
        now_ms: int,
    ) -> list[Finding]:
        """The findings of readings (``station``, ``at``) that continue their series.

        ``last_alarm`` gives the last alarm of a station before ``seen`` (ms), ``measured`` its readings, both by
        registry position. The findings do not depend on how the readings were batched.
        """
        on = {station for rule, station, _ in self._alarms if rule in self._rules}
        alarmed = set(seen.alarms.station.tolist())
        settled: dict[int, list[Settled]] = {}
        for one in seen.doubt.settled:
            if one.outcome is Outcome.DEVICE:
                settled.setdefault(one.station, []).append(one)
        alarmed |= settled.keys()
        findings: list[Finding] = []
        for i in seen.stations.tolist():
            if i not in alarmed and stations[i].key not in on:
                continue
            going = self.going(stations[i].key)
            last_ms = max([last_alarm(i), *(one.fired_at_ms for one in going.values())])
            instants = np.unique(at[station == i])
            rows = np.flatnonzero(seen.alarms.station == i)
            found, _ = self.event_findings(
                stations[i],
                seen.alarms,
                rows,
                going,
                last_ms,
                instants,
                partial(measured, i),
                now_ms,
                settled=settled.get(i, ()),
            )
            findings += found
        return findings

    def going(self, station: str) -> dict[str, Alarm]:
        """Rule → alarm of the active event of a station."""
        return {rule: alarm for rule in self._rules if (alarm := self._alarms.get((rule, station, "")))}

    def event_findings(  # noqa: PLR0913, PLR0917  (columns of one batch)
        self,
        station: Station,
        found: Alarms,
        rows: Iterable[int],
        going: Mapping[str, Alarm],
        last_ms: int,
        instants: Ints,
        measured: Callable[[], StationReadings],
        now_ms: int,
        late: bool = False,
        settled: Sequence[Settled] = (),
    ) -> tuple[list[Finding], dict[str, Alarm]]:
        """The findings of the alarms in ``rows`` at a station, and the alarms that are active after them.

        ``going`` are the active alarms and ``last_ms`` the last alarm of their event; ``instants`` (n,) are those at
        which the station sent. The end of an event of ``late`` data is retrospective where its alarms are. ``settled``
        are the doubtful events that became a device to be checked, oldest first.
        """
        findings: list[Finding] = []
        active, waiting = dict(going), list(settled)

        def withdrawn(until_ms: int | None) -> Iterator[Finding]:
            while waiting and (until_ms is None or waiting[0].at_ms <= until_ms):
                if active and waiting[0].at_ms - last_ms > EVENT_OVER_AFTER_MS:
                    yield from self._ended(station, active, last_ms, instants, now_ms, late)
                    active.clear()
                yield from self._to_device(station, waiting.pop(0), active)

        for a in sorted(rows, key=lambda row: int(found.at[row])):
            at_ms = int(found.at[a])
            findings += withdrawn(at_ms)
            if active and at_ms - last_ms > EVENT_OVER_AFTER_MS:
                findings += self._ended(station, active, last_ms, instants, now_ms, late)
                active.clear()
            last_ms = max(last_ms, at_ms)
            if found.discount[a] and found.outcome[a] != Outcome.OPEN:
                continue  # the doubt is settled already
            meaning = found.meaning(a)
            rule = self._choose(station, found.kind(a), meaning.confidence, at_ms)
            retrospective = self._is_retrospective(station, at_ms, now_ms)
            if rule is None or any(self._covered(one, alarm, rule, retrospective) for one, alarm in active.items()):
                continue
            slow = found.slow(a)
            text = say(
                "finding.event_slow" if slow else "finding.event",
                station=station_name(station),
                at=_when(at_ms, retrospective),
                what=sentence(found, a, figures=False),
            )
            fired = rule.found(
                ConditionChange.FIRED,
                cause=f"{WATER_CAUSE}{station.key}",
                station=station.key,
                observed_at_ms=at_ms,
                since_ms=at_ms,
                retrospective=retrospective,
                text=text,
                headline=headline(station, found, a, {} if slow else measured().by_role(at_ms, self._catalogue)),
            )
            findings.append(fired)
            active[rule.id] = Alarm(fired.cause, at_ms, at_ms, retrospective)
        findings += withdrawn(None)
        if active and len(instants) and int(instants[-1]) - last_ms > EVENT_OVER_AFTER_MS:
            findings += self._ended(station, active, last_ms, instants, now_ms, late)
            active.clear()
        return findings, active

    def _to_device(self, station: Station, one: Settled, active: dict[str, Alarm]) -> Iterator[Finding]:
        """Withdraw a doubtful event that is a device to be checked, also from ``active``, in place."""
        rule = self._choose(station, EventCause.DOUBTFUL, DOUBTFUL_CONFIDENCE, one.since_ms)
        if rule is None:
            return
        alarm = active.get(rule.id)
        if alarm is not None and alarm.fired_at_ms != one.since_ms:
            return  # what is on began with another case
        active.pop(rule.id, None)
        finding = rule.found(
            ConditionChange.WITHDRAWN,
            cause=f"{WATER_CAUSE}{station.key}",
            station=station.key,
            observed_at_ms=one.since_ms,
            since_ms=one.since_ms,
            retrospective=False,
            text=say(
                "finding.doubt_device",
                station=station_name(station),
                since=beijing(one.since_ms),
                at=beijing(one.at_ms),
                reason=device_outcome_text(one),
            ),
            headline=Headline(station_name(station), say("headline.doubt_device")),
        )
        yield replace(finding, kind=FindingKind.DEVICE)

    def applies_to_event(self, station: Station, found: Alarms, row: int) -> bool:
        """Whether any rule applies to an alarm."""
        what = found.meaning(row)
        return self._choose(station, found.kind(row), what.confidence, int(found.at[row])) is not None

    def _covered(self, active_rule: str, alarm: Alarm, rule: EventRule, retrospective: bool) -> bool:
        """Whether an active alarm already covers a finding of ``rule``: as urgent, and of the present where this is."""
        return self._rules[active_rule].colour.rank <= rule.colour.rank and (retrospective or not alarm.retrospective)

    def _is_retrospective(self, station: Station, at_ms: int, now_ms: int) -> bool:
        """Whether an instant is too old to act on; an instant is judged only when the next one has come."""
        return at_ms < now_ms - self._late_ms - 2000 * station.interval_s

    def _ended(
        self, station: Station, active: Mapping[str, Alarm], last_ms: int, instants: Ints, now_ms: int, late: bool
    ) -> Iterator[Finding]:
        """The end of the active event, at the first instant after six hours without an alarm."""
        calm = int(instants[np.searchsorted(instants, last_ms + EVENT_OVER_AFTER_MS, side="right")])
        retrospective = late and all(alarm.retrospective for alarm in active.values())
        for rule, alarm in active.items():
            yield self._rules[rule].found(
                ConditionChange.RESOLVED,
                cause=alarm.cause,
                station=station.key,
                observed_at_ms=calm,
                since_ms=alarm.since_ms,
                retrospective=retrospective,
                text=_ended_text(station, last_ms, calm, self._is_retrospective(station, calm, now_ms)),
            )


def _ended_text(station: Station, last_ms: int, calm_ms: int, retrospective: bool) -> Text:
    return say(
        "finding.event_over",
        station=station_name(station),
        since=_when(last_ms, retrospective),
        at=_when(calm_ms, retrospective),
    )


def _when(at_ms: int, retrospective: bool) -> str:
    """With the year for retrospective findings."""
    return beijing(at_ms, "%Y-%m-%d %H:%M" if retrospective else "%m-%d %H:%M")
