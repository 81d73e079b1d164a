"""MQTT: a persistent session, QoS 1, and an acknowledgement only after the store has committed.

The network thread does nothing but hand messages to the intake. Packet identifiers belong to one connection: what was
received before a reconnect is not acknowledged after it, the broker delivers it again.

paho reads a packet with several system calls and writes each acknowledgement with two. In a process with other busy
threads every one of them is a queue for the interpreter, and that, not the work, sets the latency
(docs/decisions/0010). So it reads from a buffer, and the acknowledgements of a batch are written together.
"""

import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
import structlog
from paho.mqtt.client import PUBACK
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.intake import Intake, Waiting
from ingest.pipeline import Receipt
from sensors.reading import Message
from sensors.wire import mapping
from sensors.wire.telemetry import KINDS, topic

log = structlog.get_logger(__name__)

OURS = topic("+").split("/")[:2]
READ_BYTES = 65_536
PACKETS_AT_ONCE = 500
SESSION_DAYS = 7
"""How long an MQTT 5 broker keeps the session, and with it the queue, while ingest is away."""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the broker is and how to sign in; the password is never shown."""

    host: str = "127.0.0.1"
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str = "riverchief-ingest"
    version: int = 4
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = field(default=None, repr=False)
    keepalive_s: int = 30
    receive_max: int = 2000


class MqttSource:
    """One connection to the broker, kept up for good; ``mapped`` are the topics of other people's payloads."""

    def __init__(
        self, settings: MqttSettings, intake: Intake, clock_ms: Callable[[], int], mapped: Sequence[str] = ()
    ) -> None:
        self._topics = [*(topic("+", kind) for kind in KINDS), *mapped]
        self._settings = settings
        self._intake = intake
        self._clock_ms = clock_ms
        self._generation = 0
        self._lock = threading.Lock()  # an acknowledgement and the connection it belongs to
        self._due: list[tuple[int, int]] = []  # (generation, packet identifier) of what is durable
        self._stopping = threading.Event()
        self.connected_since_ms: int | None = None
        self.last_error = ""
        self.received = 0
        self.most_unacknowledged = 0
        """The most messages this process ever held unacknowledged: the broker's window, when it stays at one figure."""
        self._taken = 0  # of this connection, QoS 1; the network thread's own
        self._settled = 0  # of these, acknowledged; changes under the lock
        self._client = _client(settings)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        intake.after_batch(self._acknowledge)

    def start(self) -> None:
        """Connect in the background; a broker that is away now is tried again until it is there."""
        s = self._settings
        self._client.connect_async(s.host, s.port, s.keepalive_s, **_session(s))
        self._client.loop_start()

    @property
    def unacknowledged(self) -> int:
        """Messages the broker sent over this connection and has not had acknowledged yet."""
        return max(0, self._taken - self._settled)

    @property
    def window(self) -> int:
        """How many unacknowledged messages we are ready to hold; a broker may allow fewer."""
        return self._settings.receive_max

    def quiesce(self) -> None:
        """Take nothing new: what still arrives stays unacknowledged and is delivered again to the next ingest."""
        self._stopping.set()

    def stop(self) -> None:
        """Send the acknowledgements that wait, then leave; the session stays with the broker."""
        self._stopping.set()
        self._client.disconnect()
        self._client.loop_stop()

    # -- the network thread ------------------------------------------------------------------------------------------

    def _on_connect(
        self, client: paho.Client, _userdata: Any, flags: paho.ConnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        if reason.is_failure:
            self.last_error = f"the broker refuses the connection: {reason}"
            log.error("mqtt refused", host=self._settings.host, port=self._settings.port, reason=str(reason))
            return
        with self._lock:
            self._generation += 1
            self._taken = self._settled = 0
        log.info("mqtt connected", host=self._settings.host, port=self._settings.port, session=flags.session_present)
        client.subscribe([(name, 1) for name in self._topics])  # always: a broker may have lost the session

    def _on_connect_fail(self, _client: paho.Client, _userdata: Any) -> None:
        self.last_error = f"no connection to {self._settings.host}:{self._settings.port}"

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.last_error = f"the broker refuses the subscription: {', '.join(refused)}"
            log.error("mqtt subscription refused", reasons=refused)
            return
        self.last_error = ""
        self.connected_since_ms = self._clock_ms()

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _p: Properties | None
    ) -> None:
        with self._lock:
            self._generation += 1
        self.connected_since_ms = None
        if not self._stopping.is_set():
            self.last_error = f"connection lost: {reason}"
            log.warning("mqtt connection lost, trying again", reason=str(reason))

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if self._stopping.is_set():
            return
        due = (self._generation, message.mid) if message.qos else None
        if due is not None:
            self._taken += 1

        def durable(_receipt: Receipt) -> None:
            if due is not None:
                self._due.append(due)

        try:
            name = message.topic
        except UnicodeDecodeError:  # no broker should pass it on; an exception here would leave us deaf
            name = message._topic.decode("utf-8", "replace")
        self.received += 1
        self._intake.put(Waiting(_message(name, bytes(message.payload), self._clock_ms()), durable))

    # -- the intake's thread -----------------------------------------------------------------------------------------

    def _acknowledge(self) -> None:
        """Send the acknowledgements of a batch in one go; of an earlier connection, none.

        While the lock is held the connection cannot turn into another one. What was queued for a connection that is
        lost meanwhile is dropped by paho when it connects again.
        """
        due, self._due = self._due, []
        self.most_unacknowledged = max(self.most_unacknowledged, self.unacknowledged)
        with self._lock:
            mids = [mid for generation, mid in due if generation == self._generation]
            self._settled += len(mids)
            self._client.acknowledge(mids)


