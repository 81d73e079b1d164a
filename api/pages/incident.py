"""The page of an incident ``/incidents/{number}``: what, how sure, who, until when, and what to do now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from api import problems, svg
from api.access import needed_right
from api.names import rule_title
from api.pages import acting, gauges
from api.pages import incident_evidence as evidence
from api.pages.forms import Fields
from api.pages.incident_evidence import Charted
from api.pages.menu import INCIDENT, REPORTED, RIVER, TRAIL
from api.pages.models import action_bar, series, verdict
from api.pages.models import incident as models
from api.pages.models import series_chart as chart
from api.pages.models.action_bar import ActionBar, Given
from api.pages.models.board import holder
from api.pages.models.incident import Line, NoticeRow, Source
from api.pages.models.incident_actions import condition_name
from api.pages.models.overview import Model
from api.pages.models.station import MOST_PANELS
from api.pages.models.verdict import Observed, Verdict
from api.pages.series_panel import panel
from api.pages.station import happenings
from api.pages.view import PageRoute, View, Viewing, markup
from api.registries import find
from api.responses import answer
from api.routes.attachments import one_at_a_time
from api.routes.incidents import check_visible
from api.routes.notices import contact_names
from api.routes.public_photos import release
from api.routes.reports import contacts_of
from api.titles import titles
from governance.audit import trail as audit_trail
from governance.incidents import attachments
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.attachments import Attachment
from governance.incidents.dispatch import Process
from governance.incidents.finding import FindingKind
from governance.incidents.headline import COLUMNS, Row, class_of, format_limit, format_value, table
from governance.incidents.lifecycle import in_jurisdiction
from governance.incidents.model import PHASE_OF_STATE, Action, Entry, EntryKind, Incident
from governance.notify import store as notice_store
from governance.organisation.roles import Forbidden
from governance.reports import citizen_reports, field_records, public_photos
from governance.reports.citizen_reports import Report
from governance.reports.public_photos import PublicPhoto, Side, may_release
from governance.verification import comparison
from governance.verification.comparison import Difference
from infra.errors import ConfigurationError, NotFound, WaterError
from infra.texts import Text, say
from ingest.analysis import forecasts, source_attribution
from ingest.analysis.source_attribution import StoredAttribution
from sensors.standards.gb3838 import Water, WaterClass
from sensors.stations import Registry, Station

NUMBER = INCIDENT.path.replace("{number}", "{number:int}")
NOTICES = 60
DIFFERENCES = 20
"""Differences shown; `audit verify` names all."""
LINES = 30
"""Entries of the timeline that are shown at first."""
PAST, PAST_LISTED = 20, 3
"""Incidents of the station that are read, and those that are shown."""
MOST_FIELD_BYTES = 16 * 1024
_NOTICES = needed_right("GET", "/notices")
_ORIGINALS = needed_right("GET", "/field/records/-/photos/-/original")
_PROOF = needed_right("GET", "/audit/-/proof")
_SERIES = needed_right("GET", "/stations/-/series")
_ACTING = needed_right("POST", "/incidents/-/actions")
_RELEASING = needed_right("PUT", "/incidents/-/public-photos")
_CONTACTS = needed_right("POST", "/incidents/-/contacts")
PHOTO_ID = 64
"""Letters of the id of an attachment."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)
SKETCH_WIDTH = 320.0
"""Of the narrowest place for it, where its letters must still be read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database has of an incident. ``notices`` None: not for who looks."""

    incident: Incident
    history: tuple[Entry, ...]
    files: tuple[Attachment, ...]
    originals: Mapping[str, tuple[str, str]]
    notices: tuple[NoticeRow, ...] | None
    reports: tuple[Report, ...]
    near: tuple[Incident, ...]
    past: tuple[Incident, ...]
    trace: StoredAttribution | None
    audited: bool
    differences: tuple[Difference, ...]
    public: tuple[PublicPhoto, ...]


@dataclass(frozen=True, slots=True)
class Earlier:
    """An incident of before at the same station: what came of it, in the words of who ended it."""

    incident: Incident
    title: Text
    said: str


