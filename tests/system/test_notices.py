"""Messages to people over real HTTP and SMTP: once, grouped, held at night, repeated upwards, confirmed by a link."""

import json
import re
import socket
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from typer.testing import CliRunner

from api.app import create_app
from api.context import Context, NotificationSettings
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, Finding, FindingKind
from governance.incidents.headline import Headline, Row
from governance.incidents.model import Action, Assignment, Order, Source, State
from governance.notify import channels, clock_correction, oncall
from governance.notify import store as notice_store
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.notify.links import Links
from governance.notify.messenger import Bucket, Messenger
from governance.notify.oncall import Shift
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice as notices_
from governance.organisation import roles
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import administrator
from governance.people import store as people_store
from governance.tables import audit as trail
from infra.database import Database
from infra.texts import Text, both, say
from infra.times import DAY_MS, to_ms
from infra.vault import Vault, new_key
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import messages
from riverchief.cli.app import app as cli
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import with_tables
from tests.rig import eventually
from tests.says import shows

pytestmark = pytest.mark.both_databases

NOON = to_ms(datetime.fromisoformat("2026-05-12T12:00:00+08:00"))
NIGHT = to_ms(datetime.fromisoformat("2026-05-12T23:30:00+08:00"))
MINUTE = 60_000
REGIONS = (
    Region("chancheng", "禅城区", "Chancheng", Level.DISTRICT),
    Region("shiwan", "石湾镇街道", "Shiwan", Level.STREET, "chancheng"),
    Region("zumiao", "祖庙街道", "Zumiao", Level.STREET, "chancheng"),
)
STATIONS = (
    Station("s1", "环湖", "Lake", 113.1, 23.0, region="shiwan"),
    Station("s2", "澜石", "Lanshi", 113.1, 23.0, region="shiwan"),
    Station("z1", "祖庙", "Zumiao", 113.1, 23.0, region="zumiao", gateway="gw"),
)


AMMONIA = (Row("nh3n", 8.4, limit=2.0),)


@dataclass
class Phones:
    """A gateway that takes messages over HTTP: what came to whom, and what it answers."""

    answers: Callable[[str], int] = lambda who: 200
    got: list[tuple[str, str]] = field(default_factory=list)
    taken: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        phones = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told = (self.path.partition("?")[0].strip("/"), body["message"])
                phones.got.append(told)
                status = phones.answers(told[0])
                if status < 300:
                    phones.taken.append(told)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def to(self, who: str) -> list[str]:
        return [text for name, text in self.taken if name == who]

    def channel(self, who: str, **other: Any) -> Channel:
        return Channel(f"json://user:S3CRET@127.0.0.1:{self.port}/{who}", **other)


@dataclass
class Office:
    """A database with incidents, a messenger that goes round when told to, and a clock that stands."""

    database: Database
    phones: Phones
    directory: Directory
    clock: list[int]
    policy: NoticePolicy = field(default_factory=NoticePolicy)
    links: Links = field(default_factory=lambda: Links("https://r.example.cn", b"a key"))
    made: Messenger | None = None

    def messenger(self, **other: Any) -> Messenger:
        values: dict[str, Any] = {"policy": self.policy, "links": self.links, "send": channels.send} | other
        made = Messenger(
            self.database, lambda: self.directory, places=messages.places, clock=lambda: self.clock[0], **values
        )
        made.make()  # from here on
        self.made = made
        return made

    def go(self, seconds: float = 0.0) -> None:
        """Go round until nothing is left to do now; then let time pass, and again."""
        messenger = self.made or self.messenger()
        for wait_s in (0.0, seconds)[: 2 if seconds else 1]:
            self.clock[0] += round(wait_s * 1000)
            for _ in range(60):
                if not messenger.round():
                    break

    def fire(self, *causes: str, colour: Colour = Colour.RED, station: str = "s1", **other: Any) -> list[int]:
        with self.database.write() as connection:
            findings = [fired(c, self.clock[0], colour, station, **other) for c in causes]
            return list(incident_store.record_findings(connection, findings, self.clock[0], source="/test").ids)

    def act(self, number: int, action: str, by: str = "李某（示例）") -> None:
        with self.database.write() as connection:
            order = Order(Action(action), comment="看过", reason="other" if action == "false_alarm" else "")
            incident_store.apply_action(
                connection, number, order, administrator(by), now_ms=self.clock[0], source="/test"
            )

    def statuses(self) -> list[str]:
        with self.database.read() as connection:
            return [n.status for n in reversed(notice_store.list_notices(connection, limit=99_999))]

    def site(self) -> TestClient:
        notifications = NotificationSettings(lambda: self.directory, self.policy, self.links, "示例站点")
        context = Context(
            database=self.database,
            store=SqlReadings(self.database, catalogue()),
            catalogue=catalogue(),
            source="/test",
            clock_ms=lambda: self.clock[0],
            token="operator",
            notifications=notifications,
        )
        return TestClient(create_app(context))


