"""A device's clock is wrong when what it says of the time stays off by the same, message for message."""

from collections.abc import Iterable

import pytest

from governance.incidents.finding import ConditionChange, Finding
from ingest.rules import device_clock
from ingest.rules.alarm_state import Alarm, AlarmKey, update_alarms
from ingest.rules.device_clock import ClockMonitor
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire import mapping
from sensors.wire.decode import decode
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests.says import shows

CATALOGUE = catalogue()
T0 = 1_778_581_800_000
MINUTE, HOUR = 60_000, 3_600_000
SITE = Registry(
    tuple(Station(f"s{i}", f"示例{i}", f"example {i}", 113.1, 23.0) for i in range(30)), catalogue=CATALOGUE
)


class Line:
    """Messages that arrive one by one; the alarms they lead to."""

    def __init__(self) -> None:
        self.clocks, self.alarms = ClockMonitor(), dict[AlarmKey, Alarm]()

    def handle_device_messages(
        self, received: int, at: int, station: str = "s0", source: str = "mqtt", sent: int | None = None
    ) -> list:
        body = encode(Telemetry((Sample(at, {"ph": 7.0}),), sent_at_ms=sent))
        said = [Message(station, body, received, source)]
        found = self.clocks.follow(decode(said, CATALOGUE, {}, mapping.NONE), said, SITE, self.alarms)
        update_alarms(self.alarms, found)
        return found

    def every_five_minutes(self, behind: Iterable[int], start: int = T0, **how: str) -> list[Finding]:
        told = []
        for i, off in enumerate(behind):
            received = start + i * 5 * MINUTE
            told += self.handle_device_messages(received, received - off, **how)
        return told


@pytest.mark.parametrize(
    ("off", "key"),
    [(8 * HOUR, "device.clock_behind"), (-2 * HOUR, "device.clock_ahead"), (-8 * HOUR, "device.clock_ahead")],
)
def test_a_clock_that_is_hours_wrong_for_an_hour_is_told_once_until_it_is_set(off: int, key: str) -> None:
    line = Line()
    (told,) = line.every_five_minutes([off] * 40)
    assert (told.change, told.rule, told.cause) == (ConditionChange.FIRED, device_clock.RULE, "device:s0")
    assert told.observed_at_ms == T0 + HOUR
    assert shows(told.text.en, key, off=f"{abs(off) // HOUR} h")
    (over,) = line.handle_device_messages(T0 + 4 * HOUR, T0 + 4 * HOUR)
    assert (over.change, over.since_ms) == (ConditionChange.RESOLVED, told.since_ms)
    assert line.handle_device_messages(T0 + 5 * HOUR, T0 + 5 * HOUR) == []


def test_after_a_restart_a_wrong_clock_that_was_told_is_not_told_again() -> None:
    line = Line()
    assert line.every_five_minutes([8 * HOUR] * 20)
    line.clocks = ClockMonitor()
    assert line.every_five_minutes([8 * HOUR] * 20, T0 + 2 * HOUR) == []


def test_a_clock_that_was_wrong_for_half_an_hour_before_a_restart_needs_half_an_hour_more() -> None:
    line = Line()
    assert line.every_five_minutes([8 * HOUR] * 6) == []
    line.clocks = ClockMonitor(
        {one: off for one, off in line.clocks.changed(T0 + HOUR // 2).items() if off is not None}
    )
    (told,) = line.every_five_minutes([8 * HOUR] * 12, T0 + 6 * 5 * MINUTE)
    assert told.observed_at_ms == T0 + HOUR


def test_a_message_from_before_that_comes_again_ends_nothing() -> None:
    line = Line()
    line.handle_device_messages(T0, T0)
    assert line.every_five_minutes([8 * HOUR] * 20, T0 + 5 * MINUTE)
    assert line.handle_device_messages(T0, T0) == []
    assert line.handle_device_messages(T0 + 3 * HOUR, T0 + 3 * HOUR), "the clock is right again"


def test_a_logger_that_was_offline_and_sends_its_memory_has_no_wrong_clock() -> None:
    day, hour = 288, 12
    assert Line().every_five_minutes((day - 4 * i) * 5 * MINUTE for i in range(72)) == [], "four at a time"
    assert Line().every_five_minutes((7 * day - i) * 5 * MINUTE for i in range(2 * day)) == [], "twice as fast as life"
    assert Line().every_five_minutes([*[2 * HOUR] * hour, *[0] * hour] * 3) == [], "held up, but not for an hour"


def test_an_analysers_result_is_of_water_taken_an_hour_before() -> None:
    assert Line().every_five_minutes([HOUR + 10 * MINUTE] * 60) == []


def test_what_a_device_says_of_when_it_sent_goes_before_the_age_of_its_readings() -> None:
    line = Line()
    for i in range(30):  # one that always sends what is six hours old, and knows what time it is
        assert (
            line.handle_device_messages(T0 + i * 5 * MINUTE, T0 + i * 5 * MINUTE - 6 * HOUR, sent=T0 + i * 5 * MINUTE)
            == []
        )


def test_files_that_people_upload_may_be_of_any_age() -> None:
    assert Line().every_five_minutes([8 * HOUR] * 40, source="http") == []


def test_when_most_stations_are_off_it_is_our_own_clock() -> None:
    line = Line()
    for i in range(20):
        for station in range(20):
            received = T0 + i * 5 * MINUTE
            assert line.handle_device_messages(received, received - 8 * HOUR, f"s{station}") == []
    later = T0 + 20 * 5 * MINUTE
    assert line.clocks.changed(later) == {}, "every message of every station would be written down"
    for station in range(20, 30):
        line.handle_device_messages(later, later, f"s{station}")
    for station in range(1, 20):
        line.handle_device_messages(later + 1, later + 1, f"s{station}")
    written = line.clocks.changed(later + 1)
    assert {one for one, off in written.items() if off is not None} == {"s0"}, "it waited, and was not forgotten"


def test_strangers_and_messages_without_a_time_say_nothing() -> None:
    line = Line()
    assert line.every_five_minutes([8 * HOUR] * 20, station="nobody") == []
    said = [Message("s0", b"garbage", T0 + i * 5 * MINUTE) for i in range(20)]
    assert line.clocks.follow(decode(said, CATALOGUE, {}, mapping.NONE), said, SITE, {}) == []
