"""The assessment of a month: made from the trail's entries alone, the same whoever makes it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from governance.assessment.assess import assess
from governance.assessment.formula import read
from governance.assessment.model import Formula, GroupBy, Groups, Indicator, Inputs, Share
from governance.assessment.month import month_of
from governance.audit.merkle import AuditEntry
from governance.organisation.roles import Role
from infra.errors import ConfigurationError
from infra.times import BEIJING, DAY_MS, to_ms
from riverchief import files
from tests.says import says

HOUR = 3_600_000
FORMULA = Formula(dict.fromkeys(Indicator, 10.0))


def at(day: int, hour: float = 9.0, month: int = 10) -> int:
    return to_ms(datetime(2026, month, day, tzinfo=BEIJING)) + round(hour * HOUR)


class Trail:
    """Entries as the incident store writes them."""

    def __init__(self) -> None:
        self.lines: list[AuditEntry] = []
        self.rows: dict[int, dict[str, Any]] = {}

    def add(self, what: str, kind: str, id: object, body: Mapping[str, Any], at_ms: int) -> None:
        n = len(self.lines) + 1
        self.lines.append(AuditEntry(n, at_ms, "x", "", what, kind, str(id), json.dumps(body), "", f"{n:064x}"))

    def incident(self, number: int, at_ms: int, what: str = "fired", **now: Any) -> None:
        opened = {
            "state": "reported",
            "colour": "yellow",
            "cause": f"cause-{number}",
            "station": "shiwan",
            "region": "grid-1",
            "reach": "dongping",
            "responsible": "",
            "retrospective": False,
            "opened_at_ms": at_ms,
            "due_ms": at_ms + 2 * HOUR,
            "paused_at_ms": None,
            "merged_into": None,
        }
        row = {**self.rows.get(number, opened), **now}
        self.rows[number] = row
        self.add(f"incident.{what}", "incident", number, {"incident": row, "entry": {}}, at_ms)

    def walk(
        self, number: int, day: int, *, accept_h: float = 1, finish_h: float = 20, chief: str = "", **more: Any
    ) -> None:
        """An incident from its opening to its end, each step so many hours after the opening."""
        start = at(day)
        self.incident(number, start, **more)
        steps = [
            ("accepted", "accepted", accept_h, 4.0),
            ("dispatched", "dispatched", accept_h + 1, 10.0),
            ("started", "handling", accept_h + 2, 24.0),
            ("finished", "handled", finish_h, 48.0),
            ("verified", "verified", finish_h + 1, 72.0),
            ("closed", "closed", finish_h + 2, None),
        ]
        for what, state, hours, due_h in steps:
            due = None if due_h is None else start + round(due_h * HOUR)
            self.incident(number, start + round(hours * HOUR), what, state=state, due_ms=due, responsible=chief)

    def classes(self, day: int, month: int = 10, **met: bool | None) -> None:
        body = {"reaches": {reach: {"class": "IV", "met": one} for reach, one in met.items()}}
        self.add("water.classes", "water", "reaches", body, at(day, 0.01, month))


def made(trail: Trail, by: GroupBy = GroupBy.CHIEF, formula: Formula = FORMULA, **other: Any) -> Any:
    now_ms = other.pop("now_ms", at(1, month=12))
    return assess(trail.lines, "2026-10", by, formula, now_ms=now_ms, inputs=Inputs(**other))


def test_steps_within_their_limits_count_as_in_time_and_late_ones_do_not() -> None:
    trail = Trail()
    trail.walk(1, 5, chief="李河长")  # all in time
    trail.walk(2, 6, accept_h=3, chief="李河长")  # taken up after 3 hours, 2 were allowed
    trail.walk(3, 7, finish_h=30, chief="王河长")  # finished after 30 hours, 24 were allowed
    found = made(trail)
    li, wang = found.rows
    assert (li.key, wang.key, li.cases, wang.cases) == ("李河长", "王河长", 2, 1)
    assert li.shares[Indicator.ACCEPTANCE] == Share(1, 2)
    assert li.shares[Indicator.HANDLING] == Share(4, 4)
    assert wang.shares[Indicator.ACCEPTANCE] == Share(1, 1)
    assert wang.shares[Indicator.HANDLING] == Share(1, 2)
    assert li.shares[Indicator.CLOSING] == Share(2, 2)
    assert li.score == round(100 * (0.5 + 1 + 1 + 1) / 4, 2)  # patrols and water cannot be told and weigh nothing
    assert found.total.shares[Indicator.HANDLING] == Share(5, 6)


def test_what_still_waits_is_late_once_its_limit_has_passed_but_not_while_its_clock_stands_still() -> None:
    trail = Trail()
    trail.incident(1, at(5))
    trail.incident(2, at(5))
    trail.incident(2, at(5, 10), "accepted", state="accepted", due_ms=at(5, 12))
    trail.incident(2, at(5, 11), "dispatched", state="dispatched", due_ms=at(6), paused_at_ms=at(5, 12))
    trail.incident(3, at(30))
    found = made(trail, now_ms=at(30, 10))  # the third may be taken up until 11:00
    assert found.total.shares[Indicator.ACCEPTANCE] == Share(1, 2)
    assert found.total.shares[Indicator.HANDLING] == Share(0, 0)
    assert found.total.shares[Indicator.CLOSING] == Share(0, 0), "closing is due when the days of grace are over"
    assert made(trail).total.shares[Indicator.CLOSING] == Share(0, 3)


def test_false_alarms_and_merged_ones_need_no_closing_and_retrospective_ones_count_only_when_asked() -> None:
    trail = Trail()
    trail.incident(1, at(5))
    trail.incident(1, at(5, 10), "false_alarm", state="false_alarm", due_ms=None)
    trail.incident(2, at(5))
    trail.incident(2, at(5, 10), "merged", state="closed", merged_into=3, due_ms=None)
    trail.incident(3, at(5), retrospective=True)
    found = made(trail)
    assert (found.total.cases, found.total.shares[Indicator.CLOSING]) == (2, Share(0, 0))
    assert found.total.shares[Indicator.ACCEPTANCE] == Share(2, 2)
    assert made(trail, formula=Formula(FORMULA.weights, retrospective=True)).total.cases == 3


def test_closing_counts_until_the_days_of_grace_are_over() -> None:
    trail = Trail()
    trail.incident(1, at(31))
    trail.incident(1, at(15, month=11), "closed", state="closed", due_ms=None)
    trail.incident(2, at(31))
    trail.incident(2, at(17, month=11), "closed", state="closed", due_ms=None)
    trail.incident(3, at(1, month=11))
    assert made(trail).total.shares[Indicator.CLOSING] == Share(1, 2)


def test_the_same_cause_again_within_thirty_days_of_its_closing_is_a_recurrence() -> None:
    trail = Trail()
    trail.walk(1, 2, cause="shiwan/nh3n")
    trail.incident(2, at(20), cause="shiwan/nh3n")
    trail.incident(3, at(20), cause="qicha/do")
    assert made(trail).total.shares[Indicator.RECURRENCE] == Share(2, 3)
    assert [case.recurred for case in made(trail).cases] == [False, True, False]


def test_a_case_that_went_over_counts_for_who_had_it_when_each_step_was_due() -> None:
    trail = Trail()
    trail.walk(1, 5, chief="前任（示例）")
    due = at(20, 9)
    for number, over in ((2, due - HOUR), (3, due + HOUR)):  # handed over before its limit, and after it
        trail.incident(number, at(18))
        trail.incident(number, at(18, 10), "dispatched", state="handling", due_ms=due, responsible="前任（示例）")
        trail.incident(number, over, "succeeded", responsible="后任（示例）")
        trail.incident(number, due + 2 * HOUR, "finished", state="handled")
    before, after = made(trail).rows
    assert (before.key, before.cases, after.key, after.cases) == ("前任（示例）", 1, "后任（示例）", 2)
    assert before.shares[Indicator.HANDLING] == Share(2, 3), "late while it was theirs"
    assert after.shares[Indicator.HANDLING] == Share(0, 1)
    assert made(trail).total.shares[Indicator.HANDLING] == Share(2, 4)


def test_who_came_after_the_end_of_the_month_is_not_assessed_for_it() -> None:
    trail = Trail()
    trail.incident(1, at(30))
    trail.incident(1, at(30, 10), "dispatched", state="handling", due_ms=at(5, month=11), responsible="前任（示例）")
    trail.incident(1, at(3, month=11), "succeeded", responsible="后任（示例）")
    assert [(row.key, row.cases) for row in made(trail, now_ms=at(4, month=11)).rows] == [("前任（示例）", 1)]


def test_a_chief_answers_for_the_water_of_the_own_days_and_for_what_the_deputy_does() -> None:
    trail = Trail()
    for day in (3, 4, 20, 21):
        trail.classes(day, dongping=day < 10)
    trail.classes(20, month=9, dongping=True)
    trail.walk(1, 5, chief="助理（示例）")

    def water(by: GroupBy, reach: str, at_ms: int) -> list[str]:
        return ["前任（示例）" if at_ms < at(10) else "后任（示例）"]

    groups = Groups(water=water, chief=lambda name, at_ms: "前任（示例）" if name == "助理（示例）" else name)
    rows = {row.key: row for row in made(trail, groups=groups).rows}
    assert {key: row.shares[Indicator.WATER] for key, row in rows.items()} == {
        "前任（示例）": Share(2, 2),
        "后任（示例）": Share(0, 2),
    }
    assert (rows["前任（示例）"].improvement, rows["后任（示例）"].improvement) == (0.0, -1.0)
    assert (rows["前任（示例）"].cases, rows["前任（示例）"].shares[Indicator.HANDLING].of) == (1, 2)
    assert made(trail, groups=groups).total.shares[Indicator.WATER] == Share(2, 4)


def test_who_may_see_some_rows_only_gets_their_cases_and_their_total() -> None:
    trail = Trail()
    trail.walk(1, 5, chief="李河长")
    trail.walk(2, 6, chief="王河长", finish_h=30)
    trail.classes(3, dongping=True, qicha=False)
    groups = Groups(water=lambda by, reach, at_ms: ["李河长"] if reach == "dongping" else ["王河长"])
    found = made(trail, groups=groups, seen=lambda _, key: key == "李河长")
    assert [row.key for row in found.rows] == ["李河长"]
    assert [case.id for case in found.cases] == [1]
    assert found.total == replace(found.rows[0], key="")


def test_days_on_target_are_counted_by_reach_and_compared_with_the_month_before() -> None:
    trail = Trail()
    for day in range(1, 11):
        trail.classes(day, month=9, dongping=day > 5, qicha=None)
    for day in range(1, 11):
        trail.classes(day, dongping=day > 2, qicha=False if day == 1 else None)
    found = made(trail, GroupBy.REACH)
    dongping, qicha = found.rows
    assert (dongping.key, dongping.shares[Indicator.WATER]) == ("dongping", Share(8, 10))
    assert dongping.improvement == pytest.approx(0.3)
    assert (qicha.shares[Indicator.WATER], qicha.improvement) == (Share(0, 1), None)
    assert found.total.shares[Indicator.WATER] == Share(8, 11)


def test_streets_gather_their_cells_and_patrols_count_where_somebody_records_them() -> None:
    class Patrols:
        def done(self, by: GroupBy, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]:
            assert (by, end_ms - start_ms, until_ms >= end_ms) == (GroupBy.STREET, 31 * DAY_MS, True)
            return {"street-1": Share(9, 10)}

    trail = Trail()
    trail.incident(1, at(5))
    trail.incident(2, at(5), region="", station="elsewhere")
    street = {"grid-1": "street-1", "grid-2": "street-1"}
    groups = Groups(lambda code: street.get(code, code), region=lambda station: "grid-2")
    (row,) = made(trail, GroupBy.STREET, groups=groups, patrols=Patrols()).rows
    assert (row.key, row.cases, row.shares[Indicator.PATROL].value) == ("street-1", 2, 0.9)
    (row,) = made(trail, GroupBy.STREET, groups=groups).rows
    assert (row.shares[Indicator.PATROL].available, row.shares[Indicator.PATROL].value) == (False, None)


def test_the_same_entries_give_the_same_numbers_and_later_ones_change_nothing() -> None:
    trail = Trail()
    trail.walk(1, 5)
    first = made(trail)
    trail.incident(1, at(20, month=11), "reopened", state="reopened", due_ms=at(21, month=11))
    trail.walk(2, 28)
    again = made(trail)
    assert first.total.cases == 1
    assert (again.total.cases, again.total.shares[Indicator.CLOSING]) == (2, Share(2, 2))
    assert made(trail) == again
    assert again.head == trail.lines[again.last_n - 1].hash


def test_a_month_is_that_of_beijing() -> None:
    assert month_of("2026-12") == (at(1, 0, 12), to_ms(datetime(2027, 1, 1, tzinfo=BEIJING)))
    for text in ("2026-13", "2026", "26-10", "2026-1", "october", ""):
        with pytest.raises(ConfigurationError, match=says("assessment.no_month")):
            month_of(text)


def test_the_shipped_formula_is_marked_as_an_example_and_a_wrong_one_is_refused() -> None:
    shipped = files.read_formula(None)
    assert shipped.example
    assert sum(shipped.weights.values()) == 100
    assert shipped.patrols_due == {Role.CHIEF: 3, Role.GRID_WORKER: 4} == read("[weights]\npatrol = 1").patrols_due
    assert read("[weights]\npatrol = 1\n[patrols_due]\ndeputy = 2").patrols_due == {Role.DEPUTY: 2}
    for text, told in (
        (
            "[weights]\nspeed = 1",
            says(
                "assessment.no_indicator",
                name="speed",
                known="patrol, acceptance, handling, closing, recurrence, water",
            ),
        ),
        ("[weights]\npatrol = -1", says("assessment.no_weight", name="patrol", weight=-1)),
        ("[weights]\npatrol = true", says("assessment.no_weight", name="patrol", weight=True)),
        ("[weights]\npatrol = 0", says("assessment.all_zero")),
        (
            "[weights]\npatrol = 1\n[terms]\nrecurrence_days = 1.5",
            says(
                "assessment.no_term",
                name="recurrence_days",
                value=1.5,
                known="closing_grace_days, recurrence_days, appeal_days, retrospective, deputies_patrol",
            ),
        ),
        (
            "[weights]\npatrol = 1\n[terms]\nmood = 1",
            says(
                "assessment.no_term",
                name="mood",
                value=1,
                known="closing_grace_days, recurrence_days, appeal_days, retrospective, deputies_patrol",
            ),
        ),
        ("[score]\npatrol = 1", says("assessment.unknown", unknown="score")),
        ("[weights]\npatrol = 1\n[patrols_due]\nmayor = 1", says("assessment.no_role", name="mayor")),
        (
            "[weights]\npatrol = 1\n[patrols_due]\nchief = 1.5",
            says("assessment.no_patrols", name="chief", number=1.5, most=100),
        ),
        ("[", "document"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            read(text)


def test_on_the_first_day_of_a_month_a_trial_gives_no_score() -> None:
    class Patrols:
        def done(self, by: GroupBy, start_ms: int, end_ms: int, until_ms: int) -> Mapping[str, Share]:
            return {"李河长": Share(0, 0)}  # none is due by then

    trail = Trail()
    trail.incident(1, at(1), responsible="李河长")
    found = made(trail, patrols=Patrols(), now_ms=at(1, 10))
    assert (found.trial, found.total.score, [row.score for row in found.rows]) == (True, None, [None])
    assert found.total.shares[Indicator.PATROL].value is None
    over = made(trail, patrols=Patrols())
    assert (over.trial, over.total.score is None) == (False, False)
