"""Corrections by people: the place of a report, the record of the handling. Pure.

The history keeps the old and the new; what was said first stays in it.
"""

from dataclasses import asdict, replace
from typing import Any

from governance.incidents.deadlines import DeadlinePolicy
from governance.incidents.model import Effects, EntryKind, Incident, Notify, State
from governance.incidents.reminders import with_case
from governance.incidents.step_deadline import with_step_deadline
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Right
from infra.errors import Refused
from infra.texts import Text, say


def move(incident: Incident, place: Place, actor: Actor, now_ms: int) -> tuple[Incident, Effects]:
    """An open incident at another place. Raises Forbidden without the right to report, Refused where it is over."""
    actor.must(Right.REPORT)
    if not incident.is_open:
        raise Refused(say("incident.cannot_move", id=incident.id, state=say(f"state.{incident.state}")))
    values = {"id": incident.id, "by": actor.name, "old": _where(incident.place), "new": _where(place)}
    details = {"from": asdict(incident.place), "to": asdict(place)}
    after, effects = with_case(
        incident, incident.case, EntryKind.MOVED, actor.name, say("incident.moved", **values), details, now_ms,
        Notify.INFORM,
    )  # fmt: skip
    return replace(after, place=place), _correction_effects(effects, actor)


def correct_handling(
    incident: Incident, words: str, shown: tuple[str, ...], actor: Actor, *, undone: bool, now_ms: int,
    policy: DeadlinePolicy,
) -> tuple[Incident, Effects]:  # fmt: skip
    """Replace the record of the handling; ``undone``: the case was not handled and goes back to that step.

    Raises Refused unless the case is handled, by this person, and nobody has gone on with it.
    """
    actor.must(Right.HANDLE)
    if incident.state is not State.HANDLED or incident.case.handler != actor.name:
        raise Refused(say("incident.cannot_correct", id=incident.id, state=say(f"state.{incident.state}")))
    text = say("incident.unhandled" if undone else "incident.corrected", id=incident.id, by=actor.name)
    after, effects = with_case(
        incident, incident.case, EntryKind.CORRECTED, actor.name, text, {}, now_ms, Notify.INFORM
    )
    if undone:
        after = with_step_deadline(replace(after, state=State.HANDLING), now_ms, policy)
    return after, _correction_effects(effects, actor, to_state=after.state, comment=words, attachments=shown)


def _correction_effects(effects: Effects, actor: Actor, **more: Any) -> Effects:
    return replace(effects, entry=replace(effects.entry, role=actor.role.value, **more))


def _where(place: Place) -> str | Text:
    """A place in words: its point, else the code of its water or region."""
    if place.lon is not None and place.lat is not None:
        return f"{place.lat:.5f}, {place.lon:.5f}"
    return place.reach or place.region or say("incident.nowhere")
