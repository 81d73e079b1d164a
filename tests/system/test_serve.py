"""``riverchief serve`` as a site runs it: health, metrics, the dashboards' names, and starts that must not happen."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from dashboards.platform import CHARTS
from governance.incidents import queries as incident_queries
from infra.clock import now_ms
from infra.times import DAY_MS, rfc3339
from ingest.pace import Estimate, Look, add
from ingest.storage import registry
from riverchief import serve, settings
from riverchief.brokers.local import free_port
from riverchief.database import open_database
from sensors.reading import Message
from sensors.stations import Station
from tests import preloaded
from tests.rig import Running, eventually
from tests.says import shows
from tests.sign_in import first_administrator

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    site = Running(tmp_path_factory.mktemp("served") / "site", "mosquitto", uplinks="foreign/+")
    try:
        port = free_port()
        rules, mappings, contacts = (site.folder / f"{name}.toml" for name in ("rules", "mappings", "contacts"))
        site.more = (
            f"[api]\nport = {port}\n[site]\nrules = '{rules}'\n[ingest]\nmappings = '{mappings}'\n"
            f"[notices]\ncontacts = '{contacts}'\n"
        )
        _write_files(site, limit=9.5, topic="elsewhere/+", contact="li")
        site.register(Station("s1", "站一", "station one", 113.1, 23.0))
        site.start("serve")
        address = f"http://127.0.0.1:{port}"
        eventually("it is ready", lambda: _status(f"{address}/readyz") == 200)
        yield site, address
    finally:
        site.close()


def _write_files(site: Running, *, limit: float, topic: str, contact: str) -> None:
    (site.folder / "rules.toml").write_text(
        f'[[threshold]]\nid = "alkaline"\nparameter = "ph"\nside = "above"\nlimit = {limit}\nclear = 9.0\n'
        'colour = "orange"\n'
    )
    (site.folder / "mappings.toml").write_text(
        f'[[mapping]]\nname = "a"\ntopic = "{topic}"\nstation = {{ level = 2 }}\ntime = "t"\nvalues = {{ ph = "ph" }}\n'
    )
    (site.folder / "contacts.toml").write_text(
        f'[[contact]]\nkey = "{contact}"\nname = "示例"\nroles = ["office"]\n'
        f'channels = [{{ url = "json://127.0.0.1:{free_port()}" }}]\n'
    )


def _status(address: str) -> int:
    try:
        return httpx.get(address, timeout=2).status_code
    except httpx.HTTPError:
        return 0


def test_the_metrics_have_every_name_the_dashboard_asks_for(served: tuple[Running, str]) -> None:
    _, address = served
    body = {"station": "s1", "readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.1}}]}
    assert httpx.post(f"{address}/api/v1/readings", json=body, timeout=60).status_code == 202
    eventually(
        "silence was checked", lambda: "riverchief_last_silence_check_timestamp_seconds 0.0" not in _metrics(address)
    )
    told = set(re.findall(r"^(riverchief_\w+)", _metrics(address), re.MULTILINE))
    asked = {
        name for chart in CHARTS for expression, _ in chart.lines for name in re.findall(r"riverchief_\w+", expression)
    }
    assert asked <= told, asked - told
    assert "riverchief_readings_stored_total 1.0" in _metrics(address)


def _metrics(address: str) -> str:
    return httpx.get(f"{address}/metrics", timeout=60).text


def test_readiness_names_the_broker_when_it_is_away_and_recovers(served: tuple[Running, str]) -> None:
    site, address = served
    site.broker.stop()
    answer = eventually(
        "it is not ready", lambda: (a := httpx.get(f"{address}/readyz", timeout=60)).status_code == 503 and a
    )
    assert "mqtt" in answer.text
    assert httpx.get(f"{address}/healthz", timeout=60).status_code == 200, "alive all the same"
    site.broker.start()
    eventually("it is ready again", lambda: _status(f"{address}/readyz") == 200)


def test_rules_mappings_and_contacts_are_read_again_without_a_restart_and_a_faulty_file_changes_nothing(
    served: tuple[Running, str],
) -> None:
    site, address = served
    assert site.process is not None
    asked = httpx.Client(base_url=f"{address}/api/v1", timeout=60)
    device = paho.Client(CallbackAPIVersion.VERSION2, client_id="foreign")
    device.username_pw_set(site.broker.device.user, site.broker.device.password)
    device.connect(site.broker.host, site.broker.port)
    device.loop_start()
    shift = {"begins": rfc3339(now_ms()), "until": rfc3339(now_ms() + DAY_MS)}

    def limits() -> list[float]:
        bodies = [one["body"] for one in asked.get("/rules").json()["items"]]
        return [float(number) for body in bodies for number in re.findall(r"\blimit\W+([\d.]+)", body)]

    def arrived() -> bool:
        body = json.dumps({"t": rfc3339(now_ms()), "ph": 7.2})
        device.publish("foreign/s1", body, qos=1).wait_for_publish(10)
        return site.booked() > before

    def files() -> dict[str, object]:
        answer = httpx.get(f"{address}/readyz", timeout=60)
        assert answer.status_code == 200
        return next(part for part in answer.json()["parts"] if part["name"] == "files")

    eventually("the rules of the start are in force", lambda: limits() == [9.5])
    before = site.booked()
    assert asked.post("/oncall/shifts", json={"shifts": [shift | {"person": "zhang"}]}).status_code >= 400
    _write_files(site, limit=9.2, topic="foreign/+", contact="zhang")
    site.process.send_signal(signal.SIGHUP)
    eventually("the new rules are in force", lambda: limits() == [9.2])
    eventually("the new mapping reads what arrives", arrived)
    device.loop_stop()
    assert asked.post("/oncall/shifts", json={"shifts": [shift | {"person": "zhang"}]}).status_code == 201
    _write_files(site, limit=8.5, topic="foreign/+", contact="zhang")  # it would clear above its limit
    site.process.send_signal(signal.SIGHUP)
    assert "rules.toml" in eventually("the fault is told", lambda: not (part := files())["ok"] and str(part["detail"]))
    assert limits() == [9.2]
    _write_files(site, limit=9.1, topic="foreign/+", contact="zhang")
    site.process.send_signal(signal.SIGHUP)
    eventually("all is well again", lambda: files()["ok"] and limits() == [9.1])


@pytest.mark.parametrize(
    ("command", "part", "method"),
    [
        ("serve", "ingest", "ingest.intake:Intake._take"),
        ("ingest", "mqtt", "ingest.sources.mqtt:MqttSource._on_connect"),
        ("worker", "housekeeping", "riverchief.services.housekeeping:Housekeeping.next_round"),
        ("worker", "sealing", "riverchief.audit_sealing:Sealing.next_round"),
    ],
)
def test_a_part_that_dies_ends_the_process_with_an_error(
    running: Callable[[str], Running], command: str, part: str, method: str
) -> None:
    site = running("mosquitto")
    site.more = f"[api]\nport = {free_port()}\n"
    module, name = method.split(":")
    owner, function = name.split(".")
    program = (
        f"import {module} as m\ndef die(*_): raise ZeroDivisionError('made to die')\nm.{owner}.{function} = die\n"
        "from riverchief.cli.app import main\nmain()"
    )
    done = preloaded.run(
        [sys.executable, "-c", program, command, "--settings", str(site.settings)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"part={part}" in re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)


def test_a_second_ingest_on_the_same_data_is_refused_in_one_sentence(served: tuple[Running, str]) -> None:
    site, _ = served
    command = [sys.executable, "-m", "riverchief", "ingest", "--settings", str(site.settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert shows(done.stderr, "ingest.taken")
    assert "Traceback" not in done.stderr


def test_a_site_with_a_token_has_a_first_administrator_and_answers_under_its_own_names_alone(
    running: Callable[[str], Running],
) -> None:
    site = running("mosquitto")
    site.open, port = False, free_port()
    site.more = f"[api]\nport = {port}\ntoken = 'for-machines'\nhosts = ['river.example']\nconnections_each = 8\n"
    site.more += "trusted_proxies = ['127.0.0.2']\n"
    site.start("serve")
    address = f"http://127.0.0.1:{port}"
    eventually("it is ready", lambda: _status(f"{address}/readyz") == 200)
    link = site.folder / "administrator.link"
    assert link.stat().st_mode & 0o77 == 0, "for its owner alone"
    token = first_administrator(site.folder, address)
    assert httpx.get(f"{address}{urlsplit(link.read_text('utf-8').strip()).path}", timeout=60).status_code == 410
    shown = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{address}/api/v1/me", headers=shown, timeout=60).json()["role"] == "administrator"
    for host, status in (("river.example", 200), ("rebound.example", 421)):
        assert httpx.get(f"{address}/healthz", headers={"Host": host}, timeout=60).status_code == status

    def signed_in(proxy: str) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=proxy), timeout=60) as client:
            sent = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
            return client.post(f"{address}/login", data={"token": token}, headers=sent)

    assert "Secure" in signed_in("127.0.0.2").headers["set-cookie"]
    assert "Secure" not in signed_in("127.0.0.1").headers["set-cookie"], "nobody's proxy"
    with contextlib.ExitStack() as held:
        made = [held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(30)]
        assert made[-1].recv(1) == b"", "one too many from this address"


def test_a_port_that_is_taken_is_named(served: tuple[Running, str], tmp_path: Path) -> None:
    _, address = served
    port = address.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "riverchief", "api", "--data", str(tmp_path / "other"), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_with_a_spelling_mistake_do_not_start(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"data = '{tmp_path / 'data'}'\n[mqtt]\nhots = 'broker.example'\n")
    command = [sys.executable, "-m", "riverchief", "serve", "--settings", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "mqtt.hots is not a setting" in done.stderr
    assert not (tmp_path / "data").exists(), "nothing was started"


def test_with_http_alone_a_station_that_falls_silent_opens_an_incident(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[no_data]]\nid = "silent"\ncolour = "yellow"\nintervals = 2\nat_least_s = 1\n')
    told = settings.Settings(data=tmp_path, mqtt={"enabled": False}, site={"rules": rules}, access={"open": True})
    with contextlib.closing(open_database(told)) as database:
        with database.write() as connection:
            registry.save_stations(connection, [Station("s1", "站一", "station one", 113.1, 23.0, interval_s=1)])
        system = serve.System(told, serve.Role.INGEST)
        system.start()
        try:
            assert system.ingest is not None
            body = b'{"readings": [{"at": "%s", "values": {"ph": 7.1}}]}' % rfc3339(now_ms()).encode()
            assert system.ingest.intake.submit(Message("s1", body, now_ms(), "http")).result(60).stored == 1

            def causes() -> list[str]:
                with database.read() as connection:
                    return [one.cause for one in incident_queries.list_incidents(connection, limit=10)]

            assert eventually("an incident is opened", causes) == ["silence:s1"]
        finally:
            system.stop()


@pytest.mark.parametrize(("per_s", "works"), [(30, True), (10, False), (0, False)])
def test_an_ingest_that_catches_up_is_well_however_long_that_takes(tmp_path: Path, per_s: int, works: bool) -> None:
    """The external monitor is called on; where the backlog stands or grows, it hears nothing after a minute."""
    told = settings.Settings(data=tmp_path, mqtt={"enabled": False}, ingest={"hold_messages": 1})
    system = serve.System(told, serve.Role.INGEST)
    try:
        assert system.ingest is not None
        intake, begun_ms = system.ingest.intake, now_ms()
        intake.submit(Message("s1", b"{}", begun_ms, "http"))
        intake.lanes[0].behind_since_ms = begun_ms - 600_000
        sent_ms = begun_ms - 3_600_000
        for s in range(31):
            intake._looks = add(intake._looks, Look(begun_ms + (s - 30) * 1000, s * per_s, sent_ms + s * per_s * 100))
        intake.counters.messages, intake.counters.last_sent_ms = 30 * per_s, sent_ms + 3000 * per_s
        (pace,) = [part for part in system.parts() if part.name == "ingest_lag"]
        assert pace.ok == works
    finally:
        system.database.close()


def test_while_the_ingest_is_behind_no_station_is_called_silent(tmp_path: Path) -> None:
    told = settings.Settings(data=tmp_path, mqtt={"enabled": False}, ingest={"hold_messages": 1})
    system = serve.System(told, serve.Role.INGEST)
    try:
        assert system.ingest is not None
        intake = system.ingest.intake
        assert intake.connected_since() is not None
        intake.submit(Message("s1", b"{}", now_ms(), "http"))
        assert intake.connected_since() is None
        (pace,) = [part for part in system.parts() if part.name == "ingest_lag"]
        assert (pace.ok, pace.vital, "http" in pace.detail) == (True, False, True)
        assert pace.text is not None
        assert pace.text.zh in pace.detail
        assert intake.estimate(now_ms()) == Estimate(1, None), "nothing is done yet"
        intake.start()
        caught_up = eventually("it has caught up", intake.connected_since)
        assert caught_up == intake.lanes[0].caught_up_ms
        assert intake.estimate(now_ms()) == Estimate(0, 0.0)
        assert intake.stop(30)
    finally:
        system.database.close()
