"""The registry ``/registry``: the stations, what is due there, and all that is registered of them, by plain forms.

Changes go through the functions of the API's routes, with their rights and their audit entries. A station is never
deleted: readings refer to it.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse

from api import entity_tags, maintenance, problems
from api.access import author, needed_right, reaches, reaches_all
from api.pages.live import digest
from api.pages.menu import REGISTRY
from api.pages.models import registry as models
from api.pages.models.registry import Filter, Item, Line, Plan, Read, StationForm
from api.pages.view import HEADERS, PageRoute, View, Viewing
from api.registries import find
from api.requests import MINUTE_FORM, whole_number
from api.routes import credentials as credential_routes
from api.routes import maintenance as maintenance_routes
from api.routes import stations as station_routes
from api.routes.maintenance import EndOfDeployment, NewDeployment
from api.routes.stations import NewStation, StationChange, StationRetirement
from governance.incidents.model import Conflict
from governance.organisation.regions import Regions
from governance.organisation.roles import Right
from governance.organisation.terms import offices, on_the_sign
from governance.people import store as people_store
from infra.errors import ConfigurationError, Refused, WaterError
from infra.texts import Text, keys, say
from infra.times import beijing
from ingest.devices import credentials as credentials_store
from ingest.devices.credentials import Credential
from ingest.storage import changes
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Change
from sensors import registry_csv, registry_toml
from sensors.registry_rows import COLUMNS, Book
from sensors.stations import Reach, Registry, Station
from sensors.wire.telemetry import topic

PATH = REGISTRY.path
NEW = "/registry/stations/new"
STATION = "/registry/stations/{key}"
IMPORT = "/registry/import"
EXPORT = "/registry/export.toml"
LABELS, SIGNS = "/registry/labels.pdf", "/registry/signs.pdf"
READ = needed_right("GET", "/stations")
HISTORY = needed_right("GET", "/registry/changes")
CHANGE = needed_right("POST", "/stations")
LOGIN = needed_right("POST", "/stations/-/credentials")

MOST_FILE_BYTES = 2 * 1024 * 1024
MOST_BYTES = 2 * MOST_FILE_BYTES + 64 * 1024
"""A request with the text of a file that is confirmed: a browser writes each end of a line as two letters."""
MOST_LABELS = 500
MOST_CHANGES = 30
MOST_LINES = 200
"""Rows of a preview that are listed; all are counted."""
MOST_FAULTS = 200
ENDS_IN_S = {"keep": None, "day": 86_400, "now": 0}
"""What becomes of a station's other logins when a new one is made."""
SENSOR = ("parameter", "unit", "device", "model", "manufacturer", "since", "depth_m", "cycle_s")
"""Fields of the form of a sensor."""
DONE = frozenset({"added", "saved", "hung", "ended", "revoked", "imported", "retired", "reinstated"})

router = APIRouter(include_in_schema=False, route_class=PageRoute)


# -- the table ---------------------------------------------------------------------------------------------------------


@router.get(PATH)
def show(v: Viewing) -> Response:
    """The stations that the address asks for."""
    v.require(READ)
    registry = v.registries.recent()
    entries = _entries(v, registry)
    if not entries:
        return v.render("registry_empty.html", may=v.actor.may(CHANGE))
    wanted, regions = Filter.of(v.query), v.keeper.regions()
    drawn = None
    if v.query.get("view") == "map":
        chosen = [one for one in entries if models.chooses(wanted, one, regions)]
        drawn = models.sheet(chosen, registry.reaches, v.language == "en")
    page = whole_number(v.query.get("page", "1")[:9])
    shown = models.listing(entries, wanted, regions, 1 if page is None else page)
    return v.render(
        "registry.html",
        listing=shown,
        wanted=wanted,
        drawn=drawn,
        choices=_choices(v, registry),
        model_choices=[(model, model) for model in sorted({model for one in entries for model in one.models})],
        may=v.actor.may(CHANGE),
        **_done(v),
    )


