"""How incidents live: who is paged, what joins what, and what people may do."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.finding import Change, Colour, Finding, Kind
from governance.lifecycle import (
    COMMENT_LIMIT,
    STEPS,
    Action,
    Effects,
    EventType,
    Incident,
    Notify,
    State,
    What,
    act,
    advance,
    allowed,
    concerned,
)
from sensors.errors import Refused
from sensors.texts import Text

HOUR = 3_600_000
T = 1_778_580_000_000  # 2026-05-12 18:00 in Beijing
NOW = T + 5_000


def fired(at_ms: int = T, **other: object) -> Finding:
    """A live yellow ammonia finding at Shiwan that began ten minutes before it was decided."""
    base = Finding(
        rule="nh3n-high",
        version="3",
        kind=Kind.THRESHOLD,
        change=Change.FIRED,
        cause="shiwan/nh3n",
        station="shiwan",
        parameter="nh3n",
        observed_at_ms=at_ms,
        since_ms=at_ms - 600_000,
        value=2.4,
        limit=2.0,
        colour=Colour.YELLOW,
        retrospective=False,
        text=Text("石湾氨氮2.40 mg/L", "Shiwan: ammonia 2.40 mg/L"),
    )
    return replace(base, **other)  # type: ignore[arg-type]


def resolved(at_ms: int, **other: object) -> Finding:
    return fired(at_ms, change=Change.RESOLVED, **other)


def changed(incident: Incident | None, finding: Finding, now_ms: int = NOW) -> tuple[Incident, Effects]:
    step = advance(incident, finding, now_ms)
    assert step is not None
    return step


def opened(finding: Finding | None = None) -> Incident:
    return replace(changed(None, finding or fired())[0], id=17)


def did(incident: Incident, action: Action, comment: str | None = "现场查看 / seen on site") -> Incident:
    return act(incident, action, by="李河长", comment=comment, now_ms=NOW)[0]


# What findings do ---------------------------------------------------------------------------------------------------


def test_a_live_finding_opens_an_incident_of_its_colour_and_pages():
    incident, effects = changed(None, fired(colour=Colour.ORANGE))
    assert (incident.state, incident.colour, incident.open_cause) == (State.OPENED, Colour.ORANGE, "shiwan/nh3n")
    assert (incident.since_ms, incident.opened_at_ms, incident.version) == (T - 600_000, NOW, 1)
    assert (effects.event, effects.notify, effects.entry.seq) == (EventType.OPENED, Notify.PAGE, 1)
    assert (effects.entry.from_state, effects.entry.to_state) == (None, State.OPENED)


def test_a_repetition_of_the_same_colour_is_appended_and_pages_nobody():
    incident, effects = changed(opened(), fired(T + HOUR, rule="nh3n-rising", kind=Kind.TREND))
    assert (effects.event, effects.notify, effects.entry.seq) == (EventType.UPDATED, Notify.INFORM, 2)
    assert incident.last_observed_at_ms == T + HOUR
    assert len(incident.active) == 2


def test_a_more_urgent_finding_raises_the_colour_and_the_headline_and_pages():
    urgent = fired(T + HOUR, rule="nh3n-very-high", colour=Colour.RED, value=9.9, text=Text("很高", "very high"))
    incident, effects = changed(opened(), urgent)
    assert (incident.colour, effects.notify) == (Colour.RED, Notify.PAGE)
    assert (incident.rule, incident.value, incident.title.en) == ("nh3n-very-high", 9.9, "very high")
    assert incident.since_ms == T - 600_000


def test_a_less_urgent_finding_never_lowers_the_colour():
    incident, effects = changed(opened(fired(colour=Colour.RED)), fired(T + HOUR, rule="other", colour=Colour.BLUE))
    assert (incident.colour, effects.notify) == (Colour.RED, Notify.INFORM)
    assert incident.rule == "nh3n-high"


def test_back_to_normal_marks_the_recovery_and_leaves_the_closing_to_people():
    incident, effects = changed(opened(), resolved(T + HOUR))
    assert (incident.recovered_at_ms, incident.state) == (T + HOUR, State.OPENED)
    assert (effects.event, effects.notify, effects.entry.what) == (EventType.UPDATED, Notify.INFORM, What.RESOLVED)
    assert effects.condition is not None
    assert effects.condition.resolved_at_ms == T + HOUR


def test_recovery_waits_for_the_last_condition():
    both, _ = changed(opened(), fired(T + HOUR, rule="nh3n-rising"))
    one_left, _ = changed(both, resolved(T + 2 * HOUR))
    none_left, _ = changed(one_left, resolved(T + 3 * HOUR, rule="nh3n-rising"))
    assert (one_left.recovered_at_ms, none_left.recovered_at_ms) == (None, T + 3 * HOUR)


def test_a_condition_that_comes_back_after_recovery_pages_again():
    recovered, _ = changed(opened(), resolved(T + HOUR))
    incident, effects = changed(recovered, fired(T + 2 * HOUR))
    assert (effects.notify, incident.recovered_at_ms) == (Notify.PAGE, None)


def test_a_resolution_of_what_never_fired_changes_nothing():
    assert advance(opened(), resolved(T + HOUR, station="elsewhere"), NOW) is None
    assert advance(None, resolved(T + HOUR), NOW) is None
    assert concerned([], resolved(T + HOUR)) == ()


def test_a_resolution_ends_the_condition_wherever_it_is_active():
    past = replace(opened(fired(T - 40 * HOUR, retrospective=True)), id=1)
    live = replace(opened(), id=2)
    other_past = replace(opened(fired(T - 90 * HOUR, retrospective=True, rule="other")), id=3)
    assert concerned([past, live, other_past], resolved(T + HOUR)) == (live, past)


# Late data ----------------------------------------------------------------------------------------------------------


def test_late_data_open_a_blue_incident_that_informs_and_does_not_page():
    incident, effects = changed(None, fired(T - 30 * HOUR, retrospective=True, colour=Colour.RED))
    assert (incident.colour, incident.retrospective, effects.notify) == (Colour.BLUE, True, Notify.INFORM)
    assert incident.open_cause not in {None, incident.cause}


@pytest.mark.parametrize(("later_h", "joins"), [(24, True), (25, False), (-24, True), (-25, False)])
def test_late_findings_within_a_day_of_each_other_are_one_incident(later_h: int, joins: bool):
    past = opened(fired(T - 100 * HOUR, since_ms=T - 100 * HOUR, retrospective=True))
    at_ms = T - (100 - later_h) * HOUR
    assert concerned([past], fired(at_ms, since_ms=at_ms, retrospective=True)) == ((past,) if joins else (None,))


def test_late_data_leave_a_live_incident_alone_even_where_they_fall_inside_it():
    live, _ = changed(opened(), resolved(T + 6 * HOUR))
    late = fired(T + 3 * HOUR, rule="codmn-high", parameter="codmn", retrospective=True, colour=Colour.RED)
    assert concerned([live], late) == (None,)


def test_late_data_from_outside_a_live_incident_open_their_own():
    live, _ = changed(opened(), resolved(T + 6 * HOUR))
    assert concerned([live], fired(T - 3 * HOUR, retrospective=True)) == (None,)
    assert concerned([live], fired(T + 8 * HOUR, retrospective=True)) == (None,)


def test_late_data_do_not_bring_back_what_ended_after_them():
    past, _ = changed(opened(fired(T - 40 * HOUR, retrospective=True)), resolved(T - 30 * HOUR, retrospective=True))
    incident, _ = changed(past, fired(T - 35 * HOUR, retrospective=True))
    assert (incident.active, incident.recovered_at_ms) == ((), T - 30 * HOUR)
    incident, _ = changed(incident, fired(T - 25 * HOUR, retrospective=True))
    assert (len(incident.active), incident.recovered_at_ms) == (1, None)


def test_late_data_do_not_end_what_began_after_them():
    past = opened(fired(T, retrospective=True))
    assert concerned([past], resolved(T - 2 * HOUR, retrospective=True)) == ()
    assert concerned([past], resolved(T + 2 * HOUR, retrospective=True)) == (past,)


def test_late_data_end_nothing_that_is_live():
    assert concerned([opened()], resolved(T + 2 * HOUR, retrospective=True)) == ()


def test_a_late_reading_ends_a_silence_even_if_the_silence_was_noticed_after_it():
    silence = opened(fired(T, since_ms=T - HOUR, rule="no-data", kind=Kind.NO_DATA, parameter=None, value=None))
    back = resolved(T - HOUR // 2, rule="no-data", parameter=None)
    assert concerned([silence], back) == (silence,)


def test_a_past_condition_that_turns_out_to_be_going_on_is_promoted_and_pages():
    past = opened(fired(T - 40 * HOUR, retrospective=True))
    now = fired(T, colour=Colour.ORANGE)
    assert concerned([past], now) == (past,)
    incident, effects = changed(past, now)
    assert (incident.retrospective, incident.open_cause, incident.colour) == (False, "shiwan/nh3n", Colour.ORANGE)
    assert (effects.entry.what, effects.event, effects.notify) == (What.PROMOTED, EventType.UPDATED, Notify.PAGE)


def test_a_past_incident_is_not_promoted_by_another_rule_or_once_it_is_over_or_beside_a_live_one():
    past = replace(opened(fired(T - 40 * HOUR, retrospective=True)), id=1)
    over, _ = changed(past, resolved(T - 30 * HOUR, retrospective=True))
    live = replace(opened(), id=2)
    assert concerned([past], fired(rule="other")) == (None,)
    assert concerned([over], fired()) == (None,)
    assert concerned([past, live], fired(T + HOUR)) == (live,)


# What people do -----------------------------------------------------------------------------------------------------


def test_acknowledging_keeps_who_and_when():
    incident, effects = act(opened(), Action.ACKNOWLEDGE, by=" 李河长 ", comment=None, now_ms=NOW)
    assert (incident.state, incident.acknowledged_by, incident.acknowledged_at_ms) == (
        State.ACKNOWLEDGED,
        "李河长",
        NOW,
    )
    assert (effects.event, effects.notify) == (EventType.UPDATED, Notify.INFORM)
    assert effects.entry.text == Text("李河长受理了事件17", "李河长 acknowledged incident 17")


def test_an_acknowledged_and_recovered_incident_can_be_closed_with_a_reason():
    recovered, _ = changed(did(opened(), Action.ACKNOWLEDGE), resolved(T + HOUR))
    incident, effects = act(recovered, Action.CLOSE, by="李河长", comment="闸门已关", now_ms=NOW)
    assert (incident.state, incident.open_cause, incident.closed_at_ms) == (State.CLOSED, None, NOW)
    assert (effects.event, effects.entry.comment) == (EventType.CLOSED, "闸门已关")


def test_closing_is_refused_while_a_condition_is_active_and_says_what_is_allowed():
    with pytest.raises(Refused) as refusal:
        did(did(opened(), Action.ACKNOWLEDGE), Action.CLOSE)
    assert str(refusal.value) == (
        "事件17不能“结案”：仍有1项异常未恢复（nh3n-high shiwan nh3n）；现在可以：备注、判为误报。 / "
        'Incident 17: "close" is refused while 1 of its conditions are still active (nh3n-high shiwan nh3n); '
        "allowed now: comment, false alarm."
    )


def test_a_false_alarm_is_closed_although_its_condition_is_active():
    incident, effects = act(opened(), Action.FALSE_ALARM, by="李河长", comment="探头离水", now_ms=NOW)
    assert (incident.state, effects.event, effects.entry.what) == (State.CLOSED, EventType.CLOSED, What.FALSE_ALARM)
    assert len(incident.active) == 1


def test_an_incident_nobody_acknowledged_cannot_be_closed():
    recovered, _ = changed(opened(), resolved(T + HOUR))
    with pytest.raises(Refused, match=r"待受理，不能“结案”；现在可以：受理、备注、判为误报。 / Incident 17 is open"):
        did(recovered, Action.CLOSE)


@pytest.mark.parametrize("action", list(Action))
def test_nothing_can_be_done_to_a_closed_incident(action: Action):
    with pytest.raises(Refused, match=r"已结案.* / Incident 17 is closed"):
        did(did(opened(), Action.FALSE_ALARM), action)


def test_an_incident_is_acknowledged_once():
    with pytest.raises(Refused, match="allowed now: comment, false alarm"):
        did(did(opened(), Action.ACKNOWLEDGE), Action.ACKNOWLEDGE)


@pytest.mark.parametrize("action", [Action.COMMENT, Action.FALSE_ALARM])
@pytest.mark.parametrize("comment", [None, "", "  \n"])
def test_an_action_that_needs_a_reason_is_refused_without_one(action: Action, comment: str | None):
    with pytest.raises(Refused, match=r"必须写明理由.* / .*without a comment"):
        did(opened(), action, comment)


@pytest.mark.parametrize("action", list(Action))
def test_no_action_is_anonymous(action: Action):
    with pytest.raises(Refused, match="必须写明是谁"):
        act(opened(), action, by=" ", comment="理由", now_ms=NOW)


def test_a_comment_has_a_longest_length():
    did(opened(), Action.COMMENT, "水" * COMMENT_LIMIT)
    with pytest.raises(Refused, match="最多4000个"):
        did(opened(), Action.COMMENT, "水" * (COMMENT_LIMIT + 1))


def test_what_is_offered_is_exactly_what_is_accepted():
    acknowledged = did(opened(), Action.ACKNOWLEDGE)
    recovered, _ = changed(acknowledged, resolved(T + HOUR))
    for incident in (opened(), acknowledged, recovered, did(opened(), Action.FALSE_ALARM)):
        accepted = []
        for action in Action:
            try:
                did(incident, action)
            except Refused:
                continue
            accepted.append(action)
        assert tuple(accepted) == allowed(incident)


# Whatever happens, in whatever order --------------------------------------------------------------------------------

findings_ = st.builds(
    lambda rule, cause, hours, length, colour, retrospective, change: fired(
        T + hours * HOUR,
        since_ms=T + (hours - length) * HOUR,
        rule=rule,
        cause=cause,
        colour=colour,
        retrospective=retrospective,
        change=change,
    ),
    rule=st.sampled_from(["a", "b"]),
    cause=st.sampled_from(["x", "x", "x", "y"]),
    hours=st.integers(-60, 60),
    length=st.integers(0, 20),
    colour=st.sampled_from(list(Colour)),
    retrospective=st.booleans(),
    change=st.sampled_from(list(Change)),
)
actions_ = st.tuples(st.integers(0, 5), st.sampled_from(list(Action)))


def hold(book: list[Incident]) -> None:
    """What is true of all incidents at all times."""
    open_causes = [i.open_cause for i in book if i.open_cause is not None]
    live = [i.cause for i in book if i.is_open and not i.retrospective]
    assert len(open_causes) == len(set(open_causes))
    assert len(live) == len(set(live))
    for incident in book:
        assert incident.is_open == (incident.open_cause is not None) == (incident.closed_at_ms is None)
        assert incident.active or incident.recovered_at_ms is not None
        assert (incident.open_cause == incident.cause) == (incident.is_open and not incident.retrospective)


def follows(before: Incident, after: Incident, effects: Effects) -> None:
    """What is true of every change of an incident."""
    assert before.is_open
    moves = {(state, step.to) for (state, _), step in STEPS.items()} | {(state, state) for state in State}
    assert (before.state, after.state) in moves
    assert after.colour.rank <= before.colour.rank
    assert after.version == before.version + 1 == effects.entry.seq
    assert after.since_ms <= before.since_ms
    assert after.last_observed_at_ms >= before.last_observed_at_ms
    assert not (after.retrospective and not before.retrospective)


@settings(max_examples=400, deadline=None)
@given(st.lists(findings_ | actions_, max_size=40))
def test_no_order_of_findings_and_actions_breaks_an_incident(steps: list[Finding | tuple[int, Action]]):
    book: list[Incident] = []
    for step in steps:
        if isinstance(step, tuple):
            number, action = step
            if number < len(book):
                before = book[number]
                try:
                    after, effects = act(before, action, by="李河长", comment="理由", now_ms=NOW)
                except Refused:
                    assert action not in allowed(before)
                    continue
                assert not (action is Action.CLOSE and before.active)
                follows(before, after, effects)
                book[number] = after
        else:
            for target in concerned(book, step):
                change = advance(target, step, NOW)
                if change is None:
                    continue
                after, effects = change
                assert not (step.retrospective and effects.notify is Notify.PAGE)
                if target is None:
                    assert (effects.notify is Notify.PAGE) == (not step.retrospective)
                    book.append(replace(after, id=len(book)))
                else:
                    follows(target, after, effects)
                    book[target.id] = after
        hold(book)
