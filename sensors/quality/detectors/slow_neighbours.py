"""What slow events know of hours that are over, and what stood out in them at neighbouring stations. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from sensors.quality.constants import COURSE_HOURS_BEFORE, HOURS_PER_DAY, REMEMBERED_DAYS
from sensors.quality.detectors.slow_hours import ROLE_COUNT, EndedHours
from sensors.quality.events import MIN_WITNESS
from sensors.quality.neighbours import Neighbours
from sensors.quality.state_columns import Column, StateColumns
from sensors.reading import Codes, Floats, Floats32, Ints, Places

NEIGHBOUR_WINDOW_H: Final = 25
"""Hours for which a neighbouring station bears witness: within a lunar day the tide carries the same water past it
twice, up and down."""
TURBID, SAGGING = range(2)
"""What neighbours ask for: whether turbidity or missing oxygen stood out."""


@dataclass
class ClosedHours(StateColumns):
    """The hours that are over at every station; hours and days since the epoch, -1 where there is none.

    Attributes
    ----------
    day, hours_heard : (s,) the open day, and how many of its hours were heard
    hourly : (s, 5 + 24, roles) comparable means of the last five hours before the open day and of its hours
    day_number, extremes : (s, DAYS) and (s, DAYS, 4, roles) the days before, by day modulo DAYS
    temperature : (s,) the last one, °C
    rain_hour : (s,) last hour of rain
    light_hour : (s, 2) last hour that looked like a bloom, and that of a day before
    bloom_hour : (s,) last hour of a bloom alarm
    peak_hour, peak_known_at, peak_size : (s, 2) the hour within a tide in which turbidity, or missing oxygen, stood out
        most, when that was known (ms), and how far out
    event_day : (s, 2) last day whose lows, and whose highs, were those of an event
    alarmed, doubted : (s,) last alarm and last doubtful one (ms)
    """

    day: Ints = field(default_factory=Column(-1, np.int64))
    hours_observed: Codes = field(default_factory=Column(0, np.int32))
    hourly: Floats = field(default_factory=Column(np.nan, np.float64, COURSE_HOURS_BEFORE + HOURS_PER_DAY, ROLE_COUNT))
    day_number: Ints = field(default_factory=Column(-1, np.int64, REMEMBERED_DAYS))
    extremes: Floats32 = field(default_factory=Column(np.nan, np.float32, REMEMBERED_DAYS, 4, ROLE_COUNT))
    temperature: Floats = field(default_factory=Column(np.nan, np.float64))
    rain_hour: Ints = field(default_factory=Column(-1, np.int64))
    light_hour: Ints = field(default_factory=Column(-1, np.int64, 2))
    bloom_hour: Ints = field(default_factory=Column(-1, np.int64))
    peak_hour: Ints = field(default_factory=Column(-1, np.int64, 2))
    peak_known_at: Ints = field(default_factory=Column(-1, np.int64, 2))
    peak_size: Floats = field(default_factory=Column(0.0, np.float64, 2))
    event_day: Ints = field(default_factory=Column(-1, np.int64, 2))
    alarmed: Ints = field(default_factory=Column(0, np.int64))
    doubted: Ints = field(default_factory=Column(0, np.int64))


class NewHours:
    """The hours of one day that ended now, of the stations ``rows`` (s,).

    ``hour`` (24,) since the epoch; ``new`` (s, 24) which hours ended; ``last``, ``after`` and ``once`` (s, 24) as of
    :class:`~sensors.quality.detectors.slow_hours.EndedHours`.
    """

    def __init__(self, rows: Places, today: int, at: tuple[Places, Ints], over: EndedHours, cells: Places) -> None:
        size = len(rows), HOURS_PER_DAY
        self.rows, self.hour = rows, today * HOURS_PER_DAY + np.arange(HOURS_PER_DAY)
        self.new, self.once = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        self.last, self.after = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.new[at], self.once[at] = True, over.once[cells]
        self.last[at], self.after[at] = over.last[cells], over.after[cells]


class _Peak(NamedTuple):
    """An hour that stood out: its number, when it was known (ms), and how far out it was."""

    hour: int
    known_at: int
    size: float

    @classmethod
    def remembered(cls, past: ClosedHours, row: int, which: int) -> "_Peak":
        """What is remembered of a station."""
        return cls(
            int(past.peak_hour[row, which]), int(past.peak_known_at[row, which]), float(past.peak_size[row, which])
        )


@dataclass(frozen=True, slots=True)
class NeighbourPeaks:
    """The hours that stood out at stations and their neighbours.

    ``past`` belongs to ``stations``, row by row, and is changed in place; ``memory`` holds all stations and is read.
    """

    stations: Codes
    past: ClosedHours
    memory: ClosedHours
    network: Neighbours
    fresh: NewHours

    def beside(self, which: int, mine: Floats, lasting: Floats) -> Floats:
        """(s, 24) how far out the same was at a neighbouring station within a lunar day.

        As far as was known then, and where it is out here (``mine``). What ``lasting`` says is remembered for the
        neighbours.
        """
        fresh, past = self.fresh, self.past
        peaks = {int(row): self._new(which, i, lasting[i]) for i, row in enumerate(fresh.rows)}
        found = np.zeros(mine.shape)
        for i, h in zip(*np.nonzero((mine >= MIN_WITNESS) & fresh.new), strict=True):
            for other in self.network.get(int(self.stations[fresh.rows[i]]), ()):
                known = [one for one in self._of(which, int(other), peaks) if one.known_at <= fresh.after[i, h]]
                if known and known[-1].hour >= fresh.hour[h] - NEIGHBOUR_WINDOW_H:
                    found[i, h] = max(found[i, h], known[-1].size)
        for row, ones in peaks.items():
            past.peak_hour[row, which], past.peak_known_at[row, which], past.peak_size[row, which] = ones[-1]
        return found

    def _new(self, which: int, i: int, size: Floats) -> list[_Peak]:
        """The largest peaks within a tide, as they became known; the first is the remembered one."""
        fresh, peaks = self.fresh, [_Peak.remembered(self.past, self.fresh.rows[i], which)]
        for h in np.flatnonzero((size >= MIN_WITNESS) & fresh.new[i]).tolist():
            if size[h] >= peaks[-1].size or fresh.hour[h] - peaks[-1].hour > NEIGHBOUR_WINDOW_H // 2:
                peaks.append(_Peak(int(fresh.hour[h]), int(fresh.after[i, h]), float(size[h])))
        return peaks

    def _of(self, which: int, other: int, peaks: Mapping[int, list[_Peak]]) -> list[_Peak]:
        """The same of another station, which may not be among those judged."""
        row = int(np.searchsorted(self.stations, other))
        if row < len(self.stations) and self.stations[row] == other:
            return peaks[row] if row in peaks else [_Peak.remembered(self.past, row, which)]
        return [_Peak.remembered(self.memory, other, which)] if other < len(self.memory) else []
