"""The MQTT source: a persistent session, QoS 1, acknowledged only after the store has committed.

Topics and payloads: :mod:`ingest.sources.mqtt_topics`. The network thread only hands messages to the intake, and stops
reading while the intake is full: TCP then slows the broker, which keeps the rest. The broker's own limit of
unacknowledged messages is not relied on: Mosquitto 2.0.11 exceeds its ``max_inflight_messages``. Packet identifiers
belong to one connection: a message received before a reconnect is not acknowledged after it, and is delivered again.
"""

import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.intake import Intake, PendingMessage
from ingest.sources.mqtt_topics import message_of, subscriptions
from ingest.sources.paho_client import READ_BYTES, BufferedClient, Publish
from sensors.reading import Ints

log = structlog.get_logger(__name__)

SELECT_TIMEOUT_S = 1.0
"""How often the network thread checks the keepalive and the room in the intake, at least."""
RECONNECT_S = (1.0, 5.0)
"""First and longest wait before a reconnect; doubled each time. Readings are stored again within ten seconds after an
outage of any length (docs/reliability.md), and one client that asks every five seconds is no load for a broker."""
MID_BITS = 16
"""Bits of a packet identifier in MQTT."""
SESSION_DAYS = 7
"""How long an MQTT 5 broker keeps the session and its queue while ingest is away."""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Address, login and limits of a connection to the broker."""

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
    receive_max: int = 8000
    share: str = ""
    """Name of the group whose members each receive a part of the messages (``$share/NAME/…``); empty for none."""


class MqttSource:
    """One connection to the broker that reconnects for ever; ``mapped`` are the topics of the mappings."""

    def __init__(
        self, settings: MqttSettings, intake: Intake, clock_ms: Callable[[], int], mapped: Sequence[str] = ()
    ) -> None:
        self._settings = settings
        self._topics = self._topics_wanted = self._shared(mapped)
        self._clock_ms = clock_ms
        self.lane = intake.lane("mqtt", self._wake)
        self._generation = 0
        self._to_acknowledge: deque[Ints] = deque()  # batches of generation << MID_BITS | packet identifier
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self.connected_since_ms: int | None = None
        self.last_error = ""
        self.received = 0
        self.unacknowledged_peak = 0
        """The most messages held unacknowledged; stays at the broker's window where that is the limit."""
        self.connected = False
        """Whether the broker accepted the connection; it may send a backlog before it confirms the subscriptions."""
        self._accepted = False  # of the last connection, also after it was lost
        self._received_qos1 = 0  # on this connection
        self._acknowledged = 0  # on this connection
        self._client = _client(settings, self._may_read_next)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        on_message: Any = self._on_message  # of a Publish, which is made faster than the message of paho
        self._client.on_message = on_message
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        intake.after_batch(self._acknowledge)

    def start(self) -> None:
        """Connect in the background; an unavailable broker is tried again."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def works(self) -> bool:
        """Whether the broker accepted connection and subscriptions."""
        return self.alive and self.connected and not self.last_error

    @property
    def unacknowledged(self) -> int:
        """Messages received on this connection and not acknowledged yet."""
        return max(0, self._received_qos1 - self._acknowledged)

    @property
    def window(self) -> int:
        """The most unacknowledged messages to hold; a broker may allow fewer."""
        return self._settings.receive_max

    def follow(self, mapped: Sequence[str]) -> None:
        """Subscribe to the topics of other mappings; called from any thread."""
        self._topics_wanted = self._shared(mapped)
        self._wake()

    def _shared(self, mapped: Sequence[str]) -> list[str]:
        """What to subscribe to, with the other processes of a cluster where there are any."""
        share = f"$share/{self._settings.share}/" if self._settings.share else ""
        return [share + one for one in subscriptions(mapped)]

    def quiesce(self) -> None:
        """Take no new messages: what still arrives stays unacknowledged and is delivered again later."""
        self._stopping.set()

    def stop(self) -> None:
        """Send the waiting acknowledgements, then disconnect; the broker keeps the session."""
        self._stopping.set()
        self._leaving.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(10)

    # -- the network thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        s, wait_s = self._settings, RECONNECT_S[0]
        while not self._leaving.is_set():
            try:
                self._client.connect(s.host, s.port, s.keepalive_s, **_session(s))
            except OSError as error:
                self.last_error = f"no connection to {s.host}:{s.port}: {error.strerror or type(error).__name__}"
            else:
                self._serve_connection()
                wait_s = RECONNECT_S[0] if self._accepted else wait_s
            self._leaving.wait(wait_s)
            wait_s = min(2 * wait_s, RECONNECT_S[1])

    def _serve_connection(self) -> None:
        """Read and write until the connection ends or ``stop`` is called."""
        client = self._client
        sock: Any = client.socket()
        self._accepted = self.connected = False
        pinged = time.monotonic()
        timeout_s = min(SELECT_TIMEOUT_S, self._settings.keepalive_s / 4)
        with selectors.DefaultSelector() as selector:
            selector.register(self._awake, selectors.EVENT_READ)
            watched = 0
            while sock is not None and self._is_open(sock):
                if self._leaving.is_set():
                    self._disconnect()
                    return
                reading = self._may_read()
                wanted = selectors.EVENT_READ * reading | selectors.EVENT_WRITE * client.want_write()
                watched = _update_interest(selector, sock, watched, wanted)
                waiting = reading and sock.pending() > 0
                ready = {key.fileobj: events for key, events in selector.select(0 if waiting else timeout_s)}
                if self._awake in ready:
                    self._drain_waker()
                self._send_acknowledgements()
                self._change_topics()
                if waiting or (reading and ready.get(sock, 0) & selectors.EVENT_READ):
                    client.loop_read()
                if client.want_write():
                    client.loop_write()
                if reading:
                    client.loop_misc()
                elif time.monotonic() - pinged > self._settings.keepalive_s / 2:
                    # loop_misc would give up the connection: the answer waits behind messages that are not read
                    pinged = time.monotonic()
                    client.ping()

    def _is_open(self, sock: Any) -> bool:
        """Whether this is still the current socket."""
        return self._client.socket() is sock

    def _may_read(self) -> bool:
        """Whether to read: there is room for a message, or CONNECT was not answered yet."""
        return not self.connected or not (self.lane.full or self._stopping.is_set())

    def _may_read_next(self) -> bool:
        """Whether to read another message at once: acknowledgements go first, so that the unacknowledged messages stay
        within the limit."""
        return self._may_read() and not self._to_acknowledge

    def _send_acknowledgements(self) -> None:
        """Acknowledge the durable messages of this connection, each batch in one write."""
        self.unacknowledged_peak = max(self.unacknowledged_peak, self.unacknowledged)
        while self._to_acknowledge:
            packets = self._to_acknowledge.popleft()
            mids = packets[packets >> MID_BITS == self._generation] & (1 << MID_BITS) - 1
            self._acknowledged += len(mids)
            self._client.acknowledge(mids)

    def _change_topics(self) -> None:
        wanted = self._topics_wanted
        if wanted == self._topics or not self.connected:
            return
        if gone := [name for name in self._topics if name not in wanted]:
            self._client.unsubscribe(gone)
        self._topics = wanted
        self._client.subscribe([(name, 1) for name in wanted])

    def _disconnect(self) -> None:
        self._send_acknowledgements()
        self._client.disconnect()
        until = time.monotonic() + SELECT_TIMEOUT_S
        while self._client.want_write() and self._client.socket() is not None and time.monotonic() < until:
            self._client.loop_write()

    def _drain_waker(self) -> None:
        with suppress(BlockingIOError):
            self._awake.recv(READ_BYTES)

    def _on_connect(
        self, client: paho.Client, _userdata: Any, flags: paho.ConnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        if reason.is_failure:
            self.last_error = f"the broker refuses the connection: {reason}"
            log.error("mqtt refused", host=self._settings.host, port=self._settings.port, reason=str(reason))
            return
        self._generation += 1
        self._received_qos1 = self._acknowledged = 0
        self._accepted = self.connected = True
        self.last_error = ""
        log.info("mqtt connected", host=self._settings.host, port=self._settings.port, session=flags.session_present)
        client.subscribe([(name, 1) for name in self._topics])  # always, since a broker may have lost the session

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.last_error = f"the broker refuses the subscription: {', '.join(refused)}"
            log.error("mqtt subscription refused", reasons=refused)
            return
        self.connected_since_ms = self.connected_since_ms or self._clock_ms()

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._generation += 1
        self.connected = False
        self.connected_since_ms = None
        if not self._stopping.is_set():
            self.last_error = f"connection lost: {reason}"
            log.warning("mqtt connection lost, trying again", reason=str(reason))

    def _on_message(self, _client: paho.Client, _userdata: Any, message: Publish) -> None:
        if self._stopping.is_set():
            return
        self._received_qos1 += message.qos
        self.received += 1
        received = message_of(message.topic, message.payload, self._clock_ms())
        if received.kind == "event":
            received = replace(received, packet_id=message.mid, redelivered=message.dup)
        packet = self._generation << MID_BITS | message.mid if message.qos else None
        self.lane.put(PendingMessage(received, packet=packet))

    # -- the intake's thread -----------------------------------------------------------------------------------------

    def _acknowledge(self, batch: Sequence[PendingMessage]) -> None:
        """Pass the durable messages of a batch to the network thread."""
        durable = [one.packet for one in batch if one.packet is not None]
        if durable:
            self._to_acknowledge.append(np.array(durable, np.int64))
            self._wake()

    def _wake(self) -> None:
        """Wake the network thread: acknowledgements to send, room in the intake, or stop."""
        with suppress(BlockingIOError):
            self._waker.send(b"\0")


def _update_interest(selector: selectors.BaseSelector, sock: Any, watched: int, wanted: int) -> int:
    """Register the socket for the ``wanted`` events where they differ from the ``watched`` ones; returns ``wanted``."""
    if watched and not wanted:
        selector.unregister(sock)
    elif wanted and not watched:
        selector.register(sock, wanted)
    elif wanted != watched:
        selector.modify(sock, wanted)
    return wanted


def _client(s: MqttSettings, may_read: Callable[[], bool]) -> BufferedClient:
    five = s.version == 5
    client = BufferedClient(
        CallbackAPIVersion.VERSION2,
        client_id=s.client_id,
        clean_session=None if five else False,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
    )
    client.may_read = may_read
    sign_in(client, s)
    client.max_queued_messages_set(0)
    return client


def sign_in(client: paho.Client, s: MqttSettings) -> None:
    """Set login, certificates and reconnect delays of a client."""
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
