"""What each kind of record does, through the functions that the routes of the API use."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from api.access import author
from api.context import Context
from api.field.job import Content, Job, Position, Result, own_region
from api.incident_actions import perform
from api.registries import find, site_box
from api.requests import Words
from api.responses import when
from api.routes import incidents as incident_routes
from api.routes import maintenance as maintenance_routes
from api.routes import patrols as patrol_routes
from api.routes.incidents import NewReport
from api.routes.maintenance import Correction, EndOfVisit, NewCheck, NewDeployment, NewVisit
from api.routes.patrols import NewPatrol
from api.routes.patrols import Problem as PatrolProblem
from governance.incidents import attachments, lifecycle
from governance.incidents import store as incident_store
from governance.incidents.model import COMMENT_LIMIT, Action, Evidence, Incident, Order
from governance.organisation.regions import Place
from governance.organisation.roles import Actor
from governance.reports import field_records as store
from governance.reports.field_records import FieldPhoto, FieldRecord, Outcome
from infra.errors import ConfigurationError, NotFound, Refused
from infra.texts import Text, say
from ingest.storage import maintenance as maintenance_store
from ingest.storage.changes import Author
from sensors.maintenance import Photo
from sensors.network import distance_km
from sensors.standards import hj915
from sensors.stations import Deployment, Registry, Station

FAR_KM = 1.0
"""A sensor that is hung farther from its station is pointed out, not refused: the receiver may be wrong."""


# -- sensors -----------------------------------------------------------------------------------------------------------


class NewStation(Content):
    """A station that is not registered yet."""

    name: Words = ""


class Hang(Content):
    """A sensor was hung."""

    parameter: Words
    serial: Words = ""
    model: Words = ""
    unit: Words | None = None
    depth_m: float | None = None
    since: str | None = None
    place: Position | None = None
    reading: float | None = None
    station_new: NewStation | None = None


def mark(one: Deployment) -> str:
    """What a phone knows a deployment by: another sensor, or the same one hung anew, is another mark."""
    text = f"{one.station}\n{one.parameter}\n{one.since_ms}\n{one.device}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def current(known: Iterable[Deployment], station: str, parameter: str, at_ms: int) -> Deployment | None:
    """The deployment in force at an instant."""
    mine = [d for d in known if (d.station, d.parameter) == (station, parameter) and d.since_ms <= at_ms]
    last = max(mine, key=lambda d: d.since_ms, default=None)
    return None if last is None or (last.until_ms is not None and last.until_ms <= at_ms) else last


def hang(job: Job) -> Result:
    """Hang a sensor. A station that is not known waits for the office; another sensor than the phone knew conflicts."""
    new = job.content(Hang)
    registry = job.registry()
    key = job.about("station")
    if not isinstance(key, str) or key not in registry:
        name = new.station_new.name if new.station_new else key
        return Result(Outcome.WAITING, (say("field_server.no_station", name=str(name or "—")[:80]),))
    station = registry[key]
    job.must("POST", f"/stations/{key}/deployments")
    author(job.actor, None, job.at_ms, station)
    since_ms = job.time("since", new.since, job.at_ms)
    job.in_service(station, since_ms)
    there = current(registry.deployments, key, new.parameter, max(since_ms, job.context.clock_ms()))
    if not job.insists and not _as_known(job, there):
        return Result(Outcome.CONFLICT, (say("field_server.other_sensor"),), theirs=_shown(there, registry))
    asked = NewDeployment(
        parameter=new.parameter,
        since=when(since_ms),
        unit=new.unit,
        device=new.serial[:64],
        model=new.model,
        depth_m=new.depth_m,
    )
    made, _ = maintenance_routes.hang(job.context, job.registries, job.actor, key, asked)
    became = {"deployment": mark(made), "station": key, "parameter": made.parameter, "since": when(made.since_ms)}
    return Result(Outcome.APPLIED, _away(new.place, station), became)


def _as_known(job: Job, there: Deployment | None) -> bool:
    """Whether the sensor that hangs there is the one that the phone knew, or one that this person hung since."""
    if there is None or mark(there) == job.base:
        return True
    own = store.made_by(job.connection, job.actor.name, there.station, "hang")
    return any(one.made.get("deployment") == mark(there) for one in own)


def _shown(there: Deployment | None, registry: Registry) -> dict[str, Any] | None:
    if there is None:
        return None
    device = next((one for one in registry.devices if one.serial == there.device), None)
    return {
        "etag": mark(there),
        "parameter": there.parameter,
        "serial": there.device,
        "model": device.model if device else "",
        "unit": there.unit,
        "depth_m": there.depth_m,
        "since": when(there.since_ms),
    }


def _away(place: Position | None, station: Station) -> tuple[Text, ...]:
    km = 0.0 if place is None else distance_km((place.lon, place.lat), (station.lon, station.lat))
    return (say("field_server.far", km=f"{km:.1f}", station=Text(station.zh, station.en)),) if km > FAR_KM else ()


class Calibrate(Content):
    """A sensor was checked, and adjusted or left."""

    parameter: Words
    type: Words = ""
    at: str | None = None
    began_at: str | None = None
    standard: float
    before: float
    after: float | None = None
    lot: Words = ""
    note: Words = ""


def calibrate(job: Job) -> Result:
    """Keep a check, and the visit during which it was made: of this sensor only."""
    new, key, by, station = job.content(Calibrate), *_at_station(job, "calibrations")
    at_ms = job.time("at", new.at, job.at_ms)
    job.in_service(station, at_ms)
    registry = job.registry()
    there = current(registry.deployments, key, new.parameter, at_ms)
    if job.base is not None and not job.insists and not _as_known(job, there):
        return Result(Outcome.CONFLICT, (say("field_server.other_sensor"),), theirs=_shown(there, registry))
    kind = new.type or str(hj915.kinds(new.parameter)[0])
    row = {"type": kind, "standard": new.standard, "reading": new.before, "after": new.after, "lot": new.lot}
    named = {"parameter": new.parameter, "at": when(at_ms), "note": new.note, "device": there.device if there else ""}
    number, check = maintenance_routes.record_check(job.context, key, by, job.api(NewCheck, row | named))
    made: dict[str, Any] = {"calibration": number, "station": key, "parameter": new.parameter}
    began_ms = job.time("began_at", new.began_at, at_ms)
    texts: tuple[Text, ...] = ()
    if began_ms < at_ms:
        visit = NewVisit(since=when(began_ms), until=when(at_ms), parameters=[new.parameter])
        try:
            made["visit"], _ = maintenance_routes.record_visit_start(job.context, key, by, visit)
        except Refused:
            texts = (say("field_server.visit_there"),)
    judged = check.judged()
    passed = judged.passed and judged.left_right
    return Result(Outcome.APPLIED, (say("field_server.passed" if passed else "field_server.failed"), *texts), made)


def correct_calibration(job: Job) -> Result:
    """A later version of a check corrects it; sensor and instant stay."""
    new, key, by, _ = job.content(Calibrate), *_at_station(job, "calibrations")
    change = Correction(standard=new.standard, reading=new.before, after=new.after, lot=new.lot, note=new.note)
    maintenance_routes.update_check(job.context, key, job.made["calibration"], by, change)
    return Result(Outcome.APPLIED, (say("field_server.corrected"),), job.made)


class VisitContent(Content):
    """Somebody worked at a station, or does."""

    began_at: str | None = None
    ended_at: str | None = None
    note: Words = ""
    parameters: list[Words] = Field(default_factory=list)


def visit(job: Job) -> Result:
    """Keep a visit; one without an end goes on until a later version ends it."""
    new, key, by, station = job.content(VisitContent), *_at_station(job, "visits")
    since_ms = job.time("began_at", new.began_at, job.at_ms)
    job.in_service(station, since_ms)
    until = None if new.ended_at is None else when(job.time("ended_at", new.ended_at, job.at_ms))
    asked = NewVisit(since=when(since_ms), until=until, parameters=new.parameters, note=new.note)
    number, _ = maintenance_routes.record_visit_start(job.context, key, by, asked)
    return Result(Outcome.APPLIED, (), {"visit": number, "station": key})


def end_visit(job: Job) -> Result:
    """A later version ends the visit that an earlier one began. Raises Refused where it says anything else."""
    new, key, by, _ = job.content(VisitContent), *_at_station(job, "visits")
    if new.ended_at is None:
        raise Refused(say("field_server.no_correction"))
    until = when(job.time("ended_at", new.ended_at, job.at_ms))
    number = job.made["visit"]
    maintenance_routes.record_visit_end(job.context, key, number, by, EndOfVisit(until=until, note=new.note or None))
    return Result(Outcome.APPLIED, (), job.made)


def _at_station(job: Job, what: str) -> tuple[str, Author, Station]:
    """The station of a record, who writes there, and the station; raises what the route of ``what`` raises."""
    key = job.station_key
    job.must("POST", f"/stations/{key}/{what}")
    station = find(job.registry(), key)
    return key, author(job.actor, None, job.context.clock_ms(), station), station


# -- incidents ---------------------------------------------------------------------------------------------------------


class Report(Content):
    """Something was seen."""

    text: Words
    matter: Words = ""
    colour: Words = "yellow"
    place: Position | None = None
    reach: Words | None = None


def report(job: Job) -> Result:
    """File what was seen. It is filed without what cannot be used of it: nobody is at the water any more to ask."""
    new, registry, regions = job.content(Report), job.registries.recent(), job.regions()
    texts: list[Text] = []
    place, reach = new.place, new.reach or ""
    if place is not None and not _inside(job, place):
        place = None
        texts.append(say("field_server.place_outside"))
    if reach not in {one.key for one in registry.reaches}:
        reach = ""
    matter = new.matter
    if matter and job.context.processes.known and job.context.processes.named(matter) is None:
        matter = ""
        texts.append(say("field_server.stale_matter"))
    region = "" if place or reach else own_region(job.actor, regions)
    asked = NewReport(
        text=new.text[:COMMENT_LIMIT],
        colour=new.colour or "yellow",
        matter=matter,
        region=region,
        reach=reach,
        lon=place.lon if place else None,
        lat=place.lat if place else None,
    )
    made = incident_routes.file_report(job.context, regions, registry, job.actor, asked, unique=True)
    texts.insert(0, say("field_server.filed", number=made.id))
    return Result(Outcome.APPLIED, tuple(texts), {"incident": made.id}, place=made.place)


def _inside(job: Job, place: Position) -> bool:
    box = site_box(job.context.box, job.registries.recent())
    try:
        if box is not None:
            box.check(place.lon, place.lat)
    except ConfigurationError:
        return False
    return True


def correct_report(job: Job) -> Result:
    """A later version of a report is a comment of its incident: what was filed stays."""
    comment = say("field_server.corrected_report", text=job.content(Report).text[: COMMENT_LIMIT - 100])
    _comment(job.context, job.connection, job.actor, job.made["incident"], comment.zh)
    return Result(Outcome.APPLIED, (say("field_server.corrected"),), job.made)


class PlaceContent(Content):
    """Where a report was made: a point, a water, or both."""

    place: Position | None = None
    reach: Words = ""


def place(job: Job) -> Result:
    """Move the incident of an earlier report to where it was; it waits until that report is here."""
    earlier = _earlier(job)
    if earlier is None or not isinstance(earlier.made.get("incident"), int):
        return Result(Outcome.WAITING, (say("field_server.waits_for_report"),))
    return _moved(job, earlier.made["incident"])


def _earlier(job: Job) -> FieldRecord | None:
    """The record that this one is about; None before it is here. Raises NotFound for somebody else's."""
    number = job.about("record")
    if not isinstance(number, str):
        raise ConfigurationError(say("field_server.bad_value", name="record"))
    store.lock(job.connection, number)
    earlier = store.find(job.connection, number)
    if earlier is not None and earlier.person != job.actor.name:
        raise NotFound(say("field_server.no_record"))
    return earlier


