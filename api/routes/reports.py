"""What citizens report: without an account, followed by a ticket, answered honestly."""

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, BinaryIO

import sqlalchemy as sa
from fastapi import File, Form, Request, Response, UploadFile
from fastapi.routing import APIRoute
from pydantic import Field

from api.access import Keeping, Who
from api.context import Context
from api.incident_actions import known_matter
from api.registries import site_box
from api.requests import Limit, RequestContext, RequestRegistries, Strict, Words
from api.responses import answer, viewed
from api.routes.attachments import keep, one_at_a_time
from api.routes.incidents import check_visible
from api.routes.router import subject_router
from governance.incidents import lifecycle
from governance.incidents import store as incident_store
from governance.incidents.file_content import examine
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import COMMENT_LIMIT, Action, Incident, Order, Source
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor
from governance.reports import citizen_reports as store
from governance.reports import personal_data
from governance.reports.citizen_reports import CITIZEN, OriginalReport, Report
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import Text, say
from infra.throttle import Throttle, network_of
from infra.times import rfc3339
from sensors.datum import Datum, wgs84
from sensors.stations import Registry

REPORTS = "/reports"
MOST_BYTES = 34 * 1024 * 1024
"""Three photos at full size and the words."""
MOST_PHOTOS = 3
MOST_FILES = 6
"""Files of a form that are examined: one photo too many is refused with a reason, further files are not read."""
MOST_FIELDS = 20
MOST_FIELD_BYTES = 16 * 1024
"""A field of a form: 2,000 letters of four bytes are 8 kB."""
ATTEMPTS = 2
"""Attempts for each report that a sender may file: who is refused for a photo can send another one."""


def attempts(an_hour: int) -> Throttle:
    """How often one network may try to report, whatever comes of it."""
    return Throttle(ATTEMPTS * an_hour, 3600 / (ATTEMPTS * an_hour))


def admit(request: Request) -> None:
    """Count an attempt to report, before anything of it is read. Raises RateLimited."""
    wait_s = request.app.state.attempts.take(network_of(sender_of(request)))
    if wait_s > 0:
        raise store.RateLimited(math.ceil(wait_s))


