"""Acting on an incident by a plain form, from any page: what the action bar shows, and doing what its form says.

A form carries the version of the incident that it was drawn with. What people did since is a conflict, which names it
and keeps what was typed; what sensors found since is none. A form that is sent twice finds its own entry in the history
and acts once, in whichever process and after a restart.
"""

from collections.abc import Sequence

from starlette.datastructures import FormData

from api.access import on_behalf
from api.incident_actions import perform, suggestion
from api.pages.models import action_bar as models
from api.pages.models.action_bar import ActionBar, Candidate, Given, To
from api.pages.view import View
from api.requests import one_of
from api.routes.incidents import check_visible
from governance.incidents import store as incident_store
from governance.incidents.model import Action, Assignment, Conflict, Entry, Incident, Order
from governance.notify import store as notice_store
from governance.notify.contacts import Directory
from governance.organisation.regions import Regions
from governance.organisation.roles import Department, Right
from governance.people import store as people_store
from infra.errors import Refused, WaterError
from infra.texts import Text, say

FIELDS = 40
"""The most fields of a form."""
MOST_TRIES = 3
OPEN_LIMIT = 1000


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

    version = text("version", 9)
    return Given(
        action=text("action"),
        version=int(version) if version.isdecimal() else 0,
        region=text("region"),
        responsible=text("responsible"),
        other=text("other"),
        department=text("department"),
        joint=tuple(one[:64] for one in form.getlist("joint") if isinstance(one, str))[: len(Department)],
        matter=text("matter"),
        comment=text("comment", 5000),
        reason=text("reason"),
        name=text("name"),
    )


def act(v: View, number: int, form: Given) -> Incident:
    """Do what a form says and return the incident after it.

    Raises what `perform` raises, Refused for an unknown action, and Meanwhile.
    """
    v.require(Right.INCIDENTS)
    actor = on_behalf(v.actor, form.name or None)
    order = _order(form)
    for left in reversed(range(MOST_TRIES)):
        with v.context.database.read() as connection:
            incident = incident_store.get(connection, number)
            check_visible(incident, actor)
            history = incident_store.history(connection, number)
        if models.done_already(history, form, actor.name):
            return incident
        if entries := models.decisive(history, form):
            raise Meanwhile(say("action_bar.meanwhile"), entries)
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
    v: View, incident: Incident, opened: str = "", form: Given | None = None, error: WaterError | None = None
) -> ActionBar:
    """What the component shows of an incident to who looks; ``form`` and ``error``: what was refused, and why."""
    offers = models.offers(incident, v.actor)
    first = next((one.action.value for one in offers if one.main), "")
    sends = next((one for one in offers if one.asks.to), None)
    to, suggested = _to(v, incident) if sends is not None else (None, Given())
    return ActionBar(
        incident=incident,
        offers=offers,
        closed=models.closed(incident, v.actor),
        to=to,
        given=form or Given(),
        suggested=suggested,
        opened=(form.action if form else "") or opened or first,
        refused=_words(error),
        meanwhile=error.entries if isinstance(error, Meanwhile) else (),
        by_name=not v.person,
    )


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


def _order(form: Given) -> Order:
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
    )


def _to(v: View, incident: Incident) -> tuple[To, Given]:
    """To whom it may go, and what the dispatch form begins with."""
    regions: Regions = v.keeper.regions()
    found = suggestion(v.context, incident, regions)
    with v.context.database.read() as connection:
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection) if v.actor.may(Right.STAFF) else []
        open_now = incident_store.list_incidents(
            connection, open_only=True, within=incident_store.jurisdiction_filter(v.actor), limit=OPEN_LIMIT
        )
    people = people_store.visible_people(v.actor, everybody, terms, regions, v.now_ms)
    seen = {one.name for one in people} | {found.assignment.responsible}
    near = models.candidates(incident, found.assignment.responsible, terms, people, regions, v.now_ms)
    near = [one for one in near if one[0] in seen]
    reach = working_channels(v, [name for name, _, _ in near])
    held = [one.case.responsible for one in open_now]
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
            )
            for name, role, code in near
        ),
        others=tuple(sorted(one.name for one in people if one.name not in {name for name, _, _ in near})),
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