def _moved(job: Job, incident_id: int) -> Result:
    """The incident is where this record says. Raises ConfigurationError for no place here, Refused once it is over."""
    new, before = job.content(PlaceContent), incident_store.get(job.connection, incident_id).place
    fix, reach = new.place, new.reach
    if reach not in {one.key for one in job.registries.recent().reaches}:
        reach = ""
    if fix is None and not reach:
        raise ConfigurationError(say("field_server.bad_value", name="place"))
    if fix is not None and not _inside(job, fix):
        raise ConfigurationError(say("field_server.place_outside"))
    regions = job.regions()
    point = (None, None) if fix is None else (fix.lon, fix.lat)
    region = ("" if fix is None else regions.at(fix.lon, fix.lat)) or regions.along(reach) or before.region
    return _at(job, incident_id, Place(region, reach or before.reach, *point), before)


def _at(job: Job, incident_id: int, to: Place, before: Place) -> Result:
    source, now_ms = job.context.source, job.context.clock_ms()
    incident_store.move(job.connection, incident_id, to, job.actor, now_ms=now_ms, source=source)
    told = say("field_server.moved", number=incident_id)
    return Result(Outcome.APPLIED, (told,), {"incident": incident_id, "before": asdict(before)}, place=to)


class DoneContent(Content):
    """A task was done."""

    comment: Words = ""