@dataclass(frozen=True)
class CasePage:
    """What the page shows. ``unread`` says why there is no chart although there are readings."""

    stored: Stored
    title: Text
    water_class: WaterClass | None
    station: Station | None
    reach: tuple[str, Text] | None
    region: Text | None
    sort: str
    left: Text
    share: float | None
    verdict: Verdict
    rows: tuple[Row, ...]
    charted: Charted | None
    unread: Text | None
    lines: tuple[Line, ...]
    sources: tuple[Source, ...]
    sketch: Markup | None
    earlier: tuple[Earlier, ...]
    near: tuple[tuple[Incident, Text], ...]
    forecast: Text | None
    process: Process | None
    bar: ActionBar

    @property
    def incident(self) -> Incident:
        return self.stored.incident


@dataclass(frozen=True)
class Asked:
    """What a form said and why it was refused; ``sides``: of photos, as the form had them; ``contacts`` by ticket."""

    given: Given = field(default_factory=Given)
    error: WaterError | None = None
    sides: Mapping[str, str] | None = None
    contacts: Mapping[str, str] | None = None


@router.get(NUMBER)
async def show(v: Viewing, number: int) -> Response:
    """The page, or the blocks of it that changed."""
    v.require(INCIDENT.right)
    return await _answer(v, number, Asked())


async def _answer(v: View, number: int, asked: Asked) -> Response:
    picture = await v.live.now()
    return await run_in_threadpool(_page, v, number, picture, asked)


@router.post(NUMBER)
async def act(v: Viewing, request: Request, number: int) -> Response:
    """Do what the form says, or show what would come of it; then the page again."""
    v.require(_ACTING)
    await run_in_threadpool(_visible, v, number)
    error: WaterError | None = None
    limits = {"max_files": acting.MOST_PHOTOS + 1, "max_fields": acting.FIELDS, "max_part_size": MOST_FIELD_BYTES}
    async with request.form(**limits) as form:
        given, wrong = await acting.with_photos(v, form, acting.given(form))
    if wrong:
        error = acting.Incomplete({"photo": wrong})
    elif not (given.action in (Action.MERGE, Action.SPLIT) and given.chosen and given.previewed != given.chosen):
        try:
            await run_in_threadpool(acting.act, v, number, given)
        except WaterError as caught:
            error = caught
        if error is None:
            await request.app.state.picture.refresh()  # the page that follows shows what was done
            return RedirectResponse(v.here(done=given.action, act=None) + "#actions", 303)
    return await _answer(v, number, Asked(given, error))


@router.post(NUMBER + "/public-photos")
async def release_photos(v: Viewing, request: Request, number: int, given: Fields) -> Response:
    """Say which photos of a handled case the public sees."""
    v.require(_RELEASING)
    wanted = {name: side for name, side in given.items() if len(name) == PHOTO_ID}
    looked = given.get("looked") == "1"
    sides = {name: Side(side) for name, side in wanted.items() if side in set(Side)}
    try:
        await one_at_a_time(request, lambda: release(v.context, v.actor, number, sides, looked=looked))
    except WaterError as error:
        return await _answer(v, number, Asked(error=error, sides=wanted))
    return RedirectResponse(v.to(f"/incidents/{number}", photos=1) + "#release", 303)


@router.post(NUMBER + "/contacts")
async def show_contacts(v: Viewing, number: int, given: Fields) -> Response:
    """The page with the contacts that citizens left, for a reason that goes into the trail."""
    v.require(_CONTACTS)
    reason = given.get("reason", "")[:500]
    try:
        asked = Asked(contacts=await run_in_threadpool(contacts_of, v.context, v.actor, number, reason))
    except WaterError as error:
        asked = Asked(error=error)
    return await _answer(v, number, asked)


@router.get(NUMBER + "/chart")
def own_chart(v: Viewing, number: int) -> Response:
    """What the chart draws of the incident's own station: series, deciding samples, what happened there."""
    return _data(v, number, "")


@router.get(NUMBER + "/chart/{station}")
def neighbours_chart(v: Viewing, number: int, station: str) -> Response:
    """The same span at another station."""
    return _data(v, number, station)


def _data(v: View, number: int, station: str) -> Response:
    try:
        v.require(INCIDENT.right)
        v.require(_SERIES)
        return answer(_chart(v, number, station), headers={"Cache-Control": "no-store"})
    except WaterError as error:
        status = problems.of(error).sort.status
        return answer({"error": v.of(error.text), "status": status}, status)


