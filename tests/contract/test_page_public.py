"""The pages without an account: the map of all waters, and that no page contradicts what is open or measured."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api.app import create_app
from api.context import Context
from api.pages import assets
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange, FindingKind
from governance.incidents.model import FINAL_STATES, Action, Order, Source, State
from governance.organisation.regions import Place
from governance.tables import incident, report
from infra.database import Database
from infra.errors import WaterError
from infra.times import beijing
from ingest.analysis import live_classes
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from ingest.storage.tables import live_class
from sensors.network import Level, Region
from sensors.parameters import catalogue
from sensors.reading import PLAIN, Batch
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Reach, Registry, Station, Water
from tests.cases import OFFICE, OPERATOR, WAY, a_finding
from tests.databases import with_tables
from tests.says import shows

MINUTE, T0 = 60_000, 1_790_000_040_000
KNOWN = catalogue()
STREET = Region("north", "北街", "North Street", Level.STREET)
MEASURED = ("ph", "do", "nh3n")
STATIONS = tuple(
    Station(
        key, zh, key, lon, 23.0, reach=reach, region="north", water=Water.CREEK, interval_s=300, parameters=MEASURED
    )
    for key, zh, lon, reach in (
        ("up", "上", 113.10, "creek"),
        ("down", "下", 113.11, "creek"),
        ("side", "旁", 113.2, "pond"),
    )
)
REACHES = (
    Reach("creek", "示例涌", "Example Creek", Water.CREEK, ((113.1, 23.0), (113.12, 23.0)), target=WaterClass.IV),
    Reach("pond", "示例湖", "Example Pond", Water.LAKE, ((113.2, 23.0), (113.21, 23.0))),
    Reach("ditch", "示例沟", "Example Ditch", Water.CREEK, ()),
)
RANK = [Colour.RED, Colour.ORANGE, Colour.YELLOW, Colour.BLUE]


@dataclass
class Site:
    """A site whose past is made up as it goes: what was measured, what was found, what people did."""

    database: Database
    now_ms: int = T0
    measured: dict[str, set[int]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        with_tables(self.database)
        with self.database.write() as connection:
            registry_store.save(connection, Registry(STATIONS, (), REACHES, KNOWN, regions=(STREET,)))
        self.store = SqlReadings(self.database, KNOWN)
        self.context = Context(
            self.database, self.store, KNOWN, "/test", lambda: self.now_ms, open=True, reports_an_hour=10_000
        )
        self.public = TestClient(create_app(self.context))

    def measure(self, station: str, values: dict[str, float], ago: int = 0) -> None:
        at = self.now_ms - ago * MINUTE
        batch = Batch.of(
            [0] * len(values), [KNOWN.index[one] for one in values], [at] * len(values), [*values.values()]
        )
        with self.database.write() as connection:
            self.store.write(connection, (station,), batch, np.full(len(values), PLAIN))
        self.measured.setdefault(station, set()).add(at)

    def judge(self) -> None:
        live_classes.update_classes(self.database, self.store, KNOWN, self.now_ms)

    def find(self, station: str, **more: Any) -> None:
        found = a_finding(self.now_ms, **{"rule": "r", "cause": f"{station}/r", "station": station} | more)
        with self.database.write() as connection:
            incident_store.record_findings(connection, [found], self.now_ms, source="/test")

    def say(self, reach: str) -> str:
        sent = self.public.post(
            "/report", data={"text": f"第{next(self.numbers)}处", "reach": reach}, follow_redirects=False
        )
        assert sent.status_code == 303, sent.text
        return str(sent.headers["location"]).split("?")[0]

    def rows(self, table: sa.Table) -> list[sa.RowMapping]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(table)).mappings())

    def act(self, number: int, order: Order, who: Any = OPERATOR) -> None:
        with self.database.write() as connection:
            incident_store.apply_action(connection, number, order, who, now_ms=self.now_ms, source="/test")


@pytest.fixture
def site(tmp_path: Any) -> Iterator[Site]:
    database = Database(f"sqlite:///{tmp_path / 'river.db'}")
    yield Site(database)
    database.close()


GOOD = {"ph": 7.2, "do": 8.0, "nh3n": 0.1}


# -- the map -----------------------------------------------------------------------------------------------------------


def test_the_map_says_how_each_water_is_without_script_and_in_little_weight(site: Site) -> None:
    site.measure("up", GOOD | {"nh3n": 1.2})
    site.judge()
    site.find("side", colour=Colour.RED)
    page = site.public.get("/public")
    assert (page.status_code, len(page.content) < 60_000) == (200, True)
    assert "unsafe" not in page.headers["content-security-policy"]
    waters = re.findall(r'data-testid="map-water-(\w+)" data-class="(\d)" data-warning="(\w*)"', page.text)
    assert waters == [("pond", "0", "red"), ("creek", "4", ""), ("ditch", "0", "")], "what is warned of comes first"
    assert 'data-testid="map-warnings"' in page.text
    assert 'href="/r/creek"' in page.text
    assert page.text.index('class="sheet"') < page.text.index('data-testid="map-list"')
    assert 'href="/public"' in site.public.get("/r/creek").text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=示例湖", {"pond"}),
        ("q=example+CREEK", {"creek"}),
        ("q=北街", {"creek", "pond"}),
        ("q=%3Cscript%3E", set()),
        ("class=4", {"creek"}),
        ("class=0", {"pond", "ditch"}),
        ("class=x&show=-1", {"creek", "pond", "ditch"}),
    ],
)
def test_a_water_is_found_by_its_name_its_street_and_its_class(site: Site, query: str, found: set[str]) -> None:
    site.measure("up", GOOD | {"nh3n": 1.2})
    site.judge()
    page = site.public.get(f"/public?{query}&lang=en").text
    assert set(re.findall(r'data-testid="map-water-(\w+)"', page)) == found
    assert "<script>" not in page.replace("<script type", "")


def test_the_map_tells_neither_stations_nor_incidents_nor_what_somebody_is_accused_of(site: Site) -> None:
    ticket = site.say("creek")
    site.find("up", colour=Colour.ORANGE)
    page, data = site.public.get("/public").text, site.public.get("/public/data")
    found = data.json()
    assert (found["stations"], len(found["incidents"])) == ([], 1)
    assert {one["href"] for one in (*found["reaches"], *found["incidents"])} == {"/r/creek", "/r/pond", "/r/ditch"}
    for text in (page, data.text):
        assert not re.search(r"第0处|/incidents/\d|/stations/", text)
        assert ticket.rsplit("/", 1)[1] not in text
    assert site.public.get("/public", headers={"Origin": "https://elsewhere.example"}).status_code == 200


def test_a_shared_link_says_what_it_leads_to_and_a_ticket_is_not_for_search_engines(site: Site) -> None:
    sign, ticket = site.public.get("/r/creek").text, site.public.get(site.say("creek")).text
    assert '<meta property="og:title" content="示例涌">' in sign
    assert shows(sign, "citizen.share")
    assert 'name="robots" content="noindex"' in ticket
    assert "og:" not in ticket
    assert 'name="format-detection" content="telephone=no"' in ticket


def test_the_form_asks_of_a_browser_no_modules_and_no_newer_syntax() -> None:
    script = (assets.STATIC / assets.url("public.js").rsplit("/", 1)[1]).read_text(encoding="utf-8")
    assert not re.search(r"\bimport\b|\bexport\b|\?\?|\?\.[a-z]|\|\|=|catch\{", script)


# -- no page contradicts another, or what is known ---------------------------------------------------------------------


KINDS = (*[FindingKind.THRESHOLD] * 4, FindingKind.EVENT, FindingKind.DEVICE, FindingKind.NO_DATA, FindingKind.FORECAST)


class History:
    """A random past: each step is something that happens at a site."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.random = site, Random(seed)
        self.tickets: list[str] = []
        self.fired: list[dict[str, Any]] = []

    def step(self, name: str = "") -> None:
        """What ``name`` says, or anything."""
        site, random = self.site, self.random
        site.now_ms += random.choice((1, 4, 7, 25, 180)) * MINUTE
        usual = (self.measure, self.measure, self.measure, self.fire, self.fire, self.resolve)
        people = (self.say, self.work, self.work, self.work, self.close, self.merge)
        done = getattr(self, name) if name else random.choice((*usual, *people) if site.rows(incident) else usual)
        with suppress(WaterError):  # what may not be done now is not done
            done()
        site.judge()

    def measure(self) -> None:
        for station in self.random.sample(STATIONS, self.random.randint(1, 3)):
            values = {
                "ph": 7.2,
                "do": self.random.choice((8.0, 4.0, 1.0)),
                "nh3n": self.random.choice((0.1, 0.9, 1.8, 6.0)),
            }
            self.site.measure(station.key, values, ago=self.random.choice((0, 0, 2)))

    def fire(self) -> None:
        kind, station = self.random.choice(KINDS), self.random.choice(STATIONS)
        colour, late = self.random.choice(RANK), self.random.random() < 0.15
        found = {"rule": f"{kind}", "cause": f"{station.key}/{kind}/{late}", "kind": kind, "retrospective": late}
        self.fired.append({**found, "station": station.key, "colour": colour})
        self.site.find(**self.fired[-1])

    def resolve(self) -> None:
        if self.fired:
            self.site.find(**self.random.choice(self.fired), change=ConditionChange.RESOLVED)

    def say(self) -> None:
        reach = self.random.choice(REACHES).key
        if self.random.random() < 0.5:
            self.tickets.append(self.site.say(reach))
        else:
            order = Order(Action.ACCEPT, comment=f"电话{self.site.now_ms}")
            with self.site.database.write() as connection:
                incident_store.file_report(
                    connection,
                    order,
                    OFFICE,
                    colour=self.random.choice(RANK),
                    origin=Source.HOTLINE,
                    place=Place("", reach),
                    now_ms=self.site.now_ms,
                    source="/test",
                )

    def one(self) -> int:
        return int(self.random.choice(self.site.rows(incident))["id"])

    def work(self) -> None:
        action = self.random.choice((Action.ACCEPT, Action.REJECT, Action.FALSE_ALARM, Action.REOPEN, Action.DISPATCH))
        number, reason = self.one(), "natural" if action is Action.FALSE_ALARM else ""
        self.site.act(number, Order(action, comment="示例", reason=reason))

    def close(self) -> None:
        number = self.one()
        for who, order in WAY:
            with suppress(WaterError):
                self.site.act(number, order, who)

    def merge(self) -> None:
        self.site.act(self.one(), Order(Action.MERGE, comment="示例", into=self.one()))


