"""The citizen's pages, without an account: the water behind a sign, a report with photos, and where a ticket stands.

Plain HTML on a phone: they are read and sent without any script. The one script makes photos small before they are
sent, reads the position from the phone, and keeps a draft until there is a ticket.
"""

import html
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse

from api import problems
from api.access import Keeping, foreign
from api.context import Context
from api.duration import duration
from api.requests import RequestContext, RequestRegistries
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
    objected,
    report_view,
    sender_of,
)
from api.svg import badge
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Incident, State
from governance.organisation.regions import Regions
from governance.organisation.roles import role_name
from governance.organisation.terms import Appointment, offices, on_the_sign
from governance.people import store as people_store
from governance.reports.citizen_reports import RateLimited, normalized_ticket
from infra.errors import NotFound, WaterError
from infra.texts import Text, ended, say
from infra.times import beijing, to_ms
from ingest.analysis.live_classes import REACH, ShownClass, current_classes
from sensors.stations import Reach, Registry

PATH = "/report"
KINDS: Mapping[str, str] = {"smell": "discharge", "litter": "litter", "outfall": "discharge", "shore": "occupation"}
"""What people see, and the process that fits; anything else the office sorts."""
STAGES = ("received", "working", "done", "over")
_STAGE: Mapping[State, int] = {State.REPORTED: 0, State.HANDLED: 2, State.VERIFIED: 2} | dict.fromkeys(
    (State.CLOSED, State.REJECTED, State.FALSE_ALARM), 3
)

router = APIRouter(include_in_schema=False)


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


@router.get(PATH)
def report_form(context: RequestContext, registries: RequestRegistries, request: Request) -> Response:
    """The water behind a sign, and the form."""
    query = request.query_params
    if ticket := query.get("ticket", "").strip():
        return RedirectResponse(
            _path(f"{PATH}/{quote(normalized_ticket(ticket) or ticket, safe='')}", _language(request)), 303
        )
    typed = Typed(reach=query.get("reach", ""), station=query.get("station", ""))
    return _sheet(context, registries.recent(), request, typed)


@router.post(PATH)
async def send(context: RequestContext, keeper: Keeping, registries: RequestRegistries, request: Request) -> Response:
    """File what the form says; the answer leads to the ticket."""
    if (refused := foreign(request.headers)) is not None:
        return refused.response()
    try:
        admit(request)
    except RateLimited as error:
        return await run_in_threadpool(_sheet, context, registries.recent(), request, Typed(), error)
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES) as given:
        photos = [
            (one.file, one.filename or "")
            for one in given.getlist("photos")
            if isinstance(one, UploadFile) and one.size
        ]
        texts = {name: value for name, value in given.items() if isinstance(value, str)}
        typed = Typed(
            **{
                name: texts.get(name, "")[:2000]
                for name in ("kind", "text", "contact", "reach", "station", "lon", "lat")
            },
            photos=photos,
        )
        return await one_at_a_time(request, lambda: _filed(context, keeper, registries, request, typed))


@router.get(PATH + "/{ticket}")
def follow(context: RequestContext, request: Request, ticket: str) -> Response:
    """Where a report stands."""
    language = _language(request)
    try:
        view = report_view(context, ticket)
    except NotFound:
        return _page(language, "not_found_title", _unknown(ticket, language), 404, request)
    return _ticket(view, request)


@router.post(PATH + "/{ticket}")
async def object_to(context: RequestContext, request: Request, ticket: str) -> Response:
    """Say that it is not solved."""
    if (refused := foreign(request.headers)) is not None:
        return refused.response()
    async with request.form(max_files=0, max_fields=4) as given:
        comment = str(given.get("comment") or "")[:2000].strip()

    def done() -> Response:
        try:
            return _ticket(objected(context, ticket, comment), request)
        except NotFound:
            return _page(_language(request), "not_found_title", _unknown(ticket, _language(request)), 404, request)
        except WaterError as error:
            return _ticket(report_view(context, ticket), request, error)

    return await run_in_threadpool(done)


def stage(state: State) -> int:
    """How far a report has come, as the public sees it: an index of ``STAGES``."""
    return _STAGE.get(state, 1)


def worded(typed: Typed) -> str:
    """What goes into the record: what kind of thing it is, in words, and what was typed."""
    kind = say(f"citizen.kind_{typed.kind}").zh if typed.kind in (*KINDS, "other") else ""
    text = typed.text.strip()
    if typed.kind == "other":
        return text
    return "：".join(part for part in (kind, text) if part)