def done(job: Job) -> Result:
    """Hand an incident back as handled. It waits for its photos where the process asks for one."""
    number = job.about("incident")
    if type(number) is not int:
        raise ConfigurationError(say("field_server.bad_value", name="incident"))
    before = incident_store.get(job.connection, number)
    incident_routes.check_visible(before, job.actor)
    stored = tuple(photo.stored for photo in job.photos if photo.stored)
    if wants_photo(job.context, before) and any(not photo.stored for photo in job.photos):
        return Result(
            Outcome.WAITING, (say("field_server.waits_for_photos"),), {"incident": number}, place=before.place
        )
    comment = job.content(DoneContent).comment or say("field_server.done").zh
    order = Order(Action.FINISH, comment=comment[:COMMENT_LIMIT], attachments=stored)
    for action in _way(before, job.actor):
        perform(job.context, number, replace(order, action=action), job.actor, job.regions)
    _mark_used(job.connection, job.id, job.photos)
    return Result(
        Outcome.APPLIED, (say("field_server.handed_back", number=number),), {"incident": number}, place=before.place
    )


def wants_photo(context: Context, incident: Incident) -> bool:
    """Whether handing it back takes a photo: a phone has nothing else to show."""
    process = context.processes.of(incident)
    return process is None or any(Evidence.PHOTO in kinds for kinds in process.needs)


