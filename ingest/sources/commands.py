"""Commands to MQTT devices: published on the ``command`` topic, answered on the ``reply`` topic.

They have a connection of their own, so that they do not wait behind readings. A command is neither retained nor queued
for a device that is offline: a sample taken an hour later is not the one requested.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from infra.errors import StorageUnavailable
from infra.texts import Text, say
from ingest.sources.mqtt import MqttSettings, sign_in
from sensors.wire.telemetry import topic

log = structlog.get_logger(__name__)

MAX_PENDING = 1000
"""The most commands that wait for an answer."""
MAX_REPLY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a device; ``fields`` are its further fields as text."""

    done: bool
    fields: Mapping[str, str] = field(default_factory=dict)


class NoReply(StorageUnavailable):
    """The broker is not connected, or too many commands wait for an answer."""


class MqttCommands:
    """Sends commands over the broker; ``ask`` may be called from any thread."""

    def __init__(self, settings: MqttSettings) -> None:
        s = replace(settings, client_id=f"{settings.client_id}-commands")
        self._settings = s
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], Future[Reply]] = {}
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=s.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if s.version == 5 else MQTTProtocolVersion.MQTTv311,
        )
        sign_in(self._client, s)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect in the background, reconnecting for ever."""
        s = self._settings
        self._client.connect_async(s.host, s.port, s.keepalive_s)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect; pending commands fail."""
        self._client.disconnect()
        self._client.loop_stop()
        self._fail_pending(say("device.broker_closed"))

    @property
    def listening(self) -> bool:
        return self._subscribed.is_set()

    def ask(self, station: str, command: str, arguments: Mapping[str, object]) -> "Future[Reply]":
        """Send a command to a station's device; the future fails with NoReply. A caller that gives up calls
        ``forget``."""
        result: Future[Reply] = Future()
        result.set_running_or_notify_cancel()
        number = secrets.token_hex(8)
        with self._lock:
            if not self.listening or len(self._pending) >= MAX_PENDING:
                why = say("device.commands_full" if self.listening else "device.broker_absent")
                result.set_exception(NoReply(say("device.not_sent", command=command, station=station, why=why)))
                return result
            self._pending[station, number] = result
        body = {"id": number, "command": command, **arguments}
        self._client.publish(topic(station, "command"), json.dumps(body), qos=1)
        return result

    def forget(self, result: "Future[Reply]") -> None:
        """Drop a pending command."""
        with self._lock:
            self._pending = {key: one for key, one in self._pending.items() if one is not result}

    # -- the network thread ------------------------------------------------------------------------------------------

    def _on_connect(self, client: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.is_failure:
            log.error("mqtt commands refused", reason=str(reason))
        else:
            client.subscribe(topic("+", "reply"), qos=1)

    def _on_subscribe(self, _c: paho.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error("mqtt replies may not be read", reasons=[str(reason) for reason in reasons])
        else:
            self._subscribed.set()

    def _on_disconnect(self, _c: paho.Client, _u: Any, _flags: Any, _reason: ReasonCode, _p: Any) -> None:
        self._subscribed.clear()
        self._fail_pending(say("device.broker_lost"))

    def _on_message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        station = message.topic.split("/")[2]
        try:
            if len(message.payload) > MAX_REPLY_BYTES:
                raise ValueError("too long")
            body = json.loads(message.payload)
            number, done = body["id"], body["done"]
            if not isinstance(number, str) or not isinstance(done, bool):
                raise ValueError("id must be text and done true or false")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("a reply cannot be read", station=station, error=f"{type(error).__name__}: {error}"[:200])
            return
        with self._lock:
            result = self._pending.pop((station, number), None)
        if result is not None:
            fields = {str(k)[:80]: str(v)[:400] for k, v in body.items() if k not in ("id", "done")}
            result.set_result(Reply(done, fields))

    def _fail_pending(self, why: Text) -> None:
        with self._lock:
            waiting, self._pending = self._pending, {}
        for (station, _), result in waiting.items():
            result.set_exception(NoReply(say("device.unanswered", station=station, why=why)))
