"""Load generator: messages of many stations over one MQTT connection, written straight to the socket.

paho spends about as much time publishing a message as the whole ingest spends on it; a benchmark would then measure its
own generator. So this writes the packets of MQTT itself (:mod:`simulator.devices.mqtt_packets`). Started as a process
of its own; reads its orders as JSON on standard input and answers with JSON lines.
"""

import json
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from simulator.devices import mqtt_packets

BASE = {"water_temp": 25.0, "ph": 7.1, "do": 5.0, "conductivity": 400.0, "turbidity": 20.0, "nh3n": 0.9}
"""Six ordinary values of a message; noise of half a percent keeps every check busy and none of them alarmed."""
OVER_NH3N = 6.0
WINDOW = 1000


class Publisher:
    """One QoS 1 publisher with at most ``WINDOW`` unacknowledged messages."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next = 0
        self.sent = 0
        self.acknowledged = 0
        self._socket.sendall(mqtt_packets.connect(f"load-{random.getrandbits(32):08x}", user, password, 0, clean=True))
        answer = self._socket.recv(4)
        if len(answer) < 4 or answer[3] != 0:
            raise ConnectionError(f"the broker refuses the load generator: {answer.hex()}")
        self._rest = 0

    def packet(self, name: str, payload: bytes) -> bytes:
        self._next = self._next % 65_535 + 1
        return mqtt_packets.publish(name, payload, self._next)

    def send(self, messages: list[bytes]) -> None:
        """Send, reading acknowledgements whenever the window is full."""
        for start in range(0, len(messages), 100):
            some = messages[start : start + 100]
            while self.sent - self.acknowledged + len(some) > WINDOW:
                self._read(10.0)
            self._socket.sendall(b"".join(some))
            self.sent += len(some)
            self._read(0.0)

    def drain(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while self.acknowledged < self.sent and time.monotonic() < until:
            self._read(0.5)
        return self.acknowledged == self.sent

    def _read(self, wait_s: float) -> None:
        """Count PUBACKs: four bytes each, nothing else comes to a connection that subscribes to nothing."""
        if select.select([self._socket], [], [], wait_s)[0]:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the broker closed the connection of the load generator")
            self._rest += len(data)
            self.acknowledged += self._rest // 4
            self._rest %= 4


def values(rng: random.Random) -> dict[str, float]:
    """One message's values."""
    return {key: round(base * (1 + rng.gauss(0, 0.005)), 3) for key, base in BASE.items()}


def prepared(orders: dict[str, Any], publisher: Publisher) -> Iterator[bytes]:
    """All packets of a run, built before the clock starts: one message a station and minute, ending now."""
    rng = random.Random(1)
    stations, rounds = orders["stations"], orders["rounds"]
    first_ms = time.time_ns() // 1_000_000 - rounds * 60_000
    for i in range(rounds):
        at = first_ms + i * 60_000
        for s in range(stations):
            message = Telemetry((Sample(at, values(rng)),), i, 1, (i + 1) * len(BASE), at)
            yield publisher.packet(topic(f"bench-{s}"), encode(message))


def flood(orders: dict[str, Any], publisher: Publisher) -> None:
    """As fast as the broker takes them."""
    messages = list(prepared(orders, publisher))
    _answer(ready=len(messages))
    sys.stdin.readline()
    began = time.time()
    for start in range(0, len(messages), 500):
        publisher.send(messages[start : start + 500])
    publisher.drain(120)
    _answer(began=began, seconds=time.time() - began, sent=publisher.sent, acknowledged=publisher.acknowledged)


def pace(orders: dict[str, Any], publisher: Publisher) -> None:
    """A steady rate; readings carry the instant they are published. Each station goes over the limit once, in turn."""
    rng = random.Random(2)
    stations, rate, seconds = orders["stations"], orders["rate"], orders["seconds"]
    _answer(ready=stations)
    sys.stdin.readline()
    counts = [0] * stations
    total, began = 0, time.time()
    while (elapsed := time.time() - began) < seconds:
        due = int(elapsed * rate) - total
        if due <= 0:
            time.sleep(0.001)
            continue
        messages = []
        for _ in range(due):
            s = total % stations
            total += 1
            at = time.time_ns() // 1_000_000
            measured = values(rng)
            if elapsed > seconds * (0.2 + 0.7 * s / stations):
                measured["nh3n"] = OVER_NH3N
            message = Telemetry((Sample(at, measured),), counts[s], 1, (counts[s] + 1) * len(BASE), at)
            counts[s] += 1
            messages.append(publisher.packet(topic(f"bench-{s}"), encode(message)))
        publisher.send(messages)
    publisher.drain(60)
    _answer(began=began, seconds=time.time() - began, sent=publisher.sent, acknowledged=publisher.acknowledged)


def _answer(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Orders in, load out."""
    orders = json.loads(sys.stdin.readline())
    publisher = Publisher(orders["host"], orders["port"], orders["user"], orders["password"])
    {"flood": flood, "pace": pace}[orders["kind"]](orders, publisher)