class _Admitted(APIRoute):
    """A route whose body is read only once the sender is admitted, and no further than a report can be."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            if request.method == "POST":
                admit(request)
                await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES)
            return await handle(request)

        return admitted


router = subject_router("citizens", REPORTS)
filing = subject_router("citizens", REPORTS, _Admitted)
cases = subject_router("cases", "/incidents")
me = subject_router("people", "/me")


@dataclass(frozen=True, slots=True)
class SentView:
    """What somebody reported: when, in which words, with how many photos."""

    at: str
    words: str
    photos: int


@dataclass(frozen=True, slots=True)
class ReportView:
    """The public view of a report; ``text`` is its state in words, ``sent`` what was reported, None of a ticket that
    follows what another one reported.

    ``reason`` is why it was not taken up, "" unless it was refused; ``solved``: its sender said that it is solved.
    """

    ticket: str
    state: str
    text: Text
    reason: str
    at: str
    over: bool
    may_object: bool
    solved: bool
    sent: SentView | None
    has_contact: bool


@dataclass(frozen=True, slots=True)
class NewReportView(ReportView):
    """The answer to a report: its ticket, and how many open cases near it may be the same thing."""

    nearby: int


@dataclass(frozen=True, slots=True)
class OwnReport:
    """What the caller reported, and where it stands as the public is told it; ``photos`` are ids of attachments."""

    incident: int
    at: str
    words: str
    photos: list[str]
    state: str
    text: Text
    since: str
    over: bool


@dataclass(frozen=True, slots=True)
class OwnReports:
    """The newest of them first."""

    items: list[OwnReport]


@dataclass(frozen=True, slots=True)
class Behind:
    """A report behind an incident; ``has_contact``: its sender can be reached (see `show_contacts`)."""

    ticket: str
    incident: int
    at: str
    has_contact: bool
    unsolved: int


@dataclass(frozen=True, slots=True)
class Near:
    """An open incident near in place and time."""

    id: int
    state: str
    title: Text
    opened_at: str
    source: str


@dataclass(frozen=True, slots=True)
class Origins:
    """Where an incident comes from, and what it may be another one of."""

    reports: list[Behind]
    similar: list[Near]


class Objection(Strict):
    """What is not solved."""

    comment: Words = Field(max_length=COMMENT_LIMIT)


@filing.post("", status_code=201, response_model=NewReportView)
async def submit_report(  # noqa: PLR0913, PLR0917  (a parameter of the request each)
    context: RequestContext,
    keeper: Keeping,
    registries: RequestRegistries,
    request: Request,
    text: Annotated[Words, Form(max_length=2000, description="what was seen")],
    lon: Annotated[float | None, Form(ge=-180, le=180)] = None,
    lat: Annotated[float | None, Form(ge=-90, le=90)] = None,
    datum: Annotated[Words, Form(description="WGS 84, or GCJ-02 of a phone's map")] = "WGS 84",
    station: Annotated[Words, Form(description="the station whose sign was scanned")] = "",
    reach: Annotated[Words, Form(description="the water whose sign was scanned")] = "",
    matter: Annotated[Words, Form(max_length=64, description="key of the process that fits")] = "",
    contact: Annotated[Words, Form(max_length=100, description="for questions; only the office sees it")] = "",
    photos: Annotated[list[UploadFile] | None, File(description=f"up to {MOST_PHOTOS}: JPEG, PNG, WebP")] = None,
) -> Response:
    """Report something seen at the water. No account is needed; the ticket is the way back.

    429 when the same sender reports, or tries to, faster than people do.
    """
    files = [(one.file, one.filename or "") for one in photos or [] if one.size]
    form = ReportForm(text, matter, contact, lon, lat, datum, station, reach, files)
    sender = sender_of(request)
    made = await one_at_a_time(request, lambda: file(context, keeper.regions(), registries.recent(), sender, form))
    return answer(made, 201)


@dataclass(frozen=True, slots=True)
class ReportForm:
    """What a citizen tells: in words, where (or whose sign was scanned), and photos as (open file, name)."""

    text: str
    matter: str = ""
    contact: str = ""
    lon: float | None = None
    lat: float | None = None
    datum: str = "WGS 84"
    station: str = ""
    reach: str = ""
    photos: Sequence[tuple[BinaryIO, str]] = ()


def sender_of(request: Request) -> str:
    """The network address a report comes from."""
    return request.client.host if request.client else ""


def file(context: Context, regions: Regions, registry: Registry, host: str, new: ReportForm) -> NewReportView:
    """File a report from a network address and give out its ticket; what is sent twice is one report.

    Raises Refused for a report without words and photos, RateLimited, NotFound for an unknown sign, ConfigurationError
    for a place outside the site.
    """
    now_ms = context.clock_ms()
    who = store.sender_hash(context.vault, network_of(host))
    with context.database.read() as connection:
        store.check_rate_limit(connection, who, now_ms, an_hour=context.reports_an_hour)
    known_matter(context, new.matter)
    if not new.text.strip():
        raise Refused(say("citizen.no_words"))
    place = _place(context, regions, registry, new)
    if len(new.photos) > MOST_PHOTOS:
        raise Refused(say("citizen.many_photos", count=len(new.photos), most=MOST_PHOTOS))
    examined = []
    for photo, name in new.photos:
        data = photo.read()
        examined.append((data, content := examine(data), name))
        if not content.is_photo:
            raise Refused(say("citizen.only_photos"))
    shown = [keep(context, data, content, name[:200], CITIZEN.name).id for data, content, name in examined]
    order = Order(Action.ACCEPT, comment=new.text.strip(), attachments=tuple(shown), matter=new.matter)
    with context.database.write() as connection:
        store.lock_sender(connection, who)
        kept = Report("", 0, now_ms, new.contact.strip(), who, 0)
        if (before := store.find_repetition(connection, kept, order, place, context.vault)) is not None:
            return _filed(context, connection, before, store.deciding_incident(connection, before.incident_id), now_ms)
        store.check_rate_limit(connection, who, now_ms, an_hour=context.reports_an_hour)
        made = incident_store.file_report(
            connection,
            order,
            CITIZEN,
            colour=Colour.YELLOW,
            origin=Source.CITIZEN,
            place=place,
            now_ms=now_ms,
            source=context.source,
            policy=context.processes.policy,
        )
        kept = replace(kept, ticket=store.new_ticket(), incident_id=made.id, contact=context.vault.lock(kept.contact))
        store.add(connection, kept)
        filed = _filed(context, connection, kept, made, now_ms)
    context.wake()
    return filed


def _filed(context: Context, connection: sa.Connection, kept: Report, case: Incident, now_ms: int) -> NewReportView:
    view = _view(context, connection, kept, case)
    near = store.similar_incidents(connection, case, now_ms, context.near)
    return NewReportView(**{one.name: getattr(view, one.name) for one in fields(view)}, nearby=len(near))


@router.get("/{ticket}", response_model=ReportView)
def get_report(context: RequestContext, ticket: str) -> Response:
    """Where a report stands, and why it was not taken up. No names and no other comments: those are the office's."""
    return answer(report_view(context, ticket))


