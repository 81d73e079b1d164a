"""The inbox: what the address narrows it to, which incidents are one row, what a form names."""

from dataclasses import replace

import pytest

from api.pages.models import inbox as models
from api.pages.models.inbox import Choice, choice, groups
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.inbox import InboxRow, InboxView
from governance.incidents.model import State
from governance.organisation.regions import Regions
from sensors.network import Level, Region
from sensors.stations import Reach, Registry, Water

HOUR = 3_600_000
REGIONS = (
    Region("d", "区", "District", Level.DISTRICT),
    Region("d/s", "石湾街道", "Shiwan", Level.STREET, "d"),
    Region("d/s/c", "村", "Village", Level.COMMUNITY, "d/s"),
)
REGISTRY = Registry((), reaches=(Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, ()),), regions=REGIONS)


def row(number: int, **other: object) -> InboxRow:
    usual = InboxRow(
        number, 1, State.REPORTED, Colour.ORANGE, FindingKind.EVENT, False, f"s{number}", "turbidity", "d/s", "creek",
        number * 60_000, 9 * HOUR,
    )  # fmt: skip
    return replace(usual, **other)  # type: ignore[arg-type]


def no_gateway(_station: str) -> str:
    return ""


def test_incidents_of_one_storm_are_one_row_where_the_most_urgent_of_them_stands() -> None:
    rows = [row(9, reach="other"), row(3), row(1), row(2), row(8, parameter="do")]
    found = groups(rows, no_gateway)
    assert [[one.id for one in group.rows] for group in found] == [[9], [3, 1, 2], [8]]
    assert found[1].is_storm
    assert found[1].key == "1"
    assert models.arrangement(found).split()[1] == "3:reported:orange"


@pytest.mark.parametrize(
    "apart",
    [
        {"kind": FindingKind.REPORT},
        {"state": State.ACCEPTED},
        {"parameter": "do"},
        {"reach": ""},
        {"since_ms": 9 * HOUR},
        {"retrospective": True},
    ],
)
def test_what_is_of_another_sort_or_time_stands_alone(apart: dict[str, object]) -> None:
    rows = [row(1), row(2), row(3), row(4, **apart)]
    assert [len(group.rows) for group in groups(rows, no_gateway)] == [3, 1]
    assert [len(group.rows) for group in groups(rows[1:], no_gateway)] == [1, 1, 1]


def test_reports_of_people_are_never_one_row() -> None:
    rows = [row(number, kind=FindingKind.REPORT) for number in range(5)]
    assert len(groups(rows, no_gateway)) == 5


def test_stations_behind_one_gateway_that_fell_silent_are_one_row() -> None:
    rows = [row(number, kind=FindingKind.NO_DATA, parameter="", reach=f"r{number}") for number in range(4)]
    assert len(groups(rows, lambda station: "gateway")) == 1
    assert len(groups(rows, no_gateway)) == 4


def test_an_address_is_read_and_what_is_unknown_in_it_narrows_nothing() -> None:
    given = {
        "view": "overdue",
        "colour": "red",
        "river": "creek",
        "region": "d/s",
        "state": "handling",
        "q": " 桥\0下 ",
    }
    found = choice({**given, "kind": "event", "page": "3"}, REGISTRY)
    assert found == Choice(
        InboxView.OVERDUE, "red", "creek", "d/s", "", "handling", "event", "桥下", "", 3
    )  # fmt: skip
    odd = {"view": "x", "colour": "pink", "river": "y", "region": "z", "state": "w", "page": "٣", "before": "-1"}
    assert choice(odd, REGISTRY) == Choice()
    assert choice({"show": "over"}, REGISTRY).view is InboxView.CLOSED
    assert (
        choice(dict(pair.split("=") for pair in found.query.split("&") if "%" not in pair), REGISTRY).view is found.view
    )


@pytest.mark.parametrize("view", InboxView)
@pytest.mark.parametrize("state", State)
def test_a_view_and_a_state_that_exclude_each_other_are_a_contradiction(view: InboxView, state: State) -> None:
    found = Choice(view, state=state.value).contradiction
    assert (found is None) == (state in view.states)


def test_words_find_titles_rivers_regions_and_numbers() -> None:
    regions = Regions(REGIONS)
    found = models.query(Choice(words="石湾"), REGISTRY, regions)
    assert found.words_regions == {"d/s", "d/s/c"}
    assert models.query(Choice(words="qicha"), REGISTRY, regions).words_reaches == {"creek"}
    assert models.query(Choice(words="#412"), REGISTRY, regions).number == 412
    assert models.query(Choice(words="x"), REGISTRY, regions).number is None


def test_counts_are_of_streets() -> None:
    found = models.by_street({"d/s": 1, "d/s/c": 2, "d": 4, "": 8, "gone": 16}, Regions(REGIONS))
    assert [(code, number) for code, _, number in found] == [("d", 4), ("d/s", 3)]


def test_a_form_names_each_incident_once() -> None:
    assert models.refs(["1:2", "3:1,4:7", "1:9"], 10) == ((1, 2), (3, 1), (4, 7))
    assert models.refs(["x:1", "1:", ":", "", "1:y", "0:1", "9999999999:1"], 10) == ()
    assert len(models.refs([f"{n}:1" for n in range(1, 50)], 20)) == 20
