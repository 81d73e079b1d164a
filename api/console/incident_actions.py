"""Acting on an incident from any page: one dialog, made from what the lifecycle asks for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nicegui import ui

from api.console.components.photo_input import PhotoInput
from api.console.dialogs import Dialog
from api.console.elements import tag
from api.console.frame import Framed
from api.console.models.incident_actions import Need, after_merge, after_split, asks, can_take, condition_name
from api.incident_actions import perform, suggestion
from api.routes.incidents import check_visible
from governance.incidents import store as incident_store
from governance.incidents.dispatch import Suggestion
from governance.incidents.lifecycle import allowed, in_jurisdiction
from governance.incidents.model import Action, Assignment, Condition, Incident, Order, Source
from governance.organisation.regions import Regions
from governance.organisation.roles import Department, Right
from governance.people import store as people_store
from infra.errors import Refused
from infra.texts import Text, say

_LISTED = 500


@dataclass(frozen=True, slots=True)
class _Offer:
    """To whom it could go: the suggestion, all regions and all people."""

    found: Suggestion
    regions: dict[str, str]
    people: dict[str, str]


def label(page: Framed, action: Action) -> str:
    """The action's word on a button."""
    word = page.of(say(f"action.{action}"))
    return word[:1].upper() + word[1:]


def open_to(page: Framed, incident: Incident) -> tuple[Action, ...]:
    """What the incident accepts now from who looks."""
    return allowed(incident, page.actor)


async def ask(page: Framed, incident: Incident, action: Action, after: Callable[[], Awaitable[None]]) -> None:  # noqa: C901  (one branch a part of the page)
    """Ask what the action needs, then do it; a refusal is shown in the dialog and nothing typed is lost.

    ``after`` shows what became of it.
    """
    wanted = asks(incident, action)
    offer = await asyncio.to_thread(_offer, page, incident) if wanted.to else None
    targets = await asyncio.to_thread(_targets, page, incident) if wanted.into else {}
    dialog = Dialog(
        page, page.say("console.ask", id=incident.id, action=label(page, action)), page.of(incident.titled())
    )
    name = None if page.named else dialog.text("name", page.say("console.your_name"), page.name)
    given: dict[str, Any] = {}
    if offer is not None:
        _to(dialog, page, offer, given, filled=action is Action.DISPATCH)
    if wanted.departments:
        waiting = {code: page.say(f"department.{code}") for code in wanted.departments}
        own = str(page.actor.department) if page.actor.department else None
        given["department"] = dialog.choice(
            "department", page.say("form.of_department"), waiting, own if own in waiting else None
        )
    if wanted.reasons:
        options = {code: page.say(f"reason.{code}") for code in wanted.reasons}
        given["reason"] = dialog.choice("reason", page.say("form.reason"), options)
    if wanted.grades:
        given["grade"] = dialog.choice("grade", page.say("form.grade"), {g: g for g in wanted.grades}, "IV")
    if wanted.into:
        _into(dialog, page, incident, targets, given)
    if wanted.score:
        given["score"] = dialog.number("score", page.say("form.score"), 0, 100)
    if wanted.conditions:
        _some_of(dialog, page, incident, wanted.conditions, given)
    words = "console.comment" if wanted.comment is Need.REQUIRED else "console.comment_optional"
    public = action in (Action.REJECT, Action.FALSE_ALARM) and incident.case.source is Source.CITIZEN
    hint = page.say("form.shown_to_citizen") if public else ""
    comment = dialog.text("comment", page.say(words), long=True, hint=hint)
    photos, measured, value = None, None, None
    if wanted.proof is not Need.NO:
        with dialog.form, tag("div", "rc-field"):
            tag("span", text=page.say("form.proof" if wanted.proof is Need.REQUIRED else "form.proof_optional"))
            photos = PhotoInput(page.language)
        known = {p.key: f"{page.of(Text(p.zh, p.en))} {_unit(p.unit)}" for p in page.context.catalogue.parameters}
        measured = dialog.choice("parameter", page.say("form.measured"), known, incident.parameter)
        value = dialog.number("value", page.say("form.value"))

    async def submit() -> None:
        if name is not None:
            page.name = (name.value or "").strip()
        if photos is not None and photos.sending:
            raise Refused(say("form.still_sending"))
        order = _order(action, comment.value, given, wanted.conditions)
        if photos is not None:
            order = replace(order, attachments=photos.ids)
        if measured is not None and value is not None and measured.value and value.value is not None:
            order = replace(order, measurement={str(measured.value): float(value.value)})
        await asyncio.to_thread(_do, page, incident.id, order)
        page.context.wake()
        ui.notify(
            page.say("console.done", id=incident.id, action=label(page, action)),
            position="bottom",
            color="dark",
            timeout=4000,
        )
        await after()

    dialog.open(label(page, action), submit)


