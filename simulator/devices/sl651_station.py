"""An SL 651 station over TCP or UDP in mode M2: sends what is not confirmed again, M3 in packets, answers queries.

One thread a station. What is reported waits until it is confirmed; after the last repetition the line is taken for dead
and opened anew, with everything unconfirmed still in memory.
"""

import calendar
import select
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from infra.closing import Closing
from infra.times import BEIJING_OFFSET_MS, beijing
from sensors.wire.sl651 import queries
from sensors.wire.sl651.body import TEXT, elements
from sensors.wire.sl651.frame import End, Frame, FrameReader, Received, build
from sensors.wire.telemetry import Sample

FORMATS: Final = {
    "39": (4, 3),
    "27": (5, 3),
    "03": (2, 1),
    "46": (2, 2),
    "47": (2, 1),
    "48": (3, 0),
    "4C": (3, 2),
    "57": (4, 5),
}
"""Element → bytes and decimals as this station sends it (Table C.1); others have four bytes and three decimals."""
MAX_KEPT_MESSAGES: Final = 10_000
"""Samples remembered for queries of the past."""
ANSWERS: Final = {
    queries.VERSION: b"\x0dV1.0.20220420",
    queries.STATUS: bytes.fromhex("452000000080"),
    queries.COUNTERS: b"".join(n.to_bytes(2, "big") for n in range(32)),
    queries.BASIC: bytes.fromhex("0310123402280012345678"),
    queries.RUNNING: bytes.fromhex("200801"),
}
"""What it says of itself, behind its address."""
_RETRY_S: Final = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """Address of the centre, and time-outs of its answers."""

    host: str
    port: int
    udp: bool = False
    answer_s: float = 10.0
    resends: int = 2


@dataclass(frozen=True, slots=True)
class Quirks:
    """Habits seen in the field: a 7E after the CRC, messages in packets, packets lost once on the way."""

    trailing: bool = False
    packets: int = 1
    lost_once: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Message:
    """A message that waits for its confirmation."""

    serial: int
    function: int
    body: bytes
    lost: set[int] = field(default_factory=set)


_NOTHING: Final = _Message(0, 0, b"")


