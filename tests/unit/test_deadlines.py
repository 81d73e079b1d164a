"""Deadlines in working days and office hours, and the file they stand in."""

from datetime import datetime
from pathlib import Path

import pytest

from governance.incidents import dispatch
from governance.incidents.deadlines import DEFAULT_POLICY, Phase, UnknownYear, parse_limit
from governance.incidents.finding import Colour
from infra.errors import ConfigurationError
from infra.times import BEIJING, from_ms, to_ms
from tests.says import says

SHIPPED = Path("config/processes.toml").read_text(encoding="utf-8")


def after(moment: str, span: str) -> str:
    began = to_ms(datetime.fromisoformat(f"{moment}+08:00"))
    return from_ms(DEFAULT_POLICY.after(began, parse_limit(span))).astimezone(BEIJING).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("since", "span", "due"),
    [
        ("2026-05-12T18:00", "30m", "2026-05-12 18:30"),
        ("2026-05-12T18:00", "2wh", "2026-05-13 10:30"),
        ("2026-05-12T11:30", "1wh", "2026-05-12 14:30"),  # over the midday break
        ("2026-05-15T10:00", "1wd", "2026-05-18 10:00"),  # over a weekend
        ("2026-09-30T10:00", "1wd", "2026-10-08 10:00"),  # over the National Day holiday
        ("2026-10-09T17:00", "1wh", "2026-10-10 09:00"),  # a Saturday that is worked
    ],
)
def test_a_limit_counts_office_hours_of_working_days(since: str, span: str, due: str):
    assert after(since, span) == due


def test_a_year_without_a_calendar_counts_monday_to_friday_and_says_so():
    with pytest.warns(UnknownYear, match="2091"):
        assert after("2091-03-02T10:00", "1wd") == "2091-03-05 10:00"  # Friday to Monday


@pytest.mark.parametrize("text", ["", "5", "5 wd", "0h", "-1h", "1y", "99999wd"])
def test_a_limit_that_is_none_is_refused_by_name(text: str):
    with pytest.raises(
        ConfigurationError, match=says("process.limit_year" if text == "99999wd" else "process.limit", text=text)
    ):
        parse_limit(text)


def test_the_shipped_processes_are_valid_and_a_mistake_names_its_row():
    found = dispatch.read(SHIPPED)
    assert found.policy.limits[Phase.ACCEPT, Colour.RED] == parse_limit("10m")
    assert found.policy.proof == {"discharge": 6}
    for old, new, named in (
        ('department = "water"', 'department = "police"', "occupation"),
        ('red = "10m"', 'red = "9wd"', says("process.order", phase="accept", colour="red", less="orange")),
        ('handle = "24h"', 'handle = "soon"', "process 4 \\(litter\\): " + says("process.limit", text="soon")),
        ("again_h = 24", "again_h = inf", "again_h"),
        ("close_after = 3", "close_after = 3.5", "close_after"),
        ("remind_at = 0.8", "remind_at = 8", says("process.remind_at", remind_at=8.0)),
        ("[deadlines.accept]", "[deadlines.ponder]", "ponder"),
        ('key = "litter"', 'key = "device"', says("process.twice")),
    ):
        with pytest.raises(ConfigurationError, match=named):
            dispatch.read(SHIPPED.replace(old, new, 1))
