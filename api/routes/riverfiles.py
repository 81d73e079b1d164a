"""One river, one file (一河一档): everything about a reach in one answer; and its plan (一河一策)."""

import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field

from api import assessing
from api.access import Who
from api.answers import answer, when
from api.asking import Asked, Known, Strict, Words
from api.classes import LiveClassView, view
from governance import audit, incidents, lifecycle, people, plans
from governance.assessment import CLASSES
from governance.plans import Goal, Plan
from governance.roles import Right
from ingest.classes import REACH, shown
from sensors.errors import NotFound
from sensors.network import length_km
from sensors.stations import Reach, Registry

router = APIRouter(prefix="/reaches", tags=["reaches"])

DAYS = 400
"""Days of class history told."""
INCIDENTS = 200
"""Newest incidents looked through for those of the reach."""


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


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as it stands; every version before it is in the trail (`kind=plan`)."""

    problem: str
    goals: list[Goal]
    version: int
    changed_at: str | None
    changed_by: str


@dataclass(frozen=True, slots=True)
class RiverFile:
    """A reach: facts, chiefs, stations, outfalls, live class and its history by day, incidents, plan."""

    key: str
    zh: str
    en: str
    water: str
    length_km: float
    downstream: str | None
    target: str | None
    note: str
    chiefs: list[str]
    stations: list[dict[str, str]]
    outfalls: list[dict[str, Any]]
    live: LiveClassView | None
    classes: list[dict[str, Any]]
    incidents: list[dict[str, Any]]
    plan: PlanView | None


@router.get("/{key}/file", response_model=RiverFile)
def get_file(asked: Asked, known: Known, who: Who, key: str) -> Response:
    """Everything about a reach; of its incidents those that concern who asks."""
    registry = known.now()
    reach = _reach(registry, key)
    with asked.database.read() as connection:
        chiefs = assessing.chiefs(people.appointments(connection), registry, key, asked.clock_ms())
        live = shown(connection, REACH).get(key)
        days = audit.listing(connection, what=CLASSES, limit=DAYS)
        found = incidents.list_incidents(connection, limit=INCIDENTS) if who.may(Right.INCIDENTS) else []
        plan = plans.get(connection, key)
    mine = {station.key for station in registry.stations if station.reach == key}
    body = RiverFile(
        key=reach.key,
        zh=reach.zh,
        en=reach.en,
        water=reach.water,
        length_km=round(length_km(reach.line), 3),
        downstream=reach.downstream,
        target=None if reach.target is None else reach.target.roman,
        note=reach.note,
        chiefs=chiefs,
        stations=[{"key": s.key, "zh": s.zh, "en": s.en} for s in registry.stations if s.key in mine],
        outfalls=[{"key": o.key, "zh": o.zh, "en": o.en, "km": o.km} for o in registry.outfalls if o.reach == key],
        live=view(live),
        classes=[
            {"at": when(line.at_ms), **told[key]} for line in days if key in (told := json.loads(line.body)["reaches"])
        ],
        incidents=[
            {"id": i.id, "state": i.state, "colour": i.colour, "title": i.title, "since": when(i.since_ms)}
            for i in found
            if (i.place.reach == key or i.station in mine) and lifecycle.concerns(i, who)
        ],
        plan=_plan(plan),
    )
    return answer(body)


@router.get("/{key}/plan", response_model=PlanView)
def get_plan(asked: Asked, known: Known, key: str) -> Response:
    """The plan of a reach; 404 where nobody made one."""
    _reach(known.now(), key)
    with asked.database.read() as connection:
        plan = plans.get(connection, key)
    if plan is None:
        raise NotFound(f"reach {key} has no plan yet")
    return answer(_plan(plan))


@router.put("/{key}/plan", response_model=PlanView)
def put_plan(asked: Asked, known: Known, who: Who, key: str, new: NewPlan) -> Response:
    """Give a reach this plan instead of the one it had."""
    _reach(known.now(), key)
    goals = [Goal(**goal.model_dump()) for goal in new.goals]
    with asked.database.write() as connection:
        made = plans.put(connection, key, new.problem, goals, by=who.name, role=who.role.value, now_ms=asked.clock_ms())
    return answer(_plan(made))


def _reach(registry: Registry, key: str) -> Reach:
    found = next((reach for reach in registry.reaches if reach.key == key), None)
    if found is None:
        raise NotFound(f"reach {key[:80]!r} is not registered")
    return found


def _plan(plan: Plan | None) -> PlanView | None:
    if plan is None:
        return None
    return PlanView(plan.problem, list(plan.goals), plan.version, when(plan.changed_at_ms), plan.changed_by)
