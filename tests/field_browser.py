"""A phone with the field app in a browser of its own, for tests and the benchmark: registered, used, killed."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Error, Locator, Page, Playwright, expect

from tests import pages_site
from tests.browser import ARGUMENTS, CHROMIUM, PHONE, signed_in

GO = """hash => new Promise((done) => {
  addEventListener("field-drawn", done, { once: true });
  location.hash = hash;
})"""
SMALL_TARGETS = """() => [...document.querySelectorAll("#field-main :is(button, a, input, select), #field-foot *")]
  .filter((one) => one.getClientRects().length && one.matches("button, a, input, select") && !one.matches(".f-heard"))
  .map((one) => [one.closest("label") ?? one, one])
  .filter(([area]) => area.getBoundingClientRect().height < 44)
  .map(([, one]) => one.outerHTML.slice(0, 100))"""


class Phone:
    """A phone of somebody, with its own storage; it counts what the person does."""

    def __init__(self, playwright: Playwright, folder: Path, url: str, person: str) -> None:
        self._playwright, self._folder, self.url, self._person = playwright, folder, url, person
        self.steps = 0
        self.errors: list[str] = []
        self._granted: dict[str, float] | None = None

    def open(self, *more: str, online: bool = True) -> "Phone":
        """Start the browser, with more arguments; online the first time, to register."""
        self.context: BrowserContext = self._playwright.chromium.launch_persistent_context(
            str(self._folder), executable_path=CHROMIUM, args=[*ARGUMENTS, *more], viewport=PHONE, locale="zh-CN"
        )
        signed_in(self.context, self._person, self.url)
        if self._granted:
            self.is_at(self._granted)
        self.context.set_offline(not online)
        self.page: Page = self.context.pages[0] if self.context.pages else self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{self.url}/field/")
        return self

    def register(self) -> "Phone":
        """What is done once, in the office; from then on the app opens by itself."""
        self.page.get_by_test_id("field-register").click()
        expect(self.seen("field-go-scan")).to_be_visible()
        self.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        return self

    def kill(self) -> None:
        """As when the battery falls out."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and self._is_ours(entry):
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)
        with suppress(Error):
            self.context.close()

    def _is_ours(self, entry: Path) -> bool:
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"--user-data-dir={self._folder}".encode() in words

    def close(self) -> None:
        """The end of the test; nothing went wrong unseen."""
        with suppress(Error):
            self.context.close()
        assert self.errors == []

    def is_at(self, place: dict[str, float]) -> None:
        """The receiver is allowed and has a fix."""
        self._granted = place
        self.context.grant_permissions(["geolocation"], origin=self.url)
        self.context.set_geolocation(place)  # type: ignore[arg-type]

    def seen(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def tap(self, name: str) -> "Phone":
        self.steps += 1
        self.seen(name).click()
        return self

    def pick(self, name: str) -> "Phone":
        self.steps += 1
        self.seen(name).check(force=True)
        return self

    def enter(self, name: str, text: str) -> "Phone":
        self.steps += 1
        self.seen(name).fill(text)
        return self

    def photo(self, name: str, data: bytes = pages_site.PHOTO) -> "Phone":
        self.steps += 1
        self.seen(name).set_input_files({"name": "p.png", "mimeType": "image/png", "buffer": data})
        expect(self.page.locator(".fw-photos img")).to_have_count(1)
        return self

    def go(self, hash_: str) -> "Phone":
        """To a screen, as by a link or a code; no step."""
        self.page.evaluate(GO, hash_)
        return self

    def unsent(self) -> Locator:
        """How many records wait, in the bar that is always there."""
        return self.seen("field-waiting").locator("b")

    def until(self, code: str, timeout_s: float = 60) -> None:
        """Until the code gives something true; `wait_for_function` takes a promise for it."""
        until = time.monotonic() + timeout_s
        while not self.page.evaluate(code):
            assert time.monotonic() < until, code
            self.page.wait_for_timeout(100)

    def send_all(self) -> None:
        """The network is back: the queue empties by itself."""
        self.context.set_offline(False)
        expect(self.unsent()).to_have_text("0条", timeout=30_000)

    def ask(self, path: str) -> Any:
        """What the server has."""
        answer = self.context.request.get(f"{self.url}/api/v1{path}")
        assert answer.ok, answer.text()
        return answer.json()
