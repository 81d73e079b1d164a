"""Outlines of regions: what is read and refused, which place lies in which, and neighbours that overlap."""

import json

import pytest

from governance.organisation.regions import Regions
from infra.errors import ConfigurationError
from infra.texts import say
from sensors import registry_csv, registry_toml
from sensors.datum import Box, to_gcj02
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.region_outline import Outline, contains, geojson, overlap, read
from sensors.stations import Station
from tests.says import says

M = 1e-5
"""About a metre, in degrees."""


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


LEFT, RIGHT = read([box(113.0, 23.0, 113.1, 23.1)]), read([box(113.1, 23.0, 113.2, 23.1)])


def test_a_polygon_is_read_as_an_object_as_text_and_as_its_coordinates_alone():
    ring = box(113.0, 23.0, 113.1, 23.1)
    polygon = {"type": "Polygon", "coordinates": [ring]}
    many = {"type": "MultiPolygon", "coordinates": [[ring]]}
    assert read(polygon) == read(json.dumps(polygon)) == read([ring]) == read(many) == read([[ring]]) == LEFT
    assert read(geojson(LEFT)) == LEFT


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{", says("registry.outline_no_json")),
        ({"type": "Point", "coordinates": [113, 23]}, says("registry.outline_type", type="Point")),
        ([113.0, 23.0], says("registry.outline_shape")),
        ([], says("registry.outline_shape")),
        ([[[113.0, 23.0], [113.1, 23.0], [113.0, 23.0]]], says("registry.ring_short", name="outline 1.1")),
        (
            [box(113.0, 23.0, 113.1, 23.1)[:-1]],
            says("registry.ring_open", name="outline 1.1", first=[113.0, 23.0], last=[113.0, 23.1]),
        ),
        (
            [box(113.0, 23.0, 113.1, 23.1), box(23.0, 113.0, 23.1, 113.1)],
            says("registry.ring_point", name="outline 1.2", number=1, point="[23.0, 113.0]"),
        ),
        (
            [[[113.0, 23.0], [113.1, "23"], [113.1, 23.1], [113.0, 23.0]]],
            says("registry.ring_point", name="outline 1.1", number=2, point="[113.1, '23']"),
        ),
        (
            [[[113.0, float("nan")], *box(113.0, 23.0, 113.1, 23.1)]],
            says("registry.ring_point", name="outline 1.1", number=1, point="[113.0, nan]"),
        ),
        ([box(113.0, 23.0, 113.1, 23.1) * 1001], says("registry.outline_long", count=5005, limit=5000)),
        (  # a bow tie
            [[[113.0, 23.0], [113.1, 23.1], [113.1, 23.0], [113.0, 23.1], [113.0, 23.0]]],
            says("registry.outline_crosses", one="outline 1.1.1–2", other="outline 1.1.3–4"),
        ),
        (  # crossed at a corner: the edge from point 1 runs through point 4, which its ring passes from side to side
            [[[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [2.0, 0.0], [1.0, -2.0], [0.0, 0.0]]],
            says("registry.outline_crosses", one="outline 1.1.1–2", other="outline 1.1.3–4"),
        ),
        (  # a hole that sticks out of its polygon
            [box(113.0, 23.0, 113.1, 23.1), box(113.05, 23.05, 113.15, 23.06)],
            says("registry.outline_crosses", one="outline 1.1.2–3", other="outline 1.2.1–2"),
        ),
    ],
)
def test_what_is_no_outline_is_refused_with_the_place_of_the_fault(given: object, told: str):
    with pytest.raises(ConfigurationError, match=told):
        read(given)


def test_an_outline_may_touch_itself_without_crossing():
    pinched = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]]  # one corner twice
    resting = [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]  # a corner on the edge below
    assert contains(read([pinched]), 1.0, 0.5)
    assert not contains(read([resting]), 2.0, 1.0)
    hole_in_the_corner = [box(0.0, 0.0, 4.0, 4.0), box(0.0, 0.0, 1.0, 1.0)]
    assert not contains(read(hole_in_the_corner), 0.5, 0.5)


def test_the_crossing_is_found_whatever_corner_the_ring_begins_with():
    bow = [(0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (2.0, 0.0), (1.0, -2.0)]
    for k in range(len(bow)):
        for ring in (bow[k:] + bow[: k + 1], (bow[k:] + bow[: k + 1])[::-1]):
            with pytest.raises(ConfigurationError, match=says("registry.outline_crosses")):
                read([[list(point) for point in ring]])


def test_a_place_lies_in_a_polygon_or_in_none_and_not_in_a_hole():
    lake = read([box(113.0, 23.0, 113.1, 23.1), box(113.04, 23.04, 113.06, 23.06)])
    both = (*lake, *read([box(114.0, 23.0, 114.1, 23.1)]))
    assert [
        contains(both, *place) for place in ((113.01, 23.01), (113.05, 23.05), (114.05, 23.05), (113.5, 23.05))
    ] == [
        True,
        False,
        True,
        False,
    ]
    for lon in (113.0999, 113.1, 113.1001):  # also on the border itself it is one of the two, never both
        assert [contains(LEFT, lon, 23.05), contains(RIGHT, lon, 23.05)].count(True) == 1


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        (RIGHT, False),
        (read([box(113.1 - 20 * M, 23.0, 113.2, 23.1)]), False),  # a sliver of drawing
        (read([box(113.1 - 80 * M, 23.0, 113.2, 23.1)]), True),
        (LEFT, True),
        (read([box(113.04, 23.04, 113.06, 23.06)]), True),  # within
        (read([box(112.9, 23.04, 113.2, 23.06)]), True),  # a cross: no corner of either lies in the other
        (read([box(113.0, 23.2, 113.1, 23.3)]), False),
    ],
)
def test_neighbours_that_share_more_than_a_sliver_overlap(other: Outline, overlaps: bool):
    assert (overlap(LEFT, other) is not None, overlap(other, LEFT) is not None) == (overlaps, overlaps)


