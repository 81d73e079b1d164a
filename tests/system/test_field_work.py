"""Work at the water with the field app, as a phone does it: without a network, without a place, in a browser that dies.

What a person entered is asked once, arrives once, and stands on the server as it was entered.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Playwright, expect, sync_playwright
from reportlab.graphics.barcode.qr import QrCodeWidget

from api.pages import assets
from governance.reports.patrols import PatrolRule, Point, judge_patrol, measure_track
from sensors.standards import hj915
from tests import pages_site
from tests.browser import ARGUMENTS, CHROMIUM, seeded
from tests.field_browser import SMALL_TARGETS, Phone
from tests.system.test_pages_axe import AXE, SMALL, WIDE
from tools import build_assets

pytestmark = pytest.mark.browser

STATION, SENSOR = "dph-shiwan-1", "ph"
RECEIPTS = "/field/records"
AT_STATION = {"longitude": 113.0858, "latitude": 23.0101, "accuracy": 6.0}
SCRIPTS = assets.STATIC.parent / "assets/js/field"
DRAFT = """async ([key, value]) => {
  const asked = indexedDB.open("riverchief-field");
  const db = await new Promise((done) => (asked.onsuccess = () => done(asked.result)));
  const drafts = db.transaction("drafts", "readwrite").objectStore("drafts");
  const request = value ? drafts.put({ ...value, photos: [] }, key) : drafts.get(key);
  const found = await new Promise((done) => (request.onsuccess = () => done(request.result)));
  db.close();
  return value ? null : found ?? null;
}"""
"""What the phone keeps of a form; puts a value there where one is given."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("field")) as url:
        yield url


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        expect.set_options(timeout=15_000)
        yield found


@pytest.fixture
def phone_of(playwright: Playwright, site: str, tmp_path: Path) -> Iterator[Callable[[str], Phone]]:
    made: list[Phone] = []

    def phone(person: str) -> Phone:
        made.append(Phone(playwright, tmp_path / f"phone{len(made)}", site, person))
        return made[-1]

    yield phone
    for one in made:
        one.close()