def fired(cause: str, at_ms: int, colour: Colour, station: str, **other: Any) -> Finding:
    values: dict[str, Any] = {
        "rule": f"r-{cause}",
        "version": "1",
        "kind": FindingKind.THRESHOLD,
        "change": ConditionChange.FIRED,
        "cause": cause,
        "station": station,
        "parameter": "nh3n",
        "observed_at_ms": at_ms,
        "since_ms": at_ms,
        "value": 8.4,
        "limit": 2.0,
        "colour": colour,
        "retrospective": False,
        "text": Text(f"环湖氨氮8.4高于2.0（{cause}）", f"Lake NH3-N 8.4 above 2.0 ({cause})"),
        "headline": Headline(Text("环湖", "Lake"), Text(f"（{cause}）", f"({cause})"), AMMONIA, station),
    }
    return Finding(**(values | other))


@pytest.fixture
def phones() -> Iterator[Phones]:
    made = Phones()
    server = made.start()
    yield made
    server.shutdown()
    server.server_close()


def who(phones: Phones, key: str, *roles: ContactRole, **other: Any) -> Contact:
    return Contact(key, f"{key}（示例）", roles=roles, channels=(phones.channel(key),), **other)


@pytest.fixture
def office(url: str, phones: Phones) -> Iterator[Office]:
    database = Database(url)
    with_tables(database)
    with database.write() as connection:
        registry_store.save(connection, Registry(STATIONS, regions=REGIONS, catalogue=catalogue()))
    directory = Directory(
        (
            who(phones, "duty", ContactRole.OFFICE),
            who(phones, "street", ContactRole.CHIEF, regions=("shiwan",)),
            who(phones, "district", ContactRole.CHIEF, regions=("chancheng",)),
            who(phones, "engineer", ContactRole.ENGINEER, language="en"),
        )
    )
    made = Office(database, phones, directory, [NOON])
    made.messenger()
    yield made
    database.close()


# -- told, once --------------------------------------------------------------------------------------------------------


def test_a_red_incident_is_told_at_once_to_who_is_on_call_and_the_nearest_chief_and_only_once(office: Office) -> None:
    office.fire("a")
    office.go()
    for key in ("duty", "street"):
        (text,) = office.phones.to(key)
        first = text.splitlines()[0]
        assert first.startswith(
            "【红】环湖 （a） · 氨氮8.40（劣Ⅴ类，限值2.0），12:00起。请10分钟内确认 https://r.example.cn/a/"
        )
    office.go(120)
    office.messenger().round()
    assert len(office.phones.got) == 2
    assert office.phones.to("district") == []


def test_an_emergency_calls_at_night_whatever_its_colour_and_one_step_more_each_time_until_somebody_confirms(
    office: Office,
) -> None:
    office.clock[0] = NIGHT
    (number,) = office.fire("a", colour=Colour.YELLOW)
    office.go()
    assert office.phones.got == []
    with office.database.write() as connection:
        order = Order(Action.EMERGENCY, comment="水源", grade="II")
        duty = administrator("受理员（示例）")
        incident_store.apply_action(connection, number, order, duty, now_ms=NIGHT, source="/test")
    office.go(1)
    assert {key: len(office.phones.to(key)) for key in ("duty", "street", "district")} == dict.fromkeys(
        ("duty", "street", "district"), 1
    )
    (text,) = office.phones.to("street")
    assert text.startswith("【红·应急】环湖 （a） · 氨氮8.40")
    assert "13日01:30前上报 https://r.example.cn/a/" in text, "by when it is to be reported"
    office.clock[0] = NIGHT + 10 * MINUTE
    with office.database.write() as connection:
        assert incident_store.apply_reminders(connection, office.clock[0], up=str, source="/test") == [number]
    office.go(16)
    assert len(office.phones.to("street")) == 2
    link = office.phones.to("street")[-1].split("/a/")[1].split()[0]
    assert office.site().post(f"/a/{link}").status_code == 200
    with office.database.read() as connection:
        after = incident_store.get(connection, number)
        assert incident_store.history(connection, number)[-1].by == "street（示例）"
    assert after.case.emergency_alert_at_ms == NIGHT + 96 * MINUTE


def test_what_is_overdue_is_told_to_who_answers_for_it_and_to_who_is_above(office: Office) -> None:
    (number,) = office.fire("a", colour=Colour.YELLOW)
    with office.database.write() as connection:
        to = Order(Action.DISPATCH, assignment=Assignment(region="shiwan", responsible="street（示例）"))
        for order in (Order(Action.ACCEPT), to):
            incident_store.apply_action(
                connection, number, order, administrator("李某（示例）"), now_ms=NOON, source="/test"
            )
    office.go(61)
    office.phones.taken.clear()
    office.clock[0] += DAY_MS
    up = {"shiwan": "chancheng"}.get
    with office.database.write() as connection:
        assert incident_store.apply_reminders(connection, office.clock[0], up=lambda r: up(r, ""), source="/test") == [
            number
        ]
    office.go(61)
    assert sorted(key for key, _ in office.phones.taken) == ["district", "street"]


