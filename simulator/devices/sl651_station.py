"""An SL 651 station over TCP or UDP in mode M2: each message waits for its confirmation; M3 in packets; queries."""

import calendar
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from infra.times import BEIJING_OFFSET_MS, beijing
from sensors.wire.sl651 import queries
from sensors.wire.sl651.body import TEXT, elements
from sensors.wire.sl651.frame import End, Frame, FrameReader, Received, build
from sensors.wire.telemetry import Sample
from simulator.devices.line_device import LineDevice

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


class Station(LineDevice[_Message]):
    """One station. ``asked`` lists the functions that the centre asked for."""

    def __init__(
        self,
        line: Line,
        address: str,
        clock_ms: Callable[[], int],
        *,
        password: str,
        quirks: Quirks = Quirks(),
    ) -> None:
        super().__init__(f"sl651-{address}", line, clock_ms)
        self.address = address
        self.asked: list[int] = []
        self._line = line
        self._password = password
        self._quirks = quirks
        self._ids = {row.key: name for name, row in elements().items() if row.key and not row.period}
        self._serial = 0
        self._memory: OrderedDict[int, Sample] = OrderedDict()
        self._answering = _NOTHING
        self._thread.start()

    def report(self, sample: Sample, function: int = 0x32, *, send: bool = True) -> None:
        """Take a sample (canonical units, keys of the catalogue) and send it; without ``send`` only remember it."""
        with self._changed:
            self._memory[sample.at_ms] = sample
            while len(self._memory) > MAX_KEPT_MESSAGES:
                self._memory.popitem(last=False)
            if send:
                self._serial = self._serial % 65_535 + 1
                self._waiting.append(_Message(self._serial, function, self._body(self._serial, sample)))
        self._ring()

    def restart(self) -> None:
        """Count messages from 1 again."""
        with self._changed:
            self._serial = 0

    # -- messages ----------------------------------------------------------------------------------------------------

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

    def _frame(self, message: _Message, number: int, *, alone: bool = False) -> bytes:
        count = self._quirks.packets
        size = -(-len(message.body) // count)
        piece = message.body[(number - 1) * size : number * size]
        end = End.ETX if number == count or alone else End.ETB
        raw = build(Frame(self.address, 1, self._password, message.function, piece, end, packets=count, packet=number))
        return raw + b"\x7e" if self._quirks.trailing else raw

    # -- the line ----------------------------------------------------------------------------------------------------

    def _open(self) -> socket.socket:
        if not self._line.udp:
            return socket.create_connection((self._line.host, self._line.port), timeout=5)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((self._line.host, self._line.port))
        return sock

    def _reader(self) -> FrameReader:
        return FrameReader()

    def _send(self, sock: socket.socket, message: _Message) -> None:
        for number in range(1, self._quirks.packets + 1):
            if number in self._quirks.lost_once - message.lost:
                message.lost.add(number)
            else:
                sock.sendall(self._frame(message, number))

    def _handle(self, sock: socket.socket, found: Any) -> None:
        if isinstance(found, Received):
            self._handle_frame(sock, found.frame)

    def _handle_frame(self, sock: socket.socket, frame: Frame) -> None:
        with self._changed:
            first = self._waiting[0] if self._waiting else None
            mine = first is not None and first.serial.to_bytes(2, "big") == frame.body[:2]
            if mine and frame.end in (End.EOT, End.ESC):
                self._waiting.popleft()
                self._changed.notify_all()
                return
        message = first if first is not None and first.function == frame.function else self._answering
        if frame.end is End.NAK:
            sock.sendall(self._frame(message, frame.packet, alone=True))
        elif frame.end is End.ACK:
            sock.sendall(self._frame(self._answering, frame.packet + 1))
        elif frame.end is End.ENQ:
            self.asked.append(frame.function)
            self._answer(sock, frame)

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
        sock.sendall(self._frame(self._answering, 1))

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
