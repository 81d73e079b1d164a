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
from ingest.checks.alarms import Alarm, Key
from ingest.checks.condition import Phase, State, Turn, Watch, walk
from ingest.checks.rules import NoData, Rules, Side, Threshold, Trend
from ingest.checks.trend import Bins, theil_sen
from sensors.parameters import Catalogue
from sensors.reading import Bools, Codes, Flag, Floats, Ints
from sensors.stations import Registry, Station
from sensors.texts import Text, say
from sensors.times import beijing

LATE_S = 900
"""Older than this (or two intervals of the station, whichever is longer) a reading is too old to wake anybody for."""

GAP_INTERVALS = 3
GAP_S = 1800
"""A pause of three promised intervals, and at least half an hour, breaks a pending or recovering count: in less the
water of a tidal river hardly becomes another, and loggers keep thinner records than they send live (our choice)."""


def usable(packed: Ints) -> Bools:
    """(n,) true for readings a rule may rest on: suspect and bad ones prove nothing."""
    return np.asarray((packed & 15) < Flag.SUSPECT)


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
        self._trends: dict[str, _TrendWatches] = {r.id: _TrendWatches(r) for r in rules.trends}
        self._back: dict[tuple[str, str | None], int] = {}  # (rule, gateway) → ms when it was found speaking again

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
            if state.phase is Phase.IDLE or state.phase is Phase.PENDING or any(turn.fired for turn in turns):
                # it ended or turned timely while nobody judged: stay where the alarm is, the next reading decides
                state.phase, state.past = Phase.FIRING, alarm.past
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
        """These readings were usable and turned out not to be; what they added to a trend is taken out again."""
        for trend in self._trends.values():
            trend.withdraw(series, at, value)

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
        if state.phase is Phase.IDLE:
            self._states.pop(number, None)
        else:
            self._states[number] = state

    def _trend(self, trend: "_TrendWatches", series: Codes, at: Ints, value: Floats, now_ms: int) -> list[Finding]:
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

        Returns all findings (retrospective), and those of them that leave a condition firing at the end.
        """
        findings: list[Finding] = []
        lasting: list[Finding] = []
        for number in [*self._threshold_watches(series), *self._trend_watches(series)]:
            watched = self._watched[number]
            known = _spans(self._judge(watched, *before, now_ms)[0])
            turns, means = self._judge(watched, *after, now_ms)
            for span in _spans(turns):
                if any(span[0].since_ms <= _end(other) and other[0].since_ms <= _end(span) for other in known):
                    continue
                fired, ended = span
                both = [turn for turn in (fired, ended) if turn is not None]
                found = [self._finding(watched, _past(turn), means.get(turn.at_ms)) for turn in both]
                findings += found
                key = (watched.rule.id, watched.station.key, watched.parameter)
                if ended is None and key not in self.alarms:
                    lasting += found
        return findings, lasting

    def _judge(self, watched: _Watched, at: Ints, value: Floats, now_ms: int) -> tuple[list[Turn], dict[int, float]]:
        """The turns these readings lead to; for trends, the mean that goes with each judgement by its time."""
        if isinstance(watched.rule, Trend):
            one = _TrendWatches(watched.rule)
            one.bind(0, 0)
            judged = one.replay(0, at, value)
            samples, means = [(end, slope) for end, slope, _ in judged], {end: mean for end, _, mean in judged}
        else:
            samples, means = list(zip(at.tolist(), value.tolist(), strict=True)), {}
        return walk(watched.watch, State(), samples, now_ms), means

    def _threshold_watches(self, series: int) -> range:
        if series >= len(self._first):
            return range(0)
        return range(int(self._first[series]), int(self._first[series] + self._many[series]))

    def _trend_watches(self, series: int) -> list[int]:
        rows = ((trend, trend.row(series)) for trend in self._trends.values())
        return [trend.number(row) for trend, row in rows if row is not None]

    # -- no data -----------------------------------------------------------------------------------------------------

    def tick(self, registry: Registry, heard_ms: Ints, connected_since_ms: int | None, now_ms: int) -> list[Finding]:
        """Which stations fell silent, which speak again.

        ``heard_ms`` (stations,) is the newest observed_at by registry position, -1 for never. While the source itself
        is not connected nothing is judged, and a fresh connection gives everybody a full interval to speak.
        """
        if connected_since_ms is None:
            return []
        findings: list[Finding] = []
        for rule in self.rules.no_data:
            findings += self._silence(rule, registry, heard_ms, connected_since_ms, now_ms)
        return findings

    def _silence(
        self, rule: NoData, registry: Registry, heard_ms: Ints, connected_since_ms: int, now_ms: int
    ) -> list[Finding]:
        stations = registry.stations
        patience = np.array([max(rule.intervals * s.interval_s, rule.at_least_s) * 1000 for s in stations])
        concerned = np.array([rule.where.matches(s) for s in stations], np.bool_) & (heard_ms >= 0)
        since = np.array([max(connected_since_ms, self._back.get((rule.id, s.gateway), 0)) for s in stations], np.int64)
        silent = concerned & (now_ms - np.maximum(heard_ms, since) > patience)
        speaking = concerned & (now_ms - heard_ms <= patience)
        findings = []
        groups: dict[str, list[int]] = {}
        for i, s in enumerate(stations):
            if s.gateway and concerned[i]:
                groups.setdefault(s.gateway, []).append(i)
        grouped = {name: members for name, members in groups.items() if len(members) > 1}
        excused: set[int] = set()  # stations whose silence is, or may yet turn out to be, their gateway's
        for name, members in grouped.items():
            down = bool(silent[members].all())
            fresh = [i for i in members if self._known(rule, stations[i].key, f"silence:{stations[i].key}") is None]
            if alarm := self._known(rule, name, f"silence:gateway:{name}"):
                excused.update(members)  # when it speaks again its stations still have their turn before them
                if speaking[members].any():
                    self._back[rule.id, name] = now_ms
                    newest = int(heard_ms[members].max())
                    text = say("finding.gateway_speaking", gateway=name, at=beijing(newest))
                    findings.append(_silence_over(rule, name, alarm, newest, text))
            elif down and len(fresh) > 1:
                findings.append(_gateway_silent(rule, name, [stations[i] for i in fresh], heard_ms[fresh]))
                excused.update(members)
            elif not down and silent[members].any():
                last = heard_ms[members].max()  # others may just not be due yet: wait for their turn
                spread = 1000 * max(stations[i].interval_s for i in members)
                excused.update(i for i in members if silent[i] and last - heard_ms[i] < spread)
        for i in map(int, np.flatnonzero(silent | speaking)):
            s = stations[i]
            alarm = self._known(rule, s.key, f"silence:{s.key}")
            if speaking[i] and alarm:
                text = say("finding.speaking", station=_name(s), at=beijing(int(heard_ms[i])))
                findings.append(_silence_over(rule, s.key, alarm, int(heard_ms[i]), text))
            elif silent[i] and not alarm and i not in excused:
                findings.append(_station_silent(rule, s, int(heard_ms[i]), int(patience[i])))
        return findings

    def _known(self, rule: NoData, subject: str, cause: str) -> Alarm | None:
        """The alarm of this station or gateway; a gateway may be named like one of its stations."""
        alarm = self.alarms.get((rule.id, subject, ""))
        return alarm if alarm and alarm.cause == cause else None

    # -- words -------------------------------------------------------------------------------------------------------

    def _finding(self, watched: _Watched, turn: Turn, value: float | None) -> Finding:
        rule, station = watched.rule, watched.station
        shown = self._catalogue[watched.parameter]
        if isinstance(rule, Threshold):
            kind, limit, measured = Kind.THRESHOLD, rule.limit, turn.value
            text = _threshold_text(rule, station, turn, self._catalogue)
        else:
            kind, limit = Kind.TREND, rule.per_hour
            measured = turn.value if value is None or np.isnan(value) else value
            text = _trend_text(rule, station, turn, shown.show(measured), shown.show(abs(turn.value)), self._catalogue)
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


_Judgement = tuple[int, float, float]
"""ms of a completed bin's end, the slope there, and the mean of the newest bin that holds anything."""


