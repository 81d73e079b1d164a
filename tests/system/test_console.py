"""The start page in a real browser: a server process of its own, a real database, readings through the real ingest."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

import ingest.storage.tables  # noqa: F401  (the tables must be known before they are created)
from api import access
from governance.incidents import store as incident_store
from governance.incidents.model import State
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from ingest.pipeline import Site
from ingest.rules import model as rule_model
from ingest.storage import registry as registry_store
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import free_port
from sensors import registry_toml
from sensors.parameters import catalogue
from sensors.reading import Message
from sensors.wire.telemetry import Sample, Telemetry, encode
from tests.databases import with_tables
from tests.rig import answers

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
MINUTE = 60_000
BAD, OTHER, SILENT = "qcc-huanhu-3", "dph-shiwan-1", "shiwan-lake-2"
RED = "#c62828"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason="Chromium is not installed"),
]

SERVER = """
import gc, sys, time
gc.disable()  # as riverchief.__main__ while it loads
import uvicorn
import governance.tables
from api.app import create_app
from api.console.mount import mount
from api.context import Context
from infra.database import Database
from ingest.storage.sql import SqlReadings
from sensors.parameters import catalogue

gc.freeze()
gc.enable()
database = Database(sys.argv[1])
context = Context(
    database=database,
    store=SqlReadings(database, catalogue()),
    catalogue=catalogue(),
    source="/riverchief/test",
    clock_ms=lambda: time.time_ns() // 1_000_000,
    token=sys.argv[3] or None,
    open=not sys.argv[3],
)
app = create_app(context)
mount(app, context)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class River:
    """A running console and the ingest that feeds the same database."""

    url: str
    site: Site
    database: Database
    seq: dict[str, int] = field(default_factory=dict)

    def publish(self, station: str, *samples: Sample) -> None:
        seq = self.seq[station] = self.seq.get(station, -1) + 1
        payload = encode(Telemetry(samples, seq=seq, boot=1, sent_at_ms=now_ms()))
        self.site.process([Message(station, payload, now_ms())], now_ms())

    def pollute(self, station: str, nh3n: float = 8.4) -> None:
        """A plume arrives within two minutes: it climbs as fast as water can and stays where it is now."""
        values = [0.65]
        while values[-1] < nh3n:
            values.append(min(nh3n, round(1.2 * values[-1] + 0.25, 3)))
        values += [nh3n] * 3
        end = now_ms()
        self.publish(station, *(Sample(end - 8_000 * (len(values) - i), {"nh3n": v}) for i, v in enumerate(values, 1)))


@contextmanager
def running(folder: Path, token: str = "") -> Iterator[River]:
    """A console over a river of its own; ``token`` is asked of everybody, empty: nobody is asked."""
    database = Database(f"sqlite:///{folder / 'river.db'}")
    with_tables(database)
    registry = registry_toml.read((ROOT / "config/stations.toml").read_text(encoding="utf-8"), catalogue())
    with database.write() as connection:
        registry_store.save(connection, registry)
    store = SqlReadings(database, catalogue())
    in_force = rule_model.read((ROOT / "config/rules.toml").read_text(encoding="utf-8"), catalogue())
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(database.url), str(port), token], cwd=ROOT, env=environment
    )
    river = River(f"http://127.0.0.1:{port}", Site(database, store, in_force, catalogue()), database)
    for station, hours in ((BAD, 6), (OTHER, 3)):
        start = now_ms() - hours * 60 * MINUTE
        times = range(start, now_ms() - 4 * MINUTE, 5 * MINUTE)
        river.publish(
            station,
            *(
                Sample(at, {"nh3n": round(0.6 + 0.01 * (i % 9), 3), "do": 6.2 + 0.01 * (i % 7)})
                for i, at in enumerate(times)
            ),
        )
    try:
        answers(river.url, server)
        yield river
    finally:
        server.terminate()
        server.wait(timeout=20)
        database.close()


@pytest.fixture
def river(tmp_path: Path) -> Iterator[River]:
    """One to pollute: what it opens is the first there ever was."""
    with running(tmp_path) as river:
        yield river


@pytest.fixture(scope="module")
def shared_river(tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    with running(tmp_path_factory.mktemp("river")) as river:
        yield river


@pytest.fixture
def any_river(shared_river: River) -> River:
    """One that others used before: a start of the server is the longest part of a test."""
    shared_river.publish(BAD, Sample(now_ms(), {"nh3n": 0.63, "do": 6.2}))  # its readings are never late
    return shared_river


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=15_000)  # of a busy machine
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what it must not do: ask other hosts, or complain on its console."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def look(self, url: str) -> Page:
        def asked(request: Request) -> None:
            if not request.url.startswith((url.partition("/?")[0], "data:", "blob:")):
                self.foreign.append(request.url)

        self.page.on("request", asked)
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        expect(self.page.locator("[data-map-state=shown]")).to_be_visible()
        expect(row(self.page, BAD)).to_have_attribute("data-state", "normal")
        return self.page


