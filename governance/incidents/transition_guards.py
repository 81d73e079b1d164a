"""Guards of the transition table: what an action requires beside the state, the role and the evidence. Pure.

A `Guard` asks about the incident, and about the actor where one is given (None: whoever it is). A `PersonGuard` asks
whether this person is excluded although the role is not; it returns the key of the sentence that says why, or None.
"""

from collections.abc import Callable

from governance.incidents.model import DEADLINE_ACTOR, Case, Incident
from governance.organisation.roles import Actor, Department, Role

Guard = Callable[[Incident, Actor | None], bool]
PersonGuard = Callable[[Incident, Actor], str | None]


# -- conditions --------------------------------------------------------------------------------------------------------


def always(_incident: Incident, _actor: Actor | None) -> bool:
    return True


def not_paused(incident: Incident, _actor: Actor | None) -> bool:
    return incident.case.paused_at_ms is None


def paused(incident: Incident, _actor: Actor | None) -> bool:
    return incident.case.paused_at_ms is not None


def supervised(incident: Incident, _actor: Actor | None) -> bool:
    return incident.case.supervised_at_ms is not None


def unsupervised_or_outranked(incident: Incident, actor: Actor | None) -> bool:
    """Nobody supervises it yet, or the actor stands above who does."""
    return incident.case.supervised_at_ms is None or (actor is not None and _outranks(actor, incident.case))


def emergency_unreported(incident: Incident, _actor: Actor | None) -> bool:
    return bool(incident.case.emergency) and incident.case.emergency_reported_at_ms is None


def joint_parts_open(incident: Incident, _actor: Actor | None) -> bool:
    return bool(waiting_departments(incident))


def joint_parts_done(incident: Incident, _actor: Actor | None) -> bool:
    return not waiting_departments(incident)


def several_conditions(incident: Incident, _actor: Actor | None) -> bool:
    return len(incident.conditions) > 1


def not_merged(incident: Incident, _actor: Actor | None) -> bool:
    return incident.case.merged_into is None


def waiting_departments(incident: Incident) -> tuple[Department, ...]:
    """The joint departments that have not done their part yet."""
    return tuple(d for d in incident.case.joint if d not in incident.case.contributed)


def _outranks(actor: Actor, case: Case) -> bool:
    """Whether the actor may replace the supervision (督办): a person's only from a higher level."""
    level = case.supervised_level
    if level is None:
        return False
    return actor.level <= level if case.supervised_by == DEADLINE_ACTOR else actor.level < level


# -- person guards -----------------------------------------------------------------------------------------------------


def anybody(_incident: Incident, _actor: Actor) -> str | None:
    return None


def not_a_handler_of_it(incident: Incident, actor: Actor) -> str | None:
    """Who handled a case neither verifies nor closes it."""
    return "incident.own_work" if actor.name in incident.case.handlers else None


def at_least_the_supervisors_level(incident: Incident, actor: Actor) -> str | None:
    level = incident.case.supervised_level
    return "incident.supervised_above" if level is not None and actor.level > level else None


def of_the_lead_department(incident: Incident, actor: Actor) -> str | None:
    """A handler acts for the lead department only; other roles are not bound to one."""
    lead = actor.department is not None and actor.department is incident.case.department
    return None if lead or actor.role is not Role.HANDLER else "incident.other_department"


def of_a_waiting_department(incident: Incident, actor: Actor) -> str | None:
    """A handler does the part of a joint department only where it is their own and still to be done."""
    waiting = actor.department in waiting_departments(incident)
    return None if waiting or actor.role is not Role.HANDLER else "incident.other_department"
