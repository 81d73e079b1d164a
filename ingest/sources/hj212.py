"""HJ 212 over TCP: thousands of loggers, each answered when its data are durable and not before.

One thread runs an event loop with all connections. A connection turns bytes into frames and hands them to the intake;
what becomes of them comes back from the intake's thread and decides the answer: 9014 for data, 9011 with the fitting
QnRtn for what was refused. The loop never touches the database.

A sender that has not proved to be a registered logger learns nothing of which MN exist, has few guesses, and little of
what it sends is kept (:mod:`ingest.sources.strangers`).

Memory is bounded whatever arrives: a connection holds a few kilobytes, may have :data:`IN_FLIGHT` frames with the
intake and a few kilobytes of unsent answers, and is read no further while it is over that or the intake is behind. Who
sends nothing whole for ``idle_s``, or nothing whole at all for :data:`HELLO_S`, or rubbish upon rubbish, is dropped.
"""

import asyncio
import itertools
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from infra.errors import ConfigurationError, NotFound, WaterError
from infra.texts import sentence
from infra.times import beijing_day
from ingest.intake import Intake, Waiting
from ingest.pipeline import Receipt
from ingest.sources.strangers import Strangers, peer_of
from sensors.reading import Message, Reason
from sensors.wire.hj212 import exchange
from sensors.wire.hj212.assembly import Assembler, Bundle, Part
from sensors.wire.hj212.codes import ANSWERS, DATA, EVENTS, NOTICES, Cn, ExeRtn, QnRtn
from sensors.wire.hj212.exchange import Command
from sensors.wire.hj212.frame import Broken, Fault, FrameReader
from sensors.wire.hj212.packet import Edition, Packet, build, flag_of, parse, qn_time, read_time, write_qn
from sensors.wire.hj212.readings import MN, SOURCE, Logger, topic, unproven

log = structlog.get_logger(__name__)

READ_BYTES: Final = 4096
IN_FLIGHT: Final = 16
"""Frames of one connection that may be with the intake; it is read again once half of them are answered."""
WRITE_BYTES: Final = 16_384
RUBBISH: Final = 20
"""So many broken frames one behind the other, and the connection is closed."""
HELLO_S: Final = 60
"""Within this time a connection must have sent something of a logger we know."""
SWEEP_S: Final = 0.5

ANSWER_S: Final = 10
RESENDS: Final = 3
"""The standard's default on mobile networks: 10 s, and sent three times again."""
RESULT_S: Final = 300
"""From 9011 to 9012: a sampler needs minutes."""
MOST_ASKED: Final = 16
"""Requests waiting for one connection."""

CLOCK_OFF_S: Final = 60
CLOCK_AGAIN_S: Final = 3600
HOLE_MS: Final = 600_000
"""A pause shorter than this (or two intervals of the station, if that is longer) is no hole."""
OLDEST_HOLE_MS: Final = 31 * 86_400_000
MOST_HOLES: Final = 8

_STRANGE: Final = frozenset({Reason.UNKNOWN_STATION, Reason.WRONG_PASSWORD})
_REFUSED: Final = _STRANGE | {Reason.ENCRYPTED}
"""Answered by QnRtn 2 (refused). The standard has 3 (PW) and 4 (MN), which would tell a guesser which MN exist."""