@router.get(LABELS)
def label_sheet(v: Viewing) -> Response:
    """The labels of the stations that the address asks for, as a sheet to print."""
    v.require(READ)
    registry = v.registries.recent()
    if key := v.query.get("station"):
        chosen = [find(registry, key)]
    else:
        wanted, regions = Filter.of(v.query), v.keeper.regions()
        chosen = [one.station for one in _entries(v, registry) if models.chooses(wanted, one, regions)]
    return _sheet(v, chosen, "labels.pdf")


@router.get(SIGNS)
def sign_sheet(v: Viewing) -> Response:
    """The codes of the rivers' signs, of all or of the one that the address names, as a sheet to print."""
    v.require(READ)
    wanted = v.query.get("reach", "")
    return _sheet(v, [one for one in v.registries.recent().reaches if wanted in ("", one.key)], "signs.pdf")


def _sheet(v: View, chosen: Sequence[Station | Reach], name: str) -> Response:
    from api.evidence import labels  # loads the library of PDFs, which few requests need

    sheet = io.BytesIO()
    notifications = v.context.notifications
    links = notifications.links if notifications else None  # knows our address as phones reach it
    labels.write(sheet, chosen[:MOST_LABELS], links.base if links else str(v.request.base_url), v.context.site)
    named = {"Content-Disposition": f'inline; filename="{name}"'}
    return Response(sheet.getvalue(), headers=HEADERS | named, media_type="application/pdf")


@router.get(EXPORT)
def export(v: Viewing) -> Response:
    """The registry as a file; importing it again changes nothing."""
    v.require(HISTORY)
    text = registry_toml.write(_book(v))
    named = {"Content-Disposition": 'attachment; filename="stations.toml"'}
    return Response(text, headers=HEADERS | named, media_type="text/plain; charset=utf-8")


def _entries(v: View, registry: Registry) -> list[models.Entry]:
    logins = None
    if v.actor.may(LOGIN):
        with v.context.database.read() as connection:
            logins = credentials_store.active_counts(connection, v.now_ms)
    return models.entries(registry, maintenance.of_all(v.context, registry, v.actor), logins, v.now_ms)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the fields of forms offer: (value, words)."""

    reaches: list[tuple[str, str]]
    regions: list[tuple[str, str]]


def _choices(v: View, registry: Registry) -> Choices:
    regions = Regions(registry.regions, registry.stations)
    ordered = sorted(registry.regions, key=lambda one: regions.up(one.code)[::-1])
    return Choices(
        sorted(((one.key, v.of(Text(one.zh, one.en))) for one in registry.reaches), key=lambda pair: pair[1]),
        [(one.code, "　" * regions.depth(one.code) + v.of(Text(one.zh, one.en))) for one in ordered],
    )


def _done(v: View) -> dict[str, Any]:
    done = v.query.get("done", "")
    return {"done": done if done in DONE else ""}


# -- a new station -----------------------------------------------------------------------------------------------------


@router.get(NEW)
def blank(v: Viewing) -> Response:
    """The form of a new station."""
    v.require(CHANGE)
    given = StationForm.typed({name: v.query.get(name, "")[:80] for name in ("lon", "lat", "reach", "region")}, ())
    return _new(v, given)


@router.post(NEW)
async def add(v: Viewing) -> Response:
    """Register the station of the form."""
    return await _posted(v, CHANGE, _add)


def _add(v: View, given: FormData) -> Response:
    form = _form(given)
    context, registry = v.context, v.registries.now()
    if form.key in registry and models.same(form, registry[form.key]):  # sent twice
        return _see(v, form.key, "added")
    read = models.read_station(form, registry, context.catalogue, context.box)
    if read.wrong or read.off_km is not None:
        return _new(v, form, read, status=422)
    try:
        made = station_routes.register(context, v.registries, v.actor, NewStation(**read.values))
    except WaterError as error:
        return _new(v, form, read, error)
    return _see(v, made.key, "added")


def _new(
    v: View, form: StationForm, read: Read | None = None, error: WaterError | None = None, status: int = 200
) -> Response:
    return v.render(
        "registry_new.html",
        status=_status(error, status),
        form=form,
        read=read or Read({}),
        error=error and error.text,
        choices=_choices(v, v.registries.recent()),
        parameters=v.context.catalogue.parameters,
        off=_off(v, read, form),
    )


# -- a station ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What of a station's page is not as it is stored: what somebody typed, and why it was refused."""

    form: StationForm | None = None
    read: Read = field(default_factory=lambda: Read({}))
    sensor: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, Text] = field(default_factory=dict)
    error: Text | None = None
    status: int = 200
    retiring: Mapping[str, str] = field(default_factory=dict)


