"""What office and chiefs have to manage, each task in the browser within its steps: taps, clicks, keys, fields."""

import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import Result
from playwright.sync_api import Browser, Locator, Page, expect
from starlette.testclient import TestClient
from typer.testing import CliRunner

from governance.audit import trail as audit_trail
from governance.incidents import cloudevents
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, FindingKind
from governance.incidents.model import Action, Assignment, Order, Source
from governance.notify import store as notice_store
from governance.notify.messenger import Messenger
from governance.notify.policy import NoticePolicy
from governance.notify.tables import notice, notice_item
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from governance.reports.citizen_reports import get as report_of
from governance.tables import incident, outbox
from infra.database import Database
from infra.texts import say
from infra.times import DAY_MS, beijing, beijing_day, beijing_day_span
from ingest import ledger
from ingest.pipeline import Site as Ingest
from ingest.rules import rule_file
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage import tables as ingest_tables
from ingest.storage.sql import SqlReadings
from riverchief import audit_sealing
from riverchief.cli.app import app
from riverchief.messages import places
from riverchief.receiver import create_receiver
from sensors.maintenance import Review
from sensors.parameters import catalogue
from sensors.reading import Batch, Flag, Message, QualityTest
from sensors.stations import Deployment, Station
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests import pages_site
from tests.browser import Served, chromium, signed_in
from tests.cases import WAY
from tests.contract.test_page_incident import finding, kinds, record
from tests.contract.test_page_review import BAD, DAY, day_before
from tests.contract.test_page_rules import run_backtest
from tests.databases import unguarded
from tests.pages_site import (
    ADMINISTRATOR,
    AUDITOR,
    CHIEF,
    ENGINEER,
    GRID,
    HOUR,
    LINKS,
    MINUTE,
    OFFICE,
    RIVER,
    now_ms,
)

DESK, PHONE, SCREEN = (1440, 900), (390, 844), (1920, 1080)
SIZES = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
KNOWN = catalogue()
STREET, OTHER_STREET = "chancheng/shiwan", pages_site.NEXT_STREET
WEEK, SILENT, CLEAR = "shiwan-lake-1", "fjh-1", "qcc-huanhu-1"
"""A week with a gap, a spike and a swapped probe; a station silent for nine hours; one with good water."""
SIX = {
    "qichachong-huanhu": 6,
    "dongpinghe-shiwan": 2,
    "poyang-nandouchong": 3,
    "qicha-sponge": 4,
    "fenjiang-chancheng": 5,
    "fengshouchong": 1,
}
"""A reach of each class."""
SIGNS = ("Ⅰ", "Ⅱ", "Ⅲ", "Ⅳ", "Ⅴ", "劣Ⅴ")
LOSSY, LOST_HOUR = "mdc-1", 10
"""A station whose message of an hour of `DAY` was lost."""
RULE = "nh3n-worse-than-class-five"
STORM = tuple(f"storm-{i}" for i in range(40))
"""Stations behind one gateway."""

pytestmark = pytest.mark.browser


