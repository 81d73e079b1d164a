"""Live water-quality class of a station and of a reach: from current good readings, without flicker, with evidence.

One sample is judged by :mod:`sensors.standards.gb3838`; this module decides which readings are still current and
when another class is shown, and gives the reason. All time is event time (observed_at): the caller passes the instant,
and the state of a station is carried from call to call in :class:`ClassState`.

- A value counts while it is current: three promised intervals of its station, for analysers, which give one result in
  some hours, two of their own cycles and a quarter.
- A worse class is shown after three readings in a row, or half an hour, a better one only after two hours.
- Every reading counts once, in the order in which they were observed, however many came in one message.
- A sensor that falls silent improves nothing: the class it decided stays until a day has passed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Final, Self

import numpy as np

from infra.texts import Text, say
from infra.times import beijing
from sensors.parameters import catalogue
from sensors.reading import Flag
from sensors.standards import gb3838
from sensors.standards.gb3838 import Judgement, Water, WaterClass
from sensors.stations import Station

SONDES: Final = frozenset({"ph", "do"})
"""Judged parameters that a probe in the water gives at every interval; the others come from analysers."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long values stay current, and how long another class must hold before it is shown.

    The numbers are engineering choices: a tidal river changes within hours, an analyser gives one result in four
    (national network), and a map that changes colour at every reading is useless.
    """

    items: tuple[str, ...] = gb3838.NATIONAL
    """What may decide: the 21 items, as in publications (no total nitrogen, no coliform)."""
    intervals: float = 3.0
    """A probe's value is current for this many promised intervals, as in the no-data rule."""
    cycles: float = 2.25
    """An analyser's result is current for this many of its cycles: one may be lost and the next be late."""
    cycle_s: int = 4 * 3600
    worse_readings: int = 3
    worse_s: int = 30 * 60
    better_readings: int = 2
    better_s: int = 2 * 3600
    forget_s: int = 24 * 3600
    """After this long a deciding parameter without usable readings is given up and the others judge alone."""


@dataclass(frozen=True, slots=True)
class LatestReading:
    """The newest reading of a parameter that can be used: canonical unit, observed at ``at_ms`` (UTC)."""

    at_ms: int
    value: float
    flag: int = Flag.GOOD


@dataclass(frozen=True, slots=True)
class JudgedStation:
    """What is expected of a station: the judged parameters it measures and how often.

    ``cycles_s`` overrides the spacing of single parameters, such as an ammonia electrode that reports every 300 s.
    Without ``expected`` whatever arrives is judged.
    """

    key: str
    water: Water
    interval_s: int
    expected: tuple[str, ...] = ()
    target: WaterClass | None = None
    cycles_s: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, station: Station, target: WaterClass | None = None, cycles_s: Mapping[str, int] | None = None) -> Self:
        """From a registered station; the target class is its reach's."""
        water = Water.of(station.water)
        return cls(station.key, water, station.interval_s, station.parameters, target, cycles_s or {})

    def current_for_ms(self, parameter: str, policy: Policy) -> int:
        """How long a value of ``parameter`` stays current, ms."""
        own = self.cycles_s.get(parameter, None if parameter in SONDES else policy.cycle_s)
        by_interval = policy.intervals * (self.cycles_s.get(parameter, self.interval_s))
        by_cycle = policy.cycles * own if own is not None else 0.0
        return round(1000 * max(by_interval, by_cycle))


