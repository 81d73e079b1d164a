"""The SL 651 source: a TCP and UDP server for hydrological stations, each message confirmed once it is durable.

A message that cannot be read, one of a station nobody registered and one with a wrong password is not answered: the
standard has no refusal, and the station sends again. Frames are decoded in :mod:`sensors.wire.sl651`; what an
unregistered sender may do is bounded (:mod:`ingest.sources.sender_limits`).

Where a station's clock is off or readings are missing, the confirmation ends with ESC, which keeps the station on the
line, and a query follows.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import structlog

from infra.errors import NotFound, Refused
from infra.texts import say
from infra.times import HOUR_MS
from ingest.intake import Intake, PendingMessage
from ingest.pipeline import Receipt
from ingest.sources.line_server import IN_FLIGHT, Limits, LineServer, NoAnswer, TcpLine
from ingest.sources.line_server import Counters as LineCounters
from ingest.sources.reading_gaps import Gap, ReadingGaps
from ingest.sources.sender_limits import peer_of
from sensors.reading import Message, Reason
from sensors.wire.sl651 import answers, assembly, queries
from sensors.wire.sl651 import body as bodies
from sensors.wire.sl651.body import Body, Malformed
from sensors.wire.sl651.frame import Broken, End, Frame, FrameReader, Received, build
from sensors.wire.sl651.queries import Query
from sensors.wire.sl651.readings import SOURCE, Gauge, join, topic, unproven

log = structlog.get_logger(__name__)

ANSWER_TIMEOUT_S: Final = 10.0
MAX_RESENDS: Final = 2
MAX_REQUESTS: Final = 16
"""Queries waiting for one station, at most."""

CLOCK_TOLERANCE_MS: Final = 60_000
CLOCK_TWICE_MS: Final = 300_000
"""A clock that is off by more is set by two commands (section 6.6.4.24 of the standard)."""
CLOCK_RETRY_S: Final = 3600.0
MAX_ELEMENTS: Final = 4
"""Elements of a station that are asked for a gap, one query each."""

_UNANSWERED: Final = frozenset(
    {Reason.UNKNOWN_STATION, Reason.WRONG_PASSWORD, Reason.BAD_FRAME, Reason.INCOMPLETE, Reason.BAD_TOPIC}
)
_SERIES: Final = frozenset({0x31, 0x32, 0x33, 0x34})
"""Messages by which a gap is noticed."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Address and limits of the server; ``port`` 0 takes a free one."""

    host: str = "0.0.0.0"
    port: int = 9651
    udp: bool = True
    set_clock: bool = True
    max_connections: int = 5000
    idle_s: int = 3900


@dataclass(slots=True)
class Counters(LineCounters):
    """Counts since the gateway started, written by its thread."""

    confirmed: int = 0
    unanswered: int = 0
    asked_again: int = 0


@dataclass(slots=True)
class _Request:
    """A query to a station, and what to do once it was answered; ``fields`` are those of its answer so far."""

    function: int
    rest: bytes = b""
    then: Callable[[], None] = lambda: None
    result: "Future[Mapping[str, str]] | None" = None
    tries: int = 0
    until: float = 0.0
    fields: dict[str, str] = field(default_factory=dict)

    def give_up(self, key: str, address: str) -> None:
        if self.result is not None:
            self.result.set_exception(NoAnswer(say(key, address=address, function=f"{self.function:02X}")))


@dataclass(slots=True)
class _Device:
    """A registered station that spoke: on which line, its newest frame, and what is asked of it."""

    line: "Line"
    frame: Frame
    formats: queries.Formats
    requests: deque[_Request] = field(default_factory=deque)
    clock_set_at: float | None = None

    def asked(self, frame: Frame) -> _Request | None:
        """The query that a frame answers."""
        first = self.requests[0] if self.requests else None
        return first if first is not None and first.tries and first.function == frame.function else None


