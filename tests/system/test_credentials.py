"""Logins of devices on real brokers: made over the API, good below their own station alone, gone when revoked."""

import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fastapi.testclient import TestClient
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context, Devices
from infra.database import Database
from infra.errors import ConfigurationError
from ingest.devices.claims import Claims
from ingest.devices.credentials import Credentials, ExpiryWorker
from ingest.storage import changes
from ingest.storage import registry as registry_store
from ingest.storage.port import series
from ingest.storage.sql import SqlReadings
from riverchief import setup
from riverchief.brokers.local import Broker, free_port, plugin
from riverchief.brokers.mosquitto_admin import Address, DynamicSecurity, accepts, ingest_role
from riverchief.brokers.users import MosquittoUsers, NatsUsers, broker_users, endpoint
from riverchief.cli.app import app
from riverchief.settings import load
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.rig import Running, eventually
from tests.says import says
from tests.stack import ShippedBroker

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(plugin() is None, reason="no dynamic-security plugin here (it comes with mosquitto)"),
]

NOW = 1_778_580_000_000
STATIONS = (Station("shiwan", "石湾", "Shiwan", 113.05, 23.0), Station("qicha", "奇槎", "Qicha", 113.14, 23.02))
BODY = json.dumps({"readings": [{"at": "2026-05-12T10:00:00Z", "values": {"ph": 7.0}}]})