class MissingReason(StrEnum):
    """Why an expected parameter was not judged."""

    NEVER = "never"
    OLD = "old"
    FLAGGED = "flagged"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of a class: parameters judged of those expected, what is missing and why, oldest and newest instant."""

    judged: tuple[str, ...]
    expected: tuple[str, ...]
    lacking: Mapping[str, MissingReason]
    oldest_at_ms: int | None
    newest_at_ms: int | None


@dataclass(frozen=True, slots=True)
class ChangeRun:
    """Readings in a row that are all worse (or all better) than the class shown.

    ``reached`` is the class among them nearest to the shown one: what the whole run agrees on. ``newest_ms`` is the
    instant of the newest of its ``readings``.
    """

    worse: bool
    reached: WaterClass
    since_ms: int
    newest_ms: int
    readings: int = 1

    def joined(self, now: WaterClass, newest_ms: int) -> Self:
        """The run with the class of now; the same reading again is no further reading."""
        nearest = min if self.worse else max
        return replace(
            self,
            reached=nearest(self.reached, now),
            newest_ms=max(self.newest_ms, newest_ms),
            readings=self.readings + (newest_ms > self.newest_ms),
        )


@dataclass(frozen=True, slots=True)
class ClassState:
    """State of a station between two calls; the empty one is the beginning."""

    shown: WaterClass | None = None
    deciding: tuple[str, ...] = ()
    run: ChangeRun | None = None
    missing_since_ms: int | None = None
    at_ms: int = 0
    seen_ms: int = 0
    """The newest reading judged so far, of any parameter."""
    latest: Mapping[str, LatestReading] = field(default_factory=dict)
    """The newest usable reading of each parameter as of then."""


class ClassReason(StrEnum):
    """Why a station shows the class it shows."""

    HOLDS = "holds"
    BECAME_WORSE = "became_worse"
    BECAME_BETTER = "became_better"
    WAITING_WORSE = "waiting_worse"
    WAITING_BETTER = "waiting_better"
    KEPT = "kept"
    FORGOTTEN = "forgotten"
    NOTHING = "nothing"
    ONLY_PH = "only_ph"


@dataclass(frozen=True, slots=True)
class LiveClass:
    """The class a station shows at ``at_ms``.

    ``water_class`` is what is shown, ``now`` what the current readings alone would say (None: cannot be judged);
    ``deciding`` the parameters that decide what is shown, ``measured_ms`` the newest reading of these; ``met`` whether
    the target is met, None when that cannot be told or there is no target; ``text`` the reason in one sentence.
    """

    station: str
    at_ms: int
    water_class: WaterClass | None
    now: WaterClass | None
    deciding: tuple[str, ...]
    why: ClassReason
    evidence: Evidence
    target: WaterClass | None
    met: bool | None
    text: Text
    measured_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LiveReach:
    """The class of a reach: that of its worst stations, ``worst``; ``stations`` holds those of all stations.

    ``measured_ms`` is the newest reading that decides it.
    """

    water_class: WaterClass | None
    deciding: tuple[str, ...]
    worst: tuple[str, ...]
    stations: tuple[LiveClass, ...]
    target: WaterClass | None
    met: bool | None
    text: Text
    measured_ms: int | None = None


DEFAULT_POLICY: Final = Policy()


def station_class(
    carried: ClassState,
    watched: JudgedStation,
    latest: Mapping[str, LatestReading],
    at_ms: int,
    policy: Policy = DEFAULT_POLICY,
) -> tuple[ClassState, LiveClass]:
    """The live class of a station at ``at_ms``, and what to carry to the next call.

    Parameters
    ----------
    carried : ClassState
        From the call before, or ``ClassState()``.
    latest : parameter key → LatestReading
        The newest readings; flags from SUSPECT on are not used, nor are readings after ``at_ms``. Keys without a
        class are ignored.
    at_ms : int
        The instant judged, event time: the newest observed_at known, or a tick between readings. An instant before the
        last one is taken as the last one.
    """
    carried_by, found = station_classes({watched.key: carried}, [watched], {watched.key: latest}, at_ms, policy)
    return carried_by[watched.key], found[0]


def station_classes(
    carried: Mapping[str, ClassState],
    watched: Sequence[JudgedStation],
    latest: Mapping[str, Mapping[str, LatestReading]],
    at_ms: int,
    policy: Policy = DEFAULT_POLICY,
) -> tuple[dict[str, ClassState], list[LiveClass]]:
    """:func:`station` for many at once, in the order of ``watched``; the mappings are by station key.

    A station that is not in ``carried`` begins; one that is not in ``latest`` has no readings.
    """
    return _stations(carried, watched, latest, [at_ms] * len(watched), policy)


MAX_FOLLOWED_S: Final = 3 * 3600
"""Readings older than this before the newest one of their station are not followed one by one: longer than a better
class must hold before it is shown."""


def station_classes_over_readings(
    carried: Mapping[str, ClassState],
    watched: Sequence[JudgedStation],
    readings: Mapping[str, Mapping[str, Sequence[LatestReading]]],
    latest: Mapping[str, Mapping[str, LatestReading]],
    at_ms: int,
    policy: Policy = DEFAULT_POLICY,
) -> tuple[dict[str, ClassState], list[LiveClass]]:
    """:func:`stations`, but every reading since the last call counts, in the order of observation.

    ``readings`` (station key → parameter → oldest first) are the usable ones since ``ClassState.seen_ms``; those before
    that are ignored. A station left out is judged by ``latest`` alone.
    """
    states = {one.key: carried.get(one.key, ClassState()) for one in watched}
    by_key = {one.key: one for one in watched}
    steps = {key: _steps(states[key], found, at_ms) for key, found in readings.items() if key in by_key}
    for i in range(max(map(len, steps.values()), default=0)):
        here = [key for key, ones in steps.items() if i < len(ones)]
        snapshots = {key: steps[key][i][1] for key in here}
        instants = [steps[key][i][0] for key in here]
        states |= _stations(states, [by_key[key] for key in here], snapshots, instants, policy)[0]
    states, found = station_classes(states, watched, latest, at_ms, policy)
    for one in watched:
        known = {key: newest for key, newest in latest.get(one.key, {}).items() if newest.at_ms <= at_ms}
        seen_ms = max([states[one.key].seen_ms, *(newest.at_ms for newest in known.values())])
        states[one.key] = replace(states[one.key], seen_ms=seen_ms, latest=known)
    return states, found


def _steps(
    carried: ClassState, readings: Mapping[str, Sequence[LatestReading]], at_ms: int
) -> list[tuple[int, dict[str, LatestReading]]]:
    """The instants of a station's new readings, each with the newest reading of every parameter then."""
    new = [
        (one.at_ms, key, one) for key, ones in readings.items() for one in ones if carried.seen_ms < one.at_ms <= at_ms
    ]
    if not new:
        return []
    new.sort(key=lambda row: row[:2])
    earliest = new[-1][0] - 1000 * MAX_FOLLOWED_S
    known, steps = dict(carried.latest), []
    for instant, rows in groupby(new, key=lambda row: row[0]):
        known = known | {key: one for _, key, one in rows}
        if instant >= earliest:
            steps.append((instant, known))
    return steps