def test_a_repetition_on_an_open_incident_tells_nobody_and_a_worse_colour_does(office: Office) -> None:
    office.fire("a", colour=Colour.YELLOW)
    office.go(61)
    office.fire("a", colour=Colour.YELLOW, rule="r2")
    office.go(61)
    assert len(office.phones.to("street")) == 1
    office.fire("a", colour=Colour.RED, rule="r3")
    office.go(61)
    assert office.phones.to("street")[1].startswith(say("notice.again", colour=say("incident.red")).zh)
    assert office.phones.to("duty")[-1].startswith("【红】"), "it is no repetition for who was never told of it"


def test_a_message_shows_what_is_measured_when_it_is_sent(office: Office) -> None:
    now = {("s1", "nh3n"): 9.93}
    office.made = office.messenger(present=lambda wanted: {key: now[key] for key in wanted})
    office.fire("a")
    office.go()
    assert "氨氮9.93（劣Ⅴ类" in office.phones.to("street")[0]
    with office.database.read() as connection:
        (body, *_) = [n.body for n in notice_store.list_notices(connection, limit=9)]
    assert "氨氮9.93" in body, "what is kept is what was sent"


def test_what_comes_together_in_one_region_is_one_message(office: Office) -> None:
    office.fire("a", "b", "c", colour=Colour.YELLOW)
    office.go(30)
    assert office.phones.got == [], "yellow waits for company"
    office.fire("d", colour=Colour.YELLOW, station="s2")
    office.go(30)
    (text,) = office.phones.to("street")
    head = say("notice.many", colour=say("incident.yellow"), place="石湾镇街道", count=4)
    assert text.startswith(head.zh)
    assert len(text.splitlines()) == 5


def test_a_flood_of_findings_in_a_minute_is_a_handful_of_messages_and_no_incident_is_left_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("governance.notify.messenger.MAX_ROWS", 50)  # less than come at once
    calls: list[str] = []
    office.made = office.messenger(send=lambda channel, title, body: calls.append(body) or Outcome(True))
    stations = ("s1", "s2", "z1", "elsewhere")
    for batch in range(0, 600, 60):
        findings = [
            fired(f"c{n}", office.clock[0], Colour.RED if n % 3 else Colour.YELLOW, stations[n % 4])
            for n in range(batch, batch + 60)
        ]
        with office.database.write() as connection:
            incident_store.record_findings(connection, findings, office.clock[0], source="/test")
        office.go(6)
    office.go(120)
    with office.database.read() as connection:
        opened = connection.execute(sa.text("SELECT count(*) FROM incident")).scalar_one()
        told = connection.execute(sa.text("SELECT count(DISTINCT incident_id) FROM notice_item")).scalar_one()
        messages_ = connection.execute(
            sa.select(notices_.c.contact, sa.func.count()).group_by(notices_.c.contact)
        ).all()
    assert (opened, told) == (600, 600)
    assert all(number <= 12 for _, number in messages_), messages_
    assert len(calls) <= 30


def test_a_gateway_and_a_station_nobody_knows_are_told_of_too(office: Office) -> None:
    office.fire("a", station="gw")
    office.go()
    assert len(office.phones.to("duty")) == 1
    assert len(office.phones.to("district")) == 1, "the nearest chief above the gateway's street"
    office.fire("b", station="nowhere")
    office.go(61)
    assert len(office.phones.to("duty")) == 2


def test_what_happened_before_anybody_was_to_be_told_is_not_told(office: Office) -> None:
    with office.database.write() as connection:
        connection.execute(sa.text("DELETE FROM notice_mark"))
    office.fire("old")
    office.messenger()
    office.go()
    assert office.phones.got == []


def test_nothing_older_than_a_day_calls_anybody(office: Office) -> None:
    office.fire("a")
    office.clock[0] += 25 * 3_600_000
    office.go()
    assert office.phones.got == []


def test_a_message_of_days_ago_from_a_restored_backup_is_not_sent_any_more(office: Office) -> None:
    office.fire("a")
    office.messenger().make()
    assert office.made is not None
    office.fire("b")
    office.made.make()
    office.clock[0] += 3 * DAY_MS
    office.go()
    assert office.phones.got == []
    assert set(office.statuses()) == {"dead"}


# -- at night ----------------------------------------------------------------------------------------------------------


