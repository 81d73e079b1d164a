"""The full stack without containers: the servers of docker-compose.yml from packages, with the shipped configuration.

What a container would map is mapped here, and nothing else: host names to loopback, ports to free ones,
``/run/secrets`` and ``/etc/riverchief`` to folders. InfluxDB 2.7 cannot be had as a package; an InfluxDB 1.x stands in
for it, so that ``influx.kind`` is different and nobody is handed a token.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import psycopg
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from ingest.storage.timeseries import Kind
from riverchief.broker import free_port
from riverchief.broker_admin import DynamicSecurity, accepts
from riverchief.clock import now_ms
from riverchief.files import read_stations
from riverchief.settings import MqttSection, load
from riverchief.setup import DASHBOARDS_DO_NOT_READ, DASHBOARDS_READ
from riverchief.sources import mqtt_settings
from sensors.errors import ConfigurationError
from sensors.parameters import catalogue
from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from tests.grafana import Servers, Window
from tests.influx import RealServer
from tests.postgres import Postgres
from tests.rig import eventually
from tests.stack import NATS, Session, ShippedBroker, ShippedNats, plugin

pytestmark = [
    pytest.mark.broker,
    pytest.mark.influx,
    pytest.mark.postgres,
    pytest.mark.skipif(plugin() is None, reason="no dynamic-security plugin here (it comes with mosquitto)"),
]

SERVICES: dict[str, Any] = yaml.safe_load(Path("docker-compose.yml").read_text(encoding="utf-8"))["services"]
STATION = "dph-shiwan-1"


class Stack:
    """The servers, their secrets, and commands run with the environment of their compose service."""

    def __init__(self, folder: Path) -> None:
        self.broker = ShippedBroker()
        self.secrets = self.broker.secrets
        self.postgres = Postgres()
        self.influx = RealServer(Kind.INFLUXDB1)
        self.api = free_port()
        self._folder = folder
        self._served: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.broker.start()
        self.influx.start()
        self.postgres.start()
        self._initialise_database()

    def _initialise_database(self) -> None:
        """What the image does with an empty data folder: owner with a password, database, the shipped script."""
        password = self.broker.secret("postgres/password")
        self.postgres.ask(f"ALTER ROLE riverchief PASSWORD '{password}'")
        self.postgres.ask("CREATE DATABASE riverchief")
        script = Path("config/postgres/10-grafana.sh").read_text()
        assert "/run/secrets/" in script
        environment = {
            "PATH": f"{self.postgres._programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.postgres.port),
            **{name: value for name, value in self.environment("postgres").items() if not name.endswith("_FILE")},
        }
        mapped = script.replace("/run/secrets/", f"{self.secrets / 'postgres'}/")
        done = subprocess.run(["sh", "-c", mapped], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        entry = "host all all 127.0.0.1/32 scram-sha-256\n"  # as the image: nobody without a password
        (self.postgres.folder / "data" / "pg_hba.conf").write_text(entry)
        self.postgres.ask("SELECT pg_reload_conf()")
        eventually("the database asks for a password", lambda: not self._lets_in("riverchief", "wrong"))

    def _lets_in(self, user: str, password: str) -> bool:
        try:
            self.database(user, password).close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self, user: str, password: str) -> psycopg.Connection[tuple[Any, ...]]:
        url = f"host=127.0.0.1 port={self.postgres.port} dbname=riverchief user={user} password={password}"
        return psycopg.connect(url, autocommit=True)

    def environment(self, service: str) -> dict[str, str]:
        """The environment of a compose service, with what a container would map."""
        given = {name: str(value) for name, value in SERVICES[service]["environment"].items()}
        changes: Mapping[str, str] = {
            "RIVERCHIEF_DATA": str(self._folder / "data"),
            "RIVERCHIEF_READINGS__ARCHIVE": str(self._folder / "archive"),
            "RIVERCHIEF_MQTT__HOST": "127.0.0.1",
            "RIVERCHIEF_MQTT__PORT": str(self.broker.port),
            "RIVERCHIEF_INFLUX__URL": self.influx.url,
            "RIVERCHIEF_API__HOST": "127.0.0.1",
        }
        mapped = {}
        for name, value in (given | {name: changes[name] for name in changes if name in given}).items():
            mapped[name] = self._here(value).replace("@postgres/", f"@127.0.0.1:{self.postgres.port}/")
        if "RIVERCHIEF_INFLUX__URL" in mapped:
            mapped["RIVERCHIEF_INFLUX__KIND"] = "influxdb1"
            mapped.pop("RIVERCHIEF_INFLUX__TOKEN_FILE", None)
        return mapped

    def command(self, service: str) -> list[str]:
        words = [str(word) for word in SERVICES[service]["command"]]
        if service == "setup-influx":
            assert words[-2:] == ["--secrets", "/secrets"]
            words = words[:-2]
        return [sys.executable, "-m", "riverchief", *map(self._here, words)]

    def _here(self, path: str) -> str:
        """Where the file of a container lies on this machine."""
        for inside, outside in (
            ("/run/secrets/", f"{self.secrets / 'riverchief'}/"),
            ("/run/simulator/", f"{self.secrets / 'simulator'}/"),
            ("/etc/riverchief/", "config/"),
        ):
            path = path.replace(inside, outside)
        return path

    def run(self, service: str, *instead: str) -> str:
        """Run a one-time service to its end, as it is or with other arguments; what it said."""
        environment = {"PATH": os.environ["PATH"], **self.environment(service)}
        command = [sys.executable, "-m", "riverchief", *instead] if instead else self.command(service)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{service}: {done.stderr}"
        return done.stdout

    def set_up(self) -> None:
        for service in ("setup-broker", "setup-database", "setup-influx"):
            self.run(service)

    def serve(self) -> None:
        environment = {"PATH": os.environ["PATH"], **self.environment("riverchief")}
        with (self._folder / "riverchief.log").open("ab") as log:
            command = [*self.command("riverchief"), "--port", str(self.api)]
            self._served = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually("riverchief is ready", self._ready)

    def _ready(self) -> bool:
        assert self._served is not None
        assert self._served.poll() is None, self.log()
        try:
            return httpx.get(f"http://127.0.0.1:{self.api}/readyz", timeout=4).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        assert self._served is not None
        self._served.terminate()
        code = self._served.wait(60)
        self._served = None
        return code

    def log(self) -> str:
        return (self._folder / "riverchief.log").read_text("utf-8", "replace")

    def close(self) -> None:
        if self._served is not None:
            self._served.kill()
            self._served.wait()
        self.broker.close()
        self.influx.stop()
        self.postgres.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        made.start()
        made.set_up()
        made.serve()
        yield made
    finally:
        made.close()


def device(stack: Stack) -> paho.Client:
    """A device with the login that the operator's command makes, over the encrypted port."""
    admin = ["--admin-password-file", str(stack.secrets / "riverchief" / "broker_admin_password")]
    said = stack.run("setup-broker", "setup", "device", STATION, *admin)
    password = re.search(r"password: (\S+)", said)
    assert password is not None, said
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=STATION)
    client.username_pw_set(STATION, password[1])
    client.tls_set(str(stack.broker.outside.ca_file))
    client.connect("127.0.0.1", stack.broker.tls_port)
    client.loop_start()
    eventually("the device is connected", client.is_connected)
    return client


