"""Acting on an incident by a plain form, from any page: what the action bar shows, and doing what its form says.

A form carries the version of the incident that it was drawn with. What people did since is a conflict, which names it
and keeps what was typed; what sensors found since is none. A form that is sent twice finds its own entry in the history
and acts once, in whichever process and after a restart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from starlette.datastructures import FormData, UploadFile

from api.access import needed_right, on_behalf
from api.incident_actions import perform, suggestion
from api.pages.models import action_bar as models
from api.pages.models.action_bar import ActionBar, Candidate, Choices, Given, Offer, To
from api.pages.models.incident_actions import Evidences, after_merge, after_split, can_take, condition_name
from api.pages.view import View
from api.requests import one_of, whole_number
from api.routes.attachments import keep, one_at_a_time
from api.routes.incidents import check_visible
from api.titles import titles
from governance.incidents import attachments
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.attachments import Attachment
from governance.incidents.file_content import MAX_BYTES, examine
from governance.incidents.model import (
    Action,
    Assignment,
    Condition,
    Conflict,
    Entry,
    EntryKind,
    Incident,
    Order,
)
from governance.notify import store as notice_store
from governance.notify.contacts import Directory
from governance.organisation.regions import Regions
from governance.organisation.roles import Department, Right, may_be_responsible
from governance.people import store as people_store
from infra.errors import NotFound, Refused, WaterError
from infra.texts import Text, say

FIELDS = 60
"""The most fields of a form."""
MOST_PHOTOS = 10
MERGE_LIMIT, MERGE_SHOWN = 200, 8
"""Open incidents that are looked through for a merge, and those that are offered; others by their number."""
_KEEPING = needed_right("POST", "/attachments")
MOST_TRIES = 3
OPEN_LIMIT = 1000


class Incomplete(Refused):
    """The form lacks something: ``fields``."""

    def __init__(self, fields: Mapping[str, tuple[Text, ...]]) -> None:
        super().__init__(say("action_bar.incomplete"))
        self.fields = dict(fields)


class Meanwhile(Conflict):
    """Others did something to the incident since the form was drawn: ``entries``."""

    def __init__(self, message: Text, entries: Sequence[Entry]) -> None:
        super().__init__(message)
        self.entries = tuple(entries)


def given(form: FormData) -> Given:
    """What a form says."""

    def text(name: str, most: int = 128) -> str:
        value = form.get(name)
        return value.strip()[:most] if isinstance(value, str) else ""

    return Given(
        action=text("action"),
        version=whole_number(text("version", 9)) or 0,
        region=text("region"),
        responsible=text("responsible"),
        other=text("other"),
        department=text("department"),
        joint=tuple(one[:64] for one in form.getlist("joint") if isinstance(one, str))[: len(Department)],
        matter=text("matter"),
        comment=text("comment", 5000),
        reason=text("reason"),
        name=text("name"),
        attachments=tuple(one[:128] for one in form.getlist("attachment") if isinstance(one, str))[:MOST_PHOTOS],
        parameter=text("parameter"),
        value=text("value", 24),
        grade=text("grade"),
        score=text("score", 24),
        into=text("into_other", 9) or text("into", 9),
        conditions=tuple(one[:9] for one in form.getlist("condition") if isinstance(one, str))[:FIELDS],
        previewed=text("previewed", 1000),
    )


async def with_photos(v: View, form: FormData, sent: Given) -> tuple[Given, tuple[Text, ...]]:
    """The form with its photos kept, each examined as the API does, and what is wrong with those that are refused."""
    files = [one for one in form.getlist("photo") if isinstance(one, UploadFile) and one.filename]
    if not files:
        return sent, ()
    v.require(_KEEPING)
    by = on_behalf(v.actor, sent.name or None).name
    kept, wrong = list(sent.attachments), []
    for file in files:
        name = Path(file.filename or "").name[:120]
        try:
            if len(kept) >= MOST_PHOTOS:
                raise Refused(say("action_bar.too_many_photos", most=MOST_PHOTOS))
            data = await file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise Refused(say("attachment.too_large", size=file.size or len(data), most=MAX_BYTES))
            made = await one_at_a_time(v.request, partial(_kept, v, data, name, by))
        except (Refused, NotFound) as error:
            wrong.append(say("action_bar.photo_refused", name=name, why=error.text))
            continue
        if made.id not in kept:
            kept.append(made.id)
    return replace(sent, attachments=tuple(kept)), tuple(wrong)


def _kept(v: View, data: bytes, name: str, by: str) -> Attachment:
    return keep(v.context, data, examine(data), name, by)


def act(v: View, number: int, form: Given) -> Incident:
    """Do what a form says and return the incident after it.

    Raises what `perform` raises, Refused for an unknown action, and Meanwhile.
    """
    v.require(Right.INCIDENTS)
    actor = on_behalf(v.actor, form.name or None)
    for left in reversed(range(MOST_TRIES)):
        with v.context.database.read() as connection:
            incident = incident_store.get(connection, number)
            check_visible(incident, actor)
            history = incident_store.history(connection, number)
        if models.done_already(history, form, actor.name):
            return incident
        if entries := models.decisive(history, form):
            raise Meanwhile(say("action_bar.meanwhile"), entries)
        order = _order(form, incident)
        offer = next(
            (one for one in models.offers(incident, actor, _needs(v, incident)) if one.action == form.action), None
        )
        if offer is not None and (lacking := models.missing(offer, form)):
            raise Incomplete(lacking)
        try:
            after = perform(v.context, number, order, actor, v.keeper.regions, incident.version)
        except Conflict:
            if not left:
                raise
            continue  # a finding came in between: look again at what it was
        v.context.wake()
        return after
    raise AssertionError("the last try raises")


def bar(
    v: View,
    incident: Incident,
    opened: str = "",
    form: Given | None = None,
    error: WaterError | None = None,
    history: Sequence[Entry] | None = None,
) -> ActionBar:
    """What the component shows of an incident to who looks; ``form`` and ``error``: what was refused, and why.

    With the ``history`` the bar is whole, as the incident's own page has it: photos, merging, splitting.
    """
    offers = models.offers(incident, v.actor, _needs(v, incident))
    first = next((one.action.value for one in offers if one.main), "")
    sends = next((one for one in offers if one.asks.to), None)
    to, suggested = _to(v, incident) if sends is not None else (None, Given())
    registry, catalogue = v.registries.recent(), v.context.catalogue
    done = v.query.get("done", "")
    undo = models.UNDONE_BY.get(Action(done)) if done in set(Action) else None
    return ActionBar(
        incident=incident,
        offers=offers,
        closed=models.closed(incident, v.actor, lambda one: condition_name(one, registry, catalogue)),
        to=to,
        given=form or Given(),
        suggested=suggested,
        opened=(form.action if form else "") or opened or (first if history is None else ""),
        refused=_words(error),
        meanwhile=error.entries if isinstance(error, Meanwhile) else (),
        by_name=not v.person,
        choices=None if history is None else _choices(v, incident, offers, form or Given(), history),
        wrong=error.fields if isinstance(error, Incomplete) else {},
        undo=undo if any(one.action is undo for one in offers) else None,
    )


def _needs(v: View, incident: Incident) -> Evidences | None:
    """The evidence that the incident's process asks of finishing."""
    process = v.context.processes.of(incident)
    return process.needs if process is not None else None


