"""What the pages show, from literals: who sees which page, what a dialog asks, how a river file reads."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from api import names
from api import svg as marks
from api.access import right_of
from api.pages.menu import ENTRIES, INCIDENT, RIVER, menu
from api.pages.models import assessment, incident_actions, messages, trail
from api.pages.models import incident as cases
from api.pages.models.incident_actions import Need
from governance.audit import trail as audit_trail
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.lifecycle import TRANSITIONS, open_reported, refusals
from governance.incidents.model import Action, Condition, Entry, EntryKind, FalseAlarm, Incident, Order, Source, State
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import CITIZEN_NAME, Actor, Department, Right, Role
from governance.organisation.terms import Appointment, offices
from governance.platforms.callbacks import CallbackOutcome
from infra.errors import ConfigurationError
from infra.texts import Text, ended, say
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry, Station
from tests.says import shows

DAY = 86_400_000
T = 1_790_000_000_000


def case(state: State) -> Incident:
    made, _ = open_reported(
        Order(Action.ACCEPT, comment="桥下有漂浮垃圾"),
        Actor("李某（示例）", Role.OPERATOR),
        T,
        cause="x",
        colour=Colour.YELLOW,
        source=Source.HOTLINE,
        place=Place(),
    )
    return replace(made, state=state)


def test_every_page_asks_for_a_right_that_the_table_of_the_api_knows():
    for entry in (*ENTRIES, RIVER, INCIDENT):
        assert right_of(entry.method, entry.route) is entry.right


def test_a_menu_holds_no_page_that_would_turn_its_reader_away():
    assert {e.key for e in menu(Actor("x", Role.PUBLIC))} == {"map", "rivers"}
    for role in Role:
        actor = Actor("x", role)
        assert all(actor.may(entry.right) for entry in menu(actor))
    assert "trail" in {e.key for e in menu(Actor("x", Role.AUDITOR))}
    assert "trail" not in {e.key for e in menu(Actor("x", Role.CHIEF))}


def test_a_dialog_asks_for_what_the_lifecycle_would_refuse_without():
    finish = incident_actions.asks(case(State.HANDLING), Action.FINISH)
    assert (finish.comment, finish.proof) == (Need.REQUIRED, Need.REQUIRED)
    false = incident_actions.asks(case(State.REPORTED), Action.FALSE_ALARM)
    assert (false.comment, false.reasons) == (Need.REQUIRED, tuple(FalseAlarm))
    assert incident_actions.asks(case(State.ACCEPTED), Action.DISPATCH).to
    joint = case(State.HANDLING)
    joint = replace(joint, case=replace(joint.case, joint=(Department.WATER, Department.HOUSING)))
    assert incident_actions.asks(joint, Action.CONTRIBUTE).departments == ("water", "housing")
    one_left = replace(joint, case=replace(joint.case, contributed=(Department.WATER,)))
    assert incident_actions.asks(one_left, Action.CONTRIBUTE).departments == ()
    assert incident_actions.asks(case(State.REPORTED), Action.ACCEPT) == incident_actions.Asks(Need.OPTIONAL, Need.NO)
    assert incident_actions.asks(case(State.REPORTED), Action.EMERGENCY).grades == ("I", "II", "III", "IV")


def test_every_action_has_its_button():
    assert set(incident_actions.BUTTONS) == set(Action)
    for state, action in TRANSITIONS:
        incident_actions.asks(case(state), action)


def test_nobody_is_shown_as_chief_after_the_term_ended_and_the_highest_level_comes_first():
    regions = Regions(
        [
            Region("d", "区", "District", Level.DISTRICT),
            Region("s", "街", "Street", Level.STREET, "d"),
            Region("t", "另一街", "Other", Level.STREET, "d"),
        ]
    )

    def term(number: int, name: str, region: str, reach_: str = "", until: int | None = None, **other: object):
        return Appointment(number, name, other.get("role", Role.CHIEF), region, reach_, "", T - DAY, until)

    terms = [
        term(1, "助理", "s", "r", role=Role.DEPUTY),
        term(2, "街河长", "s", "r"),
        term(3, "前任", "s", "r", T),
        term(4, "区河长", "d"),
        term(5, "别处", "t"),
        term(6, "别的河", "s", "other"),
    ]
    assert [a.name for a in offices(terms, {"s"}, "r", regions, T)] == ["区河长", "街河长", "助理"]


@pytest.mark.parametrize("water_class", [None, *WaterClass])
def test_a_badge_says_its_class_by_letter_and_shape(water_class):
    drawn = marks.badge(water_class, 40)
    assert (marks.LETTERS[water_class] if water_class else "—") in drawn
    drawings = [re.sub(r"#[0-9a-f]+|label=.*?>|<text.*", "", marks.badge(one)) for one in (None, *WaterClass)]
    assert len(set(drawings)) == 6  # I and II share the circle; nobody has to tell colours apart


def test_what_people_name_things_is_no_markup_in_a_drawing():
    svg = marks.sketch([[(113.0, 23.0), (113.1, 23.1)]], [marks.Place((113.0, 23.0), "<script>", "station")])
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


def test_the_rights_of_a_page_are_those_of_the_people_in_charge():
    assert INCIDENT.right is Right.INCIDENTS
    assert RIVER.right is Right.VIEW


def entry(
    seq: int,
    state: State,
    *,
    before: State | None = None,
    what: EntryKind = EntryKind.FIRED,
    comment: str | None = None,
):
    return Entry(seq, T + seq, T + seq, what, "规则", before, state, Text(f"第{seq}次", f"no. {seq}"), comment=comment)


def test_a_case_on_a_branch_stands_where_it_left_the_straight_way():
    history = [
        entry(1, State.REPORTED),
        entry(2, State.ACCEPTED, before=State.REPORTED),
        entry(3, State.DISPATCHED, before=State.ACCEPTED),
        entry(4, State.RETURNED, before=State.DISPATCHED),
    ]
    way = [(stop.state, stop.sort) for stop in cases.stops(case(State.RETURNED), history)]
    assert way[:3] == [(State.REPORTED, "done"), (State.ACCEPTED, "now"), (State.DISPATCHED, "ahead")]
    branch = next(one for one in cases.branches(case(State.RETURNED), history) if one.state is State.RETURNED)
    assert (branch.count, branch.at_ms, branch.now) == (1, T + 4, True)
    ended = [entry(1, State.REPORTED), entry(2, State.REJECTED, before=State.REPORTED)]
    sorts = [stop.sort for stop in cases.stops(case(State.REJECTED), ended)]
    assert sorts == ["done"] + ["left out"] * 6
    assert [one.state for one in cases.branches(case(State.REJECTED), ended) if one.now] == [State.REJECTED]


def test_a_step_is_of_when_it_was_reached_and_not_of_what_was_found_later():
    history = [entry(1, State.REPORTED), entry(9, State.REPORTED, before=State.REPORTED, what=EntryKind.RESOLVED)]
    assert cases.stops(case(State.REPORTED), history)[0].at_ms == T + 1
    assert {line.who for line in cases.lines(history)} == {say("rule_kind.by_id", rule=history[0].by)}


def test_findings_that_repeat_themselves_are_one_line_and_what_people_wrote_is_never_hidden():
    state = State.REPORTED
    history = [entry(1, state), *(entry(n, state, before=state) for n in (2, 3, 4))]
    history += [entry(5, state, before=state, what=EntryKind.COMMENTED, comment="看过"), entry(6, state, before=state)]
    assert [(line.seq, line.times) for line in cases.lines(history)] == [(6, 1), (5, 1), (4, 4)]


def test_the_timeline_folds_what_the_system_found_and_never_what_people_did():
    state = State.REPORTED
    found = [EntryKind.FIRED, EntryKind.RESOLVED]
    history = [entry(n, state, before=state, what=found[n % 2]) for n in range(1, 9)]
    history.insert(
        4, replace(entry(9, state, before=state, what=EntryKind.COMMENTED, comment="看过"), role="office", at_ms=T + 4)
    )
    lines = cases.timeline(history, [], lambda kind: Text(kind, kind))
    assert [(line.by_person, len(line.folded)) for line in lines] == [
        (False, 2), (False, 0), (True, 0), (False, 2), (False, 0),
    ]  # fmt: skip
    many = [replace(lines[0], seq=n) for n in range(40)] + [lines[2], lines[0]]
    shown = cases.shown_lines(many, 30)
    assert (len(shown), shown[30].comment) == (32, "看过")


def test_the_deadline_says_how_much_is_left_and_that_a_paused_clock_stands():
    def at(due: int | None, **case_: object):
        made = case(State.HANDLING)
        return replace(made, case=replace(made.case, due_ms=due, step_since_ms=T, **case_))

    hour = 3_600_000
    assert cases.deadline(at(T + 10 * hour), T + hour) == ("left", Text("还剩9小时", "9 h left"))
    assert cases.deadline(at(T + 10 * hour), T + 9 * hour)[0] == "soon"
    assert cases.deadline(at(T + hour), T + 3 * hour) == ("over", Text("已超时2小时", "2 h overdue"))
    assert cases.deadline(at(T + hour, paused_at_ms=T, pause_reason="maintenance"), T + 3 * hour)[0] == "paused"


def test_a_grey_button_names_its_reason_and_what_the_state_does_not_know_is_not_shown():
    handled = case(State.HANDLED)
    handled = replace(handled, case=replace(handled.case, handlers=("李某（示例）",)))
    own = refusals(handled, Actor("李某（示例）", Role.OPERATOR))
    assert set(own) == {Action.VERIFY}
    assert shows(own[Action.VERIFY].zh, "incident.own_work", by="李某（示例）")
    assert refusals(handled, Actor("王某（示例）", Role.OPERATOR)) == {}
    worker = refusals(case(State.REPORTED), Actor("黄某（示例）", Role.GRID_WORKER))
    assert set(worker) == {Action.ACCEPT}


def test_long_names_on_a_sketch_keep_what_tells_them_apart():
    names = [f"Qicha Creek, Huanhu Garden {i} ({where})" for i, where in ((1, "up"), (2, "middle"), (3, "down"))]
    shown = {marks.elided(name, 16) for name in names}
    assert len(shown) == 3
    assert max(map(len, shown)) <= 16
    assert marks.elided("石湾桥", 16) == "石湾桥"


def polluted(number: int, *rules: str, reach: str = "", over: bool = False) -> Incident:
    conditions = tuple(
        Condition(rule, "north", "nh3n", T + i * 60_000, T + i * 60_000, T + DAY if over else None)
        for i, rule in enumerate(rules)
    )
    return replace(case(State.ACCEPTED), id=number, place=Place(reach=reach), conditions=conditions, since_ms=T)


def test_a_dialog_offers_what_can_be_merged_into_and_says_what_would_come_of_it():
    office = Actor("李（示例）", Role.OFFICE)
    mine = polluted(1, "high", reach="up")
    near, far = polluted(2, "high", "double", reach="up"), polluted(3, "low", reach="down")
    closed = replace(polluted(4), state=State.CLOSED, open_cause=None, closed_at_ms=T)
    past = replace(polluted(5), retrospective=True)
    assert [one.id for one in incident_actions.can_take(mine, [far, closed, past, mine, near], office, T)] == [2, 3]
    assert incident_actions.can_take(mine, [near], Actor("黄（示例）", Role.GRID_WORKER), T) == []
    told = incident_actions.after_merge(mine, near, office, T)
    assert "#1 结案，由 #2 继续办理；#2 为黄色" in told.zh
    assert "共2项异常" in told.zh
    assert "#1 is closed and #2 goes on" in told.en
    assert incident_actions.after_merge(mine, past, office, T) == ended(say("incident.cannot_merge", id=1, into=5))


def test_a_dialog_says_what_would_be_split_off_and_names_conditions_as_people_know_them():
    office, whole = Actor("李（示例）", Role.OFFICE), polluted(1, "high", "double", "trend")
    first, *rest = whole.conditions
    told = incident_actions.after_split(whole, rest, office, T)
    assert "#1 留下1项异常；新事件有2项异常（2项持续中）" in told.zh
    refused = ended(say("incident.cannot_split", id=1))
    assert incident_actions.after_split(whole, [], office, T) == refused
    assert incident_actions.after_split(whole, whole.conditions, office, T) == refused
    known = Registry((Station("north", "北桥", "North bridge", 113.05, 23.0),))
    north, ammonia = Text("北桥", "North bridge"), Text("氨氮", "ammonia nitrogen")
    named = incident_actions.condition_name(first, known, catalogue())
    assert named == say("form.condition", station=north, parameter=ammonia, what=say("form.condition_other"))
    fired = replace(entry(1, State.REPORTED), limit=2.0, details={"kind": "threshold"})
    beyond = say("headline.limit", limit="2.0")
    assert incident_actions.condition_name(first, known, catalogue(), fired) == say(
        "form.condition", station=north, parameter=ammonia, what=beyond
    )
    gateway = Condition("silent", "gw-1", "", T, T)
    assert incident_actions.condition_name(gateway, known, catalogue()) == say(
        "form.condition_bare", station="gw-1", what=say("form.condition_other")
    )


WRITTEN = (
    ("", r'audit_trail\.(?:append|NewEntry)\(\s*(?:connection,\s*)?"([a-z]+\.[a-z_]+)"'),
    ("", r'_record\(connection, "([a-z]+\.[a-z]+)"'),
    ("", r'what(?:: str)? ?= ?"(oncall\.[a-z]+)"'),
    ("export.", r'export_log\.note\([a-z.]+, "([a-z]+)"'),
    ("registry.", r'record_change\(connection, "(\w+)"'),
    ("registry.", r"DeviceTable\((\w+), "),
    ("registry.", r"\bupsert\(connection, (?!table\b)([a-z]+), \{"),
    ("registry.", r"_put\(connection, ([a-z]+), \w+, (?:\(|author)"),
)
"""How the source writes an entry of the trail, and what stands before the code there."""


def test_whatever_the_trail_holds_is_said_in_words():
    codes = {f"incident.{one}" for one in EntryKind} | {f"callback.{one}" for one in CallbackOutcome}
    for path in (p for home in ("governance", "ingest", "api", "riverchief") for p in Path(home).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        codes |= {begin + found for begin, pattern in WRITTEN for found in re.findall(pattern, source)}
    assert {"person.appointed", "registry.mute", "registry.hj212_device", "oncall.added", "export.evidence"} <= codes
    assert [code for code in sorted(codes) if audit_trail.action_name(code).zh == code] == []
    things = {code.partition(".")[2 if code.startswith("registry.") else 0] for code in codes} - {"token"}
    assert [thing for thing in sorted(things) if audit_trail.object_name(thing).zh == thing] == []
    assert audit_trail.action_name("something.new") == Text("something.new", "something.new")
    assert set(audit_trail.action_codes()) >= codes
    assert names.who("deadline", "") == say("audit_entry.by_deadline")
    assert names.who(CITIZEN_NAME, "") == say("person.citizen")
    assert names.who("nh3n-high", "rule") == say("rule_kind.by_id", rule="nh3n-high")
    of = {"kind": "threshold", "parameter": "nh3n"}
    kind = say("rule_kind.threshold")
    assert names.who("nh3n-high", "rule", of).zh == say("rule_kind.with_parameter", parameter="氨氮", kind=kind).zh, (
        "no person"
    )
    for kind in FindingKind:
        assert names.who("x", "rule", {"kind": kind}) == say(
            "rule_kind.without_parameter", kind=say(f"rule_kind.{kind}")
        )
    assert names.who("root", "") == say("audit_entry.by_root"), "nor is the account of a server"
    assert names.who("李某", "office").zh == "李某 · 河长办工作人员"


def test_the_trails_filter_takes_whole_days_of_beijing():
    wanted = trail.filter_of({"since": "2026-10-01", "until": "2026-10-01", "what": " incident ", "before": "x"})
    assert wanted.until_ms - wanted.since_ms == DAY
    assert (wanted.what, wanted.kind, wanted.before_n, wanted.used) == ("incident", None, None, True)
    with pytest.raises(ConfigurationError):
        trail.filter_of({"since": "1 October"})


def test_the_months_to_choose_go_over_the_turn_of_the_year():
    assert assessment.months(messages.midnight(date(2026, 2, 3)), 4) == ["2026-02", "2026-01", "2025-12", "2025-11"]
