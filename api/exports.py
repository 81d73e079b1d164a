"""Long answers that people can wait for: few at once, one piece at a time, so that pages and short answers go first."""

import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api import problems
from infra.texts import say

MAX_EXPORTS = 4
"""Exports at once; more are answered 503. Our choice: they take turns, so that more would only make each slower."""
PAUSE_PER_WORK = 1.0
"""After each piece all exports pause for so many times as long as it took: they get half of one processor at most."""
MAX_PAUSE_S = 1.0
"""After a piece that took long because a disk or server did."""


class Exports:
    """The exports of one process: who may begin, and whose turn it is."""

    def __init__(self) -> None:
        self.open = 0
        self._lock = threading.Lock()
        self.turn = CapacityLimiter(1)
        self.thread = CapacityLimiter(1)
        """A thread of their own: pages never wait for one that an export holds."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places. Raises a Problem (503) where none is free."""
        with self._lock:
            if self.open >= MAX_EXPORTS:
                raise problems.unavailable(say("request.exports_busy", count=MAX_EXPORTS))
            self.open += 1
        try:
            yield
        finally:
            with self._lock:
                self.open -= 1


class Export(StreamingResponse):
    """Sends ``pieces`` as they are made; answers 503 instead where no place is free."""

    def __init__(self, pieces: Iterator[bytes], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exports: Exports = scope["app"].state.exports
        with ExitStack() as places:
            try:
                places.enter_context(exports.place())
            except problems.Problem as busy:
                await busy.response()(scope, receive, send)
            else:
                self.body_iterator = _in_turn(exports, self._pieces)
                await super().__call__(scope, receive, send)


async def _in_turn(exports: Exports, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each made while no other export makes one."""
    while True:
        async with exports.turn:
            began = time.monotonic()
            piece = await to_thread.run_sync(next, pieces, None, limiter=exports.thread)
            await anyio.sleep(min(PAUSE_PER_WORK * (time.monotonic() - began), MAX_PAUSE_S))
        if piece is None:
            return
        yield piece


async def _of_application(request: Request) -> Exports:
    exports: Exports = request.app.state.exports
    return exports


RequestExports = Annotated[Exports, Depends(_of_application)]
