"""What who works here reports: the form ``/reported/new``, and own reports with their state ``/reported``.

Whoever reports something in another region than their own does not see its case; its public state they see.
"""

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse

from api import problems
from api.access import on_behalf
from api.pages.acting import FIELDS
from api.pages.map import DATA
from api.pages.menu import REPORT, REPORTED
from api.pages.models import public
from api.pages.models import reported as models
from api.pages.models.reported import Near, Spot, Typed
from api.pages.view import PageRoute, View, Viewing
from api.requests import whole_number
from api.routes.attachments import keep, one_at_a_time
from api.routes.incidents import SEEN_BY_PEOPLE, NewReport, file_report
from api.routes.reports import reported_by
from api.titles import titles
from governance.incidents import attachments, inbox
from governance.incidents import store as incident_store
from governance.incidents.attachments import Attachment
from governance.incidents.file_content import MAX_BYTES, examine
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.inbox import InboxQuery, InboxView
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import Action, Incident, Order
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Right
from governance.reports import citizen_reports
from infra.errors import Refused, WaterError
from infra.texts import Text, say
from infra.times import to_ms

SHOWN = 30
MOST = 300
"""Own reports that the page goes back to."""
MOST_PHOTOS = 6
MOST_FIELD_BYTES = 16 * 1024
ON_THE_REACH = 5
"""Reports of a reach that are shown where nothing says where on it."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(REPORTED.path)
def own(v: Viewing) -> Response:
    """Own reports, newest first."""
    v.require(REPORTED.right)
    shown = min(MOST, max(SHOWN, whole_number(v.query.get("show", ""), 4) or 0))
    found = reported_by(v.context, v.actor, shown + 1)
    with v.context.database.read() as connection:
        cases = incident_store.get_many(connection, [one.incident for one in found])
    return v.render(
        "reported.html",
        rows=found[:shown],
        seen={number for number, one in cases.items() if in_jurisdiction(one, v.actor)},
        more=min(MOST, shown + SHOWN) if len(found) > shown and shown < MOST else None,
        new=v.query.get("new", ""),
        at=lambda moment: v.moment(to_ms(datetime.fromisoformat(moment))),
    )


@router.get(REPORT.path)
def form(v: Viewing) -> Response:
    """The form; with a place in the address, what is open near it."""
    v.require(REPORT.right)
    return _form(v, models.typed(v.query, v.actor))


@router.post(REPORT.path)
async def send(v: Viewing, request: Request) -> Response:
    """File what the form says, unless something open nearby was not shown yet; then the case, or own reports."""
    v.require(REPORT.right)
    async with request.form(max_files=2 * MOST_PHOTOS, max_fields=FIELDS, max_part_size=MOST_FIELD_BYTES) as sent:
        given = models.typed({name: value for name, value in sent.items() if isinstance(value, str)}, v.actor)
        given = models.with_photos(given, _kept(sent))
        try:
            given = await _with_new_photos(v, request, given, sent)
            made = await run_in_threadpool(_filed, v, given) if "check" not in sent else None
        except WaterError as error:
            return await run_in_threadpool(_form, v, given, error)
    if made is None:
        return await run_in_threadpool(_form, v, given)
    if in_jurisdiction(made, v.actor):
        return RedirectResponse(v.to(f"/incidents/{made.id}", reported=1), 303)
    return RedirectResponse(v.to(REPORTED.path, new=made.id), 303)


# -- filing ------------------------------------------------------------------------------------------------------------


def _reporter(v: View, given: Typed) -> Actor:
    """Who reports. Raises Refused where nobody is named, and Forbidden for another name than one's own."""
    if not v.person and not given.name:
        raise Refused(say("maintenance_page.whose"))
    return on_behalf(v.actor, given.name or None)


def _kept(sent: FormData) -> tuple[str, ...]:
    """The files that the form has kept already, without those that were taken off."""
    off = set(sent.getlist("drop"))
    return tuple(one for one in sent.getlist("kept") if isinstance(one, str) and one not in off)[:MOST_PHOTOS]


async def _with_new_photos(v: View, request: Request, given: Typed, sent: FormData) -> Typed:
    """The form with the files that were sent with it, kept. Raises Refused for one too many, and what is none."""
    files = [one for one in sent.getlist("photos") if isinstance(one, UploadFile) and one.size]
    if len(given.photos) + len(files) > MOST_PHOTOS:
        raise Refused(say("report_page.too_many_photos", most=MOST_PHOTOS))
    if not files:
        return given
    by = _reporter(v, given).name
    found = list(given.photos)
    for one in files:
        found.append((await one_at_a_time(request, lambda one=one: _keep(v, one, by))).id)  # type: ignore[misc]
    return models.with_photos(given, tuple(found))