def expected_warning(site: Site, reach: str) -> tuple[str, int] | None:
    """By the table alone: the colour and begin of what goes on in the water of a reach."""
    on = {station.key for station in STATIONS if station.reach == reach}
    going_on = [
        row
        for row in site.rows(incident)
        if State(row["state"]) not in FINAL_STATES
        and (row["reach"] == reach or row["station"] in on)
        and row["kind"] not in ("device", "no_data", "forecast")
        and not row["retrospective"]
        and row["recovered_at_ms"] is None
        and (row["kind"] != "report" or row["colour"] == "red")
    ]
    if not going_on:
        return None
    colour = min((row["colour"] for row in going_on), key=RANK.index)
    return colour, min(row["since_ms"] for row in going_on if row["colour"] == colour)


def moment(site: Site, at_ms: int) -> str:
    same_day = beijing(at_ms, "%Y-%m-%d") == beijing(site.now_ms, "%Y-%m-%d")
    return beijing(at_ms, "%H:%M" if same_day else "%m-%d %H:%M")


def check_reach(site: Site, reach: str, rows: dict[str, tuple[str, str]], row_of: dict[str, str]) -> None:
    """The sign and the map's row of a reach against the tables."""
    page = site.public.get(f"/r/{reach}").text
    expected = expected_warning(site, reach)
    states = re.findall(r'data-testid="report-water-(\w+)"', page)
    on = [station.key for station in STATIONS if station.reach == reach]
    alive = [one for one in on if site.now_ms - max(site.measured.get(one, {0})) <= 3 * 300_000]
    live = {row["key"]: row for row in site.rows(live_class) if row["kind"] == "reach"}[reach]
    letter = int(live["class"] or 0) if alive else 0
    warns = expected is not None and expected[0] != "blue"
    assert re.findall(r'data-testid="report-water" data-class="(\d)"', page) == [str(letter)]
    assert rows[reach] == (str(letter), expected[0] if expected and warns else ""), "the map says what the sign says"
    if expected is None:
        assert states == (["calm"] if letter else []), "no data is no good news"
    else:
        assert states == [expected[0]]
        assert moment(site, expected[1]) in page
    assert ('role="alert"' in page) == warns
    head = re.findall(r'data-testid="report-head">([^<]+)<', page)[0]
    for inviting in (1, 2, 3):
        assert not (warns and shows(head, f"citizen.head_{inviting}")), "nobody is invited to water that is warned of"
    if live["class"]:
        shown = re.findall(r'data-testid="report-measured">([^<]+)<', page)[0]
        times = {
            at
            for one in on
            for at in site.measured.get(one, ())
            if shows(shown, "citizen.measured", at=moment(site, at))
        }
        assert live["measured_ms"] in times, "the time is that of a reading, not of its judgement"
        if letter:
            assert f">{moment(site, live['measured_ms'])}</time>" in row_of[reach]


