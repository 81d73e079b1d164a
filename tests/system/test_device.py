"""Simulated devices against a real Mosquitto: sessions, last wills, and not a message lost when the broker dies."""

import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from riverchief.simulate import play_present
from sensors.parameters import catalogue
from sensors.stations import Reach, Registry, Station, Water
from sensors.wire.telemetry import Sample
from simulator.continuous_run import ContinuousSource
from simulator.devices.fleet import Connection, Fleet
from simulator.play import Progress
from simulator.replay import Table
from simulator.scenario import Event, EventKind
from tests.mosquitto import MOSQUITTO, PATIENCE_S, Broker, Subscriber, retained_status, until

pytestmark = [pytest.mark.broker, pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def watcher(broker: Broker) -> Iterator[Subscriber]:
    made = Subscriber(broker.port)
    yield made
    made.close()


def sample(at_ms: int, n: int = 2) -> Sample:
    return Sample(at_ms, dict(list({"do": 5.2, "ph": 7.4, "nh3n": 0.9}.items())[:n]))


@pytest.mark.parametrize("mqtt5", [False, True])
def test_seq_counts_messages_and_total_counts_readings_of_this_boot(broker, watcher, mqtt5):
    with Fleet(["a"], Connection(port=broker.port, mqtt5=mqtt5), boot=7) as fleet:
        for i in range(5):
            fleet["a"].publish([sample(1000 * i, n=1 + i % 3), sample(1000 * i + 500)], sent_at_ms=99)
        assert fleet["a"].flush(PATIENCE_S)
        assert (fleet["a"].messages_sent, fleet["a"].readings_sent, fleet["a"].acked) == (5, 19, 5)
    until(lambda: len(watcher.telemetry("a")) == 5)
    messages = watcher.telemetry("a")
    assert [m.seq for m in messages] == [0, 1, 2, 3, 4]
    assert [m.total for m in messages] == [3, 7, 12, 15, 19]
    assert {m.boot for m in messages} == {7}
    assert {m.sent_at_ms for m in messages} == {99}
    assert messages[0].samples == (sample(0, n=1), sample(500))


def test_a_device_says_online_and_on_closing_offline_and_both_are_retained(broker, watcher):
    fleet = Fleet(["a"], Connection(port=broker.port), boot=1)
    until(lambda: watcher.status("a") == [True])
    assert retained_status(broker.port, "a") is True
    assert fleet.close()
    until(lambda: watcher.status("a") == [True, False])
    assert retained_status(broker.port, "a") is False


def test_the_last_will_is_seen_when_the_connection_is_cut_and_the_device_comes_back(broker, watcher):
    with Fleet(["a", "b"], Connection(port=broker.port), boot=1) as fleet:
        until(lambda: watcher.status("a") == [True] and watcher.status("b") == [True])
        fleet["a"].publish([sample(0)], 0)
        assert fleet.flush(PATIENCE_S)
        fleet["a"].cut()
        until(lambda: watcher.status("a") == [True, False, True])
        fleet["a"].publish([sample(1)], 1)
        assert fleet.flush(PATIENCE_S)
        until(lambda: len(watcher.telemetry("a")) == 2)
        assert watcher.status("b") == [True], "the other device has its own session"


def test_messages_queued_before_the_broker_is_there_are_sent_when_it_comes(tmp_path):
    broker = Broker(tmp_path)
    broker.stop()
    with Fleet(["a", "b"], Connection(port=broker.port), boot=1) as fleet:
        for i in range(300):
            fleet["a"].publish([sample(i)], i)
        assert not fleet.flush(0.5)
        assert fleet["a"].unacknowledged == 300
        broker.start()
        watcher = Subscriber(broker.port)
        try:
            assert fleet.flush(PATIENCE_S)
            fleet["a"].publish([sample(300)], 300)
            until(lambda: watcher.telemetry("a") and watcher.telemetry("a")[-1].seq == 300)
        finally:
            watcher.close()
    assert fleet["a"].acked == 301
    broker.stop()


@pytest.mark.fault
@pytest.mark.parametrize("mqtt5", [False, True])
def test_a_broker_that_dies_in_the_middle_costs_no_message(broker, watcher, mqtt5):
    stations, each = ["a", "b", "c"], 1500
    with Fleet(stations, Connection(port=broker.port, mqtt5=mqtt5), boot=1) as fleet:
        for i in range(each):
            for key in stations:
                fleet[key].publish([sample(i)], i)
            if i == each // 4:
                until(lambda: fleet.acked > 0)
                broker.freeze()
            if i == each // 3:
                assert all(device.unacknowledged for device in fleet)
                broker.stop()  # in the middle, messages under way
            if i == each // 2:
                broker.start()
        assert fleet.flush(PATIENCE_S)
        until(lambda: all(len({m.seq for m in watcher.telemetry(key)}) == each for key in stations))

        broker.save()
        broker.stop(signal.SIGKILL)  # once more, without a chance to tidy up
        for key in stations:
            fleet[key].publish([sample(each)], each)
        broker.start()
        assert fleet.flush(PATIENCE_S)
        until(lambda: all(each in {m.seq for m in watcher.telemetry(key)} for key in stations))
    for key in stations:
        messages = watcher.telemetry(key)
        assert {m.seq for m in messages} == set(range(each + 1))
        assert all(m.total == 2 * (m.seq + 1) for m in messages)
        assert fleet[key].acked == fleet[key].messages_sent == each + 1


def test_two_hundred_stations_cost_one_thread_and_each_keeps_its_session(broker, watcher):
    stations = [f"station-{i}" for i in range(200)]
    before = set(threading.enumerate())
    with Fleet(stations, Connection(port=broker.port), boot=1) as fleet:
        assert len(set(threading.enumerate()) - before) == 1
        for i in range(3):
            for device in fleet:
                device.publish([sample(i)], i)
        assert fleet.flush(PATIENCE_S)
        assert fleet.connected == 200
        assert (fleet.messages_sent, fleet.readings_sent, fleet.acked) == (600, 1200, 600)
        until(lambda: sum(map(len, watcher.by_station().values())) == 600)
    found = watcher.by_station()
    assert set(found) == set(stations)
    assert all([m.seq for m in messages] == [0, 1, 2] for messages in found.values())
    until(lambda: all(watcher.status(key) == [True, False] for key in stations))
    assert set(threading.enumerate()) <= before


def test_a_full_history_message_is_sent_and_one_beyond_the_contract_is_refused_and_not_counted(broker, watcher):
    with Fleet(["a"], Connection(port=broker.port), boot=1) as fleet:
        fleet["a"].publish([sample(i, n=3) for i in range(1000)], 0)
        with pytest.raises(ValueError, match="1000 samples"):
            fleet["a"].publish([sample(i) for i in range(1001)], 0)
        with pytest.raises(ValueError, match="not a number"):
            fleet["a"].publish([Sample(0, {"do": float("nan")})], 0)
        fleet["a"].publish([sample(0)], 0)
        assert fleet.flush(PATIENCE_S)
    until(lambda: len(watcher.telemetry("a")) == 2)
    assert [(m.seq, m.total, len(m.samples)) for m in watcher.telemetry("a")] == [(0, 3000, 1000), (1, 3002, 1)]
    with pytest.raises(RuntimeError, match="closed"):
        fleet["a"].publish([sample(0)], 0)


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd is not installed")
def test_a_device_with_a_wrong_password_stays_out_and_the_others_do_not_suffer(tmp_path):
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    for user, password in (("a-user", "right"), ("everybody", "shared"), ("watcher", "w")):
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, password], check=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    watcher = Subscriber(broker.port, "watcher", "w")
    logins = {"a": ("a-user", "right"), "b": ("a-user", "wrong")}
    connection = Connection(port=broker.port, user="everybody", password="shared", logins=logins)
    try:
        fleet = Fleet(["a", "b", "c"], connection, boot=1)
        for device in fleet:
            device.publish([sample(0)], 0)
        assert fleet["a"].flush(PATIENCE_S)
        assert fleet["c"].flush(PATIENCE_S)
        assert not fleet["b"].flush(1.0)
        assert not fleet.close(timeout_s=1.0)
        assert fleet["b"].unacknowledged == 1
        until(lambda: set(watcher.by_station()) == {"a", "c"})
        assert "right" not in repr(connection)
        assert "shared" not in repr(connection)
    finally:
        watcher.close()
        broker.stop()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_devices_speak_tls_and_refuse_a_broker_they_do_not_know(tmp_path):
    certificate, key = tmp_path / "broker.crt", tmp_path / "broker.key"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, stderr=subprocess.DEVNULL
    )
    broker = Broker(tmp_path, f"certfile {certificate}", f"keyfile {key}", "allow_anonymous true")
    try:
        trusting = ssl.create_default_context(cafile=str(certificate))
        with Fleet(["a", "b"], Connection(port=broker.port, tls=trusting), boot=1) as fleet:
            for i in range(500):
                for device in fleet:
                    device.publish([sample(i)], i)
            assert fleet.flush(PATIENCE_S)
            assert fleet.acked == 1000
        stranger = Fleet(["c"], Connection(port=broker.port, tls=ssl.create_default_context()), boot=1)
        stranger["c"].publish([sample(0)], 0)
        assert not stranger.flush(1.0)
        assert not stranger.close(timeout_s=0.2)
    finally:
        broker.stop()


