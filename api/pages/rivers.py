"""All rivers ``/rivers``, and one river, one file (一河一档) ``/rivers/{key}``: to read each morning, and to print."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

import numpy as np
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from api import problems, river_file, svg
from api.access import needed_right
from api.pages import gauges, list_export
from api.pages.forms import Fields
from api.pages.list_export import Table, instant
from api.pages.menu import INCIDENT, RIVER, RIVERS
from api.pages.models import gauges as gauge_models
from api.pages.models import rivers as models
from api.pages.models.overview import Model
from api.pages.models.patrols import WaterRow
from api.pages.models.patrols import rows as patrolled_water
from api.pages.models.rivers import Choice, DayClass, GoalForm, RiverRow
from api.pages.models.station import significant
from api.pages.view import PageRoute, View, Viewing, markup
from api.requests import whole_number
from api.routes.river_files import NewGoal, NewPlan, put, within_reach
from governance.incidents.model import Conflict
from governance.organisation.roles import Forbidden, Right
from governance.reports import patrols as patrol_store
from governance.reports import river_plans
from governance.reports.patrols import Patrol
from infra.errors import ConfigurationError, StorageUnavailable, WaterError
from infra.texts import Text, say
from infra.times import BEIJING, DAY_MS, beijing, beijing_day, to_ms
from ingest.storage.port import Latest
from sensors import live_class
from sensors.network import Level
from sensors.source_attribution import RiverTree
from sensors.standards import gb3838
from sensors.stations import Reach, Registry, Station, Water

PAGE_TOPICS = ("classes", "incidents")
LIST_TOPICS = ("classes", "incidents", "stations")
PLAN = needed_right("PUT", "/reaches/-/plan")
PATROLS = needed_right("GET", "/patrols")
MOST_INCIDENTS, MOST_PATROLS = 10, 8
PATROL_DAYS = 30
MOST_STATIONS = 40
"""Stations of a river whose days are shown."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


# -- the list ----------------------------------------------------------------------------------------------------------


@router.get(RIVERS.path)
async def show(v: Viewing) -> Response:
    """The rivers that the address asks for, or the blocks of the list that changed."""
    v.require(RIVERS.right)
    picture = await v.live.now()
    return await run_in_threadpool(_list, v, picture)


def _list(v: View, picture: Model | None) -> Response:
    if picture is None:
        return v.render("rivers.html", status=503, every=None)
    registry, choice = v.registries.recent(), Choice.of(v.query)
    every, found = _found(v, picture)
    limit = max(models.PAGE, whole_number(v.query.get("rows", "")[:6]) or 0)
    used = {code for row in every for code in row.streets}
    streets = [(one.code, Text(one.zh, one.en)) for one in registry.regions if one.level is Level.STREET]
    return v.render(
        "rivers.html",
        picture=picture,
        topics=LIST_TOPICS,
        every=every,
        found=found,
        rows=found[:limit],
        more=len(found) - limit,
        next_rows=limit + models.PAGE,
        choice=choice,
        streets=[one for one in streets if one[0] in used],
        waters=[water for water in Water if any(row.reach.water is water for row in every)],
        missed=sum(row.met is False for row in every),
        may_incidents=v.actor.may(Right.INCIDENTS),
        names=lambda keys: _names(v, keys),
    )


def _found(v: View, picture: Model) -> tuple[tuple[RiverRow, ...], list[RiverRow]]:
    """All rivers, and those that the address asks for."""
    every = models.rows(v.registries.recent(), picture, v.actor, v.keeper.regions())
    return every, models.chosen(every, Choice.of(v.query))


@router.post(RIVERS.path + "/export")
async def export(v: Viewing, given: Fields) -> Response:
    """The rivers of the list as a file."""
    v.require(RIVERS.right)
    picture = await v.live.now()
    if picture is None:
        raise StorageUnavailable(say("rivers_page.unreadable"))
    return await run_in_threadpool(_export, v, given, picture)


def _export(v: View, given: Mapping[str, str], picture: Model) -> Response:
    may_incidents = v.actor.may(Right.INCIDENTS)
    head = [v.say(f"rivers_page.{name}") for name in models.EXPORT_HEAD]
    rows = []
    for row in _found(v, picture)[1]:
        shown, target = row.shown, row.reach.target
        met = "" if target is None else "not_judged" if row.met is None else "met" if row.met else "missed"
        rows.append(
            (
                v.of(row.name),
                v.say(f"river.water_{row.reach.water}"),
                row.water_class.sign if row.water_class else "—",
                target.sign if target else "",
                v.say(f"rivers_page.{met}") if met else "",
                _names(v, shown.deciding) if shown else "",
                shown.judged if shown else 0,
                row.stations,
                row.silent,
                instant(shown.measured_ms) if shown else "",
                row.open if may_incidents else None,
            )
        )
    return list_export.answer(v, given, Table("rivers", head, rows))


