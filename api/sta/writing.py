"""Requests that change something: each one, and many in one body (``$batch``, ``CreateObservations``)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from fastapi import Response
from starlette.concurrency import run_in_threadpool

from api import problems
from api.access import needed_right
from api.context import Context
from api.problems import INVALID, METHOD_NOT_ALLOWED, Problem
from api.registries import Registries
from api.requests import JSON
from api.responses import answer
from api.sta import sending
from api.sta.answers import WORDS, Answers, address
from api.sta.model import Site, kinds
from api.sta.options import Options
from api.sta.paths import read, walk
from api.sta.refusals import invalid, limit
from api.sta.registering import Commands
from governance.organisation.roles import Actor
from infra.errors import WaterError
from infra.texts import Text, both, say

MOST_PARTS = 100
"""Requests of a batch."""
DATA_ARRAYS, BATCH = "CreateObservations", "$batch"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a request: the entity set and id of the entity, and the status to answer."""

    kind: str
    id: str
    status: int


@dataclass(frozen=True)
class Service:
    """A version of the API as somebody uses it; ``base`` is the address of its root below ``prefix``."""

    context: Context
    registries: Registries
    sites: Callable[[Registries], Site]
    who: Actor
    version: str
    base: str
    prefix: str

    def answers(self, registries: Registries | None = None) -> Answers:
        site = self.sites(registries or self.registries)
        return Answers(site, self.context.store, self.version, self.base, self.context.clock_ms())

    @property
    def commands(self) -> Commands:
        words, known = WORDS[self.version], kinds(self.version)
        return Commands(self.context, self.registries, self.who, self.version, words, known)

    async def write(self, method: str, path: str, content: Any) -> Response:
        """Answer a request that changes something."""
        if method == "POST" and path == DATA_ARRAYS:
            return await self._data_arrays(content)
        if method == "POST" and path.rpartition("/")[2] == "Observations":
            return await self._observation(path, content)
        done = await run_in_threadpool(self.commands.together, lambda c: self.register(c, method, path, content))
        return await run_in_threadpool(self.shown, done)

    def register(self, commands: Commands, method: str, path: str, content: Any) -> Done:
        """Change the registry as one request asks."""
        place = walk(self.answers(commands.registries), path)
        if place.rest or (place.one is None) is not (method == "POST"):
            raise Problem(METHOD_NOT_ALLOWED, say("request.no_method", path=path[:120], method=method))
        if place.one is None:
            return Done(place.kind.name, commands.create(place.kind, content, place.owner), 201)
        if method == "DELETE":
            commands.remove(place.one)
        else:
            commands.change(place.one, content)
        return Done(place.kind.name, place.one.id, 200)

    def shown(self, done: Done) -> Response:
        """The entity as it is now."""
        answers = self.answers()
        one = answers.get(done.kind, done.id)
        body = {} if one is None else answers.entity(one, Options())
        headers = {"Location": self._address(done.kind, done.id)} if done.status == 201 else None
        return answer(body, done.status, headers)

    def _address(self, kind: str, key: str) -> str:
        return f"{self.base}/{address(kind, key)}"

    # -- observations ----------------------------------------------------------------------------------------------

    async def _observation(self, path: str, content: Any) -> Response:
        sent = await run_in_threadpool(self._sent, path, content)
        (refused,) = await sending.send(self.context, self.who, [sent])
        if refused is not None:
            raise Problem(INVALID, refused)
        url = self._address("Observations", sent.id)
        words = WORDS[self.version]
        return answer({words.own: url, words.id: sent.id}, 201, {"Location": url})

    def _sent(self, path: str, content: Any) -> sending.Sent:
        answers = self.answers()
        place = walk(answers, path)
        if place.owner is not None and isinstance(content, dict):
            if place.owner.kind.name != "Datastreams" or "Datastream" in content:
                raise invalid("Datastream", path)
            content = content | {"Datastream": {answers.words.id: place.owner.id}}
        return sending.observation(answers, self.sites(self.registries), self.who, content, self.context.clock_ms())

    async def _data_arrays(self, content: Any) -> Response:
        """Answers in the order of the rows: the address of each Observation, or ``error`` and why."""
        found = await run_in_threadpool(self._rows, content)
        refused = iter(await sending.send(self.context, self.who, [o for o in found if isinstance(o, sending.Sent)]))
        lines = []
        for one in found:
            why = one if isinstance(one, Text) else next(refused)
            lines.append(f"error: {both(why)}" if why else self._address("Observations", one.id))  # type: ignore[union-attr]
        return answer(lines, 201)

    def _rows(self, content: Any) -> list[sending.Sent | Text]:
        site, now_ms = self.sites(self.registries), self.context.clock_ms()
        return sending.rows(self.answers(), site, self.who, content, now_ms)


