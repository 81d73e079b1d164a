"""Evaluate all rules at all series: after each batch (:meth:`RuleEngine.evaluate`) and on a timer
(:meth:`RuleEngine.tick`).

Where each kind of rule is evaluated: limits in :mod:`.threshold`; rates, trends and daily patterns in :mod:`.rate`,
:mod:`.trend`, :mod:`.daily_pattern`; silence in :mod:`.no_data`; changes of the water in :mod:`.water_events`. When a
condition fires and ends is decided in :mod:`.condition`.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from infra.texts import Text, say
from ingest.rules import sentences
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.bound_rule import BoundRule, BoundRules, derived_bound
from ingest.rules.condition import ConditionState, Phase, Samples, Transition, advance_condition, remove_sample
from ingest.rules.daily_pattern import DailyPatternEvaluator
from ingest.rules.derived_values import DerivedEvaluator
from ingest.rules.exceedances import Exceedance, PublishedExceedance, compare_exceedances, disappeared, find_exceedances
from ingest.rules.model import (
    Bound,
    DailyPattern,
    DerivedSeriesRule,
    EventRule,
    LimitRule,
    Rate,
    Rule,
    Rules,
    SeriesRule,
    Trend,
)
from ingest.rules.no_data import SilenceMonitor
from ingest.rules.places import Places
from ingest.rules.rate import RateEvaluator
from ingest.rules.rule_input import RuleInput, doubtful, usable
from ingest.rules.schedule import ActiveTimes, Mutes
from ingest.rules.threshold import ThresholdEvaluator
from ingest.rules.trend import TrendEvaluator
from ingest.rules.water_events import EventEvaluator
from sensors.maintenance import Mute
from sensors.parameters import Catalogue
from sensors.quality.events import EventCause
from sensors.reading import Bools, Codes, Floats, Ints
from sensors.stations import Registry, Station

__all__ = ["LATE_AFTER_S", "ChangeReason", "ReadingsBeforeAfter", "RuleEngine", "RuleInput", "doubtful", "usable"]

LATE_AFTER_S = 900
"""A reading older than this (or two intervals of its station, whichever is longer) notifies nobody."""

DEVICE_CAUSES = "device:"
"""Prefix of the causes of findings about devices, which no rule raises."""

LOOK_BACK_MS = 1_800_000
"""How far before an alarm the readings are examined that it rested on, at least."""

ChangeReason = Callable[[int, int], Text | None]
"""Text naming who changed the readings between two instants (ms); None: no change."""

ReadingsBeforeAfter = Callable[[int | None], tuple[RuleInput, RuleInput]]
"""The readings of a series before and after a change, from an instant on at least (ms; None: around the change)."""


def derived_evaluator(rule: DerivedSeriesRule) -> DerivedEvaluator:
    """The evaluation of a rule about a derived value."""
    match rule:
        case Trend():
            return TrendEvaluator(rule)
        case Rate():
            return RateEvaluator(rule)
        case DailyPattern():
            return DailyPatternEvaluator(rule)


class RuleEngine:
    """The rules bound to the series that exist, and the state of every condition that is not idle.

    Parameters
    ----------
    alarms : the active alarms; the caller keeps them up to date with the findings
    late_s : the age from which readings are late
    registry : regions and target classes; without one, stations lie in their own region alone
    back : (rule, gateway) → when a silent gateway sent again (ms)
    fired : when conditions that may flap fired lately (ms)
    published : the exceedances of a condition that were published and not withdrawn
    """

    def __init__(
        self,
        rules: Rules,
        catalogue: Catalogue,
        alarms: dict[AlarmKey, Alarm],
        late_s: int = LATE_AFTER_S,
        registry: Registry | None = None,
        lookbacks: Mapping[tuple[str, str], int] = MappingProxyType({}),
        fired: Mapping[AlarmKey, tuple[int, ...]] = MappingProxyType({}),
        published: Callable[[AlarmKey], Sequence[PublishedExceedance]] = lambda _: (),
    ) -> None:
        self.rules = rules
        self.among = rules
        """The rules of which the most specific ones apply; others than ``rules`` where only some are evaluated."""
        self.alarms = alarms
        self.mutes = Mutes()
        self._published = published
        self._places = Places(registry or Registry(catalogue=catalogue))
        self._rules_by_station: dict[str, tuple[Rule, ...]] = {}
        self._rules_by_scope: dict[tuple[object, ...], tuple[Rule, ...]] = {}
        self._catalogue = catalogue
        self._late_ms = late_s * 1000
        self._bound = BoundRules(self._late_ms, self.mutes)
        self._states: dict[int, ConditionState] = {}  # by number, without those that are idle
        self._fired = dict(fired)
        self._thresholds = ThresholdEvaluator()
        self._derived = {rule.id: derived_evaluator(rule) for rule in rules if isinstance(rule, DerivedSeriesRule)}
        self.silence = SilenceMonitor(rules.no_data, alarms, self.rules_for, lookbacks)
        self.sudden = EventEvaluator(rules, alarms, self._most_urgent, self._late_ms, catalogue)

    # -- binding -----------------------------------------------------------------------------------------------------

    def follow(self, registry: Registry) -> None:
        """Use a registry with further stations; series that are bound stay as they are."""
        self._places, self._rules_by_station, self._rules_by_scope = Places(registry), {}, {}

    def mute(self, mutes: Iterable[Mute]) -> None:
        """Replace the mutes."""
        self.mutes.take(mutes)

    def rules_for(self, station: Station) -> tuple[Rule, ...]:
        """The rules that apply to a station."""
        found = self._rules_by_station.get(station.key)
        if found is None:
            scope = (station.region, station.reach, station.water, self.among.naming(station))
            if scope not in self._rules_by_scope:
                ids = {rule.id for rule in self.rules}
                applicable = self.among.applicable(station, self._places)
                self._rules_by_scope[scope] = tuple(rule for rule in applicable if rule.id in ids)
            found = self._rules_by_station[station.key] = self._rules_by_scope[scope]
        return found

    def _most_urgent(self, station: Station, cause: EventCause, confidence: float, at_ms: int) -> EventRule | None:
        """The most urgent rule for an event of this cause and confidence that is active at the instant."""
        for rule in self.rules.event_rules(cause, station, self._places):
            if confidence >= rule.confidence and ActiveTimes(rule.id, station.key, rule.when, self.mutes).covers(at_ms):
                return rule
        return None

    def bind(self, series: int, station: Station, parameter: str) -> None:
        """Apply every rule that concerns it to a new series."""
        rules = self.rules_for(station)
        target = self._places.target(station)
        first = len(self._bound)
        for rule in rules:
            if isinstance(rule, LimitRule) and not isinstance(rule, Rate):
                bound = rule.bound(parameter, station, target)
                if bound is not None:
                    self._add(rule, station, parameter, bound)
        self._thresholds.bind(series, first, len(self._bound) - first)
        for rule in rules:
            if isinstance(rule, DerivedSeriesRule) and rule.parameter == parameter:
                self._derived[rule.id].bind(series, self._add(rule, station, parameter, derived_bound(rule)))

    def _add(self, rule: SeriesRule, station: Station, parameter: str, bound: Bound) -> int:
        number = self._bound.add(rule, station, self._catalogue[parameter], bound)
        self._thresholds.add(number, bound)
        return number

    def _derived_numbers(self, series: int) -> list[int]:
        rows = ((rule, rule.row(series)) for rule in self._derived.values())
        return [rule.number(row) for rule, row in rows if row is not None]

    # -- restart -----------------------------------------------------------------------------------------------------

    def restore(self, series: int, shown: RuleInput, now_ms: int) -> None:
        """Rebuild the conditions of a series from its stored readings and the active alarms."""
        for number in self._thresholds.numbers(series):
            self._restore(number, shown.samples(self._bound[number].condition), now_ms)
        for rule in self._derived.values():
            if (row := rule.row(series)) is not None:
                derived = rule.replay(row, *shown.trusted())
                if isinstance(rule, TrendEvaluator):
                    # earlier slopes rest on a window that began before these readings
                    derived = derived[-2 * rule.rule.samples :]
                self._restore(rule.number(row), [(one.at_ms, one.compared) for one in derived], now_ms)

    def _restore(self, number: int, samples: Samples, now_ms: int) -> None:
        one = self._bound[number]
        state = ConditionState()
        if alarm := self.alarms.get(one.key):
            self._restore_firing(one, state, alarm, samples, now_ms)
        else:
            advance_condition(one.condition, state, samples, now_ms)
            if state.phase in (Phase.FIRING, Phase.RECOVERING):  # not published: the next exceeding reading fires it
                state.phase, state.retrospective, state.flap_count = Phase.PENDING, False, 0
        # the published firings count, whatever the readings show now
        state.firings = self._fired.get(one.key, ())
        state.recent = tuple((at, x, replace(before, firings=state.firings)) for at, x, before in state.recent)
        self._set_state(number, state)

    @staticmethod
    def _restore_firing(one: BoundRule, state: ConditionState, alarm: Alarm, samples: Samples, now_ms: int) -> None:
        """Restore a condition that is firing; what the readings show besides is published with the next reading."""
        state.flap_count = int(alarm.flapping)
        state.phase, state.retrospective = Phase.FIRING, alarm.retrospective
        state.since_ms, state.fired_at_ms, state.last_ms = alarm.since_ms, alarm.fired_at_ms, alarm.fired_at_ms
        state.count = one.condition.samples  # it took at least as many to fire
        samples = [sample for sample in samples if sample[0] > alarm.fired_at_ms]
        transitions = advance_condition(one.condition, state, samples, now_ms)
        if state.phase is Phase.IDLE and transitions:
            state.phase, state.recent = Phase.RECOVERING, ()
            state.calm_since_ms, state.calm_count = transitions[-1].since_ms, transitions[-1].count
        elif state.phase is Phase.IDLE or state.phase is Phase.PENDING:
            state.phase, state.recent = Phase.FIRING, ()
        state.retrospective = alarm.retrospective

    def _set_state(self, number: int, state: ConditionState) -> None:
        if state.firings:
            self._fired[self._bound[number].key] = state.firings
        self._thresholds.update(number, state)
        idle = all(before.phase is Phase.IDLE for _, _, before in state.recent)
        if state.phase is Phase.IDLE and idle and not state.firings:
            self._states.pop(number, None)
        else:
            self._states[number] = state

    # -- new readings ------------------------------------------------------------------------------------------------

    def evaluate(self, series: Codes, at: Ints, value: Floats, packed: Ints, now_ms: int) -> list[Finding]:
        """Evaluate readings that continue their series: (n,) each, sorted by (series, at), canonical units.

        ``packed`` are their flags and tests.
        """
        trusted, doubted = usable(packed), doubtful(packed)
        rows = np.flatnonzero(trusted | doubted)
        findings = self._evaluate_thresholds(series[rows], at[rows], value[rows], doubted[rows], now_ms)
        rows = np.flatnonzero(trusted)
        for rule in self._derived.values():
            findings += self._evaluate_derived(rule, series[rows], at[rows], value[rows], now_ms)
        return findings

    def _evaluate_thresholds(
        self, series: Codes, at: Ints, value: Floats, doubted: Bools, now_ms: int
    ) -> list[Finding]:
        findings = []
        for number, rows in self._thresholds.changing(series, value, doubted):
            samples = list(zip(at[rows].tolist(), value[rows].tolist(), strict=True))
            doubted_at = frozenset(at[rows][doubted[rows]].tolist())
            transitions = self._advance(number, samples, now_ms)
            findings += [self._live_finding(number, one, one.value, doubted_at) for one in transitions]
        return findings

    def _evaluate_derived(
        self, rule: DerivedEvaluator, series: Codes, at: Ints, value: Floats, now_ms: int
    ) -> list[Finding]:
        findings = []
        for row, derived in rule.add(series, at, value):
            number = rule.number(row)
            measured = {one.at_ms: one.measured for one in derived}
            transitions = self._advance(number, [(one.at_ms, one.compared) for one in derived], now_ms)
            findings += [self._live_finding(number, one, measured[one.at_ms]) for one in transitions]
        return findings

    def _advance(self, number: int, samples: Samples, now_ms: int) -> list[Transition]:
        state = self._states.get(number) or ConditionState()
        transitions = advance_condition(self._bound[number].condition, state, samples, now_ms)
        self._set_state(number, state)
        return transitions

    def withdraw(self, series: Codes, at: Ints, value: Floats, was: Ints, now: Ints) -> None:
        """Take back readings (n,), the newest of their series, whose flags changed from ``was`` to ``now``."""
        lost = np.flatnonzero(usable(was) & ~usable(now))
        if len(lost):
            for rule in self._derived.values():
                rule.withdraw(series[lost], at[lost], value[lost])
        counted = (usable(was) | doubtful(was)) & ~usable(now)
        doubted = doubtful(now)
        for i in np.flatnonzero(counted).tolist():
            for number in self._thresholds.numbers(int(series[i])):
                condition, state = self._bound[number].condition, self._states.get(number)
                if state is None or (doubted[i] and condition.exceeds(float(value[i]))):
                    continue
                if remove_sample(condition, state, int(at[i])):
                    self._set_state(number, state)

    def withdrawn(self, registry: Registry) -> list[Finding]:
        """End the alarms of stations out of service, and those whose rule is gone or no longer applies to theirs."""
        gateways = {s.gateway for s in registry.stations}
        ids: dict[str, set[str]] = {}
        ended = []
        for key, alarm in self.alarms.items():
            rule, station = key[0], key[1]
            if station in registry.retired:
                name = sentences.station_name(registry[station])
                ended.append(_ended(key, alarm, say("finding.retired", station=name)))
                continue
            if alarm.cause == f"silence:gateway:{station}":
                applies = station in gateways and self.rules.get(rule) is not None
            elif self.rules.get(rule) is None and alarm.cause.startswith(DEVICE_CAUSES):
                continue
            elif station not in registry:
                applies = False
            else:
                if station not in ids:
                    ids[station] = {one.id for one in self.rules_for(registry[station])}
                applies = rule in ids[station]
            if not applies:
                ended.append(_ended(key, alarm, say("finding.withdrawn", rule=rule, station=station)))
        return ended

    # -- late and corrected readings ---------------------------------------------------------------------------------

    def late(
        self, series: int, before: RuleInput, after: RuleInput, now_ms: int
    ) -> tuple[list[Finding], list[Finding]]:
        """Evaluate late readings of a series, given the readings around them without and with them.

        Returns all findings, and those that change what is firing now. A finding is retrospective where its readings
        are too old to act on.
        """
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for number in [*self._thresholds.numbers(series), *self._derived_numbers(series)]:
            one = self._bound[number]
            exceedances_before, _ = self._exceedances(one, before, now_ms)
            exceedances_after, measured = self._exceedances(one, after, now_ms)
            alarm = self.alarms.get(one.key)
            fired_at_ms, retrospective = (alarm.fired_at_ms, alarm.retrospective) if alarm else (None, False)
            for change in compare_exceedances(exceedances_before, exceedances_after, fired_at_ms, retrospective):
                found = [
                    self._finding(one, t, measured.get(t.at_ms, t.value), after.doubted_at())
                    for t in change.transitions
                ]
                findings += found
                if one.condition.flaps:
                    more = (t.at_ms for t in change.transitions if t.fired)
                    self._fired[one.key] = tuple(sorted({*self._fired.get(one.key, ()), *more}))
                if change.lasting:
                    lasting += found
        return findings, lasting

    def withdraw_disproved(
        self, series: int, read_window: ReadingsBeforeAfter, why: ChangeReason, now_ms: int
    ) -> tuple[list[Finding], list[Finding]]:
        """Withdraw the exceedances based on readings that were declared wrong or corrected.

        An exceedance that was published, that the readings showed before and do not show after, is withdrawn, whether
        it is active or over, with the reason from ``why``. Returns all findings, and those that end an active alarm.
        """
        found: list[Finding] = []
        ended: list[Finding] = []
        for number in [*self._thresholds.numbers(series), *self._derived_numbers(series)]:
            one = self._bound[number]
            start_ms, before, after = self._before_and_after(one, read_window, None, now_ms)
            lost = disappeared(before, after)
            for published in self._published(one.key) if lost else ():
                if not published.among(lost):
                    continue
                if published.first_ms < start_ms:  # it began before the readings at hand
                    from_ms = published.first_ms - LOOK_BACK_MS
                    _, before, after = self._before_and_after(one, read_window, from_ms, now_ms)
                shown = published.among(before)
                first_ms = min((span.fired.since_ms for span in shown), default=0) - one.derived_from_ms
                reason = why(first_ms, max((span.last_ms for span in shown), default=0))
                if not shown or published.among(after) or reason is None:
                    continue  # other readings still show it, or its readings are only doubted
                alarm = self.alarms.get(one.key)
                active = alarm is not None and alarm.fired_at_ms in (published.first_ms, published.fired_ms)
                found.append(self._disproved(one, shown[0], published.fired_ms, alarm if active else None, reason))
                fired = self._fired.pop(one.key, ())
                self._fired[one.key] = tuple(at for at in fired if at != published.fired_ms)
                ended += found[-1:] if active else []
        return found, ended

    def _before_and_after(
        self, one: BoundRule, read_window: ReadingsBeforeAfter, first_ms: int | None, now_ms: int
    ) -> tuple[int, list[Exceedance], list[Exceedance]]:
        """When the examined readings begin (ms), and the exceedances that they showed before and show after."""
        before, after = read_window(first_ms)
        start_ms = int(before.at[0]) if len(before.at) else 0
        return start_ms, self._exceedances(one, before, now_ms)[0], self._exceedances(one, after, now_ms)[0]

    @staticmethod
    def _exceedances(one: BoundRule, shown: RuleInput, now_ms: int) -> tuple[list[Exceedance], dict[int, float]]:
        """The exceedances in these readings; of a derived rule also the measured value of each instant (ms)."""
        if not isinstance(one.rule, DerivedSeriesRule):
            return find_exceedances(one.condition, shown.samples(one.condition), now_ms), {}
        rule = derived_evaluator(one.rule)
        rule.bind(0, 0)
        derived = rule.replay(0, *shown.trusted())
        samples = [(value.at_ms, value.compared) for value in derived]
        return find_exceedances(one.condition, samples, now_ms), {v.at_ms: v.measured for v in derived}

    # -- findings ----------------------------------------------------------------------------------------------------

    def _live_finding(
        self, number: int, transition: Transition, measured: float, doubted_at: Container[int] = frozenset()
    ) -> Finding:
        """The finding of a live transition. The end of an alarm is never retrospective: it concerns the incident that
        holds the alarm."""
        finding = self._finding(self._bound[number], transition, measured, doubted_at)
        return replace(finding, retrospective=False) if finding.change is ConditionChange.RESOLVED else finding

    def _finding(
        self, one: BoundRule, transition: Transition, measured: float, doubted_at: Container[int] = frozenset()
    ) -> Finding:
        measured = transition.value if np.isnan(measured) else measured
        alarm = None if transition.fired else self.alarms.get(one.key)
        is_doubtful = transition.at_ms in doubted_at
        text = sentences.series_text(one, transition, measured, self._places.target(one.station))
        if is_doubtful:
            text = sentences.with_contradiction(text, one.parameter, one.station, self._catalogue)
        subject = "pattern" if isinstance(one.rule, DailyPattern) else "water"
        return one.rule.found(
            ConditionChange.FIRED if transition.fired else ConditionChange.RESOLVED,
            cause=alarm.cause if alarm else f"{subject}:{one.station.key}",
            station=one.station.key,
            parameter=one.parameter.key,
            observed_at_ms=transition.at_ms,
            since_ms=transition.since_ms,
            value=measured,
            limit=one.reported_limit(transition.value),
            retrospective=transition.retrospective,
            text=text,
            flapping=bool(transition.fired and transition.flap_count),
            headline=sentences.series_headline(one, transition, measured, doubtful=is_doubtful)
            if transition.fired
            else None,
        )

    def _disproved(self, one: BoundRule, span: Exceedance, fired_ms: int, alarm: Alarm | None, reason: Text) -> Finding:
        finding = self._finding(one, span.fired, span.fired.value)
        return replace(
            finding,
            change=ConditionChange.WITHDRAWN,
            cause=alarm.cause if alarm else finding.cause,
            observed_at_ms=fired_ms,
            retrospective=alarm.retrospective if alarm else span.fired.retrospective,
            text=sentences.disproved_text(one, span.fired, reason),
            headline=None,
        )


def _ended(key: AlarmKey, alarm: Alarm, text: Text) -> Finding:
    """The end of an alarm by other means than readings."""
    rule, station, parameter = key
    return Finding(
        rule=rule,
        version="",
        kind=FindingKind.NO_DATA
        if alarm.cause.startswith("silence:")
        else FindingKind.THRESHOLD
        if parameter
        else FindingKind.EVENT,
        change=ConditionChange.RESOLVED,
        cause=alarm.cause,
        station=station,
        parameter=parameter or None,
        observed_at_ms=alarm.fired_at_ms,
        since_ms=alarm.since_ms,
        colour=Colour.BLUE,
        retrospective=alarm.retrospective,
        text=text,
    )
