"""The large screen's model: the worst reach and what decides it, the most urgent incidents, the mix of classes."""

from collections.abc import Sequence

from api.pages.models.overview import Data, ReachView, StationView
from api.pages.models.wall import build, lead, mix
from governance.incidents.finding import Colour
from governance.incidents.headline import Headline, Row
from governance.organisation.roles import Actor, Role
from infra.texts import Text
from ingest.analysis.live_classes import REACH, ShownClass
from ingest.storage.port import Latest
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Water
from tests.unit.test_page_overview import REGISTRY, incident, picture

AT = 1_780_000_000_000
CREEK = Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.0, 23.0), (113.0, 23.1)))


def _shown(
    water_class: WaterClass | None, deciding: Sequence[str] = (), target: WaterClass | None = None
) -> ShownClass:
    met = None if target is None or water_class is None else water_class <= target
    return ShownClass(REACH, "creek", AT, water_class, tuple(deciding), 5, 5, target, met, "", "")


def _station(key: str, **values: float) -> StationView:
    newest = tuple(Latest(key, parameter, AT, value, 1, AT) for parameter, value in values.items())
    return StationView(key, Text(key, key), 300, Data.NORMAL, None, AT, newest)


def test_what_decides_a_class_is_shown_with_its_worst_value_as_a_multiple_of_the_target_s_limit() -> None:
    stations = {"a": _station("a", nh3n=8.0, tp=0.5), "b": _station("b", nh3n=4.0, tp=0.3)}
    found = lead(_shown(WaterClass.WORSE, ("nh3n", "tp"), WaterClass.V), CREEK, stations, ("a", "b"))
    assert found is not None
    assert (found.parameter, found.value, found.limit, found.times) == ("nh3n", 8.0, 2.0, 4.0)


def test_oxygen_is_shown_by_its_least_value_and_has_no_multiple() -> None:
    stations = {"a": _station("a", do=1.2), "b": _station("b", do=5.0)}
    found = lead(_shown(WaterClass.WORSE, ("do",), WaterClass.V), CREEK, stations, ("a", "b"))
    assert found is not None
    assert (found.value, found.times) == (1.2, None)


def test_a_reach_whose_deciding_values_are_gone_shows_none() -> None:
    assert lead(_shown(WaterClass.WORSE, ("nh3n",), WaterClass.V), CREEK, {"a": _station("a")}, ("a",)) is None
    assert lead(_shown(None), CREEK, {}, ()) is None


def test_reaches_are_counted_by_class_with_those_that_cannot_be_judged_last() -> None:
    reaches = [
        ReachView(str(i), Text("", ""), None if one is None else _shown(one))
        for i, one in enumerate((WaterClass.V, None, WaterClass.II, WaterClass.V))
    ]
    assert mix(reaches) == ((WaterClass.II, 1), (WaterClass.V, 2), (None, 1))


def test_the_wall_counts_what_map_and_inbox_count_and_names_late_data_after_what_happens_now() -> None:
    late = incident(1, "shiwan", Colour.BLUE, retrospective=True)
    place = Text("奇槎涌环湖花园段上游", "Qicha Creek, Huanhu Garden 1 (upstream)")
    about = Headline(place, rows=(Row("nh3n", 8.4, limit=2.0),), station="shiwan")
    model = picture(late, incident(2, "lanshi", Colour.BLUE, headline=about))
    wall = build(model, REGISTRY, Actor("李（示例）", Role.OFFICE), "en")
    assert (wall.open, wall.open_late) == (2, 1)
    assert [one.incident.id for one in wall.urgent] == [2, 1]
    title = wall.urgent[0].title.en
    assert len(title) <= 40
    assert "8.40" in title
