"""What hangs at a station and what is done there: deployments, calibrations, visits, photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from fastapi import Body, Query, Response
from pydantic import Field
from starlette.responses import FileResponse

from api import entity_tags
from api.access import Who, author
from api.context import Context
from api.entity_tags import IfMatch
from api.registries import Registries, find
from api.requests import By, Cursor, Limit, RequestContext, RequestRegistries, Strict, Words, cut, instant, place
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.incidents.photo_metadata import without_metadata
from governance.organisation.roles import Actor
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import say
from ingest.storage import changes
from ingest.storage import maintenance as store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from ingest.storage.photos import MAX_PHOTO_BYTES, Photos, media_type
from sensors import registry_rows
from sensors.maintenance import Check, Photo, Visit
from sensors.stations import Deployment, Device, Registry, deployment_conflicts

router = subject_router("maintenance", "/stations/{key}")
files = subject_router("maintenance", "/photos")

FUTURE_MS = 5 * 60_000
"""A phone's clock may be so far ahead."""

Instant = Annotated[str | None, Field(description="RFC 3339 with an offset; now where not given")]
T = TypeVar("T")


# -- what comes in -----------------------------------------------------------------------------------------------------


class NewDeployment(Strict):
    """A sensor that hangs from ``since`` on; it takes over from the one of the same parameter."""

    parameter: Words
    since: Instant = None
    until: Annotated[str | None, Field(description="left out: until the next one hangs")] = None
    unit: Words | None = Field(None, description="what it reports in; the parameter's own unit where not given")
    gain: float = 1.0
    offset: float = 0.0
    device: Words = Field("", max_length=64, description="serial number")
    model: Words = ""
    manufacturer: Words = ""
    depth_m: float | None = None
    cycle_s: int | None = Field(None, description="spacing of an analyser's results")
    method: Literal["", "NTU", "FNU"] = ""
    by: By = None


class EndOfDeployment(Strict):
    """The sensor was taken away."""

    until: Instant = None
    by: By = None


class NewCheck(Strict):
    """A check or calibration; readings in the parameter's canonical unit."""

    parameter: Words
    type: Literal["zero", "span", "zero_drift", "span_drift", "standard", "five"]
    at: Instant = None
    standard: float
    reading: float = Field(description="as found")
    after: float | None = Field(None, description="once adjusted; left out: it was left as it was")
    before: float | None = Field(None, description="drift: the reading a day earlier")
    span: float | None = Field(None, description="drift: the span value (跨度值)")
    limit: float | None = Field(None, description="the largest error that passes, where it is not the table's")
    device: Words = ""
    lot: Words = Field("", description="of the standard")
    by: By = None
    note: Words = ""


class Correction(Strict):
    """What was entered wrongly; ``void`` takes the record out of force and keeps it."""

    standard: float | None = None
    reading: float | None = None
    after: float | None = None
    before: float | None = None
    span: float | None = None
    limit: float | None = None
    lot: Words | None = None
    note: Words | None = None
    void: bool | None = None
    by: By = None


class NewVisit(Strict):
    """Somebody begins to work at the station, or did."""

    since: Instant = None
    until: Annotated[str | None, Field(description="left out: the visit goes on")] = None
    parameters: list[Words] = Field(default_factory=list, description="sensors worked on; none: the whole station")
    by: By = None
    note: Words = ""


class EndOfVisit(Strict):
    """The visit is over."""

    until: Instant = None
    note: Words | None = None
    by: By = None


# -- what goes out -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A deployment; ``until`` is where it ended, by itself or by the next one; ``in_force``: it converts now."""

    parameter: str
    since: str | None
    until: str | None
    unit: str
    gain: float
    offset: float
    device: str
    model: str
    manufacturer: str
    depth_m: float | None
    cycle_s: int | None
    method: str
    in_force: bool


@dataclass(frozen=True, slots=True)
class Deployments:
    """By parameter, newest first."""

    items: list[DeploymentView]


@dataclass(frozen=True, slots=True)
class CheckView:
    """A check with its verdict: ``error`` as found, ``error_left`` as left, in the unit or in % (``counted``)."""

    number: int
    parameter: str
    type: str
    at: str | None
    standard: float
    reading: float
    after: float | None
    before: float | None
    span: float | None
    counted: str
    limit: float
    error: float
    error_left: float
    passed: bool
    left_right: bool
    device: str
    lot: str
    by: str
    note: str
    void: bool


