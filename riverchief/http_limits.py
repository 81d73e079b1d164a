"""Limits for connections to the API: a number for each address, and a time for headers, body and answer.

Uvicorn waits for ever for the headers and the body of a request, and for a client to read its answer. These protocols
are its own, with a limit for each; they count a connection until it ends, also once it has become a WebSocket.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from infra.throttle import network_of

log = structlog.get_logger(__name__)

RESERVED_FILES = 256
"""Open files that connections leave to the database, the broker and the photos."""
WANTED_FILES = 65_536
"""Open files asked of the operating system, which often begins with 1,024; a connection takes one."""


class Closed(StrEnum):
    """Why we closed a connection."""

    FULL = "full"
    """One connection too many."""
    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"
    """The client did not read what we sent."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits of a client: for the headers of a request, for each ``body_bytes`` of its body, and for each
    ``answer_bytes`` of what it has to read.

    Our choice: 273 bytes a second, a fraction of what a phone on a weak network sends. An answer has twice the time: an
    operating system may announce what a program has read of its buffer in steps.
    """

    headers_s: float = 20.0
    body_s: float = 30.0
    body_bytes: int = 8 * 1024
    answer_s: float = 60.0
    answer_bytes: int = 8 * 1024


class ConnectionLimits:
    """Counts connections by IPv4 address and IPv6 /64: at most ``each``, and ``total`` of all together.

    Those of ``proxies`` (addresses and networks) forward many clients and count in the total alone. ``on_close`` is
    called with each connection that we close.
    """

    def __init__(
        self,
        each: int,
        total: int,
        timeouts: Timeouts = Timeouts(),
        proxies: Collection[str] = (),
        on_close: Callable[[Closed], None] = lambda why: None,
    ) -> None:
        self.timeouts = timeouts
        self.on_close = on_close
        self._each = each
        self._total = total
        self._proxies = tuple(ipaddress.ip_network(one) for one in proxies)
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a new connection; false where it is one too many."""
        network = network_of(address)
        full = self._open.get(network, 0) >= self._each and not self._is_proxy(address)
        if full or self._open.total() >= self._total:
            return False
        self._open[network] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that had entered ended."""
        network = network_of(address)
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


def files_for_connections() -> int:
    """Raise the limit of open files as far as it goes; how many connections there may be."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return WANTED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(RESERVED_FILES, (WANTED_FILES if soft == resource.RLIM_INFINITY else soft) - RESERVED_FILES)


def protocols(limits: ConnectionLimits) -> tuple[type[HttpToolsProtocol], type[WebSocketsSansIOProtocol]]:
    """Uvicorn's protocols, guarded by ``limits``."""

    class Http(_LimitedHttp):
        pass

    class WebSocket(_CountedWebSocket):
        pass

    Http.limits = WebSocket.limits = limits
    return Http, WebSocket


class _LimitedAnswers:
    """A protocol with a time limit for what the client has to read.

    Nothing more is written while bytes wait in the process, so that a slow client holds one chunk of an export and the
    buffers of the operating system.
    """

    limits: ConnectionLimits
    transport: Any
    loop: asyncio.AbstractEventLoop
    unread: asyncio.TimerHandle | None = None
    unread_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_unread()
        super().connection_lost(exc)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._cancel_unread()
        super().resume_writing()  # type: ignore[misc]

    def _wait_for_reader(self) -> None:
        self.unread_bytes = self.transport.get_write_buffer_size()
        self.unread = self.loop.call_later(self.limits.timeouts.answer_s, self._answer_late)

    def _cancel_unread(self) -> None:
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def _answer_late(self) -> None:
        if self.unread_bytes - self.transport.get_write_buffer_size() >= self.limits.timeouts.answer_bytes:
            self._wait_for_reader()
        else:
            self._close(Closed.ANSWER)

    def _close(self, why: Closed) -> None:
        self.limits.on_close(why)
        self.transport.abort()


class _LimitedHttp(_LimitedAnswers, HttpToolsProtocol):
    """HTTP with a time limit for headers, body and answer."""

    entered = False
    timer: asyncio.TimerHandle | None = None
    received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.entered = self.limits.enter(_address(self))
        if self.entered:
            self._set_timer(self.limits.timeouts.headers_s, self._headers_late)
        else:
            log.warning("a connection too many was closed", address=_address(self))
            self._close(Closed.FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        if self.entered:
            self.limits.leave(_address(self))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.timer is None:
            self._set_timer(self.limits.timeouts.headers_s, self._headers_late)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.received = 0
        self._set_timer(self.limits.timeouts.body_s, self._body_late)

    def on_body(self, body: bytes) -> None:
        self.received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._cancel_timer()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._cancel_timer()
        self._cancel_unread()
        super().handle_websocket_upgrade()

    def _set_timer(self, seconds: float, on_late: Callable[[], None]) -> None:
        self._cancel_timer()
        self.timer = self.loop.call_later(seconds, on_late)

    def _cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _headers_late(self) -> None:
        self._close(Closed.HEADERS)

    def _body_late(self) -> None:
        if self.flow.read_paused or self.received >= self.limits.timeouts.body_bytes:  # we do not read, or it comes
            self.received = 0
            self._set_timer(self.limits.timeouts.body_s, self._body_late)
        else:
            self._close(Closed.BODY)


class _CountedWebSocket(_LimitedAnswers, WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket; it is counted until it ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.leave(_address(self))
        super().connection_lost(exc)


def _address(protocol: Any) -> str:
    return protocol.client[0] if protocol.client else ""
