"""The broker of the full stack as docker-compose.yml starts it: the shipped configuration, the secrets of the set-up.

Only what a container would map is rewritten: the two listeners' ports, the folders ``/mosquitto/security`` and
``/mosquitto/data``, and where the Debian package keeps the plugin. Every other line is the one that is shipped.
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel

from riverchief import setup
from riverchief.broker import find, free_port
from riverchief.broker_admin import Address
from riverchief.settings import Settings
from tests.rig import eventually

CONFIGURATION = Path("config/mosquitto/mosquitto.conf")
NATS_CONFIGURATION = Path("config/nats/nats.conf")
NATS = Path(sys.executable).with_name("nats-server")
PLUGIN_IN_IMAGE = "/usr/lib/mosquitto_dynamic_security.so"
NAMES = ("mosquitto", "localhost", "127.0.0.1")


def is_setting(variable: str) -> bool:
    """Whether ``RIVERCHIEF_…`` names one; the environment is read leniently, a name that is none would be ignored."""
    model: Any = Settings
    for part in variable.removeprefix("RIVERCHIEF_").lower().split("__"):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return False
        model = model.model_fields[part].annotation
    return True


def plugin() -> Path | None:
    """The dynamic-security plugin of the distribution; None when it is not installed."""
    return next(iter(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")), None)


class ShippedBroker:
    """A Mosquitto with the shipped configuration and fresh secrets, as the user that the container runs as."""

    def __init__(self, data: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="riverchief-stack-"))
        self.folder.chmod(0o755)  # the broker is somebody else
        self.secrets = self.folder / "secrets"
        setup.prepare(self.secrets, NAMES, datetime.now(UTC))
        self.port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user = {"user": 1883, "group": 1883, "extra_groups": []} if os.geteuid() == 0 else {}
        data = data or self.folder / "data"
        data.mkdir()
        if self._user:
            os.chown(data, 1883, 1883)
        self.configuration = self.folder / "mosquitto.conf"
        self.configuration.write_text(self._rewritten(data), encoding="utf-8")

    def _rewritten(self, data: Path) -> str:
        text = CONFIGURATION.read_text(encoding="utf-8")
        for shipped, here in (
            (PLUGIN_IN_IMAGE, str(plugin())),
            ("listener 8883\n", f"listener {self.tls_port} 127.0.0.1\n"),
            ("listener 1883\n", f"listener {self.port} 127.0.0.1\n"),
            ("/mosquitto/security/", f"{self.secrets / 'broker'}/"),
            ("/mosquitto/data/", f"{data}/"),
        ):
            assert shipped in text, f"{CONFIGURATION} says nothing of {shipped.strip()}"
            text = text.replace(shipped, here)
        return text

    @property
    def inside(self) -> Address:
        """The listener of the stack's own network."""
        return Address("127.0.0.1", self.port)

    @property
    def outside(self) -> Address:
        """The encrypted listener, trusted by the authority that devices are given."""
        return Address("127.0.0.1", self.tls_port, self.secrets / "broker" / "ca.pem")

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="ascii")

    def start(self) -> None:
        _, path = find("mosquitto")
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [path, "-c", str(self.configuration)],
                stdout=log,
                stderr=log,
                **self._user,  # type: ignore[call-overload]
            )
        eventually("the shipped configuration comes up", self._listens)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        for port in (self.port, self.tls_port):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                continue
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def log(self) -> str:
        return (self.folder / "broker.log").read_text("utf-8", "replace")

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class ShippedNats:
    """A NATS server with the shipped configuration and fresh secrets; its data lie in ``data``."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        setup.prepare(self.secrets, ["127.0.0.1"], datetime.now(UTC))
        self.port, self._monitor = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        text = NATS_CONFIGURATION.read_text(encoding="utf-8")
        for shipped, here in (
            ("../../run/secrets/", "secrets/nats/"),
            ("/run/secrets/", f"{self.secrets / 'nats'}/"),
            ("store_dir: /data", f"store_dir: {data or folder / 'data'}"),
            ("0.0.0.0:8883", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:4222", f"127.0.0.1:{free_port()}"),
            ("127.0.0.1:8222", f"127.0.0.1:{self._monitor}"),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        self.configuration = folder / "nats.conf"
        self.configuration.write_text(text, encoding="utf-8")

    @property
    def outside(self) -> Address:
        """The encrypted MQTT listener, trusted by the authority that devices are given."""
        return Address("127.0.0.1", self.port, self.secrets / "nats" / "ca.pem")

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="ascii")

    def start(self) -> None:
        command = [NATS, "--config", str(self.configuration)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        eventually("its health check answers", self._healthy)

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "NATS refuses the shipped configuration"
        try:
            url = f"http://127.0.0.1:{self._monitor}/healthz"
            return httpx.get(url, trust_env=False, timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None


class Session:
    """A client of MQTT 3.1.1 with a client id of its choice; keeps its session unless it is ``clean``."""

    def __init__(self, address: Address, client_id: str, user: str, password: str, *, clean: bool = False) -> None:
        self.received: list[bytes] = []
        self.present: bool | None = None
        self.dropped = threading.Event()
        self._subscribed = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean, reconnect_on_failure=False
        )
        self.client.username_pw_set(user, password)
        if address.ca_file:
            self.client.tls_set(str(address.ca_file), cert_reqs=ssl.CERT_REQUIRED)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self.dropped.set()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _c, _u, message: self.received.append(message.payload)
        self.client.connect(address.host, address.port)
        self.client.loop_start()
        eventually(f"{user} is connected", lambda: self.present is not None)

    def _on_connect(self, _c: Any, _u: Any, flags: paho.ConnectFlags, reason: Any, _p: Any) -> None:
        assert not reason.is_failure
        self.present = flags.session_present

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        eventually(f"{topic} is subscribed", self._subscribed.is_set)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