def check_ticket(site: Site, ticket: str) -> None:
    """The page of a ticket against the case that decides."""
    cases = {row["id"]: row for row in site.rows(incident)}
    kept = {row["ticket"]: row for row in site.rows(report)}[ticket.rsplit("/", 1)[1]]
    case = cases[kept["incident_id"]]
    while case["merged_into"] is not None:
        case = cases[case["merged_into"]]
    page = site.public.get(ticket).text
    state = re.findall(r'data-testid="report-state">([^<]+)<', page)[0]
    assert shows(state, f"report.{case['state']}")
    over = State(case["state"]) in FINAL_STATES
    assert not ("report-solved" in page and not over), "an open case is not asked about as solved"
    assert ('data-testid="report-object"' in page) == over


def check_handled(site: Site, reach: str) -> None:
    """What the sign calls handled is closed, and nothing of it goes on elsewhere."""
    page = site.public.get(f"/r/{reach}").text
    done = [
        row
        for row in site.rows(incident)
        if row["kind"] == "report" and row["reach"] == reach and row["state"] == "closed" and row["merged_into"] is None
    ]
    listed = page.partition('data-testid="report-handled"')[2].partition("</section>")[0].count("<li>")
    assert listed == min(3, len(done))


@pytest.mark.parametrize("seed", range(6))
def test_sign_map_and_ticket_never_contradict_what_is_open_and_what_was_measured(site: Site, seed: int) -> None:
    history = History(site, seed)
    each = ("measure", "fire", "resolve", "say", "fire", "work", "close", "merge")
    for name in (*each, *[""] * 24):
        history.step(name)
        page = site.public.get("/public").text
        rows = {
            key: (letter, colour)
            for key, letter, colour in re.findall(
                r'data-testid="map-water-(\w+)" data-class="(\d)" data-warning="(\w*)"', page
            )
        }
        row_of = {one.partition('"')[0]: one for one in page.split('data-testid="map-water-')[1:]}
        found = site.public.get("/public/data").json()
        assert {one["key"]: str(one["class"]) for one in found["reaches"]} == {key: row[0] for key, row in rows.items()}
        assert len(found["incidents"]) == sum(bool(rows[one.key][1]) for one in REACHES if one.line)
        for reach in REACHES:
            check_reach(site, reach.key, rows, row_of)
            check_handled(site, reach.key)
        for ticket in history.tickets[-4:]:
            check_ticket(site, ticket)