@pytest.fixture(params=[(1440, 900), (390, 844)], ids=["desk", "phone"])
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    watched = Watched(context.new_page())
    yield watched
    context.close()
    assert watched.foreign == []
    assert watched.complaints == []


@pytest.fixture
def desk(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def row(page: Page, station: str) -> Any:
    return page.locator(f"[data-testid=start-stations] [data-station={station}]")


def painted(page: Page, station: str) -> str:
    """The colour of the pixel the canvas holds at a station's mark."""
    return str(page.eval_on_selector("[data-testid=start-map]", "(map, key) => map.colourAt(key)", station))


def too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def too_small(page: Page) -> list[str]:
    """Texts on the page drawn below 12 px."""
    return list(
        page.evaluate("""() => [...document.querySelectorAll("body *")].filter(element =>
            [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && element.checkVisibility()
            && parseFloat(getComputedStyle(element).fontSize) < 12).map(element => element.textContent.trim())""")
    )


def test_a_polluted_station_turns_red_without_a_reload_and_is_accepted_by_name(river: River, watched: Watched) -> None:
    page = watched.look(river.url)
    expect(page.get_by_test_id("start-stations").locator("li")).to_have_count(24)
    expect(row(page, BAD)).to_have_attribute("data-colour", "")
    expect(row(page, SILENT)).to_have_attribute("data-state", "never")
    assert painted(page, BAD) == "#22363a"
    expect(page.get_by_test_id("start-incidents-empty")).to_be_visible()
    page.evaluate("window.sameDocument = true")

    river.pollute(BAD)

    expect(row(page, BAD)).to_have_attribute("data-colour", "red")
    assert painted(page, BAD) == RED
    expect(row(page, OTHER)).to_have_attribute("data-colour", "")
    with river.database.read() as connection:
        found = incident_store.list_incidents(connection, open_only=True, limit=10)
    red = next(incident for incident in found if incident.colour == "red")
    entry = page.get_by_test_id(f"start-incident-{red.id}")
    expect(entry).to_contain_text("奇槎涌环湖花园段下游")
    expect(entry).to_contain_text("劣Ⅴ类，限值2.0")
    expect(entry).not_to_contain_text("Qicha Creek")
    expect(page.get_by_test_id("start-counts-red")).to_contain_text("1")

    page.get_by_test_id(f"start-incident-{red.id}-accept").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-dialog-error")).to_contain_text("谁")  # refused: no name was given
    assert too_small(page) == []
    page.get_by_test_id("start-dialog-name").fill("李某")
    page.get_by_test_id("start-dialog-confirm").click()

    expect(entry).to_contain_text("已受理（李某）")
    expect(page.get_by_test_id(f"start-incident-{red.id}-accept")).to_have_count(0)
    expect(page.get_by_test_id(f"start-incident-{red.id}-close")).to_have_count(0)  # the water is not back yet
    with river.database.read() as connection:
        stored = incident_store.get(connection, red.id)
    assert (stored.state, stored.accepted_by) == (State.ACCEPTED, "李某")
    assert page.evaluate("window.sameDocument") is True
    assert not too_wide(page)


def test_the_choice_stands_in_the_url_and_survives_a_reload(any_river: River, desk: Page) -> None:
    page = Watched(desk).look(any_river.url)
    place = page.eval_on_selector("[data-testid=start-map]", "(map, key) => map.placeOf(key)", OTHER)
    page.get_by_test_id("start-map").click(position={"x": place["x"], "y": place["y"]})
    expect(page.get_by_test_id("start-chart-station")).to_have_text("东平河石湾段上游")
    page.get_by_test_id("start-parameter-do").click()
    page.get_by_test_id("start-range-7d").click()
    expect(page.get_by_test_id("start-sentence")).to_contain_text("溶解氧")
    page.wait_for_url(f"**/?station={OTHER}&parameter=do&range=7d")

    page.reload()

    expect(page.get_by_test_id("start-chart-station")).to_have_text("东平河石湾段上游")
    expect(page.get_by_test_id("start-range-7d")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("start-parameter-do")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("start-chart").locator("canvas")).to_be_visible()
    page.get_by_test_id("start-table").click()
    expect(page.get_by_test_id("start-chart-table")).to_contain_text("6.2")
    page.get_by_test_id("start-lang-en").click()
    expect(page.get_by_test_id("start-chart-station")).to_have_text("Dongping River, Shiwan 1 (upper end)")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_list_is_the_map_for_the_keyboard(any_river: River, desk: Page) -> None:
    page = Watched(desk).look(any_river.url)
    page.keyboard.press("/")
    page.keyboard.type("石湾公园湖东")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("start-chart-station")).to_have_text("石湾公园湖东侧")
    expect(page.get_by_test_id("start-chart-empty")).to_contain_text(f"rivers/v1/{SILENT}/telemetry")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("start-list-toggle")).to_have_attribute("aria-expanded", "false")


