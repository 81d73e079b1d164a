"""A device that keeps a line to the platform and sends what waits, one message after the other, until each is answered.

One thread a device. After the last resend it takes the line for dead and opens it anew, with everything unanswered
still in its memory.
"""

import select
import socket
import ssl
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from infra.closing import Closing
from sensors.wire.framed import StreamReader

_RETRY_S: Final = 0.2

log = structlog.get_logger(__name__)

M = TypeVar("M")
"""A message that waits for its answer."""


class Timeouts(Protocol):
    """How long an answer is waited for, and how often a message is sent again."""

    @property
    def answer_s(self) -> float: ...
    @property
    def resends(self) -> int: ...


class LineDevice(Closing, Generic[M]):
    """A context manager that ends its thread.

    ``clock_ms`` is the true time, ``clock_off_ms`` how far the device's own is from it until it is set. ``resent``
    counts sending again.
    """

    def __init__(self, name: str, timeouts: Timeouts, clock_ms: Callable[[], int]) -> None:
        self.clock_off_ms = 0
        self.resent = 0
        self._timeouts = timeouts
        self._clock_ms = clock_ms
        self._waiting: deque[M] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._away = threading.Event()
        self._connected = threading.Event()
        self._bell_in, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # -- for the other threads ---------------------------------------------------------------------------------------

    def away(self, away: bool) -> None:
        """Lose the line, or have it again; what is reported meanwhile waits."""
        (self._away.set if away else self._away.clear)()
        self._ring()

    @property
    def connected(self) -> bool:
        """Whether the line stands."""
        return self._connected.is_set()

    @property
    def unanswered(self) -> int:
        with self._changed:
            return len(self._waiting)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is answered; False when time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self) -> None:
        self._closing.set()
        self._ring()
        self._thread.join()
        self._bell.close()
        self._bell_in.close()

    def now_ms(self) -> int:
        """The time by the device's own clock."""
        return self._clock_ms() + self.clock_off_ms

    def _ring(self) -> None:
        self._bell_in.send(b"!")

    # -- what the protocol says --------------------------------------------------------------------------------------

    @abstractmethod
    def _open(self) -> socket.socket:
        """Open the line; raises OSError."""

    @abstractmethod
    def _reader(self) -> StreamReader:
        """The reader of a new line."""

    @abstractmethod
    def _send(self, sock: socket.socket, message: M) -> None:
        """Send a message that waits, for the first time or again."""

    @abstractmethod
    def _handle(self, sock: socket.socket, found: Any) -> None:
        """Take what the reader found: the answer that ends the waiting of a message, or a request."""

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
                log.debug("device_has_no_line", device=self._thread.name, error=str(error))
                self._wait(None, _RETRY_S)
            finally:
                self._connected.clear()

    def _talk(self, sock: socket.socket) -> None:
        """Until the line is lost, or the platform does not answer."""
        reader = self._reader()
        sent: M | None = None
        tries, until = 0, 0.0
        while not self._closing.is_set() and not self._away.is_set():
            with self._changed:
                first = self._waiting[0] if self._waiting else None
            now = time.monotonic()
            if first is not None and (first is not sent or now >= until):
                tries = 0 if first is not sent else tries + 1
                if tries > self._timeouts.resends:
                    return
                self.resent += tries > 0
                self._send(sock, first)
                sent, until = first, now + self._timeouts.answer_s
            if self._wait(sock, max(0.0, until - now) if first is not None else 1.0):
                data = sock.recv(65_536)
                if not data:
                    return
                for found in reader.feed(data):
                    self._handle(sock, found)

    def _wait(self, sock: socket.socket | None, timeout_s: float) -> bool:
        """Wait for bytes or for the bell; true when there are bytes."""
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        ready, _, _ = select.select([s for s in (sock, self._bell) if s is not None], [], [], timeout_s)
        if self._bell in ready:
            self._bell.recv(4096)
        return sock is not None and sock in ready