def publish(stack: Stack, at_ms: int, ph: float) -> None:
    client = device(stack)
    try:
        client.publish(topic(STATION), encode(Telemetry((Sample(at_ms, {"ph": ph}),))), qos=1).wait_for_publish(30)
    finally:
        client.disconnect()
        client.loop_stop()


def latest(stack: Stack) -> float | None:
    """The newest pH that the API tells whoever shows the token of the set-up."""
    answer = httpx.get(
        f"http://127.0.0.1:{stack.api}/api/v1/stations/{STATION}/latest",
        headers={"Authorization": f"Bearer {stack.broker.secret('riverchief/api_token')}"},
        timeout=60,
    )
    answer.raise_for_status()
    values = {one["parameter"]: one["value"] for one in answer.json()["values"]}
    return values.get("ph")


def in_influx(stack: Stack, at_ms: int) -> bool:
    return asked(stack, f'SELECT "ph" FROM "water" WHERE "station" = \'{STATION}\' AND time = {at_ms}ms') is not None


def test_a_reading_travels_from_an_encrypted_device_to_the_api_and_to_the_time_series_server(stack: Stack) -> None:
    at_ms = now_ms() - 60_000
    publish(stack, at_ms, 7.18)
    assert eventually("the API tells it", lambda: latest(stack)) == 7.18
    eventually("the time-series server has it", lambda: in_influx(stack, at_ms))
    with stack.database("riverchief", stack.broker.secret("postgres/password")) as connection:
        stored = connection.execute("SELECT sum(stored) FROM ledger").fetchone()
    assert stored == (1,), "it is in the PostgreSQL of the stack, not in a file beside it"


