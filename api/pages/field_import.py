"""``/field/import``: records that a phone could not send, from the file that it exported."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.access import FIELD_IMPORT, foreign, needed_right
from api.field import kinds
from api.field.records import Sender, Server, decoded, receive, receive_photo
from api.pages.view import PageRoute, View, Viewing
from api.problems import Problem
from api.routes.attachments import one_at_a_time
from infra.errors import ConfigurationError, WaterError
from infra.texts import Text, say

MOST_BYTES = 60 * 1024 * 1024
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Line:
    """A record of the file and what came of it; ``known``: it was here before; photos that are here and that lack."""

    id: str
    kind: str
    result: str
    message: Text
    known: bool = False
    photos: int = 0
    missing: int = 0


@router.get(FIELD_IMPORT)
def show(v: Viewing) -> Response:
    """The form for the file."""
    v.require(needed_right("PUT", "/field/records/-"))
    return _page(v)


@router.post(FIELD_IMPORT)
async def take(v: Viewing) -> Response:
    """Receive what the file holds, in the name of who is signed in."""
    if (refused := foreign(v.request.headers)) is not None:
        return refused.response()
    v.require(needed_right("PUT", "/field/records/-"))
    async with v.request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        data = await file.read() if isinstance(file, UploadFile) else b""
    try:
        lines = await one_at_a_time(v.request, lambda: _received(v, data))
    except ConfigurationError as error:
        return await run_in_threadpool(_page, v, error=error.text)
    return await run_in_threadpool(_page, v, lines)


def _page(v: View, lines: list[Line] | None = None, error: Text | None = None) -> Response:
    status = 200 if error is None else 400
    return v.render("field_import.html", status=status, lines=lines, error=error, kinds=tuple(kinds.KINDS))


def _received(v: View, data: bytes) -> list[Line]:
    """One line for each record of the file. Raises ConfigurationError for what is no such file."""
    try:
        given = decoded(data)
    except ConfigurationError:
        raise ConfigurationError(say("field_server.import_no_file")) from None
    records = given.get("records")
    if not isinstance(records, list):
        raise ConfigurationError(say("field_server.import_no_file"))
    shown = given.get("photos")
    photos = dict(filter(None, map(_photo, shown if isinstance(shown, list) else ())))
    return [_line(v, one if isinstance(one, dict) else {}, photos) for one in records]


def _photo(given: Any) -> tuple[str, bytes] | None:
    try:
        data = base64.b64decode(given["base64"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error):
        return None
    return hashlib.sha256(data).hexdigest(), data


def _line(v: View, body: Mapping[str, Any], photos: Mapping[str, bytes]) -> Line:
    server = Server(v.context, v.registries, v.keeper.regions)
    number, kind = str(body.get("id") or "")[:36], str(body.get("kind") or "")[:16]
    try:
        one, missing, fresh = receive(server, Sender(v.actor, from_file=True), number, body)
        there = [sha256 for sha256 in missing if sha256 in photos]
        for sha256 in there:
            receive_photo(server, v.actor, number, sha256, photos[sha256])
        if there:  # the record may have waited for them
            one, missing, _ = receive(server, Sender(v.actor, from_file=True), number, body)
    except WaterError as error:
        if error.retryable:
            raise
        return Line(number, kind, "failed", error.text)
    except Problem as problem:
        return Line(number, kind, "failed", problem.detail)
    named = body.get("photos")
    count = len(named) if isinstance(named, list) else 0
    return Line(number, kind, one.outcome.value, one.message, not fresh, max(0, count - len(missing)), len(missing))
