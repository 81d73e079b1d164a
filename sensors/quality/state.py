"""State of every series between batches: its last readings, its sketches, and the thresholds drawn from them.

:func:`~sensors.quality.engine.check_quality` reads a :class:`SeriesState` and never changes it: what is to be
remembered comes back as a :class:`StateUpdate` and is applied by the caller once the readings are stored.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple, Self, cast

import numpy as np

from sensors.quality.constants import HOURS_PER_DAY
from sensors.quality.histograms import ONE
from sensors.quality.sketches import Sketches
from sensors.quality.state_columns import Column
from sensors.reading import Bits, Bytes, Codes, Floats, Floats32, Ints, grown

REMEMBERED_READINGS: Final = 36
"""Accepted readings a series remembers: 24 for its unrest, each with 7 before it, and the successors that judge the
candidate, with some to spare."""

STATISTICS: Final = ("level", "spike", "shift", "noise", "step", "run", "move")
"""The sketched statistics, by position (:mod:`sensors.quality.statistics`): the size of the values themselves; how far
a reading stands out from both neighbours; how far three readings lie beyond the four before, where both are calm; the
distance from the mean of both neighbours; the non-zero steps; the length of the run of equal values; the departure from
the last two hours."""

LEVEL, SPIKE, SHIFT, NOISE, STEP, RUN, MOVE = range(7)

THRESHOLDS: Final = ("count", "level", "spike", "shift", "noise", "step", "jump", "repeats", "run", "move", "rhythm")
"""What is drawn from the sketches at each turn of a UTC day, by position:

