"""The large screen: the worst water, the most urgent incidents, five figures and the mix of classes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from api.pages.models.drawing import Mark, Sheet, Sizes, Water, draw
from api.pages.models.incident import deadline
from api.pages.models.overview import Data, IncidentView, Model, ReachView, StationView, worst_colours
from api.titles import place
from governance.incidents.headline import WALL_MAX_CHARS
from governance.incidents.lifecycle import in_jurisdiction
from governance.organisation.roles import Actor
from infra.texts import Text
from ingest.analysis.live_classes import ShownClass
from sensors.standards import gb3838
from sensors.standards.gb3838 import Direction, WaterClass
from sensors.stations import Reach, Registry

URGENT = 3
"""Incidents that are named."""
MAP = (1118.0, 768.0)
SIZES = Sizes(badge=46.0, letter=30.0, margin=90.0, mark=11.0, foot=84.0)


@dataclass(frozen=True, slots=True)
class Lead:
    """The parameter that decides a class: its newest value at the worst station, and how many times its limit that is;
    ``times`` None where a multiple says nothing (oxygen, pH).
    """

    parameter: str
    value: float
    limit: float | None
    times: float | None


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst reach: its class, what decides it, and its most urgent open incident."""

    reach: ReachView
    target: WaterClass | None
    lead: Lead | None
    incident: IncidentView | None


@dataclass(frozen=True, slots=True)
class Urgent:
    """An open incident: its short title, the sort (``over``, ``soon``, ``left`` …) and the words of its deadline."""

    incident: IncidentView
    title: Text
    sort: str
    words: Text


@dataclass(frozen=True, slots=True)
class Wall:
    """What the large screen shows. ``open`` and ``overdue`` are the same as on the map and in the inbox: they include
    the incidents from late data, of which there are ``open_late``; ``urgent`` lists these last. ``met`` of ``judged``
    reaches meet their target; ``mix`` counts reaches by class; ``reaches`` are all, worst first.
    """

    sheet: Sheet
    worst: Worst | None
    urgent: tuple[Urgent, ...]
    open: int
    open_late: int
    overdue: int
    below_v: int
    met: int
    judged: int
    abnormal: int
    mix: tuple[tuple[WaterClass | None, int], ...]
    reaches: tuple[ReachView, ...]


def build(model: Model, registry: Registry, actor: Actor, language: str) -> Wall:
    """The large screen of what is within somebody's jurisdiction."""
    rows = [row for row in model.incidents if row.incident.is_open and in_jurisdiction(row.incident, actor)]
    worst = worst_colours(registry, (row.incident for row in rows))
    model = replace(model, stations=tuple(replace(one, colour=worst.get(one.key)) for one in model.stations))
    urgent = sorted((_urgent(row, registry, model.at_ms) for row in rows), key=lambda one: _rank(one, model.at_ms))
    shown = [one.shown for one in model.reaches if one.shown is not None]
    with_target = [one for one in shown if one.met is not None]
    return Wall(
        sheet=_sheet(model, registry, language),
        worst=_worst(model, registry, [row for row in rows if not row.retrospective]),
        urgent=tuple(urgent[:URGENT]),
        open=len(rows),
        open_late=sum(row.retrospective for row in rows),
        overdue=sum(one.sort == "over" for one in urgent),
        below_v=sum(one.water_class is WaterClass.WORSE for one in model.reaches),
        met=sum(bool(one.met) for one in with_target),
        judged=len(with_target),
        abnormal=sum(count for state, count in model.by_state.items() if state is not Data.NORMAL),
        mix=mix(model.reaches),
        reaches=tuple(sorted(model.reaches, key=lambda one: (-(one.water_class or 0), one.key))),
    )


def mix(reaches: Sequence[ReachView]) -> tuple[tuple[WaterClass | None, int], ...]:
    """How many reaches show each class, best first, those that cannot be judged last; classes of none are left out."""
    counts: dict[WaterClass | None, int] = dict.fromkeys((*WaterClass, None), 0)
    for one in reaches:
        counts[one.water_class] += 1
    return tuple((water_class, count) for water_class, count in counts.items() if count)


def lead(shown: ShownClass, reach: Reach, stations: Mapping[str, StationView], on: Sequence[str]) -> Lead | None:
    """What decides the class of a reach: of its deciding parameters the one furthest over the limit."""
    found: list[Lead] = []
    kind = gb3838.Water.of(reach.water)
    target = shown.target or WaterClass.V
    for parameter in shown.deciding:
        values = [
            row.value
            for key in on
            if key in stations
            for row in stations[key].headline
            if row.parameter == parameter and row.value is not None
        ]
        if not values:
            continue
        rising = gb3838.direction(parameter) is Direction.AT_MOST
        value = max(values) if rising else min(values)
        limit = gb3838.limit(parameter, kind, target)
        found.append(Lead(parameter, value, limit, value / limit if rising and limit else None))
    return max(found, key=lambda one: one.times or 0.0, default=None)


def _urgent(row: IncidentView, registry: Registry, now_ms: int) -> Urgent:
    sort, words = deadline(row.incident, now_ms)
    title = row.incident.titled(row.value, place(row.incident, registry), WALL_MAX_CHARS)
    return Urgent(row, title, sort, words)


def _rank(one: Urgent, now_ms: int) -> tuple[bool, int, float, int]:
    """What happens now first, of it the most urgent colour, of these the one with the least time left."""
    due = one.incident.incident.case.due_ms
    return (
        one.incident.retrospective,
        one.incident.colour.rank,
        float("inf") if due is None else due - now_ms,
        one.incident.id,
    )


def _worst(model: Model, registry: Registry, rows: Sequence[IncidentView]) -> Worst | None:
    reaches = {reach.key: reach for reach in registry.reaches}
    on: dict[str, list[str]] = {}
    for station in registry.stations:
        on.setdefault(station.reach, []).append(station.key)
    stations = {view.key: view for view in model.stations}
    found: list[tuple[tuple[int, float], Worst]] = []
    for one in model.reaches:
        if one.shown is None or one.water_class is None or one.key not in reaches:
            continue
        leading = lead(one.shown, reaches[one.key], stations, on.get(one.key, ()))
        mine = [row for row in rows if row.incident.place.reach == one.key or row.station in on.get(one.key, ())]
        first = min(mine, key=lambda row: row.colour.rank, default=None)
        rank = int(one.water_class), (leading.times if leading and leading.times else 0.0)
        found.append((rank, Worst(one, one.shown.target, leading, first)))
    return max(found, key=lambda one: one[0])[1] if found else None


def _sheet(model: Model, registry: Registry, language: str) -> Sheet:
    classes = {one.key: one for one in model.reaches}
    places = {s.key: (s.lon, s.lat) for s in registry.stations}
    waters = [
        Water(
            reach.key,
            reach.en if language == "en" else reach.zh,
            reach.line,
            classes[reach.key].water_class if reach.key in classes else None,
            reach.line[0] == reach.line[-1],
        )
        for reach in registry.reaches
        if reach.line
    ]
    marks = [
        Mark(
            view.key,
            view.name.en if language == "en" else view.name.zh,
            places[view.key],
            view.state.value,
            view.colour.value if view.colour else "",
        )
        for view in model.stations
        if view.key in places
    ]
    return draw(waters, marks, *MAP, SIZES)
