"""The registry's models: which check is due first, what a form says, what a file would change."""

from dataclasses import replace

import pytest

from api.maintenance import MaintenanceSummary
from api.pages.models import registry as models
from api.pages.models.overview import Data
from api.pages.models.registry import Filter, StationForm
from governance.organisation.regions import Regions
from infra.times import DAY_MS
from sensors.datum import Box, to_gcj02
from sensors.maintenance import CheckDue
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.registry_rows import Book
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Deployment, Device, Reach, Registry, Station, Water

NOW = 1_780_000_000_000
CREEK = Reach("creek", "奇槎涌", "Qicha Creek", Water.CREEK, ((113.0, 23.0), (113.0, 23.1)), target=WaterClass.V)
REGIONS = (
    Region("d", "区", "District", Level.DISTRICT),
    Region("d/s", "街道", "Street", Level.STREET, "d"),
    Region("d/t", "另一街道", "Other", Level.STREET, "d"),
)
ONE = Station("one", "一号站", "One", 113.0, 23.05, "creek", region="d/s", parameters=("do", "nh3n"))
TWO = Station("two", "二号站", "Two", 113.5, 23.05, region="d/t", interval_s=14_400)
HUNG = Deployment("one", "do", NOW - 9 * DAY_MS, "mg/L", device="S-1")
KNOWN = catalogue()
REGISTRY = Registry(
    (ONE, TWO), (HUNG,), (CREEK,), KNOWN, devices=(Device("S-1", "探头5"), Device("S-2", "探头6")), regions=REGIONS
)
FORM = StationForm(key="new", zh="新站", lon="113.0", lat="23.05", reach="creek", region="d/s", parameters=("do",))
SENSOR = {"parameter": "do", "unit": "", "device": "S-2", "model": "", "manufacturer": "", "depth_m": "", "cycle_s": ""}


def _care(station: Station, *due: CheckDue, newest_ms: int | None = NOW) -> MaintenanceSummary:
    return MaintenanceSummary(station, None, (), due, newest_ms, None)


def _rows() -> list[models.Entry]:
    late = CheckDue("do", None, False, NOW - 1)
    soon = CheckDue("nh3n", None, False, NOW + DAY_MS)
    cares = [
        _care(TWO, soon, newest_ms=NOW - 3 * 14_400_000),
        _care(ONE, soon, late, CheckDue("tp", None, False, None)),
    ]
    return models.entries(REGISTRY, cares, {"one": 2}, NOW)


def test_the_check_that_is_due_first_stands_in_the_row() -> None:
    one, two = _rows()
    assert (one.due.state, one.due.parameter) == ("overdue", "do")
    assert (two.due.state, two.due.parameter) == ("soon", "nh3n")
    assert (one.serials, one.models, one.logins, two.logins) == (("S-1",), ("探头5",), 2, 0)
    assert (one.state, two.state) == (Data.NORMAL, Data.LATE)
    far = models.due(_care(ONE, CheckDue("do", None, False, NOW + 8 * DAY_MS)), NOW)
    assert far.state == "later"
    assert models.due(_care(ONE), NOW).state == "none"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), ["one", "two"]),
        (Filter(river="creek"), ["one"]),
        (Filter(region="d"), ["one", "two"]),
        (Filter(region="d/t"), ["two"]),
        (Filter(state="late"), ["two"]),
        (Filter(model="探头5"), ["one"]),
        (Filter(due="overdue"), ["one"]),
        (Filter(login="without"), ["two"]),
        (Filter(q="s-1"), ["one"]),
        (Filter(q="奇槎 一号"), ["one"]),
        (Filter(q="奇槎 二号"), []),
    ],
)
def test_a_filter_lets_through_what_it_says(wanted: Filter, found: list[str]) -> None:
    shown = models.listing(_rows(), wanted, Regions(REGIONS), 1)
    assert [one.station.key for one in shown.entries] == found
    assert (shown.all, shown.overdue, shown.soon, shown.without_login) == (2, 1, 1, 1)


def test_who_may_not_know_the_logins_is_not_told_by_a_filter() -> None:
    rows = [replace(one, logins=None) for one in _rows()]
    shown = models.listing(rows, Filter(login="without"), Regions(REGIONS), 1)
    assert shown.chosen == 2
    assert shown.without_login == 0


# -- the form ----------------------------------------------------------------------------------------------------------


def test_a_form_that_is_right_is_a_station() -> None:
    read = models.read_station(replace(FORM, key="x-1"), REGISTRY, KNOWN, None)
    assert not read.wrong
    assert read.off_km is None
    assert (read.values["lon"], read.values["en"], read.values["gateway"]) == (113.0, "新站", None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("key", "new"),
        ("key", "one"),
        ("key", "A b"),
        ("zh", ""),
        ("zh", "字" * 201),
        ("lon", "abc"),
        ("lon", "nan"),
        ("lat", "91"),
        ("datum", "mars"),
        ("reach", "nowhere"),
        ("region", "nowhere"),
        ("water", "sea"),
        ("interval_s", "0"),
        ("interval_s", "5 min"),
        ("interval_s", "86401"),
        ("gateway", "g" * 65),
    ],
)
def test_what_is_wrong_is_named_by_its_field(name: str, text: str) -> None:
    read = models.read_station(replace(FORM, **{"key": "x-1", name: text}), REGISTRY, KNOWN, None)
    assert set(read.wrong) == {name}


