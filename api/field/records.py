"""Records from the field: received once however often they are sent, in effect in the same transaction.

A record that cannot take effect is kept with the reason: nothing that somebody wrote down is lost.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
import structlog
from fastapi import Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from api import problems
from api.access import Keeping, Who, needed_right
from api.context import Context
from api.duration import duration
from api.field import kinds
from api.field.job import Job, Result, own_region
from api.field.signed import SentBy, SignedRoute
from api.problems import Problem
from api.registries import Registries
from api.requests import Limit, RequestContext, RequestRegistries, Strict, Words, instant
from api.responses import answer, when
from api.routes import attachments
from api.routes.attachments import one_at_a_time
from api.routes.router import subject_router
from governance.incidents.file_content import Content, examine
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor, Forbidden
from governance.reports import field_records as store
from governance.reports.field_records import FieldPhoto, FieldRecord, Outcome
from infra.database import Joined
from infra.errors import ConfigurationError, NotFound, Refused, WaterError
from infra.texts import Text, joined, say
from infra.times import DAY_MS

router = subject_router("field", "/field/records", SignedRoute)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RECORDS = "/api/v1/field/records"
"""Where they are sent: a signature holds for this path."""
MOST_BYTES = 2 * 1024 * 1024
CLOCK_MS = 5 * 60_000
"""What a phone's clock may be off without being corrected."""
OLDEST_DAYS = 90
MOST_PHOTOS = 50
LATEST_VERSION = 2**31
MOST_PHOTO_BYTES = 12 * 1024 * 1024
"""Of a request with a photo; a photo beyond what attachments may be is refused in words."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT = ("kind", "object", "base", "old", "new", "recorded_at")
"""What a record says: the rest is about sending it."""


@dataclass(frozen=True, slots=True)
class Server:
    """What receiving a record needs of the application."""

    context: Context
    registries: Registries
    regions: Callable[[], Regions]


async def _server(context: RequestContext, registries: RequestRegistries, keeper: Keeping) -> Server:
    return Server(context, registries, keeper.regions)


RequestServer = Annotated[Server, Depends(_server)]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and the phone that signed it; ``from_file``: it was written to a file first, when nobody knows."""

    actor: Actor
    phone: str | None = None
    from_file: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the phone keeps in place of a record that was received.

    ``made`` names what it became; in a conflict ``mine`` is what the record says and ``theirs`` what stands against it.
    """

    id: str
    kind: str
    version: int
    sha256: str
    person: str
    recorded_at: str | None
    received_at: str | None
    outcome: Outcome
    message: Text
    made: Mapping[str, Any]
    mine: Any
    theirs: Mapping[str, Any] | None
    decision: str
    missing_photos: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReceiptList:
    """Receipts, the last received first."""

    items: list[Receipt]


@router.put("/{record_id}", response_model=Receipt)
async def put_record(server: RequestServer, who: Who, phone: SentBy, request: Request, record_id: str) -> Response:
    """Receive a record. The same record again gets the same receipt; what it became happens once."""
    body = decoded(await request.body())
    found, missing, fresh = await run_in_threadpool(receive, server, Sender(who, phone), record_id, body)
    return answer(receipt(found, missing), 201 if fresh else 200)


def decoded(data: bytes) -> dict[str, Any]:
    """A record as it was sent; raises ConfigurationError for what is no JSON object."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        body = None
    if not isinstance(body, dict):
        raise ConfigurationError(say("field_server.not_json"))
    return body


def receipt(one: FieldRecord, missing: Sequence[str]) -> Receipt:
    """The receipt of a record as it now stands."""
    return Receipt(
        id=one.id,
        kind=one.kind,
        version=one.version,
        sha256=one.sha256,
        person=one.person,
        recorded_at=when(one.recorded_at_ms),
        received_at=when(one.received_at_ms),
        outcome=one.outcome,
        message=one.message,
        made=one.made,
        mine=one.body.get("new") if one.outcome is Outcome.CONFLICT else None,
        theirs=one.theirs if one.outcome is Outcome.CONFLICT else None,
        decision=one.decision,
        missing_photos=missing,
    )


# -- receiving ---------------------------------------------------------------------------------------------------------


def receive(
    server: Server, sender: Sender, record_id: str, body: Mapping[str, Any]
) -> tuple[FieldRecord, list[str], bool]:
    """Keep a record and let it take effect: the record, the photos it still lacks, and whether it is new here.

    Raises ConfigurationError for what is no record, Forbidden for another version of somebody else's.
    """
    number = _uuid(record_id)
    if body.get("id") != number:
        raise ConfigurationError(say("field_server.other_id"))
    digest = _digest(body)
    with server.context.database.write() as connection:
        store.lock(connection, number)
        before = store.find(connection, number)
        if before is not None and before.sha256 != digest and before.person != sender.actor.name:
            raise Forbidden(say("field_server.others_record"))
        made = _received(server, connection, sender, before, number, body)
        missing = store.missing(connection, [number]).get(number, [])
    _after(server)
    return made, missing, before is None


