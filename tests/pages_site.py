"""A site with a past, for the tests of the pages: rivers judged for weeks, people in office, cases in every hand.

``python -m tests.pages_site FOLDER PORT [TOKEN]`` serves what `seed` laid down; without a token the site is open.
"""

import struct
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter

import ingest.storage.tables  # noqa: F401  (the tables must be known before they are created)
from api.app import create_app
from api.context import Context, NotificationSettings
from api.pages.view import PageRoute
from governance import tables
from governance.audit import trail as audit_trail
from governance.incidents import queries as incident_queries
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Assignment, Entry, Incident, Order, Source
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.notify.contacts import Channel, Contact, ContactRole, Directory
from governance.notify.links import Links
from governance.notify.message import Item, NoticeKind, NoticeRequest
from governance.notify.oncall import Shift
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice
from governance.notify.web_push import WebPush
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor, Department, Role
from governance.people import store as people_store
from governance.reports import citizen_reports, public_photos, river_plans, subscriptions
from governance.reports.river_plans import Goal
from governance.verification import roots
from infra import times
from infra.database import Database
from infra.texts import Text, both, say
from infra.times import DAY_MS
from infra.vault import Vault, new_key
from ingest.analysis import backtest_requests, live_classes
from ingest.analysis.source_attribution import AttributionWorker
from ingest.pipeline import Receipt, Site
from ingest.rules import explain, rule_file
from ingest.rules import model as rule_model
from ingest.state import rule_publications, rule_trials
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief import files, messages
from sensors import registry_toml
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.stations import Registry
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests.databases import with_tables

ROOT = Path(__file__).parents[1]


