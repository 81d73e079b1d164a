"""Paths from entity to entity, and what stands at their ends."""

import re
from dataclasses import dataclass, replace

from fastapi import Response
from starlette.responses import PlainTextResponse

from api.problems import NOT_FOUND, Problem
from api.responses import answer
from api.sta import options
from api.sta.answers import Answers
from api.sta.model import Entity, Kind
from api.sta.options import Options, Pair
from api.sta.refusals import limit
from infra.texts import say

MOST_SEGMENTS = 10
MOST_FIELDS = 100
_SEGMENT = re.compile(r"/?(\$?\w+)(?:\(('(?:[^']|'')*'|[\w.:-]+)\))?(?=/|$)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address leads: an entity ``one``, or a set (of ``owner`` by ``link``), and what of the path is left."""

    kind: Kind
    one: Entity | None
    owner: Entity | None
    link: str
    rest: list[tuple[str, str | None]]


def read(answers: Answers, path: str, pairs: list[Pair]) -> Response:
    """What stands at an address below the root of a version."""
    if len(pairs) > MOST_FIELDS:
        raise limit("query", MOST_FIELDS)
    place = walk(answers, path)
    if place.one is not None and place.rest and place.rest[0][0] != "$ref":
        return _property(answers, place.one, place.rest, path)
    return _whole(answers, place, options.read(pairs, place.kind, answers.kinds))


def walk(answers: Answers, path: str) -> Place:
    """The place of a path; raises a Problem (404) where there is none."""
    segments = _segments(path)
    if not segments:
        raise none(path)
    name, key = segments.pop(0)
    if name not in answers.kinds:
        raise none(path)
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
                raise none(path)
        else:
            one = None
    return Place(kind, one, owner, link, segments)


def _whole(answers: Answers, place: Place, wanted: Options) -> Response:
    """An entity or a page of a set; with ``$ref`` only addresses."""
    own = answers.words.own
    rest = [name for name, _ in place.rest]
    if rest not in ([], ["$ref"]):
        raise none("/".join(rest))
    if rest:
        wanted = replace(wanted, select=None, expand=(), data_array=False)
    if place.one is not None:
        body = answers.entity(place.one, wanted)
        return answer({own: body[own]} if rest else body)
    body = answers.collection(place.kind, place.owner, place.link, wanted)
    if rest:
        body["value"] = [{own: entity[own]} for entity in body["value"]]
    return answer(body)


def _property(answers: Answers, one: Entity, segments: list[tuple[str, str | None]], path: str) -> Response:
    name, *rest = [segment for segment, _ in segments]
    known = "id" if name in ("id", "@iot.id") else name
    if known not in one.kind.properties or known not in one.row or rest not in ([], ["$value"]):
        raise none(path)
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
            raise none(path)
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
        raise none(path)
    return one


def none(path: str) -> Problem:
    """404: nothing there."""
    return Problem(NOT_FOUND, say("sta.no_entity", path=path[:120]))
