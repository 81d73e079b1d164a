"""Rules over readings: when a condition fires, when it is over, and that nobody is called twice or for nothing."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from ingest.rules import alarm_state as alarm_book
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.condition import Condition, ConditionState, Phase, Transition, advance_condition, remove_sample
from ingest.rules.engine import LATE_AFTER_S, RuleEngine, RuleInput, usable
from ingest.rules.model import NoData, Rules, Scope, Side, Threshold, Trend
from ingest.rules.trend import TimeBins, theil_sen
from ingest.state.series_history import MIN_LOOKBACK_S, MIN_READINGS
from sensors.parameters import catalogue
from sensors.reading import Flag, QualityTest
from sensors.stations import Registry, Station, Water
from tests.says import shows

CATALOGUE = catalogue()
START = 1_778_544_000_000  # 2026-05-12T00:00:00Z, 08:00 in Beijing
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
FIRED, RESOLVED = ConditionChange.FIRED, ConditionChange.RESOLVED
SHIWAN = Station("shiwan", "石湾", "Shiwan", 113.06, 23.0, water=Water.RIVER, interval_s=300)
LAKE = Station("lake", "石湾公园湖", "Shiwan park lake", 113.08, 23.0, water=Water.LAKE, interval_s=300)
NH3N = Threshold(
    id="nh3n-high",
    parameter="nh3n",
    side=Side.ABOVE,
    limit=2.0,
    clear=1.8,
    pending_s=600,
    samples=3,
    keep_firing_s=900,
    colour=Colour.ORANGE,
    version="v1",
)
DO = replace(NH3N, id="do-low", parameter="do", side=Side.BELOW, limit=2.0, clear=2.3)

# -- the walk of one condition -----------------------------------------------------------------------------------------

CONDITION = Condition(1, 2.0, 1.8, 10 * MINUTE, 3, 15 * MINUTE, 30 * MINUTE, 15 * MINUTE)


def run(
    *values: float,
    condition: Condition = CONDITION,
    every: int = 5 * MINUTE,
    now: int | None = None,
    state: ConditionState | None = None,
) -> list[Transition]:
    samples = [(START + i * every, x) for i, x in enumerate(values)]
    return advance_condition(condition, state or ConditionState(), samples, samples[-1][0] if now is None else now)


def turn(turns: Sequence[Transition]) -> list[tuple[bool, float, float]]:
    """(fired, minutes when it was decided, minutes since when) of each turn."""
    return [(t.fired, (t.at_ms - START) / MINUTE, (t.since_ms - START) / MINUTE) for t in turns]


@given(
    st.lists(st.tuples(st.sampled_from([1, 5, 40]), st.sampled_from([1.0, 1.9, 2.5])), max_size=60),
    st.integers(1, 3),
)
def test_a_condition_ends_in_the_same_state_however_its_samples_are_cut(
    steps: list[tuple[int, float]], cut: int
) -> None:
    minutes = itertools.accumulate(gap for gap, _ in steps)
    samples = [(START + minute * MINUTE, x) for minute, (_, x) in zip(minutes, steps, strict=True)]
    condition, now = replace(CONDITION, samples=2), START + 10 * DAY
    whole, single, parts = ConditionState(), ConditionState(), ConditionState()
    turns = advance_condition(condition, whole, samples, now)
    assert [one for sample in samples for one in advance_condition(condition, single, [sample], now)] == turns
    pieces = [samples[i : i + 7 * cut] for i in range(0, len(samples), 7 * cut)]
    assert [one for piece in pieces for one in advance_condition(condition, parts, piece, now)] == turns
    assert whole == single == parts


def test_it_fires_after_the_pending_time_and_names_when_it_began() -> None:
    assert turn(run(1.0, 2.1, 2.5, 2.2)) == [(True, 15, 5)]


def test_enough_time_without_enough_readings_does_not_fire() -> None:
    assert run(2.1, 2.1, every=20 * MINUTE) == []
    assert turn(run(2.1, 2.1, 2.1, every=20 * MINUTE)) == [(True, 40, 0)]


def test_enough_readings_without_enough_time_do_not_fire() -> None:
    assert run(*[2.1] * 10, every=MINUTE) == []
    assert turn(run(*[2.1] * 11, every=MINUTE)) == [(True, 10, 0)]


def test_a_limit_exactly_met_is_not_bad() -> None:
    assert run(*[2.0] * 20) == []
    assert run(2.1, 2.1, 2.0, 2.1, 2.1) == []
    below = replace(CONDITION, sign=-1, limit=2.0, clear=2.3)
    assert run(*[2.0] * 20, condition=below) == []
    assert turn(run(*[1.99] * 3, condition=below)) == [(True, 10, 0)]


def test_one_reading_back_within_the_limit_starts_the_count_again() -> None:
    assert turn(run(2.1, 2.1, 1.9, 2.1, 2.1, 2.1)) == [(True, 25, 15)]


def test_it_is_over_after_the_keep_firing_time_below_clear() -> None:
    turns = run(2.1, 2.1, 2.1, 1.7, 1.7, 1.7, 1.7)
    assert turn(turns) == [(True, 10, 0), (False, 30, 15)]


def test_a_clear_level_exactly_met_is_calm() -> None:
    assert turn(run(2.1, 2.1, 2.1, *[1.8] * 4))[1] == (False, 30, 15)


def test_between_limit_and_clear_nothing_changes() -> None:
    assert turn(run(2.1, 2.1, 2.1, *[1.9] * 50)) == [(True, 10, 0)]
    # a reading in between breaks the calm
    assert turn(run(2.1, 2.1, 2.1, 1.7, 1.7, 1.7, 1.9, 1.7, 1.7, 1.7, 1.7)) == [(True, 10, 0), (False, 50, 35)]


def test_it_is_over_only_after_as_many_readings_as_it_took() -> None:
    keep_nothing = replace(CONDITION, keep_ms=0)
    assert turn(run(2.1, 2.1, 2.1, 1.7, 1.7, 1.7, condition=keep_nothing)) == [(True, 10, 0), (False, 25, 15)]


def test_once_over_it_needs_the_full_count_to_fire_again() -> None:
    turns = run(2.1, 2.1, 2.1, *[1.7] * 4, 2.1, 2.1, 2.1)
    assert turn(turns) == [(True, 10, 0), (False, 30, 15), (True, 45, 35)]


def at_minutes(*pairs: tuple[float, float]) -> list[tuple[int, float]]:
    return [(START + int(minute * MINUTE), x) for minute, x in pairs]


def test_a_pause_starts_pending_again_and_names_the_new_beginning() -> None:
    samples = at_minutes((0, 2.1), (5, 2.1), (36, 2.1), (41, 2.1), (46, 2.1))
    assert turn(advance_condition(CONDITION, ConditionState(), samples, samples[-1][0])) == [(True, 46, 36)]


def test_a_pause_of_exactly_the_gap_is_none() -> None:
    samples = at_minutes((0, 2.1), (5, 2.1), (35, 2.1))
    assert turn(advance_condition(CONDITION, ConditionState(), samples, samples[-1][0])) == [(True, 35, 0)]


def test_a_pause_starts_recovering_again_and_leaves_firing_firing() -> None:
    samples = at_minutes(
        (0, 2.1), (5, 2.1), (10, 2.1), (15, 1.7), (20, 1.7), (60, 1.7), (65, 1.7), (70, 1.7), (75, 1.7)
    )
    assert turn(advance_condition(CONDITION, ConditionState(), samples, samples[-1][0])) == [
        (True, 10, 0),
        (False, 75, 60),
    ]
    state = ConditionState()
    silent_for_days = at_minutes((0, 2.1), (5, 2.1), (10, 2.1), (5000, 2.1), (9000, 2.1))
    assert turn(advance_condition(CONDITION, state, silent_for_days, silent_for_days[-1][0] + DAY)) == [(True, 10, 0)]
    assert state.phase is Phase.FIRING


def test_on_late_samples_it_fires_for_the_record_only() -> None:
    late = run(2.1, 2.1, 2.1, now=START + 10 * MINUTE + 15 * MINUTE + 1)
    assert [t.retrospective for t in late] == [True]
    timely = run(2.1, 2.1, 2.1, now=START + 10 * MINUTE + 15 * MINUTE)
    assert [t.retrospective for t in timely] == [False]


def test_what_fired_late_and_is_still_bad_fires_again_for_the_living_once() -> None:
    state, now = ConditionState(), START + 2 * HOUR
    assert [
        t.retrospective for t in advance_condition(CONDITION, state, at_minutes((0, 2.1), (5, 2.1), (10, 2.1)), now)
    ] == [True]
    assert advance_condition(CONDITION, state, at_minutes((15, 2.1), (20, 1.9)), now) == []
    promoted = advance_condition(CONDITION, state, at_minutes((118, 2.1), (119, 2.1)), now)
    assert [(t.fired, t.retrospective, t.at_ms, t.since_ms) for t in promoted] == [
        (True, False, START + 118 * MINUTE, START)
    ]
    over = advance_condition(CONDITION, state, at_minutes(*[(120 + 5 * i, 1.0) for i in range(4)]), now + 20 * MINUTE)
    assert [(t.fired, t.retrospective) for t in over] == [(False, False)]


def test_what_fired_late_and_is_merely_in_between_wakes_nobody() -> None:
    state, now = ConditionState(), START + 2 * HOUR
    advance_condition(CONDITION, state, at_minutes((0, 2.1), (5, 2.1), (10, 2.1)), now)
    assert advance_condition(CONDITION, state, at_minutes((118, 1.9), (119, 1.7)), now) == []


def test_what_fired_late_and_ended_late_stays_for_the_record() -> None:
    turns = run(2.1, 2.1, 2.1, *[1.7] * 4, now=START + DAY)
    assert [(t.fired, t.retrospective) for t in turns] == [(True, True), (False, True)]


def test_the_number_of_readings_named_is_that_of_the_bad_ones() -> None:
    state, now = ConditionState(), START + 2 * HOUR
    four = replace(CONDITION, samples=4)
    fired = advance_condition(four, state, at_minutes((0, 2.1), (5, 2.1), (10, 2.1), (15, 2.1), (20, 1.7)), now)
    assert [t.count for t in fired] == [4]
    promoted = advance_condition(four, state, at_minutes((119, 2.1)), now)
    assert promoted[0].count >= 4


# -- the engine against a plain reading of the rules -------------------------------------------------------------------


Series = tuple[np.ndarray, np.ndarray]
WAS, NOW = np.array([int(Flag.GOOD)]), np.array([int(Flag.BAD)])


def good(at: np.ndarray, value: np.ndarray) -> RuleInput:
    return RuleInput.of(at, value, np.full(len(at), int(Flag.GOOD)))


@dataclass
class Desk:
    """The checks at some stations as the pipeline uses them: a restart keeps the alarms and what fired."""

    rules: Rules
    series: Sequence[tuple[Station, str]]
    alarms: dict[AlarmKey, Alarm] = field(default_factory=dict)
    fired: dict[AlarmKey, tuple[int, ...]] = field(default_factory=dict)
    """When each condition fired, as the incidents know it."""

    def __post_init__(self) -> None:
        self.checks = RuleEngine(self.rules, CATALOGUE, self.alarms, fired=self.fired)
        for number, (station, parameter) in enumerate(self.series):
            self.checks.bind(number, station, parameter)

    def give(self, series: Sequence[int], at: Sequence[int], value: Sequence[float], now: int) -> list[Finding]:
        packed = np.full(len(at), int(Flag.GOOD))
        columns = np.array(series, np.int64), np.array(at, np.int64), np.array(value, float), packed
        findings = self.checks.evaluate(*columns, now)
        alarm_book.update_alarms(self.alarms, findings)
        for one in findings:
            if one.change is ConditionChange.FIRED:
                key = one.rule, one.station, one.parameter or ""
                self.fired[key] = (*self.fired.get(key, ()), one.observed_at_ms)
        return findings

    def late(self, before: Series, after: Series, now: int) -> tuple[list[Finding], list[Finding]]:
        return self.checks.late(0, good(*before), good(*after), now)

    def restarted(self, retrospective: Sequence[tuple[Sequence[int], Sequence[float]]], now: int) -> "Desk":
        """A new process that knows the alarms table, what fired, and the stored readings of each series."""
        fresh = Desk(self.rules, self.series, dict(self.alarms), dict(self.fired))
        for number, (at, value) in enumerate(retrospective):
            fresh.checks.restore(number, good(np.array(at, np.int64), np.array(value, float)), now)
        return fresh


def brief(f: Finding) -> tuple[str, str, ConditionChange, int, int, bool]:
    return f.rule, f.station, f.change, f.observed_at_ms, f.since_ms, f.retrospective


def naive(
    rule: Threshold, station: Station, samples: Iterable[tuple[int, float, int]]
) -> list[tuple[str, str, ConditionChange, int, int, bool]]:
    """The rule as a person would apply it with pencil and paper to readings (ms, value, ms when it was judged)."""
    found = []
    gap = max(3 * station.interval_s, 1800) * 1000
    late = max(900, 2 * station.interval_s) * 1000
    firing, late_only, began = False, False, 0
    run_: list[int] = []  # bad readings in a row while quiet, calm ones in a row while firing
    firings: list[int] = []
    held = False
    previous = None
    for at, x, now in samples:
        bad = x > rule.limit if rule.side is Side.ABOVE else x < rule.limit
        calm = x <= rule.clear if rule.side is Side.ABOVE else x >= rule.clear
        if previous is not None and at - previous > gap:
            run_ = []
        previous = at
        counts = calm if firing else bad
        run_ = [*run_, at] if counts else []
        need = max(rule.keep_firing_s, rule.hold_s if held else 0) if firing else rule.pending_s
        if run_ and len(run_) >= rule.samples and at - run_[0] >= need * 1000:
            if firing:
                found.append((rule.id, station.key, RESOLVED, at, run_[0], False))
                late_only = False
            else:
                began, late_only = run_[0], now - at > late
                firings.append(at)
                held = bool(rule.flaps) and sum(at - f < 1000 * rule.flap_window_s for f in firings) >= rule.flaps
                found.append((rule.id, station.key, FIRED, at, began, late_only))
            firing, run_ = not firing, []
        elif firing and bad and late_only and now - at <= late:
            late_only = False
            found.append((rule.id, station.key, FIRED, at, began, False))
    return found


values = st.sampled_from([1.0, 1.7, 1.8, 1.9, 2.0, 2.05, 2.1, 2.2, 2.3, 2.4, 3.0, 9.0])
paces = st.sampled_from(
    [SECOND, MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 31 * MINUTE, HOUR]
)
runs = st.lists(st.tuples(values, st.integers(1, 7), paces), min_size=1, max_size=12)


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    return replace(
        NH3N,
        pending_s=draw(st.sampled_from([0, 300, 600])),
        samples=draw(st.integers(1, 4)),
        keep_firing_s=draw(st.sampled_from([0, 600, 3600])),
        flaps=draw(st.sampled_from([0, 2, 3])),
        flap_window_s=draw(st.sampled_from([3600, 6 * 3600])),
        hold_s=draw(st.sampled_from([1800, 7200])),
    )


@st.composite
def series_of(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    """Plateaus of some readings each: random values alone would hardly ever fire."""
    at, value, now = [], [], START
    for x, times, pace in draw(runs):
        for _ in range(times):
            now += pace
            at.append(now)
            value.append(x)
    return at, value


def cut(draw: st.DrawFn, n: int) -> list[slice]:
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=6))) if n > 1 else []
    return [slice(a, b) for a, b in itertools.pairwise([0, *cuts, n])]


@given(thresholds(), series_of(), st.data())
@settings(max_examples=150)
def test_the_engine_finds_what_the_rule_says_however_the_readings_arrive(
    above: Threshold, readings: tuple[list[int], list[float]], data: st.DataObject
) -> None:
    below = replace(above, id="low", side=Side.BELOW, limit=1.8, clear=2.1)
    at, value = readings
    desk = Desk(Rules((above, below)), [(SHIWAN, "nh3n")])
    found, judged = [], []
    for piece in cut(data.draw, len(at)):
        now = at[piece][-1] + data.draw(st.sampled_from([0, 0, LATE_AFTER_S * 1000 - 1, 2 * HOUR]))
        found += desk.give([0] * len(at[piece]), at[piece], value[piece], now)
        judged += [(t, x, now) for t, x in zip(at[piece], value[piece], strict=True)]
    for rule in (above, below):
        assert [brief(f) for f in found if f.rule == rule.id] == naive(rule, SHIWAN, judged)


@given(thresholds(), st.lists(series_of(), min_size=2, max_size=4), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_series_that_share_batches_are_checked_as_if_alone(
    rule: Threshold, many: list[tuple[list[int], list[float]]], data: st.DataObject
) -> None:
    stations = [replace(SHIWAN, key=f"s{i}", interval_s=(60, 300, 3600, 14_400)[i]) for i in range(len(many))]
    other = replace(rule, id="do", parameter="do")
    desk = Desk(Rules((rule, other)), [(s, "nh3n") for s in stations])
    edges = [[0, *sorted(data.draw(st.tuples(*[st.integers(0, len(at))] * 3))), len(at)] for at, _ in many]
    now = max(at[-1] for at, _ in many)
    found = []
    for part in range(4):
        rows = [(s, i) for s in range(len(many)) for i in range(edges[s][part], edges[s][part + 1])]
        found += desk.give(
            [s for s, _ in rows], [many[s][0][i] for s, i in rows], [many[s][1][i] for s, i in rows], now
        )
    for s, station in enumerate(stations):
        expected = naive(rule, station, [(at, x, now) for at, x in zip(*many[s], strict=True)])
        assert [brief(f) for f in found if f.station == station.key] == expected


@given(thresholds(), series_of(), st.data())
@settings(max_examples=150)
def test_a_restart_at_any_moment_changes_nothing(
    rule: Threshold, readings: tuple[list[int], list[float]], data: st.DataObject
) -> None:
    """Pending, recovering or firing: the same turns at the same event times, nothing twice, nothing lost."""
    at, value = readings
    k = data.draw(st.integers(0, len(at)))
    delay = data.draw(st.sampled_from([0, 0, 2 * HOUR]))
    desk = Desk(Rules((rule,)), [(SHIWAN, "nh3n")])
    found = []
    for i in range(k):
        found += desk.give([0], at[i : i + 1], value[i : i + 1], at[i] + delay)
    start = at[k - 1] if k else START
    if data.draw(st.booleans()):  # the store is asked for as much as the rules need
        window = 1000 * max(MIN_LOOKBACK_S, desk.rules.lookback_s("nh3n"))
        first = min(next((i for i in range(k) if at[i] >= start - window), k), max(0, k - MIN_READINGS))
    else:
        first = 0
    desk = desk.restarted([(at[first:k], value[first:k])], start + delay + data.draw(st.sampled_from([0, DAY])))
    for i in range(k, len(at)):
        found += desk.give([0], at[i : i + 1], value[i : i + 1], at[i] + delay)
    judged = [(t, x, t + delay) for t, x in zip(at, value, strict=True)]
    assert [brief(f) for f in found] == naive(rule, SHIWAN, judged)


def test_a_condition_that_ended_in_the_store_but_was_never_announced_ends_with_the_next_reading() -> None:
    """The alarms table is what people were told: it wins over the readings."""
    told = {("nh3n-high", "shiwan", "nh3n"): Alarm("water:shiwan", START, START, False)}
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")], told)
    at = [START + i * 5 * MINUTE for i in range(1, 40)]
    desk.checks.restore(0, good(np.array(at), np.full(39, 1.0)), at[-1])
    found = desk.give([0] * 4, [at[-1] + (i + 1) * 5 * MINUTE for i in range(4)], [1.0] * 4, at[-1] + 20 * MINUTE)
    assert [(f.change, f.observed_at_ms) for f in found] == [(RESOLVED, at[-1] + 5 * MINUTE)]
    assert not desk.alarms


def test_a_held_alarm_stays_held_after_a_restart_that_no_longer_sees_why() -> None:
    rule = replace(NH3N, samples=1, keep_firing_s=0, hold_s=7200)
    told = {("nh3n-high", "shiwan", "nh3n"): Alarm("water:shiwan", START, START, False, flapping=True)}
    desk = Desk(Rules((rule,)), [(SHIWAN, "nh3n")], told)
    stored = [START + 5 * HOUR + i * 5 * MINUTE for i in range(60)]  # bad all the time since it fired
    desk.checks.restore(0, good(np.array(stored), np.full(60, 3.0)), stored[-1])
    calm = [stored[-1] + (i + 1) * 5 * MINUTE for i in range(40)]
    found = [f for at in calm for f in desk.give([0], [at], [1.0], at)]
    assert [(f.change, f.observed_at_ms) for f in found] == [(RESOLVED, calm[0] + 2 * HOUR)]


@pytest.mark.parametrize("calm_after", [0, 1, 2])
def test_a_condition_that_fired_in_the_store_but_was_never_announced_is_announced_by_the_next_bad_reading(
    calm_after: int,
) -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    stored = [3.0] * 10 + [1.0] * calm_after
    at = [START + i * 5 * MINUTE for i in range(len(stored) + 1)]
    desk.checks.restore(0, good(np.array(at[:-1]), np.array(stored)), at[-2])
    found = desk.give([0], at[-1:], [3.0], at[-1])
    assert [(f.change, f.observed_at_ms) for f in found] == [(FIRED, at[-1])]


def test_suspect_and_bad_readings_prove_nothing() -> None:
    packed = np.array([Flag.GOOD, Flag.UNKNOWN, Flag.SUSPECT, Flag.BAD, Flag.MISSING, Flag.SUSPECT | (8 << 4)])
    assert usable(packed).tolist() == [True, True, False, False, False, False]


def test_an_extreme_that_lasts_is_believed_and_anything_else_suspect_is_not() -> None:
    plausible, over, spike = (
        int(t) << 4 for t in (QualityTest.PLAUSIBLE_RANGE, QualityTest.OVER_RANGE, QualityTest.SPIKE)
    )
    packed = np.array([3 | plausible, 3 | over, 3 | plausible | over, 3 | plausible | spike, 4 | plausible, 4 | over])
    assert usable(packed).tolist() == [True, True, True, False, False, False]


def test_a_spike_that_was_counted_is_taken_back() -> None:
    condition = Condition(1, 2.0, 1.8, 0, 3, 0, 10 * MINUTE, DAY)
    state = ConditionState()
    advance_condition(condition, state, [(START, 2.5)], START)
    assert remove_sample(condition, state, START)
    assert state.phase is Phase.IDLE
    advance_condition(condition, state, [(START + MINUTE, 2.5), (START + 2 * MINUTE, 2.6)], START)
    assert remove_sample(condition, state, START + MINUTE), "a test may need two successors to be sure"
    assert (state.phase, state.count, state.since_ms) == (Phase.PENDING, 1, START + 2 * MINUTE)
    assert not remove_sample(condition, state, START + MINUTE), "once"
    assert remove_sample(condition, state, START + 2 * MINUTE)
    assert state.phase is Phase.IDLE


def test_an_alarm_whose_rule_is_gone_is_withdrawn_and_the_others_stay() -> None:
    rule = replace(NH3N, id="kept", where=Scope(stations=("shi*",)))
    alarms = {
        ("kept", "shiwan", "nh3n"): Alarm("water:shiwan", START, START, False),
        ("kept", "elsewhere", "nh3n"): Alarm("water:elsewhere", START, START, False),
        ("gone", "shiwan", "do"): Alarm("water:shiwan", START, START, True),
        ("gone", "gw", ""): Alarm("silence:gateway:gw", START, START, False),
    }
    found = RuleEngine(Rules((rule,)), CATALOGUE, alarms).withdrawn(Registry((SHIWAN,), catalogue=CATALOGUE))
    assert {(f.rule, f.station, f.change) for f in found} == {
        ("kept", "elsewhere", RESOLVED),
        ("gone", "shiwan", RESOLVED),
        ("gone", "gw", RESOLVED),
    }


def test_a_rule_watches_only_where_it_speaks() -> None:
    rivers = replace(NH3N, where=Scope(waters=(Water.RIVER,)))
    named = replace(NH3N, id="named", where=Scope(stations=("la*",)))
    desk = Desk(Rules((rivers, named)), [(SHIWAN, "nh3n"), (LAKE, "nh3n"), (SHIWAN, "do")])
    at = [START + i * 5 * MINUTE for i in range(3)]
    found = [f for s in range(3) for f in desk.give([s] * 3, at, [3.0] * 3, at[-1])]
    assert [(f.rule, f.station) for f in found] == [("nh3n-high", "shiwan"), ("named", "lake")]


def test_a_reach_pattern_chooses_by_reach() -> None:
    where = Scope(reaches=("qicha-*",))
    assert where.matches(replace(SHIWAN, reach="qicha-huanhu"))
    assert not where.matches(replace(SHIWAN, reach="dongping"))
    assert Scope().matches(SHIWAN)


def test_how_late_is_late_depends_on_the_promised_interval() -> None:
    slow = replace(SHIWAN, interval_s=14_400)
    once = replace(NH3N, samples=1, pending_s=0)
    for delay, retrospective in ((28_800_000, False), (28_800_001, True)):
        desk = Desk(Rules((once,)), [(slow, "nh3n")])
        assert [f.retrospective for f in desk.give([0], [START], [3.0], START + delay)] == [retrospective]


def test_how_long_a_pause_is_depends_on_the_promised_interval() -> None:
    slow = replace(SHIWAN, interval_s=14_400)
    for pause, fires in ((43_200_000, 1), (43_200_001, 0)):
        desk = Desk(Rules((replace(NH3N, samples=2),)), [(slow, "nh3n")])
        assert len(desk.give([0, 0], [START, START + pause], [3.0, 3.0], START + pause)) == fires


# -- late data ---------------------------------------------------------------------------------------------------------


def stretch(*parts: tuple[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Readings every five minutes: (value, how many) after another."""
    value = np.concatenate([np.full(n, x) for x, n in parts])
    return START + 5 * MINUTE * np.arange(len(value)), value


