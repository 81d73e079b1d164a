"""The queries of the inbox against both databases: whose incidents, in which order, how many."""

from collections.abc import Iterator

import pytest

from governance.incidents import inbox, lifecycle
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.inbox import InboxQuery, InboxView
from governance.incidents.model import Action, Assignment, Incident, Order, Source, State
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Department, Role
from governance.people import saved_views
from governance.people.saved_views import SavedView
from infra.database import Database
from infra.errors import Refused
from tests.databases import with_tables

NOW = 1_780_000_000_000
pytestmark = pytest.mark.both_databases

DAY = 86_400_000
SOURCE = "/riverchief/test"
OFFICE = Actor("李调度（示例）", Role.OFFICE)
CHIEF = Actor("陈河长（示例）", Role.CHIEF, frozenset({"a"}))
WORKER = Actor("黄网格员（示例）", Role.GRID_WORKER, frozenset({"a"}))
WATER = Actor("水务处置（示例）", Role.HANDLER, frozenset({"a"}), Department.WATER)
VERIFIER = Actor("核查员（示例）", Role.VERIFIER, frozenset({"a"}))
AUDITOR = Actor("周审计（示例）", Role.AUDITOR)
EVERYBODY = (OFFICE, CHIEF, WORKER, WATER, VERIFIER, AUDITOR, Actor("操作", Role.OPERATOR, frozenset({"b"})))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    with_tables(database)
    yield database
    database.close()


def report(
    database: Database, region: str = "a", text: str = "杂物", colour: Colour = Colour.YELLOW, at_ms: int = NOW
) -> Incident:
    with database.write() as connection:
        return incident_store.file_report(
            connection, Order(Action.ACCEPT, comment=text), OFFICE, colour=colour, origin=Source.PERSON,
            place=Place(region, "creek"), now_ms=at_ms, source=SOURCE,
        )  # fmt: skip


def do(database: Database, number: int, actor: Actor, action: Action, **more: object) -> None:
    with database.write() as connection:
        order = Order(action, **more)  # type: ignore[arg-type]
        incident_store.apply_action(connection, number, order, actor, now_ms=NOW, source=SOURCE)


def every_state(database: Database) -> None:
    """Incidents in every hand: new, accepted, dispatched to a chief, a department or nobody, done, verified, over."""
    steps = (
        (),
        (Action.ACCEPT,),
        (Action.ACCEPT, Action.DISPATCH),
        (Action.ACCEPT, Action.DISPATCH, Action.START),
        (Action.ACCEPT, Action.DISPATCH, Action.START, Action.FINISH),
        (Action.ACCEPT, Action.DISPATCH, Action.START, Action.FINISH, Action.VERIFY),
        (Action.REJECT,),
    )
    targets = (
        Assignment("a", CHIEF.name),
        Assignment("a", department=Department.WATER),
        Assignment("a", department=Department.HOUSING, joint=(Department.WATER,)),
        Assignment("a"),
    )
    root = Actor("管理员（示例）", Role.ADMINISTRATOR)
    for to in targets:
        for path in steps:
            made = report(database, "b" if path == steps[0] and to is targets[0] else "a")
            for action in path:
                who = {Action.VERIFY: VERIFIER, Action.START: root, Action.FINISH: root}.get(action, OFFICE)
                more: dict[str, object] = {"comment": "好"}
                if action is Action.DISPATCH:
                    more["assignment"] = to
                if action is Action.FINISH:
                    if to.joint:
                        do(database, made.id, WATER, Action.CONTRIBUTE, comment="好", measurement={"do": 5.0})
                    more["measurement"] = {"do": 5.0}
                do(database, made.id, who, action, **more)


def test_what_waits_for_somebody_is_among_what_needs_them_next(database: Database) -> None:
    every_state(database)
    for actor in EVERYBODY:
        with database.read() as connection:
            waiting = {one.id for one, _ in incident_queries.worklist(connection, actor, NOW, limit=1000)}
            rows = inbox.find(connection, actor, InboxQuery(), NOW, limit=1000)
            counted = inbox.counts(connection, actor, NOW)
            seen = incident_store.get_many(connection, [row.id for row in rows])
        assert waiting <= set(seen), actor
        assert all(lifecycle.in_jurisdiction(one, actor) and one.is_open for one in seen.values())
        assert counted.mine == len(rows)
        if actor is AUDITOR:
            assert not rows
            assert counted.open > 0


def test_a_work_list_begins_with_what_is_most_urgent_and_loads_no_more_than_it_shows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_state(database)
    for number, colour in enumerate([*Colour, *Colour]):
        report(database, colour=colour, at_ms=NOW - number * 20 * DAY)
    emergency = report(database, colour=Colour.BLUE)
    with database.write() as connection:
        incident = incident_store.incidents_
        connection.execute(incident.update().where(incident.c.id == emergency.id).values(emergency="IV"))
        connection.execute(incident.update().where(incident.c.id == emergency.id - 1).values(paused_at_ms=NOW))
    monkeypatch.setattr(incident_queries, "IDS_PER_QUERY", 4)
    loaded: list[int] = []
    get_many = incident_store.get_many
    monkeypatch.setattr(incident_queries, "get_many", lambda c, ids: loaded.extend(ids) or get_many(c, ids))
    with database.read() as connection:
        found = [one for one, _ in incident_queries.worklist(connection, OFFICE, NOW, limit=1000)]
        assert found == sorted(found, key=lambda one: lifecycle.worklist_order(one, NOW))
        assert found[0].id == emergency.id
        loaded.clear()
        assert [one for one, _ in incident_queries.worklist(connection, OFFICE, NOW, limit=3)] == found[:3]
    assert len(loaded) <= 8 < len(found)


