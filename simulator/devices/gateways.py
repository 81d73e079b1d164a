"""Gateways: the messages of thousands of stations over a few MQTT connections.

A connection of its own costs a device a file descriptor here and at the broker, and a client object. A province of
stations reports through gateways anyway: so many devices share a connection, and what a gateway does for its devices is
done here (``online`` and ``offline`` of each). What it cannot have is a last will for each of them: MQTT has one a
connection. MQTT 3.1.1 is written straight to the socket (:mod:`simulator.devices.mqtt_packets`); one thread drives all
connections. What the broker has not acknowledged is kept and sent again after a reconnect.
"""

import contextlib
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from infra.closing import Closing
from sensors.wire.telemetry import topic
from simulator.devices import mqtt_packets
from simulator.devices.fleet import CONNECT_TIMEOUT_S, FIRST_RETRY_S, LONGEST_RETRY_S, OFFLINE, ONLINE, Connection

MAX_IN_FLIGHT: Final = 1000
"""Messages a connection has on the way to the broker at once."""
MAX_WAITING: Final = 20_000
"""Messages that wait for a connection; then its devices keep what they measure in their own memory."""

log = structlog.get_logger(__name__)


class _Refused(OSError):
    """The broker does not let us in."""


class _Line:
    """One connection; only the thread of its :class:`Trunks` touches the socket."""

    def __init__(self, client_id: str, connection: Connection) -> None:
        self.stations: list[str] = []
        self.waiting: deque[tuple[str, bytes, bool, bool]] = deque()
        self.acked = 0
        self.sock: socket.socket | None = None
        self.events = 0
        self.refusal = ""
        self.next_try = 0.0
        self._client_id = client_id
        self._connection = connection
        self._on_the_way: dict[int, tuple[bytes, bool]] = {}
        self._next_id = 0
        self._out = bytearray()
        self._in = bytearray()
        self._retry_s = FIRST_RETRY_S
        self._sent_at = 0.0

    def connect(self, now: float) -> None:
        """Connect and be let in; raises OSError. Blocks, but there are only a few of us."""
        self.next_try = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        about = self._connection
        sock = socket.create_connection((about.host, about.port), timeout=CONNECT_TIMEOUT_S)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if about.tls is not None:
                sock = about.tls.wrap_socket(sock, server_hostname=about.host)
            sock.sendall(
                mqtt_packets.connect(self._client_id, about.user, about.password, about.keep_alive_s, clean=True)
            )
            received = bytearray()
            while not (answer := next(mqtt_packets.answers(received), None)):
                data = sock.recv(64)
                if not data:
                    raise ConnectionError("the broker closed the connection")
                received += data
            if answer[0] != mqtt_packets.CONNACK or answer[1][1]:
                reason = mqtt_packets.REFUSALS.get(answer[1][1] if len(answer[1]) > 1 else 0, "for no known reason")
                raise _Refused(f"the broker refuses the connection: {reason}")
        except BaseException:
            sock.close()
            raise
        sock.setblocking(False)
        self.sock, self.refusal, self._retry_s, self._sent_at = sock, "", FIRST_RETRY_S, now
        self._in.clear()
        self._out = bytearray(b"".join(mqtt_packets.again(packet) for packet, _ in self._on_the_way.values()))
        for station in self.stations:
            self.waiting.appendleft((topic(station, "status"), ONLINE, True, False))

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def fill(self, now: float) -> None:
        """Write as far as window and socket allow; raises OSError when the line is lost."""
        sock = self.sock
        if sock is None:
            return
        while self.waiting and len(self._on_the_way) < MAX_IN_FLIGHT:
            name, payload, retain, counts = self.waiting.popleft()
            self._next_id = self._next_id % 65_535 + 1
            packet = mqtt_packets.publish(name, payload, self._next_id, retain=retain)
            self._on_the_way[self._next_id] = (packet, counts)
            self._out += packet
        if not self._out and now - self._sent_at > self._connection.keep_alive_s / 2:
            self._out += mqtt_packets.PINGREQ
        while self._out:
            try:
                sent = sock.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]
            self._sent_at = now

    def read(self) -> None:
        """Count what was acknowledged; raises OSError when the line is lost."""
        sock = self.sock
        while sock is not None:
            try:
                data = sock.recv(65_536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._in += data
            for kind, body in mqtt_packets.answers(self._in):
                if kind == mqtt_packets.PUBACK:
                    _, counts = self._on_the_way.pop(int.from_bytes(body[:2]), (b"", False))
                    self.acked += counts
            if len(data) < 65_536 and not isinstance(sock, ssl.SSLSocket):
                return

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    @property
    def unacknowledged(self) -> int:
        return len(self.waiting) + len(self._on_the_way)


class Trunks(Closing):
    """Stations spread over ``connections`` connections; a context manager that closes them."""

    def __init__(self, stations: Sequence[str], connection: Connection, *, connections: int = 4) -> None:
        run = secrets.token_hex(4)
        self._lines = [_Line(f"trunk-{run}-{i}", connection) for i in range(max(1, connections))]
        self._of = {key: self._lines[i % len(self._lines)] for i, key in enumerate(stations)}
        for key, line in self._of.items():
            line.stations.append(key)
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._woken = False
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trunks", daemon=True)
        self._thread.start()

    def __contains__(self, station: str) -> bool:
        return station in self._of

    def __len__(self) -> int:
        return len(self._lines)

    def reachable(self, station: str) -> bool:
        """Whether the station's connection stands and does not lag far behind."""
        line = self._of[station]
        return line.sock is not None and len(line.waiting) < MAX_WAITING

    def send(self, station: str, kind: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue one message; returns at once. Telemetry counts in :attr:`acked`."""
        self._of[station].waiting.append((topic(station, kind), payload, retain, kind == "telemetry"))
        self._wake()

    def say(self, station: str, *, online: bool) -> None:
        """Publish the status of a device behind the gateway."""
        self.send(station, "status", ONLINE if online else OFFLINE, retain=True)

    @property
    def connected(self) -> int:
        """Connections that stand."""
        return sum(line.sock is not None for line in self._lines)

    @property
    def acked(self) -> int:
        return sum(line.acked for line in self._lines)

    @property
    def unacknowledged(self) -> int:
        return sum(line.unacknowledged for line in self._lines)

    @property
    def refusal(self) -> str:
        """Why the broker refuses the connection; empty when it accepts or is away."""
        return next((line.refusal for line in self._lines if line.refusal), "")

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has answered everything; False when time ran out first."""
        end = time.monotonic() + timeout_s
        while self.unacknowledged:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def close(self, timeout_s: float = 10.0) -> bool:
        """Publish ``offline`` for every station and disconnect; whether all was acknowledged in time."""
        for station, line in self._of.items():
            if line.sock is not None:
                self.say(station, online=False)
        done = self.flush(timeout_s)
        self._stop.set()
        self._woken = False
        self._wake()
        self._thread.join()
        return done

    def _wake(self) -> None:
        if self._woken:
            return
        self._woken = True
        with contextlib.suppress(OSError):  # it rings already, or the thread has ended
            self._wake_in.send(b"!")

    # ---- below: only on the thread

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                for line in self._lines:
                    self._serve_line(line, now)
                for key, events in self._selector.select(0.25):
                    if key.data is None:
                        self._wake_out.recv(4096)
                        self._woken = False
                    elif events & selectors.EVENT_READ:
                        self._try(key.data, key.data.read)
        except Exception:
            log.exception("trunks_stopped")
        finally:
            for line in self._lines:
                if line.sock is not None and not line.has_output:
                    with contextlib.suppress(OSError):
                        line.sock.send(mqtt_packets.DISCONNECT)
                line.close()
            self._selector.close()
            self._wake_out.close()
            self._wake_in.close()

    def _serve_line(self, line: _Line, now: float) -> None:
        if line.sock is None:
            if now < line.next_try:
                return
            try:
                line.connect(now)
            except OSError as error:
                line.refusal = str(error) if isinstance(error, _Refused) else ""
                log.debug("trunk_has_no_line", error=str(error))
                return
            assert line.sock is not None
            line.events = selectors.EVENT_READ
            self._selector.register(line.sock, line.events, line)
        self._try(line, lambda: line.fill(now))
        if line.sock is not None:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.has_output else 0)
            if wanted != line.events:
                line.events = wanted
                self._selector.modify(line.sock, wanted, line)

    def _try(self, line: _Line, what: object) -> None:
        try:
            what()  # type: ignore[operator]
        except OSError as error:
            log.info("trunk_lost_its_line", error=str(error))
            if line.sock is not None:
                self._selector.unregister(line.sock)
            line.close()