def _stations(
    carried: Mapping[str, ClassState],
    watched: Sequence[JudgedStation],
    latest: Mapping[str, Mapping[str, LatestReading]],
    instants: Sequence[int],
    policy: Policy,
) -> tuple[dict[str, ClassState], list[LiveClass]]:
    before = [carried.get(one.key, ClassState()) for one in watched]
    before = [replace(one, at_ms=max(at_ms, one.at_ms)) for one, at_ms in zip(before, instants, strict=True)]
    current = [
        _current(one, latest.get(one.key, {}), then.at_ms, policy) for one, then in zip(watched, before, strict=True)
    ]
    judgements = _judge([one.water for one in watched], [used for used, _ in current], policy)
    after, found = {}, []
    for one, then, (used, evidence), judgement in zip(watched, before, current, judgements, strict=True):
        now, why, reason_values = _advance(then, judgement, used, policy)
        now = replace(now, seen_ms=then.seen_ms, latest=then.latest)
        after[one.key] = now
        known = {**then.latest, **latest.get(one.key, {})}
        decided = [known[key].at_ms for key in now.deciding if key in known]
        live = _live(one, now, judgement, why, reason_values, evidence)
        found.append(replace(live, measured_ms=max(decided, default=evidence.newest_at_ms)))
    return after, found


def _judge(waters: Sequence[Water], used: Sequence[Mapping[str, LatestReading]], policy: Policy) -> list[Judgement]:
    """Judge the current readings of each station: one pass over all rivers, one over all lakes."""
    found = [Judgement(water, None) for water in waters]
    for water in Water:
        rows = [i for i, one in enumerate(waters) if one is water and used[i]]
        keys = [key for key in policy.items if any(key in used[i] for i in rows)]
        columns = {key: np.array([used[i][key].value if key in used[i] else np.nan for i in rows]) for key in keys}
        judged = gb3838.classes(columns, water, items=policy.items)
        for n, i in enumerate(rows):
            found[i] = judged[n]
    return found


