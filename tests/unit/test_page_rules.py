"""A changed rule and what a backtest found, as the page of the rules shows them."""

from typing import Any

import pytest

from api.pages.models import rules as models
from infra.texts import Text
from infra.times import DAY_MS
from ingest.analysis.trial_comparison import compare
from ingest.rules import explain, rule_file
from ingest.rules.model import Threshold
from ingest.state.rule_trials import Trial, TrialFinding
from ingest.state.rule_versions import Version
from sensors.parameters import catalogue
from sensors.stations import Registry

KNOWN = catalogue()
HOUR_MS = 3_600_000
BODY = """[[threshold]]
id = "nh3n-high"
colour = "orange"
parameter = "nh3n"
side = "above"
limit = 2.0
clear = 1.8
"""
MORE = BODY.replace("nh3n-high", "nh3n-red").replace("orange", "red").replace("2.0", "4.0").replace("1.8", "3.5")


def threshold() -> Threshold:
    rule = models.rule_of(BODY, KNOWN)
    assert isinstance(rule, Threshold)
    return rule


def version(body: str) -> Version:
    rule = models.rule_of(body, KNOWN)
    assert rule is not None
    return Version(rule.id, rule.version, rule.kind, rule.colour.value, explain.toml(rule), Text("", ""), 0, None)


def test_numbers_that_change_nothing_give_the_rule_in_force() -> None:
    edited = models.read_numbers(threshold(), models.numbers_of(threshold()), KNOWN)
    assert edited.rule == threshold()


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"limit": "1,5"}, {"limit"}),
        ({"limit": "nan"}, {"limit"}),
        ({"samples": "0", "pending_s": "2.5"}, {"samples", "pending_s"}),
        ({"samples": "", "limit": "1.5"}, {"samples"}),
        ({"limit": "1.5"}, {"clear"}),
        ({"limit": "1.5", "clear": "1.3"}, set()),
        ({"keep_firing_s": "99999999999"}, {"keep_firing_s"}),
    ],
)
def test_what_the_reader_of_the_file_refuses_stands_at_its_field(given: dict[str, str], wrong: set[str]) -> None:
    edited = models.read_numbers(threshold(), given, KNOWN)
    assert set(edited.wrong) == wrong
    assert (edited.rule is None) == bool(wrong)
    assert edited.typed["limit"] == given.get("limit", "2")


def test_a_rule_changed_as_text_keeps_its_id_and_stands_alone() -> None:
    assert models.read_toml("nh3n-high", BODY.replace("2.0", "1.9"), KNOWN).rule is not None
    for text in (BODY + MORE, MORE, "", "limit = ", BODY.replace("above", "beside")):
        assert set(models.read_toml("nh3n-high", text, KNOWN).wrong) == {"toml"}


def test_the_tried_text_is_all_rules_in_force_with_one_changed() -> None:
    in_force = [version(BODY), version(MORE)]
    changed = models.read_numbers(threshold(), {"limit": "3.0"}, KNOWN).rule
    assert changed is not None
    tried = rule_file.read(models.whole(in_force, changed), KNOWN)
    assert {rule.id for rule in tried} == {"nh3n-high", "nh3n-red"}
    (change,) = models.changes(tried, in_force)
    assert change.before == in_force[0]
    assert change.after == changed


def test_a_change_that_contradicts_another_rule_is_named() -> None:
    changed = models.read_numbers(threshold(), {"limit": "5.0"}, KNOWN).rule
    assert changed is not None
    text = models.whole([version(BODY), version(MORE)], changed)
    found = models.faults(text, "nh3n-high", KNOWN, Registry())
    assert any(one.serious and set(one.rules) == {"nh3n-high", "nh3n-red"} for one in found)


def test_the_list_counts_incidents_of_all_versions_and_is_sorted_by_urgency() -> None:
    one = version(BODY)
    counts = {("nh3n-high", one.version): (3, 1), ("nh3n-high", "old"): (4, 2)}
    red, orange = models.lines([one, version(MORE)], counts, KNOWN)
    assert (red.version.rule, red.all_incidents) == ("nh3n-red", 0)
    assert (orange.all_incidents, orange.all_false_alarms) == (7, 3)
    assert models.lines([one], counts, KNOWN, "trend") == ()


def incident(fired: str, pages: int = 1, **other: Any) -> dict[str, Any]:
    times = {"since": fired, "fired": fired, "last": fired}
    return {"station": "shiwan", "colour": "red", "zh": "甲", "en": "a", "pages": pages} | times | other


def side(*incidents: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    found = {"incidents": list(incidents), "count": len(incidents) if count is None else count, "pages_a_week": 1.0}
    return found | {"pages": sum(one["pages"] for one in incidents), "by_colour": {"red": len(incidents)}}


def test_findings_of_both_versions_are_the_same_where_they_overlap_at_one_series() -> None:
    def finding(candidate: bool, since: int, ended: int | None, station: str = "shiwan") -> TrialFinding:
        where = ("nh3n-high", candidate, station, "nh3n", "water:shiwan", "orange")
        return TrialFinding(*where, since, since, since, ended, False, False, 2.5, "甲", "a")

    night = DAY_MS + 15 * HOUR_MS  # 23:00 in Beijing
    trial = Trial(1, "nh3n-high", "b", "a", "", 1, "x", "x", "", 0, 14 * DAY_MS, "running", None, "", "")
    found = [
        finding(False, 10, 20),
        finding(False, 40, 50),
        finding(False, 40, 50, "qicha"),
        finding(False, night, None),
        finding(True, 5, 12),
        finding(True, 51, 60),
        finding(True, night + 9, night + 10),
    ]
    one = compare(trial, found, 3 * DAY_MS + DAY_MS // 2)
    assert [f.since_ms for f in one.both] == [night + 9, 5]
    assert [f.since_ms for f in one.only_candidate] == [51]
    assert [(f.station, f.since_ms) for f in one.only_in_force] == [("qicha", 40), ("shiwan", 40)]
    assert (one.candidate.findings, one.candidate.a_week, one.candidate.at_night) == (3, 6.0, 1)
    assert one.stations == ("shiwan", "qicha")
    assert compare(trial, found, HOUR_MS).candidate.a_week == 21.0, "an hour is not extrapolated to a week"


def test_pages_at_night_are_counted_by_the_hour_in_beijing() -> None:
    night, day = incident("2026-05-12T14:00:00Z", 2), incident("2026-05-12T13:59:59Z", 4)
    morning, up = incident("2026-05-12T22:59:59Z", 8), incident("2026-05-12T23:00:00Z", 16)
    difference = {"new": [night], "gone": [], "changed": [incident("2026-05-12T14:00:00Z", was="orange")], "both": 1}
    difference["counts"] = {"new": 1, "gone": 0, "changed": 1}
    result = {"readings": 9, "tried": side(night, day, morning, up), "in_force": side(day), "difference": difference}
    found = models.outcome(result)
    assert (found.before.night_pages, found.after.night_pages) == (0, 10)
    assert found.after.by_station == {"shiwan": 4}
    assert found.examples["changed"][0].was == "orange"
    assert not found.cut
    assert models.outcome(result | {"tried": side(night, count=2000)}).cut
