"""The page of a reach (一河一档) and the list of all reaches, over the answer of ``GET /reaches/{key}/file``. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

from api.classes import LiveClassView
from api.pages.models.overview import Data, data_state
from api.river_file import OfficeView, RiverFile
from api.svg import Day
from governance.reports.river_plans import Goal
from infra.errors import Refused
from infra.texts import Text, say
from infra.times import beijing_day, to_ms
from ingest.analysis.live_classes import ShownClass
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry

DAYS_SHOWN = 60
"""Days of the class history that are drawn: what still reads on a phone and on A4; the answer holds more."""


@dataclass(frozen=True, slots=True)
class Level:
    """Those who hold office in one region, chiefs first."""

    level: str
    region: Text
    people: tuple[OfficeView, ...]


@dataclass(frozen=True, slots=True)
class StationRow:
    """A station on the way down the reach: its class and how fresh its newest reading is."""

    key: str
    name: Text
    km: float
    newest_at_ms: int | None
    state: Data
    water_class: WaterClass | None
    evidence: Text | None


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A goal of the plan; ``late`` once its day is past and it is not reached."""

    goal: str
    measure: str
    responsible: str
    due: str
    progress: float
    late: bool


@dataclass(frozen=True, slots=True)
class ReachPage:
    """What the page shows. ``month_met`` of ``month_told`` days of this month the target was met."""

    key: str
    name: Text
    water: str
    length_km: float
    note: str
    downstream: str
    downstream_name: Text | None
    live: LiveClassView | None
    live_class: WaterClass | None
    target: WaterClass | None
    month_met: int
    month_told: int
    chiefs: tuple[str, ...]
    levels: tuple[Level, ...]
    complaints: str
    stations: tuple[StationRow, ...]
    outfalls: tuple[dict[str, Any], ...]
    days: tuple[Day, ...]
    told: tuple[tuple[str, str, str], ...]
    incidents: tuple[dict[str, Any], ...]
    problem: str
    goals: tuple[GoalRow, ...]
    plan_changed: tuple[int, str] | None
    plan_version: int
    outline: tuple[tuple[float, float], ...]
    places: tuple[tuple[str, Text, float, float], ...]


def page(file: RiverFile, registry: Registry, now_ms: int) -> ReachPage:
    """The page of a reach at an instant."""
    reach = next(one for one in registry.reaches if one.key == file.key)
    below = registry.reach(file.downstream or "")
    today = beijing_day(now_ms)
    by_day = classes_by_day(file.classes)
    this_month = [row for day, row in by_day.items() if (day.year, day.month) == (today.year, today.month)]
    met = [row["met"] for row in this_month if row.get("met") is not None]
    return ReachPage(
        key=file.key,
        name=Text(file.zh, file.en),
        water=file.water,
        length_km=file.length_km,
        note=file.note,
        downstream=file.downstream or "",
        downstream_name=Text(below.zh, below.en) if below else None,
        live=file.live,
        live_class=_class(file.live.water_class) if file.live else None,
        target=_class(file.target),
        month_met=sum(met),
        month_told=len(met),
        chiefs=tuple(file.chiefs),
        levels=levels(file.offices),
        complaints=file.complaints,
        stations=tuple(
            StationRow(
                key=s.key,
                name=Text(s.zh, s.en),
                km=s.km,
                newest_at_ms=instant_ms(s.newest_at),
                state=data_state(instant_ms(s.newest_at), s.interval_s, now_ms),
                water_class=_class(s.live.water_class) if s.live else None,
                evidence=Text(s.live.zh, s.live.en) if s.live else None,
            )
            for s in file.stations
        ),
        outfalls=tuple(file.outfalls),
        days=last_days(by_day, today),
        told=tuple(
            (day.isoformat(), str(row["class"] or "—"), ", ".join(row.get("deciding") or ()))
            for day, row in sorted(by_day.items(), reverse=True)
        ),
        incidents=tuple(file.incidents),
        problem=file.plan.problem if file.plan else "",
        goals=tuple(
            GoalRow(g.goal, g.measure, g.responsible, g.due, g.progress, _late(g.due, g.progress, today))
            for g in (file.plan.goals if file.plan else ())
        ),
        plan_changed=None if file.plan is None else (instant_ms(file.plan.changed_at) or 0, file.plan.changed_by),
        plan_version=file.plan.version if file.plan else 0,
        outline=tuple(reach.line),
        places=tuple((s.key, Text(s.zh, s.en), s.lon, s.lat) for s in registry.stations if s.reach == file.key),
    )


def with_goal(goals: Sequence[Goal], index: int | None, new: Goal | None) -> list[Goal]:
    """The goals with one put in the place of another (None: at the end), or with one taken away. Raises Refused."""
    changed = list(goals)
    if new is None:
        if index is not None:
            del changed[index]
        return changed
    if not new.goal.strip():
        raise Refused(say("river.goal_needs_words"))
    if index is None:
        changed.append(new)
    else:
        changed[index] = new
    return changed


def levels(offices: Sequence[OfficeView]) -> tuple[Level, ...]:
    """Offices by their region, in the order they come."""
    return tuple(
        Level(level, Text(zh, en), tuple(held))
        for (level, _, zh, en), held in groupby(offices, lambda o: (o.level, o.region, o.region_zh, o.region_en))
    )


def classes_by_day(told: Iterable[Mapping[str, Any]]) -> dict[date, Mapping[str, Any]]:
    """What was written down of each day in Beijing; of several entries of a day the newest, which comes first."""
    found: dict[date, Mapping[str, Any]] = {}
    for row in told:
        found.setdefault(beijing_day(instant_ms(row["at"]) or 0), row)
    return found


def last_days(by_day: Mapping[date, Mapping[str, Any]], today: date) -> tuple[Day, ...]:
    """Every day of the last ones, also those nobody wrote down; from the first that was."""
    if not by_day:
        return ()
    first = max(min(by_day), today - timedelta(days=DAYS_SHOWN - 1))
    days = [first + timedelta(days=i) for i in range((today - first).days + 1)]
    return tuple(Day(f"{day:%m-%d}", _class(by_day[day]["class"]) if day in by_day else None) for day in days)


@dataclass(frozen=True, slots=True)
class ReachRow:
    """A reach in the list of all."""

    key: str
    name: Text
    water: str
    live_class: WaterClass | None
    target: WaterClass | None
    met: bool | None
    evidence: Text | None
    stations: int
    open: int


def rows(registry: Registry, live: Mapping[str, ShownClass], open_by_reach: Mapping[str, int]) -> tuple[ReachRow, ...]:
    """All reaches, the worst water first; those that nobody can judge last."""
    found = []
    for reach in registry.reaches:
        shown = live.get(reach.key)
        found.append(
            ReachRow(
                key=reach.key,
                name=Text(reach.zh, reach.en),
                water=reach.water,
                live_class=shown.water_class if shown else None,
                target=reach.target,
                met=shown.met if shown else None,
                evidence=Text(shown.text_zh, shown.text_en) if shown else None,
                stations=sum(station.reach == reach.key for station in registry.stations),
                open=open_by_reach.get(reach.key, 0),
            )
        )
    return tuple(sorted(found, key=lambda r: (r.live_class is None, -(r.live_class or 0), -r.open, r.key)))


def _class(text: str | None) -> WaterClass | None:
    return None if text is None else WaterClass.of(text)


def instant_ms(text: str | None) -> int | None:
    """The ms of an instant as it is answered; None for none."""
    return None if text is None else to_ms(datetime.fromisoformat(text))


def _late(due: str, progress: float, today: date) -> bool:
    return bool(due) and progress < 1 and due < today.isoformat()
