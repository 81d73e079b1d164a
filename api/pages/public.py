"""The public pages, without an account: the water behind a sign, a report with photos, and where a ticket stands.

``/r/{code}`` is a sign (a reach or a station), ``/r/photo/{name}`` a photo that the office released, ``/report`` the
form, ``/report/{ticket}`` the progress, ``/subscription/{token}`` where somebody confirms or ends mails about a river.
They are read and sent without any script. The one script makes photos small, reads the position from the phone, and
keeps a draft until there is a ticket. The style stands in the page, for one answer is all that a slow network has to
bring; the policy names its digest.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Response
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse

from api import problems
from api.pages import assets
from api.pages.forms import Fields
from api.pages.models import public as models
from api.pages.models.public import Known, Step
from api.pages.view import TEMPLATES, PageRoute, View, Viewing, markup
from api.requests import whole_number
from api.routes.attachments import one_at_a_time
from api.routes.reports import (
    MOST_FIELD_BYTES,
    MOST_FIELDS,
    MOST_FILES,
    MOST_PHOTOS,
    ReportForm,
    ReportView,
    admit,
    file,
    follow_too,
    forgotten,
    objected,
    report_view,
    sender_of,
    solved,
)
from api.svg import code as qr_code
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import FindingKind
from governance.incidents.model import State
from governance.organisation.regions import Regions
from governance.organisation.roles import role_name
from governance.organisation.terms import offices, on_the_sign
from governance.people import store as people_store
from governance.reports import public_photos, public_warnings, river_plans, subscriptions
from governance.reports.citizen_reports import RateLimited, deciding_incident, normalized_ticket, on_reach
from governance.reports.citizen_reports import get as report_of
from governance.reports.public_photos import PublicPhoto
from governance.reports.river_plans import Goal
from governance.reports.subscriptions import PublicState
from infra.errors import NotFound, WaterError
from infra.texts import Text, say
from infra.throttle import network_of
from infra.times import to_ms
from ingest.analysis.live_classes import REACH, ShownClass, current_classes
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry

SIGN = "/r/{code}"
PATH = "/report"
SHOWN_KNOWN = 3
"""Open and handled problems of a water that are shown, the newest."""
HEADERS = {"Referrer-Policy": "same-origin", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PHOTO_HEADERS = {"Cache-Control": "public, max-age=600", "Content-Security-Policy": "default-src 'none'"}
"""What was taken back is gone from caches ten minutes later."""
ISLAND = " 'self'; connect-src 'self'"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form: as somebody typed it, for showing it again with what is wrong."""

    kind: str = ""
    text: str = ""
    contact: str = ""
    reach: str = ""
    station: str = ""
    lon: str = ""
    lat: str = ""
    photos: list[tuple[BinaryIO, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Water:
    """A water as its sign shows it.

    ``colour`` and ``since_ms`` are those of `models.alarm`, ``deciding`` names the parameters that decide the class,
    ``at_work`` is what is done about the most urgent incident, ``chiefs`` are name and office.
    """

    reach: Reach
    street: Text
    live: ShownClass | None
    deciding: Text
    watched: bool
    colour: str
    since_ms: int | None
    at_work: Sequence[Step]
    chiefs: Sequence[tuple[str, Text]]
    goals: Sequence[Goal]
    open: Sequence[Known]
    handled: Sequence[Known]
    photos: Mapping[int, Sequence[PublicPhoto]]

    @property
    def warns(self) -> bool:
        """Whether the page begins with a warning."""
        return models.is_warning(self.colour)

    @property
    def water_class(self) -> WaterClass | None:
        """The class, where some station still measures."""
        return models.shown_class(self.live)

    @property
    def head(self) -> str:
        """The name of the sentence that says how the water is."""
        return models.head(self.live, self.colour)

    @property
    def measured_ms(self) -> int | None:
        """When the water was measured; None where it is not judged."""
        return models.measured_ms(self.live)


@router.get(SIGN)
def sign(v: Viewing, code: str) -> Response:
    """The water behind a sign: whether it is all right, who is in charge, what is being done."""
    registry = v.registries.recent()
    reach = registry.reach(registry[code].reach if code in registry else code)
    if reach is None:
        return page(v, "missing.html", 404, text=say("citizen.no_reach"))
    return _sign(v, registry, reach)


def _sign(v: View, registry: Registry, reach: Reach, address: str = "", error: WaterError | None = None) -> Response:
    """``address`` and ``error``: a wish for mails as it was typed, and why it was refused."""
    return page(
        v,
        "sign.html",
        200 if error is None else problems.of(error).sort.status,
        water=_water(v, registry, reach),
        address=address,
        refused=None if error is None else error.text,
    )


@router.get("/r/photo/{name}")
def photo(v: Viewing, name: str) -> Response:
    """A photo of a handled problem, as long as it is public."""
    try:
        with v.context.database.read() as connection:
            found = public_photos.get_picture(connection, name[:40])
    except NotFound as error:
        return page(v, "missing.html", 404, text=error.text)
    return Response(found, media_type="image/jpeg", headers=PHOTO_HEADERS)


# -- mails about a river -----------------------------------------------------------------------------------------------


@router.post(SIGN + "/subscription")
def subscribe(v: Viewing, code: str, given: Fields) -> Response:
    """Ask for mails about a river: a link is sent to the address, and nothing else before somebody opens it and says
    yes."""
    registry, address = v.registries.recent(), given.get("address", "")[:300]
    reach = registry.reach(code)
    if reach is None or not v.context.subscribes:
        return page(v, "missing.html", 404, text=say("citizen.no_reach"))
    try:
        wait_s = v.request.app.state.subscribing.take(network_of(sender_of(v.request)))
        if wait_s > 0:
            raise RateLimited(math.ceil(wait_s))
        with v.context.database.write() as connection:
            subscriptions.request(connection, v.context.vault, reach.key, address, v.language, v.now_ms)
    except WaterError as error:
        return _sign(v, registry, reach, address, error)
    return RedirectResponse(v.to(f"/r/{reach.key}", asked=1) + "#subscribe", 303)


@router.get("/subscription/{token}")
def subscription(v: Viewing, token: str) -> Response:
    """Where a link of a mail leads: a button confirms, another one ends it. To open it changes nothing."""
    return _subscription(v, token)


@router.post("/subscription/{token}")
def change_subscription(v: Viewing, token: str, given: Fields) -> Response:
    """Confirm or end it. A mail program ends it by itself, with ``List-Unsubscribe=One-Click`` (RFC 8058)."""
    verdict = given.get("verdict")
    if verdict == "confirm":
        try:
            return _confirmed(v, token)
        except NotFound:
            return _subscription(v, token)
    if verdict == "end" or given.get("List-Unsubscribe") == "One-Click":
        with v.context.database.write() as connection:
            subscriptions.end(connection, token)
        return page(v, "subscription.html", found=None, river=None, ended=True)
    return _subscription(v, token)


def _confirmed(v: View, token: str) -> Response:
    with v.context.database.write() as connection:
        key = subscriptions.get(connection, token).reach
        here = [station.key for station in v.registries.recent().stations if station.reach == key]
        warning = public_warnings.warning(incident_queries.open_water_incidents(connection, key, here))
        now = PublicState(warning is not None, public_photos.newest_release(connection, key))
        subscriptions.confirm(connection, token, now, v.now_ms)
    return _subscription(v, token)


def _subscription(v: View, token: str) -> Response:
    try:
        with v.context.database.read() as connection:
            found = subscriptions.get(connection, token)
    except NotFound as error:
        return page(v, "missing.html", 404, text=error.text)
    reach = v.registries.recent().reach(found.reach)
    river = Text(found.reach, found.reach) if reach is None else Text(reach.zh, reach.en)
    return page(v, "subscription.html", found=found, river=river, ended=False)


# -- a report ----------------------------------------------------------------------------------------------------------


@router.get(PATH)
def report_form(v: Viewing) -> Response:
    """The form; with a ticket to look for, the way to it."""
    if ticket := v.query.get("ticket", "").strip():
        return RedirectResponse(v.to(f"{PATH}/{quote(normalized_ticket(ticket) or ticket, safe='')}"), 303)
    return _form(v, Typed(reach=v.query.get("reach", ""), station=v.query.get("station", "")))


@router.post(PATH)
async def send(v: Viewing) -> Response:
    """File what the form says; the answer leads to the ticket."""
    request = v.request
    try:
        admit(request)
    except RateLimited as error:
        return await run_in_threadpool(_form, v, Typed(), error)
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES) as given:
        photos = [
            (one.file, one.filename or "")
            for one in given.getlist("photos")
            if isinstance(one, UploadFile) and one.size
        ]
        texts = {name: value[:2000] for name, value in given.items() if isinstance(value, str)}
        names = ("kind", "text", "contact", "reach", "station", "lon", "lat")
        typed = Typed(**{name: texts.get(name, "") for name in names}, photos=photos)
        return await one_at_a_time(request, lambda: _filed(v, typed))


@router.post(PATH + "/follow/{number}")
def follow(v: Viewing, number: int) -> Response:
    """Follow a problem that somebody reported already: a ticket of one's own, and nothing to fill in."""
    admit(v.request)
    try:
        view = follow_too(v.context, number, sender_of(v.request))
    except WaterError as error:
        return page(v, "missing.html", problems.of(error).sort.status, text=error.text)
    return RedirectResponse(v.to(f"{PATH}/{view.ticket}", new=1), 303)


@router.get(PATH + "/{ticket}")
def progress(v: Viewing, ticket: str) -> Response:
    """Where a report stands."""
    return _ticket(v, ticket, lambda: report_view(v.context, ticket))


@router.post(PATH + "/{ticket}")
def answer(v: Viewing, ticket: str, given: Fields) -> Response:
    """Say that it is solved, or that it is not; have one's contact erased."""
    if given.get("verdict") == "solved":
        return _ticket(v, ticket, lambda: solved(v.context, ticket))
    if given.get("verdict") == "forget":
        return _ticket(v, ticket, lambda: forgotten(v.context, ticket))
    return _ticket(v, ticket, lambda: objected(v.context, ticket, given.get("comment", "")[:2000]))


def _filed(v: View, typed: Typed) -> Response:
    known = (process.key for process in v.context.processes.known)
    try:
        form = ReportForm(
            text=models.worded(typed.kind, typed.text),
            matter=models.matter_of(typed.kind, known),
            contact=typed.contact[:100],
            lon=_degrees(typed.lon),
            lat=_degrees(typed.lat),
            station=typed.station,
            reach=typed.reach,
            photos=typed.photos,
        )
        made = file(v.context, v.keeper.regions(), v.registries.recent(), sender_of(v.request), form)
    except WaterError as error:
        return _form(v, typed, error)
    return RedirectResponse(v.to(f"{PATH}/{made.ticket}", new=1, near=made.nearby or None), 303)


def _degrees(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _form(v: View, typed: Typed, error: WaterError | None = None) -> Response:
    registry = v.registries.recent()
    key = typed.reach or (registry[typed.station].reach if typed.station in registry else "")
    reach = registry.reach(key)
    if typed.reach and reach is None:
        return page(v, "missing.html", 404, text=say("citizen.no_reach"))
    return page(
        v,
        "report.html",
        200 if error is None else problems.of(error).sort.status,
        water=None if reach is None else _water(v, registry, reach),
        reaches=sorted(registry.reaches, key=lambda one: one.key),
        typed=typed,
        kinds=(*models.KINDS, "other"),
        refused=None if error is None else error.text,
        most_photos=MOST_PHOTOS,
    )


def _ticket(v: View, ticket: str, read: Callable[[], ReportView]) -> Response:
    refused: Text | None = None
    try:
        try:
            view = read()
        except NotFound:
            raise
        except WaterError as error:
            refused, view = error.text, report_view(v.context, ticket)
    except NotFound:
        return page(v, "missing.html", 404, text=say("citizen.unknown", ticket=ticket[:40]), ticket=True)
    here = f"{str(v.request.base_url).rstrip('/')}{PATH}/{view.ticket}"
    steps, photos = _course(v, ticket)
    return page(
        v,
        "ticket.html",
        200 if refused is None else 409,
        view=view,
        steps=steps,
        photos=photos,
        stage=models.stage(State(view.state)),
        stages=models.STAGES,
        near=whole_number(v.query.get("near", ""), 3) or 0,
        code=markup(qr_code(here, view.ticket)) if v.query.get("new") else None,
        refused=refused,
        sent_ms=None if view.sent is None else to_ms(datetime.fromisoformat(view.sent.at)),
    )


def _course(v: View, ticket: str) -> tuple[list[Step], Sequence[PublicPhoto]]:
    """What was done about a report, and the photos of it that are public."""
    with v.context.database.read() as connection:
        case = deciding_incident(connection, report_of(connection, ticket).incident_id)
        photos = public_photos.released(connection, [case.id]).get(case.id, [])
        return models.steps(incident_store.history(connection, case.id)), photos


def _water(v: View, registry: Registry, reach: Reach) -> Water:
    with v.context.database.read() as connection:
        live = current_classes(connection, REACH).get(reach.key)
        here = [station.key for station in registry.stations if station.reach == reach.key]
        going_on = incident_queries.open_water_incidents(connection, reach.key, here)
        terms = people_store.appointments(connection)
        plan = river_plans.get(connection, reach.key)
        open_ = on_reach(connection, reach.key, over=False, limit=SHOWN_KNOWN)
        handled = on_reach(connection, reach.key, over=True, limit=SHOWN_KNOWN)
        colour, since_ms = models.alarm(live, going_on)
        found = [one for one in going_on if one.colour == colour]
        sensed = [one for one in found if one.kind is not FindingKind.REPORT] or found
        photos = public_photos.released(connection, [one.id for one in handled])
        at_work = models.steps(incident_store.history(connection, sensed[0].id)) if sensed else []
    regions = Regions(registry.regions)
    places = {s.region for s in registry.stations if s.reach == reach.key and s.region in regions}
    held = on_the_sign(offices(terms, places, reach.key, regions, v.now_ms), v.now_ms)
    chiefs = {
        (term.name, term.region): say(
            "citizen.office",
            region=Text(regions[term.region].zh, regions[term.region].en),
            role=role_name(term.role),
        )
        for term in held
    }
    street = next((regions[one] for one in sorted(places)), None)
    return Water(
        reach=reach,
        street=Text(street.zh, street.en) if street else Text("", ""),
        live=live,
        deciding=_names(v, live),
        watched=bool(here),
        colour=colour,
        since_ms=since_ms,
        at_work=at_work,
        chiefs=[(name, office) for (name, _), office in chiefs.items()],
        goals=plan.goals if plan is not None else (),
        open=[models.known(one) for one in open_],
        handled=[models.known(one) for one in handled],
        photos=photos,
    )


def _names(v: View, live: ShownClass | None) -> Text:
    """The parameters that decide a class."""
    names = [v.parameter(key) for key in live.deciding] if live is not None else []
    return Text("、".join(one.zh for one in names), ", ".join(one.en for one in names))


def page(v: View, template: str, status: int = 200, *, island: bool = False, **values: object) -> Response:
    """A page for who has no account: a template of ``public/`` with its style and policy; ``island``: it has a map."""
    style, digest = _style()
    matters = {process.key: Text(process.zh, process.en) for process in v.context.processes.known}
    response = v.render(
        f"public/{template}",
        status=status,
        style=Markup(style),  # noqa: S704  (a file of ours)
        icons=TEMPLATES.get_template("public/icons.html").module,
        hotline=v.context.complaints,
        matters=matters,
        **values,
    )
    pictures = f"'self' data: {v.tiles_host}" if island else "'self' data:"
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'{ISLAND if island else ''}; script-src 'self'; "
        f"img-src {pictures}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    response.headers.update(HEADERS | {"Content-Security-Policy": policy})
    return response


@lru_cache(maxsize=1)
def _style() -> tuple[str, str]:
    """The style that stands in the page, and its digest for the policy."""
    style = (assets.STATIC / assets.url("public.css").rsplit("/", 1)[1]).read_text(encoding="utf-8")
    return style, base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
