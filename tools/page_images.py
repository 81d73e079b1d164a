"""Pictures of the pages for docs/images, taken in Chromium from the site of the tests.

``python -m tools.page_images`` writes all of them; it needs Chromium and the ``dev`` extra.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize

from infra.database import Database
from tests import pages_site
from tests.browser import DESK, PHONE, chromium, seeded

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
    ("wall", "/wall", WALL),
    ("citizen", f"/r/{pages_site.RIVER}", PHONE),
    ("rules", f"/rules/{pages_site.ON_TRIAL}#trial", DESK),
)


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, seeded(Path(folder)) as site, chromium() as browser:
        for name, path, size in PICTURES:
            if name == "rules":  # last: its readings open an incident
                database = Database(f"sqlite:///{Path(folder) / 'river.db'}")
                pages_site.put_on_trial(database)
                database.close()
            page = browser.new_page(viewport=size)
            page.goto(site + path)
            page.wait_for_timeout(2500)
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()
            print(name)


if __name__ == "__main__":
    main()