@router.get(STATION)
def station(v: Viewing, key: str) -> Response:
    """A station: its entries, what hangs there, its logins, and what is still missing."""
    v.require(READ)
    return _station(v, key, Shown())


@router.post(STATION)
async def change(v: Viewing, key: str) -> Response:
    """Do what one of the page's forms asks for."""
    actions: dict[str, tuple[Right, Callable[[View, str, FormData], Response]]] = {
        "save": (CHANGE, _save),
        "hang": (CHANGE, _hang),
        "end": (CHANGE, _end),
        "issue": (LOGIN, _issue),
        "revoke": (LOGIN, _revoke),
        "retire": (CHANGE, _retire),
        "reinstate": (CHANGE, _reinstate),
    }

    def done(v: View, given: FormData) -> Response:
        right, act = actions.get(_text(given, "do"), (Right.PEOPLE, None))
        v.require(right)
        if act is None:
            raise ConfigurationError(say("registry_page.no_action"))
        try:
            return act(v, key, given)
        except WaterError as error:
            return _station(v, key, Shown(error=error.text, status=_status(error)))

    return await _posted(v, READ, done)


def _save(v: View, key: str, given: FormData) -> Response:
    form, context = _form(given), v.context
    registry = v.registries.now()
    before = find(registry, key)
    read = models.read_station(form, registry, context.catalogue, context.box, before)
    if models.same(form, before):
        return _see(v, key, "saved")
    if read.wrong or read.off_km is not None:
        return _station(v, key, Shown(form, read, status=422))
    try:
        tag = f'"{_text(given, "base")[:40]}"'
        station_routes.update(context, v.registries, v.actor, key, StationChange(**read.values), tag)
    except Conflict:
        return _station(v, key, Shown(form, read, error=say("registry_page.changed_meanwhile"), status=409))
    except WaterError as error:
        return _station(v, key, Shown(form, read, error=error.text, status=_status(error)))
    return _see(v, key, "saved")


def _hang(v: View, key: str, given: FormData) -> Response:
    typed = {name: _text(given, name) for name in SENSOR}
    registry = v.registries.now()
    find(registry, key)
    read = models.read_sensor(typed, models.hangings(registry, key, v.now_ms), v.context.catalogue)
    if read.wrong.get("same"):  # sent twice
        return _see(v, key, "hung")
    if read.wrong:
        return _station(v, key, Shown(sensor=typed, wrong=read.wrong, status=422))
    try:
        maintenance_routes.hang(v.context, v.registries, v.actor, key, NewDeployment(**read.values))
    except WaterError as error:
        return _station(v, key, Shown(sensor=typed, wrong={"": error.text}, status=_status(error)))
    return _see(v, key, "hung")


def _end(v: View, key: str, given: FormData) -> Response:
    parameter, since = _text(given, "parameter"), _text(given, "since")
    hanging = [one.deployment for one in models.hangings(v.registries.now(), key, v.now_ms) if one.now]
    if str(next((d.since_ms for d in hanging if d.parameter == parameter), "")) != since:  # sent twice, or replaced
        return _see(v, key, "")
    maintenance_routes.take_down(v.context, v.registries, v.actor, key, parameter, EndOfDeployment())
    return _see(v, key, "ended")


def _issue(v: View, key: str, given: FormData) -> Response:
    """The answer shows the password, this once; the form names the newest login, so that sent again it does nothing."""
    if _text(given, "newest") != _newest(_logins(v, key)):
        raise Refused(say("registry_page.logins_changed"))
    ends = ENDS_IN_S.get(_text(given, "others"))
    if v.context.devices is None:
        raise Refused(say("registry_page.no_broker"))
    rotation = credential_routes.Rotation(others_end_in_s=ends)
    issued, endpoint = credential_routes.issue(v.context, v.registries, v.actor, key, rotation)
    named = credential_routes.Topics(*(topic(key, kind) for kind in credential_routes.Topics.__slots__))
    registry = v.registries.recent()
    return v.render("registry_login.html", issued=issued, endpoint=endpoint, topics=named, name=_name(v, registry[key]))


