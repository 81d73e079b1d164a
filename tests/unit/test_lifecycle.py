"""How incidents live: who is paged, what joins what, and what people may do."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.from_findings import affected_incidents, apply_finding
from governance.incidents.headline import Headline, Row, title
from governance.incidents.lifecycle import TRANSITIONS, allowed, apply_action, merge, split
from governance.incidents.model import (
    COMMENT_LIMIT,
    Action,
    Assignment,
    Effects,
    EntryKind,
    EventType,
    Incident,
    NotAllowedNow,
    Notify,
    Order,
    State,
    action_names,
    listed,
)
from governance.incidents.reminders import remind
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Department, Forbidden, Role
from infra.errors import Refused
from infra.texts import Text, say
from infra.times import beijing
from tests.cases import (
    ADMINISTRATOR,
    CHIEF,
    DONE,
    EVERYBODY,
    HOUSING,
    OFFICE,
    OPERATOR,
    TO_WATER,
    VERIFIER,
    WATER,
    WAY,
    a_finding,
)
from tests.says import says

HOUR = 3_600_000
T = 1_778_580_000_000  # 2026-05-12 18:00 in Beijing
NOW = T + 5_000


def fired(at_ms: int = T, **other: object) -> Finding:
    """A live yellow ammonia finding at Shiwan that began ten minutes before it was decided."""
    base = a_finding(
        at_ms, since_ms=at_ms - 600_000, version="3", text=Text("石湾氨氮2.40 mg/L", "Shiwan: ammonia 2.40 mg/L")
    )
    return replace(base, **other)  # type: ignore[arg-type]


def resolved(at_ms: int, **other: object) -> Finding:
    return fired(at_ms, change=ConditionChange.RESOLVED, **other)


def changed(incident: Incident | None, finding: Finding, now_ms: int = NOW) -> tuple[Incident, Effects]:
    step = apply_finding(incident, finding, now_ms)
    assert step is not None
    return step


def opened(finding: Finding | None = None) -> Incident:
    return replace(changed(None, finding or fired())[0], id=17)


NH3N = ("nh3n-high", "shiwan", "nh3n")


def walked(steps: int, finding: Finding | None = None) -> Incident:
    """An incident after so many steps of its way."""
    incident = opened(finding)
    for actor, order in WAY[:steps]:
        incident, _ = apply_action(incident, order, actor, NOW)
    return incident


# What findings do ---------------------------------------------------------------------------------------------------


def test_a_live_finding_opens_an_incident_of_its_colour_and_pages():
    incident, effects = changed(None, fired(colour=Colour.ORANGE))
    assert (incident.state, incident.colour, incident.open_cause) == (State.REPORTED, Colour.ORANGE, "shiwan/nh3n")
    assert (incident.since_ms, incident.opened_at_ms, incident.version) == (T - 600_000, NOW, 1)
    assert (effects.event, effects.notify, effects.entry.seq) == (EventType.OPENED, Notify.PAGE, 1)
    assert (effects.entry.from_state, effects.entry.to_state) == (None, State.REPORTED)


def test_a_repetition_of_the_same_colour_is_appended_and_pages_nobody():
    incident, effects = changed(opened(), fired(T + HOUR, rule="nh3n-rising", kind=FindingKind.TREND))
    assert (effects.event, effects.notify, effects.entry.seq) == (EventType.UPDATED, Notify.INFORM, 2)
    assert incident.last_observed_at_ms == T + HOUR
    assert len(incident.active) == 2


def test_only_a_finding_that_leaves_the_incident_as_it_is_repeats():
    incident = opened()
    more = changed(incident, fired(T + 1))
    urgent = changed(incident, fired(T + 1, colour=Colour.RED))
    over = changed(incident, resolved(T + 2))
    back = changed(over[0], fired(T + 3))
    past = opened(fired(retrospective=True))
    promoted = changed(past, fired(T + 1))
    told = [effects.repeats for _, effects in (more, urgent, over, back, promoted)]
    assert told == [True, False, True, True, False]
    assert not apply_action(incident, Order(Action.ACCEPT), OPERATOR, NOW)[1].repeats


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
    assert (incident.recovered_at_ms, incident.state) == (T + HOUR, State.REPORTED)
    assert (effects.event, effects.notify, effects.entry.what) == (EventType.UPDATED, Notify.INFORM, EntryKind.RESOLVED)
    assert [c.resolved_at_ms for c in effects.conditions] == [T + HOUR]


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
    assert apply_finding(opened(), resolved(T + HOUR, station="elsewhere"), NOW) is None
    assert apply_finding(None, resolved(T + HOUR), NOW) is None
    assert affected_incidents([], resolved(T + HOUR)) == ()


def test_a_resolution_ends_the_condition_wherever_it_is_active():
    past = replace(opened(fired(T - 40 * HOUR, retrospective=True)), id=1)
    live = replace(opened(), id=2)
    other_past = replace(opened(fired(T - 90 * HOUR, retrospective=True, rule="other")), id=3)
    assert affected_incidents([past, live, other_past], resolved(T + HOUR)) == (live, past)


# Late data ----------------------------------------------------------------------------------------------------------


def test_late_data_open_a_blue_incident_that_informs_and_does_not_page():
    incident, effects = changed(None, fired(T - 30 * HOUR, retrospective=True, colour=Colour.RED))
    assert (incident.colour, incident.retrospective, effects.notify) == (Colour.BLUE, True, Notify.INFORM)
    assert incident.open_cause not in {None, incident.cause}


@pytest.mark.parametrize(("later_h", "joins"), [(24, True), (25, False), (-24, True), (-25, False)])
def test_late_findings_within_a_day_of_each_other_are_one_incident(later_h: int, joins: bool):
    past = opened(fired(T - 100 * HOUR, since_ms=T - 100 * HOUR, retrospective=True))
    at_ms = T - (100 - later_h) * HOUR
    assert affected_incidents([past], fired(at_ms, since_ms=at_ms, retrospective=True)) == (
        (past,) if joins else (None,)
    )


def test_late_data_leave_a_live_incident_alone_even_where_they_fall_inside_it():
    live, _ = changed(opened(), resolved(T + 6 * HOUR))
    late = fired(T + 3 * HOUR, rule="codmn-high", parameter="codmn", retrospective=True, colour=Colour.RED)
    assert affected_incidents([live], late) == (None,)


def test_late_data_from_outside_a_live_incident_open_their_own():
    live, _ = changed(opened(), resolved(T + 6 * HOUR))
    assert affected_incidents([live], fired(T - 3 * HOUR, retrospective=True)) == (None,)
    assert affected_incidents([live], fired(T + 8 * HOUR, retrospective=True)) == (None,)


def test_late_data_do_not_bring_back_what_ended_after_them():
    past, _ = changed(opened(fired(T - 40 * HOUR, retrospective=True)), resolved(T - 30 * HOUR, retrospective=True))
    incident, _ = changed(past, fired(T - 35 * HOUR, retrospective=True))
    assert (incident.active, incident.recovered_at_ms) == ((), T - 30 * HOUR)
    incident, _ = changed(incident, fired(T - 25 * HOUR, retrospective=True))
    assert (len(incident.active), incident.recovered_at_ms) == (1, None)


def test_what_is_taken_back_is_that_very_firing_wherever_it_stands():
    def taken_back(at_ms: int, **other: object) -> Finding:
        return fired(at_ms, change=ConditionChange.WITHDRAWN, **other)

    live = opened()
    past = replace(opened(fired(T + 2 * HOUR, retrospective=True)), id=18)
    assert affected_incidents([live, past], taken_back(T + 2 * HOUR)) == (past,)
    assert affected_incidents([live, past], taken_back(T, cause="whatever/it/joined")) == (live,)
    assert affected_incidents([live, past], taken_back(T + 5 * HOUR)) == (), "nobody was told of that"
    again, _ = changed(changed(live, resolved(T + HOUR))[0], fired(T + 3 * HOUR))
    after, effects = changed(again, taken_back(T))
    assert [c.fired_at_ms for c in after.active] == [T + 3 * HOUR], "what fired again since stays on"
    assert (effects.entry.what, effects.repeats) == (EntryKind.WITHDRAWN, False)
    over, _ = apply_action(live, Order(Action.FALSE_ALARM, comment="示例", reason="other"), OPERATOR, NOW)
    assert affected_incidents([over], taken_back(T)) == (over,)
    assert changed(over, taken_back(T))[0].state is State.FALSE_ALARM
    other = replace(opened(fired(cause="qicha", rule="b", station="qicha")), id=19)
    (gone, _), (kept, _) = merge(other, live, Order(Action.MERGE, into=17), OPERATOR, NOW)
    assert affected_incidents([gone, kept], taken_back(T, rule="b", station="qicha")) == (kept,)


def test_late_data_do_not_end_what_began_after_them():
    past = opened(fired(T, retrospective=True))
    assert affected_incidents([past], resolved(T - 2 * HOUR, retrospective=True)) == ()
    assert affected_incidents([past], resolved(T + 2 * HOUR, retrospective=True)) == (past,)


def test_late_data_end_nothing_that_is_live():
    assert affected_incidents([opened()], resolved(T + 2 * HOUR, retrospective=True)) == ()


def test_a_late_reading_ends_a_silence_even_if_the_silence_was_noticed_after_it():
    silence = opened(fired(T, since_ms=T - HOUR, rule="no-data", kind=FindingKind.NO_DATA, parameter=None, value=None))
    back = resolved(T - HOUR // 2, rule="no-data", parameter=None)
    assert affected_incidents([silence], back) == (silence,)


def test_a_past_condition_that_turns_out_to_be_going_on_is_promoted_and_pages():
    past = opened(fired(T - 40 * HOUR, retrospective=True))
    now = fired(T, colour=Colour.ORANGE)
    assert affected_incidents([past], now) == (past,)
    incident, effects = changed(past, now)
    assert (incident.retrospective, incident.open_cause, incident.colour) == (False, "shiwan/nh3n", Colour.ORANGE)
    assert (effects.entry.what, effects.event, effects.notify) == (EntryKind.PROMOTED, EventType.UPDATED, Notify.PAGE)


def test_a_past_incident_is_not_promoted_by_another_rule_or_once_it_is_over_or_beside_a_live_one():
    past = replace(opened(fired(T - 40 * HOUR, retrospective=True)), id=1)
    over, _ = changed(past, resolved(T - 30 * HOUR, retrospective=True))
    live = replace(opened(), id=2)
    assert affected_incidents([past], fired(rule="other")) == (None,)
    assert affected_incidents([over], fired()) == (None,)
    assert affected_incidents([past, live], fired(T + HOUR)) == (live,)


# What people do -----------------------------------------------------------------------------------------------------


def test_accepting_keeps_who_and_when():
    incident, effects = apply_action(opened(), Order(Action.ACCEPT), OPERATOR, NOW)
    assert (incident.state, incident.accepted_by, incident.accepted_at_ms) == (State.ACCEPTED, OPERATOR.name, NOW)
    assert (effects.event, effects.notify, effects.entry.role) == (EventType.UPDATED, Notify.INFORM, Role.OPERATOR)
    assert effects.entry.text == Text(f"{OPERATOR.name}受理了事件17", f"{OPERATOR.name} accepted incident 17")


def test_an_incident_goes_from_the_report_to_the_closed_case():
    incident, states = opened(), []
    for actor, order in WAY:
        if order.action is Action.CLOSE:
            incident, _ = changed(incident, resolved(T + HOUR))
        incident, effects = apply_action(incident, order, actor, NOW, normal={NH3N: 3})
        states.append(incident.state)
    assert states == [
        State.ACCEPTED,
        State.DISPATCHED,
        State.HANDLING,
        State.HANDLED,
        State.VERIFIED,
        State.CLOSED,
    ]
    assert (incident.open_cause, incident.closed_at_ms, effects.event) == (None, NOW, EventType.CLOSED)
    assert (incident.case.handler, incident.case.verifier) == (WATER.name, VERIFIER.name)
    assert (incident.case.responsible, incident.case.department) == (CHIEF.name, Department.WATER)
    assert (incident.case.due_ms, incident.case.alert_at_ms) == (None, None)


def test_closing_is_refused_while_a_condition_is_active_and_says_what_is_allowed():
    with pytest.raises(NotAllowedNow) as refusal:
        apply_action(walked(5), Order(Action.CLOSE, comment="好了"), OPERATOR, NOW)
    assert "仍有1项异常未恢复（shiwan氨氮）" in str(refusal.value)
    assert "still active (ammonia nitrogen at shiwan)" in str(refusal.value)
    assert Action.REWORK in refusal.value.allowed
    assert Action.CLOSE not in refusal.value.allowed


@pytest.mark.parametrize("seen", [None, 0, 2])
def test_a_sensor_incident_is_closed_only_after_enough_good_readings(seen: int | None):
    recovered, _ = changed(walked(5), resolved(T + HOUR))
    normal = None if seen is None else {NH3N: seen}
    with pytest.raises(
        NotAllowedNow, match=says("incident.not_proven", id=17, seen=seen or 0, needed=3, action=say("action.close"))
    ):
        apply_action(recovered, Order(Action.CLOSE, comment="好了"), OPERATOR, NOW, normal=normal)
    closed, _ = apply_action(recovered, Order(Action.CLOSE, comment="好了"), OPERATOR, NOW, normal={NH3N: 3})
    assert closed.state is State.CLOSED


def test_who_handled_it_neither_verifies_nor_closes_it():
    handled = walked(4)
    for order in (Order(Action.VERIFY, measurement=DONE), Order(Action.CLOSE, comment="好了")):
        mine = Actor(WATER.name, Role.ADMINISTRATOR)
        incident = handled if order.action is Action.VERIFY else changed(walked(5), resolved(T + HOUR))[0]
        with pytest.raises(Forbidden, match=says("incident.own_work", by="陈某（示例）", id=17)):
            apply_action(incident, order, mine, NOW, normal={NH3N: 3})
        assert order.action not in allowed(incident, mine)


def test_a_result_without_a_photo_or_a_measurement_is_refused():
    with pytest.raises(
        NotAllowedNow,
        match=says(
            "incident.needs_evidence",
            id=17,
            action=say("action.finish"),
            evidence=listed([say("required_evidence.photo"), say("required_evidence.measurement")]),
        ),
    ):
        apply_action(walked(3), Order(Action.FINISH, comment="已处理"), WATER, NOW)
    with pytest.raises(NotAllowedNow, match=says("incident.needs_comment", id=17, action=say("action.finish"))):
        apply_action(walked(3), Order(Action.FINISH, attachments=("1",)), WATER, NOW)


def test_another_department_cannot_act_on_what_is_not_its_own():
    with pytest.raises(
        Forbidden,
        match=says(
            "incident.other_department",
            department=say("department.water"),
            id=17,
            action=say("action.start"),
            allowed=say("action.comment"),
        ),
    ):
        apply_action(walked(2), Order(Action.START), HOUSING, NOW)


def test_joint_departments_do_their_part_before_the_lead_finishes():
    to = Assignment(department=Department.WATER, joint=(Department.HOUSING,))
    incident, _ = apply_action(walked(1), Order(Action.DISPATCH, assignment=to), OPERATOR, NOW)
    incident, _ = apply_action(incident, Order(Action.START), WATER, NOW)
    finish = Order(Action.FINISH, comment="已处理", attachments=("1",))
    with pytest.raises(
        NotAllowedNow,
        match=says("incident.waits_for", departments=say("department.housing"), id=17, action=say("action.finish")),
    ):
        apply_action(incident, finish, WATER, NOW)
    incident, _ = apply_action(incident, replace(finish, action=Action.CONTRIBUTE), HOUSING, NOW)
    incident, _ = apply_action(incident, finish, WATER, NOW)
    assert (incident.state, incident.case.contributed) == (State.HANDLED, (Department.HOUSING,))


def test_who_is_no_department_says_for_which_one_a_joint_part_is_done():
    joint = Assignment(department=Department.WATER, joint=(Department.HOUSING, Department.INDUSTRY), responsible="张")
    incident = apply_action(walked(1), Order(Action.DISPATCH, assignment=joint), OPERATOR, NOW)[0]
    shown = Order(Action.CONTRIBUTE, comment="已整改", measurement=DONE)
    with pytest.raises(
        NotAllowedNow,
        match=says(
            "incident.needs_department",
            id=17,
            departments=listed([say("department.housing"), say("department.industry")]),
        ),
    ):
        apply_action(incident, shown, CHIEF, NOW)
    with pytest.raises(
        NotAllowedNow,
        match=says(
            "incident.needs_department",
            id=17,
            departments=listed([say("department.housing"), say("department.industry")]),
        ),
    ):
        apply_action(incident, replace(shown, assignment=Assignment(department=Department.WATER)), CHIEF, NOW)
    named = replace(shown, assignment=Assignment(department=Department.INDUSTRY))
    incident = apply_action(incident, named, CHIEF, NOW)[0]
    assert incident.case.contributed == (Department.INDUSTRY,)
    incident = apply_action(incident, shown, CHIEF, NOW)[0]  # one is left
    assert set(incident.case.contributed) == {Department.HOUSING, Department.INDUSTRY}


def test_a_transfer_says_to_whom():
    incident = walked(3)
    with pytest.raises(NotAllowedNow):
        apply_action(incident, Order(Action.TRANSFER, comment="不归我管"), WATER, NOW)
    to = Order(Action.TRANSFER, comment="归住建", assignment=Assignment(department=Department.HOUSING))
    assert apply_action(incident, to, WATER, NOW)[0].case.department is Department.HOUSING


def test_a_person_acts_within_reach_and_on_what_is_theirs():
    incident = replace(opened(), place=Place("zumiao/1"))
    elsewhere = replace(OPERATOR, regions=frozenset({"shiwan"}))
    with pytest.raises(Forbidden, match=says("incident.elsewhere", id=17)):
        apply_action(incident, Order(Action.ACCEPT), elsewhere, NOW)
    assert allowed(incident, elsewhere) == ()
    near = replace(OPERATOR, regions=frozenset({"zumiao", "zumiao/1"}))
    assert apply_action(incident, Order(Action.ACCEPT), near, NOW)[0].state is State.ACCEPTED


def test_what_lies_in_no_region_yet_says_so_to_who_is_bound_to_one():
    bound = Actor("陈某（示例）", Role.OPERATOR, regions=frozenset({"g1"}))
    with pytest.raises(Forbidden, match=says("incident.unplaced", id=17)):
        apply_action(opened(), Order(Action.ACCEPT), bound, NOW)


def test_a_false_alarm_needs_its_reason_and_ends_it_although_its_condition_is_active():
    with pytest.raises(
        Refused, match=says("incident.needs_reason", id=17, action=say("action.false_alarm"), reason="")
    ):
        apply_action(opened(), Order(Action.FALSE_ALARM, comment="探头离水"), OPERATOR, NOW)
    order = Order(Action.FALSE_ALARM, comment="探头离水", reason="sensor_fault")
    incident, effects = apply_action(opened(), order, OPERATOR, NOW)
    assert (incident.state, effects.event, effects.entry.what) == (
        State.FALSE_ALARM,
        EventType.CLOSED,
        EntryKind.FALSE_ALARM,
    )
    assert (len(incident.active), incident.case.reason, incident.open_cause) == (1, "sensor_fault", None)


def test_what_is_over_can_be_reopened_and_begins_with_the_dispatch():
    over = apply_action(opened(), Order(Action.REJECT, comment="不属实"), OPERATOR, NOW)[0]
    assert (over.state, allowed(over, OPERATOR)) == (State.REJECTED, (Action.REOPEN,))
    again, effects = apply_action(over, Order(Action.REOPEN, comment="又出现"), OPERATOR, NOW + HOUR)
    assert (again.state, again.open_cause, again.closed_at_ms) == (State.REOPENED, again.cause, None)
    assert effects.notify is Notify.PAGE
    assert Action.DISPATCH in allowed(again, OPERATOR)


def test_the_state_forbids_with_what_is_allowed_now():
    now = {"state": say("state.reported"), "allowed": action_names(allowed(opened(), OPERATOR))}
    with pytest.raises(NotAllowedNow, match=says("incident.not_now", id=17, action=say("action.close"), **now)) as told:
        apply_action(opened(), Order(Action.CLOSE, comment="好了"), OPERATOR, NOW)
    assert told.value.allowed == allowed(opened(), OPERATOR)


def test_the_role_forbids_with_what_is_allowed_now():
    with pytest.raises(
        Forbidden,
        match=says(
            "incident.role_forbids",
            role=say("person.verifier"),
            id=17,
            action=say("action.accept"),
            allowed=say("action.comment"),
        ),
    ) as told:
        apply_action(opened(), Order(Action.ACCEPT), VERIFIER, NOW)
    assert told.value.allowed == (Action.COMMENT,)


@pytest.mark.parametrize("comment", [None, "", "  \n"])
def test_an_action_that_needs_a_reason_is_refused_without_one(comment: str | None):
    with pytest.raises(Refused, match=says("incident.needs_comment", id=17, action=say("action.comment"))):
        apply_action(opened(), Order(Action.COMMENT, comment=comment), OPERATOR, NOW)


@pytest.mark.parametrize("action", list(Action))
def test_no_action_is_anonymous(action: Action):
    with pytest.raises(Refused, match=says("incident.needs_name", id=17)):
        apply_action(opened(), Order(action, comment="理由"), replace(ADMINISTRATOR, name=" "), NOW)


def test_a_comment_has_a_longest_length():
    apply_action(opened(), Order(Action.COMMENT, comment="水" * COMMENT_LIMIT), OPERATOR, NOW)
    with pytest.raises(
        Refused, match=says("incident.comment_too_long", action=say("action.comment"), length=4001, limit=COMMENT_LIMIT)
    ):
        apply_action(opened(), Order(Action.COMMENT, comment="水" * (COMMENT_LIMIT + 1)), OPERATOR, NOW)


def test_merging_moves_conditions_and_causes_to_the_one_that_goes_on():
    other = replace(opened(fired(cause="qicha/do", rule="do-low", station="qicha", colour=Colour.RED)), id=18)
    (gone, _), (kept, effects) = merge(other, opened(), Order(Action.MERGE, into=17), OPERATOR, NOW)
    assert (gone.state, gone.case.merged_into, gone.open_cause) == (State.CLOSED, 17, None)
    assert ({c.station for c in kept.active}, kept.colour) == ({"shiwan", "qicha"}, Colour.RED)
    assert len(effects.conditions) == 1
    assert affected_incidents([gone, kept], fired(T + HOUR, cause="qicha/do", rule="do-low")) == (kept,)
    with pytest.raises(NotAllowedNow):
        apply_action(gone, Order(Action.REOPEN, comment="又出现"), OPERATOR, NOW)
    with pytest.raises(NotAllowedNow):
        merge(kept, kept, Order(Action.MERGE, into=17), OPERATOR, NOW)


def test_merging_sheds_no_supervision_and_forgets_nobody_who_handled_it():
    watched = apply_action(walked(4), Order(Action.SUPERVISE, comment="示例"), OFFICE, NOW)[0]
    other = replace(opened(fired(cause="qicha/do", rule="do-low", station="qicha")), id=18)
    (_, _), (kept, _) = merge(watched, other, Order(Action.MERGE, into=18), OPERATOR, NOW)
    assert (kept.case.supervised_by, kept.case.supervised_level) == (OFFICE.name, OFFICE.level)
    assert kept.case.handlers == (WATER.name,)


SEWAGE = Headline(
    Text("澜石", "Lanshi"), say("event.sewage"), (Row("nh3n", 3.733, 0.705, 22.2),), "lanshi", "creek", 0.95, 16.7, 7.0
)


def test_what_is_split_off_has_the_title_and_evidence_of_its_own_matter():
    first = opened()
    both, effects = changed(first, fired(T + HOUR, rule="event", station="lanshi", parameter=None, headline=SEWAGE))
    key = ("event", "lanshi", "")
    order = Order(Action.SPLIT, comment="两处来源", conditions=(key,))
    _, (new, _) = split(both, order, OPERATOR, NOW, firings={key: effects.entry})
    assert (new.headline, new.title) == (SEWAGE, title(SEWAGE))
    assert first.title != new.title


def test_a_merged_case_has_the_title_of_the_more_urgent_one():
    mild = replace(opened(fired(colour=Colour.YELLOW)), id=1)
    grave = replace(opened(fired(station="lanshi", colour=Colour.RED, headline=SEWAGE, cause="x")), id=2)
    for incident, into in ((mild, grave), (grave, mild)):
        _, (kept, _) = merge(incident, into, Order(Action.MERGE, into=into.id), OPERATOR, NOW)
        assert (kept.id, kept.colour, kept.title, kept.station) == (into.id, Colour.RED, title(SEWAGE), "lanshi")


def test_a_dispatch_says_to_whom_and_by_when():
    incident, _ = changed(opened(), fired())
    accepted = apply_action(incident, Order(Action.ACCEPT), OPERATOR, NOW)[0]
    to = Assignment(responsible="张河长（示例）", department=Department.ENVIRONMENT)
    after, effects = apply_action(accepted, Order(Action.DISPATCH, assignment=to), OPERATOR, NOW)
    for said in ("张河长（示例）", say("department.environment").zh, beijing(after.case.due_ms or 0)):
        assert said in effects.entry.text.zh


def test_splitting_takes_conditions_into_an_incident_that_follows_them():
    both, _ = changed(opened(), fired(T + HOUR, rule="b", station="lanshi"))
    key = ("b", "lanshi", "nh3n")
    order = Order(Action.SPLIT, comment="两处污染源", conditions=(key,))
    (rest, effects), (new, _) = split(both, order, OPERATOR, NOW)
    assert (effects.gone, [c.key for c in new.conditions], new.state) == ((key,), [key], State.REPORTED)
    new = replace(new, id=18)
    assert affected_incidents([rest, new], fired(T + 2 * HOUR, rule="b", station="lanshi")) == (new,)
    assert affected_incidents([rest, new], fired(T + 2 * HOUR)) == (rest,)
    assert affected_incidents([rest, new], resolved(T + 3 * HOUR, rule="b", station="lanshi")) == (new,)
    with pytest.raises(NotAllowedNow):
        split(rest, order, OPERATOR, NOW)


# Time ---------------------------------------------------------------------------------------------------------------


def test_a_deadline_is_reminded_of_and_then_goes_up_level_by_level():
    above = {"grid": "village", "village": "street", "street": ""}
    incident = replace(opened(fired(colour=Colour.RED)), place=Place("grid"))
    due = incident.case.due_ms
    assert due == NOW + 10 * 60_000

    def asked(at_ms: int) -> Incident:
        nonlocal incident
        step = remind(incident, at_ms, up=lambda code: above.get(code, ""))
        assert step is not None
        incident = step[0]
        assert step[1].entry.seq == incident.version
        assert remind(incident, at_ms, up=lambda code: above.get(code, "")) is None, "told twice"
        return incident

    assert remind(incident, NOW + 7 * 60_000, up=str) is None
    assert asked(NOW + 8 * 60_000).case.escalated_to == ""
    assert asked(due).case.escalated_to == "village"
    assert incident.case.supervised_at_ms == due
    assert asked(due + 24 * HOUR).case.escalated_to == "street"
    asked(due + 48 * HOUR)
    assert incident.case.alert_at_ms is None
    accepted, _ = apply_action(incident, Order(Action.ACCEPT), ADMINISTRATOR, due + 49 * HOUR)
    assert (accepted.case.alerts, accepted.case.escalated_to) == (0, "")


def emergency(grade: str = "II", now_ms: int = NOW) -> Incident:
    return apply_action(opened(), Order(Action.EMERGENCY, comment="水源", grade=grade), OPERATOR, now_ms)[0]


def calls(incident: Incident, until_ms: int) -> list[int]:
    """After how many minutes an emergency nobody deals with is called out."""
    found = []
    while (at_ms := incident.case.emergency_alert_at_ms) is not None and at_ms <= until_ms:
        step = remind(incident, at_ms, up=str)
        assert step is not None
        incident, effects = step
        assert (effects.entry.what, effects.notify) == (EntryKind.EMERGENCY_UNREPORTED, Notify.PAGE)
        found.append((at_ms - NOW) // 60_000)
    return found


def test_an_emergency_nobody_deals_with_is_called_out_again_and_again_until_a_day_after_its_hours():
    ten = list(range(10, 91, 10))
    assert calls(emergency(), NOW + 3 * HOUR) == [*ten, 96, 120, 150, 180]
    assert calls(emergency("IV"), NOW + 4 * HOUR)[-2:] == [192, 240]
    assert calls(emergency(), NOW + 99 * HOUR)[-1] == 120 + 24 * 60


def test_an_emergency_goes_one_level_up_with_each_call_whatever_stands_still():
    above = {"d/a/1": "d/a", "d/a": "d"}
    incident = replace(emergency(), place=Place("d/a/1"))
    incident = replace(incident, case=replace(incident.case, paused_at_ms=NOW, due_ms=None, alert_at_ms=None))
    levels = []
    for minutes in (10, 20, 30):
        assert remind(incident, NOW + minutes * 60_000 - 1, up=lambda r: above.get(r, "")) is None
        step = remind(incident, NOW + minutes * 60_000, up=lambda r: above.get(r, ""))
        assert step is not None
        incident = step[0]
        levels.append((step[1].entry.details["calls"], step[1].entry.details["escalated_to"]))
    assert levels == [(1, "d/a"), (2, "d"), (3, "d")]


def test_who_deals_with_an_emergency_is_called_only_when_its_hours_run_out_and_who_reports_it_never():
    own = apply_action(emergency(), Order(Action.COMMENT, comment="已电话通知"), OPERATOR, NOW + 60_000)[0]
    assert calls(own, NOW + HOUR)[0] == 10, "who declared it has told nobody else"
    remark = Actor("系统", Role.SYSTEM)
    machine = apply_action(emergency(), Order(Action.COMMENT, comment="可能来源"), remark, NOW + 60_000)[0]
    assert calls(machine, NOW + HOUR)[0] == 10, "nobody has read it"
    answered = apply_action(emergency(), Order(Action.COMMENT, comment="收到"), CHIEF, NOW + 60_000)[0]
    assert calls(answered, NOW + 2 * HOUR) == [96, 120]
    late = apply_action(answered, Order(Action.COMMENT, comment="收到"), CHIEF, NOW + 100 * 60_000)[0]
    assert calls(late, NOW + 2 * HOUR) == [120]
    reported = apply_action(answered, Order(Action.EMERGENCY_REPORTED, comment="已报省厅"), OFFICE, NOW + HOUR)[0]
    assert calls(reported, NOW + 99 * HOUR) == []
    over = apply_action(emergency(), Order(Action.FALSE_ALARM, comment="误报", reason="test"), OPERATOR, NOW + 1)[0]
    assert calls(over, NOW + 99 * HOUR) == []


def test_an_emergency_that_is_merged_goes_on_in_the_other_incident():
    into = replace(opened(fired(cause="other")), id=2)
    (gone, _), (kept, _) = merge(replace(emergency(), id=1), into, Order(Action.MERGE, into=2), OPERATOR, NOW)
    assert (kept.case.emergency, kept.case.emergency_due_ms) == ("II", NOW + 2 * HOUR)
    assert calls(kept, NOW + 20 * 60_000) == [10, 20]
    assert gone.case.emergency_alert_at_ms is None
    graver = replace(apply_action(into, Order(Action.EMERGENCY, comment="c", grade="I"), OPERATOR, NOW)[0], id=2)
    assert merge(emergency(), graver, Order(Action.MERGE, into=2), OPERATOR, NOW)[1][0].case.emergency == "I"


def test_a_pause_stops_the_clock_and_gives_back_what_was_left():
    handling = apply_action(walked(2, fired(colour=Colour.RED)), Order(Action.START), WATER, NOW)[0]
    assert handling.case.due_ms == NOW + 24 * HOUR
    order = Order(Action.PAUSE, comment="等待住建部门", reason="other_department")
    paused, _ = apply_action(handling, order, WATER, NOW + 4 * HOUR)
    assert remind(paused, NOW + 90 * HOUR, up=str) is None
    resumed, _ = apply_action(paused, Order(Action.RESUME), WATER, NOW + 50 * HOUR)
    assert resumed.case.due_ms == NOW + 70 * HOUR
    with pytest.raises(
        Refused,
        match=says(
            "incident.needs_reason",
            id=17,
            action=say("action.pause"),
            reason="lunch",
            reasons="maintenance, other_department",
        ),
    ):
        apply_action(handling, replace(order, reason="lunch"), WATER, NOW)


def test_late_data_put_nobody_under_a_deadline_until_it_goes_on():
    past = opened(fired(T - 40 * HOUR, retrospective=True))
    assert past.case.due_ms is None
    assert changed(past, fired(T))[0].case.due_ms is not None


def test_a_more_urgent_colour_never_gives_more_time():
    blue = opened(fired(colour=Colour.BLUE))
    for colour in (Colour.YELLOW, Colour.ORANGE, Colour.RED):
        more, _ = changed(blue, fired(T + HOUR, rule=str(colour), colour=colour), NOW + HOUR)
        assert more.case.due_ms is not None
        assert blue.case.due_ms is not None
        assert more.case.due_ms <= blue.case.due_ms
        blue = more


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
    change=st.sampled_from(list(ConditionChange)),
)
orders_ = st.builds(
    Order,
    action=st.sampled_from(list(Action)),
    comment=st.sampled_from(["理由", None]),
    attachments=st.sampled_from([("1",), ()]),
    measurement=st.sampled_from([{}, {"nh3n": 0.8}]),
    assignment=st.sampled_from(
        [None, TO_WATER, Assignment(department=Department.WATER, joint=(Department.HOUSING,)), Assignment(region="g2")]
    ),
    reason=st.sampled_from(["sensor_fault", "maintenance", ""]),
    grade=st.sampled_from(["II", "V"]),
    score=st.sampled_from([None, 90.0, 101.0]),
    conditions=st.sampled_from([(), (("a", "shiwan", "nh3n"),)]),
)
actions_ = st.tuples(st.integers(0, 5), orders_, st.sampled_from(EVERYBODY), st.integers(0, 3))
waits_ = st.integers(0, 100)


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
        case = incident.case
        assert (case.due_ms is not None) == (incident.is_open and not incident.retrospective)
        assert case.due_ms is None or case.due_ms > case.step_since_ms
        assert case.verifier == "" or case.verifier != case.handler


def follows(before: Incident, after: Incident, effects: Effects) -> None:
    """What is true of every change of an incident."""
    moves = {(state, step.to or state) for (state, _), step in TRANSITIONS.items()} | {
        (state, state) for state in State
    }
    assert (before.state, after.state) in moves
    assert after.colour.rank <= before.colour.rank
    assert after.version == before.version + 1 == effects.entry.seq
    assert (effects.entry.from_state, effects.entry.to_state) == (before.state, after.state)
    assert after.since_ms <= before.since_ms
    assert after.last_observed_at_ms >= before.last_observed_at_ms
    assert not (after.retrospective and not before.retrospective)
    if after.state is before.state and before.case.due_ms is not None and after.case.due_ms is not None:
        pause = effects.entry.what is EntryKind.RESUMED
        assert pause or after.case.due_ms <= before.case.due_ms or before.retrospective


@settings(max_examples=150, deadline=None)
@given(st.lists(findings_ | actions_ | waits_, max_size=40), st.lists(st.integers(1, 5), max_size=2))
def test_no_order_of_findings_and_actions_breaks_an_incident(  # noqa: C901, PLR0912  (one order after the other)
    steps: list[Finding | tuple[int, Order, Actor, int] | int], begun: list[int]
):
    book = [replace(walked(n, fired(cause=f"{i}")), id=i) for i, n in enumerate(begun)]
    now_ms = NOW
    for step in steps:
        if isinstance(step, int):
            now_ms += step * HOUR
            for number, before in enumerate(book):
                told = remind(before, now_ms, up=lambda code: code[:-1])
                if told is not None:
                    follows(before, *told)
                    book[number] = told[0]
        elif isinstance(step, tuple):
            number, order, actor, seen = step
            if number >= len(book):
                continue
            before = book[number]
            if order.action is Action.REOPEN and any(i.cause == before.cause and i.is_open for i in book):
                continue  # the store's to refuse
            try:
                if order.action is Action.MERGE:
                    other = book[(number + 1) % len(book)]
                    (after, effects), (kept, more) = merge(before, other, order, actor, now_ms)
                    follows(other, kept, more)
                    book[other.id] = kept
                elif order.action is Action.SPLIT:
                    (after, effects), (new, _) = split(before, order, actor, now_ms)
                    book.append(replace(new, id=len(book)))
                else:
                    normal = {c.key: seen for c in before.conditions}
                    after, effects = apply_action(before, order, actor, now_ms, normal=normal)
            except Forbidden as refusal:
                assert order.action not in refusal.allowed  # noqa: PT017 - most are not refused
                continue
            except Refused:
                continue
            assert order.action in allowed(before, actor)
            assert actor.may(TRANSITIONS[before.state, order.action].right)
            assert not (order.action is Action.CLOSE and (before.active or (seen < 3 and not before.retrospective)))
            assert not (order.action is Action.VERIFY and actor.name == before.case.handler)
            follows(before, after, effects)
            book[number] = after
        else:
            for target in affected_incidents(book, step):
                change = apply_finding(target, step, now_ms)
                if change is None:
                    continue
                found, effects = change
                assert not (step.retrospective and effects.notify is Notify.PAGE)
                if target is None:
                    assert (effects.notify is Notify.PAGE) == (not step.retrospective)
                    book.append(replace(found, id=len(book)))
                else:
                    follows(target, found, effects)
                    book[target.id] = found
        hold(book)