def test_every_step_of_the_first_start_may_be_run_again_while_everything_runs(stack: Stack) -> None:
    before = {path: path.read_bytes() for path in stack.secrets.rglob("*") if path.is_file()}
    stack.set_up()
    assert {path: path.read_bytes() for path in stack.secrets.rglob("*") if path.is_file()} == before
    at_ms = now_ms() - 30_000
    publish(stack, at_ms, 7.25)
    eventually("readings still arrive", lambda: latest(stack) == 7.25)


def test_what_was_published_while_riverchief_was_away_is_there_after_the_second_start(stack: Stack) -> None:
    assert stack.stop() == 0
    at_ms = now_ms() - 10_000
    publish(stack, at_ms, 7.31)
    stack.set_up()
    stack.serve()
    eventually("the broker kept it", lambda: latest(stack) == 7.31)


def test_the_demo_profile_fills_every_station_and_is_no_more_than_its_devices(stack: Stack) -> None:
    stack.run("setup-simulator")
    environment = {"PATH": os.environ["PATH"], **stack.environment("simulator")}
    command = [*stack.command("simulator"), "--history-days", "0.1", "--every", "0.5"]
    process = subprocess.Popen(command, env=environment)
    try:
        for station in {s.key for s in read_stations(Path("config/stations.toml"), catalogue()).stations}:
            question = f'SELECT count("water_temp") FROM "water" WHERE "station" = \'{station}\''
            eventually(f"history and present of {station}", lambda q=question: (asked(stack, q) or 0) > 10)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    password = stack.broker.secret("simulator/mqtt_password")
    assert accepts(stack.broker.inside, "simulator", password)
    with pytest.raises(ConfigurationError):
        DynamicSecurity(stack.broker.inside, password, "simulator")


def asked(stack: Stack, question: str) -> Any:
    """The one figure that InfluxDB answers; None when it has nothing."""
    answer = httpx.get(
        f"{stack.influx.url}/query", params={"db": "water", "q": question}, trust_env=False, timeout=60
    ).json()
    series = answer["results"][0].get("series")
    return series[0]["values"][0][1] if series else None


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here (tests/servers.sh installs it)")
def test_the_shipped_prometheus_configuration_reads_riverchief_and_makes_its_rules(
    stack: Stack, tmp_path: Path
) -> None:
    for file in Path("config/prometheus").iterdir():
        text = file.read_text().replace("riverchief:8080", f"127.0.0.1:{stack.api}").replace("15s", "1s")
        (tmp_path / file.name).write_text(text.replace("scrape_timeout: 10s", "scrape_timeout: 1s"))
    port = free_port()
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)

    def value(expression: str) -> float | None:
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, trust_env=False, timeout=60
            )
        except httpx.HTTPError:
            return None
        found = answer.json()["data"]["result"] if answer.status_code == 200 else []
        return float(found[0]["value"][1]) if found else None

    try:
        eventually("riverchief is read", lambda: value('up{job="riverchief"}') == 1.0)
        rules = yaml.safe_load(Path("config/prometheus/rules.yml").read_text())["groups"][0]["rules"]
        for rule in rules:
            eventually(f"{rule['record']} has a value", lambda name=rule["record"]: value(name) is not None)
    finally:
        process.terminate()
        process.wait(30)


def test_grafanas_user_reads_what_the_dashboards_show_and_changes_nothing(stack: Stack) -> None:
    with stack.database("grafana", stack.broker.secret("grafana/postgres_password")) as connection:
        for table in DASHBOARDS_READ:
            column = "*" if table not in DASHBOARDS_DO_NOT_READ else "count(*)"
            connection.execute(f"SELECT {column} FROM {table}".encode())  # type: ignore[arg-type]
        for table, columns in DASHBOARDS_DO_NOT_READ.items():
            for hidden in columns:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SELECT {hidden} FROM {table}".encode())  # type: ignore[arg-type]
        for statement in (b"DELETE FROM incident", b"SELECT * FROM spool", b"CREATE TABLE x (y int)"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                connection.execute(statement)
        connection.execute("SET default_transaction_read_only = off")  # the user may; it helps nothing
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE incident SET state = 'closed'")


BOARDS = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in Path("dashboards/generated").glob("*.json")
}