def _to(dialog: Dialog, page: Framed, offer: _Offer, given: dict[str, Any], *, filled: bool) -> None:
    """To whom; a dispatch is filled in with the suggestion, a transfer is for somebody else and begins empty."""
    to = offer.found.assignment if filled else Assignment()
    departments = {str(d): page.say(f"department.{d}") for d in Department}
    matters = {p.key: page.of(Text(p.zh, p.en)) for p in page.context.processes.known}
    if matters:
        given["matter"] = dialog.choice("matter", page.say("form.matter"), matters, offer.found.matter or None)
    given["department"] = dialog.choice("department", page.say("form.department"), departments, to.department)
    given["joint"] = dialog.choice("joint", page.say("form.joint"), departments, list(to.joint), several=True)
    people_ = {**({to.responsible: to.responsible} if to.responsible else {}), **offer.people}
    given["responsible"] = dialog.choice("responsible", page.say("form.responsible"), people_, to.responsible or None)
    regions = {**({to.region: to.region} if to.region else {}), **offer.regions}
    given["region"] = dialog.choice("region", page.say("form.region"), regions, to.region or None)


def _into(
    dialog: Dialog, page: Framed, incident: Incident, targets: Mapping[int, Incident], given: dict[str, Any]
) -> None:
    """Into which incident: chosen from those it can be merged into, with what would come of it."""
    now_ms = page.context.clock_ms()
    words = {number: _line(page, one) for number, one in targets.items()}
    chosen = given["into"] = dialog.choice("into", page.say("form.into"), words)

    def preview() -> str:
        if not targets:
            return page.say("form.nothing_to_merge")
        if chosen.value is None:
            return page.say("form.choose_into")
        return page.of(after_merge(incident, targets[int(chosen.value)], page.actor, now_ms))

    dialog.preview(preview, chosen)


def _some_of(
    dialog: Dialog, page: Framed, incident: Incident, conditions: Sequence[Condition], given: dict[str, Any]
) -> None:
    """Which conditions become an incident of their own, with what would come of it."""
    now_ms, registry = page.context.clock_ms(), page.shared.registries.recent()
    words = {}
    for i, one in enumerate(conditions):
        name = page.of(condition_name(one, registry, page.context.catalogue))
        until = page.say("incident_page.lasts") if one.active else page.moment(one.resolved_at_ms)
        words[i] = page.say("form.condition_time", name=name, since=page.moment(one.since_ms), until=until)
    ticked = given["conditions"] = dialog.several("conditions", page.say("form.conditions"), words)

    def preview() -> str:
        if not 0 < len(ticked.value) < len(conditions):
            return page.say("form.choose_some")
        return page.of(after_split(incident, [conditions[i] for i in ticked.value], page.actor, now_ms))

    dialog.preview(preview, ticked)


def _line(page: Framed, one: Incident) -> str:
    """An incident in a list to choose from: number, urgency, title, and since when."""
    title = page.of(one.titled())
    colour, since = page.say(f"incident.{one.colour}"), page.moment(one.since_ms)
    return page.say("form.incident", id=one.id, colour=colour, title=title, since=since)


def _targets(page: Framed, incident: Incident) -> dict[int, Incident]:
    """The open incidents within reach that it can be merged into, by number."""
    with page.context.database.read() as connection:
        found = incident_store.list_incidents(connection, open_only=True, limit=_LISTED)
    mine = [one for one in found if one.id != incident.id and in_jurisdiction(one, page.actor)]
    return {one.id: one for one in can_take(incident, mine, page.actor, page.context.clock_ms())}


def _order(action: Action, comment: str | None, given: dict[str, Any], conditions: tuple[Condition, ...]) -> Order:
    said = {name: field.value for name, field in given.items()}
    to = None
    if "department" in said:
        to = Assignment(
            said.get("region") or "",
            said.get("responsible") or "",
            Department(said["department"]) if said["department"] else None,
            tuple(Department(one) for one in said.get("joint") or ()),
        )
    return Order(
        action,
        comment=comment or None,
        assignment=to,
        matter=said.get("matter") or "",
        reason=str(said.get("reason") or ""),
        grade=said.get("grade") or "",
        score=said.get("score"),
        into=None if said.get("into") is None else int(said["into"]),
        conditions=tuple(conditions[i].key for i in said.get("conditions") or ()),
    )


def _do(page: Framed, incident_id: int, order: Order) -> None:
    actor = page.acting()
    if not page.named:
        actor = replace(actor, name=page.name)
    perform(page.context, incident_id, order, actor, page.keeper.regions)


def _offer(page: Framed, incident: Incident) -> _Offer:
    regions: Regions = page.keeper.regions()
    with page.context.database.read() as connection:
        now = incident_store.get(connection, incident.id)
        check_visible(now, page.actor)
        terms = people_store.appointments(connection)
        everybody = people_store.list_people(connection) if page.actor.may(Right.STAFF) else []
    everybody = people_store.visible_people(page.actor, everybody, terms, regions, page.context.clock_ms())
    registry = page.shared.registries.recent()
    names = {r.code: page.of(Text(r.zh, r.en)) for r in registry.regions}
    role = {p.name: f"{p.name} · {page.say(f'person.{p.role}')}" for p in everybody}
    return _Offer(suggestion(page.context, now, regions), names, role)


def _unit(unit: str) -> str:
    return "" if unit == "1" else f"({unit})"
