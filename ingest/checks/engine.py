"""All rules at all series: what the pipeline asks after a batch, and the clock asks between batches.

Ordinary readings are dealt with by one vectorised comparison over the batch; only conditions that may turn are walked
one reading at a time. Late data are judged in their own time by the very same walk, once without them and once with
them: what appears only with them is a retrospective finding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from governance.finding import Change, Colour, Finding, Kind
from ingest.checks import wording
from ingest.checks.alarms import Alarm, Key
from ingest.checks.condition import Phase, State, Turn, Watch, take_back, walk
from ingest.checks.no_data import Silence
from ingest.checks.rules import NoData, Rules, Threshold, Trend
from ingest.checks.spans import Span, news, spans
from ingest.checks.trend import TrendWatches
from sensors.parameters import Catalogue
from sensors.reading import Bools, Codes, Flag, Floats, Ints, QualityTest
from sensors.stations import Registry, Station
from sensors.texts import say

LATE_S = 900
"""Older than this (or two intervals of the station, whichever is longer) a reading is too old to wake anybody for."""

GAP_INTERVALS = 3
GAP_S = 1800
"""A pause of three promised intervals, and at least half an hour, breaks a pending or recovering count: in less the
water of a tidal river hardly becomes another, and loggers keep thinner records than they send live (our choice)."""


_BELIEVED = int(QualityTest.PLAUSIBLE_RANGE | QualityTest.OVER_RANGE)


def usable(packed: Ints) -> Bools:
    """(n,) true for readings a rule may rest on: suspect and bad ones prove nothing.

    But a value that is suspect only for being extreme, or because the instrument is at the end of its range, is what a
    rule is there for: acid of pH 2 is implausible and true. That it lasts is for the rule's own count to see.
    """
    flag, tests = packed & 15, packed >> 4
    extreme = (flag == Flag.SUSPECT) & (tests != 0) & ((tests & ~_BELIEVED) == 0)
    return np.asarray((flag < Flag.SUSPECT) | extreme)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A watch with what is needed to speak about it."""

    rule: Threshold | Trend
    station: Station
    parameter: str
    watch: Watch


