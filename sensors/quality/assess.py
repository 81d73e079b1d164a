"""All quality tests over the readings of many series at once, with what each series must remember between batches.

The same function judges a live micro-batch, a late batch inside its stored neighbourhood, and a whole table: only the
:class:`Tail` handed in differs. It changes nothing: what a series must remember comes back as :class:`Carried` and is
applied by the caller once the readings are durable.
"""

from dataclasses import dataclass

import numpy as np

from sensors.parameters import Catalogue
from sensors.quality import tests
from sensors.reading import Bits, Bools, Bytes, Codes, Flag, Floats, Ints, Places, QualityTest, pack

KEEP = 10
"""Accepted samples a series remembers: eight before a candidate spike, the candidate, and one to spare."""

ZERO_BELOW_STEPS = 5.0
"""Zero is a dead sensor only when the water stood this many believable steps above it: 2 mg/L of oxygen, 0.5 of pH,
25 µS/cm (the prototype used 2, 1 and 1; an anoxic creek slides to zero, it does not jump there)."""

_DEVICE_BAD = np.frombuffer(b"DBFMCO", np.uint8)
"""HJ 212 data flags that say the value is not the water: fault, communication, stopped, maintenance, calibration,
off. Others than N and S (manual value) make it suspect. T says the value is above what the instrument can measure:
suspect, but at least so much."""
_DEVICE_GOOD = np.frombuffer(b"NS", np.uint8)


@dataclass(frozen=True, slots=True)
class Carried:
    """What ``assess`` wants remembered: rows for the series that were touched.

    ``series`` (s,); ``at`` (s, KEEP) ms and ``value`` (s, KEEP), newest last, NaN and 0 where there is none yet;
    ``packed`` (s, KEEP) flag and tests of those samples; ``run_samples`` (s,) and ``run_start`` (s,) ms of the
    current run of equal values.
    """

    series: Codes
    at: Ints
    value: Floats
    packed: Ints
    run_samples: Codes
    run_start: Ints


class Tail:
    """The remembered end of every series, as columns that grow with the number of series."""

    def __init__(self, size: int = 0) -> None:
        self._room = 0
        self.at = np.zeros((0, KEEP), np.int64)
        self.value = np.zeros((0, KEEP), np.float64)
        self.packed = np.zeros((0, KEEP), np.int64)
        self.run_samples = np.zeros(0, np.int32)
        self.run_start = np.zeros(0, np.int64)
        self.grow(size)

    def grow(self, size: int) -> None:
        """Make room for ``size`` series; new ones remember nothing."""
        if size <= self._room:
            return
        room = max(size, 2 * self._room, 256)
        more = room - self._room
        self.at = np.concatenate([self.at, np.zeros((more, KEEP), np.int64)])
        self.value = np.concatenate([self.value, np.full((more, KEEP), np.nan)])
        self.packed = np.concatenate([self.packed, np.zeros((more, KEEP), np.int64)])
        self.run_samples = np.concatenate([self.run_samples, np.zeros(more, np.int32)])
        self.run_start = np.concatenate([self.run_start, np.zeros(more, np.int64)])
        self._room = room

    def forget(self, series: Codes) -> None:
        """These series remember nothing any more."""
        self.at[series] = 0
        self.value[series] = np.nan
        self.packed[series] = 0
        self.run_samples[series] = 0
        self.run_start[series] = 0

    def apply(self, carried: Carried) -> None:
        """Remember what ``assess`` asked for."""
        self.at[carried.series] = carried.at
        self.value[carried.series] = carried.value
        self.packed[carried.series] = carried.packed
        self.run_samples[carried.series] = carried.run_samples
        self.run_start[carried.series] = carried.run_start


@dataclass(frozen=True, slots=True)
class Assessed:
    """The verdict on a batch.

    ``flag`` and ``tests`` (n,) belong to the rows handed in. ``again_*`` (m,) name samples of *earlier* batches whose
    verdict changed (a spike shows only once its successor is there). ``carried`` is to be applied after storing.
    """

    flag: Bytes
    tests: Bits
    again_series: Codes
    again_at: Ints
    again_packed: Ints
    carried: Carried