class Site(Served):
    """A served site with a past, whose database is written to beside it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'river.db'}")
        self.readings = SqlReadings(self.database, KNOWN)
        super().__init__(folder)

    def close(self) -> None:
        self.kill()
        self.database.close()

    def report(self, text: str, colour: Colour = Colour.YELLOW, region: str = GRID, ago: int = MINUTE) -> int:
        with self.database.write() as connection:
            made = incident_store.file_report(
                connection,
                Order(Action.ACCEPT, comment=text),
                Actor(OFFICE, Role.OFFICE),
                colour=colour,
                origin=Source.PATROL,
                place=Place(region, RIVER, 113.1478, 23.0205),
                now_ms=now_ms() - ago,
                source=pages_site.SOURCE,
            )
        return made.id

    def act(self, number: int, order: Order, actor: Actor | None = None) -> None:
        who = Actor(OFFICE, Role.OFFICE) if actor is None else actor
        with self.database.write() as connection:
            incident_store.apply_action(connection, number, order, who, now_ms=now_ms(), source=pages_site.SOURCE)

    def state(self, number: int) -> str:
        with self.database.read() as connection:
            return incident_store.get(connection, number).state.value

    def said(self, number: int) -> list[tuple[str, str, str]]:
        """Who did what with an incident, and in which words."""
        with self.database.read() as connection:
            return [(one.by, one.what.value, one.comment) for one in incident_store.history(connection, number)]

    def counted(self) -> tuple[int, int]:
        """How many incidents there are, and messages."""
        with self.database.read() as connection:
            cases, messages = (
                connection.scalar(sa.select(sa.func.count()).select_from(one)) or 0 for one in (incident, notice)
            )
        return cases, messages

    def accounts(self, station: str) -> list[ledger.Account]:
        with self.database.read() as connection:
            return ledger.accounts(connection, station=station)

    def reviews(self, station: str) -> list[tuple[int, Review]]:
        """The reviews in force."""
        with self.database.read() as connection:
            return [(n, one) for n, one in maintenance_store.reviews(connection, station) if not one.void]

    def ingest(self, rules: str = "") -> Ingest:
        text = rules or (pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8")
        return Ingest(self.database, self.readings, rule_file.read(text, KNOWN), KNOWN)

    def messenger(self) -> Messenger:
        """Makes messages as the running system does, of what happens from now on; none is sent."""
        made = Messenger(
            self.database, pages_site.directory, places=places, clock=now_ms, policy=NoticePolicy(), links=LINKS
        )
        made.make()
        return made

    def mentions(self, number: int) -> dict[str, int]:
        """Contact → the message that calls them for an incident."""
        of = sa.select(notice.c.contact, notice.c.id).join(notice_item, notice_item.c.notice_id == notice.c.id)
        with self.database.read() as connection:
            rows = connection.execute(of.where(notice_item.c.incident_id == number)).all()
        return {row.contact: row.id for row in rows}


def _past(site: Site) -> None:
    """What the tasks need beside the site's past: a week at a station, a silent one, a class for six reaches."""
    now = now_ms()
    day_before(site.database)
    at = np.arange(now - 7 * DAY_MS, now, 10 * MINUTE)
    at = at[(at < now - 4 * DAY_MS) | (at >= now - 3 * DAY_MS)]
    value = 0.4 + 0.02 * np.sin(at / HOUR)
    verdict = np.full(len(at), int(Flag.GOOD), np.int64)
    spike = len(at) // 4
    value[spike] = 9.0
    verdict[spike] = int(Flag.BAD) | int(QualityTest.SPIKE) << 4
    quiet = np.arange(now - 12 * HOUR, now - 9 * HOUR, 5 * MINUTE)
    with site.database.write() as connection:
        for station, when, what, judged in (
            (WEEK, at, value, verdict),
            (SILENT, quiet, np.full(len(quiet), 0.7), np.full(len(quiet), int(Flag.GOOD), np.int64)),
        ):
            n = len(when)
            batch = Batch.of([0] * n, [KNOWN.index["nh3n"]] * n, when.tolist(), what.tolist())
            site.readings.write(connection, [station], batch, judged)
        probes = [
            Deployment(WEEK, "nh3n", now - 60 * DAY_MS, "mg/L", device="示例旧探头"),
            Deployment(WEEK, "nh3n", now - 2 * DAY_MS, "mg/L", device="示例新探头"),
        ]
        registry_store.save_deployments(connection, probes)
        t = ingest_tables.live_class
        connection.execute(sa.delete(t).where(t.c.kind == "reach", t.c.key.in_(list(SIX))))
        told = {"kind": "reach", "at_ms": now, "deciding": "nh3n", "judged": 1, "expected": 1, "target": 5}
        words = {"text_zh": "示例", "text_en": "example", "measured_ms": now - MINUTE, "stations": 1}
        connection.execute(sa.insert(t), [{**told, **words, "key": key, "class": c} for key, c in SIX.items()])
    start_ms, _ = beijing_day_span(DAY)
    hours = [
        Telemetry(
            tuple(Sample(start_ms + h * HOUR + i * 10 * MINUTE, {"water_temp": 21.0 + i / 10}) for i in range(6)),
            seq=h,
            boot=1,
            total=6 * (h + 1),
            sent_at_ms=start_ms + (h + 1) * HOUR,
        )
        for h in range(24)
    ]
    came = [Message(LOSSY, encode(one), start_ms + (one.seq + 1) * HOUR) for one in hours if one.seq != LOST_HOUR]
    site.ingest().process(came, now)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tasks")
    pages_site.seed(folder).close()
    made = Site(folder)
    _past(made)
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


