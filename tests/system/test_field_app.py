"""The field app keeps what it is given: through a killed browser, a bad line, a full phone and a new version.

RIVERCHIEF_LONG=1 cuts the line and the browser 200 times, as a release is tested.
"""

import base64
import hashlib
import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright, expect, sync_playwright

from tests import pages_site
from tests.browser import seeded
from tests.field_browser import SMALL_TARGETS, Phone
from tests.long import LONG
from tests.proxy import Behaviour, CutAnswer, CutRequest, Forward, HangUp, Proxy, Seen, Status
from tests.system.test_pages_axe import AXE, SMALL, WIDE
from tools import build_assets

pytestmark = pytest.mark.browser

CYCLES = 200 if LONG else 12
SENT = 200 if LONG else 16
SEED = 20
KILLED_EACH = 4
"""Of so many cycles one kills the browser."""
RECORDS = "/api/v1/field/records"
FAULTS: tuple[Callable[[], Behaviour], ...] = (HangUp, CutAnswer, CutRequest, lambda: Status(503))
SAVE = """async ([text, photo]) => {
  const bytes = photo && Uint8Array.from(atob(photo), (one) => one.charCodeAt(0));
  const place = { lon: 113.1478, lat: 23.0205, accuracy_m: 6 };
  const photos = photo ? [new Blob([bytes], { type: "image/png" })] : [];
  return field.save("report", { new: { text, matter: "litter", colour: null, place, reach: null } }, photos);
}"""
FULL = """() => {
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (value, ...key) {
    if (value instanceof Blob) throw new DOMException("full", "QuotaExceededError");
    return put.call(this, value, ...key);
  };
}"""
"""As browsers say it: Chromium no longer lets a test set the quota of a browser with a profile."""
STATES = "async () => Object.fromEntries((await field.list()).map((one) => [one.id, field.stateOf(one)]))"


