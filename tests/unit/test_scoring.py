"""What was there against what was found: the rules of counting."""

import numpy as np
import pytest

from governance.incidents.finding import ConditionChange, Finding, FindingKind
from infra.errors import ConfigurationError
from infra.texts import Text
from riverchief import settings
from tests.cases import a_finding
from tests.says import says
from tools.score import matching, report
from tools.score import run as score
from tools.score.matching import Span, Thing

MINUTE = 60_000
STEP = 5 * MINUTE
HOUR = 60 * MINUTE


def at(*steps: int) -> np.ndarray:
    return np.array(steps, np.int64) * STEP


def test_samples_four_steps_apart_are_one_run_and_five_steps_apart_are_two():
    assert list(matching.runs(at(0, 4, 9), 4 * STEP)) == [Span(0, 4 * STEP), Span(9 * STEP, 9 * STEP)]
    assert list(matching.runs(at(), STEP)) == []


def test_a_thing_is_found_by_a_flag_two_steps_after_it_and_missed_by_one_three_steps_after():
    thing = Span(10 * STEP, 12 * STEP)
    assert matching.first_sample(at(14), thing, 2 * STEP) == 4 * STEP
    assert matching.first_sample(at(15), thing, 2 * STEP) is None
    assert matching.first_sample(at(8), thing, 2 * STEP) == 0
    assert matching.first_sample(at(7), thing, 2 * STEP) is None


def test_an_alarm_that_began_before_the_event_and_still_stood_has_found_it_at_once():
    assert matching.first_touch([Span(0, 20 * STEP)], Span(10 * STEP, 30 * STEP), 2 * STEP) == 0
    assert matching.first_touch([Span(0, 7 * STEP)], Span(10 * STEP, 30 * STEP), 2 * STEP) is None


def test_the_tail_of_an_alarm_that_found_something_is_no_false_alarm_but_a_later_one_is():
    thing = Span(10 * STEP, 12 * STEP)
    assert matching.false_runs(at(11, 13, 15, 17), [thing], STEP) == []
    assert matching.false_runs(at(11, 20, 21), [thing], STEP) == [Span(20 * STEP, 21 * STEP)]
    assert matching.false_runs(at(3, 11), [thing], STEP) == [Span(3 * STEP, 3 * STEP)]


def test_an_alarm_left_on_for_three_days_counts_more_than_once():
    assert matching.count([Span(0, 0)], STEP) == 1
    assert matching.count([Span(0, 72 * HOUR)], HOUR) == 4


def finding(hour: int, change: ConditionChange, kind: FindingKind = FindingKind.EVENT, station: str = "a") -> Finding:
    return a_finding(
        hour * HOUR,
        since_ms=0,
        rule="r",
        kind=kind,
        change=change,
        cause="water:a",
        station=station,
        parameter=None,
        value=None,
        limit=None,
        text=Text("", ""),
    )


def test_an_event_lasts_from_its_first_alarm_to_the_last_six_hours_before_it_is_over():
    told = [
        finding(10, ConditionChange.FIRED),
        finding(19, ConditionChange.RESOLVED),
        finding(30, ConditionChange.FIRED),
    ]
    assert score.event_alarms(told) == {"a": [Span(10 * HOUR, 13 * HOUR), Span(30 * HOUR, 30 * HOUR)]}
    assert score.event_alarms([finding(10, ConditionChange.FIRED, FindingKind.THRESHOLD)]) == {}


@pytest.mark.parametrize(
    ("fault", "event", "right"), [(True, False, 1), (True, True, 0), (False, True, 0), (False, False, 0)]
)
def test_a_fault_is_labelled_right_only_when_nobody_took_it_for_an_event(fault, event, right):
    thing = Thing("drift", "a", "ph", Span(0, HOUR), 0 if fault else None, fault, event)
    found = _score(faults=(thing,))
    assert found.label_right == (right, int(fault or event))


def test_an_event_is_labelled_right_only_when_its_good_readings_kept_their_name():
    thing = Thing("sewage", "a", "", Span(0, HOUR), 0, True, True)
    assert _score(events=(thing,)).label_right == (0, 1)
    assert _score(events=(Thing("sewage", "a", "", Span(0, HOUR), 0, False, True),)).label_right == (1, 1)


@pytest.mark.parametrize(
    ("lost", "unknowable", "missing", "right"),
    [(9, 0, 9, True), (9, 0, 8, False), (9, 4, 5, True), (9, 4, 4, False), (9, 0, 10, False), (0, 0, None, False)],
)
def test_the_ledger_is_right_when_it_misses_what_was_lost_and_can_be_known(lost, unknowable, missing, right):
    assert score.Account(100, lost, unknowable, 90, 0, 0, missing, {}).right is right


def _score(faults: tuple[Thing, ...] = (), events: tuple[Thing, ...] = ()) -> score.Score:
    account = score.Account(0, 0, 0, 0, 0, 0, 0, {})
    return score.Score("x", 1, 7, 1, 0.2, 0, faults, events, 0, 0, 0, 0, 0, {}, 0, 0, (), (), account)


def test_scoring_on_a_scenario_made_for_load_is_refused_with_the_reason():
    with pytest.raises(ConfigurationError, match=says("simulate.made_up", name="province")):
        score.score("province", settings.Settings(), seed=1)


def test_what_is_told_names_the_misses_and_the_state_of_the_ledger(capsys):
    report.show(_score(faults=(Thing("drift", "fsc-1", "ph", Span(0, HOUR), None, False, False),)))
    told = capsys.readouterr().out
    assert "× drift fsc-1 ph" in told
    assert "✓ 账本：缺失 0，" in told