def test_at_night_yellow_waits_for_the_morning_as_one_message_and_red_does_not(office: Office) -> None:
    office.clock[0] = NIGHT
    office.fire("a", "b", colour=Colour.YELLOW)
    office.fire("c", colour=Colour.YELLOW, station="s2")
    office.go()
    office.fire("d", colour=Colour.ORANGE)
    office.go(60)
    assert [name for name, _ in office.phones.taken] == ["duty"], "orange at night is for those on call"
    office.fire("e", colour=Colour.RED)
    office.go(60)
    assert len(office.phones.to("street")) == 1
    office.clock[0] = to_ms(datetime.fromisoformat("2026-05-13T07:30:00+08:00"))
    office.act(1, "accept")
    office.go()
    morning = [text for text in office.phones.to("street") if "起，最急" in text]
    assert len(morning) == 1
    assert "（b）" in morning[0]
    assert "（a）" not in morning[0], "confirmed meanwhile"


def test_what_late_data_show_is_told_once_a_day_and_asks_for_nothing(office: Office) -> None:
    office.fire("a", retrospective=True)
    office.go()
    office.go(3600)
    assert office.phones.got == []
    office.clock[0] = to_ms(datetime.fromisoformat("2026-05-13T08:00:00+08:00"))
    office.go()
    ((name, text),) = office.phones.taken
    assert name == "engineer"
    assert text.startswith("[blue, past] Lake: (a) · ammonia nitrogen 8.40")
    assert "/a/" not in text


# -- who is told by name -----------------------------------------------------------------------------------------------


def test_what_becomes_worse_after_it_was_accepted_calls_again_and_goes_up_unless_somebody_acts(office: Office) -> None:
    office.fire("a", colour=Colour.YELLOW)
    office.go(61)
    office.act(1, "accept")
    office.go()
    office.fire("a", colour=Colour.RED, rule="r2")
    office.go(61)
    assert office.phones.to("street")[-1].startswith(say("notice.again", colour=say("incident.red")).zh)
    office.go(10 * 60)
    assert len(office.phones.to("district")) == 1


def test_a_task_is_told_to_whom_it_was_given_and_to_nobody_else(office: Office) -> None:
    office.directory = Directory((*office.directory.contacts, who(office.phones, "handler")))
    office.fire("a")
    office.go()
    office.act(1, "accept")
    office.go(60)
    before = len(office.phones.taken)
    assignment = Assignment(region="shiwan", responsible="handler（示例）")
    with office.database.write() as connection:
        order = Order(Action.DISPATCH, assignment=assignment)
        incident_store.apply_action(connection, 1, order, administrator("x"), now_ms=office.clock[0], source="/test")
    office.go(61)
    told = office.phones.taken[before:]
    assert [name for name, _ in told] == ["handler"]
    assert told[0][1].splitlines()[0] == (
        "【红·派单】环湖 （a） · 氨氮8.40（劣Ⅴ类，限值2.0），13:01前开始处置 https://r.example.cn/incidents/1"
    )


def test_what_a_citizen_reports_from_a_place_without_a_station_reaches_the_chief_of_its_region(office: Office) -> None:
    with office.database.write() as connection:
        incident_store.file_report(
            connection,
            Order(Action.COMMENT, comment="河水发黑"),
            administrator("市民（示例）"),
            colour=Colour.YELLOW,
            origin=Source.CITIZEN,
            place=Place("shiwan"),
            now_ms=office.clock[0],
            source="/test",
        )
    office.go(61)
    assert len(office.phones.to("street")) == 1


def test_chiefs_come_from_the_record_by_their_terms_and_nobody_answers_for_everything_once_a_term_is_over(
    office: Office,
) -> None:
    regions = Regions(REGIONS, STATIONS)
    file = Directory(
        (replace(who(office.phones, "li"), name="李某（示例）"), who(office.phones, "duty", ContactRole.OFFICE))
    )
    roster = messages.ContactList(lambda: file, office.database, Vault(new_key()), lambda: office.clock[0])
    with office.database.write() as connection:
        people_store.add(connection, "李某（示例）", roles.Role.CHIEF, by="x", now_ms=NOON)
        people_store.appoint(
            connection,
            "李某（示例）",
            region="zumiao",
            since_ms=NOON,
            until_ms=NOON + DAY_MS,
            by="x",
            now_ms=NOON,
            source="/test",
            regions=regions,
        )
    with office.database.read() as connection:
        place = messages.places(connection, ["z1"])["z1"]
    assert roster().steps(place, Colour.RED, [])[0] == ("duty", "li")
    office.clock[0] += 2 * DAY_MS
    assert roster().named("li").roles == ()
    assert roster().steps(place, Colour.RED, []) == [("duty",)]


# -- nobody confirms ---------------------------------------------------------------------------------------------------


def test_what_nobody_confirms_goes_up_step_by_step_and_stays_visible_at_the_end(office: Office) -> None:
    office.fire("a")
    office.go()
    office.go(9 * 60)
    assert office.phones.to("district") == []
    office.go(61)
    (text,) = office.phones.to("district")
    assert text.startswith("【红·10分钟未确认】环湖 （a） · 氨氮8.40")
    office.go(11 * 60)
    office.go(24 * 3600)
    assert len(office.phones.to("district")) == 1
    with office.database.read() as connection:
        assert notice_store.queue_counts(connection).unconfirmed == 1


