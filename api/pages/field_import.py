"""``/field/import``: records that a phone could not send, from the file that it exported."""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.access import FIELD_IMPORT, Signer, needed_right
from api.field import kinds
from api.field.records import RECORDS, Sender, Server, decoded, receive, receive_photo
from api.field.signed import fits
from api.pages.view import PageRoute, View, Viewing
from api.problems import Problem
from api.routes.attachments import one_at_a_time
from governance.organisation.roles import Forbidden
from infra.errors import ConfigurationError, WaterError
from infra.texts import Text, say

MOST_BYTES = 60 * 1024 * 1024
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Line:
    """A record of the file and what came of it; ``known``: it was here before; photos that are here and that lack.

    ``by`` is in whose name it stands, ``signed`` whether a phone's signature says so.
    """

    id: str
    kind: str
    result: str
    message: Text
    known: bool = False
    photos: int = 0
    missing: int = 0
    by: str = ""
    signed: bool = False


class _File(msgspec.Struct):
    """What the app exports. Records stay as they were written: their signatures are over these bytes."""

    records: list[msgspec.Raw]
    photos: Any = ()
    signatures: Any = None
    phone: Any = ""


@router.get(FIELD_IMPORT)
def show(v: Viewing) -> Response:
    """The form for the file."""
    v.require(needed_right("PUT", "/field/records/-"))
    return _page(v)


@router.post(FIELD_IMPORT)
async def take(v: Viewing) -> Response:
    """Receive what the file holds: what a phone signed for its person, the rest in the name of who is signed in."""
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
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ConfigurationError(say("field_server.import_no_file")) from None
    photos = dict(filter(None, map(_photo, file.photos if isinstance(file.photos, list) else ())))
    signer = _signer(v, file.phone)
    signatures = file.signatures if isinstance(file.signatures, dict) else {}
    return [_line(v, bytes(one), signer, signatures, photos) for one in file.records]


def _signer(v: View, phone: object) -> Signer | None:
    """Whose phone wrote the file; None for one that is unknown, revoked, or whose person may send nothing."""
    try:
        signer = v.keeper.by_phone(phone) if isinstance(phone, str) and phone else None
        if signer is not None:
            signer.actor.must(needed_right("PUT", "/field/records/-"))
    except Forbidden:
        return None
    return signer


def _photo(given: Any) -> tuple[str, bytes] | None:
    try:
        data = base64.b64decode(given["base64"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error):
        return None
    return hashlib.sha256(data).hexdigest(), data


def _line(
    v: View, raw: bytes, signer: Signer | None, signatures: Mapping[str, Any], photos: Mapping[str, bytes]
) -> Line:
    server = Server(v.context, v.registries, v.keeper.regions)
    try:
        body: Mapping[str, Any] = decoded(raw)
    except ConfigurationError:
        body = {}
    number, kind = str(body.get("id") or "")[:36], str(body.get("kind") or "")[:16]
    path = f"{RECORDS}/{number}"
    signature = str(signatures.get(path) or "")
    signed = signer is not None and fits(signer, path, raw, signature)
    sender = Sender(v.actor, from_file=True)
    if signer is not None and signed:
        sender = Sender(signer.actor, signer.phone.id, from_file=True)
    elif signer is not None and signature and number:  # changed on the way: the phone still sends its own
        number = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {v.actor.name} {hashlib.sha256(raw).hexdigest()}"))
        body = {**body, "id": number}
    try:
        one, missing, fresh = receive(server, sender, number, body)
        there = [sha256 for sha256 in missing if sha256 in photos]
        for sha256 in there:
            receive_photo(server, sender.actor, number, sha256, photos[sha256])
        if there:  # the record may have waited for them
            one, missing, _ = receive(server, sender, number, body)
    except WaterError as error:
        if error.retryable:
            raise
        return Line(number, kind, "failed", error.text)
    except Problem as problem:
        return Line(number, kind, "failed", problem.detail)
    named = body.get("photos")
    count = len(named) if isinstance(named, list) else 0
    photos_here = max(0, count - len(missing))
    return Line(number, kind, one.outcome.value, one.message, not fresh, photos_here, len(missing), one.person, signed)