def test_the_least_time_left_stands_first_and_what_has_no_clock_last(database: Database) -> None:
    new, old = report(database, at_ms=NOW), report(database, at_ms=NOW - 30 * DAY)
    urgent = report(database, colour=Colour.RED, at_ms=NOW - DAY)
    paused = report(database, at_ms=NOW - 60 * DAY)
    do(database, paused.id, OFFICE, Action.ACCEPT)
    do(database, paused.id, OFFICE, Action.DISPATCH, assignment=Assignment("a", CHIEF.name))
    do(database, paused.id, CHIEF, Action.PAUSE, comment="等停工", reason="maintenance")
    with database.read() as connection:
        rows = inbox.find(connection, OFFICE, InboxQuery(InboxView.OPEN), NOW, limit=10)
        over = inbox.find(connection, OFFICE, InboxQuery(InboxView.OVERDUE), NOW, limit=10)
    dues = [row.due_ms for row in rows]
    assert rows[-1].id == paused.id
    assert dues[-1] is None
    assert dues[:-1] == sorted(due for due in dues if due is not None)
    assert {row.id for row in over} == {old.id, urgent.id}
    assert new.id not in {row.id for row in over}


def test_a_filter_finds_what_it_names_and_nothing_else(database: Database) -> None:
    one = report(database, text="桥下 100%_浮油", colour=Colour.RED)
    report(database, region="b", text="桥上")
    do(database, one.id, OFFICE, Action.ACCEPT)
    do(database, one.id, OFFICE, Action.DISPATCH, assignment=Assignment("a", CHIEF.name))

    def found(**narrowed: object) -> set[int]:
        query = InboxQuery(InboxView.ALL, **narrowed)  # type: ignore[arg-type]
        with database.read() as connection:
            return {row.id for row in inbox.find(connection, OFFICE, query, NOW, limit=10)}

    for narrowed in (
        {"colour": Colour.RED},
        {"regions": frozenset({"a"})},
        {"handler": CHIEF.name},
        {"state": State.DISPATCHED},
        {"words": "100%_"},
        {"words": "x", "number": one.id},
        {"words": "x", "words_regions": frozenset({"a"})},
    ):
        assert found(**narrowed) == {one.id}, narrowed
    assert len(found(words="桥")) == 2
    assert found(words="0%1") == set()
    assert found(reach="other") == set()


def test_counts_and_holders_are_those_within_reach(database: Database) -> None:
    mine, theirs = report(database), report(database, region="b")
    for one, who in ((mine, CHIEF.name), (theirs, "别人（示例）")):
        do(database, one.id, OFFICE, Action.ACCEPT)
        do(database, one.id, OFFICE, Action.DISPATCH, assignment=Assignment("", who))
    with database.read() as connection:
        assert inbox.holders(connection, CHIEF, limit=10) == [CHIEF.name]
        assert inbox.counts_by_region(connection, OFFICE, InboxView.OPEN, NOW) == {"a": 1, "b": 1}
        assert inbox.counts_by_region(connection, CHIEF, InboxView.OPEN, NOW) == {"a": 1}
        assert inbox.counts(connection, CHIEF, NOW).open == 1
        assert inbox.last_closed_ms(connection, CHIEF) is None
        assert inbox.count(connection, CHIEF, InboxQuery(InboxView.ALL), NOW, most=10) == 1
        assert inbox.count(connection, OFFICE, InboxQuery(InboxView.ALL), NOW, most=1) == 1


def test_a_saved_view_is_its_owners_alone_and_replaced_under_its_name(database: Database) -> None:
    with database.write() as connection:
        saved_views.save(connection, "甲", SavedView(" 逾期 ", "view=overdue"), NOW)
        saved_views.save(connection, "甲", SavedView("逾期", "view=overdue&colour=red"), NOW)
        saved_views.save(connection, "乙", SavedView("逾期", "view=open"), NOW)
        saved_views.remove(connection, "乙", "逾期")
        saved_views.remove(connection, "乙", "逾期")
        assert saved_views.list_views(connection, "甲") == [SavedView("逾期", "view=overdue&colour=red")]
        assert saved_views.list_views(connection, "乙") == []
        for wrong in (SavedView(" ", "x"), SavedView("n" * 41, "x"), SavedView("n", "x" * 1001)):
            with pytest.raises(Refused):
                saved_views.save(connection, "甲", wrong, NOW)
        for i in range(saved_views.MAX_VIEWS - 1):
            saved_views.save(connection, "甲", SavedView(f"{i}", "x"), NOW)
        with pytest.raises(Refused):
            saved_views.save(connection, "甲", SavedView("one more", "x"), NOW)
