"""MQTT devices: one persistent session a station, hundreds of them driven by one thread.

A :class:`Fleet` owns the thread and its selector; only that thread ever touches a paho client, so nothing here depends
on paho's locking. A :class:`Device` numbers, encodes and queues; the thread hands its messages to paho a window at a
time. Paho keeps what the broker has not acknowledged and sends it again after a reconnect.
"""

import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infra.closing import Closing
from sensors.wire.telemetry import Sample, Telemetry, encode, topic

ONLINE, OFFLINE = b'{"online": true}', b'{"online": false}'

FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 15.0
CONNECT_TIMEOUT_S = 5.0
MAX_IN_FLIGHT = 100
"""Messages a device has on the way to the broker at once."""
MAX_WAITING = 1000
"""Messages that wait for a device's connection; then it keeps what it measures in its own memory."""

_CONNECTS_A_TURN = 20  # connecting blocks: those already connected must not wait for all the others
_MISC_EVERY_S = 1.0
_SESSION_EXPIRY_S = 7 * 24 * 3600

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Connection:
    """How devices reach the broker. ``logins`` has (user, password) by station; ``user`` is for those not in it."""

    host: str = "127.0.0.1"
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    logins: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    mqtt5: bool = False
    keep_alive_s: int = 60


class Device:
    """One station's publisher; made and driven by a :class:`Fleet`.

    ``messages_sent`` and ``readings_sent`` count what was given to :meth:`publish`, ``acked`` and ``refused`` what the
    broker answered to telemetry; they agree with ``seq`` and ``total`` of the last message. ``refusal`` says why the
    broker does not let the device in.
    """

    def __init__(self, station: str, connection: Connection, boot: int, fleet: "Fleet") -> None:
        self.station = station
        self.boot = boot
        self.messages_sent = 0
        self.readings_sent = 0
        self.acked = 0
        self.refused = 0
        self._fleet = fleet
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._on_the_way: dict[int, str] = {}
        self._next_try = 0.0
        self._retry_s = FIRST_RETRY_S
        self._goodbye: int | None = None
        self._cut = self._meant = False
        self._away = False
        self._patient_until = 0.0
        self.refusal = ""
        self._client = self._make_client(connection)

    @property
    def client_id(self) -> str:
        """Fixed, so that the broker finds this device's session again."""
        return f"device-{self.station}"

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    @property
    def reachable(self) -> bool:
        """Whether the broker can be reached and does not lag far behind.

        Of a device that is away on purpose, or just coming back, it is assumed.
        """
        if len(self._waiting) >= MAX_WAITING:
            return False
        return self._away or self.connected or time.monotonic() < self._patient_until

    @property
    def unacknowledged(self) -> int:
        """Messages given to :meth:`publish` or :meth:`send` that the broker has not answered yet."""
        with self._fleet.changed:
            return len(self._waiting) + len(self._on_the_way)

    def publish(self, samples: Iterable[Sample], sent_at_ms: int) -> None:
        """Queue one message with these samples; returns at once.

        Raises ValueError for a message that would break the contract (more than 1,000 samples or 256 KiB, a value that
        is not a number); such a message is not counted.
        """
        samples = tuple(samples)
        readings = sum(len(s.values) for s in samples)
        with self._fleet.changed:
            self._fleet.refuse_when_closed()
            total = self.readings_sent + readings
            payload = encode(Telemetry(samples, self.messages_sent, self.boot, total, sent_at_ms))
            self._waiting.append(("telemetry", payload))
            self.messages_sent += 1
            self.readings_sent = total
        self._fleet.attend(self)

    def send(self, kind: str, payload: bytes, readings: int = 0) -> None:
        """Queue an encoded message, ``telemetry`` or ``event``; returns at once."""
        with self._fleet.changed:
            self._fleet.refuse_when_closed()
            self._waiting.append((kind, payload))
            if kind == "telemetry":
                self.messages_sent += 1
                self.readings_sent += readings
        self._fleet.attend(self)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has answered every message; False when time ran out first."""
        with self._fleet.changed:
            return self._fleet.changed.wait_for(lambda: not self._waiting and not self._on_the_way, timeout_s)

    def cut(self) -> None:
        """Lose the connection without a goodbye, as in a power cut; the device then comes back by itself."""
        self._cut = self._meant = True
        self._fleet.attend(self)

    def away(self, away: bool) -> None:
        """Lose the connection without a goodbye and stay away, or come back."""
        self._away = away
        self._next_try = 0.0
        self._patient_until = time.monotonic() + CONNECT_TIMEOUT_S
        if away:
            self.cut()

    # ---- below: only on the fleet's thread

    def _make_client(self, connection: Connection) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if connection.mqtt5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if connection.mqtt5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages = MAX_IN_FLIGHT + 8  # the window is kept here; status messages come on top
        client.max_queued_messages = 0
        client.connect_timeout = CONNECT_TIMEOUT_S
        user, password = connection.logins.get(self.station, (connection.user, connection.password))
        if user is not None:
            client.username_pw_set(user, password)
        if connection.tls is not None:
            client.tls_set_context(connection.tls)
        client.will_set(topic(self.station, "status"), OFFLINE, qos=1, retain=True)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._answered
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        client.on_socket_register_write = self._wants_to_write
        client.on_socket_unregister_write = self._has_written
        properties = None
        if connection.mqtt5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        client.connect_async(
            connection.host,
            connection.port,
            keepalive=connection.keep_alive_s,
            clean_start=False,
            properties=properties,
        )
        return client

    def _opened(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._fleet.selector.register(sock, selectors.EVENT_READ, self)
        self._fleet.down.discard(self)

    def _closed(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._fleet.selector.unregister(sock)
        self._fleet.down.add(self)

    def _wants_to_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._fleet.selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def _has_written(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._fleet.selector.modify(sock, selectors.EVENT_READ, self)

    def _connected(self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            if not self.refusal:
                log.warning("broker_refused_device", station=self.station, reason=str(reason))
            self.refusal = str(reason)
            return
        self.refusal = ""
        self._meant = False
        self._retry_s = FIRST_RETRY_S
        client.publish(topic(self.station, "status"), ONLINE, qos=1, retain=True)
        self._fleet.attend(self)

    def _disconnected(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure and not self._meant:
            log.info("device_disconnected", station=self.station, reason=str(reason))
        self._goodbye = None

    def _answered(self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        if mid == self._goodbye:
            client.disconnect()
            return
        with self._fleet.changed:
            kind = self._on_the_way.pop(mid, None)
            if kind is None:
                return
            if reason.is_failure:  # MQTT 5 only: the broker took the message and threw it away
                self.refused += 1
                log.warning("broker_refused_message", station=self.station, reason=str(reason))
            elif kind == "telemetry":
                self.acked += 1
            if not self._waiting and not self._on_the_way:
                self._fleet.changed.notify_all()

    def _connect(self, now: float) -> bool:
        """Try to connect; False when the broker cannot be reached at all."""
        self._next_try = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        try:
            self._client.reconnect()
        except OSError as exc:
            log.debug("broker_unreachable", station=self.station, error=str(exc))
            return False
        return True

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._client.loop_read()
            while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
                self._client.loop_read()
        if events & selectors.EVENT_WRITE:
            self._client.loop_write()

    def _fill(self, closing: bool) -> None:
        """Hand waiting messages to paho as far as the window allows; disconnect when all are acknowledged."""
        if self._cut:
            self._cut = False
            if (sock := self._client.socket()) is not None:
                sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            return
        if not self.connected:
            return
        while self._waiting and len(self._on_the_way) < MAX_IN_FLIGHT:
            with self._fleet.changed:  # nobody may see the message in neither place
                kind, payload = self._waiting[0]
                sent = self._client.publish(topic(self.station, kind), payload, qos=1)
                if sent.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # an old message still holds this packet identifier
                    break
                self._waiting.popleft()
                self._on_the_way[sent.mid] = kind
        if closing and not self._waiting and not self._on_the_way and self._goodbye is None:
            self._goodbye = self._client.publish(topic(self.station, "status"), OFFLINE, qos=1, retain=True).mid


class Fleet(Closing):
    """Devices of many stations on one thread; a context manager that closes them.

    ``boot`` must grow with every start of the same stations; seconds since the epoch will do.
    """

    def __init__(self, stations: Iterable[str], connection: Connection, *, boot: int | None = None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.selector = selectors.DefaultSelector()
        self._closing = False
        self._gone = threading.Event()
        self._attention: set[Device] = set()
        self._bell_in, self._bell = socket.socketpair()
        self._bell_in.setblocking(False)
        self._bell.setblocking(False)
        self.selector.register(self._bell, selectors.EVENT_READ, None)
        boot = int(time.time()) if boot is None else boot
        self.devices = {key: Device(key, connection, boot, self) for key in stations}
        self.down = set(self.devices.values())
        self._unreachable_until = 0.0
        self._unreachable_s = FIRST_RETRY_S
        self._thread = threading.Thread(target=self._run, name="simulated-devices", daemon=True)
        self._thread.start()

    def __getitem__(self, station: str) -> Device:
        return self.devices[station]

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices.values())

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def connected(self) -> int:
        """Number of connected devices."""
        return sum(d.connected for d in self)

    @property
    def messages_sent(self) -> int:
        return sum(d.messages_sent for d in self)

    @property
    def readings_sent(self) -> int:
        return sum(d.readings_sent for d in self)

    @property
    def acked(self) -> int:
        return sum(d.acked for d in self)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has answered every message of every device; False when time ran out first."""
        end = time.monotonic() + timeout_s
        return all(device.flush(max(0.0, end - time.monotonic())) for device in self)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Send queued messages, publish ``online: false`` and disconnect; whether all was acknowledged in time.

        After the time is up connections are dropped; the broker then publishes each last will in our place.
        """
        with self.changed:
            self._closing = True
        self._ring()
        self._gone.wait(timeout_s)
        self._gone.set()
        self._ring()
        self._thread.join()
        return all(not device.unacknowledged for device in self)

    def attend(self, device: Device) -> None:
        """Have the thread look at ``device`` soon; may be called from any thread."""
        with self.changed:
            quiet = not self._attention
            self._attention.add(device)
        if quiet:
            self._ring()

    def refuse_when_closed(self) -> None:
        if self._closing or self._gone.is_set():
            raise RuntimeError("the fleet is closed")

    def _ring(self) -> None:
        try:
            self._bell_in.send(b"!")
        except BlockingIOError:  # it rings already
            pass
        except OSError:  # the thread has ended
            pass

    # ---- below: only on the fleet's thread

    def _run(self) -> None:
        misc_at = 0.0
        try:
            while not self._gone.is_set():
                now = time.monotonic()
                more = self._reconnect(now)
                if now >= misc_at:
                    misc_at = now + _MISC_EVERY_S
                    for device in self:
                        device._client.loop_misc()
                for key, events in self.selector.select(0.0 if more else 0.05 if self.down or self._closing else 0.25):
                    if key.data is None:
                        self._bell.recv(4096)
                    else:
                        key.data._ready(events)
                        key.data._fill(self._closing)
                with self.changed:
                    waiting, self._attention = self._attention, set()
                for device in self if self._closing else waiting:
                    device._fill(self._closing)
                if self._closing and len(self.down) == len(self) and not any(d.unacknowledged for d in self):
                    break
        except Exception:
            log.exception("simulated_devices_stopped")
        finally:
            self._end()

    def _reconnect(self, now: float) -> bool:
        """Connect some of what is not connected; True when there may be more of it.

        A broker out of reach is everybody's: one attempt in turn, then all wait.
        """
        if now < self._unreachable_until:
            return False
        due = (
            d for d in list(self.down) if d._next_try <= now and (d.unacknowledged if self._closing else not d._away)
        )
        tried = 0
        for device in islice(due, _CONNECTS_A_TURN):
            tried += 1
            if not device._connect(now):
                device._next_try = 0.0
                self._unreachable_until = time.monotonic() + self._unreachable_s
                self._unreachable_s = min(self._unreachable_s * 2, LONGEST_RETRY_S)
                return False
            self._unreachable_s = FIRST_RETRY_S
        return tried == _CONNECTS_A_TURN

    def _end(self) -> None:
        for device in self:
            device._client.on_socket_close = device._client.on_socket_unregister_write = None
            if (sock := device._client.socket()) is not None:
                sock.close()
        self.selector.close()
        self._bell.close()
        self._bell_in.close()
        self._gone.set()
        with self.changed:
            self.changed.notify_all()