def _chart(v: View, number: int, other: str) -> dict[str, Any]:
    incident, history = _visible(v, number)
    registry = v.registries.recent()
    own = evidence.station_of(incident, registry)
    station = find(registry, other) if other else own
    if station is None:
        raise NotFound(say("case.no_reading"))
    rows = evidence.rows_of(incident, history, station.key)
    asked = [one for one in dict.fromkeys(v.query.get("parameter", "").split(",")) if one in v.context.catalogue]
    if not asked:
        raise ConfigurationError(say("station.no_data"))
    span = evidence.span_of(incident, (own or station).interval_s, v.now_ms)
    reach = registry.reach(station.reach)
    panels = []
    for one in asked[:MOST_PANELS]:
        limits = chart.limits(one, Water.of(station.water), None if reach is None else reach.target)
        drawn = panel(v, evidence.series_view(v, station, one, span), limits)
        marks = [] if other else evidence.ringed(v, incident, station.key, one, rows)
        panels.append(replace(drawn, ringed=tuple(marks)))
    happened = [
        one
        for one in ([] if other else happenings(v, registry, station))
        if one.since_ms <= span[1] and (one.until_ms or one.since_ms) >= span[0]
    ]
    answered: dict[str, Any] = {"start": span[0], "end": span[1], "panels": panels, "happened": happened}
    return answered | {"since": incident.since_ms, "rain": None if other else gauges.rain(v, registry, station, span)}


def _visible(v: View, number: int) -> tuple[Incident, list[Entry]]:
    """The incident with its history. Raises NotFound, and Forbidden where it does not concern who looks."""
    if number >= 2**31:
        raise NotFound(say("incident.unknown", id=str(number)[:20]))
    with v.context.database.read() as connection:
        incident = incident_store.get(connection, number)
        check_visible(incident, v.actor)
        return incident, incident_store.history(connection, number)


def _page(v: View, number: int, picture: Model | None, asked: Asked) -> Response:
    try:
        incident, history = _visible(v, number)
    except Forbidden as refused:
        return v.render(
            "incident_refused.html", status=403, refused=refused.text, may_report=v.actor.may(REPORTED.right)
        )
    page = _read(v, incident, history, asked)
    registry, catalogue = v.registries.recent(), v.context.catalogue
    fired = acting.firings(history)
    shows_all = v.query.get("all") == "1"
    return v.render(
        "incident.html",
        status=200 if asked.error is None else problems.of(asked.error).sort.status,
        picture=picture,
        topics=(f"incident-{number}", f"presence-incident-{number}"),
        page=page,
        i=incident,
        holder=holder(incident),
        rule_title=rule_title(incident.kind.value, incident.parameter or ""),
        case=incident.case,
        topic=f"incident-{number}",
        stops=models.stops(incident, history),
        branches=models.branches(incident, history),
        phase=PHASE_OF_STATE.get(incident.state),
        lines=page.lines if shows_all else models.shown_lines(page.lines, LINES),
        images={one.id: one for one in page.stored.files},
        measured=lambda line: [
            f"{v.of(v.parameter(key))} {v.number(value, key)}" for key, value in line.measured if key in catalogue
        ],
        reading_rows=_table(v, page),
        condition=lambda one: condition_name(one, registry, catalogue, fired.get(one.key)),
        basis=_basis(incident),
        findings=sum(entry.what is EntryKind.FIRED for entry in history),
        decided=_decided(v, incident),
        sentence=history[0].text if incident.rule else None,
        contacts=asked.contacts,
        may_contact=v.actor.may(_CONTACTS),
        release=_release(v, page.stored, asked),
        may_river=v.actor.may(RIVER.right),
        may_trail=page.stored.audited and v.actor.may(TRAIL.right),
        done=v.query.get("done", "") if v.query.get("done") in set(Action) else "",
        keys=action_bar.KEYS,
    )


@dataclass(frozen=True, slots=True)
class Release:
    """The form by which photos are made public: the photos, the side each is shown as, and why it was refused."""

    photos: tuple[Attachment, ...]
    sides: Mapping[str, str]
    public: Sequence[PublicPhoto]
    refused: Text | None


def _release(v: View, stored: Stored, asked: Asked) -> Release | None:
    """None where there is nothing to release, or for who may not."""
    pictures = tuple(one for one in stored.files if one.media_type.startswith("image/"))
    if not pictures or not v.actor.may(_RELEASING) or not may_release(stored.incident):
        return None
    sides = {one.attachment_id: str(one.side) for one in stored.public}
    if asked.sides is None or asked.error is None:
        return Release(pictures, sides, stored.public, None)
    return Release(pictures, asked.sides, stored.public, asked.error.text)


