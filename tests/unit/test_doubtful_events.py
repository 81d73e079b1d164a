"""Doubtful events: each becomes an event of the water or a device to be checked within a day of event time."""

from dataclasses import replace

import numpy as np
import pytest

from infra.times import HOUR_MS, TIME_BITS
from sensors.quality.detectors.doubtful_events import (
    DECIDED_AFTER_MS,
    DoubtState,
    Settled,
    settle_doubtful_events,
)
from sensors.quality.events import ROLES, Alarms, DiscountReason, Outcome
from sensors.reading import Ints

START = 1_778_544_000_000
STEP = HOUR_MS // 4
LONE, LEAP, PARTICLES, NONE = DiscountReason.LONE, DiscountReason.LEAP, DiscountReason.PARTICLES, DiscountReason.NONE
Told = tuple[float, DiscountReason, float]
"""An alarm: its hour, what speaks against it, and the swing of oxygen."""


def made(told: list[Told], station: int = 0) -> Alarms:
    n = len(told)
    at = np.array([START + round(hour * HOUR_MS) for hour, _, _ in told], np.int64)
    one, no = np.ones(n), np.zeros(n, np.bool_)
    return Alarms(
        np.full(n, station),
        at,
        np.zeros((n, len(ROLES))),
        one,
        one,
        no,
        no,
        np.array([reason for _, reason, _ in told], np.uint8),
        np.zeros(n, np.int64),
        np.full((n, 9), np.nan),
        np.full((n, 9), np.nan),
        np.array([swing for _, _, swing in told], np.float64),
        np.zeros(n, np.uint8),
    )


def settled(
    told: list[Told], leaps: tuple[float, ...] = (), cuts: tuple[int, ...] = (), hours: int = 60, station: int = 0
) -> tuple[list[Settled], list[int]]:
    """How the cases ended, and the outcome of each alarm. What is remembered is written down at each cut.

    As in life an alarm is known at the next instant, one every quarter of an hour.
    """
    alarms, instants = made(told, station), START + STEP * np.arange(4 * hours)
    leapt = np.array([START + round(one * HOUR_MS) for one in leaps], np.int64)
    memory = DoubtState()
    memory.grow(station + 1)
    found, outcome = [], np.zeros(len(told), np.uint8)
    for first, last in zip((0, *cuts), (*cuts, len(instants)), strict=True):
        until, since = instants[last - 1], instants[first - 1] if first else -1
        rows = np.flatnonzero((alarms.at >= since) & (alarms.at < until))
        mine = leapt[(leapt > since) & (leapt <= until)]
        keys: Ints = station << TIME_BITS | instants[first:last]
        result = settle_doubtful_events(
            alarms.take(rows), (np.full(len(mine), station), mine), lambda keys=keys: keys, memory
        )
        memory.apply(result.stations, result.state)
        fresh = DoubtState()
        fresh.grow(len(memory))
        assert all(fresh.restore(i, memory.frozen(i)) for i in range(len(memory)))
        memory = fresh
        found += result.settled
        outcome[rows] = result.alarms.outcome
    return found, outcome.tolist()


def ends(found: list[Settled]) -> list[tuple[DiscountReason, Outcome]]:
    return [(one.reason, one.outcome) for one in found]


def test_oxygen_that_swings_farther_than_any_day_for_three_hours_is_the_water() -> None:
    found, outcome = settled([(h, LONE, 2.5) for h in (1.75, 2.75, 3.75, 20.75)])
    assert ends(found) == [(LONE, Outcome.CONFIRMED)]
    assert outcome == [Outcome.OPEN, Outcome.OPEN, Outcome.CONFIRMED, Outcome.CONFIRMED]
    assert found[0].at_ms == START + round(3.75 * HOUR_MS)