def test_messages_of_a_clock_that_was_hours_ahead_are_told_and_go_up_by_the_right_clock(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_correction, "INTERVAL_S", 0.0)
    office.clock[0] = NOON + 11 * 60 * MINUTE  # 23:00: orange waits for the morning there
    office.fire("a", colour=Colour.RED)
    office.fire("b", colour=Colour.ORANGE)
    office.go()
    before = len(office.phones.to("street"))
    office.clock[0] = NOON
    office.go(61)
    assert any("（b）" in text for text in office.phones.to("street")[before:])
    assert office.phones.to("district") == []
    office.clock[0] = NOON + 9 * MINUTE
    office.go()
    assert office.phones.to("district") == []
    office.clock[0] = NOON + 11 * MINUTE
    office.go(16)
    assert any("（a）" in text for text in office.phones.to("district"))


def test_a_message_put_off_while_the_clock_was_ahead_is_sent_at_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_correction, "INTERVAL_S", 0.0)
    office.fire("a")
    office.phones.answers = lambda who: 500
    office.made.make()
    office.clock[0] = NOON + 6 * 60 * MINUTE
    office.go()
    assert office.phones.got
    assert office.phones.taken == []
    office.phones.answers = lambda who: 200
    office.clock[0] = NOON + MINUTE
    office.go()
    assert len(office.phones.to("street")) == 1


def test_whoever_confirms_stops_every_call_to_everybody(office: Office) -> None:
    office.fire("a", "b")
    office.go()
    office.act(1, "accept")
    office.go(11 * 60)
    (text,) = office.phones.to("district")
    assert "（b）" in text
    assert "（a）" not in text


def test_what_was_closed_is_told_to_those_who_were_called_and_to_nobody_else(office: Office) -> None:
    office.fire("a")
    office.go()
    office.act(1, "false_alarm")
    office.go(61)
    assert office.phones.to("street")[-1].startswith("【结案】环湖 （a） · 氨氮8.40")
    assert office.phones.to("district") == []
    office.fire("b", colour=Colour.YELLOW)
    office.go(1)
    office.act(2, "false_alarm")
    office.go(61)
    assert len(office.phones.to("street")) == 2, "never called, never told of the end"
    assert "cancelled" in office.statuses()


@pytest.mark.parametrize("closed", [False, True], ids=["dispatched", "closed"])
def test_what_was_withdrawn_is_told_once_to_all_who_were_told_of_the_incident_and_to_nobody_else(
    office: Office, closed: bool
) -> None:
    office.directory = Directory((*office.directory.contacts, who(office.phones, "handler")))
    (number,) = office.fire("a")
    office.go()
    office.act(number, "accept")
    with office.database.write() as connection:
        order = Order(Action.DISPATCH, assignment=Assignment(region="shiwan", responsible="handler（示例）"))
        incident_store.apply_action(
            connection, number, order, administrator("x"), now_ms=office.clock[0], source="/test"
        )
    office.go(61)
    if closed:
        office.act(number, "false_alarm")
        office.go(61)
    before = len(office.phones.taken)
    office.fire(
        "a", change=ConditionChange.WITHDRAWN, observed_at_ms=NOON, since_ms=NOON, text=Text("撤回：气泡", "withdrawn")
    )
    office.go(61)
    office.fire("a", change=ConditionChange.WITHDRAWN, observed_at_ms=NOON, since_ms=NOON)
    office.go(61)
    told = office.phones.taken[before:]
    assert sorted(name for name, _ in told) == ["duty", "handler", "street"]
    first = f"【撤回】环湖 （a） · 氨氮8.40（劣Ⅴ类，限值2.0） https://r.example.cn/incidents/{number}"
    assert {text for _, text in told} == {f"{first}\n撤回：气泡"}


@pytest.mark.parametrize("left", [False, True], ids=["all withdrawn", "one stands"])
def test_nobody_is_woken_for_what_was_withdrawn_and_everybody_for_what_stands(office: Office, left: bool) -> None:
    office.fire("a")
    if left:
        office.fire("a", rule="r-other")
    office.go()
    office.fire("a", change=ConditionChange.WITHDRAWN, observed_at_ms=NOON, since_ms=NOON)
    office.go(11 * 60)
    assert bool(office.phones.to("district")) is left
    office.fire("a")
    office.go(11 * 60)
    assert office.phones.to("district"), "what is found anew calls anew"


# -- channels ----------------------------------------------------------------------------------------------------------


