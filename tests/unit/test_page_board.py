"""The dispatch board from literals: where a card stands, what may be done, who is told next."""

from dataclasses import replace

import pytest

from api.pages.models import action_bar, board, escalation, overview
from api.pages.models.action_bar import Given
from api.pages.models.board import Choice
from governance.incidents.deadlines import DEFAULT_POLICY, Phase
from governance.incidents.finding import Colour
from governance.incidents.lifecycle import allowed, apply_action, open_reported
from governance.incidents.model import Action, Assignment, Entry, EntryKind, Incident, Order, PauseReason, Source, State
from governance.incidents.queries import Counts
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.notify.planning import Circumstances
from governance.notify.policy import NoticePolicy
from governance.notify.store import Watch
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor, Department, Role, administrator
from governance.organisation.terms import Appointment
from governance.people.store import Person
from infra.texts import Text
from sensors.network import Level, Region
from sensors.stations import Registry

MINUTE = 60_000
T = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 2 * 60 * MINUTE
"""Ten in the morning, Beijing time."""
OFFICE = Actor("甲（示例）", Role.OFFICE)
REGIONS = (
    Region("d", "区", "district", Level.DISTRICT),
    Region("d/s", "街", "street", Level.STREET, "d"),
    Region("d/s/g", "格", "cell", Level.GRID, "d/s"),
)
TREE = Regions(REGIONS)
REGISTRY = Registry(stations=(), regions=REGIONS)


def _case(region: str = "d/s/g", colour: Colour = Colour.RED, number: int = 1) -> Incident:
    order = Order(Action.ACCEPT, comment="浮油")
    place = Place(region)
    made, _ = open_reported(order, OFFICE, T, cause=f"c{number}", colour=colour, source=Source.HOTLINE, place=place)
    return replace(made, id=number)


def _after(incident: Incident, *orders: Order, now_ms: int = T, actor: Actor | None = None) -> Incident:
    for order in orders:
        incident, _ = apply_action(incident, order, actor or administrator("乙（示例）"), now_ms)
    return incident


DISPATCH = Order(Action.DISPATCH, assignment=Assignment("d/s/g", "丙河长（示例）"))


def _board(found: list[Incident], choice: Choice | None = None, now_ms: int = T, actor: Actor = OFFICE) -> board.Board:
    model = overview.build(REGISTRY, (), found, Counts({}, {}, 0), (), now_ms)
    return board.build(model, REGISTRY, TREE, actor, choice or Choice(), {(1, "丙河长（示例）"): "read"}, "zh")


def test_the_lane_is_the_level_of_the_region_and_the_column_the_step_that_waits() -> None:
    sent = _after(_case(), Order(Action.ACCEPT), DISPATCH)
    shown = _board([sent, _case("d", number=2), _case("nowhere", number=3)])
    where = {card.row.id: (lane.key, card.phase) for lane in shown.lanes for card in lane.cards}
    assert where == {1: ("grid", Phase.START), 2: ("district", Phase.ACCEPT), 3: ("none", Phase.ACCEPT)}
    assert [lane.key for lane in shown.lanes] == ["district", "street", "area", "community", "grid", "none"]
    assert dict(shown.by_phase)[Phase.ACCEPT] == 2
    assert shown.first == "district"
    (card,) = shown.lanes[4].cards
    assert (card.who, card.mark) == ("丙河长（示例）", "read")


def test_the_lane_without_a_region_is_there_only_when_it_holds_something() -> None:
    assert [lane.key for lane in _board([_case()]).lanes][-1] == "grid"


def test_cards_of_a_column_stand_in_the_order_of_the_work_list() -> None:
    calm, red, late = _case(colour=Colour.BLUE), _case(number=2), _case(colour=Colour.YELLOW, number=3)
    late = replace(late, case=replace(late.case, due_ms=T - 1))
    (cards,) = [column for lane in _board([calm, red, late]).lanes for column in lane.columns if column]
    assert [card.row.id for card in cards] == [3, 2, 1]