def test_a_place_off_its_river_is_asked_about_unless_it_is_kept_or_was_there_before() -> None:
    off = replace(FORM, key="x-1", lon="113.02")
    assert models.read_station(off, REGISTRY, KNOWN, None).off_km == pytest.approx(2.05, abs=0.1)
    assert models.read_station(replace(off, keep_place="1"), REGISTRY, KNOWN, None).off_km is None
    shifted = to_gcj02(113.0, 23.05)
    phone = replace(FORM, key="x-1", lon=str(shifted[0]), lat=str(shifted[1]), datum="GCJ-02")
    assert models.read_station(phone, REGISTRY, KNOWN, None).off_km is None
    assert models.read_station(replace(phone, datum="WGS 84"), REGISTRY, KNOWN, None).off_km is not None
    there = replace(ONE, lon=113.02)
    renamed = replace(StationForm.of(there), zh="改名")
    read = models.read_station(renamed, REGISTRY, KNOWN, None, there)
    assert read.off_km is None
    assert "lon" not in read.values
    outside = models.read_station(replace(FORM, key="x-1"), REGISTRY, KNOWN, Box(1, 1, 2, 2))
    assert set(outside.wrong) == {"lon"}


def test_a_form_as_it_was_shown_says_what_is_registered() -> None:
    assert models.same(StationForm.of(ONE), ONE)
    assert not models.same(replace(StationForm.of(ONE), parameters=("do",)), ONE)
    assert not models.same(replace(StationForm.of(ONE), note="x"), ONE)


# -- sensors -----------------------------------------------------------------------------------------------------------


def _sensor(**typed: str) -> models.Read:
    hanging = models.hangings(REGISTRY, "one", NOW)
    return models.read_sensor({**SENSOR, "since": "2026-05-28T10:00", **typed}, hanging, KNOWN)


def test_a_sensor_is_hung_in_beijing_time_after_the_present_one() -> None:
    read = _sensor()
    assert not read.wrong
    assert read.values["since"].startswith("2026-05-28T02:00:00")
    assert set(_sensor(since="2026-05-01T10:00").wrong) == {"since"}
    assert set(_sensor(since="soon").wrong) == {"since"}
    assert set(_sensor(since="2026-02-31T10:00").wrong) == {"since"}
    assert set(_sensor(parameter="gold").wrong) == {"parameter"}
    assert set(_sensor(depth_m="nan").wrong) == {"depth_m"}
    assert set(_sensor(depth_m="deep").wrong) == {"depth_m"}
    assert set(_sensor(cycle_s="0").wrong) == {"cycle_s"}
    assert set(_sensor(device="x" * 65).wrong) == {"device"}


def test_the_next_sensor_ends_the_one_before() -> None:
    later = replace(HUNG, since_ms=NOW - DAY_MS, device="S-2")
    planned = replace(HUNG, since_ms=NOW + DAY_MS, device="S-3")
    registry = replace(REGISTRY, deployments=(HUNG, later, planned))
    found = {one.deployment.device: one for one in models.hangings(registry, "one", NOW)}
    assert [one.now for one in found.values()] == [True, False, False]
    assert found["S-1"].until_ms == later.since_ms
    assert found["S-2"].now
    assert found["S-2"].model == "探头6"
    assert [d.device for d in models.in_force(registry.deployments, NOW)] == ["S-2"]
    gone = replace(HUNG, until_ms=NOW - 1)
    assert models.in_force([gone], NOW) == []


def test_the_checklist_says_what_is_missing() -> None:
    done = {one.key: one.done for one in models.checklist(REGISTRY, ONE, ["王"], 1, "10:00", NOW)}
    assert done == dict.fromkeys(done, True) | {"unit": False}
    bare = {one.key: one.done for one in models.checklist(REGISTRY, replace(TWO, region=""), [], 0, None, NOW)}
    assert bare == dict.fromkeys(bare, False)


# -- a file ------------------------------------------------------------------------------------------------------------


def test_a_plan_names_what_is_new_and_what_changes_and_nothing_else() -> None:
    moved = replace(ONE, lon=113.02, note="x")
    new = Station("three", "三号站", "Three", 113.0, 23.05)
    book = Book(Registry((moved, TWO, new), (HUNG,), catalogue=KNOWN))
    plan = models.plan(book, Book(REGISTRY))
    assert {(line.key, line.new) for line in plan.lines} == {("one", False), ("three", True)}
    assert plan.same == 2
    assert plan.stations == {"one", "three"}
    first = next(line for line in plan.lines if line.key == "one")
    assert {name for name, _, _ in first.changes} == {"lon", "note"}
    assert first.off_km is not None
    assert plan.counts == {("station", False): 1, ("station", True): 1}
    assert not models.plan(Book(REGISTRY), Book(REGISTRY)).lines