def _revoke(v: View, key: str, given: FormData) -> Response:
    if v.context.devices is None:
        raise Refused(say("registry_page.no_broker"))
    credential_routes.revoke(v.context, v.registries, v.actor, key, _text(given, "user"))
    return _see(v, key, "revoked")


def _retire(v: View, key: str, given: FormData) -> Response:
    """Take the station out of service from the day of the form; sent twice, it is done once."""
    reason, day = _text(given, "reason"), _text(given, "day")
    with v.context.database.read() as connection:
        if key in maintenance_store.retirements(connection):
            return _see(v, key, "retired")
    try:
        station_routes.retire(v.context, v.registries, v.actor, key, StationRetirement(reason=reason, day=day))
    except WaterError as error:
        typed = {"reason": reason, "day": day}
        return _station(v, key, Shown(retiring=typed, error=error.text, status=_status(error)))
    return _see(v, key, "retired")


def _reinstate(v: View, key: str, given: FormData) -> Response:
    station_routes.reinstate(v.context, v.registries, v.actor, key)
    return _see(v, key, "reinstated")


def _station(v: View, key: str, shown: Shown) -> Response:
    registry = v.registries.now()
    one = find(registry, key)
    may = {"change": v.actor.may(CHANGE), "login": v.actor.may(LOGIN), "history": v.actor.may(HISTORY)}
    elsewhere = None
    try:
        reaches(v.actor, one)
    except WaterError as error:
        elsewhere = error.text
        may |= {"change": False, "login": False}
    form = shown.form or StationForm.of(one)
    hanging = models.hangings(registry, key, v.now_ms)
    logins = _logins(v, key) if may["login"] else []
    with v.context.database.read() as connection:
        retired = maintenance_store.retirements(connection).get(key)
    return v.render(
        "registry_station.html",
        status=shown.status,
        station=one,
        name=_name(v, one),
        form=form,
        read=shown.read,
        base=entity_tags.tag_of(one),
        error=shown.error,
        off=_off(v, shown.read, form),
        sensor=shown.sensor or _blank_sensor(v, one),
        wrong=shown.wrong,
        hanging=hanging,
        retired=retired,
        retiring=shown.retiring,
        today=beijing(v.now_ms, "%Y-%m-%d"),
        units=_units(v),
        checks=_checklist(v, registry, one),
        logins=logins,
        newest=_newest(logins),
        broker=v.context.devices is not None,
        history=_history(v, key) if may["history"] else (),
        choices=_choices(v, registry),
        parameters=v.context.catalogue.parameters,
        may=may,
        elsewhere=elsewhere,
        **_done(v),
    )


def _blank_sensor(v: View, one: Station) -> Mapping[str, str]:
    return dict.fromkeys(SENSOR, "") | {
        "since": beijing(v.now_ms, MINUTE_FORM),
        "parameter": next(iter(one.parameters), ""),
    }


def _name(v: View, one: Station) -> str:
    return v.of(Text(one.zh, one.en))


def _checklist(v: View, registry: Registry, one: Station) -> list[Item]:
    care = maintenance.of_station(v.context, registry, v.actor, one.key).care
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
        pictures = len(maintenance_store.photos(connection, one.key))
    regions = Regions(registry.regions, registry.stations)
    places = {one.region} if one.region in regions else set()
    chiefs = [held.name for held in on_the_sign(offices(terms, places, one.reach, regions, v.now_ms), v.now_ms)]
    newest = None if care.newest_at_ms is None else v.moment(care.newest_at_ms)
    return models.checklist(registry, one, list(dict.fromkeys(chiefs)), pictures, newest, v.now_ms)


@dataclass(frozen=True, slots=True)
class Past:
    """A change of a station or of what hangs there: (entry, before, after) in words."""

    at_ms: int | None
    by: str
    what: str
    about: str
    new: bool
    changes: list[tuple[str, str, str]]


def _history(v: View, key: str) -> list[Past]:
    with v.context.database.read() as connection:
        found = changes.listing(connection, key=key, limit=MOST_CHANGES)
    return [_past(v, one, key) for one in found]


