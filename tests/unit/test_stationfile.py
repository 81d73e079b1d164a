"""The registry file: what a site writes down is what it gets, and every mistake is told at once."""

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from sensors.errors import ConfigurationError
from sensors.parameters import catalogue
from sensors.reading import Batch
from sensors.stationfile import read
from sensors.stations import Deployment, Water

SHIPPED = Path(__file__).parents[2] / "config" / "stations.toml"

REACH = """
[[reach]]
key = "creek"
zh = "涌"
water = "creek"
line = [[113.1, 23.0], [113.2, 23.0]]
"""
STATION = """
[[station]]
key = "a"
lon = 113.1
lat = 23.0
"""


def faults(text: str) -> list[str]:
    """What was wrong, without the lines in which the rows stand."""
    with pytest.raises(ConfigurationError) as caught:
        read(text, catalogue())
    return [re.sub(r"^line \d+: ", "", told) for told in str(caught.value).splitlines()]


def test_the_shipped_file_holds_chancheng_and_says_that_it_is_schematic():
    text = SHIPPED.read_text(encoding="utf-8")
    registry = read(text, catalogue())
    assert len(registry.stations) == 14
    assert {r.zh for r in registry.reaches} == {
        "东平河石湾段",
        "奇槎涌环湖花园段",
        "鄱阳南窦涌",
        "石湾公园湖",
        "奇槎海绵城市片区",
    }
    assert "示意" in text.split("[[reach]]")[0]
    assert all("示意" in place.note for place in (*registry.stations, *registry.reaches))
    assert {s.key for s in registry.stations if s.gateway == "gw-nandou"} == {"pynd-1", "pynd-2", "pynd-3"}
    assert all(
        {"water_temp", "ph", "do", "conductivity", "turbidity", "nh3n"} <= set(s.parameters) for s in registry.stations
    )
    assert all("chla" in s.parameters for s in registry.stations if s.water is Water.LAKE)
    waters = {r.key: r.water for r in registry.reaches}
    assert all(waters[s.reach] is s.water for s in registry.stations)
    assert all(113.04 < s.lon < 113.17 and 22.97 < s.lat < 23.03 for s in registry.stations)


def test_the_shiwan_reach_of_the_shipped_file_is_about_13_km_long_with_a_station_every_3_to_4_km():
    registry = read(SHIPPED.read_text(encoding="utf-8"), catalogue())
    reach = next(r for r in registry.reaches if r.key == "dongpinghe-shiwan")

    def km(a: tuple[float, float], b: tuple[float, float]) -> float:
        return math.hypot((a[0] - b[0]) * 111.32 * math.cos(math.radians(23)), (a[1] - b[1]) * 110.6)

    assert sum(map(km, reach.line, reach.line[1:])) == pytest.approx(13, abs=0.5)
    stations = [(s.lon, s.lat) for s in registry.stations if s.reach == reach.key]
    assert all(3 <= km(a, b) <= 4 for a, b in pairwise(stations))


def test_an_empty_file_is_an_empty_registry():
    registry = read("", catalogue())
    assert registry.stations == registry.reaches == registry.deployments == ()


def test_a_station_may_stand_on_no_reach():
    assert read(STATION, catalogue())["a"].reach == ""


def test_a_deployment_in_another_unit_is_converted_from_its_first_instant_on():
    text = (
        STATION
        + """
[[deployment]]
station = "a"
parameter = "conductivity"
since = 2026-05-12T10:30:00+08:00
unit = "mS/cm"
gain = 1.1
offset = 2

[[deployment]]
station = "a"
parameter = "do"
since = "2026-05-12T10:30:00Z"
unit = "mg/L"
"""
    )
    registry = read(text, catalogue())
    assert registry.deployments == (
        Deployment("a", "conductivity", 1_778_553_000_000, "mS/cm", 1.1, 2.0),
        Deployment("a", "do", 1_778_581_800_000, "mg/L"),
    )
    conductivity = catalogue().index["conductivity"]
    at = [1_778_552_999_999, 1_778_553_000_000]
    assert registry.canonical(Batch.of([0, 0], [conductivity] * 2, at, [0.4, 0.4])) == pytest.approx([0.4, 442.0])
    assert registry.catalogue is catalogue()