# -- what people send --------------------------------------------------------------------------------------------------


def test_what_is_sent_ten_times_is_one_report_and_a_script_in_it_is_text_everywhere(site: Site) -> None:
    form = {"text": "<script>alert(1)</script>", "reach": "creek", "kind": "litter"}
    tickets = {site.public.post("/report", data=form).url.path for _ in range(10)}
    assert (len(tickets), len(site.rows(report)), len(site.rows(incident))) == (1, 1, 1)
    for path in (*tickets, "/r/creek", "/public", "/public/data"):
        assert "<script>alert" not in site.public.get(path).text


def test_a_rejection_is_objected_to_with_words_and_only_so(site: Site) -> None:
    ticket = site.say("creek")
    site.act(1, Order(Action.REJECT, comment="现场未发现"))
    page = site.public.get(ticket).text
    assert ("report-object" in page, "report-solved" in page, "现场未发现" in page) == (True, False, True)
    assert site.public.post(ticket, data={"verdict": "unsolved", "comment": " "}).status_code == 409
    assert site.rows(incident)[0]["state"] == "rejected"
    assert site.public.post(ticket, data={"verdict": "unsolved", "comment": "还在"}).status_code == 200
    assert site.rows(incident)[0]["state"] == "reopened"


def test_behind_a_proxy_the_sender_is_whom_a_trusted_proxy_names_and_nobody_names_themselves(site: Site) -> None:
    app = create_app(replace(site.context, reports_an_hour=1))

    def send(proxy: str, sender: str, text: str) -> int:
        client = TestClient(ProxyHeadersMiddleware(app, trusted_hosts="192.0.2.1"), client=(proxy, 1))
        form = {"text": text, "reach": "creek"}
        sent = client.post("/report", data=form, headers={"X-Forwarded-For": sender}, follow_redirects=False)
        return int(sent.status_code)

    assert [send("192.0.2.1", f"198.51.100.{n}", f"第{n}处") for n in (1, 2)] == [303, 303]
    assert send("192.0.2.1", "198.51.100.1", "又一处") == 429
    assert [send("203.0.113.9", f"198.51.100.{n}", f"第{n}处") for n in (3, 4)] == [303, 429]
