"""Lists as files: each holds what its page shows to who asks, in their language, and is an entry of the trail."""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.pages import list_export
from api.pages.list_export import Table
from api.pages.models import inbox, ledger, messages, patrols, rivers
from governance.audit import trail as audit_trail
from governance.organisation.regions import Place
from governance.organisation.roles import Role
from governance.people import store as people_store
from infra.database import Database
from infra.texts import say
from infra.times import rfc3339
from tests import pages_site
from tests.page_browser import browser_of, current
from tests.pages_site import file_case

STREET, STREET_OFFICE = "chancheng/nanzhuang", "南庄街道办（示例）"
LISTS = {
    "/incidents": ("incidents", "inbox", inbox.EXPORT_HEAD, pages_site.OFFICE, "inbox"),
    "/rivers": ("rivers", "rivers_page", rivers.EXPORT_HEAD, pages_site.OFFICE, "rivers"),
    "/patrols": ("patrols", "patrols_page", patrols.EXPORT_HEAD, pages_site.OFFICE, "patrols"),
    "/ledger": ("ledger", "ledger_page", ledger.EXPORT_HEAD, pages_site.ADMINISTRATOR, "ledger"),
    "/messages": ("notices", "messages_page", messages.EXPORT_HEAD, pages_site.OFFICE, "messages"),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    found = pages_site.seed(tmp_path_factory.mktemp("exports"))
    with found.write() as connection:
        people_store.add(connection, STREET_OFFICE, Role.OFFICE, region=STREET, by="test", now_ms=pages_site.now_ms())
    file_case(found, Place(STREET), "=1+1 南庄油膜", minutes_ago=0)
    yield found
    found.close()


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    made = create_app(pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None))
    start = pages_site.now_ms() - 40 * pages_site.MINUTE
    ends = {"started_at": rfc3339(start), "ended_at": rfc3339(start + 30 * pages_site.MINUTE)}
    walked = {"id": "0f8c1d2e-meeting", "reach": pages_site.RIVER, "way": "meeting", "note": "示例", **ends}
    assert browser_of(made, pages_site.WORKER).post("/api/v1/patrols", json=walked).status_code == 201
    return made


def exported(browser: TestClient, path: str, query: str = "", kind: str = "csv") -> bytes:
    browser.app.state.picture.read_at_ms = 0  # type: ignore[attr-defined]
    answer = browser.post(f"{path}/export{query}", data={"format": kind})
    assert answer.status_code == 200, answer.text
    return answer.content


def lines(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))


@pytest.mark.parametrize("path", LISTS)
def test_each_list_is_handed_out_in_the_readers_language_and_recorded(
    app: FastAPI, database: Database, path: str
) -> None:
    what, section, head, who, testid = LISTS[path]
    browser = browser_of(app, who)
    page = current(browser, path)
    assert f'data-testid="{testid}-export"' in page
    assert f'data-testid="{testid}-export-xlsx"' in page
    for language in ("zh", "en"):
        data = exported(browser, path, f"?lang={language}")
        assert lines(data)[0] == [getattr(say(f"{section}.{name}"), language) for name in head]
        assert len(lines(data)) > 1
    with database.read() as connection:
        entry = audit_trail.list_entries(connection, what=f"export.{what}")[0]
    assert (entry.by, json.loads(entry.body)["sha256"]) == (who, hashlib.sha256(data).hexdigest())
    sheet = zipfile.ZipFile(io.BytesIO(exported(browser, path, kind="xlsx"))).read("xl/worksheets/sheet1.xml")
    assert sheet.count(b"<row ") == len(lines(data))


@pytest.mark.parametrize("path", LISTS)
def test_who_may_not_see_a_list_gets_no_file_of_it(app: FastAPI, path: str) -> None:
    for name in (pages_site.PUBLIC, pages_site.WORKER):
        browser = browser_of(app, name)
        assert browser.post(f"{path}/export").status_code == browser.get(path).status_code, name
    assert browser_of(app, pages_site.PUBLIC).post("/messages/export").status_code == 403
    foreign = {"Origin": "https://elsewhere.example"}
    assert browser_of(app, LISTS[path][3]).post(f"{path}/export", headers=foreign).status_code == 403


def test_the_file_holds_what_the_page_shows_and_no_other_region(app: FastAPI) -> None:
    for name, query in ((pages_site.OFFICE, "?view=open"), (STREET_OFFICE, "?view=open"), (pages_site.OFFICE, "?q=2")):
        browser = browser_of(app, name)
        shown = re.findall(r'data-testid="inbox-tick-(\d+)"', current(browser, f"/incidents{query}"))
        assert [row[0] for row in lines(exported(browser, "/incidents", query))[1:]] == shown
        assert shown
    refused = exported(browser_of(app, STREET_OFFICE), "/incidents", f"?region={pages_site.GRID}")
    assert len(lines(refused)) == 1, "the region of others"


def test_narrowed_lists_make_narrowed_files(app: FastAPI) -> None:
    office, administrator = browser_of(app, pages_site.OFFICE), browser_of(app, pages_site.ADMINISTRATOR)
    assert {row[6] for row in lines(exported(office, "/messages", "?state=failed"))[1:]} == {
        say("messages_page.state_failed").zh
    }
    assert lines(exported(office, "/rivers", "?q=no such river"))[1:] == []
    assert lines(exported(administrator, "/ledger", "?month=2020-01"))[1:] == []
    sums = lines(exported(administrator, "/ledger"))[1:]
    known = [row for row in sums if row[3].isdigit() and row[7].isdigit()]
    assert known
    for row in known:
        assert int(row[3]) == sum(int(row[i]) for i in (4, 5, 6, 7)), row


def test_what_a_spreadsheet_would_run_is_text(app: FastAPI) -> None:
    office = browser_of(app, pages_site.OFFICE)
    assert "'=1+1 南庄油膜" in [cell for row in lines(exported(office, "/incidents")) for cell in row]
    sheet = zipfile.ZipFile(io.BytesIO(exported(office, "/incidents", kind="xlsx")))
    assert b"<f>" not in sheet.read("xl/worksheets/sheet1.xml")


def test_an_unknown_format_is_csv_and_an_address_cannot_break_the_button(app: FastAPI) -> None:
    office = browser_of(app, pages_site.OFFICE)
    assert lines(exported(office, "/rivers", kind="exe")) == lines(exported(office, "/rivers"))
    page = current(office, '/rivers?path=x&key=y&q="><script>')
    assert "<script>" not in page.split('class="export"')[-1].split("</form>")[0]


def test_a_file_of_no_rows_still_has_its_head() -> None:
    table = Table("rivers", ["河流", "类别"], [])
    assert lines(list_export._csv(table)) == [["河流", "类别"]]
    assert zipfile.ZipFile(io.BytesIO(list_export._sheet(table))).testzip() is None
