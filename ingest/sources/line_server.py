"""A server for devices on an event loop in a thread of its own: connections, their limits, and receipts of the intake.

The loop never uses the database. Memory is bounded: a connection has at most :data:`IN_FLIGHT` messages with the intake
and a few kilobytes of unsent answers, and is not read while it is over that or the intake is full.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from infra.errors import ConfigurationError, WaterError
from infra.texts import say
from infra.times import beijing_day
from ingest.intake import Intake, PendingMessage
from ingest.sources.sender_limits import SenderLimits, peer_of
from sensors.wire.framed import StreamReader

log = structlog.get_logger(__name__)

READ_BYTES: Final = 4096
IN_FLIGHT: Final = 16
"""Messages of one connection with the intake at most; it is read again once half of them are answered."""
MAX_UNSENT_BYTES: Final = 16_384
MAX_BROKEN: Final = 20
"""Broken frames in a row after which a connection is dropped."""
SWEEP_S: Final = 0.5


class NoAnswer(WaterError):
    """The device did not answer, or disconnected before it did."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Address and limits of a server; ``port`` 0 takes a free one."""

    host: str
    port: int
    max_connections: int
    idle_s: int


@dataclass(slots=True)
class Counters:
    """Counts since the server started, written by its thread."""

    connected: int = 0
    turned_away: int = 0
    dropped: int = 0
    frames: int = 0
    broken: int = 0
    asked: int = 0
    locked: int = 0
    left_out: int = 0


R = TypeVar("R")


