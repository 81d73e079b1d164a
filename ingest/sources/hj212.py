"""The HJ 212 source: a TCP server for loggers, each answered once its data are durable.

One thread runs an event loop with all connections. A connection turns bytes into frames and hands them to the intake;
the receipt from the intake's thread decides the answer: 9014 for data, 9011 with a QnRtn for what was refused. The loop
never uses the database. Frames and packets are decoded in :mod:`sensors.wire.hj212`.

An unauthenticated sender learns nothing about which MN exist, has few guesses, and little of its data is quarantined
(:mod:`ingest.sources.sender_limits`).

Memory is bounded: a connection has at most :data:`IN_FLIGHT` frames with the intake and a few kilobytes of unsent
answers, and is not read while it is over that or the intake is full. A connection is dropped after ``idle_s`` without a
whole frame, :data:`IDENTIFY_TIMEOUT_S` without one of a registered logger, or ``MAX_BROKEN`` broken ones in a row.
"""

import itertools
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import structlog

from infra.errors import ConfigurationError, NotFound
from infra.texts import say
from infra.times import HOUR_MS
from ingest.intake import Intake, PendingMessage
from ingest.pipeline import Receipt
from ingest.sources.line_server import Counters as LineCounters
from ingest.sources.line_server import Limits, LineServer, NoAnswer, TcpLine
from ingest.sources.reading_gaps import Gap, ReadingGaps
from sensors.reading import Message, Reason
from sensors.wire.hj212 import exchange
from sensors.wire.hj212.assembly import Assembler, Bundle, Part
from sensors.wire.hj212.codes import ANSWERS, DATA, EVENTS, NOTICES, Cn, ExeRtn, QnRtn
from sensors.wire.hj212.exchange import Command
from sensors.wire.hj212.frame import Broken, Fault, Frame, FrameReader
from sensors.wire.hj212.packet import Edition, Packet, build, flag_of, parse, qn_time, read_time, write_qn
from sensors.wire.hj212.readings import MN, SOURCE, Logger, topic, unproven

log = structlog.get_logger(__name__)

IDENTIFY_TIMEOUT_S: Final = 60.0
"""Time within which a connection must send data of a registered logger."""

ANSWER_TIMEOUT_S: Final = 10
MAX_RESENDS: Final = 3
"""Defaults of the standard on mobile networks: 10 s, and three repetitions."""
RESULT_TIMEOUT_S: Final = 300
"""From 9011 (accepted) to 9012 (result): a sampler needs minutes."""
MAX_REQUESTS: Final = 16
"""Requests waiting for one connection, at most."""

CLOCK_TOLERANCE_S: Final = 60
CLOCK_RETRY_S: Final = 3600

_UNAUTHENTICATED: Final = frozenset({Reason.UNKNOWN_STATION, Reason.WRONG_PASSWORD})
_REFUSED: Final = _UNAUTHENTICATED | {Reason.ENCRYPTED}
"""Answered by QnRtn 2 (refused); the standard's 3 (PW) and 4 (MN) would reveal which MN exist."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Address, certificate and limits of the server; ``port`` 0 takes a free one."""

    host: str = "0.0.0.0"
    port: int = 9212
    cert_file: str | None = None
    key_file: str | None = field(default=None, repr=False)
    set_clock: bool = True
    unverified: bool = False
    max_connections: int = 5000
    idle_s: int = 3900


@dataclass(frozen=True, slots=True)
class Answer:
    """A logger's answer to a request: acceptance (9011), result (9012), and the fields sent in between."""

    qn_rtn: int | None
    exe_rtn: int | None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.exe_rtn == ExeRtn.SUCCESS


@dataclass(slots=True)
class Counters(LineCounters):
    """Counts since the gateway started, written by its thread."""

    answered: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Request:
    """A request to a logger and its progress: sent, repeated, accepted, done."""

    mn: str
    command: Command
    result: "Future[Answer]"
    qn: str = ""
    cn: str | None = None
    tries: int = 0
    until: float = 0.0
    qn_rtn: int | None = None
    fields: dict[str, str] = field(default_factory=dict)


