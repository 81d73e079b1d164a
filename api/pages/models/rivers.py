"""The list of all rivers, and the page of one (一河一档) over the answer of ``GET /reaches/{key}/file``. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from itertools import groupby, takewhile
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from api.classes import LiveClassView
from api.pages.models.board import reach_finder
from api.pages.models.overview import Data, Model, data_state
from api.river_file import OfficeView, RiverFile
from api.svg import elided
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import in_jurisdiction
from governance.organisation.regions import Regions
from governance.organisation.roles import Actor, Right
from governance.reports.river_plans import Goal, Plan
from infra.errors import Refused
from infra.texts import Text, say
from infra.times import beijing_day, to_ms
from ingest.analysis.live_classes import ShownClass
from ingest.storage.port import Latest
from sensors.network import Level, along_km, distance_km, distance_to_line_km
from sensors.source_attribution import RiverTree
from sensors.standards import gb3838
from sensors.standards.gb3838 import Water as Table
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Water

DAYS_SHOWN = 30
"""Days of the class history that are drawn: what still reads on A4; the answer of the API holds more."""
PAGE = 30
"""Rivers of the list that are shown at first, and that are added at a time."""
NEAREST, FURTHEST_KM = 3, 20.0
"""Stations named where a river has none, and how far away they may be."""


# -- the list ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address narrows the list to; "" and False: everything."""

    q: str = ""
    street: str = ""
    water: str = ""
    missed: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Choice":
        return cls(
            query.get("q", "").strip()[:80],
            query.get("street", ""),
            query.get("water", ""),
            query.get("missed") == "1",
        )

    @property
    def narrows(self) -> bool:
        return self != Choice()


EXPORT_HEAD = (
    "column_river",
    "column_water",
    "column_class",
    "column_target",
    "column_met",
    "column_deciding",
    "column_judged",
    "column_stations",
    "column_silent",
    "column_age",
    "column_incidents",
)
"""Columns of the list as a file."""


@dataclass(frozen=True, slots=True)
class RiverRow:
    """A river in the list. ``open`` incidents that concern who looks, the worst of them in ``colour``.

    ``silent`` of its ``stations`` are offline or never sent anything.
    """

    reach: Reach
    shown: ShownClass | None
    streets: frozenset[str]
    stations: int
    silent: int
    open: int
    colour: Colour | None

    @property
    def key(self) -> str:
        return self.reach.key

    @property
    def name(self) -> Text:
        return Text(self.reach.zh, self.reach.en)

    @property
    def water_class(self) -> WaterClass | None:
        return self.shown.water_class if self.shown else None

    @property
    def met(self) -> bool | None:
        return self.shown.met if self.shown else None


def rows(registry: Registry, picture: Model, actor: Actor, regions: Regions) -> tuple[RiverRow, ...]:
    """All rivers, the worst water first; those that nobody can judge last."""
    shown = {one.key: one.shown for one in picture.reaches}
    stations = Counter(one.reach for one in picture.stations)
    silent = Counter(one.reach for one in picture.stations if one.state in (Data.OFFLINE, Data.NEVER))
    open_: dict[str, list[Colour]] = {}
    if actor.may(Right.INCIDENTS):
        reach_of = reach_finder(registry)
        for row in picture.incidents:
            if row.incident.is_open and in_jurisdiction(row.incident, actor):
                open_.setdefault(reach_of(row.incident), []).append(row.colour)
    streets = streets_of(registry, regions)
    found = [
        RiverRow(
            reach,
            shown.get(reach.key),
            streets.get(reach.key, frozenset()),
            stations[reach.key],
            silent[reach.key],
            len(open_.get(reach.key, ())),
            min(open_.get(reach.key, ()), key=lambda colour: colour.rank, default=None),
        )
        for reach in registry.reaches
    ]
    return tuple(
        sorted(
            found,
            key=lambda r: (r.water_class is None, -(r.water_class or 0), r.met is not False, -r.open, r.key),
        )
    )


def streets_of(registry: Registry, regions: Regions) -> dict[str, frozenset[str]]:
    """River → the streets that its stations lie in."""
    street = {
        code: next((up for up in regions.up(code) if regions[up].level is Level.STREET), "")
        for code in {one.region for one in registry.stations if one.region in regions}
    }
    found: dict[str, set[str]] = {}
    for one in registry.stations:
        if street.get(one.region):
            found.setdefault(one.reach, set()).add(street[one.region])
    return {key: frozenset(codes) for key, codes in found.items()}