class Site:
    """An administered broker, a database with two stations, and a client of the API on both."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.broker = Broker(folder / "broker", kind=kind, administered=True)
        self.broker.start()
        self.database = Database(f"sqlite:///{folder / 'riverchief.db'}")
        with_tables(self.database)
        self.known = catalogue()
        with self.database.write() as connection:
            registry_store.save(connection, Registry(STATIONS, catalogue=self.known))
        assert self.broker.admin is not None
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.broker.admin.items()]
        self.settings = folder / "settings.toml"
        head = f"data = '{folder}'\n[mqtt]\nport = {self.broker.port}\n[broker_admin]\n"
        self.settings.write_text(head + "\n".join(lines))
        loaded = load(self.settings)
        users = broker_users(loaded)
        assert users is not None
        self.now_ms = NOW
        self.credentials = Credentials(self.database, users, lambda: self.now_ms)
        claims = Claims(self.database, self.credentials, lambda: self.now_ms)
        context = Context(
            self.database,
            SqlReadings(self.database, self.known),
            self.known,
            "/riverchief/test",
            lambda: self.now_ms,
            devices=Devices(self.credentials, claims, endpoint(loaded)),
            open=True,
        )
        self.client = TestClient(create_app(context))
        self.heard: list[tuple[str, bytes]] = []
        self._ingest = paho.Client(CallbackAPIVersion.VERSION2)
        self._ingest.username_pw_set(self.broker.ingest.user, self.broker.ingest.password)
        self._ingest.on_message = lambda _c, _u, m: self.heard.append((m.topic, m.payload))
        subscribed = threading.Event()
        self._ingest.on_subscribe = lambda *_: subscribed.set()
        self._ingest.on_connect = lambda c, *_: c.subscribe("rivers/v1/#", qos=1)
        self._ingest.connect(self.broker.host, self.broker.port)
        self._ingest.loop_start()
        eventually("the ingest listens", subscribed.is_set)

    def issue(self, station: str = "shiwan", **body: Any) -> tuple[str, str]:
        response = self.client.post(f"/api/v1/stations/{station}/credentials", json=body or None)
        assert response.status_code == 201, response.text
        assert response.headers["cache-control"] == "no-store"
        shown = response.json()
        assert shown["topics"]["telemetry"] == f"rivers/v1/{station}/telemetry"
        assert shown["broker"]["port"] == self.broker.port
        return shown["user"], shown["password"]

    def revoke(self, user: str, station: str = "shiwan") -> int:
        return int(self.client.delete(f"/api/v1/stations/{station}/credentials/{user}").status_code)

    def listed(self, station: str = "shiwan") -> dict[str, dict[str, Any]]:
        response = self.client.get(f"/api/v1/stations/{station}/credentials")
        assert response.status_code == 200, response.text
        assert "password" not in response.text
        return {one["user"]: one for one in response.json()["items"]}

    def lets_in(self, user: str, password: str) -> bool:
        return accepts(Address(self.broker.host, self.broker.port), user, password)

    def close(self) -> None:
        self._ingest.disconnect()
        self._ingest.loop_stop()
        self.broker.stop()
        self.database.close()


@pytest.fixture(params=["mosquitto", "nats"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    try:
        made = Site(tmp_path, request.param)
    except ConfigurationError as error:
        pytest.skip(str(error))
    yield made
    made.close()


class Device:
    """A device that is signed in and does not come back once it is cut off."""

    def __init__(self, site: Site, user: str, password: str) -> None:
        eventually(f"{user} is let in", lambda: site.lets_in(user, password))
        self.cut_off = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.username_pw_set(user, password)
        self._client.on_disconnect = lambda *_: self.cut_off.set()
        self._client.connect(site.broker.host, site.broker.port)
        self._client.loop_start()
        eventually(f"{user} is connected", self._client.is_connected)

    def publish(self, topic: str, payload: str = BODY) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_new_login_writes_below_its_own_station_and_nowhere_else(site: Site) -> None:
    user, password = site.issue()
    topics = ("qicha/telemetry", "shiwan/command", "shiwan/observed", "shiwan/telemetry")
    for topic in topics:
        device = Device(site, user, password)  # a new one each time: Mosquitto cuts off who was refused
        device.publish(f"rivers/v1/{topic}")
        device.close()
    eventually("its own message arrives", lambda: site.heard)
    assert [topic for topic, _ in site.heard] == ["rivers/v1/shiwan/telemetry"]


def test_a_revoked_device_is_cut_off_at_once_and_the_other_login_goes_on(site: Site) -> None:
    first, second = site.issue(), site.issue()
    old, new = Device(site, *first), Device(site, *second)
    assert site.revoke(first[0]) == 204
    eventually("the old one is cut off", old.cut_off.is_set)
    eventually("it is not let in again", lambda: not site.lets_in(*first))
    new.publish("rivers/v1/shiwan/telemetry", "still here")
    eventually("the new one is heard", lambda: ("rivers/v1/shiwan/telemetry", b"still here") in site.heard)
    assert not new.cut_off.is_set()
    assert site.revoke(first[0]) == 204, "again is no harm"
    told = site.listed()
    assert told[first[0]]["revoked_at"] is not None
    assert told[second[0]]["revoked_at"] is None
    old.close()
    new.close()


def test_logins_outlive_a_restart_of_the_broker(site: Site) -> None:
    kept, gone = site.issue(), site.issue()
    site.revoke(gone[0])
    site.broker.kill()
    site.broker.start()
    eventually("the kept one is let in", lambda: site.lets_in(*kept))
    assert not site.lets_in(*gone)


def test_the_others_end_when_their_grace_is_over(site: Site) -> None:
    old = site.issue()
    new = site.issue(others_end_in_s=3600, by="示例 engineer")
    device = Device(site, *old)
    assert site.listed()[old[0]]["expires_at"] == "2026-05-12T11:00:00Z"
    assert site.credentials.retire() == 0
    site.now_ms += 3_600_000
    retirement = ExpiryWorker(site.credentials, every_s=0.05)
    retirement.start()
    eventually("the old one is cut off", device.cut_off.is_set)
    assert retirement.stop()
    assert site.listed()[old[0]]["revoked_by"] == "expiry"
    assert site.lets_in(*new)
    last = site.issue(others_end_in_s=0)
    eventually("the other ends at once", lambda: not site.lets_in(*new))
    eventually("the last is let in", lambda: site.lets_in(*last))
    device.close()


def test_who_changed_what_is_written_down_and_no_password_is_anywhere(site: Site, tmp_path: Path) -> None:
    user, password = site.issue(by="示例 engineer")
    site.revoke(user)
    with site.database.read() as connection:
        written = changes.listing(connection, what="credential", key="shiwan")
    assert [(one.key, one.by, dict(one.after)) for one in written] == [
        (f"shiwan/{user}", "本机 local", {"revoked": True}),
        (f"shiwan/{user}", "示例 engineer", {"issued": True}),
    ]
    site.database.close()
    for file in tmp_path.glob("riverchief.db*"):
        assert password.encode() not in file.read_bytes(), file


def test_what_is_not_there_and_what_is_too_many_is_refused(site: Site) -> None:
    assert site.client.post("/api/v1/stations/nowhere/credentials").status_code == 404
    assert site.client.get("/api/v1/stations/nowhere/credentials").status_code == 404
    assert site.revoke("admin") == 404, "no user but the station's own"
    assert site.revoke(site.issue("qicha")[0], "shiwan") == 404
    for _ in range(10):
        site.issue()
    assert site.client.post("/api/v1/stations/shiwan/credentials").status_code == 409


def test_while_the_broker_is_away_nothing_is_made_and_nothing_is_called_revoked(site: Site) -> None:
    user, password = site.issue()
    site.broker.stop()
    response = site.client.post("/api/v1/stations/shiwan/credentials")
    assert response.status_code == (503 if site.broker.kind == "mosquitto" else response.status_code)
    if site.broker.kind == "mosquitto":
        assert response.headers["retry-after"]
        assert site.revoke(user) == 503
        in_force = [one for one, told in site.listed().items() if told["revoked_at"] is None]
        assert in_force == [user]
        site.broker.start()
        assert site.lets_in(user, password)


def test_without_an_administrator_the_answer_says_what_to_do(site: Site) -> None:
    context: Context = site.client.app.state.context  # type: ignore[attr-defined]
    from dataclasses import replace

    client = TestClient(create_app(replace(context, devices=None)))
    response = client.post("/api/v1/stations/shiwan/credentials")
    assert response.status_code == 503
    assert "[broker_admin]" in response.json()["detail"]
    assert client.get("/api/v1/stations/shiwan/credentials").status_code == 200


def test_the_command_line_provisions_and_revokes(site: Site, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["stations", *arguments, "--settings", str(site.settings)])
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    sheet = json.loads(run("provision", "shiwan", "--json"))
    device = Device(site, sheet["user"], sheet["password"])
    device.publish(sheet["topics"]["telemetry"], json.dumps(sheet["example"]))
    eventually("the example arrives", lambda: site.heard)
    file = tmp_path / "shiwan.txt"
    run("provision", "shiwan", "--out", str(file))
    text = file.read_text(encoding="utf-8")
    assert f"mosquitto_pub -h 127.0.0.1 -p {site.broker.port} -q 1" in text
    assert file.stat().st_mode & 0o077 == 0
    run("revoke", "shiwan")
    eventually("the device is cut off", device.cut_off.is_set)
    assert all(one["revoked_at"] for one in site.listed().values())
    device.close()


def test_an_administrator_with_a_wrong_password_is_a_broker_that_is_away(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "b", kind="mosquitto", administered=True)
    broker.start()
    try:
        from ingest.devices.credentials import BrokerUnavailable

        users = MosquittoUsers(Address(broker.host, broker.port), "admin", "wrong")
        with pytest.raises(BrokerUnavailable, match="refuses the user admin"):
            users.create_user("a.b", "示例", "a")
        with pytest.raises(BrokerUnavailable, match=says("device.nats_away")):
            NatsUsers(tmp_path / "none", tmp_path / "none").delete_user("a")
    finally:
        broker.stop()


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_demo_that_is_started_again_still_knows_its_devices(tmp_path: Path, kind: str) -> None:
    try:
        first = Broker(tmp_path, kind=kind, administered=True)
    except ConfigurationError as error:
        pytest.skip(str(error))
    first.start()
    users = _users(first)
    users.create_user("shiwan.x", "示例-1", "shiwan")
    first.stop()
    second = Broker(tmp_path, kind=kind, administered=True)
    second.start()
    try:
        address = Address(second.host, second.port)
        assert accepts(address, "shiwan.x", "示例-1")
        assert accepts(address, second.ingest.user, second.ingest.password)
        assert not accepts(address, first.ingest.user, first.ingest.password)
        _users(second).delete_user("shiwan.x")
        eventually("it is gone", lambda: not accepts(address, "shiwan.x", "示例-1"))
    finally:
        second.stop()


def _users(broker: Broker) -> MosquittoUsers | NatsUsers:
    assert broker.admin is not None
    if broker.kind == "nats":
        return NatsUsers(Path(str(broker.admin["nats_users_file"])), Path(str(broker.admin["nats_pid_file"])))
    return MosquittoUsers(Address(broker.host, broker.port), "admin", str(broker.admin["password"]))


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def strict() -> Iterator[tuple[ShippedBroker, int]]:
    """The shipped broker with the shipped listener for certificates; and that listener's port."""
    broker, port = ShippedBroker(), free_port()
    text = Path("config/mosquitto/certificates.conf").read_text(encoding="utf-8")
    assert "listener 8886\n" in text
    text = text.replace("listener 8886\n", f"listener {port} 127.0.0.1\n")
    text = text.replace("/mosquitto/security/", f"{broker.secrets / 'broker'}/")
    broker.configuration.write_text(broker.configuration.read_text(encoding="utf-8") + text, encoding="utf-8")
    broker.start()
    yield broker, port
    broker.close()


