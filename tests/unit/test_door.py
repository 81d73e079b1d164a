"""Slow clients and many connections from one address do not shut out the others."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.sync.client import connect

from riverchief.http_limits import Closed, ConnectionLimits, Timeouts, protocols
from tests.rig import eventually

SLOW = 300
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Serve = Callable[..., int]


CHUNK = b"x" * 256 * 1024
CHUNKS = 200
"""50 MB: several times what the buffers of the operating system hold."""
sent_chunks: list[int] = [0]
"""How many chunks of the last export were taken from the application."""


async def export(send: Any, wrap: Callable[[bytes], dict[str, Any]]) -> None:
    """Sends chunks as long as they are taken."""
    for number in range(CHUNKS):
        sent_chunks[0] = number
        await send(wrap(CHUNK))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body, or with an export, or a page of so many bytes; a WebSocket is accepted."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/export":
            await export(send, lambda chunk: {"type": "websocket.send", "bytes": chunk})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/export":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await export(send, lambda chunk: {"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["path"].startswith("/page/"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(int(scope["path"].removeprefix("/page/")))})
        return
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves behind a door; the port."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(door: ConnectionLimits, send_buffer: int = 0) -> int:
        http, websocket = protocols(door)
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        config = uvicorn.Config(echo, http=http, ws=websocket, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        return int(listener.getsockname()[1])

    yield start
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(30)


@contextlib.contextmanager
def sockets(port: int, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            with contextlib.suppress(OSError):  # closed at once, because it was one too many
                made[-1].sendall(sent)
        yield made


def is_closed(one: socket.socket) -> bool:
    """Wait until the server closes the connection."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def length_of(port: int, body: bytes, address: str = "127.0.0.1") -> str:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60) as client:
        return client.post(f"http://127.0.0.1:{port}/", content=body).text


def test_headers_that_do_not_end_are_not_waited_for(serve: Serve) -> None:
    closed: list[Closed] = []
    port = serve(ConnectionLimits(2 * SLOW, 10_000, Timeouts(headers_s=0.5), on_close=closed.append))
    with sockets(port, SLOW, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") as slow:
        assert length_of(port, b"12345") == "5"
        assert all(is_closed(one) for one in slow)
    assert closed == [Closed.HEADERS] * SLOW


def test_a_body_that_comes_too_slowly_is_not_waited_for_and_a_steady_one_is(serve: Serve) -> None:
    port = serve(ConnectionLimits(2 * SLOW, 10_000, Timeouts(body_s=0.3, body_bytes=2)))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n1"
    with sockets(port, SLOW, head) as slow:
        assert all(is_closed(one) for one in slow)
    assert length_of(port, bytes(100_000)) == "100000"


def test_one_byte_after_an_answer_begins_a_request_that_has_to_end(serve: Serve) -> None:
    port = serve(ConnectionLimits(10, 10_000, Timeouts(headers_s=0.3)))
    with sockets(port, 1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as (one,):
        assert one.recv(4) == b"HTTP"
        while b"0\r\n\r\n" not in one.recv(4096):
            pass
        one.sendall(b"\r\n")
        assert is_closed(one)


def test_one_address_has_so_many_connections_and_the_others_are_answered(serve: Serve) -> None:
    port = serve(ConnectionLimits(20, 10_000))
    with sockets(port, SLOW, b"GET / HTTP/1.1\r\n") as many:
        assert all(is_closed(one) for one in many[20:])
        assert length_of(port, b"123", address="127.0.0.2") == "3"
    assert eventually("they are gone", lambda: _answered(port))


def test_a_proxy_speaks_for_many_within_the_total(serve: Serve) -> None:
    port = serve(ConnectionLimits(1, 30, proxies=["127.0.0.0/30"]))
    with sockets(port, 20, b"GET / HTTP/1.1\r\n"):
        assert length_of(port, b"123") == "3"
        with sockets(port, 20, b"GET / HTTP/1.1\r\n") as more:
            assert is_closed(more[-1])


def test_a_websocket_counts_until_it_ends(serve: Serve) -> None:
    port = serve(ConnectionLimits(2, 10_000))
    with connect(f"ws://127.0.0.1:{port}/"), connect(f"ws://127.0.0.1:{port}/"):
        assert not _answered(port)
    assert eventually("they are gone", lambda: _answered(port))


@pytest.mark.parametrize("upgrade", [b"", WEBSOCKET], ids=["http", "websocket"])
def test_who_does_not_read_an_export_is_cut_off_and_holds_one_chunk_of_it(serve: Serve, upgrade: bytes) -> None:
    closed: list[tuple[Closed, int]] = []
    limits = Timeouts(answer_s=0.5)
    port = serve(ConnectionLimits(10, 10_000, limits, on_close=lambda why: closed.append((why, sent_chunks[0]))))
    with sockets(port, 1, b"GET /export HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n") as (one,):
        assert length_of(port, b"123") == "3"
        ((why, chunks),) = eventually("it is cut off", lambda: closed)
        received = read_all(one)
    assert why == Closed.ANSWER
    assert len(closed) == 1
    assert chunks * len(CHUNK) - received <= 2 * len(CHUNK), "the process holds no more than the chunk it sends"


def test_who_reads_a_large_page_slowly_and_steadily_has_all_of_it(serve: Serve) -> None:
    closed: list[Closed] = []
    limits = Timeouts(answer_s=0.3, answer_bytes=1024)
    port = serve(ConnectionLimits(10, 10_000, limits, on_close=closed.append))
    with sockets(port, 1, b"GET /page/40000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as (one,):
        assert read_all(one, pause_s=0.02) > 40_000_000
    assert closed == []


def test_the_end_of_a_page_that_is_not_read_holds_no_connection(serve: Serve) -> None:
    closed: list[Closed] = []
    port = serve(ConnectionLimits(10, 10_000, Timeouts(answer_s=0.3), on_close=closed.append), send_buffer=4096)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.sendall(b"GET /page/60000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert eventually("it is cut off", lambda: closed, timeout_s=20) == [Closed.ANSWER]


def read_all(one: socket.socket, pause_s: float = 0.0) -> int:
    """Read until the connection ends, waiting before each MiB; how many bytes there were."""
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while found := one.recv(2**20, socket.MSG_WAITALL):
            total += len(found)
            time.sleep(pause_s)
    return total


def _answered(port: int) -> bool:
    try:
        return length_of(port, b"") == "0"
    except httpx.TransportError:
        return False
