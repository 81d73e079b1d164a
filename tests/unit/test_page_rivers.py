"""What the pages of rivers show, from literals: order, filters, days, levels, the strip, goals, addresses."""

from dataclasses import replace
from datetime import date

import pytest

from api.classes import LiveClassView
from api.pages.models import overview, rivers
from api.pages.models.rivers import Choice, GoalForm
from api.river_file import OfficeView, RiverFile, StationView
from governance.incidents.queries import Counts
from governance.organisation.regions import Regions
from governance.organisation.roles import Role, administrator
from governance.reports.river_plans import Goal, Plan
from infra.errors import Refused
from infra.texts import Text
from infra.times import DAY_MS, rfc3339
from ingest.analysis.live_classes import REACH, ShownClass
from ingest.storage.port import Latest
from sensors.network import Level, Region, Travel
from sensors.parameters import catalogue
from sensors.source_attribution import RiverTree
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water

NOW = 1_780_000_000_000
LINE = ((113.0, 23.1), (113.0, 23.0))
CREEK = Reach("creek", "示例涌", "Example Creek", Water.CREEK, LINE, downstream="river", target=WaterClass.V)
RIVER = Reach("river", "大河", "River", Water.RIVER, ((113.0, 23.0), (113.2, 23.0)), target=WaterClass.III)
LAKE = Reach("lake", "湖", "Lake", Water.LAKE, ((113.1, 23.1), (113.11, 23.1)))
STATIONS = tuple(
    Station(f"s{i}", f"示例涌{name}", f"Example Creek {name}", 113.0, lat, reach="creek", region="d/s", interval_s=600)
    for i, (name, lat) in enumerate((("上游", 23.09), ("中游", 23.05), ("下游", 23.01)))
)
REGIONS = (
    Region("d", "区", "District", Level.DISTRICT),
    Region("d/s", "街", "Street", Level.STREET, "d"),
    Region("d/s/c", "村", "Community", Level.COMMUNITY, "d/s"),
)
REGISTRY = Registry(
    STATIONS,
    reaches=(CREEK, RIVER, LAKE),
    regions=REGIONS,
    travels=(Travel("creek", "river", 3600, 7200, 10800),),
    catalogue=catalogue(),
)
TREE = RiverTree(REGISTRY)


def shown(key: str, water_class: WaterClass | None, met: bool | None) -> ShownClass:
    return ShownClass(REACH, key, NOW, water_class, ("nh3n",), 1, 1, WaterClass.V, met, "", "")


def file(**other: object) -> RiverFile:
    live = LiveClassView(">V", rfc3339(NOW), ("nh3n",), 4, 5, "V", False, "", "")
    stations = [
        StationView(s.key, s.zh, s.en, km, s.region, rfc3339(NOW - ago), 600, live if s.key == "s2" else None)
        for s, km, ago in zip(STATIONS, (1.0, 5.0, 10.0), (600_000, 1_500_000, 7_200_000), strict=True)
    ]
    made = RiverFile(
        key="creek",
        zh=CREEK.zh,
        en=CREEK.en,
        water="creek",
        length_km=11.1,
        downstream="river",
        target="V",
        note="",
        chiefs=[],
        offices=[],
        complaints="",
        stations=stations,
        outfalls=[{"key": "o", "zh": "一号排口", "en": "Outfall 1", "km": 3.0, "kind": "storm"}],
        live=live,
        classes=[],
        incidents=[],
        plan=None,
    )
    return replace(made, **other)  # type: ignore[arg-type]


def page(**other: object) -> rivers.RiverPage:
    return rivers.page(file(**other), REGISTRY, Regions(REGIONS, STATIONS), TREE, NOW)


def test_the_worst_water_comes_first_and_what_nobody_can_judge_last() -> None:
    classes = {"river": shown("river", WaterClass.IV, False), "creek": shown("creek", WaterClass.WORSE, False)}
    latest = [Latest("s0", "do", NOW, 6.0, 1, NOW)]
    picture = overview.build(REGISTRY, latest, [], Counts({}, {}, 0), [], NOW, classes=overview.Classes(classes))
    found = rivers.rows(REGISTRY, picture, administrator("x"), Regions(REGIONS, STATIONS))
    assert [(row.key, row.stations, row.silent) for row in found] == [("creek", 3, 2), ("river", 0, 0), ("lake", 0, 0)]
    assert found[0].streets == {"d/s"}
    assert [row.key for row in rivers.chosen(found, Choice(missed=True))] == ["creek", "river"]
    assert [row.key for row in rivers.chosen(found, Choice(q="EXAMPLE"))] == ["creek"]
    assert [row.key for row in rivers.chosen(found, Choice(street="d/s"))] == ["creek"]
    assert [row.key for row in rivers.chosen(found, Choice(water="lake"))] == ["lake"]
    assert rivers.beside(found, "river") == ("creek", "lake")
    assert rivers.beside(found, "creek") == ("", "river")
    assert rivers.beside(found, "nowhere") == ("", "")


def test_stations_are_called_without_the_name_of_their_river_and_the_water_takes_its_time_between_them() -> None:
    found = page().stations
    assert [row.short.zh for row in found] == ["上游", "中游", "下游"]
    assert [row.state for row in found] == ["normal", "late", "offline"]
    speed_km_h = TREE.speed_km_h["creek"][1]
    assert [row.travel_ms for row in found] == [
        round(4 / speed_km_h * 3_600_000),
        round(5 / speed_km_h * 3_600_000),
        None,
    ]