def _uuid(text: str) -> str:
    try:
        number = str(uuid.UUID(text))
    except ValueError:
        number = ""
    if number != text:
        raise ConfigurationError(say("field_server.no_uuid"))
    return number


def _digest(body: Mapping[str, Any]) -> str:
    said = {name: body.get(name) for name in _CONTENT}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _version(body: Mapping[str, Any]) -> int:
    version = body.get("version")
    return version if type(version) is int and 0 < version < LATEST_VERSION else 1


def _received(
    server: Server,
    connection: sa.Connection,
    sender: Sender,
    before: FieldRecord | None,
    number: str,
    body: Mapping[str, Any],
) -> FieldRecord:
    now_ms, digest, version = server.context.clock_ms(), _digest(body), _version(body)
    if before is None:
        one = FieldRecord(
            id=number,
            person=sender.actor.name,
            role=sender.actor.role.value,
            phone=sender.phone,
            kind=_plain(body.get("kind"), 16),
            version=version,
            sha256=digest,
            body=body,
            station="",
            region="",
            reach="",
            recorded_at_ms=None,
            received_at_ms=now_ms,
            outcome=Outcome.WAITING,
            message=say("field_server.received"),
        )
        try:
            one = replace(one, recorded_at_ms=_recorded_ms(body, now_ms, sender.from_file))
        except ConfigurationError:
            return _settled(server, connection, one, Result(Outcome.REFUSED, (_bad("recorded_at"),)), sender.actor)
        return _tried(server, connection, one, sender.actor)
    same = before.sha256 == digest
    if not same and version < before.version:
        return before
    if same:
        one = replace(before, version=max(version, before.version))
        _name_photos(connection, one.id, body)
        if one.outcome is Outcome.WAITING and one.person == sender.actor.name:
            return _tried(server, connection, one, sender.actor)
        if one != before:
            store.put(connection, one, "changed", by=sender.actor.name, at_ms=now_ms)
        return one
    one = replace(before, version=version, sha256=digest, body=body, decision="", decided_by="", decided_at_ms=None)
    if before.outcome is not Outcome.APPLIED and before.applied is None:
        one = replace(one, recorded_at_ms=_recorded_ms(body, now_ms, sender.from_file))
        return _tried(server, connection, one, sender.actor)
    one = replace(one, applied=before.applied or before.body)
    later = kinds.LATER.get(one.kind)
    result = None if later is None else _attempt(server, connection, one, sender.actor, later)
    if result is not None and result.outcome is Outcome.APPLIED:
        return _settled(server, connection, replace(one, applied=None), result, sender.actor)
    theirs = {"new": (one.applied or {}).get("new"), "by": before.person, "at": when(before.received_at_ms)}
    conflict = Result(Outcome.CONFLICT, (say("field_server.changed_later"),), before.made, theirs)
    return _settled(server, connection, one, conflict, sender.actor)


def _recorded_ms(body: Mapping[str, Any], now_ms: int, from_file: bool) -> int:
    """When a record was made, by the right clock. A phone that is off by little is left alone: every clock is."""
    recorded_ms = instant("recorded_at", _plain(body.get("recorded_at"), 64))
    off = body.get("offset_ms")
    if isinstance(off, bool) or not isinstance(off, int | float):
        sent = body.get("sent_at")
        off = now_ms - instant("sent_at", sent) if isinstance(sent, str) and not from_file else 0
    return recorded_ms + (round(off) if CLOCK_MS < abs(off) < 2**52 else 0)


def _plain(value: object, most: int) -> str:
    """What is quoted or kept in a column of its own: printable, and not long."""
    return "".join(letter for letter in value if letter.isprintable())[:most] if isinstance(value, str) else ""


def _bad(name: str) -> Text:
    return say("field_server.bad_value", name=name)


def _tried(
    server: Server, connection: sa.Connection, one: FieldRecord, actor: Actor, *, insists: bool = False
) -> FieldRecord:
    """Let a record take effect, and keep what came of it."""
    work = kinds.KINDS.get(one.kind)
    if work is None:
        result = Result(Outcome.REFUSED, (say("field_server.unknown_kind", kind=one.kind or "—"),))
    else:
        result = _attempt(server, connection, one, actor, work, insists)
    return _settled(server, connection, one, result, actor)


