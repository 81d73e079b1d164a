"""The private methods of paho that :class:`BufferedClient` replaces or calls: a version that changes them fails here.

A listener on loopback stands for the broker, so that a failure names paho and nothing else.
"""

import inspect
import select
import socket
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from infra.clock import now_ms
from ingest.intake import Bounds, Intake, PendingMessage
from ingest.sources.mqtt import MqttSettings, MqttSource
from ingest.sources.paho_client import BufferedClient, BufferedSocket
from tests.rig import eventually

ROOT = Path(__file__).parents[2]
CONNACK = bytes.fromhex("20 02 00 00")
PATIENCE_S = 30


def publish(topic: bytes, mid: int) -> bytes:
    """A PUBLISH packet of QoS 1 with an empty payload."""
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big")
    return bytes([0x32, len(body)]) + body


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


@pytest.fixture
def client(listener: socket.socket) -> Iterator[BufferedClient]:
    client = BufferedClient(CallbackAPIVersion.VERSION2, client_id="c", manual_ack=True)
    client.may_read = lambda: True
    client.connect("127.0.0.1", listener.getsockname()[1])
    yield client
    client.disconnect()


def accepted(listener: socket.socket) -> socket.socket:
    """The broker's side of the connection, once it has read CONNECT."""
    side, _ = listener.accept()
    side.settimeout(PATIENCE_S)
    assert side.recv(1)[0] == 0x10
    side.recv(1000)
    return side


def test_paho_is_pinned_below_the_next_version_and_has_the_methods_with_these_arguments() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (paho_,) = [one for one in wanted if one.startswith("paho-mqtt")]
    assert ",<" in paho_
    arguments = {
        name: [*inspect.signature(getattr(paho.Client, name)).parameters]
        for name in ("_create_socket", "_packet_queue")
    }
    assert arguments["_create_socket"] == ["self"]
    assert isinstance(paho.Client(CallbackAPIVersion.VERSION2)._last_bytes_received, float)  # of time.monotonic
    assert arguments["_packet_queue"][:5] == ["self", "command", "packet", "mid", "qos"]
    assert BufferedClient.__mro__[1] is paho.Client


def test_all_packets_of_one_read_reach_the_one_callback(listener: socket.socket, client: BufferedClient) -> None:
    received: list[int] = []
    filtered: list[int] = []
    client.on_message = lambda _client, _userdata, message: received.append(message.mid)
    client.message_callback_add("#", lambda _client, _userdata, message: filtered.append(message.mid))
    with accepted(listener) as side:
        assert isinstance(client.socket(), BufferedSocket)
        side.sendall(CONNACK + b"".join(publish(b"a/b", mid) for mid in (1, 2, 3)))
        select.select([client.socket()], [], [], PATIENCE_S)
        client.loop_read()
    assert (received, filtered) == ([1, 2, 3], [])


def test_packets_cut_anywhere_and_a_length_that_is_none_are_read_as_the_protocol_says(
    listener: socket.socket, client: BufferedClient
) -> None:
    received: list[tuple[str, bytes, int, int]] = []
    client.on_message = lambda _c, _u, one: received.append((one.topic, one.payload, one.mid, one.qos))
    large = b"x" * 70_000
    body = b"\x00\x03a/b\x00\x07" + large
    unacknowledged = b"\x30\x05\x00\x03a/b"
    stream = publish(b"a/b", 9) + b"\x32\xf7\xa2\x04" + body + CONNACK + unacknowledged
    with accepted(listener) as side:
        for piece in (stream[:1], stream[1:3], stream[3:20], stream[20:-4], stream[-4:]):
            side.sendall(piece)
            for _ in range(4):
                select.select([client.socket()], [], [], 0.02)
                client.loop_read()
        assert received == [("a/b", b"", 9, 1), ("a/b", large, 7, 1), ("a/b", b"", 0, 0)]
        assert client.is_connected()
        side.sendall(b"\x32\xff\xff\xff\xff\xff")
        select.select([client.socket()], [], [], PATIENCE_S)
        client.loop_read()
        client.loop_read()
        assert client.socket() is None


def test_acknowledgements_and_a_ping_are_written_as_the_protocol_says(
    listener: socket.socket, client: BufferedClient
) -> None:
    with accepted(listener) as side:
        client.acknowledge(np.array([1, 2, 0x1234]))
        assert side.recv(100) == bytes.fromhex("40020001 40020002 40021234")
        client.ping()
        assert side.recv(100) == bytes.fromhex("c000")


def test_a_topic_that_is_not_utf_8_ends_neither_the_thread_nor_the_message(listener: socket.socket) -> None:
    intake = Intake(None, clock_ms=now_ms, bounds=Bounds())  # type: ignore[arg-type]
    source = MqttSource(MqttSettings(port=listener.getsockname()[1]), intake, now_ms)
    source.start()
    try:
        with accepted(listener) as side:
            side.sendall(CONNACK + publish(b"river/\xff", 1) + publish(b"river/b", 2))
            eventually("both have arrived", lambda: source.lane.messages == 2)
            assert [one.message.topic for one in source.lane.take(2)] == ["river/�", "river/b"]
            assert source.alive
    finally:
        source.stop()


def test_a_message_of_an_earlier_connection_is_not_acknowledged_on_the_next(listener: socket.socket) -> None:
    durable: list[Callable[[Sequence[PendingMessage]], None]] = []

    class Recorded(Intake):
        def after_batch(self, callback: Callable[[Sequence[PendingMessage]], None]) -> None:
            durable.append(callback)

    intake = Recorded(None, clock_ms=now_ms, bounds=Bounds())  # type: ignore[arg-type]
    source = MqttSource(MqttSettings(port=listener.getsockname()[1]), intake, now_ms)
    source.start()
    try:
        with accepted(listener) as side:
            side.sendall(CONNACK + publish(b"a/b", 9))
            eventually("the first has arrived", lambda: source.lane.messages == 1)
        with accepted(listener) as side:
            side.sendall(CONNACK + publish(b"a/b", 0x1234))
            eventually("the second has arrived", lambda: source.lane.messages == 2)
            (acknowledge,) = durable
            acknowledge(source.lane.take(2))
            received = b""
            while not received.endswith(bytes.fromhex("40021234")):
                received += side.recv(1000)
            assert bytes.fromhex("40020009") not in received
    finally:
        source.stop()