@pytest.mark.parametrize(
    ("passed_min", "sort"), [(0, "left"), (7, "left"), (9, "soon"), (10, "soon"), (11, "over")]
)  # a red report is accepted within ten minutes
def test_the_time_left_turns_to_soon_and_to_overdue(passed_min: int, sort: str) -> None:
    found, _, share = board.time_left(_case(), T + passed_min * MINUTE)
    assert found == sort
    assert share == pytest.approx(max(0.0, 1 - passed_min / 10))


def test_a_clock_that_stands_is_not_overdue() -> None:
    pause = Order(Action.PAUSE, comment="等", reason=PauseReason.OTHER_DEPARTMENT)
    paused = _after(_case(), Order(Action.ACCEPT), DISPATCH, pause)
    assert board.time_left(paused, T + 10**10)[0] == "paused"
    assert _board([paused], Choice(overdue=True), T + 10**10).cards == ()


def test_choices_narrow_the_cards_but_not_the_numbers_of_the_levels() -> None:
    shown = _board([_case(), _case("d", number=2)], Choice(level="grid"))
    assert [card.row.id for card in shown.cards] == [1]
    assert shown.by_level["district"] == 1


def test_a_case_is_mine_when_i_answer_for_it_handle_it_or_my_department_does() -> None:
    water = replace(DISPATCH, assignment=Assignment("d/s/g", "丙河长（示例）", Department.WATER))
    sent = _after(_case(), Order(Action.ACCEPT), water)
    assert board.is_mine(sent, Actor("丙河长（示例）", Role.CHIEF))
    assert board.is_mine(sent, Actor("助理", Role.DEPUTY, helps=frozenset({"丙河长（示例）"})))
    assert board.is_mine(sent, Actor("丁", Role.HANDLER, department=Department.WATER))
    assert not board.is_mine(sent, Actor("丁", Role.HANDLER, department=Department.HOUSING))
    assert board.is_mine(_after(sent, Order(Action.START)), Actor("乙（示例）", Role.HANDLER))
    assert not board.is_mine(sent, Actor("乙（示例）", Role.OPERATOR))  # has passed it on


def test_a_card_names_the_region_that_an_overdue_case_went_up_to() -> None:
    case = _case("d/s")
    for region, name in (("d", "区"), ("d/s", None), ("", None)):
        raised = replace(case, case=replace(case.case, escalated_to=region))
        (card,) = _board([raised]).cards
        assert (card.raised_to.zh if card.raised_to else None) == name


def test_nothing_out_of_reach_is_on_the_board() -> None:
    assert _board([_case()], actor=Actor("x", Role.OPERATOR, frozenset({"d/other"}))).cards == ()


# -- actions -----------------------------------------------------------------------------------------------------------


def test_what_is_open_comes_with_the_next_step_first_and_the_rest_has_reasons() -> None:
    case = _case()
    offers = action_bar.offers(case, OFFICE)
    assert {one.action for one in offers} == set(allowed(case, OFFICE))
    assert [one.action for one in offers if one.main] == [Action.ACCEPT]
    assert offers[0].action is Action.ACCEPT
    closed = [one.action for one in action_bar.closed(case, OFFICE)]
    assert Action.DISPATCH in closed
    assert not set(closed) & {one.action for one in offers}


def test_no_reason_is_given_for_a_step_that_lies_behind() -> None:
    handling = _after(_case(), Order(Action.ACCEPT), DISPATCH, Order(Action.START))
    closed = {one.action for one in action_bar.closed(handling, OFFICE)}
    assert Action.ACCEPT not in closed
    assert Action.DISPATCH not in closed
    assert Action.VERIFY in closed


def test_a_dispatch_that_is_repeated_is_not_the_next_step() -> None:
    sent = _after(_case(), Order(Action.ACCEPT), DISPATCH)
    assert not any(one.main for one in action_bar.offers(sent, OFFICE))