class Shown:
    """A device that shows a certificate and gives neither user nor password."""

    def __init__(self, port: int, ca: Path, certificate: Path | None, user: str | None = None) -> None:
        self.connected, self.failed = threading.Event(), threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        key = None if certificate is None else str(certificate.with_suffix(".key"))
        self._client.tls_set(
            str(ca), None if certificate is None else str(certificate), key, cert_reqs=ssl.CERT_REQUIRED
        )
        if user is not None:
            self._client.username_pw_set(user, "示例")
        self._client.on_connect = lambda _c, _u, _f, reason, _p: (
            self.failed if reason.is_failure else self.connected
        ).set()
        self._client.on_disconnect = lambda *_: self.failed.set()
        try:
            self._client.connect("127.0.0.1", port)
        except (OSError, ssl.SSLError):
            self.failed.set()
            return
        self._client.loop_start()
        eventually("the broker has answered", lambda: self.connected.is_set() or self.failed.is_set())

    def publish(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_certificate_in_the_stations_name_opens_its_own_topics_without_a_password(  # noqa: PLR0915  (one story from beginning to end)
    strict: tuple[ShippedBroker, int], tmp_path: Path
) -> None:
    broker, port = strict
    password = broker.secret("riverchief/broker_admin_password")
    setup.broker(broker.inside, password, "ingest", "示例", ingest_role())
    heard: list[str] = []
    ingest = paho.Client(CallbackAPIVersion.VERSION2)
    ingest.username_pw_set("ingest", "示例")
    ingest.on_message = lambda _c, _u, m: heard.append(f"{m.topic} {m.payload.decode()}")
    subscribed = threading.Event()
    ingest.on_subscribe = lambda *_: subscribed.set()
    ingest.on_connect = lambda c, *_: c.subscribe("rivers/v1/#", qos=1)
    ingest.connect("127.0.0.1", broker.port)
    ingest.loop_start()
    eventually("the ingest listens", subscribed.is_set)

    settings = tmp_path / "settings.toml"
    settings.write_text(f"[mqtt]\nport = {broker.port}\n")
    admin_file = str(broker.secrets / "riverchief" / "broker_admin_password")
    arguments = ["setup", "device", "shiwan", "--admin-password-file", admin_file, "--settings", str(settings)]
    arguments += ["--certificate", str(tmp_path / "shiwan"), "--secrets", str(broker.secrets)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    key = tmp_path / "shiwan" / "shiwan.key"
    assert key.stat().st_mode & 0o077 == 0

    ca = tmp_path / "shiwan" / "ca.pem"
    forger = Shown(port, ca, tmp_path / "shiwan" / "shiwan.pem")
    forger.publish("rivers/v1/qicha/telemetry", "forged")
    forger.close()
    device = Shown(port, ca, tmp_path / "shiwan" / "shiwan.pem")
    assert device.connected.is_set()
    device.publish("rivers/v1/shiwan/telemetry", "own")
    eventually("its own arrives", lambda: heard)
    assert heard == ["rivers/v1/shiwan/telemetry own"]

    # neither nobody, nor a certificate of another authority, nor the broker's own, nor the name alone elsewhere
    assert Shown(port, ca, None).failed.is_set()
    setup.prepare(tmp_path / "other", ["127.0.0.1"], datetime.now(UTC))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    from riverchief.brokers import certificates

    own = certificates.Pair(*((tmp_path / "other" / "authority" / name).read_bytes() for name in ("ca.pem", "ca.key")))
    pair = certificates.client(own, "shiwan", datetime.now(UTC))
    (foreign / "shiwan.pem").write_bytes(pair.certificate)
    (foreign / "shiwan.key").write_bytes(pair.key)
    assert Shown(port, ca, foreign / "shiwan.pem").failed.is_set()
    for name in ("server.pem", "server.key"):
        shutil.copy(broker.secrets / "broker" / name, foreign / name)
    assert Shown(port, ca, foreign / "server.pem").failed.is_set()
    assert not accepts(broker.outside, "shiwan", "")
    assert not accepts(broker.outside, "shiwan", "示例")

    # another user name beside the certificate changes nothing: the certificate says who it is
    posing = Shown(port, ca, tmp_path / "shiwan" / "shiwan.pem", user="ingest")
    posing.publish("rivers/v1/qicha/command", "forged")
    posing.close()
    posing = Shown(port, ca, tmp_path / "shiwan" / "shiwan.pem", user="ingest")
    posing.publish("rivers/v1/shiwan/telemetry", "own again")
    eventually("it is still shiwan", lambda: len(heard) > 1)
    assert heard[1:] == ["rivers/v1/shiwan/telemetry own again"]

    with DynamicSecurity(broker.inside, password) as security:
        security.remove("shiwan")
    for one in (device, posing):
        eventually("both are cut off", one.failed.is_set)
    back = Shown(port, ca, tmp_path / "shiwan" / "shiwan.pem")
    if back.connected.is_set():
        back.publish("rivers/v1/shiwan/telemetry", "revoked")
    ingest.publish("rivers/v1/shiwan/observed", "a round trip later", qos=1).wait_for_publish(20)
    eventually("the round trip", lambda: heard[-1].endswith("a round trip later"))
    assert not any("revoked" in one or "forged" in one for one in heard)
    for one in (device, posing, back):
        one.close()
    ingest.disconnect()
    ingest.loop_stop()


# -- other people's payloads ------------------------------------------------------------------------------------------


def test_an_uplink_on_a_mapped_topic_reaches_the_store_from_the_broker(running: Any, tmp_path: Path) -> None:
    site: Running = running("mosquitto")
    site.register(Station("dph-shiwan-1", "石湾", "Shiwan", 113.05, 23.0))
    mapping = Path("config/mappings.toml").resolve()
    # the broker of this rig lets the ingest read our own topics alone
    rules = site.folder / "broker" / "acl"
    rules.write_text(
        f"user ingest\ntopic read application/#\n{rules.read_text()}user device\ntopic write application/#\n"
    )
    site.broker.stop()
    site.broker.start()
    site.more = f"[ingest]\nmappings = '{mapping}'\n"
    site.start()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(site.broker.device.user, site.broker.device.password)
    client.connect(site.broker.host, site.broker.port)
    client.loop_start()
    store = SqlReadings(site.database, catalogue())
    uplink = {
        "time": "2026-05-12T10:29:58.775023242+00:00",
        "deviceInfo": {"devEui": "24e124136b502217", "tags": {"station": "dph-shiwan-1"}},
        "object": {"ph": 7.18},
    }

    def stored() -> bool:
        client.publish("application/a/device/24e124136b502217/event/up", json.dumps(uplink), qos=1).wait_for_publish(20)
        return bool(len(series(store, "dph-shiwan-1", "ph", 0, 2**42, 10).at))

    eventually("the uplink is stored", stored)
    client.disconnect()
    client.loop_stop()
