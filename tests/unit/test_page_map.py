"""The map's model: what somebody sees, what changed, what stands beside it."""

from dataclasses import replace

import pytest

from api.pages.models import map as models
from api.pages.models.overview import Classes, Data, Model, build
from governance.incidents.finding import Colour
from governance.incidents.model import Incident, State
from governance.incidents.queries import Counts
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from ingest.analysis.live_classes import REACH, ShownClass
from ingest.storage.port import Latest
from sensors.network import Outfall
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.unit.test_page_overview import NOW, incident, newest

LINE = ((113.0, 23.0), (113.2, 23.0))
REGISTRY = Registry(
    (
        Station("a", "甲站", "Station A", 113.05, 23.0, reach="creek", region="d/1"),
        Station("b", "乙站", "Station B", 113.15, 23.0, reach="creek", region="d/2", gateway="gw"),
    ),
    reaches=(Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, LINE, target=WaterClass.IV),),
    outfalls=(Outfall("o", "雨水口", "Storm drain", "creek", 5.0),),
)
OFFICE = Actor("office", Role.OFFICE)
CHIEF = Actor("chief", Role.CHIEF, frozenset({"d/1"}))


def at(region: str, id_: int, station: str, colour: Colour = Colour.RED, **other: object) -> Incident:
    return incident(id_, station, colour, place=Place(region, ""), **other)


def shown(water_class: WaterClass | None) -> ShownClass:
    met = None if water_class is None else water_class <= WaterClass.IV
    return ShownClass(REACH, "creek", NOW, water_class, ("nh3n",), 1, 1, WaterClass.IV, met, "", "")


def picture(
    *found: Incident,
    latest: tuple[Latest, ...] = (),
    reach: ShownClass | None = None,
    station: WaterClass | None = None,
) -> Model:
    counts = Counts(dict.fromkeys(State, 0), {colour: sum(i.colour is colour for i in found) for colour in Colour}, 0)
    classes = Classes({} if reach is None else {"creek": reach}, {"a": station})
    return build(REGISTRY, latest, found, counts, (), NOW, classes=classes)


def seen(model: Model, actor: Actor = OFFICE, *, incidents: bool = True) -> models.Seen:
    return models.seen_by(model, REGISTRY, actor, incidents=incidents)


def test_pennants_figures_and_list_of_who_is_bound_to_a_region_agree() -> None:
    model = picture(at("d/1", 1, "a", Colour.ORANGE), at("d/2", 2, "b"))
    found = seen(model, CHIEF)
    page = models.beside(found, models.Choice())
    assert [one["id"] for one in models.incidents(found, english=False)] == [1]
    assert [one.row.id for one in page.urgent or ()] == [1]
    assert (page.open, page.by_colour[Colour.ORANGE], page.by_colour[Colour.RED]) == (1, 1, 0)
    assert [one.colour for one in found.model.stations] == [Colour.ORANGE, None]
    assert models.beside(seen(model), models.Choice()).open == 2


def test_who_may_not_see_incidents_is_given_the_water_only() -> None:
    found = seen(picture(at("d/1", 1, "a")), incidents=False)
    assert models.whole(found, english=False)["incidents"] == []
    assert models.beside(found, models.Choice()).urgent is None
    assert all(one.colour is None for one in found.model.stations)


def test_more_open_incidents_than_are_listed_are_counted() -> None:
    model = replace(picture(at("d/1", 1, "a")), open_by_colour={Colour.RED: 2000})
    page = models.beside(seen(model), models.Choice())
    assert (page.open, page.listed, page.by_colour[Colour.RED]) == (2000, 1, 2000)


def test_a_map_is_sent_what_changed_and_nothing_else() -> None:
    fresh = (newest("a", 1), newest("b", 1))
    before = seen(picture(latest=fresh, reach=shown(WaterClass.IV), station=WaterClass.IV))
    after = seen(picture(at("d/1", 1, "a"), latest=fresh, reach=shown(WaterClass.WORSE), station=WaterClass.WORSE))
    found = models.changes(before, after, english=True)
    assert found is not None
    assert [(one["key"], one["class"], one["state"]) for one in found["stations"]] == [("a", 6, Data.NORMAL)]
    assert [(one["key"], one["class"]) for one in found["reaches"]] == [("creek", 6)]
    assert [one["colour"] for one in found["incidents"]] == [Colour.RED]
    assert models.changes(after, after, english=True) == {"delta": True}
    assert before.marked != after.marked


def test_a_map_with_other_stations_is_sent_everything() -> None:
    before = seen(picture())
    more = Registry((*REGISTRY.stations, Station("c", "丙", "C", 113.1, 23.0)), reaches=REGISTRY.reaches)
    model = build(more, (), (), Counts({}, {}, 0), (), NOW)
    assert models.changes(before, models.seen_by(model, more, OFFICE, incidents=True), english=False) is None