def _choices(v: View, incident: Incident, offers: Sequence[Offer], form: Given, history: Sequence[Entry]) -> Choices:
    registry, catalogue = v.registries.recent(), v.context.catalogue
    asked = {one.action for one in offers}
    found = _targets(v, incident) if Action.MERGE in asked else {}
    preview = None
    if form.action == Action.MERGE and (into := whole_number(form.into)) is not None:
        preview = _after_merge(v, incident, into, found)
    elif form.action == Action.SPLIT and form.conditions:
        preview = after_split(incident, _chosen(incident, form), v.actor, v.now_ms)
    with v.context.database.read() as connection:
        photos = attachments.find(connection, form.attachments) if form.attachments else []
    fired = firings(history)
    named = titles(v.context, found.values(), registry)
    return Choices(
        targets=tuple((number, named[number]) for number in found),
        conditions=tuple(
            say(
                "form.condition_time",
                name=condition_name(one, registry, catalogue, fired.get(one.key)),
                since=v.moment(one.since_ms),
                until=say("incident_page.lasts") if one.active else v.moment(one.resolved_at_ms),
            )
            for one in incident.conditions
        ),
        measurable=tuple(
            (one.key, Text(*(f"{name} {'' if one.unit == '1' else one.unit}".strip() for name in (one.zh, one.en))))
            for one in catalogue.parameters
        ),
        photos=tuple(photos),
        preview=preview,
    )


def firings(history: Sequence[Entry]) -> dict[tuple[str, str, str], Entry]:
    """The entry of the newest finding of each condition."""
    return {
        (one.by, str(one.details.get("station", "")), str(one.details.get("parameter") or "")): one
        for one in history
        if one.what is EntryKind.FIRED
    }