def _keep(v: View, one: UploadFile, by: str) -> Attachment:
    data = one.file.read(MAX_BYTES + 1)
    return keep(v.context, data, examine(data), (one.filename or "")[:200], by)


def _filed(v: View, given: Typed) -> Incident | None:
    """The case that was made; None where what is open nearby has to be shown first. Raises WaterError."""
    registry = v.registries.recent()
    actor = _reporter(v, given)
    if not given.words:
        raise Refused(say("citizen.no_words"))
    spot = models.spot(given, registry)
    if not spot:
        raise Refused(say("report_page.no_place"))
    lon, lat = spot.point or (None, None)
    new = NewReport(
        text=given.words,
        colour=given.colour,
        source=given.source,
        matter=public.matter_of(given.kind, (one.key for one in v.context.processes.known)),
        reach=spot.reach,
        lon=lon,
        lat=lat,
        attachments=list(given.photos),
    )
    mark = _near(v, spot).mark
    if mark and mark != given.seen and not _is_repetition(v, actor, new):
        return None
    return file_report(v.context, v.keeper.regions(), registry, actor, new)


def _is_repetition(v: View, actor: Actor, new: NewReport) -> bool:
    """Whether this was filed a moment ago."""
    order = Order(Action.ACCEPT, comment=new.text, attachments=tuple(new.attachments))
    place = Place("", new.reach, new.lon, new.lat)
    with v.context.database.read() as connection:
        found = citizen_reports.find_repetition_of_person(connection, actor.name, order, place, v.now_ms)
    return found is not None


def _near(v: View, spot: Spot) -> Near:
    """What is open near a place; where nothing says where on a reach, what people reported of the reach."""
    now_ms = v.now_ms
    with v.context.database.read() as connection:
        if spot.point is not None:
            place = Place("", "", *spot.point)
            found = citizen_reports.incidents_near(connection, place, now_ms, v.context.near)
        elif spot.reach:
            query = InboxQuery(InboxView.OPEN, reach=spot.reach, kind=FindingKind.REPORT)
            rows = inbox.find(connection, v.actor, query, now_ms, limit=ON_THE_REACH)
            found = list(incident_store.get_many(connection, [row.id for row in rows]).values())
        else:
            found = []
    mine = [one for one in found if in_jurisdiction(one, v.actor) and v.actor.may(Right.INCIDENTS)]
    named = titles(v.context, mine, v.registries.recent())
    return Near(tuple((one, named[one.id]) for one in mine), len(found))


# -- showing -----------------------------------------------------------------------------------------------------------


def _form(v: View, given: Typed, error: WaterError | None = None) -> Response:
    registry = v.registries.recent()
    try:
        spot = models.spot(given, registry)
    except Refused as refused:
        spot, error = Spot(), error or refused
    return v.render(
        "report.html",
        status=200 if error is None else problems.of(error).sort.status,
        given=given,
        spot=spot,
        near=_near(v, spot),
        refused=None if error is None else error.text,
        kinds=models.KINDS,
        sources=SEEN_BY_PEOPLE,
        colours=tuple(Colour) if v.actor.may(Right.ACCEPT) else (),
        reaches=tuple((one.key, Text(one.zh, one.en)) for one in registry.reaches),
        stations=_stations(v, given),
        files=_files(v, given),
        most=MOST_PHOTOS,
        longest=models.LONGEST,
        map_data=v.to(DATA),
    )


def _stations(v: View, given: Typed) -> tuple[tuple[str, Text], ...]:
    """The stations to choose from; of a large site the one that is chosen."""
    known = v.registries.recent().stations
    few = known if len(known) <= models.MOST_STATIONS else ()
    chosen = [one for one in known if given.where == f"station:{one.key}" and not few]
    return tuple((one.key, Text(one.zh, one.en)) for one in (*few, *chosen))


def _files(v: View, given: Typed) -> Sequence[Attachment]:
    """The files that were kept for who reports."""
    with v.context.database.read() as connection:
        found = attachments.find(connection, given.photos, (v.actor.name, given.name))
    return [one for one in found if one.by in (v.actor.name, given.name)]