def _basis(incident: Incident) -> tuple[list[Text], list[tuple[Text, ...]]] | None:
    """The columns and rows of the deciding values."""
    about = incident.headline
    if about is None or not about.rows:
        return None
    return [say(f"headline.column_{name}") for name in COLUMNS], [tuple(row) for row in table(about)]


def _decided(v: View, incident: Incident) -> str:
    """The value that decided beside the limit of the rule; "" where the rule compares none."""
    parameter = incident.parameter or ""
    if incident.value is None or incident.limit is None or parameter not in v.context.catalogue:
        return ""
    shown = v.context.catalogue[parameter]
    value, limit = format_value(incident.value, shown), shown.with_unit(format_limit(incident.limit))
    return v.say("case.decided", value=value, limit=limit)


def _table(v: View, page: CasePage) -> list[tuple[str, list[dict[str, Any]]]]:
    """The readings of the chart as rows, where the address asks for them."""
    if page.charted is None or v.query.get("view") != "table":
        return []
    span = page.charted.start_ms, page.charted.end_ms
    views = [evidence.series_view(v, page.charted.station, one, span) for one in page.charted.chosen]
    return [(one.parameter.key, series.table(one)) for one in views]


# -- reading -----------------------------------------------------------------------------------------------------------


def _settled_doubt(v: View, incident: Incident, history: Sequence[Entry]) -> Text | None:
    """The entry that settled what was doubtful about an incident at first: value and limit where it has them."""
    doubted = [one for one in history if (one.details.get("headline") or {}).get("doubtful")]
    if not doubted or (incident.headline is not None and incident.headline.doubtful):
        return None
    wanted = EntryKind.WITHDRAWN if incident.kind is FindingKind.DEVICE else EntryKind.FIRED
    later = [one for one in history if one.seq > doubted[0].seq and one.what is wanted and one not in doubted]
    settled = next((one for one in later if one.details.get("kind") == incident.kind.value), None)
    if settled is None:
        return None
    known = v.context.catalogue
    key = str(settled.details.get("parameter", ""))
    if settled.value is None or settled.limit is None or key not in known:
        return settled.text
    parameter = known[key]
    return say(
        "verdict.settled_by",
        parameter=Text(parameter.zh, parameter.en),
        value=parameter.with_unit(format_value(settled.value, parameter)),
        limit=format_limit(settled.limit),
        at=v.moment(settled.at_ms),
    )


def _read(v: View, incident: Incident, history: Sequence[Entry], asked: Asked) -> CasePage:
    given, error = asked.given, asked.error if asked.sides is None else None
    registry = v.registries.recent()
    station = evidence.station_of(incident, registry)
    with v.context.database.read() as connection:
        stored = _stored(v, connection, incident, history)
        ahead = _forecast(v, connection, incident)
        earlier = _earlier(connection, stored.past)
    rows = evidence.rows_of(incident, history, station.key) if station is not None else ()
    charted, view, unread = None, None, None
    if station is not None and v.actor.may(_SERIES):
        try:
            charted = evidence.charted(v, incident, station, rows, registry)
            if charted is not None:
                lead = charted.measures[0].parameter
                view = evidence.series_view(v, station, lead, (charted.start_ms, charted.end_ms))
        except WaterError as failed:
            unread = failed.text
    try:
        seen = evidence.observed(v, incident, history, rows, stored.trace, view, registry, stored.past)
    except WaterError as failed:
        seen, unread = Observed(rows=rows), unread or failed.text
    sort, left_ms = models.time_left(incident, v.now_ms)
    _, left = models.deadline(incident, v.now_ms)
    case = incident.case
    whole = 0 if case.due_ms is None else case.due_ms - case.step_since_ms
    named = titles(v.context, [incident, *stored.near, *(one.incident for one in earlier)], registry)
    value = (
        next((one.value for one in charted.measures if rows and one.parameter == rows[0].parameter), None)
        if charted
        else None
    )
    lead_row = rows[0] if rows else None
    return CasePage(
        stored=stored,
        title=named[incident.id],
        water_class=None
        if lead_row is None or station is None
        else class_of(replace(lead_row, value=lead_row.value if value is None else value), station.water),
        station=station,
        reach=_reach(incident, station, registry),
        region=next((Text(r.zh, r.en) for r in registry.regions if r.code == incident.place.region), None),
        sort=sort,
        left=left,
        share=max(0.0, min(1.0, left_ms / whole)) if whole > 0 and sort in ("left", "soon") else None,
        verdict=verdict.judge(incident, seen, v.context.catalogue, _settled_doubt(v, incident, history)),
        rows=rows,
        charted=charted,
        unread=unread,
        lines=models.timeline(history, stored.notices or (), _notice_words),
        sources=models.sources(stored.trace),
        sketch=_sketch(v, incident, stored.trace, registry),
        earlier=tuple(replace(one, title=named[one.incident.id]) for one in earlier),
        near=tuple((one, named[one.id]) for one in stored.near),
        forecast=ahead,
        process=v.context.processes.of(incident),
        bar=acting.bar(v, incident, v.query.get("act", ""), given if given.action else None, error, history),
    )


