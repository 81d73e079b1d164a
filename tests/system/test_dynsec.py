"""Users and rights of the shipped broker configuration, against a real Mosquitto with its dynamic-security plugin."""

import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from typer.testing import CliRunner

from infra.errors import ConfigurationError
from infra.texts import say
from ingest.devices.credentials import BrokerUnavailable
from riverchief import setup
from riverchief.brokers.mosquitto_admin import (
    ADMIN,
    DEFAULTS,
    HEALTH_TOPIC,
    Address,
    DynamicSecurity,
    Right,
    Role,
    accepts,
    device_role,
    ingest_role,
)
from riverchief.cli.app import app
from riverchief.doctor.broker import administration
from riverchief.doctor.findings import Level
from riverchief.settings import MqttSection, load
from tests.rig import eventually
from tests.says import says
from tests.stack import Session, ShippedBroker, plugin

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(plugin() is None, reason="no dynamic-security plugin here (it comes with mosquitto)"),
]

INGEST, PASSWORD = "ingest", "示例-password-of-the-ingest"


@pytest.fixture
def broker() -> Iterator[ShippedBroker]:
    made = ShippedBroker()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def admin(broker: ShippedBroker) -> Iterator[DynamicSecurity]:
    setup.broker(broker.inside, broker.secret("riverchief/broker_admin_password"), INGEST, PASSWORD, ingest_role())
    with DynamicSecurity(broker.inside, broker.secret("riverchief/broker_admin_password")) as security:
        yield security


class Peer:
    """A client that remembers what it was sent, what it was granted and whether it was thrown out."""

    def __init__(self, address: Address, user: str, password: str) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.dropped = threading.Event()
        self._granted: dict[int | None, bool] = {}
        self._reasons: dict[int, str] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, password)
        if address.ca_file:
            self._client.tls_set(str(address.ca_file), cert_reqs=ssl.CERT_REQUIRED)
        self._client.on_message = lambda _c, _u, m: self.received.append((m.topic, m.payload))
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = lambda *_: self.dropped.set()
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        eventually(f"{user} is connected", self._client.is_connected)

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: list[Any], _p: Any) -> None:
        self._granted[mid] = not any(reason.is_failure for reason in reasons)

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        self._reasons[mid] = str(reason)

    def may_read(self, topic: str) -> bool:
        """Asks again when the connection is lost: 2.0.11 cuts it after a message of MQTT 5 that it refuses."""
        asked: list[int] = []

        def answered() -> bool:
            if not asked or self.dropped.is_set():
                self.dropped.clear()
                _, mid = self._client.subscribe(topic, qos=1)
                asked[:] = [] if mid is None else [mid]
            return bool(asked) and asked[0] in self._granted

        eventually(f"an answer to the subscription of {topic}", answered)
        return self._granted[asked[0]]

    def publish(self, topic: str, payload: bytes = b"{}") -> str:
        """The broker's answer in its own words."""
        mid = self._client.publish(topic, payload, qos=1).mid
        eventually(f"an answer to the message to {topic}", lambda: mid in self._reasons)
        return self._reasons[mid]

    def may_write(self, topic: str) -> bool:
        return self.publish(topic) != "Not authorized"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.close()


def signed_in(peers: list[Peer], address: Address, user: str, password: str) -> Peer:
    peers.append(Peer(address, user, password))
    return peers[-1]


def device(peers: list[Peer], broker: ShippedBroker, admin: DynamicSecurity, station: str) -> Peer:
    role = device_role(station)
    admin.ensure_role(role)
    admin.ensure_client(station, f"示例-{station}", [role.name])
    return signed_in(peers, broker.outside, station, f"示例-{station}")