def chosen(found: Iterable[RiverRow], choice: Choice) -> list[RiverRow]:
    """The rivers that fit a choice, in the order they come."""
    wanted = choice.q.casefold()
    return [
        row
        for row in found
        if (not choice.street or choice.street in row.streets)
        and (not choice.water or row.reach.water == choice.water)
        and (not choice.missed or row.met is False)
        and (not wanted or any(wanted in text.casefold() for text in (row.reach.zh, row.reach.en, row.key)))
    ]


def beside(found: Sequence[RiverRow], key: str) -> tuple[str, str]:
    """The rivers before and after one in the list; "" beyond its ends."""
    keys = [row.key for row in found]
    i = keys.index(key) if key in keys else -1
    return (keys[i - 1] if i > 0 else "", keys[i + 1] if 0 <= i < len(keys) - 1 else "")


# -- one river ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Office:
    """A term of office; ``ahead``: it has not begun."""

    held: OfficeView
    since_ms: int | None
    until_ms: int | None
    ahead: bool


@dataclass(frozen=True, slots=True)
class LevelRow:
    """Those who hold office in one region, chiefs first; nobody where the region has no chief for this water."""

    level: str
    region: Text
    people: tuple[Office, ...]


@dataclass(frozen=True, slots=True)
class StationRow:
    """A station on the way down the river: its class and how fresh its newest reading is.

    ``travel_ms``: how long the water usually takes to the next one below; None where that is not known.
    """

    key: str
    name: Text
    short: Text
    km: float
    newest_at_ms: int | None
    state: Data
    live: LiveClassView | None
    travel_ms: int | None

    @property
    def water_class(self) -> WaterClass | None:
        return _class(self.live.water_class) if self.live else None


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A goal of the plan; ``late`` once its day is past and it is not reached."""

    goal: Goal
    late: bool


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A deciding parameter of the worst station: its value, the target's limit, and 超标倍数 (`gb3838.exceedance`).

    ``times`` is None where the value meets the limit.
    """

    parameter: str
    station: str
    value: float
    at_ms: int
    limit: float
    times: float | None


@dataclass(frozen=True, slots=True)
class RiverPage:
    """What the page shows. ``month_met`` of ``month_judged`` days of this month the target was met."""

    reach: Reach
    file: RiverFile
    downstream: Reach | None
    upstream: tuple[Reach, ...]
    live_class: WaterClass | None
    month_met: int
    month_judged: int
    levels: tuple[LevelRow, ...]
    stations: tuple[StationRow, ...]
    goals: tuple[GoalRow, ...]

    @property
    def name(self) -> Text:
        return Text(self.reach.zh, self.reach.en)


def page(file: RiverFile, registry: Registry, regions: Regions, tree: RiverTree | None, now_ms: int) -> RiverPage:
    """The page of a river at an instant; ``tree`` None: how the water runs is not known."""
    reach = next(one for one in registry.reaches if one.key == file.key)
    today = beijing_day(now_ms)
    this_month = [row for day, row in classes_by_day(file.classes).items() if day >= today.replace(day=1)]
    met = [row["met"] for row in this_month if row.get("met") is not None]
    plan = file.plan.goals if file.plan else ()
    places = {s.region for s in registry.stations if s.reach == file.key and s.region in regions}
    return RiverPage(
        reach=reach,
        file=file,
        downstream=registry.reach(file.downstream or ""),
        upstream=tuple(one for one in registry.reaches if one.downstream == file.key),
        live_class=_class(file.live.water_class) if file.live else None,
        month_met=sum(met),
        month_judged=len(met),
        levels=levels(file.offices, places, regions, now_ms),
        stations=_stations(file, reach, tree, now_ms),
        goals=tuple(GoalRow(goal, _late(goal, today)) for goal in plan),
    )


