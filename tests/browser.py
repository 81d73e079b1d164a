"""For the tests of pages in a browser: the site with a past as a process of its own, and Chromium."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from api.access import AS_COOKIE, packed
from riverchief.brokers.local import free_port
from tests import pages_site, preloaded
from tests.rig import answers

CHROMIUM = shutil.which("chromium-headless-shell") or "/usr/bin/chromium"
"""The browser without windows where the distribution has it: it starts and draws with half the processor time."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)


class Served:
    """What `pages_site.seed` laid down in a folder, served until `kill`; it can be started again on the same port."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder, self.port, self._token = folder, free_port(), token
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = [str(self.folder), str(self.port), *([self._token] if self._token else [])]
        self.process = preloaded.Popen([sys.executable, "-m", "tests.pages_site", *words], cwd=pages_site.ROOT)
        answers(self.url, self.process)

    def kill(self) -> None:
        """As with the power: open pages are not waited for."""
        self.process.kill()
        self.process.wait(timeout=20)


@contextmanager
def served(folder: Path, token: str = "") -> Iterator[str]:
    """The address of what was laid down in a folder, while it is served; without a token the site is open."""
    site = Served(folder, token)
    try:
        yield site.url
    finally:
        site.kill()


@contextmanager
def seeded(folder: Path) -> Iterator[str]:
    """The address of the site with a past."""
    pages_site.seed(folder).close()
    with served(folder) as url:
        yield url


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that waits as long as a busy machine needs."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=15_000)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def new_page(size: ViewportSize = DESK) -> Iterator[Page]:
    """A page in a browser of its own."""
    with chromium() as browser:
        yield browser.new_page(viewport=size)


@contextmanager
def silent_page(size: ViewportSize = DESK) -> Iterator[Page]:
    """A page that may say nothing on its console."""
    said: list[str] = []
    with new_page(size) as page:
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
    assert said == []


def signed_in(context: BrowserContext, name: str, url: str) -> BrowserContext:
    """Play the part of somebody on an open site."""
    context.add_cookies([{"name": AS_COOKIE, "value": packed(name), "url": url}])
    return context
