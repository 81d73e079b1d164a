"""The live channel: the one picture of the waters that all clients share, and which parts of it changed.

The picture is read at most once a second, only while somebody looks. Each part has a topic and a mark, a digest of what
the part shows; a page holds the marks it was drawn with, and the channel sends those that differ. Marks are the same in
every process and after a restart, so that a client that was cut off learns what it missed.
"""

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse, StreamingResponse

from api.access import MACHINE, while_signed_in
from api.pages.models.overview import IncidentView, Model
from api.pages.picture import Live
from api.requests import whole_number
from governance.incidents import lifecycle
from governance.organisation.roles import LOCAL_NAME, Actor, Right
from governance.people import presence
from infra.database import Database
from infra.errors import WaterError

T = TypeVar("T")
PATH = "/live"
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
MOST_TOPICS = 100
OF_STATION, OF_INCIDENT = "station-", "incident-"
PRESENCE = "presence"
"""The topic of who looks at any incident; ``presence-incident-7``: at one."""
OF_PRESENCE = f"{PRESENCE}-{OF_INCIDENT}"
MOST_NEWS = 20
"""New incidents of which a client is told at once; of more it sees the list."""
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
    newer: tuple[IncidentView, ...] = ()
    """The incidents that the picture before did not have open."""
    made: dict[object, Any] = field(default_factory=dict, repr=False)
    """What was computed from the picture, for all who look at it."""

    @cached_property
    def rows(self) -> Mapping[int, IncidentView]:
        return {one.id: one for one in self.model.incidents}

    def of(self, topic: str) -> str:
        """The mark of a topic; "" for an unknown one."""
        if topic.startswith(OF_STATION):
            station = self.model.station(topic.removeprefix(OF_STATION))
            if station is None:
                return ""
            if topic not in self.made:
                self.made[topic] = digest((station.state, station.newest_at_ms, station.headline))
            mark: str = self.made[topic]
            return mark
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
                [(r.key, r.shown and (r.water_class, r.shown.met, r.shown.deciding)) for r in model.reaches]
            ),
            **{name: digest(row) for name, row in rows.items()},
        }