class Hands:
    """A page in somebody's hands: counts what they do, and what the page may not do."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.steps = 0
        self.wrong: list[str] = []
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda asked: None if _ours(asked.url, site.url) else self.wrong.append(asked.url))

    def open(self, path: str) -> int:
        answer = self.page.goto(self.site.url + path)
        assert answer is not None
        return answer.status

    def see(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def tap(self, what: Locator | str) -> None:
        self.steps += 1
        (self.see(what) if isinstance(what, str) else what).click()

    def fill(self, what: Locator | str, text: str) -> None:
        self.steps += 1
        (self.see(what) if isinstance(what, str) else what).fill(text)

    def choose(self, what: Locator | str, value: str) -> None:
        self.steps += 1
        (self.see(what) if isinstance(what, str) else what).select_option(value)

    def press(self, key: str) -> None:
        self.steps += 1
        self.page.keyboard.press(key)

    def within(self, most: int, refused: str = "403|409") -> None:
        """The task is done: within its steps, without an error, and nothing lies beside the screen."""
        assert self.steps <= most, f"{self.steps} steps, at most {most}"
        assert not self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        refusals = re.compile(f"status of ({refused})")
        assert [one for one in self.wrong if not refusals.search(one)] == []


def _ours(url: str, site: str) -> bool:
    return url.startswith((f"{site}/", "data:", "blob:"))


Who = Callable[..., Hands]


@pytest.fixture
def hands(browser: Browser, site: Site) -> Iterator[Who]:
    """Gives a new browser to somebody."""
    opened: list[Page] = []

    def give(name: str, size: tuple[int, int] = DESK, of: Site = site) -> Hands:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="zh-CN")
        if name:
            signed_in(context, name, of.url)
        opened.append(context.new_page())
        return Hands(opened[-1], of)

    yield give
    for page in opened:
        page.context.close()


# -- seeing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_wall_names_the_worst_river_and_its_owner_without_a_click(site: Site, hands: Who, language: str) -> None:
    if site.state(1) == "reported":
        site.act(1, Order(Action.ACCEPT))
        site.act(1, Order(Action.DISPATCH, assignment=Assignment(OTHER_STREET, CHIEF)))
    chief = hands(CHIEF, SCREEN)
    chief.open(f"/wall?lang={language}")
    worst = chief.see("wall-worst")
    expect(worst).to_contain_text({"zh": "奇槎涌环湖花园段", "en": "Qicha Creek"}[language])
    expect(worst).to_contain_text("劣Ⅴ")
    expect(worst).to_contain_text(CHIEF)
    assert worst.evaluate("one => one.getBoundingClientRect().bottom <= innerHeight")
    chief.within(0)


def test_the_wall_says_within_ninety_seconds_that_its_picture_has_stopped(site: Site, hands: Who) -> None:
    chief = hands(CHIEF, SCREEN)
    chief.page.clock.install()
    chief.open("/wall")
    stale = chief.see("wall-stale")
    expect(stale).to_be_hidden()
    site.kill()
    try:
        chief.page.clock.run_for(90_000)
        expect(stale).to_be_visible()
        expect(chief.see("wall-worst")).to_contain_text("奇槎涌环湖花园段")
    finally:
        site.start()


def test_a_chief_confirms_on_the_phone_with_a_sentence_and_the_others_are_not_called_any_more(
    site: Site, hands: Who
) -> None:
    messenger = site.messenger()
    found = finding(FindingKind.THRESHOLD, now_ms() - MINUTE, cause="chief", colour=Colour.RED, station=CLEAR)
    number = record(site.database, found)[FindingKind.THRESHOLD]
    messenger.make()
    called = site.mentions(number)
    assert {"chief-qicha", pages_site.DUTY[0]} <= set(called)
    with site.database.read() as connection:
        mine = notice_store.get(connection, called["chief-qicha"])
    before = site.said(number)
    chief = hands("", PHONE)
    chief.open(f"/a/{LINKS.token(mine.id, mine.contact, mine.expires_at_ms)}")
    expect(chief.see("confirm-item")).to_have_count(1)
    assert (site.said(number), site.mentions(number)) == (before, called), "a preview opens links, too"
    chief.fill(chief.page.locator("[name=comment]"), "请街道一小时内到现场")
    chief.tap("confirm-go")
    expect(chief.page.get_by_role("status")).to_be_visible()
    chief.within(3)
    assert [one for one in site.said(number) if one not in before] == [(CHIEF, "commented", "请街道一小时内到现场")]
    assert site.mentions(number) == {}
    office = hands(OFFICE, PHONE)
    office.open(f"/incidents/{number}")
    expect(office.see("case-timeline")).to_contain_text("请街道一小时内到现场")
    expect(office.see("case-timeline")).to_contain_text(CHIEF)


SUBSCRIBED = """PushManager.prototype.subscribe = async ({ applicationServerKey }) => {
  const pair = await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, true, ["deriveBits"]);
  const text = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_");
  const keys = { p256dh: text(await crypto.subtle.exportKey("raw", pair.publicKey)), auth: text(new Uint8Array(16)) };
  if (applicationServerKey.length !== 65) throw new TypeError("no key of the server");
  return { toJSON: () => ({ endpoint: "https://updates.push.services.mozilla.com/wpush/example", keys }) };
};"""
"""The push service of a browser's maker, which cannot be reached here."""


def test_a_browser_becomes_a_channel_of_its_person_by_one_tap(site: Site, hands: Who) -> None:
    worker = hands(pages_site.WORKER, PHONE)
    worker.page.context.grant_permissions(["notifications"], origin=site.url)
    worker.page.add_init_script(SUBSCRIBED)
    worker.open("/account")
    worker.tap("account-messages")
    worker.tap("person-push")
    channel = worker.page.locator("[data-testid=person-channel][data-kind=webpush]")
    expect(channel).to_contain_text(say("people_page.kind_browser").zh)
    assert worker.page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all[0].scope)").endswith(
        "/push/"
    )
    worker.within(2)


@SIZES
def test_all_overdue_in_one_street_are_three_steps_away_and_the_address_shows_them_again(
    site: Site, hands: Who, size: tuple[int, int]
) -> None:
    mine = site.report(f"示例：逾期{size[0]}", ago=5 * DAY_MS)
    other = site.report(f"示例：他街逾期{size[0]}", region=OTHER_STREET, ago=5 * DAY_MS)
    fresh = site.report(f"示例：刚报{size[0]}")
    office = hands(OFFICE, size)
    office.open("/incidents")
    office.tap(office.page.locator("[data-testid=inbox-view-overdue]:visible").first)
    office.choose("inbox-region", STREET)
    expect(office.see(f"inbox-row-{mine}")).to_be_visible()
    office.page.wait_for_url(re.compile("region="))
    for number in (other, fresh):
        expect(office.see(f"inbox-row-{number}")).to_have_count(0)
    office.within(3)
    rows = office.page.locator("tr[data-step]").evaluate_all("all => all.map(one => one.dataset.testid)")
    again = hands(OFFICE, size)
    again.page.goto(office.page.url)
    assert again.page.locator("tr[data-step]").evaluate_all("all => all.map(one => one.dataset.testid)") == rows


