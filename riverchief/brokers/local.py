"""A local broker for the demo, the benchmarks and the tests: Mosquitto from PATH, else the NATS server wheel.

Both are configured so that a batch may hold its messages unacknowledged and nothing queued is thrown away; the
production configuration says the same (docs/operations).
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.errors import ConfigurationError, WaterError
from infra.texts import say
from riverchief.brokers import mosquitto_admin
from riverchief.brokers.users import NatsUsers
from riverchief.guard import guard
from sensors.wire.telemetry import topic

MAX_IN_FLIGHT = 8000
ACK_WAIT_S = 30
"""After how long NATS sends again what nobody acknowledged."""
MAX_IN_FLIGHT_NATS = 2000
"""Fewer, since NATS sends again after `ACK_WAIT_S`: on a slow machine the end of a longer window came twice."""
MAX_MESSAGE_BYTES = 300_000
INGEST, DEVICE = "ingest", "device"
PORTS = range(20_000, 32_768)
"""Linux hands out 32,768 to 60,999, others from 49,152 on (RFC 6335)."""
_turns = itertools.count(secrets.randbelow(len(PORTS)))
"""A random first port, then one after another: two servers that start at once never get the same."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the broker; the password is never shown."""

    user: str
    password: str = field(repr=False)


class BrokerFailed(WaterError):
    """The broker did not come up."""


