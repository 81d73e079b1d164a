"""The river graph: lengths, places along a reach, and no water that comes back to itself."""

import pytest

from sensors.network import length_km, nodes_on_cycles, point_at_km

BEND = ((113.0, 23.0), (113.1, 23.0), (113.1, 23.1))


def test_a_polyline_is_as_long_as_its_steps():
    assert length_km(BEND) == pytest.approx(10.236 + 11.1195, abs=0.01)


@pytest.mark.parametrize(
    ("km", "place"),
    [(-1, (113.0, 23.0)), (0, (113.0, 23.0)), (5.118, (113.05, 23.0)), (10.236 + 5.56, (113.1, 23.05)), (99, BEND[-1])],
)
def test_a_place_lies_so_far_down_the_reach(km, place):
    assert point_at_km(BEND, km) == pytest.approx(place, abs=1e-4)


def test_two_points_in_one_place_harm_nobody():
    assert point_at_km(((113.0, 23.0), (113.0, 23.0), (113.1, 23.0)), 0) == (113.0, 23.0)


def test_a_circle_is_those_who_come_back_and_not_those_who_lead_there():
    edges = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "d"), ("e", "a")]
    assert nodes_on_cycles(edges) == {"b", "c", "d"}
    assert nodes_on_cycles([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]) == set(), (
        "two ways to one place are no circle"
    )