def _picture() -> bytes:
    """A photo: a PNG of one green colour."""
    width, height = 64, 48
    rows = b"".join(b"\0" + bytes((70, 110, 90)) * width for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


MINUTE, HOUR = 60_000, 3_600_000
RIVER = "qichachong-huanhu"
STATION = "qcc-huanhu-3"
GRID = "chancheng/shiwan/qicha/1/a"
NEXT_GRID = "chancheng/shiwan/qicha/1/b"
NEXT_STREET = "chancheng/zumiao"
"""The grid is not drawn here: the station in it lies in the street that it names, which is another one."""
OFFICE, CHIEF, AUDITOR, PUBLIC = "李调度（示例）", "陈河长（示例）", "周审计（示例）", "公众（示例）"
ADMINISTRATOR, WORKER, ENGINEER = "管理员（示例）", "黄网格员（示例）", "何工程师（示例）"
DEPUTY = "罗助理（示例）"
OFFICER = Actor(OFFICE, Role.OFFICE)
SOURCE = "/riverchief/test"
KEY = Ed25519PrivateKey.from_private_bytes(b"a key of a site made up for test"[:32])
LINKS = Links("http://127.0.0.1", b"a key of links made up for test.")
PUSH = WebPush(b"a key of push made up for a test", "http://127.0.0.1")
PHOTO = _picture()
FORM = "%Y-%m-%dT%H:%M"
DUTY = ("duty-1", "duty-2")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def from_now(ms: int) -> str:
    """An instant so long from now, as a form has it."""
    return times.beijing(now_ms() + ms, FORM)


def beijing_minute(utc: str) -> str:
    """The minute after an instant, as a form has it."""
    return times.beijing(times.to_ms(datetime.fromisoformat(utc)) + MINUTE, FORM)


def directory() -> Directory:
    """The contacts of the file of the site."""
    channel = (Channel("json://127.0.0.1:9/x"),)
    return Directory(
        (
            Contact("duty-1", "值班甲（示例）", roles=(ContactRole.OFFICE,), channels=channel, in_file=True),
            Contact("duty-2", "值班乙（示例）", roles=(ContactRole.OFFICE,), channels=channel, in_file=True),
            Contact("chief-qicha", CHIEF, roles=(ContactRole.CHIEF,), reaches=(RIVER,), channels=channel, in_file=True),
        )
    )


def seed(folder: Path) -> Database:
    """The database of the site, filled; the caller closes it."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{folder / 'river.db'}")
    with_tables(database)
    known = catalogue()
    registry = registry_toml.read((ROOT / "config/stations.toml").read_text(encoding="utf-8"), known)
    now = now_ms()
    undrawn = tuple(replace(r, outline=()) if r.code == NEXT_GRID else r for r in registry.regions)
    moved = tuple(replace(s, region=NEXT_STREET) if s.key == STATION else s for s in registry.stations)
    registry = replace(registry, regions=undrawn, stations=moved)
    regions = Regions(registry.regions, registry.stations)
    with database.write() as connection:
        registry_store.save(connection, registry)
        for name, role, region in (
            (OFFICE, Role.OFFICE, "chancheng"),
            (CHIEF, Role.CHIEF, ""),
            ("何总河长（示例）", Role.GENERAL_CHIEF, ""),
            (DEPUTY, Role.DEPUTY, ""),
            ("梁村级河长（示例）", Role.CHIEF, ""),
            (WORKER, Role.GRID_WORKER, GRID),
            (ENGINEER, Role.REVIEWER, ""),
            (AUDITOR, Role.AUDITOR, "chancheng"),
            (PUBLIC, Role.PUBLIC, ""),
            (ADMINISTRATOR, Role.ADMINISTRATOR, ""),
        ):
            people_store.add(connection, name, role, region=region, by="test", now_ms=now, regions=regions)
        for name, region, reach, helps in (
            ("何总河长（示例）", "chancheng", "", ""),
            (CHIEF, "chancheng/shiwan", RIVER, ""),
            (DEPUTY, "chancheng/shiwan", RIVER, CHIEF),
            ("梁村级河长（示例）", "chancheng/shiwan/qicha/1", "", ""),
        ):
            people_store.appoint(
                connection,
                name,
                region=region,
                reach=reach,
                deputy_of=helps,
                since_ms=now - 200 * DAY_MS,
                until_ms=now + 400 * DAY_MS if helps else None,
                by=ADMINISTRATOR,
                now_ms=now,
                source=SOURCE,
                regions=regions,
            )
        _past(connection, now)
        start_ms = now - (now + times.BEIJING_OFFSET_MS) % DAY_MS
        oncall.add(
            connection,
            [Shift(DUTY[i % 2], start_ms + 7 * i * DAY_MS, start_ms + 7 * (i + 1) * DAY_MS, 1, 0) for i in range(3)],
            by=OFFICE,
            now_ms=now,
        )
    _readings(database, now)
    _account(database, now)
    _cases(database, now)
    AttributionWorker(database, SqlReadings(database, known), known, clock_ms=now_ms, source=SOURCE).round()
    with database.write() as connection:
        roots.seal(connection, KEY, origin=SOURCE, now_ms=now_ms())
    return database


def _past(connection: sa.Connection, now: int) -> None:
    """Forty days of the class of the creek, and its plan."""
    course = [*["V"] * 3, ">V", ">V", *["V"] * 2, *["IV"] * 3, "V", "V", ">V", "V", *["IV"] * 2, "III", "III"]
    course += [*["IV"] * 3, *["V"] * 3, *["IV"] * 3, *["III"] * 3, *["IV"] * 2, *["V"] * 2, "IV", "IV"]
    for i, name in enumerate(course):
        if i == 11:
            continue  # a day without a record
        told = {"class": name, "target": "V", "met": name != ">V", "deciding": ["nh3n"]}
        at_ms = now - (len(course) - 1 - i) * DAY_MS
        body = {"reaches": {RIVER: told}}
        audit_trail.append(
            connection, "water.classes", kind="water", id="reaches", body=body, by="riverchief", at_ms=at_ms
        )
    goals = [
        Goal("氨氮稳定达到Ⅴ类", "截污管网错混接改造12处", CHIEF, "2099-12-31", 0.65),
        Goal("消除晴天溢流口", "封堵或改造3处", "石湾镇街道（示例）", "2025-06-30", 0.33),
    ]
    river_plans.put(
        connection, RIVER, "晴天有污水溢流，内源淤积", goals, by=CHIEF, role="chief", now_ms=now - 9 * DAY_MS
    )


def _readings(database: Database, now: int) -> None:
    """Six hours of readings, the last minutes of which are polluted."""
    catalogue_ = catalogue()
    store = SqlReadings(database, catalogue_)
    site = Site(database, store, _rules(), catalogue_)
    times = range(now - 6 * HOUR, now - 6 * MINUTE, 5 * MINUTE)
    for n, station in enumerate(("qcc-huanhu-1", "qcc-huanhu-2", STATION, "dph-shiwan-1")):
        samples = [
            Sample(
                at, {"nh3n": round(0.6 + 0.01 * ((i + n) % 9), 3), "do": 6.2 + 0.01 * (i % 7), "codmn": 4.0, "tp": 0.1}
            )
            for i, at in enumerate(times)
        ]
        payload = encode(Telemetry(tuple(samples), seq=0, boot=1, sent_at_ms=now))
        site.process([Message(station, payload, now)], now)
    values = [0.65]
    while values[-1] < 8.4:
        values.append(min(8.4, round(1.2 * values[-1] + 0.25, 3)))
    values += [8.4] * 3
    samples = [Sample(now - 8_000 * (len(values) - i), {"nh3n": v}) for i, v in enumerate(values, 1)]
    payload = encode(Telemetry(tuple(samples), seq=1, boot=1, sent_at_ms=now))
    site.process([Message(STATION, payload, now)], now)
    live_classes.update_classes(database, store, catalogue_, now)


GAUGE = "qcc-gauge"


def gauge(database: Database, hours: int = 30) -> None:
    """A gauge of rain, level, flow and (once) phosphorus on the river: a storm three hours ago, a gate open since."""
    now, known = now_ms(), catalogue()
    with database.read() as connection:
        beside = registry_store.load(connection, known)[STATION]
    station = replace(beside, key=GAUGE, zh="七滘水文站（示例）", en="Gauge", parameters=("rain", "level", "flow"))
    with database.write() as connection:
        registry_store.save(connection, Registry((station,), catalogue=known))
    site = Site(database, SqlReadings(database, known), _rules(), known)
    ages = range(hours * HOUR, 0, -10 * MINUTE)
    samples = [
        Sample(
            now - age,
            {
                "rain": 1.5 if 2 * HOUR < age < 4 * HOUR else 0.2 if 20 * HOUR < age < 22 * HOUR else 0.0,
                "level": 2.1 if age > HOUR else 1.7,
                "flow": 3.0 if age > HOUR else 8.25,
            }
            | ({"tp": 0.2} if age == ages[-1] else {}),
        )
        for age in ages
    ]
    payload = encode(Telemetry(tuple(samples), seq=0, boot=1, sent_at_ms=now))
    site.process([Message(GAUGE, payload, now)], now)


ON_TRIAL = "nh3n-worse-than-class-five"


def put_on_trial(database: Database) -> int:
    """A rule with a stricter limit, on trial for three days of readings of three stations; the number of the trial."""
    known, now = catalogue(), now_ms()
    site = Site(database, SqlReadings(database, known), _rules(), known)
    begun = now - 3 * DAY_MS
    site.tick(None, begun)
    rule = _rules().get(ON_TRIAL)
    assert isinstance(rule, rule_model.Threshold)
    stricter = rule_file.make_rule(rule_model.Threshold, explain.row(rule) | {"limit": 1.5, "clear": 1.4}, known)
    text = "\n".join(explain.toml(one) for one in _rules().with_others({rule.id: stricter}))
    request = {"rules": text, "since_ms": begun - 90 * DAY_MS, "until_ms": begun, "stations": []}
    with database.write() as connection:
        number = backtest_requests.add(connection, request, ENGINEER, begun)
        tried = rule_publications.Tried(number, ENGINEER, begun, True, text)
        by = rule_publications.Publisher(ENGINEER, Role.REVIEWER, "雨季前收紧氨氮限值，先看会多报多少（示例）")
        trial = rule_trials.begin(connection, tried, by, known, begun)
    site.follow_rules()
    for n, station in enumerate(("fsc-1", "dph-shiwan-2", "qcc-huanhu-1")):
        samples = []
        for i in range(3 * 72 - 20):
            peak = (2.5, 1.4, 1.0)[n] if i % (61 + 9 * n) < 9 else 0.4
            value = round(peak - 0.7 * (n == 0 and i > 120) + 0.01 * (i % 7) + 0.15, 3)
            samples.append(Sample(begun + HOUR + 20 * MINUTE * i, {"nh3n": value}))
        for i in range(0, len(samples), 3):
            part = tuple(samples[i : i + 3])
            at = part[-1].at_ms
            site.process([Message(station, encode(Telemetry(part, seq=i, boot=7, sent_at_ms=at)), at)], at + 1000)
    return trial.id


def _rules() -> rule_model.Rules:
    return rule_file.read((ROOT / "config/rules.toml").read_text(encoding="utf-8"), catalogue())


ACCOUNT_DAYS = 25
"""Days of the ledger of three stations: one without a gap, one with two, one that does not number its messages."""
CLOSED, GAPS, UNNUMBERED = "pynd-1", "pynd-2", "pynd-3"
UNREGISTERED = "pynd-9"


def _account(database: Database, now: int) -> None:
    """The ledger of some weeks, and messages that were refused."""
    catalogue_ = catalogue()
    site = Site(database, SqlReadings(database, catalogue_), _rules(), catalogue_)
    noon = now - (now + times.BEIJING_OFFSET_MS) % DAY_MS + 12 * HOUR
    sent = [
        _temperatures(station, noon - back * DAY_MS, seq, boot)
        for station in (CLOSED, GAPS, UNNUMBERED)
        for seq, back in enumerate(range(ACCOUNT_DAYS, 0, -1))
        if station != GAPS or back not in (4, 9)
        for boot in (1 if station != GAPS or back > 6 else 2,)
    ]
    site.process(sent, now)
    future = times.rfc3339(now + 2 * DAY_MS)
    refused = (
        (GAPS, b'{"seq": 900, "readings": [{"at": "2026-01-01T08:00:00+08:00", "values": {"do": 6.1', 3 * HOUR),
        (CLOSED, one_sample(times.rfc3339(now - HOUR), '{"do": 6.4, "nh3n": "overrange"}'), 2 * HOUR),
        (CLOSED, one_sample(times.rfc3339(now - 2 * HOUR), '{"nh3n": "overrange"}'), 26 * HOUR),
        (CLOSED, one_sample(future, '{"do": 6.2}'), HOUR),
        (UNREGISTERED, one_sample(times.rfc3339(now - HOUR), '{"do": 6.2, "ph": 7.1}'), 90 * MINUTE),
        (GAPS, one_sample(times.rfc3339(now - HOUR), '{"colour": 12}'), 40 * MINUTE),
        (GAPS, bytes.fromhex("7b22736571223a312c226e6f7465223a22b3c2d5dfffd8227d"), 30 * MINUTE),
    )
    site.process(
        [Message(station, body, now - ago, topic=f"water/{station}/telemetry") for station, body, ago in refused], now
    )


def _temperatures(station: str, at: int, seq: int, boot: int) -> Message:
    """A day's message; of the station with gaps the last one of them before a new start does not tell its readings."""
    samples = tuple(Sample(at - i * HOUR, {"water_temp": 21.0 + i / 10}) for i in range(4))
    if station == UNNUMBERED:
        return Message(station, encode(Telemetry(samples, sent_at_ms=at)), at)
    number = seq - 19 if boot == 2 else seq
    total = None if boot == 2 else 4 * (seq + 1)
    return Message(station, encode(Telemetry(samples, seq=number, boot=boot, total=total, sent_at_ms=at)), at)


def one_sample(at: str, values: str) -> bytes:
    """A message with one sample of these values, JSON as it stands."""
    return f'{{"readings": [{{"at": "{at}", "values": {values}}}]}}'.encode()


def ingest_of(database: Database) -> Callable[[Message], "Future[Receipt]"]:
    """An ingest that processes each message at once."""
    known = catalogue()
    site = Site(database, SqlReadings(database, known), _rules(), known)

    def submit(message: Message) -> "Future[Receipt]":
        done: Future[Receipt] = Future()
        try:
            done.set_result(site.process([message], now_ms()).receipt(0))
        except Exception as error:
            done.set_exception(error)
        return done

    return submit


def _cases(database: Database, now: int) -> None:
    """A litter report on its way, messages told and given up, and a delivery that was refused."""
    worker = Actor(WORKER, Role.GRID_WORKER, frozenset({GRID}))
    with database.write() as connection:
        place = Place(GRID, RIVER, 113.1478, 23.0205)
        made = incident_store.file_report(
            connection,
            Order(Action.ACCEPT, comment="环湖花园桥下有成片漂浮垃圾，约十平方米"),
            OFFICER,
            colour=Colour.YELLOW,
            origin=Source.HOTLINE,
            place=place,
            now_ms=now - 5 * HOUR,
            source=SOURCE,
        )
        for order, who, ago in (
            (Order(Action.ACCEPT), OFFICER, 290),
            (
                Order(Action.DISPATCH, assignment=Assignment(GRID, CHIEF, Department.URBAN_MANAGEMENT)),
                OFFICER,
                280,
            ),
            (Order(Action.START), worker, 120),
            (Order(Action.COMMENT, comment="船已到，预计一小时清完"), worker, 90),
        ):
            incident_store.apply_action(connection, made.id, order, who, now_ms=now - ago * MINUTE, source=SOURCE)
        red = incident_queries.list_incidents(connection, colour=Colour.RED, limit=1)[0]
        text = Text("奇槎涌环湖花园段氨氮8.40（限值4.0）", "Qicha Creek NH3-N 8.40 (limit 4.0)")
        place_ = Text("奇槎涌环湖花园段", "Qicha Creek")
        items = [
            NoticeRequest(
                "duty-1", GRID, Item(red.id, NoticeKind.OPENED, Colour.RED, now - 4 * MINUTE, place_, text, 10), now
            ),
            NoticeRequest(
                "chief-qicha",
                GRID,
                Item(red.id, NoticeKind.OPENED, Colour.RED, now - 4 * MINUTE, place_, text, 10),
                now,
            ),
            NoticeRequest(
                "duty-2", GRID, Item(made.id, NoticeKind.OPENED, Colour.YELLOW, now - 4 * HOUR, place_, made.title), now
            ),
        ]
        notice_store.enqueue(connection, items, now - 4 * MINUTE, NoticePolicy())
        c = notice.c
        connection.execute(
            sa.update(notice)
            .where(c.contact == "duty-1")
            .values(
                status="sent",
                body="x",
                sent_at_ms=now - 3 * MINUTE,
                sent_by="wecombot",
                acknowledged_at_ms=now - MINUTE,
            )
        )
        refused = both(say("notice.channel_refused", channel="json", answer="HTTP 403"))
        connection.execute(
            sa.update(notice)
            .where(c.contact == "chief-qicha")
            .values(
                status="dead",
                body="x",
                attempts=7,
                last_error=refused,
            )
        )
        oldest = sa.select(sa.func.min(tables.outbox.c.id)).scalar_subquery()
        connection.execute(
            sa.update(tables.outbox)
            .where(tables.outbox.c.id == oldest)
            .values(status="refused", attempts=3, last_status=422, last_error="平台拒收：编号格式不符")
        )


def file_case(
    database: Database,
    place: Place,
    text: str = "岸边杂物",
    *,
    colour: Colour = Colour.YELLOW,
    origin: Source = Source.HOTLINE,
    minutes_ago: int = 1,
) -> Incident:
    """A new report that the office filed."""
    order, now_ms_ = Order(Action.ACCEPT, comment=text), now_ms() - minutes_ago * MINUTE
    with database.write() as connection:
        return incident_store.file_report(
            connection, order, OFFICER, colour=colour, origin=origin, place=place, now_ms=now_ms_, source=SOURCE
        )


def act_on_case(database: Database, number: int, order: Order, actor: Actor = OFFICER) -> Incident:
    with database.write() as connection:
        return incident_store.apply_action(connection, number, order, actor, now_ms=now_ms(), source=SOURCE)


def read_case(database: Database, number: int) -> tuple[Incident, list[Entry]]:
    """An incident as it stands now, and its history."""
    with database.read() as connection:
        return incident_store.get(connection, number), incident_store.history(connection, number)


TICKET, SUBSCRIPTION = "2345-6789-2345", "a-link-that-nobody-can-guess"
PUBLIC_PAGES = (
    "/public",
    f"/r/{RIVER}",
    f"/report?reach={RIVER}",
    f"/report/{TICKET}",
    f"/subscription/{SUBSCRIPTION}",
)


def public_past(database: Database) -> None:
    """Litter that somebody reported, handled, with a photo before and after; and a wish for mails about the river."""
    now = now_ms()
    operator, worker = Actor(OFFICE, Role.OFFICE), Actor(WORKER, Role.GRID_WORKER, frozenset({GRID}))
    with database.write() as connection:
        place = Place(GRID, RIVER, 113.1478, 23.0205)
        order = Order(Action.ACCEPT, comment="桥下有垃圾（示例）", matter="litter")
        made = incident_store.file_report(
            connection,
            order,
            citizen_reports.CITIZEN,
            colour=Colour.YELLOW,
            origin=Source.CITIZEN,
            place=place,
            now_ms=now - 2 * DAY_MS,
            source=SOURCE,
        )
        citizen_reports.add(connection, citizen_reports.Report(TICKET, made.id, now - 2 * DAY_MS, "", "x", 0))
        assigned = Assignment(GRID, WORKER, Department.URBAN_MANAGEMENT)
        for hours, order, who in (
            (40, Order(Action.ACCEPT), operator),
            (39, Order(Action.DISPATCH, assignment=assigned), operator),
            (30, Order(Action.START), worker),
            (28, Order(Action.FINISH, comment="已清理（示例）", attachments=("b" * 64,)), worker),
            (20, Order(Action.VERIFY, comment="现场已看（示例）"), operator),
            (19, Order(Action.CLOSE, comment="已办结（示例）"), operator),
        ):
            incident_store.apply_action(connection, made.id, order, who, now_ms=now - hours * HOUR, source=SOURCE)
        sides = {"a" * 64: public_photos.Side.BEFORE, "b" * 64: public_photos.Side.AFTER}
        closed = incident_store.get(connection, made.id)
        copy = public_photos.public_copy(PHOTO)
        public_photos.set_released(connection, closed, sides, dict.fromkeys(sides, copy), operator, now - HOUR)
        subscriptions.request(connection, Vault(new_key()), RIVER, "somebody@example.org", "zh", now)
        connection.execute(sa.update(subscriptions.table).values(token=SUBSCRIPTION))


_failing = APIRouter(route_class=PageRoute)


@_failing.get("/fails")
async def _fails() -> None:
    raise RuntimeError("words for programmers")


def context(database: Database, folder: Path, token: str | None) -> Context:
    """What the application is given over the seeded database; without a token the site is open."""
    vault = Vault(new_key())
    known = messages.ContactList(directory, database, vault, now_ms)
    return Context(
        database=database,
        store=SqlReadings(database, catalogue()),
        catalogue=catalogue(),
        source=SOURCE,
        clock_ms=now_ms,
        token=token,
        open=token is None,
        photos=folder / "photos",
        processes=files.read_processes(None),
        audit_keys=(KEY.public_key(),),
        notifications=NotificationSettings(known, NoticePolicy(), LINKS, "测试站 test site", known.forget, PUSH),
        vault=vault,
        complaints="12345",
        subscribes=True,
    )


def serve(folder: Path, port: int, token: str) -> None:
    database = Database(f"sqlite:///{folder / 'river.db'}")
    given = replace(context(database, folder, token or None), submit=ingest_of(database))
    app = create_app(given)
    app.include_router(_failing)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
