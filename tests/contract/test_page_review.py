"""The review of readings: the queue of a day, a station-day, and reviews through the same functions as the API."""

import re
from datetime import timedelta

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from infra.database import Database
from infra.texts import say
from infra.times import beijing, beijing_day, beijing_day_span
from ingest.storage import maintenance as store
from ingest.storage.changes import Author
from ingest.storage.sql import SqlReadings
from sensors.maintenance import Check, Visit
from sensors.parameters import catalogue
from sensors.reading import Batch, Flag, QualityTest
from sensors.standards.hj915 import CheckKind
from tests import pages_site
from tests.page_browser import browser_of

BAD, DOUBTFUL, CLEAN, SILENT = "qcc-huanhu-1", "dph-shiwan-1", "qcc-huanhu-2", "qcc-huanhu-3"
"""What the stations show on the day; the last has no readings then."""
DAY = beijing_day(pages_site.now_ms()) - timedelta(days=2)
QUEUE = f"/review?day={DAY}"
START_MS, _ = beijing_day_span(DAY)
HOUR_MS = 3_600_000
STEP_MS = 300_000


def day_before(database: Database) -> None:
    """A day at three stations: two hours out of water, one spike, and nothing wrong; a visit and a check."""
    known = catalogue()
    readings = SqlReadings(database, known)
    with database.write() as connection:
        for station in (BAD, DOUBTFUL, CLEAN):
            at = np.arange(START_MS, START_MS + 24 * HOUR_MS, STEP_MS)
            at = at[(at < START_MS + 3 * HOUR_MS) | (at >= START_MS + 4 * HOUR_MS)]
            for parameter, level in (("nh3n", 0.8), ("do", 6.0), ("tp", 0.2)):
                hour = (at - START_MS) / HOUR_MS
                value = level * (1 + 0.1 * np.sin(hour / 4))
                verdict = np.full(len(at), int(Flag.GOOD), np.int64)
                dry = (hour >= 10) & (hour < 12)
                if station == BAD and parameter == "nh3n":
                    value = np.where(dry, 4.0, value)
                    verdict[dry] = int(Flag.BAD) | int(QualityTest.OUT_OF_WATER) << 4
                if station == DOUBTFUL and parameter == "do":
                    verdict[100] = int(Flag.SUSPECT) | int(QualityTest.SPIKE) << 4
                n = len(at)
                batch = Batch.of([0] * n, [known.index[parameter]] * n, at.tolist(), value.tolist())
                readings.write(connection, [station], batch, verdict)
        by = Author(pages_site.ENGINEER, START_MS)
        visit = Visit(BAD, START_MS + 15 * HOUR_MS, START_MS + 16 * HOUR_MS, (), pages_site.ENGINEER, "清洗探头")
        store.begin_visit(connection, visit, by)
        at_ms = START_MS + 16 * HOUR_MS
        store.add_check(connection, Check(BAD, "do", CheckKind.FIVE, at_ms, 8.0, 8.1, by=pages_site.ENGINEER), by)


@pytest.fixture(scope="module")
def database(database: Database) -> Database:
    day_before(database)
    return database


@pytest.fixture
def reviewer(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.ENGINEER)


def _path(station: str) -> str:
    return f"/review/{station}/{DAY}"


def _form(begin: int = 10, end: int = 12, **other: object) -> dict[str, object]:
    return {
        "since": beijing(START_MS + begin * HOUR_MS, pages_site.FORM),
        "until": beijing(START_MS + end * HOUR_MS, pages_site.FORM),
        "parameter": ["nh3n"],
        "reason": "out_of_water",
        "note": "",
        "verdict": "bad",
    } | other


def _standing(page: str) -> str:
    found = re.search(r'data-standing="(\w+)"', page)
    assert found
    return found[1]


def _api(app: FastAPI, station: str) -> list[dict[str, object]]:
    found = TestClient(app).get(f"/api/v1/stations/{station}/reviews").json()["items"]
    return [one for one in found if not one["void"]]