def _attempt(
    server: Server,
    connection: sa.Connection,
    one: FieldRecord,
    actor: Actor,
    work: Callable[[Job], Result],
    insists: bool = False,
) -> Result:
    """Do what a record asks for, all or nothing; what is not possible comes back with its reason."""
    now_ms = server.context.clock_ms()
    at_ms = one.recorded_at_ms or 0
    off_ms = at_ms - instant("recorded_at", one.body["recorded_at"])
    if at_ms > now_ms + CLOCK_MS:
        return Result(Outcome.REFUSED, (say("field_server.in_future", at=when(at_ms)),))
    if at_ms < now_ms - OLDEST_DAYS * DAY_MS:
        return Result(Outcome.REFUSED, (say("field_server.too_old", at=when(at_ms), days=OLDEST_DAYS),))
    context = replace(server.context, database=Joined(server.context.database, connection), wake=lambda: None)
    photos = _photos_of(connection, one)
    job = Job(
        context, connection, server.registries, server.regions, actor, one.id, one.body, off_ms, at_ms, photos, insists,
        one.made,
    )  # fmt: skip
    try:
        with connection.begin_nested():
            result = work(job)
    except WaterError as error:
        if error.retryable:
            raise
        result = Result(Outcome.REFUSED, (error.text,), one.made)
    if off_ms:
        key = "clock_behind" if off_ms > 0 else "clock_ahead"
        result = replace(result, texts=(*result.texts, say(f"field_server.{key}", off=duration(abs(off_ms)))))
    return result


def _settled(
    server: Server, connection: sa.Connection, one: FieldRecord, result: Result, actor: Actor, what: str = ""
) -> FieldRecord:
    """Keep what came of a record, and its photos with what it made."""
    new = store.find(connection, one.id) is None
    about = one.body.get("object")
    station = _plain(about.get("station"), 64) if isinstance(about, Mapping) else ""
    known = server.registries.recent()
    place = result.place
    if station in known:
        place = Place(known[station].region, known[station].reach)
    if not (place.region or place.reach):
        place = Place(one.region or own_region(actor, server.regions()), one.reach)
    after = replace(
        one,
        station=station,
        region=place.region,
        reach=place.reach,
        outcome=result.outcome,
        message=joined(result.texts or (say("field_server.applied"),)),
        made=dict(result.made),
        theirs=result.theirs,
    )
    if new or after != store.find(connection, one.id):
        what = what or ("received" if new else "changed")
        store.put(connection, after, what, by=actor.name, at_ms=server.context.clock_ms())
    _name_photos(connection, one.id, one.body)
    if after.outcome is Outcome.APPLIED:
        _use_photos(server, connection, after, actor)
        _follow(server, connection, after, actor)
    return after


def _follow(server: Server, connection: sa.Connection, one: FieldRecord, actor: Actor) -> None:
    """What waited for this record takes effect now."""
    mine = store.of_person(one.person)
    for other in store.listing(connection, mine, (Outcome.WAITING,)):
        about = other.body.get("object")
        if isinstance(about, Mapping) and about.get("record") == one.id:
            _tried(server, connection, other, actor)


def _after(server: Server) -> None:
    """What was kept back until the transaction stood."""
    server.registries.changed()
    server.context.wake()


# -- photos ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """A photo is here: by the hash that the phone knows it by."""

    sha256: str
    stored: bool


@router.put("/{record_id}/photos/{sha256}", response_model=StoredPhoto)
async def put_photo(server: RequestServer, who: Who, request: Request, record_id: str, sha256: str) -> Response:
    """Keep a photo of a record that was received. The body is the photo itself; the same one again changes nothing."""
    data = await request.body()
    await one_at_a_time(request, lambda: receive_photo(server, who, record_id, sha256, data))
    return answer(StoredPhoto(sha256, True))