def _way(incident: Incident, actor: Actor) -> tuple[Action, ...]:
    """The actions that hand it back: a part of it for a department that takes part, and who has not begun, begins."""
    allowed = lifecycle.allowed(incident, actor)
    if Action.FINISH not in allowed and Action.CONTRIBUTE in allowed:
        return (Action.CONTRIBUTE,)
    if Action.FINISH not in allowed and Action.START in allowed:
        return Action.START, Action.FINISH
    return (Action.FINISH,)


def _mark_used(connection: sa.Connection, record_id: str, photos: tuple[FieldPhoto, ...]) -> None:
    for photo in photos:
        if photo.stored:
            store.put_photo(connection, record_id, replace(photo, used=True))


# -- patrols -----------------------------------------------------------------------------------------------------------


def patrol(job: Job) -> Result:
    """Keep a patrol and file its problems; their photos follow."""
    job.must("POST", "/patrols")
    given = job.body.get("new")
    if not isinstance(given, Mapping):
        raise ConfigurationError(say("field_server.bad_value", name="new"))
    row = {name: given[name] for name in NewPatrol.model_fields if name in given} | {"id": job.id, "by": None}
    found = [one for one in given.get("problems") or () if isinstance(one, Mapping)]
    row["problems"] = [_problem(job, one) for one in found]
    for name in ("started_at", "ended_at"):
        if isinstance(row.get(name), str):
            row[name] = job.corrected(name, row[name])
    if job.off_ms and isinstance(row.get("track"), list):
        row["track"] = [[job.corrected("track", at), lon, lat] for at, lon, lat in row["track"]]
    if row.get("reach") not in {one.key for one in job.registries.recent().reaches}:
        row["reach"] = ""
    asked = job.api(NewPatrol, row)
    made, _ = patrol_routes.keep_patrol(job.context, job.regions(), job.registries.recent(), job.actor, asked)
    shown = {
        photo: number
        for one, number in zip(found, made.problems, strict=True)
        for photo in one.get("attachments") or ()
        if isinstance(photo, str)
    }
    became = {"patrol": made.key, "valid": made.valid, "incidents": list(made.problems), "problem_photos": shown}
    return Result(Outcome.APPLIED, (made.why,), became, place=Place(made.region, made.reach))