@dataclass(slots=True)
class _Pending:
    """A message with the intake, which takes one for each station in it."""

    line: "Line"
    frame: Frame
    serial: bytes
    body: Body | None
    left: int
    reasons: set[Reason] = field(default_factory=set)


class Gateway(LineServer[tuple[_Pending, Receipt]]):
    """The server; ``start``, ``stop`` and ``quiesce`` may be called from any thread."""

    counters: Counters

    def __init__(self, settings: GatewaySettings, intake: Intake, clock_ms: Callable[[], int]) -> None:
        limits = Limits(settings.host, settings.port, settings.max_connections, settings.idle_s)
        super().__init__("sl651", limits, intake, clock_ms)
        self.settings = settings
        self.counters = Counters()
        self._assembler: assembly.Assembler[Line] = assembly.Assembler()
        self._devices: dict[str, _Device] = {}
        self._formats: dict[str, queries.Formats] = {}
        self._gaps = ReadingGaps()
        self._datagrams: _Datagrams | None = None

    @property
    def gauges(self) -> Mapping[str, Gauge]:
        """Address → registered station."""
        return self.intake.site.gauges

    @property
    def connections(self) -> int:
        return len(self.lines) + (len(self._datagrams.lines) if self._datagrams else 0)

    # -- the server --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._gaps.start({address: one.last_at_ms for address, one in self.gauges.items()})
        super().start()

    async def listen(self) -> None:
        await super().listen()
        if self.settings.udp:
            datagrams = self._datagrams = _Datagrams(self)
            await self.loop.create_datagram_endpoint(lambda: datagrams, local_addr=(self.limits.host, self.port))

    def new_line(self) -> TcpLine:
        return _Connection(self)

    def sweep(self, now: float) -> None:
        self._take(self._assembler.due(now))
        for device in self._devices.values():
            self._send_request(device, now)
        if self._datagrams:
            self._datagrams.sweep(now)

    def answer_all(self, receipts: list[tuple[_Pending, Receipt]]) -> None:
        for pending, receipt in receipts:
            pending.reasons |= {r.reason for r in receipt.rejected if r.readings is None}
            pending.left -= 1
            if pending.left == 0:
                self._durable(pending)

    def forget_line(self, line: "Line") -> None:
        """A connection is gone: nothing can be asked over it."""
        for address in line.devices:
            device = self._devices.get(address)
            if device is not None and device.line is line:
                del self._devices[address]
                for request in device.requests:
                    request.give_up("device.gauge_left", address)

    # -- for the other threads ---------------------------------------------------------------------------------------

    def query(self, station: str, asked: Query) -> "Future[Mapping[str, str]]":
        """Ask something of a station; what is data in its answer is stored before the future has a result.

        It fails with NotFound where no SL 651 station of that key is on the line, with Refused for an element that it
        has not sent yet, and with NoAnswer.
        """
        result: Future[Mapping[str, str]] = Future()
        result.set_running_or_notify_cancel()
        self.call(partial(self._query, station, asked, result))
        return result

    def _query(self, station: str, asked: Query, result: "Future[Mapping[str, str]]") -> None:
        of = (one for address, one in self._devices.items() if (g := self.gauges.get(address)) and g.station == station)
        device = next(of, None)
        if device is None:
            result.set_exception(NotFound(say("device.no_gauge", station=station)))
            return
        address = device.frame.station
        if device.frame.ascii and asked.rest is not None:
            result.set_exception(Refused(say("device.gauge_ascii", address=address)))
            return
        try:
            request = _Request(asked.function, asked.bytes_for(device.formats), result=result)
        except KeyError as error:
            result.set_exception(Refused(say("device.gauge_never_sent", address=address, element=error.args[0])))
            return
        if not self._ask(device, request):
            result.set_exception(NoAnswer(say("device.gauge_busy", address=address, count=len(device.requests))))
            return
        self._send_request(device, self.now())

    # -- messages ----------------------------------------------------------------------------------------------------

    def receive(self, line: "Line", received: Received) -> None:
        """Take a frame: collect its message, hand that to the intake."""
        self.counters.frames += 1
        frame = received.frame
        if frame.downlink:
            return  # an echo of our own
        if unproven(frame, frame.station, self.gauges) is not None:
            self._receive_unproven(line, received)
            return
        device = self._identified(line, frame)
        if frame.function == bodies.LINK_KEPT:
            return
        if frame.split:
            request = device.asked(frame)
            if request is not None and frame.end is End.ETB:
                request.until = self.now() + ANSWER_TIMEOUT_S
                line.write(build(answers.go_on(frame, b"\0\0", self.clock_ms())))
            self._take(self._assembler.add(received, line, self.now()))
        else:
            self._hand_over(line, [received])

    def receive_broken(self, line: "Line", broken: Broken) -> None:
        """Quarantine bytes that are no frame, within the bounds of their sender; they are not answered."""
        self.counters.broken += 1
        if not line.devices and not self.may_keep(line.peer, len(broken.raw)):
            return
        address = min(line.devices, default="")
        gauge = self.gauges.get(address)
        message = Message(gauge.station if gauge else address, broken.raw, self.clock_ms(), SOURCE, topic(address))
        self.lane.put(PendingMessage(message))

    def _receive_unproven(self, line: "Line", received: Received) -> None:
        """A frame of a station that is not registered, or with a wrong password: kept within bounds, not confirmed.

        A station that was registered a moment ago is accepted by the intake, which reads the registry again.
        """
        frame = received.frame
        if self.is_locked(line, frame.station):
            if not line.devices:
                line.finish()
            return
        self.sender_limits.failed(line.peer, frame.station, frame.password, self.now())
        if frame.function != bodies.LINK_KEPT and self.may_keep(line.peer, len(received.raw)):
            self._hand_over(line, [received], only_sender=True)

    def _take(self, steps: Sequence[assembly.Step["Line"]]) -> None:
        for step in steps:
            parts, line = step.of.in_order, step.of.line
            if isinstance(step, assembly.Ask):
                self.counters.asked_again += 1
                first = step.of.parts.get(1)
                serial = b"\0\0" if first is None else _serial(first.frame)
                line.write(build(answers.repeat(step.of.newest.frame, serial, self.clock_ms(), step.packet)))
            else:
                self._hand_over(line, parts)

    def _hand_over(self, line: "Line", parts: Sequence[Received], *, only_sender: bool = False) -> None:
        """Hand a message to the intake, once for each station in it. An incomplete one ends in quarantine there."""
        frame, body = parts[0].frame, _read(parts)
        blocks = () if body is None or only_sender else body.blocks
        addresses = list(dict.fromkeys(block.station for block in blocks)) or [frame.station]
        pending = _Pending(line, frame, _serial(frame), body, len(addresses))
        line.in_flight += 1
        payload, received_at_ms = b"".join(one.raw for one in parts), self.clock_ms()
        for address in addresses:
            gauge = self.gauges.get(address)
            station = gauge.station if gauge else address
            message = Message(station, payload, received_at_ms, SOURCE, topic(address))
            self.lane.put(PendingMessage(message, partial(self._receipt, pending)))

    def _receipt(self, pending: _Pending, receipt: Receipt) -> None:
        """On the intake's thread."""
        self.receipts.append((pending, receipt))

    def _durable(self, pending: _Pending) -> None:
        """Confirm a message that is stored, and ask what is to be asked."""
        frame, line = pending.frame, pending.line
        if pending.reasons & _UNANSWERED or len(pending.serial) != 2:
            self.counters.unanswered += 1
        elif unproven(frame, frame.station, self.gauges) is None:
            self._confirm(pending, self._identified(line, frame))
        line.answered()

    def _confirm(self, pending: _Pending, device: _Device) -> None:
        frame = pending.frame
        request = device.asked(frame)
        more = request is not None and frame.end is End.ETB and not frame.split
        if request is not None:
            self._answered(device, request, frame, pending.body, more=more)
        if pending.body is not None:
            self._check_clock(device, pending.body)
            self._look_for_gap(device, frame, pending.body)
        if more:
            pending.line.write(build(answers.go_on(frame, pending.serial, self.clock_ms())))
        elif answers.wants_answer(frame) or frame.function in queries.FUNCTIONS:
            self.counters.confirmed += 1
            stay = bool(device.requests)
            answer = answers.confirmation(frame, pending.serial, self.clock_ms(), stay=stay)
            pending.line.write(build(answer))
        self._send_request(device, self.now())

    def _identified(self, line: "Line", frame: Frame) -> _Device:
        """The registered station that sent a frame; its earlier connection is dropped."""
        device = self._devices.get(frame.station)
        if device is None:
            formats = self._formats.setdefault(frame.station, {})
            device = self._devices[frame.station] = _Device(line, frame, formats)
            for gap in self._gaps.of(frame.station):
                self._request_gap(device, gap)
        elif device.line is not line:
            before, device.line = device.line, line
            before.devices.discard(frame.station)
            if not before.devices:
                before.drop("the station has connected anew")
        device.frame = frame
        if frame.station not in line.devices:
            line.devices.add(frame.station)
            self.sender_limits.proved(line.peer, frame.station)
        return device

    # -- queries -----------------------------------------------------------------------------------------------------

    def _ask(self, device: _Device, request: _Request) -> bool:
        """Queue a query; false where too many wait."""
        free = len(device.requests) < MAX_REQUESTS
        if free:
            device.requests.append(request)
        return free

    def _answered(self, device: _Device, request: _Request, frame: Frame, body: Body | None, *, more: bool) -> None:
        """Take the answer of a query, or a part of it."""
        if body is not None:
            request.fields |= queries.told(frame.function, body)
        if more:
            request.until = self.now() + ANSWER_TIMEOUT_S
            return
        device.requests.popleft()
        request.then()
        if request.result is not None:
            request.result.set_result(request.fields)

    def _send_request(self, device: _Device, now: float) -> None:
        """Send or repeat the first query; give it up after :data:`MAX_RESENDS` repetitions."""
        while device.requests:
            request = device.requests[0]
            if request.tries and now < request.until:
                return
            if request.tries <= MAX_RESENDS:
                request.tries += 1
                request.until = now + ANSWER_TIMEOUT_S
                self.counters.asked += 1
                asked = answers.query_like(device.frame, request.function, self.clock_ms(), request.rest)
                device.line.write(build(asked))
                return
            device.requests.popleft().give_up("device.gauge_no_answer", device.frame.station)

    def _check_clock(self, device: _Device, body: Body) -> None:
        """Set the clock of a station whose time of sending differs from our time."""
        off_ms = abs(body.sent_at_ms - self.clock_ms())
        now = self.now()
        recent = device.clock_set_at is not None and now - device.clock_set_at < CLOCK_RETRY_S
        if self.settings.set_clock and off_ms > CLOCK_TOLERANCE_MS and not recent:
            device.clock_set_at = now
            for _ in range(2 if off_ms > CLOCK_TWICE_MS else 1):
                self._ask(device, _Request(queries.SET_CLOCK))

    def _look_for_gap(self, device: _Device, frame: Frame, body: Body) -> None:
        """Ask for the past between the last reading of this station and this one, where there is a gap."""
        address, gauge = frame.station, self.gauges.get(frame.station)
        if gauge is None or frame.ascii or frame.function not in _SERIES:
            return
        elements = [e for b in body.blocks if b.station == address for e in b.elements]
        values = [e for e in elements if e.meaning and e.meaning.key and not e.is_array and e.at_ms is not None]
        at_ms = max((e.at_ms for e in values if e.at_ms is not None), default=None)
        if at_ms is None:
            return
        device.formats |= {e.id: queries.format_byte(e) for e in values if len(e.values) == 1}
        gap = self._gaps.notice(address, at_ms, self.clock_ms(), 2 * gauge.interval_s * 1000)
        if gap is not None:
            self._request_gap(device, gap)

    def _request_gap(self, device: _Device, gap: Gap) -> None:
        """Ask for each element of a gap; it is asked for again when the station comes back before all are there."""
        gauge = self.gauges.get(device.frame.station)
        names = list(device.formats)[:MAX_ELEMENTS]
        if gauge is None or not names:
            return
        begin, end = gap[0] // HOUR_MS * HOUR_MS, -(-gap[1] // HOUR_MS) * HOUR_MS
        step = max(5, gauge.interval_s // 60)
        left = set(names)

        def then(name: str) -> None:
            left.discard(name)
            if not left:
                self._gaps.close(gauge.address, gap)

        for name in names:
            rest = queries.past_of(name, begin, end, step, device.formats)
            self._ask(device, _Request(queries.PAST, rest, partial(then, name)))


class _Connection(TcpLine):
    """One TCP connection; usually one station, but several may share a line."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, FrameReader())
        self._gateway = gateway

    def handle(self, found: Received | Broken) -> str | None:
        if isinstance(found, Broken):
            self._gateway.receive_broken(self, found)
            return found.reason
        self._gateway.receive(self, found)
        return None

    def lost(self) -> None:
        self._gateway.forget_line(self)


class _DatagramLine:
    """The stations behind one UDP address."""

    def __init__(self, owner: "_Datagrams", address: tuple[Any, ...]) -> None:
        self._owner = owner
        self._address = address
        self.peer = peer_of(address)
        self.devices: set[str] = set()
        self.in_flight = 0
        self.last_frame_at = 0.0

    def write(self, data: bytes) -> None:
        self._owner.write(data, self._address)

    def answered(self) -> None:
        self.in_flight -= 1

    def drop(self, why: str) -> None:
        self._owner.forget(self._address)

    def finish(self) -> None:
        self._owner.forget(self._address)


Line = _Connection | _DatagramLine


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP side: one datagram is one or more whole frames. What we cannot take now, the station sends again."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.DatagramTransport | None = None
        self.lines: OrderedDict[tuple[Any, ...], _DatagramLine] = OrderedDict()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # in 3.11 its class does not say so

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        gateway = self._gateway
        line = self.lines.get(addr)
        if gateway.stopping or gateway.is_overloaded or (line is not None and line.in_flight >= IN_FLIGHT):
            return
        if line is None:
            if len(self.lines) >= gateway.limits.max_connections:
                self.forget(next(iter(self.lines)))
            line = self.lines[addr] = _DatagramLine(self, addr)
        self.lines.move_to_end(addr)
        line.last_frame_at = gateway.now()
        reader = FrameReader()
        try:
            for one in reader.feed(data) + reader.close():
                if isinstance(one, Received):
                    gateway.receive(line, one)
                else:
                    gateway.receive_broken(line, one)
        except Exception:  # must not end the loop for all stations
            log.exception("sl651 datagram failed")

    def write(self, data: bytes, address: tuple[Any, ...]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)

    def forget(self, address: tuple[Any, ...]) -> None:
        line = self.lines.pop(address, None)
        if line is not None:
            self._gateway.forget_line(line)

    def sweep(self, now: float) -> None:
        """Forget the addresses from which nothing came for long, the oldest first."""
        while self.lines:
            address, line = next(iter(self.lines.items()))
            if now - line.last_frame_at <= self._gateway.limits.idle_s:
                return
            self.forget(address)


def _serial(frame: Frame) -> bytes:
    """The two bytes of a message's serial number; empty where they are not there."""
    try:
        return bytes.fromhex(frame.body[:4].decode("ascii")) if frame.ascii else frame.body[:2]
    except ValueError:
        return b""


def _read(parts: Sequence[Received]) -> Body | None:
    """The body of a message; None where it cannot be read."""
    try:
        first, whole = join([one.frame for one in parts])
        return bodies.read(first.function, whole, ascii_mode=first.ascii)
    except (Malformed, ValueError):
        return None
