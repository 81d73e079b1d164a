"""The stations that need somebody ``/maintenance``, and work at one of them ``/maintenance/{key}``, by plain forms.

Which form is open stands in the address. A visit, a check, a mute or a photo that is sent twice is kept once: each is
known by its instant or its content, and the form carries the instant at which it was drawn.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Form, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse

from api import maintenance as maintenance_views
from api import problems, svg
from api.access import author, reaches
from api.field import kinds as record_kinds
from api.field import records as field_records
from api.field.records import NewDecision, Server
from api.maintenance import MOST_STOPS, Jump, MaintenanceSummary
from api.pages.menu import INCIDENT, MAINTENANCE, MAINTENANCE_OF, ROUTE
from api.pages.models import maintenance as models
from api.pages.models.maintenance import CheckForm, Choice
from api.pages.models.station import moment
from api.pages.view import PageRoute, View, Viewing, markup
from api.registries import find
from api.requests import instant, whole_number
from api.responses import answer, when
from api.routes import maintenance as maintenance_routes
from api.routes import rules as mute_routes
from api.routes.maintenance import Correction, EndOfVisit, NewCheck, NewVisit
from api.routes.rules import NewEnd, NewMute
from governance.reports import field_records as record_store
from governance.reports.field_records import FieldRecord, Outcome
from infra.errors import ConfigurationError, Refused, WaterError
from infra.texts import Text, say
from infra.times import DAY_MS, beijing
from ingest.storage import maintenance as store
from ingest.storage.changes import Author
from ingest.storage.photos import MAX_PHOTO_BYTES
from sensors.maintenance import Check, Mute, Visit
from sensors.standards import hj915
from sensors.standards.hj915 import CheckKind

WORK = ("cleaned", "calibrated", "reagent", "swapped", "repaired", "looked")
"""What is mostly done at a station, offered to be ticked."""
FORMS = ("begin", "end", "check", "record", "mute", "photo")
DONE = frozenset({"begun", "ended", "recorded", "checked", "voided", "muted", "unmuted", "photo"})
MOST_BYTES = 8 * 1024 * 1024
"""A request with a photo as a phone takes it: it is refused in words, unless the page's script made it small."""
SAID_TIMES = ("since", "at", "began_at", "ended_at")
SAID = (
    *("parameter", "serial", "model", "unit", "depth_m", *SAID_TIMES, "standard", "before", "after", "lot", "reading"),
    *("text", "comment", "note"),
)
"""Of a record from the field, what is shown for a decision."""
REFUSED_DAYS = 30
"""For how long a record from the field that was refused is shown."""
SHOWN = 10
"""Visits, checks and mutes that are listed at first."""

FormField = Annotated[str, Form()]
StationField = Annotated[str, Form(alias="station")]

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def _permit(v: View) -> None:
    v.require(MAINTENANCE.right, say("maintenance_page.work"))


# -- the list ----------------------------------------------------------------------------------------------------------


@router.get(MAINTENANCE.path)
def show(v: Viewing) -> Response:
    """The stations that the address asks for."""
    _permit(v)
    registry = v.registries.recent()
    cares = [
        one
        for one in maintenance_views.of_all(v.context, registry, v.actor)
        if _within(v, one) and one.station.key not in registry.retired
    ]
    every = models.rows(cares, v.now_ms)
    choice = Choice.of(v.query)
    found = models.chosen(every, choice)
    limit = max(models.PAGE, whole_number(v.query.get("rows", "")[:6]) or 0)
    rivers = {one.key: Text(one.zh, one.en) for one in registry.reaches}
    used = {one.care.station.reach for one in every}
    calling = [one for one in every if one.calls]
    return v.render(
        "maintenance.html",
        records=_unsettled(v),
        kinds=tuple(record_kinds.KINDS),
        said=lambda what: _said(v, what),
        station_name=lambda key: v.of(Text(registry[key].zh, registry[key].en)) if key in registry else key,
        every=every,
        calling=len(calling),
        working=sum(one.care.working is not None for one in every),
        by_reason=[(name, sum(name in one.reasons for one in calling)) for name in models.REASONS],
        found=found,
        rows=found[:limit],
        more=len(found) - limit,
        next_rows=limit + models.PAGE,
        choice=choice,
        rivers=[(key, name) for key, name in rivers.items() if key in used],
        river_of=rivers,
        may_incidents=v.actor.may(INCIDENT.right),
        names=lambda keys: _names(v, keys),
    )


