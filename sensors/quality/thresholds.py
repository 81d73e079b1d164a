"""Draw the thresholds of a series from the sketches of its past, and add new readings to the sketches.

Thresholds change at the turn of a UTC day of the readings' own time, and only with what came before: a reading is
judged by the past, never by itself or by what follows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
from sensors.quality.constants import MIN_LEARNED_READINGS, NEAR_ZERO_STEPS, PARTS_OF_FLOOR
from sensors.quality.histograms import BINS, ONE, bins, forget, quantiles
from sensors.quality.state import (
    COUNT,
    JUMP,
    LEVEL,
    LONG_RUN,
    MOVE,
    NO_DAY,
    NOISE,
    PHASES,
    REPEATS,
    RESOLUTION,
    RHYTHM,
    RUN,
    SHIFT,
    SPIKE,
    STATISTICS,
    STEP,
    T_LEVEL,
    T_MOVE,
    T_NOISE,
    T_SHIFT,
    T_SPIKE,
    THRESHOLDS,
    Addition,
    DayUpdate,
    SeriesState,
)
from sensors.reading import Bools, Codes, Floats, Ints, Places

# -- constants -------------------------------------------------------------------------------------------------------

LONG_MEMORY_DAYS: Final = 15.0
SHORT_MEMORY_DAYS: Final = 7.0
"""Mean age of what is learned: of spikes and moves, and of the other statistics; that of windows of 30 and 14 days.
(Half a day of an event is 4 % of 14 days of moves and would halve the sensitivity of the following weeks.)"""
_DAILY_KEEP: Final[Floats] = np.exp(
    -1.0 / np.where(np.isin(np.arange(len(STATISTICS)), (SPIKE, MOVE)), LONG_MEMORY_DAYS, SHORT_MEMORY_DAYS)
)
"""(k,) share of a count left after a day."""

QUANTILES: Final[Floats] = np.array(
    [[0.5, 0.5], [0.8, 0.95], [0.99, 0.999], [0.5, 0.98], [0.02, 0.95], [0.995, 0.995], [0.95, 0.95]]
)
"""(k, 2) the quantiles drawn of each statistic."""

SPIKE_READINGS: Final = 100_000.0
"""A spike is as high as one reading in so many would be, did the sensor go on as it does: at 15-minute steps that is
one in three years of a sensor, before it is asked whether it also returns."""
_SPIKE_TAIL: Final = float(np.log(np.log(SPIKE_READINGS) / np.log(20.0)) / np.log(np.log(20.0) / np.log(5.0)))
"""Heights of peaks thin out as exp(-height^c) (Weibull). Their 80 and 95 % quantiles, one in 5 and one in 20, give c,
and the height of one in :data:`SPIKE_READINGS` is the 95 % quantile times their ratio to this power, 2.17."""
MIN_UNREST: Final = 1.0 / 30.0
"""Share of the spike floor that distinguishes a signal from a sensor that stands still."""

# Multiples that make a limit of a drawn quantile (engineering choices).
MIN_SPIKE_RESOLUTIONS: Final = 3.5
"""Of the smallest step (2 % quantile of steps): a spike is higher."""
SHIFT_MULTIPLE: Final = 3.0
"""Of the 99.9 % quantile of calm shifts."""
NOISE_RARE: Final = 1.5
"""Of the 98 % quantile of noise."""
MIN_MOVE_RESOLUTIONS: Final = 3.0
"""Of the smallest step: the usual move is larger."""

RUN_UNIT: Final = 64.0
"""Unit of the sketch of run lengths: runs of one to 55,000 readings can be told apart."""

DAILY_LEARNING_SHARE: Final = 0.25
"""Share of a new day in the usual day: about a week of memory."""
MAX_RHYTHM_REST: Final = 0.9
"""A rhythm (day or tide) is subtracted where it leaves at most this share of the moves (mean absolute)."""


def level_unit(parameter: Codes, catalogue: Catalogue) -> Floats:
    """(n,) the unit in which the sizes of values are sketched; with the square root the bins span nine decades."""
    return np.asarray(NEAR_ZERO_STEPS * catalogue.step[parameter])


@dataclass(frozen=True)
class DayBlocks:
    """New readings by series and UTC day ("blocks"), in the order of the readings.

    A series *turns* when it enters a new day with these readings; the blocks of such series are the *inner* ones, and
    all work on whole sketches is on these. The others are *steady*.

    Attributes
    ----------
    touched : (m,) series with new readings
    first : (b,) first reading of each block
    of_row : (n,) block of each reading
    segment : (b,) series of each block, as an index into ``touched``
    day : (b,) UTC days since the epoch
    rank : (b,) number of the block within its series
    gap : (b,) days that the sketches forget when the block begins; 0: the day goes on, or nothing is remembered
    """

    touched: Codes
    first: Places
    of_row: Places
    segment: Places
    day: Ints
    rank: Places
    gap: Ints

    @classmethod
    def of(cls, memory: SeriesState, touched: Codes, segment: Places, at: Ints, *, learn: bool) -> "DayBlocks":
        """The blocks of new readings; where nothing is to be learned no day turns."""
        day = at // DAY_MS
        new = np.ones(len(at), np.bool_)
        new[1:] = (segment[1:] != segment[:-1]) | (day[1:] != day[:-1])
        first = np.flatnonzero(new)
        of_block, b_day = segment[first], day[first]
        begins = np.ones(len(first), np.bool_)
        begins[1:] = of_block[1:] != of_block[:-1]
        begin = np.flatnonzero(begins)
        rank = np.arange(len(first)) - np.repeat(begin, np.diff(np.append(begin, len(first))))
        before = np.empty(len(first), np.int64)
        before[1:] = b_day[:-1]
        before[begins] = memory.day[touched[of_block[begins]]]
        gap = np.where((before == NO_DAY) | (not learn), 0, np.maximum(b_day - before, 0))
        return cls(touched, first, np.cumsum(new) - 1, of_block, b_day, rank, gap)

    @cached_property
    def turning(self) -> Bools:
        """(m,) series that enter a new day."""
        found = np.zeros(len(self.touched), np.bool_)
        found[self.segment[self.gap > 0]] = True
        return found

    @cached_property
    def inner(self) -> Places:
        """Blocks of the series that enter a new day."""
        return np.flatnonzero(self.turning[self.segment])

    @cached_property
    def whose(self) -> Places:
        """For each of ``inner``, the row of its series among the turning ones."""
        return np.asarray((np.cumsum(self.turning) - 1)[self.segment[self.inner]])

    @cached_property
    def ranks(self) -> list[Places]:
        """Places in ``inner`` by rank: the blocks that can be worked on at once, first day first."""
        rank = self.rank[self.inner]
        order = np.argsort(rank, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(rank[order])) + 1) if len(order) else []

    @cached_property
    def inner_of_row(self) -> Places:
        """(n,) place of each reading's block in ``inner``; -1 where its series does not turn."""
        place = np.full(len(self.segment), -1)
        place[self.inner] = np.arange(len(self.inner))
        return place[self.of_row]