class NoAnswer(WaterError):
    """The logger did not answer, or left before it did."""

    retryable = True


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where to listen and whom to put up with. ``port`` 0 takes a free one."""

    host: str = "0.0.0.0"
    port: int = 9212
    cert_file: str | None = None
    key_file: str | None = field(default=None, repr=False)
    set_clock: bool = True
    max_connections: int = 5000
    idle_s: int = 3900


@dataclass(frozen=True, slots=True)
class Answer:
    """What a logger made of a request: its word (9011), the result (9012), and what it sent in between."""

    qn_rtn: int | None
    exe_rtn: int | None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.exe_rtn == ExeRtn.SUCCESS


@dataclass(slots=True)
class Counters:
    """What the gateway did since it started. Written by its thread."""

    connected: int = 0
    turned_away: int = 0
    dropped: int = 0
    frames: int = 0
    broken: int = 0
    answered: int = 0
    refused: int = 0
    asked: int = 0
    locked: int = 0
    left_out: int = 0


@dataclass(slots=True)
class _Exchange:
    """A request on its way: sent, sent again, accepted, done."""

    mn: str
    command: Command
    result: "Future[Answer]"
    qn: str = ""
    about: Packet | None = None
    tries: int = 0
    until: float = 0.0
    qn_rtn: int | None = None
    fields: dict[str, str] = field(default_factory=dict)


class Gateway:
    """The server. ``command`` may be called from any thread; everything else runs on the gateway's own."""

    def __init__(self, settings: GatewaySettings, intake: Intake, clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.counters = Counters()
        self.listening_since_ms: int | None = None
        self.port = settings.port
        self.clock_ms = clock_ms
        self.intake = intake
        self.lane = intake.lane("hj212")
        self.assembler: Assembler[_Connection] = Assembler()
        self.buffer = memoryview(bytearray(READ_BYTES))  # one for all: what is read is dealt with before the next read
        self.by_mn: dict[str, _Connection] = {}
        self.strangers = Strangers()
        self._connections: set[_Connection] = set()
        self._last_at: dict[str, int] = {}
        self._holes: dict[str, deque[tuple[int, int]]] = {}
        self._durable: list[tuple[Bundle[_Connection], Receipt, Fault | None]] = []
        self._numbers = itertools.count()
        self._last_qn_ms = 0
        self._stopping = False
        self._tls = _tls(settings)
        self._loop = asyncio.SelectorEventLoop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="hj212", daemon=True)
        intake.after_batch(self._tell)

    # -- for the other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; raises ConfigurationError when the address cannot be used."""
        _allow_open_files(self.settings.max_connections + 200)
        self._last_at = {mn: at for mn, one in self.loggers.items() if (at := one.last_at_ms) is not None}
        s = self.settings
        try:
            self._server = self._loop.run_until_complete(
                self._loop.create_server(
                    lambda: _Connection(self), s.host, s.port, backlog=2048, ssl=self._tls, **self._tls_timeouts()
                )
            )
        except OSError as error:
            said = sentence("settings.hj212_port", host=s.host, port=s.port, error=error.strerror)
            raise ConfigurationError(said) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self.listening_since_ms = self.clock_ms()
        self._thread.start()

    def quiesce(self) -> None:
        """Take nothing new; what is with the intake is still answered."""
        self._call(self._close_door)

    def stop(self) -> None:
        """Send the answers that wait, then leave."""
        if self._thread.is_alive():
            self._call(self._leave)
            self._thread.join(10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def loggers(self) -> Mapping[str, Logger]:
        """The registered loggers as the site knows them now."""
        return self.intake.site.loggers

    def command(self, station: str, command: Command) -> "Future[Answer]":
        """Ask something of the station's logger.

        The future fails with NotFound when none of the station is connected, and with NoAnswer when it does not answer
        or too much is waiting to be asked already.
        """
        result: Future[Answer] = Future()
        result.set_running_or_notify_cancel()
        self._call(lambda: self._ask_station(station, command, result))
        return result

    def _call(self, what: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

    def _tell(self) -> None:
        """On the intake's thread, after a batch: hand all its receipts over at once."""
        if self._durable:
            told, self._durable = self._durable, []
            self._call(lambda: self._answer_all(told))

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            sweep = self._loop.create_task(self._sweep())
            self._loop.run_forever()
            sweep.cancel()
            self._loop.run_until_complete(asyncio.wait([sweep]))
        finally:
            self.listening_since_ms = None
            self._loop.close()

    def now(self) -> float:
        return self._loop.time()

    def next_qn(self) -> str:
        """A QN that no other request of ours has."""
        self._last_qn_ms = max(self.clock_ms(), self._last_qn_ms + 1)
        return write_qn(self._last_qn_ms)

    def came(self, connection: "_Connection") -> bool:
        """Whether there is room for one more."""
        if self._stopping or len(self._connections) >= self.settings.max_connections:
            self.counters.turned_away += 1
            return False
        self._connections.add(connection)
        self.counters.connected += 1
        return True

    def went(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        for mn in connection.mns:
            if self.by_mn.get(mn) is connection:
                del self.by_mn[mn]

    @property
    def encrypted(self) -> bool:
        return self._tls is not None

    @property
    def is_overloaded(self) -> bool:
        """Whether the intake is so far behind that reading on would only fill memory."""
        return self.lane.full

    def hand_over(self, bundle: "Bundle[_Connection]", mn: str, fault: Fault | None = None) -> None:
        """To the intake; the parts that wait are answered when they are durable.

        Of senders that are not proven only so much is kept a day; what is more is counted, and refused like the rest.
        """
        if not self._may_keep(bundle, mn, fault):
            self.counters.left_out += 1
            self.leave_out()
            for part in bundle.waiting:
                part.owner.refuse(part.packet, fault)
            return
        known = self.loggers.get(mn)
        station = known.station if known else mn
        message = Message(station, bundle.raw, self.clock_ms(), SOURCE, topic(mn))
        for part in bundle.waiting:
            part.owner.in_flight += 1

        def durable(receipt: Receipt) -> None:
            self._durable.append((bundle, receipt, fault))

        self.lane.put(Waiting(message, durable))

    def _may_keep(self, bundle: "Bundle[_Connection]", mn: str, fault: Fault | None) -> bool:
        owner = bundle.parts[0].owner
        if fault is None:
            proven = all(unproven(part.packet, mn, self.loggers) is None for part in bundle.parts)
        else:
            proven = bool(owner.mns)
        return proven or self.strangers.may_keep(owner.peer, len(bundle.raw), self.now())

    def leave_out(self) -> None:
        """Enter a message that is not kept into the ledger of the day."""
        self.intake.site.ledger.leave_out(beijing_day(self.clock_ms()).isoformat())

    def identified(self, connection: "_Connection", mn: str) -> None:
        """A logger we know speaks on this connection; what it left half open elsewhere is closed."""
        before = self.by_mn.get(mn)
        if before is connection:
            return
        self.by_mn[mn] = connection
        connection.mns.add(mn)
        self.strangers.proved(connection.peer, mn)
        if before is not None:
            before.mns.discard(mn)
            if not before.mns:
                before.drop("the logger has connected anew")
        for hole in list(self._holes.get(mn, ())):
            self._ask_for(mn, *hole, first=Cn.MINUTE)

    def _answer_all(self, told: list[tuple["Bundle[_Connection]", Receipt, Fault | None]]) -> None:
        for bundle, receipt, fault in told:
            for part in bundle.waiting:
                part.owner.durable(part, receipt, fault)

    async def _sweep(self) -> None:
        """What only the clock notices: idle connections, unanswered requests, parts whose rest never came."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                now = self.now()
                crowded = self.is_overloaded
                for connection in list(self._connections):
                    connection.check_timeouts(now, crowded)
                for bundle in self.assembler.expire(self.clock_ms()):
                    first = bundle.parts[0]
                    self.hand_over(bundle, first.packet.mn or first.owner.mn)
            except Exception:  # whatever it is, the others must be served
                log.exception("hj212 sweep failed")

    def _close_door(self) -> None:
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.pause()

    def _leave(self) -> None:
        self._close_door()
        for connection in list(self._connections):
            connection.finish()
        self._loop.call_later(0.2, self._loop.stop)

    def _tls_timeouts(self) -> dict[str, Any]:
        return {"ssl_handshake_timeout": 20, "ssl_shutdown_timeout": 5} if self._tls else {}

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask_station(self, station: str, command: Command, result: "Future[Answer]") -> None:
        mns = [mn for mn, one in self.loggers.items() if one.station == station and mn in self.by_mn]
        if not mns:
            result.set_exception(NotFound(sentence("device.no_logger", station=station)))
        else:
            self.by_mn[mns[0]].ask(_Exchange(mns[0], command, result))

    def _ask(self, mn: str, command: Command, then: Callable[[Answer | None], None] = lambda _: None) -> None:
        """Ask on our own account; ``then`` learns what came of it, None when nothing did."""
        result: Future[Answer] = Future()
        result.add_done_callback(lambda f: then(None if f.exception() else f.result()))
        if (connection := self.by_mn.get(mn)) is not None:
            connection.ask(_Exchange(mn, command, result))

    def check_clock(self, connection: "_Connection", packet: Packet) -> None:
        """Set the clock of a logger whose QN is far from our time."""
        sent = qn_time(packet.qn)
        off = sent is not None and abs(sent - self.clock_ms()) > CLOCK_OFF_S * 1000
        if self.settings.set_clock and packet.mn and (off or packet.cn == Cn.TIME_NOTICE):
            again = connection.clock_set.get(packet.mn)
            if again is None or self.now() - again > CLOCK_AGAIN_S:
                connection.clock_set[packet.mn] = self.now()
                self._ask(packet.mn, exchange.set_time())

    def request_missing(self, mn: str, cn: str, at_ms: int) -> None:
        """Ask for what is missing between the last reading of this logger and this one."""
        if at_ms > self.clock_ms() + HOLE_MS:
            return  # its clock is wrong
        last = self._last_at.get(mn)
        self._last_at[mn] = at_ms if last is None else max(last, at_ms)
        if last is None or cn == Cn.DAY:
            return
        registry = self.intake.site.history.registry
        logger = self.loggers.get(mn)
        interval_ms = registry[logger.station].interval_s * 1000 if logger and logger.station in registry else 0
        if at_ms - last <= max(HOLE_MS, 2 * interval_ms, 2 * 3_600_000 if cn == Cn.HOUR else 0):
            return
        hole = (max(last, at_ms - OLDEST_HOLE_MS), at_ms)
        holes = self._holes.setdefault(mn, deque(maxlen=MOST_HOLES))
        if hole not in holes:
            holes.append(hole)
        self._ask_for(mn, *hole, first=Cn.HOUR if cn == Cn.HOUR else Cn.MINUTE)

    def _ask_for(self, mn: str, begin_ms: int, end_ms: int, first: str) -> None:
        """Minute data of a hole, and hour data where there are none."""

        def then(answer: Answer | None) -> None:
            if answer is None:
                return  # it is asked again when the logger has connected anew
            if not answer.done and first == Cn.MINUTE:
                self._ask_for(mn, begin_ms, end_ms, first=Cn.HOUR)
            elif (begin_ms, end_ms) in self._holes.get(mn, ()):
                self._holes[mn].remove((begin_ms, end_ms))

        self._ask(mn, exchange.fetch(first, begin_ms, end_ms), then)


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection; usually one logger, but several may share a line."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._since = self._heard = gateway.now()
        self._rubbish = 0
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False
        self._asked: deque[_Exchange] = deque()
        self._talk: Packet | None = None
        self.in_flight = 0
        self.mns: set[str] = set()
        self.mn = ""
        self.peer = ""
        self.clock_set: dict[str, float] = {}

    # -- asyncio calls -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport.get_extra_info("peername"))
        if not self._gateway.came(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._gateway.buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._take(self._reader.feed(bytes(self._gateway.buffer[:nbytes])))
        except Exception:  # a fault of ours on one connection must not end the loop for all
            log.exception("hj212 connection failed", mn=self.mn)
            self.drop("a fault of ours")
            return
        self._breathe()

    def eof_received(self) -> bool:
        """The logger has said all it will; it still gets the answers that are due."""
        self._ended = True
        self._take(self._reader.close())
        return self.in_flight > 0 and not self._gateway.encrypted  # TLS has no half-closed connection

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._breathe()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._breathe()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gateway.went(self)
        if not self._ended:
            self._take(self._reader.close())
        for waiting in self._asked:
            waiting.result.set_exception(NoAnswer(sentence("device.logger_left", mn=waiting.mn)))
        self._asked.clear()
        self._transport = None

    # -- the gateway calls -------------------------------------------------------------------------------------------

    def check_timeouts(self, now: float, crowded: bool) -> None:
        """Called a few times a second."""
        known = bool(self.mns)
        if not known and now - self._since > HELLO_S:
            self.drop("nothing of a known logger came")
        elif now - self._heard > self._gateway.settings.idle_s:
            self.drop("it was silent too long")
        elif self._reading_paused and not crowded:
            self._breathe()
        self._press_on(now)

    def pause(self) -> None:
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def finish(self) -> None:
        """Close once what is to be written is written."""
        if self._transport is not None:
            self._transport.close()

    def drop(self, why: str) -> None:
        """Close without waiting for anybody."""
        if self._transport is not None:
            self._gateway.counters.dropped += 1
            log.info("hj212 connection dropped", mn=self.mn or None, why=why)
            self._transport.abort()

    def durable(self, part: Part["_Connection"], receipt: Receipt, fault: Fault | None) -> None:
        """What this part held is stored, or kept with a reason: now it may be answered."""
        self.in_flight -= 1
        packet = part.packet
        reasons = {r.reason for r in receipt.rejected if r.readings is None}
        if packet.wants_answer and packet.qn:
            self._send(self._answer(packet, fault, reasons))
        if not reasons & _STRANGE and fault is None and packet.mn:
            if self._transport is not None:
                self._talk = packet
                self._gateway.identified(self, packet.mn)
                self._gateway.check_clock(self, packet)
            if packet.cn in DATA and (at := _newest(packet)) is not None:
                self._gateway.request_missing(packet.mn, packet.cn or "", at)
        if self._ended and self.in_flight == 0:
            self.finish()
        self._breathe()

    def ask(self, wanted: _Exchange) -> None:
        """Ask when the requests before it are through."""
        if len(self._asked) >= MOST_ASKED or self._transport is None:
            wanted.result.set_exception(NoAnswer(sentence("device.logger_busy", mn=wanted.mn, count=len(self._asked))))
            return
        self._asked.append(wanted)
        self._press_on(self._gateway.now())

    # -- frames ------------------------------------------------------------------------------------------------------

    def _take(self, found: list[Any]) -> None:
        for one in found:
            if isinstance(one, Broken):
                self._take_broken(one)
            else:
                self._heard = self._gateway.now()
                self._rubbish = 0
                self._gateway.counters.frames += 1
                self._take_packet(parse(one.segment), one.raw)

    def _take_broken(self, broken: Broken) -> None:
        """Keep it with its reason, and tell the sender as far as the sender can be made out."""
        self._gateway.counters.broken += 1
        self._rubbish += 1
        packet = parse(broken.segment)
        mn = packet.mn if packet.mn and MN.fullmatch(packet.mn) else self.mn
        cut = broken.fault in (Fault.GARBAGE, Fault.CUT)  # who sent half a frame waits in vain and sends it again
        part = Part(Packet(None) if cut else packet, broken.raw, self)
        self._gateway.hand_over(Bundle((part,), (part,)), mn, broken.fault)
        if self._rubbish >= RUBBISH:
            self.drop(f"{RUBBISH} broken frames one behind the other, the last: {broken.reason}")

    def _take_packet(self, packet: Packet, raw: bytes) -> None:
        if packet.mn and MN.fullmatch(packet.mn):
            self.mn = packet.mn
        if self._is_answer(packet):
            return
        gateway, mn = self._gateway, (packet.mn or self.mn)[:64]
        if mn not in self.mns and gateway.strangers.locked(self.peer, mn, gateway.now()):
            gateway.counters.locked += 1
            gateway.leave_out()
            self.refuse(packet)
            if not self.mns:
                self.finish()
            return
        if unproven(packet, mn, gateway.loggers) is not None:
            gateway.strangers.failed(self.peer, mn, packet.pw or "", gateway.now())
        for bundle in self._gateway.assembler.add(packet, raw, self, gateway.clock_ms()):
            self._gateway.hand_over(bundle, bundle.parts[0].packet.mn or self.mn)

    def refuse(self, packet: Packet, fault: Fault | None = None) -> None:
        """Answer at once what is not kept, with the words in which a kept stranger is refused."""
        if packet.wants_answer and packet.qn:
            self._send(self._answer(packet, fault, _STRANGE))

    def _answer(self, packet: Packet, fault: Fault | None, reasons: Set[Reason]) -> Packet:
        result = QnRtn.REFUSED if reasons & _REFUSED else None
        if fault is not None:
            result = QnRtn.CRC if fault is Fault.CRC else QnRtn.UNKNOWN
        elif result is None and packet.cn not in DATA and packet.cn not in EVENTS:
            if packet.cn in NOTICES:
                return exchange.notice_answer(packet)
            result = QnRtn.REFUSED if packet.cn == Cn.KEY_EXCHANGE else QnRtn.CN
        if result is None:
            self._gateway.counters.answered += 1
            return exchange.data_answer(packet)
        self._gateway.counters.refused += 1
        return exchange.request_answer(packet, result)

    def _send(self, packet: Packet) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(build(packet))

    def _breathe(self) -> None:
        """Read on, or not."""
        if self._transport is None or self._transport.is_closing() or self._ended:
            return
        limit = IN_FLIGHT // 2 if self._reading_paused else IN_FLIGHT
        full = self.in_flight >= limit or self._writing_paused or self._gateway.is_overloaded
        if full:
            self.pause()
        elif self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    # -- requests of ours --------------------------------------------------------------------------------------------

    def _is_answer(self, packet: Packet) -> bool:
        """Follow the request that is on its way; true when the packet is nothing but a part of it."""
        wanted = self._asked[0] if self._asked else None
        mine = wanted is not None and wanted.tries > 0 and (packet.qn == wanted.qn or packet.qn is None)
        if wanted is None or not mine or packet.mn not in (wanted.mn, None):
            return packet.cn in ANSWERS
        if packet.cn == Cn.ACCEPTED:
            wanted.qn_rtn = _result(packet, "QnRtn")
            wanted.until = self._gateway.now() + RESULT_S
            if wanted.qn_rtn != QnRtn.WILL_EXECUTE:
                self._done(Answer(wanted.qn_rtn, None, wanted.fields))
        elif packet.cn == Cn.RESULT:
            self._done(Answer(wanted.qn_rtn, _result(packet, "ExeRtn"), wanted.fields))
        else:
            wanted.fields |= packet.fields
            wanted.until = self._gateway.now() + RESULT_S
        return packet.cn in ANSWERS or (packet.cn == wanted.command.cn and packet.cn not in DATA)

    def _done(self, answer: Answer) -> None:
        self._asked.popleft().result.set_result(answer)
        self._press_on(self._gateway.now())

    def _press_on(self, now: float) -> None:
        """Send the first request, or send it again; give it up when that was enough."""
        if not self._asked or self._transport is None:
            return
        wanted = self._asked[0]
        if wanted.tries and now < wanted.until:
            return
        if wanted.qn_rtn is not None or wanted.tries > RESENDS:
            self._asked.popleft()
            key = "device.logger_no_result" if wanted.qn_rtn is not None else "device.logger_no_answer"
            wanted.result.set_exception(NoAnswer(sentence(key, mn=wanted.mn, cn=wanted.command.cn)))
            self._press_on(now)
            return
        if not wanted.tries:
            wanted.qn = self._gateway.next_qn()
        wanted.tries += 1
        wanted.until = now + ANSWER_S
        self._gateway.counters.asked += 1
        self._send(wanted.command.packet(self._about(wanted.mn), wanted.qn, self._gateway.clock_ms()))

    def _about(self, mn: str) -> Packet:
        """Whom a request is for: as the logger last named itself, else as it is registered."""
        if self._talk is not None and self._talk.mn == mn and self._talk.edition is not None:
            return self._talk
        known = self._gateway.loggers.get(mn)
        edition = Edition(known.edition) if known else Edition.E2017
        st, password = (known.st, known.password) if known else ("21", None)
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
        said = sentence("settings.hj212_certificate", cert_file=settings.cert_file, error=error)
        raise ConfigurationError(said) from error
    return context


def _allow_open_files(wanted: int) -> None:
    """Each connection is an open file; a process may have 1,024 by default, and may allow itself more."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if allowed > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warning("too few open files are allowed for hj212.max_connections", allowed=allowed, wanted=wanted)