def _unsettled(v: View) -> list[FieldRecord]:
    """What phones sent that conflicts or waits, then what was refused lately; nothing that somebody decided on."""
    reach = field_records.within_reach(v.actor)
    with v.context.database.read() as connection:
        found = record_store.listing(connection, reach, (Outcome.CONFLICT, Outcome.WAITING), limit=models.PAGE)
        refused = record_store.listing(connection, reach, (Outcome.REFUSED,), limit=SHOWN)
    since_ms = v.now_ms - REFUSED_DAYS * DAY_MS
    return [*found, *(one for one in refused if not one.decision and one.received_at_ms > since_ms)]


def _said(v: View, what: object) -> list[tuple[str, str]]:
    """What a version of a record says, by the names that people know; positions and tracks are left out."""
    given = what if isinstance(what, Mapping) else {}
    found = []
    for name in SAID:
        value = given.get(name)
        if name == "parameter" and isinstance(value, str):
            value = v.of(v.parameter(value))
        elif name in SAID_TIMES and isinstance(value, str):
            with suppress(ConfigurationError):
                value = v.moment(instant(name, value))
        if isinstance(value, str | int | float) and value != "":
            found.append((v.say(f"field_server.name_{name}"), str(value)))
    return found


@router.post(MAINTENANCE.path + "/field/{record_id}")
def decide(v: Viewing, record_id: str, keep: FormField = "", station_key: StationField = "") -> Response:
    """Decide on a record from the field."""
    _permit(v)
    if keep not in ("mine", "theirs"):
        raise ConfigurationError(say("care_page.no_action"))
    new = NewDecision(keep="mine" if keep == "mine" else "theirs", station=station_key.strip()[:64] or None)
    field_records.decide(Server(v.context, v.registries, v.keeper.regions), v.actor, record_id, new)
    return RedirectResponse(v.to(MAINTENANCE.path) + "#field", 303)


def _within(v: View, one: MaintenanceSummary) -> bool:
    return v.actor.covers(one.station.region, one.station.reach)


def _names(v: View, keys: Iterable[str]) -> str:
    """Parameters one after the other."""
    return v.of(Text("、", ", ")).join(v.of(v.parameter(one)) for one in keys)


@router.get(ROUTE.path)
def route(v: Viewing) -> Response:
    """The stations that the address names, else those that need somebody, in the order of a short way."""
    _permit(v)
    registry = v.registries.recent()
    cares = [one for one in maintenance_views.of_all(v.context, registry, v.actor) if _within(v, one)]
    wanted = v.request.query_params.getlist("at")
    every = [one for one in models.rows(cares, v.now_ms) if one.calls or one.key in wanted]
    stops = models.stops(every, wanted, v.query.get("first", ""))
    marks = [
        svg.Place((one.care.station.lon, one.care.station.lat), v.of(one.name), "stop", number)
        for number, (one, _) in enumerate(stops, 1)
    ]
    lines = [reach.line for reach in registry.reaches]
    return v.render(
        "route.html",
        stops=stops,
        every=every,
        chosen={one.key for one, _ in stops},
        most=MOST_STOPS,
        km=sum(km for _, km in stops),
        drawing=markup(svg.sketch(lines, marks, label=v.say("route_page.map"), width=640.0)) if marks else "",
        names=lambda keys: _names(v, keys),
    )


# -- a station ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What a form says."""

    texts: Mapping[str, str] = field(default_factory=dict)
    sensors: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    photo: bytes | None = None

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")


@dataclass(frozen=True)
class Shown:
    """What of the page is not from the address: what somebody typed, why it was refused, what a check would say."""

    form: str = ""
    given: Given = field(default_factory=Given)
    wrong: Mapping[str, Text] = field(default_factory=dict)
    error: Text | None = None
    verdict: "Judged | None" = None
    status: int = 200


@dataclass(frozen=True)
class Judged:
    """What a check would say: ``passed`` None where it cannot be judged; ``next_ms`` is when the next one is due."""

    text: Text
    passed: bool | None = None
    left_right: bool | None = None
    next_ms: int | None = None


@router.get(MAINTENANCE_OF.path)
def station(v: Viewing, key: str) -> Response:
    """What is due at a station, what was done there, and the form that the address opens."""
    _permit(v)
    form = v.query.get("do", "")
    return _station(v, key, Shown(form if form in FORMS else ""))


