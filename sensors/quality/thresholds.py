"""From the sketches of a series to the thresholds in force on each of its days, and what is added to the sketches.

Thresholds change at the turn of a UTC day of the readings' own time, and only with what came before: a reading is
judged by the past, never by itself or by what follows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from infra.times import DAY_MS
from sensors.parameters import Catalogue
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
    SeriesState,
)
from sensors.reading import Bools, Codes, Floats, Ints, Places

ENOUGH: Final = 40
"""Readings before a series is judged by its own past (detection notes, section 3); until then by its kind's floors."""

_KEEP: Final[Floats] = np.exp(-1.0 / np.where(np.isin(np.arange(len(STATISTICS)), (SPIKE, MOVE)), 15.0, 7.0))
"""(k,) share of a count left after a day: mean age 15 days for spikes and moves, 7 for the others: that of windows of
30 and 14 days. (The notes have 14 days for moves; half a day of an event is 4 % of that and would halve the
sensitivity of the following weeks.)"""

ONCE_IN: Final = 100_000.0
"""A spike is as high as one reading in so many would be, did the sensor go on as it does: at 15-minute steps that is
one in three years of a sensor, before it is asked whether it also returns."""

_TAIL: Final = float(np.log(np.log(ONCE_IN) / np.log(20.0)) / np.log(np.log(20.0) / np.log(5.0)))
"""Heights of peaks thin out as exp(-height^c) (Weibull). Their 80 and 95 % quantiles, one in 5 and one in 20, give c,
and the height of one in :data:`ONCE_IN` is the 95 % quantile times their ratio to this power, 2.17."""

UNREST: Final = 1.0 / 30.0
"""Share of the floor of its kind that is told apart from a sensor that stands still (detection notes, rule 2)."""

_SHARES: Final[Floats] = np.array(
    [[0.5, 0.5], [0.8, 0.95], [0.99, 0.999], [0.5, 0.98], [0.02, 0.95], [0.995, 0.995], [0.95, 0.95]]
)
"""(k, 2) the quantiles drawn of each statistic."""

RUN_UNIT: Final = 64.0
"""Bin 24 of the run lengths: one to 55,000 readings can be told apart."""

MOVE_STEPS: Final = 256.0
"""Sums of usual moves are kept as whole numbers of this part of the kind's floor: adding them is exact."""

LEARN: Final = 0.25
"""Share of a new day in the usual day: about a week of memory."""

CLEARLY: Final = 0.9
"""A rhythm is subtracted where it leaves at most this share of the moves (mean absolute)."""


def level_unit(parameter: Codes, catalogue: Catalogue) -> Floats:
    """(n,) the unit in which the sizes of values are sketched; with the square root the bins span nine decades."""
    return np.asarray(20.0 * catalogue.step[parameter])


