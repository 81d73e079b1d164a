"""The broker of the full stack as docker-compose.yml starts it: the shipped configuration, the secrets of the set-up.

Only what a container would map is rewritten: the two listeners' ports, the folders ``/mosquitto/security`` and
``/mosquitto/data``, and where the Debian package keeps the plugin. Every other line is the one that is shipped.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from riverchief import setup
from riverchief.broker import find, free_port
from riverchief.broker_admin import Address
from riverchief.settings import Settings
from tests.rig import eventually

CONFIGURATION = Path("config/mosquitto/mosquitto.conf")
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

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="riverchief-stack-"))
        self.folder.chmod(0o755)  # the broker is somebody else
        self.secrets = self.folder / "secrets"
        setup.prepare(self.secrets, NAMES, datetime.now(UTC))
        self.port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user = {"user": 1883, "group": 1883, "extra_groups": []} if os.geteuid() == 0 else {}
        data = self.folder / "data"
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