def _problem(job: Job, given: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: given[name] for name in PatrolProblem.model_fields if name in given} | {"attachments": []}
    if isinstance(row.get("at"), str):
        row["at"] = job.corrected("problems.at", row["at"])
    return row


# -- corrections -------------------------------------------------------------------------------------------------------


class CorrectionContent(PlaceContent):
    """What is right of an earlier record; what is not said stays. ``undone``: it should not have been sent at all."""

    undone: bool = False
    comment: Words = ""
    way: Words | None = None
    note: Words | None = Field(None, max_length=4000)


def correct(job: Job) -> Result:
    """Undo what an earlier record did, and do what is right; `old` is what the person saw in effect.

    The earlier record stays as it was sent, and names this one. Raises Refused where it is too late.
    """
    earlier = _earlier(job)
    if earlier is None or earlier.outcome in (Outcome.WAITING, Outcome.CONFLICT):
        return Result(Outcome.WAITING, (say("field_server.waits_for_record"),))
    work = _CORRECTED.get(earlier.kind)
    if earlier.outcome is not Outcome.APPLIED or work is None:
        raise Refused(say("field_server.no_correction"))
    said = _in_effect(job.connection, earlier)
    if said.get("undone"):
        raise Refused(say("field_server.undone_already"))
    old = job.body.get("old")
    if not job.insists and isinstance(old, Mapping) and any(said.get(name) != value for name, value in old.items()):
        theirs = {"new": {name: said.get(name) for name in old}, "by": earlier.person}
        return Result(Outcome.CONFLICT, (say("field_server.corrected_before"),), theirs=theirs)
    result = work(job, earlier)
    after = replace(earlier, made={**earlier.made, "corrected_by": job.id})
    store.put(job.connection, after, "corrected", by=job.actor.name, at_ms=job.context.clock_ms())
    return replace(result, made={**result.made, "corrects": earlier.id})


def _in_effect(connection: sa.Connection, earlier: FieldRecord) -> Mapping[str, Any]:
    """What an earlier record says by now, with its last correction."""
    last = store.find(connection, str(earlier.made.get("corrected_by", "")))
    given = (earlier.body.get("new"), {} if last is None else last.body.get("new"))
    first, then = (one if isinstance(one, Mapping) else {} for one in given)
    return {**first, **then}