def _message(name: str, payload: bytes, now_ms: int) -> Message:
    """What arrived on a topic: one of ours names the station and the kind, any other is a mapping's to read."""
    levels = name.split("/")
    if len(levels) == 4 and levels[:2] == OURS and levels[3] in KINDS:
        return Message(levels[2], payload, now_ms, "mqtt", name, kind=levels[3])
    return Message("", payload, now_ms, mapping.SOURCE, name)


class _Buffered:
    """A socket that is read in large pieces and handed on in small ones; ``pending`` tells paho what is left."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._data = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def pending(self) -> int:
        inside = self._socket.pending() if hasattr(self._socket, "pending") else 0  # what TLS has already decrypted
        return len(self._data) + int(inside)

    def recv(self, size: int) -> bytes:
        if not self._data:
            data = self._socket.recv(READ_BYTES)
            if len(data) <= size:
                return bytes(data)
            self._data = memoryview(data)
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


class _Client(paho.Client):
    """paho's client on a buffered socket, with acknowledgements that are written together."""

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has arrived, not one packet for each look at the socket."""
        for _ in range(PACKETS_AT_ONCE):
            code = super().loop_read(max_packets)
            if code or not isinstance(self._sock, _Buffered) or not self._sock.pending():
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_on_message(self, message: paho.MQTTMessage) -> None:
        """Straight to the one callback: there are no topic filters to search for each message."""
        if self.on_message is not None:
            self.on_message(self, None, message)

    def acknowledge(self, mids: list[int]) -> None:
        """PUBACK for QoS 1 messages; the four bytes are the same in MQTT 3.1.1 and 5 (success needs no reason)."""
        if mids and self._sock is not None:
            packets = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
            self._packet_queue(PUBACK, packets, 0, 1)


def _client(s: MqttSettings) -> _Client:
    five = s.version == 5
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=s.client_id,
        clean_session=None if five else False,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
    )
    sign_in(client, s)
    client.max_queued_messages_set(0)
    return client


def sign_in(client: paho.Client, s: MqttSettings) -> None:
    """Give a client the login and certificates of the settings, and let it reconnect for good."""
    if s.user is not None:
        client.username_pw_set(s.user, s.password)
    if s.tls:
        client.tls_set(s.ca_file, s.cert_file, s.key_file, cert_reqs=ssl.CERT_REQUIRED)
    client.reconnect_delay_set(min_delay=1, max_delay=15)


def _session(s: MqttSettings) -> dict[str, Any]:
    if s.version != 5:
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_DAYS * 86_400
    properties.ReceiveMaximum = s.receive_max
    return {"clean_start": False, "properties": properties}
