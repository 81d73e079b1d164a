"""The HTTP server of the API and the pages: uvicorn, with our limits and our way of stopping."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import structlog
import uvicorn

from api.context import Context
from infra.errors import ConfigurationError
from infra.texts import say
from riverchief.http_limits import Closed, ConnectionLimits, files_for_connections, protocols
from riverchief.otel import Tracing
from riverchief.settings import ApiSection
from riverchief.signals import on_signal

log = structlog.get_logger(__name__)

SHUTDOWN_S = 10.0
"""Twice what uvicorn gives the connections that are open."""


def listen(host: str, port: int) -> socket.socket:
    """Open the API's socket; raises ConfigurationError for an address that cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(say("settings.port", host=host, port=port, error=error.strerror)) from error


def serve_http(
    context: Context,
    settings: ApiSection,
    listener: socket.socket,
    stop_requested: threading.Event,
    tracing: Tracing | None,
    on_close: Callable[[Closed], None],
) -> None:
    """Serve until a signal comes, or came already: loading takes seconds.

    ``on_close`` is called with each connection that a limit closes.
    """
    from api.app import create_app  # an ingest alone does not load the pages

    app = create_app(context)
    if tracing:
        app.add_middleware(tracing.requests)
    limits = ConnectionLimits(
        settings.connections_each, files_for_connections(), proxies=settings.trusted_proxies, on_close=on_close
    )
    http, websocket = protocols(limits)
    config = uvicorn.Config(
        app,
        http=http,
        ws=websocket,
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    log.info("listening", address=f"http://{settings.host}:{settings.port}/")
    _Server(config, stop_requested, app.state.live.stop).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn raises the signal again once it has stopped, which would end us before the last batch is stored."""

    def __init__(
        self, config: uvicorn.Config, stop_requested: threading.Event, end_channels: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._stop_requested = stop_requested
        self._end_channels = end_channels

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def request_exit(*_: object) -> None:
            self.should_exit = True

        with on_signal(request_exit):
            self.should_exit = self._stop_requested.is_set()
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Like uvicorn's, with a limit for what pages leave behind: the last batch waits to be stored."""
        await self._end_channels()
        shutdown = asyncio.ensure_future(super().shutdown(sockets))
        _, late = await asyncio.wait({shutdown}, timeout=SHUTDOWN_S)
        if late:
            left = sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())
            log.warning("open pages did not end in time and are left behind", tasks=left)
