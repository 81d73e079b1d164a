"""How a run is paced, what it says, and the bytes of its mass devices."""

import pytest
from typer.testing import CliRunner

from infra.errors import ConfigurationError
from riverchief import simulate
from riverchief.cli.app import app
from riverchief.cli.simulate import ProgressReporter
from sensors.parameters import catalogue
from sensors.stations import Deployment, Registry, Station
from sensors.wire.telemetry import Sample
from simulator.continuous_run import ContinuousSource
from simulator.devices import mqtt_packets
from simulator.devices.reported_values import Reporting
from simulator.play import AS_FAST_AS_POSSIBLE, LineState, Pace, Progress
from simulator.source import BufferedSource
from tests.says import says

NOW = 1_780_000_000_000
HOUR = 3_600_000


@pytest.mark.parametrize(("speed", "start_ms"), [(1.0, NOW), (60.0, NOW - 59 * 60_000), (0.5, NOW)])
def test_a_run_of_an_hour_begins_so_that_it_never_plays_the_future(speed, start_ms):
    pace = Pace.ending_now(NOW, HOUR, speed)
    assert pace.start_ms == start_ms
    assert all(pace.due_ms(NOW + s * 1000) <= NOW + s * 1000 for s in range(round(3600 / max(speed, 1)) + 1))
    if speed >= 1:
        over_ms = NOW + round(HOUR / speed)
        assert pace.due_ms(over_ms) == over_ms == pace.start_ms + HOUR, "it ends in the present"


def test_as_fast_as_possible_lies_wholly_in_the_past():
    assert Pace.ending_now(NOW, HOUR, AS_FAST_AS_POSSIBLE).start_ms == NOW - HOUR
    with pytest.raises(ValueError, match="above zero"):
        Pace.ending_now(NOW, HOUR, 0.0)


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("60", 60.0), ("60x", 60.0), ("0.5", 0.5)])
def test_a_speed_is_a_number(text, value):
    assert simulate.speed(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_a_speed_that_is_none_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match=says("simulate.speed")):
        simulate.speed(text)


def test_where_loggers_go_and_who_they_are():
    assert simulate.speed("max") == AS_FAST_AS_POSSIBLE
    assert simulate.address("gateway.example:9212") == ("gateway.example", 9212)
    assert simulate.address("[::1]:9212") == ("::1", 9212)
    for bad in ("gateway", "gateway:", ":9212", "gateway:70000", "gateway:x"):
        with pytest.raises(ConfigurationError, match=says("simulate.gateway")):
            simulate.address(bad)
    found = simulate.loggers(["a=MN1", "b=MN2"], "123456")
    assert {key: known.mn for key, known in found.items()} == {"a": "MN1", "b": "MN2"}
    assert "123456" not in repr(found)
    for bad_entries in (["a"], ["=MN1"], ["a=MN 1"], ["a=MN1", "a=MN2"]):
        with pytest.raises(
            ConfigurationError,
            match=says("simulate.logger_twice")
            if len(bad_entries) > 1
            else says("simulate.logger", entry=bad_entries[0]),
        ):
            simulate.loggers(bad_entries, "")