@dataclass(frozen=True, slots=True)
class CheckPage:
    """Checks, newest first."""

    items: list[CheckView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class VisitView:
    """A visit; ``until`` is null while it goes on; without ``parameters`` it is of the whole station."""

    number: int
    since: str | None
    until: str | None
    parameters: tuple[str, ...]
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class VisitPage:
    """Visits, newest first."""

    items: list[VisitView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PhotoView:
    """A photo; ``url`` is where its bytes are."""

    sha256: str
    url: str
    media_type: str
    size: int
    taken: str | None
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class PhotoList:
    """Photos, newest first."""

    items: list[PhotoView]


# -- deployments -------------------------------------------------------------------------------------------------------


@router.get("/deployments", response_model=Deployments)
def list_deployments(context: RequestContext, registries: RequestRegistries, key: str) -> Response:
    """What hangs there and hung there, by parameter, newest first."""
    registry = registries.now()
    find(registry, key)
    mine = sorted((d for d in registry.deployments if d.station == key), key=lambda d: (d.parameter, -d.since_ms))
    return answer(Deployments([_deployment(d, registry, context.clock_ms()) for d in mine]))


@router.post("/deployments", status_code=201, response_model=DeploymentView)
def add_deployment(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewDeployment
) -> Response:
    """Hang a sensor; 409 when it overlaps with another one.

    Readings observed from `since` on that arrive from now on are converted by it; what is stored stays as it is.
    """
    made, after = hang(context, registries, who, key, new)
    return answer(_deployment(made, after, context.clock_ms()), 201)


def hang(
    context: Context, registries: Registries, who: Actor, key: str, new: NewDeployment
) -> tuple[Deployment, Registry]:
    """Hang a sensor: the deployment, and the registry that holds it. Raises Refused where it overlaps, NotFound,
    ConfigurationError, Forbidden.
    """
    now_ms = context.clock_ms()
    by = author(who, new.by, now_ms, find(registries.recent(), key))
    with context.database.write() as connection:
        registry = registry_store.load(connection, context.catalogue)
        find(registry, key)
        device = [Device(new.device, new.model, new.manufacturer)] if new.device else []
        named = Registry(registry.stations, catalogue=context.catalogue, devices=(*registry.devices, *device))
        row = new.model_dump(exclude={"model", "manufacturer", "by"}, exclude_none=True)
        row |= {"station": key, "since": new.since or when(now_ms)}
        made: Deployment = registry_rows.read_row("deployment", row, context.catalogue, known=named)
        _fits(made, [d for d in registry.deployments if d.station == key or (d.device and d.device == made.device)])
        if new.device and (new.model or new.manufacturer or new.device not in {d.serial for d in registry.devices}):
            registry_store.save(connection, Registry(catalogue=context.catalogue, devices=tuple(device)), by)
        registry_store.save_deployments(connection, [made], by)
        after = registry_store.load(connection, context.catalogue)
    registries.changed()
    return made, after


@router.post("/deployments/{parameter}/end", response_model=DeploymentView)
def end_deployment(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, parameter: str, end: EndOfDeployment
) -> Response:
    """The sensor of a parameter was taken away; 409 when none hangs there."""
    ended, after = take_down(context, registries, who, key, parameter, end)
    return answer(_deployment(ended, after, context.clock_ms()))


def take_down(
    context: Context, registries: Registries, who: Actor, key: str, parameter: str, end: EndOfDeployment
) -> tuple[Deployment, Registry]:
    """End the deployment of a parameter; raises Refused where none is in force, NotFound, Forbidden."""
    now_ms = context.clock_ms()
    by, until_ms = author(who, end.by, now_ms, find(registries.recent(), key)), _instant(end.until, "until", now_ms)
    with context.database.write() as connection:
        registry = registry_store.load(connection, context.catalogue)
        find(registry, key)
        mine = sorted(
            (d for d in registry.deployments if (d.station, d.parameter) == (key, parameter)), key=lambda d: d.since_ms
        )
        if not mine or mine[-1].until_ms is not None:
            raise Refused(say("maintenance.no_sensor", parameter=parameter[:40], key=key))
        if until_ms <= mine[-1].since_ms:
            raise Refused(say("maintenance.ends_early", deployment=mine[-1].named))
        ended = Deployment(**{n: getattr(mine[-1], n) for n in Deployment.__slots__} | {"until_ms": until_ms})
        registry_store.save_deployments(connection, [ended], by)
        after = registry_store.load(connection, context.catalogue)
    registries.changed()
    return ended, after


# -- calibrations ------------------------------------------------------------------------------------------------------


@router.get("/calibrations", response_model=CheckPage)
def list_calibrations(
    context: RequestContext, registries: RequestRegistries, key: str, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Checks and calibrations with their verdicts, newest first."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        found = [(c.at_ms, n, c) for n, c in store.checks(connection, key)]
    page, following = _page("calibrations", found, limit, cursor)
    return answer(CheckPage([_check(n, c) for _, n, c in page], following))


@router.post("/calibrations", status_code=201, response_model=CheckView)
def add_calibration(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewCheck
) -> Response:
    """Keep a check. One that fails makes the data since the last one of its type suspect, until one passes."""
    by = author(who, new.by, context.clock_ms(), find(registries.recent(), key))
    return _with_entity_tag(_check(*record_check(context, key, by, new)), 201)


def record_check(context: Context, key: str, by: Author, new: NewCheck) -> tuple[int, Check]:
    """Keep a check of a station; its number and the check. Raises NotFound, ConfigurationError and Refused."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        registry = registry_store.load(connection, context.catalogue)
        find(registry, key)
        made = as_check(context, registry, key, by, new)
        _check_not_future("at", made.at_ms, now_ms)
        return store.add_check(connection, made, by), made


def as_check(context: Context, registry: Registry, key: str, by: Author, new: NewCheck) -> Check:
    """The check that is meant; raises ConfigurationError naming what is missing."""
    row = new.model_dump(exclude_none=True) | {"station": key, "at": new.at or when(context.clock_ms()), "by": by.by}
    made: Check = registry_rows.read_row("check", row, context.catalogue, known=registry)
    return made


@router.get("/calibrations/{number}", response_model=CheckView)
def get_calibration(context: RequestContext, registries: RequestRegistries, key: str, number: int) -> Response:
    """One check with its verdict; the ETag is for a correction's `If-Match`."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        found = store.check_of(connection, key, number)
    return _with_entity_tag(_check(number, found))


@router.patch("/calibrations/{number}", response_model=CheckView)
def correct_calibration(
    context: RequestContext,
    registries: RequestRegistries,
    who: Who,
    key: str,
    number: int,
    change: Correction,
    if_match: IfMatch = None,
) -> Response:
    """Correct a check; the marks that rest on it follow. 412 when it is no longer the one that `If-Match` names."""
    by = author(who, change.by, context.clock_ms(), find(registries.recent(), key))
    return _with_entity_tag(_check(number, update_check(context, key, number, by, change, if_match)))


def update_check(
    context: Context, key: str, number: int, by: Author, change: Correction, if_match: str | None = None
) -> Check:
    """Correct a check of a station. Raises NotFound, ConfigurationError, and Conflict for another one than was read."""
    given = change.model_dump(exclude_unset=True, exclude={"by"})
    if absent := [n for n in given if given[n] is None and n in {"standard", "reading", "lot", "note", "void"}]:
        raise ConfigurationError(say("maintenance.not_null", number=number, name=absent[0]))
    with context.database.write() as connection:
        changes.lock_registry(connection)
        before = store.check_of(connection, key, number)
        entity_tags.unchanged(if_match, entity_tags.tag_of(_check(number, before)), f"{key} {number}")
        return store.correct_check(connection, key, number, by, **given)


def _with_entity_tag(view: CheckView, status: int = 200) -> Response:
    return answer(view, status, entity_tags.headers(entity_tags.tag_of(view)))


# -- visits ------------------------------------------------------------------------------------------------------------


@router.get("/visits", response_model=VisitPage)
def list_visits(
    context: RequestContext, registries: RequestRegistries, key: str, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Visits, newest first."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        found = [(v.since_ms, n, v) for n, v in store.visits(connection, key)]
    page, following = _page("visits", found, limit, cursor)
    return answer(VisitPage([_visit(n, v) for _, n, v in page], following))


@router.post("/visits", status_code=201, response_model=VisitView)
def begin_visit(context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewVisit) -> Response:
    """Begin a visit: until it ends, the sensors worked on raise no alarm and their readings are marked.

    409 while another visit of the station goes on.
    """
    by = author(who, new.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_visit(*record_visit_start(context, key, by, new)), 201)


def record_visit_start(context: Context, key: str, by: Author, new: NewVisit) -> tuple[int, Visit]:
    """Keep a visit of a station; its number and the visit. Raises NotFound, ConfigurationError and Refused."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        registry = registry_store.load(connection, context.catalogue)
        find(registry, key)
        row = new.model_dump(exclude_none=True) | {"station": key, "since": new.since or when(now_ms), "by": by.by}
        made: Visit = registry_rows.read_row("visit", row, context.catalogue, known=registry)
        _check_not_future("since", made.since_ms, now_ms)
        return store.begin_visit(connection, made, by), made


@router.post("/visits/{number}/end", response_model=VisitView)
def end_visit(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, number: int, end: EndOfVisit
) -> Response:
    """End a visit; 409 when it is over already."""
    by = author(who, end.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_visit(number, record_visit_end(context, key, number, by, end)))


def record_visit_end(context: Context, key: str, number: int, by: Author, end: EndOfVisit) -> Visit:
    """End a visit of a station. Raises NotFound, ConfigurationError and Refused."""
    now_ms = context.clock_ms()
    until_ms = _instant(end.until, "until", now_ms)
    _check_not_future("until", until_ms, now_ms)
    with context.database.write() as connection:
        return store.end_visit(connection, key, number, until_ms, by, end.note)


# -- photos ------------------------------------------------------------------------------------------------------------


@router.get("/photos", response_model=PhotoList)
def list_photos(context: RequestContext, registries: RequestRegistries, key: str) -> Response:
    """The photos of a station, newest first."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        return answer(PhotoList([_photo(one) for one in store.photos(connection, key)]))


@router.post("/photos", status_code=201, response_model=PhotoView)
def add_photo(
    context: RequestContext,
    registries: RequestRegistries,
    who: Who,
    key: str,
    data: Annotated[
        bytes, Body(media_type="image/jpeg", description=f"JPEG, PNG or WebP, up to {MAX_PHOTO_BYTES} bytes")
    ],
    by: Annotated[By, Query()] = None,
    note: Annotated[Words, Query()] = "",
    taken: Annotated[str | None, Query(description="RFC 3339; now where not given")] = None,
) -> Response:
    """Keep a photo of the station; the body is the photo itself. The same photo twice is one."""
    taker = author(who, by, context.clock_ms(), find(registries.recent(), key))
    return answer(_photo(record_photo(context, key, taker, data, note, taken)), 201)


def record_photo(
    context: Context, key: str, by: Author, data: bytes, note: str = "", taken: str | None = None
) -> Photo:
    """Keep a photo of a station, without what the camera wrote into it. Raises ConfigurationError, NotFound."""
    kind, data = media_type(data), without_metadata(data)
    taken_ms = _instant(taken, "taken", context.clock_ms())
    made = Photo(key, _photos(context).add(data), kind, len(data), taken_ms, by.by, note)
    with context.database.write() as connection:
        store.add_photo(connection, made, by)
    return made


@files.get("/{name}", responses={200: {"content": {"image/jpeg": {}}}})
def get_photo(context: RequestContext, name: str) -> Response:
    """The bytes of a photo of a station; what is attached to cases is not here but under `/attachments`."""
    with context.database.read() as connection:
        kind = store.photo_type(connection, name)
    path = _photos(context).path(name)
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, no-store"})


# -- how it is done ----------------------------------------------------------------------------------------------------


def _fits(made: Deployment, there: Sequence[Deployment]) -> None:
    same = [d for d in there if (d.station, d.parameter, d.since_ms) == (made.station, made.parameter, made.since_ms)]
    if same:
        raise Refused(say("maintenance.there_already", deployment=same[0].named))
    for earlier, later, why in deployment_conflicts([*there, made]):
        if made in (earlier, later):
            raise Refused(say("maintenance.clashes", later=later.named, why=why, earlier=earlier.named))


def _photos(context: Context) -> Photos:
    if context.photos is None:
        raise NotFound(say("store.no_photos"))
    return Photos(context.photos)


def _instant(text: str | None, name: str, now_ms: int) -> int:
    return now_ms if text is None else instant(name, text)


def _check_not_future(name: str, at_ms: int, now_ms: int) -> None:
    if at_ms > now_ms + FUTURE_MS:
        raise ConfigurationError(say("maintenance.not_yet", name=name, at=when(at_ms)))


def _page(
    kind: str, found: list[tuple[int, int, T]], limit: int, cursor: str | None
) -> tuple[list[tuple[int, int, T]], str | None]:
    """(at, number, thing) newest first, and the mark of what follows."""
    after = place(kind, cursor, tuple[int, int])
    rest = sorted((one for one in found if after is None or one[:2] < after), key=lambda one: one[:2], reverse=True)
    return cut(kind, rest, limit, lambda one: one[:2])


def _deployment(d: Deployment, registry: Registry, now_ms: int) -> DeploymentView:
    later = [
        o.since_ms
        for o in registry.deployments
        if (o.station, o.parameter) == (d.station, d.parameter) and o.since_ms > d.since_ms
    ]
    until_ms = min([*later, *([] if d.until_ms is None else [d.until_ms])], default=None)
    device = next((one for one in registry.devices if one.serial == d.device), Device(""))
    return viewed(
        DeploymentView,
        d,
        device,
        until=when(until_ms),
        in_force=d.since_ms <= now_ms and (until_ms is None or now_ms < until_ms),
    )


def _check(number: int, check: Check) -> CheckView:
    judged = check.judged()
    limit = judged.limit
    return viewed(
        CheckView, check, judged, number=number, type=check.kind.value, counted=limit.kind.value, limit=limit.most
    )


def _visit(number: int, v: Visit) -> VisitView:
    return viewed(VisitView, v, number=number)


def _photo(p: Photo) -> PhotoView:
    return viewed(PhotoView, p, url=f"/api/v1/photos/{p.sha256}")
