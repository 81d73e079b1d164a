"""The live channel: the one picture of the waters that all clients share, and which parts of it changed.

The picture is read at most once a second, only while somebody looks. Each part has a topic and a mark, a digest of what
the part shows; a page holds the marks it was drawn with, and the channel sends those that differ. Marks are the same in
every process and after a restart, so that a client that was cut off learns what it missed.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse, StreamingResponse

from api.pages.models.overview import Model
from api.pages.picture import Live

PATH = "/live"
MOST_TOPICS = 100
OF_STATION = "station-"
BEAT_S = 5.0
"""How often each client is sent the time of the picture, which proves that the channel lives."""
WAIT_MOST = 200
"""Clients of one process; more are refused, and fetch their pages anew instead."""


@dataclass(frozen=True)
class Marks:
    """The marks of the topics of one picture: ``stations``, ``counts``, ``incidents``, one for each incident
    (``incident-7``), and for each station (``station-KEY``: its newest readings) when it is asked for.
    """

    model: Model = field(repr=False)

    def of(self, topic: str) -> str:
        """The mark of a topic; "" for an unknown one."""
        if topic.startswith(OF_STATION):
            station = self.model.station(topic.removeprefix(OF_STATION))
            return "" if station is None else digest((station.state, station.newest_at_ms, station.headline))
        return self.by_topic.get(topic, "")

    @cached_property
    def by_topic(self) -> Mapping[str, str]:
        model = self.model
        rows = {f"incident-{one.id}": (one.version, one.colour, one.sentence.zh) for one in model.incidents}
        return {
            "stations": digest((tuple(s.key for s in model.stations), model.codes)),
            "counts": digest((dict(model.by_state), dict(model.open_by_colour), model.book)),
            "incidents": digest(tuple(sorted(rows.items()))),
            "classes": digest(
                [
                    (r.key, r.shown and (r.water_class, r.shown.met, r.shown.deciding, r.shown.silent))
                    for r in model.reaches
                ]
            ),
            **{name: digest(row) for name, row in rows.items()},
        }


class LivePicture:
    """The picture and its marks, kept fresh while clients listen."""

    def __init__(self, live: Live, clock_ms: Callable[[], int]) -> None:
        self._live = live
        self._clock_ms = clock_ms
        self._last: Marks | None = None
        self._clients = 0
        self._stopped = False
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether no more clients are taken."""
        return self._clients >= WAIT_MOST

    async def now(self) -> Model | None:
        """The picture for a page that is being drawn; None when it could never be read."""
        return await self._live.now()

    def marks(self, model: Model, topics: Collection[str]) -> dict[str, str]:
        """The marks of the topics in a picture; "" for an unknown topic, such as an incident that is over."""
        last = self._last
        if last is None or last.model is not model:
            self._last = last = Marks(model)
        return {topic: last.of(topic) for topic in topics}

    async def events(self, topics: Collection[str]) -> AsyncIterator[bytes]:
        """Server-sent events for one client: the marks of its topics at first, then those that changed, and beats."""
        self._clients += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        sent: dict[str, str] = {}
        beat = float("-inf")
        try:
            yield b"retry: 3000\n\n"
            while not self._stopped:
                model = self._live.model
                if model is not None and self._live.trouble is None:
                    marks = self.marks(model, topics)
                    if new := {topic: mark for topic, mark in marks.items() if sent.get(topic) != mark}:
                        sent |= new
                        yield event("marks", new)
                if time.monotonic() - beat >= BEAT_S:
                    beat = time.monotonic()
                    yield self._beat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S), self._changed:
                        await self._changed.wait()
        finally:
            self._clients -= 1

    def _beat(self) -> bytes:
        trouble = self._live.trouble
        return event(
            "beat",
            {
                "as_of": self._live.read_at_ms,
                "now": self._clock_ms(),
                "failed_since": None if trouble is None else trouble.since_ms,
            },
        )

    async def _read(self) -> None:
        """Keep the picture fresh for as long as anybody listens."""
        shown = self._live.model
        while self._clients and not self._stopped:
            self._live.look()
            await self._live.step()
            if self._live.model is not shown or self._live.trouble is not None:
                shown = self._live.model
                await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def stop(self) -> None:
        """End all channels: the server stops."""
        self._stopped = True
        await self._wake()


def event(name: str, data: object) -> bytes:
    """A server-sent event with JSON data."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def digest(value: object) -> str:
    """A short mark of what something shows, the same in every process."""
    return hashlib.blake2b(repr(value).encode(), digest_size=6).hexdigest()


router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def listen(request: Request, topics: str = "") -> Response:
    """The channel of one page for its topics, separated by commas."""
    live: LivePicture = request.app.state.live
    wanted = [topic for topic in topics.split(",") if topic][:MOST_TOPICS]
    if live.full:
        return PlainTextResponse("too many clients\n", 503, {"Retry-After": "10"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(live.events(wanted), media_type="text/event-stream", headers=headers)
