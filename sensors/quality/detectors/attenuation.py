"""Detect sensors whose daily or tidal swing sank far below the usual one while that of other sensors did not."""

from typing import Final

import bottleneck as bn
import numpy as np

from sensors.quality.constants import MIN_KNOWN_DAYS, MIN_WITNESS_KINDS
from sensors.quality.known_days import KnownDays
from sensors.quality.neighbours import Neighbours
from sensors.quality.state import REMEMBERED_DAYS
from sensors.reading import Bits, Floats, Ints, Places, QualityTest

# -- constants -------------------------------------------------------------------------------------------------------

RECENT_SWING_DAYS: Final = 3
"""Days for which a swing must be small: clouds, a cold front or a flood flatten one or two."""
MAX_SWING_SHARE: Final = 0.5
"""Of the usual swing: a smaller one has sunk. And its share must be less than this of the share of every other sensor:
clouds and cold take from all of them."""
MAX_SMALL_DAYS_BEFORE: Final = 1
"""Days before on which the swing may have been as small: a sensor whose swing comes and goes has no usual one."""
MIN_SWING_RESOLUTIONS: Final = 5.0
"""Smallest usual swing, in smallest steps of the sensor: half of less is hardly told from nothing."""
ZERO_BOUND_EVENT: Final = "oxygen"
"""What cannot swing below zero: where little is left of it, in black water, there is no room for a swing."""


# -- detection -------------------------------------------------------------------------------------------------------


def attenuated(blocks: Places, resolution: Floats, known: KnownDays, network: Neighbours) -> Bits:
    """(b,) ``ATTENUATED`` where the swing of the last days has sunk far below the usual one, and those of others not.

    ``blocks`` (b,) begin a day; ``resolution`` (b,) is the smallest step of their sensor.
    """
    segment = known.days.segment[blocks]
    series, day = known.days.touched[segment], known.days.day[blocks]
    floor = np.maximum(known.catalogue.swing[known.parameter[segment]], MIN_SWING_RESOLUTIONS * resolution)
    swing, median = (one[:, :REMEMBERED_DAYS] for one in known.before(series, day))
    found = np.zeros(len(blocks), np.uint32)
    low, usual = _small_swings(swing)
    from_zero = np.array([p.event == ZERO_BOUND_EVENT for p in known.catalogue.parameters])[known.parameter[segment]]
    with np.errstate(invalid="ignore"):
        room = ~from_zero | (median[:, :RECENT_SWING_DAYS].min(axis=1) >= usual)
        sunk = np.flatnonzero((low > 0) & (usual >= floor) & room)
    for i in sunk.tolist():
        shares = _swing_shares(_swing_witnesses(known, int(series[i]), network), int(day[i]), int(low[i]), known)
        witnesses = MIN_WITNESS_KINDS if known.catalogue.parameters[known.parameter[segment[i]]].event else 1
        if len(shares) >= witnesses and swing[i, :RECENT_SWING_DAYS].max() / usual[i] < MAX_SWING_SHARE * shares.min():
            found[i] = int(QualityTest.ATTENUATED)
    return found


def _small_swings(swing: Floats) -> tuple[Ints, Floats]:
    """Find the run of small swings that ends with the last day.

    ``swing`` (b, DAYS), latest first. Returns (b,) the length of the run in days, 0 where there is none or where swings
    were as small before it, and (b,) the usual swing before the run.
    """
    found, usual = np.zeros(len(swing), np.int64), np.zeros(len(swing))
    with np.errstate(invalid="ignore"):
        limit = swing[:, :RECENT_SWING_DAYS].max(axis=1) / MAX_SWING_SHARE
        rows = np.flatnonzero((swing[:, RECENT_SWING_DAYS:] > limit[:, None]).sum(axis=1) > MIN_KNOWN_DAYS // 2)
        for low in range(RECENT_SWING_DAYS, REMEMBERED_DAYS - MIN_KNOWN_DAYS + 1):
            rows = rows[(~np.isnan(swing[rows, low:])).sum(axis=1) >= MIN_KNOWN_DAYS]
            if not len(rows):
                break
            middle = bn.nanmedian(swing[rows, low:], axis=1)
            small = swing[rows] < MAX_SWING_SHARE * middle[:, None]
            run = (small | np.isnan(swing[rows]))[:, :low].all(axis=1) & (
                small[:, low:].sum(axis=1) <= MAX_SMALL_DAYS_BEFORE
            )
            found[rows[run]], usual[rows[run]] = low, middle[run]
            rows = rows[~run]
    return found, usual


def _swing_shares(others: Ints, day: int, low: int, known: KnownDays) -> Floats:
    """The last swings of other series (o,) as shares of those before the ``low`` days; of series with a rhythm
    alone."""
    if not len(others):
        return np.empty(0)
    swing = known.before(others, np.full(len(others), day))[0][:, :REMEMBERED_DAYS]
    enough = (~np.isnan(swing[:, low:])).sum(axis=1) >= MIN_KNOWN_DAYS
    was = np.where(enough, bn.nanmedian(swing[:, low:], axis=1), np.nan)
    rhythm = was >= known.catalogue.swing[known.memory.parameter[others]]
    shares = np.median(swing[:, :RECENT_SWING_DAYS], axis=1)[rhythm] / was[rhythm]
    return np.asarray(shares[np.isfinite(shares)])


def _swing_witnesses(known: KnownDays, series: int, network: Neighbours) -> Ints:
    """Series that should swing as before if the water does.

    Other kinds of sensor of the station; for a level, which only the tide moves, the levels of the neighbours.
    """
    memory, parameters = known.memory, known.catalogue.parameters
    station, own = int(memory.station[series]), parameters[memory.parameter[series]]
    if not own.event:
        near = np.array(network.get(station, ()), np.int64)
        return np.flatnonzero(
            np.isin(memory.station, near) & (memory.parameter == memory.parameter[series]) & known.has_days
        )
    kinds = np.array([bool(p.event) and p.event != own.event and np.isfinite(p.swing) for p in parameters])
    return np.flatnonzero((memory.station == station) & kinds[memory.parameter] & known.has_days)