def assess(
    series: Codes, parameter: Codes, at: Ints, value: Floats, status: Bytes, tail: Tail, catalogue: Catalogue
) -> Assessed:
    """Judge readings that continue their series.

    Parameters
    ----------
    series : (n,) int array
        Index of the series of each reading; the rows are sorted by (series, at) and no (series, at) occurs twice.
    parameter : (n,) int array
        Index into the catalogue; the same for all rows of a series.
    at : (n,) int array
        ms since the epoch UTC; every reading is newer than what ``tail`` remembers of its series.
    value : (n,) float array
        Canonical unit, finite.
    status : (n,) uint8 array
        HJ 212 data flag of the device as an ASCII code.
    tail : Tail
        What the series remember; read, not changed.

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
    is_sentinel = tests.sentinel(value) & ~_believable_sentinel(value, plausible)
    _raise(flag, bits, is_sentinel, Flag.BAD, QualityTest.SENTINEL)
    _raise(flag, bits, tests.outside(value, *instrument.T), Flag.BAD, QualityTest.INSTRUMENT_RANGE)
    _raise(flag, bits, tests.outside(value, *plausible.T), Flag.SUSPECT, QualityTest.PLAUSIBLE_RANGE)
    if (status != ord("N")).any():
        _raise(flag, bits, np.isin(status, _DEVICE_BAD), Flag.BAD, QualityTest.DEVICE_STATUS)
        _raise(flag, bits, status == ord("T"), Flag.SUSPECT, QualityTest.OVER_RANGE)
        told = ~np.isin(status, _DEVICE_BAD) & ~np.isin(status, _DEVICE_GOOD) & (status != ord("T"))
        _raise(flag, bits, told, Flag.SUSPECT, QualityTest.DEVICE_STATUS)

    _raise(flag, bits, _dead_zero(series, parameter, at, value, flag, tail, catalogue), Flag.BAD, QualityTest.SENTINEL)

    accepted = np.flatnonzero(flag < Flag.BAD)  # what is bad by itself is left out of everything that compares
    return _compare(series, parameter, at, value, flag, bits, accepted, tail, catalogue)


def _dead_zero(
    series: Codes, parameter: Codes, at: Ints, value: Floats, flag: Bytes, tail: Tail, catalogue: Catalogue
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
    level = np.where(known >= first, value[known], tail.value[series, -1])
    since = np.where(known >= first, at[known], tail.at[series, -1])
    recent = (at - since <= tests.GAP_SECONDS * 1000) | (catalogue.plausible[parameter, 0] > 0)
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


def _compare(
    series: Codes,
    parameter: Codes,
    at: Ints,
    value: Floats,
    flag: Bytes,
    bits: Bits,
    accepted: Places,
    tail: Tail,
    catalogue: Catalogue,
) -> Assessed:
    """The tests that compare a sample with its neighbours, on one flat line of [remembered | new] per series."""
    s, p = series[accepted], parameter[accepted]
    starts = np.flatnonzero(np.diff(s, prepend=-1))  # first new sample of each series
    touched = s[starts]
    m = len(touched)
    counts = np.diff(np.append(starts, len(s)))
    # layout: KEEP remembered slots of the first series, its new samples, KEEP slots of the second, …
    segment = np.repeat(np.arange(m), counts)
    here = np.arange(len(s)) + (segment + 1) * KEEP
    size = len(s) + m * KEEP
    remembered = (starts + np.arange(m) * KEEP)[:, None] + np.arange(KEEP)
    x, t, q = np.full(size, np.nan), np.zeros(size, np.int64), np.zeros(size, np.int64)
    x[remembered], t[remembered], q[remembered] = tail.value[touched], tail.at[touched], tail.packed[touched]
    x[here], t[here] = value[accepted], at[accepted]

    new_flag, new_bits = flag[accepted], bits[accepted]
    fast = _rate(x, t, here, here - 1, p, catalogue)
    _raise(new_flag, new_bits, fast, Flag.SUSPECT, QualityTest.RATE_OF_CHANGE)

    run_samples, run_start = _runs(x, t, here, segment, starts, tail.run_samples[touched], tail.run_start[touched])
    stuck = catalogue.flat[p] & tests.flat_line(run_samples, (t[here] - run_start) / 1000.0)
    _raise(new_flag, new_bits, stuck, Flag.SUSPECT, QualityTest.FLAT_LINE)
    # a reading none of the comparing tests could judge still passed the range tests: it is good, not unknown
    q[here] = pack(new_flag, new_bits)

    again = _spikes(x, t, q, here, p, catalogue)
    _excuse(x, t, q, here, again, p, catalogue)
    own = _positions(again, here)
    flag[accepted], bits[accepted] = (q[here] & 15).astype(np.uint8), (q[here] >> 4).astype(np.uint32)

    last = np.append(here[starts[1:] - 1], here[-1]) if m else np.empty(0, np.int64)
    newest = last[:, None] + np.arange(1 - KEEP, 1)
    ends = np.append(starts[1:] - 1, len(s) - 1) if m else np.empty(0, np.int64)
    carried = Carried(touched, t[newest], x[newest], q[newest], run_samples[ends], run_start[ends])
    earlier = again[~own]
    again_series = touched[np.searchsorted(starts + np.arange(m) * KEEP, earlier, side="right") - 1] if m else touched
    return Assessed(flag, bits, again_series, t[earlier], q[earlier], carried)


def _spikes(
    x: Floats,
    t: Ints,
    q: Ints,
    here: Places,
    parameter: Codes,
    catalogue: Catalogue,
) -> Places:
    """Re-flag, in ``q``, the sample before each new one where it turns out to be a spike; returns those places."""
    candidate = here - 1
    # cheap first: a spike stands out from its successor by more than the floor
    floor = catalogue.step[parameter]
    with np.errstate(invalid="ignore"):
        jump = np.abs(x[candidate] - x[here]) > floor
    gap = np.maximum(t[here] - t[candidate], t[candidate] - t[candidate - 1])
    chosen = np.flatnonzero(jump & (gap <= tests.GAP_SECONDS * 1000))
    if not len(chosen):
        return np.empty(0, np.intp)
    candidate = candidate[chosen]
    windows = x[candidate[:, None] + np.arange(-8, 1)]
    base = np.abs(tests.nanmedian(windows[:, 1:-1]))
    height = floor[chosen] + catalogue.step_share[parameter[chosen]] * np.where(np.isnan(base), 0.0, base)
    found = candidate[tests.spike(windows, x[here[chosen]], floor=height)]
    already = (q[found] >> 4) & int(QualityTest.SPIKE)
    found = np.asarray(found[already == 0])
    q[found] = np.maximum(q[found] & 15, int(Flag.SUSPECT)) | (((q[found] >> 4) | int(QualityTest.SPIKE)) << 4)
    return found


def _rate(
    x: Floats,
    t: Ints,
    place: Places,
    before: Places,
    parameter: Codes,
    catalogue: Catalogue,
) -> Bools:
    """Which samples moved too fast away from the one at ``before``."""
    level = np.abs(x[before])
    step = catalogue.step[parameter] + catalogue.step_share[parameter] * np.where(np.isnan(level), 0.0, level)
    elapsed_s = (t[place] - t[before]) / 1000.0
    verdict = tests.rate_of_change(x[place], x[before], elapsed_s, step=step, per_hour=catalogue.per_hour[parameter])
    return np.asarray(verdict == Flag.SUSPECT)


def _excuse(
    x: Floats,
    t: Ints,
    q: Ints,
    here: Places,
    spikes: Places,
    parameter: Codes,
    catalogue: Catalogue,
) -> None:
    """In ``q``: a sample that came back from a spike did not move too fast if it agrees with what was before it."""
    if not len(spikes):
        return
    rows = np.searchsorted(here, spikes + 1)
    still = _rate(x, t, spikes + 1, spikes - 1, parameter[rows], catalogue)
    back = spikes[~still] + 1
    itself = (q[back] >> 4) & int(QualityTest.SPIKE)  # within one batch it may have turned out a spike already
    only = ((q[back] >> 4) - itself == int(QualityTest.RATE_OF_CHANGE)) & ((q[back] & 15) == int(Flag.SUSPECT))
    clean = np.where(itself > 0, int(Flag.SUSPECT) | (itself << 4), int(Flag.GOOD))
    q[back[only]] = clean[only]


def _runs(
    x: Floats,
    t: Ints,
    here: Places,
    segment: Places,
    starts: Places,
    carried_samples: Codes,
    carried_start: Ints,
) -> tuple[Codes, Ints]:
    """For each new sample, how many equal values in a row end here and since when."""
    n = len(here)
    fresh = x[here] != x[here - 1]  # NaN before: a run begins
    number = np.arange(n)
    began = np.maximum.accumulate(np.where(fresh, number, -1))
    began = np.where(began >= starts[segment], began, -1) if n else began  # a run does not cross into another series
    continues = began < 0
    samples = np.where(continues, carried_samples[segment] + number - starts[segment] + 1, number - began + 1)
    since = np.where(continues, carried_start[segment], t[here][began])
    return samples.astype(np.int32), since


def _positions(places: Places, here: Places) -> Bools:
    """Which of these places hold new samples rather than remembered ones."""
    if not len(here):
        return np.zeros(len(places), np.bool_)
    found = np.searchsorted(here, places)
    return np.asarray(here[np.minimum(found, len(here) - 1)] == places)
