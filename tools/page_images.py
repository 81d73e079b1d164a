"""Pictures of the pages for docs/images, taken in Chromium from the site of the tests.

``python -m tools.page_images`` writes all of them; it needs Chromium and the ``dev`` extra.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, ViewportSize

from tests import pages_site
from tests.browser import DESK, PHONE, chromium, served
from tests.contract.test_page_review import BAD, DAY, day_before

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WALL = ViewportSize(width=1920, height=1080)
PICTURES: tuple[tuple[str, str, ViewportSize], ...] = (
    ("map", "/", DESK),
    ("inbox", "/incidents?view=open", DESK),
    ("incident", "/incidents/1", DESK),
    ("board", "/board", DESK),
    ("river-file", f"/rivers/{pages_site.RIVER}", DESK),
    ("station", f"/stations/{pages_site.STATION}", DESK),
    ("oncall", "/oncall", DESK),
    ("review", f"/review/{BAD}/{DAY}", DESK),
    ("people", "/people", DESK),
    ("wall", "/wall", WALL),
    ("citizen", f"/r/{pages_site.RIVER}", PHONE),
)
ON_TRIAL = (("rules", f"/rules/{pages_site.ON_TRIAL}#trial", DESK),)
SIGN_IN = (("sign-in", "/login", PHONE),)
"""Of a site that is not open."""


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        database = pages_site.seed(Path(folder))
        day_before(database)
        with served(Path(folder)) as site:
            _take(browser, site, PICTURES)
        pages_site.put_on_trial(database)  # last: its readings open an incident
        database.close()
        for pictures, token in ((ON_TRIAL, ""), (SIGN_IN, "of the pictures")):
            with served(Path(folder), token) as site:
                _take(browser, site, pictures)


def _take(browser: Browser, site: str, pictures: tuple[tuple[str, str, ViewportSize], ...]) -> None:
    for name, path, size in pictures:
        page = browser.new_page(viewport=size)
        page.goto(site + path)
        page.wait_for_timeout(2500)
        taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        taken.quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
        page.close()
        print(name)


if __name__ == "__main__":
    main()
