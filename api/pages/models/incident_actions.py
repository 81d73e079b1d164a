"""What a dialog asks for before somebody acts on an incident, from the same table that judges the action. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from governance.incidents import lifecycle
from governance.incidents.deadlines import EMERGENCY_LIMITS
from governance.incidents.finding import FindingKind
from governance.incidents.headline import format_limit
from governance.incidents.lifecycle import ADVANCING_ACTIONS, TRANSITIONS, Transition
from governance.incidents.model import (
    Action,
    Condition,
    Entry,
    Evidence,
    FalseAlarm,
    Incident,
    Order,
    PauseReason,
)
from governance.organisation.roles import Actor
from infra.errors import WaterError
from infra.texts import Text, ended, say
from infra.times import beijing
from sensors.parameters import Catalogue
from sensors.stations import Registry

Evidences = tuple[frozenset[Evidence], ...]
"""Alternatives of evidence: of each set at least one sort must be shown."""


class Need(StrEnum):
    """Whether a field is there, and whether it must be filled in."""

    NO = "no"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Asks:
    """The fields of a dialog; ``reasons`` are the codes to choose from, ``conditions`` those that can be split off.

    ``departments``: of several that have not done their part yet, the one that has to be named.
    """

    comment: Need
    proof: Need
    reasons: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    to: bool = False
    into: bool = False
    score: bool = False
    conditions: tuple[Condition, ...] = ()
    departments: tuple[str, ...] = ()


_SHOWS_MORE = frozenset(
    {Action.COMMENT, Action.VERIFY, Action.REWORK, Action.RETURN, Action.REOPEN, Action.EMERGENCY, Action.SUPERVISE}
)
"""Actions that may bring a photo or a measurement though they need not."""

BUTTONS = (
    *ADVANCING_ACTIONS,
    Action.REOPEN,
    Action.COMMENT,
    Action.RESUME,
    Action.REWORK,
    Action.RETURN,
    Action.TRANSFER,
    Action.PAUSE,
    Action.REJECT,
    Action.FALSE_ALARM,
    Action.SUPERVISE,
    Action.RELEASE,
    Action.MERGE,
    Action.SPLIT,
    Action.EMERGENCY,
    Action.EVALUATE,
)
"""All actions in the order of a row: first what carries the case on."""

ON = frozenset((*ADVANCING_ACTIONS, Action.REOPEN))
"""What carries a case on; the rest is quieter."""


def asks(incident: Incident, action: Action, needs: Evidences | None = None) -> Asks:
    """What to ask before ``action``; raises KeyError for one that the state does not know.

    ``needs`` is the evidence that the process asks of finishing, instead of what the table does.
    """
    step: Transition = TRANSITIONS[incident.state, action]
    evidence = needs if needs is not None and action is Action.FINISH else step.evidence
    text = any(kinds == {Evidence.TEXT} for kinds in evidence)
    waiting = tuple(str(d) for d in incident.case.joint if d not in incident.case.contributed)
    shown = any(Evidence.TEXT not in kinds for kinds in evidence)
    return Asks(
        comment=Need.REQUIRED if text else Need.OPTIONAL,
        proof=Need.REQUIRED if shown else Need.OPTIONAL if action in _SHOWS_MORE else Need.NO,
        reasons=tuple(_REASONS.get(action, ())),
        grades=tuple(EMERGENCY_LIMITS) if action is Action.EMERGENCY else (),
        to=action in (Action.DISPATCH, Action.TRANSFER),
        into=action is Action.MERGE,
        score=action is Action.EVALUATE,
        conditions=incident.conditions if action is Action.SPLIT else (),
        departments=waiting if action is Action.CONTRIBUTE and len(waiting) > 1 else (),
    )


def condition_name(one: Condition, registry: Registry, catalogue: Catalogue, firing: Entry | None = None) -> Text:
    """A condition as people know it: where, what, beyond which limit; ``firing`` is the entry of its newest finding."""
    where = Text(one.station, one.station)
    if one.station in registry:
        station = registry[one.station]
        where = Text(station.zh, station.en)
    kind = str(firing.details.get("kind", "")) if firing is not None else ""
    what = say(f"rule_kind.{kind}") if kind in {*FindingKind} else say("form.condition_other")
    if one.parameter not in catalogue:
        return say("form.condition_bare", station=where, what=what)
    parameter = catalogue[one.parameter]
    limit = firing.limit if firing is not None else None
    shown = what if limit is None else say("headline.limit", limit=format_limit(limit))
    return say("form.condition", station=where, parameter=Text(parameter.zh, parameter.en), what=shown)


def after_merge(incident: Incident, into: Incident, actor: Actor, now_ms: int) -> Text:
    """What merging would make of the two, or why it cannot be."""
    try:
        _, (kept, _) = lifecycle.merge(incident, into, Order(Action.MERGE, into=into.id), actor, now_ms)
    except WaterError as error:
        return ended(error.text)
    return say(
        "form.after_merge",
        id=incident.id,
        into=into.id,
        colour=say(f"incident.{kept.colour}"),
        count=len(kept.conditions),
        since=beijing(kept.since_ms),
    )


def after_split(incident: Incident, taken: Iterable[Condition], actor: Actor, now_ms: int) -> Text:
    """What splitting would make of an incident, or why it cannot be."""
    order = Order(Action.SPLIT, comment="-", conditions=tuple(c.key for c in taken))
    try:
        (rest, _), (new, _) = lifecycle.split(incident, order, actor, now_ms)
    except WaterError as error:
        return ended(error.text)
    return say(
        "form.after_split",
        id=incident.id,
        left=len(rest.conditions),
        taken=len(new.conditions),
        active=sum(c.active for c in new.conditions),
        since=beijing(new.since_ms),
    )


def can_take(incident: Incident, others: Iterable[Incident], actor: Actor, now_ms: int) -> list[Incident]:
    """Into which of some incidents one can be merged, likeliest first: of the same reach, then the newest."""

    def likely(one: Incident) -> tuple[bool, bool, int]:
        here = {incident.station, incident.place.reach} & {one.station, one.place.reach} - {""}
        return not here, one.retrospective, -one.id

    found = []
    for one in others:
        try:
            lifecycle.merge(incident, one, Order(Action.MERGE, into=one.id), actor, now_ms)
        except WaterError:
            continue
        found.append(one)
    return sorted(found, key=likely)


_REASONS = {Action.FALSE_ALARM: tuple(FalseAlarm), Action.PAUSE: tuple(PauseReason)}