class _TrendWatches:
    """One trend rule at all its series."""

    def __init__(self, rule: Trend) -> None:
        self.rule = rule
        self._bins = Bins(rule.window_s * 1000 // rule.bins, rule.bins)
        self._row_of: dict[int, int] = {}
        self._rows = np.full(0, -1, np.int64)  # series → row
        self._numbers: list[int] = []

    def bind(self, series: int, number: int) -> None:
        row = len(self._numbers)
        self._numbers.append(number)
        self._row_of[series] = row
        if series >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.full(2 * series + 64 - len(self._rows), -1, np.int64)])
        self._rows[series] = row
        self._bins.grow(row + 1)

    def row(self, series: int) -> int | None:
        return self._row_of.get(series)

    def number(self, row: int) -> int:
        return self._numbers[row]

    def add(self, series: Codes, at: Ints, value: Floats) -> list[tuple[int, list[_Judgement]]]:
        """Take readings in; for each row with completed bins, the judgements they lead to."""
        if not len(self._numbers):
            return []
        row = self._look_up(series)
        mine = np.flatnonzero(row >= 0)
        if not len(mine):
            return []
        row, number, x = row[mine], at[mine] // self._bins.width_ms, value[mine]
        same = self._bins.head[row] == number
        if not same.all():
            crossing = np.unique(row[~same])
            staying = ~np.isin(row, crossing)
        else:
            crossing, staying = np.empty(0, np.int64), same
        self._put(row[staying], number[staying], x[staying])
        judged: list[tuple[int, int, Floats]] = []
        for one in crossing.tolist():
            here = row == one
            judged += self._cross(one, number[here], x[here])
        return self._slopes(judged)

    def _look_up(self, series: Codes) -> Ints:
        known = series < len(self._rows)
        return np.where(known, self._rows[np.where(known, series, 0)], -1)

    def _put(self, row: Ints, number: Ints, value: Floats) -> None:
        slot = number % self._bins.bins
        np.add.at(self._bins.sum, (row, slot), value)
        np.add.at(self._bins.count, (row, slot), 1)

    def _cross(self, row: int, number: Ints, value: Floats) -> list[tuple[int, int, Floats]]:
        """Readings of one row that open new bins; returns (row, ms of the end, means) of each bin completed."""
        completed = []
        edges = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
        for start, end in zip(edges.tolist(), [*edges[1:].tolist(), len(number)], strict=True):
            opened, head = int(number[start]), int(self._bins.head[row])
            if opened > head:
                if head >= 0:
                    completed.append((row, (head + 1) * self._bins.width_ms, self._bins.means(row)))
                self._bins.advance(row, opened)
            elif head - opened >= self._bins.bins:
                continue
            slot = opened % self._bins.bins
            self._bins.sum[row, slot] += value[start:end].sum()
            self._bins.count[row, slot] += end - start
        return completed

    def _slopes(self, judged: list[tuple[int, int, Floats]]) -> list[tuple[int, list[_Judgement]]]:
        judged = [j for j in judged if (~np.isnan(j[2])).sum() >= self.rule.min_bins]
        if not judged:
            return []
        hours = np.full(len(judged), self._bins.width_ms / 3_600_000)
        slopes = theil_sen(np.stack([means for _, _, means in judged]), hours)
        found: dict[int, list[_Judgement]] = {}
        for (row, at, means), slope in zip(judged, slopes.tolist(), strict=True):
            found.setdefault(row, []).append((at, slope, float(means[~np.isnan(means)][-1])))
        return list(found.items())

    def withdraw(self, series: Codes, at: Ints, value: Floats) -> None:
        row = self._look_up(series) if len(self._numbers) else np.full(len(series), -1)
        number = at // self._bins.width_ms
        kept = np.flatnonzero(row >= 0)
        kept = kept[self._bins.head[row[kept]] - number[kept] < self._bins.bins]
        slot = number[kept] % self._bins.bins
        np.add.at(self._bins.sum, (row[kept], slot), -value[kept])
        np.add.at(self._bins.count, (row[kept], slot), -1)

    def replay(self, row: int, at: Ints, value: Floats) -> list[_Judgement]:
        """Start the row anew from these readings; all judgements they lead to."""
        self._bins.forget(row)
        if not len(at):
            return []
        judged = self._slopes(self._cross(row, at // self._bins.width_ms, value))
        return judged[0][1] if judged else []


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


def _spans(turns: Sequence[Turn]) -> list[tuple[Turn, Turn | None]]:
    """(fired, ended) pairs; the last may not have ended."""
    spans: list[tuple[Turn, Turn | None]] = []
    for turn in turns:
        if turn.fired and (not spans or spans[-1][1] is not None):
            spans.append((turn, None))
        elif not turn.fired and spans:
            spans[-1] = (spans[-1][0], turn)
    return spans


def _end(span: tuple[Turn, Turn | None]) -> int:
    return span[1].at_ms if span[1] is not None else 2**62


def _past(turn: Turn) -> Turn:
    return Turn(turn.fired, turn.at_ms, turn.since_ms, turn.value, turn.count, past=True)


def _name(station: Station) -> Text:
    return Text(station.zh, station.en)


def _duration(ms: int) -> Text:
    if ms >= 3_600_000:
        return Text(f"{ms / 3_600_000:g}小时", f"{ms / 3_600_000:g} h")
    if ms >= 60_000:
        return Text(f"{ms / 60_000:g}分钟", f"{ms / 60_000:g} min")
    return Text(f"{ms // 1000}秒", f"{ms // 1000} s")


def _threshold_text(rule: Threshold, station: Station, turn: Turn, catalogue: Catalogue) -> Text:
    parameter = catalogue[rule.parameter]
    values: dict[str, object] = {
        "station": _name(station),
        "parameter": Text(parameter.zh, parameter.en),
        "value": parameter.show(turn.value),
        "limit": parameter.show(rule.limit),
        "at": beijing(turn.at_ms),
    }
    if not turn.fired:
        return say("finding.back", held=_duration(turn.at_ms - turn.since_ms), **values)
    key = "finding.above" if rule.side is Side.ABOVE else "finding.below"
    return say(key, samples=turn.count, since=beijing(turn.since_ms), **values)


def _trend_text(rule: Trend, station: Station, turn: Turn, value: str, slope: str, catalogue: Catalogue) -> Text:
    parameter = catalogue[rule.parameter]
    values: dict[str, object] = {
        "station": _name(station),
        "parameter": Text(parameter.zh, parameter.en),
        "slope": slope,
        "at": beijing(turn.at_ms),
    }
    if not turn.fired:
        return say("finding.steady", **values)
    key = "finding.rising" if rule.side is Side.ABOVE else "finding.falling"
    return say(key, window=_duration(rule.window_s * 1000), value=value, count=rule.bins, **values)


def _station_silent(rule: NoData, station: Station, heard_ms: int, patience_ms: int) -> Finding:
    text = say(
        "finding.silent", station=_name(station), since=beijing(heard_ms), interval=_duration(station.interval_s * 1000)
    )
    return _silent(rule, station.key, f"silence:{station.key}", heard_ms, heard_ms + patience_ms, text)


def _gateway_silent(rule: NoData, gateway: str, stations: Sequence[Station], heard_ms: Ints) -> Finding:
    since = int(heard_ms.max())
    names = Text("、".join(s.zh for s in stations), ", ".join(s.en for s in stations))
    text = say("finding.gateway_silent", gateway=gateway, count=len(stations), since=beijing(since), stations=names)
    patience_ms = int(max(rule.intervals * max(s.interval_s for s in stations), rule.at_least_s) * 1000)
    return _silent(rule, gateway, f"silence:gateway:{gateway}", since, since + patience_ms, text)


def _silent(rule: NoData, subject: str, cause: str, since_ms: int, at_ms: int, text: Text) -> Finding:
    return Finding(
        rule=rule.id,
        version=rule.version,
        kind=Kind.NO_DATA,
        change=Change.FIRED,
        cause=cause,
        station=subject,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        value=None,
        limit=None,
        colour=rule.colour,
        retrospective=False,
        text=text,
    )


def _silence_over(rule: NoData, subject: str, alarm: Alarm, at_ms: int, text: Text) -> Finding:
    return Finding(
        rule=rule.id,
        version=rule.version,
        kind=Kind.NO_DATA,
        change=Change.RESOLVED,
        cause=alarm.cause,
        station=subject,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=alarm.since_ms,
        value=None,
        limit=None,
        colour=Colour(rule.colour),
        retrospective=False,
        text=text,
    )


def _room(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array, grown (with zeros) when it is too short; doubling, so that growing costs little."""
    if size <= len(array):
        return array
    more = np.zeros(max(size, 2 * len(array), 64) - len(array), array.dtype)
    return np.concatenate([array, more])
