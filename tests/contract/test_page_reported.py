"""The staff's report and own reports: what is filed, what is open nearby, what who reported sees of it."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from governance.incidents import queries as incident_queries
from infra.database import Database
from infra.texts import say
from tests import pages_site
from tests.page_browser import browser_of
from tests.pages_site import read_case
from tests.says import shows

NEW = "/reported/new"
PLACE = {"lon": "113.1479", "lat": "23.0206"}
FAR = {"lon": "113.1479", "lat": "23.0306"}


@pytest.fixture
def worker(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.WORKER)


def _send(browser: TestClient, photos: tuple[bytes, ...] = (), **fields: object):  # type: ignore[no-untyped-def]
    files = [("photos", (f"{i}.png", one, "image/png")) for i, one in enumerate(photos)]
    return browser.post(NEW, data=fields, files=files or None)


def _number(location: str) -> int:
    found = re.search(r"/incidents/(\d+)", location) or re.search(r"new=(\d+)", location)
    assert found, location
    return int(found[1])


def _count(database: Database) -> int:
    with database.read() as connection:
        return len(incident_queries.list_incidents(connection, limit=1000))


def _seen(page: str) -> str:
    found = re.search(r'name="seen" value="([^"]*)"', page)
    assert found
    return found[1]


def test_who_is_on_patrol_reports_with_place_and_photo_and_is_shown_what_is_open_there(
    worker: TestClient, database: Database
) -> None:
    before = _count(database)
    told = {"kind": "outfall", "text": "桥北侧涵管流出黑水", "source": "patrol", **PLACE}
    page = _send(worker, (pages_site.PHOTO,), **told)
    assert page.status_code == 200
    assert _count(database) == before
    assert "report-near-2" in page.text  # 20 m from there
    assert shows(page.text, "report_page.near", count=1)
    assert "桥北侧涵管流出黑水" in page.text
    (photo,) = re.findall(r'name="kept" value="([0-9a-f]{64})"', page.text)
    locations = set()
    for _ in range(2):
        answer = _send(worker, **told, seen=_seen(page.text), kept=photo)
        assert answer.status_code == 303
        locations.add(answer.headers["location"])
    (location,) = locations
    assert location.startswith("/incidents/")
    assert _count(database) == before + 1
    incident, history = read_case(database, _number(location))
    assert (incident.place.region, incident.place.reach) == (pages_site.GRID, pages_site.RIVER)
    assert incident.case.source == "patrol"
    assert (history[0].by, history[0].role, history[0].attachments) == (pages_site.WORKER, "grid_worker", (photo,))
    assert history[0].comment == "排污口：桥北侧涵管流出黑水"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"text": "", **FAR}, "citizen.no_words"),
        ({"text": "只有话"}, "report_page.no_place"),
        ({"text": "没有这段水", "where": "reach:gone"}, "report_page.no_place"),
        ({"text": "远在海上", "lon": "1", "lat": "2"}, ""),
        ({"text": "不是数", "lon": "x", "lat": "y"}, ""),
        ({"text": "照片不是自己的", "kept": "0" * 64, **FAR}, "attachment.unknown"),
        ({"text": "代人", "name": "别人（示例）", **FAR}, "person.not_yourself"),
        ({"text": "来源不对", "source": "rule", **FAR}, ""),
    ],
)
def test_what_is_refused_comes_back_with_the_reason_and_what_was_typed(
    worker: TestClient, database: Database, fields: dict[str, str], key: str
) -> None:
    before = _count(database)
    answer = _send(worker, **fields)
    assert 400 <= answer.status_code < 500
    assert "report-problem" in answer.text
    assert not key or shows(answer.text, key)
    assert fields["text"] in answer.text
    assert _count(database) == before


def test_a_file_that_is_no_photo_and_one_too_many_are_refused(worker: TestClient, database: Database) -> None:
    before = _count(database)
    assert _send(worker, (b"<html>",), text="x", **FAR).status_code == 409
    many = tuple(pages_site.PHOTO for _ in range(7))
    answer = _send(worker, many, text="x", **FAR)
    assert answer.status_code == 409
    assert shows(answer.text, "report_page.too_many_photos")
    assert _count(database) == before


def test_a_kept_photo_can_be_taken_off_again(worker: TestClient, database: Database) -> None:
    page = _send(worker, (pages_site.PHOTO,), text="", **FAR).text
    (photo,) = re.findall(r'name="kept" value="([0-9a-f]{64})"', page)
    answer = _send(worker, text="不要照片", kept=photo, drop=photo, **FAR)
    assert answer.status_code == 303
    assert read_case(database, _number(answer.headers["location"]))[1][0].attachments == ()


def test_a_station_or_a_river_is_a_place_too(worker: TestClient, database: Database) -> None:
    page = _send(worker, text="站边异味", where=f"station:{pages_site.STATION}", check="1").text
    answer = _send(worker, text="站边异味", where=f"station:{pages_site.STATION}", seen=_seen(page))
    incident, _ = read_case(database, _number(answer.headers["location"]))
    assert incident.place.reach == pages_site.RIVER
    assert incident.place.lon is not None
    page = _send(worker, text="沿河垃圾", where=f"reach:{pages_site.RIVER}").text
    assert "report-near-2" in page  # reported of this river
    answer = _send(worker, text="沿河垃圾", where=f"reach:{pages_site.RIVER}", seen=_seen(page))
    assert read_case(database, _number(answer.headers["location"]))[0].place.lon is None


def test_only_who_accepts_chooses_the_urgency(app: FastAPI, worker: TestClient, database: Database) -> None:
    office = browser_of(app, pages_site.OFFICE)
    assert "report-colour" in office.get(NEW).text
    assert "report-colour" not in worker.get(NEW).text
    for browser, colour in ((office, "red"), (worker, "yellow")):
        answer = _send(browser, text=f"示例{colour}", colour="red", lon="113.1479", lat="23.0360")
        if answer.status_code == 200:  # the other one's, close by
            answer = _send(
                browser, text=f"示例{colour}", colour="red", lon="113.1479", lat="23.0360", seen=_seen(answer.text)
            )
        assert read_case(database, _number(answer.headers["location"]))[0].colour == colour


def test_who_reported_a_case_of_another_region_is_shown_the_way_to_what_they_sent(
    app: FastAPI, worker: TestClient, database: Database
) -> None:
    chief = browser_of(app, pages_site.CHIEF)
    assert "reported-empty" in chief.get("/reported").text
    office = browser_of(app, pages_site.OFFICE).get("/reported").text
    assert "环湖花园桥下有成片漂浮垃圾" in office
    assert pages_site.WORKER not in office
    answer = _send(worker, (pages_site.PHOTO,), text="别处的<b>事", where="reach:fengshouchong")
    assert answer.headers["location"].startswith("/reported?new=")
    number = _number(answer.headers["location"])
    page = worker.get(answer.headers["location"]).text
    assert "reported-thanks" in page
    row = re.search(rf'data-testid="reported-{number}".*?</li>', page, re.S)
    assert row
    assert "别处的&lt;b&gt;事" in row[0]
    assert f'href="/incidents/{number}"' not in row[0]
    assert "/api/v1/attachments/" in row[0]


def test_what_is_open_near_a_place_is_fetched_alone(app: FastAPI, worker: TestClient) -> None:
    part = worker.get(f"{NEW}?lon=113.1478&lat=23.0205", headers={"X-Fragments": "near"}).text
    assert part.count("data-fragment=") == 1
    assert "report-near-2" in part
    assert f'data-reach="{pages_site.RIVER}"' in part
    foreign = (
        browser_of(app, "梁村级河长（示例）")
        .get(f"{NEW}?lon=113.1478&lat=23.0205", headers={"X-Fragments": "near"})
        .text
    )
    assert shows(foreign, "report_page.near")


def test_the_form_is_for_who_reports_and_from_our_own_page(
    app: FastAPI, worker: TestClient, database: Database
) -> None:
    before = _count(database)
    auditor = browser_of(app, pages_site.AUDITOR)
    assert auditor.get(NEW).status_code == 403
    assert auditor.get("/reported").status_code == 403
    assert _send(auditor, text="x", **FAR).status_code == 403
    answer = worker.post(NEW, data={"text": "x", **FAR}, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403
    assert _count(database) == before


def test_the_form_is_in_one_language_and_keeps_a_draft(worker: TestClient) -> None:
    zh, en = worker.get(NEW).text, worker.get(f"{NEW}?lang=en").text
    assert say("report_page.where").zh in zh
    assert say("report_page.where").zh not in en
    assert say("report_page.where").en in en
    assert 'data-draft="report"' in zh
    assert 'pick="lon lat"' in zh