@pytest.mark.parametrize(
    ("told", "leaps"),
    [
        ([(h, LONE, 2.5) for h in (1.75, 2.75)], ()),
        ([(h, LONE, 1.5) for h in (1.75, 2.75, 3.75, 4.75)], ()),
        ([(h, LONE, 2.5) for h in (1.75, 2.75, 3.75)], (0.5,)),
        ([(h, PARTICLES, np.nan) for h in (1.75, 2.75, 3.75, 4.75)], ()),
        ([(1.75, LEAP, np.nan)], ()),
    ],
    ids=["two hours", "its usual swing", "a leap", "mud", "one leap"],
)
def test_what_nothing_confirms_is_a_device_to_be_checked_within_a_day(
    told: list[Told], leaps: tuple[float, ...]
) -> None:
    found, outcome = settled(told, leaps)
    assert ends(found) == [(told[0][1], Outcome.DEVICE)]
    assert found[0].at_ms - found[0].since_ms <= 24 * HOUR_MS
    assert set(outcome) == {Outcome.OPEN}, "nobody knew it then"
    assert found[0].leapt == (bool(leaps) or told[0][1] is LEAP)


def test_a_certain_event_settles_what_was_doubtful_before_it_and_no_case_of_the_day_after() -> None:
    found, _ = settled([(1.75, PARTICLES, np.nan), (5.0, NONE, np.nan), (39.0, PARTICLES, np.nan)])
    assert ends(found) == [(PARTICLES, Outcome.JOINED), (PARTICLES, Outcome.DEVICE)]


def test_what_is_settled_is_settled_once_while_it_lasts() -> None:
    found, outcome = settled([(1.75 + h, PARTICLES, np.nan) for h in range(50)])
    assert ends(found) == [(PARTICLES, Outcome.DEVICE)]
    known = DECIDED_AFTER_MS // HOUR_MS
    assert outcome == [Outcome.OPEN] * known + [Outcome.DEVICE] * (50 - known)


def test_a_silent_station_settles_nothing() -> None:
    assert settled([(1.75, LONE, 1.0)], hours=20)[0] == []
    assert len(settled([(1.75, LONE, 1.0)], hours=24)[0]) == 1


@pytest.mark.parametrize("seed", range(6))
def test_cuts_and_restarts_change_no_outcome(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reasons = (LONE, LEAP, PARTICLES, NONE)
    weights = (0.6, 0.15, 0.2, 0.05)
    places = np.sort(rng.choice(220, 30, replace=False))
    told = [(float(p) / 4, reasons[rng.choice(4, p=weights)], float(rng.uniform(0.5, 3.5))) for p in places]
    leaps = tuple(float(one) / 4 for one in np.sort(rng.choice(220, 3, replace=False)))
    whole = settled(told, leaps)
    assert len(whole[0]) > 1
    assert settled(told, leaps, cuts=tuple(range(1, 240))) == whole
    assert settled(told, leaps, cuts=tuple(np.sort(rng.choice(np.arange(1, 240), 9, replace=False)))) == whole
    elsewhere = settled(told, leaps, station=3)
    assert elsewhere == ([one._replace(station=3) for one in whole[0]], whole[1])


def test_a_leap_belongs_to_a_case_that_was_settled_after_it_and_to_no_earlier_one() -> None:
    for leap, known in ((10.0, True), (23.0, False)):
        told: list[Told] = [(1.75, LONE, 1.0), (30.0, LONE, 1.0)]
        whole = settled(told, (leap,))
        assert whole[0][0].leapt is known
        assert settled(told, (leap,), cuts=tuple(range(1, 240))) == whole


def test_a_quiet_batch_changes_nothing() -> None:
    memory = DoubtState()
    memory.grow(2)
    nothing = replace(made([]), station=np.empty(0, np.int64))
    result = settle_doubtful_events(nothing, (np.empty(0, np.int64),) * 2, lambda: np.empty(0, np.int64), memory)
    assert (result.settled, len(result.stations)) == ((), 0)