class Station(Closing):
    """One station; a context manager that ends its thread.

    ``clock_ms`` is the true time, ``clock_off_ms`` how far the station's own is from it until it is set. ``resent``
    counts sending again, ``asked`` lists the functions that the centre asked for.
    """

    def __init__(
        self,
        line: Line,
        address: str,
        clock_ms: Callable[[], int],
        *,
        password: str,
        quirks: Quirks = Quirks(),
    ) -> None:
        self.address = address
        self.clock_off_ms = 0
        self.resent = 0
        self.asked: list[int] = []
        self._line = line
        self._password = password
        self._quirks = quirks
        self._clock_ms = clock_ms
        self._ids = {row.key: name for name, row in elements().items() if row.key and not row.period}
        self._serial = 0
        self._memory: OrderedDict[int, Sample] = OrderedDict()
        self._waiting: deque[_Message] = deque()
        self._answering = _NOTHING
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._away = threading.Event()
        self._connected = threading.Event()
        self._bell_in, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"sl651-{address}", daemon=True)
        self._thread.start()

    # -- for the other threads ---------------------------------------------------------------------------------------

    def report(self, sample: Sample, function: int = 0x32, *, send: bool = True) -> None:
        """Take a sample (canonical units, keys of the catalogue) and send it; without ``send`` only remember it."""
        with self._changed:
            self._memory[sample.at_ms] = sample
            while len(self._memory) > MAX_KEPT_MESSAGES:
                self._memory.popitem(last=False)
            if send:
                self._serial = self._serial % 65_535 + 1
                self._waiting.append(_Message(self._serial, function, self._body(self._serial, sample)))
        self._bell_in.send(b"!")

    def restart(self) -> None:
        """Count messages from 1 again."""
        with self._changed:
            self._serial = 0

    def away(self, away: bool) -> None:
        """Lose the line, or have it again; what is reported meanwhile waits."""
        (self._away.set if away else self._away.clear)()
        self._bell_in.send(b"!")

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def unanswered(self) -> int:
        with self._changed:
            return len(self._waiting)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is confirmed; False when time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self) -> None:
        self._closing.set()
        self._bell_in.send(b"!")
        self._thread.join()
        self._bell.close()
        self._bell_in.close()

    # -- messages ----------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._clock_ms() + self.clock_off_ms

    def _head(self, serial: int) -> bytes:
        return serial.to_bytes(2, "big") + bytes.fromhex(beijing(self.now_ms(), "%y%m%d%H%M%S"))

    def _block(self, at_ms: int) -> bytes:
        return bytes.fromhex(f"F1F1{self.address}48F0F0" + beijing(at_ms, "%y%m%d%H%M"))

    def _body(self, serial: int, sample: Sample) -> bytes:
        written = b"".join(
            _element(self._ids[key], value / elements()[self._ids[key]].factor)
            for key, value in sample.values.items()
            if key in self._ids
        )
        return self._head(serial) + self._block(sample.at_ms + self.clock_off_ms) + written

    def _frames(self, message: _Message) -> list[bytes]:
        count = self._quirks.packets
        size = -(-len(message.body) // count)
        return [self._frame(message, n, count, size) for n in range(1, count + 1)]

    def _frame(self, message: _Message, number: int, count: int, size: int, *, alone: bool = False) -> bytes:
        piece = message.body[(number - 1) * size : number * size]
        end = End.ETX if number == count or alone else End.ETB
        raw = build(Frame(self.address, 1, self._password, message.function, piece, end, packets=count, packet=number))
        return raw + b"\x7e" if self._quirks.trailing else raw

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._away.is_set():
                self._wait(None, 1.0)
                continue
            try:
                with self._open() as sock:
                    self._connected.set()
                    self._talk(sock)
            except OSError as error:
                log.debug("station_has_no_line", address=self.address, error=str(error))
                self._wait(None, _RETRY_S)
            finally:
                self._connected.clear()

    def _open(self) -> socket.socket:
        if not self._line.udp:
            return socket.create_connection((self._line.host, self._line.port), timeout=5)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((self._line.host, self._line.port))
        return sock

    def _talk(self, sock: socket.socket) -> None:
        """Until the line is lost, or the centre does not answer."""
        reader = FrameReader()
        sent: _Message | None = None
        tries, until = 0, 0.0
        while not self._closing.is_set() and not self._away.is_set():
            with self._changed:
                first = self._waiting[0] if self._waiting else None
            now = time.monotonic()
            if first is not None and (first is not sent or now >= until):
                tries = 0 if first is not sent else tries + 1
                if tries > self._line.resends:
                    return
                self.resent += tries > 0
                for number, raw in enumerate(self._frames(first), 1):
                    if number in self._quirks.lost_once - first.lost:
                        first.lost.add(number)
                    else:
                        sock.sendall(raw)
                sent, until = first, now + self._line.answer_s
            if self._wait(sock, max(0.0, until - now) if first is not None else 1.0):
                data = sock.recv(65_536)
                if not data:
                    return
                for found in reader.feed(data):
                    if isinstance(found, Received):
                        self._handle(sock, found.frame)

    def _wait(self, sock: socket.socket | None, timeout_s: float) -> bool:
        """Wait for bytes or for the bell; true when there are bytes."""
        ready, _, _ = select.select([s for s in (sock, self._bell) if s is not None], [], [], timeout_s)
        if self._bell in ready:
            self._bell.recv(4096)
        return sock is not None and sock in ready

    def _handle(self, sock: socket.socket, frame: Frame) -> None:
        with self._changed:
            first = self._waiting[0] if self._waiting else None
            mine = first is not None and first.serial.to_bytes(2, "big") == frame.body[:2]
            if mine and frame.end in (End.EOT, End.ESC):
                self._waiting.popleft()
                self._changed.notify_all()
                return
        message = first if first is not None and first.function == frame.function else self._answering
        if frame.end is End.NAK:
            self._send_packet(sock, message, frame.packet, alone=True)
        elif frame.end is End.ACK:
            self._send_packet(sock, self._answering, frame.packet + 1)
        elif frame.end is End.ENQ:
            self.asked.append(frame.function)
            self._answer(sock, frame)

    def _send_packet(self, sock: socket.socket, message: _Message, number: int, *, alone: bool = False) -> None:
        count = self._quirks.packets
        sock.sendall(self._frame(message, number, count, -(-len(message.body) // count), alone=alone))

    def _answer(self, sock: socket.socket, frame: Frame) -> None:
        """Answer a query of the centre; of several packets the first, each further one when it is asked for (M4)."""
        me = bytes.fromhex(f"F1F1{self.address}")
        if frame.function == queries.SET_CLOCK:
            self.clock_off_ms = _instant(frame.body[2:8]) - self._clock_ms()
        body, newest = self._head(0), max(self._memory, default=None)
        if frame.function == queries.PAST:
            body += self._past(frame.body[8:])
        elif frame.function == queries.TEXT:
            body += TEXT + "水位正常".encode("gb18030")
        elif frame.function in (queries.NOW, queries.NAMED) and newest is not None:
            sample = self._memory[newest]
            if frame.function == queries.NAMED:
                key = elements()[frame.body[8:9].hex().upper()].key
                sample = Sample(newest, {key: sample.values[key]})
            body = self._body(0, sample)
        else:
            body += me + ANSWERS.get(frame.function, b"")
        self._answering = _Message(0, frame.function, body)
        self._send_packet(sock, self._answering, 1)

    def _past(self, asked: bytes) -> bytes:
        """The series of one element between two hours; what was not measured is missing."""
        begin, end = _instant(asked[:4] + b"\0\0"), _instant(asked[4:8] + b"\0\0")
        days, hours, minutes = (int(asked[i : i + 1].hex()) for i in (10, 11, 12))
        step, name = ((days * 24 + hours) * 60 + minutes) * 60_000, asked[13:-1].hex().upper()
        key, factor = elements()[name].key, elements()[name].factor
        size, decimals = FORMATS.get(name, (4, 3))
        values = b""
        for at_ms in range(begin, end + 1, step):
            value = self._memory[at_ms].values.get(key) if at_ms in self._memory else None
            values += b"\xff" * size if value is None else _digits(value / factor, size, decimals)
        head = asked[8:13] + bytes.fromhex(name) + bytes([size << 3 | decimals])
        return self._block(begin) + head + values[: 4000 - 4000 % size]


def _element(name: str, value: float) -> bytes:
    size, decimals = FORMATS.get(name, (4, 3))
    return bytes.fromhex(name) + bytes([size << 3 | decimals]) + _digits(value, size, decimals)


def _digits(value: float, size: int, decimals: int) -> bytes:
    """A value as BCD, FF in front of a negative one."""
    number = round(abs(value) * 10**decimals)
    width = 2 * size - (2 if value < 0 else 0)
    return bytes.fromhex(("FF" if value < 0 else "") + f"{number:0{width}d}"[-width:])


def _instant(digits: bytes) -> int:
    """A BCD time (year to second), Beijing, in ms UTC."""
    year, month, day, hour, minute, second = (int(digits[i : i + 1].hex()) for i in range(6))
    moment = time.struct_time((2000 + year, month, day, hour, minute, second, 0, 0, 0))
    return calendar.timegm(moment) * 1000 - BEIJING_OFFSET_MS