def matter_of(context: Context, kind: str) -> str:
    """The key of the process that fits what was seen; "" where the site has none."""
    matter = KINDS.get(kind, "")
    return matter if matter in {process.key for process in context.processes.known} else ""


def _filed(
    context: Context, keeper: Keeping, registries: RequestRegistries, request: Request, typed: Typed
) -> Response:
    registry = registries.recent()
    try:
        form = ReportForm(
            text=worded(typed),
            matter=matter_of(context, typed.kind),
            contact=typed.contact[:100],
            lon=_degrees(typed.lon),
            lat=_degrees(typed.lat),
            station=typed.station,
            reach=typed.reach,
            photos=typed.photos,
        )
        made = file(context, keeper.regions(), registry, sender_of(request), form)
    except WaterError as error:
        return _sheet(context, registry, request, typed, error)
    after = {"new": "1", **({"near": str(made.nearby)} if made.nearby else {})}
    return RedirectResponse(_path(f"{PATH}/{made.ticket}", _language(request), **after), 303)


def _degrees(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


# -- the pages ---------------------------------------------------------------------------------------------------------


def _sheet(
    context: Context, registry: Registry, request: Request, typed: Typed, error: WaterError | None = None
) -> Response:
    language = _language(request)
    reach_key = typed.reach
    if not reach_key and typed.station in registry:
        reach_key = registry[typed.station].reach
    reach = registry.reach(reach_key)
    if typed.reach and reach is None:
        return _page(language, "not_found_title", f"<section><p>{_t('no_reach', language)}</p></section>", 404, request)
    parts = []
    status = 200
    if error is not None:
        problem = problems.of(error)
        status = problem.sort.status
        words = _of(ended(problem.detail), language)
        again = _t("again_photos", language) if typed.photos else ""
        parts.append(
            f'<section class="error" role="alert" data-testid="report-error"><p><b>{words}</b></p>'
            f"<p>{again}</p></section>"
        )
    if reach is None:
        parts.append(f"<h1>{_t('title', language)}</h1>")
    else:
        parts.append(_water(context, registry, reach, language))
    parts.append(_form(registry, typed, reach, language))
    parts.append(
        f'<section><h2>{_t("follow", language)}</h2><form method="get" action="{PATH}">'
        f'<label>{_t("ticket", language)}<input type="text" name="ticket" required autocomplete="off" '
        f'placeholder="ABCD-EFGH-JKLM" data-testid="report-find"></label>{_lang_field(language)}'
        f'<button class="second">{_t("follow_go", language)}</button></form></section>'
    )
    return _page(language, "title", "".join(parts), status, request)


def _water(context: Context, registry: Registry, reach: Reach, language: str) -> str:
    with context.database.read() as connection:
        live = current_classes(connection, REACH).get(reach.key)
        here = [station.key for station in registry.stations if station.reach == reach.key]
        going_on = incident_store.open_water_incidents(connection, reach.key, here)
        terms = people_store.appointments(connection)
    regions, now_ms = Regions(registry.regions), context.clock_ms()
    places = {s.region for s in registry.stations if s.reach == reach.key and s.region in regions}
    sign = on_the_sign(offices(terms, places, reach.key, regions, now_ms), now_ms)
    chiefs = "".join(
        f"<li>{html.escape(held.name)} <span>{_office(held, regions, language)}</span></li>"
        for held in {(term.name, term.region): term for term in sign}.values()  # of several reaches of a region once
    )
    who = f'<ul class="chiefs">{chiefs}</ul>' if chiefs else f"<p>{_t('no_chiefs', language)}</p>"
    if context.complaints:
        number = html.escape(context.complaints)
        call = f'<a href="tel:{number}" data-testid="report-call">{number}</a>'
        who += f"<p>{_t('complaints', language)}{call}</p>"
    return (
        f'<section data-testid="report-water"><div class="water">{badge(live.water_class if live else None, 56)}<div>'
        f"<h1>{_of(Text(reach.zh, reach.en), language)}</h1>{_in_words(live, bool(here), now_ms, language)}</div>"
        f'</div>{_state(live, going_on, language)}{who}<p class="quiet">{_t("no_proof", language)}</p></section>'
    )


def _office(held: Appointment, regions: Regions, language: str) -> str:
    """The office as the sign has it: 祖庙街道河长."""
    region = regions[held.region]
    return _t("office", language, region=Text(region.zh, region.en), role=role_name(held.role))


def _state(live: ShownClass | None, going_on: Sequence[Incident], language: str) -> str:
    """The most urgent colour of this water, and what it means to somebody standing there; nothing of the incidents.

    Where none goes on, that is said only of water that is judged and not silent: no data is no good news.
    """
    if going_on:
        worst = min((i.colour for i in going_on), key=lambda one: one.rank)
        since = beijing(min(i.since_ms for i in going_on if i.colour is worst))
        state, mark, words = str(worst), say(f"incident.{worst}"), _t(f"state_{worst}", language, since=since)
    elif live is not None and live.water_class is not None and live.silent < live.stations:
        state, mark, words = "calm", Text("✓", "✓"), _t("state_calm", language)
    else:
        return ""
    role = ' role="alert"' if state == Colour.RED else ""
    return (
        f'<p class="big state"{role} data-testid="report-water-{state}"><b class="{state}">{_of(mark, language)}</b>'
        f"<span>{words}</span></p>"
    )


def _in_words(live: ShownClass | None, watched: bool, now_ms: int, language: str) -> str:
    if live is None or live.water_class is None:
        return f"<p>{_t('not_judged' if watched else 'not_watched', language)}</p>"
    one = live.water_class
    class_line = _t(f"water_{int(one)}", language, condition=Text(one.zh, one.en))
    at_ms = live.at_ms if live.measured_ms is None else live.measured_ms
    at = _t("measured", language, at=beijing(at_ms), age=duration(max(0, now_ms - at_ms)))
    silent = _t("silent", language, silent=live.silent, stations=live.stations) if live.silent else ""
    silent = f'<p class="quiet" data-testid="report-silent">{silent}</p>' if live.silent else ""
    return f'<p class="big">{class_line}</p><p class="quiet">{at}</p>{silent}'


def _form(registry: Registry, typed: Typed, reach: Reach | None, language: str) -> str:
    kinds = "".join(
        f'<label><input type="radio" name="kind" value="{kind}" data-testid="report-kind-{kind}"'
        f"{' checked' if typed.kind == kind else ''}>{_t(f'kind_{kind}', language)}</label>"
        for kind in (*KINDS, "other")
    )
    if reach is None:
        options = "".join(
            f'<option value="{html.escape(one.key)}">{_of(Text(one.zh, one.en), language)}</option>'
            for one in sorted(registry.reaches, key=lambda one: one.key)
        )
        where = (
            f'<label>{_t("where", language)}<select name="reach"><option value="">{_t("where_unknown", language)}'
            f"</option>{options}</select></label>"
        )
    else:
        where = f'<input type="hidden" name="reach" value="{html.escape(reach.key)}">'
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(getattr(typed, name))}">'
        for name in ("station", "lon", "lat")
    )
    locate = "".join(f' data-{word}="{_t(f"locate_{word}", language, m="{m}")}"' for word in ("wait", "done", "fail"))
    return (
        f'<section><h2>{_t("form", language)}</h2><form method="post" action="{_to(PATH, language)}" '
        f'enctype="multipart/form-data" data-draft><fieldset><legend>{_t("kind", language)}</legend>'
        f'<div class="kinds">{kinds}</div></fieldset>'
        f'<label>{_t("text", language)}<textarea name="text" rows="3" maxlength="1900" data-testid="report-text" '
        f'placeholder="{_t("text_hint", language)}">{html.escape(typed.text)}</textarea></label>'
        f'<p class="quiet" id="full" role="status" hidden>{_t("text_full", language, most=1900)}</p>'
        f'<label>{_t("photos", language, most=MOST_PHOTOS)}<input type="file" name="photos" multiple '
        f'accept="image/jpeg,image/png,image/webp" data-most="{MOST_PHOTOS}" data-testid="report-photos"></label>'
        f"{where}{hidden}"
        f'<button type="button" class="second" id="where" hidden{locate}>{_t("locate", language)}</button>'
        f'<p class="quiet" id="said" role="status"></p>'
        f'<label>{_t("contact", language)}<input type="text" name="contact" maxlength="100" autocomplete="tel" '
        f'value="{html.escape(typed.contact)}" data-testid="report-contact"></label>'
        f'<p class="quiet">{_t("contact_note", language)}</p>'
        f'<button type="submit" data-wait="{_t("sending", language)}" data-testid="report-go">{_t("go", language)}'
        f"</button></form></section>"
    )