def test_the_queue_begins_with_the_most_suspicious_and_folds_what_passed(reviewer: TestClient) -> None:
    page = reviewer.get(QUEUE).text
    rows = re.findall(r'data-testid="review-row" data-station="([\w-]+)"', page)
    assert rows == [BAD, DOUBTFUL]
    assert str(DAY) in page
    clean = page.split('data-testid="review-clean"')[1].split("</details>")[0]
    assert f"{CLEAN}/{DAY}" in clean
    assert SILENT in page.split('data-testid="review-empty"')[1].split("</details>")[0]


def test_the_queue_is_that_of_yesterday_where_no_day_is_named(reviewer: TestClient) -> None:
    assert f'value="{DAY + timedelta(days=1)}"' in reviewer.get("/review").text


def test_a_day_with_an_incident_waits_for_a_person(app: FastAPI, reviewer: TestClient) -> None:
    page = reviewer.get(f"/review?day={DAY + timedelta(days=2)}").text
    row = page.split(f'data-testid="review-row" data-station="{pages_site.STATION}"')[1].split("</tr>")[0]
    assert 'class="pennant red"' in row
    day = reviewer.get(f"/review/{pages_site.STATION}/{DAY + timedelta(days=2)}").text
    assert 'data-testid="review-incidents"' in day


def test_the_queue_holds_what_lies_within_reach_alone(app: FastAPI) -> None:
    page = browser_of(app, pages_site.CHIEF).get(QUEUE).text
    assert BAD in page
    assert DOUBTFUL not in page
    assert 'data-testid="state-empty"' in browser_of(app, pages_site.WORKER).get(QUEUE).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/review?day=2026-13-01", 400),
        ("/review?day=2999-01-01", 400),
        (f"/review/nowhere/{DAY}", 404),
        (f"/review/{BAD}/yesterday", 400),
        (f"/review/{BAD}/{DAY}?since=x&until=%00&parameter=x&reason=x", 200),
        (f"/review/{SILENT}/{DAY}", 200),
        (f"/review/{BAD}/2001-01-01?lang=en", 200),
    ],
)
def test_an_address_is_answered_with_a_page_that_says_what_is_wrong(
    reviewer: TestClient, path: str, status: int
) -> None:
    assert reviewer.get(path).status_code == status


def test_a_station_day_shows_its_reasons_visits_checks_and_neighbours(reviewer: TestClient) -> None:
    page = reviewer.get(_path(BAD)).text
    assert page.count('data-testid="review-stretch"') == 1
    assert say("quality.out_of_water").zh in page
    assert "清洗探头" in page
    assert say("maintenance.kind_five").zh in page
    near = page.split('data-testid="review-neighbours"')[1].split("</section>")[0]
    assert f"{CLEAN}/{DAY}" in near
    svg = page.split('data-parameter="nh3n"')[1].split("</svg>")[0]
    assert svg.count("<polyline") == 3  # the pause of an hour and what is out of water are not joined


def test_the_page_is_in_one_language(reviewer: TestClient) -> None:
    page = reviewer.get(_path(BAD) + "?lang=en").text
    assert say("quality.out_of_water").en in page
    assert say("review.reasons").zh not in page


