"""The base of the pages: whole and in fragments, in both languages, under a strict policy; the live channel."""

import ast
import asyncio
import itertools
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from jinja2 import nodes
from starlette.testclient import TestClient

from api.access import AS_COOKIE, packed
from api.app import create_app
from api.pages import assets, live
from api.pages.menu import ENTRIES
from api.pages.models import wall as wall_models
from api.pages.models.drawing import Box, Mark, Sizes, Water, draw
from api.pages.models.overview import Model
from api.pages.view import TEMPLATES, PageRoute
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order, Source
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from governance.people import store as people_store
from governance.tables import presence
from infra.database import Database
from infra.texts import keys, say, template
from sensors import registry_toml
from sensors.parameters import catalogue
from sensors.standards.gb3838 import WaterClass
from sensors.stations import Registry
from tests import pages_site
from tests.pages_site import OFFICE, RIVER, STATION


@pytest.fixture(scope="module")
def database(database: Database) -> Database:
    pages_site.public_past(database)
    return database


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return TestClient(app, headers={"Accept": "text/html"}, raise_server_exceptions=False)


class _Page(HTMLParser):
    """What a test asks of a page: scripts and styles within it, and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if given.get("id"):
            self.ids.append(str(given["id"]))


PAGES = (
    *(entry.path for entry in ENTRIES),
    *("/kit", "/kit?theme=wall", "/incidents/1", "/incidents?view=all", f"/board?incident={1}", f"/rivers/{RIVER}"),
    *(f"/stations/{STATION}", f"/?station={STATION}", f"/?reach={RIVER}", "/?view=list", f"/maintenance/{STATION}"),
    *(f"/registry/stations/{STATION}", f"/people/{OFFICE}", "/reported/new", "/account", "/login"),
)
CODES = ("市民 citizen", "本机 local", "wecombot", "jsons?://", "nh3n-double-class-five", "Schematic")
"""What a page says in words, if it says it outside of code and bytes."""


@pytest.mark.parametrize("path", [*PAGES, *pages_site.PUBLIC_PAGES, "/wall?lang=en", "/?lang=en", "/incidents?lang=en"])
def test_a_page_runs_no_script_and_no_style_that_stands_in_it(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    page = _Page(answer.text)
    assert page.inline == (["style"] if path in pages_site.PUBLIC_PAGES else []), "its digest is in the policy"
    assert len(page.ids) == len(set(page.ids))
    shown = re.sub(r"<code.*?</code>|<span class=.bytes.*?</span>|<[^>]*>", " ", answer.text)
    assert [code for code in CODES if re.search(rf"\b{code}\b", shown)] == []


def test_a_block_that_changed_is_answered_alone_and_is_what_the_page_shows(browser: TestClient) -> None:
    whole = browser.get("/wall").text
    part = browser.get("/wall", headers={"X-Fragments": "figures,worst,nothing"}).text
    assert part.startswith('<div data-fragment="figures">')
    assert part.count("data-fragment=") == 2
    assert "<html" not in part
    for block in ("figures", "worst"):
        inner = part.split(f'data-fragment="{block}">', 1)[1].split("</div><div data-fragment", 1)[0]
        assert inner.removesuffix("</div>").strip() in whole


@pytest.mark.parametrize("path", PAGES)
def test_each_live_block_of_a_page_is_answered_alone(browser: TestClient, path: str) -> None:
    names = re.findall(r'id="([^"]+)"[^>]*data-live="', browser.get(path).text)
    names += re.findall(r'data-live="[^"]*"[^>]*?\bid="([^"]+)"', browser.get(path).text)
    if not names:
        return
    part = browser.get(path, headers={"X-Fragments": ",".join(names)})
    assert part.status_code == 200
    assert part.text.count("data-fragment=") == len(set(names))


def test_each_block_that_is_live_is_a_block_of_its_template(browser: TestClient) -> None:
    for name in TEMPLATES.list_templates():
        template = TEMPLATES.get_template(name)
        source, _, _ = TEMPLATES.loader.get_source(TEMPLATES, name)  # type: ignore[union-attr]
        for piece in source.split("data-live=")[1:]:
            tag = source[: source.index(piece)].rsplit("<", 1)[1] + piece.split(">", 1)[0]
            block = tag.split('id="', 1)[1].split('"', 1)[0]
            assert block in template.blocks, f"{name}: {block}"


def _said() -> Iterator[tuple[str, str, set[str]]]:
    """Every ``v.say(…)`` of templates and pages: the file, the key with * for a filled-in part, the values given."""
    for name in TEMPLATES.list_templates():
        source, _, _ = TEMPLATES.loader.get_source(TEMPLATES, name)  # type: ignore[union-attr]
        for call in TEMPLATES.parse(source).find_all(nodes.Call):
            if isinstance(call.node, nodes.Getattr) and call.node.attr == "say" and call.args:
                for key in _keys_of(call.args[0]):
                    yield name, key, {one.key for one in call.kwargs}
    for path in Path(assets.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "say":
                first = call.args[0]
                if isinstance(first, ast.Constant):
                    yield path.name, str(first.value), {str(one.arg) for one in call.keywords}
                elif isinstance(first, ast.JoinedStr):
                    parts = (str(p.value) if isinstance(p, ast.Constant) else "*" for p in first.values)
                    yield path.name, "".join(parts), {str(one.arg) for one in call.keywords}


def _keys_of(node: nodes.Node) -> Iterator[str]:
    """The keys that an expression of a template may be: a word, one of two, or joined words."""
    if isinstance(node, nodes.CondExpr):
        for one in (node.expr1, node.expr2):
            if one is not None:
                yield from _keys_of(one)
    elif isinstance(node, nodes.Const):
        yield str(node.value)
    elif isinstance(node, nodes.Concat):
        yield "".join(str(one.value) if isinstance(one, nodes.Const) else "*" for one in node.nodes)


def test_every_sentence_of_the_pages_is_in_the_catalogue_and_gets_its_values() -> None:
    said = list(_said())
    assert len(said) > 30
    for where, key, given in said:
        pattern = re.compile(".+".join(map(re.escape, key.split("*"))))
        known = [one for one in keys() if pattern.fullmatch(one)]
        assert known, f"{where}: {key}"
        if "*" not in key:
            assert set(re.findall(r"\{(\w+)", template(key).zh)) <= given, f"{where}: {key}"


def test_a_page_is_in_one_language(browser: TestClient) -> None:
    zh, en = browser.get("/wall").text, browser.get("/wall?lang=en").text
    assert 'lang="zh-CN"' in zh
    assert say("wall.overdue").zh in zh
    assert say("wall.overdue").en not in zh
    assert say("wall.overdue").en in en
    assert say("wall.overdue").zh not in en


def test_a_page_that_fails_shows_a_number_and_no_detail(app: FastAPI, browser: TestClient) -> None:
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    app.router.routes.append(PageRoute("/broken", broken))
    answer = browser.get("/broken")
    app.router.routes.pop()
    assert answer.status_code == 500
    assert say("page_frame.broken").zh in answer.text
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("name", ["../view.py", "..%2fview.py", "manifest.json", "page.js", "%00.js"])
def test_nothing_but_built_files_is_served(browser: TestClient, name: str) -> None:
    assert browser.get(f"/assets/{name}").status_code == 404


def test_a_built_file_may_be_kept_for_good(browser: TestClient) -> None:
    answer = browser.get(assets.url("page.css"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]


def test_the_channel_sends_the_marks_and_then_what_changed(app: FastAPI) -> None:
    picture: live.LivePicture = app.state.live

    async def listen() -> list[dict[str, str]]:
        sent: list[dict[str, str]] = []
        events = picture.events(["counts", "incidents", "incident-1", "incident-999"])
        async with asyncio.timeout(30):
            async for event in events:
                name, _, data = event.decode().partition("\ndata: ")
                if name != "event: marks":
                    continue
                sent.append(json.loads(data))
                if len(sent) == 2:
                    break
                with app.state.context.database.write() as connection:
                    order = Order(Action.COMMENT, comment="到场")
                    office = Actor(pages_site.OFFICE, Role.OFFICE)
                    at_ms = pages_site.now_ms()
                    incident_store.apply_action(connection, 1, order, office, now_ms=at_ms, source=pages_site.SOURCE)
        await events.aclose()  # type: ignore[attr-defined]
        return sent

    first, second = asyncio.run(listen())
    assert set(first) == {"counts", "incidents", "incident-1", "incident-999"}
    assert first["incident-999"] == ""
    assert second.keys() == {"incidents", "incident-1"}


def test_names_and_badges_on_a_map_keep_clear_of_each_other_where_there_is_room() -> None:
    lines = [((113.0 + i * 0.03, 23.0), (113.0 + i * 0.03, 23.1)) for i in range(5)]
    waters = [Water(f"w{i}", "东平河石湾段", line, WaterClass(i + 1)) for i, line in enumerate(lines)]
    marks = [Mark(f"s{i}", "站", (113.0 + i * 0.03, 23.03), "normal", "red" if i == 2 else "") for i in range(5)]
    sizes = Sizes()
    sheet = draw(waters, marks, 1000, 700, sizes)
    assert [one.water.key for one in sheet.waters] == [w.key for w in waters]
    half = sizes.badge / 2
    badges = [Box(x - half, y - half, x + half, y + half) for x, y in (one.badge for one in sheet.waters)]
    assert not any(a.meets(b) for a, b in itertools.combinations(badges, 2))
    assert all(box.within(1000, 700) for box in badges)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_name_on_the_wall_stands_inside_the_map_and_on_no_mark_badge_or_other_name(language: str) -> None:
    registry = registry_toml.read((pages_site.ROOT / "config/stations.toml").read_text(encoding="utf-8"), catalogue())
    waters = [Water(one.key, getattr(one, language), one.line, None) for one in registry.reaches if one.line]
    marks = [
        Mark(one.key, "", (one.lon, one.lat), "normal", "" if i % 3 else "red")
        for i, one in enumerate(registry.stations)
    ]
    width, height = wall_models.MAP
    sheet = draw(waters, marks, width, height, wall_models.SIZES)
    names = [one.name.box for one in sheet.waters if one.name]
    assert len(names) == len(waters)
    assert all(box.within(width, height - wall_models.SIZES.foot) for box in names)
    half, mark = wall_models.SIZES.badge / 2, wall_models.SIZES.mark
    taken = [Box(x - half, y - half, x + half, y + half) for x, y in (one.badge for one in sheet.waters)]
    taken += [Box(x - mark, y - mark, x + mark, y + mark) for x, y in (one.at for one in sheet.marks)]
    taken += [Box(x, y - 40, x + 38, y) for x, y in (one.at for one in sheet.marks if one.mark.colour)]
    assert not [box for box in names for other in taken if box.meets(other)]
    assert not any(a.meets(b) for a, b in itertools.combinations(names, 2))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_name_of_a_creek_on_the_wall_stands_nearest_to_that_creek(language: str) -> None:
    registry = registry_toml.read((pages_site.ROOT / "config/stations.toml").read_text(encoding="utf-8"), catalogue())
    waters = [Water(one.key, getattr(one, language), one.line, None) for one in registry.reaches if one.line]
    marks = [Mark(one.key, "", (one.lon, one.lat), "normal") for one in registry.stations]
    drawn = {one.water.key: one for one in draw(waters, marks, *wall_models.MAP, wall_models.SIZES).waters}
    for key in ("qichachong-huanhu", "poyang-nandouchong"):
        name = drawn[key].name
        assert name is not None
        away = {other: _distance(name.box, one.path) for other, one in drawn.items()}
        assert min(away, key=lambda other: away[other]) == key, away


@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_name_on_the_wall_stands_beside_the_badge_of_another_water(language: str) -> None:
    registry = registry_toml.read((pages_site.ROOT / "config/stations.toml").read_text(encoding="utf-8"), catalogue())
    waters = [
        Water(one.key, getattr(one, language), one.line, WaterClass.WORSE if one.key == pages_site.RIVER else None)
        for one in registry.reaches
        if one.line
    ]
    marks = [
        Mark(one.key, "", (one.lon, one.lat), "normal", "red" if one.key == pages_site.STATION else "")
        for one in registry.stations
    ]
    drawn = draw(waters, marks, *wall_models.MAP, wall_models.SIZES).waters
    half, gap = wall_models.SIZES.badge / 2, wall_models.SIZES.letter / 2
    for one, other in itertools.permutations(drawn, 2):
        (x, y), box = other.badge, one.name.box if one.name else None
        assert box is not None
        beside = Box(box.left - gap, box.top - gap, box.right + gap, box.bottom + gap)
        assert not beside.meets(Box(x - half, y - half, x + half, y + half)), (one.water.name, other.water.name)


def _distance(box: Box, path: str) -> float:
    """How far a path passes a box, in units of the sheet."""
    corners = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
    steps = [
        (a[0] + (b[0] - a[0]) * i / 50, a[1] + (b[1] - a[1]) * i / 50)
        for a, b in itertools.pairwise(corners)
        for i in range(51)
    ]
    return min(math.hypot(max(box.left - x, 0, x - box.right), max(box.top - y, 0, y - box.bottom)) for x, y in steps)


def test_a_name_without_room_is_left_out_of_a_map() -> None:
    sheet = draw([Water("w", "东平河石湾段" * 9, ((113.0, 23.0), (113.1, 23.0)), None)], [], 300, 300)
    assert [one.name for one in sheet.waters] == [None]


def test_a_site_without_stations_has_an_empty_map() -> None:
    sheet = draw([], [], 100, 100)
    assert sheet.waters == sheet.marks == ()


def test_the_sources_of_the_pages_name_no_other_host() -> None:
    folder = Path(assets.STATIC).parent
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".js", ".css") and "node_modules" not in path.parts and "static" not in path.parts:
            assert "http://" not in path.read_text(encoding="utf-8").replace("http://www.w3.org", ""), path
            assert "https://" not in path.read_text(encoding="utf-8"), path


def test_a_kept_rendering_shows_nobody_the_cases_of_another(app: FastAPI, browser: TestClient) -> None:
    context = app.state.context
    other, now_ms = "汾江河长（示例）", pages_site.now_ms()
    regions = app.state.keeper.regions()
    reach = next(one.key for one in app.state.registries.recent().reaches if one.key != pages_site.RIVER)
    with context.database.write() as connection:
        people_store.add(connection, other, Role.CHIEF, region="", by="test", now_ms=now_ms, regions=regions)
        people_store.appoint(
            connection,
            other,
            region="chancheng/shiwan",
            reach=reach,
            since_ms=now_ms - 1,
            until_ms=None,
            by=pages_site.ADMINISTRATOR,
            now_ms=now_ms,
            source=pages_site.SOURCE,
            regions=regions,
        )

    def fragment(block: str, name: str) -> str:
        headers = {"X-Fragments": block, "Cookie": f"{AS_COOKIE}={packed(name)}"}
        return browser.get("/wall", headers=headers).text

    actors = [app.state.keeper.by_name(name) for name in (pages_site.CHIEF, other)]
    assert actors[0].regions == actors[1].regions, "the two differ by their waters alone"
    for block, sign, name in (
        ("urgent", 'class="pennant', pages_site.CHIEF),
        ("map", 'class="pole"', pages_site.OFFICE),
    ):
        assert sign in fragment(block, name)
        assert sign not in fragment(block, other)


def test_who_looks_at_an_incident_is_seen_by_who_may_see_it(app: FastAPI) -> None:
    picture: live.LivePicture = create_app(app.state.context).state.live  # of another loop
    keeper = app.state.keeper
    office, chief, worker = (keeper.by_name(name) for name in (pages_site.OFFICE, pages_site.CHIEF, pages_site.WORKER))
    topics = ["incident-2", "presence-incident-2", "presence"]

    async def look() -> None:
        await picture.now()
        events = picture.events(topics, office)
        async with asyncio.timeout(30):
            before = await _marks(events)
            assert picture.present(2, office) == ()
            assert picture.present(2, chief) == (pages_site.OFFICE,)
            assert picture.present(2, Actor("公众（示例）", Role.PUBLIC)) == ()
            assert picture.present(2, Actor("别处（示例）", Role.CHIEF, frozenset({"elsewhere"}))) == ()
            others = [picture.events(topics, chief), picture.events(topics, worker)]
            for one in others:
                await _marks(one)
            after = await _marks(events)
            assert after.keys() == {"presence-incident-2", "presence"}
            assert picture.present(2, office) == tuple(sorted((pages_site.CHIEF, pages_site.WORKER)))
            for one in others:
                await one.aclose()  # type: ignore[attr-defined]
            while await _marks(events) != {topic: before[topic] for topic in topics[1:]}:
                pass  # one after the other left
        await events.aclose()  # type: ignore[attr-defined]
        assert picture.present(2, chief) == ()

    asyncio.run(look())


def test_who_looks_at_an_incident_by_another_process_is_seen_and_gone_again(app: FastAPI) -> None:
    one, other = (create_app(app.state.context).state.live for _ in range(2))
    office, chief = (app.state.keeper.by_name(name) for name in (pages_site.OFFICE, pages_site.CHIEF))
    topics = ["incident-2", "presence-incident-2"]

    async def until(picture: live.LivePicture, actor: Actor, names: tuple[str, ...]) -> None:
        while picture.present(2, actor) != names:
            await asyncio.sleep(0.05)

    with app.state.context.database.write() as connection:
        connection.execute(sa.delete(presence))  # of processes that other tests ended

    async def look() -> None:
        await one.now()
        await other.now()
        here, there = one.events(topics, office), other.events(topics, chief)
        async with asyncio.timeout(30):
            await _marks(here)
            await _marks(there)
            await until(one, office, (pages_site.CHIEF,))
            await until(other, chief, (pages_site.OFFICE,))
            assert (await _marks(here)).keys() == {"presence-incident-2"}
            await there.aclose()
            await until(one, office, ())
        await here.aclose()
        await asyncio.gather(*(picture._reader for picture in (one, other)))

    asyncio.run(look())


async def _marks(events: AsyncIterator[bytes]) -> dict[str, str]:
    """The next marks of a channel."""
    async for event in events:
        name, _, data = event.decode().partition("\ndata: ")
        if name == "event: marks":
            found: dict[str, str] = json.loads(data)
            return found
    raise AssertionError("the channel ended")


def test_a_new_incident_is_told_to_who_may_see_it(app: FastAPI) -> None:
    picture: live.LivePicture = create_app(app.state.context).state.live  # of another loop
    office = app.state.keeper.by_name(pages_site.OFFICE)
    public = app.state.keeper.by_name(pages_site.PUBLIC)

    async def listen() -> tuple[list[dict[str, object]], set[str]]:
        told, untold = picture.events(["incidents"], office, "en"), picture.events(["incidents"], public)
        async with asyncio.timeout(30):
            for one in (told, untold):
                await _marks(one)
            with app.state.context.database.write() as connection:
                incident_store.file_report(
                    connection,
                    Order(Action.ACCEPT, comment="油污"),
                    Actor(pages_site.OFFICE, Role.OFFICE),
                    colour=Colour.RED,
                    origin=Source.HOTLINE,
                    place=Place(pages_site.GRID, pages_site.RIVER),
                    now_ms=pages_site.now_ms(),
                    source=pages_site.SOURCE,
                )
            async for event in told:
                if event.startswith(b"event: news"):
                    break
            names = set()
            async for other in untold:
                names.add(other.split(b"\n")[0].decode())
                if other.startswith(b"event: beat") and "event: marks" in names:
                    break
        for one in (told, untold):
            await one.aclose()  # type: ignore[attr-defined]
        found: list[dict[str, object]] = json.loads(event.partition(b"\ndata: ")[2])
        return found, names

    news, names = asyncio.run(listen())
    assert [one["colour"] for one in news] == ["red"]
    assert "event: news" not in names


def test_language_and_theme_are_remembered_by_the_browser_without_a_script(app: FastAPI) -> None:
    browser = TestClient(app, headers={"Accept": "text/html"}, follow_redirects=False)
    assert 'lang="zh-CN" data-theme="auto"' in browser.get("/ledger").text
    answer = browser.post("/look", data={"lang": "en", "to": "/ledger?gaps=1&lang=zh"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/ledger?gaps=1")
    assert browser.post("/look", data={"theme": "dark", "to": "/ledger"}).status_code == 303
    page = browser.get("/ledger").text
    assert 'lang="en" data-theme="dark"' in page
    assert 'href="/quarantine"' in page, "what is remembered need not stand in an address"
    assert 'href="/quarantine?lang=zh"' in browser.get("/ledger?lang=zh").text
    browser.post("/look", data={"lang": "xx", "theme": "pink"})
    assert 'lang="en" data-theme="dark"' in browser.get("/ledger").text


@pytest.mark.parametrize("to", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "", "x"])
def test_a_choice_of_language_leads_to_no_other_site(browser: TestClient, to: str) -> None:
    answer = browser.post("/look", data={"lang": "zh", "to": to}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_a_wall_is_computed_and_its_fragments_drawn_once_for_all_who_look(
    app: FastAPI, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = wall_models.build

    def counted(model: Model, registry: Registry, actor: Actor, language: str) -> wall_models.Wall:
        built.append(language)
        return build(model, registry, actor, language)

    monkeypatch.setattr(wall_models, "build", counted)
    picture = app.state.picture.model
    monkeypatch.setattr(app.state.live, "now", AsyncMock(return_value=replace(picture, at_ms=picture.at_ms + 1)))
    headers = {"X-Fragments": "map"}
    answers = [browser.get("/wall", headers=headers) for _ in range(3)]
    assert built == ["zh"]
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert len({answer.text for answer in answers}) == 1
    plain = browser.get("/wall", headers={**headers, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == answers[0].text
    browser.get("/wall?lang=en", headers=headers)
    assert built == ["zh", "en"]