def without(series: tuple[np.ndarray, np.ndarray], first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    keep = np.ones(len(series[0]), bool)
    keep[first:last] = False
    return series[0][keep], series[1][keep]


def test_late_data_show_what_happened_in_their_own_time_and_wake_nobody() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 20), (3.0, 10), (1.0, 20))
    found, lasting = desk.late(without(after, 20, 30), after, START + DAY)
    assert [brief(f)[2:] for f in found] == [
        (FIRED, START + 22 * 5 * MINUTE, START + 20 * 5 * MINUTE, True),
        (RESOLVED, START + 33 * 5 * MINUTE, START + 30 * 5 * MINUTE, True),
    ]
    assert lasting == []
    assert not desk.alarms


def test_what_was_known_without_the_late_data_is_not_found_again() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 20), (3.0, 20), (1.0, 20), (3.0, 10), (1.0, 20))
    found, _ = desk.late(without(after, 60, 70), after, START + DAY)
    assert [f.since_ms for f in found if f.change is FIRED] == [START + 60 * 5 * MINUTE]
    # late readings in the middle, at the beginning or at the end of a known stretch only make it longer
    for first, last in ((25, 30), (18, 25), (35, 45)):
        assert desk.late(without(after, first, last), after, START + DAY) == ([], [])


def test_late_data_in_several_messages_are_found_once() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    whole = stretch((1.0, 20), (3.0, 10), (1.0, 20))
    found = []
    for i in range(20, 30):
        found += desk.late(without(whole, i, 30), without(whole, i + 1, 30), START + DAY)[0]
    assert [f.change for f in found if f.change is FIRED] == [FIRED]