class LivePicture:
    """The picture and its marks, kept fresh while clients listen, and who of the clients looks at which incident.

    The processes tell each other by the database who is there, in the pace of the picture.
    """

    def __init__(self, live: Live, clock_ms: Callable[[], int], database: Database) -> None:
        self._live = live
        self._clock_ms = clock_ms
        self._database = database
        self._process = secrets.token_hex(8)
        self._said: tuple[frozenset[tuple[int, str]], int] = (frozenset(), 0)
        self._elsewhere: Mapping[int, frozenset[str]] = {}
        self._last: Marks | None = None
        self._clients = 0
        self._present: dict[int, Counter[str]] = {}
        self._stopped = False
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether no more clients are taken."""
        return self._clients >= WAIT_MOST

    async def now(self) -> Model | None:
        """The picture for a page that is being drawn; None when it could never be read."""
        return await self._live.now()

    def marks(self, model: Model, topics: Collection[str]) -> dict[str, str]:
        """The marks of the topics in a picture; "" for an unknown topic, such as an incident that is over."""
        last = self._of(model)
        return {topic: self._presence(topic) if topic.startswith(PRESENCE) else last.of(topic) for topic in topics}

    def _of(self, model: Model) -> Marks:
        last = self._last
        if last is None or last.model is not model:
            open_ = last and {one.id for one in last.model.incidents if one.incident.is_open}
            newer = [one for one in model.incidents if one.incident.is_open and one.id not in open_] if open_ else []
            self._last = last = Marks(model, tuple(newer))
        return last

    def once(self, model: Model, key: object, make: Callable[[], T]) -> T:
        """What is made from a picture, made once for all who ask under the same key."""
        made = self._of(model).made
        if key not in made:
            made[key] = make()
        found: T = made[key]
        return found

    # -- who is there ------------------------------------------------------------------------------------------------

    def present(self, number: int, actor: Actor) -> tuple[str, ...]:
        """Who else looks at an open incident now, in the order of their names; nobody where it is out of reach."""
        row = self._last.rows.get(number) if self._last else None
        if row is None or not _sees(row, actor):
            return ()
        return tuple(name for name in self._there(number) if name != actor.name)

    def _there(self, number: int) -> list[str]:
        """Who looks at an incident, by any process."""
        return sorted({*self._present.get(number, ()), *self._elsewhere.get(number, ())})

    def _presence(self, topic: str) -> str:
        number = whole_number(topic.removeprefix(OF_PRESENCE))
        if number is not None:
            return digest(self._there(number))
        return digest([(one, *self._there(one)) for one in sorted({*self._present, *self._elsewhere})])

    async def _arrives(self, number: int, name: str) -> None:
        self._present.setdefault(number, Counter())[name] += 1
        await self._wake()

    def _leaves(self, number: int, name: str) -> None:
        there = self._present[number]
        there[name] -= 1
        if not there[name]:
            del there[name]
        if not there:
            del self._present[number]

    async def _exchange(self) -> bool:
        """Tell the other processes who is here, and learn who is there; whether that changed."""
        here = frozenset((number, name) for number, names in self._present.items() for name in names)
        before = self._elsewhere
        try:
            self._elsewhere = await asyncio.to_thread(self._exchanged, here)
        except (sa.exc.SQLAlchemyError, WaterError) as error:  # the next second tries again
            log.warning("the processes cannot tell each other who is there", error=type(error).__name__)
        return self._elsewhere != before

    def _exchanged(self, here: frozenset[tuple[int, str]]) -> Mapping[int, frozenset[str]]:
        now_ms = self._clock_ms()
        said, at_ms = self._said
        if here != said or (here and now_ms - at_ms >= presence.REFRESH_MS):
            with self._database.write() as connection:
                presence.report(connection, self._process, here, now_ms)
            self._said = here, now_ms
        with self._database.read() as connection:
            return presence.present_elsewhere(connection, self._process, now_ms)

    # -- the channel -------------------------------------------------------------------------------------------------

    async def events(
        self, topics: Collection[str], actor: Actor | None = None, language: str = "zh"
    ) -> AsyncIterator[bytes]:
        """Server-sent events for one client: the marks of its topics at first, then those that changed, and beats.

        An actor is told of new incidents within reach, and is present at the one incident whose page they have open.
        """
        self._clients += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        number = _looks_at(topics) if actor is not None and actor.name not in (LOCAL_NAME, MACHINE) else None
        if actor is not None and number is not None:
            await self._arrives(number, actor.name)
        sent: dict[str, str] = {}
        told: Marks | None = None
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
                    last = self._of(model)
                    if told is not None and last is not told and (news := _news(last, actor, language)):
                        yield event("news", news)
                    told = last
                if time.monotonic() - beat >= BEAT_S:
                    beat = time.monotonic()
                    yield self._beat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S), self._changed:
                        await self._changed.wait()
        finally:
            self._clients -= 1
            if actor is not None and number is not None:
                self._leaves(number, actor.name)
                with suppress(RuntimeError):  # the loop is closing
                    self._tasks.add(task := asyncio.get_running_loop().create_task(self._wake()))
                    task.add_done_callback(self._tasks.discard)

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
            changed = await self._exchange()
            if changed or self._live.model is not shown or self._live.trouble is not None:
                shown = self._live.model
                await self._wake()
        await self._exchange()
        self._elsewhere = {}

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def stop(self) -> None:
        """End all channels: the server stops."""
        self._stopped = True
        await self._wake()


def _looks_at(topics: Collection[str]) -> int | None:
    """The incident of a page that shows one; None for a page that shows several or none."""
    numbers = [topic.removeprefix(OF_INCIDENT) for topic in topics if topic.startswith(OF_INCIDENT)]
    return whole_number(numbers[0]) if len(numbers) == 1 else None


def _sees(row: IncidentView, actor: Actor) -> bool:
    return actor.may(Right.INCIDENTS) and lifecycle.in_jurisdiction(row.incident, actor)


def _news(marks: Marks, actor: Actor | None, language: str) -> list[dict[str, object]]:
    """The new incidents that somebody may see."""
    if actor is None or not marks.newer:
        return []
    seen = [row for row in marks.newer if not row.retrospective and _sees(row, actor)]
    return [
        {"id": row.id, "colour": row.colour.value, "title": row.sentence.en if language == "en" else row.sentence.zh}
        for row in seen[:MOST_NEWS]
    ]


def event(name: str, data: object) -> bytes:
    """A server-sent event with JSON data."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def digest(value: object) -> str:
    """A short mark of what something shows, the same in every process."""
    return hashlib.blake2b(repr(value).encode(), digest_size=6).hexdigest()


router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def listen(request: Request, topics: str = "", lang: str = "zh") -> Response:
    """The channel of one page for its topics, separated by commas."""
    live: LivePicture = request.app.state.live
    wanted = [topic for topic in topics.split(",") if topic][:MOST_TOPICS]
    if live.full:
        return PlainTextResponse("too many clients\n", 503, {"Retry-After": "10"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = while_signed_in(request, live.events(wanted, request.scope["actor"], lang))
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
