"""Publishing to a Grafana: what changed is written, what people changed is not, and twice is once.

No Grafana can be started here. The one below keeps to the published HTTP API: its paths, the members it answers with, a
new version for every save, ``412`` with ``version-mismatch`` or ``name-exists`` where a save may not overwrite.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from typer.testing import CliRunner

from dashboards import catalogue, parts
from infra.errors import ConfigurationError, Refused, StorageUnavailable
from riverchief import grafana
from riverchief.brokers.local import free_port
from riverchief.cli.app import app
from riverchief.grafana import Done
from tests.rig import eventually
from tests.says import says

TOKEN = "glsa_a-secret-nobody-may-read"
BOARDS = [parts.plain(board) for board in catalogue.build()]
UIDS = [board["uid"] for board in BOARDS]


@dataclass
class FakeGrafana:
    """What it keeps: each dashboard's versions, oldest first, as (content, message, who)."""

    port: int
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, list[tuple[dict[str, Any], str, str]]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    provisioned: set[str] = field(default_factory=set)
    old_list: bool = False
    """Whether versions are answered as a bare list, as before Grafana 12."""
    forbidden: bool = False
    between: Any = None
    """Called once, before the next save is looked at."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def versions(self) -> dict[str, int]:
        return {uid: len(kept) for uid, kept in self.dashboards.items()}

    def edit(self, uid: str, title: str, by: str = "zhang-example") -> None:
        """Somebody changes a title in the browser and saves."""
        content = json.loads(json.dumps(self.dashboards[uid][-1][0]))
        content["panels"][0]["title"] = title
        self.dashboards[uid].append((content, "", by))

    def app(self) -> FastAPI:  # noqa: C901  (a route of the stand-in each)
        api = FastAPI()

        @api.middleware("http")
        async def guard(request: Request, call: Any) -> Any:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return JSONResponse({"message": "Invalid API key"}, 401)
            if self.forbidden and request.method != "GET":
                return JSONResponse({"message": "You'll need additional permissions", "accessErrorId": "ACE1"}, 403)
            return await call(request)

        @api.get("/api/folders/{uid}")
        def folder(uid: str) -> Any:
            if uid not in self.folders:
                return JSONResponse({"message": "folder not found", "status": "not-found"}, 404)
            return {"id": 1, "uid": uid, "title": self.folders[uid], "version": 1}

        @api.post("/api/folders")
        async def make_folder(request: Request) -> Any:
            body = await request.json()
            if body["uid"] in self.folders:
                return JSONResponse({"message": "a folder with the same uid already exists"}, 412)
            self.folders[body["uid"]] = body["title"]
            return {"id": 1, "uid": body["uid"], "title": body["title"], "version": 1}

        @api.get("/api/dashboards/uid/{uid}")
        def dashboard(uid: str) -> Any:
            if uid not in self.dashboards:
                return JSONResponse({"message": "Dashboard not found"}, 404)
            content, _, by = self.dashboards[uid][-1]
            meta = {"url": f"/d/{uid}/x", "provisioned": uid in self.provisioned, "updatedBy": by, "slug": "x"}
            number = {"id": 7, "version": len(self.dashboards[uid]), "schemaVersion": 42}  # migrated on the way out
            return {"dashboard": {**content, **number}, "meta": {**meta, "folderUid": self.where.get(uid, "")}}

        @api.get("/api/dashboards/uid/{uid}/versions")
        def versions(uid: str) -> Any:
            found = [
                {"id": i, "version": i, "uid": uid, "message": message, "createdBy": by, "parentVersion": i - 1}
                for i, (_, message, by) in enumerate(self.dashboards[uid], start=1)
            ][::-1]
            return found if self.old_list else {"continueToken": "", "versions": found}

        @api.post("/api/dashboards/db")
        async def save(request: Request) -> Any:
            body = await request.json()
            if self.between is not None:
                happening, self.between = self.between, None
                happening()
            board, uid = body["dashboard"], body["dashboard"]["uid"]
            if body.get("folderUid") not in self.folders:
                return JSONResponse({"message": "folder not found"}, 400)
            if uid in self.provisioned:
                return JSONResponse({"message": "Cannot save provisioned dashboard"}, 400)
            kept = self.dashboards.get(uid, [])
            if kept and not body["overwrite"] and board.get("version") != len(kept):
                answer = {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
                return JSONResponse(answer, 412)
            same_name = [u for u, v in self.dashboards.items() if u != uid and v[-1][0]["title"] == board["title"]]
            if same_name and not body["overwrite"]:
                answer = {"status": "name-exists", "message": "A dashboard with the same name already exists"}
                return JSONResponse(answer, 412)
            content = {key: value for key, value in board.items() if key not in ("id", "version")}
            self.dashboards.setdefault(uid, []).append((content, body.get("message", ""), "sa-riverchief"))
            self.where[uid] = body["folderUid"]
            number = len(self.dashboards[uid])
            return {"id": 7, "uid": uid, "url": f"/d/{uid}/x", "status": "success", "version": number, "slug": "x"}

        return api


@pytest.fixture
def there() -> Iterator[FakeGrafana]:
    fake = FakeGrafana(free_port())
    server = uvicorn.Server(uvicorn.Config(fake.app(), port=fake.port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually("Grafana is there", lambda: server.started)
    yield fake
    server.should_exit = True
    thread.join(10)


def publish(there: FakeGrafana, boards: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Done]:
    found = grafana.publish(boards or BOARDS, url=there.url, token=TOKEN, **options)
    return {one.uid: one.done for one in found}


def changed(uid: str) -> list[dict[str, Any]]:
    """The dashboards of a later release: one has another description."""
    return [{**board, "description": "新版本 later"} if board["uid"] == uid else board for board in BOARDS]


@pytest.mark.parametrize("old_list", [False, True])
def test_the_first_time_makes_a_folder_and_seven_dashboards_and_the_second_changes_nothing(
    there: FakeGrafana, old_list: bool
) -> None:
    there.old_list = old_list
    assert publish(there) == dict.fromkeys(UIDS, Done.CREATED)
    assert there.folders == {grafana.FOLDER_UID: grafana.FOLDER_TITLE}
    assert set(there.where.values()) == {grafana.FOLDER_UID}
    assert publish(there) == dict.fromkeys(UIDS, Done.UNCHANGED)
    assert there.versions() == dict.fromkeys(UIDS, 1), "no version is made where nothing changed"


def test_a_new_release_writes_only_what_it_changed(there: FakeGrafana) -> None:
    publish(there)
    assert publish(there, changed("rc-river")) == dict.fromkeys(UIDS, Done.UNCHANGED) | {"rc-river": Done.UPDATED}
    assert there.versions()["rc-river"] == 2
    assert there.dashboards["rc-river"][-1][0]["description"] == "新版本 later"


def test_what_somebody_edited_is_not_overwritten_and_nothing_else_is_written_either(there: FakeGrafana) -> None:
    publish(there)
    there.edit("rc-station", "我的标题")
    before = there.versions()
    with pytest.raises(Refused, match=says("grafana.edited", known="rc-station (by zhang-example)")):
        publish(there, changed("rc-river"))
    assert there.versions() == before
    assert publish(there, changed("rc-river"), force=True)["rc-station"] == Done.UPDATED
    assert there.dashboards["rc-station"][-1][0]["panels"][0]["title"] != "我的标题"
    assert publish(there, changed("rc-river")) == dict.fromkeys(UIDS, Done.UNCHANGED)


def test_a_dashboard_with_our_uid_that_is_not_ours_is_not_taken_over(there: FakeGrafana) -> None:
    there.dashboards["rc-fleet"] = [
        ({"uid": "rc-fleet", "title": "别人的", "panels": []}, "Initial save", "li-example")
    ]
    with pytest.raises(Refused, match=says("grafana.edited", known="rc-fleet (by li-example)")):
        publish(there)
    assert there.versions() == {"rc-fleet": 1}


def test_an_edit_in_the_very_moment_of_publishing_is_not_lost(there: FakeGrafana) -> None:
    publish(there)
    there.between = lambda: there.edit("rc-river", "刚刚改的")
    with pytest.raises(Refused, match=says("grafana.at_once", uid="rc-river")):
        publish(there, changed("rc-river"))
    assert there.dashboards["rc-river"][-1][0]["panels"][0]["title"] == "刚刚改的"


def test_a_provisioned_dashboard_is_named_and_even_force_leaves_it(there: FakeGrafana) -> None:
    publish(there)
    there.provisioned = {"rc-overview", "rc-river"}
    with pytest.raises(Refused, match=says("grafana.provisioned", known="rc-overview, rc-river")):
        publish(there, force=True)


def test_another_dashboard_of_the_same_title_is_named(there: FakeGrafana) -> None:
    there.dashboards["other"] = [({"uid": "other", "title": BOARDS[0]["title"]}, "", "li-example")]
    with pytest.raises(Refused, match=says("grafana.same_title", uid="rc-overview")):
        publish(there)


def test_a_folder_that_goes_away_meanwhile_is_told_in_grafanas_words(there: FakeGrafana) -> None:
    there.between = there.folders.clear
    with pytest.raises(
        ConfigurationError, match=says("grafana.not_taken", uid="rc-overview", status=400, words="folder not found")
    ):
        publish(there)


def test_a_wrong_token_is_one_sentence_without_the_token(there: FakeGrafana) -> None:
    with pytest.raises(ConfigurationError, match=says("grafana.unknown_token")) as told:
        grafana.publish(BOARDS, url=there.url, token="glsa_another-secret")
    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None, "the request, which holds the token, is not carried along"


def test_a_token_that_may_not_write_says_which_role_is_needed(there: FakeGrafana) -> None:
    there.forbidden = True
    with pytest.raises(ConfigurationError, match=says("grafana.forbidden")):
        publish(there)


def test_a_grafana_that_is_away_is_named_and_may_be_tried_again() -> None:
    with pytest.raises(StorageUnavailable, match=says("grafana.away", url="http://127.0.0.1:1")) as told:
        grafana.publish(BOARDS, url="http://127.0.0.1:1", token=TOKEN)
    assert TOKEN not in str(told.value)


def test_something_else_at_the_address_is_not_taken_for_grafana() -> None:
    api, port = FastAPI(), free_port()
    api.get("/{path:path}")(lambda path: {"hello": "world"})
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually("it is there", lambda: server.started)
    with pytest.raises(ConfigurationError, match=says("grafana.something_else")):
        grafana.publish(BOARDS, url=f"http://127.0.0.1:{port}", token=TOKEN)
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://grafana", "http://admin:password@grafana:3000"])
def test_an_address_that_is_none_or_holds_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        grafana.publish(BOARDS, url=url, token=TOKEN)
    assert "password" not in str(told.value)


def test_the_command_publishes_with_the_settings_of_the_site(there: FakeGrafana, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[grafana]\nurl = "{there.url}/"\ntoken_file = "{tmp_path / "token"}"\nconsole_url = "https://console.example/"\n'
    )
    first = CliRunner().invoke(app, ["dashboards", "publish", "-c", str(settings)])
    assert first.exit_code == 0, first.output
    assert first.output.count("created") == 7
    again = CliRunner().invoke(app, ["dashboards", "publish", "-c", str(settings), "--json"])
    assert {one["done"] for one in json.loads(again.output)} == {"unchanged"}
    assert {
        v["query"] for v in there.dashboards["rc-fleet"][-1][0]["templating"]["list"] if v["name"] == "console"
    } == {"https://console.example"}
    assert TOKEN not in first.output + again.output
