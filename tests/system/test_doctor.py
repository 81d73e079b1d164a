"""``riverchief doctor``: each fault provoked for real, named in a plain sentence with what to do, never a secret."""

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from governance.tables import incident, outbox
from infra.clock import now_ms
from infra.database import Database
from ingest.pipeline import Site
from ingest.rules.model import Rules
from ingest.storage import downsampling
from ingest.storage import registry as registry_store
from ingest.storage.downsampling import Due
from ingest.storage.influx_setup import Plan, set_up
from ingest.storage.sql import SqlReadings
from ingest.storage.timeseries import ServerKind
from riverchief import settings
from riverchief.brokers.local import Broker, find, free_port
from riverchief.cli.app import app as cli
from riverchief.doctor import Finding, Level, broker, database, examine, place, servers
from riverchief.doctor.findings import Check, ok
from riverchief.single_writer import exclusive_ingest
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests import preloaded
from tests.databases import with_tables
from tests.influx import real_server
from tests.rig import eventually
from tests.system.test_mqtt_tls import certificates

SECRET = "not-for-anybodys-eyes"
RunDoctor = Callable[..., list[Finding]]


@pytest.fixture
def told(tmp_path: Path) -> RunDoctor:
    """What one check says under the settings given as TOML."""

    def ask(check: Check, toml: str = "") -> list[Finding]:
        file = tmp_path / "settings.toml"
        file.write_text(f"data = '{tmp_path / 'data'}'\n{toml}", encoding="utf-8")
        return list(check(settings.load(file)))

    return ask


def one(found: Sequence[Finding], level: Level, *words: str) -> Finding:
    """The finding of that level whose English sentence has all the words; it must say what to do unless all is well."""
    fitting = [f for f in found if f.level is level and all(word in f.text.en for word in words)]
    assert fitting, [(f.level.value, f.text.en) for f in found]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in fitting[0].text.zh)
    assert (fitting[0].advice is None) == (level is Level.OK)
    return fitting[0]


# -- the settings and the folder ---------------------------------------------------------------------------------------