def test_late_data_that_show_nothing_bad_are_no_finding() -> None:
    desk = Desk(Rules((NH3N, DO)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 50))
    assert desk.late(without(after, 10, 20), after, START + DAY) == ([], [])


def test_a_condition_that_late_data_leave_firing_is_remembered_and_announced_once_it_is_timely() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 20), (3.0, 3))
    now = int(after[0][-1]) + HOUR
    found, lasting = desk.late(without(after, 20, 22), after, now)
    assert [brief(f)[2:] for f in lasting] == [(FIRED, int(after[0][-1]), START + 20 * 5 * MINUTE, True)]
    assert found == lasting
    alarm_book.update_alarms(desk.alarms, lasting)
    desk = desk.restarted([(after[0].tolist(), after[1].tolist())], now)
    assert [brief(f)[2:] for f in desk.give([0], [now], [3.0], now)] == [(FIRED, now, START + 20 * 5 * MINUTE, False)]
    assert desk.give([0], [now + 5 * MINUTE], [3.0], now + 5 * MINUTE) == []


def test_the_announcement_after_late_data_does_not_speak_of_no_readings() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 20), (3.0, 3))
    now = int(after[0][-1]) + HOUR
    _, lasting = desk.late(without(after, 20, 22), after, now)
    alarm_book.update_alarms(desk.alarms, lasting)
    desk = desk.restarted([(after[0].tolist(), after[1].tolist())], now)
    text = desk.give([0], [now], [3.0], now)[0].text
    assert " 0 readings" not in text.en
    assert "连续0次" not in text.zh