def test_a_large_site_is_looked_at_one_water_at_a_time(reviewer: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.pages.review.MOST_STATIONS", 3)
    page = reviewer.get(QUEUE).text
    assert say("review.some", most=3).zh in page
    assert '<option value="">' not in page
    assert BAD in reviewer.get(f"{QUEUE}&reach={pages_site.RIVER}").text


def test_next_leads_through_the_queue_and_past_the_one_shown(reviewer: TestClient) -> None:
    first = reviewer.get(f"/review/next?day={DAY}")
    assert first.status_code == 303
    assert BAD in first.headers["location"]
    assert DOUBTFUL in reviewer.get(f"/review/next?day={DAY}&after={BAD}").headers["location"]
    assert reviewer.get("/review/next?day=2001-01-01").headers["location"] == "/review?day=2001-01-01"


def test_a_preview_says_what_the_day_would_be_and_changes_nothing(app: FastAPI, reviewer: TestClient) -> None:
    form = {name: value for name, value in _form(4, 6).items() if name != "verdict"}
    page = reviewer.get(_path(BAD), params=form).text
    effect = page.split('data-testid="review-effect-of" data-parameter="nh3n"')[1].split("</table>")[0]
    assert re.findall(r'<td class="figure">(\d+)</td>', effect) == ["252", "228", "252"]
    assert _api(app, BAD) == []


def test_a_review_is_kept_once_and_taken_back(app: FastAPI, reviewer: TestClient) -> None:
    answer = reviewer.post(_path(BAD), data=_form())
    assert answer.status_code == 303
    assert reviewer.post(_path(BAD), data=_form()).headers["location"] == answer.headers["location"]
    (kept,) = _api(app, BAD)
    assert (kept["parameter"], kept["verdict"], kept["by"]) == ("nh3n", "bad", pages_site.ENGINEER)
    assert kept["reason"] == say("review.reason_out_of_water").zh
    page = reviewer.get(answer.headers["location"]).text
    assert _standing(page) == "reviewed"
    assert 'data-testid="review-stretch"' not in page
    assert 'data-key="u"' in page
    assert f'data-testid="review-row" data-station="{BAD}"' not in reviewer.get(QUEUE).text
    for _ in range(2):
        undone = reviewer.post(_path(BAD) + "/undo", data={"number": kept["number"]})
        assert undone.status_code == 303
    assert _api(app, BAD) == []
    page = reviewer.get(undone.headers["location"]).text
    assert _standing(page) == "open"
    assert 'data-void="true"' in page
    assert 'data-key="U"' in page
    again = [reviewer.post(_path(BAD) + "/redo", data={"number": kept["number"]}) for _ in range(2)]
    assert {one.status_code for one in again} == {303}
    (redone,) = _api(app, BAD)
    assert redone["number"] > kept["number"]
    assert [redone[name] for name in ("parameter", "since", "until", "verdict", "reason")] == [
        kept[name] for name in ("parameter", "since", "until", "verdict", "reason")
    ]
    page = reviewer.get(again[0].headers["location"]).text
    assert _standing(page) == "reviewed"
    assert 'data-key="U"' not in page
    assert reviewer.post(_path(BAD) + "/redo", data={"number": redone["number"]}).status_code == 409
    reviewer.post(_path(BAD) + "/undo", data={"number": redone["number"]})


def test_reviewing_all_parameters_of_a_day_is_one_review_of_the_station(app: FastAPI, reviewer: TestClient) -> None:
    answer = reviewer.post(_path(CLEAN), data=_form(parameter=["nh3n", "do", "tp"], verdict="good"))
    assert answer.status_code == 303
    (kept,) = _api(app, CLEAN)
    assert (kept["parameter"], kept["verdict"]) == ("", "good")
    refused = reviewer.post(_path(CLEAN), data=_form(parameter=["do"]))
    assert refused.status_code == 409
    assert 'data-testid="review-wrong-form"' in refused.text
    reviewer.post(_path(CLEAN) + "/undo", data={"number": kept["number"]})


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"reason": "", "note": "异常"}, "reason"),
        ({"reason": "", "note": "数据离群，异常！"}, "reason"),
        ({"reason": "not offered", "note": ""}, "reason"),
        ({"reason": "", "note": "abnormal data"}, "reason"),
        ({"parameter": []}, "parameters"),
        ({"since": "soon"}, "span"),
        ({"until": "2001-01-01T00:00"}, "span"),
        ({"verdict": "doubtful"}, "form"),
        ({"parameter": ["unknown"]}, "form"),
        ({"since": "2990-01-01T00:00", "until": "2990-01-02T00:00"}, "form"),
    ],
)
def test_what_is_refused_comes_back_with_the_reason_beside_the_field(
    app: FastAPI, reviewer: TestClient, other: dict[str, object], field: str
) -> None:
    answer = reviewer.post(_path(BAD), data=_form() | {"note": "上午设备检修"} | other)
    assert answer.status_code == 400
    assert f'data-testid="review-wrong-{field}"' in answer.text
    assert str(other.get("note", "上午设备检修")) in answer.text
    assert _api(app, BAD) == []