def test_what_needs_a_photo_or_a_choice_is_done_on_the_incidents_page() -> None:
    handling = _after(_case(), Order(Action.ACCEPT), DISPATCH, Order(Action.START))
    elsewhere = {one.action for one in action_bar.offers(handling, administrator("乙")) if one.elsewhere}
    assert elsewhere == {Action.FINISH, Action.MERGE, Action.EMERGENCY}


def _entry(seq: int, what: EntryKind, by: str = "乙", comment: str | None = None) -> Entry:
    return Entry(seq, T, None, what, by, State.REPORTED, State.REPORTED, Text("", ""), comment=comment)


def test_only_what_people_did_since_the_form_was_drawn_is_a_conflict() -> None:
    given = Given("accept", 2)
    history = [_entry(2, EntryKind.COMMENTED), _entry(3, EntryKind.FIRED), _entry(4, EntryKind.OVERDUE)]
    assert action_bar.decisive(history, given) == ()
    more = [*history, _entry(5, EntryKind.REJECTED)]
    assert action_bar.decisive(more, given) == (more[-1],)
    assert action_bar.decisive(more, replace(given, action="comment")) == ()


def test_a_form_knows_its_own_entry_by_person_action_and_words() -> None:
    given = Given("comment", 2, comment="到场")
    own = _entry(4, EntryKind.COMMENTED, "甲", "到场")
    assert action_bar.done_already([_entry(3, EntryKind.FIRED), own], given, "甲")
    assert not action_bar.done_already([own], replace(given, version=4), "甲")
    assert not action_bar.done_already([own], given, "乙")
    assert not action_bar.done_already([own], replace(given, comment="离场"), "甲")
    assert not action_bar.done_already([own], replace(given, action="accept"), "甲")


def test_candidates_are_the_suggestion_and_then_who_answers_from_the_cell_upwards() -> None:
    def term(number: int, name: str, region: str, reach: str = "", until_ms: int | None = None) -> Appointment:
        return Appointment(number, name, Role.CHIEF, region, reach, "", 0, until_ms)

    terms = [
        term(1, "区", "d"),
        term(2, "街", "d/s"),
        term(3, "别的水", "d/s", "other"),
        term(4, "已卸任", "d/s/g", until_ms=T),
    ]
    worker = Person(1, "格员", Role.GRID_WORKER, "d/s/g", None, 0, None)
    found = action_bar.candidates(_case(), "区", terms, [worker], TREE, T)
    assert [(name, region) for name, _, region in found] == [("区", "d"), ("格员", "d/s/g"), ("街", "d/s")]


# -- escalation --------------------------------------------------------------------------------------------------------


def _contact(key: str, *regions: str, role: ContactRole = ContactRole.CHIEF, channel: bool = True) -> Contact:
    channels = (Channel("json://x"),) if channel else ()
    return Contact(key, f"{key}（示例）", roles=(role,), regions=regions, channels=channels)


CONTACTS = Directory(
    (_contact("cell", "d/s/g"), _contact("street", "d/s"), _contact("office", role=ContactRole.OFFICE))
)


def _ahead(
    incident: Incident, watch: Watch | None = None, directory: Directory = CONTACTS
) -> tuple[escalation.Ahead, ...]:
    places = escalation.places(incident, REGISTRY, TREE)
    now = Circumstances(T, NoticePolicy(), directory, (), places)
    return escalation.ahead(incident, watch, now, lambda _: (("office",),), TREE.parent, DEFAULT_POLICY)


def test_a_report_nobody_accepts_reminds_and_then_goes_one_level_up() -> None:
    first, second, third = _ahead(_case())[:3]
    assert (first.why, first.at_ms, first.phase) == ("reminder", T + 8 * MINUTE, Phase.ACCEPT)
    assert first.names == ("office（示例）", "cell（示例）")
    assert (second.why, second.at_ms, second.raised_to) == ("overdue", T + 10 * MINUTE, "d/s")
    assert "street（示例）" in second.names
    assert (third.why, third.raised_to) == ("overdue", "d")


