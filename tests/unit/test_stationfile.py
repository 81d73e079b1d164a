"""The registry file: what a site writes down is what it gets, and every mistake is told at once."""

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from infra.errors import ConfigurationError
from infra.texts import say
from sensors.datum import Box, to_gcj02
from sensors.network import Level
from sensors.parameters import catalogue
from sensors.reading import Batch
from sensors.registry_toml import read, read_book
from sensors.stations import Deployment, Water
from tests.says import says

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
    """What was wrong, in English, without the lines in which the rows stand."""
    with pytest.raises(ConfigurationError) as caught:
        read(text, catalogue())
    return [re.sub(r"^line \d+: ", "", told) for told in caught.value.text.en.splitlines()]


def test_the_shipped_file_holds_chancheng_and_says_that_it_is_schematic():
    text = SHIPPED.read_text(encoding="utf-8")
    registry = read(text, catalogue())
    assert len(registry.stations) == 24
    assert {"东平河石湾段", "奇槎涌环湖花园段", "鄱阳南窦涌", "石湾公园湖", "奇槎海绵城市片区"} < {
        r.zh for r in registry.reaches
    }
    assert "示意" in text.split("[[reach]]")[0]
    assert all("示意" in place.note for place in (*registry.stations, *registry.reaches))
    assert all("示例" in outfall.note for outfall in registry.outfalls)
    assert {s.key for s in registry.stations if s.gateway == "gw-nandou"} == {"pynd-1", "pynd-2", "pynd-3"}
    assert all("chla" in s.parameters for s in registry.stations if s.water is Water.LAKE)
    waters = {r.key: r.water for r in registry.reaches}
    assert all(waters[s.reach] is s.water for s in registry.stations)
    assert all(113.04 < s.lon < 113.17 and 22.97 < s.lat < 23.05 for s in registry.stations)


def test_the_shipped_stations_are_of_different_kinds_and_every_reach_can_be_judged():
    registry = read(SHIPPED.read_text(encoding="utf-8"), catalogue())
    for kind in ("水质自动站", "微型站", "投入式多参数探头", "浮标站", "水位站", "排口监测"):
        assert any(kind in s.note for s in registry.stations), kind
    assert {s.interval_s for s in registry.stations} == {300, 600, 900}
    for reach in registry.reaches:
        here = [s for s in registry.stations if s.reach == reach.key]
        assert any({"ph", "do", "nh3n"} <= set(s.parameters) for s in here), reach.key


def test_people_and_devices_of_the_shipped_file_are_visibly_made_up():
    book = read_book(SHIPPED.read_text(encoding="utf-8"), catalogue())
    assert book.maintenance.checks
    assert book.maintenance.visits
    assert all(one.by.startswith("示例") for one in (*book.maintenance.checks, *book.maintenance.visits))
    assert all("示例" in device.note and "示例" in device.manufacturer for device in book.registry.devices)


def test_the_shipped_network_has_a_travel_time_wherever_water_flows_on_and_regions_of_all_five_levels():
    registry = read(SHIPPED.read_text(encoding="utf-8"), catalogue())
    flows = {(r.key, r.downstream) for r in registry.reaches if r.downstream}
    assert {(t.upper, t.lower) for t in registry.travels} == flows
    assert {r.level for r in registry.regions} == set(Level)
    assert {s.region for s in registry.stations} <= {r.code for r in registry.regions}


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
    with pytest.raises(ConfigurationError, match=r"line 1: reach 1 \(a\): " + says("registry.no_class", text="VI")):
        read(text.replace("Ⅳ类", "VI"), catalogue())
    with pytest.raises(ConfigurationError, match=says("registry.no_target", target=">V")):
        read(text.replace("Ⅳ类", ">V"), catalogue())


# -- what a network, a fleet and its upkeep may not be -----------------------------------------------------------------


def row(kind: str, **entries: object) -> str:
    def spelled(value: object) -> str:
        return f"[{', '.join(map(spelled, value))}]" if isinstance(value, list) else repr(value)

    return f"[[{kind}]]\n" + "".join(f"{name} = {spelled(value)}\n" for name, value in entries.items())


SINCE = "2026-05-12T10:30:00+08:00"
LATER = "2026-06-12T10:30:00+08:00"
CREEK = REACH + row("reach", key="below", line=[[113.2, 23.0], [113.3, 23.0]])
CHECK = {"station": "a", "parameter": "do", "at": SINCE, "standard": 8.0, "reading": 8.1, "type": "five"}