@router.get(MAINTENANCE_OF.path + "/verdict")
def verdict(v: Viewing, key: str) -> Response:
    """What a check would say, while it is typed."""
    _permit(v)
    form = CheckForm.of(v.query)
    try:
        sensors = maintenance_views.of_station(v.context, v.registries.recent(), v.actor, key).sensors
        numbers, wrong = models.read_numbers(form, sensors)
        judged = None if wrong else _judge(v, key, _check(form, numbers, when(v.now_ms)))
    except WaterError as error:
        return answer({"error": v.of(error.text)}, problems.of(error).sort.status)
    if judged is None:
        return answer({"text": "", "passed": None, "next": "", "mark": ""}, headers={"Cache-Control": "no-store"})
    passed = judged.left_right if judged.passed is not None else None
    said = {"text": v.of(judged.text), "passed": passed, "next": _next(v, judged), "mark": form.mark}
    return answer(said, headers={"Cache-Control": "no-store"})


@router.post(MAINTENANCE_OF.path)
async def act(v: Viewing, key: str) -> Response:
    """Do what one of the page's forms asks for."""
    _permit(v)
    async with v.request.form(max_files=1, max_fields=80) as form:
        photo = form.get("photo")
        data = await photo.read(MAX_PHOTO_BYTES + 1) if isinstance(photo, UploadFile) and photo.size else None
        given = _given(form, data)
    return await run_in_threadpool(_act, v, key, given)


def _given(form: FormData, photo: bytes | None) -> Given:
    texts = {name: value.strip()[:2000] for name, value in form.items() if isinstance(value, str)}
    several = {name: [one[:64] for one in form.getlist(name) if isinstance(one, str)] for name in ("sensors", "done")}
    return Given(texts, tuple(several["sensors"]), tuple(several["done"]), photo)


def _act(v: View, key: str, given: Given) -> Response:
    actions: dict[str, Callable[[View, str, Given], Shown | str]] = {
        "begin": _begin,
        "end": _end,
        "record": _record,
        "check": _add_check,
        "void": _void,
        "mute": _mute,
        "unmute": _unmute,
        "photo": _photo,
    }
    act_ = actions.get(given["do"])
    if act_ is None:
        raise ConfigurationError(say("care_page.no_action"))
    try:
        done = act_(v, key, given)
    except WaterError as error:
        form = given["do"] if given["do"] in FORMS else ""
        done = Shown(form, given, error=error.text, status=problems.of(error).sort.status)
    if isinstance(done, Shown):
        return _station(v, key, done)
    return RedirectResponse(v.to(v.path, done=done), 303)


def _station(v: View, key: str, shown: Shown) -> Response:
    registry = v.registries.recent()
    model = maintenance_views.of_station(v.context, registry, v.actor, key)
    one = models.row(model.care, v.now_ms, retired=key in registry.retired)
    reach = registry.reach(model.care.station.reach)
    elsewhere = None
    try:
        reaches(v.actor, model.care.station)
    except WaterError as error:
        elsewhere = error.text
    with v.context.database.read() as connection:
        mutes = store.mutes(connection, key)[::-1]
        photos = store.photos(connection, key)
    form = "" if elsewhere or ((shown.form == "end") == (model.care.working is None) and shown.form) else shown.form
    late = [due.parameter for due in model.care.due if due.overdue(v.now_ms)]
    first = v.query.get("parameter", "")
    first = first if first in model.sensors else next(iter((*late, *model.sensors)), "")
    check = CheckForm.of(shown.given.texts) if shown.given["do"] == "check" else CheckForm(first, _first_kind(first))
    everything = v.query.get("all") == "1"
    return v.render(
        "maintenance_station.html",
        status=shown.status,
        model=model,
        care=model.care,
        row=one,
        reach=reach,
        elsewhere=elsewhere,
        form=form,
        shown=shown,
        given=shown.given,
        check=check,
        kinds=[str(kind) for kind in CheckKind],
        usual={key: _first_kind(key) for key in model.sensors},
        drifts=[str(kind) for kind in hj915.DRIFTS],
        work=WORK,
        drawn=v.now_ms,
        by_name=not v.person,
        visits=model.visits if everything else model.visits[:SHOWN],
        checks=model.checks if everything else model.checks[:SHOWN],
        mutes=[(number, mute) for number, mute in mutes if mute.until_ms > v.now_ms],
        past_mutes=[(number, mute) for number, mute in mutes if mute.until_ms <= v.now_ms][:SHOWN],
        more=not everything and max(len(model.visits), len(model.checks)) > SHOWN,
        photos=photos,
        done=v.query.get("done", "") if v.query.get("done", "") in DONE and not shown.error else "",
        may_incidents=v.actor.may(INCIDENT.right),
        touched=lambda visit: _touched(v, visit),
        span=lambda visit: _span(v, visit),
        jump=lambda found: _jump(v, found),
        verdict_of=lambda kept: models.verdict(kept, v.context.catalogue),
        passes=_passes,
        unit=lambda parameter: (
            "" if v.context.catalogue[parameter].unit == "1" else v.context.catalogue[parameter].unit
        ),
        next_check=_next(v, shown.verdict) if shown.verdict else "",
        day=lambda at_ms: beijing(at_ms, "%m-%d"),
        long_day=lambda at_ms: beijing(at_ms, "%Y-%m-%d"),
    )


