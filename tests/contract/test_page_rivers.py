"""The list of rivers and the page of one: what it shows to whom, and changing its plan by plain forms."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import NotificationSettings
from governance.audit import trail as audit_trail
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order, Source
from governance.notify.links import Links
from governance.notify.policy import NoticePolicy
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from governance.people import store as people_store
from governance.reports import patrols, river_plans
from governance.reports.patrols import Patrol
from governance.reports.river_plans import Plan
from infra.database import Database
from infra.texts import Text, say
from infra.times import DAY_MS
from ingest.storage import registry as registry_store
from sensors.stations import Reach, Registry, Water
from tests import pages_site
from tests.page_browser import browser_of, current, part
from tests.says import shows

RIVER = pages_site.RIVER
HERE = f"/rivers/{RIVER}"
DRY = "unwatched"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    found = pages_site.seed(tmp_path_factory.mktemp("rivers"))
    line = ((113.1500, 23.0200), (113.1520, 23.0100))
    with found.write() as connection:
        dry = Reach(DRY, "无站涌（示例）", "Creek without a station", Water.CREEK, line)
        registry_store.save(connection, Registry(reaches=(dry,)))
        now = pages_site.now_ms()
        for i, by in enumerate((pages_site.WORKER, pages_site.CHIEF)):
            walked = Patrol(
                key=f"patrol-{i}-x",
                by=by,
                role=Role.GRID_WORKER,
                reach=RIVER,
                region=pages_site.GRID,
                started_ms=now - DAY_MS,
                ended_ms=now - DAY_MS + pages_site.HOUR,
                uploaded_ms=now,
                metres=2300.0,
                minutes=60.0,
                jumps=0,
                valid=True,
                why=Text("", ""),
                way="walk",
                note="",
                problems=(2,) if i == 0 else (),
                track=(),
            )
            patrols.add(connection, walked)
    yield found
    found.close()


def rows(page: str) -> list[tuple[str, str]]:
    return re.findall(r'data-testid="river-([\w-]+)" data-class="([^"]*)"', page)


def plan_of(database: Database) -> Plan:
    with database.read() as connection:
        found = river_plans.get(connection, RIVER)
    assert found is not None
    return found


# -- the list ----------------------------------------------------------------------------------------------------------


def test_the_worst_water_comes_first_with_its_evidence_its_incidents_and_its_silent_stations(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.OFFICE), "/rivers")
    found = rows(page)
    assert found[0] == (RIVER, "&gt;V")
    assert [one for _, one in found if one] == ["&gt;V", "III"]
    first = part(page, f"river-{RIVER}")
    assert shows(first, "rivers_page.missed")
    assert shows(first, "rivers_page.deciding", parameters="氨氮")
    assert shows(first, "rivers_page.judged", judged=3, expected=3)
    assert 'class="pennant red"' in first
    assert shows(part(page, "river-dongpinghe-shiwan"), "rivers_page.silent", silent=3)
    assert shows(part(page, f"river-{DRY}"), "rivers_page.unwatched")


def test_the_address_narrows_the_list(app: FastAPI) -> None:
    browser = browser_of(app, pages_site.OFFICE)
    assert [key for key, _ in rows(current(browser, "/rivers?missed=1"))] == [RIVER]
    assert [key for key, _ in rows(current(browser, "/rivers?q=丰收"))] == ["fengshouchong"]
    lakes = {key for key, _ in rows(current(browser, "/rivers?water=lake"))}
    assert lakes == {"shiwan-lake", "yayi-lake"}
    assert RIVER in {key for key, _ in rows(current(browser, f"/rivers?street={pages_site.NEXT_STREET}"))}
    assert DRY not in {key for key, _ in rows(current(browser, "/rivers?street=chancheng/shiwan"))}
    assert shows(current(browser, "/rivers?q=nowhere"), "rivers_page.none_found")


# -- one river ---------------------------------------------------------------------------------------------------------


def test_the_head_says_class_target_and_by_how_much_it_is_exceeded(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.OFFICE), HERE)
    head = part(page, "river-head")
    assert 'data-met="0"' in head
    assert shows(head, "rivers_page.times", parameter="氨氮", times="3.2")  # 8.4 over 2.0
    assert "8.40" in part(page, "river-value-nh3n")
    assert "2.00 mg/L" in part(page, "river-value-nh3n")
    assert shows(part(page, "river-month"), "rivers_page.month") or shows(
        part(page, "river-month"), "rivers_page.month_none"
    )


def test_stations_stand_in_flow_order_with_travel_times_and_outfalls_on_the_strip(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.OFFICE), HERE)
    assert re.findall(r'data-testid="river-station-([\w-]+)" data-class="([^"]*)"', page) == [
        ("qcc-huanhu-1", "III"),
        ("qcc-huanhu-2", "III"),
        ("qcc-huanhu-3", "&gt;V"),
    ]
    assert shows(page, "rivers_page.travel_to")
    strip = part(page, "river-strip-svg")
    assert strip.count('class="outfall"') == 3
    assert strip.count('class="inflow"') == 1
    assert strip.count('href="/stations/') >= 1  # up to the end of the first badge


def test_the_days_show_what_was_recorded_and_the_classes_of_each_station(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.OFFICE), HERE)
    recorded = part(page, "river-recorded")
    assert recorded.count("<td") == 30
    assert recorded.count("missed") == 1  # the one day worse than V
    assert shows(page, "rivers_page.trend", days=30, judged=29, met=28)
    own = part(page, "river-days-qcc-huanhu-3")
    assert own.count("<td") == 30
    assert own.count('class="none"') >= 28  # readings began some hours ago


def test_a_chief_reads_the_file_and_sees_the_incidents_of_their_own_water_alone(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.CHIEF), HERE)
    assert re.findall(r'data-incident="(\d+)"', page) == ["2"]  # the other lies in another street
    chiefs = part(page, "river-chiefs")
    assert pages_site.CHIEF in chiefs
    assert shows(chiefs, "river.term_open")
    assert "65%" in part(page, "river-plan")
    assert "patrol-0-x" in page
    assert "river-goal-add" in page


def test_the_public_sees_the_water_and_no_incident_no_patrol_and_nothing_to_change(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.PUBLIC), HERE)
    assert 'data-met="0"' in page
    assert "data-incident" not in page
    assert "river-patrols" not in page
    assert "river-goal-add" not in page
    chiefs = part(page, "river-chiefs")
    assert pages_site.CHIEF in chiefs
    assert "罗助理" not in chiefs
    assert not shows(chiefs, "river.term_open")
    assert (
        browser_of(app, pages_site.PUBLIC)
        .post(HERE, data={"do": "problem", "problem": "x", "version": "1"})
        .status_code
        == 403
    )
    assert 'class="pennant' not in current(browser_of(app, pages_site.PUBLIC), "/rivers")


def test_a_term_that_ended_is_not_shown(app: FastAPI, database: Database) -> None:
    now = pages_site.now_ms()
    with database.write() as connection:
        regions = app.state.keeper.regions()
        people_store.add(connection, "前任（示例）", Role.CHIEF, region="", by="test", now_ms=now, regions=regions)
        people_store.appoint(
            connection,
            "前任（示例）",
            region="chancheng/shiwan/qicha/1",
            reach=RIVER,
            deputy_of="",
            since_ms=now - 400 * DAY_MS,
            until_ms=now - 201 * DAY_MS,
            by="test",
            now_ms=now,
            source=pages_site.SOURCE,
            regions=regions,
        )
    assert "前任" not in current(browser_of(app, pages_site.OFFICE), HERE)


def test_a_river_without_a_station_says_so_and_names_the_nearest(app: FastAPI) -> None:
    page = current(browser_of(app, pages_site.OFFICE), f"/rivers/{DRY}")
    unwatched = part(page, "river-unwatched")
    assert shows(unwatched, "rivers_page.no_station")
    assert unwatched.count("/stations/") == 3


def test_incidents_of_a_busy_district_do_not_push_those_of_a_river_out_of_its_page(
    app: FastAPI, database: Database
) -> None:
    office = Actor(pages_site.OFFICE, Role.OFFICE)
    with database.write() as connection:
        for i in range(210):
            incident_store.file_report(
                connection,
                Order(Action.ACCEPT, comment=f"别处{i}"),
                office,
                colour=Colour.BLUE,
                origin=Source.HOTLINE,
                place=Place("chancheng", "fengshouchong"),
                now_ms=pages_site.now_ms(),
                source=pages_site.SOURCE,
            )
    assert re.findall(r'data-incident="(\d+)"', current(browser_of(app, pages_site.OFFICE), HERE)) == ["2", "1"]


def test_the_code_leads_to_the_public_address_and_a_loopback_address_makes_none(
    app: FastAPI, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "river-loopback" in current(
        TestClient(app, base_url="http://127.0.0.1", headers={"Accept": "text/html"}), HERE
    )
    context = pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None)
    links = Links("https://river.example.gov/", b"x" * 32)
    told = NotificationSettings(pages_site.directory, NoticePolicy(), links, "测试站 test site")
    page = current(browser_of(create_app(replace(context, notifications=told))), HERE)
    sign = part(page, "river-sign")
    assert f"https://river.example.gov/r/{RIVER}" in sign
    assert "<svg" in sign


def test_the_pages_speak_one_language(app: FastAPI) -> None:
    for path in ("/rivers", HERE):
        page = current(browser_of(app, pages_site.OFFICE), f"{path}?lang=en")
        assert say("rivers_page.title").en in page
        assert say("rivers_page.title").zh not in page


def test_what_is_not_there_is_a_page_with_the_status(app: FastAPI) -> None:
    assert browser_of(app, pages_site.OFFICE).get("/rivers/nowhere").status_code == 404


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_goal_is_updated_once_and_an_older_page_overwrites_nothing(app: FastAPI, database: Database) -> None:
    browser, before = browser_of(app, pages_site.CHIEF), plan_of(database)
    form = {
        "do": "goal",
        "index": "0",
        "version": str(before.version),
        "goal": before.goals[0].goal,
        "measure": before.goals[0].measure,
        "responsible": before.goals[0].responsible,
        "due": before.goals[0].due,
        "progress": "80",
    }
    for _ in range(2):  # the second is the same form again
        answer = browser.post(HERE, data=form)
        assert answer.status_code == 303, answer.text
    after = plan_of(database)
    assert (after.goals[0].progress, after.version) == (0.8, before.version + 1)
    assert "80%" in current(browser, HERE)
    stale = browser.post(HERE, data={**form, "progress": "10"})
    assert stale.status_code == 409
    assert shows(part(stale.text, "river-refused"), "river.plan_conflict")
    assert 'name="progress" value="10"' in stale.text  # what was typed is still there
    assert plan_of(database) == after
    with database.read() as connection:
        (entry, *_) = audit_trail.list_entries(connection, what="plan.changed", limit=1)
    assert entry.by == pages_site.CHIEF


def test_a_goal_is_added_and_taken_out_and_the_problem_is_changed(app: FastAPI, database: Database) -> None:
    browser, before = browser_of(app, pages_site.OFFICE), plan_of(database)
    new = {"do": "goal", "index": "", "goal": "岸线整治（示例）", "due": "2030-01-01", "progress": "0"}
    for _ in range(2):
        assert browser.post(HERE, data={**new, "version": str(before.version)}).status_code == 303
    added = plan_of(database)
    assert [goal.goal for goal in added.goals][len(before.goals) :] == ["岸线整治（示例）"]
    gone = {**new, "index": str(len(before.goals)), "remove": "1", "version": str(added.version)}
    assert browser.post(HERE, data=gone).status_code == 303
    assert list(plan_of(database).goals) == list(before.goals)
    version = str(plan_of(database).version)
    assert browser.post(HERE, data={"do": "problem", "problem": "内源（示例）", "version": version}).status_code == 303
    assert plan_of(database).problem == "内源（示例）"


@pytest.mark.parametrize(
    ("name", "text"),
    [("goal", ""), ("due", "2030-13-01"), ("progress", "101"), ("progress", "x"), ("measure", "长" * 2001)],
)
def test_a_bad_goal_is_refused_beside_its_field_and_kept_in_the_form(
    app: FastAPI, database: Database, name: str, text: str
) -> None:
    before = plan_of(database)
    form = {"do": "goal", "index": "", "goal": "目标", "due": "", "progress": "0", "responsible": "示例甲"}
    answer = browser_of(app, pages_site.OFFICE).post(HERE, data={**form, "version": str(before.version), name: text})
    assert answer.status_code == 422
    assert f"river-wrong-{name}" in answer.text
    assert 'value="示例甲"' in answer.text
    assert plan_of(database) == before


def test_who_reaches_another_street_only_may_not_change_the_plan(app: FastAPI) -> None:
    worker = browser_of(app, pages_site.WORKER).post(HERE, data={"do": "problem", "problem": "x", "version": "1"})
    assert worker.status_code == 403
    foreign = browser_of(app, pages_site.OFFICE).post(
        HERE, data={"do": "problem"}, headers={"Origin": "https://elsewhere.example"}
    )
    assert foreign.status_code == 403


# -- gauges ------------------------------------------------------------------------------------------------------------


def test_a_gauge_on_the_river_gives_loads_rain_beside_the_days_and_every_chart_and_a_witness(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pages_site.gauge(database)
    browser = browser_of(create_app(pages_site.context(database, tmp_path_factory.mktemp("more"), token=None)))
    page = current(browser, HERE)
    load = part(page, f"river-load-{pages_site.STATION}")
    assert re.findall(r'data-parameter="(\w+)"[^>]*><span><b>([^<]*)</b>', load) == [
        ("codmn", "2,850"),
        ("nh3n", "5,990"),
        ("tp", "71.3"),
    ], "4, 8.4 and 0.1 mg/L times 8.25 m³/s times 86.4"
    of_gauge = part(page, f"river-load-{pages_site.GAUGE}")
    assert re.findall(r'data-parameter="(\w+)"[^>]*><span><b>([^<]*)</b>', of_gauge) == [("tp", "143")]
    fallen = [float(one) for one in re.findall(r"</svg><span>([\d.]+)</span>", part(page, "river-rain"))]
    assert sum(fallen) == pytest.approx(16.5 + 2.2, abs=1.0)

    chart = f"/stations/{pages_site.STATION}/chart?parameter=nh3n&range=24h"
    rain = browser.get(chart).json()["rain"]
    assert (rain["station"], round(sum(rain["mm"]), 1)) == (pages_site.GAUGE, 18.7)
    assert max(rain["mm"]) == 4.5, "three readings of 1.5 mm in half an hour"
    assert "18.7" in part(current(browser, f"/stations/{pages_site.STATION}"), "station-rain")
    elsewhere = browser.get("/stations/pynd-1/chart?parameter=water_temp&range=24h").json()["rain"]
    assert shows(elsewhere["title"], "station.rain_from", km="5.8"), "of another creek, and says so"

    assert browser.get("/incidents/1/chart?parameter=nh3n").json()["rain"]["station"] == pages_site.GAUGE
    facts = part(current(browser, "/incidents/1"), "case-facts")
    assert shows(facts, "verdict.rain_explains", names="氨氮")
    assert shows(facts, "verdict.level_gate")
    assert shows(facts, "verdict.flow_more")
