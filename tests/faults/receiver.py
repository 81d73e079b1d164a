"""The governance platform and the phones of people in one server, which answers as it is told to."""

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from governance.incidents import cloudevents

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SLOW_S = 2.0


class Answers(Enum):
    """How requests are answered."""

    WELL = auto()
    TWICE = auto()
    """Two answers on the connection for one request: the second must not count for the next one."""
    GONE = auto()
    SLOWLY = auto()
    NEVER = auto()
    """The request is read, and the connection ends without an answer once the fault is over."""


@dataclass(frozen=True, slots=True)
class Received:
    """An event as it arrived: its id, incident and number within it, and the answer (None: none was sent)."""

    event_id: str
    incident: int
    seq: int
    status: int | None


@dataclass
class Receiver:
    """Listens on a free loopback port until it is closed: ``/events``, and ``/phone/NAME`` of each contact."""

    clock_ms: Callable[[], int]
    events: list[Received] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Whose phone took a text, and the text."""
    answers: Answers = Answers.WELL

    port: int = 0

    def __post_init__(self) -> None:
        self._mended = threading.Event()
        self.open()

    def open(self) -> None:
        """Listen, again on the same port."""
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def fail(self, answers: Answers) -> None:
        self._mended.clear()
        self.answers = answers

    def mend(self) -> None:
        self.answers = Answers.WELL
        self._mended.set()

    def close(self) -> None:
        self._mended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def accepted(self) -> list[Received]:
        """The events answered with 200, in the order in which they came."""
        return [one for one in list(self.events) if one.status == 200]

    def take(self, path: str, headers: dict[str, str], raw: bytes) -> int | None:
        """The status to answer with; None: hang up."""
        body: Any = json.loads(raw)
        if path != "/events":
            status = self._status(gone=503)
            if status == 200:
                self.texts.append((path.removeprefix("/phone/"), body["message"]))
            return status
        try:
            cloudevents.verify(SECRET, headers, raw, self.clock_ms() // 1000)
            status = self._status(gone=410)
        except cloudevents.SignatureInvalid:  # a wrong clock, as any platform would see it
            status = 401
        self.events.append(Received(body["id"], body["data"]["incident"], body["data"]["seq"], status))
        return status

    def _status(self, gone: int) -> int | None:
        match self.answers:
            case Answers.GONE:
                return gone
            case Answers.SLOWLY:
                self._mended.wait(SLOW_S)
            case Answers.NEVER:
                self._mended.wait(60)
                return None
        return 200


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A sender that was killed is part of the test."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(self.path, dict(self.headers.items()), raw)
            if status is None:
                self.close_connection = True
                return
            answer = f"HTTP/1.1 {status} .\r\nContent-Length: 0\r\n\r\n".encode()
            with contextlib.suppress(OSError):
                self.wfile.write(answer * (2 if receiver.answers is Answers.TWICE else 1))

        def log_message(self, *_: object) -> None:
            pass

    return Handler
