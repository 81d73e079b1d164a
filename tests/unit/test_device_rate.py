"""A device that sends far beyond its registered rate is found by the times of its readings; a backlog is not."""

from collections.abc import Sequence

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange
from ingest.rules import device_rate
from ingest.rules.alarm_state import Alarm, AlarmKey, update_alarms
from ingest.rules.device_faults import QUIET_MS
from ingest.rules.device_rate import FREE_MESSAGES_PER_MINUTE, WINDOW_MS, RateMonitor
from sensors.parameters import catalogue
from sensors.reading import Batch
from sensors.stations import Registry, Station

CATALOGUE = catalogue()
T0 = 1_778_581_800_000
MINUTE, DAY = 60_000, 86_400_000
SITE = Registry(
    tuple(Station(f"s{i}", f"示例{i}", f"example {i}", 113.1, 23.0, interval_s=60) for i in range(40)),
    catalogue=CATALOGUE,
)
SIZE = 2000


def beyond(monitor: RateMonitor, at: Sequence[int], now_ms: int = T0, station: int | Sequence[int] = 0) -> int:
    """How many messages of one reading each are beyond the rate, given in batches that all arrive now."""
    stations = np.broadcast_to(np.asarray(station), len(at))
    found = 0
    for first in range(0, len(at), SIZE):
        part = slice(first, first + SIZE)
        n = len(at[part])
        batch = Batch.of(stations[part].tolist(), [3] * n, at[part], [7.0] * n, message=list(range(n)))
        found += len(monitor.beyond(batch, np.ones(n, np.bool_), SITE, now_ms))
    return found


@pytest.mark.parametrize("step_ms", [0, 1, 10])
def test_a_device_that_repeats_a_time_or_fills_a_minute_keeps_its_rate_and_the_rest_is_beyond(step_ms: int) -> None:
    monitor = RateMonitor()
    assert beyond(monitor, [T0 + i * step_ms for i in range(6 * FREE_MESSAGES_PER_MINUTE)]) >= FREE_MESSAGES_PER_MINUTE
    assert list(monitor.flooding) == ["s0"]


def test_a_month_that_one_device_held_back_is_within_its_rate_also_when_it_is_delivered_twice() -> None:
    monitor = RateMonitor()
    held_back = [T0 - 30 * DAY + i * MINUTE for i in range(30 * 1440)]
    assert beyond(monitor, held_back) == beyond(monitor, held_back) == 0
    assert not monitor.flooding


def test_the_backlogs_of_forty_devices_are_within_their_rates() -> None:
    monitor = RateMonitor()
    at = [T0 - DAY + (i // 40) * MINUTE for i in range(40 * 1440)]
    assert beyond(monitor, at, station=[i % 40 for i in range(len(at))]) == 0


def test_a_buffer_that_is_sent_over_and_over_is_beyond_the_rate() -> None:
    monitor = RateMonitor()
    assert (
        beyond(monitor, [T0 - DAY + i % 10 * MINUTE for i in range(20 * FREE_MESSAGES_PER_MINUTE)])
        > 5 * FREE_MESSAGES_PER_MINUTE
    )


def test_a_clock_that_stands_still_is_no_flood_however_long_it_does() -> None:
    monitor = RateMonitor()
    each_second = (T0 + i * 10_000 for i in range(360))
    assert sum(beyond(monitor, [T0] * 20, now_ms) for now_ms in each_second) == 0


def test_of_two_devices_only_the_one_that_floods_is_beyond_its_rate_and_named() -> None:
    monitor = RateMonitor()
    flood = [(0, T0 + i) for i in range(4 * FREE_MESSAGES_PER_MINUTE)]
    others = [(s, T0 + m * MINUTE) for m in range(20) for s in range(1, 40)]
    both = sorted(flood + others, key=lambda one: one[1])
    beyond(monitor, [at for _, at in both], station=[s for s, _ in both])
    assert list(monitor.flooding) == ["s0"]


def test_messages_of_one_parameter_each_are_counted_apart() -> None:
    monitor, n = RateMonitor(), 5 * FREE_MESSAGES_PER_MINUTE
    batch = Batch.of([0] * n, [i % 10 for i in range(n)], [T0] * n, [1.0] * n, message=list(range(n)))
    assert not len(monitor.beyond(batch, np.ones(n, np.bool_), SITE, T0))


def test_a_batch_that_comes_again_after_a_failure_is_not_counted_twice() -> None:
    monitor, fewer = RateMonitor(), [T0] * (FREE_MESSAGES_PER_MINUTE // 2)
    for _ in range(10):
        assert beyond(monitor, fewer) == 0
        monitor.forget()


def test_the_finding_begins_once_and_ends_when_the_device_was_quiet_for_a_while() -> None:
    monitor, alarms = RateMonitor(), dict[AlarmKey, Alarm]()
    found = []
    for minute in range(3):
        now_ms = T0 + minute * MINUTE
        beyond(monitor, [now_ms] * 3 * FREE_MESSAGES_PER_MINUTE, now_ms)
        found += (told := monitor.faults.begun(SITE, alarms, now_ms) + monitor.faults.ended(SITE, alarms, now_ms))
        update_alarms(alarms, told)
    assert [(one.rule, one.station, one.change) for one in found] == [(device_rate.RULE, "s0", ConditionChange.FIRED)]
    assert monitor.faults.ended(SITE, alarms, now_ms + QUIET_MS - 1) == []
    (over,) = monitor.faults.ended(SITE, alarms, now_ms + QUIET_MS)
    assert (over.change, over.since_ms) == (ConditionChange.RESOLVED, found[0].since_ms)
    assert not monitor.flooding


def test_after_a_start_a_finding_ends_only_once_the_device_was_watched_for_a_while() -> None:
    alarms = {(device_rate.RULE, "s0", ""): Alarm("device:s0", T0 - DAY, T0 - DAY, False)}
    monitor = RateMonitor()
    assert monitor.faults.ended(SITE, alarms, T0) == []
    assert [one.station for one in monitor.faults.ended(SITE, alarms, T0 + QUIET_MS)] == ["s0"]


def test_counts_begin_anew_with_each_window() -> None:
    monitor, most = RateMonitor(), [T0] * FREE_MESSAGES_PER_MINUTE + [T0] * (FREE_MESSAGES_PER_MINUTE // 2)
    assert beyond(monitor, most) == beyond(monitor, most, T0 + WINDOW_MS) == 0