def free_port() -> int:
    """A free TCP port on loopback, below the range of ephemeral ports.

    It stays free until the server it is for has started: no connection of anybody's is given it meanwhile.
    """
    while True:
        port = PORTS[next(_turns) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find(kind: str | None = None) -> tuple[str, str]:
    """(kind, path) of the broker to start; raises ConfigurationError when there is none."""
    if kind in (None, "mosquitto"):
        path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if path:
            return "mosquitto", path
    if kind in (None, "nats"):
        beside = Path(sys.executable).with_name("nats-server")
        path = str(beside) if beside.exists() else shutil.which("nats-server")
        if path:
            return "nats", path
    raise ConfigurationError(say("broker.none", kind=kind or "MQTT"))


def plugin() -> Path | None:
    """Mosquitto's dynamic-security plugin; None where it is not installed."""
    folders = [*Path("/usr/lib").glob("*-*"), *map(Path, ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib"))]
    found = (folder / "mosquitto_dynamic_security.so" for folder in folders)
    return next((file for file in found if file.is_file()), None)


class Broker:
    """One broker process on loopback, its files below ``folder``; may be killed and started again.

    ``administered``: its users can be changed while it runs, by the settings ``admin`` of the section broker_admin;
    None where Mosquitto came without the plugin for it. Else two users are all it has. ``uplinks`` is a topic on which
    devices publish in another format.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str | None = None,
        port: int | None = None,
        administered: bool = False,
        uplinks: str | None = None,
    ) -> None:
        self.kind, self._path = find(kind)
        self.host, self.port = "127.0.0.1", port or free_port()
        self.ingest = Login(INGEST, secrets.token_urlsafe(18))
        self.device = Login(DEVICE, secrets.token_urlsafe(18))
        self._folder = folder = folder.resolve()  # where it runs: a name below ours would be one below its own
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        logins = [self.ingest, self.device]
        self.admin: Mapping[str, str | bool] | None = None
        more = [] if uplinks is None else [uplinks]
        if self.kind == "nats":
            self._arguments, self.admin = _write_nats(folder, self.port, logins, more)
        elif administered and (library := plugin()):
            rights, self.admin = _dynamic_security(folder, library, logins, more)
            self._arguments = _write_mosquitto(folder, self.port, rights)
        else:
            self._arguments = _write_mosquitto(folder, self.port, _access_list(folder, logins, more))

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self, timeout_s: float = 15.0) -> None:
        """Start and wait until it accepts connections; raises BrokerFailed with the end of its log."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._path, *self._arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; we end it when our devices have said goodbye
            )
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
                return
            time.sleep(0.02)
        self.stop()
        raise BrokerFailed(say("broker.not_started", kind=self.kind, words=self._log_tail()))

    def kill(self) -> None:
        """Kill the process (SIGKILL), as in a power loss."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _log_tail(self) -> str:
        lines = (self._folder / "broker.log").read_text("utf-8", "replace").splitlines()
        return " / ".join(lines[-5:]).rstrip(".")


@contextlib.contextmanager
def running(
    folder: Path, *, kind: str | None = None, administered: bool = False, uplinks: str | None = None
) -> Iterator[Broker]:
    """A broker while this lasts: ended in good order afterwards, and when we are killed."""
    broker = Broker(folder, kind=kind, administered=administered, uplinks=uplinks)
    with guard() as watch:
        broker.start()
        try:
            watch(broker.pid or 0)
            yield broker
        finally:
            broker.stop()


def _environment() -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/")}


def _dynamic_security(
    folder: Path, library: Path, logins: list[Login], uplinks: list[str]
) -> tuple[list[str], dict[str, str | bool]]:
    """Users in the plugin's own file: the configuration's lines, and how the administrator signs in."""
    ingest, device = logins
    admin = secrets.token_urlsafe(18)
    every = [topic("+", kind) for kind in mosquitto_admin.SENT_BY_A_DEVICE]
    rights = mosquitto_admin.writing(*every, *uplinks) | mosquitto_admin.reading(topic("+", "command"))
    others = [
        (ingest.user, ingest.password, mosquitto_admin.ingest_role(uplinks)),
        (device.user, device.password, mosquitto_admin.Role("devices", rights)),
    ]
    file = folder / "dynamic-security.json"
    state = json.loads(mosquitto_admin.initial_state(admin, secrets.token_urlsafe(18), others))
    if file.exists():  # of an earlier run: its devices stay
        before = json.loads(file.read_text(encoding="utf-8"))
        for part, name in (("clients", "username"), ("roles", "rolename")):
            ours = {one[name] for one in state[part]}
            state[part] += [one for one in before[part] if one[name] not in ours]
    file.touch(mode=0o600)
    file.write_text(json.dumps(state), encoding="utf-8")
    lines = [f"plugin {library}", f"plugin_opt_config_file {file}"]
    return lines, {"enabled": True, "user": mosquitto_admin.ADMIN, "password": admin}


def _access_list(folder: Path, logins: list[Login], uplinks: list[str]) -> list[str]:
    """Users in a password file and an access list: the configuration's lines."""
    passwords, rules = folder / "passwords", folder / "acl"
    passwords.touch(mode=0o600)
    maker = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    for login in logins:
        subprocess.run([maker, "-b", str(passwords), login.user, login.password], check=True, capture_output=True)
    read, write = ("".join(f"topic {may} {one}\n" for one in uplinks) for may in ("read", "write"))
    rights = "".join(f"topic write {one}\n" for one in mosquitto_admin.SENSORTHINGS)
    rules.write_text(
        f"user {INGEST}\n{read}topic read rivers/v1/#\ntopic write rivers/v1/+/command\n"
        f"topic write rivers/v1/+/observed\n{rights}\n"
        f"user {DEVICE}\n{write}topic write rivers/v1/+/telemetry\ntopic write rivers/v1/+/status\n"
        "topic write rivers/v1/+/event\ntopic write rivers/v1/+/reply\ntopic read rivers/v1/+/command\n"
    )
    rules.chmod(0o600)
    return [f"password_file {passwords}", f"acl_file {rules}"]


def _write_mosquitto(folder: Path, port: int, rights: list[str]) -> list[str]:
    store, config = folder / "store", folder / "mosquitto.conf"
    store.mkdir(exist_ok=True)
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        *rights,
        "persistence true",
        f"persistence_location {store}/",
        "autosave_interval 1",
        f"max_inflight_messages {MAX_IN_FLIGHT}",
        "max_queued_messages 0",
        f"message_size_limit {MAX_MESSAGE_BYTES}",
        "set_tcp_nodelay true",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # else it gives up the rights to its own files
    config.write_text("\n".join(lines) + "\n")
    return ["-c", str(config)]


def _write_nats(
    folder: Path, port: int, logins: list[Login], uplinks: list[str]
) -> tuple[list[str], dict[str, str | bool]]:
    ingest, device = logins
    config, users, pid = folder / "nats.conf", folder / "users.conf", folder / "nats.pid"
    rights = {
        "publish": [f"rivers.v1.*.{kind}" for kind in mosquitto_admin.SENT_BY_A_DEVICE]
        + [one.replace("/", ".").replace("+", "*") for one in uplinks],
        "subscribe": ["rivers.v1.*.command"],
    }
    ours: list[dict[str, Any]] = [
        {"user": ingest.user, "password": ingest.password},
        {"user": device.user, "password": device.password, "permissions": rights},
    ]
    before = NatsUsers.read(users) if users.exists() else []  # of an earlier run: its devices stay
    NatsUsers.write(users, [*ours, *(one for one in before if one["user"] not in (ingest.user, device.user))])
    config.touch(mode=0o600)
    config.write_text(
        f"""
server_name: riverchief_demo
pid_file: "{pid}"
listen: 127.0.0.1:{free_port()}
max_payload: {MAX_MESSAGE_BYTES}
jetstream {{ store_dir: "{folder / "store"}", sync_interval: always }}
mqtt {{ listen: "127.0.0.1:{port}", ack_wait: "{ACK_WAIT_S}s", max_ack_pending: {MAX_IN_FLIGHT_NATS} }}
authorization {{ include "{users.name}" }}
"""
    )
    files = {"nats_users_file": str(users), "nats_pid_file": str(pid)}
    return ["-c", str(config)], {"enabled": True, "kind": "nats", **files}