def _names(v: View, keys: Iterable[str]) -> str:
    """Parameters one after the other."""
    return v.of(Text("、", ", ")).join(v.of(v.parameter(one)) for one in keys)


# -- one river ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """What somebody typed that was not kept: the form (``goal-0``, ``goal-new``, ``problem``), and why."""

    form: str
    goal: GoalForm
    problem: str
    wrong: Mapping[str, Text]
    error: Text | None = None
    status: int = 422


@router.get(RIVER.path)
async def river(v: Viewing, key: str) -> Response:
    """The page, or the blocks of it that changed."""
    v.require(RIVER.right)
    picture = await v.live.now()
    return await run_in_threadpool(_river, v, key, picture, None)


@router.post(RIVER.path)
async def change(v: Viewing, key: str, given: Fields) -> Response:
    """Change the plan by what a form says; then the page again."""
    v.require(PLAN)
    refusal = await run_in_threadpool(_change, v, key, given)
    if refusal is None:
        return RedirectResponse(v.here(done="plan") + "#plan", 303)
    picture = await v.live.now()
    return await run_in_threadpool(_river, v, key, picture, refusal)


def _river(v: View, key: str, picture: Model | None, refused: Refused | None) -> Response:
    registry, regions = v.registries.recent(), v.keeper.regions()
    mine = [station for station in registry.stations if station.reach == key]
    latest = v.context.store.latest([one.key for one in mine]) if mine else []
    file = river_file.gather(v.context, registry, v.actor, key, latest)
    page = models.page(file, registry, regions, _tree(registry), v.now_ms)
    recorded = models.recorded_days(file.classes, beijing_day(v.now_ms))
    heat = [(row, _days(v, registry[row.key], _sent(latest, row.key))) for row in page.stations[:MOST_STATIONS]]
    order = models.rows(registry, picture, v.actor, regions) if picture is not None else ()
    before, after = models.beside(order, key)
    address, public = _address(v, key)
    patrols = _patrols(v, key)
    return v.render(
        "river.html",
        status=200 if refused is None else refused.status,
        picture=picture,
        topics=PAGE_TOPICS,
        page=page,
        reach=page.reach,
        file=file,
        strip=models.strip(page, v.language == "en"),
        strip_size=(models.STRIP_WIDTH, models.STRIP_LEFT, models.STRIP_RIGHT, models.ROW),
        exceeded=models.exceeded(page, latest, {one.key: one.water for one in mine}),
        carried=gauge_models.loads({one.key: one.km for one in page.stations}, latest, v.context.catalogue, v.now_ms),
        kilograms=gauge_models.kilograms,
        rain=_rain(v, registry, page.reach),
        level=next((row for row in latest if row.parameter == "level" and row.value is not None), None),
        recorded=recorded,
        heat=heat,
        trend=models.trend(recorded),
        nearest=() if mine else models.nearest(page.reach, registry),
        before=before,
        after=after,
        patrols=patrols,
        passed=None if patrols is None else _passed(v, page.reach, patrols),
        patrol_days=PATROL_DAYS,
        incidents=file.incidents[:MOST_INCIDENTS],
        refused=refused,
        version=file.plan.version if file.plan else 0,
        may_plan=_may_plan(v, registry, key),
        may_incidents=v.actor.may(INCIDENT.right),
        address=address,
        public=public,
        sign=markup(svg.code(address, v.say("river.sign_code"))) if public else "",
        names=lambda keys: _names(v, keys),
        short=lambda value, key: significant(value, v.context.catalogue[key]),
        unit=lambda key: "" if v.context.catalogue[key].unit == "1" else f" {v.context.catalogue[key].unit}",
        ms=models.instant_ms,
        day=lambda at_ms: beijing(at_ms, "%Y-%m-%d"),
        printed=beijing(v.now_ms, "%Y-%m-%d %H:%M"),
        done=v.query.get("done") == "plan" and refused is None,
        form_of=GoalForm.of,
        blank=GoalForm(),
    )


def _rain(v: View, registry: Registry, reach: Reach) -> dict[date, float] | None:
    """The rain of each of the days that are shown, in mm; None where nothing measures it."""
    days = models.last_days(beijing_day(v.now_ms))
    found = gauges.rain_days(v, registry, reach, to_ms(datetime.combine(days[0], time(), BEIJING)))
    return None if found is None else {beijing_day(at): mm for at, mm in zip(found.at, found.mm, strict=True)}