_Answered = tuple[Bundle["_Connection"], Receipt, Fault | None]
"""A bundle that is durable: its receipt, and why it was no frame."""


class Gateway(LineServer[_Answered]):
    """The server; ``start``, ``stop``, ``quiesce`` and ``command`` may be called from any thread."""

    counters: Counters

    def __init__(self, settings: GatewaySettings, intake: Intake, clock_ms: Callable[[], int]) -> None:
        limits = Limits(settings.host, settings.port, settings.max_connections, settings.idle_s)
        super().__init__("hj212", limits, intake, clock_ms)
        self.settings = settings
        self.counters = Counters()
        self.assembler: Assembler[_Connection] = Assembler()
        self.by_mn: dict[str, _Connection] = {}
        self._gaps = ReadingGaps()
        self._numbers = itertools.count()
        self._last_qn_ms = 0
        self._tls = _tls(settings)

    # -- for the other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; raises ConfigurationError where the address cannot be used."""
        self._gaps.start({mn: one.last_at_ms for mn, one in self.loggers.items()})
        super().start()

    @property
    def loggers(self) -> Mapping[str, Logger]:
        """MN → registered logger."""
        return self.intake.site.loggers

    def command(self, station: str, command: Command) -> "Future[Answer]":
        """Send a request to the station's logger.

        The future fails with NotFound where no logger of the station is connected, and with NoAnswer where it does not
        answer or too many requests wait.
        """
        result: Future[Answer] = Future()
        result.set_running_or_notify_cancel()
        self.call(lambda: self._request_from_station(station, command, result))
        return result

    # -- the server --------------------------------------------------------------------------------------------------

    def new_line(self) -> TcpLine:
        return _Connection(self)

    def encryption(self) -> dict[str, Any]:
        timeouts = {"ssl_handshake_timeout": 20, "ssl_shutdown_timeout": 5}
        return {"ssl": self._tls} | timeouts if self._tls else {}

    def sweep(self, now: float) -> None:
        for bundle in self.assembler.expire(self.clock_ms()):
            first = bundle.parts[0]
            self.hand_over(bundle, first.packet.mn or first.owner.mn)

    def answer_all(self, receipts: list[_Answered]) -> None:
        for bundle, receipt, fault in receipts:
            for part in bundle.waiting:
                part.owner.durable(part, receipt, fault)

    def forget_line(self, connection: "_Connection") -> None:
        """A connection is gone: nothing can be asked over it."""
        for mn in connection.devices:
            if self.by_mn.get(mn) is connection:
                del self.by_mn[mn]

    # -- frames ------------------------------------------------------------------------------------------------------

    def next_qn(self) -> str:
        """A request number that is not used yet."""
        self._last_qn_ms = max(self.clock_ms(), self._last_qn_ms + 1)
        return write_qn(self._last_qn_ms)

    def hand_over(self, bundle: "Bundle[_Connection]", mn: str, fault: Fault | None = None) -> None:
        """Hand a message to the intake; its waiting parts are answered once it is durable.

        Data of unauthenticated senders over the daily limit are only counted, and refused.
        """
        if not self._is_kept(bundle, mn, fault):
            for part in bundle.waiting:
                part.owner.refuse(part.packet, fault)
            return
        logger = self.loggers.get(mn)
        station = logger.station if logger else mn
        message = Message(station, bundle.raw, self.clock_ms(), SOURCE, topic(mn))
        for part in bundle.waiting:
            part.owner.in_flight += 1

        def durable(receipt: Receipt) -> None:
            self.receipts.append((bundle, receipt, fault))

        self.lane.put(PendingMessage(message, durable))

    def _is_kept(self, bundle: "Bundle[_Connection]", mn: str, fault: Fault | None) -> bool:
        owner = bundle.parts[0].owner
        if fault is None:
            authenticated = all(unproven(part.packet, mn, self.loggers) is None for part in bundle.parts)
        else:
            authenticated = bool(owner.devices)
        return authenticated or self.may_keep(owner.peer, len(bundle.raw))

    def identified(self, connection: "_Connection", mn: str) -> None:
        """Note that a registered logger uses this connection; its earlier connection is dropped."""
        before = self.by_mn.get(mn)
        if before is connection:
            return
        self.by_mn[mn] = connection
        connection.devices.add(mn)
        self.sender_limits.proved(connection.peer, mn)
        if before is not None:
            before.devices.discard(mn)
            if not before.devices:
                before.drop("the logger has connected anew")
        for gap in self._gaps.of(mn):
            self._request_gap(mn, gap, first=Cn.MINUTE)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _request_from_station(self, station: str, command: Command, result: "Future[Answer]") -> None:
        mns = [mn for mn, one in self.loggers.items() if one.station == station and mn in self.by_mn]
        if not mns:
            result.set_exception(NotFound(say("device.no_logger", station=station)))
        else:
            self.by_mn[mns[0]].ask(_Request(mns[0], command, result))

    def _request(self, mn: str, command: Command, then: Callable[[Answer | None], None] = lambda _: None) -> None:
        """Send a request of our own; ``then`` gets the answer, None without one."""
        result: Future[Answer] = Future()
        result.add_done_callback(lambda f: then(None if f.exception() else f.result()))
        if (connection := self.by_mn.get(mn)) is not None:
            connection.ask(_Request(mn, command, result))

    def check_clock(self, connection: "_Connection", packet: Packet) -> None:
        """Set the clock of a logger whose QN differs from our time."""
        sent = qn_time(packet.qn)
        off = sent is not None and abs(sent - self.clock_ms()) > CLOCK_TOLERANCE_S * 1000
        if self.settings.set_clock and packet.mn and (off or packet.cn == Cn.TIME_NOTICE):
            last_set = connection.clock_set.get(packet.mn)
            if last_set is None or self.now() - last_set > CLOCK_RETRY_S:
                connection.clock_set[packet.mn] = self.now()
                self._request(packet.mn, exchange.set_time())

    def request_missing(self, mn: str, cn: str, at_ms: int) -> None:
        """Request the data between the last reading of this logger and this one, where there is a gap."""
        registry, logger = self.intake.site.registry, self.loggers.get(mn)
        interval_ms = registry[logger.station].interval_s * 1000 if logger and logger.station in registry else 0
        pause_ms = inf if cn == Cn.DAY else max(2 * interval_ms, 2 * HOUR_MS if cn == Cn.HOUR else 0)
        gap = self._gaps.notice(mn, at_ms, self.clock_ms(), pause_ms)
        if gap is not None:
            self._request_gap(mn, gap, first=Cn.HOUR if cn == Cn.HOUR else Cn.MINUTE)

    def _request_gap(self, mn: str, gap: Gap, first: str) -> None:
        """Request the minute data of a gap, and the hour data where there are none."""

        def then(answer: Answer | None) -> None:
            if answer is None:
                return  # requested again when the logger reconnects
            if not answer.done and first == Cn.MINUTE:
                self._request_gap(mn, gap, first=Cn.HOUR)
            else:
                self._gaps.close(mn, gap)

        self._request(mn, exchange.fetch(first, *gap), then)


