"""The full stack as docker-compose.yml starts it, without containers: its order, commands, environment and mounts.

Only what a container would map is rewritten: host names to loopback, ports to free ones, mounted paths to folders, and
where the Debian packages keep their files. Every other word is the one that is shipped. Mosquitto and PostgreSQL are
real, :mod:`tests.influx2` stands in for InfluxDB 2, and of Grafana :mod:`tests.grafana` is the part that asks.
"""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import psycopg
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel

from riverchief import setup
from riverchief.brokers.local import find, free_port
from riverchief.brokers.mosquitto_admin import Address
from riverchief.settings import Settings
from tests import preloaded
from tests.influx2 import Influx2
from tests.postgres import Postgres, programs
from tests.rig import eventually

CONFIGURATION = Path("config/mosquitto/mosquitto.conf")
SERVICES: dict[str, Any] = yaml.safe_load(Path("docker-compose.yml").read_text(encoding="utf-8"))["services"]
PROGRAM = ("-m", "riverchief")
"""What the image of riverchief runs (ENTRYPOINT), with our Python."""
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


def interpolated(text: str, given: Mapping[str, str]) -> str:
    """What compose makes of ``${NAME:-default}``, with the variables of .env, and of ``$$``."""
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], text)
    return filled.replace("$$", "$")