def test_late_data_beside_a_firing_condition_do_not_fire_it_again() -> None:
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")])
    after = stretch((1.0, 10), (3.0, 10), (1.0, 20), (3.0, 10))
    at, value = without(after, 10, 20)
    desk.give([0] * len(at), at.tolist(), value.tolist(), int(at[-1]))
    assert len(desk.alarms) == 1
    before = dict(desk.alarms)
    found, lasting = desk.late((at, value), after, int(at[-1]))
    assert [f.change for f in found] == [FIRED, RESOLVED]
    assert lasting == []
    assert desk.alarms == before


def test_late_data_do_not_speak_for_a_condition_that_is_known_to_be_firing() -> None:
    """What people were told stands in the alarms, even where the readings around the late ones do not show it."""
    told_ = {("nh3n-high", "shiwan", "nh3n"): Alarm("water:shiwan", START - DAY, START - DAY, False)}
    desk = Desk(Rules((NH3N,)), [(SHIWAN, "nh3n")], told_)
    after = stretch((1.0, 20), (3.0, 3))
    _, lasting = desk.late(without(after, 20, 22), after, START + DAY)
    assert lasting == []


# -- trends ------------------------------------------------------------------------------------------------------------

SINKING = Trend(
    id="do-sinking",
    parameter="do",
    side=Side.BELOW,
    per_hour=0.05,
    clear_per_hour=0.02,
    window_s=72 * 3600,
    bins=36,
    min_bins=27,
    samples=2,
    colour=Colour.YELLOW,
    version="v2",
)


