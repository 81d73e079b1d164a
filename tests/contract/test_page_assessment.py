"""The assessment's page: the water before the work, unknown as unknown, rows behind numbers, and the spreadsheet."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.assessment import XLSX
from governance.assessment.month import month_of
from governance.audit import trail as audit_trail
from governance.incidents.model import Action, Order
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from governance.reports import patrols
from governance.reports.patrols import Patrol
from infra import times
from infra.database import Database
from infra.texts import Text
from tests import pages_site
from tests.page_browser import browser_of
from tests.pages_site import act_on_case, file_case
from tests.says import shows

OTHER = "dongpinghe-shiwan"
"""A reach with a station of which the trail says nothing."""
MONTH = times.beijing(pages_site.now_ms(), "%Y-%m")


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    return browser_of(app, pages_site.OFFICE)


def _row(page: str, testid: str) -> str:
    return page.split(f'data-testid="{testid}"')[1].split("</tr>", maxsplit=1)[0]


def _cell(page: str, testid: str, column: str) -> str:
    return _row(page, testid).split(f'data-column="{column}"')[1].split("</td>")[0]


def test_the_month_shows_its_formula_and_that_it_is_a_trial(browser: TestClient) -> None:
    page = browser.get("/assessment").text
    assert "石湾镇街道" in page.split('data-testid="assessment-table-street"')[1]
    assert 'data-testid="assessment-trial"' in page
    assert shows(page.split('data-testid="assessment-formula"')[1], "assessment.patrol")
    assert page.index('data-testid="assessment-sentence"') < page.index('data-testid="assessment-table-reach"')


def test_the_water_stands_before_the_work_and_persons_in_no_table(browser: TestClient) -> None:
    page = browser.get("/assessment").text
    columns = re.findall(r'data-column="(\w+)"', _row(page, f"assessment-reach-{pages_site.RIVER}"))
    assert columns.index("water") < columns.index("citizens") < columns.index("closing") < columns.index("data")
    assert pages_site.CHIEF not in page.split("<tbody>", 1)[1]
    assert browser.get("/assessment?by=chief&of=x&rows=closing").status_code == 404


def test_what_nobody_knows_is_unknown_and_not_nothing(browser: TestClient) -> None:
    page = browser.get("/assessment").text
    testid = f"assessment-reach-{OTHER}"
    for column in ("water", "month", "year", "handling", "citizens"):
        assert not re.search(r"\d", re.sub(r"<[^>]*>", "", _cell(page, testid, column).split(">", 1)[1])), column
    assert shows(_cell(page, testid, "patrols"), "assessment_page.unknown"), "nobody ever recorded a patrol"
    assert shows(_cell(page, testid, "closing"), "assessment_page.later"), "not due before the days of grace are over"


def test_each_number_opens_its_rows(browser: TestClient, database: Database) -> None:
    page = browser.get("/assessment").text
    address = re.search(
        r'href="(/assessment[^"]*rows=water[^"]*)#rows"', _row(page, f"assessment-reach-{pages_site.RIVER}")
    )
    assert address
    rows = browser.get(address[1].replace("&amp;", "&")).text.split('data-testid="assessment-rows"')[1]
    assert rows.split("</table>")[0].count("<tr>") - 1 == _days(database)
    cases = browser.get(f"/assessment?month={MONTH}&by=street&of=*&rows=acceptance").text
    assert 'data-testid="assessment-case-2"' in cases
    assert browser.get("/assessment?by=reach&of=nowhere&rows=water").status_code == 404
    assert browser.get("/assessment?by=reach&of=*&rows=mood").status_code == 404


def _days(database: Database) -> int:
    with database.read() as connection:
        lines = audit_trail.list_entries(connection, what="water.classes")
    return sum(
        times.beijing(line.at_ms, "%Y-%m") == MONTH and pages_site.RIVER in json.loads(line.body)["reaches"]
        for line in lines
    )


def test_a_patrol_and_a_reopened_case_are_counted_where_they_happened(app: FastAPI, database: Database) -> None:
    now = pages_site.now_ms()
    _office, _source = Actor(pages_site.OFFICE, Role.OFFICE), pages_site.SOURCE
    with database.write() as connection:
        patrols.add(
            connection,
            Patrol(
                key="patrol-of-test", by=pages_site.WORKER, role="grid_worker", reach=pages_site.RIVER,
                region=pages_site.GRID, started_ms=now - 60_000, ended_ms=now, uploaded_ms=now, metres=1500.0,
                minutes=20.0, jumps=0, valid=True, why=Text("计入", "counts"), way="walk", note="", problems=(),
                covered={pages_site.RIVER: ((0.0, 1.5), (2.0, 2.5))},
            ),
        )  # fmt: skip
    made = file_case(database, Place(pages_site.GRID, OTHER))
    for order in (Order(Action.REJECT, comment="不属实"), Order(Action.REOPEN, comment="再查")):
        act_on_case(database, made.id, order)
    page = browser_of(app, pages_site.OFFICE).get("/assessment").text
    assert shows(_cell(page, f"assessment-reach-{pages_site.RIVER}", "patrols"), "assessment_page.times", count=1)
    assert shows(_cell(page, f"assessment-reach-{pages_site.RIVER}", "patrols"), "assessment_page.passed", km="2.0")
    assert shows(_cell(page, f"assessment-reach-{OTHER}", "patrols"), "assessment_page.times", count=0)
    assert shows(_cell(page, f"assessment-reach-{OTHER}", "reopened"), "assessment_page.cases_of", count=1, of=1)
    rows = browser_of(app, pages_site.OFFICE).get(f"/assessment?by=reach&of={pages_site.RIVER}&rows=patrols").text
    assert "1500 m" in rows
    assert pages_site.WORKER not in rows


def test_it_comes_as_a_spreadsheet_and_that_is_an_entry(browser: TestClient, database: Database) -> None:
    found = browser.post(f"/assessment/sheet?month={MONTH}&by=reach")
    assert (found.headers["content-type"], found.content[:2]) == (XLSX, b"PK")
    with database.read() as connection:
        (entry,) = audit_trail.list_entries(connection, what="export.assessment")
    assert (entry.by, json.loads(entry.body)["by"]) == (pages_site.OFFICE, "reach")
    assert browser.post("/assessment/sheet", headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_who_may_not_assess_is_turned_away_and_a_chief_sees_the_own_water(app: FastAPI) -> None:
    assert browser_of(app, pages_site.WORKER).get("/assessment").status_code == 403
    assert browser_of(app, pages_site.WORKER).post("/assessment/sheet").status_code == 403
    page = browser_of(app, pages_site.CHIEF).get("/assessment").text
    assert f'data-testid="assessment-reach-{pages_site.RIVER}"' in page
    assert f'data-testid="assessment-reach-{OTHER}"' not in page
    assert 'data-testid="assessment-street-chancheng/zumiao"' not in page


def test_a_month_that_is_none_is_said_and_an_empty_one_says_so(browser: TestClient) -> None:
    assert browser.get("/assessment?month=October").status_code == 400
    page = browser.get("/assessment?month=2020-01&lang=en").text
    assert 'lang="en"' in page
    assert shows(page, "assessment_page.water_unknown")


LAST_MONTH = (times.beijing_day(pages_site.now_ms()).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def test_a_chief_appeals_and_the_office_corrects_beside_the_figure(database: Database, tmp_path: Path) -> None:
    _, end_ms = month_of(LAST_MONTH)
    context = pages_site.context(database, tmp_path, token=None)
    app = create_app(replace(context, clock_ms=lambda: end_ms + 16 * times.DAY_MS))
    chief, office = browser_of(app, pages_site.CHIEF), browser_of(app, pages_site.OFFICE)
    row, path = f"assessment-reach-{pages_site.RIVER}", f"/assessment?month={LAST_MONTH}"
    form = {"do": "appeal", "group_by": "reach", "key": pages_site.RIVER, "figure": "water"}
    given = form | {"reason": "停电三天<b>", "link": ""}
    own = f"{path}&appeal=reach&of={pages_site.RIVER}"
    assert f'data-testid="assessment-appeal-reach-{pages_site.RIVER}"' in chief.get(path).text
    assert "assessment-appeal-form" in chief.get(own).text
    assert "assessment-appeal-form" not in office.get(own).text
    refused = chief.post(own, data=given)
    assert refused.status_code == 400
    assert "停电三天&lt;b&gt;</textarea>" in refused.text, "what was typed stays"
    assert shows(refused.text.split('data-testid="assessment-wrong"')[1], "assessment.needs_evidence")
    assert office.post(path, data=given | {"link": "https://example.org/1"}).status_code == 403
    for _ in range(2):
        assert chief.post(own, data=given | {"link": "https://example.org/1"}).status_code == 303
    page = office.get(path).text
    assert page.count('data-testid="assessment-appeal" data-state="pending"') == 1
    number = re.findall(r'data-testid="assessment-decide-(\d+)"', page)[0]
    assert shows(_cell(page, row, "water"), "assessment_page.appeal_pending")
    before = re.sub("<a class=.chip.*?</a>", "", _cell(page, row, "water"))
    assert "assessment-decide" not in chief.get(path).text
    verdict = {"do": "decide", "number": number, "accepted": "1", "remark": "应为全月达标"}
    assert chief.post(path, data=verdict).status_code == 403
    assert office.post(path, data=verdict).status_code == 303
    page = office.get(path).text
    assert "应为全月达标" in page
    assert shows(_cell(page, row, "water"), "assessment_page.appeal_accepted", version=2)
    assert re.sub("<a class=.chip.*?</a>", "", _cell(page, row, "water")) == before, "the figure stays"
    assert office.post(path, data=verdict).status_code == 409
    assert office.post(path, data=verdict, headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_days_that_the_office_marks_are_named_in_the_row_with_both_figures(app: FastAPI) -> None:
    office, today = browser_of(app, pages_site.OFFICE), times.beijing(pages_site.now_ms(), "%Y-%m-%d")
    row = f"assessment-reach-{pages_site.RIVER}"
    given = {"do": "mark", "kind": "rain", "first": today, "last": today, "region": "", "reach": pages_site.RIVER}
    assert browser_of(app, pages_site.CHIEF).post("/assessment", data=given | {"reason": "x"}).status_code == 403
    assert office.post("/assessment", data=given | {"reason": ""}).status_code == 400
    for _ in range(2):
        assert office.post("/assessment", data=given | {"reason": "暴雨橙色预警"}).status_code == 303
    page = office.get("/assessment").text
    assert 'data-testid="assessment-affected-rain"' in _row(page, row)
    assert "as-without" in _cell(page, row, "water")
    assert "assessment-affected-rain" not in _row(page, f"assessment-reach-{OTHER}")
    assert "assessment-mark" not in browser_of(app, pages_site.CHIEF).get("/assessment").text
    (number,) = re.findall(r'data-testid="assessment-period-(\d+)"', page)
    assert office.post("/assessment", data={"do": "withdraw", "number": number}).status_code == 303
    assert "assessment-affected-rain" not in office.get("/assessment").text
