"""All rules at all series: what the pipeline asks after a batch, and the clock asks between batches.

Ordinary readings are dealt with by one vectorised comparison over the batch; only conditions that may turn are walked
one reading at a time. Late data are judged in their own time by the very same walk, once without them and once with
them: what appears only with them is a retrospective finding.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from governance.incidents.finding import Change, Colour, Finding, Kind
from infra.texts import Text, say
from infra.times import DAY_MS, beijing
from ingest.rules import sentences
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.condition import ConditionState, Phase, Transition, Watch, advance_condition, remove_sample
from ingest.rules.daily_pattern import PatternWatches
from ingest.rules.exceedances import Exceedance, PublishedExceedance, compare_exceedances, find_exceedances, vanished
from ingest.rules.model import Bound, DailyPattern, Event, Limit, Rate, Rule, Rules, Trend, Watched
from ingest.rules.no_data import LastSeen, SilenceMonitor
from ingest.rules.places import Places
from ingest.rules.rate import RateWatches
from ingest.rules.schedule import ActiveTimes, Mutes
from ingest.rules.trend import TrendWatches
from ingest.rules.water_events import EventRules
from sensors.maintenance import Mute
from sensors.parameters import Catalogue, Parameter
from sensors.quality.detectors.sudden_events import EventCause
from sensors.reading import Bools, Codes, Flag, Floats, Ints, QualityTest
from sensors.stations import Registry, Station

LATE_S = 900
"""Older than this (or two intervals of the station, whichever is longer) a reading is too old to wake anybody for."""

GAP_INTERVALS = 3
GAP_S = 1800
"""A pause of three promised intervals, and at least half an hour, breaks a pending or recovering count: in less the
water of a tidal river hardly becomes another, and loggers keep thinner records than they send live (our choice)."""


ELSEWHERE = "device:"
"""Causes of findings that others raise and end; no rule speaks of them."""

_BELIEVED = int(QualityTest.PLAUSIBLE_RANGE | QualityTest.OVER_RANGE)
_DOUBTS = int(QualityTest.CROSS_CHECK | QualityTest.ATTENUATED | QualityTest.NEIGHBOURS | QualityTest.BURST)
"""Tests that say that one of several readings is wrong and not which, or that the sensor is or else the water here."""


def usable(packed: Ints) -> Bools:
    """(n,) true for readings a rule may rest on: suspect and bad ones prove nothing.

    But a value that is suspect only for being extreme, or because the instrument is at the end of its range, is what a
    rule is there for: acid of pH 2 is implausible and true. That it lasts is for the rule's own count to see.
    """
    flag, tests = packed & 15, packed >> 4
    extreme = (flag == Flag.SUSPECT) & (tests != 0) & ((tests & ~_BELIEVED) == 0)
    return np.asarray((flag < Flag.SUSPECT) | extreme)


def doubtful(packed: Ints) -> Bools:
    """(n,) true for readings whose own tests are good but for what others or the days before say (decision 0044).

    Such a reading may begin something and keep it up, and ends nothing: it counts where it is beyond a limit only.
    """
    tests = packed >> 4
    doubts = (tests & _DOUBTS != 0) & (tests & ~(_BELIEVED | _DOUBTS) == 0)
    return np.asarray(((packed & 15) == Flag.SUSPECT) & doubts)


@dataclass(frozen=True, slots=True)
class RuleInput:
    """What rules may rest on of the readings of one series, oldest first; (n,) each, canonical unit."""

    at: Ints
    value: Floats
    doubted: Bools

    @classmethod
    def of(cls, at: Ints, value: Floats, packed: Ints) -> "RuleInput":
        doubted = doubtful(packed)
        rows = usable(packed) | doubted
        return cls(at[rows], value[rows], doubted[rows])

    def trusted(self) -> tuple[Ints, Floats]:
        """Without the doubted ones: what is made of readings rests on these."""
        return self.at[~self.doubted], self.value[~self.doubted]

    def samples(self, watch: Watch) -> list[tuple[int, float]]:
        """(ms, value) as a condition counts them."""
        columns = zip(self.at.tolist(), self.value.tolist(), self.doubted.tolist(), strict=True)
        return [(at, value) for at, value, doubted in columns if not doubted or watch.bad(value)]

    def doubts(self) -> frozenset[int]:
        return frozenset(self.at[self.doubted].tolist())


Why = Callable[[int, int], Text | None]
"""Who said what of the readings from one instant to another (ms), so that what rested on them is none; None: nobody."""

Look = Callable[[int | None], tuple[RuleInput, RuleInput]]
"""The readings of a series as they were and as they are, from an instant on at least (ms; None: around the change)."""

LOOK_MS = 1000 * GAP_S
"""So far before an alarm what it rested on is looked for at least."""

Derived = TrendWatches | RateWatches | PatternWatches
"""What judges something made of readings: their trend, their rate, their daily pattern."""


def derived_input(rule: Watched) -> Derived | None:
    """The judge of a rule about something made of readings; None where it judges the readings themselves."""
    match rule:
        case Trend():
            return TrendWatches(rule)
        case Rate():
            return RateWatches(rule)
        case DailyPattern():
            return PatternWatches(rule)
    return None


@dataclass(frozen=True, slots=True)
class _Watched:
    """A watch with what is needed to speak about it."""

    rule: Watched
    station: Station
    parameter: str
    watch: Watch
    bound: Bound

    @property
    def key(self) -> Key:
        return self.rule.id, self.station.key, self.parameter


class RuleEngine:
    """The rules bound to the series that exist; remembers the state of every condition that is not idle.

    ``registry`` is what the rules know of regions and targets; without one stations lie in their own region alone.
    ``back`` tells when a silent gateway spoke again, by rule and gateway; ``fired`` when what may flap did fire;
    ``told`` what people were told of a condition and nobody took back.
    """

    def __init__(
        self,
        rules: Rules,
        catalogue: Catalogue,
        alarms: dict[Key, Alarm],
        late_s: int = LATE_S,
        registry: Registry | None = None,
        back: Mapping[tuple[str, str], int] = MappingProxyType({}),
        fired: Mapping[Key, tuple[int, ...]] = MappingProxyType({}),
        told: Callable[[Key], Sequence[PublishedExceedance]] = lambda _: (),
    ) -> None:
        self.rules = rules
        self.alarms = alarms
        self.told = told
        self.mutes = Mutes()
        self._places = Places(registry or Registry(catalogue=catalogue))
        self._speaking: dict[str, tuple[Rule, ...]] = {}
        self._catalogue = catalogue
        self._late_ms = late_s * 1000
        self._watched: list[_Watched] = []
        self._states: dict[int, ConditionState] = {}
        self._fired = dict(fired)
        self._phase = np.zeros(0, np.uint8)
        self._past = np.zeros(0, np.bool_)
        self._sign, self._limit, self._clear = np.zeros(0), np.zeros(0), np.zeros(0)
        self._centre = np.zeros(0)  # NaN where values are compared as they are
        self._centred = False
        # series → its watches of readings themselves, as ranges of a flat list: (first, how many)
        self._first, self._many = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._derived: dict[str, Derived] = {
            rule.id: judge for rule in rules if isinstance(rule, Watched) and (judge := derived_input(rule)) is not None
        }
        self._silence = SilenceMonitor(rules.no_data, alarms, self.rules_for, back)
        self.sudden = EventRules(rules, alarms, self._of_event, self._late_ms, catalogue)

    # -- binding -----------------------------------------------------------------------------------------------------

    def follow(self, registry: Registry) -> None:
        """Stations were added; those bound already stay as they are."""
        self._places, self._speaking = Places(registry), {}

    def mute(self, mutes: Iterable[Mute]) -> None:
        """These are the mutes from here on."""
        self.mutes.take(mutes)

    def rules_for(self, station: Station) -> tuple[Rule, ...]:
        """The rules that speak of a station; asked for every series, so that it is worth remembering."""
        found = self._speaking.get(station.key)
        if found is None:
            found = self._speaking[station.key] = self.rules.speaking(station, self._places)
        return found

    def _of_event(self, station: Station, cause: EventCause, confidence: float, at_ms: int) -> Event | None:
        """The most urgent rule that speaks of such an event now."""
        for rule in self.rules.of_event(cause, station, self._places):
            if confidence >= rule.confidence and ActiveTimes(rule.id, station.key, rule.when, self.mutes).covers(at_ms):
                return rule
        return None

    def bind(self, series: int, station: Station, parameter: str) -> None:
        """A series exists now; every rule that speaks of it watches it from here on."""
        rules = self.rules_for(station)
        target = self._places.target(station)
        mine = [
            (rule, bound)
            for rule in rules
            if isinstance(rule, Limit)
            and rule.id not in self._derived
            and (bound := rule.bound(parameter, station, target)) is not None
        ]
        self._first, self._many = _room(self._first, series + 1), _room(self._many, series + 1)
        self._first[series], self._many[series] = len(self._watched), len(mine)
        for rule, bound in mine:
            self._add(rule, station, parameter, bound)
        for one in rules:
            if isinstance(one, Rate | Trend | DailyPattern) and one.parameter == parameter:
                self._derived[one.id].bind(series, self._add(one, station, parameter, _bound(one)))

    def _add(self, rule: Watched, station: Station, parameter: str, bound: Bound) -> int:
        number = len(self._watched)
        speaks = ActiveTimes(rule.id, station.key, rule.when, self.mutes)
        watch = _watch(rule, bound, station, self._late_ms, speaks)
        self._watched.append(_Watched(rule, station, parameter, watch, bound))
        self._phase, self._past = _room(self._phase, number + 1), _room(self._past, number + 1)
        self._sign, self._limit = _room(self._sign, number + 1), _room(self._limit, number + 1)
        self._clear, self._centre = _room(self._clear, number + 1), _room(self._centre, number + 1)
        self._sign[number], self._limit[number], self._clear[number] = watch.sign, watch.limit, watch.clear
        self._centre[number] = watch.centre
        self._centred |= not np.isnan(watch.centre)
        return number

    def restore(self, series: int, shown: RuleInput, now_ms: int) -> None:
        """Rebuild the conditions of a series from its stored readings and the alarms table."""
        for number in self._threshold_watches(series):
            self._restore(number, shown.samples(self._watched[number].watch), now_ms)
        for judge in self._derived.values():
            if (row := judge.row(series)) is not None:
                judged = judge.replay(row, *shown.trusted())
                if isinstance(judge, TrendWatches):
                    # judgements before the last few rest on a window that began before these readings do
                    judged = judged[-2 * judge.rule.samples :]
                self._restore(judge.number(row), [(end, x) for end, x, _ in judged], now_ms)

    def _restore(self, number: int, samples: Sequence[tuple[int, float]], now_ms: int) -> None:
        watched = self._watched[number]
        state = ConditionState()
        if alarm := self.alarms.get(watched.key):
            state.held = int(alarm.held)
            state.phase, state.past = Phase.FIRING, alarm.past
            state.since_ms, state.fired_at_ms, state.last_ms = alarm.since_ms, alarm.fired_at_ms, alarm.fired_at_ms
            state.count = watched.watch.samples  # it took at least as many to fire
            samples = [sample for sample in samples if sample[0] > alarm.fired_at_ms]
            turns = advance_condition(watched.watch, state, samples, now_ms)
            # what the readings show and nobody told yet is told by the next reading: until then the alarm stands
            if state.phase is Phase.IDLE and turns:
                state.phase, state.recent = Phase.RECOVERING, ()
                state.calm_since_ms, state.calm_count = turns[-1].since_ms, turns[-1].count
            elif state.phase is Phase.IDLE or state.phase is Phase.PENDING:
                state.phase, state.recent = Phase.FIRING, ()
            state.past = alarm.past
        else:
            advance_condition(watched.watch, state, samples, now_ms)
            if state.phase in (Phase.FIRING, Phase.RECOVERING):  # never announced: the next bad reading announces it
                state.phase, state.past, state.held = Phase.PENDING, False, 0
        # readings may be judged otherwise since: what was told counts, not what they show now
        state.firings = self._fired.get(watched.key, ())
        state.recent = tuple((at, x, replace(before, firings=state.firings)) for at, x, before in state.recent)
        self._keep(number, state)

    # -- judging -----------------------------------------------------------------------------------------------------

    def evaluate(self, series: Codes, at: Ints, value: Floats, packed: Ints, now_ms: int) -> list[Finding]:
        """Judge readings that continue their series, sorted by (series, at), canonical units, with their verdicts."""
        firm, doubted = usable(packed), doubtful(packed)
        rows = np.flatnonzero(firm | doubted)
        findings = self._limits(series[rows], at[rows], value[rows], doubted[rows], now_ms)
        rows = np.flatnonzero(firm)
        for judge in self._derived.values():
            findings += self._judge(judge, series[rows], at[rows], value[rows], now_ms)
        return findings

    def withdraw(self, series: Codes, at: Ints, value: Floats, was: Ints, now: Ints) -> None:
        """The verdicts on these readings, the newest of their series, changed: what counts no longer is taken back."""
        lost = np.flatnonzero(usable(was) & ~usable(now))
        if len(lost):
            for judge in self._derived.values():
                judge.withdraw(series[lost], at[lost], value[lost])
        counted = (usable(was) | doubtful(was)) & ~usable(now)
        doubted = doubtful(now)
        for i in np.flatnonzero(counted).tolist():
            for number in self._threshold_watches(int(series[i])):
                watch, state = self._watched[number].watch, self._states.get(number)
                if state is None or (doubted[i] and watch.bad(float(value[i]))):
                    continue
                if remove_sample(watch, state, int(at[i])):
                    self._keep(number, state)

    def withdrawn(self, registry: Registry) -> list[Finding]:
        """Alarms nobody watches any more, because their rule is gone or no longer speaks of their station."""
        gateways = {s.gateway for s in registry.stations}
        speaking: dict[str, set[str]] = {}
        gone = []
        for key, alarm in self.alarms.items():
            rule, station = key[0], key[1]
            if alarm.cause == f"silence:gateway:{station}":
                watched = station in gateways and self.rules.get(rule) is not None
            elif self.rules.get(rule) is None and alarm.cause.startswith(ELSEWHERE):
                continue  # no rule of ours raised it
            elif station not in registry:
                watched = False
            else:
                if station not in speaking:
                    speaking[station] = {one.id for one in self.rules_for(registry[station])}
                watched = rule in speaking[station]
            if not watched:
                gone.append(_withdrawn(key, alarm))
        return gone

    def _limits(self, series: Codes, at: Ints, value: Floats, doubted: Bools, now_ms: int) -> list[Finding]:
        many = self._many[series]
        rows = np.repeat(np.arange(len(series)), many)
        if not len(rows):
            return []
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        number = np.repeat(self._first[series], many) + offset
        x = value[rows]
        if self._centred:
            centre = self._centre[number]
            x = np.where(np.isnan(centre), x, np.abs(x - centre))
        bad = self._sign[number] * (x - self._limit[number]) > 0
        if doubted.any():
            counts = np.flatnonzero(bad | ~doubted[rows])
            rows, number, x, bad = rows[counts], number[counts], x[counts], bad[counts]
        calm = self._sign[number] * (x - self._clear[number]) <= 0
        phase = self._phase[number]
        firing = phase == Phase.FIRING
        open_ = (phase == Phase.PENDING) | (phase == Phase.RECOVERING)
        turning = open_ | (bad & (phase == Phase.IDLE)) | (firing & (calm | (bad & self._past[number])))
        if not turning.any():
            return []
        findings = []
        for chosen in np.unique(number[turning]).tolist():
            mine = rows[number == chosen]
            samples = list(zip(at[mine].tolist(), value[mine].tolist(), strict=True))
            findings += self._advance(chosen, samples, frozenset(at[mine][doubted[mine]].tolist()), now_ms)
        return findings

    def _advance(
        self, number: int, samples: Sequence[tuple[int, float]], doubts: Container[int], now_ms: int
    ) -> list[Finding]:
        watched = self._watched[number]
        state = self._states.get(number) or ConditionState()
        turns = advance_condition(watched.watch, state, samples, now_ms)
        self._keep(number, state)
        return [_on_the_table(self._finding(watched, turn, None, doubts)) for turn in turns]

    def _keep(self, number: int, state: ConditionState) -> None:
        if state.firings:
            self._fired[self._watched[number].key] = state.firings
        self._phase[number], self._past[number] = state.phase, state.past
        idle = all(before.phase is Phase.IDLE for _, _, before in state.recent)
        if state.phase is Phase.IDLE and idle and not state.firings:
            self._states.pop(number, None)
        else:
            self._states[number] = state

    def _judge(self, judge: Derived, series: Codes, at: Ints, value: Floats, now_ms: int) -> list[Finding]:
        findings = []
        for row, judged in judge.add(series, at, value):
            number = judge.number(row)
            watched = self._watched[number]
            state = self._states.get(number) or ConditionState()
            turns = advance_condition(watched.watch, state, [(end, x) for end, x, _ in judged], now_ms)
            self._keep(number, state)
            means = {end: mean for end, _, mean in judged}
            findings += [_on_the_table(self._finding(watched, turn, means[turn.at_ms])) for turn in turns]
        return findings

    def late(
        self, series: int, before: RuleInput, after: RuleInput, now_ms: int
    ) -> tuple[list[Finding], list[Finding]]:
        """What late readings show: the readings of the series around them, without and with them.

        Returns all findings, and those of them that change what is firing now. They are retrospective when
        they are too old to act on; a reading that was overtaken by seconds is not.
        """
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for number in [*self._threshold_watches(series), *self._derived_watches(series)]:
            watched = self._watched[number]
            known, _ = self._spans(watched, before, now_ms)
            shown, means = self._spans(watched, after, now_ms)
            alarm = self.alarms.get(watched.key)
            fired_at_ms, past = (alarm.fired_at_ms, alarm.past) if alarm else (None, False)
            for one in compare_exceedances(known, shown, fired_at_ms, past):
                found = [self._finding(watched, turn, means.get(turn.at_ms), after.doubts()) for turn in one.turns]
                findings += found
                if watched.watch.flaps:
                    more = (turn.at_ms for turn in one.turns if turn.fired)
                    self._fired[watched.key] = tuple(sorted({*self._fired.get(watched.key, ()), *more}))
                if one.lasting:
                    lasting += found
        return findings, lasting

    def withdrawn_by_review(
        self, series: int, look: Look, why: Why, now_ms: int
    ) -> tuple[list[Finding], list[Finding]]:
        """What rested on readings that somebody declared wrong or corrected: the readings as they were and as they are.

        Each crossing people were told of that the readings showed and show no longer is withdrawn, whether it is still
        on or long over, with the reason that ``why`` knows. Returns all findings, and those that end what is firing.
        """
        found: list[Finding] = []
        ended: list[Finding] = []
        for number in [*self._threshold_watches(series), *self._derived_watches(series)]:
            watched = self._watched[number]
            start_ms, was, still = self._shown_by(watched, look, None, now_ms)
            lost = list(vanished(was, still))
            for told in self.told(watched.key) if lost else ():
                if not told.among(lost):
                    continue
                if told.first_ms < start_ms:  # it began before the readings at hand
                    _, was, still = self._shown_by(watched, look, told.first_ms - LOOK_MS, now_ms)
                showed = told.among(was)
                first_ms = min((one.fired.since_ms for one in showed), default=0) - _made_of_ms(watched.rule)
                reason = why(first_ms, max((one.last_ms for one in showed), default=0))
                if not showed or told.among(still) or reason is None:
                    continue  # it stands on other readings, or what it rested on is only doubted
                alarm = self.alarms.get(watched.key)
                on = alarm is not None and alarm.fired_at_ms in (told.first_ms, told.fired_ms)
                found.append(self._disproved(watched, showed[0], told.fired_ms, alarm if on else None, reason))
                fired = self._fired.pop(watched.key, ())
                self._fired[watched.key] = tuple(at for at in fired if at != told.fired_ms)
                ended += found[-1:] if on else []
        return found, ended

    def _shown_by(
        self, watched: _Watched, look: Look, first_ms: int | None, now_ms: int
    ) -> tuple[int, list[Exceedance], list[Exceedance]]:
        """Since when readings were looked at, and the crossings they showed before and show after."""
        before, after = look(first_ms)
        start_ms = int(before.at[0]) if len(before.at) else 0
        return start_ms, self._spans(watched, before, now_ms)[0], self._spans(watched, after, now_ms)[0]

    def _disproved(
        self, watched: _Watched, span: Exceedance, fired_ms: int, alarm: Alarm | None, reason: Text
    ) -> Finding:
        turn = span.fired
        text = say(
            "finding.disproved",
            station=sentences.name(watched.station),
            parameter=sentences.parameter(self._catalogue[watched.parameter]),
            since=beijing(turn.since_ms, "%Y-%m-%d %H:%M"),
            value=_measured(watched.rule, self._catalogue[watched.parameter], turn.value),
            reason=reason,
        )
        finding = self._finding(watched, turn, None)
        return replace(
            finding,
            change=Change.WITHDRAWN,
            cause=alarm.cause if alarm else finding.cause,
            observed_at_ms=fired_ms,
            retrospective=alarm.past if alarm else turn.past,
            text=text,
            headline=None,
        )

    def _spans(self, watched: _Watched, shown: RuleInput, now_ms: int) -> tuple[list[Exceedance], dict[int, float]]:
        """The crossings in these readings; for what is made of readings, the value that goes with each judgement."""
        one = derived_input(watched.rule)
        if one is None:
            return find_exceedances(watched.watch, shown.samples(watched.watch), now_ms), {}
        one.bind(0, 0)
        judged = one.replay(0, *shown.trusted())
        made, means = [(end, x) for end, x, _ in judged], {end: mean for end, _, mean in judged}
        return find_exceedances(watched.watch, made, now_ms), means

    def _threshold_watches(self, series: int) -> range:
        if series >= len(self._first):
            return range(0)
        return range(int(self._first[series]), int(self._first[series] + self._many[series]))

    def _derived_watches(self, series: int) -> list[int]:
        rows = ((judge, judge.row(series)) for judge in self._derived.values())
        return [judge.number(row) for judge, row in rows if row is not None]

    # -- no data -----------------------------------------------------------------------------------------------------

    def tick(
        self,
        registry: Registry,
        heard_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int | None,
        now_ms: int,
        sensors: LastSeen | None = None,
    ) -> list[Finding]:
        """Which stations and sensors fell silent, and which sent again (`ingest.rules.no_data.SilenceMonitor.tick`)."""
        return self._silence.tick(registry, heard_ms, excused_ms, connected_since_ms, now_ms, sensors)

    # -- words -------------------------------------------------------------------------------------------------------

    def _finding(
        self, watched: _Watched, turn: Transition, value: float | None, doubts: Container[int] = frozenset()
    ) -> Finding:
        rule, station, bound = watched.rule, watched.station, watched.bound
        parameter = self._catalogue[watched.parameter]
        measured = turn.value if value is None or np.isnan(value) else value
        alarm = None if turn.fired else self.alarms.get(watched.key)
        text = sentences.reading(rule, bound, station, turn, parameter, measured, self._places.target(station))
        if turn.at_ms in doubts:
            text = sentences.doubted(text, parameter, station, self._catalogue)
        return rule.found(
            Change.FIRED if turn.fired else Change.RESOLVED,
            cause=alarm.cause if alarm else f"{'pattern' if isinstance(rule, DailyPattern) else 'water'}:{station.key}",
            station=station.key,
            parameter=watched.parameter,
            observed_at_ms=turn.at_ms,
            since_ms=turn.since_ms,
            value=measured,
            limit=_said_limit(rule, bound, turn.value),
            retrospective=turn.past,
            text=text,
            held=bool(turn.fired and turn.held),
            headline=sentences.headline(rule, bound, station, turn, parameter, measured, doubtful=turn.at_ms in doubts)
            if turn.fired
            else None,
        )


def _on_the_table(finding: Finding) -> Finding:
    """The end of the alarm that is on concerns the incident that holds it, also where what was found in the past became
    one of today: it is no late news, however late it is."""
    return replace(finding, retrospective=False) if finding.change is Change.RESOLVED else finding


def _said_limit(rule: Watched, bound: Bound, x: float) -> float:
    """The limit as the rule says it: a size for what moves, the share for a pattern, otherwise what was crossed."""
    match rule:
        case Trend() | Rate():
            return rule.per_hour
        case DailyPattern():
            return rule.share
    return bound.crossed(x)


def _measured(rule: Watched, parameter: Parameter, value: float) -> Text:
    """The reading that decided, in brackets; nothing where the rule is about something made of readings."""
    if isinstance(rule, Trend | Rate | DailyPattern):
        return Text("", "")
    shown = parameter.show(value)
    return Text(f"（{shown}）", f" ({shown})")


def _made_of_ms(rule: Watched) -> int:
    """From how long before its first judgement on a crossing rests on readings."""
    return 1000 * rule.lookback_s if isinstance(rule, Trend | Rate | DailyPattern) else 0


def _bound(rule: Trend | Rate | DailyPattern) -> Bound:
    if isinstance(rule, DailyPattern):
        return Bound(-1, rule.share, rule.clear_share)
    return Bound(rule.side.sign, rule.side.sign * rule.per_hour, rule.side.sign * rule.clear_per_hour)


def _watch(rule: Watched, bound: Bound, station: Station, late_ms: int, speaks: ActiveTimes) -> Watch:
    gap_ms = max(GAP_INTERVALS * station.interval_s, GAP_S) * 1000
    late_ms = max(late_ms, 2 * station.interval_s * 1000)  # a bin is complete only when the next reading arrives
    sides = (bound.sign, bound.limit, bound.clear)
    if isinstance(rule, Trend):
        gap_ms = GAP_INTERVALS * (rule.window_s * 1000 // rule.bins)
        return Watch(*sides, 0, rule.samples, 0, gap_ms, late_ms, speaks=speaks)
    if isinstance(rule, DailyPattern):
        return Watch(*sides, 0, rule.days, 0, GAP_INTERVALS * DAY_MS, late_ms, speaks=speaks)
    return Watch(
        *sides,
        rule.pending_s * 1000,
        rule.samples,
        rule.keep_firing_s * 1000,
        gap_ms,
        late_ms,
        bound.centre,
        speaks,
        rule.flaps,
        rule.flap_window_s * 1000,
        rule.hold_s * 1000,
    )


def _withdrawn(key: Key, alarm: Alarm) -> Finding:
    rule, station, parameter = key
    return Finding(
        rule=rule,
        version="",
        kind=Kind.NO_DATA if alarm.cause.startswith("silence:") else Kind.THRESHOLD if parameter else Kind.EVENT,
        change=Change.RESOLVED,
        cause=alarm.cause,
        station=station,
        parameter=parameter or None,
        observed_at_ms=alarm.fired_at_ms,
        since_ms=alarm.since_ms,
        colour=Colour.BLUE,
        retrospective=alarm.past,
        text=say("finding.withdrawn", rule=rule, station=station),
    )


def _room(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, grown (with zeros) when it is too short; doubling, so that growing costs little."""
    if size <= len(array):
        return array
    more = np.zeros(max(size, 2 * len(array), 64) - len(array), array.dtype)
    return np.concatenate([array, more])