def test_a_channel_that_fails_is_followed_by_the_next_one_at_once_and_tried_again_later(office: Office) -> None:
    office.directory = Directory(
        (
            replace(
                who(office.phones, "duty", ContactRole.OFFICE),
                channels=(office.phones.channel("one"), office.phones.channel("two", short=True)),
            ),
        )
    )
    office.phones.answers = lambda name: 503 if name == "one" else 200
    office.fire("a")
    with capture_logs() as logs:
        office.go()
    assert [name for name, _ in office.phones.got] == ["one", "two"]
    assert office.statuses() == ["sent"]
    assert "S3CRET" not in str(logs)
    (error,) = (e["error"] for e in logs if e["event"] == "a channel did not take a message")
    assert error == both(say("notice.channel_refused", channel="json", answer="HTTP 503"))
    office.phones.answers = lambda name: 500
    office.clock[0] += 60_000
    office.fire("b")
    office.go()
    tries = len(office.phones.got)
    office.go(1)
    assert len(office.phones.got) == tries, "not asked again at once"
    office.phones.answers = lambda name: 200
    office.go(6)
    assert office.statuses() == ["sent", "sent"]
    assert office.made is not None
    assert office.made.counts["sent"] == 2


def test_a_message_nobody_takes_for_a_day_is_dead_and_visible(office: Office) -> None:
    office.phones.answers = lambda name: 500
    office.fire("a", colour=Colour.BLUE)
    office.go()
    office.clock[0] = to_ms(datetime.fromisoformat("2026-05-13T08:00:00+08:00"))
    office.go()
    office.go(25 * 3600)
    assert office.statuses() == ["dead"]
    with office.database.read() as connection:
        assert notice_store.queue_counts(connection).dead == 1


def test_a_message_that_was_given_up_is_told_again_when_asked_and_the_trail_says_who_asked(office: Office) -> None:
    office.phones.answers = lambda name: 500
    office.fire("a")
    office.go()
    office.go(25 * 3600)
    site, auth = office.site(), {"Authorization": "Bearer operator"}
    dead = site.get("/api/v1/notices", params={"status": "dead"}, headers=auth).json()["items"]
    one = next(n for n in dead if n["contact"] == "duty" and n["items"])
    again = f"/api/v1/notices/{one['id']}/replay"
    assert site.post(again).status_code == 401
    office.phones.answers = lambda name: 200
    heard = len(office.phones.to("duty"))
    answer = site.post(again, headers=auth)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    office.go()
    assert len(office.phones.to("duty")) > heard
    assert site.post(again, headers=auth).status_code == 409, "it was sent: nobody is told twice"
    assert site.post("/api/v1/notices/999/replay", headers=auth).status_code == 404
    with office.database.read() as connection:
        (entry,) = audit_trail.select_entries(connection, trail.c.kind == "notice")
    assert (entry.what, entry.id) == ("notice.replayed", str(one["id"]))


def test_a_channel_is_not_given_more_than_it_takes_in_a_minute() -> None:
    now = [0.0]
    bucket = Bucket(15, lambda: now[0])
    assert [bucket.wait_s("u") for _ in range(15)] == [0.0] * 15
    assert bucket.wait_s("u") == pytest.approx(4.0)
    assert bucket.wait_s("other") == 0.0
    now[0] = 4.1
    assert bucket.wait_s("u") == 0.0
    assert bucket.wait_s("u") > 0


