"""MQTT: a persistent session, QoS 1, and an acknowledgement only after the store has committed.

The network thread does nothing but hand messages to the intake, and reads no further while the intake holds as many as
it may: TCP then slows the broker, which keeps the rest. The broker's own limit of unacknowledged messages is no bound:
Mosquitto 2.0.11 exceeds its ``max_inflight_messages`` as soon as acknowledgements flow. Packet identifiers belong to
one connection: what was received before a reconnect is not acknowledged after it, the broker delivers it again.

paho reads a packet with several system calls and writes each acknowledgement with two. In a process with other busy
threads every one of them is a queue for the interpreter, and that, not the work, sets the latency
(docs/decisions/0010). So it reads from a buffer, and the acknowledgements of a batch are written together.
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

import paho.mqtt.client as paho
import structlog
from paho.mqtt.client import PINGREQ, PUBACK
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
SELECT_S = 1.0
"""The network thread looks up from its sockets so often: for the keepalive, and for room where nobody wakes it."""
RECONNECT_S = (1.0, 15.0)
"""The first and the longest wait before a connection is tried again; doubled each time."""
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
        self.lane = intake.lane("mqtt", self._wake)
        self._generation = 0
        self._durable: list[tuple[int, int]] = []  # (generation, packet identifier), the intake's
        self._due: deque[list[tuple[int, int]]] = deque()  # the same, a batch at a time, for the network thread
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self.connected_since_ms: int | None = None
        self.last_error = ""
        self.received = 0
        self.most_unacknowledged = 0
        """The most messages this process ever held unacknowledged: the broker's window, when it stays at one figure."""
        self.connected = False
        """Whether the broker has accepted the connection; it may send a backlog before it confirms the topics."""
        self._accepted = False  # the same, also after the connection was lost
        self._taken = 0  # of this connection, QoS 1
        self._settled = 0  # of these, acknowledged
        self._client = _client(settings, self._may_read_on)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        intake.after_batch(self._acknowledge)

    def start(self) -> None:
        """Connect in the background; a broker that is away now is tried again until it is there."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def works(self) -> bool:
        """Whether the broker has accepted us and sends what we asked for."""
        return self.alive and self.connected and not self.last_error

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
                self._converse()
                wait_s = RECONNECT_S[0] if self._accepted else wait_s
            self._leaving.wait(wait_s)
            wait_s = min(2 * wait_s, RECONNECT_S[1])

    def _converse(self) -> None:
        """Read and write until the connection is over, or we leave."""
        client = self._client
        sock: Any = client.socket()
        self._accepted = self.connected = False
        pinged = time.monotonic()
        look_s = min(SELECT_S, self._settings.keepalive_s / 4)
        with selectors.DefaultSelector() as selector:
            selector.register(self._awake, selectors.EVENT_READ)
            watched = 0
            while sock is not None and self._is_open(sock):
                if self._leaving.is_set():
                    self._leave()
                    return
                reading = self._may_read()
                wanted = selectors.EVENT_READ * reading | selectors.EVENT_WRITE * client.want_write()
                watched = _watch(selector, sock, watched, wanted)
                waiting = reading and sock.pending() > 0
                ready = {key.fileobj: events for key, events in selector.select(0 if waiting else look_s)}
                if self._awake in ready:
                    self._drain()
                self._send_acknowledgements()
                if waiting or (reading and ready.get(sock, 0) & selectors.EVENT_READ):
                    client.loop_read()
                if client.want_write():
                    client.loop_write()
                if reading:
                    client.loop_misc()
                elif time.monotonic() - pinged > self._settings.keepalive_s / 2:
                    # paho would take the answer, which waits behind what is not read, for missing
                    pinged = time.monotonic()
                    client.ping()

    def _is_open(self, sock: Any) -> bool:
        """Whether this is still the socket of the connection."""
        return self._client.socket() is sock

    def _may_read(self) -> bool:
        """Whether there is room for a message; the answer to CONNECT is read in any case."""
        return not self.connected or not (self.lane.full or self._stopping.is_set())

    def _may_read_on(self) -> bool:
        """Whether the next message may be read at once: not before what is durable has been acknowledged, so that the
        unacknowledged messages are within the bound, too."""
        return self._may_read() and not self._due

    def _send_acknowledgements(self) -> None:
        """Those of the batches that became durable, in one go; of an earlier connection, none."""
        self.most_unacknowledged = max(self.most_unacknowledged, self.unacknowledged)
        mids: list[int] = []
        while self._due:
            mids += [mid for generation, mid in self._due.popleft() if generation == self._generation]
        self._settled += len(mids)
        self._client.acknowledge(mids)

    def _leave(self) -> None:
        self._send_acknowledgements()
        self._client.disconnect()
        until = time.monotonic() + SELECT_S
        while self._client.want_write() and self._client.socket() is not None and time.monotonic() < until:
            self._client.loop_write()

    def _drain(self) -> None:
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
        self._taken = self._settled = 0
        self._accepted = self.connected = True
        self.last_error = ""
        log.info("mqtt connected", host=self._settings.host, port=self._settings.port, session=flags.session_present)
        client.subscribe([(name, 1) for name in self._topics])  # always: a broker may have lost the session

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.last_error = f"the broker refuses the subscription: {', '.join(refused)}"
            log.error("mqtt subscription refused", reasons=refused)
            return
        self.connected_since_ms = self._clock_ms()

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._generation += 1
        self.connected = False
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
                self._durable.append(due)

        try:
            name = message.topic
        except UnicodeDecodeError:  # no broker should pass it on; an exception here would leave us deaf
            name = message._topic.decode("utf-8", "replace")
        self.received += 1
        received = _message(name, bytes(message.payload), self._clock_ms())
        if received.kind == "event":
            received = replace(received, packet_id=message.mid, redelivered=bool(message.dup))
        self.lane.put(Waiting(received, durable))

    # -- the intake's thread -----------------------------------------------------------------------------------------

    def _acknowledge(self) -> None:
        """What became durable in a batch may be acknowledged."""
        due, self._durable = self._durable, []
        if due:
            self._due.append(due)
            self._wake()

    def _wake(self) -> None:
        """There are acknowledgements to send, or there is room again, or it is time to leave."""
        with suppress(BlockingIOError):
            self._waker.send(b"\0")


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


def _watch(selector: selectors.BaseSelector, sock: Any, watched: int, wanted: int) -> int:
    """Look for other events of a socket from now on, if need be; returns ``wanted``."""
    if watched and not wanted:
        selector.unregister(sock)
    elif wanted and not watched:
        selector.register(sock, wanted)
    elif wanted != watched:
        selector.modify(sock, wanted)
    return wanted


class _Client(paho.Client):
    """paho's client on a buffered socket, with acknowledgements that are written together.

    Three methods of paho's are used that it does not promise to keep (``_create_socket``, ``_handle_on_message``,
    ``_packet_queue``): its version is pinned, and a test names them.
    """

    may_read: Callable[[], bool]

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has arrived, as long as there is room: not one packet for each look at the socket."""
        for _ in range(PACKETS_AT_ONCE):
            code = super().loop_read(max_packets)
            sock: Any = self.socket()
            if code or sock is None or not sock.pending() or not self.may_read():
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_on_message(self, message: paho.MQTTMessage) -> None:
        """Straight to the one callback: there are no topic filters to search for each message."""
        if self.on_message is not None:
            self.on_message(self, None, message)

    def acknowledge(self, mids: list[int]) -> None:
        """PUBACK for QoS 1 messages; the four bytes are the same in MQTT 3.1.1 and 5 (success needs no reason)."""
        if mids and self.socket() is not None:
            packets = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
            self._packet_queue(PUBACK, packets, 0, 1)

    def ping(self) -> None:
        """Tell the broker that we are still there, without waiting for its answer."""
        self._packet_queue(PINGREQ, b"\xc0\x00", 0, 0)


def _client(s: MqttSettings, may_read: Callable[[], bool]) -> _Client:
    five = s.version == 5
    client = _Client(
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
