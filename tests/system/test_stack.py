"""The full stack without containers: every service of docker-compose.yml, from empty volumes, in compose's order.

tests/stack.py says what stands in for what.
"""

import functools
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from governance.incidents import cloudevents
from infra.clock import now_ms
from infra.errors import ConfigurationError
from riverchief.brokers.local import free_port
from riverchief.brokers.mosquitto_admin import DynamicSecurity, accepts
from riverchief.files import read_stations
from riverchief.settings import MqttSection, load
from riverchief.setup import DASHBOARDS_DO_NOT_READ, DASHBOARDS_READ
from riverchief.sources import mqtt_settings
from sensors.parameters import catalogue
from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from tests import preloaded
from tests.grafana import Servers, Window
from tests.rig import eventually
from tests.stack import NATS, Session, ShippedNats, Stack, plugin

pytestmark = [
    pytest.mark.broker,
    pytest.mark.postgres,
    pytest.mark.skipif(plugin() is None, reason="no dynamic-security plugin here (it comes with mosquitto)"),
]

STATION = "dph-shiwan-1"
CONTACTS = """
[[contact]]
key = "duty"
name = "示例值班员"
roles = ["office"]
channels = [{{ url = "json://127.0.0.1:{port}/duty" }}]
"""


class Receiver:
    """Somebody outside who takes what is posted: (path, headers, body)."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((self.path, headers, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack(receiver: Receiver) -> Iterator[Stack]:
    given = {
        "BROKER_NAMES": "broker.example.cn",
        "CONTACTS": "/etc/riverchief/contacts.toml",
        "HJ212": "true",
        "OUTBOX_URL": f"http://127.0.0.1:{receiver.port}/events",
        "PUBLIC_URL": "https://river.example.cn",
        "SITE_NAME": "示例站点",
    }
    made = Stack(given)
    contacts = made.outside("riverchief", given["CONTACTS"])
    contacts.write_text(CONTACTS.format(port=receiver.port), encoding="utf-8")
    contacts.chmod(0o600)
    try:
        made.up()
        yield made
    finally:
        made.close()


@functools.cache
def password(stack: Stack) -> str:
    """The password of the login that the operator's command makes for the station."""
    admin = ["--admin-password-file", "/run/secrets/broker_admin_password"]
    printed = stack.run("setup-broker", "setup", "device", STATION, *admin)
    found = re.search(r"password: (\S+)", printed)
    assert found is not None, printed
    return found[1]


def publish(stack: Stack, *samples: Sample) -> None:
    """Send a message as the station's device does, over the encrypted port."""
    device = Session(stack.broker.outside, STATION, STATION, password(stack))
    try:
        device.client.publish(topic(STATION), encode(Telemetry(samples)), qos=1).wait_for_publish(30)
    finally:
        device.close()


def latest(stack: Stack) -> float | None:
    """The newest pH that the API tells whoever shows the token of the set-up."""
    answer = httpx.get(
        f"http://127.0.0.1:{stack.api}/api/v1/stations/{STATION}/latest",
        headers={"Authorization": f"Bearer {stack.secret('riverchief/api_token')}"},
        timeout=60,
    )
    answer.raise_for_status()
    values = {one["parameter"]: one["value"] for one in answer.json()["values"]}
    return values.get("ph")


def in_influx(stack: Stack, at_ms: int) -> bool:
    return ("water", STATION, at_ms) in stack.influx.points("water")


def test_a_reading_travels_from_an_encrypted_device_to_the_api_and_to_the_time_series_server(stack: Stack) -> None:
    at_ms = now_ms() - 60_000
    publish(stack, Sample(at_ms, {"ph": 7.18}))
    assert eventually("the API tells it", lambda: latest(stack)) == 7.18
    eventually("the time-series server has it", lambda: in_influx(stack, at_ms))
    age = next(one for one in BOARDS["rc-station"]["panels"] if "Newest reading" in one["title"])
    (frames,) = grafana(stack).panel(age, {"station": STATION}, Window(at_ms - 3_600_000, now_ms()))
    assert 0 < frames[0].rows[0][0] < 3600, "seconds since the reading, on the dashboard of the station"
    with stack.database("riverchief", stack.secret("postgres/password")) as connection:
        stored = connection.execute("SELECT sum(stored) FROM ledger").fetchone()
    assert stored == (1,), "it is in the PostgreSQL of the stack, not in a file beside it"


