"""Asking a device over the broker through the API: its answer, and what happens without one."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fastapi.testclient import TestClient
from paho.mqtt.enums import CallbackAPIVersion

from api.app import create_app
from api.context import Context
from infra.database import Database
from infra.errors import NotFound
from infra.texts import same, say
from ingest.sources.commands import MqttCommands, NoReply
from ingest.sources.mqtt import MqttSettings
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import Broker
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.rig import KINDS, eventually
from tests.says import says

pytestmark = pytest.mark.broker
STATION = Station("shiwan", "石湾", "Shiwan", 113.07, 23.0)


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker", kind=request.param)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def commands(broker: Broker) -> Iterator[MqttCommands]:
    login = broker.ingest
    made = MqttCommands(MqttSettings(port=broker.port, user=login.user, password=login.password))
    made.start()
    eventually("replies are listened to", lambda: made.listening)
    yield made
    made.stop()


class Device:
    """Answers what it is told to, on a connection of its own."""

    def __init__(self, broker: Broker, answers: dict[str, bytes] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = answers or {}
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.device.user, broker.device.password)
        self._client.on_connect = lambda client, *_: client.subscribe("rivers/v1/shiwan/command", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._obey
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def _obey(self, client: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        body = json.loads(message.payload)
        self.asked.append(body)
        said = self._answers.get(body["command"], b'{"id": "%s", "done": true, "bottle": 7}')
        if said:
            client.publish("rivers/v1/shiwan/reply", said.replace(b"%s", body["id"].encode()), qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def context(tmp_path: Path, commands: MqttCommands) -> Iterator[Context]:
    database = Database(f"sqlite:///{tmp_path / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        registry_store.save(connection, Registry((STATION,), catalogue=catalogue()))
    store = SqlReadings(database, catalogue())
    yield Context(database, store, catalogue(), "/test", lambda: 1_790_000_000_000, mqtt_commands=commands, open=True)
    database.close()


def ask(context: Context, **body: object) -> Any:
    return TestClient(create_app(context)).post("/api/v1/stations/shiwan/commands", json=body)


def test_a_device_is_asked_and_its_answer_comes_back(broker: Broker, context: Context) -> None:
    device = Device(broker)
    answer = ask(context, command="sample_now", factor="w21003")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "station": "shiwan",
        "command": "sample_now",
        "by": "mqtt",
        "done": True,
        "qn_rtn": None,
        "exe_rtn": None,
        "fields": {"bottle": "7"},
    }
    assert ask(context, command="set_interval", seconds=300).json()["done"] is True
    assert [{k: v for k, v in one.items() if k != "id"} for one in device.asked] == [
        {"command": "sample_now", "parameter": "nh3n"},
        {"command": "set_interval", "seconds": 300},
    ]
    refused = ask(context, command="set_time")
    assert (refused.status_code, "sample_now" in refused.text) == (409, True)
    device.close()


def test_where_a_logger_is_connected_it_is_asked_and_the_device_is_not(broker: Broker, context: Context) -> None:
    def nobody(station: str, _command: object) -> "Future[Any]":
        failed: Future[Any] = Future()
        failed.set_exception(NotFound(same(f"no logger of {station} is connected")))
        return failed

    device = Device(broker)
    assert ask(replace(context, command=nobody), command="sample_now").json()["by"] == "mqtt"
    device.close()


def test_nobody_answers_and_what_is_no_answer_is_none(
    broker: Broker, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.commands.DEVICE_WITHIN_S", 1.0)
    assert ask(context, command="sample_now").status_code == 503
    for said in (
        b"[" * 4000,
        b'{"id": "%s"}',
        b'{"id": "%s", "done": "yes"}',
        b'{"id": "another", "done": true}',
        b"\xff",
    ):
        device = Device(broker, {"sample_now": said})
        answer = ask(context, command="sample_now")
        assert (answer.status_code, len(device.asked)) == (503, 1), answer.text
        device.close()
    device = Device(broker)
    assert ask(context, command="sample_now").json()["done"] is True
    device.close()


def test_without_a_broker_it_is_said_at_once(broker: Broker, commands: MqttCommands) -> None:
    waiting = commands.ask("shiwan", "sample_now", {})
    broker.stop()
    with pytest.raises(NoReply, match=says("device.unanswered", station="shiwan", why=say("device.broker_lost"))):
        waiting.result(30)
    with pytest.raises(
        NoReply, match=says("device.not_sent", command="sample_now", station="shiwan", why=say("device.broker_absent"))
    ):
        commands.ask("shiwan", "sample_now", {}).result(30)