def test_what_is_made_ahead_comes_out_in_order_once_and_to_the_end():
    asked: list[tuple[int, int]] = []

    def make(from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        asked.append((from_ms, to_ms))
        return [("a", Sample(at, {"do": 1.0})) for at in range(from_ms, to_ms, 10)]

    with BufferedSource(make, 0, 250, stretch_ms=100) as source:
        assert [s.at_ms for _, s in source.advance(0)] == []
        assert [s.at_ms for _, s in source.advance(5)] == [0]
        assert [s.at_ms for _, s in source.advance(125)] == list(range(10, 130, 10))
        assert [s.at_ms for _, s in source.advance(10_000)] == list(range(130, 250, 10))
        assert list(source.advance(20_000)) == []
    assert asked == [(0, 100), (100, 200), (200, 250)]


def test_what_goes_wrong_while_the_water_is_made_is_not_swallowed():
    def make(from_ms: int, to_ms: int) -> list[tuple[str, Sample]]:
        raise ValueError("the river is dry")

    with BufferedSource(make, 0) as source, pytest.raises(ValueError, match="dry"):
        list(source.advance(1))


def test_a_sample_is_reported_in_the_unit_and_by_the_gain_in_force_at_its_instant():
    registry = Registry(
        (Station("a", "站", "a", 113.1, 23.0),),
        (
            Deployment("a", "conductivity", 0, "mS/cm"),
            Deployment("a", "conductivity", 1000, "µS/cm", gain=2.0, offset=10.0),
        ),
        catalogue=catalogue(),
    )
    reporting = Reporting(registry)
    assert reporting("a", Sample(0, {"conductivity": 400.0, "do": 5.0})).values == {"conductivity": 0.4, "do": 5.0}
    assert reporting("a", Sample(1000, {"conductivity": 400.0})).values == {"conductivity": 195.0}
    other = Sample(0, {"conductivity": 400.0})
    assert reporting("b", other) is other


def progress(connected: int, refusal: str = "") -> Progress:
    state = LineState("MQTT broker.example:1883", connected, 5, 0, 0, refusal)
    return Progress(NOW, NOW, NOW + HOUR, 0, 0, 0, (state,))


def test_a_broker_that_is_away_is_told_once_and_its_return_too():
    teller = ProgressReporter()
    assert teller.connection_changes(progress(5), 0.0) == []
    assert teller.connection_changes(progress(0), 10.0) == [], "a blink is not told"
    (away,) = teller.connection_changes(progress(0), 13.0)
    assert "MQTT broker.example:1883" in away
    assert "keep what they measure" in away
    assert teller.connection_changes(progress(0), 60.0) == []
    (back,) = teller.connection_changes(progress(5), 52.0)
    assert "answers again after 42 s" in back
    assert teller.connection_changes(progress(5), 70.0) == []


def test_a_refusal_is_told_with_its_reason_and_not_as_an_absence():
    teller = ProgressReporter()
    (told,) = teller.connection_changes(progress(0, "Not authorized"), 0.0)
    assert "Not authorized" in told
    assert teller.connection_changes(progress(0, "Not authorized"), 60.0) == []


def test_publish_connect_and_answers_are_as_mqtt_311_writes_them():
    """Bytes written by hand from OASIS MQTT 3.1.1, sections 3.1, 3.3, 3.4 and 2.2.3."""
    assert mqtt_packets.connect("c", "u", "p", 60) == bytes.fromhex(
        "10 13 0004 4d515454 04 c0 003c 0001 63 0001 75 0001 70"
    )
    assert mqtt_packets.connect("c", None, None, 0, clean=True) == bytes.fromhex(
        "10 0d 0004 4d515454 04 02 0000 0001 63"
    )
    assert mqtt_packets.publish("a/b", b"hi", 10) == bytes.fromhex("32 09 0003 612f62 000a 6869")
    assert mqtt_packets.publish("a", b"", 1, retain=True)[0] == 0x33
    assert mqtt_packets.again(mqtt_packets.publish("a", b"", 1))[0] == 0x3A
    assert mqtt_packets.publish("a", b"x" * 200, 1)[1:3] == bytes.fromhex("cd 01"), "a length of 205 takes two bytes"
    heard = bytearray(bytes.fromhex("20 02 00 05  40 02 00 0a  d0 00  40 02 00"))
    assert list(mqtt_packets.answers(heard)) == [
        (mqtt_packets.CONNACK, b"\x00\x05"),
        (mqtt_packets.PUBACK, b"\x00\x0a"),
        (13, b""),
    ]
    assert heard == bytes.fromhex("40 02 00"), "half a packet waits for its rest"
    heard += b"\x0b"
    assert list(mqtt_packets.answers(heard)) == [(mqtt_packets.PUBACK, b"\x00\x0b")]
    assert not heard


def test_the_way_up_to_the_present_is_hurried_and_the_present_keeps_the_clock():
    pace = Pace(NOW - HOUR, NOW - HOUR, hurry_until_ms=NOW)
    assert pace.hurries(NOW - HOUR)
    assert pace.hurries(NOW - 1)
    assert not pace.hurries(NOW)
    assert pace.due_ms(NOW + 17) == NOW + 17


def test_readings_of_the_present_are_spread_over_the_interval_and_missed_ones_are_not_sent_in_a_burst():
    stations = tuple(Station(f"s{i}", "站", "s", 113.1, 23.0, parameters=("do",)) for i in range(4))
    at: dict[str, list[int]] = {}
    with ContinuousSource(
        Registry(stations, catalogue=catalogue()),
        start_ms=NOW,
        history_days=0,
        step_s=900,
        interval_s=10,
        seed=1,
        happening=lambda live_ms: (),
    ) as source:
        awake = [*range(NOW + 1, NOW + 22_000, 100), *range(NOW + 63_000, NOW + 80_000, 100)]
        for now_ms in awake:  # the machine was asleep in between
            for station, sample in source.advance(now_ms):
                assert sample.at_ms == now_ms
                at.setdefault(station, []).append(now_ms - NOW)
        assert source.live_from_ms == NOW + 1
    assert [times[:3] for times in at.values()] == [
        [1, 10_001, 20_001],
        [2_501, 12_501, 63_000],
        [5_001, 15_001, 63_000],
        [7_501, 17_501, 63_000],
    ]
    assert all(times[-1] >= 69_000 for times in at.values())
    assert all(times.count(63_000) == 1 for times in at.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--speed 60", "--speed needs a scenario"),
        ("--logger-password-file pw", "--logger-password-file needs a scenario"),
        ("calm-week --every 5", "--every is for the site's own stations"),
        ("calm-week --out x.csv --truth y.csv", "--truth is for a run over real lines; --out publishes nothing"),
        ("calm-weak", "no shipped scenario and no .toml file is called 'calm-weak'; did you mean calm-week?"),
        ("gone.toml", "gone.toml does not exist"),
    ],
)
def test_what_a_run_would_ignore_or_cannot_find_is_refused_by_name(options, said):
    done = CliRunner().invoke(app, ["simulate", *options.split()])
    assert isinstance(done.exception, ConfigurationError)
    assert said in str(done.exception)