def hours(n: float, slope: float, start: float = 9.0, every: int = 10 * MINUTE) -> tuple[list[int], list[float]]:
    at = np.arange(START, START + int(n * HOUR), every)
    return at.tolist(), (start + slope * (at - START) / HOUR).tolist()


def trend_desk(rule: Trend = SINKING, station: Station = SHIWAN) -> Desk:
    return Desk(Rules(trends=(rule,)), [(station, rule.parameter)])


def told(desk: Desk, at: list[int], value: list[float]) -> list[Finding]:
    """All of it timely: the clock stands still."""
    return desk.give([0] * len(at), at, value, START) if at else []


@given(
    st.lists(st.lists(st.none() | st.floats(-100, 100), min_size=6, max_size=6), min_size=1, max_size=4),
    st.floats(0.01, 10),
)
def test_the_slope_is_the_median_of_the_slopes_of_all_pairs(rows: list[list[float | None]], width: float) -> None:
    means = np.array([[np.nan if x is None else x for x in row] for row in rows])
    for row, got in zip(rows, theil_sen(means, np.full(len(rows), width)), strict=True):
        slopes = sorted(
            (b - a) / ((j - i) * width)
            for (i, a), (j, b) in itertools.combinations(enumerate(row), 2)
            if a is not None and b is not None
        )
        if not slopes:
            assert np.isnan(got)
        else:
            middle = (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2
            assert got == pytest.approx(middle, rel=1e-9, abs=1e-9)


def test_oxygen_that_sinks_steadily_fires_as_soon_as_enough_bins_are_full_and_once_only() -> None:
    found = told(trend_desk(), *hours(120, -0.06))
    assert [(f.kind, f.change, f.observed_at_ms) for f in found] == [
        (FindingKind.TREND, FIRED, START + 56 * HOUR)
    ]  # 28 bins
    assert found[0].since_ms == START + 54 * HOUR
    assert found[0].limit == 0.05


@pytest.mark.parametrize("slope", [0.06, -0.04, 0.0, -0.0499])
def test_a_slope_on_the_good_side_or_below_the_limit_does_not_fire(slope: float) -> None:
    assert told(trend_desk(), *hours(120, slope)) == []


def test_a_rising_trend_is_the_mirror_of_a_sinking_one() -> None:
    rising = replace(SINKING, id="up", side=Side.ABOVE)
    assert [f.change for f in told(trend_desk(rising), *hours(120, 0.06))] == [FIRED]
    assert told(trend_desk(rising), *hours(120, -0.06)) == []


def test_a_sinking_that_flattens_out_is_over() -> None:
    at, value = hours(200, 0.0)
    value = [9.0 - 0.06 * min((t - START) / HOUR, 80) for t in at]
    changes = [f.change for f in told(trend_desk(), at, value)]
    assert changes == [FIRED, RESOLVED]


def test_between_the_two_slopes_nothing_changes() -> None:
    at, _ = hours(300, 0.0)
    value = [15.0 - 0.06 * min((t - START) / HOUR, 80) - 0.03 * max((t - START) / HOUR - 80, 0) for t in at]
    assert [f.change for f in told(trend_desk(), at, value)] == [FIRED]


def test_one_outlier_makes_no_trend_and_hides_none() -> None:
    at, value = hours(120, -0.001)
    for where in (300, 400, 500):
        value[where] = -300.0
    assert told(trend_desk(), at, value) == []
    at, value = hours(120, -0.06)
    value[100] = 300.0
    assert [f.change for f in told(trend_desk(), at, value)] == [FIRED]


def test_tide_and_daylight_alone_make_no_trend() -> None:
    at, _ = hours(400, 0.0)
    h = (np.array(at) - START) / HOUR
    value = 6 + 1.5 * np.sin(2 * np.pi * h / 24) + 0.8 * np.sin(2 * np.pi * h / 12.42)
    assert told(trend_desk(), at, value.tolist()) == []


def test_too_few_filled_bins_are_not_judged() -> None:
    at, value = hours(53.9, -0.06)  # the 27th bin is not complete yet
    assert told(trend_desk(), at, value) == []
    at, value = hours(300, -0.06)
    thin = [(t, x) for t, x in zip(at, value, strict=True) if (t // (2 * HOUR)) % 3]  # two bins of three: 24 of 36
    assert told(trend_desk(), [t for t, _ in thin], [x for _, x in thin]) == []


def test_a_long_silence_empties_the_window() -> None:
    desk = trend_desk()
    at, value = hours(54, -0.06)
    assert told(desk, at, value) == []
    at = [t + 200 * HOUR for t in at]
    assert told(desk, at, [x - 5 for x in value]) == []


@given(
    st.lists(st.floats(0, 14), min_size=60, max_size=120),
    st.sampled_from([-0.3, -0.06, 0.0]),
    st.sampled_from([30 * MINUTE, HOUR, 90 * MINUTE]),
    st.data(),
)
@settings(max_examples=30)
def test_a_trend_does_not_depend_on_how_the_readings_arrive(
    noise: list[float], slope: float, every: int, data: st.DataObject
) -> None:
    rule = replace(SINKING, window_s=24 * 3600, bins=12, min_bins=8)
    at = [START + i * every for i in range(len(noise))]
    value = [20 + slope * i + 0.1 * x for i, x in enumerate(noise)]
    whole = told(trend_desk(rule), at, value)
    desk, found = trend_desk(rule), []
    for piece in cut(data.draw, len(at)):
        found += told(desk, at[piece], value[piece])
    assert [brief(f) for f in found] == [brief(f) for f in whole]
    assert [f.value for f in found] == pytest.approx([f.value for f in whole])
    assert [f.text for f in found] == [f.text for f in whole]


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.0, -0.03, -0.06, -0.2]), st.integers(2, 20)), min_size=2, max_size=6),
    st.data(),
)
@example([(0, 19), (-0.06, 13), (0, 9), (-0.2, 12), (0, 5), (-0.045, 19)], None)
@settings(max_examples=30)
def test_a_restart_at_any_moment_changes_no_trend(parts: list[tuple[float, int]], data: st.DataObject | None) -> None:
    rule = replace(SINKING, window_s=24 * 3600, bins=12, min_bins=8)
    at, value, x = [], [], 20.0
    for slope, n in parts:
        for _ in range(n):
            x += slope
            at.append(START + len(at) * HOUR)
            value.append(x)
    whole, through = trend_desk(rule), []
    for i in range(len(at)):
        through += told(whole, at[i : i + 1], value[i : i + 1])
    restarts = range(len(at)) if data is None else data.draw(st.sets(st.integers(0, len(at) - 1), max_size=9))
    desk, found = trend_desk(rule), []
    for i in range(len(at)):
        if i in restarts:  # the store is asked for as much as the rules need
            start = (at[i - 1] if i else START) - 1000 * max(MIN_LOOKBACK_S, desk.rules.lookback_s("do"))
            first = min(next((j for j in range(i) if at[j] >= start), i), max(0, i - MIN_READINGS))
            desk = desk.restarted([(at[first:i], value[first:i])], at[i])
        found += told(desk, at[i : i + 1], value[i : i + 1])
    assert [brief(f) for f in found] == [brief(f) for f in through]


