"""The incident store on both databases."""

import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from governance.incidents import active_findings
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding
from governance.incidents.model import Action, Conflict, EntryKind, Incident, NotAllowedNow, Order, State
from governance.organisation.roles import Actor
from governance.tables import incident, incident_condition, incident_entry, outbox
from infra.database import Database
from infra.errors import NotFound
from infra.texts import Text, say
from tests.cases import OPERATOR, WAY, a_finding
from tests.databases import cases_are_in_the_trail, with_tables
from tests.postgres import fresh
from tests.says import says

pytestmark = pytest.mark.both_databases

HOUR = 3_600_000
T = 1_778_580_000_000
NOW = T + 5_000
SOURCE = "/riverchief/test"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    with_tables(database)
    yield database
    cases_are_in_the_trail(database)
    database.close()


def fired(at_ms: int = T, **other: object) -> Finding:
    base = a_finding(
        at_ms, since_ms=at_ms - 600_000, version="3", text=Text("石湾氨氮2.40 mg/L", "Shiwan: ammonia 2.40 mg/L")
    )
    return replace(base, **other)  # type: ignore[arg-type]


def resolved(at_ms: int, **other: object) -> Finding:
    return fired(at_ms, change=ConditionChange.RESOLVED, **other)


def record(database: Database, *findings: Finding, now_ms: int = NOW) -> incident_store.Recorded:
    with database.write() as connection:
        return incident_store.record_findings(connection, findings, now_ms, source=SOURCE)


def act(
    database: Database,
    number: int,
    action: Action,
    comment: str | None = "理由",
    actor: Actor = OPERATOR,
    now_ms: int = NOW,
    **other: int,
) -> Incident:
    order = Order(action, comment=comment, reason="sensor_fault" if action is Action.FALSE_ALARM else "")
    with database.write() as connection:
        return incident_store.apply_action(connection, number, order, actor, now_ms=now_ms, source=SOURCE, **other)


def walk(database: Database, number: int, steps: int) -> None:
    """The first steps of an incident's way."""
    with database.write() as connection:
        for actor, order in WAY[:steps]:
            incident_store.apply_action(connection, number, order, actor, now_ms=NOW, source=SOURCE)


def close(database: Database, number: int, seen: int = 3) -> Incident:
    """The last step, with so many good readings since the recovery."""
    normal = {c.key: seen for c in get(database, number).conditions}
    actor, order = WAY[-1]
    with database.write() as connection:
        return incident_store.apply_action(connection, number, order, actor, now_ms=NOW, source=SOURCE, normal=normal)


def get(database: Database, number: int) -> Incident:
    with database.read() as connection:
        return incident_store.get(connection, number)


def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as connection:
        tables = (incident, incident_condition, incident_entry, outbox)
        return {
            t.name: [tuple(row) for row in connection.execute(sa.select(t).order_by(*t.primary_key))] for t in tables
        }


def test_a_finding_becomes_an_incident_with_its_history_and_a_delivery(database: Database):
    made = record(database, fired())
    assert (made.opened, made.updated, made.unchanged, made.changed) == (1, 0, 0, True)
    with database.read() as connection:
        stored = incident_store.get(connection, made.ids[0])
        (entry,) = incident_store.history(connection, made.ids[0])
        (row,) = connection.execute(sa.select(outbox)).mappings()
    assert (stored.state, stored.colour, stored.cause, stored.version) == (
        State.REPORTED,
        Colour.YELLOW,
        "shiwan/nh3n",
        1,
    )
    assert (stored.title, stored.value, stored.limit) == (fired().text, 2.4, 2.0)
    assert [c.key for c in stored.active] == [("nh3n-high", "shiwan", "nh3n")]
    assert (entry.what, entry.finding_id, entry.text) == (EntryKind.FIRED, fired().id, fired().text)
    assert (row["status"], row["notify"], row["attempts"], row["next_attempt_at_ms"]) == ("pending", "page", 0, NOW)
    body = json.loads(row["body"])
    assert (body["id"], body["type"], body["data"]["incident"]) == (row["event_id"], row["type"], stored.id)