def test_a_sensor_is_hung_and_calibrated_offline_in_a_browser_that_is_killed(phone_of: Callable[[str], Phone]) -> None:
    phone = phone_of(pages_site.ENGINEER).open()
    phone.is_at(AT_STATION)
    phone.register()
    before = phone.ask(f"/stations/{STATION}/deployments")["items"]
    phone.context.set_offline(True)

    phone.tap("field-go-scan").enter("scan-code", "无此站").tap("scan-open")
    expect(phone.seen("scan-new")).to_be_visible()
    phone.enter("scan-code", STATION).tap("scan-open")
    phone.steps = 0
    phone.tap(f"station-swap-{SENSOR}")
    expect(phone.seen("hang-place")).to_have_attribute("data-state", "ok")
    phone.seen("hang-finish").click()
    expect(phone.seen("hang-serial")).to_be_focused()
    expect(phone.seen("hang-saved")).to_have_count(0)
    phone.photo("hang-photo").enter("hang-serial", "EX-S5-0009").enter("hang-depth", "0.8")
    draft = f"hang:{STATION}:{SENSOR}"
    phone.until(f"async () => (await ({DRAFT})(['{draft}', null]))?.depth === '0.8'")
    phone.kill()

    phone.open(online=False)
    phone.seen("field-form-open").click()
    expect(phone.seen("hang-serial")).to_have_value("EX-S5-0009")
    expect(phone.seen("hang-depth")).to_have_value("0.8")
    phone.seen("hang-reading").fill("1.2")
    expect(phone.seen("hang-light")).to_have_attribute("data-light", "low")
    phone.enter("hang-reading", "7.2")
    expect(phone.seen("hang-light")).to_have_attribute("data-light", "ok")
    phone.tap("hang-finish")
    expect(phone.seen("hang-saved")).to_be_visible()
    assert phone.steps <= 6

    phone.tap("hang-calibrate")
    phone.steps = 0
    phone.enter("calibrate-standard", "6.86").enter("calibrate-lot", "示例-001").enter("calibrate-before", "7.10")
    expect(phone.seen("calibrate-before-verdict")).to_have_attribute("data-state", "no")
    expect(phone.seen("calibrate-suspect")).to_be_visible()
    phone.enter("calibrate-after", "6.87")
    expect(phone.seen("calibrate-after-verdict")).to_have_attribute("data-state", "ok")
    phone.go(f"/s/{STATION}")
    expect(phone.seen("station-visiting")).to_be_visible()
    phone.kill()

    phone.open(online=False)
    phone.go(f"/s/{STATION}/calibrate/{SENSOR}")
    expect(phone.seen("calibrate-after")).to_have_value("6.87")
    phone.tap("calibrate-finish")
    assert phone.steps <= 5
    expect(phone.seen("station-visiting")).to_have_count(0)
    phone.send_all()
    phone.go("/queue")
    expect(phone.page.locator(".f-record h3").first).to_contain_text("pH值")

    hung = [one for one in phone.ask(f"/stations/{STATION}/deployments")["items"] if one["parameter"] == SENSOR]
    assert len(hung) == 1 + len([one for one in before if one["parameter"] == SENSOR])
    assert (hung[0]["device"], hung[0]["depth_m"], hung[0]["in_force"]) == ("EX-S5-0009", 0.8, True)
    checks = phone.ask(f"/stations/{STATION}/calibrations")["items"]
    assert [(c["standard"], c["reading"], c["after"], c["lot"], c["passed"], c["left_right"]) for c in checks] == [
        (6.86, 7.1, 6.87, "示例-001", False, True)
    ]
    (visit,) = phone.ask(f"/stations/{STATION}/visits")["items"]
    assert visit["parameters"] == [SENSOR]
    assert visit["until"] is not None
    receipts = phone.ask(RECEIPTS)["items"]
    assert sorted((one["kind"], one["outcome"]) for one in receipts) == [
        ("calibrate", "applied"),
        ("hang", "applied"),
        ("visit", "applied"),
    ]
    assert len(phone.ask(f"/stations/{STATION}/photos")["items"]) == 1


def test_a_report_without_a_place_is_filed_and_gets_its_place_later(phone_of: Callable[[str], Phone]) -> None:
    phone = phone_of(pages_site.WORKER).open().register()
    phone.context.set_offline(True)
    phone.steps = 0
    phone.tap("field-go-report").photo("report-photo").pick("report-kind-litter")
    expect(phone.seen("report-place")).to_have_attribute("data-state", "denied")
    draft = phone.page.evaluate(DRAFT, ["report:", None])
    phone.tap("report-send")
    assert phone.steps <= 4
    expect(phone.seen("report-no-place")).to_be_visible()
    assert phone.page.evaluate(DRAFT, ["report:", None]) is None
    expect(phone.unsent()).to_have_text("1条")

    phone.page.evaluate(DRAFT, ["report:", draft])  # as if the browser had died between saving and forgetting the form
    phone.go("/")
    expect(phone.seen("field-place-wanted")).to_be_visible()
    expect(phone.seen("field-form-open")).to_have_count(0)
    phone.go("/report")
    expect(phone.seen("report-kind-litter")).not_to_be_checked()
    expect(phone.unsent()).to_have_text("1条")
    phone.send_all()

    (receipt,) = phone.ask(RECEIPTS)["items"]
    assert receipt["outcome"] == "applied"
    number = receipt["made"]["incident"]
    assert phone.ask(f"/incidents/{number}")["incident"]["matter"] == "litter"
    phone.is_at(AT_STATION)
    phone.go("/").tap("field-place-wanted")
    expect(phone.seen("place-here")).to_have_attribute("data-state", "ok")
    phone.tap("place-save")
    expect(phone.seen("place-save")).to_have_count(0)
    phone.send_all()
    receipts = phone.ask(RECEIPTS)["items"]
    assert sorted((one["kind"], one["made"]["incident"]) for one in receipts) == [("place", number), ("report", number)]