def test_a_reading_that_turns_out_a_spike_is_taken_out_of_the_trend_again() -> None:
    plain, spoilt = trend_desk(), trend_desk()
    at, value = hours(50, -0.06)
    told(plain, at, value)
    told(spoilt, at, value)
    later, more = hours(120, -0.06)
    later, more = later[len(at) :], more[len(at) :]
    deciding = 34  # the 56th hour, in whose bin the trend is decided
    odd = later[deciding] + MINUTE
    told(spoilt, [*later[: deciding + 1], odd], [*more[: deciding + 1], 500.0])
    spoilt.checks.withdraw(np.array([0]), np.array([odd]), np.array([500.0]), WAS, NOW)
    (found,) = told(spoilt, later[deciding + 1 :], more[deciding + 1 :])
    (expected,) = told(plain, later, more)
    assert brief(found) == brief(expected)
    assert found.value == pytest.approx(expected.value)


def test_a_reading_older_than_the_window_is_withdrawn_without_harm() -> None:
    desk = trend_desk()
    at, value = hours(100, -0.06)
    told(desk, at, value)
    old = [t for t in at if t < START + 26 * HOUR]
    columns = np.zeros(len(old), np.int64), np.array(old), np.full(len(old), 500.0)
    desk.checks.withdraw(*columns, np.repeat(WAS, len(old)), np.repeat(NOW, len(old)))
    desk.checks.withdraw(np.array([7]), np.array([START]), np.array([500.0]), WAS, NOW)  # a series without a trend
    plain = trend_desk()
    told(plain, at, value)
    later, more = [t + 100 * HOUR for t in at], [3.0] * len(at)
    found, expected = told(desk, later, more), told(plain, later, more)
    assert [f.change for f in found] == [RESOLVED]
    assert [brief(f) for f in found] == [brief(f) for f in expected]


@pytest.mark.parametrize(("interval_s", "retrospective"), [(300, True), (3600, False), (14_400, False)])
def test_a_trend_of_slow_readings_is_for_the_living_too(interval_s: int, retrospective: bool) -> None:
    """A bin ends when the next reading opens another one: at a slow station that may be an interval later."""
    rule = replace(SINKING, bins=6, min_bins=4)
    desk = trend_desk(rule, replace(SHIWAN, interval_s=interval_s))
    found = []
    for i in range(40):
        at = START + i * 4 * HOUR + 50 * MINUTE
        found += desk.give([0], [at], [9 - 0.24 * i], at)
    assert [(f.change, f.retrospective) for f in found] == [(FIRED, retrospective)]


def test_bins_forget_what_is_out_of_the_window() -> None:
    bins = TimeBins(1000, 3)
    bins.grow(1)
    for number in (5, 6, 7):
        bins.advance(0, number)
        bins.sum[0, number % 3] += number
        bins.count[0, number % 3] += 1
    assert bins.means(0).tolist() == [5, 6, 7]
    bins.advance(0, 9)
    assert np.isnan(bins.means(0)).tolist() == [False, True, True]
    bins.advance(0, 12)
    assert np.isnan(bins.means(0)).all()


def test_a_late_trend_is_found_in_its_own_time_and_names_the_oxygen_and_not_the_slope() -> None:
    at, value = hours(120, -0.06)
    after = np.array(at), np.array(value)
    keep = (after[0] < START + 30 * HOUR) | (after[0] >= START + 100 * HOUR)
    found, lasting = trend_desk().late((after[0][keep], after[1][keep]), after, at[-1] + DAY)
    assert [f.change for f in found] == [FIRED]
    assert found[0].retrospective
    assert lasting == found
    assert found[0].value == pytest.approx(9.0 - 0.06 * 55, abs=0.2)  # decided after 56 hours
    assert "-0.06 mg/L" not in found[0].text.en


# -- no data -----------------------------------------------------------------------------------------------------------

SILENT = NoData(id="silent", intervals=3.0, at_least_s=60, colour=Colour.BLUE, version="v3")
PATIENCE = 900 * 1000


@dataclass
class Watchman:
    """Stations, when each was last heard, and a clock in seconds since START."""

    stations: tuple[Station, ...]
    rule: NoData = SILENT
    alarms: dict[AlarmKey, Alarm] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    visited: dict[str, float] = field(default_factory=dict)
    """Until when somebody is at work there, for ever where inf."""

    def __post_init__(self) -> None:
        self.checks = RuleEngine(Rules(no_data=(self.rule,)), CATALOGUE, self.alarms)
        self.registry = Registry(self.stations, catalogue=CATALOGUE)

    def look(self, now_s: float, connected_s: float | None = -1e6) -> list[Finding]:
        heard = [START + int(1000 * self.heard[s.key]) if s.key in self.heard else -1 for s in self.stations]
        since = None if connected_s is None else START + int(connected_s * 1000)
        now = START + int(now_s * 1000)
        excused = [
            START + int(1000 * min(self.visited[s.key], now_s)) if s.key in self.visited else -1 for s in self.stations
        ]
        found = self.checks.silence.tick(
            self.registry, np.array(heard, np.int64), np.array(excused, np.int64), since, now
        )
        alarm_book.update_alarms(self.alarms, found)
        return found

    def names(self, now_s: float, connected_s: float | None = -1e6) -> list[tuple[ConditionChange, str]]:
        return [(f.change, f.station) for f in self.look(now_s, connected_s)]