def test_a_reach_whose_stations_are_all_silent_is_marked() -> None:
    silent = models.whole(seen(picture(reach=shown(WaterClass.III))), english=False)["reaches"][0]
    late = models.whole(seen(picture(reach=shown(WaterClass.III), latest=(newest("b", 9),))), english=False)
    assert (silent["class"], silent["silent"], late["reaches"][0]["silent"]) == (3, True, False)


def test_an_incident_lies_at_its_place_its_station_its_gateways_station_or_its_reach() -> None:
    model = picture(
        incident(1, "a", Colour.RED, place=Place("", "", 113.3, 23.3)),
        incident(2, "a", Colour.RED),
        incident(3, "gw", Colour.RED),
        incident(4, "", Colour.RED, place=Place("", "creek")),
        incident(5, "", Colour.RED, place=Place("d/1", "")),
    )
    found = {one["id"]: one for one in models.incidents(seen(model), english=False)}
    places = {number: one["lon"] for number, one in found.items()}
    assert places[4] == pytest.approx(113.1)
    assert (places[1], places[2], places[3], places[5]) == (113.3, 113.05, 113.15, None)
    assert models.beside(seen(model), models.Choice()).placeless == 1


def test_outfalls_are_placed_along_their_reach_and_named_in_the_language() -> None:
    (one,) = models.whole(seen(picture()), english=True)["points"]
    assert one["name"] == "Storm drain"
    assert 113.04 < one["lon"] < 113.06


def test_stations_that_cannot_be_seen_are_listed_with_the_worst_state_first() -> None:
    page = models.beside(seen(picture(latest=(newest("a", 9),))), models.choice({"state": "blind"}, REGISTRY))
    assert [one.key for one in page.blind] == ["b", "a"]
    assert [one.key for one in page.stations] == ["b", "a"]
    assert not page.silent
    assert models.beside(seen(picture()), models.Choice()).silent


def test_late_incidents_come_first_then_the_most_urgent() -> None:
    def due(id_: int, colour: Colour, minutes: int) -> Incident:
        one = incident(id_, "a", colour)
        return replace(one, case=replace(one.case, due_ms=NOW + minutes * 60_000, step_since_ms=NOW - 3_600_000))

    model = picture(due(1, Colour.RED, 30), due(2, Colour.YELLOW, -5), due(3, Colour.RED, 20))
    page = models.beside(seen(model), models.Choice())
    assert [one.row.id for one in page.urgent or ()] == [2, 3, 1]
    assert page.overdue == 1
    late = models.beside(seen(model), models.Choice(overdue=True))
    assert [one.row.id for one in late.urgent or ()] == [2]
    assert late.open == 3


@pytest.mark.parametrize("query", [{"station": "nope", "at": "99999", "rows": "-1", "class": "9", "layers": "x"}, {}])
def test_an_address_that_makes_no_sense_asks_for_nothing(query: dict[str, str]) -> None:
    assert models.choice(query, REGISTRY) == models.Choice()


def test_layers_are_added_and_taken_away_by_address() -> None:
    chosen = models.choice({"layers": "cases,outfalls"}, REGISTRY)
    assert chosen.toggled("outfalls") == "cases"
    assert chosen.toggled("rain") == "outfalls,rain,cases"


def test_past_classes_replace_those_of_now_and_nothing_is_said_of_states_and_incidents() -> None:
    now = seen(picture(at("d/1", 1, "a"), reach=shown(WaterClass.WORSE)))
    past = models.seen_at(now, {"creek": shown(WaterClass.II)}, {"b": WaterClass.II})
    told = models.whole(past, english=False)
    assert [one["class"] for one in told["reaches"]] == [2]
    assert [one["class"] for one in told["stations"]] == [0, 2]
    assert told["incidents"] == []


def test_the_line_of_a_day_is_not_joined_over_a_gap() -> None:
    drawn = models.line([0, 10, 50, 60], [1.0, 2.0, 1.0, 3.0], [True, False, True], (0, 100), 2.5)
    assert len(drawn.paths) == 2
    assert drawn.last is not None
    assert drawn.limit is not None
    assert drawn.last[1] < drawn.limit  # 3.0 lies above the limit
    assert models.line([], [], [], (0, 100), None).paths == ()


def test_a_name_is_given_in_the_language_asked_for() -> None:
    names = [models.whole(seen(picture()), english=one)["stations"][0]["name"] for one in (True, False)]
    assert names == ["Station A", "甲站"]