def test_a_region_within_the_hole_of_its_neighbour_does_not_overlap_it():
    around = read([box(113.0, 23.0, 113.1, 23.1), box(113.04, 23.04, 113.06, 23.06)])
    assert overlap(around, read([box(113.04, 23.04, 113.06, 23.06)])) is None


# -- in the registry ---------------------------------------------------------------------------------------------------

FILE = '''
[[region]]
code = "d"
level = "district"
outline = [[[113.0, 23.0], [113.2, 23.0], [113.2, 23.2], [113.0, 23.2], [113.0, 23.0]]]
[[region]]
code = "a"
zh = "甲街道（示例）"
level = "street"
parent = "d"
outline = [[[113.0, 23.0], [113.1, 23.0], [113.1, 23.2], [113.0, 23.2], [113.0, 23.0]]]
[[region]]
code = "b"
level = "street"
parent = "d"
outline = """
{"type": "Polygon", "coordinates": [[[WEST, 23.0], [113.2, 23.0], [113.2, 23.2], [WEST, 23.2], [WEST, 23.0]]]}
"""
'''


def test_overlapping_siblings_are_refused_by_name_and_a_child_may_lie_in_its_parent():
    book = registry_toml.read_book(FILE.replace("WEST", "113.1"), catalogue())
    assert [bool(r.outline) for r in book.registry.regions] == [True, True, True]
    with pytest.raises(
        ConfigurationError,
        match=r"region 3 \(b\): " + says("registry.outlines_overlap", code="a", name="甲街道（示例）", lon="113.05000"),
    ):
        registry_toml.read_book(FILE.replace("WEST", "113.05"), catalogue())
    later = FILE.replace("WEST", "113.05").split("[[region]]")[3]
    with pytest.raises(ConfigurationError, match=says("registry.outlines_overlap", code="a", name="甲街道（示例）")):
        registry_toml.read_book("[[region]]" + later, catalogue(), known=book)


def test_outlines_come_back_from_a_file_and_from_a_table():
    book = registry_toml.read_book(FILE.replace("WEST", "113.1"), catalogue())
    assert registry_toml.read_book(registry_toml.write(book), catalogue()) == book
    assert registry_csv.read_book(registry_csv.write(book), catalogue()) == book


def test_an_outline_in_gcj02_is_kept_in_wgs84_and_one_outside_the_site_is_refused():
    shifted = [list(to_gcj02(*point)) for point in box(113.0, 23.0, 113.1, 23.1)]
    text = f'[[region]]\ncode = "d"\nlevel = "district"\ndatum = "GCJ-02"\noutline = [{shifted}]'
    (found,) = registry_toml.read(text, catalogue()).regions
    assert found.outline[0][0][0] == pytest.approx((113.0, 23.0), abs=1e-8)
    with pytest.raises(
        ConfigurationError,
        match=r"line 1: region 1 \(d\): outline 1\.1\.1: "
        + says(
            "registry.outside_box",
            lon=103.0,
            lat=23.0,
            sides=say("registry.sides", west=112.0, east=114.8, south=21.5, north=24.0),
            hint="",
        ),
    ):
        registry_toml.read_book(
            f'[[region]]\ncode = "d"\nlevel = "district"\noutline = [{box(103.0, 23.0, 103.1, 23.1)}]',
            catalogue(),
            box=Box.of([112.0, 21.5, 114.8, 24.0]),
        )


def test_a_point_belongs_to_the_lowest_region_drawn_around_it_and_else_to_the_nearest_station():
    def region(code: str, level: Level, parent: str | None, outline: Outline = ()) -> Region:
        return Region(code, code, code, level, parent, "", outline)

    street = read([box(113.0, 23.0, 113.1, 23.1)])
    cell = read([box(113.0, 23.0, 113.05, 23.05)])
    known = (
        region("d", Level.DISTRICT, None),
        region("d/s", Level.STREET, "d", street),
        region("d/s/drawn", Level.GRID, "d/s", cell),
        region("d/s/bare", Level.GRID, "d/s"),
        region("d/t", Level.STREET, "d"),
        region("d/t/bare", Level.GRID, "d/t"),
    )
    stations = (
        Station("s1", "", "", 113.045, 23.045, region="d/s/drawn"),
        Station("s2", "", "", 113.08, 23.08, region="d/s/bare"),
        Station("s3", "", "", 113.105, 23.05, region="d/t/bare"),
    )
    regions = Regions(known, stations)
    assert regions.at(113.01, 23.01) == "d/s/drawn", "far from every station"
    assert regions.at(113.055, 23.045) == "d/s", "a kilometre from the station of a cell it does not lie in"
    assert regions.at(113.085, 23.08) == "d/s/bare", "in the street, and near a station of a cell nobody has drawn"
    assert regions.at(113.099, 23.05) == "d/s", "the nearest station is that of another street"
    assert regions.at(113.11, 23.05) == "d/t/bare", "nothing is drawn there: the nearest station"
    assert regions.at(113.3, 23.3) == ""
    assert Regions(known[:1], stations).at(113.3, 23.3) == ""
