"""All quality tests over the readings of many series at once, with what each series must remember between batches.

The same function judges a live micro-batch, a late batch inside its stored neighbourhood, and a whole table: only the
:class:`Memory` handed in differs, and any cutting of a table by time gives the same flags. The tests follow the
detection notes, section 3; their limits are drawn from each series' own past (:mod:`sensors.quality.thresholds`). The
verdict on a reading uses at most its two successors; but that a burst was one is known when it ends, and then holds for
all its readings.
"""

from dataclasses import dataclass
from typing import Final

import bottleneck as bn
import numpy as np

from infra.times import DAY_MS, TIME_BITS
from sensors.parameters import Catalogue
from sensors.quality.detectors import point_tests
from sensors.quality.detectors.daily_pattern import DAILY, DUE, NOBODY, DailyResult, Network, check_days
from sensors.quality.detectors.lone_jumps import Calm, suspected
from sensors.quality.detectors.recent_levels import RecentLevels, is_returning
from sensors.quality.histograms import ONE, bins
from sensors.quality.state import (
    BACK,
    BUSY,
    COUNT,
    JUMP,
    KEEP,
    LEVEL,
    LONG_RUN,
    MOVE,
    NOISE,
    NOISY,
    PHASES,
    REPEATS,
    RESOLUTION,
    RUN,
    SHIFT,
    SPIKE,
    STEP,
    T_LEVEL,
    T_MOVE,
    T_NOISE,
    T_SHIFT,
    T_SPIKE,
    WEAK,
    DayRollover,
    SeriesState,
    StateUpdate,
)
from sensors.quality.thresholds import ENOUGH, RUN_UNIT, DailyRhythm, DayBlocks, ThresholdHistory, level_unit
from sensors.reading import Bits, Bools, Bytes, Codes, Flag, Floats, Ints, Places, QualityTest, pack

ZERO_BELOW_STEPS: Final = 5.0
"""Zero is a dead sensor only when the water stood this many believable steps above it: 2 mg/L of oxygen, 0.5 of pH,
25 µS/cm (the prototype used 2, 1 and 1; an anoxic creek slides to zero, it does not jump there)."""

_DEVICE_BAD = np.frombuffer(b"DBFMCO", np.uint8)
"""HJ 212 data flags that say the value is not the water: fault, communication, stopped, maintenance, calibration,
off. Others than N and S (manual value) make it suspect. T says the value is above what the instrument can measure:
suspect, but at least so much."""
_DEVICE_GOOD = np.frombuffer(b"NS", np.uint8)

RARELY: Final = 0.3
"""An exact repeat is weak evidence of a logger holding its value where fewer readings than this repeat (rule 6)."""

LUNAR_MS: Final = 89_428_328
"""A lunar day, 24 h 50 min 28 s: tides repeat after it, daylight does not."""

A_STEP: Final = 1.5
"""A sensor bears witness against the step of another where it moved by more than an eighth of its own limit, than 95 %
of its steps, and than one of its smallest: a warm morning moves the temperature, a tenth of a degree comes every few
readings."""

MOVE_SHORT: Final = 8
MOVE_WINDOWS: Final = ((450_000, 24), (750_000, 12))
"""A move is the departure from the median of the last two hours, at least eight readings: 24 at steps up to 7.5
minutes, 12 up to 12.5. At steps below 4.5 minutes eight readings (a works' inlet turns within minutes)."""
MOVE_FAST_MS: Final = 270_000


@dataclass(frozen=True, slots=True)
class QualityResult:
    """The verdict on a batch.

    ``flag`` and ``tests`` (n,) belong to the rows handed in, as ``move`` (n,) does: the departure from the last two
    hours in units of what is usual for the series, NaN where nothing can be said, and ``course`` (n,): how it went
    there, :data:`CLIMB` or :data:`LEAP`, 0 where that is not told, and ``due`` (n,): whether somebody should clean or
    check the sensor on that day. ``again_*`` (m,) name samples of *earlier* batches
    whose verdict changed (a spike shows only once its successor is there). ``carried`` is to be applied after storing.
    """

    flag: Bytes
    tests: Bits
    move: Floats
    course: Bytes
    due: Bools
    reflag_series: Codes
    reflag_at: Ints
    reflag_packed: Ints
    carried: StateUpdate


def check_quality(
    series: Codes,
    parameter: Codes,
    at: Ints,
    value: Floats,
    status: Bytes,
    memory: SeriesState,
    catalogue: Catalogue,
    *,
    network: Network = NOBODY,
    learn: bool = True,
) -> QualityResult:
    """Judge readings that continue their series.

    Parameters
    ----------
    series : (n,) int array
        Index of the series of each reading; the rows are sorted by (series, at) and no (series, at) occurs twice.
    parameter : (n,) int array
        Index into the catalogue; the same for all rows of a series.
    at : (n,) int array
        ms since the epoch UTC; every reading is newer than what ``memory`` remembers of its series.
    value : (n,) float array
        Canonical unit, finite.
    status : (n,) uint8 array
        HJ 212 data flag of the device as an ASCII code.
    memory : Memory
        What the series remember; read, not changed.
    network : Network
        The next stations above and below each station (:mod:`sensors.quality.detectors.daily_pattern`).
    learn : bool
        Whether these readings go into the sketches; without, they are judged by the thresholds in force.

    Returns
    -------
    Assessed
        Every reading gets exactly one flag: the worst any test gave it.

    Raises
    ------
    ValueError
        If the rows are not sorted.
    """
    n = len(at)
    if n and ((np.diff(series) < 0).any() or ((np.diff(series) == 0) & (np.diff(at) <= 0)).any()):
        raise ValueError("readings must be sorted by series and time, each key once")
    flag = np.full(n, Flag.GOOD, np.uint8)
    bits = np.zeros(n, np.uint32)

    instrument, plausible = catalogue.instrument[parameter], catalogue.plausible[parameter]
    is_sentinel = point_tests.sentinel(value) & ~_believable_sentinel(value, plausible)
    _raise(flag, bits, is_sentinel, Flag.BAD, QualityTest.SENTINEL)
    _raise(flag, bits, point_tests.outside(value, *instrument.T), Flag.BAD, QualityTest.INSTRUMENT_RANGE)
    _raise(flag, bits, point_tests.outside(value, *plausible.T), Flag.SUSPECT, QualityTest.PLAUSIBLE_RANGE)
    if (status != ord("N")).any():
        _raise(flag, bits, np.isin(status, _DEVICE_BAD), Flag.BAD, QualityTest.DEVICE_STATUS)
        _raise(flag, bits, status == ord("T"), Flag.SUSPECT, QualityTest.OVER_RANGE)
        told = ~np.isin(status, _DEVICE_BAD) & ~np.isin(status, _DEVICE_GOOD) & (status != ord("T"))
        _raise(flag, bits, told, Flag.SUSPECT, QualityTest.DEVICE_STATUS)

    _raise(
        flag, bits, _dead_zero(series, parameter, at, value, flag, memory, catalogue), Flag.BAD, QualityTest.SENTINEL
    )

    return _compare(series, parameter, at, value, flag, bits, memory, catalogue, network, learn)


