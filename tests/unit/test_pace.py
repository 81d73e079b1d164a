"""How far behind and until when: the estimate of a backlog, from what was done and from when it was sent."""

import pytest

from ingest import pace
from ingest.pace import Look

T0 = 1_790_000_000_000
NORMAL_PER_S = 100.0


def worked_off(seconds: int, *, speed: float, age_s: float, per_s: float) -> tuple[Look, ...]:
    """A look each second while ``per_s`` messages a second are done and the backlog is worked off at ``speed``."""
    looks: tuple[Look, ...] = ()
    for s in range(seconds + 1):
        sent_ms = T0 + round((s * speed - age_s) * 1000)
        looks = pace.add(looks, Look(T0 + s * 1000, round(s * per_s), sent_ms))
    return looks


def test_after_an_outage_the_messages_at_the_broker_are_counted_and_the_time_is_right() -> None:
    """An hour of 100 a second waits and 500 a second are done: five seconds of sending in each, four of them gain."""
    looks = worked_off(30, speed=5.0, age_s=3600.0, per_s=500.0)
    found = pace.estimate(looks, looks[-1], 10_000, NORMAL_PER_S)
    left_s = 3600 - 4 * 30
    assert found.messages == pytest.approx(left_s * NORMAL_PER_S, rel=0.01)
    assert found.seconds == pytest.approx(left_s / 4, rel=0.01)
    assert found.catching_up


def test_under_ten_times_the_rate_the_backlog_grows_and_the_time_is_that_at_the_usual_rate() -> None:
    looks = worked_off(60, speed=0.2, age_s=0.0, per_s=200.0)
    found = pace.estimate(looks, looks[-1], 10_000, NORMAL_PER_S)
    assert found.messages == pytest.approx(60 * 0.8 * 1000, rel=0.01)
    assert found.seconds == pytest.approx(found.messages / 100, rel=0.01)
    assert not found.catching_up, "twice the usual rate is done, and what is stored gets older all the same"


@pytest.mark.parametrize("per_s", [0.0, 50.0, 100.0])
def test_who_does_less_than_comes_does_not_catch_up(per_s: float) -> None:
    looks = worked_off(30, speed=per_s / NORMAL_PER_S, age_s=60.0, per_s=per_s)
    found = pace.estimate(looks, looks[-1], 777, NORMAL_PER_S)
    assert (found.seconds, found.catching_up) == (None, False)
    assert found.messages >= 777


def test_a_standstill_is_seen_although_nobody_looked_since() -> None:
    looks = worked_off(30, speed=5.0, age_s=3600.0, per_s=500.0)
    stands = Look(looks[-1].at_ms + pace.WINDOW_MS, looks[-1].done, looks[-1].sent_ms)
    assert pace.estimate(looks, stands, 777, NORMAL_PER_S) == pace.Estimate(777, None)


def test_without_times_of_sending_only_what_is_held_is_counted() -> None:
    looks = tuple(Look(T0 + s * 1000, s * 300, None) for s in range(20))
    assert pace.estimate(looks, looks[-1], 1000, NORMAL_PER_S) == pace.Estimate(1000, 5.0, catching_up=True)


def test_a_clock_set_back_begins_the_looks_anew_and_old_ones_are_forgotten() -> None:
    looks = worked_off(200, speed=1.0, age_s=0.0, per_s=1.0)
    assert len(looks) <= pace.WINDOW_MS // 1000 + 1
    assert pace.add(looks, Look(T0, 0, None)) == (Look(T0, 0, None),)