``count`` readings that were learned; ``level`` median size of the values; ``spike``, ``shift``, ``noise`` limits;
``step`` resolution, the smallest step; ``jump`` 95 % quantile of steps; ``repeats`` share of repeats; ``run`` 99.5 %
quantile of runs; ``move`` usual move; ``rhythm`` which rhythm explains the moves best: 0 none, 1 day, 2 tide.
"""

COUNT, T_LEVEL, T_SPIKE, T_SHIFT, T_NOISE, RESOLUTION, JUMP, REPEATS, LONG_RUN, T_MOVE, RHYTHM = range(11)

# Marks of a remembered reading, for the other sensors of its station.
BUSY: Final = 1
"""It moved like a step would: steps of other sensors then prove nothing."""
WEAK: Final = 2
"""It jumped as it hardly ever does: weak evidence of a visit."""
NOISY: Final = 4
"""It lies off the line of its neighbours as it hardly ever does: noise of other sensors then proves nothing."""
BACK: Final = 8
"""The sensor came back from a burst with it: bursts of other sensors that end with this one then prove nothing."""

PHASES: Final = 48
"""Pieces of a day, solar or lunar, in which the usual move is remembered."""

REMEMBERED_DAYS: Final = 18
"""Days of which swing and median are remembered: three to be judged, and fifteen before them, from spring tide to
spring tide (14.8 days)."""

EARLIER_DAYS: Final = 30
"""Days before those of which the median alone is remembered: what a slow departure is compared with."""

STRETCHES: Final = 18
"""Stretches of three hours of which the levels are remembered: two days, and the two stretches a series is in."""

NO_DAY: Final = -1


@dataclass
class SeriesState:
    """Columns by series; the first axis of every column is the series.

    Attributes
    ----------
    station, parameter : (s,) indices of the station and into the catalogue
    at, value, packed, mark, move : (s, KEEP) the last accepted readings, oldest first; ``mark`` as :data:`BUSY`
    run_samples, run_start : (s,) length and begin (ms) of the present run of equal values
    dead_at, dead_run : (s,) last reading that was not of the water (ms), and how many in a row; 0: alive
    first, day : (s,) first reading (ms), and UTC day of the last one (:data:`NO_DAY`: none)
    counts : (s, statistics, BINS) the sketches, without the pieces that are empty
    drawn : (s, thresholds) the thresholds in force
    usual, sums, many : (s, 2, PHASES) usual move by solar and lunar phase, and sum and count of the open day
    fit : (s, 3) sums of moves without a rhythm, without the day's and without the tide's
    hour_sum, hour_many : (s, HOURS_PER_DAY) sums and counts of the hours of the open day
    swing, median : (s, DAYS) of the last days, by day modulo DAYS
    earlier : (s, EARLIER) medians of the days before, by day modulo EARLIER
    daily_tests : (s,) tests that hold for the day (:mod:`sensors.quality.detectors.daily_pattern`)
    stretch, low, high : (s, STRETCHES) number, lowest and highest level of the last stretches
    """

    station: Codes = field(default_factory=Column(0, np.int32))
    parameter: Codes = field(default_factory=Column(0, np.int32))
    at: Ints = field(default_factory=Column(0, np.int64, REMEMBERED_READINGS))
    value: Floats = field(default_factory=Column(np.nan, np.float64, REMEMBERED_READINGS))
    packed: Codes = field(default_factory=Column(0, np.int32, REMEMBERED_READINGS))
    mark: Bytes = field(default_factory=Column(0, np.uint8, REMEMBERED_READINGS))
    move: Floats32 = field(default_factory=Column(0, np.float32, REMEMBERED_READINGS))
    run_samples: Codes = field(default_factory=Column(0, np.int32))
    run_start: Ints = field(default_factory=Column(0, np.int64))
    dead_at: Ints = field(default_factory=Column(0, np.int64))
    dead_run: Codes = field(default_factory=Column(0, np.int32))
    first: Ints = field(default_factory=Column(0, np.int64))
    day: Ints = field(default_factory=Column(NO_DAY, np.int64))
    counts: Sketches = field(default_factory=lambda: Sketches(len(STATISTICS)))
    drawn: Floats = field(default_factory=Column(0, np.float64, len(THRESHOLDS)))
    usual: Floats32 = field(default_factory=Column(0, np.float32, 2, PHASES))
    sums: Ints = field(default_factory=Column(0, np.int64, 2, PHASES))
    many: Codes = field(default_factory=Column(0, np.int32, 2, PHASES))
    fit: Ints = field(default_factory=Column(0, np.int64, 3))
    hour_sum: Ints = field(default_factory=Column(0, np.int64, HOURS_PER_DAY))
    hour_many: Codes = field(default_factory=Column(0, np.int32, HOURS_PER_DAY))
    swing: Floats32 = field(default_factory=Column(np.nan, np.float32, REMEMBERED_DAYS))
    median: Floats32 = field(default_factory=Column(np.nan, np.float32, REMEMBERED_DAYS))
    earlier: Floats32 = field(default_factory=Column(np.nan, np.float32, EARLIER_DAYS))
    daily_tests: Bits = field(default_factory=Column(0, np.uint32))
    stretch: Codes = field(default_factory=Column(0, np.int32, STRETCHES))
    low: Floats32 = field(default_factory=Column(np.nan, np.float32, STRETCHES))
    high: Floats32 = field(default_factory=Column(np.nan, np.float32, STRETCHES))

    @classmethod
    def of(cls, station: Codes, parameter: Codes) -> Self:
        """The state of new series, given their station and parameter."""
        made = cls()
        made.grow(len(parameter))
        made.station[: len(station)], made.parameter[: len(parameter)] = station, parameter
        return made

    def __len__(self) -> int:
        return len(self.day)

    def grow(self, size: int) -> None:
        """Make room for ``size`` series; nothing is known of new ones."""
        if size > len(self):
            self.counts.grow(size)
            for name, blank in _BLANK.items():
                if name != "counts":
                    setattr(self, name, grown(getattr(self, name), size, blank))

    def bind(self, series: int, station: int, parameter: int) -> None:
        """Say whose a series is: a parameter of a station (indices)."""
        self.grow(series + 1)
        self.station[series], self.parameter[series] = station, parameter

    def forget(self, series: Codes) -> None:
        """Clear everything of these series but whose they are."""
        for name, blank in _BLANK.items():
            if name not in ("station", "parameter"):
                getattr(self, name)[series] = blank

    def apply(self, carried: "StateUpdate") -> None:
        """Apply an update of :func:`~sensors.quality.engine.check_quality`."""
        self._replace(carried.recent)
        self._replace(carried.dead)
        self.counts.add(carried.place, np.full(len(carried.place), ONE, np.int32), distinct=carried.distinct)
        for name, place, amount in carried.added:
            np.add.at(getattr(self, name).reshape(-1), place, amount)
        if carried.turned is not None:
            self._replace(carried.turned)

    def _replace(self, rows: "SeriesColumns") -> None:
        for name, cells in rows.columns.items():
            getattr(self, name)[rows.series] = cells

    def note(self, series: Codes, at: Ints, packed: Ints) -> None:
        """Replace the verdict of remembered readings (n,)."""
        row, column = np.nonzero(self.at[series] == at[:, None])
        self.packed[series[row], column] = packed[row]

    def put(self, series: Codes, other: "SeriesState") -> None:
        """Copy the first series of ``other`` to these series, but for whose they are."""
        for name in _BLANK:
            if name not in ("station", "parameter"):
                getattr(self, name)[series] = getattr(other, name)[: len(series)]

    def clear_recent(self) -> None:
        """Clear the last readings of all series; what they learned stays."""
        for name in (*_RECENT, "dead_at", "dead_run"):
            getattr(self, name)[:] = _BLANK[name]

    def restore(self, series: int, body: bytes) -> bool:
        """Read what :meth:`StateUpdate.frozen` wrote; false where the form is unknown or damaged."""
        try:
            plain = zlib.decompress(body)
        except zlib.error:
            return False
        if plain[:1] == bytes([_FORM_WITH_LOWEST]):
            plain = bytes([FORM]) + plain[9:]
        columns = [getattr(self, name) for name in _WRITTEN]
        kinds = [_WRITTEN_AS.get(name, column.dtype) for name, column in zip(_WRITTEN, columns, strict=True)]
        sizes = [column[0].size * kind.itemsize for column, kind in zip(columns, kinds, strict=True)]
        if plain[:1] != bytes([FORM]) or len(plain) != 1 + sum(sizes):
            return False
        place = 1
        for column, kind, size in zip(columns, kinds, sizes, strict=True):
            column[series] = np.frombuffer(plain[place : place + size], kind).reshape(column.shape[1:])
            place += size
        return True

    def taken(self, series: Codes) -> Self:
        """These series alone, in this order, as a copy."""
        made = type(self)()
        made.grow(len(series))
        for name in _BLANK:
            getattr(made, name)[:] = getattr(self, name)[series]
        return made


_BLANK: Final[dict[str, Any]] = {
    one.name: 0 if one.name == "counts" else cast(Column, one.default_factory).blank for one in fields(SeriesState)
}

_LEVELS: Final = ("stretch", "low", "high")
_RECENT: Final = (
    "at", "value", "packed", "mark", "move", "run_samples", "run_start", "first", "day", *_LEVELS,
)  # fmt: skip
_LEARNED: Final = (
    "counts", "drawn", "usual", "sums", "many", "fit", "hour_sum", "hour_many", "swing", "median", "daily_tests",
    "earlier",
)  # fmt: skip

FORM: Final = 4
"""Version of the written form; one that is not known is not read, and the series learns anew."""
_FORM_WITH_LOWEST: Final = 3
"""The form before, which begins with eight bytes more: the lowest value, which is not used any longer."""
_WRITTEN: Final = ("first", "day", *_LEARNED, *_LEVELS)
_WRITTEN_AS: Final = {"usual": np.dtype(np.float64)}
"""Columns that are written in another type than they are remembered in: the form is older than this type."""


@dataclass(frozen=True, slots=True)
class SeriesColumns:
    """Cells of some series (m,) that replace those of the columns of :class:`SeriesState` with these names."""

    series: Codes
    columns: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]


class Addition(NamedTuple):
    """Amounts that are added at flat places of a column; a place may occur more than once."""

    column: str
    place: Ints
    amount: Ints


class DayUpdate(NamedTuple):
    """What is remembered of days: additions for series whose day goes on, whole columns for those that entered one."""

    added: tuple[Addition, ...]
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """What is to be remembered after a batch.

    Attributes
    ----------
    recent : the last readings and levels of the touched series
    dead : their last reading that was not of the water, also of series with bad readings alone
    place, distinct : flat places in ``counts`` that gain a reading; whether none occurs twice
    added : what is added to the sums of days that go on
    turned : all that series have learned which entered a new day; None where none did
    """

    recent: SeriesColumns
    dead: SeriesColumns
    place: Ints
    distinct: bool
    added: tuple[Addition, ...]
    turned: SeriesColumns | None

    def frozen(self) -> list[tuple[int, int, bytes]]:
        """Of each series that entered a new day: series, its newest reading (ms), and all it has learned.

        About half a kilobyte each. Written down with the readings, a restart only reads what came after.
        """
        if self.turned is None:
            return []
        written = []
        rows = np.searchsorted(self.recent.series, self.turned.series).tolist()
        for i, (series, row) in enumerate(zip(self.turned.series.tolist(), rows, strict=True)):
            cells = [self.turned[name][i] if name in _LEARNED else self.recent[name][row] for name in _WRITTEN]
            kinds = [_WRITTEN_AS.get(name, cell.dtype) for name, cell in zip(_WRITTEN, cells, strict=True)]
            parts = [cell.astype(kind).tobytes() for cell, kind in zip(cells, kinds, strict=True)]
            body = bytes([FORM]) + b"".join(parts)
            written.append((series, int(self.recent["at"][row, -1]), zlib.compress(body, 1)))
        return written

    def without_learning(self) -> "StateUpdate":
        """The same, but nothing is added to the sketches."""
        return replace(self, place=self.place[:0], added=())