def _dead_zero(
    series: Codes, parameter: Codes, at: Ints, value: Floats, flag: Bytes, memory: SeriesState, catalogue: Catalogue
) -> Bools:
    """Exactly 0 from a sensor whose last accepted other value stood clearly above it (prototype rule 1).

    Where zero is possible at all (oxygen), for six hours: a creek that is at zero then may really be there, and
    somebody has to look.
    """
    zero: Bools = (value == 0.0) & catalogue.zero_is_dead[parameter]
    if not zero.any():
        return np.zeros(len(value), np.bool_)
    number = np.arange(len(value))
    known = np.maximum.accumulate(np.where((flag < Flag.BAD) & (value != 0.0), number, -1))
    first = np.maximum.accumulate(np.where(np.diff(series, prepend=-1) != 0, number, 0))
    level = np.where(known >= first, value[known], memory.value[series, -1])
    since = np.where(known >= first, at[known], memory.at[series, -1])
    recent = (at - since <= point_tests.GAP_SECONDS * 1000) | (catalogue.plausible[parameter, 0] > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(zero & recent & (np.abs(level) > ZERO_BELOW_STEPS * catalogue.step[parameter]))


def _believable_sentinel(value: Floats, plausible: Floats) -> Bools:
    """999 and 9999 are ordinary conductivities: a positive code counts only where it is implausible."""
    return np.asarray((value > 0) & (value >= plausible[:, 0]) & (value <= plausible[:, 1]))


def _raise(
    flag: Bytes,
    bits: Bits,
    where: Bools,
    to: Flag,
    test: QualityTest,
) -> None:
    """In place: these readings failed ``test`` and are at least ``to``."""
    flag[where] = np.maximum(flag[where], to)
    bits[where] |= np.uint32(test)


class _Line:
    """The readings of all touched series on one flat line: KEEP remembered ones of the first, its new ones, and so on.

    ``x``, ``t``, ``q``, ``mark``, ``move`` are columns of that line; ``here`` (n,) are the places of the new readings,
    ``segment`` (n,) their series among the ``touched`` (m,).
    """

    def __init__(self, series: Codes, at: Ints, value: Floats, memory: SeriesState) -> None:
        self.starts = np.flatnonzero(np.diff(series, prepend=-1))
        self.touched = series[self.starts]
        m = len(self.touched)
        lengths = np.diff(np.append(self.starts, len(series)))
        self.segment = np.repeat(np.arange(m), lengths)
        self.here = np.arange(len(series)) + (self.segment + 1) * KEEP
        self.origin = self.starts + np.arange(m) * KEEP
        size = len(series) + m * KEEP
        remembered = self.origin[:, None] + np.arange(KEEP)
        self.x, self.t = np.empty(size), np.empty(size, np.int64)
        self.q, self.mark, self.move = np.empty(size, np.int64), np.zeros(size, np.uint8), np.zeros(size)
        for column, name in ((self.x, "value"), (self.t, "at"), (self.q, "packed"), (self.mark, "mark")):
            column[remembered] = getattr(memory, name)[self.touched]
        self.move[remembered] = memory.move[self.touched]
        self.x[self.here], self.t[self.here] = value + 0.0, at  # one zero: -0.0 is the lower of two in some orders only
        self._dense = 3 * len(series) > size
        self._medians: dict[int, Floats] = {}
        if m:
            ends = np.append(self.here[self.starts[1:] - 1], self.here[-1])
            self.newest = ends[:, None] + np.arange(1 - KEEP, 1)
            self.ends = np.append(self.starts[1:] - 1, len(series) - 1)
        else:
            self.newest, self.ends = np.empty((0, KEEP), np.intp), np.empty(0, np.intp)

    def lag(self, k: int) -> Floats:
        """(n,) the value ``k`` readings before each new one; NaN where there is none."""
        return np.asarray(self.x[self.here - k])

    def median_before(self, place: Places, window: int) -> Floats:
        """(…,) the median of the ``window`` readings before each place; NaN where there are fewer."""
        if not self._dense or window > MOVE_WINDOWS[0][1]:
            return np.asarray(bn.median(self.x[place[:, None] + np.arange(-window, 0)], axis=1))
        if window not in self._medians:
            self._medians[window] = bn.move_median(self.x, window)
        return np.asarray(self._medians[window][place - 1])


def _compare(
    series: Codes,
    parameter: Codes,
    at: Ints,
    value: Floats,
    flag: Bytes,
    bits: Bits,
    memory: SeriesState,
    catalogue: Catalogue,
    network: Network,
    learn: bool,
) -> QualityResult:
    """The tests that compare a reading with its neighbours and its series' past."""
    accepted = np.flatnonzero(flag < Flag.BAD)  # what is bad by itself is left out of everything that compares
    line = _Line(series[accepted], at[accepted], value[accepted], memory)
    p, here = parameter[accepted], line.here
    days = DayBlocks.of(memory, line.touched, line.segment, line.t[here], learn=learn)
    past = ThresholdHistory(memory, days, p[line.starts], catalogue)
    new_flag, new_bits = flag[accepted], bits[accepted]

    run_samples, run_start = _runs(line, memory)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale, base, earlier_base = _scale(line, p, past, catalogue)
        found = _statistics(line, p, scale, base, earlier_base, catalogue)
        dry = _dry(line, p, past, catalogue)
        water = ~_in_air(line, p, dry, memory, catalogue)
        move, middle, rhythm = _moves(line, p, past, water, catalogue)
        where = RecentLevels.of(memory, line.touched, line.segment, line.t[here], middle)
        floor = catalogue.spike[p]
        returned = _above_unrest(line, p, scale, found.single, floor, 1, catalogue)
        rows: list[Places] = [np.flatnonzero(~np.isnan(one)) for one in (found.spike, found.calm, found.noise)]
        rows.append(np.flatnonzero(found.step > 0))
        rows += [np.arange(len(here)), np.flatnonzero(~np.isnan(move) & water)]
        sizes = [found.spike, found.calm, found.noise, found.step, run_samples.astype(np.float64), np.abs(move)]
        units = [floor, floor, floor, floor, np.full(len(here), RUN_UNIT), floor]
        past.fill(
            [SPIKE, SHIFT, NOISE, STEP, RUN, MOVE],
            rows,
            [bins(size[row], unit[row]) for size, unit, row in zip(sizes, units, rows, strict=True)],
            returned,
        )
        doubts, followed = check_days(
            line.touched,
            p[line.starts],
            line.t[here],
            line.x[here],
            days,
            memory,
            catalogue,
            past.drawn[:, RESOLUTION],
            network,
            learn=learn,
        )
        if doubts.any():
            for test in DAILY:
                _raise(new_flag, new_bits, (doubts & np.uint32(test)) > 0, Flag.SUSPECT, test)
        mature = past.column(COUNT) >= ENOUGH
        z = np.where(mature, move / np.maximum(past.column(T_MOVE), 0.05 * floor), np.nan)
        line.move[here] = z

        lowest = _lowest(line, memory)
        limit = _run_limit(past, mature)
        _raise(new_flag, new_bits, dry, Flag.SUSPECT, QualityTest.OUT_OF_WATER)
        stuck = (
            catalogue.flat[p] & (run_samples >= limit) & ((line.t[here] - run_start) / 1000.0 >= _run_seconds(mature))
        )
        stuck &= ~(catalogue.relative[p] & (line.x[here] <= lowest))
        _raise(new_flag, new_bits, stuck, Flag.SUSPECT, QualityTest.FLAT_LINE)

        shift_limit = np.maximum(
            np.where(np.isinf(catalogue.shift[p]), 2.0 * floor, catalogue.shift[p]), past.column(T_SHIFT)
        )
        jump, noise_limit = past.column(JUMP), np.maximum(0.6 * floor, past.column(T_NOISE))
        weak = mature & ((found.step > 4.0 * jump) | ((run_samples > 1) & (past.column(REPEATS) < RARELY)))
        far = np.maximum(jump, A_STEP * past.column(RESOLUTION))
        busy, noisy = found.shift > np.maximum(shift_limit / 8.0, far), found.noise > noise_limit
        line.mark[here] = busy * np.uint8(BUSY) + weak * np.uint8(WEAK) + noisy * np.uint8(NOISY)
        spike_limit = np.maximum(floor, past.column(T_SPIKE))
        bursts = _bursts(line, p, found.step, np.maximum(spike_limit / 8.0, far), past, catalogue)
        line.mark[here[bursts.row]] |= np.uint8(BACK)
        q = line.q
        q[here] = pack(new_flag, new_bits)
        again = [
            *_spikes(line, p, scale, found, returned, spike_limit, catalogue),
            *_marked_bursts(line, p, bursts, spike_limit, memory, catalogue),
            _shifts(line, p, found, shift_limit, memory, catalogue),
            _noise(line, p, scale, noise_limit, np.flatnonzero(noisy & mature), memory, catalogue),
        ]
        again += _suspects(line, p, found.calm / shift_limit, mature, where, past, memory, catalogue)
        dead = flag >= Flag.BAD
        dead[accepted] = _nearly_nothing(line, p, catalogue)
        runs = dead_runs(series, dead, memory)
        again += out_of_water(line, accepted, series, at, runs, memory, _kinds(catalogue))
        course = _course(line, z, middle)
        course[_going_on(line, z)] = CLIMB
        quiet = _after_dead(series, runs, memory)[accepted]
        moved = np.flatnonzero((np.abs(z) > WHISPER) & ~quiet)
        quiet[moved] = _after_gap(line, moved) | _faulty(line, moved)
        old = np.zeros(len(z), np.bool_)
        old[moved] = _no_news(line, moved, p, middle, where, past, catalogue)
        z = np.where(quiet, np.nan, np.where(old, np.copysign(WHISPER, z), z))
        course[quiet | old] = 0

    flag[accepted], bits[accepted] = (q[here] & 15).astype(np.uint8), (q[here] >> 4).astype(np.uint32)
    out = np.full(len(at), np.nan)
    out[accepted] = z
    earlier = np.unique(np.concatenate(again)) if again else np.empty(0, np.intp)
    earlier = earlier[~_among(earlier, here)]
    owner = line.touched[np.searchsorted(line.origin, earlier, side="right") - 1] if len(earlier) else line.touched[:0]
    carried = _carry(
        line, days, past, rhythm, followed, where, run_samples, run_start, lowest, memory, (series, at, runs)
    )
    if not learn:
        carried = carried.without_learning()
    how = np.zeros(len(at), np.uint8)
    how[accepted] = course
    due = np.zeros(len(at), np.bool_)
    due[accepted] = (doubts & np.uint32(DUE)) > 0
    return QualityResult(flag, bits, out, how, due, owner, line.t[earlier], q[earlier], carried)


# -- statistics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """(n,) the statistics as each new reading settles them, in the kind's floor's unit; NaN where there is no past.

    ``single`` and ``double``: how far the reading before, and the two before, stand out from their neighbours.
    ``calm`` is ``shift`` where the readings on either side of it are calm, and 0 elsewhere.
    """

    spike: Floats
    single: Floats
    double: Floats
    shift: Floats
    calm: Floats
    noise: Floats
    step: Floats


def _scale(line: _Line, p: Codes, past: ThresholdHistory, catalogue: Catalogue) -> tuple[Floats, Floats, Floats]:
    """(n,) what differences are divided by: 1, or where noise grows with the level the larger of the local median and
    the median of two weeks (the second keeps near-zero water from exploding); and the medians before the last reading
    and before the one before it."""
    here = line.here
    base, earlier = line.median_before(here - 1, 7), line.median_before(here - 2, 7)
    relative = np.flatnonzero(catalogue.relative[p])
    size = np.abs(line.x[here[relative]])
    past.fill([LEVEL], [relative], [bins(np.sqrt(size / level_unit(p[relative], catalogue)), 1.0)])
    scale = np.ones(len(here))
    scale[relative] = _level(base[relative], p[relative], past.column(T_LEVEL)[relative], catalogue)
    return scale, base, earlier


def _level(local: Floats, p: Codes, usual: Floats, catalogue: Catalogue) -> Floats:
    """(r,) what differences near a value are divided by: 1, or where noise grows with the level the larger of that
    value and the usual one."""
    size = np.fmax(np.fmax(np.abs(local), usual), catalogue.step[p] / 20.0)
    return np.where(catalogue.relative[p], size, 1.0)


def _statistics(line: _Line, p: Codes, scale: Floats, base: Floats, earlier: Floats, catalogue: Catalogue) -> _Found:
    """How each new reading shows the ones before it: a spike of one or two, a step, noise."""
    x0, x1, x2, x3 = (line.lag(k) for k in range(4))
    x4, x5, x6 = (line.lag(k) for k in (4, 5, 6))
    t = line.t
    pace = (t[line.here - 2] - t[line.here - 9]) / 7.0
    apart = np.maximum(6 * 3_600_000.0, 4.0 * pace)
    near = np.maximum(t[line.here] - t[line.here - 1], t[line.here - 2] - t[line.here - 3]) <= apart
    near &= t[line.here - 1] - t[line.here - 2] <= apart
    single = np.where(near, point_tests.stands_out(x1, x2, x0, base), 0.0) / scale
    first, second = point_tests.stands_out(x2, x3, x0, earlier), point_tests.stands_out(x1, x3, x0, earlier)
    same = np.sign(x2 - earlier) == np.sign(x1 - earlier)
    double = np.where(near & same, np.minimum(first, second), 0.0) / scale
    single[np.isnan(base)] = np.nan
    # the sketch sees every local peak, returned or not: the ordinary unrest of the sensor
    peak = np.minimum(np.abs(x1 - x2), np.abs(x1 - x0)) / scale
    spike = np.where((x1 > x2) == (x1 > x0), peak, 0.0)
    spike[np.isnan(x2)] = np.nan
    high = np.maximum(np.maximum(x3, x4), np.maximum(x5, x6))
    low = np.minimum(np.minimum(x3, x4), np.minimum(x5, x6))
    lowest, highest = np.minimum(np.minimum(x0, x1), x2), np.maximum(np.maximum(x0, x1), x2)
    shift = np.maximum(np.maximum(lowest - high, low - highest), 0.0) / scale
    spread = np.maximum(high - low, highest - lowest)
    calm = shift * (spread < STAYS * np.abs(x2 - x3))
    noise = np.abs(x1 - (x0 + x2) / 2.0) / scale
    step = np.abs(x0 - x1) / scale
    return _Found(spike, single, double, shift, calm, noise, step)


def _moves(
    line: _Line, p: Codes, past: ThresholdHistory, water: Bools, catalogue: Catalogue
) -> tuple[Floats, Floats, DailyRhythm]:
    """(n,) departures from the last two hours without the usual ones of the day or the tide, the medians of these
    two hours; and what to remember, of ``water`` (n,) alone.

    Where noise grows with the level the departure is one of the logarithm; half the usual level is added for optical
    sensors and analysers, which read near zero.
    """
    here, t = line.here, line.t
    pace = (t[here] - t[here - MOVE_SHORT]) / MOVE_SHORT
    middle = line.median_before(here, MOVE_SHORT)
    before = MOVE_FAST_MS
    for up_to, window in MOVE_WINDOWS:
        some = np.flatnonzero((pace > before) & (pace <= up_to))
        if len(some):
            middle[some] = line.median_before(here[some], window)
        before = up_to
    x = line.x[here]
    relative = np.flatnonzero(catalogue.relative[p])
    move = x - middle
    if len(relative):
        pr = p[relative]
        salt = catalogue.flat[pr] & ~catalogue.optical[pr]
        more = np.where(salt, 0.0, 0.5 * past.column(T_LEVEL)[relative]) + catalogue.step[pr] / 20.0
        ratio = np.maximum(x[relative] + more, 1e-6 + 0 * more) / np.maximum(middle[relative] + more, 1e-6)
        move[relative] = np.log(ratio)
    move[_no_event(catalogue)[p]] = np.nan
    solar = t[here] % DAY_MS * PHASES // DAY_MS
    lunar = t[here] % LUNAR_MS * PHASES // LUNAR_MS
    move, rhythm = past.rhythm(move, solar, lunar, catalogue.spike[p], water)
    return move, middle, rhythm


WHISPER: Final = 0.4
"""Moves below this many usual ones are nothing: nobody asks whether they are news. Those that are none are told to be
so large: they bear no witness, but their direction is known."""

PAUSE_MS: Final = 2 * 3_600_000
PAUSE_STEPS: Final = 4
"""A pause of two hours and four usual steps among the last eight readings: their median is of another water."""

CLIMB: Final = 1
LEAP: Final = 2
"""How a sensor went as far as it is: in several readings, as water does, or most of the way from one to the next."""

FAR: Final = 6.0
FAR_MS: Final = 1_800_000
FAR_SAMPLES: Final = (3, 4)
ONE_STEP: Final = 0.6
"""A sensor that departs this far for half an hour in one direction, in three readings or, where they come faster, in
four, and made at most this share of the way in one step is believed alone: plumes ramp, faults jump (detection notes,
rule 7)."""

GOES_ON: Final = 24
"""Where readings come so fast that a move is one of the last eight, the move of a steady climb stays small. There a
sensor is believed alone when all moves of so many readings, three stretches of eight, lie in one direction beyond 95 %
of its own: 0.025³, once in a year at a reading a minute for readings that know nothing of each other."""

CLEAR: Final = 2.0
"""Of smaller moves nobody asks how they went: noise makes most of its way in one step."""


def _course(line: _Line, z: Floats, middle: Floats) -> Bytes:
    """(n,) how the sensors went from where they were in the two hours before: in one step, or steadily and far."""
    out = np.zeros(len(z), np.uint8)
    rows = np.flatnonzero(np.abs(z) >= CLEAR)
    if not len(rows):
        return out
    here = line.here[rows]
    steps = np.diff(line.x[here[:, None] + np.arange(-MOVE_WINDOWS[0][1], 1)], axis=1)
    steps = np.where(_lately(line, rows)[:, :-1], steps, 0.0)
    way = ONE_STEP * np.abs(line.x[here] - middle[rows])
    up = line.x[here] > middle[rows]
    most = np.where(up, np.fmax.reduce(steps, axis=1), -np.fmin.reduce(steps, axis=1))
    out[rows[most > way]] = LEAP
    far = np.abs(z[rows]) >= FAR
    rows, here, steps, way = rows[far], here[far], steps[far], way[far]
    back = np.arange(1 - FAR_SAMPLES[1], 1)
    last = line.move[here[:, None] + back]
    at = line.t[here[:, None] + back]
    asked = (at >= at[:, -1:] - FAR_MS) | (back > -FAR_SAMPLES[0])
    steady = ((last >= FAR) | ~asked).all(axis=1) | ((last <= -FAR) | ~asked).all(axis=1)
    out[rows[steady & (np.fmax.reduce(np.abs(steps), axis=1) <= way)]] = CLIMB
    return out


def _going_on(line: _Line, z: Floats) -> Places:
    """The fast readings with which a sensor has gone one way for long, and not in one step."""
    rows = np.flatnonzero(np.abs(z) >= 1.0)
    here = line.here[rows]
    rows = rows[line.t[here] - line.t[here - GOES_ON] <= GOES_ON * MOVE_FAST_MS]
    if not len(rows):
        return np.empty(0, np.intp)
    last = line.move[line.here[rows][:, None] + np.arange(1 - GOES_ON, 1)]
    rows = rows[(last >= 1.0).all(axis=1) | (last <= -1.0).all(axis=1)]
    x = line.x[line.here[rows][:, None] + np.arange(-GOES_ON, 1)]
    most = np.abs(np.diff(x, axis=1)).max(axis=1)
    return np.asarray(rows[most <= ONE_STEP * np.abs(x[:, -1] - x[:, 0])])


def _of_hours(line: _Line, rows: Places) -> Bools:
    """(r,) where a move is one of two hours. A works' inlet with a reading a minute is compared with its last minutes:
    its water does change from one reading to the next, and neither rain nor tide explains it."""
    here = line.here[rows]
    return np.asarray(line.t[here] - line.t[here - MOVE_SHORT] > MOVE_SHORT * MOVE_FAST_MS)


def _lately(line: _Line, rows: Places) -> Bools:
    """(r, 25) which of the readings up to each of these lie within its two hours, or are among the last nine."""
    back = np.arange(-MOVE_WINDOWS[0][1], 1)
    at = line.t[line.here[rows][:, None] + back]
    return np.asarray((at >= at[:, -1:] - PAUSE_MS) | (back >= -MOVE_SHORT))


def _after_gap(line: _Line, rows: Places) -> Bools:
    """(r,) moves across a pause: what changed while nobody looked is not sudden."""
    out = np.zeros(len(rows), np.bool_)
    long = np.flatnonzero(line.t[line.here[rows]] - line.t[line.here[rows] - MOVE_SHORT] > PAUSE_MS)
    if len(long):
        steps = np.diff(line.t[line.here[rows[long]][:, None] + np.arange(-MOVE_SHORT, 1)], axis=1)
        out[long] = steps.max(axis=1) > np.maximum(PAUSE_MS, PAUSE_STEPS * np.asarray(bn.median(steps, axis=1)))
    return out


_NO_WITNESS: Final = int(
    QualityTest.OVER_RANGE
    | QualityTest.PLAUSIBLE_RANGE
    | QualityTest.FLAT_LINE
    | QualityTest.UNIT_MISTAKE
    | QualityTest.DEVICE_STATUS
    | QualityTest.CALIBRATION
    | QualityTest.MAINTENANCE
)
"""A sensor that stands still, is beyond its range or in somebody's hands says nothing of the water. Spike, step and
noise are not among them: a first wave looks like these, too."""


def _faulty(line: _Line, rows: Places) -> Bools:
    """(r,) moves of a sensor that is faulty, or was when the median it departs from was measured."""
    out = np.zeros(len(rows), np.bool_)
    bad = (line.q & (_NO_WITNESS << 4)) != 0
    if bad.any():
        so_far = np.append(0, np.cumsum(bad))
        some = np.flatnonzero(so_far[line.here[rows] + 1] > so_far[line.here[rows] - MOVE_WINDOWS[0][1]])
        near = bad[line.here[rows[some]][:, None] + np.arange(-MOVE_WINDOWS[0][1], 1)]
        out[some] = (near & _lately(line, rows[some])).any(axis=1)
    return out


def _no_news(
    line: _Line,
    rows: Places,
    p: Codes,
    middle: Floats,
    where: RecentLevels,
    past: ThresholdHistory,
    catalogue: Catalogue,
) -> Bools:
    """(r,) moves back to where the water was, and salt that comes and goes with the tide."""
    x, middle, kind = line.x[line.here[rows]], middle[rows], p[rows]
    low, high, tide_low, tide_high = where.been(rows)
    usual = np.maximum(past.column(T_MOVE)[rows], 0.05 * catalogue.spike[kind])
    usual = np.where(catalogue.relative[kind], usual * np.abs(middle), usual)
    salt = np.array([parameter.event == "salt" for parameter in catalogue.parameters], np.bool_)[kind]
    with np.errstate(invalid="ignore"):
        tide = salt & (x > tide_low - usual) & (x < tide_high + usual)
    return np.asarray(_of_hours(line, rows) & (is_returning(x, middle, low, high, usual) | tide))


def _no_event(catalogue: Catalogue) -> Bools:
    return np.array([not parameter.event for parameter in catalogue.parameters], np.bool_)


def _runs(line: _Line, memory: SeriesState) -> tuple[Codes, Ints]:
    """For each new sample, how many equal values in a row end here and since when."""
    here, segment, starts = line.here, line.segment, line.starts
    n = len(here)
    fresh = line.x[here] != line.x[here - 1]  # NaN before: a run begins
    number = np.arange(n)
    began = np.maximum.accumulate(np.where(fresh, number, -1))
    began = np.where(began >= starts[segment], began, -1) if n else began  # a run does not cross into another series
    continues = began < 0
    carried = memory.run_samples[line.touched][segment]
    samples = np.where(continues, carried + number - starts[segment] + 1, number - began + 1)
    since = np.where(continues, memory.run_start[line.touched][segment], line.t[here][began])
    return samples.astype(np.int32), since


def _lowest(line: _Line, memory: SeriesState) -> Floats:
    """(n,) the lowest accepted value of the series before or at each new reading."""
    out: Floats = line.x[line.here]
    if not len(out):
        return out
    starts = line.starts
    out[starts] = np.minimum(out[starts], memory.lowest[line.touched])
    ends = np.append(starts[1:], len(out))
    if FEW_READINGS * len(starts) < len(out):
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            np.minimum.accumulate(out[start:end], out=out[start:end])
        return out
    place = np.arange(len(out)) - np.repeat(starts, ends - starts)
    reach, longest = 1, int(place.max())
    while reach <= longest:  # each reading knows the lowest of as many before it as were looked at so far
        rows = np.flatnonzero(place >= reach)
        out[rows] = np.minimum(out[rows], out[rows - reach])
        reach *= 2
    return out


FEW_READINGS: Final = 32
"""With fewer readings of a series, on average, all are looked at together, else series by series: 3,000 series of four
readings take 0.1 ms together and 4.4 one by one, six series of 100,000 readings 95 ms together and 6 one by one."""


# -- verdicts --------------------------------------------------------------------------------------------------------


def _run_limit(past: ThresholdHistory, mature: Bools) -> Floats:
    """(n,) how many equal values are too many for this series (detection notes, rule 4)."""
    share = np.clip(past.column(REPEATS), 1e-6, 1 - 1e-6)
    rare = np.log(1e-9) / np.log(share)
    own = np.maximum(rare, 3.0 * past.column(LONG_RUN))
    return np.maximum(float(point_tests.FLAT_SAMPLES), np.where(mature, own, 0.0))


def _run_seconds(mature: Bools) -> Floats:
    """(n,) how long equal values must last: six hours, twelve before the series has a past."""
    return np.where(mature, point_tests.FLAT_SECONDS / 2, point_tests.FLAT_SECONDS)


def _above_unrest(
    line: _Line, p: Codes, scale: Floats, statistic: Floats, limit: Floats, back: int, catalogue: Catalogue
) -> Bools:
    """(n,) where what stands out and returns, beginning ``back`` readings before, is above the limit and above the
    unrest of the sensor just before."""
    out = np.zeros(len(p), np.bool_)
    chosen = np.flatnonzero(statistic > limit)
    if not len(chosen):
        return out
    calm = _calm_before(line, line.here[chosen] - back, p[chosen], statistic[chosen], scale[chosen], catalogue)
    out[chosen[calm]] = True
    return out


def _calm_before(
    line: _Line, place: Places, kind: Codes, statistic: Floats, scale: Floats, catalogue: Catalogue
) -> Bools:
    """(c,) where what stands out from a place on is above the unrest of the sensor before it."""
    restless = _restless(line, place, catalogue.relative[kind]) / scale
    times = np.where(catalogue.optical[kind], point_tests.SPIKE_RESTLESS, point_tests.SPIKE_RESTLESS_OTHERS)
    return np.asarray(statistic > times * restless)


def _restless(line: _Line, place: Places, rough: Bools) -> Floats:
    """(c,) median over the 24 readings before of their distance from a median of 7: the 7 before each where noise grows
    with the level, since there the way up and down is rough, and for others the 7 around it: what is warmed by the sun
    or filled by the tide goes its way smoothly."""
    window = line.x[place[:, None] + np.arange(-31, 0)]
    middle = bn.nanmedian(np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(window, 7, axis=1)), axis=2)
    before, around = window[:, 7:] - middle[:, :-1], window[:, 4:-3] - middle[:, 1:]
    return np.asarray(np.nan_to_num(bn.nanmedian(np.abs(np.where(rough[:, None], before, around)), axis=1)))


def _spikes(
    line: _Line, p: Codes, scale: Floats, found: _Found, returned: Bools, limit: Floats, catalogue: Catalogue
) -> list[Places]:
    """Re-flag spikes of one and of two readings; returns the places re-flagged."""
    one = line.here[returned & (found.single > limit)]
    two = line.here[_above_unrest(line, p, scale, found.double, limit, 2, catalogue)]
    return [_mark(line, places, QualityTest.SPIKE) for places in (one - 1, two - 1, two - 2)]


@dataclass(frozen=True, slots=True)
class _Bursts:
    """(c,) the new readings (``row``) with which a sensor came back from a burst of ``many`` readings that all lie
    beyond those before and after it by ``size``, in the unit of the spike limit; ``scale`` is what that is of."""

    row: Places
    many: Codes
    size: Floats
    scale: Floats


def _bursts(
    line: _Line, p: Codes, step: Floats, least: Floats, past: ThresholdHistory, catalogue: Catalogue
) -> _Bursts:
    """The bursts of three readings and more above a limit (n,), that end with the new readings; these made the steps
    ``step`` (n,)."""
    rows = np.flatnonzero(step > 0.5 * np.minimum(least, 0.2))  # a sieve: this step is in units of the burst
    x0, x1, usual = line.x[line.here[rows]], line.x[line.here[rows] - 1], past.column(T_LEVEL)
    rows = rows[np.abs(x0 - x1) > least[rows] * _level(x0, p[rows], usual[rows], catalogue)]
    none = np.zeros(0, np.int64)
    found = [_Bursts(none, none, np.zeros(0), np.zeros(0))]
    for many in range(3, point_tests.LONGEST_BURST + 1):
        here = line.here[rows]
        base = line.median_before(here - many, 7)
        sides = np.maximum(np.abs(line.x[here] - base), np.abs(line.x[here - many - 1] - base))
        some = np.flatnonzero(sides <= point_tests.SPIKE_RETURN * np.abs(line.x[here - 1] - base))
        row, here, base = rows[some], here[some], base[some]
        apart = line.x[here[:, None] - np.arange(many + 2)] - base[:, None]
        apart *= np.sign(apart[:, 1:2])
        lowest = apart[:, 1:-1].min(axis=1)
        scale = _level(base, p[row], usual[row], catalogue)
        size = (lowest - np.maximum(apart[:, 0], apart[:, -1])) / scale
        short = line.t[here] - line.t[here - many - 1] <= point_tests.BURST_MS
        some = np.flatnonzero((sides[some] <= point_tests.SPIKE_RETURN * lowest) & short & (size > least[row]))
        found.append(_Bursts(row[some], np.full(len(some), many), size[some], scale[some]))
    return _Bursts(*(np.concatenate([getattr(part, name) for part in found]) for name in _Bursts.__slots__))


def _marked_bursts(
    line: _Line, p: Codes, bursts: _Bursts, limit: Floats, memory: SeriesState, catalogue: Catalogue
) -> list[Places]:
    """Re-flag the readings of bursts that no other kind of sensor came back from; returns the places re-flagged."""
    high = np.flatnonzero(bursts.size > limit[bursts.row])
    row, many = bursts.row[high], bursts.many[high]
    place = line.here[row] - many
    sure = _calm_before(line, place, p[row], bursts.size[high], bursts.scale[high], catalogue)
    row, many = row[sure], many[sure]
    own = _others(line, BACK, row, 2, memory, catalogue) == 0
    here, many = line.here[row[own]], many[own]
    return [_mark(line, here[many >= k] - k, QualityTest.BURST) for k in range(1, point_tests.LONGEST_BURST + 1)]


def _mark(line: _Line, places: Places, test: QualityTest) -> Places:
    """In ``q``: these readings are at least suspect, for this reason; returns those for which that is news."""
    q = line.q
    news = np.asarray(places[((q[places] >> 4) & int(test)) == 0])
    q[news] = np.maximum(q[news] & 15, int(Flag.SUSPECT)) | (((q[news] >> 4) | int(test)) << 4)
    return news


STAYS: Final = 0.25
"""A sensor that steps was still and stays where it went: the four readings before differ by less than this share of the
step, and so do the three from it on. A front of salt or of a flood comes and goes on."""


def _shifts(line: _Line, p: Codes, found: _Found, limit: Floats, memory: SeriesState, catalogue: Catalogue) -> Places:
    """Re-flag the first reading of a step that no other kind of sensor shows, once two more confirm it."""
    chosen = np.flatnonzero((found.calm > limit) & np.isfinite(catalogue.shift[p]))
    chosen = chosen[_others(line, BUSY, chosen, 5, memory, catalogue) == 0]
    return _mark(line, line.here[chosen] - 2, QualityTest.SHIFT)


def _suspects(
    line: _Line,
    p: Codes,
    size: Floats,
    mature: Bools,
    where: RecentLevels,
    past: ThresholdHistory,
    memory: SeriesState,
    catalogue: Catalogue,
) -> list[Places]:
    """Flag sensors that jumped while nothing else at the station moved, and what followed (`detectors.lone_jumps`);
    returns the places re-flagged. ``size`` (n,): the step that each reading confirms, in limits of a shift."""
    rows = np.flatnonzero((size > 1.0) & mature)
    if len(rows):
        low, high, _, _ = where.been(rows)
        away = (line.x[line.here[rows]] < low) | (line.x[line.here[rows]] > high)  # not back to where it was before
        rows = rows[away]
        rows = rows[_others(line, BUSY, rows, 5, memory, catalogue) == 0]
        rows = rows[_kinds_present(line, rows, memory, catalogue) >= WITNESSES]
    calm = Calm(line.x, line.t, line.q, line.here, line.segment, line.starts, rows, size[rows])
    found = suspected(calm, p, past.column(REPEATS), past.column(T_LEVEL), catalogue)
    return [_mark(line, places, test) for test, places in found.items()]


WITNESSES: Final = 2
"""Other kinds of sensor that must have measured during a jump and stayed: one alone may have missed the water, too (our
choice)."""


def _kinds_present(line: _Line, rows: Places, memory: SeriesState, catalogue: Catalogue) -> Ints:
    """(r,) how many other kinds of sensor at the station have measured within the last five readings of these rows."""
    kinds, station = _kinds(catalogue), memory.station[line.touched]
    out = np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows.tolist()):
        here, mine = line.here[row], line.segment[row]
        begin, end = line.t[here - 4], line.t[here]
        found = set()
        for series in np.flatnonzero(memory.station == station[mine]).tolist():
            place = np.searchsorted(line.touched, series)
            if place < len(line.touched) and line.touched[place] == series:
                at = line.t[line.origin[place] : line.newest[place, -1] + 1]
            else:
                at = memory.at[series]
            if ((at >= begin) & (at <= end)).any():
                found.add(int(kinds[memory.parameter[series]]))
        out[i] = len(found - {int(kinds[memory.parameter[line.touched[mine]]])})
    return out


WAVES: Final = ("level", "depth")
"""Wind and boats make waves: the noise of a level is not the sensor's."""

PEAKS: Final = 6
"""Of twelve readings of a noisy sensor eight lie above or below both neighbours, of one that drifts at random six;
water that runs up and down fast has a peak or two."""

AS_NOISY: Final = 3
"""So many readings of other sensors off the line among the last thirteen: it is the water that flickers."""


def _noise(
    line: _Line,
    p: Codes,
    scale: Floats,
    limit: Floats,
    chosen: Places,
    memory: SeriesState,
    catalogue: Catalogue,
) -> Places:
    """Re-flag the reading before these, where the last twelve differ from their neighbours as they never did."""
    chosen = chosen[~np.isin(p[chosen], [catalogue.index.get(key, -1) for key in WAVES])]
    if not len(chosen):
        return np.empty(0, np.intp)
    window = line.x[line.here[chosen][:, None] + np.arange(-13, 1)]
    second = np.abs(window[:, 1:-1] - (window[:, :-2] + window[:, 2:]) / 2.0)
    to, fro = window[:, 1:-1] - window[:, :-2], window[:, 1:-1] - window[:, 2:]
    flickers = (to * fro > 0).sum(axis=1) >= PEAKS
    chosen = chosen[flickers & (np.asarray(bn.median(second, axis=1)) / scale[chosen] > limit[chosen])]
    chosen = chosen[_others(line, NOISY, chosen, 13, memory, catalogue) < AS_NOISY]
    return _mark(line, line.here[chosen] - 1, QualityTest.NOISE)


def _others(line: _Line, mark: int, rows: Places, reach: int, memory: SeriesState, catalogue: Catalogue) -> Ints:
    """(c,) how many readings of other kinds of sensor at the station have this mark within the last ``reach`` readings
    of these rows."""
    if not len(rows):
        return np.zeros(0, np.int64)
    kinds = _kinds(catalogue)
    station = memory.station[line.touched]
    concerned = np.unique(station[line.segment[rows]])
    others = np.flatnonzero(np.isin(memory.station, concerned))
    others = others[~np.isin(others, line.touched) & (memory.day[others] >= 0)]
    place = np.flatnonzero(line.mark & mark)
    owner = np.searchsorted(line.origin, place, side="right") - 1
    old_row, old_col = np.nonzero(memory.mark[others] & mark)
    marked_at = np.concatenate([line.t[place], memory.at[others[old_row], old_col]])
    marked_station = np.concatenate([station[owner], memory.station[others[old_row]]]).astype(np.int64)
    touched_kind = kinds[memory.parameter[line.touched]]
    marked_kind = np.concatenate([touched_kind[owner], kinds[memory.parameter[others[old_row]]]])
    here = line.here[rows]
    end, begin = line.t[here], line.t[here - (reach - 1)]
    mine, kind = station[line.segment[rows]].astype(np.int64), touched_kind[line.segment[rows]]
    total = _within(marked_station, marked_at, mine, begin, end)
    key, wanted = marked_station * 256 + marked_kind, mine * 256 + kind
    return np.asarray(total - _within(key, marked_at, wanted, begin, end))


def _within(group: Ints, at: Ints, wanted: Ints, begin: Ints, end: Ints) -> Ints:
    """(c,) how many of the moments of a group lie in each closed interval."""
    key = np.sort((group << TIME_BITS) | at)
    return np.asarray(
        np.searchsorted(key, (wanted << TIME_BITS) | end, side="right")
        - np.searchsorted(key, (wanted << TIME_BITS) | begin)
    )


def _nearly_nothing(line: _Line, p: Codes, catalogue: Catalogue) -> Bools:
    """(n,) whether conductivity or depth is next to nothing beside its last 24: the sensor is out of the water."""
    out = np.zeros(len(p), np.bool_)
    for key, share, above in (("conductivity", 0.10, 30.0), ("depth", 0.15, 0.0)):
        rows = np.flatnonzero(p == catalogue.index.get(key, -1))
        middle = np.asarray(bn.nanmedian(line.x[line.here[rows][:, None] + np.arange(-24, 0)], axis=1))
        out[rows] = (line.x[line.here[rows]] < share * middle) & (middle > above)
    return out


DRY_SHARE: Final = 0.1
DRY_BELOW: Final = 50.0
"""A conductivity of less than a tenth of its usual one, and in µS/cm below what any river of the plain has (5 % of the
readings of 100 stations lie below 104; domain notes, section 7.1), is that of air: the sensor is out of the water, for
however long."""


def _dry(line: _Line, p: Codes, past: ThresholdHistory, catalogue: Catalogue) -> Bools:
    """(n,) conductivities of sensors that are not in the water."""
    x = line.x[line.here]
    mine = p == catalogue.index.get("conductivity", -1)
    return np.asarray(mine & (x < DRY_BELOW) & (x < DRY_SHARE * past.column(T_LEVEL)))


def _in_air(line: _Line, p: Codes, dry: Bools, memory: SeriesState, catalogue: Catalogue) -> Bools:
    """(n,) readings of stations whose conductivity is that of air, or was in the two hours that moves look back: what
    sensors do in air is not what is usual at that time of the day."""
    out = np.zeros(len(p), np.bool_)
    air = (line.q & (int(QualityTest.OUT_OF_WATER) << 4)) != 0
    air[line.here] = dry
    if not air.any():
        return out
    salts = memory.parameter[line.touched] == catalogue.index.get("conductivity", -1)
    place = np.flatnonzero(air)
    owner = np.searchsorted(line.origin, place, side="right") - 1
    place, owner = place[salts[owner]], owner[salts[owner]]
    station = memory.station[line.touched]
    for one in np.unique(station[owner]).tolist():
        rows = np.flatnonzero((station == one)[line.segment])
        at, since = line.t[line.here[rows]], np.sort(line.t[place[station[owner] == one]])
        last = np.searchsorted(since, at, side="right") - 1
        out[rows[(last >= 0) & (at - since[last] <= PAUSE_MS)]] = True
    return out


def _after_dead(series: Codes, runs: Codes, memory: SeriesState) -> Bools:
    """(n,) whether the reading before was not of the water."""
    before = np.empty(len(series), np.bool_)
    before[1:] = runs[:-1] > 0
    first = np.flatnonzero(np.diff(series, prepend=-1))
    before[first] = memory.dead_run[series[first]] > 0
    return before


def _kinds(catalogue: Catalogue) -> Ints:
    """(parameters,) a number for each kind of sensor: those that tell the same of the water share one."""
    names = [parameter.event or parameter.key for parameter in catalogue.parameters]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def _among(places: Places, here: Places) -> Bools:
    """Which of these places hold new samples rather than remembered ones."""
    if not len(here):
        return np.zeros(len(places), np.bool_)
    found = np.searchsorted(here, places)
    return np.asarray(here[np.minimum(found, len(here) - 1)] == places)


# -- out of the water ------------------------------------------------------------------------------------------------

DEAD_COUNTS: Final = 8
"""A run of dead readings speaks against the other sensors only while it is this short: a sensor that is dead for weeks
tells nothing of its neighbours (detection notes, section 5)."""

INVOLVED: Final = 4
"""Kinds of sensor that must be involved for weak evidence to make a visit."""


def dead_runs(series: Codes, dead: Bools, memory: SeriesState) -> Codes:
    """(n,) how many readings in a row, up to and with each, were not of the water."""
    number = np.arange(len(series))
    first = np.diff(series, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(first, number, 0))
    alive = np.maximum.accumulate(np.where(~dead, number, -1))
    carried = np.where(alive >= start, 0, memory.dead_run[series])
    return np.asarray(np.where(dead, number - np.maximum(alive, start - 1) + carried, 0), np.int32)


def out_of_water(
    line: _Line, accepted: Places, series: Codes, at: Ints, runs: Codes, memory: SeriesState, kinds: Ints
) -> list[Places]:
    """Mark what a sonde measured while it was taken out, cleaned, or its logger held its values (rule 6).

    Two kinds dead at once: all sensors of the station at that instant. One kind dead, and within one reading weak
    evidence at so many others that four kinds are involved: those with the evidence.
    """
    dead = np.flatnonzero((runs > 0) & (runs <= DEAD_COUNTS))
    held = np.flatnonzero((memory.dead_run > 0) & (memory.dead_run <= DEAD_COUNTS))
    if len(held):
        held = held[np.isin(memory.station[held], memory.station[line.touched])]
    if not len(dead) + len(held):
        return []
    gone = np.concatenate([series[dead], held])
    gone_at = np.concatenate([at[dead], memory.dead_at[held]])
    gone_station, gone_kind = memory.station[gone], kinds[memory.parameter[gone]]
    marked = []
    for station in np.unique(gone_station).tolist():
        mine = gone_station == station
        sensors = np.flatnonzero(memory.station[line.touched] == station)
        if not len(sensors):
            continue
        spans = [np.arange(line.origin[i], line.newest[i, -1] + 1) for i in sensors.tolist()]
        place = np.concatenate(spans)
        kind = np.repeat(kinds[memory.parameter[line.touched[sensors]]], [len(s) for s in spans])
        real = ~np.isnan(line.x[place])
        place, kind = place[real], kind[real]
        order = np.argsort(line.t[place], kind="stable")
        place, kind = place[order], kind[order]
        marked += _visits(line, place, kind, gone_at[mine], gone_kind[mine])
    return marked


def _visits(line: _Line, place: Places, kind: Ints, gone_at: Ints, gone_kind: Ints) -> list[Places]:
    """One station: its readings by time, and when which kinds of sensor were dead."""
    t, weak = line.t[place], (line.mark[place] & WEAK) > 0
    when = np.unique(gone_at)
    every = np.unique(np.concatenate([t, when]))
    marked = []
    order = np.argsort(gone_at, kind="stable")
    gone_at, gone_kind = gone_at[order], gone_kind[order]
    for moment in when.tolist():
        i = int(np.searchsorted(every, moment))
        before, after = every[max(i - 1, 0)], every[min(i + 1, len(every) - 1)]
        here = slice(*np.searchsorted(gone_at, [moment, moment + 1]).tolist())
        if len(set(gone_kind[here].tolist())) > 1:
            first, last = np.searchsorted(t, [moment, moment + 1]).tolist()
            marked.append(_mark(line, place[first:last], QualityTest.OUT_OF_WATER))
            continue
        first, last = np.searchsorted(t, [before, after + 1]).tolist()
        hints = first + np.flatnonzero(weak[first:last])
        around = slice(*np.searchsorted(gone_at, [before, after + 1]).tolist())
        if len(set(kind[hints].tolist()) | set(gone_kind[around].tolist())) >= INVOLVED:
            marked.append(_mark(line, place[hints], QualityTest.OUT_OF_WATER))
    return marked


# -- memory ----------------------------------------------------------------------------------------------------------


def _carry(
    line: _Line,
    days: DayBlocks,
    past: ThresholdHistory,
    rhythm: DailyRhythm,
    followed: DailyResult,
    where: RecentLevels,
    run_samples: Codes,
    run_start: Ints,
    lowest: Floats,
    memory: SeriesState,
    dead: tuple[Codes, Ints, Codes],
) -> StateUpdate:
    """What the touched series are to remember."""
    ends, newest = line.ends, line.newest
    series, at, runs = dead
    last = np.flatnonzero(np.append(np.diff(series) != 0, True)) if len(series) else np.empty(0, np.intp)
    latest = np.maximum.accumulate(np.where(runs > 0, np.arange(len(runs)), -1))[last]
    begin = np.append(0, last[:-1] + 1)
    dead_at = np.where(latest >= begin, at[latest], memory.dead_at[series[last]])
    turned = None
    if days.turning.any():
        blocks = days.inner[np.append(np.diff(days.whose) != 0, True)]
        turned = DayRollover(
            days.touched[days.turning],
            past.counts,
            past.drawn[blocks],
            rhythm.usual,
            rhythm.sums,
            rhythm.many,
            rhythm.fit,
            followed.hour_sum,
            followed.hour_many,
            followed.swing,
            followed.median,
            followed.earlier,
            followed.doubt,
        )
    place = np.concatenate(past.places) if past.places else np.empty(0, np.int64)
    first = memory.first[line.touched]
    return StateUpdate(
        series=line.touched,
        at=line.t[newest],
        value=line.x[newest],
        packed=line.q[newest],
        mark=line.mark[newest],
        move=line.move[newest],
        run_samples=run_samples[ends],
        run_start=run_start[ends],
        lowest=lowest[ends],
        first=np.where(memory.day[line.touched] < 0, line.t[line.here[line.starts]], first),
        day=line.t[line.here[ends]] // DAY_MS,
        stretch=where.number[where.newest],
        low=where.low[where.newest],
        high=where.high[where.newest],
        dead_series=series[last],
        dead_at=dead_at,
        dead_run=runs[last],
        place=place,
        weight=np.full(len(place), ONE, np.int32),
        distinct=len(line.touched) == len(line.here),
        phase=rhythm.phase,
        moved=rhythm.moved,
        fit_place=rhythm.fit_place,
        fit_added=rhythm.fit_added,
        hour_place=followed.place,
        hour_part=followed.part,
        turned=turned,
    )