def _ticket(view: ReportView, request: Request, error: WaterError | None = None) -> Response:
    language = _language(request)
    query = request.query_params
    here = stage(State(view.state))
    steps = "".join(
        f'<li class="{"on" if i <= here else ""}"{_now(i == here)}>{_t(f"stage_{name}", language)}</li>'
        for i, name in enumerate(STAGES)
    )
    parts = []
    if query.get("new"):
        near = query.get("near", "")
        many = f"<p>{_t('near', language, count=int(near))}</p>" if near.isdecimal() and len(near) < 4 else ""
        parts.append(
            f'<section data-testid="report-thanks"><p class="big">{_t("thanks", language)}</p>{many}</section>'
        )
    if error is not None:
        parts.append(f'<section class="error" role="alert"><p>{_of(ended(error.text), language)}</p></section>')
    at = _t("since", language, at=_moment(view.at))
    parts.append(
        f'<section><p class="quiet">{_t("ticket", language)}</p>'
        f'<p class="ticket" data-testid="report-ticket">{html.escape(view.ticket)}</p>'
        f'<p class="quiet">{_t("keep", language)}</p>'
        f'<ol class="stages" data-testid="report-stages">{steps}</ol>'
        f'<p class="big" data-testid="report-state">{_of(view.text, language)}</p><p class="quiet">{at}</p></section>'
    )
    sent = _t("sent_at", language, at=_moment(view.sent.at))
    photos = f'<p class="quiet">{_t("sent_photos", language, count=view.sent.photos)}</p>' if view.sent.photos else ""
    parts.append(
        f'<section data-testid="report-sent"><h2>{_t("sent", language)}</h2>'
        f'<p class="said">{html.escape(view.sent.words)}</p>{photos}<p class="quiet">{sent}</p></section>'
    )
    if view.may_object:
        parts.append(
            f'<section><h2>{_t("solved", language)}</h2><form method="post" '
            f'action="{_to(f"{PATH}/{view.ticket}", language)}"><label>{_t("unsolved", language)}'
            f'<textarea name="comment" rows="3" maxlength="1900" required data-testid="report-objection"></textarea>'
            f'</label><button type="submit" data-testid="report-object">{_t("unsolved_go", language)}</button>'
            "</form></section>"
        )
    parts.append(f'<p><a class="button second" href="{_to(PATH, language)}">{_t("another", language)}</a></p>')
    return _page(language, "ticket_title", "".join(parts), 409 if error else 200, request, ticket=True)