class _Connection(TcpLine):
    """One TCP connection; usually one logger, but several may share a line."""

    hello_s = IDENTIFY_TIMEOUT_S

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, FrameReader())
        self._gateway = gateway
        self._requests: deque[_Request] = deque()
        self._last_packet: Packet | None = None
        self.mn = ""
        self.clock_set: dict[str, float] = {}

    # -- the server calls --------------------------------------------------------------------------------------------

    def handle(self, found: Frame | Broken) -> str | None:
        if isinstance(found, Broken):
            self._handle_broken(found)
            return found.reason
        self._gateway.counters.frames += 1
        self._handle_packet(parse(found.segment), found.raw)
        return None

    def lost(self) -> None:
        self._gateway.forget_line(self)
        for waiting in self._requests:
            waiting.result.set_exception(NoAnswer(say("device.logger_left", mn=waiting.mn)))
        self._requests.clear()

    def check_timeouts(self, now: float, overloaded: bool) -> None:
        super().check_timeouts(now, overloaded)
        self._send_request(now)

    def durable(self, part: Part["_Connection"], receipt: Receipt, fault: Fault | None) -> None:
        """Answer a part that is stored or quarantined."""
        packet = part.packet
        reasons = {r.reason for r in receipt.rejected if r.readings is None}
        if packet.wants_answer and packet.qn:
            self._send(self._answer(packet, fault, reasons))
        if not reasons & _UNAUTHENTICATED and fault is None and packet.mn:
            if self.connected:
                self._last_packet = packet
                self._gateway.identified(self, packet.mn)
                self._gateway.check_clock(self, packet)
            if packet.cn in DATA and (at := _newest(packet)) is not None:
                self._gateway.request_missing(packet.mn, packet.cn or "", at)
        self.answered()

    def ask(self, wanted: _Request) -> None:
        """Queue a request; it is sent when those before it are done."""
        if len(self._requests) >= MAX_REQUESTS or not self.connected:
            wanted.result.set_exception(NoAnswer(say("device.logger_busy", mn=wanted.mn, count=len(self._requests))))
            return
        self._requests.append(wanted)
        self._send_request(self._gateway.now())

    # -- frames ------------------------------------------------------------------------------------------------------

    def _handle_broken(self, broken: Broken) -> None:
        """Quarantine a broken frame, and answer the sender where it can be identified."""
        self._gateway.counters.broken += 1
        packet = parse(broken.segment)
        mn = packet.mn if packet.mn and MN.fullmatch(packet.mn) else self.mn
        cut = broken.fault in (Fault.GARBAGE, Fault.CUT)  # half a frame is not answered: its sender repeats it
        part = Part(Packet(None) if cut else packet, broken.raw, self)
        self._gateway.hand_over(Bundle((part,), (part,)), mn, broken.fault)

    def _handle_packet(self, packet: Packet, raw: bytes) -> None:
        if packet.mn and MN.fullmatch(packet.mn):
            self.mn = packet.mn
        if self._is_answer(packet):
            return
        gateway, mn = self._gateway, (packet.mn or self.mn)[:64]
        if gateway.is_locked(self, mn):
            self.refuse(packet)
            if not self.devices:
                self.finish()
            return
        if unproven(packet, mn, gateway.loggers) is not None:
            gateway.sender_limits.failed(self.peer, mn, packet.pw or "", gateway.now())
        for bundle in self._gateway.assembler.add(packet, raw, self, gateway.clock_ms()):
            self._gateway.hand_over(bundle, bundle.parts[0].packet.mn or self.mn)

    def refuse(self, packet: Packet, fault: Fault | None = None) -> None:
        """Refuse a packet that is not kept, with the same answer as a quarantined one."""
        if packet.wants_answer and packet.qn:
            self._send(self._answer(packet, fault, _UNAUTHENTICATED))

    def _answer(self, packet: Packet, fault: Fault | None, reasons: Set[Reason]) -> Packet:
        result = QnRtn.REFUSED if reasons & _REFUSED else None
        if fault is not None:
            result = QnRtn.UNKNOWN
            if fault is Fault.CRC:
                result = QnRtn.CRC_HJ1404 if self._gateway.settings.unverified and packet.hj1404 else QnRtn.CRC
        elif result is None and packet.cn not in DATA and packet.cn not in EVENTS:
            if packet.cn in NOTICES:
                return exchange.notice_answer(packet)
            result = QnRtn.REFUSED if packet.cn == Cn.KEY_EXCHANGE and not packet.hj1404 else QnRtn.CN
        if result is None:
            self._gateway.counters.answered += 1
            return exchange.data_answer(packet)
        self._gateway.counters.refused += 1
        return exchange.request_answer(packet, result)

    def _send(self, packet: Packet) -> None:
        try:
            self.write(build(packet))
        except ValueError:  # it repeats the sender's names, which may be longer than a frame
            log.warning("hj212 answer is too long for a frame", mn=(packet.mn or "")[:40])

    # -- requests of ours --------------------------------------------------------------------------------------------

    def _is_answer(self, packet: Packet) -> bool:
        """Match a packet with the current request; true where the packet is part of its answer and no data."""
        wanted = self._requests[0] if self._requests else None
        is_reply = wanted is not None and wanted.tries > 0 and (packet.qn == wanted.qn or packet.qn is None)
        if wanted is None or not is_reply or packet.mn not in (wanted.mn, None):
            return packet.cn in ANSWERS
        if packet.cn == Cn.ACCEPTED:
            wanted.qn_rtn = _result(packet, "QnRtn")
            wanted.until = self._gateway.now() + RESULT_TIMEOUT_S
            if wanted.qn_rtn != QnRtn.WILL_EXECUTE:
                self._finish_request(Answer(wanted.qn_rtn, None, wanted.fields))
        elif packet.cn == Cn.RESULT:
            self._finish_request(Answer(wanted.qn_rtn, _result(packet, "ExeRtn"), wanted.fields))
        else:
            wanted.fields |= packet.fields
            wanted.until = self._gateway.now() + RESULT_TIMEOUT_S
        return packet.cn in ANSWERS or (packet.cn == wanted.cn and packet.cn not in DATA)

    def _finish_request(self, answer: Answer) -> None:
        self._requests.popleft().result.set_result(answer)
        self._send_request(self._gateway.now())

    def _send_request(self, now: float) -> None:
        """Send or repeat the first request; give it up after :data:`MAX_RESENDS` repetitions."""
        if not self._requests or not self.connected:
            return
        wanted = self._requests[0]
        if wanted.tries and now < wanted.until:
            return
        if wanted.qn_rtn is not None or wanted.tries > MAX_RESENDS:
            self._requests.popleft()
            key = "device.logger_no_result" if wanted.qn_rtn is not None else "device.logger_no_answer"
            wanted.result.set_exception(NoAnswer(say(key, mn=wanted.mn, cn=wanted.command.cn)))
            self._send_request(now)
            return
        if not wanted.tries:
            wanted.qn = self._gateway.next_qn()
        wanted.tries += 1
        wanted.until = now + ANSWER_TIMEOUT_S
        self._gateway.counters.asked += 1
        asked = wanted.command.packet(self._addressee(wanted.mn), wanted.qn, self._gateway.clock_ms())
        wanted.cn = asked.cn
        self._send(asked)

    def _addressee(self, mn: str) -> Packet:
        """The addressing fields of a request: from the logger's last packet, else as it is registered."""
        if self._last_packet is not None and self._last_packet.mn == mn and self._last_packet.edition is not None:
            return self._last_packet
        registered = self._gateway.loggers.get(mn)
        edition = Edition(registered.edition) if registered else Edition.E2017
        st, password = (registered.st, registered.password) if registered else ("21", None)
        return Packet(None, st=st, pw=password, mn=mn, flag=flag_of(edition, answer=True))


def _newest(packet: Packet) -> int | None:
    try:
        return read_time(packet.fields.get("DataTime", ""))
    except ValueError:
        return None


def _result(packet: Packet, name: str) -> int | None:
    text = packet.fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    if settings.cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        message = say("settings.hj212_certificate", cert_file=settings.cert_file, error=error)
        raise ConfigurationError(message) from error
    return context