def test_nothing_found_asks_the_database_nothing(database: Database):
    statements: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with database.engine.connect() as connection:
        assert incident_store.record_findings(connection, [], NOW, source=SOURCE) == incident_store.Recorded()
    assert statements == []


@pytest.mark.parametrize("what", ["record", "act"])
def test_a_failure_in_the_same_transaction_leaves_no_trace_of_the_incident(database: Database, what: str):
    record(database, fired(cause="other"))
    before = everything(database)

    def fail_midway() -> None:
        with database.write() as connection:
            if what == "record":
                incident_store.record_findings(
                    connection, [fired(), fired(T + HOUR, cause="other")], NOW, source=SOURCE
                )
            else:
                incident_store.apply_action(
                    connection, 1, Order(Action.COMMENT, comment="理由"), OPERATOR, now_ms=NOW, source=SOURCE
                )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    assert everything(database) == before


def test_the_same_finding_twice_changes_nothing(database: Database):
    findings = [fired(), fired(), fired(T + HOUR, rule="nh3n-rising"), resolved(T + 2 * HOUR)]
    made = record(database, *findings)
    assert (made.opened, made.updated, made.unchanged, made.ids) == (1, 2, 1, (1,))
    before = everything(database)
    again = record(database, *findings, now_ms=NOW + 60_000)
    assert (again.opened, again.updated, again.unchanged, again.changed) == (0, 0, 4, False)
    assert everything(database) == before


def test_a_finding_redelivered_after_its_incident_was_closed_opens_nothing(database: Database):
    record(database, fired())
    act(database, 1, Action.FALSE_ALARM)
    assert record(database, fired()).changed is False
    assert record(database, fired(T + HOUR)).opened == 1


def test_history_and_version_count_every_change_in_order(database: Database):
    record(database, fired(), fired(T + HOUR, rule="b", colour=Colour.RED))
    walk(database, 1, 5)
    act(database, 1, Action.COMMENT, "已到现场")
    record(database, resolved(T + 2 * HOUR), resolved(T + 2 * HOUR, rule="b"))
    closed = close(database, 1)
    with database.read() as connection:
        history = incident_store.history(connection, 1)
        sent = [
            json.loads(body) for body in connection.execute(sa.select(outbox.c.body).order_by(outbox.c.id)).scalars()
        ]
    assert [e.what.value for e in history] == [
        "fired",
        "fired",
        "accepted",
        "dispatched",
        "started",
        "finished",
        "verified",
        "commented",
        "resolved",
        "resolved",
        "closed",
    ]
    assert [e.seq for e in history] == list(range(1, 12)) == [event["data"]["seq"] for event in sent]
    assert closed.version == 11
    assert get(database, 1) == closed
    assert [event["data"]["notify"] for event in sent] == ["page", "page", "inform", "page", *["inform"] * 7]
    assert [event["type"].rsplit(".", 1)[1] for event in sent] == ["opened", *["updated"] * 9, "closed"]
    assert (history[7].by, history[7].comment, history[7].observed_at_ms) == (OPERATOR.name, "已到现场", None)
    finished = history[5]
    assert (finished.attachments, finished.measurement, finished.role) == (("7",), {"nh3n": 0.8}, "handler")
    assert history[3].details["to"]["department"] == "water"


def test_one_cause_has_one_open_incident_and_a_new_one_after_closing(database: Database):
    made = record(database, fired(), fired(T + HOUR), fired(T + HOUR, rule="do-low", cause="qicha/do"))
    assert (made.opened, made.updated, made.ids) == (2, 1, (1, 2))
    act(database, 1, Action.FALSE_ALARM)
    assert record(database, fired(T + 3 * HOUR)).ids == (3,)


