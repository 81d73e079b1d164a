"""A reverse proxy that misbehaves on command: what stands between us and a server on a bad day.

>>> with Proxy(server_url) as proxy:
...     proxy.script = [Status(503), Status(429, retry_after="2"), Silent()]   # one each request, then it forwards
...     use(proxy.url)

``script`` may also be a function of the request that gives a behaviour, for as long as it stands there.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PATIENCE_S = 60
ENDLESS_PIECES = 500


@dataclass(frozen=True, slots=True)
class Forward:
    """Pass the request on and the answer back."""


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with this status and pass nothing on."""

    status: int
    body: bytes = b""
    retry_after: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Silent:
    """Answer 204 and pass nothing on: the lie that loses data."""


@dataclass(frozen=True, slots=True)
class CutRequest:
    """Pass on half of the body and hang up on both sides."""


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """Pass the request on, then hang up in the middle of the answer: the server has it and the client cannot know."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Pass the request on and hang up before a byte of the answer."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Pass the request on and hold the answer back until ``release`` is set."""

    release: threading.Event


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413 for a body above so many bytes; the others are passed on."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Endless:
    """500 with an answer of 500 pieces; ``hung_up`` is set once the client does not wait for its end."""

    piece: bytes
    pause_s: float
    hung_up: threading.Event


Behaviour = Forward | Status | Silent | CutRequest | CutAnswer | HangUp | Slow | TooLarge | Endless


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_write(self) -> bool:
        return urlsplit(self.path).path in {"/write", "/api/v2/write"}


class Proxy:
    """Listens on a free loopback port between ``with`` and its end, or ``start`` and ``close``."""

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        self._target = (target.hostname or "127.0.0.1", target.port or 80)
        self.script: list[Behaviour] | Callable[[Seen], Behaviour] = []
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def writes(self) -> list[Seen]:
        """The writes among the requests."""
        return [seen for seen in self.seen if seen.is_write]

    def _next(self, seen: Seen) -> Behaviour:
        with self._lock:
            self.seen.append(seen)
            if callable(self.script):
                return self.script(seen)
            return self.script.pop(0) if self.script else Forward()

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901  (a fault of the line each)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen = Seen(self.command, self.path, dict(self.headers.items()), body)
                behaviour = proxy._next(seen)
                if isinstance(behaviour, TooLarge):
                    behaviour = Status(413, b'{"error": "too large"}') if len(body) > behaviour.bytes else Forward()
                match behaviour:
                    case Status():
                        extra = {"Content-Type": behaviour.content_type}
                        if behaviour.retry_after is not None:
                            extra["Retry-After"] = behaviour.retry_after
                        self._reply(behaviour.status, extra, behaviour.body)
                    case Silent():
                        self._reply(204, {}, b"")
                    case CutRequest():
                        proxy._pass_half(seen)
                        self._hang_up()
                    case Endless():
                        self._reply_endlessly(behaviour)
                    case _:
                        self._forward(seen, behaviour)

            def _forward(self, seen: Seen, behaviour: Behaviour) -> None:
                try:
                    status, headers, body = proxy._pass(seen)
                except OSError:
                    self._hang_up()
                    return
                if isinstance(behaviour, HangUp):
                    self._hang_up()
                elif isinstance(behaviour, CutAnswer):
                    self.wfile.write(f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body) + 10}\r\n\r\n".encode())
                    self.wfile.write(body[: len(body) // 2])
                    self._hang_up()
                else:
                    if isinstance(behaviour, Slow):
                        behaviour.release.wait(PATIENCE_S)
                    self._reply(status, headers, body)

            def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if status != 204:
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    if status != 204:
                        self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def _reply_endlessly(self, behaviour: Endless) -> None:
                self.send_response(500)
                self.send_header("Content-Length", str(ENDLESS_PIECES * len(behaviour.piece)))
                self.end_headers()
                try:
                    for _ in range(ENDLESS_PIECES):
                        self.wfile.write(behaviour.piece)
                        time.sleep(behaviour.pause_s)
                except OSError:
                    self.close_connection = True
                    behaviour.hung_up.set()

            def _hang_up(self) -> None:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        return Handler

    def _pass(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self._target, timeout=PATIENCE_S)
        try:
            connection.request(seen.method, seen.path, seen.body, _passed_on(seen.headers))
            answer = connection.getresponse()
            return answer.status, _passed_on(dict(answer.getheaders())), answer.read()
        finally:
            connection.close()

    def _pass_half(self, seen: Seen) -> None:
        """The head and half of the body; the server sees the connection end."""
        with socket.create_connection(self._target, timeout=PATIENCE_S) as connection:
            headers = {**_passed_on(seen.headers), "Host": "127.0.0.1", "Content-Length": str(len(seen.body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"{seen.method} {seen.path} HTTP/1.1\r\n{head}\r\n".encode())
            connection.sendall(seen.body[: len(seen.body) // 2])


def _passed_on(headers: dict[str, str]) -> dict[str, str]:
    """Headers but for those of the single connection."""
    single = {"connection", "keep-alive", "transfer-encoding", "content-length"}
    return {name: value for name, value in headers.items() if name.lower() not in single}