def _past(v: View, one: Change, key: str) -> Past:
    before = one.before or {}
    moved = [
        name
        for name, value in one.after.items()
        if before.get(name) != value and (before or value not in ("", None, []))
    ]
    lines = [(_word(v, name), _value(v, name, before.get(name)), _value(v, name, one.after[name])) for name in moved]
    about = one.key.removeprefix(key).strip("/").split("/")[0]
    if about in v.context.catalogue:
        about = v.of(v.parameter(about))
    return Past(one.at_ms, one.by, _kind(v, one.what), about, one.before is None, lines)


def _word(v: View, name: str) -> str:
    key = f"registry_page.field_{name}"
    return v.say(key) if key in keys() else name


def _kind(v: View, what: str) -> str:
    key = f"registry_page.kind_{what}"
    return v.say(key) if key in keys() else what


def _value(v: View, name: str, value: Any) -> str:
    if value is None or value == "":
        return "—"
    if name.endswith("_ms") and isinstance(value, int):
        return v.moment(value)
    if isinstance(value, list):
        words = (v.of(v.parameter(str(one))) for one in value)
        return ("、" if v.language == "zh" else ", ").join(words)
    return v.of(v.parameter(str(value)))


def _logins(v: View, key: str) -> list[Credential]:
    with v.context.database.read() as connection:
        return credentials_store.listing(connection, key)


def _newest(logins: list[Credential]) -> str:
    return logins[0].user if logins else ""


def _units(v: View) -> list[str]:
    return sorted({one.unit for one in v.context.catalogue.parameters} | {"mS/cm", "µg/L", "m", "cm", "mm", "%"})


# -- importing a file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upload:
    """The text of a file as it goes from the preview to its confirmation, in the page itself: nothing is stored."""

    name: str = ""
    kind: str = "station"
    text: str = ""

    @property
    def table(self) -> bool:
        return not self.name.lower().endswith(".toml")


@router.get(IMPORT)
def choose_file(v: Viewing) -> Response:
    """The form for a file."""
    v.require(CHANGE)
    return _import_page(v, Upload())


@router.post(IMPORT)
async def import_file(v: Viewing) -> Response:
    """A file: what it would change; its confirmation: change it."""
    return await _posted(v, CHANGE, _import, part_bytes=2 * MOST_FILE_BYTES)


def _import(v: View, given: FormData) -> Response:
    one = given.get("file")
    kind = _text(given, "kind")
    kind = kind if kind in COLUMNS else "station"
    try:
        if isinstance(one, UploadFile):
            upload = Upload((one.filename or "")[:120], kind, _decoded(one.file.read(MOST_FILE_BYTES + 1)))
        else:
            upload = Upload(_text(given, "name")[:120], kind, str(given.get("text") or "").replace("\r\n", "\n"))
        if "\x00" in upload.text:
            raise ConfigurationError(say("registry_page.file_unreadable"))
        if not upload.text.strip():
            raise ConfigurationError(say("registry_page.file_empty"))
        known = _book(v)
        book = _read(v, upload, known)
        plan = models.plan(book, known)
        _within_reach(v, plan, book, known)
    except WaterError as error:
        return _import_page(v, Upload(kind=kind), faults=_faults(v, error), status=_status(error))
    mark = digest(plan.lines)
    if not plan.lines:
        if _text(given, "plan"):  # sent twice
            return RedirectResponse(v.to(PATH, done="imported"), 303)
        return _import_page(v, upload, plan, mark)
    if _text(given, "plan") != mark:
        return _import_page(v, upload, plan, mark, moved=bool(_text(given, "plan")))
    by = author(v.actor, None, v.now_ms)
    with v.context.database.write() as connection:
        changes.lock_registry(connection)
        now = Book(registry_store.load(connection, v.context.catalogue), maintenance_store.load(connection))
        book = _read(v, upload, now)
        if digest(models.plan(book, now).lines) != mark:
            raise Refused(say("registry_page.changed_meanwhile"))
        registry_store.save(connection, book.registry, by)
        maintenance_store.save(connection, book.maintenance, by)
    v.registries.changed()
    v.keeper.forget()
    return RedirectResponse(v.to(PATH, done="imported"), 303)