def test_the_database_itself_refuses_a_second_open_incident_of_a_cause(database: Database):
    record(database, fired())
    with database.read() as connection:
        row = dict(connection.execute(sa.select(incident)).mappings().one()) | {"id": 99}
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.insert(incident).values(row))


def test_closing_is_refused_while_a_condition_is_active_and_changes_nothing(database: Database):
    record(database, fired())
    walk(database, 1, 5)
    before = everything(database)
    with pytest.raises(NotAllowedNow, match=says("incident.still_active", count=1, id=1, action=say("action.close"))):
        close(database, 1)
    assert everything(database) == before
    record(database, resolved(T + HOUR))
    assert get(database, 1).recovered_at_ms == T + HOUR
    with pytest.raises(
        NotAllowedNow, match=says("incident.not_proven", seen=2, needed=3, id=1, action=say("action.close"))
    ):
        close(database, 1, seen=2)
    assert close(database, 1).state is State.CLOSED


def test_late_findings_are_grouped_by_event_time_and_several_stay_open_beside_the_live_one(database: Database):
    record(database, fired())
    late = [fired(T - hours * HOUR, retrospective=True, colour=Colour.RED) for hours in (200, 190, 100, 210)]
    made = record(database, *late)
    assert (made.opened, made.updated, made.ids) == (2, 2, (2, 3))
    first = get(database, 2)
    assert (first.colour, first.retrospective, first.since_ms) == (Colour.BLUE, True, late[3].since_ms)
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).where(outbox.c.notify == "page")).scalar() == 1


def test_a_past_incident_still_going_on_is_promoted_and_stays_the_only_one(database: Database):
    record(database, fired(T - 40 * HOUR, retrospective=True))
    made = record(database, fired(colour=Colour.ORANGE))
    promoted = get(database, 1)
    assert (made.opened, made.updated, made.ids) == (0, 1, (1,))
    assert (promoted.retrospective, promoted.colour, promoted.open_cause) == (False, Colour.ORANGE, "shiwan/nh3n")
    with database.read() as connection:
        assert [e.what for e in incident_store.history(connection, 1)] == [EntryKind.FIRED, EntryKind.PROMOTED]
    assert record(database, fired(T + HOUR)).ids == (1,)


def test_one_resolution_ends_the_condition_in_every_incident_that_holds_it(database: Database):
    record(database, fired(), fired(T - 40 * HOUR, retrospective=True))
    made = record(database, resolved(T + HOUR))
    assert (made.updated, made.ids) == (1, (1, 2))
    assert [get(database, n).recovered_at_ms for n in (1, 2)] == [T + HOUR, T + HOUR]
    before = everything(database)
    record(database, resolved(T + HOUR))
    assert everything(database) == before


def test_who_looked_at_an_old_version_is_told_so_and_changes_nothing(database: Database):
    seen = record(database, fired()).ids[0]
    act(database, seen, Action.COMMENT, expected_version=1)
    before = everything(database)
    with pytest.raises(Conflict, match=says("incident.changed", id=seen, version=2, expected=1)):
        act(database, seen, Action.ACCEPT, None, expected_version=1)
    assert everything(database) == before
    assert act(database, seen, Action.ACCEPT, None, expected_version=2).version == 3


def test_what_does_not_exist_is_said_to_be_missing(database: Database):
    record(database, fired())
    for number in (0, 2, 10**30):
        with pytest.raises(NotFound, match=says("incident.unknown", id=number)):
            get(database, number)
        with pytest.raises(NotFound), database.read() as connection:
            incident_store.history(connection, number)
    with pytest.raises(NotFound):
        act(database, 2, Action.COMMENT)