def _correct_place(job: Job, earlier: FieldRecord) -> Result:
    incident_id = earlier.made["incident"]
    if not job.content(CorrectionContent).undone:
        return _moved(job, incident_id)
    before = incident_store.get(job.connection, incident_id).place
    return _at(job, incident_id, Place(**earlier.made["before"]), before)


def _correct_done(job: Job, earlier: FieldRecord) -> Result:
    new, number = job.content(CorrectionContent), earlier.made["incident"]
    made = incident_store.correct_handling(
        job.connection,
        number,
        new.comment[:COMMENT_LIMIT],
        tuple(photo.stored for photo in job.photos if photo.stored),
        job.actor,
        undone=new.undone,
        now_ms=job.context.clock_ms(),
        source=job.context.source,
        policy=job.context.processes.policy,
    )
    _mark_used(job.connection, job.id, job.photos)
    return Result(Outcome.APPLIED, (say("field_server.corrected"),), {"incident": number}, place=made.place)


def _correct_patrol(job: Job, earlier: FieldRecord) -> Result:
    new, given = job.content(CorrectionContent), job.body.get("new")
    reach = new.reach if isinstance(given, Mapping) and "reach" in given else None
    asked = patrol_routes.Corrected(new.way, reach, new.note, new.undone)
    key, registry = earlier.made["patrol"], job.registries.recent()
    made = patrol_routes.correct_patrol(job.context, registry, job.actor, key, asked)
    became = {"patrol": made.key, "valid": made.valid}
    return Result(Outcome.APPLIED, (made.why,), became, place=Place(made.region, made.reach))


_CORRECTED: Mapping[str, Callable[[Job, FieldRecord], Result]] = {
    "place": _correct_place,
    "done": _correct_done,
    "patrol": _correct_patrol,
}


# -- photos ------------------------------------------------------------------------------------------------------------


def use_photo(context: Context, connection: sa.Connection, actor: Actor, one: FieldRecord, photo: FieldPhoto) -> None:
    """Put a photo with what its record became: of the station, or of the incident.

    Raises Forbidden, Refused for an incident that is over.
    """
    (kept,) = attachments.get(connection, [photo.stored or ""], replace(actor, regions=None))
    shown = one.made.get("problem_photos")
    number = shown.get(photo.sha256) if isinstance(shown, Mapping) else None
    numbers = one.made.get("incidents")
    number = number or one.made.get("incident") or (numbers[0] if numbers else None)
    if number is not None:
        _comment(context, connection, actor, number, say("field_server.photo").zh, (kept.id,))
    elif one.station:
        now_ms = context.clock_ms()
        made = Photo(
            one.station,
            kept.id,
            kept.media_type,
            kept.bytes,
            photo.taken_at_ms or one.recorded_at_ms or now_ms,
            one.person,
        )
        maintenance_store.add_photo(connection, made, Author(actor.name, now_ms, actor.role.value))


def _comment(
    context: Context,
    connection: sa.Connection,
    actor: Actor,
    incident_id: int,
    comment: str,
    shown: tuple[str, ...] = (),
) -> None:
    """Add to an incident that somebody reported, wherever it lies by now."""
    incident_store.apply_action(
        connection,
        incident_id,
        Order(Action.COMMENT, comment=comment, attachments=shown),
        replace(actor, regions=None),
        now_ms=context.clock_ms(),
        source=context.source,
        policy=context.processes.policy,
    )


KINDS: Mapping[str, Callable[[Job], Result]] = {
    "hang": hang,
    "calibrate": calibrate,
    "visit": visit,
    "report": report,
    "patrol": patrol,
    "done": done,
    "place": place,
    "correct": correct,
}
LATER: Mapping[str, Callable[[Job], Result]] = {"visit": end_visit}
"""What a later version of a record in effect may do by itself; everything else is a conflict."""
CORRECTIONS: Mapping[str, Callable[[Job], Result]] = {
    "hang": hang,
    "calibrate": correct_calibration,
    "visit": end_visit,
    "report": correct_report,
}
"""What a later version does once somebody decided that it stands."""