@dataclass(frozen=True)
class DayBlocks:
    """New readings by series and UTC day ("blocks"), in the order of the readings.

    ``touched`` (m,) series with new readings; ``of_row`` (n,) block of each reading; ``segment``, ``day``, ``rank``,
    ``gap`` (b,) of each block: its place in ``touched``, its day, its number within the series, and how many days the
    sketches forget when it begins (0: the day goes on, or nothing is remembered).
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
        """Blocks of the series that enter a new day; all work on whole sketches is on these."""
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
    """Thresholds in force, block by block, while the sketches of a batch are filled in turn.

    ``drawn`` (b, thresholds) are right for the columns whose statistics were folded so far: sizes first, since others
    are divided by them, then moves' rhythm, then the rest.
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
        """Add readings (rows, their bins) to some statistics and draw the thresholds that rest on these.

        ``returned`` (n,) are the peaks that would be spikes, were they high enough: where they are, they are counted
        nowhere. A sensor that is troubled would teach that its spikes are usual.

        Raises nothing; a statistic must be filled once.
        """
        days = self.days
        k = len(statistics)
        flat = [np.zeros(0, np.int64)]
        perhaps = np.zeros((len(days.inner), BINS), np.int32)
        if returned is not None and returned.any():
            i = statistics.index(SPIKE)
            rows[i], found[i] = self._no_spikes(rows[i], found[i], returned, perhaps)
        for i, (statistic, row, one) in enumerate(zip(statistics, rows, found, strict=True)):
            inner = days.inner_of_row[row]
            steady = inner < 0
            if steady.any():
                series = days.touched[days.segment[days.of_row[row[steady]]]].astype(np.int64)
                self.places.append((series * len(STATISTICS) + statistic) * BINS + one[steady])
            if not steady.all():
                flat.append((inner[~steady] * k + i) * BINS + one[~steady])
        if not len(days.inner):
            return
        size = len(days.inner) * k * BINS
        counts = np.bincount(np.concatenate(flat), minlength=size).reshape(-1, k, BINS).astype(np.int32) * np.int32(ONE)
        keep = _KEEP[statistics][:, None]
        gap = days.gap[days.inner]
        had = self.counts[:, statistics]
        seen = np.empty_like(counts)
        asked = perhaps.sum(axis=1) > 0
        for some in days.ranks:
            whose = days.whose[some]
            now = had[whose]
            turns = gap[some]
            if turns.any():
                now = forget(now, keep ** turns[:, None, None])
            seen[some] = now
            unsure = np.flatnonzero(asked[some])
            if len(unsure):
                which = some[unsure]
                blocks = days.inner[which]
                limit = np.where(
                    turns[unsure] > 0, self._spike(statistics, now[unsure], blocks), self.drawn[blocks, T_SPIKE]
                )
                usual = np.arange(BINS) <= self._bin(limit, blocks)[:, None]
                counts[which, statistics.index(SPIKE)] += np.where(usual, perhaps[which], 0)
            had[whose] = now + counts[some]
        self.counts[:, statistics] = had
        turned = np.flatnonzero(gap > 0)
        self._draw(statistics, days.inner[turned], seen[turned])

    def _bin(self, limit: Floats, blocks: Places) -> Ints:
        """(b,) the bin of the spike limit of these blocks, at least that of the kind's floor."""
        floor = self.catalogue.spike[self.block_parameter[blocks]]
        return bins(np.maximum(limit, floor), floor)

    def _no_spikes(self, row: Places, found: Ints, returned: Bools, perhaps: Codes) -> tuple[Places, Ints]:
        """The peaks to be counted at once, with their bins. Those that returned count only up to the limit in force:
        where that is known already they are sorted out here, and go into ``perhaps`` (inner, BINS) where a day turns.
        """
        days = self.days
        apart = np.flatnonzero(returned[row])
        inner, block = days.inner_of_row[row[apart]], days.of_row[row[apart]]
        turns = inner >= 0
        np.add.at(perhaps, (inner[turns], found[apart[turns]]), np.int32(ONE))
        counted = np.ones(len(row), np.bool_)
        counted[apart] = ~turns & (found[apart] <= self._bin(self.drawn[block, T_SPIKE], block))
        return row[counted], found[counted]

    def _spike(self, statistics: list[int], counts: Codes, blocks: Places) -> Floats:
        """(b,) the limit of spikes drawn from sketches as the days of these blocks begin."""
        which = [SPIKE, STEP]
        parameter = self.block_parameter[blocks]
        unit = self.catalogue.spike[parameter]
        some = counts[:, [statistics.index(one) for one in which]]
        q = quantiles(some, _SHARES[which], np.stack([unit, unit], axis=1))
        least = np.maximum(q[:, 0, 0], UNREST * unit)
        rare = np.maximum(q[:, 0, 1], least)
        limit = np.maximum(rare * (rare / least) ** _TAIL, 3.5 * q[:, 1, 0])
        many = counts[:, statistics.index(NOISE)].sum(axis=1) / ONE
        return np.where(many < ENOUGH, 0.0, limit)

    def _draw(self, statistics: list[int], blocks: Places, counts: Codes) -> None:
        """The thresholds of blocks that begin a day, from their sketches as the day begins."""
        parameter = self.block_parameter[blocks]
        cat = self.catalogue
        spike = cat.spike[parameter]
        unit = {LEVEL: level_unit(parameter, cat), RUN: np.full(len(parameter), RUN_UNIT)}
        units = np.stack([unit.get(one, spike) for one in statistics], axis=1)
        if statistics == [LEVEL]:
            units[:] = 1.0
        q = dict(zip(statistics, quantiles(counts, _SHARES[statistics], units).swapaxes(0, 1), strict=True))
        drawn = self.drawn
        if LEVEL in q:
            drawn[blocks, T_LEVEL] = q[LEVEL][:, 0] ** 2 * level_unit(parameter, cat)
        if SPIKE not in q:
            return
        many = counts[:, statistics.index(NOISE)].sum(axis=1) / ONE
        drawn[blocks, COUNT] = many
        drawn[blocks, RESOLUTION] = q[STEP][:, 0]
        drawn[blocks, JUMP] = q[STEP][:, 1]
        drawn[blocks, T_SPIKE] = self._spike(statistics, counts, blocks)
        drawn[blocks, T_SHIFT] = 2.0 * q[SHIFT][:, 1]
        drawn[blocks, T_NOISE] = np.maximum(6.0 * q[NOISE][:, 0], 1.5 * q[NOISE][:, 1])
        drawn[blocks, LONG_RUN] = q[RUN][:, 0]
        runs = counts[:, statistics.index(RUN)]
        single = runs[:, 0]
        total = np.maximum(runs.sum(axis=1), 1)
        drawn[blocks, REPEATS] = 1.0 - single / total
        drawn[blocks, T_MOVE] = np.maximum(q[MOVE][:, 0], 3.0 * q[STEP][:, 0])
        young = blocks[many < ENOUGH]  # a few readings tell nothing of their sensor: its kind's floors hold
        drawn[young[:, None], [RESOLUTION, JUMP, T_SPIKE, T_SHIFT, T_NOISE, T_MOVE]] = 0.0

    def rhythm(
        self, move: Floats, solar: Codes, lunar: Codes, unit: Floats, water: Bools
    ) -> tuple[Floats, "DailyRhythm"]:
        """Moves without what is usual at this time of the day or of the tide, where that explained the past.

        ``move``, ``solar``, ``lunar``, ``unit``, ``water`` are (n,): NaN where there is none, pieces of the day, the
        kind's floor, and whether it teaches. Returns (n,) moves and what is to be remembered.
        """
        days, memory = self.days, self.memory
        known = np.flatnonzero(~np.isnan(move))
        part = MOVE_STEPS / unit[known]
        whole = np.rint(move[known] * part).astype(np.int64)
        phases = np.stack([solar[known], lunar[known] + PHASES]).astype(np.int64)  # flat within (2, PHASES)
        block = days.of_row[known]
        turning = days.touched[days.turning]
        usual, sums, many = memory.usual[turning], memory.sums[turning], memory.many[turning]
        inner = days.inner_of_row[known]
        turns = (inner >= 0) & water[known]
        n_inner, size = len(days.inner), 2 * PHASES
        was = memory.usual[days.touched[days.segment]]  # (b, 2, PHASES)
        if n_inner:
            flat = (inner[turns] * size + phases[:, turns]).ravel()
            both = np.concatenate([whole[turns], whole[turns]]).astype(np.float64)  # whole numbers: sums are exact
            added = np.bincount(flat, weights=both, minlength=n_inner * size).astype(np.int64)
            times = np.bincount(flat, minlength=n_inner * size).astype(np.int32)
            added, times = added.reshape(-1, 2, PHASES), times.reshape(-1, 2, PHASES)
            units = self.catalogue.spike[self.block_parameter[days.inner]][:, None, None] / MOVE_STEPS
            gap = days.gap[days.inner]
            for some in days.ranks:
                whose = days.whose[some]
                ends = gap[some] > 0
                if ends.any():
                    w = whose[ends]
                    n = many[w]
                    mean = sums[w] * units[some[ends]] / np.maximum(n, 1)
                    usual[w] += np.where(n > 0, LEARN * (mean - usual[w]), 0.0)
                    sums[w], many[w] = 0, 0
                was[days.inner[some]] = usual[whose]
                sums[whose] += added[some]
                many[whose] += times[some]
        flat_was = was.reshape(len(was), size)
        left = [
            whole,
            *(np.rint((move[known] - flat_was[block, p]) * part).astype(np.int64) for p in phases),
        ]
        sizes = np.abs(np.stack(left, axis=1))  # (known, 3)
        fit = memory.fit[turning]
        if n_inner:
            fits = np.stack(
                [np.bincount(inner[turns], weights=one[turns], minlength=n_inner) for one in sizes.T], axis=1
            ).astype(np.int64)
            for some in days.ranks:
                whose = days.whose[some]
                now = (fit[whose] * np.exp(-gap[some] / 7.0)[:, None]).astype(np.int64)
                best = np.where(now.min(axis=1) < CLEARLY * now[:, 0], now.argmin(axis=1), 0)
                ends = gap[some] > 0
                self.drawn[days.inner[some[ends]], RHYTHM] = best[ends]
                fit[whose] = now + fits[some]
        chosen = self.drawn[:, RHYTHM].astype(np.int64)[block]
        out = np.full(len(move), np.nan)
        pattern = np.where(chosen == 1, flat_was[block, phases[0]], flat_was[block, phases[1]])
        out[known] = move[known] - np.where(chosen == 0, 0.0, pattern)
        steady = np.flatnonzero((inner < 0) & water[known])
        series = days.touched[days.segment[block[steady]]].astype(np.int64)
        return out, DailyRhythm(
            phase=(series * size + phases[:, steady]).ravel(),
            moved=np.concatenate([whole[steady], whole[steady]]),
            fit_place=(series[:, None] * 3 + np.arange(3)).ravel(),
            fit_added=sizes[steady].ravel(),
            usual=usual,
            sums=sums,
            many=many,
            fit=fit,
        )


@dataclass(frozen=True, slots=True)
class DailyRhythm:
    """What is remembered of the usual day: additions for the steady series, whole columns for the turning ones."""

    phase: Ints
    moved: Ints
    fit_place: Ints
    fit_added: Ints
    usual: Floats
    sums: Ints
    many: Codes
    fit: Ints


assert len(THRESHOLDS) == RHYTHM + 1
