"""A TCP proxy that fails like a network: cut, half-open, one-way, slow."""

import contextlib
import socket
import threading
import time
from enum import Enum, auto

BYTES_AT_ONCE = 65_536
LOOK_EVERY_S = 0.02
SLOW_S = 0.15
"""Added to each piece on its way while the line is slow: a round trip of 0.3 s, as over a satellite."""


class Line(Enum):
    """What happens to the connections."""

    UP = auto()
    CUT = auto()
    """Every connection is reset and none is accepted."""
    HALF_OPEN = auto()
    """The far ends are gone and the near ends are not told: what they send is lost, new connections stay silent."""
    ONE_WAY = auto()
    """What the client sends arrives, nothing comes back until the line is up again."""
    SLOW = auto()


class TcpProxy:
    """Listens on a free loopback port and passes on to another until it is closed; ``line`` may change at any time."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self.line = Line.UP
        self._pairs: set[tuple[socket.socket, socket.socket | None]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, line: Line) -> None:
        self.line = line
        if line is Line.CUT:
            self._drop(near=True)
        elif line is Line.HALF_OPEN:
            self._drop(near=False)

    def mend(self, *, answer: bool = False) -> None:
        """Pass on again; with ``answer`` what lost its far end is reset, as by a machine that restarted."""
        stale = self.line is Line.HALF_OPEN and answer
        self.line = Line.UP
        if stale:
            self._drop(near=True)

    def close(self) -> None:
        self._listener.close()
        self._drop(near=True)

    def _drop(self, *, near: bool) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for client, server in pairs:
            for one in (client, server) if near else (server,):
                if one is not None:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.line is Line.CUT:
                client.close()
                continue
            server: socket.socket | None = None
            if self.line is not Line.HALF_OPEN:
                try:
                    server = socket.create_connection(self._target, timeout=5)
                    server.settimeout(None)
                except OSError:
                    client.close()
                    continue
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            if server is not None:
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket | None) -> None:
        """From the client to the server; a far end that is gone takes everything and answers nothing."""
        with contextlib.suppress(OSError):
            while data := client.recv(BYTES_AT_ONCE):
                self._slow_down()
                if server is not None:
                    with contextlib.suppress(OSError):
                        server.sendall(data)
        self._end(client, server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(BYTES_AT_ONCE):
                self._slow_down()
                while self.line is Line.ONE_WAY:
                    time.sleep(LOOK_EVERY_S)
                if self.line is not Line.HALF_OPEN:
                    client.sendall(data)
        if self.line is not Line.HALF_OPEN:
            self._end(client, server)

    def _slow_down(self) -> None:
        if self.line is Line.SLOW:
            time.sleep(SLOW_S)

    def _end(self, client: socket.socket, server: socket.socket | None) -> None:
        with self._lock:
            self._pairs.discard((client, server))
        for one in (client, server):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