def test_a_worker_that_dies_between_sending_and_writing_down_is_stood_in_for_after_its_claim_ended(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = office.messenger()
    monkeypatch.setattr(dying, "_record_outcome", lambda *_, **__: None)
    office.fire("a")
    dying.round()
    sent = len(office.phones.got)
    office.messenger()
    office.go(60)
    assert len(office.phones.got) == sent, "claimed"
    office.go(61)
    assert office.statuses() == ["sent", "sent"]
    assert set(office.phones.got[:sent]) == set(office.phones.got[sent:]), "the same words and link again"


class Mail:
    """The smallest SMTP server: takes one message after the other."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._door.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb") as stream:
                self._talk(stream)

    def _talk(self, stream: Any) -> None:
        def say(line: str) -> None:
            stream.write(line.encode() + b"\r\n")
            stream.flush()

        say("220 test")
        for raw in stream:
            verb = raw.decode().strip().upper()[:4]
            if verb == "DATA":
                say("354 go on")
                lines = list(iter(stream.readline, b".\r\n"))
                self.got.append(b"".join(lines).decode())
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")

    def close(self) -> None:
        self._door.close()


def test_a_mail_arrives_with_the_sites_name_as_its_subject() -> None:
    mail = Mail()
    channel = Channel(f"mailto://127.0.0.1:{mail.port}/?from=a@example.com&to=chief@example.com&mode=insecure")
    assert channels.send(channel, "River office", "[red] Lake NH3-N 8.4") == Outcome(True)
    mail.close()
    (text,) = mail.got
    assert "Subject: River office" in text
    assert "To: chief@example.com" in text
    assert "Lake NH3-N 8.4" in text


def test_a_channel_where_nobody_answers_says_so_without_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    outcome = channels.send(Channel(f"json://user:S3CRET@127.0.0.1:{port}/x"), "", "text")
    assert not outcome.ok
    assert outcome.error == both(say("notice.channel_silent", channel="json"))
    assert "S3CRET" not in outcome.error


def test_the_thread_sends_what_is_woken_and_stops(office: Office) -> None:
    messenger = office.messenger(poll_s=30.0)
    messenger.start()
    eventually("started", lambda: messenger.alive)
    office.fire("a")
    messenger.wake()
    eventually("told", lambda: len(office.phones.taken) == 2)
    assert messenger.stop(20)
    assert office.statuses() == ["sent", "sent"]


# -- confirmed by a link -----------------------------------------------------------------------------------------------


def link(text: str) -> str:
    found = re.search(r"https://r\.example\.cn(/a/\S+)", text)
    assert found, text
    return found[1]


def test_opening_the_link_changes_nothing_and_the_button_confirms_in_the_persons_name(office: Office) -> None:
    office.fire("a")
    office.go()
    site, path = office.site(), link(office.phones.to("street")[0])
    for _ in range(2):
        page = site.get(path)
        assert page.status_code == 200
        assert site.head(path).status_code == 200
    assert "环湖 （a） · 氨氮8.40" in page.text
    assert "script" not in page.text
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    with office.database.read() as connection:
        assert incident_store.get(connection, 1).state is State.REPORTED
    done = site.post(path, data={"comment": "我去看 <b>"})
    assert done.status_code == 200
    with office.database.read() as connection:
        found, history = incident_store.get(connection, 1), incident_store.history(connection, 1)
    assert found.state is State.REPORTED, "a chief knows of it; accepting is the office's"
    assert (history[-1].by, history[-1].role, history[-1].comment) == ("street（示例）", "chief", "我去看 <b>")
    office.go(11 * 60)
    assert office.phones.to("district") == []
    again = site.post(path)
    assert shows(again.text, "notice.page_before", count=1)
    with office.database.read() as connection:
        assert len(incident_store.history(connection, 1)) == len(history)


def test_whoever_may_accept_accepts_by_the_link_and_in_the_role_of_the_record(office: Office) -> None:
    with office.database.write() as connection:
        people_store.add(connection, "duty（示例）", roles.Role.OPERATOR, by="x", now_ms=NOON)
    office.fire("a")
    office.go()
    office.site().post(link(office.phones.to("duty")[0]))
    with office.database.read() as connection:
        found, last = incident_store.get(connection, 1), incident_store.history(connection, 1)[-1]
    assert (found.state, found.accepted_by, last.role) == (State.ACCEPTED, "duty（示例）", "operator")


def test_a_link_that_was_altered_is_not_valid_and_one_that_ended_says_so(office: Office) -> None:
    office.fire("a")
    office.go()
    site, path = office.site(), link(office.phones.to("street")[0])
    other = link(office.phones.to("duty")[0])
    mixed = path.split(".")[0] + "." + other.split(".")[1]
    for wrong in (
        path[:-1] + ("A" if path[-1] != "A" else "B"),
        mixed,
        "/a/x",
        "/a/zzzzzzz.AAAAAAAAAAAA",
        "/a/é.AAAAAAAAAAAA",
    ):
        assert site.post(wrong).status_code == 404, wrong
    office.clock[0] += 25 * 3_600_000
    assert site.get(path).status_code == 410
    assert site.post(path).status_code == 410
    with office.database.read() as connection:
        assert incident_store.get(connection, 1).state is State.REPORTED


def test_a_message_of_many_confirms_all_of_them(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("governance.notify.confirmation.MAX_INCIDENTS", 10)
    office.fire(*(f"c{n}" for n in range(25)))
    office.go()
    site, path = office.site(), link(office.phones.to("street")[0])
    office.act(7, "accept")
    office.go()
    said = site.post(path).text
    assert shows(said, "notice.page_done", count=24)
    assert shows(said, "notice.page_before", count=1)


# -- over the API and the command line ---------------------------------------------------------------------------------


def test_who_was_told_what_is_seen_over_the_api_and_no_address_or_link_is(office: Office) -> None:
    office.fire("a")
    office.go()
    site, auth = office.site(), {"Authorization": "Bearer operator"}
    assert site.get("/api/v1/notices").status_code == 401
    answer = site.get("/api/v1/notices", params={"incident": 1}, headers=auth)
    found = answer.json()
    assert {(n["contact"], n["status"], n["channel"]) for n in found["items"]} == {
        ("duty", "sent", "json"),
        ("street", "sent", "json"),
    }
    assert "S3CRET" not in answer.text
    assert "/a/" not in answer.text
    assert site.get("/api/v1/notices", params={"incident": 2}, headers=auth).json()["items"] == []
    assert site.post("/api/v1/notices/test", json={"contact": "duty"}).status_code == 401
    assert site.post("/api/v1/notices/test", json={"contact": "nobody"}, headers=auth).status_code == 404
    assert site.post("/api/v1/notices/test", json={"contact": "duty"}, headers=auth).status_code == 202
    office.go()
    assert office.phones.to("duty")[-1].startswith("【测试】duty（示例），这是示例站点的测试消息")


def test_who_is_on_call_is_called_and_a_shift_added_over_the_api_holds(office: Office) -> None:
    office.directory = Directory((*office.directory.contacts, who(office.phones, "second", ContactRole.OFFICE)))
    with office.database.write() as connection:
        oncall.replace(
            connection, [Shift("duty", NOON - DAY_MS, NOON + DAY_MS, 1, oncall.ROTATION)], by="x", now_ms=NOON
        )
    site, auth = office.site(), {"Authorization": "Bearer operator"}
    office.fire("a")
    office.go()
    assert office.phones.to("second") == []
    shift = {"person": "second", "begins": "2026-05-12T12:00:00+08:00", "until": "2026-05-12T18:00:00+08:00"}
    body = {"by": "示例", "shifts": [shift]}
    made = site.post("/api/v1/oncall/shifts", json=body, headers=auth)
    assert made.status_code == 201, made.text
    assert made.json()["now"] == [["second"]]
    assert made.json()["uncovered_from"] == "2026-05-13T04:00:00Z"
    office.fire("b")
    office.go(61)
    assert len(office.phones.to("second")) == 1
    assert len(office.phones.to("duty")) == 1
    body["shifts"][0] = shift | {"person": "zoe"}
    assert site.post("/api/v1/oncall/shifts", json=body, headers=auth).status_code == 404
    body["shifts"][0] = shift | {"until": "2026-05-12T11:00:00+08:00"}
    assert site.post("/api/v1/oncall/shifts", json=body, headers=auth).status_code == 400


def test_a_new_plan_replaces_what_was_planned_from_its_first_shift_on(office: Office) -> None:
    def planned() -> list[tuple[str, int, int]]:
        with office.database.read() as connection:
            found = oncall.shifts(connection, NOON - 99 * DAY_MS, NOON + 99 * DAY_MS)
        return [(s.person, (s.starts_at_ms - NOON) // DAY_MS, (s.ends_at_ms - NOON) // DAY_MS) for s in found]

    def put(*shifts: tuple[str, int, int]) -> None:
        with office.database.write() as connection:
            rows = [Shift(p, NOON + b * DAY_MS, NOON + e * DAY_MS) for p, b, e in shifts]
            oncall.replace(connection, rows, by="x", now_ms=NOON)

    put(("a", -9, -2), ("b", -2, 5), ("a", 5, 12))
    put(("c", 1, 8), ("d", 8, 15))
    assert planned() == [("a", -9, -2), ("b", -2, 1), ("c", 1, 8), ("d", 8, 15)]


def test_the_commands_try_every_channel_import_a_plan_and_say_who_would_be_told(phones: Phones, tmp_path: Path) -> None:
    (tmp_path / "contacts.toml").write_text(
        f"""
[[contact]]
key = "duty-1"
name = "示例值班员"
roles = ["office"]
channels = [{{ url = "json://user:S3CRET@127.0.0.1:{phones.port}/a" }}, {{ url_file = "address" }}]
"""
    )
    (tmp_path / "address").write_text(f"json://127.0.0.1:{phones.port}/b\n")
    (tmp_path / "plan.toml").write_text('[[rotation]]\npeople = ["duty-1"]\nbegins = 2020-01-06\nuntil = 2022-01-03\n')
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"data = '{tmp_path}'\n[notices]\ncontacts = '{tmp_path}/contacts.toml'\n[log]\nlevel = 'error'\n"
    )

    def run(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(cli, [*words, "-c", str(settings)])
        return found.exit_code, found.output

    assert run("notify", "test", "duty-1")[0] == 0
    assert [name for name, _ in phones.taken] == ["a", "b"]
    phones.answers = lambda name: 500 if name == "b" else 200
    code, said = run("notify", "test", "duty-1")
    assert code == 1
    assert "✓ 1 json" in said
    assert f"✗ 2 json {say('notice.channel_refused', channel='json', answer='HTTP 500').zh}" in said
    assert "S3CRET" not in said
    code, said = run("oncall", "import", str(tmp_path / "plan.toml"))
    assert code == 0, said
    code, said = run("oncall", "show", "--json")
    assert code == 1, "nobody is on call today"
    assert run("stations", "import", "config/stations.toml")[0] == 0
    station = tomllib.loads(Path("config/stations.toml").read_text("utf-8"))["station"][0]["key"]
    code, said = run("notify", "preview", station, "--colour", "yellow", "--at", "02:00", "--json")
    assert code == 0, said
    (row,) = json.loads(said)
    assert (row["step"], row["contact"], row["at"][10:]) == (1, "duty-1", "T23:30:00Z")
    assert run("notify", "preview", "nowhere")[0] != 0
    assert run("notify", "list", "--json") == (0, "[]\n")