def receive_photo(server: Server, who: Actor, record_id: str, sha256: str, data: bytes) -> None:
    """Keep a photo with the record that it belongs to, and with what that became.

    Raises NotFound before the record was received, Forbidden for somebody else's, Problem (422) for what is no photo.
    """
    number = _uuid(record_id)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Problem(problems.INVALID, say("field_server.other_hash"), status=422)
    with server.context.database.read() as connection:
        one = store.get(connection, number)
        named = {photo.sha256: photo for photo in store.photos(connection, number)}
    if one.person != who.name and sha256 not in named:
        raise Forbidden(say("field_server.others_record"))
    if sha256 not in named and len(named) >= MOST_PHOTOS:
        raise Problem(problems.INVALID, say("field_server.many_photos", most=MOST_PHOTOS), status=422)
    if sha256 in named and named[sha256].stored:
        return
    content = _examined(data)
    kept = attachments.keep(server.context, data, content, "", who.name)
    with server.context.database.write() as connection:
        store.lock(connection, number)
        one = store.get(connection, number)
        photo = {photo.sha256: photo for photo in store.photos(connection, number)}.get(sha256, FieldPhoto(sha256))
        store.put_photo(connection, number, replace(photo, stored=kept.id))
        if one.outcome is Outcome.WAITING and one.person == who.name:
            _tried(server, connection, one, who)
        elif one.outcome is Outcome.APPLIED:
            _use_photos(server, connection, one, who)
    _after(server)


@router.put("/{record_id}/photos/{sha256}/original", response_model=StoredPhoto)
async def put_original(context: RequestContext, who: Who, request: Request, record_id: str, sha256: str) -> Response:
    """Keep what the camera wrote, of a photo whose small version is here: evidence for the office, shown nowhere."""
    data = await request.body()
    await one_at_a_time(request, lambda: _keep_original(context, who, record_id, sha256, data))
    return answer(StoredPhoto(sha256, True))


def _keep_original(context: Context, who: Actor, record_id: str, sha256: str, data: bytes) -> None:
    """Raises NotFound before the small one is here, Forbidden for somebody else's, Problem (422) for what is none."""
    with context.database.read() as connection:
        one, photo = _photo_here(connection, record_id, sha256)
    if one.person != who.name:
        raise Forbidden(say("field_server.others_record"))
    if photo.original is not None:
        return
    _examined(data)
    kept = attachments.photos(context).add(data)
    with context.database.write() as connection:
        store.lock(connection, one.id)
        _, photo = _photo_here(connection, record_id, sha256)
        store.put_photo(connection, one.id, replace(photo, original=photo.original or kept))


@router.get("/{record_id}/photos/{sha256}/original", responses={200: {"content": {"image/jpeg": {}}}})
def get_original(context: RequestContext, who: Who, record_id: str, sha256: str) -> Response:
    """What the camera wrote, with place and device; for the office within whose reach the record is."""
    with context.database.read() as connection:
        one, photo = _photo_here(connection, record_id, sha256)
    if photo.original is None or not who.covers(one.region, one.reach):
        raise NotFound(say("field_server.no_original"))
    headers = {"Cache-Control": "private, no-store", "Content-Disposition": f'attachment; filename="{sha256[:12]}"'}
    path = attachments.photos(context).path(photo.original)
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


def _photo_here(connection: sa.Connection, record_id: str, sha256: str) -> tuple[FieldRecord, FieldPhoto]:
    one = store.get(connection, _uuid(record_id))
    found = next((photo for photo in store.photos(connection, one.id) if photo.sha256 == sha256 and photo.stored), None)
    if found is None:
        raise NotFound(say("field_server.no_original"))
    return one, found


def _examined(data: bytes) -> Content:
    """What a photo is; raises Problem (422) for what is none."""
    try:
        content = examine(data)
        if not content.is_photo:
            raise Refused(say("attachment.body_no_photo"))
    except Refused as error:
        raise Problem(problems.INVALID, error.text, status=422) from None
    return content


def _name_photos(connection: sa.Connection, number: str, body: Mapping[str, Any]) -> None:
    """Keep which photos a record names."""
    known = {photo.sha256 for photo in store.photos(connection, number)}
    for photo in _named(body):
        if photo.sha256 not in known and len(known) < MOST_PHOTOS:
            store.put_photo(connection, number, photo)
            known.add(photo.sha256)


def _named(body: Mapping[str, Any]) -> list[FieldPhoto]:
    """The photos that a record names."""
    found = []
    given = body.get("photos")
    for one in given if isinstance(given, list) else ():
        sha256 = one.get("sha256") if isinstance(one, Mapping) else None
        if isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            try:
                taken_ms = instant("taken_at", one.get("taken_at") or "")
            except (ConfigurationError, TypeError):
                taken_ms = None
            found.append(FieldPhoto(sha256, taken_at_ms=taken_ms))
    return found


def _photos_of(connection: sa.Connection, one: FieldRecord) -> tuple[FieldPhoto, ...]:
    """The photos of a record, those that it names and those that are here."""
    here = store.photos(connection, one.id)
    known = {photo.sha256 for photo in here}
    return (*here, *(photo for photo in _named(one.body) if photo.sha256 not in known))