def test_a_bad_row_is_told_with_the_line_it_stands_in():
    with pytest.raises(ConfigurationError) as caught:
        read(f"# a comment\n\n{STATION}\n# and another\n{row('station', key='b', lon=23.0, lat=113.1)}", catalogue())
    assert str(caught.value).startswith("line 10: station 2 (b): ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (row("region", code="a", level="street"), "region 1 (a): a street needs a parent"),
        (row("region", code="a", level="country"), "region 1 (a): level 'country' must be one of district"),
        (row("region", code="a", level="district", parent="b"), "region 1 (a): a district has no parent"),
        (row("region", code="a", level="grid", parent="b"), "region 1 (a): parent 'b' is not registered"),
        (
            row("region", code="d", level="district")
            + row("region", code="g", level="grid", parent="d")
            + row("region", code="s", level="street", parent="g"),
            "region 3 (s): parent g is a grid, which is not above",
        ),
        (row("region", code="d", level="district") + STATION + "region = 'e'\n", "region 'e' is not registered"),
        (CREEK + row("travel", upper="creek", lower="x", least_s=1, typical_s=2, most_s=3), "lower 'x' is not"),
        (CREEK + row("travel", upper="creek", lower="below", least_s=3, typical_s=2, most_s=3), "grow in this order"),
        (CREEK + row("travel", upper="creek", lower="below", typical_s=2, most_s=3), "must be given"),
        (CREEK + row("travel", upper="creek", lower="creek", least_s=1, typical_s=2, most_s=3), "come back to it"),
        (CREEK + row("outfall", key="o", reach="x", km=1.0), "outfall 1 (o): reach 'x' is not registered"),
        (CREEK + row("outfall", key="o", reach="creek", km=11.0), "km 11.0 must be a place on reach creek: 0–10.24"),
        (CREEK + row("outfall", key="o", reach="creek", km=-0.1), "km -0.1 must be"),
        (CREEK + row("outfall", key="o", reach="creek", km=1.0, type="leak"), "type 'leak' must be storm"),
        (STATION + row("deployment", station="a", parameter="do", since=SINCE, device="X"), "device 'X' is not"),
        (
            STATION + row("deployment", station="a", parameter="do", since=SINCE, until=SINCE),
            "until is not after since",
        ),
        (STATION + row("deployment", station="a", parameter="do", since=SINCE, method="FNU"), "of turbidity"),
        (STATION + row("deployment", station="a", parameter="do", since=SINCE, depth_m=-1), "depth_m -1 must be"),
        (STATION + row("deployment", station="a", parameter="nh3n", since=SINCE, cycle_s=0), "cycle_s 0 must be"),
        (STATION + row("check", **CHECK | {"type": "look"}), "type 'look' must be zero"),
        (STATION + row("check", **CHECK | {"parameter": "orp"}), "five check of orp has no limit"),
        (STATION + row("check", **CHECK) + row("check", **CHECK), "check 2 (a): do has another check"),
        (STATION + row("visit", station="a", since=SINCE, parameters=["smell"]), "unknown parameter 'smell'"),
        (
            STATION + row("visit", station="a", since=SINCE) + row("visit", station="a", since=LATER),
            "visit 2 (a): begins during the visit that began 2026-05-12 10:30",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_row_and_reason(text, fault):
    told = faults(text)
    assert len(told) == 1, told
    assert fault in told[0]


def test_a_travel_time_against_the_stream_is_a_circle():
    flowing = CREEK.replace('water = "creek"\n', 'water = "creek"\ndownstream = "below"\n')
    with_, against = (
        row("travel", upper=upper, lower=lower, least_s=60, typical_s=60, most_s=60)
        for upper, lower in (("creek", "below"), ("below", "creek"))
    )
    assert len(read(flowing + with_, catalogue()).travels) == 1
    assert "water from below would come back to it" in faults(flowing + against)[0]


def test_deployments_that_overlap_are_refused_naming_both_and_a_swap_is_not_one():
    device = row("device", serial="A1")
    first = row("deployment", station="a", parameter="do", since=SINCE, device="A1")
    second = row("deployment", station="a", parameter="do", since=LATER)
    assert len(read(STATION + device + first + second, catalogue()).deployments) == 2
    ended = first + "until = '2026-06-12T10:30:01+08:00'\n"
    (told,) = faults(STATION + device + ended + second)
    assert told.startswith("deployment 2 (a): ")
    assert "do at a since 2026-06-12T02:30:00Z overlaps" in told
    assert "do at a since 2026-05-12T02:30:00Z until 2026-06-12T02:30:01Z with A1" in told
    assert read(STATION + device + ended.replace(":01+", ":00+") + second, catalogue()).deployments


def test_one_device_cannot_hang_at_two_stations_at_a_time():
    two = STATION + STATION.replace('"a"', '"b"') + row("device", serial="A1")
    here = row("deployment", station="a", parameter="do", since=SINCE, device="A1")
    there = row("deployment", station="b", parameter="do", since=LATER, device="A1")
    assert "hangs elsewhere" in faults(two + here + there)[0]
    moved = here + f"until = '{LATER}'\n" + there
    assert len(read(two + moved, catalogue()).deployments) == 2
    replaced = here + row("deployment", station="a", parameter="do", since="2026-06-01T00:00:00Z") + there
    assert len(read(two + replaced, catalogue()).deployments) == 3


def test_places_given_in_gcj02_are_kept_where_they_are():
    lon, lat = to_gcj02(113.1, 23.0)
    text = row("station", key="a", lon=lon, lat=lat, datum="GCJ-02")
    text += row("reach", key="r", line=[list(to_gcj02(113.1, 23.0)), list(to_gcj02(113.2, 23.0))], datum="gcj02")
    registry = read(text, catalogue())
    assert (registry["a"].lon, registry["a"].lat) == pytest.approx((113.1, 23.0), abs=1e-8)
    assert registry.reaches[0].line[1] == pytest.approx((113.2, 23.0), abs=1e-8)
    assert "datum 'BD-09' must be" in faults(row("station", key="a", lon=lon, lat=lat, datum="BD-09"))[0]


def test_places_outside_the_box_are_refused_whether_the_file_or_the_site_draws_it():
    far = row("station", key="a", lon=116.4, lat=39.9)
    (told,) = faults("box = [112.0, 21.5, 114.8, 24.0]\n" + far)
    assert "station 1 (a): lon 116.4, lat 39.9 is outside the site's box" in told
    with pytest.raises(
        ConfigurationError, match=r"reach 1 \(creek\): .*" + says("registry.outside_box", lon=113.1, lat=23.0)
    ):
        read_book(REACH, catalogue(), box=Box(116.0, 39.0, 117.0, 41.0))
    swapped = row("station", key="a", lon=23.0, lat=89.0)
    assert "swapped" not in faults("box = [112.0, 21.5, 114.8, 24.0]\n" + swapped)[0]


def test_rows_may_name_what_is_registered_already_and_must_fit_it():
    there = read_book(STATION + row("deployment", station="a", parameter="do", since=LATER), catalogue())
    earlier = row("deployment", station="a", parameter="do", since=SINCE)
    assert len(read_book(earlier, catalogue(), known=there).registry.deployments) == 1
    with pytest.raises(
        ConfigurationError, match=r"deployment 1 \(a\): " + says("maintenance.clashes", why=say("maintenance.overlaps"))
    ):
        read_book(earlier + "until = '2027-01-01T00:00:00Z'\n", catalogue(), known=there)
    busy = read_book(STATION + row("visit", station="a", since=SINCE), catalogue())
    with pytest.raises(ConfigurationError, match=r"visit 1 \(a\): " + says("maintenance.during_visit")):
        read_book(row("visit", station="a", since=LATER), catalogue(), known=busy)
    ended = row("visit", station="a", since=SINCE, until=LATER)
    assert len(read_book(ended, catalogue(), known=busy).maintenance.visits) == 1


def test_the_deployment_in_force_says_how_often_an_analyser_reports():
    registry = read(
        STATION
        + row("deployment", station="a", parameter="nh3n", since=SINCE, cycle_s=14400)
        + row("deployment", station="a", parameter="nh3n", since=LATER),
        catalogue(),
    )
    begins, swapped = registry.deployments[0].since_ms, registry.deployments[1].since_ms
    assert registry.cycles_s(begins - 1) == {}
    assert registry.cycles_s(begins) == {"a": {"nh3n": 14400}}
    assert registry.cycles_s(swapped) == {"a": {}}