def _stored(v: View, connection: sa.Connection, incident: Incident, history: Sequence[Entry]) -> Stored:
    context, number = v.context, incident.id
    ids = [one for entry in history for one in entry.attachments]
    files = attachments.find(connection, ids, {entry.by for entry in history})
    notices = None
    if v.actor.may(_NOTICES):
        within = incident_queries.visible_incident_ids(v.actor)
        found = notice_store.list_notices(connection, incident=number, limit=NOTICES, within=within)
        items = notice_store.items(connection, [one.id for one in found])
        notices = models.notice_rows(found, items, contact_names(context), number)
    near = citizen_reports.similar_incidents(connection, incident, v.now_ms, context.near)
    past: list[Incident] = []
    if incident.station:
        past = incident_queries.list_incidents(connection, station=incident.station, limit=PAST)
    listed = {one.id for one in near}
    return Stored(
        incident=incident,
        history=tuple(history),
        files=tuple(files),
        originals=field_records.originals(connection, ids) if v.actor.may(_ORIGINALS) else {},
        notices=notices,
        reports=tuple(citizen_reports.of_incident(connection, number)),
        near=tuple(one for one in near if in_jurisdiction(one, v.actor)),
        past=tuple(one for one in past if one.id not in listed | {number} and in_jurisdiction(one, v.actor)),
        trace=source_attribution.stored_trace(connection, number),
        audited=bool(audit_trail.list_entries(connection, kind="incident", id=str(number), limit=1))
        and v.actor.may(_PROOF),
        differences=tuple(comparison.of_incident(connection, number))[:DIFFERENCES],
        public=tuple(public_photos.released(connection, [number]).get(number, ())),
    )


def _earlier(connection: sa.Connection, past: Sequence[Incident]) -> tuple[Earlier, ...]:
    """The newest of the station's past incidents, with what was written when they ended."""
    found = []
    for one in past[:PAST_LISTED]:
        said = "" if one.is_open else (incident_store.history(connection, one.id)[-1].comment or "")
        found.append(Earlier(one, one.title, said))
    return tuple(found)


def _forecast(v: View, connection: sa.Connection, incident: Incident) -> Text | None:
    """What is forecast of the incident's parameter, while it is fresh."""
    if not incident.is_open or not incident.parameter or not incident.station:
        return None
    found = forecasts.stored_forecasts(connection, incident.station, incident.parameter)
    fresh = [one for one in found if v.now_ms - one.issued_ms <= series.FRESH_MS]
    return fresh[0].text if fresh else None


def _reach(incident: Incident, station: Station | None, registry: Registry) -> tuple[str, Text] | None:
    reach = registry.reach(incident.place.reach or ("" if station is None else station.reach))
    return None if reach is None else (reach.key, Text(reach.zh, reach.en))


def _sketch(v: View, incident: Incident, trace: StoredAttribution | None, registry: Registry) -> Markup | None:
    """Where it is, with the candidates by their ranks; None where nobody knows."""
    if trace is not None and trace.candidates:
        return markup(
            svg.sketch(
                **models.on_the_map(trace, registry, v.of), label=v.say("incident_page.sources_map"), width=SKETCH_WIDTH
            )
        )
    here = models.where(incident, registry, v.of)
    if here is None:
        return None
    lines = [reach.line for reach in registry.reaches if len(reach.line) > 1]
    return markup(svg.sketch(lines, here, label=v.say("case.place"), width=SKETCH_WIDTH))


def _notice_words(kind: str) -> Text:
    return say("timeline.notified", kind=say(f"messages_page.kind_{kind}"))