REGISTRY = Registry(
    stations=(
        Station("qcc-1", "奇槎涌一", "Qicha 1", 113.15, 23.02, "qcc", Water.CREEK, parameters=("do", "nh3n")),
        Station("qcc-2", "奇槎涌二", "Qicha 2", 113.15, 23.01, water=Water.CREEK),
        Station("cat-point", "回放", "replayed", 113.17, 23.03),
    ),
    reaches=(Reach("qcc", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.15, 23.03), (113.15, 23.0))),),
    catalogue=catalogue(),
)
RECORDED = Table(
    np.array(["cat_point"] * 200),
    1_400_000_000_000 + np.arange(200, dtype=np.int64) * 900_000,
    {"do": 100 + np.arange(200) / 10, "ph": np.where(np.arange(200) % 2, 7.0, np.nan)},
)


def sewage(live_ms: int) -> tuple[Event, ...]:
    start_ms = live_ms + 60_000
    return (Event("sewage", EventKind.SEWAGE, start_ms, start_ms + 3_600_000, reach="qcc", km=0.5, sudden=True),)


def test_a_run_sends_history_then_live_readings_and_counts_both(broker, watcher):
    start_ms = time.time_ns() // 1_000_000
    stop = threading.Event()

    def progress(told: Progress) -> None:
        if source.live_from_ms is not None and told.at_ms > source.live_from_ms + 1200:
            stop.set()

    with ContinuousSource(
        REGISTRY,
        start_ms=start_ms,
        history_days=1,
        step_s=60,
        interval_s=0.3,
        seed=4,
        replay=[RECORDED],
        happening=sewage,
    ) as source:
        played = play_present(
            source,
            REGISTRY,
            Connection(port=broker.port),
            seed=4,
            stop=stop,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            on_progress=progress,
        )
    until(lambda: sum(map(len, watcher.by_station().values())) == played.messages)
    found = watcher.by_station()
    assert set(found) == set(source.stations) == {"qcc-1", "qcc-2", "cat-point"}
    assert played.answered
    assert played.acked == played.messages
    readings = 0
    for messages in found.values():
        assert [m.seq for m in messages] == list(range(len(messages)))
        of_station = sum(len(s.values) for m in messages for s in m.samples)
        assert of_station == messages[-1].total
        readings += of_station
        assert all(np.diff([s.at_ms for m in messages for s in m.samples]) > 0)
        assert len({m.boot for m in messages}) == 1
    assert readings == played.readings

    history = [s for m in found["qcc-1"] for s in m.samples if s.at_ms < start_ms]
    live = [(m, s) for m in found["qcc-1"] for s in m.samples if s.at_ms >= start_ms]
    assert len(history) == 1440
    assert max(len(m.samples) for m in found["qcc-1"]) == 250
    assert set(history[0].values) == {"do", "nh3n"}
    assert max(s.values["nh3n"] for s in history) < 2
    assert len(live) > 1
    assert all(s.at_ms == m.sent_at_ms for m, s in live), "the instant of publishing is the instant of the reading"
    assert source.live_from_ms is not None
    assert live[0][1].at_ms >= source.live_from_ms
    assert [e.name for e in source.events] == ["sewage"], "the discharge belongs to the truth of the run"

    replayed = [s for m in found["cat-point"] for s in m.samples]
    before = [s for s in replayed if s.at_ms < start_ms]
    assert [s.values["do"] for s in before] == [100 + i / 10 for i in range(96)]
    assert before[-1].at_ms == start_ms - 900_000
    after = [s.values["do"] for s in replayed[96:]]
    assert after == [100 + i / 10 for i in range(96, 96 + len(after))]