def test_an_incident_is_delivered_outside_signed_with_the_secret_of_the_set_up(
    stack: Stack, receiver: Receiver
) -> None:
    start_ms = now_ms() - 60_000
    publish(stack, *(Sample(start_ms + 10_000 * n, {"nh3n": 9.0 + n / 10}) for n in range(4)))
    delivered = eventually("an event arrives", lambda: [one for one in receiver.got if one[0] == "/events"])
    _, headers, body = delivered[0]
    cloudevents.verify(stack.secret("riverchief/outbox_secret"), headers, body, int(time.time()))


def test_a_message_reaches_a_contact_of_the_mounted_file(stack: Stack, receiver: Receiver) -> None:
    stack.run("riverchief", "notify", "test", "duty")
    assert eventually("the message arrives", lambda: [one for one in receiver.got if one[0] == "/duty"])


def test_the_trail_is_sealed_with_the_key_of_the_set_up(stack: Stack) -> None:
    stack.run("riverchief", "audit", "seal")
    stack.run("riverchief", "audit", "verify")
    root = (stack.outside("riverchief", "/data") / "audit-roots.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(root)


def test_the_gateway_for_loggers_listens_where_compose_publishes_it(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports["riverchief", 9212]), timeout=10):
        pass


def test_every_step_of_the_first_start_may_be_run_again_while_everything_runs(stack: Stack) -> None:
    before = {path: path.read_bytes() for path in stack.secrets.rglob("*") if path.is_file()}
    stack.set_up()
    assert {path: path.read_bytes() for path in stack.secrets.rglob("*") if path.is_file()} == before
    at_ms = now_ms() - 30_000
    publish(stack, Sample(at_ms, {"ph": 7.25}))
    eventually("readings still arrive", lambda: latest(stack) == 7.25)


def test_what_was_published_while_riverchief_was_away_is_there_after_the_second_start(stack: Stack) -> None:
    assert stack.stop() == 0
    at_ms = now_ms() - 10_000
    publish(stack, Sample(at_ms, {"ph": 7.31}))
    stack.set_up()
    stack.serve()
    eventually("riverchief is healthy again", lambda: stack.healthy("riverchief"), every_s=0.5)
    eventually("the broker kept it", lambda: latest(stack) == 7.31)


def stored(stack: Stack, station: str) -> int:
    return sum(key == station for _, key, _ in stack.influx.points("water"))


def test_the_demo_profile_fills_every_station_and_is_no_more_than_its_devices(stack: Stack) -> None:
    stack.run("setup-simulator")
    command = [*stack.command("simulator"), "--history-days", "0.1", "--every", "0.5"]
    process = preloaded.Popen(command, env=stack.environment("simulator"))
    try:
        for station in {s.key for s in read_stations(Path("config/stations.toml"), catalogue()).stations}:
            eventually(f"history and present of {station}", lambda key=station: stored(stack, key) > 10)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    secret = stack.secret("simulator/mqtt_password")
    assert accepts(stack.broker.inside, "simulator", secret)
    with pytest.raises(ConfigurationError):
        DynamicSecurity(stack.broker.inside, secret, "simulator")


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
    with stack.database("grafana", stack.secret("grafana/postgres_password")) as connection:
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


def test_riverchief_owns_its_database_and_administers_nothing(stack: Stack) -> None:
    refused = (b"CREATE ROLE other", b"SET session_replication_role = replica", b"SELECT pg_read_file('/etc/passwd')")
    with stack.database("riverchief", stack.secret("postgres/password")) as connection:
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("UPDATE audit SET by = 'x'")


BOARDS = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in Path("dashboards/generated").glob("*.json")
}


def grafana(stack: Stack) -> Servers:
    """Grafana with the PostgreSQL data source of the shipped provisioning."""
    file = stack.outside("grafana", "/etc/grafana/provisioning/datasources/riverchief.yml")
    sources = yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]
    source = next(one for one in sources if one["type"] == "grafana-postgresql-datasource")
    assert source["url"] == "postgres:5432"
    secret = re.fullmatch(r"\$__file\{(.+)\}", source["secureJsonData"]["password"])
    assert secret is not None
    login = f"user={source['user']} password={stack.outside('grafana', secret[1]).read_text(encoding='ascii')}"
    database = f"host=127.0.0.1 port={stack.postgres.port} dbname={source['jsonData']['database']} {login}"
    return Servers((stack.influx.url, "water"), database, prometheus="")


def test_grafanas_user_may_ask_what_every_panel_asks(stack: Stack) -> None:
    """What the answers must be, tests/contract/test_dashboards.py says; here they are asked with the shipped rights."""
    servers = grafana(stack)
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
        assert not stack.lets_in(user, "riverchief")
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