def test_every_bad_row_is_told_in_one_error_with_its_kind_number_and_key():
    text = """
[[reach]]
key = "short"
line = [[113.1, 23.0]]

[[reach]]
key = "wet"
water = "swamp"
line = [[113.1, 23.0], [113.2, 23.0]]

[[reach]]
key = "lost"
line = [[113.1, 23.0], [113.2, 23.0]]
downstream = "nowhere"

[[station]]
key = "Bad Key"
lon = 113.1
lat = 23.0

[[station]]
key = "good"
lon = 113.1
lat = 23.0
reach = "short"

[[station]]
key = "swapped"
lon = 23.0
lat = 113.1

[[station]]
key = "good"
lon = 113.1
lat = 23.0

[[station]]
key = "far"
lon = 113.1
lat = 23.0
reach = "unwritten"

[[deployment]]
station = "good"
parameter = "do"
since = 2026-05-12T10:30:00+08:00
unit = "furlong"

[[deployment]]
station = "ghost"
parameter = "do"
since = 2026-05-12T10:30:00+08:00
"""
    told = faults(text)
    starts = [
        "reach 1 (short): line",
        "reach 2 (wet): water 'swamp'",
        "station 1 (Bad Key): station key",
        "station 3 (swapped):",
        "station 4 (good): this key is taken",
        "station 5 (far): reach 'unwritten'",
        "deployment 1 (good): no conversion from furlong to mg/L",
        "deployment 2 (ghost): station 'ghost'",
        "reach 3 (lost): downstream 'nowhere'",
    ]
    assert len(told) == len(starts)
    assert all(line.startswith(start) for line, start in zip(told, starts, strict=True)), told
    assert "swapped" in told[3].split(":", 1)[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[station]\n", "not TOML"),
        ("[[sensor]]\nkey = 'a'\n", "sensor: unknown entry"),
        ("station = 3\n", "station: write [[station]]"),
        ("reach = [1]\n", "reach 1: must be a table"),
        (REACH + "colour = 'blue'\n", "reach 1 (creek): unknown entry 'colour'"),
        (REACH + REACH, "reach 2 (creek): this key is taken"),
        ("[[reach]]\nline = [[1, 2], [3, 4]]\n", "reach 1: key"),
        (f"[[reach]]\nkey = '{'r' * 65}'\nline = [[1, 2], [3, 4]]\n", "key must be text, not empty and at most 64"),
        (STATION + f"gateway = '{'g' * 65}'\n", "station 1 (a): station a: gateway must have at most 64 characters"),
        (REACH + "downstream = 'creek'\n", "reach 1 (creek): following downstream leads back here"),
        ("[[reach]]\nkey = 'r'\nline = [[113.1, 23.0], [113.2]]\n", "reach 1 (r): line: point 2"),
        ("[[reach]]\nkey = 'r'\nline = [[113.1, 23.0], [113.2, 230]]\n", "reach 1 (r): line: point 2"),
        ("[[reach]]\nkey = 'r'\nline = 'winding'\n", "reach 1 (r): line must be"),
        ("[[reach]]\nkey = 'r'\nzh = 7\nline = [[1, 2], [3, 4]]\n", "reach 1 (r): zh 7 must be text"),
        (STATION + "parameters = 5\n", "station 1 (a): parameters 5"),
        (STATION + "parameters = 'ph'\n", "station 1 (a): parameters 'ph'"),
        (STATION + "parameters = [['ph']]\n", "station 1 (a): parameters [['ph']]"),
        (STATION + "parameters = ['ph', 'ph']\n", "station 1 (a): parameters names a parameter twice"),
        (STATION + "parameters = ['smell']\n", "unknown parameter 'smell'"),
        (STATION + "depth = 2\n", "station 1 (a): station a: unknown entry 'depth'"),
    ],
)
def test_a_mistake_is_named(text, fault):
    told = faults(text)
    assert len(told) == 1
    assert fault in told[0]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("parameter = 'smell'\nsince = 2026-01-01T00:00:00Z", "unknown parameter 'smell'"),
        ("parameter = 'do'", "since None"),
        ("parameter = 'do'\nsince = 2026-01-01T00:00:00", "no offset"),
        ("parameter = 'do'\nsince = 'yesterday'", "since 'yesterday'"),
        ("parameter = 'do'\nsince = 2026-01-01", "must be an RFC 3339 time"),
        ("parameter = 'do'\nsince = 2026-01-01T00:00:00Z\ngain = 0", "gain 0"),
        ("parameter = 'do'\nsince = 2026-01-01T00:00:00Z\ngain = inf", "gain inf"),
        ("parameter = 'do'\nsince = 2026-01-01T00:00:00Z\noffset = 'some'", "offset 'some'"),
        ("parameter = 'do'\nsince = 2026-01-01T00:00:00Z\ndepth = 1", "unknown entry 'depth'"),
    ],
)
def test_a_bad_deployment_is_named(line, fault):
    told = faults(STATION + "[[deployment]]\nstation = 'a'\n" + line + "\n")
    assert len(told) == 1
    assert told[0].startswith("deployment 1 (a): ")
    assert fault in told[0]


def test_two_deployments_of_a_parameter_cannot_begin_at_the_same_instant():
    row = "[[deployment]]\nstation = 'a'\nparameter = 'do'\nsince = 2026-01-01T00:00:00Z\n"
    other = row.replace("2026-01-01T00:00:00Z", "'2026-01-01T08:00:00+08:00'")
    assert "another deployment" in faults(STATION + row + other)[0]


def test_reaches_in_a_circle_are_refused():
    text = "".join(
        f"[[reach]]\nkey = '{key}'\nline = [[1, 2], [3, 4]]\ndownstream = '{below}'\n"
        for key, below in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"))
    )
    told = faults(text)
    assert [line.split(":")[0] for line in told] == ["reach 1 (a)", "reach 2 (b)", "reach 3 (c)"]


def test_a_reach_names_the_class_it_is_to_reach() -> None:
    text = '[[reach]]\nkey = "a"\nwater = "creek"\nline = [[113.1, 23.0], [113.2, 23.0]]\ntarget = "Ⅳ类"\n'
    assert read(text, catalogue()).reaches[0].target == 4
    with pytest.raises(ConfigurationError, match=r"reach 1 \(a\).*VI.*no class"):
        read(text.replace("Ⅳ类", "VI"), catalogue())
    with pytest.raises(ConfigurationError, match=r">V.*must be one of I"):
        read(text.replace("Ⅳ类", ">V"), catalogue())