def test_lists_show_the_newest_first_page_by_page_and_by_what_is_asked(database: Database):
    record(database, *(fired(cause=f"c{i}", rule=f"r{i}", station=f"s{i % 2}") for i in range(4)))
    record(database, fired(T - 40 * HOUR, retrospective=True, cause="c0", rule="past", station="s9"))
    record(database, fired(T + HOUR, cause="c0", rule="neighbour", station="s7"))
    act(database, 2, Action.FALSE_ALARM)
    act(database, 3, Action.ACCEPT, None)

    def numbers(**asked: object) -> list[int]:
        with database.read() as connection:
            return [i.id for i in incident_queries.list_incidents(connection, **{"limit": 10} | asked)]  # type: ignore[arg-type]

    assert numbers() == [5, 4, 3, 2, 1]
    assert numbers(limit=2) == [5, 4]
    assert numbers(limit=2, before_id=4) == [3, 2]
    assert numbers(open_only=True) == [5, 4, 3, 1]
    assert numbers(state=State.FALSE_ALARM) == numbers(open_only=False) == [2]
    assert numbers(station="s0") == [3, 1]
    assert numbers(station="s7") == [1]
    assert numbers(retrospective=True) == [5]
    assert numbers(retrospective=False, state=State.REPORTED) == [4, 1]
    with database.read() as connection:
        assert incident_queries.list_incidents(connection, limit=10)[4] == incident_store.get(connection, 1)
        counts = incident_queries.counts(connection)
    found = {state: n for state, n in counts.by_state.items() if n}
    assert found == {State.REPORTED: 3, State.ACCEPTED: 1, State.FALSE_ALARM: 1}
    assert counts.open_by_colour == {Colour.RED: 0, Colour.ORANGE: 0, Colour.YELLOW: 3, Colour.BLUE: 0}
    assert counts.open_retrospective == 1


@pytest.mark.parametrize("stale", ["new_findings", "_open_incidents"])
def test_a_worker_that_read_before_another_wrote_joins_the_others_incident(
    database: Database, monkeypatch: pytest.MonkeyPatch, stale: str
):
    record(database, fired())
    place = active_findings if stale == "new_findings" else incident_store
    really = getattr(place, stale)
    answers: list[object] = [{}]
    monkeypatch.setattr(place, stale, lambda *given: answers.pop() if answers else really(*given))
    new = fired(rule="do-low", cause="qicha/do")  # written before the conflict shows, and once all the same
    if stale == "new_findings":
        answers[0] = [new, fired()]
    made = record(database, new, fired() if stale == "new_findings" else fired(T + HOUR))
    assert (made.opened, made.updated) == ((1, 0) if stale == "new_findings" else (1, 1))
    with database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=10)
        assert sorted(i.cause for i in found) == ["qicha/do", "shiwan/nh3n"]
        assert connection.execute(sa.select(sa.func.count()).select_from(outbox)).scalar() == made.updated + 2


def test_a_row_the_database_can_never_take_is_an_error_and_not_another_try(database: Database):
    with pytest.raises(sa.exc.IntegrityError):
        record(database, fired(version=None))
    assert record(database, fired()).opened == 1


def test_workers_recording_the_same_findings_at_once_make_each_incident_once(database: Database):
    findings = [fired(T + i * 1000, cause=f"c{i % 5}", rule=f"r{i}") for i in range(20)]
    others = [Database(database.url.render_as_string(hide_password=False)) for _ in range(3)]
    start = threading.Barrier(4)
    failures: list[Exception] = []

    def work(own: Database) -> None:
        start.wait()
        try:
            for i in range(0, 20, 4):
                record(own, *findings[i : i + 4])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in [database, *others]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in others:
        own.close()
    assert failures == []
    with database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=100)
        entries = connection.execute(sa.select(incident_entry.c.finding_id)).scalars().all()
        events = connection.execute(sa.select(sa.func.count()).select_from(outbox)).scalar()
    assert sorted(i.cause for i in found) == ["c0", "c1", "c2", "c3", "c4"]
    assert sorted(entries) == sorted(f.id for f in findings)
    assert events == 20