@pytest.mark.parametrize(
    ("names", "river", "short"),
    [
        (["南涌上游", "南涌水闸"], "南涌（示例）", ["上游", "水闸"]),
        (["Creek, Garden 1 (upper)", "Creek, Garden 2 (lower)"], "Creek, Garden section", ["1 (upper)", "2 (lower)"]),
        (["南涌一", "南涌二"], "南涌", ["一", "二"]),
        (["南涌站"], "北涌", ["南涌站"]),
        (["南涌"], "南涌", ["南涌"]),
        ([], "南涌", []),
    ],
)
def test_stations_are_told_apart_by_what_differs_in_their_names(names: list[str], river: str, short: list[str]) -> None:
    assert rivers.short_names(names, river) == short


def test_the_strip_has_stations_above_outfalls_below_and_no_label_on_another() -> None:
    strip = rivers.strip(page(), english=False)
    assert strip is not None
    assert [stop.key for stop in strip.above] == ["s0", "s1", "s2"]
    assert [stop.sort for stop in strip.below] == ["outfall"]
    assert strip.above[0].x < strip.above[1].x < strip.above[2].x
    assert len(strip.legs) == 2
    near = file().stations
    crowded = [replace(near[0], key=f"n{i}", km=1.0 + i / 100) for i in range(5)]
    placed = rivers.strip(page(stations=crowded), english=False)
    assert placed is not None
    assert [stop.row for stop in placed.above] == [0, 1, 2, None, None]
    assert rivers.strip(page(stations=[]), english=False) is None


def test_the_multiple_is_over_the_limit_of_the_target_and_only_of_what_decides_at_the_worst_station() -> None:
    latest = [
        Latest("s2", "nh3n", NOW, 8.4, 1, NOW),
        Latest("s2", "tp", NOW, 9.0, 1, NOW),
        Latest("s0", "nh3n", NOW, 99.0, 1, NOW),
    ]
    (one,) = rivers.exceeded(page(), latest, {s.key: s.water for s in STATIONS})
    assert (one.parameter, one.station, one.limit, one.times) == ("nh3n", "s2", 2.0, 3.2)
    assert rivers.exceeded(page(live=None), latest, {s.key: s.water for s in STATIONS}) == ()


def test_of_several_records_of_a_day_the_newest_counts_and_a_day_without_one_stays_empty() -> None:
    told = [
        {"at": "2026-05-12T10:00:00Z", "class": "IV", "met": True, "deciding": ["nh3n"]},
        {"at": "2026-05-12T02:00:00Z", "class": "V", "met": False},
        {"at": "2026-05-09T17:00:00Z", "class": None, "met": None},  # the 10th in Beijing
    ]
    days = rivers.recorded_days(told, date(2026, 5, 13))
    assert len(days) == rivers.DAYS_SHOWN
    assert [(one.day.day, one.water_class, one.met) for one in days[-4:]] == [
        (10, None, None),
        (11, None, None),
        (12, WaterClass.IV, True),
        (13, None, None),
    ]
    sentence = rivers.trend(days)
    assert sentence is not None
    assert "05-12" in sentence.zh
    assert rivers.trend(rivers.recorded_days([], date(2026, 5, 13))) is None


def test_who_holds_office_stands_by_level_and_a_street_without_a_chief_is_seen() -> None:
    def office(name: str, region: str, level: str, since: int | None) -> OfficeView:
        return OfficeView(
            name, Role.CHIEF, level, region, "", "", "", "", None if since is None else rfc3339(since), None
        )

    held = [office("区河长", "d", "district", NOW - DAY_MS), office("来者", "d", "district", NOW + DAY_MS)]
    found = rivers.levels(held, {"d/s"}, Regions(REGIONS), NOW)
    assert [(row.level, [(one.held.name, one.ahead) for one in row.people]) for row in found] == [
        ("district", [("区河长", False), ("来者", True)]),
        ("street", []),
    ]


def test_a_plan_changes_goal_by_goal_and_a_goal_without_words_is_none() -> None:
    goals = [Goal("甲"), Goal("乙")]
    assert rivers.with_goal(goals, 0, Goal("丙")) == [Goal("丙"), Goal("乙")]
    assert rivers.with_goal(goals, None, Goal("丙")) == [*goals, Goal("丙")]
    assert rivers.with_goal(goals, 1, None) == [Goal("甲")]
    with pytest.raises(Refused):
        rivers.with_goal(goals, None, Goal(" "))


def test_the_form_of_a_goal_is_read_back_as_it_was_written() -> None:
    goal = Goal("氨氮达标", "截污", "示例", "2030-01-01", 0.65)
    assert rivers.read_goal(GoalForm.of(goal)) == (goal, {})
    assert set(rivers.read_goal(GoalForm(due="x", progress="-1"))[1]) == {"goal", "due", "progress"}
    plan = Plan("creek", "p", (goal,), 2, NOW, "x")
    assert rivers.kept_already(plan, goal, 0, None)
    assert not rivers.kept_already(plan, replace(goal, progress=0.7), 0, None)
    assert rivers.kept_already(plan, None, None, "p")
    assert not rivers.kept_already(None, goal, None, None)


@pytest.mark.parametrize(
    ("base", "public"),
    [
        ("https://river.example.gov", True),
        ("http://10.1.2.3:8080", True),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
        ("http://testserver", False),
    ],
)
def test_an_address_of_this_machine_alone_makes_no_sign(base: str, public: bool) -> None:
    assert rivers.is_public(base) is public


def test_the_nearest_stations_are_told_of_a_river_without_one() -> None:
    found = rivers.nearest(replace(RIVER, key="x"), REGISTRY)
    assert [key for key, _, _ in found] == ["s2", "s1", "s0"]
    assert found[0][1] == Text(STATIONS[2].zh, STATIONS[2].en)
    assert found[0][2] == pytest.approx(1.11, abs=0.01)
    assert rivers.nearest(replace(RIVER, line=()), REGISTRY) == ()