def test_a_cut_connection_is_said_and_a_half_written_comment_survives_it(any_river: River, desk: Page) -> None:
    page = Watched(desk).look(any_river.url)
    any_river.pollute(BAD)
    page.locator("[data-testid^=start-incident-][data-testid$=-accept]").first.click()
    page.get_by_test_id("start-dialog-name").fill("王某")
    page.get_by_test_id("start-dialog-comment").fill("正在赶往现场")
    page.evaluate("window.sameDocument = true; window.socket.io.engine.close()")
    page.context.set_offline(True)
    expect(page.get_by_test_id("start-stale")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_test_id("start-stale")).to_be_hidden(timeout=30_000)
    assert page.evaluate("window.sameDocument") is True
    expect(page.get_by_test_id("start-dialog-comment")).to_have_value("正在赶往现场")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-incidents")).to_contain_text("王某")


def test_where_the_site_is_not_open_nobody_looks_or_acts_without_signing_in(tmp_path: Path, desk: Page) -> None:
    with running(tmp_path, "a-secret-of-this-site") as river:
        signs_in(river, desk)


def signs_in(river: River, desk: Page) -> None:
    """Somebody with a token looks and acts under their name, until they are removed."""
    database = river.database
    with database.write() as connection:
        people_store.add(connection, "李某（示例）", Role.OPERATOR, by="test", now_ms=now_ms())
        known = people_store.issue_token(connection, "李某（示例）", by="test", now_ms=now_ms())
    river.pollute(BAD)
    desk.goto(river.url)
    desk.get_by_test_id("login-token").fill("guessed")
    desk.get_by_test_id("login-go").click()
    expect(desk.locator("[role=alert]")).to_contain_text("登录码无效")
    desk.get_by_test_id("login-token").fill(known)
    desk.get_by_test_id("login-go").click()
    desk.locator("[data-testid^=start-incident-][data-testid$=-accept]").first.click()
    expect(desk.get_by_test_id("start-dialog-name")).to_have_count(0)  # it stands under the name signed in with
    desk.get_by_test_id("start-dialog-confirm").click()
    expect(desk.get_by_test_id("start-incidents")).to_contain_text("李某（示例）")
    with database.write() as connection:
        assert incident_store.counts(connection).by_state[State.ACCEPTED] == 1
    desk.locator("[data-testid^=start-incident-][data-testid$=-dispatch]").first.click()
    desk.get_by_test_id("start-dialog-comment").fill("请今天内处理（示例）")
    with database.write() as connection:
        people_store.revoke_tokens(connection, "李某（示例）", by="test", now_ms=now_ms())
    time.sleep(access.RECENT_S)
    desk.get_by_test_id("start-dialog-confirm").click()
    expect(desk.get_by_test_id("start-dialog-error")).to_contain_text("登录已失效")
    expect(desk.get_by_test_id("start-dialog-comment")).to_have_value("请今天内处理（示例）")
    expect(desk.get_by_test_id("start-error").get_by_role("link")).to_have_attribute("href", "/login?next=%2F")
    with database.write() as connection:
        assert incident_store.counts(connection).by_state[State.ACCEPTED] == 1
        people_store.add(connection, "管理员（示例）", Role.ADMINISTRATOR, by="test", now_ms=now_ms())
        people_store.remove(connection, "李某（示例）", by="test", now_ms=now_ms())
    time.sleep(access.RECENT_S)
    desk.goto(river.url)
    expect(desk.get_by_test_id("login-token")).to_be_visible()


def test_every_script_of_the_page_carries_the_nonce_of_its_policy_and_the_api_keeps_its_own_words(
    any_river: River,
) -> None:
    first, second = (httpx.get(any_river.url, headers={"Accept-Encoding": "gzip"}, timeout=60) for _ in range(2))
    policy = first.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert len(nonce) > 16
    assert nonce not in second.text
    assert first.text.count("<script") == first.text.count(f'<script nonce="{nonce}"') > 5
    assert "http:" not in policy
    assert "https:" not in policy
    unknown = httpx.get(f"{any_river.url}/api/v1/nothing-here", timeout=60)
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert httpx.delete(f"{any_river.url}/api/v1/reaches", timeout=60).status_code == 405
    assert httpx.get(f"{any_river.url}/metrics", timeout=60).headers["content-type"].startswith("text/plain")
