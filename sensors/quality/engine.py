"""Run all quality tests over the readings of many series at once.

:func:`check_quality` judges a live micro-batch, a late batch inside its stored neighbourhood, and a whole table: only
the :class:`~sensors.quality.state.SeriesState` handed in differs, and any cutting of a table by time gives the same
flags. Limits are drawn from each series' own past (:mod:`sensors.quality.thresholds`). The verdict on a reading uses at
most its two successors; a burst is flagged when it ends, all its readings together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
from sensors.quality import moves
from sensors.quality.constants import BELOW_ZERO, CHECK_DUE, COLD_START_MS, MIN_LEARNED_READINGS
from sensors.quality.detectors import out_of_water, point_tests, spikes, steps_and_noise
from sensors.quality.detectors.daily_pattern import DAILY_TESTS, check_days
from sensors.quality.detectors.flat_line import EqualRuns, equal_runs, stuck
from sensors.quality.detectors.lone_jumps import flag_lone_jumps
from sensors.quality.detectors.recent_levels import RecentLevels
from sensors.quality.detectors.zero_offset import is_offset_alone
from sensors.quality.histograms import bins
from sensors.quality.neighbours import NO_NEIGHBOURS, Neighbours
from sensors.quality.state import (
    BACK,
    BUSY,
    COUNT,
    JUMP,
    MOVE,
    NOISE,
    NOISY,
    RESOLUTION,
    RUN,
    SHIFT,
    SPIKE,
    STEP,
    T_LEVEL,
    T_NOISE,
    T_SHIFT,
    T_SPIKE,
    WEAK,
    SeriesColumns,
    SeriesState,
    StateUpdate,
)
from sensors.quality.statistics import ReadingStatistics, measure
from sensors.quality.thresholds import RUN_UNIT, DayBlocks, ThresholdHistory
from sensors.quality.timeline import Timeline
from sensors.reading import Bits, Bools, Bytes, Codes, Flag, Floats, Ints, Places, QualityTest, pack

# -- constants -------------------------------------------------------------------------------------------------------
# Shares and multiples that turn a learned threshold into a limit (engineering choices).

MIN_SHIFT_FLOORS: Final = 4.0
"""In spike floors: limit of a step where the catalogue gives none for the parameter."""
MIN_NOISE_FLOORS: Final = 0.6
"""In spike floors: limit of noise, at least."""

BUSY_SHARE: Final = 1.0 / 8.0
"""Share of the limit of a step (or spike) from which on a move of another sensor counts: it shows the change, too.
It must lie above 95 % of the steps of that sensor as well: a warm morning moves the temperature."""

WEAK_JUMPS: Final = 4.0
"""In 95 % quantiles of the series' steps: a step that is weak evidence of somebody at the sensors."""


DUE: Final = CHECK_DUE | BELOW_ZERO
"""Bits of the daily tests that ask for a visit and set no flag."""


@dataclass(frozen=True, slots=True)
class QualityResult:
    """The verdict on a batch of n readings.

    Attributes
    ----------
    flag, tests : (n,)
    move : (n,) departure from the last two hours in usual moves of the series; NaN where nothing can be said
    course : (n,) how the sensor went there: :data:`~sensors.quality.moves.CLIMB`, ``LEAP``, or 0
    due : (n,) why somebody should clean or check the sensor on that day: :data:`DUE`, or 0
    reflag_series, reflag_at, reflag_packed : (m,)
        Readings of *earlier* batches whose verdict changed: a spike shows only once its successor is there.
    carried : what is to be remembered; apply it once the readings are stored
    """

    flag: Bytes
    tests: Bits
    move: Floats
    course: Bytes
    due: Bits
    reflag_series: Codes
    reflag_at: Ints
    reflag_packed: Ints
    carried: StateUpdate


@dataclass(frozen=True, slots=True)
class SeriesReadings:
    """Readings (n,) that continue their series, sorted by (series, at); no (series, at) occurs twice.

    Attributes
    ----------
    series, parameter : index of the series, and into the catalogue; all rows of a series have the same parameter
    at : ms since the epoch UTC; newer than what is remembered of the series
    value : canonical unit, finite
    status : HJ 212 data flag of the device as an ASCII code
    """

    series: Codes
    parameter: Codes
    at: Ints
    value: Floats
    status: Bytes