def _use_photos(server: Server, connection: sa.Connection, one: FieldRecord, actor: Actor) -> None:
    """Put the photos that are here with what the record became. What does not fit there stays with the record."""
    waiting = [photo for photo in store.photos(connection, one.id) if photo.stored and not photo.used]
    if not waiting:
        return
    context = replace(server.context, database=Joined(server.context.database, connection), wake=lambda: None)
    for photo in waiting:
        try:
            with connection.begin_nested():
                kinds.use_photo(context, connection, actor, one, photo)
        except WaterError as error:
            if error.retryable:
                raise
            log.warning("a photo stays with its record", record=one.id, reason=error.text.en)
        else:
            store.put_photo(connection, one.id, replace(photo, used=True))


# -- lists and decisions -----------------------------------------------------------------------------------------------


class NewDecision(Strict):
    """Which of two versions is to stand; ``station`` names the station of a record that had none here."""

    keep: Literal["mine", "theirs"]
    station: Words | None = Field(None, max_length=64)


@router.get("", response_model=ReceiptList)
def list_records(
    context: RequestContext,
    who: Who,
    state: Annotated[Outcome | None, Query(description="only those with this outcome")] = None,
    everybody: Annotated[
        bool, Query(alias="all", description="all within reach; asks for the right to review")
    ] = False,
    limit: Limit = 100,
) -> Response:
    """One's own records with their receipts; for the office all within reach."""
    outcomes = () if state is None else (state,)
    with context.database.read() as connection:
        which = within_reach(who) if everybody else store.of_person(who.name)
        found = store.listing(connection, which, outcomes, limit=limit)
        lacking = store.missing(connection, [one.id for one in found])
    return answer(ReceiptList([receipt(one, lacking.get(one.id, [])) for one in found]))


def within_reach(who: Actor) -> sa.ColumnElement[bool]:
    """The records that the office may see, for the list. Raises Forbidden without the right to see maintenance."""
    who.must(needed_right("POST", "/stations/-/visits"))
    return store.within(who.regions, {reach for reach, _ in who.waters}, who.name)


@router.post("/{record_id}/decision", response_model=Receipt)
def decide_record(server: RequestServer, who: Who, record_id: str, new: NewDecision) -> Response:
    """Say which version of a conflict stands, or let a record that waits take effect or end."""
    found, missing = decide(server, who, record_id, new)
    return answer(receipt(found, missing))


def decide(server: Server, who: Actor, record_id: str, new: NewDecision) -> tuple[FieldRecord, list[str]]:
    """Decide on a record that conflicts or waits: one's own, or within reach with the right to see maintenance.

    Raises NotFound, Forbidden, and Refused for one that is settled otherwise.
    """
    number = _uuid(record_id)
    with server.context.database.write() as connection:
        store.lock(connection, number)
        one = store.get(connection, number)
        _may_decide(who, one)
        if one.decision != new.keep or one.outcome in (Outcome.CONFLICT, Outcome.WAITING):
            one = _decided(server, connection, who, one, new)
        missing = store.missing(connection, [number]).get(number, [])
    _after(server)
    return one, missing


def _may_decide(who: Actor, one: FieldRecord) -> None:
    if one.person != who.name:
        who.must(needed_right("POST", "/stations/-/visits"))
        if not who.covers(one.region, one.reach):
            raise Forbidden(say("field_server.others_record"))


def _decided(server: Server, connection: sa.Connection, who: Actor, one: FieldRecord, new: NewDecision) -> FieldRecord:
    if one.outcome not in (Outcome.CONFLICT, Outcome.WAITING):
        raise Refused(say("field_server.settled"))
    decided = replace(one, decision=new.keep, decided_by=who.name, decided_at_ms=server.context.clock_ms())
    if new.keep == "theirs":
        outcome = Outcome.REFUSED if one.applied is None else Outcome.APPLIED
        body = one.applied or one.body
        result = Result(outcome, (say("field_server.theirs_kept", name=who.name),), one.made, one.theirs)
        return _settled(server, connection, replace(decided, body=body), result, who, "decided")
    if new.station:
        about = one.body.get("object")
        object_ = {**(about if isinstance(about, Mapping) else {}), "station": new.station}
        decided = replace(decided, body={**one.body, "object": object_})
    work = kinds.KINDS if one.applied is None else kinds.CORRECTIONS
    if one.kind not in work:
        raise Refused(say("field_server.no_correction"))
    result = _attempt(server, connection, decided, who, work[one.kind], insists=True)
    if result.outcome is not Outcome.APPLIED:
        raise Refused(joined(result.texts) if result.texts else say("field_server.settled"))
    return _settled(server, connection, replace(decided, applied=None), result, who, "decided")