def _targets(v: View, incident: Incident) -> dict[int, Incident]:
    """The likeliest of the open incidents that it can be merged into."""
    with v.context.database.read() as connection:
        within = incident_queries.jurisdiction_filter(v.actor)
        open_now = incident_queries.list_incidents(connection, open_only=True, within=within, limit=MERGE_LIMIT)
    others = [one for one in open_now if one.id != incident.id]
    found = can_take(incident, others, v.actor, v.now_ms)
    return {one.id: one for one in found[:MERGE_SHOWN]}


def _after_merge(v: View, incident: Incident, into: int, found: Mapping[int, Incident]) -> Text:
    other = found.get(into)
    try:
        if other is None:
            with v.context.database.read() as connection:
                other = incident_store.get(connection, into)
            check_visible(other, v.actor)
    except WaterError as error:
        return error.text
    return after_merge(incident, other, v.actor, v.now_ms)


def _chosen(incident: Incident, form: Given) -> list[Condition]:
    return [one for i, one in enumerate(incident.conditions) if str(i) in form.conditions]


def working_channels(v: View, names: Sequence[str]) -> dict[str, str]:
    """Whether messages reach people, by name: ``ok``, ``none``, ``failed``; nobody where none are sent at all."""
    directory = known_contacts(v)
    if directory is None:
        return {}
    found = {name: directory.called(name) for name in names}
    keys = [one.key for one in found.values() if one is not None]
    with v.context.database.read() as connection:
        newest = notice_store.newest_to(connection, keys)
    failed = {key for key, one in newest.items() if one.status == "dead"}
    return {
        name: models.reach_of(one is not None and bool(one.channels), failed, one.key if one else "")
        for name, one in found.items()
    }


def known_contacts(v: View) -> Directory | None:
    """Who can get messages; None where none are sent."""
    return v.context.notifications.directory() if v.context.notifications else None


def _order(form: Given, incident: Incident) -> Order:
    """What a form wants done; raises Refused and ConfigurationError for what is unknown."""
    try:
        action = Action(form.action)
    except ValueError:
        raise Refused(say("action_bar.unknown", action=form.action[:40])) from None
    department = one_of(Department, "department", form.department) if form.department else None
    joint = tuple(one_of(Department, "joint", one) for one in form.joint)
    return Order(
        action,
        comment=form.comment or None,
        assignment=Assignment(form.region, form.person, department, joint),
        matter=form.matter,
        reason=form.reason,
        attachments=form.attachments,
        measurement={form.parameter: value} if (value := models.number(form.value)) is not None else {},
        grade=form.grade,
        score=models.number(form.score),
        into=whole_number(form.into),
        conditions=tuple(one.key for one in _chosen(incident, form)),
    )


def _to(v: View, incident: Incident) -> tuple[To, Given]:
    """To whom it may go, and what the dispatch form begins with."""
    regions: Regions = v.keeper.regions()
    found = suggestion(v.context, incident, regions)
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection) if v.actor.may(Right.STAFF) else []
        open_now = incident_queries.list_incidents(
            connection, open_only=True, within=incident_queries.jurisdiction_filter(v.actor), limit=OPEN_LIMIT
        )
    people = people_store.visible_people(v.actor, everybody, terms, regions, v.now_ms)
    seen = {one.name for one in people} | {found.assignment.responsible}
    near = models.candidates(incident, found.assignment.responsible, terms, people, regions, v.now_ms)
    near = [one for one in near if one[0] in seen]
    reach = working_channels(v, [name for name, _, _ in near])
    held = [one.case.responsible for one in open_now]
    named = {name for name, _, _ in near}
    registry = v.registries.recent()
    to = To(
        candidates=tuple(
            Candidate(
                name,
                role,
                Text(regions[code].zh, regions[code].en) if code in regions else Text("", ""),
                held.count(name),
                reach.get(name, ""),
                name == found.assignment.responsible,
                code,
            )
            for name, role, code in near
        ),
        others=tuple(sorted(one.name for one in people if may_be_responsible(one.role) and one.name not in named)),
        regions=tuple(
            (one.code, Text(one.zh, one.en), int(one.level) - 1)
            for one in sorted(registry.regions, key=lambda one: one.code)
            if v.actor.covers(one.code, incident.place.reach)
        ),
        matters=tuple((one.key, Text(one.zh, one.en)) for one in v.context.processes.known),
    )
    assignment = found.assignment
    begun = Given(
        region=assignment.region,
        responsible=assignment.responsible,
        department=str(assignment.department or ""),
        joint=tuple(str(one) for one in assignment.joint),
        matter=found.matter,
    )
    return to, begun


def _words(error: WaterError | None) -> Text | None:
    return error.text if error is not None else None