def check_quality(
    readings: SeriesReadings,
    memory: SeriesState,
    catalogue: Catalogue,
    *,
    network: Neighbours = NO_NEIGHBOURS,
    learn: bool = True,
) -> QualityResult:
    """Judge readings that continue their series; each gets exactly one flag: the worst any test gave it.

    Parameters
    ----------
    memory : SeriesState
        Read, not changed.
    network : Neighbours
        The next stations above and below each station (:mod:`sensors.quality.detectors.daily_pattern`).
    learn : bool
        Whether these readings go into the sketches; without, they are judged by the thresholds in force.

    Raises
    ------
    ValueError
        If the rows are not sorted.
    """
    series, parameter, at, value = readings.series, readings.parameter, readings.at, readings.value
    n = len(at)
    if n and ((np.diff(series) < 0).any() or ((np.diff(series) == 0) & (np.diff(at) <= 0)).any()):
        raise ValueError("readings must be sorted by series and time, each key once")
    flag, tests = _flag_single(readings, memory, catalogue)
    usable = np.flatnonzero(flag < Flag.BAD)  # what is bad by itself is left out of everything that compares
    line = Timeline(series[usable], at[usable], value[usable], parameter[usable], memory, catalogue)
    with np.errstate(invalid="ignore", divide="ignore"):
        comparison = _Comparison(line, network, learn=learn)
        comparison.flag_alone(flag[usable], tests[usable])
        reflagged = comparison.flag_neighbours()
        dead = flag >= Flag.BAD
        dead[usable] = out_of_water.is_dead(line)
        runs = out_of_water.dead_runs(series, dead, memory)
        reflagged += out_of_water.flag_out_of_water(line, series, at, runs)
        move, course = comparison.witnesses(out_of_water.follows_dead(series, runs, memory)[usable])

    packed = line.packed[line.new]
    flag[usable], tests[usable] = (packed & 15).astype(np.uint8), (packed >> 4).astype(np.uint32)
    earlier = np.unique(np.concatenate(reflagged))
    earlier = earlier[~line.are_new(earlier)]
    owner = line.touched[line.series_of(earlier)] if len(earlier) else line.touched[:0]
    carried = comparison.carried(_dead_runs(series, at, runs, memory))
    all_moves, all_courses, due = np.full(n, np.nan), np.zeros(n, np.uint8), np.zeros(n, np.uint32)
    all_moves[usable], all_courses[usable] = move, course
    due[usable] = comparison.daily_tests & np.uint32(DUE)
    return QualityResult(
        flag=flag,
        tests=tests,
        move=all_moves,
        course=all_courses,
        due=due,
        reflag_series=owner,
        reflag_at=line.at[earlier],
        reflag_packed=line.packed[earlier],
        carried=carried if learn else carried.without_learning(),
    )


def _flag_single(readings: SeriesReadings, memory: SeriesState, catalogue: Catalogue) -> tuple[Bytes, Bits]:
    """Flags and tests (n,) of the tests of single readings."""
    value, parameter = readings.value, readings.parameter
    flag, tests = np.full(len(value), Flag.GOOD, np.uint8), np.zeros(len(value), np.uint32)
    instrument, plausible = catalogue.instrument[parameter], catalogue.plausible[parameter]
    for failed, to, test in (
        (point_tests.is_fault_code(value, plausible), Flag.BAD, QualityTest.SENTINEL),
        (point_tests.outside(value, *instrument.T), Flag.BAD, QualityTest.INSTRUMENT_RANGE),
        (point_tests.outside(value, *plausible.T), Flag.SUSPECT, QualityTest.PLAUSIBLE_RANGE),
        *point_tests.status_failures(readings.status),
    ):
        _raise_flag(flag, tests, failed, to, test)
    dead = point_tests.dead_zero(readings.series, readings.at, value, flag < Flag.BAD, memory, catalogue)
    _raise_flag(flag, tests, dead, Flag.BAD, QualityTest.SENTINEL)
    return flag, tests


def _raise_flag(flag: Bytes, tests: Bits, rows: Bools, to: Flag, test: QualityTest) -> None:
    """Flag readings that failed ``test`` at least ``to``, in place."""
    flag[rows] = np.maximum(flag[rows], to)
    tests[rows] |= np.uint32(test)


# -- comparison with neighbours and the past -------------------------------------------------------------------------