def reach_class(
    found: Iterable[LiveClass], target: WaterClass | None = None, called: Mapping[str, Text] | None = None
) -> LiveReach:
    """The live class of a reach: that of its worst station; stations that cannot be judged are left out.

    ``called`` has the names of the stations for the sentence; a station without one is named by its key.
    """
    everything = tuple(found)
    judged = [(one.water_class, one) for one in everything if one.water_class is not None]
    if not judged:
        text = say("live_class.reach_nothing", stations=len(everything))
        return LiveReach(None, (), (), everything, target, None, text)
    shown = max(water_class for water_class, _ in judged)
    worst = [one for water_class, one in judged if water_class == shown]
    deciding = tuple(key for key in gb3838.PARAMETERS if any(key in one.deciding for one in worst))
    named = [(called or {}).get(one.station, Text(one.station, one.station)) for one in worst]
    text = say(
        "live_class.reach",
        judged=len(judged),
        stations=len(everything),
        worst=Text("、".join(one.zh for one in named), ", ".join(one.en for one in named)),
        shown=class_text(shown),
        deciding=names(deciding),
    )
    met = None if target is None else shown <= target
    return LiveReach(
        shown,
        deciding,
        tuple(one.station for one in worst),
        everything,
        target,
        met,
        _with_target(text, target, met),
        max((one.measured_ms for one in worst if one.measured_ms is not None), default=None),
    )


def class_text(found: WaterClass) -> Text:
    """Ⅲ类 · class III."""
    return say("live_class.water_class", name=Text(found.sign, found.roman))


def names(parameters: Iterable[str]) -> Text:
    """The parameters' names in both languages."""
    rows = [catalogue()[key] for key in parameters]
    return Text("、".join(p.zh for p in rows), ", ".join(p.en for p in rows))


# -- which readings ----------------------------------------------------------------------------------------------------


def _current(
    watched: JudgedStation, latest: Mapping[str, LatestReading], at_ms: int, policy: Policy
) -> tuple[dict[str, LatestReading], Evidence]:
    """The readings that are judged now, and the evidence."""
    could = [key for key in policy.items if gb3838.limits(key, watched.water) is not None]
    expected = tuple(key for key in could if key in (watched.expected or latest))
    lacking = {key: lack for key in expected if (lack := _missing_reason(watched, latest.get(key), key, at_ms, policy))}
    used = {key: latest[key] for key in expected if key not in lacking}
    instants = [one.at_ms for one in used.values()]
    oldest, newest = (min(instants), max(instants)) if instants else (None, None)
    return used, Evidence(tuple(used), expected, lacking, oldest, newest)


def _missing_reason(
    watched: JudgedStation, one: LatestReading | None, parameter: str, at_ms: int, policy: Policy
) -> MissingReason | None:
    if one is None or one.at_ms > at_ms:
        return MissingReason.NEVER
    if one.flag >= Flag.SUSPECT:
        return MissingReason.FLAGGED
    return MissingReason.OLD if at_ms - one.at_ms > watched.current_for_ms(parameter, policy) else None


# -- which class is shown ----------------------------------------------------------------------------------------------


def _advance(
    carried: ClassState, judgement: Judgement, used: Mapping[str, LatestReading], policy: Policy
) -> tuple[ClassState, ClassReason, dict[str, object]]:
    """The next state, the reason, and the values for its sentence."""
    now, at_ms = judgement.water_class, carried.at_ms
    if now is None:
        return ClassState(at_ms=at_ms), ClassReason.NOTHING, {}
    if set(judgement.classes) == {"ph"} and now is WaterClass.I:
        return ClassState(at_ms=at_ms), ClassReason.ONLY_PH, {}
    settled = ClassState(now, judgement.deciding, at_ms=at_ms)
    if carried.shown is None or now == carried.shown:
        return settled, ClassReason.HOLDS, {}
    if now > carried.shown:
        return _worse(carried, judgement, now, used, policy)
    missing = tuple(key for key in carried.deciding if key not in judgement.classes)
    if not missing:
        return _better(carried, judgement, now, used, policy)
    since_ms = carried.missing_since_ms if carried.missing_since_ms is not None else at_ms
    if at_ms - since_ms > 1000 * policy.forget_s:
        return settled, ClassReason.FORGOTTEN, {"missing": names(missing), "held": _duration_text(policy.forget_s)}
    return replace(carried, run=None, missing_since_ms=since_ms), ClassReason.KEPT, {"missing": names(missing)}


