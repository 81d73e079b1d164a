"""The two addresses of the SensorThings API: their roots, and paths from entity to entity."""

import re
import threading
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from api.problems import NOT_FOUND, NOT_IMPLEMENTED, Problem
from api.requests import RequestContext, RequestRegistries
from api.responses import answer
from api.sta import filters, options
from api.sta.answers import Answers
from api.sta.model import Entity, Kind, Site, kinds
from api.sta.options import Options
from api.sta.refusals import limit, unsupported
from infra.texts import say
from ingest.storage.port import ReadingStore
from sensors.stations import Registry

PREFIX = "/sta"
RECENT_S = 30.0
"""A series whose first reading came just now shows that much later."""
MOST_SEGMENTS = 10
MOST_FIELDS = 100
_SEGMENT = re.compile(r"/?(\$?\w+)(?:\(('(?:[^']|'')*'|[\w.:-]+)\))?(?=/|$)")
_CONFORMANCE = {
    "1.1": [
        "http://www.opengis.net/spec/iot_sensing/1.1/req/datamodel",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/resource-path/resource-path-to-entities",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/request-data",
        "http://www.opengis.net/spec/iot_sensing/1.1/req/data-array/data-array",
    ],
    "2.0": [
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/datamodel/core",
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/api/read",
        "http://www.opengis.net/spec/sensorthings/2.0/req-class/binding/http",
    ],
}

router = APIRouter(prefix=PREFIX, include_in_schema=False)


class Sites:
    """The entities of the registry as it stood a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, Registry, ReadingStore, Site] | None = None

    def of(self, registry: Registry, store: ReadingStore) -> Site:
        with self._lock:
            kept = self._kept
            fresh = kept is not None and kept[1] is registry and kept[2] is store
            if kept is None or not fresh or time.monotonic() - kept[0] > RECENT_S:
                self._kept = kept = time.monotonic(), registry, store, Site(registry, store.latest())
            return kept[3]


@router.api_route("/{version}", methods=["GET", "HEAD"])
@router.api_route("/{version}/{path:path}", methods=["GET", "HEAD"])
def read(
    request: Request, context: RequestContext, registries: RequestRegistries, version: str, path: str = ""
) -> Response:
    """An entity, a property of it, or entities of a set."""
    number = version.removeprefix("v")
    if version not in ("v1.1", "v2.0"):
        raise _none(version)
    sites: Sites = request.app.state.sta
    base = f"{str(request.base_url).rstrip('/')}{PREFIX}/{version}"
    path = path.rstrip("/")
    if not path:
        return answer(_root(number, base))
    if path == "$metadata":
        raise unsupported(path)
    answers = Answers(sites.of(registries.recent(), context.store), context.store, number, base, context.clock_ms())
    if request.url.query.count("&") > MOST_FIELDS:
        raise limit("query", MOST_FIELDS)
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    return _answer(answers, path, pairs)


@router.api_route("/{version}/{path:path}", methods=["POST", "PUT", "PATCH", "DELETE"])
def write(version: str, path: str) -> Response:
    """Refused: this service only reads."""
    raise Problem(NOT_IMPLEMENTED, say("sta.read_only"), headers={"Allow": "GET, HEAD"})


def _root(version: str, base: str) -> dict[str, Any]:
    sets = [{"name": name, "url": f"{base}/{name}"} for name in kinds(version)]
    settings: dict[str, Any] = {"conformance": _CONFORMANCE[version]}
    if version == "2.0":
        settings["functions"] = list(filters.FUNCTIONS)
    return {"value": sets, "serverSettings": settings}


def _answer(answers: Answers, path: str, pairs: list[options.Pair]) -> Response:
    segments = _segments(path)
    name, key = segments.pop(0)
    if name not in answers.kinds:
        raise _none(path)
    kind: Kind = answers.kinds[name]
    owner: Entity | None = None
    link = ""
    one = None if key is None else _found(answers.get(name, key), path)
    while segments and one is not None and segments[0][0] in one.kind.links:
        link, key = segments.pop(0)
        owner, to = one, one.kind.links[link]
        kind = answers.kinds[to.to]
        if not to.many:
            one = _found(answers.follow(owner, link) if key is None else None, path)
        elif key is not None:
            one = _found(answers.get(kind.name, key), path)
            if not answers.belongs(owner, link, one):
                raise _none(path)
        else:
            one = None
    if one is not None and segments and segments[0][0] not in ("$ref",):
        return _property(answers, one, segments, path)
    return _whole(answers, kind, (one, owner, link), segments, options.read(pairs, kind, answers.kinds))


def _whole(
    answers: Answers,
    kind: Kind,
    place: tuple[Entity | None, Entity | None, str],
    segments: list[tuple[str, str | None]],
    wanted: Options,
) -> Response:
    """An entity or a page of a set; with ``$ref`` only addresses."""
    one, owner, link = place
    own = answers.words.own
    rest = [name for name, _ in segments]
    if rest not in ([], ["$ref"]):
        raise _none("/".join(rest))
    if rest:
        wanted = replace(wanted, select=None, expand=(), data_array=False)
    if one is not None:
        body = answers.entity(one, wanted)
        return answer({own: body[own]} if rest else body)
    body = answers.collection(kind, owner, link, wanted)
    if rest:
        body["value"] = [{own: entity[own]} for entity in body["value"]]
    return answer(body)


def _property(answers: Answers, one: Entity, segments: list[tuple[str, str | None]], path: str) -> Response:
    name, *rest = [segment for segment, _ in segments]
    known = "id" if name in ("id", "@iot.id") else name
    if known not in one.kind.properties or known not in one.row or rest not in ([], ["$value"]):
        raise _none(path)
    value = answers.written(one.kind, known, one.row[known])
    if rest:
        return PlainTextResponse(value) if isinstance(value, str) else answer(value)
    return answer({name: value})


def _segments(path: str) -> list[tuple[str, str | None]]:
    """Names with the ids in brackets behind them."""
    found: list[tuple[str, str | None]] = []
    at = 0
    while at < len(path):
        match = _SEGMENT.match(path, at)
        if match is None:
            raise _none(path)
        name, key = match.groups()
        if key is not None and key.startswith("'"):
            key = key[1:-1].replace("''", "'")
        found.append((name, key))
        at = match.end()
        if len(found) > MOST_SEGMENTS:
            raise limit("path", MOST_SEGMENTS)
    return found


def _found(one: Entity | None, path: str) -> Entity:
    if one is None:
        raise _none(path)
    return one


def _none(path: str) -> Problem:
    return Problem(NOT_FOUND, say("sta.no_entity", path=path[:120]))