def _stations(file: RiverFile, reach: Reach, tree: RiverTree | None, now_ms: int) -> tuple[StationRow, ...]:
    speed_km_h = tree.speed_km_h[reach.key][1] if tree and reach.key in tree.speed_km_h else None
    runs = speed_km_h if reach.water is not Water.LAKE else None
    below = [one.km for one in file.stations[1:]]
    short_zh = short_names([one.zh for one in file.stations], reach.zh)
    short_en = short_names([one.en for one in file.stations], reach.en)
    found = []
    for i, one in enumerate(file.stations):
        travel = (
            round((below[i] - one.km) / runs * 3_600_000) if runs and i < len(below) and below[i] > one.km else None
        )
        newest = instant_ms(one.newest_at)
        found.append(
            StationRow(
                key=one.key,
                name=Text(one.zh, one.en),
                short=Text(short_zh[i], short_en[i]),
                km=one.km,
                newest_at_ms=newest,
                state=data_state(newest, one.interval_s, now_ms, retired=one.retired),
                live=one.live,
                travel_ms=travel,
            )
        )
    return tuple(found)


def short_names(names: Sequence[str], river: str) -> list[str]:
    """The names of a river's stations without what all of them begin with, which is the river's name or nearly so."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in alike) if len(names) > 1 else river
    if common.isascii():  # words are left whole
        common = common[: common.rfind(" ") + 1]
    found = [name.removeprefix(common).strip(" ,，-·") for name in names]
    if all(len(name) > 1 for name in found):
        return found
    return [name.removeprefix(river).strip(" ,，-·") or name for name in names]


def levels(offices: Sequence[OfficeView], places: Iterable[str], regions: Regions, now_ms: int) -> tuple[LevelRow, ...]:
    """Offices by their region, the highest first; of the regions that the water lies in, also those without a chief.

    Of the grids and areas nobody is named who does not exist: many waters have none.
    """
    held = {code: tuple(ones) for code, ones in groupby(offices, lambda o: o.region)}
    expected = {
        code
        for place in places
        for code in regions.up(place)
        if code in regions and regions[code].level in (Level.DISTRICT, Level.STREET, Level.COMMUNITY)
    }
    found = []
    for code in sorted({*held, *expected}, key=lambda code: (regions[code].level, code)):
        region = regions[code]
        people = tuple(_office(one, now_ms) for one in held.get(code, ()))
        found.append(LevelRow(region.level.key, Text(region.zh, region.en), people))
    return tuple(found)


def _office(one: OfficeView, now_ms: int) -> Office:
    since_ms, until_ms = instant_ms(one.since), instant_ms(one.until)
    return Office(one, since_ms, until_ms, since_ms is not None and since_ms > now_ms)


def exceeded(page: RiverPage, latest: Iterable[Latest], stations: Mapping[str, str]) -> tuple[Exceeded, ...]:
    """What decides the class, at the worst of the river's stations; ``stations``: key → its kind of water."""
    if page.file.live is None or page.reach.target is None or page.live_class is None:
        return ()
    worst = {one.key for one in page.stations if one.water_class == page.live_class}
    found: dict[str, Exceeded] = {}
    for row in latest:
        if row.station not in worst or row.parameter not in page.file.live.deciding or row.value is None:
            continue
        water = Table.of(stations[row.station])
        limit = gb3838.limit(row.parameter, water, page.reach.target)
        if limit is None or row.at_ms is None:
            continue
        over = float(gb3838.exceedance(row.parameter, np.array([row.value]), page.reach.target, water)[0])
        one = Exceeded(row.parameter, row.station, row.value, row.at_ms, limit, over if over > 0 else None)
        before = found.get(row.parameter)
        if before is None or (one.times or 0) > (before.times or 0):
            found[row.parameter] = one
    order = page.file.live.deciding
    return tuple(sorted(found.values(), key=lambda one: (-(one.times or 0), order.index(one.parameter))))