def test_who_has_not_confirmed_is_followed_by_the_next_step() -> None:
    watch = Watch(Colour.RED, 0, T - 8 * MINUTE, T + 2 * MINUTE)
    first = _ahead(_case(), watch)[0]
    assert (first.why, first.at_ms, first.names) == ("unconfirmed", T + 2 * MINUTE, ("street（示例）",))


def test_nobody_is_named_who_has_no_channel() -> None:
    silent = Directory((_contact("cell", "d/s/g", channel=False),))
    assert _ahead(_case(), directory=silent)[0].names == ()


def test_what_is_over_or_paused_tells_nobody() -> None:
    over = _after(_case(), Order(Action.REJECT, comment="重复"))
    assert _ahead(over, Watch(Colour.RED, 0, T, T)) == ()
    pause = Order(Action.PAUSE, comment="等", reason=PauseReason.OTHER_DEPARTMENT)
    assert _ahead(_after(_case(), Order(Action.ACCEPT), DISPATCH, pause)) == ()


# -- dragging ----------------------------------------------------------------------------------------------------------

OTHER_CELL = Region("d/s/h", "格二", "cell 2", Level.GRID, "d/s")
STREET = Actor("丁（示例）", Role.OFFICE, frozenset({"d/s", "d/s/g"}))


def _card(incident: Incident, actor: Actor = OFFICE) -> board.Card:
    (card,) = _board([incident], actor=actor).cards
    return card


def test_a_card_goes_to_the_lanes_that_have_a_region_for_it_within_reach() -> None:
    accepted = _after(_case(), Order(Action.ACCEPT))
    assert _card(accepted).to == ("district", "street", "grid")
    assert _card(accepted, STREET).to == ("street", "grid")


def test_a_card_that_cannot_be_dispatched_says_why() -> None:
    new = _card(_case())
    assert new.to == ()
    assert "受理" in str(new.fixed)
    begun = _after(_case(), Order(Action.ACCEPT), DISPATCH, Order(Action.START))
    assert begun.state is State.HANDLING
    assert "处置中" in str(_card(begun).fixed)
    assert _card(_after(_case(), Order(Action.ACCEPT), DISPATCH)).fixed is None


def _aimed(lane: str = "", to: str = "", region: str = "d/s/g", regions: Regions = TREE) -> Given:
    chief = action_bar.Candidate("街长", Role.CHIEF, Text("街", "street"), 0, "ok", False, "d/s")
    incident = _after(_case(region), Order(Action.ACCEPT))
    begun = Given(region=region, responsible="格长", department="water")
    shown = action_bar.ActionBar(incident, (), (), action_bar.To((chief,), ("远人",)), Given(), begun)
    return board.aimed(shown, lane, to, regions, OFFICE).suggested


def test_the_form_begins_with_the_lane_and_who_answers_there() -> None:
    street = _aimed("street")
    assert (street.region, street.responsible, street.department) == ("d/s", "街长", "water")
    down = _aimed("grid", region="d/s")
    assert (down.region, down.responsible) == ("d/s/g", "")


def test_a_level_with_several_regions_is_left_to_choose() -> None:
    assert _aimed("grid", region="d/s", regions=Regions((*REGIONS, OTHER_CELL))).region == ""


def test_the_form_begins_with_the_person() -> None:
    assert (_aimed(to="街长").region, _aimed(to="街长").responsible) == ("d/s", "街长")
    assert (_aimed(to="远人").responsible, _aimed(to="远人").other) == ("*", "远人")
    assert _aimed(to="无此人").responsible == "格长"
    assert _aimed("nowhere").region == "d/s/g"