class Checks:
    """The rules bound to the series that exist; remembers the state of every condition that is not idle."""

    def __init__(self, rules: Rules, catalogue: Catalogue, alarms: dict[Key, Alarm], late_s: int = LATE_S) -> None:
        self.rules = rules
        self.alarms = alarms
        self._catalogue = catalogue
        self._late_ms = late_s * 1000
        self._watched: list[_Watched] = []
        self._states: dict[int, State] = {}
        self._phase = np.zeros(0, np.uint8)
        self._past = np.zeros(0, np.bool_)
        self._sign, self._limit, self._clear = np.zeros(0), np.zeros(0), np.zeros(0)
        # series → its threshold watches, as ranges of a flat list: (first, how many)
        self._first, self._many = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._trends: dict[str, TrendWatches] = {r.id: TrendWatches(r) for r in rules.trends}
        self._silence = Silence(rules.no_data, alarms)

    # -- binding -----------------------------------------------------------------------------------------------------

    def bind(self, series: int, station: Station, parameter: str) -> None:
        """A series exists now; every rule that speaks of it watches it from here on."""
        mine = [r for r in self.rules.thresholds if r.parameter == parameter and r.where.matches(station)]
        self._first, self._many = _room(self._first, series + 1), _room(self._many, series + 1)
        self._first[series], self._many[series] = len(self._watched), len(mine)
        for rule in mine:
            self._add(rule, station, parameter, _threshold_watch(rule, station, self._late_ms))
        for trend in self.rules.trends:
            if trend.parameter == parameter and trend.where.matches(station):
                number = self._add(trend, station, parameter, _trend_watch(trend, station, self._late_ms))
                self._trends[trend.id].bind(series, number)

    def _add(self, rule: Threshold | Trend, station: Station, parameter: str, watch: Watch) -> int:
        number = len(self._watched)
        self._watched.append(_Watched(rule, station, parameter, watch))
        self._phase, self._past = _room(self._phase, number + 1), _room(self._past, number + 1)
        self._sign, self._limit = _room(self._sign, number + 1), _room(self._limit, number + 1)
        self._clear = _room(self._clear, number + 1)
        self._sign[number], self._limit[number], self._clear[number] = watch.sign, watch.limit, watch.clear
        return number

    def restore(self, series: int, at: Ints, value: Floats, now_ms: int) -> None:
        """Rebuild the conditions of a series from its stored usable readings (oldest first) and the alarms table."""
        for number in self._threshold_watches(series):
            self._restore(number, list(zip(at.tolist(), value.tolist(), strict=True)), now_ms)
        for trend in self._trends.values():
            if (row := trend.row(series)) is not None:
                # judgements before the last few rest on a window that began before these readings do
                judged = trend.replay(row, at, value)[-2 * trend.rule.samples :]
                self._restore(trend.number(row), [(end, slope) for end, slope, _ in judged], now_ms)

    def _restore(self, number: int, samples: Sequence[tuple[int, float]], now_ms: int) -> None:
        watched = self._watched[number]
        state = State()
        if alarm := self.alarms.get((watched.rule.id, watched.station.key, watched.parameter)):
            state.phase, state.past = Phase.FIRING, alarm.past
            state.since_ms, state.fired_at_ms, state.last_ms = alarm.since_ms, alarm.fired_at_ms, alarm.fired_at_ms
            state.count = watched.watch.samples  # it took at least as many to fire
            samples = [sample for sample in samples if sample[0] > alarm.fired_at_ms]
            turns = walk(watched.watch, state, samples, now_ms)
            # what the readings show and nobody told yet is told by the next reading: until then the alarm stands
            if state.phase is Phase.IDLE and turns:
                state.phase, state.before = Phase.RECOVERING, None
                state.calm_since_ms, state.calm_count = turns[-1].since_ms, turns[-1].count
            elif state.phase is Phase.IDLE or state.phase is Phase.PENDING:
                state.phase, state.before = Phase.FIRING, None
            state.past = alarm.past
        else:
            walk(watched.watch, state, samples, now_ms)
            if state.phase in (Phase.FIRING, Phase.RECOVERING):  # never announced: the next bad reading announces it
                state.phase, state.past = Phase.PENDING, False
        self._keep(number, state)

    # -- judging -----------------------------------------------------------------------------------------------------

    def evaluate(self, series: Codes, at: Ints, value: Floats, now_ms: int) -> list[Finding]:
        """Judge usable readings that continue their series, sorted by (series, at), canonical units."""
        findings = self._thresholds(series, at, value, now_ms)
        for trend in self._trends.values():
            findings += self._trend(trend, series, at, value, now_ms)
        return findings

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        """These readings, the newest of their series, were usable and turned out not to be: they count no longer."""
        for trend in self._trends.values():
            trend.withdraw(series, at, value)
        for one, at_ms in zip(series.tolist(), at.tolist(), strict=True):
            for number in self._threshold_watches(one):
                if (state := self._states.get(number)) is not None and take_back(state, at_ms):
                    self._keep(number, state)

    def withdrawn(self, registry: Registry) -> list[Finding]:
        """Alarms nobody watches any more, because their rule is gone or no longer speaks of their station."""
        known: list[Threshold | Trend | NoData] = [*self.rules.thresholds, *self.rules.trends, *self.rules.no_data]
        rules = {rule.id: rule for rule in known}
        gateways = {s.gateway for s in registry.stations}
        gone = []
        for key, alarm in self.alarms.items():
            rule, station = rules.get(key[0]), key[1]
            gateway = alarm.cause == f"silence:gateway:{station}"
            watched = (
                station in gateways
                if gateway
                else station in registry and rule is not None and (rule.where.matches(registry[station]))
            )
            if rule is None or not watched:
                gone.append(_withdrawn(key, alarm))
        return gone

    def _thresholds(self, series: Codes, at: Ints, value: Floats, now_ms: int) -> list[Finding]:
        many = self._many[series]
        rows = np.repeat(np.arange(len(series)), many)
        if not len(rows):
            return []
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        number = np.repeat(self._first[series], many) + offset
        x = value[rows]
        bad = self._sign[number] * (x - self._limit[number]) > 0
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
            samples = zip(at[mine].tolist(), value[mine].tolist(), strict=True)
            findings += self._advance(chosen, samples, now_ms)
        return findings

    def _advance(self, number: int, samples: Iterable[tuple[int, float]], now_ms: int) -> list[Finding]:
        watched = self._watched[number]
        state = self._states.get(number) or State()
        turns = walk(watched.watch, state, samples, now_ms)
        self._keep(number, state)
        return [self._finding(watched, turn, None) for turn in turns]

    def _keep(self, number: int, state: State) -> None:
        self._phase[number], self._past[number] = state.phase, state.past
        if state.phase is Phase.IDLE and (state.before is None or state.before.phase is Phase.IDLE):
            self._states.pop(number, None)
        else:
            self._states[number] = state

    def _trend(self, trend: "TrendWatches", series: Codes, at: Ints, value: Floats, now_ms: int) -> list[Finding]:
        findings = []
        for row, judged in trend.add(series, at, value):
            number = trend.number(row)
            watched = self._watched[number]
            state = self._states.get(number) or State()
            turns = walk(watched.watch, state, [(end, slope) for end, slope, _ in judged], now_ms)
            self._keep(number, state)
            means = {end: mean for end, _, mean in judged}
            findings += [self._finding(watched, turn, means[turn.at_ms]) for turn in turns]
        return findings

    def late(
        self, series: int, before: tuple[Ints, Floats], after: tuple[Ints, Floats], now_ms: int
    ) -> tuple[list[Finding], list[Finding]]:
        """What late readings show: usable readings (at, value) of the series around them, without and with them.

        Returns all findings, and those of them that change what is firing now. They are retrospective when
        they are too old to act on; a reading that was overtaken by seconds is not.
        """
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for number in [*self._threshold_watches(series), *self._trend_watches(series)]:
            watched = self._watched[number]
            known, _ = self._spans(watched, *before, now_ms)
            shown, means = self._spans(watched, *after, now_ms)
            alarm = self.alarms.get((watched.rule.id, watched.station.key, watched.parameter))
            fired_at_ms, past = (alarm.fired_at_ms, alarm.past) if alarm else (None, False)
            for one in news(known, shown, fired_at_ms, past):
                found = [self._finding(watched, turn, means.get(turn.at_ms)) for turn in one.turns]
                findings += found
                if one.lasting:
                    lasting += found
        return findings, lasting

    def _spans(self, watched: _Watched, at: Ints, value: Floats, now_ms: int) -> tuple[list[Span], dict[int, float]]:
        """The crossings in these readings; for trends, the mean that goes with each judgement by its time."""
        if not isinstance(watched.rule, Trend):
            return spans(watched.watch, list(zip(at.tolist(), value.tolist(), strict=True)), now_ms), {}
        one = TrendWatches(watched.rule)
        one.bind(0, 0)
        judged = one.replay(0, at, value)
        slopes, means = [(end, slope) for end, slope, _ in judged], {end: mean for end, _, mean in judged}
        return spans(watched.watch, slopes, now_ms), means

    def _threshold_watches(self, series: int) -> range:
        if series >= len(self._first):
            return range(0)
        return range(int(self._first[series]), int(self._first[series] + self._many[series]))

    def _trend_watches(self, series: int) -> list[int]:
        rows = ((trend, trend.row(series)) for trend in self._trends.values())
        return [trend.number(row) for trend, row in rows if row is not None]

    # -- no data -----------------------------------------------------------------------------------------------------

    def tick(
        self, registry: Registry, heard_ms: Ints, excused_ms: Ints, connected_since_ms: int | None, now_ms: int
    ) -> list[Finding]:
        """Which stations fell silent, which speak again (:meth:`ingest.checks.no_data.Silence.tick`)."""
        return self._silence.tick(registry, heard_ms, excused_ms, connected_since_ms, now_ms)

    # -- words -------------------------------------------------------------------------------------------------------

    def _finding(self, watched: _Watched, turn: Turn, value: float | None) -> Finding:
        rule, station = watched.rule, watched.station
        shown = self._catalogue[watched.parameter]
        if isinstance(rule, Threshold):
            kind, limit, measured = Kind.THRESHOLD, rule.limit, turn.value
            text = wording.threshold(rule, station, turn, self._catalogue)
        else:
            kind, limit = Kind.TREND, rule.per_hour
            measured = turn.value if value is None or np.isnan(value) else value
            text = wording.trend(rule, station, turn, shown, measured)
        return Finding(
            rule=rule.id,
            version=rule.version,
            kind=kind,
            change=Change.FIRED if turn.fired else Change.RESOLVED,
            cause=f"water:{station.key}",
            station=station.key,
            parameter=watched.parameter,
            observed_at_ms=turn.at_ms,
            since_ms=turn.since_ms,
            value=measured,
            limit=limit,
            colour=rule.colour,
            retrospective=turn.past,
            text=text,
        )


