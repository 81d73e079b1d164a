"""The staff's report: which water a place lies beside, what the form begins with."""

import pytest

from api.pages.models import reported as models
from api.pages.models.reported import Spot, Typed
from governance.organisation.roles import Actor, Role
from infra.errors import Refused
from sensors.stations import Reach, Registry, Station, Water

CREEK = Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.0, 23.0), (113.0, 23.1)))
REGISTRY = Registry((Station("s", "站", "S", 113.0, 23.05, reach="creek"),), reaches=(CREEK,))


@pytest.mark.parametrize(
    ("typed", "spot"),
    [
        (Typed(), Spot()),
        (Typed(where="reach:creek"), Spot("creek")),
        (Typed(where="station:s"), Spot("creek", (113.0, 23.05))),
        (Typed(where="station:gone"), Spot()),
        (Typed(where="reach:gone"), Spot()),
        (Typed(lon="113.001", lat="23.05"), Spot("creek", (113.001, 23.05))),
        (Typed(lon="114", lat="23.05"), Spot("", (114.0, 23.05))),
        (Typed(where="station:s", lon="113.2", lat="23.0"), Spot("creek", (113.2, 23.0))),
    ],
)
def test_the_place_is_the_marked_one_and_its_water_the_chosen_or_the_nearest(typed: Typed, spot: Spot) -> None:
    assert models.spot(typed, REGISTRY) == spot


@pytest.mark.parametrize("given", [Typed(lon="x", lat="1"), Typed(lon="113"), Typed(lat="23")])
def test_a_place_that_is_no_number_is_refused(given: Typed) -> None:
    with pytest.raises(Refused):
        models.spot(given, REGISTRY)


def test_the_form_begins_with_what_the_role_usually_reports() -> None:
    worker, office = Actor("甲", Role.GRID_WORKER), Actor("乙", Role.OFFICE)
    assert models.typed({}, worker).source == "patrol"
    assert models.typed({}, office).source == "person"
    assert models.typed({"colour": "red"}, worker).colour == "yellow"
    assert models.typed({"colour": "red"}, office).colour == "red"
    assert models.typed({"text": " a\0\r\nb\ud800 "}, office).text == "a\nb"