def nearest(reach: Reach, registry: Registry) -> tuple[tuple[str, Text, float], ...]:
    """(key, name, km) of the stations nearest to a river without one; the distance is as the crow flies."""
    if len(reach.line) < 2:
        return ()
    middle = reach.line[len(reach.line) // 2]
    near = sorted(registry.stations, key=lambda s: distance_km(middle, (s.lon, s.lat)))[:40]
    found = sorted(((distance_to_line_km(reach.line, s.lon, s.lat), s) for s in near), key=lambda one: one[0])
    return tuple((s.key, Text(s.zh, s.en), km) for km, s in found[:NEAREST] if km <= FURTHEST_KM)


# -- the strip ---------------------------------------------------------------------------------------------------------


STRIP_WIDTH, STRIP_LEFT, STRIP_RIGHT = 1320.0, 112.0, 1140.0
"""Of the drawing, in units of the sheet: its width, and where the river begins and ends."""
LETTER = 13.0
ROW = 20.0
MOST_LEVELS = 3


@dataclass(frozen=True, slots=True)
class Stop:
    """Something on the strip: a ``sort`` (station, outfall, inflow), where it is, and the row of its label (0: next to
    the river); a label without a free row is left to the list beside."""

    sort: str
    key: str
    label: str
    x: float
    row: int | None


@dataclass(frozen=True, slots=True)
class Leg:
    """The way between two stations: its middle, and the usual travel time."""

    x: float
    travel_ms: int


@dataclass(frozen=True, slots=True)
class Strip:
    """A river from upstream (left) to downstream: stations above it, outfalls and inflows below; ``into``: the water
    it flows into, "" where that is not known."""

    above: tuple[Stop, ...]
    below: tuple[Stop, ...]
    legs: tuple[Leg, ...]
    into: str
    rows_above: int
    rows_below: int


def strip(page: RiverPage, english: bool) -> Strip | None:
    """The strip of a river; None for one without a length, such as a lake, or without anything on it."""
    length = page.file.length_km
    if length <= 0 or page.reach.water is Water.LAKE or not page.stations:
        return None

    def x(km: float) -> float:
        return STRIP_LEFT + (STRIP_RIGHT - STRIP_LEFT) * min(max(km / length, 0.0), 1.0)

    def of(text: Text) -> str:
        return text.en if english else text.zh

    above = _placed([("station", one.key, of(one.short), x(one.km)) for one in page.stations])
    marks = [("outfall", o["key"], o["en"] if english else o["zh"], x(o["km"])) for o in page.file.outfalls]
    for inflow in page.upstream:
        if len(inflow.line) > 1:
            km = along_km(page.reach.line, *inflow.line[-1])
            marks.append(("inflow", inflow.key, inflow.en if english else inflow.zh, x(km)))
    below = _placed(sorted(marks, key=lambda one: one[3]))
    xs = {stop.key: stop.x for stop in above}
    legs = []
    for one, other in zip(page.stations, page.stations[1:], strict=False):
        if one.travel_ms is not None and xs[other.key] - xs[one.key] > 110:
            legs.append(Leg((xs[one.key] + xs[other.key]) / 2, one.travel_ms))
    into = "" if page.downstream is None else of(Text(page.downstream.zh, page.downstream.en))
    return Strip(above, below, tuple(legs), elided(into, 17 if english else 9), _rows(above), _rows(below))


def _rows(stops: Sequence[Stop]) -> int:
    return max((stop.row + 1 for stop in stops if stop.row is not None), default=0)


def _placed(marks: Sequence[tuple[str, str, str, float]]) -> tuple[Stop, ...]:
    """Labels in rows so that none lies on another."""
    taken: list[float] = []
    found = []
    for sort, key, label, x in marks:
        half = LETTER / 2 * sum(1.0 if ord(letter) > 0x2E7F else 0.58 for letter in label) + 6
        row = next((i for i, right in enumerate(taken) if x - half >= right), None)
        if row is None and len(taken) < MOST_LEVELS:
            taken.append(0.0)
            row = len(taken) - 1
        if row is not None:
            taken[row] = x + half
        found.append(Stop(sort, key, label, x, row))
    return tuple(found)


# -- days --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DayClass:
    """The class of a day; ``water_class`` None: not judged. ``met`` and ``deciding`` where they are known."""

    day: date
    water_class: WaterClass | None
    met: bool | None = None
    deciding: tuple[str, ...] = ()
    judged: int = 0


def classes_by_day(told: Iterable[Mapping[str, Any]]) -> dict[date, Mapping[str, Any]]:
    """What was written down of each day in Beijing; of several entries of a day the newest, which comes first."""
    found: dict[date, Mapping[str, Any]] = {}
    for row in told:
        found.setdefault(beijing_day(instant_ms(row["at"]) or 0), row)
    return found


def last_days(today: date) -> tuple[date, ...]:
    """The days that are shown, oldest first."""
    return tuple(today - timedelta(days=DAYS_SHOWN - 1 - i) for i in range(DAYS_SHOWN))


def recorded_days(told: Iterable[Mapping[str, Any]], today: date) -> tuple[DayClass, ...]:
    """The class that was recorded of the river on each of the last days, also of those nobody wrote down."""
    by_day = classes_by_day(told)
    found = []
    for day in last_days(today):
        row = by_day.get(day)
        if row is None:
            found.append(DayClass(day, None))
        else:
            found.append(DayClass(day, _class(row["class"]), row.get("met"), tuple(row.get("deciding") or ())))
    return tuple(found)


def trend(days: Sequence[DayClass]) -> Text | None:
    """The days of the river in one sentence; None where nothing was recorded."""
    judged = [one for one in days if one.water_class is not None]
    if not judged:
        return None
    worst = max(judged, key=lambda one: (one.water_class or 0, one.day))
    assert worst.water_class is not None
    sign = worst.water_class
    values = {
        "days": len(days),
        "judged": len(judged),
        "met": sum(one.met is True for one in judged),
        "worst": Text(sign.sign, sign.roman),
        "day": f"{worst.day:%m-%d}",
    }
    return say(
        "rivers_page.trend" if any(one.met is not None for one in judged) else "rivers_page.trend_no_target", **values
    )


def day_class(day: date, judged: gb3838.Judgement) -> DayClass:
    """The class of a day's means; pH alone tells none."""
    if judged.water_class is WaterClass.I and set(judged.classes) == {"ph"}:
        return DayClass(day, None)
    return DayClass(day, judged.water_class, None, judged.deciding, len(judged.classes))


# -- the plan ----------------------------------------------------------------------------------------------------------


LONGEST_PROBLEM = 4000
LONGEST = {"goal": 500, "measure": 2000, "responsible": 200}
"""Characters of the fields of a goal, as the API takes them."""


@dataclass(frozen=True, slots=True)
class GoalForm:
    """A goal as its form has it; ``progress`` in %."""

    goal: str = ""
    measure: str = ""
    responsible: str = ""
    due: str = ""
    progress: str = "0"

    @classmethod
    def of(cls, one: Goal) -> "GoalForm":
        return cls(one.goal, one.measure, one.responsible, one.due, f"{100 * one.progress:.0f}")


def read_goal(form: GoalForm) -> tuple[Goal | None, dict[str, Text]]:
    """The goal of a form, or what is wrong with it by field."""
    wrong = {
        name: say("rivers_page.too_long", most=most)
        for name, most in LONGEST.items()
        if len(getattr(form, name)) > most
    }
    if not form.goal:
        wrong["goal"] = say("river.goal_needs_words")
    if form.due:
        try:
            date.fromisoformat(form.due)
        except ValueError:
            wrong["due"] = say("rivers_page.bad_day")
    try:
        percent = float(form.progress or 0)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        wrong["progress"] = say("rivers_page.bad_progress")
    if wrong:
        return None, wrong
    return Goal(form.goal, form.measure, form.responsible, form.due, percent / 100), {}


def kept_already(plan: Plan | None, goal: Goal | None, index: int | None, problem: str | None) -> bool:
    """Whether the plan is as a form wants it, which was sent before; a removal cannot be told from another one."""
    if plan is None:
        return False
    if problem is not None:
        return plan.problem == problem
    if goal is None:
        return False
    return goal in plan.goals if index is None else index < len(plan.goals) and plan.goals[index] == goal


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


# -- the sign ----------------------------------------------------------------------------------------------------------


def is_public(base: str) -> bool:
    """Whether an address may be reached from elsewhere: one of this machine alone makes no sign."""
    host = urlsplit(base).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and "." in host


def _class(text: str | None) -> WaterClass | None:
    return None if text is None else WaterClass.of(text)


def instant_ms(text: str | None) -> int | None:
    """The ms of an instant as it is answered; None for none."""
    return None if text is None else to_ms(datetime.fromisoformat(text))


def _late(goal: Goal, today: date) -> bool:
    return bool(goal.due) and goal.progress < 1 and goal.due < today.isoformat()