def _first_kind(parameter: str) -> str:
    return str(hj915.kinds(parameter)[0]) if parameter else ""


def _passes(check: Check) -> bool | None:
    """Whether a check found and left the sensor right; None where that cannot be told yet."""
    try:
        judged = check.judged()
    except ConfigurationError:
        return None
    return judged.passed and judged.left_right


def _touched(v: View, visit: Visit) -> str:
    return _names(v, visit.parameters) if visit.parameters else v.say("maintenance.whole_station")


def _span(v: View, visit: Visit | Mute) -> str:
    """From when to when, the date once."""
    since = v.moment(visit.since_ms)
    if visit.until_ms is None:
        return v.say("maintenance_page.goes_on", since=since)
    same = beijing(visit.since_ms, "%Y%m%d") == beijing(visit.until_ms, "%Y%m%d")
    return f"{since} – {beijing(visit.until_ms, '%H:%M') if same else v.moment(visit.until_ms)}"


def _jump(v: View, jump: Jump) -> str:
    """What a sensor showed before a visit and after it."""
    one, name = v.context.catalogue[jump.parameter], v.of(v.parameter(jump.parameter))
    if jump.medians is None:
        return name
    before, after = jump.medians
    change = f"{after - before:+.{one.decimals}f}"
    return v.say("maintenance_page.jump", sensor=name, before=one.show(before), after=one.show(after), change=change)


def _next(v: View, judged: Judged) -> str:
    if judged.next_ms is None:
        return ""
    if judged.left_right is False:
        return v.say("maintenance_page.at_once")
    return v.say("care_page.next_check", day=beijing(judged.next_ms, "%m-%d"))


# -- what is recorded --------------------------------------------------------------------------------------------------


def _author(v: View, key: str, given: Given) -> Author:
    """Who records it: who is signed in, else who is named in the form."""
    if not v.person and not given["name"]:
        raise Refused(say("maintenance_page.whose"))
    return author(v.actor, given["name"] or None, v.now_ms, find(v.registries.recent(), key))


def _drawn(v: View, given: Given) -> str | None:
    """The instant at which a form was drawn, by which what it makes is known again."""
    drawn_ms = whole_number(given["drawn"], 14)
    return when(v.now_ms if drawn_ms is None else min(drawn_ms, v.now_ms))


def _instant(name: str, text: str) -> str | None:
    """A form's Beijing time as the API wants it; None for what was left empty."""
    return when(moment(name, text)) if text else None


def _work(v: View, given: Given) -> str:
    done = [v.say(f"maintenance_page.did_{one}") for one in WORK if one in given.done]
    return models.work_line(done, given["note"], v.language)


def _visits(v: View, key: str) -> list[tuple[int, Visit]]:
    with v.context.database.read() as connection:
        return store.visits(connection, key)


def _begin(v: View, key: str, given: Given) -> str:
    new = NewVisit(since=_instant("since", given["since"]) or _drawn(v, given), parameters=list(given.sensors))
    return _kept_once(v, key, given, new, "begun")


def _record(v: View, key: str, given: Given) -> Shown | str:
    wrong = {name: say("care_page.needed") for name in ("since", "until") if not given[name]}
    if wrong:
        return Shown("record", given, wrong, say("maintenance_page.both_times"), status=422)
    new = NewVisit(
        since=_instant("since", given["since"]),
        until=_instant("until", given["until"]),
        parameters=list(given.sensors),
        note=_work(v, given),
    )
    return _kept_once(v, key, given, new, "recorded")


