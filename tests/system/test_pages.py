"""The pages in a real browser, over one site with a past that all these tests share."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from infra.texts import say
from riverchief.brokers.local import free_port
from tests import pages_site
from tests.pages_site import AUDITOR, CHIEF, ENGINEER, HOUR, MINUTE, OFFICE, PUBLIC, RIVER, ROOT, WORKER, from_now
from tests.rig import answers, eventually

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() and not os.environ.get("CI"), reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages")
    pages_site.seed(folder).close()
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    command = [sys.executable, "-m", "tests.pages_site", str(folder), str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        answers(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=15_000)  # of a busy machine
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


Look = Callable[..., Page]


@pytest.fixture
def look(browser: Browser, site: str) -> Iterator[Look]:
    """Opens a page as somebody; at the end nothing may have complained, run over the side or be too small to read."""
    opened: list[tuple[Page, list[str]]] = []

    def at(path: str, who: str = "", size: dict[str, int] = DESK) -> Page:
        context = browser.new_context(viewport=size)
        if who:
            part = base64.urlsafe_b64encode(who.encode()).decode().rstrip("=")
            context.add_cookies([{"name": "rc-as", "value": part, "url": site}])
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        opened.append((page, complaints))
        page.goto(site + path)
        return page

    yield at
    for page, complaints in opened:
        assert [c for c in complaints if not re.search("status of (403|404|409)", c)] == []
        assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert (
            page.evaluate("""() => [...document.querySelectorAll("body *")].filter(element =>
            [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && element.checkVisibility()
            && parseFloat(getComputedStyle(element).fontSize) < 12).map(element => element.textContent.trim())""")
            == []
        )
        page.context.close()


def test_a_chief_reads_the_river_file_on_the_phone_and_sees_only_pages_of_theirs(look: Look) -> None:
    page = look("/reaches", CHIEF, PHONE)
    expect(page.get_by_test_id("menu").locator("a")).not_to_have_count(0)
    expect(page.get_by_test_id("menu-trail")).to_have_count(0)
    page.get_by_test_id(f"reach-{RIVER}").click()
    expect(page.get_by_test_id("river-name")).to_have_text("奇槎涌环湖花园段")
    expect(page.get_by_test_id("river-live")).to_contain_text("未达到目标")
    expect(page.get_by_test_id("river-chiefs")).to_contain_text(CHIEF)
    expect(page.get_by_test_id("river-plan")).to_contain_text("65%")
    expect(page.get_by_test_id("river-incidents").locator("li")).to_have_count(1)  # the other lies in another street
    expect(page.get_by_test_id("river-days").locator("svg")).to_be_visible()
    page.get_by_test_id("river-goal-0").click()
    page.get_by_test_id("start-dialog-progress").fill("80")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("river-plan")).to_contain_text("80%")
    page.goto(page.url.partition("/reaches")[0] + "/incidents?show=all")
    expect(page.get_by_test_id("cases-list").locator("li")).to_have_count(1)


def test_who_may_not_see_a_page_is_told_politely_with_the_status_of_the_api(look: Look, site: str) -> None:
    page = look("/incidents/1", PUBLIC)
    expect(page.get_by_test_id("refused")).to_contain_text("不能“查看事件”")
    cookie = {"rc-as": base64.urlsafe_b64encode(PUBLIC.encode()).decode().rstrip("=")}
    lost = httpx.get(site + "/nowhere", headers={"Accept": "text/html"})
    assert (lost.status_code, say("page_frame.no_page").zh in lost.text, 'href="/"' in lost.text) == (404, True, True)
    for path, status in (("/worklist", 403), ("/reaches/nowhere", 404), (f"/reaches/{RIVER}", 200)):
        assert httpx.get(site + path, cookies=cookie, timeout=60).status_code == status, path


@pytest.mark.parametrize(("path", "language"), [("/fails", "zh"), ("/never-ends", "zh"), ("/fails?lang=en", "en")])
def test_a_page_that_fails_or_never_ends_says_so_in_one_language_with_a_number(
    site: str, path: str, language: str
) -> None:
    answer = httpx.get(site + path, headers={"Accept": "text/html"}, timeout=60)
    assert answer.status_code == 500
    words = {"zh": say("page_frame.broken").zh, "en": say("page_frame.broken").en}
    assert words.pop(language) in answer.text
    assert not any(other in answer.text for other in words.values())
    assert re.search(r"urn:uuid:[0-9a-f-]{36}", answer.text)
    assert not re.search("RuntimeError|Timeout|words for programmers|response_timeout", answer.text)


def test_the_public_sees_the_water_and_the_sign_and_no_incident(look: Look) -> None:
    page = look("/", PUBLIC)
    expect(page.get_by_test_id("start-chart")).to_be_visible()
    expect(page.get_by_test_id("start-report").get_by_role("link")).to_have_attribute("href", "/report")
    expect(page.get_by_test_id("start-incidents")).to_have_count(0)
    expect(page.get_by_test_id("start-waters").locator("li").first).to_contain_text("奇槎涌环湖花园段")  # the worst
    assert "连续3次" not in page.content()
    page.goto(page.url.partition("/?")[0].rstrip("/") + f"/report?reach={RIVER}")
    expect(page.get_by_test_id("report-water")).to_contain_text(f"{CHIEF} 石湾镇街道河长")
    expect(page.get_by_test_id("report-water")).not_to_contain_text("罗助理")
    expect(page.get_by_test_id("report-call")).to_have_attribute("href", "tel:12345")


def test_who_reported_a_case_of_another_region_is_shown_the_way_to_what_they_sent(look: Look) -> None:
    page = look("/reported", CHIEF)
    expect(page.get_by_test_id("reported-empty")).to_contain_text("还没有上报过")
    page = look("/reported", OFFICE)
    expect(page.get_by_test_id("reported-list")).to_contain_text("环湖花园桥下有成片漂浮垃圾")
    expect(page.get_by_test_id("reported-list")).not_to_contain_text(WORKER)
    page = look("/incidents/1", CHIEF)  # of a station in another street
    expect(page.get_by_test_id("refused-reported")).to_have_attribute("href", "/reported")


def test_who_is_on_patrol_reports_with_place_and_photo_and_is_shown_what_is_open_there(look: Look, site: str) -> None:
    page = look("/incidents", WORKER, PHONE)
    page.get_by_test_id("cases-report").click()
    expect(page.get_by_test_id("report-form")).to_be_visible()
    page.get_by_test_id("report-go").click()
    expect(page.get_by_test_id("report-problem")).to_contain_text("请选择一项，或用几个字说明")
    page.get_by_role("radio", name="排污口").click()
    page.get_by_test_id("report-text").fill("桥北侧涵管流出黑水")
    page.get_by_test_id("report-go").click()
    expect(page.get_by_test_id("report-problem")).to_contain_text("位置")
    at = {"name": "涵管.png", "mimeType": "image/png", "buffer": pages_site.PHOTO}
    page.get_by_test_id("photo-input").set_input_files(at)
    expect(page.get_by_test_id("photo-file")).to_have_attribute("data-state", "kept")
    place = page.get_by_test_id("place-map")
    expect(place.locator(".rc-place-name")).not_to_have_count(0)
    place.evaluate("map => map.lookAt(113.1479, 23.0206, 16)")
    place.click()
    expect(page.get_by_test_id("report-near")).to_contain_text("环湖花园桥下有成片漂浮垃圾")  # 20 m from there
    expect(page.get_by_test_id("report-reach")).to_have_value("奇槎涌环湖花园段")
    page.get_by_test_id("report-go").click()
    thanks = page.get_by_test_id("reported-thanks")
    expect(thanks).to_contain_text("已上报：事件 #")
    number = re.search(r"new=(\d+)", page.url)[1]  # type: ignore[index]
    expect(page.get_by_test_id("reported-list")).to_contain_text("排污口：桥北侧涵管流出黑水")
    case = httpx.get(f"{site}/api/v1/incidents/{number}").json()
    incident, first = case["incident"], case["history"][0]
    assert (incident["region"], incident["reach"], incident["source"]) == (pages_site.GRID, RIVER, "patrol")
    assert (first["by"], first["role"], len(first["attachments"])) == (WORKER, "grid_worker", 1)
    (entry,) = httpx.get(f"{site}/api/v1/audit?kind=incident&id={number}").json()["items"]
    assert (entry["what"], entry["by"], entry["role"]) == ("incident.reported", WORKER, "grid_worker")


def test_a_rivers_name_on_the_map_is_text_and_never_html(look: Look) -> None:
    page = look("/reported/new", WORKER)
    hostile = "<b id=planted>桥</b>"

    def rename(route: Route) -> None:
        rivers = route.fetch().json()
        for one in rivers["features"]:
            one["properties"]["zh"] = hostile
        route.fulfill(json=rivers)

    page.route("**/api/v1/reaches*", rename)
    page.reload()
    expect(page.locator(".rc-place-name").first).to_have_text(hostile)
    expect(page.locator("#planted")).to_have_count(0)


def test_who_has_nothing_to_do_is_told_what_others_have_in_hand_and_the_office_until_when(look: Look) -> None:
    page = look("/worklist", AUDITOR)
    expect(page.get_by_test_id("tasks-empty")).to_contain_text("起未结案事件，正由他人办理")
    page.get_by_test_id("tasks-empty").get_by_role("link").click()
    expect(page.get_by_test_id("cases-list").locator("li")).not_to_have_count(0)
    page = look("/worklist", OFFICE)
    expect(page.get_by_test_id("tasks-list").locator("li").first).to_contain_text(re.compile("还剩|已超时"))


def test_whom_to_call_is_for_all_who_work_and_the_calendar_for_who_leads_or_dispatches(look: Look) -> None:
    for who, calendars in ((WORKER, 0), (CHIEF, 1)):
        page = look("/oncall", who)
        expect(page.get_by_test_id("oncall-now")).to_contain_text("值班甲（示例）")
        expect(page.get_by_test_id("oncall-calendar")).to_have_count(calendars)
        expect(page.get_by_test_id("oncall-change")).to_have_count(0)


def test_an_operator_sees_deadline_source_and_messages_and_carries_the_case_on(look: Look) -> None:
    page = look("/incidents/1", OFFICE)
    expect(page.get_by_test_id("case-title")).to_contain_text("氨氮")
    expect(page.get_by_test_id("case-stops").locator("[aria-current=step]")).to_contain_text("待受理")
    expect(page.get_by_test_id("case-deadline")).to_contain_text("还剩")
    expect(page.get_by_test_id("case-messages")).to_contain_text("已确认")
    expect(page.get_by_test_id("case-messages")).to_contain_text("已放弃")
    expect(page.get_by_test_id("case-chart").locator("canvas")).to_be_visible()
    expect(page.get_by_test_id("case-sources").locator("li")).not_to_have_count(0)
    expect(page.get_by_test_id("case-map").locator("svg")).to_be_visible()
    page.get_by_test_id("case-accept").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("case-stops").locator("[aria-current=step]")).to_contain_text("已受理")
    expect(page.get_by_test_id("case-timeline")).to_contain_text(f"{OFFICE}受理了事件1")
    page.get_by_test_id("case-dispatch").click()  # the suggestion is filled in
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("case-stops").locator("[aria-current=step]")).to_contain_text("已派遣")
    pdf = page.context.request.get(page.get_by_test_id("case-pdf-zh").evaluate("link => link.href"))
    assert pdf.body().startswith(b"%PDF")


def test_merging_and_splitting_are_chosen_from_lists_and_told_before_they_are_done(look: Look) -> None:
    page = look("/incidents/1", OFFICE)
    page.get_by_test_id("case-more").click()
    page.get_by_test_id("case-merge").click()
    expect(page.get_by_test_id("start-dialog-preview")).to_contain_text("选好后")
    page.get_by_test_id("start-dialog-into").click()
    page.get_by_role("option", name="环湖花园桥下有成片漂浮垃圾").click()
    expect(page.get_by_test_id("start-dialog-preview")).to_contain_text("#1 结案，由 #2 继续办理")
    page.get_by_test_id("start-dialog-cancel").click()
    expect(page.get_by_test_id("start-dialog")).to_have_count(0)
    page.get_by_test_id("case-more").click()
    page.get_by_test_id("case-split").click()
    expect(page.get_by_test_id("start-dialog-preview")).to_contain_text("至少一项")
    first = page.get_by_test_id("start-dialog-conditions-0")
    expect(first).to_contain_text("奇槎涌环湖花园段下游 · 氨氮")
    first.click()
    expect(page.get_by_test_id("start-dialog-preview")).to_contain_text("新事件有1项异常")
    page.get_by_test_id("start-dialog-cancel").click()
    expect(page.get_by_test_id("start-dialog")).to_have_count(0)
    page.get_by_test_id("case-more").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("case-split")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("case-split")).to_be_hidden()
    expect(page.get_by_test_id("case-more")).to_be_focused()


def test_a_photo_is_shown_before_the_case_is_finished_and_no_photo_is_refused(look: Look) -> None:
    page = look("/incidents/2", pages_site.WORKER, PHONE)
    page.get_by_test_id("case-finish").click()
    page.get_by_test_id("start-dialog-comment").fill("已清理完毕")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-dialog-error")).to_contain_text("照片")  # nothing to show for it yet
    picker = page.get_by_test_id("photo-input")
    picker.set_input_files({"name": "假.jpg", "mimeType": "image/jpeg", "buffer": b"no photo at all"})
    expect(page.get_by_test_id("photo-file")).to_have_attribute("data-state", "refused")
    picker.set_input_files({"name": "清理后.png", "mimeType": "image/png", "buffer": pages_site.PHOTO})
    expect(page.get_by_test_id("photo-file").nth(1)).to_have_attribute("data-state", "kept")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("case-stops").locator("[aria-current=step]")).to_contain_text("处置完成")
    expect(page.get_by_test_id("case-files").locator("img")).to_have_count(1)
    expect(page.get_by_test_id("case-timeline").locator("blockquote").first).to_contain_text("已清理完毕")


def test_a_dead_letter_is_seen_by_who_keeps_account_and_sent_again_by_the_office(look: Look) -> None:
    page = look("/messages", AUDITOR)
    expect(page.get_by_test_id("messages-refused")).to_contain_text("编号格式不符")
    expect(page.get_by_test_id("delivery-1-replay")).to_have_count(0)
    expect(page.get_by_test_id("messages-table")).to_contain_text(CHIEF)
    page = look("/messages?show=dead", OFFICE, PHONE)
    expect(page.get_by_test_id("messages-table").locator("tbody tr")).to_have_count(1)
    page.get_by_test_id("delivery-1-replay").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("messages-refused")).to_have_count(0)


def test_the_office_changes_who_is_on_call(look: Look) -> None:
    page = look("/oncall", OFFICE)
    expect(page.get_by_test_id("oncall-now")).to_contain_text("值班甲")
    page.get_by_test_id("oncall-change").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-dialog-error")).to_contain_text("请选择值班人")
    page.get_by_test_id("start-dialog-person").click()
    page.get_by_role("option", name="值班乙（示例）").click()
    page.get_by_test_id("start-dialog-begins").fill(pages_site.from_now(-pages_site.HOUR))
    page.get_by_test_id("start-dialog-until").fill(pages_site.from_now(pages_site.HOUR))
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("oncall-now")).to_contain_text("值班乙")
    expect(page.get_by_test_id("oncall-changes")).to_contain_text(OFFICE)


def test_a_citizens_draft_survives_a_reload_and_the_photo_is_made_small_on_the_phone(look: Look) -> None:
    page = look(f"/report?reach={RIVER}", "", PHONE)
    expect(page.get_by_test_id("report-water")).to_contain_text("请勿接触")
    page.get_by_test_id("report-kind-litter").check()
    page.get_by_test_id("report-text").fill("桥下有漂浮垃圾")
    page.reload()
    expect(page.get_by_test_id("report-text")).to_have_value("桥下有漂浮垃圾")
    expect(page.get_by_test_id("report-kind-litter")).to_be_checked()
    picker = page.get_by_test_id("report-photos")
    picker.set_input_files({"name": "桥.png", "mimeType": "image/png", "buffer": pages_site.PHOTO})
    # asked from outside: what the page would wait for by itself is a string, which its policy does not run
    smaller = "() => document.forms[0].photos.files[0]?.type === 'image/jpeg'"
    eventually("the photo is made smaller", lambda: page.evaluate(smaller))
    page.get_by_test_id("report-go").click()
    expect(page.get_by_test_id("report-thanks")).to_be_visible()
    expect(page.get_by_test_id("report-stages").locator("[aria-current]")).to_have_text("已收到")
    assert page.evaluate("localStorage.length") == 0


def test_an_administrator_appoints_a_successor_who_takes_over_the_open_cases(look: Look) -> None:
    page = look("/people", CHIEF)
    expect(page.get_by_test_id("people-levels")).to_contain_text("石湾镇街道")
    expect(page.get_by_test_id("people-levels")).not_to_contain_text("南庄镇")  # another street's
    expect(page.get_by_test_id("people-appoint")).to_have_count(0)
    page = look("/people", pages_site.ADMINISTRATOR)
    page.get_by_test_id("people-appoint").click()
    for field, name in (("person", "梁村级河长（示例）"), ("region", "石湾镇街道"), ("reach", "奇槎涌环湖花园段")):
        page.get_by_test_id(f"start-dialog-{field}").click()
        page.get_by_role("option", name=name).click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("people-inherited")).to_contain_text("#2")
    expect(page.get_by_test_id("people-reaches").locator("tr", has_text="奇槎涌环湖花园段")).to_contain_text(
        "梁村级河长"
    )


def test_an_administrator_adds_how_somebody_is_reached_and_the_address_is_not_shown_again(look: Look) -> None:
    page = look("/people", pages_site.ADMINISTRATOR)

    def open_form() -> None:
        person = page.locator(".rc-member", has_text="梁村级河长（示例）").first
        person.locator("summary").click()
        person.get_by_role("button", name="联系方式").click()

    open_form()
    page.get_by_test_id("start-dialog-channel").fill("json://geheim.example/hook")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-dialog-confirm")).to_have_count(0)
    open_form()
    expect(page.get_by_text("已登记：json")).to_be_visible()
    assert "geheim" not in page.content()


def test_an_auditor_verifies_the_trail_takes_a_proof_and_sees_a_case_as_it_stood(look: Look) -> None:
    page = look("/trail?kind=incident&id=2", AUDITOR)
    entries = page.get_by_test_id("trail-entries")
    expect(entries.locator("[title='incident.dispatched']")).to_have_count(1)
    expect(entries.locator("[title='plan.changed']")).to_have_count(0)
    page.get_by_test_id("trail-verify").click()
    expect(page.get_by_test_id("trail-found")).to_contain_text("完整")
    with page.expect_download() as taken:
        page.locator("[data-testid$=-proof]").last.click()
    assert taken.value.suggested_filename.startswith("proof-")
    accepted = entries.locator("tr", has=page.locator("[title='incident.accepted']"))
    then = accepted.locator("td").nth(1).get_attribute("title").removesuffix(" (UTC)")
    page.get_by_test_id("trail-incident").fill("2")
    page.get_by_test_id("trail-at").fill(pages_site.beijing_minute(then))
    page.get_by_test_id("trail-as-of-go").click()
    expect(page.get_by_test_id("trail-then")).to_contain_text("已受理，已有2条办理记录")


def test_the_months_assessment_shows_its_formula_and_comes_as_a_spreadsheet(look: Look) -> None:
    page = look("/assessment?by=street", OFFICE)
    expect(page.get_by_test_id("assessment-table")).to_contain_text("石湾镇街道")
    expect(page.get_by_test_id("assessment-note")).to_contain_text("试算")
    expect(page.get_by_test_id("assessment-formula")).to_contain_text("巡河率")
    with page.expect_download() as taken:
        page.get_by_test_id("assessment-excel").click()
    assert Path(taken.value.path()).read_bytes().startswith(b"PK")


def test_a_changed_rule_is_checked_while_it_is_typed_and_tried_when_it_is_right(look: Look) -> None:
    page = look("/rules", ENGINEER, PHONE)
    page.get_by_test_id("rules-row-nh3n-worse-than-class-five").get_by_role("link").click()
    wrong = page.locator("[data-wrong-of=clear]")
    page.locator("input[name=limit]").fill("1.5")
    expect(wrong).not_to_be_empty()
    page.locator("input[name=clear]").fill("1.3")
    expect(wrong).to_be_empty()
    expect(page.get_by_test_id("rules-preview")).to_contain_text("1.500 mg/L")
    page.get_by_test_id("rules-numbers").get_by_test_id("rules-send").click()
    expect(page.get_by_test_id("rules-changes")).to_contain_text("1.300 mg/L")
    expect(page.get_by_test_id("rules-progress")).to_be_visible()


def test_an_engineer_at_the_water_begins_a_visit_with_the_thumb_and_says_what_was_done(look: Look, site: str) -> None:
    page = look("/care", ENGINEER, PHONE)
    expect(page.get_by_test_id("care-qcc-huanhu-2")).to_contain_text("到期未核查：溶解氧、氨氮")
    page.get_by_test_id("care-qcc-huanhu-2").get_by_role("link").click()
    expect(page.get_by_test_id("care-name")).to_have_text("奇槎涌环湖花园段中游")
    begin = page.get_by_test_id("care-begin")
    expect(begin).to_be_visible()
    box = begin.bounding_box()
    assert box is not None
    assert (box["y"] > PHONE["height"] * 2 / 3, box["height"] >= 48) == (True, True)  # where the thumb is
    begin.click()
    page.get_by_test_id("start-dialog-sensors-2").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("care-working")).to_contain_text(f"{ENGINEER}正在作业")
    expect(page.get_by_test_id("care-begin")).to_have_count(0)
    page.get_by_test_id("care-end").click()
    page.get_by_test_id("start-dialog-done-0").click()
    page.get_by_test_id("start-dialog-note").fill("探头上有藻")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("care-working")).to_have_count(0)
    expect(page.get_by_test_id("care-visits")).to_contain_text("清洗探头；探头上有藻")
    (kept,) = httpx.get(f"{site}/api/v1/stations/qcc-huanhu-2/visits").json()["items"]
    assert (kept["parameters"], kept["by"], kept["until"] is None) == (["nh3n"], ENGINEER, False)


def test_a_visit_recorded_later_shows_what_it_changed(look: Look) -> None:
    page = look("/care/qcc-huanhu-1", ENGINEER)
    page.get_by_test_id("care-record").click()
    page.get_by_test_id("start-dialog-sensors-0").click()
    page.get_by_test_id("start-dialog-since").fill(from_now(-3 * HOUR))
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("start-dialog-error")).to_contain_text("开始和结束时间")
    page.get_by_test_id("start-dialog-until").fill(from_now(-3 * HOUR + 20 * MINUTE))
    page.get_by_test_id("start-dialog-done-1").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("care-visits")).to_contain_text(
        re.compile(r"溶解氧：6\.2\d mg/L → 6\.2\d mg/L（[+-]0\.0")
    )
    expect(page.get_by_test_id("care-visits")).not_to_contain_text("氨氮")


def test_a_check_says_before_it_is_kept_whether_it_passes_and_one_that_failed_is_due_at_once(look: Look) -> None:
    page = look("/care/qcc-huanhu-3", ENGINEER)
    expect(page.get_by_test_id("care-due-do")).to_contain_text("从未核查")
    page.get_by_test_id("care-check").click()
    preview = page.get_by_test_id("start-dialog-preview")
    expect(preview).to_contain_text("填好传感器")
    page.get_by_test_id("start-dialog-standard").fill("8")
    page.get_by_test_id("start-dialog-reading").fill("8.25")
    expect(preview).to_have_text("误差 +0.250 mg/L，允许 ±0.300 mg/L：合格")
    page.get_by_test_id("start-dialog-reading").fill("8.5")
    expect(preview).to_contain_text("不合格")
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("care-due-do")).to_contain_text("立即：上次不合格")
    expect(page.get_by_test_id("care-checks")).to_contain_text("标准 8.00 mg/L，读数 8.50 mg/L")
    page.get_by_test_id("care-checks").get_by_role("button").click()
    page.get_by_test_id("start-dialog-confirm").click()
    expect(page.get_by_test_id("care-checks")).to_contain_text("已作废")
    expect(page.get_by_test_id("care-due-do")).to_contain_text("从未核查")


def test_who_may_not_record_a_visit_has_no_page_for_it(look: Look) -> None:
    page = look("/care/qcc-huanhu-3", CHIEF)
    expect(page.get_by_test_id("refused")).to_contain_text("不能")
    expect(page.get_by_test_id("menu-care")).to_have_count(0)


def test_the_map_shows_what_was_reported_to_who_sees_cases_and_leads_there(look: Look, site: str) -> None:
    told = httpx.post(f"{site}/api/v1/reports", data={"text": "岸边有油污（示例）", "reach": RIVER}, timeout=60)
    assert told.status_code == 201, told.text
    page = look("/", OFFICE)
    expect(page.get_by_test_id("start-field")).to_contain_text(re.compile("上报 [1-9].*热线 1.*今日巡河 0"))
    point = page.locator(".leaflet-marker-pane .rc-spot-report[title*='岸边有油污']")
    expect(point).to_have_attribute("title", re.compile("^上报 · "))
    point.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/incidents/[0-9]+"))
    expect(page.get_by_text("岸边有油污（示例）").first).to_be_visible()
    page = look("/", PUBLIC)
    expect(page.get_by_test_id("start-map")).to_have_attribute("data-map-state", "shown")
    expect(page.get_by_test_id("start-field")).to_have_count(0)


def test_a_long_work_list_begins_with_the_most_urgent_and_shows_the_rest_when_asked(look: Look, site: str) -> None:
    for i in range(31):  # the last test here: it fills the lists of the site
        told = {"text": f"示例：第{i}处漂浮垃圾", "region": pages_site.GRID, "by": OFFICE}
        assert httpx.post(f"{site}/api/v1/incidents", json=told).status_code == 201
    page = look("/worklist", OFFICE)
    expect(page.get_by_test_id("tasks-list").locator("> li")).to_have_count(30)
    page.get_by_test_id("tasks-more").click()
    expect(page.get_by_test_id("tasks-more")).to_have_count(0)
    assert page.get_by_test_id("tasks-list").locator("> li").count() >= 31