findings_ = st.builds(
    lambda rule, hours, colour, retrospective, change: fired(
        T + hours * HOUR, rule=rule, colour=colour, retrospective=retrospective, change=change
    ),
    rule=st.sampled_from(["a", "b"]),
    hours=st.integers(-40, 40),
    colour=st.sampled_from(list(Colour)),
    retrospective=st.booleans(),
    change=st.sampled_from(list(ConditionChange)),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(findings_, min_size=1, max_size=25))
@example([fired(T, rule="a"), fired(T, rule="a", change=ConditionChange.WITHDRAWN), fired(T, rule="a")])
def test_found_in_one_batch_or_one_by_one_the_store_says_the_same(dialect: str, findings: list[Finding]):
    def kept(*batches: list[Finding]) -> list[tuple[Incident, Sequence[object]]]:
        with tempfile.TemporaryDirectory() as folder:
            database = with_tables(Database(fresh(dialect, Path(folder))))
            for batch in batches:
                record(database, *batch)
            with database.read() as connection:
                found = incident_queries.list_incidents(connection, limit=100)
                told = [(i, incident_store.history(connection, i.id)) for i in found]
            database.close()
            return told

    at_once = kept(findings)
    assert at_once == kept(*([finding] for finding in findings))
    for found, history in at_once:
        assert [e.seq for e in history] == list(range(1, found.version + 1))


def test_an_incident_is_shown_as_it_stood_at_any_instant(database: Database):
    record(database, fired(), now_ms=NOW)
    record(database, fired(T + HOUR, station="other"), now_ms=NOW + HOUR)
    record(database, resolved(T + 2 * HOUR), now_ms=NOW + 2 * HOUR)
    number = 1
    seen = []
    with database.read() as connection:
        for hours in (0, 1, 2, 3):
            seen.append(incident_store.as_of(connection, number, NOW + hours * HOUR))
        now = (incident_store.get(connection, number), incident_store.history(connection, number))
        with pytest.raises(NotFound):
            incident_store.as_of(connection, number, NOW - 1)
        with pytest.raises(NotFound):
            incident_store.as_of(connection, 99, NOW)
    assert [len(history) for _, history in seen] == [1, 2, 3, 3]
    assert [len(found.active) for found, _ in seen] == [1, 2, 1, 1]
    assert [found.version for found, _ in seen] == [1, 2, 3, 3]
    assert seen[-1] == now


def test_who_appends_to_the_trail_waits_for_no_incident_any_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_store, "FINDINGS_PER_PART", 2)
    said: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda c, cursor, statement, *_: said.append(statement))
    record(database, *(fired(T + n, cause=f"c{n}") for n in range(6)))
    first = next(n for n, statement in enumerate(said) if statement.startswith("INSERT INTO audit"))
    assert said[first + 1 :] == [], "otherwise two workers could wait for each other"


def test_a_flood_of_5000_findings_in_a_minute_is_one_incident_for_each_cause(database: Database) -> None:
    causes = [f"water:s{k}" for k in range(6)]
    findings = []
    for n in range(2500):  # every 24 ms another rule of a station fires, and 12 ms later it is over
        k, rule = n % 6, n // 6 % 5
        colour = (Colour.YELLOW, Colour.ORANGE, Colour.RED)[n // 6 % 3]
        one = {"cause": causes[k], "station": f"s{k}", "rule": f"r{rule}", "colour": colour}
        findings += [fired(T + 24 * n, **one), resolved(T + 24 * n + 12, **one)]
    for start in range(0, len(findings), 500):
        part = findings[start : start + 500]
        for _ in range(2):  # a restart tells the same again
            record(database, *part)
    with database.read() as connection:
        found = incident_queries.list_incidents(connection, limit=100)
        entries = connection.execute(sa.select(sa.func.count()).select_from(incident_entry)).scalar_one()
    assert sorted(one.cause for one in found) == causes
    assert {one.colour for one in found} == {Colour.RED}
    assert entries == len(findings), "the histories leave nothing out"