def _read(v: View, upload: Upload, known: Book) -> Book:
    catalogue, box = v.context.catalogue, v.context.box
    if upload.table:
        header = upload.text.split("\n", 1)[0].lower().split(",")
        kind = None if registry_csv.KIND in [name.strip().strip('"') for name in header] else upload.kind
        return registry_csv.read_book(upload.text, catalogue, kind=kind, known=known, box=box)
    return registry_toml.read_book(upload.text, catalogue, known=known, box=box)


def _book(v: View) -> Book:
    with v.context.database.read() as connection:
        return Book(registry_store.load(connection, v.context.catalogue), maintenance_store.load(connection))


def _within_reach(v: View, plan: Plan, book: Book, known: Book) -> None:
    """Raises Forbidden where the file changes what is out of reach, as it is or as it would be."""
    if plan.kinds & models.RECORDS:
        v.require(Right.REVIEW)
    if plan.kinds & models.WHOLE_SITE:
        reaches_all(v.actor)
    for registry in (known.registry, book.registry):
        for key in sorted(plan.stations):
            if key in registry:
                reaches(v.actor, registry[key])


def _decoded(data: bytes) -> str:
    """The text of a file, as UTF-8 or as Chinese spreadsheets save it (GB 18030)."""
    if len(data) > MOST_FILE_BYTES:
        raise ConfigurationError(say("registry_page.file_large", most=MOST_FILE_BYTES // 1024 // 1024))
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding).replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
    raise ConfigurationError(say("registry_page.file_unreadable"))


def _faults(v: View, error: WaterError) -> list[str]:
    """The faults of a file, a line each."""
    return v.of(error.text).splitlines()[:MOST_FAULTS]


def _import_page(
    v: View,
    upload: Upload,
    plan: Plan | None = None,
    mark: str = "",
    faults: list[str] | None = None,
    moved: bool = False,
    status: int = 200,
) -> Response:
    counts = [] if plan is None else [(_kind(v, kind), new, n) for (kind, new), n in plan.counts.items()]
    lines = [] if plan is None else plan.lines[:MOST_LINES]
    return v.render(
        "registry_import.html",
        status=status,
        upload=upload,
        plan=plan,
        mark=mark,
        counts=counts,
        lines=[
            (_kind(v, one.kind), one, [(_word(v, n), a, b) for n, a, b in one.changes], _off_line(v, one))
            for one in lines
        ],
        faults=faults or [],
        moved=moved,
        kinds=[(kind, _kind(v, kind)) for kind in COLUMNS],
        columns=COLUMNS["station"],
    )


def _off_line(v: View, line: Line) -> str:
    return "" if line.off_km is None else v.say("registry_page.off_line", km=f"{line.off_km:.1f}")


# -- how it is done ----------------------------------------------------------------------------------------------------


async def _posted(
    v: View, right: Right, act: Callable[[View, FormData], Response], part_bytes: int = 64 * 1024
) -> Response:
    """Read a form of ours and do what it asks for, in a thread."""
    v.require(right)
    async with v.request.form(max_files=1, max_fields=200, max_part_size=part_bytes) as given:
        return await run_in_threadpool(act, v, given)


def _text(given: FormData, name: str) -> str:
    value = given.get(name)
    return value.replace("\x00", "").strip() if isinstance(value, str) else ""


def _form(given: FormData) -> StationForm:
    texts = {name: _text(given, name) for name in StationForm.__slots__}
    return StationForm.typed(texts, [one for one in given.getlist("parameters") if isinstance(one, str)])


def _off(v: View, read: Read | None, form: StationForm) -> str:
    """The question about a place that lies off its river; "" where there is nothing to ask."""
    if read is None or read.off_km is None:
        return ""
    reach = next(one for one in v.registries.recent().reaches if one.key == form.reach)
    return v.say("registry_page.off", km=f"{read.off_km:.1f}", reach=v.of(Text(reach.zh, reach.en)))


def _status(error: WaterError | None, otherwise: int = 422) -> int:
    return otherwise if error is None else problems.of(error).sort.status


def _see(v: View, key: str, done: str) -> Response:
    """The way to the page of a station after something was done."""
    return RedirectResponse(v.to(f"/registry/stations/{key}", done=done), 303)