class ThresholdHistory:
    """Thresholds in force, block by block, while the sketches of a batch are filled one after the other.

    ``drawn`` (b, thresholds) are valid for the columns whose statistics were filled so far: levels first, since others
    are divided by them, then the rhythm of moves, then the rest.
    """

    def __init__(self, memory: SeriesState, days: DayBlocks, parameter: Codes, catalogue: Catalogue) -> None:
        """``parameter`` (m,) of the touched series."""
        self.memory, self.days = memory, days
        self.parameter, self.catalogue = parameter, catalogue
        self.drawn: Floats = memory.drawn[days.touched[days.segment]]
        turning = days.touched[days.turning]
        self.counts = memory.counts[turning]
        self.places: list[Ints] = []
        self.weights: list[Codes] = []

    @property
    def block_parameter(self) -> Codes:
        """(b,) parameter of each block."""
        return self.parameter[self.days.segment]

    def column(self, which: int) -> Floats:
        """(n,) a threshold for each reading."""
        return np.asarray(self.drawn[:, which][self.days.of_row])

    def fill(self, statistics: list[int], rows: list[Places], found: list[Ints], returned: Bools | None = None) -> None:
        """Add readings to the sketches of some statistics and draw the thresholds that depend on these.

        Each statistic is filled once. ``returned`` (n,) are the peaks that would be spikes, were they high enough:
        where they are, they are not learned. A faulty sensor would teach that its spikes are usual.

        Parameters
        ----------
        statistics : positions of :data:`~sensors.quality.state.STATISTICS`
        rows, found : for each of them the readings that have it, and their bins
        """
        days = self.days
        unsure_peaks = np.zeros((len(days.inner), BINS), np.int32)
        if returned is not None and returned.any():
            i = statistics.index(SPIKE)
            rows[i], found[i] = self._without_spikes(rows[i], found[i], returned, unsure_peaks)
        counts = self._count(statistics, rows, found)
        if not len(days.inner):
            return
        keep = _DAILY_KEEP[statistics][:, None]
        gap = days.gap[days.inner]
        sketches = self.counts[:, statistics]
        at_begin = np.empty_like(counts)  # sketches as each block begins
        has_unsure = unsure_peaks.sum(axis=1) > 0
        for some in days.ranks:
            whose, turns = days.whose[some], gap[some]
            now = sketches[whose]
            if turns.any():
                now = forget(now, keep ** turns[:, None, None])
            at_begin[some] = now
            unsure = np.flatnonzero(has_unsure[some])
            if len(unsure):
                which = some[unsure]
                blocks = days.inner[which]
                limit = np.where(
                    turns[unsure] > 0, self._spike_limit(statistics, now[unsure], blocks), self.drawn[blocks, T_SPIKE]
                )
                usual = np.arange(BINS) <= self._spike_bin(limit, blocks)[:, None]
                counts[which, statistics.index(SPIKE)] += np.where(usual, unsure_peaks[which], 0)
            sketches[whose] = now + counts[some]
        self.counts[:, statistics] = sketches
        turned = np.flatnonzero(gap > 0)
        self._draw(statistics, days.inner[turned], at_begin[turned])

    def _count(self, statistics: list[int], rows: list[Places], found: list[Ints]) -> Codes:
        """(inner, k, BINS) the readings of inner blocks by bin; those of steady series go to ``places``."""
        days, k = self.days, len(statistics)
        flat = [np.zeros(0, np.int64)]
        for i, (statistic, row, one) in enumerate(zip(statistics, rows, found, strict=True)):
            inner = days.inner_of_row[row]
            steady = inner < 0
            if steady.any():
                series = days.touched[days.segment[days.of_row[row[steady]]]].astype(np.int64)
                self.places.append((series * len(STATISTICS) + statistic) * BINS + one[steady])
            if not steady.all():
                flat.append((inner[~steady] * k + i) * BINS + one[~steady])
        size = len(days.inner) * k * BINS
        counted = np.bincount(np.concatenate(flat), minlength=size).reshape(-1, k, BINS)
        return counted.astype(np.int32) * np.int32(ONE)

    def _spike_bin(self, limit: Floats, blocks: Places) -> Ints:
        """(b,) the bin of the spike limit of these blocks, at least that of the floor."""
        floor = self.catalogue.spike[self.block_parameter[blocks]]
        return bins(np.maximum(limit, floor), floor)

    def _without_spikes(self, row: Places, found: Ints, returned: Bools, unsure_peaks: Codes) -> tuple[Places, Ints]:
        """The peaks to be counted at once, with their bins.

        Peaks that returned count only up to the limit of spikes in force. Where a day turns that limit is not known
        yet, and they are added to ``unsure_peaks`` (inner, BINS), in place.
        """
        days = self.days
        apart = np.flatnonzero(returned[row])
        inner, block = days.inner_of_row[row[apart]], days.of_row[row[apart]]
        turns = inner >= 0
        np.add.at(unsure_peaks, (inner[turns], found[apart[turns]]), np.int32(ONE))
        counted = np.ones(len(row), np.bool_)
        counted[apart] = ~turns & (found[apart] <= self._spike_bin(self.drawn[block, T_SPIKE], block))
        return row[counted], found[counted]

    def _spike_limit(self, statistics: list[int], counts: Codes, blocks: Places) -> Floats:
        """(b,) the limit of spikes drawn from sketches as the days of these blocks begin."""
        which = [SPIKE, STEP]
        floor = self.catalogue.spike[self.block_parameter[blocks]]
        some = counts[:, [statistics.index(one) for one in which]]
        q = quantiles(some, QUANTILES[which], np.stack([floor, floor], axis=1))
        common = np.maximum(q[:, 0, 0], MIN_UNREST * floor)
        rare = np.maximum(q[:, 0, 1], common)
        limit = np.maximum(rare * (rare / common) ** _SPIKE_TAIL, MIN_SPIKE_RESOLUTIONS * q[:, 1, 0])
        return np.where(_learned_readings(statistics, counts) < MIN_LEARNED_READINGS, 0.0, limit)

    def _draw(self, statistics: list[int], blocks: Places, counts: Codes) -> None:
        """Draw the thresholds of blocks that begin a day, from their sketches as the day begins."""
        parameter = self.block_parameter[blocks]
        drawn = self.drawn
        if statistics == [LEVEL]:
            root = quantiles(counts, QUANTILES[statistics], np.ones((len(blocks), 1)))[:, 0, 0]
            drawn[blocks, T_LEVEL] = root**2 * level_unit(parameter, self.catalogue)
            return
        floor = self.catalogue.spike[parameter]
        units = np.stack([np.full(len(floor), RUN_UNIT) if one == RUN else floor for one in statistics], axis=1)
        q = dict(zip(statistics, quantiles(counts, QUANTILES[statistics], units).swapaxes(0, 1), strict=True))
        learned = _learned_readings(statistics, counts)
        resolution = q[STEP][:, 0]
        drawn[blocks, COUNT] = learned
        drawn[blocks, RESOLUTION] = resolution
        drawn[blocks, JUMP] = q[STEP][:, 1]
        drawn[blocks, T_SPIKE] = self._spike_limit(statistics, counts, blocks)
        drawn[blocks, T_SHIFT] = SHIFT_MULTIPLE * q[SHIFT][:, 1]
        drawn[blocks, T_NOISE] = NOISE_RARE * q[NOISE][:, 1]
        drawn[blocks, LONG_RUN] = q[RUN][:, 0]
        runs = counts[:, statistics.index(RUN)]
        drawn[blocks, REPEATS] = 1.0 - runs[:, 0] / np.maximum(runs.sum(axis=1), 1)
        drawn[blocks, T_MOVE] = np.maximum(q[MOVE][:, 0], MIN_MOVE_RESOLUTIONS * resolution)
        young = blocks[learned < MIN_LEARNED_READINGS]  # a few readings tell nothing: the floors hold
        drawn[young[:, None], [RESOLUTION, JUMP, T_SPIKE, T_SHIFT, T_NOISE, T_MOVE]] = 0.0

    def rhythm(
        self, move: Floats, solar: Codes, lunar: Codes, floor: Floats, learns: Bools
    ) -> tuple[Floats, DayUpdate]:
        """Subtract what is usual at this time of the day or of the tide, where that explained the past.

        Parameters
        ----------
        move : (n,) departures; NaN where there is none
        solar, lunar : (n,) phase of the solar and of the lunar day, 0 to PHASES - 1
        floor : (n,) spike floor of the parameter
        learns : (n,) which moves go into the usual day

        Returns
        -------
        (n,) moves without the rhythm, and what is to be remembered.
        """
        days = self.days
        known = np.flatnonzero(~np.isnan(move))
        parts = PARTS_OF_FLOOR / floor[known]
        whole = np.rint(move[known] * parts).astype(np.int64)
        phases = np.stack([solar[known], lunar[known] + PHASES]).astype(np.int64)  # flat within (2, PHASES)
        block, inner = days.of_row[known], days.inner_of_row[known]
        turning = np.flatnonzero((inner >= 0) & learns[known])
        in_force, columns = self._usual_days(inner[turning], phases[:, turning], whole[turning])
        series = days.touched[days.segment[block]].astype(np.int64)
        usual = self.memory.usual.reshape(-1, 2 * PHASES)[series, phases]  # (2, known): by the day, by the tide
        within = np.flatnonzero(inner >= 0)
        usual[:, within] = in_force.reshape(-1, 2 * PHASES)[inner[within], phases[:, within]]
        rests = [whole, *(np.rint((move[known] - one) * parts).astype(np.int64) for one in usual)]
        sizes = np.abs(np.stack(rests, axis=1))  # (known, 3): without a rhythm, without the day's, without the tide's
        columns["fit"] = self._rhythm_fits(inner[turning], sizes[turning])
        chosen = self.drawn[:, RHYTHM].astype(np.int64)[block]
        pattern = np.where(chosen == 1, usual[0], usual[1])
        out = np.full(len(move), np.nan)
        out[known] = move[known] - np.where(chosen == 0, 0.0, pattern)
        steady = np.flatnonzero((inner < 0) & learns[known])
        series = series[steady]
        place = (series * 2 * PHASES + phases[:, steady]).ravel()
        added = (
            Addition("sums", place, np.concatenate([whole[steady], whole[steady]])),
            Addition("many", place, np.ones(len(place), np.int32)),
            Addition("fit", (series[:, None] * 3 + np.arange(3)).ravel(), sizes[steady].ravel()),
        )
        return out, DayUpdate(added, columns)

    def _usual_days(self, inner: Places, phases: Codes, whole: Ints) -> tuple[Floats, dict[str, Any]]:
        """(inner, 2, PHASES) the usual day in force in each inner block, and the columns of the series that enter a new
        day.

        ``inner`` (t,) inner block, ``phases`` (2, t) and ``whole`` (t,) move in parts of the readings that are learned.
        """
        days, memory = self.days, self.memory
        turning = days.touched[days.turning]
        usual, sums, many = memory.usual[turning], memory.sums[turning], memory.many[turning]
        columns = {"usual": usual, "sums": sums, "many": many}
        count, size = len(days.inner), 2 * PHASES
        in_force = np.empty((count, 2, PHASES))
        if not count:
            return in_force, columns
        flat = (inner * size + phases).ravel()
        both = np.concatenate([whole, whole]).astype(np.float64)  # whole numbers: sums are exact
        added = np.bincount(flat, weights=both, minlength=count * size).astype(np.int64).reshape(-1, 2, PHASES)
        times = np.bincount(flat, minlength=count * size).astype(np.int32).reshape(-1, 2, PHASES)
        units = self.catalogue.spike[self.block_parameter[days.inner]][:, None, None] / PARTS_OF_FLOOR
        gap = days.gap[days.inner]
        for some in days.ranks:
            whose = days.whose[some]
            ends = gap[some] > 0
            if ends.any():
                w = whose[ends]
                mean = sums[w] * units[some[ends]] / np.maximum(many[w], 1)
                usual[w] += np.where(many[w] > 0, DAILY_LEARNING_SHARE * (mean - usual[w]), 0.0)
                sums[w], many[w] = 0, 0
            in_force[some] = usual[whose]
            sums[whose] += added[some]
            many[whose] += times[some]
        return in_force, columns

    def _rhythm_fits(self, inner: Places, sizes: Ints) -> Ints:
        """(t, 3) sums of what moves are without each rhythm, of the series that enter a new day.

        Chooses the rhythm of each block that begins a day. ``inner`` (r,), ``sizes`` (r, 3) of the readings that are
        learned.
        """
        days = self.days
        fit = self.memory.fit[days.touched[days.turning]]
        if not len(days.inner):
            return fit
        added = np.stack(
            [np.bincount(inner, weights=one, minlength=len(days.inner)) for one in sizes.T], axis=1
        ).astype(np.int64)
        gap = days.gap[days.inner]
        for some in days.ranks:
            whose = days.whose[some]
            now = (fit[whose] * np.exp(-gap[some] / SHORT_MEMORY_DAYS)[:, None]).astype(np.int64)
            best = np.where(now.min(axis=1) < MAX_RHYTHM_REST * now[:, 0], now.argmin(axis=1), 0)
            ends = gap[some] > 0
            self.drawn[days.inner[some[ends]], RHYTHM] = best[ends]
            fit[whose] = now + added[some]
        return fit


def _learned_readings(statistics: list[int], counts: Codes) -> Floats:
    """(b,) how many readings the sketches (b, k, BINS) hold."""
    return np.asarray(counts[:, statistics.index(NOISE)].sum(axis=1) / ONE)


assert len(THRESHOLDS) == RHYTHM + 1
