"""Pictures of the pages for docs/images, taken in Chromium from the site of the tests.

``python -m tools.page_images`` writes all of them; it needs Chromium and the ``dev`` extra.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from riverchief.brokers.local import free_port
from tests import pages_site
from tests.rig import answers

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DESK, PHONE, WALL = (1440, 900), (390, 844), (1920, 1080)
PICTURES: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("map", "/", DESK),
    ("inbox", "/incidents?view=open", DESK),
    ("incident", "/incidents/1", DESK),
    ("board", "/board", DESK),
    ("river-file", f"/rivers/{pages_site.RIVER}", DESK),
    ("station", f"/stations/{pages_site.STATION}", DESK),
    ("oncall", "/oncall", DESK),
    ("wall", "/wall", WALL),
    ("citizen", f"/r/{pages_site.RIVER}", PHONE),
)


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        pages_site.seed(Path(folder)).close()
        port = free_port()
        server = subprocess.Popen([sys.executable, "-m", "tests.pages_site", folder, str(port)], cwd=pages_site.ROOT)
        try:
            answers(f"http://127.0.0.1:{port}", server)
            _take(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(timeout=20)


def _take(site: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, path, (width, height) in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(site + path)
            page.wait_for_timeout(2500)
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()
            print(name)
        browser.close()


if __name__ == "__main__":
    main()
