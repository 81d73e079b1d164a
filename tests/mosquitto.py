"""A Mosquitto of a test's own that can be killed, frozen and started again, and a subscriber that forgets nothing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from riverchief.brokers.local import free_port
from sensors.wire.telemetry import Telemetry, parse

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
PATIENCE_S = 60


def until(condition: Callable[[], object], what: str = "") -> None:
    """Poll until the condition holds; fail after a deadline far beyond any machine's slowness."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"did not happen within {PATIENCE_S} s: {what}"
        time.sleep(0.01)


class Broker:
    """A Mosquitto of this test's own, with persistence, that can be killed and started again on its port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        lines = [
            "per_listener_settings false",
            f"listener {self.port} 127.0.0.1",
            *(settings or ("allow_anonymous true",)),
            "persistence true",
            f"persistence_location {folder}/",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "log_dest none",
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)])
        until(self._listening, "mosquitto listens")

    def freeze(self) -> None:
        """Neither read nor answer until it is stopped."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask until it has ended: what it is told between listening and its loop is lost."""
        if (process := self.process) is not None:

            def ended() -> bool:
                process.send_signal(how)
                process.send_signal(signal.SIGCONT)
                time.sleep(0.05)
                return process.poll() is not None

            until(ended, "mosquitto ends")
            self.process = None

    def save(self) -> None:
        """Have it write its sessions to disk, as it does by itself every half hour."""
        assert self.process is not None
        database = self.folder / "mosquitto.db"
        database.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        until(lambda: database.exists() and database.stat().st_size > 0, "mosquitto saved its sessions")

    def _listening(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "mosquitto ended at once"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Subscriber:
    """An ingest that forgets nothing: a persistent session at QoS 1 on everything."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.retained: list[tuple[str, bytes]] = []
        self.subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="watcher", clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda client, *rest: client.subscribe("rivers/v1/#", qos=1)
        self.client.on_subscribe = lambda *rest: self.subscribed.set()
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(PATIENCE_S)

    def _take(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        (self.retained if message.retain else self.received).append((message.topic, message.payload))

    def telemetry(self, station: str) -> list[Telemetry]:
        wanted = f"rivers/v1/{station}/telemetry"
        return [parse(payload) for topic, payload in list(self.received) if topic == wanted]

    def by_station(self) -> dict[str, list[Telemetry]]:
        found = defaultdict(list)
        for topic, payload in list(self.received):
            if topic.endswith("/telemetry"):
                found[topic.split("/")[2]].append(parse(payload))
        return found

    def status(self, station: str) -> list[bool]:
        wanted = f"rivers/v1/{station}/status"
        return [json.loads(payload)["online"] for topic, payload in list(self.received) if topic == wanted]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def retained_status(port: int, station: str) -> bool:
    """What somebody who comes later is told about the station."""
    found: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *rest: c.subscribe(f"rivers/v1/{station}/status", qos=1)
    client.on_message = lambda c, u, message: found.append(json.loads(message.payload)["online"])
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        until(lambda: found, f"a retained status of {station}")
    finally:
        client.disconnect()
        client.loop_stop()
    return found[0]