def station(key: str, gateway: str | None = None, interval_s: int = 300) -> Station:
    return Station(key, f"{key}站", f"station {key}", 113.0, 23.0, gateway=gateway, interval_s=interval_s)


def watchman(*stations: Station, heard: float = 0.0) -> Watchman:
    return Watchman(stations, heard={s.key: heard for s in stations})


def test_a_station_where_somebody_is_at_work_is_not_silent_and_has_three_intervals_afterwards() -> None:
    one = watchman(station("a"))
    one.visited["a"] = 5000
    assert one.names(5000) == []
    assert one.names(5900) == []
    assert one.names(5901) == [(ConditionChange.FIRED, "a")]


def test_a_silent_station_stays_so_while_somebody_is_at_work() -> None:
    one = watchman(station("a"))
    assert one.names(901) == [(ConditionChange.FIRED, "a")]
    one.visited["a"] = float("inf")
    assert one.names(5000) == []
    one.heard["a"] = 5000
    assert one.names(5001) == [(ConditionChange.RESOLVED, "a")]


def test_a_station_is_silent_after_three_promised_intervals_and_not_before() -> None:
    one = watchman(station("a"))
    assert one.names(900) == []
    assert one.names(900.001) == [(FIRED, "a")]


def test_a_fast_station_is_given_the_least_patience() -> None:
    one = watchman(station("a", interval_s=5))
    assert one.names(60) == []
    assert one.names(60.001) == [(FIRED, "a")]


def test_a_silent_station_is_found_once_and_speaking_again_ends_it() -> None:
    one = watchman(station("a"))
    first = one.look(1000)[0]
    assert (first.since_ms, first.observed_at_ms, first.cause) == (START, START + PATIENCE, "silence:a")
    assert [one.names(t) for t in (1001, 5000, 90_000)] == [[], [], []]
    one.heard["a"] = 90_001
    over = one.look(90_002)[0]
    assert (over.change, over.since_ms, over.observed_at_ms) == (RESOLVED, START, START + 90_001_000)
    assert one.names(90_003) == []
    assert one.names(90_902) == [(FIRED, "a")]


def test_old_readings_that_arrive_late_do_not_end_a_silence() -> None:
    one = watchman(station("a"))
    one.look(10_000)
    one.heard["a"] = 5000
    assert one.names(10_001) == []


def test_a_station_that_was_never_heard_is_no_alarm() -> None:
    assert Watchman((station("a"),)).names(1e6) == []


def test_nothing_is_judged_while_the_broker_is_away_and_everybody_has_a_full_interval_afterwards() -> None:
    one = watchman(station("a"))
    assert one.names(10_000, connected_s=None) == []
    assert one.names(10_900, connected_s=10_000) == []
    assert one.names(10_900.001, connected_s=10_000) == [(FIRED, "a")]


def test_a_silence_known_from_the_database_is_not_raised_again() -> None:
    one = watchman(station("a"), station("b", "gw"), station("c", "gw"))
    assert one.names(2000) == [(FIRED, "gw"), (FIRED, "a")]
    fresh = Watchman(one.stations, alarms=dict(one.alarms), heard=one.heard)
    assert fresh.names(2001) == []
    fresh.heard |= {"a": 2002, "b": 2002, "c": 2002}
    assert sorted(fresh.names(2003)) == [(RESOLVED, "a"), (RESOLVED, "gw")]


def test_a_station_without_data_elsewhere_is_not_concerned() -> None:
    lakes = replace(SILENT, where=Scope(waters=(Water.LAKE,)))
    one = Watchman((SHIWAN, LAKE), lakes, heard={"shiwan": 0, "lake": 0})
    assert one.names(1e5) == [(FIRED, "lake")]


def test_a_broken_gateway_is_one_finding_and_none_for_its_stations() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"), station("c", "gw"), station("d"))
    one.heard["b"] = 10
    found = one.look(2000)
    assert [(f.change, f.station) for f in found] == [(FIRED, "gw"), (FIRED, "d")]
    assert (found[0].since_ms, found[0].cause) == (START + 10_000, "silence:gateway:gw")
    assert [one.names(t) for t in (2001, 9000, 1e6)] == [[], [], []]


def test_a_station_of_a_gateway_that_is_not_due_yet_is_waited_for() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"), station("c", "gw"))
    one.heard["c"] = 200  # the last word came a little later
    assert one.names(950) == []
    assert one.names(1100) == []
    assert one.names(1100.001) == [(FIRED, "gw")]


def test_a_slow_station_of_a_gateway_is_waited_for() -> None:
    one = watchman(station("fast", "gw", 60), station("slow", "gw", 3600))
    assert [one.names(t) for t in (181, 3000, 10_800)] == [[], [], []]
    assert one.names(10_800.001) == [(FIRED, "gw")]


def test_a_single_silent_station_of_a_speaking_gateway_is_its_own_finding() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"), station("c", "gw"))
    for t in range(300, 1201, 300):
        one.heard |= {"b": t, "c": t}
    assert one.names(1201) == [(FIRED, "a")]
    one.heard |= {"a": 1300}
    assert one.names(1301) == [(RESOLVED, "a")]


def test_a_gateway_with_one_station_is_that_station() -> None:
    one = watchman(station("a", "gw"))
    assert one.names(901) == [(FIRED, "a")]


def test_a_station_of_the_gateway_that_was_never_heard_does_not_keep_the_gateway_from_being_found() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"))
    one = Watchman((*one.stations, station("new", "gw")), heard=one.heard)
    assert one.names(901) == [(FIRED, "gw")]


def test_a_gateway_that_speaks_again_ends_its_silence() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"))
    one.look(2000)
    one.heard |= {"a": 3000, "b": 3000}
    found = one.look(3001)
    assert [(f.change, f.station, f.observed_at_ms) for f in found] == [(RESOLVED, "gw", START + 3_000_000)]
    assert one.alarms == {}


def test_when_a_gateway_speaks_again_its_other_stations_get_a_full_interval() -> None:
    """They report one after the other: the first word is no reason to call for all who have not had their turn."""
    one = watchman(*[station(k, "gw") for k in "abcd"])
    assert one.names(2000) == [(FIRED, "gw")]
    one.heard["a"] = 3000
    assert one.names(3001) == [(RESOLVED, "gw")]
    assert one.names(3002) == []
    one.heard |= {"b": 3100, "c": 3200}
    assert one.names(3300) == []
    for t in range(3300, 4300, 300):
        one.heard |= {"a": t, "b": t, "c": t}
    assert one.names(4200) == [(FIRED, "d")]  # it had its time


def test_a_gateway_breaks_down_although_one_of_its_stations_was_silent_before() -> None:
    one = watchman(*[station(k, "gw") for k in "abcd"])
    for t in range(300, 3001, 300):
        one.heard |= {"b": t, "c": t, "d": t}
    assert one.names(3000) == [(FIRED, "a")]
    assert one.names(3901) == [(FIRED, "gw")]  # one finding for b, c and d
    assert [one.names(t) for t in (3902, 10_000, 1e6)] == [[], [], []]