def environment(service: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a service, as compose fills them in."""
    variables = SERVICES[service].get("environment", {})
    return {name: interpolated(str(value), given or {}) for name, value in variables.items()}


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Path in the container → what is mounted there, and whether read-only."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, *mode = volume.split(":")
        found[target] = (source, mode == ["ro"])
    return found


def starting_order(profiles: Collection[str] = ()) -> list[str]:
    """The services that run with these profiles, each after those it waits for."""
    found: list[str] = []

    def place(name: str) -> None:
        if name not in found:
            for other in SERVICES[name].get("depends_on", {}):
                place(other)
            found.append(name)

    for name, service in SERVICES.items():
        if not service.get("profiles") or set(service["profiles"]) & set(profiles):
            place(name)
    return found


def plugin() -> Path | None:
    """The dynamic-security plugin of the distribution; None when it is not installed."""
    return next(iter(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")), None)


class ShippedBroker:
    """A Mosquitto with the shipped configuration and fresh secrets, as the user that the container runs as."""

    def __init__(self, data: Path | None = None, secrets: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="riverchief-stack-"))
        self.folder.chmod(0o755)  # the broker is somebody else
        self.secrets = secrets or self.folder / "secrets"
        if secrets is None:
            setup.prepare(self.secrets, NAMES, datetime.now(UTC))
        self.port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user = {"user": 1883, "group": 1883, "extra_groups": []} if os.geteuid() == 0 else {}
        data = data or self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
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


class Stack:
    """The services of docker-compose.yml as processes, from empty volumes; ``given`` is the .env beside the file."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.given = given or {}
        self.folder = Path(tempfile.mkdtemp(prefix="riverchief-compose-"))
        self.folder.chmod(0o755)  # servers run as somebody else
        self.checkout = self.folder / "checkout"
        shutil.copytree("config", self.checkout / "config")
        shutil.copytree("dashboards/generated", self.checkout / "dashboards/generated")
        self.secrets = self.folder / "secrets"
        self.ports: dict[tuple[str, int], int] = {}
        for name, inside in (("riverchief", 8080), ("riverchief", 9212)):
            self.ports[name, inside] = free_port()
        self.broker: ShippedBroker
        self.influx: Influx2
        self.postgres: Postgres
        self._served: subprocess.Popen[bytes] | None = None
        self._closing = ExitStack()

    def up(self) -> None:
        """Start everything from nothing, as ``docker compose up`` does."""
        starting: dict[str, Callable[[], None]] = {
            "mosquitto": self._start_mosquitto,
            "influxdb": self._start_influxdb,
            "postgres": self._start_postgres,
            "riverchief": self.serve,
            "grafana": lambda: None,  # tests/grafana.py asks what it would ask
        }
        finished: set[str] = set()
        for name in starting_order():
            for other, how in SERVICES[name].get("depends_on", {}).items():
                if how["condition"] == "service_healthy":
                    eventually(f"{other} is healthy", lambda one=other: self.healthy(one), every_s=0.3)
                else:
                    assert other in finished, f"{name} waits for {other}"
            if SERVICES[name]["restart"] == "no":
                self.run(name)
                finished.add(name)
            else:
                starting[name]()
        eventually("riverchief is healthy", lambda: self.healthy("riverchief"), every_s=0.5)

    # -- what a container would map --------------------------------------------------------------------------------

    def environment(self, service: str) -> dict[str, str]:
        """The environment of a service."""
        given = environment(service, self.given)
        mapped = {name: self._mapped(service, value) for name, value in given.items()}
        for name, value in given.items():
            if name.endswith("HOST") and value in SERVICES:  # a server's name; its port stands beside it
                port = name.removesuffix("HOST") + "PORT"
                mapped |= {name: "127.0.0.1", port: str(self.ports[value, int(given[port])])}
        if service == "riverchief":
            mapped["RIVERCHIEF_API__HOST"] = mapped["RIVERCHIEF_HJ212__HOST"] = "127.0.0.1"
            mapped["RIVERCHIEF_API__PORT"] = str(self.api)
            mapped["RIVERCHIEF_HJ212__PORT"] = str(self.ports["riverchief", 9212])
        return {"PATH": f"{programs()}:{os.environ['PATH']}", **mapped}

    def command(self, service: str, *instead: str) -> list[str]:
        """The command of a service of our image, or another one in its container."""
        words = instead or [interpolated(str(word), self.given) for word in SERVICES[service]["command"]]
        return [sys.executable, *PROGRAM, *(self._mapped(service, word) for word in words)]

    def outside(self, service: str, path: str) -> Path:
        """Where the file of a container lies on this machine."""
        return Path(self._mapped(service, path))

    def _mapped(self, service: str, text: str) -> str:
        """A word of a service with paths and addresses as they are here."""
        places = {target: self._place(source) for target, (source, _) in mounts(service).items()}
        if any(target.startswith("/secrets/") for target in places):
            places["/secrets"] = self.secrets
        for target in sorted(places, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(target)}(?![\w-])", str(places[target]), text)
        for (name, inside), here in self.ports.items():
            text = re.sub(rf"\b{name}:{inside}\b", f"127.0.0.1:{here}", text)
            if name == service:
                text = re.sub(rf"127\.0\.0\.1:{inside}\b", f"127.0.0.1:{here}", text)
            if inside == 5432:
                text = text.replace(f"@{name}/", f"@127.0.0.1:{here}/")
        return text

    def _place(self, source: str) -> Path:
        """The folder of the checkout or of a volume that is mounted somewhere."""
        if source.startswith("./"):
            return self.checkout / source
        volume = self.secrets / source.removeprefix("secrets-") if source.startswith("secrets-") else None
        volume = volume or self.folder / "volumes" / source
        volume.mkdir(parents=True, exist_ok=True)
        return volume

    def healthy(self, service: str) -> bool:
        """Whether the service's own health check says so; it looks for it as long as compose would."""
        how, program, *words = (interpolated(str(word), {}) for word in SERVICES[service]["healthcheck"]["test"])
        assert how == "CMD"
        path = (
            sys.executable if program == "python" else shutil.which(program, path=f"{programs()}:{os.environ['PATH']}")
        )
        assert path is not None, f"no {program} here (tests/servers.sh installs it)"
        here = {str(inside): str(port) for (name, inside), port in self.ports.items() if name == service}
        mapped = [here.get(word, self._mapped(service, word)) for word in words]
        variables = self.environment(service) | {"PGPORT": str(self.ports.get(("postgres", 5432), 0))}
        return subprocess.run([path, *mapped], env=variables, capture_output=True, check=False).returncode == 0

    # -- the servers -----------------------------------------------------------------------------------------------

    def _start_mosquitto(self) -> None:
        assert mounts("mosquitto")["/mosquitto/config"] == ("./config/mosquitto", True), "the image reads it there"
        self.broker = ShippedBroker(self.outside("mosquitto", "/mosquitto/data"), self.secrets)
        self._closing.callback(self.broker.close)
        self.ports |= {("mosquitto", 1883): self.broker.port, ("mosquitto", 8883): self.broker.tls_port}
        self.broker.start()

    def _start_influxdb(self) -> None:
        """What the image does with an empty data folder: an organisation, a bucket, the administrator's token."""
        given = self.environment("influxdb")
        token = Path(given["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE"]).read_text(encoding="ascii")
        org, bucket = given["DOCKER_INFLUXDB_INIT_ORG"], given["DOCKER_INFLUXDB_INIT_BUCKET"]
        self.influx = self._closing.enter_context(Influx2(org, [bucket], token))
        self.ports["influxdb", 8086] = int(self.influx.url.rpartition(":")[2])

    def _start_postgres(self) -> None:
        """What the image does with an empty data folder: owner with a password, database, the mounted scripts."""
        given = environment("postgres", self.given)
        assert given["POSTGRES_USER"] == "riverchief", "tests/postgres.py makes this owner"
        server, *options = SERVICES["postgres"]["command"]
        assert server == "postgres"
        self.postgres = Postgres(*given["POSTGRES_INITDB_ARGS"].split())
        self._closing.callback(self.postgres.close)
        self.ports["postgres", 5432] = self.postgres.port
        self.postgres.start(*options)
        password = self.outside("postgres", given["POSTGRES_PASSWORD_FILE"]).read_text(encoding="ascii")
        self.postgres.ask(f"ALTER ROLE riverchief PASSWORD '{password}'")
        self.postgres.ask(f"CREATE DATABASE {given['POSTGRES_DB']}")
        variables = self.environment("postgres") | {"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres.port)}
        for file in sorted(self.outside("postgres", "/docker-entrypoint-initdb.d").iterdir()):
            script = self._mapped_lines("postgres", file.read_text(encoding="utf-8"))
            done = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        entry = "host all all 127.0.0.1/32 scram-sha-256\n"  # as the image: nobody without a password
        (self.postgres.folder / "data" / "pg_hba.conf").write_text(entry)
        self.postgres.ask("SELECT pg_reload_conf()", user="postgres")
        eventually("the database asks for a password", lambda: not self.lets_in("riverchief", "wrong"))

    def _mapped_lines(self, service: str, text: str) -> str:
        return "\n".join(self._mapped(service, line) for line in text.splitlines())

    # -- riverchief ------------------------------------------------------------------------------------------------

    @property
    def api(self) -> int:
        return self.ports["riverchief", 8080]

    def run(self, service: str, *instead: str) -> str:
        """Run a one-time service to its end, or another command in a service's container; what it printed."""
        command = self.command(service, *instead)
        done = preloaded.run(command, env=self.environment(service), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{service}: {done.stderr}"
        return done.stdout

    def set_up(self) -> None:
        """What a second ``docker compose up`` runs again."""
        for name in starting_order():
            if SERVICES[name]["restart"] == "no":
                self.run(name)

    def serve(self) -> None:
        with (self.folder / "riverchief.log").open("ab") as log:
            command, variables = self.command("riverchief"), self.environment("riverchief")
            self._served = preloaded.Popen(command, env=variables, stdout=log, stderr=log)

    def stop(self) -> int:
        assert self._served is not None
        self._served.terminate()
        code = self._served.wait(60)
        self._served = None
        return code

    def log(self) -> str:
        return (self.folder / "riverchief.log").read_text("utf-8", "replace")

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="ascii")

    def lets_in(self, user: str, password: str) -> bool:
        try:
            self.database(user, password).close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self, user: str, password: str) -> psycopg.Connection[tuple[Any, ...]]:
        url = f"host=127.0.0.1 port={self.postgres.port} dbname=riverchief user={user} password={password}"
        return psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        if self._served is not None:
            self._served.kill()
            self._served.wait()
        self._closing.close()
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
        self.process = preloaded.Popen(command, stderr=subprocess.DEVNULL)
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
