"""Which stations come first and why, and what the form of a check says, from literals."""

from dataclasses import replace

import pytest

from api.maintenance import MaintenanceSummary
from api.pages.models import maintenance as models
from api.pages.models.maintenance import CheckForm, Choice
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.lifecycle import open_reported
from governance.incidents.model import Action, Condition, Incident, Order, Source
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.times import DAY_MS
from sensors.maintenance import CheckDue, Visit
from sensors.stations import Station

NOW = 1_780_000_000_000
MINUTE = 60_000


def care(key: str, **other: object) -> MaintenanceSummary:
    station = Station(key, f"{key}站", f"Station {key}", 113.0, 23.0, reach="r" if key < "d" else "q", interval_s=600)
    made = MaintenanceSummary(station, None, (), (), NOW - MINUTE, NOW - DAY_MS)
    return replace(made, **other)  # type: ignore[arg-type]


def finding(kind: FindingKind, rule: str) -> Incident:
    made, _ = open_reported(
        Order(Action.ACCEPT, comment="x"),
        Actor("李某（示例）", Role.OPERATOR),
        NOW,
        cause="x",
        colour=Colour.YELLOW,
        source=Source.HOTLINE,
        place=Place(),
    )
    return replace(made, kind=kind, conditions=(Condition(rule, "x", "", NOW, NOW),))


LATE = CheckDue("do", NOW - 9 * DAY_MS, False, NOW - 2 * DAY_MS)
LATER = CheckDue("do", NOW - 9 * DAY_MS, False, NOW - DAY_MS)
WRONG = CheckDue("ph", NOW - DAY_MS, True, NOW - DAY_MS)
SITE = [
    care("a"),
    care("b", due=(LATER,)),
    care("c", due=(LATE,)),
    care("d", due=(WRONG,)),
    care("e", newest_at_ms=NOW - 60 * MINUTE),
    care("f", findings=(finding(FindingKind.DEVICE, models.BATTERY),)),
    care("g", findings=(finding(FindingKind.DEVICE, "device-leak"),)),
    care("h", doubted=("tp",)),
    care("i", visited_ms=NOW - 30 * DAY_MS),
    care("j", working=(1, Visit("j", NOW - MINUTE))),
]


def test_a_station_says_why_somebody_should_go_there_and_the_most_pressing_comes_first() -> None:
    found = models.rows(SITE, NOW)
    assert [(row.key, row.reasons) for row in found] == [
        ("j", ()),
        ("g", ("device",)),
        ("d", ("drift",)),
        ("h", ("drift",)),
        ("e", ("offline",)),
        ("f", ("battery",)),
        ("c", ("due",)),
        ("b", ("due",)),
        ("i", ("visit",)),
        ("a", ()),
    ]


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        (Choice(), "jgdhefcbi"),
        (Choice(every=True), "jgdhefcbia"),
        (Choice(reason="due"), "cb"),
        (Choice(river="r"), "cb"),
        (Choice(q="A站"), "a"),
        (Choice(q="station", reason="drift"), "dh"),
    ],
)
def test_the_address_chooses_the_rows(choice: Choice, keys: str) -> None:
    assert "".join(row.key for row in models.chosen(models.rows(SITE, NOW), choice)) == keys


def test_an_unknown_reason_narrows_nothing() -> None:
    assert Choice.of({"reason": "x", "q": " ", "show": "all"}) == Choice(every=True)


def test_numbers_of_a_check_are_read_as_people_type_them_and_faults_stand_beside_their_fields() -> None:
    form = CheckForm(parameter="do", kind="five", standard="8,0", reading="8，1")
    numbers, wrong = models.read_numbers(form, {"do"})
    assert (numbers["standard"], numbers["reading"], numbers["after"], wrong) == (8.0, 8.1, None, {})
    assert set(models.read_numbers(CheckForm(reading="x"), {"do"})[1]) == {"standard", "reading", "parameter", "kind"}


def test_the_mark_of_a_check_changes_with_what_decides_and_with_nothing_else() -> None:
    form = CheckForm(parameter="do", kind="five", standard="8", reading="8.1")
    assert form.mark == replace(form, lot="x", note="y").mark
    assert len({form.mark, replace(form, reading="8.2").mark, replace(form, limit="1").mark}) == 3


def test_the_next_check_is_due_by_the_interval_and_at_once_where_the_sensor_was_left_wrong() -> None:
    assert models.next_check_ms("do", NOW, True) == NOW + 7 * DAY_MS
    assert models.next_check_ms("do", NOW, False) == NOW
    assert models.next_check_ms("tp", NOW, True) is None


def test_what_was_done_is_one_line() -> None:
    assert models.work_line(["清洗探头", "校准"], " 换膜 ", "zh") == "清洗探头；校准；换膜"
    assert models.work_line([], "", "en") == ""