def _sent(latest: Sequence[Latest], station: str) -> tuple[str, ...]:
    """The parameters that a station has sent."""
    return tuple(row.parameter for row in latest if row.station == station)


def _tree(registry: Registry) -> RiverTree | None:
    try:
        return RiverTree(registry)
    except ConfigurationError:  # the reaches flow in a circle
        return None


def _days(v: View, station: Station, sent: Sequence[str]) -> tuple[DayClass, ...]:
    """The class of a station on each of the last days, by the daily means of what was measured and is usable."""
    water = gb3838.Water.of(station.water)
    judged_by = live_class.DEFAULT_POLICY.items
    days = models.last_days(beijing_day(v.now_ms))
    start_ms = to_ms(datetime.combine(days[0], time(), BEIJING))
    columns = {}
    for key in sent:
        if key in judged_by and gb3838.limits(key, water) is not None:
            means = np.full(len(days), np.nan)
            found = v.context.store.thinned(station.key, key, start_ms, v.now_ms + 1, DAY_MS)
            means[(found.at - start_ms) // DAY_MS] = found.value
            columns[key] = means
    if not columns:
        return tuple(DayClass(day, None) for day in days)
    judged = gb3838.classes(columns, water, items=judged_by)
    return tuple(models.day_class(day, judged[i]) for i, day in enumerate(days))


def _patrols(v: View, key: str) -> tuple[Patrol, ...] | None:
    """The newest patrols of a river that concern who looks; None for who may not see any."""
    if not v.actor.may(PATROLS):
        return None
    with v.context.database.read() as connection:
        found = patrol_store.listing(connection, reach=key, limit=5 * MOST_PATROLS)
    return tuple(one for _, one in found if patrol_store.may_see(v.actor, one))[:MOST_PATROLS]


def _passed(v: View, reach: Reach, patrols: Sequence[Patrol]) -> WaterRow | None:
    """How much of a river was patrolled lately; None where no patrol was ever recorded."""
    with v.context.database.read() as connection:
        passed = patrol_store.passed_water(connection, v.now_ms - PATROL_DAYS * DAY_MS, v.now_ms + 1)
    return None if passed is None else patrolled_water((reach,), passed, patrols)[0]


def _address(v: View, key: str) -> tuple[str, bool]:
    """The address on the river's sign, and whether phones elsewhere reach it."""
    notifications = v.context.notifications
    links = notifications.links if notifications else None  # knows our address as phones reach it
    base = (links.base if links else str(v.request.base_url)).rstrip("/")
    return f"{base}/r/{key}", models.is_public(base)


def _may_plan(v: View, registry: Registry, key: str) -> bool:
    if not v.actor.may(PLAN):
        return False
    try:
        within_reach(registry, v.actor, key)
    except Forbidden:
        return False
    return True


def _change(v: View, key: str, given: Mapping[str, str]) -> Refused | None:
    """Change the plan; None once it is as the form says, else what was typed and why it was refused."""
    at = whole_number(given.get("index", ""), 3)
    form = GoalForm(**{name: given.get(name, "") for name in GoalForm.__slots__})
    problem = given.get("problem", "")
    of_problem = given.get("do") == "problem"
    name = "problem" if of_problem else f"goal-{'new' if at is None else at}"
    goal, wrong = (None, {}) if of_problem or given.get("remove") else models.read_goal(form)
    if of_problem and len(problem) > models.LONGEST_PROBLEM:
        wrong = {"problem": say("rivers_page.too_long", most=models.LONGEST_PROBLEM)}
    if wrong:
        return Refused(name, form, problem, wrong)
    with v.context.database.read() as connection:
        plan = river_plans.get(connection, key)
    goals = list(plan.goals) if plan else []
    if given.get("version", "") != str(plan.version if plan else 0):
        if models.kept_already(plan, goal, at, problem if of_problem else None):  # sent twice
            return None
        return Refused(name, form, problem, {}, say("river.plan_conflict"), 409)
    try:
        if of_problem:
            _put(v, key, problem, goals, given["version"])
        elif at is None or at < len(goals):
            _put(v, key, plan.problem if plan else "", models.with_goal(goals, at, goal), given["version"])
    except Conflict:
        return Refused(name, form, problem, {}, say("river.plan_conflict"), 409)
    except WaterError as error:
        return Refused(name, form, problem, {}, error.text, problems.of(error).sort.status)
    return None


def _put(v: View, key: str, problem: str, goals: Sequence[river_plans.Goal], version: str) -> None:
    new = NewPlan(
        problem=problem,
        goals=[NewGoal(**{name: getattr(one, name) for name in river_plans.Goal.__slots__}) for one in goals],
    )
    put(v.context, v.registries, v.actor, key, new, f'"{version}"')