def test_the_last_speaking_station_of_a_gateway_falls_silent_and_is_found() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"))
    for t in range(300, 3001, 300):
        one.heard["b"] = t
    assert one.names(3000) == [(FIRED, "a")]
    found = one.names(3901)
    assert len(found) == 1
    assert found[0][0] is FIRED


def test_a_gateway_named_like_its_station_is_not_mistaken_for_it() -> None:
    one = watchman(station("shiwan", "shiwan"), station("b", "shiwan"))
    told_ = []
    for t in range(300, 6001, 300):
        one.heard["b"] = t
        told_ += one.names(t + 1)
    assert told_ == [(FIRED, "shiwan")]  # once, and no coming and going


# -- words -------------------------------------------------------------------------------------------------------------


def fire(rule: Threshold, station_: Station, *x: float) -> list[Finding]:
    desk = Desk(Rules((rule,)), [(station_, rule.parameter)])
    at = [START + i * 5 * MINUTE for i in range(len(x))]
    return desk.give([0] * len(x), at, list(x), at[-1])


def both(text: object, *parts: str) -> None:
    for language in ("zh", "en"):
        sentence = getattr(text, language)
        for part in parts:
            assert part in sentence, (part, sentence)
        assert "{" not in sentence


def test_a_finding_explains_itself_with_its_numbers_in_both_languages() -> None:
    fired, over = fire(NH3N, SHIWAN, 2.1, 2.4, 2.512, *[1.7] * 4)
    both(fired.text, "2.512 mg/L", "2.000 mg/L", "3", "05-12 08:00", "05-12 08:10")
    assert "石湾" in fired.text.zh
    assert "氨氮" in fired.text.zh
    assert shows(fired.text.zh, "finding.above", station="石湾", parameter="氨氮", value="2.512 mg/L", samples=3)
    assert "Shiwan: ammonia nitrogen" in fired.text.en
    assert "3 readings in a row above 2.000 mg/L (GB 3838 class V)" in fired.text.en
    assert "高于2.000 mg/L（GB 3838 Ⅴ类限值）" in fired.text.zh
    both(over.text, "1.700 mg/L", "2.000 mg/L", "15", "05-12 08:30")
    assert "保持15分钟" in over.text.zh
    assert "15 min" in over.text.en
    assert (fired.version, fired.rule, fired.cause, fired.colour) == ("v1", "nh3n-high", "water:shiwan", Colour.ORANGE)
    assert (fired.kind, fired.parameter, fired.value, fired.limit) == (FindingKind.THRESHOLD, "nh3n", 2.512, 2.0)


def test_an_alarm_within_a_minute_says_the_seconds() -> None:
    desk = Desk(Rules((replace(NH3N, pending_s=0),)), [(replace(SHIWAN, interval_s=5), "nh3n")])
    at = [START + 5 * SECOND * i for i in range(3)]
    (found,) = desk.give([0] * 3, at, [2.4] * 3, at[-1])
    both(found.text, "08:00:00", "08:00:10")


def test_low_oxygen_is_said_to_be_below() -> None:
    fired = fire(DO, SHIWAN, 1.5, 1.4, 1.3)[0]
    both(fired.text, "1.30 mg/L", "2.00 mg/L")
    for text in (fired.text.zh, fired.text.en):
        assert shows(text, "finding.below", value="1.30 mg/L", samples=3)


def test_a_trend_names_its_slope_its_window_and_the_value() -> None:
    found = told(trend_desk(), *hours(120, -0.06))[0]
    both(found.text, "0.060 mg/L", "0.050 mg/L", "72", "36", "05-14 16:00")
    assert shows(found.text.zh, "finding.falling", slope="0.060 mg/L")
    assert shows(found.text.en, "finding.falling", slope="0.060 mg/L", window="72 h")
    assert found.value == pytest.approx(9.0 - 0.06 * 55, abs=0.1)  # the mean of the bin that decided
    up = replace(SINKING, side=Side.ABOVE)
    rose = told(trend_desk(up), *hours(120, 0.06))[0]
    for text in (rose.text.zh, rose.text.en):
        assert shows(text, "finding.rising", slope="0.060 mg/L")


def test_a_trend_that_is_over_names_its_slope() -> None:
    at, _ = hours(200, 0.0)
    value = [9.0 - 0.06 * min((t - START) / HOUR, 80) for t in at]
    both(told(trend_desk(), at, value)[1].text, "mg/L", "05-")


def test_a_silence_names_the_station_since_when_and_the_promise() -> None:
    found = watchman(station("a")).look(901)[0]
    both(found.text, "05-12 08:00", "5")
    assert shows(found.text.zh, "finding.silent", station="a站", interval="5分钟")
    assert shows(found.text.en, "finding.silent", station="station a", interval="5 min")
    assert (found.kind, found.parameter, found.value, found.limit, found.version) == (
        FindingKind.NO_DATA,
        None,
        None,
        None,
        "v3",
    )


def test_a_broken_gateway_names_all_its_stations() -> None:
    one = watchman(station("a", "gw"), station("b", "gw"))
    found = one.look(901)[0]
    both(found.text, "gw", "2", "05-12 08:00")
    assert shows(found.text.zh, "finding.gateway_silent", gateway="gw", count=2, stations="a站、b站")
    assert shows(found.text.en, "finding.gateway_silent", gateway="gw", count=2, stations="station a, station b")
    one.heard |= {"a": 1000, "b": 1000}
    both(one.look(1001)[0].text, "gw", "05-12 08:16")


@pytest.mark.parametrize(("interval", "words"), [(30, "30"), (300, "5"), (5400, "1.5"), (86_400, "24")])
def test_intervals_are_said_in_fitting_units(interval: int, words: str) -> None:
    both(watchman(station("a", interval_s=interval)).look(1e6)[0].text, words)


def test_the_same_finding_has_the_same_number_whenever_it_is_found() -> None:
    first, second = fire(NH3N, SHIWAN, 3.0, 3.0, 3.0)[0], fire(NH3N, SHIWAN, 3.0, 3.0, 3.0)[0]
    assert first.id == second.id
    assert len({f.id for f in fire(NH3N, SHIWAN, 3.0, 3.0, 3.0, *[1.0] * 4, 3.0, 3.0, 3.0)}) == 3


@example([(FIRED, "a", False), (RESOLVED, "a", False)])
@given(st.lists(st.tuples(st.sampled_from([FIRED, RESOLVED]), st.sampled_from(["a", "b"]), st.booleans()), max_size=12))
def test_the_alarm_book_holds_what_fired_and_has_not_ended(history: list[tuple[ConditionChange, str, bool]]) -> None:
    base = fire(NH3N, SHIWAN, 3.0, 3.0, 3.0)[0]
    book: dict[AlarmKey, Alarm] = {}
    for change, who, retrospective in history:
        alarm_book.update_alarms(book, [replace(base, change=change, station=who, retrospective=retrospective)])
    for who in ("a", "b"):
        last = next(((c, p) for c, w, p in reversed(history) if w == who), None)
        alarm = book.get(("nh3n-high", who, "nh3n"))
        assert (alarm is not None) == (last is not None and last[0] is FIRED)
        if alarm and last:
            assert alarm == Alarm("water:shiwan", base.observed_at_ms, base.since_ms, last[1])