def report_view(context: Context, ticket: str) -> ReportView:
    """Where a report stands. Raises NotFound."""
    with context.database.read() as connection:
        kept = store.get(connection, ticket)
        return _view(context, connection, kept, store.deciding_incident(connection, kept.incident_id))


@router.post("/{ticket}/objections", response_model=ReportView)
def object_to(context: RequestContext, ticket: str, objection: Objection) -> Response:
    """Say of a case that is over, also of a refused one, that it is not solved: it is opened again at the office.

    409 when it is not over, or for too long.
    """
    return answer(objected(context, ticket, objection.comment))


def objected(context: Context, ticket: str, comment: str) -> ReportView:
    """Open a case that is over again, since a citizen says that it is not solved; against a refusal with a reason.

    Raises NotFound and Refused.
    """
    with context.database.write() as connection:
        kept = store.get(connection, ticket)
        case = store.deciding_incident(connection, kept.incident_id)
        within_ms = context.processes.policy.reopen_within_ms
        progress = store.progress(connection, kept, case, context.clock_ms(), within_ms)
        if not progress.may_object:
            raise Refused(say("report.no_objection", state=progress.text))
        if progress.reason and not comment.strip():
            raise Refused(say("citizen.unsolved_why"))
        after = incident_store.apply_action(
            connection,
            case.id,
            Order(Action.REOPEN, comment=comment.strip() or say("citizen.unsolved_plain").zh),
            CITIZEN,
            now_ms=context.clock_ms(),
            source=context.source,
            policy=context.processes.policy,
        )
        store.count_objection(connection, ticket)
        view = _view(context, connection, kept, after)
    context.wake()
    return view


@router.delete("/{ticket}/contact", response_model=ReportView)
def erase_contact(context: RequestContext, ticket: str) -> Response:
    """Erase what leads from a report to its sender, who has the ticket. Words and photos stay with the case."""
    return answer(forgotten(context, ticket))


def forgotten(context: Context, ticket: str) -> ReportView:
    """Erase the contact of a report, as its sender asks. Raises NotFound."""
    with context.database.write() as connection:
        kept = store.get(connection, ticket)
        reason = say("privacy.own_wish").zh
        personal_data.erase_citizen(connection, context.vault, kept.ticket, reason, CITIZEN.name, context.clock_ms())
    return report_view(context, ticket)


@router.post("/{ticket}/confirmations", response_model=ReportView)
def confirm_solved(context: RequestContext, ticket: str) -> Response:
    """Say of a case that is over that it is solved. 409 when it is not over, or for too long."""
    return answer(solved(context, ticket))


def solved(context: Context, ticket: str) -> ReportView:
    """Record that the sender of a report says that it is solved. Raises NotFound and Refused."""
    now_ms = context.clock_ms()
    with context.database.write() as connection:
        kept = store.get(connection, ticket)
        case = store.deciding_incident(connection, kept.incident_id)
        now = store.progress(connection, kept, case, now_ms, context.processes.policy.reopen_within_ms)
        if not now.may_object:
            raise Refused(say("report.no_objection", state=now.text))
        store.mark_solved(connection, ticket, now_ms)
        return _view(context, connection, store.get(connection, ticket), case)


def follow_too(context: Context, number: int, host: str) -> ReportView:
    """A ticket of its own for somebody who saw what another one reported already.

    Raises NotFound where no such report is open, and RateLimited.
    """
    now_ms = context.clock_ms()
    who = store.sender_hash(context.vault, network_of(host))
    with context.database.write() as connection:
        store.lock_sender(connection, who)
        store.check_rate_limit(connection, who, now_ms, an_hour=context.reports_an_hour)
        try:
            case = incident_store.get(connection, number)
        except NotFound:
            case = None
        if case is None or case.kind is not FindingKind.REPORT or not case.is_open:
            raise NotFound(say("citizen.not_open"))
        kept = Report(store.new_ticket(), number, now_ms, "", who, 0, follows=True)
        store.add(connection, kept)
        return _view(context, connection, kept, case)


@me.get("/reports", response_model=OwnReports)
def own_reports(context: RequestContext, who: Who, limit: Limit = 100) -> Response:
    """What the caller reported, in whichever region, and where it stands: no names and no comments of others."""
    return answer(OwnReports(reported_by(context, who, limit)))