class _Comparison:
    """Everything the usable readings of a batch are compared with.

    ``mature`` (n,) where the series has learned enough; ``returned`` (n,) the peaks that would be spikes, were they
    high enough; ``dry`` (n,) conductivities of air; ``daily_tests`` (n,) bits of the day; ``move`` (n,) in usual moves.
    """

    def __init__(self, line: Timeline, network: Neighbours, *, learn: bool) -> None:
        """Measure the new readings and fill the sketches; each step draws thresholds that the next ones divide by."""
        catalogue, memory, at = line.catalogue, line.memory, line.at[line.new]
        parameter = line.parameter[line.starts]
        self.line = line
        self.days = DayBlocks.of(memory, line.touched, line.segment, at, learn=learn)
        self.history = history = ThresholdHistory(memory, self.days, parameter, catalogue)
        self.runs = equal_runs(line)
        self.statistics = measure(line, history)
        self.dry = out_of_water.in_air(line, history)
        in_water = ~out_of_water.station_in_air(line, self.dry)
        self.departures = departures = moves.departures(line, history, in_water)
        self.levels = RecentLevels.of(memory, line.touched, line.segment, at, departures.median)
        self.returned = spikes.returned_spikes(line, self.statistics, catalogue.spike[line.parameter])
        learned_move = np.where(in_water, departures.size, np.nan)
        _learn(line, history, self.statistics, self.runs, learned_move, self.returned)
        self.daily_tests, self.daily = check_days(line, self.days, history.drawn[:, RESOLUTION], network, learn=learn)
        self.mature = history.column(COUNT) >= MIN_LEARNED_READINGS
        self.move = np.where(self.mature, departures.size / moves.move_scale(line, history), np.nan)
        line.move[line.new] = self.move

    def flag_alone(self, flag: Bytes, tests: Bits) -> None:
        """Flag what needs no other sensor: the daily tests, air and stuck sensors; pack all flags into the line.

        A zero below zero is said once for its sensor, and not of each reading.

        ``flag`` and ``tests`` (n,) are those of the tests on single readings; they are changed.
        """
        line = self.line
        low, usual = line.catalogue.plausible[line.parameter, 0], self.history.column(T_LEVEL)
        offset = is_offset_alone(self.daily_tests, line.value[line.new], low, usual)
        offset &= tests == np.uint32(QualityTest.PLAUSIBLE_RANGE)
        flag[offset], tests[offset] = Flag.GOOD, 0
        for test in DAILY_TESTS:
            _raise_flag(flag, tests, (self.daily_tests & np.uint32(test)) > 0, Flag.SUSPECT, test)
        _raise_flag(flag, tests, self.dry, Flag.SUSPECT, QualityTest.OUT_OF_WATER)
        is_stuck = stuck(line, self.runs, self.history, self.mature)
        _raise_flag(flag, tests, is_stuck, Flag.SUSPECT, QualityTest.FLAT_LINE)
        line.packed[line.new] = pack(flag, tests)

    def flag_neighbours(self) -> list[Places]:
        """Flag spikes, bursts, steps, noise and lone jumps; return the places that were flagged."""
        line, history, statistics, mature = self.line, self.history, self.statistics, self.mature
        floor, shift_floor = line.catalogue.spike[line.parameter], line.catalogue.shift[line.parameter]
        shift_floor = np.where(np.isinf(shift_floor), MIN_SHIFT_FLOORS * floor, shift_floor)
        shift_limit = np.maximum(shift_floor, history.column(T_SHIFT))
        spike_limit = np.maximum(floor, history.column(T_SPIKE))
        noise_limit = np.maximum(MIN_NOISE_FLOORS * floor, history.column(T_NOISE))
        jump = history.column(JUMP)
        weak = mature & (statistics.step > WEAK_JUMPS * jump)
        busy = statistics.shift > np.maximum(shift_limit * BUSY_SHARE, jump)
        noisy = statistics.noise > noise_limit
        line.mark[line.new] = busy * np.uint8(BUSY) + weak * np.uint8(WEAK) + noisy * np.uint8(NOISY)
        bursts = spikes.find_bursts(line, history, statistics.step, np.maximum(spike_limit * BUSY_SHARE, jump))
        line.mark[line.new[bursts.row]] |= np.uint8(BACK)
        new_series = self._is_new_series()
        shift_limit, spike_limit = (np.where(new_series, np.inf, one) for one in (shift_limit, spike_limit))
        return [
            *spikes.flag_spikes(line, statistics, self.returned, spike_limit),
            *spikes.flag_bursts(line, bursts, spike_limit),
            steps_and_noise.flag_steps(line, statistics, shift_limit),
            steps_and_noise.flag_noise(line, statistics, noisy & mature & ~new_series, noise_limit),
            *flag_lone_jumps(line, statistics.calm_shift / shift_limit, mature, self.levels, history),
        ]

    def _first(self) -> Ints:
        """(m,) the first reading of each touched series, ms."""
        line = self.line
        known = line.memory.day[line.touched] >= 0
        return np.where(known, line.memory.first[line.touched], line.at[line.new[line.starts]])

    def _is_new_series(self) -> Bools:
        """(n,) readings before their series is :data:`COLD_START_MS` old: no test compares them with others."""
        line = self.line
        return np.asarray(line.at[line.new] - self._first()[line.segment] < COLD_START_MS)

    def witnesses(self, silent: Bools) -> tuple[Floats, Bytes]:
        """Moves (n,) and their course (n,) as other sensors may rely on them.

        NaN where nothing can be said: where ``silent`` (n,), after a pause and from a faulty sensor. Moves that are no
        news are cut to :data:`~sensors.quality.moves.SMALL_MOVE`.
        """
        line, move, median = self.line, self.move, self.departures.median
        course = moves.course(line, move, median)
        rows = np.flatnonzero((np.abs(move) > moves.SMALL_MOVE) & ~silent)
        silent[rows] = moves.unreliable(line, rows)
        no_news = np.zeros(len(move), np.bool_)
        no_news[rows] = moves.is_no_news(line, rows, median, self.levels, self.history)
        move = np.where(silent, np.nan, np.where(no_news, np.copysign(moves.SMALL_MOVE, move), move))
        course[silent | no_news] = 0
        return move, course

    def carried(self, dead: SeriesColumns) -> StateUpdate:
        """What the touched series are to remember."""
        line, levels, places = self.line, self.levels, self.history.places
        ends, days = line.ends, self.days
        recent = {
            **{name: line.newest(getattr(line, name)) for name in ("at", "value", "packed", "mark", "move")},
            "run_samples": self.runs.length[ends],
            "run_start": self.runs.since[ends],
            "first": self._first(),
            "day": line.at[line.new[ends]] // DAY_MS,
            "stretch": levels.newest(levels.number),
            "low": levels.newest(levels.low),
            "high": levels.newest(levels.high),
        }
        turned = None
        if days.turning.any():
            last_blocks = days.inner[np.append(np.diff(days.whose) != 0, True)]
            learned = {"counts": self.history.counts, "drawn": self.history.drawn[last_blocks]}
            columns = learned | self.departures.rhythm.columns | self.daily.columns
            turned = SeriesColumns(days.touched[days.turning], columns)
        return StateUpdate(
            recent=SeriesColumns(line.touched, recent),
            dead=dead,
            place=np.concatenate(places) if places else np.empty(0, np.int64),
            distinct=len(line.touched) == len(line.new),
            added=(*self.departures.rhythm.added, *self.daily.added),
            turned=turned,
        )


