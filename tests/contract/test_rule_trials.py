"""Rules on trial: judged on live readings by the code that judges those in force, recorded, and nobody informed."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents.finding import ConditionChange, Finding
from infra.database import Database
from infra.errors import ConfigurationError, Refused
from infra.times import DAY_MS
from ingest.analysis import backtest
from ingest.rules import explain, rule_file
from ingest.state import rule_publications, rule_trials, rule_versions
from ingest.state.rule_publications import Publisher, Tried
from ingest.state.rule_trials import Trial, TrialFinding
from ingest.storage.tables import rule_trial, rule_trial_finding
from tests.contract.test_backtest import episodes, live, past
from tests.says import says
from tests.world import BOTH, CATALOGUE, HOUR, MINUTE, RULES, STEP, T0, World, bad, calm, message, river

STRICTER = RULES.replace("limit = 2.0\nclear = 1.8", "limit = 1.4\nclear = 1.3", 1)
LOOSER = RULES.replace("limit = 2.0\nclear = 1.8", "limit = 2.6\nclear = 1.8", 1)
AUTHOR, OTHER = "示例钱工", "示例赵工"
RULE = "nh3n-high"


def by(name: str, reason: str = "示例：雨季") -> Publisher:
    return Publisher(name, "administrator", reason)


def begin(world: World, text: str = STRICTER, now: int = T0 - HOUR, days: int = 7, **tried: Any) -> Trial:
    """A backtest is done, and its author begins the trial in another process; the ingest takes it."""
    world.tick(now)
    done = replace(Tried(1, AUTHOR, now, True, text), **tried)
    api = Database(world._url)
    try:
        with api.write() as connection:
            trial = rule_trials.begin(connection, done, by(AUTHOR), CATALOGUE, now, days)
    finally:
        api.close()
    world.site.follow_rules()
    return trial


def found(world: World, *, candidate: bool = True, number: int = 1) -> list[TrialFinding]:
    with world.database.read() as connection:
        trial = rule_trials.get(connection, number)
        return [one for one in rule_trials.findings(connection, trial) if one.candidate == candidate]


def state(world: World, now: int, number: int = 1) -> str:
    with world.database.read() as connection:
        return rule_trials.get(connection, number).state_at(now)


def spans(findings: list[TrialFinding]) -> list[tuple[int, int | None]]:
    return [(one.first_ms, one.ended_ms) for one in findings]


def noted(world: World) -> list[str]:
    with world.database.read() as connection:
        entries = audit_trail.list_entries(connection)
    return [one.what for one in entries if one.what.startswith("rule.trial")][::-1]


def fired_and_ended(findings: list[Finding] | tuple[Finding, ...], rule: str) -> list[tuple[Any, ...]]:
    """The exceedances that findings tell of, as a trial records them."""
    rows: list[list[Any]] = []
    for one in sorted(findings, key=lambda f: f.observed_at_ms):
        if one.rule == rule and one.change is ConditionChange.FIRED:
            rows.append([one.station, one.parameter or "", one.since_ms, one.observed_at_ms, None, one.value])
        elif one.rule == rule:
            rows[-1][4] = one.observed_at_ms
    return [tuple(row) for row in rows]


def recorded(findings: list[TrialFinding]) -> list[tuple[Any, ...]]:
    return [(f.station, f.parameter, f.since_ms, f.first_ms, f.ended_ms, f.value) for f in findings]


CHANGES = {
    RULE: ("limit = 2.0\nclear = 1.8", "limit = 1.4\nclear = 1.3"),
    "temp-rising": ("per_hour = 1.0", "per_hour = 0.5"),
    "silent": ('id = "silent"', 'id = "silent"\nintervals = 5'),
}


@pytest.mark.parametrize("rule", list(CHANGES))
def test_the_same_readings_give_live_on_trial_what_the_backtest_gives(world: World, rule: str) -> None:
    text = RULES.replace(*CHANGES[rule], 1)
    begin(world, text)
    values = episodes()
    happened = live(world, values)
    tried = backtest.run_rules(
        rule_file.read(text, CATALOGUE), past(world), CATALOGUE, T0, max(values) + MINUTE, closed_after_ms=None
    )
    expected = fired_and_ended(tried.findings, rule)
    assert expected
    assert recorded(found(world)) == expected
    assert recorded(found(world, candidate=False)) == fired_and_ended(happened, rule)
    assert expected != fired_and_ended(happened, rule), "the change matters on these readings"


@BOTH
def test_a_candidate_opens_no_incident_pages_nobody_and_the_version_in_force_still_does(world: World) -> None:
    begin(world)
    world.feed(river(T0, [*calm(4, 1.0), *calm(6, 1.6), *calm(6, 1.0)]))
    assert len(found(world)) == 1
    assert found(world, candidate=False) == []
    assert (world.incidents(), world.pages()) == ([], 0)
    world.feed(river(T0 + 16 * STEP, [*bad(5), *calm(8, 1.0)]))
    (incident,) = world.incidents()
    assert incident.rule == RULE
    assert world.pages() == 1
    (in_force,) = found(world, candidate=False)
    assert in_force.value == incident.value
    assert len(found(world)) == 2


def test_what_a_looser_candidate_leaves_out_is_seen(world: World) -> None:
    begin(world, LOOSER)
    world.feed(river(T0, [*bad(6), *calm(8)]))
    assert found(world) == []
    assert len(found(world, candidate=False)) == 1


@BOTH
def test_a_trial_survives_a_restart_and_what_is_delivered_again_doubles_nothing(world: World) -> None:
    begin(world)
    values = river(T0, [*calm(4, 1.0), *calm(6, 1.6), *calm(8, 1.0), *bad(5), *calm(8, 1.0)])
    for i, (at, measured) in enumerate(values.items()):
        if i in (7, 12, 20):
            world.start()
        world.take(message("shiwan", {at: measured}))
        world.take(message("shiwan", {at: measured}), now=at + 2000)
    first, second = found(world)
    assert first.ended_ms is not None
    assert first.ended_ms < second.first_ms
    assert first.first_ms == T0 + 6 * STEP
    world.start()
    world.feed(values, now=max(values) + MINUTE)
    assert found(world) == [first, second]


@BOTH
def test_a_trial_ends_by_itself_and_puts_nothing_in_force(world: World) -> None:
    begin(world, days=1, now=T0)
    world.feed(river(T0 + HOUR, [*calm(4, 1.6), *calm(6, 1.0)]))
    assert len(found(world)) == 1
    assert state(world, T0 + DAY_MS) == "over"
    world.start()
    late = T0 + DAY_MS + HOUR
    world.feed(river(late, [*calm(4, 1.6), *calm(6, 1.0)]))
    assert len(found(world)) == 1, "recorded only until its end, also by an ingest that has not noted it"
    world.tick(late + DAY_MS)
    assert world.site.history.trial is None
    assert noted(world) == ["rule.trial_begun", "rule.trial_over"]
    with world.database.read() as connection:
        assert rule_publications.latest(connection) is None
        versions = {one.rule: one.version for one in rule_versions.in_force(connection)}
    in_force = rule_file.read(RULES, CATALOGUE).get(RULE)
    assert in_force is not None
    assert versions[RULE] == in_force.version


@BOTH
def test_another_person_than_the_author_adopts_and_other_rules_stay(world: World) -> None:
    trial = begin(world)
    with world.database.write() as connection:
        with pytest.raises(Refused, match=says("rules_page.same_person", name=AUTHOR)):
            rule_trials.adopt(connection, trial.id, by(AUTHOR), CATALOGUE, T0)
        with pytest.raises(Refused, match=says("rules_page.no_reason")):
            rule_trials.adopt(connection, trial.id, by(OTHER, " "), CATALOGUE, T0)
    for _ in range(2):
        with world.database.write() as connection:
            assert rule_trials.adopt(connection, trial.id, by(OTHER), CATALOGUE, T0).state == "adopted"
    assert world.site.follow_rules()
    assert world.site.history.trial is None
    world.tick(T0 + 1)
    with world.database.read() as connection:
        versions = {one.rule: one.version for one in rule_versions.in_force(connection)}
    assert versions == {rule.id: rule.version for rule in rule_file.read(STRICTER, CATALOGUE)}
    assert noted(world) == ["rule.trial_begun", "rule.trial_adopted"]
    world.feed(river(T0 + STEP, calm(6, 1.6)))
    assert world.pages() == 1, "now it is in force"


def test_a_trial_that_is_over_can_still_be_adopted_and_one_withdrawn_cannot(world: World) -> None:
    over = begin(world, days=1, now=T0)
    world.tick(T0 + 2 * DAY_MS)
    with world.database.write() as connection:
        with pytest.raises(Refused, match=says("rules_page.trial_ended", number=over.id)):
            rule_trials.withdraw(connection, over.id, by(OTHER), T0 + 2 * DAY_MS)
        second = rule_trials.begin(
            connection, Tried(2, AUTHOR, T0, True, LOOSER), by(OTHER), CATALOGUE, T0 + 2 * DAY_MS
        )
        for _ in range(2):
            rule_trials.withdraw(connection, second.id, by(AUTHOR), T0 + 2 * DAY_MS + 1)
        with pytest.raises(Refused, match=says("rules_page.trial_ended", number=second.id)):
            rule_trials.adopt(connection, second.id, by("示例孙工"), CATALOGUE, T0 + 2 * DAY_MS + 2)
        assert rule_trials.adopt(connection, over.id, by(OTHER), CATALOGUE, T0 + 3 * DAY_MS).state == "adopted"
    assert noted(world) == [
        "rule.trial_begun",
        "rule.trial_over",
        "rule.trial_begun",
        "rule.trial_withdrawn",
        "rule.trial_adopted",
    ]


def test_what_was_published_and_not_taken_yet_is_not_undone_by_an_adoption(world: World) -> None:
    trial = begin(world)
    other = RULES.replace("per_hour = 1.0", "per_hour = 0.5")
    with world.database.write() as connection:
        rule_publications.publish(connection, Tried(7, AUTHOR, T0, True, other), by(OTHER), CATALOGUE, T0)
        with pytest.raises(Refused, match=says("rules_page.not_taken")):
            rule_trials.adopt(connection, trial.id, by(OTHER), CATALOGUE, T0)
    assert world.site.follow_rules()
    world.tick(T0 + 1)
    assert state(world, T0 + 1) == "running", "another rule changed"
    with world.database.write() as connection:
        rule_trials.adopt(connection, trial.id, by(OTHER), CATALOGUE, T0 + 2)
        published = rule_publications.latest(connection)
    assert published is not None
    both = STRICTER.replace("per_hour = 1.0", "per_hour = 0.5")
    assert rule_publications.fingerprint(rule_file.read(published.rules, CATALOGUE)) == rule_publications.fingerprint(
        rule_file.read(both, CATALOGUE)
    )


def test_a_trial_ends_when_its_rule_changes(world: World) -> None:
    begin(world)
    world._rules = rule_file.read(LOOSER, CATALOGUE)
    world.start()
    world.tick(T0)
    assert state(world, T0) == "superseded"
    assert world.site.follow_rules()
    assert world.site.history.trial is None
    with world.database.write() as connection, pytest.raises(Refused, match=says("rules_page.trial_ended", number=1)):
        rule_trials.adopt(connection, 1, by(OTHER), CATALOGUE, T0)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"is_done": False}, "rules_page.not_tried"),
        ({"rules": RULES}, "rules_page.trial_one_rule"),
        ({"rules": STRICTER.replace("per_hour = 1.0", "per_hour = 0.5")}, "rules_page.trial_one_rule"),
        ({"rules": RULES + '\n[[event]]\nid = "any"\ncolour = "red"\n'}, "rules_page.trial_not_in_force"),
    ],
)
def test_what_cannot_be_on_trial_is_refused(world: World, change: dict[str, Any], key: str) -> None:
    with pytest.raises(Refused, match=says(key)):
        begin(world, **change)
    assert noted(world) == []


def test_a_rule_about_events_is_refused(world: World) -> None:
    event = RULES + '\n[[event]]\nid = "any"\ncolour = "red"\n'
    world._rules = rule_file.read(event, CATALOGUE)
    world.start()
    with pytest.raises(Refused, match=says("rules_page.trial_no_events")):
        begin(world, event + "confidence = 0.9\n")


def test_a_second_trial_of_a_rule_waits_for_the_first_and_the_days_are_bounded(world: World) -> None:
    first = begin(world)
    assert begin(world).id == first.id, "sent twice"
    with pytest.raises(Refused, match=says("rules_page.trial_running", rule=RULE, number=first.id)):
        begin(world, LOOSER, id=2)
    for days in (0, 31):
        with pytest.raises(ConfigurationError, match=says("rules_page.trial_days", least=1, most=30)):
            begin(world, days=days)
    other = begin(world, RULES.replace("per_hour = 1.0", "per_hour = 0.5"), id=3)
    assert set(world.site.trials) == {RULE, "temp-rising"}
    assert other.rule == "temp-rising"


def test_a_more_specific_rule_in_force_goes_before_the_candidate(world: World) -> None:
    special = '\n[[threshold]]\nid = "own"\nparameter = "nh3n"\nside = "above"\nlimit = 9.0\ncolour = "orange"\n'
    special += 'stations = ["shiwan"]\n'
    world._rules = rule_file.read(RULES + special, CATALOGUE)
    world.start()
    begin(world, STRICTER + special)
    for station in ("shiwan", "qicha"):
        world.feed(river(T0, calm(6, 1.6)), station)
    assert {one.station for one in found(world)} == {"qicha"}


def test_what_the_version_in_force_shows_already_when_a_trial_begins_is_on_both_sides(world: World) -> None:
    world.feed(river(T0, bad(5)))
    begin(world, now=T0 + 5 * STEP)
    world.feed(river(T0 + 5 * STEP, [*bad(3), *calm(8, 1.0)]))
    assert len(found(world)) == 1
    (in_force,) = found(world, candidate=False)
    assert in_force.first_ms < T0 + 5 * STEP
    assert in_force.ended_ms is not None


def test_late_readings_are_recorded_on_trial_and_corrected_ones_taken_back(world: World) -> None:
    begin(world)
    values = river(T0, [*calm(4, 1.0), *calm(6, 1.6), *calm(10, 1.0)])
    late = {at: values.pop(at) for at in list(values)[3:11]}
    world.feed(values)
    assert found(world) == []
    world.take(message("shiwan", late), now=max(values) + HOUR)
    (one,) = found(world)
    assert one.retrospective
    assert one.ended_ms is not None
    world.take(message("shiwan", {at: {"nh3n": 1.0} for at in late}), now=max(values) + 2 * HOUR)
    assert found(world) == []
    with world.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(rule_trial_finding)).scalar_one() == 1


def test_a_candidate_that_cannot_be_read_any_more_stops_no_reading(world: World) -> None:
    begin(world)
    with world.database.write() as connection:
        connection.execute(sa.update(rule_trial).values(body=trial_body().replace("nh3n", "gone")))
    world.start()
    world.feed(river(T0, bad(5)))
    assert world.pages() == 1
    assert world.site.history.trial is None


def trial_body() -> str:
    rule = rule_file.read(STRICTER, CATALOGUE).get(RULE)
    assert rule is not None
    return explain.toml(rule)


def test_without_a_trial_nothing_is_evaluated_twice(world: World) -> None:
    assert world.site.history.engines == (world.site.history.checks,)
    world.feed(river(T0, bad(5)))
    with world.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(rule_trial_finding)).scalar_one() == 0