def test_a_patrol_goes_on_after_a_crash_and_is_one_track(phone_of: Callable[[str], Phone]) -> None:
    phone = phone_of(pages_site.DEPUTY).open()
    phone.is_at(AT_STATION)
    phone.register()
    phone.context.set_offline(True)
    phone.tap("field-go-patrol")
    expect(phone.seen("patrol-rule")).to_be_visible()
    expect(phone.seen("patrol-for")).to_contain_text(pages_site.CHIEF)
    phone.seen("patrol-reach").select_option(pages_site.RIVER)
    phone.page.clock.install(time=(pages_site.now_ms() - pages_site.MINUTE) / 1000)
    phone.is_at({**AT_STATION, "latitude": AT_STATION["latitude"] - 0.0002})
    phone.steps = 0
    phone.tap("patrol-start")
    assert phone.steps == 1
    expect(phone.seen("patrol-points")).to_have_attribute("data-points", "1")
    phone.page.clock.fast_forward(15_000)
    phone.is_at({**AT_STATION, "latitude": AT_STATION["latitude"] - 0.0001})
    expect(phone.seen("patrol-points")).to_have_attribute("data-points", "2")
    phone.kill()

    phone.open(online=False)
    phone.is_at({**AT_STATION, "latitude": AT_STATION["latitude"] + 0.0001})
    phone.tap("field-patrol-on")
    expect(phone.seen("patrol-points")).to_have_attribute("data-points", "3")
    phone.tap("patrol-problem").photo("problem-photo").pick("problem-kind-outfall").tap("problem-save")
    phone.is_at({**AT_STATION, "latitude": AT_STATION["latitude"] + 0.0002})
    phone.tap("patrol-pause")
    expect(phone.seen("patrol-resume")).to_be_visible()
    phone.kill()

    phone.open(online=False)
    phone.tap("field-patrol-on").tap("patrol-resume").tap("patrol-end")
    expect(phone.seen("patrol-result")).to_have_attribute("data-valid", "false")
    phone.enter("patrol-note", "雷雨").tap("patrol-save")
    expect(phone.unsent()).to_have_text("1条")
    phone.send_all()

    (receipt,) = [one for one in phone.ask(RECEIPTS)["items"] if one["kind"] == "patrol"]
    assert receipt["outcome"] == "applied", receipt["message"]
    made = phone.ask(f"/patrols/{receipt['made']['patrol']}")
    assert (made["valid"], made["note"], made["reach"]) == (False, "雷雨", pages_site.RIVER)
    assert (made["by"], made["chief"]) == (pages_site.DEPUTY, pages_site.CHIEF)
    (number,) = made["problems"]
    assert any(entry["attachments"] for entry in phone.ask(f"/incidents/{number}")["history"])
    assert len(made["track"]["coordinates"]) >= 3
    assert len([one for one in phone.ask("/patrols")["items"] if one["by"] == pages_site.DEPUTY]) == 1