# -- many in one body --------------------------------------------------------------------------------------------------


class Part(msgspec.Struct, rename="camel"):
    """A request of a batch; those of one group happen together or not at all."""

    id: str
    method: str
    url: str
    body: Any = None
    atomicity_group: str = ""
    depends_on: list[str] = msgspec.field(default_factory=list)


class _Batch(msgspec.Struct):
    requests: list[Part]


@dataclass
class Batch:
    """The requests of a batch, one after another; a later one may name what an earlier one made (``$id``)."""

    service: Service
    made: dict[str, Done] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    async def answer(self, content: Any) -> Response:
        try:
            parts = msgspec.convert(content, _Batch).requests
        except msgspec.ValidationError as error:
            raise invalid(BATCH, str(error)) from None
        if len(parts) > MOST_PARTS:
            raise limit(BATCH, MOST_PARTS)
        if len({part.id for part in parts}) < len(parts):
            raise invalid(BATCH, "id 2 ×")
        found: list[dict[str, Any]] = []
        while parts:
            group = parts[0].atomicity_group
            many = next((i for i, one in enumerate(parts) if one.atomicity_group != group), len(parts)) if group else 1
            now, parts = parts[:many], parts[many:]
            responses = await self._together(now)
            self.failed |= {one.id for one, r in zip(now, responses, strict=True) if r.status_code >= 400}
            found += [_written(one, r) for one, r in zip(now, responses, strict=True)]
        return answer({"responses": found})

    async def _together(self, parts: list[Part]) -> list[Response]:
        """The answers to one request, or to a group of which all happen or none."""
        try:
            if any(self.failed & set(part.depends_on) for part in parts):
                raise Problem(INVALID, say("sta.depends"), status=424)
            if not parts[0].atomicity_group:
                return [await self._one(parts[0])]
            done = await run_in_threadpool(
                self.service.commands.together, lambda c: [self._grouped(c, p) for p in parts]
            )
            return [await run_in_threadpool(self.service.shown, one) for one in done]
        except (Problem, WaterError) as error:
            problem = error if isinstance(error, Problem) else problems.of(error)
            for part in parts:
                self.made.pop(part.id, None)
            return [problem.response() for _ in parts]

    async def _one(self, part: Part) -> Response:
        method, path, query = self._request(part)
        if method == "GET":
            pairs = parse_qsl(query, keep_blank_values=True)
            return await run_in_threadpool(lambda: read(self.service.answers(), path, pairs))
        response = await self.service.write(method, path, self._named(part.body))
        if (url := response.headers.get("location")) is not None:
            kind, _, key = url.rpartition("/")[2].partition("('")
            self.made[part.id] = Done(kind, unquote(key[:-2]).replace("''", "'"), 201)
        return response

    def _grouped(self, commands: Commands, part: Part) -> Done:
        method, path, _ = self._request(part)
        if method == "GET" or path.rpartition("/")[2] in ("Observations", DATA_ARRAYS):
            raise invalid("atomicityGroup", f"{method} {path}")
        done = self.service.register(commands, method, path, self._named(part.body))
        self.made[part.id] = done
        return done

    def _request(self, part: Part) -> tuple[str, str, str]:
        """Method, path below the root and query of a part, which somebody may ask for. Raises Forbidden."""
        method = part.method.upper()
        url = part.url.removeprefix(self.service.base).removeprefix(self.service.prefix).strip("/")
        name, _, rest = url.partition("/")
        if name[1:] in self.made and name.startswith("$"):
            one = self.made[name[1:]]
            url = f"{address(one.kind, one.id)}/{rest}".rstrip("/")
        split = urlsplit(url)
        path = unquote(split.path)
        if method not in ("GET", "POST", "PUT", "PATCH", "DELETE") or path == BATCH:
            raise invalid(BATCH, f"{part.method} {part.url}")
        self.service.who.must(needed_right(method, f"{self.service.prefix}/{path}"))
        return method, path, split.query

    def _named(self, content: Any) -> Any:
        """A body in which ``$id`` stands for what an earlier request made."""
        if isinstance(content, dict):
            return {name: self._named(value) for name, value in content.items()}
        if isinstance(content, list):
            return [self._named(value) for value in content]
        if isinstance(content, str) and content.startswith("$") and content[1:] in self.made:
            return self.made[content[1:]].id
        return content


def _written(part: Part, response: Response) -> dict[str, Any]:
    body = bytes(response.body)
    one: dict[str, Any] = {"id": part.id, "status": response.status_code}
    one["headers"] = {name: value for name in ("location", "content-type") if (value := response.headers.get(name))}
    if body:
        one["body"] = msgspec.Raw(body) if "json" in response.headers.get("content-type", JSON) else body.decode()
    return one