class Line(Proxy):
    """The line to the server, and a server that has a new version of the app since ``build`` was set."""

    build = ""

    def _pass(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        seen.headers.pop("Accept-Encoding", None)
        status, headers, body = super()._pass(seen)
        if self.build and seen.path == "/field/worker.js":
            body = body.replace(b'{"build": "', b'{"build": "' + self.build.encode(), 1)
        if self.build and seen.path == "/field/":
            body = body.replace(b'data-build="', b'data-build="' + self.build.encode(), 1)
        return status, headers, body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded(tmp_path_factory.mktemp("field")) as url:
        yield url


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        expect.set_options(timeout=30_000)
        yield found


@pytest.fixture
def line(site: str) -> Iterator[Line]:
    with Line(site) as found:
        yield found


@pytest.fixture
def phone(playwright: Playwright, line: Line, tmp_path: Path) -> Iterator[Phone]:
    made = Phone(playwright, tmp_path / "phone", line.url, pages_site.WORKER)
    yield made.open().register()
    made.close()


def save(page: Page, text: str, photo: bytes = b"") -> str:
    """A report that the app says is safe."""
    found: str = page.evaluate(SAVE, [text, base64.b64encode(photo).decode()])
    return found


def states(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(STATES)
    return found


def all_sent(phone: Phone) -> None:
    """The queue empties by itself."""
    expect(phone.unsent()).to_have_text("0条", timeout=300_000)
    assert set(states(phone.page).values()) == {"sent"}


def at_server(phone: Phone, wanted: set[str]) -> list[int]:
    """The incidents that records became, each record once."""
    receipts = {one["id"]: one for one in phone.ask("/field/records?limit=500")["items"] if one["id"] in wanted}
    assert receipts.keys() == wanted
    assert {one["outcome"] for one in receipts.values()} == {"applied"}
    assert not [one for one in receipts.values() if one["missing_photos"]]
    return [one["made"]["incident"] for one in receipts.values()]


def photos_of(phone: Phone, incident: int) -> int:
    """How many photos the history of an incident shows."""
    return sum(len(entry["attachments"]) for entry in phone.ask(f"/incidents/{incident}")["history"])


def picture(number: int) -> bytes:
    """A photo that no other is like, by a word in it."""
    return pages_site.PHOTO[:-12] + _text_chunk(str(number)) + pages_site.PHOTO[-12:]


def _text_chunk(text: str) -> bytes:
    data = b"n\0" + text.encode()
    return len(data).to_bytes(4) + b"tEXt" + data + zlib.crc32(b"tEXt" + data).to_bytes(4)


def test_what_was_saved_is_there_once_after_cuts_and_kills(phone: Phone, line: Line) -> None:
    chance = random.Random(SEED)
    faults: list[Behaviour] = []

    def fault(seen: Seen) -> Behaviour:
        return faults.pop() if faults and seen.path.startswith(RECORDS) else Forward()

    line.script = fault
    ids: set[str] = set()
    for cycle in range(CYCLES):
        faults[:] = [chance.choice(FAULTS)() for _ in range(chance.randint(0, 3))]
        ids.add(save(phone.page, f"示例{cycle}", picture(cycle) if cycle % 3 == 0 else b""))
        if cycle % KILLED_EACH == 0:
            phone.page.wait_for_timeout(chance.randint(0, 300))  # somewhere in sending
            phone.kill()
            phone.open(online=chance.random() < 0.5)
            expect(phone.seen("field-go-scan")).to_be_visible()
            assert states(phone.page).keys() == ids
            phone.context.set_offline(False)
    all_sent(phone)
    line.script = []
    made = at_server(phone, ids)
    assert len(set(made)) == len(ids)
    assert sum(photos_of(phone, number) for number in made) == len(range(0, CYCLES, 3))


def test_a_bad_line_needs_no_help(phone: Phone, line: Line) -> None:
    chance = random.Random(SEED)
    line.script = lambda seen: (
        chance.choice(FAULTS)() if seen.path.startswith(RECORDS) and chance.random() < 0.2 else Forward()
    )
    phone.context.set_offline(True)
    ids = {save(phone.page, f"示例{one}", picture(1000 + one) if one % 2 == 0 else b"") for one in range(SENT)}
    expect(phone.unsent()).to_have_text(f"{SENT}条")
    phone.context.set_offline(False)
    all_sent(phone)
    line.script = []
    assert len(set(at_server(phone, ids))) == SENT
    first = [seen.path for seen in line.seen if seen.method == "PUT"]
    assert not any("/photos/" in path for path in first[:SENT])  # texts before photos
    expect(phone.unsent()).to_have_text("0条")
    assert states(phone.page).keys() >= ids  # what was sent stays to be seen


def test_it_opens_offline_and_a_new_version_waits_for_the_form(phone: Phone, line: Line) -> None:
    phone.context.set_offline(True)
    phone.page.reload()
    expect(phone.seen("field-go-scan")).to_be_visible()
    before = phone.page.evaluate("document.documentElement.dataset.build")
    phone.context.set_offline(False)
    phone.go("/report")
    phone.page.evaluate("globalThis.untouched = true")
    line.build = "new"
    phone.page.evaluate("navigator.serviceWorker.getRegistration().then((one) => one.update())")
    expect(phone.seen("field-update")).to_be_visible()
    assert phone.page.evaluate("globalThis.untouched")
    phone.page.evaluate("location.hash = '/'")
    expect(phone.page.locator("html")).to_have_attribute("data-build", f"new{before}")
    expect(phone.seen("field-go-scan")).to_be_visible()


def test_a_full_phone_keeps_the_text(phone: Phone) -> None:
    phone.context.set_offline(True)
    phone.page.evaluate(FULL)
    number = save(phone.page, "存储已满", picture(1))
    expect(phone.seen("field-said")).to_be_visible()
    phone.go("/queue")
    expect(phone.seen(f"field-record-{number}")).to_have_attribute("data-state", "waiting")
    lost = phone.page.evaluate(
        "field.list().then((all) => all.map((one) => [one.new.text, one.photos.length, one.photos_lost]))"
    )
    assert lost == [["存储已满", 0, 1]]


def test_a_revoked_phone_says_so_and_keeps_the_record(phone: Phone, site: str) -> None:
    mine = phone.ask("/field/phones")["items"]
    for one in mine:
        phone.context.request.delete(f"{site}/api/v1/field/phones/{one['id']}")
    number = save(phone.page, "手机已注销")
    phone.go("/")
    expect(phone.seen("field-refused")).to_be_visible()
    assert states(phone.page) == {number: "waiting"}
    phone.tap("field-register-again").tap("field-register")
    all_sent(phone)
    expect(phone.seen("field-refused")).to_have_count(0)


def test_the_file_of_what_was_not_sent_counts_once(phone: Phone, playwright: Playwright, tmp_path: Path) -> None:
    phone.context.set_offline(True)
    photo = picture(7)
    number = save(phone.page, "没有信号的河段", photo)
    phone.go("/export")
    with phone.page.expect_download() as download:
        phone.tap("field-export-save")
    file = tmp_path / "export.json"
    download.value.save_as(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    (text,), (image,) = content["records"], content["photos"]
    assert text["new"]["text"] == "没有信号的河段"
    assert base64.b64decode(image["base64"]) == photo
    assert (image["record"], image["sha256"]) == (number, hashlib.sha256(photo).hexdigest())

    office = Phone(playwright, tmp_path / "office", phone.url, pages_site.OFFICE).open().register()
    office.go("/import")
    office.seen("field-import-file").set_input_files(file)
    expect(office.seen("field-import-done")).to_contain_text("2")
    (incident,) = at_server(phone, {number})
    text["new"]["text"] = "改动"
    file.write_text(json.dumps(content), encoding="utf-8")
    office.seen("field-import-file").set_input_files(file)
    expect(office.page.locator(".f-wrong")).to_have_count(1)
    office.close()

    phone.send_all()
    assert at_server(phone, {number}) == [incident]
    assert photos_of(phone, incident) == 1


HANG = """([station, parameter]) => field.save("hang", {
  object: { station, parameter },
  base: "another",
  new: {
    parameter, serial: "EX-9", model: "", unit: "", depth_m: 0.8, since: new Date(Date.now() - 1000).toISOString(),
    place: null, reading: null, station_new: null,
  },
})"""


def test_a_conflict_is_decided_side_by_side_without_a_network(
    playwright: Playwright, site: str, tmp_path: Path
) -> None:
    phone = Phone(playwright, tmp_path / "phone", site, pages_site.ENGINEER).open().register()
    number = phone.page.evaluate(HANG, ["dph-shiwan-1", "ph"])
    phone.go("/queue")
    record = phone.seen(f"field-record-{number}")
    expect(record).to_have_attribute("data-state", "conflict")
    phone.context.set_offline(True)
    phone.tap("field-compare")
    expect(phone.seen("field-conflict")).to_contain_text("EX-9")
    phone.tap("field-keep-mine")
    expect(phone.unsent()).to_have_text("1条")
    phone.send_all()
    expect(record).to_have_attribute("data-state", "sent")
    (receipt,) = phone.ask("/field/records")["items"]
    assert (receipt["outcome"], receipt["decision"]) == ("applied", "mine")
    phone.close()


SCREENS = (
    "/",
    "/tasks",
    "/queue",
    "/export",
    "/import",
    "/settings",
    "/help",
    "/start",
    "/conflict/{id}",
    "/queue/{id}",
)


def test_each_screen_is_fit_for_everybody(phone: Phone) -> None:
    axe = build_assets.axe()
    phone.context.set_offline(True)
    number = save(phone.page, "示例", picture(3))
    phone.page.evaluate(CONFLICT, number)
    found: dict[str, Any] = {}
    for language, scheme in (("zh", "light"), ("en", "dark")):
        phone.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        phone.page.goto(f"{phone.url}/field/?lang={language}")
        expect(phone.seen("field-go-scan")).to_be_visible()
        phone.page.evaluate(axe)
        for screen in SCREENS:
            phone.go(screen.format(id=number))
            for what, look in (("axe", AXE), ("small", SMALL), ("wide", WIDE), ("targets", SMALL_TARGETS)):
                if seen := phone.page.evaluate(look):
                    found[f"{language} {screen} {what}"] = seen
    assert not found, json.dumps(found, ensure_ascii=False, indent=1)


CONFLICT = """async (id) => {
  const open = indexedDB.open("riverchief-field");
  const db = await new Promise((done) => (open.onsuccess = () => done(open.result)));
  const store = db.transaction("records", "readwrite").objectStore("records");
  const asked = store.get(id);
  const record = await new Promise((done) => (asked.onsuccess = () => done(asked.result)));
  const receipt = {
    id, outcome: "conflict", received_at: new Date().toISOString(), mine: record.new,
    theirs: { ...record.new, text: "B" }, message: { zh: "他人也改过", en: "changed by somebody" },
  };
  const put = store.put({ ...record, received: record.version, receipt });
  await new Promise((done) => (put.onsuccess = done));
  db.close();
}"""


@pytest.mark.parametrize("name", ["", pages_site.PUBLIC])
def test_the_bar_of_a_phone_that_is_not_registered_leads_to_what_a_citizen_may_open(
    playwright: Playwright, tmp_path: Path, site: str, name: str
) -> None:
    phone = Phone(playwright, tmp_path / "phone", site, name).open()
    bar = phone.page.locator("#field-foot a")
    expect(bar).to_have_count(4)
    hrefs = [one.get_attribute("href") or "" for one in bar.all()]
    assert hrefs == ["/report", "/public", "#/", "#/settings"]
    phone.page.get_by_test_id("field-nav-camera").click()
    expect(phone.page.locator("form textarea")).to_be_visible()
    phone.close()


def test_the_bar_of_a_registered_phone_leads_to_the_inbox(playwright: Playwright, tmp_path: Path, site: str) -> None:
    phone = Phone(playwright, tmp_path / "phone", site, pages_site.WORKER).open().register()
    expect(phone.page.get_by_test_id("field-nav-inbox")).to_have_attribute("href", "/incidents")
    phone.close()
