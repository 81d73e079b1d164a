"""A large backlog at a real broker: what the ingest holds stays within its bounds, and all of it arrives."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest

from infra.clock import now_ms
from ingest.intake import Bounds, Intake
from ingest.pipeline import Outcome
from ingest.sources.mqtt import MqttSettings, MqttSource
from riverchief.brokers.local import Broker
from sensors.reading import Message
from sensors.wire.telemetry import topic
from tests.rig import KINDS, eventually

pytestmark = pytest.mark.broker

BACKLOG = 20_000


class Site:
    """Takes every message; ``gate`` holds it up."""

    late_waiting = 0

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.payloads: list[bytes] = []
        self.sizes: list[int] = []

    def process(self, messages: Sequence[Message], _now_ms: int) -> Outcome:
        self.gate.wait(60)
        self.payloads += [m.payload for m in messages]
        self.sizes.append(len(messages))
        none = np.zeros(len(messages), np.int64)
        return Outcome(len(messages), none, none, (), 0, (), 0)

    hear = process

    def follow_registry(self) -> bool:
        return False

    def tick(self, _connected_since_ms: int | None, _now_ms: int) -> list[Any]:
        return []


class Line:
    """A source before a site that stands in for ours."""

    def __init__(self, broker: Broker, bounds: Bounds, keepalive_s: int = 30) -> None:
        self.site = Site()
        self.intake = Intake(self.site, clock_ms=now_ms, bounds=bounds)  # type: ignore[arg-type]
        user = broker.ingest
        settings = MqttSettings(
            port=broker.port, user=user.user, password=user.password, client_id=user.user, keepalive_s=keepalive_s
        )
        self.source = MqttSource(settings, self.intake, now_ms)
        self.lane = self.source.lane

    def start(self) -> "Line":
        self.intake.start()
        self.source.start()
        return self

    def close(self) -> None:
        self.site.gate.set()
        self.source.quiesce()
        self.intake.stop()
        self.source.stop()


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", kind=request.param)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def line(broker: Broker) -> Iterator[Callable[..., Line]]:
    """Makes lines to the broker; a session exists before the first of them."""
    lines: list[Line] = []

    def make(*args: Any, **more: Any) -> Line:
        lines.append(Line(broker, *args, **more))
        return lines[-1]

    first = make(Bounds()).start()
    eventually("the session exists", lambda: first.source.connected_since_ms)
    first.close()
    yield make
    for one in lines[1:]:
        one.close()


def publish(broker: Broker, payloads: Sequence[bytes]) -> None:
    """Have the broker take these messages at QoS 1."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(broker.device.user, broker.device.password)
    client.max_inflight_messages_set(1000)
    client.connect(broker.host, broker.port)
    client.loop_start()
    sent = [client.publish(topic("s1"), payload, 1) for payload in payloads]
    eventually("the broker has taken them", lambda: all(one.is_published() for one in sent[-1000:]))
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("broker", KINDS, indirect=True)
def test_a_backlog_is_worked_off_within_the_bound_of_messages(broker: Broker, line: Callable[..., Line]) -> None:
    payloads = [b"%d" % n for n in range(BACKLOG)]
    publish(broker, payloads)
    one = line(Bounds(messages=300)).start()
    eventually("the source is full", lambda: one.lane.full)
    assert one.lane.behind_since_ms is not None
    one.site.gate.set()
    eventually("all have arrived", lambda: len(one.site.payloads) >= BACKLOG)
    eventually("it has caught up", lambda: one.lane.behind_since_ms is None and one.lane.messages == 0)
    assert one.lane.most_messages <= 300
    assert one.source.unacknowledged_peak <= 300
    assert one.site.payloads == payloads
    eventually("all are acknowledged", lambda: one.source.unacknowledged == 0)
    assert one.lane.caught_up_ms > 0


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_backlog_of_large_messages_is_worked_off_within_the_bound_of_bytes(
    broker: Broker, line: Callable[..., Line]
) -> None:
    size, most = 10_000, 200_000
    publish(broker, [b"x" * size] * 500)
    one = line(Bounds(bytes=most)).start()
    eventually("the source is full", lambda: one.lane.full)
    assert one.lane.bytes < most + size
    one.site.gate.set()
    eventually("all have arrived", lambda: len(one.site.payloads) >= 500)
    assert one.lane.most_messages <= most // size


@pytest.mark.parametrize("broker", ["nats"], indirect=True)
def test_a_store_that_is_away_longer_than_the_keepalive_costs_no_connection(
    broker: Broker, line: Callable[..., Line]
) -> None:
    publish(broker, [b"%d" % n for n in range(200)])
    one = line(Bounds(messages=10), keepalive_s=2).start()
    eventually("the source is full", lambda: one.lane.full)
    time.sleep(5)  # this broker gives a silent client up after 3 s
    one.site.gate.set()
    eventually("all have arrived", lambda: len(one.site.payloads) >= 200)
    assert len(one.site.payloads) == 200, "none was delivered a second time"