def test_all_or_none_of_several_parameters_are_reviewed(app: FastAPI, reviewer: TestClient) -> None:
    assert reviewer.post(_path(BAD), data=_form(parameter=["nh3n", "unknown"])).status_code == 400
    assert _api(app, BAD) == []


@pytest.mark.parametrize("name", [pages_site.OFFICE, pages_site.AUDITOR, pages_site.WORKER])
def test_who_may_not_review_reads_and_is_turned_away(app: FastAPI, name: str) -> None:
    browser = browser_of(app, name)
    page = browser.get(_path(BAD))
    assert page.status_code == 200
    assert 'data-testid="review-form"' not in page.text
    assert browser.post(_path(BAD), data=_form()).status_code == 403
    assert browser.post(_path(BAD) + "/undo", data={"number": "1"}).status_code == 403
    assert _api(app, BAD) == []


def test_the_public_sees_no_review(app: FastAPI) -> None:
    browser = browser_of(app, pages_site.PUBLIC)
    for path in ("/review", "/review/next", _path(BAD)):
        assert browser.get(path).status_code == 403


def test_an_unknown_review_is_not_undone(reviewer: TestClient) -> None:
    assert reviewer.post(_path(BAD) + "/undo", data={"number": "999"}).status_code == 404
    assert reviewer.post(_path(BAD) + "/undo", data={"number": "one"}).status_code == 400


def test_an_exceedance_is_invalidated_only_when_another_person_agrees(app: FastAPI, reviewer: TestClient) -> None:
    today = beijing_day(pages_site.now_ms())
    path = f"/review/{pages_site.STATION}/{today}"
    start_ms, _ = beijing_day_span(today)
    now = pages_site.now_ms()
    stretch = {
        "since": beijing(max(start_ms, now - HOUR_MS), pages_site.FORM),
        "until": beijing(now + 60_000, pages_site.FORM),
    }
    assert reviewer.post(path, data=_form() | stretch).status_code == 303
    (one,) = _api(app, pages_site.STATION)
    assert one["pending"], "there is an incident of ammonia"
    page = reviewer.get(path).text
    assert 'data-testid="review-pending"' in page
    assert 'data-testid="review-confirm"' not in page
    assert str(one["number"]) in reviewer.get("/review").text.split('data-testid="review-waiting"')[1]
    own = reviewer.post(f"{path}/confirm", data={"number": str(one["number"])})
    assert (own.status_code, 'data-testid="review-wrong-confirm"' in own.text) == (409, True)
    second = browser_of(app, pages_site.ADMINISTRATOR)
    assert 'data-testid="review-confirm"' in second.get(path).text
    for _ in range(2):
        assert second.post(f"{path}/confirm", data={"number": str(one["number"])}).status_code == 303
    (after,) = _api(app, pages_site.STATION)
    assert (after["pending"], after["second"]) == (False, pages_site.ADMINISTRATOR)
    chief = browser_of(app, pages_site.CHIEF)
    assert chief.post(f"{path}/confirm", data={"number": "1"}).status_code == 403


def test_a_stretch_is_called_doubtful_by_the_form_as_by_the_api(app: FastAPI, reviewer: TestClient) -> None:
    path = f"/review/{DOUBTFUL}/{DAY}"
    assert 'data-testid="review-suspect"' in reviewer.get(path).text
    answer = reviewer.post(path, data=_form(20, 21, verdict="suspect", parameter=["tp"]))
    assert answer.status_code == 303
    said = [one for one in _api(app, DOUBTFUL) if one["verdict"] == "suspect"]
    assert [(one["parameter"], one["pending"]) for one in said] == [("tp", False)]
    undone = reviewer.post(f"{path}/undo", data={"number": str(said[0]["number"])})
    assert undone.status_code == 303