def large_photo() -> bytes:
    """More than a phone sends over a weak line."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


def test_a_task_is_done_with_a_photo_in_three_steps_and_corrected(phone_of: Callable[[str], Phone]) -> None:
    phone = phone_of(pages_site.CHIEF).open().register()
    card = phone.page.locator("[data-testid^=field-task-]").first
    expect(card).to_be_visible()
    number = int((card.get_attribute("data-testid") or "").rsplit("-", 1)[1])
    phone.context.set_offline(True)
    phone.steps = 0
    phone.tap(f"field-task-{number}").photo("task-photo", large_photo()).tap("task-done")
    assert phone.steps == 3
    phone.page.wait_for_url("**#/tasks")
    expect(phone.unsent()).to_have_text("1条")
    phone.go(f"/tasks/{number}")
    expect(phone.seen("task-reported")).to_be_visible()
    phone.send_all()
    assert phone.ask(f"/incidents/{number}")["incident"]["state"] == "handled"
    (sent,) = [one for one in phone.ask(RECEIPTS)["items"] if one["kind"] == "done"]
    phone.until("async () => (await field.list())[0].photos[0].original.stored > 0")

    phone.go(f"/queue/{sent['id']}").tap("queue-correct").enter("correct-text", "只清理了上游").tap("correct-save")
    expect(phone.page.locator(".f-record")).to_have_attribute("data-state", "sent")
    last = phone.ask(f"/incidents/{number}")["history"][-1]
    assert (last["what"], last["comment"]) == ("corrected", "只清理了上游")


def test_a_label_before_the_camera_opens_its_station_offline(phone_of: Callable[[str], Phone], tmp_path: Path) -> None:
    seen = tmp_path / "label.y4m"
    seen.write_bytes(_film(f"https://river.example/field/#/s/{STATION}"))
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    phone = phone_of(pages_site.ENGINEER).open(*camera, f"--use-file-for-fake-video-capture={seen}").register()
    phone.context.set_offline(True)
    phone.tap("field-go-scan")
    expect(phone.seen(f"station-sensor-{SENSOR}")).to_be_visible()


def _film(text: str) -> bytes:
    """A film of two pictures of a QR code, for the camera of Chromium."""
    width, height, module = 640, 480, 8
    code = QrCodeWidget(text, barLevel="M").qr
    code.make()
    grey = np.full((height, width), 235, np.uint8)
    dark = np.kron(np.array(code.modules, dtype=bool), np.ones((module, module), dtype=bool))
    top, left = (height - dark.shape[0]) // 2, (width - dark.shape[1]) // 2
    grey[top : top + dark.shape[0], left : left + dark.shape[1]][dark] = 16
    frame = b"FRAME\n" + grey.tobytes() + b"\x80" * (width * height // 2)
    return f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420\n".encode() + frame * 2


SCREENS = (
    "/scan",
    f"/s/{STATION}",
    f"/s/{STATION}/hang/{SENSOR}",
    f"/s/{STATION}/calibrate/{SENSOR}",
    f"/s/{STATION}/visit",
    "/s/nothing",
    "/new/nothing",
    "/report",
    "/patrol",
    "/tasks/1",
)
LOOKS = (("axe", AXE), ("small", SMALL), ("wide", WIDE), ("targets", SMALL_TARGETS))


def test_every_screen_is_fit_for_everybody(phone_of: Callable[[str], Phone]) -> None:
    axe = build_assets.axe()
    found: dict[str, Any] = {}
    phone = phone_of(pages_site.ENGINEER).open()
    phone.is_at(AT_STATION)
    phone.register()
    phone.context.set_offline(True)

    def look(name: str) -> None:
        found.update({f"{name} {what}": seen for what, code in LOOKS if (seen := phone.page.evaluate(code))})

    looks: tuple[tuple[str, Literal["light", "dark"]], ...] = (("en", "dark"), ("zh", "light"))
    for language, scheme in looks:
        phone.page.emulate_media(color_scheme=scheme)
        phone.page.goto(f"{phone.url}/field/?lang={language}")
        expect(phone.seen("field-go-scan")).to_be_visible()
        phone.page.evaluate(axe)
        for screen in SCREENS:
            phone.go(screen)
            look(f"{language} {screen}")
    _look_within_forms(phone, look)
    assert not found, json.dumps(found, ensure_ascii=False, indent=1)
    _forget_a_visit(phone)


def _look_within_forms(phone: Phone, look: Callable[[str], None]) -> None:
    """The later steps of what takes several, with something entered."""
    phone.go(f"/s/{STATION}/hang/{SENSOR}").photo("hang-photo").enter("hang-serial", "EX-S5-0008").enter(
        "hang-reading", "99"
    )
    expect(phone.seen("hang-light")).to_have_attribute("data-light", "high")
    look("hang")
    phone.tap("hang-finish")
    expect(phone.seen("hang-saved")).to_be_visible()
    look("hang saved")
    phone.tap("hang-calibrate").enter("calibrate-standard", "6.86").enter("calibrate-before", "7.9")
    expect(phone.seen("calibrate-suspect")).to_be_visible()
    look("calibrate failed")
    phone.go("/scan").enter("scan-code", "无此站").tap("scan-open")
    look("scan unknown")
    phone.go("/patrol").tap("patrol-start").tap("patrol-problem").pick("problem-kind-shore")
    look("patrol problem")
    phone.tap("problem-save")
    expect(phone.seen("patrol-points")).to_be_visible()
    look("patrol")
    phone.tap("patrol-end")
    expect(phone.seen("patrol-result")).to_be_visible()
    look("patrol end")
    phone.go("/")
    expect(phone.seen("field-patrol-on")).to_be_visible()
    look("home with what is not finished")


def _forget_a_visit(phone: Phone) -> None:
    """The calibration began a visit; three hours later the first screen asks whether it was forgotten."""
    phone.page.clock.install(time=(pages_site.now_ms() + 3 * pages_site.HOUR) / 1000)
    phone.go("/scan").go("/")
    phone.tap("field-visit-late")
    expect(phone.seen("visit-overrun")).to_be_visible()
    phone.photo("visit-photo").tap("visit-end")
    expect(phone.seen("station-start")).to_be_visible()


@contextmanager
def module(page: Page, name: str) -> Iterator[Callable[[str, Any], Any]]:
    """A function that runs an expression of a script that imports nothing: `m` is the module, `given` the values."""
    source = (SCRIPTS / name).read_text(encoding="utf-8")
    address = "data:text/javascript," + "".join(f"%{byte:02x}" for byte in source.encode())

    def run(expression: str, given: Any) -> Any:
        code = f"async ([address, given]) => {{ const m = await import(address); return {expression}; }}"
        return page.evaluate(code, [address, given])

    yield run


def test_the_phone_measures_and_judges_as_the_server_does(playwright: Playwright) -> None:
    track = [Point(i * 15_000, 113.1 + 0.0002 * (i % 7), 23.0 + 0.0001 * i * (4 if i == 9 else 1)) for i in range(60)]
    track[30] = Point(track[30].at_ms, 114.0, 23.5)
    rule = PatrolRule(10, 1000)
    given = [{"at": p.at_ms, "lon": p.lon, "lat": p.lat} for p in track]
    rules = {"minutes": rule.minutes, "metres": rule.metres, "fastest_m_s": rule.fastest_m_s}
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    page = browser.new_page()
    with module(page, "track.js") as run:
        for count in (0, 1, 2, 20, 60):
            ours = measure_track(track[:count], rule)
            theirs = run("m.measure(given[0], given[1])", [given[:count], rules])
            assert theirs == pytest.approx({"metres": ours.metres, "minutes": ours.minutes, "jumps": ours.jumps})
            lacks = run("m.lacking(m.measure(given[0], given[1]), given[1])", [given[:count], rules])
            assert (not any(lacks.values())) == judge_patrol("walk", ours, rule)[0]
    with module(page, "judge.js") as run:
        for kind in (hj915.ErrorKind.ABSOLUTE, hj915.ErrorKind.RELATIVE):
            for reading in (6.71, 6.86, 7.01, 7.0100001, 7.2):
                limit = {"kind": kind.value, "most": 0.15}
                error = hj915.error(kind, reading, 6.86)
                judged = run("m.judge(given.limit, given.reading, 6.86)", {"limit": limit, "reading": reading})
                assert judged == pytest.approx({"error": error, "passed": hj915.within(error, 0.15)})
        typed = {"6.86": 6.86, "6,86": 6.86, " -1 ": -1, "": None, "6.8.6": None, "abc": None, "1e5": None}
        assert run("given.map((one) => m.numberOf(one))", list(typed)) == list(typed.values())
    browser.close()