def _learn(
    line: Timeline,
    history: ThresholdHistory,
    statistics: ReadingStatistics,
    runs: EqualRuns,
    move: Floats,
    returned: Bools,
) -> None:
    """Add the readings to the sketches of the statistics; ``move`` (n,) is NaN where it must not be learned."""
    floor = line.catalogue.spike[line.parameter]
    n = len(floor)
    columns = (
        (SPIKE, statistics.peak, floor, ~np.isnan(statistics.peak)),
        (SHIFT, statistics.calm_shift, floor, ~np.isnan(statistics.calm_shift)),
        (NOISE, statistics.noise, floor, ~np.isnan(statistics.noise)),
        (STEP, statistics.step, floor, statistics.step > 0),
        (RUN, runs.length.astype(np.float64), np.full(n, RUN_UNIT), np.ones(n, np.bool_)),
        (MOVE, np.abs(move), floor, ~np.isnan(move)),
    )
    rows = [np.flatnonzero(known) for *_, known in columns]
    found = [bins(size[row], unit[row]) for (_, size, unit, _), row in zip(columns, rows, strict=True)]
    history.fill([statistic for statistic, *_ in columns], rows, found, returned)


def _dead_runs(series: Codes, at: Ints, runs: Codes, memory: SeriesState) -> SeriesColumns:
    """By series: the last reading that was not of the water (ms), and the length of that run now.

    ``runs`` (n,) are the runs of dead readings among all readings of the batch.
    """
    last = np.flatnonzero(np.append(np.diff(series) != 0, True)) if len(series) else np.empty(0, np.intp)
    latest = np.maximum.accumulate(np.where(runs > 0, np.arange(len(runs)), -1))[last]
    begin = np.append(0, last[:-1] + 1)
    last_at = np.where(latest >= begin, at[latest], memory.dead_at[series[last]])
    return SeriesColumns(series[last], {"dead_at": last_at, "dead_run": runs[last]})