def _worse(
    carried: ClassState, judgement: Judgement, now: WaterClass, used: Mapping[str, LatestReading], policy: Policy
) -> tuple[ClassState, ClassReason, dict[str, object]]:
    assert carried.shown is not None
    newest_ms = max(used[key].at_ms for key, found in judgement.classes.items() if found > carried.shown)
    run = _run(carried.run, now, newest_ms, worse=True)
    held = carried.at_ms - run.since_ms >= 1000 * policy.worse_s
    if run.readings >= policy.worse_readings or held:
        return _changed(carried, judgement, run), ClassReason.BECAME_WORSE, _run_values(run)
    waiting = replace(carried, run=run, missing_since_ms=None)
    values = _waiting_values(run, now, policy.worse_readings, policy.worse_s)
    return waiting, ClassReason.WAITING_WORSE, values | {"deciding": names(judgement.deciding)}


def _better(
    carried: ClassState, judgement: Judgement, now: WaterClass, used: Mapping[str, LatestReading], policy: Policy
) -> tuple[ClassState, ClassReason, dict[str, object]]:
    newest_ms = max(used[key].at_ms for key in carried.deciding)
    run = _run(carried.run, now, newest_ms, worse=False)
    held = carried.at_ms - run.since_ms >= 1000 * policy.better_s
    if run.readings >= policy.better_readings and held:
        return _changed(carried, judgement, run), ClassReason.BECAME_BETTER, _run_values(run)
    waiting = replace(carried, run=run, missing_since_ms=None)
    return waiting, ClassReason.WAITING_BETTER, _waiting_values(run, now, policy.better_readings, policy.better_s)


def _waiting_values(run: ChangeRun, now: WaterClass, readings: int, held_s: int) -> dict[str, object]:
    """What a reason says of a change that waits: how far it is, and how many readings or how long it needs."""
    return _run_values(run) | {"readings": readings, "held": _duration_text(held_s), "now": class_text(now)}


def _run(run: ChangeRun | None, now: WaterClass, newest_ms: int, *, worse: bool) -> ChangeRun:
    if run is None or run.worse is not worse:
        return ChangeRun(worse, now, newest_ms, newest_ms)
    return run.joined(now, newest_ms)


def _changed(carried: ClassState, judgement: Judgement, run: ChangeRun) -> ClassState:
    """The state that shows what the run agrees on, decided by the parameters that are at least as bad now."""
    bad = tuple(key for key, found in judgement.classes.items() if found >= run.reached)
    return ClassState(run.reached, bad or judgement.deciding, at_ms=carried.at_ms)


def _run_values(run: ChangeRun) -> dict[str, object]:
    return {"since": beijing(run.since_ms), "readings": run.readings}


def _duration_text(seconds: int) -> Text:
    if seconds % 3600 == 0:
        return say("console.hours", count=seconds // 3600)
    return say("console.minutes", count=round(seconds / 60))


# -- what is said ------------------------------------------------------------------------------------------------------


def _live(
    watched: JudgedStation,
    carried: ClassState,
    judgement: Judgement,
    why: ClassReason,
    reason_values: Mapping[str, object],
    evidence: Evidence,
) -> LiveClass:
    shown = carried.shown
    met = None if shown is None or watched.target is None else shown <= watched.target
    if shown is None:
        text = say(f"live_class.{why}")
    else:
        words = {"shown": class_text(shown), "deciding": names(carried.deciding)} | dict(reason_values)
        text = say(
            "live_class.evidence",
            text=say(f"live_class.{why}", **words),
            judged=len(evidence.judged),
            expected=len(evidence.expected),
            oldest=beijing(evidence.oldest_at_ms or carried.at_ms),
        )
    return LiveClass(
        station=watched.key,
        at_ms=carried.at_ms,
        water_class=shown,
        now=None if shown is None else judgement.water_class,
        deciding=carried.deciding,
        why=why,
        evidence=evidence,
        target=watched.target,
        met=met,
        text=_with_target(text, watched.target, met),
    )


def _with_target(text: Text, target: WaterClass | None, met: bool | None) -> Text:
    if target is None or met is None:
        return text
    return say("live_class.target_met" if met else "live_class.target_missed", text=text, target=class_text(target))