def test_grafanas_user_may_ask_what_every_panel_asks(stack: Stack) -> None:
    """What the answers must be, tests/contract/test_dashboards.py says; here they are asked with the shipped rights."""
    password = stack.broker.secret("grafana/postgres_password")
    postgres = f"host=127.0.0.1 port={stack.postgres.port} dbname=riverchief user=grafana password={password}"
    servers = Servers((stack.influx.url, "water"), postgres, prometheus="")
    window, panels = Window(now_ms() - 3_600_000, now_ms()), 0
    for board in BOARDS.values():
        elsewhere = [
            one for one in board["templating"]["list"] if one.get("datasource", {}).get("type") == "prometheus"
        ]
        board["templating"]["list"] = [one for one in board["templating"]["list"] if one not in elsewhere]
        variables = servers.variables(board, window)
        for panel in board["panels"]:
            if any(one["datasource"]["type"] == "grafana-postgresql-datasource" for one in panel.get("targets", [])):
                panel["targets"] = [one for one in panel["targets"] if one["datasource"]["type"] != "prometheus"]
                servers.panel(panel, variables, window)
                panels += 1
    assert panels >= 20


def test_nobody_gets_in_with_an_empty_or_a_guessed_password(stack: Stack) -> None:
    for user in ("riverchief", "grafana", "postgres"):
        assert not stack._lets_in(user, "riverchief")
    unsigned = {"station": STATION, "readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.1}}]}
    assert httpx.post(f"http://127.0.0.1:{stack.api}/api/v1/readings", json=unsigned, timeout=60).status_code == 401


def test_the_stack_can_be_backed_up_while_it_runs(stack: Stack, tmp_path: Path) -> None:
    said = stack.run("riverchief", "backup", str(tmp_path / "backup"))
    assert said
    assert any(path.is_file() for path in (tmp_path / "backup").rglob("*"))


def test_no_secret_is_in_any_log(stack: Stack) -> None:
    logs = stack.log() + stack.broker.log()
    files = [p for p in stack.secrets.rglob("*") if p.is_file() and re.search(r"password|token|pgpass|health", p.name)]
    assert len(files) >= 8
    for path in files:
        words = path.read_text(encoding="ascii").removeprefix("*:*:*:*:")
        assert words not in logs, path.name


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[ShippedNats]:
    if not NATS.exists():
        pytest.skip("no nats-server here (the extra demo installs it)")
    made = ShippedNats(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop(signal.SIGKILL)


def test_the_shipped_nats_configuration_lets_in_whom_the_set_up_made(nats: ShippedNats) -> None:
    """The profile nats: encrypted, the ingest and the simulator by their passwords, each with its own rights."""
    for user, file in (("ingest", "riverchief/mqtt_password"), ("simulator", "simulator/mqtt_password")):
        assert accepts(nats.outside, user, nats.secret(file)), user
        assert not accepts(nats.outside, user, "wrong"), user


def test_on_nats_a_device_that_does_not_know_the_client_id_of_the_ingest_cannot_take_its_queue(
    nats: ShippedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS gives a session to whoever names it, so that the name is a secret."""
    monkeypatch.setenv("RIVERCHIEF_MQTT__CLIENT_ID_FILE", str(nats.secrets / "riverchief" / "mqtt_client_id"))
    client_id = mqtt_settings(load(None)).client_id
    assert client_id != MqttSection().client_id
    login = ("ingest", nats.secret("riverchief/mqtt_password"))
    ingest = Session(nats.outside, client_id, *login)
    ingest.subscribe(topic("+"))
    ingest.close()
    device = ("simulator", nats.secret("simulator/mqtt_password"))
    for clean in (False, True):
        thief = Session(nats.outside, MqttSection().client_id, *device, clean=clean)
        assert not thief.present
        thief.client.publish(topic(STATION), b"queued", qos=1).wait_for_publish(30)
        thief.close()
    back = Session(nats.outside, client_id, *login)
    assert back.present
    eventually("the queue is complete", lambda: back.received == [b"queued"] * 2)
    back.close()