class LineServer(ABC, Generic[R]):
    """The server; ``start``, ``stop`` and ``quiesce`` may be called from any thread. ``R`` is a receipt to pass on."""

    counters: Counters

    def __init__(self, name: str, limits: Limits, intake: Intake, clock_ms: Callable[[], int]) -> None:
        self.name = name
        self.limits = limits
        self.intake = intake
        self.clock_ms = clock_ms
        self.lane = intake.lane(name)
        self.listening_since_ms: int | None = None
        self.port = limits.port
        self.buffer = memoryview(bytearray(READ_BYTES))  # shared: each read is handled before the next
        self.sender_limits = SenderLimits()
        self.receipts: list[R] = []
        self.lines: dict[TcpLine, None] = {}  # the oldest first
        self.stopping = False
        self.loop = asyncio.SelectorEventLoop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        intake.after_batch(self._pass_receipts)

    def start(self) -> None:
        """Listen; raises ConfigurationError where the address cannot be used."""
        allow_open_files(self.limits.max_connections + 200, f"{self.name}.max_connections")
        try:
            self.loop.run_until_complete(self.listen())
        except OSError as error:
            message = say(
                f"settings.{self.name}_port", host=self.limits.host, port=self.limits.port, error=error.strerror
            )
            raise ConfigurationError(message) from error
        self.listening_since_ms = self.clock_ms()
        self._thread.start()

    async def listen(self) -> None:
        """Open the sockets."""
        s = self.limits
        self._server = await self.loop.create_server(self.new_line, s.host, s.port, backlog=2048, **self.encryption())
        self.port = self._server.sockets[0].getsockname()[1]

    def encryption(self) -> dict[str, Any]:
        """The TLS arguments of ``create_server``."""
        return {}

    def quiesce(self) -> None:
        """Take nothing new; what is with the intake is still answered."""
        self.call(self.stop_accepting)

    def stop(self) -> None:
        """Send the waiting answers, then stop."""
        if self._thread.is_alive():
            self.call(self._close)
            self._thread.join(10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def connections(self) -> int:
        return len(self.lines)

    @property
    def is_overloaded(self) -> bool:
        """Whether the intake is full."""
        return self.lane.full

    def call(self, what: Callable[[], None]) -> None:
        """Have the loop do something."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(what)

    def now(self) -> float:
        return self.loop.time()

    def may_keep(self, peer: str, size: int) -> bool:
        """Whether so many bytes of a sender who proved nothing are kept; counts what is not."""
        kept = self.sender_limits.may_keep(peer, size, self.now())
        if not kept:
            self.counters.left_out += 1
            self._count_left_out()
        return kept

    def is_locked(self, line: "Line", device: str) -> bool:
        """Whether a sender has guessed too often to speak for a device; counts what it then sends."""
        locked = device not in line.devices and self.sender_limits.locked(line.peer, device, self.now())
        if locked:
            self.counters.locked += 1
            self._count_left_out()
        return locked

    def _count_left_out(self) -> None:
        """Count a message that is not kept in the ledger of the day."""
        self.intake.site.ledger.count_left_out_message(beijing_day(self.clock_ms()).isoformat())

    @abstractmethod
    def new_line(self) -> "TcpLine":
        """The protocol of a new connection."""

    @abstractmethod
    def answer_all(self, receipts: list[R]) -> None:
        """Answer what is durable; on the loop."""

    @abstractmethod
    def sweep(self, now: float) -> None:
        """Handle timeouts, every :data:`SWEEP_S`; on the loop."""

    def add_line(self, line: "TcpLine") -> bool:
        """Register a connection; false where there are too many.

        One over which no registered device has spoken yet makes room for a new one, the oldest first.
        """
        full = len(self.lines) >= self.limits.max_connections
        silent = next((one for one in self.lines if not one.devices), None) if full else None
        if silent is not None:
            del self.lines[silent]
            silent.drop("a new connection needs its place")
        admitted = not self.stopping and (silent is not None or not full)
        if admitted:
            self.counters.connected += 1
            self.lines[line] = None
        else:
            self.counters.turned_away += 1
        return admitted

    def stop_accepting(self) -> None:
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for line in self.lines:
            line.pause()

    def _pass_receipts(self, _batch: Sequence[PendingMessage]) -> None:
        """Pass the receipts of a batch to the loop; called on the intake's thread."""
        if self.receipts:
            receipts, self.receipts = self.receipts, []
            self.call(lambda: self.answer_all(receipts))

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            sweep = self.loop.create_task(self._sweep())
            self.loop.run_forever()
            sweep.cancel()
            self.loop.run_until_complete(asyncio.wait([sweep]))
        finally:
            self.listening_since_ms = None
            self.loop.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                now, overloaded = self.now(), self.is_overloaded
                for line in list(self.lines):
                    line.check_timeouts(now, overloaded)
                self.sweep(now)
            except Exception:  # the other connections must still be served
                log.exception("sweep failed", server=self.name)

    def _close(self) -> None:
        self.stop_accepting()
        for line in list(self.lines):
            line.finish()
        self.loop.call_later(0.2, self.loop.stop)


class Line(Protocol):
    """What the devices behind one address speak over."""

    peer: str
    devices: set[str]


class TcpLine(asyncio.BufferedProtocol, ABC):
    """One TCP connection, over which several devices may speak. ``devices`` are those that proved who they are."""

    hello_s: float = 300.0
    """Time within which a registered device must have spoken."""

    def __init__(self, server: LineServer[Any], reader: StreamReader) -> None:
        self._server = server
        self._reader = reader
        self._broken_in_row = 0
        self._transport: asyncio.Transport | None = None
        self._connected_at = self.last_frame_at = server.now()
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False
        self.in_flight = 0
        self.devices: set[str] = set()
        self.peer = ""

    @abstractmethod
    def handle(self, found: Any) -> str | None:
        """Handle a frame, or bytes that are none; returns why they are none."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport.get_extra_info("peername"))
        if not self._server.add_line(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._handle_all(self._reader.feed(bytes(self._server.buffer[:nbytes])))
        except Exception:  # must not end the loop for all connections
            log.exception("connection failed", server=self._server.name)
            self.drop("a fault of ours")
            return
        self.update_reading()

    def _handle_all(self, found: Sequence[Any]) -> None:
        for one in found:
            why = self.handle(one)
            if why is None:
                self.last_frame_at, self._broken_in_row = self._server.now(), 0
                continue
            self._broken_in_row += 1
            if self._broken_in_row >= MAX_BROKEN:
                self.drop(f"{MAX_BROKEN} broken frames one behind the other, the last: {why}")
                return

    def eof_received(self) -> bool:
        """The device closed its side; it still gets its answers."""
        self._ended = True
        self._handle_all(self._reader.close())
        return self.in_flight > 0 and not self._server.encryption()  # TLS has no half-closed connection

    def pause_writing(self) -> None:
        self._writing_paused = True
        self.update_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.update_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lines.pop(self, None)
        if not self._ended:
            self._ended = True
            self._handle_all(self._reader.close())
        self._transport = None
        self.lost()

    def check_timeouts(self, now: float, overloaded: bool) -> None:
        """Drop the connection where it is idle; resume reading."""
        if not self.devices and now - self._connected_at > self.hello_s:
            self.drop("nothing of a registered device came")
        elif now - self.last_frame_at > self._server.limits.idle_s:
            self.drop("it was silent too long")
        elif self._reading_paused and not overloaded:
            self.update_reading()

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def finish(self) -> None:
        """Close once all answers are written."""
        if self._transport is not None:
            self._transport.close()

    def drop(self, why: str) -> None:
        """Close at once."""
        if self._transport is not None:
            self._server.counters.dropped += 1
            log.info("connection dropped", server=self._server.name, devices=sorted(self.devices)[:5], why=why)
            self._transport.abort()

    def answered(self) -> None:
        """One message fewer is with the intake."""
        self.in_flight -= 1
        if self._ended and self.in_flight == 0:
            self.finish()
        self.update_reading()

    def update_reading(self) -> None:
        """Pause or resume reading, by the messages in flight, the unsent answers and the intake."""
        if self._transport is None or self._transport.is_closing() or self._ended:
            return
        limit = IN_FLIGHT // 2 if self._reading_paused else IN_FLIGHT
        if self.in_flight >= limit or self._writing_paused or self._server.is_overloaded or self._server.stopping:
            self.pause()
        elif self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()


def allow_open_files(wanted: int, setting: str) -> None:
    """Raise the limit of open files for the connections, as far as the system allows."""
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
            log.warning("too few open files are allowed", setting=setting, allowed=allowed, wanted=wanted)