def _kept_once(v: View, key: str, given: Given, new: NewVisit, done: str) -> str:
    """Keep a visit; one that begins at the same instant, is of the same sensors and person is the same one."""
    by = _author(v, key, given)
    for _, visit in _visits(v, key):
        if when(visit.since_ms) == new.since and visit.by == by.by and set(visit.parameters) == set(new.parameters):
            return done
    maintenance_routes.record_visit_start(v.context, key, by, new)
    return done


def _end(v: View, key: str, given: Given) -> str:
    number = whole_number(given["number"]) or 0
    until, note = _instant("until", given["until"]), _work(v, given)
    visit = dict(_visits(v, key)).get(number)
    if visit is not None and visit.until_ms is not None and visit.note == note:  # sent twice
        return "ended"
    maintenance_routes.record_visit_end(
        v.context, key, number, _author(v, key, given), EndOfVisit(until=until, note=note)
    )
    return "ended"


def _check(form: CheckForm, numbers: Mapping[str, float | None], at: str | None) -> NewCheck:
    return NewCheck.model_validate(
        {"parameter": form.parameter, "type": form.kind, "at": at, "lot": form.lot, "note": form.note, **numbers}
    )


def _judge(v: View, key: str, new: NewCheck) -> Judged:
    """What a check would say, or what it still lacks."""
    try:
        made = maintenance_routes.as_check(v.context, v.registries.recent(), key, Author("", None), new)
        found = made.judged()
    except ConfigurationError as error:
        return Judged(error.text)
    text = models.verdict(made, v.context.catalogue)
    return Judged(
        text, found.passed, found.left_right, models.next_check_ms(made.parameter, made.at_ms, found.left_right)
    )


def _add_check(v: View, key: str, given: Given) -> Shown | str:
    """Judge a check and show it; keep it once it was shown as it is."""
    form = CheckForm.of(given.texts)
    sensors = maintenance_views.of_station(v.context, v.registries.recent(), v.actor, key).sensors
    numbers, wrong = models.read_numbers(form, sensors)
    if wrong:
        return Shown("check", given, wrong, say("maintenance_page.needs"), status=422)
    new = _check(form, numbers, _drawn(v, given))
    judged = _judge(v, key, new)
    if judged.passed is None:
        return Shown("check", given, {}, judged.text, status=422)
    by = _author(v, key, given)
    if given["seen"] != form.mark:
        return Shown("check", given, verdict=judged)
    made = maintenance_routes.as_check(v.context, v.registries.recent(), key, by, new)
    with v.context.database.read() as connection:
        if any(made == one for _, one in store.checks(connection, key)):  # sent twice
            return "checked"
    maintenance_routes.record_check(v.context, key, by, new)
    return "checked"


def _void(v: View, key: str, given: Given) -> str:
    """A check was entered in error: it stays on record and counts for nothing."""
    number = whole_number(given["number"]) or 0
    maintenance_routes.update_check(v.context, key, number, _author(v, key, given), Correction(void=True))
    return "voided"


def _mute(v: View, key: str, given: Given) -> Shown | str:
    wrong = {name: say("care_page.needed") for name in ("until", "reason") if not given[name]}
    if wrong:
        return Shown("mute", given, wrong, status=422)
    by, until = _author(v, key, given), _instant("until", given["until"]) or ""
    new = NewMute(
        since=_instant("since", given["since"]) or _drawn(v, given), until=until, reason=given["reason"][:1000]
    )
    with v.context.database.read() as connection:
        if any(when(one.since_ms) == new.since and one.reason == new.reason for _, one in store.mutes(connection, key)):
            return "muted"  # sent twice
    mute_routes.record_mute(v.context, key, by, new)
    return "muted"


def _unmute(v: View, key: str, given: Given) -> str:
    number = whole_number(given["number"]) or 0
    by = _author(v, key, given)
    with v.context.database.read() as connection:
        one = dict(store.mutes(connection, key)).get(number)
    if one is not None and one.until_ms <= v.now_ms:  # sent twice
        return "unmuted"
    mute_routes.record_mute_end(v.context, key, number, by, NewEnd())
    return "unmuted"


def _photo(v: View, key: str, given: Given) -> Shown | str:
    if given.photo is None:
        return Shown("photo", given, {"photo": say("care_page.needed")}, status=422)
    maintenance_routes.record_photo(v.context, key, _author(v, key, given), given.photo, given["note"])
    return "photo"