def test_files_the_settings_name_and_that_are_not_there_are_all_named(told: RunDoctor, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    toml = (
        f"[mqtt]\nuser = 'a'\npassword_file = '{tmp_path}/nowhere'\n[site]\nrules = '{tmp_path}/no-rules.toml'\n"
        f"[outbox]\nurl = 'https://x.example/'\nsecret_file = '{tmp_path}/empty'\n"
    )
    found = told(place.settings_, toml)
    one(found, Level.FAILURE, "nowhere")
    one(found, Level.FAILURE, "no-rules.toml")
    one(found, Level.FAILURE, "outbox.secret_file", "is empty")
    one(told(place.settings_), Level.OK, "can be read")


def test_settings_that_cannot_be_read_are_a_finding_and_exit_code_1(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[mqtt]\nhots = 'x'\n")
    done = CliRunner().invoke(cli, ["doctor", "--settings", str(file), "--json"])
    assert done.exit_code == 1
    assert "mqtt.hots is not a setting" in json.loads(done.stdout)["findings"][0]["text"]["en"]


def test_a_folder_that_cannot_be_written_is_named(told: RunDoctor, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(lambda s: place.folder(s.model_copy(update={"data": Path("/proc/riverchief")})))
    one(found, Level.FAILURE, "/proc/riverchief", "cannot be written")


def test_a_disk_that_is_full_or_filling_is_told_with_what_is_left(
    told: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, level in ((50 * 2**20, Level.FAILURE), (2**30, Level.WARNING), (2**40, Level.OK)):
        left = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, left=left: left)
        one(told(place.folder), level, "free")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory file system here")
def test_a_data_folder_in_memory_is_told_and_on_a_network_share_is_a_failure(
    told: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Path("/dev/shm")
    found = told(lambda s: place.folder(s.model_copy(update={"data": shared})))
    one(found, Level.WARNING, "tmpfs", "gone after a restart")
    monkeypatch.setattr(place, "file_system", lambda _path: "nfs4")
    one(told(place.folder), Level.FAILURE, "network file system (nfs4)")


# -- the database ------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Database]:
    """The database the settings of ``told`` point to, with two stations, one of them heard of."""
    (tmp_path / "data").mkdir()
    db = Database(f"sqlite:///{tmp_path / 'data' / 'riverchief.db'}")
    with_tables(db)
    rows = tuple(Station(key, "站", "station", 113.1, 23.0) for key in ("s1", "s2"))
    with db.write() as connection:
        registry_store.save(connection, Registry(rows, catalogue=catalogue()))
    yield db
    db.close()


def ingested(db: Database, *payloads: bytes) -> None:
    ingest = Site(db, SqlReadings(db, catalogue()), Rules((), (), ()), catalogue())
    ingest.process([Message("s1", payload, now_ms()) for payload in payloads], now_ms())


def test_a_database_that_is_not_there_yet_is_not_made(told: RunDoctor, tmp_path: Path) -> None:
    one(told(database.database), Level.WARNING, "does not exist yet")
    assert not (tmp_path / "data").exists()


def test_hours_and_days_that_are_late_are_told_with_how_many_wait(told: RunDoctor, site: Database) -> None:
    def late(by_ms: int) -> list[Finding]:
        with site.write() as connection:
            downsampling.schedule_days(connection, [Due("s1", 0, 0), Due("s2", 0, 0)], now_ms() - by_ms)
        return [f for f in told(database.database) if f.check == "influx"]

    assert late(60_000) == []
    one(late(2 * 3_600_000), Level.WARNING, "2 station-days")


def test_a_schema_of_another_time_is_told_and_left_alone(told: RunDoctor, site: Database) -> None:
    with site.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    one(told(database.database), Level.FAILURE, "9999", "newer than this program")
    with site.read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_a_database_server_that_is_away_is_named_without_its_password(told: RunDoctor) -> None:
    port = free_port()
    url = f"postgresql://water:{SECRET}@127.0.0.1:{port}/water"
    found = told(database.database, f"[database]\nurl = '{url}'\n")
    finding = one(found, Level.FAILURE, f"127.0.0.1:{port}", "does not answer")
    assert SECRET not in finding.text.en + finding.text.zh


def test_a_file_that_is_no_database_is_a_finding(told: RunDoctor, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "riverchief.db").write_bytes(b"not a database, " * 500)
    found = examine(settings.Settings(data=tmp_path / "data"), checks={"database": database.database}, patience_s=30)
    assert [f.level for f in found] == [Level.FAILURE]


def test_whether_an_ingest_works_is_told(told: RunDoctor, site: Database) -> None:
    one(told(database.database), Level.WARNING, "no ingest works on this database")
    with exclusive_ingest(str(site.url)):
        one(told(database.database), Level.OK, "an ingest works")


def test_quarantine_stations_never_heard_of_and_the_newest_reading_are_told(told: RunDoctor, site: Database) -> None:
    found = told(database.database)
    one(found, Level.OK, "nothing is held")
    one(found, Level.WARNING, "2 stations were never heard of", "s1, s2")
    ingested(site, b"{", encode(Telemetry((Sample(now_ms() - 1000, {"ph": 7.0}),))))
    found = told(database.database)
    one(found, Level.WARNING, "1 entries in quarantine, 1 of them within a day", "not_json 1")
    one(found, Level.WARNING, "1 stations were never heard of: s2")
    one(found, Level.OK, "1 of 2 stations have readings")


def test_rules_that_leave_the_events_of_stations_untold_are_told(
    told: RunDoctor, site: Database, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[event]]\nid = "lakes"\ncolour = "blue"\nstations = ["s1"]\n', encoding="utf-8")
    found = told(database.database, f"[site]\nrules = '{mine}'\n")
    one(found, Level.WARNING, "no rule speaks of events at 1 stations such as s2")
    assert not [f for f in told(database.database) if f.check == "rules"], "the rules that ship fit"


def test_a_clock_behind_the_newest_reading_is_a_failure(
    told: RunDoctor, site: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested(site, encode(Telemetry((Sample(now_ms() - 1000, {"ph": 7.0}),))))
    monkeypatch.setattr(database.clock, "now_ms", lambda: 1_700_000_000_000)
    one(told(database.database), Level.FAILURE, "our clock is behind")


def test_dead_letters_and_deliveries_that_wait_for_long_are_told(told: RunDoctor, site: Database) -> None:
    old = now_ms() - 3_600_000
    with site.write() as connection:
        columns = {c.name: "x" for c in incident.columns if not c.nullable and isinstance(c.type, sa.Text)}
        numbers = {c.name: 1 for c in incident.columns if not c.nullable and c.name not in columns}
        connection.execute(sa.insert(incident).values(columns | numbers | {"id": 7, "open_cause": "x"}))
        for event, status in (("e1", "refused"), ("e2", "pending")):
            row = {"event_id": event, "incident_id": 7, "type": "t", "body": "{}", "notify": "page", "status": status}
            times = dict.fromkeys(("created_at_ms", "pending_since_ms", "next_attempt_at_ms"), old)
            connection.execute(sa.insert(outbox).values(row | times | {"attempts": 0}))
    found = told(database.database)
    one(found, Level.WARNING, "1 dead letters")
    one(found, Level.WARNING, "1 deliveries wait, the oldest since")


# -- the broker --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker", kind="mosquitto")
    made.start()
    yield made
    made.stop()


def login(made: Broker, password: str | None = None, more: str = "") -> str:
    said = password or made.ingest.password
    return f"[mqtt]\nport = {made.port}\nuser = '{made.ingest.user}'\npassword = '{said}'\n{more}"


@pytest.mark.broker
def test_a_broker_as_it_should_be_is_well(told: RunDoctor, mosquitto: Broker) -> None:
    found = told(broker.broker, login(mosquitto, more="republish = true\n"))
    assert {f.level for f in found} == {Level.OK}, [f.text.en for f in found]
    one(found, Level.OK, "sends 8000 messages before it waits")
    one(found, Level.OK, "keeps sessions")


@pytest.mark.broker
def test_mosquitto_as_it_comes_limits_us_and_drops_what_queues(told: RunDoctor, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    process = subprocess.Popen([find("mosquitto")[1], "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        eventually("it listens", lambda: _listens(port))
        found = told(broker.broker, f"[mqtt]\nport = {port}\n")
    finally:
        process.terminate()
        process.wait(10)
    limited = one(found, Level.WARNING, "only 20 messages", "this window limits us")
    assert limited.advice is not None
    assert "max_inflight_messages 8000" in limited.advice.en
    one(found, Level.WARNING, "queued messages and dropped")  # how many, a busy machine may count otherwise


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.broker
def test_a_wrong_password_is_told_without_the_password(told: RunDoctor, mosquitto: Broker) -> None:
    finding = one(told(broker.broker, login(mosquitto, SECRET)), Level.FAILURE, "refuses the login of user ingest")
    assert SECRET not in finding.text.en


@pytest.mark.broker
def test_rights_that_are_lacking_are_named(told: RunDoctor, mosquitto: Broker, tmp_path: Path) -> None:
    rules = tmp_path / "broker" / "acl"
    rules.write_text(rules.read_text().replace("topic write rivers/v1/+/observed\n", ""))
    mosquitto.stop()
    mosquitto.start()
    one(told(broker.broker, login(mosquitto)), Level.OK, "signed in")
    found = told(broker.broker, login(mosquitto, more="republish = true\n"))
    one(found, Level.FAILURE, "may not write rivers/v1/+/observed")
    rules.write_text(rules.read_text().replace("topic read rivers/v1/#\n", ""))
    mosquitto.stop()
    mosquitto.start()
    one(told(broker.broker, login(mosquitto)), Level.FAILURE, "may not read rivers/v1/#")


def test_a_broker_that_is_away_is_named(told: RunDoctor) -> None:
    port = free_port()
    one(told(broker.broker, f"[mqtt]\nport = {port}\n"), Level.FAILURE, f"127.0.0.1:{port}", "Connection refused")


def test_a_port_that_takes_connections_and_says_nothing_is_told_in_time(
    told: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "NETWORK_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        one(told(broker.broker, f"[mqtt]\nport = {port}\n"), Level.FAILURE, "does not answer in MQTT within 0.5 s")


@pytest.mark.broker
def test_certificates_that_expire_soon_or_that_nobody_vouches_for_are_told(told: RunDoctor, tmp_path: Path) -> None:
    ca, port = certificates(tmp_path), free_port()
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other")
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\ncertfile {ca}\nkeyfile {tmp_path / 'key.pem'}\nallow_anonymous true\nuser root\n"
    )
    process = subprocess.Popen([find("mosquitto")[1], "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        eventually("it listens", lambda: _listens(port))
        toml = f"[mqtt]\nport = {port}\ntls = true\nca_file = "
        one(told(broker.broker, f"{toml}'{ca}'\n"), Level.WARNING, "expires in 1 days")
        one(told(broker.broker, f"{toml}'{other}'\n"), Level.FAILURE, "is not trusted")
    finally:
        process.terminate()
        process.wait(10)


# -- the servers beside us ---------------------------------------------------------------------------------------------


@contextmanager
def answering(
    status: int, body: bytes = b"{}", headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[str]]]:
    """A web server that always answers the same; its port, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response_only(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.influx
def test_a_time_series_server_is_proved_by_a_point_and_a_missing_database_is_named(told: RunDoctor) -> None:
    server = real_server(ServerKind.INFLUXDB1)
    toml = f"[influx]\nkind = 'influxdb1'\nurl = '{server.url}'\nbucket = "
    with server.fresh() as client:
        bucket = client.settings.bucket
        found = told(servers.influx, f"{toml}'{bucket}'\n")
        one(found, Level.FAILURE, "lacks our organisation or bucket", "retention policy not found: hourly")
        list(set_up(client, Plan(0, 0, 0)))
    one(told(servers.influx, f"{toml}'{bucket}'\n"), Level.OK, "takes and gives back points", "1.6")
    one(told(servers.influx, f"{toml}'nowhere'\n"), Level.FAILURE, "lacks our organisation or bucket")


@pytest.mark.parametrize(
    ("status", "words"),
    [(500, "does not answer"), (401, "does not answer"), (204, "said it took a point and does not")],
)
def test_a_time_series_server_that_answers_otherwise_is_told(told: RunDoctor, status: int, words: str) -> None:
    with answering(status) as (port, _):
        toml = f"[influx]\nurl = 'http://127.0.0.1:{port}'\ntoken = '{SECRET}'\n"
        found = told(servers.influx, toml)
    assert SECRET not in str(found)
    if status != 204:
        one(found, Level.FAILURE, words, str(status))
    else:
        assert [f for f in found if f.level is Level.FAILURE]


def test_a_server_whose_clock_is_elsewhere_shows_that_ours_may_be_wrong(told: RunDoctor) -> None:
    with answering(500, headers={"Date": "Tue, 12 May 2020 10:00:00 GMT"}) as (port, _):
        found = told(servers.influx, f"[influx]\nurl = 'http://127.0.0.1:{port}'\n")
        assert not [f for f in found if f.check == "clock"], "it did not even answer as it should"
        found = list(servers._clock(f"http://127.0.0.1:{port}"))
    one(found, Level.FAILURE, "s apart")


def test_grafana_that_is_none_that_is_away_and_that_refuses_us(told: RunDoctor) -> None:
    with answering(500) as (port, _):
        one(told(servers.grafana_, f"[grafana]\nurl = 'http://127.0.0.1:{port}'\n"), Level.FAILURE, "HTTP 500")
    port = free_port()
    one(told(servers.grafana_, f"[grafana]\nurl = 'http://127.0.0.1:{port}'\n"), Level.FAILURE, "cannot be reached")
    with answering(200, b'{"version": "12.1.0"}') as (port, asked):
        found = told(servers.grafana_, f"[grafana]\nurl = 'http://127.0.0.1:{port}'\ntoken = '{SECRET}'\n")
    one(found, Level.OK, "Grafana 12.1.0")
    one(found, Level.WARNING, "dashboards", "rc-river")
    assert all(line.startswith("GET ") for line in asked), "nothing is written"
    assert SECRET not in str(found)


def test_the_platform_is_reached_and_nothing_is_delivered(told: RunDoctor, tmp_path: Path) -> None:
    with answering(204) as (port, asked):
        toml = f"[outbox]\nsecret = '{SECRET}'\nurl = 'http://127.0.0.1:{port}/events?key={SECRET}'\n"
        found = told(servers.outbox, toml)
        assert asked == []
    one(found, Level.OK, f"127.0.0.1:{port}")
    assert SECRET not in str(found)
    port = free_port()
    toml = f"[outbox]\nsecret = 'x'\nurl = 'http://127.0.0.1:{port}/'\n"
    one(told(servers.outbox, toml), Level.FAILURE, "cannot be reached: Connection refused")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates(tmp_path), tmp_path / "key.pem")
    with answering(204, tls=context) as (port, _):
        toml = f"[outbox]\nsecret = 'x'\nurl = 'https://127.0.0.1:{port}/'\n"
        one(told(servers.outbox, toml), Level.FAILURE, "is not trusted", "self")


def test_the_channels_to_people_are_reached_and_nothing_is_sent(told: RunDoctor, tmp_path: Path) -> None:
    one(told(servers.notices), Level.WARNING, "nobody gets a message")
    gone = free_port()
    with answering(200) as (port, asked):
        (tmp_path / "contacts.toml").write_text(
            f"""[[contact]]
key = "duty-1"
name = "duty"
channels = [{{ url = "json://u:{SECRET}@127.0.0.1:{port}/x" }}, {{ url = "json://u:{SECRET}@127.0.0.1:{gone}/" }}]"""
        )
        found = told(servers.notices, f"[notices]\ncontacts = '{tmp_path / 'contacts.toml'}'\n")
        assert asked == []
    one(found, Level.OK, "1 contacts with 2 channels")
    one(found, Level.WARNING, "no link")
    one(found, Level.FAILURE, "json of duty-1", "refused")
    assert SECRET not in str(found)


def test_the_parts_of_the_running_system_are_told(told: RunDoctor) -> None:
    parts: list[dict[str, Any]] = [
        {"name": "ingest", "ok": True, "detail": ""},
        {"name": "mqtt", "ok": False, "detail": "no connection to 127.0.0.1:1883"},
        {"name": "ingest_lag", "ok": True, "detail": "12 messages, caught up in 3 s"},
    ]
    with answering(503, json.dumps({"ready": False, "parts": parts}).encode()) as (port, _):
        found = told(servers.running, f"[api]\nport = {port}\n")
    one(found, Level.FAILURE, "mqtt: no connection")
    one(found, Level.OK, "12 messages, caught up in 3 s")
    one(found, Level.WARNING, "no dead-man signal")
    with answering(200, b"<html>") as (port, _):
        one(told(servers.running, f"[api]\nport = {port}\n"), Level.FAILURE, "is not this system")
    port = free_port()
    one(told(servers.running, f"[api]\nport = {port}\n"), Level.WARNING, "does not answer")


# -- all together ------------------------------------------------------------------------------------------------------


def test_a_check_that_hangs_and_one_that_breaks_cost_their_own_answer_only() -> None:
    never = threading.Event()

    def hangs(_: settings.Settings) -> Iterator[Finding]:
        yield ok("slow", "broker_off")
        never.wait()

    def breaks(_: settings.Settings) -> Iterator[Finding]:
        raise RuntimeError(SECRET)
        yield

    def works(_: settings.Settings) -> Iterator[Finding]:
        yield ok("works", "broker_off")

    checks = {"slow": hangs, "breaks": breaks, "works": works}
    found = examine(settings.Settings(), checks=checks, patience_s=0.5)
    never.set()
    assert [(f.check, f.level) for f in found] == [
        ("slow", Level.OK),
        ("slow", Level.FAILURE),
        ("breaks", Level.FAILURE),
        ("works", Level.OK),
    ]
    assert "did not end within 0.5 s" in found[1].text.en
    assert SECRET not in str(found)


def doctor(file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "riverchief", "doctor", "--settings", str(file), *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RIVERCHIEF_")}
    return preloaded.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)


@pytest.mark.broker
def test_the_command_says_it_in_both_languages_with_its_exit_code_and_no_secret(
    site: Database, mosquitto: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        f"data = '{tmp_path / 'data'}'\n[api]\nport = {free_port()}\ntoken = '{SECRET}'\n"
        f"[watch]\nheartbeat_url = 'http://127.0.0.1:{free_port()}/{SECRET}'\n" + login(mosquitto)
    )
    done = doctor(file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ 已登录代理" in done.stdout
    assert "! 没有接入进程" in done.stdout
    assert "→ start riverchief serve or riverchief ingest" in done.stdout
    assert "→ docs/operations/runbooks.md#ingest" in done.stdout
    file.write_text(file.read_text().replace(mosquitto.ingest.password, SECRET))
    failed = doctor(file, "--json")
    assert failed.returncode == 1
    answer = json.loads(failed.stdout)
    assert answer["ok"] is False
    assert [f["check"] for f in answer["findings"] if f["level"] == "failure"] == ["broker"]
    for said in (done, failed):
        assert SECRET not in said.stdout + said.stderr
        assert mosquitto.ingest.password not in said.stdout + said.stderr