def _threshold_watch(rule: Threshold, station: Station, late_ms: int) -> Watch:
    return Watch(
        rule.side.sign,
        rule.limit,
        rule.clear,
        rule.pending_s * 1000,
        rule.samples,
        rule.keep_firing_s * 1000,
        max(GAP_INTERVALS * station.interval_s, GAP_S) * 1000,
        max(late_ms, 2 * station.interval_s * 1000),
    )


def _trend_watch(rule: Trend, station: Station, late_ms: int) -> Watch:
    bin_ms = rule.window_s * 1000 // rule.bins
    sign = rule.side.sign
    late_ms = max(late_ms, 2 * station.interval_s * 1000)  # a bin is complete only when the next reading arrives
    return Watch(
        sign, sign * rule.per_hour, sign * rule.clear_per_hour, 0, rule.samples, 0, GAP_INTERVALS * bin_ms, late_ms
    )


def _withdrawn(key: Key, alarm: Alarm) -> Finding:
    rule, station, parameter = key
    return Finding(
        rule=rule,
        version="",
        kind=Kind.NO_DATA if not parameter else Kind.THRESHOLD,
        change=Change.RESOLVED,
        cause=alarm.cause,
        station=station,
        parameter=parameter or None,
        observed_at_ms=alarm.fired_at_ms,
        since_ms=alarm.since_ms,
        value=None,
        limit=None,
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