def _moment(at: str) -> str:
    """An instant of an answer, in Beijing time."""
    return beijing(to_ms(datetime.fromisoformat(at)))


def _unknown(ticket: str, language: str) -> str:
    return (
        f'<section class="error" role="alert"><p data-testid="report-unknown">'
        f"{_t('unknown', language, ticket=ticket[:40])}</p></section>"
        f'<p><a class="button second" href="{_to(PATH, language)}">{_t("another", language)}</a></p>'
    )


def _page(language: str, title: str, body: str, status: int, request: Request, *, ticket: bool = False) -> Response:
    nonce = secrets.token_urlsafe(16)
    other = "en" if language == "zh" else "zh"
    query = {name: value for name, value in request.query_params.items() if name not in ("lang", "new", "near")}
    here = request.url.path if request.method == "GET" else PATH
    switch = f"{here}?{urlencode({**query, 'lang': other})}"
    name = "English" if other == "en" else "中文"
    page = (
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_t(title, language)}</title><style>{_file('citizen.css')}</style></head>"
        f"<body{' data-ticket=1' if ticket else ''}><header><div><b>{_t('site', language)}</b>"
        f'<a href="{html.escape(switch)}" lang="{other}" data-testid="report-lang">{name}'
        f'</a></div></header><main>{body}</main><script nonce="{nonce}">'
        f"{_file('citizen.js')}</script></body></html>"
    )
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return HTMLResponse(page, status, headers)


@lru_cache(maxsize=4)
def _file(name: str) -> str:
    """Style and script stand in the page itself: one answer is all that a slow network has to bring."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _language(request: Request) -> str:
    return "en" if request.query_params.get("lang") == "en" else "zh"


def _lang_field(language: str) -> str:
    return '<input type="hidden" name="lang" value="en">' if language == "en" else ""


def _path(path: str, language: str, **query: str) -> str:
    parameters = {**query, **({"lang": language} if language != "zh" else {})}
    return f"{path}?{urlencode(parameters)}" if parameters else path


def _to(path: str, language: str) -> str:
    """A path as it stands in HTML."""
    return html.escape(_path(path, language))


def _t(key: str, language: str, **values: object) -> str:
    return _of(say(f"citizen.{key}", **values), language)


def _of(text: Text, language: str) -> str:
    return html.escape(str(getattr(text, language)))


def _now(here: bool) -> str:
    return ' aria-current="step"' if here else ""
