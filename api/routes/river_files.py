"""One river, one file (一河一档): everything about a reach in one answer; and its plan (一河一策)."""

from fastapi import Response
from pydantic import Field

from api import entity_tags
from api.access import Who
from api.context import Context
from api.entity_tags import IfMatch
from api.registries import Registries
from api.requests import RequestContext, RequestRegistries, Strict, Words
from api.responses import answer
from api.river_file import PlanView, RiverFile, find, gather, plan_view
from api.routes.router import subject_router
from governance.organisation.roles import Actor, Forbidden
from governance.reports import river_plans
from governance.reports.river_plans import Goal, Plan
from infra.errors import NotFound
from infra.texts import say
from sensors.stations import Registry

router = subject_router("reaches", "/reaches")


class NewGoal(Strict):
    """A goal of the plan."""

    goal: Words = Field(min_length=1, max_length=500)
    measure: Words = Field("", max_length=2000)
    responsible: Words = Field("", max_length=200)
    due: Words = Field("", pattern=r"^(\d{4}-\d\d-\d\d)?$", description="2026-12-31")
    progress: float = Field(0.0, ge=0, le=1)


class NewPlan(Strict):
    """The plan of a reach, as a whole."""

    problem: Words = Field("", max_length=4000)
    goals: list[NewGoal] = Field(max_length=100)


@router.get("/{key}/file", response_model=RiverFile)
def get_file(context: RequestContext, registries: RequestRegistries, who: Who, key: str) -> Response:
    """Everything about a reach; of its incidents those that concern the caller."""
    return answer(gather(context, registries.now(), who, key))


@router.get("/{key}/plan", response_model=PlanView)
def get_plan(context: RequestContext, registries: RequestRegistries, who: Who, key: str) -> Response:
    """The plan of a reach; 404 where nobody made one."""
    find(registries.now(), key)
    with context.database.read() as connection:
        plan = river_plans.get(connection, key)
    if plan is None:
        raise NotFound(say("registry.no_plan", key=key))
    return answer(plan_view(plan, who), headers=entity_tags.headers(plan.version))


@router.put("/{key}/plan", response_model=PlanView)
def put_plan(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewPlan, if_match: IfMatch = None
) -> Response:
    """Give a reach this plan instead of the one it had; 412 when that is no longer the one `If-Match` names.

    403 for a reach of which no station lies in a region of the caller.
    """
    made = put(context, registries, who, key, new, if_match)
    return answer(plan_view(made, who), headers=entity_tags.headers(made.version))


def put(
    context: Context, registries: Registries, who: Actor, key: str, new: NewPlan, if_match: str | None = None
) -> Plan:
    """Replace the plan of a reach. Raises NotFound, Forbidden, and Conflict for another one than was read."""
    registry = registries.now()
    find(registry, key)
    within_reach(registry, who, key)
    goals = [Goal(**goal.model_dump()) for goal in new.goals]
    with context.database.write() as connection:
        before = river_plans.get(connection, key, lock=True)
        entity_tags.unchanged(if_match, before.version if before else 0, key)
        return river_plans.put(
            connection, key, new.problem, goals, by=who.name, role=who.role.value, now_ms=context.clock_ms()
        )


def within_reach(registry: Registry, who: Actor, key: str) -> None:
    """Raises Forbidden for a reach of which no station lies in a region of somebody."""
    places = {station.region for station in registry.stations if station.reach == key}
    if who.regions is not None and not any(who.covers(place, key) for place in places):
        shown = ", ".join(sorted(places - {""})) or "—"
        raise Forbidden(say("registry.reach_elsewhere", reach=key, regions=shown, name=who.name))