def test_a_stranger_and_a_wrong_password_are_refused(broker: ShippedBroker, admin: DynamicSecurity) -> None:
    assert accepts(broker.inside, INGEST, PASSWORD)
    assert not accepts(broker.inside, INGEST, "wrong")
    assert not accepts(broker.inside, "nobody", "nothing")
    assert not accepts(broker.inside, ADMIN, "")
    with pytest.raises(ConfigurationError, match=says("broker.refuses_user", user="admin", refusal="Not authorized")):
        DynamicSecurity(broker.inside, "wrong")
    anonymous = paho.Client(CallbackAPIVersion.VERSION2)
    answers: list[bool] = []
    anonymous.on_connect = lambda _c, _u, _f, reason, _p: answers.append(reason.is_failure)
    anonymous.connect("127.0.0.1", broker.port)
    anonymous.loop_start()
    try:
        assert eventually("an answer to the one without a name", lambda: answers) == [True]
    finally:
        anonymous.disconnect()
        anonymous.loop_stop()


def test_a_device_writes_below_its_own_station_and_nowhere_else(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    ingest = signed_in(peers, broker.inside, INGEST, PASSWORD)
    assert ingest.may_read("rivers/v1/#")
    one = device(peers, broker, admin, "qc-01")
    for kind in ("telemetry", "status", "event", "reply"):
        assert one.may_write(f"rivers/v1/qc-01/{kind}"), kind
        assert not one.may_write(f"rivers/v1/qc-02/{kind}"), kind
    for topic in ("rivers/v1/qc-01/command", "rivers/v1/qc-01/observed", "rivers/v1", "x", "$SYS/broker/x"):
        assert not one.may_write(topic), topic
    assert one.publish("rivers/v1/qc-01/telemetry", b"last") == "Success"
    eventually("the last one arrives", lambda: ("rivers/v1/qc-01/telemetry", b"last") in ingest.received)
    assert {topic for topic, _ in ingest.received} == {
        f"rivers/v1/qc-01/{kind}" for kind in ("telemetry", "status", "event", "reply")
    }, "what was refused was not delivered either"


def test_a_device_reads_its_own_commands_and_nothing_else(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    ingest = signed_in(peers, broker.inside, INGEST, PASSWORD)
    one = device(peers, broker, admin, "qc-01")
    assert one.may_read("rivers/v1/qc-01/command")
    for topic in ("rivers/v1/#", "#", "rivers/v1/+/command", "rivers/v1/qc-02/command", "rivers/v1/qc-01/telemetry"):
        assert not one.may_read(topic), topic
    assert not one.may_read("$CONTROL/dynamic-security/v1/response")
    assert ingest.publish("rivers/v1/qc-01/command", b"sample now") == "Success"
    assert eventually("the command arrives", lambda: one.received) == [("rivers/v1/qc-01/command", b"sample now")]


def test_a_device_with_the_client_id_of_the_ingest_gets_a_session_of_its_own(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    client_id = MqttSection().client_id
    ingest = Session(broker.inside, client_id, INGEST, PASSWORD)
    ingest.subscribe("rivers/v1/#")
    device(peers, broker, admin, "qc-01").close()
    login = ("qc-01", "示例-qc-01")
    thief = Session(broker.outside, client_id, *login)
    assert thief.client.publish("rivers/v1/qc-01/telemetry", b"first", qos=1).rc == 0
    eventually("the ingest stays connected and receives", lambda: b"first" in ingest.received)
    assert not thief.present
    assert not ingest.dropped.is_set()
    ingest.close()

    thief.client.publish("rivers/v1/qc-01/telemetry", b"queued", qos=1).wait_for_publish(30)
    thief.close()
    for clean in (False, True):
        thief = Session(broker.outside, client_id, *login, clean=clean)
        thief.client.publish("rivers/v1/qc-01/telemetry", b"queued", qos=1).wait_for_publish(30)
        thief.close()
        assert thief.received == []
    back = Session(broker.inside, client_id, INGEST, PASSWORD)
    assert back.present
    eventually("the queue is complete", lambda: back.received == [b"queued"] * 3)
    back.close()


def test_no_device_is_given_the_login_or_the_client_id_of_riverchief(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[mqtt]\nuser = 'reader'\npassword = '示例'\nclient_id = 'river-reader'\n", encoding="utf-8")
    for name in ("reader", "river-reader", "river-reader-observed", ADMIN, "health"):
        arguments = ["setup", "device", name, "--admin-password-file", str(file), "--settings", str(file)]
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, ConfigurationError), name
        assert result.exception.text == say("command.reserved_login", station=name)


def test_the_ingest_reads_every_river_and_writes_commands_alone(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    ingest = signed_in(peers, broker.inside, INGEST, PASSWORD)
    assert ingest.may_read("rivers/v1/+/telemetry")
    for kind, allowed in (("command", True), ("observed", True), ("telemetry", False), ("status", False)):
        assert ingest.may_write(f"rivers/v1/qc-01/{kind}") is allowed, kind
    assert not ingest.may_write("$CONTROL/dynamic-security/v1"), "the ingest does not make users"


def test_the_administrator_makes_users_and_reads_no_river(broker: ShippedBroker, peers: list[Peer]) -> None:
    admin = signed_in(peers, broker.inside, ADMIN, broker.secret("riverchief/broker_admin_password"))
    assert not admin.may_read("rivers/v1/#")
    assert not admin.may_write("rivers/v1/qc-01/command")


def test_setting_up_twice_disturbs_nobody(broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]) -> None:
    ingest = signed_in(peers, broker.inside, INGEST, PASSWORD)
    one = device(peers, broker, admin, "qc-01")
    before = json.loads((broker.secrets / "broker" / "dynamic-security.json").read_text())
    setup.broker(broker.inside, broker.secret("riverchief/broker_admin_password"), INGEST, PASSWORD, ingest_role())
    admin.ensure_role(device_role("qc-01"))
    admin.ensure_client("qc-01", "示例-qc-01", ["device-qc-01"])
    assert ingest.may_write("rivers/v1/qc-01/command")
    assert one.may_write("rivers/v1/qc-01/telemetry")
    assert not ingest.dropped.is_set()
    assert not one.dropped.is_set()
    assert json.loads((broker.secrets / "broker" / "dynamic-security.json").read_text()) == before


def test_what_differs_is_brought_back(broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]) -> None:
    admin.ensure_role(Role("device-qc-01", frozenset({Right("publishClientSend", "#")})))
    admin.ensure_client("qc-01", "old", ["device-qc-01", "ingest"])
    one = device(peers, broker, admin, "qc-01")
    assert not one.may_write("rivers/v1/qc-02/telemetry"), "the wide right is gone"
    assert not one.may_read("rivers/v1/#"), "the second role is gone"
    assert not accepts(broker.inside, "qc-01", "old"), "the old password is gone"


def test_a_removed_device_is_thrown_out_at_once_and_stays_out(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    one = device(peers, broker, admin, "qc-01")
    admin.remove("qc-01", "device-qc-01")
    eventually("it is disconnected", one.dropped.is_set)
    assert not accepts(broker.inside, "qc-01", "示例-qc-01")
    admin.remove("qc-01", "device-qc-01")  # gone is gone
    roles = json.loads((broker.secrets / "broker" / "dynamic-security.json").read_text())["roles"]
    assert "device-qc-01" not in {role["rolename"] for role in roles}


def test_users_survive_a_power_cut_of_the_broker(
    broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]
) -> None:
    device(peers, broker, admin, "qc-01")
    broker.stop(signal.SIGKILL)
    broker.start()
    assert accepts(broker.outside, "qc-01", "示例-qc-01")
    assert accepts(broker.inside, INGEST, PASSWORD)


def test_a_broker_of_defaults_is_made_to_deny(broker: ShippedBroker, admin: DynamicSecurity, peers: list[Peer]) -> None:
    """The plugin by itself delivers whatever somebody managed to subscribe to."""
    admin._run(
        {"command": "setDefaultACLAccess", "acls": [{"acltype": "publishClientReceive", "allow": True}]},
    )
    setup.broker(broker.inside, broker.secret("riverchief/broker_admin_password"), INGEST, PASSWORD, ingest_role())
    admin.ensure_role(Role("nosy", frozenset({Right("subscribePattern", "rivers/v1/#")})))
    admin.ensure_client("nosy", "示例", ["nosy"])
    nosy = signed_in(peers, broker.inside, "nosy", "示例")
    assert nosy.may_read("rivers/v1/#")
    ingest = signed_in(peers, broker.inside, INGEST, PASSWORD)
    assert ingest.may_read("rivers/v1/#")
    one = device(peers, broker, admin, "qc-01")
    one.publish("rivers/v1/qc-01/telemetry", b"for the ingest")
    eventually("the ingest has it", lambda: ingest.received)
    assert ingest.publish("rivers/v1/qc-01/command") == "Success"  # a round trip later
    assert nosy.received == []


def test_only_who_trusts_the_authority_gets_in_from_outside(
    broker: ShippedBroker, admin: DynamicSecurity, tmp_path: Path
) -> None:
    assert accepts(broker.outside, INGEST, PASSWORD)
    plain = Address("127.0.0.1", broker.tls_port, timeout_s=3)
    with pytest.raises(BrokerUnavailable):
        accepts(plain, INGEST, PASSWORD)
    foreign = tmp_path / "foreign.pem"
    setup.prepare(tmp_path / "other", ["127.0.0.1"], datetime.now(UTC))
    shutil.copy(tmp_path / "other" / "broker" / "ca.pem", foreign)
    with pytest.raises(BrokerUnavailable, match="certificate"):
        accepts(Address("127.0.0.1", broker.tls_port, foreign), INGEST, PASSWORD)
    setup.prepare(broker.secrets, ["broker.example"], datetime.now(UTC))
    broker.stop()
    broker.start()
    with pytest.raises(BrokerUnavailable, match="certificate"):
        accepts(broker.outside, INGEST, PASSWORD)  # another name is on it now


def test_the_health_check_of_the_container_tells_life_from_death(broker: ShippedBroker) -> None:
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("no mosquitto_sub here (tests/servers.sh installs it)")
    command = [program, "-p", str(broker.port), "-t", HEALTH_TOPIC, "-C", "1", "-W", "15"]
    environment = {"XDG_CONFIG_HOME": str(broker.secrets / "broker"), "PATH": os.environ["PATH"]}
    alive = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert alive.returncode == 0, alive.stderr
    assert "seconds" in alive.stdout
    broker.stop()
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode != 0


def test_nobody_else_on_the_machine_reads_the_users_or_the_key(broker: ShippedBroker, admin: DynamicSecurity) -> None:
    for path in (broker.secrets / "broker").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((broker.secrets / "broker").stat().st_mode) == 0o700


def test_a_plain_broker_without_the_plugin_is_named_as_the_cause(tmp_path: Path) -> None:
    from riverchief.brokers.local import Broker

    plain = Broker(tmp_path / "plain", kind="mosquitto")
    plain.start()
    try:
        address = Address(plain.host, plain.port, timeout_s=2)
        with pytest.raises(
            (ConfigurationError, BrokerUnavailable),
            match=says("broker.no_plugin", topic="$CONTROL/dynamic-security/v1", seconds=2),
        ):
            setup.broker(address, plain.ingest.password, "x", "y", ingest_role(), admin=plain.ingest.user)
    finally:
        plain.stop()


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(BrokerUnavailable, match=says("broker.unreachable", where="127.0.0.1:1")):
        accepts(Address("127.0.0.1", 1), "a", "b")


def test_the_doctor_tells_whether_logins_can_be_made_and_whether_they_bind(
    broker: ShippedBroker, admin: DynamicSecurity, tmp_path: Path
) -> None:
    def said(password: str) -> list[tuple[Level, str]]:
        file = tmp_path / "settings.toml"
        where = f"host = '{broker.inside.host}'\nport = {broker.inside.port}\npassword = '{password}'\n"
        file.write_text(f"[broker_admin]\nenabled = true\n{where}", encoding="utf-8")
        return [(found.level, found.text.en) for found in administration(load(file))]

    password = broker.secret("riverchief/broker_admin_password")
    assert [level for level, _ in said(password)] == [Level.OK]
    admin._run(
        {"command": "setDefaultACLAccess", "acls": [{"acltype": kind, "allow": True} for kind in DEFAULTS]},
    )
    ((level, words),) = said(password)
    assert (level, "allows by default" in words) == (Level.FAILURE, True)
    ((level, words),) = said("示例-wrong")
    assert (level, "示例-wrong" in words) == (Level.FAILURE, False)