def reported_by(context: Context, who: Actor, limit: int) -> list[OwnReport]:
    """What somebody reported, newest first."""
    now_ms, within_ms = context.clock_ms(), context.processes.policy.reopen_within_ms
    with context.database.read() as connection:
        mine = store.of_person(connection, who.name, limit=limit)
        found = [
            (
                one,
                store.progress(
                    connection, _as_report(one), store.deciding_incident(connection, one.incident_id), now_ms, within_ms
                ),
            )
            for one in mine
        ]
    own = []
    for one, now in found:
        at, since = rfc3339(one.at_ms), rfc3339(now.at_ms)
        own.append(OwnReport(one.incident_id, at, one.text, list(one.photos), now.state, now.text, since, now.over))
    return own


def _as_report(one: OriginalReport) -> Report:
    return Report("", one.incident_id, one.at_ms, "", "", 0)


@cases.get("/{incident_id}/origins", response_model=Origins)
def origins(context: RequestContext, who: Who, incident_id: int) -> Response:
    """The citizens' reports behind an incident, and open incidents near it that may be the same thing."""
    with context.database.read() as connection:
        found = incident_store.get(connection, incident_id)
        check_visible(found, who)
        behind = store.of_incident(connection, incident_id)
        near = store.similar_incidents(connection, found, context.clock_ms(), context.near)
    near = [one for one in near if lifecycle.in_jurisdiction(one, who)]
    return answer(
        Origins(
            [Behind(r.ticket, r.incident_id, rfc3339(r.at_ms), bool(r.contact), r.unsolved) for r in behind],
            [Near(i.id, i.state, i.title, rfc3339(i.opened_at_ms), i.case.source) for i in near],
        )
    )


class WhyShown(Strict):
    """What for somebody has to know how a citizen can be reached."""

    reason: Words = Field(max_length=500)


@dataclass(frozen=True, slots=True)
class ContactView:
    """How the sender of a report can be reached."""

    ticket: str
    contact: str


@dataclass(frozen=True, slots=True)
class ContactList:
    """Those of the reports behind an incident."""

    items: list[ContactView]


@cases.post("/{incident_id}/contacts", response_model=ContactList)
def show_contacts(context: RequestContext, who: Who, incident_id: int, why: WhyShown) -> Response:
    """The contacts that citizens left about an incident. Who saw them and what for goes into the audit trail."""
    shown = contacts_of(context, who, incident_id, why.reason)
    return answer(ContactList([ContactView(ticket, contact) for ticket, contact in shown.items()]))


def contacts_of(context: Context, who: Actor, incident_id: int, reason: str) -> dict[str, str]:
    """The contacts behind an incident, by ticket. Raises NotFound, Forbidden, Refused without a reason."""
    with context.database.write() as connection:
        found = incident_store.get(connection, incident_id)
        check_visible(found, who)
        return personal_data.show_contacts(connection, context.vault, found, reason, who, context.clock_ms())


def _place(context: Context, regions: Regions, registry: Registry, new: ReportForm) -> Place:
    """Where it is: as told, else where the scanned sign stands. Raises ConfigurationError for what is no place here."""
    lon, lat, datum, station, reach = new.lon, new.lat, new.datum, new.station, new.reach
    if (lon is None) != (lat is None):
        raise ConfigurationError(say("request.lon_lat"))
    if station and station not in registry:
        raise NotFound(say("registry.no_station", key=station[:80]))
    if reach and reach not in {one.key for one in registry.reaches}:
        raise NotFound(say("registry.no_reach", reach=reach[:80]))
    region = ""
    if station:
        sign = registry[station]
        reach, region = reach or sign.reach, sign.region
        if lon is None:
            lon, lat, datum = sign.lon, sign.lat, Datum.WGS84
    if lon is not None and lat is not None:
        lon, lat = wgs84(lon, lat, Datum.of(datum))
        if (box := site_box(context.box, registry)) is not None:
            box.check(lon, lat)
        region = regions.at(lon, lat) or region
    return Place(region or regions.along(reach), reach, lon, lat)


def _view(context: Context, connection: sa.Connection, kept: Report, case: Incident) -> ReportView:
    progress = store.progress(connection, kept, case, context.clock_ms(), context.processes.policy.reopen_within_ms)
    sent = store.original_report(connection, kept.incident_id)
    own = None if kept.follows else SentView(rfc3339(sent.at_ms), sent.text, len(sent.photos))
    return viewed(ReportView, progress, sent=own, has_contact=bool(kept.contact))