@SIZES
@pytest.mark.parametrize(("kind", "verdict"), [(FindingKind.EVENT, "pollution"), (FindingKind.DEVICE, "fault")])
def test_a_page_alone_tells_pollution_from_a_fault(
    site: Site, hands: Who, size: tuple[int, int], kind: FindingKind, verdict: str
) -> None:
    one = replace(kinds(now_ms() - 2 * HOUR)[kind], cause=f"{kind}{size}")
    number = record(site.database, one)[kind]
    office = hands(OFFICE, size)
    office.open(f"/incidents/{number}{'?lang=en' if size == PHONE else ''}")
    expect(office.see("case-verdict")).to_have_attribute("data-verdict", verdict)
    expect(office.see("case-verdict")).to_contain_text(
        getattr(say(f"verdict.{verdict}"), "en" if size == PHONE else "zh")
    )
    points = office.page.locator("[data-testid=case-facts] [data-points]")
    counted = points.evaluate_all("all => all.map(one => one.dataset.points)")
    assert counted.count(verdict) > counted.count({"pollution": "fault", "fault": "pollution"}[verdict])
    office.within(0)


# -- acting ------------------------------------------------------------------------------------------------------------

FOCUS = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const { width, height, top, bottom } = one.getBoundingClientRect();
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 || style.boxShadow !== "none";
  return one !== document.body && seen && width * height > 0 && bottom > 0 && top < innerHeight;
}"""


def test_a_case_is_accepted_dispatched_and_remarked_upon_by_keys_alone(site: Site, hands: Who) -> None:
    number = site.report("示例：键盘办理")
    office = hands(OFFICE)
    page = office.page
    state = office.see("case-stops").locator('[aria-current="step"]')
    office.open(f"/incidents/{number}")

    def done() -> None:
        expect(office.page.get_by_role("status").filter(has_text=re.compile(r"\S")).first).to_be_attached()

    def tab_to(selector: str) -> None:
        while not page.evaluate("s => document.activeElement.matches(s)", selector):
            office.press("Tab")
            assert page.evaluate(FOCUS), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")

    office.press("a")
    expect(state).to_have_attribute("data-state", "accepted")
    done()
    office.press("d")
    page.wait_for_function("document.activeElement.closest('details.action[open]') !== null")
    assert page.evaluate(FOCUS)
    office.press("Enter")
    expect(state).to_have_attribute("data-state", "dispatched")
    done()
    office.press("c")
    page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    assert page.evaluate(FOCUS)
    page.keyboard.type("已电话告知")
    office.steps += 1
    tab_to("[data-testid=case-send-comment]")
    office.press("Enter")
    expect(office.see("case-timeline")).to_contain_text("已电话告知")
    done()
    office.within(12)
    assert [what for by, what, _ in site.said(number) if by == OFFICE][-3:] == ["accepted", "dispatched", "commented"]


@SIZES
def test_a_case_without_a_photo_is_not_finished_and_its_handler_does_not_verify_it(
    site: Site, hands: Who, size: tuple[int, int]
) -> None:
    number = site.report("示例：自办自结")
    administrator = Actor(ADMINISTRATOR, Role.ADMINISTRATOR)
    for order in (Order(Action.ACCEPT), Order(Action.DISPATCH, assignment=Assignment(GRID))):
        site.act(number, order)
    site.act(number, Order(Action.START), administrator)
    handler = hands(ADMINISTRATOR, size)
    handler.open(f"/incidents/{number}")
    handler.tap(handler.see("case-action-finish").locator("summary").first)
    form = handler.see("case-form-finish")
    handler.fill(form.locator("[name=comment]"), "已清理")
    handler.tap("case-send-finish")
    expect(handler.see("action-refused")).to_be_visible()
    expect(form.locator("[name=comment]")).to_have_value("已清理")
    photo = form.get_by_test_id("photo-input")
    expect(photo).to_be_visible()
    assert site.state(number) == "handling"
    handler.steps += 1
    photo.set_input_files({"name": "清理后.png", "mimeType": "image/png", "buffer": pages_site.PHOTO})
    handler.tap("case-send-finish")
    expect(handler.see("case-stops").locator('[aria-current="step"]')).to_have_attribute("data-state", "handled")
    verify = handler.see("case-closed-verify")
    expect(verify.locator(".reason")).to_contain_text(say("incident.same_person").zh if False else re.compile(r"\S{4}"))
    handler.within(5)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_who_may_not_see_a_page_is_told_politely(hands: Who, language: str) -> None:
    public = hands(pages_site.PUBLIC, PHONE)
    assert public.open(f"/trail?lang={language}") == 403
    expect(public.see("failed")).to_be_visible()
    expect(public.page.locator("main a, header a").first).to_be_visible()
    public.within(0)


# -- water -------------------------------------------------------------------------------------------------------------


@SIZES
def test_a_week_shows_its_gap_spike_and_swap_and_its_table_says_the_same(
    site: Site, hands: Who, size: tuple[int, int]
) -> None:
    anyone = hands(CHIEF if size == PHONE else OFFICE, size)
    anyone.open(f"/stations/{WEEK}?parameter=nh3n&range=7d")
    chart = anyone.see("station-chart")
    expect(chart).to_have_attribute("data-state", "ready")
    line = anyone.see("series-line").get_attribute("d") or ""
    pieces = [[float(point.split()[0]) for point in piece.split("L")] for piece in line.split("M")[1:]]
    widest = max(after[0] - before[-1] for before, after in itertools.pairwise(pieces))
    assert widest > (pieces[-1][-1] - pieces[0][0]) / 9, "the day without readings is not joined"
    expect(anyone.see("series-legend-bad")).to_be_visible()
    query = {"parameter": "nh3n", "range": "7d"}
    body = anyone.page.request.get(f"{site.url}/stations/{WEEK}/chart", params=query).json()
    (panel,) = body["panels"]
    assert [one["kind"] for one in body["happened"]].count("swap") == 1
    assert panel["columns"]["bad"] == 1
    assert max(one for one in panel["columns"]["value"] if one is not None) < 1
    anyone.tap("station-view")
    rows = anyone.see("station-table-nh3n").locator("tbody tr")
    expect(rows).to_have_count(len(panel["columns"]["at"]))
    anyone.within(1)


@SIZES
def test_a_station_that_is_silent_for_nine_hours_is_grey_and_resolves_nothing(
    site: Site, hands: Who, size: tuple[int, int]
) -> None:
    cause = f"silent{size}"
    number = record(site.database, finding(FindingKind.THRESHOLD, now_ms() - 9 * HOUR, cause=cause, station=SILENT))[
        FindingKind.THRESHOLD
    ]
    site.ingest('[[no_data]]\nid = "silent"\ncolour = "blue"\nstations = ["' + SILENT + '"]').tick(1, now_ms())
    anyone = hands(OFFICE, size)
    anyone.open(f"/stations/{SILENT}")
    expect(anyone.see("station-state")).to_have_attribute("data-state", "offline")
    expect(anyone.see("station-state")).to_contain_text(say("console.offline").zh)
    expect(anyone.see("station-head")).to_contain_text("9小时")
    expect(anyone.page.locator(".station-badge")).to_have_class(re.compile("stale"))
    expect(anyone.see("station-incidents").locator(f"a[href='/incidents/{number}']")).to_be_visible()
    with site.database.read() as connection:
        assert incident_store.get(connection, number).is_open
    anyone.within(0)


OUTLINE = """all => all.map(badge => {
  const shape = badge.querySelector(".shape");
  return [badge.querySelector("text").textContent, shape.localName, shape.getAttribute("d") ?? ""];
})"""


@SIZES
@pytest.mark.parametrize(("kind", "language"), [("deuteranopia", "zh"), ("achromatopsia", "en")])
def test_six_reaches_are_sorted_by_class_without_telling_colours_apart(
    hands: Who, size: tuple[int, int], kind: str, language: str
) -> None:
    chief = hands(CHIEF, size)
    page = chief.page
    page.context.new_cdp_session(page).send("Emulation.setEmulatedVisionDeficiency", {"type": kind})
    chief.open(f"/rivers?lang={language}")
    badges = {key: chief.see(f"river-{key}").locator("svg.badge") for key in SIX}
    for badge in badges.values():
        badge.evaluate("one => (one.querySelector('.shape').style.fill = '#777')")
    read = {key: badge.evaluate_all(OUTLINE)[0] for key, badge in badges.items()}
    letters = {key: letter for key, (letter, *_) in read.items()}
    assert {key: SIGNS.index(letter) + 1 for key, letter in letters.items()} == SIX
    outlines = {SIX[key]: tuple(outline) for key, (_, *outline) in read.items()}
    assert outlines[1] == outlines[2], "both are good water"
    assert len(set(outlines.values())) == 5
    pictures = [badge.screenshot() for badge in badges.values()]
    assert len(set(pictures)) == 6
    chief.within(0)


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "language"), [(DESK, "zh"), (PHONE, "en")], ids=["desk", "phone"])
def test_a_missing_hour_is_explained(site: Site, hands: Who, size: tuple[int, int], language: str) -> None:
    steward = hands(ADMINISTRATOR, size)
    steward.open(f"/ledger?lang={language}")
    if beijing_day(now_ms()).month != DAY.month:
        steward.tap(steward.see("ledger-months").locator("[rel=prev]"))
    if size == PHONE:
        steward.choose(steward.see("ledger-one").locator("select"), LOSSY)
        steward.tap(steward.see("ledger-one").locator("button"))
    steward.tap(steward.page.locator(f'a.day.missing[href*="/ledger/{LOSSY}/{DAY}"]:visible'))
    assert steward.see("ledger-missing").text_content() == "6"
    gap = steward.see("ledger-gaps").locator("tbody tr")
    expect(gap).to_have_count(1)
    expect(gap.locator("b")).to_have_text(str(LOST_HOUR))
    expect(gap.locator("[data-cause]")).to_have_attribute("data-cause", "link")
    expect(gap.locator("[data-cause]")).to_have_text(getattr(say("ledger_page.cause_link"), language))
    expect(steward.see("ledger-known")).to_contain_text(f"{LOST_HOUR - 1}:50")
    steward.within(4)


def test_a_mended_message_is_replayed_twice_and_stored_once(site: Site, hands: Who) -> None:
    key = pages_site.UNREGISTERED
    steward, also = hands(ADMINISTRATOR), hands(ADMINISTRATOR)
    new = {"key": key, "zh": "示例新站", "lon": 113.09, "lat": 23.01, "parameters": ["do", "ph"]}
    assert steward.page.request.post(f"{site.url}/api/v1/stations", data=new).status == 201
    held = site.accounts(ledger.UNREGISTERED)
    steward.open("/quarantine")
    steward.tap(steward.see("quarantine-groups").locator(f'a[href*="station={key}"]'))
    steward.tap(steward.see("quarantine-entries").locator("tbody a").first)
    steward.page.wait_for_url(re.compile(r"/quarantine/\d+"))
    also.page.goto(steward.page.url)
    steward.tap("quarantine-replay")
    for one in (steward, also):
        expect(one.see("quarantine-stored")).to_have_text("2")
        expect(one.see("quarantine-refused")).to_have_text("0")
        if one is steward:
            also.tap("quarantine-replay")
            expect(also.see("quarantine-trouble")).to_be_visible()
    steward.within(3)
    also.within(1)
    (account,) = site.accounts(key)
    assert (account.stored, account.duplicate, account.quarantined, account.closed) == (2, 0, 0, True)
    assert sum(one.quarantined for one in held) - sum(one.quarantined for one in site.accounts("?")) == 2
    at = now_ms()
    assert len(site.readings.window(key, at - DAY_MS, at).at) == 2


def test_a_reviewer_invalidates_takes_back_and_says_again_and_readings_stay(site: Site, hands: Who) -> None:
    def raw() -> list[list[float]]:
        return [site.readings.window(BAD, *beijing_day_span(DAY)).value.tolist()]

    before = raw()
    reviewer = hands(ENGINEER)
    page = reviewer.page
    reviewer.open(f"/review?day={DAY}")
    expect(reviewer.see("review-clean")).to_contain_text("奇槎涌")  # a clean day asks nothing of anybody

    def column(n: int) -> list[str]:
        """What a preview says of usable readings, mean and class: now, when invalid, when valid."""
        rows = reviewer.see("review-effect-of").locator(f"tbody tr td:nth-of-type({n})")
        return [one.strip() for one in rows.all_text_contents()]

    def choose() -> list[str]:
        reviewer.tap(reviewer.see("review-stretch").first.locator("a"))
        expect(reviewer.see("review-effect")).to_be_visible()
        return column(2)

    def say_out_of_water() -> None:
        reviewer.tap(page.locator('[name=reason][value="out_of_water"]'))
        reviewer.tap("review-bad")
        expect(reviewer.see("review-done")).to_be_visible()
        expect(reviewer.see("review-stretch")).to_have_count(stretches - 1)

    reviewer.tap(page.locator(f'[data-testid="review-row"][data-station="{BAD}"] td:first-child a'))
    expect(reviewer.see("review-stretch").first).to_be_visible()
    stretches = reviewer.see("review-stretch").count()
    promised = choose()
    shown = page.url
    reviewer.fill(page.locator("[name=note]"), "异常")
    reviewer.tap("review-bad")
    expect(reviewer.see("review-wrong-reason")).to_be_visible()
    expect(page.locator("[name=note]")).to_have_value("异常")
    assert site.reviews(BAD) == []
    reviewer.fill(page.locator("[name=note]"), "")
    say_out_of_water()
    ((number, kept),) = site.reviews(BAD)
    assert (kept.parameter, kept.verdict, kept.by, kept.pending) == ("nh3n", "bad", ENGINEER, False)
    page.goto(shown)
    assert column(1) == promised
    reviewer.tap("review-undo")
    expect(reviewer.see("review-stretch")).to_have_count(stretches)
    expect(reviewer.see("review-standing")).to_have_attribute("data-standing", "open")
    assert site.reviews(BAD) == []
    assert choose() == promised
    say_out_of_water()
    ((again, _),) = site.reviews(BAD)
    assert again != number
    reviewer.within(11, refused="400")
    assert raw() == before


@pytest.mark.parametrize(("size", "language"), [(DESK, "zh"), (PHONE, "en")], ids=["desk", "phone"])
def test_an_exceedance_is_invalid_only_when_a_second_person_agrees(
    site: Site, hands: Who, size: tuple[int, int], language: str
) -> None:
    station = pages_site.STATION
    today = beijing_day(now_ms())
    first, second = hands(ENGINEER, size), hands(ADMINISTRATOR, size)
    page = first.page
    first.open(f"/review/{station}/{today}?lang={language}")
    since = max(beijing_day_span(today)[0], now_ms() - HOUR)
    first.fill(page.locator("[name=since]"), beijing(since, pages_site.FORM))
    first.fill(page.locator("[name=until]"), pages_site.from_now(MINUTE))
    first.tap(page.locator("[name=parameter][value=nh3n]"))
    first.tap(page.locator("[name=reason][value=reagent]"))
    first.tap("review-bad")
    expect(first.see("review-pending")).to_have_text(getattr(say("review.pending_now"), language))
    expect(first.see("review-confirm")).to_have_count(0)
    first.within(5)
    ((number, kept),) = site.reviews(station)
    assert (kept.pending, kept.second) == (True, "")
    second.open(f"/review?lang={language}")
    second.tap(second.see("review-waiting").locator(f'a[href*="/{station}/"]'))
    second.tap("review-confirm")
    expect(second.see("review-agreed")).to_be_visible()
    second.within(2)
    ((_, kept),) = site.reviews(station)
    assert (kept.pending, kept.second) == (False, ADMINISTRATOR)
    second.tap(second.page.locator(f"form:has([name=number][value='{number}'])").last.locator("button"))
    expect(second.see("review-done")).to_be_visible()
    assert site.reviews(station) == []


def test_a_stricter_rule_is_tried_on_ninety_days_and_nobody_is_called(site: Site, hands: Who) -> None:
    messenger = site.messenger()
    before = site.counted()
    author = hands(ENGINEER)
    page = author.page
    author.open(f"/rules/{RULE}")
    form = author.see("rules-numbers")
    author.fill(form.locator("[name=limit]"), "0.63")
    author.fill(form.locator("[name=clear]"), "0.6")
    author.fill(form.locator("[name=pending_s]"), "0")
    expect(author.see("rules-preview")).to_contain_text("0.63")
    expect(form.locator("[name=days]")).to_have_value("90")
    author.tap(form.get_by_test_id("rules-send"))
    expect(author.see("rules-progress")).to_be_visible()
    run_backtest(site.database, int(page.url.split("?")[0].rpartition("/")[2]))
    expect(author.see("rules-verdict")).to_be_visible()
    author.within(4)
    rows = author.see("rules-compared").locator("tbody tr").all()
    told = [[float(one) for one in row.locator("td.figure").all_text_contents()] for row in rows]
    incidents, pages, a_week, at_night = told[0], *told[-3:]
    assert incidents[1] > incidents[0]
    for i in (0, 1):
        assert a_week[i] == pytest.approx(pages[i] * 7 / 90, abs=0.06)
        assert at_night[i] <= pages[i]
    expect(author.see("rules-new").locator("a").first).to_have_attribute("href", re.compile("/stations/.*from="))
    messenger.make()
    assert site.counted() == before


def test_an_auditor_proves_a_case_and_finds_the_row_that_was_changed_in_a_copy(
    site: Site, hands: Who, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.database.read() as connection:
        (dispatched,) = audit_trail.list_entries(connection, what="incident.dispatched", kind="incident", id="2")
    auditor = hands(AUDITOR)
    auditor.open("/trail")
    auditor.tap("trail-verify")
    found = auditor.see("trail-found")
    expect(found).to_have_attribute("data-verdict", re.compile("^whole"), timeout=30_000)
    auditor.tap(auditor.page.locator(".tr-filter summary"))
    auditor.choose("trail-kind", "incident")
    auditor.fill("trail-id", "2")
    auditor.tap("trail-go")
    with auditor.page.expect_download() as taken:
        auditor.tap(f"trail-{dispatched.n}-proof")
    auditor.within(6)
    key, proof = tmp_path / "key.pem", tmp_path / "proof.json"
    key.write_bytes(audit_sealing.public_pem(pages_site.KEY.public_key()))
    taken.value.save_as(proof)
    assert _command("audit", "check", proof, "--key", key).exit_code == 0

    folder = tmp_path / "copy"
    folder.mkdir()
    with closing(sqlite3.connect(site.folder / "river.db", isolation_level=None)) as connection:
        connection.execute("VACUUM INTO ?", (str(folder / "river.db"),))
    copy = Database(f"sqlite:///{folder / 'river.db'}")
    unguarded(copy, f"UPDATE audit SET body = replace(body, 'dispatched', 'accepted') WHERE n = {dispatched.n}")
    copy.close()

    monkeypatch.setenv("RIVERCHIEF_DATABASE__URL", f"sqlite:///{folder / 'river.db'}")
    verified = _command("audit", "verify", "--data", folder, "--key", key, "--json")
    assert verified.exit_code == 1
    faults = json.loads(verified.output[verified.output.index("{") :])["faults"]
    assert {one["n"] for one in faults} == {dispatched.n}

    served = Site(folder)
    try:
        beside = hands(AUDITOR, PHONE, served)
        beside.open("/trail?lang=en")
        beside.tap("trail-verify")
        expect(beside.see("trail-found")).to_have_attribute("data-verdict", "broken", timeout=30_000)
        expect(beside.see("trail-first-break").locator("a")).to_have_text(str(dispatched.n))
        beside.within(1)
    finally:
        served.close()


def test_a_webhook_that_comes_again_with_the_same_id_changes_nothing(site: Site) -> None:
    with site.database.read() as connection:
        sent = connection.execute(sa.select(outbox.c.event_id, outbox.c.body).order_by(outbox.c.id).limit(1)).one()
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", sent.body.encode()
    platform = TestClient(create_receiver(secret, now_ms))

    def deliver() -> int:
        headers = cloudevents.sign(secret, sent.event_id, now_ms() // 1000, body)
        return platform.post("/events", content=body, headers=headers).status_code

    assert deliver() == 202
    held = platform.get("/events").json()
    assert deliver() == 200
    (again,) = platform.get("/events").json()
    assert again == held[0] | {"repeats": 1}


def _command(*words: object) -> Result:
    """What a command answers."""
    result = CliRunner().invoke(app, [str(one) for one in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# -- storm -------------------------------------------------------------------------------------------------------------


def test_a_gateway_that_dies_with_forty_stations_is_one_incident_and_the_inbox_holds_still(
    site: Site, hands: Who
) -> None:
    stations = [
        Station(key, f"示例{key}", key, 113.1478, 23.0205, reach=RIVER, region=GRID, interval_s=60, gateway="storm")
        for key in STORM
    ]
    at = now_ms() - HOUR
    n = len(STORM)
    with site.database.write() as connection:
        registry_store.save_stations(connection, stations)
        batch = Batch.of(list(range(n)), [KNOWN.index["do"]] * n, [at] * n, [6.0] * n)
        site.readings.write(connection, list(STORM), batch, np.full(n, int(Flag.GOOD), np.int64))
    here = site.report("示例：光标所在")
    messenger = site.messenger()
    cases, messages = site.counted()
    office = hands(OFFICE)
    office.open("/incidents?view=open")
    row = office.see(f"inbox-row-{here}")
    row.hover()
    place, rows = row.bounding_box(), _rows(office.page)

    rules = (pages_site.ROOT / "config/rules.toml").read_text(encoding="utf-8")
    silent = f'[[no_data]]\nid = "silent"\nstations = {json.dumps(STORM)}\ncolour = "orange"\n'
    storm = site.ingest(re.sub(r"(?m)^\[\[no_data\]\](\n.+)+\n", silent, rules))
    for _ in range(2):
        storm.tick(1, now_ms())
        messenger.make()
    assert site.counted()[0] == cases + 1
    assert site.counted()[1] <= messages + 2
    with site.database.read() as connection:
        number = connection.scalar(sa.select(sa.func.max(incident.c.id))) or 0

    expect(office.see("wait-show")).to_contain_text(say("inbox.new", count=1).zh)
    assert (row.bounding_box(), _rows(office.page)) == (place, rows)
    office.tap("wait-show")
    expect(office.see(f"inbox-row-{number}")).to_be_visible()
    called = site.mentions(number)
    assert 1 <= len(set(called.values())) <= 2, "one message to each, and it may tell of other things as well"
    office.tap(office.see(f"inbox-row-{number}").locator("a").first)
    expect(office.page.locator("h1")).to_contain_text("40")
    office.within(2)


def _rows(page: Page) -> list[str]:
    found: list[str] = page.locator("tr[data-step]").evaluate_all("all => all.map(one => one.dataset.testid)")
    return found


# -- the public --------------------------------------------------------------------------------------------------------


NO_STORAGE = """for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, {get() { throw new DOMException("", "SecurityError"); }});"""


@pytest.mark.parametrize("scripts", [True, False], ids=["storage blocked", "no script"])
def test_a_citizen_reads_the_sign_reports_follows_and_says_it_is_not_solved(
    browser: Browser, site: Site, scripts: bool
) -> None:
    context = browser.new_context(
        viewport={"width": PHONE[0], "height": PHONE[1]}, locale="zh-CN", java_script_enabled=scripts
    )
    context.add_init_script(NO_STORAGE)
    citizen = Hands(context.new_page(), site)
    sizes: list[int] = []
    citizen.page.on("response", lambda answer: sizes.append(len(answer.body())) if answer.status == 200 else None)
    assert citizen.open(f"/r/{RIVER}") == 200
    expect(citizen.see("report-head")).to_be_in_viewport()
    expect(citizen.see("sign-report")).to_be_in_viewport()
    citizen.page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < 60_000, "the answer is read at the bank, over a slow line"
    citizen.tap("sign-report")
    citizen.steps += 1
    photo = {"name": "河.png", "mimeType": "image/png", "buffer": pages_site.PHOTO}
    citizen.see("report-photos").set_input_files(photo)
    citizen.tap(citizen.see("report-kind-litter").locator(".."))
    citizen.fill("report-text", f"示例：桥下 {scripts}")
    citizen.tap("report-go")
    expect(citizen.see("report-thanks")).to_be_visible()
    ticket = citizen.see("report-ticket").inner_text()
    citizen.within(5)
    with site.database.read() as connection:
        number = report_of(connection, ticket).incident_id
    for who, order in WAY:
        site.act(number, order, who)
    assert site.state(number) == "closed"
    citizen.open(f"/r/{RIVER}")
    citizen.tap(citizen.page.locator('.foot a[href*="#follow"]'))
    citizen.fill("report-find", ticket.lower())
    citizen.tap(citizen.page.locator("#follow button"))
    expect(citizen.see("report-solved")).to_be_visible()
    citizen.fill("report-objection", "还在漂")
    citizen.tap("report-object")
    expect(citizen.see("report-object")).to_have_count(0)
    assert site.state(number) == "reopened"
    assert site.said(number)[-1][2] == "还在漂"
    citizen.within(10)
    assert context.cookies() == []
    context.close()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is named so, or begins with it, has the keyboard."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(f":focus[data-testid^={name}]").count():
            return
    pytest.fail(f"no Tab leads to {name}")


def test_a_citizen_reports_with_the_keyboard_alone(browser: Browser, site: Site) -> None:
    page = browser.new_context(locale="zh-CN").new_page()
    page.goto(f"{site.url}/r/{RIVER}")
    tab_to(page, "sign-report")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("report-text")).to_be_visible()
    tab_to(page, "report-kind-")
    page.keyboard.press("Space")
    tab_to(page, "report-text")
    page.keyboard.type("示例：桥下有垃圾")
    tab_to(page, "report-go")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("report-thanks")).to_be_visible()
    page.context.close()
