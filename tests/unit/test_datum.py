"""Coordinates: what a phone in China shows is kept where it really is, and a place elsewhere is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ConfigurationError
from infra.texts import say
from sensors.datum import Box, Datum, to_gcj02, wgs84
from tests.says import says

DELTA = Box(112.0, 21.5, 114.8, 24.0)


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    return math.hypot((a[0] - b[0]) * 111_320 * math.cos(math.radians(a[1])), (a[1] - b[1]) * 110_900)


def test_the_shift_is_that_of_the_formula_in_public_use():
    lon, lat = to_gcj02(116.404, 39.915)  # a vector that public converters give
    assert (lon, lat) == pytest.approx((116.410244499, 39.916404282), abs=1e-8)


@given(st.floats(75, 135), st.floats(18, 53))
def test_a_place_given_in_gcj02_is_kept_within_a_millimetre_of_where_it_is(lon, lat):
    back = wgs84(*to_gcj02(lon, lat), Datum.GCJ02)
    assert metres((lon, lat), back) < 0.001
    assert metres(to_gcj02(lon, lat), (lon, lat)) > 20, "taken for WGS 84 the place would be wrong"


def test_a_place_given_in_wgs84_stays_to_the_last_digit():
    assert wgs84(113.123456789012, 23.0, Datum.WGS84) == (113.123456789012, 23.0)


@pytest.mark.parametrize("spelled", ["GCJ-02", "gcj02", "GCJ 02"])
def test_a_datum_is_understood_however_it_is_spelled(spelled):
    assert Datum.of(spelled) is Datum.GCJ02
    assert Datum.of(spelled.lower().replace("gcj", "wgs").replace("02", "84")) is Datum.WGS84


def test_another_datum_is_refused():
    with pytest.raises(ConfigurationError, match=says("registry.no_datum", text="BD-09")):
        Datum.of("BD-09")


@pytest.mark.parametrize(("lon", "lat"), [(113.1, 23.0), (112.0, 21.5), (114.8, 24.0)])
def test_a_place_in_the_box_or_on_its_edge_is_accepted(lon, lat):
    DELTA.check(lon, lat)


@pytest.mark.parametrize(
    ("lon", "lat", "swapped"), [(23.0, 113.1, True), (116.4, 39.9, False), (113.1, 24.001, False), (0.0, 0.0, False)]
)
def test_a_place_outside_the_box_is_refused_and_swapped_ones_are_told(lon, lat, swapped):
    with pytest.raises(
        ConfigurationError,
        match=says("registry.outside_box", sides=say("registry.sides", west=112.0, east=114.8, south=21.5, north=24.0)),
    ) as caught:
        DELTA.check(lon, lat)
    assert ("swapped" in str(caught.value)) is swapped


@pytest.mark.parametrize("sides", [[1, 2, 3], [114, 21, 112, 24], [112, 24, 114, 21], [1, 2, 3, "4"], [True, 2, 3, 4]])
def test_a_box_that_encloses_nothing_is_refused(sides):
    with pytest.raises(ConfigurationError, match=says("registry.no_box")):
        Box.of(sides)
