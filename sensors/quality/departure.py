"""Departures of days: how far the last days lie from earlier ones, beside the same of other times. Pure."""

from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.known_days import KnownDays
from sensors.quality.neighbours import Neighbours
from sensors.reading import Bools, Codes, Floats, Ints

MIN_DEPARTURE_RATIO: Final = 2.0
"""In multiples of the farthest that the difference was from its middle on any day before."""

NOW_DAYS: Final = 3
BEFORE: Final = slice(9, 18)
"""What creeps is no farther from its neighbours on any day than on the one before. So the middle of the last three days
is compared with that of nine days, nine days earlier: a front has passed and half a spring-neap cycle is in it."""
MIN_BEFORE_DAYS: Final = 6
"""Days of those nine that must be known."""
FIRST_PAST_DAY: Final = 12
MIN_PAST_DAYS: Final = 10
"""The same departures of other times tell what is usual: of those that ended so many days ago or earlier, which the
present one cannot have begun in yet, so many must be known."""
MIN_LASTING_SHARE: Final = 0.7
"""Of the limit: on the two days before a departure was at least so large, too."""


def departures(line: Floats) -> Floats:
    """(b, …) how far the middle of NOW_DAYS days lies from that of the days BEFORE, the latest first.

    ``line`` (b, LONG) medians of days. One departure for each day that has enough days behind it; NaN where too few of
    them are known.
    """

    def middle(first: int, days: int, least: int) -> Floats:
        view = np.lib.stride_tricks.sliding_window_view(line[:, first:], days, axis=1)
        known = (~np.isnan(view)).sum(axis=2) >= least
        return np.where(known, bn.nanmedian(view, axis=2), np.nan)

    before = middle(BEFORE.start, BEFORE.stop - BEFORE.start, MIN_BEFORE_DAYS)
    return np.asarray(middle(0, NOW_DAYS, NOW_DAYS - 1)[:, : before.shape[1]] - before)


def usual_departure(went: Floats) -> float:
    """The largest departure of a series in the month before, in either direction; NaN where too little is known."""
    past = np.abs(went[FIRST_PAST_DAY:])
    return float(bn.nanmax(past)) if (~np.isnan(past)).sum() >= MIN_PAST_DAYS else np.nan


def log_positive(values: Floats) -> Floats:
    """Logarithms; NaN of what is not above zero."""
    return np.log(np.where(values > 0, values, np.nan))


def neighbour_series(known: KnownDays, series: Codes, network: Neighbours, wanted: Bools) -> Ints:
    """(b, k) series of the same parameter at the neighbours of each station; -1 where there is none, or not wanted."""
    memory = known.memory
    stations = memory.station[series]
    most = max((len(network.get(s, ())) for s in np.unique(stations[wanted]).tolist()), default=0)
    beside = np.full((len(series), most), -1, np.int64)
    if not most:
        return beside
    concerned = {n for s in np.unique(stations[wanted]).tolist() for n in network.get(s, ())}
    rows = np.flatnonzero(np.isin(memory.station, list(concerned)) & known.has_days)
    of = {(int(memory.station[i]), int(memory.parameter[i])): int(i) for i in rows.tolist()}
    neighbours = {
        one: [of.get((n, int(memory.parameter[one])), -1) for n in network.get(int(memory.station[one]), ())]
        for one in np.unique(series[wanted]).tolist()
    }
    for i in np.flatnonzero(wanted).tolist():
        mine = neighbours[int(series[i])]
        beside[i, : len(mine)] = mine
    return beside
