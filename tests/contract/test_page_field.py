"""The field app's page and files, the phones of a person, records that the office decides on, and exported files."""

import base64
import json
import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from governance.people import phones as phone_store
from infra.database import Database
from infra.texts import say
from ingest.storage import registry as registry_store
from sensors.parameters import catalogue
from tests import pages_site
from tests.field_phone import FIELD, FieldPhone, record
from tests.page_browser import browser_of
from tests.pages_site import ADMINISTRATOR, ENGINEER, PHOTO, WORKER, now_ms
from tests.says import shows

STATION = pages_site.STATION


@pytest.fixture(scope="module")
def closed(database: Database, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Nobody, on a site where people sign in."""
    made = create_app(pages_site.context(database, tmp_path_factory.mktemp("photos"), token="示例-token"))
    return browser_of(made)


def seen(**more: Any) -> dict[str, Any]:
    return record("report", {"text": "桥下<b>污水</b>"}, now_ms() - 1000, **more)


def hang(parameter: str, **more: Any) -> dict[str, Any]:
    about = {"station": STATION, "parameter": parameter}
    return record("hang", {"parameter": parameter, "serial": "SN-9"}, now_ms() - 1000, **{"object": about} | more)


def test_the_app_opens_without_a_session_and_names_nobody(closed: TestClient) -> None:
    page = closed.get("/field/")
    assert page.status_code == 200, page.text
    assert closed.get("/field").headers["location"].startswith("/field/")
    policy = page.headers["Content-Security-Policy"]
    assert ("worker-src 'self'" in policy, "manifest-src 'self'" in policy) == (True, True)
    assert 'id="field-words"' in page.text
    worker = closed.get("/field/worker.js")
    assert (worker.status_code, worker.headers["Service-Worker-Allowed"]) == (200, "/field/")
    told = json.loads(re.match(r"self\.FIELD = (\{.*?\});\n", worker.text)[1])  # type: ignore[index]
    assert told["build"] in page.text
    for path in told["files"]:
        assert closed.get(path).status_code == 200, path
    manifest = closed.get("/field/app.webmanifest").json()
    assert (manifest["scope"], manifest["display"]) == ("/field/", "standalone")
    for icon in manifest["icons"]:
        found = closed.get(icon["src"])
        assert (found.status_code, found.headers["content-type"]) == (200, icon["type"])
    assert closed.get("/field/icon-7.png").status_code == 404
    assert closed.get("/field/ping").status_code == 204


def test_the_page_that_takes_files_asks_who_sends_them(closed: TestClient) -> None:
    assert closed.get("/field/import").status_code == 303
    assert closed.post("/field/import", files={"file": b"{}"}, headers={"Accept": "*/*"}).status_code == 401


def test_a_lost_phone_is_revoked_on_the_account_and_on_the_page_of_the_person(app: FastAPI, database: Database) -> None:
    mine = browser_of(app, WORKER)
    lost, other = FieldPhone(mine, "丢失的手机"), FieldPhone(mine, "另一部手机")
    page = mine.get("/account").text
    assert ("丢失的手机" in page, page.count('data-testid="account-phone-revoke"')) == (True, 2)
    assert browser_of(app, ENGINEER).post(f"/account/phones/{lost.id}/revoke").status_code == 404
    assert browser_of(app, ENGINEER).post(f"/people/{WORKER}/access/phones/{other.id}").status_code == 403
    assert mine.post(f"/account/phones/{lost.id}/revoke").status_code == 303
    boss = browser_of(app, ADMINISTRATOR)
    assert "另一部手机" in boss.get(f"/people/{WORKER}").text
    assert boss.post(f"/people/{WORKER}/access/phones/{other.id}").status_code == 303
    with database.read() as connection:
        found = [phone_store.get(connection, phone.id) for phone in (lost, other)]
    assert all(phone.revoked_at_ms for phone in found)


def test_the_office_sees_both_versions_of_a_conflict_and_decides(app: FastAPI, database: Database) -> None:
    phone = FieldPhone(browser_of(app, ENGINEER))
    with database.read() as connection:
        registry = registry_store.load(connection, catalogue())
    there = next(one for one in registry.deployments if one.until_ms is None)
    one = hang(there.parameter, object={"station": there.station}, base="older")
    assert phone.send(one).json()["outcome"] == "conflict"
    browser = browser_of(app, ENGINEER)
    page = browser.get("/maintenance").text
    assert ("SN-9" in page, there.device in page, 'data-outcome="conflict"' in page) == (True, True, True)
    path = f"/maintenance/field/{one['id']}"
    assert browser_of(app, WORKER).post(path, data={"keep": "mine"}).status_code == 403
    assert browser.post(path, data={"keep": "?"}).status_code == 400
    assert browser.post(path, data={"keep": "mine"}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.post(path, data={"keep": "theirs"}).status_code == 303
    assert one["id"] not in browser.get("/maintenance").text
    assert phone.ask("GET", f"{FIELD}/records").json()["items"][0]["decision"] == "theirs"


def test_an_exported_file_is_received_once_with_its_photos(app: FastAPI) -> None:
    shown = seen(photos=[PHOTO], offset_ms=None, sent_at=None)
    wrong = seen() | {"kind": "tomorrow"}
    photos = [{"sha256": "?", "media_type": "image/png", "base64": base64.b64encode(PHOTO).decode()}, {"base64": 3}]
    file = json.dumps({"phone": "x", "exported_at": "", "records": [shown, wrong, {"id": 1}, 5], "photos": photos})
    browser = browser_of(app, WORKER)
    for known in (False, True):
        page = browser.post("/field/import", files={"file": file.encode()})
        assert page.status_code == 200, page.text
        assert re.findall(r'data-result="(\w+)"', page.text) == ["applied", "refused", "failed", "failed"]
        assert ("1 / 1" in page.text, shows(page.text, "field_server.known_already")) == (True, known)
        assert "<b>污水" not in page.text
    for bad in (b"", b"no", b"[]", b'{"records": 3}'):
        assert browser.post("/field/import", files={"file": bad}).status_code == 400
    assert say("field_server.import_title").zh in browser.get("/field/import").text
    assert browser_of(app, pages_site.AUDITOR).get("/field/import").status_code == 403


def test_a_file_is_filed_for_whoever_signed_and_what_was_changed_for_the_importer(app: FastAPI) -> None:
    phone = FieldPhone(browser_of(app, WORKER))
    whole, changed, bare = seen(), seen(), seen()
    paths = {one["id"]: f"{FIELD}/records/{one['id']}" for one in (whole, changed)}
    signed = {
        paths[one["id"]]: phone.signature("PUT", paths[one["id"]], json.dumps(one).encode()) for one in (whole, changed)
    }
    records = [whole, changed | {"new": changed["new"] | {"text": "改过"}}, bare]
    file = {"phone": phone.id, "signatures": signed, "records": records, "photos": []}

    def told(given: dict[str, Any]) -> list[tuple[str, str]]:
        page = browser_of(app, pages_site.OFFICE).post(
            "/field/import", files={"file": json.dumps(given, ensure_ascii=True).encode()}
        )
        return re.findall(r'data-by="(.*?)" data-signed="(\w+)"', page.text)

    mine = (pages_site.OFFICE, "false")
    assert told(file) == [(WORKER, "true"), mine, mine]
    assert phone.send(changed).json()["person"] == WORKER, "the one who changed it does not stand in its way"
    assert phone.send(whole).status_code == 200, "it is here"
    browser_of(app, WORKER).delete(f"{FIELD}/phones/{phone.id}")
    other = seen()
    path = f"{FIELD}/records/{other['id']}"
    file |= {"records": [other], "signatures": {path: phone.signature("PUT", path, json.dumps(other).encode())}}
    assert told(file) == [mine], "a phone that was lost speaks for nobody"
